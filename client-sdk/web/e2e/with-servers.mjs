// The page against two real servers, as `weft-demo --links FILE` starts them: two people in one document, and a newcomer
// who makes an account, shares with the other server and changes the password; and what the server refuses.
// Usage: node e2e/with-servers.mjs LINK1 LINK2 [FOLDER]; screenshots go to FOLDER. OWN_PAGE=1 tests this folder's built
// page in front of the servers' APIs instead of the page that the servers have built in.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { argv, exit } from 'node:process';
import { changeText, check, editor, isInSight, isSaved, launch, noTroubles, openLink, openPage, openTab, paste, saveState, textOf, typeAtEnd, until, wholeText } from './browser.mjs';
import { proxy } from './proxy.mjs';
import { twoEditors } from './two-editors.mjs';

const PASSWORD = 'correct horse battery';

async function register(browser, url, name) {
  const page = await openPage(browser, url);
  await page.getByRole('button', { name: 'Create one' }).click();
  await page.getByLabel('User name').fill(name);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.keyboard.press('Enter');
  await page.getByText('No documents yet').waitFor();
  await page.getByLabel(/Your account/).click();
  const userId = await page.locator('.panel .id').textContent();
  await page.keyboard.press('Escape');
  return { page, userId };
}

async function invite(page, userId, role) {
  await page.getByRole('button', { name: 'Share' }).click();
  await page.getByLabel('Who to invite').fill(userId);
  await page.locator('dialog form select').selectOption(role);
  await page.getByText('is another server').waitFor();
  await page.getByRole('checkbox').check();
  await page.getByRole('button', { name: 'Invite', exact: true }).click();
  await page.getByText(`${userId} has been invited.`).waitFor();
}

async function newcomers(browser, [here, there], folder) {
  const mark = Date.now().toString(36);
  const { page, userId } = await register(browser, here, `carol${mark}`);
  const other = await register(browser, there, `dave${mark}`);
  check(userId.startsWith(`@carol${mark}:`), 'an account is made in the page');
  await page.getByRole('button', { name: 'New document' }).click();
  // Enter in the title goes to the text, which has to be there.
  await editor(page).waitFor();
  await page.getByLabel('Title').fill('Plans');
  await page.keyboard.press('Enter');
  await page.keyboard.type('To be agreed.');
  await isSaved(page);
  const { hash } = new URL(page.url());

  const tab = await openTab(page.context(), `${here}${hash}`);
  await until('the text in a new tab', async () => (await editor(tab).count()) === 1 && (await textOf(tab)) === 'To be agreed.');
  check(true, 'a link in a new tab opens without signing in again');
  await tab.close();
  const stored = () => page.evaluate(() => JSON.parse(localStorage.getItem('weft.session')));
  const { token } = await stored();
  await page.evaluate(() => localStorage.setItem('weft.session', JSON.stringify({ ...JSON.parse(localStorage.getItem('weft.session')), expiresAt: 0 })));
  await page.reload();
  await isSaved(page);
  check((await stored()).token !== token && (await stored()).expiresAt > Date.now(), 'a session whose token has expired is refreshed');

  await other.page.goto(`${there}${hash}`);
  await other.page.reload();
  await other.page.getByRole('heading', { name: 'You don’t have access to this document' }).waitFor();
  await invite(page, other.userId, 'manager');
  await page.getByLabel('Who to invite').fill('nobody-of-this-name');
  await page.getByRole('button', { name: 'Invite', exact: true }).click();
  await page.getByText('There is no user').waitFor();
  check(true, 'an unknown local name is noticed');
  await page.keyboard.press('Escape');
  await other.page.reload();
  await other.page.getByRole('heading', { name: 'You are invited to “Plans”' }).waitFor();
  await other.page.screenshot({ path: join(folder, 'servers-invited.png') });
  await other.page.getByRole('button', { name: 'Accept' }).click();
  await until('the text at the other server', async () => (await editor(other.page).count()) === 1 && (await textOf(other.page)) === 'To be agreed.');
  await typeAtEnd(other.page, ' Agreed.');
  await until('the other’s words', async () => (await textOf(page)) === 'To be agreed. Agreed.');
  await isSaved(other.page);
  check(true, 'an invited person of the other server accepts by the link, and writes');

  // What a manager is offered works, and nothing else is offered.
  await other.page.getByRole('button', { name: 'Share' }).click();
  await other.page.getByText('You can invite people with the Viewer role.').waitFor();
  await other.page.getByLabel('Who to invite').fill('bob');
  await other.page.getByRole('button', { name: 'Invite', exact: true }).click();
  await other.page.getByText(/^@bob:.* has been invited\.$/).waitFor();
  check(true, 'a manager invites with the role that is offered');
  await other.page.getByLabel('Who to invite').fill(`@nobody:${new URL(here).hostname}.invalid`);
  await other.page.getByRole('checkbox').check();
  await other.page.getByRole('button', { name: 'Invite', exact: true }).click();
  await other.page.getByText(/^Couldn’t invite .*invalid isn’t responding/).waitFor();
  await other.page.screenshot({ path: join(folder, 'servers-partner.png') });
  check(true, 'a partner that can’t be reached is named');
  await other.page.keyboard.press('Escape');

  await page.getByLabel(/Your account/).click();
  await page.getByRole('button', { name: 'Account and password' }).click();
  await page.getByLabel('Current password').fill(PASSWORD);
  await page.getByLabel('New password').fill(`${PASSWORD} staple`);
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.getByText('Password changed.').waitFor();
  await page.getByRole('button', { name: 'Close' }).first().click();
  await isSaved(page);
  await page.getByLabel(/Your account/).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('You have signed out.').waitFor();
  await page.getByLabel('User name').fill(userId);
  await page.getByLabel('Password').fill(`${PASSWORD} staple`);
  await page.keyboard.press('Enter');
  await page.getByText('Plans').waitFor();
  check(true, 'the new password is the one that signs in');
  noTroubles(page, other.page);
  await page.context().close();
  await other.page.context().close();
}

/** A document that takes requests: Matrix' knocking, which new documents don't have. */
async function requests(browser, here) {
  const mark = Date.now().toString(36);
  const { page } = await register(browser, here, `erin${mark}`);
  await page.getByRole('button', { name: 'New document' }).click();
  await editor(page).waitFor();
  await isSaved(page);
  const { hash } = new URL(page.url());
  const { page: guest } = await register(browser, here, `frank${mark}`);
  const open = async () => {
    await guest.goto(`${here}${hash}`);
    await guest.reload();
    await guest.getByRole('button', { name: 'Ask for access' }).click();
  };
  await open();
  await guest.getByText('doesn’t accept access requests').waitFor();
  await page.evaluate(async (id) => {
    const { token } = JSON.parse(localStorage.getItem('weft.session'));
    const path = `_matrix/client/v3/rooms/${encodeURIComponent(id)}/state/m.room.join_rules`;
    await fetch(path, { method: 'PUT', headers: { Authorization: `Bearer ${token}` }, body: '{"join_rule":"knock"}' });
  }, decodeURIComponent(hash.slice('#/d/'.length)));
  await open();
  await guest.getByRole('heading', { name: 'You have asked for access' }).waitFor();
  await page.getByRole('button', { name: 'Share' }).click();
  await page.getByText('Asks for access').waitFor();
  await page.getByRole('button', { name: 'Let in as Editor' }).click();
  await page.getByText('has been let in.').waitFor();
  await guest.evaluate(() => dispatchEvent(new Event('focus')));
  await editor(guest).waitFor();
  await typeAtEnd(guest, 'Thanks.');
  await isSaved(guest);
  check(true, 'a request for access is refused, or seen and granted with a role that acts');
  noTroubles(page, guest);
  await page.context().close();
  await guest.context().close();
}

/** What an event can't carry is told and taken out, and what can be divided is no error. */
async function refusals(browser, here, folder) {
  const { page } = await register(browser, here, `grace${Date.now().toString(36)}`);
  await page.getByRole('button', { name: 'New document' }).click();
  await editor(page).waitFor();
  await isSaved(page);
  await typeAtEnd(page, 'A picture, a nest, half a letter: ');
  const deep = Array.from({ length: 40 }).reduce((inner) => [inner], 'x');
  const refused = (text) => page.locator('.banner').filter({ hasText: text });
  await changeText(page, (text, value) => text.format(2, 7, { link: value }), 'A'.repeat(200_000));
  await refused('larger than 45 KB').waitFor();
  await changeText(page, (text, value) => text.format(13, 4, { nest: value }), deep);
  await refused('nested too deeply').waitFor();
  for (const reason of ['larger than 45 KB', 'nested too deeply']) check(await isInSight(refused(reason)), `a refused change is told: ${reason}`);
  await changeText(page, (text, value) => text.insertEmbed(3, { src: value }), 'A'.repeat(200_000));
  await refused('2 changes were not accepted.').waitFor();
  await changeText(page, (text) => text.insert(text.length, '\ud83d'));
  await typeAtEnd(page, ' typed on.');
  await isSaved(page);
  await page.screenshot({ path: join(folder, 'servers-refused.png') });

  const long = 'A line of sixty-four letters, so that there are a hundred thousand\n'.repeat(93_000);
  await editor(page).click();
  await page.keyboard.press('Control+End');
  await paste(page, long);
  await page.keyboard.type('The end.');
  await isSaved(page);
  const wanted = `A picture, a nest, half a letter: \ufffd typed on.${long}The end.`;
  const tab = await openTab(page.context(), page.url());
  await editor(tab).waitFor();
  await isSaved(tab);
  check((await wholeText(tab)) === wanted, 'everything else is saved, and so is a pasted text of 6 MB');
  await page.reload();
  await editor(page).waitFor();
  await isSaved(page);
  check((await wholeText(page)) === wanted && (await page.locator('.banner').count()) === 0, 'after a reload the text is the same, and nothing is refused again');
  noTroubles(page, tab);
  await page.context().close();
}

/**
 * A copy with another user's edits that were never sent. The page can't get into this state by itself, since each tab's
 * copy belongs to one account; a server that was restored from a backup can bring it there.
 */
async function unsentOfAnother(browser, [aliceLink, bobLink], folder) {
  const [alice, bob] = [await openLink(browser, aliceLink), await openLink(browser, bobLink)];
  for (const page of [alice, bob]) {
    await editor(page).waitFor();
    await isSaved(page);
  }
  const mark = Date.now().toString(36);
  await typeAtEnd(bob, `Bob of ${mark}. `);
  await until('Bob’s words', async () => (await wholeText(alice)).includes(`Bob of ${mark}.`));
  const bobsClient = await changeText(bob, (text) => text.doc.clientID);
  await changeText(
    alice,
    (text, client) => {
      const own = text.doc.clientID;
      text.doc.clientID = client;
      text.insert(text.length, 'Never sent. ');
      text.doc.clientID = own;
    },
    bobsClient,
  );
  const banner = alice.getByText(/^This tab has unsaved changes of .*, which only they can save\.$/);
  await banner.waitFor();
  await typeAtEnd(alice, 'Beside it.');
  await until('Partly saved', async () => (await saveState(alice)) === 'waiting');
  check(await isInSight(banner), 'edits of another user in this copy are told, and what is written beside them is said to wait');
  await alice.screenshot({ path: join(folder, 'servers-waiting.png') });
  await alice.getByRole('button', { name: 'Reload' }).click();
  await until('a fresh copy', async () => (await saveState(alice)) === 'saved' && (await editor(alice).count()) === 1 && !(await wholeText(alice)).includes('Never sent.'));
  await typeAtEnd(alice, `Alice of ${mark}.`);
  await isSaved(alice);
  await until('Alice’s words', async () => (await wholeText(bob)).endsWith(`Alice of ${mark}.`));
  check((await wholeText(alice)) === (await wholeText(bob)) && (await banner.count()) === 0, 'a copy that is loaded afresh has none of them, and what is written in it is saved');
  noTroubles(alice, bob);
  await alice.context().close();
  await bob.context().close();
}

async function belowAPath(browser, target, link) {
  const front = await proxy(target, { prefix: '/team/weft', ownPage: Boolean(process.env.OWN_PAGE) });
  const page = await openPage(browser, front.url + new URL(link).hash);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await editor(page).waitFor();
  await isSaved(page);
  check(front.outside.length === 0, `a server behind a path of a proxy is reached there alone ${front.outside.join(', ')}`);
  noTroubles(page);
  await page.context().close();
  await front.close();
}

const [first, second, folder = 'e2e-shots'] = argv.slice(2);
if (!first || !second) {
  console.error('usage: node e2e/with-servers.mjs LINK1 LINK2 [FOLDER]');
  exit(2);
}
await mkdir(folder, { recursive: true });
const targets = [first, second].map((link) => new URL(link).origin);
const fronts = process.env.OWN_PAGE ? await Promise.all(targets.map((target) => proxy(target, { ownPage: true }))) : null;
const pages = fronts ? fronts.map(({ url }) => url) : targets.map((target) => `${target}/`);
const links = [first, second].map((link, i) => pages[i] + new URL(link).hash);
const browser = await launch();
try {
  await twoEditors(browser, links, folder);
  await newcomers(browser, pages, folder);
  await requests(browser, pages[0]);
  await refusals(browser, pages[0], folder);
  await unsentOfAnother(browser, links, folder);
  await belowAPath(browser, targets[0], first);
} catch (error) {
  console.error(`failed: ${error.stack}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  exit();
}

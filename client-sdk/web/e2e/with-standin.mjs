// `npm run e2e [FOLDER]`: every screen of the built page against the stand-in, with the things that go wrong (late
// acknowledgements, lost connections, rights taken away, refused edits), an accessibility check and screenshots.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { argv } from 'node:process';
import { AxeBuilder } from '@axe-core/playwright';
import { carets, editor, isSaved, launch, openPage, saveState, textOf, typeAtEnd, until } from './browser.mjs';
import { Standin } from './standin/server.mjs';
import { twoEditors } from './two-editors.mjs';

const ALICE = '@alice:standin.example';
const BOB = '@bob:elsewhere.example';
const folder = argv[2] ?? 'e2e-shots';

function check(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
  console.log(`ok  ${what}`);
}
const shot = (page, name) => page.screenshot({ path: join(folder, `${name}.png`) });

async function accessible(page, what) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  for (const { id, nodes } of violations) console.log(`    axe: ${id} ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`);
  check(grave.length === 0, `${what}: nothing serious for accessibility`);
}

async function world() {
  const standin = await new Standin().listen();
  standin.addUser(ALICE, 'Alice Weaver');
  standin.addUser(BOB, 'Bob');
  const id = standin.addDocument('Minutes of the weavers’ meeting', 'text', ALICE, { [BOB]: {} });
  return { standin, id, alice: standin.link(ALICE, id), bob: standin.link(BOB, id) };
}

const scenes = {
  async 'two people write'(browser) {
    const { standin, alice, bob } = await world();
    await twoEditors(browser, [alice, bob], folder);
    await standin.close();
  },

  async 'signing in and the list'(browser) {
    const { standin } = await world();
    standin.addDocument('Press release', 'rich_text', BOB, { [ALICE]: { role: 'viewer' } });
    const invite = standin.addDocument('Budget 2027', 'text', BOB, { [ALICE]: { membership: 'invite' } });
    const page = await openPage(browser, `${standin.origin}/`);
    await page.getByLabel('Name').fill('alice');
    await page.getByLabel('Password').fill('wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('The name or the password is wrong.').waitFor();
    await shot(page, 'sign-in');
    await accessible(page, 'sign-in');
    await page.getByLabel('Password').fill('correct horse');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Documents' }).waitFor();
    await page.getByText('Budget 2027').waitFor();
    await shot(page, 'list');
    await accessible(page, 'list');
    await page.emulateMedia({ colorScheme: 'dark' });
    await shot(page, 'list-dark');
    await accessible(page, 'list, dark');
    await page.getByText('Press release').click();
    await page.getByText('can’t be opened in this page yet').waitFor();
    await shot(page, 'later');
    await page.getByRole('link', { name: 'All documents' }).click();
    await page.getByRole('button', { name: 'Accept' }).click();
    await editor(page).waitFor();
    check(standin.documents.get(invite).members.get(ALICE).membership === 'join', 'an invitation is accepted');
    await page.getByRole('link', { name: 'All documents' }).click();
    await page.getByRole('button', { name: 'New document' }).click();
    await page.getByLabel('Title').fill('A new one');
    await page.keyboard.press('Enter');
    await page.keyboard.type('First line.');
    await until('the new title at the server', () => [...standin.documents.values()].some(({ title }) => title === 'A new one'));
    await until('the tab’s title', async () => (await page.title()).startsWith('A new one'));
    await isSaved(page);
    check(true, 'a new document gets a title and text');
    await page.reload();
    await until('the text after a reload', async () => (await textOf(page)) === 'First line.');
    check(true, 'a reload keeps the session and the text');
    await page.getByLabel(/Your account/).click();
    await page.getByText('Dark', { exact: true }).click();
    await shot(page, 'account');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('You have signed out.').waitFor();
    check(page.troubles.length === 0, `no troubles ${page.troubles.join('; ')}`);
    await standin.close();
  },

  async 'saved means acknowledged'(browser) {
    const { standin, alice, bob } = await world();
    const [page, other] = [await openPage(browser, alice), await openPage(browser, bob)];
    for (const each of [page, other]) await editor(each).waitFor();
    await isSaved(page);
    standin.ackDelay = 1_500;
    await typeAtEnd(page, 'x');
    await until('Saving', async () => (await saveState(page)) === 'saving');
    await until('the other’s text', async () => (await textOf(other)) === 'x');
    check((await saveState(page)) === 'saving', 'still “Saving…” while the acknowledgement is out');
    await isSaved(page);
    standin.ackDelay = 15;

    const port = standin.port;
    await page.context().setOffline(true);
    standin.drop();
    await until('offline', async () => (await saveState(page)).startsWith('offline'));
    await page.keyboard.type(' offline words');
    check((await saveState(page)) === 'offline-unsaved', 'unsaved edits are said to be in this tab');
    await page.getByText('No connection.', { exact: true }).waitFor();
    await shot(page, 'offline');
    await accessible(page, 'offline');
    await typeAtEnd(other, '!');
    await page.context().setOffline(false);
    await isSaved(page);
    await until('the merge', async () => (await textOf(page)) === (await textOf(other)) && (await textOf(other)).includes('offline words'));
    check((await textOf(page)).includes('!'), `offline edits merge on return, port ${port}`);
    await page.getByText('Back online.').waitFor({ state: 'attached' });
    await page.keyboard.press('Control+z');
    await until('undo of my own edits alone', async () => (await textOf(page)).includes('!') && !(await textOf(page)).includes('words'));
    check(page.troubles.length === 0, `no troubles ${page.troubles.join('; ')}`);
    await standin.close();
  },

  async 'rights'(browser) {
    const { standin, id, alice, bob } = await world();
    const [page, other] = [await openPage(browser, alice), await openPage(browser, bob)];
    for (const each of [page, other]) await editor(each).waitFor();
    await typeAtEnd(page, 'Only for reading.');
    await until('the text', async () => (await textOf(other)) === 'Only for reading.');
    standin.setRole(id, BOB, 'viewer');
    await other.getByText('You can read this document.').waitFor();
    check((await editor(other).getAttribute('contenteditable')) === 'false', 'a role that is taken away makes the open editor read-only');
    await isSaved(other);
    await shot(other, 'read-only');
    await accessible(other, 'read-only');
    standin.setRole(id, BOB, 'editor');
    await until('editable again', async () => (await editor(other).getAttribute('contenteditable')) === 'true');

    await page.getByRole('button', { name: 'Share' }).click();
    await page.getByLabel('Who to invite').fill('@carol:third.example');
    await page.getByText('is another server').waitFor();
    check(await page.getByRole('button', { name: 'Invite', exact: true }).isDisabled(), 'inviting to a new server asks first');
    await shot(page, 'share');
    await accessible(page, 'share');
    await page.getByRole('checkbox').check();
    await page.getByRole('button', { name: 'Invite', exact: true }).click();
    await page.getByText('@carol:third.example is invited.').waitFor();
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.getByText('@carol:third.example · invited').waitFor();
    await shot(page, 'share-dark');
    await page.getByRole('button', { name: 'Remove Bob' }).click();
    await other.getByText('You no longer have access').waitFor();
    await shot(other, 'removed');
    check(true, 'removal is told at once and the text stays to be copied');

    await page.keyboard.press('Escape');
    standin.refuseEdits = true;
    await typeAtEnd(page, ' refused');
    await page.getByText('Your last changes weren’t accepted.').waitFor();
    await shot(page, 'refused');
    check((await saveState(page)) === 'refused', 'a refused edit is never called saved');
    standin.refuseEdits = false;
    await page.getByRole('button', { name: 'Reload' }).click();
    await until('the server’s text', async () => (await editor(page).count()) === 1 && (await textOf(page)) === 'Only for reading.');
    check([...page.troubles, ...other.troubles].length === 0, `no troubles ${[...page.troubles, ...other.troubles].join('; ')}`);
    await standin.close();
  },

  async 'a session that ends'(browser) {
    const { standin, alice, id } = await world();
    const page = await openPage(browser, alice);
    await editor(page).waitFor();
    standin.tokens.clear();
    standin.drop(4401);
    await page.getByText('You have been signed out').first().waitFor();
    await shot(page, 'signed-out');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByPlaceholder('Password').fill('correct horse');
    await page.keyboard.press('Enter');
    await isSaved(page);
    await until('the dialog to go', async () => (await page.locator('dialog').count()) === 0);
    await typeAtEnd(page, 'still here');
    await isSaved(page);
    check(standin.documents.get(id).doc.getText('body').toString() === 'still here', 'signing in again goes on where one was');
    await standin.close();
  },

  async 'hostile neighbours'(browser) {
    const { standin, id, alice } = await world();
    const page = await openPage(browser, alice);
    await editor(page).waitFor();
    await typeAtEnd(page, 'calm');
    const room = standin.documents.get(id);
    const evil = {
      user: { id: BOB, name: '\u202eboB<img src=x onerror=alert(1)>', color: 'red; background: url(//evil.example)', colorLight: 'url(//evil.example)' },
      cursor: { anchor: { tname: 'body', type: null, item: { client: -1, clock: 'x' }, assoc: 0 }, head: 5 },
    };
    room.awareness.states.set(7, evil);
    room.awareness.states.set(8, { user: 'text', cursor: 'text' });
    room.awareness.states.set(9, { user: { id: BOB, name: 'Bob' }, cursor: { anchor: { tname: 'body', type: null, item: null, assoc: 0 }, head: { tname: 'body', type: null, item: null, assoc: 0 } } });
    for (const client of [7, 8, 9]) room.awareness.meta.set(client, { clock: 1, lastUpdated: Date.now() });
    standin.drop();
    await carets(page).first().waitFor();
    await typeAtEnd(page, ' still');
    await until('the text', async () => room.doc.getText('body').toString() === 'calm still');
    check((await carets(page).count()) === 1 && page.troubles.length === 0, `malformed states of others do no harm ${page.troubles.join('; ')}`);
    room.doc.getText('body').insertEmbed(2, { image: 'x' });
    standin.drop();
    await page.getByText('This text holds things').waitFor();
    check((await page.locator('pre').textContent()) === 'calm still', 'a text with things in it is shown read-only');
    await standin.close();
  },
};

const browser = await launch();
await mkdir(folder, { recursive: true });
try {
  const only = process.env.SCENE;
  for (const [name, play] of Object.entries(scenes)) {
    if (only && !name.includes(only)) continue;
    console.log(`--  ${name}`);
    await play(browser);
  }
} catch (error) {
  console.error(`failed: ${error.stack}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  process.exit();
}

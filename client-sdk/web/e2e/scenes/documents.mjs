// The list, deep links to documents, new documents and their titles.
import { check, editor, isInSight, isSaved, noTroubles, openLink, openPage, openTab, overflowsSideways, textOf, until } from '../browser.mjs';
import { ALICE, BOB, PHONE, accessible, over, shot, signIn, world } from '../world.mjs';

export const documents = {
  async 'signing in and the list'(browser) {
    const { standin } = await world();
    standin.addDocument('Press release', 'rich_text', BOB, { [ALICE]: { role: 'viewer' } });
    standin.addDocument('gnp.\u202egpj\u2066 plan', 'text', BOB, { [ALICE]: {} });
    const invite = standin.addDocument('Budget 2027', 'text', BOB, { [ALICE]: { membership: 'invite' } });
    const page = await openPage(browser, `${standin.origin}/`);
    await page.getByLabel('Password').waitFor();
    await signIn(page, 'alice', 'wrong');
    await page.getByText('Wrong user name or password.').waitFor();
    await shot(page, 'sign-in');
    await accessible(page, 'sign-in');
    await signIn(page);
    await page.getByRole('heading', { name: 'Documents' }).waitFor();
    await page.getByText('Budget 2027').waitFor();
    check(await page.getByText('gnp.gpj plan', { exact: true }).isVisible(), 'titles are shown without direction controls');
    await shot(page, 'list');
    await accessible(page, 'list');
    await page.emulateMedia({ colorScheme: 'dark' });
    await shot(page, 'list-dark');
    await accessible(page, 'list, dark');
    await page.getByText('Press release').click();
    await page.getByText('can’t be opened in this page yet').waitFor();
    check((await page.title()) === 'Press release · Weft', 'a notice has a tab title of its own');
    await shot(page, 'later');
    await page.getByRole('link', { name: 'All documents' }).click();
    await page.getByRole('button', { name: 'Accept' }).click();
    await editor(page).waitFor();
    check(standin.documents.get(invite).members.get(ALICE).membership === 'join', 'an invitation is accepted');
    noTroubles(page);
    await over(standin, page);
  },

  async 'a new document'(browser) {
    const { standin } = await world();
    const page = await openPage(browser, `${standin.origin}/`);
    await signIn(page);
    await page.getByRole('button', { name: 'New document' }).click();
    await until('focus in the title', () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') === 'Title'));
    await page.keyboard.type('A new\u202e one');
    await page.keyboard.press('Enter');
    await page.keyboard.type('First line.');
    await until('the new title at the server', () => [...standin.documents.values()].some(({ title }) => title === 'A new one'));
    await until('the tab’s title', async () => (await page.title()).startsWith('A new one'));
    await isSaved(page);
    check(true, 'a new document begins with its title and goes on with its text, by keyboard alone');
    await page.reload();
    await until('the text after a reload', async () => (await textOf(page)) === 'First line.');
    check(await page.evaluate(() => document.activeElement === document.body), 'a document that isn’t new takes no focus');
    noTroubles(page);
    await over(standin, page);
  },

  async 'a link to a document that one is invited to'(browser) {
    const { standin } = await world();
    const invite = standin.addDocument('Budget 2027', 'text', BOB, { [ALICE]: { membership: 'invite' } });
    const page = await openPage(browser, `${standin.origin}/#/d/${encodeURIComponent(invite)}`);
    await signIn(page);
    await page.getByRole('heading', { name: 'You are invited to “Budget 2027”' }).waitFor();
    await page.getByText(`${BOB} invited you`).waitFor();
    await shot(page, 'invited');
    await accessible(page, 'invited');
    await page.getByRole('button', { name: 'Accept' }).click();
    await editor(page).waitFor();
    check(standin.documents.get(invite).members.get(ALICE).membership === 'join', 'the link of an invited person offers to accept');
    const other = standin.addDocument('Budget 2028', 'text', BOB, { [ALICE]: { membership: 'invite' } });
    await page.goto(`${standin.origin}/#/d/${encodeURIComponent(other)}`);
    await page.getByRole('button', { name: 'Decline' }).click();
    await page.getByText('Invitation declined').waitFor();
    check(!standin.documents.get(other).members.has(ALICE), 'or to decline');
    noTroubles(page);
    await over(standin, page);
  },

  async 'a link to a document that is not open to one'(browser) {
    const { standin } = await world();
    const knock = standin.addDocument('Open house', 'text', BOB);
    standin.documents.get(knock).joinRule = 'knock';
    const secret = standin.addDocument('Secret', 'text', BOB);
    const page = await openPage(browser, `${standin.origin}/#/d/${encodeURIComponent(secret)}`);
    await signIn(page);
    await page.getByText('doesn’t accept access requests').waitFor();
    check(await page.getByText(`invite ${ALICE}`).isVisible(), 'a private document says whom to ask, and under which name');
    check((await page.title()).startsWith('You don’t have access'), 'and says so in the tab’s title');
    await shot(page, 'no-access');
    await accessible(page, 'no access');

    await page.goto(`${standin.origin}/#/d/${encodeURIComponent(knock)}`);
    await page.getByRole('button', { name: 'Ask for access' }).click();
    await page.getByRole('heading', { name: 'You have asked for access' }).waitFor();
    await shot(page, 'asked');
    const bob = await openLink(browser, standin.link(BOB, knock));
    await bob.getByRole('button', { name: 'Share' }).click();
    await bob.getByText('Asks for access').waitFor();
    await shot(bob, 'share-request');
    await bob.getByRole('button', { name: 'Let in as Editor' }).click();
    await bob.getByText('Alice Weaver has been let in.').waitFor();
    await page.evaluate(() => dispatchEvent(new Event('focus')));
    await editor(page).waitFor();
    check(standin.documents.get(knock).members.get(ALICE).role === 'editor', 'a request is seen, granted with a role, and opens the document by itself');

    // A server that can't say whether one may ask.
    standin.hasSummaries = false;
    const third = await openTab(page.context(), `${standin.origin}/#/d/${encodeURIComponent(secret)}`);
    await third.getByRole('button', { name: 'Ask for access' }).click();
    await third.getByText('doesn’t accept access requests').waitFor();
    check(true, 'without a summary asking shows whether it is possible');
    noTroubles(page, bob, third);
    await over(standin, page, bob);
  },

  async 'titles and a server that is away'(browser) {
    const { standin, alice } = await world();
    const page = await openLink(browser, alice);
    await editor(page).waitFor();
    await isSaved(page);
    const title = page.getByLabel('Title');
    standin.failRenames = 503;
    await title.fill('Kept for later');
    await page.keyboard.press('Enter');
    await page.getByText('The new title hasn’t been saved yet.').waitFor();
    check((await title.inputValue()) === 'Kept for later', 'a title that can’t be sent is kept');
    await shot(page, 'title-waiting');
    standin.failRenames = 0;
    await page.evaluate(() => dispatchEvent(new Event('focus')));
    await until('the title at the server', () => [...standin.documents.values()].some((room) => room.title === 'Kept for later'));

    await page.context().setOffline(true);
    standin.drop();
    await page.getByText('You are offline.', { exact: true }).waitFor();
    await title.fill('Written offline');
    await page.keyboard.press('Enter');
    await page.getByText('The new title hasn’t been saved yet.').waitFor();
    await page.context().setOffline(false);
    await until('the title at the server', () => [...standin.documents.values()].some((room) => room.title === 'Written offline'));
    await page.getByText('The new title hasn’t been saved yet.').waitFor({ state: 'detached' });
    check((await title.inputValue()) === 'Written offline', 'a title written offline is sent when the connection is back');

    standin.failRenames = 403;
    await title.fill('Not allowed');
    await page.keyboard.press('Enter');
    await page.getByText('Not renamed to “Not allowed”.').waitFor();
    check((await title.inputValue()) === 'Written offline', 'a refused title says so and keeps its text');
    await shot(page, 'title-refused');
    noTroubles(page);
    await over(standin, page);
  },

  async 'on a phone'(browser) {
    const { standin, id, alice } = await world();
    standin.addDocument('A title so long that it has to be cut off somewhere on a small screen', 'text', BOB, { [ALICE]: { role: 'viewer' } });
    standin.setRole(id, '@somebody.with.a.long.name:department.of.an-organisation.example', 'viewer');
    const page = await openLink(browser, alice, PHONE);
    await editor(page).waitFor();
    check(!(await overflowsSideways(page)), 'nothing overflows sideways in a document');
    await shot(page, 'phone-document');
    const { awareness } = standin.documents.get(id);
    for (let client = 21; client < 27; client += 1) {
      awareness.states.set(client, { user: { id: `@guest${client}:elsewhere.example`, name: `Guest ${client}` } });
      awareness.meta.set(client, { clock: 1, lastUpdated: Date.now() });
    }
    standin.drop();
    await page.getByLabel('and 5 more').waitFor();
    check(!(await overflowsSideways(page)) && (await isInSight(page.getByLabel(/Your account/))), 'nor with many people here');
    await shot(page, 'phone-people');
    await page.getByRole('button', { name: 'Share' }).click();
    await page.getByText('Invited').waitFor();
    const whole = await page.locator('dialog .id').evaluateAll((ids) => ids.every((each) => each.scrollWidth <= each.clientWidth && each.getBoundingClientRect().right <= innerWidth));
    check(whole && (await page.getByText('Invited').isVisible()), 'the share dialog shows whole names, servers and who is only invited');
    await shot(page, 'phone-share');
    await accessible(page, 'share on a phone');
    await page.getByRole('button', { name: 'Close' }).click();
    await page.context().setOffline(true);
    standin.drop();
    await page.getByText('You are offline.', { exact: true }).waitFor();
    check(await isInSight(page.getByRole('button', { name: 'Try now' })), 'a banner’s button is in sight');
    await shot(page, 'phone-offline');
    await page.context().setOffline(false);
    await isSaved(page);
    await page.getByRole('link', { name: 'All documents' }).click();
    await page.getByText('A title so long').waitFor();
    check(!(await overflowsSideways(page)), 'nothing overflows sideways in the list');
    await shot(page, 'phone-list');
    noTroubles(page);
    await over(standin, page);
  },
};

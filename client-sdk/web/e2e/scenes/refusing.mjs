// What the server does not take, and what waits for another person: said once, in plain words, with everything else saved.
import { changeText, check, editor, isInSight, isSaved, noTroubles, openLink, openPage, openTab, paste, saveState, textOf, typeAtEnd, until, wholeText } from '../browser.mjs';
import { BOB, PASSWORD, PHONE, accessible, over, shot, signIn, world } from '../world.mjs';

const refused = (page) => page.getByText('1 change was not accepted.', { exact: true });
const serverText = (standin, id) => standin.documents.get(id).doc.getText('body').toString();

async function opened(browser, options) {
  const made = await world();
  const page = await openLink(browser, made.alice, options);
  await editor(page).waitFor();
  await isSaved(page);
  return { ...made, page };
}

export const refusing = {
  async 'a change that is refused'(browser) {
    const { standin, id, page } = await opened(browser);
    await typeAtEnd(page, `The picture goes here.${'\n'.repeat(60)}The end.`);
    await changeText(page, (text, value) => text.format(4, 7, { link: value }), 'A'.repeat(200_000));
    await refused(page).waitFor();
    check(await isInSight(refused(page)), 'a refused change is told, in sight at the end of a long text');
    check((await page.getByRole('alert').filter({ hasText: 'larger than 45 KB' }).count()) === 1, 'with its reason, and announced');
    await editor(page).click();
    await page.keyboard.press('Control+End');
    await page.keyboard.type(' I type on.');
    await isSaved(page);
    check((await page.locator('[data-save]').textContent()).includes('Partly saved'), 'the save state doesn’t claim more than is so');
    await shot(page, 'refused');
    await accessible(page, 'refused');
    await page.emulateMedia({ colorScheme: 'dark' });
    await shot(page, 'refused-dark');
    await accessible(page, 'refused, dark');
    await page.emulateMedia({ colorScheme: 'light' });
    await page.getByRole('button', { name: 'Close', exact: true }).click();
    check((await refused(page).count()) === 0, 'it can be dismissed');
    standin.drop();
    await page.keyboard.type(' And on.');
    await isSaved(page);
    check((await refused(page).count()) === 0 && !(await page.locator('[data-save]').textContent()).includes('Partly'), 'and isn’t told again after a reconnect');
    const before = await wholeText(page);
    await page.reload();
    await editor(page).waitFor();
    await isSaved(page);
    check((await wholeText(page)) === before && before.endsWith('The end. I type on. And on.') && serverText(standin, id) === before, 'after a reload the text is the same, with all that was typed');
    noTroubles(page);
    await over(standin, page);
  },

  async 'a picture that is refused'(browser) {
    const { standin, id, page } = await opened(browser, PHONE);
    await typeAtEnd(page, 'calm');
    await changeText(page, (text, value) => text.insertEmbed(2, { src: value }), 'A'.repeat(200_000));
    await refused(page).waitFor();
    await editor(page).waitFor();
    check((await page.getByText('content that this page can’t display').count()) === 0, 'once it is gone the document is no longer read-only');
    await typeAtEnd(page, ' still');
    await isSaved(page);
    await shot(page, 'refused-phone');
    check((await textOf(page)) === 'calm still' && serverText(standin, id) === 'calm still', 'and one types on');
    noTroubles(page);
    await over(standin, page);
  },

  async 'a text of 6 MB'(browser) {
    const { standin, id, page } = await opened(browser);
    await editor(page).click();
    const long = 'A line of sixty-four letters, so that there are a hundred thousand\n'.repeat(93_000);
    await paste(page, long);
    await page.keyboard.type('Typed after it.');
    await isSaved(page);
    check(serverText(standin, id) === `${long}Typed after it.`, 'a pasted text of 6 MB is saved, and typing goes on');
    standin.ackDelay = Number.POSITIVE_INFINITY;
    await paste(page, long);
    await paste(page, long);
    await page.getByText('This text is too long to insert at once.', { exact: true }).waitFor();
    await shot(page, 'too-long');
    await accessible(page, 'too long');
    await page.keyboard.type(' Not again.');
    standin.acknowledge();
    await isSaved(page);
    check(serverText(standin, id) === `${long}Typed after it.${long} Not again.`, 'what is too much at once isn’t inserted, and what is typed after that is saved');
    check((await page.getByText('This text is too long').count()) === 1, 'that is said once');
    await page.getByRole('button', { name: 'Close', exact: true }).click();
    noTroubles(page);
    await over(standin, page);
  },

  async 'half a surrogate pair'(browser) {
    const { standin, id, page } = await opened(browser);
    await editor(page).click();
    await paste(page, 'a\ud83d b \ud83d\ude00');
    await isSaved(page);
    check((await textOf(page)) === 'a\ufffd b \ud83d\ude00' && serverText(standin, id) === 'a\ufffd b \ud83d\ude00', 'is replaced when it is pasted, so that the text here is the one that is saved');
    noTroubles(page);
    await over(standin, page);
  },

  async 'a second person in the browser of a first one with unsent edits'(browser) {
    const { standin, id, bob } = await world();
    const page = await openPage(browser, `${standin.origin}/#/d/${encodeURIComponent(id)}`);
    await signIn(page);
    await editor(page).waitFor();
    await typeAtEnd(page, 'common ');
    await isSaved(page);
    standin.refuseSockets = true;
    standin.drop();
    await until('offline', async () => (await saveState(page)).startsWith('offline'));
    await page.keyboard.type('of Alice ');
    check((await saveState(page)) === 'offline-unsaved', 'a first person has edits that were never sent');

    const second = await openTab(page.context(), bob);
    await second.getByRole('button', { name: 'Switch account' }).click();
    await page.getByText('You have been signed out.').waitFor();
    standin.refuseSockets = false;
    await editor(second).waitFor();
    await isSaved(second);
    check((await textOf(second)) === 'common ', 'a second person in the same browser has none of them');
    await typeAtEnd(second, 'of Bob ');
    await isSaved(second);
    check(serverText(standin, id) === 'common of Bob ', 'and is saved, also beside the place where they are');
    check((await textOf(page)) === 'common of Alice ' && (await page.locator('[data-save]').textContent()).includes('Not saved'), 'they stay in the first person’s tab, which says that they aren’t saved');
    await shot(page, 'unsent-first');
    await shot(second, 'unsent-second');

    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByLabel('Password').fill(PASSWORD);
    await page.keyboard.press('Enter');
    await isSaved(page);
    await until('both texts', async () => (await textOf(page)).includes('of Bob') && serverText(standin, id) === (await textOf(page)));
    check(serverText(standin, id).includes('of Alice '), 'and are saved when that person signs in again');
    noTroubles(page, second);
    await over(standin, page);
  },

  async 'edits that wait for another person'(browser) {
    const { standin, id, page } = await opened(browser);
    standin.ackDelay = Number.POSITIVE_INFINITY;
    standin.tell(id, { code: 'foreign_client', users: [BOB], unsaved: true });
    const banner = page.getByText('This tab has unsaved changes of bob, which only they can save.');
    await banner.waitFor();
    await typeAtEnd(page, 'beside them');
    await until('Partly saved', async () => (await saveState(page)) === 'waiting');
    check((await page.getByText('You are offline.').count()) === 0 && (await isInSight(banner)), 'what waits for another person is said to wait, in sight');
    await shot(page, 'waiting');
    await accessible(page, 'waiting');
    standin.acknowledge();
    await isSaved(page);
    await until('the end of the banner', async () => (await banner.count()) === 0);
    check(true, 'and the banner goes when all is saved');
    noTroubles(page);
    await over(standin, page);
  },
};

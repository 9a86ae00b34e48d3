// Writing together, and what goes wrong meanwhile: late acknowledgements, lost connections, servers that hang, hostile
// neighbours.
import { carets, check, editor, isInSight, isSaved, noTroubles, openLink, saveState, textOf, typeAtEnd, until } from '../browser.mjs';
import { twoEditors } from '../two-editors.mjs';
import { BOB, accessible, both, folder, over, shot, world } from '../world.mjs';

const LINES = 80;
const longText = Array.from({ length: LINES }, (_, i) => `Line ${i + 1} of the minutes.`).join('\n');

/** Alice in a document of many lines, at its end. */
async function atTheEnd(browser) {
  const made = await world();
  made.standin.documents.get(made.id).doc.getText('body').insert(0, longText);
  const page = await openLink(browser, made.alice);
  await editor(page).waitFor();
  await isSaved(page);
  await editor(page).click();
  await page.keyboard.press('Control+End');
  await until('the end', () => page.getByText(`Line ${LINES} of`).isVisible());
  return { ...made, page };
}

export const writing = {
  async 'two people write'(browser) {
    const { standin, alice, bob } = await world();
    await twoEditors(browser, [alice, bob], folder);
    await standin.close();
  },

  async 'saved means acknowledged'(browser) {
    const { standin, page, other } = await both(browser);
    for (const each of [page, other]) await editor(each).waitFor();
    await isSaved(page);
    standin.ackDelay = Number.POSITIVE_INFINITY;
    await typeAtEnd(page, 'x');
    await until('Saving', async () => (await saveState(page)) === 'saving');
    await until('the other’s text', async () => (await textOf(other)) === 'x');
    check((await saveState(page)) === 'saving', 'still “Saving…” until the acknowledgement comes');
    standin.acknowledge();
    await isSaved(page);

    await page.context().setOffline(true);
    standin.drop();
    await until('offline', async () => (await saveState(page)).startsWith('offline'));
    await page.keyboard.type(' offline words');
    check((await saveState(page)) === 'offline-unsaved', 'unsaved edits are said to be in this tab');
    await page.getByText('You are offline.', { exact: true }).waitFor();
    await shot(page, 'offline');
    await accessible(page, 'offline');
    await typeAtEnd(other, '!');
    await page.context().setOffline(false);
    await isSaved(page);
    await until('the merge', async () => (await textOf(page)) === (await textOf(other)) && (await textOf(other)).includes('offline words'));
    check((await textOf(page)).includes('!'), 'offline edits merge on return');
    await page.getByText('Back online.').waitFor({ state: 'attached' });
    await page.keyboard.press('Control+z');
    await until('undo of my own edits alone', async () => (await textOf(page)).includes('!') && !(await textOf(page)).includes('words'));
    noTroubles(page, other);
    await over(standin, page, other);
  },

  async 'banners stay in sight'(browser) {
    const { standin, page } = await atTheEnd(browser);
    await page.context().setOffline(true);
    standin.drop();
    await page.getByText('You are offline.', { exact: true }).waitFor();
    check(await isInSight(page.getByRole('button', { name: 'Try now' })), 'at the end of a long text the offline banner is in sight');
    await page.keyboard.type('\nand the last line');
    check(await isInSight(page.getByText('and the last line')), 'and doesn’t cover what is typed');
    await shot(page, 'offline-end');
    await page.context().setOffline(false);
    await isSaved(page);
    standin.refuseEdits = true;
    await page.keyboard.type('!');
    await page.getByText('Your last changes weren’t accepted.').waitFor();
    check(await isInSight(page.getByRole('button', { name: 'Reload' })), 'the way out of a refused edit is in sight');
    standin.refuseEdits = false;
    await page.getByRole('button', { name: 'Reload' }).click();
    await editor(page).waitFor();
    await isSaved(page);
    await page.keyboard.press('End');
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    standin.tokens.clear();
    standin.refreshTokens.clear();
    standin.drop(4401);
    await page.getByText('You have been signed out.').waitFor();
    check(await isInSight(page.getByRole('button', { name: 'Sign in' })), 'so is that of an ended session');
    await shot(page, 'signed-out-end');
    noTroubles(page);
    await over(standin, page);
  },

  async 'finding in the text'(browser) {
    const { standin, id, page } = await atTheEnd(browser);
    await page.keyboard.press('Control+Home');
    check((await page.getByText('Line 77 of').count()) === 0, 'the browser’s own search can’t find what isn’t drawn');
    await page.getByLabel('Title').focus();
    await page.keyboard.press('Control+f');
    await page.getByPlaceholder('Find').waitFor();
    await page.keyboard.type('line 77 ');
    await page.keyboard.press('Enter');
    await until('the match', async () => (await page.locator('.cm-searchMatch-selected').count()) === 1);
    check(await isInSight(page.locator('.cm-searchMatch-selected')), 'Ctrl+F finds it from anywhere in the page and scrolls to it');
    check(await isInSight(page.getByPlaceholder('Find')), 'the search stays in sight');
    await shot(page, 'find');
    await accessible(page, 'find');
    await page.emulateMedia({ colorScheme: 'dark' });
    await shot(page, 'find-dark');
    await accessible(page, 'find, dark');
    await page.keyboard.press('Escape');
    await until('the search to close', async () => (await page.getByPlaceholder('Find').count()) === 0);
    await page.keyboard.type('Row 77 ');
    await isSaved(page);
    check(standin.documents.get(id).doc.getText('body').toString().includes('\nRow 77 of'), 'Escape goes back to the match in the text');

    standin.setRole(id, standin.documents.get(id).owner, 'viewer');
    await page.getByText('You can view this document').waitFor();
    await page.getByRole('button', { name: 'Find in the text' }).click();
    await page.getByPlaceholder('Find').waitFor();
    await page.keyboard.type('line 12 ');
    await page.keyboard.press('Enter');
    await until('the match', async () => (await page.locator('.cm-searchMatch-selected').count()) === 1);
    check((await page.getByPlaceholder('Replace').count()) === 0, 'readers search too, and can’t replace');
    noTroubles(page);
    await over(standin, page);
  },

  async 'a server that hangs while one types'(browser) {
    const { standin, alice, id } = await world();
    const page = await openLink(browser, alice);
    await editor(page).waitFor();
    await isSaved(page);
    standin.freeze();
    await editor(page).click();
    // Goes on typing until the page notices; the stand-in notices nothing.
    for (let i = 0; i < 300 && !(await saveState(page)).startsWith('offline'); i += 1) await page.keyboard.type('x', { delay: 60 });
    check((await saveState(page)) === 'offline-unsaved', 'a server that doesn’t answer is called offline while one types on');
    await page.getByText('You are offline.', { exact: true }).waitFor();
    standin.freeze(false);
    await page.getByRole('button', { name: 'Try now' }).click({ timeout: 2_000 }).catch(() => {});
    await isSaved(page);
    check(standin.documents.get(id).doc.getText('body').toString() === (await textOf(page)), 'and everything is saved when it answers again');
    await over(standin, page);
  },

  async 'hostile neighbours'(browser) {
    const { standin, id, alice } = await world();
    const page = await openLink(browser, alice);
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
    await page.getByText('This document contains content that this page can’t display.').waitFor();
    check((await page.locator('pre').textContent()) === 'calm still', 'a text with other content in it is shown read-only');
    await over(standin, page);
  },
};

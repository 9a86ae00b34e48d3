// Themes, printing, colours of people, the keyboard, slow networks, and a page that is served below a path.
import { check, editor, isSaved, noTroubles, openLink, openPage, textOf, typeAtEnd, until } from '../browser.mjs';
import { proxy } from '../proxy.mjs';
import { POLICY } from '../standin/server.mjs';
import { ALICE, BOB, accessible, both, over, shot, signIn, world } from '../world.mjs';

const backgroundOf = (locator) => locator.evaluate((element) => getComputedStyle(element).backgroundColor);
/** Of `rgb(r, g, b)`, 0 to 255. */
const lightness = (colour) => Math.max(...colour.match(/\d+/g).slice(0, 3).map(Number));
const isFocused = (page, locator) => locator.evaluate((element) => element.contains(document.activeElement));

/** The outlines that were shown since the page was loaded; most are gone again before one could wait for them. */
const outlinesIn = (page) => page.evaluate(() => [...globalThis.outlines]);

export const appearance = {
  async 'themes, printing and colours'(browser) {
    const { standin, page, other } = await both(browser);
    for (const each of [page, other]) await editor(each).waitFor();
    await typeAtEnd(page, 'Printed text.');
    await typeAtEnd(other, ' By two.');
    const mine = await backgroundOf(page.getByLabel(/Your account/).locator('.avatar'));
    const seenByBob = await backgroundOf(other.locator(`[data-person="${ALICE}"]`));
    await page.getByRole('button', { name: 'Share' }).click();
    const inDialog = await backgroundOf(page.locator('dialog li').filter({ hasText: ALICE }).locator('.avatar'));
    check(mine === seenByBob && mine === inDialog, `a person has one colour in the header, the share dialog and at others (${mine})`);
    await page.keyboard.press('Escape');

    await page.getByLabel(/Your account/).click();
    await page.getByText('Dark', { exact: true }).click();
    check(lightness(await backgroundOf(page.locator('article'))) < 80, 'the chosen theme is shown, whatever the system prefers');
    await page.keyboard.press('Escape');
    await accessible(page, 'document, dark');
    await page.emulateMedia({ media: 'print' });
    const ink = await page.locator('.cm-line').first().evaluate((line) => getComputedStyle(line).color);
    check(lightness(ink) < 80 && (await backgroundOf(page.locator('article'))) === 'rgba(0, 0, 0, 0)' && (await backgroundOf(page.locator('html'))) === 'rgba(0, 0, 0, 0)', 'a dark page prints dark on white');
    check((await page.locator('.top').isHidden()) && (await page.locator('.caret').first().isHidden()), 'and nothing but the document');
    await shot(page, 'print');
    noTroubles(page, other);
    await over(standin, page, other);
  },

  async 'the keyboard'(browser) {
    const { standin, alice } = await world();
    const page = await openLink(browser, alice);
    await editor(page).waitFor();
    await isSaved(page);
    await page.keyboard.press('Tab');
    await page.getByText('Skip to the text').waitFor();
    check(await isFocused(page, page.getByText('Skip to the text')), 'the first Tab offers to skip the header');
    await shot(page, 'skip-link');
    await page.keyboard.press('Enter');
    await until('focus in the text', () => isFocused(page, editor(page)));
    await page.keyboard.type('By keyboard.');
    await page.keyboard.press('Control+/');
    await page.getByRole('heading', { name: 'Keyboard shortcuts' }).waitFor();
    await shot(page, 'shortcuts');
    await accessible(page, 'shortcuts');
    await page.keyboard.press('Escape');
    await until('focus back in the text', () => isFocused(page, editor(page)));
    check((await textOf(page)) === 'By keyboard.', 'the list of shortcuts opens by a key and gives the focus back');
    await page.goto(`${standin.origin}/#/`);
    await page.getByRole('heading', { name: 'Documents' }).waitFor();
    await page.getByLabel(/Your account/).click();
    await page.getByRole('button', { name: 'Keyboard shortcuts' }).click();
    check(await page.getByText('Find in the text').isVisible(), 'it is in the account menu too');
    noTroubles(page);
    await over(standin, page);
  },

  async 'a slow network'(browser) {
    const { standin, id } = await world();
    standin.latency = 400;
    const context = await browser.newContext({ viewport: { width: 1180, height: 760 } });
    const page = await context.newPage();
    page.troubles = [];
    await page.addInitScript(() => {
      globalThis.outlines = new Set();
      const look = () => document.querySelectorAll('.loading, .rows[role="status"]').forEach((element) => globalThis.outlines.add(element.getAttribute('aria-label')));
      new MutationObserver(look).observe(document, { childList: true, subtree: true });
    });
    const release = standin.hold(/\.(css|js)$/);
    await page.goto(`${standin.origin}/`, { waitUntil: 'commit' });
    await page.locator('.loading .sheet').waitFor();
    await until('the first paint', () => page.evaluate(() => performance.getEntriesByName('first-contentful-paint').length + performance.getEntriesByName('first-paint').length > 0));
    check((await page.title()) === 'Weft', 'an outline is painted while neither style sheet nor script have come');
    await shot(page, 'slow-first');
    release();
    await signIn(page);
    await page.getByText('Minutes of the').waitFor();
    check((await outlinesIn(page)).includes('Loading your documents'), 'the list is outlined while it loads');
    await shot(page, 'slow-list');
    await page.goto(`${standin.origin}/#/d/${encodeURIComponent(id)}`);
    await page.reload();
    await editor(page).waitFor();
    const seen = await outlinesIn(page);
    check(['Loading', 'Opening…', 'Loading the text'].every((label) => seen.includes(label)), `each step of opening a document shows an outline (${seen})`);
    standin.latency = 0;
    await over(standin, page);
  },

  async 'below a path'(browser) {
    const { standin, id } = await world();
    standin.registration = 'open';
    const front = await proxy(standin.origin, { prefix: '/team/weft', policy: POLICY });
    const page = await openPage(browser, front.url);
    await signIn(page);
    await page.getByText('Minutes of the').click();
    await editor(page).waitFor();
    await typeAtEnd(page, 'Through a proxy.');
    await isSaved(page);
    check(standin.documents.get(id).doc.getText('body').toString() === 'Through a proxy.', 'sign-in, requests and the live socket work below a path');
    await page.reload();
    await until('the text after a reload', async () => (await textOf(page)) === 'Through a proxy.');
    const keys = await page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith('weft.session')));
    check(keys.join() === 'weft.session:/team/weft/', `the session is kept apart from other pages of the host (${keys})`);
    await page.goto(`${front.url}index.html#token=${encodeURIComponent(standin.users.get(BOB).token)}&doc=${encodeURIComponent(id)}`);
    await page.getByRole('heading', { name: `Sign in as ${BOB}?` }).waitFor();
    await page.getByRole('button', { name: 'Switch account' }).click();
    await until('the text', async () => (await editor(page).count()) === 1 && (await textOf(page)) === 'Through a proxy.');
    check(front.outside.length === 0, `nothing is asked for outside the path ${front.outside.join(', ')}`);
    noTroubles(page);
    await page.context().close();
    await front.close();
    await over(standin);
  },
};

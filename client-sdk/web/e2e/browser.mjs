// A Chromium and the few things that the tests do with a page of Weft.
import { chromium } from 'playwright-core';

const LONG = 30_000;

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
}

/** A page in a browser profile of its own. */
export async function openPage(browser, url, options = {}) {
  return openTab(await browser.newContext({ viewport: { width: 1180, height: 760 }, ignoreHTTPSErrors: true, ...options }), url);
}

/** Another tab of the same profile. Requests to other hosts and script errors are kept in `page.troubles`. */
export async function openTab(context, url) {
  const page = await context.newPage();
  page.setDefaultTimeout(LONG);
  page.troubles = [];
  const home = new URL(url).host;
  page.on('request', (request) => {
    const { host, protocol } = new URL(request.url());
    if (protocol.startsWith('http') && host !== home) page.troubles.push(`asked another host: ${host}`);
  });
  page.on('pageerror', (error) => page.troubles.push(`script error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error' && /Content Security Policy/.test(message.text())) page.troubles.push(message.text());
  });
  await page.goto(url);
  return page;
}

/** A page that follows a sign-in link and confirms it. */
export async function openLink(browser, link, options) {
  const page = await openPage(browser, link, options);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  return page;
}

export const editor = (page) => page.locator('.cm-content');
export const carets = (page) => page.locator('.caret');

/** The text as the editor shows it, without other people's carets. Short documents only: it reads what is drawn. */
export function textOf(page) {
  return editor(page).evaluate((content) =>
    [...content.querySelectorAll('.cm-line')]
      .map((line) => {
        const copy = line.cloneNode(true);
        for (const extra of copy.querySelectorAll('.caret, .cm-placeholder')) extra.remove();
        return copy.textContent.replace(/\u2060|\u200b/g, '');
      })
      .join('\n'),
  );
}

/** Waits until `probe` answers truthy. */
export async function until(what, probe, timeout = LONG) {
  const deadline = Date.now() + timeout;
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`waited too long for: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export const saveState = (page) => page.locator('[data-save]').getAttribute('data-save');
export const isSaved = (page) => until('Saved', async () => (await saveState(page)) === 'saved');

export async function typeAtEnd(page, text) {
  await editor(page).click();
  await page.keyboard.press('Control+End');
  await page.keyboard.type(text, { delay: 15 });
}

export function check(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
  console.log(`ok  ${what}`);
}

/** Fails on whatever went wrong in the pages beside what the test looked at. */
export function noTroubles(...pages) {
  const troubles = pages.flatMap((page) => page.troubles);
  check(troubles.length === 0, `no script errors and no requests to other hosts ${troubles.join('; ')}`);
}

export async function overflowsSideways(page) {
  return page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
}

/** Whether the whole element can be seen in the window as it is scrolled now, and nothing lies over its middle. */
export function isInSight(locator) {
  return locator.evaluate((element) => {
    const { top, bottom, left, right } = element.getBoundingClientRect();
    const at = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    return top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth && (element.contains(at) || at?.contains(element));
  });
}

/** Changes the page's own Y.Text, as an extension or another editor in the page could: `change` is called with it. */
export async function changeText(page, change, argument) {
  const text = await editor(page).evaluateHandle(
    (content) => content.cmTile.root.view.state.config.staticValues.flat().find((found) => found?.ytext).ytext,
  );
  return text.evaluate(change, argument);
}

/** Pastes into the focused editor, without the clipboard of the machine. */
export function paste(page, text) {
  return editor(page).evaluate((content, pasted) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData('text/plain', pasted);
    content.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
  }, text);
}

/** The whole text, of which the editor draws a part. */
export const wholeText = (page) => editor(page).evaluate((content) => content.cmTile.root.view.state.doc.toString());

// A Chromium and the few things that the checks do with a page of Weft.
import { chromium } from 'playwright-core';

const LONG = 30_000;

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
}

/** A page in a browser of its own. Requests to other hosts and script errors are kept in `page.troubles`. */
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1180, height: 760 }, ignoreHTTPSErrors: true, ...options });
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

// Two people, two links (as `make demo` prints them), one document: both type, both end with the same text and see each
// other. Usage: node e2e/two-editors.mjs LINK1 LINK2 [FOLDER]; screenshots go to FOLDER, the exit code says how it went.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { argv, exit } from 'node:process';
import { pathToFileURL } from 'node:url';
import { carets, check, editor, isSaved, launch, noTroubles, openLink, overflowsSideways, textOf, typeAtEnd, until } from './browser.mjs';

export async function twoEditors(browser, [firstLink, secondLink], folder) {
  await mkdir(folder, { recursive: true });
  const shot = (page, name) => page.screenshot({ path: join(folder, `${name}.png`) });
  const first = await openLink(browser, firstLink);
  const second = await openLink(browser, secondLink, { colorScheme: 'dark' });
  const both = [first, second];
  for (const page of both) await editor(page).waitFor();
  check(both.every((page) => !page.url().includes('token')), 'the token is gone from the address bar');

  const mark = `run ${Date.now().toString(36)}`;
  await typeAtEnd(first, `Hello from the first window, ${mark}.\n`);
  await until('the first one’s line at the second', async () => (await textOf(second)).includes(`${mark}.`));
  await Promise.all([
    typeAtEnd(first, `The first goes on (${mark} a).\n`),
    typeAtEnd(second, `The second writes at the same time (${mark} b).\n`),
  ]);
  const same = async () => {
    const [a, b] = await Promise.all(both.map(textOf));
    return a === b && a.length > 0 ? a : '';
  };
  const text = await until('the same text in both', same);
  const letters = (wanted) => [...wanted].every((letter) => text.includes(letter));
  check(letters(mark) && text.split('\n').length >= 4, 'both windows hold the same text');
  for (const page of both) await isSaved(page);
  check(true, 'both say Saved');

  for (const page of both) await carets(page).first().waitFor();
  for (const page of both) await page.locator('[data-person]').first().waitFor();
  const names = await Promise.all(both.map((page) => page.locator('.caret-name').first().textContent()));
  check(names.every((name) => name.trim().length > 0), `each sees the other’s caret with a name (${names.join(', ')})`);
  await editor(first).click();
  await first.keyboard.press('Control+Home');
  await second.locator('.caret-named').first().waitFor();
  await second.keyboard.press('Control+End');
  await second.keyboard.press('Shift+ArrowUp');
  await first.locator('.selection').first().waitFor();
  check(true, 'a selection is seen at the other side');
  await shot(first, 'light');
  await shot(second, 'dark');

  const phone = await openLink(browser, firstLink, { viewport: { width: 412, height: 839 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await editor(phone).waitFor();
  await until('the text on the phone', async () => (await textOf(phone)).includes(mark));
  check(!(await overflowsSideways(phone)), 'nothing overflows sideways on a phone');
  await shot(phone, 'phone');

  noTroubles(...both, phone);
  for (const page of [...both, phone]) await page.context().close();
}

if (import.meta.url === pathToFileURL(argv[1] ?? '').href) {
  const [first, second, folder = 'e2e-shots'] = argv.slice(2);
  if (!first || !second) {
    console.error('usage: node e2e/two-editors.mjs LINK1 LINK2 [FOLDER]');
    exit(2);
  }
  const browser = await launch();
  try {
    await twoEditors(browser, [first, second], folder);
  } catch (error) {
    console.error(`failed: ${error.message}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

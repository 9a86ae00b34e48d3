// What the scenes share: the stand-in with its people and a document, screenshots, and the accessibility check.
import { join } from 'node:path';
import { AxeBuilder } from '@axe-core/playwright';
import { check, openLink } from './browser.mjs';
import { Standin } from './standin/server.mjs';

export const ALICE = '@alice:standin.example';
export const BOB = '@bob:elsewhere.example';
export const PASSWORD = 'correct horse';
export const PHONE = { viewport: { width: 375, height: 720 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
export const folder = process.env.SHOTS ?? 'e2e-shots';

export const shot = (page, name) => page.screenshot({ path: join(folder, `${name}.png`) });

export async function accessible(page, what) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  for (const { id, nodes } of violations) console.log(`    axe: ${id} ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`);
  check(grave.length === 0, `${what}: nothing serious for accessibility`);
}

/** A server with Alice, Bob, and a document that both may edit. */
export async function world() {
  const standin = await new Standin().listen();
  standin.addUser(ALICE, 'Alice Weaver', PASSWORD);
  standin.addUser(BOB, 'Bob', PASSWORD);
  const id = standin.addDocument('Minutes of the weavers’ meeting', 'text', ALICE, { [BOB]: {} });
  return { standin, id, alice: standin.link(ALICE, id), bob: standin.link(BOB, id) };
}

/** Alice and Bob, each in a browser of their own, both in the document. */
export async function both(browser) {
  const made = await world();
  const [page, other] = [await openLink(browser, made.alice), await openLink(browser, made.bob)];
  return { ...made, page, other };
}

export async function signIn(page, name = 'alice', password = PASSWORD) {
  await page.getByLabel('User name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
}

/** Ends the server and the pages' browsers. */
export async function over(standin, ...pages) {
  for (const page of pages) await page.context().close();
  await standin.close();
}

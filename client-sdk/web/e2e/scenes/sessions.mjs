// Who is signed in: links that ask, sessions that last and are shared by tabs, accounts and passwords.
import { check, editor, isSaved, noTroubles, openPage, openTab, textOf, typeAtEnd, until } from '../browser.mjs';
import { ALICE, BOB, PASSWORD, accessible, over, shot, signIn, world } from '../world.mjs';

const list = (page) => page.getByRole('heading', { name: 'Documents', exact: true });
const storedUser = (page) => page.evaluate(() => JSON.parse(localStorage.getItem('weft.session') ?? 'null')?.userId ?? null);

export const sessions = {
  async 'a sign-in link asks first'(browser) {
    const { standin, id, alice, bob } = await world();
    const page = await openPage(browser, bob);
    await page.getByRole('heading', { name: `Sign in as ${BOB}?` }).waitFor();
    check(!page.url().includes('token') && (await storedUser(page)) === null, 'a link alone signs nobody in, and its token leaves the address');
    check((await page.title()).startsWith('Sign in as'), 'the tab’s title is that of the question');
    await shot(page, 'link-question');
    await accessible(page, 'link question');
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByLabel('User name').waitFor();

    await signIn(page);
    await list(page).waitFor();
    const second = await openTab(page.context(), bob);
    await second.getByText(`signs you out of ${ALICE}`).waitFor();
    await shot(second, 'link-switch');
    await second.getByRole('button', { name: 'Stay signed in' }).click();
    await editor(second).waitFor();
    check((await storedUser(second)) === ALICE, 'declined, the session stays as it was');
    await second.goto(alice);
    await editor(second).waitFor();
    check((await second.getByRole('heading', { name: 'Sign in as' }).count()) === 0, 'a link for the account that is signed in asks nothing');

    // Pasted into an open tab.
    await second.evaluate((hash) => (location.hash = hash), new URL(bob).hash);
    const before = [...standin.tokens].filter(([, userId]) => userId === ALICE).length;
    await second.getByRole('button', { name: 'Switch account' }).click();
    await editor(second).waitFor();
    check((await storedUser(second)) === BOB, 'confirmed, the account is switched');
    await until('the end of Alice’s session', () => [...standin.tokens].filter(([, userId]) => userId === ALICE).length === before - 1);
    await page.getByLabel('Your account, Bob').waitFor();
    check(true, 'the other tab shows the new account too');

    standin.tokens.delete(standin.users.get(ALICE).token);
    await second.goto('about:blank');
    await second.goto(alice);
    await editor(second).waitFor();
    check((await storedUser(second)) === BOB && second.url().includes(encodeURIComponent(id)), 'an expired link keeps the session and opens its document');
    noTroubles(page, second);
    await over(standin, page);
  },

  async 'an expired link leads to the sign-in, and then to its document'(browser) {
    const { standin, alice } = await world();
    standin.tokens.clear();
    const page = await openPage(browser, alice);
    await page.getByText('no longer valid').waitFor();
    await signIn(page);
    await editor(page).waitFor();
    check(true, 'its document opens after signing in');
    await over(standin, page);
  },

  async 'a session lasts and is the same in all tabs'(browser) {
    const { standin, id, alice } = await world();
    const page = await openPage(browser, `${standin.origin}/`);
    await signIn(page);
    await list(page).waitFor();
    const context = page.context();
    await page.close();
    const first = await openTab(context, `${standin.origin}/`);
    await list(first).waitFor();
    check(standin.requests.filter((request) => request.endsWith('/register')).length === 1, 'a new tab is signed in, also after the last one was closed, and shows no sign-in form meanwhile');
    const second = await openTab(context, `${standin.origin}/${new URL(alice).hash.replace(/#token.*/, `#/d/${encodeURIComponent(id)}`)}`);
    await editor(second).waitFor();
    await isSaved(second);

    const refreshes = () => standin.requests.filter((request) => request.endsWith('/refresh')).length;
    for (const token of standin.expiry.keys()) standin.expiry.set(token, 0);
    standin.drop(4401);
    await first.evaluate(() => dispatchEvent(new Event('focus')));
    await until('the refresh', () => refreshes() > 0);
    await typeAtEnd(second, 'goes on');
    await isSaved(second);
    await list(first).waitFor();
    check(refreshes() === 1, `an expired token is refreshed by one tab (${refreshes()}), and the open document goes on`);

    await first.getByLabel(/Your account/).click();
    await first.getByRole('button', { name: 'Sign out' }).click();
    await first.getByText('You have signed out.').waitFor();
    await second.getByText('You signed out in another tab.').waitFor();
    check((await storedUser(first)) === null, 'signing out ends it in all tabs and clears the storage');
    noTroubles(first, second);
    await over(standin, first);
  },

  async 'signing out in another tab keeps unsaved changes'(browser) {
    const { standin, id } = await world();
    const page = await openPage(browser, `${standin.origin}/`);
    await signIn(page);
    await list(page).waitFor();
    const second = await openTab(page.context(), `${standin.origin}/#/d/${encodeURIComponent(id)}`);
    await editor(second).waitFor();
    await isSaved(second);
    standin.ackDelay = Number.POSITIVE_INFINITY;
    await typeAtEnd(second, 'not saved yet');
    await page.getByLabel(/Your account/).click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await second.getByText('You have been signed out.').waitFor();
    check((await textOf(second)) === 'not saved yet', 'the text stays in its tab');
    standin.ackDelay = 1;
    await second.getByRole('button', { name: 'Sign in' }).click();
    await second.getByLabel('Password').fill(PASSWORD);
    await second.keyboard.press('Enter');
    await isSaved(second);
    check(standin.documents.get(id).doc.getText('body').toString() === 'not saved yet', 'after signing in again it is saved');
    await list(page).waitFor();
    check(true, 'and the other tab is signed in again as well');
    await over(standin, page);
  },

  async 'a session that ends'(browser) {
    const { standin, id } = await world();
    const page = await openPage(browser, `${standin.origin}/#/d/${encodeURIComponent(id)}`);
    await signIn(page);
    await editor(page).waitFor();
    standin.tokens.clear();
    standin.refreshTokens.clear();
    standin.drop(4401);
    await page.getByText('You have been signed out.').waitFor();
    await shot(page, 'signed-out');
    await accessible(page, 'signed out');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByLabel('Password').fill(PASSWORD);
    await page.keyboard.press('Enter');
    await isSaved(page);
    await until('the dialog to close', async () => (await page.locator('dialog').count()) === 0);
    await typeAtEnd(page, 'still here');
    await isSaved(page);
    check(standin.documents.get(id).doc.getText('body').toString() === 'still here', 'signing in again continues where one was');
    await page.context().setOffline(true);
    await page.getByLabel(/Your account/).click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('it hasn’t ended the session').waitFor();
    check((await storedUser(page)) === null, 'signing out offline removes the session here, and says that the server doesn’t know');
    await over(standin, page);
  },

  async 'accounts'(browser) {
    const { standin } = await world();
    const page = await openPage(browser, `${standin.origin}/`);
    await until('the question whether one may register', () => standin.requests.some((request) => request.endsWith('/register')));
    check((await page.getByRole('button', { name: 'Create one' }).count()) === 0, 'no account can be made where registration is closed');

    standin.registration = 'token';
    await page.reload();
    await page.getByRole('button', { name: 'Create one' }).click();
    await page.getByLabel('User name').fill('Carol');
    await page.getByLabel('Password').fill('short');
    await page.getByLabel('Registration token').fill('guessed');
    await page.getByRole('button', { name: 'Create account' }).click();
    await page.getByText('This registration token isn’t valid.').waitFor();
    await shot(page, 'register');
    await accessible(page, 'register');
    await page.getByLabel('Registration token').fill('let-me-in');
    await page.getByRole('button', { name: 'Create account' }).click();
    await page.getByText('A password has at least 8 characters.').waitFor();
    await page.getByLabel('Password').fill('a longer password');
    await page.getByRole('button', { name: 'Create account' }).click();
    await page.getByText('No documents yet').waitFor();
    check(standin.users.has('@carol:standin.example'), 'an account is made with a token, and is signed in');
    await shot(page, 'list-empty');

    await page.getByLabel(/Your account/).click();
    await shot(page, 'account-menu');
    await page.getByRole('button', { name: 'Account and password' }).click();
    await page.getByLabel('Current password').fill('wrong');
    await page.getByLabel('New password').fill('another long one');
    await page.getByRole('button', { name: 'Change password' }).click();
    await page.getByText('The current password is wrong.').waitFor();
    await accessible(page, 'account');
    await page.getByLabel('Current password').fill('a longer password');
    await page.getByRole('button', { name: 'Change password' }).click();
    await page.getByText('Password changed.').waitFor();
    await shot(page, 'account');
    check(standin.users.get('@carol:standin.example').password === 'another long one' && (await page.getByText('The current password is wrong.').count()) === 0, 'the password is changed, and no old error stands beside that');
    noTroubles(page);

    standin.registration = 'open';
    const open = await openPage(browser, `${standin.origin}/`, { colorScheme: 'dark' });
    await open.getByRole('button', { name: 'Create one' }).click();
    check((await open.getByLabel('Registration token').count()) === 0, 'no token is asked for where registration is open');
    await open.getByLabel('User name').fill('carol');
    await open.getByLabel('Password').fill('a longer password');
    await shot(open, 'register-dark');
    await open.keyboard.press('Enter');
    await open.getByText('This user name is taken.').waitFor();
    await open.getByLabel('User name').fill('dave');
    await open.keyboard.press('Enter');
    await open.getByText('No documents yet').waitFor();
    check(true, 'an account is made where registration is open');
    await over(standin, page, open);
  },
};

// Roles: what is offered is what the server allows, what is refused doesn't stay on the screen, and what can't be
// undone asks first.
import { check, editor, isSaved, noTroubles, openLink, saveState, textOf, typeAtEnd, until } from '../browser.mjs';
import { ALICE, BOB, accessible, both, over, shot, world } from '../world.mjs';

const CAROL = '@carol:standin.example';
const invite = (page) => page.getByRole('button', { name: 'Invite', exact: true });
const optionsOf = (select) => select.locator('option').allTextContents();

export const sharing = {
  async 'rights'(browser) {
    const { standin, id, page, other } = await both(browser);
    for (const each of [page, other]) await editor(each).waitFor();
    await typeAtEnd(page, 'Only for reading.');
    await until('the text', async () => (await textOf(other)) === 'Only for reading.');
    standin.setRole(id, BOB, 'viewer');
    await other.getByText('You can view this document but not edit it.').waitFor();
    check((await editor(other).getAttribute('contenteditable')) === 'false', 'a role that is taken away makes the open editor read-only');
    await isSaved(other);
    await shot(other, 'read-only');
    await accessible(other, 'read-only');
    standin.setRole(id, BOB, 'editor');
    await until('editable again', async () => (await editor(other).getAttribute('contenteditable')) === 'true');

    await page.getByRole('button', { name: 'Share' }).click();
    await page.getByLabel('Who to invite').fill('@carol:third.example');
    await page.getByText('is another server').waitFor();
    check(await invite(page).isDisabled(), 'inviting to a new server asks first');
    await shot(page, 'share');
    await accessible(page, 'share');
    await page.getByRole('checkbox').check();
    await invite(page).click();
    await page.getByText('@carol:third.example has been invited.').waitFor();
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.getByText('Invited', { exact: true }).waitFor();
    await shot(page, 'share-dark');
    await page.getByRole('button', { name: 'Remove Bob' }).click();
    await page.getByRole('heading', { name: 'Remove Bob?' }).waitFor();
    await shot(page, 'confirm');
    await accessible(page, 'confirm');
    await page.getByRole('button', { name: 'Cancel' }).click();
    check(standin.documents.get(id).members.has(BOB), 'removing somebody asks first');
    await page.getByRole('button', { name: 'Remove Bob' }).click();
    await page.getByRole('button', { name: 'Remove', exact: true }).last().click();
    await other.getByText('You no longer have access.').waitFor();
    await other.getByText('Not connected').first().waitFor();
    await shot(other, 'removed');
    check(true, 'removal is shown at once and the text stays to be copied');

    await page.keyboard.press('Escape');
    standin.refuseEdits = true;
    await typeAtEnd(page, ' refused');
    await page.getByText('Your last changes weren’t accepted.').waitFor();
    await shot(page, 'refused');
    check((await saveState(page)) === 'refused', 'a refused edit is never called saved');
    standin.refuseEdits = false;
    await page.getByRole('button', { name: 'Reload' }).click();
    await until('the server’s text', async () => (await editor(page).count()) === 1 && (await textOf(page)) === 'Only for reading.');
    noTroubles(page, other);
    await over(standin, page, other);
  },

  async 'roles'(browser) {
    const { standin, id, page, other } = await both(browser);
    standin.addUser(CAROL, 'Carol');
    await page.getByRole('button', { name: 'Share' }).click();
    const role = page.getByLabel('Role of Bob');
    check((await optionsOf(role)).length === 5, 'an owner gives every role');
    standin.refuseRoles = true;
    await role.selectOption('viewer');
    await page.getByText('Couldn’t change the role: Not this role.').waitFor();
    await until('the old role', async () => (await role.inputValue()) === 'editor');
    check(true, 'a role that is refused goes back to what it was');
    standin.refuseRoles = false;
    await role.selectOption('owner');
    await page.getByRole('heading', { name: 'Make Bob an owner?' }).waitFor();
    await page.keyboard.press('Escape');
    await until('the old role', async () => (await role.inputValue()) === 'editor');
    check(standin.documents.get(id).members.get(BOB).role === 'editor', 'making an owner asks first, and Escape means no');
    await role.selectOption('owner');
    await page.getByRole('button', { name: 'Make owner' }).click();
    await page.getByText('Bob is now Owner.').waitFor();
    check(standin.documents.get(id).members.get(BOB).role === 'owner', 'and is done when confirmed');
    check((await page.locator('dialog .failure').textContent()) === '', 'no old error stands beside the new success');

    standin.setRole(id, BOB, 'manager');
    await other.getByRole('button', { name: 'Share' }).click();
    await other.getByLabel('Who to invite').waitFor();
    const offered = await optionsOf(other.locator('dialog form select'));
    check(offered.join() === 'Viewer', `a manager is offered what the server allows (${offered})`);
    check((await other.locator('dialog li select').count()) === 0, 'a manager is offered no change of roles');
    await other.getByLabel('Who to invite').fill(CAROL);
    await invite(other).click();
    await other.getByText(`${CAROL} has been invited.`).waitFor();
    await shot(other, 'share-manager');
    await accessible(other, 'share of a manager');
    noTroubles(page, other);
    await over(standin, page, other);
  },

  async 'invitations that fail'(browser) {
    const { standin, id, alice } = await world();
    const page = await openLink(browser, alice);
    await page.getByRole('button', { name: 'Share' }).click();
    const who = page.getByLabel('Who to invite');
    await who.fill('bob@example.org');
    await invite(page).click();
    await page.getByText('Enter a full address, such as @bob:example.org.').waitFor();
    await who.fill('nobody');
    await invite(page).click();
    await page.getByText('There is no user @nobody:standin.example on this server.').waitFor();
    check((await page.locator('dialog .done').textContent()) === '', 'nothing is called done that was not');
    check(!standin.documents.get(id).members.has('@nobody:standin.example'), 'an unknown local name is not invited');
    await shot(page, 'invite-unknown');

    standin.deadServers.add('dead.example');
    await who.fill('@dan:dead.example');
    await page.getByRole('checkbox').check();
    await invite(page).click();
    await page.getByText('Couldn’t invite @dan:dead.example: dead.example isn’t responding.').waitFor();
    check((await who.inputValue()) === '@dan:dead.example', 'a partner that doesn’t answer is named, and what was typed stays');

    standin.addUser(CAROL, 'Carol');
    await who.fill('carol');
    await invite(page).click();
    await page.getByText(`${CAROL} has been invited.`).waitFor();
    check((await page.locator('dialog .failure').textContent()) === '', 'the old error is gone');
    await who.fill(BOB);
    await invite(page).click();
    await page.getByText(`${BOB} already has access or an invitation.`).waitFor();
    check((await page.locator('dialog .done').textContent()) === '', 'so is the old success');
    check(ALICE in Object.fromEntries(standin.users), 'the world is as it was');
    noTroubles(page);
    await over(standin, page);
  },
};

// What a role may do follows the room's power levels, as at the server: nothing is offered that it would refuse.
import { describe, expect, it } from 'vitest';
import { ago } from './ago';
import { removalText } from './removal';
import { ROLES, type Role, canEdit, canManage, permissionsOf, roleOf } from './roles';

/** As a new document has them: only owners change power levels. */
const LEVELS = {
  users: { '@owner2:x': 100, '@manager:x': 50, '@manager2:x': 50, '@editor:x': 25 },
  users_default: 0,
  state_default: 50,
  invite: 50,
  kick: 50,
  events: { 'm.room.power_levels': 100 },
};
const CREATOR = '@creator:x';
const someone = (userId: string, role: Role) => ({ userId, role });
const creator = someone(CREATOR, 'owner');
const owner2 = someone('@owner2:x', 'owner');
const manager = someone('@manager:x', 'manager');
const manager2 = someone('@manager2:x', 'manager');
const editor = someone('@editor:x', 'editor');
const viewer = someone('@viewer:x', 'viewer');

describe('roles', () => {
  it('from editor up edit, from manager up manage, and are read from any power', () => {
    expect(ROLES.filter(canEdit)).toEqual(['editor', 'manager', 'owner']);
    expect(ROLES.filter(canManage)).toEqual(['manager', 'owner']);
    expect([-5, 0, 9, 10, 24, 25, 99, 100, Infinity].map(roleOf)).toEqual(['viewer', 'viewer', 'viewer', 'commenter', 'commenter', 'editor', 'manager', 'owner', 'owner']);
  });

  it('a manager invites with the role that newcomers have, gives none, and removes those below', () => {
    const may = permissionsOf(LEVELS, manager, CREATOR);
    expect(may.toInvite).toEqual(['viewer']);
    for (const member of [viewer, editor, manager2, creator]) expect(may.toGive(member)).toEqual([]);
    expect([viewer, editor, manager2, owner2, creator].map((member) => may.mayRemove(member))).toEqual([true, true, false, false, false]);
  });

  it('an owner gives every role to those below, and not to another owner', () => {
    const may = permissionsOf(LEVELS, owner2, CREATOR);
    expect(may.toInvite).toEqual([...ROLES]);
    expect([editor, manager, creator, owner2].map((member) => may.toGive(member).length)).toEqual([5, 5, 0, 0]);
  });

  it('the creator is above all levels where the room has them so, and an owner like others where not', () => {
    expect(permissionsOf(LEVELS, creator, CREATOR).toGive(owner2)).toEqual([...ROLES]);
    const old = { ...LEVELS, users: { ...LEVELS.users, [CREATOR]: 100 } };
    expect(permissionsOf(old, creator, CREATOR).toGive(owner2)).toEqual([]);
    // A creator of an old room who stepped down.
    expect(permissionsOf({ ...old, users: { [CREATOR]: 0 } }, someone(CREATOR, 'viewer'), CREATOR).toInvite).toEqual([]);
  });

  it('a room that lets managers give roles has them offered, up to their own', () => {
    const open = { ...LEVELS, events: { 'm.room.power_levels': 50 }, users_default: 25 };
    const may = permissionsOf(open, manager, CREATOR);
    expect(may.toInvite).toEqual(['viewer', 'commenter', 'editor', 'manager']);
    expect(may.toGive(editor)).toEqual(['viewer', 'commenter', 'editor', 'manager']);
    expect(permissionsOf({ ...LEVELS, users_default: 25 }, manager, CREATOR).toInvite).toEqual(['editor']);
    expect(permissionsOf({ ...LEVELS, invite: 0 }, viewer, CREATOR).toInvite).toEqual(['viewer']);
    expect(permissionsOf({ ...LEVELS, invite: '0' }, viewer, CREATOR).toInvite).toEqual(['viewer']);
  });

  it('below manager nothing is offered, and without power levels only what every document allows', () => {
    const may = permissionsOf(LEVELS, editor, CREATOR);
    expect([may.toInvite, may.toGive(viewer), may.mayRemove(viewer)]).toEqual([[], [], false]);
    expect(permissionsOf(null, manager, CREATOR).toInvite).toEqual(['viewer']);
    expect(permissionsOf(null, editor, CREATOR).toInvite).toEqual([]);
    expect(permissionsOf(null, creator, CREATOR).toGive(editor)).toEqual([...ROLES]);
  });
});

it('removing a member, an invitation and a request are told apart, and a foreign copy is mentioned', () => {
  const member = { ...editor, displayName: null };
  const texts = (['join', 'invite', 'knock'] as const).map((membership) => removalText({ ...member, membership }, 'Ed', 'far.example'));
  expect(texts.map(({ action }) => action)).toEqual(['Remove', 'Take back', 'Decline']);
  expect(texts[0]?.text).toContain('far.example keeps the copy');
  expect(removalText({ ...member, membership: 'join' }, 'Ed', '').text).not.toContain('copy');
});

it('times are relative, and a clock that is ahead means now', () => {
  const now = 1_000_000_000_000;
  expect(ago(now + 5_000, now)).toBe('just now');
  expect(ago(now - 5 * 60_000, now)).toBe('5 minutes ago');
  expect(ago(now - 26 * 3_600_000, now)).toBe('yesterday');
});

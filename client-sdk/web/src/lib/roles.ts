// The roles of a document, and which of them somebody may give: the room's power levels decide, as they do at the
// server (spec/docs/events.md, "Roles"), so that the page offers nothing that the server would refuse.

export const ROLES = ['viewer', 'commenter', 'editor', 'manager', 'owner'] as const;
export type Role = (typeof ROLES)[number];

export const ROLE_POWER: Record<Role, number> = { viewer: 0, commenter: 10, editor: 25, manager: 50, owner: 100 };

export const ROLE_LABELS: Record<Role, string> = {
  viewer: 'Viewer',
  commenter: 'Commenter',
  editor: 'Editor',
  manager: 'Manager',
  owner: 'Owner',
};

export const canEdit = (role: Role): boolean => ROLE_POWER[role] >= ROLE_POWER.editor;
/** Renames and removes people; whether they may invite is up to the room. */
export const canManage = (role: Role): boolean => ROLE_POWER[role] >= ROLE_POWER.manager;

/** The highest role whose power is reached. */
export function roleOf(power: number): Role {
  return [...ROLES].reverse().find((role) => power >= ROLE_POWER[role]) ?? 'viewer';
}

interface Someone {
  readonly userId: string;
  readonly role: Role;
}

export interface Permissions {
  /** The roles that a new member can be invited with; empty when inviting isn't allowed. */
  readonly toInvite: readonly Role[];
  /** The roles that this member can be given; empty when their role can't be changed. */
  toGive(member: Someone): readonly Role[];
  mayRemove(member: Someone): boolean;
}

/** `levels` is the content of `m.room.power_levels`, null when unknown; `creatorId` created the room. */
export function permissionsOf(levels: Record<string, unknown> | null, me: Someone, creatorId: string): Permissions {
  const users = objectIn(levels, 'users');
  const usersDefault = numberIn(levels, 'users_default', 0);
  // Creators are above all levels from room version 12 on, where they aren't among the users.
  const powerOf = ({ userId, role }: Someone): number => {
    const listed = users[userId];
    if (typeof listed === 'number') return listed;
    if (userId === creatorId && role === 'owner') return Number.POSITIVE_INFINITY;
    return Math.max(usersDefault, ROLE_POWER[role]);
  };
  const mine = powerOf(me);
  const toSetLevels = numberIn(objectIn(levels, 'events'), 'm.room.power_levels', levels ? numberIn(levels, 'state_default', 50) : 100);
  const givesRoles = mine >= toSetLevels;
  const upToMine = ROLES.filter((role) => ROLE_POWER[role] <= mine);
  const invites = mine >= numberIn(levels, 'invite', levels ? 0 : ROLE_POWER.manager);
  return {
    toInvite: !invites ? [] : givesRoles ? upToMine : [roleOf(usersDefault)],
    toGive: (member) => (givesRoles && mine > powerOf(member) ? upToMine : []),
    mayRemove: (member) => mine >= Math.max(ROLE_POWER.manager, numberIn(levels, 'kick', 50)) && mine > powerOf(member),
  };
}

function objectIn(value: Record<string, unknown> | null, key: string): Record<string, unknown> {
  const found = value?.[key];
  return typeof found === 'object' && found !== null ? (found as Record<string, unknown>) : {};
}

/** Levels of old rooms may be numbers written as strings. */
function numberIn(value: Record<string, unknown> | null, key: string, otherwise: number): number {
  const found = value?.[key];
  const number = typeof found === 'string' && found.trim() ? Number(found) : found;
  return typeof number === 'number' && Number.isFinite(number) ? number : otherwise;
}

// The roles of a document in the order of what they may do (the protocol's power levels 0, 10, 25, 50, 100), and their words.

export const ROLES = ['viewer', 'commenter', 'editor', 'manager', 'owner'] as const;
export type Role = (typeof ROLES)[number];

export const ROLE_WORDS: Record<Role, { readonly label: string; readonly can: string }> = {
  viewer: { label: 'Viewer', can: 'can read' },
  commenter: { label: 'Commenter', can: 'can comment' },
  editor: { label: 'Editor', can: 'can edit' },
  manager: { label: 'Manager', can: 'can edit and invite' },
  owner: { label: 'Owner', can: 'can do everything' },
};

function atLeast(role: Role, least: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(least);
}

export const canEdit = (role: Role): boolean => atLeast(role, 'editor');
/** Invites, removes people, gives roles, renames. */
export const canManage = (role: Role): boolean => atLeast(role, 'manager');

/** The roles that somebody with `own` may give: none above their own. */
export function rolesToGive(own: Role): Role[] {
  return canManage(own) ? ROLES.filter((role) => atLeast(own, role)) : [];
}

/** Whether somebody with `own` may change or remove somebody with `theirs`; equals are left alone, as Matrix does. */
export function mayChange(own: Role, theirs: Role): boolean {
  return canManage(own) && ROLES.indexOf(theirs) < ROLES.indexOf(own);
}

// What a role may do follows the order of the roles and nothing else.
import { expect, it } from 'vitest';
import { ago } from './ago';
import { ROLES, canEdit, canManage, mayChange, rolesToGive } from './roles';

it('roles from editor up edit, from manager up manage', () => {
  expect(ROLES.filter(canEdit)).toEqual(['editor', 'manager', 'owner']);
  expect(ROLES.filter(canManage)).toEqual(['manager', 'owner']);
});

it('nobody gives a role above their own or changes an equal', () => {
  expect(rolesToGive('manager')).toEqual(['viewer', 'commenter', 'editor', 'manager']);
  expect(rolesToGive('editor')).toEqual([]);
  expect(mayChange('manager', 'editor')).toBe(true);
  expect(mayChange('manager', 'manager')).toBe(false);
  expect(mayChange('editor', 'viewer')).toBe(false);
});

it('times are said in words, and a clock that is ahead means now', () => {
  const now = 1_000_000_000_000;
  expect(ago(now + 5_000, now)).toBe('just now');
  expect(ago(now - 5 * 60_000, now)).toBe('5 minutes ago');
  expect(ago(now - 26 * 3_600_000, now)).toBe('yesterday');
});

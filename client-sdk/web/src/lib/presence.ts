// Present people: reads awareness states, whose content is arbitrary, into a few validated fields.
// The server overwrites `user.id` and `user.name`, so those can be relied on. Colours are derived from the user id and
// never taken from the wire: a stranger's value would end up in a style.
import { localpart } from './session';

export const COLOURS = 8;
/** Hex values of app.css' palette (light), for other Yjs editors, which expect a colour in the awareness state. */
export const COLOUR_VALUES = ['#b3392f', '#9c4a00', '#7a5c00', '#2f7031', '#00706b', '#1f66a8', '#5b4cc4', '#a6317f'] as const;

const MAX_NAME = 60;

export interface Person {
  readonly userId: string;
  readonly name: string;
  readonly initials: string;
  /** Index into the palette, 0 to 7: always `colourOf(userId)`. */
  readonly colour: number;
  readonly isMe: boolean;
  /** Their open editors (Yjs client ids), lowest first. */
  readonly clients: readonly number[];
}

interface Me {
  readonly userId: string;
  readonly name: string;
  readonly client: number;
}

/** One person per user id, me first, then by name. */
export function readPeople(states: ReadonlyMap<number, unknown>, me: Me): Person[] {
  const found = new Map<string, { name: string; clients: number[] }>();
  found.set(me.userId, { name: tidyName(me.name) || localpart(me.userId), clients: [me.client] });
  for (const [client, state] of states) {
    if (client === me.client) continue;
    const user = field(state, 'user');
    const id = field(user, 'id');
    const userId = typeof id === 'string' && id.length > 0 && id.length <= 255 ? id : `#${client}`;
    const entry = found.get(userId);
    if (entry) entry.clients.push(client);
    else found.set(userId, { name: nameOf(user, userId), clients: [client] });
  }
  return [...found]
    .map(([userId, { name, clients }]) => ({
      userId,
      name,
      initials: initialsOf(name),
      colour: colourOf(userId),
      isMe: userId === me.userId,
      clients: clients.sort((a, b) => a - b),
    }))
    .sort((a, b) => Number(b.isMe) - Number(a.isMe) || a.name.localeCompare(b.name) || (a.userId < b.userId ? -1 : 1));
}

function nameOf(user: unknown, userId: string): string {
  const name = field(user, 'name');
  const tidy = typeof name === 'string' ? tidyName(name) : '';
  if (tidy) return tidy;
  return userId.startsWith('@') ? localpart(userId) : 'Someone';
}

/** Without control and direction characters, which could make a name look like another person's. */
export function tidyName(name: string): string {
  const clean = name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '').replace(/\s+/g, ' ').trim();
  return [...clean].slice(0, MAX_NAME).join('');
}

export function initialsOf(name: string): string {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const first = [...(words[0] ?? '?')][0] ?? '?';
  const last = words.length > 1 ? ([...(words.at(-1) ?? '')][0] ?? '') : '';
  return (first + last).toUpperCase();
}

/**
 * The person's colour, the same on every screen and in every window. FNV-1a over UTF-16 units: any even spread does.
 */
export function colourOf(userId: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < userId.length; i += 1) {
    hash = Math.imul(hash ^ userId.charCodeAt(i), 0x01000193) >>> 0;
  }
  return hash % COLOURS;
}

export interface Arrivals {
  readonly joined: readonly Person[];
  readonly left: readonly Person[];
}

/** The people, except me, who arrived or left between two states. */
export function compare(before: readonly Person[], after: readonly Person[]): Arrivals {
  const ids = (people: readonly Person[]) => new Set(people.map((person) => person.userId));
  const [was, is] = [ids(before), ids(after)];
  return {
    joined: after.filter((person) => !person.isMe && !was.has(person.userId)),
    left: before.filter((person) => !person.isMe && !is.has(person.userId)),
  };
}

export function arrivalText({ joined, left }: Arrivals): string {
  const names = (people: readonly Person[]) => people.map((person) => person.name).join(', ');
  const parts: string[] = [];
  if (joined.length > 0) parts.push(`${names(joined)} joined.`);
  if (left.length > 0) parts.push(`${names(left)} left.`);
  return parts.join(' ');
}

export interface CursorPosition {
  readonly tname: string;
  readonly type: null;
  readonly item: { readonly client: number; readonly clock: number } | null;
  readonly assoc: number;
}

/** A cursor of an awareness state, or null unless both ends are well-formed positions in the root `root`. */
export function readCursor(state: unknown, root: string): { anchor: CursorPosition; head: CursorPosition } | null {
  const cursor = field(state, 'cursor');
  const anchor = readPosition(field(cursor, 'anchor'), root);
  const head = readPosition(field(cursor, 'head'), root);
  return anchor && head ? { anchor, head } : null;
}

// For another root's name Yjs would create that root; for an unknown type id it would throw.
function readPosition(value: unknown, root: string): CursorPosition | null {
  if (field(value, 'tname') !== root || (field(value, 'type') ?? null) !== null) return null;
  const item = field(value, 'item') ?? null;
  const assoc = field(value, 'assoc') ?? 0;
  if (typeof assoc !== 'number') return null;
  if (item === null) return { tname: root, type: null, item: null, assoc };
  const [client, clock] = [field(item, 'client'), field(item, 'clock')];
  if (!isCount(client) || !isCount(clock)) return null;
  return { tname: root, type: null, item: { client, clock }, assoc };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function field(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}

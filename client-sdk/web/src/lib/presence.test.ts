// Awareness states can hold anything; people and cursors read from them are well-formed or absent.
import { describe, expect, it } from 'vitest';
import { COLOURS, arrivalText, colourOf, compare, initialsOf, readCursor, readPeople, tidyName } from './presence';

const ME = { userId: '@me:here', name: 'Me', client: 1 };
const bob = (extra: object = {}) => ({ user: { id: '@bob:there', name: 'Bob', ...extra } });
const position = (client: unknown, clock: unknown) => ({ type: null, tname: 'body', item: { client, clock }, assoc: 0 });

describe('people', () => {
  it('are one each, however many windows they have open', () => {
    const people = readPeople(new Map<number, unknown>([[1, {}], [9, bob()], [4, bob()], [2, { user: { id: '@me:here', name: 'Me' } }]]), ME);
    expect(people.map(({ userId, clients, isMe }) => ({ userId, clients, isMe }))).toEqual([
      { userId: '@me:here', clients: [1, 2], isMe: true },
      { userId: '@bob:there', clients: [4, 9], isMe: false },
    ]);
  });

  it('survive any state', () => {
    const states = [null, 1, 'x', [], {}, { user: null }, { user: 'x' }, { user: { id: 5, name: {} } }, { user: { id: '', name: '' } }];
    const people = readPeople(new Map(states.map((state, i) => [i + 10, state])), ME);
    expect(people).toHaveLength(states.length + 1);
    for (const { name, initials, colour } of people) {
      expect(name.length).toBeGreaterThan(0);
      expect(initials.length).toBeGreaterThan(0);
      expect(colour).toBeLessThan(COLOURS);
    }
  });

  it('have names without characters that turn or hide text, and not too long', () => {
    expect(tidyName('\u202eboB\u0000\u200b\n x ')).toBe('boB x');
    expect([...tidyName('😀'.repeat(100))]).toHaveLength(60);
    expect([initialsOf('Ada Lovelace'), initialsOf('bob'), initialsOf('😀 x'), initialsOf('')]).toEqual(['AL', 'B', '😀X', '?']);
  });

  it('have one colour each, whatever other people are present', () => {
    const ids = Array.from({ length: 40 }, (_, i) => `@user${i}:x`);
    const states = (some: string[]) => new Map<number, unknown>(some.map((id, i) => [i + 10, { user: { id, name: id } }]));
    for (const some of [ids, [...ids].reverse(), ids.slice(7, 9)]) {
      for (const { userId, colour } of readPeople(states(some), ME)) expect(colour).toBe(colourOf(userId));
    }
    expect(new Set(ids.map(colourOf)).size).toBe(COLOURS);
  });

  it('are announced when they come and go, me excepted', () => {
    const alone = readPeople(new Map(), ME);
    const together = readPeople(new Map([[4, bob()]]), ME);
    expect(arrivalText(compare(alone, together))).toBe('Bob joined.');
    expect(arrivalText(compare(together, alone))).toBe('Bob left.');
    expect(arrivalText(compare([], alone))).toBe('');
  });
});

describe('cursors', () => {
  it('are read as other editors write them', () => {
    const cursor = { anchor: position(7, 0), head: { tname: 'body', item: null, type: null, assoc: -1 } };
    expect(readCursor({ cursor }, 'body')?.anchor.item).toEqual({ client: 7, clock: 0 });
  });

  it.each([
    [position(-1, 0)],
    [position(1.5, 0)],
    [position('1', 0)],
    [position(2 ** 53, 0)],
    [{ ...position(1, 1), tname: 'another root' }],
    [{ ...position(1, 1), type: { client: 1, clock: 1 } }],
    [{ ...position(1, 1), assoc: 'x' }],
    [{ ...position(1, 1), item: 'x' }],
    [null],
    [5],
  ])('are not %j', (bad) => {
    expect(readCursor({ cursor: { anchor: bad, head: position(1, 1) } }, 'body')).toBeNull();
    expect(readCursor({ cursor: { anchor: position(1, 1), head: bad } }, 'body')).toBeNull();
  });
});

// Links and addresses come from outside: what isn't well-formed is ignored.
import { describe, expect, it } from 'vitest';
import { readRoute, routeTo } from './route';
import { isUserId, localpart, readSignInLink, serverOf } from './session';
import { cleanTitle, shownTitle } from './titles';

const ROOM = '!aB-c_/d+e:example.org:8448';

describe('sign-in links', () => {
  it('hold a token and a document', () => {
    const fragment = `#token=${encodeURIComponent('a+b/c=')}&doc=${encodeURIComponent(ROOM)}`;
    expect(readSignInLink(fragment)).toEqual({ token: 'a+b/c=', documentId: ROOM });
  });

  it('keep a raw plus sign, which forms would turn into a space', () => {
    expect(readSignInLink('#token=a+b')?.token).toBe('a+b');
  });

  it('work without a document and in any order', () => {
    expect(readSignInLink('#token=t')).toEqual({ token: 't', documentId: null });
    expect(readSignInLink('#doc=%21x&token=t')).toEqual({ token: 't', documentId: '!x' });
  });

  it.each(['', '#', '#/', '#/d/%21x', '#doc=%21x', '#token=', '#token=%E0%A4%A', `#token=${'x'.repeat(5000)}`])('are not %j', (fragment) => {
    expect(readSignInLink(fragment)).toBeNull();
  });
});

describe('routes', () => {
  it('lead to any room id and back', () => {
    for (const id of [ROOM, '!h4sh-of_v12', '#alias:example.org', '!ü % x']) {
      expect(readRoute(routeTo(id))).toEqual({ name: 'document', id });
    }
  });

  it.each(['', '#/', '#/d/', '#/d/%', '#/elsewhere'])('%j leads to the list', (fragment) => {
    expect(readRoute(fragment)).toEqual({ name: 'documents' });
  });
});

describe('user ids', () => {
  it('have a local part and a server with its port', () => {
    expect([localpart('@a.b:c:1'), serverOf('@a.b:c:1')]).toEqual(['a.b', 'c:1']);
    expect([localpart('nobody'), serverOf('nobody')]).toEqual(['nobody', '']);
  });

  it('are told from what only looks like one', () => {
    for (const good of ['@a:b', '@a:127.0.0.1:8448', '@a:[::1]:80']) expect(isUserId(good)).toBe(true);
    for (const bad of ['a:b', '@a', '@:b', '@a:', '@a b:c', '@a:b/c', `@${'x'.repeat(255)}:b`]) expect(isUserId(bad)).toBe(false);
  });
});

describe('titles', () => {
  it('have no characters that turn the text around them, and one line', () => {
    for (let code = 0x202a; code <= 0x202e; code += 1) expect(shownTitle(`a${String.fromCharCode(code)}b`)).toBe('ab');
    for (let code = 0x2066; code <= 0x2069; code += 1) expect(shownTitle(`a${String.fromCharCode(code)}b`)).toBe('ab');
    expect(cleanTitle(' a\u0000\n\u2028b\t c ')).toBe('a b c');
    expect([shownTitle('\u202e'), shownTitle('  '), cleanTitle('\u202e')]).toEqual(['Untitled', 'Untitled', '']);
  });

  it('keep what scripts and emoji need', () => {
    for (const title of ['تقرير\u200f 2027', 'नमस्\u200dते', '👩\u200d💻 notes']) expect(shownTitle(title)).toBe(title);
  });
});

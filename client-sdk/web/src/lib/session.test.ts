// Links and stored sessions come from outside: what isn't well-formed is no session.
import { describe, expect, it } from 'vitest';
import { readRoute, routeTo } from './route';
import { type TabStorage, isUserId, loadSession, localpart, readSignInLink, saveSession, serverOf } from './session';

const ROOM = '!aB-c_/d+e:example.org:8448';

function storage(entries: Record<string, string> = {}): TabStorage {
  const map = new Map(Object.entries(entries));
  return {
    getItem: (key) => map.get(key) ?? null,
    setItem: (key, value) => void map.set(key, value),
    removeItem: (key) => void map.delete(key),
  };
}

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

describe('stored sessions', () => {
  const session = { userId: '@a:b', deviceId: 'D', token: 't' };

  it('come back as they were and go on sign-out', () => {
    const tab = storage();
    saveSession(tab, session);
    expect(loadSession(tab)).toEqual(session);
    saveSession(tab, null);
    expect(loadSession(tab)).toBeNull();
  });

  it.each(['', 'x', '[]', '{"userId":"@a:b"}', '{"userId":1,"deviceId":"D","token":"t"}', 'null'])('are not %j', (stored) => {
    expect(loadSession(storage({ 'weft.session': stored }))).toBeNull();
  });

  it('may be kept nowhere when storage is switched off', () => {
    const off: TabStorage = {
      getItem: () => {
        throw new Error('off');
      },
      setItem: () => {
        throw new Error('off');
      },
      removeItem: () => {},
    };
    expect(() => saveSession(off, session)).not.toThrow();
    expect(loadSession(off)).toBeNull();
  });
});

describe('user ids', () => {
  it('have a local part and a server with its port', () => {
    expect([localpart('@a.b:c:1'), serverOf('@a.b:c:1')]).toEqual(['a.b', 'c:1']);
    expect([localpart('nobody'), serverOf('nobody')]).toEqual(['nobody', '']);
  });

  it('are told from what merely looks like one', () => {
    for (const good of ['@a:b', '@a:127.0.0.1:8448', '@a:[::1]:80']) expect(isUserId(good)).toBe(true);
    for (const bad of ['a:b', '@a', '@:b', '@a:', '@a b:c', '@a:b/c', `@${'x'.repeat(255)}:b`]) expect(isUserId(bad)).toBe(false);
  });
});

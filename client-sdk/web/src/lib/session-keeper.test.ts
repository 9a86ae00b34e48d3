// One session in all tabs of a browser: refreshed by one of them, ended in all, and never swapped for another account
// without being noticed.
import { describe, expect, it } from 'vitest';
import type { KeyStorage, Session } from './session';
import { type KeeperOptions, type Refreshed, SessionKeeper } from './session-keeper';

const KEY = 'weft.session';
const HOUR = 3_600_000;
const ALICE: Session = { userId: '@alice:b', deviceId: 'A', token: 't0', refreshToken: 'r0', expiresAt: HOUR };
const BOB: Session = { userId: '@bob:b', deviceId: 'B', token: 'tb', refreshToken: null, expiresAt: null };

/** A browser: storage whose changes the other tabs hear of, one lock, and a server whose refresh tokens work once. */
function browser({ locks = true, events = true } = {}) {
  const values = new Map<string, string>();
  const tabs: SessionKeeper[] = [];
  const asked: string[] = [];
  let now = 0;
  let valid = 'r0';
  let made = 0;
  let reachable = true;
  let turn: Promise<unknown> = Promise.resolve();
  const request = (_name: string, _options: unknown, work: () => Promise<unknown>) => {
    const mine = turn.then(work, work);
    turn = mine.catch(() => {});
    return mine;
  };
  const refresh = async (refreshToken: string): Promise<Refreshed | null> => {
    asked.push(refreshToken);
    await Promise.resolve();
    if (!reachable) throw new Error('no answer');
    if (refreshToken !== valid) return null;
    valid = `r${(made += 1)}`;
    return { token: `t${made}`, refreshToken: valid, expiresAt: now + HOUR };
  };
  const open = (): SessionKeeper => {
    const tell = (value: string | null) => events && tabs.filter((tab) => tab !== keeper).forEach((tab) => tab.changedElsewhere(value));
    const storage: KeyStorage = {
      getItem: (key) => values.get(key) ?? null,
      setItem: (key, value) => (values.set(key, value), void tell(value)),
      removeItem: (key) => (values.delete(key), void tell(null)),
    };
    const options = { key: KEY, storage, locks: locks ? { request } : null, refresh, now: () => now };
    const keeper: SessionKeeper = new SessionKeeper(options as unknown as KeeperOptions);
    tabs.push(keeper);
    return keeper;
  };
  return { values, asked, open, pass: (ms: number) => (now += ms), revoke: () => (valid = ''), reach: (can: boolean) => (reachable = can) };
}

describe('a session', () => {
  it('is there again in a new tab, and gone everywhere after signing out', () => {
    const { values, open } = browser();
    const first = open();
    first.begin(ALICE);
    const second = open();
    expect(second.session.get()).toEqual(ALICE);
    second.end('here');
    expect([first.session.get(), first.cause, second.cause]).toEqual([null, 'elsewhere', 'here']);
    expect(values.size).toBe(0);
    expect(open().session.get()).toBeNull();
  });

  it('begins in all tabs that have none', () => {
    const { open } = browser();
    const [first, second] = [open(), open()];
    first.begin(ALICE);
    expect(second.session.get()).toEqual(ALICE);
  });

  it('of another account takes the place of this one, and the tab is told', () => {
    const { open } = browser();
    const [first, second] = [open(), open()];
    first.begin(ALICE);
    const seen: (string | null)[] = [];
    first.session.subscribe((session) => seen.push(session?.userId ?? null));
    second.end('here');
    second.begin(BOB);
    expect(seen).toEqual(['@alice:b', null, '@bob:b']);
    second.begin(ALICE);
    expect([first.cause, first.session.get()?.userId]).toEqual(['replaced', '@alice:b']);
  });

  it('of another account is not removed by a tab that ends its own', () => {
    const { values, open } = browser({ events: false });
    const first = open();
    first.begin(ALICE);
    open().begin(BOB);
    first.end('expired');
    expect(values.get(KEY)).toContain('@bob:b');
  });

  it('lasts as long as the page where storage is switched off', async () => {
    const off = () => {
      throw new Error('off');
    };
    const storage = { getItem: off, setItem: off, removeItem: off } as unknown as KeyStorage;
    const refresh = async () => ({ token: 't1', refreshToken: 'r1', expiresAt: null });
    const keeper = new SessionKeeper({ key: KEY, storage, locks: null, refresh, now: () => 0 });
    keeper.begin(ALICE);
    expect(await keeper.token()).toBe('t0');
    expect(await keeper.renew('t0')).toBe('t1');
    keeper.changedElsewhere(null);
    expect(keeper.session.get()?.token).toBe('t1');
  });

  it.each(['', 'x', '[]', '{"userId":"@a:b"}', '{"userId":1,"deviceId":"D","token":"t"}', '{"userId":"@a:b","deviceId":"D","token":"t","expiresAt":"soon"}', 'null'])(
    'is not %j',
    (stored) => {
      const { values, open } = browser();
      values.set(KEY, stored);
      expect(open().session.get()).toBeNull();
    },
  );

  it('stored by an earlier version, without a refresh token, still counts', () => {
    const { values, open } = browser();
    values.set(KEY, '{"userId":"@a:b","deviceId":"D","token":"t"}');
    expect(open().session.get()).toEqual({ userId: '@a:b', deviceId: 'D', token: 't', refreshToken: null, expiresAt: null });
  });
});

describe('refreshing', () => {
  it('happens before the token expires, and not earlier', async () => {
    const { asked, open, pass } = browser();
    const tab = open();
    tab.begin(ALICE);
    pass(HOUR / 2);
    expect(await tab.token()).toBe('t0');
    expect(asked).toEqual([]);
    pass(HOUR / 2 - 1_000);
    expect(await Promise.all([tab.token(), tab.token()])).toEqual(['t1', 't1']);
    expect(asked).toEqual(['r0']);
  });

  // The token of the second tab must be the first one's even if the storage event hasn't been delivered yet.
  it.each([true, false])('is done by one of several tabs (storage events: %s)', async (events) => {
    const { asked, open, pass } = browser({ events });
    const first = open();
    first.begin(ALICE);
    const tabs = [first, open(), open()];
    pass(HOUR);
    expect(await Promise.all(tabs.map((tab) => tab.token()))).toEqual(['t1', 't1', 't1']);
    expect(asked).toEqual(['r0']);
    expect(await Promise.all(tabs.map((tab) => tab.renew('t0')))).toEqual(['t1', 't1', 't1']);
    expect(asked).toEqual(['r0']);
  });

  it('without locks ends no session when two tabs do it at once', async () => {
    const { open, pass } = browser({ locks: false, events: false });
    const first = open();
    first.begin(ALICE);
    const tabs = [first, open()];
    pass(HOUR);
    expect(await Promise.all(tabs.map((tab) => tab.renew('t0')))).toEqual(['t1', 't1']);
  });

  it('goes on without the lock when another tab holds it for too long', async () => {
    const stuck = { request: () => Promise.reject(new DOMException('timeout', 'TimeoutError')) } as unknown as LockManager;
    const refresh = async () => ({ token: 't1', refreshToken: null, expiresAt: null });
    const keeper = new SessionKeeper({ key: KEY, storage: null, locks: stuck, refresh, now: () => 0 });
    keeper.begin(ALICE);
    expect(await keeper.renew('t0')).toBe('t1');
    expect(keeper.session.get()?.refreshToken).toBe('r0');
  });

  it('that is refused ends the session, one that gets no answer does not', async () => {
    const { open, pass, reach, revoke } = browser();
    const [tab, other] = [open(), open()];
    tab.begin(ALICE);
    pass(HOUR);
    reach(false);
    expect(await tab.token()).toBe('t0');
    await expect(tab.renew('t0')).rejects.toThrow('no answer');
    expect(tab.session.get()).not.toBeNull();
    reach(true);
    revoke();
    expect(await tab.renew('t0')).toBeNull();
    expect([tab.session.get(), tab.cause, other.session.get()]).toEqual([null, 'expired', null]);
  });

  it('is not possible for a sign-in link: its session ends', async () => {
    const { open } = browser();
    const tab = open();
    tab.begin(BOB);
    expect(await tab.token()).toBe('tb');
    expect(await tab.renew('tb')).toBeNull();
    expect(tab.cause).toBe('expired');
  });

  it('never gives one account the token of another', async () => {
    const { open, pass } = browser({ events: false });
    const tab = open();
    tab.begin(ALICE);
    open().begin(BOB);
    pass(HOUR);
    expect(await tab.renew('t0')).toBeNull();
  });
});

// Keeps the session of this browser: stored for the next visit and for links opened in new tabs, refreshed before its
// token expires, and the same in all tabs. It makes no requests itself (refreshing is a parameter) and has no UI.
//
// A refresh token can be used once. Tabs therefore refresh under a lock, and first check whether another tab has
// already stored new tokens.
import { type KeyStorage, type Session, readSession } from './session';
import { type Readable, Value } from './value';

/** Tokens are refreshed this long before they expire, so that none expires on its way. */
const REFRESH_BEFORE_MS = 60_000;
/** After waiting this long for the lock (a stuck tab), refresh without it: that is the smaller risk. */
const LOCK_PATIENCE_MS = 15_000;

export interface Refreshed {
  readonly token: string;
  readonly refreshToken: string | null;
  readonly expiresAt: number | null;
}

/** Why nobody is signed in any more. */
export type SignOutCause =
  /** The person signed out in this tab. */
  | 'here'
  /** The person signed out in another tab. */
  | 'elsewhere'
  /** Another account was signed in in another tab. */
  | 'replaced'
  /** The server no longer accepts the token. */
  | 'expired';

export interface KeeperOptions {
  readonly key: string;
  /** Null when the browser offers no storage: the session then lasts as long as the page. */
  readonly storage: KeyStorage | null;
  /** Web Locks; null where they are missing (plain HTTP). */
  readonly locks: Pick<LockManager, 'request'> | null;
  /** Resolves to null when the server refuses the refresh token; rejects when it can't be reached. */
  readonly refresh: (refreshToken: string) => Promise<Refreshed | null>;
  readonly now: () => number;
}

export class SessionKeeper {
  readonly #session = new Value<Session | null>(null);
  #cause: SignOutCause = 'here';
  #stored = false;
  #renewal: Promise<string | null> | null = null;

  constructor(private readonly options: KeeperOptions) {
    const stored = this.#read();
    this.#stored = stored !== null;
    this.#session.set(stored);
  }

  get session(): Readable<Session | null> {
    return this.#session;
  }

  /** Why `session` last became null. */
  get cause(): SignOutCause {
    return this.#cause;
  }

  begin(session: Session): void {
    this.#write(session);
    this.#session.set(session);
  }

  end(cause: SignOutCause): void {
    const [mine, stored] = [this.#session.get(), this.#read()];
    // Keep a session that another tab has stored in the meantime.
    if (mine && stored?.userId === mine.userId && stored.deviceId === mine.deviceId) this.#write(null);
    this.#lose(cause);
  }

  /** A token that is not about to expire, or null when nobody is signed in. */
  async token(): Promise<string | null> {
    const mine = this.#session.get();
    if (!mine || mine.expiresAt === null || this.options.now() < mine.expiresAt - REFRESH_BEFORE_MS) return mine?.token ?? null;
    // Offline, return the old token: the request that follows fails with a better error.
    return this.renew(mine.token).catch(() => this.#session.get()?.token ?? null);
  }

  /**
   * A token other than `failed`, which the server no longer accepts; null when the session has ended.
   * Rejects when the server can't be reached.
   */
  async renew(failed: string): Promise<string | null> {
    const mine = this.#session.get();
    if (!mine || mine.token !== failed) return mine?.token ?? null;
    this.#renewal ??= this.#inTurn(() => this.#renew(mine)).finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  /** Another tab has written `stored` to the storage. */
  changedElsewhere(stored: string | null): void {
    const [mine, theirs] = [this.#session.get(), readSession(stored)];
    if (!theirs) {
      if (mine && this.#stored) this.#lose('elsewhere');
    } else if (!mine || mine.userId === theirs.userId) {
      this.#stored = true;
      this.#session.set(theirs);
    } else {
      this.#lose('replaced');
      this.#session.set(theirs);
    }
  }

  async #renew(mine: Session): Promise<string | null> {
    const adopted = this.#adopt(mine);
    if (adopted !== undefined) return adopted;
    const refreshed = mine.refreshToken === null ? null : await this.options.refresh(mine.refreshToken);
    if (!refreshed) {
      // Without locks another tab may have refreshed in the meantime.
      const late = this.#adopt(mine);
      if (late !== undefined) return late;
      this.end('expired');
      return null;
    }
    this.begin({ ...mine, ...refreshed, refreshToken: refreshed.refreshToken ?? mine.refreshToken });
    return refreshed.token;
  }

  /** Adopts what other tabs have stored: returns a token, null (the session ended), or undefined (no change). */
  #adopt(mine: Session): string | null | undefined {
    if (!this.#stored) return undefined;
    const stored = this.#read();
    if (stored?.token === mine.token) return undefined;
    this.changedElsewhere(stored && JSON.stringify(stored));
    return stored?.userId === mine.userId ? stored.token : null;
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const { locks, key } = this.options;
    if (!locks) return work();
    let began = false;
    const turn = (): Promise<T> => {
      began = true;
      return work();
    };
    try {
      return await locks.request(`${key}.refresh`, { signal: AbortSignal.timeout(LOCK_PATIENCE_MS) }, turn);
    } catch (error) {
      if (began) throw error;
      return work();
    }
  }

  #lose(cause: SignOutCause): void {
    this.#cause = cause;
    this.#stored = false;
    this.#session.set(null);
  }

  #read(): Session | null {
    try {
      return readSession(this.options.storage?.getItem(this.options.key) ?? null);
    } catch {
      return null;
    }
  }

  #write(session: Session | null): void {
    try {
      if (session) this.options.storage?.setItem(this.options.key, JSON.stringify(session));
      else this.options.storage?.removeItem(this.options.key);
      this.#stored = session !== null && this.options.storage !== null;
    } catch {
      // Storage is switched off or full. The session then lasts as long as the page.
      this.#stored = false;
    }
  }
}

// The requests that the page makes, all to the server that served it. It keeps no state: the token comes from the
// session keeper, and is renewed once if the server no longer accepts it. Messages for failures are in failures.ts.
import type { Role } from './roles';
import type { Session } from './session';
import type { Refreshed } from './session-keeper';

export type DocumentKind = 'text' | 'rich_text' | 'canvas';

export interface DocumentInfo {
  readonly docId: string;
  readonly title: string;
  readonly kind: DocumentKind;
  readonly ownerId: string;
  readonly version: number;
  readonly role: Role;
  readonly createdAt: number;
  readonly lastModified: number;
}

export interface Invitation {
  readonly docId: string;
  readonly title: string;
  readonly inviter: string;
}

export interface Member {
  readonly userId: string;
  readonly displayName: string | null;
  readonly role: Role;
  readonly membership: 'join' | 'invite' | 'knock';
}

/** What a person who is not a member can do about a document. */
export type Access =
  | { readonly kind: 'invited'; readonly invitation: Invitation }
  /** Access was asked for and not yet given. */
  | { readonly kind: 'asked' }
  | { readonly kind: 'public' }
  | { readonly kind: 'knock' }
  /** The server has no room summaries; only asking shows whether it is possible. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'none' };

export type Json = Record<string, unknown>;

/** A request that failed. `status` 0 means that no answer came at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterMs: number | null = null,
    /** The whole answer: interactive authentication puts its stages there. */
    readonly answer: Json = {},
  ) {
    super(message);
    this.name = 'ApiError';
  }

  /** The token is no longer accepted: the person has to sign in again. */
  get isSignedOut(): boolean {
    return this.status === 401 && (this.code === 'M_UNKNOWN_TOKEN' || this.code === 'M_MISSING_TOKEN');
  }

  /** There was no answer, or a later attempt may succeed. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Where tokens come from: the session keeper. */
export interface Tokens {
  token(): Promise<string | null>;
  renew(failed: string): Promise<string | null>;
}

type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Below the place of the page (place.ts). */
const DOCUMENTS = '_weft/client/v1/documents';
export const MATRIX = '_matrix/client/v3';
/** Longer than any answer should take; a join over federation is the slowest. */
const TIMEOUT_MS = 60_000;
export const DEVICE_NAME = 'Weft in a browser';

export class Api {
  constructor(
    private readonly base: string,
    private readonly tokens: Tokens,
    private readonly fetch: Fetch = (url, init) => globalThis.fetch(url, init),
  ) {}

  async signIn(user: string, password: string, now = Date.now()): Promise<Session> {
    const answer = await this.request('POST', `${MATRIX}/login`, {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: user.trim() },
      password,
      initial_device_display_name: DEVICE_NAME,
      refresh_token: true,
    }, null);
    return sessionOf(answer, now);
  }

  /** The session that a token stands for; fails when the token is not accepted. */
  async whoAmI(token: string): Promise<Session> {
    const answer = await this.request('GET', `${MATRIX}/account/whoami`, undefined, token);
    return { userId: text(answer['user_id']), deviceId: text(answer['device_id']), token, refreshToken: null, expiresAt: null };
  }

  /** New tokens, or null when the server refuses the refresh token. */
  async refresh(refreshToken: string, now = Date.now()): Promise<Refreshed | null> {
    try {
      const answer = await this.request('POST', `${MATRIX}/refresh`, { refresh_token: refreshToken }, null);
      return refreshedOf(answer, now);
    } catch (error) {
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) return null;
      throw error;
    }
  }

  /** Ends a session at the server; by default the current one. */
  async signOut(token?: string): Promise<void> {
    await this.request('POST', `${MATRIX}/logout`, {}, token);
  }

  /** The name that the person chose, or null. Fails with 404 when their server has no such user. */
  async displayName(userId: string): Promise<string | null> {
    const answer = await this.request('GET', `${MATRIX}/profile/${encodeURIComponent(userId)}`);
    return typeof answer['displayname'] === 'string' ? answer['displayname'] : null;
  }

  async documents(): Promise<{ documents: DocumentInfo[]; invites: Invitation[] }> {
    const answer = await this.request('GET', DOCUMENTS);
    return { documents: list(answer['documents']), invites: list(answer['invites']) };
  }

  async document(id: string): Promise<DocumentInfo> {
    return (await this.request('GET', this.#path(id))) as unknown as DocumentInfo;
  }

  /** What can be done about a document that isn't open to the person. */
  async access(id: string): Promise<Access> {
    const roomId = id.startsWith('#') ? await this.#resolve(id) : id;
    const { invites } = await this.documents();
    const invitation = invites.find(({ docId }) => docId === roomId);
    if (invitation) return { kind: 'invited', invitation };
    try {
      const summary = await this.request('GET', `_matrix/client/v1/room_summary/${encodeURIComponent(id)}`);
      if (summary['membership'] === 'knock') return { kind: 'asked' };
      const rule = summary['join_rule'];
      return { kind: rule === 'public' ? 'public' : rule === 'knock' || rule === 'knock_restricted' ? 'knock' : 'none' };
    } catch (error) {
      if (error instanceof ApiError && error.code === 'M_UNRECOGNIZED') return { kind: 'unknown' };
      if (error instanceof ApiError && !error.isPassing && !error.isSignedOut) return { kind: 'none' };
      throw error;
    }
  }

  async createDocument(title: string, kind: DocumentKind): Promise<string> {
    return text((await this.request('POST', DOCUMENTS, { title, kind }))['docId']);
  }

  async rename(id: string, title: string): Promise<void> {
    await this.request('PATCH', this.#path(id), { title });
  }

  async join(id: string): Promise<void> {
    await this.request('POST', `${MATRIX}/join/${encodeURIComponent(id)}`, {});
  }

  /** Asks the members for access. */
  async knock(id: string): Promise<void> {
    await this.request('POST', `${MATRIX}/knock/${encodeURIComponent(id)}`, {});
  }

  /** Leaves a document, declines an invitation to it, or takes back a request for access. */
  async leave(id: string): Promise<void> {
    await this.request('POST', `${MATRIX}/rooms/${encodeURIComponent(id)}/leave`, {});
  }

  async members(id: string): Promise<Member[]> {
    return list((await this.request('GET', `${this.#path(id)}/members`))['members']);
  }

  /** The room's power levels, which decide about roles; see roles.ts. */
  async powerLevels(id: string): Promise<Json> {
    return this.request('GET', `${MATRIX}/rooms/${encodeURIComponent(id)}/state/m.room.power_levels`);
  }

  /** Gives a role; someone who isn't a member is invited with it. */
  async setRole(id: string, userId: string, role: Role): Promise<void> {
    await this.request('PUT', `${this.#path(id)}/members/${encodeURIComponent(userId)}`, { role });
  }

  async removeMember(id: string, userId: string): Promise<void> {
    await this.request('DELETE', `${this.#path(id)}/members/${encodeURIComponent(userId)}`);
  }

  /** One request. `token` is asked from the keeper unless one is given; null sends none. */
  async request(method: string, path: string, body?: unknown, token?: string | null): Promise<Json> {
    const kept = token === undefined;
    const first = kept ? await this.tokens.token() : token;
    try {
      return await this.#send(method, path, body, first);
    } catch (error) {
      if (!kept || !first || !(error instanceof ApiError && error.isSignedOut)) throw error;
      const next = await this.tokens.renew(first);
      if (!next) throw error;
      return this.#send(method, path, body, next);
    }
  }

  async #resolve(alias: string): Promise<string> {
    const answer = await this.request('GET', `${MATRIX}/directory/room/${encodeURIComponent(alias)}`).catch(() => ({}) as Json);
    return typeof answer['room_id'] === 'string' ? answer['room_id'] : alias;
  }

  #path(id: string): string {
    return `${DOCUMENTS}/${encodeURIComponent(id)}`;
  }

  async #send(method: string, path: string, body: unknown, token: string | null): Promise<Json> {
    const headers: Record<string, string> = { Accept: 'application/json' };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (token) headers['Authorization'] = `Bearer ${token}`;
    const init: RequestInit = { method, headers, signal: AbortSignal.timeout(TIMEOUT_MS), cache: 'no-store' };
    if (body !== undefined) init.body = JSON.stringify(body);
    let response: Response;
    try {
      response = await this.fetch(this.base + path, init);
    } catch {
      throw new ApiError(0, 'UNREACHABLE', 'no answer');
    }
    const answer = await parse(response);
    if (!response.ok) throw failure(response, answer);
    return answer;
  }
}

/** The session in the answer to a sign-in or registration. */
export function sessionOf(answer: Json, now: number): Session {
  return { userId: text(answer['user_id']), deviceId: text(answer['device_id']), ...refreshedOf(answer, now) };
}

function refreshedOf(answer: Json, now: number): Refreshed {
  const { refresh_token: refreshToken, expires_in_ms: lifetime } = answer;
  return {
    token: text(answer['access_token']),
    refreshToken: typeof refreshToken === 'string' ? refreshToken : null,
    expiresAt: typeof lifetime === 'number' ? now + lifetime : null,
  };
}

async function parse(response: Response): Promise<Json> {
  try {
    const answer: unknown = await response.json();
    return typeof answer === 'object' && answer !== null ? (answer as Json) : {};
  } catch {
    return {};
  }
}

function failure(response: Response, answer: Json): ApiError {
  const code = typeof answer['errcode'] === 'string' ? answer['errcode'] : 'M_UNKNOWN';
  const message = typeof answer['error'] === 'string' ? answer['error'] : `status ${response.status}`;
  return new ApiError(response.status, code, message, retryAfter(response, answer), answer);
}

function retryAfter(response: Response, answer: Json): number | null {
  if (typeof answer['retry_after_ms'] === 'number') return answer['retry_after_ms'];
  const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
  return Number.isFinite(seconds) ? seconds * 1000 : null;
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new ApiError(502, 'M_UNKNOWN', 'the server’s answer lacks a field');
  return value;
}

function list<T>(value: unknown): T[] {
  return Array.isArray(value) ? (value as T[]) : [];
}

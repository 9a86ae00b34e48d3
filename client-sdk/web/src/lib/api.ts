// The requests that the page makes, all to the server that served it, and what their failures are called in words.
// It keeps no state: who is signed in is asked from the caller each time.
import type { Role } from './roles';
import type { Session } from './session';

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

/** A request that failed. `status` 0 means that no answer came at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterMs: number | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
  }

  /** The token is no longer good: the person has to sign in again. */
  get isSignedOut(): boolean {
    return this.status === 401 && this.code !== 'M_FORBIDDEN';
  }
}

/** What a person is told. `doing` says what was tried, as in `rename the document`. */
export function inWords(error: unknown, doing: string): string {
  if (!(error instanceof ApiError)) return `Something went wrong in this page while trying to ${doing}.`;
  if (error.status === 0) return `The server can’t be reached, so it couldn’t ${doing}. Check the connection and try again.`;
  if (error.isSignedOut) return 'You have been signed out. Sign in again to go on.';
  if (error.status === 429) return `That was too much at once. ${waitWords(error.retryAfterMs)}`;
  if (error.status === 403) return `You aren’t allowed to ${doing}.`;
  if (error.status === 404) return `It isn’t there (any more), so the server couldn’t ${doing}.`;
  if (error.status >= 500) return `The server has a problem and couldn’t ${doing}. Try again in a moment.`;
  return `The server didn’t ${doing}: ${error.message}`;
}

/** The same for signing in, where the codes mean something else. */
export function signInWords(error: unknown): string {
  if (!(error instanceof ApiError)) return 'Something went wrong in this page. Reload it and try again.';
  switch (true) {
    case error.code === 'M_USER_DEACTIVATED':
      return 'This account has been deactivated.';
    case error.status === 403 || error.code === 'M_INVALID_USERNAME':
      return 'The name or the password is wrong.';
    case error.status === 401:
      return 'This sign-in link is no longer valid. Sign in with your password.';
    default:
      return inWords(error, 'sign you in');
  }
}

function waitWords(ms: number | null): string {
  if (ms === null || ms <= 0) return 'Wait a moment and try again.';
  const seconds = Math.ceil(ms / 1000);
  return `Try again in ${seconds} second${seconds === 1 ? '' : 's'}.`;
}

type Fetch = (url: string, init: RequestInit) => Promise<Response>;

const DOCUMENTS = '/_weft/client/v1/documents';
const MATRIX = '/_matrix/client/v3';
/** Longer than any answer should take; a join over federation is the slowest. */
const TIMEOUT_MS = 60_000;

export class Api {
  constructor(
    private readonly token: () => string | null,
    private readonly fetch: Fetch = (url, init) => globalThis.fetch(url, init),
  ) {}

  async signIn(user: string, password: string): Promise<Session> {
    const answer = await this.#json('POST', `${MATRIX}/login`, {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: user.trim() },
      password,
      initial_device_display_name: 'Weft in a browser',
    });
    return {
      userId: text(answer['user_id']),
      deviceId: text(answer['device_id']),
      token: text(answer['access_token']),
    };
  }

  /** Turns a token into a session, which fails when the token isn't good. */
  async whoAmI(token: string): Promise<Session> {
    const answer = await this.#json('GET', `${MATRIX}/account/whoami`, undefined, token);
    return { userId: text(answer['user_id']), deviceId: text(answer['device_id']), token };
  }

  async signOut(): Promise<void> {
    await this.#json('POST', `${MATRIX}/logout`, {});
  }

  /** The name that the person chose, or null. */
  async displayName(userId: string): Promise<string | null> {
    const answer = await this.#json('GET', `${MATRIX}/profile/${encodeURIComponent(userId)}`);
    return typeof answer['displayname'] === 'string' ? answer['displayname'] : null;
  }

  async documents(): Promise<{ documents: DocumentInfo[]; invites: Invitation[] }> {
    const answer = await this.#json('GET', DOCUMENTS);
    return { documents: list(answer['documents']), invites: list(answer['invites']) };
  }

  async document(id: string): Promise<DocumentInfo> {
    return (await this.#json('GET', this.#path(id))) as unknown as DocumentInfo;
  }

  async createDocument(title: string, kind: DocumentKind): Promise<string> {
    return text((await this.#json('POST', DOCUMENTS, { title, kind }))['docId']);
  }

  async rename(id: string, title: string): Promise<void> {
    await this.#json('PATCH', this.#path(id), { title });
  }

  async join(id: string): Promise<void> {
    await this.#json('POST', `${MATRIX}/join/${encodeURIComponent(id)}`, {});
  }

  /** Leaves a document, or declines an invitation to it. */
  async leave(id: string): Promise<void> {
    await this.#json('POST', `${MATRIX}/rooms/${encodeURIComponent(id)}/leave`, {});
  }

  async members(id: string): Promise<Member[]> {
    return list((await this.#json('GET', `${this.#path(id)}/members`))['members']);
  }

  /** Gives a role; who isn't a member yet is invited with it. */
  async setRole(id: string, userId: string, role: Role): Promise<void> {
    await this.#json('PUT', `${this.#path(id)}/members/${encodeURIComponent(userId)}`, { role });
  }

  async removeMember(id: string, userId: string): Promise<void> {
    await this.#json('DELETE', `${this.#path(id)}/members/${encodeURIComponent(userId)}`);
  }

  #path(id: string): string {
    return `${DOCUMENTS}/${encodeURIComponent(id)}`;
  }

  async #json(method: string, path: string, body?: unknown, token = this.token()): Promise<Record<string, unknown>> {
    const headers: Record<string, string> = { Accept: 'application/json' };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (token) headers['Authorization'] = `Bearer ${token}`;
    const init: RequestInit = { method, headers, signal: AbortSignal.timeout(TIMEOUT_MS), cache: 'no-store' };
    if (body !== undefined) init.body = JSON.stringify(body);
    let response: Response;
    try {
      response = await this.fetch(path, init);
    } catch {
      throw new ApiError(0, 'UNREACHABLE', 'no answer');
    }
    const answer = await parse(response);
    if (!response.ok) throw failure(response, answer);
    return answer;
  }
}

async function parse(response: Response): Promise<Record<string, unknown>> {
  try {
    const answer: unknown = await response.json();
    return typeof answer === 'object' && answer !== null ? (answer as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function failure(response: Response, answer: Record<string, unknown>): ApiError {
  const code = typeof answer['errcode'] === 'string' ? answer['errcode'] : 'M_UNKNOWN';
  const message = typeof answer['error'] === 'string' ? answer['error'] : `status ${response.status}`;
  return new ApiError(response.status, code, message, retryAfter(response, answer));
}

function retryAfter(response: Response, answer: Record<string, unknown>): number | null {
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

// Who is signed in: sign-in links, the stored form of a session, and user ids. What keeps a session alive over time
// and across tabs is in session-keeper.ts.

export interface Session {
  readonly userId: string;
  readonly deviceId: string;
  readonly token: string;
  /** Null for sessions whose token does not expire (sign-in links). */
  readonly refreshToken: string | null;
  /** Milliseconds since 1970 by this device's clock, or null when the token does not expire. */
  readonly expiresAt: number | null;
}

export interface SignInLink {
  readonly token: string;
  /** The document to open, if the link names one. */
  readonly documentId: string | null;
}

/** What is needed of `localStorage`. */
export interface KeyStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export const STORAGE_KEY = 'weft.session';
/** A token or a room id longer than this is no token or room id. */
const MAX_LINK_PART = 4096;

/** Reads `#token=...&doc=...`; null when the fragment is something else. */
export function readSignInLink(fragment: string): SignInLink | null {
  const parts = new Map<string, string>();
  for (const part of fragment.replace(/^#/, '').split('&')) {
    const at = part.indexOf('=');
    if (at > 0) parts.set(part.slice(0, at), decode(part.slice(at + 1)) ?? '');
  }
  const token = parts.get('token');
  if (!token || token.length > MAX_LINK_PART) return null;
  const documentId = parts.get('doc');
  return { token, documentId: documentId && documentId.length <= MAX_LINK_PART ? documentId : null };
}

/** Percent-decoding that returns null for malformed text. A `+` stays a `+`: tokens may contain one. */
export function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** The session in a stored value; null when there is none or it is malformed. */
export function readSession(stored: string | null): Session | null {
  try {
    const value: unknown = JSON.parse(stored ?? 'null');
    if (typeof value !== 'object' || value === null) return null;
    const { userId, deviceId, token, refreshToken = null, expiresAt = null } = value as Record<string, unknown>;
    if (typeof userId !== 'string' || typeof deviceId !== 'string' || typeof token !== 'string') return null;
    if (refreshToken !== null && typeof refreshToken !== 'string') return null;
    if (expiresAt !== null && typeof expiresAt !== 'number') return null;
    return { userId, deviceId, token, refreshToken, expiresAt };
  } catch {
    return null;
  }
}

/** `alice` of `@alice:example.org`; the text itself if it is not a user id. */
export function localpart(userId: string): string {
  const colon = userId.indexOf(':');
  return userId.startsWith('@') && colon > 1 ? userId.slice(1, colon) : userId;
}

/** `example.org` of `@alice:example.org`, with its port; empty if it is not a user id. */
export function serverOf(userId: string): string {
  const colon = userId.indexOf(':');
  return userId.startsWith('@') && colon > 0 ? userId.slice(colon + 1) : '';
}

/** Whether it can be invited: a full Matrix user id with a server. */
export function isUserId(text: string): boolean {
  return text.length <= 255 && /^@[^:\s]+:[^\s/?#@]+$/.test(text);
}

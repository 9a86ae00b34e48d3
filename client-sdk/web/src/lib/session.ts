// Who is signed in, in this tab: reading a sign-in link, and keeping the session in the tab's own storage (so that two
// links opened in two tabs of one browser are two people). The token goes nowhere else: not into the address, a log
// or the storage that tabs share.

export interface Session {
  readonly userId: string;
  readonly deviceId: string;
  readonly token: string;
}

export interface SignInLink {
  readonly token: string;
  /** The document to open, where the link names one. */
  readonly documentId: string | null;
}

/** What is needed of `sessionStorage`. */
export interface TabStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

const STORAGE_KEY = 'weft.session';
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

/** Percent-decoding that answers null to what can't be decoded. A `+` stays a `+`: tokens may hold one. */
export function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

export function loadSession(storage: TabStorage): Session | null {
  try {
    const stored: unknown = JSON.parse(storage.getItem(STORAGE_KEY) ?? 'null');
    if (typeof stored !== 'object' || stored === null) return null;
    const { userId, deviceId, token } = stored as Record<string, unknown>;
    if (typeof userId !== 'string' || typeof deviceId !== 'string' || typeof token !== 'string') return null;
    return { userId, deviceId, token };
  } catch {
    return null;
  }
}

export function saveSession(storage: TabStorage, session: Session | null): void {
  try {
    if (session) storage.setItem(STORAGE_KEY, JSON.stringify(session));
    else storage.removeItem(STORAGE_KEY);
  } catch {
    // Storage may be switched off. The session then lives as long as the page.
  }
}

/** `alice` of `@alice:example.org`; whatever was given where it isn't a user id. */
export function localpart(userId: string): string {
  const colon = userId.indexOf(':');
  return userId.startsWith('@') && colon > 1 ? userId.slice(1, colon) : userId;
}

/** `example.org` of `@alice:example.org`, with its port; empty where it isn't a user id. */
export function serverOf(userId: string): string {
  const colon = userId.indexOf(':');
  return userId.startsWith('@') && colon > 0 ? userId.slice(colon + 1) : '';
}

/** Whether it can be invited: a full Matrix user id with a server. */
export function isUserId(text: string): boolean {
  return text.length <= 255 && /^@[^:\s]+:[^\s/?#@]+$/.test(text);
}

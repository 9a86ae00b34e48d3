// Messages for failed requests: what did not happen, why, and what can be done about it.
import { ApiError } from './api';

export interface Attempt {
  /** What was tried, to follow "Couldn’t": `rename the document`. */
  readonly doing: string;
  /** The other server that the request depends on; empty or missing if there is none. */
  readonly partner?: string;
}

export function failureText(error: unknown, attempt: Attempt): string {
  const reason = reasonOf(error, attempt);
  return reason ? `Couldn’t ${attempt.doing}: ${reason}` : outrightText(error);
}

/** Only why, as a sentence, for places that already say what did not happen. */
export function failureReason(error: unknown, partner = ''): string {
  const reason = reasonOf(error, { doing: '', partner });
  return reason ? reason.charAt(0).toUpperCase() + reason.slice(1) : outrightText(error);
}

/** The reason, to follow a colon; null for failures that `outrightText` describes. */
function reasonOf(error: unknown, { partner }: Attempt): string | null {
  if (!(error instanceof ApiError)) return 'something went wrong in this page. Reload it and try again.';
  if (error.isSignedOut || error.status === 429) return null;
  if (error.status === 0) return 'the server can’t be reached. Check your connection and try again.';
  // 502 and 504 mean that another server did not answer.
  if (partner && (error.status === 502 || error.status === 504)) return `${partner} isn’t responding. Try again later.`;
  if (partner && error.status === 404) return `${partner} doesn’t know this user or document.`;
  if (error.status === 403) return sentence(error.message, 'you don’t have permission.');
  if (error.status === 404) return 'it no longer exists, or you no longer have access.';
  if (error.status === 413) return 'it is too large.';
  if (error.status >= 500) return 'the server has a problem. Try again in a moment.';
  return sentence(error.message, 'the server refused.');
}

/** Failures that have nothing to do with what was attempted. */
function outrightText(error: unknown): string {
  if (error instanceof ApiError && error.status === 429) return `Too many attempts. ${waitText(error.retryAfterMs)}`;
  return 'You have been signed out. Sign in again to continue.';
}

/** The same for signing in and registering, where the codes mean something else. */
export function signInText(error: unknown, doing = 'sign in'): string {
  if (!(error instanceof ApiError)) return failureText(error, { doing });
  switch (true) {
    case error.code === 'M_USER_DEACTIVATED':
      return 'This account has been deactivated.';
    case error.code === 'M_USER_IN_USE':
      return 'This user name is taken. Choose another one.';
    case error.code === 'M_WEAK_PASSWORD':
      return sentence(error.message, 'This password is too weak.');
    case error.code === 'M_INVALID_USERNAME' && doing !== 'sign in':
      return 'A user name consists of lower-case letters, digits and the characters . _ = - /';
    case (error.status === 403 && error.code === 'M_FORBIDDEN' && doing === 'sign in') || error.code === 'M_INVALID_USERNAME':
      return 'Wrong user name or password.';
    case error.isSignedOut:
      return 'This sign-in link is no longer valid. Sign in with your password.';
    default:
      return failureText(error, { doing });
  }
}

function waitText(ms: number | null): string {
  if (ms === null || ms <= 0) return 'Wait a moment and try again.';
  const seconds = Math.ceil(ms / 1000);
  if (seconds <= 90) return `Try again in ${seconds} second${seconds === 1 ? '' : 's'}.`;
  return `Try again in ${Math.ceil(seconds / 60)} minutes.`;
}

/** The server's message as a sentence, if there is a usable one. It is shown as text, never as markup. */
function sentence(message: string, otherwise: string): string {
  const words = message.trim();
  if (!words || words.length > 300 || words.startsWith('status ')) return otherwise;
  return /[.!?]$/.test(words) ? words : `${words}.`;
}

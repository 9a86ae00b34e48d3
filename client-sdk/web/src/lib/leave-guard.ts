// What an open document says when the page is about to leave it, or when its session ends.
import type { SignOutCause } from './session-keeper';

export interface LeaveGuard {
  /** False when the person wants to stay, after having been asked. */
  mayLeave(): boolean;
  /** Whether the document stays on the screen although its session has ended. */
  keepsOpen(cause: SignOutCause): boolean;
}

// How an open document takes part in leaving the page and in the end of its session.
import type { SignOutCause } from './session-keeper';

export interface LeaveGuard {
  /** Asks if there are unsaved changes. False if the person wants to stay. */
  mayLeave(): boolean;
  /** Resolves when everything is saved, or can't be saved soon. */
  settled(): Promise<void>;
  /** Whether the document stays on the screen although its session has ended. */
  keepsOpen(cause: SignOutCause): boolean;
}

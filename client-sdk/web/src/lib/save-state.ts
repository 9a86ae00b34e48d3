// Whether what was typed is on disk at the server: a pure state machine over what passes on the wire.
//
// It counts frames of one socket itself, because the provider's own counter can reach zero too early: edits made
// while offline are queued beside the state-vector sync, and the acknowledgement of the first queued edit is taken
// for that of the sync. Here "saved" needs this socket's sync reply, which holds everything, and an acknowledgement
// for each frame that was sent since.
import type { FrameKind } from './frames';

export type SaveState =
  /** Not connected yet, nothing typed. */
  | 'opening'
  /** Everything typed here is on the server's disk. */
  | 'saved'
  /** Sent, or about to be; not acknowledged. */
  | 'saving'
  /** No connection, and nothing unsaved. */
  | 'offline'
  /** No connection; unsaved edits live in this tab alone. */
  | 'offline-unsaved'
  /** The server won't take what was typed. Stays until the document is opened anew. */
  | 'refused';

export class SaveTracker {
  #connected = false;
  #everConnected = false;
  #replied = false;
  #outstanding = 0;
  #unsaved = false;
  #refused = false;

  get state(): SaveState {
    if (this.#refused) return 'refused';
    if (this.#unsaved) return this.#connected ? (this.#settled ? 'saved' : 'saving') : 'offline-unsaved';
    if (!this.#everConnected) return 'opening';
    return this.#connected ? 'saved' : 'offline';
  }

  /** Whether closing the tab would lose something. */
  get hasUnsaved(): boolean {
    return this.#unsaved || this.#refused;
  }

  /** Whether an acknowledgement is due: when none comes for long, only a new connection can tell what arrived. */
  get isWaiting(): boolean {
    return this.#connected && this.#outstanding > 0;
  }

  edited(): void {
    this.#unsaved = true;
  }

  opened(): void {
    this.#connected = true;
    this.#replied = false;
    this.#outstanding = 0;
  }

  /** Asked before a frame goes out; false means that it should be left out. */
  sending(kind: FrameKind): boolean {
    switch (kind) {
      case 'update':
        // Before the sync reply an update could build on edits that a dead socket swallowed, which the server would
        // have to send back. The reply holds all of it.
        if (!this.#replied) return false;
        this.#outstanding += 1;
        return true;
      case 'sync-reply':
        this.#replied = true;
        this.#outstanding += 1;
        return true;
      default:
        return true;
    }
  }

  received(kind: FrameKind): void {
    if (kind !== 'accepted' && kind !== 'refused') return;
    this.#outstanding = Math.max(0, this.#outstanding - 1);
    if (kind === 'refused') this.#refused = true;
    if (!this.#settled) return;
    this.#everConnected = true;
    if (!this.#refused) this.#unsaved = false;
  }

  closed(): void {
    this.#connected = false;
    this.#replied = false;
    this.#outstanding = 0;
  }

  /** What was sent can never be taken (a socket was closed for it). */
  refuse(): void {
    this.#refused = true;
  }

  get #settled(): boolean {
    return this.#connected && this.#replied && this.#outstanding === 0;
  }
}

// Whether what was typed is on the server's disk: a pure state machine over the frames of one socket.
//
// It counts frames itself, because the provider's counter can reach zero too early: edits made while offline are queued
// in addition to the state-vector sync, and the acknowledgement of the first queued edit is counted as that of the sync. Here
// "saved" requires this socket's sync reply, which contains everything, and an acknowledgement of each frame sent since.
import type { FrameKind } from './frames';

export type SaveState =
  /** Not yet connected, nothing typed. */
  | 'opening'
  /** Everything typed here is on the server's disk. */
  | 'saved'
  /** Sent, or about to be; not acknowledged. */
  | 'saving'
  /** No connection, and nothing unsaved. */
  | 'offline'
  /** No connection; there are unsaved edits, in this tab only. */
  | 'offline-unsaved'
  /** Connected; the server has all that it can take, and some edits wait for another user's. */
  | 'waiting'
  /** The server rejected what was typed. Stays until the document is opened again. */
  | 'refused';

export class SaveTracker {
  #connecting = false;
  #connected = false;
  #everConnected = false;
  #replied = false;
  #outstanding = 0;
  #unsaved = false;
  #refused = false;
  #waitsForOthers = false;
  #answers = 0;

  /** Counts connections made and acknowledgements: while it grows, the server is answering. */
  get answers(): number {
    return this.#answers;
  }

  get state(): SaveState {
    if (this.#refused) return 'refused';
    if (this.#unsaved && !this.#connected) return 'offline-unsaved';
    if (this.#unsaved && this.#waitsForOthers) return 'waiting';
    if (this.#unsaved) return this.#settled ? 'saved' : 'saving';
    if (!this.#everConnected) return 'opening';
    return this.#connected ? 'saved' : 'offline';
  }

  /** Whether closing the tab would lose something. */
  get hasUnsaved(): boolean {
    return this.#unsaved || this.#refused;
  }

  /**
   * Whether the server owes an answer: to the attempt to connect, to the sync request, or an acknowledgement. If none
   * comes for long, only a new connection can tell what arrived. Edits that wait for another user's are acknowledged
   * only with those, however long that takes.
   */
  get isWaiting(): boolean {
    if (this.#connected && this.#waitsForOthers) return false;
    return this.#connecting || (this.#connected && (!this.#replied || this.#outstanding > 0));
  }

  /** A socket was created. */
  connecting(): void {
    this.#connecting = true;
  }

  edited(): void {
    this.#unsaved = true;
  }

  opened(): void {
    this.#answers += 1;
    this.#connecting = false;
    this.#connected = true;
    this.#replied = false;
    this.#outstanding = 0;
  }

  /** Called before a frame is sent; false means that it must not be sent. */
  sending(kind: FrameKind): boolean {
    switch (kind) {
      case 'update':
        // Before the sync reply an update could depend on edits that were lost with an earlier socket. The reply
        // contains all of them.
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
    this.#answers += 1;
    this.#outstanding = Math.max(0, this.#outstanding - 1);
    if (kind === 'refused') this.#refused = true;
    if (!this.#settled) return;
    this.#waitsForOthers = false;
    this.#everConnected = true;
    if (!this.#refused) this.#unsaved = false;
  }

  closed(): void {
    this.#connecting = false;
    this.#connected = false;
    this.#replied = false;
    this.#outstanding = 0;
    this.#waitsForOthers = false;
  }

  /** The server said that edits wait for another user's. It says so once for each connection. */
  waitForOthers(): void {
    this.#waitsForOthers = true;
    this.#unsaved = true;
  }

  /** What was sent can never be accepted (a socket was closed because of it). */
  refuse(): void {
    this.#refused = true;
  }

  get #settled(): boolean {
    return this.#connected && this.#replied && this.#outstanding === 0;
  }
}

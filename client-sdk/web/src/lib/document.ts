// One open document: its Y.Doc, the stock Hocuspocus provider that synchronises it with the server, and the state of
// both that the page shows. No DOM and no framework in here; the socket's class is a parameter.
import { HocuspocusProvider, type HocuspocusProviderConfiguration, HocuspocusProviderWebsocket } from '@hocuspocus/provider';
import { Awareness } from 'y-protocols/awareness';
import * as Y from 'yjs';
import { type Ending, endingOf } from './connection';
import { kindOf } from './frames';
import { bringsThings, holdsThings } from './plain-text';
import { COLOUR_VALUES, type Person, colourOf, readPeople } from './presence';
import { MAX_FRAME_BYTES, MAX_UNSENT_BYTES, type Refusal, Refusals, readNotice } from './refusals';
import { type SaveState, SaveTracker } from './save-state';
import { type Readable, Value } from './value';

/** The protocol's root of a document of kind `text`. */
export const ROOT = 'body';

/** Interruptions shorter than this get no banner. */
export const CUT_OFF_AFTER_MS = 2_000;
/** Reconnect after waiting this long for an answer; the state vectors then show what arrived. */
const PATIENCE_MS = 10_000;
const MAX_PATIENCE_MS = 120_000;
/** A frame above this may take longer than the patience to send. Smaller ones leave the socket also when the server hangs. */
const LARGE_BYTES = 256 * 1024;
const MAX_RECONNECT_MS = 10_000;
/** How long a closed document may stay open behind the page to send its last edits. */
const LINGER_MS = 10_000;

export type Scope = 'unknown' | 'read-write' | 'readonly';

export interface DocumentOptions {
  readonly roomId: string;
  readonly url: string;
  readonly userId: string;
  readonly token: () => Promise<string>;
  /** Called when the server denies the document or the token: the reason, or null to try again. */
  readonly whyDenied: () => Promise<Ending | null>;
  readonly socket?: typeof WebSocket;
  /** How long to wait for an answer before connecting again; doubles with each failure. */
  readonly patienceMs?: number;
}

/** The live socket of a document, below the place of the page (place.ts). */
export function liveUrl(base: string, roomId: string): string {
  return `${base.replace(/^http/, 'ws')}_weft/client/v1/live/${encodeURIComponent(roomId)}`;
}

export class LiveDocument {
  readonly doc = new Y.Doc();
  readonly text = this.doc.getText(ROOT);
  readonly awareness = new Awareness(this.doc);

  readonly #tracker = new SaveTracker();
  readonly #provider: HocuspocusProvider;
  readonly #socket: HocuspocusProviderWebsocket;

  readonly #save = new Value<SaveState>('opening');
  readonly #ready = new Value(false);
  readonly #scope = new Value<Scope>('unknown');
  readonly #cutOff = new Value(false);
  readonly #ending = new Value<Ending | null>(null);
  readonly #people = new Value<readonly Person[]>([]);
  readonly #unshowable = new Value(false);
  readonly #refusals = new Refusals();

  #name: string;
  #cutOffTimer: ReturnType<typeof setTimeout> | undefined;
  #waitTimer: ReturnType<typeof setTimeout> | undefined;
  #patience: number;
  #answersSeen = 0;
  #current: WebSocket | null = null;
  /** Bytes that the socket had not yet sent when it was last looked at, after a large frame. */
  #buffered = 0;
  /** Bytes of edits since everything was saved. */
  #unsent = 0;
  #closed = false;

  constructor(private readonly options: DocumentOptions) {
    this.#name = options.userId;
    this.#patience = options.patienceMs ?? PATIENCE_MS;
    this.doc.on('update', (update: Uint8Array, origin: unknown) => {
      if (origin === this.#provider) return;
      this.#note(() => this.#tracker.edited());
      this.#unsent += update.length;
    });
    // Fires before the observers of the text, so that the editor can detach in time.
    this.doc.on('beforeObserverCalls', (transaction) => {
      if (bringsThings(transaction, this.text)) this.#unshowable.set(true);
    });
    // Somebody removed it, or the server did because it refused it.
    this.doc.on('afterTransaction', ({ deleteSet }) => {
      if (this.#unshowable.get() && deleteSet.clients.size > 0 && !holdsThings(this.text)) this.#unshowable.set(false);
    });
    this.awareness.on('change', () => this.#readPeople());
    this.#socket = new HocuspocusProviderWebsocket({
      url: options.url,
      WebSocketPolyfill: this.#countingSocket(options.socket ?? WebSocket),
      maxDelay: MAX_RECONNECT_MS,
      autoConnect: false,
    });
    this.#provider = new HocuspocusProvider(this.#providerOptions());
    this.#provider.attach();
    void this.#socket.connect();
    this.#introduce();
  }

  /** What is shown beside the title. */
  get save(): Readable<SaveState> {
    return this.#save;
  }
  /** The server's text has arrived once. */
  get ready(): Readable<boolean> {
    return this.#ready;
  }
  /** What the server lets this person do. */
  get scope(): Readable<Scope> {
    return this.#scope;
  }
  /** Disconnected for longer than a short interruption. */
  get cutOff(): Readable<boolean> {
    return this.#cutOff;
  }
  /** Why the document can't be used any more, if so. */
  get ending(): Readable<Ending | null> {
    return this.#ending;
  }
  /** Who is here, me first. */
  get people(): Readable<readonly Person[]> {
    return this.#people;
  }
  /** The text contains something other than text. */
  get unshowable(): Readable<boolean> {
    return this.#unshowable;
  }
  /** What the server did not take of this tab's edits, and has not been dismissed. */
  get refusals(): Readable<readonly Refusal[]> {
    return this.#refusals.shown;
  }
  /** The rule by which a whole change was refused; empty if none was. */
  get refusedBy(): string {
    return this.#refusals.whole;
  }
  get hasUnsaved(): boolean {
    return this.#tracker.hasUnsaved;
  }

  /** The own name, as shown here; others see the name that the server knows. */
  rename(name: string): void {
    this.#name = name;
    this.#introduce();
  }

  dismissRefusal(code: string): void {
    this.#refusals.dismiss(code);
  }

  /** Whether a text of so many bytes may be inserted: all that waits to be saved must fit into one message. */
  admits(bytes: number): boolean {
    const fits = this.#unsent + bytes <= MAX_UNSENT_BYTES;
    if (!fits) this.#refusals.tooLong();
    return fits;
  }

  /** Connects now instead of at the next attempt: the network is back, or the page is visible again. */
  hurry(): void {
    if (this.#ending.get() === null && !this.#closed && !this.#isOnline) void this.#socket.connect();
  }

  /** Ends the connection for a reason outside of it, such as a sign-out. The text stays. */
  end(ending: Ending): void {
    if (!this.#closed && this.#ending.get() === null) this.#end(ending);
  }

  /** Continues after a new sign-in. */
  resume(): void {
    this.#ending.set(null);
    void this.#socket.connect();
  }

  /** Closes the document; unsent edits get a moment to arrive. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#tracker.hasUnsaved || !this.#isOnline) return this.#destroy();
    this.awareness.setLocalState(null);
    const deadline = setTimeout(() => this.#destroy(), LINGER_MS);
    const stop = this.#save.subscribe((state) => {
      if (state !== 'saved') return;
      clearTimeout(deadline);
      queueMicrotask(() => {
        stop();
        this.#destroy();
      });
    });
  }

  get #isOnline(): boolean {
    return this.#socket.status === 'connected';
  }

  #providerOptions(): HocuspocusProviderConfiguration {
    return {
      name: this.options.roomId,
      document: this.doc,
      awareness: this.awareness,
      token: () => this.options.token(),
      websocketProvider: this.#socket,
      onSynced: () => this.#synced(),
      onAuthenticated: ({ scope }) => this.#scope.set(scope === 'readonly' ? 'readonly' : 'read-write'),
      onAuthenticationFailed: () => void this.#denied(),
      onDisconnect: () => this.#disconnected(),
      onStateless: ({ payload }) => this.#told(payload),
      onClose: ({ event }) => this.#closedBy(event.code, event.reason),
    };
  }

  /** The browser's socket, which reports each frame to the tracker. */
  #countingSocket(Socket: typeof WebSocket): typeof WebSocket {
    const tracker = this.#tracker;
    const note = (change: () => void): void => this.#note(change);
    const sent = (socket: WebSocket, bytes: number): void => {
      if (bytes > LARGE_BYTES) this.#buffered = socket.bufferedAmount;
    };
    const made = (socket: WebSocket): void => {
      this.#current = socket;
      this.#buffered = 0;
    };
    const isCurrent = (socket: WebSocket): boolean => this.#current === socket;
    const tooLarge = (): void => {
      this.#refusals.add({ code: 'too_large', pieces: [], users: [], unsaved: false });
      this.end('refused');
    };
    return class CountingSocket extends Socket {
      constructor(url: string | URL) {
        super(url);
        made(this);
        note(() => tracker.connecting());
        // Node.js terminates the process on an error event without a listener.
        this.addEventListener('error', () => {});
        const mine = (change: () => void) => () => {
          if (isCurrent(this)) note(change);
        };
        this.addEventListener('open', mine(() => tracker.opened()));
        this.addEventListener('close', mine(() => tracker.closed()));
        this.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
          if (isCurrent(this) && data instanceof ArrayBuffer) {
            const kind = kindOf(new Uint8Array(data));
            note(() => tracker.received(kind));
          }
        });
      }

      override send(frame: string | ArrayBufferLike | Blob | ArrayBufferView): void {
        const kind = frame instanceof Uint8Array ? kindOf(frame) : 'other';
        let goes = true;
        note(() => {
          goes = tracker.sending(kind);
        });
        if (!goes) return;
        // The server would cut the connection, and the provider would send it again for ever.
        if (frame instanceof Uint8Array && frame.length > MAX_FRAME_BYTES) return queueMicrotask(tooLarge);
        super.send(frame as Uint8Array<ArrayBuffer>);
        if (frame instanceof Uint8Array) sent(this, frame.length);
      }
    };
  }

  #note(change: () => void): void {
    change();
    const state = this.#tracker.state;
    if (state === 'saved') {
      this.#unsent = 0;
      this.#refusals.saved();
    }
    this.#save.set(state);
    this.#watchForSilence();
  }

  // The timer runs from the oldest unanswered frame. Typing sends further frames and must not restart it.
  #watchForSilence(): void {
    const answers = this.#tracker.answers;
    if (!this.#tracker.isWaiting || answers !== this.#answersSeen) {
      clearTimeout(this.#waitTimer);
      this.#waitTimer = undefined;
      this.#answersSeen = answers;
    }
    if (!this.#tracker.isWaiting) {
      if (this.#tracker.state === 'saved') this.#patience = this.options.patienceMs ?? PATIENCE_MS;
      return;
    }
    this.#waitTimer ??= setTimeout(() => this.#giveUp(), this.#patience);
  }

  /** Abandons a socket whose server does not answer. The closing handshake would wait for the server too. */
  #giveUp(): void {
    this.#waitTimer = undefined;
    const buffered = this.#current?.bufferedAmount ?? 0;
    if (buffered < this.#buffered) {
      // A large change on a slow line: the server takes it, and can't have answered yet.
      this.#buffered = buffered;
      this.#waitTimer = setTimeout(() => this.#giveUp(), this.#patience);
      return;
    }
    this.#patience = Math.min(this.#patience * 2, MAX_PATIENCE_MS);
    if (this.#closed || this.#ending.get() !== null) return;
    this.#cutOff.set(true);
    const event = { code: 4408, reason: 'no answer' };
    // The provider's own handling of a missing close event skips its listeners; emitting the event runs all of them.
    (this.#socket as unknown as { emit(name: string, payload: unknown): void }).emit('close', { event });
  }

  #told(message: string): void {
    const notice = readNotice(message);
    if (!notice) return;
    this.#refusals.add(notice);
    if (notice.unsaved) this.#note(() => this.#tracker.waitForOthers());
  }

  #synced(): void {
    clearTimeout(this.#cutOffTimer);
    this.#cutOffTimer = undefined;
    this.#cutOff.set(false);
    this.#ready.set(true);
  }

  #disconnected(): void {
    this.#note(() => this.#tracker.closed());
    if (this.#ending.get() !== null || this.#closed) return;
    this.#cutOffTimer ??= setTimeout(() => this.#cutOff.set(true), CUT_OFF_AFTER_MS);
  }

  #closedBy(code: number, reason: string): void {
    const ending = endingOf(code, reason);
    // An expired token can be refreshed.
    if (ending === 'signed-out') return void this.#denied();
    if (ending !== null) return this.#end(ending);
    // The server detached the document but kept the socket: start again.
    if (code === 1000 && this.#isOnline) this.#socket.webSocket?.close();
  }

  async #denied(): Promise<void> {
    const ending = await this.options.whyDenied();
    if (this.#closed || this.#ending.get() !== null) return;
    if (ending !== null) this.#end(ending);
    else if (this.#isOnline) this.#socket.webSocket?.close();
  }

  #end(ending: Ending): void {
    if (ending === 'refused') this.#note(() => this.#tracker.refuse());
    clearTimeout(this.#cutOffTimer);
    this.#cutOffTimer = undefined;
    this.#cutOff.set(false);
    this.#ending.set(ending);
    this.#socket.disconnect();
  }

  #introduce(): void {
    const colour = COLOUR_VALUES[colourOf(this.options.userId)] ?? COLOUR_VALUES[0];
    const user = { id: this.options.userId, name: this.#name, color: colour, colorLight: `${colour}33` };
    this.awareness.setLocalStateField('user', user);
    this.#readPeople();
  }

  #readPeople(): void {
    const me = { userId: this.options.userId, name: this.#name, client: this.doc.clientID };
    const people = readPeople(this.awareness.getStates(), me);
    if (JSON.stringify(people) !== JSON.stringify(this.#people.get())) this.#people.set(people);
  }

  #destroy(): void {
    clearTimeout(this.#cutOffTimer);
    clearTimeout(this.#waitTimer);
    this.#provider.destroy();
    this.#socket.destroy();
    this.doc.destroy();
  }
}

// One open document: its Y.Doc, the stock Hocuspocus provider that keeps it in step with the server, and what the page
// needs to know about both. No DOM and no framework in here; time and the socket's class are handed in.
import { HocuspocusProvider, type HocuspocusProviderConfiguration, HocuspocusProviderWebsocket } from '@hocuspocus/provider';
import { Awareness } from 'y-protocols/awareness';
import * as Y from 'yjs';
import { type Ending, endingOf } from './connection';
import { kindOf } from './frames';
import { bringsThings } from './plain-text';
import { COLOUR_VALUES, type Person, colourOf, readPeople } from './presence';
import { type SaveState, SaveTracker } from './save-state';
import { type Readable, Value } from './value';

/** The protocol's root of a document of kind `text`. */
export const ROOT = 'body';

/** Connections that come back sooner aren't worth a banner. */
export const CUT_OFF_AFTER_MS = 2_000;
/** No acknowledgement for so long, although one is due: connect anew, where the state vectors tell what arrived. */
const PATIENCE_MS = 10_000;
const MAX_PATIENCE_MS = 120_000;
const MAX_RECONNECT_MS = 10_000;
/** How long a closed document may stay open behind the page to send its last edits. */
const LINGER_MS = 10_000;

export type Scope = 'unknown' | 'read-write' | 'readonly';

export interface DocumentOptions {
  readonly roomId: string;
  readonly url: string;
  readonly userId: string;
  readonly token: () => string;
  /** Asked when the server denies the document: why, or null when it may be tried again. */
  readonly whyDenied: () => Promise<Ending | null>;
  readonly socket?: typeof WebSocket;
  /** How long to wait for an acknowledgement before connecting anew; doubles each time it was in vain. */
  readonly patienceMs?: number;
}

/** `ws://host/_weft/client/v1/live/{id}` of the page's own origin. */
export function liveUrl(origin: string, roomId: string): string {
  return `${origin.replace(/^http/, 'ws')}/_weft/client/v1/live/${encodeURIComponent(roomId)}`;
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

  #name: string;
  #cutOffTimer: ReturnType<typeof setTimeout> | undefined;
  #waitTimer: ReturnType<typeof setTimeout> | undefined;
  #patience: number;
  #closed = false;

  constructor(private readonly options: DocumentOptions) {
    this.#name = options.userId;
    this.#patience = options.patienceMs ?? PATIENCE_MS;
    this.doc.on('update', (_update: Uint8Array, origin: unknown) => {
      if (origin !== this.#provider) this.#note(() => this.#tracker.edited());
    });
    // Told before anything that watches the text is called, so that the editor can let go of it in time.
    this.doc.on('beforeObserverCalls', (transaction) => {
      if (bringsThings(transaction, this.text)) this.#unshowable.set(true);
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
  /** Without a connection for longer than a hiccup. */
  get cutOff(): Readable<boolean> {
    return this.#cutOff;
  }
  /** Why this can't go on, once it can't. */
  get ending(): Readable<Ending | null> {
    return this.#ending;
  }
  /** Who is here, me first. */
  get people(): Readable<readonly Person[]> {
    return this.#people;
  }
  /** The text holds what isn't text. */
  get unshowable(): Readable<boolean> {
    return this.#unshowable;
  }
  get hasUnsaved(): boolean {
    return this.#tracker.hasUnsaved;
  }

  /** The name that others see until the server writes its own. */
  rename(name: string): void {
    this.#name = name;
    this.#introduce();
  }

  /** Connects now instead of at the next attempt: the network came back, or the page was looked at again. */
  hurry(): void {
    if (this.#ending.get() === null && !this.#closed && !this.#isOnline) void this.#socket.connect();
  }

  /** Goes on after an ending was cured (a new sign-in). */
  resume(): void {
    this.#ending.set(null);
    void this.#socket.connect();
  }

  /** Ends it; unsent edits get a moment to arrive. */
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
      onClose: ({ event }) => this.#closedBy(event.code, event.reason),
    };
  }

  /** The browser's socket, with each frame shown to the tracker on its way. */
  #countingSocket(Socket: typeof WebSocket): typeof WebSocket {
    const tracker = this.#tracker;
    const note = (change: () => void): void => this.#note(change);
    let current: WebSocket | null = null;
    return class CountingSocket extends Socket {
      constructor(url: string | URL) {
        super(url);
        current = this;
        const mine = (change: () => void) => () => {
          if (current === this) note(change);
        };
        this.addEventListener('open', mine(() => tracker.opened()));
        this.addEventListener('close', mine(() => tracker.closed()));
        this.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
          if (current === this && data instanceof ArrayBuffer) {
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
        if (goes) super.send(frame as Uint8Array<ArrayBuffer>);
      }
    };
  }

  #note(change: () => void): void {
    change();
    this.#save.set(this.#tracker.state);
    this.#watchForSilence();
  }

  #watchForSilence(): void {
    clearTimeout(this.#waitTimer);
    if (!this.#tracker.isWaiting) {
      if (this.#tracker.state === 'saved') this.#patience = this.options.patienceMs ?? PATIENCE_MS;
      return;
    }
    this.#waitTimer = setTimeout(() => {
      this.#patience = Math.min(this.#patience * 2, MAX_PATIENCE_MS);
      this.#socket.webSocket?.close();
    }, this.#patience);
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
    if (ending !== null) return this.#end(ending);
    // The server let go of the document but kept the socket: begin again.
    if (code === 1000 && this.#isOnline) this.#socket.webSocket?.close();
  }

  async #denied(): Promise<void> {
    const ending = await this.options.whyDenied();
    if (this.#closed) return;
    if (ending !== null) this.#end(ending);
    else this.#socket.webSocket?.close();
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

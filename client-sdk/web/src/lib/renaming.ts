// Sends a new title to the server. While the server can't be reached, the title is kept and sent later; if the server
// refuses it, its text is kept for display. A newer title replaces one that is still being sent.
import { ApiError } from './api';
import { type Readable, Value } from './value';

export interface RenameState {
  /** Not yet at the server. */
  readonly pending: string | null;
  /** The last attempt got no answer; another one follows. */
  readonly waiting: boolean;
  readonly refused: { readonly title: string; readonly error: unknown } | null;
}

const IDLE: RenameState = { pending: null, waiting: false, refused: null };

export class Renaming {
  readonly #state = new Value<RenameState>(IDLE);
  #busy = false;

  /** `send` makes the request; `sent` is called after it has succeeded. */
  constructor(
    private readonly send: (title: string) => Promise<void>,
    private readonly sent: (title: string) => void,
  ) {}

  get state(): Readable<RenameState> {
    return this.#state;
  }

  async rename(title: string): Promise<void> {
    this.#state.set({ pending: title, waiting: false, refused: null });
    await this.retry();
  }

  /** Sends what is still pending. */
  async retry(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (;;) {
        const title = this.#state.get().pending;
        if (title === null || !(await this.#attempt(title))) return;
      }
    } finally {
      this.#busy = false;
    }
  }

  dismiss(): void {
    this.#state.set({ ...this.#state.get(), refused: null });
  }

  /** False if further attempts are pointless for now. */
  async #attempt(title: string): Promise<boolean> {
    try {
      await this.send(title);
      this.sent(title);
      if (this.#isNewest(title)) this.#state.set(IDLE);
      return true;
    } catch (error) {
      if (!this.#isNewest(title)) return true;
      if (error instanceof ApiError && (error.isPassing || error.isSignedOut)) {
        this.#state.set({ pending: title, waiting: true, refused: null });
        return false;
      }
      this.#state.set({ pending: null, waiting: false, refused: { title, error } });
      return true;
    }
  }

  #isNewest(title: string): boolean {
    return this.#state.get().pending === title;
  }
}

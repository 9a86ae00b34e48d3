// A new title on its way to the server. While the server can't be reached it is kept and sent later; when the server
// refuses it, the text is kept for the person to see. The newest title wins over one that is still on its way.
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

  /** `send` brings a title to the server; `sent` is called after it has arrived. */
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

  /** False when there is no use in trying on now. */
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

// An observable value, through which components read the state of this folder's classes. It implements Svelte's store
// contract, so that `$value` works.

export type Unsubscribe = () => void;

export interface Readable<T> {
  get(): T;
  /** Calls `listener` at once and after each change. */
  subscribe(listener: (value: T) => void): Unsubscribe;
}

export class Value<T> implements Readable<T> {
  #current: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(initial: T) {
    this.#current = initial;
  }

  get(): T {
    return this.#current;
  }

  set(next: T): void {
    if (Object.is(next, this.#current)) return;
    this.#current = next;
    for (const listener of [...this.#listeners]) listener(next);
  }

  subscribe(listener: (value: T) => void): Unsubscribe {
    this.#listeners.add(listener);
    listener(this.#current);
    return () => this.#listeners.delete(listener);
  }
}

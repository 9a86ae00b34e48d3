// A value that can be watched: the one bridge between the plain logic here and the components (it keeps Svelte's
// store contract, so that `$value` works). It knows nothing of what it holds.

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

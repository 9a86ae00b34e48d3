// What the server did not take of this tab's edits (spec/docs/live.md, "What is refused"): reads its notices, keeps those
// that a person has not dismissed, and gives the text for each. It does not undo anything: the server sends a change that
// deletes what it refused.
import { isUserId, localpart } from './session';
import { type Readable, Value } from './value';

/** The largest update of a live editor (`weft_crdt::limits::LIVE_BYTES`) and its envelope. */
export const MAX_FRAME_BYTES = 8 * 1024 * 1024 + 1_024;
/**
 * Edits that may wait to be saved. All of them are one sync step 2 after a reconnect, together with the document's
 * deletions, for which the rest of a frame is left.
 */
export const MAX_UNSENT_BYTES = 7 * 1024 * 1024;
/** A notice has at most 16 pieces and a few user ids. */
const MAX_NOTICE_LENGTH = 65_536;
const MAX_PIECES = 16;
const MAX_USERS = 16;
const MAX_REMEMBERED = 1_000;

/** Edits of other users in this copy, which only those users may send. */
const OTHERS = 'foreign_client';
/** Not a code of the protocol: the page itself did not insert a text. */
const TOO_LONG = 'too_long';

export interface Notice {
  readonly code: string;
  /** Content that was taken as deleted, as `client:clock`. Empty: the whole update was refused, or nothing of it. */
  readonly pieces: readonly string[];
  /** Whose edits this tab has and the server has not. */
  readonly users: readonly string[];
  /** The person's own edits wait for those. */
  readonly unsaved: boolean;
}

export interface Refusal {
  readonly code: string;
  /** Changes that were not accepted. */
  readonly count: number;
  readonly users: readonly string[];
  readonly unsaved: boolean;
}

interface Block {
  readonly client?: unknown;
  readonly clock?: unknown;
}

const list = <T>(found: unknown, most: number): T[] => (Array.isArray(found) ? found.slice(0, most) : []);

/** Null for anything else than a notice of a refusal. */
export function readNotice(message: string): Notice | null {
  if (message.length > MAX_NOTICE_LENGTH) return null;
  try {
    const value = JSON.parse(message) as Record<string, unknown> | null;
    if (value?.type !== 'dev.weft.refused' || typeof value.code !== 'string') return null;
    return {
      code: value.code,
      pieces: list<Block | null>(value.blocks, MAX_PIECES).map((block) => `${block?.client}:${block?.clock}`),
      users: list<unknown>(value.users, MAX_USERS).filter((user): user is string => typeof user === 'string' && isUserId(user)),
      unsaved: value.unsaved === true,
    };
  } catch {
    return null;
  }
}

export class Refusals {
  readonly #shown = new Value<readonly Refusal[]>([]);
  /** What has been shown once, so that it is not shown again after it was dismissed. */
  readonly #seen = new Set<string>();
  #whole = '';
  /** The key in `#seen` of edits that wait for another user's. */
  #waiting = '';

  get shown(): Readable<readonly Refusal[]> {
    return this.#shown;
  }

  /** The code with which a whole update was refused; empty if none was. */
  get whole(): string {
    return this.#whole;
  }

  add({ code, pieces, users, unsaved }: Notice): void {
    // The save state says so already, for as long as the changes are in this tab.
    if (code === 'read_only' || code === 'locked') return;
    if (code === OTHERS) {
      const key = users.join();
      if (unsaved) this.#waiting = `${key} waits`;
      if (this.#isNew(this.#waiting || key)) this.#show({ code, count: 0, users, unsaved });
    } else if (pieces.length > 0) {
      const count = pieces.filter((piece) => this.#isNew(piece)).length;
      const before = this.#shown.get().find((refusal) => refusal.code === code)?.count ?? 0;
      if (count > 0) this.#show({ code, count: before + count, users: [], unsaved: false });
    } else this.#whole = code;
  }

  /** A text was not inserted, because it could not be sent. */
  tooLong(): void {
    this.#show({ code: TOO_LONG, count: 0, users: [], unsaved: false });
  }

  dismiss(code: string): void {
    this.#shown.set(this.#shown.get().filter((refusal) => refusal.code !== code));
  }

  /** Everything is saved: nothing waits for another user any more. */
  saved(): void {
    if (this.#waiting) this.#seen.delete(this.#waiting);
    this.#waiting = '';
    if (this.#shown.get().some(({ unsaved }) => unsaved)) this.dismiss(OTHERS);
  }

  #isNew(key: string): boolean {
    if (this.#seen.has(key)) return false;
    if (this.#seen.size >= MAX_REMEMBERED) this.#seen.clear();
    this.#seen.add(key);
    return true;
  }

  #show(next: Refusal): void {
    this.#shown.set([...this.#shown.get().filter(({ code }) => code !== next.code), next]);
  }
}

/** How many changes were not accepted, of those that are still shown. */
export function countRefused(refusals: readonly Refusal[]): number {
  return refusals.reduce((sum, { count }) => sum + count, 0);
}

export function countText(count: number): string {
  return count === 1 ? '1 change was not accepted.' : `${count} changes were not accepted.`;
}

export function refusalText({ code, count, users, unsaved }: Refusal): { title: string; text: string } {
  if (code === TOO_LONG) {
    return {
      title: 'This text is too long to insert at once.',
      text: 'Nothing was inserted. At most 7 MB can wait to be saved: insert smaller parts, and wait for “Saved” after each.',
    };
  }
  if (code === OTHERS) {
    // Not only what is right beside them: everything later by the same Yjs client lies behind a gap.
    const text = unsaved
      ? 'What you wrote beside them isn’t saved either, nor what you write after it. Copy your text, then reload the document.'
      : 'Your own changes are saved.';
    return { title: `This tab has unsaved changes of ${users.map(localpart).join(', ')}, which only they can save.`, text };
  }
  return { title: countText(count), text: `${REASONS.get(code) ?? UNSUPPORTED}, and was removed. Everything else is kept. Insert ${code === 'piece_too_large' ? 'a link to it' : 'it as plain text'} instead.` };
}

const REASONS = new Map([
  ['piece_too_large', 'A picture or another single value was larger than 45 KB'],
  ['malformed', 'Something was nested too deeply or had invalid characters'],
]);
const UNSUPPORTED = 'This kind of content isn’t supported';

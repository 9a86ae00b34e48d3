// Draws other people's carets and selections in the editor and publishes the user's own. It replaces y-codemirror's
// plugin, which puts colours from the wire into style attributes and throws on malformed positions. The wire format is
// the same (`cursor: {anchor, head}` as Yjs relative positions), so other Yjs editors can show these carets.
import { type Extension, type Range, StateEffect } from '@codemirror/state';
import { Decoration, type DecorationSet, EditorView, ViewPlugin, type ViewUpdate, WidgetType } from '@codemirror/view';
import * as Y from 'yjs';
import type { LiveDocument } from './document';
import { ROOT } from './document';
import { type CursorPosition, type Person, readCursor } from './presence';

/** Further carets are not drawn: each costs a traversal of the text. */
const MAX_CARETS = 50;
/** Time after a caret's last move at which its name fades. */
const NAME_MS = 3_000;
/** Own cursor moves are sent at most this often. */
const SEND_EVERY_MS = 60;

const redraw = StateEffect.define<null>();

interface Caret {
  anchor: number;
  head: number;
  movedAt: number;
}

class CaretWidget extends WidgetType {
  constructor(
    readonly client: number,
    readonly name: string,
    readonly colour: number,
    readonly named: boolean,
  ) {
    super();
  }

  override eq(other: CaretWidget): boolean {
    return (
      other.client === this.client && other.name === this.name && other.colour === this.colour && other.named === this.named
    );
  }

  override toDOM(): HTMLElement {
    const caret = document.createElement('span');
    caret.append('\u2060');
    const label = document.createElement('span');
    label.className = 'caret-name';
    caret.append(label, '\u2060');
    // Names are in the list of people; a screen reader would read them in the middle of the text.
    caret.setAttribute('aria-hidden', 'true');
    this.#fill(caret);
    return caret;
  }

  override updateDOM(caret: HTMLElement): boolean {
    this.#fill(caret);
    return true;
  }

  override ignoreEvent(): boolean {
    return true;
  }

  #fill(caret: HTMLElement): void {
    caret.className = `caret person-${this.colour}${this.named ? ' caret-named' : ''}`;
    const label = caret.querySelector('.caret-name');
    if (label) label.textContent = this.name;
  }
}

class CaretsPlugin {
  decorations: DecorationSet = Decoration.none;
  readonly #carets = new Map<number, Caret>();
  readonly #stopPeople: () => void;
  #sendTimer: ReturnType<typeof setTimeout> | undefined;
  #fadeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly view: EditorView,
    private readonly live: LiveDocument,
  ) {
    live.awareness.on('change', this.#onAwareness);
    let first = true;
    this.#stopPeople = live.people.subscribe(() => {
      if (!first) this.#requestRedraw();
      first = false;
    });
    this.#place(view.state.doc.length);
    this.#draw(view.state.doc.length);
  }

  update(update: ViewUpdate): void {
    const length = update.state.doc.length;
    const asked = update.transactions.some((transaction) => transaction.effects.some((effect) => effect.is(redraw)));
    if (update.docChanged) {
      for (const caret of this.#carets.values()) {
        caret.anchor = update.changes.mapPos(caret.anchor, 1);
        caret.head = update.changes.mapPos(caret.head, 1);
      }
    }
    if (asked || update.docChanged) {
      this.#place(length);
      this.#draw(length);
    }
    if (update.docChanged || update.selectionSet || update.focusChanged) {
      this.#sendTimer ??= setTimeout(this.#send, SEND_EVERY_MS);
    }
  }

  destroy(): void {
    clearTimeout(this.#sendTimer);
    clearTimeout(this.#fadeTimer);
    this.#stopPeople();
    this.live.awareness.off('change', this.#onAwareness);
    if (this.live.awareness.getLocalState()) this.live.awareness.setLocalStateField('cursor', null);
  }

  /** The position of a person's caret, or null if there is none. */
  find(person: Person): number | null {
    for (const client of person.clients) {
      const caret = this.#carets.get(client);
      if (caret) return caret.head;
    }
    return null;
  }

  readonly #onAwareness = ({ added, updated, removed }: Record<'added' | 'updated' | 'removed', number[]>): void => {
    const mine = this.live.doc.clientID;
    if ([...added, ...updated, ...removed].some((client) => client !== mine)) this.#requestRedraw();
  };

  // Awareness can change in the middle of an editor update, when nothing may be dispatched.
  #redrawAsked = false;
  #requestRedraw(): void {
    if (this.#redrawAsked) return;
    this.#redrawAsked = true;
    queueMicrotask(() => {
      this.#redrawAsked = false;
      if (this.view.dom.isConnected) this.view.dispatch({ effects: redraw.of(null) });
    });
  }

  /** Reads the current positions. A position in text that has not arrived yet leaves the caret where it was. */
  #place(length: number): void {
    const states = this.live.awareness.getStates();
    for (const client of [...this.#carets.keys()]) {
      if (!readCursor(states.get(client), ROOT)) this.#carets.delete(client);
    }
    const now = performance.now();
    for (const [client, state] of states) {
      if (client === this.live.doc.clientID) continue;
      const cursor = readCursor(state, ROOT);
      if (!cursor) continue;
      const known = this.#carets.get(client);
      if (!known && this.#carets.size >= MAX_CARETS) continue;
      const anchor = this.#index(cursor.anchor) ?? known?.anchor;
      const head = this.#index(cursor.head) ?? known?.head;
      if (anchor === undefined || head === undefined) continue;
      const moved = !known || known.head !== head || known.anchor !== anchor;
      this.#carets.set(client, {
        anchor: Math.min(anchor, length),
        head: Math.min(head, length),
        movedAt: moved ? now : known.movedAt,
      });
    }
  }

  #index(position: CursorPosition): number | null {
    try {
      const relative = Y.createRelativePositionFromJSON(position);
      const absolute = Y.createAbsolutePositionFromRelativePosition(relative, this.live.doc);
      return absolute?.type === this.live.text ? absolute.index : null;
    } catch {
      return null;
    }
  }

  #draw(length: number): void {
    const owners = new Map<number, Person>();
    for (const person of this.live.people.get()) for (const client of person.clients) owners.set(client, person);
    const now = performance.now();
    const ranges: Range<Decoration>[] = [];
    let nextFade = Number.POSITIVE_INFINITY;
    for (const [client, caret] of this.#carets) {
      const person = owners.get(client);
      if (!person) continue;
      const [anchor, head] = [Math.min(caret.anchor, length), Math.min(caret.head, length)];
      if (anchor !== head) {
        const mark = Decoration.mark({ class: `selection person-${person.colour}` });
        ranges.push(mark.range(Math.min(anchor, head), Math.max(anchor, head)));
      }
      const fresh = now - caret.movedAt < NAME_MS;
      if (fresh) nextFade = Math.min(nextFade, caret.movedAt + NAME_MS - now);
      const widget = new CaretWidget(client, person.name, person.colour, fresh);
      ranges.push(Decoration.widget({ widget, side: head > anchor ? -1 : 1 }).range(head));
    }
    this.decorations = Decoration.set(ranges, true);
    clearTimeout(this.#fadeTimer);
    if (Number.isFinite(nextFade)) this.#fadeTimer = setTimeout(() => this.#requestRedraw(), nextFade + 20);
  }

  readonly #send = (): void => {
    this.#sendTimer = undefined;
    const { awareness, text } = this.live;
    const own = awareness.getLocalState();
    // Without focus the caret stays at its last position: typing continues there.
    if (!own || !this.view.hasFocus) return;
    const { anchor, head } = this.view.state.selection.main;
    const cursor = {
      anchor: Y.relativePositionToJSON(Y.createRelativePositionFromTypeIndex(text, anchor)),
      head: Y.relativePositionToJSON(Y.createRelativePositionFromTypeIndex(text, head)),
    };
    if (JSON.stringify(own['cursor']) !== JSON.stringify(cursor)) awareness.setLocalStateField('cursor', cursor);
  };
}

const caretsPlugin = ViewPlugin.fromClass(CaretsPlugin, { decorations: (plugin) => plugin.decorations });

export function carets(live: LiveDocument): Extension {
  return caretsPlugin.of(live);
}

/** Scrolls to a person's caret. False if there is none. */
export function goTo(view: EditorView, person: Person): boolean {
  const at = view.plugin(caretsPlugin)?.find(person) ?? null;
  if (at === null) return false;
  view.dispatch({ effects: EditorView.scrollIntoView(at, { y: 'center' }) });
  return true;
}

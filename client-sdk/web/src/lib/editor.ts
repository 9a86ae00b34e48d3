// The text editor: CodeMirror 6 on the document's Y.Text, with undo of one's own edits only and a search panel.
// Its appearance is in app.css; carets.ts draws what others do.
import { defaultKeymap } from '@codemirror/commands';
import { openSearchPanel, search, searchKeymap } from '@codemirror/search';
import { Compartment, EditorState, type Extension, type Transaction } from '@codemirror/state';
import { EditorView, keymap, placeholder } from '@codemirror/view';
import { ySyncAnnotation, yCollab, yUndoManagerKeymap } from 'y-codemirror.next';
import { carets } from './carets';
import type { LiveDocument } from './document';

/** Free space kept above and below the caret when scrolling to it, besides what the bar at the top covers. */
const MARGIN_TOP = 28;
const MARGIN_BOTTOM = 64;

/** Of the search's keys those that the list of shortcuts names; the others would surprise. */
const SEARCH_KEYS = searchKeymap.filter(({ key }) => key === 'Mod-f' || key === 'F3' || key === 'Mod-g' || key === 'Escape');

/** CodeMirror's words for its search panel, and ours. */
const PHRASES = {
  next: 'Next',
  previous: 'Previous',
  'match case': 'Match case',
  regexp: 'Regular expression',
  'by word': 'Whole words',
  replace: 'Replace',
  'replace all': 'Replace all',
  close: 'Close the search',
  'current match': 'current match',
  'on line': 'on line',
};

/** Halves of surrogate pairs, which UTF-8 can't represent: others would get another text than the one here. */
const HALF_PAIRS = /\p{Surrogate}/gu;

export interface TextEditor {
  readonly view: EditorView;
  setEditable(editable: boolean): void;
  find(): void;
  destroy(): void;
}

export interface EditorOptions {
  readonly parent: HTMLElement;
  readonly live: LiveDocument;
  readonly editable: boolean;
  /** Height of the bar that covers the top of the window. */
  readonly barHeight: () => number;
}

export function createTextEditor({ parent, live, editable, barHeight }: EditorOptions): TextEditor {
  const mode = new Compartment();
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: live.text.toString(),
      extensions: [
        // Only \n ends a line: if \r did too, positions here and in the Y.Text would drift apart.
        EditorState.lineSeparator.of('\n'),
        EditorView.clipboardInputFilter.of((pasted) => pasted.replace(/\r\n?/g, '\n').replace(HALF_PAIRS, '\ufffd')),
        EditorState.changeFilter.of((transaction) => !isLocal(transaction) || live.admits(insertedBytes(transaction))),
        EditorView.lineWrapping,
        EditorView.scrollMargins.of(() => ({ top: barHeight() + MARGIN_TOP, bottom: MARGIN_BOTTOM })),
        EditorState.phrases.of(PHRASES),
        search({ top: true, scrollToMatch: (range) => EditorView.scrollIntoView(range, { y: 'center' }) }),
        keymap.of(SEARCH_KEYS),
        mode.of(modeFor(editable)),
        // No awareness for yCollab: see carets.ts.
        yCollab(live.text, null),
        carets(live),
      ],
    }),
  });
  let destroyed = false;
  const destroy = (): void => {
    if (destroyed) return;
    destroyed = true;
    stop();
    view.destroy();
  };
  // At once, not when the page gets to it: see plain-text.ts.
  let stop = (): void => {};
  stop = live.unshowable.subscribe((unshowable) => unshowable && destroy());
  return {
    view,
    setEditable: (next) => {
      if (!destroyed) view.dispatch({ effects: mode.reconfigure(modeFor(next)) });
    },
    find: () => {
      if (!destroyed) openSearchPanel(view);
    },
    destroy,
  };
}

function modeFor(editable: boolean): Extension {
  const attributes = EditorView.contentAttributes.of({
    'aria-label': 'Document text',
    'aria-readonly': String(!editable),
    spellcheck: 'true',
    autocapitalize: 'sentences',
    autocorrect: 'on',
    // Still reachable by keyboard for reading and copying.
    tabindex: '0',
  });
  if (!editable) return [attributes, EditorState.readOnly.of(true), EditorView.editable.of(false)];
  // Undo is an edit too, so its keys go with the right to edit. Tab is left to move the focus.
  return [attributes, placeholder('Start writing…'), keymap.of([...yUndoManagerKeymap, ...defaultKeymap])];
}

/** Of this editor and not from the Y.Text, which must never be filtered. */
function isLocal(transaction: Transaction): boolean {
  return transaction.docChanged && transaction.annotation(ySyncAnnotation) === undefined;
}

/** The size of the inserted text in UTF-8; for what is typed the most that it can be. */
function insertedBytes({ changes }: Transaction): number {
  let bytes = 0;
  changes.iterChanges((_fromA, _toA, _fromB, _toB, inserted) => {
    bytes += inserted.length < 1024 ? inserted.length * 3 : new TextEncoder().encode(inserted.toString()).length;
  });
  return bytes;
}

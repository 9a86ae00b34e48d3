// The text editor: CodeMirror 6 on the document's Y.Text, with undo of one's own edits only. Looks are in app.css; what
// others do is drawn by carets.ts.
import { defaultKeymap } from '@codemirror/commands';
import { Compartment, EditorState, type Extension } from '@codemirror/state';
import { EditorView, keymap, placeholder } from '@codemirror/view';
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next';
import { carets } from './carets';
import type { LiveDocument } from './document';

/** Space that the bar on top, and a thumb at the bottom, cover. */
const SCROLL_MARGINS = { top: 88, bottom: 64 };

export interface TextEditor {
  readonly view: EditorView;
  setEditable(editable: boolean): void;
  destroy(): void;
}

export function createTextEditor(parent: HTMLElement, live: LiveDocument, editable: boolean): TextEditor {
  const mode = new Compartment();
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: live.text.toString(),
      extensions: [
        // Only \n ends a line: were \r taken for one too, positions here and in the Y.Text would drift apart.
        EditorState.lineSeparator.of('\n'),
        EditorView.clipboardInputFilter.of((pasted) => pasted.replace(/\r\n?/g, '\n')),
        EditorView.lineWrapping,
        EditorView.scrollMargins.of(() => SCROLL_MARGINS),
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
  // Undo is an edit too, so its keys go with the right to edit. Tab is left to move the focus on.
  return [attributes, placeholder('Start writing…'), keymap.of([...yUndoManagerKeymap, ...defaultKeymap])];
}

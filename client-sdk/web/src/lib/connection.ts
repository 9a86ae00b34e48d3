// What a closed socket or a denied document means for the person: permanent (44xx) or worth another attempt (45xx), and
// the text that says so.

/** Why a document can't be used any more. */
export type Ending = 'signed-out' | 'no-access' | 'not-found' | 'refused' | 'broken' | 'rebuilt';

/** The codes of the protocol's live socket (spec/docs/live.md). Null: the provider reconnects by itself. */
export function endingOf(code: number, reason = ''): Ending | null {
  switch (code) {
    case 1000:
      // Hocuspocus' own close message, which detaches one document and has no code.
      return ENDING_OF_REASON.get(reason) ?? null;
    case 4401:
      return 'signed-out';
    case 4403:
      return 'no-access';
    case 4404:
      return 'not-found';
    case 4422:
    case 4413:
    case 1009:
      return 'refused';
    case 4505:
    case 4205:
      return 'rebuilt';
    default:
      return code >= 4400 && code < 4500 && code !== 4408 ? 'broken' : null;
  }
}

const ENDING_OF_REASON: ReadonlyMap<string, Ending> = new Map([
  ['unauthorized', 'signed-out'],
  ['forbidden', 'no-access'],
  ['no such document', 'not-found'],
  ['update refused', 'refused'],
  ['message too large', 'refused'],
  ['document was rebuilt', 'rebuilt'],
]);

export interface EndingText {
  readonly title: string;
  readonly text: string;
}

const ENDING_TEXT: Record<Ending, EndingText> = {
  'signed-out': {
    title: 'You have been signed out.',
    text: 'Sign in again to continue. The text in this tab is kept.',
  },
  'no-access': {
    title: 'You no longer have access.',
    text: 'Someone who manages this document removed you. You can still copy the text that you see.',
  },
  'not-found': {
    title: 'This document is no longer available.',
    text: 'It was deleted, or this server no longer has a copy.',
  },
  refused: {
    title: 'Your last change wasn’t accepted.',
    text: 'It is not valid. Copy your text, then reload the document.',
  },
  broken: {
    title: 'This page is out of date.',
    text: 'The server speaks another version of the protocol. Reload the page.',
  },
  rebuilt: {
    title: 'The document was rebuilt.',
    text: 'The server restored it from its signed history. Reload to see the current text.',
  },
};

/** `code`: the rule by which the whole of a change was refused, if the server has named one. */
export function endingText(ending: Ending, code: string): EndingText {
  if (ending !== 'refused' || code !== 'too_large') return ENDING_TEXT[ending];
  return {
    title: 'Your last change is too large.',
    text: 'A change has at most 8 MB, a document 64 MB. Copy your text, reload the document, and insert smaller parts.',
  };
}

// What a closed socket or a denied sign-in means for the person: for ever (44xx), try again (45xx), and in which words.

/** Why a document can't be worked on, for good. */
export type Ending = 'signed-out' | 'no-access' | 'not-found' | 'refused' | 'broken' | 'rebuilt';

/** The codes of the protocol's live socket (spec/docs/live.md). Null: the provider connects again by itself. */
export function endingOf(code: number, reason = ''): Ending | null {
  switch (code) {
    case 1000:
      // Hocuspocus' own close message, which lets go of one document and has no code.
      return ENDING_OF_REASON.get(reason) ?? null;
    case 4401:
      return 'signed-out';
    case 4403:
      return 'no-access';
    case 4404:
      return 'not-found';
    case 4422:
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
  ['document was rebuilt', 'rebuilt'],
]);

export interface EndingWords {
  readonly title: string;
  readonly text: string;
}

export const ENDING_WORDS: Record<Ending, EndingWords> = {
  'signed-out': {
    title: 'You have been signed out',
    text: 'Your session has ended. Sign in again to go on; what you see stays here.',
  },
  'no-access': {
    title: 'You no longer have access',
    text: 'Somebody who manages this document has removed you, or you were never invited. Ask them if that is a surprise.',
  },
  'not-found': {
    title: 'This document isn’t here',
    text: 'It may never have existed, or this server doesn’t hold a copy of it.',
  },
  refused: {
    title: 'Your last change wasn’t accepted',
    text: 'The server can’t take it, and sending it again won’t help. Copy your text, then reload the document.',
  },
  broken: {
    title: 'This page and the server don’t understand each other',
    text: 'Reload to get the page’s current version.',
  },
  rebuilt: {
    title: 'The document was rebuilt',
    text: 'The server has rebuilt it from its signed history. Reload to see it as it is now.',
  },
};

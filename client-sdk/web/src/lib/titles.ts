// Titles are untrusted: members on any server can set them. Displayed titles contain no characters that reorder the
// text around them or break the line.

/** In characters, as the title field allows; the server's own limit is in bytes. */
export const MAX_TITLE = 200;
export const UNTITLED = 'Untitled';

/**
 * Explicit bidirectional embeddings, overrides and isolates (U+202A-E, U+2066-9). The marks U+200E and U+200F stay:
 * titles in right-to-left scripts need them, and they act on nothing beyond their neighbours.
 */
const DIRECTION_CONTROLS = /[\u202a-\u202e\u2066-\u2069]/g;
const BREAKS = /[\p{Cc}\p{Zl}\p{Zp}\s]+/gu;

/** A title to be kept: on one line, without direction controls. */
export function cleanTitle(title: string): string {
  return title.replace(DIRECTION_CONTROLS, '').replace(BREAKS, ' ').trim();
}

/** A title to be shown. */
export function shownTitle(title: string): string {
  return cleanTitle(title) || UNTITLED;
}

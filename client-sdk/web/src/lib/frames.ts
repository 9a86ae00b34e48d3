// Tells what kind of frame passes on the socket: just enough of Hocuspocus' framing to count edits and their
// acknowledgements. It never looks at an update's bytes.
import { createDecoder, readVarString, readVarUint } from 'lib0/decoding';

export type FrameKind =
  /** The other side says what it has and asks for the rest. */
  | 'sync-request'
  /** The answer to that: everything that the other side lacked. */
  | 'sync-reply'
  /** One change. */
  | 'update'
  /** The server has what was sent, on disk. */
  | 'accepted'
  /** The server won't take what was sent. */
  | 'refused'
  | 'other';

const SYNC = 0;
const SYNC_STATUS = 8;
const SYNC_KINDS: readonly FrameKind[] = ['sync-request', 'sync-reply', 'update'];

export function kindOf(frame: Uint8Array): FrameKind {
  // Connection-level pings are one byte and name no document.
  if (frame.length < 2) return 'other';
  try {
    const decoder = createDecoder(frame);
    readVarString(decoder);
    const type = readVarUint(decoder);
    if (type === SYNC) return SYNC_KINDS[readVarUint(decoder)] ?? 'other';
    if (type === SYNC_STATUS) return readVarUint(decoder) === 1 ? 'accepted' : 'refused';
    return 'other';
  } catch {
    return 'other';
  }
}

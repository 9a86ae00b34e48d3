// Classifies frames on the socket: just enough of Hocuspocus' framing to count edits and their acknowledgements.
// It never reads an update's bytes.
import { createDecoder, readVarString, readVarUint } from 'lib0/decoding';

export type FrameKind =
  /** Sync step 1: a state vector. */
  | 'sync-request'
  /** Sync step 2: everything that the other side lacks. */
  | 'sync-reply'
  /** A single change. */
  | 'update'
  /** The server has written the edit to disk. */
  | 'accepted'
  /** The server rejected the edit. */
  | 'refused'
  | 'other';

const SYNC = 0;
const SYNC_STATUS = 8;
const SYNC_KINDS: readonly FrameKind[] = ['sync-request', 'sync-reply', 'update'];

export function kindOf(frame: Uint8Array): FrameKind {
  // Connection-level pings are a single byte without a document name.
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

// Hocuspocus frames as the stand-in needs them: reading what the page sends, writing what it expects.
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';

export const SYNC = 0;
export const AWARENESS = 1;
export const AUTH = 2;
export const STATELESS = 5;
export const SYNC_STATUS = 8;

/** Reads the envelope: the document's name, the type, and a decoder that stands at the body. */
export function open(data) {
  const bytes = new Uint8Array(data);
  if (bytes.length < 2) return null;
  const decoder = decoding.createDecoder(bytes);
  return { name: decoding.readVarString(decoder), type: decoding.readVarUint(decoder), decoder };
}

/** A frame of `type` for `name`; `body` writes the rest. */
export function frame(name, type, body) {
  const encoder = encoding.createEncoder();
  encoding.writeVarString(encoder, name);
  encoding.writeVarUint(encoder, type);
  body(encoder);
  return encoding.toUint8Array(encoder);
}

export const authenticated = (name, scope) =>
  frame(name, AUTH, (encoder) => {
    encoding.writeVarUint(encoder, 2);
    encoding.writeVarString(encoder, scope);
  });

export const denied = (name, reason) =>
  frame(name, AUTH, (encoder) => {
    encoding.writeVarUint(encoder, 1);
    encoding.writeVarString(encoder, reason);
  });

export const syncStatus = (name, applied) =>
  frame(name, SYNC_STATUS, (encoder) => encoding.writeVarUint(encoder, applied ? 1 : 0));

export const notice = (name, fields) =>
  frame(name, STATELESS, (encoder) => encoding.writeVarString(encoder, JSON.stringify({ type: 'dev.weft.refused', reason: 'for a person', ...fields })));

export const ping = () => new Uint8Array([9]);

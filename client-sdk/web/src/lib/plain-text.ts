// Whether a Y.Text contains only text. Anybody who may edit can insert other content (an image, a nested type), and an
// editor of plain text would then count positions wrongly; the CodeMirror binding even loops forever on one.
import * as Y from 'yjs';

/** Whether the transaction inserted countable content other than text into `text`. Reads new items only. */
export function bringsThings(transaction: Y.Transaction, text: Y.Text): boolean {
  for (const [client, end] of transaction.afterState) {
    const start = transaction.beforeState.get(client) ?? 0;
    if (end <= start) continue;
    const structs = transaction.doc.store.clients.get(client) ?? [];
    // Structs are sorted by clock, so new ones are at the end.
    for (let i = structs.length - 1; i >= 0; i -= 1) {
      const struct = structs[i];
      if (!struct || struct.id.clock + struct.length <= start) break;
      if (isThing(struct, text)) return true;
    }
  }
  return false;
}

function isThing(struct: Y.AbstractStruct, text: Y.Text): boolean {
  if (!(struct instanceof Y.Item) || struct.deleted || struct.parent !== text || struct.parentSub !== null) return false;
  return struct.countable && !(struct.content instanceof Y.ContentString);
}

/** Whether `text` contains countable content other than text. Reads all of it. */
export function holdsThings(text: Y.Text): boolean {
  for (let item = text._start; item; item = item.right) if (isThing(item, text)) return true;
  return false;
}

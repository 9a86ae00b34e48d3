// What isn't text is noticed in the very transaction that brings it, and plain edits never are taken for it.
import { describe, expect, it } from 'vitest';
import * as Y from 'yjs';
import { bringsThings, holdsThings } from './plain-text';

function watched() {
  const doc = new Y.Doc();
  const text = doc.getText('body');
  const seen: boolean[] = [];
  doc.on('beforeObserverCalls', (transaction) => seen.push(bringsThings(transaction, text)));
  return { doc, text, seen };
}

describe('a text', () => {
  it('of letters, formats and other roots is plain', () => {
    const { doc, text, seen } = watched();
    text.insert(0, 'hello');
    text.format(0, 2, { bold: true });
    text.delete(1, 2);
    text.setAttribute('language', 'en');
    doc.getMap('elsewhere').set('a', new Y.Map());
    doc.getText('other').insertEmbed(0, { image: 'x' });
    expect(seen).not.toContain(true);
  });

  it('with an embed or a type in it is not, also when it comes from elsewhere', () => {
    for (const thing of [{ image: 'x' }, new Y.Map()]) {
      const source = new Y.Doc();
      source.getText('body').insert(0, 'abc');
      source.getText('body').insertEmbed(1, thing);
      source.getText('body').insert(4, 'more');
      const { doc, seen } = watched();
      Y.applyUpdate(doc, Y.encodeStateAsUpdate(source));
      expect(seen).toContain(true);
    }
  });

  it('is plain again when what is not text has been deleted', () => {
    const { text } = watched();
    text.insert(0, 'abc');
    expect(holdsThings(text)).toBe(false);
    text.insertEmbed(1, { image: 'x' });
    text.insertEmbed(4, { image: 'y' });
    text.format(0, 1, { bold: true });
    expect(holdsThings(text)).toBe(true);
    text.delete(1, 1);
    expect(holdsThings(text)).toBe(true);
    text.delete(3, 1);
    expect(holdsThings(text)).toBe(false);
  });
});

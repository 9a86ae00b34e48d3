// Notices come from the server as text: what is read of them, what is shown, and how often.
import { describe, expect, it } from 'vitest';
import { endingText } from './connection';
import { type Notice, Refusals, countRefused, readNotice, refusalText } from './refusals';

function notice(fields: Record<string, unknown>): Notice {
  const read = readNotice(JSON.stringify({ type: 'dev.weft.refused', reason: 'words of the server', ...fields }));
  if (!read) throw new Error('not read');
  return read;
}
const block = (clock: number) => ({ client: 7, clock, length: 1 });
const PICTURE = { code: 'piece_too_large', blocks: [block(3)] };
const OTHERS = { code: 'foreign_client', users: ['@bob:example.org'] };

describe('a notice', () => {
  it.each(['', '{', 'null', '7', '[]', '"dev.weft.refused"', '{}', '{"type":"dev.weft.other","code":"x"}', '{"type":"dev.weft.refused"}', '{"type":"dev.weft.refused","code":1}'])(
    '%j is none',
    (message) => expect(readNotice(message)).toBeNull(),
  );

  it('that is longer than any notice is not read', () => {
    expect(readNotice(JSON.stringify({ type: 'dev.weft.refused', code: 'x', reason: 'x'.repeat(70_000) }))).toBeNull();
  });

  it('with fields of other types is read without them', () => {
    expect(notice({ code: 'x', blocks: 'none', users: [1, null, '@bob:example.org', '<b>'], unsaved: 'yes' })).toEqual({
      code: 'x',
      pieces: [],
      users: ['@bob:example.org'],
      unsaved: false,
    });
    expect(notice({ code: 'x', blocks: [null, 7, ...Array.from({ length: 50 }, (_, i) => block(i))] }).pieces).toHaveLength(16);
  });
});

describe('refusals', () => {
  it('are counted by rule, and the same one once', () => {
    const refusals = new Refusals();
    refusals.add(notice(PICTURE));
    refusals.add(notice(PICTURE));
    refusals.add(notice({ code: 'piece_too_large', blocks: [block(3), block(9)] }));
    refusals.add(notice({ code: 'malformed', blocks: [block(20)] }));
    expect(refusals.shown.get().map(({ code, count }) => [code, count])).toEqual([
      ['piece_too_large', 2],
      ['malformed', 1],
    ]);
    expect(countRefused(refusals.shown.get())).toBe(3);
    expect(refusals.whole).toBe('');
  });

  it('for lack of a right are left to the save state', () => {
    const refusals = new Refusals();
    refusals.add(notice({ code: 'read_only', blocks: [block(3)] }));
    refusals.add(notice({ code: 'read_only' }));
    expect(refusals.shown.get()).toEqual([]);
    expect(refusals.whole).toBe('');
  });

  it('that were dismissed come back for another change only', () => {
    const refusals = new Refusals();
    refusals.add(notice(PICTURE));
    refusals.dismiss('piece_too_large');
    refusals.add(notice(PICTURE));
    expect(refusals.shown.get()).toEqual([]);
    refusals.add(notice({ code: 'piece_too_large', blocks: [block(9)] }));
    expect(countRefused(refusals.shown.get())).toBe(1);
  });

  it('of a whole change are told by its ending', () => {
    const refusals = new Refusals();
    refusals.add(notice({ code: 'too_large' }));
    expect(refusals.shown.get()).toEqual([]);
    expect(endingText('refused', refusals.whole).title).toBe('Your last change is too large.');
    expect(endingText('refused', 'malformed').text).toContain('not valid');
    expect(endingText('no-access', 'too_large').title).toBe('You no longer have access.');
  });

  it('of another user’s edits are shown again when own ones begin to wait, and end with “Saved”', () => {
    const refusals = new Refusals();
    refusals.add(notice(OTHERS));
    refusals.dismiss('foreign_client');
    refusals.add(notice(OTHERS));
    expect(refusals.shown.get()).toEqual([]);
    refusals.add(notice({ ...OTHERS, unsaved: true }));
    expect(refusals.shown.get().map(({ unsaved, count }) => [unsaved, count])).toEqual([[true, 0]]);
    refusals.saved();
    expect(refusals.shown.get()).toEqual([]);
    // It may begin to wait again after it was saved.
    refusals.add(notice({ ...OTHERS, unsaved: true }));
    expect(refusals.shown.get()).toHaveLength(1);
  });

  it('remember a bounded number of changes', () => {
    const refusals = new Refusals();
    for (let clock = 0; clock < 5_000; clock += 1) refusals.add(notice({ code: 'malformed', blocks: [block(clock)] }));
    expect(countRefused(refusals.shown.get())).toBe(5_000);
    expect(refusals.shown.get()).toHaveLength(1);
  });
});

describe('the text for a refusal', () => {
  const text = (fields: Record<string, unknown>) => {
    const refusals = new Refusals();
    refusals.add(notice(fields));
    const [shown] = refusals.shown.get();
    if (!shown) throw new Error('nothing is shown');
    return refusalText(shown);
  };

  it.each(['piece_too_large', 'malformed', 'sub_document', 'legacy_json', 'xml_hook', 'constructor', '<b>'])('%s has no code in it and says what stays', (code) => {
    const { title, text: rest } = text({ code, blocks: [block(1)] });
    expect(title).toBe('1 change was not accepted.');
    expect(rest).toContain('was removed');
    expect(rest).toContain('Everything else is kept.');
    expect(rest).not.toMatch(/_|<|undefined|function/);
  });

  it('names the people whose edits are in this tab', () => {
    expect(text({ ...OTHERS, unsaved: true }).title).toContain('unsaved changes of bob');
    expect(text({ ...OTHERS, unsaved: true }).text).toContain('isn’t saved');
    expect(text(OTHERS).text).toBe('Your own changes are saved.');
  });
});

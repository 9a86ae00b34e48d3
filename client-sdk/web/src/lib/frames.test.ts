// Frames are told apart by their envelope, and broken ones are nothing.
import { createEncoder, toUint8Array, writeVarString, writeVarUint, writeVarUint8Array } from 'lib0/encoding';
import { describe, expect, it } from 'vitest';
import { endingOf } from './connection';
import { type FrameKind, kindOf } from './frames';

function frame(...numbers: number[]): Uint8Array {
  const encoder = createEncoder();
  writeVarString(encoder, '!room:x');
  for (const number of numbers) writeVarUint(encoder, number);
  writeVarUint8Array(encoder, new Uint8Array([1, 2, 3]));
  return toUint8Array(encoder);
}

describe('frames', () => {
  it.each<[FrameKind, number[]]>([
    ['sync-request', [0, 0]],
    ['sync-reply', [0, 1]],
    ['update', [0, 2]],
    ['other', [0, 3]],
    ['other', [1]],
    ['refused', [8, 0]],
    ['accepted', [8, 1]],
    ['refused', [8, 2]],
  ])('%s is %j', (kind, numbers) => {
    expect(kindOf(frame(...numbers))).toBe(kind);
  });

  it('that are cut off anywhere count as nothing that matters', () => {
    const whole = frame(0, 2).subarray(0, 10);
    for (let length = 0; length < whole.length - 1; length += 1) expect(kindOf(whole.subarray(0, length))).toBe('other');
    expect(kindOf(new Uint8Array([9]))).toBe('other');
    expect(kindOf(new Uint8Array(64).fill(255))).toBe('other');
  });
});

describe('close codes', () => {
  it.each([
    [4401, 'signed-out'],
    [4403, 'no-access'],
    [4404, 'not-found'],
    [4422, 'refused'],
    [4413, 'refused'],
    [1009, 'refused'],
    [4400, 'broken'],
    [4505, 'rebuilt'],
  ] as const)('%i ends it: %s', (code, ending) => expect(endingOf(code)).toBe(ending));

  it.each([1000, 1001, 1006, 1011, 4408, 4500, 4503, 4508, 4529])('%i means try again', (code) => expect(endingOf(code)).toBeNull());

  it('of one document among several come as a reason', () => {
    expect(endingOf(1000, 'forbidden')).toBe('no-access');
    expect(endingOf(1000, 'server is restarting')).toBeNull();
  });
});

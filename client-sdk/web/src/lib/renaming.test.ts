// A new title is sent, kept while there is no connection, or refused with its text kept; it is never dropped silently.
import { expect, it } from 'vitest';
import { ApiError } from './api';
import { Renaming } from './renaming';

function document(...answers: (ApiError | null)[]) {
  const sent: string[] = [];
  const arrived: string[] = [];
  const renaming = new Renaming(
    async (title) => {
      sent.push(title);
      const error = answers.shift();
      if (error) throw error;
    },
    (title) => arrived.push(title),
  );
  return { renaming, sent, arrived };
}
const offline = new ApiError(0, 'UNREACHABLE', '');

it('arrives', async () => {
  const { renaming, arrived } = document();
  await renaming.rename('A');
  expect([arrived, renaming.state.get()]).toEqual([['A'], { pending: null, waiting: false, refused: null }]);
});

it.each([offline, new ApiError(503, '', ''), new ApiError(429, '', ''), new ApiError(401, 'M_UNKNOWN_TOKEN', '')])('is kept and sent later after %o', async (error) => {
  const { renaming, sent, arrived } = document(error, error);
  await renaming.rename('A');
  await renaming.retry();
  expect(renaming.state.get()).toEqual({ pending: 'A', waiting: true, refused: null });
  await renaming.retry();
  expect([sent, arrived, renaming.state.get().pending]).toEqual([['A', 'A', 'A'], ['A'], null]);
  await renaming.retry();
  expect(sent).toHaveLength(3);
});

it('is refused with its text', async () => {
  const error = new ApiError(403, 'M_FORBIDDEN', '');
  const { renaming, arrived } = document(error);
  await renaming.rename('A');
  expect([arrived, renaming.state.get()]).toEqual([[], { pending: null, waiting: false, refused: { title: 'A', error } }]);
  renaming.dismiss();
  expect(renaming.state.get().refused).toBeNull();
});

it('gives way to a newer one, whatever became of the older', async () => {
  for (const first of [null, offline, new ApiError(403, 'M_FORBIDDEN', '')]) {
    const { renaming, sent, arrived } = document(first);
    const one = renaming.rename('A');
    const two = renaming.rename('B');
    await Promise.all([one, two]);
    expect([sent, arrived.at(-1), renaming.state.get()]).toEqual([['A', 'B'], 'B', { pending: null, waiting: false, refused: null }]);
  }
});

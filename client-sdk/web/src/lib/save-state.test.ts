// "Saved" is a promise: these are the ways in which it could be made too early.
import { describe, expect, it } from 'vitest';
import { SaveTracker } from './save-state';

/** Connected, and the server has acknowledged the first exchange. */
function connected(): SaveTracker {
  const tracker = new SaveTracker();
  reconnect(tracker);
  tracker.received('accepted');
  return tracker;
}

function reconnect(tracker: SaveTracker): void {
  tracker.opened();
  tracker.sending('sync-request');
  tracker.received('sync-request');
  tracker.sending('sync-reply');
}

describe('save state', () => {
  it('says nothing about saving before the first acknowledgement', () => {
    const tracker = new SaveTracker();
    expect(tracker.state).toBe('opening');
    reconnect(tracker);
    expect(tracker.state).toBe('opening');
    tracker.received('accepted');
    expect(tracker.state).toBe('saved');
    expect(tracker.hasUnsaved).toBe(false);
  });

  it('is saved only when each change is acknowledged', () => {
    const tracker = connected();
    for (let i = 0; i < 3; i += 1) {
      tracker.edited();
      tracker.sending('update');
    }
    tracker.received('accepted');
    tracker.received('accepted');
    expect(tracker.state).toBe('saving');
    expect(tracker.isWaiting).toBe(true);
    tracker.received('accepted');
    expect(tracker.state).toBe('saved');
  });

  it('takes no other frame for an acknowledgement', () => {
    const tracker = connected();
    tracker.edited();
    tracker.sending('update');
    for (const kind of ['update', 'sync-request', 'sync-reply', 'other'] as const) tracker.received(kind);
    expect(tracker.state).toBe('saving');
  });

  it('keeps edits of a lost connection unsaved until the next one has acknowledged its sync reply', () => {
    const tracker = connected();
    tracker.edited();
    tracker.sending('update');
    tracker.closed();
    expect(tracker.state).toBe('offline-unsaved');
    tracker.opened();
    expect(tracker.state).toBe('saving');
    // What the provider kept in its queue is left out: the sync reply holds it. An acknowledgement that arrives now
    // can't be one for it.
    expect(tracker.sending('update')).toBe(false);
    tracker.received('accepted');
    expect(tracker.state).toBe('saving');
    tracker.received('sync-request');
    expect(tracker.sending('sync-reply')).toBe(true);
    expect(tracker.state).toBe('saving');
    tracker.received('accepted');
    expect(tracker.state).toBe('saved');
  });

  it('tells a lost connection with nothing unsaved from one with something', () => {
    const tracker = connected();
    tracker.closed();
    expect(tracker.state).toBe('offline');
    expect(tracker.hasUnsaved).toBe(false);
    tracker.edited();
    expect(tracker.state).toBe('offline-unsaved');
    expect(tracker.hasUnsaved).toBe(true);
  });

  it('never calls a refused change saved, whatever comes after', () => {
    const tracker = connected();
    tracker.edited();
    tracker.sending('update');
    tracker.received('refused');
    expect(tracker.state).toBe('refused');
    tracker.edited();
    tracker.sending('update');
    tracker.received('accepted');
    tracker.closed();
    reconnect(tracker);
    tracker.received('accepted');
    expect(tracker.state).toBe('refused');
    expect(tracker.hasUnsaved).toBe(true);
  });

  it('waits for an acknowledgement only while connected', () => {
    const tracker = connected();
    tracker.edited();
    tracker.sending('update');
    tracker.closed();
    expect(tracker.isWaiting).toBe(false);
  });

  it('waits for another user without waiting for an answer, and is saved only with the acknowledgement', () => {
    const tracker = connected();
    tracker.edited();
    tracker.sending('update');
    tracker.waitForOthers();
    expect(tracker.state).toBe('waiting');
    expect(tracker.isWaiting).toBe(false);
    expect(tracker.hasUnsaved).toBe(true);
    // Another edit is saved meanwhile; the first is not.
    tracker.edited();
    tracker.sending('update');
    tracker.received('accepted');
    expect(tracker.state).toBe('waiting');
    tracker.received('accepted');
    expect(tracker.state).toBe('saved');
    tracker.edited();
    tracker.sending('update');
    expect(tracker.state).toBe('saving');
    expect(tracker.isWaiting).toBe(true);
  });

  it('is not saved when it is told to wait, although every edit so far was acknowledged', () => {
    const tracker = connected();
    tracker.edited();
    tracker.sending('update');
    tracker.received('accepted');
    tracker.waitForOthers();
    expect(tracker.state).toBe('waiting');
  });

  it('learns on each connection anew whether it waits for another user', () => {
    const tracker = connected();
    tracker.edited();
    tracker.sending('update');
    tracker.waitForOthers();
    tracker.closed();
    expect(tracker.state).toBe('offline-unsaved');
    reconnect(tracker);
    expect(tracker.state).toBe('saving');
    expect(tracker.isWaiting).toBe(true);
    tracker.waitForOthers();
    expect(tracker.state).toBe('waiting');
  });
});

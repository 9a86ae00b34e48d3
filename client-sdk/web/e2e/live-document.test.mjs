// The live document over real sockets, against the stand-in: what a browser isn't needed for. No test waits for a time;
// each waits for what it expects.
import { afterEach, beforeEach, expect, it } from 'vitest';
import WebSocket from 'ws';
import { LiveDocument, liveUrl } from '../src/lib/document';
import { Standin } from './standin/server.mjs';

const ALICE = '@alice:standin.example';
const BOB = '@bob:elsewhere.example';
let standin;
let id;
let open;

beforeEach(async () => {
  standin = await new Standin().listen();
  standin.addUser(ALICE, 'Alice');
  standin.addUser(BOB, 'Bob');
  id = standin.addDocument('Minutes', 'text', ALICE, { [BOB]: {} });
  open = [];
});

afterEach(async () => {
  for (const live of open) live.close();
  await standin.close();
});

function start(userId, { token = standin.users.get(userId).token, whyDenied = async () => null, patienceMs } = {}) {
  const options = { roomId: id, url: liveUrl(`${standin.origin}/`, id), userId, token: async () => token, whyDenied, socket: WebSocket, ...(patienceMs && { patienceMs }) };
  const live = new LiveDocument(options);
  open.push(live);
  return live;
}

/** The first value that fits. */
function reaches(readable, fits) {
  return new Promise((done) => {
    const stop = readable.subscribe((value) => {
      if (!fits(value)) return;
      queueMicrotask(() => stop());
      done(value);
    });
  });
}
const is = (wanted) => (value) => value === wanted;
const holds = (live, wanted) =>
  new Promise((done) => {
    const look = () => live.text.toString() === wanted && done();
    live.text.observe(look);
    look();
  });

it('two people end with one text, and each is shown with the name that the server knows', async () => {
  const [alice, bob] = [start(ALICE), start(BOB)];
  await Promise.all([alice, bob].map((live) => reaches(live.save, is('saved'))));
  alice.text.insert(0, 'hello');
  expect(alice.save.get()).toBe('saving');
  await holds(bob, 'hello');
  bob.text.insert(5, ' world');
  await holds(alice, 'hello world');
  await Promise.all([alice, bob].map((live) => reaches(live.save, is('saved'))));
  expect(standin.documents.get(id).doc.getText('body').toString()).toBe('hello world');
  const people = await reaches(alice.people, (list) => list.length === 2);
  expect(people.map(({ name, isMe }) => [name, isMe])).toEqual([[ALICE, true], ['Bob', false]]);
});

it('edits whose acknowledgement was lost, and edits made while offline, are unsaved until the server has them', async () => {
  const alice = start(ALICE);
  await reaches(alice.save, is('saved'));
  standin.ackDelay = Number.POSITIVE_INFINITY;
  alice.text.insert(0, 'in flight, ');
  standin.drop();
  await reaches(alice.save, is('offline-unsaved'));
  for (const word of ['queued ', 'edits ', 'follow']) alice.text.insert(alice.text.length, word);
  expect(alice.save.get()).toBe('offline-unsaved');
  expect(alice.hasUnsaved).toBe(true);
  standin.ackDelay = 1;
  alice.hurry();
  await reaches(alice.save, is('saved'));
  expect(standin.documents.get(id).doc.getText('body').toString()).toBe('in flight, queued edits follow');
  expect(alice.hasUnsaved).toBe(false);
});

it('an acknowledgement that never comes is asked for over a new connection', async () => {
  const alice = start(ALICE, { patienceMs: 100 });
  await reaches(alice.save, is('saved'));
  standin.ackDelay = Number.POSITIVE_INFINITY;
  alice.text.insert(0, 'did it arrive?');
  await reaches(alice.save, is('offline-unsaved'));
  standin.ackDelay = 1;
  await reaches(alice.save, is('saved'));
  expect(standin.documents.get(id).doc.getText('body').toString()).toBe('did it arrive?');
});

it('a server that hangs while one types on is given up, although each keystroke is sent, and is found again', async () => {
  const alice = start(ALICE, { patienceMs: 200 });
  await reaches(alice.save, is('saved'));
  standin.freeze();
  const typing = setInterval(() => alice.text.insert(alice.text.length, 'x'), 20);
  await reaches(alice.save, is('offline-unsaved'));
  await reaches(alice.cutOff, is(true));
  clearInterval(typing);
  standin.freeze(false);
  await reaches(alice.save, is('saved'));
  await reaches(alice.cutOff, is(false));
  expect(standin.documents.get(id).doc.getText('body').toString()).toBe(alice.text.toString());
});

it('a server that never answers the first connection is offline too', async () => {
  standin.freeze();
  const alice = start(ALICE, { patienceMs: 200 });
  await reaches(alice.cutOff, is(true));
  expect(alice.ready.get()).toBe(false);
  standin.freeze(false);
  await reaches(alice.save, is('saved'));
});

it('a token that has expired is asked for anew and does not end the document', async () => {
  let token = standin.users.get(ALICE).token;
  const options = { roomId: id, url: liveUrl(`${standin.origin}/`, id), userId: ALICE, token: async () => token, whyDenied: async () => null, socket: WebSocket };
  const alice = new LiveDocument(options);
  open.push(alice);
  await reaches(alice.save, is('saved'));
  standin.tokens.set('fresh', ALICE);
  standin.tokens.delete(token);
  token = 'fresh';
  standin.drop(4401);
  await reaches(alice.save, is('offline'));
  await reaches(alice.save, is('saved'));
  expect(alice.ending.get()).toBeNull();
});

it('a reader gets the text and is told that it is for reading, and an edit is refused', async () => {
  standin.setRole(id, BOB, 'viewer');
  const bob = start(BOB);
  expect(await reaches(bob.scope, (scope) => scope !== 'unknown')).toBe('readonly');
  await reaches(bob.save, is('saved'));
  bob.text.insert(0, 'sneaked in');
  await reaches(bob.save, is('refused'));
  expect(standin.documents.get(id).doc.getText('body').toString()).toBe('');
});

it('a right that is given or taken acts in the open document', async () => {
  const bob = start(BOB);
  await reaches(bob.scope, is('read-write'));
  standin.setRole(id, BOB, 'commenter');
  await reaches(bob.scope, is('readonly'));
  standin.setRole(id, BOB, 'editor');
  await reaches(bob.scope, is('read-write'));
  standin.setRole(id, BOB, null);
  await reaches(bob.ending, is('no-access'));
});

it('a token that is not good ends it with the reason that the server gives', async () => {
  const bob = start(BOB, { token: 'wrong', whyDenied: async () => 'signed-out' });
  await reaches(bob.ending, is('signed-out'));
  expect(bob.ready.get()).toBe(false);
});

it('closing with an edit on its way lets it arrive', async () => {
  const [alice, bob] = [start(ALICE), start(BOB)];
  await Promise.all([alice, bob].map((live) => reaches(live.save, is('saved'))));
  alice.text.insert(0, 'last words');
  alice.close();
  await holds(bob, 'last words');
  await reaches(bob.people, (list) => list.length === 1);
});

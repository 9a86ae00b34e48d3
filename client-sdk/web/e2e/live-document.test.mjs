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

function start(userId, { token = standin.users.get(userId).token, whyDenied = async () => null, patienceMs, socket = WebSocket } = {}) {
  const options = { roomId: id, url: liveUrl(`${standin.origin}/`, id), userId, token: async () => token, whyDenied, socket, ...(patienceMs && { patienceMs }) };
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

const serverText = () => standin.documents.get(id).doc.getText('body').toString();
const PICTURE = { src: `data:image/png;base64,${'A'.repeat(200_000)}` };

it.each([
  ['a format', (text) => text.format(0, 5, { link: PICTURE.src })],
  ['an embed', (text) => text.insertEmbed(5, PICTURE)],
])('%s that is refused is told once, goes out of the text, and the rest is saved', async (_name, insert) => {
  const [alice, bob] = [start(ALICE), start(BOB)];
  await Promise.all([alice, bob].map((live) => reaches(live.save, is('saved'))));
  alice.text.insert(0, 'hello');
  insert(alice.text);
  alice.text.insert(alice.text.length, ' world');
  const [refusal] = await reaches(alice.refusals, (list) => list.length > 0);
  expect(refusal).toMatchObject({ code: 'piece_too_large', count: 1 });
  await reaches(alice.save, is('saved'));
  await holds(bob, 'hello world');
  await reaches(alice.unshowable, is(false));
  await reaches(bob.unshowable, is(false));
  const delta = [{ insert: 'hello world' }];
  for (const text of [alice.text, bob.text, standin.documents.get(id).doc.getText('body')]) expect(text.toDelta()).toEqual(delta);
  expect(bob.refusals.get()).toEqual([]);
  expect(alice.ending.get()).toBeNull();

  alice.dismissRefusal('piece_too_large');
  standin.drop();
  await reaches(alice.save, is('offline'));
  alice.text.insert(11, '!');
  await holds(bob, 'hello world!');
  await reaches(alice.save, is('saved'));
  expect(alice.refusals.get()).toEqual([]);
});

it('a text of 6 MB is saved, and a second one at the same time is not inserted', async () => {
  const alice = start(ALICE);
  await reaches(alice.save, is('saved'));
  const long = 'Sixteen letters.'.repeat(393_216);
  expect(alice.admits(long.length)).toBe(true);
  standin.ackDelay = Number.POSITIVE_INFINITY;
  alice.text.insert(0, long);
  expect(alice.admits(long.length)).toBe(false);
  expect(alice.refusals.get().map(({ code }) => code)).toEqual(['too_long']);
  expect(alice.admits(10)).toBe(true);
  alice.text.insert(0, 'typed on ');
  // With what was typed since it still is one message.
  standin.drop();
  await reaches(alice.save, is('offline-unsaved'));
  standin.ackDelay = 1;
  alice.hurry();
  await reaches(alice.save, is('saved'));
  expect(serverText().length).toBe(long.length + 9);
  expect(alice.admits(long.length)).toBe(true);
});

it('a change that is too large for a message is never sent, and ends the document once', async () => {
  const alice = start(ALICE);
  await reaches(alice.save, is('saved'));
  alice.text.insert(0, 'x'.repeat(9 * 1024 * 1024));
  await reaches(alice.ending, is('refused'));
  expect(alice.refusedBy).toBe('too_large');
  expect(alice.save.get()).toBe('refused');
  expect(alice.hasUnsaved).toBe(true);
  expect(standin.largestSeen).toBeLessThan(1_000);
});

it('a whole change that the server refuses is told with its rule', async () => {
  standin.largestFrame = 1_000;
  const alice = start(ALICE);
  await reaches(alice.save, is('saved'));
  alice.text.insert(0, 'x'.repeat(2_000));
  await reaches(alice.ending, is('refused'));
  expect(alice.refusedBy).toBe('too_large');
  expect(alice.refusals.get()).toEqual([]);
});

/** A socket whose buffer gets emptier each time that it is looked at, while `taking`. */
function slowSocket() {
  const line = { left: 10_000, taking: true };
  line.socket = class extends WebSocket {
    get bufferedAmount() {
      return line.taking ? (line.left -= 1) : line.left;
    }
  };
  return line;
}

it('a server that takes a large change slowly is not given up, and one that takes nothing more is', async () => {
  const line = slowSocket();
  const alice = start(ALICE, { patienceMs: 100, socket: line.socket });
  await reaches(alice.save, is('saved'));
  standin.ackDelay = Number.POSITIVE_INFINITY;
  const sockets = [...standin.sockets.clients];
  alice.text.insert(0, 'x'.repeat(1_000_000));
  // Several times the patience, over the same socket.
  await new Promise((done) => setTimeout(done, 500));
  expect([...standin.sockets.clients]).toEqual(sockets);
  expect([alice.save.get(), alice.cutOff.get()]).toEqual(['saving', false]);
  line.taking = false;
  await reaches(alice.save, is('offline-unsaved'));
  standin.ackDelay = 1;
  await reaches(alice.save, is('saved'));
});

it('small changes that leave the socket are no sign that the server takes them', async () => {
  const alice = start(ALICE, { patienceMs: 100, socket: slowSocket().socket });
  await reaches(alice.save, is('saved'));
  standin.freeze();
  const typing = setInterval(() => alice.text.insert(alice.text.length, 'x'), 20);
  await reaches(alice.save, is('offline-unsaved'));
  clearInterval(typing);
  standin.freeze(false);
  await reaches(alice.save, is('saved'));
});

it('edits that wait for another user are no silence of the server, and are saved when they can be', async () => {
  const alice = start(ALICE, { patienceMs: 100 });
  await reaches(alice.save, is('saved'));
  standin.ackDelay = Number.POSITIVE_INFINITY;
  standin.tell(id, { code: 'foreign_client', users: [BOB], unsaved: true });
  await reaches(alice.refusals, (list) => list.length > 0);
  expect(alice.refusals.get()).toMatchObject([{ code: 'foreign_client', users: [BOB], unsaved: true }]);
  const sockets = [...standin.sockets.clients];
  alice.text.insert(0, 'beside ');
  expect(alice.save.get()).toBe('waiting');
  // Several times the patience, over the same socket.
  await new Promise((done) => setTimeout(done, 500));
  expect([...standin.sockets.clients]).toEqual(sockets);
  expect([alice.save.get(), alice.cutOff.get(), alice.hasUnsaved]).toEqual(['waiting', false, true]);
  standin.acknowledge(1);
  await reaches(alice.save, is('saved'));
  expect(alice.refusals.get()).toEqual([]);
});

it('messages that are no notices do no harm', async () => {
  const alice = start(ALICE);
  await reaches(alice.save, is('saved'));
  for (const fields of [{ type: 'other', code: 'x' }, { code: 7 }, { code: 'x', blocks: 'y' }, { code: 'foreign_client', users: {} }]) standin.tell(id, fields);
  alice.text.insert(0, 'calm');
  await reaches(alice.save, is('saved'));
  expect(serverText()).toBe('calm');
  expect(alice.ending.get()).toBeNull();
});

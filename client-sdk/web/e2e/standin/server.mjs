// A stand-in for a Weft server, for tests of the page only: the REST calls and the live socket that the page uses, in
// memory, with switches to make acknowledgements late, take rights away and close sockets. It decides nothing that
// a real server must get right; what the page can do is proven against real servers by e2e/two-editors.mjs.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import { WebSocketServer } from 'ws';
import * as awarenessProtocol from 'y-protocols/awareness';
import * as syncProtocol from 'y-protocols/sync';
import * as Y from 'yjs';
import { AUTH, AWARENESS, SYNC, authenticated, denied, frame, open, ping, syncStatus } from './frames.mjs';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const RANK = ['viewer', 'commenter', 'editor', 'manager', 'owner'];
const LIVE = '/_weft/client/v1/live/';
/** What a server should send with the page. */
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export class Standin {
  users = new Map();
  tokens = new Map();
  documents = new Map();
  /** Milliseconds between taking an edit and acknowledging it. */
  ackDelay = 15;
  /** While true, edits are answered with "refused". */
  refuseEdits = false;
  #created = 0;

  constructor() {
    this.http = createServer((request, response) => void this.#answer(request, response));
    this.sockets = new WebSocketServer({ noServer: true });
    this.http.on('upgrade', (request, socket, head) => {
      if (!request.url.startsWith(LIVE)) return socket.destroy();
      this.sockets.handleUpgrade(request, socket, head, (ws) => this.#serve(ws));
    });
  }

  async listen(port = 0) {
    await new Promise((done) => this.http.listen(port, '127.0.0.1', done));
    this.port = this.http.address().port;
    this.origin = `http://127.0.0.1:${this.port}`;
    return this;
  }

  async close() {
    for (const socket of this.sockets.clients) socket.terminate();
    this.http.closeAllConnections();
    await new Promise((done) => this.http.close(done));
  }

  addUser(userId, name, password = 'correct horse') {
    const token = `tok_${this.users.size}_${userId.slice(1, 4)}`;
    this.users.set(userId, { userId, name, password, token });
    this.tokens.set(token, userId);
    return token;
  }

  addDocument(title, kind, owner, roles = {}) {
    const id = `!doc${(this.#created += 1)}-Weft/Room+Id:standin.example`;
    const doc = new Y.Doc();
    const awareness = new awarenessProtocol.Awareness(doc);
    awareness.setLocalState(null);
    const members = new Map([[owner, { role: 'owner', membership: 'join' }]]);
    for (const [userId, member] of Object.entries(roles)) members.set(userId, { membership: 'join', role: 'editor', ...member });
    const now = Date.now();
    this.documents.set(id, { id, title, kind, owner, doc, awareness, members, createdAt: now, lastModified: now, sessions: new Set() });
    return id;
  }

  link(userId, id) {
    const { token } = this.users.get(userId);
    return `${this.origin}/#token=${encodeURIComponent(token)}&doc=${encodeURIComponent(id)}`;
  }

  /** Closes every socket, as a server that restarts does. */
  drop(code = 4500) {
    for (const socket of this.sockets.clients) socket.close(code);
  }

  /** Takes or gives a role; open sockets hear of it at once. */
  setRole(id, userId, role) {
    const room = this.documents.get(id);
    const member = room.members.get(userId);
    if (role) room.members.set(userId, { membership: member?.membership ?? 'invite', role });
    else room.members.delete(userId);
    for (const session of room.sessions) {
      if (session.userId !== userId) continue;
      if (!role) session.ws.close(4403, 'forbidden');
      else session.ws.send(authenticated(id, this.#mayEdit(room, userId) ? 'read-write' : 'readonly'));
    }
  }

  #mayEdit(room, userId) {
    const member = room.members.get(userId);
    return member?.membership === 'join' && RANK.indexOf(member.role) >= 2;
  }

  // ---- the live socket

  #serve(ws) {
    const session = { ws, userId: null, clients: new Set(), room: null };
    const alive = setInterval(() => ws.send(ping()), 20_000);
    ws.on('message', (data) => {
      const message = open(data);
      if (!message) return;
      if (message.type === AUTH) this.#authenticate(session, message);
      else if (session.room && message.type === SYNC) this.#sync(session, message);
      else if (session.room && message.type === AWARENESS) this.#awareness(session, decoding.readVarUint8Array(message.decoder));
      else if (!session.room && message.type === SYNC) session.early = message;
    });
    ws.on('close', () => {
      clearInterval(alive);
      if (!session.room) return;
      session.room.sessions.delete(session);
      const gone = [...session.clients];
      awarenessProtocol.removeAwarenessStates(session.room.awareness, gone, 'closed');
      this.#sendAwareness(session.room, gone);
    });
  }

  #authenticate(session, { name, decoder }) {
    decoding.readVarUint(decoder);
    const userId = this.tokens.get(decoding.readVarString(decoder));
    const room = this.documents.get(name);
    if (!userId) return session.ws.send(denied(name, 'unauthorized'));
    if (room?.members.get(userId)?.membership !== 'join') return session.ws.send(denied(name, 'forbidden'));
    Object.assign(session, { userId, room });
    room.sessions.add(session);
    session.ws.send(authenticated(name, this.#mayEdit(room, userId) ? 'read-write' : 'readonly'));
    if (session.early) this.#sync(session, session.early);
    const known = [...room.awareness.getStates().keys()];
    if (known.length > 0) session.ws.send(this.#awarenessFrame(room, known));
  }

  #sync(session, { name, decoder }) {
    const { ws, room } = session;
    const kind = decoding.readVarUint(decoder);
    const body = decoding.readVarUint8Array(decoder);
    if (kind === 0) {
      ws.send(frame(name, SYNC, (encoder) => syncProtocol.writeSyncStep2(encoder, room.doc, body)));
      ws.send(frame(name, SYNC, (encoder) => syncProtocol.writeSyncStep1(encoder, room.doc)));
      return;
    }
    const before = Y.encodeStateVector(room.doc);
    const allowed = this.#mayEdit(room, session.userId) && !this.refuseEdits;
    if (allowed) Y.applyUpdate(room.doc, body, session);
    const news = Y.encodeStateAsUpdate(room.doc, before);
    const isNew = allowed ? news.length > 2 : body.length > 2;
    if (isNew && allowed) {
      room.lastModified = Date.now();
      for (const other of room.sessions) {
        if (other !== session) other.ws.send(frame(name, SYNC, (encoder) => syncProtocol.writeUpdate(encoder, body)));
      }
    }
    setTimeout(() => ws.readyState === ws.OPEN && ws.send(syncStatus(name, allowed || !isNew)), this.ackDelay);
  }

  #awareness(session, update) {
    const { room } = session;
    const user = this.users.get(session.userId);
    const written = awarenessProtocol.modifyAwarenessUpdate(update, (state) =>
      state ? { ...state, user: { ...state.user, id: user.userId, name: user.name } } : state,
    );
    const changed = new Set();
    const note = ({ added, updated, removed }) => [...added, ...updated, ...removed].forEach((client) => changed.add(client));
    room.awareness.on('update', note);
    awarenessProtocol.applyAwarenessUpdate(room.awareness, written, session);
    room.awareness.off('update', note);
    for (const client of changed) session.clients.add(client);
    this.#sendAwareness(room, [...changed]);
  }

  #awarenessFrame(room, clients) {
    const update = awarenessProtocol.encodeAwarenessUpdate(room.awareness, clients);
    return frame(room.id, AWARENESS, (encoder) => encoding.writeVarUint8Array(encoder, update));
  }

  #sendAwareness(room, clients) {
    if (clients.length === 0) return;
    const bytes = this.#awarenessFrame(room, clients);
    for (const { ws } of room.sessions) ws.send(bytes);
  }

  // ---- REST

  async #answer(request, response) {
    const path = new URL(request.url, 'http://x').pathname;
    if (!path.startsWith('/_')) return this.#file(path, response);
    let body = '';
    for await (const chunk of request) body += chunk;
    const userId = this.tokens.get((request.headers.authorization ?? '').replace('Bearer ', ''));
    const [status, answer] = this.#route(request.method, path, body ? JSON.parse(body) : {}, userId);
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(answer));
  }

  async #file(path, response) {
    const wanted = normalize(path === '/' ? '/index.html' : path);
    try {
      const bytes = await readFile(join(DIST, wanted));
      response.writeHead(200, { 'Content-Type': TYPES[extname(wanted)] ?? 'application/octet-stream', 'Content-Security-Policy': POLICY });
      response.end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  }

  #route(method, path, body, userId) {
    if (path === '/_matrix/client/v3/login') return this.#login(body);
    if (!userId) return [401, { errcode: 'M_UNKNOWN_TOKEN', error: 'unknown token' }];
    const parts = path.split('/').map(decodeURIComponent);
    if (path === '/_matrix/client/v3/account/whoami') return [200, { user_id: userId, device_id: 'DEV' }];
    if (path === '/_matrix/client/v3/logout') return this.tokens.delete(this.users.get(userId).token), [200, {}];
    if (parts[4] === 'profile') return [200, { displayname: this.users.get(parts[5])?.name }];
    if (parts[4] === 'join') return this.#membership(parts[5], userId, 'join');
    if (parts[4] === 'rooms') return this.#membership(parts[5], userId, 'leave');
    if (parts[4] !== 'documents') return [404, { errcode: 'M_UNRECOGNIZED', error: 'no such endpoint' }];
    if (!parts[5]) return method === 'POST' ? this.#create(body, userId) : this.#list(userId);
    return this.#document(method, parts, body, userId);
  }

  #login({ identifier, password }) {
    const name = identifier?.user?.replace(/^@|:.*$/g, '');
    const user = [...this.users.values()].find(({ userId }) => userId.startsWith(`@${name}:`));
    if (user?.password !== password) return [403, { errcode: 'M_FORBIDDEN', error: 'Invalid username or password' }];
    this.tokens.set(user.token, user.userId);
    return [200, { user_id: user.userId, device_id: 'DEV', access_token: user.token }];
  }

  #create({ title, kind }, userId) {
    const id = this.addDocument(title, kind, userId);
    return [201, { docId: id, createdAt: Date.now() }];
  }

  #list(userId) {
    const mine = (membership) => [...this.documents.values()].filter((room) => room.members.get(userId)?.membership === membership);
    return [
      200,
      {
        documents: mine('join').sort((a, b) => b.lastModified - a.lastModified).map((room) => this.#show(room, userId)),
        invites: mine('invite').map((room) => ({ docId: room.id, title: room.title, inviter: room.owner })),
      },
    ];
  }

  #show(room, userId) {
    const { id: docId, title, kind, owner: ownerId, createdAt, lastModified } = room;
    return { docId, title, kind, ownerId, version: lastModified, role: room.members.get(userId).role, createdAt, lastModified };
  }

  #membership(id, userId, membership) {
    const room = this.documents.get(id);
    const member = room?.members.get(userId);
    if (!member) return [403, { errcode: 'M_FORBIDDEN', error: 'not invited' }];
    if (membership === 'leave') room.members.delete(userId);
    else member.membership = membership;
    return [200, { room_id: id }];
  }

  #document(method, [, , , , , id, members, target], body, userId) {
    const room = this.documents.get(id);
    if (!room) return [404, { errcode: 'M_NOT_FOUND', error: 'no such document' }];
    const own = room.members.get(userId);
    if (own?.membership !== 'join') return [403, { errcode: 'M_FORBIDDEN', error: 'not a member' }];
    if (method === 'GET' && !members) return [200, this.#show(room, userId)];
    if (method === 'GET') {
      const show = ([memberId, member]) => ({ userId: memberId, displayName: this.users.get(memberId)?.name ?? null, ...member });
      return [200, { members: [...room.members].map(show) }];
    }
    if (RANK.indexOf(own.role) < 3) return [403, { errcode: 'M_FORBIDDEN', error: 'needs a manager' }];
    if (method === 'PATCH') room.title = body.title;
    if (method === 'PUT') this.setRole(id, target, body.role);
    if (method === 'DELETE') this.setRole(id, target, null);
    return [200, {}];
  }
}

// A stand-in for a Weft server, for tests of the page only: the REST calls and the live socket that the page uses, in
// memory, with switches to delay acknowledgements, take rights away, close sockets and stop answering. It decides nothing
// that a real server must get right; what the page can do is proven against real servers by e2e/with-servers.mjs.
import { createServer } from 'node:http';
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import { WebSocketServer } from 'ws';
import * as awarenessProtocol from 'y-protocols/awareness';
import * as syncProtocol from 'y-protocols/sync';
import * as Y from 'yjs';
import { builtFile } from '../proxy.mjs';
import { AUTH, AWARENESS, SYNC, authenticated, denied, frame, notice, open, ping, syncStatus } from './frames.mjs';

const RANK = ['viewer', 'commenter', 'editor', 'manager', 'owner'];
const POWER = [0, 10, 25, 50, 100];
const MATRIX = '/_matrix/client/v3';
const LIVE = '/_weft/client/v1/live/';
/** What a server should send with the page. */
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export class Standin {
  users = new Map();
  tokens = new Map();
  documents = new Map();
  /** Milliseconds between taking an edit and acknowledging it; infinite: not before `acknowledge()`. */
  ackDelay = 15;
  /** While true, edits are answered with "refused". */
  refuseEdits = false;
  /** While true, no live socket is opened. */
  refuseSockets = false;
  /** Formats and embeds with more characters than this are taken as deleted, with a notice. */
  largestValue = 44_900;
  /** Bytes of the largest frame; above it a document is ended. */
  largestFrame = 8 * 1024 * 1024 + 1_024;
  /** Bytes of the largest frame that came. */
  largestSeen = 0;
  /** Milliseconds before each request is answered. */
  latency = 0;
  /** Who may make an account: `closed`, `open` or `token` (then with the token `let-me-in`). */
  registration = 'closed';
  /** Milliseconds until an access token expires, for clients that can refresh. */
  tokenLifetime = 3_600_000;
  /** Servers that don't answer. */
  deadServers = new Set();
  /** Where set, renaming is answered with this status. */
  failRenames = 0;
  /** While true, no role is given. */
  refuseRoles = false;
  /** Requests, as `METHOD path`. */
  requests = [];
  refreshTokens = new Map();
  expiry = new Map();
  /** Whether there are room summaries, which say whether one may knock. */
  hasSummaries = true;
  #frozen = false;
  #unanswered = new Set();
  #unacknowledged = [];
  #held = null;
  #created = 0;
  #minted = 0;

  constructor() {
    // A request that the browser aborts fails while its body is read.
    this.http = createServer((request, response) => void this.#answer(request, response).catch(() => response.destroy()));
    this.sockets = new WebSocketServer({ noServer: true });
    this.http.on('upgrade', (request, socket, head) => {
      if (!request.url.startsWith(LIVE) || this.refuseSockets) return socket.destroy();
      if (this.#frozen) return void this.#unanswered.add(socket);
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
    for (const socket of this.#unanswered) socket.destroy();
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

  /** Tells everybody in a document of a refusal. */
  tell(id, fields) {
    for (const { ws } of this.documents.get(id).sessions) ws.send(notice(id, fields));
  }

  /** Stops reading from its sockets and answering requests, as a process that hangs does; connections stay open. */
  freeze(frozen = true) {
    this.#frozen = frozen;
    for (const socket of this.sockets.clients) frozen ? socket.pause() : socket.resume();
  }

  /** Answers no request whose path matches until the function that it gives back is called. */
  hold(pattern) {
    let release;
    this.#held = { pattern, released: new Promise((done) => (release = done)) };
    return () => {
      this.#held = null;
      release();
    };
  }

  /** Sends the acknowledgements that were kept back while `ackDelay` was infinite. */
  acknowledge(ackDelay = 15) {
    this.ackDelay = ackDelay;
    for (const send of this.#unacknowledged.splice(0)) send();
  }

  /** Takes or gives a role; open sockets hear of it at once. */
  setRole(id, userId, role) {
    const room = this.documents.get(id);
    const member = room.members.get(userId);
    if (role) room.members.set(userId, { membership: member?.membership === 'join' ? 'join' : 'invite', role });
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
      this.largestSeen = Math.max(this.largestSeen, data.length);
      if (data.length > this.largestFrame) return this.#endTooLarge(session, message);
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
    if (isNew && allowed) this.#correct(session);
    const acknowledge = () => ws.readyState === ws.OPEN && ws.send(syncStatus(name, allowed || !isNew));
    if (Number.isFinite(this.ackDelay)) setTimeout(acknowledge, this.ackDelay);
    else this.#unacknowledged.push(acknowledge);
  }

  /** Deletes values that are too large, everywhere, and tells the one who sent them. */
  #correct({ ws, room }) {
    const blocks = [];
    const before = Y.encodeStateVector(room.doc);
    room.doc.transact((transaction) => {
      for (let item = room.doc.getText('body')._start; item; item = item.right) {
        const value = item.content.embed ?? item.content.value;
        if (item.deleted || JSON.stringify(value ?? null).length <= this.largestValue) continue;
        blocks.push({ client: item.id.client, clock: item.id.clock, length: item.length });
        item.delete(transaction);
      }
    });
    if (blocks.length === 0) return;
    const deletes = Y.encodeStateAsUpdate(room.doc, before);
    for (const session of room.sessions) session.ws.send(frame(room.id, SYNC, (encoder) => syncProtocol.writeUpdate(encoder, deletes)));
    ws.send(notice(room.id, { code: 'piece_too_large', blocks }));
  }

  #endTooLarge({ ws }, { name }) {
    ws.send(syncStatus(name, false));
    ws.send(notice(name, { code: 'too_large' }));
    ws.close(4413, 'message too large');
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
    if (this.latency > 0) await new Promise((done) => setTimeout(done, this.latency));
    if (this.#held?.pattern.test(path)) await this.#held.released;
    if (!path.startsWith('/_')) return this.#file(path, response);
    this.requests.push(`${request.method} ${path}`);
    let body = '';
    for await (const chunk of request) body += chunk;
    if (this.#frozen) return;
    const token = (request.headers.authorization ?? '').replace('Bearer ', '');
    const expired = (this.expiry.get(token) ?? Number.POSITIVE_INFINITY) < Date.now();
    const userId = expired ? undefined : this.tokens.get(token);
    const [status, answer] = this.#route(request.method, path, body ? JSON.parse(body) : {}, userId, token);
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(answer));
  }

  async #file(path, response) {
    const file = await builtFile(path);
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { 'Content-Type': file.type, 'Content-Security-Policy': POLICY });
    response.end(file.body);
  }

  #route(method, path, body, userId, token) {
    if (path === `${MATRIX}/login`) return this.#login(body);
    if (path === `${MATRIX}/register`) return this.#register(body);
    if (path === `${MATRIX}/refresh`) return this.#refresh(body);
    if (!userId) return [401, { errcode: 'M_UNKNOWN_TOKEN', error: 'unknown token' }];
    const parts = path.split('/').map(decodeURIComponent);
    if (path === `${MATRIX}/account/whoami`) return [200, { user_id: userId, device_id: 'DEV' }];
    if (path === `${MATRIX}/logout`) return this.tokens.delete(token), [200, {}];
    if (path === `${MATRIX}/account/password`) return this.#password(body, userId);
    if (parts[4] === 'profile') return this.#profile(parts[5]);
    if (parts[4] === 'join') return this.#membership(parts[5], userId, 'join');
    if (parts[4] === 'knock') return this.#knock(parts[5], userId);
    if (parts[4] === 'room_summary') return this.#summary(parts[5], userId);
    if (parts[4] === 'rooms' && parts[6] === 'state') return this.#powerLevels(parts[5], userId);
    if (parts[4] === 'rooms') return this.#membership(parts[5], userId, 'leave');
    if (parts[4] !== 'documents') return [404, { errcode: 'M_UNRECOGNIZED', error: 'no such endpoint' }];
    if (!parts[5]) return method === 'POST' ? this.#create(body, userId) : this.#list(userId);
    return this.#document(method, parts, body, userId);
  }

  #login({ identifier, password, refresh_token: refreshable }) {
    const name = identifier?.user?.replace(/^@|:.*$/g, '');
    const user = [...this.users.values()].find(({ userId }) => userId.startsWith(`@${name}:`));
    if (user?.password !== password) return [403, { errcode: 'M_FORBIDDEN', error: 'Invalid username or password' }];
    return [200, this.#session(user.userId, refreshable)];
  }

  #session(userId, refreshable, deviceId = `DEV${(this.#minted += 1)}`) {
    const token = `tok_session_${(this.#minted += 1)}`;
    this.tokens.set(token, userId);
    const session = { user_id: userId, device_id: deviceId, access_token: token };
    if (!refreshable) return session;
    const refreshToken = `ref_${this.#minted}`;
    this.refreshTokens.set(refreshToken, { userId, deviceId, token });
    this.expiry.set(token, Date.now() + this.tokenLifetime);
    return { ...session, refresh_token: refreshToken, expires_in_ms: this.tokenLifetime };
  }

  /** A refresh token works once, which is stricter than it has to be. */
  #refresh({ refresh_token: refreshToken }) {
    const found = this.refreshTokens.get(refreshToken);
    if (!found) return [401, { errcode: 'M_UNKNOWN_TOKEN', error: 'unknown refresh token' }];
    this.refreshTokens.delete(refreshToken);
    this.tokens.delete(found.token);
    return [200, this.#session(found.userId, true, found.deviceId)];
  }

  #register({ username, password, auth, refresh_token: refreshable }) {
    if (this.registration === 'closed') return [403, { errcode: 'M_FORBIDDEN', error: 'Registration is closed' }];
    const stage = this.registration === 'open' ? 'm.login.dummy' : 'm.login.registration_token';
    const userId = `@${username}:standin.example`;
    if (username && this.users.has(userId)) return [400, { errcode: 'M_USER_IN_USE', error: 'taken' }];
    const right = auth?.session === 'S' && auth.type === stage && (this.registration === 'open' || auth.token === 'let-me-in');
    if (!right) return [401, { errcode: auth ? 'M_FORBIDDEN' : 'M_UNAUTHORIZED', error: 'more is needed', flows: [{ stages: [stage] }], params: {}, session: 'S', completed: [] }];
    if (password.length < 8) return [400, { errcode: 'M_WEAK_PASSWORD', error: 'A password has at least 8 characters' }];
    this.addUser(userId, username, password);
    return [200, this.#session(userId, refreshable)];
  }

  #password({ new_password: next, auth }, userId) {
    const user = this.users.get(userId);
    const right = auth?.session === 'P' && auth.type === 'm.login.password' && auth.password === user.password;
    if (!right) return [401, { errcode: auth ? 'M_FORBIDDEN' : 'M_UNAUTHORIZED', error: 'more is needed', flows: [{ stages: ['m.login.password'] }], params: {}, session: 'P', completed: [] }];
    user.password = next;
    return [200, {}];
  }

  #profile(userId) {
    const user = this.users.get(userId);
    return user ? [200, { displayname: user.name }] : [404, { errcode: 'M_NOT_FOUND', error: 'no such user' }];
  }

  #knock(id, userId) {
    const room = this.documents.get(id);
    if (room?.joinRule !== 'knock') return [403, { errcode: 'M_FORBIDDEN', error: 'no knocking' }];
    room.members.set(userId, { membership: 'knock', role: 'viewer' });
    return [200, { room_id: id }];
  }

  #summary(id, userId) {
    const room = this.documents.get(id);
    if (!this.hasSummaries) return [404, { errcode: 'M_UNRECOGNIZED', error: 'no such endpoint' }];
    if (room?.joinRule !== 'knock') return [404, { errcode: 'M_NOT_FOUND', error: 'hidden' }];
    return [200, { room_id: id, join_rule: room.joinRule, membership: room.members.get(userId)?.membership ?? 'leave' }];
  }

  /** As in new documents: owners give roles, managers invite. */
  #powerLevels(id, userId) {
    const room = this.documents.get(id);
    if (room?.members.get(userId)?.membership !== 'join') return [403, { errcode: 'M_FORBIDDEN', error: 'not a member' }];
    const users = Object.fromEntries([...room.members].filter(([member]) => member !== room.owner).map(([member, { role }]) => [member, POWER[RANK.indexOf(role)]]));
    return [200, { users, users_default: 0, state_default: 50, invite: 50, kick: 50, events: { 'm.room.power_levels': 100 } }];
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
    if (method === 'PATCH' && this.failRenames) return [this.failRenames, { errcode: 'M_UNKNOWN', error: 'not now' }];
    if (RANK.indexOf(own.role) < 3) return [403, { errcode: 'M_FORBIDDEN', error: 'needs a manager' }];
    if (method === 'PATCH') room.title = body.title;
    const known = room.members.get(target);
    if (method === 'PUT' && own.role !== 'owner' && (known?.role ?? 'viewer') !== body.role) return [403, { errcode: 'M_FORBIDDEN', error: 'Your role does not allow you to give this role to this person.' }];
    if (method === 'PUT' && this.refuseRoles) return [403, { errcode: 'M_FORBIDDEN', error: 'Not this role.' }];
    if (method === 'PUT' && !known && this.deadServers.has(target.replace(/^[^:]*:/, ''))) return [502, { errcode: 'M_UNKNOWN', error: 'connection refused (os error 111)' }];
    if (method === 'PUT') this.setRole(id, target, body.role);
    if (method === 'DELETE') this.setRole(id, target, null);
    return [200, {}];
  }
}

// A stock Matrix client, matrix-js-sdk: JSON requests on standard input, one per line, and responses on standard
// output. It uses the client's own calls and its own sync loop, as an application does. Must not bypass the client
// where it has a call.
import * as readline from 'node:readline'
import * as sdk from 'matrix-js-sdk'
import { logger } from 'matrix-js-sdk/lib/logger.js'

logger.setLevel?.('silent')
const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')
let client = null
const seen = []
const faults = []
const watchers = new Set()

function noticed(event) {
  if (event) seen.push(event)
  for (const check of [...watchers]) check()
}

/** Whether `whole` contains everything of `part`, at the same paths. */
function has(whole, part) {
  if (part === null || typeof part !== 'object') return whole === part
  if (Array.isArray(part)) return Array.isArray(whole) && part.every((item) => whole.some((other) => has(other, item)))
  return whole !== null && typeof whole === 'object' && Object.entries(part).every(([key, value]) => has(whole[key], value))
}

/** The number of matching events; an event received twice, in the state and in the timeline, counts once. */
function times(part) {
  const found = seen.filter((event) => has(event, part))
  return new Set(found.map((event, number) => event.event_id ?? number)).size
}

/** Waits until `find` returns a true value; checks again at each event. */
function until(find, timeout, what) {
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer)
      clearInterval(again)
      watchers.delete(check)
    }
    const check = () => {
      const found = find()
      if (!found) return
      done()
      resolve(found)
    }
    const timer = setTimeout(() => {
      done()
      reject(new Error(`${what} was not seen within ${timeout} ms; last: ${JSON.stringify(seen.slice(-16).map((event) => [event.type, event.room_id, event.content]))}`))
    }, timeout)
    const again = setInterval(check, 100)
    watchers.add(check)
    check()
  })
}

/** An error that no call reports. */
function fault(error) {
  faults.push(String(error?.stack ?? error))
  process.stderr.write(`${error?.stack ?? error}\n`)
}

const raw = (event) => ({ ...event.event, room_id: event.getRoomId?.() ?? event.event.room_id })
/**
 * The timelines that end with this one, oldest first: after a gap the client has a timeline on each side of it; they are
 * joined once a page reaches a known event.
 */
function parts(live) {
  const found = []
  for (let part = live; part; part = part.getNeighbouringTimeline('b')) found.unshift(part)
  return found
}
/** What an application shows of a message: its content is that of the last edit. */
const shown = (event) => {
  const { msgtype, body, formatted_body } = event.getContent()
  return { event_id: event.getId(), type: event.getType(), msgtype, body, formatted_body, edited: Boolean(event.replacingEvent()) }
}
/** The messages of a timeline, oldest first, without redacted ones. Edits and reactions are shown with their message. */
const messages = (events) =>
  events.filter((event) => event.getType() === 'm.room.message' && !event.isRelation('m.replace') && !event.isRedacted()).map(shown)
/** Opens a thread, as an application does when the user selects its first message. */
function thread(id, root) {
  const room = client.getRoom(id)
  const event = room.findEventById(root)
  if (!event) throw new Error(`${root} is not known`)
  return room.getThread(root) ?? room.createThread(root, event, [event], true)
}
const membership = (room) => client.getRoom(room)?.getMyMembership()
const { Method } = sdk

const commands = {
  async login({ url, user, password, device }) {
    const flows = await sdk.createClient({ baseUrl: url }).loginFlows()
    if (!flows.flows.some((flow) => flow.type === 'm.login.password')) throw new Error(`no password: ${JSON.stringify(flows)}`)
    const answer = await sdk.createClient({ baseUrl: url }).loginRequest({
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user },
      password,
      device_id: device,
      initial_device_display_name: 'Stock client',
    })
    client = sdk.createClient({
      baseUrl: url,
      userId: answer.user_id,
      accessToken: answer.access_token,
      deviceId: answer.device_id,
      timelineSupport: true,
    })
    return { user_id: answer.user_id, device_id: answer.device_id }
  },
  async start({ timeline }) {
    client.on('event', (event) => noticed(raw(event)))
    // These have their room only beside the event.
    client.on('RoomMember.typing', (event, member) => noticed({ ...event.event, room_id: member.roomId }))
    client.on('Room.receipt', (event, room) => noticed({ ...event.event, room_id: room.roomId }))
    client.on('Room.accountData', (event, room) => noticed({ ...event.event, room_id: room.roomId }))
    client.on('accountData', (event) => noticed(event.event))
    client.on('Room.tags', (event, room) => noticed({ ...event.event, room_id: room.roomId }))
    client.on('toDeviceEvent', (event) => noticed({ ...event.event, to_device: true }))
    client.on('sync', () => noticed())
    client.on('sync.unexpectedError', fault)
    return commands.resume({ timeline })
  },
  pause: () => client.stopClient(),
  async resume({ timeline }) {
    const options = { initialSyncLimit: timeline.limit, lazyLoadMembers: true, threadSupport: true }
    if (timeline.types) {
      options.filter = new sdk.Filter(client.getUserId())
      options.filter.setDefinition({ room: { timeline, state: { lazy_load_members: true } } })
    }
    await client.startClient(options)
    await until(() => client.getSyncState() === 'SYNCING', 30000, 'the first sync')
  },
  /** Pages back to the first event of the room. */
  async history({ room: id, limit }) {
    const room = client.getRoom(id)
    while (room.oldState.paginationToken !== null) await client.scrollback(room, limit)
    return { events: parts(room.getLiveTimeline()).flatMap((part) => part.getEvents()).map(raw) }
  },
  until_named: ({ room, user, name, timeout }) =>
    until(() => client.getRoom(room).getMember(user)?.rawDisplayName === name && {}, timeout, `${user} as ${name}`),
  whoami: () => client.whoami(),
  versions: () => client.getVersions(),
  capabilities: () => client.getCapabilities(),
  create_room: async ({ options }) => client.createRoom(options),
  invite: ({ room, user }) => client.invite(room, user),
  join: async ({ room, via }) => ({ room_id: (await client.joinRoom(room, { viaServers: via ? [via] : [] })).roomId }),
  knock: ({ room, via }) => client.knockRoom(room, { viaServers: [via] }),
  leave: ({ room }) => client.leave(room),
  forget: ({ room }) => client.forget(room),
  kick: ({ room, user }) => client.kick(room, user, 'reason'),
  ban: ({ room, user }) => client.ban(room, user, 'reason'),
  unban: ({ room, user }) => client.unban(room, user),
  until_membership: ({ room, is, timeout }) => until(() => membership(room) === is && {}, timeout, `${is} in ${room}`),
  until_seen: async ({ part, timeout }) =>
    until(() => seen.find((event) => has(event, part)), timeout, JSON.stringify(part)),
  count: ({ part }) => ({ count: times(part) }),
  until_count: ({ part, count, timeout }) =>
    until(() => times(part) >= count && {}, timeout, `${count} times ${JSON.stringify(part)}`),
  async until_typing({ room, user, is, timeout }) {
    // As an application that shows the room: typing of members that aren't loaded is not reported.
    await client.getRoom(room).loadMembersIfNeeded()
    return until(() => client.getRoom(room).getMember(user)?.typing === is && {}, timeout, `typing of ${user}: ${is}`)
  },
  /** `thread` is the first message of the thread in which the event is sent. */
  async send({ room, thread, type, content, timeout }) {
    const transaction = client.makeTxnId()
    try {
      return await client.sendEvent(room, thread ?? null, type, content, transaction)
    } catch (error) {
      // The sync loop returned the event before the response, while the client was still loading the event's thread:
      // then it finds neither the event nor its local echo. The event is sent, and identified by its transaction id.
      if (!String(error?.message).includes('not a local echo')) throw error
      return until(() => seen.find((event) => event.unsigned?.transaction_id === transaction), timeout, transaction)
    }
  },
  redact: ({ room, thread, event }) => client.redactEvent(room, thread ?? null, event),
  /** The messages of the main timeline, paged back to the first event of the room. */
  async timeline({ room: id }) {
    const room = client.getRoom(id)
    while (room.oldState.paginationToken !== null) await client.scrollback(room, 20)
    return { messages: messages(parts(room.getLiveTimeline()).flatMap((part) => part.getEvents())) }
  },
  /** The threads of the room, as the list of an application shows them. */
  async threads({ room: id }) {
    const room = client.getRoom(id)
    await room.createThreadsTimelineSets()
    await room.fetchRoomThreads()
    const [all] = room.threadsTimelineSets
    return { threads: all.getLiveTimeline().getEvents().map((event) => [event.getId(), room.getThread(event.getId()).length]) }
  },
  /** Waits until the thread, paged back to its first message, shows exactly these texts. */
  async until_thread({ room, root, bodies, timeout }) {
    const open = thread(room, root)
    await until(() => open.initialEventsFetched, timeout, `the beginning of the thread ${root}`)
    const first = () => parts(open.liveTimeline)[0]
    while (first().getPaginationToken('b')) await client.paginateEventTimeline(first(), { backwards: true, limit: 2 })
    const events = () => parts(open.liveTimeline).flatMap((part) => part.getEvents())
    const look = () => ({ messages: messages(events()), length: open.length, last: open.replyToEvent?.getId() })
    const as = () => JSON.stringify(look().messages.map((message) => message.body)) === JSON.stringify(bodies)
    return until(() => as() && open.length === bodies.length - 1 && look(), timeout, JSON.stringify(bodies)).catch((error) => {
      throw new Error(`${error.message}; the thread is ${JSON.stringify(look())}`)
    })
  },
  /** Waits until the message has these reactions: pairs of a key and a number. */
  until_reactions({ room: id, root, event, reactions, timeout }) {
    const room = client.getRoom(id)
    const of = root === event ? room.relations : thread(id, root).timelineSet.relations
    const look = () => of.getChildEventsForEvent(event, 'm.annotation', 'm.reaction')?.getSortedAnnotationsByKey() ?? []
    const counted = () => JSON.stringify(look().map(([key, events]) => [key, events.size])) === JSON.stringify(reactions)
    return until(() => counted() && {}, timeout, `${JSON.stringify(reactions)} of ${event}`)
  },
  /** Waits until the client shows these unread numbers of a thread, or, without one, of the main timeline. */
  until_unread({ room: id, root, total, highlight, timeout }) {
    const room = client.getRoom(id)
    const look = () =>
      ['total', 'highlight'].map((type) => (root ? room.getThreadUnreadNotificationCount(root, type) : room.getRoomUnreadNotificationCount(type)))
    return until(() => look().join() === `${total},${highlight}` && {}, timeout, `${total}, ${highlight} unread`).catch((error) => {
      throw new Error(`${error.message}; unread are ${look()}`)
    })
  },
  /** Sends the receipt of a message: of its thread, if it is in one. */
  read: ({ room, event }) => client.sendReadReceipt(client.getRoom(room).findEventById(event)),
  /** Errors that no call has reported, above all those of handling a response of sync. */
  faults: () => ({ faults, state: client.getSyncState() }),
  state: async ({ room, type, key }) => client.getStateEvent(room, type, key),
  set_state: ({ room, type, key, content }) => client.sendStateEvent(room, type, content, key),
  messages: ({ room, from, dir, limit, filter }) =>
    client.createMessagesRequest(room, from ?? null, limit, dir, filter && sdk.Filter.fromJson(null, null, { room: { timeline: filter } })),
  typing: ({ room, is }) => client.sendTyping(room, is, 20000),
  async receipt({ room, event }) {
    await client.sendReadReceipt(client.getRoom(room).findEventById(event))
    await client.setRoomReadMarkersHttpRequest(room, event, event)
  },
  async upload({ name, type, base64 }) {
    const file = await client.uploadContent(Buffer.from(base64, 'base64'), { name, type, rawResponse: false })
    return { uri: file.content_uri }
  },
  async download({ uri }) {
    const headers = { Authorization: `Bearer ${client.getAccessToken()}` }
    const get = async (...size) => {
      const answer = await fetch(client.mxcUrlToHttp(uri, ...size, false, true, true), { headers })
      if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`)
      return answer
    }
    const file = await get(undefined, undefined, undefined)
    const small = await get(96, 96, 'crop')
    const bytes = Buffer.from(await file.arrayBuffer())
    return { base64: bytes.toString('base64'), type: file.headers.get('content-type'), thumbnail: small.headers.get('content-type') }
  },
  set_name: ({ name }) => client.setDisplayName(name),
  set_avatar: ({ url }) => client.setAvatarUrl(url),
  profile: ({ user }) => client.getProfileInfo(user),
  create_alias: ({ alias, room }) => client.createAlias(alias, room),
  resolve_alias: ({ alias }) => client.getRoomIdForAlias(alias),
  delete_alias: ({ alias }) => client.deleteAlias(alias),
  directory: ({ server }) => client.publicRooms(server ? { server, limit: 50 } : { limit: 50 }),
  set_tag: ({ room, tag }) => client.setRoomTag(room, tag, { order: 0.5 }),
  tags: ({ room }) => client.http.authedRequest(Method.Get, `/user/${encodeURIComponent(client.getUserId())}/rooms/${encodeURIComponent(room)}/tags`),
  set_account_data: ({ type, content }) => client.setAccountData(type, content),
  // The client's own call returns what its sync loop has received so far.
  account_data: ({ type }) => client.http.authedRequest(Method.Get, `/user/${encodeURIComponent(client.getUserId())}/account_data/${type}`),
  push_rules: () => client.getPushRules(),
  devices: () => client.getDevices(),
  rename_device: ({ device, name }) => client.setDeviceDetails(device, { display_name: name }),
  delete_device: async ({ device, user, password }) => {
    try {
      return await client.deleteDevice(device)
    } catch (error) {
      if (!error.data?.session) throw error
      const identifier = { type: 'm.id.user', user }
      return client.deleteDevice(device, { type: 'm.login.password', identifier, password, session: error.data.session })
    }
  },
  to_device: ({ user, device, type, content }) => client.sendToDevice(type, new Map([[user, new Map([[device, content]])]])),
  members: async ({ room }) => {
    const answer = await client.members(room)
    return { members: answer.chunk.map((event) => [event.state_key, event.content.membership]) }
  },
  context: ({ room, event }) =>
    client.http.authedRequest(Method.Get, `/rooms/${encodeURIComponent(room)}/context/${encodeURIComponent(event)}`, { limit: '4' }),
  event: ({ room, event }) => client.fetchRoomEvent(room, event),
  relations: async ({ room, event, rel, type }) => client.fetchRelations(room, event, rel, type, { limit: 10 }),
  // The two calls of the client for a search of messages: its events with their context, and the plain response.
  search_messages: async ({ term, rooms }) => {
    const found = await client.searchRoomEvents({ term, filter: { rooms } })
    const messages = found.results.map((result) => {
      const timeline = result.context.getTimeline().map((event) => event.getId())
      return { body: result.context.getEvent().getContent().body, place: timeline.indexOf(result.context.getEvent().getId()), around: timeline.length }
    })
    return { count: found.count, highlights: found.highlights, messages, more: Boolean(found.next_batch) }
  },
  search_text: ({ query }) => client.searchMessageText({ query }),
  search_users: ({ term }) => client.searchUserDirectory({ term, limit: 10 }),
  set_presence: ({ status }) => client.setPresence({ presence: 'online', status_msg: status }),
  logout: () => client.logout(true),
  /** Any other request, through the client's own HTTP layer: an error response is returned as a result. */
  async ask({ method, path, body }) {
    try {
      return { status: 200, body: await client.http.authedRequest(method, path.split('?')[0], Object.fromEntries(new URLSearchParams(path.split('?')[1] ?? '')), body, { prefix: '' }) }
    } catch (error) {
      return { status: error.httpStatus ?? 0, errcode: error.errcode ?? String(error) }
    }
  },
}

async function handle(line) {
  const request = JSON.parse(line)
  try {
    say({ id: request.id, ok: (await commands[request.command](request)) ?? {} })
  } catch (error) {
    say({ id: request.id, error: `${error.errcode ?? ''} ${error?.message ?? error}` })
  }
}

process.on('uncaughtException', fault)
process.on('unhandledRejection', fault)
readline.createInterface({ input: process.stdin }).on('line', handle).on('close', () => process.exit(0))
// The client prints to the console; that must not be mixed with the responses.
for (const level of ['log', 'info', 'warn', 'debug', 'error', 'trace']) console[level] = (...words) => process.stderr.write(words.join(' ') + '\n')

// Stock Yjs editors of several kinds in one process: JSON requests on standard input, one per line, and responses on
// standard output. Must not add anything to the providers: they behave as in an application.
import * as readline from 'node:readline'
import WebSocket from 'ws'
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'
import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'

const editors = new Map()
const sockets = new Map()

function say(message) {
  process.stdout.write(JSON.stringify(message) + '\n')
}

/** Waits until `condition` is true; checks again at each of the editor's events. */
function until(editor, condition, timeout, what) {
  return new Promise((resolve, reject) => {
    const check = () => {
      if (!condition()) return
      done()
      resolve()
    }
    const timer = setTimeout(() => {
      done()
      reject(new Error(`${what} did not happen within ${timeout} ms; text has ${editor.text.length} units, events ${JSON.stringify(editor.events.slice(-8))}`))
    }, timeout)
    const done = () => {
      clearTimeout(timer)
      editor.watchers.delete(check)
    }
    editor.watchers.add(check)
    check()
  })
}

function noticed(editor, event, detail) {
  if (event) {
    editor.events.push(detail === undefined ? { event } : { event, detail })
    if (editor.events.length > 200) editor.events.shift()
  }
  for (const check of [...editor.watchers]) check()
}

function plain({ url, room, token }, doc, editor) {
  const provider = new WebsocketProvider(url, room, doc, {
    params: token ? { access_token: token } : {},
    WebSocketPolyfill: WebSocket,
    disableBc: true,
  })
  provider.on('status', ({ status }) => noticed(editor, status))
  provider.on('sync', (synced) => noticed(editor, synced ? 'synced' : 'unsynced'))
  provider.on('connection-close', (event) => noticed(editor, 'close', { code: event?.code, reason: event?.reason }))
  provider.on('connection-error', () => noticed(editor, 'error'))
  return {
    provider,
    awareness: provider.awareness,
    synced: () => provider.synced,
    unsynced: () => null,
    connect: () => provider.connect(),
    disconnect: () => provider.disconnect(),
    destroy: () => provider.destroy(),
    terminate: () => provider.ws.terminate(),
    /** The connection is dead, and only the client has noticed: the server's side stays open. */
    abandon: () => {
      for (const on of ['onmessage', 'onclose', 'onerror', 'onopen']) provider.ws[on] = null
      provider.ws.on('error', () => {})
      provider.ws = null
      provider.wsconnected = false
      provider.connect()
    },
  }
}

function hocuspocus({ url, room, token, socket }, doc, editor) {
  let shared = null
  if (socket) {
    shared = sockets.get(socket)
    if (!shared) {
      shared = new HocuspocusProviderWebsocket({ url, WebSocketPolyfill: WebSocket, delay: 100, minDelay: 100, maxDelay: 1000 })
      sockets.set(socket, shared)
    }
  }
  const own = shared ?? new HocuspocusProviderWebsocket({ url, WebSocketPolyfill: WebSocket, delay: 100, minDelay: 100, maxDelay: 1000 })
  const provider = new HocuspocusProvider({
    websocketProvider: own,
    name: room,
    document: doc,
    token: async () => token,
    onSynced: () => noticed(editor, 'synced'),
    onStatus: ({ status }) => noticed(editor, status),
    onAuthenticated: ({ scope }) => noticed(editor, 'authenticated', scope),
    onAuthenticationFailed: ({ reason }) => noticed(editor, 'denied', reason),
    onUnsyncedChanges: ({ number }) => noticed(editor, 'pending', number),
    onStateless: ({ payload }) => noticed(editor, 'stateless', JSON.parse(payload)),
    onClose: ({ event }) => noticed(editor, 'close', { code: event?.code, reason: event?.reason }),
  })
  provider.attach()
  return {
    provider,
    awareness: provider.awareness,
    synced: () => provider.isSynced,
    unsynced: () => provider.unsyncedChanges,
    connect: () => own.connect(),
    disconnect: () => own.disconnect(),
    terminate: () => own.webSocket.terminate(),
    destroy: () => {
      provider.destroy()
      if (!shared) own.destroy()
    },
  }
}

const commands = {
  open(request) {
    const doc = new Y.Doc()
    // The document that another user left in the storage of this browser.
    if (request.copy_of) Y.applyUpdate(doc, Y.encodeStateAsUpdate(editors.get(request.copy_of).doc))
    if (request.first) doc.getText('body').insert(request.first.at, request.first.text)
    const editor = { doc, text: doc.getText('body'), watchers: new Set(), events: [] }
    editors.set(request.editor, editor)
    doc.on('update', () => noticed(editor))
    Object.assign(editor, request.kind === 'plain' ? plain(request, doc, editor) : hocuspocus(request, doc, editor))
    editor.awareness?.on('change', () => noticed(editor))
    return { client: doc.clientID }
  },
  insert({ editor: name, at, text }) {
    const editor = editors.get(name)
    editor.text.insert(at === 'end' ? editor.text.length : Math.min(at, editor.text.length), text)
  },
  remove({ editor: name, at, length }) {
    const editor = editors.get(name)
    const from = Math.min(at, editor.text.length)
    editor.text.delete(from, Math.min(length, editor.text.length - from))
  },
  embed({ editor: name, at, bytes }) {
    const editor = editors.get(name)
    editor.text.insertEmbed(Math.min(at, editor.text.length), { image: `data:image/png;base64,${'A'.repeat(bytes)}` })
  },
  format({ editor: name, at, length, value }) {
    editors.get(name).text.format(at, length, { note: value })
  },
  /** Half of a surrogate pair: a string that UTF-8 can't encode. */
  format_half({ editor: name, at, length }) {
    editors.get(name).text.format(at, length, { note: 'half \ud83d' })
  },
  /** Sets a value of a map, nested in `levels` arrays. */
  set_deep({ editor: name, key, levels }) {
    let value = 'core'
    for (let level = 0; level < levels; level++) value = [value]
    editors.get(name).doc.getMap('map').set(key, value)
  },
  /** Sets a value of a map under a key of `letters` letters. */
  set_named({ editor: name, letters }) {
    editors.get(name).doc.getMap('map').set('k'.repeat(letters), 1)
  },
  /** Changes of a board, each `[element, key, value]`; without a value the key is removed, without a key the element. */
  draw({ editor: name, changes }) {
    const { doc } = editors.get(name)
    const elements = doc.getMap('elements')
    for (const [element, key, value] of changes) {
      doc.transact(() => {
        if (key === undefined) return elements.delete(element)
        if (!elements.has(element)) elements.set(element, new Y.Map())
        if (value === undefined) elements.get(element).delete(key)
        else elements.get(element).set(key, value?.list ? Y.Array.from(value.list) : value?.text ? new Y.Text(value.text) : value)
      })
    }
  },
  /** A new element in the place of one of the same name. */
  replace_element({ editor: name, element, values }) {
    editors.get(name).doc.getMap('elements').set(element, new Y.Map(Object.entries(values)))
  },
  /** Changes of a list or a text in an element: `delete` units at `at`, then `insert` there. */
  splice({ editor: name, element, key, at, delete: length, insert }) {
    const type = editors.get(name).doc.getMap('elements').get(element).get(key)
    if (length) type.delete(at, length)
    if (insert !== undefined) type.insert(at, insert)
  },
  board: ({ editor }) => ({ board: editors.get(editor).doc.getMap('elements').toJSON() }),
  async until_board({ editor: name, board, timeout }) {
    const editor = editors.get(name)
    const elements = editor.doc.getMap('elements')
    const sorted = (value) =>
      value && typeof value === 'object' && !Array.isArray(value)
        ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]))
        : value
    const is = () => JSON.stringify(sorted(elements.toJSON())) === JSON.stringify(sorted(board))
    await until(editor, is, timeout, 'the expected board').catch((error) => {
      throw new Error(`${error.message}; the board is ${JSON.stringify(elements.toJSON())}`)
    })
  },
  repeat({ editor: name, at, text, times }) {
    const editor = editors.get(name)
    editor.text.insert(Math.min(at, editor.text.length), text.repeat(times))
  },
  /** `edits` edits, each in its own transaction: numbered words, in turn at the start and at the end of the text. */
  write({ editor: name, prefix, edits }) {
    const { text } = editors.get(name)
    for (let edit = 0; edit < edits; edit++) text.insert(edit % 2 ? text.length : 0, `<${prefix}${edit}>`)
  },
  /** Waits until the text has this number of different words with the prefix. */
  async until_written({ editor: name, prefix, words, timeout }) {
    const editor = editors.get(name)
    const written = () => new Set(editor.text.toString().match(new RegExp(`<${prefix}\\d+>`, 'g'))).size
    await until(editor, () => written() === words, timeout, `${words} words of ${prefix}`)
  },
  text: ({ editor }) => ({ text: editors.get(editor).text.toString() }),
  events: ({ editor }) => ({ events: editors.get(editor).events }),
  state({ editor: name }) {
    const editor = editors.get(name)
    return { synced: editor.synced(), unsynced: editor.unsynced(), client: editor.doc.clientID }
  },
  /** The whole document as one update, to compare replicas byte by byte after a canonical load. */
  update: ({ editor }) => ({ update: Buffer.from(Y.encodeStateAsUpdate(editors.get(editor).doc)).toString('hex') }),
  update_event({ client, text }) {
    const doc = new Y.Doc()
    doc.clientID = client
    doc.getText('body').insert(0, text)
    const update = Buffer.from(Y.encodeStateAsUpdate(doc)).toString('base64').replace(/=+$/, '')
    return { update, clients: { [client]: [0, text.length] } }
  },
  apply({ editor: name, update }) {
    Y.applyUpdate(editors.get(name).doc, Buffer.from(update, 'hex'))
  },
  /** A position of the text as a relative one. */
  relative({ editor, at, assoc }) {
    const position = Y.createRelativePositionFromTypeIndex(editors.get(editor).text, at, assoc)
    return { position: Y.relativePositionToJSON(position) }
  },
  /** Where a relative position is in the text now. */
  absolute({ editor, position }) {
    const found = Y.createAbsolutePositionFromRelativePosition(Y.createRelativePositionFromJSON(position), editors.get(editor).doc)
    return { at: found?.index ?? null }
  },
  awareness: ({ editor }) => ({ states: Object.fromEntries(editors.get(editor).awareness.getStates()) }),
  set_awareness({ editor, field, value }) {
    editors.get(editor).awareness.setLocalStateField(field, value)
  },
  async until_synced({ editor: name, timeout }) {
    const editor = editors.get(name)
    await until(editor, editor.synced, timeout, 'sync')
  },
  async until_text({ editor: name, text, timeout }) {
    const editor = editors.get(name)
    await until(editor, () => editor.text.toString() === text, timeout, 'the expected text')
  },
  async until_contains({ editor: name, part, timeout }) {
    const editor = editors.get(name)
    await until(editor, () => editor.text.toString().includes(part), timeout, `text with ${JSON.stringify(part)}`)
  },
  async until_saved({ editor: name, timeout }) {
    const editor = editors.get(name)
    await until(editor, () => editor.unsynced() === 0, timeout, 'acknowledgement')
  },
  async until_event({ editor: name, event, timeout }) {
    const editor = editors.get(name)
    await until(editor, () => editor.events.some((seen) => seen.event === event), timeout, `event ${event}`)
    return { detail: editor.events.findLast((seen) => seen.event === event).detail ?? null }
  },
  async until_present({ editor: name, user, timeout }) {
    const editor = editors.get(name)
    const present = () => [...editor.awareness.getStates().values()].some((state) => state.user?.id === user)
    await until(editor, present, timeout, `presence of ${user}`)
  },
  async until_field({ editor: name, field, value, timeout }) {
    const editor = editors.get(name)
    const there = () => [...editor.awareness.getStates().values()].some((state) => state[field] === value)
    await until(editor, there, timeout, `${field} ${value} in the awareness`)
  },
  async until_no_field({ editor: name, field, value, timeout }) {
    const editor = editors.get(name)
    const gone = () => ![...editor.awareness.getStates().values()].some((state) => state[field] === value)
    await until(editor, gone, timeout, `${field} ${value} out of the awareness`)
  },
  async until_length({ editor: name, length, timeout }) {
    const editor = editors.get(name)
    await until(editor, () => editor.text.length === length, timeout, `a text of ${length} units`)
  },
  async until_gone({ editor: name, user, timeout }) {
    const editor = editors.get(name)
    const gone = () => ![...editor.awareness.getStates().values()].some((state) => state.user?.id === user)
    await until(editor, gone, timeout, `departure of ${user}`)
  },
  forget_events({ editor }) {
    editors.get(editor).events = []
  },
  connect({ editor }) {
    editors.get(editor).connect()
  },
  terminate({ editor }) {
    editors.get(editor).terminate()
  },
  abandon({ editor }) {
    editors.get(editor).abandon()
  },
  disconnect({ editor }) {
    editors.get(editor).disconnect()
  },
  close({ editor }) {
    editors.get(editor).destroy()
    editors.delete(editor)
  },
}

async function handle(line) {
  const request = JSON.parse(line)
  try {
    const answer = await commands[request.command](request)
    say({ id: request.id, ok: answer ?? {} })
  } catch (error) {
    say({ id: request.id, error: String(error?.message ?? error) })
  }
}

process.on('uncaughtException', (error) => say({ event: 'uncaught', error: String(error?.stack ?? error) }))
readline.createInterface({ input: process.stdin }).on('line', handle).on('close', () => process.exit(0))
// Providers print to the console; that must not be mixed with the responses.
console.log = console.info = console.warn = (...words) => process.stderr.write(words.join(' ') + '\n')

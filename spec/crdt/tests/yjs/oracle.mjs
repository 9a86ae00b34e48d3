// Runs Yjs, driven by lines on stdin; prints one line of JSON on stdout for each.
//
//   load HEX HEX ...                 applies the updates in this order to an empty document; prints its content
//   history SEED CLIENTS EDITS       random concurrent edits; prints the updates in causal order with their authors
//
// Must only be started by the tests of this crate.
import * as Y from 'yjs'
import { createInterface } from 'node:readline'

const hex = bytes => Buffer.from(bytes).toString('hex')
const bytes = text => new Uint8Array(Buffer.from(text, 'hex'))

const sorted = value => {
  if (Array.isArray(value)) return value.map(sorted)
  if (value instanceof Uint8Array) return { bytes: hex(value) }
  if (value === undefined) return { undefined: true }
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.keys(value).sort().map(key => [key, sorted(value[key])]))
  }
  return value
}

// XML with its texts as deltas: toString() would print formats in the order in which they were made.
const xml = node => {
  if (node instanceof Y.XmlText) return node.toDelta()
  const children = node.toArray().map(xml)
  return node instanceof Y.XmlElement ? { name: node.nodeName, attributes: node.getAttributes(), children } : children
}

const show = doc => {
  const sv = Y.decodeStateVector(Y.encodeStateVector(doc))
  return sorted({
    text: doc.getText('t').toDelta(),
    map: doc.getMap('m').toJSON(),
    array: doc.getArray('a').toJSON(),
    xml: xml(doc.getXmlFragment('x')),
    sv: Object.fromEntries(sv),
    pending: doc.store.pendingStructs !== null || doc.store.pendingDs !== null
  })
}

const load = updates => {
  const doc = new Y.Doc()
  for (const update of updates) Y.applyUpdate(doc, bytes(update))
  return show(doc)
}

const random = seed => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const words = ['a', 'hello ', 'x😀y', '日本', 'ñ', 'the quick brown fox ', '\n', '👩‍👩‍👧']

const edits = {
  text (doc, pick) {
    const text = doc.getText('t')
    const at = pick(text.length + 1)
    const left = text.length - at
    switch (pick(8)) {
      case 0: return text.delete(at, pick(Math.min(left, 8) + 1))
      case 1: return text.format(at, pick(left + 1), { [['bold', 'link'][pick(2)]]: [true, null, { href: 'x' }][pick(3)] })
      case 2: return text.insertEmbed(at, { image: pick(9) })
      case 3: return text.insert(at, words[pick(words.length)], { bold: true })
      default: return text.insert(at, words[pick(words.length)])
    }
  },
  type (doc, pick) { // a run of single characters, as users type
    const text = doc.getText('t')
    const at = pick(text.length + 1)
    for (let i = 0; i < 6; i++) text.insert(at + i, 'typing'[i])
    if (pick(2)) text.delete(at + 2, 2)
  },
  duel (doc, pick) { // single characters at one small position, each directly after another
    const text = doc.getText('t')
    const at = pick(Math.min(text.length, 3) + 1)
    if (at < text.length && pick(8) === 0) return text.delete(at, 1)
    text.insert(at, 'abcd'[pick(4)])
  },
  map (doc, pick) {
    const map = doc.getMap('m')
    const key = 'k' + pick(3)
    const inner = map.get(key)
    if (inner instanceof Y.Map && pick(3)) return inner.set('i' + pick(2), pick(100))
    switch (pick(5)) {
      case 0: return map.delete(key)
      case 1: return map.set(key, new Y.Map([['n', pick(9)]]))
      case 2: return map.set(key, new Y.Text('in a map'))
      case 3: return map.set(key, new Uint8Array([pick(256)]))
      default: return map.set(key, [pick(100), 'text', { a: [1.5, null, true] }][pick(3)])
    }
  },
  array (doc, pick) {
    const array = doc.getArray('a')
    const at = pick(array.length + 1)
    switch (pick(4)) {
      case 0: return array.delete(at, pick(Math.min(array.length - at, 4) + 1))
      case 1: return array.insert(at, [Y.Array.from([pick(9), 'deep'])])
      default: return array.insert(at, [pick(100), words[pick(words.length)], { k: pick(5) }].slice(0, 1 + pick(3)))
    }
  },
  xml (doc, pick) {
    let node = doc.getXmlFragment('x')
    while (pick(3) && node.length > 0) {
      const child = node.get(pick(node.length))
      if (child instanceof Y.XmlText) {
        const at = pick(child.length + 1)
        if (pick(4)) return child.insert(at, words[pick(words.length)])
        return pick(2) ? child.delete(at, pick(child.length - at + 1)) : child.format(at, child.length - at, { em: {} })
      }
      node = child
    }
    const at = pick(node.length + 1)
    switch (pick(6)) {
      case 0: return node.delete(at, pick(node.length - at + 1))
      case 1: return node.insert(at, [new Y.XmlText('text')])
      case 2: if (node instanceof Y.XmlElement) return node.setAttribute('c' + pick(2), 'v' + pick(9))
      // falls through
      default: return node.insert(at, [new Y.XmlElement(['p', 'h1', 'ul'][pick(3)])])
    }
  }
}

const history = (seed, clients, count) => {
  const next = random(seed)
  const pick = n => Math.floor(next() * n)
  const kinds = Object.keys(edits)
  const focus = pick(4) === 0 ? ['duel'] : pick(3) ? [kinds[pick(kinds.length)], kinds[pick(kinds.length)]] : kinds
  const log = []
  const docs = Array.from({ length: clients }, (_, author) => {
    const doc = new Y.Doc({ gc: pick(4) > 0 })
    doc.clientID = 1 + pick(200) * 8 + author
    doc.seen = 0
    doc.on('update', (update, origin) => { if (origin !== 'remote') log.push({ author, update: hex(update) }) })
    return doc
  })
  const catchUp = (doc, until) => {
    for (; doc.seen < until; doc.seen++) Y.applyUpdate(doc, bytes(log[doc.seen].update), 'remote')
  }
  for (let i = 0; i < count; i++) {
    const doc = docs[pick(clients)]
    if (pick(focus[0] === 'duel' ? 2 : 3) === 0) catchUp(doc, doc.seen + pick(log.length - doc.seen + 1))
    doc.transact(() => {
      for (let n = pick(8) === 0 ? 3 : 1; n > 0; n--) edits[focus[pick(focus.length)]](doc, pick)
    })
  }
  return log
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...args] = line.split(' ')
  let answer
  try {
    answer = command === 'load' ? load(args) : history(...args.map(Number))
  } catch (error) {
    answer = { error: String(error) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}

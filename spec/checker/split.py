"""split, as in spec/docs/updates.md: a splitter, and the conditions that the parts of any splitter must meet."""

from admission import admit, order
from algebra import compact, merge
from readings import altered
from updates import ANY, JSON, STRING, TYPE, Update, parse, utf16

EVENT_CLIENTS, EVENT_BLOCKS, EVENT_DELETES, TYPE_NESTING = 64, 8_192, 8_192, 64
# Maximum bytes of: the counts, the header of a client's list, the links of a cut block, its length.
COUNTS, HEAD, CUT, NUMBER = 12, 18, 27, 5


class Part:
    def __init__(self):
        self.runs, self.used, self.blocks, self.depth = {}, COUNTS, 0, {}

    def add(self, block, size):
        if block.client not in self.runs:
            self.used += HEAD
        self.runs.setdefault(block.client, []).append(block)
        self.used += size
        self.blocks += 1

    def room(self, client, max_bytes):
        new = client not in self.runs
        clients = EVENT_CLIENTS + altered("split: 65 clients in a part")
        if new and len(self.runs) >= clients:
            return 0
        if self.blocks >= EVENT_BLOCKS + altered("split: 8,193 blocks in a part"):
            return 0
        return max_bytes - self.used - (HEAD if new else 0)


class Splitter:
    def __init__(self, update, max_bytes):
        self.update, self.parts, self.part = update, [], Part()
        self.max_bytes = max_bytes * (2 if altered("split: parts of twice the size") else 1)

    def next_part(self):
        if self.part.runs:
            self.parts.append(Update(self.part.runs, {}))
        self.part = Part()

    def inside(self, block):
        """The number of types of the part in which the block lies."""
        to = block.parent or block.origin or block.right
        known = self.update.find(to) if to else None
        inside = self.part.depth.get(known.id) if known else None
        if inside is None:
            return 0
        return inside + 1 if block.parent else inside

    def push(self, block):
        deepest = TYPE_NESTING + altered("split: 65 types deep in a part")
        if block.kind == TYPE and self.inside(block) >= deepest:
            self.next_part()
        size = block.size()
        if size > self.part.room(block.client, self.max_bytes) and size + HEAD + COUNTS <= self.max_bytes:
            self.next_part()
        if size <= self.part.room(block.client, self.max_bytes):
            self.part.add(block, size)
        else:
            self.push_cut(block)
        self.part.depth[block.id] = self.inside(block)

    def push_cut(self, block):
        at = 0
        while at < block.length:
            head = block.size() - len(block.body()) if at == 0 else CUT
            end = longest(block, at, self.part.room(block.client, self.max_bytes) - head - NUMBER)
            if end == at:
                if not self.part.runs:
                    raise ValueError("a piece is too large")
                self.next_part()
                continue
            piece = block.cut(at, end)
            self.part.add(piece, piece.size())
            at = end

    def push_deletes(self):
        ranges = [(client, range_) for client in self.update.deletes for range_ in self.update.deletes[client]]
        if altered("split: deletions are left out"):
            ranges = []
        self.next_part()
        limit = EVENT_DELETES + altered("split: 8,193 deleted ranges in a part")
        deletions, deletes, count, used = [], {}, 0, COUNTS
        for client, (from_, to) in ranges:
            size = wide(from_) + wide(to - from_) + (0 if client in deletes else HEAD)
            if count and (count >= limit or used + size > self.max_bytes):
                deletions.append(Update({}, deletes))
                deletes, count, used = {}, 0, COUNTS + HEAD
            deletes.setdefault(client, []).append((from_, to))
            count, used = count + 1, used + size
        if deletes:
            deletions.append(Update({}, deletes))
        if altered("split: deletions come first"):
            self.parts = deletions + self.parts
        else:
            self.parts += deletions


def wide(number):
    """The number of bytes of an encoded number."""
    return max(1, -(-number.bit_length() // 7))


def longest(block, at, room):
    """The end of the longest cut that begins at `at` and has at most `room` bytes of content."""
    if block.kind in (ANY, JSON):
        end = at
        while end < block.length and room >= len(block.items[end]):
            room -= len(block.items[end])
            end += 1
        return end
    if block.kind != STRING:
        return at
    unit, end = 0, at
    for char in block.items:
        width, size = utf16(char), len(char.encode())
        if unit >= at:
            if room < size:
                if width == 2 and room >= 3 and altered("split: a pair is cut"):
                    return end + 1
                break
            room -= size
            end = unit + width
        elif unit + width > at:
            end = unit + width
        unit += width
    return end


def split(update, max_bytes):
    splitter = Splitter(update, max_bytes)
    blocks = order(update)[0]
    if altered("split: clients ascending, references ignored"):
        blocks = list(update.blocks())
    if altered("split: clients descending, references ignored"):
        blocks = [block for client in sorted(update.runs, reverse=True) for block in update.runs[client]]
    for block in blocks:
        splitter.push(block)
    splitter.push_deletes()
    return splitter.parts


def first_error(update, parts, max_bytes):
    """The first error of the parts of an update, by its name in the vectors, or None."""
    sizes = [len(part.encode()) for part in parts]
    if max(sizes) > max_bytes:
        return "too_large"
    if compact(merge(parts)).encode() != compact(update).encode():
        return "difference"
    known = {}
    for part in parts:
        got = admit(part.encode(), "@alice:alpha.example", known)
        if got["result"] != "admitted":
            return "not_admitted"
        for client, (_, end) in got["ranges"].items():
            known[client] = {"end": end, "owner": "@alice:alpha.example"}
    return None


def answer(case, data):
    """A vector's `expect`: checks the parts in the vector, or splits the update and checks the result."""
    update = parse(data(case["update"]))
    if "parts" in case:
        parts = [parse(data(part)) for part in case["parts"]]
        return {"result": first_error(update, parts, case["max_bytes"]) or "valid"}
    parts = split(update, case["max_bytes"])
    error = first_error(update, parts, case["max_bytes"])
    if error:
        return {"result": error}
    return case["expect"] if len(parts) <= case["expect"]["max_parts"] else {"parts": len(parts)}

"""The encoding of updates, as in spec/docs/updates.md: parsing, writing, cutting. Must not depend on admission."""

import bisect
import json
import math

from readings import altered

CLOCK_END = 1 << 31
CLIENT_END = 1 << 53
VALUE_NESTING = 32

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC, SKIP = range(11)
ORIGIN, RIGHT, KEY = 0x80, 0x40, 0x20


class Malformed(Exception):
    """Bytes that are not valid by updates.md."""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Malformed("the input ends")
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self):
        return self.take(1)[0]

    def tail(self, value, shift):
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if value >= 1 << 64:
                if altered("uint: more than 64 bits wrap around"):
                    value &= (1 << 64) - 1
                else:
                    raise Malformed("a number is too large")
            if byte < 0x80:
                if byte == 0 and not altered("uint: a longer form is valid"):
                    raise Malformed("a number is not in its shortest form")
                return value
            shift += 7

    def uint(self):
        first = self.u8()
        return first if first < 0x80 else self.tail(first & 0x7F, 7)

    def int(self):
        first = self.u8()
        low = first & 0x3F
        if first & 0x80:
            if altered("int: a longer form is valid"):
                start = self.at
                while self.u8() & 0x80:
                    pass
                value = low
                for place, byte in enumerate(self.data[start : self.at]):
                    value |= (byte & 0x7F) << (6 + 7 * place)
                low = value
            else:
                low = self.tail(low, 6)
        limit = 1 << 64 if altered("int: up to 64 bits") else CLIENT_END
        if altered("int: 2^53 is valid"):
            limit += 1
        if low >= limit:
            raise Malformed("a number is too large")
        return -low if first & 0x40 else low

    def bytes(self):
        return self.take(self.uint())

    def text(self, what):
        data = self.bytes()
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            if ACCEPT_BAD_TEXT(what):
                return data.decode("utf-8", "replace")
            raise Malformed("text is not UTF-8") from error

    def client(self):
        value = self.uint()
        limit = CLIENT_END + (1 if altered("client: 2^53 is valid") else 0)
        if altered("client: at most 32 bits"):
            limit = 1 << 32
        if value >= limit:
            raise Malformed("a client id is too large")
        return value

    def clock(self):
        value = self.uint()
        limit = CLOCK_END - (1 if altered("clock: 2^31 is malformed") else 0)
        if altered("clock: up to 2^32 - 1"):
            limit = (1 << 32) - 1
        if value > limit:
            raise Malformed("a clock is too large")
        return value

    def id(self):
        client = self.client()
        if altered("id: a clock of any size"):
            return client, self.uint()
        return client, self.clock()


def ACCEPT_BAD_TEXT(what):
    return {
        "root": altered("UTF-8: any bytes as a root name"),
        "key": altered("UTF-8: any bytes as a key"),
        "name": altered("UTF-8: any bytes as an element name"),
        "format": altered("UTF-8: any bytes as a format name"),
        "string": altered("UTF-8: any bytes as text"),
        "value": altered("UTF-8: any bytes as a text value"),
        "field": altered("UTF-8: any bytes as a key of an object"),
    }.get(what, False)


class Writer:
    def __init__(self):
        self.out = bytearray()

    def uint(self, value):
        while value >= 0x80:
            self.out.append(value & 0x7F | 0x80)
            value >>= 7
        self.out.append(value)

    def raw(self, data):
        self.out += data


def utf16(text):
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


class Block:
    """A block, or a cut of one. `content` contains the bytes after the links and, if present, the number before them."""

    def __init__(self, client, clock, length, kind, links=b"", **rest):
        self.client, self.clock, self.length, self.kind = client, clock, length, kind
        self.links = links
        self.origin = rest.get("origin")
        self.right = rest.get("right")
        self.parent = rest.get("parent")
        self.keyed = rest.get("keyed", False)
        self.content = rest.get("content", b"")
        self.items = rest.get("items")
        self.type = rest.get("type")

    @property
    def end(self):
        return self.clock + self.length

    @property
    def id(self):
        return self.client, self.clock

    def needs(self):
        return [to for to in (self.parent, self.origin, self.right) if to is not None]

    def copy(self, **changes):
        block = Block.__new__(Block)
        block.__dict__.update(self.__dict__)
        block.__dict__.update(changes)
        return block

    def write(self, w):
        info = self.kind
        if self.kind in (GC, SKIP):
            w.out.append(info)
            w.uint(self.length)
            return
        info |= (ORIGIN if self.origin else 0) | (RIGHT if self.right else 0) | (KEY if self.keyed else 0)
        w.out.append(info)
        w.raw(self.links)
        w.raw(self.body())

    def body(self):
        w = Writer()
        if self.kind == DELETED:
            w.uint(self.length)
        elif self.kind == STRING:
            data = self.items.encode("utf-8")
            w.uint(len(data))
            w.raw(data)
        elif self.kind in (JSON, ANY):
            w.uint(len(self.items))
            w.raw(b"".join(self.items))
        else:
            w.raw(self.content)
        return bytes(w.out)

    def size(self):
        w = Writer()
        self.write(w)
        return len(w.out)

    def cut(self, a, b):
        """Units [a, b) of the block."""
        if (a, b) == (0, self.length):
            return self
        changes = {"clock": self.clock + a, "length": b - a}
        if self.kind == STRING:
            changes["items"] = cut_text(self.items, a, b)
        elif self.kind in (JSON, ANY):
            changes["items"] = self.items[a:b]
        if a > 0 and self.kind not in (GC, SKIP):
            origin = (self.client, self.clock + a - 1)
            if altered("cut: the origin is the first unit of the block"):
                origin = (self.client, self.clock)
            right = None if altered("cut: the right origin is dropped") else self.right
            keyed = self.keyed and not altered("cut: bit 5 is dropped")
            w = Writer()
            for to in (origin, right):
                if to:
                    w.uint(to[0])
                    w.uint(to[1])
            changes.update(origin=origin, right=right, parent=None, keyed=keyed, links=bytes(w.out))
        return self.copy(**changes)


def cut_text(text, a, b):
    units = []
    for char in text:
        units += [char] if ord(char) < 0x10000 else [(char, 0), (char, 1)]
    out, half = "", "\ufffd"
    if altered("cut: half of a pair is left out"):
        half = ""
    if altered("cut: half of a pair is a question mark"):
        half = "?"
    part = units[a:b]
    at = 0
    while at < len(part):
        unit = part[at]
        if isinstance(unit, str):
            out += unit
        elif unit[1] == 0 and at + 1 < len(part):
            out += unit[0]
            at += 1
        else:
            out += half
        at += 1
    return out


class Update:
    """For each client the blocks in the order of their clocks, and the deleted ranges, sorted and joined."""

    def __init__(self, runs=None, deletes=None, wire_len=0):
        self.runs = runs or {}
        self.deletes = deletes or {}
        self.wire_len = wire_len

    def blocks(self):
        for client in sorted(self.runs):
            yield from self.runs[client]

    def end(self, client):
        return self.runs[client][-1].end

    def find(self, at):
        run = self.runs.get(at[0], [])
        place = bisect.bisect_right(run, at[1], key=lambda block: block.clock)
        return run[place - 1] if place > 0 and at[1] < run[place - 1].end else None

    def is_deleted(self, at):
        ranges = self.deletes.get(at[0], [])
        place = bisect.bisect_right(ranges, at[1], key=lambda range_: range_[0])
        return place > 0 and at[1] < ranges[place - 1][1]

    def encode(self):
        w = Writer()
        w.uint(len(self.runs))
        order = sorted(self.runs, reverse=not altered("write: clients ascending"))
        for client in order:
            run = self.runs[client]
            w.uint(len(run))
            w.uint(client)
            w.uint(run[0].clock)
            for block in run:
                block.write(w)
        w.raw(encode_deletes(self.deletes))
        return bytes(w.out)


def encode_deletes(deletes):
    w = Writer()
    w.uint(len(deletes))
    for client in sorted(deletes, reverse=not altered("write: deleted clients ascending")):
        w.uint(client)
        w.uint(len(deletes[client]))
        for from_, to in deletes[client]:
            w.uint(from_)
            w.uint(to - from_)
    return bytes(w.out)


def joined(ranges):
    """Sorts the ranges and joins those that touch or overlap."""
    out = []
    for from_, to in sorted(ranges):
        touches = out and (from_ < out[-1][1] if altered("deletes: ranges that touch are not joined") else from_ <= out[-1][1])
        if touches:
            out[-1] = (out[-1][0], max(out[-1][1], to))
        elif from_ < to:
            out.append((from_, to))
    return out


def parse(data):
    """Parses an Update; raises Malformed."""
    r = Reader(data)
    runs = {}
    for _ in range(bounded(r.uint(), data)):
        count, client, clock = r.uint(), r.client(), r.clock()
        blocks = []
        for _ in range(bounded(count, data)):
            block = parse_block(r, client, clock)
            clock = block.end
            blocks.append(block)
        if not blocks:
            if altered("update: a client without blocks is malformed"):
                raise Malformed("no blocks")
            if not altered("update: a client without blocks counts as listed"):
                continue
        if client in runs:
            if altered("update: a second list of a client continues the first"):
                runs[client] += blocks
                continue
            raise Malformed("a client is listed twice")
        runs[client] = blocks
    deletes = {}
    for _ in range(bounded(r.uint(), data)):
        client, ranges = r.client(), []
        for _ in range(bounded(r.uint(), data)):
            from_, length = r.clock(), r.clock()
            if from_ + length > CLOCK_END and not altered("deletes: a range ends anywhere"):
                raise Malformed("a deleted range is too long")
            if length == 0 and altered("deletes: a range of no length is malformed"):
                raise Malformed("an empty range")
            ranges.append((from_, from_ + length))
        if client in deletes:
            if altered("deletes: a second list of a client continues the first"):
                deletes[client] = joined(deletes[client] + ranges)
                continue
            raise Malformed("a client is listed twice")
        if joined(ranges):
            deletes[client] = joined(ranges)
        elif altered("deletes: a client without ranges is malformed"):
            raise Malformed("no ranges")
    if r.at != len(data) and not altered("update: bytes may follow"):
        raise Malformed("bytes after the end")
    return Update(runs, deletes, len(data))


def bounded(count, data):
    """Bounds a count by the number of bytes, so that the loop ends. A count that is too large fails when the input ends."""
    return min(count, len(data) + 1)


def parse_block(r, client, clock):
    info = r.u8()
    kind = info & 0x1F
    if kind > SKIP:
        if altered("block: an unknown kind is one unit without content"):
            return Block(client, clock, 1, kind)
        raise Malformed("an unknown kind")
    if kind in (GC, SKIP):
        loose = altered("block: kind 0 may have flags") and kind == GC
        loose = loose or (altered("block: kind 10 may have flags") and kind == SKIP)
        if info != kind and not loose:
            raise Malformed("flags on a block without links")
        block = Block(client, clock, r.clock(), kind)
    else:
        block = parse_item(r, client, clock, info, kind)
    if block.length == 0 and not EMPTY_IS_VALID(kind):
        raise Malformed("an empty block")
    if block.end > CLOCK_END and not altered("block: ends anywhere"):
        raise Malformed("a block ends too late")
    return block


def EMPTY_IS_VALID(kind):
    return {
        GC: altered("block: kind 0 may be empty"),
        DELETED: altered("block: kind 1 may be empty"),
        JSON: altered("block: kind 2 may be empty"),
        STRING: altered("block: kind 4 may be empty"),
        ANY: altered("block: kind 8 may be empty"),
        SKIP: altered("block: kind 10 may be empty"),
    }.get(kind, False)


def parse_item(r, client, clock, info, kind):
    start = r.at
    origin = r.id() if info & ORIGIN else None
    right = r.id() if info & RIGHT else None
    parent = None
    keyed = bool(info & KEY)
    if origin is None and right is None:
        flag = r.uint()
        if flag == 1:
            r.text("root")
        elif flag == 0 or altered("block: any parent flag but 1 is an id"):
            parent = r.id()
        else:
            raise Malformed("an unknown parent flag")
        if keyed:
            r.text("key")
    elif keyed and altered("block: with an origin and bit 5 a key follows"):
        r.text("key")
    block = Block(client, clock, 1, kind, r.data[start : r.at], origin=origin, right=right, parent=parent, keyed=keyed)
    start = r.at
    read_content(r, block)
    block.content = r.data[start : r.at]
    return block


def read_content(r, block):
    kind = block.kind
    if kind == DELETED:
        block.length = r.clock()
    elif kind == STRING:
        block.items = r.text("string")
        block.length = len(block.items) if altered("string: units are code points") else utf16(block.items)
        if altered("string: units are bytes"):
            block.length = len(block.items.encode())
    elif kind in (JSON, ANY):
        count = r.clock()
        block.items = []
        for _ in range(bounded(count, r.data)):
            start = r.at
            element(r, kind)
            block.items.append(r.data[start : r.at])
        block.length = count
    elif kind == BINARY:
        r.bytes()
    elif kind == EMBED:
        check_json(r.text("json"))
    elif kind == FORMAT:
        r.text("format")
        check_json(r.text("json"))
    elif kind == TYPE:
        block.type = r.uint()
        if block.type in (3, 5):
            r.text("name")
        elif block.type > 6 and not altered("type: any number"):
            raise Malformed("an unknown type")
    elif kind == DOC:
        r.text("guid")
        value(r)


def element(r, kind):
    if kind == ANY:
        value(r)
    else:
        text = r.text("json")
        if text != "undefined":
            check_json(text)


def value(r):
    """One value; without recursion, since its depth is external input."""
    open_ = []
    while True:
        head = scalar_or_head(r)
        if head is not None:
            limit = VALUE_NESTING + (1 if altered("value: nested 33 deep") else 0)
            if altered("value: nested 31 deep"):
                limit -= 1
            if len(open_) >= limit:
                raise Malformed("a value is nested too deeply")
            open_.append(head)
        while open_ and open_[-1][0] == 0:
            open_.pop()
        if not open_:
            return
        open_[-1][0] -= 1
        if open_[-1][1]:
            r.text("field")


def scalar_or_head(r):
    tag = r.u8()
    if tag in (127, 126, 121, 120):
        return None
    if tag == 125:
        r.int()
    elif tag == 124:
        r.take(8 if altered("value: 124 has eight bytes") else 4)
    elif tag == 123:
        r.take(4 if altered("value: 123 has four bytes") else 8)
    elif tag == 122:
        r.take(8)
    elif tag == 119:
        r.text("value")
    elif tag == 116:
        if altered("value: bytes must be UTF-8"):
            r.text("bytes")
        else:
            r.bytes()
    elif tag in (117, 118):
        return [r.uint(), tag == 118]
    elif not altered("value: an unknown tag has no content"):
        raise Malformed("an unknown value")
    return None


def check_json(text):
    """RFC 8259, at most 32 deep, finite numbers, complete surrogate pairs."""
    if altered("JSON: not checked"):
        return
    depth, deepest, inside, escaped = 0, 0, False, False
    for char in text:
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    limit = VALUE_NESTING + (1 if altered("JSON: nested 33 deep") else 0)
    if altered("JSON: nested 31 deep"):
        limit -= 1
    if deepest > limit:
        raise Malformed("JSON is nested too deeply")
    if altered("JSON: text may follow"):
        try:
            json.JSONDecoder(parse_constant=no_constant).raw_decode(text.lstrip(" \t\r\n"))
            return
        except ValueError as error:
            raise Malformed("no JSON") from error
    if text.startswith("\ufeff") or text.strip(" \t\r\n") != text.strip():
        raise Malformed("white space that JSON does not have")
    control = not altered("JSON: control characters in strings")
    try:
        parsed = json.loads(text, parse_constant=no_constant, strict=control)
    except (ValueError, RecursionError) as error:
        raise Malformed("no JSON") from error
    check_parsed(parsed)


def no_constant(word):
    """Rejects NaN and Infinity, which Python's parser accepts."""
    if altered("JSON: NaN and Infinity"):
        return 0
    raise ValueError(word)


def check_parsed(parsed):
    todo = [parsed]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            todo += list(one) + list(one.values())
        elif isinstance(one, list):
            todo += one
        elif isinstance(one, str):
            half = any(0xD800 <= ord(char) < 0xE000 for char in one)
            if half and not altered("JSON: half of a surrogate pair"):
                raise Malformed("half of a surrogate pair")
        elif isinstance(one, (int, float)) and not isinstance(one, bool):
            if not finite(one) and not altered("JSON: infinite numbers"):
                raise Malformed("a number beyond 64-bit floats")


def finite(number):
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False


def parse_state_vector(data):
    """For each client the end of its known blocks, without zeros."""
    r = Reader(data)
    ends = {}
    for _ in range(bounded(r.uint(), data)):
        client, clock = r.client(), r.clock()
        if client in ends and not altered("state vector: the last of a client counts"):
            raise Malformed("a client is listed twice")
        ends[client] = clock
    if r.at != len(data) and not altered("state vector: bytes may follow"):
        raise Malformed("bytes after the end")
    return {client: clock for client, clock in ends.items() if clock or altered("state vector: zeros are kept")}


def encode_state_vector(ends):
    w = Writer()
    w.uint(len(ends))
    for client in sorted(ends, reverse=not altered("state vector: ascending")):
        w.uint(client)
        w.uint(ends[client])
    return bytes(w.out)



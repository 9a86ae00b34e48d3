"""merge, diff, compact and state vectors, as in spec/docs/updates.md. Needs neither senders nor known clocks."""

import bisect
import hashlib

from readings import altered
from updates import ANY, DELETED, GC, JSON, SKIP, STRING, Block, Update, Writer, joined


def beyond(update, ends):
    """The blocks beyond these clocks: the first block of each client is cut, and Skips at the beginning are dropped."""
    runs = {}
    for client, run in update.runs.items():
        end, rest = ends.get(client, 0), []
        for block in run:
            if block.end <= end:
                continue
            if block.clock < end:
                block = block.cut(end - block.clock, block.length)
            rest.append(block)
        while rest and rest[0].kind == SKIP and not altered("diff: Skips at the beginning are kept"):
            rest.pop(0)
        if rest:
            runs[client] = rest
    return Update(runs, update.deletes)


def state_hash(update):
    """SHA-256 over the state vector and the delete set, clients ascending."""
    ends, w = state_vector(update), Writer()
    downwards = altered("state hash: clients descending")
    w.uint(len(ends))
    for client in sorted(ends, reverse=downwards):
        w.uint(client)
        w.uint(ends[client])
    deletes = update.deletes
    if altered("state hash: only the state vector"):
        return hashlib.sha256(bytes(w.out)).digest()
    w.uint(len(deletes))
    for client in sorted(deletes, reverse=altered("state hash: deleted clients descending")):
        w.uint(client)
        w.uint(len(deletes[client]))
        for from_, to in deletes[client]:
            w.uint(from_)
            w.uint(to if altered("state hash: ranges by their ends") else to - from_)
    if altered("state hash: of the bytes of the update"):
        return hashlib.sha256(update.encode()).digest()
    return hashlib.sha256(bytes(w.out)).digest()


def diff(update, ends):
    new = beyond(update, ends)
    if altered("diff: deletions below the state vector are left out"):
        kept = {}
        for client, ranges in new.deletes.items():
            end = ends.get(client, 0)
            kept[client] = [(max(from_, end), to) for from_, to in ranges if to > end]
        new.deletes = {client: ranges for client, ranges in kept.items() if ranges}
    return new


def stretches(update):
    """For each client, the stretches of blocks without Skip."""
    for client, run in update.runs.items():
        part = []
        for block in run:
            if block.kind == SKIP:
                if part:
                    yield client, part
                part = []
            else:
                part.append(block)
        if part:
            yield client, part


def written(blocks):
    """The concatenated bytes of the blocks."""
    w = Writer()
    for block in blocks:
        block.write(w)
    return bytes(w.out)


def merge(updates):
    parts = [stretch for update in updates for stretch in stretches(update)]

    def key(stretch):
        client, blocks = stretch
        longer = -blocks[-1].end
        if altered("merge: the shorter first"):
            longer = -longer
        lower = written(blocks)
        if altered("merge: the higher bytes first"):
            lower = bytes(255 - byte for byte in lower) + b"\xff"
        if altered("merge: the order in which updates are given decides"):
            lower = b""
        return client, blocks[0].clock, longer, lower

    runs = {}
    for client, blocks in sorted(parts, key=key):
        run = runs.setdefault(client, [])
        if run and blocks[0].clock > run[-1].end:
            gap = blocks[0].clock - run[-1].end
            run.append(Block(client, run[-1].end, gap, SKIP))
        end = run[-1].end if run else blocks[0].clock
        for block in blocks:
            if block.end > end:
                run.append(block if block.clock >= end else block.cut(end - block.clock, block.length))
    deletes = {}
    for update in updates:
        for client, ranges in update.deletes.items():
            deletes[client] = joined(deletes.get(client, []) + ranges)
    return Update(runs, deletes)


def state_vector(update):
    ends = {}
    for client, run in update.runs.items():
        if run[0].clock != 0 and not altered("state vector: includes blocks that do not begin at 0"):
            continue
        gap = next((block.clock for block in run if block.kind == SKIP), run[-1].end)
        if altered("state vector: continues over Skips"):
            gap = run[-1].end
        if gap:
            ends[client] = gap
    return ends


def in_deleted_types(update):
    """The ids of the blocks that lie in a deleted type."""
    from admission import order

    blocks, whole = order(update)
    dead = set()
    if not whole:
        return dead

    def at(block, to):
        if to is None or (to[0] == block.client and to[1] >= block.clock):
            return None
        return update.find(to)

    def in_deleted(block, to):
        other = at(block, to)
        gc = other is not None and other.kind == GC and not altered("compact: a Gc origin is not in a deleted type")
        return other is not None and (gc or other.id in dead)

    for block in blocks:
        if block.parent:
            other = at(block, block.parent)
            gone = other is not None and update.is_deleted(block.parent)
            if altered("compact: kind 1 counts as deleted") and other is not None and other.kind == DELETED:
                gone = True
            is_dead = gone or in_deleted(block, block.parent)
        else:
            is_dead = in_deleted(block, block.origin)
            if not altered("compact: a right origin in a deleted type has no effect"):
                is_dead = is_dead or in_deleted(block, block.right)
        if is_dead:
            dead.add(block.id)
    if altered("compact: nothing becomes Gc"):
        return set()
    return dead


def pieces(update, block, dead):
    """The block, cut at the beginning and end of deletions, without the content of deleted stretches."""
    cuts = {block.clock, block.end}
    ranges = update.deletes.get(block.client, [])
    first = bisect.bisect_right(ranges, block.clock, key=lambda range_: range_[1])
    last = bisect.bisect_left(ranges, block.end, key=lambda range_: range_[0])
    for from_, to in ranges[first:last]:
        cuts |= {clock for clock in (from_, to) if block.clock < clock < block.end}
    cut_points = sorted(cuts)
    for from_, to in zip(cut_points, cut_points[1:]):
        piece = block.cut(from_ - block.clock, to - block.clock)
        if block.kind not in (GC, SKIP) and update.is_deleted((block.client, from_)):
            if block.id in dead:
                piece = Block(block.client, from_, to - from_, GC)
            elif not altered("compact: deleted content is kept"):
                piece = piece.copy(kind=DELETED)
        elif block.id in dead and altered("compact: undeleted children of deleted types become Gc"):
            piece = Block(block.client, from_, to - from_, GC)
        yield piece


def joins(before, after):
    if before.kind != after.kind or before.end != after.clock:
        return False
    if before.kind in (GC, SKIP):
        if before.kind == SKIP:
            return not altered("compact: neighbouring Skips are not joined")
        return not altered("compact: neighbouring Gc are not joined")
    kinds = {DELETED: True, STRING: True, ANY: True, JSON: True}
    if altered("compact: kind 1 is not joined"):
        kinds[DELETED] = False
    if altered("compact: kind 8 is not joined"):
        kinds[ANY] = False
    if altered("compact: kind 2 is not joined"):
        kinds[JSON] = False
    if not kinds.get(before.kind):
        return False
    listed = before.kind in (ANY, JSON) and not altered("compact: kinds 2 and 8 with bit 5 are joined")
    if listed and (before.keyed or after.keyed):
        return False
    if altered("compact: kinds 1 and 4 with bit 5 are not joined") and (before.keyed or after.keyed):
        return False
    last = (before.client, before.end - 1)
    if after.origin != last and not altered("compact: joined with any origin of the later block"):
        return False
    return before.right == after.right or altered("compact: joined with any right origins")


def compact(update):
    dead = in_deleted_types(update)
    runs = {}
    for client, run in update.runs.items():
        out = []
        for block in run:
            for piece in pieces(update, block, dead):
                if out and joins(out[-1], piece):
                    last = out[-1]
                    items = None
                    if piece.kind in (STRING, ANY, JSON):
                        items = last.items + piece.items
                    out[-1] = last.copy(length=last.length + piece.length, items=items)
                else:
                    out.append(piece)
        runs[client] = out
    deletes = {} if altered("compact: the delete set is dropped") else update.deletes
    return Update(runs, deletes)

"""The rules of spec/docs/admission.md for one update. An argument contains what is known before it."""

from readings import altered
from updates import CLOCK_END, DOC, JSON, SKIP, TYPE, Malformed, parse
from algebra import beyond

EVENT_BYTES, EVENT_CLIENTS, EVENT_BLOCKS, EVENT_DELETES = 45_000, 64, 8_192, 8_192
TYPE_NESTING = 64


class Refused(Exception):
    """The update violates a rule; the message is the name of the rule."""


def limit(number, name):
    """A limit, one higher or lower if its reading is altered."""
    more = LIMITS_MORE().get(name, False)
    less = LIMITS_LESS().get(name, False)
    return number + more - less


def LIMITS_MORE():
    return {
        "bytes": altered("rule 1: 45,001 bytes"),
        "clients": altered("rule 3: 65 clients"),
        "blocks": altered("rule 3: 8,193 blocks"),
        "deletes": altered("rule 3: 8,193 ranges"),
        "types": altered("rule 11: 65 deep"),
    }


def LIMITS_LESS():
    return {
        "bytes": altered("rule 1: 44,999 bytes"),
        "clients": altered("rule 3: 63 clients"),
        "blocks": altered("rule 3: 8,191 blocks"),
        "deletes": altered("rule 3: 8,191 ranges"),
        "types": altered("rule 11: 63 deep"),
    }


def admit(data, sender, known):
    """The `expect` of the vectors' README.md. `known`: for each client `{"end", "owner"}`."""
    try:
        return decide(data, sender, known)
    except Refused as refusal:
        return {"result": "refused", "rule": str(refusal)}
    except Malformed:
        return {"result": "refused", "rule": "malformed"}


def decide(data, sender, known):
    if altered("rule 1 after rule 2"):
        parse(data)
    if len(data) > limit(EVENT_BYTES, "bytes"):
        raise Refused("too_large")
    update = parse(data)
    if altered("rule 4 before rule 3"):
        check_kinds(update, known)
    check_counts(update)
    if altered("rule 5 before rule 4"):
        check_owners(update, sender, known)
    if not altered("rule 4 is checked after the cut"):
        check_kinds(update, known)
    gap = find_gap(update, known)
    if altered("rule 6 before rule 5") and gap:
        return gap
    if not altered("rule 5 is not checked"):
        check_owners(update, sender, known)
    if gap and not altered("rule 6 is not checked"):
        return gap
    new = update if altered("the known part is not cut off") else cut_known(update, known)
    if altered("rule 4 is checked after the cut"):
        check_kinds(new, known)
    check_rest(new, known)
    if not new.runs and not new.deletes:
        if altered("known: an empty update is admitted"):
            return {"result": "admitted", "ranges": {}}
        return {"result": "known"}
    if not new.runs and altered("known: an update that only deletes is known"):
        return {"result": "known"}
    ranges = {str(client): [run[0].clock, run[-1].end] for client, run in new.runs.items()}
    return {"result": "admitted", "ranges": ranges, "update": new.encode().hex()}


def check_rest(new, known):
    if altered("rule 9 before rule 7"):
        check_deletes(new, known)
    if altered("rule 10 before rule 7"):
        check_circle(new)
    check_links(new, known)
    if altered("rule 10 before rule 9"):
        check_circle(new)
    if altered("rule 11 before rule 9"):
        check_nesting(new)
    check_deletes(new, known)
    if altered("rule 11 before rule 10"):
        check_nesting(new)
    check_circle(new)
    check_nesting(new)


def check_counts(update):
    blocks = sum(len(run) for run in update.runs.values())
    clients = len(update.runs)
    deletes = sum(len(ranges) for ranges in update.deletes.values())
    over = clients > limit(EVENT_CLIENTS, "clients")
    over = over or blocks > limit(EVENT_BLOCKS, "blocks")
    if over or deletes > limit(EVENT_DELETES, "deletes"):
        raise Refused("too_many")


def check_kinds(update, known):
    blocks = list(update.blocks())
    if altered("rule 4: clients descending"):
        blocks = [block for client in sorted(update.runs, reverse=True) for block in update.runs[client]]
    for block in blocks:
        end = known.get(str(block.client), {}).get("end", 0)
        if block.end <= end and altered("rule 4: known blocks are not checked"):
            continue
        if block.kind == SKIP and not altered("rule 4: a Skip is valid"):
            raise Refused("skip")
        if block.kind == DOC and not altered("rule 4: a sub-document is valid"):
            raise Refused("sub_document")
        if block.kind == JSON and not altered("rule 4: legacy JSON is valid"):
            raise Refused("legacy_json")
        if block.kind == TYPE and block.type == 5 and not altered("rule 4: an XML hook is valid"):
            raise Refused("xml_hook")


def known_end(known, client):
    return known.get(str(client), {}).get("end", 0)


def check_owners(update, sender, known):
    for client in sorted(update.runs):
        owner = known.get(str(client), {}).get("owner")
        only_known = update.end(client) <= known_end(known, client)
        if only_known and not altered("rule 5: known blocks are checked"):
            continue
        if owner is None or owner == sender:
            continue
        if altered("rule 5: the localpart decides") and owner.split(":")[0] == sender.split(":")[0]:
            continue
        if altered("rule 5: the server decides") and owner.split(":", 1)[1] == sender.split(":", 1)[1]:
            continue
        raise Refused("foreign_client")


def find_gap(update, known):
    for client in sorted(update.runs, reverse=altered("rule 6: clients descending")):
        from_, end = update.runs[client][0].clock, known_end(known, client)
        if from_ > end:
            return {"result": "gap", "client": str(client), "known_end": end, "from": from_}
        if from_ < end and altered("rule 6: blocks begin exactly at the end"):
            return {"result": "gap", "client": str(client), "known_end": end, "from": from_}
    return None


def cut_known(update, known):
    return beyond(update, {client: known_end(known, client) for client in update.runs})


def end_with(new, known, client):
    if client in new.runs and not altered("rule 7: only what is known before the update counts"):
        return new.end(client)
    return known_end(known, client)


def check_links(new, known):
    blocks = list(new.blocks())
    if altered("rule 8 of all blocks before rule 7"):
        for block in blocks:
            check_same(block)
    if altered("rules 7 and 8: clients descending"):
        blocks = [block for client in sorted(new.runs, reverse=True) for block in new.runs[client]]
    for block in blocks:
        if altered("rule 8 before rule 7"):
            check_same(block)
        for client, clock in links_of(block):
            if client == block.client:
                there = clock < block.clock
                if altered("rule 7: own clocks up to the block's own end"):
                    there = clock < block.end
                if altered("rule 7: own clocks up to the client's end"):
                    there = clock < end_with(new, known, client)
            else:
                there = clock < end_with(new, known, client)
            if not there:
                raise Refused("unknown_origin")
        check_same(block)


def links_of(block):
    links = []
    if block.origin and not altered("rule 7: origins are not checked"):
        links.append(block.origin)
    if block.right and not altered("rule 7: right origins are not checked"):
        links.append(block.right)
    if block.parent and not altered("rule 7: parents are not checked"):
        links.append(block.parent)
    return links


def check_same(block):
    if block.origin and block.origin == block.right and not altered("rule 8 is not checked"):
        raise Refused("origin_is_right_origin")


def check_deletes(new, known):
    for client, ranges in new.deletes.items():
        end = end_with(new, known, client)
        if altered("rule 9: only what is known before the update counts"):
            end = known_end(known, client)
        last = ranges[-1][1]
        if altered("rule 9: a range may begin below the end"):
            last = ranges[-1][0]
        if altered("rule 9: only the first range of a client is checked"):
            last = ranges[0][1]
        if (last > end or last > CLOCK_END) and not altered("rule 9 is not checked"):
            raise Refused("unknown_delete")


def order(new):
    """The blocks in an order by rule 10, and whether the order contains all blocks."""
    heads = {client: 0 for client in new.runs}
    done, out = {client: run[0].clock for client, run in new.runs.items()}, []
    moved = True
    while moved:
        moved = False
        for client in sorted(heads):
            run = new.runs[client]
            while heads[client] < len(run) and ready(run[heads[client]], new, done):
                block = run[heads[client]]
                out.append(block)
                done[client] = block.end
                heads[client] += 1
                moved = True
    return out, all(heads[client] == len(run) for client, run in new.runs.items())


def ready(block, new, done):
    links = [block.origin, block.right, block.parent]
    if altered("rule 10: origins are not considered"):
        links[0] = None
    if altered("rule 10: right origins are not considered"):
        links[1] = None
    if altered("rule 10: parents are not considered"):
        links[2] = None
    for to in links:
        if to is None or to[0] == block.client or to[0] not in new.runs:
            continue
        if to[1] >= done[to[0]] and to[1] < new.end(to[0]):
            return False
    return True


def check_circle(new):
    if not order(new)[1] and not altered("rule 10 is not checked"):
        raise Refused("circle")


def check_nesting(new):
    depth = {}
    blocks = order(new)[0]
    for block in blocks:
        inside = 0
        if block.parent:
            to = new.find(block.parent)
            missing = 1 if altered("rule 11: a parent elsewhere counts for 1") else 0
            inside = depth[to.id] + 1 if to else missing
        elif block.origin or block.right:
            first = block.origin or block.right
            if altered("rule 11: the right origin first"):
                first = block.right or block.origin
            if altered("rule 11: right origins are not followed") and not block.origin:
                first = None
            to = new.find(first) if first else None
            inside = depth.get(to.id, 0) if to else 0
            if altered("rule 11: origins are not followed") and block.origin:
                inside = 0
        depth[block.id] = inside
        is_type = block.kind == TYPE or altered("rule 11: every block is checked")
        if is_type and inside >= limit(TYPE_NESTING, "types") and not altered("rule 11 is not checked"):
            raise Refused("too_deep")



"""Audit files, as in spec/docs/audit.md. The authorisation rules are Matrix': a vector says which events they reject. Cuts are not
covered."""

import base64
import hashlib
import json

import claims
import ed25519
from algebra import merge, state_hash
from readings import altered
from update_events import Unreadable, decoded
from updates import Malformed, parse

# What a redaction keeps, in room versions 11 and 12.
KEPT = (
    "type room_id sender state_key content hashes signatures depth prev_events auth_events origin_server_ts"
).split()
KEPT_CONTENT = {
    "m.room.member": ("membership", "join_authorised_via_users_server"),
    "m.room.join_rules": ("join_rule", "allow"),
    "m.room.power_levels": (
        "ban events events_default invite kick redact state_default users users_default"
    ).split(),
    "m.room.history_visibility": ("history_visibility",),
    "m.room.redaction": ("redacts",),
}
WHOLE = ("dev.weft.update", "dev.weft.witness")


class Wrong(Exception):
    def __init__(self, rule, event=None):
        super().__init__(rule)
        self.rule, self.event = rule, event


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def without(event, *fields):
    return {name: value for name, value in event.items() if name not in fields}


def redacted(event):
    content = event["content"]
    if event["type"] != "m.room.create":
        kept = KEPT_CONTENT.get(event["type"], ())
        content = {name: value for name, value in content.items() if name in kept}
    return {name: value for name, value in event.items() if name in KEPT} | {"content": content}


def url_safe(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def standard(text):
    return base64.b64decode(text + "=" * (-len(text) % 4))


def event_id(event):
    hashed = without(redacted(event), "signatures")
    return "$" + url_safe(hashlib.sha256(canonical(hashed)).digest())


def server(user):
    return user.split(":", 1)[1]


class File:
    def __init__(self, case):
        self.rejected_ids = set(case.get("rejected_by_matrix", ()))
        self.pinned = case.get("pinned")
        self.keys, self.events, self.end = {}, {}, None
        self.creates, self.redactions, self.stripped = 0, {}, []
        # The entries of the lock in the state after each event: by type and state key, the number and id of the event.
        self.locks = {}

    # --- lines ---

    def read(self, lines):
        for number, line in enumerate(lines, 1):
            self.number = number
            self.line(line, number == 1)
        if self.end is None:
            raise Wrong("truncated")
        return self.finish()

    def line(self, line, first):
        if self.end is not None and not altered("audit: lines may follow the last one"):
            raise Wrong("form")
        if first != ("weft_audit" in line):
            raise Wrong("form")
        if first:
            self.room, self.version = line["room_id"], line["room_version"]
        if "keys" in line:
            self.take_keys(line["keys"])
        if "pdu" in line:
            self.event(line["event_id"], line["pdu"])
        elif "heads" in line:
            self.end = line

    def take_keys(self, keys):
        for name, own in keys.items():
            for key_id, key in own.items():
                pin = (self.pinned or {}).get(name, {}).get(key_id)
                if pin and pin["key"] != key["key"] and not altered("audit: a key may differ from a pinned one"):
                    raise Wrong("key")
                known = self.keys.setdefault((name, key_id), key)
                if known != key and not altered("audit: a key may be given twice"):
                    raise Wrong("key")

    # --- events ---

    def event(self, id_, event):
        if not all(isinstance(event[name], int) for name in ("depth", "origin_server_ts")):
            raise Wrong("event", id_)
        computed = event_id(event)
        if computed != id_ and not altered("audit: ids are not computed"):
            raise Wrong("event_id", id_)
        room = "!" + computed[1:] if self.version == "12" and event["type"] == "m.room.create" else event["room_id"]
        if room != self.room and not altered("audit: events may be of any room"):
            raise Wrong("room", id_)
        self.check_signature(id_, event)
        is_stripped = self.check_content(id_, event)
        if id_ in self.events and not altered("audit: an event may be in a file twice"):
            raise Wrong("duplicate", id_)
        self.creates += event["type"] == "m.room.create"
        if self.creates > 1:
            raise Wrong("create", id_)
        before = event["prev_events"] + event["auth_events"]
        if altered("audit: auth events may come later"):
            before = event["prev_events"]
        if any(other not in self.events for other in before) and not altered("audit: prev events may come later"):
            raise Wrong("order", id_)
        self.events[id_] = event
        self.apply_lock(id_, event)
        if is_stripped:
            self.stripped.append(id_)
        if event["type"] == "m.room.redaction" and id_ not in self.rejected_ids:
            self.redactions.setdefault(event["content"].get("redacts"), []).append(event["sender"])

    def apply_lock(self, id_, event):
        """An update that follows a standing lock is rejected (lock.md). Of two entries with one key the later one counts: state
        resolution is not modelled."""
        state = {}
        for prev in event["prev_events"]:
            for key, entry in self.locks.get(prev, {}).items():
                state[key] = max(entry, state.get(key, entry))
        lock = state.get(("dev.weft.lock", ""))
        is_lifted = lock is not None and ("dev.weft.unlock", lock[1]) in state
        if altered("audit: any unlock lifts a lock"):
            is_lifted = any(kind == "dev.weft.unlock" for kind, _ in state)
        is_update = event["type"] == "dev.weft.update" and "state_key" not in event
        if is_update and lock and not is_lifted and not altered("audit: a lock is not applied"):
            self.rejected_ids.add(id_)
        is_entry = event["type"] in ("dev.weft.lock", "dev.weft.unlock") and "state_key" in event
        if is_entry and id_ not in self.rejected_ids:
            state[event["type"], event["state_key"]] = (self.number, id_)
        self.locks[id_] = state
        if altered("audit: a lock counts on all branches"):
            self.locks = dict.fromkeys(self.events, state)

    def check_signature(self, id_, event):
        name = server(event["sender"])
        message = canonical(without(redacted(event), "signatures", "unsigned"))
        for key_id, signature in event["signatures"].get(name, {}).items():
            key = self.keys.get((name, key_id))
            if key is None:
                continue
            until = key.get("expired", key.get("valid_until"))
            valid = event["origin_server_ts"] <= until or altered("audit: keys are valid for ever")
            if valid and ed25519.verify(standard(key["key"]), message, standard(signature)):
                return
        if not altered("audit: signatures are not checked"):
            raise Wrong("signature", id_)

    def check_content(self, id_, event):
        """Whether the content was removed."""
        hashed = canonical(without(event, "unsigned", "signatures", "hashes"))
        if standard(event["hashes"]["sha256"]) == hashlib.sha256(hashed).digest():
            return False
        if event != redacted(event) and not altered("audit: any content may be missing"):
            raise Wrong("content_hash", id_)
        return True

    # --- the end ---

    def finish(self):
        if self.end["events"] != len(self.events) and not altered("audit: events are not counted"):
            raise Wrong("count")
        referenced = set()
        for event in self.events.values():
            referenced.update(event["prev_events"])
            if not altered("audit: a head may be an auth event"):
                referenced.update(event["auth_events"])
        heads = [id_ for id_ in self.events if id_ not in referenced]
        for id_ in heads:
            if id_ in self.rejected_ids and not altered("audit: a head may be rejected"):
                raise Wrong("authorisation", id_)
        stated = self.end["heads"]
        if sorted(heads) != sorted(stated) and not altered("audit: heads are not compared"):
            missing = [id_ for id_ in sorted(heads) if id_ not in stated]
            raise Wrong("heads", (missing or sorted(set(stated) - set(heads)))[0])
        hash_ = url_safe(self.text())
        if self.end.get("state_hash", hash_) != hash_ and not altered("audit: the text is not compared"):
            raise Wrong("state_hash")
        return {
            "result": "good",
            "events": len(self.events),
            "rejected": len(self.rejected_ids),
            "redacted": self.redacted(),
            "state_hash": hash_,
            "confirmed": self.confirmed(),
        }

    def text(self):
        updates = {}
        for id_, event in self.events.items():
            if event["type"] != "dev.weft.update" or id_ in self.rejected_ids:
                continue
            try:
                updates[id_] = decoded(event["content"].get("update"))
                parse(updates[id_])
            except (Unreadable, Malformed):
                updates.pop(id_, None)
        room = claims.Room([self.claim(id_, event, updates) for id_, event in self.events.items()])
        standing = room.decide()
        if altered("audit: every update is part of the text"):
            standing = list(updates)
        return state_hash(merge([parse(updates[id_]) for id_ in standing]))

    def claim(self, id_, event, updates):
        """The event in the form of the vectors of `claims`."""
        claim = {name: event[name] for name in ("sender", "prev_events", "state_key") if name in event}
        claim |= {"event_id": id_, "rejected": id_ in self.rejected_ids}
        if id_ in updates:
            return claim | {"update": updates[id_].hex(), "clients": event["content"]["clients"]}
        return claim | {"type": event["type"], "stands": event["content"].get("dev.weft.stands", ())}

    def redacted(self):
        """Who may redact: here a user of the sender's server, or the creator."""
        count = 0
        creator = next(event["sender"] for event in self.events.values() if event["type"] == "m.room.create")
        for id_ in self.stripped:
            event = self.events[id_]
            by = [user for user in self.redactions.get(id_, ()) if user == creator or server(user) == server(event["sender"])]
            count += bool(by) and event["type"] not in WHOLE
        return count

    def confirmed(self):
        """By server, the number of events that it follows."""
        ancestors, found = {}, {}
        for id_, event in self.events.items():
            ancestors[id_] = {id_}.union(*(ancestors[prev] for prev in event["prev_events"]))
            is_member = event["type"] == "m.room.member" and not altered("audit: a membership event confirms")
            if is_member or (id_ in self.rejected_ids and not altered("audit: a rejected event confirms")):
                continue
            found.setdefault(server(event["sender"]), set()).update(ancestors[id_])
        return {name: len(ids) for name, ids in found.items()}


def run(case):
    file = File(case)
    try:
        return file.read(case["lines"])
    except Wrong as wrong:
        return {"result": "wrong", "rule": wrong.rule, "event": wrong.event, "line": file.number}


def expected(case):
    return case["expect"]

"""The awareness states that a server stores and sends for one document, as in spec/docs/awareness.md. Time is an argument."""

import copy
import json

from readings import altered, bound
from updates import Malformed, Reader, check_json

STATE_BYTES, NESTING = 2_048, 32
OF_DEVICE, OF_USER, OF_ROOM = 16, 128, 4_096
EXPIRY, MEMORY = 30_000, 60_000
NAMES = {"@alice:alpha.example": "Alice"}
ENTRIES = 4_096


def parse(body):
    """The entries of an awareness message: client id, clock and text."""
    r = Reader(body)
    count = r.uint()
    if count > ENTRIES:
        raise Malformed("too many entries")
    entries = [(r.uint(), r.uint(), r.text("awareness")) for _ in range(count)]
    if r.at != len(body):
        raise Malformed("bytes follow")
    return entries


class Document:
    def __init__(self, names=NAMES):
        self.clients, self.gone, self.now, self.names = {}, {}, 0, names

    def would_change(self, who, an_entry, first):
        """Whether the entry would change anything here or be answered."""
        after = copy.deepcopy(self)
        return after.receive(who, [an_entry], first) != ([], []) or after.clients != self.clients

    def present(self):
        return [entry(client, known["clock"], known["state"]) for client, known in sorted(self.clients.items())]

    def receive(self, who, entries, first):
        """The entries sent to others, and the answers to the socket. `who`: user, device and socket; an EDU has no socket."""
        shown, answered = [], []
        for client, clock, text in entries:
            ids = bound(1 << 53, "awareness: client id 2^53", "awareness: client id below 2^53 - 1")
            clocks = bound(1 << 32, "awareness: clock 2^32", "awareness: clock below 2^32 - 1")
            state = None if text == "null" else acceptable(text)
            if client >= ids or clock >= clocks or (state is None and text != "null"):
                if altered("awareness: entries after an ignored entry are ignored"):
                    break
                continue
            if client in self.clients:
                shown += self.change(who, client, clock, state, first)
            elif state is not None:
                new, answer = self.introduce(who, client, clock, state)
                shown, answered = shown + new, answered + answer
            elif altered("awareness: a removal of an unknown id is sent"):
                shown.append(entry(client, clock, None))
        return shown, answered

    def change(self, who, client, clock, state, first):
        user, device, socket = who
        known = self.clients[client]
        own = (known["user"], known["device"]) == (user, device)
        if altered("awareness: another device of the user may change an id"):
            own = known["user"] == user
        if altered("awareness: another socket may not change an id") and socket not in known["sockets"]:
            own = False
        if not own and not altered("awareness: every user may change an id"):
            return []
        if clock < known["clock"] and not (state is None and altered("awareness: a removal with a lower clock counts")):
            return []
        if state is None:
            if clock == known["clock"] and altered("awareness: a removal needs a higher clock"):
                return []
            return [self.remove(client, clock)]
        if socket is not None and (first or altered("awareness: every message claims its ids for the socket")):
            if not altered("awareness: a socket has only the ids that it introduced"):
                known["sockets"].add(socket)
        if clock == known["clock"] and not altered("awareness: the same clock counts"):
            if altered("awareness: the same clock renews"):
                known["renewed"] = self.now
            return []
        known.update(clock=clock, state=self.identified(state, user), renewed=self.now)
        return [entry(client, clock, known["state"])]

    def introduce(self, who, client, clock, state):
        user, device, socket = who
        before = self.gone.get(client)
        if altered("awareness: a removed id is not remembered"):
            before = None
        if before:
            if before["user"] != user and not altered("awareness: another user may use a removed id"):
                return [], []
            if before["device"] != device and altered("awareness: a removed id may return on its device only"):
                return [], []
            is_old = clock <= before["clock"]
            if altered("awareness: a removed id may return with the same clock"):
                is_old = clock < before["clock"]
            if is_old:
                known_clock = clock if altered("awareness: the answer has the clock of the entry") else before["clock"]
                return [], [entry(client, known_clock, None)]
        if not self.has_room(user, device):
            return [], []
        self.gone.pop(client, None)
        state = self.identified(state, user)
        sockets = set() if socket is None else {socket}
        self.clients[client] = {
            "user": user,
            "device": device,
            "sockets": sockets,
            "clock": clock,
            "state": state,
            "renewed": self.now,
        }
        new = not before and socket is not None
        answers = new and (clock > 0 or altered("awareness: a new id with clock 0 is answered"))
        if altered("awareness: a new id is not answered"):
            answers = False
        if altered("awareness: an id that returns is answered") and before:
            answers = True
        return [entry(client, clock, state)], [entry(client, clock, None)] if answers else []

    def identified(self, state, user):
        return identified(state, user, self.names)

    def has_room(self, user, device):
        of_user = [known for known in self.clients.values() if known["user"] == user]
        devices = sum(known["device"] == device for known in of_user)
        users, rooms = len(of_user), len(self.clients)
        if altered("awareness: removed ids count"):
            left = [known for known in self.gone.values() if known["user"] == user]
            devices += sum(known["device"] == device for known in left)
        return (
            devices < bound(OF_DEVICE, "awareness: 17 ids of a device", "awareness: 15 ids of a device")
            and users < bound(OF_USER, "awareness: 129 ids of a user", "awareness: 127 ids of a user")
            and rooms < bound(OF_ROOM, "awareness: 4,097 ids", "awareness: 4,095 ids")
        )

    def closes(self, socket):
        shown = []
        for client, known in sorted(self.clients.items()):
            if socket in known["sockets"]:
                known["sockets"].discard(socket)
                if not known["sockets"] or altered("awareness: the first socket that closes removes an id"):
                    shown.append(self.remove(client, known["clock"]))
        return shown

    def wait(self, time):
        self.now += time
        memory = bound(MEMORY, "awareness: remembered 1 ms longer", "awareness: remembered 1 ms less")
        expiry = bound(EXPIRY, "awareness: removed 1 ms later", "awareness: removed 1 ms earlier")
        self.gone = {client: known for client, known in self.gone.items() if self.now - known["at"] <= memory}
        old = [client for client, known in sorted(self.clients.items()) if self.now - known["renewed"] > expiry]
        return [self.remove(client, self.clients[client]["clock"]) for client in old]

    def remove(self, client, clock):
        known = self.clients.pop(client)
        if altered("awareness: the server raises the clock of a removal"):
            clock += 1
        self.gone[client] = {"user": known["user"], "device": known["device"], "clock": clock, "at": self.now}
        return entry(client, clock, None)


def entry(client, clock, state):
    return {"client_id": client, "clock": clock, "state": state}


def acceptable(text):
    """The state as a value, or None if it is ignored."""
    try:
        check_json(text)
        state = json.loads(text)
    except (Malformed, ValueError):
        return None
    if not isinstance(state, dict):
        return {} if altered("awareness: any JSON is a state") else None
    size = len(json.dumps(counted(state), separators=(",", ":"), ensure_ascii=False).encode())
    if altered("awareness: the size is that of the received text"):
        size = len(text.encode())
    if size > bound(STATE_BYTES, "awareness: a state of 2,049 bytes", "awareness: a state of 2,047 bytes"):
        return None
    return state


def counted(state):
    """The part of the state that is measured: everything except the identity."""
    if altered("awareness: the identity counts"):
        return state
    state = dict(state)
    user = state.pop("user", None)
    if isinstance(user, dict):
        user = {key: value for key, value in user.items() if key not in ("id", "name")}
        if user or altered("awareness: an empty user counts"):
            state["user"] = user
    elif user is not None and altered("awareness: a user that is no object counts"):
        state["user"] = user
    return state


def identified(state, user, names):
    state = dict(state)
    about = state.get("user")
    about = dict(about) if isinstance(about, dict) else {}
    if altered("awareness: the other fields of user are dropped"):
        about = {}
    name = names.get(user, user[1:].split(":")[0])
    if altered("awareness: the client's name stays") and "name" in about:
        name = about["name"]
    about.update(id=user, name=name)
    if altered("awareness: the client's id stays") and "id" in (state.get("user") or {}):
        about["id"] = state["user"]["id"]
    state["user"] = about
    return state


def run(case):
    """The results of the steps of a vector (entries sent and answered), then the entries that are present."""
    document, first, results = Document(), {}, []
    for step in case["steps"]:
        shown, answered = [], []
        if "sends" in step:
            name, device, _ = step["sends"].split(" ")
            who = (f"@{name}:alpha.example", device, step["sends"])
            shown, answered = document.receive(who, entries(step), first.setdefault(step["sends"], True))
            first[step["sends"]] = False
        elif "closes" in step:
            shown = document.closes(step["closes"])
        elif "wait_ms" in step:
            shown = document.wait(step["wait_ms"])
        else:
            edu = step["edu"]
            who = (edu["user_id"], edu["device_id"], None)
            shown, _ = document.receive(who, [(edu["client_id"], edu["clock"], json.dumps(edu["state"]))], False)
        if "shows" in step:
            results.append({"shows": len(shown)})
        else:
            results.append({"shown": shown, "answered": answered})
    return results, document.present() if "present" in case else None


def entries(step):
    out = []
    for given in step.get("entries", []):
        text = given["text"] if "text" in given else json.dumps(given["state"], separators=(",", ":"), ensure_ascii=False)
        out.append((given["client_id"], given["clock"], text))
    first = step.get("first", 0)
    return out + [(client, 1, "{}") for client in range(first, first + step.get("many", 0))]


def expected(case):
    results = []
    for step in case["steps"]:
        if "shows" in step:
            results.append({"shows": step["shows"]})
        else:
            results.append({"shown": step.get("shown", []), "answered": step.get("answered", [])})
    return results, case.get("present")

"""Requests between servers and their answers, as in spec/docs/federation.md: the document of a room, and room versions.

The rooms are those of the vectors of `snapshots` and `joins`. Must not model what Matrix itself specifies, except for the
order of the checks.
"""

import base64
import re
import urllib.parse

from algebra import compact, merge
from readings import altered, bound
from updates import parse

EVENTS = 100
VERSIONS = [str(version) for version in range(6, 13)]
OWN = "alpha.test"
FIRST, SECOND = "01010100040104626f6479016100", "01010101840100016100"


def error(status, code, **fields):
    return status, {"errcode": code, **fields}


def is_id(text, sigil):
    return re.fullmatch(re.escape(sigil) + r"[^\s]+", text) is not None


class Room:
    def __init__(self, name, document=True, denied=()):
        self.name, self.document, self.denied = name, document, denied
        self.servers = {OWN, "beta.test"}
        self.events = [f"<{name}-{event}>" for event in ("first", "second", "join")]

    def text(self, at):
        last = max(self.events.index(event) for event in at)
        if altered("snapshots: only the first event of at counts"):
            last = self.events.index(at[0])
        updates = [FIRST, SECOND][: 1 if last == 0 else 2]
        if altered("snapshots: without the ancestors") and last == 1:
            updates = [SECOND]
        merged = merge([parse(bytes.fromhex(update)) for update in updates])
        return base64.b64encode(compact(merged).encode()).decode().rstrip("=")


ROOMS = {
    "<doc>": Room("doc"),
    "<other>": Room("other"),
    "<denied>": Room("denied", denied=("beta.test",)),
    "<chat>": Room("chat", document=False),
}


def document(server, path, at):
    """The answer to a signed request for the document of a room."""
    if not is_id(path, "!") and path not in ROOMS:
        if not altered("snapshots: the form of the room id is not checked"):
            return error(400, "M_INVALID_PARAM")
    room = ROOMS.get(path)
    early = at_error(at) if altered("snapshots: the form of at is checked before the membership") else None
    if early:
        return early
    if altered("snapshots: events are searched before the membership") and at and (not room or not set(at) <= set(room.events)):
        return error(404, "M_NOT_FOUND")
    if room is None:
        return error(404, "M_NOT_FOUND") if altered("snapshots: an unknown room is 404") else error(403, "M_FORBIDDEN")
    if server not in room.servers and not altered("snapshots: any server may read"):
        return error(403, "M_FORBIDDEN")
    if server in room.denied and not altered("snapshots: the access list is not checked"):
        return error(403, "M_FORBIDDEN")
    wrong = at_error(at)
    if wrong:
        return wrong
    known = [event for event in at if event in room.events]
    enough = known if altered("snapshots: one known event suffices") else len(known) == len(at)
    if at and not enough:
        return error(404, "M_NOT_FOUND")
    if not room.document:
        return error(400, "M_INVALID_PARAM") if altered("snapshots: a chat is 400") else error(404, "M_NOT_FOUND")
    now = known or [room.events[-1]]
    if not at and altered("snapshots: without at it is the first event"):
        now = room.events[:1]
    named = sorted(now) if altered("snapshots: at is sorted in the answer") else now
    return 200, {"room_id": path, "at": named, "update": room.text(now)}


def at_error(at):
    most = bound(EVENTS, "snapshots: 101 events", "snapshots: 99 events")
    valid = all(is_id(event, "$") or event.startswith("<") for event in at)
    if len(at) > most or (not valid and not altered("snapshots: the form of at is not checked")):
        return error(400, "M_INVALID_PARAM")
    return None


def template(server, kind, room, user, offered):
    """The answer to make_join or make_knock."""
    version = re.search(r"v([0-9]+)>", room)
    if user.split(":", 1)[1] != server and not altered("joins: a user of any server"):
        return error(403, "M_FORBIDDEN")
    if version is None:
        return error(404, "M_NOT_FOUND")
    offered = offered or ([version[1]] if altered("joins: no ver is every version") else ["1"])
    first = offered[:1] if altered("joins: only the first ver is read") else offered
    checked = kind == "make_join" or not altered("joins: a knock is not checked")
    if version[1] not in first and checked and not altered("joins: the version is not checked"):
        if altered("joins: the error names no version"):
            return error(400, "M_INCOMPATIBLE_ROOM_VERSION")
        code = "M_UNSUPPORTED_ROOM_VERSION" if altered("joins: another code") else "M_INCOMPATIBLE_ROOM_VERSION"
        return error(400, code, room_version=version[1])
    return 200, {"room_version": offered[-1] if altered("joins: the version is the last ver") else version[1], "event": {}}


def invitation(endpoint, body):
    version = body.get("room_version", "1") if endpoint == "v2" else "1"
    if endpoint == "v1" and altered("joins: a v1 invitation names no version"):
        return error(400, "M_INCOMPATIBLE_ROOM_VERSION")
    supported = list(VERSIONS)
    if altered("joins: version 13 is supported"):
        supported.append("13")
    if altered("joins: version 5 is supported"):
        supported.append("5")
    if altered("joins: experimental versions are supported"):
        supported.append("org.example.x")
    if version not in supported:
        return error(400, "M_INCOMPATIBLE_ROOM_VERSION", room_version=version)
    return 200, {}


def stays_ended(case):
    """Whether a join is sent, by the memberships that its template cites and those that the user's server has."""
    latest, auth = {}, {}
    for event in case["memberships"]:
        auth[event["id"]] = [latest[user] for user in (event["user"], event["by"]) if user in latest]
        latest[event["user"]] = event["id"]
    about = {event["id"]: event["user"] for event in case["memberships"]}
    if altered("joins: a join on an ended membership is sent"):
        return True
    found, waiting = set(), list(auth[latest[case["user"]]])
    if altered("joins: the current membership has ended too"):
        found.add(latest[case["user"]])
    while waiting:
        id_ = waiting.pop()
        found.add(id_)
        waiting += [] if altered("joins: only the last membership that has ended counts") else auth[id_]
    own = [id_ for id_ in case["cites"] if about[id_] == case["user"] or altered("joins: memberships of other users count")]
    return not found & set(own)


def answer(case):
    method, target = case["request"].split(" ", 1)
    path, _, query = target.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&") if pair] * case.get("times", 1)
    values = {"at": [], "ver": []}
    for name, _, value in pairs:
        values.setdefault(name, []).append(urllib.parse.unquote(value))
    if "limit" in values and altered("snapshots: other parameters are refused"):
        return error(400, "M_INVALID_PARAM")
    parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "_weft":
        if method != "GET" and not altered("snapshots: POST is answered"):
            return error(405, "M_UNRECOGNIZED")
        if "by" not in case and not altered("snapshots: the signature is not checked"):
            return error(401, "M_UNAUTHORIZED")
        return document(case.get("by", "beta.test"), parts[4], values["at"])
    if parts[3] == "invite":
        return invitation(parts[2], case["body"])
    return template(case["by"], parts[3], parts[4], parts[5], values["ver"])


def run(case):
    """Whether the vector's expectations are met; otherwise the answer."""
    if "offers" in case:
        return {"offers": VERSIONS[1:] if altered("joins: version 6 is not offered") else VERSIONS}
    if "memberships" in case:
        return {"sent": stays_ended(case)}
    status, body = answer(case)
    got = {"status": status, "answer": {key: body.get(key) for key in case["answer"]}}
    if "exactly" in case:
        got["exactly"] = sorted(body)
    return got


def expected(case):
    wanted = {key: case[key] for key in ("offers", "sent", "status", "answer", "exactly") if key in case}
    if "exactly" in wanted:
        wanted["exactly"] = sorted(wanted["exactly"])
    return wanted

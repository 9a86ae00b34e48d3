"""The frames of the live socket, as in spec/docs/live.md: parses one message of either framing. Must not parse bodies."""

from readings import altered
from updates import Malformed, Reader

NAME_BYTES, TEXT_BYTES = 512, 65_536
PING, PONG = 9, 10


class Unreadable(Exception):
    """A message that cannot be decoded; the text is the `error` of the vectors."""


def read(framing, data):
    """The `frame` or `error` of the vectors, as a pair of key and value."""
    try:
        if not data:
            raise Unreadable("empty")
        return "frame", (plain if framing == "plain" else hocuspocus)(data)
    except Unreadable as error:
        return "error", str(error)
    except Malformed:
        return "error", "encoding"


def bounded(r, limit=None):
    if limit is None:
        limit = TEXT_BYTES
        limit += altered("frames: a text of 65,537 bytes") - altered("frames: a text of 65,535 bytes")
    text = r.text("frame")
    size = len(text) if altered("frames: lengths of texts are characters") else len(text.encode())
    if size > limit:
        raise Unreadable("too_long")
    return text


def ended(r):
    if r.at != len(r.data) and not altered("frames: bytes may follow"):
        raise Unreadable("trailing")


def sync(r):
    number, body = r.uint(), r.bytes()
    ended(r)
    names = {0: "step1", 1: "step2", 2: "update"}
    if altered("frames: step 2 and changes are swapped"):
        names = {0: "step1", 1: "update", 2: "step2"}
    if number not in names:
        if altered("frames: other sync numbers are changes"):
            return {"type": "update", "body": body.hex()}
        raise Unreadable("unknown_type")
    return {"type": names[number], "body": body.hex()}


def awareness(r):
    body = r.bytes()
    ended(r)
    return {"type": "awareness", "body": body.hex()}


def plain(data):
    r = Reader(data)
    number = r.uint()
    if number == 0:
        return sync(r)
    if number == 1:
        return awareness(r)
    if number == 2:
        if r.uint() != 0 and not altered("frames: any auth number in plain framing"):
            raise Unreadable("unknown_type")
        reason = bounded(r)
        ended(r)
        return {"type": "permission_denied", "reason": reason}
    if number == 3:
        ended(r)
        return {"type": "query_awareness"}
    if number == (118 if altered("frames: a notice is 118") else 119):
        payload = bounded(r)
        ended(r)
        return {"type": "notice", "payload": payload}
    raise Unreadable("unknown_type")


def hocuspocus(data):
    if len(data) == 1 or altered("frames: ping and pong may be longer"):
        if data[0] in (PING, PONG):
            is_ping = (data[0] == PING) != altered("frames: 10 is the ping")
            return {"type": "ping" if is_ping else "pong"}
    r = Reader(data)
    name = bounded(r, NAME_BYTES + altered("frames: a name of 513 bytes") - altered("frames: a name of 511 bytes"))
    if altered("frames: the name without its session"):
        name = name.split("\0")[0]
    frame = of_document(r, r.uint())
    return frame | {"name": name}


def of_document(r, number):
    if number == 0:
        return sync(r)
    if number == 1:
        return awareness(r)
    frame = None
    if number == 2:
        frame = auth(r)
    elif number == 3:
        frame = {"type": "query_awareness"}
    elif number == 5:
        frame = {"type": "stateless", "payload": bounded(r)}
    elif number == 7:
        none = r.at == len(r.data) and not altered("frames: a close has a reason")
        frame = {"type": "close", "reason": None if none else bounded(r)}
    elif number == 8:
        on_disk = r.uint() == (0 if altered("frames: sync status 0 is on disk") else 1)
        frame = {"type": "sync_status", "applied": on_disk}
    elif number in (4, 6) and altered("frames: types of Hocuspocus' own servers are ignored"):
        frame = {"type": "ignored"}
    elif number in (PING, PONG) and altered("frames: a ping may have a name"):
        frame = {"type": "ping"}
    if frame is None:
        raise Unreadable("unknown_type")
    ended(r)
    return frame


def auth(r):
    number = r.uint()
    if number == 0:
        token = bounded(r)
        none = r.at == len(r.data) and not altered("frames: a token has a version")
        return {"type": "token", "token": token, "provider": None if none else bounded(r)}
    if number == 1:
        return {"type": "permission_denied", "reason": bounded(r)}
    if number == 2:
        scope = bounded(r)
        return {"type": "authenticated", "read_only": scope == "readonly"}
    raise Unreadable("unknown_type")

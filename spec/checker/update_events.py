"""The contents of `dev.weft.update` events, as in spec/docs/events.md. What their bytes mean is in updates.py and admission.py."""

import base64
import re

from admission import admit
from readings import altered
from updates import Malformed, parse

STANDARD = re.compile(r"[A-Za-z0-9+/]*")
CLOCKS = 1 << 32


class Unreadable(Exception):
    """Content that brings nothing."""


def decoded(text):
    """Unpadded standard base64 in its canonical form."""
    if not isinstance(text, str):
        raise Unreadable("no text")
    if altered("base64: the URL-safe alphabet is valid"):
        text = text.replace("-", "+").replace("_", "/")
    if altered("base64: white space is skipped"):
        text = re.sub(r"\s", "", text)
    if altered("base64: padding is valid"):
        text = text.rstrip("=")
    if not STANDARD.fullmatch(text) or len(text) % 4 == 1:
        raise Unreadable("no base64")
    data = base64.b64decode(text + "=" * (-len(text) % 4))
    canonical = base64.b64encode(data).decode().rstrip("=") == text
    if not canonical and not altered("base64: unused bits are ignored"):
        raise Unreadable("unused bits")
    return data


def declared(clients):
    """The ranges in `clients`."""
    if not isinstance(clients, dict):
        raise Unreadable("clients is no object")
    ranges = {}
    for client, range_ in clients.items():
        canonical = re.fullmatch(r"0|[1-9][0-9]*", client) is not None
        if not canonical and altered("clients: other decimal forms are valid"):
            canonical = re.fullmatch(r"\+?[0-9]+", client) is not None
        if not canonical or int(client) >= 1 << 53:
            raise Unreadable("no client id")
        ranges[int(client)] = declared_range(range_)
    return ranges


def declared_range(range_):
    if isinstance(range_, dict) and altered("clients: a range may be an object"):
        range_ = list(range_.values())
    if not isinstance(range_, list):
        raise Unreadable("a range is a list")
    if altered("clients: more numbers in a range are ignored"):
        range_ = range_[:2]
    if altered("clients: a range may be written as text"):
        range_ = [int(number) for number in range_]
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in range_)
    if len(range_) != 2 or not whole or not all(0 <= number < CLOCKS for number in range_):
        raise Unreadable("a range is two integers")
    return tuple(range_)


def brought(update):
    """The clients and ranges of the blocks, Skip blocks excepted."""
    return {client: (run[0].clock, run[-1].end) for client, run in update.runs.items()}


def read(content):
    """The bytes of the update that a content declares correctly."""
    data = decoded(content.get("update"))
    if "clients" not in content and altered("clients: may be missing"):
        return data
    ranges = declared(content.get("clients"))
    try:
        update = parse(data)
    except Malformed as error:
        raise Unreadable("malformed") from error
    blocks = brought(update)
    if altered("clients: empty ranges are ignored"):
        ranges = {client: range_ for client, range_ in ranges.items() if range_[0] != range_[1]}
    if altered("clients: more clients may be declared"):
        ranges = {client: range_ for client, range_ in ranges.items() if client in blocks}
    if altered("clients: fewer clients may be declared"):
        blocks = {client: range_ for client, range_ in blocks.items() if client in ranges}
    if altered("clients: only the beginnings are compared"):
        ranges = {client: range_[:1] for client, range_ in ranges.items()}
        blocks = {client: range_[:1] for client, range_ in blocks.items()}
    if altered("clients: only the ends are compared"):
        ranges = {client: range_[1:] for client, range_ in ranges.items()}
        blocks = {client: range_[1:] for client, range_ in blocks.items()}
    if ranges != blocks and not altered("clients: are not compared"):
        raise Unreadable("clients does not name the blocks")
    return data


def run(case):
    """The `expect` of a vector of `updates`."""
    event = case["event"]
    if "state_key" in event and not altered("updates: an event with a state key is an update"):
        return {"result": "inadmissible"}
    content = event["content"]
    if set(content) - {"update", "clients"} and altered("updates: other fields of the content are refused"):
        return {"result": "inadmissible"}
    try:
        result = admit(read(content), event["sender"], case["known"])
    except Unreadable:
        return {"result": "inadmissible"}
    if result["result"] == "known" and not altered("updates: a known update is inadmissible"):
        return {"result": "known"}
    if result["result"] == "admitted":
        return {"result": "admitted", "ranges": result["ranges"]}
    return {"result": "inadmissible"}

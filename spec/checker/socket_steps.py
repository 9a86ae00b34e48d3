"""The steps of the vectors of `sockets`, and the frames in them. Must not contain a rule of the protocol."""

import json

from readings import altered
from sockets import Server
from updates import Writer


def run(case):
    """The result of each step that expects something, and messages that no step expects."""
    server, results = Server(case["framing"]), []
    for step in case["steps"]:
        if "opens" in step:
            results.append(server.opens(step["opens"], step["path"], step.get("token"), step.get("protocols", [])))
        elif "sends" in step:
            send(server, step)
        elif "sends_text" in step:
            if not altered("sockets: text messages are ignored"):
                server.close(step["sends_text"], 4400)
        elif "receives_nothing" in step:
            results.append(list(server.sent[step["receives_nothing"]]))
        elif "receives" in step or "closed" in step:
            sent = server.sent[step["receives"] if "receives" in step else step["closed"]]
            results.append(sent.pop(0) if sent else None)
        else:
            server.act(step)
    left = [sent for sent in server.sent.values() if sent]
    return results, left


def expected(case):
    results = []
    for step in case["steps"]:
        if "opens" in step:
            results.append((step.get("status"), step.get("protocol")))
        elif "receives_nothing" in step:
            results.append([])
        elif "receives" in step:
            results.append({"frame": step["frame"]})
        elif "closed" in step:
            results.append({"code": step["code"]})
    return results, []


def send(server, step):
    """Sends a frame, or several that differ in the number in their names."""
    for number in range(step.get("times", 1)):
        if "hex" in step:
            data = bytes.fromhex(step["hex"])
        else:
            frame = dict(step["frame"])
            if "name" in frame:
                frame["name"] = frame["name"].replace("{n}", str(number))
            data = written(frame, server.plain)
        server.receive(step["sends"], data)


def body_of(frame):
    if "entries" in frame:
        w = Writer()
        w.uint(len(frame["entries"]))
        for entry in frame["entries"]:
            w.uint(entry["client_id"])
            w.uint(entry["clock"])
            state = json.dumps(entry["state"]).encode()
            w.uint(len(state))
            w.raw(state)
        return bytes(w.out)
    body = frame.get("body", "")
    return bytes.fromhex(body["repeat"]) * body["times"] if isinstance(body, dict) else bytes.fromhex(body)


def written(frame, plain):
    """The bytes of a frame that a client sends."""
    w = Writer()

    def text(value):
        w.uint(len(value.encode()))
        w.raw(value.encode())

    kind = frame["type"]
    if kind == "ping":
        return b"\x09"
    if not plain:
        text(frame["name"])
    body = body_of(frame)
    if kind in ("step1", "step2", "update"):
        w.uint(0)
        w.uint(("step1", "step2", "update").index(kind))
        w.uint(len(body))
        w.raw(body)
    elif kind == "awareness":
        w.uint(1)
        w.uint(len(body))
        w.raw(body)
    elif kind == "token":
        w.uint(2)
        w.uint(0)
        text(frame["token"])
    elif kind == "stateless":
        w.uint(5)
        text("{}")
    elif kind == "close":
        w.uint(7)
    else:
        w.uint(3)
    return bytes(w.out)

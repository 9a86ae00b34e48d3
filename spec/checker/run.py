#!/usr/bin/env python3
"""Runs vectors of spec/vectors against an implementation that was written from spec/docs alone.

    run.py vectors       every vector gives its expected result
    run.py alterations   every altered reading of a rule fails at least one vector

Needs only Python 3.11. Must not use the Rust code.
"""

import json
import pathlib
import sys
import time

import audit
import awareness
import claims
import documents
import edus
import federation
import frames
import lock
import purposes
import readings
import rendering
import socket_steps
import split
import talk
import templates
import update_events
import webhooks
from admission import admit
from algebra import compact, diff, merge, state_hash, state_vector
from updates import Malformed, encode_deletes, encode_state_vector, parse, parse_state_vector

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "vectors"


def data(value):
    if isinstance(value, str):
        return bytes.fromhex(value)
    if isinstance(value, list):
        return b"".join(data(part) for part in value)
    return bytes.fromhex(value["repeat"]) * value["times"]


def ranges(update):
    solid = {}
    for client, run in update.runs.items():
        blocks = [block for block in run if block.kind != 10]
        if blocks:
            solid[str(client)] = [blocks[0].clock, blocks[-1].end]
    return solid


def state_vector_answer(case):
    try:
        return {"result": "valid", "encoded": encode_state_vector(parse_state_vector(data(case["bytes"]))).hex()}
    except Malformed:
        return {"result": "malformed"}


def parse_answer(case):
    update = parse(data(case["update"]))
    return {
        "ranges": ranges(update),
        "state_vector": encode_state_vector(state_vector(update)).hex(),
        "deletes": encode_deletes(update.deletes).hex(),
    }


def algebra_answer(case):
    operation = case["operation"]
    if operation == "admit":
        result = admit(data(case["update"]), case["sender"], case["known"])
        if "update" not in case["expect"]:
            result.pop("update", None)
        return result
    if operation == "parse":
        return parse_answer(case)
    if operation == "state_vector":
        return state_vector_answer(case)
    if operation == "state_hash":
        return state_hash(parse(data(case["update"]))).hex()
    if operation == "merge":
        return merge([parse(data(update)) for update in case["updates"]]).encode().hex()
    if operation == "diff":
        return diff(parse(data(case["update"])), parse_state_vector(data(case["state_vector"]))).encode().hex()
    if operation == "compact":
        return compact(parse(data(case["update"]))).encode().hex()
    if operation in ("split", "parts"):
        return split.answer(case, data)
    raise SystemExit(f"unknown operation {operation}")


def filled(value):
    """A text; long texts are written as `{"repeat", "times"}`."""
    if isinstance(value, dict) and set(value) == {"repeat", "times"}:
        return value["repeat"] * value["times"]
    return value


def frame_answer(case):
    return frames.read(case["framing"], data(case["hex"]))


def frame_expected(case):
    if "error" in case:
        return "error", case["error"]
    return "frame", {key: filled(value) for key, value in case["frame"].items()}


def expect(case):
    return case["expect"]


# Folder, function for the checker's result, function for the expected result. The folder `crdt/live` is not included: two
# servers need not agree on how they take a live editor's update.
SUITES = (
    ("crdt/admission", algebra_answer, expect),
    ("crdt/algebra", algebra_answer, expect),
    ("updates", update_events.run, expect),
    ("claims", claims.run, claims.expected),
    ("lock", lock.run, lock.expected),
    ("templates", templates.run, templates.expected),
    ("snapshots", federation.run, federation.expected),
    ("joins", federation.run, federation.expected),
    ("documents", documents.run, documents.expected),
    ("edus", edus.run, edus.expected),
    ("audit", audit.run, audit.expected),
    ("anchors", talk.form, talk.expected),
    ("resolutions", talk.decided, talk.expected),
    ("suggestions", talk.state, talk.expected),
    ("purposes", purposes.read, purposes.expected),
    ("awareness", awareness.run, awareness.expected),
    ("rendering", rendering.run, rendering.expected),
    ("live", frame_answer, frame_expected),
    ("webhooks", webhooks.run, expect),
    ("sockets", socket_steps.run, socket_steps.expected),
)


def cases():
    for folder, answer, expected in SUITES:
        for path in sorted((VECTORS / folder).glob("*.json")):
            case = json.loads(path.read_text())
            yield f"{folder}/{path.name}", lambda case=case, answer=answer: answer(case), expected(case)


def wrong(all_cases, first_only=False):
    found = []
    for name, answer, expected in all_cases:
        try:
            got = answer()
        except Exception as error:  # an altered reading may fail in any way
            if readings.ACTIVE is None:
                raise
            got = repr(error)
        if got != expected:
            found.append(f"{name}: {got}, expected {expected}")
            if first_only:
                break
    return found


def vectors():
    all_cases = list(cases())
    found = wrong(all_cases)
    print("\n".join(line[:600] for line in found))
    print(f"{len(all_cases) - len(found)} vectors passed, {len(found)} failed")
    return not found


def alterations():
    # The fastest vectors first: one failing vector is enough.
    all_cases = sorted(cases(), key=cost)
    undetected = []
    names = readings.all_names()
    for name in names:
        readings.ACTIVE = name
        if not wrong(all_cases, first_only=True):
            undetected.append(name)
        readings.ACTIVE = None
    for name in undetected:
        print(f"no vector detects: {name}")
    print(f"{len(names) - len(undetected)} altered readings detected, {len(undetected)} undetected")
    return not undetected


def cost(case):
    """The time in seconds that the vector takes without an altered reading."""
    began = time.perf_counter()
    case[1]()
    return time.perf_counter() - began


if __name__ == "__main__":
    commands = {"vectors": vectors, "alterations": alterations}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        raise SystemExit(__doc__)
    sys.exit(0 if commands[sys.argv[1]]() else 1)

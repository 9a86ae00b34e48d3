"""EDUs as they are read and written, as in spec/docs/awareness.md and federation.md. States are judged in awareness.py."""

import json

import awareness
from readings import altered, bound
from updates import Malformed, check_json

LARGEST, STATUS = (1 << 53) - 1, 1_024
OFFLINE_AFTER = 30_000
NAMES = {"@alice:alpha.example": "Alice"}
JOINED = ("@alice:alpha.example", "@bob:beta.example", "@carol:beta.example")


def server(user):
    return user.split(":", 1)[1]


def is_user(value, origin):
    if not isinstance(value, str) or not value.startswith("@") or ":" not in value:
        return False
    return server(value) == origin or altered("edus: users of any server")


def whole(value, end):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


# --- reading ---


def read(edu, origin):
    if edu["edu_type"] == "m.presence":
        push = edu["content"].get("push")
        if not isinstance(push, list):
            return []
        entries = [presence(entry, origin) for entry in push]
        if altered("edus: a bad presence entry ends the list") and None in entries:
            entries = entries[: entries.index(None)]
        if altered("edus: only the first presence entry is read"):
            entries = entries[:1]
        return [entry for entry in entries if entry is not None]
    content = edu["content"]
    return [awareness_content(content)] if is_awareness(content, origin) else []


def presence(entry, origin):
    """The entry as it counts, or None."""
    if not isinstance(entry, dict) or not is_user(entry.get("user_id"), origin):
        return None
    states = ("online", "unavailable", "offline")
    if entry.get("presence") not in states and not altered("edus: any presence counts"):
        return None
    if "presence" not in entry:
        return None
    out = {"user_id": entry["user_id"], "presence": entry["presence"]}
    status, ago = entry.get("status_msg"), entry.get("last_active_ago")
    if (status is not None and not isinstance(status, str)) or (ago is not None and not whole(ago, 1 << 64)):
        return out if altered("edus: a field of another type is left out") else None
    if status is not None:
        size = len(status) if altered("edus: letters of a status count") else len(status.encode())
        if size <= bound(STATUS, "edus: a status of 1,025 bytes", "edus: a status of 1,023 bytes"):
            out["status_msg"] = status
        elif altered("edus: an entry with a long status is ignored"):
            return None
    if ago is not None:
        out["last_active_ago"] = ago
    if altered("edus: currently_active is read") and not isinstance(entry.get("currently_active", True), bool):
        return None
    return out


def is_awareness(content, origin):
    texts = [content.get(field) for field in ("room_id", "device_id")]
    if altered("edus: a device may be missing"):
        texts[1] = "X"
    if altered("edus: a room may be missing"):
        texts[0] = "!x:y"
    if not all(isinstance(text, str) for text in texts) or not is_user(content.get("user_id"), origin):
        return False
    clients = bound(1 << 53, "edus: client id 2^53", "edus: client id below 2^53 - 1")
    clocks = bound(1 << 32, "edus: clock 2^32", "edus: clock below 2^32 - 1")
    if not whole(content.get("client_id"), clients) or not whole(content.get("clock"), clocks):
        return False
    if "state" not in content:
        return altered("edus: a missing state is a removal")
    return content["state"] is None or state_of(content["state"]) is not None


def state_of(written):
    """The object in a state, or None if it is not valid."""
    if isinstance(written, str):
        if altered("edus: a state is no string"):
            return None
        try:
            check_json(written)
            value = json.loads(written)
        except (Malformed, ValueError):
            return None
        if isinstance(value, str) and altered("edus: a string in a string is read"):
            return state_of(value)
        written = {} if value is None and altered("edus: the string null is a state") else value
    if not isinstance(written, dict):
        return {} if altered("edus: a list is a state") else None
    return awareness.acceptable(json.dumps(written, ensure_ascii=False))


def awareness_content(content):
    """The content by value: a state that canonical JSON can contain is compared as an object."""
    out = {key: content.get(key) for key in ("room_id", "user_id", "device_id", "client_id", "clock", "state")}
    if isinstance(out["state"], str):
        out["state"] = json.loads(out["state"])
    return out


# --- awareness in the document ---


def receive(document, content):
    user = content["user_id"]
    if user not in JOINED and not altered("edus: the user need not be joined"):
        return []
    state = content["state"]
    text = "null" if state is None else json.dumps(state_of(state), ensure_ascii=False)
    socket = content["device_id"] if server(user) == "alpha.example" else None
    shown, _ = document.receive((user, content["device_id"], socket), [(content["client_id"], content["clock"], text)], True)
    return shown


# --- writing ---


def is_canonical(value):
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return True
    if isinstance(value, list):
        return all(map(is_canonical, value)) or altered("edus: only the fields of a state decide")
    if isinstance(value, dict):
        return all(map(is_canonical, value.values()))
    largest = bound(LARGEST, "edus: 2^53 in canonical JSON", "edus: 2^53 - 1 as a string")
    if isinstance(value, float):
        return altered("edus: fractions in canonical JSON")
    smallest = -bound(LARGEST, "edus: -2^53 in canonical JSON", "edus: -(2^53 - 1) as a string")
    return smallest <= value <= largest


def written(case):
    """The EDU that a change of a local user causes."""
    sent = case["sent"]
    if case["edu"]["edu_type"] == "m.presence":
        return {"edu_type": "m.presence", "content": {"push": [written_presence(sent)]}}
    document = awareness.Document(NAMES)
    for content in case.get("before", []):
        receive(document, content)
    shown = receive(document, sent)
    if not shown:
        return None
    state = shown[0]["state"]
    if altered("edus: the identity is not written") and state is not None:
        state = sent["state"]
    as_text = state is not None and (not is_canonical(state) or altered("edus: every state is a string"))
    content = dict(sent) | {"clock": shown[0]["clock"], "state": state}
    return {"edu_type": "dev.weft.awareness", "content": content, "as_text": as_text}


def written_presence(sent):
    silent = sent.get("silent_ms", 0)
    after = OFFLINE_AFTER + altered("edus: offline after 30,001 ms")
    state = sent["presence"] if silent < after else "offline"
    active = state == "online" or (state == "unavailable" and altered("edus: unavailable is active"))
    out = {"user_id": sent["user_id"], "presence": state, "currently_active": active, "last_active_ago": silent}
    if "status_msg" in sent and not (state == "offline" and altered("edus: offline without the status")):
        out["status_msg"] = sent["status_msg"]
    return out


def run(case):
    results = {"read": read(case["edu"], case["origin"])}
    if "sent" in case:
        results["edu"] = written(case)
    elif case["edu"]["edu_type"] == "dev.weft.awareness" and results["read"]:
        document = awareness.Document(NAMES)
        for content in case.get("before", []):
            receive(document, content)
        results["shown"] = receive(document, results["read"][0])
    return results


def expected(case):
    is_awareness_edu = case["edu"]["edu_type"] == "dev.weft.awareness"
    results = {"read": [awareness_content(content) for content in case["read"]] if is_awareness_edu else case["read"]}
    if "sent" in case:
        results["edu"] = case["edu"]
        if is_awareness_edu:
            content = case["edu"]["content"]
            results["edu"] = case["edu"] | {"content": awareness_content(content), "as_text": isinstance(content["state"], str)}
    elif is_awareness_edu and case["read"]:
        results["shown"] = case["shown"]
    return results

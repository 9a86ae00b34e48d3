"""The lock of a document, as in spec/docs/lock.md: which events are accepted, soft-failed and rejected.

State resolution is not modelled: in the vectors, of two state events with one key one follows the other.
"""

from readings import altered

UPDATE, LOCK, UNLOCK = "dev.weft.update", "dev.weft.lock", "dev.weft.unlock"
NEEDED = {UPDATE: 25}
CREATOR = 1 << 60


class Room:
    def __init__(self, case):
        self.case, self.names = case, {}
        # The state after each event: for each key the number of the event in the order of arrival.
        self.after, self.heads = {"start": {}}, {"start"}

    def power(self, user):
        if user != self.case["owner"]:
            return self.case["powers"].get(user, 0)
        return CREATOR if self.case["room_version"] == "12" else 100

    def merged(self, events):
        state = {}
        for name in events:
            for key, number in self.after[name].items():
                state[key] = max(number, state.get(key, 0))
        return state

    def locked(self, state):
        locks = [key for key in state if key[0] == LOCK]
        if not altered("lock: a lock with another state key counts"):
            locks = [key for key in locks if key[1] == ""]
        unlocks = [key[1] for key in state if key[0] == UNLOCK]
        if altered("lock: any unlock lifts"):
            return bool(locks) and not unlocks
        if altered("lock: the later event counts"):
            last = max((state[key] for key in state if key[0] == UNLOCK), default=0)
            return any(state[key] > last for key in locks)
        if altered("lock: the content counts"):
            return any(self.names[state[key]].get("content", {}).get("locked", True) for key in locks)
        return any(f"<{self.names[state[key]]['name']}>" not in unlocks for key in locks)

    def allowed(self, event, state):
        is_state = "state_key" in event
        needed = 50 if is_state else NEEDED.get(event["type"], 0)
        if self.power(event["sender"]) < needed:
            return False
        if event["type"] != UPDATE or (is_state and not altered("lock: an update with a state key is refused")):
            return not (altered("lock: chat is refused") and event["type"] == "m.room.message" and self.locked(state))
        if altered("lock: the creator may edit") and self.power(event["sender"]) == CREATOR:
            return True
        if altered("lock: an owner may edit") and self.power(event["sender"]) >= 100:
            return True
        return not self.locked(state)

    def place(self, number, event):
        before = self.merged(event["after"])
        current = self.merged(self.heads)
        name = event["name"]
        self.names[number] = event
        self.after[name] = before
        if not self.allowed(event, current if altered("lock: only the current state counts") else before):
            return "rejected"
        if "state_key" in event:
            self.after[name] = before | {(event["type"], event["state_key"]): number}
        if not self.allowed(event, current) and not altered("lock: only the state before counts"):
            return "soft_failed"
        self.heads = (self.heads - set(event["after"])) | {name}
        return "accepted"


def run(case):
    room = Room(case)
    return [room.place(number, event) for number, event in enumerate(case["events"], 1)]


def expected(case):
    return [event["expect"] for event in case["events"]]

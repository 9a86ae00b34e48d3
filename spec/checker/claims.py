"""Which updates of a room stand, as in spec/docs/admission.md, "Two claims to the same clocks"."""

from admission import admit
from readings import altered, bound
from update_events import Unreadable, brought, declared
from updates import Malformed, parse

BRANCHES, NAMES = 8, 16


class Update:
    """An update that takes part and can be read."""

    def __init__(self, event):
        self.id, self.sender = event["event_id"], event["sender"]
        self.data = bytes.fromhex(event["update"])
        self.parsed = parse(self.data)
        self.brings = brought(self.parsed)
        if declared(event["clients"]) != self.brings:
            raise Unreadable("clients does not name the blocks")


class Room:
    def __init__(self, events):
        self.events = {event["event_id"]: event for event in events}
        self.ancestors = {id_: self.all_before(id_) for id_ in self.events}
        self.part = {id_ for id_ in self.events if self.takes_part(id_)}
        self.updates = {}
        for id_ in sorted(self.part):
            event = self.events[id_]
            rejected = event.get("rejected") and not altered("claims: a rejected update brings blocks")
            if event.get("type", "dev.weft.update") == "dev.weft.update" and "state_key" not in event and not rejected:
                try:
                    self.updates[id_] = Update(event)
                except (Malformed, Unreadable):
                    pass
        self.statements = {id_ for id_ in self.part if self.is_statement(id_)}
        self.counting = self.servers_that_count()
        self.standing, self.fallen = set(), set()

    # --- the graph ---

    def all_before(self, id_):
        found, waiting = set(), list(self.events[id_]["prev_events"])
        while waiting:
            next_ = waiting.pop()
            if next_ in found or next_ not in self.events:
                continue
            found.add(next_)
            if self.events[next_].get("rejected") and altered("claims: a rejected event ends the graph"):
                continue
            waiting += self.events[next_]["prev_events"]
        return found

    def takes_part(self, id_):
        event = self.events[id_]
        if event.get("rejected"):
            # It keeps its position. It has no other effect: it is neither an update nor a statement.
            return True
        if not event.get("soft_failed") or altered("claims: every soft-failed event takes part"):
            return True
        followers = [other for other in self.events.values() if id_ in self.ancestors[other["event_id"]]]
        if altered("claims: only direct followers of a soft-failed event count"):
            followers = [other for other in followers if id_ in other["prev_events"]]
        if altered("claims: a soft-failed event never takes part"):
            return False
        if altered("claims: a rejected event lets a soft-failed one take part"):
            return any(not other.get("soft_failed") for other in followers)
        return any(not other.get("soft_failed") and not other.get("rejected") for other in followers)

    def follows(self, later, earlier):
        return earlier in self.ancestors[later]

    def server(self, id_):
        return self.events[id_]["sender"].split(":", 1)[1]

    def is_statement(self, id_):
        event = self.events[id_]
        if event.get("rejected") and not altered("claims: a rejected event is a statement"):
            return False
        return event.get("type") != "m.room.member" or altered("claims: a membership event is a statement")

    # --- servers ---

    def servers_that_count(self):
        counting = set()
        most = bound(BRANCHES, "claims: nine branches count", "claims: eight branches do not count")
        for server in {self.server(id_) for id_ in self.statements}:
            own = {id_ for id_ in self.statements if self.server(id_) == server}
            if self.branches(own) <= most:
                counting.add(server)
        return counting

    def branches(self, own):
        continued = {id_: 0 for id_ in own}
        count = 0
        for id_ in own:
            before = self.ancestors[id_] & own
            latest = [p for p in before if not any(p in self.ancestors[other] for other in before)]
            count += not latest
            for p in latest:
                continued[p] += 1
        return count + sum(followers - 1 for followers in continued.values() if followers > 1)

    def named(self, id_):
        event = self.events[id_]
        kind = event.get("type", "dev.weft.update")
        if "state_key" in event or kind not in ("dev.weft.update", "dev.weft.witness"):
            if not altered("claims: names count in every event"):
                return ()
        if kind == "dev.weft.update" and altered("claims: names count in witness events only"):
            return ()
        names = event.get("stands", ())
        most = bound(NAMES, "claims: 17 names count", "claims: 15 names count")
        if len(names) > most:
            return names[:most] if altered("claims: the first 16 names count") else ()
        return names

    def supporters(self, x, y):
        """S(x, y)."""
        found = set()
        for w in self.statements:
            if self.server(w) not in self.counting:
                continue
            with_x = self.follows(w, x) or (w == x and not altered("claims: a claim is no statement for itself"))
            with_y = w == y or self.follows(w, y)
            if with_x and not with_y:
                found.add(self.server(w))
            both = self.follows(w, x) and self.follows(w, y)
            if altered("claims: a name counts without following both"):
                both = True
            if both and x in self.named(w) and not altered("claims: names do not count"):
                found.add(self.server(w))
        return found

    def early(self, x, y):
        """The servers with an event before both."""
        found = set()
        for id_ in self.part & self.ancestors[x] & self.ancestors[y]:
            event = self.events[id_]
            if event.get("rejected") and not altered("claims: a rejected event makes its server count first"):
                continue
            if event.get("type") == "m.room.member" and altered("claims: a membership does not make its server count first"):
                continue
            found.add(self.server(id_))
        return found

    # --- pairs of updates ---

    def rivals(self, x, y):
        if x == y or self.follows(x, y) or self.follows(y, x):
            return False
        a, b = self.updates[x], self.updates[y]
        same = a.sender == b.sender or altered("claims: equal bytes of two senders are no rivals")
        if same and a.data == b.data and not altered("claims: equal bytes of one sender are rivals"):
            return False
        return any(overlap(range_, b.brings.get(client)) for client, range_ in a.brings.items())

    def beats(self, x, y):
        for_x, for_y = self.supporters(x, y), self.supporters(y, x)
        if self.server(x) == self.server(y) and altered("claims: the id decides between claims of one server"):
            for_x, for_y = set(), set()
        early = self.early(x, y)
        if altered("claims: all servers count at once"):
            early = for_x | for_y
        for servers in (early, for_x | for_y):
            if altered("claims: only the servers before both count") and servers is not early:
                continue
            more = len(for_x & servers) - len(for_y & servers)
            if altered("claims: servers are not counted"):
                more = 0
            if more:
                return more > 0
        return x > y if altered("claims: the higher id stands") else x < y

    def rests_on(self, x, y):
        if y not in self.ancestors[x]:
            return False
        if altered("claims: an update rests on all its ancestors"):
            return True
        update, other = self.updates[x], self.updates[y]
        if set(update.brings) & set(other.brings) and not altered("claims: an update does not rest on its client's blocks"):
            return True
        for client, clock in self.needs(update):
            if client not in update.brings and client in other.brings and other.brings[client][0] <= clock:
                return True
        return False

    def needs(self, update):
        """The clocks of clients to which an update refers, or that it deletes."""
        if not altered("claims: an update does not rest on blocks that it refers to"):
            for block in update.parsed.blocks():
                for to in (block.origin, block.right, block.parent):
                    if to:
                        yield to
        for client, ranges in update.parsed.deletes.items():
            yield client, ranges[-1][1] - 1

    # --- the procedure ---

    def open(self):
        return [id_ for id_ in sorted(self.updates) if id_ not in self.standing and id_ not in self.fallen]

    def fails(self, x):
        update, known = self.updates[x], {}
        before = sorted(self.standing & self.ancestors[x], key=lambda id_: len(self.ancestors[id_]))
        for id_ in before:
            for client, (_, end) in self.updates[id_].brings.items():
                entry = known.setdefault(str(client), {"end": 0, "owner": self.updates[id_].sender})
                entry["end"] = max(entry["end"], end)
        result = admit(update.data, update.sender, known)
        if result["result"] == "known" and altered("claims: a known update stands"):
            return False
        if result["result"] != "admitted":
            return True
        new = {int(client): range_ for client, range_ in result["ranges"].items()}
        if altered("claims: all clocks are compared, not only new ones"):
            new = update.brings
        for id_ in self.standing:
            rival = id_ not in self.ancestors[x] and self.rivals(x, id_)
            if altered("claims: any standing update with the clocks excludes another"):
                rival = id_ not in self.ancestors[x]
            if rival and any(overlap(range_, self.updates[id_].brings.get(client)) for client, range_ in new.items()):
                return True
        return False

    def waits_for(self, x, y):
        if altered("claims: an update does not wait for rivals that beat it"):
            return self.rests_on(x, y)
        return self.rests_on(x, y) or (self.rivals(x, y) and self.beats(y, x))

    def decide(self):
        waits = {x: {y for y in self.updates if y != x and self.waits_for(x, y)} for x in self.updates}
        rests = {x: {y for y in self.updates if y != x and self.rests_on(x, y)} for x in self.updates}
        while self.open():
            open_ = set(self.open())
            for x in sorted(open_):
                if not rests[x] & open_ and self.fails(x):
                    if not altered("claims: an update that fails waits for its rivals") or not waits[x] & open_:
                        self.fallen.add(x)
                        break
                if not waits[x] & open_:
                    (self.fallen if self.fails(x) else self.standing).add(x)
                    break
            else:
                self.standing.add(self.chosen(waits, rests, open_))
        return sorted(self.standing)

    def chosen(self, waits, rests, open_):
        """The update that stands where updates wait for one another."""
        reached = {x: reach(x, waits, open_) for x in open_}
        final = [x for x in open_ if all(x in reached[y] for y in reached[x])]
        if altered("claims: updates that wait for a circle may be chosen"):
            final = list(open_)
        free = [x for x in final if not rests[x] & open_]
        if altered("claims: the highest id of a circle stands"):
            return max(free)
        return min(free)


def reach(x, waits, open_):
    found, waiting = set(), [x]
    while waiting:
        for y in waits[waiting.pop()] & open_:
            if y not in found:
                found.add(y)
                waiting.append(y)
    return found


def overlap(a, b):
    return b is not None and max(a[0], b[0]) < min(a[1], b[1])


def run(case):
    return Room(case["events"]).decide()


def expected(case):
    return case["stand"]

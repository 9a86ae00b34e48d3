"""The answers and the end of a live socket, as in spec/docs/live.md: enough of a server for the vectors of `sockets`."""

import frames
from algebra import diff, merge, state_vector
from admission import admit
from readings import altered
from updates import Malformed, Update, encode_state_vector, parse, parse_state_vector

ROLES = {"alice": "owner", "bob": "editor", "carol": "viewer"}


class Document:
    """A document: its text and the roles of its users."""

    def __init__(self):
        self.text, self.roles, self.owners = Update({}, {}), dict(ROLES), {}

    def vector(self):
        return encode_state_vector(state_vector(self.text)).hex()

    def known(self):
        return {
            str(client): {"end": run[-1].end, "owner": self.owners[client]} for client, run in self.text.runs.items()
        }

    def take(self, user, data):
        """`taken`, `known`, `missing`, or the name of the violated rule."""
        got = admit(data, user, self.known())
        if got["result"] == "gap":
            return "taken" if altered("sockets: a gap is left out without a request") else "missing"
        if got["result"] == "refused":
            return got["rule"]
        if got["result"] == "known":
            return "known"
        update = parse(data)
        for client in update.runs:
            self.owners.setdefault(client, user)
        self.text = merge([self.text, update])
        return "taken"


class Attached:
    """A document on a socket."""

    def __init__(self, document, user):
        self.document, self.user, self.owed = document, user, 0

    def readonly(self):
        return self.document.roles.get(self.user) == "viewer"


class Server:
    def __init__(self, framing):
        self.plain = framing == "plain"
        self.documents = {"<doc>": Document(), "<other>": Document()}
        self.signed_in = {"<alice>": "alice", "<bob>": "bob", "<carol>": "carol", "<mallory>": "mallory"}
        self.sockets, self.sent = {}, {}

    def send(self, socket, name, **frame):
        if not self.plain and name is not None:
            frame["name"] = name
        self.sent[socket].append({"frame": frame})

    def close(self, socket, code):
        if socket in self.sockets:
            del self.sockets[socket]
            self.sent[socket].append({"code": code})

    # --- opening ---

    def find(self, name, token):
        """The user and the document, or None and the HTTP status of the refusal."""
        user = self.signed_in.get(token)
        if user is None:
            return None, 401
        document = self.documents.get(name.split("\0")[0])
        if document is None:
            return None, 404
        if user not in document.roles:
            return None, 403
        return user, document

    def opens(self, socket, path, token):
        self.sent.setdefault(socket, [])
        opened = {"documents": {}, "waiting": {}, "token": token is not None}
        if token is None and altered("sockets: no token refuses the upgrade"):
            return 401
        if token is not None:
            user, document = self.find(path, token)
            if user is None and altered("sockets: users who may not read are refused after the upgrade"):
                user, document = "alice", self.documents["<doc>"]
            if user is None:
                return document
            opened["documents"][None] = Attached(document, user)
        self.sockets[socket] = opened
        return None

    # --- messages of a client ---

    def receive(self, socket, data):
        if socket not in self.sockets:
            return
        kind, frame = frames.read("plain" if self.plain else "hocuspocus", data)
        if kind == "error":
            if not altered("sockets: a frame that cannot be decoded is ignored"):
                self.close(socket, 4401 if self.plain and not self.sockets[socket]["token"] else 4400)
            return
        if self.plain:
            if not self.sockets[socket]["token"]:
                self.close(socket, 4401)
                return
            self.of_document(socket, None, frame)
            return
        name = frame.get("name")
        if frame["type"] == "ping":
            self.send(socket, None, type="pong")
        elif frame["type"] == "token":
            self.sign_in(socket, name, frame["token"])
        elif frame["type"] == "close":
            self.sockets[socket]["documents"].pop(name, None)
            self.sockets[socket]["waiting"].pop(name, None)
        elif name is not None:
            self.of_document(socket, name, frame)

    def sign_in(self, socket, name, token):
        documents = self.sockets[socket]["documents"]
        user, document = self.find(name, token)
        attached = documents.get(name)
        if user is None:
            if attached is None:
                documents[name] = "ended"
                self.sockets[socket]["waiting"].pop(name, None)
            self.send(socket, name, type="permission_denied")
            if altered("sockets: an invalid token closes the socket"):
                self.close(socket, 4401)
            elif altered("sockets: an invalid token ends an open document") and attached:
                documents[name] = "ended"
            return
        if not isinstance(attached, Attached) or attached.user != user:
            attached = documents[name] = Attached(document, user)
        scope = attached.readonly() and not altered("sockets: viewers get read-write")
        self.send(socket, name, type="authenticated", read_only=scope)
        for frame in self.sockets[socket]["waiting"].pop(name, []):
            self.of_document(socket, name, frame)

    def of_document(self, socket, name, frame):
        if socket not in self.sockets:
            return
        attached = self.sockets[socket]["documents"].get(name)
        if attached is None:
            if not altered("sockets: frames before the token are dropped"):
                self.sockets[socket]["waiting"].setdefault(name, []).append(frame)
            return
        if attached == "ended":
            if altered("sockets: frames for an ended document wait for its token"):
                self.sockets[socket]["waiting"].setdefault(name, []).append(frame)
            return
        if frame["type"] == "step1":
            self.step1(socket, name, attached, bytes.fromhex(frame["body"]))
        elif frame["type"] in ("step2", "update"):
            self.edit(socket, name, attached, frame["type"], bytes.fromhex(frame["body"]))
        elif frame["type"] == "awareness" and altered("sockets: an awareness body that cannot be read closes the socket"):
            self.end(socket, name, 4400)

    def step1(self, socket, name, attached, body):
        try:
            vector = parse_state_vector(body)
        except Malformed:
            self.end(socket, name, 4422 if altered("sockets: a bad vector is 4422") else 4400)
            return
        if altered("sockets: step 1 is answered once") and getattr(attached, "answered", False):
            return
        attached.answered = True
        missing = diff(attached.document.text, vector).encode().hex()
        own = altered("sockets: own step 1 before step 2")
        if own:
            self.send(socket, name, type="step1", body=attached.document.vector())
        self.send(socket, name, type="step2", body=missing)
        if not own and not altered("sockets: no step 1 of the server"):
            self.send(socket, name, type="step1", body=attached.document.vector())

    def status(self, socket, name, on_disk):
        if not self.plain:
            self.send(socket, name, type="sync_status", applied=on_disk)
        elif not on_disk and not altered("sockets: plain framing does not report a refusal"):
            self.send(socket, name, type="permission_denied")

    def edit(self, socket, name, attached, kind, body):
        user = f"@{attached.user}:alpha.example"
        before = attached.document.text
        nothing = body == bytes(2)
        if attached.readonly() and not nothing:
            self.status(socket, name, False)
            if altered("sockets: the edit of a viewer closes the socket"):
                self.end(socket, name, 4403)
            return
        if attached.readonly() and altered("sockets: the empty step 2 of a viewer is refused"):
            self.status(socket, name, False)
            return
        result = attached.document.take(user, body)
        if result == "missing":
            if altered("sockets: an edit with a gap is acknowledged at once"):
                self.status(socket, name, True)
            else:
                attached.owed += 1
            self.send(socket, name, type="step1", body=attached.document.vector())
        elif result in ("taken", "known"):
            owed = attached.owed if kind == "step2" else 0
            for _ in range(1 + owed):
                self.status(socket, name, True)
            attached.owed -= owed
            if attached.document.text is not before and result == "taken":
                self.broadcast(socket, attached.document, body)
        else:
            self.refuse(socket, name, result)

    def refuse(self, socket, name, rule):
        if altered("sockets: the notice before the status"):
            self.send(socket, name, type="notice", code=rule)
            self.status(socket, name, False)
        else:
            if not altered("sockets: no status 0 before the end"):
                self.status(socket, name, False)
            self.send(socket, name, type="notice", code=rule)
        self.end(socket, name, 4422)

    def broadcast(self, author, document, body):
        for socket, opened in self.sockets.items():
            for name, attached in opened["documents"].items():
                echo = altered("sockets: an edit is sent to its author")
                if isinstance(attached, Attached) and attached.document is document and (socket != author or echo):
                    self.send(socket, name, type="update", body=body.hex())

    # --- closing ---

    def end(self, socket, name, code):
        """Ends a document on a socket; closes the socket if no document is left."""
        if self.plain:
            self.close(socket, code)
            return
        documents = self.sockets[socket]["documents"]
        documents[name] = "ended"
        if not altered("sockets: no close frame"):
            self.send(socket, name, type="close")
        left = any(isinstance(attached, Attached) for attached in documents.values())
        if not left and altered("sockets: the socket stays open without documents"):
            return
        if not left or altered("sockets: the end of one document ends the socket"):
            self.close(socket, code)

    def rights_changed(self, user, of, code):
        for socket in list(self.sockets):
            for name, attached in list(self.sockets[socket]["documents"].items()):
                if isinstance(attached, Attached) and attached.user == user and of in (None, attached.document):
                    self.end(socket, name, code)

    def act(self, step):
        document = self.documents["<doc>"]
        if "removes" in step:
            document.roles.pop(step["removes"])
            self.rights_changed(step["removes"], document, 4404 if altered("sockets: removed is 4404") else 4403)
        elif "makes_viewer" in step:
            document.roles[step["makes_viewer"]] = "viewer"
            for socket, opened in self.sockets.items():
                for name, attached in opened["documents"].items():
                    affected = isinstance(attached, Attached) and attached.user == step["makes_viewer"]
                    if affected and attached.document is document and not self.plain:
                        if not altered("sockets: a new role is sent at the next edit"):
                            self.send(socket, name, type="authenticated", read_only=True)
        elif "signs_out" in step:
            self.signed_in.pop(f"<{step['signs_out']}>")
            self.rights_changed(step["signs_out"], None, 4403 if altered("sockets: signed out is 4403") else 4401)
        elif "stops" in step:
            for user in ROLES:
                self.rights_changed(user, None, 4503 if altered("sockets: stopping is 4503") else 4500)


def run(case):
    """The result of each step that expects something, and messages that no step expects."""
    server, results = Server(case["framing"]), []
    for step in case["steps"]:
        if "opens" in step:
            status = server.opens(step["opens"], step["path"], step.get("token"))
            results.append(status)
        elif "sends" in step:
            data = bytes.fromhex(step["hex"]) if "hex" in step else written(step["frame"], server.plain)
            server.receive(step["sends"], data)
        elif "sends_text" in step:
            if not altered("sockets: text messages are ignored"):
                server.close(step["sends_text"], 4400)
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
            results.append(step.get("status"))
        elif "receives" in step:
            results.append({"frame": step["frame"]})
        elif "closed" in step:
            results.append({"code": step["code"]})
    return results, []


def written(frame, plain):
    """The bytes of a frame that a client sends."""
    from updates import Writer

    w = Writer()

    def text(value):
        w.uint(len(value.encode()))
        w.raw(value.encode())

    kind = frame["type"]
    if not plain:
        text(frame["name"])
    body = bytes.fromhex(frame.get("body", ""))
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

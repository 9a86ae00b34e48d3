"""The answers and the end of a live socket, as in spec/docs/live.md: enough of a server for the vectors of `sockets`.

Time is in socket_timers.py, the steps of the vectors are in socket_steps.py. Must not read a clock.
"""

import awareness
import frames
import socket_timers
from algebra import diff, merge, state_vector
from admission import admit
from readings import altered, bound
from updates import Malformed, Reader, Update, encode_state_vector, parse, parse_state_vector

ROLES = {"alice": "owner", "bob": "editor", "carol": "viewer"}
MESSAGE_BYTES = 8 * 1024 * 1024 + 1024
DOCUMENTS, WAITING_FRAMES, WAITING_BYTES = 100, 1_000, 5 * 1024 * 1024


class Document:
    """A document: its text and the roles of its users."""

    def __init__(self):
        self.text, self.roles, self.owners = Update({}, {}), dict(ROLES), {}
        self.states = awareness.Document(names={})

    def vector(self):
        return encode_state_vector(state_vector(self.text)).hex()

    def known(self):
        return {
            str(client): {"end": run[-1].end, "owner": self.owners[client]} for client, run in self.text.runs.items()
        }

    def take(self, user, data, store_works):
        """`taken`, `known`, `missing`, `unavailable`, or the name of the violated rule."""
        got = admit(data, user, self.known())
        if got["result"] == "gap":
            return "taken" if altered("sockets: a gap is left out without a request") else "missing"
        if got["result"] == "refused":
            return got["rule"]
        if got["result"] == "known":
            return "known"
        if not store_works:
            return "unavailable"
        update = parse(data)
        for client in update.runs:
            self.owners.setdefault(client, user)
        self.text = merge([self.text, update])
        return "taken"


class Attached:
    """A document on a socket. `who`: user, device and socket, as awareness has them."""

    def __init__(self, document, user, key):
        self.document, self.user, self.owed = document, user, 0
        self.who = (f"@{user}:alpha.example", user, key)
        self.first, self.cursors, self.next_cursors = True, {}, 0

    def readonly(self):
        return self.document.roles.get(self.user) == "viewer"


class Server:
    def __init__(self, framing):
        self.plain = framing == "plain"
        self.documents = {"<doc>": Document(), "<other>": Document()}
        self.signed_in = {"<alice>": "alice", "<bob>": "bob", "<carol>": "carol", "<mallory>": "mallory"}
        self.sockets, self.sent = {}, {}
        self.now, self.store_works = 0, True

    def send(self, socket, name, **frame):
        if not self.plain and name is not None:
            frame["name"] = name
        self.sent[socket].append({"frame": frame})
        if socket in self.sockets:
            self.sockets[socket]["wrote"] = self.now

    def close(self, socket, code):
        if socket in self.sockets:
            for attached in self.sockets[socket]["documents"].values():
                self.leave(attached)
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

    def token(self, path, token, protocols):
        """The token and the protocol in the answer, or None and the HTTP status of the refusal."""
        query = path.partition("?access_token=")[2]
        if altered("sockets: the query comes before the header"):
            token = query or token
        token = token or query or None
        if token is not None and not altered("sockets: an offered token comes first"):
            echoes = protocols and not altered("sockets: a protocol is echoed only if it is the token")
            return token, protocols[0] if echoes else None
        if not protocols or altered("sockets: protocols are not read"):
            return token, None
        number = bound(4, "sockets: a token may be the fifth protocol", "sockets: a token is one of three protocols")
        for protocol in protocols[:number]:
            if protocol in self.signed_in:
                return protocol, None if altered("sockets: the protocol is not echoed") else protocol
            if altered("sockets: only the first protocol is read"):
                break
        return (None, None) if altered("sockets: protocols without a token are no token") else (None, 401)

    def opens(self, socket, path, token, protocols):
        """The HTTP status of a refusal, or None and the chosen protocol."""
        self.sent.setdefault(socket, [])
        token, protocol = self.token(path, token, protocols)
        if protocol == 401:
            return 401, None
        if token is None and altered("sockets: no token refuses the upgrade"):
            return 401, None
        documents = {}
        if token is not None:
            user, document = self.find(path.partition("?")[0], token)
            if user is None and altered("sockets: users who may not read are refused after the upgrade"):
                user, document = "alice", self.documents["<doc>"]
            if user is None:
                return document, None
            if self.plain:
                documents[None] = Attached(document, user, socket)
        self.sockets[socket] = {
            "documents": documents,
            "waiting": {},
            "token": token,
            "signed_in": token is not None,
            "opened": self.now,
            "received": self.now,
            "wrote": None,
        }
        return None, protocol

    # --- messages of a client ---

    def receive(self, socket, data):
        if socket not in self.sockets:
            return
        opened = self.sockets[socket]
        opened["received"] = self.now
        if altered("sockets: a message extends the time to sign in"):
            opened["opened"] = self.now
        if opened["wrote"] is None:
            opened["wrote"] = self.now
        if self.plain and opened["token"] is None:
            self.close(socket, 4401)
            return
        number = bound(MESSAGE_BYTES, "sockets: a message of 1 byte more", "sockets: a message of 1 byte less")
        most = bound(2 * MESSAGE_BYTES, "sockets: twice a message and 1 byte", "sockets: twice a message less 1 byte")
        if len(data) > most and not altered("sockets: every message that is too large has a notice"):
            self.close(socket, 4413)
            return
        if len(data) > number:
            self.too_large(socket, data)
            return
        kind, frame = frames.read("plain" if self.plain else "hocuspocus", data)
        if kind == "error":
            if not altered("sockets: a frame that cannot be decoded is ignored"):
                self.close(socket, 4400)
            return
        if self.plain:
            self.of_document(socket, None, frame)
            return
        name = frame.get("name")
        if frame["type"] == "ping":
            self.send(socket, None, type="pong")
        elif frame["type"] == "token":
            self.sign_in(socket, name, frame["token"])
        elif frame["type"] == "close":
            self.leave(opened["documents"].pop(name, None))
            opened["waiting"].pop(name, None)
        elif name is not None:
            self.of_document(socket, name, frame)

    def too_large(self, socket, data):
        if self.plain:
            if not altered("sockets: too large without a notice"):
                self.send(socket, None, type="notice", code="too_large")
            self.close(socket, 4422 if altered("sockets: too large is 4422") else 4413)
            return
        opened, name = self.sockets[socket], Reader(data).text("frame")
        opened["waiting"].pop(name, None)
        if opened["documents"].get(name) == "ended":
            return
        self.status(socket, name, False)
        if not altered("sockets: too large without a notice"):
            self.send(socket, name, type="notice", code="too_large")
        self.leave(opened["documents"].get(name))
        opened["documents"][name] = "ended"
        self.send(socket, name, type="close")
        if altered("sockets: a message that is too large closes the socket"):
            self.close(socket, 4413)

    def open_documents(self, socket):
        opened = self.sockets[socket]
        attached = sum(isinstance(attached, Attached) for attached in opened["documents"].values())
        waiting = 0 if altered("sockets: documents without a token do not count") else len(opened["waiting"])
        return attached + waiting

    def sign_in(self, socket, name, token):
        opened = self.sockets[socket]
        documents = opened["documents"]
        if token == "" and not altered("sockets: an empty token is invalid"):
            token = opened["token"]
        user, document = self.find(name, token)
        attached = documents.get(name)
        known = isinstance(attached, Attached) or name in opened["waiting"]
        if not known and self.open_documents(socket) >= DOCUMENTS and not altered("sockets: any number of documents"):
            self.close(socket, 4529)
            return
        if user is None:
            if attached is None:
                documents[name] = "ended"
                opened["waiting"].pop(name, None)
            self.send(socket, name, type="permission_denied")
            if altered("sockets: a refused token ends the time to sign in"):
                opened["signed_in"] = True
            if altered("sockets: an invalid token closes the socket"):
                self.close(socket, 4401)
            elif altered("sockets: an invalid token ends an open document") and attached:
                documents[name] = "ended"
            return
        opened["signed_in"] = True
        if not isinstance(attached, Attached) or attached.user != user:
            self.leave(attached)
            attached = documents[name] = Attached(document, user, (socket, name))
        scope = attached.readonly() and not altered("sockets: viewers get read-write")
        self.send(socket, name, type="authenticated", read_only=scope)
        for frame in opened["waiting"].pop(name, []):
            self.of_document(socket, name, frame)

    def waits(self, socket, name, frame):
        """A frame for a document whose token has not arrived."""
        if altered("sockets: frames before the token are dropped"):
            return
        waiting = self.sockets[socket]["waiting"]
        waiting.setdefault(name, []).append(frame)
        all_frames = [frame for frames in waiting.values() for frame in frames]
        documents = bound(DOCUMENTS, "sockets: 101 documents", "sockets: 99 documents")
        count = bound(WAITING_FRAMES, "sockets: 1,001 waiting frames", "sockets: 999 waiting frames")
        size = bound(WAITING_BYTES, "sockets: 5 MiB and a byte wait", "sockets: 5 MiB less a byte wait")
        if altered("sockets: waiting frames are counted by document"):
            all_frames = waiting[name]
        over = self.open_documents(socket) > documents or len(all_frames) > count
        if over or sum(len(frame.get("body", "")) // 2 for frame in all_frames) > size:
            self.close(socket, 4400 if altered("sockets: too many frames are 4400") else 4529)

    def of_document(self, socket, name, frame):
        if socket not in self.sockets:
            return
        attached = self.sockets[socket]["documents"].get(name)
        if attached is None or (attached == "ended" and altered("sockets: frames for an ended document wait for its token")):
            self.waits(socket, name, frame)
        elif attached == "ended":
            return
        elif frame["type"] == "step1":
            self.step1(socket, name, attached, bytes.fromhex(frame["body"]))
        elif frame["type"] in ("step2", "update"):
            self.edit(socket, name, attached, frame["type"], bytes.fromhex(frame["body"]))
        elif frame["type"] == "query_awareness":
            self.all_awareness(socket, name, attached)
        elif frame["type"] == "awareness":
            self.awareness(socket, name, attached, bytes.fromhex(frame["body"]))

    # --- awareness ---

    def all_awareness(self, socket, name, attached):
        present = attached.document.states.present()
        if present:
            self.send(socket, name, type="awareness", entries=present)

    def awareness(self, socket, name, attached, body):
        try:
            entries = awareness.parse(body)
        except Malformed:
            if altered("sockets: an awareness body that cannot be read closes the socket"):
                self.end(socket, name, 4400)
            return
        states, first = attached.document.states, attached.first
        attached.first = False
        for client, clock, text in entries:
            if not states.would_change(attached.who, (client, clock, text), first):
                if not altered("sockets: an awareness message that changes nothing counts"):
                    continue
            before = attached.cursors.get(client)
            newer = before is None or clock > before[0] or (clock == before[0] and text == "null")
            if altered("sockets: the first waiting entry is kept"):
                newer = before is None
            if altered("sockets: the last waiting entry is kept"):
                newer = True
            if newer:
                attached.cursors[client] = (clock, text)
        if attached.cursors and (self.now >= attached.next_cursors or altered("sockets: awareness is not coalesced")):
            self.send_cursors(socket, name, attached, first)

    def send_cursors(self, socket, name, attached, first=False):
        attached.next_cursors = self.now + bound(50, "sockets: awareness every 51 ms", "sockets: awareness every 49 ms")
        entries = [(client, clock, text) for client, (clock, text) in sorted(attached.cursors.items())]
        attached.cursors = {}
        shown, answered = attached.document.states.receive(attached.who, entries, first)
        if altered("sockets: all sockets of a document share a rate"):
            for _, _, other in self.of(attached.document):
                other.next_cursors = attached.next_cursors
        self.show(attached.document, shown)
        if answered:
            self.send(socket, name, type="awareness", entries=answered)
            self.send(socket, name, type="query_awareness")

    def of(self, document):
        """Socket, name and attached document of all sockets of a document."""
        for socket, opened in list(self.sockets.items()):
            for name, attached in list(opened["documents"].items()):
                if isinstance(attached, Attached) and attached.document is document:
                    yield socket, name, attached

    def show(self, document, entries):
        if entries:
            for socket, name, _ in self.of(document):
                self.send(socket, name, type="awareness", entries=entries)

    def leave(self, attached):
        """A document is no longer on a socket."""
        if isinstance(attached, Attached):
            shown = attached.document.states.closes(attached.who[2])
            for socket, name, other in self.of(attached.document):
                if shown and other is not attached:
                    self.send(socket, name, type="awareness", entries=shown)

    # --- sync and edits ---

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
        self.all_awareness(socket, name, attached)

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
            if not altered("sockets: no notice for the edit of a viewer"):
                self.send(socket, name, type="notice", code="read_only")
            if altered("sockets: the edit of a viewer closes the socket"):
                self.end(socket, name, 4403)
            return
        if attached.readonly() and altered("sockets: the empty step 2 of a viewer is refused"):
            self.status(socket, name, False)
            return
        result = attached.document.take(user, body, self.store_works)
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
        elif result == "unavailable":
            if not altered("sockets: no status if the store fails"):
                self.status(socket, name, False)
            self.end(socket, name, 4500 if altered("sockets: a store that fails is 4500") else 4503)
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
        self.leave(documents[name])
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
        elif "store_fails" in step:
            self.store_works = False
        elif "rebuilds" in step:
            for socket, name, _ in list(self.of(document)):
                if not altered("sockets: a document that was rebuilt goes on"):
                    self.end(socket, name, 4500 if altered("sockets: rebuilt is 4500") else 4505)
        elif "wait_ms" in step:
            socket_timers.wait(self, step["wait_ms"])
        elif "stops" in step:
            for user in ROLES:
                self.rights_changed(user, None, 4503 if altered("sockets: stopping is 4503") else 4500)

"""The document API, as in spec/docs/documents-api.md: enough of a server for the vectors of `documents`.

The times of events are names, since no clock is compared. Must not model other Matrix endpoints.
"""

import base64
import json
import re
import urllib.parse

from admission import admit
from algebra import diff, merge, state_hash, state_vector
from readings import altered, bound
from updates import Malformed, Update, encode_state_vector, parse, parse_state_vector

TITLE_BYTES = 1_024
KEY_BYTES = 200
CHANGES = 1_000
DESCRIPTION_BYTES = 8_192
FIRST_TIME = 100_000_000_000
POWER = {"viewer": 0, "commenter": 10, "editor": 25, "manager": 50, "owner": 100}
KINDS = ("rich_text", "text", "canvas")
CREATOR = 1 << 60


class Refused(Exception):
    """An error answer: status, code and, at most, further fields."""


class Document:
    def __init__(self, id_, creator, title, kind):
        self.id, self.creator, self.title, self.kind = id_, creator, title, kind
        self.powers, self.members, self.inviters = {}, {creator: "join"}, {}
        self.text, self.owners, self.version, self.modified = Update({}, {}), {}, 0, 0
        self.named, self.binned, self.template, self.links = [], None, False, {}
        self.guests = {}

    def power(self, user):
        if user == self.creator and not altered("documents: the creator has the power of an owner"):
            return CREATOR
        return self.powers.get(user, 100 if user == self.creator else 0)

    def role(self, user):
        names = [name for name, power in POWER.items() if power <= self.power(user)]
        if altered("documents: an owner is a manager in the list"):
            names = names[:4]
        return names[-1]

    def others(self, user):
        """The other joined users."""
        joined = [other for other, state in self.members.items() if other != user and state == "join"]
        if altered("documents: invited users count as members"):
            joined = [other for other, state in self.members.items() if other != user]
        return joined

    def without_owner(self, user):
        """Whether others would be left without an owner if this user were none."""
        others = self.others(user)
        return bool(others) and not any(self.power(other) >= POWER["owner"] for other in others)

    def show(self, user):
        return {
            "docId": self.id,
            "title": self.title,
            "kind": self.kind,
            "ownerId": self.owner(),
            "version": self.version,
            "role": self.role(user),
            "createdAt": "<made>",
            "lastModified": f"<{self.modified}>",
        } | self.marks()

    def marks(self):
        """Bin and template, if they are set."""
        marks = {} if self.binned is None else {"inBinSince": self.binned}
        return marks | ({"template": True} if self.template else {})

    def owner(self):
        if altered("documents: ownerId is the first owner in the document"):
            return min((user for user in self.members if self.power(user) >= POWER["owner"]), default=self.creator)
        return self.creator

    def known(self):
        """What admission knows of each client."""
        return {str(c): {"end": run[-1].end, "owner": self.owners[c]} for c, run in self.text.runs.items()}

    def edit(self, user, data):
        result = admit(data, user, self.known())
        if result["result"] == "known" and not altered("documents: a known edit changes the version"):
            return
        update = parse(data)
        for client in update.runs:
            self.owners.setdefault(client, user)
        self.text = merge([self.text, update])
        self.version += 1
        self.modified += 1


class Server:
    def __init__(self):
        self.documents, self.rooms, self.messages, self.edits = {}, {}, {}, {}
        self.discussions, self.discussed, self.event_names, self.event_name = {}, {}, set(), None

    # --- finding ---

    def joined(self, name, user):
        name = urllib.parse.unquote(name)
        valid = name.startswith(("!", "#", "<"))
        if not valid and not altered("documents: any id is searched"):
            raise Refused(400, "M_INVALID_PARAM")
        document = self.documents.get(name)
        if name in self.rooms and self.rooms[name] == user:
            code = "M_NOT_FOUND" if altered("documents: a room is not found") else "DEV_WEFT_NOT_A_DOCUMENT"
            raise Refused(404, code)
        if document is None:
            raise Refused(404, "M_NOT_FOUND")
        state = document.members.get(user)
        if state != "join" and not (state == "invite" and altered("documents: invited users may read")):
            if altered("documents: a document of others is 403"):
                raise Refused(403, "M_FORBIDDEN")
            raise Refused(404, "M_NOT_FOUND")
        return document

    # --- requests ---

    def create(self, user, body, id_):
        title = self.title(body.get("title", ""))
        if "kind" not in body:
            raise Refused(400, "M_MISSING_PARAM")
        if body["kind"] not in KINDS and not altered("documents: any kind"):
            raise Refused(400, "M_BAD_JSON")
        if body.get("ownerId", user) != user and not altered("documents: any owner"):
            raise Refused(403, "M_FORBIDDEN")
        self.documents[id_] = Document(id_, user, title, body["kind"])
        return 201, {"docId": id_, "createdAt": "<made>"}

    def title(self, title):
        size = len(title) if altered("documents: letters of a title count") else len(title.encode())
        if size > bound(TITLE_BYTES, "documents: a title of 1,025 bytes", "documents: a title of 1,023 bytes"):
            raise Refused(413, "M_TOO_LARGE")
        if re.search(r"[\x00-\x1f\x7f]", title) and not altered("documents: a title has several lines"):
            raise Refused(400, "M_INVALID_PARAM")
        return title

    def list(self, user, query):
        own = [document for document in self.documents.values() if document.members.get(user) == "join"]
        in_bin = query.get("bin") == "true"
        if not altered("documents: lists have the bin and all else"):
            own = [document for document in own if (document.binned is not None) == in_bin]
        if "template" in query and not altered("documents: templates are not apart"):
            own = [document for document in own if document.template == (query["template"] == "true")]
        invited = [document for document in self.documents.values() if document.members.get(user) == "invite"]
        if altered("documents: invitations are not listed"):
            invited = []
        if altered("documents: invitations are listed as documents"):
            own, invited = own + invited, []
        invites = [
            {"docId": document.id, "title": document.title, "inviter": document.inviters[user]} for document in invited
        ]
        return 200, {"documents": [document.show(user) for document in own], "invites": invites}

    def rename(self, document, user, body):
        if document.power(user) < POWER["manager"] and not altered("documents: every member renames"):
            raise Refused(403, "M_FORBIDDEN")
        if "title" not in body:
            raise Refused(400, "M_MISSING_PARAM")
        document.title = self.title(body["title"])
        document.modified += 1
        if altered("documents: a new title changes the version"):
            document.version += 1
        return 200, document.show(user)

    def content(self, document, if_none_match):
        tag = base64.urlsafe_b64encode(state_hash(document.text)).decode().rstrip("=")
        if altered("documents: an ETag in standard base64"):
            tag = tag.replace("-", "+").replace("_", "/")
        etag = f'"{tag}"' if altered("documents: a strong ETag") else f'W/"{tag}"'
        offered = [value.strip() for value in (if_none_match or "").split(",")]
        if altered("documents: only the first ETag is compared"):
            offered = offered[:1]
        same = tag in [value.removeprefix("W/").strip('"') for value in offered]
        if altered("documents: ETags are compared strongly"):
            same = etag in offered
        same = same or ("*" in offered and not altered("documents: * is no ETag"))
        if same and not altered("documents: the ETag is not compared"):
            return 304, {"hex": "", "type": "", "etag": etag}
        return 200, {"hex": document.text.encode().hex(), "type": "application/octet-stream", "etag": etag}

    # --- marks ---

    def delete(self, document, user):
        """DELETE /documents/{id}"""
        if document.power(user) < POWER["owner"] and not altered("documents: every member uses the bin"):
            if altered("documents: who is no owner can't delete"):
                raise Refused(403, "M_FORBIDDEN")
            self.remove(document, user, user)
            return 200, {}
        if document.binned is None or altered("documents: the time in the bin begins again"):
            document.modified += 1
            document.binned = document.modified
        return 200, {"inBinSince": document.binned}

    def undelete(self, document, user):
        """POST .../undelete"""
        if document.power(user) < POWER["owner"] and not altered("documents: every member restores from the bin"):
            raise Refused(403, "M_FORBIDDEN")
        if document.binned is not None:
            document.modified += 1
        document.binned = None
        return 200, document.show(user)

    def mark(self, document, user, template):
        """PUT and DELETE .../template"""
        if document.power(user) < POWER["manager"] and not altered("documents: editors make templates"):
            raise Refused(403, "M_FORBIDDEN")
        if document.template != template:
            document.modified += 1
        document.template = template
        return 200, document.show(user)

    # --- programs ---

    def sync(self, document, vector):
        """POST .../sync"""
        try:
            ends = parse_state_vector(vector) if vector else {}
        except Malformed as error:
            raise Refused(400, "M_INVALID_PARAM") from error
        if altered("documents: sync sends everything"):
            ends = {}
        return 200, {"hex": diff(document.text, ends).encode().hex(), "type": "application/octet-stream"}

    def update(self, document, user, data):
        """POST .../updates"""
        if document.power(user) < POWER["editor"] and not altered("documents: viewers send updates"):
            raise Refused(403, "M_FORBIDDEN")
        result = admit(data, user, document.known())
        if result["result"] == "refused":
            raise Refused(400, "DEV_WEFT_UPDATE_REFUSED")
        if result["result"] == "gap":
            status = 400 if altered("documents: an update that depends on others is 400") else 409
            vector = encode_state_vector(state_vector(document.text))
            raise Refused(status, "DEV_WEFT_UPDATES_MISSING", {"stateVector": base64.b64encode(vector).decode()})
        document.edit(user, data)
        return 200, {"version": document.version}

    def edit(self, name, user, step):
        """PATCH .../edit, without the text: where a change is possible depends on an engine."""
        body, key, if_match = self.body(step), step.get("idempotency_key"), step.get("if_match")
        if len(key or "") > KEY_BYTES:
            raise Refused(400, "M_INVALID_PARAM")
        if not {"changes", "clientVersion"} <= set(body):
            raise Refused(400, "M_MISSING_PARAM")
        body = body | {"changes": body["changes"] * step.get("times", 1)}
        if len(body["changes"]) > bound(CHANGES, "documents: 1,001 changes", "documents: 999 changes"):
            raise Refused(413, "M_TOO_LARGE")
        if not body["changes"] and not altered("documents: an edit without changes"):
            raise Refused(400, "M_INVALID_PARAM")
        document = self.joined(name, user)
        of_user = None if altered("documents: a key of an edit is of all users") else user
        kept = self.edits.get((name, of_user, key)) if key else None
        if kept and not altered("documents: an edit is made again"):
            if kept[0] != body and not altered("documents: a key is enough for the same answer"):
                raise Refused(422, "DEV_WEFT_KEY_REUSED")
            return 200, kept[1]
        if document.power(user) < POWER["editor"] and not altered("documents: commenters edit by position"):
            raise Refused(403, "M_FORBIDDEN")
        if document.binned is not None and not altered("documents: the bin is edited by position"):
            raise Refused(409, "DEV_WEFT_IN_BIN", {"inBinSince": document.binned})
        present = {"version": document.version, "etag": f"etag of {document.version}"}
        if if_match not in (None, "*") and not altered("documents: If-Match is ignored"):
            raise Refused(409, "DEV_WEFT_DOCUMENT_CHANGED", present)
        if if_match == "*" and altered("documents: If-Match of * never holds"):
            raise Refused(409, "DEV_WEFT_DOCUMENT_CHANGED", present)
        if body["clientVersion"] > document.version and not altered("documents: later versions are known"):
            refused = (409, "DEV_WEFT_UNKNOWN_VERSION", present)
            if altered("documents: the answer to an edit that was refused is kept"):
                self.edits[name, of_user, key] = (body, None)
            raise Refused(*refused)
        document.version += len(body["changes"]) if altered("documents: each change is a version") else 1
        document.modified += 1
        answer = {"newVersion": document.version, "conflicts": []}
        self.edits[name, of_user, key] = (body, answer)
        return 200, answer

    def chat(self, document, user, body, key):
        """POST .../chat"""
        if len(key or "") > bound(KEY_BYTES, "documents: a key of 201 bytes", "documents: a key of 199 bytes"):
            raise Refused(400, "M_INVALID_PARAM")
        if " " in (key or "") and not altered("documents: a key with a space"):
            raise Refused(400, "M_INVALID_PARAM")
        if "message" not in body:
            raise Refused(400, "M_MISSING_PARAM")
        if not body.get("replyTo", "$").startswith(("$", "<")) and not altered("documents: a reply to anything"):
            raise Refused(400, "M_BAD_JSON")
        if not body["message"] and not altered("documents: an empty message"):
            raise Refused(400, "M_INVALID_PARAM")
        if document.power(user) < POWER["commenter"] and not altered("documents: viewers chat"):
            raise Refused(403, "M_FORBIDDEN")
        sent = self.messages.get((user, key))
        if sent is None or key is None or altered("documents: an idempotency key is ignored"):
            sent = self.messages[user, key] = {"messageId": f"${len(self.messages)}.{document.modified}", "timestamp": 1}
            document.modified += 1
            if altered("documents: a message changes the version"):
                document.version += 1
        return 201, sent

    # --- history ---

    def name(self, document, user, body):
        """POST .../versions"""
        if "name" not in body:
            raise Refused(400, "M_MISSING_PARAM")
        name, description = body["name"], body.get("description")
        if not name and not altered("documents: a version without a name"):
            raise Refused(400, "M_INVALID_PARAM")
        limit = bound(TITLE_BYTES, "documents: a version's name of 1,025 bytes", "documents: a version's name of 1,023 bytes")
        if len(name.encode()) > limit:
            raise Refused(413, "M_TOO_LARGE")
        limit = bound(DESCRIPTION_BYTES, "documents: a description of 8,193 bytes", "documents: a description of 8,191 bytes")
        if len((description or "").encode()) > limit:
            raise Refused(413, "M_TOO_LARGE")
        if document.power(user) < POWER["editor"] and not altered("documents: commenters name versions"):
            raise Refused(403, "M_FORBIDDEN")
        document.modified += 1
        made = {"eventId": f"$version{document.modified}", "author": user, "at": document.modified, "name": name}
        if description is not None:
            made["description"] = description
        document.named.append(made)
        return 201, made

    def history(self, document, query):
        """GET .../history, of a document without edits"""
        limit = int(query.get("limit", 50))
        if not 1 <= limit <= bound(200, "documents: 201 entries", "documents: 199 entries"):
            raise Refused(400, "M_INVALID_PARAM")
        if query.get("detail", "edits") != "edits":
            raise Refused(400, "M_INVALID_PARAM")
        named = [one for one in document.named if query.get("author", one["author"]) == one["author"]]
        if not altered("documents: the oldest entry is first"):
            named.reverse()
        return 200, {"entries": [{"kind": "version"} | one for one in named], "versionsFrom": 0}

    def at(self, document, query):
        """GET /documents/{id}?format=…&at=…, of versions that are not there"""
        if "format" not in query:
            raise Refused(400, "M_MISSING_PARAM")
        if not re.fullmatch(r"[0-9]+", query["at"]):
            raise Refused(400, "M_INVALID_PARAM")
        first = FIRST_TIME - altered("documents: 99,999,999,999 is a time")
        if int(query["at"]) >= first:
            raise Refused(500, "the time is not modelled")
        if altered("documents: an unknown version is not found"):
            raise Refused(404, "M_NOT_FOUND")
        raise Refused(409, "DEV_WEFT_UNKNOWN_VERSION", {"version": document.version, "from": 0})

    def presence(self, user, target):
        """GET /presence/{userId}"""
        self.check_user(target)
        rooms = [document.members for document in self.documents.values() if document.members.get(user) == "join"]
        shared = any(members.get(target) == "join" for members in rooms)
        own = user == target and not altered("documents: users don't see their own presence")
        if not shared and not own and not altered("documents: presence is public"):
            code = (404, "M_NOT_FOUND") if altered("documents: presence of a stranger is not found") else (403, "M_FORBIDDEN")
            raise Refused(*code)
        return 200, {"userId": target, "presence": "offline"}

    # --- members ---

    def list_members(self, document):
        shown = [
            {"userId": user, "displayName": user[1:].split(":")[0].upper(), "role": document.role(user), "membership": state}
            for user, state in document.members.items()
        ]
        for member in shown:
            if member["userId"] in document.guests:
                member["displayName"] = document.guests[member["userId"]]
                member |= {} if altered("links: guests have no mark") else {"guest": True}
        if altered("documents: invited users are not listed"):
            shown = [member for member in shown if member["membership"] == "join"]
        by_id = sorted(shown, key=lambda member: member["userId"], reverse=altered("documents: ids descending"))
        if altered("documents: members are sorted by their ids only"):
            return 200, {"members": by_id}
        if altered("documents: members are in the order of joining"):
            by_id = shown
        return 200, {"members": sorted(by_id, key=lambda member: -POWER[member["role"]])}

    def give(self, document, user, target, body):
        """PUT .../members/{userId}"""
        if "role" not in body:
            raise Refused(400, "M_MISSING_PARAM")
        if body["role"] not in POWER:
            raise Refused(400, "M_BAD_JSON")
        self.check_user(target)
        power = POWER[body["role"]]
        if document.power(target) != power or altered("documents: the same role needs the right to change it"):
            if not (target == document.creator and body["role"] == "owner"):
                self.check_give(document, user, target, power)
        member = document.members.get(target)
        if member is None:
            if document.power(user) < POWER["manager"] and not altered("documents: every member invites"):
                raise Refused(403, "M_FORBIDDEN")
            if not altered("documents: a role alone does not invite"):
                document.members[target], document.inviters[target] = "invite", user
            if altered("documents: a user with a role has joined"):
                document.members[target] = "join"
        if power or target in document.powers:
            document.powers[target] = power
        document.modified += 1
        return 200, {}

    def check_give(self, document, user, target, power):
        own, theirs = document.power(user), document.power(target)
        needed = POWER["manager"] if altered("documents: managers give roles") else POWER["owner"]
        if own < needed:
            raise Refused(403, "M_FORBIDDEN")
        equal = user != target and theirs >= own and not altered("documents: owners change owners")
        if target == document.creator and not altered("documents: the creator can be changed"):
            equal = True
        if equal or power > own:
            raise Refused(403, "M_FORBIDDEN")
        demotes = theirs >= POWER["owner"] > power
        if demotes and document.members.get(target) == "join" and document.without_owner(target):
            raise Refused(403, "M_FORBIDDEN")

    def remove(self, document, user, target):
        """DELETE .../members/{userId}"""
        self.check_user(target)
        if target not in document.members:
            raise Refused(404, "M_NOT_FOUND")
        if user == target:
            is_owner = document.power(user) >= POWER["owner"]
            if is_owner and document.without_owner(user) and not altered("documents: the last owner may leave"):
                raise Refused(403, "M_FORBIDDEN")
            if is_owner and document.others(user) and altered("documents: no owner may leave"):
                raise Refused(403, "M_FORBIDDEN")
            if user == document.creator and document.others(user) and altered("documents: the creator may not leave"):
                raise Refused(403, "M_FORBIDDEN")
        else:
            own, theirs = document.power(user), document.power(target)
            may = own >= POWER["manager"] or altered("documents: every member removes others")
            lower = theirs < own or (theirs == own and altered("documents: equals remove one another"))
            if not may or not lower:
                raise Refused(403, "M_FORBIDDEN")
        del document.members[target]
        if altered("documents: a role ends with the membership"):
            document.powers.pop(target, None)
        document.modified += 1
        return 200, {}

    def pass_on(self, document, user, body):
        """POST .../owner"""
        target, leaves = body["user"], body.get("leave", False)
        if target == user and not altered("documents: the caller may be the new owner"):
            raise Refused(400, "M_INVALID_PARAM")
        if document.power(user) < POWER["owner"] and not altered("documents: anybody passes a document on"):
            raise Refused(403, "M_FORBIDDEN")
        there = document.members.get(target)
        if there != "join" and not (there == "invite" and altered("documents: an invited user may become the owner")):
            raise Refused(403, "M_FORBIDDEN")
        creator = user == document.creator and not (leaves and not altered("documents: the creator never passes it on"))
        if creator and not altered("documents: the creator steps down"):
            raise Refused(403, "DEV_WEFT_CREATOR_STAYS")
        if target != document.creator:
            document.powers[target] = POWER["owner"]
        if leaves:
            if not altered("documents: leave has no effect"):
                del document.members[user]
        elif not altered("documents: the old owner stays an owner"):
            document.powers[user] = POWER["editor" if altered("documents: the old owner is an editor") else "manager"]
        document.modified += 1
        return 200, {}

    def check_user(self, target):
        if not (target.startswith("@") and ":" in target) and not altered("documents: any user id"):
            raise Refused(400, "M_INVALID_PARAM")

    # --- dispatch ---

    def request(self, step):
        user = f"@{step['by']}:alpha.example" if step.get("by") else None
        guest = re.fullmatch("POST /links/([^/]*)/guest", step["request"])
        if guest:
            return sharing.guest(self, guest[1], self.body(step), step["answer"])
        if user is None:
            missing = "token" not in step or altered("documents: an invalid token is missing")
            raise Refused(401, "M_MISSING_TOKEN" if missing else "M_UNKNOWN_TOKEN")
        method, path = step["request"].split(" ")
        path, _, query = path.partition("?")
        query = dict(urllib.parse.parse_qsl(query))
        if path.startswith("/presence/"):
            return self.presence(user, urllib.parse.unquote(path.removeprefix("/presence/")))
        if path.startswith("/links/"):
            return sharing.follow(self, user, path.removeprefix("/links/"), self.body(step))
        parts = path.strip("/").split("/")[1:]
        known = {0: ("GET", "POST"), 1: ("GET", "PATCH", "DELETE")}.get(len(parts))
        if known and method not in known:
            raise Refused(405, "M_UNRECOGNIZED")
        if parts and parts[-1] in ("sync", "updates"):
            document, data = self.joined(parts[0], user), bytes.fromhex(step["raw_hex"])
            return self.sync(document, data) if parts[1] == "sync" else self.update(document, user, data)
        if parts and parts[-1] == "edit":
            return self.edit(parts[0], user, step)
        body = self.body(step)
        if not parts:
            return self.list(user, query) if method == "GET" else self.create(user, body, step["answer"].get("docId", "<refused>"))
        document = self.joined(parts[0], user)
        if "at" in query:
            return self.at(document, query)
        if parts[1:] == ["owner"]:
            return self.pass_on(document, user, body)
        if parts[1:] == ["versions"]:
            return self.name(document, user, body)
        if parts[1:] == ["history"]:
            return self.history(document, query)
        if parts[1:] == ["undelete"]:
            return self.undelete(document, user)
        if parts[1:] == ["template"]:
            return self.mark(document, user, method == "PUT")
        if len(parts) == 1 and method == "DELETE":
            return self.delete(document, user)
        if len(parts) == 1:
            return (200, document.show(user)) if method == "GET" else self.rename(document, user, body)
        if parts[1] == "content":
            return self.content(document, step.get("if_none_match"))
        if parts[1] in ("comments", "suggestions"):
            return discussion.request(self, document, user, method, parts[1:], query, step, body)
        if parts[1] == "links":
            if method == "POST":
                return sharing.make(document, user, body, step["answer"])
            return sharing.manage(document, user, method, parts[-1])
        if parts[1] == "chat":
            return self.chat(document, user, body, step.get("idempotency_key"))
        if method == "GET":
            return self.list_members(document)
        target = urllib.parse.unquote(parts[2])
        return self.give(document, user, target, body) if method == "PUT" else self.remove(document, user, target)

    def body(self, step):
        if "raw" in step:
            try:
                body = json.loads(step["raw"])
            except ValueError as error:
                raise Refused(400, "M_NOT_JSON") from error
        else:
            body = step.get("body", {})
        if not isinstance(body, dict):
            raise Refused(400, "M_BAD_JSON")
        return body

    def act(self, step):
        user = f"@{step['by']}:alpha.example"
        if "makes_room" in step:
            self.rooms[step["makes_room"]] = user
        elif "joins" in step:
            self.documents[step["joins"]].members[user] = "join"
        else:
            self.documents[step["edits"]].edit(user, bytes.fromhex(step["hex"]))


def fits(expected, actual, names):
    """Whether an answer is as expected; names in angle brackets get the value that they meet first."""
    if isinstance(expected, str) and expected.startswith("<") and expected.endswith(">"):
        return expected == "<>" or names.setdefault(expected, actual) == actual
    if isinstance(expected, dict) and isinstance(actual, dict):
        plain = {key.rstrip("?"): value for key, value in expected.items()}
        optional = {key.rstrip("?") for key in expected if key.endswith("?")}
        if not set(actual) <= set(plain):
            return False
        return all(key in optional if key not in actual else fits(value, actual[key], names) for key, value in plain.items())
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(fits(a, b, names) for a, b in zip(expected, actual))
    return expected == actual


def check(server, step, names):
    """What differs from the expected answer of a step, or None."""
    try:
        status, answer = server.request(step)
    except Refused as refused:
        status, code, *more = refused.args
        answer = {"errcode": code, "error": ""} | (more[0] if more else {})
    if "hex" in step:
        got = {key: answer.get(key) for key in ("type", "hex", "etag") if key in step}
        matches = got == {key: step[key] for key in got}
    else:
        matches = fits(step["answer"], answer, names)
    return None if status == step["status"] and matches else (step["request"], status, answer)


def run(case):
    server, names = Server(), {}
    for step in case["steps"]:
        if "request" in step:
            wrong = check(server, step, names)
            if wrong:
                return wrong
        else:
            server.act(step)
    return None


def expected(_):
    return None


# Needs the names above.
import discussion  # noqa: E402
import sharing  # noqa: E402

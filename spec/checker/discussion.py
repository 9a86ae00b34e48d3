"""Comments and suggestions of the document API, as in spec/docs/documents-api.md: enough for the vectors of `documents`.

Comments are on whole documents, and suggestions are updates: places and differences need an engine. Must not model the events.
"""

import base64
import binascii

import talk
from admission import admit
from documents import POWER, Refused
from readings import altered, bound
from updates import Malformed, parse

PAGE, MENTIONS, SUMMARY_BYTES, UPDATE_BYTES, KEY_BYTES = 100, 100, 1_024, 45_000, 200


class Thread:
    """A comment, or a suggestion."""

    def __init__(self, id_, author, body):
        self.id, self.author, self.body = id_, author, body
        self.replies, self.decisions, self.accepted = [], [], False

    def unread(self, user):
        own = [number for number, reply in enumerate(self.replies) if reply["author"] == user]
        new = self.replies[own[-1] + 1 :] if own and not altered("comments: own replies read nothing") else self.replies
        new = [reply for reply in new if reply["author"] != user]
        return {"notifications": len(new), "highlights": sum(user in reply["mentions"] for reply in new)}

    def replies_shown(self):
        shown = [{key: reply[key] for key in ("eventId", "author", "at", "body")} for reply in self.replies]
        return shown if altered("comments: the oldest reply is first") else shown[::-1]

    def comment(self, user):
        outcome = talk.decided({"resolutions": self.decisions})
        shown = {"eventId": self.id, "author": self.author, "at": 1, "body": self.body, "quote": "", "orphaned": False}
        shown |= {"resolved": outcome == "resolved", "replies": len(self.replies), "unread": self.unread(user)}
        if self.decisions:
            shown |= {"resolvedBy": self.decisions[-1]["sender"], "resolvedAt": 1}
        if self.replies:
            shown["lastReply"] = self.replies_shown()[0]
        return shown

    def suggestion(self, user):
        state = talk.state({"author": self.author, "decisions": self.decisions})
        shown = {"eventId": self.id, "author": self.author, "at": 1, "state": state, "replies": len(self.replies)}
        shown |= {"unread": self.unread(user)} | ({"summary": self.body} if self.body is not None else {})
        if self.decisions:
            shown |= {"decidedBy": self.decisions[-1]["sender"], "decidedAt": 1}
        return shown


def event_id(server, document):
    """The name that the answer has for a new event, unless another event has it."""
    document.modified += 1
    name = server.event_name
    server.event_name = f"$talk{document.modified}"
    return name


def request(server, document, user, method, parts, query, step, body):
    """A request below a document: `parts` begins with `comments` or `suggestions`."""
    threads = server.discussions.setdefault(document.id, {"comments": [], "suggestions": []})
    kind, key = parts[0], step.get("idempotency_key")
    name = step["answer"].get("eventId", step["answer"].get("messageId"))
    server.event_name = f"$talk{document.modified}" if name is None or name in server.event_names else name
    server.event_names.add(name)
    if len(parts) == 1:
        if method == "GET":
            return 200, listed(threads[kind], kind, user, query)
        make = comment if kind == "comments" else suggestion
        return 201, once(server, user, key, lambda: make(server, document, threads, user, body))
    wanted = parts[1]
    if not wanted.startswith(("$", "<")) and not altered("comments: any id of an event"):
        raise Refused(400, "M_INVALID_PARAM")
    both = threads["comments"] + (threads["suggestions"] if parts[-1] == "replies" or kind == "suggestions" else [])
    if kind == "suggestions":
        both = threads["suggestions"]
    found = next((thread for thread in both if thread.id == wanted), None)
    if found is None:
        raise Refused(404, "M_NOT_FOUND")
    if len(parts) == 2:
        return 200, {"comment": found.comment(user), "replies": found.replies_shown()}
    if parts[2] == "replies":
        return 201, once(server, user, key, lambda: reply(server, document, found, user, body))
    if kind == "comments":
        return 200, resolve(server, document, found, user, "resolved" if parts[2] == "resolve" else "open")
    return 200, decide(server, document, found, user, parts[2])


def once(server, user, key, make):
    if len(key or "") > KEY_BYTES:
        raise Refused(400, "M_INVALID_PARAM")
    if key is None or (user, key) not in server.discussed or altered("comments: an idempotency key is ignored"):
        server.discussed[user, key] = make()
    return server.discussed[user, key]


def listed(threads, kind, user, query):
    if not 1 <= int(query.get("limit", 50)) <= bound(PAGE, "comments: a page of 101", "comments: a page of 99"):
        raise Refused(400, "M_INVALID_PARAM")
    if not query.get("from", "0").lstrip("-").isdigit():
        raise Refused(400, "M_INVALID_PARAM")
    show = Thread.comment if kind == "comments" else Thread.suggestion
    found = [show(thread, user) for thread in threads]
    if not altered("comments: the oldest is first"):
        found.reverse()
    if "resolved" in query and not altered("comments: the filter is ignored"):
        found = [one for one in found if str(one["resolved"]).lower() == query["resolved"]]
    if "state" in query and not altered("suggestions: the filter is ignored"):
        found = [one for one in found if one["state"] == query["state"]]
    limit = int(query.get("limit", 50))
    return {kind: found[:limit]} | ({"nextPage": "1"} if len(found) > limit else {})


def check_role(document, user):
    if document.power(user) < POWER["commenter"] and not altered("comments: viewers comment"):
        raise Refused(403, "M_FORBIDDEN")


def text(body):
    if "body" not in body:
        raise Refused(400, "M_MISSING_PARAM")
    if not body["body"] and not altered("comments: an empty comment"):
        raise Refused(400, "M_INVALID_PARAM")
    if len(body.get("mentions", [])) > bound(MENTIONS, "comments: 101 mentions", "comments: 99 mentions"):
        raise Refused(413, "M_TOO_LARGE")
    return body["body"]


def comment(server, document, threads, user, body):
    made = text(body)
    if ("from" in body) != ("to" in body) and not altered("comments: half a range"):
        raise Refused(400, "M_INVALID_PARAM")
    check_role(document, user)
    threads["comments"].append(Thread(event_id(server, document), user, made))
    return threads["comments"][-1].comment(user)


def reply(server, document, thread, user, body):
    made = text(body)
    check_role(document, user)
    sent = {"eventId": event_id(server, document), "author": user, "at": 1, "body": made, "mentions": body.get("mentions", [])}
    thread.replies.append(sent)
    return {"messageId": sent["eventId"], "timestamp": 1}


def resolve(server, document, thread, user, outcome):
    resolved = outcome == "resolved"
    now = talk.decided({"resolutions": thread.decisions}) == "resolved"
    if now == resolved and not altered("comments: a decision is repeated"):
        last = {"eventId": thread.decisions[-1]["event_id"]} if thread.decisions else {}
        return {"resolved": resolved} | last
    check_role(document, user)
    return {"resolved": resolved, "eventId": decision(server, document, thread, user, outcome)}


def decision(server, document, thread, user, outcome):
    made = {"event_id": event_id(server, document), "at": document.modified, "sender": user, "outcome": outcome}
    thread.decisions.append(made | {"might_edit": document.power(user) >= POWER["editor"]})
    return made["event_id"]


def suggestion(server, document, threads, user, body):
    summary = body.get("summary")
    limit = bound(SUMMARY_BYTES, "suggestions: a summary of 1,025 bytes", "suggestions: a summary of 1,023 bytes")
    if len((summary or "").encode()) > limit:
        raise Refused(413, "M_TOO_LARGE")
    if document.power(user) < POWER["commenter"] and not altered("suggestions: viewers suggest"):
        raise Refused(403, "M_FORBIDDEN")
    if "update" not in body or ("changes" in body and not altered("suggestions: changes beside an update")):
        raise Refused(400, "M_INVALID_PARAM")
    check_update(decoded(body["update"]), user, document)
    threads["suggestions"].append(Thread(event_id(server, document), user, summary))
    return threads["suggestions"][-1].suggestion(user)


def decoded(update):
    try:
        return base64.b64decode(update + "=" * (-len(update) % 4), validate=True)
    except binascii.Error as error:
        raise Refused(400, "M_INVALID_PARAM") from error


def check_update(data, user, document):
    refused = Refused(400, "DEV_WEFT_UPDATE_REFUSED")
    try:
        runs = parse(data).runs
    except Malformed as error:
        raise refused from error
    known = {client: end | {"owner": "another"} for client, end in document.known().items()}
    if len(runs) > 1 and not altered("suggestions: two client ids"):
        raise refused
    for client, run in runs.items():
        if str(client) in known and not altered("suggestions: a client id of the text"):
            raise refused
        if run[0].clock and not altered("suggestions: blocks from a later clock on"):
            raise refused
    if altered("suggestions: a client id of the text"):
        known = {client: one | {"owner": user} for client, one in known.items()}
    result = admit(data, user, known)["result"]
    early = altered("suggestions: what is not here is admitted") or altered("suggestions: blocks from a later clock on")
    nothing = result == "known" and altered("suggestions: an update that changes nothing")
    if result != "admitted" and not early and not nothing:
        raise refused


def decide(server, document, thread, user, what):
    state = talk.state({"author": thread.author, "decisions": thread.decisions})
    if state != "open" and not altered("suggestions: a closed one is decided about"):
        raise Refused(409, "DEV_WEFT_SUGGESTION_CLOSED", {"state": state})
    if what == "withdraw":
        if user != thread.author and not altered("suggestions: editors withdraw"):
            raise Refused(403, "M_FORBIDDEN")
        return {"state": "withdrawn", "eventId": decision(server, document, thread, user, "withdrawn")}
    if document.power(user) < POWER["editor"] and not altered("suggestions: commenters reject"):
        raise Refused(403, "M_FORBIDDEN")
    return {"state": "rejected", "eventId": decision(server, document, thread, user, "rejected")}

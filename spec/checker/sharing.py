"""Share links of the document API, as in spec/docs/documents-api.md: enough for the vectors of `documents`.

Hashes, limits of guesses and time are not modelled. Must not model the events.
"""

from documents import POWER, Refused
from readings import altered, bound

PASSWORD_CHARS, PASSWORD_BYTES, NAME_BYTES, YEAR = 8, 1_024, 512, 31_536_000_000


class Link:
    def __init__(self, id_, maker, body):
        self.maker, self.role, self.most = maker, body["role"], body.get("maxUses")
        self.password, self.id, self.uses = body.get("password"), id_, 0
        self.guests, self.came = body.get("guests", False), []

    def is_open(self):
        return self.most is None or self.uses < self.most or altered("links: a used link goes on")

    def is_listed(self):
        return self.is_open() or (self.guests and not altered("links: a used link with guests is not listed"))

    def show(self):
        shown = {"linkId": self.id, "createdBy": self.maker, "role": self.role, "createdAt": 1, "expiresAt": 2}
        shown |= {"uses": self.uses, "hasPassword": self.password is not None, "guests": self.guests}
        return shown | ({} if self.most is None else {"maxUses": self.most})


def may_admit(document, user, role):
    """Whether a member could invite somebody with the role."""
    power = document.power(user)
    if altered("links: every member shares"):
        return True
    needed = POWER["manager"] if role == "viewer" or altered("links: managers share every role") else POWER["owner"]
    return document.members.get(user) == "join" and power >= needed


def check_password(password):
    shortest = bound(PASSWORD_CHARS, "links: a password of 9 characters", "links: a password of 7 characters")
    if len(password) < shortest:
        raise Refused(400, "M_WEAK_PASSWORD")
    if len(password.encode()) > bound(PASSWORD_BYTES, "links: 1,025 bytes", "links: 1,023 bytes"):
        raise Refused(400, "M_INVALID_PARAM")


def make(document, user, body, names):
    """POST .../links; `names` are those that the vector has for the new link."""
    if "role" not in body:
        raise Refused(400, "M_MISSING_PARAM")
    if not may_admit(document, user, body["role"]):
        raise Refused(403, "M_FORBIDDEN")
    lasts = body.get("expiresIn", 1)
    if not 1 <= lasts <= bound(YEAR, "links: more than a year", "links: less than a year") or body.get("maxUses") == 0:
        raise Refused(400, "M_INVALID_PARAM")
    if "password" in body:
        check_password(body["password"])
    secret, id_ = names.get("secret", "<refused>"), names.get("linkId", "<refused>")
    document.links[secret] = Link(id_, user, body)
    return 201, {"secret": secret} | document.links[secret].show()


def manage(document, user, method, name):
    """GET .../links and DELETE .../links/{linkId}"""
    if document.power(user) < POWER["manager"] and not altered("links: every member manages links"):
        raise Refused(403, "M_FORBIDDEN")
    if method == "GET":
        return 200, {"links": [link.show() for link in document.links.values() if link.is_listed()]}
    found = [secret for secret, link in document.links.items() if link.id == name]
    if not found:
        raise Refused(404, "M_NOT_FOUND")
    for guest in document.links[found[0]].came:
        if not altered("links: guests stay when their link is revoked"):
            del document.members[guest]
    if not altered("links: a revoked link goes on"):
        del document.links[found[0]]
    return 200, {}


def follow(server, user, secret, body):
    """POST /links/{secret}"""
    for document in server.documents.values():
        link = document.links.get(secret)
        if link and link.is_open():
            check_given(link, body)
            return admit(document, link, user)
    raise Refused(404, "M_NOT_FOUND")


def guest(server, secret, body, answer):
    """POST /links/{secret}/guest; `answer` has the name of the new guest."""
    if "displayName" not in body:
        raise Refused(400, "M_MISSING_PARAM")
    name = body["displayName"].strip()
    empty = not name and not altered("links: a guest without a name")
    lines = any(ord(c) < 32 for c in name) and not altered("links: the name of a guest has lines")
    turned = any("\u202a" <= c <= "\u202e" for c in name) and not altered("links: the name of a guest turns text around")
    if empty or lines or turned:
        raise Refused(400, "M_INVALID_PARAM")
    name += "" if altered("links: a guest has a plain name") else " (guest)"
    if len(name.encode()) > bound(NAME_BYTES, "links: a name of 513 bytes", "links: a name of 511 bytes"):
        raise Refused(400, "M_PROFILE_TOO_LARGE")
    for document in server.documents.values():
        link = document.links.get(secret)
        if link and link.is_open():
            if not link.guests and not altered("links: every link lets guests in"):
                raise Refused(403, "M_GUEST_ACCESS_FORBIDDEN")
            check_given(link, body)
            user = answer.get("userId", "<refused>")
            admit(document, link, user)
            document.guests[user] = name
            link.came.append(user)
            return 201, {"docId": document.id, "userId": user, "deviceId": "", "accessToken": "", "expiresAt": 2}
    raise Refused(404, "M_NOT_FOUND")


def check_given(link, body):
    given = body.get("password")
    if link.password is not None and given != link.password and not altered("links: passwords are not checked"):
        code = "M_FORBIDDEN" if altered("links: a wrong password is like a missing right") else "DEV_WEFT_LINK_PASSWORD"
        raise Refused(403, code)


def admit(document, link, user):
    if not may_admit(document, link.maker, link.role) and not altered("links: a link outlives the right of its maker"):
        raise Refused(404, "M_NOT_FOUND")
    there, power = document.members.get(user), POWER[link.role]
    higher = there in ("join", "invite") and document.power(user) >= power
    if higher and not altered("links: a link lowers a role"):
        power = document.power(user)
    if there == "join" and power == document.power(user):
        return 200, {"docId": document.id}
    link.uses += 1
    document.members[user] = "join"
    if user != document.creator:
        document.powers[user] = power
    document.modified += 1
    return 200, {"docId": document.id}

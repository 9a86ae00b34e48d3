"""The membership event that a server makes of another server's template, as in spec/docs/federation.md."""

from readings import altered, bound

LEAD, DEPTH, PREV, AUTH = 300_000, (1 << 53) - 1, 20, 10


class Unusable(Exception):
    """The template is not used."""


def number(template, field):
    value = template.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        if field == "depth" and altered("templates: a negative depth is 0") and isinstance(value, int):
            return 0
        raise Unusable(field)
    return value


def ids(template, field, most):
    value = template.get(field)
    if not isinstance(value, list) or not all(isinstance(id_, str) for id_ in value):
        raise Unusable(field)
    twice = len(set(value)) != len(value)
    if field == "prev_events" and altered("templates: prev_events may name an event twice"):
        twice = False
    if field == "auth_events" and altered("templates: auth_events may name an event twice"):
        twice = False
    if len(value) > most or twice:
        raise Unusable(field)
    return value


def followed(now, time):
    """The time that an event claims that comes after another one."""
    lead = bound(LEAD, "templates: five minutes ahead is followed", "templates: less than five minutes is not followed")
    if altered("templates: any time is followed"):
        lead = 1 << 62
    if time - now >= lead or altered("templates: the other clock is not followed"):
        return now
    after = 0 if altered("templates: the same millisecond as the template") else 1
    return max(now, time + after)


def content(case, template):
    wanted = dict(case["content"])
    if not altered("templates: the profile may name the authorising user"):
        wanted.pop("join_authorised_via_users_server", None)
    wanted["membership"] = case["membership"]
    given = template.get("content")
    if not isinstance(given, dict):
        raise Unusable("content")
    if altered("templates: the template's content counts"):
        wanted = given | wanted
    authorising = given.get("join_authorised_via_users_server")
    if authorising is None or (case["membership"] != "join" and not altered("templates: a leave has an authorising user")):
        return wanted
    if not isinstance(authorising, str) or not authorising.startswith("@") or ":" not in authorising:
        if altered("templates: an invalid authorising user is left out"):
            return wanted
        raise Unusable("authorising user")
    own = authorising.split(":", 1)[1] == case["user_id"].split(":", 1)[1]
    if altered("templates: no authorising user is taken"):
        return wanted
    if not own or altered("templates: an authorising user of the own server is taken"):
        wanted["join_authorised_via_users_server"] = authorising
    return wanted


def made(case):
    template = case["template"]
    if not isinstance(template, dict):
        raise Unusable("no object")
    prev = ids(template, "prev_events", bound(PREV, "templates: 21 prev_events", "templates: 19 prev_events"))
    if not prev and not altered("templates: no prev_events"):
        raise Unusable("prev_events")
    auth = ids(template, "auth_events", bound(AUTH, "templates: 11 auth_events", "templates: 9 auth_events"))
    depth = number({"depth": 0} | template if altered("templates: a missing depth is 0") else template, "depth")
    if not altered("templates: a depth is not bounded"):
        depth = min(depth, bound(DEPTH, "templates: a depth of 2^53", "templates: a depth of 2^53 - 2 at most"))
    time = case["now"]
    if "origin_server_ts" in template or altered("templates: a time is required"):
        time = followed(case["now"], number(template, "origin_server_ts"))
    event = {
        "type": "m.room.member",
        "room_id": case["room_id"],
        "sender": case["user_id"],
        "state_key": case["user_id"],
        "content": content(case, template),
        "prev_events": prev,
        "auth_events": auth,
        "depth": depth,
        "origin_server_ts": time,
    }
    for field in ("type", "room_id", "sender", "state_key"):
        if altered("templates: the fields of the template are signed"):
            event[field] = template.get(field, event[field])
    return event


def claimed(now, cited):
    """The time of an event that cites events of these times."""
    if altered("templates: only the first cited event counts"):
        cited = cited[:1]
    lead = bound(LEAD, "templates: a cited event five minutes ahead counts", "templates: less than five minutes does not count")
    time = now
    for other in cited:
        ahead = other - now >= lead and not altered("templates: every cited event counts")
        if altered("templates: a far time ends the list") and ahead:
            break
        if not ahead:
            after = 0 if altered("templates: the same millisecond as a cited event") else 1
            time = max(time, other + after)
    return time


def run(case):
    if "cited" in case:
        return {"origin_server_ts": claimed(case["now"], case["cited"])}
    try:
        return {"event": made(case)}
    except Unusable:
        return {"error": "form"}


def expected(case):
    return {key: case[key] for key in ("event", "error") if key in case} or {"origin_server_ts": case["origin_server_ts"]}

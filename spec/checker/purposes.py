"""What an update is for, as in spec/docs/events.md, "Purpose of an update". Must not decide anything about the update."""

from readings import altered, bound

HEADS, TAKEN, CLOCKS = 20, 100, 1 << 32


def is_event(value):
    return isinstance(value, str) and (value.startswith("$") or altered("purposes: any text is an event id"))


def are_heads(value):
    most = bound(HEADS, "purposes: 21 heads", "purposes: 19 heads")
    return isinstance(value, list) and len(value) <= most and all(map(is_event, value))


def is_user(value):
    named = isinstance(value, str) and value.startswith("@") and ":" in value
    return named or altered("purposes: any text is a user id")


def is_clock(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < CLOCKS


def is_range(value):
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_clock, value)):
        return False
    return value[0] < value[1] or altered("purposes: an empty range is valid")


def restores(value):
    read = {"heads": value.get("heads", [])}
    if not are_heads(read["heads"]):
        return None
    if value.get("state_hash") is not None:
        read["state_hash"] = value["state_hash"]
    return read if isinstance(read.get("state_hash", ""), str) else None


def rolls_back(value):
    read = {"user": value.get("user"), "after": value.get("after", []), "heads": value.get("heads", [])}
    if altered("purposes: a rollback without a user"):
        read["user"] = read["user"] or "@nobody:example.org"
    lists = are_heads(read["heads"]) and (are_heads(read["after"]) or altered("purposes: after is not examined"))
    return read if is_user(read["user"]) and lists else None


def accepts_part(value):
    read = {"suggestion": value.get("suggestion"), "taken": value.get("taken", [])}
    most = bound(TAKEN, "purposes: 101 ranges", "purposes: 99 ranges")
    ranges = isinstance(read["taken"], list) and len(read["taken"]) <= most and all(map(is_range, read["taken"]))
    return read if is_event(read["suggestion"]) and ranges else None


def read(case):
    """The fields of a content that count. A field of another form is as if it were missing."""
    content, fields = filled(case["content"]), {}
    for name, form in (("restores", restores), ("rolls_back", rolls_back), ("accepts_part", accepts_part)):
        value = content.get(name)
        found = form(value) if isinstance(value, dict) else None
        if found is not None:
            fields[name] = found
        elif value is not None and altered("purposes: one wrong field hides the others"):
            return {}
    if is_event(content.get("accepts")):
        fields["accepts"] = content["accepts"]
    return fields


def filled(value):
    """A list that is written as `{"repeat", "times"}`."""
    if isinstance(value, dict) and set(value) == {"repeat", "times"}:
        return [value["repeat"]] * value["times"]
    return {key: filled(one) for key, one in value.items()} if isinstance(value, dict) else value


def expected(case):
    return filled(case["expect"])

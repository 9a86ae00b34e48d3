"""Anchors of comments, decisions about them, and what became of suggestions, as in spec/docs/comments.md and suggestions.md."""

from readings import altered, bound

QUOTE_BYTES, NAME_BYTES, HEADS, NAMED = 1_024, 512, 20, 16
CLIENT_END, CLOCK_END = 1 << 53, 1 << 31


def is_number(value, end):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


def is_block(value):
    client_end = CLIENT_END + altered("anchors: a client id of 2^53") - altered("anchors: client ids are below 2^53 - 1")
    clock_end = CLOCK_END + altered("anchors: a clock of 2^31") - altered("anchors: clocks are below 2^31 - 1")
    return isinstance(value, dict) and is_number(value.get("client"), client_end) and is_number(value.get("clock"), clock_end)


def is_position(value):
    if not isinstance(value, dict):
        return False
    ids = [value[key] for key in ("type", "item") if value.get(key) is not None]
    if not ids and value.get("tname") is None and not altered("anchors: a position that names nothing"):
        return False
    return all(map(is_block, ids)) or altered("anchors: ids of positions are not examined")


def form(case):
    anchor = case["anchor"]
    if not isinstance(anchor, dict):
        return "invalid"
    quote = case.get("quote_times", len(anchor.get("quote", "").encode()))
    if quote > bound(QUOTE_BYTES, "anchors: a quote of 1,025 bytes", "anchors: a quote of 1,023 bytes"):
        return "invalid"
    heads = ["$event"] * case.get("heads_times", 0) or anchor.get("heads", [])
    if len(heads) > bound(HEADS, "anchors: 21 heads", "anchors: 19 heads"):
        return "invalid"
    if not all(head.startswith("$") for head in heads) and not altered("anchors: any text is a head"):
        return "invalid"
    return named(anchor, case)


def named(anchor, case):
    fields = {key: anchor[key] for key in ("from", "to", "node", "element") if anchor.get(key) is not None}
    if altered("anchors: null names something"):
        fields = {key: anchor[key] for key in ("from", "to", "node", "element") if key in anchor}
    if "element_times" in case:
        fields["element"] = "x" * case["element_times"]
    if altered("anchors: a node counts before an element"):
        fields = {"node": fields["node"]} if "node" in fields else fields
    if set(fields) == {"from", "to"}:
        return "range" if is_position(fields["from"]) and is_position(fields["to"]) else "invalid"
    if set(fields) == {"from"} and altered("anchors: a range without an end"):
        return "range"
    if set(fields) == {"node"}:
        return "node" if is_block(fields["node"]) else "invalid"
    if set(fields) == {"element"}:
        longest = bound(NAME_BYTES, "anchors: a name of 513 bytes", "anchors: a name of 511 bytes")
        element = fields["element"]
        return "element" if isinstance(element, str) and len(element.encode()) <= longest else "invalid"
    if not fields:
        return "invalid" if altered("anchors: an anchor names something") else "document"
    return "invalid"


def decided(case):
    """The outcome that counts; None if nobody decided."""
    most = bound(NAMED, "resolutions: 17 names", "resolutions: 15 names")
    replaced = {name for one in case["resolutions"] for name in one.get("after", [])[:most]}
    if altered("resolutions: only what stands replaces others"):
        standing = [one for one in case["resolutions"] if one["event_id"] not in replaced]
        replaced = {name for one in standing for name in one.get("after", [])}
    if altered("resolutions: names are ignored"):
        replaced = set()
    left = [one for one in case["resolutions"] if one["event_id"] not in replaced]
    key = lambda one: (one["at"], one["event_id"])
    if altered("resolutions: the highest event id counts"):
        key = lambda one: one["event_id"]
    if altered("resolutions: the lowest event id counts at the same time"):
        key = lambda one: (one["at"], [-ord(letter) for letter in one["event_id"]])
    if altered("resolutions: the first one counts"):
        key = lambda one: (-one["at"], one["event_id"])
    return max(left, key=key)["outcome"] if left else None


def state(case):
    """What became of a suggestion."""
    if case.get("accepted") and not altered("suggestions: a decision counts more than an acceptance"):
        return "accepted"

    if case.get("parts") and altered("suggestions: a part accepts the whole"):
        return "accepted"

    def counts(one):
        if one["outcome"] == "withdrawn":
            return one["sender"] == case["author"] or altered("suggestions: anybody withdraws")
        if one["outcome"] == "rejected":
            own = one["sender"] == case["author"] and altered("suggestions: authors reject")
            return one["might_edit"] or own or altered("suggestions: anybody rejects")
        return one["outcome"] == "accepted" and altered("suggestions: a decision accepts")

    valid = [one for one in case["decisions"] if counts(one)]
    if altered("suggestions: what does not count replaces others"):
        replaced = {name for one in case["decisions"] for name in one.get("after", [])}
        valid = [one for one in valid if one["event_id"] not in replaced]
    found = decided({"resolutions": valid})
    if found is None and altered("suggestions: other outcomes count"):
        found = decided({"resolutions": case["decisions"]})
    if found is None:
        return "accepted" if case.get("accepted") else "open"
    return found


def expected(case):
    return case["expect"]

"""The hash of a rendered document, as in spec/docs/rendering.md: canonical JSON after RFC 8785.

Must not render: that needs a CRDT engine.
"""

import decimal
import hashlib
import json

from readings import altered


def number(value):
    """A number as JavaScript writes it."""
    if isinstance(value, int):
        value = float(value)
    if value == 0:
        return "0"
    sign, digits, exponent = decimal.Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    exponent += len(digits) - len(text)
    point = len(text) + exponent
    minus = "-" if sign else ""
    if altered("rendering: numbers have their exponent from 10^16 on"):
        largest = 16
    else:
        largest = 21
    if len(text) <= point <= largest:
        return minus + text + "0" * (point - len(text))
    if 0 < point <= largest:
        return f"{minus}{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
    return f"{minus}{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def units(text):
    """The sort key of a key."""
    if altered("rendering: keys are sorted by code points"):
        return text
    return text.encode("utf-16-be", "surrogatepass")


def canonical(value):
    if isinstance(value, dict):
        entries = sorted(value.items(), key=lambda entry: units(entry[0]))
        return "{" + ",".join(f"{canonical(key)}:{canonical(item)}" for key, item in entries) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value)
    ascii_only = altered("rendering: characters beyond ASCII are escaped")
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))


def run(case):
    text = canonical(case["document"])
    if altered("rendering: the hash is over JSON with a line break"):
        text += "\n"
    return hashlib.sha256(text.encode()).hexdigest()


def expected(case):
    return case["text_hash"]

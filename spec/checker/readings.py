"""Altered readings: misreadings of single rules of the text, enabled one at a time.

The checker implements each rule with calls of `altered(name)`. `run.py alterations` enables each name found in the source
and expects at least one vector to fail. Must not contain a rule itself.
"""

import pathlib
import re

ACTIVE = None


def altered(name):
    """Whether this altered reading is enabled."""
    return ACTIVE == name


def all_names():
    """The names of all altered readings, in the order of the source files."""
    names = []
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        if path.name in ("readings.py", "run.py"):
            continue
        names += re.findall(r'altered\("([^"]+)"\)', path.read_text())
    return list(dict.fromkeys(names))

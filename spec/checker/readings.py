"""Altered readings: wrong ways to read one rule of the text, switched on one at a time.

The checker reads each rule through `altered(name)`. `run.py alterations` switches on each name found in the source and
expects that at least one vector notices. Holds no rule itself.
"""

import pathlib
import re

ACTIVE = None


def altered(name):
    """Whether this reading is the one that is altered now."""
    return ACTIVE == name


def all_names():
    """Every name at which a reading can be altered, in the order of the source files."""
    names = []
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        if path.name in ("readings.py", "run.py"):
            continue
        names += re.findall(r'altered\("([^"]+)"\)', path.read_text())
    return list(dict.fromkeys(names))

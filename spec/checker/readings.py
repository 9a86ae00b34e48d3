"""Altered readings: misreadings of single rules of the text, enabled one at a time.

The checker implements each rule with calls of `altered(name)`, and each limit with `bound(number, more, less)`.
`run.py alterations` enables each name found in the source and expects at least one vector to fail. Must not contain a rule
itself.
"""

import ast
import pathlib

ACTIVE = None

# The functions whose text arguments are names of altered readings.
NAMING = ("altered", "bound")


def altered(name):
    """Whether this altered reading is enabled."""
    return ACTIVE == name


def bound(number, more, less):
    """A limit, one higher or lower if the reading `more` or `less` is enabled."""
    return number + altered(more) - altered(less)


def all_names():
    """The names of all altered readings, in the order of the source files."""
    names = []
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        if path.name in ("readings.py", "run.py"):
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
            if isinstance(call.func, ast.Name) and call.func.id in NAMING:
                texts = [argument for argument in call.args if isinstance(argument, ast.Constant)]
                names += [text.value for text in texts if isinstance(text.value, str)]
    return list(dict.fromkeys(names))

"""A string that a regular expression matches, as far as a simple walk can find one."""

import importlib
import re
from typing import Any

MAX_REPEATS = 3
FALLBACK = "simulated"


def matching(pattern: str, pick: int) -> str:
    """A string `pattern` is found in, varied by `pick`; "simulated" where none is found."""
    try:
        expression = re.compile(pattern)
        named = f"simulated {pick % 100}"
        for candidate in (named, named.replace(" ", "-"), FALLBACK):
            if expression.search(candidate):
                return candidate
        # The parser is private to `re` but has stood still for years; the search below judges.
        tree = importlib.import_module("re._parser").parse(pattern)
        walked = _Walk(pick).text(tree)
        return walked if expression.search(walked) else FALLBACK
    except (re.error, ImportError, AttributeError, RecursionError):
        return FALLBACK


class _Walk:
    """One way through the tree that `re` makes of a pattern."""

    def __init__(self, pick: int) -> None:
        self._pick = pick
        self._groups: dict[int, str] = {}

    def text(self, nodes: Any) -> str:
        """What the nodes match, one after the other."""
        return "".join(self._node(str(name), value) for name, value in nodes)

    def _node(self, name: str, value: Any) -> str:
        match name:
            case "LITERAL":
                return chr(value)
            case "NOT_LITERAL":
                return "x" if value != ord("x") else "y"
            case "ANY":
                return "s"
            case "IN":
                return self._one_of(value)
            case "BRANCH":
                return self.text(value[1][self._next(len(value[1]))])
            case "SUBPATTERN":
                self._groups[value[0]] = self.text(value[3])
                return self._groups[value[0]]
            case "GROUPREF":
                return self._groups.get(value, "")
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, inner = value
                spare = min(int(most) - least, MAX_REPEATS)
                return "".join(self.text(inner) for _ in range(least + self._next(spare + 1)))
            case "ATOMIC_GROUP":
                return self.text(value)
        return ""  # anchors and look-arounds take no room

    def _one_of(self, members: Any) -> str:
        wanted = [m for m in members if str(m[0]) != "NEGATE"]
        if len(wanted) < len(members):
            letters = [c for c in map(chr, range(97, 123)) if not _in_class(wanted, c)]
            others = [c for c in map(chr, range(32, 127)) if not _in_class(wanted, c)]
            choice = letters or others or ["\u00fc"]
            return choice[self._next(len(choice))]
        name, value = wanted[self._next(len(wanted))]
        if str(name) == "RANGE":
            return chr(value[0] + self._next(value[1] - value[0] + 1))
        if str(name) == "CATEGORY":
            return _category(str(value), self._next(10))
        return chr(value)

    def _next(self, count: int) -> int:
        """A number below `count`, another one each time."""
        self._pick = (self._pick * 1103515245 + 12345) % 2**31
        return (self._pick >> 8) % max(count, 1)


def _category(name: str, pick: int) -> str:
    if name.endswith(("NOT_DIGIT", "CATEGORY_WORD")):
        return "abcdefghij"[pick]
    if name.endswith("DIGIT"):
        return str(pick)
    return "abcdefghij"[pick] if name.endswith("NOT_SPACE") else " -"[name.endswith("NOT_WORD")]


def _in_class(members: Any, char: str) -> bool:
    for name, value in members:
        match str(name):
            case "LITERAL" if value == ord(char):
                return True
            case "RANGE" if value[0] <= ord(char) <= value[1]:
                return True
            case "CATEGORY" if _in_category(str(value), char):
                return True
    return False


def _in_category(name: str, char: str) -> bool:
    kind = name.rpartition("_")[2]
    inside = {"DIGIT": char.isdigit(), "SPACE": char.isspace()}.get(
        kind, char.isalnum() or char == "_"
    )
    return inside != ("NOT_" in name)

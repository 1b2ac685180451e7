"""Strings and numbers that keep to their schema; strings say "simulated" where they may."""

import math
from typing import Any

from o3magic.simulator import pattern

Json = dict[str, Any]
MOST_CHARS = 10_000  # even if the schema asks for more
WORDS = (
    *("amber", "birch", "cobalt", "delta", "ember", "fjord", "garnet", "harbour"),
    *("indigo", "juniper", "kelp", "lagoon", "maple", "nimbus", "opal", "prairie"),
)


def string(node: Json, path: str, pick: int) -> str:
    """A string for a schema; `path` lends its last name."""
    if "format" in node:
        return _formatted(str(node["format"]), pick)
    if "pattern" in node:
        return pattern.matching(str(node["pattern"]), pick)
    names = [step for step in path.split("/") if step and not step.isdigit()]
    words = ["simulated", *(names[-1:]), WORDS[pick % len(WORDS)]]
    text = " ".join(words)
    least, most = min(node.get("minLength", 0), MOST_CHARS), node.get("maxLength", 10**6)
    return text.ljust(least, ".")[:most]


def number(node: Json, pick: int, *, whole: bool) -> int | float:
    """A number within the bounds of a schema, a multiple of what it asks."""
    low, high = _bounds(node, whole=whole)
    if node.get("multipleOf"):
        return _multiple(node["multipleOf"], low, high, pick, whole=whole)
    if whole:
        first, last = math.ceil(low), math.floor(high)
        return first + pick % max(last - first + 1, 1)
    exact = low + (high - low) * (1 + pick % 97) / 98
    rounded = round(exact, 2)
    return rounded if low < rounded < high else exact


def _bounds(node: Json, *, whole: bool) -> tuple[float, float]:
    """Bounds; exclusive ones of whole numbers are moved inwards, open ones set not far away."""
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if isinstance(above, int | float):
        inner = math.floor(above) + 1 if whole else above
        low = inner if low is None else max(low, inner)
    if isinstance(below, int | float):
        inner = math.ceil(below) - 1 if whole else below
        high = inner if high is None else min(high, inner)
    span = max(100, 20 * node.get("multipleOf", 1))
    if low is None:
        low = 1 if high is None else high - span
    return (low, low + span if high is None else high)


def _multiple(step: float, low: float, high: float, pick: int, *, whole: bool) -> int | float:
    first, last = math.floor(low / step) + 1, math.ceil(high / step) - 1
    if first > last:  # nothing strictly inside, so a bound itself must do
        first = last = math.ceil(low / step)
    count = last - first + 1
    for turn in range(min(count, 100)):
        made = (first + (pick + turn) % count) * step
        # Of floats only those whose quotient comes out whole again are multiples to a validator.
        if float(made / step).is_integer() and not (whole and made % 1):
            return int(made) if whole else made
    return int(first * step) if whole else first * step


def _formatted(name: str, pick: int) -> str:
    day = f"2026-{1 + pick % 12:02}-{1 + pick // 12 % 28:02}"
    clock = f"{pick % 24:02}:{pick // 24 % 60:02}:{pick // 7 % 60:02}Z"
    digits = f"{pick % 16**12:012x}"
    known = {
        "date": day,
        "time": clock,
        "date-time": f"{day}T{clock}",
        "duration": f"P{1 + pick % 9}DT{pick % 24}H",
        "email": f"simulated.{WORDS[pick % 16]}@example.com",
        "hostname": f"simulated-{WORDS[pick % 16]}.example.com",
        "ipv4": f"192.0.2.{pick % 256}",
        "ipv6": f"2001:db8::{pick % 65535:x}",
        "uuid": f"00000000-0000-4000-8000-{digits}",
        "uri": f"https://example.com/simulated/{WORDS[pick % 16]}",
    }
    return known.get(name, f"simulated {WORDS[pick % 16]}")

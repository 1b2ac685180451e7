"""How right an answer is, from 0 to 1: as text, as a number, or field by field. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.jobs.sweep.scoring_fields import f1, parsed, simple

Scorer = Callable[[Any, Mapping[str, Any]], Any]
SCORERS = ("exact", "number", "fields")
REL_TOL = 1e-9
# A comma groups thousands; a sign counts where no word or number is before it.
NUMBER = re.compile(
    r"(?<![\w.])(?:(?<!\))[-+−])?"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,400})(?:\.\d{1,400})?|\.\d{1,400})"
    r"(?:[eE][-+]?\d{1,9}(?!\w)"
    r"|\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?[-+−]?\d{1,4}\}?)?"
)
POWER = re.compile(r"\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?([-+−]?\d{1,4})\}?$")


def checked(score: Any) -> float:
    """A score as a number. Raises ValueError for what is none."""
    if score is None or isinstance(score, str | bytes):
        raise ValueError(f"the scorer gave {score!r}, not a bool or a number from 0 to 1")
    number = float(score)
    if not 0 <= number <= 1:
        raise ValueError(f"the scorer gave {number:g}, not a number from 0 to 1")
    return number


def scorer_of(
    wanted: str | Scorer, *, abs_tol: float = 0.0, rel_tol: float = REL_TOL
) -> Callable[[Any, Any], float] | None:
    """What compares an answer with what was expected; None for a function of the user's own.

    Raises BadOption for a word that is no scorer, and for a tolerance below 0.
    """
    for name, tolerance in (("abs_tol", abs_tol), ("rel_tol", rel_tol)):
        if not tolerance >= 0:
            raise BadOption(f"{name}={tolerance}: 0 or more")
    if callable(wanted):
        return None
    if wanted == "exact":
        return exact
    if wanted == "number":
        return partial(number, abs_tol=abs_tol, rel_tol=rel_tol)
    if wanted == "fields":
        return partial(fields, abs_tol=abs_tol, rel_tol=rel_tol)
    hint = did_you_mean(str(wanted), SCORERS, f"{', '.join(SCORERS)}, or a function(answer, row)")
    raise BadOption(f"scorer={wanted!r} is no scorer", hint=hint)


def exact(answer: Any, expected: Any) -> float:
    """1 where both are the same, whatever their case and blanks."""
    return float(alike(one_value(answer, expected), simple(expected)))


def alike(first: Any, second: Any) -> bool:
    """Whether two values are the same: text without case and blanks, fields and items likewise."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(alike(first[n], second[n]) for n in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(alike, first, second))
    return normal(first) == normal(second)


def normal(value: Any) -> str:
    """A value as normal text: one blank for many, no case; whole numbers without a fraction."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split()).casefold()


def number(answer: Any, expected: Any, *, abs_tol: float = 0.0, rel_tol: float = REL_TOL) -> float:
    """1 where the number in the answer, the last one of a text, is that expected."""
    wanted = number_in(simple(expected))
    if wanted is None:
        raise ValueError("what is expected has no number")
    found = number_in(one_value(answer, expected))
    if found is None or not math.isfinite(found):
        return 0.0
    # Relative to what is expected, not to whichever is larger: a wild answer gains nothing by it.
    return float(abs(found - wanted) <= max(abs_tol, rel_tol * abs(wanted)))


def number_in(value: Any) -> float | None:
    """A number, or the last one in a text, or None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    found = [each[0] for each in NUMBER.finditer(str(value))]
    if not found:
        return None
    said = found[-1].replace(",", "").replace("−", "-")
    if power := POWER.search(said):
        said = f"{said[: power.start()]}e{power[1]}"
    return float(said)


def fields(answer: Any, expected: Any, *, abs_tol: float = 0.0, rel_tol: float = REL_TOL) -> float:
    """The F1 of the fields: those within fields and in lists too, whatever the order of items.

    At the top only the fields that `expected` names are compared.
    """
    wanted, given = parsed(expected), parsed(answer)
    if not isinstance(wanted, Mapping | list):
        given = one_value(given, wanted)
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        given = {name: value for name, value in given.items() if name in wanted}

    def same(first: Any, second: Any) -> bool:
        if is_number(first) and is_number(second):
            return math.isclose(first, second, rel_tol=rel_tol, abs_tol=abs_tol)
        if isinstance(first, bool) or isinstance(second, bool):
            return first is second
        return normal(first) == normal(second)

    return f1(given, wanted, same)


def is_number(value: Any) -> bool:
    """Whether it is a number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def one_value(answer: Any, expected: Any) -> Any:
    """An answer's value: its only field, where one value is expected and it has one field."""
    given, wanted = simple(answer), simple(expected)
    if isinstance(given, Mapping) and not isinstance(wanted, Mapping) and len(given) == 1:
        return next(iter(given.values()))
    return given


def field_of(answer: Any, column: str) -> Any:
    """The field that is called like the column of what is expected, or the answer as it is."""
    return answer[column] if isinstance(answer, Mapping) and column in answer else answer


def missing(value: Any) -> bool:
    """Whether nothing is there to score by: None, NaN, NaT, NA."""
    if isinstance(value, Mapping | str | Sequence):
        return False
    return simple(value) is None

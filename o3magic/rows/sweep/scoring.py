"""How right an answer is, from 0 to 1: as text, as a number, or field by field. Pure."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from enum import Enum
from functools import partial
from typing import Any

from o3magic.errors import BadOption, did_you_mean

SameValue = Callable[[Any, Any], bool]
# Items of two lists are matched as well as can be, in their cube of time; longer ones in order.
MOST_MATCHED = 40


def to_json_value(value: Any) -> Any:
    """A value as JSON has it: mappings, lists, texts, numbers; None for what is not there."""
    if value is None or isinstance(value, str | bool | int):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Enum):
        return to_json_value(value.value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, Mapping):
        return {str(name): to_json_value(each) for name, each in value.items()}
    if isinstance(value, datetime | date):
        return value.isoformat().removesuffix("T00:00:00")
    if hasattr(value, "model_dump"):
        return to_json_value(value.model_dump(mode="json"))
    if is_dataclass(value) and not isinstance(value, type):
        return to_json_value(asdict(value))
    if isinstance(value, set | frozenset):
        return sorted((to_json_value(each) for each in value), key=repr)
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return to_json_value(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [to_json_value(each) for each in value]
    if type(value).__name__ == "Decimal" and value.is_finite():
        return float(value)
    return str(value)


def parse_json_text(value: Any) -> Any:
    """The same, out of JSON where a text is an object or a list of it."""
    plain = to_json_value(value)
    if isinstance(plain, str) and plain.strip()[:1] in ("{", "["):
        try:
            return to_json_value(json.loads(plain))
        except (ValueError, RecursionError):
            return plain
    return plain


def compute_f1(first: Any, second: Any, same: SameValue) -> float:
    """Twice the fields both have, of all fields of each; 1 where neither has any."""
    whole = count_fields(first) + count_fields(second)
    return 2 * count_shared(first, second, same) / whole if whole else 1.0


def count_fields(value: Any) -> int:
    """How many values stand in it; nothing there counts for none."""
    if isinstance(value, Mapping):
        return sum(map(count_fields, value.values()))
    if isinstance(value, list):
        return sum(map(count_fields, value))
    return value is not None


def count_shared(first: Any, second: Any, same: SameValue) -> int:
    """How many values stand in both, at the same place; items of lists in any order."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return sum(
            count_shared(first[name], second[name], same) for name in first.keys() & second.keys()
        )
    if isinstance(first, list) and isinstance(second, list):
        return count_shared_items(first, second, same)
    if first is None or second is None:
        return 0
    if isinstance(first, Mapping | list) or isinstance(second, Mapping | list):
        return 0
    return int(same(first, second))


def count_shared_items(first: Sequence[Any], second: Sequence[Any], same: SameValue) -> int:
    """How many values two lists share, each item matched with one of the other."""
    both = Counter(map(dump_item, first)) & Counter(map(dump_item, second))
    equal = sum(count * count_fields(json.loads(text)) for text, count in both.items())
    left, right = remove_items(first, both), remove_items(second, both)
    if not left or not right:
        return equal
    if max(len(left), len(right)) > MOST_MATCHED:
        return equal + sum(count_shared(a, b, same) for a, b in zip(left, right, strict=False))
    return equal + match_best([[count_shared(a, b, same) for b in right] for a in left])


def dump_item(item: Any) -> str:
    """An item as text, the same for equal ones."""
    return json.dumps(item, sort_keys=True)


def remove_items(items: Sequence[Any], taken: Counter[str]) -> list[Any]:
    """The items less those taken."""
    left, rest = Counter(taken), []
    for item in items:
        text = dump_item(item)
        if left[text] > 0:
            left[text] -= 1
        else:
            rest.append(item)
    return rest


def match_best(gains: Sequence[Sequence[int]]) -> int:
    """The most that a matching of rows with columns gains: the Hungarian method."""
    if len(gains) > len(gains[0]):
        gains = [*zip(*gains, strict=True)]
    rows, columns = len(gains), len(gains[0])
    row_price, column_price = [0] * (rows + 1), [0] * (columns + 1)
    matched = [0] * (columns + 1)  # the row of each column; column 0 is that being placed
    for row in range(1, rows + 1):
        matched[0], column = row, 0
        least, came, used = [math.inf] * (columns + 1), [0] * (columns + 1), [False] * (columns + 1)
        while matched[column]:
            used[column] = True
            at, delta, following = matched[column], math.inf, 0
            for j in range(1, columns + 1):
                if used[j]:
                    continue
                cost = -gains[at - 1][j - 1] - row_price[at] - column_price[j]
                if cost < least[j]:
                    least[j], came[j] = cost, column
                if least[j] < delta:
                    delta, following = least[j], j
            step = int(delta)
            for j in range(columns + 1):
                if used[j]:
                    row_price[matched[j]] += step
                    column_price[j] -= step
                else:
                    least[j] -= step
            column = following
        while column:
            matched[column] = matched[came[column]]
            column = came[column]
    return sum(gains[matched[j] - 1][j - 1] for j in range(1, columns + 1) if matched[j])


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


def check_score(score: Any) -> float:
    """A score as a number. Raises ValueError for what is none."""
    if score is None or isinstance(score, str | bytes):
        raise ValueError(f"the scorer gave {score!r}, not a bool or a number from 0 to 1")
    number = float(score)
    if not 0 <= number <= 1:
        raise ValueError(f"the scorer gave {number:g}, not a number from 0 to 1")
    return number


def find_scorer(
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
        return score_exact
    if wanted == "number":
        return partial(score_number, abs_tol=abs_tol, rel_tol=rel_tol)
    if wanted == "fields":
        return partial(score_fields, abs_tol=abs_tol, rel_tol=rel_tol)
    hint = did_you_mean(str(wanted), SCORERS, f"{', '.join(SCORERS)}, or a function(answer, row)")
    raise BadOption(f"scorer={wanted!r} is no scorer", hint=hint)


def score_exact(answer: Any, expected: Any) -> float:
    """1 where both are the same, whatever their case and blanks."""
    return float(is_equal(unwrap_value(answer, expected), to_json_value(expected)))


def is_equal(first: Any, second: Any) -> bool:
    """Whether two values are the same: text without case and blanks, fields and items likewise."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(is_equal(first[n], second[n]) for n in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(is_equal, first, second))
    return normalize(first) == normalize(second)


def normalize(value: Any) -> str:
    """A value as normal text: one blank for many, no case; whole numbers without a fraction."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split()).casefold()


def score_number(
    answer: Any, expected: Any, *, abs_tol: float = 0.0, rel_tol: float = REL_TOL
) -> float:
    """1 where the number in the answer, the last one of a text, is that expected."""
    wanted = find_number(to_json_value(expected))
    if wanted is None:
        raise ValueError("what is expected has no number")
    found = find_number(unwrap_value(answer, expected))
    if found is None or not math.isfinite(found):
        return 0.0
    # Relative to what is expected, not to whichever is larger: a wild answer gains nothing by it.
    return float(abs(found - wanted) <= max(abs_tol, rel_tol * abs(wanted)))


def find_number(value: Any) -> float | None:
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


def score_fields(
    answer: Any, expected: Any, *, abs_tol: float = 0.0, rel_tol: float = REL_TOL
) -> float:
    """The F1 of the fields: those within fields and in lists too, whatever the order of items.

    At the top only the fields that `expected` names are compared.
    """
    wanted, given = parse_json_text(expected), parse_json_text(answer)
    if not isinstance(wanted, Mapping | list):
        given = unwrap_value(given, wanted)
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        given = {name: value for name, value in given.items() if name in wanted}

    def same(first: Any, second: Any) -> bool:
        if is_number(first) and is_number(second):
            return math.isclose(first, second, rel_tol=rel_tol, abs_tol=abs_tol)
        if isinstance(first, bool) or isinstance(second, bool):
            return first is second
        return normalize(first) == normalize(second)

    return compute_f1(given, wanted, same)


def is_number(value: Any) -> bool:
    """Whether it is a number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def unwrap_value(answer: Any, expected: Any) -> Any:
    """An answer's value: its only field, where one value is expected and it has one field."""
    given, wanted = to_json_value(answer), to_json_value(expected)
    if isinstance(given, Mapping) and not isinstance(wanted, Mapping) and len(given) == 1:
        return next(iter(given.values()))
    return given


def get_field(answer: Any, column: str) -> Any:
    """The field that is called like the column of what is expected, or the answer as it is."""
    return answer[column] if isinstance(answer, Mapping) and column in answer else answer


def is_missing(value: Any) -> bool:
    """Whether nothing is there to score by: None, NaN, NaT, NA."""
    if isinstance(value, Mapping | str | Sequence):
        return False
    return to_json_value(value) is None

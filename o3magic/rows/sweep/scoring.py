"""Scorers: how right an answer is, from 0 to 1, as text, as a number, or field by field. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date
from enum import Enum
from functools import partial
from typing import Any

from o3magic.errors import BadOption, did_you_mean

Scorer = Callable[[Any, Mapping[str, Any]], Any]
IsSame = Callable[[Any, Any], bool]
SCORERS = ("exact", "number", "fields")
REL_TOL = 1e-9
# Matching the items of two lists takes the cube of their length; longer lists are matched in order.
MAX_MATCHED = 40
# A comma groups thousands; a sign counts where no word or number is before it.
NUMBER = re.compile(
    r"(?<![\w.])(?:(?<!\))[-+−])?"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,400})(?:\.\d{1,400})?|\.\d{1,400})"
    r"(?:[eE][-+]?\d{1,9}(?!\w)"
    r"|\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?[-+−]?\d{1,4}\}?)?"
)
POWER = re.compile(r"\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?([-+−]?\d{1,4})\}?$")


def find_scorer(
    scorer: str | Scorer, *, abs_tol: float = 0.0, rel_tol: float = REL_TOL
) -> Callable[[Any, Any], float] | None:
    """The function(answer, expected) of a scorer's name; None for a function of the user.

    Raises BadOption for an unknown name, and for a tolerance below 0.
    """
    for name, tolerance in (("abs_tol", abs_tol), ("rel_tol", rel_tol)):
        if not tolerance >= 0:
            raise BadOption(f"{name}={tolerance}: 0 or more")
    if callable(scorer):
        return None
    if scorer == "exact":
        return score_exact
    if scorer == "number":
        return partial(score_number, abs_tol=abs_tol, rel_tol=rel_tol)
    if scorer == "fields":
        return partial(score_fields, abs_tol=abs_tol, rel_tol=rel_tol)
    hint = did_you_mean(str(scorer), SCORERS, f"{', '.join(SCORERS)}, or a function(answer, row)")
    raise BadOption(f"scorer={scorer!r}: there is no such scorer", hint=hint)


def check_score(score: Any) -> float:
    """A scorer's result as a float. Raises ValueError where it is not a number from 0 to 1."""
    if score is None or isinstance(score, str | bytes):
        raise ValueError(f"the scorer gave {score!r}, not a bool or a number from 0 to 1")
    number = float(score)
    if not 0 <= number <= 1:
        raise ValueError(f"the scorer gave {number:g}, not a number from 0 to 1")
    return number


def score_exact(answer: Any, expected: Any) -> float:
    """1 where both are equal; case and white space do not count."""
    return float(is_equal(unwrap_value(answer, expected), to_json_value(expected)))


def is_equal(first: Any, second: Any) -> bool:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(is_equal(first[n], second[n]) for n in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(is_equal, first, second))
    return normalize(first) == normalize(second)


def normalize(value: Any) -> str:
    """A value as text: white space collapsed, case folded, whole numbers without a fraction."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split()).casefold()


def score_number(
    answer: Any, expected: Any, *, abs_tol: float = 0.0, rel_tol: float = REL_TOL
) -> float:
    """1 where the number in the answer, the last one of a text, equals the expected one.

    Raises ValueError where the expected value has no number.
    """
    wanted = find_number(to_json_value(expected))
    if wanted is None:
        raise ValueError("the expected value has no number")
    number = find_number(unwrap_value(answer, expected))
    if number is None or not math.isfinite(number):
        return 0.0
    # Relative to the expected value, not to the larger one: a wild answer must not gain by it.
    return float(abs(number - wanted) <= max(abs_tol, rel_tol * abs(wanted)))


def find_number(value: Any) -> float | None:
    """A number, or the last one in a text, or None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    numbers = [match[0] for match in NUMBER.finditer(str(value))]
    if not numbers:
        return None
    text = numbers[-1].replace(",", "").replace("−", "-")
    if power := POWER.search(text):
        text = f"{text[: power.start()]}e{power[1]}"
    return float(text)


def score_fields(
    answer: Any, expected: Any, *, abs_tol: float = 0.0, rel_tol: float = REL_TOL
) -> float:
    """The F1 score of the fields, nested ones and those in lists included, items in any order.

    At the top level only the fields that `expected` names are compared.
    """
    wanted, given = parse_json_text(expected), parse_json_text(answer)
    if not isinstance(wanted, Mapping | list):
        given = unwrap_value(given, wanted)
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        given = {name: value for name, value in given.items() if name in wanted}

    def is_same(first: Any, second: Any) -> bool:
        if isinstance(first, bool) or isinstance(second, bool):
            return first is second
        if isinstance(first, int | float) and isinstance(second, int | float):
            return math.isclose(first, second, rel_tol=rel_tol, abs_tol=abs_tol)
        return normalize(first) == normalize(second)

    fields = count_fields(given) + count_fields(wanted)
    return 2 * count_shared(given, wanted, is_same) / fields if fields else 1.0


def count_fields(value: Any) -> int:
    """The number of scalar values in it; None is not counted."""
    if isinstance(value, Mapping):
        return sum(map(count_fields, value.values()))
    if isinstance(value, list):
        return sum(map(count_fields, value))
    return value is not None


def count_shared(first: Any, second: Any, is_same: IsSame) -> int:
    """The number of scalar values that are the same at the same path; list items in any order."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = first.keys() & second.keys()
        return sum(count_shared(first[name], second[name], is_same) for name in names)
    if isinstance(first, list) and isinstance(second, list):
        return count_shared_items(first, second, is_same)
    if first is None or second is None:
        return 0
    if isinstance(first, Mapping | list) or isinstance(second, Mapping | list):
        return 0
    return int(is_same(first, second))


def count_shared_items(first: Sequence[Any], second: Sequence[Any], is_same: IsSame) -> int:
    """The same for two lists, each item matched with one item of the other."""
    both = Counter(map(dump_item, first)) & Counter(map(dump_item, second))
    equal = sum(count * count_fields(json.loads(text)) for text, count in both.items())
    left, right = remove_items(first, both), remove_items(second, both)
    if not left or not right:
        return equal
    if max(len(left), len(right)) > MAX_MATCHED:
        return equal + sum(count_shared(a, b, is_same) for a, b in zip(left, right, strict=False))
    return equal + match_best([[count_shared(a, b, is_same) for b in right] for a in left])


def dump_item(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def remove_items(items: Sequence[Any], removed: Counter[str]) -> list[Any]:
    """The items without the removed ones, each as often as it is counted."""
    left, rest = Counter(removed), []
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


def unwrap_value(answer: Any, expected: Any) -> Any:
    """The only field of an answer that has one, where a single value is expected."""
    given, wanted = to_json_value(answer), to_json_value(expected)
    if isinstance(given, Mapping) and not isinstance(wanted, Mapping) and len(given) == 1:
        return next(iter(given.values()))
    return given


def get_field(answer: Any, column: str) -> Any:
    """The field with the name of the expected column, or the whole answer."""
    return answer[column] if isinstance(answer, Mapping) and column in answer else answer


def is_missing(value: Any) -> bool:
    """Whether it is None, NaN, NaT or NA."""
    if isinstance(value, Mapping | str | Sequence):
        return False
    return to_json_value(value) is None


def parse_json_text(value: Any) -> Any:
    """A value as JSON; a text that is a JSON object or array is parsed."""
    plain = to_json_value(value)
    if isinstance(plain, str) and plain.strip()[:1] in ("{", "["):
        try:
            return to_json_value(json.loads(plain))
        except (ValueError, RecursionError):
            return plain
    return plain


def to_json_value(value: Any) -> Any:
    """A value as JSON has it: dict, list, str, number, bool; None where it is missing.

    Not pydantic_core.to_jsonable_python: that gives Decimals as text, keeps NaN, and writes dates
    of pandas with a time, so that answers would get other scores.
    """
    if value is None or isinstance(value, str | bool | int):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Enum):
        return to_json_value(value.value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, Mapping):
        return {str(name): to_json_value(item) for name, item in value.items()}
    if isinstance(value, date):
        return value.isoformat().removesuffix("T00:00:00")
    if hasattr(value, "model_dump"):
        return to_json_value(value.model_dump(mode="json"))
    if is_dataclass(value) and not isinstance(value, type):
        return to_json_value(asdict(value))
    if isinstance(value, set | frozenset):
        return sorted((to_json_value(item) for item in value), key=repr)
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return to_json_value(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [to_json_value(item) for item in value]
    if type(value).__name__ == "Decimal" and value.is_finite():
        return float(value)
    return str(value)

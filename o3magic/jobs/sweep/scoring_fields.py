"""How much of one structure is in another: true fields, found and missed ones, as an F1. Pure."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any

Same = Callable[[Any, Any], bool]
# Items of two lists are matched as well as can be, in their cube of time; longer ones in order.
MOST_MATCHED = 40


def simple(value: Any) -> Any:
    """A value as JSON has it: mappings, lists, texts, numbers; None for what is not there."""
    if value is None or isinstance(value, str | bool | int):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Enum):
        return simple(value.value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, Mapping):
        return {str(name): simple(each) for name, each in value.items()}
    if isinstance(value, datetime | date):
        return value.isoformat().removesuffix("T00:00:00")
    if hasattr(value, "model_dump"):
        return simple(value.model_dump(mode="json"))
    if is_dataclass(value) and not isinstance(value, type):
        return simple(asdict(value))
    if isinstance(value, set | frozenset):
        return sorted((simple(each) for each in value), key=repr)
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return simple(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [simple(each) for each in value]
    if type(value).__name__ == "Decimal" and value.is_finite():
        return float(value)
    return str(value)


def parsed(value: Any) -> Any:
    """The same, out of JSON where a text is an object or a list of it."""
    plain = simple(value)
    if isinstance(plain, str) and plain.strip()[:1] in ("{", "["):
        try:
            return simple(json.loads(plain))
        except (ValueError, RecursionError):
            return plain
    return plain


def f1(first: Any, second: Any, same: Same) -> float:
    """Twice the fields both have, of all fields of each; 1 where neither has any."""
    whole = fields_in(first) + fields_in(second)
    return 2 * shared(first, second, same) / whole if whole else 1.0


def fields_in(value: Any) -> int:
    """How many values stand in it; nothing there counts for none."""
    if isinstance(value, Mapping):
        return sum(map(fields_in, value.values()))
    if isinstance(value, list):
        return sum(map(fields_in, value))
    return value is not None


def shared(first: Any, second: Any, same: Same) -> int:
    """How many values stand in both, at the same place; items of lists in any order."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return sum(shared(first[name], second[name], same) for name in first.keys() & second.keys())
    if isinstance(first, list) and isinstance(second, list):
        return shared_items(first, second, same)
    if first is None or second is None:
        return 0
    if isinstance(first, Mapping | list) or isinstance(second, Mapping | list):
        return 0
    return int(same(first, second))


def shared_items(first: Sequence[Any], second: Sequence[Any], same: Same) -> int:
    """How many values two lists share, each item matched with one of the other."""
    both = Counter(map(text_of, first)) & Counter(map(text_of, second))
    equal = sum(count * fields_in(json.loads(text)) for text, count in both.items())
    left, right = without(first, both), without(second, both)
    if not left or not right:
        return equal
    if max(len(left), len(right)) > MOST_MATCHED:
        return equal + sum(shared(a, b, same) for a, b in zip(left, right, strict=False))
    return equal + best([[shared(a, b, same) for b in right] for a in left])


def text_of(item: Any) -> str:
    """An item as text, the same for equal ones."""
    return json.dumps(item, sort_keys=True)


def without(items: Sequence[Any], taken: Counter[str]) -> list[Any]:
    """The items less those taken."""
    left, rest = Counter(taken), []
    for item in items:
        text = text_of(item)
        if left[text] > 0:
            left[text] -= 1
        else:
            rest.append(item)
    return rest


def best(gains: Sequence[Sequence[int]]) -> int:
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

"""How right an answer is: as text, as a number, field by field."""

import datetime
import itertools
import math
import random
import time
from decimal import Decimal
from enum import Enum

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from o3magic.errors import BadOption
from o3magic.rows.sweep.scoring import (
    check_score,
    find_number,
    find_scorer,
    is_missing,
    match_best,
    score_exact,
    score_fields,
    score_number,
    to_json_value,
)


class Colour(Enum):
    RED = "red"


class Line(BaseModel):
    name: str
    price: float | None = None


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("  The\n Cat ", "the cat", 1),
        ("STRASSE", "straße", 1),
        ("the cat.", "the cat", 0),
        ("4", 4, 1),
        ("4", 4.0, 1),  # what pandas makes of whole numbers where one is missing
        ("4", np.int64(4), 1),
        ("4", Decimal("4.00"), 1),
        ("true", True, 1),
        ("red", Colour.RED, 1),
        ("2026-01-02", datetime.date(2026, 1, 2), 1),
        ("2026-01-02", pd.Timestamp("2026-01-02"), 1),
        ("2026-01-02", datetime.datetime(2026, 1, 2), 1),
        ({"label": "Spam"}, "spam", 1),
        ({"a": "x", "b": 1}, {"b": 1.0, "a": "X"}, 1),
        ({"a": "x", "b": 1}, "x", 0),
        (["A", "b"], ["a", "B"], 1),
        (["b", "a"], ["a", "b"], 0),
        ("", "x", 0),
        (None, "none at all", 0),
    ],
)
def test_exact(answer, expected, score):
    assert score_exact(answer, expected) == score


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it is 42.", 42),
        ("1,234.56 USD", 1234.56),
        ("3.0 \\times 10^{8}", 3e8),
        ("3 × 10^-4 m", 3e-4),
        ("6.02e23", 6.02e23),
        ("5-3", 3),
        ("x=-4", -4),
        ("(−7)", -7),
        (".5", 0.5),
        ("\\boxed{42}", 42),
        ("**7**", 7),
        ("first 1, then $1,000", 1000),
        ("1,2,3", 3),
        ("12kg", 12),
        ("H2O", None),
        ("none", None),
        ("", None),
        (True, None),
        (7, 7),
        (2**5000, math.inf),
    ],
)
def test_the_last_number_of_a_text(text, found):
    assert find_number(text) == found


@pytest.mark.parametrize(
    ("answer", "expected", "tolerances", "score"),
    [
        ("about 3.14", 3.14159, {"abs_tol": 0.01}, 1),
        ("about 3.14", 3.14159, {"abs_tol": 0.001}, 0),
        ("102", 100, {"rel_tol": 0.02}, 1),
        ("103", 100, {"rel_tol": 0.02}, 0),
        ("50", 100, {"rel_tol": 0.6}, 1),
        ("1000", 100, {"rel_tol": 0.95}, 0),  # of what is expected, not of what came
        ("-2", 2, {}, 0),
        ("0", 0, {}, 1),
        ("no idea", 5, {}, 0),
        ("1e999", 5, {}, 0),
        ("5", "the answer is #### 5", {}, 1),
        ({"total": 5}, Decimal("5.00"), {}, 1),
    ],
)
def test_numbers_within_tolerances(answer, expected, tolerances, score):
    assert score_number(answer, expected, **tolerances) == score


def test_what_has_no_number_cannot_be_expected():
    with pytest.raises(ValueError, match="no number"):
        score_number("5", "five")


def test_a_hostile_text_is_read_in_no_time():
    began_s = time.perf_counter()
    for text in ("1," * 100_000, "-" * 100_000, "1" * 200_000, "1.1" * 50_000, "1e" * 80_000):
        find_number(text)
    assert time.perf_counter() - began_s < 2


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, 1),
        ({"a": 1, "b": 3}, {"a": 1, "b": 2}, 1 / 2),
        ({"a": {"b": "X ", "c": 1}}, {"a": {"b": "x", "c": 2}}, 1 / 2),
        # 2 of 3 found, 2 of 2 right: 2 * 2 / (2 + 3)
        ({"tags": ["b", "a"]}, {"tags": ["a", "b", "c"]}, 4 / 5),
        # the items are matched as wholes: a name is not right beside the price of another
        (
            {"lines": [{"n": "x", "p": 1}, {"n": "y", "p": 2}]},
            {"lines": [{"n": "y", "p": 2}, {"n": "x", "p": 1}]},
            1,
        ),
        (
            {"lines": [{"n": "x", "p": 2}, {"n": "y", "p": 1}]},
            {"lines": [{"n": "y", "p": 2}, {"n": "x", "p": 1}]},
            1 / 2,
        ),
        ({"a": 1, "b": None}, {"a": 1, "b": None}, 1),
        ({"a": 1, "b": None}, {"a": 1, "b": 2}, 2 / 3),
        ({"a": 1, "extra": 9}, {"a": 1}, 1),  # nothing is expected of `extra`
        ({"a": {"b": 1, "extra": 9}}, {"a": {"b": 1}}, 2 / 3),
        ({"a": True}, {"a": 1}, 0),
        ({"a": []}, {"a": []}, 1),
        ({}, {}, 1),
        ("[1, 2]", [2, 1], 1),
        ('{"a": 1}', '{"a": 1.0}', 1),
        ("not json {", {"a": 1}, 0),
        ({"name": "Tea", "price": 2.5}, Line(name="tea", price=2.5), 1),
        ({"name": "tea"}, "TEA", 1),
    ],
)
def test_fields(answer, expected, score):
    assert score_fields(answer, expected) == pytest.approx(score)


def test_numbers_in_fields_have_tolerances():
    assert score_fields({"p": 2.04}, {"p": 2.0}, abs_tol=0.05) == 1
    assert score_fields({"p": 2.04}, {"p": 2.0}) == 0


def some(chance, depth=3):
    kind = chance.randrange(6 if depth else 4)
    if kind == 4:
        return {name: some(chance, depth - 1) for name in "abc"[: chance.randrange(4)]}
    if kind == 5:
        return [some(chance, depth - 1) for _ in range(chance.randrange(4))]
    return [chance.randrange(3), chance.choice("xyz"), None, True][kind]


def test_laws_of_f1():
    chance = random.Random(5)
    for _ in range(400):
        first, second = {"k": some(chance)}, {"k": some(chance)}
        assert score_fields(first, first) == 1
        there = score_fields(first, second)
        assert 0 <= there <= 1
        assert there == pytest.approx(score_fields(second, first))


def test_the_order_of_items_counts_for_nothing():
    chance = random.Random(6)
    for _ in range(50):
        items = [{"n": chance.choice("xyz"), "p": chance.randrange(3)} for _ in range(6)]
        other = [{"n": chance.choice("xyz"), "p": chance.randrange(3)} for _ in range(5)]
        mixed = chance.sample(items, 6)
        assert score_fields({"l": mixed}, {"l": items}) == 1
        assert score_fields({"l": mixed}, {"l": other}) == score_fields({"l": items}, {"l": other})


def test_a_matching_is_the_best_there_is():
    chance = random.Random(7)
    for _ in range(150):
        rows, columns = chance.randint(1, 4), chance.randint(1, 5)
        gains = [[chance.randint(0, 5) for _ in range(columns)] for _ in range(rows)]
        if rows <= columns:
            ways = itertools.permutations(range(columns), rows)
            most = max(sum(gains[i][j] for i, j in enumerate(way)) for way in ways)
        else:
            ways = itertools.permutations(range(rows), columns)
            most = max(sum(gains[i][j] for j, i in enumerate(way)) for way in ways)
        assert match_best(gains) == most


def test_long_lists_are_scored_in_no_time():
    began_s = time.perf_counter()
    items = [{"n": n, "p": n % 7} for n in range(3000)]
    assert score_fields({"l": items[::-1]}, {"l": items}) == 1
    assert 0 < score_fields({"l": [{**i, "p": -1} for i in items]}, {"l": items}) < 1
    assert time.perf_counter() - began_s < 2


@pytest.mark.parametrize("value", [None, math.nan, np.float32("nan"), pd.NaT, pd.NA])
def test_nothing_is_missing(value):
    assert is_missing(value)


@pytest.mark.parametrize("value", [0, "", False, [], {}, np.int64(0)])
def test_something_is_not_missing(value):
    assert not is_missing(value)


def test_values_of_other_libraries_are_plain():
    assert to_json_value(np.array([1, 2])) == [1, 2]
    assert to_json_value({1: {"b", "a"}}) == {"1": ["a", "b"]}
    assert to_json_value(Decimal("1.5")) == 1.5


@pytest.mark.parametrize("score", [None, "1", 1.5, -0.1, math.nan, object()])
def test_a_score_is_a_bool_or_a_number_from_0_to_1(score):
    with pytest.raises((ValueError, TypeError)):
        check_score(score)
    assert [check_score(True), check_score(np.bool_(False)), check_score(0.5)] == [1, 0, 0.5]


def test_a_word_that_is_no_scorer_has_near_ones():
    with pytest.raises(BadOption) as caught:
        find_scorer("exakt")
    assert "exact" in caught.value.hint
    with pytest.raises(BadOption, match="abs_tol"):
        find_scorer("number", abs_tol=-1)
    with pytest.raises(BadOption, match="rel_tol"):
        find_scorer("number", rel_tol=math.nan)

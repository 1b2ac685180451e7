"""What a few rows can tell: against values computed by hand, and laws that hold for all scores."""

import itertools
import random
import time
from math import comb

import pytest

from o3magic.rows.sweep.statistics import (
    Interval,
    bootstrap,
    compare_paired,
    confidence_interval,
    mcnemar,
    quantile,
    sign_flip_test,
    wilson,
)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    # From the formula, by hand: z = 1.959964, z² = 3.841459.
    [
        (8, 10, 0.490162, 0.943318),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (50, 100, 0.403832, 0.596168),
        (1, 1, 0.206549, 1.0),
    ],
)
def test_wilson_by_hand(correct, n, low, high):
    assert wilson(correct, n) == pytest.approx((low, high), abs=1e-6)


def test_wilson_of_nothing_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_holds_the_share_and_stays_within_0_and_1():
    for n in (1, 2, 3, 7, 50, 1000, 100_000):
        for correct in {0, 1, n // 3, n // 2, n - 1, n}:
            low, high = wilson(correct, n)
            assert 0 <= low <= correct / n <= high <= 1
            assert high > low


def test_wilson_rises_with_the_share_narrows_with_n_and_is_symmetric():
    for n in (1, 5, 40):
        bounds = [wilson(correct, n) for correct in range(n + 1)]
        for first, second in itertools.pairwise(bounds):
            assert first.low <= second.low
            assert first.high <= second.high
            assert first.low < second.high
        for correct in range(n + 1):
            low, high = bounds[correct]
            assert (1 - high, 1 - low) == pytest.approx(bounds[n - correct], abs=1e-12)
    widths = [high - low for low, high in (wilson(0.7 * n, n) for n in (10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)


def test_the_bootstrap_is_the_same_each_time_whatever_the_order():
    chance = random.Random(3)
    scores = [chance.random() for _ in range(80)]
    once = bootstrap(scores)
    random.seed(99)  # the process's own chance has no part in it
    assert bootstrap(scores) == once == bootstrap(scores[::-1])
    assert bootstrap(scores, seed=1) != once


def test_the_bootstrap_agrees_with_the_normal_interval_of_many_scores():
    chance = random.Random(4)
    scores = [chance.random() for _ in range(900)]
    mean = sum(scores) / 900
    half = 1.959964 * (1 / 12 / 900) ** 0.5  # the spread of what is even between 0 and 1
    assert bootstrap(scores) == pytest.approx((mean - half, mean + half), abs=0.004)


def test_very_many_scores_take_no_drawing():
    scores = [0.25, 0.75] * 5000
    half = 1.959964 * 0.25 / 9999**0.5
    assert bootstrap(scores) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_right_and_wrong_have_wilsons_interval_others_the_bootstrap():
    assert confidence_interval([1, 1, 0]) == wilson(2, 3)
    parts = [0.5, 0.25, 1.0, 0.75]
    assert confidence_interval(parts) == bootstrap(parts)
    assert confidence_interval([]) == Interval(0.0, 1.0)


def test_equal_scores_are_not_certain():
    low, high = confidence_interval([0.5] * 4)
    assert low < 0.5 < high


@pytest.mark.parametrize(
    ("first", "second", "p"),
    # 2 (1 + 10) / 1024; 2 / 32; all ways; nothing differs.
    [(1, 9, 22 / 1024), (0, 5, 2 / 32), (5, 5, 1.0), (0, 0, 1.0), (0, 1, 1.0)],
)
def test_mcnemar_by_hand(first, second, p):
    assert mcnemar(first, second) == pytest.approx(p)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_mcnemar_of_many_rows_does_not_overflow():
    n, fewer = 2400, 1130
    exact = 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    assert mcnemar(fewer, n - fewer) == pytest.approx(exact, rel=1e-9)
    assert mcnemar(0, 5000) == 0


def test_mcnemar_of_200_000_rows_is_exact_and_fast():
    began_s = time.perf_counter()
    # From the sum of all 99,700 binomials.
    assert mcnemar(100_300, 99_700) == pytest.approx(0.18043880997509928, rel=1e-15)
    assert mcnemar(120_000, 80_000) == 0
    assert mcnemar(100_000, 100_000) == 1
    assert time.perf_counter() - began_s < 10


def test_flipping_signs_is_mcnemar_where_rows_are_right_or_wrong():
    for first, second in itertools.product(range(6), repeat=2):
        differences = [1.0] * first + [-1.0] * second + [0.0] * 3
        assert sign_flip_test(differences) == pytest.approx(mcnemar(first, second))


def test_flipping_signs_of_many_rows_is_near_the_exact_p():
    differences = [1.0] * 20 + [-1.0] * 8
    assert sign_flip_test(differences) == pytest.approx(mcnemar(20, 8), abs=0.02)
    assert sign_flip_test(differences) == sign_flip_test(differences)
    many = [1.0] * 3000 + [-1.0] * 2900
    assert sign_flip_test(many) == pytest.approx(mcnemar(3000, 2900), abs=0.02)


def test_a_pair_is_compared_row_by_row():
    # The same accuracies; in one case on the same rows, in the other on others.
    same = compare_paired([1, 1, 0, 0], [1, 1, 0, 0])
    other = compare_paired([1, 1, 0, 0], [0, 0, 1, 1])
    assert same.difference == other.difference == 0
    assert same.p == other.p == 1
    assert other.interval.high > same.interval.high == 0
    assert compare_paired([1] * 6, [0] * 6).p == pytest.approx(2 / 64)
    assert compare_paired([], []).p == 1


def test_what_can_be_detected_shrinks_with_the_rows():
    few = compare_paired([1] * 8 + [0] * 2, [1] * 7 + [0] * 3).detectable
    many = compare_paired(([1] * 8 + [0] * 2) * 100, ([1] * 7 + [0] * 3) * 100).detectable
    assert few == pytest.approx(2.8016 * (0.3 / 10) ** 0.5, abs=1e-3)  # three in ten may differ
    assert many == pytest.approx(2.8016 * (0.1 / 1000) ** 0.5, abs=1e-3)


def test_a_quantile_by_hand():
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([1.0, 2.0], 0.95) == pytest.approx(1.95)
    assert quantile([7.0], 0.95) == 7.0
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)

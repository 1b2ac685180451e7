"""Confidence intervals of accuracies, and paired tests of two of them. No I/O.

Resampling uses a fixed seed: the same scores give the same figures on every machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
POWER_Z = NormalDist().inv_cdf(0.8)
SEED = 20240912
RESAMPLES = 1000
# Above this many scores the mean is close to normal, and resampling takes seconds.
MAX_RESAMPLED = 5000
MAX_EXACT = 12  # differences; above that the sign patterns are sampled


class Interval(NamedTuple):
    low: float
    high: float


def wilson(correct: float, n: int, z: float = Z) -> Interval:
    """Wilson's score interval of a share, within 0 and 1; the whole range for n = 0."""
    if n <= 0:
        return Interval(0.0, 1.0)
    share = correct / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    # Rounding may put a bound on the wrong side of the share.
    low, high = (middle - half) / whole, (middle + half) / whole
    return Interval(max(0.0, min(low, share)), min(1.0, max(high, share)))


def is_binary(scores: Sequence[float]) -> bool:
    return all(score in (0, 1) for score in scores)


def confidence_interval(scores: Sequence[float]) -> Interval:
    """The 95 % interval of a mean score: Wilson's for scores of 0 and 1, else the bootstrap.

    Scores that are all equal get Wilson's too: a bootstrap of them would claim certainty.
    """
    if not scores or is_binary(scores) or min(scores) == max(scores):
        return wilson(math.fsum(scores), len(scores))
    low, high = bootstrap(scores)
    return Interval(max(0.0, low), min(1.0, high))


def bootstrap(values: Sequence[float], seed: int = SEED) -> Interval:
    """The percentile bootstrap of a mean; the normal interval above MAX_RESAMPLED values."""
    n = len(values)
    mean = fmean(values)
    if n > MAX_RESAMPLED:
        half = Z * math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
        return Interval(mean - half, mean + half)
    generator = random.Random(seed)
    # Sorted, so that the interval does not depend on the order of the rows.
    ordered = sorted(values)
    means = sorted(math.fsum(generator.choices(ordered, k=n)) / n for _ in range(RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    return Interval(quantile(means, tail), quantile(means, 1 - tail))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ordered values, interpolated linearly. Raises ValueError for no values."""
    if not ordered:
        raise ValueError("no values")
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of McNemar's test, from the rows that only one variant got right."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    term = tail = math.comb(n, fewer)
    for k in range(fewer, 0, -1):
        term = term * k // (n - k + 1)  # math.comb(n, k - 1)
        tail += term
        if term.bit_length() < tail.bit_length() - 128:
            break  # the other terms are far below the precision of a float
    p: float = 2 * tail / 2**n  # int / int is correctly rounded at any size
    return min(1.0, p)


class PairedDifference(NamedTuple):
    """Two variants on the same rows.

    difference: mean score of the first minus that of the second
    detectable: the smallest difference that n rows detect with a power of 80 %
    """

    n: int
    difference: float
    interval: Interval
    p: float
    detectable: float


def compare_paired(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Compare two variants row by row."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    n = len(differences)
    if not n:
        return PairedDifference(0, 0.0, Interval(-1.0, 1.0), 1.0, 1.0)
    # If no row differs, up to 3 in n still may, at 95 % (the rule of three).
    spread = max(fmean(d * d for d in differences), 3 / n)
    detectable = min(1.0, (Z + POWER_Z) * math.sqrt(spread / n))
    difference_interval = bootstrap(differences)
    if is_binary(first) and is_binary(second):
        p = mcnemar(differences.count(1), differences.count(-1))
    else:
        p = sign_flip_test(differences)
    return PairedDifference(n, fmean(differences), difference_interval, p, detectable)


def sign_flip_test(differences: Sequence[float], seed: int = SEED) -> float:
    """The two-sided p of a sign-flip permutation test.

    It is McNemar's test for scores between 0 and 1; for scores of 0 and 1 both give the same p.
    """
    sizes = sorted(abs(d) for d in differences if d)
    if not sizes:
        return 1.0
    observed = abs(math.fsum(differences)) * (1 - 1e-12)
    if len(sizes) <= MAX_EXACT:
        patterns = range(2 ** len(sizes))
        return sum(abs(signed_sum(sizes, p)) >= observed for p in patterns) / len(patterns)
    if len(sizes) > MAX_RESAMPLED:
        z = observed / math.sqrt(math.fsum(s * s for s in sizes))
        return 2 * NormalDist().cdf(-z)
    generator = random.Random(seed)
    times = 2 * RESAMPLES
    draws = (signed_sum(sizes, generator.getrandbits(len(sizes))) for _ in range(times))
    return (sum(abs(total) >= observed for total in draws) + 1) / (times + 1)


def signed_sum(sizes: Sequence[float], signs: int) -> float:
    """The sum of sizes; bit i of `signs` is set where size i is positive."""
    return math.fsum(s if signs >> i & 1 else -s for i, s in enumerate(sizes))

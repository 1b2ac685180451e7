"""What a few rows can tell: intervals of accuracies, and whether two of them differ. Pure.

Whatever is random here has a fixed seed: the same scores give the same figures, everywhere.
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
# Beyond so many scores their mean is as good as normal, and drawing them again takes seconds.
MOST_DRAWN = 5000
MOST_EXACT = 12  # differences whose signs are all tried


class Interval(NamedTuple):
    """From low to high."""

    low: float
    high: float


def wilson(correct: float, n: int, z: float = Z) -> Interval:
    """Wilson's score interval of a share. It never leaves 0 to 1, and n = 0 says nothing at all."""
    if n <= 0:
        return Interval(0.0, 1.0)
    share = correct / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    # Rounding may put a bound on the wrong side of the share itself.
    low, high = (middle - half) / whole, (middle + half) / whole
    return Interval(max(0.0, min(low, share)), min(1.0, max(high, share)))


def binary(scores: Sequence[float]) -> bool:
    """Whether every score is 0 or 1."""
    return all(score in (0, 1) for score in scores)


def interval(scores: Sequence[float]) -> Interval:
    """The interval of a mean score: Wilson's for right or wrong, else by the bootstrap.

    Scores without any spread have Wilson's too: a bootstrap of them would claim certainty.
    """
    if not scores or binary(scores) or min(scores) == max(scores):
        return wilson(math.fsum(scores), len(scores))
    low, high = bootstrap(scores)
    return Interval(max(0.0, low), min(1.0, high))


def bootstrap(values: Sequence[float], seed: int = SEED) -> Interval:
    """The percentile bootstrap of a mean; for very many values the normal interval."""
    n = len(values)
    mean = fmean(values)
    if n > MOST_DRAWN:
        half = Z * math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
        return Interval(mean - half, mean + half)
    drawn = random.Random(seed)
    # In a fixed order, so that the interval does not depend on that of the rows.
    ordered = sorted(values)
    means = sorted(math.fsum(drawn.choices(ordered, k=n)) / n for _ in range(RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    return Interval(quantile(means, tail), quantile(means, 1 - tail))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the ordered values lies, between two of them if need be.

    Raises ValueError where there is none.
    """
    if not ordered:
        raise ValueError("no values")
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact p of McNemar's test, two-sided: how often one of two was right alone."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    ways = one = 1
    for k in range(fewer):
        one = one * (n - k) // (k + 1)
        ways += one
    return min(1.0, 2 * ways / 2**n) if n < 1000 else min(1.0, ratio(2 * ways, n))


def ratio(ways: int, n: int) -> float:
    """ways / 2**n, for numbers no float can hold."""
    shift = max(0, ways.bit_length() - 64)
    return math.ldexp(float(ways >> shift), shift - n)


class PairedDifference(NamedTuple):
    """Two ways on the same rows. difference: mean score of the first less that of the second.

    detectable: the smallest difference that so many rows would show four times out of five.
    """

    n: int
    difference: float
    interval: Interval
    p: float
    detectable: float


def paired(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Compare two ways, row by row."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    n = len(differences)
    if not n:
        return PairedDifference(0, 0.0, Interval(-1.0, 1.0), 1.0, 1.0)
    # No row that differs does not mean that none will: three in n may, at 95 %.
    spread = max(fmean(d * d for d in differences), 3 / n)
    detectable = min(1.0, (Z + POWER_Z) * math.sqrt(spread / n))
    between = bootstrap(differences)
    if binary(first) and binary(second):
        p = mcnemar(differences.count(1), differences.count(-1))
    else:
        p = sign_flips(differences)
    return PairedDifference(n, fmean(differences), between, p, detectable)


def sign_flips(differences: Sequence[float], seed: int = SEED) -> float:
    """How often chance alone makes a difference as large, if either sign was as likely.

    McNemar's test for scores between 0 and 1: for right and wrong it is the same.
    """
    sizes = sorted(abs(d) for d in differences if d)
    if not sizes:
        return 1.0
    seen = abs(math.fsum(differences)) * (1 - 1e-12)
    if len(sizes) <= MOST_EXACT:
        ways = range(2 ** len(sizes))
        return sum(abs(flipped(sizes, signs)) >= seen for signs in ways) / len(ways)
    if len(sizes) > MOST_DRAWN:
        z = seen / math.sqrt(math.fsum(s * s for s in sizes))
        return 2 * NormalDist().cdf(-z)
    drawn = random.Random(seed)
    times = 2 * RESAMPLES
    hits = sum(abs(flipped(sizes, drawn.getrandbits(len(sizes)))) >= seen for _ in range(times))
    return (hits + 1) / (times + 1)


def flipped(sizes: Sequence[float], signs: int) -> float:
    """The sum of sizes, each with the sign that its bit says."""
    return math.fsum(s if signs >> at & 1 else -s for at, s in enumerate(sizes))

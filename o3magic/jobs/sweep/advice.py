"""Which effort to take, in a sentence or two with the reason. Pure.

The cheapest choice whose accuracy is not distinguishably below the best one's: row by row, by
McNemar's exact test, or its like for scores between 0 and 1. That nothing is found in few rows
proves nothing, so it is said what so few rows can show.
"""

from __future__ import annotations

from collections.abc import Sequence

from o3magic.jobs.sweep.measures import Choice, Prices, prices_of
from o3magic.jobs.sweep.statistics import Paired, paired

ALPHA = 0.05
MOST_DETECTABLE = 0.1  # a larger one: too few rows to tell


def recommendation(choices: Sequence[Choice]) -> str:
    """The sentences."""
    measured = [choice for choice in choices if choice.n]
    said = advice(measured)
    made_up = sorted(frozenset().union(*(choice.made_up for choice in measured)))
    if made_up:
        return f"{' and '.join(made_up)} answers, which say nothing of any model. {said}"
    return said


def advice(choices: Sequence[Choice]) -> str:
    """The same, of choices that were measured."""
    if not choices:
        return "Nothing was measured."
    if len(choices) == 1:
        only = choices[0]
        return f"{only.label}: {shown(only)} over {rows(only.n)}; there is nothing to compare with."
    prices = prices_of(choices)
    cheap = cheapest_first(choices, prices)
    best = max(cheap, key=lambda choice: choice.accuracy or 0)  # of equals the cheapest
    if not best.correct:
        return (
            "No choice answered any row right: look at the prompt, the schema or the scorer before "
            "the effort."
        )
    taken = next(c for c in cheap if c is best or not worse(c, best))
    rival = best if taken is not best else runner_up(cheap, best)
    test = compared(best if taken is not best else taken, taken if taken is not best else rival)
    return f"{reason(taken, best, rival, cheap, test, prices, choices)}{caveat(test)}"


def cheapest_first(choices: Sequence[Choice], prices: Prices) -> list[Choice]:
    """The choices in the order of what a row takes, then of effort."""
    priced = zip(prices.values, choices, strict=True)
    return [c for _, c in sorted(priced, key=lambda each: (each[0], each[1].order))]


def worse(choice: Choice, best: Choice) -> bool:
    """Whether it is distinguishably below the best, or cannot be compared with it."""
    test = compared(best, choice)
    return not test.n or (test.difference > 0 and test.p < ALPHA)


def compared(first: Choice, second: Choice) -> Paired:
    """Two choices on the rows that both were asked."""
    pairs = [
        (a, b)
        for a, b in zip(first.scores, second.scores, strict=True)
        if a is not None and b is not None
    ]
    return paired([a for a, _ in pairs], [b for _, b in pairs])


def runner_up(cheap: Sequence[Choice], best: Choice) -> Choice:
    """The most accurate of the others."""
    return max((c for c in cheap if c is not best), key=lambda choice: choice.accuracy or 0)


def reason(
    taken: Choice,
    best: Choice,
    rival: Choice,
    cheap: Sequence[Choice],
    test: Paired,
    prices: Prices,
    choices: Sequence[Choice],
) -> str:
    """Why this one."""
    p = f"p = {p_shown(test.p)}"
    price = dict(zip((id(c) for c in choices), prices.values, strict=True))
    if taken is not best:
        at = portion(price[id(taken)], price[id(best)], prices.unit)
        return (
            f"{taken.label}: its accuracy ({shown(taken)}) is not distinguishably below "
            f"{best.label}'s ({shown(best)}; {p}){at}."
        )
    if best is not cheap[0]:
        at = portion(price[id(rival)], price[id(best)], prices.unit)
        return (
            f"{best.label}: its accuracy ({shown(best)}) is distinguishably above that of every "
            f"cheaper choice; next is {rival.label} ({shown(rival)}; {p}){at}."
        )
    cheaper = " or takes less" if prices.unit else ""
    return (
        f"{best.label}: none is more accurate ({shown(best)}){cheaper}; next is {rival.label} "
        f"({shown(rival)}; {p})."
    )


def caveat(test: Paired) -> str:
    """What so few rows cannot tell, or ""."""
    if test.p < ALPHA or test.detectable <= MOST_DETECTABLE:
        return ""
    needed = round(test.n * (test.detectable / MOST_DETECTABLE) ** 2, -1)
    return (
        f" {rows(test.n).capitalize()} are too few to tell: a difference below "
        f"{test.detectable:.2f} would mostly not show; about {needed:,.0f} rows would show one of "
        f"{MOST_DETECTABLE:.2f}."
    )


def shown(choice: Choice) -> str:
    """An accuracy with its interval."""
    low, high = choice.interval
    return f"{choice.accuracy or 0:.2f}, {low:.2f}-{high:.2f}"


def portion(small: float, large: float, unit: str) -> str:
    """How much less a row takes: " at 1/7 of the cost per row"."""
    if not unit or large <= 0 or small <= 0:
        return ""
    share = small / large
    if share > 0.95:
        return f" at {share:.2g} times the {unit} per row"
    part = f"1/{1 / share:.0f}" if share <= 0.4 else f"{share:.0%}"
    return f" at {part} of the {unit} per row"


def p_shown(p: float) -> str:
    """A p for people."""
    if p < 0.001:
        return "less than 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def rows(count: int) -> str:
    """A number of rows in words."""
    return "1 row" if count == 1 else f"{count:,} rows"

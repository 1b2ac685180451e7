"""Cases measured in turns, so that a busy machine hurts them all alike, and a table of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def in_turns(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of what each case gives; one round before the first is for warming up."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        # Back and forth: nobody always comes behind the same neighbour.
        for name in list(cases) if turn % 2 else reversed(cases):
            value = cases[name]()
            if turn:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def seconds(work: Callable[[], object]) -> Callable[[], float]:
    """A case that gives how long `work` takes."""

    def timed() -> float:
        began_s = time.perf_counter()
        work()
        return time.perf_counter() - began_s

    return timed


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table, its columns aligned: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}\n")
    for row in (head, ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])], *rows):
        first, *others = zip(row, widths, strict=True)
        cells = [f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)]
        print(f"| {' | '.join(cells)} |")

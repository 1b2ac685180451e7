"""What was spent, as a table: Markdown, plain text, CSV or a data frame. Pure; `to_csv` writes.

Names in it come from servers and may hold anything, so every way out cleans them in its own way.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

from o3magic.cost.entries import Sums, Total
from o3magic.events import Source
from o3magic.frames import frame
from o3magic.money import show_usd, usd

HEADINGS = ("model", "effort", "calls", "input", "cached", "output", "reasoning", "cost")
NAMES = 2  # so many columns at the left are words; the others are numbers, aligned right
COUNTED = (
    "calls",
    "unknown_cost_calls",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
)
COLUMNS = ("source", "model", "effort", *COUNTED, "cost_usd")
LABELS: dict[Source, str] = {"live": "", "simulated": " (SIMULATED)", "replayed": " (replayed)"}
EFFORTS = ("", "none", "minimal", "low", "medium", "high", "xhigh")
LONGEST_NAME = 60
# All of ASCII's punctuation that can mean something in Markdown, HTML or TeX, inside a table: a
# point too, since "www." makes a link, but not the one of a number.
MARKUP = re.compile(r"[!-'*+/:-@\[-`{-~]|(?<![0-9])\.|\.(?![0-9])")
# With these in front a spreadsheet takes a cell for a formula.
FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True, slots=True)
class CostRow:
    """The calls of one model, effort and source. Only live ones cost."""

    model: str
    effort: str
    source: Source
    sums: Sums

    @property
    def cost_usd(self) -> Decimal | None:
        """What is known of their cost; None where nothing is."""
        return usd(known_nano_usd(self.sums))

    def cells(self) -> tuple[str, ...]:
        """The row as it is shown, a text for each of `HEADINGS`."""
        name = plain(self.model) or "(no model)"
        return (f"{name}{LABELS[self.source]}", plain(self.effort), *numbers(self.sums))


@dataclass(frozen=True, slots=True)
class CostReport:
    """The live rows, their `total`, and the rows of simulated and replayed calls."""

    title: str
    live: tuple[CostRow, ...]
    total: Sums
    free: tuple[CostRow, ...]

    @property
    def rows(self) -> tuple[CostRow, ...]:
        """All rows, without the total."""
        return self.live + self.free

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the numbers, one sentence each."""
        notes = []
        if self.total.unknown_cost_calls:
            unknown = counted(self.total.unknown_cost_calls)
            notes.append(f"The cost of {unknown} is unknown, and missing from the sums.")
        if self.total.unknown_tokens_calls:
            unknown = counted(self.total.unknown_tokens_calls)
            notes.append(f"The tokens of {unknown} are unknown, and missing from the sums.")
        if any(row.source == "simulated" for row in self.free):
            notes.append("SIMULATED calls went to the simulator: no model answered them.")
        return tuple(notes)

    def markdown(self) -> str:
        """A heading, a table and the notes, with everything in it escaped."""
        if not self.rows:
            return f"**{escaped(self._heading())}**: no calls yet\n"
        rule = "".join(" --- |" if i < NAMES else " ---: |" for i in range(len(HEADINGS)))
        total = [f"**{cell}**" if cell else "" for cell in map(escaped, self._total_cells())]
        lines = [
            f"**{escaped(self._heading())}**",
            "",
            line(HEADINGS),
            f"|{rule}",
            *(line([escaped(cell) for cell in row.cells()]) for row in self.live),
            line(total),
            *(line([escaped(cell) for cell in row.cells()]) for row in self.free),
        ]
        lines += [text for note in self.notes for text in ("", escaped(note))]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        """The same table in aligned plain text."""
        if not self.rows:
            return f"{self._heading()}: no calls yet"
        live, free = ([row.cells() for row in rows] for rows in (self.live, self.free))
        table = [HEADINGS, *live, self._total_cells(), *free]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]

        def aligned(cells: Sequence[str]) -> str:
            sides = (str.ljust if i < NAMES else str.rjust for i in range(len(cells)))
            texts = (s(c, w) for s, c, w in zip(sides, cells, widths, strict=True))
            return "  ".join(texts).rstrip()

        lines = [self._heading(), *map(aligned, table)]
        lines.insert(2, "-" * len(lines[1]))
        return "\n".join([*lines, *self.notes])

    def records(self) -> list[dict[str, Any]]:
        """The rows as named values, without the total, so that a column can be summed."""
        return [
            {
                "source": row.source,
                "model": row.model,
                "effort": row.effort,
                **{name: getattr(row.sums, name) for name in COUNTED},
                "cost_usd": row.cost_usd,
            }
            for row in self.rows
        ]

    def to_frame(self) -> Any:
        """A pandas DataFrame of `records`, `cost_usd` as exact Decimals.

        Raises ImportError where pandas is not installed.
        """
        return frame(self.records(), COLUMNS)

    def to_csv(self, path: Path | str) -> None:
        """Write `records` as UTF-8 CSV; an unknown cost is an empty cell."""
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: harmless(v) for k, v in r.items()} for r in self.records())

    def _heading(self) -> str:
        return plain(self.title) or "costs"

    def _total_cells(self) -> tuple[str, ...]:
        return ("total", "", *numbers(self.total))


def report(totals: Sequence[Total], title: str) -> CostReport:
    """A report of totals by model and effort, in the order of the models and their efforts."""
    ordered = sorted(totals, key=lambda t: (t.model, rank(t.effort), t.effort))

    def rows(source: Source) -> tuple[CostRow, ...]:
        made = (CostRow(t.model, t.effort, source, getattr(t, source)) for t in ordered)
        return tuple(row for row in made if row.sums.calls)

    live = rows("live")
    total = reduce(Sums.plus, (row.sums for row in live), Sums())
    return CostReport(title, live, total, rows("simulated") + rows("replayed"))


def rank(effort: str) -> int:
    """Where an effort stands among the others; unknown ones come last."""
    return EFFORTS.index(effort) if effort in EFFORTS else len(EFFORTS)


def known_nano_usd(sums: Sums) -> int | None:
    """The known part of a cost, or None where no call's cost is known."""
    nothing_known = sums.calls and sums.unknown_cost_calls == sums.calls
    return None if nothing_known else sums.cost_nano_usd


def numbers(sums: Sums) -> tuple[str, ...]:
    """The cells of the columns that are numbers."""
    shown = show_usd(known_nano_usd(sums))
    partly = sums.unknown_cost_calls and shown != "unknown"
    counts = (
        sums.calls,
        sums.input_tokens,
        sums.cached_tokens,
        sums.output_tokens,
        sums.reasoning_tokens,
    )
    return (*(f"{count:,}" for count in counts), f"at least {shown}" if partly else shown)


def counted(calls: int) -> str:
    """A number of calls in words."""
    return "1 call" if calls == 1 else f"{calls:,} calls"


def visible(name: str) -> str:
    """A name on one line of printable characters: no control codes, no marks that turn a line."""
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())


def plain(name: str) -> str:
    """A name as people see it: visible, and not too long for a table."""
    whole = visible(name)
    return whole if len(whole) <= LONGEST_NAME else f"{whole[: LONGEST_NAME - 1]}…"


def escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)


def line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def harmless(value: Any) -> Any:
    """A CSV cell that no spreadsheet takes for a formula; money in plain digits."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if not isinstance(value, str):
        return value
    name = visible(value)
    return f"'{name}" if name.startswith(FORMULA) else name

"""A cost report: as Markdown, plain text, CSV, JSON, plot or DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

from o3magic.cost.entries import CallSums, CostTotal
from o3magic.dataframes import frame
from o3magic.events import AnswerSource
from o3magic.money import usd
from o3magic.render.tables import TextTable, escaped, plain
from o3magic.reports.formatting import (
    format_calls,
    format_cost,
    known_nano_usd,
    rank_effort,
    write_csv,
    write_json,
)

BY = ("model", "effort")
NUMBERS = ("calls", "input", "cached", "output", "reasoning", "cost")
# Columns that are left out of a narrow text, in this order.
DROPPED_WHEN_NARROW = ("cached", "input", "reasoning", "output")
COUNTS = (
    "calls",
    "unknown_cost_calls",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
)
LABELS: dict[AnswerSource, str] = {
    "live": "",
    "simulated": " (SIMULATED)",
    "replayed": " (replayed)",
}
HEADINGS = {"schema_name": "schema"}
MAX_NOTEBOOK_LENGTH = 40


@dataclass(frozen=True, slots=True)
class CostRow:
    """The sums of the calls of one group and one source. Only live calls cost.

    names: the values of the group, in the order of the report's `by`.
    """

    names: tuple[str, ...]
    source: AnswerSource
    sums: CallSums

    @property
    def cost_usd(self) -> Decimal | None:
        """The known part of the cost; None where no cost is known."""
        return usd(known_nano_usd(self.sums))


@dataclass(frozen=True, slots=True)
class ReportSpan:
    """The sum of all calls of a period, notebook or session: a row below the table."""

    name: str
    live: CallSums
    simulated_calls: int = 0
    replayed_calls: int = 0

    @property
    def calls(self) -> str:
        """The numbers of calls: `12 + 3 simulated`."""
        others = {"simulated": self.simulated_calls, "replayed": self.replayed_calls}
        counts = (f"{n:,} {source}" for source, n in others.items() if n)
        return " + ".join([f"{self.live.calls:,}", *counts])

    def cells(self) -> tuple[str, str, str]:
        """Name, calls, cost."""
        return self.name, self.calls, format_cost(self.live)


@dataclass(frozen=True, slots=True, repr=False)
class CostReport:
    """A report of costs: the live rows, their `total`, and the rows of free calls.

    free   simulated and replayed calls
    by     what the rows are grouped by
    spans  sums of longer periods, a row each
    days   the same calls by UTC day and effort, for `plot`

    `.to_frame()`, `.to_csv(path)`, `.to_json(path)` and `.plot()` convert it.
    """

    title: str
    live: tuple[CostRow, ...]
    total: CallSums
    free: tuple[CostRow, ...]
    by: tuple[str, ...] = BY
    spans: tuple[ReportSpan, ...] = ()
    days: tuple[CostTotal, ...] = ()

    @property
    def rows(self) -> tuple[CostRow, ...]:
        """All rows, without the total."""
        return self.live + self.free

    @property
    def cost_usd(self) -> Decimal | None:
        """The known cost of the live calls, exact; None where no cost is known."""
        return usd(known_nano_usd(self.total))

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of `records`."""
        return ("source", *self.by, *COUNTS, "cost_usd")

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the numbers, one sentence each."""
        notes = []
        if self.total.unknown_cost_calls:
            unknown = format_calls(self.total.unknown_cost_calls)
            notes.append(f"The cost of {unknown} is unknown, and missing from the sums.")
        if self.total.unknown_tokens_calls:
            unknown = format_calls(self.total.unknown_tokens_calls)
            notes.append(f"The tokens of {unknown} are unknown, and missing from the sums.")
        if any(row.source == "simulated" for row in self.free):
            notes.append("SIMULATED calls went to the simulator: no model answered them.")
        return tuple(notes)

    def markdown(self) -> str:
        """The heading, the table, the spans and the notes as Markdown, escaped."""
        heading = f"**{escaped(self._heading())}**"
        parts = [heading, self._table().markdown()] if self.rows else [f"{heading}: no calls yet"]
        if self.spans:
            parts.append(self._spans().markdown())
        if self.notes:
            parts.append(escaped(" ".join(self.notes)))
        return "\n\n".join(parts) + "\n"

    def text(self, width: int | None = None) -> str:
        """The report as aligned text, with fewer columns where they exceed `width` characters."""
        table, head = self._table(), self._heading()
        dropped: list[str] = []
        for name in DROPPED_WHEN_NARROW if width else ():
            if len(table.text().partition("\n")[0]) <= (width or 0):
                break
            dropped.append(name)
            table = self._table().without(dropped)
        parts = [head, table.text()] if self.rows else [f"{head}: no calls yet"]
        if self.spans:
            parts += ["", self._spans().text(rule=False)]
        return "\n".join([*parts, *self.notes])

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/markdown": self.markdown(), "text/plain": self.text()}

    def records(self) -> list[dict[str, Any]]:
        """The rows as dicts, without the total, so that a column can be summed."""
        return [
            {
                "source": row.source,
                **dict(zip(self.by, row.names, strict=True)),
                **{name: getattr(row.sums, name) for name in COUNTS},
                "cost_usd": row.cost_usd,
            }
            for row in self.rows
        ]

    def to_frame(self) -> Any:
        """A pandas DataFrame of `records`, `cost_usd` as exact Decimals.

        Raises ImportError where pandas is not installed.
        """
        return frame(self.records(), self.columns)

    def to_csv(self, path: Path | str) -> None:
        """Write `records` as UTF-8 CSV; an unknown cost is an empty cell. Raises BadOption."""
        write_csv(path, self.columns, self.records())

    def to_json(self, path: Path | str) -> None:
        """Write the rows and the total as JSON, dollars as exact text. Raises BadOption."""
        total = {name: getattr(self.total, name) for name in COUNTS}
        total |= {"cost_usd": self.cost_usd}
        report = {"title": self.title, "by": self.by, "rows": self.records(), "total": total}
        write_json(path, report)

    def plot(self, library: str = "svg") -> Any:
        """The cost of each day, stacked by effort, and the reasoning share of the output.

        A CostPlot, which a notebook displays as SVG; with library="matplotlib" a Figure. Raises
        ImportError where matplotlib is not installed.
        """
        if library == "matplotlib":
            from o3magic.reports.chart import draw_figure

            return draw_figure(self.days, self._heading())
        if library != "svg":
            raise ValueError(f"library is svg or matplotlib, not {library!r}")
        from o3magic.reports.chart import CostPlot

        return CostPlot(self.days, self._heading())

    def _heading(self) -> str:
        return plain(self.title) or "costs"

    def _table(self) -> TextTable:
        head = (*(HEADINGS.get(name, name) for name in self.by), *NUMBERS)
        if not self.by:
            head = ("", *head)
        total = ("total", *[""] * (len(self.by) - 1), *format_sums(self.total))
        live, free = ([self._cells(row) for row in rows] for rows in (self.live, self.free))
        # The row of a report without groups is the total.
        totals = [total] if self.by or not live else []
        strong = frozenset([len(live)] if totals else [])
        return TextTable(head, [*live, *totals, *free], max(len(self.by), 1), strong)

    def _cells(self, row: CostRow) -> tuple[str, ...]:
        names = [format_name(*pair) for pair in zip(self.by, row.names, strict=True)] or ["all"]
        first = names[0] or f"(no {HEADINGS.get(self.by[0], self.by[0])})"
        return (f"{first}{LABELS[row.source]}", *names[1:], *format_sums(row.sums))

    def _spans(self) -> TextTable:
        return TextTable(("in all", "calls", "cost"), [span.cells() for span in self.spans])


def build_report(
    totals: Sequence[CostTotal],
    title: str,
    by: Sequence[str] = BY,
    *,
    spans: Sequence[ReportSpan] = (),
    days: Sequence[CostTotal] = (),
) -> CostReport:
    """A report of totals grouped by `by`, sorted by name; efforts from low to high."""

    def names(total: CostTotal) -> tuple[str, ...]:
        return tuple(str(getattr(total, name)) for name in by)

    def order(total: CostTotal) -> tuple[Any, ...]:
        pairs = zip(by, names(total), strict=True)
        return tuple((rank_effort(v) if name == "effort" else 0, v) for name, v in pairs)

    ordered = sorted(totals, key=order)

    def rows(source: AnswerSource) -> tuple[CostRow, ...]:
        sums = (CostRow(names(t), source, getattr(t, source)) for t in ordered)
        return tuple(row for row in sums if row.sums.calls)

    live = rows("live")
    total = reduce(CallSums.plus, (row.sums for row in live), CallSums())
    free = rows("simulated") + rows("replayed")
    return CostReport(title, live, total, free, tuple(by), tuple(spans), tuple(days))


def format_name(group: str, name: str) -> str:
    """The name of a group; of a session id the beginning, of a notebook's path the end."""
    if group == "session":
        return plain(name[:8])
    if group == "notebook" and len(name) > MAX_NOTEBOOK_LENGTH:
        return "…" + plain(name[-MAX_NOTEBOOK_LENGTH:])
    return plain(name)


def format_sums(sums: CallSums) -> tuple[str, ...]:
    """The cells of the number columns. Tokens that no call reported are unknown, never 0."""
    counts = (
        sums.input_tokens,
        sums.cached_tokens,
        sums.output_tokens,
        sums.reasoning_tokens,
    )
    is_unknown = sums.calls and sums.unknown_tokens_calls == sums.calls
    tokens = ("unknown" if is_unknown and not count else f"{count:,}" for count in counts)
    return (f"{sums.calls:,}", *tokens, format_cost(sums))

"""The result of a sweep: table, plot, recommendation, and the rows on which efforts disagree.

Texts of models and rows are untrusted: every view escapes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from o3magic.dataframes import frame, has_pandas
from o3magic.money import show_usd, usd
from o3magic.render.tables import TextTable, escaped, visible
from o3magic.rows.sweep.plot import SweepPlot, find_published
from o3magic.rows.sweep.rows import SweepTask
from o3magic.rows.sweep.summary import MADE_UP, VariantResult, build_recommendation

MAX_ERROR_LENGTH = 200
HEAD = (
    *("", "accuracy", "95 % interval", "rows", "no answer"),
    *("cost per row", "per correct", "in all", "seconds", "p95", "reasoning tokens"),
)
COST_COLUMNS = ("per correct", "in all")  # left out where nothing was paid


@dataclass(frozen=True, repr=False)
class SweepResult:
    """The results of a sweep.

    `.recommendation` says which effort to take, `.to_frame()` has a row for each effort and model,
    `.plot()` draws accuracy against cost, `.disagreements()` and `.rows_frame()` have the answers.
    said: why it was stopped, if it was.
    """

    choices: tuple[VariantResult, ...]
    task: SweepTask
    said: tuple[str, ...] = ()

    @property
    def recommendation(self) -> str:
        """Which effort to take and why, in a sentence or two."""
        return build_recommendation(self.choices)

    @property
    def made_up(self) -> frozenset[str]:
        """The labels of answers that no model gave: SIMULATED, BY HAND."""
        return frozenset().union(*(choice.made_up for choice in self.choices))

    @property
    def partial(self) -> bool:
        """Whether some rows were not asked."""
        return any(choice.not_asked for choice in self.choices)

    def records(self) -> list[dict[str, Any]]:
        """A dict for each effort and model. Costs are exact Decimals; None is unknown."""
        return [
            {
                "model": choice.model,
                "effort": choice.effort or None,
                "rows": choice.n,
                "accuracy": choice.accuracy,
                "accuracy_low": choice.interval.low if choice.n else None,
                "accuracy_high": choice.interval.high if choice.n else None,
                "correct": choice.correct,
                "no_answer": choice.without_answer,
                "not_scored": choice.unscored,
                "not_asked": choice.not_asked,
                "cost_usd": usd(choice.cost_nano_usd),
                "cost_per_row_usd": choice.cost_per_row_usd,
                "cost_per_correct_usd": choice.cost_per_correct_usd,
                "mean_s": choice.mean_s,
                "p95_s": choice.p95_s,
                "output_tokens_per_row": choice.output_tokens,
                "reasoning_tokens_per_row": choice.reasoning_tokens,
                "source": choice.source.replace("simulated", "SIMULATED"),
            }
            for choice in self.choices
        ]

    def to_frame(self) -> Any:
        """The records as a pandas DataFrame; a list of dicts where pandas is not installed."""
        return build_frame(self.records())

    def rows_frame(self) -> Any:
        """Each row with its expected value, and every effort's answer, score and error."""
        return build_frame(self._rows(range(len(self.task.rows))))

    def disagreements(self) -> Any:
        """The rows on which the scores of efforts differ, the largest difference first."""
        columns = [name for row in self._rows(range(len(self.task.rows))[:1]) for name in row]
        return build_frame(self._rows(self.disagreeing), columns or None)

    @property
    def disagreeing(self) -> list[int]:
        """The numbers of those rows."""
        spreads = sorted((-compute_spread(self.choices, n), n) for n in range(len(self.task.rows)))
        return [n for spread, n in spreads if spread]

    def plot(self, published: str = "") -> SweepPlot:
        """Accuracy against the cost of a row, with intervals and the Pareto front.

        published: a benchmark, such as "AIME 2024", whose published figures are drawn beside. They
        are not measured here. Raises BadOption for an unknown one.
        """
        return SweepPlot(self.choices, find_published(published) if published else None)

    def table(self) -> TextTable:
        """A row for each effort; without the cost columns where nothing was paid."""
        is_free = all(choice.made_up and not choice.known_cost_nano_usd for choice in self.choices)
        kept = [n for n, name in enumerate(HEAD) if not (is_free and name in COST_COLUMNS)]
        rows = [HEAD, *map(format_cells, self.choices)]
        head, *cells = [[row[n] for n in kept] for row in rows]
        return TextTable(head, cells)

    @property
    def notes(self) -> list[str]:
        """Remarks on the figures, one sentence each."""
        notes = [f"{visible(reason)[:MAX_ERROR_LENGTH]}." for reason in self.said]
        if "SIMULATED" in self.made_up:
            notes.append("SIMULATED: the simulator answered, not a model.")
        if "BY HAND" in self.made_up:
            notes.append("BY HAND: a person wrote answers, not a model.")
        if missing := [f"{c.not_asked:,} at {c.label}" for c in self.choices if c.not_asked]:
            notes.append(f"Rows that were not asked, and do not count: {', '.join(missing)}.")
        if any(choice.without_answer for choice in self.choices):
            notes.append("A row without an answer counts as wrong.")
        for choice in self.choices:
            if choice.unscored:
                trouble = visible(choice.trouble)[:MAX_ERROR_LENGTH]
                notes.append(
                    f"{choice.unscored:,} answers at {choice.label} could not be scored and count "
                    f"as wrong; the first: {trouble}."
                )
        if self.task.skipped:
            notes.append(f"{self.task.skipped:,} rows have no expected value and were not asked.")
        if count := len(self.disagreeing):
            rows = f"{count:,} of {len(self.task.rows):,} rows"
            notes.append(f"Efforts disagree on {rows}: .disagreements() shows them.")
        return notes

    def markdown(self) -> str:
        """The table, the recommendation and the notes as Markdown, escaped."""
        parts = [f"**{escaped(self._heading())}**", self.table().markdown()]
        parts.append(f"**Recommendation:** {escaped(visible(self.recommendation))}")
        parts.append(escaped(visible(" ".join(self.notes))))
        return "\n\n".join(filter(None, parts)) + "\n"

    def __str__(self) -> str:
        recommendation = f"Recommendation: {visible(self.recommendation)}"
        parts = [self._heading(), self.table().text(), recommendation]
        return "\n".join([*parts, *map(visible, self.notes)])

    __repr__ = __str__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/markdown": self.markdown(), "text/plain": str(self)}

    def _heading(self) -> str:
        marks = sorted(self.made_up) + ["not complete"] * self.partial
        return f"What effort buys ({', '.join(marks)})" if marks else "What effort buys"

    def _rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        task, rows = self.task, []
        for n in numbers:
            row: dict[str, Any] = {"row": task.indexes[n], **task.rows[n]}
            if not task.column:
                row[choose_name("expected", row)] = task.expected[n]
            for choice in self.choices:
                scored = choice.rows[n]
                mark = f" ({MADE_UP[scored.made_by]})" if scored.made_by in MADE_UP else ""
                row[choose_name(f"{choice.label} answer{mark}", row)] = scored.answer
                row[choose_name(f"{choice.label} score", row)] = scored.score
                row[choose_name(f"{choice.label} error", row)] = scored.trouble or None
            rows.append(row)
        return rows


def build_frame(records: list[dict[str, Any]], columns: Sequence[str] | None = None) -> Any:
    """Records as a DataFrame where pandas is installed; else as they are."""
    return frame(records, columns) if has_pandas() else records


def choose_name(name: str, taken: dict[str, Any]) -> str:
    """The name, with a prefix where a column has it already."""
    while name in taken:
        name = f"o3 {name}"
    return name


def compute_spread(choices: Sequence[VariantResult], n: int) -> float:
    """The largest difference of the scores of a row."""
    scores = [score for choice in choices if (score := choice.rows[n].score) is not None]
    return max(scores) - min(scores) if scores else 0.0


def format_cells(choice: VariantResult) -> list[str]:
    """A row of the table."""
    low, high = choice.interval
    measured = choice.accuracy is not None
    return [
        choice.label,
        f"{choice.accuracy:.2f}" if measured else "–",
        f"{low:.2f}-{high:.2f}" if measured else "–",
        f"{choice.n:,}",
        f"{choice.without_answer:,}",
        format_cost(choice, choice.cost_per_row_usd),
        "–"
        if measured and not choice.correct
        else format_cost(choice, choice.cost_per_correct_usd),
        format_total(choice),
        format_number(choice.mean_s, 1),
        format_number(choice.p95_s, 1),
        format_number(choice.reasoning_tokens, 0),
    ]


def format_cost(choice: VariantResult, amount: Any) -> str:
    if not choice.n:
        return "–"
    if choice.made_up and not amount:
        return f"$0 ({', '.join(sorted(choice.made_up))})"
    return show_usd(amount)


def format_total(choice: VariantResult) -> str:
    """The total cost; "at least" where a part of it is unknown."""
    if choice.n and choice.cost_nano_usd is None and choice.known_cost_nano_usd:
        return f"at least {show_usd(choice.known_cost_nano_usd)}"
    return format_cost(choice, usd(choice.cost_nano_usd))


def format_number(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{value:,.{digits}f}"

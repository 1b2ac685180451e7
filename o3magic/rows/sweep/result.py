"""What a sweep found: a table, a plot, a recommendation, and the rows where efforts disagree.

No text of a model or of a row is trusted: every view escapes it.
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

LONGEST_TROUBLE = 200
HEAD = (
    *("", "accuracy", "95 % interval", "rows", "no answer"),
    *("cost per row", "per correct", "in all", "seconds", "p95", "reasoning tokens"),
)


PAID = ("per correct", "in all")


@dataclass(frozen=True, repr=False)
class SweepResult:
    """What each effort came to.

    `.recommendation` says which to take, `.to_frame()` has a row for each effort and model,
    `.plot()` draws accuracy against cost, `.disagreements()` and `.rows_frame()` have the answers.
    """

    choices: tuple[VariantResult, ...]
    task: SweepTask
    said: tuple[str, ...] = ()

    @property
    def recommendation(self) -> str:
        """Which effort to take, with the reason, in a sentence or two."""
        return build_recommendation(self.choices)

    @property
    def made_up(self) -> frozenset[str]:
        """What to call the answers that no model gave."""
        return frozenset().union(*(choice.made_up for choice in self.choices))

    @property
    def partial(self) -> bool:
        """Whether some rows were not asked."""
        return any(choice.not_asked for choice in self.choices)

    def records(self) -> list[dict[str, Any]]:
        """A row for each effort and model. Costs are exact; None is unknown."""
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
        """Each row with what was expected, and every effort's answer, score and trouble."""
        return build_frame(self._rows(range(len(self.task.rows))))

    def disagreements(self) -> Any:
        """The rows that some efforts got more right than others, the most telling first."""
        columns = [name for row in self._rows(range(len(self.task.rows))[:1]) for name in row]
        return build_frame(self._rows(self.disagreeing), columns or None)

    @property
    def disagreeing(self) -> list[int]:
        """The numbers of those rows."""
        spreads = [(compute_spread(self.choices, n), n) for n in range(len(self.task.rows))]
        return [n for found, n in sorted(spreads, key=lambda each: (-each[0], each[1])) if found]

    def plot(self, published: str = "") -> SweepPlot:
        """Accuracy against the cost of a row, with its intervals and the Pareto front.

        published: a benchmark of which figures are drawn beside, such as "AIME 2024". They are not
        measured here. Raises BadOption for one that is not known.
        """
        return SweepPlot(self.choices, find_published(published) if published else None)

    def table(self) -> TextTable:
        """What is shown of each effort; of rows that cost nothing only that."""
        free = all(choice.made_up and not choice.known_cost_nano_usd for choice in self.choices)
        kept = [n for n, name in enumerate(HEAD) if not (free and name in PAID)]
        lines = [HEAD, *map(format_cells, self.choices)]
        head, *shown = [[line[n] for n in kept] for line in lines]
        return TextTable(head, shown)

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the figures, one sentence each."""
        notes = [f"{visible(each)[:LONGEST_TROUBLE]}." for each in self.said]
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
                trouble = visible(choice.trouble)[:LONGEST_TROUBLE]
                notes.append(
                    f"{choice.unscored:,} answers at {choice.label} could not be scored and count "
                    f"as wrong; the first: {trouble}."
                )
        if self.task.without:
            notes.append(f"{self.task.without:,} rows have nothing expected and were not asked.")
        if found := len(self.disagreeing):
            rows = f"{found:,} of {len(self.task.rows):,} rows"
            notes.append(f"Efforts disagree on {rows}: .disagreements() shows them.")
        return notes

    def markdown(self) -> str:
        """The table, the recommendation and the notes, with everything in it escaped."""
        parts = [f"**{escaped(self._heading())}**", self.table().markdown()]
        parts.append(f"**Recommendation:** {escaped(visible(self.recommendation))}")
        parts.append(escaped(visible(" ".join(self.notes))))
        return "\n\n".join(filter(None, parts)) + "\n"

    def __str__(self) -> str:
        """The same in plain text."""
        said = f"Recommendation: {visible(self.recommendation)}"
        parts = [self._heading(), self.table().text(), said]
        return "\n".join([*parts, *map(visible, self.notes)])

    __repr__ = __str__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How a notebook shows it."""
        return {"text/markdown": self.markdown(), "text/plain": str(self)}

    def _heading(self) -> str:
        marks = sorted(self.made_up) + ["not complete"] * self.partial
        return f"What effort buys ({', '.join(marks)})" if marks else "What effort buys"

    def _rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        task, made = self.task, []
        for n in numbers:
            row: dict[str, Any] = {"row": task.places[n], **task.rows[n]}
            if not task.column:
                row[choose_name("expected", row)] = task.expected[n]
            for choice in self.choices:
                scored = choice.rows[n]
                mark = f" ({MADE_UP[scored.made_by]})" if scored.made_by in MADE_UP else ""
                row[choose_name(f"{choice.label} answer{mark}", row)] = scored.answer
                row[choose_name(f"{choice.label} score", row)] = scored.score
                row[choose_name(f"{choice.label} error", row)] = scored.trouble or None
            made.append(row)
        return made


def build_frame(records: list[dict[str, Any]], columns: Sequence[str] | None = None) -> Any:
    """Records as a DataFrame where there is pandas."""
    return frame(records, columns) if has_pandas() else records


def choose_name(name: str, taken: dict[str, Any]) -> str:
    """A name that no column has."""
    while name in taken:
        name = f"o3 {name}"
    return name


def compute_spread(choices: Sequence[VariantResult], n: int) -> float:
    """How far the scores of a row are apart."""
    scores = [score for choice in choices if (score := choice.rows[n].score) is not None]
    return max(scores) - min(scores) if scores else 0.0


def format_cells(choice: VariantResult) -> list[str]:
    """A line of the table."""
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
    """A cost in a cell."""
    if not choice.n:
        return "–"
    if choice.made_up and not amount:
        return f"$0 ({', '.join(sorted(choice.made_up))})"
    return show_usd(amount)


def format_total(choice: VariantResult) -> str:
    """The cost in all; at least, where some of it is unknown."""
    if choice.n and choice.cost_nano_usd is None and choice.known_cost_nano_usd:
        return f"at least {show_usd(choice.known_cost_nano_usd)}"
    return format_cost(choice, usd(choice.cost_nano_usd))


def format_number(value: float | None, digits: int) -> str:
    """A number in a cell."""
    return "unknown" if value is None else f"{value:,.{digits}f}"

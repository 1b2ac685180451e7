"""The rows of a sweep: what is expected of each, what came at one effort, and how right that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.rows.records import RowOutcome, StoredRow
from o3magic.rows.results import NOT_ASKED, ResultTable
from o3magic.rows.sources import RowSource
from o3magic.rows.sweep.scoring import Scorer, check_score, get_field, is_missing
from o3magic.schemas.lookup import AnswerType, SchemaMismatch

ExpectedRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SweepTask:
    """The rows that are asked, and what is expected of each.

    columns  what the prompt may use: what is expected is not among it
    places   where each stands among the rows that were given
    without  rows with nothing to score by, which are not asked
    """

    rows: Sequence[ExpectedRow]
    columns: Sequence[ExpectedRow]
    expected: Sequence[Any]
    places: Sequence[int]
    column: str = ""
    without: int = 0


def build_task(source: RowSource, expected: Any) -> SweepTask:
    """The task in the rows. Raises BadOption where they and what is expected do not fit."""
    rows = [*source.rows]
    column = expected if isinstance(expected, str) else ""
    values = list_expected(rows, source.columns, expected)
    known = [n for n, value in enumerate(values) if expected is None or not is_missing(value)]
    if rows and not known:
        raise BadOption("no row has anything expected", hint="expected= names a column with values")
    asked = [rows[n] for n in known]
    hidden = [{name: v for name, v in row.items() if name != column} for row in asked]
    right = [values[n] for n in known]
    return SweepTask(asked, hidden, right, known, column, len(rows) - len(known))


def list_expected(
    rows: Sequence[ExpectedRow], columns: Sequence[str], expected: Any
) -> Sequence[Any]:
    """What is expected of each row. Raises BadOption."""
    if expected is None:
        return [None] * len(rows)
    if isinstance(expected, str):
        if rows and expected not in columns:
            hint = did_you_mean(expected, columns, f"the columns are {', '.join(columns)}")
            raise BadOption(f"expected={expected!r}: there is no such column", hint=hint)
        return [row.get(expected) for row in rows]
    if callable(expected):
        return [call_expected(expected, row, number) for number, row in enumerate(rows)]
    if not isinstance(expected, Iterable) or isinstance(expected, Mapping | bytes):
        raise BadOption(
            f"expected cannot be a {type(expected).__name__}",
            hint="a column, a list with a value for each row, or a function of a row",
        )
    values = [*expected]
    if len(values) != len(rows):
        raise BadOption(f"expected has {len(values):,} values for {len(rows):,} rows")
    return values


def call_expected(expected: Callable[[ExpectedRow], Any], row: ExpectedRow, number: int) -> Any:
    """What the user's function expects of a row. Raises BadOption."""
    try:
        return expected(row)
    except Exception as error:
        said = f"expected of row {number}: {type(error).__name__}: {error}"
        raise BadOption(said, hint="None for a row that cannot be scored") from error


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """What came of one row at one effort.

    answer    text, or fields as JSON has them; None where none came
    score     from 0 to 1; None for a row that was not asked
    trouble   why there is no answer, or why it could not be scored
    charged   its cost is counted here, and not with a row like it
    made_by   live or simulated, also of an answer that was replayed
    """

    answer: Any = None
    score: float | None = None
    answered: bool = False
    unscored: bool = False
    trouble: str = ""
    charged: bool = False
    cost_nano_usd: int | None = None
    elapsed_s: float | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    made_by: str = ""
    replayed: bool = False

    @property
    def asked(self) -> bool:
        """Whether it counts: asked, or impossible to ask."""
        return self.score is not None


class ScoredTable(ResultTable):
    """The rows of a job as they are kept, instead of a table of their fields."""

    def __init__(self, wanted: AnswerType | None, *, flatten: bool) -> None:
        super().__init__(wanted, flatten=flatten)
        self.rows: list[tuple[StoredRow | RowOutcome | None, str | None, bool]] = []

    def add(self, row: StoredRow | RowOutcome | None, error: str | None, *, charged: bool) -> None:
        """The next row."""
        self.rows.append((row, error, charged))
        self.errors += error is not None

    def result(self, source: RowSource) -> Any:
        """Itself."""
        return self


class RowScorer:
    """Scores the rows of a task. compare: a scorer that has a name; else `own`, the user's."""

    def __init__(
        self,
        task: SweepTask,
        wanted: AnswerType | None,
        compare: Callable[[Any, Any], float] | None,
        own: Scorer | None,
    ) -> None:
        self._task, self._wanted, self._compare, self._own = task, wanted, compare, own

    def scored(self, collected: ScoredTable | None) -> list[ScoredRow]:
        """Each row of the task. Rows that are not there were not asked."""
        rows = collected.rows if collected is not None else []
        count = len(self._task.rows)
        lacking = [(None, NOT_ASKED, False)] * (count - len(rows))
        return [self._row(n, *each) for n, each in enumerate([*rows, *lacking][:count])]

    def _row(
        self, n: int, row: StoredRow | RowOutcome | None, error: str | None, charged: bool
    ) -> ScoredRow:
        if row is None:
            asked = not (error or NOT_ASKED).startswith(NOT_ASKED)
            return ScoredRow(score=0.0 if asked else None, trouble=error or NOT_ASKED)
        said = row.said if isinstance(row, StoredRow) else dict(row.answer or {})
        usage = row if isinstance(row, StoredRow) else row.usage
        answered = row.state == "done"
        answer = said.get("data", said.get("text", "")) if answered else None
        trouble = error or row.error or ""
        score, unscored = 0.0, False
        if answered:
            try:
                score = self._score(n, said, answer)
            except Exception as fault:
                unscored = True
                trouble = f"not scored: {type(fault).__name__}: {fault}"
        elapsed_ms = said.get("elapsed_ms")
        return ScoredRow(
            answer=answer,
            score=score,
            answered=answered,
            unscored=unscored,
            trouble=trouble,
            charged=charged,
            cost_nano_usd=row.cost_nano_usd,
            elapsed_s=None if elapsed_ms is None else elapsed_ms / 1000,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            made_by=said.get("made_by") or ("simulated" if row.source == "simulated" else "live"),
            replayed=row.source == "replayed",
        )

    def _score(self, n: int, said: Mapping[str, Any], answer: Any) -> float:
        """How right an answer is. Raises what the scorer raises."""
        expected, column = self._task.expected[n], self._task.column
        if self._compare is not None:
            return check_score(self._compare(get_field(answer, column), expected))
        assert self._own is not None
        row = dict(self._task.rows[n])
        if expected is not None:
            row.setdefault("expected", expected)
        return check_score(self._own(self._object(said, answer), row))

    def _object(self, said: Mapping[str, Any], answer: Any) -> Any:
        """An answer as the user's own class."""
        if self._wanted is None or answer is None:
            return answer
        try:
            return self._wanted.validate(said.get("text", ""))
        except SchemaMismatch:  # the class has changed since
            return answer

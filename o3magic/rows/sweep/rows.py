"""The rows of a sweep: the expected value of each, and for each variant its answer and score."""

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

InputRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SweepTask:
    """The rows that are asked, and the expected value of each.

    inputs   the rows as the prompt sees them, without the expected column
    indexes  of the rows among those that were given
    column   the name of the expected column, or ""
    skipped  the number of rows without an expected value, which are not asked
    """

    rows: Sequence[InputRow]
    inputs: Sequence[InputRow]
    expected: Sequence[Any]
    indexes: Sequence[int]
    column: str = ""
    skipped: int = 0


def build_task(source: RowSource, expected: Any) -> SweepTask:
    """The task of some rows. Raises BadOption where `expected` does not fit them."""
    rows = [*source.rows]
    column = expected if isinstance(expected, str) else ""
    values = list_expected(rows, source.columns, expected)
    indexes = [n for n, value in enumerate(values) if expected is None or not is_missing(value)]
    if rows and not indexes:
        hint = "expected= names a column with values"
        raise BadOption("no row has an expected value", hint=hint)
    asked = [rows[n] for n in indexes]
    inputs = [{name: v for name, v in row.items() if name != column} for row in asked]
    wanted = [values[n] for n in indexes]
    return SweepTask(asked, inputs, wanted, indexes, column, len(rows) - len(indexes))


def list_expected(rows: Sequence[InputRow], columns: Sequence[str], expected: Any) -> Sequence[Any]:
    """The expected value of each row. Raises BadOption."""
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


def call_expected(expected: Callable[[InputRow], Any], row: InputRow, number: int) -> Any:
    """The result of the user's function on a row. Raises BadOption where it fails."""
    try:
        return expected(row)
    except Exception as error:
        raise BadOption(
            f"expected of row {number}: {type(error).__name__}: {error}",
            hint="None for a row that cannot be scored",
        ) from error


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """The answer to one row by one variant, with its score.

    answer    text, or fields as JSON has them; None where there is no answer
    score     from 0 to 1; None for a row that was not asked
    unscored  the scorer failed on it
    trouble   why there is no answer, or why it could not be scored
    charged   its cost is counted here, and not with an identical row
    made_by   live, simulated or hand, also where the answer was replayed
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
        """Whether it counts: it was asked, or its prompt could not be built."""
        return self.score is not None


class ScoredTable(ResultTable):
    """Collects the rows of a job as they are stored, instead of building a DataFrame."""

    def __init__(self, wanted: AnswerType | None, *, flatten: bool) -> None:
        super().__init__(wanted, flatten=flatten)
        self.rows: list[tuple[StoredRow | RowOutcome | None, str | None, bool]] = []

    def add(self, row: StoredRow | RowOutcome | None, error: str | None, *, charged: bool) -> None:
        self.rows.append((row, error, charged))
        self.errors += error is not None

    def result(self, source: RowSource) -> Any:
        return self


class RowScorer:
    """Scores the rows of a task, by `compare` (a named scorer) or by `own`, the user's function."""

    def __init__(
        self,
        task: SweepTask,
        wanted: AnswerType | None,
        compare: Callable[[Any, Any], float] | None,
        own: Scorer | None,
    ) -> None:
        self._task, self._wanted, self._compare, self._own = task, wanted, compare, own

    def score_rows(self, table: ScoredTable | None) -> list[ScoredRow]:
        """The score of each row of the task. Rows that the table lacks were not asked."""
        rows = table.rows if table is not None else []
        count = len(self._task.rows)
        not_asked = [(None, NOT_ASKED, False)] * (count - len(rows))
        return [self._score_row(n, *row) for n, row in enumerate([*rows, *not_asked][:count])]

    def _score_row(
        self, n: int, row: StoredRow | RowOutcome | None, error: str | None, charged: bool
    ) -> ScoredRow:
        if row is None:
            asked = not (error or NOT_ASKED).startswith(NOT_ASKED)
            return ScoredRow(score=0.0 if asked else None, trouble=error or NOT_ASKED)
        stored = row.said if isinstance(row, StoredRow) else dict(row.answer or {})
        usage = row if isinstance(row, StoredRow) else row.usage
        answered = row.state == "done"
        answer = stored.get("data", stored.get("text", "")) if answered else None
        trouble = error or row.error or ""
        score, unscored = 0.0, False
        if answered:
            try:
                score = self._score(n, stored, answer)
            except Exception as failure:
                unscored = True
                trouble = f"not scored: {type(failure).__name__}: {failure}"
        elapsed_ms = stored.get("elapsed_ms")
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
            made_by=stored.get("made_by") or ("simulated" if row.source == "simulated" else "live"),
            replayed=row.source == "replayed",
        )

    def _score(self, n: int, stored: Mapping[str, Any], answer: Any) -> float:
        """The score of an answer. Raises what the scorer raises."""
        expected, column = self._task.expected[n], self._task.column
        if self._compare is not None:
            return check_score(self._compare(get_field(answer, column), expected))
        assert self._own is not None
        row = dict(self._task.rows[n])
        if expected is not None:
            row.setdefault("expected", expected)
        return check_score(self._own(self._parse(stored, answer), row))

    def _parse(self, stored: Mapping[str, Any], answer: Any) -> Any:
        """An answer as an instance of the user's class."""
        if self._wanted is None or answer is None:
            return answer
        try:
            return self._wanted.validate(stored.get("text", ""))
        except SchemaMismatch:  # the class was changed since
            return answer

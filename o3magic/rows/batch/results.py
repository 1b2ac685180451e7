"""The results of a batch as a table: the one that `o3.map` gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from o3magic.errors import BadOption
from o3magic.rows.map_job import MapOptions, map_rows
from o3magic.rows.progress import ProgressDisplay
from o3magic.rows.records import RowOutcome, StoredRow
from o3magic.rows.results import ResultTable
from o3magic.rows.sources import RowSource, source_of
from o3magic.rows.store import JobStore
from o3magic.schemas.lookup import AnswerType
from o3magic.session.session import Session


def rows_without_answer(
    kept: Mapping[int, StoredRow | RowOutcome], rows: Any, given: Any, total: int | None
) -> dict[int, dict[str, Any]]:
    """The rows of the input whose place has no answer that fits, by place. Raises BadOption.

    total: of how many rows the job was made.
    """
    said = given if rows is None else rows
    if said is None or hasattr(said, "__next__"):
        raise BadOption(
            "the rows are not here any more: the file of jobs keeps none",
            hint="job.retry(rows) and job.failed_rows(rows) take the same rows again",
        )
    source: RowSource = source_of(said)
    if source.total is not None and source.total != (total or len(kept)):
        raise BadOption(
            f"these are {source.total:,} rows, and the job was made of {total or len(kept):,}",
            hint="give the same rows in the same order",
        )
    return {
        place: dict(row)
        for place, row in enumerate(source.rows)
        if place in kept and kept[place].state != "done"
    }


def ask_rows(
    session: Session,
    store: JobStore,
    rows: Any,
    prompt: str,
    options: Mapping[str, Any],
    show: ProgressDisplay,
) -> int:
    """Ask rows one by one, now; gives the id of the job that holds their answers."""
    wish, rest = MapOptions.among(options)
    map_rows(session, store, rows, prompt, wish=wish, show=show, **rest)
    return store.job(wish.name).id


NOT_YET = "not answered yet: the batch goes on"


def build_results(
    rows: Iterable[tuple[int, StoredRow | RowOutcome]],
    wanted: AnswerType | None,
    given: Any = None,
    *,
    flatten: bool = False,
) -> Any:
    """A row for each row of the input, in its order. given: the input, where it is still here."""
    table = ResultTable(wanted, flatten=flatten)
    charged: set[str] = set()
    for _, row in rows:
        error = f"{row.error_kind}: {row.error}" if row.error else None
        if row.state == "open":
            error = NOT_YET
        table.add(row, error, charged=row.key not in charged)
        charged.add(row.key)
    return table.result(build_source(given))


def build_source(given: Any) -> RowSource:
    """The input, for its index and its library; an iterator has been read and has neither."""
    if given is None or hasattr(given, "__next__"):
        return RowSource(iter(()), ())
    return source_of(given)

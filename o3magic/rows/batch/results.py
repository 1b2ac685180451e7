"""The results of a batch as a table, as `o3.map` gives them, and the rows without an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from o3magic.errors import BadOption
from o3magic.rows.map_job import MapOptions, map_rows
from o3magic.rows.progress import ProgressDisplay
from o3magic.rows.records import RowOutcome, StoredRow
from o3magic.rows.results import ResultTable
from o3magic.rows.sources import RowSource, read_source
from o3magic.rows.store import JobStore
from o3magic.schemas.lookup import AnswerType
from o3magic.session.session import Session

NOT_YET = "not answered yet: the batch goes on"


def build_results(
    rows: Iterable[tuple[int, StoredRow | RowOutcome]],
    wanted: AnswerType | None,
    given: Any = None,
    *,
    flatten: bool = False,
) -> Any:
    """A row for each row of the input, in its order. given: the input, or None."""
    table = ResultTable(wanted, flatten=flatten)
    charged: set[str] = set()
    for _, row in rows:
        error = f"{row.error_kind}: {row.error}" if row.error else None
        if row.state == "open":
            error = NOT_YET
        table.add(row, error, charged=row.key not in charged)
        charged.add(row.key)
    if is_consumed(given):
        return table.result(RowSource(iter(()), ()))
    return table.result(read_source(given))


def is_consumed(given: Any) -> bool:
    """Whether the input is missing, or an iterator, which has been read."""
    return given is None or hasattr(given, "__next__")


def find_unanswered_rows(
    stored: Mapping[int, StoredRow | RowOutcome], rows: Any, given: Any, total: int | None
) -> dict[int, dict[str, Any]]:
    """The rows of the input that have no valid answer, by index. Raises BadOption.

    total: the number of rows that the job was made of.
    """
    rows = given if rows is None else rows
    if is_consumed(rows):
        raise BadOption(
            "the rows are not here any more: the file of jobs keeps none",
            hint="job.retry(rows) and job.failed_rows(rows) take the same rows again",
        )
    source: RowSource = read_source(rows)
    total = total or len(stored)
    if source.total is not None and source.total != total:
        raise BadOption(
            f"these are {source.total:,} rows, and the job was made of {total:,}",
            hint="give the same rows in the same order",
        )
    return {
        index: dict(row)
        for index, row in enumerate(source.rows)
        if index in stored and stored[index].state != "done"
    }


def ask_rows(
    session: Session,
    store: JobStore,
    rows: Any,
    prompt: str,
    options: Mapping[str, Any],
    show: ProgressDisplay,
) -> int:
    """Ask rows by `o3.map`. Returns the id of the job that holds their answers."""
    map_options, rest = MapOptions.among(options)
    map_rows(session, store, rows, prompt, wish=map_options, show=show, **rest)
    return store.job(map_options.name).id

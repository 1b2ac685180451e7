"""Rows of a batch that have no answer, given back as rows and asked once more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from o3magic.errors import BadOption
from o3magic.jobs.mapping import Wish, map_rows
from o3magic.jobs.progress import Show
from o3magic.jobs.rows import Answered, Ending
from o3magic.jobs.source import Source, source_of
from o3magic.jobs.store import JobStore
from o3magic.talk.session import Session


def rows_without_answer(
    kept: Mapping[int, Answered | Ending], rows: Any, given: Any, total: int | None
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
    source: Source = source_of(said)
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


def ask_again(
    session: Session,
    store: JobStore,
    rows: Any,
    prompt: str,
    options: Mapping[str, Any],
    show: Show,
) -> int:
    """Ask rows one by one, now; gives the id of the job that holds their answers."""
    wish, rest = Wish.among(options)
    map_rows(session, store, rows, prompt, wish=wish, show=show, **rest)
    return store.job(wish.name).id

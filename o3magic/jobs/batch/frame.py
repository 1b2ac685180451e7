"""The results of a batch as a table: the one that `o3.map` gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from o3magic.jobs.rows import Answered, Ending
from o3magic.jobs.source import Source, source_of
from o3magic.jobs.table import Table
from o3magic.schemas.lookup import AnswerType

NOT_YET = "not answered yet: the batch goes on"


def results(
    rows: Iterable[tuple[int, Answered | Ending]],
    wanted: AnswerType | None,
    given: Any = None,
    *,
    flatten: bool = False,
) -> Any:
    """A row for each row of the input, in its order. given: the input, where it is still here."""
    table = Table(wanted, flatten=flatten)
    charged: set[str] = set()
    for _, row in rows:
        error = f"{row.error_kind}: {row.error}" if row.error else None
        if row.state == "open":
            error = NOT_YET
        table.add(row, error, charged=row.key not in charged)
        charged.add(row.key)
    return table.result(shape_of(given))


def shape_of(given: Any) -> Source:
    """The input, for its index and its library; an iterator has been read and has neither."""
    if given is None or hasattr(given, "__next__"):
        return Source(iter(()), ())
    return source_of(given)

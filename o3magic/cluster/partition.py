"""One partition of rows that are in the cluster: rendered, asked, and made a table, where it is.

The answers are in the caller's file of jobs as well: a partition that is computed again, by
whomever, finds them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from o3magic.cluster.columns import LazyTable
from o3magic.cluster.door import in_task
from o3magic.cluster.letters import Known, Spec, Task
from o3magic.cluster.rows_here import RowsHere
from o3magic.cluster.station import Branch
from o3magic.errors import O3Error
from o3magic.jobs.desk import Ask
from o3magic.jobs.form import Form
from o3magic.jobs.mapping import checked_source, filling_of
from o3magic.jobs.rows import Answered, Ending
from o3magic.jobs.source import Source, source_of
from o3magic.jobs.table import why
from o3magic.jobs.tally import Halt

PARTITION = 1 << 32  # places of a partition: they follow those of the one before


class Rendered:
    """The rows of a partition: the key of each, or why it has none, and what is to be asked."""

    def __init__(self, spec: Spec, form: Form, source: Source, first: int) -> None:
        self.keys: list[str | None] = []
        self.local: dict[int, O3Error] = {}
        self.asks: dict[str, Ask] = {}
        filling = filling_of(spec.prompt, source, spec.plan.profile, Path(spec.folder))
        for place, row in enumerate(checked_source(source, filling).rows):
            try:
                prompt = filling.fill(row)
                form.check(prompt)
                key = form.key(prompt)
            except O3Error as error:
                if spec.stop_at_error:
                    raise
                self.local[place] = error
                self.keys.append(None)
                continue
            self.keys.append(key)
            self.asks.setdefault(key, Ask(key, first + place, prompt))


class Asked:
    """What came of a partition."""

    def __init__(self, rows: RowsHere, known: Known, more: Known) -> None:
        self.found: dict[str, Answered | Ending] = {row.key: row for row in known.rows}
        self.found |= {row.key: row for row in more.rows}
        self.found |= rows.endings
        self.charged, self.halt = known.charged, rows.halt


async def ask(branch: Branch, task: Task, rendered: Rendered) -> Asked:
    """Ask what is not answered yet."""
    rows = RowsHere(branch, task, await branch.opened())
    try:
        known = await rows.read([*rendered.asks], task)
        there = {row.key for row in known.rows}
        await rows.ask([each for key, each in rendered.asks.items() if key not in there])
        more = await rows.read([*rows.elsewhere]) if rows.elsewhere else Known([], set())
        return Asked(rows, known, more)
    finally:
        await rows.close()


def table_of_partition(job: str, rows: Any) -> LazyTable:
    """The table of a partition, in the task that runs here. Raises what stopped it."""
    run, task = in_task(job)
    spec, form, _ = run(lambda branch: branch.opened())
    rendered = Rendered(spec, form, source_of(rows), task.number * PARTITION)
    asked: Asked = run(lambda branch: ask(branch, task, rendered))
    halt = asked.halt
    if halt is not None and halt.why != "budget":
        raise halt.error or O3Error("these rows are not wanted any more")
    return filled(LazyTable(spec.plan.answer_type, flatten=spec.flatten), rendered, asked, halt)


def filled(table: LazyTable, rendered: Rendered, asked: Asked, halt: Halt | None) -> LazyTable:
    """The table of rows that were asked."""
    counted: set[str] = set()
    for place, key in enumerate(rendered.keys):
        if key is None:
            error = rendered.local[place]
            table.add(None, f"{type(error).__name__}: {error}", charged=False)
            continue
        row = asked.found.get(key)
        if row is None or row.state == "open":
            table.add(None, why(halt, row), charged=False)
            continue
        said = f"{row.error_kind}: {row.error}" if row.error else None
        table.add(row, said, charged=key in asked.charged and key not in counted)
        counted.add(key)
    return table


def frame_of_partition(rows: Any, job: str) -> Any:
    """The task for a partition of a DataFrame."""
    return table_of_partition(job, rows).frame(rows.index)


def dicts_of_partition(rows: Any, job: str) -> Sequence[dict[str, Any]]:
    """The task for a partition of a bag."""
    return table_of_partition(job, [*rows]).dicts()

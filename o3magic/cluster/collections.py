"""The door of `dask`: its DataFrames and bags, which stay lazy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from o3magic.cluster.messages import DaskTask, JobSpec, KnownRows
from o3magic.cluster.plugin import in_task
from o3magic.cluster.worker import WorkerJob
from o3magic.cluster.worker_run import ChunkRun
from o3magic.dataframes import fixed_frame
from o3magic.errors import BadOption, O3Error
from o3magic.rows.context import PendingRow, StopReason
from o3magic.rows.map_job import build_prompt_template, check_columns
from o3magic.rows.records import RowOutcome, StoredRow
from o3magic.rows.results import (
    OWN_COLUMNS,
    ResultTable,
    format_unanswered,
    get_column_kind,
    get_fields,
)
from o3magic.rows.row_template import RequestTemplate
from o3magic.rows.sources import RowSource, read_frame, read_source
from o3magic.schemas.lookup import AnswerType
from o3magic.session.comparison import flatten_fields
from o3magic.wire.optional_fields import resolve_refs

MOST_DEPTH = 8
OWN_KINDS = {"error": "text", "cost_usd": "number"}


class LazyTable(ResultTable):
    """A table whose columns are known before its rows are."""

    def __init__(self, wanted: AnswerType | None, *, flatten: bool) -> None:
        super().__init__(wanted, flatten=flatten)
        self._whole = wanted is not None and not is_object(wanted)
        self.kinds = fields_of(wanted, flatten=flatten)
        self._fields = {name: [] for name in self.kinds}
        own = {name: OWN_KINDS.get(name, "integer") for name in OWN_COLUMNS}
        self.kinds |= {f"o3_{n}" if n in self._fields else n: kind for n, kind in own.items()}

    def _values(self, row: StoredRow | RowOutcome) -> dict[str, Any]:
        """What an answer says, by column."""
        if self._wanted is None:
            return super()._values(row)
        said = row.said if isinstance(row, StoredRow) else row.answer or {}
        data = said.get("data")
        if self._whole or not isinstance(data, Mapping):
            return {"value": data}
        found = flatten_fields(data) if self._flatten else data
        return {name: value for name, value in found.items() if name in self._fields}

    def frame(self, index: Any = None) -> Any:
        """A pandas DataFrame, its columns of the types they always have."""
        return fixed_frame(self.columns(), self.kinds, index)

    def dicts(self) -> list[dict[str, Any]]:
        """Each row as a dict."""
        columns = self.columns()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def is_object(wanted: AnswerType) -> bool:
    """Whether an answer has fields."""
    root = resolve_refs(wanted.schema, wanted.schema.get("$defs", {}))
    return root.get("type") == "object" and bool(root.get("properties"))


def fields_of(wanted: AnswerType | None, *, flatten: bool) -> dict[str, str]:
    """The fields of an answer by name, each with the kind of its column."""
    if wanted is None:
        return {"text": "text"}
    definitions = wanted.schema.get("$defs", {})
    found: dict[str, str] = {}
    for name, field in get_fields(wanted).items():
        found |= flat_fields(name, field, definitions, MOST_DEPTH if flatten else 0)
    return found


def flat_fields(
    name: str, field: Mapping[str, Any], definitions: Mapping[str, Any], depth: int
) -> dict[str, str]:
    """A field, or the fields within it by their whole names."""
    choices = [c for c in field.get("anyOf", [field]) if c.get("type") != "null"]
    inner = resolve_refs(choices[0], definitions) if len(choices) == 1 else {}
    below = inner.get("properties") if inner.get("type") == "object" else None
    if not depth or not below:
        return {name: kind_of_column(field, definitions)}
    found: dict[str, str] = {}
    for each, said in below.items():
        whole = resolve_refs(said, definitions)
        found |= flat_fields(f"{name}.{each}", whole, definitions, depth - 1)
    return found


def kind_of_column(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What kind of column a field makes: text, integer, number, boolean, date, moment, object."""
    choices = [c for c in field.get("anyOf", [field]) if c.get("type") != "null"]
    if len(choices) != 1:
        return "object"
    one = resolve_refs(choices[0], definitions)
    kind = get_column_kind(one)
    if kind == "moment" and one.get("format") == "date":
        return "date"
    return kind or ("text" if one.get("type") == "string" else "object")


PARTITION = 1 << 32  # places of a partition: they follow those of the one before


class RenderedPartition:
    """The rows of a partition: the key of each, or why it has none, and what is to be asked."""

    def __init__(self, spec: JobSpec, form: RequestTemplate, source: RowSource, first: int) -> None:
        self.keys: list[str | None] = []
        self.local: dict[int, O3Error] = {}
        self.asks: dict[str, PendingRow] = {}
        filling = build_prompt_template(spec.prompt, source, spec.plan.profile, Path(spec.folder))
        for place, row in enumerate(check_columns(source, filling).rows):
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
            self.asks.setdefault(key, PendingRow(key, first + place, prompt))


class PartitionResult:
    """What came of a partition."""

    def __init__(self, rows: ChunkRun, known: KnownRows, more: KnownRows) -> None:
        self.found: dict[str, StoredRow | RowOutcome] = {row.key: row for row in known.rows}
        self.found |= {row.key: row for row in more.rows}
        self.found |= rows.endings
        self.charged, self.halt = known.charged, rows.halt


async def ask(branch: WorkerJob, task: DaskTask, rendered: RenderedPartition) -> PartitionResult:
    """Ask what is not answered yet."""
    rows = ChunkRun(branch, task, await branch.opened())
    try:
        known = await rows.read([*rendered.asks], task)
        there = {row.key for row in known.rows}
        await rows.ask([each for key, each in rendered.asks.items() if key not in there])
        more = await rows.read([*rows.elsewhere]) if rows.elsewhere else KnownRows([], set())
        return PartitionResult(rows, known, more)
    finally:
        await rows.close()


def table_of_partition(job: str, rows: Any) -> LazyTable:
    """The table of a partition, in the task that runs here. Raises what stopped it."""
    run, task = in_task(job)
    spec, form, _ = run(lambda branch: branch.opened())
    rendered = RenderedPartition(spec, form, read_source(rows), task.number * PARTITION)
    asked: PartitionResult = run(lambda branch: ask(branch, task, rendered))
    halt = asked.halt
    if halt is not None and halt.why != "budget":
        raise halt.error or O3Error("these rows are not wanted any more")
    return filled(LazyTable(spec.plan.answer_type, flatten=spec.flatten), rendered, asked, halt)


def filled(
    table: LazyTable, rendered: RenderedPartition, asked: PartitionResult, halt: StopReason | None
) -> LazyTable:
    """The table of rows that were asked."""
    counted: set[str] = set()
    for place, key in enumerate(rendered.keys):
        if key is None:
            error = rendered.local[place]
            table.add(None, f"{type(error).__name__}: {error}", charged=False)
            continue
        row = asked.found.get(key)
        if row is None or row.state == "open":
            table.add(None, format_unanswered(halt, row), charged=False)
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


def lazy(rows: Any) -> bool:
    """Whether rows are a collection of Dask."""
    return hasattr(rows, "__dask_graph__")


def looked_at(rows: Any) -> RowSource:
    """What is known of lazy rows: the columns, and for a DataFrame a row that is made up.

    Raises BadOption for what is neither a DataFrame nor a bag.
    """
    if is_bag(rows):
        return RowSource(iter(()), ())
    if is_frame(rows):
        known = read_frame(rows._meta_nonempty)
        return RowSource(first(known), known.columns)
    raise BadOption(
        f"rows cannot be a Dask {type(rows).__name__}",
        hint="a dask DataFrame, a bag of dicts, or rows.compute()",
    )


def first(source: RowSource) -> Iterator[Any]:
    """Only the first row."""
    for row in source.rows:
        yield row
        return


def answered(rows: Any, job: str, table: LazyTable) -> Any:
    """The lazy collection of answers: table has the columns, and no row."""
    if is_bag(rows):
        return rows.map_partitions(dicts_of_partition, job)
    meta = table.frame(rows._meta.index)
    return rows.map_partitions(frame_of_partition, job, meta=meta, align_dataframes=False)


def is_bag(rows: Any) -> bool:
    """Whether it is a bag."""
    return isinstance(rows, import_module("dask.bag").Bag)


def is_frame(rows: Any) -> bool:
    """Whether it is a DataFrame."""
    try:
        return isinstance(rows, import_module("dask.dataframe").DataFrame)
    except ImportError:
        return False

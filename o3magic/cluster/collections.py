"""The door of `dask`: its DataFrames and bags, which stay lazy."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from o3magic.cluster.columns import LazyTable
from o3magic.cluster.partition import dicts_of_partition, frame_of_partition
from o3magic.errors import BadOption
from o3magic.jobs.source import Source, of_frame


def lazy(rows: Any) -> bool:
    """Whether rows are a collection of Dask."""
    return hasattr(rows, "__dask_graph__")


def looked_at(rows: Any) -> Source:
    """What is known of lazy rows: the columns, and for a DataFrame a row that is made up.

    Raises BadOption for what is neither a DataFrame nor a bag.
    """
    if is_bag(rows):
        return Source(iter(()), ())
    if is_frame(rows):
        known = of_frame(rows._meta_nonempty)
        return Source(first(known), known.columns)
    raise BadOption(
        f"rows cannot be a Dask {type(rows).__name__}",
        hint="a dask DataFrame, a bag of dicts, or rows.compute()",
    )


def first(source: Source) -> Iterator[Any]:
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

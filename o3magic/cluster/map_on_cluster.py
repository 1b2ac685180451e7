"""`o3.map(..., client=)`: rows asked by the workers of a Dask cluster; the books stay here."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from typing import Any

from o3magic.errors import BadOption
from o3magic.events import LABELS
from o3magic.rows.map_job import (
    MapOptions,
    RunnerFactory,
    map_with_session,
    notebook_folder,
    open_cassette,
    open_job_store,
    prepare_job,
    resolve_settings,
)
from o3magic.rows.progress import JobProgress, ProgressDisplay
from o3magic.rows.runner import RowRunner
from o3magic.session.session import Session

OpenConnection = Callable[[], AbstractContextManager[None]]


def map_on(
    client: Any,
    session: Session,
    rows: Any,
    prompt: str,
    options: Mapping[str, Any],
    show: ProgressDisplay,
    opened: OpenConnection,
) -> Any:
    """What `o3.map` gives: the table, or for rows of Dask what is lazy as they are.

    client: None where the rows are asked from here. options: those of `map_in`. opened: work that
    uses the session, and closes it where nobody else does. Raises BadOption where there is no
    Dask, no such client, or no o3magic in its cluster.
    """
    if client is None:
        with opened():
            return map_with_session(session, rows, prompt, options, show)
    if not hasattr(rows, "__dask_graph__"):
        said = {**options, "runs": partial(runs_on, client, session)}
        with opened():
            return map_with_session(session, rows, prompt, said, show)
    try:
        return lazily(client, session, rows, prompt, options, show, opened)
    except BaseException:
        with opened():  # no books are kept: what was opened is closed
            raise


def runs_on(client: Any, session: Session) -> RunnerFactory:
    """Who asks rows that are here: the workers. Raises BadOption."""
    cluster = door().ready(client, secrets.token_hex(8))
    from o3magic.cluster.run import ClusterRun

    return partial(ClusterRun, cluster, session)


def lazily(
    client: Any,
    session: Session,
    rows: Any,
    prompt: str,
    options: Mapping[str, Any],
    show: ProgressDisplay,
    opened: OpenConnection,
) -> Any:
    """The lazy collection of answers to lazy rows. Nothing is asked here."""
    wish, rest = MapOptions.among(options)
    wish = wish.checked()
    schema, names = rest.pop("schema", None), rest.pop("names", None)
    profile, _ = resolve_settings(session, schema, names, rest)
    if open_cassette(session, profile, can_ask=True) is not None:
        raise BadOption(
            "rows of Dask that stay lazy are neither recorded nor replayed",
            hint="give rows.compute() to o3.map, or ask them with mode='live'",
        )
    cluster = door().ready(client, secrets.token_hex(8))
    from o3magic.cluster.collections import LazyTable, answered, looked_at
    from o3magic.cluster.lazy_caller import LazyCallerService
    from o3magic.cluster.run import packed_spec

    source = looked_at(rows)
    said = (prompt, schema, names, wish, rest)
    # Its rows are asked by nobody but the workers, whose keys are their own.
    ready = prepare_job(session, open_job_store(session), source, *said, runs=lambda: RowRunner)
    spec = packed_spec(
        session,
        ready.work.form,
        ready.work.chosen,
        prompt=ready.text,
        folder=notebook_folder(session, profile),
        flatten=wish.flatten,
    )
    table = LazyTable(ready.work.form.plan.answer_type, flatten=wish.flatten)
    LazyCallerService(session, ready, cluster, spec, opened).start()
    if ready.work.form.plan.call.provider.embedded:
        show.update(
            JobProgress(over=True, said=f"{LABELS['simulated']}; asked when it is computed")
        )
    return answered(rows, cluster.job, table)


def door() -> Any:
    """The door of Dask. Raises BadOption where it is not installed."""
    try:
        return import_module("o3magic.cluster.plugin")
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("dask", "distributed"):
            raise
        raise BadOption(
            f"client= needs Dask, and there is no {error.name}",
            hint="pip install 'o3magic[dask]', here and on every worker",
        ) from None

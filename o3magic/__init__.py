"""OpenAI's reasoning models as a native part of a notebook.

`%load_ext o3magic`, then a `%%o3` cell is a prompt. In Python: `import o3magic as o3`, then
`o3.ask(prompt, ...)`, `o3.stream(...)`, `@o3.schema`, `o3.Session`.

This is the face; nothing inside imports it, and it loads what it names only when it is used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from o3magic.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from IPython.core.interactiveshell import InteractiveShell

    from o3magic.errors import O3Error as O3Error
    from o3magic.events import Answer as Answer
    from o3magic.events import Event
    from o3magic.events import Usage as Usage
    from o3magic.notebook.panel import Panel
    from o3magic.notebook.sweep import sweep as sweep
    from o3magic.reports.report import CostReport
    from o3magic.rows.batch.context import BatchContext
    from o3magic.rows.batch.registry import AnyBatch, AnyJob
    from o3magic.rows.progress import ProgressDisplay
    from o3magic.session.comparison import Comparison as Comparison
    from o3magic.session.session import Session as Session

T = TypeVar("T")

HOMES = {
    "Answer": "o3magic.events",
    "Comparison": "o3magic.session.comparison",
    "O3Error": "o3magic.errors",
    "Session": "o3magic.session.session",
    "Usage": "o3magic.events",
    "sweep": "o3magic.notebook.sweep",
    "tool": "o3magic.tools.function",
}

__all__ = [
    "Answer",
    "Comparison",
    "O3Error",
    "Session",
    "Usage",
    "__version__",
    "aask",
    "ask",
    "astream",
    "batch",
    "compare",
    "costs",
    "job",
    "jobs",
    "map",
    "panel",
    "prompt",
    "schema",
    "stream",
    "sweep",
    "tool",
]


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'o3magic' has no attribute {name!r}")


def ask(prompt: str, *, schema: Any = None, **options: Any) -> Answer:
    """Ask and wait for the `Answer`.

    schema: a type, or the name of a registered one; then `answer.parsed` is an object of it.
    names: what `{{ name }}` in the prompt is filled in from. tools: functions it may call. The
    other options are those of `%%o3` by their long names: effort, model, provider, api, developer,
    summary, max_output_tokens, ... In IPython the settings and the books are the shell's own; in
    plain Python each call has its own session: for many calls, make one with `Session.start`.

    Raises O3Error: see `o3magic.errors`; one that comes late holds what arrived in `.answer`.
    """
    session, ours = _session()
    try:
        return session.ask(prompt, schema=schema, **options)
    finally:
        if ours:
            session.close()


def batch(rows: Any, prompt: str, *, schema: Any = None, **options: Any) -> AnyBatch:
    """Send a prompt for each row to the provider's Batch API: half the price, within a day.

    The arguments are those of `map`. Gives a job at once: `.wait()` gives the DataFrame that map
    would give; `.status()`, `.results()`, `.cancel()`, `.retry()`. It outlives the kernel: `jobs()`
    lists it. The same call again gives the same job, paid for once; in a replay it is over at once.

    Raises BadOption where there is no Batch API, OverBudget, and CassetteMiss in a replay.
    """
    from o3magic.rows.batch.submit import submit

    room, names = _room()
    return submit(room, rows, prompt, schema=schema, names=names, **options)


async def aask(prompt: str, *, schema: Any = None, **options: Any) -> Answer:
    """The same as `ask`, for `await`: other tasks go on meanwhile, and cancelling stops it.

    Nobody is asked to confirm a dangerous tool here: its calls are declined.
    """
    session, ours = _session()
    try:
        return await session.aask(prompt, schema=schema, **options)
    finally:
        if ours:
            session.close()


def compare(
    prompt: str,
    *,
    efforts: Sequence[str] | str = (),
    models: Sequence[str] | str = (),
    schema: Any = None,
    **options: Any,
) -> Comparison:
    """Ask at several efforts or models at once, and wait for the `Comparison`.

    efforts, models: names, or one string of names with commas between them. Every effort of the
    model where neither is said. `.answers` are in the order asked, `.to_frame()` has a row for
    each. The other arguments and the errors are those of `ask`.
    """
    session, ours = _session()
    try:
        return session.compare(prompt, efforts=efforts, models=models, schema=schema, **options)
    finally:
        if ours:
            session.close()


def costs(
    of: str | None = None,
    by: str | Sequence[str] | None = None,
    since: str | date | None = None,
) -> CostReport:
    """What was used and cost: a table, with `.to_frame()`, `.to_csv(path)`, `.plot()` and more.

    of     cell, session, notebook, day, month or all; None: the shell's session, else all time
    by     names of groups such as "day,model"; None: model and effort
    since  only calls from this date or moment on

    Raises BadOption for other words.
    """
    from o3magic.notebook.costs import report_of

    session, ours = _session()
    try:
        # A session made for this has no calls of its own.
        return report_of(session, of or "all" if ours else of, by, since)
    finally:
        if ours:
            session.close()


def stream(prompt: str, *, schema: Any = None, **options: Any) -> Iterator[Event]:
    """Ask and yield the events of `o3magic.events` as they arrive; arguments as for `ask`."""
    session, ours = _session()
    try:
        yield from session.stream(prompt, schema=schema, **options)
    finally:
        if ours:
            session.close()


def jobs() -> list[AnyJob]:
    """The jobs of `o3.map` and `o3.batch`, the last one first, also those of kernels before.

    `o3.job(3)` and `o3.job("name")` give one of them. Nobody is asked how they stand: a batch's
    `.status()` does that.
    """
    from o3magic.rows.batch.registry import all_jobs

    return all_jobs(*_room())


def job(named: int | str) -> AnyJob:
    """The job of a number or a name. Raises BadOption."""
    from o3magic.rows.batch.registry import one_job

    room, names = _room()
    return one_job(room, named, names)


def map(
    rows: Any,
    prompt: str,
    *,
    schema: Any = None,
    concurrency: int | None = None,
    budget: Any = None,
    on_error: str = "keep",
    name: str = "",
    flatten: bool = False,
    client: Any = None,
    **options: Any,
) -> Any:
    """Ask a prompt for each row, many at once; gives a DataFrame of the answers, in their order.

    rows         a DataFrame (pandas, polars, ...), a list of dicts, or an iterator of dicts
    prompt       `{{ column }}` in it is the row's value
    schema       the type of an answer, or its name: its fields are the columns, else `text` is
    concurrency  how many at once; requests_per_min= and tokens_per_min= are limits too
    budget       US dollars for all rows, in all calls of the same job
    on_error     "keep": what went wrong is in the column `error`; "raise": stop at the first
    flatten      fields within fields as columns `a.b`
    client       a `dask.distributed.Client`: its workers ask, each with a key of its own, within
                 one rate limit and one budget; Dask's DataFrames and bags are given back lazy

    Answers are kept as they come: the same call goes on where it stopped and pays for none twice;
    `name` makes it another job. Raises O3Error, with the rows so far in `.answer`.
    """
    from o3magic.cluster.map_on_cluster import map_on
    from o3magic.notebook.progress import show_for

    room, names = _room()
    wish = {"concurrency": concurrency, "budget": budget, "on_error": on_error, "name": name}
    said = {"names": names, "schema": schema, "flatten": flatten, **wish, **options}
    show = show_for(_shell(), quiet=bool(options.get("quiet")))
    return map_on(client, room.session, rows, prompt, said, show, room.opened)


async def astream(prompt: str, *, schema: Any = None, **options: Any) -> AsyncGenerator[Event]:
    """The same as `stream`, for `async for`; leave it early by `contextlib.aclosing`."""
    from contextlib import aclosing

    session, ours = _session()
    try:
        async with aclosing(session.astream(prompt, schema=schema, **options)) as events:
            async for event in events:
                yield event
    finally:
        if ours:
            session.close()


def panel() -> Panel | None:
    """The settings and a prompt as widgets, as `%o3_panel` shows them; None in a terminal.

    Raises BadOption outside IPython.
    """
    shell = _shell()
    if shell is None:
        from o3magic.errors import BadOption

        raise BadOption("a panel needs a notebook", hint="o3.ask(prompt) asks from Python")
    from o3magic.notebook.extension import magics_of

    return magics_of(shell).panel()


def prompt(name: str, path: str | Path) -> Path:
    """Register a file as a prompt, for `%%o3 --file NAME` in this shell; gives its whole path.

    Raises BadOption where there is no such file.
    """
    from pathlib import Path

    from o3magic.errors import BadOption

    found = Path(path).expanduser().resolve()
    if not found.is_file():
        raise BadOption(f"there is no file {found}", hint=f"paths begin in {Path.cwd()}")
    shell = _shell()
    if shell is not None:
        from o3magic.notebook.extension import session_of

        session_of(shell).prompts[name] = found
    return found


def schema(python_type: T) -> T:
    """Register a type under its name, for `%%o3 --schema NAME` in this shell: a decorator."""
    shell = _shell()
    if shell is not None:
        from o3magic.notebook.extension import session_of

        session_of(shell).schemas[getattr(python_type, "__name__", str(python_type))] = python_type
    return python_type


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What `%load_ext o3magic` calls."""
    from o3magic.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """What `%unload_ext o3magic` calls."""
    from o3magic.notebook.extension import unload

    unload(shell)


def _shell() -> InteractiveShell | None:
    """The running IPython shell, or None; IPython is not loaded to find out."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def _session() -> tuple[Session, bool]:
    """The shell's session, or one for a single call, and whether it is the latter."""
    import os

    shell = _shell()
    if shell is not None:
        from o3magic.notebook.extension import session_of

        return session_of(shell), False
    from o3magic.session.session import Session

    return Session.start(os.environ), True


def _room() -> tuple[BatchContext, dict[str, Any]]:
    """Where jobs are worked on, and the names of the notebook, or of the script."""
    from o3magic.rows.batch.registry import room_of

    shell, (session, ours) = _shell(), _session()

    def show() -> ProgressDisplay:
        from o3magic.notebook.progress import show_for

        return show_for(shell)

    names = shell.user_ns if shell is not None else vars(sys.modules["__main__"])
    return room_of(session, show, close_after=ours), names

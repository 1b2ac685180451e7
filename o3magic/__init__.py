"""OpenAI's reasoning models as a native part of a notebook.

`%load_ext o3magic`, then a `%%o3` cell is a prompt. In Python: `import o3magic as o3`, then
`o3.ask(prompt, ...)`, `o3.stream(...)`, `@o3.schema`, `o3.Session`.

This is the public API. No other module imports it, and each name is loaded at its first use.

In IPython the functions use the session of the shell, with its settings and its ledger. In plain
Python each call has a session of its own; for many calls, make one with `Session.start`.
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
    from o3magic.reports.report import CostReport
    from o3magic.rows.batch.context import BatchContext
    from o3magic.rows.batch.registry import AnyBatch, AnyJob
    from o3magic.rows.progress import ProgressDisplay
    from o3magic.rows.sweep.result import SweepResult
    from o3magic.session.comparison import Comparison as Comparison
    from o3magic.session.session import Session as Session

T = TypeVar("T")

MODULES = {
    "Answer": "o3magic.events",
    "Comparison": "o3magic.session.comparison",
    "O3Error": "o3magic.errors",
    "Session": "o3magic.session.session",
    "Usage": "o3magic.events",
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
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module 'o3magic' has no attribute {name!r}")


def ask(prompt: str, *, schema: Any = None, **options: Any) -> Answer:
    """Ask and wait for the `Answer`.

    schema   a type, or the name of a registered one: `answer.parsed` is an object of it
    names    the values of `{{ name }}` in the prompt
    tools    functions that the model may call

    The other options are those of `%%o3` by their long names: effort, model, provider, api,
    developer, summary, max_output_tokens, ...

    Raises O3Error: see `o3magic.errors`. Where a part of the answer arrived, the error has it in
    `.answer`.
    """
    return _session().ask(prompt, schema=schema, **options)


async def aask(prompt: str, *, schema: Any = None, **options: Any) -> Answer:
    """The same as `ask`, for `await`: other tasks run meanwhile, and cancelling stops it.

    Calls of dangerous tools are declined, because there is nobody to confirm them.
    """
    return await _session().aask(prompt, schema=schema, **options)


def stream(prompt: str, *, schema: Any = None, **options: Any) -> Iterator[Event]:
    """Ask and yield the events of `o3magic.events` as they arrive; arguments as for `ask`."""
    return _session().stream(prompt, schema=schema, **options)


async def astream(prompt: str, *, schema: Any = None, **options: Any) -> AsyncGenerator[Event]:
    """The same as `stream`, for `async for`; leave it early by `contextlib.aclosing`."""
    from contextlib import aclosing

    async with aclosing(_session().astream(prompt, schema=schema, **options)) as events:
        async for event in events:
            yield event


def compare(
    prompt: str,
    *,
    efforts: Sequence[str] | str = (),
    models: Sequence[str] | str = (),
    schema: Any = None,
    **options: Any,
) -> Comparison:
    """Ask at several efforts or models at once, and wait for the `Comparison`.

    efforts, models: names, or one string of names with commas between them. Without them every
    effort of the model is asked. `.answers` are in the order of the arguments, `.to_frame()` has a
    row for each. The other arguments and the errors are those of `ask`.
    """
    return _session().compare(prompt, efforts=efforts, models=models, schema=schema, **options)


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
    """Ask a prompt for each row, many at once; returns a DataFrame of the answers, in their order.

    rows         a DataFrame (pandas, polars, ...), a list of dicts, or an iterator of dicts
    prompt       `{{ column }}` in it is the row's value
    schema       the type of an answer, or its name: its fields are the columns, else `text` is
    concurrency  how many at once; requests_per_min= and tokens_per_min= are limits too
    budget       US dollars for all rows, in all calls of the same job
    on_error     "keep": what went wrong is in the column `error`; "raise": stop at the first error
    flatten      fields within fields as columns `a.b`
    client       a `dask.distributed.Client`: its workers send the requests, each with a key of
                 its own, within one rate limit and one budget; for Dask's DataFrames and bags the
                 result is lazy

    Answers are stored as they arrive: the same call continues where it stopped and pays for no row
    twice; another `name` makes it another job. Raises O3Error, with the rows so far in `.answer`.
    """
    from o3magic.cluster.map_on_cluster import map_on
    from o3magic.notebook.progress import create_progress_display

    context, names = _batch_context()
    arguments = {"concurrency": concurrency, "budget": budget, "on_error": on_error, "name": name}
    arguments |= {"names": names, "schema": schema, "flatten": flatten} | options
    show = create_progress_display(_shell(), quiet=bool(options.get("quiet")))
    return map_on(client, context.session, rows, prompt, arguments, show, context.opened)


def batch(rows: Any, prompt: str, *, schema: Any = None, **options: Any) -> AnyBatch:
    """Send a prompt for each row to the provider's Batch API: half the price, within a day.

    The arguments are those of `map`. Returns a job at once: `.wait()` gives the DataFrame that
    `map` would give; `.status()`, `.results()`, `.cancel()`, `.retry()`. The job outlives the
    kernel: `jobs()` lists it. The same call again gives the same job and pays once; in a replay the
    job is completed at once.

    Raises BadOption where there is no Batch API, OverBudget, and CassetteMiss in a replay.
    """
    from o3magic.rows.batch.submit import submit

    context, names = _batch_context()
    return submit(context, rows, prompt, schema=schema, names=names, **options)


def jobs() -> list[AnyJob]:
    """The jobs of `o3.map` and `o3.batch`, the last one first, also those of earlier kernels.

    `o3.job(3)` and `o3.job("name")` give one of them. No provider is asked: a batch's `.status()`
    does that.
    """
    from o3magic.rows.batch.registry import list_jobs

    return list_jobs(*_batch_context())


def job(named: int | str) -> AnyJob:
    """The job with a number or a name. Raises BadOption."""
    from o3magic.rows.batch.registry import find_job

    context, names = _batch_context()
    return find_job(context, named, names)


def sweep(
    rows: Any,
    prompt: str,
    *,
    expected: Any = None,
    scorer: Any = "exact",
    efforts: Sequence[str] = (),
    models: Sequence[str] = (),
    schema: Any = None,
    **options: Any,
) -> SweepResult:
    """Ask a prompt for each row at every effort, and score the answers: what more effort buys.

    expected  a column, a list with a value for each row, or a function of a row: where it is None,
              the row is not asked. A column named here is hidden from the prompt
    scorer    "exact": the same text, whatever its case and blanks; "number": the last number in it,
              within abs_tol= and rel_tol=; "fields": the F1 of a schema's fields; or a function of
              (answer, row) that gives a bool or a number from 0 to 1
    efforts   every effort of the model where none is given
    models    several of them, each at every effort

    The other arguments are those of `map`; `budget` is for all efforts together. Efforts whose rows
    all fit into `concurrency` are asked at once, but one after the other under a budget.

    The result has `.recommendation`, `.to_frame()`, `.plot()`, `.disagreements()` and
    `.rows_frame()`. The same call continues where it stopped. Raises O3Error, with the result so
    far in `.answer`.
    """
    from o3magic.notebook.progress import create_progress_display
    from o3magic.rows.sweep.sweep import run_sweep

    arguments = {"expected": expected, "scorer": scorer, "efforts": efforts, "models": models}
    arguments |= {"schema": schema, "names": _names()} | options
    show = create_progress_display(_shell(), quiet=bool(options.get("quiet")))
    return run_sweep(_session(), rows, prompt, show=show, **arguments)


def costs(
    of: str | None = None,
    by: str | Sequence[str] | None = None,
    since: str | date | None = None,
) -> CostReport:
    """Usage and cost: a table, with `.to_frame()`, `.to_csv(path)`, `.plot()` and more.

    of     cell, session, notebook, day, month or all; None: the shell's session, else all time
    by     names of groups such as "day,model"; None: model and effort
    since  only calls from this date or time on

    Raises BadOption for other words.
    """
    from o3magic.notebook.costs import report_of

    if _shell() is None:
        of = of or "all"  # a script has no session that its user would know of
    return report_of(_session(), of, by, since)


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
    """Register a file as a prompt, for `%%o3 --file NAME` in this shell; returns its full path.

    Raises BadOption where there is no such file.
    """
    from pathlib import Path

    from o3magic.errors import BadOption

    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise BadOption(f"there is no file {file}", hint=f"paths begin in {Path.cwd()}")
    shell = _shell()
    if shell is not None:
        from o3magic.notebook.extension import session_of

        session_of(shell).prompts[name] = file
    return file


def schema(python_type: T) -> T:
    """Register a type under its name, for `%%o3 --schema NAME` in this shell: a decorator."""
    shell = _shell()
    if shell is not None:
        from o3magic.notebook.extension import session_of

        session_of(shell).schemas[getattr(python_type, "__name__", str(python_type))] = python_type
    return python_type


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by `%load_ext o3magic`."""
    from o3magic.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Called by `%unload_ext o3magic`."""
    from o3magic.notebook.extension import unload

    unload(shell)


def _shell() -> InteractiveShell | None:
    """The running IPython shell, or None; IPython is not loaded to find out."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def _names() -> dict[str, Any]:
    """The names of the notebook, or of the script."""
    shell = _shell()
    return shell.user_ns if shell is not None else vars(sys.modules["__main__"])


def _session() -> Session:
    """The session of the shell; in plain Python the one of the process."""
    shell = _shell()
    if shell is not None:
        from o3magic.notebook.extension import session_of

        return session_of(shell)
    from o3magic.session.session import DEFAULT_SESSION

    return DEFAULT_SESSION.get()


def _batch_context() -> tuple[BatchContext, dict[str, Any]]:
    """The context in which jobs run, and the names of the notebook or of the script."""
    from o3magic.rows.batch.registry import build_context

    shell = _shell()

    def show() -> ProgressDisplay:
        from o3magic.notebook.progress import create_progress_display

        return create_progress_display(shell)

    return build_context(_session(), show, close_after=shell is None), _names()

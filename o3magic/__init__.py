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
    from collections.abc import Iterator, Sequence
    from datetime import date

    from IPython.core.interactiveshell import InteractiveShell

    from o3magic.cost.report import CostReport
    from o3magic.errors import O3Error as O3Error
    from o3magic.events import Answer as Answer
    from o3magic.events import Event
    from o3magic.events import Usage as Usage
    from o3magic.notebook.panel import Panel
    from o3magic.talk.compare import Comparison as Comparison
    from o3magic.talk.session import Session as Session

T = TypeVar("T")

HOMES = {
    "Answer": "o3magic.events",
    "Comparison": "o3magic.talk.compare",
    "O3Error": "o3magic.errors",
    "Session": "o3magic.talk.session",
    "Usage": "o3magic.events",
    "tool": "o3magic.talk.tools",
}

__all__ = [
    "Answer",
    "Comparison",
    "O3Error",
    "Session",
    "Usage",
    "__version__",
    "ask",
    "compare",
    "costs",
    "panel",
    "schema",
    "stream",
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


def compare(
    prompt: str,
    *,
    efforts: Sequence[str] = (),
    models: Sequence[str] = (),
    schema: Any = None,
    **options: Any,
) -> Comparison:
    """Ask at several efforts or models at once, and wait for the `Comparison`.

    Every effort of the model where neither is said. `.answers` are in the order asked,
    `.to_frame()` has a row for each. The other arguments and the errors are those of `ask`.
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


def panel() -> Panel | None:
    """The settings and a prompt as widgets, as `%o3_panel` shows them; None in a terminal.

    Raises BadOption outside IPython.
    """
    shell = _shell()
    if shell is None:
        from o3magic.errors import BadOption

        raise BadOption("a panel needs a notebook", hint="o3.ask(prompt) asks from Python")
    from o3magic.notebook.load import magics_of

    return magics_of(shell).panel()


def schema(python_type: T) -> T:
    """Register a type under its name, for `%%o3 --schema NAME` in this shell: a decorator."""
    shell = _shell()
    if shell is not None:
        from o3magic.notebook.load import session_of

        session_of(shell).schemas[getattr(python_type, "__name__", str(python_type))] = python_type
    return python_type


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What `%load_ext o3magic` calls."""
    from o3magic.notebook.load import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """What `%unload_ext o3magic` calls."""
    from o3magic.notebook.load import unload

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
        from o3magic.notebook.load import session_of

        return session_of(shell), False
    from o3magic.talk.session import Session

    return Session.start(os.environ), True

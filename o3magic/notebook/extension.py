"""Loading into a shell and out of it again: everything that is put in is put back."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from o3magic.notebook.magics import O3Magics

if TYPE_CHECKING:
    from o3magic.session.session import Session

FROM_FILE = re.compile(r"%(?P<line>%o3[ \t].*?--file\b.*)\n?")
QUESTION = re.compile(r"^(?P<before>\s*(?:[^\W\d]\w*\s*=\s*)?)%o3[ \t]+(?P<rest>.*\?)\s*$")


def as_calls(lines: list[str]) -> list[str]:
    """The lines of a cell, each `%o3` question as the call it stands for.

    `%o3?` itself is a request for help, and the lines of a cell magic are left alone.
    """
    if lines and lines[0].lstrip().startswith("%%"):
        alone = FROM_FILE.fullmatch(lines[0].lstrip()) if len(lines) == 1 else None
        return [as_call(f"{alone['line']}\n")] if alone else lines
    return [as_call(line) for line in lines]


def as_call(line: str) -> str:
    """One line."""
    found = QUESTION.match(line) if "%o3" in line else None
    if found is None:
        return line
    return f"{found['before']}get_ipython().run_line_magic('o3', {found['rest']!r})\n"


NAME = O3Magics.__name__
# By name: their modules are loaded with the first answer.
SHOWN = (
    ("o3magic.events", "Answer"),
    ("o3magic.session.comparison", "Comparison"),
    ("o3magic.notebook.background", "AnswerFuture"),
)


def load(shell: InteractiveShell) -> None:
    """Register the magics. Their session starts at the first use."""
    if NAME in shell.magics_manager.registry:
        unload(shell)
    magics = O3Magics(shell, os.environ, Path.cwd())
    shell.register_magics(magics)
    shell.events.register("pre_run_cell", magics.on_cell)
    for place, name in SHOWN:
        own_displays(shell).for_type_by_name(place, name, magics.show)
    shell.Completer.custom_matchers.append(magics.complete)
    shell.input_transformers_cleanup.append(as_calls)


def unload(shell: InteractiveShell) -> None:
    """Take the magics out and close the session."""
    magics = shell.magics_manager.registry.pop(NAME, None)
    if magics is None:
        return
    for kind, names in magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.events.unregister("pre_run_cell", magics.on_cell)
    for place, name in SHOWN:
        own_displays(shell).pop(f"{place}.{name}", None)
    shell.Completer.custom_matchers.remove(magics.complete)
    shell.input_transformers_cleanup.remove(as_calls)
    if magics.opened:
        magics.opened.close()


def own_displays(shell: Any) -> Any:
    """The formatter for objects that show themselves."""
    return shell.display_formatter.ipython_display_formatter


def session_of(shell: InteractiveShell) -> Session:
    """The session of a shell; the extension is loaded if it is not yet."""
    return magics_of(shell).actions.session


def magics_of(shell: InteractiveShell) -> O3Magics:
    """The magics of a shell; the extension is loaded if it is not yet."""
    if NAME not in shell.magics_manager.registry:
        load(shell)
    magics: O3Magics = shell.magics_manager.registry[NAME]
    return magics

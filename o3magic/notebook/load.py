"""Loading into a shell and out of it again: everything that is put in is put back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from o3magic.notebook.magics import O3Magics
from o3magic.notebook.questions import as_calls

if TYPE_CHECKING:
    from o3magic.talk.session import Session

NAME = O3Magics.__name__
# By name: their modules are loaded with the first answer.
SHOWN = (
    ("o3magic.events", "Answer"),
    ("o3magic.talk.compare", "Comparison"),
    ("o3magic.notebook.background", "Later"),
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

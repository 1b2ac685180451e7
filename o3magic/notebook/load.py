"""Loading into a shell and out of it again: everything that is put in is put back."""

from __future__ import annotations

import os
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from o3magic.events import Answer
from o3magic.notebook.completion import matcher_for
from o3magic.notebook.fronts import Front, KernelFront, TerminalFront
from o3magic.notebook.magics import O3Magics
from o3magic.talk.session import Session

NAME = O3Magics.__name__


def load(shell: InteractiveShell) -> None:
    """Register the magics with a session of their own. Raises BadOption for a bad settings file."""
    if NAME in shell.magics_manager.registry:
        unload(shell)
    session = Session.start(os.environ)
    magics = O3Magics(shell, session, front_of(shell, session))
    shell.register_magics(magics)
    shell.events.register("pre_run_cell", magics.on_cell)
    own_displays(shell).for_type(Answer, magics.show)
    magics.matcher = matcher_for(session, shell.user_ns)
    shell.Completer.custom_matchers.append(magics.matcher)


def unload(shell: InteractiveShell) -> None:
    """Take the magics out and close the session."""
    magics = shell.magics_manager.registry.pop(NAME, None)
    if magics is None:
        return
    for kind, names in magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.events.unregister("pre_run_cell", magics.on_cell)
    own_displays(shell).pop(Answer, None)
    shell.Completer.custom_matchers.remove(magics.matcher)
    magics.session.close()


def own_displays(shell: Any) -> Any:
    """The formatter for objects that show themselves."""
    return shell.display_formatter.ipython_display_formatter


def front_of(shell: Any, session: Session) -> Front:
    """How this shell shows things."""
    if getattr(shell, "kernel", None) is not None:
        return KernelFront(shell.display_pub, session.id)
    return TerminalFront()


def session_of(shell: InteractiveShell) -> Session:
    """The session of a shell; the extension is loaded if it is not yet."""
    if NAME not in shell.magics_manager.registry:
        load(shell)
    magics: O3Magics = shell.magics_manager.registry[NAME]
    return magics.session

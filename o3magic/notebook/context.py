"""What the magics of one shell stand on: the shell, its session, its front, what is on the page."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Protocol, TypeVar

from IPython.core.interactiveshell import InteractiveShell

from o3magic.notebook.display import front_of
from o3magic.session.session import Session

# Jupyter Server sets this for the kernels it starts; VS Code puts a name into the notebook.
SERVER = "JPY_SESSION_NAME"
VS_CODE = "__vsc_ipynb_file__"


def cell_key(shell: InteractiveShell, text: str) -> str:
    """The cell's own id where the front end sends it, else a hash of its text."""
    if cell_id := sent_id(shell):
        return cell_id
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12] if text else ""


def sent_id(shell: InteractiveShell) -> str:
    """The running cell's id, or "" where the front end does not send it."""
    # In the browser the shell does not know what it runs, its kernel does.
    teller = shell if hasattr(shell, "get_parent") else getattr(shell, "kernel", None)
    parent: Mapping[str, Any] = getattr(teller, "get_parent", dict)() or {}
    cell_id = (parent.get("metadata") or {}).get("cellId")
    return cell_id if isinstance(cell_id, str) else ""


def notebook_path(shell: InteractiveShell, environment: Mapping[str, str], known: str = "") -> str:
    """The notebook's file, or "" where nobody says it. known: what it was a cell ago."""
    named = shell.user_ns.get(VS_CODE) or environment.get(SERVER, "")
    if not named and sys.platform == "emscripten":
        return known or holder(Path.cwd(), sent_id(shell))
    return str(named) if PurePath(str(named)).suffix == ".ipynb" else ""


def holder(folder: Path, cell_id: str) -> str:
    """The one notebook in a folder that holds this cell, or "".

    In a browser nobody names the notebook to its kernel, which starts in the notebook's folder.
    """
    if not cell_id:
        return ""
    found = []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            cells = json.loads(path.read_bytes()).get("cells", [])
            if any(cell.get("id") == cell_id for cell in cells):
                found.append(str(path))
        except (OSError, ValueError, AttributeError):
            continue  # a file that is no notebook is not the one that runs
    return found[0] if len(found) == 1 else ""


class OpenView(Protocol):
    """What is on the page and follows the settings and the books."""

    cell_id: str

    def refresh(self) -> None:
        """Bring it up to them."""

    def close(self) -> None:
        """Take it off the page, and off the bench."""


V = TypeVar("V", bound=OpenView)


class ShellContext:
    """One shell with its session and its front, and the views that follow both."""

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        self.shell, self.session = shell, session
        self.front = front_of(shell, session.id)
        self._views: list[OpenView] = []
        shell.events.register("post_run_cell", self._after_cell)

    @property
    def names(self) -> dict[str, Any]:
        """The names of the notebook."""
        names: dict[str, Any] = self.shell.user_ns
        return names

    def put(self, view: OpenView) -> None:
        """A view is on the page: it is told of every change, and after every cell."""
        self._views.append(view)

    def take(self, view: OpenView) -> None:
        """A view is off the page."""
        self._views.remove(view)

    def views(self, kind: type[V]) -> list[V]:
        """The views of a kind, the newest last."""
        return [each for each in self._views if isinstance(each, kind)]

    def place(self, kind: type[OpenView]) -> str:
        """The running cell's id, for a new view: the one of its kind it made before is closed."""
        cell_id = sent_id(self.shell)
        for each in self.views(kind):
            if cell_id and each.cell_id == cell_id:
                each.close()
        return cell_id

    def changed(self) -> None:
        """The settings or the books are others now: the views show it."""
        for view in [*self._views]:
            view.refresh()

    def _after_cell(self, result: Any) -> None:
        self.changed()

    def close(self) -> None:
        """Close the views and the session."""
        self.shell.events.unregister("post_run_cell", self._after_cell)
        for view in [*self._views]:
            view.close()
        self.session.close()

"""One shell with its session, its display and its open views; the current cell and notebook."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Protocol, TypeVar

from IPython.core.interactiveshell import InteractiveShell

from o3magic.notebook.display import create_display
from o3magic.session.session import Session

# Jupyter Server sets this for the kernels it starts; VS Code puts a name into the notebook.
SERVER_VARIABLE = "JPY_SESSION_NAME"
VS_CODE_NAME = "__vsc_ipynb_file__"


class OpenView(Protocol):
    """Widgets on the page that follow the settings and the ledger."""

    cell_id: str

    def refresh(self) -> None:
        """Show the current settings and sums."""

    def close(self) -> None:
        """Take it off the page, and out of its context."""


V = TypeVar("V", bound=OpenView)


class ShellContext:
    """One shell with its session and its display, and the views that follow both."""

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        self.shell, self.session = shell, session
        self.display = create_display(shell, session.id)
        self._views: list[OpenView] = []
        shell.events.register("post_run_cell", self._on_cell_end)

    @property
    def names(self) -> dict[str, Any]:
        """The names of the notebook."""
        names: dict[str, Any] = self.shell.user_ns
        return names

    def add_view(self, view: OpenView) -> None:
        """Refresh a view from now on: after every change, and after every cell."""
        self._views.append(view)

    def remove_view(self, view: OpenView) -> None:
        """Refresh it no longer."""
        self._views.remove(view)

    def views(self, kind: type[V]) -> list[V]:
        """The open views of a kind, the newest last."""
        return [view for view in self._views if isinstance(view, kind)]

    def claim_cell(self, kind: type[OpenView]) -> str:
        """The running cell's id, for a new view; an earlier view of its kind there is closed."""
        cell_id = sent_cell_id(self.shell)
        for view in self.views(kind):
            if cell_id and view.cell_id == cell_id:
                view.close()
        return cell_id

    def refresh_views(self) -> None:
        """Refresh all views, because settings or sums have changed."""
        for view in [*self._views]:
            view.refresh()

    def _on_cell_end(self, result: Any) -> None:
        self.refresh_views()

    def close(self) -> None:
        """Close the views and the session."""
        self.shell.events.unregister("post_run_cell", self._on_cell_end)
        for view in [*self._views]:
            view.close()
        self.session.close()


def cell_key(shell: InteractiveShell, text: str) -> str:
    """The cell's own id where the front end sends it, else a hash of its text."""
    if cell_id := sent_cell_id(shell):
        return cell_id
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12] if text else ""


def sent_cell_id(shell: InteractiveShell) -> str:
    """The running cell's id, or "" where the front end does not send it."""
    # In the browser only the kernel has the message that runs, not the shell.
    owner = shell if hasattr(shell, "get_parent") else getattr(shell, "kernel", None)
    parent: Mapping[str, Any] = getattr(owner, "get_parent", dict)() or {}
    cell_id = (parent.get("metadata") or {}).get("cellId")
    return cell_id if isinstance(cell_id, str) else ""


def notebook_path(
    shell: InteractiveShell, environment: Mapping[str, str], previous: str = ""
) -> str:
    """The notebook's file, or "" where it is not known. previous: the result of a cell before."""
    path = shell.user_ns.get(VS_CODE_NAME) or environment.get(SERVER_VARIABLE, "")
    if not path and sys.platform == "emscripten":
        return previous or find_notebook(Path.cwd(), sent_cell_id(shell))
    return str(path) if PurePath(str(path)).suffix == ".ipynb" else ""


def find_notebook(folder: Path, cell_id: str) -> str:
    """The only notebook in a folder that has a cell of this id, or "".

    In a browser the kernel is not told its notebook, but it starts in the notebook's folder.
    """
    if not cell_id:
        return ""
    matches = []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            cells = json.loads(path.read_bytes()).get("cells", [])
            if any(cell.get("id") == cell_id for cell in cells):
                matches.append(str(path))
        except (OSError, ValueError, AttributeError):
            continue  # not a notebook
    return matches[0] if len(matches) == 1 else ""

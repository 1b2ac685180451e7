"""What the magics of one shell stand on: the shell, its session, its front, what is on the page."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from IPython.core.interactiveshell import InteractiveShell

from o3magic.notebook.fronts import front_of
from o3magic.notebook.place import sent_id
from o3magic.talk.session import Session


class View(Protocol):
    """What is on the page and follows the settings and the books."""

    cell_id: str

    def refresh(self) -> None:
        """Bring it up to them."""

    def close(self) -> None:
        """Take it off the page, and off the bench."""


V = TypeVar("V", bound=View)


class Workbench:
    """One shell with its session and its front, and the views that follow both."""

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        self.shell, self.session = shell, session
        self.front = front_of(shell, session.id)
        self._views: list[View] = []
        shell.events.register("post_run_cell", self._after_cell)

    @property
    def names(self) -> dict[str, Any]:
        """The names of the notebook."""
        names: dict[str, Any] = self.shell.user_ns
        return names

    def put(self, view: View) -> None:
        """A view is on the page: it is told of every change, and after every cell."""
        self._views.append(view)

    def take(self, view: View) -> None:
        """A view is off the page."""
        self._views.remove(view)

    def views(self, kind: type[V]) -> list[V]:
        """The views of a kind, the newest last."""
        return [each for each in self._views if isinstance(each, kind)]

    def place(self, kind: type[View]) -> str:
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

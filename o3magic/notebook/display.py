"""Where a shell shows things: in the front end of a kernel, or in a terminal."""

from __future__ import annotations

import contextvars
import itertools
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from o3magic.events import Answer, Event
from o3magic.render.answer import Bundle, bundles
from o3magic.render.live import DisplayScreen, LiveAnswer
from o3magic.session.plan import Plan
from o3magic.settings import Settings

if TYPE_CHECKING:
    from o3magic.render.comparison import LiveComparison

INTERVAL_S = 0.125
CHARS_PER_S = 40_000  # what a page renders without delay


class AnswerDisplay(Protocol):
    """One answer while it arrives."""

    def add(self, event: Event) -> None:
        """Show one event."""

    def finish(self, answer: Answer) -> None:
        """Show the final answer."""

    def dismiss(self) -> None:
        """Remove the display, because nothing arrived."""


class ComparisonDisplay(Protocol):
    """Several answers while they arrive."""

    def begin(self) -> None:
        """Show that the models are asked."""

    def add(self, index: int, event: Event | None) -> None:
        """Show one event of the answer with this index; None ends the answer."""

    def finish(self, bundles: Sequence[Bundle]) -> None:
        """Show the final answers."""


class Display(Protocol):
    """Where a shell shows things."""

    # Whether a cell returns its Answer, so that the shell displays it: see O3Magics.show.
    returns_answer: bool

    def live(self, plan: Plan, *, owns_cell: bool) -> AbstractContextManager[AnswerDisplay]:
        """A display for one answer while it arrives.

        owns_cell: nothing else writes into the output of the cell.
        """

    def comparison(self, labels: Sequence[str]) -> ComparisonDisplay:
        """A display for several answers while they arrive."""

    def show(self, bundle: Bundle) -> None:
        """Show something other than an answer."""

    def show_answer(self, answer: Answer, settings: Settings) -> None:
        """Show a complete answer, as it was shown when it arrived."""


def create_display(shell: Any, name: str) -> Display:
    """The display of a shell. name: part of the ids of its displays."""
    if getattr(shell, "kernel", None) is not None:
        return KernelDisplay(shell, name)
    return TerminalDisplay()


class KernelDisplay:
    """JupyterLab, Notebook, VS Code, Colab, nbclient: every front end of a kernel."""

    returns_answer = True  # it sets `_`, and nothing more is sent

    def __init__(self, shell: Any, name: str) -> None:
        self._shell = shell
        self._ids = (f"o3magic-{name}-{n}" for n in itertools.count(1))

    @property
    def screen(self) -> CellScreen:
        """The displays of the running cell. While `%%capture` holds them, the publisher differs."""
        return CellScreen(self._shell.display_pub)

    def live(self, plan: Plan, *, owns_cell: bool) -> LiveAnswer:
        """Throttled segments of Markdown."""
        return live_answer(self.screen, self._ids.__next__, plan, owns_cell=owns_cell)

    def comparison(self, labels: Sequence[str]) -> LiveComparison:
        """A column for each answer, in one display."""
        from o3magic.render.comparison import LiveComparison

        return LiveComparison(self.screen, self._ids.__next__, labels)

    def show(self, bundle: Bundle) -> None:
        """Show it as one display."""
        self.screen.show(bundle, next(self._ids))

    def show_answer(self, answer: Answer, settings: Settings) -> None:
        """Show it as the same displays as when it arrived."""
        for bundle in bundles(answer, view=settings.view, raw=settings.raw):
            self.show(bundle)


class CellScreen:
    """The displays of the running cell."""

    def __init__(self, publisher: Any) -> None:
        self._publish = publisher.publish
        self._clear = publisher.clear_output

    def show(self, bundle: Bundle, display_id: str) -> None:
        """Add a display."""
        self._publish(bundle.data, bundle.metadata, transient={"display_id": display_id})

    def update(self, bundle: Bundle, display_id: str) -> None:
        """Replace the content of a display."""
        self._publish(
            bundle.data, bundle.metadata, transient={"display_id": display_id}, update=True
        )

    def clear(self) -> None:
        """Remove all displays as soon as the next one is added."""
        self._clear(wait=True)


class SingleDisplay:
    """A screen whose displays are published as one, the first at the top.

    publish: sends a bundle to the one display; called from any thread, but never twice at once.
    """

    def __init__(
        self, publish: Callable[[Bundle], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._publish, self._clock = publish, clock
        self._parts: dict[str, Bundle] = {}
        self._clears_at_next = self._closed = False
        self._next_s = clock()
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def show(self, bundle: Bundle, display_id: str) -> None:
        """Add a display below the others."""
        with self._lock:
            if self._clears_at_next:
                self._parts.clear()
                self._clears_at_next = False
            self._parts[display_id] = bundle
            self._schedule()

    def update(self, bundle: Bundle, display_id: str) -> None:
        """Replace the content of a display."""
        with self._lock:
            self._parts[display_id] = bundle
            self._schedule()

    def clear(self) -> None:
        """Remove all displays as soon as the next one is added."""
        self._clears_at_next = True

    def flush(self) -> None:
        """Publish now."""
        with self._lock:
            self._send()

    def close(self) -> None:
        """Publish nothing from now on: the display has a new owner."""
        with self._lock:
            self._closed = True
            self._send()

    def _schedule(self) -> None:
        """Publish as soon as the interval since the last time is over."""
        if self._closed:
            return
        wait_s = self._next_s - self._clock()
        if wait_s <= 0:
            self._send()
        elif self._timer is None:
            # Without its context a kernel would not know the cell of this thread's messages.
            run = contextvars.copy_context().run
            timer = threading.Timer(wait_s, run, (self.flush,))
            timer.daemon = True
            with suppress(RuntimeError):  # no threads in a browser: the next update publishes it
                timer.start()
                self._timer = timer

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed or not self._parts:
            return
        bundle = merge_bundles(self._parts.values())
        self._publish(bundle)
        chars = sum(len(text) for text in bundle.data.values() if isinstance(text, str))
        self._next_s = self._clock() + max(INTERVAL_S, chars / CHARS_PER_S)


def merge_bundles(parts: Collection[Bundle]) -> Bundle:
    """Several bundles as one: Markdown and text are joined, of other types the last one remains."""
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for part in parts:
        data |= part.data
        metadata |= part.metadata
    for mime in ("text/markdown", "text/plain"):
        data.pop(mime, None)
        # Left out where a part lacks it: the rest would look like the whole answer.
        if all(mime in part.data for part in parts if any(part.data.values())):
            data[mime] = "\n\n".join(text for part in parts if (text := part.data.get(mime)))
    return Bundle(data, metadata)


def live_answer(
    screen: DisplayScreen, next_id: Callable[[], str], plan: Plan, *, owns_cell: bool = True
) -> LiveAnswer:
    """A live display of the answer to a plan. next_id: gives the ids of its displays."""
    settings = plan.profile
    view = settings.view
    if isinstance(screen, SingleDisplay) and view == "auto":
        view = "table"  # a tree would have no room for its footer in a single display
    return LiveAnswer(
        screen,
        next_id,
        model=settings.model,
        schema=settings.schema,
        view=view,
        raw=settings.raw,
        partial=plan.partial,
        owns_cell=owns_cell,
    )


class TerminalDisplay:
    """IPython in a terminal, or with its output in a pipe or a file."""

    returns_answer = False

    def live(self, plan: Plan, *, owns_cell: bool) -> AbstractContextManager[AnswerDisplay]:
        """Redrawn by rich in a terminal, written as it arrives elsewhere."""
        from o3magic.render import terminal

        settings, console = plan.profile, terminal.console()
        if not console.is_terminal:
            return terminal.PlainAnswer(sys.stdout, schema=settings.schema)
        return terminal.TerminalAnswer(
            console, model=settings.model, schema=settings.schema, raw=settings.raw
        )

    def comparison(self, labels: Sequence[str]) -> ComparisonDisplay:
        """The final answers only: a terminal has no room for columns that grow."""
        return FinalComparison(self)

    def show(self, bundle: Bundle) -> None:
        """Print its text."""
        from o3magic.render import terminal

        terminal.show(bundle, terminal.console())

    def show_answer(self, answer: Answer, settings: Settings) -> None:
        """Print it: rendered in a terminal, as text elsewhere."""
        from o3magic.render import terminal

        terminal.show_answer(answer, terminal.console(), raw=settings.raw)


class FinalComparison:
    """Shows several answers when all are complete."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def begin(self) -> None:
        """Show nothing."""

    def add(self, index: int, event: Event | None) -> None:
        """Show nothing."""

    def finish(self, bundles: Sequence[Bundle]) -> None:
        """Show all of them."""
        for bundle in bundles:
            self._display.show(bundle)

"""The two places an answer is shown: a front end behind a kernel, and a terminal."""

from __future__ import annotations

import contextvars
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from o3magic.events import Answer, Event
from o3magic.render.answer import Bundle, bundles
from o3magic.render.live import LiveAnswer
from o3magic.session.plan import Plan
from o3magic.settings import Settings

if TYPE_CHECKING:
    from o3magic.render.comparison import LiveComparison

INTERVAL_S = 0.125
CHARS_PER_S = 40_000  # what a page renders without falling behind


class SingleDisplay:
    """Takes any number of displays and publishes them as one, the first on top.

    publish: sends a bundle to the one handle; called from any thread, one at a time.
    """

    def __init__(
        self, publish: Callable[[Bundle], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._publish, self._clock = publish, clock
        self._parts: dict[str, Bundle] = {}
        self._cleared = self._closed = False
        self._next_s = clock()
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def show(self, bundle: Bundle, display_id: str) -> None:
        """A display below the others."""
        with self._lock:
            if self._cleared:
                self._parts.clear()
                self._cleared = False
            self._parts[display_id] = bundle
            self._send_in_time()

    def update(self, bundle: Bundle, display_id: str) -> None:
        """Another content for a display."""
        with self._lock:
            self._parts[display_id] = bundle
            self._send_in_time()

    def clear(self) -> None:
        """Take all away when the next one comes."""
        self._cleared = True

    def flush(self) -> None:
        """Send what is there now."""
        with self._lock:
            self._send()

    def close(self) -> None:
        """Send nothing any more: the handle belongs to somebody else."""
        with self._lock:
            self._closed = True
            self._send()

    def _send_in_time(self) -> None:
        if self._closed:
            return
        wait_s = self._next_s - self._clock()
        if wait_s <= 0:
            self._send()
        elif self._timer is None:
            # Without its context a kernel would not know where this thread's messages belong.
            run = contextvars.copy_context().run
            timer = threading.Timer(wait_s, run, (self.flush,))
            timer.daemon = True
            with suppress(RuntimeError):  # no threads in a browser: it goes with what comes next
                timer.start()
                self._timer = timer

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed or not self._parts:
            return
        bundle = joined(self._parts.values())
        self._publish(bundle)
        chars = sum(len(text) for text in bundle.data.values() if isinstance(text, str))
        self._next_s = self._clock() + max(INTERVAL_S, chars / CHARS_PER_S)


def joined(bundles: Iterable[Bundle]) -> Bundle:
    """Several bundles as one. JSON has nothing to be joined to: the last one stands."""
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    every = list(bundles)
    for bundle in every:
        data |= bundle.data
        metadata |= bundle.metadata
    for mime in ("text/markdown", "text/plain"):
        data.pop(mime, None)
        # Part of an answer must not stand for the whole.
        if all(mime in bundle.data for bundle in every if any(bundle.data.values())):
            data[mime] = "\n\n".join(said for b in every if (said := b.data.get(mime)))
    return Bundle(data, metadata)


class AnswerDisplay(Protocol):
    """One answer being shown."""

    def add(self, event: Event) -> None:
        """Take one event."""

    def finish(self, answer: Answer) -> None:
        """Show it as it stays."""

    def dismiss(self) -> None:
        """Nothing came: leave nothing."""


class ComparisonDisplay(Protocol):
    """Several answers being shown."""

    def begin(self) -> None:
        """Show that they are asked."""

    def add(self, place: int, event: Event | None) -> None:
        """Take one event of one of them; None ends it."""

    def finish(self, shown: Sequence[Bundle]) -> None:
        """Show them as they stay."""


class Display(Protocol):
    """Where a shell shows things."""

    returns: bool

    def live(self, planned: Plan, *, owns_cell: bool) -> AbstractContextManager[AnswerDisplay]:
        """What shows one answer while it arrives."""

    def comparison(self, labels: Sequence[str]) -> ComparisonDisplay:
        """What shows several answers while they arrive."""

    def show(self, bundle: Bundle) -> None:
        """Show something that is no answer."""

    def show_answer(self, answer: Answer, profile: Settings) -> None:
        """Show an answer that is here already, as it was shown when it came."""


class KernelDisplay:
    """JupyterLab, Notebook, VS Code, Colab, nbclient: whatever listens to a kernel."""

    # A cell that returns its Answer sets `_`, and nothing more is sent: see O3Magics.show.
    returns = True

    def __init__(self, shell: Any, name: str) -> None:
        self._ip = shell
        self._ids = (f"o3magic-{name}-{n}" for n in itertools.count(1))

    @property
    def screen(self) -> CellScreen:
        """Where displays of the running cell go: elsewhere while `%%capture` holds them."""
        return CellScreen(self._ip.display_pub)

    def live(self, planned: Plan, *, owns_cell: bool) -> LiveAnswer:
        """Throttled segments of Markdown."""
        profile = planned.profile
        return LiveAnswer(
            self.screen,
            self._ids.__next__,
            model=profile.model,
            schema=profile.schema,
            view=profile.view,
            raw=profile.raw,
            partial=planned.partial,
            owns_cell=owns_cell,
        )

    def comparison(self, labels: Sequence[str]) -> LiveComparison:
        """A column for each, in one display."""
        from o3magic.render.comparison import LiveComparison

        return LiveComparison(self.screen, self._ids.__next__, labels)

    def show(self, bundle: Bundle) -> None:
        """One display."""
        self.screen.show(bundle, next(self._ids))

    def show_answer(self, answer: Answer, profile: Settings) -> None:
        """The same displays as when it came."""
        for bundle in bundles(answer, view=profile.view, raw=profile.raw):
            self.show(bundle)


class CellScreen:
    """Displays of the cell that runs."""

    def __init__(self, publisher: Any) -> None:
        self._publish = publisher.publish
        self._clear = publisher.clear_output

    def show(self, bundle: Bundle, display_id: str) -> None:
        """A new display."""
        self._publish(bundle.data, bundle.metadata, transient={"display_id": display_id})

    def update(self, bundle: Bundle, display_id: str) -> None:
        """Another content for one."""
        self._publish(
            bundle.data, bundle.metadata, transient={"display_id": display_id}, update=True
        )

    def clear(self) -> None:
        """Take all away when the next one comes."""
        self._clear(wait=True)


class TerminalDisplay:
    """IPython in a terminal, or with its output in a pipe or a file."""

    returns = False

    def live(self, planned: Plan, *, owns_cell: bool) -> AbstractContextManager[AnswerDisplay]:
        """Redrawn by rich in a terminal, written as it comes elsewhere."""
        from o3magic.render import terminal

        profile, console = planned.profile, terminal.console()
        if not console.is_terminal:
            return terminal.PlainAnswer(sys.stdout, schema=profile.schema)
        return terminal.TerminalAnswer(
            console, model=profile.model, schema=profile.schema, raw=profile.raw
        )

    def comparison(self, labels: Sequence[str]) -> ComparisonDisplay:
        """Only the end of it: a terminal has no room for columns that grow."""
        return AtTheEnd(self)

    def show(self, bundle: Bundle) -> None:
        """Its text."""
        from o3magic.render import terminal

        terminal.show(bundle, terminal.console())

    def show_answer(self, answer: Answer, profile: Settings) -> None:
        """Rendered in a terminal, as text elsewhere."""
        from o3magic.render import terminal

        terminal.show_answer(answer, terminal.console(), raw=profile.raw)


class AtTheEnd:
    """Shows several answers when all are there."""

    def __init__(self, front: Display) -> None:
        self._front = front

    def begin(self) -> None:
        """Nothing yet."""

    def add(self, place: int, event: Event | None) -> None:
        """Nothing yet."""

    def finish(self, shown: Sequence[Bundle]) -> None:
        """All of it."""
        for bundle in shown:
            self._front.show(bundle)


def front_of(shell: Any, name: str) -> Display:
    """How this shell shows things; `name` sets its displays apart from others'."""
    if getattr(shell, "kernel", None) is not None:
        return KernelDisplay(shell, name)
    return TerminalDisplay()

"""An answer in a notebook while it arrives: one place that decides when what is sent.

Jupyter's server drops messages, the last one included, where too many are sent, and JupyterLab
renders a whole Markdown output anew at each update. So the text goes out at most ten times a
second, less often where it is long or sending takes long, and in segments: what is finished stays
as it is, only the open end is sent again. A timer sends what is there when no chunk comes.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from o3magic.events import Answer, Event, ModelStatus, ReasoningDelta, Retrying, TextDelta, ToolUsed
from o3magic.render import answer
from o3magic.render.answer import AnswerView, Bundle, bundles, footer_bundle, reasoning
from o3magic.render.data_table import as_markdown
from o3magic.render.markdown.escape import entities
from o3magic.render.markdown.sanitize import plain_text, safe_markdown
from o3magic.render.markdown.segments import Segments

GROWTH = 1.1
LEAST_CHARS = 24
ROWS = 20
CELL = 100  # characters


class GrowingJson:
    """Takes pieces of JSON. `read` gives what the beginning of a text says, or None for nothing."""

    def __init__(self, read: Callable[[str], Any], name: str) -> None:
        self._read, self._name = read, name
        self._pieces: list[str] = []
        self._chars = 0
        self._next_chars = LEAST_CHARS
        self._shown = ""

    def feed(self, text: str) -> None:
        """Take the next piece."""
        self._pieces.append(text)
        self._chars += len(text)

    def shown(self) -> str:
        """The answer so far as a Markdown table; "" where there is nothing to see yet."""
        if self._chars >= self._next_chars:
            self._next_chars = int(self._chars * GROWTH) + LEAST_CHARS
            whole = "".join(self._pieces)
            self._pieces = [whole]
            data = self._read(whole)
            if data not in (None, {}, [], ""):
                self._shown = as_markdown(data, self._name, rows=ROWS, cell=CELL, brief=True)
        return self._shown


INTERVAL_S = 0.1
LIVELY_CHARS = 2_000  # beyond, no one reads along: half as often spares half of the page's work
CHARS_PER_S = 20_000  # what a page renders with time to spare, formulas included
LONGEST_S = 1.0  # between two updates of a stream that is faster than that
PAUSE = 4  # times what the last update took: so a fifth of the time, at most, goes into them
COUNT_S = 1.0
SILENCE_S = 15.0
MOST_MERGED_CHARS = 65_536
SPINNER = "◐◓◑◒"


class DisplayScreen(Protocol):
    """Where displays go: a front end behind a kernel."""

    def show(self, bundle: Bundle, display_id: str) -> None:
        """A new display. Only from the thread that runs the cell."""

    def update(self, bundle: Bundle, display_id: str) -> None:
        """Another content for a display; from any thread."""

    def clear(self) -> None:
        """Take all the cell's displays away as soon as the next one comes."""


class LiveAnswer:
    """Shows one answer as it arrives. Enter it, `add` each event, then `finish` or `fail`.

    owns_cell: nothing else is in the cell's output, so the segments may be merged into one.
    partial: gives what the beginning of a structured answer says, or None for nothing yet.
    """

    def __init__(
        self,
        screen: DisplayScreen,
        ids: Callable[[], str],
        *,
        model: str,
        schema: str = "",
        view: AnswerView = "auto",
        raw: bool = False,
        partial: Callable[[str], Any] | None = None,
        owns_cell: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen, self._ids, self._clock = screen, ids, clock
        self._model, self._schema, self._view, self._raw = model, schema, view, raw
        self._owns_cell = owns_cell
        self._partial = partial
        self._growing = self._grow()
        self._new: list[str] = []
        self._chars = 0
        self._reasoning: list[str] = []
        self._uses: list[ToolUsed] = []
        self._status = "is thinking"
        self._segments = Segments()
        self._displays: list[str] = []
        self._sent: list[object] = []
        self._sent_chars = 0  # of Markdown, in this update
        self._table = ""  # of a structured answer, as it was sent last
        self._began_s = self._last_s = self._next_s = self._told_s = clock()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._timer: threading.Thread | None = None

    def __enter__(self) -> LiveAnswer:
        """Show the first line at once, and start the timer."""
        self._open(self._waiting(), "")
        # The cell's context goes with the thread: without it a kernel sends the updates nowhere.
        context = contextvars.copy_context()
        timer = threading.Thread(
            target=context.run, args=(self._tick,), name="o3magic-live", daemon=True
        )
        with suppress(RuntimeError):  # no threads in a browser: what comes is sent as it comes
            timer.start()
            self._timer = timer
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the timer. What had arrived is on the screen, however it ended."""
        self._stop.set()
        if self._timer is not None:
            self._timer.join()
        if self._new:
            self._flush(may_open=True)

    def add(self, event: Event) -> None:
        """Take one event; send what is there if it is time."""
        now = self._clock()
        self._last_s = now
        if type(event) is TextDelta:
            self._new.append(event[0])
            if now < self._next_s and self._chars:
                return
            # The first words go out at once.
            self._flush(may_open=True)
        elif type(event) is ReasoningDelta:
            self._reasoning.append(event[0])
        elif type(event) is ToolUsed:
            self._uses.append(event)
            self._again("reads what its tools say")
        elif type(event) is Retrying:
            when = f" in {event.wait_s:.0f} s" if event.wait_s >= 1 else ""
            self._again(f"is asked again{when} ({event.why})")
        elif type(event) is ModelStatus:
            self._again(event.text)

    def finish(self, answer: Answer) -> None:
        """Show the answer as it is saved: one display wherever that can be."""
        self._stop.set()
        with self._lock:
            if self._stays_in_segments(answer):
                self._publish(may_open=True, last=True)
                self._screen.show(footer_bundle(answer), self._ids())
                return
            final = bundles(answer, view=self._view, raw=self._raw)
            if len(self._displays) > 1 and self._owns_cell:
                self._screen.clear()
                self._screen.show(final[0], self._displays[0])
            else:
                self._screen.update(final[0], self._displays[0])
                self._empty(range(1, len(self._displays)))
            for more in final[1:]:
                self._screen.show(more, self._ids())

    def dismiss(self) -> None:
        """Nothing came: leave nothing."""
        self._stop.set()
        with self._lock:
            if self._owns_cell:
                self._screen.clear()
            else:
                self._screen.update(Bundle({"text/plain": ""}, {}), self._displays[0])

    def _stays_in_segments(self, answer: Answer) -> bool:
        """Whether the text is too long for one display, or may not be merged into one.

        The text alone decides, not how it arrived: what is saved must not depend on that.
        """
        text = "".join(self._new)
        self._new.clear()
        if self._schema or not answer.text:
            return False
        if self._owns_cell and len(answer.text) <= MOST_MERGED_CHARS:
            return False
        self._take(text)
        if self._chars != len(answer.text):
            self._segments = Segments()
            self._segments.feed(answer.text)
        return bool(self._reasoning) or len(self._segments.rendered()) > 1

    def _again(self, status: str) -> None:
        """Another turn or attempt: what the last one said goes, and the line says why."""
        with self._lock:
            self._new.clear()
            self._reasoning.clear()
            self._chars = 0
            self._segments = Segments()
            self._growing, self._table = self._grow(), ""
            self._status = status
            self._send(0, self._waiting())
            self._empty(range(1, len(self._displays)))

    def _empty(self, places: Iterable[int]) -> None:
        """Take what these displays say away: only all of a cell's displays can be removed."""
        for place in places:
            self._send_part(place, "")

    def _tick(self) -> None:
        """Send what is there, ten times a second, and the clock once a second."""
        beats = 0
        while not self._stop.wait(self._pause_s()):
            beats += 1
            if self._new:
                if self._clock() >= self._next_s:
                    self._flush(may_open=False)
            elif beats % 10 == 0 and (self._schema or not self._chars):
                with self._lock:
                    if not self._stop.is_set():
                        self._send(0, self._waiting())

    def _pause_s(self) -> float:
        """How long the timer waits: not past the time when what is there may go out."""
        left_s = self._next_s - self._clock() if self._new else INTERVAL_S
        return min(max(left_s, INTERVAL_S / 25), INTERVAL_S)

    def _flush(self, *, may_open: bool) -> None:
        """Send the new text. A new display can only be opened by the cell's own thread."""
        with self._lock:
            if self._stop.is_set() and not may_open:
                return  # finished while the timer waited for the lock
            count = len(self._new)
            text = "".join(self._new[:count])
            del self._new[:count]
            began_s, self._sent_chars = self._clock(), 0
            self._take(text)
            if self._schema:
                self._show_growth(began_s)
            else:
                self._publish(may_open=may_open)
            now = self._clock()
            calm_s = INTERVAL_S if self._chars <= LIVELY_CHARS else 2 * INTERVAL_S
            calm_s = max(calm_s, min(self._sent_chars / CHARS_PER_S, LONGEST_S))
            self._next_s = max(began_s + calm_s, now + PAUSE * (now - began_s))

    def _show_growth(self, now_s: float) -> None:
        """The structured answer so far; once a second where only its length is new."""
        table = self._growing.shown() if self._growing else ""
        if table and table == self._table and now_s < self._told_s + COUNT_S:
            return
        self._table, self._told_s = table, now_s
        self._send(0, self._waiting())

    def _take(self, text: str) -> None:
        self._chars += len(text)
        if not self._schema:
            self._segments.feed(text)
        elif self._growing is not None:
            self._growing.feed(text)

    def _grow(self) -> GrowingJson | None:
        """What reads a structured answer while it comes, from its beginning."""
        return GrowingJson(self._partial, self._schema) if self._partial and self._schema else None

    def _publish(self, *, may_open: bool, last: bool = False) -> None:
        """Bring the displays up to the segments; `last`: nothing more comes."""
        first = 1 if self._reasoning else 0
        parts = self._segments.rendered()
        if first:
            self._send(0, self._words(reasoning("".join(self._reasoning)), ""))
        there = len(self._displays) - first
        if not may_open and 0 < there < len(parts):
            parts[there - 1 :] = ["\n\n".join(parts[there - 1 :])]
        closed = len(parts) - (not last)
        for place, part in enumerate(parts[:there]):
            self._send_part(first + place, part, closed=place < closed)
        self._empty(range(first + len(parts), len(self._displays)))  # of the attempt before
        if may_open:
            for place, part in enumerate(parts[there:], there):
                is_closed = place < closed
                self._open(self._segment(part, closed=is_closed), (part, is_closed))

    def _open(self, bundle: Bundle, sent: object) -> None:
        """A new display below the others."""
        display_id = self._ids()
        self._displays.append(display_id)
        self._sent.append(sent)
        self._screen.show(self._counted(bundle), display_id)

    def _send(self, place: int, bundle: Bundle) -> None:
        """Update a display, if it is not so already."""
        now = str(bundle.data)
        if self._sent[place] != now:
            self._sent[place] = now
            self._screen.update(self._counted(bundle), self._displays[place])

    def _send_part(self, place: int, text: str, *, closed: bool = True) -> None:
        """The same with a piece of the answer, which is rendered only where it is new."""
        if self._sent[place] != (text, closed):
            self._sent[place] = (text, closed)
            bundle = self._counted(self._segment(text, closed=closed))
            self._screen.update(bundle, self._displays[place])

    def _counted(self, bundle: Bundle) -> Bundle:
        """What is sent, after it was added to what the page has to render."""
        self._sent_chars += len(bundle.data.get("text/markdown", ""))
        return bundle

    def _segment(self, text: str, *, closed: bool) -> Bundle:
        """A piece of the answer. The open end is sent often, so it goes without its text twice."""
        if self._raw:
            return Bundle({"text/plain": plain_text(text)}, {})
        if not closed:
            return Bundle({"text/markdown": safe_markdown(text)}, {})
        return self._words(safe_markdown(text), plain_text(text))

    def _words(self, markdown: str, plain: str) -> Bundle:
        return Bundle({"text/markdown": markdown, "text/plain": plain}, {})

    def _waiting(self) -> Bundle:
        """The line that is there before the answer: who is asked, and for how long."""
        now = self._clock()
        elapsed_s = int(now - self._began_s)
        status = "is writing" if self._chars else self._status
        line = f"{SPINNER[elapsed_s % len(SPINNER)]} {self._model} {status} · {elapsed_s} s"
        if self._chars and self._schema:
            line += f" · {self._chars:,} characters of {self._schema} so far"
        silent_s = int(now - self._last_s)
        if silent_s >= SILENCE_S:
            line += f" · nothing arrived for {silent_s} s"
        thought = plain_text("".join(self._reasoning)).strip()
        shown = f"*{entities(line)}*"
        if self._growing is not None and (table := self._growing.shown()):
            shown = f"{table}\n\n{shown}"
        elif thought:
            quoted = thought.rpartition("\n\n")[2][-600:]
            shown += f"\n\n> {entities(' '.join(quoted.split()))}"
        if self._uses:
            shown = f"{answer.render_tool_uses(self._uses)}\n\n{shown}"
        return self._words(shown, line)

"""An answer in a terminal while it arrives. The door of rich, which is loaded at the first use."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from o3magic.events import Answer, Event, ModelStatus, ReasoningDelta, Retrying, TextDelta, ToolUsed
from o3magic.render import citations
from o3magic.render.answer import Bundle, as_json, plain_footer, tool_uses_text
from o3magic.render.markdown.sanitize import plain_text, safe_markdown
from o3magic.render.markdown.segments import Segments

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

REFRESH_PER_S = 8
BAR_CHARS = 40


class TerminalAnswer:
    """Shows one answer in a terminal. Finished paragraphs scroll up, the open one is redrawn."""

    def __init__(
        self, console: Console, *, model: str, schema: str = "", raw: bool = False
    ) -> None:
        self._console, self._model, self._schema, self._raw = console, model, schema, raw
        self._segments = Segments()
        self._printed = 0
        self._chars = 0
        self._reasoning: list[str] = []
        self._status = "is thinking"
        self._began_s = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> TerminalAnswer:
        """Show the first line at once; rich's own thread keeps it fresh."""
        from rich.live import Live

        self._live = Live(
            get_renderable=self._open_end,
            console=self._console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
            vertical_overflow="crop",
        )
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the open end away; what is final was printed above it."""
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._live = None

    def add(self, event: Event) -> None:
        """Take one event."""
        if type(event) is TextDelta:
            self._chars += len(event[0])
            self._segments.feed(event[0])
            if not self._schema:
                self._print_closed()
        elif type(event) is ReasoningDelta:
            self._reasoning.append(event[0])
        elif type(event) is ToolUsed:
            self._again("reads what its tools say")
            self._console.print(tool_uses_text([event]), style="dim", markup=False, highlight=False)
        elif type(event) is Retrying:
            self._again(f"is asked again ({event.why})")
        elif type(event) is ModelStatus:
            self._again(event.text)

    def _again(self, status: str) -> None:
        """Another turn or attempt begins."""
        self._segments, self._printed, self._chars = Segments(), 0, 0
        self._status = status

    def finish(self, answer: Answer) -> None:
        """Print the rest, and the footer."""
        self.__exit__()
        if answer.data is not None:
            self._console.print_json(as_json(answer.data))
        else:
            for text in self._segments.rendered()[self._printed :]:
                self._console.print(self._words(text))
            if answer.refusal and not answer.text:
                self._console.print(plain_text(answer.refusal), markup=False, highlight=False)
        if cited := citations.plain(answer.citations):
            self._console.print(f"{cited}\n", markup=False, highlight=False, soft_wrap=True)
        self._console.print(plain_footer(answer), style="dim", markup=False, highlight=False)

    def dismiss(self) -> None:
        """Nothing came: leave nothing."""
        self.__exit__()

    def _print_closed(self) -> None:
        """Let the finished segments scroll up."""
        done = self._segments.rendered()[:-1]
        for text in done[self._printed :]:
            self._console.print(self._words(text))
        self._printed = max(self._printed, len(done))

    def _words(self, text: str) -> RenderableType:
        from rich.markdown import Markdown
        from rich.text import Text

        if self._raw:
            return Text(plain_text(text))
        # Made safe as for a notebook: then formulas keep their backslashes, and a link is text.
        return Markdown(safe_markdown(text), hyperlinks=False)

    def _open_end(self) -> RenderableType:
        """What is redrawn: the open segment, or the waiting line with the last of the reasoning."""
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        elapsed_s = int(time.monotonic() - self._began_s)
        if self._chars and not self._schema:
            parts = self._segments.rendered()
            return self._words(parts[-1] if len(parts) > self._printed else "")
        line = f"{self._model} {self._status} · {elapsed_s} s"
        if self._chars:
            line += f" · {self._chars:,} characters of {self._schema} so far"
        spinner = Spinner("dots", text=Text(line))
        thought = plain_text("".join(self._reasoning)).strip().rpartition("\n\n")[2]
        return Group(spinner, Text(thought[-400:], style="dim italic")) if thought else spinner


class PlainAnswer:
    """Writes the words as they come to what is no terminal, and the footer behind them."""

    def __init__(self, stream: TextIO, *, schema: str = "") -> None:
        self._stream, self._schema = stream, schema

    def __enter__(self) -> PlainAnswer:
        """Nothing is written before there is something to say."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def add(self, event: Event) -> None:
        """Write the words of one event."""
        if type(event) is TextDelta and not self._schema:
            self._stream.write(plain_text(event[0]))
            self._stream.flush()

    def finish(self, answer: Answer) -> None:
        """Write what was not written yet."""
        if answer.data is not None:
            self._stream.write(as_json(answer.data))
        elif self._schema or not answer.text:
            self._stream.write(plain_text(answer.text or answer.refusal))
        cited = citations.plain(answer.citations)
        self._stream.write(f"\n{cited}\n\n" if cited else "\n")
        self._stream.write(f"{plain_footer(answer)}\n")

    def dismiss(self) -> None:
        """Nothing came: nothing was written."""


class TerminalBar:
    """A bar with words beside and below it, drawn over itself.

    The cursor stands below it each time, so that nothing is to be put back where a job fails.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._height = 0

    def draw(self, share: float | None, beside: str, below: Sequence[tuple[str, str]]) -> None:
        """Draw it. share: None where nobody knows it. below: words, each with its style."""
        from rich.control import Control
        from rich.progress_bar import ProgressBar
        from rich.segment import ControlType
        from rich.table import Table
        from rich.text import Text

        width = min(BAR_CHARS, self._console.width // 3)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(1.0, share or 0.0, width, pulse=share is None), Text(plain_text(beside))
        )
        words = Text(" · ").join(Text(plain_text(word), style) for word, style in below)
        up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * self._height
        with self._console:  # sent as one piece: it does not flicker
            self._console.control(Control(ControlType.CARRIAGE_RETURN, *up))
            self._console.print(head, no_wrap=True, overflow="ellipsis", crop=True)
            self._console.print(words, no_wrap=True, overflow="ellipsis", crop=True)
        self._height = 2

    def end(self, said: str) -> None:
        """Write what is said of the end below it."""
        if said:
            self._console.print(plain_text(said), markup=False, highlight=False)


def bar_console(stream: TextIO) -> Console | None:
    """A console on a stream that is a terminal and can be drawn over, else None."""
    from rich.console import Console

    console = Console(file=stream, soft_wrap=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def console() -> Console:
    """A console on the standard output as it is now."""
    from rich.console import Console

    return Console(file=sys.stdout, soft_wrap=False)


def show(bundle: Bundle, target: Console) -> None:
    """Print a bundle that is no answer: a report, a request."""
    target.print(bundle.data.get("text/plain", ""), markup=False, highlight=False, soft_wrap=True)


def show_answer(answer: Answer, target: Console, *, raw: bool) -> None:
    """Print an answer that is here already."""
    live = TerminalAnswer(target, model=answer.model, raw=raw or not target.is_terminal)
    live.add(TextDelta(answer.text))
    live.finish(answer)

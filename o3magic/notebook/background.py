"""Answers that arrive while the kernel is free: `%%o3 --background`, and Run of the panel."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import secrets
import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from o3magic.errors import BrokenAnswer, Interrupted, O3Error
from o3magic.events import Answer
from o3magic.money import show_usd
from o3magic.notebook.display import AnswerDisplay, SingleDisplay, live_answer
from o3magic.render import tables
from o3magic.render.answer import Bundle, cost
from o3magic.session.answer_stream import AnswerStream


def consume(stream: AnswerStream, display: AnswerDisplay | None) -> tuple[Answer, O3Error | None]:
    """Take all events of a stream and show them; return the answer and the error, if there is one.

    An error has the answer as far as it arrived in `.answer`.
    """
    error: O3Error | None = None
    events = iter(stream)
    try:
        for event in events:
            if display is not None:
                display.add(event)
    except KeyboardInterrupt:
        events.close()  # type: ignore[attr-defined]
        error = Interrupted("stopped by you")
    except O3Error as raised:
        error = raised
    answer = stream.answer
    if error is not None:
        error.answer = answer
        error.hint = build_hint(error, answer, stream.plan.profile.out)
    return answer, error


def build_hint(error: O3Error, answer: Answer, out: str) -> str:
    """The hint of an error, with the name that has the partial answer and, if stopped, its cost."""
    if not isinstance(error, BrokenAnswer | Interrupted) or error.hint != type(error).hint:
        return error.hint
    partial_answer = f"what had arrived is kept in {out or '_'}" if has_content(answer) else ""
    if isinstance(error, BrokenAnswer):
        return "; ".join(filter(None, ["run the cell again", partial_answer]))
    if answer.source != "live":
        cost = "it cost nothing"
    elif answer.cost_usd is None:
        cost = "its cost is unknown until the provider's bill"
    else:
        cost = f"it cost {show_usd(answer.cost_usd)}"
    return f"{partial_answer or 'nothing had arrived'}; {cost}"


def has_content(answer: Answer) -> bool:
    """Whether anything worth showing has arrived."""
    return bool(answer.text or answer.refusal or answer.reasoning_summary or answer.tool_calls)


def consume_in_background(
    stream: AnswerStream, screen: SingleDisplay
) -> tuple[Answer, O3Error | None]:
    """The same as `consume`, shown in one display. Nothing is left of an answer without content."""
    ids = map(str, itertools.count())
    with live_answer(screen, ids.__next__, stream.plan) as live:
        answer, error = consume(stream, live)
        if error is None or has_content(answer):
            live.finish(answer)
        else:
            live.dismiss()
    return answer, error


class AnswerFuture:
    """An answer that is arriving. It has the attributes of an `Answer`, as far as it arrived; and

    done            whether it has ended
    wait(timeout_s) waits for it and returns the Answer; raises its error, or TimeoutError
    stop()          ends it; what had arrived is kept
    await later     the same as wait, in a cell during which other tasks run
    """

    def __init__(self, stream: AnswerStream) -> None:
        self._stream = stream
        self._ended = threading.Event()
        self._error: O3Error | None = None

    def __getattr__(self, name: str) -> Any:
        """An attribute of the answer as far as it arrived."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._stream.answer, name)

    def __repr__(self) -> str:
        return f"AnswerFuture({'done' if self.done else 'running'}, {self._stream.answer!r})"

    def __str__(self) -> str:
        """The text, as far as it arrived."""
        return str(self._stream.answer)

    def __o3_answer__(self) -> Answer:
        """The complete answer, for `{{ later }}` in a prompt."""
        return self.wait()

    def __await__(self) -> Generator[Any, None, Answer]:
        """Wait without blocking the event loop."""
        return asyncio.to_thread(self.wait).__await__()

    @property
    def now(self) -> Answer:
        """The answer as far as it arrived."""
        return self._stream.answer

    @property
    def done(self) -> bool:
        """Whether it has ended, with or without an error."""
        return self._ended.is_set()

    def wait(self, timeout_s: float | None = None) -> Answer:
        """The complete answer. Raises O3Error, or TimeoutError where it takes longer."""
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"no complete answer within {timeout_s} s")
        if self._error is not None:
            raise self._error
        return self._stream.answer

    def stop(self) -> None:
        """End it; what had arrived is kept."""
        self._stream.stop()

    def set_ended(self, error: O3Error | None) -> None:
        """Mark it as ended; called once, by the thread that reads the stream."""
        self._error = error
        self._ended.set()


class BackgroundAnswers:
    """The answers of one shell that are still arriving.

    on_end: called when an answer has ended, in its thread.
    """

    def __init__(self, shell: Any, on_end: Callable[[], None]) -> None:
        self._shell = shell
        self._on_end = on_end
        self._threads: dict[AnswerFuture, threading.Thread] = {}

    def start(self, stream: AnswerStream) -> AnswerFuture:
        """Read a stream in a thread, and show it in a display of the running cell."""
        future, display_id = AnswerFuture(stream), f"o3magic-later-{secrets.token_hex(4)}"
        # The publisher of this cell: while `%%capture` holds its displays, it is another one.
        publish = partial(self._shell.display_pub.publish, transient={"display_id": display_id})
        publish({"text/plain": f"{stream.plan.profile.model} is asked in the background"}, {})

        def run() -> None:
            error = None
            try:
                screen = SingleDisplay(lambda bundle: publish(*bundle, update=True))
                _, error = consume_in_background(stream, screen)
                if error is not None:
                    screen.show(Bundle({"text/plain": "\n".join(error.lines())}, {}), "error")
                screen.flush()
            finally:
                future.set_ended(error)
                self._threads.pop(future, None)
                self._on_end()

        # The cell's context goes with the thread, so that its messages belong to the cell.
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(run,), name="o3magic-later", daemon=True
        )
        self._threads[future] = thread
        try:
            thread.start()
        except RuntimeError:  # no threads in a browser: the cell waits for the answer
            run()
        return future

    def wait(self) -> None:
        """Wait until all answers have ended."""
        for thread in list(self._threads.values()):
            thread.join()

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop all answers, and wait until their cost is in the ledger."""
        for future, thread in list(self._threads.items()):
            future.stop()
            thread.join(timeout_s)


class PanelRunner:
    """Reads one answer at a time for the panel, in a thread and into one display.

    answer: the last answer, as far as it arrived; None before the first.
    on_end: called from the thread with a line of HTML about the answer that ended, or with None for
    one that was stopped to ask another.
    """

    def __init__(self, shell: InteractiveShell, on_end: Callable[[str | None], None]) -> None:
        self._shell, self._on_end = shell, on_end
        self.answer: Answer | None = None
        self._display_id = f"o3magic-panel-{secrets.token_hex(4)}"
        self._shown = tables.line("The answer to Run appears here.")
        self._context = contextvars.copy_context()
        self._stream: AnswerStream | None = None
        self._screen: SingleDisplay | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether an answer is arriving."""
        return self._stream is not None

    def add_display(self) -> None:
        """Add the display for the answers to the running cell."""
        self._context = contextvars.copy_context()
        self.publish(self._shown, update=False)

    def publish(self, bundle: Bundle, *, update: bool = True) -> None:
        """Show a bundle in the display for the answers."""
        self._shown = bundle
        self._shell.display_pub.publish(
            bundle.data,
            bundle.metadata,
            transient={"display_id": self._display_id},
            update=update,
        )

    def start(self, stream: AnswerStream) -> None:
        """Read a stream in a thread."""
        if self._screen is not None:
            self._screen.close()
        self._stream, self._screen = stream, SingleDisplay(self.publish)
        self._thread = threading.Thread(
            # The cell's context goes with the thread, so that its messages belong to the cell.
            target=self._context.copy().run,
            args=(self._run, stream, self._screen),
            name="o3magic-panel",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> bool:
        """Stop the answer that is arriving, if one is; another one can be asked at once."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.stop()
        return stream is not None

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the last answer has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, stream: AnswerStream, screen: SingleDisplay) -> None:
        """Read one answer; runs in the thread."""
        from o3magic.notebook.panel_html import alarm

        message = alarm("the answer broke off")
        try:
            message = self._read(stream, screen)
        finally:
            screen.flush()
            screen.close()
            is_last = self._screen is screen
            if is_last:
                self._stream = None
            self._on_end(message if is_last else None)

    def _read(self, stream: AnswerStream, screen: SingleDisplay) -> str:
        """Show an answer while it arrives and keep it; return a line about its end."""
        from o3magic.notebook.panel_html import error_html, status

        settings = stream.plan.profile
        if settings.quiet:
            answer, error = consume(stream, None)
        else:
            answer, error = consume_in_background(stream, screen)
            if error is not None and not has_content(answer):
                screen.show(tables.line("\n".join(error.lines())), "failed")
        if self._screen is screen:
            self.answer = answer
            if settings.out:
                self._shell.user_ns[settings.out] = answer
        if error is None:
            return status(f"answered in {answer.elapsed_s:.1f} s · {cost(answer)}")
        if isinstance(error, Interrupted):
            if not has_content(answer):
                return status("stopped by you before anything arrived")
            return status("stopped by you; what had arrived is the panel's `answer`")
        return error_html(error)

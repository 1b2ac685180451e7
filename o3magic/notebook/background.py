"""`--background`: the cell returns at once, the answer goes on in a thread and into its place."""

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
from o3magic.notebook.display import SingleDisplay
from o3magic.render import tables
from o3magic.render.answer import Bundle, cost
from o3magic.render.live import LiveAnswer
from o3magic.session.answer_stream import AnswerStream
from o3magic.session.plan import Plan


def drain(asking: Any, showing: Any) -> tuple[Answer, O3Error | None]:
    """Take all events, show them, and give the answer with what went wrong, if something did."""
    failed: O3Error | None = None
    events = iter(asking)
    try:
        for event in events:
            if showing is not None:
                showing.add(event)
    except KeyboardInterrupt:
        events.close()
        failed = Interrupted("stopped by you")
    except O3Error as error:
        failed = error
    answer = asking.answer
    if failed is not None:
        failed.answer = answer
        failed.hint = hint(failed, answer, asking.plan.profile.out)
    return answer, failed


def hint(failed: O3Error, answer: Answer, out: str) -> str:
    """What to try, or where to find what had arrived; of an answer that was stopped, its cost."""
    if not isinstance(failed, BrokenAnswer | Interrupted) or failed.hint != type(failed).hint:
        return failed.hint
    kept = f"what had arrived is kept in {out or '_'}" if holds(answer) else ""
    if isinstance(failed, BrokenAnswer):
        return "; ".join(filter(None, ["run the cell again", kept]))
    return "; ".join([kept or "nothing had arrived", cost_of(answer)])


def cost_of(answer: Answer) -> str:
    """What an answer that was stopped cost, as far as anybody knows."""
    if answer.source != "live":
        return "it cost nothing"
    if answer.cost_usd is None:
        return "its cost is unknown until the provider's bill"
    return f"it cost {show_usd(answer.cost_usd)}"


def holds(answer: Answer) -> bool:
    """Whether anything worth showing arrived."""
    return bool(answer.text or answer.refusal or answer.reasoning_summary or answer.tool_calls)


NOTHING_YET = "The answer to Run appears here."


class BackgroundRunner:
    """Asks one question at a time, in the background.

    answer: the last answer, or as much of it as arrived; None before the first.
    over: called from the thread with a line of HTML about an answer that ended, or with None for
    one that somebody stopped to ask another.
    """

    def __init__(self, shell: InteractiveShell, over: Callable[[str | None], None]) -> None:
        self._ip, self._over = shell, over
        self.answer: Answer | None = None
        self._display_id = f"o3magic-panel-{secrets.token_hex(4)}"
        self._shown = tables.line(NOTHING_YET)
        self._context = contextvars.copy_context()
        self._asking: AnswerStream | None = None
        self._screen: SingleDisplay | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether an answer is on its way."""
        return self._asking is not None

    def place(self) -> None:
        """Put the display for the answers into the running cell."""
        self._context = contextvars.copy_context()
        self.publish(self._shown, update=False)

    def publish(self, bundle: Bundle, *, update: bool = True) -> None:
        """Show something in that display."""
        self._shown = bundle
        self._ip.display_pub.publish(
            bundle.data,
            bundle.metadata,
            transient={"display_id": self._display_id},
            update=update,
        )

    def start(self, asking: AnswerStream) -> None:
        """Ask. Comes back at once."""
        if self._screen is not None:
            self._screen.close()
        self._asking, self._screen = asking, SingleDisplay(self.publish)
        self._thread = threading.Thread(
            # The context of the cell goes with it, so that its messages belong there.
            target=self._context.copy().run,
            args=(self._ask, asking, self._screen),
            name="o3magic-panel",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> bool:
        """Stop the answer, if one is on its way; another one may be asked at once."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.stop()
        return asking is not None

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the last answer has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _ask(self, asking: AnswerStream, screen: SingleDisplay) -> None:
        """Take one answer; runs in the thread."""
        from o3magic.notebook.panel_html import alarm

        said = alarm("the answer broke off")
        try:
            said = self._take(asking, screen)
        finally:
            screen.flush()
            screen.close()
            last = self._screen is screen
            if last:
                self._asking = None
            self._over(said if last else None)

    def _take(self, asking: AnswerStream, screen: SingleDisplay) -> str:
        """Show an answer while it arrives, keep it, and say how it ended."""
        profile = asking.plan.profile
        if profile.quiet:
            answer, failed = drain(asking, None)
        else:
            with display_once(screen, asking.plan) as showing:
                answer, failed = drain(asking, showing)
                if failed is None or holds(answer):
                    showing.finish(answer)
                else:
                    showing.dismiss()
            if failed is not None and not holds(answer):
                screen.show(tables.line("\n".join(failed.lines())), "failed")
        if self._screen is screen:
            self.answer = answer
            if profile.out:
                self._ip.user_ns[profile.out] = answer
        return ending(answer, failed)


def display_once(screen: SingleDisplay, planned: Plan) -> LiveAnswer:
    """What shows one answer in the one display."""
    profile = planned.profile
    ids = (str(n) for n in itertools.count())
    # A tree has no room for its footer in there: "auto" is a table.
    view: Any = "table" if profile.view == "auto" else profile.view
    return LiveAnswer(
        screen,
        ids.__next__,
        model=profile.model,
        schema=profile.schema,
        view=view,
        raw=profile.raw,
        partial=planned.partial,
    )


def ending(answer: Answer, failed: O3Error | None) -> str:
    """A line about an answer that ended."""
    from o3magic.notebook.panel_html import error_html, status

    if failed is None:
        return status(f"answered in {answer.elapsed_s:.1f} s · {cost(answer)}")
    if isinstance(failed, Interrupted):
        there = "; what had arrived is the panel's `answer`" if holds(answer) else ""
        return status(f"stopped by you{there or ' before anything arrived'}")
    return error_html(failed)


class AnswerFuture:
    """An answer on its way. It has all that an `Answer` has, as far as it came; and

    done            whether it has ended
    wait(timeout_s) waits for it and gives the Answer; raises what went wrong, or TimeoutError
    stop()          ends it; what had arrived is kept
    await later     the same as wait, in a cell that may go on meanwhile
    """

    def __init__(self, asking: AnswerStream) -> None:
        self._asking = asking
        self._over = threading.Event()
        self._failed: O3Error | None = None

    def __getattr__(self, name: str) -> Any:
        """What the answer has so far."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._asking.answer, name)

    def __repr__(self) -> str:
        """One short line."""
        state = "done" if self.done else "on its way"
        return f"Later({state}, {self._asking.answer!r})"

    def __await__(self) -> Generator[Any, None, Answer]:
        """Wait without holding up the event loop."""
        return asyncio.to_thread(self.wait).__await__()

    @property
    def now(self) -> Answer:
        """The answer as far as it came."""
        return self._asking.answer

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._over.is_set()

    def wait(self, timeout_s: float | None = None) -> Answer:
        """The whole answer. Raises O3Error, or TimeoutError where it takes longer."""
        if not self._over.wait(timeout_s):
            raise TimeoutError(f"no whole answer within {timeout_s} s")
        if self._failed is not None:
            raise self._failed
        return self._asking.answer

    def stop(self) -> None:
        """End it from here."""
        self._asking.stop()

    def end(self, failed: O3Error | None) -> None:
        """It has ended; called once, by the thread that asked."""
        self._failed = failed
        self._over.set()


class BackgroundAnswers:
    """The answers of one shell that are on their way."""

    def __init__(self, shell: Any, over: Callable[[], None]) -> None:
        self._ip = shell
        self._over = over  # called when an answer has ended, in its thread
        self._running: dict[AnswerFuture, threading.Thread] = {}

    def start(self, asking: AnswerStream) -> AnswerFuture:
        """Ask in a thread; the display is made here, in the cell, and filled from there."""
        later, display_id = AnswerFuture(asking), f"o3magic-later-{secrets.token_hex(4)}"
        first = Bundle(
            {"text/plain": f"{asking.plan.profile.model} is asked in the background"}, {}
        )
        # While `%%capture` holds the cell's displays, the publisher is another.
        send = partial(self._ip.display_pub.publish, transient={"display_id": display_id})
        send(*first)

        def publish(bundle: Bundle) -> None:
            send(*bundle, update=True)

        def run() -> None:
            failed = None
            try:
                failed = show_all(asking, publish)
            finally:
                later.end(failed)
                self._running.pop(later, None)
                self._over()

        # The context of the cell goes with the thread, so that its messages belong there.
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(run,), name="o3magic-later", daemon=True
        )
        self._running[later] = thread
        try:
            thread.start()
        except RuntimeError:  # no threads in a browser: it is answered before the cell returns
            run()
        return later

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop what is on its way, and wait until it is in the books."""
        for later, thread in list(self._running.items()):
            later.stop()
            thread.join(timeout_s)


def show_all(asking: AnswerStream, publish: Callable[[Bundle], None]) -> O3Error | None:
    """Take the whole answer and show it; what went wrong is shown too, and given back."""
    screen = SingleDisplay(publish)
    live = display_once(screen, asking.plan)
    with live:
        answer, failed = drain(asking, live)
        if failed is None or holds(answer):
            live.finish(answer)
        else:
            live.dismiss()
    if failed is not None:
        screen.show(Bundle({"text/plain": "\n".join(failed.lines())}, {}), "error")
    screen.flush()
    return failed

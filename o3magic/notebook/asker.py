"""A question asked in a thread of its own, its answer shown in a display the cell left behind."""

from __future__ import annotations

import contextvars
import itertools
import secrets
import threading
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from o3magic.errors import Interrupted, O3Error
from o3magic.events import Answer
from o3magic.notebook.one_display import OneDisplay
from o3magic.notebook.panel_words import alarm, error_html, status
from o3magic.notebook.taking import drain, holds
from o3magic.render import listing
from o3magic.render.bundle import Bundle
from o3magic.render.footer import cost
from o3magic.render.live import Live
from o3magic.talk.ask import Asking
from o3magic.talk.plan import Plan

NOTHING_YET = "The answer to Run appears here."


class Asker:
    """Asks one question at a time, in the background.

    answer: the last answer, or as much of it as arrived; None before the first.
    over: called from the thread with a line of HTML about an answer that ended, or with None for
    one that somebody stopped to ask another.
    """

    def __init__(self, shell: InteractiveShell, over: Callable[[str | None], None]) -> None:
        self._ip, self._over = shell, over
        self.answer: Answer | None = None
        self._display_id = f"o3magic-panel-{secrets.token_hex(4)}"
        self._shown = listing.line(NOTHING_YET)
        self._context = contextvars.copy_context()
        self._asking: Asking | None = None
        self._screen: OneDisplay | None = None
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

    def start(self, asking: Asking) -> None:
        """Ask. Comes back at once."""
        if self._screen is not None:
            self._screen.close()
        self._asking, self._screen = asking, OneDisplay(self.publish)
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

    def _ask(self, asking: Asking, screen: OneDisplay) -> None:
        """Take one answer; runs in the thread."""
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

    def _take(self, asking: Asking, screen: OneDisplay) -> str:
        """Show an answer while it arrives, keep it, and say how it ended."""
        profile = asking.plan.profile
        if profile.quiet:
            answer, failed = drain(asking, None)
        else:
            with live(screen, asking.plan) as showing:
                answer, failed = drain(asking, showing)
                if failed is None or holds(answer):
                    showing.finish(answer)
                else:
                    showing.dismiss()
            if failed is not None and not holds(answer):
                screen.show(listing.line("\n".join(failed.lines())), "failed")
        if self._screen is screen:
            self.answer = answer
            if profile.out:
                self._ip.user_ns[profile.out] = answer
        return ending(answer, failed)


def live(screen: OneDisplay, planned: Plan) -> Live:
    """What shows one answer in the one display."""
    profile = planned.profile
    ids = (str(n) for n in itertools.count())
    # A tree has no room for its footer in there: "auto" is a table.
    view: Any = "table" if profile.view == "auto" else profile.view
    return Live(
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
    if failed is None:
        return status(f"answered in {answer.elapsed_s:.1f} s · {cost(answer)}")
    if isinstance(failed, Interrupted):
        there = "; what had arrived is the panel's `answer`" if holds(answer) else ""
        return status(f"stopped by you{there or ' before anything arrived'}")
    return error_html(failed)

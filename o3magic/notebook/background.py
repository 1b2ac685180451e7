"""`--background`: the cell returns at once, the answer goes on in a thread and into its place."""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from o3magic.errors import O3Error
from o3magic.events import Answer
from o3magic.notebook.asker import live as one_live
from o3magic.notebook.one_display import OneDisplay
from o3magic.notebook.taking import drain, holds
from o3magic.render.bundle import Bundle
from o3magic.talk.ask import Asking


class Later:
    """An answer on its way. It has all that an `Answer` has, as far as it came; and

    done            whether it has ended
    wait(timeout_s) waits for it and gives the Answer; raises what went wrong, or TimeoutError
    stop()          ends it; what had arrived is kept
    await later     the same as wait, in a cell that may go on meanwhile
    """

    def __init__(self, asking: Asking) -> None:
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


class Background:
    """The answers of one shell that are on their way."""

    def __init__(self, shell: Any, over: Callable[[], None]) -> None:
        self._ip = shell
        self._over = over  # called when an answer has ended, in its thread
        self._running: dict[Later, threading.Thread] = {}

    def start(self, asking: Asking) -> Later:
        """Ask in a thread; the display is made here, in the cell, and filled from there."""
        later, display_id = Later(asking), f"o3magic-later-{secrets.token_hex(4)}"
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


def show_all(asking: Asking, publish: Callable[[Bundle], None]) -> O3Error | None:
    """Take the whole answer and show it; what went wrong is shown too, and given back."""
    screen = OneDisplay(publish)
    live = one_live(screen, asking.plan)
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

"""Ctrl-C while an answer is on its way: an orderly stop in place of an exception anywhere.

Python raises KeyboardInterrupt wherever the main thread happens to be: between two lines of a
ledger entry, or in the last update of a display. While a question is asked, the signal stops the
question instead; what arrived is kept, the call is booked, and the caller raises Interrupted.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from o3magic.errors import Interrupted

PATIENCE_S = 2.0  # from then on, another Ctrl-C is a KeyboardInterrupt again


@contextmanager
def stop_on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """In this block Ctrl-C calls `stop`; in another thread than the main one nothing changes.

    `stop` is called in a thread: it may take locks that the main thread holds. Where the block has
    not ended two seconds later, a second Ctrl-C raises KeyboardInterrupt as ever.
    """
    before = _python_handler()
    if before is None:
        yield
        return
    first_s: float | None = None

    def handle(number: int, frame: Any) -> None:
        nonlocal first_s
        if first_s is None:
            first_s = time.monotonic()
            try:
                threading.Thread(target=stop, name="o3magic-stop", daemon=True).start()
            except RuntimeError:  # there are no threads in a browser
                before(number, frame)
        elif time.monotonic() - first_s > PATIENCE_S:
            before(number, frame)

    with _handler(handle):
        yield


@contextmanager
def raise_interrupted() -> Iterator[None]:
    """A KeyboardInterrupt in this block is an Interrupted: one line, and no frames of ours."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped by you", hint="nothing was asked") from None


@contextmanager
def interruptible() -> Iterator[None]:
    """In this block, where the user is asked something, Ctrl-C raises KeyboardInterrupt."""
    if _python_handler() is None:
        yield
        return
    with _handler(signal.default_int_handler):
        yield


def _python_handler() -> Callable[[int, Any], Any] | None:
    """The handler of Ctrl-C, None where there is none in Python, or this is not the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGINT)
    return handler if callable(handler) else None


@contextmanager
def _handler(handler: Callable[[int, Any], Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

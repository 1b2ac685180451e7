"""A screen of one display: what a thread shows goes where the cell that has returned put a handle.

A kernel shows no new display for a thread, but updates an old one. The whole text goes out each
time, so the pause between two updates grows with it: the bytes sent stay in proportion to the text.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from o3magic.render.bundle import Bundle

INTERVAL_S = 0.125
CHARS_PER_S = 40_000  # what a page renders without falling behind


class OneDisplay:
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

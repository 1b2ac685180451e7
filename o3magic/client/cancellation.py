"""Who may take the line down while an answer arrives: the clock, and another thread.

httpx keeps one read timeout for a whole body, and a reasoning model may think for minutes before
its first word, but not between two. So a thread of its own looks at the clock.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any


class StallTimeout:
    """Shuts a connection down when nothing has come for `limit_s`. Enter it; count `seen` up.

    `expired_s` is the limit that was passed, or None.
    """

    def __init__(self, network_stream: Any, limit_s: float) -> None:
        self._stream = network_stream
        self.limit_s = limit_s
        # Counted up for each chunk: a look at the clock would cost the stream more.
        self.seen = 0
        self._counted = 0
        self._last_s = time.monotonic()
        self.expired_s: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="o3magic-watch", daemon=True)

    def __enter__(self) -> StallTimeout:
        """Begin to look at the clock."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._over.set()

    def expect(self, limit_s: float) -> None:
        """From here on, this long."""
        self.limit_s, self._last_s = limit_s, time.monotonic()

    def _run(self) -> None:
        # Looks at least every half second, for the limit may have become shorter meanwhile.
        while not self._over.wait(min(0.5, max(self._left_s() / 4, 0.01))):
            if self._left_s() <= 0:
                self.expired_s = self.limit_s
                self._shut_down()
                return

    def _left_s(self) -> float:
        """Seconds until the limit; from now on where something came since the last look."""
        if self.seen != self._counted:
            self._counted, self._last_s = self.seen, time.monotonic()
        return self._last_s + self.limit_s - time.monotonic()

    def _shut_down(self) -> None:
        shut_down(self._stream)


class CancelToken:
    """Ends an answer from another thread, also while nothing arrives."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._said = threading.Event()

    @property
    def said(self) -> bool:
        """Whether it was said."""
        return self._said.is_set()

    def say(self) -> None:
        """Take the line down; every later one at once."""
        self._said.set()
        shut_down(self._stream)

    def watch(self, network_stream: Any) -> None:
        """This is the line from now on; None: there is none to take down."""
        self._stream = network_stream
        if self.said:
            shut_down(network_stream)

    def wait(self, seconds: float) -> None:
        """Wait, but no longer than until it is said."""
        self._said.wait(seconds)


def shut_down(network_stream: Any) -> None:
    """Wake the thread that reads. TLS is passed by: only the line itself is taken down."""
    line = network_stream.get_extra_info("socket") if network_stream is not None else None
    if isinstance(line, socket.socket):
        with suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)

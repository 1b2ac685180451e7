"""End an open response: by a timeout, or from another thread.

httpx has one read timeout for a whole body. A reasoning model may think for minutes before its
first word, but not between two. So a separate thread watches the time.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any


class StallTimeout:
    """Shuts a connection down if no chunk arrives for `limit_s`. The reader increments `seen`.

    expired_s: the limit that was exceeded, or None.
    """

    def __init__(self, network_stream: Any, limit_s: float) -> None:
        self._stream = network_stream
        self.limit_s = limit_s
        # Incremented for each chunk, because reading the clock costs more.
        self.seen = 0
        self._counted = 0
        self._last_s = time.monotonic()
        self.expired_s: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="o3magic-watch", daemon=True)

    def __enter__(self) -> StallTimeout:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread."""
        self._over.set()

    def expect(self, limit_s: float) -> None:
        """Change the limit from now on."""
        self.limit_s, self._last_s = limit_s, time.monotonic()

    def _run(self) -> None:
        # Wake at least every half second, because the limit may have become shorter.
        while not self._over.wait(min(0.5, max(self._left_s() / 4, 0.01))):
            if self._left_s() <= 0:
                self.expired_s = self.limit_s
                self._shut_down()
                return

    def _left_s(self) -> float:
        """Seconds until the limit, counted from now if a chunk arrived since the last call."""
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
        """Whether the answer was cancelled."""
        return self._said.is_set()

    def say(self) -> None:
        """Cancel: shut the connection down, and every later one at once."""
        self._said.set()
        shut_down(self._stream)

    def watch(self, network_stream: Any) -> None:
        """Set the connection to shut down; None if there is none now."""
        self._stream = network_stream
        if self.said:
            shut_down(network_stream)

    def wait(self, seconds: float) -> None:
        """Wait, but only until it is cancelled."""
        self._said.wait(seconds)


def shut_down(network_stream: Any) -> None:
    """Wake the thread that reads. The socket is shut down below TLS."""
    line = network_stream.get_extra_info("socket") if network_stream is not None else None
    if isinstance(line, socket.socket):
        with suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)

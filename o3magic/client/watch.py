"""Time limits that change while an answer arrives: long until its first word, short between words.

httpx keeps one read timeout for a whole body, and a reasoning model may think for minutes. So a
thread of its own looks at the clock, and takes the line down when nothing has come for too long.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any


class Watch:
    """Shuts a connection down when nothing has come for `limit_s`. Enter it; call `seen`.

    `expired_s` is the limit that was passed, or None.
    """

    def __init__(self, network_stream: Any, limit_s: float) -> None:
        self._stream = network_stream
        self.limit_s = limit_s
        self.last_s = time.monotonic()
        self.expired_s: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="o3magic-watch", daemon=True)

    def __enter__(self) -> Watch:
        """Begin to look at the clock."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._over.set()

    def seen(self) -> None:
        """Something came."""
        self.last_s = time.monotonic()

    def expect(self, limit_s: float) -> None:
        """From here on, this long. A shorter limit counts from now."""
        self.limit_s, self.last_s = limit_s, time.monotonic()

    def _run(self) -> None:
        # Looks at least every half second, for the limit may have become shorter meanwhile.
        while not self._over.wait(min(0.5, max(self.left_s(), 0.01))):
            if self.left_s() <= 0:
                self.expired_s = self.limit_s
                self._shut_down()
                return

    def left_s(self) -> float:
        """Seconds until the limit."""
        return self.last_s + self.limit_s - time.monotonic()

    def _shut_down(self) -> None:
        """Wake the thread that reads. TLS is passed by: only the line itself is taken down."""
        line = self._stream.get_extra_info("socket") if self._stream is not None else None
        if isinstance(line, socket.socket):
            with suppress(OSError):
                socket.socket.shutdown(line, socket.SHUT_RDWR)

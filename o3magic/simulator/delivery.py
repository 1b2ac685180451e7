"""How bytes leave: status line, framing, pace, and the ways a connection can break."""

import contextlib
import select
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus


class ClientLeftError(Exception):
    """The other side has closed the connection before its answer was complete."""


class Delivery:
    """One answer on one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def pause(self, seconds: float) -> None:
        """Wait; raise `ClientLeftError` as soon as the other side is gone."""
        if seconds <= 0:
            return
        readable, _, _ = select.select([self._connection], [], [], seconds)
        if readable and not self._peek():
            raise ClientLeftError
        if readable:
            time.sleep(seconds)  # its next request is already here, so it is too

    def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send an answer whose length is known."""
        length = {} if status in (204, 304) else {"content-length": str(len(body))}
        self._send(_head(status, {**length, **headers}) + body)

    def chunked(
        self,
        status: int,
        headers: Mapping[str, str],
        pieces: Iterable[bytes | float],
        cut_after_bytes: int | None = None,
        *,
        clean: bool = False,
    ) -> bool:
        """Send pieces as they come, a number being a pause; False if the line is to be cut now."""
        self._send(_head(status, {**headers, "transfer-encoding": "chunked"}))
        left = cut_after_bytes
        for piece in pieces:
            if isinstance(piece, float):
                self.pause(piece)
                continue
            kept = piece if left is None else piece[:left]
            if kept:
                self._send(b"%x\r\n%b\r\n" % (len(kept), kept))
            if left is not None:
                left -= len(kept)
                if left <= 0:
                    break
        if left is not None and not clean:
            return False
        self._send(b"0\r\n\r\n")
        return True

    def hang_up(self) -> None:
        """Close at once, whatever was promised."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _peek(self) -> bytes:
        try:
            return self._connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return b""

    def _send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise ClientLeftError from error


def paced(
    frames: Iterable[bytes | None], piece_bytes: int | None, pause_s: float, thinking_delays: int
) -> Iterator[bytes | float]:
    """Frames with pauses between them; with `piece_bytes`, cut up regardless of frames."""
    first = True
    for part in _cut_up(frames, piece_bytes) if piece_bytes else frames:
        if part is None:
            yield float(thinking_delays * pause_s)
            continue
        if not first and pause_s > 0:
            yield float(pause_s)
        first = False
        yield part


def _cut_up(frames: Iterable[bytes | None], size: int) -> Iterator[bytes | None]:
    pending = b""
    for frame in frames:
        pending += frame or b""
        whole = len(pending) - len(pending) % size
        for start in range(0, whole, size):
            yield pending[start : start + size]
        pending = pending[whole:]
    if pending:
        yield pending


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

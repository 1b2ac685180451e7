"""What ends a call that waits for the network: a limit of silence, or a stop.

A reasoning model may think for minutes before its headers come, and httpx tells nobody which
connection a call waits on until they do. So the streams under httpx report themselves: each
belongs to the call that is being sent, and a stop or the clock shuts its socket down, which wakes
the thread that reads. Looking up a name and connecting cannot be woken: they run in a thread of
their own, and a connection that comes too late is closed.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import httpcore
import httpx

LOOK_S = 0.05  # how often a connection that is being made is looked at


class CancelToken:
    """Ends a question from another thread, whatever the question waits for."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._call: OpenCall | None = None

    @property
    def is_set(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def cancel(self) -> None:
        """End the call that is open now, and every later one at once."""
        self._event.set()
        if (call := self._call) is not None:
            call.shut_down()

    def watch(self, call: OpenCall | None) -> None:
        """This call is open from now on; None: no call is."""
        self._call = call
        if call is not None and self.is_set:
            call.shut_down()

    def wait(self, seconds: float) -> None:
        """Wait, but no longer than until `cancel`."""
        self._event.wait(seconds)


class OpenCall:
    """A call from before it is sent until its answer ends. Enter it, and send it `sending`.

    limit_s: how long the network may be silent. The time between two reads does not count: a
    reader may take as long as it likes.
    expired_s: the limit that was passed, or None. sent: whether any byte left. accepted: whether
    the headers of an answer came. silent_since_s: since when the network is waited for (monotonic).
    """

    def __init__(self, limit_s: float, token: CancelToken | None = None) -> None:
        self.expired_s: float | None = None
        self.sent = self.accepted = False
        self._limit_s, self._token = limit_s, token
        self.silent_since_s: float | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> OpenCall:
        """Begin to look at the clock."""
        if self._token is not None:
            self._token.watch(self)
        with suppress(RuntimeError):  # there are no threads in a browser
            threading.Thread(target=self._run, name="o3magic-timeout", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking; the connection may serve another call."""
        if self._token is not None:
            self._token.watch(None)
        self._over.set()
        with self._lock:
            self._socket = None

    @property
    def is_cancelled(self) -> bool:
        """Whether it was stopped."""
        return self._token is not None and self._token.is_set

    @contextmanager
    def sending(self) -> Iterator[None]:
        """The streams that are written to in this block, and in this thread, belong to the call."""
        before = _CALL.set(self)
        try:
            yield
        finally:
            _CALL.reset(before)

    def expect(self, limit_s: float) -> None:
        """From here on, the network may be silent this long."""
        self._limit_s = limit_s

    def shut_down(self) -> None:
        """Wake the thread that reads. TLS is passed by: the connection itself is shut down."""
        with self._lock, suppress(OSError):
            if self._socket is not None:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @contextmanager
    def waiting(self, connection: object = None) -> Iterator[None]:
        """The network is waited for in this block; `connection` is the socket to shut down."""
        if isinstance(connection, socket.socket):
            self._socket = connection
            if self.is_cancelled or self.expired_s is not None:
                self.shut_down()
        self.silent_since_s = time.monotonic()
        try:
            yield
        finally:
            self.silent_since_s = None

    def connect(self, connect: Callable[[], httpcore.NetworkStream]) -> httpcore.NetworkStream:
        """The result of `connect`, which cannot be woken. Raises as it does, and ConnectError."""
        results: queue.SimpleQueue[httpcore.NetworkStream | BaseException] = queue.SimpleQueue()
        abandoned = threading.Event()

        def work() -> None:
            try:
                result: httpcore.NetworkStream | BaseException = connect()
            except BaseException as error:
                result = error
            results.put(result)
            if abandoned.is_set() and isinstance(result, httpcore.NetworkStream):
                result.close()

        threading.Thread(target=work, name="o3magic-connect", daemon=True).start()
        try:
            with self.waiting():
                while True:
                    with suppress(queue.Empty):
                        result = results.get(timeout=LOOK_S)
                        break
                    if self.is_cancelled or self.expired_s is not None:
                        raise httpcore.ConnectError("given up")
        except BaseException:
            abandoned.set()
            with suppress(queue.Empty):
                late = results.get_nowait()
                if isinstance(late, httpcore.NetworkStream):
                    late.close()
            raise
        if isinstance(result, BaseException):
            raise result
        return result

    def _run(self) -> None:
        # Looks at least every half second, for the limit may have become shorter meanwhile.
        while not self._over.wait(min(0.5, max(self._left_s() / 4, 0.01))):
            if self._left_s() <= 0:
                self.expired_s = self._limit_s
                self.shut_down()
                return

    def _left_s(self) -> float:
        since_s = self.silent_since_s
        silent_s = 0.0 if since_s is None else time.monotonic() - since_s
        return self._limit_s - silent_s


_CALL: ContextVar[OpenCall | None] = ContextVar("o3magic_open_call", default=None)


class CallStream(httpcore.NetworkStream):
    """A stream of httpcore that belongs to the call which wrote to it last."""

    def __init__(self, stream: httpcore.NetworkStream, call: OpenCall | None) -> None:
        self._stream, self._call = stream, call

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Bytes from the network; while it waits, the clock of the call runs."""
        call = self._call
        if call is None:
            return self._stream.read(max_bytes, timeout)
        call.silent_since_s = time.monotonic()
        try:
            return self._stream.read(max_bytes, timeout)
        finally:
            call.silent_since_s = None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes for the call that is being sent. Raises ConnectError once it is stopped."""
        self._call = call = _CALL.get()
        if call is None:
            self._stream.write(buffer, timeout)
            return
        if call.is_cancelled:
            raise httpcore.ConnectError("given up")  # httpcore passes over a WriteError, and reads
        call.sent = True
        with call.waiting(self.get_extra_info("socket")):
            self._stream.write(buffer, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """The same connection with TLS."""
        start = partial(self._stream.start_tls, ssl_context, server_hostname, timeout)
        connection = self.get_extra_info("socket")
        if self._call is None:
            return CallStream(start(), None)
        with ExitStack() as stack:
            if type(connection) is socket.socket:
                # The handshake takes the socket over: its duplicate can still shut it down.
                connection = stack.enter_context(connection.dup())
            stack.enter_context(self._call.waiting(connection))
            return CallStream(start(), self._call)

    def get_extra_info(self, info: str) -> Any:
        """What the stream below knows: `socket`, `ssl_object`, `is_readable`, ..."""
        return self._stream.get_extra_info(info)


class CallBackend(httpcore.SyncBackend):
    """Opens connections whose streams report themselves to their call."""

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        """A connection to a host and port."""
        return self._connected(partial(super().connect_tcp, *args, **kwargs))

    def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        """A connection to a socket in the file system."""
        return self._connected(partial(super().connect_unix_socket, *args, **kwargs))

    def _connected(self, connect: Callable[[], httpcore.NetworkStream]) -> httpcore.NetworkStream:
        call = _CALL.get()
        return CallStream(connect() if call is None else call.connect(connect), call)


def use_backend(client: httpx.Client) -> None:
    """Open a client's connections with `CallBackend`, those to proxies too.

    httpx (0.28) takes no backend, so it is set in the pools of its transports. With a version that
    has none there, only the limits of silence are lost, and a stop waits for the next bytes.
    """
    backend = CallBackend()
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = backend

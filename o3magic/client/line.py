"""One kept-alive connection that is asked for whole answers, one after the other. The door of h11.

A client of httpx goes through a pool, a lock, a cancel scope and a timer for each piece that it
sends or reads: for many small answers that is four fifths of the work. h11, which reads HTTP for
httpx too, is asked here directly, from a protocol of asyncio. Errors are those of httpx, so that
what they mean is said in one place.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import h11
import httpx

IDLE_S = 5.0  # as httpx: what has rested longer may be closed at the other end this moment
RESPONSES_IN_PARALLEL_S = 0.25  # "happy eyeballs", RFC 8305
MOST_HEAD_BYTES = 102_400


class Address(NamedTuple):
    """Where a line leads, and what every request on it says. tls: None for plain http."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]


class Limits(NamedTuple):
    """Seconds until there is a connection, and between two signs of life; bytes of an answer."""

    connect_s: float
    silence_s: float
    most_bytes: int


class Reply(NamedTuple):
    """What came: `broken` says why it is not all of it, where the line broke in the middle.

    chunks: the body as it was sent; a little more than was allowed where it is too large.
    """

    status: int
    headers: Mapping[str, str]
    chunks: list[bytes]
    broken: httpx.HTTPError | None = None


@lru_cache(maxsize=512)
def request_of(address: Address, length: int) -> h11.Request:
    """The head of a request: checked by h11 once for each length of a body."""
    said = [*address.headers, (b"content-length", str(length).encode())]
    return h11.Request(method="POST", target=address.target, headers=said)


async def connected(address: Address, limits: Limits) -> Line:
    """A new line. Raises httpx.ConnectError and httpx.ConnectTimeout."""
    try:
        async with asyncio.timeout(limits.connect_s):
            _, line = await asyncio.get_running_loop().create_connection(
                Line,
                address.host,
                address.port,
                ssl=address.tls,
                server_hostname=address.host if address.tls else None,
                happy_eyeballs_delay=RESPONSES_IN_PARALLEL_S,
            )
    except TimeoutError:
        raise httpx.ConnectTimeout("no connection in time") from None
    except OSError as error:  # those of TLS too
        raise httpx.ConnectError(str(error)) from None
    return line


class Line(asyncio.Protocol):
    """A connection to one server. Used in one event loop, by one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        self._answer: asyncio.Future[Reply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._open = False
        self._silence_s = self._until_s = self._rested_s = 0.0
        self._unsent_bytes = self._left_bytes = self._status = 0
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []

    @property
    def usable(self) -> bool:
        """Whether it may be asked."""
        return self._open and self._loop.time() - self._rested_s < IDLE_S

    async def ask(self, address: Address, content: bytes, limits: Limits) -> Reply:
        """Send a request and wait for its whole answer. Raises httpx.HTTPError where none began."""
        self._status, self._headers, self._chunks = 0, {}, []
        self._left_bytes, self._silence_s = limits.most_bytes, limits.silence_s
        self._answer = self._loop.create_future()
        self._expect()
        send = self._http.send
        said = [send(request_of(address, len(content))), send(h11.Data(data=content))]
        send(h11.EndOfMessage())
        self._transport.write(b"".join(each for each in said if each))
        try:
            return await self._answer
        except BaseException:
            self.close()
            raise
        finally:
            self._answer = None
            self._rested_s = self._loop.time()

    def close(self) -> None:
        """Close it, whatever is on its way."""
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._open = transport, True
        self._rested_s = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """A piece of an answer."""
        if not self._waiting:
            self.close()  # nobody asked
            return
        self._until_s = self._loop.time() + self._silence_s
        self._http.receive_data(data)
        self._read()

    def eof_received(self) -> None:
        """The other end has said all."""
        self._open = False
        if self._waiting:
            self._http.receive_data(b"")
            self._read()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._open = False
        if self._waiting:
            said = "the connection was closed"
            self._break(httpx.ReadError(str(error)) if error else httpx.RemoteProtocolError(said))

    @property
    def _waiting(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def _read(self) -> None:
        """What h11 makes of the bytes that are here."""
        try:
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    self._status = event.status_code
                    self._headers = {n.decode(): v.decode("latin-1") for n, v in event.headers}
                elif isinstance(event, h11.Data):
                    self._chunks.append(bytes(event.data))
                    self._left_bytes -= len(event.data)
                    if self._left_bytes < 0:
                        self._over(None)
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._over(None)
                    return
                elif not isinstance(event, h11.InformationalResponse):
                    return  # more is needed
        except h11.RemoteProtocolError as error:
            self._break(httpx.RemoteProtocolError(str(error)))

    def _over(self, broken: httpx.HTTPError | None) -> None:
        """Give what there is. The line stays where both ends have said all, and not more."""
        assert self._answer is not None
        self._answer.set_result(Reply(self._status, self._headers, self._chunks, broken))
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        # What comes behind an answer would be taken for that of the next question.
        if done and self._open and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
        else:
            self.close()

    def _break(self, error: httpx.HTTPError) -> None:
        """The line broke, or nothing came for too long."""
        assert self._answer is not None
        if self._status:
            self._over(error)
        else:
            self._answer.set_exception(error)
            self.close()

    def _expect(self) -> None:
        """Some sign of life, or the line is broken. One timer looks, however many answers come."""
        self._until_s = self._loop.time() + self._silence_s
        if self._timer is None or self._timer.when() > self._until_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._until_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent != self._unsent_bytes:  # a large question on a slow line
            self._unsent_bytes, self._until_s = unsent, self._loop.time() + self._silence_s
        if self._loop.time() >= self._until_s:
            self._break(httpx.ReadTimeout("nothing came for too long"))
        else:
            self._timer = self._loop.call_at(self._until_s, self._look)

"""Many whole answers at once from one event loop: a connection for each of them, kept alive.

A pool of httpx looks through all its connections for every request: with many in flight that is
most of the work. So there is none on the straight way; through a proxy, where httpx knows how to
speak to it, a few connections each have a pool of their own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from urllib.request import getproxies, proxy_bypass

import h11
import httpx
from pydantic import SecretStr

from o3magic.client.http import (
    NOT_AN_ADDRESS,
    broken_line,
    check,
    is_stream,
    kind_of,
    no_address,
    read_json,
    without_secrets,
)
from o3magic.client.request import HttpRequest, as_bytes, body, headers
from o3magic.client.response_stream import bounded, stream_events, unpacked
from o3magic.errors import BadOption, BrokenAnswer, RequestFailed
from o3magic.events import Event
from o3magic.messages import Api
from o3magic.providers import Provider, is_loopback
from o3magic.redaction import redact
from o3magic.version import __version__
from o3magic.wire.dialects import DIALECTS, Dialect
from o3magic.wire.hosted import COST_HEADER, cost_in_header

IDLE_S = 5.0  # as httpx: what has rested longer may be closed at the other end this moment
RESPONSES_IN_PARALLEL_S = 0.25  # "happy eyeballs", RFC 8305
MOST_HEAD_BYTES = 102_400


class Origin(NamedTuple):
    """Where a line leads, and what every request on it says. tls: None for plain http."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]


class PoolLimits(NamedTuple):
    """Seconds until there is a connection, and between two signs of life; bytes of an answer."""

    connect_s: float
    silence_s: float
    most_bytes: int


class PoolReply(NamedTuple):
    """What came: `broken` says why it is not all of it, where the line broke in the middle.

    chunks: the body as it was sent; a little more than was allowed where it is too large.
    """

    status: int
    headers: Mapping[str, str]
    chunks: list[bytes]
    broken: httpx.HTTPError | None = None


@lru_cache(maxsize=512)
def request_of(address: Origin, length: int) -> h11.Request:
    """The head of a request: checked by h11 once for each length of a body."""
    said = [*address.headers, (b"content-length", str(length).encode())]
    return h11.Request(method="POST", target=address.target, headers=said)


async def connected(address: Origin, limits: PoolLimits) -> HttpConnection:
    """A new line. Raises httpx.ConnectError and httpx.ConnectTimeout."""
    try:
        async with asyncio.timeout(limits.connect_s):
            _, line = await asyncio.get_running_loop().create_connection(
                HttpConnection,
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


class HttpConnection(asyncio.Protocol):
    """A connection to one server. Used in one event loop, by one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        self._answer: asyncio.Future[PoolReply] | None = None
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

    async def ask(self, address: Origin, content: bytes, limits: PoolLimits) -> PoolReply:
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
        self._answer.set_result(PoolReply(self._status, self._headers, self._chunks, broken))
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


POOL_SIZE = 2
# What a call is like, and the way there for all that are like it.
RequestKind = tuple[Provider, Api, str, SecretStr | None]


class PoolResult(NamedTuple):
    """What came of one call: its events, or why there are none; and what the headers said."""

    events: Sequence[Event]
    error: RequestFailed | None
    headers: Mapping[str, str]

    @property
    def simulated(self) -> bool:
        """Whether the built-in simulator answered."""
        return "x-o3magic-simulated" in self.headers

    @property
    def request_id(self) -> str:
        """The provider's own name of the request."""
        return redact(self.headers.get("x-request-id", ""))

    @property
    def said_cost_usd(self) -> Decimal | None:
        """What a gateway says in a header that it cost."""
        return cost_in_header(self.headers.get(COST_HEADER))


class RequestPool:
    """Sends calls, each in a slot; a slot has one call at a time. Used in one event loop only."""

    def __init__(self, *, system_certificates: bool = False) -> None:
        self._system_certificates = system_certificates
        self._tls: ssl.SSLContext | None = None
        self._ways: list[tuple[RequestKind, DirectTransport | ProxyTransport]] = []

    async def answer(self, call: HttpRequest, slot: int) -> PoolResult:
        """Send a call and wait for its whole answer. Raises BadOption for an address that is none.

        An error of the provider or the line is in what is heard; it is not raised.
        """
        dialect = DIALECTS[call.api]
        way = self._way_of(call, dialect)
        content = body(dialect.encode(call.request))
        try:
            reply = await way.post(slot, content, limits_of(call))
        except NOT_AN_ADDRESS as error:
            raise no_address(call.provider, error) from None
        except httpx.HTTPError as error:
            return PoolResult((), failed(broken_line(error, call, None)), {})
        if reply.broken is not None:
            broken = BrokenAnswer(f"the answer broke off: {kind_of(reply.broken)}")
            broken.should_retry = True  # nothing is wrong with the question
            return PoolResult((), broken, reply.headers)
        try:
            return PoolResult(events_of(call, dialect, reply), None, reply.headers)
        except RequestFailed as error:
            return PoolResult((), without_secrets(error, call.provider, call.key), reply.headers)

    def _way_of(self, call: HttpRequest, dialect: Dialect) -> DirectTransport | ProxyTransport:
        """The way of a call; it is found once for all that are like it. Raises BadOption.

        There are two where rows on their way found out that there is no Responses API: the answers
        of the others still come on the first.
        """
        like = (call.provider, call.api, call.request.model, call.key)
        for known, way in self._ways:
            if known == like:
                return way
        try:
            url = httpx.URL(call.provider.url(dialect.path, call.request.model))
            way = self._found(call, url)
        except NOT_AN_ADDRESS as error:
            raise no_address(call.provider, error) from None
        self._ways.append((like, way))
        return way

    def _found(self, call: HttpRequest, url: httpx.URL) -> DirectTransport | ProxyTransport:
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.UnsupportedProtocol("it does not begin with https:// or http://")
        said = headers(call) | {"user-agent": f"o3magic/{__version__}"}
        # Whole answers leave a connection in order, whoever the server is.
        said.pop("connection", None)
        if self._tls is None and url.scheme == "https":
            system = self._system_certificates
            self._tls = ssl.create_default_context() if system else httpx.create_ssl_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        if proxy := proxy_for(call):
            return ProxyTransport(url, as_bytes(said), proxy, self._tls)
        port = url.port or (443 if url.scheme == "https" else 80)
        told = [(b"host", url.netloc), *as_bytes(said)]
        tls = self._tls if url.scheme == "https" else None
        host = url.raw_host.decode("ascii")
        return DirectTransport(Origin(host, port, tls, url.raw_path, tuple(told)))

    async def close(self) -> None:
        """Close the connections."""
        for _, way in self._ways:
            await way.close()
        self._ways.clear()


class DirectTransport:
    """The way to a server: a line for each slot."""

    def __init__(self, address: Origin) -> None:
        self._address = address
        self._lines: dict[int, HttpConnection] = {}

    async def post(self, slot: int, content: bytes, limits: PoolLimits) -> PoolReply:
        """What comes of a request. Raises httpx.HTTPError where no answer began."""
        line = self._lines.get(slot)
        if line is None or not line.usable:
            if line is not None:
                line.close()
            line = self._lines[slot] = await connected(self._address, limits)
        return await line.ask(self._address, content, limits)

    async def close(self) -> None:
        """Close all lines."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        await asyncio.sleep(0)  # the event loop closes them in its next round


class ProxyTransport:
    """The way through a proxy: small pools of httpx, which knows how to speak to one."""

    def __init__(
        self,
        url: httpx.URL,
        said: Sequence[tuple[bytes, bytes]],
        proxy: httpx.Proxy,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._url, self._said, self._proxy = url, said, proxy
        self._tls = tls or httpx.create_ssl_context()
        self._pools: dict[int, httpx.AsyncHTTPTransport] = {}

    async def post(self, slot: int, content: bytes, limits: PoolLimits) -> PoolReply:
        """What comes of a request. Raises httpx.HTTPError where no answer began."""
        wait = httpx.Timeout(limits.silence_s, connect=limits.connect_s, pool=None)
        request = httpx.Request(
            "POST",
            self._url,
            headers=self._said,
            content=content,
            extensions={"timeout": wait.as_dict()},
        )
        response = await self._pool(slot).handle_async_request(request)
        chunks, left, broken = list[bytes](), limits.most_bytes, None
        try:
            async for chunk in response.stream:  # type: ignore[union-attr]
                chunks.append(chunk)
                left -= len(chunk)
                if left < 0:
                    break
        except httpx.HTTPError as error:
            broken = error
        finally:
            await response.stream.aclose()  # type: ignore[union-attr]
        return PoolReply(response.status_code, response.headers, chunks, broken)

    def _pool(self, slot: int) -> httpx.AsyncHTTPTransport:
        number = slot // POOL_SIZE
        if number not in self._pools:
            limits = httpx.Limits(max_connections=POOL_SIZE, max_keepalive_connections=POOL_SIZE)
            try:
                self._pools[number] = httpx.AsyncHTTPTransport(
                    verify=self._tls, limits=limits, proxy=self._proxy
                )
            except ImportError as error:  # what speaks to such a proxy is not installed
                raise unusable(error) from None
        return self._pools[number]

    async def close(self) -> None:
        """Close the pools."""
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()


def limits_of(call: HttpRequest) -> PoolLimits:
    """How long a call may take, and how large its answer may be."""
    silence_s = max(call.first_token_timeout_s, call.chunk_timeout_s)
    return PoolLimits(call.connect_timeout_s, silence_s, call.max_answer_bytes)


def proxy_for(call: HttpRequest) -> httpx.Proxy | None:
    """The proxy of the environment, which is for the world outside, never for this machine."""
    host = call.provider.host
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    scheme = "https" if call.provider.base_url.lower().startswith("https") else "http"
    address = proxies.get(scheme) or proxies.get("all")
    try:
        return httpx.Proxy(address) if address else None
    except (ValueError, httpx.InvalidURL) as error:
        raise unusable(error) from None


def unusable(error: Exception) -> BadOption:
    """What to say of a proxy that cannot be used."""
    return BadOption(
        f"the proxy in the environment cannot be used: {redact(str(error))}",
        hint="change HTTPS_PROXY or ALL_PROXY; socks proxies need the package socksio",
    )


def failed(error: Exception) -> RequestFailed:
    """The same error, of the class that it always is where no answer has begun."""
    assert isinstance(error, RequestFailed)
    return error


def events_of(call: HttpRequest, dialect: Dialect, reply: PoolReply) -> Sequence[Event]:
    """The events of a whole answer. Raises RequestFailed for a refusal or a broken answer."""
    refused = b"" if 200 <= reply.status < 300 else b"".join(reply.chunks)
    response = httpx.Response(
        reply.status, headers=dict(reply.headers), stream=httpx.ByteStream(refused)
    )
    check(response)
    packed = bounded(reply.chunks, call.max_answer_bytes)
    encoding = response.headers.get("content-encoding", "")
    chunks = bounded(unpacked(packed, encoding), call.max_answer_bytes) if encoding else packed
    stream, chunks = is_stream(response, chunks)
    if stream:
        return [*stream_events(chunks, dialect)]
    return [*dialect.decode(read_json(chunks))]

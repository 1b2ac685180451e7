"""Many requests at once from one event loop, each on a kept-alive connection of its own.

The connection pool of httpx searches all its connections for every request, which is most of the
work with many in flight. So direct connections have no pool. Calls through a proxy use httpx, with
small pools of a few connections.
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
    build_address_error,
    build_timeout_error,
    convert_http_error,
    create_ssl_context,
    describe_http_error,
    detect_stream,
    raise_for_status,
    read_body,
    remove_sent_secrets,
)
from o3magic.client.request import HttpRequest, build_headers, encode_body, encode_headers
from o3magic.client.response_stream import decompress, limit_bytes, stream_events
from o3magic.errors import BadOption, BrokenAnswer, RequestFailed
from o3magic.events import Event
from o3magic.messages import Api
from o3magic.providers import Provider, is_loopback
from o3magic.redaction import redact
from o3magic.version import __version__
from o3magic.wire.dialects import DIALECTS, Dialect
from o3magic.wire.hosted import COST_HEADER, parse_cost_header

IDLE_S = 5.0  # as in httpx: the server may just be closing a connection that was idle for longer
RESPONSES_IN_PARALLEL_S = 0.25  # "happy eyeballs", RFC 8305
MOST_HEAD_BYTES = 102_400


class Origin(NamedTuple):
    """The server of a connection, and the headers of every request. tls: None for plain http."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]


class PoolLimits(NamedTuple):
    """Timeouts to connect, until the answer begins and between two reads, in seconds.

    most_bytes: of an answer.
    """

    connect_s: float
    first_s: float
    silence_s: float
    most_bytes: int


class PoolReply(NamedTuple):
    """A response. broken: the error that cut it off.

    chunks: the body as sent; a little more than the limit if it is too large.
    """

    status: int
    headers: Mapping[str, str]
    chunks: list[bytes]
    broken: httpx.HTTPError | None = None


@lru_cache(maxsize=512)
def build_request_head(address: Origin, length: int) -> h11.Request:
    """Build the head of a request, which h11 validates once for each length of a body."""
    headers = [*address.headers, (b"content-length", str(length).encode())]
    return h11.Request(method="POST", target=address.target, headers=headers)


async def open_connection(address: Origin, limits: PoolLimits) -> HttpConnection:
    """Open a connection. Raises httpx.ConnectError and httpx.ConnectTimeout."""
    try:
        async with asyncio.timeout(limits.connect_s):
            _, connection = await asyncio.get_running_loop().create_connection(
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
    return connection


class HttpConnection(asyncio.Protocol):
    """A connection to one server. Used in one event loop, by one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        self._answer: asyncio.Future[PoolReply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._open = False
        self._first_s = self._silence_s = self._deadline_s = self._idle_since_s = 0.0
        self._unsent_bytes = self._left_bytes = self._status = 0
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []

    @property
    def is_usable(self) -> bool:
        """Whether it is open and was not idle for too long."""
        return self._open and self._loop.time() - self._idle_since_s < IDLE_S

    async def send_request(self, address: Origin, content: bytes, limits: PoolLimits) -> PoolReply:
        """Send a request and wait for the whole response. Raises httpx.HTTPError if none began."""
        self._status, self._headers, self._chunks = 0, {}, []
        self._left_bytes = limits.most_bytes
        self._first_s, self._silence_s = limits.first_s, limits.silence_s
        self._answer = self._loop.create_future()
        self._start_timeout(limits.first_s)
        send = self._http.send
        parts = [send(build_request_head(address, len(content))), send(h11.Data(data=content))]
        send(h11.EndOfMessage())
        self._transport.write(b"".join(part for part in parts if part))
        try:
            return await self._answer
        except BaseException:
            self.close()
            raise
        finally:
            self._answer = None
            self._idle_since_s = self._loop.time()

    def close(self) -> None:
        """Close it at once, also during a request."""
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._open = transport, True
        self._idle_since_s = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if not self._waiting:
            self.close()  # no request is open
            return
        if self._status:
            self._deadline_s = self._loop.time() + self._silence_s
        else:
            self._start_timeout(self._silence_s)
        self._http.receive_data(data)
        self._parse()

    def eof_received(self) -> None:
        """Called by asyncio."""
        self._open = False
        if self._waiting:
            self._http.receive_data(b"")
            self._parse()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by asyncio."""
        self._open = False
        if self._waiting:
            message = "the connection was closed"
            self._fail(httpx.ReadError(str(error)) if error else httpx.RemoteProtocolError(message))

    @property
    def _waiting(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def _parse(self) -> None:
        """Parse the received bytes."""
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
                        self._finish(None)
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._finish(None)
                    return
                elif not isinstance(event, h11.InformationalResponse):
                    return  # it needs more bytes
        except h11.RemoteProtocolError as error:
            self._fail(httpx.RemoteProtocolError(str(error)))

    def _finish(self, broken: httpx.HTTPError | None) -> None:
        """Set the result. Keep the connection only if both sides are done and no bytes are left."""
        assert self._answer is not None
        self._answer.set_result(PoolReply(self._status, self._headers, self._chunks, broken))
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        # Bytes behind a response would be taken for the next one.
        if done and self._open and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
        else:
            self.close()

    def _fail(self, error: httpx.HTTPError) -> None:
        """End the request: the connection broke, or timed out."""
        assert self._answer is not None
        if self._status:
            self._finish(error)
        else:
            self._answer.set_exception(error)
            self.close()

    def _start_timeout(self, limit_s: float) -> None:
        """Start the read timeout. One timer serves all requests of the connection."""
        self._deadline_s = self._loop.time() + limit_s
        if self._timer is None or self._timer.when() > self._deadline_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline_s, self._check_timeout)

    def _check_timeout(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent != self._unsent_bytes:  # a large request on a slow connection
            self._unsent_bytes, self._deadline_s = unsent, self._loop.time() + self._first_s
        if self._loop.time() >= self._deadline_s:
            self._fail(httpx.ReadTimeout("nothing came for too long"))
        else:
            self._timer = self._loop.call_at(self._deadline_s, self._check_timeout)


POOL_SIZE = 2
# Requests of one kind share a transport.
RequestKind = tuple[Provider, Api, str, SecretStr | None]


class PoolResult(NamedTuple):
    """The result of a call: its events or its error, and the response headers."""

    events: Sequence[Event]
    error: RequestFailed | None
    headers: Mapping[str, str]

    @property
    def simulated(self) -> bool:
        """Whether the built-in simulator answered."""
        return "x-o3magic-simulated" in self.headers

    @property
    def request_id(self) -> str:
        """The provider's id of the request."""
        return redact(self.headers.get("x-request-id", ""))

    @property
    def said_cost_usd(self) -> Decimal | None:
        """The cost that a gateway states in a header."""
        return parse_cost_header(self.headers.get(COST_HEADER))


class RequestPool:
    """Sends calls in slots, one call at a time in each. Used in one event loop only."""

    def __init__(self, *, system_certificates: bool = False) -> None:
        self._system_certificates = system_certificates
        self._tls: ssl.SSLContext | None = None
        self._transports: list[tuple[RequestKind, DirectTransport | ProxyTransport]] = []

    async def answer(self, call: HttpRequest, slot: int) -> PoolResult:
        """Send a call and wait for the whole answer. Raises BadOption for an invalid address.

        Errors of the provider and the connection are not raised but part of the result.
        """
        dialect = DIALECTS[call.api]
        transport = self._transport_for(call, dialect)
        content = encode_body(dialect.encode(call.request))
        try:
            reply = await transport.post(slot, content, build_limits(call))
        except NOT_AN_ADDRESS as error:
            raise build_address_error(call.provider, error) from None
        except httpx.HTTPError as error:
            return PoolResult((), narrow_error(convert_http_error(error, call)), {})
        if isinstance(reply.broken, httpx.TimeoutException):
            stalled = build_timeout_error(call, call.chunk_timeout_s, "--chunk-timeout-s")
            return PoolResult((), stalled, reply.headers)
        if reply.broken is not None:
            broken = BrokenAnswer(f"the answer broke off: {describe_http_error(reply.broken)}")
            broken.should_retry = True  # the request is valid
            return PoolResult((), broken, reply.headers)
        try:
            return PoolResult(decode_reply(call, dialect, reply), None, reply.headers)
        except RequestFailed as error:
            return PoolResult(
                (), remove_sent_secrets(error, call.provider, call.key), reply.headers
            )

    def _transport_for(
        self, call: HttpRequest, dialect: Dialect
    ) -> DirectTransport | ProxyTransport:
        """Find or make the transport for a kind of request. Raises BadOption.

        There are two if the provider turns out to lack the Responses API while requests are in
        flight: their answers still arrive on the first.
        """
        kind = (call.provider, call.api, call.request.model, call.key)
        for known, transport in self._transports:
            if known == kind:
                return transport
        try:
            url = httpx.URL(call.provider.url(dialect.path, call.request.model))
            transport = self._build_transport(call, url)
        except NOT_AN_ADDRESS as error:
            raise build_address_error(call.provider, error) from None
        self._transports.append((kind, transport))
        return transport

    def _build_transport(
        self, call: HttpRequest, url: httpx.URL
    ) -> DirectTransport | ProxyTransport:
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.UnsupportedProtocol("it does not begin with https:// or http://")
        fields = build_headers(call) | {"user-agent": f"o3magic/{__version__}"}
        # A whole answer leaves the connection usable at every server.
        fields.pop("connection", None)
        if self._tls is None and url.scheme == "https":
            self._tls = create_ssl_context(system=self._system_certificates)
            self._tls.set_alpn_protocols(["http/1.1"])
        if proxy := find_proxy(call):
            return ProxyTransport(url, encode_headers(fields), proxy, self._tls)
        port = url.port or (443 if url.scheme == "https" else 80)
        request_headers = [(b"host", url.netloc), *encode_headers(fields)]
        tls = self._tls if url.scheme == "https" else None
        host = url.raw_host.decode("ascii")
        return DirectTransport(Origin(host, port, tls, url.raw_path, tuple(request_headers)))

    async def close(self) -> None:
        """Close the connections."""
        for _, transport in self._transports:
            await transport.close()
        self._transports.clear()


class DirectTransport:
    """Direct connections to a server, one for each slot."""

    def __init__(self, address: Origin) -> None:
        self._address = address
        self._connections: dict[int, HttpConnection] = {}

    async def post(self, slot: int, content: bytes, limits: PoolLimits) -> PoolReply:
        """Send a request. Raises httpx.HTTPError if no response began."""
        connection = self._connections.get(slot)
        if connection is None or not connection.is_usable:
            if connection is not None:
                connection.close()
            connection = self._connections[slot] = await open_connection(self._address, limits)
        return await connection.send_request(self._address, content, limits)

    async def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        await asyncio.sleep(0)  # the event loop closes them in its next iteration


class ProxyTransport:
    """Connections through a proxy: small pools of httpx, which speaks the proxy protocols."""

    def __init__(
        self,
        url: httpx.URL,
        headers: Sequence[tuple[bytes, bytes]],
        proxy: httpx.Proxy,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._url, self._headers, self._proxy = url, headers, proxy
        self._tls = tls or create_ssl_context(system=False)
        self._pools: dict[int, httpx.AsyncHTTPTransport] = {}

    async def post(self, slot: int, content: bytes, limits: PoolLimits) -> PoolReply:
        """Send a request. Raises httpx.HTTPError if no response began."""
        longest_s = max(limits.first_s, limits.silence_s)
        wait = httpx.Timeout(longest_s, connect=limits.connect_s, pool=None)
        request = httpx.Request(
            "POST",
            self._url,
            headers=self._headers,
            content=content,
            extensions={"timeout": wait.as_dict()},
        )
        try:
            async with asyncio.timeout(limits.connect_s + limits.first_s):
                response = await self._pool(slot).handle_async_request(request)
        except TimeoutError:
            raise httpx.ReadTimeout("nothing came for too long") from None
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
            except ImportError as error:  # the package for such a proxy is not installed
                raise build_proxy_error(error) from None
        return self._pools[number]

    async def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()


def build_limits(call: HttpRequest) -> PoolLimits:
    """Timeouts and size limit of a call."""
    first_s, silence_s = call.first_token_timeout_s, call.chunk_timeout_s
    return PoolLimits(call.connect_timeout_s, first_s, silence_s, call.max_answer_bytes)


def find_proxy(call: HttpRequest) -> httpx.Proxy | None:
    """Find the proxy in the environment; loopback addresses use none."""
    host = call.provider.host
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    scheme = "https" if call.provider.base_url.lower().startswith("https") else "http"
    address = proxies.get(scheme) or proxies.get("all")
    try:
        return httpx.Proxy(address) if address else None
    except (ValueError, httpx.InvalidURL) as error:
        raise build_proxy_error(error) from None


def build_proxy_error(error: Exception) -> BadOption:
    return BadOption(
        f"the proxy in the environment cannot be used: {redact(str(error))}",
        hint="change HTTPS_PROXY or ALL_PROXY; socks proxies need the package socksio",
    )


def narrow_error(error: Exception) -> RequestFailed:
    """Narrow the type: the error is always a RequestFailed before an answer has begun."""
    assert isinstance(error, RequestFailed)
    return error


def decode_reply(call: HttpRequest, dialect: Dialect, reply: PoolReply) -> Sequence[Event]:
    """Decode a response. Raises RequestFailed for an error response or a broken answer."""
    refused = b"" if 200 <= reply.status < 300 else b"".join(reply.chunks)
    response = httpx.Response(
        reply.status, headers=dict(reply.headers), stream=httpx.ByteStream(refused)
    )
    raise_for_status(response)
    packed = limit_bytes(reply.chunks, call.max_answer_bytes)
    encoding = response.headers.get("content-encoding", "")
    chunks = (
        limit_bytes(decompress(packed, encoding), call.max_answer_bytes) if encoding else packed
    )
    stream, chunks = detect_stream(response, chunks)
    if stream:
        return [*stream_events(chunks, dialect)]
    return [*dialect.decode(read_body(chunks))]

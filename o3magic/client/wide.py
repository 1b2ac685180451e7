"""Many whole answers at once, over small pools of connections, from one event loop.

A pool of httpx looks through all its connections for every request: with many in flight that is
most of the work. So a few connections each have a pool of their own, and the pool is asked
directly: what a client adds for cookies and redirects costs as much again.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import httpx

from o3magic.client.call import Call, body, headers
from o3magic.client.http import (
    NOT_AN_ADDRESS,
    broken_line,
    check,
    is_stream,
    kind_of,
    no_address,
    read_json,
    without_key,
)
from o3magic.client.reading import bounded, unpacked
from o3magic.errors import BadOption, BrokenAnswer, RequestFailed
from o3magic.events import Event
from o3magic.messages import Api
from o3magic.providers import Provider, is_loopback
from o3magic.version import __version__
from o3magic.wire import sse
from o3magic.wire.dialects import DIALECTS, Dialect
from o3magic.wire.failures import redact

POOL_SIZE = 2
Raw = list[tuple[bytes, bytes]]
# What a call is like, one of that kind, and what is the same for all of them.
Like = tuple[tuple[Provider, Api, str], Call, httpx.URL, Raw, dict[str, Any]]


class Heard(NamedTuple):
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


class Wide:
    """Sends calls, each in a slot; a slot has one call at a time. Used in one event loop only."""

    def __init__(self, *, system_certificates: bool = False) -> None:
        self._system_certificates = system_certificates
        self._pools: dict[int, httpx.AsyncHTTPTransport] = {}
        self._tls: ssl.SSLContext | None = None
        self._like: Like | None = None

    async def answer(self, call: Call, slot: int) -> Heard:
        """Send a call and wait for its whole answer. Raises BadOption for an address that is none.

        An error of the provider or the line is in what is heard; it is not raised.
        """
        dialect = DIALECTS[call.api]
        request = self._request(call, dialect)
        try:
            pool = self._pool(call, slot)
            response = await pool.handle_async_request(request)
        except NOT_AN_ADDRESS as error:
            raise no_address(call.provider, error) from None
        except httpx.HTTPError as error:
            return Heard((), failed(broken_line(error, call, None)), {})
        said: list[bytes] = []
        try:
            left = call.max_answer_bytes
            async for chunk in response.stream:  # type: ignore[union-attr]
                said.append(chunk)
                left -= len(chunk)
                if left < 0:
                    break  # `bounded` says it
        except httpx.HTTPError as error:
            broken = BrokenAnswer(f"the answer broke off: {kind_of(error)}")
            broken.should_retry = True  # nothing is wrong with the question
            return Heard((), broken, response.headers)
        finally:
            await response.stream.aclose()  # type: ignore[union-attr]
        try:
            return Heard(events_of(call, dialect, response, said), None, response.headers)
        except RequestFailed as error:
            return Heard((), without_key(error, call.key), response.headers)

    def _request(self, call: Call, dialect: Dialect) -> httpx.Request:
        """The request of a call; what is the same for all rows of a job is made once."""
        like = (call.provider, call.api, call.request.model)
        if self._like is None or self._like[0] != like or self._like[1].key is not call.key:
            self._like = (like, call, *self._common(call, dialect))
        _, _, url, said, extensions = self._like
        content = body(dialect.encode(call.request))
        return httpx.Request("POST", url, headers=said, content=content, extensions=extensions)

    def _common(self, call: Call, dialect: Dialect) -> tuple[httpx.URL, Raw, dict[str, Any]]:
        """Address, headers and limits. Raises BadOption."""
        said = headers(call) | {"user-agent": f"o3magic/{__version__}"}
        # Whole answers leave a connection in order, whoever the server is.
        said.pop("connection", None)
        raw = [(name.encode(), value.encode()) for name, value in said.items()]
        wait_s = max(call.first_token_timeout_s, call.chunk_timeout_s)
        limits = {"connect": call.connect_timeout_s, "read": wait_s, "write": wait_s}
        try:
            url = httpx.URL(call.provider.url(dialect.path, call.request.model))
        except NOT_AN_ADDRESS as error:
            raise no_address(call.provider, error) from None
        return url, raw, {"timeout": limits}

    def _pool(self, call: Call, slot: int) -> httpx.AsyncHTTPTransport:
        """The pool of a slot."""
        number = slot // POOL_SIZE
        if number not in self._pools:
            limits = httpx.Limits(max_connections=POOL_SIZE, max_keepalive_connections=POOL_SIZE)
            if self._tls is None:
                system = self._system_certificates
                self._tls = ssl.create_default_context() if system else httpx.create_ssl_context()
            proxy = proxy_for(call)
            self._pools[number] = httpx.AsyncHTTPTransport(
                verify=self._tls, limits=limits, proxy=proxy
            )
        return self._pools[number]

    async def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()


def proxy_for(call: Call) -> httpx.Proxy | None:
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
        raise BadOption(
            f"the proxy in the environment cannot be used: {redact(str(error))}",
            hint="change HTTPS_PROXY or ALL_PROXY",
        ) from None


def failed(error: Exception) -> RequestFailed:
    """The same error, of the class that it always is where no answer has begun."""
    assert isinstance(error, RequestFailed)
    return error


def events_of(
    call: Call, dialect: Dialect, response: httpx.Response, said: Sequence[bytes]
) -> Sequence[Event]:
    """The events of a whole answer. Raises RequestFailed for a refusal or a broken answer."""
    packed = bounded(said, call.max_answer_bytes)
    encoding = response.headers.get("content-encoding", "")
    chunks = bounded(unpacked(packed, encoding), call.max_answer_bytes) if encoding else packed
    if not response.is_success:
        check(httpx.Response(response.status_code, headers=response.headers, stream=again(said)))
    if is_stream(response, chunks):
        return [*streamed(chunks, dialect)]
    return [*dialect.decode(read_json(chunks))]


def again(said: Sequence[bytes]) -> httpx.ByteStream:
    """A body that was read, to be read once more."""
    return httpx.ByteStream(b"".join(said))


def streamed(chunks: Iterator[bytes], dialect: Dialect) -> Iterator[Event]:
    """The events of a stream that came though none was asked for."""
    reader, decoder = dialect.reader(), sse.Decoder()
    for chunk in chunks:
        for data in decoder.feed(chunk):
            yield from reader.read(data)
            if reader.done:
                return
    for data in decoder.close():
        yield from reader.read(data)
    yield from reader.close()

"""One call over HTTP: sent, checked, and read as events while it arrives. The door of httpx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from socket import SHUT_RDWR, socket
from threading import Timer
from typing import Any

import httpx
from pydantic import SecretStr
from pydantic_core import PydanticSerializationError, to_json

from o3magic.errors import (
    BadOption,
    BrokenAnswer,
    NoConnection,
    O3Error,
    RequestFailed,
    RequestRefused,
)
from o3magic.events import Accepted, Alive, Event
from o3magic.messages import Api, Request
from o3magic.providers import ADDRESS_HINT, Provider
from o3magic.version import __version__
from o3magic.wire import sse
from o3magic.wire.dialects import DIALECTS, Dialect
from o3magic.wire.failures import failure, redact, summary_of_page
from o3magic.wire.shape import load, objects, word

MOST_DRAINED_CHUNKS = 64
MOST_ERROR_BYTES = 65_536
MOST_DRAINED_S = 0.5
PROBE_TIMEOUT_S = 0.3
NOT_AN_ADDRESS = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, OverflowError)


@dataclass(frozen=True)
class Call:
    """Everything one attempt needs. Its repr shows no key: `SecretStr` hides it."""

    provider: Provider
    api: Api
    request: Request
    key: SecretStr | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 600.0


class Client:
    """Sends calls over kept-alive connections; one for a session. Threads may share it."""

    def __init__(self) -> None:
        # Redirects are not followed: they would carry the prompt, and with some headers the key,
        # to a host nobody chose. A proxy is for the world outside, never for this machine.
        try:
            self._http = httpx.Client(
                follow_redirects=False,
                mounts=dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]")),
                headers={"user-agent": f"o3magic/{__version__}"},
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise BadOption(
                f"the proxy in the environment cannot be used: {redact(str(error))}",
                hint="change HTTPS_PROXY or ALL_PROXY; socks proxies need the package socksio",
            ) from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def events(self, call: Call) -> Iterator[Event]:
        """Send a call and yield what arrives, as it arrives; the first event is `Accepted`.

        Raises RequestFailed for a refusal, a broken line or a broken answer. Closing the iterator
        closes the connection, which stops the provider's work.
        """
        dialect = DIALECTS[call.api]
        with self._answer(call, dialect) as response:
            request_id = response.headers.get("x-request-id", "")
            yield Accepted(redact(request_id), "x-o3magic-simulated" in response.headers)
            if is_stream(response):
                yield from stream_events(response, dialect)
            else:
                yield from dialect.decode(read_json(response))

    @contextmanager
    def _answer(self, call: Call, dialect: Dialect) -> Iterator[httpx.Response]:
        """The open response of a call that was accepted; every httpx error as one of ours."""
        begun = False
        try:
            with closing(self._send(call, dialect)) as response:
                check(response)
                begun = True
                yield response
        except httpx.HTTPError as error:
            raise broken_line(error, call, begun=begun) from None
        except RequestFailed as error:
            raise without_key(error, call.key) from None

    def _send(self, call: Call, dialect: Dialect) -> httpx.Response:
        """The response, its body still to come. Raises BadOption for an address that is none."""
        timeout = httpx.Timeout(call.read_timeout_s, connect=call.connect_timeout_s)
        url, said = call.provider.url(dialect.path), body(dialect.encode(call.request))
        try:
            request = self._http.build_request(
                "POST", url, content=said, headers=headers(call), timeout=timeout
            )
            return self._http.send(request, stream=True)
        except NOT_AN_ADDRESS as error:
            raise no_address(call.provider, error) from None

    def served_models(self, provider: Provider, key: SecretStr | None) -> list[str]:
        """The ids that GET /models lists. Raises RequestFailed."""
        try:
            response = self._http.get(provider.url("/models"), headers=auth(provider, key))
            check(response)
        except NOT_AN_ADDRESS as error:
            raise no_address(provider, error) from None
        except httpx.HTTPError as error:
            raise NoConnection(f"{provider.name}: {kind_of(error)}") from None
        except RequestFailed as error:
            raise without_key(error, key) from None
        listed = (word(each, "id") for each in objects(load(response.content), "data"))
        return [name for name in listed if name]

    def is_there(self, provider: Provider) -> bool:
        """Whether something that lists models answers at this address, within 0.3 s."""
        try:
            response = self._http.get(provider.url("/models"), timeout=PROBE_TIMEOUT_S)
            return response.status_code == httpx.codes.OK and "data" in load(response.content)
        except (httpx.HTTPError, *NOT_AN_ADDRESS, O3Error):
            return False


def body(said: dict[str, Any]) -> bytes:
    """A request's body. Half of a surrogate pair, which UTF-8 has not, goes as U+FFFD."""
    try:
        return to_json(said)
    except PydanticSerializationError:
        text = json.dumps(said, ensure_ascii=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def no_address(provider: Provider, error: Exception) -> BadOption:
    """What to say of a base URL that leads nowhere."""
    address = redact(provider.base_url) or "an empty base URL"
    return BadOption(f"{address} is no address: {redact(str(error))}", hint=ADDRESS_HINT)


def without_key(error: RequestFailed, key: SecretStr | None) -> RequestFailed:
    """The same error without the key that was sent, which some servers say again."""
    secret = key.get_secret_value() if key else ""
    if secret:
        error.args = tuple(str(each).replace(secret, "[key]") for each in error.args)
        for name in ("hint", "code", "param", "request_id"):
            if said := getattr(error, name):
                setattr(error, name, said.replace(secret, "[key]"))
    return error


def headers(call: Call) -> dict[str, str]:
    """The headers of a call."""
    accept = "text/event-stream" if call.request.stream else "application/json"
    said = {"content-type": "application/json", "accept": accept}
    return said | auth(call.provider, call.key)


def auth(provider: Provider, key: SecretStr | None) -> dict[str, str]:
    """The header that carries the key, or none."""
    if key is None or provider.auth == "none":
        return {}
    secret = key.get_secret_value()
    if not secret.isascii() or not secret.isprintable():
        raise BadOption(
            f"the key in {provider.key_env} holds characters no key has",
            hint=f"set {provider.key_env} again, without quotes or line ends",
        )
    if provider.auth == "api-key":
        return {"api-key": secret}
    return {"authorization": f"Bearer {secret}"}


def check(response: httpx.Response) -> None:
    """Raise what a status means that is no success. Some gateways answer 201."""
    status = response.status_code
    if response.is_success:
        return
    request_id = response.headers.get("x-request-id") or response.headers.get("apim-request-id")
    if response.has_redirect_location:
        raise RequestRefused(
            f"the provider wants to send the request on to {redact(response.headers['location'])}",
            hint="redirects are not followed; set that address as the base URL if you trust it",
            status=status,
        )
    said = bytearray()
    with suppress(httpx.HTTPError):  # the status is there, and it decides
        for chunk in response.iter_bytes():
            said += chunk
            if len(said) > MOST_ERROR_BYTES:
                break
    raise failure(status, bytes(said), request_id)


def is_stream(response: httpx.Response) -> bool:
    """Whether an accepted answer is a stream. The answer decides, not what was asked for.

    Raises BrokenAnswer for a page, which is what a wrong base URL often gives.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        words = summary_of_page(response.read().decode("utf-8", "replace"))
        raise BrokenAnswer(
            f"the provider sent a web page instead of an answer: {words[:120]}",
            hint="check the base URL: it usually ends in /v1",
        )
    return kind == "text/event-stream" or (not kind and "content-length" not in response.headers)


def stream_events(response: httpx.Response, dialect: Dialect) -> Iterator[Event]:
    """The events of a stream, each as soon as its last byte is there."""
    reader, decoder = dialect.reader(), sse.Decoder()
    read, feed = reader.read, decoder.feed
    chunks = iter_chunks(response)
    for chunk in chunks:
        for data in feed(chunk):
            yield from read(data)
            if reader.done:
                drain(response, chunks)
                return
        if decoder.comments:
            decoder.comments = 0
            yield Alive()
    for data in decoder.close():
        with suppress(BrokenAnswer):  # half a frame: `close` says truer what has happened
            yield from read(data)
    yield from reader.close()


def drain(response: httpx.Response, chunks: Iterator[bytes]) -> None:
    """Read to the end of the body, so that the connection can be used again; but not for long.

    The answer is whole: whatever is wrong with the rest does not matter any more.
    """
    line = response.extensions["network_stream"].get_extra_info("socket")

    def give_up() -> None:
        with suppress(OSError, TypeError):
            socket.shutdown(line, SHUT_RDWR)  # the line itself, below TLS

    waiting = Timer(MOST_DRAINED_S, give_up)
    waiting.daemon = True
    waiting.start()
    try:
        with suppress(httpx.HTTPError):
            for _ in zip(range(MOST_DRAINED_CHUNKS), chunks, strict=False):
                pass
    finally:
        waiting.cancel()


def iter_chunks(response: httpx.Response) -> Iterator[bytes]:
    """The body's bytes as the network gave them, decompressed where they are compressed."""
    if response.headers.get("content-encoding", "identity") == "identity":
        return response.iter_raw()
    return response.iter_bytes()


def read_json(response: httpx.Response) -> bytes:
    """A whole body. Raises BrokenAnswer where there is none."""
    body = response.read()
    if not body.strip():
        raise BrokenAnswer("the provider sent an empty answer")
    return body


def broken_line(error: httpx.HTTPError, call: Call, *, begun: bool) -> O3Error:
    """What a network error means, before (`begun` False) and while an answer arrives."""
    host = call.provider.host
    why = kind_of(error)
    if begun:
        return BrokenAnswer(f"the answer broke off: {why}")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        failed = NoConnection(f"{host} cannot be reached: {why}")
        failed.billed = False  # nothing was sent
        return failed
    return NoConnection(f"no answer from {host}: {why}")


def kind_of(error: httpx.HTTPError) -> str:
    """An httpx error in words."""
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time (--connect-timeout-s)"
        case httpx.TimeoutException():
            return "nothing came for too long (--read-timeout-s)"
        case httpx.RemoteProtocolError():
            return "the connection was closed in the middle"
        case httpx.DecodingError():
            return "its compression is damaged"
    return redact(str(error)) or type(error).__name__

"""Calls over httpx: send a request, check the response, yield its events as they arrive."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import date
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
from pydantic import SecretStr

from o3magic.client.cancellation import CancelToken, OpenCall, use_backend
from o3magic.client.request import (
    HttpRequest,
    build_headers,
    build_provider_headers,
    collect_secrets,
    encode_body,
    encode_headers,
)
from o3magic.client.response_stream import decompress, limit_bytes, stream_events
from o3magic.client.retry import parse_retry_after_s, parse_should_retry
from o3magic.errors import (
    BadOption,
    BrokenAnswer,
    Interrupted,
    NoConnection,
    O3Error,
    RequestFailed,
    RequestRefused,
)
from o3magic.events import Accepted, Event
from o3magic.providers import ADDRESS_HINT, Provider
from o3magic.redaction import redact
from o3magic.version import __version__
from o3magic.wire.dialects import DIALECTS, Dialect
from o3magic.wire.errors import build_error, summarize_page
from o3magic.wire.hosted import COST_HEADER, parse_cost_header
from o3magic.wire.json_access import get_text, iter_objects, load_object

SSL_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
MOST_ERROR_BYTES = 65_536
INPUT_TOKENS = "/responses/input_tokens"
# The fields that this endpoint accepts. Source: OpenAI's API specification (2026-08-21).
COUNTED = (
    *("model", "input", "instructions", "previous_response_id", "conversation", "tools"),
    *("tool_choice", "parallel_tool_calls", "text", "reasoning", "truncation"),
)
PROBE_TIMEOUT_S = 0.3
LIST_TIMEOUT_S = 10.0
MOST_LIST_BYTES = 16_777_216
BLANK = b"\xef\xbb\xbf \t\r\n"  # with the byte order mark that some servers send first
FIELD = re.compile(rb":|(?:data|event|id|retry)\s*:")  # as every stream begins
LONGEST_FIELD = 6
MOST_PEEKED_BYTES = 256
NOT_AN_ADDRESS = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, OverflowError)


class ServedModel(NamedTuple):
    """A model that a provider lists.

    shutdown: the day on which it is shut down, None if none is announced. dated: whether the list
    has this field at all; most gateways lack it.
    """

    id: str
    shutdown: date | None = None
    dated: bool = False


class Client:
    """Sends calls over kept-alive connections. Thread-safe; a session has one."""

    def __init__(self, *, system_certificates: bool = False) -> None:
        # Redirects are not followed: they would send the prompt, and with some headers the key,
        # to a host that the user did not choose. Loopback addresses use no proxy.
        try:
            self._http = httpx.Client(
                verify=create_ssl_context(system=system_certificates),
                follow_redirects=False,
                mounts=dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]")),
                headers={"user-agent": f"o3magic/{__version__}"},
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise BadOption(
                f"the proxy in the environment cannot be used: {redact(str(error))}",
                hint="change HTTPS_PROXY or ALL_PROXY; socks proxies need the package socksio",
            ) from None
        use_backend(self._http)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def events(self, call: HttpRequest, stop: CancelToken | None = None) -> Iterator[Event]:
        """Send a call and yield its events as they arrive; the first one is `Accepted`.

        stop: lets another thread end the call, at any moment from its first byte on.

        Raises RequestFailed for an error response, a broken connection or a broken answer, and
        Interrupted after a stop. Closing the iterator closes the connection, which stops the
        provider's work.
        """
        dialect = DIALECTS[call.api]
        with self._answer(call, dialect, stop) as (response, open_call):
            request_id = response.headers.get("x-request-id", "")
            simulated = "x-o3magic-simulated" in response.headers
            cost_usd = parse_cost_header(response.headers.get(COST_HEADER))
            yield Accepted(redact(request_id), simulated, cost_usd)
            stream, chunks = detect_stream(response, iter_chunks(response, call.max_answer_bytes))
            if stream:
                yield from stream_events(chunks, dialect, open_call, call.chunk_timeout_s)
            else:
                yield from dialect.decode(read_body(chunks))

    @contextmanager
    def _answer(
        self, call: HttpRequest, dialect: Dialect, stop: CancelToken | None
    ) -> Iterator[tuple[httpx.Response, OpenCall]]:
        """The open response of an accepted request; httpx errors are converted."""
        with OpenCall(call.first_token_timeout_s, stop) as open_call:
            try:
                with closing(self._send(call, dialect, open_call)) as response:
                    raise_for_status(response)
                    open_call.accepted = True
                    yield response, open_call
            except (httpx.HTTPError, RequestFailed) as error:
                if open_call.is_cancelled:
                    raise build_stop_error(open_call) from None
                if isinstance(error, RequestFailed) and (error.status or not open_call.expired_s):
                    raise remove_sent_secrets(error, call.provider, call.key) from None
                raise convert_http_error(error, call, open_call) from None

    def _send(self, call: HttpRequest, dialect: Dialect, open_call: OpenCall) -> httpx.Response:
        """Send the request; the body is not read yet. Raises BadOption for an invalid address."""
        # The clock of the open call limits all but the time until there is a connection.
        timeout = httpx.Timeout(None, connect=call.connect_timeout_s)
        url = call.provider.url(dialect.path, call.request.model)
        content = encode_body(dialect.encode(call.request))
        try:
            request = self._http.build_request(
                "POST",
                url,
                content=content,
                headers=encode_headers(build_headers(call)),
                timeout=timeout,
            )
            with open_call.sending():
                return self._http.send(request, stream=True)
        except NOT_AN_ADDRESS as error:
            raise build_address_error(call.provider, error) from None

    def served_models(
        self, provider: Provider, key: SecretStr | None, timeout_s: float = LIST_TIMEOUT_S
    ) -> list[ServedModel]:
        """Fetch the models from GET /models. timeout_s: read timeout. Raises RequestFailed.

        `shutdown_date`: "YYYY-MM-DD" or null. Source: OpenAI's API reference (2026-11).
        """
        try:
            document = self._list(provider, build_provider_headers(provider, key), timeout_s)
        except httpx.HTTPError as error:
            raise NoConnection(f"{provider.name}: {describe_http_error(error)}") from None
        except RequestFailed as error:
            raise remove_sent_secrets(error, provider, key) from None
        return [
            ServedModel(name, parse_shutdown_date(model), "shutdown_date" in model)
            for model in iter_objects(document, "data")
            if (name := get_text(model, "id"))
        ]

    def count_tokens(self, call: HttpRequest) -> int:
        """Count the input tokens of a call at the provider, without running a model.

        POST /responses/input_tokens, which OpenAI and llama.cpp have. Raises RequestFailed.
        """
        fields = DIALECTS["responses"].encode(replace(call.request, stream=False))
        content = encode_body({name: value for name, value in fields.items() if name in COUNTED})
        url = call.provider.url(INPUT_TOKENS, call.request.model)
        try:
            request_headers = encode_headers(build_headers(call))
            with self._http.stream(
                "POST", url, content=content, headers=request_headers, timeout=LIST_TIMEOUT_S
            ) as response:
                raise_for_status(response)
                counted = load_object(b"".join(iter_chunks(response, MOST_LIST_BYTES)))
        except NOT_AN_ADDRESS as error:
            raise build_address_error(call.provider, error) from None
        except httpx.HTTPError as error:
            raise NoConnection(f"{call.provider.name}: {describe_http_error(error)}") from None
        except RequestFailed as error:
            raise remove_sent_secrets(error, call.provider, call.key) from None
        tokens = counted.get("input_tokens")
        if not isinstance(tokens, int):
            raise BrokenAnswer(f"{call.provider.name} did not count the tokens")
        return tokens

    @contextmanager
    def exchange(
        self,
        provider: Provider,
        key: SecretStr | None,
        method: str,
        path: str,
        *,
        content: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        timeout_s: float = LIST_TIMEOUT_S,
        most_bytes: int = MOST_LIST_BYTES,
    ) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        """Send a request that runs no model; give the response headers and the body chunks.

        timeout_s: the read timeout. Raises RequestFailed.
        """
        try:
            url, _, query = path.partition("?")
            url = provider.url(url)
            url += f"{'&' if '?' in url else '?'}{query}" if query else ""
            request_headers = {
                "accept-encoding": "gzip",
                **headers,
                **build_provider_headers(provider, key),
            }
            with self._http.stream(
                method,
                url,
                content=content,
                headers=encode_headers(request_headers),
                timeout=timeout_s,
            ) as response:
                raise_for_status(response)
                yield response.headers, iter_chunks(response, most_bytes)
        except NOT_AN_ADDRESS as error:
            raise build_address_error(provider, error) from None
        except httpx.HTTPError as error:
            raise build_connection_error(provider, error) from None
        except RequestFailed as error:
            raise remove_sent_secrets(error, provider, key) from None

    def is_there(self, provider: Provider) -> bool:
        """Whether something that lists models answers at this address, within 0.3 s."""
        try:
            # A server that the user did not choose gets neither a key nor configured headers.
            return "data" in self._list(provider, {}, PROBE_TIMEOUT_S)
        except (httpx.HTTPError, O3Error):
            return False

    def _list(
        self, provider: Provider, headers: Mapping[str, str], timeout_s: float
    ) -> Mapping[str, Any]:
        try:
            url, request_headers = provider.url("/models"), encode_headers(headers)
            with self._http.stream(
                "GET", url, headers=request_headers, timeout=timeout_s
            ) as response:
                raise_for_status(response)
                return load_object(b"".join(iter_chunks(response, MOST_LIST_BYTES)))
        except NOT_AN_ADDRESS as error:
            raise build_address_error(provider, error) from None


def create_ssl_context(*, system: bool) -> ssl.SSLContext:
    """The certificates to trust: certifi's and those of SSL_CERT_FILE, or the system's.

    Raises BadOption where a variable of the environment names a file that cannot be used; conda
    leaves such a SSL_CERT_FILE behind.
    """
    try:
        return ssl.create_default_context() if system else httpx.create_ssl_context()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = [name for name in SSL_VARIABLES if os.environ.get(name)]
        missing = [name for name in names if not Path(os.environ[name]).exists()]
        if not (names := missing or names):
            raise
        named = ", ".join(f"{name}={os.environ[name]}" for name in names)
        reason = error.strerror or type(error).__name__ if isinstance(error, OSError) else error
        raise BadOption(
            f"the environment names a file that cannot be used: {named} ({reason})",
            hint=f"unset {' and '.join(names)}, or name a file that is there",
        ) from None


def parse_shutdown_date(model: Mapping[str, Any]) -> date | None:
    """Parse the day on which a listed model is shut down, or None."""
    try:
        return date.fromisoformat(get_text(model, "shutdown_date"))
    except ValueError:
        return None


def build_connection_error(provider: Provider, error: httpx.HTTPError) -> NoConnection:
    """Build the error of a broken connection; not billed if none was made."""
    failed = NoConnection(f"{provider.name}: {describe_http_error(error)}")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        failed.billed = False
    return failed


def build_address_error(provider: Provider, error: Exception) -> BadOption:
    address = redact(provider.base_url) or "an empty base URL"
    return BadOption(f"{address} is no address: {redact(str(error))}", hint=ADDRESS_HINT)


def remove_sent_secrets(
    error: RequestFailed, provider: Provider, key: SecretStr | None
) -> RequestFailed:
    """Remove the key and headers that were sent from an error: some servers repeat them."""
    for secret, replacement in collect_secrets(provider, key).items():
        error.args = tuple(str(arg).replace(secret, replacement) for arg in error.args)
        for name in ("hint", "code", "param", "request_id"):
            if text := getattr(error, name):
                setattr(error, name, text.replace(secret, replacement))
    return error


def raise_for_status(response: httpx.Response) -> None:
    """Raise the error of a status other than 2xx. Some gateways answer 201."""
    status = response.status_code
    if response.is_success:
        return
    request_id = response.headers.get("x-request-id") or response.headers.get("apim-request-id")
    if response.has_redirect_location:
        raise RequestRefused(
            f"the provider redirects the request to {redact(response.headers['location'])}",
            hint="redirects are not followed; set that address as the base URL if you trust it",
            status=status,
        )
    error = build_error(status, read_beginning(iter_chunks(response, MOST_ERROR_BYTES)), request_id)
    error.retry_after_s = parse_retry_after_s(response.headers)
    error.should_retry = parse_should_retry(response.headers)
    raise error


def read_beginning(chunks: Iterator[bytes]) -> bytes:
    """Read the beginning of an error body, or what arrived of it."""
    data = bytearray()
    with suppress(httpx.HTTPError, BrokenAnswer):
        for chunk in chunks:
            data += chunk
    return bytes(data[:MOST_ERROR_BYTES])


def detect_stream(
    response: httpx.Response, chunks: Iterator[bytes]
) -> tuple[bool, Iterator[bytes]]:
    """Return whether the body is a stream, and all of its chunks.

    The first bytes decide, not the request or the content type: some servers declare a stream as
    plain text or JSON, and whole answers as a stream.

    Raises BrokenAnswer for a web page, which a wrong base URL often returns.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        text = summarize_page(read_beginning(chunks).decode("utf-8", "replace"))
        raise BrokenAnswer(
            f"the provider sent a web page instead of an answer: {text[:120]}",
            hint="check the base URL: it usually ends in /v1",
        )
    called_stream = kind == "text/event-stream"
    # A declared stream needs one byte only, so that no frame waits for the next.
    needed_bytes = 1 if called_stream else LONGEST_FIELD
    first: list[bytes] = []
    beginning = b""
    for chunk in chunks:
        first.append(chunk)
        beginning = (beginning + chunk[:MOST_PEEKED_BYTES]).lstrip(BLANK)
        if len(beginning) >= needed_bytes or FIELD.match(beginning):
            break
    stream = beginning[:1] not in (b"{", b"[") if called_stream else bool(FIELD.match(beginning))
    return stream, chain(first, chunks)


def iter_chunks(response: httpx.Response, most_bytes: int) -> Iterator[bytes]:
    """Yield the body in chunks as received, decompressed, up to `most_bytes`."""
    packed = limit_bytes(response.iter_raw(), most_bytes)
    encoding = response.headers.get("content-encoding", "")
    return limit_bytes(decompress(packed, encoding), most_bytes) if encoding else packed


def read_body(chunks: Iterator[bytes]) -> bytes:
    """Read a whole body. Raises BrokenAnswer if it is empty."""
    data = b"".join(chunks)
    if not data.strip():
        raise BrokenAnswer("the provider sent an empty answer")
    return data


def build_stop_error(open_call: OpenCall) -> Interrupted:
    """Build the error of a stopped call; one that was not sent costs nothing."""
    error = Interrupted("stopped by you")
    error.billed = None if open_call.sent else False
    return error


def convert_http_error(
    error: Exception, call: HttpRequest, open_call: OpenCall | None = None
) -> O3Error:
    """Convert a network error, from before or within an answer."""
    if open_call is not None and open_call.expired_s is not None:
        within = open_call.accepted and open_call.expired_s == call.chunk_timeout_s
        option = "--chunk-timeout-s" if within else "--first-token-timeout-s"
        return build_timeout_error(call, open_call.expired_s, option)
    host = call.provider.host
    reason = describe_http_error(error)
    if open_call is not None and open_call.accepted:
        return BrokenAnswer(f"the answer broke off: {reason}")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        failed = NoConnection(f"{host} cannot be reached: {reason}")
        failed.billed = False  # nothing was sent
        return failed
    if isinstance(error, httpx.TimeoutException):
        # Not NoConnection: the model may still be running, and a retry may be billed twice.
        return build_timeout_error(call, call.first_token_timeout_s, "--first-token-timeout-s")
    return NoConnection(f"no answer from {host}: {reason}")


def build_timeout_error(call: HttpRequest, limit_s: float, option: str) -> BrokenAnswer:
    slow = "; the flex tier is slower than the others" if call.request.tier == "flex" else ""
    return BrokenAnswer(f"nothing came for {limit_s:g} s", hint=f"{option} waits longer{slow}")


def describe_http_error(error: Exception) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time (--connect-timeout-s)"
        case httpx.TimeoutException():
            return "nothing came for too long"
        case httpx.RemoteProtocolError():
            return "the connection was closed in the middle"
    return redact(str(error)) or type(error).__name__

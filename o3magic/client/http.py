"""One call over HTTP: sent, checked, and read as events while it arrives. The door of httpx."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import date
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
from pydantic import SecretStr

from o3magic.client.cancellation import CancelToken, OpenCall, use_backend
from o3magic.client.request import HttpRequest, as_bytes, body, headers, secrets_of, to_provider
from o3magic.client.response_stream import bounded, stream_events, unpacked
from o3magic.client.retry import retry_after_s, should_retry
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
from o3magic.wire.errors import failure, summary_of_page
from o3magic.wire.hosted import COST_HEADER, cost_in_header
from o3magic.wire.json_access import load, objects, word

MOST_ERROR_BYTES = 65_536
INPUT_TOKENS = "/responses/input_tokens"
# What is counted, and what else may be said there. Source: OpenAI's API specification (2026-08-21).
COUNTED = (
    *("model", "input", "instructions", "previous_response_id", "conversation", "tools"),
    *("tool_choice", "parallel_tool_calls", "text", "reasoning", "truncation"),
)
PROBE_TIMEOUT_S = 0.3
LIST_TIMEOUT_S = 10.0
MOST_LIST_BYTES = 16_777_216
BLANK = b"\xef\xbb\xbf \t\r\n"  # with the byte order mark that some put before all
FIELD = re.compile(rb":|(?:data|event|id|retry)\s*:")  # as every stream begins
LONGEST_FIELD = 6
MOST_PEEKED_BYTES = 256
NOT_AN_ADDRESS = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, OverflowError)


class ServedModel(NamedTuple):
    """A model that a provider lists.

    shutdown: the day on which it is shut down, None where none is announced. dated: whether the
    list says so or so; those of most gateways do not.
    """

    id: str
    shutdown: date | None = None
    dated: bool = False


class Client:
    """Sends calls over kept-alive connections; one for a session. Threads may share it."""

    def __init__(self, *, system_certificates: bool = False) -> None:
        # Redirects are not followed: they would carry the prompt, and with some headers the key,
        # to a host nobody chose. A proxy is for the world outside, never for this machine.
        try:
            self._http = httpx.Client(
                verify=ssl.create_default_context() if system_certificates else True,
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
        """Send a call and yield what arrives, as it arrives; the first event is `Accepted`.

        stop: with it another thread ends the call, at any moment from its first byte on.

        Raises RequestFailed for a refusal, a broken line or a broken answer, and Interrupted after
        a stop. Closing the iterator closes the connection, which stops the provider's work.
        """
        dialect = DIALECTS[call.api]
        with self._answer(call, dialect, stop) as (response, open_call):
            request_id = response.headers.get("x-request-id", "")
            simulated = "x-o3magic-simulated" in response.headers
            cost_usd = cost_in_header(response.headers.get(COST_HEADER))
            yield Accepted(redact(request_id), simulated, cost_usd)
            stream, chunks = is_stream(response, iter_chunks(response, call.max_answer_bytes))
            if stream:
                yield from stream_events(chunks, dialect, open_call, call.chunk_timeout_s)
            else:
                yield from dialect.decode(read_json(chunks))

    @contextmanager
    def _answer(
        self, call: HttpRequest, dialect: Dialect, stop: CancelToken | None
    ) -> Iterator[tuple[httpx.Response, OpenCall]]:
        """The open response of a call that was accepted; every httpx error as one of ours."""
        with OpenCall(call.first_token_timeout_s, stop) as open_call:
            try:
                with closing(self._send(call, dialect, open_call)) as response:
                    check(response)
                    open_call.accepted = True
                    yield response, open_call
            except (httpx.HTTPError, RequestFailed) as error:
                if open_call.is_cancelled:
                    raise stopped(open_call) from None
                if isinstance(error, RequestFailed) and (error.status or not open_call.expired_s):
                    raise without_secrets(error, call.provider, call.key) from None
                raise broken_line(error, call, open_call) from None

    def _send(self, call: HttpRequest, dialect: Dialect, open_call: OpenCall) -> httpx.Response:
        """The response, its body still to come. Raises BadOption for an address that is none."""
        # The clock of the open call limits all but the time until there is a connection.
        timeout = httpx.Timeout(None, connect=call.connect_timeout_s)
        url = call.provider.url(dialect.path, call.request.model)
        said = body(dialect.encode(call.request))
        try:
            request = self._http.build_request(
                "POST", url, content=said, headers=as_bytes(headers(call)), timeout=timeout
            )
            with open_call.sending():
                return self._http.send(request, stream=True)
        except NOT_AN_ADDRESS as error:
            raise no_address(call.provider, error) from None

    def served_models(
        self, provider: Provider, key: SecretStr | None, timeout_s: float = LIST_TIMEOUT_S
    ) -> list[ServedModel]:
        """What GET /models lists. timeout_s: how long nothing may come. Raises RequestFailed.

        `shutdown_date`: "YYYY-MM-DD" or null. Source: OpenAI's API reference (2026-11).
        """
        try:
            listed = self._list(provider, to_provider(provider, key), timeout_s)
        except httpx.HTTPError as error:
            raise NoConnection(f"{provider.name}: {kind_of(error)}") from None
        except RequestFailed as error:
            raise without_secrets(error, provider, key) from None
        return [
            ServedModel(name, day_of(each), "shutdown_date" in each)
            for each in objects(listed, "data")
            if (name := word(each, "id"))
        ]

    def count_tokens(self, call: HttpRequest) -> int:
        """How many input tokens a call has, as the provider counts them; no model is asked.

        POST /responses/input_tokens: OpenAI and llama.cpp have it. Raises RequestFailed.
        """
        said = DIALECTS["responses"].encode(replace(call.request, stream=False))
        content = body({name: value for name, value in said.items() if name in COUNTED})
        url = call.provider.url(INPUT_TOKENS, call.request.model)
        try:
            told = as_bytes(headers(call))
            with self._http.stream(
                "POST", url, content=content, headers=told, timeout=LIST_TIMEOUT_S
            ) as response:
                check(response)
                counted = load(b"".join(iter_chunks(response, MOST_LIST_BYTES)))
        except NOT_AN_ADDRESS as error:
            raise no_address(call.provider, error) from None
        except httpx.HTTPError as error:
            raise NoConnection(f"{call.provider.name}: {kind_of(error)}") from None
        except RequestFailed as error:
            raise without_secrets(error, call.provider, call.key) from None
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
        """Any request that asks no model: the headers of its answer, and its body as it arrives.

        timeout_s: seconds without any sign of life. Raises RequestFailed.
        """
        try:
            url, _, query = path.partition("?")
            url = provider.url(url)
            url += f"{'&' if '?' in url else '?'}{query}" if query else ""
            said = {"accept-encoding": "gzip", **headers, **to_provider(provider, key)}
            with self._http.stream(
                method, url, content=content, headers=as_bytes(said), timeout=timeout_s
            ) as response:
                check(response)
                yield response.headers, iter_chunks(response, most_bytes)
        except NOT_AN_ADDRESS as error:
            raise no_address(provider, error) from None
        except httpx.HTTPError as error:
            raise no_answer(provider, error) from None
        except RequestFailed as error:
            raise without_secrets(error, provider, key) from None

    def is_there(self, provider: Provider) -> bool:
        """Whether something that lists models answers at this address, within 0.3 s."""
        try:
            # Who was not asked for is sent no key and no header of a table.
            return "data" in self._list(provider, {}, PROBE_TIMEOUT_S)
        except (httpx.HTTPError, O3Error):
            return False

    def _list(
        self, provider: Provider, told: Mapping[str, str], timeout_s: float
    ) -> Mapping[str, Any]:
        """The document at /models."""
        try:
            url, said = provider.url("/models"), as_bytes(told)
            with self._http.stream("GET", url, headers=said, timeout=timeout_s) as response:
                check(response)
                return load(b"".join(iter_chunks(response, MOST_LIST_BYTES)))
        except NOT_AN_ADDRESS as error:
            raise no_address(provider, error) from None


def day_of(model: Mapping[str, Any]) -> date | None:
    """The day on which a listed model is shut down, or None where none is said."""
    try:
        return date.fromisoformat(word(model, "shutdown_date"))
    except ValueError:
        return None


def no_answer(provider: Provider, error: httpx.HTTPError) -> NoConnection:
    """What to say where the line broke; nothing was done where there was none."""
    failed = NoConnection(f"{provider.name}: {kind_of(error)}")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        failed.billed = False
    return failed


def no_address(provider: Provider, error: Exception) -> BadOption:
    """What to say of a base URL that leads nowhere."""
    address = redact(provider.base_url) or "an empty base URL"
    return BadOption(f"{address} is no address: {redact(str(error))}", hint=ADDRESS_HINT)


def without_secrets(
    error: RequestFailed, provider: Provider, key: SecretStr | None
) -> RequestFailed:
    """The same error without the key and headers that were sent, which some servers say again."""
    for secret, shown in secrets_of(provider, key).items():
        error.args = tuple(str(each).replace(secret, shown) for each in error.args)
        for name in ("hint", "code", "param", "request_id"):
            if said := getattr(error, name):
                setattr(error, name, said.replace(secret, shown))
    return error


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
    error = failure(status, first_bytes(iter_chunks(response, MOST_ERROR_BYTES)), request_id)
    error.retry_after_s = retry_after_s(response.headers)
    error.should_retry = should_retry(response.headers)
    raise error


def first_bytes(chunks: Iterator[bytes]) -> bytes:
    """The beginning of a body that explains something; less of it where the line breaks."""
    said = bytearray()
    with suppress(httpx.HTTPError, BrokenAnswer):
        for chunk in chunks:
            said += chunk
    return bytes(said[:MOST_ERROR_BYTES])


def is_stream(response: httpx.Response, chunks: Iterator[bytes]) -> tuple[bool, Iterator[bytes]]:
    """Whether an accepted answer is a stream, and all of its chunks.

    Neither what was asked for nor the content type decides: servers exist that call a stream plain
    text or JSON, and whole answers a stream. The first bytes do.

    Raises BrokenAnswer for a page, which is what a wrong base URL often gives.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        words = summary_of_page(first_bytes(chunks).decode("utf-8", "replace"))
        raise BrokenAnswer(
            f"the provider sent a web page instead of an answer: {words[:120]}",
            hint="check the base URL: it usually ends in /v1",
        )
    called_stream = kind == "text/event-stream"
    # A stream's first field is looked for only where it is not called one: no frame may wait.
    enough = 1 if called_stream else LONGEST_FIELD
    first: list[bytes] = []
    begin = b""
    for chunk in chunks:
        first.append(chunk)
        begin = (begin + chunk[:MOST_PEEKED_BYTES]).lstrip(BLANK)
        if len(begin) >= enough or FIELD.match(begin):
            break
    stream = begin[:1] not in (b"{", b"[") if called_stream else bool(FIELD.match(begin))
    return stream, chain(first, chunks)


def iter_chunks(response: httpx.Response, most_bytes: int) -> Iterator[bytes]:
    """The body's bytes as the network gave them, decompressed, and never more than allowed."""
    packed = bounded(response.iter_raw(), most_bytes)
    encoding = response.headers.get("content-encoding", "")
    return bounded(unpacked(packed, encoding), most_bytes) if encoding else packed


def read_json(chunks: Iterator[bytes]) -> bytes:
    """A whole body. Raises BrokenAnswer where there is none."""
    said = b"".join(chunks)
    if not said.strip():
        raise BrokenAnswer("the provider sent an empty answer")
    return said


def stopped(open_call: OpenCall) -> Interrupted:
    """The error of a call that was stopped; one that had not left yet costs nothing."""
    error = Interrupted("stopped by you")
    error.billed = None if open_call.sent else False
    return error


def broken_line(error: Exception, call: HttpRequest, open_call: OpenCall | None = None) -> O3Error:
    """What a network error means, before and while an answer arrives."""
    if open_call is not None and open_call.expired_s is not None:
        within = open_call.accepted and open_call.expired_s == call.chunk_timeout_s
        option = "--chunk-timeout-s" if within else "--first-token-timeout-s"
        return silence(call, open_call.expired_s, option)
    host = call.provider.host
    why = kind_of(error)
    if open_call is not None and open_call.accepted:
        return BrokenAnswer(f"the answer broke off: {why}")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        failed = NoConnection(f"{host} cannot be reached: {why}")
        failed.billed = False  # nothing was sent
        return failed
    if isinstance(error, httpx.TimeoutException):
        # Not NoConnection: it may be thinking still, and asking again may pay twice.
        return silence(call, call.first_token_timeout_s, "--first-token-timeout-s")
    return NoConnection(f"no answer from {host}: {why}")


def silence(call: HttpRequest, limit_s: float, option: str) -> BrokenAnswer:
    """Nothing came for too long."""
    slow = "; the flex tier is slower than the others" if call.request.tier == "flex" else ""
    return BrokenAnswer(f"nothing came for {limit_s:g} s", hint=f"{option} waits longer{slow}")


def kind_of(error: Exception) -> str:
    """An httpx error in words."""
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time (--connect-timeout-s)"
        case httpx.TimeoutException():
            return "nothing came for too long"
        case httpx.RemoteProtocolError():
            return "the connection was closed in the middle"
    return redact(str(error)) or type(error).__name__

"""Stops and limits of silence, from the first byte of a request to the last of its answer."""

import asyncio
import socket
import threading
import time
from dataclasses import replace

import httpx
import pytest

from o3magic.client import cancellation
from o3magic.client.cancellation import CancelToken
from o3magic.client.http import Client
from o3magic.client.pool import RequestPool
from o3magic.errors import BrokenAnswer, Interrupted, NoConnection, ProviderDown, RequestFailed
from tests.client.conftest import OK, chunked

SOON_S = 0.5
FRAME = b'data: {"type": "response.output_text.delta", "delta": "a"}\n\n'
END = (
    b'data: {"type": "response.completed", "response": {"id": "r", "status": "completed",'
    b' "model": "o3-mini", "output": []}}\n\n'
)
STALLS = {
    "before the headers": b"",
    "in the headers": OK + b"content-type: text/ev",
    "in the body of an error": b"HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\n{",
    "before the first words": chunked(b": hello\n\n", end=False),
    "in the middle": chunked(FRAME, end=False),
    "in a whole answer": OK + b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{",
}


@pytest.fixture
def client():
    opened = Client()
    yield opened
    opened.close()


def stopped_after(seconds, run):
    """What a run raised, and how long after the stop it ended."""
    token = CancelToken()
    timer = threading.Timer(seconds, token.cancel)
    timer.start()
    began_s = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        run(token)
    timer.join()
    return caught.value, time.monotonic() - began_s - seconds


@pytest.mark.parametrize("said", STALLS.values(), ids=STALLS)
def test_a_stop_ends_a_call_wherever_it_waits(line, client, call, said):
    line.say(said)
    error, late_s = stopped_after(0.2, lambda token: list(client.events(call(line), token)))
    assert late_s < SOON_S
    assert error.billed is None
    assert line.gone.wait(2)  # the provider sees it too


def test_a_connection_that_was_used_before_is_stopped_before_the_headers(line, client, call):
    line.say(chunked(FRAME, END))
    line.say(b"")
    assert list(client.events(call(line)))
    _, late_s = stopped_after(0.2, lambda token: list(client.events(call(line), token)))
    assert late_s < SOON_S
    assert len(set(line.ports)) == 1


def test_a_stop_while_connecting_sends_nothing_and_costs_nothing(client, call, monkeypatch):
    def connect(*args, **kwargs):
        time.sleep(2)
        raise AssertionError("nobody waits for it")

    monkeypatch.setattr(socket, "create_connection", connect)
    error, late_s = stopped_after(
        0.2, lambda token: list(client.events(call("http://h.test/v1"), token))
    )
    assert late_s < SOON_S
    assert error.billed is False


def test_a_stop_during_the_handshake_of_tls(client, call):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        _, late_s = stopped_after(0.2, lambda token: list(client.events(call(url), token)))
    assert late_s < SOON_S


def test_a_token_that_was_cancelled_sends_nothing(line, client, call):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Interrupted):
        list(client.events(call(line), token))
    assert line.requests == []


def test_a_stop_does_not_touch_the_next_call_of_the_connection(line, client, call):
    token = CancelToken()
    line.say(chunked(FRAME, END))
    line.say(chunked(FRAME, END))
    list(client.events(call(line), token))
    events = client.events(call(line))
    next(events)
    token.cancel()
    assert list(events)


@pytest.mark.parametrize(
    "said", [STALLS["before the headers"], STALLS["in the headers"]], ids=["nothing", "a part"]
)
def test_the_first_limit_holds_before_the_headers_and_is_named(line, client, call, said):
    line.say(said)
    limited = replace(call(line), first_token_timeout_s=0.3, chunk_timeout_s=9.0)
    began_s = time.monotonic()
    with pytest.raises(BrokenAnswer, match=r"nothing came for 0\.3 s") as caught:
        list(client.events(limited))
    assert time.monotonic() - began_s < 1.5
    assert "--first-token-timeout-s" in caught.value.hint


def test_an_error_whose_body_stalls_is_still_that_error(line, client, call):
    line.say(STALLS["in the body of an error"])
    began_s = time.monotonic()
    with pytest.raises(ProviderDown, match="HTTP 500"):
        list(client.events(replace(call(line), first_token_timeout_s=0.3)))
    assert time.monotonic() - began_s < 1.5


def test_what_the_reader_does_between_two_events_does_not_count(line, client, call):
    line.say(chunked(*[FRAME] * 3000, END))
    limited = replace(call(line), first_token_timeout_s=0.3, chunk_timeout_s=0.3)
    events = client.events(limited)
    heard = [next(events), next(events)]
    time.sleep(1.0)
    heard += events
    assert sum(type(event).__name__ == "TextDelta" for event in heard) == 3000


def test_fifty_calls_are_stopped_at_once(line, call):
    client, tokens, ended = Client(), [CancelToken() for _ in range(50)], []

    def ask(token):
        with pytest.raises((Interrupted, RequestFailed)):
            list(client.events(call(line), token))
        ended.append(time.monotonic())

    for _ in tokens:
        line.say(b"")
    threads = [threading.Thread(target=ask, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    stopped_s = time.monotonic()
    for token in tokens:
        token.cancel()
    for thread in threads:
        thread.join(5)
    client.close()
    assert len(ended) == len(tokens)
    assert max(ended) - stopped_s < 2 * SOON_S


def test_connections_of_httpx_report_themselves():
    """What `use_backend` sets is httpx's own, and might have another name in a newer version."""
    with httpx.Client(proxy="http://127.0.0.1:9") as client:
        cancellation.use_backend(client)
        pools = [client._transport._pool, *(t._pool for t in client._mounts.values() if t)]
        backends = [pool._network_backend for pool in pools]
    assert backends
    assert all(isinstance(backend, cancellation.CallBackend) for backend in backends)


def test_a_refused_connection_is_as_ever(client, call):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NoConnection):
        list(client.events(call(f"http://127.0.0.1:{port}/v1"), CancelToken()))


@pytest.mark.parametrize(
    ("said", "limit_s", "option"),
    [
        (STALLS["before the headers"], 0.2, "--first-token-timeout-s"),
        (STALLS["in a whole answer"], 0.4, "--chunk-timeout-s"),
    ],
    ids=["before the headers", "in the answer"],
)
def test_many_calls_at_once_keep_the_same_limits(line, call, said, limit_s, option):
    async def ask():
        pool = RequestPool()
        limited = replace(call(line), first_token_timeout_s=0.2, chunk_timeout_s=0.4)
        try:
            return await pool.answer(limited, 0)
        finally:
            await pool.close()

    line.say(said)
    error = asyncio.run(ask()).error
    assert str(error) == f"nothing came for {limit_s:g} s"
    assert option in error.hint

"""Many whole answers over kept-alive lines: what arrives, in pieces or not at all."""

import asyncio
import gzip
import json
import socket
import time

import pytest
from pydantic import SecretStr

from o3magic.client.pool import RequestPool
from o3magic.errors import BadOption, BrokenAnswer, NoConnection, ProviderDown, RequestRefused
from tests.client.conftest import OK, chunked

WHOLE = {
    "id": "resp_1",
    "model": "o3-mini",
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
}
BODY = json.dumps(WHOLE).encode()
JSON = b"content-type: application/json\r\n"
KEY = SecretStr("my-Own-gateway-key-0042")


def whole(body=BODY, headers=JSON):
    """The bytes of a whole answer."""
    return OK + headers + b"content-length: %d\r\n\r\n" % len(body) + body


def heard(*calls, slots=None):
    """What comes of calls, one after the other, each in its slot."""

    async def ask_all():
        wide = RequestPool()
        try:
            return [
                await wide.answer(each, (slots or [0] * len(calls))[n])
                for n, each in enumerate(calls)
            ]
        finally:
            await wide.close()

    return asyncio.run(ask_all())


def text(said):
    """The text of an answer that came."""
    assert said.error is None, said.error
    return "".join(getattr(event, "text", "") for event in said.events)


def broken(said, kind):
    """The error of one that did not; no part of the key is in it."""
    assert type(said.error) is kind, said.error
    shown = repr(said.error) + repr(vars(said.error)) + "".join(said.error.lines())
    assert "gateway-key" not in shown
    return said.error


PIECES = {
    "at once": [whole()],
    "byte for byte": [bytes([each]) for each in whole()],
    "chunked": [chunked(BODY[:10], BODY[10:], headers=JSON)],
    "packed": [whole(gzip.compress(BODY), JSON + b"content-encoding: gzip\r\n")],
    "after a 100": [b"HTTP/1.1 100 Continue\r\n\r\n" + whole()],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_a_whole_answer_in_any_pieces_is_the_answer_and_the_line_stays(line, call, pieces):
    for _ in range(3):
        line.say(*pieces)
    said = heard(*[call(line, stream=False, key=KEY)] * 3)
    assert [text(each) for each in said] == ["Hello"] * 3
    assert len(set(line.ports)) == 1
    assert f"Bearer {KEY.get_secret_value()}".encode() in line.requests[0]
    assert line.requests[0].count(b"host: 127.0.0.1:") == 1


def test_each_slot_has_a_line_of_its_own(line, call):
    for _ in range(4):
        line.say(whole())
    heard(*[call(line, stream=False)] * 4, slots=[0, 1, 0, 1])
    assert len(set(line.ports)) == 2
    assert line.ports[0] == line.ports[2]


@pytest.mark.parametrize("headers", [JSON, JSON + b"connection: close\r\n"])
def test_a_line_that_the_server_closed_is_opened_again(line, call, headers):
    line.say(whole(headers=headers), close=True)
    line.say(whole())

    async def ask_twice():
        wide = RequestPool()
        first = await wide.answer(call(line, stream=False), 0)
        async with asyncio.timeout(5):
            while wide._transports[0][1]._connections[0].is_usable:
                await asyncio.sleep(0.01)
        second = await wide.answer(call(line, stream=False), 0)
        await wide.close()
        return first, second

    assert [text(each) for each in asyncio.run(ask_twice())] == ["Hello", "Hello"]
    assert len(set(line.ports)) == 2


def test_what_comes_behind_an_answer_is_not_that_of_the_next_question(line, call):
    line.say(whole() + whole(BODY.replace(b"Hello", b"Wrong")))
    line.say(whole())
    said = heard(*[call(line, stream=False)] * 2)
    assert [text(each) for each in said] == ["Hello", "Hello"]
    assert len(set(line.ports)) == 2


def test_an_answer_without_a_length_ends_with_its_line(line, call):
    line.say(OK + JSON + b"\r\n" + BODY, close=True)
    assert text(heard(call(line, stream=False))[0]) == "Hello"


@pytest.mark.parametrize(
    "said", [whole()[:-9], chunked(BODY, headers=JSON, end=False)], ids=["length", "chunked"]
)
def test_an_answer_cut_in_the_middle_is_broken_and_may_be_asked_again(line, call, said):
    line.say(said, close=True)
    line.say(whole())
    first, second = heard(*[call(line, stream=False, key=KEY)] * 2)
    error = broken(first, BrokenAnswer)
    assert "the connection was closed in the middle" in str(error)
    assert error.should_retry
    assert text(second) == "Hello"


def test_a_line_closed_without_a_word_may_have_been_billed(line, call):
    line.say(close=True)
    error = broken(heard(call(line, stream=False))[0], NoConnection)
    assert error.billed is not False


def test_nobody_there_is_said_and_nothing_was_billed(call):
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    error = broken(heard(call(f"http://127.0.0.1:{free}/v1", stream=False))[0], NoConnection)
    assert error.billed is False


def test_what_is_no_http_is_said(line, call):
    line.say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", close=True)
    broken(heard(call(line, stream=False))[0], NoConnection)


def test_silence_ends_an_answer(line, call):
    line.say()  # not one byte
    limits = {"first_token_timeout_s": 0.3, "chunk_timeout_s": 0.3}
    began_s = time.monotonic()
    error = broken(heard(call(line, stream=False, **limits))[0], BrokenAnswer)
    assert 0.25 < time.monotonic() - began_s < 5
    assert "nothing came for 0.3 s" in str(error)


def test_a_refusal_is_the_error_that_it_always_is(line, call):
    said = b'{"error":{"message":"bad key: my-Own-gateway-key-0042","code":"bad_words"}}'
    head = b"HTTP/1.1 %d X\r\nretry-after: 7\r\ncontent-length: %d\r\n\r\n"
    line.say(head % (400, len(said)) + said)
    line.say(head % (503, 4) + b"busy")
    line.say(whole())
    refused, down, well = heard(*[call(line, stream=False, key=KEY)] * 3)
    assert "[key]" in str(broken(refused, RequestRefused))
    assert broken(down, ProviderDown).retry_after_s == 7
    assert down.headers["retry-after"] == "7"
    assert text(well) == "Hello"
    assert len(set(line.ports)) == 1


def test_a_stream_that_nobody_asked_for_is_read_as_one(line, call):
    delta = b'data: {"type":"response.output_text.delta","delta":"Hello"}\n\n'
    ended = json.dumps({"type": "response.completed", "response": WHOLE | {"output": []}})
    line.say(chunked(delta, b"data: " + ended.encode() + b"\n\n"))
    assert text(heard(call(line, stream=False))[0]) == "Hello"


def test_an_answer_larger_than_allowed_is_left_there(line, call):
    line.say(OK + JSON + b"content-length: 1000000\r\n\r\n" + b"x" * 500_000)
    line.say(whole())
    first, second = heard(*[call(line, stream=False, max_answer_bytes=1000)] * 2)
    assert "larger than 1,000 bytes" in str(broken(first, BrokenAnswer))
    assert text(second) == "Hello"


def test_one_that_is_cancelled_closes_its_line(line, call):
    line.say()

    async def leave():
        wide = RequestPool()
        asking = asyncio.create_task(wide.answer(call(line, stream=False), 0))
        while not line.requests:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert not wide._transports[0][1]._connections[0].is_usable
        gone = await asyncio.to_thread(line.gone.wait, 5)
        await wide.close()
        return gone

    assert asyncio.run(leave())


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/v1", "127.0.0.1:8000/v1", "http://"])
def test_an_address_that_is_none_is_refused(call, address):
    with pytest.raises(BadOption, match="is no address"):
        heard(call(address, stream=False))

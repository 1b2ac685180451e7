"""Answers of any size: memory grows with the text and no faster, and has an end."""

import gzip
import json
import tracemalloc
import zlib

import pytest

from o3magic.errors import BrokenAnswer
from o3magic.simulator import Reply
from tests.client.conftest import OK, chunked
from tests.sessions import chunk, entries, frames, response, response_stream, session_at

TEN_MB = 10_000_000
CONSTANT = 2_000_000  # modules loaded on the way, buffers of sockets, the ledger
BOTH = pytest.mark.parametrize("api", ["responses", "chat"])
# As short as models send them, and no two alike: what is alike is kept once.
WORDS = [f" {n:x}" for n in range(99_000)] + [f" é☃{n}" for n in range(1_000)]


@pytest.fixture
def session(line):
    """A session that asks the line, warm: what is loaded once is loaded."""
    with session_at(line.base_url) as made:
        line.say(chunked(response_stream("four")))
        made.ask("four?")
        yield made


def peak_of(do):
    """What it gives, and the most bytes that Python held for it at once."""
    tracemalloc.start()
    try:
        return do(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def streamed(api, words):
    """The stream of these words, a piece of it for each of some hundred events."""
    if api == "chat":
        said = [chunk({"content": word}) for word in words] + [chunk({}, finish="stop"), "[DONE]"]
    else:
        said = [{"type": "response.output_text.delta", "delta": word} for word in words]
        said.append({"type": "response.completed", "response": response("", output=[])})
    for start in range(0, len(said), 300):
        yield frames(*said[start : start + 300])


@BOTH
def test_an_answer_of_ten_megabytes_needs_less_than_four_times_its_text(line, session, api):
    words = ["x" * 9_999 + "\n"] * (TEN_MB // 10_000)
    line.say(chunked(*streamed(api, words)))
    answer, peak = peak_of(lambda: session.ask("all of it", api=api))
    assert len(answer.text) == TEN_MB
    assert peak < 4 * TEN_MB + CONSTANT


@BOTH
def test_a_document_of_ten_megabytes_needs_less_than_four_times_its_text(line, session, api):
    text = "x" * TEN_MB
    whole = response(text)
    if api == "chat":
        whole = {"id": "c", "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    body = json.dumps(whole).encode()
    head = OK + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    line.say(head, body)
    answer, peak = peak_of(lambda: session.ask("all of it", api=api, stream=False))
    assert len(answer.text) == TEN_MB
    assert peak < 4 * TEN_MB + CONSTANT


@BOTH
def test_a_hundred_thousand_pieces_need_less_than_four_times_their_text(line, session, api):
    text_bytes = len("".join(WORDS).encode())
    assert len(WORDS) == 100_000
    line.say(chunked(*streamed(api, WORDS)))
    answer, peak = peak_of(lambda: session.ask("all of it", api=api))
    assert answer.text == "".join(WORDS)
    assert peak < 4 * text_bytes + CONSTANT


@BOTH
def test_an_answer_over_the_limit_ends_and_what_had_arrived_is_kept(line, session, api):
    line.say(chunked(*streamed(api, ["0123456789"] * 10_000)))
    with pytest.raises(BrokenAnswer, match="larger than 50,000 bytes") as caught:
        session.ask("all of it", api=api, max_answer_bytes=50_000, retries=5)
    assert "--max-answer-bytes" in caught.value.hint
    answer = caught.value.answer
    assert answer.text.startswith("0123456789" * 100)
    assert (answer.finish_reason, answer.cost_usd) == ("error", None)
    assert entries(session)[-1].error == "BrokenAnswer"
    assert len(line.requests) == 2  # the warm one and this


def test_a_document_over_the_limit_ends_too(line, session):
    body = json.dumps(response("x" * 100_000)).encode()
    line.say(OK + b"content-type: application/json\r\n\r\n" + body, close=True)
    with pytest.raises(BrokenAnswer, match="larger than"):
        session.ask("all of it", max_answer_bytes=50_000)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/json"])
def test_a_small_body_that_unpacks_to_a_large_one_is_bounded(line, session, pack, kind):
    bomb = pack(bytes(100_000_000))
    assert len(bomb) < 200_000
    headers = b"content-type: " + kind + b"\r\ncontent-encoding: "
    headers += b"gzip\r\n" if pack is gzip.compress else b"deflate\r\n"
    line.say(chunked(bomb, headers=headers))
    limit = 5_000_000

    def ask():
        with pytest.raises(BrokenAnswer, match="larger than 5,000,000 bytes"):
            session.ask("all of it", max_answer_bytes=limit)

    _, peak = peak_of(ask)
    assert peak < 4 * limit + CONSTANT


def test_a_bomb_of_a_refusal_is_bounded_too(line, session):
    bomb = gzip.compress(bytes(100_000_000))
    head = b"HTTP/1.1 429 No\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    line.say(head + bomb)

    def ask():
        with pytest.raises(Exception, match="429"):
            session.ask("all of it", retries=0)

    _, peak = peak_of(ask)
    assert peak < 4_000_000 + CONSTANT


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "compress"])
def test_a_compression_nobody_asked_for_is_refused(sim, coding):
    sim.script(Reply(body=response_stream("four"), headers={"content-encoding": coding}))
    nobody = pytest.raises(BrokenAnswer, match="which was not requested")
    with session_at(sim.base_url) as session, nobody:
        session.ask("four?", retries=5)
    assert sim.requests[0].headers["accept-encoding"] == "gzip"
    assert len(sim.requests) == 1


@pytest.mark.parametrize("many", [b"x-a: %b\r\n" % (b"y" * 200_000), b"x-a: b\r\n" * 50_000])
def test_headers_without_an_end_are_bounded(line, session, many):
    line.say(OK + many * 5 + b"\r\n", close=True)

    def ask():
        with pytest.raises(Exception, match="answer"):
            session.ask("four?", retries=0)

    _, peak = peak_of(ask)
    assert peak < 4_000_000 + CONSTANT


def test_an_event_without_an_end_is_bounded(line, session):
    line.say(chunked(b"data: ", *[b"x" * 65_536] * 160, end=False))

    def ask():
        with pytest.raises(BrokenAnswer, match="larger than 5,000,000 bytes"):
            session.ask("four?", max_answer_bytes=5_000_000)

    _, peak = peak_of(ask)
    assert peak < 4 * 5_000_000 + CONSTANT

"""Server-sent events, however the network cut them."""

import itertools
import random
import re
import time

import pytest

from o3magic.wire.sse import Decoder

STREAMS = [
    "chat_stream_moderation.sse",
    "o3mini_responses_stream.sse",
    "responses_function_call_stream.sse",
]
HARD = (
    b"\xef\xbb\xbfdata: one\n\n: comment\n\n\n\nevent: x\r\ndata: two\r\n\r\n"
    b"data: three\rdata:  and more\r\rid: 7\ndata\ndata: four\n\ndata:five \xe2\x80\xa8\xc2\x85\n\n"
    b'\r\n\ndata: {"a": "\xf0\x9f\xa6\x8a"}\n\nretry: 3\n\ndata: last'
)
HARD_DATA = [
    b"one",
    b"two",
    b"three\n and more",
    b"\nfour",
    b"five \xe2\x80\xa8\xc2\x85",
    b'{"a": "\xf0\x9f\xa6\x8a"}',
    b"last",
]


def decoded(*chunks):
    decoder = Decoder()
    found = [data for chunk in chunks for data in decoder.feed(chunk)]
    return found + decoder.close()


def expected(stream):
    """The data of a well-formed stream by the specification's words, line by line."""
    found, data = [], []
    for line in re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf")):
        if not line:
            found += filter(None, [b"\n".join(data)])
            data = []
        name, _, value = line.partition(b":")
        if name == b"data" and line:
            data.append(value.removeprefix(b" "))
    return [*found, *filter(None, [b"\n".join(data)])]


def test_a_stream_of_everything_gives_its_data():
    assert decoded(HARD) == expected(HARD) == HARD_DATA


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_gives_the_data_of_its_lines(recorded, name):
    stream = recorded(name)
    lines = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ")]
    assert decoded(stream) == expected(stream) == lines
    assert len(lines) > 5


def test_a_stream_cut_anywhere_is_the_same_stream():
    for cut in range(len(HARD) + 1):
        assert decoded(HARD[:cut], HARD[cut:]) == HARD_DATA, cut
        assert decoded(HARD[:cut], b"", HARD[cut:]) == HARD_DATA, cut


def test_a_stream_cut_anywhere_twice_is_the_same_stream():
    for one, two in itertools.combinations(range(len(HARD) + 1), 2):
        assert decoded(HARD[:one], HARD[one:two], HARD[two:]) == HARD_DATA, (one, two)


@pytest.mark.parametrize(
    "name", ["chat_stream_moderation.sse", "responses_function_call_stream.sse"]
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_recorded_stream_cut_at_any_byte_is_the_same_stream(recorded, name, line_end):
    stream = recorded(name).replace(b"\n", line_end)
    whole = decoded(stream)
    for cut in range(len(stream) + 1):
        assert decoded(stream[:cut], stream[cut:]) == whole, cut


def test_a_long_recorded_stream_cut_at_any_byte_is_the_same_stream(recorded):
    # Two events around each cut decide; what stands before them has been handed on already.
    stream = recorded("o3mini_responses_stream.sse")
    starts = [0, *(found.end() for found in re.finditer(rb"\n\n", stream))]
    for first, last in zip(starts, starts[2:], strict=False):
        window = stream[first:last]
        whole = decoded(window)
        assert len(whole) == 2
        for cut in range(0, len(window), 1 if first < 20_000 else 7):
            assert decoded(window[:cut], window[cut:]) == whole, (first, cut)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 300, 4096])
@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_in_pieces_of_any_size_is_the_same_stream(recorded, name, size):
    stream = recorded(name)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert decoded(*pieces) == decoded(stream)


def test_any_mix_of_lines_cut_anywhere_is_what_the_specification_says():
    draw = random.Random(7)
    parts = [
        b"data: a",
        b"data:",
        b"data",
        b"data:  b",
        b"event: e",
        b": c",
        b"",
        b"",
        b"id",
        b"datax",
    ]
    for _ in range(2000):
        lines = [draw.choice(parts) + draw.choice([b"\n", b"\r\n", b"\r"]) for _ in range(12)]
        stream = draw.choice([b"", b"\xef\xbb\xbf"]) + b"".join(lines)
        cuts = sorted(draw.randrange(len(stream) + 1) for _ in range(4))
        bounds = [0, *cuts, len(stream)]
        chunks = [stream[a:b] for a, b in itertools.pairwise(bounds)]
        assert decoded(*chunks) == expected(stream), chunks


@pytest.mark.parametrize("ends", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\r"])
def test_an_event_is_there_as_soon_as_its_last_byte_is(ends):
    decoder = Decoder()
    assert decoder.feed(b"data: a") == []
    assert decoder.feed(ends) == [b"a"]
    decoder = Decoder()
    found = [decoder.feed(bytes([byte])) for byte in b"data: a" + ends]
    assert [b"a"] in found
    assert decoder.feed(b"data: b\n\n") == [b"b"]


def test_a_line_end_of_two_bytes_may_be_cut_in_the_middle():
    assert decoded(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [b"a\nb"]
    assert decoded(b"data: a\r", b"", b"\ndata: b\r", b"\r") == [b"a\nb"]
    assert decoded(b"data: a\r", b"\rdata: b") == [b"a", b"b"]


def test_a_byte_order_mark_counts_only_at_the_beginning():
    mark = b"\xef\xbb\xbf"
    assert decoded(mark + b"data: a\n\n") == [b"a"]
    assert decoded(mark[:1], mark[1:2], mark[2:], b"data: a\n\n") == [b"a"]
    assert decoded(b"data: a\n\n" + mark + b"data: b\n\n") == [b"a"]
    assert decoded(mark + mark + b"data: a\n\n") == []
    assert decoded(b"\xef", b"\xbbdata: a\n\ndata: b\n\n") == [b"b"]
    assert decoded(mark[:2]) == decoded(mark) == decoded() == []


def test_comments_and_pings_are_signs_of_life_and_no_data():
    decoder = Decoder()
    assert decoder.feed(b": OPENROUTER PROCESSING\n\nevent: ping\n\ndata:\n\n") == []
    assert decoder.comments == 3
    assert decoder.feed(b"\n\n\n\n") == []
    assert decoder.comments == 3


def test_only_data_is_data():
    assert decoded(b"dataset: a\n\n Data: b\n\nDATA: c\n\ndata : d\n\ndata:e\n\n") == [b"e"]


def test_lines_of_data_are_joined_and_one_blank_before_each_is_left_out():
    assert decoded(b"data: a\ndata:b\ndata:  c\n\n") == [b"a\nb\n c"]
    assert decoded(b"event: m\ndata: a\ndata: b\n\n") == [b"a\nb"]
    assert decoded(b"data: a\nevent: m\nid: 1\n\n") == [b"a"]


def test_an_event_at_the_end_needs_no_blank_line():
    assert decoded(b"data: a\n\ndata: b") == [b"a", b"b"]
    assert decoded(b"data: a\n\ndata: b\n") == [b"a", b"b"]
    assert decoded(b"data: a\n\ndata: b\r") == [b"a", b"b"]


def test_after_the_end_there_is_nothing_left():
    decoder = Decoder()
    decoder.feed(b"data: a")
    assert decoder.close() == [b"a"]
    assert decoder.close() == []


@pytest.mark.parametrize(
    "character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1e"]
)
def test_a_line_ends_at_no_character_but_cr_and_lf(character):
    data = f'{{"delta": "a{character}b"}}'.encode()
    assert decoded(b"data: " + data + b"\n\n") == [data]


def seconds(chunks):
    decoder = Decoder()
    began = time.process_time()
    for chunk in chunks:
        decoder.feed(chunk)
    decoder.close()
    return time.process_time() - began


@pytest.mark.parametrize(
    "chunk",
    [
        b"a",
        b"\n",
        b"\r",
        b"\r\n",
        b"data: a\n",
        b"data: " + b"x" * 90,
        b": ping\n\n",
        b"\xef\xbb\xbf",
        b"event: ",
    ],
)
def test_time_grows_no_faster_than_the_stream(chunk):
    small, large = 4_000, 64_000
    base = min(seconds([chunk] * small) for _ in range(3))
    grown = min(seconds([chunk] * large) for _ in range(2))
    assert grown < 4 * (large / small) * base + 0.05


def test_one_event_of_ten_megabytes_in_small_pieces_takes_no_minute():
    piece = b"x" * 1400
    assert seconds([b"data: ", *([piece] * 7500), b"\n\n"]) < 2

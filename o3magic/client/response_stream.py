"""Read a response body: limit its size, decompress it, decode its events, watch the time."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

from o3magic.client.cancellation import OpenCall
from o3magic.errors import BrokenAnswer
from o3magic.events import Accepted, Event, KeepAlive, Started
from o3magic.wire import sse
from o3magic.wire.dialects import Dialect

MOST_DRAINED_CHUNKS = 64
MOST_DRAINED_S = 0.5
UNPACKED_BYTES = 1_048_576  # at once: a small chunk may decompress to a large one
ANY_HEADER = 47  # zlib: detect gzip or deflate by the header
NOT_CONTENT = (KeepAlive, Started, Accepted)


def stream_events(
    chunks: Iterator[bytes],
    dialect: Dialect,
    watch: OpenCall | None = None,
    chunk_timeout_s: float = 0.0,
) -> Iterator[Event]:
    """Yield the events of a stream, each as soon as its last byte has arrived.

    watch: the timeout of an open connection. From the first word on it is `chunk_timeout_s`. None
    where the whole body has arrived already. Raises BrokenAnswer.
    """
    reader, decoder = dialect.reader(), sse.Decoder()
    read, feed = reader.read, decoder.feed
    is_waiting = watch is not None
    for chunk in chunks:
        for data in feed(chunk):
            events = read(data)
            yield from events
            if is_waiting and not all(isinstance(event, NOT_CONTENT) for event in events):
                is_waiting = False
                if watch is not None:
                    watch.expect(chunk_timeout_s)
            if reader.done:
                if watch is not None:
                    drain(chunks, watch)
                yield from reader.close()
                return
        if decoder.comments:
            decoder.comments = 0
            yield KeepAlive()
    for data in decoder.close():
        with suppress(BrokenAnswer):  # half a frame: the error of `close` is more exact
            yield from read(data)
    yield from reader.close()


def drain(chunks: Iterator[bytes], watch: OpenCall) -> None:
    """Read to the end of the body, for a short time, so that the connection can be reused.

    The answer is complete: errors in the rest do not matter.
    """
    watch.expect(MOST_DRAINED_S)
    # Of whatever class: nothing is left that an error could break.
    with suppress(Exception):
        for _ in islice(chunks, MOST_DRAINED_CHUNKS):
            pass


def limit_bytes(chunks: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """Yield the chunks. Raises BrokenAnswer if they are more than `most_bytes` together."""
    left = most_bytes
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise BrokenAnswer(
                f"the answer is larger than {most_bytes:,} bytes; the rest was not read",
                hint="--max-answer-bytes takes more; what had arrived is kept in _",
            )
        yield chunk


def decompress(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Decompress chunks in pieces of bounded size. Raises BrokenAnswer for damaged ones."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        yield from chunks
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BrokenAnswer(
            f"the answer is compressed as {encoding[:20]!r}, which was not requested"
        )
    unpacker = zlib.decompressobj(ANY_HEADER)
    try:
        for chunk in chunks:
            packed = chunk
            while packed and not unpacker.eof:
                yield unpacker.decompress(packed, UNPACKED_BYTES)
                packed = unpacker.unconsumed_tail
            yield unpacker.decompress(b"", UNPACKED_BYTES) if not unpacker.eof else b""
    except zlib.error:
        raise BrokenAnswer("the answer broke off: its compression is damaged") from None
    if not unpacker.eof:
        raise BrokenAnswer("the answer broke off: its compression has no end")

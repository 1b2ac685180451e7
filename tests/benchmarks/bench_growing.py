"""A structured answer that is shown while it grows: CPU time by its length, however it is paced.

    python tests/benchmarks/bench_growing.py [rounds]

JSON in chunks of 16 characters, up to a million. Ours is the whole live view, a screen that writes
down every message as JSON included, without what finishes it. Beside it stand the parser that
begins anew at each chunk and at each tenth of a second, their screens included too. Paced means:
100,000 characters a second by a clock that is only counted up, so 10 views a second of an answer
of ten seconds. What is marked ~ is not measured but computed from a sixteenth of the length, as it
grows with the square. Last a real kernel: the same chunks through HTTP into a `%%o3` cell.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from answers import pieces, responses_stream
from kernels import real_kernel
from loopback import Stream, served
from side_by_side import in_turns, show

from o3magic.events import TextDelta
from o3magic.render.answer import Bundle
from o3magic.render.data_table import as_markdown
from o3magic.render.live import INTERVAL_S, LiveAnswer
from o3magic.wire.json_access import parse_partial_json

SIZES = (250_000, 500_000, 1_000_000)
SHARE = 16  # of a length that the slow way is measured at
CHUNK_CHARS = 16
CHARS_PER_S = 100_000

CELL = """import json, time
from pydantic import BaseModel
class Row(BaseModel):
    number: str
    item: str
    price: float
    parts: list[int]
_began_s = time.process_time()
get_ipython().run_cell_magic("o3", "-o rows --schema list[Row] --base-url {url}", "List them.")
_spent_s = time.process_time() - _began_s
with open({path!r}, "w") as _file:
    json.dump([_spent_s, len(rows.parsed)], _file)
"""


def rows(chars: int) -> str:
    """Objects that make the rows of a table."""
    found, size = [], 0
    for n in itertools.count():
        row = {"number": f"2026-{n}", "item": "coffee, *dark*", "price": n / 8, "parts": [n, 2]}
        size += len(json.dumps(row)) + 2
        if size > chars:
            break
        found.append(row)
    return json.dumps({"items": found})


def one_text(chars: int) -> str:
    """An object with one long text."""
    return json.dumps({"title": "A story", "text": "one word, another " * (chars // 18)})


def nested(chars: int) -> str:
    """An object with many fields, and lists and objects in them."""
    made = {f"field_{n}": {"a": [n] * 10, "b": {"c": "some words " * 3}} for n in range(200)}
    return json.dumps([made] * max(1, chars // len(json.dumps(made))))


SHAPES: dict[str, Callable[[int], str]] = {
    "rows": rows,
    "one long text": one_text,
    "nested": nested,
}


class Screen:
    """Writes down what it is shown, as a kernel does."""

    def __init__(self) -> None:
        self.messages = self.bytes = 0

    def show(self, bundle: Bundle, display_id: str) -> None:
        self.messages += 1
        self.bytes += len(json.dumps(bundle.data))

    update = show

    def clear(self) -> None:
        """Nothing to write down."""


class Reader:
    """Reads the beginning of JSON, and counts what that takes."""

    def __init__(self) -> None:
        self.times = self.chars = 0

    def __call__(self, text: str) -> Any:
        self.times += 1
        self.chars += len(text)
        return parse_partial_json(text)


class Clock:
    """A clock of its own: time goes on by `step_s` when told to."""

    def __init__(self, step_s: float) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        return self.now_s


def chunks(text: str) -> Iterator[str]:
    for at in range(0, len(text), CHUNK_CHARS):
        yield text[at : at + CHUNK_CHARS]


def ours(text: str, *, paced: bool) -> tuple[float, Reader, Screen]:
    """What the live view takes for a whole stream."""
    clock = Clock(CHUNK_CHARS / CHARS_PER_S)
    reader, screen = Reader(), Screen()
    ids = (str(n) for n in itertools.count()).__next__
    began_s = time.process_time()
    with LiveAnswer(
        screen,
        ids,
        model="m",
        schema="Row",
        partial=reader,
        clock=clock if paced else time.monotonic,
    ) as live:
        for chunk in chunks(text):
            live.add(TextDelta(chunk))
            clock.now_s += clock.step_s
    return time.process_time() - began_s, reader, screen


def anew(text: str, each_chars: int) -> tuple[float, Reader, Screen]:
    """The same with all the text read whenever so much has come."""
    reader, screen, said, due = Reader(), Screen(), "", 0
    began_s = time.process_time()
    for chunk in chunks(text):
        said += chunk
        if len(said) >= due:
            due = len(said) + each_chars
            data = reader(said)
            screen.show(Bundle({"text/markdown": as_markdown(data, "Row")}, {}), "")
    return time.process_time() - began_s, reader, screen


WAYS: dict[str, Callable[[str], tuple[float, Reader, Screen]]] = {
    "ours, unpaced": partial(ours, paced=False),
    "ours, paced": partial(ours, paced=True),
    "anew at each 1/10 s, paced": partial(anew, each_chars=int(CHARS_PER_S * INTERVAL_S)),
}


def by_length(name: str, texts: dict[int, str], rounds: int) -> None:
    cases = {
        f"{way} {size}": lambda work=work, text=text: work(text)[0]
        for way, work in WAYS.items()
        for size, text in texts.items()
    }
    found = in_turns(cases, rounds)
    lines = []
    for way, work in WAYS.items():
        spent_s = [found[f"{way} {size}"] for size in SIZES]
        lines.append(line(way, spent_s, *work(texts[SIZES[-1]])[1:], len(texts[SIZES[-1]])))
    spent_s = [anew(text[: len(text) // SHARE], 1)[0] * SHARE**2 for text in texts.values()]
    lines.append(("anew at each chunk", *(f"~{s:.0f}" for s in spent_s), *ratios(spent_s), *"---"))
    head = (
        f"{name}: way",
        *(f"{size // 1000} KB: s" for size in SIZES),
        "250 -> 500",
        "500 -> 1000",
        "parsed",
        "x the text",
        "MB sent",
    )
    show(f"A structured answer while it grows, CPU time (median of {rounds})", head, lines)


def line(
    way: str, spent_s: list[float], reader: Reader, screen: Screen, chars: int
) -> tuple[str, ...]:
    times, read, sent = f"{reader.times:,}", f"{reader.chars / chars:.1f}", screen.bytes / 1e6
    return way, *(f"{s:.3f}" for s in spent_s), *ratios(spent_s), times, read, f"{sent:.2f}"


def ratios(spent_s: list[float]) -> list[str]:
    return [f"{b / a:.1f}" for a, b in itertools.pairwise(spent_s)]


def in_a_kernel() -> None:
    """CPU time of a kernel for a whole cell: HTTP, events, the live view, validation, the end."""
    texts = {size: rows(size) for size in SIZES}
    streams = {
        str(size): Stream(responses_stream(pieces(text, len(text) // CHUNK_CHARS)))
        for size, text in texts.items()
    }
    spent_s, lines = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        served(streams) as urls,
        real_kernel() as kernel,
    ):
        path = Path(folder, "spent.json")
        for size in (str(SIZES[0]), *map(str, SIZES)):  # the first is for warming up
            ran = kernel.run(CELL.format(url=urls[size], path=str(path)))
            spent_s.append(json.loads(path.read_text())[0])
    spent_s = spent_s[1:]
    sent = f"{ran.bytes / 1e6:.2f}"
    lines.append(("%%o3", *(f"{s:.2f}" for s in spent_s), *ratios(spent_s), sent))
    head = (
        "cell",
        *(f"{size // 1000} KB: s" for size in SIZES),
        "250 -> 500",
        "500 -> 1000",
        "MB sent",
    )
    show("The same rows in a kernel, CPU time of the whole cell", head, lines)


def main(rounds: int = 3) -> None:
    for name, made in SHAPES.items():
        by_length(name, {size: made(size) for size in SIZES}, rounds)
    in_a_kernel()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

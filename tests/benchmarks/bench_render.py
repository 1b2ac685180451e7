"""Making Markdown safe and cutting it into segments: speed, and how both grow with the text.

    python tests/benchmarks/bench_render.py [rounds]

Heavy Markdown, fed to the segments in pieces of 20 characters; then up to 10 MB of it, and of texts
that are one sign over and over, each measured once. Linear work takes as many times longer as the
text is longer; the last column says how many times longer each character takes at 10 MB.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from answers import heavy_markdown, pieces
from side_by_side import in_turns, seconds, show

from o3magic.render.markdown.sanitize import safe_markdown
from o3magic.render.markdown.segments import Segments

SIZES = (50_000, 200_000, 800_000)
BIG_SIZES = (1_000_000, 2_500_000, 5_000_000, 10_000_000)
PIECE_CHARS = 20


def safe_whole(text: str) -> None:
    """The answer as it is saved."""
    safe_markdown(text)


def safe_segments(text: str) -> None:
    """The answer as it streams: cut, and each segment made safe once."""
    segments = Segments()
    for piece in pieces(text, len(text) // PIECE_CHARS):
        segments.feed(piece)
    for part in segments.rendered():
        safe_markdown(part)


def only_segments(text: str) -> None:
    """The cutting alone."""
    segments = Segments()
    for piece in pieces(text, len(text) // PIECE_CHARS):
        segments.feed(piece)


def repeated(unit: str, head: str = "") -> Callable[[int], str]:
    """So many characters of one thing over and over, below a head."""
    return lambda chars: head + (unit * (chars // len(unit) + 1))[: chars - len(head)]


def ever_deeper(marker: str, deepest: int = 40) -> Callable[[int], str]:
    """Lines in one more quotation or list each, up to so many, over and over."""
    return repeated("".join(f"{marker * (1 + n)}x\n" for n in range(deepest)))


WORK = {
    "safe_markdown, whole": safe_whole,
    "Segments alone": only_segments,
    "Segments + safe_markdown": safe_segments,
}
TEXTS: dict[str, Callable[[int], str]] = {
    "mixed, as above": heavy_markdown,
    "words, one line": repeated("word "),
    "one word": repeated("abcdefghij"),
    "[": repeated("["),
    "[]": repeated("[]"),
    "![ x": repeated("![ x"),
    "](x": repeated("](x"),
    "[a](x": repeated("[a](x"),
    "[a](http://b)": repeated("[a](http://b) "),
    "http://": repeated("http://"),
    "*": repeated("*"),
    "`": repeated("`"),
    "` x": repeated("` x"),
    "$": repeated("$"),
    "$x": repeated("$x "),
    "$$, line end": repeated("$$\n"),
    "\\[, line end": repeated("\\[\n"),
    "\\": repeated("\\"),
    "<": repeated("<"),
    "|": repeated("|"),
    "| c | d |": repeated("| c | d |\n", "| a | b |\n|---|---|\n"),
    "& x": repeated("& x"),
    "> on one line": repeated("> "),
    "> ever deeper": ever_deeper("> "),
    "- on one line": repeated("- "),
    "- ever deeper": ever_deeper("  - "),
    "fence that never ends": repeated("x = 1\n", "```python\n"),
    "fences": repeated("```a\n"),
    "line ends": repeated("\n"),
    "escape sequences": repeated("\x1b]"),
}


def growth(rounds: int) -> None:
    texts = {size: heavy_markdown(size) for size in SIZES}
    cases = {
        f"{name} {size}": seconds(partial(work, text))
        for name, work in WORK.items()
        for size, text in texts.items()
    }
    found = in_turns(cases, rounds)
    rows = []
    for name in WORK:
        small, middle, big = (found[f"{name} {size}"] for size in SIZES)
        speeds = [
            f"{size / s / 1e6:.2f}" for size, s in zip(SIZES, (small, middle, big), strict=True)
        ]
        rows.append((name, *speeds, f"{middle / small:.1f}", f"{big / middle:.1f}"))
    head = (
        "work",
        *(f"{size // 1000} KB: MB/s" for size in SIZES),
        "50 -> 200 KB",
        "200 -> 800 KB",
    )
    show(f"Rendering (median of {rounds})", head, rows)


def cpu_s(text: str) -> float:
    """Seconds of the processor that one text takes."""
    began_s = time.process_time()
    safe_markdown(text)
    return time.process_time() - began_s


def big_texts() -> None:
    rows = []
    for name, made in TEXTS.items():
        found = [cpu_s(made(size)) for size in BIG_SIZES]
        speeds = [f"{size / s / 1e6:.2f}" for size, s in zip(BIG_SIZES, found, strict=True)]
        longer = found[-1] / found[0] / (BIG_SIZES[-1] / BIG_SIZES[0])
        rows.append((name, *speeds, f"{longer:.2f}"))
    head = ("text of", *(f"{size / 1e6:g} MB: MB/s" for size in BIG_SIZES), "x a character")
    show("safe_markdown, CPU time", head, rows)


def main(rounds: int = 5) -> None:
    growth(rounds)
    big_texts()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

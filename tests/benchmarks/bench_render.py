"""Making Markdown safe and cutting it into segments: speed, and how both grow with the text.

    python tests/benchmarks/bench_render.py [rounds]

Heavy Markdown, fed to the segments in pieces of 20 characters. Linear work takes 4.0 times as long
for four times the text.
"""

from __future__ import annotations

import sys
from functools import partial

from answers import heavy_markdown, pieces
from side_by_side import in_turns, seconds, show

from o3magic.render.safe_markdown import safe_markdown
from o3magic.render.segments import Segments

SIZES = (50_000, 200_000, 800_000)
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


WORK = {
    "safe_markdown, whole": safe_whole,
    "Segments alone": only_segments,
    "Segments + safe_markdown": safe_segments,
}


def main(rounds: int = 5) -> None:
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


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

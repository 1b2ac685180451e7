"""What replaying a notebook costs, and what recording one adds to its first token.

    python tests/benchmarks/bench_replay.py [cells] [calls]

Replay: `%%o3` cells from a cassette, shown in a real kernel, against cells that print the text.
First token: the same stream with and without a cassette being recorded, file ledger included.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from answers import heavy_markdown, pieces, responses_stream
from bench_first_token import BODY, ours_first_s
from kernels import real_kernel
from loopback import Stream, served
from side_by_side import in_turns, show

from o3magic.answer_builder import AnswerBuilder
from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.events import Finished, TextDelta, Usage
from o3magic.messages import Message
from o3magic.session.session import Session

RECORDED = datetime(2026, 11, 21, tzinfo=UTC)
ANSWER = heavy_markdown(1_500)


def cassette(path: Path, cells: int) -> None:
    """A cassette with an answer for each prompt."""
    tape = Cassette(path)
    end = Finished("stop", Usage(12, 0, 400, 320), model="o3-mini-2025-01-31")
    draft = AnswerBuilder()
    draft.add(TextDelta(ANSWER))
    draft.add(end)
    for n in range(cells):
        question = CanonicalRequest(
            "o3-mini", (Message.of("user", f"Say it, {n}."),), summary="none"
        )
        take = Recording.of(
            question, 1, draft.answer(), end, recorded=datetime(2026, 11, 21, tzinfo=UTC)
        )
        tape.keep(take)


def replay(cells: int) -> None:
    with tempfile.TemporaryDirectory() as name, real_kernel() as kernel:
        cassette(Path(name, "bench.o3.json"), cells)
        kernel.run(f"%o3_config mode=replay replay_speed=0 notebook={name}/bench.ipynb")
        turns = itertools.cycle(range(cells))
        printed = f"print({ANSWER!r})"

        def replayed() -> float:
            return sum(kernel.run(f"%%o3\nSay it, {next(turns)}.").wall_s for _ in range(cells))

        def plain() -> float:
            return sum(kernel.run(printed).wall_s for _ in range(cells))

        found = in_turns({"cells that print it": plain, "%%o3, replayed": replayed}, 3)
    rows = [
        (
            case,
            f"{s / cells * 1e3:.2f}",
            f"{cells / s:,.0f}",
            f"{s / found['cells that print it']:.2f}",
        )
        for case, s in found.items()
    ]
    show(f"{cells} cells of 1.5 KB in one kernel", ("cell", "ms", "cells/s", "x print"), rows)


def record(calls: int) -> None:
    stream = Stream(responses_stream(pieces(heavy_markdown(100), 20)))
    with tempfile.TemporaryDirectory() as folder, served({"short": stream}) as urls:
        url = urls["short"]
        said = {
            "OPENAI_API_KEY": "sk-none",
            "OPENAI_BASE_URL": url,
            "O3MAGIC_LEDGER": str(Path(folder, "ledger.sqlite3")),
            "O3MAGIC_CONFIG": str(Path(folder, "none.toml")),
        }
        sessions = {
            "live": Session.start(said, Path(folder)),
            "recorded": Session.start(said | {"O3MAGIC_MODE": "record"}, Path(folder)),
        }
        for name, session in sessions.items():
            session.notebook = str(Path(folder, f"{name}.ipynb"))
        found = in_turns(
            {name: partial(first_s, session, url) for name, session in sessions.items()}, calls
        )
        for session in sessions.values():
            session.close()
    rows = [
        (name, f"{s * 1e3:.2f}", f"{(s - found['live']) * 1e3:+.2f}") for name, s in found.items()
    ]
    show(f"First token (median of {calls} calls each)", ("mode", "ms", "more ms"), rows)


def first_s(session: Session, url: str) -> float:
    """Seconds to the first words, as the first question of a cell."""
    session.begin_cell(BODY["model"])
    return ours_first_s(session, url)


def main(cells: int = 200, calls: int = 60) -> None:
    replay(cells)
    record(calls)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""What we add to a stream: time to the first token, and the whole of 10,000 chunks in a cell.

    python tests/benchmarks/bench_first_token.py [calls] [rounds]

The server has a process of its own. First token: `Session.stream`, books in a file included,
against a bare `httpx` stream that stops its clock at the first chunk with text; each over its own
kept-alive connection. Whole: a `%%o3` cell against a cell that counts bytes, in the same kernel,
from the request to execute until the kernel is idle. The simulator makes each event as it sends it,
as any server does; the server whose bytes are ready leaves a reader no pause to work in.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import httpx
from answers import heavy_markdown, pieces, responses_stream
from kernels import Kernel, real_kernel
from loopback import Stream, served, simulated
from side_by_side import in_turns, show

from o3magic.events import TextDelta
from o3magic.session.session import Session

CHUNKS = 10_000
TOKENS, WORDS = 5 * CHUNKS, 20 * CHUNKS  # characters of an answer
BODY = {"model": "o3-mini", "input": "Say it.", "stream": True}
BARE = """import httpx
if "_http" not in globals():
    _http = httpx.Client()
_n = 0
with _http.stream("POST", "{url}/responses", json={body}) as _response:
    for _chunk in _response.iter_bytes():
        _n += len(_chunk)
"""
OURS = "%%o3 -m o3-mini --base-url {url}\nSay it."
QUIET = "%%o3 -q -m o3-mini --base-url {url}\nSay it."


def ours_first_s(session: Session, url: str) -> float:
    """Seconds to the first words through everything but the display."""
    began_s, first_s = time.perf_counter(), 0.0
    for event in session.stream(BODY["input"], base_url=url):
        if not first_s and type(event) is TextDelta:
            first_s = time.perf_counter() - began_s
    return first_s


def bare_first_s(http: httpx.Client, url: str) -> float:
    """Seconds to the first chunk with words."""
    began_s, first_s = time.perf_counter(), 0.0
    with http.stream("POST", f"{url}/responses", json=BODY) as response:
        for chunk in response.iter_raw():
            if not first_s and b"output_text.delta" in chunk:
                first_s = time.perf_counter() - began_s
    return first_s


def first_token(url: str, calls: int) -> None:
    with tempfile.TemporaryDirectory() as folder, httpx.Client() as http:
        session = Session.start(
            {
                "OPENAI_API_KEY": "sk-none",
                "OPENAI_BASE_URL": url,
                "O3MAGIC_LEDGER": str(Path(folder, "ledger.sqlite3")),
                "O3MAGIC_CONFIG": str(Path(folder, "none.toml")),
            },
            Path(folder),
        )
        bare, ours = "httpx, bare", "Session.stream, file ledger"
        cases = {
            bare: partial(bare_first_s, http, url),
            ours: partial(ours_first_s, session, url),
        }
        found = in_turns(cases, calls)
        session.close()
    rows = [
        (name, f"{s * 1e3:.2f}", f"{(s - found[bare]) * 1e3:+.2f}", f"{s / found[bare]:.2f}")
        for name, s in found.items()
    ]
    title = f"First token over loopback (median of {calls} calls each)"
    show(title, ("client", "ms", "behind ms", "x bare"), rows)


def whole(kernel: Kernel, urls: Mapping[str, str], rounds: int) -> None:
    rows = []
    for name, url in urls.items():
        cells = {
            "httpx, bare": BARE.format(url=url, body=BODY),
            "%%o3 -q, not shown": QUIET.format(url=url),
            "%%o3, shown": OURS.format(url=url),
        }
        cases = {case: lambda cell=cell: kernel.run(cell).wall_s for case, cell in cells.items()}
        found = in_turns(cases, rounds)
        for case, s in found.items():
            each_us, ratio = s / CHUNKS * 1e6, s / found["httpx, bare"]
            rows.append((f"{name}: {case}", f"{s:.3f}", f"{each_us:.1f}", f"{ratio:.2f}"))
    title = f"{CHUNKS:,} chunks in a kernel, as fast as they come (median of {rounds})"
    show(title, ("server, characters: cell", "wall s", "us/chunk", "x bare"), rows)


def main(calls: int = 200, rounds: int = 9) -> None:
    texts = {chars: heavy_markdown(chars) for chars in (TOKENS, WORDS)}
    streams = {
        f"bytes ready, {chars:,}": Stream(responses_stream(pieces(text, CHUNKS)))
        for chars, text in texts.items()
    }
    streams["short"] = Stream(responses_stream(pieces(heavy_markdown(100), 20)))
    simulator = simulated(texts[TOKENS], 3 * (rounds + 1))
    with served(streams) as urls, simulator as simulator_url, real_kernel() as kernel:
        first_token(urls.pop("short"), calls)
        whole(kernel, {f"simulator, {TOKENS:,}": simulator_url, **urls}, rounds)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""What a large batch costs here: its file written, its output matched, and the memory of both.

    python tests/benchmarks/bench_batch.py [rows]

The server is a process of its own; its answers are made before the clock runs. Each half runs in
a process of its own too, so that its peak of memory is its own. Memory is what is added to the
process as it stands before, the rows included where they are given as a list.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import threading
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from pydantic import BaseModel

from o3magic.config import Config
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.download import Downloader
from o3magic.rows.batch.registry import find_batch
from o3magic.rows.batch.submit import submit
from o3magic.rows.store import JobStore
from o3magic.session.session import Session
from o3magic.simulator import BatchScript, Simulator

USAGE = {"input_tokens": 40, "output_tokens": 30, "total_tokens": 70}
USAGE |= {"output_tokens_details": {"reasoning_tokens": 10}}
PROMPT = "Where is {{ city }}, of which {{ people }} people say it is {{ said }}?"


class City(BaseModel):
    country: str
    people: int
    sights: list[str]


def answer(body: dict) -> dict:
    """An answer of the Responses API, of the size they have."""
    said = {"country": "Norway", "people": 5, "sights": ["harbour", "opera", "museum"]}
    part = {"type": "output_text", "text": json.dumps(said), "annotations": [], "logprobs": []}
    thought = {"type": "reasoning", "id": "rs_" + "0" * 40, "summary": []}
    message = {"type": "message", "id": "msg_" + "0" * 40, "status": "completed"}
    message |= {"role": "assistant", "content": [part]}
    about = {"object": "response", "created_at": 1, "temperature": 1.0, "text": body["text"]}
    whole = {"id": "resp_" + "0" * 40, "model": "o3-mini-2025-01-31", "status": "completed"}
    return whole | about | {"output": [thought, message], "usage": USAGE}


def serve(ready: Connection) -> None:
    with Simulator() as simulator:
        simulator.script_batches(BatchScript(answer=answer))
        ready.send(simulator.base_url)
        threading.Event().wait()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def room(base_url: str, folder: str) -> BatchContext:
    said = {"OPENAI_API_KEY": "sk-benchmark", "OPENAI_BASE_URL": base_url}
    said |= {"O3MAGIC_LEDGER": f"{folder}/ledger.sqlite3"}
    return BatchContext(Session(Config(), said), JobStore(Path(folder) / "jobs.sqlite3"))


def rows(count: int):
    for n in range(count):
        yield {"city": f"City number {n}", "people": n * 7, "said": "well worth a visit " * 5}


def send(base_url: str, folder: str, count: int, told: Connection) -> None:
    """Write, upload, create; and how long the upload took of it."""
    place = room(base_url, folder)
    before, began_s = peak_mb(), time.perf_counter()
    job = submit(place, rows(count), PROMPT, schema=City)
    told.send((time.perf_counter() - began_s, peak_mb() - before, job.id))


def fetch(base_url: str, folder: str, number: int, told: Connection) -> None:
    """Download, match, validate, keep, enter the cost; then the table."""
    place = room(base_url, folder)
    job = find_batch(place, number, {"City": City})
    sending = job._sending
    [part] = job._store.parts(number)
    while not (state := sending.files.batch(part.batch_id)).over:
        pass  # the simulator makes its answers here
    before, began_s = peak_mb(), time.perf_counter()
    fetching: Downloader = place.fetching(sending, job._wanted, state.created_s)
    fetching.fetch(part, state)
    fetched_s, fetched_mb = time.perf_counter() - began_s, peak_mb() - before
    began_s = time.perf_counter()
    table = job.results()
    assert table["error"].isna().all(), table["error"].dropna().head()
    [entry] = place.session.ledger.entries()
    assert entry.cost_nano_usd == len(table) * (40 * 550 + 30 * 2200)
    told.send((fetched_s, fetched_mb, time.perf_counter() - began_s, peak_mb() - before))


def apart(work, *given):
    """What a function says that runs in a process of its own."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(*given, theirs))
    process.start()
    try:
        return ours.recv()
    finally:
        process.join()


def main(count: int = 50_000) -> None:
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    base_url = ours.recv()
    try:
        with tempfile.TemporaryDirectory() as folder:
            sent_s, sent_mb, number = apart(send, base_url, folder, count)
            got_s, got_mb, table_s, table_mb = apart(fetch, base_url, folder, number)
    finally:
        server.terminate()
        server.join()
    print(f"\nA batch of {count:,} rows\n| | s | rows/s | peak MB added |\n|---|--:|--:|--:|")
    print(f"| written, uploaded, created | {sent_s:.1f} | {count / sent_s:,.0f} | {sent_mb:.0f} |")
    print(f"| downloaded, matched, kept | {got_s:.1f} | {count / got_s:,.0f} | {got_mb:.0f} |")
    print(f"| the table | {table_s:.1f} | {count / table_s:,.0f} | {table_mb:.0f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

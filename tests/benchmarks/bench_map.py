"""Many small structured rows against a server at 200 ms latency, beside the openai SDK.

`python -m tests.benchmarks.bench_map [rows]`: rows a second and CPU a row at 64 and 256 in flight,
the memory of 100,000 rows out of an iterator, and how soon a job of which 90,000 are done goes on.
Each case has a process of its own; the server has another.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from o3magic.rows.map_job import (
    MapOptions,
    build_request_template,
    compute_digest,
    map_rows,
    resolve_settings,
)
from o3magic.rows.records import ClaimRequest, RowOutcome
from o3magic.rows.row_template import RequestTemplate
from o3magic.rows.store import JobStore
from tests.benchmarks.row_peers import (
    HEAD,
    LATENCY_S,
    Found,
    Label,
    cells,
    check,
    measured,
    prompt_of,
    rows_of,
    sdk,
)
from tests.benchmarks.side_by_side import show
from tests.rows.loopback import COST_NANO_USD, Server, served
from tests.sessions import session_at

PROMPT = "Classify: {{ a }}"
MANY = 100_000
DONE = 90_000


def warm(session: Any) -> None:
    """Load what the first call loads, pandas with it."""
    map_rows(session, JobStore(":memory:"), [{"a": 1}], PROMPT, schema=Label)


def ours(base_url: str, rows: int, width: int) -> Found:
    """map_rows with its ledger and its file of jobs."""
    with (
        tempfile.TemporaryDirectory() as folder,
        session_at(base_url, O3MAGIC_LEDGER=f"{folder}/ledger.sqlite3") as session,
    ):
        warm(session)
        store, wish = JobStore(Path(folder) / "jobs.sqlite3"), MapOptions(concurrency=width)
        outs: list[Any] = []

        def work() -> int:
            out = map_rows(session, store, rows_of(rows), PROMPT, schema=Label, wish=wish)
            assert out.error.isna().all()
            outs.append(out)
            return len(out)

        found = measured(work)
        said = zip(outs[0].label, outs[0].score, strict=True)
        check([Label(label=label, score=score) for label, score in said], rows)
        return found


def much(base_url: str, rows: int, width: int) -> Found:
    """The memory of rows out of an iterator: at the server's full speed."""
    return ours(base_url, rows, width)


def resumed(base_url: str, rows: int, width: int) -> Found:
    """Seconds from the call to its first request, where most rows are done already."""
    with (
        tempfile.TemporaryDirectory() as folder,
        session_at(base_url, O3MAGIC_LEDGER=f"{folder}/ledger.sqlite3") as session,
    ):
        warm(session)
        store, wish = JobStore(Path(folder) / "jobs.sqlite3"), MapOptions(concurrency=width)
        profile, wanted = resolve_settings(session, Label, None, {})
        form = build_request_template(session, profile, wanted)
        fill(store, form, compute_digest(form, PROMPT, wish, profile), rows)
        server = Server(int(base_url.split(":")[2].split("/")[0]))
        before, stop = server.stats["requests"], []

        class Watch:
            def update(self, progress: Any) -> None:
                if not stop and progress.flying:
                    stop.append(time.perf_counter())

        began_s = time.perf_counter()
        left = rows_of(rows)
        out = map_rows(session, store, left, PROMPT, schema=Label, wish=wish, show=Watch())
        assert server.stats["requests"] - before == rows - rows * DONE // MANY
        assert out.error.isna().all()
        return {"first_s": stop[0] - began_s, "wall_s": time.perf_counter() - began_s}


def fill(store: JobStore, form: RequestTemplate, digest: str, rows: int) -> None:
    """A job of which nine tenths are done."""
    job = store.begin("map", digest)
    answer = {"text": '{"label":"x","score":1}', "data": {"label": "x", "score": 1}}
    keys = [form.key(prompt_of(row)) for row in rows_of(rows * DONE // MANY)]
    store.claim(job.id, "before", [ClaimRequest(key, place) for place, key in enumerate(keys)])
    store.end(
        job.id,
        "before",
        [RowOutcome(k, "done", answer, source="live", cost_nano_usd=COST_NANO_USD) for k in keys],
    )


def alone(case: Callable[..., Found], *given: Any) -> Found:
    """A case in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=run, args=(queue, case, given))
    process.start()
    found: Found = queue.get()
    process.join()
    return found


def run(queue: Any, case: Callable[..., Found], given: tuple[Any, ...]) -> None:
    queue.put(case(*given))


def main(rows: int) -> None:
    table = []
    with served(latency_s=LATENCY_S) as server:
        for width in (64, 256):
            for name, case, count in (("o3.map", ours, rows), ("openai SDK", sdk, rows)):
                found = alone(case, server.base_url, count, width)
                table.append([f"{name}, {width} at once", *cells(found, width)])
        title = f"{rows:,} structured rows, {LATENCY_S * 1000:.0f} ms"
        show(title, ["client", *HEAD], table)
        server.begin(latency_s=0.0)
        found = alone(much, server.base_url, 10 * rows, 64)
        more = [[f"{10 * rows:,} rows out of an iterator", f"{found['mb']:,.0f} MB"]]
        found = alone(resumed, server.base_url, 10 * rows, 64)
        said = f"first request of a job of {10 * rows:,} with nine tenths done"
        more.append([said, f"{found['first_s']:.2f} s"])
        show("Size", ["case", ""], more)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)

"""`%o3_jobs`: jobs of `o3.map` and `o3.batch` listed, shown, gone on with, ended, forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from o3magic.errors import BadOption, NoKey, RequestFailed
from o3magic.money import show_usd
from o3magic.notebook.context import ShellContext
from o3magic.notebook.progress import rows_called, short, show_for
from o3magic.render import tables
from o3magic.render.answer import Bundle
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.recorded_job import RecordedBatch, taped_in
from o3magic.rows.batch.registry import AnyJob, one_job
from o3magic.rows.map_job import KIND as MAP
from o3magic.rows.map_job import MapJob, jobs_of
from o3magic.rows.progress import JobProgress
from o3magic.rows.records import Job
from o3magic.rows.sources import source_of

MOST_LISTED = 50
USE = "%o3_jobs, or %o3_jobs show|resume|cancel|delete JOB"
HEAD = ("job", "kind", "name", "state", "rows", "errors", "model", "spent", "since")
FORCE = "--force"
# Of what a job keeps of how it was asked, what tells a reader nothing.
UNSHOWN = ("answer", "tag", "endpoint", "options")


def run_jobs(bench: ShellContext, line: str) -> Any:
    """`%o3_jobs`: list, show, resume, cancel or delete; gives the table of a job that is shown.

    Raises BadOption, and what asking the provider raises.
    """
    with jobs_of(bench.session) as store:
        room = BatchContext(bench.session, store, show=lambda: show_for(bench.shell))
        word, *rest = line.split() or ["list"]
        if word == "list" and not rest:
            bench.front.show(listed(room))
            return None
        force, named = FORCE in rest, [each for each in rest if each != FORCE]
        if word not in ("show", "resume", "cancel", "delete") or not named:
            raise BadOption(f"%o3_jobs {line.strip()}: {word!r} is not known", hint=USE)
        if word == "delete":
            for each in named:
                bench.front.show(tables.line(deleted(one_job(room, each, {}), force=force)))
            return None
        job = one_job(room, named[0], bench.names)
        if word == "cancel":
            bench.front.show(tables.line(cancelled(job)))
            return None
        return shown(bench, job) if word == "show" else resumed(bench, job, named[1:])


def deleted(job: AnyJob, *, force: bool) -> str:
    """What is said of a job that is forgotten now. Raises BadOption for a batch that still runs."""
    if isinstance(job, MapJob):
        job.delete()
        return f"job {job.id} is forgotten; its cost is not"
    said = job.delete(force=force)
    kept = "the cassette keeps it" if isinstance(job, RecordedBatch) else "its cost is not"
    return f"job {job.id} is forgotten; {kept}" + (f"; {said}" if said else "")


def cancelled(job: AnyJob) -> str:
    """How a batch stands that is to end. Raises BadOption for a job that runs here."""
    if isinstance(job, MapJob):
        raise BadOption(
            f"job {job.id} runs in a kernel, not at the provider",
            hint="interrupt its cell; the same call goes on with it",
        )
    return f"job {job.id} {job.cancel().said}"


def shown(bench: ShellContext, job: AnyJob) -> Any:
    """Show how a job stands, and give its table. A provider that cannot be asked is told."""
    if isinstance(job, MapJob):
        bench.front.show(details(job.now, job.words()))
        return job.results(bench.names)
    note = ""
    try:
        said = job.status().said
    except (RequestFailed, NoKey) as error:
        said, note = repr(job), f"not asked: {error}"
    table = job.results(look=False)
    bench.front.show(details(job.now, said, note))
    return table


def details(now: Job, stands: str, note: str = "") -> Bundle:
    """One job: how it stands, and how it was asked."""
    said = [("job", f"{now.id} {now.name}".strip()), ("stands", stands), ("note", note)]
    said += [("said", now.said)] if now.kind == MAP else []
    spec = {name: value for name, value in now.spec.items() if name not in UNSHOWN}
    said += [(name, short(value)) for name, value in spec.items()]
    return tables.table(["", ""], [[name, v] for name, v in said if v not in ("", "False")])


def resumed(bench: ShellContext, job: AnyJob, rest: list[str]) -> Any:
    """Go on with a job and the rows of a name: the one said, or the one it began with."""
    if not isinstance(job, MapJob):
        raise BadOption(
            f"job {job.id} is a batch", hint=f"o3.job({job.id}).wait(), or .retry(rows)"
        )
    name = rest[0] if rest else str(job.now.spec.get("rows") or "")
    if not name:
        raise BadOption(f"job {job.id} does not know its rows", hint=f"%o3_jobs resume {job.id} df")
    rows = rows_called(name, bench.names)
    source_of(rows)
    return job.resume(rows, names=bench.names, show=show_for(bench.shell))


def listed(room: BatchContext) -> Bundle:
    """All jobs as a table, those from a cassette before all."""
    taped = taped_in(room.session)
    kept = [job for job in room.store.jobs() if job.digest not in taped]
    rows = [row(job.now, job.made_up) for job in reversed(taped.values())]
    for job in kept[:MOST_LISTED]:
        rows.append(row(job, {"simulated": room.store.simulated(job.id)}))
    if not rows:
        return tables.line("there are no jobs yet: %%o3 --map df, or o3.map(df, prompt)")
    return tables.table(HEAD, rows)


def row(job: Job, made_up: Mapping[str, int]) -> list[str]:
    """A job in the list. made_up: how many of its rows no model answered, by who did."""
    over = job.done_rows + job.invalid_rows
    counts = JobProgress(rows=over + job.failed_rows, made_up=made_up)
    return [
        str(job.id),
        job.kind,
        job.name,
        job.state,
        f"{over:,}" + (f" of {job.total:,}" if job.total else ""),
        f"{job.invalid_rows + job.failed_rows:,}",
        labelled(job.model, counts),
        show_usd(job.spent_nano_usd),
        f"{datetime.fromtimestamp(job.created_ms / 1000, UTC):%Y-%m-%d %H:%M}"
        if job.created_ms
        else "–",
    ]


def labelled(model: str, counts: JobProgress) -> str:
    """A model, and how many of the rows it did not answer: `o3-mini (SIMULATED)`."""
    said = ", ".join(each.partition(",")[0] for each in counts.labels())
    return f"{model} ({said})" if said else model

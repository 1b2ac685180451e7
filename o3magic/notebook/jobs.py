"""`%o3_jobs`: list, show, resume, cancel and delete the jobs of `o3.map` and `o3.batch`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from o3magic.errors import BadOption, NoKey, RequestFailed
from o3magic.money import show_usd
from o3magic.notebook.context import ShellContext
from o3magic.notebook.progress import create_progress_display, find_rows, format_cell
from o3magic.render import tables
from o3magic.render.answer import Bundle
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.recorded_job import RecordedBatch, get_recorded_jobs
from o3magic.rows.batch.registry import AnyJob, find_job
from o3magic.rows.map_job import KIND as MAP
from o3magic.rows.map_job import MapJob, use_job_store
from o3magic.rows.progress import JobProgress
from o3magic.rows.records import Job
from o3magic.rows.sources import read_source

MAX_LISTED = 50
USAGE = "%o3_jobs, or %o3_jobs show|resume|cancel|delete JOB"
HEAD = ("job", "kind", "name", "state", "rows", "errors", "model", "spent", "since")
FORCE = "--force"
INTERNAL = ("answer", "tag", "endpoint", "options")  # fields of a job's spec that are not shown


def run_command(context: ShellContext, line: str) -> Any:
    """Run a line of `%o3_jobs`; return the table of a job that is shown or resumed.

    Raises BadOption, and the errors of a request to the provider.
    """
    display = context.display
    with use_job_store(context.session) as store:
        batches = BatchContext(
            context.session, store, show=lambda: create_progress_display(context.shell)
        )
        command, *rest = line.split() or ["list"]
        if command == "list" and not rest:
            display.show(list_jobs(batches))
            return None
        force, words = FORCE in rest, [word for word in rest if word != FORCE]
        if command not in ("show", "resume", "cancel", "delete") or not words:
            raise BadOption(f"%o3_jobs {line.strip()}: {command!r} is not known", hint=USAGE)
        if command == "delete":
            for word in words:
                display.show(tables.line(delete(find_job(batches, word, {}), force=force)))
            return None
        job = find_job(batches, words[0], context.names)
        if command == "cancel":
            display.show(tables.line(cancel(job)))
            return None
        return show(context, job) if command == "show" else resume(context, job, words[1:])


def delete(job: AnyJob, *, force: bool) -> str:
    """Delete a job; return a message. Raises BadOption for a batch that still runs."""
    if isinstance(job, MapJob):
        job.delete()
        return f"job {job.id} is forgotten; its cost is not"
    note = job.delete(force=force)
    rest = "the cassette keeps it" if isinstance(job, RecordedBatch) else "its cost is not"
    return f"job {job.id} is forgotten; {rest}" + (f"; {note}" if note else "")


def cancel(job: AnyJob) -> str:
    """Cancel a batch; return its status. Raises BadOption for a job that runs in a kernel."""
    if isinstance(job, MapJob):
        raise BadOption(
            f"job {job.id} runs in a kernel, not at the provider",
            hint="interrupt its cell; the same call goes on with it",
        )
    return f"job {job.id} {job.cancel().said}"


def show(context: ShellContext, job: AnyJob) -> Any:
    """Show the details of a job, and return its table. A failed request for its status is noted."""
    if isinstance(job, MapJob):
        context.display.show(details(job.now, job.words()))
        return job.results(context.names)
    note = ""
    try:
        status = job.status().said
    except (RequestFailed, NoKey) as error:
        status, note = repr(job), f"not asked: {error}"
    table = job.results(look=False)
    context.display.show(details(job.now, status, note))
    return table


def details(job: Job, status: str, note: str = "") -> Bundle:
    """The status of a job and its request, as a table."""
    rows = [("job", f"{job.id} {job.name}".strip()), ("status", status), ("note", note)]
    rows += [("message", job.said)] if job.kind == MAP else []
    rows += [(name, format_cell(v)) for name, v in job.spec.items() if name not in INTERNAL]
    return tables.table(
        ["", ""], [[name, value] for name, value in rows if value not in ("", "False")]
    )


def resume(context: ShellContext, job: AnyJob, rest: list[str]) -> Any:
    """Continue a job with the rows of a name: the one on the line, or the one it began with."""
    if not isinstance(job, MapJob):
        raise BadOption(
            f"job {job.id} is a batch", hint=f"o3.job({job.id}).wait(), or .retry(rows)"
        )
    name = rest[0] if rest else str(job.now.spec.get("rows") or "")
    if not name:
        raise BadOption(f"job {job.id} does not know its rows", hint=f"%o3_jobs resume {job.id} df")
    rows = find_rows(name, context.names)
    read_source(rows)  # raises BadOption for a value that has no rows
    return job.resume(rows, names=context.names, show=create_progress_display(context.shell))


def list_jobs(batches: BatchContext) -> Bundle:
    """All jobs as a table, those of a cassette first."""
    recorded = get_recorded_jobs(batches.session)
    others = [job for job in batches.store.jobs() if job.digest not in recorded]
    rows = [format_job(job.now, job.made_up) for job in reversed(recorded.values())]
    for job in others[:MAX_LISTED]:
        rows.append(format_job(job, {"simulated": batches.store.simulated(job.id)}))
    if not rows:
        return tables.line("there are no jobs yet: %%o3 --map df, or o3.map(df, prompt)")
    return tables.table(HEAD, rows)


def format_job(job: Job, made_up: Mapping[str, int]) -> list[str]:
    """The row of a job. made_up: how many of its rows no model answered, by their source."""
    answered = job.done_rows + job.invalid_rows
    counts = JobProgress(rows=answered + job.failed_rows, made_up=made_up)
    labels = ", ".join(label.partition(",")[0] for label in counts.labels())
    return [
        str(job.id),
        job.kind,
        job.name,
        job.state,
        f"{answered:,}" + (f" of {job.total:,}" if job.total else ""),
        f"{job.invalid_rows + job.failed_rows:,}",
        f"{job.model} ({labels})" if labels else job.model,
        show_usd(job.spent_nano_usd),
        f"{datetime.fromtimestamp(job.created_ms / 1000, UTC):%Y-%m-%d %H:%M}"
        if job.created_ms
        else "–",
    ]

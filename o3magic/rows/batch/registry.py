"""`o3.jobs()` and `o3.job()`: the jobs of the job store, listed and opened again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from o3magic.errors import BadOption, NotASchema, UnknownSchema
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.job import BatchJob, get_sent_jobs
from o3magic.rows.batch.recorded_job import RecordedBatch, get_recorded_jobs
from o3magic.rows.batch.submit import KIND
from o3magic.rows.map_job import KIND as MAP_KIND
from o3magic.rows.map_job import MapJob, list_map_jobs, open_cassette, open_job_store
from o3magic.rows.progress import ProgressDisplay
from o3magic.rows.records import Job
from o3magic.schemas.lookup import AnswerType, resolve_answer_type
from o3magic.session.session import Session

AnyBatch = BatchJob | RecordedBatch
AnyJob = AnyBatch | MapJob


def build_context(
    session: Session, show: Callable[[], ProgressDisplay], *, close_after: bool
) -> BatchContext:
    """The context of a session's batch jobs. show: makes the display of a wait."""
    return BatchContext(session, open_job_store(session), close_after, show=show)


def list_jobs(context: BatchContext, names: Mapping[str, Any]) -> list[AnyJob]:
    """The jobs of `o3.map` and `o3.batch`, the newest first; those from a cassette precede."""
    jobs: list[BatchJob | MapJob] = [*list_batches(context, names)]
    jobs += list_map_jobs(context.session, context.store)
    jobs.sort(key=lambda job: job.id, reverse=True)
    recorded = get_recorded_jobs(context.session)
    # A job that was recorded on this machine is in its store too.
    return [*reversed(recorded.values()), *(job for job in jobs if job.digest not in recorded)]


def find_job(context: BatchContext, named: int | str, names: Mapping[str, Any]) -> AnyJob:
    """The job with a number or a name. Raises BadOption."""
    word = str(named).strip().removeprefix("#")
    for recorded in get_recorded_jobs(context.session).values():
        if word in (str(recorded.id), recorded.name):
            return recorded
    try:
        job = context.store.job(named)
    except BadOption as unknown:
        cassette = open_cassette(context.session, context.session.layers.profile())
        if cassette is not None and cassette.mode == "replay":
            unknown.hint = "a replay has the jobs that the notebook's own o3.batch(...) makes"
        raise
    if job.kind == MAP_KIND:
        return MapJob(context.session, context.store, job)
    return find_batch(context, named, names)


def list_batches(context: BatchContext, names: Mapping[str, Any]) -> list[BatchJob]:
    """All batch jobs, the newest first. names: for looking up the types of their answers."""
    with context.opened():
        return [build_batch(context, job, names) for job in context.store.jobs(KIND)]


def find_batch(context: BatchContext, named: int | str, names: Mapping[str, Any]) -> BatchJob:
    """The batch job with a number or a name. Raises BadOption."""
    with context.opened():
        job = context.store.job(named)
        if job.kind != KIND:
            raise BadOption(
                f"job {job.id} is not a batch", hint="the same o3.map(...) goes on with it"
            )
        return build_batch(context, job, names)


def build_batch(context: BatchContext, job: Job, names: Mapping[str, Any]) -> BatchJob:
    """A stored job: the object that sent it, which has its rows, or a new one."""
    sent = get_sent_jobs(context.session).get(job.id)
    if sent is not None and sent.digest == job.digest:
        return sent
    return BatchJob(context, job, find_answer_type(context.session, job.spec, names))


def find_answer_type(
    session: Session, spec: Mapping[str, Any], names: Mapping[str, Any]
) -> AnswerType | None:
    """The type of a job's answers, or None where it is missing or has another schema by now."""
    if not spec.get("schema"):
        return None
    try:
        wanted = resolve_answer_type(str(spec["schema"]), names, session.schemas)
    except (UnknownSchema, NotASchema):
        return None
    return wanted if wanted.schema == spec.get("answer") else None

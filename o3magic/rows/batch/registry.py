"""The batch jobs of a file: sent, listed and opened again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from o3magic.errors import BadOption, NotASchema, UnknownSchema
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.job import BatchJob, sent_here
from o3magic.rows.batch.recorded_job import RecordedBatch, taped_in
from o3magic.rows.batch.submit import KIND
from o3magic.rows.map_job import KIND as MAP
from o3magic.rows.map_job import MapJob, map_jobs, store_of, tape_of
from o3magic.rows.progress import ProgressDisplay
from o3magic.rows.records import Job
from o3magic.schemas.lookup import AnswerType, resolve
from o3magic.session.session import Session

AnyBatch = BatchJob | RecordedBatch
AnyJob = AnyBatch | MapJob


def room_of(
    session: Session, show: Callable[[], ProgressDisplay], *, close_after: bool
) -> BatchContext:
    """Where the jobs of a session are worked on. show: makes a place to show a wait."""
    return BatchContext(session, store_of(session), close_after, show=show)


def all_jobs(room: BatchContext, names: Mapping[str, Any]) -> list[AnyJob]:
    """The jobs of `o3.map` and `o3.batch`, the last one first, those from a cassette before all."""
    found: list[BatchJob | MapJob] = [*list_batches(room, names)]
    found += map_jobs(room.session, room.store)
    found.sort(key=lambda job: job.id, reverse=True)
    taped = taped_in(room.session)
    # What was recorded on this machine is in its file too: it is one job.
    return [*reversed(taped.values()), *(job for job in found if job.digest not in taped)]


def one_job(room: BatchContext, named: int | str, names: Mapping[str, Any]) -> AnyJob:
    """The job of a number or a name. Raises BadOption."""
    taped = find_recorded_batch(room.session, named)
    if taped is not None:
        return taped
    try:
        found = room.store.job(named)
    except BadOption as unknown:
        tape = tape_of(room.session, room.session.layers.profile())
        if tape is not None and tape.mode == "replay":
            unknown.hint = "a replay has the jobs that the notebook's own o3.batch(...) makes"
        raise
    if found.kind == MAP:
        return MapJob(room.session, room.store, found)
    return job_in(room, named, names)


def find_recorded_batch(session: Session, named: int | str) -> RecordedBatch | None:
    """The job of a number or a name that is on a cassette, or None."""
    word = str(named).strip().removeprefix("#")
    found = (job for job in taped_in(session).values() if word in (str(job.id), job.name))
    return next(found, None)


def list_batches(room: BatchContext, names: Mapping[str, Any]) -> list[BatchJob]:
    """All batch jobs, the last one first. names: where the types of their answers are looked up."""
    with room.opened():
        return [build_batch(room, job, names) for job in room.store.jobs(KIND)]


def job_in(room: BatchContext, named: int | str, names: Mapping[str, Any]) -> BatchJob:
    """The batch job of a number or a name. Raises BadOption."""
    with room.opened():
        job = room.store.job(named)
        if job.kind != KIND:
            raise BadOption(
                f"job {job.id} is no batch", hint="the same o3.map(...) goes on with it"
            )
        return build_batch(room, job, names)


def build_batch(room: BatchContext, job: Job, names: Mapping[str, Any]) -> BatchJob:
    """A job as it is kept, with the type of its answers where that is here and is the same.

    One that was sent from here is the job it was then: it has its rows.
    """
    here = sent_here(room.session).get(job.id)
    if here is not None and here.digest == job.digest:
        return here
    return BatchJob(room, job, find_answer_type(room.session, job.spec, names))


def find_answer_type(
    session: Session, spec: Mapping[str, Any], names: Mapping[str, Any]
) -> AnswerType | None:
    """The type that a job's answers have, or None where it is not here any more."""
    if not spec.get("schema"):
        return None
    try:
        found = resolve(str(spec["schema"]), names, session.schemas)
    except (UnknownSchema, NotASchema):
        return None
    return found if found.schema == spec.get("answer") else None

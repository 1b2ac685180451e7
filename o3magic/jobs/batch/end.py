"""A batch job that is to be forgotten while the provider still works on it, and is paid for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from o3magic.errors import BadOption, NoKey, RequestFailed
from o3magic.jobs.batch.schema import CREATED, CREATING
from o3magic.jobs.batch.send import Spec
from o3magic.jobs.batch.store import Part
from o3magic.jobs.batch.words import Status


class Endable(Protocol):
    """What a job can be asked here; `BatchJob` says what each means."""

    @property
    def id(self) -> int: ...
    @property
    def spec(self) -> Spec: ...
    def parts_in(self, *steps: str) -> Sequence[Part]: ...
    def adopt(self) -> None: ...
    def status(self) -> Status: ...
    def cancel(self) -> Status: ...


def ended(job: Endable, *, force: bool) -> str:
    """What is to be said of a job that may be forgotten now. Raises BadOption where it may not.

    force: it is cancelled at the provider, as far as that can be asked.
    """
    running = job.parts_in(CREATING, CREATED)
    if not running:
        return ""
    who, ids = job.spec.provider, ", ".join(part.batch_id for part in running if part.batch_id)
    try:
        job.adopt()
        if job.parts_in(CREATING):
            raise BadOption(
                f"another kernel is sending job {job.id} at this moment",
                hint="wait until it has, or stop it there",
            )
        job.status()
        if not job.parts_in(CREATED):
            return ""
        if not force:
            raise BadOption(
                f"job {job.id} still runs at {who}, where it would go on and be paid for",
                hint=f"%o3_jobs cancel {job.id} ends it; %o3_jobs delete {job.id} --force ends "
                "and forgets it",
            )
        job.cancel()
        if job.parts_in(CREATED):
            return f"{who} is cancelling it: what it answers until then is paid for"
        return f"it was cancelled at {who}"
    except (RequestFailed, NoKey) as error:
        where = f"its batch there is {ids}" if ids else "it may have been sent there"
        if not force:
            raise BadOption(
                f"job {job.id} may still run at {who}, which cannot be asked now: {error}",
                hint=f"again later; or cancel it on the provider's site ({where}), and then "
                f"%o3_jobs delete {job.id} --force",
            ) from None
        return f"{who} could not be asked ({error}): cancel it on its site, {where}"

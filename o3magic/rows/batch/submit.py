"""Rows become a job at the Batch API: written, held against the budgets, uploaded, created."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from o3magic.cassettes.scrub import scrubbed
from o3magic.cost.entries import Attempt
from o3magic.errors import Interrupted, NoKey, OverBudget
from o3magic.money import show_usd
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.job import BatchJob, sent_here
from o3magic.rows.batch.parts import (
    TIER,
    PartLimits,
    WrittenParts,
    check_call_budget,
    check_can_batch,
    check_tier,
    endpoint,
    without,
    write,
)
from o3magic.rows.batch.recorded_job import BatchInput, BatchRecorder, RecordedBatch, taped
from o3magic.rows.batch.store import BatchStore
from o3magic.rows.batch.upload import UploadSpec
from o3magic.rows.map_job import MapOptions, filling_of, folder_of, form_of, profile_of, tape_of
from o3magic.rows.migrations import PLANNED
from o3magic.rows.records import Job
from o3magic.rows.replay import RowReplay
from o3magic.rows.row_template import RequestTemplate
from o3magic.rows.sources import source_of
from o3magic.schemas.lookup import AnswerType
from o3magic.session.prompt_input import with_file
from o3magic.session.recorder import CassetteUse
from o3magic.session.session import Session
from o3magic.session.spending import LedgerContext, counted_budgets, unknown_price
from o3magic.settings import Settings

KIND = "batch"
OPTIONS = (
    *("model", "effort", "provider", "api", "developer", "max_output_tokens", "summary"),
    *("verbosity", "param"),
)
USUAL = PartLimits()


def submit(
    room: BatchContext,
    rows: Any,
    prompt: str,
    *,
    schema: Any = None,
    names: Mapping[str, Any] | None = None,
    limits: PartLimits = USUAL,
    **options: Any,
) -> BatchJob | RecordedBatch:
    """Send rows to the Batch API. The same call again gives the same job, paid for once.

    Rows that are on the cassette are not sent; where all of them are, the job is over at once.
    names: where a schema that is named is looked up. The other options are those of `o3.map`;
    how many rows are asked at once, and how fast, is the provider's affair here.
    Raises every error of `o3.ask` that needs no answer, and BadOption where there is no Batch.
    """
    wish, options = MapOptions.among(options)
    wish = wish.checked()
    session, source = room.session, source_of(rows)
    profile, wanted = profile_of(session, schema, names, options)
    check_tier(profile)
    folder_of_notebook = folder_of(session, profile)
    text = with_file(prompt, profile.file, folder_of_notebook) if profile.file else prompt
    tape, profile = tape_of(session, profile), replace(profile, file="", stream=False)
    form, nobody = form_on(session, profile, wanted, tape)
    replaying = None if tape is None else RowReplay(form, tape, TIER)
    if tape is None or tape.mode not in ("replay", "auto"):
        check_can_batch(form.plan)
    if form.plan.call.provider.embedded:
        room = replace(room, close_after=False)  # the batch would be gone with the simulator
    with room.opened(), tempfile.TemporaryDirectory(prefix="o3magic-") as folder:
        filling = filling_of(text, source, profile, folder_of_notebook)
        keep = wish.on_error == "keep"
        written = write(
            source, form, filling, Path(folder), limits, keep_going=keep, replaying=replaying
        )
        spec, given = spec_of(form, text, wish), BatchInput(wish.name, text, wanted, rows)
        if replaying is not None:
            replaying.entered(session.keeping, attempt_of(form, room.place))
            if not written.parts:
                return taped(room, spec, given, written, digest_of(spec, written, wish.name))
        if nobody is not None:
            raise nobody
        check_can_batch(form.plan)
        job = begin(room, spec, written, wish.name)
        taping = BatchRecorder(replaying, written.taped) if replaying is not None else None
        sent = BatchJob(room, job, wanted, rows, text, taping)
        sent_here(session)[job.id] = sent
        try:
            send(room, sent, form, written, limits, spec)
        except KeyboardInterrupt:
            raise Interrupted(
                "stopped before all rows were sent",
                hint="the same o3.batch(...) again goes on with it",
            ) from None
        return sent


def form_on(
    session: Session, profile: Settings, wanted: AnswerType | None, tape: CassetteUse | None
) -> tuple[RequestTemplate, NoKey | None]:
    """What all rows share, and why nobody can be asked: what is on the cassette needs nobody."""
    try:
        return form_of(session, profile, wanted), None
    except NoKey as nobody:
        if tape is None or tape.mode != "auto":
            raise
        return form_of(session, replace(profile, dry_run=True), wanted), nobody


def attempt_of(form: RequestTemplate, place: LedgerContext) -> Attempt:
    """What the ledger is told of a row that is replayed."""
    planned, call = form.plan, form.plan.call
    return place.attempt(
        call.provider.name,
        call.request.model,
        effort=planned.effort or "",
        tier=TIER,
        schema=planned.profile.schema,
        source="replayed",
        kind=KIND,
    )


def spec_of(form: RequestTemplate, prompt: str, wish: MapOptions) -> UploadSpec:
    """What is kept of a job. No key and no address: the provider's name stands for both."""
    planned, call = form.plan, form.plan.call
    chosen = {name: getattr(planned.profile, name) for name in OPTIONS}
    if not planned.choice.named:
        del chosen["model"]
    chosen = {name: scrubbed(v) if isinstance(v, str) else v for name, v in chosen.items()}
    return UploadSpec(
        tag=secrets.token_hex(8),
        template=scrubbed(prompt),
        provider=call.provider.name,
        model=call.request.model,
        api=call.api,
        endpoint=endpoint(call),
        effort=planned.effort or "",
        schema=planned.profile.schema,
        answer=planned.answer_type.schema if planned.answer_type else None,
        options={name: v for name, v in chosen.items() if v not in (None, "")},
        budget_nano_usd=wish.budget_nano_usd,
        flatten=wish.flatten,
        model_reason=planned.choice.reason,
    )


def digest_of(spec: UploadSpec, written: WrittenParts, name: str) -> str:
    """What makes two calls the same job: who is asked which rows, under which name."""
    said = "\n".join((KIND, spec.provider, spec.endpoint, name, written.digest))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def begin(room: BatchContext, spec: UploadSpec, written: WrittenParts, name: str) -> Job:
    """The job of these rows: the one that is there already, or a new one."""
    job = room.store.begin(
        KIND,
        digest_of(spec, written, name),
        name=name,
        spec=asdict(spec),
        notebook=room.session.notebook,
        provider=spec.provider,
        model=spec.model,
    )
    room.store.change(job.id, total=written.total)
    return job


def send(
    room: BatchContext,
    sent: BatchJob,
    form: RequestTemplate,
    written: WrittenParts,
    limits: PartLimits,
    spec: UploadSpec,
) -> None:
    """Send the rows that are neither answered nor on their way."""
    store = BatchStore(room.store)
    for part in store.parts(sent.id):
        # Written by a process that died, or that was stopped, before anything had left.
        if part.step == PLANNED and (part.owner.current() or part.owner.alive() is False):
            store.dropped(part)
    sent.go_on()
    if taken := store.taken(sent.id):
        written = without(written, taken, limits)
    if not any(written.parts):
        return
    hold = held(room, form, written, spec, sent)
    try:
        parts = store.plan(sent.id, written.parts, written.broken, written.copies)
        sent.send([*zip(parts, written.paths, strict=True)], hold)
    finally:
        if hold is not None:
            room.session.keeping.release(hold)


def held(
    room: BatchContext,
    form: RequestTemplate,
    written: WrittenParts,
    spec: UploadSpec,
    sent: BatchJob,
) -> int | None:
    """Hold the most that the rows can cost. Raises OverBudget where a budget lacks it."""
    budgets = counted_budgets(form.plan)
    limit, most = spec.budget_nano_usd, written.worst_nano_usd
    if form.free or not (budgets or limit is not None):
        return None
    if not most:
        raise unknown_price(form.plan)
    check_call_budget(written.dearest_nano_usd, budgets)
    if limit is not None:
        job = room.store.job(sent.id)
        left = max(0, limit - job.spent_nano_usd - job.held_nano_usd)
        if most > left:
            raise OverBudget(
                f"not sent: the rows may cost up to {show_usd(most)}, and {show_usd(left)} of the "
                f"job's budget is left",
                hint="lower max_output_tokens or effort, or raise budget",
                left_nano_usd=left,
                scope="job",
            )
    shared = [each for each in budgets if each.scope != "call"]
    if not shared:
        return None
    return room.session.keeping.hold(most, shared, room.session.id, room.session.notebook)

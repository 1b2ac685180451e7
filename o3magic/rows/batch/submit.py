"""`o3.batch`: rows written to files, their cost reserved, uploaded, and their batches created."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from o3magic.cassettes.scrub import scrub_text
from o3magic.errors import Interrupted, NoKey, OverBudget
from o3magic.money import show_usd
from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.job import BatchJob, get_sent_jobs
from o3magic.rows.batch.parts import (
    TIER,
    PartLimits,
    WrittenParts,
    check_call_budget,
    check_can_batch,
    check_tier,
    choose_endpoint,
    remove_rows,
    write_parts,
)
from o3magic.rows.batch.recorded_job import (
    BatchInput,
    BatchRecorder,
    RecordedBatch,
    build_recorded_batch,
)
from o3magic.rows.batch.store import BatchStore
from o3magic.rows.batch.upload import UploadSpec
from o3magic.rows.map_job import (
    MapOptions,
    build_prompt_template,
    build_request_template,
    notebook_folder,
    open_cassette,
    resolve_settings,
)
from o3magic.rows.migrations import PLANNED
from o3magic.rows.replay import RowReplay
from o3magic.rows.row_template import RequestTemplate
from o3magic.rows.sources import read_source
from o3magic.schemas.lookup import AnswerType
from o3magic.session.prompt_input import load_prompt_file
from o3magic.session.recorder import CassetteUse
from o3magic.session.session import Session
from o3magic.session.spending import find_budgets, unknown_price_error
from o3magic.settings import Settings

KIND = "batch"
OPTIONS = (
    *("model", "effort", "provider", "api", "developer", "max_output_tokens", "summary"),
    *("verbosity", "param"),
)
DEFAULT_LIMITS = PartLimits()


def submit(
    context: BatchContext,
    rows: Any,
    prompt: str,
    *,
    schema: Any = None,
    names: Mapping[str, Any] | None = None,
    limits: PartLimits = DEFAULT_LIMITS,
    **options: Any,
) -> BatchJob | RecordedBatch:
    """Send rows to the Batch API. The same call again gives the same job, which is paid for once.

    Rows that are on the cassette are not sent; where all of them are, the job is over at once.
    names: for looking up a schema by its name. The other options are those of `o3.map`; those for
    concurrency and rate have no effect. Raises every error of `o3.ask` that needs no answer, and
    BadOption where there is no Batch API.
    """
    map_options, options = MapOptions.among(options)
    map_options = map_options.checked()
    session, source = context.session, read_source(rows)
    profile, wanted = resolve_settings(session, schema, names, options)
    check_tier(profile)
    home = notebook_folder(session, profile)
    text = load_prompt_file(prompt, profile.file, home) if profile.file else prompt
    cassette, profile = open_cassette(session, profile), replace(profile, file="", stream=False)
    form, no_key = build_form(session, profile, wanted, cassette)
    replay = None if cassette is None else RowReplay(form, cassette, TIER)
    if cassette is None or cassette.mode not in ("replay", "auto"):
        check_can_batch(form.plan)
    if form.plan.call.provider.embedded:
        context = replace(context, close_after=False)  # the batch would end with the simulator
    with context.opened(), tempfile.TemporaryDirectory(prefix="o3magic-") as folder:
        template = build_prompt_template(text, source, profile, home)
        keep = map_options.on_error == "keep"
        written = write_parts(
            source, form, template, Path(folder), limits, keep_going=keep, replay=replay
        )
        spec = build_spec(form, text, map_options)
        digest = compute_digest(spec, written, map_options.name)
        if replay is not None:
            replay.entered(session.keeping, spec.build_attempt(context.place, "replayed"))
            if not written.parts:
                given = BatchInput(map_options.name, text, wanted, rows)
                return build_recorded_batch(context, spec, given, written, digest)
        if no_key is not None:
            raise no_key
        check_can_batch(form.plan)
        stored = context.store.begin(
            KIND,
            digest,
            name=map_options.name,
            spec=asdict(spec),
            notebook=session.notebook,
            provider=spec.provider,
            model=spec.model,
        )
        context.store.change(stored.id, total=written.total)
        recorder = BatchRecorder(replay, written.recorded) if replay is not None else None
        job = BatchJob(context, stored, wanted, rows, text, recorder)
        get_sent_jobs(session)[job.id] = job
        try:
            send_rows(context, job, form, written, limits, spec.budget_nano_usd)
        except KeyboardInterrupt:
            raise Interrupted(
                "stopped before all rows were sent",
                hint="the same o3.batch(...) again goes on with it",
            ) from None
        return job


def build_form(
    session: Session, profile: Settings, wanted: AnswerType | None, cassette: CassetteUse | None
) -> tuple[RequestTemplate, NoKey | None]:
    """What all requests share; and the NoKey error, where the cassette may have all answers."""
    try:
        return build_request_template(session, profile, wanted), None
    except NoKey as error:
        if cassette is None or cassette.mode != "auto":
            raise
        return build_request_template(session, replace(profile, dry_run=True), wanted), error


def build_spec(form: RequestTemplate, prompt: str, map_options: MapOptions) -> UploadSpec:
    """What the job store keeps. No key and no address: the provider's name stands for both."""
    plan, call = form.plan, form.plan.call
    options = {name: getattr(plan.profile, name) for name in OPTIONS}
    if not plan.choice.named:
        del options["model"]
    options = {name: scrub_text(v) if isinstance(v, str) else v for name, v in options.items()}
    return UploadSpec(
        tag=secrets.token_hex(8),
        template=scrub_text(prompt),
        provider=call.provider.name,
        model=call.request.model,
        api=call.api,
        endpoint=choose_endpoint(call),
        effort=plan.effort or "",
        schema=plan.profile.schema,
        answer=plan.answer_type.schema if plan.answer_type else None,
        options={name: value for name, value in options.items() if value not in (None, "")},
        budget_nano_usd=map_options.budget_nano_usd,
        flatten=map_options.flatten,
        model_reason=plan.choice.reason,
    )


def compute_digest(spec: UploadSpec, written: WrittenParts, name: str) -> str:
    """What makes two calls the same job: provider, endpoint, name and rows."""
    text = "\n".join((KIND, spec.provider, spec.endpoint, name, written.digest))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def send_rows(
    context: BatchContext,
    job: BatchJob,
    form: RequestTemplate,
    written: WrittenParts,
    limits: PartLimits,
    budget_nano_usd: int | None,
) -> None:
    """Send the rows that are neither answered nor in a batch that is running.

    budget_nano_usd: of the whole job.
    """
    store = BatchStore(context.store)
    for part in store.parts(job.id):
        # Written by a process that ended, or was stopped, before anything was sent.
        if part.step == PLANNED and (part.owner.current() or part.owner.alive() is False):
            store.drop(part)
    job.resume()
    if taken := store.taken_keys(job.id):
        written = remove_rows(written, taken, limits)
    if not any(written.parts):
        return
    hold = reserve_cost(context, form, written, job.id, budget_nano_usd)
    try:
        parts = store.plan(job.id, written.parts, written.broken, written.copies)
        job.send([*zip(parts, written.paths, strict=True)], hold)
    finally:
        if hold is not None:
            context.session.keeping.release(hold)


def reserve_cost(
    context: BatchContext, form: RequestTemplate, written: WrittenParts, job: int, limit: int | None
) -> int | None:
    """Reserve the worst-case cost of the rows. limit: the job's budget in nano-dollars.

    Raises OverBudget where a budget is too small.
    """
    budgets, worst = find_budgets(form.plan), written.worst_nano_usd
    if form.free or not (budgets or limit is not None):
        return None
    if not worst:
        raise unknown_price_error(form.plan)
    check_call_budget(written.worst_row_nano_usd, budgets)
    if limit is not None:
        stored = context.store.job(job)
        left = max(0, limit - stored.spent_nano_usd - stored.held_nano_usd)
        if worst > left:
            raise OverBudget(
                f"not sent: the rows may cost up to {show_usd(worst)}, and {show_usd(left)} of the "
                f"job's budget is left",
                hint="lower max_output_tokens or effort, or raise budget",
                left_nano_usd=left,
                scope="job",
            )
    shared = [budget for budget in budgets if budget.scope != "call"]
    if not shared:
        return None
    return context.session.keeping.hold(worst, shared, context.session.id, context.session.notebook)

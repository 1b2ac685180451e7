"""`o3.sweep`: asks rows at each effort of each model, and scores the answers.

Each variant (an effort of a model) is a job of `o3.map` with its own file, budget and cassette. The
variants run in parallel where all their rows fit into the concurrency limit; with more rows one job
alone uses the limit fully. Under a budget or a rate limit they run one after the other, so that the
variants that were asked are complete.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any, TypeVar

from o3magic.errors import BadOption, Interrupted, O3Error, OverBudget, TemplateError
from o3magic.money import usd
from o3magic.rows.map_job import (
    MapOptions,
    build_prompt_template,
    build_request_template,
    check_columns,
    map_rows,
    notebook_folder,
    open_cassette,
    resolve_settings,
    use_job_store,
)
from o3magic.rows.progress import JobProgress, ProgressDisplay
from o3magic.rows.sources import read_source
from o3magic.rows.store import JobStore
from o3magic.rows.sweep.result import SweepResult
from o3magic.rows.sweep.rows import RowScorer, ScoredTable, SweepTask, build_task
from o3magic.rows.sweep.scoring import REL_TOL, Scorer, find_scorer
from o3magic.rows.sweep.summary import VariantResult
from o3magic.schemas.lookup import AnswerType
from o3magic.session.prompt_input import load_prompt_file
from o3magic.session.session import Session
from o3magic.settings import Settings

KIND = "map"
POLL_S = 0.1
SUMS = ("rows", "errors", "before", "asked", "flying", "limited", "spent_nano_usd", "unknown")
NOT_SUPPORTED = ("flatten", "rows_name")
T = TypeVar("T")


@dataclass(frozen=True)
class SweepInput:
    """What all variants of a sweep share.

    concurrency: rows in flight at once, of all variants together; 0: one variant after the other
    """

    session: Session
    store: JobStore
    task: SweepTask
    scorer: RowScorer
    prompt: str
    schema: Any
    names: Mapping[str, Any] | None
    map_options: MapOptions
    options: Mapping[str, Any]
    concurrency: int


@dataclass(frozen=True)
class SweepVariant:
    """One effort of one model, and the name of its job. is_named: the user named the model."""

    label: str
    model: str
    effort: str
    job: str
    is_named: bool = True


def run_sweep(
    session: Session,
    rows: Any,
    prompt: str,
    *,
    expected: Any = None,
    scorer: str | Scorer = "exact",
    efforts: Sequence[str] = (),
    models: Sequence[str] = (),
    schema: Any = None,
    names: Mapping[str, Any] | None = None,
    name: str = "",
    budget: Any = None,
    abs_tol: float = 0.0,
    rel_tol: float = REL_TOL,
    show: ProgressDisplay,
    **options: Any,
) -> SweepResult:
    """`o3.sweep` in a session. Raises as `map_rows` does, with the result so far in `.answer`.

    Every effort, model and template is checked before the first row is asked.
    """
    compare = find_scorer(scorer, abs_tol=abs_tol, rel_tol=rel_tol)
    if compare is not None and expected is None:
        raise BadOption(f"scorer={scorer!r} needs expected=", hint="a column, a list, a function")
    for option in NOT_SUPPORTED:
        if option in options:
            raise BadOption(f"a sweep has no {option}", hint="leave it out")
    map_options, options = MapOptions.among({**options, "budget": budget})
    map_options = map_options.checked()
    task = build_task(read_source(rows), expected)
    profile, wanted = resolve_settings(session, schema, names, options)
    row_scorer = RowScorer(task, wanted, compare, None if compare else scorer)  # type: ignore[arg-type]
    stem = name or f"sweep-{compute_digest(profile, prompt, wanted)}"
    variants = build_variants(session, profile, efforts, models, stem)
    limits = (budget, map_options.requests_per_min, map_options.tokens_per_min)
    is_limited = any(limit is not None for limit in limits)
    in_turn = is_limited or open_cassette(session, profile) is not None
    concurrency = 0 if in_turn else map_options.concurrency or profile.concurrency
    with use_job_store(session) as store:
        shared = (session, store, task, row_scorer, prompt, schema, names, map_options, options)
        sweep = SweepInput(*shared, concurrency)
        for variant in variants:
            check_variant(sweep, variant)
        return Sweep(sweep, variants, show).run()


class Sweep:
    """One run of all variants."""

    def __init__(
        self, sweep: SweepInput, variants: Sequence[SweepVariant], show: ProgressDisplay
    ) -> None:
        self._sweep, self._variants = sweep, {variant.label: variant for variant in variants}
        self._progress = JoinedProgress(show, len(sweep.task.rows), [*self._variants])
        self._results: dict[str, VariantResult] = {}
        self._stops: list[str] = []

    def run(self) -> SweepResult:
        """Ask all rows. Raises Interrupted, and what stopped a job, with the result so far."""
        over_budget: OverBudget | None = None
        rows = len(self._sweep.task.rows)
        for labels in group_labels([*self._variants], rows, self._sweep.concurrency):
            errors: dict[str, O3Error] = {}
            for label, outcome in run_side_by_side(labels, self._map, self._progress).items():
                if isinstance(outcome, OverBudget):  # for a single row
                    over_budget = over_budget or outcome
                elif isinstance(outcome, O3Error):
                    errors[label] = outcome
                table = outcome.answer if isinstance(outcome, O3Error) else outcome
                self._score(label, table if isinstance(table, ScoredTable) else None)
            if errors:
                raise self._stop(errors)
        result = self._build_result()
        if over_budget is not None:
            if not any(choice.n for choice in result.choices):
                self._progress.end(str(over_budget))
                raise over_budget
            self._progress.end(f"stopped by a budget: {over_budget}")
        return result

    def _stop(self, errors: Mapping[str, O3Error]) -> O3Error:
        """The error that ends the sweep, with the result so far."""
        error = choose_error([*errors.values()])
        labels = [label for label, other in errors.items() if type(other) is type(error)]
        for label in self._variants:
            if label not in self._results:
                self._score(label, None)
        verb = "was" if len(labels) == 1 else "were"
        self._stops.append(f"stopped while {' and '.join(labels)} {verb} asked: {error}")
        self._progress.end(self._stops[-1])
        error.answer = self._build_result()
        if isinstance(error, Interrupted):
            error.hint = "the same call goes on from there; the result so far is in .answer"
        return error

    def _map(self, label: str, show: ProgressDisplay) -> ScoredTable:
        """Ask all rows of a variant."""
        sweep, variant = self._sweep, self._variants[label]
        budget = self._compute_budget(variant)
        table: ScoredTable = map_rows(
            sweep.session,
            sweep.store,
            sweep.task.inputs,
            sweep.prompt,
            schema=sweep.schema,
            names=sweep.names,
            wish=replace(sweep.map_options, name=variant.job, budget=budget),
            show=show,
            kind=ScoredTable,
            **build_options(variant, sweep.options),
        )
        return table

    def _compute_budget(self, variant: SweepVariant) -> Decimal | None:
        """The budget minus what the other variants have spent or reserved, in all their runs."""
        budget = self._sweep.map_options.budget_nano_usd
        if budget is None:
            return None
        others = {other.job for other in self._variants.values()} - {variant.job}
        jobs = [job for job in self._sweep.store.jobs(KIND) if job.name in others]
        return usd(max(0, budget - sum(j.spent_nano_usd + j.held_nano_usd for j in jobs)))

    def _score(self, label: str, table: ScoredTable | None) -> None:
        variant, rows = self._variants[label], self._sweep.scorer.score_rows(table)
        self._results[label] = VariantResult(label, variant.model, variant.effort, rows)

    def _build_result(self) -> SweepResult:
        results = tuple(self._results[label] for label in self._variants)
        return SweepResult(results, self._sweep.task, tuple(self._stops))


def build_variants(
    session: Session, profile: Settings, efforts: Sequence[str], models: Sequence[str], stem: str
) -> list[SweepVariant]:
    """The given efforts of the given models; by default all of the current model.

    stem: the beginning of the names of their jobs. Raises BadOption.
    """
    for name, value in (("efforts", efforts), ("models", models)):
        if isinstance(value, str):
            raise BadOption(f"{name}={value!r}: a list of them", hint=f"{name}=({value!r},)")
    names, is_named = [*dict.fromkeys(models)], True
    if not names:
        choice = session.choose_model(profile)
        names, is_named = [choice.model], choice.named
        if not efforts:
            efforts = session.compared_efforts(profile)
    pairs = [
        (model, effort)
        for model in names
        for effort in dict.fromkeys(efforts or session.catalog.card(model).efforts or ("",))
    ]
    many_models, many_efforts = len(names) > 1, len({effort for _, effort in pairs}) > 1
    variants = []
    for model, effort in pairs:
        words = [model] * many_models + [effort or "default"] * (many_efforts or not many_models)
        job = " ".join(filter(None, (stem, model, effort)))
        variants.append(SweepVariant(" ".join(words), model, effort, job, is_named))
    return variants


def check_variant(sweep: SweepInput, variant: SweepVariant) -> None:
    """Raise whatever would stop the job of a variant before its first row."""
    session, task = sweep.session, sweep.task
    options = build_options(variant, sweep.options)
    profile, wanted = resolve_settings(session, sweep.schema, sweep.names, options)
    folder = notebook_folder(session, profile)
    prompt = load_prompt_file(sweep.prompt, profile.file, folder) if profile.file else sweep.prompt
    source = read_source([*itertools.islice(task.inputs, 1)])
    try:
        check_columns(source, build_prompt_template(prompt, source, profile, folder))
    except TemplateError as error:
        if task.column and str(error).endswith(f"there is no column {task.column}"):
            raise BadOption(
                f"the prompt says {{{{ {task.column} }}}}, which is what is expected",
                hint="take it out of the prompt: the model must not be told the answer",
            ) from None
        raise
    build_request_template(session, replace(profile, file=""), wanted)


def build_options(variant: SweepVariant, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a variant's job."""
    model = {"model": variant.model} if variant.is_named else {}
    effort = {"effort": variant.effort} if variant.effort else {}
    return {**options, **model, **effort}


def compute_digest(profile: Settings, prompt: str, wanted: AnswerType | None) -> str:
    """The digest that names the jobs of a sweep without a name."""
    parts = [prompt, profile.file, profile.provider, wanted.name if wanted else ""]
    return sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:8]


def group_labels(labels: Sequence[str], rows: int, concurrency: int) -> list[Sequence[str]]:
    """The variants that run in parallel: as many as have all their rows in flight at once."""
    size = max(1, concurrency // max(1, rows))
    return [labels[start : start + size] for start in range(0, len(labels), size)]


def run_side_by_side(
    labels: Sequence[str], run: Callable[[str, ProgressDisplay], T], progress: JoinedProgress
) -> dict[str, T | Exception]:
    """What `run` returns or raises for each label, each in a thread of its own.

    One that fails, and an interrupt, stop the others.
    """
    if len(labels) == 1:
        return {labels[0]: run_or_catch(run, labels[0], VariantDisplay(progress, labels[0]))}
    stop, is_interrupted = threading.Event(), False
    with ThreadPoolExecutor(len(labels), thread_name_prefix="o3magic-sweep") as threads:
        jobs = {
            label: threads.submit(
                contextvars.copy_context().run,
                run_or_catch,
                run,
                label,
                VariantDisplay(progress, label, stop),
            )
            for label in labels
        }
        try:
            while wait(jobs.values(), POLL_S, FIRST_EXCEPTION).not_done:
                progress.show()
                outcomes = [job.result() for job in jobs.values() if job.done()]
                # A budget that not even one row fits into leaves the others running.
                if any(
                    isinstance(o, Exception) and not isinstance(o, OverBudget) for o in outcomes
                ):
                    stop.set()
        except KeyboardInterrupt:
            is_interrupted = True
        finally:
            stop.set()
    progress.show()
    results = {label: job.result() for label, job in jobs.items()}
    if is_interrupted and not any(isinstance(o, Interrupted) for o in results.values()):
        raise KeyboardInterrupt  # all had ended before it reached them
    return results


def run_or_catch(
    run: Callable[[str, ProgressDisplay], T], label: str, show: ProgressDisplay
) -> T | Exception:
    try:
        return run(label, show)
    except O3Error as error:
        return error


def choose_error(errors: Sequence[O3Error]) -> O3Error:
    """The error to raise of several: the cause, not the jobs that were interrupted by it."""
    return next((error for error in errors if not isinstance(error, Interrupted)), errors[0])


class JoinedProgress:
    """Shows the progress of all variants as one."""

    def __init__(self, show: ProgressDisplay, rows: int, labels: Sequence[str]) -> None:
        self._show, self._total = show, rows * len(labels)
        self._jobs: dict[str, JobProgress | None] = dict.fromkeys(labels)
        self._began_s = time.monotonic()
        self._is_over = False

    def set_progress(self, label: str, progress: JobProgress) -> None:
        self._jobs[label] = progress

    def show(self) -> None:
        """Show the sum; for the last time once all variants are over."""
        if not self._is_over:
            self._is_over = all(job is not None and job.over for job in self._jobs.values())
            self._show.update(self._sum())

    def end(self, message: str) -> None:
        """Show the sum for the last time, with a message."""
        if not self._is_over:
            self._is_over = True
            self._show.update(replace(self._sum(), said=message))

    def _sum(self) -> JobProgress:
        begun = [job for job in self._jobs.values() if job is not None] or [JobProgress()]
        sums: dict[str, Any] = {name: sum(getattr(job, name) for job in begun) for name in SUMS}
        names = dict.fromkeys(name for job in begun for name in job.made_up)
        messages = dict.fromkeys(job.said for job in begun if job.said and self._is_over)
        return replace(
            begun[-1],
            total=self._total,
            over=self._is_over,
            said="; ".join(messages),
            taped=any(job.taped for job in begun),
            landed=begun[-1].landed,
            elapsed_s=time.monotonic() - self._began_s,
            made_up={name: sum(job.made_up.get(name, 0) for job in begun) for name in names},
            **sums,
        )


class VariantDisplay:
    """The display of one variant. stop: ends its job the way an interrupt does."""

    def __init__(
        self, progress: JoinedProgress, label: str, stop: threading.Event | None = None
    ) -> None:
        self._progress, self._label, self._stop = progress, label, stop

    def update(self, progress: JobProgress) -> None:
        """Keep it; show it where there is no other thread that does. Raises KeyboardInterrupt."""
        self._progress.set_progress(self._label, progress)
        if self._stop is None:
            self._progress.show()
        elif self._stop.is_set() and not progress.over:
            raise KeyboardInterrupt

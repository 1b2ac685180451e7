"""What effort buys on your own rows: `o3.sweep` asks them at each effort, and scores the answers.

Each effort of each model is one job of `o3.map`, with its file, its budget and its cassette. Those
that fit into the width with all their rows go side by side; with more rows, one job after the other
keeps the width as full. Under a limit for all of them they go in turn, so that what is asked is
whole.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any, TypeVar

from o3magic.errors import BadOption, Interrupted, O3Error, OverBudget, TemplateError
from o3magic.money import usd
from o3magic.rows.map_job import (
    MapOptions,
    checked_source,
    filling_of,
    folder_of,
    form_of,
    jobs_of,
    map_rows,
    profile_of,
    tape_of,
)
from o3magic.rows.progress import JobProgress, ProgressDisplay
from o3magic.rows.sources import source_of
from o3magic.rows.store import JobStore
from o3magic.rows.sweep.result import SweepResult
from o3magic.rows.sweep.rows import RowScorer, ScoredTable, SweepTask, build_task
from o3magic.rows.sweep.scoring import REL_TOL, Scorer, find_scorer
from o3magic.rows.sweep.summary import VariantResult
from o3magic.schemas.lookup import AnswerType
from o3magic.session.prompt_input import with_file
from o3magic.session.session import Session
from o3magic.settings import Settings

POLL_S = 0.1
SUMS = ("rows", "errors", "before", "asked", "flying", "limited", "spent_nano_usd", "unknown")
T = TypeVar("T")


class JoinedProgress:
    """Shows the jobs of a sweep as one."""

    def __init__(self, show: ProgressDisplay, rows: int, labels: Sequence[str]) -> None:
        self._show, self._total = show, rows * len(labels)
        self._jobs: dict[str, JobProgress | None] = dict.fromkeys(labels)
        self._began_s = time.monotonic()
        self._over = False

    def put(self, label: str, progress: JobProgress) -> None:
        """Keep how far a job is."""
        self._jobs[label] = progress

    def show(self) -> None:
        """Show all of them, and their end where each has ended."""
        if not self._over:
            self._over = all(each is not None and each.over for each in self._jobs.values())
            self._show.update(self._sum())

    def end(self, said: str) -> None:
        """Nothing more comes."""
        if not self._over:
            self._over = True
            self._show.update(replace(self._sum(), said=said))

    def _sum(self) -> JobProgress:
        """All jobs together."""
        begun = [each for each in self._jobs.values() if each is not None] or [JobProgress()]
        more: dict[str, Any] = {name: sum(getattr(e, name) for e in begun) for name in SUMS}
        names = dict.fromkeys(name for each in begun for name in each.made_up)
        more["made_up"] = {n: sum(each.made_up.get(n, 0) for each in begun) for n in names}
        said = dict.fromkeys(each.said for each in begun if each.said and self._over)
        return replace(
            begun[-1],
            total=self._total,
            over=self._over,
            said="; ".join(said),
            taped=any(each.taped for each in begun),
            landed=begun[-1].landed,
            elapsed_s=time.monotonic() - self._began_s,
            **more,
        )


class JobSeat:
    """Where one job is shown. `leave` ends it as an interrupt would: it is read while it waits."""

    def __init__(
        self, joined: JoinedProgress, label: str, leave: threading.Event | None = None
    ) -> None:
        self._joined, self._label, self._leave = joined, label, leave

    def update(self, progress: JobProgress) -> None:
        """Keep it; show it too, where this is the thread that does. Raises KeyboardInterrupt."""
        self._joined.put(self._label, progress)
        if self._leave is None:
            self._joined.show()
        elif self._leave.is_set() and not progress.over:
            raise KeyboardInterrupt


def run_side_by_side(
    labels: Sequence[str], ask: Callable[[str, ProgressDisplay], T], joined: JoinedProgress
) -> dict[str, T | Exception]:
    """What `ask` gives or raises for each. One that fails, or an interrupt, ends the others."""
    if len(labels) == 1:
        return {labels[0]: run_or_catch(ask, labels[0], JobSeat(joined, labels[0]))}
    leave, interrupted = threading.Event(), False
    with ThreadPoolExecutor(len(labels), thread_name_prefix="o3magic-sweep") as threads:
        jobs = {
            label: threads.submit(
                contextvars.copy_context().run,
                run_or_catch,
                ask,
                label,
                JobSeat(joined, label, leave),
            )
            for label in labels
        }
        try:
            while wait(jobs.values(), POLL_S, FIRST_EXCEPTION).not_done:
                joined.show()
                over = [job.result() for job in jobs.values() if job.done()]
                if any(isinstance(each, Exception) and ends_sweep(each) for each in over):
                    leave.set()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            leave.set()
    joined.show()
    found = {label: job.result() for label, job in jobs.items()}
    if interrupted and not any(isinstance(each, Interrupted) for each in found.values()):
        raise KeyboardInterrupt  # they had ended by themselves
    return found


def run_or_catch(
    ask: Callable[[str, ProgressDisplay], T], label: str, show: ProgressDisplay
) -> T | Exception:
    """What comes of one."""
    try:
        return ask(label, show)
    except O3Error as error:
        return error


def ends_sweep(error: Exception) -> bool:
    """Whether it ends the whole sweep: a budget that lets not one row through does not."""
    return not isinstance(error, OverBudget)


def choose_error(errors: Sequence[O3Error]) -> O3Error:
    """The one to tell of several: what failed by itself, before what was stopped because of it."""
    return next((each for each in errors if not isinstance(each, Interrupted)), errors[0])


def group_labels(labels: Sequence[str], rows: int, width: int) -> list[Sequence[str]]:
    """The jobs that go side by side: as many as have all their rows on their way at once."""
    size = max(1, width // max(1, rows))
    return [labels[start : start + size] for start in range(0, len(labels), size)]


KIND = "map"
NOT_SUPPORTED = ("flatten", "rows_name", "name", "budget")


@dataclass(frozen=True)
class SweepInput:
    """What is swept: the judge of rows, and all that is the same at each effort.

    width: rows on their way at once, of all jobs together; 0: one job after the other
    """

    session: Session
    store: JobStore
    task: SweepTask
    judge: RowScorer
    prompt: str
    schema: Any
    names: Mapping[str, Any] | None
    wish: MapOptions
    options: Mapping[str, Any]
    width: int


@dataclass(frozen=True)
class SweepVariant:
    """One effort of one model, and the name of its job. named: the user named the model."""

    label: str
    model: str
    effort: str
    job: str
    named: bool = True


def sweep_in(
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
    """What `o3.sweep` gives. Raises as `map_rows` does; what there is so far is in `.answer`.

    Every effort, model and template is looked at before the first row is asked.
    """
    compare = find_scorer(scorer, abs_tol=abs_tol, rel_tol=rel_tol)
    if compare is not None and expected is None:
        raise BadOption(f"scorer={scorer!r} needs expected=", hint="a column, a list, a function")
    for wrong in NOT_SUPPORTED[:2]:
        if wrong in options:
            raise BadOption(f"a sweep has no {wrong}", hint="leave it out")
    wish, options = MapOptions.among({**options, "budget": budget})
    wish = wish.checked()
    task = build_task(source_of(rows), expected)
    profile, wanted = profile_of(session, schema, names, options)
    judge = RowScorer(task, wanted, compare, None if compare else scorer)  # type: ignore[arg-type]
    stem = name or f"sweep-{compute_digest(profile, prompt, wanted)}"
    ways = build_variants(session, profile, efforts, models, stem)
    for way in ways:
        check_variant(
            session, prompt, task, way, {"schema": schema, "names": names, "options": options}
        )
    limits = (budget, wish.requests_per_min, wish.tokens_per_min)
    apart = any(limit is not None for limit in limits) or tape_of(session, profile) is not None
    width = 0 if apart else wish.concurrency or profile.concurrency
    with jobs_of(session) as store:
        asked = SweepInput(session, store, task, judge, prompt, schema, names, wish, options, width)
        return Sweep(asked, ways, show).result()


class Sweep:
    """One run of all jobs of a sweep."""

    def __init__(
        self, asked: SweepInput, ways: Sequence[SweepVariant], show: ProgressDisplay
    ) -> None:
        self._asked, self._ways = asked, {way.label: way for way in ways}
        self._joined = JoinedProgress(show, len(asked.task.rows), [*self._ways])
        self._choices: dict[str, VariantResult] = {}
        self._said: list[str] = []

    def result(self) -> SweepResult:
        """Run them. Raises Interrupted, and what stopped a job, with the result so far."""
        short: OverBudget | None = None
        asked = self._asked
        for labels in group_labels([*self._ways], len(asked.task.rows), asked.width):
            found = run_side_by_side(labels, self._map, self._joined)
            stopped: dict[str, O3Error] = {}
            for label, came in found.items():
                if isinstance(came, OverBudget):  # not one row fits
                    short = short or came
                elif isinstance(came, O3Error):
                    stopped[label] = came
                answer = came.answer if isinstance(came, O3Error) else came
                self._keep(label, answer if isinstance(answer, ScoredTable) else None)
            if stopped:
                raise self._ended(stopped)
        made = self._made()
        if short is not None:
            if not any(choice.n for choice in made.choices):
                self._joined.end(str(short))
                raise short
            self._joined.end(f"stopped by a budget: {short}")
        return made

    def _ended(self, stopped: Mapping[str, O3Error]) -> O3Error:
        """What ended it, with the result so far."""
        error = choose_error([*stopped.values()])
        labels = [label for label, each in stopped.items() if type(each) is type(error)]
        for label in self._ways:
            if label not in self._choices:
                self._keep(label, None)
        verb = "was" if len(labels) == 1 else "were"
        self._said.append(f"stopped while {' and '.join(labels)} {verb} asked: {error}")
        self._joined.end(self._said[-1])
        error.answer = self._made()
        if isinstance(error, Interrupted):
            error.hint = "the same call goes on from there; the result so far is in .answer"
        return error

    def _map(self, label: str, show: ProgressDisplay) -> ScoredTable:
        """All rows at one effort."""
        asked, way = self._asked, self._ways[label]
        collected: ScoredTable = map_rows(
            asked.session,
            asked.store,
            asked.task.columns,
            asked.prompt,
            schema=asked.schema,
            names=asked.names,
            wish=replace(asked.wish, name=way.job, budget=self._left(way)),
            show=show,
            kind=ScoredTable,
            **build_options(way, asked.options),
        )
        return collected

    def _left(self, way: SweepVariant) -> Decimal | None:
        """The budget less what the other jobs have spent, or may have, in all their runs."""
        budget = self._asked.wish.budget_nano_usd
        if budget is None:
            return None
        others = {each.job for each in self._ways.values()} - {way.job}
        jobs = [job for job in self._asked.store.jobs(KIND) if job.name in others]
        return usd(max(0, budget - sum(j.spent_nano_usd + j.held_nano_usd for j in jobs)))

    def _keep(self, label: str, collected: ScoredTable | None) -> None:
        way, rows = self._ways[label], self._asked.judge.scored(collected)
        self._choices[label] = VariantResult(label, way.model, way.effort, rows)

    def _made(self) -> SweepResult:
        choices = tuple(self._choices[label] for label in self._ways)
        return SweepResult(choices, self._asked.task, tuple(self._said))


def build_variants(
    session: Session, profile: Settings, efforts: Sequence[str], models: Sequence[str], stem: str
) -> list[SweepVariant]:
    """All efforts of all models: those said, else every one a model has. Raises BadOption."""
    for name, said in (("efforts", efforts), ("models", models)):
        if isinstance(said, str):
            raise BadOption(f"{name}={said!r}: a list of them", hint=f"{name}=({said!r},)")
    asked, named = [*dict.fromkeys(models)], True
    if not asked:
        choice = session.choose_model(profile)
        asked, named = [choice.model], choice.named
        if not efforts:
            efforts = session.compared_efforts(profile)
    pairs = [(model, effort) for model in asked for effort in list_efforts(session, model, efforts)]
    many_models, many_efforts = len(asked) > 1, len({effort for _, effort in pairs}) > 1
    made = []
    for model, effort in pairs:
        words = [model] * many_models + [effort or "default"] * (many_efforts or not many_models)
        job = " ".join(filter(None, (stem, model, effort)))
        made.append(SweepVariant(" ".join(words), model, effort, job, named))
    return made


def list_efforts(session: Session, model: str, efforts: Sequence[str]) -> Iterator[str]:
    """The efforts of a model; "" is its own, where it has no others."""
    card = session.catalog.card(model)
    yield from dict.fromkeys(efforts or card.efforts or ("",))


def check_variant(
    session: Session, prompt: str, task: SweepTask, way: SweepVariant, asked: Mapping[str, Any]
) -> None:
    """Raise whatever would stop a job before its first row."""
    options = build_options(way, asked["options"])
    profile, wanted = profile_of(session, asked["schema"], asked["names"], options)
    folder = folder_of(session, profile)
    text = with_file(prompt, profile.file, folder) if profile.file else prompt
    source = source_of([*itertools.islice(task.columns, 1)])
    try:
        checked_source(source, filling_of(text, source, profile, folder))
    except TemplateError as error:
        if task.column and str(error).endswith(f"there is no column {task.column}"):
            raise BadOption(
                f"the prompt says {{{{ {task.column} }}}}, which is what is expected",
                hint="take it out of the prompt: the model must not be told the answer",
            ) from None
        raise
    form_of(session, replace(profile, file=""), wanted)


def build_options(way: SweepVariant, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one job."""
    model = {"model": way.model} if way.named else {}
    return {**options, **model, **({"effort": way.effort} if way.effort else {})}


def compute_digest(profile: Settings, prompt: str, wanted: AnswerType | None) -> str:
    """What tells one sweep from another where it has no name."""
    said = [prompt, profile.file, profile.provider, wanted.name if wanted else ""]
    return sha256("\0".join(map(str, said)).encode("utf-8", "replace")).hexdigest()[:8]

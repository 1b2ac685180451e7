"""What effort buys on your own rows: `o3.sweep` asks them at each effort, and scores the answers.

Each effort of each model is one job of `o3.map`, with its file, its budget and its cassette; the
jobs run one after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any

from o3magic.errors import BadOption, Interrupted, O3Error, OverBudget, TemplateError
from o3magic.jobs.map_job import store_of
from o3magic.jobs.mapping import (
    Wish,
    checked_source,
    filling_of,
    folder_of,
    form_of,
    map_rows,
    profile_of,
)
from o3magic.jobs.progress import Progress, Show
from o3magic.jobs.scoring import REL_TOL, Scorer, scorer_of
from o3magic.jobs.source import source_of
from o3magic.jobs.store import JobStore
from o3magic.jobs.sweep_measures import Choice
from o3magic.jobs.sweep_result import SweepResult
from o3magic.jobs.sweep_rows import Collected, Judge, Task, task_of
from o3magic.money import usd
from o3magic.profile import Profile
from o3magic.schemas.lookup import AnswerType
from o3magic.talk.asked import with_file
from o3magic.talk.session import Session

KIND = "map"
NOT_HERE = ("flatten", "rows_name", "name", "budget")


@dataclass(frozen=True)
class Asked:
    """What is swept: the judge of rows, and all that is the same at each effort."""

    session: Session
    store: JobStore
    task: Task
    judge: Judge
    prompt: str
    schema: Any
    names: Mapping[str, Any] | None
    wish: Wish
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Way:
    """One effort of one model, and the name of its job."""

    label: str
    model: str
    effort: str
    job: str


class Joined:
    """Shows the jobs of a sweep as one."""

    def __init__(self, show: Show, rows: int, ways: int) -> None:
        self._show, self._rows, self._ways = show, rows, ways
        self._done = Progress()
        self._way = 0
        self._over = False

    def update(self, progress: Progress) -> None:
        """Show it with what was done before."""
        both = self._both(progress)
        last = self._way == self._ways - 1
        if progress.over and not last:
            self._done, self._way = replace(both, over=False, said=""), self._way + 1
            return
        self._over = progress.over
        self._show.update(both)

    def end(self, said: str) -> None:
        """Nothing more comes."""
        if not self._over:
            self._show.update(replace(self._done, over=True, said=said))

    def _both(self, progress: Progress) -> Progress:
        done = self._done
        sums = ("rows", "errors", "before", "asked", "limited", "spent_nano_usd", "unknown")
        more = {name: getattr(done, name) + getattr(progress, name) for name in sums}
        elapsed_s = done.elapsed_s + progress.elapsed_s
        names = [*dict.fromkeys([*done.made_up, *progress.made_up])]
        more["made_up"] = {n: done.made_up.get(n, 0) + progress.made_up.get(n, 0) for n in names}
        return replace(progress, total=self._rows * self._ways, elapsed_s=elapsed_s, **more)


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
    show: Show,
    **options: Any,
) -> SweepResult:
    """What `o3.sweep` gives. Raises as `map_rows` does; what there is so far is in `.answer`.

    Every effort, model and template is looked at before the first row is asked.
    """
    compare = scorer_of(scorer, abs_tol=abs_tol, rel_tol=rel_tol)
    if compare is not None and expected is None:
        raise BadOption(f"scorer={scorer!r} needs expected=", hint="a column, a list, a function")
    for wrong in NOT_HERE[:2]:
        if wrong in options:
            raise BadOption(f"a sweep has no {wrong}", hint="leave it out")
    own = {each.name for each in fields(Wish)}
    wish = Wish(**{n: options.pop(n) for n in [*options] if n in own}, budget=budget).checked()
    task = task_of(source_of(rows), expected)
    profile, wanted = profile_of(session, schema, names, options)
    judge = Judge(task, wanted, compare, None if compare else scorer)  # type: ignore[arg-type]
    stem = name or f"sweep-{digest_of(profile, prompt, wanted)}"
    ways = ways_of(session, profile, efforts, models, stem)
    for way in ways:
        check(session, prompt, task, way, {"schema": schema, "names": names, "options": options})
    asked = Asked(session, store_of(session), task, judge, prompt, schema, names, wish, options)
    return Sweep(asked, ways, Joined(show, len(task.rows), len(ways))).result()


class Sweep:
    """One run of all jobs of a sweep."""

    def __init__(self, asked: Asked, ways: Sequence[Way], show: Joined) -> None:
        self._asked, self._ways, self._show = asked, ways, show
        self._choices: dict[str, Choice] = {}
        self._said: list[str] = []

    def result(self) -> SweepResult:
        """Run them. Raises Interrupted, and what stopped a job, with the result so far."""
        short: OverBudget | None = None
        for way in self._ways:
            try:
                self._keep(way, self._map(way))
            except OverBudget as error:  # not one row fits
                short = short or error
                self._keep(way, None)
            except O3Error as error:
                self._keep(way, error.answer if isinstance(error.answer, Collected) else None)
                for other in self._ways:
                    if other.label not in self._choices:
                        self._keep(other, None)
                whose = f"while {way.label} was asked"
                self._said.append(f"stopped {whose}: {error}")
                self._show.end(self._said[-1])
                error.answer = self._made()
                if isinstance(error, Interrupted):
                    error.hint = "the same call goes on from there; the result so far is in .answer"
                raise
        made = self._made()
        if short is not None:
            if not any(choice.n for choice in made.choices):
                self._show.end(str(short))
                raise short
            self._show.end(f"stopped by a budget: {short}")
        return made

    def _map(self, way: Way) -> Collected:
        """All rows at one effort."""
        asked = self._asked
        collected: Collected = map_rows(
            asked.session,
            asked.store,
            asked.task.columns,
            asked.prompt,
            schema=asked.schema,
            names=asked.names,
            wish=replace(asked.wish, name=way.job, budget=self._left(way)),
            show=self._show,
            kind=Collected,
            **chosen(way, asked.options),
        )
        return collected

    def _left(self, way: Way) -> Decimal | None:
        """The budget less what the other jobs have spent, or may have, in all their runs."""
        budget = self._asked.wish.budget_nano_usd
        if budget is None:
            return None
        others = {each.job for each in self._ways} - {way.job}
        jobs = [job for job in self._asked.store.jobs(KIND) if job.name in others]
        return usd(max(0, budget - sum(j.spent_nano_usd + j.held_nano_usd for j in jobs)))

    def _keep(self, way: Way, collected: Collected | None) -> None:
        rows = self._asked.judge.scored(collected)
        self._choices[way.label] = Choice(way.label, way.model, way.effort, rows)

    def _made(self) -> SweepResult:
        choices = tuple(self._choices[way.label] for way in self._ways)
        return SweepResult(choices, self._asked.task, tuple(self._said))


def ways_of(
    session: Session, profile: Profile, efforts: Sequence[str], models: Sequence[str], stem: str
) -> list[Way]:
    """All efforts of all models: those said, else every one a model has. Raises BadOption."""
    for name, said in (("efforts", efforts), ("models", models)):
        if isinstance(said, str):
            raise BadOption(f"{name}={said!r}: a list of them", hint=f"{name}=({said!r},)")
    asked = [*dict.fromkeys(models)] or [profile.model]
    pairs = [(model, effort) for model in asked for effort in known(session, model, efforts)]
    many_models, many_efforts = len(asked) > 1, len({effort for _, effort in pairs}) > 1
    made = []
    for model, effort in pairs:
        words = [model] * many_models + [effort or "default"] * (many_efforts or not many_models)
        job = " ".join(filter(None, (stem, model, effort)))
        made.append(Way(" ".join(words), model, effort, job))
    return made


def known(session: Session, model: str, efforts: Sequence[str]) -> Iterator[str]:
    """The efforts of a model; "" is its own, where it has no others."""
    card = session.catalog.card(model)
    yield from dict.fromkeys(efforts or card.efforts or ("",))


def check(session: Session, prompt: str, task: Task, way: Way, asked: Mapping[str, Any]) -> None:
    """Raise whatever would stop a job before its first row."""
    options = chosen(way, asked["options"])
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


def chosen(way: Way, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one job."""
    return {**options, "model": way.model} | ({"effort": way.effort} if way.effort else {})


def digest_of(profile: Profile, prompt: str, wanted: AnswerType | None) -> str:
    """What tells one sweep from another where it has no name."""
    said = [prompt, profile.file, profile.provider, wanted.name if wanted else ""]
    return sha256("\0".join(map(str, said)).encode("utf-8", "replace")).hexdigest()[:8]

"""`%%o3 --map df`: a prompt over the rows of a DataFrame; `%o3_jobs`: what became of such jobs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.jobs.map_job import MapJob, jobs_of, map_job
from o3magic.jobs.mapping import Wish, map_rows
from o3magic.jobs.progress import Line, Progress, Show, Silent
from o3magic.jobs.rows import Job
from o3magic.jobs.source import source_of
from o3magic.jobs.store import JobStore
from o3magic.money import show_usd
from o3magic.notebook.fronts import KernelFront, front_of
from o3magic.render import listing
from o3magic.render.bundle import Bundle
from o3magic.render.safe_markdown import plain_text, table_cell

if TYPE_CHECKING:
    from o3magic.notebook.actions import Actions

INTERVAL_S = 0.5
MOST_CELL_CHARS = 60
MOST_FIELDS = 6
MOST_LISTED = 50
USE = "%o3_jobs, or %o3_jobs show|resume|delete JOB"


class Display:
    """One display that follows a job: a bar, a line, the first rows while they come."""

    def __init__(
        self, front: KernelFront, display_id: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen, self._id, self._clock = front.screen, display_id, clock
        self._next_s = 0.0
        self._shown: Bundle | None = None

    def update(self, progress: Progress) -> None:
        """Show it, at most twice a second."""
        now_s = self._clock()
        if now_s < self._next_s and not progress.over:
            return
        self._next_s = now_s + INTERVAL_S
        bundle = bundle_of(progress)
        if bundle == self._shown:
            return
        send = self._screen.show if self._shown is None else self._screen.update
        send(bundle, self._id)
        self._shown = bundle


def bundle_of(progress: Progress) -> Bundle:
    """A job's progress as Markdown and as text."""
    bar, words, said = progress.bar(), progress.words(), progress.said
    plain = f"{bar} {words}".strip() + (f"\n{plain_text(said)}" if said else "")
    markdown = f"`{bar}` {table_cell(words)}" if bar else table_cell(words)
    if said:
        markdown += f"\n\n{table_cell(said)}"
    if progress.over or not progress.landed:
        return Bundle({"text/markdown": markdown, "text/plain": plain}, {})
    first = first_rows(progress)
    return Bundle(
        {
            "text/markdown": f"{markdown}\n\n{first.data['text/markdown']}",
            "text/plain": f"{plain}\n{first.data['text/plain']}",
        },
        {},
    )


def first_rows(progress: Progress) -> Bundle:
    """The rows that came first, as a small table."""
    shown: list[tuple[int, Mapping[str, Any]]] = []
    for place, answer in sorted(progress.landed, key=lambda each: each[0]):
        data = answer.get("data")
        fields = data if isinstance(data, dict) else {"value": data}
        shown.append((place, fields if data is not None else {"text": answer.get("text", "")}))
    names = [*dict.fromkeys(name for _, fields in shown for name in fields)][:MOST_FIELDS]
    rows = [[str(place), *(short(fields.get(name)) for name in names)] for place, fields in shown]
    return listing.table(["row", *names], rows)


def short(value: Any) -> str:
    """A value in a cell."""
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= MOST_CELL_CHARS else text[: MOST_CELL_CHARS - 1] + "…"


def show_for(shell: Any, *, quiet: bool = False) -> Show:
    """Where a shell shows how far a job is; None is plain Python."""
    if quiet:
        return Silent()
    front = None if shell is None else front_of(shell, "map")
    if not isinstance(front, KernelFront):
        return Line()
    return Display(front, f"o3magic-map-{secrets.token_hex(4)}")


def map_cell(actions: Actions, prompt: str, chosen: Mapping[str, Any]) -> Any:
    """The table of a `%%o3 --map` cell. `--budget` is the budget of all its rows together.

    Raises as `map_rows` does.
    """
    said = dict(chosen)
    budget = said.pop("budget_call", None)
    profile = actions.session.layers.profile(said)
    names = actions.names
    wish = Wish(budget=budget, rows_name=profile.map)
    for name in ("map", "out", "quiet"):
        said.pop(name, None)
    show = show_for(actions.shell, quiet=profile.quiet)
    rows = rows_called(profile.map, names)
    with jobs_of(actions.session) as store:
        return map_rows(
            actions.session, store, rows, prompt, names=names, wish=wish, show=show, **said
        )


def rows_called(name: str, names: Mapping[str, Any]) -> Any:
    """The rows of that name. Raises BadOption."""
    if name not in names:
        known = [each for each in names if not each.startswith("_")]
        hint = did_you_mean(name, known, "--map takes the name of a DataFrame or a list of dicts")
        raise BadOption(f"--map {name}: {name} is not defined", hint=hint)
    return names[name]


def run_jobs(actions: Actions, line: str) -> Any:
    """`%o3_jobs`: list, show, resume or delete; gives the table of a job that is shown."""
    with jobs_of(actions.session) as store:
        return run_jobs_in(store, actions, line)


def run_jobs_in(store: JobStore, actions: Actions, line: str) -> Any:
    """The same with the jobs of the session."""
    session, names = actions.session, actions.names
    word, *rest = line.split() or ["list"]
    if word == "list" and not rest:
        actions.front.show(listed_jobs(store.jobs()))
        return None
    if word not in ("show", "resume", "delete") or not rest:
        raise BadOption(f"%o3_jobs {line.strip()}: {word!r} is not known", hint=USE)
    if word == "delete":
        for each in rest:
            gone = store.job(each)
            store.delete(gone.id)
            actions.front.show(listing.line(f"job {gone.id} is forgotten; its cost is not"))
        return None
    job = map_job(session, store, rest[0])
    if word == "show":
        actions.front.show(details(job))
        return job.results(names)
    return resumed(actions, job, rest[1:])


def resumed(actions: Actions, job: MapJob, rest: list[str]) -> Any:
    """Go on with a job and the rows of a name: the one said, or the one it began with."""
    name = rest[0] if rest else str(job.now.spec.get("rows") or "")
    if not name:
        raise BadOption(f"job {job.id} does not know its rows", hint=f"%o3_jobs resume {job.id} df")
    rows = rows_called(name, actions.names)
    source_of(rows)
    return job.resume(rows, names=actions.names, show=show_for(actions.shell))


def listed_jobs(jobs: list[Job]) -> Bundle:
    """All jobs as a table."""
    if not jobs:
        return listing.line("there are no jobs yet: %%o3 --map df, or o3.map(df, prompt)")
    head = ["job", "kind", "name", "state", "rows", "errors", "model", "spent", "since"]
    rows = [
        [
            str(job.id),
            job.kind,
            job.name,
            job.state,
            f"{job.done_rows + job.invalid_rows:,}" + (f" of {job.total:,}" if job.total else ""),
            f"{job.invalid_rows + job.failed_rows:,}",
            job.model,
            show_usd(job.spent_nano_usd),
            f"{datetime.fromtimestamp(job.created_ms / 1000, UTC):%Y-%m-%d %H:%M}",
        ]
        for job in jobs[:MOST_LISTED]
    ]
    return listing.table(head, rows)


def details(job: MapJob) -> Bundle:
    """One job: how it stands, and how it was asked."""
    now = job.now
    said = [("job", f"{now.id} {now.name}".strip()), ("stands", job.words())]
    said += [("said", now.said)] if now.said else []
    spec = {n: v for n, v in now.spec.items() if n not in ("answer",) and v not in ("", False)}
    said += [(name, short(value)) for name, value in spec.items()]
    return listing.table(["", ""], [list(pair) for pair in said])

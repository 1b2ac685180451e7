"""`%%o3 --map df`: a prompt over the rows of a DataFrame, and where its progress is shown."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.events import LABELS
from o3magic.notebook.context import ShellContext
from o3magic.notebook.display import KernelDisplay, front_of
from o3magic.render import tables
from o3magic.render.answer import Bundle
from o3magic.render.markdown.sanitize import plain_text, table_cell
from o3magic.rows.map_job import MapOptions, jobs_of, map_rows
from o3magic.rows.progress import JobProgress, NoProgress, ProgressDisplay, ProgressLines

if TYPE_CHECKING:
    from o3magic.render.terminal import TerminalBar

TERMINAL_INTERVAL_S = 0.2
MARKS = tuple(label.partition(",")[0] for label in LABELS.values())


class TerminalProgressBar:
    """Draws progress in a terminal: the rows beside a bar, errors, rate and money below it."""

    def __init__(self, drawn: TerminalBar, clock: Callable[[], float] = time.monotonic) -> None:
        self._drawn, self._clock = drawn, clock
        self._next_s = 0.0

    def update(self, progress: JobProgress) -> None:
        """Draw it, at most five times a second."""
        if self._clock() < self._next_s and not progress.over:
            return
        self._next_s = self._clock() + TERMINAL_INTERVAL_S
        first, *rest = progress.words().split(" · ")
        share = progress.rows / progress.total if progress.total else None
        percent = "" if share is None else f" · {min(share, 1.0):.0%}"
        self._drawn.draw(
            1.0 if progress.over and share is None else share,
            f"{first}{percent}",
            [(word, style_of(word)) for word in rest],
        )
        if progress.over:
            self._drawn.end(progress.said)


def style_of(word: str) -> str:
    """How one of the words below the bar is set off."""
    if any(mark in word for mark in MARKS):
        return "bold yellow"
    return "red" if word.endswith((" error", " errors")) else "dim"


def in_terminal() -> ProgressDisplay:
    """Where it is shown: beside what a program prints, not among it."""
    if not sys.stderr.isatty():
        return ProgressLines()
    from o3magic.render.terminal import TerminalBar, bar_console

    console = bar_console(sys.stderr)
    return ProgressLines() if console is None else TerminalProgressBar(TerminalBar(console))


INTERVAL_S = 0.5
MOST_CELL_CHARS = 60
MOST_FIELDS = 6


class JobDisplay:
    """One display that follows a job: a bar, a line, the first rows while they come."""

    def __init__(
        self, front: KernelDisplay, display_id: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen, self._id, self._clock = front.screen, display_id, clock
        self._next_s = 0.0
        self._shown: Bundle | None = None

    def update(self, progress: JobProgress) -> None:
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


def bundle_of(progress: JobProgress) -> Bundle:
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


def first_rows(progress: JobProgress) -> Bundle:
    """The rows that came first, as a small table."""
    shown: list[tuple[int, Mapping[str, Any]]] = []
    for place, answer in sorted(progress.landed, key=lambda each: each[0]):
        data = answer.get("data")
        fields = data if isinstance(data, dict) else {"value": data}
        shown.append((place, fields if data is not None else {"text": answer.get("text", "")}))
    names = [*dict.fromkeys(name for _, fields in shown for name in fields)][:MOST_FIELDS]
    rows = [[str(place), *(short(fields.get(name)) for name in names)] for place, fields in shown]
    return tables.table(["row", *names], rows)


def short(value: Any) -> str:
    """A value in a cell."""
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= MOST_CELL_CHARS else text[: MOST_CELL_CHARS - 1] + "…"


def show_for(shell: Any, *, quiet: bool = False) -> ProgressDisplay:
    """Where a shell shows how far a job is; None is plain Python."""
    if quiet:
        return NoProgress()
    front = None if shell is None else front_of(shell, "map")
    if not isinstance(front, KernelDisplay):
        return in_terminal()
    return JobDisplay(front, f"o3magic-map-{secrets.token_hex(4)}")


def map_cell(bench: ShellContext, prompt: str, chosen: Mapping[str, Any]) -> Any:
    """The table of a `%%o3 --map` cell. `--budget` is the budget of all its rows together.

    Raises as `map_rows` does.
    """
    said = dict(chosen)
    budget = said.pop("budget_call", None)
    profile = bench.session.layers.profile(said)
    names = bench.names
    wish = MapOptions(budget=budget, rows_name=profile.map)
    for name in ("map", "out", "quiet"):
        said.pop(name, None)
    show = show_for(bench.shell, quiet=profile.quiet)
    rows = rows_called(profile.map, names)
    with jobs_of(bench.session) as store:
        return map_rows(
            bench.session, store, rows, prompt, names=names, wish=wish, show=show, **said
        )


def rows_called(name: str, names: Mapping[str, Any]) -> Any:
    """The rows of that name. Raises BadOption."""
    if name not in names:
        known = [each for each in names if not each.startswith("_")]
        hint = did_you_mean(name, known, "--map takes the name of a DataFrame or a list of dicts")
        raise BadOption(f"--map {name}: {name} is not defined", hint=hint)
    return names[name]

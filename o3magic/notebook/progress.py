"""`%%o3 --map df`: a prompt for each row of a DataFrame; and the progress of such a job."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.events import LABELS
from o3magic.notebook.context import ShellContext
from o3magic.notebook.display import KernelDisplay, create_display
from o3magic.render import tables
from o3magic.render.answer import Bundle
from o3magic.render.markdown.escape import shorten
from o3magic.render.markdown.sanitize import plain_text, table_cell
from o3magic.rows.map_job import MapOptions, map_rows, use_job_store
from o3magic.rows.progress import JobProgress, NoProgress, ProgressDisplay, ProgressLines

if TYPE_CHECKING:
    from o3magic.render.terminal import TerminalBar

TERMINAL_INTERVAL_S = 0.2
KERNEL_INTERVAL_S = 0.5
MAX_CELL_CHARS = 60
MAX_FIELDS = 6
LABEL_WORDS = tuple(label.partition(",")[0] for label in LABELS.values())


def map_cell(context: ShellContext, prompt: str, chosen: Mapping[str, Any]) -> Any:
    """The table of a `%%o3 --map` cell. `--budget` is the budget of all its rows together.

    Raises as `map_rows` does.
    """
    options = dict(chosen)
    budget = options.pop("budget_call", None)
    settings = context.session.layers.profile(options)
    for name in ("map", "out", "quiet"):
        options.pop(name, None)
    rows = find_rows(settings.map, context.names)
    with use_job_store(context.session) as store:
        return map_rows(
            context.session,
            store,
            rows,
            prompt,
            names=context.names,
            wish=MapOptions(budget=budget, rows_name=settings.map),
            show=create_progress_display(context.shell, quiet=settings.quiet),
            **options,
        )


def find_rows(name: str, names: Mapping[str, Any]) -> Any:
    """The rows with a name. Raises BadOption."""
    if name not in names:
        known = [known for known in names if not known.startswith("_")]
        hint = did_you_mean(name, known, "--map takes the name of a DataFrame or a list of dicts")
        raise BadOption(f"--map {name}: {name} is not defined", hint=hint)
    return names[name]


def create_progress_display(shell: Any, *, quiet: bool = False) -> ProgressDisplay:
    """The display for the progress of a job. shell: None in plain Python."""
    if quiet:
        return NoProgress()
    display = None if shell is None else create_display(shell, "map")
    if isinstance(display, KernelDisplay):
        return JobDisplay(display, f"o3magic-map-{secrets.token_hex(4)}")
    if not sys.stderr.isatty():
        return ProgressLines()
    from o3magic.render.terminal import TerminalBar, bar_console

    console = bar_console(sys.stderr)
    return ProgressLines() if console is None else TerminalProgressBar(TerminalBar(console))


class TerminalProgressBar:
    """Draws progress in a terminal: a bar with the rows; below it errors, rate and money."""

    def __init__(self, bar: TerminalBar, clock: Callable[[], float] = time.monotonic) -> None:
        self._bar, self._clock = bar, clock
        self._next_s = 0.0

    def update(self, progress: JobProgress) -> None:
        """Draw it, at most five times a second."""
        if self._clock() < self._next_s and not progress.over:
            return
        self._next_s = self._clock() + TERMINAL_INTERVAL_S
        first, *rest = progress.words().split(" · ")
        share = progress.rows / progress.total if progress.total else None
        percent = "" if share is None else f" · {min(share, 1.0):.0%}"
        self._bar.draw(
            1.0 if progress.over and share is None else share,
            f"{first}{percent}",
            [(word, style_of(word)) for word in rest],
        )
        if progress.over:
            self._bar.end(progress.said)


def style_of(word: str) -> str:
    """The style of one of the words below the bar."""
    if any(label in word for label in LABEL_WORDS):
        return "bold yellow"
    return "red" if word.endswith((" error", " errors")) else "dim"


class JobDisplay:
    """Progress in a notebook: one display with a bar, a line, and the first rows while it runs."""

    def __init__(
        self, display: KernelDisplay, display_id: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen, self._id, self._clock = display.screen, display_id, clock
        self._next_s = 0.0
        self._shown: Bundle | None = None

    def update(self, progress: JobProgress) -> None:
        """Show it, at most twice a second."""
        now_s = self._clock()
        if now_s < self._next_s and not progress.over:
            return
        self._next_s = now_s + KERNEL_INTERVAL_S
        bundle = progress_bundle(progress)
        if bundle == self._shown:
            return
        send = self._screen.show if self._shown is None else self._screen.update
        send(bundle, self._id)
        self._shown = bundle


def progress_bundle(progress: JobProgress) -> Bundle:
    """A job's progress as Markdown and as text."""
    bar, words, note = progress.bar(), progress.words(), progress.said
    plain = f"{bar} {words}".strip() + (f"\n{plain_text(note)}" if note else "")
    markdown = f"`{bar}` {table_cell(words)}" if bar else table_cell(words)
    if note:
        markdown += f"\n\n{table_cell(note)}"
    if progress.landed and not progress.over:
        rows = first_rows(progress)
        markdown += f"\n\n{rows.data['text/markdown']}"
        plain += f"\n{rows.data['text/plain']}"
    return Bundle({"text/markdown": markdown, "text/plain": plain}, {})


def first_rows(progress: JobProgress) -> Bundle:
    """The rows that were answered first, as a small table."""
    answers: list[tuple[int, Mapping[str, Any]]] = []
    for index, answer in sorted(progress.landed, key=lambda row: row[0]):
        data = answer.get("data")
        if data is None:
            data = {"text": answer.get("text", "")}
        answers.append((index, data if isinstance(data, dict) else {"value": data}))
    names = [*dict.fromkeys(name for _, fields in answers for name in fields)][:MAX_FIELDS]
    rows = [[str(index), *(format_cell(fields.get(n)) for n in names)] for index, fields in answers]
    return tables.table(["row", *names], rows)


def format_cell(value: Any) -> str:
    """A value on one line, cut where it is long; "" for None."""
    return "" if value is None else shorten(str(value), MAX_CELL_CHARS)

"""`o3magic check`: a notebook run again, closed to the network, gives what is stored in it.

Every answer comes out of the notebook's cassette; no key is in the kernel's environment.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.format import EntryKey
from o3magic.cassettes.record_mode import get_cassette_path
from o3magic.cli import check_report, notebooks
from o3magic.cli.check_report import (
    SAME,
    UNREADABLE,
    CellReport,
    CellVerdict,
    NotebookReport,
    heading,
    worst,
)
from o3magic.cli.kernel_runner import CellRun, KernelRunner, variables_for
from o3magic.cli.notebooks import OpenedNotebook, UnreadableNotebook, UnwritableNotebook
from o3magic.cli.output_diff import difference, same
from o3magic.errors import O3Error
from o3magic.render.markdown.escape import plain_text

# Asked in the kernel: not every answer that is used is shown in an output.
USED = (
    "(lambda magics: __import__('json').dumps("
    "magics.opened.session.decks.used() if magics and magics.opened else {}))"
    "(get_ipython().magics_manager.registry.get('O3Magics'))"
)


def places(path: Path, said: str) -> set[EntryKey] | None:
    """Keys and numbers of the takes in use, out of what the kernel said; None if it did not."""
    if not said:
        return None
    by_path = json.loads(said)
    used = by_path.get(str(get_cassette_path(path.absolute(), os.environ).absolute()), ())
    return {(key, n) for key, n in used}


def cassette_of(path: Path) -> Cassette:
    """The cassette of a notebook."""
    return Cassette(get_cassette_path(path, os.environ))


def findings(path: Path, used: Collection[EntryKey]) -> list[str]:
    """What a strict check does not let pass."""
    cassette = cassette_of(path)
    if not cassette.exists:
        return []
    found = [f"not in use: {told(take)}" for take in cassette.unused(used)]
    for take in cassette.entries:
        if take.place in used and take.source == "hand":
            found.append(f"written by hand: {told(take)}")
        elif take.place in used and take.edited:
            found.append(f"edited by hand: {told(take)}")
    return found


def prune(path: Path, used: Collection[EntryKey]) -> list[str]:
    """Delete the takes that are not in use, and tell which."""
    cassette = cassette_of(path)
    if not cassette.exists or not cassette.unused(used):
        return []
    return [f"deleted from the cassette: {told(take)}" for take in cassette.prune(used)]


def told(take: Recording) -> str:
    """A take in one line."""
    return f"{take.key} n={take.n}, recorded {take.recorded or 'on an unknown day'}"


TIMEOUT_S = 600.0  # per cell: a build server should not hang
IGNORED, SKIPPED = "o3-ignore-output", "o3-skip"
SECRET = re.compile(r"(?:(?:^|_)KEY|APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$", re.I)
COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")
# Settings, addresses and vocabularies; where the cassettes are belongs to the notebooks.
OWN = re.compile(r"O3MAGIC_(?!CASSETTES$)|(?:AZURE_)?OPENAI_|(?:TIKTOKEN|DATA_GYM)_CACHE_DIR$")
FIXED = {
    "O3MAGIC_CONFIG": os.devnull,
    "O3MAGIC_MODE": "replay",
    "O3MAGIC_REPLAY_SPEED": "0",
    "O3MAGIC_LEDGER": ":memory:",
    "PYTHONHASHSEED": "0",
    "TZ": "UTC",
    "COLUMNS": "80",
    "NO_COLOR": "1",
}


@dataclass(frozen=True)
class CheckOptions:
    """What was said on the command line."""

    update: bool = False
    strict: bool = False
    prune: bool = False
    kernel: str = ""
    timeout_s: float | None = TIMEOUT_S


def run(
    names: Sequence[str], options: CheckOptions, *, json_file: str = "", junit_file: str = ""
) -> int:
    """Check the notebooks, tell what was found, write the reports. Gives the exit code."""
    found: list[NotebookReport] = []
    for name in names:
        try:
            paths = notebooks.found([name])
        except UnreadableNotebook as error:
            found.append(NotebookReport(Path(name), problem=str(error), hint=error.hint))
            print("\n".join(check_report.lines(found[-1])), flush=True)
            continue
        for path in paths:
            found.append(check(path, options))
            print("\n".join(check_report.lines(found[-1])), flush=True)
    try:
        check_report.write_files(found, json_file, junit_file)
    except UnwritableNotebook as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return UNREADABLE
    return worst(found)


def check(path: Path, options: CheckOptions) -> NotebookReport:
    """Run a notebook again and compare it with what is stored."""
    try:
        opened = notebooks.read(path)
        if options.update:
            refuse_update(opened)
        return compared(opened, options)
    except (UnreadableNotebook, UnwritableNotebook) as error:
        return NotebookReport(path, problem=str(error), hint=error.hint)


def refuse_update(opened: OpenedNotebook) -> None:
    """Raise UnwritableNotebook where the notebook could not be updated."""
    if opened.major < 4:
        told = f"{opened.path} is in nbformat {opened.major}, and would be written as another"
        raise UnwritableNotebook(told, hint="o3magic run --output NEW.ipynb")
    notebooks.check_replaceable(opened.path)


def compared(opened: OpenedNotebook, options: CheckOptions) -> NotebookReport:
    """A notebook that could be read, run and compared."""
    again = copy.deepcopy(opened.notebook)
    runner = KernelRunner(
        again,
        opened.path.absolute().parent,
        environment(os.environ, opened.path),
        kernel=options.kernel,
        timeout_s=options.timeout_s,
        closed=True,
        goes_on=True,
        skipped=SKIPPED,
        asked_last=USED if options.strict or options.prune else "",
    )
    steps = {step.index: step for step in runner.play()} if runner.code_cells else {}
    if any(step.state == "stopped" for step in steps.values()):
        raise KeyboardInterrupt
    cells = []
    for number, index in enumerate(runner.code_cells, 1):
        before, after, step = opened.notebook.cells[index], again.cells[index], steps.get(index)
        verdict, told = judged(before, after, step, options)
        took_s = step.elapsed_s if step else 0.0
        cells.append(CellReport(number, before.id, heading(before), verdict, tuple(told), took_s))
    checked = NotebookReport(opened.path, tuple(cells), notes=tuple(notes(opened)))
    if options.update:
        checked = updated(opened, again, checked)
    return with_cassette(checked, runner.answered_last, options)


def environment(variables: Mapping[str, str], path: Path) -> dict[str, str]:
    """What the kernel gets: no key, no colours, and the same settings everywhere.

    The user's own settings stay out: what passes here shall pass on any other machine.
    """
    kept = {
        name: value
        for name, value in variables.items()
        if not SECRET.search(name) and name not in COLOURS and not OWN.match(name)
    }
    return variables_for(path, kept) | FIXED


def judged(
    before: Any, after: Any, step: CellRun | None, options: CheckOptions
) -> tuple[CellVerdict, Sequence[str]]:
    """The verdict on a cell, and what to tell of it."""
    if step is None:
        return "not run", ()
    if step.state == "skipped":
        return "skipped", ()
    if step.state == "died":
        return "failed", ["the kernel died in this cell"]
    if step.state == "timed out":
        return "failed", [f"it did not end within {options.timeout_s:g} s and was stopped"]
    if step.state == "failed" and step.failure is not None:
        place = f"line {step.failure.line}: " if step.failure.line else ""
        first, *more = map(plain_text, step.failure.lines)
        return "failed", [place + first, *more]
    if IGNORED in before.metadata.get("tags", []):
        return "ignored", ()
    if same(before.outputs, after.outputs):
        return "same", ()
    return "different", difference(before.outputs, after.outputs)


def notes(opened: OpenedNotebook) -> list[str]:
    """What is worth knowing about the file itself."""
    found = []
    if opened.major < 4:
        found.append(f"nbformat {opened.major}: upgraded in memory, the file is as it was")
    code = [cell for cell in opened.notebook.cells if cell.cell_type == "code"]
    if code and not any(cell.outputs for cell in code):
        found.append("no outputs are stored in it: o3magic run writes them")
    return found


def updated(opened: OpenedNotebook, again: Any, checked: NotebookReport) -> NotebookReport:
    """The same with the new outputs written, where all cells ran and some differ."""
    if checked.of("failed", "not run"):
        return noted(checked, "not updated: for that all its cells have to run")
    if not checked.of("different"):
        return checked
    for before, after in zip(opened.notebook.cells, again.cells, strict=True):
        tags = before.metadata.get("tags", [])
        if before.cell_type == "code" and IGNORED not in tags and SKIPPED not in tags:
            before["outputs"], before["execution_count"] = after.outputs, after.execution_count
    notebooks.tidy(opened.notebook)
    written = notebooks.save(opened, opened.notebook)
    if written != opened.path:
        told = f"it was changed while it ran and is left as it is: see {written}"
        return noted(checked, told)
    return replace(checked, updated=True)


def with_cassette(checked: NotebookReport, said: str, options: CheckOptions) -> NotebookReport:
    """The same with what is to tell of the notebook's cassette. said: what the kernel answered."""
    if not (options.strict or options.prune) or checked.code != SAME:
        return checked
    if checked.of("skipped"):
        return noted(checked, "cassette not looked at: cells were skipped that may need it")
    try:
        used = places(checked.path, said)
        if used is None:
            return noted(checked, "cassette not looked at: the kernel does not say what it used")
        told = prune(checked.path, used) if options.prune else []
        found = findings(checked.path, used) if options.strict else []
    except O3Error as error:
        return replace(checked, findings=tuple(error.lines()))
    return replace(checked, notes=(*checked.notes, *told), findings=tuple(found))


def noted(checked: NotebookReport, told: str) -> NotebookReport:
    """The same with one more note."""
    return replace(checked, notes=(*checked.notes, told))

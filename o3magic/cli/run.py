"""`o3magic run`: notebooks run from the command line, their outputs written into them."""

from __future__ import annotations

import ast
import json
import keyword
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from rich.console import Console
from rich.status import Status
from rich.text import Text

from o3magic.cli import notebooks
from o3magic.cli.check_report import heading
from o3magic.cli.kernel_runner import CellRun, KernelRunner, variables_for
from o3magic.cli.notebooks import OpenedNotebook, UnreadableNotebook, UnwritableNotebook
from o3magic.errors import BadOption
from o3magic.render.markdown.escape import plain_text

WORDS = {"true": True, "false": False, "null": None, "none": None, "~": None}
TAG, INJECTED = "parameters", "injected-parameters"


def value_of(word: str) -> Any:
    """A word as a number, a truth, None, a list or dict of them, else as the text it is."""
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(word)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if is_plain(value):
            return value
    return word


def is_plain(value: Any) -> bool:
    """Whether a value has a literal that gives it back."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def check_name(name: str) -> str:
    """A name that can be assigned. Raises BadOption."""
    if not name.isidentifier() or keyword.iskeyword(name):
        hint = "-p name value, the name as in Python"
        raise BadOption(f"{name!r} cannot be the name of a parameter", hint=hint)
    return name


def inject(notebook: Any, values: Mapping[str, Any]) -> None:
    """Put the values into the notebook, behind its own."""
    if not values:
        return
    lines = [f"{check_name(name)} = {value!r}" for name, value in values.items()]
    source = "\n".join(["# Parameters", *lines])
    for cell in notebook.cells:
        if INJECTED in cell.metadata.get("tags", []):
            cell["source"] = source
            return
    places = [i for i, c in enumerate(notebook.cells) if TAG in c.metadata.get("tags", [])]
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": [INJECTED]}, id=INJECTED)
    notebook.cells.insert(places[0] + 1 if places else 0, cell)


def declared(notebook: Any) -> set[str] | None:
    """The names its `parameters` cell sets, or None where there is no such cell."""
    for cell in notebook.cells:
        if TAG in cell.metadata.get("tags", []):
            try:
                tree = ast.parse(cell.source)
            except SyntaxError:
                return None
            names = (n for n in ast.walk(tree) if isinstance(n, ast.Name))
            return {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return None


FAILED, UNREADABLE, STOPPED = 2, 3, 130


@dataclass(frozen=True)
class RunCommandOptions:
    """What was said on the command line.

    variables: for the kernel besides its own. goes_on: a cell that fails does not end the run.
    """

    mode: str = ""
    output: str = ""
    kernel: str = ""
    timeout_s: float | None = None
    budget: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    goes_on: bool = False


def run(names: Sequence[str], options: RunCommandOptions) -> int:
    """Run the notebooks, one after the other. Gives the worst exit code among them."""
    for name in options.values:
        check_name(name)
    worst = 0
    try:
        paths = notebooks.found(names)
        targets = [target_of(path, options.output, len(paths)) for path in paths]
    except (UnreadableNotebook, UnwritableNotebook) as error:
        return tell_error(error)
    for path, target in zip(paths, targets, strict=True):
        if len(paths) > 1:
            tell(str(path))
        try:
            code = run_one(path, target, options)
        except (UnreadableNotebook, UnwritableNotebook) as error:
            code = tell_error(error)
        worst = max(worst, code)
        if code == STOPPED:
            break
    return worst


def target_of(path: Path, output: str, count: int) -> Path:
    """Where a notebook goes: into its own place, a file that is named, or a folder."""
    if not output:
        return path
    target = Path(output)
    if target.is_dir():
        return target / path.name
    if count > 1 or output.endswith(("/", os.sep)):
        raise UnwritableNotebook(f"there is no folder {target}", hint=f"mkdir -p {target}")
    if target.suffix != notebooks.SUFFIX:
        raise UnwritableNotebook(f"{target} would not be a notebook", hint=f"{target}.ipynb")
    return target


def run_one(path: Path, target: Path, options: RunCommandOptions) -> int:
    """Run one notebook and write it."""
    opened = notebooks.read(path)
    in_place = target.exists() and target.samefile(path)
    if in_place and opened.major < 4:
        told = f"{path} is in nbformat {opened.major}, and would be written as another format"
        raise UnwritableNotebook(told, hint=f"--output NEW{notebooks.SUFFIX}")
    notebooks.check_replaceable(target)
    warn_of_unknown(opened, options.values)
    inject(opened.notebook, options.values)
    runner = RunProgress(opened, options)
    written = None
    try:
        runner.play()
    except KeyboardInterrupt:
        runner.was_stopped = True
    finally:
        # Answers that were paid for are written down, whatever went wrong.
        if runner.steps or not runner.code_cells:
            written = write(opened, target, in_place)
    if written is None:
        return STOPPED
    if written != target:
        tell(f"{target} was changed while it ran and is left as it is: see {written}")
    return conclude(path, runner)


def write(opened: OpenedNotebook, target: Path, in_place: bool) -> Path:
    """Write what there is, and say where."""
    language = opened.notebook.metadata.get("kernelspec", {}).get("language", "python")
    opened.notebook.metadata.setdefault("language_info", {"name": language})
    notebooks.tidy(opened.notebook)
    if in_place:
        return notebooks.save(opened, opened.notebook)
    notebooks.replace(target, notebooks.encoded(opened.notebook))
    return target


def warn_of_unknown(opened: OpenedNotebook, values: Mapping[str, Any]) -> None:
    """A parameter that the notebook does not know is likely misspelt."""
    known = declared(opened.notebook)
    for name in values:
        if known is not None and name not in known:
            tell(f"{opened.path}: its parameters cell does not set {name}")


def environment(opened: OpenedNotebook, options: RunCommandOptions) -> dict[str, str]:
    """What the kernel gets."""
    # Nobody watches: what is replayed comes at once.
    said = {"O3MAGIC_REPLAY_SPEED": "0", **variables_for(opened.path, os.environ)}
    if options.mode:
        said["O3MAGIC_MODE"] = options.mode
    if options.budget:
        said["O3MAGIC_BUDGET_NOTEBOOK"] = options.budget
    return {**said, **options.variables}


class RunProgress(KernelRunner):
    """A run that tells of each cell on stderr: as lines, and on a terminal what runs now."""

    def __init__(self, opened: OpenedNotebook, options: RunCommandOptions) -> None:
        super().__init__(
            opened.notebook,
            opened.path.absolute().parent,
            environment(opened, options),
            kernel=options.kernel,
            timeout_s=options.timeout_s,
            goes_on=options.goes_on,
        )
        self.was_stopped = False
        console = Console(stderr=True, highlight=False)
        self._status = Status("", console=console) if console.is_terminal else None

    def begun(self, cell: Any, number: int) -> None:
        """Show which cell runs."""
        if self._status is not None:
            self._status.update(Text(f"[{number}/{len(self.code_cells)}] {heading(cell)}"))
            self._status.start()

    def ended(self, cell: Any, step: CellRun) -> None:
        """Print how it went."""
        if self._status is not None:
            self._status.stop()
        took = "" if step.state == "skipped" else f" {step.elapsed_s:.1f} s"
        tell(f"[{step.number}/{len(self.code_cells)}] {step.state}{took}")


def conclude(path: Path, runner: RunProgress) -> int:
    """Say how it ended, if it did not end well; the exit code."""
    last = runner.steps[-1] if runner.steps else None
    if last is None or (last.state in ("ok", "skipped") and not runner.was_stopped):
        return 0
    for line in told(path, last, len(runner.code_cells), runner.limit_s):
        tell(line)
    rest = len(runner.code_cells) - last.number
    if rest:
        cells = "cell" if rest == 1 else "cells"
        tell(f"  the {rest} {cells} after it did not run and keep what they had")
    return STOPPED if last.state == "stopped" or runner.was_stopped else FAILED


def told(path: Path, step: CellRun, count: int, timeout_s: float | None) -> list[str]:
    """What became of a cell that did not end well."""
    cell = f"{path}: cell {step.number} of {count}"
    if step.state == "died":
        return [f"{cell}: the kernel died in it", "  try: the cell alone, or with less memory"]
    if step.state == "timed out":
        return [f"{cell} did not end within {timeout_s:g} s and was stopped", "  try: --timeout"]
    if step.failure is None or step.state == "stopped":
        return [f"{cell} was stopped"]
    place = f" in line {step.failure.line}" if step.failure.line else ""
    first, *more = map(plain_text, step.failure.lines)
    return [f"{cell} failed{place}: {first}", *more]


def tell(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr, flush=True)


def tell_error(error: UnreadableNotebook | UnwritableNotebook) -> int:
    """What is wrong with a file, and its exit code."""
    tell("\n".join(error.lines()))
    return UNREADABLE


def values_of(pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The parameters of `-p name value`; of two with one name the later holds."""
    return {name: value_of(word) for name, word in pairs}


def check_budget(word: str) -> str:
    """An amount in USD. Raises BadOption."""
    try:
        amount = float(word)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise BadOption(f"--budget {word} is no amount in USD", hint="--budget 0.50")
    return word

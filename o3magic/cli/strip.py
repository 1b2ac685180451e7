"""`o3magic strip`: outputs out of notebooks; from files in place, or as a filter of git."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from o3magic.cli import notebooks
from o3magic.cli.notebooks import UnreadableNotebook, UnwritableNotebook
from o3magic.cli.output_diff import LINK, WIDGET

StripKind = Literal["all", "o3", "unreproducible"]
DONE, WOULD_CHANGE, UNREADABLE = 0, 1, 3
STREAM = "-"
QUESTION = re.compile(r"\s*%%?o3(?:\s|$)", re.MULTILINE)


def run(names: Sequence[str], kind: StripKind, *, check: bool) -> int:
    """Strip the notebooks. check: change nothing, and tell which would be changed."""
    if list(names) == [STREAM]:
        return from_stream(sys.stdin.buffer, sys.stdout.buffer, kind, check=check)
    try:
        paths = notebooks.found(names)
    except UnreadableNotebook as error:
        return tell(error)
    worst = DONE
    for path in paths:
        try:
            worst = max(worst, strip_file(path, kind, check=check))
        except (UnreadableNotebook, UnwritableNotebook) as error:
            worst = max(worst, tell(error))
    return worst


def from_stream(source: BinaryIO, target: BinaryIO, kind: StripKind, *, check: bool) -> int:
    """Read one notebook, write it stripped; nothing is written where it is no notebook."""
    try:
        notebook = taken("the standard input", source.read())
    except UnreadableNotebook as error:
        return tell(error)
    changed = strip(notebook, kind)
    if check:
        return WOULD_CHANGE if changed else DONE
    target.write(notebooks.encoded(notebook))
    target.flush()
    return DONE


def strip_file(path: Path, kind: StripKind, *, check: bool) -> int:
    """Strip one file; one with nothing to strip stays as it is, to the byte."""
    opened = notebooks.read(path)
    notebook = taken(str(path), path.read_bytes())
    if not strip(notebook, kind):
        return DONE
    if check:
        print(f"{path}: has outputs to strip")
        return WOULD_CHANGE
    notebooks.check_replaceable(path)
    written = notebooks.save(opened, notebook)
    print(f"{written}: stripped")
    return DONE


def taken(name: str, data: bytes) -> Any:
    """A notebook in its own minor format, so that stripping it changes nothing else."""
    notebook, major = notebooks.parse(data, name)
    if major < 4:
        told = f"{name} is in nbformat {major}, and would be written as another format"
        raise UnreadableNotebook(told, hint="o3magic run --output NEW.ipynb")
    return notebook


def strip(notebook: Any, kind: StripKind) -> bool:
    """Take out what `kind` says, and tell whether there was any of it."""
    before = notebooks.encoded(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            strip_cell(cell, kind)
    if kind != "o3":
        notebooks.tidy(notebook)
    return notebooks.encoded(notebook) != before


def strip_cell(cell: Any, kind: StripKind) -> None:
    """Take the outputs out of a code cell, or those that have to go."""
    if kind == "all":
        cell["outputs"] = []
    else:
        asks = bool(QUESTION.search(cell.source))
        goes = is_of_o3 if kind == "o3" else is_unreproducible
        cell["outputs"] = [output for output in cell.outputs if not goes(output, asks)]
    if kind != "o3":
        cell["execution_count"] = None
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output["execution_count"] = None


def is_of_o3(output: Any, asks: bool) -> bool:
    """Whether an output is an answer: it says so, or it stands below a question."""
    return LINK in output.get("metadata", {}) or (asks and output.output_type == "display_data")


def is_unreproducible(output: Any, asks: bool) -> bool:
    """Whether a check could not get an output again.

    That is what went to stderr, a widget, and an answer that is on no cassette.
    """
    if output.output_type == "stream":
        return bool(output.name == "stderr")
    if WIDGET in output.get("data", {}):
        return True
    return LINK not in output.get("metadata", {}) and is_of_o3(output, asks)


def tell(error: UnreadableNotebook | UnwritableNotebook) -> int:
    """What is wrong with a file, and its exit code."""
    print("\n".join(error.lines()), file=sys.stderr)
    return UNREADABLE

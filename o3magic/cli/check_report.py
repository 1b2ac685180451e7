"""What a check found: as lines for a person, as JSON, and as JUnit's XML for a build server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from o3magic.cli import notebooks
from o3magic.render.markdown.escape import plain_text
from o3magic.version import __version__

SAME, DIFFERENT, FAILED, UNREADABLE = 0, 1, 2, 3
WIDEST = 60

CellVerdict = Literal["same", "different", "failed", "ignored", "skipped", "not run"]


@dataclass(frozen=True)
class CellReport:
    """What became of a code cell, and what there is to tell: a diff, or an error."""

    number: int
    id: str
    heading: str
    verdict: CellVerdict
    told: tuple[str, ...] = ()
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class NotebookReport:
    """What became of a notebook.

    problem: why it could not be checked, or "". findings: what is wrong with its cassette.
    """

    path: Path
    cells: tuple[CellReport, ...] = ()
    problem: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    updated: bool = False

    @property
    def code(self) -> int:
        """The exit code."""
        if self.problem:
            return UNREADABLE
        if self.of("failed", "not run"):
            return FAILED
        if (self.of("different") and not self.updated) or self.findings:
            return DIFFERENT
        return SAME

    @property
    def elapsed_s(self) -> float:
        """Seconds of all cells."""
        return sum(cell.elapsed_s for cell in self.cells)

    def of(self, *verdicts: CellVerdict) -> list[CellReport]:
        """The cells with one of these verdicts."""
        return [cell for cell in self.cells if cell.verdict in verdicts]


def worst(found: Sequence[NotebookReport]) -> int:
    """The exit code of several notebooks."""
    return max((checked.code for checked in found), default=SAME)


def heading(cell: Any) -> str:
    """The first line of a cell, as a terminal may show it."""
    line = plain_text(cell.source.strip().partition("\n")[0])
    return line if len(line) <= WIDEST else f"{line[:WIDEST]}..."


WORDS = {0: "same", 1: "different", 2: "failed", 3: "unreadable"}
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def lines(checked: NotebookReport) -> Iterator[str]:
    """A summary, then what is not as it should be, cell by cell."""
    yield summary(checked)
    if checked.hint:
        yield f"  try: {checked.hint}"
    yield from (f"  note: {note}" for note in checked.notes)
    yield from (f"  {finding}" for finding in checked.findings)
    for cell in checked.of("different", "failed"):
        yield f"  cell {cell.number} ({cell.id}) {cell.verdict}: {cell.heading}"
        yield from (f"    {line}" for line in cell.told)


def summary(checked: NotebookReport) -> str:
    """One line."""
    if checked.problem:
        return checked.problem
    count = len(checked.cells)
    parts = []
    for verdict in ("different", "failed", "not run", "skipped", "ignored"):
        if found := len(checked.of(verdict)):
            parts.append(f"{found} {verdict}")
    if checked.updated:
        parts.append("updated")
    if checked.findings:
        parts.append("cassette")
    said = ", ".join(parts) or "same"
    cells = "cell" if count == 1 else "cells"
    return f"{checked.path}: {said} ({count} {cells}, {checked.elapsed_s:.1f} s)"


def as_json(found: Sequence[NotebookReport]) -> dict[str, Any]:
    """The same as a value of JSON."""
    return {
        "o3magic": __version__,
        "code": worst(found),
        "notebooks": [notebook_as_json(checked) for checked in found],
    }


def notebook_as_json(checked: NotebookReport) -> dict[str, Any]:
    """One notebook of it."""
    return {
        "path": str(checked.path),
        "code": checked.code,
        "result": WORDS[checked.code],
        "problem": checked.problem,
        "notes": list(checked.notes),
        "findings": list(checked.findings),
        "updated": checked.updated,
        "cells": [
            {
                "number": cell.number,
                "id": cell.id,
                "heading": cell.heading,
                "result": cell.verdict,
                "told": list(cell.told),
                "elapsed_s": round(cell.elapsed_s, 3),
            }
            for cell in checked.cells
        ],
    }


def as_junit(found: Sequence[NotebookReport]) -> bytes:
    """The same as JUnit's XML: a suite for each notebook, a case for each cell."""
    top = ElementTree.Element("testsuites", name="o3magic check")
    for checked in found:
        suite = ElementTree.SubElement(top, "testsuite", name=clean(str(checked.path)))
        for cell in checked.cells:
            add_case(suite, checked, cell)
        if checked.problem or checked.findings:
            told = [checked.problem] if checked.problem else list(checked.findings)
            case = ElementTree.SubElement(suite, "testcase", name="notebook", time="0")
            case.set("classname", clean(str(checked.path)))
            kind = "error" if checked.problem else "failure"
            ElementTree.SubElement(case, kind, message=clean(told[0])).text = clean("\n".join(told))
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
        suite.set("tests", str(len(suite.findall("testcase"))))
        suite.set("time", f"{checked.elapsed_s:.3f}")
    ElementTree.indent(top)
    text: bytes = ElementTree.tostring(top, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def add_case(suite: ElementTree.Element, checked: NotebookReport, cell: CellReport) -> None:
    """One cell of a suite."""
    case = ElementTree.SubElement(suite, "testcase", classname=clean(str(checked.path)))
    case.set("name", clean(f"cell {cell.number} ({cell.id})"))
    case.set("time", f"{cell.elapsed_s:.3f}")
    if cell.verdict in ("skipped", "not run"):
        ElementTree.SubElement(case, "skipped", message=cell.verdict)
    elif cell.verdict == "failed":
        message = cell.told[0] if cell.told else cell.heading
        ElementTree.SubElement(case, "error", message=clean(message)).text = body(cell)
    elif cell.verdict == "different" and not checked.updated:
        ElementTree.SubElement(case, "failure", message="outputs differ").text = body(cell)


def body(cell: CellReport) -> str:
    """What there is to tell of a cell."""
    return clean("\n".join([cell.heading, *cell.told]))


def clean(text: str) -> str:
    """A text without the signs that XML cannot hold."""
    return NOT_XML.sub("\ufffd", text)


def write_files(found: Sequence[NotebookReport], json_file: str, junit_file: str) -> None:
    """Write the reports that were asked for."""
    if json_file:
        text = json.dumps(as_json(found), indent=1, ensure_ascii=False)
        data = f"{text}\n".encode("utf-8", "backslashreplace")
        notebooks.replace(Path(json_file), data)
    if junit_file:
        notebooks.replace(Path(junit_file), as_junit(found))

"""`pytest --o3magic notebooks/`: every notebook is a test that is what `o3magic check` finds.

pytest loads this module wherever o3magic is installed, so the rest comes with the first notebook.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The words this plugin adds to pytest's own."""
    group = parser.getgroup("o3magic", "notebooks checked against their stored outputs")
    group.addoption("--o3magic", action="store_true", help="check the notebooks that are collected")
    group.addoption(
        "--o3magic-update",
        action="store_true",
        help="check them, and write the outputs that differ into them",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A notebook is a file of one test, where it is asked for."""
    options = parent.config.option
    if file_path.suffix != ".ipynb" or not (options.o3magic or options.o3magic_update):
        return None
    if any(part.startswith(".") for part in file_path.parts[len(parent.path.parts) :]):
        return None
    found: pytest.Collector = NotebookFile.from_parent(parent, path=file_path)
    return found


class OutputsDiffer(Exception):
    """What was found, cell by cell."""


class NotebookFile(pytest.File):
    """A file with one test."""

    def collect(self) -> Iterator[pytest.Item]:
        """That test."""
        item: pytest.Item = NotebookItem.from_parent(self, name="check")
        yield item


class NotebookItem(pytest.Item):
    """A notebook run again and compared; its cells are told in the failure and as properties."""

    def runtest(self) -> None:
        """Check the notebook. Raises Differs."""
        from o3magic.cli.check import CheckOptions, check
        from o3magic.cli.check_report import lines

        checked = check(self.shown_path(), CheckOptions(update=self.config.option.o3magic_update))
        for cell in checked.cells:
            self.user_properties.append((f"cell {cell.number} ({cell.id})", cell.verdict))
        if checked.code:
            raise OutputsDiffer("\n".join(lines(checked)))

    def shown_path(self) -> Path:
        """The path as a person at the prompt would write it."""
        started = self.config.invocation_params.dir
        return self.path.relative_to(started) if self.path.is_relative_to(started) else self.path

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The report, without the traceback of this plugin."""
        if isinstance(excinfo.value, OutputsDiffer):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it is, and its name."""
        return self.path, None, str(self.shown_path())

"""Ledgers on real files, a clock that is set by hand, and other processes that use the ledger."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import o3magic.cost.ledger
from o3magic.cost.ledger import Ledger

Start = Callable[..., subprocess.Popen[str]]
PACKAGE_ROOT = Path(o3magic.cost.ledger.__file__).parents[2]


@dataclass
class Clock:
    """Says whatever time it was set to."""

    now: datetime = datetime(2026, 3, 4, 12, tzinfo=UTC)

    def __call__(self) -> int:
        return (self.now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    with closing(Ledger(path, clock=clock)) as opened:
        yield opened


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs Python source in a process of its own, which does not outlive the test."""
    with ExitStack() as running:

        def run(source: str, *arguments: object) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", source, *map(str, arguments)]
            child = subprocess.Popen(
                command,
                cwd=PACKAGE_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            running.enter_context(child)
            running.callback(child.kill)
            return child

        yield run

"""Cassettes in real files, takes to put into them, and other processes that write them too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import o3magic.cassettes.entry
from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.events import Answer, Finished, Usage
from o3magic.messages import Message

Start = Callable[..., subprocess.Popen[str]]
PACKAGE_ROOT = Path(o3magic.cassettes.entry.__file__).parents[2]
WHEN = datetime(2026, 11, 21, 0, 12, 45, tzinfo=UTC)


def question(prompt: str = "Explain rain\nin two lines", **said: Any) -> CanonicalRequest:
    """A question of one message."""
    return CanonicalRequest(
        **{"model": "o3-mini", "messages": (Message.of("user", prompt),)} | said
    )


def take(prompt: str = "Explain rain\nin two lines", text: str = "", n: int = 1, **said: Any):
    """A recorded take."""
    usage = Usage(12, 0, 40, 32, total_tokens=52)
    answer = Answer(
        text=text or f"About: {prompt}\nSecond line.\n",
        model="o3-mini-2025-01-31",
        id="resp_1",
        provider="openai",
        cost_usd=Decimal("0.000189"),
        elapsed_s=4.12,
        first_token_s=2.31,
    )
    finished = Finished("stop", usage, id="resp_1", model="o3-mini-2025-01-31")
    asked = question(prompt, **{k: v for k, v in said.items() if k != "recorded"})
    return Recording.of(asked, n, answer, finished, recorded=said.get("recorded", WHEN), chunks=9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "01-quickstart.o3.json"


@pytest.fixture
def cassette(path: Path) -> Cassette:
    return Cassette(path)


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs Python source in a process of its own, which does not outlive the test."""
    with ExitStack() as running:

        def run(source: str, *arguments: object, **more: Any) -> subprocess.Popen[str]:
            child = subprocess.Popen(
                [*more.pop("before", ()), sys.executable, "-c", source, *map(str, arguments)],
                cwd=PACKAGE_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **more,
            )
            running.enter_context(child)
            running.callback(child.kill)
            return child

        yield run

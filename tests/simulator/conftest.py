"""A simulator on a real socket, a client for it, and the published schemas that judge it."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from o3magic.simulator import Simulator

API = Path(__file__).resolve().parents[3] / "shared" / "api"
Json = dict[str, Any]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A running simulator."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def http(sim: Simulator) -> Iterator[httpx.Client]:
    """A client whose base URL is the simulator's."""
    with httpx.Client(base_url=sim.base_url, timeout=10) as client:
        yield client


@pytest.fixture
def api() -> Path:
    """The folder with what is known of the API."""
    if not API.is_dir():
        pytest.skip(f"no API descriptions at {API}")
    return API


@pytest.fixture
def valid(api: Path) -> Callable[[str, Any], None]:
    """Asserts that a value fulfils one of the published schemas."""
    loaded: dict[str, jsonschema.Draft202012Validator] = {}

    def check(name: str, value: Any) -> None:
        if name not in loaded:
            schema = json.loads((api / "schemas" / f"{name}.json").read_text("utf-8"))
            loaded[name] = jsonschema.Draft202012Validator(schema)
        faults = [f"{list(e.path)}: {e.message[:200]}" for e in loaded[name].iter_errors(value)]
        assert not faults, f"{name}: {faults[:3]} in {json.dumps(value)[:400]}"

    return check


@pytest.fixture
def events() -> Callable[[httpx.Response], list[Json]]:
    """Reads the events of a whole stream; each `event:` line must repeat the type."""

    def read(response: httpx.Response) -> list[Json]:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = []
        for frame in response.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line)
            if "data" in fields and fields["data"] != "[DONE]":
                event = json.loads(fields["data"])
                assert fields.get("event", event.get("type")) == event.get("type")
                found.append(event)
        return found

    return read


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Whether something becomes true within two seconds."""

    def wait(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 2
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.005)
        return condition()

    return wait

"""Many small structured rows against a server at 200 ms latency, beside other libraries.

`python -m tests.benchmarks.bench_map_peers [rows] [--python PATH ...]`: the job of bench_map at 64
and 256 in flight by o3.map, the openai SDK, litellm, pydantic-ai, langchain-openai and instructor,
all in one run. Each has a process of its own; the server has another.

The others are not among the extras of this package: pip install openai litellm
"pydantic-ai-slim[openai]" langchain-openai instructor. They hold one another back: litellm asks for
an openai before 3, whose connection pool is another. So more environments can be named with
--python, with nothing of ours in them: a library is measured in the first that has it, this one
before all, and the table says its version. With --each it is measured once with each openai it was
found with. A library that no environment has is left out.

--peer-rows gives all but o3.map and the SDK fewer rows; rows/s is over those. It flatters them: the
pool of an openai before 3 is the slower the more rows it has behind it.

The goals are for 256 in flight: rows/s of ours over theirs, and what a row of ours costs of CPU.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.row_peers import (
    HEAD,
    LATENCY_S,
    Found,
    cells,
    sdk,
    with_instructor,
    with_langchain,
    with_litellm,
    with_pydantic_ai,
)
from tests.benchmarks.side_by_side import show
from tests.rows.loopback import Server, served

OURS = "o3.map"
PEERS = {
    "openai": sdk,
    "litellm": with_litellm,
    "pydantic-ai-slim": with_pydantic_ai,
    "langchain-openai": with_langchain,
    "instructor": with_instructor,
}
GOALS = {
    "openai": 2.5,
    "litellm": 4.0,
    "pydantic-ai-slim": 6.0,
    "langchain-openai": 6.0,
    "instructor": 15.0,
}
WIDTHS = (64, 256)
MOST_CPU_US, MOST_CPU_SHARE = 1000, 1 / 3
# Nothing is fetched, traced or reported, and no proxy stands before loopback.
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "HF_HUB_OFFLINE": "1",
    "NO_PROXY": "127.0.0.1",
}
VERSIONS = """
import importlib.metadata as metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Client:
    """Who is measured, and by which interpreter."""

    name: str
    label: str
    python: str


class Failed(Exception):
    """A process did not come to its end."""


def said_by(python: str, *given: str) -> Any:
    """The last line of a process as JSON. Whatever it logged is shown: it should be nothing."""
    process = subprocess.run(
        [python, *given], cwd=ROOT, env=os.environ | QUIET, capture_output=True, text=True
    )
    if process.stderr:
        print(process.stderr, file=sys.stderr)
    if process.returncode:
        raise Failed((process.stderr.strip().splitlines() or ["no word"])[-1])
    *before, last = process.stdout.splitlines()
    if before:
        print(*before, sep="\n", file=sys.stderr)
    return json.loads(last)


def clients(pythons: list[str], each: bool) -> Iterator[Client]:
    """Ours, here, and the others where they are found first; or with each version they are with."""
    yield Client(OURS, OURS, sys.executable)
    installed = {python: said_by(python, "-c", VERSIONS, *PEERS) for python in pythons}
    for name in PEERS:
        found: dict[str, Client] = {}
        for python, versions in installed.items():
            if name in versions:
                on = "" if name == "openai" else f" (openai {versions.get('openai', 'none')})"
                label = f"{name} {versions[name]}{on}"
                found.setdefault(label, Client(name, label, python))
        if not found:
            print(f"{name} is left out: it is not installed.")
        yield from list(found.values())[: None if each else 1]


def case(name: str, base_url: str, rows: int, width: int) -> Found:
    """One client in this process."""
    if name in PEERS:
        return PEERS[name](base_url, rows, width)
    from tests.benchmarks.bench_map import ours

    return ours(base_url, rows, width)


def measured_at(server: Server, client: Client, rows: int, width: int) -> Found:
    """One client in a process of its own, with how often it asked again."""
    server.begin(latency_s=LATENCY_S)
    given = ["--case", client.name, server.base_url, str(rows), str(width)]
    found: Found = said_by(client.python, "-m", "tests.benchmarks.bench_map_peers", *given)
    # One more than the rows: the first call, which is not measured.
    return found | {"rows": rows, "retries": server.stats["requests"] - rows - 1}


def line(found: Found, ours: Found, width: int) -> list[str]:
    ratio = ours["rows_s"] / found["rows_s"]
    return [
        f"{found['rows']:,}",
        f"{found['retries']:,}",
        *cells(found, width),
        f"{ratio:.1f}",
    ]


def judged(found: dict[Client, Found]) -> list[list[str]]:
    """The goals, and what came of them."""
    (_, ours), *others = found.items()
    cpu_us = ours["cpu_us"]
    goal = f"at most {MOST_CPU_US:,}"
    table = [["CPU us/row", goal, f"{cpu_us:,.0f}", met(cpu_us <= MOST_CPU_US)]]
    for client, theirs in others:
        least, ratio = GOALS[client.name], ours["rows_s"] / theirs["rows_s"]
        said = f"rows/s, ours / {client.label}"
        table.append([said, f"at least {least:.1f}", f"{ratio:.1f}", met(ratio >= least)])
        if client.name == "openai":
            share = cpu_us / theirs["cpu_us"]
            goal = f"at most {MOST_CPU_SHARE:.2f}"
            said = f"CPU, ours / {client.label}"
            table.append([said, goal, f"{share:.2f}", met(share <= MOST_CPU_SHARE)])
    return table


def met(good: bool) -> str:
    return "yes" if good else "no"


def main(rows: int, peer_rows: int, asked: list[Client]) -> None:
    table = []
    with served() as server:
        for width in WIDTHS:
            found: dict[Client, Found] = {}
            for client in asked:
                count = rows if client.name in (OURS, "openai") else peer_rows
                try:
                    found[client] = measured_at(server, client, count, width)
                except Failed as error:
                    if client.name == OURS:
                        raise
                    print(f"{client.label} is left out: {error}")
                    continue
                said = line(found[client], found[asked[0]], width)
                table.append([f"{client.label}, {width} at once", *said])
    head = ("client", "rows", "retries", *HEAD, "ours / theirs")
    show(f"Structured rows, {LATENCY_S * 1000:.0f} ms", head, table)
    head = ("goal", "wanted", "found", "met")
    show(f"Goals at {WIDTHS[-1]} in flight", head, judged(found))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="?", type=int, default=10_000)
    parser.add_argument("--peer-rows", type=int, help="rows of all but ours and the SDK")
    parser.add_argument("--python", action="append", default=[], help="of another environment")
    parser.add_argument("--each", action="store_true", help="with each openai it is found with")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = options()
    if given.case:
        name, url, count, width = given.case
        print(json.dumps(case(name, url, int(count), int(width))))
    else:
        asked = list(clients([sys.executable, *given.python], given.each))
        main(given.rows, given.peer_rows or given.rows, asked)

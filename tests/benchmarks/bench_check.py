"""What `o3magic check` costs over running the same cells with nbclient and comparing nothing.

    python tests/benchmarks/bench_check.py [rounds]

Both are processes of their own, taken in turns; their CPU time includes that of their kernel. The
notebook has 30 cells; ten are questions, recorded from the built-in simulator, then replayed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import nbformat
from side_by_side import in_turns, show

MOST = 1.5  # times nbclient
CELLS = [
    "%load_ext o3magic",
    *("%%o3 --effort low\nQuestion {0}: what is {0} times {0}?",) * 10,
    *("print('line {0}\\n' * 20)",) * 10,
    *("[object() for _ in range({0})], {0}",) * 9,
]
NBCLIENT = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, kernel_name="python3").execute()
"""


def notebook_at(path: Path) -> None:
    """Write the notebook."""
    cells = [nbformat.v4.new_code_cell(cell.format(i), id=f"c{i}") for i, cell in enumerate(CELLS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def environment(folder: str) -> dict[str, str]:
    """The simulator answers, and nothing else is set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    return kept | {
        "O3MAGIC_PROVIDER": "simulator",
        "O3MAGIC_REPLAY_SPEED": "0",
        "O3MAGIC_NOTEBOOK": f"{folder}/a.ipynb",
        "O3MAGIC_LEDGER": ":memory:",
        "O3MAGIC_CONFIG": f"{folder}/none.toml",
        "IPYTHONDIR": folder,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def measured(
    words: list[str], folder: str, found: dict[str, list[float]], name: str, mode: str = "replay"
) -> float:
    """Wall seconds of a process; its CPU seconds are added to `found`."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment(folder) | {"O3MAGIC_MODE": mode},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}:\n{said}")
    found.setdefault(name, []).append(usage.ru_utime + usage.ru_stime)
    return wall_s


def main(rounds: int = 7) -> int:
    cpu_s: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.ipynb")
        notebook_at(path)
        o3magic = [sys.executable, "-m", "o3magic"]
        measured([*o3magic, "run", "a.ipynb"], folder, {}, "run", mode="record")
        cases = {
            "nbclient": [sys.executable, "-c", NBCLIENT, "a.ipynb"],
            "o3magic check": [*o3magic, "check", "a.ipynb"],
        }
        walls_s = in_turns(
            {n: partial(measured, words, folder, cpu_s, n) for n, words in cases.items()}, rounds
        )
    least_s = {name: min(values) for name, values in cpu_s.items()}
    ratios = [s["o3magic check"] / s["nbclient"] for s in (walls_s, least_s)]
    rows = [(name, f"{walls_s[name]:.2f}", f"{least_s[name]:.2f}") for name in cases]
    rows.append(("ratio", *(f"{ratio:.2f}" for ratio in ratios)))
    title = f"A notebook of {len(CELLS)} cells (wall: median of {rounds}; CPU: least)"
    show(title, ("", "wall s", "CPU s"), rows)
    print(f"\nat most {MOST}: {'yes' if max(ratios) <= MOST else 'NO'}")
    return int(max(ratios) > MOST)


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))

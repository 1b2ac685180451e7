"""What `%load_ext o3magic` costs in a fresh IPython, against importing what everybody imports.

    python tests/benchmarks/bench_load.py [rounds]

Each statement runs in a new IPython process with an empty profile; its CPU time is taken inside,
around that statement alone. The first `%%o3` loads the rest: the last row is all of it at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from side_by_side import in_turns, show

BARE = "import pydantic, httpx"
LOAD = "get_ipython().run_line_magic('load_ext', 'o3magic')"
FIRST = "get_ipython().run_line_magic('o3', '--dry-run Hi')"
CASES = {
    BARE: BARE,
    "%load_ext o3magic": LOAD,
    "import openai": "import openai",
    "%load_ext o3magic, and a first %o3": f"{LOAD}; {FIRST}",
}
TIMED = "import time; began = time.process_time(); {}; print(time.process_time() - began)"


def cpu_s(statement: str, folder: str) -> float:
    """The CPU seconds of a statement in an IPython of its own."""
    root = str(Path(__file__).parents[2])
    said = {"IPYTHONDIR": folder, "PYTHONPATH": root, "O3MAGIC_CONFIG": f"{folder}/none.toml"}
    words = [
        sys.executable,
        "-m",
        "IPython",
        "--no-banner",
        "--no-confirm-exit",
        "--colors=NoColor",
    ]
    ended = subprocess.run(
        [*words, "-c", TIMED.format(statement)],
        env=os.environ | said,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(ended.stdout.split()[-1])


def main(rounds: int = 15) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cases = {name: partial(cpu_s, each, folder) for name, each in CASES.items()}
        found = in_turns(cases, rounds)
    rows = [(name, f"{s * 1e3:.1f}", f"{s / found[BARE]:.2f}") for name, s in found.items()]
    show(f"CPU of a statement in a fresh IPython (median of {rounds})", ("", "ms", "x bare"), rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Kernels in processes of their own, to be killed."""

import json
import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).parents[2]


class Kernel:
    """One that maps rows as soon as it is there."""

    def __init__(self, server, folder, rows, **said):
        said |= {"base_url": server.base_url, "folder": str(folder), "rows": rows}
        line = [sys.executable, "-m", "tests.rows.worker", json.dumps(said)]
        self.process = subprocess.Popen(line, cwd=HOUSE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def result(self):
        """What it found, when it is over."""
        said, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == 0
        return json.loads(said)

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.communicate()

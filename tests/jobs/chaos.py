"""A job under everything at once: errors of all kinds, dead kernels, a budget that is just enough.

`python -m tests.jobs.chaos 5000` runs it large and prints what it found.
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from o3magic.cost.ledger import Ledger
from o3magic.jobs.store import JobStore
from o3magic.money import usd
from tests.jobs.kernels import Kernel
from tests.jobs.loopback import COST_NANO_USD, served

LIMIT = 100
WIDTH = 32
WORST_NANO_USD = 256 * 1100 + LIMIT * 4400  # more than any row can cost
WAYS = {"limited": 0.04, "broken": 0.04, "dropped": 0.04, "cut": 0.04, "slow": 0.04}


def chaos(server, folder, rows, kills, seed=3):
    """What came of it."""
    chance = random.Random(seed)
    # What is lost is held at its worst: on a kill, what was on its way; else a dropped or cut call.
    lost = kills * WIDTH + round(rows * 0.2) + 20
    budget = usd(rows * COST_NANO_USD + lost * WORST_NANO_USD)
    wish = {"concurrency": WIDTH, "budget": float(budget)}
    said = {"wish": wish, "options": {"max_output_tokens": LIMIT}}
    began_s = time.monotonic()
    for number in range(kills):
        kernel = Kernel(server, folder, rows, **said)
        wanted = (number + 1) * rows // (kills + 1) + chance.randrange(rows // 10 + 1)
        while len(server.stats["answered"]) < wanted:
            time.sleep(0.05)
        kernel.kill()
    found = Kernel(server, folder, rows, **said).result()
    stats = server.stats
    [total] = Ledger(folder / "ledger.sqlite3").totals(by=())
    job = JobStore(folder / "jobs.sqlite3").jobs()[0]
    again = {prompt: count for prompt, count in stats["answered"].items() if count > 1}
    return {
        "rows": rows,
        "right": found["labels"] == [f"row {n}" for n in range(rows)],
        "errors": len(found["errors"]),
        "requests": stats["requests"],
        "answered_rows": len(stats["answered"]),
        "answers_sent_twice": sum(count - 1 for count in again.values()),
        "lost_calls": job.lost_calls,
        "bill_nano_usd": sum(stats["answered"].values()) * COST_NANO_USD,
        "job_nano_usd": job.spent_nano_usd,
        "job_held_nano_usd": job.held_nano_usd,
        "ledger_nano_usd": total.live.cost_nano_usd,
        "ledger_unknown": total.live.unknown_cost_calls,
        "budget_usd": float(budget),
        "seconds": round(time.monotonic() - began_s, 1),
        "said": found["attrs"]["said"] if "attrs" in found else found["error"],
    }


def main(rows):
    with served(latency_s=0.05, slow_s=0.5, **WAYS) as server, tempfile.TemporaryDirectory() as at:
        sys.stdout.write(json.dumps(chaos(server, Path(at), rows, kills=3), indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))

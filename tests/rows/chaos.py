"""A job under everything at once: errors of all kinds, dead kernels, a budget that is just enough.

`python -m tests.rows.chaos 5000` runs it large and prints what it found.
"""

import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from o3magic.cost.entries import LOST
from o3magic.cost.ledger import Ledger
from o3magic.money import usd
from o3magic.rows.store import JobStore
from tests.rows.kernels import Kernel
from tests.rows.loopback import COST_NANO_USD, served

LIMIT = 100
WIDTH = 32
WORST_NANO_USD = 192 * 1100 + LIMIT * 4400  # of one call
WAYS = {"limited": 0.04, "broken": 0.04, "dropped": 0.04, "cut": 0.04, "slow": 0.04}


def chaos(server, folder, rows, kills, seed=3):
    """What came of it."""
    chance = random.Random(seed)
    # What is lost is held at its worst: on a kill, what was on its way; else what was dropped, cut
    # or met a 500, 12 % of requests, of which a row takes 1.2.
    lost = kills * WIDTH + round(rows * 0.16) + 20
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
    ledger, store = Ledger(folder / "ledger.sqlite3"), JobStore(folder / "jobs.sqlite3")
    [total] = ledger.totals(by=())
    job = store.jobs()[0]
    return {
        "rows": rows,
        "right": found["labels"] == [f"row {n}" for n in range(rows)],
        "errors": len(found["errors"]),
        "requests": stats["requests"],
        "bill_nano_usd": len(stats["sent"]) * COST_NANO_USD,
        "job_nano_usd": job.spent_nano_usd,
        "job_held_nano_usd": job.held_nano_usd,
        "ledger_nano_usd": total.live.cost_nano_usd,
        "ledger_unknown": total.live.unknown_cost_calls,
        "lost_calls": job.lost_calls,
        **matched(stats["sent"], store.first(job.id, rows), [*ledger.entries()]),
        "budget_usd": float(budget),
        "seconds": round(time.monotonic() - began_s, 1),
        "said": found["attrs"]["said"] if "attrs" in found else found["error"],
    }


def matched(sent, kept, entries):
    """The server's answers beside the ledger entries, one by one, by the ids of the server.

    sent: prompts by id, of all answers it counts. kept: the rows of the job. entries: the ledger.
    An answer in neither is stray. It counts as lost where its row lost a call for each such one.
    """
    rows = {f"row {each.place}": each for each in kept}
    booked = Counter(each.response_id for each in entries if each.cost_nano_usd)
    stray = Counter(sent[id_] for id_ in sent.keys() - booked.keys())
    paid = {each.said["id"] for each in kept if each.cost_nano_usd == COST_NANO_USD}
    return {
        "sent": len(sent),
        "kept": len(paid & booked.keys() & sent.keys()),
        "booked": booked.total(),
        "booked_once": len(booked.keys() & sent.keys()),
        "stray": stray.total(),
        "stray_told_as_lost": sum(min(count, rows[row].lost) for row, count in stray.items()),
        "lost_in_ledger": sum(each.status == LOST for each in entries),
    }


def main(rows):
    with served(latency_s=0.05, slow_s=0.5, **WAYS) as server, tempfile.TemporaryDirectory() as at:
        sys.stdout.write(json.dumps(chaos(server, Path(at), rows, kills=3), indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""A kernel that maps rows and can be killed: `python -m tests.rows.worker JSON`."""

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from o3magic.errors import O3Error
from o3magic.rows.map_job import MapOptions, map_rows
from o3magic.rows.store import JobStore
from tests.sessions import session_at


class Label(BaseModel):
    label: str
    score: int


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(said):
    folder = Path(said["folder"])
    ledger = str(folder / "ledger.sqlite3")
    rows = [{"a": f"row {n}"} for n in range(said["rows"])]
    if said.get("back"):
        rows.reverse()
    wish = MapOptions(**said.get("wish", {}))
    with session_at(said["base_url"], O3MAGIC_LEDGER=ledger) as session:
        store = JobStore(folder / "jobs.sqlite3")
        say("ready")
        out, error = None, ""
        try:
            out = map_rows(
                session,
                store,
                rows,
                "{{ a }}",
                schema=Label,
                wish=wish,
                **said.get("options", {}),
            )
        except O3Error as raised:
            out, error = raised.answer, str(raised)
        found = {"error": error}
        if out is not None:
            found |= {
                "attrs": out.attrs["o3magic"],
                "labels": out.label.tolist(),
                "errors": out.error.dropna().tolist(),
                "cost_nano_usd": int(sum(c for c in out.cost_usd if c is not None) * 10**9),
            }
        say(json.dumps(found, default=str))


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))

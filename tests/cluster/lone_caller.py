"""A kernel that maps rows on a cluster and can be killed: `python -m tests.cluster.lone_caller`."""

import json
import sys
from pathlib import Path

from distributed import Client

from tests.cluster.conftest import Caller
from tests.rows.worker import Label

if __name__ == "__main__":
    said = json.loads(sys.argv[1])
    rows = [{"a": f"row {n}"} for n in range(said["rows"])]
    with Client(said["address"]) as client:
        caller = Caller(client, said["base_url"], Path(said["folder"]))
        caller.map(rows, schema=Label, concurrency=said["width"])

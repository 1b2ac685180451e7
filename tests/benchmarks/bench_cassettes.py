"""What a cassette costs: opening it, finding in it, keeping an answer, the key of a question.

    python tests/benchmarks/bench_cassettes.py

The cassette has 1,000 entries with prompts of 600 and answers of 1,500 characters. `opened` is
json.loads of the same bytes beside it: what nobody can go below. Keeping waits for the disk.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from itertools import count
from pathlib import Path

from side_by_side import in_turns, seconds, show

from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.closest_match import describe_miss
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.format import CassetteData
from o3magic.cassettes.request_key import CanonicalRequest
from o3magic.events import Answer, Finished, Usage
from o3magic.messages import Message

ENTRIES = 1_000
ROUNDS = 9
PROMPT = "Explain how rain falls on the plain of case {}, and what follows from that.\n" * 8
ANSWER = "Water vapour rises, cools, and condenses around dust; drops grow until they fall.\n" * 18
LONG = "word " * 4_000


def question(prompt: str) -> CanonicalRequest:
    return CanonicalRequest("o3-mini", (Message.of("user", prompt),), effort="high")


def take(number: int) -> Recording:
    asked = question(PROMPT.replace("{}", str(number)))
    return Recording.of(asked, 1, Answer(text=ANSWER), Finished("stop", Usage(200, 0, 900, 500)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.o3.json"
        tape = CassetteData()
        for number in range(ENTRIES):
            one = take(number)
            tape = tape.put(one.place, one.to_json(), None)
        Cassette(path).replace(lambda _: tape)
        print(f"{ENTRIES:,} entries, {path.stat().st_size:,} bytes")
        median_s = in_turns(cases(path), ROUNDS)
    rows = [(name, f"{value * 1000:,.3f}") for name, value in median_s.items()]
    show("Cassettes, median", ("what", "ms"), rows)


def cases(path: Path):
    # Each has its own file: who finds does not read again because another has written.
    found_in, kept_in, warm_in = (Path(shutil.copy(path, f"{path}.{i}")) for i in range(3))
    found, warm = Cassette(found_in), Cassette(warm_in)
    known = [question(PROMPT.replace("{}", str(number))) for number in range(ENTRIES)]
    keys = [each.key for each in known]
    fresh, missing = (take(number) for number in count(ENTRIES)), question(PROMPT)
    entries = found.entries
    places = {each.place for each in entries[: ENTRIES // 2]}
    return {
        "json.loads of the file": seconds(lambda: json.loads(path.read_bytes())),
        "opened, one found": seconds(lambda: Cassette(path).find(keys[500])),
        "found, of an open one": seconds(lambda: found.find(keys[500])),
        "all entries read": seconds(lambda: Cassette(path).entries),
        "kept, first after opening": seconds(lambda: Cassette(kept_in).keep(next(fresh))),
        "kept, of an open one": seconds(lambda: warm.keep(next(fresh))),
        "key of a 20 KB prompt": seconds(lambda: question(LONG).key),
        "nearest of all, for a miss": seconds(lambda: describe_miss(missing, 1, entries, places)),
    }


if __name__ == "__main__":
    main()

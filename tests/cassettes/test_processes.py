"""Several kernels record into one cassette, and some of them die."""

from __future__ import annotations

import json
import os
import platform
import time

import pytest

from o3magic.cassettes.cassette import Cassette, CassetteLock
from o3magic.errors import CassetteError
from tests.cassettes.conftest import take

KEEPS = """
import sys
from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.entry import Recording
cassette, before = Cassette(sys.argv[1]), None
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    said = {"role": "user", "content": f"process {sys.argv[2]} asks {number}"}
    one = Recording(f"{sys.argv[2]}-{number}", text="yes", request={"messages": [said]})
    cassette.keep(one, before)
    print(number, flush=True)
    before = one.place
"""


def test_four_processes_lose_nothing_of_two_hundred(path, start):
    children = [start(KEEPS, path, name, 50) for name in range(4)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate()[1] for child in children] == ["", "", "", ""]
    prompts = [each.prompt for each in Cassette(path).entries]
    assert len(prompts) == len(set(prompts)) == 200
    for name in range(4):  # each in its own order
        own = [int(p.split()[-1]) for p in prompts if p.startswith(f"process {name} ")]
        assert own == sorted(own)
    assert [*path.parent.iterdir()] == [path]


def test_a_lock_whose_maker_was_killed_before_it_said_who_it_is_holds_nobody_up(tmp_path):
    (tmp_path / "lock").touch()
    began_s = time.monotonic()
    with CassetteLock(tmp_path / "lock") as lock:
        assert lock.held
    assert 1 < time.monotonic() - began_s < 5


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_kernel_that_is_killed_leaves_a_whole_file_and_no_lock_for_long(path, start, after):
    child = start(KEEPS, path, 0, 100_000)
    child.stdin.write("go\n")
    child.stdin.flush()
    acknowledged = [child.stdout.readline() for _ in range(after + 1)]
    child.kill()
    acknowledged += child.stdout.readlines()
    child.wait()
    began_s = time.monotonic()
    cassette = Cassette(path)
    cassette.keep(take("after all"))
    assert time.monotonic() - began_s < 5
    assert len(cassette.entries) >= len([line for line in acknowledged if line.strip().isdigit()])


def lock_of(path):
    return path.with_name(f"{path.name}.lock")


def test_a_lock_of_a_living_process_is_waited_for(path):
    with (
        CassetteLock(lock_of(path)),
        pytest.raises(CassetteError, match="held by another program"),
        CassetteLock(lock_of(path), wait_s=0.05),
    ):
        pytest.fail("two held it")
    with CassetteLock(lock_of(path), wait_s=0.05) as lock:
        assert lock.held
    assert not lock_of(path).exists()


def dead_pid(start):
    child = start("pass")
    child.wait()
    return child.pid


def test_a_lock_of_a_dead_process_is_taken_over_at_once(path, cassette, start):
    owner = {"host": platform.node(), "pid": dead_pid(start), "token": "x"}
    lock_of(path).write_text(json.dumps(owner))
    began_s = time.monotonic()
    cassette.keep(take())
    assert time.monotonic() - began_s < 2
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("owner", ['{"host": "elsewhere", "pid": 1}', "", '{"host"', "[]", "5"])
def test_any_lock_is_taken_over_after_a_minute_and_no_sooner(path, owner):
    lock_of(path).write_text(owner)
    with pytest.raises(CassetteError, match="held"), CassetteLock(lock_of(path), wait_s=0.05):
        pytest.fail("it was not ours")
    an_hour_ago = time.time() - 61
    os.utime(lock_of(path), (an_hour_ago, an_hour_ago))
    with CassetteLock(lock_of(path), wait_s=2) as lock:
        assert lock.held


def test_who_lost_its_lock_writes_nothing_and_leaves_the_new_one_alone(path):
    with CassetteLock(lock_of(path)) as lock:
        lock_of(path).write_text("somebody else")
        assert not lock.held
    assert lock_of(path).read_text() == "somebody else"


def test_a_change_whose_lock_was_taken_over_is_made_anew_to_what_is_there_then(
    path, cassette, start
):
    cassette.keep(take("a"))
    owner = {"host": platform.node(), "pid": dead_pid(start), "token": "x"}
    seen = []

    def change(tape):
        seen.append(len(tape.entries))
        if len(seen) == 1:  # as if this computer had slept, and another had written meanwhile
            lock_of(path).unlink()
            Cassette(path).keep(take("b"))
            lock_of(path).write_text(json.dumps(owner))
        one = take("c")
        return tape.put(one.place, one.to_json(), None)

    cassette.replace(change)
    assert seen == [1, 2]
    assert [each.prompt for each in Cassette(path).entries] == ["a", "b", "c"]


TAKES_OVER = """
import sys
from pathlib import Path
from o3magic.cassettes.cassette import CassetteLock
print("ready", flush=True)
sys.stdin.readline()
with CassetteLock(Path(sys.argv[1])):
    count = Path(sys.argv[2])
    number = int(count.read_text())
    count.write_text(str(number + 1))
"""


def test_of_many_that_find_a_stale_lock_one_at_a_time_gets_it(path, start, tmp_path):
    count = tmp_path / "count"
    count.write_text("0")
    owner = {"host": platform.node(), "pid": dead_pid(start), "token": "x"}
    children = [start(TAKES_OVER, lock_of(path), count) for _ in range(6)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    lock_of(path).write_text(json.dumps(owner))
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate()[1] for child in children] == [""] * 6
    assert count.read_text() == "6"

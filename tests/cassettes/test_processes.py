"""Several kernels record into one cassette, and some of them die."""

from __future__ import annotations

import errno
import os
import shutil
import time

import pytest

from o3magic.cassettes.cassette import Cassette
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


HOLDS = """
import sys, time
from pathlib import Path
from o3magic.atomic_file import lock_file
with lock_file(Path(sys.argv[1]), 1):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_lock_of_a_living_process_is_waited_for(path, cassette, start, monkeypatch):
    monkeypatch.setattr("o3magic.cassettes.cassette.LOCK_WAIT_S", 0.05)
    child = start(HOLDS, path)
    assert child.stdout.readline() == "ready\n"
    with pytest.raises(
        CassetteError, match=r"quickstart\.o3\.json is locked by another program"
    ) as caught:
        cassette.keep(take())
    assert caught.value.hint.endswith("--mode live records nothing")
    assert not path.exists()
    child.kill()
    child.wait()
    cassette.keep(take())  # the system freed the lock of the dead process
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("content", ['{"host": "elsewhere", "pid": 1, "token": "x"}', "", "[]"])
def test_a_lock_file_that_an_older_version_left_holds_nobody_up(path, cassette, content):
    lock_of(path).write_text(content)
    began_s = time.monotonic()
    cassette.keep(take())
    assert time.monotonic() - began_s < 2
    assert [*path.parent.iterdir()] == [path]


def test_a_temporary_file_of_a_dead_process_is_removed(path, cassette):
    path.with_name(f".{path.name}.0a1b2c3d.part").write_text("half")
    cassette.keep(take())
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.skipif(os.name != "posix", reason="flock")
@pytest.mark.parametrize(
    ("number", "why"),
    [(errno.ENOLCK, "no locks available"), (errno.ESTALE, "stale file handle")],
)
def test_a_folder_that_cannot_be_locked_says_so(path, cassette, monkeypatch, number, why):
    def fails(fd, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", fails)
    with pytest.raises(CassetteError, match=f"cannot be written: {why}"):
        cassette.keep(take())
    assert not path.exists()


def test_a_folder_that_is_deleted_meanwhile_says_so(path, cassette):
    cassette.keep(take("a"))

    def change(tape):
        shutil.rmtree(path.parent)
        one = take("b")
        return tape.put(one.place, one.to_json(), None)

    with pytest.raises(CassetteError, match="cannot be written: no such file or directory"):
        cassette.replace(change)
    cassette.keep(take("c"))  # in a new folder
    assert [each.prompt for each in cassette.entries] == ["c"]


COUNTS = """
import sys
from pathlib import Path
from o3magic.atomic_file import lock_file
print("ready", flush=True)
sys.stdin.readline()
for _ in range(50):
    with lock_file(Path(sys.argv[1]), 60):
        count = Path(sys.argv[2])
        number = int(count.read_text())
        count.write_text(str(number + 1))
"""


def test_of_many_that_want_a_lock_one_at_a_time_gets_it(path, start, tmp_path):
    count = tmp_path / "count"
    count.write_text("0")
    lock_of(path).write_text('{"host": "here", "pid": 1, "token": "x"}')
    children = [start(COUNTS, path, count) for _ in range(6)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate()[1] for child in children] == [""] * 6
    assert count.read_text() == "300"

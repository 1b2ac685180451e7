"""Files that are no cassettes, disks that are full: said clearly, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from o3magic.cassettes.cassette import Cassette
from o3magic.errors import CassetteError
from tests.cassettes.conftest import PACKAGE_ROOT, question, take

ENTRY = json.dumps(take("a").to_json())
WHOLE = f'{{"format": "o3magic-cassette/1", "entries": [{ENTRY}]}}'
CONFLICT = """{
 "format": "o3magic-cassette/1",
 "entries": [
<<<<<<< HEAD
  {"key": "a"}
=======
  {"key": "b"}
>>>>>>> theirs
 ]
}
"""

BAD = {
    "empty": (b"", "is empty", "delete it"),
    "blank": (b"\n \n", "is empty", "delete it"),
    "cut off": (WHOLE[:-40].encode(), "is cut off", "git"),
    "cut off in a text": (WHOLE[: WHOLE.index("About") + 3].encode(), "is cut off", "git"),
    "cut off in a list": (WHOLE[:-2].encode(), "is cut off", "git"),
    "no JSON": (WHOLE.replace(":", "=", 1).encode(), "is not JSON", "git"),
    "two values": (f"{WHOLE}{WHOLE}".encode(), "is not JSON", "git"),
    "nested": (b'{"a":' * 200_000, "not readable JSON|cut off", "git"),
    "a huge number": (b'{"format": 1' + b"0" * 5000 + b"}", "not readable JSON", "git"),
    "UTF-16": (WHOLE.encode("utf-16"), "not UTF-8", "git"),
    "Latin-1": (WHOLE.replace("rain", "Füße").replace("About", "ü").encode("latin-1"), "UTF-8", ""),
    "conflict": (CONFLICT.encode(), "has a merge conflict", "o3magic cassettes merge"),
    "newer": (WHOLE.replace("te/1", "te/2").encode(), "newer than this o3magic's 1", "update"),
    "older": (WHOLE.replace("te/1", "te/0").encode(), "has an unknown format", ""),
    "odd": (WHOLE.replace("te/1", "te/one").encode(), "has an unknown format", ""),
    "a list": (b"[]", "is not a cassette", "format"),
    "a notebook": (b'{"cells": [], "nbformat": 4}', "is not a cassette", "format"),
    "null": (b"null", "is not a cassette", "format"),
    "no entries": (b'{"format": "o3magic-cassette/1", "entries": {}}', "are not a list", "git"),
    "no entry": (
        b'{"format": "o3magic-cassette/1", "entries": [5]}',
        "entry 1: it is not an obj",
        "",
    ),
    "no key": (
        b'{"format": "o3magic-cassette/1", "entries": [{"key": 5}]}',
        "key is not a text",
        "",
    ),
    "no request": (
        b'{"format": "o3magic-cassette/1", "entries": [{"request": {"messages": [1]}}]}',
        "entry 1: a message is not an object",
        "",
    ),
    "twice": (
        f'{{"format": "o3magic-cassette/1", "entries": [{ENTRY}, {ENTRY}]}}'.encode(),
        "entry 2 has the same key .* as entry 1",
        "o3magic cassettes merge",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_explained_and_left_alone(name, cassette, path):
    data, why, hint = BAD[name]
    path.write_bytes(data)
    for use in (
        lambda: cassette.find(question()),
        lambda: cassette.keep(take()),
        lambda: cassette.prune(()),
        lambda: cassette.entries,
    ):
        with pytest.raises(CassetteError, match=why) as caught:
            use()
        assert str(path) in str(caught.value)
        assert hint in caught.value.hint
    assert path.read_bytes() == data
    assert [*path.parent.iterdir()] == [path]


def test_a_file_that_is_repaired_is_read_again(cassette, path):
    path.write_bytes(b"{")
    with pytest.raises(CassetteError):
        cassette.find(question("a"))
    path.write_text(WHOLE)
    assert cassette.find(question("a")) == take("a")


def test_a_byte_order_mark_does_no_harm(cassette, path):
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.encode())
    assert cassette.find(question("a")) == take("a")


def test_a_bad_entry_hurts_only_who_asks_for_it(cassette, path):
    bad = {"key": "0123456789abcdef", "response": {"finish": "later"}}
    path.write_text(WHOLE.replace('"entries": [', f'"entries": [{json.dumps(bad)}, '))
    assert cassette.find(question("a")) == take("a")
    with pytest.raises(CassetteError, match="entry 1: finish is none of"):
        cassette.find("0123456789abcdef")


def test_a_folder_is_no_cassette(cassette, path):
    path.mkdir()
    for use in (lambda: cassette.find(question()), lambda: cassette.keep(take())):
        with pytest.raises(CassetteError, match=r"cannot be (read|written): is a dir"):
            use()


def test_a_file_in_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CassetteError, match="cannot be written: "):
        Cassette(tmp_path / "taken" / "a.o3.json").keep(take())


KEEPS = """
import sys
from o3magic.errors import CassetteError
from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.entry import Recording
try:
    Cassette(sys.argv[1]).keep(Recording("big", text="rain " * 100_000))
except CassetteError as error:
    print(*error.lines(), sep="\\n")
"""


@pytest.mark.skipif(not shutil.which("prlimit"), reason="prlimit is not here")
def test_a_file_that_may_not_grow_leaves_the_old_one_whole(cassette, path, start):
    cassette.keep(take("a"))
    before = path.read_bytes()
    said, errors = start(KEEPS, path, before=("prlimit", "--fsize=100000")).communicate()
    assert "cannot be written: file too large" in said
    assert "--mode live records nothing" in said
    assert errors == ""
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]


MOUNT = ["unshare", "--mount", "--map-root-user"]


def mounted(script: str, *arguments: object) -> str:
    """What a process says that keeps a take on a disk of its own; skips where none can be had."""
    command = [*MOUNT, "sh", "-ec", script, "sh", sys.executable, KEEPS, *map(str, arguments)]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here")
    done = subprocess.run(command, cwd=PACKAGE_ROOT, capture_output=True, text=True, check=False)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("no disk can be mounted here")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_is_said_and_nothing_is_lost(path):
    script = """
    mount -t tmpfs -o size=64k none "$3"
    printf '%s' "$4" > "$3/a.o3.json"
    "$1" -c "$2" "$3/a.o3.json"
    ls -A "$3"
    cat "$3/a.o3.json"
    """
    said = mounted(script, path.parent, WHOLE)
    assert "cannot be written: no space left on device" in said
    assert said.endswith(f"\na.o3.json\n{WHOLE}")


def test_a_read_only_disk_is_read_and_not_written(path):
    path.write_text(WHOLE)
    script = """
    mount --bind "$3" "$3"
    mount -o remount,bind,ro "$3"
    "$1" -c "$2" "$4"
    "$1" -c "
import sys; from o3magic.cassettes.cassette import Cassette
print(Cassette(sys.argv[1]).entries[0].prompt)" "$4"
    """
    said = mounted(script, path.parent, path)
    assert "cannot be written: read-only file system" in said
    assert said.splitlines()[-1] == "a"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_said(cassette, path):
    cassette.keep(take("a"))
    path.parent.chmod(0o500)
    try:
        with pytest.raises(CassetteError, match="cannot be written: permission denied"):
            cassette.keep(take("b"))
    finally:
        path.parent.chmod(0o700)
    assert len(cassette.entries) == 1

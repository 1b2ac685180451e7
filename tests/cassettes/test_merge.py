"""Two cassettes as one, by hand and by git."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3magic.cassettes import format
from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.format import CassetteData, merge_cassettes, resolve_conflict
from o3magic.errors import CassetteError
from tests.cassettes.conftest import PACKAGE_ROOT, WHEN, take


def tape(*said) -> CassetteData:
    """A tape: a letter is a prompt, `a1` another answer to it, one day later."""
    made = CassetteData({"format": format.FORMAT})
    for word in said:
        day = int(word[1:] or 0)
        one = take(word[0], f"answer {word}", recorded=WHEN + timedelta(days=day))
        made = made.put(one.place, one.to_json(), None)
    return made


def said(made: CassetteData) -> list[str]:
    return [entry["response"]["text"].split()[-1] for entry in made.entries]


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "result", "conflicts"),
    [
        ("a b c", "a x b c", "a b y c", "a x b y c", 0),
        ("a b c", "a x b c", "a y b c", "a x y b c", 0),
        ("a b", "x a b", "y a b", "x y a b", 0),
        ("a b", "a b x", "a b y", "a b x y", 0),
        ("a b c", "a c", "a b c", "a c", 0),
        ("a b c", "a b c", "a c", "a c", 0),
        ("a b c", "a b1 c", "a c", "a b1 c", 0),
        ("a b c", "a c", "a b1 c", "a b1 c", 0),
        ("a b", "a1 b", "a b2", "a1 b2", 0),
        ("a", "a1", "a2", "a2", 1),
        ("a", "a2", "a1", "a2", 1),
        ("", "a b", "b c", "a b c", 0),
        ("", "a", "", "a", 0),
        ("", "", "", "", 0),
        ("a", "a", "", "", 0),
    ],
)
def test_a_merge_of_three(base, ours, theirs, result, conflicts):
    made, told = merge_cassettes(*(tape(*each.split()) for each in (ours, theirs, base)))
    assert " ".join(said(made)) == result
    assert len(told) == conflicts


def test_a_merge_of_two_keeps_what_either_has():
    made, told = merge_cassettes(tape("a", "b1"), tape("a", "c", "b2"))
    assert said(made) == ["a", "c", "b2"]
    assert told == [f"{take('b').key} 1: two answers; theirs stays, recorded 2026-11-23T00:12:45Z"]


LETTERS = st.lists(st.sampled_from("abcdef"), unique=True)


@settings(deadline=None, max_examples=60)
@given(LETTERS, LETTERS)
def test_a_merge_of_two_is_the_union_and_each_side_s_order_of_its_own_holds(ours, theirs):
    made, _ = merge_cassettes(tape(*ours), tape(*theirs))
    result = said(made)
    assert sorted(result) == sorted({*ours, *theirs})
    assert [letter for letter in result if letter in ours] == ours
    assert merge_cassettes(made, made)[0] == made


COMMAND = """
import argparse, sys
from o3magic.cli import cassettes
top = argparse.ArgumentParser()
cassettes.add(top.add_subparsers())
chosen = top.parse_args(sys.argv[1:])
sys.exit(chosen.run(chosen))
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with two branches, ours checked out; gives a function that runs git."""
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    for name, value in {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHONPATH": str(PACKAGE_ROOT),
    }.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "repository"
    folder.mkdir()

    def git(*words, check=True):
        command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=check)

    git("init", "-q", "-b", "main")
    return folder, git


def branches(folder, git, base, ours, theirs):
    """Commit three states of one cassette: the first, and one on each branch."""

    def commit(words):
        path = folder / "nb.o3.json"
        path.unlink(missing_ok=True)
        made = tape(*words.split())
        Cassette(path).replace(lambda _: made)
        git("add", "-A")
        git("commit", "-qm", words or "nothing")

    commit(base)
    git("checkout", "-qb", "theirs")
    commit(theirs)
    git("checkout", "-q", "main")
    commit(ours)
    return folder / "nb.o3.json"


def test_git_merges_with_the_driver_what_it_cannot_merge_alone(repository, tmp_path):
    folder, git = repository
    path = branches(folder, git, "a b c", "a x b1", "a y b2 c z")
    alone = git("merge", "theirs", check=False)
    assert alone.returncode != 0
    git("merge", "--abort")
    command = tmp_path / "command.py"
    command.write_text(COMMAND)
    driver = f"'{sys.executable}' '{command}' cassettes merge --driver %O %A %B"
    git("config", "merge.o3magic.driver", driver)
    (folder / ".gitattributes").write_text("*.o3.json merge=o3magic\n")
    done = git("merge", "-m", "merged", "theirs", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [each.prompt for each in Cassette(path).entries] == ["a", "x", "y", "b", "z"]
    assert Cassette(path).find(take("b").key).text == "answer b2"
    assert "theirs stays" in done.stderr + done.stdout
    assert git("status", "--porcelain").stdout.strip() == "?? .gitattributes"
    assert path.read_bytes() == json_bytes(path)


def json_bytes(path):
    value = json.loads(path.read_bytes())
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


@pytest.mark.parametrize("style", ["merge", "diff3", "zdiff3"])
def test_a_conflict_that_git_left_in_the_file_is_resolved(repository, style):
    folder, git = repository
    path = branches(folder, git, "a b c", "a x b1 c", "a y b2 c z")
    git("config", "merge.conflictStyle", style)
    assert git("merge", "theirs", check=False).returncode != 0
    with pytest.raises(CassetteError, match="merge conflict"):
        _ = Cassette(path).entries
    made, told = resolve_conflict(path.read_bytes(), str(path))
    assert said(made) == ["a", "x", "y", "b2", "c", "z"]
    assert len(told) == 1


def test_a_conflict_that_is_half_edited_is_said_and_not_guessed():
    data = b'{\n<<<<<<< HEAD\n "format": "o3magic-cassette/1"\n=======\n}\n'
    with pytest.raises(CassetteError, match="conflict marker without its others"):
        resolve_conflict(data, "nb.o3.json")
    data = b'{\n<<<<<<< HEAD\n "format": "o3magic-cassette/1"\n=======\n oh\n>>>>>>> b\n}\n'
    with pytest.raises(CassetteError, match="one side of the conflict is damaged"):
        resolve_conflict(data, "nb.o3.json")


def test_of_two_entries_of_one_key_the_later_one_stays():
    entries = [tape(word).entries[0] for word in ("a", "b", "a2", "a1")]
    data = json.dumps({"format": format.FORMAT, "entries": entries}).encode()
    made, _ = resolve_conflict(data, "nb.o3.json")
    assert said(made) == ["a2", "b"]

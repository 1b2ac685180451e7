"""The file beside a notebook: found, kept, in the notebook's order, the same bytes every time."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3magic.cassettes import format
from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.format import CassetteData
from tests.cassettes.conftest import question, take


def prompts(cassette: Cassette) -> list[str]:
    return [each.prompt for each in cassette.entries]


def test_what_is_kept_is_found_again_by_another_reader(cassette, path):
    cassette.keep(take())
    assert Cassette(path).find(question()) == take()
    assert Cassette(path).find(question().key) == take()
    assert cassette.find(question(), 2) is None
    assert cassette.find(question("another")) is None


def test_no_file_is_an_empty_cassette_and_reading_makes_none(cassette, path):
    assert cassette.entries == ()
    assert cassette.find(question()) is None
    assert not cassette.exists
    assert [*path.parent.iterdir()] == []


def test_the_file_is_what_people_and_git_like(cassette, path):
    cassette.keep(take("Was heißt «Füße»? 🌧", "Feet \u2028 \x7f"))
    data = path.read_bytes()
    text = data.decode("utf-8")
    assert text.splitlines()[:5] == [
        "{",
        ' "format": "o3magic-cassette/1",',
        ' "notebook": "01-quickstart.ipynb",',
        ' "entries": [',
        "  {",
    ]
    assert text.endswith("\n ]\n}\n")
    assert b"\r" not in data
    assert "Was heißt «Füße»? 🌧" in text
    assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=1) + "\n"


def test_half_a_character_is_kept(cassette, path):
    cassette.keep(take("half", "a \ud83d b"))
    assert Cassette(path).find(question("half")).text == "a \ud83d b"
    assert not Cassette(path).find(question("half")).edited


def test_no_entries_left_is_still_a_cassette(cassette, path):
    cassette.keep(take())
    cassette.prune(())
    assert json.loads(path.read_text("utf-8"))["entries"] == []
    assert Cassette(path).entries == ()


def test_the_same_entry_takes_its_own_place(cassette):
    for prompt in ("a", "b", "c"):
        cassette.keep(take(prompt))
    cassette.keep(take("b", "new"))
    assert prompts(cassette) == ["a", "b", "c"]
    assert cassette.find(question("b")).text == "new"


def test_a_new_entry_goes_behind_the_one_used_before_it(cassette):
    a, b, c = take("a"), take("b"), take("c")
    cassette.keep(a)
    cassette.keep(c, after=a.place)
    cassette.keep(b, after=a.place)
    assert prompts(cassette) == ["a", "b", "c"]
    cassette.keep(take("d"), after=("not there", 1))
    cassette.keep(take("e"))
    assert prompts(cassette) == ["a", "b", "c", "d", "e"]


def test_the_same_question_twice_in_a_cell_is_two_entries(cassette, path):
    cassette.keep(take(text="first"))
    cassette.keep(take(text="second", n=2))
    assert [Cassette(path).find(question(), n).text for n in (1, 2)] == ["first", "second"]


def test_the_same_takes_make_the_same_bytes(tmp_path):
    takes = [take(f"prompt {i}", "Füße\n" * i) for i in range(5)]
    one, two = Cassette(tmp_path / "1" / "a.o3.json"), Cassette(tmp_path / "2" / "a.o3.json")
    for each in takes:
        one.keep(each)
    for each in reversed(takes):
        two.keep(each)
    two.replace(lambda tape: CassetteData(tape.head, tape.entries[::-1], tape.places[::-1]))
    assert one.path.read_bytes() == two.path.read_bytes()


def test_a_change_by_somebody_else_is_seen(cassette, path):
    cassette.keep(take("a"))
    Cassette(path).keep(take("b"))
    assert prompts(cassette) == ["a", "b"]
    cassette.keep(take("c"))
    assert prompts(Cassette(path)) == ["a", "b", "c"]
    path.unlink()
    assert cassette.find(question("a")) is None


def test_a_change_by_an_editor_is_seen(cassette, path):
    cassette.keep(take("a", "rain"))
    path.write_text(path.read_text("utf-8").replace("rain", "snow"), "utf-8")
    found = cassette.find(question("a"))
    assert (found.text, found.label) == ("snow", "hand")


def test_what_is_not_used_can_be_found_and_pruned(cassette, path):
    a, b, c = (take(prompt) for prompt in "abc")
    for each in (a, b, c):
        cassette.keep(each)
    used = {a.place, c.place}
    assert cassette.unused(used) == [b]
    assert cassette.prune(used) == [b]
    assert prompts(Cassette(path)) == ["a", "c"]
    before = path.stat()
    assert cassette.prune(used) == []
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_what_others_wrote_into_the_file_stays(cassette, path):
    path.write_text(
        '{"format": "o3magic-cassette/1", "comment": {"by": ["Ada"]},'
        ' "entries": [{"request": {"prompt": "What is rain?"}, "response": {"text": "Water"},'
        ' "why": "for the course"}]}'
    )
    cassette.keep(take())
    value = json.loads(path.read_text("utf-8"))
    assert value["comment"] == {"by": ["Ada"]}
    assert value["entries"][0] == {
        "request": {"prompt": "What is rain?"},
        "response": {"text": "Water"},
        "why": "for the course",
    }


def test_an_entry_by_hand_answers_where_there_is_no_other(cassette, path):
    by_hand = {"request": {"prompt": "What is rain?"}, "response": {"text": "Water"}}
    twice = {**by_hand, "response": {"text": "Water again"}}
    value = {"format": "o3magic-cassette/1", "entries": [by_hand, twice]}
    path.write_text(json.dumps(value))
    found = [cassette.find(question("What is rain?", effort="low"), n) for n in (1, 2, 3)]
    assert [each and each.text for each in found] == ["Water", "Water again", None]
    cassette.keep(take("What is rain?", "recorded"))
    assert cassette.find(question("What is rain?")).text == "recorded"
    assert cassette.find(question("What is rain?", effort="low")).text == "Water"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_and_links_stay(cassette, path, tmp_path):
    cassette.keep(take("a"))
    path.chmod(0o640)
    cassette.keep(take("b"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    link = tmp_path / "link.o3.json"
    link.symlink_to(path)
    Cassette(link).keep(take("c"))
    assert link.is_symlink()
    assert prompts(cassette) == ["a", "b", "c"]


def test_nothing_is_left_beside_the_file(cassette, path):
    path.with_name(f".{path.name}.0123abcd.part").write_text("left by a kernel that was killed")
    cassette.keep(take())
    assert [*path.parent.iterdir()] == [path]


def test_a_folder_for_all_cassettes_is_made(tmp_path):
    cassette = Cassette(tmp_path / "all" / "of" / "them" / "a.o3.json")
    cassette.keep(take())
    assert cassette.exists


def test_a_cassette_of_an_older_format_is_read_and_upgraded_when_it_is_written(path):
    old = {"format": "o3magic-cassette/0", "takes": [take("a").to_json()]}
    path.write_text(json.dumps(old))

    def from_0(value):
        return {"entries": value["takes"]}

    cassette = Cassette(path, migrations={0: from_0})
    assert prompts(cassette) == ["a"]
    assert json.loads(path.read_text("utf-8")) == old
    cassette.keep(take("b"))
    assert path.read_text("utf-8").startswith('{\n "format": "o3magic-cassette/1"')
    assert prompts(Cassette(path)) == ["a", "b"]


def test_threads_of_one_process_lose_nothing(cassette, path):
    def keep(name):
        for number in range(10):
            cassette.keep(take(f"{name} {number}"))

    threads = [threading.Thread(target=keep, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Cassette(path).entries) == 40


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), max_size=4), JSON)
def test_the_layout_is_json_s_own_whatever_is_in_it(entries, more):
    head = {"format": format.FORMAT, "notebook": "a.ipynb", "more": [more]}
    data = format.dump(head, "", [*map(format.format_entry, entries)])
    value = {**head, "entries": entries}
    assert json.loads(data) == json.loads(json.dumps(value))
    assert data.decode() == format.format_json(value) + "\n"


def test_a_take_of_a_person_is_not_sealed_by_writing_it(cassette, path):
    cassette.keep(replace(take(), source="hand", sha256=""))
    assert "sha256" not in json.loads(path.read_text("utf-8"))["entries"][0]
    assert isinstance(Cassette(path).entries[0], Recording)
    assert Path(path).exists()

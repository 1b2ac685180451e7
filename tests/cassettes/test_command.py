"""`o3magic cassettes`, run in this process: what it prints, writes and returns."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from o3magic.cassettes.cassette import Cassette
from o3magic.cli import cassettes
from tests.cassettes.conftest import WHEN, take


@pytest.fixture
def run(capsys):
    """Gives the exit code, what was printed and what was told."""

    def command(*words):
        top = argparse.ArgumentParser(prog="o3magic")
        cassettes.add(top.add_subparsers())
        chosen = top.parse_args(["cassettes", *map(str, words)])
        return chosen.run(chosen), *capsys.readouterr()

    return command


@pytest.fixture
def filled(cassette):
    cassette.keep(take("Explain rain", "Water\nthat falls"))
    cassette.keep(replace(take("Explain snow"), source="simulated", cost_nano_usd=0).sealed())
    return cassette


def test_list_shows_one_line_for_each_entry(run, filled, path):
    code, out, _ = run("list", path)
    [head, rain, snow] = out.splitlines()
    assert code == 0
    assert head.endswith("2 entries, 1 of them live")
    for word in (take("Explain rain").key, "live", "2026-11-21", "o3-mini-2025-01-31", "$0.000189"):
        assert word in rain
    assert "simulated" in snow
    assert "$0 " in snow


def test_show_prints_question_and_answer_of_a_key_s_first_digits(run, filled, path):
    code, out, _ = run("show", path, take("Explain rain").key[:6])
    assert code == 0
    assert "Water\nthat falls" in out
    assert '"content": "Explain rain"' in out


def test_show_says_which_model_was_asked_where_none_was_named(run, cassette, path):
    asked = take("Explain rain")
    cassette.keep(replace(asked, default_model="gpt-6.1-terra", default_reason="today's").sealed())
    _, out, _ = run("show", path, asked.key)
    assert "no model was named: gpt-6.1-terra was asked, today's" in out


@pytest.mark.parametrize("key", ["ffffffffffffffff", "12", "zzzz"])
def test_a_key_that_is_not_there_is_said(run, filled, path, key):
    code, _, told = run("show", path, key)
    assert code == 2
    assert key in told
    assert "o3magic cassettes list" in told


def test_a_number_that_is_not_there_is_said(run, filled, path):
    code, _, told = run("show", path, take("Explain rain").key, "--n", 2)
    assert (code, "with the number 2" in told) == (2, True)


def test_what_a_model_says_does_not_reach_the_terminal_as_commands(run, cassette, path):
    cassette.keep(take("\x1b[2J\u202egnp", "\x1b]0;title\x07 café\u00a0☔"))
    for words in (("list", path), ("show", path, take("\x1b[2J\u202egnp").key)):
        _, out, _ = run(*words)
        assert not {"\x1b", "\x07", "\u202e"} & {*out}
    assert "café\u00a0☔" in out


def test_diff_is_one_where_answers_differ(run, filled, path, tmp_path):
    other = Cassette(tmp_path / "other.o3.json")
    other.keep(take("Explain rain", "Water\nthat pours", recorded=WHEN + timedelta(days=1)))
    other.keep(take("Explain hail"))
    code, out, _ = run("diff", path, other.path)
    assert code == 1
    assert "-that falls\n+that pours" in out
    assert "only in the new one" in out
    assert "only in the old one" in out
    assert run("diff", path, path) == (0, "the answers are the same\n", "")


def test_another_cost_is_no_other_answer(run, filled, path, tmp_path):
    other = tmp_path / "other.o3.json"
    other.write_text(path.read_text("utf-8").replace("0.000189", "0.000190"), "utf-8")
    assert run("diff", path, other)[0] == 0


def test_merge_writes_into_the_first_or_elsewhere(run, filled, path, tmp_path):
    other = Cassette(tmp_path / "other.o3.json")
    other.keep(take("Explain hail"))
    code, _, told = run("merge", path, other.path, "-o", tmp_path / "both.o3.json")
    assert (code, "3 entries" in told) == (0, True)
    assert len(filled.entries) == 2
    assert len(Cassette(tmp_path / "both.o3.json").entries) == 3
    assert run("merge", path, other.path)[0] == 0
    assert [each.prompt.split()[1] for each in filled.entries] == ["rain", "snow", "hail"]


def test_merge_resolves_a_conflict_in_place(run, filled, path):
    lines = path.read_text("utf-8").splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if "that falls" in line)
    conflict = ["<<<<<<< HEAD\n", lines[at], "=======\n", '     "that pours"\n', ">>>>>>> b\n"]
    path.write_text("".join([*lines[:at], *conflict, *lines[at + 1 :]]), "utf-8")
    assert run("list", path)[0] == 3
    assert run("merge", path)[0] == 0
    assert len(filled.entries) == 2


def test_prune_removes_by_key_and_by_source(run, filled, path):
    assert run("prune", path)[0] == 2
    code, out, _ = run("prune", path, "--source", "simulated")
    assert (code, out.splitlines()[-1]) == (0, "1 entry removed")
    assert [each.prompt for each in filled.entries] == ["Explain rain"]
    assert run("prune", path, take("Explain rain").key[:8])[0] == 0
    assert filled.entries == ()
    assert run("prune", path, "0123456789")[0] == 2


def refreshed(path):
    new = Cassette(f"{path}.new")
    new.keep(take("Explain rain", "It pours", recorded=WHEN + timedelta(days=1)))
    return new


def test_accept_shows_the_change_and_takes_it_over(run, filled, path):
    new = refreshed(path)
    code, out, _ = run("accept", path)
    assert code == 0
    assert "+It pours" in out
    assert "not asked again: 1 entry, kept" in out
    assert [each.text.split("\n")[0][-4:] for each in filled.entries] == ["ours", "snow"]
    assert not new.exists
    assert json.loads(path.read_text("utf-8"))["notebook"] == "01-quickstart.ipynb"


def test_accept_may_drop_what_was_not_asked_again(run, filled, path):
    refreshed(path)
    assert run("accept", path, "--drop")[0] == 0
    assert [each.text for each in filled.entries] == ["It pours"]


def test_nothing_to_accept_is_said(run, filled, path):
    code, _, told = run("accept", path)
    assert (code, ".new" in told) == (2, True)
    assert "--mode refresh" in told


def test_the_help_of_merge_says_how_git_is_told(run, capsys):
    with pytest.raises(SystemExit):
        run("merge", "--help")
    assert "merge --driver %O %A %B'" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("verb", ["list", "show", "diff", "merge", "prune", "accept"])
def test_a_file_that_is_not_there_or_unreadable_has_its_own_code(run, path, verb, tmp_path):
    more = {"show": ["abcd"], "diff": [path], "prune": ["abcd"]}.get(verb, [])
    assert run(verb, path, *more)[0] == 2
    path.write_text("{")
    (tmp_path / f"{path.name}.new").write_text("{")
    code, _, told = run(verb, path, *more)
    assert code == 3
    assert "is cut off" in told
    assert path.read_text() == "{"


def test_merge_of_too_many_is_said(run, path):
    assert run("merge", path, path, path)[0] == 2
    assert run("merge", "--driver", path, path)[0] == 2

"""Who answers when nothing is said, and where a cassette lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from o3magic.cassettes.record_mode import MODES, choose_mode, get_cassette_path, get_refresh_path
from o3magic.errors import BadOption


@pytest.mark.parametrize(
    ("environment", "cassette", "key", "mode"),
    [
        ({}, False, False, None),
        ({}, False, True, "live"),
        ({}, True, False, "replay"),
        ({}, True, True, "auto"),
        ({"CI": "true"}, True, True, "replay"),
        ({"CI": "1"}, True, False, "replay"),
        ({"CI": "true"}, False, True, "live"),
        ({"CI": "true"}, False, False, None),
        ({"CI": "false"}, True, True, "auto"),
        ({"CI": ""}, True, True, "auto"),
    ],
)
def test_the_rule_where_nothing_is_said(environment, cassette, key, mode):
    assert choose_mode(None, environment, cassette, key) == mode
    assert choose_mode("", environment, cassette, key) == mode


@pytest.mark.parametrize("mode", MODES)
def test_what_is_said_holds_whatever_is_there(mode):
    assert choose_mode(mode, {"CI": "true"}, True, False) == mode
    assert choose_mode("live", {"O3MAGIC_MODE": mode}, False, True) == mode


def test_a_mode_nobody_knows_is_said():
    with pytest.raises(BadOption, match="no mode 'reply'") as caught:
        choose_mode("reply", {}, True, True)
    assert caught.value.hint == "did you mean replay?"


@pytest.mark.parametrize(
    ("notebook", "name"),
    [
        ("01-quickstart.ipynb", "01-quickstart.o3.json"),
        ("my.notes.ipynb", "my.notes.o3.json"),
        ("ask.py", "ask.o3.json"),
        ("Untitled", "Untitled.o3.json"),
        ("v1.2", "v1.2.o3.json"),
        ("a.o3.json", "a.o3.json"),
    ],
)
def test_a_cassette_lies_beside_its_notebook_or_in_a_folder_for_all(notebook, name):
    assert get_cassette_path(Path("notebooks") / notebook, {}) == Path("notebooks") / name
    elsewhere = {"O3MAGIC_CASSETTES": "~/tapes"}
    assert (
        get_cassette_path(Path("notebooks") / notebook, elsewhere) == Path.home() / "tapes" / name
    )


def test_a_refresh_writes_beside_it():
    assert get_refresh_path(Path("a/b.o3.json")) == Path("a/b.o3.json.new")

"""`o3magic migrate`: real kernels, a real server that two models answer differently at."""

import json

import nbformat
import pytest

from o3magic.cassettes.cassette import Cassette
from tests.cli.conftest import outputs, text_of
from tests.servers import running
from tests.session.test_default_model import Api, Handler

INVOICE = """\
from pydantic import BaseModel


class Line(BaseModel):
    item: str
    price: float


class Invoice(BaseModel):
    number: str
    lines: list[Line]"""


class Answers(Handler):
    """Answers by the model and the effort that are asked; typed where a schema is sent."""

    def say(self, status, said, headers=()):
        if "output" in said:
            body = self.server.bodies[-1]
            effort = body.get("reasoning", {}).get("effort")
            text = f"{body['model']} at {effort}"
            if "text" in body:
                old = body["model"] == "o3"
                line = {"item": "coffee", "price": 8.5 if old else 8.25}
                text = json.dumps({"number": "2026-114", "lines": [line]})
            said["output"][0]["content"][0]["text"] = text
        super().say(status, said, headers)


@pytest.fixture
def api(own_settings, monkeypatch):
    """A server that has models of before and of today, and a key for it."""
    with running(Api(("o3", "o4-mini", "gpt-5.6-sol", "gpt-6.1-terra"))) as server:
        server.RequestHandlerClass = Answers
        monkeypatch.setenv("O3MAGIC_PROVIDER", "openai")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield server


@pytest.fixture
def recorded(o3magic, api, book):
    """Writes a notebook and records it."""

    def record(*cells):
        path = book("lesson.ipynb", "%load_ext o3magic", *cells)
        code, _, told = o3magic("run", "--mode", "record", path)
        assert code == 0, told
        api.bodies.clear()
        return path

    return record


def cassette(path):
    return Cassette(path.with_suffix(".o3.json"))


def test_a_question_without_a_model_is_asked_again_and_taken_over(o3magic, recorded, api, tmp_path):
    path = recorded("%%o3\nWhy is the sky blue?")
    before, stored = path.read_bytes(), cassette(path).path.read_bytes()
    code, out, told = o3magic("migrate", path, "--to", "gpt-5.6-sol")
    assert code == 0, told
    assert api.asked == ["gpt-5.6-sol"]
    assert (path.read_bytes(), cassette(path).path.read_bytes()) == (before, stored)
    assert "before  gpt-6.1-terra · medium · 7 in, 87 out · $0.000442" in out
    assert "now     gpt-5.6-sol · medium · 7 in, 87 out · $0.001768" in out
    assert "- gpt-6.1-terra at medium" in out
    assert "+ gpt-5.6-sol at medium" in out
    assert "1 answer by gpt-5.6-sol, 0 of them the same as before" in out
    code, out, told = o3magic("migrate", path, "--accept")
    assert code == 0, told
    (take,) = cassette(path).entries
    assert (take.default_model, take.text) == ("gpt-5.6-sol", "gpt-5.6-sol at medium")
    assert "migration" not in cassette(path).tape().head
    assert "gpt-5.6-sol at medium" in text_of(outputs(path)[1])
    assert sorted(each.name for each in tmp_path.glob("*.new")) == []
    # From here on it replays as ever, without a key, whatever the default is by then.
    code, out, told = o3magic("check", path)
    assert code == 0, out + told


def test_an_effort_is_sent_where_a_cell_says_none(o3magic, recorded, api):
    path = recorded("%%o3\nWhy?", "%%o3 -e low\nWhy not?")
    assert o3magic("migrate", path, "--to", "gpt-5.6-sol", "--effort", "high")[0] == 0
    assert [body["reasoning"]["effort"] for body in api.bodies] == ["high", "low"]
    assert o3magic("migrate", path, "--accept")[0] == 0
    code, out, told = o3magic("check", path)
    assert code == 0, out + told


@pytest.mark.parametrize(
    ("cell", "becomes"),
    [
        ("%%o3 -m o3\nWhy?", "%%o3 -m gpt-5.6-sol -e high\nWhy?"),
        ("%%o3 --model=o3 -q -e low\nWhy?", "%%o3 --model=gpt-5.6-sol -q -e low\nWhy?"),
        ("%%o3 -m 'o3'\nIs -m o3 said here?", "%%o3 -m 'gpt-5.6-sol' -e high\nIs -m o3 said here?"),
        (
            'import o3magic as o3\no3.ask("Why?", model="o3").text',
            'import o3magic as o3\no3.ask("Why?", model="gpt-5.6-sol", effort="high").text',
        ),
        (
            "%o3_config model=o3 stream=false\n%o3 Why?",
            "%o3_config model=gpt-5.6-sol effort=high stream=false\n%o3 Why?",
        ),
    ],
)
def test_cells_that_name_the_model_of_before_name_the_new_one(
    o3magic, recorded, api, cell, becomes
):
    path = recorded(cell)
    code, out, told = o3magic("migrate", path, "--to", "gpt-5.6-sol", "--effort", "high")
    assert code == 0, told
    assert api.asked == ["gpt-5.6-sol"]
    assert "cell 2 says: " in out
    assert nbformat.read(path, as_version=4).cells[1].source == cell
    assert o3magic("migrate", path, "--accept")[0] == 0
    assert nbformat.read(path, as_version=4).cells[1].source == becomes
    assert len(cassette(path).entries) == 1
    code, out, told = o3magic("check", path)
    assert code == 0, out + told


def test_typed_answers_are_compared_field_by_field(o3magic, recorded):
    path = recorded(INVOICE, "%%o3 -m o3 --schema Invoice\nOne coffee.")
    _, out, _ = o3magic("migrate", path, "--to", "gpt-5.6-sol")
    assert "lines[0].price  8.5 -> 8.25" in out
    assert "2026-114" not in out


def test_what_is_dropped_leaves_nothing(o3magic, recorded, tmp_path):
    path = recorded("%%o3\nWhy?")
    before = {each.name: each.read_bytes() for each in tmp_path.glob("lesson*")}
    o3magic("migrate", path, "--to", "gpt-5.6-sol")
    code, out, _ = o3magic("migrate", path, "--drop")
    assert code == 0
    assert "is deleted (1 entry)" in out
    assert {each.name: each.read_bytes() for each in tmp_path.glob("lesson*")} == before


def test_the_turns_of_a_conversation_are_those_that_follow_from_the_new_answers(
    o3magic, recorded, api
):
    path = recorded("%%o3 -c talk\nOne?", "%%o3 -c talk\nTwo?")
    code, out, told = o3magic("migrate", path, "--to", "gpt-5.6-sol")
    assert code == 0, told
    assert "gpt-5.6-sol at medium" in str(api.bodies[-1]["input"])
    assert "not asked before" not in out
    assert o3magic("migrate", path, "--accept")[0] == 0
    assert len(cassette(path).entries) == 2
    code, out, told = o3magic("check", path)
    assert code == 0, out + told


def test_a_cell_that_fails_is_told_and_the_others_are_asked(o3magic, recorded, api):
    path = recorded("%%o3 -o first\nOne?", "assert 'terra' in first.text", "%%o3\nTwo?")
    code, out, told = o3magic("migrate", path, "--to", "gpt-5.6-sol")
    assert code == 2
    assert api.asked == ["gpt-5.6-sol"] * 2
    assert "[3/4] failed" in told
    assert "2 answers by gpt-5.6-sol" in out


def test_a_notebook_that_changed_meanwhile_is_left_as_it_is(o3magic, recorded):
    path = recorded("%%o3\nWhy?")
    o3magic("migrate", path, "--to", "gpt-5.6-sol")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("1", id="c9"))
    nbformat.write(notebook, path)
    changed = path.read_bytes()
    code, out, _ = o3magic("migrate", path, "--accept")
    assert code == 0
    assert "has changed since" in out
    assert path.read_bytes() == changed
    assert cassette(path).entries[0].default_model == "gpt-5.6-sol"


def test_a_model_that_a_setting_names_is_told(o3magic, recorded, monkeypatch):
    monkeypatch.setenv("O3MAGIC_MODEL", "o3")
    path = recorded("%%o3\nWhy?")
    _, out, _ = o3magic("migrate", path, "--to", "gpt-5.6-sol")
    assert "still asked for o3: a settings file, O3MAGIC_MODEL or --models names it" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "gpt-5.6-sol"), "has no cassette"),
        ((), "migrate needs a model"),
        (("--accept",), "has no migration to accept or drop"),
        (("--drop",), "has no migration to accept or drop"),
    ],
)
def test_what_cannot_be_done_is_two_lines(o3magic, book, words, said):
    path = book("lesson.ipynb", "1")
    code, _, told = o3magic("migrate", path, *words)
    assert code == 3
    assert said in told
    assert len(told.splitlines()) == 2


def test_answers_that_wait_are_not_paid_for_twice(o3magic, recorded, api):
    path = recorded("%%o3\nWhy?")
    o3magic("migrate", path, "--to", "gpt-5.6-sol")
    code, _, told = o3magic("migrate", path, "--to", "o3")
    assert code == 3
    assert "neither accepted nor dropped" in told
    assert api.asked == ["gpt-5.6-sol"]

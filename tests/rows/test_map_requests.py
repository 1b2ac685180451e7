"""Rows asked in other ways: over the Chat API alone, with pictures and files, at odd columns."""

import base64
import json
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import pandas as pd
import pytest
from pydantic import BaseModel

from o3magic.errors import BadOption
from o3magic.prompts.images import png_of
from o3magic.rows.map_job import MapOptions, find_map_job, map_rows
from o3magic.rows.store import JobStore
from tests.rows.conftest import texts
from tests.rows.loopback import COST_NANO_USD, completion
from tests.servers import JsonHandler, running
from tests.sessions import entries, session_at

RED, BLUE = (png_of(1, 1, 3, bytes(colour)) for colour in ((255, 0, 0), (0, 0, 255)))


class Label(BaseModel):
    label: str
    score: int


class OnlyChat(JsonHandler):
    """Knows /chat/completions, and no schemas where it is told so."""

    def do_POST(self):
        asked = self.asked()
        self.server.asked.append((self.path, asked))
        if not self.path.endswith("/chat/completions"):
            self.say(404, {"error": {"message": f"Invalid URL (POST {self.path})", "code": None}})
        elif self.server.no_schemas and asked["response_format"]["type"] == "json_schema":
            message = "Invalid value: 'json_schema'. Supported values are: 'json_object', 'text'."
            error = {"message": message, "param": "response_format.type", "code": "invalid_value"}
            self.say(400, {"error": error})
        else:
            self.say(200, completion(asked, json.dumps({"label": "x", "score": 3}), "chat_1"))


@contextmanager
def only_chat(*, no_schemas=False):
    server = ThreadingHTTPServer(("127.0.0.1", 0), OnlyChat)
    server.asked, server.no_schemas, server.daemon_threads = [], no_schemas, True
    server.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    with running(server):
        yield server


def asked_at(session, rows, prompt="{{ a }}", **options):
    store = JobStore(":memory:")
    return map_rows(session, store, rows, prompt, wish=MapOptions(concurrency=4), **options)


def content(server, n=-1):
    return server.stats["bodies"][n]["input"][-1]["content"]


# The Chat API alone


def test_a_provider_with_chat_alone_answers_rows_with_their_tokens_and_cost(mapped, server):
    table = {"base_url": server.base_url, "endpoints": ["chat"], "key_env": "OPENAI_API_KEY"}
    with session_at("", providers={"chatty": {**table, "list_prices": True}}) as session:
        out = asked_at(session, texts(5), schema=Label, provider="chatty")
        assert [e.cost_nano_usd for e in entries(session)] == [COST_NANO_USD] * 5
    assert list(out.label) == [f"row {n}" for n in range(5)]
    assert list(out.output_tokens) == [30] * 5
    assert list(out.reasoning_tokens) == [8] * 5
    sent = server.stats["bodies"]
    assert all("messages" in body and "input" not in body for body in sent)
    assert sent[0]["response_format"]["type"] == "json_schema"
    assert "stream" not in sent[0] or sent[0]["stream"] is False


@pytest.mark.parametrize("no_schemas", [False, True])
def test_what_a_server_turns_out_to_lack_is_found_out_once_for_all_rows(no_schemas):
    with only_chat(no_schemas=no_schemas) as server, session_at(server.base_url) as session:
        out = asked_at(session, texts(40), schema=Label)
        paths = [path for path, _ in server.asked]
    assert list(out.score) == [3] * 40
    assert out.error.isna().all()
    # Those that were on their way when the first one was told.
    assert paths.count("/v1/responses") <= 4
    assert len(paths) <= 40 + 4 * (1 + no_schemas)


# Pictures and files


def test_a_picture_in_a_row_is_sent_with_its_words(mapped, server):
    rows = [{"name": "red", "dot": RED}, {"name": "blue", "dot": BLUE}]
    out = mapped(rows, "Is this {{ name }}?\n{{ dot | image }}\nYes or no.", model="o4-mini")
    assert out.error.isna().all()
    sent = {}
    for body in server.stats["bodies"]:
        before, picture, after = body["input"][-1]["content"]
        assert picture["type"] == "input_image"
        sent[before["text"].strip()] = picture["image_url"]
        assert after["text"].strip() == "Yes or no."
    shown = {name: base64.b64decode(url.partition(",")[2]) for name, url in sent.items()}
    assert shown == {"Is this red?": RED, "Is this blue?": BLUE}


def test_the_same_words_with_another_picture_are_another_row(mapped, server):
    rows = [{"dot": RED}, {"dot": BLUE}, {"dot": RED}]
    out = mapped(rows, "What is it? {{ dot | image }}", model="o4-mini")
    assert server.stats["requests"] == 2
    assert list(out.cost_usd.astype(float) > 0) == [True, True, False]
    mapped(rows, "What is it? {{ dot | image }}", model="o4-mini")
    assert server.stats["requests"] == 2  # kept, and found again by their bytes


def test_a_picture_of_a_file_beside_the_notebook(mapped, server, tmp_path, monkeypatch):
    (tmp_path / "red.png").write_bytes(RED)
    monkeypatch.chdir(tmp_path)
    rows = [{"file": "red.png"}, {"file": "none.png"}, {"file": None}, {"file": b"no picture"}]
    out = mapped(rows, "{{ file | image }}", model="o4-mini")
    assert list(out.error.isna()) == [True, False, False, False]
    assert "none.png" in out.error[1]
    assert "no picture" in out.error[3]
    assert server.stats["requests"] == 1


def test_a_model_that_takes_no_pictures_is_said_before_anything_is_sent(mapped, server):
    with pytest.raises(BadOption, match="o3-mini takes no pictures"):
        mapped([{"dot": RED}], "{{ dot | image }}", model="o3-mini")
    assert server.stats["requests"] == 0


def test_a_prompt_in_a_file_is_filled_in_row_by_row(mapped, server, tmp_path, monkeypatch):
    (tmp_path / "ask.md").write_text("Sort {{ a }}!", "utf-8")
    monkeypatch.chdir(tmp_path)
    mapped(texts(2), "", file="ask.md")
    assert sorted(server.stats["begun"]) == ["Sort row 0!", "Sort row 1!"]


# Odd tables


def test_columns_called_like_words_of_python_and_of_templates(mapped, server):
    names = ["class", "for", "self", "items", "if", "None", "true", "loop", "values", "keys"]
    rows = [{name: f"<{name}>" for name in names}]
    mapped(rows, " ".join(f"{{{{ {name} }}}}" for name in names))
    assert list(server.stats["begun"]) == [" ".join(f"<{name}>" for name in names)]


def test_a_row_cannot_be_reached_but_by_its_columns(mapped, server):
    for name in ("items", "keys", "self", "loop", "__class__"):
        with pytest.raises(Exception, match="no column"):
            mapped(texts(1), f"{{{{ {name} }}}}")
    assert server.stats["requests"] == 0


def test_an_index_with_the_same_label_twice_keeps_each_row(mapped):
    frame = pd.DataFrame({"a": ["x", "y", "x"]}, index=[7, 7, 7])
    out = mapped(frame, schema=Label)
    assert list(out.index) == [7, 7, 7]
    assert list(out.label) == ["x", "y", "x"]
    many = pd.DataFrame({"a": ["x", "y"]}, index=pd.MultiIndex.from_tuples([("k", 1)] * 2))
    assert list(mapped(many, schema=Label).label) == ["x", "y"]


@pytest.mark.parametrize("rows", [[], iter(()), pd.DataFrame(), pd.DataFrame({"a": []})])
def test_no_rows_at_all_are_an_empty_table(mapped, server, rows):
    out = mapped(rows, schema=Label)
    assert len(out) == 0
    assert [*out.columns][:3] == ["label", "score", "error"]
    assert server.stats["requests"] == 0


# Going on


def test_going_on_with_another_schema_is_refused_and_loses_nothing(mapped, server, session, store):
    class Other(BaseModel):
        label: str
        score: float

    first = mapped(texts(3), schema=Label, name="labels")
    job = find_map_job(session, store, "labels")
    with pytest.raises(BadOption, match="that would be another job"):
        job.resume(texts(5), schema=Other)
    assert len(store.jobs()) == 1
    assert list(job.resume(texts(5), schema=Label).label)[:3] == list(first.label)
    assert server.stats["requests"] == 5


def test_a_class_that_changed_under_its_name_is_another_job(mapped, server, store):
    def label(kind):
        return type("Label", (BaseModel,), {"__annotations__": {"label": str, "score": kind}})

    mapped(texts(2), schema=label(int))
    out = mapped(texts(2), schema=label(float))
    assert len(store.jobs()) == 2
    assert server.stats["requests"] == 4
    assert list(out.score) == [5.0, 5.0]

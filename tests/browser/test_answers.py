"""An answer in JupyterLab and in Notebook 7: as it comes, and as it stays."""

import re

import pytest

from o3magic.simulator import Reply
from tests.browser.page import sync_api

APPS = ["lab", "notebook"]
LOAD = "%load_ext o3magic"
LINE = """from pydantic import BaseModel

class Line(BaseModel):
    name: str
    price: float

class Order(BaseModel):
    customer: str
    lines: list[Line]"""
LINES = [{"name": f"bag {n}", "price": n / 4} for n in range(1, 13)]
MARKUP = re.compile(
    r' (id|for|href|rel|ctxtmenu_counter|data-mjx-id)="[^"]*"|<span class="numbering-entry"></span>'
)


def collapses(seen):
    """The states in which much of what had been there was gone."""
    highest, found = 0.0, []
    for state in seen:
        if state["height"] < 0.8 * highest:
            found.append(state)
        highest = max(highest, state["height"])
    return found


@pytest.mark.parametrize("app", APPS)
def test_an_answer_is_rendered(app, open_notebook, api):
    notebook = open_notebook(LOAD, "%%o3\nWhy is the sky blue, and not green?", app=app)
    notebook.run(0)
    notebook.run(1)
    output = notebook.output(1)
    for element in ("h2", "ul li strong", "code", "pre", "table td"):
        output.locator(element).first.wait_for()
    sync_api.expect(output.locator("mjx-container").first).to_be_visible()
    assert "SIMULATED, no model was asked · o3-mini" in output.locator("small").inner_text()
    assert len(notebook.model(1)) == 1


@pytest.mark.parametrize("app", APPS)
def test_a_streamed_answer_grows_and_ends_as_if_it_had_come_at_once(app, open_notebook, api):
    api.script(Reply(pause_s=0.02), Reply())
    asked = "Why is the sky blue?"
    notebook = open_notebook(LOAD, f"%%o3\n{asked}", f"%%o3 --no-stream\n{asked}", app=app)
    notebook.run(0)
    notebook.watch(1)
    notebook.start(1)
    notebook.holds(1, "Your question, counted")
    notebook.shot("mid-stream")
    notebook.ended(1)
    notebook.holds(1, "SIMULATED, no model")
    seen = notebook.seen()
    lengths = [len(state["text"]) for state in seen]
    assert len({length // 50 for length in lengths}) > 8, lengths
    assert collapses(seen) == []
    assert len(notebook.model(1)) == 1
    notebook.run(2)
    assert len(notebook.output(2).locator("mjx-container").all()) > 1
    streamed, whole = (
        MARKUP.sub("", notebook.output(index).locator(".jp-RenderedMarkdown").inner_html())
        for index in (1, 2)
    )
    assert streamed == whole


def test_a_structured_answer_grows_into_a_tree(open_notebook, api):
    api.script(Reply(json={"customer": "Ada", "lines": LINES}, pause_s=0.02, piece_bytes=200))
    notebook = open_notebook(LOAD, LINE, "%%o3 -s Order -o order\nTwelve bags.", "order.parsed")
    notebook.run(0)
    notebook.run(1)
    notebook.watch(2)
    notebook.start(2)
    notebook.holds(2, " items")
    notebook.shot("mid-stream")
    notebook.ended(2)
    notebook.holds(2, "bag 12")  # JupyterLab loads what draws trees with the first one
    seen = notebook.seen()
    assert len({state["text"] for state in seen}) > 6
    growing = [state["text"] for state in seen if "is writing" in state["text"]]
    assert len([text for text in growing if " items" in text]) > 3
    assert not [text for text in growing if '{"name"' in text]
    # It draws that one a frame or two late.
    assert len(collapses(seen)) <= 2
    tree = notebook.output(2).locator(".jp-RenderedJSON")
    assert "Ada" in tree.inner_text()
    assert "bag 12" in tree.inner_text()
    assert notebook.output(2).locator("small").count() == 1
    notebook.run(3)
    assert "Line(name='bag 12', price=3.0)" in notebook.output(3).inner_text()


def test_a_list_of_objects_grows_row_by_row(open_notebook, api):
    api.script(Reply(json={"items": LINES}, pause_s=0.02, piece_bytes=200))
    notebook = open_notebook(LOAD, LINE, "%%o3 -s list[Line]\nTwelve bags.")
    notebook.run(0)
    notebook.run(1)
    notebook.watch(2)
    notebook.start(2)
    notebook.holds(2, "bag 5")
    notebook.shot("mid-stream")
    notebook.ended(2)
    notebook.holds(2, "SIMULATED, no model")
    seen = notebook.seen()
    assert len({state["rows"] for state in seen}) > 4
    assert collapses(seen) == []
    rows = notebook.output(2).locator("table tbody tr")
    assert rows.count() == 12
    assert rows.nth(11).inner_text().split("\t")[-2:] == ["bag 12", "3.0"]


@pytest.mark.parametrize("app", APPS)
def test_a_hostile_answer_is_text(app, open_notebook, api):
    evil = "http://evil.test"
    text = f"# <b>Hi</b>\n\n<img src={evil}/i.png onerror=top.pwn()> "
    text += f"<script>top.pwn()</script>\n\n![beacon]({evil}/b.png) "
    text += "[link](javascript:top.pwn())\n\nand $x^2$ is fine"
    api.script(Reply(text=text, pause_s=0.02))
    notebook = open_notebook(LOAD, "%%o3\nHi", app=app)
    notebook.run(0)
    notebook.run(1)
    output = notebook.output(1)
    notebook.holds(1, "onerror=top.pwn()")
    sync_api.expect(output.locator("mjx-container")).to_be_visible()
    assert output.locator("img, script, b, [onerror], a[href^=javascript]").count() == 0
    assert notebook.page.evaluate("window.pwned") == 0


@pytest.mark.parametrize("app", APPS)
def test_a_refused_key_is_one_clear_message(app, open_notebook, api):
    error = {"message": "Incorrect API key provided", "code": "invalid_api_key"}
    api.script(Reply(status=401, error=error))
    notebook = open_notebook(LOAD, "%%o3\nHi", "%%o3 --efort high\nHi", app=app)
    notebook.run(0)
    notebook.run(1)
    notebook.run(2)
    assert "OPENAI_API_KEY" in notebook.output(1).inner_text()
    assert "--effort" in notebook.output(2).inner_text()
    for index in (1, 2):
        said = notebook.output(index).inner_text()
        assert len(said.strip().split("\n")) <= 3, said
        assert "Traceback" not in said
        assert "sk-test" not in said

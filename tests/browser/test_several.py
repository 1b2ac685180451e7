"""Several answers at once: compared beside each other, and in the background."""

import pytest

from o3magic.simulator import Reply
from tests.browser.page import sync_api

APPS = ["lab", "notebook"]
LOAD = "%load_ext o3magic"


def test_a_comparison_grows_side_by_side_and_ends_with_a_plot(open_notebook, server, api):
    api.script(*[Reply(pause_s=0.015)] * 3)
    notebook = open_notebook(LOAD, "%%o3 --compare\nWhich of these converge?")
    notebook.run(0)
    notebook.watch(1)
    notebook.start(1)
    notebook.holds(1, "answering")
    notebook.holds(1, "You asked")
    notebook.shot("mid-stream")
    notebook.ended(1)
    seen = [state["text"] for state in notebook.seen()]
    both = [text for text in seen if text.count("SIMULATED answer") >= 2 and "answering" in text]
    assert len(both) >= 2
    assert not [text for text in both if "**" in text or "`" in text or "##" in text]
    plot = notebook.output(1).locator("img[src^='data:image/svg'], .jp-RenderedSVG img")
    sync_api.expect(plot).to_be_visible()
    assert plot.evaluate("image => image.naturalWidth") > 100
    for effort in ("low", "medium", "high"):
        assert effort in notebook.output(1).locator("th").all_inner_texts()
    notebook.save()
    saved = server.read(notebook.name).cells[1].outputs
    assert "image/svg+xml" in saved[-1].data
    assert "| low | medium | high |" in saved[0].data["text/markdown"]


@pytest.mark.parametrize("app", APPS)
def test_two_answers_in_the_background_land_in_their_cells(app, open_notebook, api):
    api.script(*[Reply(pause_s=0.012)] * 2)
    asked = ["Who was first?", "Who was last?"]
    cells = [f"%%o3 --background\n{each}" for each in asked]
    notebook = open_notebook(LOAD, *cells, "print('free')", app=app)
    notebook.run(0)
    notebook.run(1, timeout_s=2)
    notebook.run(2, timeout_s=2)
    notebook.run(3, timeout_s=2)
    notebook.holds(3, "free")
    for index in (1, 2):
        notebook.holds(index, asked[index - 1])
    assert "SIMULATED, no model" not in notebook.output(1).inner_text()
    assert "SIMULATED, no model" not in notebook.output(2).inner_text()
    notebook.shot("mid-stream")
    for index in (1, 2):
        notebook.holds(index, "SIMULATED, no model")
        said = notebook.output(index).inner_text()
        assert asked[index - 1] in said
        assert asked[2 - index] not in said

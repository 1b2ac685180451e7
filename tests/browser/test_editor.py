"""What the editor offers while a cell is written."""

import pytest

APPS = ["lab", "notebook"]
LOAD = "%load_ext o3magic"


@pytest.mark.parametrize("app", APPS)
def test_tab_lists_the_efforts(app, open_notebook, api):
    notebook = open_notebook(LOAD, "", app=app)
    notebook.run(0)
    notebook.cell(1).locator(".cm-content").click()
    notebook.page.keyboard.type("%%o3 --effort ")
    offered = notebook.page.locator(".jp-Completer-item .jp-Completer-match")
    for _ in range(5):  # JupyterLab waits a second for the kernel, and then shows what it has
        notebook.page.keyboard.press("Tab")
        offered.first.wait_for()
        if "low" in offered.all_inner_texts():
            break
        notebook.page.keyboard.press("Escape")
    assert {"low", "medium", "high"} <= set(offered.all_inner_texts())
    notebook.shot("completion")
    notebook.page.keyboard.press("Escape")


@pytest.mark.parametrize("app", APPS)
def test_a_question_mark_opens_the_help(app, open_notebook, api):
    notebook = open_notebook(LOAD, "%%o3?", app=app)
    notebook.run(0)
    notebook.run(1)
    notebook.holds(1, "--effort")
    notebook.holds(1, "Ask a reasoning model")

"""The panel: what is chosen and typed in it, by mouse and by keyboard."""

import re

import pytest

from o3magic.simulator import Reply
from tests.browser.page import sync_api

APPS = ["lab", "notebook"]
LOAD = "%load_ext o3magic"
PANEL = "%o3_panel"
NAMED = "() => document.activeElement.innerText || document.activeElement.placeholder"


def effort(notebook, index, name):
    """A button of the row of efforts."""
    return notebook.output(index).locator(f".widget-toggle-button[data-value={name}]")


def assert_chosen(notebook, index, name):
    """An effort is the chosen one, now or soon."""
    sync_api.expect(effort(notebook, index, name)).to_have_class(re.compile("mod-active"))


def button(notebook, index, name):
    """A button with a word on it."""
    return notebook.output(index).get_by_role("button", name=re.compile(rf"\b{name}$"))


def asked(api):
    """The effort of each question that came."""
    return [(request.body.get("reasoning") or {}).get("effort") for request in api.requests]


@pytest.mark.parametrize("app", APPS)
def test_what_is_chosen_is_asked_and_what_is_set_is_shown(app, open_notebook, api):
    cells = [LOAD, PANEL, "%%o3\nHi", "%o3_config effort=low"]
    notebook = open_notebook(*cells, app=app)
    notebook.run(0)
    notebook.run(1)
    effort(notebook, 1, "high").click()
    assert_chosen(notebook, 1, "high")
    notebook.run(2)
    assert asked(api) == ["high"]
    notebook.run(3)
    assert_chosen(notebook, 1, "low")


@pytest.mark.parametrize("app", APPS)
def test_a_question_by_keyboard_alone(app, open_notebook, api):
    notebook = open_notebook(LOAD, PANEL, app=app)
    notebook.run(0)
    notebook.run(1)
    output, keyboard = notebook.output(1), notebook.page.keyboard
    for label in ("Model", "Schema", "Developer", "Prompt", "Name"):
        sync_api.expect(output.get_by_label(label, exact=True).first).to_be_visible()
    output.get_by_label("Prompt").focus()
    keyboard.insert_text("Why is the sky blue?")
    keyboard.press("Tab")
    keyboard.press("Tab")
    assert notebook.page.evaluate(NAMED).strip() == "Run"
    keyboard.press("Enter")
    notebook.holds(1, "SIMULATED, no model was asked")
    notebook.holds(1, "1 simulated call")
    assert output.locator("h2", has_text="Your question, counted").count() == 1


def test_stop_ends_an_answer_and_keeps_what_came(open_notebook, api):
    api.script(Reply(text=" ".join(f"word{n}" for n in range(900)), pause_s=0.05))
    notebook = open_notebook(LOAD, PANEL)
    notebook.run(0)
    notebook.run(1)
    notebook.output(1).get_by_label("Prompt").fill("Hi")
    button(notebook, 1, "Run").click()
    notebook.holds(1, "word12")
    sync_api.expect(button(notebook, 1, "Run")).to_be_disabled()
    notebook.shot("mid-stream")
    button(notebook, 1, "Stop").click()
    sync_api.expect(button(notebook, 1, "Stop")).to_be_disabled(timeout=2_000)
    notebook.holds(1, "stopped by you")
    notebook.holds(1, "word0 word1")
    notebook.holds(1, "interrupted; this is what had arrived")


def test_two_panels_stay_in_step(open_notebook, api):
    notebook = open_notebook(LOAD, PANEL, PANEL)
    for index in range(3):
        notebook.run(index)
    effort(notebook, 1, "high").click()
    assert_chosen(notebook, 2, "high")
    effort(notebook, 2, "low").click()
    assert_chosen(notebook, 1, "low")
    model = notebook.output(1).get_by_label("Model")
    model.fill("gpt-5.4")
    model.press("Tab")
    sync_api.expect(effort(notebook, 2, "xhigh")).to_be_visible()
    sync_api.expect(notebook.output(2).get_by_label("Model")).to_have_value("gpt-5.4")


def test_a_panel_of_a_kernel_that_is_gone_breaks_nothing(open_notebook, api):
    errors = []
    notebook = open_notebook(LOAD, PANEL, "%%o3\nHi")
    notebook.page.on("pageerror", lambda error: errors.append(str(error)))
    notebook.run(0)
    notebook.run(1)
    notebook.restart()
    stale = effort(notebook, 1, "high")
    if stale.count():
        stale.click()
    notebook.run(0)
    notebook.run(2)
    notebook.holds(2, "SIMULATED")
    assert asked(api) == [None]
    notebook.run(1)
    effort(notebook, 1, "high").click()
    assert_chosen(notebook, 1, "high")
    notebook.run(2)
    assert asked(api)[-1] == "high"
    # What ipywidgets says of any widget whose kernel is gone.
    assert set(errors) <= {"Cannot send"}

"""The extension in a browser: prompts look like prompts, and the cell has a button to stop it."""

import sys
from pathlib import Path

import pytest

import o3magic.version
from o3magic.simulator import Reply

OURS = Path(o3magic.version.__file__).parent / "labextension"
INSTALLED = Path(sys.prefix) / "share/jupyter/labextensions/o3magic"
TEXTS = {path.relative_to(OURS): path.read_bytes() for path in OURS.rglob("*") if path.is_file()}


def is_current():
    """Whether Jupyter finds what stands in the sources."""
    there = [INSTALLED / name for name in TEXTS]
    return all(path.is_file() for path in there) and [p.read_bytes() for p in there] == [
        *TEXTS.values()
    ]


pytestmark = pytest.mark.skipif(
    not is_current(), reason=f"not installed as it is here: install o3magic again, for {INSTALLED}"
)

APPS = ["lab", "notebook"]
LOAD = "%load_ext o3magic"
PROMPT = """%%o3 --effort low
---
Explain **this** and `{{ name }}`:

```python
def f(x): return "{{ x }}"
```"""
CODE = 'def f(x): return "{{ x }} **no**"'
SLOW = Reply(text=" ".join(f"word{n}" for n in range(2000)), pause_s=0.03)
WAIT = "import pathlib, time\nwhile not pathlib.Path({go!r}).exists(): time.sleep(0.02)"
# Seen on a quiet machine: 0.1 to 0.3 s.
SOON_S = 2.0


def language(notebook, index):
    """What the editor of a cell takes its text for."""
    return notebook.cell(index).locator(".cm-content").get_attribute("data-language")


def style(notebook, index, text, name):
    """How a word of a cell looks."""
    word = notebook.cell(index).locator(".cm-line span").filter(has_text=text).last
    return word.evaluate("(node, name) => getComputedStyle(node)[name]", name)


def stop_of(notebook, index=None):
    """The button, in one cell or in any."""
    place = notebook.page if index is None else notebook.cell(index)
    return place.get_by_role("button", name="Stop this answer")


def gone(notebook):
    """Wait until no cell has a button."""
    notebook.page.locator(".o3-Stop").wait_for(state="detached")


@pytest.mark.parametrize("app", APPS)
def test_a_prompt_is_highlighted_as_markdown_and_code_as_code(app, open_notebook):
    notebook = open_notebook(PROMPT, CODE, "\n\n%%o3\nHi **you**", "%%o3_no\n**x**", app=app)
    marks = notebook.page.locator(".o3-Template")
    marks.first.wait_for()
    assert [language(notebook, n) for n in range(4)] == ["markdown", "python", "markdown", "python"]
    assert marks.all_inner_texts() == ["{{ name }}", "{{ x }}"]
    assert style(notebook, 0, "this", "fontWeight") == "700"
    assert style(notebook, 0, "%%o3", "fontWeight") == "700"
    assert style(notebook, 2, "you", "fontWeight") == "700"
    # The code within is code; the line below the header did not make a heading of it.
    assert style(notebook, 0, "def", "color") == style(notebook, 1, "def", "color")
    assert style(notebook, 0, "--effort", "fontWeight") == "400"


def test_what_is_filled_in_is_marked_and_latex_is_not(open_notebook):
    yes = ["{{ df | head(2) }}", '{{ "}}" }}', '{{ {"a": 1}["a"] }}']
    no = [r"\{{ x }}", "x^{{2}}", "{{}}", '{"a": {"b": {}}}']
    notebook = open_notebook("\n".join(["%%o3", *no, " ".join(yes)]))
    marks = notebook.cell(0).locator(".o3-Template")
    marks.first.wait_for()
    assert marks.all_inner_texts() == yes
    notebook.cell(0).locator(".cm-line").first.click()
    notebook.page.keyboard.press("End")
    notebook.page.keyboard.type(" --no-template")
    assert marks.count() == 0
    notebook.page.keyboard.press("Backspace")
    assert marks.count() == 3


def test_the_language_follows_the_header(open_notebook):
    notebook = open_notebook("x = 1", PROMPT)
    notebook.cell(0).locator(".cm-content").click()
    keyboard = notebook.page.keyboard
    keyboard.press("Control+A")
    seen = []
    for key in ["%", "%", "o", "3", "x", "Backspace", "Home", "#", "Backspace"]:
        keyboard.press(key)
        seen.append(language(notebook, 0)[0])
    assert "".join(seen) == "pppmpmmpm"
    mime = "window.notebook().content.widgets[0].model.mimeType"
    assert notebook.page.evaluate(mime) == "text/x-ipython"


@pytest.mark.parametrize("app", APPS)
def test_the_button_stops_the_cell_that_runs(app, open_notebook, api):
    api.script(SLOW)
    notebook = open_notebook(LOAD, "%%o3 -o kept\nHi", "len(kept.text) > 0", app=app)
    notebook.run(0)
    notebook.start(1)
    notebook.holds(1, "word9")
    assert stop_of(notebook, 1).count() == stop_of(notebook).count() == 1
    notebook.shot("with the button")
    assert notebook.stopped_s(1, stop_of(notebook)) < SOON_S
    gone(notebook)
    notebook.holds(1, "interrupted")
    notebook.run(2)
    notebook.holds(2, "True")
    notebook.save()
    assert "Stop" not in (notebook.server.root / notebook.name).read_text("utf-8")


@pytest.mark.parametrize("app", APPS)
def test_what_waits_and_what_is_python_has_no_button(app, open_notebook, api, tmp_path):
    api.script(SLOW)
    go = tmp_path / "go"
    cells = [LOAD, WAIT.format(go=str(go)), "%%o3\nHi", "print('after')"]
    notebook = open_notebook(*cells, app=app)
    notebook.run(0)
    for index in (1, 2, 3):
        notebook.start(index)
    # Longer than the button waits before it is shown.
    notebook.page.wait_for_timeout(500)
    prompts = notebook.page.locator(".jp-InputPrompt").all_inner_texts()
    assert [said.strip() for said in prompts[1:]] == ["[*]:"] * 3
    assert stop_of(notebook).count() == 0
    go.touch()
    stop_of(notebook).wait_for()
    assert [stop_of(notebook, n).count() for n in range(4)] == [0, 0, 1, 0]
    stop_of(notebook).click()
    gone(notebook)


def test_the_keyboard_reaches_it_and_is_given_back(open_notebook, api):
    api.script(SLOW)
    notebook = open_notebook(LOAD, "%o3 -q Hi", "1")
    notebook.run(0)
    notebook.start(1)
    stop_of(notebook).wait_for()
    keyboard = notebook.page.keyboard
    keyboard.press("Escape")
    focused = "document.activeElement.className"
    for _ in range(10):
        keyboard.press("Tab")
        if notebook.page.evaluate(focused) == "o3-Stop":
            break
    assert notebook.page.evaluate(focused) == "o3-Stop"
    keyboard.press("Enter")
    gone(notebook)
    notebook.idle()
    assert "jp-Cell" in notebook.page.evaluate(focused)


def test_it_goes_with_the_kernel(open_notebook, api):
    api.script(SLOW)
    notebook = open_notebook(LOAD, "%%o3\nHi")
    notebook.run(0)
    notebook.start(1)
    stop_of(notebook).wait_for()
    notebook.restart()
    gone(notebook)


def test_it_says_that_it_is_stopping_and_can_be_pressed_again_where_that_failed(open_notebook, api):
    api.script(SLOW)
    notebook = open_notebook(LOAD, "%%o3\nHi")
    notebook.run(0)
    notebook.start(1)
    held = []
    notebook.page.route("**/interrupt*", lambda route: held.append(route))
    stop_of(notebook).click()
    stopping = notebook.cell(1).get_by_role("button", name="Stopping this answer")
    assert stopping.inner_text() == "Stopping..."
    assert stopping.is_disabled()
    held[0].abort()
    stop_of(notebook).wait_for()
    notebook.page.unroute("**/interrupt*")
    stop_of(notebook).click()
    gone(notebook)

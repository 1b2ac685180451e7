"""A notebook that is read later, by another, on a small screen or in the dark."""

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell

from o3magic.simulator import Reply

LOAD = "%load_ext o3magic"
LINE = """from dataclasses import dataclass

@dataclass
class Line:
    name: str
    tags: list[str]"""
EVIL = "Hello <img src=http://evil.test/i.png onerror=top.pwn()><script>top.pwn()</script>"
CELLS = [LOAD, LINE, "%%o3\nWhy?", "%%o3 -s Line\nA bag.", "%%o3 --compare\nWhich?", "%o3_panel"]

# Text that stands out of its output, where nothing lets the reader scroll to it.
OVERHANGING = """(area) => {
  const right = area.getBoundingClientRect().right + 1;
  const scrolls = (each) => each !== area && (
    ['auto', 'scroll'].includes(getComputedStyle(each).overflowX) || scrolls(each.parentElement));
  return [...area.querySelectorAll('*')]
    .filter((each) => each.getBoundingClientRect().width > 2 && !each.closest('mjx-assistive-mml'))
    .filter((each) => each.getBoundingClientRect().right > right && !scrolls(each))
    .map((each) => `${each.tagName}.${each.className} ${each.textContent.slice(0, 40)}`);
}"""
# Words with less contrast than WCAG 2.2 asks for, 4.5 to 1, against what is behind them.
FAINT = """(area) => {
  const rgb = (said) => said.match(/[\\d.]+/g).map(Number);
  const light = (said) => rgb(said).slice(0, 3)
    .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (each) => {
    const said = getComputedStyle(each).backgroundColor;
    return (rgb(said)[3] ?? 1) > 0.5 || !each.parentElement ? said : behind(each.parentElement);
  };
  // The colours of the tree are JupyterLab's.
  const NOT_OURS = 'svg, select, [disabled], .jp-RenderedJSON';
  const faint = [];
  for (const each of area.querySelectorAll('*')) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !each.checkVisibility() || each.closest(NOT_OURS)) continue;
    const [a, b] = [light(getComputedStyle(each).color), light(behind(each))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const what = `${each.tagName}.${each.className} ${each.textContent.slice(0, 40)}`;
    if (contrast < 4.5) faint.push(`${contrast.toFixed(1)} ${what}`);
  }
  return faint;
}"""


@pytest.fixture
def written(open_notebook, server, api):
    """The name of a notebook with every kind of answer in it, saved, its kernel gone."""
    notebook = open_notebook(*CELLS)
    for index in range(len(CELLS)):
        notebook.run(index)
    notebook.save()
    notebook.page.close()
    server.end_kernels()
    return notebook.name


def assert_readable(notebook):
    """Every answer in the notebook can be read."""
    notebook.holds(2, "Your question, counted")
    assert notebook.output(2).locator("h2").count() >= 2
    notebook.holds(3, "tags")
    notebook.holds(4, "of which reasoning")
    assert notebook.output(4).locator("img").count() == 1
    for index in (2, 3, 4):
        assert "Loading widget" not in notebook.output(index).inner_text()
        assert "SIMULATED" in notebook.output(index).inner_text()


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_read_again_without_a_kernel(app, written, open_notebook, browser, server):
    with browser.new_context(viewport={"width": 1100, "height": 900}) as another:
        another.route("**/api/sessions*", lambda route: route.abort())
        notebook = open_notebook(name=written, app=app, where=another, kernel=False)
        assert_readable(notebook)
        assert server.get("api/sessions") == []
        notebook.shot()
        notebook.page.close()


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_read_by_one_who_does_not_trust_it(app, open_notebook, server, api):
    api.script(Reply(text=EVIL))
    notebook = open_notebook(LOAD, "%%o3\nHi", "%%o3 --compare\nWhich?")
    for index in range(3):
        notebook.run(index)
    notebook.save()
    notebook.page.close()
    server.end_kernels()
    saved = server.read(notebook.name)
    saved.cells.append(new_markdown_cell("Changed by somebody else, so signed by nobody."))
    nbformat.write(saved, server.root / f"untrusted-{app}.ipynb")
    strange = open_notebook(name=f"untrusted-{app}.ipynb", app=app)
    trusted = "window.notebook().content.widgets[1].model.trusted"
    assert strange.page.evaluate(trusted) is False
    strange.holds(1, "onerror=top.pwn()")
    strange.holds(1, "SIMULATED")
    strange.holds(2, "of which reasoning")
    assert strange.output(1).locator("img, script").count() == 0
    assert strange.page.evaluate("window.pwned") == 0


# How much of each text of the panel's efforts can be seen, in pixels.
NAMES = """(area) => [...area.querySelectorAll('.widget-html-content span')]
  .filter((each) => /^\\w+:$/.test(each.textContent))
  .map((each) => Math.round(each.getBoundingClientRect().width))"""


def test_the_figures_of_an_effort_have_its_name_where_they_are_not_below_its_button(
    open_notebook, api
):
    notebook = open_notebook(LOAD, "%o3_panel")
    for index in range(2):
        notebook.run(index)
    wide = notebook.output(1).evaluate(NAMES)
    notebook.page.set_viewport_size({"width": 400, "height": 1400})
    notebook.page.wait_for_function(f"({NAMES})(document)[0] > 20")
    narrow = notebook.output(1).evaluate(NAMES)
    assert wide == [0, 0, 0, 0]
    assert len(narrow) == 4
    assert min(narrow) > 20


def test_on_a_narrow_page_nothing_stands_out(open_notebook, api):
    notebook = open_notebook(*CELLS)
    notebook.page.set_viewport_size({"width": 400, "height": 4000})
    for index in range(len(CELLS)):
        notebook.run(index)
    for index in range(2, len(CELLS)):
        notebook.cell(index).scroll_into_view_if_needed()
        assert notebook.output(index).evaluate(OVERHANGING) == [], CELLS[index]
    area, plot = notebook.output(4).bounding_box(), notebook.output(4).locator("img").bounding_box()
    assert plot["x"] + plot["width"] <= area["x"] + area["width"]


@pytest.fixture
def themed(open_notebook):
    """Opens a notebook in a theme; the next one is in the light again."""
    opened = []

    def open_(theme):
        opened.append(notebook := open_notebook(*CELLS))
        notebook.page.set_viewport_size({"width": 1100, "height": 4000})
        notebook.command("apputils:change-theme", theme=theme)
        light = "true" if theme.endswith("Light") else "false"
        notebook.page.locator(f"body[data-jp-theme-light={light}]").wait_for(state="attached")
        return notebook

    yield open_
    opened[-1].shot("theme")
    opened[-1].command("apputils:change-theme", theme="JupyterLab Light")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_word_can_be_read_in_the_light_and_in_the_dark(theme, themed, api):
    notebook = themed(theme)
    for index in range(len(CELLS)):
        notebook.run(index)
    for index in range(2, len(CELLS)):
        assert notebook.output(index).evaluate(FAINT) == [], CELLS[index]

"""A site of plain files: built with what pip and npm fetch, then opened with nobody else to ask."""

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from o3magic.simulator import Simulator

pytestmark = pytest.mark.lite

ROOT = Path(__file__).parents[2]
SHOTS = Path(__file__).parent / "shots"
SCHEMA = """from dataclasses import dataclass
@dataclass
class City:
    name: str
    people: int"""
CELLS = {
    "load": "%load_ext o3magic",
    "schema": SCHEMA,
    "text": "%%o3\nWhat is a heap?",
    "raw": "%%o3 --raw\nWhat is a heap, in raw?",
    "summary": "%%o3 --summary auto\nWhy is the sky blue?",
    "tree": "%%o3 -s City -o city\nThe biggest city",
    "table": "%%o3 -s list[City]\nThe biggest cities",
    "compare": "%%o3 --compare --efforts low,high\nWhat is a queue?",
    "background": "%%o3 --background -o later\nWhat is a tree?",
    "python": "import o3magic as o3\nanswer = o3.ask('What is {{ x }}?', names={'x': 'a map'})\n"
    "print(answer.text, answer.recorded, city.parsed)",
    "twice": "for _ in range(2):\n    again = %o3 -q the same\n    print(again.text)",
    "hook": "print(_)",
}
MISS = "%%o3\nThis was never asked."
NOTEBOOK = "window.jupyterapp.shell.currentWidget"
OUTPUTS = f"{NOTEBOOK}.content.widgets.map((cell) => cell.model.toJSON().outputs)"


def environment(folder, **said):
    ours = ("O3MAGIC_", "OPENAI_", "AZURE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    paths = [str(ROOT), kept.get("PYTHONPATH")]
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return kept | {"O3MAGIC_CONFIG": str(folder / "none.toml"), "O3MAGIC_LEDGER": ":memory:"} | said


def o3magic(*words, **options):
    command = [sys.executable, "-m", "o3magic", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def write(path, cells):
    made = [new_code_cell(source, id=name) for name, source in cells.items()]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=made, metadata={"kernelspec": kernel}), path)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A notebook with a cassette, recorded here, and what its cells gave."""
    folder = tmp_path_factory.mktemp("lesson")
    path = folder / "lesson.ipynb"
    write(path, CELLS)
    with Simulator() as simulator:
        said = {"O3MAGIC_PROVIDER": "simulator", "O3MAGIC_SIMULATOR_URL": simulator.base_url}
        done = o3magic("run", "--mode", "record", path, env=environment(folder, **said))
    assert done.returncode == 0, done.stderr
    again = o3magic("run", path, "--mode", "replay", env=environment(folder))
    assert again.returncode == 0, again.stderr
    ran = nbformat.read(path, as_version=4)
    write(path, CELLS | {"miss": MISS})  # without outputs: what is seen later was made there
    write(folder / "other.ipynb", {"other": "1"})
    return path, {cell.id: cell.outputs for cell in ran.cells}


@pytest.fixture(scope="module")
def site(lesson, tmp_path_factory):
    """The site, and what the command said."""
    output = tmp_path_factory.mktemp("built") / "site"
    began_s = time.monotonic()
    done = o3magic("lite", output, lesson[0].parent)
    assert done.returncode == 0, done.stderr
    size = sum(each.stat().st_size for each in output.rglob("*") if each.is_file())
    measured(f"built in {time.monotonic() - began_s:.1f} s, {size / 1e6:.1f} MB")
    return output, done.stdout


class Served:
    """The site on loopback; counts what is asked for."""

    def __init__(self, folder):
        self.asked = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(*_):
                """Say nothing."""

            def send_response(handler, code, message=None):
                self.asked.append((int(code), handler.path))
                super().send_response(code, message)

            def copyfile(handler, source, output):
                try:
                    super().copyfile(source, output)
                except ConnectionError:
                    return  # the page was closed
                self.bytes += source.tell()

        self.bytes = 0
        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def measured(line):
    SHOTS.mkdir(exist_ok=True)
    with (SHOTS / "measured.txt").open("a") as file:
        file.write(f"{line}\n")


def test_the_command_says_how_to_look_at_the_site(site, lesson):
    output, said = site
    assert "2 notebooks" in said
    assert "answers come from cassettes only" in said
    assert "without a cassette, so without answers: other.ipynb" in said
    assert f"-m http.server -b 127.0.0.1 -d {output} 8000" in said
    assert "lab/index.html?path=lesson.ipynb" in said


def test_the_kernel_has_all_its_packages_need_and_nothing_of_the_command_line(site):
    output, _ = site
    kernel = json.loads((output / "static/pyodide/pyodide-lock.json").read_text("utf-8"))
    names = set(kernel["packages"])
    assert {"o3magic", "pydantic-core", "ipython", "markupsafe"} <= names
    assert not names & {"nbformat", "nbclient", "rpds-py", "rich"}
    for each in kernel["packages"].values():
        assert (output / "static/pyodide" / each["file_name"]).is_file()
        assert set(each["depends"]) <= names


def test_a_recorded_notebook_replays_in_a_browser_that_reaches_nobody_else(site, lesson):
    from tests.browser.page import launch, sync_api

    output, _ = site
    settings = output / "jupyter-lite.json"
    said = json.loads(settings.read_text("utf-8"))
    said["jupyter-config-data"]["exposeAppInBrowser"] = True  # so that outputs can be read whole
    settings.write_text(json.dumps(said), "utf-8")
    strangers = []
    with Served(output) as served, sync_api.sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(viewport={"width": 1100, "height": 1400})
        own = (served.url, "data:", "blob:", "about:")
        context.on("request", lambda r: None if r.url.startswith(own) else strangers.append(r.url))
        try:
            for visit in ("cold", "warm"):
                page = context.new_page()
                served.bytes = 0
                took_s = run_all(page, served)
                measured(f"{visit} visit: {took_s:.1f} s, {served.bytes / 1e6:.1f} MB")
                check(page, lesson[1])
                page.screenshot(path=SHOTS / f"lite-{visit}.png")
                page.close()
        finally:
            for page in context.pages:
                page.screenshot(path=SHOTS / "lite-failed.png")
            browser.close()
    assert strangers == []
    assert {path for code, path in served.asked if code >= 400} <= {"/favicon.ico"}


def run_all(page, served):
    """Open the notebook as a reader would and run its cells; the seconds until all have ended."""
    page.set_default_timeout(120_000)
    began_s = time.monotonic()
    page.goto(f"{served.url}/lab/index.html?path=lesson.ipynb")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    kernel = f"{NOTEBOOK}?.sessionContext?.session?.kernel"
    page.wait_for_function(f"{kernel}?.status === 'idle'")
    page.get_by_text("Run", exact=True).first.click()
    page.get_by_text("Run All Cells", exact=True).click()
    # The last cell fails, as it should; if another did, nothing would run after it.
    page.wait_for_function(f"{OUTPUTS}.some((all) => all.some((one) => one.ename))")
    return time.monotonic() - began_s


def check(page, recorded):
    """What the cells show is what they gave where they were recorded."""
    cells = page.evaluate(f"{NOTEBOOK}.content.widgets.map((cell) => cell.model.toJSON())")
    seen = {cell["id"]: cell["outputs"] for cell in cells}
    for name in CELLS:
        assert shown(seen[name]) == shown(recorded[name]), name
    text = page.locator(".jp-Notebook .jp-Cell").nth(list(CELLS).index("text")).inner_text()
    assert "SIMULATED answer: no model was asked." in text
    assert "An o3magic simulator made this text out of your question" in text
    assert "o3-mini-simulated · medium" in text
    assert "recorded on" in text
    [miss] = seen["miss"]
    assert miss["output_type"] == "error"
    assert "never asked" in "\n".join(miss["traceback"])


def shown(outputs):
    """What of outputs does not differ from front end to front end."""
    kept = []
    for output in outputs:
        if output["output_type"] == "stream":
            kept.append((output["name"], output["text"]))
        else:
            kept.append((output.get("data"), output.get("metadata")))
    return kept

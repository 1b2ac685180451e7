"""A notebook in a browser: what one does with it by hand, and what one sees."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the browser tests need playwright: '.[browser]'"
)

SHOTS = Path(__file__).parent / "shots"
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("O3MAGIC_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
if CHROMIUM is None:
    reason = "the browser tests need Chromium: install it, or name it in O3MAGIC_CHROMIUM"
    pytest.skip(reason, allow_module_level=True)

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# Nothing may leave this machine, whatever a page asks for; that it asked is seen all the same.
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
NOTEBOOK = "window.notebook()"
# Not the shell's current widget: on a busy machine JupyterLab may open the page without one.
INIT = """
  window.pwned = 0;
  window.pwn = () => { window.pwned += 1; };
  window.notebook = () =>
    [...window.jupyterapp?.shell.widgets('main') ?? []].find((each) => each.context);
"""

# Whether a cell has run since: after a restart it may get the number it had.
COUNT = """(cell) => {
  cell.hasRun = false;
  cell.endedMs = 0;
  const prompt = cell.querySelector('.jp-InputArea-prompt');
  new MutationObserver(() => { cell.hasRun = true; })
    .observe(prompt, {childList: true, subtree: true, characterData: true});
}"""
# Markdown and trees are drawn after the prompt has its number; an output may be empty for good.
ENDED = """(at) => {
  const cell = document.querySelectorAll('.jp-Notebook .jp-Cell')[at];
  if (!cell.hasRun || !/\\[\\d+\\]:/.test(cell.querySelector('.jp-InputPrompt').innerText)) {
    return false;
  }
  cell.endedMs ||= performance.now();
  const outputs = [...cell.querySelectorAll('.jp-OutputArea-output')];
  return outputs.every((each) => each.firstChild) || performance.now() - cell.endedMs > 2000;
}"""
# What could be seen: each frame that differs from the one before.
WATCH = """(cell) => {
  const area = cell.querySelector('.jp-Cell-outputArea');
  const seen = window.seen = [];
  let last = '';
  const look = () => {
    if (area.innerText !== last) {
      last = area.innerText;
      const {height} = area.getBoundingClientRect();
      seen.push({text: last, height, rows: area.querySelectorAll('tr, li').length});
    }
    if (window.seen === seen) requestAnimationFrame(look);
  };
  look();
}"""


def launch(playwright):
    """Chromium, headless."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


class Notebook:
    """One notebook in one tab."""

    def __init__(self, context, server, app, name, title):
        SHOTS.mkdir(exist_ok=True)
        self.server, self.app, self.name, self.title = server, app, name, title
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.add_init_script(INIT)
        self.strangers, self.dialogs = [], []
        self.page.on("request", lambda request: self._requested(request.url))
        self.page.on("websocket", lambda socket: self._requested(socket.url))
        self.page.on("dialog", self._asked)

    def _requested(self, url):
        own = (self.server.url, self.server.url.replace("http", "ws"), "data:", "blob:", "about:")
        if not url.startswith(own):
            self.strangers.append(url)

    def _asked(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def open(self, *, kernel=True):
        """Go there, and wait until it can be used."""
        self.page.goto(self.server.address(self.app, self.name))
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        self.page.wait_for_function(f"{NOTEBOOK}?.context?.isReady")
        if kernel:
            self.idle()
        return self

    def idle(self):
        """Wait until the kernel has nothing to do."""
        kernel = f"{NOTEBOOK}.sessionContext.session?.kernel"
        self.page.wait_for_function(
            f"{kernel}?.status === 'idle' && {kernel}.connectionStatus === 'connected'"
        )

    def cell(self, index):
        """A cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index):
        """What stands below a cell."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    def start(self, index):
        """Run a cell by keyboard."""
        self.cell(index).evaluate(COUNT)
        self.cell(index).locator(".cm-content").first.click()
        self.page.keyboard.press("Control+Enter")

    def run(self, index, timeout_s=30):
        """Run a cell to its end."""
        self.start(index)
        self.ended(index, timeout_s)

    def ended(self, index, timeout_s=30):
        """Wait until a started cell has its number."""
        self.page.wait_for_function(ENDED, arg=index, timeout=timeout_s * 1000, polling=20)

    def model(self, index):
        """A cell's outputs as they would be saved."""
        return self.page.evaluate(f"{NOTEBOOK}.content.widgets[{index}].model.toJSON().outputs")

    def command(self, name, **arguments):
        """What a menu or a key would do."""
        self.page.evaluate(
            "([name, said]) => window.jupyterapp.commands.execute(name, said)", [name, arguments]
        )

    def stopped_s(self, index, press=None):
        """Press a stop button, the toolbar's or that one; the seconds until the cell ends."""
        button = "[data-jp-item-name=interrupt] :is(button, jp-button)"
        began = time.monotonic()
        (press or self.page.locator(button).first).click()
        self.ended(index)
        took_s = time.monotonic() - began
        with (SHOTS / "measured.txt").open("a") as file:
            file.write(f"{self.title}: ended {took_s:.2f} s after the click\n")
        return took_s

    def restart(self):
        """Restart the kernel, with the question whether one is sure."""
        self.page.evaluate(f"{NOTEBOOK}.sessionContext.restartKernel()")
        self.idle()

    def save(self):
        """Write it to the server's disk."""
        self.page.evaluate(f"{NOTEBOOK}.context.save()")

    def watch(self, index):
        """From now on keep each state of a cell's output that could be seen."""
        self.cell(index).evaluate(WATCH)

    def seen(self):
        """Those states."""
        return self.page.evaluate("window.seen")

    def holds(self, index, text):
        """Wait until a cell's output shows a text."""
        sync_api.expect(self.output(index)).to_contain_text(text, timeout=20_000)

    def shot(self, what=""):
        """A picture of the page."""
        name = re.sub(r"\W+", "-", f"{self.title} {what}".strip()).strip("-")
        self.page.screenshot(path=SHOTS / f"{name}.png")

"""What a streamed answer costs a page: JupyterLab in a headless Chromium, a real kernel behind it.

    python tests/benchmarks/bench_page.py [answers]

Needs jupyterlab and playwright, and a Chromium: the one on the path, or playwright's own. The
answers are numbered from 0, the shortest; `01` measures the first two. Every case has a browser, a
kernel and a notebook of its own. Ours is a `%%o3` cell; the others read the same stream and show
all the text anew, at each chunk or ten times a second.

Messages and bytes are those of displays on the iopub socket. Page CPU is that of the main thread
from the run to the end of its work. Lag: from the last byte the server sent until the last heading
of the answer stands in the page, and until the page has nothing more to do.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import nbformat
import psutil
import zmq
from answers import heavy_markdown, pieces, responses_stream
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.session import DELIM
from kernels import DISPLAYS
from loopback import Stream, served
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright
from side_by_side import show

GIVEN_UP_S = 45.0
QUIET_S = 2.0
SAMPLE_S = 0.25
BUSY_SHARE = 0.2  # of a sample
END = "\n\n###### The end\n"  # no other heading is that deep
SETUP = """import os, o3magic as o3
from pathlib import Path
from IPython.display import Markdown, display
import time
get_ipython().run_line_magic("load_ext", "o3magic")
Path("pid").write_text(str(os.getpid()))
"""
OURS = "%%o3 --base-url {url}\nSay it."
FULL = """said, handle, due_s = "", display(Markdown(""), display_id=True), 0.0
for event in o3.stream("Say it.", base_url="{url}"):
    if type(event).__name__ == "TextDelta":
        said += event.text
        if time.monotonic() >= due_s:
            handle.update(Markdown(said))
            due_s = time.monotonic() + {pause_s}
handle.update(Markdown(said))
"""
WAYS = {
    "%%o3": OURS,
    "all, 10 times a second": FULL.replace("{pause_s}", "0.1"),
    "all, at each chunk": FULL.replace("{pause_s}", "0"),
}
READY = """() => {
    const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
    return context?.isReady && context.session?.kernel?.status === "idle";
}"""
WATCH = """() => {
    window.endAt = null;
    const looking = setInterval(() => {
        if (!document.querySelector(".jp-OutputArea-output h6")) return;
        window.endAt = Date.now() / 1000;
        clearInterval(looking);
    }, 50);
    jupyterapp.commands.execute("notebook:run-cell");
}"""
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")


class Answer(NamedTuple):
    """An answer and its pace."""

    name: str
    chars: int
    chunks: int
    per_s: float
    ways: tuple[str, ...]


ALL = tuple(WAYS)
ANSWERS = (
    Answer("2 KB, 500 chunks at 50/s", 2_000, 500, 50, ALL),
    Answer("20 KB, 2,000 at 200/s", 20_000, 2_000, 200, ALL),
    # At each chunk these would keep the page busy for hours.
    Answer("200 KB, 10,000 at 1,000/s", 200_000, 10_000, 1_000, ALL[:2]),
    Answer("1 MB, 20,000 at 2,000/s", 1_000_000, 20_000, 2_000, ALL[:2]),
)


class Cost(NamedTuple):
    """What one case took; a lag of None: given up."""

    messages: int
    bytes: int
    kernel_s: float
    page_s: float
    text_lag_s: float | None
    quiet_lag_s: float | None


class Iopub:
    """Counts what a kernel sends of displays."""

    def __init__(self, connection_file: Path) -> None:
        self.messages = self.bytes = 0
        self._client = BlockingKernelClient(connection_file=str(connection_file))
        self._client.load_connection_file()
        self._socket = self._client.connect_iopub()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self) -> None:
        while not self._over.is_set():
            if self._socket.poll(100, zmq.POLLIN):
                frames = self._socket.recv_multipart()
                said = frames[frames.index(DELIM) + 2 :][:4]
                if json.loads(said[0])["msg_type"] in DISPLAYS:
                    self.messages += 1
                    self.bytes += sum(map(len, said))

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close(linger=0)


class Lab:
    """A JupyterLab server with a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url

    def notebook(self, name: str, cell: str) -> str:
        """The address of a new notebook with the setup and one cell below it."""
        cells = [nbformat.v4.new_code_cell(each) for each in (SETUP, cell)]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
        nbformat.write(made, self.folder / f"{name}.ipynb")
        return f"{self.url}/doc/tree/{name}.ipynb"

    def started_kernel(self) -> tuple[psutil.Process, Path]:
        """The kernel whose setup has just run, and its connection file."""
        said = self.folder / "pid"
        wait_until(lambda: said.is_file() and said.read_text())
        process = psutil.Process(int(said.read_text()))
        said.unlink()
        return process, Path(process.cmdline()[-1])


@contextmanager
def lab() -> Iterator[Lab]:
    """A server that no other configuration reaches."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, socket.socket() as free:
        folder = Path(name)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        own = {
            "OPENAI_API_KEY": "sk-none",
            "O3MAGIC_LEDGER": ":memory:",
            "O3MAGIC_CONFIG": str(folder / "none.toml"),
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        }
        options = [
            "--no-browser",
            "--allow-root",
            "--expose-app-in-browser",
            f"--port={port}",
            f"--ServerApp.root_dir={folder}",
            "--IdentityProvider.token=",
            "--LabApp.news_url=",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        with (folder / "lab.log").open("w") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options],
                env=kept | own,
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(f"{url}/api"))
            yield Lab(folder, url)
        finally:
            server.terminate()
            server.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def wait_until(true: Any, within_s: float = 60.0) -> None:
    until_s = time.monotonic() + within_s
    while not true():
        if time.monotonic() > until_s:
            raise TimeoutError
        time.sleep(0.1)


def measured(browser: Browser, server: Lab, name: str, cell: str, stream_url: str) -> Cost:
    """One cell in one page."""
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.goto(server.notebook(name, cell))
    page.wait_for_function(READY, timeout=60_000)
    page.evaluate("void jupyterapp.commands.execute('notebook:run-cell-and-select-next')")
    kernel, connection_file = server.started_kernel()
    iopub = Iopub(connection_file)
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
    time.sleep(QUIET_S)  # what opening the notebook began is over
    began_cpu_s, began_page_s = cpu_s(kernel), page_cpu_s(cdp)
    page.evaluate(WATCH)
    ended_s = stream_end(stream_url)
    text_at_s, quiet_at_s = until_quiet(page, cdp, ended_s)
    cost = Cost(
        iopub.messages,
        iopub.bytes,
        cpu_s(kernel) - began_cpu_s,
        page_cpu_s(cdp) - began_page_s,
        None if text_at_s is None else max(0.0, text_at_s - ended_s),
        None if quiet_at_s is None else max(0.0, quiet_at_s - ended_s),
    )
    iopub.close()
    return cost


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def page_cpu_s(cdp: CDPSession) -> float:
    metrics = cdp.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def stream_end(url: str) -> float:
    """Wait until the server has sent the whole stream; when that was."""
    began_s = time.time()
    while time.time() < began_s + 2 * GIVEN_UP_S:
        ended_s = httpx.get(url).json()
        if ended_s and ended_s > began_s:
            return float(ended_s)
        time.sleep(SAMPLE_S)
    raise TimeoutError("the cell did not read its stream to the end")


def until_quiet(page: Page, cdp: CDPSession, ended_s: float) -> tuple[float | None, float | None]:
    """When the end of the text was there, and when the page had done all its work."""
    busy_at_s, spent_s, text_at_s = time.time(), page_cpu_s(cdp), None
    while time.time() < busy_at_s + QUIET_S or text_at_s is None:
        if time.time() > ended_s + GIVEN_UP_S:
            return text_at_s, None
        sampled_s = time.time()
        time.sleep(SAMPLE_S)
        text_at_s = text_at_s or page.evaluate("window.endAt")
        now_spent_s = page_cpu_s(cdp)
        if now_spent_s - spent_s > BUSY_SHARE * (time.time() - sampled_s):
            busy_at_s = time.time()
        spent_s = now_spent_s
    return text_at_s, max(busy_at_s, text_at_s)


def text_of(chars: int) -> str:
    """Heavy Markdown whose formulas all ways show: Lab itself knows no `\\(..\\)`."""
    text = heavy_markdown(chars)
    for mark, dollars in (("\\(", "$"), ("\\)", "$"), ("\\[", "$$"), ("\\]", "$$")):
        text = text.replace(mark, dollars)
    return text + END


def main(chosen: str = "0123") -> None:
    found = [ANSWERS[int(number)] for number in chosen]
    streams = {
        each.name: Stream(responses_stream(pieces(text_of(each.chars), each.chunks)), each.per_s)
        for each in found
    }
    costs: dict[tuple[str, str], Cost] = {}
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with served(streams) as urls, lab() as server, sync_playwright() as playwright:
        for answer in found:
            url = urls[answer.name]
            for way in answer.ways:
                browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS])
                name = f"case-{len(costs)}"
                cell = WAYS[way].replace("{url}", url)
                costs[answer.name, way] = measured(browser, server, name, cell, url)
                print(f"{answer.name}, {way}: {costs[answer.name, way]}", file=sys.stderr)
                browser.close()
    for answer in found:
        rows = [row(way, costs[answer.name, way]) for way in answer.ways]
        head = (
            answer.name,
            "messages",
            "KB",
            "kernel CPU s",
            "page CPU s",
            "lag to the text s",
            "to quiet s",
        )
        show(f"A page, {answer.name}", head, rows)


def row(way: str, cost: Cost) -> tuple[str, ...]:
    text, quiet = (
        f"never (>{GIVEN_UP_S:.0f})" if lag_s is None else f"{lag_s:.2f}"
        for lag_s in (cost.text_lag_s, cost.quiet_lag_s)
    )
    kernel, page = f"{cost.kernel_s:.2f}", f"{cost.page_s:.2f}"
    return way, f"{cost.messages:,}", f"{cost.bytes / 1e3:,.0f}", kernel, page, text, quiet


if __name__ == "__main__":
    main(*sys.argv[1:])

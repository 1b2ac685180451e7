"""`o3magic demo`: the demo notebooks with their cassettes; one of them is run cell by cell.

That is the one that asks a model on this machine, where the extra `local` is installed, and else
the recorded tour.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from html import unescape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text

from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.record_mode import SUFFIX, get_cassette_path
from o3magic.cli import notebooks
from o3magic.cli.kernel_runner import CellRun, KernelRunner, variables_for
from o3magic.cli.local import fetch
from o3magic.config import models_folder
from o3magic.errors import LocalModelError, O3Error
from o3magic.local.server import is_installed
from o3magic.local.weights import INSTALL, KNOWN, Weights
from o3magic.local.weights import SUFFIX as SUFFIX_OF_WEIGHTS
from o3magic.render.markdown.sanitize import plain_text


def page(notebook: Any, title: str) -> str:
    """The page of a notebook."""
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

    templates = Environment(
        loader=PackageLoader("o3magic.cli", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = templates.get_template("page.html")
    return template.render(
        title=title, cells=map(cell_of, notebook.cells), rendered=renderer.render
    )


def cell_of(cell: Any) -> dict[str, Any]:
    """A cell with the outputs a page can show."""
    outputs = [found for output in cell.get("outputs", ()) if (found := output_of(output))]
    return {"kind": cell.cell_type, "source": cell.source, "outputs": outputs}


def output_of(output: Any) -> tuple[str, str] | None:
    """The kind and the text of an output: Markdown if it has it, then text; None for neither."""
    if output.output_type == "stream":
        return "text", output.text
    if output.output_type == "error":
        return "text", "\n".join(output.traceback)
    data = output.get("data", {})
    if "text/markdown" in data and "application/json" not in data:
        return "markdown", data["text/markdown"]
    return ("text", data["text/plain"]) if "text/plain" in data else None


NOTEBOOK = "01-quickstart.ipynb"
LIVE = "00-live.ipynb"
BUNDLED = (notebooks.SUFFIX, SUFFIX)
TAIL_LINES = 12
TIMEOUT_S = 120.0
DOCTOR = "o3magic doctor"
FOOTER = "---\n\n<small>"
TAG = re.compile(r"</?\w+>")
SOURCES = {
    "simulated": "SIMULATED",
    "hand": "WRITTEN BY HAND",
    "live": "recorded from a model",
}


def run(folder: str, *, lab: bool, recorded: bool = False) -> int:
    """Write the folder, run a notebook in it, leave it as a notebook and as a page."""
    console = Console()
    model = None if recorded else model_here(console)
    target = Path(folder)
    kept = write(target)
    source = target / (NOTEBOOK if model is None else LIVE)
    said = sources(source) if model is None else f"from {model.name} on this machine"
    console.print(Panel(Text(introduction(source, model, said)), title="o3magic demo"))
    notebook = notebooks.read(source).notebook
    with tempfile.TemporaryDirectory() as scratch:
        variables = environment(source, Path(scratch), live=model is not None)
        TerminalRunner(notebook, console, target, variables, live=model is not None).play()
    notebooks.tidy(notebook)
    notebooks.replace(source, notebooks.encoded(notebook))
    html = source.with_suffix(".html")
    html.write_text(page(notebook, f"o3magic quickstart, its answers {said}"), encoding="utf-8")
    others = len([*target.glob(f"*{notebooks.SUFFIX}")]) - 1
    told = [("the executed notebook", str(source)), ("the same as a page", str(html))]
    if model is not None:
        told.append(("the recorded tour", f"o3magic demo {folder} --recorded"))
    told.append((f"{others} more notebooks", str(target)))
    if kept:
        told.append(("left as they were", ", ".join(kept)))
    if not is_installed():
        told.append(("a real model, live", f"{INSTALL}, then this again"))
    if not lab:
        told.append(("open it in JupyterLab", f"o3magic demo {folder} --lab"))
    console.print()
    for what, where in told:
        console.print(f"{what:21}  {where}", markup=False, highlight=False, soft_wrap=True)
    return open_lab(source) if lab else 0


def model_here(console: Console) -> Weights | None:
    """The model that can be asked on this machine, its weights fetched first; None for none."""
    if not is_installed():
        return None
    model, folder = KNOWN[0], models_folder(os.environ)
    try:
        if not (folder / f"{model.name}{SUFFIX_OF_WEIGHTS}").exists():
            fetch(model, folder)
    except LocalModelError as error:
        told = f"no model on this machine: {error}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
        return None
    return model


def introduction(notebook: Path, model: Weights | None, said: str) -> str:
    """Where the answers come from that are shown next."""
    if model is None:
        return (
            f"The answers below were {said}, as each of them says. They are replayed from "
            f"{get_cassette_path(notebook, {}).name}: no model is asked, no key is used, nothing "
            "is sent."
        )
    return (
        f"A real model answers below, now and on this machine: {model.title}. It needs no key, and "
        "nothing is sent anywhere. It is small and often wrong; a larger one is asked the same way."
    )


def write(target: Path) -> list[str]:
    """Copy the demo notebooks and their cassettes; what is there already stays, and is named.

    Raises O3Error where they cannot be written.
    """
    kept = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for each in bundled():
            copy = target / each.name
            data = each.read_bytes()
            if not copy.exists():
                copy.write_bytes(data)
            elif copy.read_bytes() != data and each.name not in (NOTEBOOK, LIVE):
                kept.append(each.name)
    except OSError as error:
        reason = error.strerror or error
        raise O3Error(
            f"{target} cannot be written: {reason}", hint="o3magic demo ELSEWHERE"
        ) from None
    return kept


def bundled() -> list[Any]:
    """The notebooks of the package: inside it where it is installed, beside it in a checkout."""
    folder: Any = files("o3magic").joinpath("notebooks")
    if not folder.is_dir():
        folder = Path(__file__).parents[2] / "notebooks"
    found = [each for each in folder.iterdir() if each.name.endswith(BUNDLED)]
    return sorted(found, key=lambda each: str(each.name))


def sources(notebook: Path) -> str:
    """Where the answers of a notebook come from, in words."""
    labels = {take.label for take in Cassette(get_cassette_path(notebook, {})).entries}
    return " or ".join(said for source, said in SOURCES.items() if source in labels)


def environment(notebook: Path, scratch: Path, *, live: bool) -> dict[str, str]:
    """What the kernel gets: a replay or a model of this machine, an own ledger, no key at all."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    said = {
        "O3MAGIC_MODE": "live" if live else "replay",
        "O3MAGIC_MODELS": str(models_folder(os.environ)),
        "O3MAGIC_LEDGER": str(scratch / "ledger.sqlite3"),
        "O3MAGIC_CONFIG": str(scratch / "none.toml"),
    }
    kept = {name: value for name, value in kept.items() if not name.endswith("_API_KEY")}
    return variables_for(notebook, kept | said)


def open_lab(notebook: Path) -> int:
    """Start JupyterLab on the notebook, until it is closed; the notebooks replay there too."""
    if find_spec("jupyterlab") is None:
        raise O3Error("JupyterLab is not installed", hint='python -m pip install "o3magic[lab]"')
    words = [sys.executable, "-m", "jupyterlab", str(notebook)]
    return subprocess.run(words, check=False).returncode


class LastLines:
    """The last lines of something that grows."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Those lines."""
        for line in console.render_lines(self._whole, options, pad=False)[-TAIL_LINES:]:
            yield from line
            yield Segment.line()


class TerminalRunner(KernelRunner):
    """Runs a notebook and shows each cell in the terminal while it runs.

    live: a model is asked, so an answer takes its time and may not fit: the next cell follows.
    """

    def __init__(
        self,
        notebook: Any,
        console: Console,
        folder: Path,
        variables: dict[str, str],
        *,
        live: bool,
    ) -> None:
        super().__init__(notebook, folder, variables, timeout_s=TIMEOUT_S, goes_on=live)
        self._console, self._asks = console, live
        self._live: Live | None = None
        self._shown: dict[str, RenderableType] = {}

    def reached(self, cell: Any) -> None:
        """A cell as it is read: prose as prose, code as code, a prompt as a prompt."""
        if cell.cell_type != "code":
            self._console.print(Markdown(cell.source))
            return
        lexer = "markdown" if cell.source.startswith("%%o3") else "python"
        self._console.print(Panel(Syntax(cell.source, lexer, word_wrap=True), title="In"))

    def begun(self, cell: Any, number: int) -> None:
        """Redraw what arrives, until the cell has ended."""
        self._shown = {}
        self._live = Live(
            console=self._console, transient=True, vertical_overflow="crop", refresh_per_second=12
        )
        self._live.start()

    def ended(self, cell: Any, step: CellRun) -> None:
        """Print the cell's outputs as they stay. Raises O3Error for a cell that failed."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        for output in cell.outputs:
            self._print_output(output)
        if self._asks and cell.source.startswith("%%o3"):
            self._console.print(f"{step.elapsed_s:.1f} s", style="dim", highlight=False)
        if self._asks and step.state == "failed" and step.failure is not None:
            self._console.print("\n".join(step.failure.lines), style="red", markup=False)
        elif step.state != "ok":
            told = " ".join(step.failure.lines) if step.failure else step.state
            raise O3Error(f"cell {step.number} of the notebook: {told}", hint=DOCTOR)

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Each message of the kernel, on its way into the notebook."""
        kind, content = msg["msg_type"], msg["content"]
        if kind in ("display_data", "update_display_data"):
            name = content.get("transient", {}).get("display_id", "")
            data = content["data"]
            # The open end of an answer comes as Markdown alone.
            markdown = data.get("text/markdown", "")
            plain = Text(plain_text(data.get("text/plain", "")))
            self._shown[name] = Markdown(markdown, hyperlinks=False) if markdown else plain
            if self._live is not None:
                self._live.update(LastLines(Group(*self._shown.values())))
        return super().process_message(msg, cell, cell_index)

    def _print_output(self, output: Any) -> None:
        """An output as it stays in the notebook."""
        if output.output_type == "stream":
            self._console.print(plain_text(output.text), markup=False, highlight=False, end="")
            return
        data = output.get("data", {})
        text, markdown = plain_text(data.get("text/plain", "")), data.get("text/markdown", "")
        words, found, footer = markdown.rpartition(FOOTER)
        if "application/json" in data:
            self._console.print_json(text)
        elif not found:
            self._console.print(text, markup=False, highlight=False)
        else:
            self._console.print(Markdown(words, hyperlinks=False))
            lines = unescape(TAG.sub("", footer.replace("<br>", "\n")))
            self._console.print(lines, style="dim", markup=False, highlight=False)

"""`o3magic demo`: the quickstart notebook, run in a real kernel against the embedded simulator."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from html import unescape
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from o3magic.cli import notebooks
from o3magic.cli.execution import Runner, Step
from o3magic.cli.page import page
from o3magic.errors import O3Error
from o3magic.render.safe_markdown import plain_text
from o3magic.simulator import Simulator

NOTEBOOK = "01-quickstart.ipynb"
DELAY_S = 0.01
TAIL_LINES = 12
TIMEOUT_S = 120.0
DOCTOR = "o3magic doctor"
FOOTER = "---\n\n<small>"
TAG = re.compile(r"</?\w+>")


def run(folder: str, *, lab: bool) -> int:
    """Write the folder, run the notebook in it, leave the result as a notebook and as a page."""
    console = Console()
    target = Path(folder)
    source = write(target)
    console.print(
        Panel(
            Text(
                "The answers below are SIMULATED: no model is asked, no key is used, nothing is\n"
                "sent anywhere. With OPENAI_API_KEY set, the same notebook asks a real model."
            ),
            title="o3magic demo",
        )
    )
    notebook = notebooks.read(source).notebook
    with Simulator(delay_s=DELAY_S) as simulator, tempfile.TemporaryDirectory() as scratch:
        player = Player(notebook, console, target, environment(simulator.base_url, Path(scratch)))
        player.play()
    notebooks.tidy(notebook)
    notebooks.replace(source, notebooks.encoded(notebook))
    html = source.with_suffix(".html")
    html.write_text(page(notebook, "o3magic quickstart (SIMULATED answers)"), encoding="utf-8")
    console.print(f"\nthe executed notebook  {source}", highlight=False)
    console.print(f"the same as a page     {html}", highlight=False)
    if lab:
        return open_lab(source)
    console.print("open it in JupyterLab  o3magic demo --lab", highlight=False)
    return 0


def write(target: Path) -> Path:
    """A fresh copy of the notebook in `target`. Raises O3Error where it cannot be written."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        copy = target / NOTEBOOK
        copy.write_bytes(bundled(NOTEBOOK).read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise O3Error(f"{target} cannot be written: {reason}", hint="--folder ELSEWHERE") from None
    return copy


def bundled(name: str) -> Any:
    """A notebook of the package: inside it where it is installed, beside it in a checkout."""
    inside = files("o3magic").joinpath("notebooks", name)
    return inside if inside.is_file() else Path(__file__).parents[2] / "notebooks" / name


def environment(url: str, scratch: Path) -> dict[str, str]:
    """What the kernel gets: the simulator, a ledger of its own, and no key at all."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    said = {
        "O3MAGIC_PROVIDER": "simulator",
        "O3MAGIC_SIMULATOR_URL": url,
        "O3MAGIC_LEDGER": str(scratch / "ledger.sqlite3"),
        "O3MAGIC_CONFIG": str(scratch / "none.toml"),
    }
    return {k: v for k, v in kept.items() if not k.endswith("_API_KEY")} | said


def open_lab(notebook: Path) -> int:
    """Start JupyterLab on the notebook, until it is closed; the simulator answers there too."""
    if shutil.which("jupyter-lab") is None:
        raise O3Error("JupyterLab is not installed", hint='python -m pip install "o3magic[lab]"')
    with Simulator(delay_s=DELAY_S) as simulator:
        said = {"O3MAGIC_PROVIDER": "simulator", "O3MAGIC_SIMULATOR_URL": simulator.base_url}
        words = ["jupyter-lab", str(notebook)]
        return subprocess.run(words, env=os.environ | said, check=False).returncode


class Player(Runner):
    """Runs a notebook and shows each cell in the terminal while it runs."""

    def __init__(
        self, notebook: Any, console: Console, folder: Path, variables: dict[str, str]
    ) -> None:
        super().__init__(notebook, folder, variables, timeout_s=TIMEOUT_S)
        self._console = console
        self._live: Live | None = None
        self._shown: dict[str, str] = {}

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

    def ended(self, cell: Any, step: Step) -> None:
        """Print the cell's outputs as they stay. Raises O3Error for a cell that failed."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        for output in cell.outputs:
            self._print_output(output)
        if step.state != "ok":
            told = " ".join(step.failure.lines) if step.failure else step.state
            raise O3Error(f"cell {step.number} of the notebook: {told}", hint=DOCTOR)

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Each message of the kernel, on its way into the notebook."""
        kind, content = msg["msg_type"], msg["content"]
        if kind in ("display_data", "update_display_data"):
            name = content.get("transient", {}).get("display_id", "")
            self._shown[name] = content["data"].get("text/plain", "")
            if self._live is not None:
                lines = "\n".join(self._shown.values()).split("\n")
                self._live.update(Text("\n".join(lines[-TAIL_LINES:])))
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

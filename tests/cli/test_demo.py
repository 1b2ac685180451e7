"""`o3magic demo`, run as a person runs it: away from the checkout, with a key that goes nowhere."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
KEY = "sk-test-0123456789abcdefSECRET"
BUNDLED = sorted(
    path.name for path in (ROOT / "notebooks").iterdir() if path.suffix in (".ipynb", ".json")
)

WITHOUT = "import sys\nsys.modules[{module!r}] = None\nfrom o3magic.cli.main import main\n"
WITHOUT += "sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def demo(tmp_path: Path):
    def command(
        *words: str, without: str = "", models: str = ""
    ) -> subprocess.CompletedProcess[str]:
        start = ["-c", WITHOUT.format(module=without)] if without else ["-m", "o3magic"]
        ours = ("O3MAGIC_", "OPENAI_")
        kept = {name: said for name, said in os.environ.items() if not name.startswith(ours)}
        said = {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",  # nobody listens there
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "O3MAGIC_MODELS": models,
        }
        return subprocess.run(
            [sys.executable, *start, "demo", *words],
            env=kept | said,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return command


def test_it_shows_the_quickstart_and_writes_all_notebooks_but_those_already_there(demo, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "03-effort.o3.json").write_text("my own recordings")
    done = demo("mine", without="xllamacpp")
    assert done.returncode == 0, done.stderr
    for said in (
        "The answers below were WRITTEN BY HAND",
        "%%o3 --schema Invoice",
        '"number": "2026-114"',
        "98.9",
        "o3-mini (replayed)",
        "left as they were      03-effort.o3.json",
        "o3magic demo mine --lab",
        "a real model, live     python -m pip install 'o3magic[local]', then this again",
    ):
        assert said in done.stdout
    assert "| ---" not in done.stdout
    assert done.stdout.count("WRITTEN BY HAND, no model was asked") == 4
    assert (folder / "03-effort.o3.json").read_text() == "my own recordings"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*BUNDLED, "01-quickstart.html"]
    )
    notebook = nbformat.read(folder / "01-quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    assert outputs
    assert not [out for out in outputs if out.output_type == "error"]
    page = (folder / "01-quickstart.html").read_text("utf-8")
    assert "answers WRITTEN BY HAND" in page
    assert "<script" not in page
    assert KEY not in page + done.stdout + json.dumps(notebook)


def test_with_a_model_on_this_machine_it_asks_that_live(demo, local_models, tmp_path):
    done = demo("mine", models=str(local_models))
    assert done.returncode == 0, done.stderr
    for said in (
        "A real model answers below, now and on this machine: SmolLM2-135M-Instruct",
        "%%o3 --schema Person -o person",
        "the recorded tour      o3magic demo mine --recorded",
        "7 more notebooks       mine",
        "4 of 4 rows",
    ):
        assert said in done.stdout
    assert done.stdout.count("LOCAL · smollm2-135m · ") == 5
    assert len(re.findall(r"^\d+\.\d s$", done.stdout, re.MULTILINE)) == 5
    assert "Person(name=" in done.stdout
    notebook = nbformat.read(tmp_path / "mine" / "00-live.ipynb", as_version=4)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    assert outputs
    assert not [out for out in outputs if out.output_type == "error"]
    page = (tmp_path / "mine" / "00-live.html").read_text("utf-8")
    assert "answers from smollm2-135m on this machine" in page
    assert KEY not in page + done.stdout + json.dumps(notebook)


def test_where_no_model_can_be_had_it_says_why_and_replays(demo, tmp_path):
    (tmp_path / "models").write_text("a file")
    done = demo("mine", models=str(tmp_path / "models"))
    assert done.returncode == 0, done.stderr
    (why,) = [row for row in done.stdout.splitlines() if row.startswith("no model on this")]
    assert "models cannot be written" in why
    assert "The answers below were WRITTEN BY HAND" in done.stdout


def test_a_folder_that_cannot_be_written_is_named(demo, tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = demo("taken", "--recorded")
    assert done.returncode == 1
    assert "taken cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_wheel_takes_all_of_them_along():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    taken = {name: to for name, to in wheel.items() if name.startswith("notebooks/")}
    assert taken == {f"notebooks/{name}": f"o3magic/notebooks/{name}" for name in BUNDLED}

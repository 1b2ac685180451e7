"""`pytest --o3magic`, as another project runs it: in a process of its own."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import ROOT, outputs, printed, result, text_of

HEAVY = {"nbformat", "nbclient", "rich", "pydantic", "httpx", "IPython", "jinja2", "ipywidgets"}


@pytest.fixture
def run_pytest(own_settings, tmp_path):
    """Runs pytest in a project which has o3magic installed, warnings being errors."""
    points = tomllib.loads(Path(ROOT, "pyproject.toml").read_text("utf-8"))["project"]
    lines = [f"{n} = {v}" for n, v in points["entry-points"]["pytest11"].items()]
    installed = tmp_path / "site" / "o3magic-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: o3magic\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    def run(*words):
        paths = os.pathsep.join([str(tmp_path / "site"), ROOT])
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, words)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_each_notebook_is_a_test_and_tells_its_cells(run_pytest, book, tmp_path):
    book("notebooks/same.ipynb", ("6 * 7", [], result("42")))
    other = book("notebooks/other.ipynb", ("1", [], result("1")), ("print(2)", [], printed("3\n")))
    book("notebooks/.ipynb_checkpoints/other.ipynb", "1 / 0")
    before = other.read_bytes()
    done = run_pytest("--o3magic", "notebooks", "--junitxml", "j.xml", "-q")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "cell 2 (c2) different: print(2)\n      [stdout]\n    - 3\n    + 2\n" in done.stdout
    assert "FAILED notebooks/other.ipynb::check" in done.stdout
    assert "Traceback" not in done.stdout
    told = {}
    for case in ElementTree.parse(tmp_path / "j.xml").iter("testcase"):
        for each in case.iter("property"):
            told[case.get("classname"), each.get("name")] = each.get("value")
    assert told == {
        ("notebooks.same.ipynb", "cell 1 (c1)"): "same",
        ("notebooks.other.ipynb", "cell 1 (c1)"): "same",
        ("notebooks.other.ipynb", "cell 2 (c2)"): "different",
    }
    assert other.read_bytes() == before
    done = run_pytest("--o3magic-update", "notebooks/other.ipynb", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert text_of(outputs(other)[1]) == "2\n"


def test_without_its_word_it_collects_nothing_and_loads_nothing(run_pytest, book, tmp_path):
    book("a.ipynb", "1 / 0")
    (tmp_path / "test_own.py").write_text(
        "import sys\n\ndef test_own():\n    assert 'o3magic.cli.pytest_plugin' in sys.modules\n"
        f"    assert not {HEAVY!r} & set(sys.modules)\n"
    )
    done = run_pytest("-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "--o3magic-update" in run_pytest("--help").stdout


def test_what_is_no_notebook_fails_and_says_why(run_pytest, tmp_path):
    (tmp_path / "a.ipynb").write_text("no JSON")
    done = run_pytest("--o3magic", "a.ipynb")
    assert done.returncode == 1
    assert "a.ipynb is not a notebook: it is not JSON (line 1)" in done.stdout
    assert "Traceback" not in done.stdout

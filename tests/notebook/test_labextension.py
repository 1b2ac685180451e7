"""The extension of JupyterLab and Notebook 7: its files, and that the wheel installs them."""

import importlib.metadata
import json
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

import o3magic.version

ROOT = Path(__file__).parents[2]
FOLDER = Path(o3magic.version.__file__).parent / "labextension"
FILES = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
SCRIPTS = sorted(FOLDER.glob("static/*.js"))
PLACE = "share/jupyter/labextensions/o3magic/"
PACKAGE = json.loads((FOLDER / "package.json").read_text("utf-8"))

SOURCES = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="the tests run without the sources around them"
)


def below(folder, names):
    """The paths of the files below a folder, relative to it."""
    return {name.partition(folder)[2] for name in names if folder in name}


def test_it_has_our_version():
    assert PACKAGE["name"] == "o3magic"
    assert PACKAGE["version"] == o3magic.version.__version__


def test_what_is_loaded_is_there():
    assert PACKAGE["jupyterlab"]["_build"]["load"] in FILES
    assert {"install.json", "static/prompt.js", "static/stop.js"} <= FILES


def test_it_says_how_it_is_uninstalled():
    manifest = json.loads((FOLDER / "install.json").read_text("utf-8"))
    assert (manifest["packageManager"], manifest["packageName"]) == ("python", "o3magic")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses(script):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    done = subprocess.run([node, "--check", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_asks_nobody_and_runs_no_text(script):
    text = script.read_text("utf-8")
    for word in (
        "http",
        "fetch(",
        "eval(",
        "Function(",
        "innerHTML",
        "outerHTML",
        "document.write",
    ):
        assert word not in text, word
    assert len(text.splitlines()) <= 350


@SOURCES
def test_the_project_puts_it_where_jupyter_looks_and_only_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    targets = project["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["shared-data"] == {"o3magic/labextension": PLACE.rstrip("/")}
    assert "o3magic/labextension" in targets["wheel"]["exclude"]
    assert "o3magic" in targets["sdist"]["include"]


@SOURCES
def test_the_wheel_has_it_once(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(built).namelist()
    assert below(f".data/data/{PLACE}", names) == FILES
    assert [name for name in names if name.startswith("o3magic/labextension")] == []


def test_it_is_installed_with_the_package():
    try:
        files = importlib.metadata.files("o3magic")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("o3magic runs from its folder here and is not installed")
    installed = below(PLACE, [path.as_posix() for path in files or []])
    if not installed:
        pytest.skip("installed before there was an extension: install o3magic again")
    assert installed == FILES

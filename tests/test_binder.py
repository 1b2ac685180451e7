"""Binder's folder: what repo2docker reads there, and the same steps in an environment like it."""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# What Binder's environment for Python 3.12 comes with. Source: repo2docker, 2026-08.
BASE = ("jupyterlab==4.4.9", "notebook==7.4.7")


def requirements():
    text = (BINDER / "requirements.txt").read_text("utf-8")
    return [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_python_is_one_the_package_runs_on():
    assert (BINDER / "runtime.txt").read_text("utf-8").strip() == "python-3.12"


def test_everything_the_package_needs_is_there_in_a_version_it_takes():
    pinned = {each.name: each for each in requirements()}
    for each in map(Requirement, PROJECT["dependencies"]):
        [lowest] = [s.version for s in pinned[each.name].specifier if s.operator in ("==", ">=")]
        assert each.specifier.contains(lowest), each


def test_the_requirements_are_not_taken_for_another_encoding():
    # repo2docker guesses the encoding: a file of one short line has been taken for UTF-16.
    text = (BINDER / "requirements.txt").read_text("ascii")
    assert text.startswith("# ")
    assert "." not in [line.strip() for line in text.splitlines()]


def test_the_build_stops_at_the_first_step_that_fails():
    lines = (BINDER / "postBuild").read_text("utf-8").splitlines()
    assert lines[0] == "#!/bin/bash"
    assert "set -euo pipefail" in lines
    assert os.access(BINDER / "postBuild", os.X_OK) or os.name != "posix"


def test_nothing_else_is_in_the_folder():
    assert {path.name for path in BINDER.iterdir()} == {
        "runtime.txt",
        "requirements.txt",
        "postBuild",
    }


@pytest.mark.binder
def test_the_steps_work_in_an_environment_like_binders(tmp_path):
    python = os.environ.get("O3MAGIC_BINDER_PYTHON") or sys.executable
    if python == sys.executable:
        venv.create(tmp_path / "venv", with_pip=True)
    else:
        subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    binaries = tmp_path / "venv" / "bin"
    subprocess.run(["git", "clone", "-q", ROOT, tmp_path / "repo"], check=True)
    kept = ("PATH", "HOME", "LANG", "PIP_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CONFIG_FILE")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment["PATH"] = f"{binaries}:{environment['PATH']}"

    def run(*command):
        subprocess.run(command, cwd=tmp_path / "repo", env=environment, check=True)

    run("pip", "install", "-q", *BASE)
    run("pip", "install", "-q", "-r", "binder/requirements.txt")
    run("bash", "binder/postBuild")

"""The `o3magic` command, run as a person runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from o3magic.simulator import Simulator

ROOT = str(Path(__file__).parents[2])
KEY = "sk-test-0123456789abcdefSECRET"


@pytest.fixture
def run(tmp_path: Path):
    def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
        said = {
            "O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3"),
            "O3MAGIC_CONFIG": str(tmp_path / "none.toml"),
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "PYTHONPATH": ROOT,
        }
        return subprocess.run(
            [sys.executable, "-m", "o3magic", *words],
            env=kept | said | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return command


def test_the_doctor_finds_what_is_set_up_and_shows_no_key(run):
    with Simulator(key=KEY) as simulator:
        said = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": simulator.base_url}
        done = run("doctor", O3MAGIC_MODEL="o3-mini", **said)
        assert {request.method for request in simulator.requests} == {"GET"}
        assert simulator.base_url in done.stdout
    assert "it answers" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert KEY[-6:] not in done.stdout
    assert "announced its shutdown for 2026-10-23" in done.stdout
    assert done.returncode == 1


def test_the_doctor_names_what_is_missing(run):
    done = run("doctor", O3MAGIC_PROVIDER="azure")
    assert done.returncode == 1
    assert "AZURE_OPENAI_API_KEY is not set" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_doctor_of_a_setup_that_works_finds_nothing_wrong(run):
    with Simulator(key=KEY) as simulator:
        said = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": simulator.base_url}
        done = run("doctor", O3MAGIC_MODEL="gpt-5.5", **said)
    assert done.returncode == 0, done.stdout


def test_models_and_costs_are_listed(run):
    assert "o3-mini" in run("models").stdout
    assert "no calls yet" in run("cost").stdout


def test_wrong_words_are_explained(run):
    done = run("dmeo")
    assert done.returncode == 2
    assert "demo" in done.stderr

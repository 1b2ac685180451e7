"""The first cell with a fresh key, at a server that has today's models and no o3-mini."""

import json
import re
from html import unescape

import pytest

from o3magic.simulator import Simulator
from tests.servers import running
from tests.session.test_default_model import Api

REASON = "openai's default since o3-mini was shut down on 2026-10-23"


def footer(ran):
    """The footer of an answer, as text."""
    words = "\n".join(ran.texts("text/markdown")).rpartition("<small>")[2]
    return unescape(re.sub(r"<[^>]*>", "", words))


@pytest.fixture
def api():
    with running(Api()) as server:
        yield server


@pytest.fixture
def fresh(kernel, api, tmp_path):
    """A kernel in which a key is set and nothing else."""
    own = {"OPENAI_BASE_URL": api.url, "O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3")}
    ran = kernel.run(
        "import os; ledger = os.environ['O3MAGIC_LEDGER']\n"
        f"os.environ.update({own!r}); os.environ.pop('O3MAGIC_MODEL')\n"
        "%reload_ext o3magic\nimport o3magic as o3"
    )
    assert ran.status == "ok", ran.error
    yield kernel
    kernel.run("os.environ['O3MAGIC_LEDGER'] = ledger")


def test_the_first_cell_is_answered_and_says_which_model_and_why(fresh, api):
    ran = fresh.run("%%o3\n2+2?")
    assert ran.status == "ok", ran.error
    assert ran.texts() == ["four"]
    text = footer(ran)
    assert f"gpt-6.1-terra ({REASON}) · medium · 7 in (0 cached) · 87 out" in text
    assert "$0.000442" in text
    assert "gpt-6.1-terra · medium" in footer(fresh.run("%%o3\n3+3?"))
    assert api.asked == ["gpt-6.1-terra"] * 2
    assert {json.dumps(body["reasoning"]) for body in api.bodies} == {'{"effort": "medium"}'}


def test_the_same_for_rows_for_a_comparison_and_from_python(fresh, api):
    ran = fresh.run(
        "rows = o3.map([{'a': 1}, {'a': 2}], '{{ a }}?')\n"
        "ways = o3.compare('2+2?')\n"
        "answer = o3.ask('2+2?')\n"
        "print(list(rows['text']), ways.labels, answer.model, answer.effort)\n"
        "print(o3.costs().to_frame()[['model', 'effort']].drop_duplicates().values.tolist())"
    )
    assert ran.status == "ok", ran.error
    assert "['four', 'four'] ('low', 'medium', 'high') gpt-6.1-terra medium" in ran.stdout
    assert f"asked gpt-6.1-terra, {REASON}" in ran.texts()[0]
    assert set(api.asked) == {"gpt-6.1-terra"}
    efforts = sorted(body["reasoning"]["effort"] for body in api.bodies)
    assert efforts == ["high", "low", "medium", "medium", "medium", "medium"]


def test_a_comparison_says_which_model_it_is_of(fresh):
    ran = fresh.run("%%o3 --compare\n2+2?")
    assert f"gpt-6.1-terra ({REASON})" in ran.texts()[0]
    assert "gpt-6.1-terra" not in fresh.run("%%o3 --compare\n2+2?").texts()[0]


def test_a_batch_is_asked_of_it_too(fresh):
    with Simulator() as simulator:
        ran = fresh.run(
            f"import os; os.environ['OPENAI_BASE_URL'] = {simulator.base_url!r}\n"
            "%reload_ext o3magic\n"
            "job = o3.batch([{'a': 1}], '{{ a }}?')\n"
            "print(list(job.wait(poll_s=0.05)['error']), job.spec.model, job.spec.effort)"
        )
        assert ran.status == "ok", ran.error
        assert "[None] gpt-6.1-terra medium" in ran.stdout
        assert f"asked gpt-6.1-terra, {REASON}" in ran.texts()[-1]


def test_settings_dry_run_and_models_say_which_it_is(fresh, api):
    config = "\n".join(fresh.run("%o3_config").texts())
    row = next(line for line in config.splitlines() if line.startswith("model "))
    assert row.split(None, 2) == ["model", "gpt-6.1-terra", REASON]
    dry = "\n".join(fresh.run("%%o3 --dry-run\n2+2?").texts())
    assert f"gpt-6.1-terra at effort medium, by the responses API; {REASON}" in dry
    api.shutdowns = {"gpt-6.1-terra": "2026-12-24"}
    models = "\n".join(fresh.run("%o3_models").texts())
    row = next(line for line in models.splitlines() if line.startswith("gpt-6.1-terra "))
    assert "2026-12-24" in row
    assert row.endswith("yes")


def test_a_bare_question_at_azure_says_how_to_name_a_deployment(fresh):
    fresh.run("import os; os.environ['AZURE_OPENAI_ENDPOINT'] = 'http://127.0.0.1:9'")
    fresh.run("os.environ['AZURE_OPENAI_API_KEY'] = 'k' * 32")
    ran = fresh.run("%%o3 -p azure\n2+2?")
    fresh.run("del os.environ['AZURE_OPENAI_ENDPOINT'], os.environ['AZURE_OPENAI_API_KEY']")
    assert ran.status == "error"
    assert "azure needs the name of a deployment, and none was given" in ran.error["evalue"]

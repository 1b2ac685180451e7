"""Mistakes of the user: one clear line, one thing to try, and the cell fails."""

import json

import pytest

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import SECRET, Kernel

LONG = "'word ' * 1_500_000"

MISTAKES = [
    ("%%o3 --efort low\nhi", "BadOption", "--effort"),
    ("%%o3 -e hgih\nhi", "BadOption", "high"),
    ("%%o3 -e minimal\nhi", "BadOption", "low, medium, high"),
    ("%%o3 -e\nhi", "BadOption", "needs a value"),
    ("%%o3 please answer\nhi", "BadOption", "belongs to no option"),
    ('%%o3 -d "open\nhi', "BadOption", "not closed"),
    ("%%o3 -s Invoise\nhi", "UnknownSchema", "Invoice"),
    ("%%o3 -s number\nhi", "NotASchema", "number"),
    ("%%o3 -s Rates\nhi", "NotStrict", "by_day"),
    ("%%o3\n\n  \n", "EmptyPrompt", "no prompt"),
    ("%o3", "EmptyPrompt", "no prompt"),
    ("%%o3 --max-output-tokens 5\nhi", "BadOption", "16"),
    ("%%o3 --max-output-tokens 999999\nhi", "BadOption", "100,000"),
    ("%%o3 -o class\nhi", "BadOption", "not a Python name"),
    ("%%o3 -m o1-pro --api chat\nhi", "BadOption", "responses"),
    ("%%o3 -m o1-mini -s Invoice\nhi", "BadOption", "structured"),
    ("%%o3 -p nobody\nhi", "BadOption", "no provider"),
    ("%%o3 -p azure\nhi", "NoKey", "AZURE_OPENAI"),
    ("%o3_config efort=low", "BadOption", "effort"),
    ("%o3_config effort=hgih", "BadOption", "high"),
    ("%o3_config effort", "BadOption", "not a setting"),
]


@pytest.mark.parametrize(("cell", "name", "message"), MISTAKES)
def test_a_mistake_is_one_clear_line_and_sends_nothing(kernel, simulator, cell, name, message):
    kernel.run(
        "from pydantic import BaseModel\nnumber = 3\n"
        "class Invoice(BaseModel):\n    number: str\n"
        "class Rates(BaseModel):\n    by_day: dict[str, float]\n"
    )
    ran = kernel.run(cell)
    assert ran.status == "error"
    assert ran.error["ename"] == name
    lines = ran.error["traceback"]
    assert 1 <= len(lines) <= 2
    assert message in "\n".join(lines)
    assert "Traceback" not in "\n".join(lines)
    assert ".py" not in "\n".join(lines)
    assert simulator.requests == []


def test_a_prompt_over_the_window_is_not_sent(kernel: Kernel, simulator: Simulator):
    ran = kernel.run(f"get_ipython().run_cell_magic('o3', '', {LONG})")
    assert ran.error["ename"] == "PromptTooLong"
    assert "200,000" in ran.error["evalue"]
    assert simulator.requests == []


REFUSALS = [
    (Reply(status=404, error={"message": "The model `o3-mini` has been deprecated, learn more",
                              "code": "model_not_found"}), "ModelRetired", "2026-10-23"),
    (Reply(status=429, error={"message": "You exceeded your current quota",
                              "code": "insufficient_quota"}), "QuotaExhausted", "billing"),
    (Reply(status=500, error={"message": "The server had an error"}), "ProviderDown", "again"),
    (Reply(body="<html><script>x</script><h1>502 Bad Gateway</h1></html>", status=502,
           content_type="text/html"), "ProviderDown", "Bad Gateway"),
    (Reply(body="", content_type="application/json"), "BrokenAnswer", "empty"),
    (Reply(body={"error": {"message": "inside a 200"}}), "ProviderDown", "inside a 200"),
    (Reply(body="<h1>Welcome</h1>", content_type="text/html"), "BrokenAnswer", "/v1"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "name", "message"), REFUSALS)
def test_a_refusal_is_one_clear_line_and_is_in_the_ledger(kernel, simulator, reply, name, message):
    simulator.script(reply)
    before = kernel.run("%o3_cost").texts()[0]
    ran = kernel.run("%%o3 --retries 0\nhi")
    assert ran.error["ename"] == name, ran.error
    assert message in "\n".join(ran.error["traceback"])
    assert len(ran.error["traceback"]) <= 3
    assert [out for out in ran.outputs if out["kind"] != "error"] == []
    assert kernel.run("%o3_cost").texts()[0] != before


def test_a_wrong_key_is_never_shown(kernel: Kernel, simulator: Simulator):
    wrong = "sk-wrong-9876543210zyxwvut"
    kernel.run(f"import os; os.environ['OPENAI_API_KEY'] = {wrong!r}")
    ran = kernel.run("%%o3\nhi")
    assert ran.error["ename"] == "WrongKey"
    everything = json.dumps(ran.messages) + json.dumps(ran.error)
    assert wrong not in everything
    assert wrong[-6:] not in everything
    assert SECRET not in everything


def test_without_key_and_provider_the_ways_on_are_named(kernel: Kernel):
    kernel.run("import os; del os.environ['OPENAI_API_KEY'], os.environ['OPENAI_BASE_URL']")
    ran = kernel.run("%%o3\nhi")
    assert ran.error["ename"] == "NoKey"
    message = "\n".join(ran.error["traceback"])
    assert "OPENAI_API_KEY" in message
    assert "o3magic demo" in message
    assert "local server" in message or "answers" in message


def test_no_server_at_the_address_is_an_error(kernel: Kernel, simulator: Simulator):
    kernel.run("import os; os.environ['OPENAI_BASE_URL'] = 'http://127.0.0.1:1/v1'")
    ran = kernel.run("%%o3\nhi")
    assert ran.error["ename"] == "NoConnection"
    assert "127.0.0.1" in ran.error["evalue"]


def test_a_key_goes_to_no_address_of_the_line(kernel: Kernel, simulator: Simulator):
    kernel.run("import os; os.environ['OPENAI_BASE_URL'] = 'https://api.openai.com/v1'")
    kernel.run(f"%%o3 --base-url {simulator.base_url}\nhi")
    assert all("authorization" not in request.headers for request in simulator.requests)


def test_a_key_goes_to_no_other_port_of_its_host(kernel: Kernel, simulator: Simulator):
    with Simulator() as other:
        kernel.run(f"%%o3 --base-url {other.base_url}\nhi")
        assert [request for request in other.requests if request.method == "POST"]
        assert all("authorization" not in request.headers for request in other.requests)


def test_python_sends_nothing_in_a_dry_run_either(kernel: Kernel, simulator: Simulator):
    ran = kernel.run("import o3magic as o3\no3.ask('hi', dry_run=True)")
    assert ran.error["ename"] == "BadOption"
    assert simulator.requests == []


def test_with_its_ledger_in_a_place_that_cannot_be_written_an_answer_comes_and_says_so(
    kernel, simulator
):
    ran = kernel.run(
        "import os\nbefore = os.environ['O3MAGIC_LEDGER']\n"
        "os.environ['O3MAGIC_LEDGER'] = '/proc/none/ledger.sqlite3'\n"
        "%reload_ext o3magic"
    )
    ran = kernel.run("%%o3\nhi")
    kernel.run("os.environ['O3MAGIC_LEDGER'] = before\n%reload_ext o3magic")
    assert ran.status == "ok"
    assert "in memory only" in "".join(ran.texts("text/markdown"))
    assert len(simulator.requests) == 1

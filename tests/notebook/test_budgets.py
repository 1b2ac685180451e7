"""Budgets in a cell, and shared by two kernels."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from o3magic.cost.ledger import Ledger
from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import SECRET, Kernel, chat_stream

CARD = """
[models.invented]
like = "o3-mini"
max_output_tokens = 1000
[[models.invented.price]]
input = "10"
output = "40"
"""
# 7 input and 87 output tokens at the invented price, and the most one of these calls can cost.
USAGE = {"prompt_tokens": 7, "completion_tokens": 87, "total_tokens": 94}
CALL_NANO_USD = 7 * 10_000 + 87 * 40_000
WORST_NANO_USD = 1000 * 40_000 + 100 * 10_000
CALLS = 50
# Both begin at one moment: the budget is for few calls, and one kernel alone would have them all.
LOOP = f"""
import time
from decimal import Decimal
from o3magic.errors import OverBudget
sent = refused = 0
time.sleep(max(0, BEGIN_AT - time.time()))
for n in range({CALLS}):
    try:
        answer = o3.ask(f"call {{n}} of {{who}}", api="chat")
        assert answer.cost_usd == {CALL_NANO_USD} / Decimal(10**9)
        sent += 1
    except OverBudget:
        refused += 1
print(sent, refused)
"""


@pytest.fixture
def two_kernels(tmp_path: Path, simulator: Simulator) -> Iterator[list[Kernel]]:
    """Two kernels that share a ledger, a settings file and a day's budget."""
    (tmp_path / "config.toml").write_text(f'model = "invented"\nbudget_day = "0.2"\n{CARD}')
    own = {
        "O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3"),
        "O3MAGIC_CONFIG": str(tmp_path / "config.toml"),
        "OPENAI_API_KEY": SECRET,
        "OPENAI_BASE_URL": simulator.base_url,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    with ExitStack() as opened:
        kernels = []
        for who in ("one", "two"):
            manager, client = start_new_kernel(kernel_name="python3", env=inherited | own)
            opened.callback(manager.context.destroy, linger=0)
            opened.callback(manager.shutdown_kernel, now=True)
            opened.callback(client.stop_channels)
            kernels.append(Kernel(manager, client))
            ran = kernels[-1].run(f"%load_ext o3magic\nimport o3magic as o3\nwho = {who!r}")
            assert ran.status == "ok", ran.error
        yield kernels


def test_two_kernels_never_pass_the_budget_they_share(
    two_kernels: list[Kernel], simulator: Simulator, tmp_path: Path
) -> None:
    body = chat_stream(["four"], USAGE).replace(b"o3-mini-2025-01-31", b"invented")
    simulator.script(*[Reply(body=body) for _ in range(2 * CALLS)])
    begin = f"BEGIN_AT = {time.time() + 1}\n"
    running = [kernel.start(begin + LOOP) for kernel in two_kernels]
    ran = [k.collect(request) for k, request in zip(two_kernels, running, strict=True)]
    assert [cell.error for cell in ran] == [{}, {}]
    counts = [tuple(map(int, cell.stdout.split())) for cell in ran]
    sent = sum(count[0] for count in counts)
    assert [sum(count) for count in counts] == [CALLS, CALLS]
    assert sent == len(simulator.requests)
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    [total] = ledger.totals(by=())
    ledger.close()
    assert total.live.cost_nano_usd == sent * CALL_NANO_USD <= 200_000_000
    # Each kernel went on until less was left than the worst case of one more, or two at once.
    assert total.live.cost_nano_usd > 200_000_000 - 2 * WORST_NANO_USD
    assert all(count[0] for count in counts)


def test_a_refusal_is_one_message_that_says_how_to_go_on(
    kernel: Kernel, simulator: Simulator
) -> None:
    ran = kernel.run("%%o3 --budget 0.01\nfour?")
    assert ran.error["ename"] == "OverBudget"
    text = "\n".join(ran.error["traceback"])
    assert "may cost up to $0.44" in text
    assert "--max-output-tokens" in text
    assert simulator.requests == []


def test_a_budget_set_for_the_session_holds_for_every_cell(
    kernel: Kernel, simulator: Simulator
) -> None:
    kernel.run("%o3_config budget_session=0.001 max_output_tokens=200")
    simulator.script(*[Reply(body=chat_stream(["four"], USAGE)) for _ in range(3)])
    ran = [kernel.run("%%o3 --api chat\nfour?") for _ in range(3)]
    kernel.run("%o3_config budget_session= max_output_tokens=")
    assert [cell.status for cell in ran] == ["ok", "error", "error"]
    assert "this session" in ran[1].error["evalue"]
    assert len(simulator.requests) == 1

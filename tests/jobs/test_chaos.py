"""Everything at once, small; `python -m tests.jobs.chaos 5000` is the large one."""

from tests.jobs.chaos import WAYS, WIDTH, chaos
from tests.jobs.loopback import COST_NANO_USD


def test_every_row_is_answered_and_paid_for_once(server, tmp_path):
    server.begin(latency_s=0.03, slow_s=0.1, **WAYS)
    found = chaos(server, tmp_path, 200, kills=2)
    assert found["right"]
    assert found["errors"] == 0
    assert found["answered_rows"] == 200
    # Only what was on its way when a kernel died may have been answered twice; it is told.
    assert found["answers_sent_twice"] <= found["lost_calls"] <= 2 * WIDTH
    assert found["job_nano_usd"] == found["ledger_nano_usd"] == 200 * COST_NANO_USD
    # Each call that is told as lost stands in the ledger, its cost unknown; and the server's own
    # count is never below what the books know, nor above that and what they hold.
    assert found["lost_calls"] <= found["ledger_unknown"]
    bill, known = found["bill_nano_usd"], found["job_nano_usd"]
    assert known <= bill <= known + found["job_held_nano_usd"]

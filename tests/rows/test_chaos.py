"""Everything at once, small; `python -m tests.rows.chaos 5000` is the large one."""

from tests.rows.chaos import WAYS, WIDTH, chaos
from tests.rows.loopback import COST_NANO_USD


def test_every_row_is_answered_and_paid_for_once(server, tmp_path):
    server.begin(latency_s=0.03, slow_s=0.1, **WAYS)
    found = chaos(server, tmp_path, 200, kills=2)
    assert found["right"]
    assert found["errors"] == 0
    # Each row keeps one answer that the server sent, and the ledger has just these, each once.
    assert found["kept"] == found["booked"] == found["booked_once"] == 200
    assert found["job_nano_usd"] == found["ledger_nano_usd"] == 200 * COST_NANO_USD
    # What the server sent besides was on its way when a kernel died: each such answer went to a
    # row that lost a call for it, and each call that left and was lost is in the ledger as such.
    assert found["stray"] == found["stray_told_as_lost"] <= found["lost_in_ledger"]
    assert found["lost_in_ledger"] <= found["lost_calls"] <= 2 * WIDTH
    assert found["lost_calls"] <= found["ledger_unknown"]
    # So the server's own count is what the books know and the strays, and the strays are held.
    stray_nano_usd = found["stray"] * COST_NANO_USD
    assert found["bill_nano_usd"] == found["ledger_nano_usd"] + stray_nano_usd
    assert stray_nano_usd <= found["job_held_nano_usd"]

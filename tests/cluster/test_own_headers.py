"""Headers on workers: the templates travel, what the environment has to say does not."""

import os
import pickle
from dataclasses import replace

from o3magic.cluster.messages import JobSpec
from o3magic.cluster.worker import with_own_key
from tests.sessions import KEY, session_at

OWN = {"openai": {"headers": {"X-Gate": "$GATE_TOKEN"}}}


def test_a_worker_fills_them_in_from_its_own_environment(monkeypatch):
    address = "http://127.0.0.1:9/v1"
    said = {"GATE_TOKEN": "the-caller-s-token", "OPENAI_ORG_ID": "org-caller"}
    with session_at(address, providers=OWN, **said) as session:
        plan = session.plan("four?", session.layers.profile())
    sent = replace(plan, call=replace(plan.call, key=None))
    spec = JobSpec(sent, 1, "", "", ("", "", ""), OWN, False, False, False)
    travelled = pickle.dumps(spec)
    for secret in ("the-caller-s-token", "org-caller", KEY):
        assert secret.encode() not in travelled
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-worker")
    monkeypatch.setenv("GATE_TOKEN", "the-worker-s-token")
    made, reach = with_own_key(pickle.loads(travelled))
    reach.close()
    variables = made.call.provider.variables
    assert {name: value.get_secret_value() for name, value in variables.items()} == {
        "GATE_TOKEN": "the-worker-s-token"
    }
    assert made.call.provider.base_url == address

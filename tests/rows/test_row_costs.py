"""What a row cost, where the provider counts nothing or says it itself."""

from contextlib import closing, contextmanager
from decimal import Decimal

from o3magic.rows.map_job import MapOptions, map_rows
from o3magic.rows.store import JobStore
from o3magic.simulator import Reply
from tests.rows.conftest import texts
from tests.sessions import KEY, USAGE, entries, response, session_at

NOTHING = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def test_a_row_of_which_nothing_was_counted_has_no_known_cost(sim, store):
    with session_at(sim.base_url) as session:
        sim.script(Reply(body=response(usage=NOTHING)), Reply(body=response()))
        out = map_rows(session, store, texts(2), "{{ a }}", wish=MapOptions(concurrency=1))
        assert list(out.cost_usd.isna()) == [True, False]
        assert list(out.output_tokens.isna()) == [True, False]
        assert [row.cost_nano_usd is None for row in entries(session)] == [True, False]


@contextmanager
def gateway(sim, **environment):
    own = {"gateway": {"base_url": sim.base_url, "key_env": "GATEWAY_KEY"}}
    with session_at(sim.base_url, providers=own, GATEWAY_KEY=KEY, **environment) as session:
        session.configure({"provider": "gateway"})
        yield session


def test_what_a_gateway_says_of_each_row_is_its_cost(sim, store):
    sim.script(
        Reply(body=response(usage=USAGE | {"cost": 0.00014275})),
        Reply(body=response(), headers={"x-litellm-response-cost": "0.002"}),
        Reply(body=response(usage=USAGE | {"cost": "0.002"})),
    )
    with gateway(sim) as session:
        out = map_rows(session, store, texts(3), "{{ a }}", wish=MapOptions(concurrency=1))
        assert list(out.cost_usd[:2]) == [Decimal("0.00014275"), Decimal("0.002")]
        assert list(out.cost_usd.isna()) == [False, False, True]
        rows = entries(session)
        assert [row.cost_nano_usd for row in rows] == [142_750, 2_000_000, None]
        assert {row.price_source for row in rows[:2]} == {"as the provider says"}


def test_and_stays_so_on_a_cassette(sim, tmp_path):
    out = []
    sim.script(Reply(body=response(usage=USAGE | {"cost": 0.00014275})))
    for mode in ("record", "replay"):
        with gateway(sim, O3MAGIC_MODE=mode) as session, closing(JobStore(":memory:")) as kept:
            session.notebook = str(tmp_path / "rows.ipynb")
            out.append(map_rows(session, kept, texts(1), "{{ a }}"))
    assert list(out[0].cost_usd) == list(out[1].cost_usd) == [Decimal("0.00014275")]
    assert len(sim.requests) == 1

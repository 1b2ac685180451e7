"""What a row cost, where the provider counts nothing or says it itself."""

from o3magic.jobs.mapping import Wish, map_rows
from o3magic.simulator import Reply
from tests.jobs.conftest import texts
from tests.sessions import entries, response, session_at

NOTHING = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def test_a_row_of_which_nothing_was_counted_has_no_known_cost(sim, store):
    with session_at(sim.base_url) as session:
        sim.script(Reply(body=response(usage=NOTHING)), Reply(body=response()))
        out = map_rows(session, store, texts(2), "{{ a }}", wish=Wish(concurrency=1))
        assert list(out.cost_usd.isna()) == [True, False]
        assert list(out.output_tokens.isna()) == [True, False]
        assert [row.cost_nano_usd is None for row in entries(session)] == [True, False]

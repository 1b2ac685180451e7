"""Web searches: counted, priced, shown, in the ledger; and the pages they found."""

from dataclasses import replace
from decimal import Decimal

import pytest

from o3magic.citations import Citation
from o3magic.errors import BadOption, OverBudget
from o3magic.events import HostedUse
from o3magic.render.answer import bundles, facts, plain_footer
from o3magic.simulator import Reply
from tests.sessions import COST_NANO_USD, KEY, USAGE, entries, frames, response, session_at

SEARCH = 10_000_000  # nano-dollars
CITED = {"type": "url_citation", "url": "https://example.org/a", "title": "A"}
CITED |= {"start_index": 0, "end_index": 4}


def searched(*kinds, type_="web_search_call"):
    return [{"type": type_, "id": "ws", "action": {"type": kind}} for kind in kinds]


def found(*kinds, calls=(), **more):
    """An answer of Responses that has searched."""
    part = {"type": "output_text", "text": "It rains", "annotations": [CITED]}
    output = [*searched(*kinds), *calls, {"type": "message", "content": [part]}]
    return response(usage=USAGE, output=output, **more)


def as_stream(answer):
    delta = {"type": "response.output_text.delta", "delta": "It rains"}
    begun = {"type": "response.created", "response": {"id": "resp_1", "model": "o3-mini"}}
    return frames(begun, delta, {"type": "response.completed", "response": answer})


@pytest.fixture
def session(sim):
    with session_at(sim.base_url) as opened:
        yield opened


@pytest.mark.parametrize("stream", [True, False])
def test_a_web_search_is_counted_shown_and_billed(sim, session, stream):
    body = found("search", "open_page", "search", "find_in_page")
    sim.script(Reply(body=as_stream(body) if stream else body))
    answer = session.ask("rain?", tools="web_search", stream=stream)
    assert answer.hosted == (HostedUse("web_search", 2),)
    assert answer.cost_usd == Decimal(COST_NANO_USD + 2 * SEARCH) / 10**9
    assert answer.notes == ()
    assert answer.citations == (Citation("https://example.org/a", "A", 0, 4),)
    assert " · 2 web searches · $0.02039" in facts(answer)
    [row] = entries(session)
    assert row.cost_nano_usd == COST_NANO_USD + 2 * SEARCH
    assert (row.hosted_calls, row.hosted_nano_usd) == (2, 2 * SEARCH)


def test_without_a_search_nothing_is_said_of_any(sim, session):
    sim.script(Reply(body=response()))
    answer = session.ask("rain?", tools="web_search")
    assert (answer.hosted, answer.citations) == ((), ())
    assert "search" not in facts(answer)
    [row] = entries(session)
    assert (row.hosted_calls, row.hosted_nano_usd, row.cost_nano_usd) == (0, 0, COST_NANO_USD)


def test_azure_charges_its_own_price(sim):
    environment = {"AZURE_OPENAI_ENDPOINT": sim.base_url, "AZURE_OPENAI_API_KEY": KEY}
    azure = {"azure": {"path": ""}}
    with session_at(sim.base_url, providers=azure, **environment) as session:
        sim.script(Reply(body=found("search")))
        answer = session.ask("rain?", provider="azure", tools="web_search")
        assert answer.cost_usd == Decimal(COST_NANO_USD + 14_000_000) / 10**9


def test_a_tool_of_unknown_price_makes_the_cost_at_least_what_is_known(sim, session):
    calls = [{"type": "code_interpreter_call", "id": "ci"}]
    sim.script(Reply(body=found("search", calls=calls)))
    answer = session.ask("rain?")
    assert answer.cost_usd is None
    assert answer.notes == (
        "at least $0.010391: what openai charges for 1 code interpreter call is not known",
    )
    assert "1 code interpreter call · 1 web search · cost unknown" in facts(answer)
    [row] = entries(session)
    assert (row.cost_nano_usd, row.hosted_calls, row.hosted_nano_usd) == (None, 2, None)
    [total] = session.ledger.totals(by=())
    assert total.live.unknown_cost_calls == 1


def test_own_prices_of_tools_make_it_known(sim):
    own = {"openai": {"hosted_tools": {"code_interpreter": "0.03", "web_search": "0.001"}}}
    with session_at(sim.base_url, providers=own) as session:
        sim.script(Reply(body=found("search", calls=[{"type": "code_interpreter_call"}])))
        assert session.ask("rain?").cost_usd == Decimal(COST_NANO_USD + 31_000_000) / 10**9


def test_the_older_search_tool_has_no_price_here(sim, session):
    sim.script(Reply(body=found("search", tools=[{"type": "web_search_preview"}])))
    answer = session.ask("rain?")
    assert answer.cost_usd is None
    assert "1 web search preview call" in answer.notes[0]


def test_in_all_rounds_together(sim, session):
    call = {"type": "function_call", "call_id": "c1", "name": "area", "arguments": "{}"}
    first = response(output=[*searched("search"), call])

    def area() -> int:
        """The area."""
        return 9

    sim.script(Reply(body=first), Reply(body=found("search", "search")))
    answer = session.ask("rain?", tools=[area])
    assert answer.hosted == (HostedUse("web_search", 3),)
    assert answer.cost_usd == Decimal(2 * COST_NANO_USD + 3 * SEARCH) / 10**9


def test_a_chat_answer_that_cites_has_searched_nobody_knows_how_often(sim, session):
    cited = {"type": "url_citation", "url_citation": CITED}
    message = {"content": "It rains", "annotations": [cited]}
    usage = {"prompt_tokens": 7, "completion_tokens": 87, "total_tokens": 94}
    body = {"id": "c", "model": "o3-mini", "usage": usage}
    body |= {"choices": [{"message": message, "finish_reason": "stop"}]}
    sim.script(Reply(body=body))
    answer = session.ask("rain?", api="chat", stream=False)
    assert answer.citations == (Citation("https://example.org/a", "A", 0, 4),)
    assert answer.cost_usd is None
    assert "web searches (number unknown)" in answer.notes[0]


def test_the_simulator_s_searches_cost_nothing(sim):
    with session_at(sim.base_url) as session:
        reply = Reply(body=found("search"), headers={"x-o3magic-simulated": "true"})
        sim.script(reply)
        answer = session.ask("rain?", tools="web_search")
        assert answer.source == "simulated"
        [row] = entries(session)
        assert (row.cost_nano_usd, row.hosted_calls, row.hosted_nano_usd) == (0, 1, 0)


def test_recorded_and_replayed_they_are_the_same_to_the_byte(sim, tmp_path):
    notebook = str(tmp_path / "lesson.ipynb")
    for body, api in ((as_stream(found("search", "search")), "responses"), (chat_found(), "chat")):
        asked = {"api": api} | ({"tools": "web_search"} if api == "responses" else {})
        sim.script(Reply(body=body))
        with session_at(sim.base_url, O3MAGIC_MODE="record") as session:
            session.notebook = notebook
            first = session.ask("rain?", **asked)
        with session_at("http://127.0.0.1:9/v1", O3MAGIC_MODE="replay") as session:
            session.notebook = notebook
            again = session.ask("rain?", **asked)
            [row] = entries(session)
        assert again.citations == first.citations == (Citation(CITED["url"], "A", 0, 4),)
        assert again.hosted == first.hosted != ()
        assert (again.cost_usd, again.notes) == (first.cost_usd, first.notes)
        assert bundles(again) == bundles(first)
        assert plain_footer(again) == plain_footer(first)
        assert "Sources:" in bundles(again)[0].data["text/markdown"]
        assert (row.source, row.cost_nano_usd) == ("replayed", 0)


def chat_found():
    cited = {"type": "url_citation", "url_citation": CITED}
    said = {"content": "It rains", "annotations": [cited]}
    chunk = {"id": "c", "model": "o3-mini", "choices": [{"delta": said, "finish_reason": None}]}
    end = {"id": "c", "choices": [{"delta": {}, "finish_reason": "stop"}]}
    return frames(chunk, end, "[DONE]")


def test_a_secret_in_a_citation_is_not_recorded(sim, tmp_path):
    secret = "sk-proj-abcdefghij0123456789"
    body = (
        chat_found().decode().replace("https://example.org/a", f"https://example.org/?k={secret}")
    )
    sim.script(Reply(body=body.encode()))
    with session_at(sim.base_url, O3MAGIC_MODE="record") as session:
        session.notebook = str(tmp_path / "lesson.ipynb")
        session.ask("rain?", api="chat")
    text = (tmp_path / "lesson.o3.json").read_text("utf-8")
    assert secret not in text
    assert "https://example.org/?k=" in text


def test_the_worst_case_holds_one_search_and_says_so(sim, session):
    plain = session.layers.profile({"dry_run": True, "max_output_tokens": 1000})
    asked = replace(plain, tools="web_search")
    [line] = [v for k, v in session.foreseen(session.plan("rain?", asked, {})) if k == "worst case"]
    assert line.endswith("; with 1 web search, and $0.01 and what it reads for each more")
    with pytest.raises(OverBudget) as refused:
        session.ask("rain?", tools="web_search", max_output_tokens=100, budget_call="0.01")
    assert "it may cost up to $0.010" in str(refused.value)
    sim.script(Reply(body=found("search")))
    session.ask("rain?", tools="web_search", max_output_tokens=100, budget_call="0.012")
    with pytest.raises(OverBudget):  # what was spent counts whole: one search, not none
        session.ask("rain?", tools="web_search", max_output_tokens=100, budget_day="0.02")


def test_a_budget_cannot_be_kept_where_nobody_knows_what_a_search_costs(sim):
    own = {"aimlapi": {"base_url": sim.base_url}}
    own["aimlapi"]["prices"] = {"o3-mini": {"input": "1.16", "output": "4.62"}}
    with session_at(sim.base_url, providers=own, AIMLAPI_API_KEY=KEY) as session:
        with pytest.raises(OverBudget, match="what web_search costs at aimlapi") as refused:
            session.ask("rain?", provider="aimlapi", tools="web_search", budget_day=1)
        assert "[providers.aimlapi.hosted_tools]" in refused.value.hint
        assert sim.requests == []
        sim.script(Reply(body=found("search")))
        answer = session.ask("rain?", provider="aimlapi", tools="web_search")
        assert answer.notes[0].startswith(
            "at least $0.00041: what aimlapi charges for 1 web search"
        )


def test_the_chat_api_has_no_search_tool(session):
    with pytest.raises(BadOption):
        session.ask("rain?", tools="web_search", api="chat")

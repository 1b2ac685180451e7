"""LiteLLM's proxy: mock models of its own, and our simulator behind it for what they cannot say."""

import json
import secrets
from contextlib import closing
from dataclasses import dataclass

import pytest

from o3magic.errors import (
    InvalidAnswer,
    NoKey,
    ProviderDown,
    RateLimited,
    RequestFailed,
    RequestRefused,
    WrongKey,
)
from o3magic.events import Retrying, TextDelta
from o3magic.simulator import Call, Reply, Simulator
from tests.real_servers.running import HERE, made

pytestmark = pytest.mark.real_servers

SAYS = "four, says the mock"
WAYS = [("chat", True), ("chat", False), ("responses", False)]


@dataclass
class Point:
    x: int
    y: int


@pytest.fixture(scope="module")
def upstream():
    """The provider behind the gateway."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def gateway(start, upstream):
    """Starts the proxy with one of the configurations."""
    script = made("litellm.sh")
    said = {"UPSTREAM_URL": upstream.base_url, "MASTER_KEY": f"sk-{secrets.token_hex(16)}"}

    def run(name):
        config = HERE / "litellm" / f"{name}.yaml"
        return start(script, config, ready="/health/liveliness", environment=said)

    return run


@pytest.fixture(scope="module")
def guarded(gateway):
    """The proxy that most tests ask."""
    return gateway("guarded")


@pytest.fixture
def ours(guarded, session):
    """Makes a session that asks it with a key."""

    def make(key="sk-any", server=guarded, **settings):
        usual = {"provider": "litellm", "model": "mock", "retries": 0}
        # In the user's own table: an address in the settings gets no provider's key.
        there = {"litellm": {"base_url": server.base_url}}
        return session(usual | settings, there, {"LITELLM_API_KEY": key})

    return make


# Answers


@pytest.mark.parametrize(("api", "stream"), WAYS)
def test_a_mock_answers_and_is_counted(ours, api, stream):
    """The usage of a stream comes in a chunk that has choices."""
    answer = ours(api=api, stream=stream).ask("two and two?")
    assert (answer.text, answer.finish_reason) == (SAYS, "stop")
    assert answer.usage.input_tokens
    assert answer.usage.output_tokens
    assert (answer.provider, answer.cost_usd) == ("litellm", None)
    # By Responses a mock counts more tokens than its words have bytes, and we say so.
    assert answer.notes == () or (api == "responses" and answer.notes[0].startswith("odd usage"))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_model_behind_it_answers_word_by_word(ours, upstream, api, stream):
    upstream.script(Reply(text="four, said upstream", reasoning_tokens=64))
    session = ours(model="upstream", api=api, stream=stream)
    asking = session.begin(session.plan("two and two?", session.layers.profile()))
    pieces = [event.text for event in asking if type(event) is TextDelta]
    assert "".join(pieces) == asking.answer.text == "four, said upstream"
    assert len(pieces) > 1 or not stream
    assert asking.answer.usage.reasoning_tokens == 64
    assert asking.answer.notes == ()


def test_a_summary_of_the_reasoning_comes_through(ours, upstream):
    upstream.script(Reply(text="four", summary=("adding", "checking")))
    answer = ours(model="upstream", api="responses", summary="auto").ask("two and two?")
    assert (answer.text, answer.reasoning_summary) == ("four", "adding\n\nchecking")


def test_a_limit_that_was_reached_comes_through(ours, upstream):
    for api in ("chat", "responses"):
        upstream.script(Reply(text="fo", finish="length"))
        assert ours(model="upstream", api=api).ask("two and two?").finish_reason == "length"


def test_it_lists_its_models(ours):
    session = ours()
    assert {"mock", "limited", "upstream"} <= set(session.served_models(session.layers.profile()))


# Schemas: mocks ignore them


@pytest.mark.parametrize(("api", "stream"), WAYS)
def test_a_schema_that_was_ignored_is_asked_again_and_then_an_error(ours, api, stream):
    session = ours(api=api, stream=stream)
    with pytest.raises(InvalidAnswer, match="does not fit Point") as caught:
        session.ask("a point", schema=Point, repairs=1)
    assert caught.value.answer.text == SAYS
    assert [entry.kind for entry in session.ledger.entries()] == ["ask", "repair"]


def test_a_schema_that_was_ignored_once_is_repaired(ours, upstream):
    upstream.script(Reply(text="a point? gladly"), Reply(json={"x": 1, "y": 2}))
    answer = ours(model="upstream").ask("a point", schema=Point, repairs=1)
    assert answer.parsed == Point(1, 2)
    assert any(note.startswith("asked again") for note in answer.notes)


# Keys and limits


def test_a_wrong_key_is_a_wrong_key(ours):
    with pytest.raises(WrongKey, match="no such key") as caught:
        ours("sk-nobody").ask("hi")
    assert (caught.value.status, caught.value.code) == (401, "401")
    with pytest.raises(NoKey):
        ours("").ask("hi")


def test_a_wrong_key_is_a_wrong_key_where_it_has_no_database_to_look_it_up(ours, gateway):
    server = gateway("no_database")
    with pytest.raises(RequestFailed, match="No connected db") as caught:
        ours("sk-nobody", server).ask("hi")
    assert (caught.value.status, caught.value.code) == (400, "400")
    assert type(caught.value) is WrongKey


def limited(session):
    """The error that too many questions end with."""
    for _ in range(5):
        try:
            session.ask("hi", retries=0)
        except RateLimited as error:
            return error
    return pytest.fail("no limit was reached")


def test_a_limit_of_a_key_is_waited_for_as_long_as_it_says(ours):
    session = ours("sk-rpm1", api="chat", retries=1)
    error = limited(session)
    assert "Rate limit exceeded" in str(error)
    assert 55 <= error.retry_after_s <= 60
    with closing(session.stream("hi")) as events:
        waiting = next(event for event in events if type(event) is Retrying)
    assert 55 <= waiting.wait_s <= 60
    assert "[key]" in waiting.why  # it says a hash of the key


def test_a_limit_of_a_model_is_a_rate_limit(ours):
    error = limited(ours(model="limited", api="chat"))
    assert "No deployments available" in str(error)
    assert error.status == 429


# Errors in its own words


def test_a_model_it_does_not_have_is_refused(ours):
    with pytest.raises(RequestRefused, match="Invalid model name") as caught:
        ours(model="mockk").ask("hi")
    assert caught.value.status == 400


def test_a_stream_it_cannot_begin_is_its_own_fault(ours):
    """An event of an error stream, as the body of a 500."""
    with pytest.raises(ProviderDown) as caught:
        ours(api="responses").ask("hi")
    assert str(caught.value) == "Error processing stream start (HTTP 500)"


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "kind"), [(400, RequestRefused), (429, RateLimited), (503, ProviderDown)]
)
def test_a_refusal_behind_it_keeps_its_class(ours, upstream, api, stream, status, kind):
    before = len(upstream.requests)
    upstream.script(Reply(status=status, error={"message": "not today"}))
    with pytest.raises(kind, match="not today") as caught:
        ours(model="upstream", api=api, stream=stream).ask("hi")
    assert caught.value.status == status
    assert len(upstream.requests) == before + 1


def test_a_page_behind_it_is_summarised(ours, upstream):
    """It pastes the whole page into its message."""
    page = "<html><script>steal()</script><h1>Down for repairs</h1></html>"
    upstream.script(Reply(status=503, body=page, content_type="text/html"))
    with pytest.raises(ProviderDown, match="Down for repairs") as caught:
        ours(model="upstream", api="chat").ask("hi")
    assert "steal" not in str(caught.value)
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(
    "how", [{"error_after": 8}, {"cut_after_bytes": 3_600, "piece_bytes": 300, "pause_s": 0.05}]
)
def test_an_answer_that_breaks_behind_it_keeps_what_came(ours, upstream, api, how):
    words = " ".join(["one two three four five six seven eight nine ten"] * 5)
    session = ours(model="upstream", api=api, retries=2)
    before = len(upstream.requests)
    upstream.script(Reply(text=words, **how))
    with pytest.raises(RequestFailed) as caught:
        session.ask("count")
    came = caught.value.answer.text
    assert came.startswith("one two")
    assert words.startswith(came)
    assert len(upstream.requests) == before + 1  # nothing is asked again once words have come
    assert [entry.status for entry in session.ledger.entries()] == ["error"]


# Conversations and tools


def area(side: int) -> int:
    """The area of a square."""
    return side * side


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_five_turns_go_through_it(ours, upstream, api, stream):
    session = ours(model="upstream", api=api, stream=stream, conversation="plan")
    for number in range(5):
        upstream.script(Reply(text=f"answer {number}"))
        assert session.ask(f"question {number}").text == f"answer {number}"
    body = json.dumps(upstream.requests[-1].body)
    for number in range(4):
        assert f"question {number}" in body
        assert f"answer {number}" in body


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_three_turns_of_tools_go_through_it(ours, upstream, api, stream):
    upstream.script(
        Reply(calls=(Call("area", '{"side": 3}'), Call("area", '{"side": 4}'))),
        Reply(calls=(Call("area", '{"side": 5}'),)),
        Reply(calls=(Call("area", '{"side": 6}'),)),
        Reply(text="done"),
    )
    session = ours(model="upstream", api=api, stream=stream)
    answer = session.ask("How large?", tools=[area])
    assert answer.text == "done"
    assert [each.result for each in answer.tool_uses] == ["9", "16", "25", "36"]

"""What a provider turns out not to have: found out once, asked in another way, and told."""

import json
from dataclasses import replace

import pytest
from pydantic import BaseModel

from o3magic import errors
from o3magic.errors import BadOption, InvalidAnswer, ModelNotFound, ModelRetired, RequestRefused
from o3magic.events import Retrying
from o3magic.simulator import Reply, Simulator
from tests.client.conftest import OK
from tests.sessions import KEY, chat_stream, entries, response, session_at


class Point(BaseModel):
    """A place."""

    x: int
    y: int = 0


NO_PLACE = Reply(status=404, error={"message": "Invalid URL (POST /v1/responses)", "code": None})
UNVERIFIED = Reply(
    status=400,
    error={
        "message": "Your organization must be verified to generate reasoning summaries.",
        "param": "reasoning.summary",
        "code": "unsupported_value",
    },
)
NO_STREAM_OPTIONS = Reply(
    status=400,
    error={"message": "Unrecognized", "param": "stream_options", "code": "unknown_parameter"},
)
NO_SCHEMAS = {
    "message": "Invalid parameter: 'response_format' of type 'json_schema' is not supported.",
    "param": "response_format",
    "code": None,
}
GONE = Reply(
    status=404,
    error={
        "message": "The model `o3-mini` has been deprecated, learn more here: https://...",
        "code": "model_not_found",
    },
)


def document(value, status=OK):
    """An HTTP answer with a JSON document."""
    body = json.dumps(value).encode()
    head = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return status + head + body


def paths(sim):
    return [received.path.removeprefix("/v1") for received in sim.requests]


# Responses -> Chat


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_provider_without_responses_is_asked_by_chat_from_then_on(sim, session, status):
    sim.script(Reply(status=status, body={"detail": "Not Found"}))
    first = session.ask("four?", model="gpt-5.5")
    second = session.ask("four?", model="gpt-5.5")
    assert paths(sim) == ["/responses", "/chat/completions", "/chat/completions"]
    for answer in (first, second):
        assert "asked by the Chat API: openai has no Responses" in answer.notes
        assert "SIMULATED" in answer.text
    assert [row.status for row in entries(session)] == ["error", "ok", "ok"]
    assert entries(session)[0].cost_nano_usd == (None if status == 501 else 0)


def test_the_reader_hears_at_once_that_it_is_asked_in_another_way(sim, session):
    sim.script(NO_PLACE)
    (event,) = [e for e in session.stream("four?") if isinstance(e, Retrying)]
    assert event == Retrying("asked by the Chat API: openai has no Responses", 0)


def test_another_session_finds_it_out_for_itself(sim, session):
    sim.script(NO_PLACE, Reply(text="four"))
    session.ask("four?")
    with session_at(sim.base_url) as other:
        other.ask("four?")
    assert paths(sim) == ["/responses", "/chat/completions", "/responses"]


def test_another_address_of_the_same_provider_is_asked_anew(sim, session):
    sim.script(NO_PLACE)
    session.ask("four?")
    with Simulator() as other:
        session.environment["OPENAI_BASE_URL"] = other.base_url
        session.ask("four?")
        assert paths(other) == ["/responses"]


def test_who_says_responses_means_it(sim, session):
    sim.script(NO_PLACE, NO_PLACE)
    with pytest.raises(RequestRefused):
        session.ask("four?", api="responses")
    assert paths(sim) == ["/responses"]
    session.ask("four?")  # finds it out
    session.ask("four?", api="responses")  # and may be there by now
    assert paths(sim)[1:] == ["/responses", "/chat/completions", "/responses"]


def test_a_model_that_is_not_there_is_no_lack_of_the_provider(sim, session):
    error = {"message": "No such model", "code": "model_not_found"}
    sim.script(Reply(status=404, error=error))
    with pytest.raises(ModelNotFound):
        session.ask("four?", model="gpt-5.5")
    assert paths(sim) == ["/responses"]


def test_a_model_that_speaks_only_responses_has_no_other_way(sim, session):
    sim.script(NO_PLACE)
    with pytest.raises(RequestRefused):
        session.ask("four?", model="o1-pro")
    assert paths(sim) == ["/responses"]


def test_what_a_provider_s_table_says_it_lacks_is_never_asked_for(sim):
    own = {"openai": {"lacks": ["responses", "usage", "schema"]}}
    with session_at(sim.base_url, providers=own) as session:
        sim.script(Reply(json={"x": 1, "y": 2}))
        answer = session.ask("where?", schema=Point)
    (received,) = sim.requests
    assert received.path == "/v1/chat/completions"
    assert "stream_options" not in received.body
    assert received.body["response_format"] == {"type": "json_object"}
    assert answer.parsed == Point(x=1, y=2)
    assert len(answer.notes) == 3


# Summaries, the usage of streams


def test_a_summary_refused_to_an_organization_is_left_out_from_then_on(sim, session):
    sim.script(UNVERIFIED)
    first = session.ask("four?", summary="auto")
    second = session.ask("four?", summary="auto")
    said = [received.body.get("reasoning") for received in sim.requests]
    assert said == [{"summary": "auto"}, None, None]
    for answer in (first, second):
        assert "no reasoning summary: openai gives none to this organization" in answer.notes
    assert session.ask("four?").notes == ()


def test_a_server_that_stumbles_over_stream_options_is_asked_without(sim, session):
    sim.script(NO_STREAM_OPTIONS, Reply(body=chat_stream("four", usage=None)))
    answer = session.ask("four?", api="chat")
    assert ["stream_options" in r.body for r in sim.requests] == [True, False]
    assert "openai does not count the tokens of a stream" in answer.notes
    assert answer.cost_usd is None


def test_what_was_refused_without_having_been_asked_for_is_a_plain_refusal(sim, session):
    for refused in (UNVERIFIED, NO_STREAM_OPTIONS):
        sim.script(refused)
        with pytest.raises(RequestRefused):
            session.ask("four?", api="responses")
    assert len(sim.requests) == 2


# Schemas


@pytest.mark.parametrize(("status", "api"), [(400, "chat"), (422, "chat"), (400, "responses")])
def test_a_provider_without_schemas_is_told_it_in_words_and_the_answer_is_validated_here(
    sim, session, status, api
):
    sim.script(Reply(status=status, error=NO_SCHEMAS), Reply(json={"x": 1, "y": "two"}))
    sim.script(Reply(json={"x": 1, "y": 2}))
    answer = session.ask("where?", schema=Point, api=api, formatting=False)
    assert answer.parsed == Point(x=1, y=2)
    assert any("has no strict schemas" in note for note in answer.notes)
    assert any("asked again: y: should be a whole number" in note for note in answer.notes)
    told, repair = (received.body for received in sim.requests[1:])
    messages = told["messages" if api == "chat" else "input"]
    assert messages[0]["role"] == "developer"
    assert '"additionalProperties": false' in messages[0]["content"]
    shape = told["response_format"] if api == "chat" else told["text"]["format"]
    assert shape == {"type": "json_object"}
    assert len(repair["messages" if api == "chat" else "input"]) == 4
    assert [row.kind for row in entries(session)] == ["ask", "retry", "repair"]


def test_an_answer_that_never_fits_is_refused_by_instruction_too(sim, session):
    sim.script(Reply(status=400, error=NO_SCHEMAS), *[Reply(text="here and there")] * 2)
    with pytest.raises(InvalidAnswer) as caught:
        session.ask("where?", schema=Point, api="chat")
    assert caught.value.answer.text == "here and there"


def test_a_developer_message_stands_above_the_schema_in_words(sim):
    own = {"openai": {"lacks": ["schema"]}}
    with session_at(sim.base_url, providers=own) as session:
        sim.script(Reply(json={"x": 1, "y": 2}))
        session.ask("where?", schema=Point, developer="Be exact.")
    first, _ = sim.requests[0].body["input"]
    assert first["content"].startswith("Be exact.\n\nAnswer with one JSON value")


@pytest.mark.parametrize("developer", ["", "Be exact."])
def test_where_no_developer_is_known_the_system_tells_the_schema(sim, developer):
    own = {"openai": {"lacks": ["schema"], "system_role": True}}
    with session_at(sim.base_url, providers=own) as session:
        sim.script(Reply(json={"x": 1, "y": 2}))
        session.ask("where?", schema=Point, developer=developer, model="llama3.2")
    roles = [item["role"] for item in sim.requests[0].body["input"]]
    assert roles == ["system", "user"]


@pytest.mark.parametrize(
    ("api", "param", "code"),
    [
        ("responses", "text.format.schema", "invalid_json_schema"),
        ("chat", "response_format", None),
    ],
)
def test_a_wrong_schema_is_no_lack_of_the_provider(sim, session, api, param, code):
    message = "Invalid schema for response_format 'Point': 'default' is not permitted."
    error = {"message": message, "param": param, "code": code, "type": "invalid_request_error"}
    sim.script(Reply(status=400, error=error))
    with pytest.raises(RequestRefused, match="Invalid schema"):
        session.ask("where?", schema=Point, api=api)
    assert len(sim.requests) == 1


# Models that are gone


def test_a_model_that_is_gone_stops_with_its_date_and_what_to_write_instead(sim, session):
    sim.script(GONE)
    with pytest.raises(ModelRetired) as caught:
        session.ask("four?")
    assert "2026-10-23" in str(caught.value)
    new = session.catalog.card("o3-mini").replacement
    assert f"%%o3 -m {new} -e medium (OpenAI's replacement: $" in caught.value.hint
    assert "not $1.10 and $4.40" in caught.value.hint
    assert len(sim.requests) == 1


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_retired_model_the_provider_no_longer_knows_is_said_to_be_gone(sim, session, api):
    status = 404 if api == "chat" else 400
    sim.script(Reply(status=status, error={"message": "No such", "code": "model_not_found"}))
    with pytest.raises(ModelRetired, match="no longer serves o3-mini"):
        session.ask("four?", api=api)


def test_a_pro_model_that_is_gone_is_replaced_in_its_mode(sim, session):
    sim.script(replace(GONE, error={**GONE.error, "message": "`o1-pro` has been deprecated"}))
    with pytest.raises(ModelRetired) as caught:
        session.ask("four?", model="o1-pro")
    new = session.catalog.card("o1-pro").replacement
    assert f"-m {new} -e medium --param 'reasoning.mode=\"pro\"'" in caught.value.hint
    sim.script(replace(GONE, error={**GONE.error, "message": "`o1-pro` has been deprecated"}))
    session.ask("four?", model="o1-pro", on_retired="replace")
    body = sim.requests[-1].body
    assert (body["model"], body["reasoning"]) == (new, {"effort": "medium", "mode": "pro"})


def test_nothing_switches_by_itself_unless_it_was_asked_for(sim, session):
    sim.script(GONE)
    answer = session.ask("four?", on_retired="replace", effort="high")
    assert [received.body["model"] for received in sim.requests] == ["o3-mini", "gpt-5.6-sol"]
    assert "o3-mini is gone: gpt-5.6-sol was asked instead (on_retired)" in answer.notes
    assert answer.model.startswith("gpt-5.6-sol")
    assert answer.effort == "high"
    assert [row.model for row in entries(session)] == ["o3-mini", "gpt-5.6-sol"]


def test_a_replacement_is_paid_at_its_own_price_and_keeps_no_effort_it_has_not(sim):
    models = {"old": {"replacement": "gpt-5.5", "efforts": ["minimal"]}}
    with session_at(sim.base_url, models=models) as session:
        unnamed = {key: value for key, value in response().items() if key != "model"}
        sim.script(GONE, Reply(body=unnamed))
        answer = session.ask("four?", model="old", effort="minimal", on_retired="replace")
        card = session.catalog.card("gpt-5.5")
    assert "reasoning" not in sim.requests[-1].body
    assert (answer.model, answer.effort) == ("gpt-5.5", card.default_effort)
    assert answer.cost_usd is not None
    assert answer.cost_usd > 0


def test_models_that_replace_each_other_end_in_an_error(sim):
    models = {"ping": {"replacement": "pong"}, "pong": {"replacement": "ping"}}
    with session_at(sim.base_url, models=models) as session:
        sim.script(*[GONE] * 10)
        with pytest.raises(ModelRetired):
            session.ask("four?", model="ping", on_retired="replace")
    assert len(sim.requests) == 3


# Providers of another shape


def azure(line):
    table = {"base_url": line.base_url.removesuffix("/v1"), "auth": "api-key", "key_env": "AZ_KEY"}
    table |= {"path": "openai/deployments/{model}", "query": "api-version=2024-10-21"}
    table |= {"endpoints": ["chat"], "list_prices": True, "cards": {"my dep": "o3-mini"}}
    return {"az": table}


def test_a_deployment_has_its_own_address_and_its_card_s_price(line):
    usage = {"prompt_tokens": 7, "completion_tokens": 87}
    choice = {"message": {"content": "four"}, "finish_reason": "stop"}
    line.say(document({"id": "c", "model": "my dep", "usage": usage, "choices": [choice]}))
    with session_at("", providers=azure(line), AZ_KEY=KEY) as session:
        answer = session.ask("four?", provider="az", model="my dep", effort="low")
        assert entries(session)[0].cost_nano_usd == 7 * 1100 + 87 * 4400
        with pytest.raises(BadOption, match="no effort 'max'"):
            session.ask("four?", provider="az", model="my dep", effort="max")
    assert answer.text == "four"
    (said,) = line.requests
    where = b"POST /openai/deployments/my%20dep/chat/completions?api-version=2024-10-21 HTTP/1.1"
    assert said.startswith(where)
    assert f"api-key: {KEY}".encode() in said
    assert b"authorization" not in said.lower()


def test_azure_s_current_address_is_below_its_resource(line):
    line.say(document(response()))
    resource = line.base_url.removesuffix("/v1")
    with session_at("", AZURE_OPENAI_ENDPOINT=resource, AZURE_OPENAI_API_KEY=KEY) as session:
        assert session.ask("four?", provider="azure", model="my-deployment").text == "four"
    (said,) = line.requests
    assert said.startswith(b"POST /openai/v1/responses HTTP/1.1")
    assert b'"model":"my-deployment"' in said


def test_a_deployment_that_is_not_there_is_a_model_that_is_not_there(line):
    error = {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}
    line.say(document({"error": error}, b"HTTP/1.1 404 No\r\n"))
    missing = pytest.raises(ModelNotFound, match="does not exist")
    with session_at("", providers=azure(line), AZ_KEY=KEY) as session, missing:
        session.ask("four?", provider="az", model="my-deplyoment")
    assert len(line.requests) == 1


def test_a_key_does_not_go_over_http_to_another_machine(sim):
    for insecure in (False, True):
        own = {"far": {"base_url": "http://no-such-host.invalid/v1", "key_env": "FAR_KEY"}}
        own["far"]["insecure"] = insecure
        with session_at(sim.base_url, providers=own, FAR_KEY=KEY) as session:
            kind = errors.NoConnection if insecure else BadOption
            with pytest.raises(kind) as caught:
                session.ask("four?", provider="far", retries=0)
            assert [row.cost_nano_usd for row in entries(session)] == [0]
        assert KEY not in "".join(caught.value.lines())
    assert sim.requests == []


def test_older_servers_hear_a_system_message_and_max_tokens(sim):
    own = {"old": {"base_url": sim.base_url, "auth": "none", "endpoints": ["chat"]}}
    own["old"] |= {"system_role": True, "max_tokens": True}
    with session_at(sim.base_url, providers=own) as session:
        sim.script(Reply(text="four"))
        session.ask("four?", provider="old", developer="Be brief.", max_output_tokens=50)
    body = sim.requests[0].body
    assert body["messages"][0]["role"] == "system"
    assert body["max_tokens"] == 50
    assert "max_completion_tokens" not in body
    assert "authorization" not in sim.requests[0].headers
    assert KEY not in json.dumps(body)


NO_FORMAT = Reply(
    status=400,
    error={"message": "json_schema is not supported with this model", "param": "text.format"},
)


def test_what_one_model_lacks_is_remembered_for_that_model_alone(sim, session):
    sim.script(NO_FORMAT, Reply(text="4"))
    told = session.ask("four?", model="o3", schema=int)
    assert "openai has no strict schemas for o3" in "".join(told.notes)
    assert session.ask("four?", model="o4-mini", schema=int).notes == ()
    sim.script(Reply(text="4"))
    assert "no strict schemas for o3" in "".join(session.ask("four?", model="o3", schema=int).notes)
    formats = [request.body["text"]["format"]["type"] for request in sim.requests]
    assert formats == ["json_schema", "json_object", "json_schema", "json_object"]


@pytest.mark.parametrize(
    "named", [{"param": "input"}, {"code": "item_not_found"}], ids=["a parameter", "a code"]
)
def test_a_404_about_something_in_the_request_says_nothing_of_the_endpoint(sim, session, named):
    sim.script(Reply(status=404, error={"message": "Item 'rs_1' not found", **named}))
    with pytest.raises(RequestRefused, match="rs_1"):
        session.ask("four?")
    assert session.ask("four?").notes == ()
    assert {request.path for request in sim.requests} == {"/v1/responses"}


@pytest.mark.parametrize("code", [None, "404", "not_found", "NotFoundError", "unknown_url"])
def test_a_404_about_the_address_does(sim, session, code):
    sim.script(Reply(status=404, error={"message": "Not Found", "code": code}))
    assert "asked by the Chat API" in "".join(session.ask("four?").notes)


WANTS_REASONING = Reply(
    status=400,
    error={
        "message": "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "code": "invalid_request_error",
    },
)


def thinking(*deltas: dict, reason: str = "stop") -> Reply:
    """A Chat stream of these deltas."""
    head = {"id": "c", "object": "chat.completion.chunk", "model": "o3-mini"}
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": reason})
    frames = [json.dumps({**head, "choices": [chunk]}) for chunk in chunks]
    return Reply(body="".join(f"data: {frame}\n\n" for frame in [*frames, "[DONE]"]).encode())


def test_a_server_that_wants_its_reasoning_back_gets_it_and_is_remembered(sim, session):
    def now() -> str:
        """Tell the time."""
        return "noon"

    call = {"index": 0, "id": "c1", "function": {"name": "now", "arguments": "{}"}}
    first = thinking(
        {"reasoning_content": "I need "},
        {"reasoning_content": "the time."},
        {"tool_calls": [call]},
        reason="tool_calls",
    )
    sim.script(first, WANTS_REASONING, thinking({"content": "noon"}))
    answer = session.ask("when?", api="chat", model="made-up", tools=[now])
    assert answer.text == "noon"
    assert "sent the reasoning of its tool calls back" in "".join(answer.notes)
    echoed = [
        [turn.get("reasoning_content") for turn in request.body["messages"] if "tool_calls" in turn]
        for request in sim.requests
    ]
    assert echoed == [[], [None], ["I need the time."]]
    sim.script(first, thinking({"content": "noon"}))
    assert session.ask("when?", api="chat", model="made-up", tools=[now]).text == "noon"
    assert sim.requests[-1].body["messages"][-2]["reasoning_content"] == "I need the time."


def test_a_filtered_typed_answer_fails_and_keeps_what_arrived(sim, session):
    sim.script(Reply(text='{"n": ', finish="content_filter"))
    with pytest.raises(InvalidAnswer, match="filter") as caught:
        session.ask("four?", schema=int)
    assert caught.value.answer.text == '{"n": '

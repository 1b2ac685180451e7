"""The traps of a home-made client, 17 to 30: what is said, and what comes back."""

import json

import pytest

from o3magic import errors
from o3magic.cost.token_estimates import estimate_tokens
from o3magic.errors import RequestRefused
from o3magic.messages import AnswerSchema, Message, Request, Tool
from o3magic.providers import join_url
from o3magic.simulator import Call as Asked
from o3magic.simulator import Reply
from o3magic.wire import batch, chat, responses
from tests.sessions import KEY, chat_stream, chunk, entries, frames, response

PARAMETERS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PARAMETERS |= {"additionalProperties": False}
TOOL = Tool("look_up", "Look it up.", PARAMETERS)
EVERYTHING = Request(
    "o3-mini",
    (Message.of("user", "four?"),),
    effort="low",
    max_output_tokens=20,
    answer_schema=AnswerSchema("Number", PARAMETERS),
    tools=(TOOL,),
)


def test_trap_17_nothing_is_sent_that_was_not_chosen(sim, session):
    session.ask("four?", formatting=False)
    session.ask("four?", formatting=False, api="chat")
    one, two = (received.body for received in sim.requests)
    assert set(one) == {"model", "input", "stream"}
    assert set(two) == {"model", "messages", "stream", "stream_options"}


def test_trap_18_each_api_has_its_own_shapes():
    flat, nested = responses.encode(EVERYTHING), chat.encode(EVERYTHING)
    assert flat["reasoning"] == {"effort": "low"}
    assert flat["max_output_tokens"] == nested["max_completion_tokens"] == 20
    assert nested["reasoning_effort"] == "low"
    assert flat["tools"][0]["name"] == nested["tools"][0]["function"]["name"] == "look_up"
    assert flat["text"]["format"]["schema"] == PARAMETERS
    assert nested["response_format"]["json_schema"]["schema"] == PARAMETERS


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_trap_18_a_limit_below_the_least_is_refused_before_it_is_sent(session, sim, api):
    if api == "responses":
        with pytest.raises(errors.BadOption, match="less than"):
            session.ask("four?", max_output_tokens=15)
        assert sim.requests == []
    session.ask("four?", max_output_tokens=16, api=api)
    assert len(sim.requests) == 1


def test_trap_19_strict_is_always_said():
    for strict in (True, False):
        request = Request(
            "o3-mini",
            (),
            answer_schema=AnswerSchema("Number", PARAMETERS, strict=strict),
            tools=(Tool("look_up", "", PARAMETERS, strict=strict),),
        )
        flat, nested = responses.encode(request), chat.encode(request)
        assert flat["tools"][0]["strict"] is flat["text"]["format"]["strict"] is strict
        assert nested["tools"][0]["function"]["strict"] is strict
        assert nested["response_format"]["json_schema"]["strict"] is strict


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_trap_20_what_was_said_before_is_said_again_in_words_and_never_by_an_id(sim, session, api):
    sim.script(Reply(text="no number", summary=("Hm.",)), Reply(text="4", summary=("Hm.",)))
    answer = session.ask("four?", schema=int, developer="Be brief.", api=api)
    assert answer.parsed == 4
    body = sim.requests[-1].body
    assert "previous_response_id" not in body
    said = body["input" if api == "responses" else "messages"]
    assert [item["role"] for item in said] == ["developer", "user", "assistant", "user"]
    assert said[2]["content"] == "no number"
    assert all(set(item) <= {"type", "role", "content"} for item in said)  # no reasoning, no id


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_trap_21_all_tokens_may_go_into_reasoning(say, api, stream):
    reply = Reply(finish="length", message=False, text="", reasoning_tokens=500)
    answer = say(reply, api, stream=stream)
    assert (answer.text, answer.finish_reason) == ("", "length")
    assert answer.usage.reasoning_tokens == 500


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_trap_22_a_refusal_is_not_parsed(say, session, api, stream):
    answer = say(Reply(refusal="I won't."), api, schema=int, stream=stream)
    assert (answer.refusal, answer.parsed, answer.finish_reason) == ("I won't.", None, "refusal")
    assert len(entries(session)) == 1


def test_trap_23_calls_in_pieces_are_put_together_by_their_index(say):
    def piece(index, call_id=None, name=None, **more):
        function = ({"name": name} if name is not ... else {}) | more
        return {"index": index, "id": call_id, "function": function}

    deltas = [
        [piece(1, "b", "two", arguments="")],
        [piece(0, "a", "one")],
        [piece(1, arguments='{"n"'), piece(0, arguments="{}")],
        [piece(1, name=..., arguments=": 2}")],
        [{"index": 2, "id": "c", "function": {"name": "three"}}],
    ]
    body = frames(*(chunk({"tool_calls": each}) for each in deltas))
    answer = say(Reply(body=body + frames(chunk({}, finish="tool_calls"), "[DONE]")), "chat")
    calls = [(call.id, call.name, call.arguments) for call in answer.tool_calls]
    assert calls == [("a", "one", "{}"), ("b", "two", '{"n": 2}'), ("c", "three", "")]
    both = (Asked("one", '{"a": 1}'), Asked("two", "{}"))
    found = say(Reply(calls=both, piece_bytes=5)).tool_calls
    assert [(call.name, call.arguments) for call in found] == [("one", '{"a": 1}'), ("two", "{}")]


@pytest.mark.parametrize("output_text", [..., "", "something else"])
def test_trap_24_the_text_is_joined_from_its_parts(say, output_text):
    whole = response("four")
    whole["output"].append({"type": "message", "content": [{"type": "output_text", "text": "!"}]})
    if output_text is not ...:
        whole["output_text"] = output_text
    assert say(Reply(body=whole), stream=False).text == "four!"
    assert say(Reply(body=frames({"type": "response.completed", "response": whole}))).text == (
        "four!"
    )


DETAILS = [{"type": "reasoning.summary", "summary": "Hm."}, {"type": "reasoning.encrypted"}]


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "Hm."},
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm.", "reasoning_content": "Hm."},
        {"reasoning": "Hm.", "reasoning_details": DETAILS},
        {"reasoning_details": DETAILS},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}], "content": ""},
    ],
)
def test_trap_25_reasoning_goes_by_many_names_and_is_said_once(say, delta):
    answer = say(Reply(body=frames(chunk(delta)) + chat_stream("four")), "chat")
    assert (answer.reasoning_summary, answer.text) == ("Hm.", "four")
    message = {"role": "assistant", "content": "four"} | {k: v for k, v in delta.items() if v}
    whole = {"id": "c", "choices": [{"message": message, "finish_reason": "stop"}]}
    assert say(Reply(body=whole), "chat").reasoning_summary == "Hm."


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (429, {"error": {"message": "Slow.", "code": 429}}, "Slow"),
        (400, {"error": {"message": "Bad.", "code": "bad", "type": None}}, "Bad"),
        (500, {"error": {"message": "Down.", "code": None}}, "Down"),
        (502, "<html><title>Bad Gateway</title><script>x</script></html>", "Bad Gateway"),
        (503, "upstream connect error", "upstream connect error"),
        (400, {"error": "no such thing"}, "no such thing"),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}, "[key]"),
        (401, {"error": {"message": "Incorrect API key provided: sk-te***CRET."}}, "[key]"),
    ],
)
def test_trap_26_an_error_comes_in_any_shape_and_shows_no_key(say, status, body, told):
    kind = "text/html" if isinstance(body, str) else None
    with pytest.raises(errors.RequestFailed) as caught:
        say(Reply(status=status, body=body, content_type=kind))
    assert told in str(caught.value)
    shown = "".join(caught.value.lines())
    assert not [each for each in (KEY, "CRET", "sk-te", "<", "script") if each in shown]


def test_trap_27_the_lines_of_a_batch_come_in_any_order():
    asked = batch.build_batch_line("b", {"model": "m", "stream": True}, "/v1/x")
    assert asked["custom_id"] == "b"
    assert "stream" not in asked["body"]

    good = {"custom_id": "a", "response": {"status_code": 200, "body": {"id": "r"}}, "error": None}
    late = {"code": "batch_expired", "message": "This request could not be executed in time."}
    gone = {"custom_id": "b", "response": None, "error": late}
    bad = {"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}
    slow = {"custom_id": "c", "response": {"status_code": 429, "body": bad}, "error": None}
    output = b"\xef\xbb\xbf" + json.dumps(good).encode() + b"\r\n"
    errors_file = b"\n".join(json.dumps(line).encode() for line in (slow, gone))
    lines = [*output.splitlines(), *errors_file.splitlines()]
    by_id = {line.id: line for line in map(batch.parse_batch_line, lines)}
    found = [by_id["b"], by_id["a"], by_id["c"]]
    assert sorted(by_id) == ["a", "b", "c"]
    assert found[1].body == {"id": "r"}
    assert [type(line.failed).__name__ for line in found] == [
        "BatchUnfinished",
        "NoneType",
        "RateLimited",
    ]
    assert "expired" in str(found[0].failed)
    assert found[0].failed.billed is False

    every = {"id": "batch_1", "status": "completed", "output_file_id": None, "errors": None}
    only_errors = batch.parse_batch_state(
        {**every, "error_file_id": "file-2", "completed_at": None}
    )
    assert only_errors.over
    assert (only_errors.output_file, only_errors.error_file) == ("", "file-2")
    told = {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit"}]}
    assert batch.parse_batch_state({**every, "status": "failed", "errors": told}).errors == (
        "Enqueued token limit",
    )


def test_trap_28_newer_models_are_asked_by_responses_where_tools_and_effort_go_together(
    session, client_for
):
    planned = session.plan("four?", session.layers.profile({"model": "gpt-5.6-sol"}))
    assert planned.call.api == "responses"
    assert planned.card.chat_tools_effort == "none"
    ask = client_for(planned.call)
    assert ask("responses", tools=(TOOL,), effort="low")
    assert ask("chat", tools=(TOOL,), effort="none")
    with pytest.raises(RequestRefused, match="use /v1/responses") as caught:
        ask("chat", tools=(TOOL,), effort="low")
    assert caught.value.param == "reasoning_effort"


@pytest.mark.parametrize("tail", ["", "/", "/?api-version=1", "/responses?api-version=1"])
def test_trap_29_an_address_keeps_its_prefix_and_query(sim, session, tail):
    session.environment["OPENAI_BASE_URL"] = sim.base_url + tail
    session.ask("four?")
    assert sim.requests[0].path == "/v1/responses"
    assert sim.requests[0].query == ({"api-version": "1"} if "?" in tail else {})
    assert join_url("https://host/a/v1?b=c", "/responses") == "https://host/a/v1/responses?b=c"


def test_trap_29_no_key_follows_a_redirect(say, sim, line):
    headers = {"location": f"{line.base_url}/responses"}
    with pytest.raises(RequestRefused, match="redirects the request to"):
        say(Reply(status=307, body="", headers=headers))
    assert line.requests == []


def test_trap_30_special_tokens_in_a_text_are_text(say, sim):
    assert estimate_tokens("<|endoftext|>").low > 1
    said = "a <|endoftext|> b <|im_start|>"
    assert "SIMULATED" in say(Reply(), model="o3-mini", developer=said).text
    assert said in str(sim.requests[0].body)

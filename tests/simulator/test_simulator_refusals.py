"""What the API refuses, the simulator refuses in the same shape."""

import json
from typing import Any

import httpx
import pytest

from o3magic.simulator import Simulator

USER = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ANSWERED = {"role": "tool", "tool_call_id": "call_1", "content": "1"}


def chat(**more: Any) -> tuple[str, dict[str, Any]]:
    return "/chat/completions", {"model": "o3-mini", "messages": [USER], **more}


def responses(**more: Any) -> tuple[str, dict[str, Any]]:
    return "/responses", {"model": "o3-mini", "input": "hello", **more}


def chat_is(status: int, param: str | None, code: str | None, **more: Any) -> Any:
    return pytest.param(*chat(**more), status, param, code, id=f"chat {list(more)} {param}")


def responses_is(status: int, param: str | None, code: str | None, **more: Any) -> Any:
    return pytest.param(
        *responses(**more), status, param, code, id=f"responses {list(more)} {param}"
    )


NO_PARAMETER, NO_VALUE = "unsupported_parameter", "unsupported_value"
MISSING, INVALID = "missing_required_parameter", "invalid_value"
REFUSED = [
    chat_is(404, None, "model_not_found", model="gpt-2"),
    responses_is(400, "model", "model_not_found", model="gpt-2"),
    chat_is(400, None, None, model=None),
    responses_is(400, "model", MISSING, model=None),
    chat_is(400, "messages", MISSING, messages=None),
    chat_is(400, "messages", "empty_array", messages=[]),
    chat_is(400, "messages", "invalid_type", messages="hello"),
    responses_is(400, "input", MISSING, input=None),
    responses_is(400, "input", "invalid_type", input=7),
    chat_is(400, "temperature", NO_PARAMETER, temperature=1),
    responses_is(400, "temperature", NO_PARAMETER, temperature=0.2),
    chat_is(400, "top_p", NO_PARAMETER, top_p=1),
    chat_is(400, "max_tokens", NO_PARAMETER, max_tokens=9),
    chat_is(400, "presence_penalty", NO_PARAMETER, presence_penalty=0),
    chat_is(400, "parallel_tool_calls", NO_PARAMETER, parallel_tool_calls=False),
    responses_is(400, "parallel_tool_calls", NO_PARAMETER, parallel_tool_calls=True),
    chat_is(400, "temperature", NO_PARAMETER, temperature=1, model="gpt-5.5"),
    chat_is(400, "reasoning_effort", NO_VALUE, reasoning_effort="xhigh"),
    responses_is(400, "reasoning.effort", NO_VALUE, reasoning={"effort": "none"}),
    responses_is(400, "reasoning.effort", NO_VALUE, reasoning={"effort": "max"}, model="gpt-5.5"),
    chat_is(400, "reasoning_effort", NO_PARAMETER, reasoning_effort="low", model="o1-mini"),
    chat_is(400, "reasoning_effort", NO_PARAMETER, reasoning_effort="low", model="gpt-4.1"),
    responses_is(
        400, "reasoning.effort", NO_PARAMETER, reasoning={"effort": "low"}, model="gpt-4o"
    ),
    chat_is(400, "verbosity", NO_VALUE, verbosity="low"),
    chat_is(400, "verbosity", INVALID, verbosity="lots", model="gpt-5.5"),
    responses_is(400, "text.verbosity", NO_VALUE, text={"verbosity": "high"}),
    responses_is(400, "text.verbosity", INVALID, text={"verbosity": "lots"}, model="gpt-5.5"),
    chat_is(400, "service_tier", INVALID, service_tier="cheap"),
    responses_is(400, "service_tier", INVALID, service_tier="cheap"),
    responses_is(400, "include", None, include=["reasoning.encrypted_content"], model="gpt-4.1"),
    responses_is(
        400, "reasoning.effort", NO_VALUE, reasoning={"effort": "none"}, model="gpt-6.2-sol"
    ),
    chat_is(400, "reasoning_effort", NO_VALUE, reasoning_effort="xhigh", model="gpt-oss-20b"),
    chat_is(400, "n", NO_VALUE, n=2),
    responses_is(400, "max_output_tokens", "integer_below_min_value", max_output_tokens=15),
    responses_is(400, "max_output_tokens", "invalid_type", max_output_tokens="20"),
    chat_is(400, None, None, max_output_tokens=20),
    responses_is(400, "response_format", NO_PARAMETER, response_format={"type": "text"}),
    responses_is(400, "reasoning_effort", NO_PARAMETER, reasoning_effort="low"),
    responses_is(400, "colour", "unknown_parameter", colour="blue"),
    chat_is(400, "messages", None, response_format={"type": "json_object"}),
    responses_is(400, "input", None, text={"format": {"type": "json_object"}}),
    responses_is(400, "text.format.name", MISSING, text={"format": {"type": "json_schema"}}),
    responses_is(400, "tools[0].name", MISSING, tools=[TOOL]),
    chat_is(400, "tools[0].function", MISSING, tools=[{"type": "function", "name": "f"}]),
    chat_is(400, "tool_choice", None, tool_choice={"type": "function", "function": {"name": "g"}}),
    chat_is(400, "reasoning_effort", None, model="gpt-5.6-sol", tools=[TOOL]),
    chat_is(400, "messages[0].role", INVALID, messages=[{"role": "robot", "content": ""}]),
    chat_is(400, "messages[1].role", None, messages=[USER, ANSWERED]),
    chat_is(
        *(400, "messages[1].role", None),
        messages=[USER, {"role": "assistant", "tool_calls": [CALL]}],
    ),
    chat_is(
        *(400, "messages[0].content", INVALID),
        messages=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    ),
    responses_is(
        *(400, "input[0].content", INVALID),
        input=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    ),
    responses_is(
        *(400, "input", None),
        input=[{"type": "function_call_output", "call_id": "call_1", "output": "1"}],
    ),
    responses_is(
        *(400, "input", None),
        input=[{"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}],
    ),
    responses_is(*(400, "input", None), input=[{"type": "reasoning", "id": "rs_1", "summary": []}]),
    responses_is(
        *(400, "previous_response_id", "previous_response_not_found"),
        previous_response_id="resp_unknown",
    ),
    chat_is(
        *(400, "messages", "context_length_exceeded"),
        messages=[{"role": "user", "content": "word " * 200_000}],
    ),
]


@pytest.mark.parametrize(("path", "body", "status", "param", "code"), REFUSED)
def test_a_request_is_refused(http, valid, path, body, status, param, code):
    body = {name: value for name, value in body.items() if value is not None}
    answer = http.post(path, json=body)
    error = answer.json()["error"]
    valid("error", answer.json())
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code), error
    assert error["type"] == "invalid_request_error"
    assert answer.headers["x-o3magic-simulated"] == "1"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        chat(temperature=None, max_tokens=None),
        chat(model="gpt-5.4", temperature=0.5, parallel_tool_calls=False),
        chat(model="gpt-5.6-sol", tools=[TOOL], reasoning_effort="none"),
        chat(model="o3magic/demo", temperature=0.5, reasoning_effort="max"),
        chat(messages=[USER, {"role": "assistant", "tool_calls": [CALL]}, ANSWERED]),
        responses(model="gpt-5.6-sol", reasoning={"effort": "max"}),
        responses(model="o3-mini-2025-01-31", max_output_tokens=16),
    ],
)
def test_a_request_is_not_refused(http, path, body):
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text


def test_the_words_are_those_that_were_recorded(http, api):
    recorded = {case["id"]: case for case in json.loads((api / "errors.json").read_text())["cases"]}
    for name, (path, body) in {
        "model_not_found_responses": responses(model="gpt-5.2-proo"),
        "unsupported_parameter": chat(parallel_tool_calls=True),
        "max_tokens": chat(max_tokens=5),
        "temperature": chat(temperature=1),
        "unsupported_value_role": chat(
            model="o1-mini", messages=[{"role": "developer", "content": "x"}, USER]
        ),
    }.items():
        if name == "model_not_found_responses":
            body["model"] = "gpt-2"
            recorded[name]["body"]["error"]["message"] = (
                "The requested model 'gpt-2' does not exist."
            )
        answer = http.post(path, json=body)
        assert (answer.status_code, answer.json()) == (
            recorded[name]["status"],
            recorded[name]["body"],
        )


def test_a_retired_model_is_deprecated_and_so_are_its_snapshots():
    with Simulator(retired={"o3-mini"}) as sim, httpx.Client(base_url=sim.base_url) as http:
        for model in ("o3-mini", "o3-mini-2025-01-31"):
            for path, body in (chat(model=model), responses(model=model)):
                answer = http.post(path, json=body)
                assert answer.status_code == 404
                assert f"`{model}` has been deprecated" in answer.json()["error"]["message"]
            assert http.get(f"/models/{model}").status_code == 404
        assert http.post(*chat(model="o3")[:1], json=chat(model="o3")[1]).status_code == 200
        assert "o3-mini" not in {model["id"] for model in http.get("/models").json()["data"]}


def test_a_wrong_key_is_echoed_masked_and_a_right_one_accepted():
    with Simulator(key="sk-right") as sim, httpx.Client(base_url=sim.base_url) as http:
        path, body = responses()
        none = http.post(path, json=body)
        assert (none.status_code, none.json()["error"]["code"]) == (401, None)
        wrong = http.post(path, json=body, headers={"authorization": "Bearer sk-wrong-secret-key"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
        assert "sk-wrong*******-key" in wrong.json()["error"]["message"]
        assert "secret" not in wrong.text
        right = http.post(path, json=body, headers={"authorization": "Bearer sk-right"})
        assert right.status_code == 200
        assert http.get(sim.base_url.replace("/v1", "/healthz")).status_code == 200


def test_nothing_else_is_there(http, valid):
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("POST", "/embeddings", 404),
        ("GET", "/models/gpt-2", 404),
        ("DELETE", "/models/o3", 404),
        ("GET", "/responses", 405),
        ("POST", "/models", 405),
    ):
        answer = http.request(method, path)
        assert answer.status_code == status
        valid("error", answer.json())


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"\xff", b"null"])
def test_a_body_that_is_no_object_is_refused(http, raw):
    answer = http.post("/responses", content=raw)
    assert answer.status_code == 400
    assert "could not parse the JSON body" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"input": [1, None, {"type": 3}], "reasoning": 7, "text": [], "tools": {}},
        {"input": [{"role": 5, "content": {"x": 1}}], "tools": ["f", {"type": "function"}]},
        {"messages": [{"role": "user", "content": [5]}, 7], "response_format": "json"},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": []}]}], "stream_options": 3},
        {"input": "x", "text": {"format": {"type": "json_schema", "name": 1, "schema": 5}}},
        {"input": "x", "tools": [{"type": "function", "name": "x", "parameters": {"type": 9}}]},
        {"input": "\ud800", "max_output_tokens": -1, "include": 5, "stream": "yes"},
    ],
)
def test_nonsense_gets_an_answer_all_the_same(http, body):
    for path in ("/responses", "/chat/completions"):
        raw = json.dumps({"model": "o3-mini", **body})
        assert http.post(path, content=raw).status_code in (200, 400)

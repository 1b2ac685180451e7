"""What a question gets, on both endpoints, streamed and not."""

import json
from typing import Any

import httpx
import pytest

from o3magic.simulator import Simulator

QUESTION = "Why is the sky blue, and why is it `red` at dusk?"


def responses(**more: Any) -> dict[str, Any]:
    return {"model": "o3-mini", "input": QUESTION, **more}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "o3-mini", "messages": [{"role": "user", "content": QUESTION}], **more}


def text_of(response: dict[str, Any]) -> str:
    parts = [part for item in response["output"] for part in item.get("content", [])]
    return "".join(part["text"] for part in parts)


def streamed_text(events: list[dict[str, Any]]) -> str:
    return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")


def chat_text(chunks: list[dict[str, Any]]) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_an_answer_says_first_that_no_model_was_asked(http, valid):
    answer = http.post("/responses", json=responses())
    assert answer.headers["x-o3magic-simulated"] == "1"
    assert answer.json()["model"] == "o3-mini-simulated"
    assert text_of(answer.json()).splitlines()[0] == "*SIMULATED answer: no model was asked.*"
    valid("responses_response", answer.json())


def test_a_chat_answer_says_first_that_no_model_was_asked(http, valid):
    answer = http.post("/chat/completions", json=chat()).json()
    assert answer["choices"][0]["message"]["content"].startswith("*SIMULATED answer")
    assert answer["system_fingerprint"] == "fp_simulated"
    valid("chat_response", answer)


def test_an_answer_has_something_of_all_that_can_be_rendered(http):
    text = text_of(http.post("/responses", json=responses()).json())
    for mark in ("\n## ", "\n- ", "\n```python\n", "|---", "\\( ", "\\[ "):
        assert mark in text.replace(":--", "---")
    assert "`` Why is the sky blue, and why is it `red` at dusk? ``" in text


def test_every_event_of_a_stream_is_as_published(http, valid, events):
    body = responses(stream=True, reasoning={"effort": "high", "summary": "auto"})
    stream = events(http.post("/responses", json=body))
    for event in stream:
        valid("responses_stream_events", event)
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))
    kinds = [k for i, e in enumerate(stream) if (k := e["type"]) != stream[i - 1]["type"]]
    part = [f"response.reasoning_summary_{n}" for n in ("part.added", "text.delta", "text.done")]
    part.append("response.reasoning_summary_part.done")
    assert kinds == [
        *("response.created", "response.in_progress", "response.output_item.added"),
        *part,
        *part,
        *("response.output_item.done", "response.output_item.added"),
        *("response.content_part.added", "response.output_text.delta"),
        *("response.output_text.done", "response.content_part.done"),
        *("response.output_item.done", "response.completed"),
    ]


def test_every_chunk_of_a_stream_is_as_published(http, valid, events):
    answer = http.post("/chat/completions", json=chat(stream=True))
    chunks = events(answer)
    for chunk in chunks:
        valid("chat_chunk", chunk)
        assert "usage" not in chunk
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert answer.text.endswith("\n\ndata: [DONE]\n\n")


def test_usage_comes_in_a_chunk_of_its_own_if_it_is_asked_for(http, events):
    body = chat(stream=True, stream_options={"include_usage": True})
    *earlier, last = events(http.post("/chat/completions", json=body))
    assert {chunk["usage"] for chunk in earlier if chunk["usage"]} == set()
    assert last["choices"] == []
    assert last["usage"] == http.post("/chat/completions", json=chat()).json()["usage"]


def test_the_same_question_has_the_same_answer_streamed_or_not(http, events):
    whole = http.post("/responses", json=responses()).json()
    stream = events(http.post("/responses", json=responses(stream=True)))
    with Simulator() as other:
        again = httpx.post(f"{other.base_url}/responses", json=responses()).json()
    assert text_of(whole) == streamed_text(stream) == text_of(again)
    assert whole["id"] == stream[-1]["response"]["id"] == again["id"]
    chunks = events(http.post("/chat/completions", json=chat(stream=True)))
    message = http.post("/chat/completions", json=chat()).json()["choices"][0]["message"]
    assert chat_text(chunks) == message["content"]


def test_another_question_has_another_answer(http):
    first, second = (
        http.post("/responses", json=responses(input=text)).json() for text in ("one", "two")
    )
    assert text_of(first) != text_of(second)
    assert first["id"] != second["id"]


def test_more_effort_means_more_thinking_and_a_longer_answer(http):
    answers = [
        http.post("/responses", json=responses(reasoning={"effort": effort})).json()
        for effort in ("low", "medium", "high")
    ]
    thought = [a["usage"]["output_tokens_details"]["reasoning_tokens"] for a in answers]
    assert thought == sorted(set(thought))
    assert all(tokens % 64 == 0 for tokens in thought)
    lengths = [len(text_of(a)) for a in answers]
    assert lengths == sorted(set(lengths))


def test_a_long_prompt_is_cached_the_second_time_as_far_as_it_is_the_same(http):
    long = "word " * 2000
    counted = [
        http.post("/responses", json=responses(input=text)).json()["usage"]
        for text in (long, long, long + "and more", "short", "short")
    ]
    cached = [usage["input_tokens_details"]["cached_tokens"] for usage in counted]
    assert cached[0] == cached[3] == cached[4] == 0
    assert cached[1] == cached[2] >= 1024
    assert cached[1] % 128 == 0


def test_the_count_of_input_tokens_is_the_one_that_is_charged(http, valid):
    counted = http.post("/responses/input_tokens", json=responses()).json()
    valid("responses_input_tokens", counted)
    charged = http.post("/responses", json=responses()).json()["usage"]["input_tokens"]
    assert counted["input_tokens"] == charged


def test_an_answer_stops_at_the_limit_of_tokens(http, valid, events):
    whole = http.post("/responses", json=responses()).json()
    limit = whole["usage"]["output_tokens_details"]["reasoning_tokens"] + 20
    cut = http.post("/responses", json=responses(max_output_tokens=limit)).json()
    valid("responses_response", cut)
    assert (cut["status"], cut["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert text_of(cut) == text_of(whole)[:80]
    assert cut["usage"]["output_tokens"] == limit
    stream = events(http.post("/responses", json=responses(max_output_tokens=limit, stream=True)))
    assert stream[-1]["type"] == "response.incomplete"


def test_thinking_can_use_everything_up_so_that_no_message_comes(http, valid):
    cut = http.post("/responses", json=responses(max_output_tokens=100)).json()
    valid("responses_response", cut)
    assert [item["type"] for item in cut["output"]] == ["reasoning"]
    choice = http.post("/chat/completions", json=chat(max_completion_tokens=100)).json()
    valid("chat_response", choice)
    assert choice["choices"][0]["finish_reason"] == "length"
    assert choice["choices"][0]["message"]["content"] == ""
    assert choice["usage"]["completion_tokens"] == 100
    assert choice["usage"]["completion_tokens_details"]["reasoning_tokens"] == 64


def test_a_later_question_builds_upon_an_earlier_answer(http):
    first = http.post("/responses", json=responses(input="my name is Ada")).json()
    second = http.post(
        "/responses", json=responses(input="who am I?", previous_response_id=first["id"])
    ).json()
    assert "`my name is Ada`" in text_of(second)
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]


def test_models_are_listed_and_shown_one_by_one(http, valid):
    listed = http.get("/models").json()
    valid("models_list", listed)
    assert {"o3-mini", "o4-mini", "gpt-5.5"} <= {model["id"] for model in listed["data"]}
    for name in ("o3-mini", "o3magic/anything"):
        shown = http.get(f"/models/{name}").json()
        valid("model", shown)
        assert shown["id"] == name


@pytest.mark.parametrize(
    ("model", "more", "thinks"),
    [
        ("gpt-4.1", {"temperature": 0.2, "max_tokens": 500}, False),
        ("gpt-4o-mini", {"parallel_tool_calls": False}, False),
        ("gpt-oss-20b", {"temperature": 0.2, "reasoning_effort": "low"}, True),
        ("openai/gpt-oss-120b", {}, True),
        ("gpt-6.1-terra", {}, True),
        ("gpt-6.2-astra", {"reasoning_effort": "max"}, True),
        ("chat-latest", {}, True),
    ],
)
def test_a_family_takes_what_its_models_take(http, model, more, thinks):
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}
    answered = http.post("/chat/completions", json=body)
    assert answered.status_code == 200, answered.text
    usage = answered.json()["usage"]["completion_tokens_details"]
    assert (usage["reasoning_tokens"] > 0) is thinks


def test_paths_work_without_their_prefix(sim, http):
    root = sim.base_url.removesuffix("/v1")
    assert http.get(f"{root}/models").status_code == 200
    assert http.get(f"{root}/healthz").json() == {"status": "ok", "simulated": True}
    assert http.post(f"{root}/responses", json=responses()).status_code == 200


def test_what_arrives_is_kept_in_order(sim, http):
    http.get("/models?limit=3", headers={"X-Test": "yes"})
    http.post("/responses", json=responses())
    first, second = sim.requests
    assert (first.method, first.path, first.query) == ("GET", "/v1/models", {"limit": "3"})
    assert (first.headers["x-test"], first.body) == ("yes", None)
    assert second.body == responses() == json.loads(second.raw)


def test_a_body_in_chunks_is_read_whole(sim, http):
    raw = json.dumps(responses()).encode()
    answer = http.post("/responses", content=iter([raw[:7], raw[7:]]))
    assert answer.status_code == 200
    assert sim.requests[0].raw == raw


def test_one_connection_serves_many_questions(http):
    for _ in range(3):
        http.post("/responses", json=responses(stream=True))
    stream = http.post("/responses", json=responses()).extensions["network_stream"]
    again = http.post("/responses", json=responses()).extensions["network_stream"]
    assert stream.get_extra_info("client_addr") == again.get_extra_info("client_addr")

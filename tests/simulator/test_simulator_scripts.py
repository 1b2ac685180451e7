"""Scripted answers: faults, odd endings and recorded bytes."""

import json
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from o3magic.simulator import Call, Reply, Simulator

RESPONSES = {"model": "o3-mini", "input": "hello"}
CHAT = {"model": "o3-mini", "messages": [{"role": "user", "content": "hello"}]}
RECORDED = b'event: a\ndata: {"x": "\xe2\x80\xa8"}\n\n: comment\r\n\r\ndata: [DONE]\n\n'


def ask(http: httpx.Client, **more: Any) -> httpx.Response:
    return http.post("/responses", json={**RESPONSES, **more})


def ask_chat(http: httpx.Client, **more: Any) -> httpx.Response:
    return http.post("/chat/completions", json={**CHAT, **more})


def test_replies_are_used_in_order_and_then_the_simulator_speaks_for_itself(sim, http):
    sim.script(Reply(text="one"), Reply(json={"two": 2}))
    texts = [ask(http).json()["output"][-1]["content"][0]["text"] for _ in range(3)]
    assert texts[:2] == ["one", '{"two": 2}']
    assert texts[2].startswith("*SIMULATED")


def test_other_requests_use_no_reply_up(sim, http):
    sim.script(Reply(text="one"))
    http.get("/models")
    http.post("/responses/input_tokens", json=RESPONSES)
    assert ask_chat(http).json()["choices"][0]["message"]["content"] == "one"


def test_a_scripted_request_is_not_judged(sim, http):
    sim.script(Reply(text="fine"))
    assert ask(http, model="my-deployment", temperature=3).json()["model"] == (
        "my-deployment-simulated"
    )


@pytest.mark.parametrize("piece_bytes", [None, 1, 7])
def test_recorded_bytes_come_as_they_are(sim, http, piece_bytes):
    sim.script(Reply(body=RECORDED, piece_bytes=piece_bytes, headers={"x-test": "1"}))
    with http.stream("POST", "/responses", json=RESPONSES) as answer:
        pieces = list(answer.iter_raw())
    assert b"".join(pieces) == RECORDED
    assert set(answer.headers) == {"content-type", "x-test", "transfer-encoding"}
    if piece_bytes:
        assert max(map(len, pieces)) <= piece_bytes or len(pieces) > 1


@pytest.mark.parametrize("path", ["/responses", "/chat/completions"])
def test_a_recorded_stream_passes_unchanged(sim, http, api, path):
    for recorded in sorted((api / "fixtures").glob("*.sse")):
        sim.script(Reply(body=recorded.read_bytes(), piece_bytes=1000))
        assert http.post(path, json=RESPONSES).content == recorded.read_bytes()


def test_a_page_of_html_can_come_instead(sim, http):
    page = "<html>502 Bad Gateway</html>"
    sim.script(Reply(status=502, body=page, content_type="text/html"), Reply(status=204, body=""))
    answer = ask(http)
    assert (answer.status_code, answer.text) == (502, page)
    assert set(answer.headers) == {"content-type", "content-length"}
    assert ask(http).status_code == 204


def test_an_error_has_its_status_headers_and_body(sim, http, valid):
    sim.script(
        Reply(status=429, headers={"retry-after": "1"}, error={"message": "slow"}),
        Reply(status=503),
        Reply(status=400, body={"detail": "odd"}),
    )
    first, second, third = ask(http), ask_chat(http), ask(http)
    assert (first.status_code, first.headers["retry-after"]) == (429, "1")
    assert first.json()["error"]["message"] == "slow"
    assert (second.status_code, second.json()["error"]["type"]) == (503, "server_error")
    valid("error", first.json())
    valid("error", second.json())
    assert (third.json(), third.headers["content-type"]) == ({"detail": "odd"}, "application/json")


@pytest.mark.parametrize("cut", [0, 1, 200, 700])
def test_a_line_that_goes_dead_is_noticed_and_a_clean_end_is_not(sim, http, cut):
    sim.script(
        Reply(text="x " * 99, cut_after_bytes=cut),
        Reply(text="x " * 99, cut_after_bytes=cut, clean=True),
    )
    read = bytearray()
    with http.stream("POST", "/responses", json={**RESPONSES, "stream": True}) as answer:
        pieces = answer.iter_raw()
        with pytest.raises(httpx.RemoteProtocolError):
            deque(map(read.extend, pieces), maxlen=0)
    assert len(read) == cut
    assert len(ask(http, stream=True).content) == cut
    assert sim.disconnects == 0


def test_a_document_can_be_cut_too(sim, http):
    sim.script(Reply(cut_after_bytes=10), Reply(cut_after_bytes=10, clean=True))
    with pytest.raises(httpx.RemoteProtocolError):
        ask(http)
    assert len(ask(http).content) == 10


def test_a_server_can_hang_up_without_a_word(sim, http):
    sim.script(Reply(hang_up=True))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        ask(http)
    assert ask(http).status_code == 200


def test_the_first_byte_can_be_late(sim, http):
    sim.script(Reply(text="late", wait_s=0.5))
    with pytest.raises(httpx.ReadTimeout):
        http.post("/responses", json=RESPONSES, timeout=0.05)


def test_comments_and_keepalives_come_between_the_events(sim, http, valid, events):
    sim.script(Reply(comments=("PROCESSING", "still"), keepalives=2), Reply(keepalives=1))
    answer = ask(http, stream=True)
    assert answer.text.startswith(": PROCESSING\n\nevent: response.created")
    stream = events(answer)
    assert [event["type"] for event in stream[:4]] == [
        *("response.created", "keepalive", "keepalive", "response.in_progress"),
    ]
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))
    for event in stream:
        valid("responses_stream_events", event)
    assert "\n\n: keepalive\n\n" in ask_chat(http, stream=True).text


def test_a_refusal_comes_instead_of_a_text(sim, http, valid, events):
    sim.script(*[Reply(refusal="I will not do that.")] * 4)
    whole = ask(http).json()
    assert whole["output"][-1]["content"] == [{"type": "refusal", "refusal": "I will not do that."}]
    valid("responses_response", whole)
    stream = events(ask(http, stream=True))
    said = [event["delta"] for event in stream if event["type"] == "response.refusal.delta"]
    assert "".join(said) == "I will not do that."
    message = ask_chat(http).json()["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "I will not do that.")
    chunks = events(ask_chat(http, stream=True))
    said = [chunk["choices"][0]["delta"].get("refusal") or "" for chunk in chunks]
    assert "".join(said) == "I will not do that."
    for event in stream:
        valid("responses_stream_events", event)
    for chunk in chunks:
        valid("chat_chunk", chunk)


@pytest.mark.parametrize("message", [True, False])
@pytest.mark.parametrize("finish", ["length", "content_filter", "failed"])
def test_an_answer_can_end_badly(sim, http, valid, events, finish, message):
    sim.script(*[Reply(text="Half of", finish=finish, message=message)] * 4)
    whole = ask(http).json()
    stream = events(ask(http, stream=True))
    status = "failed" if finish == "failed" else "incomplete"
    assert (whole["status"], stream[-1]["type"]) == (status, f"response.{status}")
    has_message = any(item["type"] == "message" for item in whole["output"])
    assert has_message == (message and finish != "failed")
    valid("responses_response", whole)
    for event in stream:
        valid("responses_stream_events", event)
    chat, chunks = ask_chat(http), events(ask_chat(http, stream=True))
    if finish == "failed":
        assert chat.status_code == 500
        assert chunks[-1]["error"]["type"] == "server_error"
    else:
        assert chat.json()["choices"][0]["finish_reason"] == finish
        assert chunks[-1]["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize("flat", [True, False])
def test_an_error_can_come_in_the_middle_of_a_stream(sim, http, valid, events, flat):
    reply = Reply(error={"code": "overloaded", "message": "Oh."}, error_after=6, flat=flat)
    sim.script(reply, reply, reply)
    stream = events(ask(http, stream=True))
    assert len(stream) == 7
    assert stream[-1]["type"] == "error"
    assert (stream[-1] if flat else stream[-1]["error"])["code"] == "overloaded"
    valid("responses_stream_events", stream[-1])
    answer = ask_chat(http, stream=True)
    assert "[DONE]" not in answer.text
    last = events(answer)[-1]
    assert (last if flat else last["error"])["message"] == "Oh."
    assert ask(http).status_code == 500


def test_usage_is_what_the_script_says(sim, http, valid, events):
    odd = {"input_tokens": 1, "output_tokens": 2559, "total_tokens": 2560}
    sim.script(Reply(usage=odd), Reply(usage={}), Reply(usage={}), Reply(reasoning_tokens=640))
    assert ask(http).json()["usage"] == odd
    assert ask(http).json()["usage"] is None
    assert "usage" not in ask_chat(http).json()
    counted = ask(http).json()["usage"]
    assert counted["output_tokens_details"]["reasoning_tokens"] == 640


def test_calls_are_those_of_the_script_right_or_wrong(sim, http, valid, events):
    calls = (Call("f", '{"a": 1}'), Call("g", "{broken"), Call("h", ""))
    sim.script(*[Reply(calls=calls, text="Let me see.")] * 3)
    whole = ask(http).json()
    valid("responses_response", whole)
    assert [item["type"] for item in whole["output"]] == [
        *("reasoning", "message", "function_call", "function_call", "function_call"),
    ]
    assert [item["arguments"] for item in whole["output"][2:]] == ['{"a": 1}', "{broken", ""]
    chat = ask_chat(http).json()["choices"][0]["message"]
    assert [call["function"]["name"] for call in chat["tool_calls"]] == ["f", "g", "h"]
    assert chat["content"] == "Let me see."
    chunks = events(ask_chat(http, stream=True))
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_summary_comes_even_if_nobody_asked(sim, http):
    sim.script(Reply(summary=("First.", "Second.")))
    parts = ask(http).json()["output"][0]["summary"]
    assert [part["text"] for part in parts] == ["First.", "Second."]


def test_pauses_pace_a_stream(http, sim):
    sim.script(Reply(text="a b c d", pause_s=0.01))
    started = time.monotonic()
    ask_chat(http, stream=True)
    assert time.monotonic() - started > 0.05


def test_a_delay_lets_the_stream_think_before_it_speaks():
    with Simulator(delay_s=0.01) as sim:
        sim.script(Reply(text="a b c"))
        body = {**CHAT, "stream": True, "reasoning_effort": "high"}
        arrived = {}
        with httpx.stream("POST", f"{sim.base_url}/chat/completions", json=body) as answer:
            for piece in answer.iter_raw():
                for word in (b"assistant", b'"a"', b"[DONE]"):
                    if word in piece:
                        arrived[word] = time.monotonic()
        role, first, _ = arrived.values()
        assert first - role > 0.05  # one delay alone would be 0.01


def test_a_client_that_leaves_in_the_middle_is_counted(sim, http, eventually):
    sim.script(Reply(text="word " * 10_000, pause_s=0.005), Reply(wait_s=30))
    with http.stream("POST", "/responses", json={**RESPONSES, "stream": True}) as answer:
        next(answer.iter_raw())
    assert eventually(lambda: sim.disconnects == 1)
    with pytest.raises(httpx.ReadTimeout):
        http.post("/responses", json=RESPONSES, timeout=0.05)
    assert eventually(lambda: sim.disconnects == 2)
    assert ask(http).status_code == 200


def test_stopping_is_quick_with_streams_open_and_counts_nobody():
    with Simulator(delay_s=5) as sim, httpx.Client(base_url=sim.base_url) as http:
        with http.stream("POST", "/responses", json={**RESPONSES, "stream": True}) as answer:
            pieces = answer.iter_raw()  # a dropped iterator would close the connection
            next(pieces)
            started = time.monotonic()
            sim.stop()
            assert time.monotonic() - started < 1
        assert sim.disconnects == 0
        sim.stop()
        with pytest.raises(RuntimeError, match="not started"):
            assert sim.base_url


def test_ten_thousand_pieces_come_quickly_and_silently(sim, http, capfd, events):
    sim.script(Reply(text="word " * 10_000))
    started = time.monotonic()
    answer = ask(http, stream=True)
    assert time.monotonic() - started < 5
    deltas = [e["delta"] for e in events(answer) if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "word " * 10_000
    assert len(deltas) >= 10_000
    assert capfd.readouterr() == ("", "")


def test_many_clients_are_served_at_once(sim):
    def one(number: int) -> str:
        body = {**RESPONSES, "input": f"question {number}"}
        return json.dumps(httpx.post(f"{sim.base_url}/responses", json=body).json()["output"])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(64)))
    assert all(f"question {number}`" in answer for number, answer in enumerate(answers))
    assert len(sim.requests) == 64

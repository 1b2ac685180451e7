"""A call over real sockets: what arrives, in pieces or not at all, and what never leaves."""

import gzip
import json
import logging
import socket
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
from pydantic import SecretStr

from o3magic import errors
from o3magic.client.http import Client
from o3magic.errors import BadOption, BrokenAnswer, NoConnection, RequestFailed
from o3magic.events import Accepted, Finished, KeepAlive, TextDelta
from o3magic.messages import Message, Request
from o3magic.providers import Provider
from o3magic.simulator import Reply
from tests.client.conftest import OK, chunked

KEY = SecretStr("my-Own-gateway-key-0042")
DELTA = b'data: {"type":"response.output_text.delta","delta":"Hello"}\n\n'
END = (
    b'data: {"type":"response.completed","response":{"id":"resp_1","status":"completed",'
    b'"model":"o3-mini","output":[],"usage":{"input_tokens":3,"output_tokens":2}}}\n\n'
)
WHOLE = {
    "id": "resp_1",
    "model": "o3-mini",
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
}


def failed(kind, do):
    """The error that `do` ends with; no part of the key is in it."""
    with pytest.raises(RequestFailed) as caught:
        do()
    assert type(caught.value) is kind
    assert_no_key(caught.value)
    return caught.value


def assert_no_key(error):
    shown = repr(error) + repr(vars(error)) + "".join(error.lines())
    assert KEY.get_secret_value() not in shown
    assert "gateway-key" not in shown


# What arrives


@pytest.mark.parametrize("piece_bytes", [None, 1, 7, 300, 16_384])
def test_a_recorded_stream_byte_for_byte_in_pieces_is_the_recorded_answer(
    recorded, hear, ask, sim, piece_bytes
):
    names = ["responses_function_call_stream.sse"]
    names += ["o3mini_responses_stream.sse"] if piece_bytes != 1 else []
    for name in names:
        sim.script(Reply(body=recorded(name), piece_bytes=piece_bytes))
        assert ask(sim) == hear("responses", recorded(name)).answer
    sim.script(Reply(body=recorded("chat_stream_moderation.sse"), piece_bytes=piece_bytes))
    answer = ask(sim, "chat")
    assert answer == hear("chat", recorded("chat_stream_moderation.sse")).answer
    assert (answer.text, answer.usage.input_tokens) == ("Paris.", 13)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("piece_bytes", [None, 7])
def test_what_arrives_is_read_as_what_it_is_whatever_was_asked_for(
    recorded, ask, sim, stream, piece_bytes
):
    sim.script(
        Reply(body=recorded("o3mini_chat.json"), piece_bytes=piece_bytes),
        Reply(body=recorded("o3mini_responses.json"), piece_bytes=piece_bytes),
        Reply(body=recorded("chat_stream_moderation.sse"), piece_bytes=piece_bytes),
    )
    texts = [ask(sim, api, stream=stream).text for api in ("chat", "responses", "chat")]
    assert texts[0] == recorded("o3mini_chat.json")["choices"][0]["message"]["content"]
    assert texts[1].startswith("Ingredients for the dough:")
    assert texts[2] == "Paris."


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_the_simulator_is_understood_and_understands(ask, sim, api, stream):
    sim.script(Reply(text="Hello ☃", summary=("Hm.",)))
    answer = ask(sim, api, stream=stream)
    assert (answer.text, answer.finish_reason) == ("Hello ☃", "stop")
    assert answer.usage.output_tokens
    unscripted = ask(sim, api, stream=stream)
    assert "SIMULATED" in unscripted.text


def test_the_first_event_says_that_the_request_was_accepted(client, call, sim):
    sim.script(Reply(text="Hello"), Reply(body=DELTA + END, headers={"x-request-id": "req_7"}))
    first = next(iter(list(client.events(call(sim)))))
    assert type(first) is Accepted
    assert first.simulated
    assert first.request_id.startswith("req_")
    assert next(iter(list(client.events(call(sim))))) == Accepted("req_7", False)


def test_an_event_is_handed_on_before_the_next_one_is_there(client, call, sim):
    sim.script(Reply(body=DELTA * 3 + END, piece_bytes=len(DELTA), pause_s=0.2))
    with closing(client.events(call(sim))) as events:
        began = time.monotonic()
        while type(next(events)) is not TextDelta:
            pass
        assert time.monotonic() - began < 0.2


def test_a_comment_is_a_sign_of_life(client, call, line):
    line.say(chunked(b": OPENROUTER PROCESSING\n\n", b"\n\n", DELTA, b": ping\n\n", END))
    events = list(client.events(call(line)))
    assert events[1] == KeepAlive()
    assert events.count(KeepAlive()) in (1, 2)  # two comments may arrive at once
    assert type(events[-1]) is Finished


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_stream_is_the_same_stream(recorded, hear, ask, sim, coding):
    import zlib

    stream = recorded("o3mini_responses_stream.sse")
    body = gzip.compress(stream) if coding == "gzip" else zlib.compress(stream)
    sim.script(Reply(body=body, headers={"content-encoding": coding}, piece_bytes=1000))
    assert ask(sim) == hear("responses", stream).answer


@pytest.mark.parametrize("keep_bytes", [0.5, 0.99])
def test_a_compressed_stream_that_is_cut_or_damaged_is_broken(recorded, ask, sim, keep_bytes):
    stream = gzip.compress(recorded("o3mini_responses_stream.sse"))
    cut = stream[: int(len(stream) * keep_bytes)]
    damaged = cut[:-200] + bytes(200)
    for body in (cut, damaged):
        sim.script(Reply(body=body, headers={"content-encoding": "gzip"}))
        failed(BrokenAnswer, lambda: ask(sim))


def test_a_success_is_one_whatever_its_number_is(ask, sim):
    sim.script(Reply(status=201, body=WHOLE), Reply(status=201, body=DELTA + END))
    assert [ask(sim).text, ask(sim).text] == ["Hello", "Hello"]


def test_an_answer_without_a_content_type_is_a_stream_unless_its_length_is_known(ask, line):
    body = json.dumps(WHOLE).encode()
    line.say(OK + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert ask(line).text == "Hello"
    line.say(chunked(DELTA, END, headers=b""))
    assert ask(line).text == "Hello"


@pytest.mark.parametrize(
    "kind", ["text/plain; charset=utf-8", "application/json", "application/octet-stream", ""]
)
@pytest.mark.parametrize("begin", [b"", b": hello\n\n", b"\xef\xbb\xbf", b"event: x\n", b"\r\n"])
@pytest.mark.parametrize("piece_bytes", [None, 1])
def test_a_stream_is_one_whatever_its_content_type_is(ask, sim, kind, begin, piece_bytes):
    sim.script(Reply(body=begin + DELTA + END, content_type=kind, piece_bytes=piece_bytes))
    assert ask(sim).text == "Hello"


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain", "application/x-ndjson"])
def test_a_whole_answer_is_one_whatever_its_content_type_is(ask, sim, kind):
    for piece_bytes in (None, 1):
        body = b"\n " + json.dumps(WHOLE).encode()
        sim.script(Reply(body=body, content_type=kind, piece_bytes=piece_bytes))
        assert ask(sim).text == "Hello"


FAILED = WHOLE | {"status": "failed", "error": {"code": "server_error", "message": "no"}}
IN_A_CHOICE = {"delta": {"content": "Hello"}, "error": {"code": 502, "message": "no"}}


@pytest.mark.parametrize(
    ("api", "frame"),
    [
        ("responses", {"type": "response.completed", "response": FAILED}),
        ("chat", {"id": "x", "model": "m", "choices": [IN_A_CHOICE]}),
    ],
)
def test_a_failure_in_the_frame_of_the_words_is_one_and_keeps_them(client, call, line, api, frame):
    line.say(chunked(b"data: " + json.dumps(frame).encode() + b"\n\n"))
    events = client.events(call(line, api))
    heard = [next(events), next(events)]
    heard += [next(events)] if api == "chat" else []
    assert heard[-1] == TextDelta("Hello")
    with pytest.raises(RequestFailed, match="no"):
        next(events)


def test_plain_words_instead_of_an_answer_are_shown(ask, sim):
    sim.script(Reply(body=b"upstream is asleep", content_type="text/plain"))
    assert "upstream is asleep" in str(failed(BrokenAnswer, lambda: ask(sim)))


def test_a_stream_may_end_with_its_connection(ask, line):
    line.say(OK + b"content-type: text/event-stream\r\n\r\n" + DELTA + END, close=True)
    assert ask(line).text == "Hello"


def test_what_stands_behind_the_last_event_does_not_count(client, call, line):
    more = b'data: {"type":"error","error":{"code":"server_error"}}\n\n' + DELTA + END
    line.say(chunked(DELTA, END + more, more))
    line.say(chunked(DELTA, END, more, b"data: no json\n\n"))
    for _ in range(2):
        events = list(client.events(call(line)))
        assert [type(e) for e in events] == [Accepted, TextDelta, Finished]


def test_a_line_that_breaks_behind_the_last_event_breaks_nothing(ask, line):
    line.say(chunked(DELTA, END, end=False), close=True)
    assert ask(line).text == "Hello"
    line.say(chunked(DELTA, END, end=False) + b"what?\r\n")
    assert ask(line).text == "Hello"


def test_a_line_held_open_behind_the_last_event_is_not_waited_for(ask, line):
    line.say(chunked(DELTA, END, end=False))
    began = time.monotonic()
    assert ask(line, first_token_timeout_s=30).text == "Hello"
    assert time.monotonic() - began < 5
    assert line.gone.wait(5)


# What breaks


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_an_empty_answer_is_broken(ask, sim, body):
    sim.script(Reply(body=body, content_type="application/json"), Reply(body=body))
    assert "empty answer" in str(failed(BrokenAnswer, lambda: ask(sim)))
    assert "without its last event" in str(failed(BrokenAnswer, lambda: ask(sim)))


def test_a_page_instead_of_an_answer_hints_at_the_base_url(ask, sim):
    page = "<html><title>Welcome</title><script>alert(1)</script>to nginx</html>"
    sim.script(Reply(body=page, content_type="text/html; charset=utf-8"))
    error = failed(BrokenAnswer, lambda: ask(sim))
    assert str(error).endswith("Welcome to nginx")
    assert "/v1" in error.hint


@pytest.mark.parametrize("body", ["{", "[1]", "null", "hello"])
def test_a_document_that_is_no_answer_is_broken(ask, sim, body):
    sim.script(Reply(body=body, content_type="application/json"))
    failed(BrokenAnswer, lambda: ask(sim))


def test_an_error_in_a_200_is_that_error(ask, sim, recorded):
    sim.script(
        Reply(body=recorded("azure_prompt_filter_error_in_200.json")),
        Reply(error={"code": "insufficient_quota"}, error_after=3, text="Hello there"),
        Reply(error={"code": "rate_limit_exceeded"}, error_after=3, text="Hello", flat=True),
    )
    failed(errors.ContentFiltered, lambda: ask(sim, "chat"))
    failed(errors.QuotaExhausted, lambda: ask(sim))
    failed(errors.RateLimited, lambda: ask(sim))


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_stream_cut_off_in_the_middle_keeps_what_came_and_is_broken(client, call, sim, api):
    for clean in (False, True):
        sim.script(Reply(text="one two three four five " * 20, cut_after_bytes=3000, clean=clean))
        events = []
        error = failed(
            BrokenAnswer, lambda events=events: events.extend(client.events(call(sim, api)))
        )
        assert "broke off" in str(error)
        assert error.billed is None
        assert not any(type(event) is Finished for event in events)


def test_a_stream_that_ends_well_but_too_early_is_broken(ask, sim):
    sim.script(Reply(body=DELTA), Reply(body=DELTA + b"data: [DONE]\n\n"))
    for _ in range(2):
        error = failed(BrokenAnswer, lambda: ask(sim))
        assert "without its last event" in str(error)


def test_a_document_cut_off_in_the_middle_is_broken(ask, line, sim):
    head = OK + b"content-type: application/json\r\ncontent-length: 5000\r\n\r\n"
    line.say(head + b'{"output": [', close=True)
    assert "broke off" in str(failed(BrokenAnswer, lambda: ask(line)))
    sim.script(Reply(body=WHOLE, cut_after_bytes=20))
    failed(BrokenAnswer, lambda: ask(sim))


def test_framing_that_is_none_breaks_the_answer(ask, line):
    line.say(chunked(DELTA, end=False) + b"what is this\r\n" + END, close=True)
    failed(BrokenAnswer, lambda: ask(line))


def test_nobody_there_is_no_connection_and_costs_nothing(ask):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failed(NoConnection, lambda: ask(f"http://127.0.0.1:{port}/v1", key=KEY))
    assert "127.0.0.1 cannot be reached" in str(error)
    assert error.billed is False


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 O", b"garbage\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_a_line_that_breaks_before_the_answer_is_no_connection_and_may_cost(ask, line, said):
    line.say(said, close=True)
    error = failed(NoConnection, lambda: ask(line, key=KEY))
    assert "no answer from 127.0.0.1" in str(error)
    assert error.billed is None


def test_silence_before_the_answer_ends_at_the_read_timeout(ask, sim):
    sim.script(Reply(body=DELTA + END, wait_s=5))
    error = failed(BrokenAnswer, lambda: ask(sim, first_token_timeout_s=0.2, chunk_timeout_s=0.2))
    assert "--first-token-timeout-s" in error.hint
    assert error.billed is None


def test_silence_behind_the_headers_ends_at_the_first_token_timeout(ask, line):
    line.say(chunked(b": ping\n\n", end=False))
    error = failed(BrokenAnswer, lambda: ask(line, first_token_timeout_s=0.3))
    assert "--first-token-timeout-s" in error.hint


def test_silence_in_the_answer_ends_at_the_read_timeout_too(ask, line):
    line.say(chunked(DELTA, end=False))
    error = failed(BrokenAnswer, lambda: ask(line, chunk_timeout_s=0.2))
    assert "--chunk-timeout-s" in error.hint


def test_comments_keep_a_waiting_answer_alive(ask, sim):
    body = b": ping\n\n" * 8 + DELTA + END
    sim.script(Reply(body=body, piece_bytes=8, pause_s=0.05))
    assert ask(sim, first_token_timeout_s=0.5).text == "Hello"


def test_a_host_that_takes_no_connection_ends_at_the_connect_timeout(ask):
    # A listener whose queue is full answers nothing at all.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        try:
            error = failed(
                NoConnection,
                lambda: ask(f"http://127.0.0.1:{address[1]}/v1", connect_timeout_s=0.3),
            )
        finally:
            for each in waiting:
                each.close()
    assert "--connect-timeout-s" in str(error)
    assert error.billed is False


# Refusals


def test_a_refusal_is_its_own_error_with_its_request_s_id(ask, sim):
    for status, code, kind in (
        (401, "invalid_api_key", errors.WrongKey),
        (429, "rate_limit_exceeded", errors.RateLimited),
        (404, "model_not_found", errors.ModelNotFound),
        (503, None, errors.ProviderDown),
    ):
        error = {"message": "No.", "code": code, "type": None}
        sim.script(Reply(status=status, error=error, headers={"x-request-id": "req_7"}))
        found = failed(kind, lambda: ask(sim))
        assert (found.status, found.code, found.request_id) == (status, code, "req_7")
        assert str(found) == f"No (HTTP {status})"


def test_azure_s_request_id_has_another_name(ask, sim):
    sim.script(Reply(status=500, headers={"apim-request-id": "6624fbc0-526e-4c5f"}))
    assert failed(errors.ProviderDown, lambda: ask(sim)).request_id == "6624fbc0-526e-4c5f"


@pytest.mark.parametrize(
    ("body", "kind"),
    [("<h1>502 Bad Gateway</h1>" * 10_000, "text/html"), ("", ""), ("x" * 10**6, "text/plain")],
)
def test_a_refusal_with_any_body_is_one_short_error(ask, sim, body, kind):
    sim.script(Reply(status=502, body=body, content_type=kind))
    error = failed(errors.ProviderDown, lambda: ask(sim))
    assert len(str(error)) < 600
    assert error.status == 502


def test_a_refusal_whose_body_breaks_off_is_still_that_refusal(ask, sim, line):
    line.say(b"HTTP/1.1 401 No\r\ncontent-length: 500\r\n\r\n{", close=True)
    failed(errors.WrongKey, lambda: ask(line))
    headers = {"content-encoding": "gzip"}
    sim.script(Reply(status=429, body="not gzip", content_type="text/plain", headers=headers))
    failed(errors.RateLimited, lambda: ask(sim))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_nothing_goes_to_the_other_host(ask, sim, line, status):
    line.say(chunked(DELTA, END))
    sim.script(Reply(status=status, body="", headers={"location": line.base_url + "/responses"}))
    error = failed(errors.RequestRefused, lambda: ask(sim, key=KEY))
    assert line.base_url in str(error)
    assert "redirects are not followed" in error.hint
    assert line.requests == []


@pytest.mark.parametrize("status", [300, 302, 304])
def test_a_redirect_to_nowhere_is_one_clear_error(ask, sim, status):
    sim.script(Reply(status=status, body=""))
    assert isinstance(failed(errors.ProviderDown, lambda: ask(sim)), RequestFailed)


# Keys


def test_the_key_goes_into_the_provider_s_header_and_nowhere_else(ask, sim):
    for auth, name, value in (
        ("bearer", "authorization", f"Bearer {KEY.get_secret_value()}"),
        ("api-key", "api-key", KEY.get_secret_value()),
    ):
        ask(sim, key=KEY, auth=auth)
        received = sim.requests[-1]
        with_key = [n for n, v in received.headers.items() if KEY.get_secret_value() in v]
        assert with_key == [name]
        assert received.headers[name] == value
        assert KEY.get_secret_value() not in received.raw.decode() + str(received.query)


def test_no_key_goes_where_none_is_wanted(ask, sim):
    ask(sim, key=KEY, auth="none")
    ask(sim)
    for received in sim.requests:
        assert not {"authorization", "api-key"} & set(received.headers)


@pytest.mark.parametrize("key", ["sk-ключ", "sk-a\nb", "sk-\x00", "sk-“quoted”", "sk-é"])
def test_a_key_that_cannot_be_sent_is_refused_before_anything_is(ask, sim, key):
    with pytest.raises(BadOption, match="HERE_KEY") as caught:
        ask(sim, key=SecretStr(key))
    assert key not in "".join(caught.value.lines()) + repr(caught.value)
    assert sim.requests == []


def test_a_call_does_not_show_its_key(call, sim):
    made = call(sim, key=KEY)
    assert KEY.get_secret_value() not in repr(made) + str(made) + repr(vars(made))


def test_a_key_that_a_refusal_says_again_is_not_shown(ask, sim):
    key = KEY.get_secret_value()
    error = {"message": f"Wrong key {key}!", "code": key, "param": key}
    sim.script(
        Reply(status=401, error=error, headers={"x-request-id": key}),
        Reply(status=500, body=f"<p>{key}</p>", content_type="text/html"),
        Reply(status=307, body="", headers={"location": f"http://127.0.0.1:1/?key={key}"}),
        Reply(body=f"<p>Your key is {key}</p>", content_type="text/html"),
        Reply(body={"error": {"message": f"{key} has no credit", "code": 402}}),
        Reply(error={"message": f"{key}: no credit", "code": "insufficient_quota"}, error_after=2),
    )
    for kind in (
        errors.WrongKey,
        errors.ProviderDown,
        errors.RequestRefused,
        BrokenAnswer,
        errors.RequestRefused,
        errors.QuotaExhausted,
    ):
        assert "[key]" in str(failed(kind, lambda: ask(sim, key=KEY)))


def test_a_masked_key_of_openai_s_kind_is_not_shown(ask, sim):
    sim.script(
        Reply(status=401, error={"message": "Incorrect API key provided: sk-wrong****-key. See"})
    )
    assert str(failed(errors.WrongKey, lambda: ask(sim))).startswith(
        "Incorrect API key provided: [key]"
    )


def test_no_key_is_in_the_logs(ask, sim, caplog):
    with caplog.at_level(logging.DEBUG):
        ask(sim, key=KEY)
    assert KEY.get_secret_value() not in caplog.text


# What leaves


def test_a_request_says_what_it_wants_and_who_asks(ask, sim):
    ask(sim, stream=True)
    ask(sim, stream=False)
    streamed, whole = (received.headers for received in sim.requests)
    assert (streamed["accept"], whole["accept"]) == ("text/event-stream", "application/json")
    assert streamed["content-type"] == whole["content-type"] == "application/json"
    assert streamed["user-agent"].startswith("o3magic/")


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_what_leaves_is_a_valid_request_in_utf_8(client, call, sim, api):
    made = call(sim, api)
    words = '☃ \u2028 \x00 \U0001f98a "quoted" \\'
    request = replace(made.request, messages=(Message.of("user", words),))
    list(client.events(replace(made, request=request)))
    (received,) = sim.requests
    said = received.body["input" if api == "responses" else "messages"]
    assert said == [{"role": "user", "content": words}]
    assert "☃".encode() in received.raw


def test_half_of_a_surrogate_pair_goes_as_the_replacement_character(client, call, sim):
    made = call(sim)
    words = "a \ud83d b \udca9 c \ud83e\udd8a"
    request = replace(made.request, messages=(Message.of("user", words),))
    list(client.events(replace(made, request=request)))
    assert sim.requests[0].body["input"][0]["content"] == "a � b � c \U0001f98a"


def test_the_prefix_and_the_query_of_the_base_url_are_kept(ask, sim):
    sim.script(Reply(text="a"), Reply(text="b"))
    ask(f"{sim.base_url}/?api-version=2024-02-01")
    ask(f"{sim.base_url}/chat/completions?a=1", "chat")
    one, two = sim.requests
    assert (one.path, one.query) == ("/v1/responses", {"api-version": "2024-02-01"})
    assert (two.path, two.query) == ("/v1/chat/completions", {"a": "1"})


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.example/v1",
        "ftp://127.0.0.1/v1",
        "http://",
        "http://[::1",
        "http://a b.example/v1",
        "http://127.0.0.1:99999/v1",
        "http://127.0.0.1:port/v1",
        "http://" + "a" * 70 + ".invalid/v1",
        "http://a..b/v1",
        "http://127.0.0.1/\x00",
        "http://999.999.999.999/v1",
    ],
)
def test_a_base_url_that_leads_nowhere_is_one_clear_error(client, call, base_url):
    made = call(base_url, key=KEY)
    made = replace(made, provider=replace(made.provider, insecure=True))
    for ask in (
        lambda: list(client.events(made)),
        lambda: client.served_models(made.provider, KEY),
    ):
        with pytest.raises(BadOption, match="is no address") as caught:
            ask()
        assert "https://" in caught.value.hint
        assert_no_key(caught.value)
    assert not client.is_there(made.provider)


def test_a_password_in_a_base_url_is_not_shown(client, call):
    with pytest.raises(BadOption) as caught:
        list(client.events(call("http://me:hunter2@ho st/v1")))
    assert "hunter2" not in "".join(caught.value.lines())


# Connections


def test_two_calls_use_one_connection(ask, line):
    for _ in range(2):
        line.say(chunked(DELTA, END))
    body = json.dumps(WHOLE).encode()
    head = OK + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
    line.say(head % len(body) + body)
    line.say(chunked(b'data: {"id":"a","choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'))
    texts = [ask(line).text, ask(line).text, ask(line).text, ask(line, "chat").text]
    assert texts == ["Hello", "Hello", "Hello", ""]
    assert len(line.ports) == 4
    assert len(set(line.ports)) == 1


def test_a_connection_is_used_again_after_a_refusal(ask, line):
    line.say(b"HTTP/1.1 429 No\r\ncontent-length: 2\r\n\r\n{}")
    line.say(chunked(DELTA, END))
    failed(errors.RateLimited, lambda: ask(line))
    assert ask(line).text == "Hello"
    assert len(set(line.ports)) == 1


def test_a_connection_the_server_closed_meanwhile_is_made_anew(ask, line):
    line.say(chunked(DELTA, END), close=True)
    line.say(chunked(DELTA, END))
    assert ask(line).text == "Hello"
    time.sleep(0.1)  # until the end of the line is here: nobody can know it before
    assert ask(line).text == "Hello"
    assert len(set(line.ports)) == 2


def test_closing_the_iterator_closes_the_connection(client, call, line):
    line.say(chunked(DELTA, end=False))
    with closing(client.events(call(line))) as events:
        while type(next(events)) is not TextDelta:
            pass
        assert not line.gone.is_set()
    assert line.gone.wait(5)


def test_an_iterator_closed_before_its_first_event_sends_nothing(client, call, sim):
    client.events(call(sim)).close()
    assert sim.requests == []


def test_threads_may_share_a_client(client, call, sim, fold):
    texts = [f"answer {n} " * 50 for n in range(8)]
    sim.script(*(Reply(text=text, piece_bytes=50) for text in texts))
    found = []

    def ask():
        found.append(fold(client.events(call(sim))).text)

    threads = [threading.Thread(target=ask) for _ in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(texts)


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(call, sim, fold, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with closing(Client()) as client:
        assert "SIMULATED" in fold(client.events(call(sim))).text


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "http://127.0.0.1:port", "nonsense://"])
def test_a_proxy_that_cannot_be_used_is_one_clear_error(proxy, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(BadOption, match="proxy") as caught:
        Client()
    assert "ALL_PROXY" in caught.value.hint


# Models


def test_the_models_that_are_served_are_listed(client, call, sim):
    listed = client.served_models(call(sim).provider, None)
    assert "o3-mini" in [each.id for each in listed]


def test_what_is_listed_is_taken_as_far_as_it_is_a_list_of_models(client, call, line):
    said = {"data": [{"id": "a"}, {"name": "b"}, 3, {"id": None}, {"id": "c"}]}
    for body in (said, {"data": None}, {}):
        text = json.dumps(body).encode()
        line.say(OK + b"content-length: %d\r\n\r\n" % len(text) + text)
    provider = call(line).provider
    listed = [client.served_models(provider, None) for _ in range(3)]
    assert [[each.id for each in models] for models in listed] == [["a", "c"], [], []]


def test_models_that_are_not_listed_are_an_error_without_the_key(client, call, line):
    text = json.dumps({"error": {"message": f"bad key {KEY.get_secret_value()}"}}).encode()
    line.say(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n" % len(text) + text)
    line.say(b"", close=True)
    provider = call(line).provider
    failed(errors.WrongKey, lambda: client.served_models(provider, KEY))
    failed(NoConnection, lambda: client.served_models(provider, KEY))


def test_a_server_is_there_if_it_lists_models_at_once(client, call, sim, line):
    assert client.is_there(call(sim).provider)
    line.say(OK + b"content-length: 5\r\n\r\nhello")
    line.say(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")
    line.say(b"")  # and silence
    began = time.monotonic()
    assert [client.is_there(call(line).provider) for _ in range(3)] == [False, False, False]
    assert time.monotonic() - began < 2
    assert not client.is_there(Provider("nobody", base_url="http://127.0.0.1:1/v1"))


def test_a_request_is_the_same_value_after_it_was_sent(client, call, sim):
    made = call(sim)
    list(client.events(made))
    assert made.request == Request("o3-mini", (Message.of("user", "four?"),))


# The environment


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSLKEYLOGFILE"])
def test_a_variable_that_names_no_file_is_told(monkeypatch, name):
    monkeypatch.setenv(name, "/nowhere/file.pem")
    with pytest.raises(BadOption, match=f"{name}=/nowhere/file.pem") as caught:
        Client()
    assert f"unset {name}" in caught.value.hint


def test_a_key_of_one_letter_is_not_taken_out_of_every_word(sim, client, call):
    sim.script(Reply(status=400, error={"message": "a model of that name is not available"}))
    with pytest.raises(RequestFailed, match="a model of that name is not available"):
        list(client.events(call(sim, key=SecretStr("a"))))

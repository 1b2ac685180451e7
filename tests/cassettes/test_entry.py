"""One entry: what is recorded comes back the same, and by hand it may be short."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.entry import Recording
from o3magic.cassettes.replay import replay_events
from o3magic.citations import Citation
from o3magic.errors import CassetteError
from o3magic.events import Answer, Finished, HostedUse, Usage
from o3magic.messages import Message, ToolCall
from tests.cassettes.conftest import WHEN, question, take

SECRET = "sk-proj-abcdefghij0123456789"


def through_json(one: Recording) -> Recording:
    return Recording.from_json(json.loads(json.dumps(one.to_json())))


def test_a_take_says_where_it_came_from():
    entry = take().to_json()
    assert [*entry][:6] == ["key", "n", "source", "recorded", "by", "request"]
    assert (entry["n"], entry["source"], entry["recorded"]) == (1, "live", "2026-11-21T00:12:45Z")
    assert entry["by"].startswith("o3magic 0.")
    response = entry["response"]
    assert response["text"] == ["About: Explain rain\n", "in two lines\n", "Second line.\n"]
    assert response["cost_usd"] == "0.000189"
    assert response["timing"] == {"first_ms": 2310, "total_ms": 4120, "chunks": 9}
    assert response["usage"] == {
        "input_tokens": 12,
        "cached_tokens": 0,
        "output_tokens": 40,
        "reasoning_tokens": 32,
        "total_tokens": 52,
    }


def test_a_take_comes_back_the_same():
    full = replace(
        take(),
        refusal="no\nno",
        reasoning_summary="first\n\nsecond",
        tool_calls=(ToolCall("call_8", "rain", '{"town":\n "Bern"}'), ToolCall("", "snow", "")),
        finish_reason="tool_calls",
        notes=("odd",),
        pieces=(3, 1, 2),
        service_tier="flex",
        system_fingerprint="fp_1",
        detail="why",
    ).sealed()
    assert through_json(full) == full
    assert not full.edited


@pytest.mark.parametrize("usage", [None, Usage(), Usage(output_tokens=0)])
@pytest.mark.parametrize("cost", [None, 0, 1, 189_000, 10**15])
def test_what_is_unknown_stays_unknown_and_nothing_is_not_unknown(usage, cost):
    one = replace(take(), usage=usage, cost_nano_usd=cost, model="", id="").sealed()
    again = through_json(one)
    assert (again.usage, again.cost_nano_usd) == (usage, cost)
    assert not again.edited


def test_an_answer_that_was_edited_is_by_hand():
    entry = take().to_json()
    entry["response"]["text"] = "Rain is wet."
    again = Recording.from_json(entry)
    assert (again.edited, again.label, again.source) == (True, "hand", "live")
    assert again.to_json()["sha256"] == entry["sha256"]


def test_the_same_text_in_another_layout_is_not_edited():
    entry = take().to_json()
    entry["response"]["text"] = "".join(entry["response"]["text"])
    entry["response"] = dict(reversed([*entry["response"].items()]))
    assert not Recording.from_json(entry).edited


def test_by_hand_a_prompt_and_a_text_are_enough():
    one = Recording.from_json(
        {"request": {"prompt": "What is rain?"}, "response": {"text": "Water"}}
    )
    assert (one.source, one.label, one.edited, one.n) == ("hand", "hand", False, 1)
    assert (one.text, one.finish_reason, one.usage, one.cost_nano_usd) == (
        "Water",
        "stop",
        None,
        None,
    )
    assert one.partial
    for effort in (None, "low", "high"):
        assert one.answers(question("What is rain?\n", effort=effort).canonical())
    asked = replace(
        question(),
        messages=(Message.of("developer", "Be brief"), Message.of("user", "What is rain?")),
    )
    assert one.answers(asked.canonical())
    assert not one.answers(question("What is snow?").canonical())


def test_by_hand_whatever_else_is_said_must_be_so():
    said = {"prompt": "What is rain?", "effort": "high", "api": "auto"}
    one = Recording.from_json({"request": said, "response": {"text": "Water"}})
    assert one.answers(question("What is rain?", effort="high").canonical())
    assert not one.answers(question("What is rain?", effort="low").canonical())
    assert not one.answers(question("What is rain?").canonical())


def test_by_hand_a_key_and_a_text_are_enough():
    one = Recording.from_json({"key": "abc", "response": {"text": ["a\n", "b"]}})
    assert (one.key, one.text, one.partial, one.prompt) == ("abc", "a\nb", False, "")


def test_by_hand_a_call_has_an_id():
    calls = [{"name": "rain", "arguments": "{}"}]
    one = Recording.from_json({"key": "abc", "response": {"tool_calls": calls}})
    assert one.tool_calls == (ToolCall("call_1", "rain", "{}"),)
    assert one.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ([], "is not an object"),
        ({}, "neither a key nor a request"),
        ({"request": {"model": "o3"}}, "neither a key nor a request"),
        ({"key": 5}, "key is not a text"),
        ({"key": "a", "n": 0}, "n is not a whole number"),
        ({"key": "a", "n": True}, "n is not a whole number"),
        ({"key": "a", "source": "dreamt"}, "source is none of live, simulated, hand"),
        ({"key": "a", "source": ["live"]}, "source is none of"),
        ({"key": "a", "response": "text"}, "response is not an object"),
        ({"key": "a", "response": {"text": 5}}, "text is neither a text nor a list of lines"),
        ({"key": "a", "response": {"text": ["a", 5]}}, "text is neither"),
        ({"key": "a", "response": {"finish": "later"}}, "finish is none of stop, length"),
        ({"key": "a", "response": {"usage": []}}, "usage is not an object"),
        ({"key": "a", "response": {"usage": {"input_tokens": -1}}}, "input_tokens is not a whole"),
        ({"key": "a", "response": {"notes": "odd"}}, "notes is not a list"),
        ({"key": "a", "response": {"notes": [1]}}, "notes is not a list of texts"),
        ({"key": "a", "response": {"tool_calls": ["rain"]}}, "tool_calls is not an object"),
        ({"key": "a", "response": {"timing": {"chunks": 1.5}}}, "chunks is not a whole number"),
        ({"key": "a", "pieces": "3 x"}, "pieces is not a list of lengths"),
        ({"key": "a", "request": {"messages": ["x"]}}, "a message is not an object"),
        *(
            ({"key": "a", "response": {"cost_usd": cost}}, "cost_usd is not an amount")
            for cost in ("-1", "1e999999999", "NaN", "much", True, [1], "")
        ),
    ],
)
def test_what_is_wrong_with_an_entry_is_said_with_its_place(entry, why):
    with pytest.raises(CassetteError, match=f"nb.o3.json, entry 3: .*{why}"):
        Recording.from_json(entry, "nb.o3.json, entry 3")


def test_a_cost_may_be_a_number():
    one = Recording.from_json({"key": "a", "response": {"cost_usd": 0.000189}})
    assert one.cost_nano_usd == 189_000


def recorded(answer: Answer, asked=None, **said) -> Recording:
    return Recording.of(asked or question(), 1, answer, Finished("stop"), recorded=WHEN, **said)


def test_a_secret_in_an_answer_is_never_kept():
    call = ToolCall("c", "save", json.dumps({"key": SECRET}))
    answer = Answer(text=f"It is {SECRET}.", refusal=SECRET, tool_calls=(call,))
    entry = json.dumps(recorded(answer).to_json())
    assert SECRET not in entry
    assert entry.count("[secret removed]") == 3
    assert json.loads(recorded(answer).tool_calls[0].arguments) == {"key": "[secret removed]"}


def test_a_secret_in_a_question_stops_the_recording_unless_it_may_be_removed():
    asked = question(f"What is wrong with\nkey={SECRET}")
    with pytest.raises(CassetteError, match=r"an API key \(sk-...\)") as caught:
        recorded(Answer(text="x"), asked)
    assert SECRET not in "".join(caught.value.lines())
    one = recorded(Answer(text="x"), asked, scrub=True)
    assert SECRET not in json.dumps(one.to_json())
    assert one.key == asked.key
    assert through_json(one) == one


def test_a_replayed_answer_is_not_recorded_again():
    with pytest.raises(ValueError, match="cassette"):
        recorded(Answer(source="replayed"))


def test_a_cost_is_exact():
    assert recorded(Answer(cost_usd=Decimal("0.000000001"))).to_json()["response"]["cost_usd"] == (
        "0.000000001"
    )


def test_what_an_answer_cites_is_kept_and_the_rest_of_its_items_is_not(tmp_path):
    cited = {"type": "url_citation", "url": "https://example.org", "start_index": 0, "end_index": 2}
    part = {"type": "output_text", "text": "It rains", "annotations": [cited]}
    items = (
        {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA"},
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]},
    )
    one = Recording.of(question(), 1, Answer(text="It rains"), Finished("stop", items=items))
    Cassette(tmp_path / "a.o3.json").keep(one)
    text = (tmp_path / "a.o3.json").read_text("utf-8")
    assert "https://example.org" in text
    assert not [word for word in ("gAAA", "rs_1", "msg_1", "ws_1") if word in text]
    [found] = Cassette(tmp_path / "a.o3.json").entries
    [*_, end] = replay_events(found)
    assert end.citations == (Citation("https://example.org", "", 0, 2),)
    uncited = Recording.of(question(), 1, Answer(), Finished("stop", items=items[:2]))
    assert uncited.items == ()


def test_what_the_provider_ran_and_what_a_chat_answer_cites_come_back():
    end = Finished(
        "stop",
        citations=(Citation("https://example.org", "A", 0, 2), Citation("https://example.org/b")),
        hosted=(HostedUse("web_search", 2), HostedUse("shell", None)),
    )
    one = Recording.of(question(), 1, Answer(text="It rains"), end)
    found = through_json(one)
    assert found == one
    assert not found.edited
    [*_, again] = replay_events(found)
    assert (again.citations, again.hosted) == (end.citations, end.hosted)


@pytest.mark.parametrize(
    "said",
    [
        {"citations": "x"},
        {"citations": ["x"]},
        {"citations": [{"url": 3}]},
        {"citations": [{"url": "x", "start": -1}]},
        {"hosted": {"web_search": 2}},
        {"hosted": [["web_search"]]},
        {"hosted": [["web_search", -1]]},
        {"hosted": [["web_search", True]]},
        {"hosted": [[3, 2]]},
    ],
)
def test_what_is_no_citation_and_no_tool_is_one_clear_error(said):
    entry = take().to_json()
    with pytest.raises(CassetteError, match=r"citations|hosted|url|start"):
        Recording.from_json(entry | {"response": entry["response"] | said})

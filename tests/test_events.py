"""Events fold into an answer, and an answer is a value."""

from dataclasses import FrozenInstanceError
from decimal import Decimal

import pytest

from o3magic.answer_builder import AnswerBuilder
from o3magic.events import (
    Accepted,
    Answer,
    Finished,
    KeepAlive,
    ReasoningDelta,
    RefusalDelta,
    Retrying,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    why_cut,
)
from o3magic.messages import ToolCall

USAGE = Usage(input_tokens=13, cached_tokens=0, output_tokens=1680, reasoning_tokens=1408)


def test_events_of_all_kinds_fold_into_one_answer(fold):
    answer = fold(
        [
            Accepted("req_1", False),
            Retrying("the line broke", 0.5),
            Started("resp_1", "o3-mini"),
            KeepAlive(),
            ReasoningDelta("**Hm"),
            ReasoningDelta("m**"),
            TextDelta("Hel"),
            KeepAlive(),
            TextDelta("lo"),
            Finished("stop", USAGE, "resp_1", "o3-mini-2025-01-31", notes=("odd",)),
        ]
    )
    assert (answer.text, answer.reasoning_summary) == ("Hello", "**Hmm**")
    assert (answer.id, answer.model) == ("resp_1", "o3-mini-2025-01-31")
    assert (answer.finish_reason, answer.usage, answer.notes) == ("stop", USAGE, ("odd",))


def test_an_end_that_names_nothing_takes_no_name_away(fold):
    answer = fold([Started("resp_1", "o3-mini"), Finished("stop")])
    assert (answer.id, answer.model, answer.usage) == ("resp_1", "o3-mini", Usage())


def test_text_added_on_the_short_way_is_text():
    draft = AnswerBuilder()
    draft.add_text("a")
    draft.add(TextDelta("b"))
    draft.add_text("c")
    assert draft.text == draft.answer().text == "abc"


def test_tool_calls_in_pieces_come_together_in_the_order_of_their_places(fold):
    answer = fold(
        [
            ToolCallDelta(1, "call_b", "second", '{"b"'),
            ToolCallDelta(0, "call_a", "first", ""),
            ToolCallDelta(1, "", "", ": 2}"),
            ToolCallDelta(0, "call_a", "first", "{}"),
        ]
    )
    assert answer.tool_calls == (
        ToolCall("call_a", "first", "{}"),
        ToolCall("call_b", "second", '{"b": 2}'),
    )


def test_a_refusal_is_the_reason_unless_there_is_a_graver_one(fold):
    refusal = RefusalDelta("I cannot")
    assert fold([refusal, Finished("stop")]).finish_reason == "refusal"
    assert fold([refusal, Finished("stop")]).refusal == "I cannot"
    assert fold([refusal, Finished("length")]).finish_reason == "length"


def test_an_answer_that_did_not_end_says_why_only_where_the_wire_did_not():
    draft = AnswerBuilder()
    draft.add(TextDelta("half"))
    assert draft.answer().finish_reason == "error"
    assert draft.answer("interrupted").finish_reason == "interrupted"
    draft.add(Finished("length"))
    assert draft.answer("interrupted").finish_reason == "length"


def test_usage_adds_up_and_what_one_side_does_not_know_nobody_knows():
    total = USAGE.plus(Usage(input_tokens=1, output_tokens=20, reasoning_tokens=0))
    assert total == Usage(
        input_tokens=14, cached_tokens=None, output_tokens=1700, reasoning_tokens=1408
    )
    assert Usage(1, 2, 3, 4, 5, 6).plus(Usage(1, 1, 1, 1, 1, 1)) == Usage(2, 3, 4, 5, 6, 7)


def test_an_answer_is_a_value_and_its_words_are_its_text():
    answer = Answer(text="Hello")
    assert str(answer) == "Hello"
    with pytest.raises(FrozenInstanceError):
        answer.text = "Goodbye"


def test_an_answer_s_repr_is_one_short_line():
    text = "line\n" * 1000
    shown = repr(Answer(text=text, model="o3-mini", cost_usd=Decimal("0.000003")))
    assert shown.endswith("…', o3-mini, stop, $0.000003)")
    assert len(shown) < 120
    assert "\n" not in shown
    assert "cost unknown" in repr(Answer())
    assert "o3-mini SIMULATED" in repr(Answer(model="o3-mini", source="simulated"))


def test_only_an_answer_off_a_tape_is_replayed():
    assert [Answer(source=s).replayed for s in ("live", "simulated", "replayed")] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        (Usage(), "the limit of output tokens was reached"),
        (Usage(output_tokens=4096), "the limit of 4,096 output tokens was reached"),
        (
            Usage(output_tokens=4096, reasoning_tokens=4096),
            "reasoning used the whole limit of 4,096 tokens",
        ),
        (
            Usage(output_tokens=4096, reasoning_tokens=100),
            "the limit of 4,096 output tokens was reached, 100 of them reasoning",
        ),
    ],
)
def test_why_an_answer_was_cut_is_said_with_the_numbers_there_are(usage, words):
    assert why_cut(Answer(usage=usage)) == words


def test_a_frame_has_a_row_for_each_object_and_a_column_for_each_field():
    pytest.importorskip("pandas")
    frame = Answer(data=[{"a": 1}, {"a": 2}]).to_frame()
    assert frame["a"].tolist() == [1, 2]
    assert Answer(data={"a": 1}).to_frame()["a"].tolist() == [1]
    assert Answer(data=["x", "y"]).to_frame()["value"].tolist() == ["x", "y"]
    assert Answer(text="words").to_frame()["value"].tolist() == ["words"]

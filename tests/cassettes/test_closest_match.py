"""What a miss tells: the nearest recorded question and what differs, short and soon."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from o3magic.cassettes.closest_match import describe_miss, find_nearest
from o3magic.cassettes.entry import Recording
from o3magic.messages import Image, Message, Text
from tests.cassettes.conftest import question, take

TAKES = [take("Explain rain in two lines"), take("Explain snow in two lines"), take("Sum 1 and 2")]


def lines(asked, takes=TAKES, used=(), n=1):
    return describe_miss(asked, n, takes, used)


def test_one_changed_word_is_shown_as_a_diff():
    [first, *rows] = lines(question("Explain hail in two lines"), used={TAKES[1].place})
    assert first == f"nearest recorded question ({TAKES[0].key}): the text differs"
    assert rows == ["- Explain rain in two lines", "+ Explain hail in two lines"]


def test_of_two_equally_near_the_one_not_used_in_this_run_is_meant():
    asked = question("Explain hail in two lines")
    assert find_nearest(asked, TAKES, {TAKES[0].place}) == TAKES[1]
    assert find_nearest(asked, TAKES, {TAKES[1].place}) == TAKES[0]


def test_the_same_words_used_are_nearer_than_other_words_unused():
    takes = [take("Explain rain in two lines", effort="high"), take("Name a river")]
    assert find_nearest(question("Explain rain in two lines"), takes, {takes[0].place}) == takes[0]


@pytest.mark.parametrize(
    ("recorded", "asked", "told"),
    [
        ({"effort": "high"}, {"effort": "low"}, "effort high -> low"),
        ({}, {"effort": "low"}, "effort not set -> low"),
        ({"model": "o3"}, {"model": "o4-mini"}, "model o3 -> o4-mini"),
        ({"sample": 2}, {}, "sample 2 -> 1"),
        ({"api": "chat"}, {"effort": "low"}, "effort not set -> low, api chat -> auto"),
        (
            {"schema": {"type": "object"}, "schema_name": "Bill"},
            {"schema": {"type": "object"}, "schema_name": "Invoice"},
            "schema Bill -> Invoice",
        ),
        (
            {"schema": {"type": "object"}, "schema_name": "Bill"},
            {"schema": {"type": "object", "required": ["a"]}, "schema_name": "Bill"},
            "the schema has changed",
        ),
    ],
)
def test_changed_fields_are_named(recorded, asked, told):
    one = take(**recorded)
    assert lines(question(**asked), [one]) == [f"nearest recorded question ({one.key}): {told}"]


def test_another_developer_message_is_shown_with_its_role():
    one = replace(question(), messages=(Message.of("developer", "Be brief"), *question().messages))
    assert lines(one, [take()])[1:] == ["+ developer: Be brief"]


def test_another_picture_is_named():
    picture = Message("user", (Text("What is it?"), Image("https://example.org/a.png")))
    other = Message("user", (Text("What is it?"), Image("https://example.org/b.png")))
    one = Recording("k", request=replace(question(), messages=(picture,)).canonical())
    assert lines(replace(question(), messages=(other,)), [one])[0].endswith("the images differ")


def test_asked_more_often_than_recorded_is_said():
    assert lines(question(), [take()], n=2) == [
        "this question is recorded once, and one cell asks it 2 times"
    ]


def test_nothing_near_and_nothing_at_all_are_said():
    assert lines(question("Zzz qqq")) == ["none of the 3 recorded questions is near"]
    assert lines(question(), []) == ["nothing is recorded yet"]


def test_an_entry_with_a_key_only_is_no_trouble():
    assert lines(question(), [Recording("k", text="x")]) == [
        "none of the 1 recorded questions is near"
    ]


def test_a_language_without_blanks_finds_its_nearest():
    texts = ["".join(chr(0x4E00 + (i * 97 + j) % 5000) for j in range(12)) for i in range(50)]
    meant = take("解释一下为什么会下雨")
    assert find_nearest(question("解释一下为什么会下雪"), [*map(take, texts), meant]) == meant


def test_a_changed_place_in_a_very_long_line_is_shown():
    text = "rain " * 2000
    [_, old, new] = lines(question(f"{text}hail {text}"), [take(f"{text}snow {text}")])
    assert "snow" in old
    assert "hail" in new
    assert max(len(old), len(new)) < 110


def test_many_changes_are_cut_to_fifteen_lines():
    before = "\n".join(f"Line {i} of rain" for i in range(40))
    said = lines(question(before.replace("rain", "snow")), [take(before)])
    assert len(said) == 15
    assert said[-1] == "... and 67 more lines"


def test_a_secret_in_a_prompt_is_not_shown():
    secret = "sk-proj-abcdefghij0123456789"
    said = "\n".join(lines(question(f"Explain rain in two lines {secret}")))
    assert secret not in said
    assert "[secret removed]" in said


def quick(prompt: str) -> Recording:
    return Recording("k", request={"messages": [{"role": "user", "content": prompt}]})


def test_a_thousand_long_prompts_take_no_long():
    words = [f"word{i}" for i in range(500)]
    choose = random.Random(3)
    takes = [quick(" ".join(choose.choices(words, k=800))) for _ in range(1000)]
    asked = question(takes[700].prompt.replace("word4", "another", 3))
    began_s = time.process_time()
    found = find_nearest(asked, takes)
    assert time.process_time() - began_s < 2
    assert found == takes[700]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a" * 200_000, "a" * 100_000 + "b" + "a" * 100_000),
        ("ab" * 100_000, "ba" * 100_000),
        ("x\n" * 100_000, "y\n" * 100_000),
        ("a b " * 50_000, "b a " * 50_000),
    ],
)
def test_hostile_prompts_take_no_long(one, two):
    began_s = time.process_time()
    lines(question(one), [quick(two)])
    assert time.process_time() - began_s < 2

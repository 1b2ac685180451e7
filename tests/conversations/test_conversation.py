"""Conversations: what is sent, what a re-run replaces, forks, summaries, and how they are kept."""

import json
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3magic.atomic_file import lock_file
from o3magic.conversations.conversation import Conversation, Turn, turn_of
from o3magic.conversations.export import to_markdown, to_notebook
from o3magic.conversations.store import (
    ConversationStores,
    FileStore,
    MemoryStore,
    existing,
    from_json,
    moved,
    to_json,
)
from o3magic.errors import BadOption
from o3magic.events import Answer, Recorded, Usage
from o3magic.messages import Image, Message, Raw, Text, ToolCall, ToolResult

AT = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
NOT_CLEANED = str


def turn(question, answer="", cell="", **fields):
    made = Answer(text=answer, model="o3-mini", id=f"resp_{question}")
    return replace(turn_of((Text(question),), made, cell=cell, at=AT), **fields)


def talk(*pairs, name="plan"):
    """A conversation of cells: (cell, question, answer)."""
    made = Conversation(name)
    for cell, question, answer in pairs:
        made = made.with_turn(turn(question, answer, cell))
    return made


def said(messages):
    return [(message.role, message.text) for message in messages]


THREE = (("c1", "one?", "one"), ("c2", "two?", "two"), ("c3", "three?", "three"))
CALLED = (
    Message("assistant", (Raw(({"type": "reasoning"},)), ToolCall("call_1", "look", "{}"))),
    Message("tool", (ToolResult("call_1", "a fox"),)),
)


# What is sent


def test_the_next_question_follows_all_turns():
    assert said(talk(*THREE[:2]).messages()) == [
        ("user", "one?"),
        ("assistant", "one"),
        ("user", "two?"),
        ("assistant", "two"),
    ]
    assert Conversation("empty").messages() == ()


def test_a_cell_that_asks_again_is_sent_what_stood_before_it():
    conversation = talk(*THREE)
    assert said(conversation.messages("c2")) == [("user", "one?"), ("assistant", "one")]
    assert conversation.messages("c1") == ()
    assert len(conversation.messages("c9")) == 6


def test_what_was_cut_off_before_any_answer_is_left_out():
    conversation = talk(*THREE).with_turn(turn("never answered"))
    assert len(conversation.messages()) == 6


def test_calls_and_their_results_are_sent_again_and_the_reasoning_is_not():
    asked = (Text("What is it?"), Image("data:image/png;base64,AAAA"))
    made = turn_of(asked, Answer(text="A fox."), CALLED, cell="c1")
    messages = Conversation("plan").with_turn(made).messages()
    kinds = [type(part).__name__ for message in messages for part in message.parts]
    assert kinds == ["Text", "Image", "ToolCall", "ToolResult", "Text"]


def test_a_refusal_is_an_answer():
    made = turn_of((Text("?"),), Answer(refusal="No."))
    assert made.answer == "No."


def test_the_estimate_counts_what_would_be_sent():
    conversation = talk(*THREE)
    whole, part = conversation.tokens(), conversation.tokens("c2")
    assert 0 < part.low <= part.likely <= part.high < whole.high
    assert Conversation("empty").tokens().high == 0


# Running a cell again


def test_a_cell_run_again_takes_the_place_of_its_own_turn():
    conversation = talk(*THREE).with_turn(turn("TWO?", "TWO", "c2"))
    assert [each.question for each in conversation.turns] == ["one?", "TWO?", "three?"]
    assert conversation.notes == ("turn 3 follows an older version of turn 2: run its cell again",)
    assert [conversation.outdated(each) for each in conversation.turns] == [False, False, True]
    again = conversation.with_turn(turn("three?", "three again", "c3"))
    assert again.notes == ()


def test_a_question_of_no_cell_is_always_a_turn_of_its_own():
    conversation = Conversation("plan").with_turn(turn("a", "b")).with_turn(turn("a", "b"))
    assert len(conversation.turns) == 2
    assert conversation.notes == ()


@given(st.lists(st.sampled_from(["c1", "c2", "c3", ""]), max_size=12))
@settings(deadline=None)
def test_running_all_cells_in_order_leaves_nothing_outdated(cells):
    conversation = Conversation("plan")
    for n, cell in enumerate(cells):
        conversation = conversation.with_turn(turn(f"q{n}", "a", cell))
    own = [each.cell for each in conversation.turns]
    assert len([cell for cell in own if cell]) == len({cell for cell in own if cell})
    for cell in [cell for cell in own if cell]:
        conversation = conversation.with_turn(turn("again", "a", cell))
    if "" not in own:
        assert conversation.notes == ()
    assert from_json(json.loads(json.dumps(to_json(conversation)))) == conversation


# Forks, undo, names


def test_a_fork_begins_with_the_first_turns_and_the_old_one_stays():
    conversation = talk(*THREE)
    fork = conversation.fork(1, "other")
    assert (fork.name, fork.forked_from, len(fork.turns)) == ("other", "plan", 1)
    longer = fork.with_turn(turn("else?", "else", "c9"))
    assert longer.notes == ()
    assert len(conversation.turns) == 3
    with pytest.raises(BadOption, match="plan has 3 turns, not 4"):
        conversation.fork(4, "x")


def test_undo_takes_the_last_turns_away():
    conversation = talk(*THREE)
    assert [each.cell for each in conversation.undo().turns] == ["c1", "c2"]
    assert conversation.undo(3).turns == ()
    again = conversation.undo().with_turn(turn("new", "new", "c4"))
    assert again.notes == ()
    for count in (4, -1):
        with pytest.raises(BadOption, match="plan has 3 turns"):
            conversation.undo(count)


@pytest.mark.parametrize(
    "name", ["", "a b", "-c", "a\nb", "a/b", "../a", "x" * 65, '"', "`", "a;b", "<b>", "{{x}}"]
)
def test_a_name_can_stand_on_a_line(name):
    with pytest.raises(BadOption, match="is no name"):
        Conversation(name)
    with pytest.raises(BadOption, match="is no name"):
        talk(*THREE).renamed(name)


def test_names_of_other_alphabets_are_names():
    assert Conversation("größe-2.план_x").renamed("计划").name == "计划"


# Summaries


def test_a_summary_stands_for_the_first_turns_and_they_are_kept():
    conversation = talk(*THREE)
    assert [each.cell for each in conversation.compact(1)] == ["c1", "c2"]
    short = conversation.with_summary("Numbers were counted.", keep=1)
    assert said(short.messages())[0] == (
        "user",
        "What was said before, in short:\nNumbers were counted.",
    )
    assert len(short.messages()) == 3
    assert len(short.turns) == 3
    assert said(short.messages("c2")) == said(conversation.messages("c2"))
    assert len(short.messages("c3")) == 1
    assert short.tokens().high < conversation.tokens().high + 60


def test_a_summary_that_no_longer_holds_is_dropped():
    short = talk(*THREE).with_summary("Counted.", keep=1)
    assert short.with_turn(turn("ONE?", "ONE", "c1")).summary == ""
    assert short.with_turn(turn("THREE?", "THREE", "c3")).summary == "Counted."
    assert short.undo(2).summary == ""
    assert short.undo(1).summary == "Counted."
    assert short.fork(1, "f").summary == ""
    assert short.fork(2, "f").summary == "Counted."
    assert short.with_summary(" ", keep=1).summary == ""
    assert short.with_summary("x", keep=9).summary == ""


# Written down


HOSTILE = "</script><img src=x onerror=alert(1)>\n```\n# not a heading"


def test_markdown_has_questions_answers_and_who_answered():
    text = to_markdown(talk(*THREE), NOT_CLEANED)
    assert text.startswith("# plan\n\n## 1\n\n```text\none?\n```\n")
    assert "**Answer of o3-mini**, 2026-11-21 06:00 UTC:\n\none\n" in text


def test_what_was_simulated_says_so():
    conversation = Conversation("plan").with_turn(turn("?", "!", source="simulated"))
    assert "**Answer of SIMULATED**" in to_markdown(conversation, NOT_CLEANED)
    cells = to_notebook(conversation, NOT_CLEANED)["cells"]
    assert "SIMULATED" in cells[-1]["source"]


def test_a_replay_says_who_answered_when_it_was_recorded():
    for source, word in (("simulated", "SIMULATED"), ("hand", "BY HAND"), ("live", "o3-mini")):
        recorded = Recorded("k", 1, "", source)
        answer = Answer(text="!", model="o3-mini", source="replayed", recorded=recorded)
        made = Conversation("plan").with_turn(turn_of((Text("?"),), answer))
        text = to_markdown(made, NOT_CLEANED)
        assert word in text
        assert ", replayed:" in text
        assert from_json(to_json(made)) == made


def test_words_of_a_model_pass_through_the_cleaner_and_questions_stay_in_their_fence():
    conversation = Conversation("plan").with_turn(turn(HOSTILE, HOSTILE, model="<b>m</b>"))
    text = to_markdown(conversation, lambda words: f"[{len(words)} cleaned]")
    assert text.count(HOSTILE) == 1
    assert f"````text\n{HOSTILE}\n````" in text
    assert "<b>" not in text
    source = to_notebook(conversation, lambda words: "cleaned")["cells"][-1]["source"]
    assert "<" not in source


def test_tools_are_told_with_a_name_that_cannot_be_markup():
    called = (Message("assistant", (ToolCall("1", "<b>look</b>", "{}"),)),)
    made = turn_of((Text("?"),), Answer(text="!"), called)
    text = to_markdown(Conversation("plan").with_turn(made), NOT_CLEANED)
    assert "called b look /b, which gave 0 characters" in text


def test_a_notebook_asks_the_same_again():
    conversation = talk(("c1", "one?", "one"), ("c2", "what is {{ x }}?", "two"))
    made = to_notebook(conversation, NOT_CLEANED)
    notebook = nbformat.from_dict(made)
    nbformat.validate(notebook)
    sources = [cell.source for cell in notebook.cells]
    assert sources[0] == "%load_ext o3magic"
    assert sources[1] == "%%o3 -c plan\none?"
    assert sources[3] == "%%o3 -c plan --no-template\nwhat is {{ x }}?"
    assert [cell.cell_type for cell in notebook.cells] == ["code", *["code", "markdown"] * 2]
    assert made == to_notebook(conversation, NOT_CLEANED)


def test_pictures_leave_a_sign():
    pictures = (Text("Look:"), Image("data:image/png;base64,AAAA"))
    made = Conversation("plan").with_turn(turn_of(pictures, Answer(text="!")))
    assert "Look:\n[1 picture]" in to_markdown(made, NOT_CLEANED)


# Kept


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    """Somewhere to keep conversations."""
    if request.param == "memory":
        return MemoryStore()
    return FileStore(tmp_path / "deep" / "conversations.json")


FULL = Conversation("full", forked_from="plan").with_turn(
    turn_of(
        (Text("?"), Image("https://example.com/a.png", "low")),
        Answer(
            text="!",
            model="m",
            id="resp_1",
            source="replayed",
            usage=Usage(1, None, 3),
            cost_usd=Decimal("0.000000001"),
        ),
        CALLED,
        cell="c1",
        at=AT,
    )
)


def test_what_is_kept_comes_back_as_it_was(store):
    assert store.names() == []
    assert store.get("full") is None
    store.put(FULL)
    store.put(talk(*THREE))
    assert store.get("full") == FULL
    assert store.get("full").turns[0].cost_usd == Decimal("0.000000001")
    assert store.names() == ["full", "plan"]
    store.put(FULL)
    assert store.names() == ["plan", "full"]


def test_names_in_a_store(store):
    store.put(talk(*THREE))
    store.put(FULL)
    assert moved(store, "plan", "Plan2").name == "Plan2"
    assert store.names() == ["full", "Plan2"]
    with pytest.raises(BadOption, match="there is a conversation full already"):
        moved(store, "Plan2", "full")
    with pytest.raises(BadOption, match="there is no conversation plan2") as caught:
        existing(store, "plan2")
    assert caught.value.hint == "did you mean Plan2?"
    store.delete("Plan2")
    with pytest.raises(BadOption, match="there is no conversation Plan2"):
        store.delete("Plan2")


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_the_file_is_its_owners_alone_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "conversations.json"
    FileStore(path).put(FULL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_two_kernels_keep_each_others_conversations(tmp_path):
    path = tmp_path / "conversations.json"
    one, two = FileStore(path), FileStore(path)
    one.put(talk(*THREE))
    two.put(FULL)
    assert one.names() == two.names() == ["plan", "full"]


def test_threads_of_one_kernel_lose_nothing(tmp_path):
    store = FileStore(tmp_path / "conversations.json")
    threads = [threading.Thread(target=store.put, args=(Conversation(f"c{n}"),)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(store.names()) == sorted(f"c{n}" for n in range(12))


GOOD = to_json(FULL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": "o3magic-conversations/2", "conversations": {}}',
        '{"format": "o3magic-conversations/1", "conversations": []}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_file_that_cannot_be_read_is_left_alone(text, tmp_path):
    path = tmp_path / "conversations.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    store = FileStore(path)
    for act in (store.names, lambda: store.put(FULL), lambda: store.get("a")):
        with pytest.raises(BadOption, match="holds no conversations that can be read"):
            act()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "changed",
    [
        {"turns": None},
        {"turns": [3]},
        {"turns": [{}]},
        {"turns": [{**GOOD["turns"][0], "asked": [{"kind": "text", "text": 3}]}]},
        {"turns": [{**GOOD["turns"][0], "asked": [{"kind": "spell"}]}]},
        {"turns": [{**GOOD["turns"][0], "answered": [{"role": "root", "parts": []}]}]},
        {"turns": [{**GOOD["turns"][0], "source": "nowhere"}]},
        {"turns": [{**GOOD["turns"][0], "at": "yesterday"}]},
        {"turns": [{**GOOD["turns"][0], "cost_usd": "much"}]},
        {"turns": [{**GOOD["turns"][0], "usage": {"more": 1}}]},
        {"made": "x"},
        {"name": "a b"},
    ],
)
def test_a_conversation_that_is_none_is_refused(changed, tmp_path):
    path = tmp_path / "conversations.json"
    kept = {"full": {**GOOD, **changed}, "plan": to_json(talk(*THREE))}
    path.write_text(json.dumps({"format": "o3magic-conversations/1", "conversations": kept}))
    store = FileStore(path)
    with pytest.raises(BadOption):
        store.get("full")
    assert store.get("plan") == talk(*THREE)
    store.delete("full")
    assert store.names() == ["plan"]


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    store = FileStore(tmp_path / "file" / "conversations.json")
    with pytest.raises(BadOption, match="conversations"):
        store.put(FULL)


@given(st.text(max_size=80), st.text(max_size=80))
@settings(deadline=None)
def test_any_words_are_kept_and_written_down(question, answer):
    made = Conversation("plan").with_turn(turn(question, answer, "c"))
    assert from_json(json.loads(json.dumps(to_json(made)))) == made
    nbformat.validate(nbformat.from_dict(to_notebook(made, NOT_CLEANED)))
    assert to_markdown(made, NOT_CLEANED)


def test_a_turn_is_a_value():
    assert turn("a", "b") == turn("a", "b")
    assert isinstance(turn("a"), Turn)
    assert turn("a").answer == ""


ADDER = """
import sys
from pathlib import Path
from o3magic.events import Answer
from o3magic.messages import Text
from o3magic.conversations.conversation import Conversation, turn_of
from o3magic.conversations.store import FileStore

store, who = FileStore(Path(sys.argv[1])), sys.argv[2]
sys.stdin.read(1)
for number in range(15):
    turn = turn_of((Text(f"{who}{number}"),), Answer(text="yes"))
    store.change("plan", lambda talk: (talk or Conversation("plan")).with_turn(turn))
"""


def test_two_kernels_at_the_same_instant_lose_nothing(tmp_path):
    path = tmp_path / "conversations.json"
    kernels = [
        subprocess.Popen([sys.executable, "-c", ADDER, str(path), who], stdin=subprocess.PIPE)
        for who in "ab"
    ]
    for kernel in kernels:
        kernel.stdin.write(b"x")
        kernel.stdin.close()
    assert [kernel.wait(60) for kernel in kernels] == [0, 0]
    questions = [turn.question for turn in FileStore(path).get("plan").turns]
    assert sorted(questions) == sorted(f"{who}{n}" for who in "ab" for n in range(15))
    assert [p.name for p in tmp_path.iterdir()] == ["conversations.json"]


def test_a_change_that_fails_changes_nothing(tmp_path):
    for store in (MemoryStore(), FileStore(tmp_path / "conversations.json")):
        store.put(talk(*THREE))

        def fails(found):
            raise BadOption(f"{found.name} is as it was")

        with pytest.raises(BadOption, match="as it was"):
            store.change("plan", fails)
        assert len(store.get("plan").turns) == 3


def test_a_file_that_another_kernel_holds_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("o3magic.conversations.store.MOST_WAIT_S", 0.05)
    path = tmp_path / "conversations.json"
    with lock_file(path, 1), pytest.raises(BadOption) as caught:
        FileStore(path).put(talk(*THREE))
    assert "locked by another kernel" in str(caught.value)
    FileStore(path).put(talk(*THREE))


def test_what_began_in_memory_goes_into_the_file_when_text_is_kept(tmp_path):
    memory, file = MemoryStore(), FileStore(tmp_path / "conversations.json")
    before, after = (
        ConversationStores(memory, lambda: file, keeps=keeps) for keeps in (False, True)
    )
    before.put(talk(*THREE))
    assert file.names() == []
    assert after.names() == ["plan"]
    after.change("plan", lambda found: found.with_turn(turn("four?", "four")))
    assert len(file.get("plan").turns) == 4
    assert before.names() == []
    after.put(talk(*THREE, name="other"))
    moved(after, "other", "third")
    assert sorted(after.names()) == ["plan", "third"]
    after.delete("third")
    with pytest.raises(BadOption, match="no conversation third"):
        after.delete("third")
    with pytest.raises(BadOption, match="no conversation plan"):
        before.delete("plan")


def test_one_of_the_same_name_in_the_file_is_not_overwritten(tmp_path):
    memory, file = MemoryStore(), FileStore(tmp_path / "conversations.json")
    file.put(talk(*THREE))
    memory.put(talk(*THREE[:1]))
    both = ConversationStores(memory, lambda: file, keeps=True)
    both.change("plan", lambda found: found.with_turn(turn("else?", "else")))
    assert [each.question for each in both.get("plan").turns] == ["one?", "else?"]
    assert len(file.get("plan").turns) == 3
    moved(both, "plan", "mine")
    assert both.names() == ["plan", "mine"]
    assert len(both.get("plan").turns) == 3
    assert len(file.get("mine").turns) == 2

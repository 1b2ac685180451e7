"""Functions of a notebook as tools: their schemas, their calls, and whatever can go wrong."""

import asyncio
import contextlib
import functools
import inspect
import json
import pickle
import sqlite3
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from o3magic.answer_builder import AnswerBuilder
from o3magic.client.http import Client
from o3magic.client.request import HttpRequest as ClientCall
from o3magic.errors import BadOption
from o3magic.events import Answer
from o3magic.messages import HostedTool, Message, Raw, Request, Text, ToolCall
from o3magic.models import Catalog
from o3magic.providers import Provider
from o3magic.simulator import Reply
from o3magic.simulator.reply import Call
from o3magic.tools import builtin
from o3magic.tools.execution import ToolJob, kept_apart, run_jobs, when_left
from o3magic.tools.function import ToolFunction, tool, tool_of
from o3magic.tools.toolbox import Toolbox, check_tools, following, toolbox
from o3magic.wire import responses

LIMIT_S = 20.0  # longer than anything here takes
SHORT_S = 0.15


class Line(BaseModel):
    item: str
    price: float | None = None


@dataclass
class Place:
    x: int


@pytest.fixture(autouse=True)
def left_behind_no_more():
    """A tool that was left behind may still print for a moment: not into the next test."""
    yield
    for thread in [each for each in threading.enumerate() if each.name == "o3magic-tool"]:
        thread.join(10)
        assert not thread.is_alive()


def call(name, arguments="{}", call_id="call_1"):
    return ToolCall(
        call_id, name, arguments if isinstance(arguments, str) else json.dumps(arguments)
    )


def box_of(*functions, **options):
    return Toolbox([tool_of(each) for each in functions], **options)


def run(function, arguments="{}", *, limit_s=LIMIT_S, confirm=None, **options):
    made = tool_of(function)
    return box_of(made, **options).run(call(made.name, arguments), limit_s, confirm)


def refused(function):
    with pytest.raises(BadOption) as caught:
        tool_of(function)
    return "\n".join(caught.value.lines())


# Schemas


def find(query: str, count: int = 3, *, unit: Literal["km", "mi"] = "km") -> list[str]:
    """Find things.

    They are found where they are.

    Args:
        query (str): what to look for,
            in words
        count: how many at the most
    """
    return [f"{query} {unit}"] * count


def test_a_schema_comes_from_hints_defaults_and_docstring():
    made = tool_of(find).request_tool()
    assert (made.name, made.strict) == ("find", True)
    assert made.description == "Find things.\n\nThey are found where they are."
    properties = made.parameters["properties"]
    assert properties["query"] == {"type": "string", "description": "what to look for, in words"}
    assert properties["count"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]
    assert "how many at the most" in properties["count"]["description"]
    assert "default 3" in properties["count"]["description"]
    assert made.parameters["required"] == ["query", "count", "unit"]
    assert made.parameters["additionalProperties"] is False


def numpy_style(a, b: int = 2):
    """Do it.

    Parameters
    ----------
    a : str
        the first
        of them
    b, c
        the second

    Returns
    -------
    str
        something
    """


def sphinx_style(a: str, b: int = 2):
    """Do it.

    :param str a: the first
        of them
    :param b: the second
    :returns: something
    :raises ValueError: a: never
    """


def no_style(a: str, b: int = 2):
    """Do it. a: this is no list of parameters."""


numpy_style.__annotations__["a"] = str


@pytest.mark.parametrize("function", [numpy_style, sphinx_style])
def test_docstrings_of_other_styles(function):
    made = tool_of(function).request_tool()
    assert made.description == "Do it."
    properties = made.parameters["properties"]
    assert properties["a"]["description"] == "the first of them"
    assert properties["b"]["description"].startswith("the second")


@settings(deadline=None)
@given(st.text(alphabet="Args:\n -abParmetsRun:pm (,)*", max_size=120))
def test_any_docstring_gives_some_description(docstring):
    def function(a: int = 1) -> None: ...

    function.__doc__ = docstring
    assert tool_of(function).request_tool().parameters["required"] == ["a"]


def test_what_is_no_list_of_parameters_is_part_of_the_description():
    made = tool_of(no_style).request_tool()
    assert "this is no list" in made.description
    assert "description" not in made.parameters["properties"]["a"]


def test_annotations_may_say_what_a_parameter_is():
    def look(
        near: Annotated[str, "a town"], far: Annotated[int, Field(ge=1, description="km")] = 1
    ) -> None: ...

    properties = tool_of(look).request_tool().parameters["properties"]
    assert properties["near"]["description"] == "a town"
    assert properties["far"]["description"].startswith("km")


def test_names_that_pydantic_has_itself_are_names_like_others():
    def odd(json: str, copy: int, model_config: str, schema: str, self_: int = 0) -> str:
        return f"{json}{copy}{model_config}{schema}"

    ran = run(odd, {"json": "a", "copy": 1, "model_config": "b", "schema": "c", "self_": None})
    assert (ran.ending, ran.text) == ("ok", "a1bc")


def test_what_the_strict_subset_cannot_say_is_sent_as_it_is():
    def count(words: dict[str, int]) -> int:
        return sum(words.values())

    made = tool_of(count).request_tool()
    assert made.strict is False
    assert made.parameters["properties"]["words"]["additionalProperties"] == {"type": "integer"}
    assert run(count, {"words": {"a": 1, "b": 2}}).text == "3"


def test_requests_with_tools_are_valid(shared_api):
    import jsonschema

    schema = json.loads((shared_api / "schemas/responses_request.strict.json").read_text())
    tools = toolbox(["find", "web_search"], {"find": find}, {}).request_tools()
    body = responses.encode(Request("o4-mini", (Message.of("user", "hi"),), tools=tools))
    assert [*jsonschema.Draft202012Validator(schema).iter_errors(body)] == []
    assert [each["type"] for each in body["tools"]] == ["function", "web_search"]


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda x: x, "lambda"),
        (print, "*args"),
        (len, "say its type: obj"),
        (max, "not known"),
        (3, "no function"),
        (Line, "no function"),
        (None, "no function"),
    ],
)
def test_what_cannot_be_a_tool_says_why(function, word):
    assert word in refused(function)


def test_more_that_cannot_be_told_to_a_model():
    def bare(x):
        return x

    def stars(**named: int):
        return named

    def frame(df: pandas.DataFrame):
        return df

    def unknown(x: "Nowhere"):  # noqa: F821
        return x

    assert "say its type: x: str" in refused(bare)
    assert "**named" in refused(stars)
    assert "pydantic model" in refused(frame)
    assert "define Nowhere" in refused(unknown)


def test_a_decorated_function_can_be_called_as_before():
    @tool
    def plain(a: int) -> int:
        return a + 1

    @tool(name="Other name", description="Said otherwise.", dangerous=True)
    def other(a: int) -> int:
        """Not this."""
        return a

    assert plain(1) == 2
    assert isinstance(other, ToolFunction)
    assert (other.name, other.description, other.dangerous) == (
        "Other_name",
        "Said otherwise.",
        True,
    )
    assert other.__name__ == "Other_name"


# Which tools


def test_names_are_looked_up_among_registered_ones_the_notebook_and_the_built_in():
    @tool(dangerous=True)
    def mine(a: int) -> int:
        return a

    def python(code: str) -> str:
        """My own."""
        return code

    box = toolbox(["mine", "find", "web_search"], {"find": find}, {"mine": mine})
    assert box.names == ("mine", "find", "web_search")
    assert box.functions["mine"].dangerous
    assert toolbox(["python"], {"python": python}, {}).functions["python"].description == "My own."
    assert toolbox(["find", "find"], {"find": find}, {}).names == ("find",)
    assert not toolbox([], {}, {})


def test_a_name_that_is_no_tool_says_what_is_near():
    with pytest.raises(BadOption, match="there is no tool fnd") as caught:
        toolbox(["fnd"], {"find": find}, {})
    assert caught.value.hint == "did you mean find?"
    with pytest.raises(BadOption, match="x is no function"):
        toolbox(["x"], {"x": 3}, {})
    with pytest.raises(BadOption, match="two tools are called find"):
        toolbox(["find", "other"], {"find": find}, {"other": tool_of(find)})


def test_models_and_apis_without_tools_are_refused():
    catalog, box = Catalog.built_in(), toolbox(["find"], {"find": find}, {})
    hosted = Toolbox(hosted=[HostedTool("web_search")])
    with pytest.raises(BadOption, match="o1-mini takes no tools"):
        check_tools(box, catalog.card("o1-mini"), "chat", None)
    with pytest.raises(BadOption, match="the Chat API has no web_search"):
        check_tools(hosted, catalog.card("gpt-5.5"), "chat", None)
    with pytest.raises(BadOption, match="only at effort none"):
        check_tools(box, catalog.card("gpt-6-sol"), "chat", "high")
    check_tools(box, catalog.card("gpt-6-sol"), "chat", "none")
    check_tools(box, catalog.card("gpt-6-sol"), "responses", "high")
    for effort in (None, "none", "high"):
        with pytest.raises(BadOption, match="by the Responses API alone") as caught:
            check_tools(box, catalog.card("gpt-6.1-terra"), "chat", effort)
        assert caught.value.hint == "--api responses"
    check_tools(box, catalog.card("gpt-6.1-terra"), "responses", None)
    check_tools(box, catalog.card("openai/gpt-6.1-terra"), "chat", None)
    check_tools(hosted, catalog.card("gpt-5.5"), "responses", None)
    check_tools(Toolbox(), catalog.card("o1-mini"), "chat", None)


# Arguments


def test_arguments_become_what_the_hints_say():
    def total(lines: list[Line], place: Place, rate: float = 0.5) -> str:
        return f"{type(lines[0]).__name__} {type(place).__name__} {rate}"

    given_ = {"lines": [{"item": "a", "price": None}], "place": {"x": 1}, "rate": None}
    assert run(total, given_).text == "Line Place 0.5"


def test_what_was_not_said_keeps_the_functions_own_default():
    kept: list = []

    def add(a: int, to: list[int] = kept) -> bool:
        return to is kept

    assert run(add, {"a": 1, "to": None}).text == "true"
    assert run(add, {"a": 1, "to": [1]}).text == "false"


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_a_tool_without_arguments_takes_nothing_at_all(arguments):
    def now() -> str:
        return "noon"

    assert run(now, arguments).text == "noon"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("{", "not JSON"),
        ("nonsense", "not JSON"),
        ("[1]", "the answer"),
        ("null", "the answer"),
        ("[" * 100_000, "too deeply"),
        ('{"query": 5}', "query: should be text"),
        ('{"count": 1}', "query: is missing"),
        ('{"query": "a", "more": 1}', "more: was not asked for"),
        ('{"query": "a", "unit": "m"}', "unit"),
        ('{"query": "a", "count": "many"}', "count: should be a whole number"),
        ('{"query": "a", "count": 1' + "0" * 5000 + "}", ""),
        ('{"query": "\\ud800", "count": "x"}', "hex escape"),
    ],
)
def test_broken_arguments_are_told_to_the_model_shortly(arguments, word):
    ran = run(find, arguments)
    assert ran.ending == "refused"
    assert word in ran.text
    assert len(ran.text) < 600
    ran.text.encode()


@settings(deadline=None)
@given(
    st.text(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.dictionaries(st.sampled_from(["query", "count", "unit", "x"]), inner)
            | st.lists(inner)
        ),
        max_leaves=5,
    ).map(json.dumps)
)
def test_no_arguments_of_a_model_raise_anything(arguments):
    ran = box_of(find).run(call("find", arguments), LIMIT_S)
    assert ran.ending in ("ok", "refused", "failed")


def test_a_validator_of_the_users_own_that_fails_is_told_too():
    class Strange(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def never(cls, value):
            raise KeyError("gone")

    def take(it: Strange) -> None: ...

    ran = run(take, {"it": {"x": 1}})
    assert (ran.ending, ran.text) == ("failed", "KeyError: 'gone'")


# Results


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("words", "words"),
        ("", ""),
        (None, "null"),
        (3, "3"),
        ({"a": (1, 2.5)}, '{"a": [1, 2.5]}'),
        (float("nan"), "null"),
        ([float("inf")], "[null]"),
        (b"abc", '"<3 bytes>"'),
        ({1: "a", None: "b"}, '{"1": "a", "None": "b"}'),
        (Line(item="a"), '{"item": "a", "price": null}'),
        (pandas.DataFrame({"a": [1, 2]}), '[{"a": 1}, {"a": 2}]'),
        (Answer(text="said"), '"said"'),
        ({"k": object()}, '{"k": "<object>"}'),
        ("\ud800", "?"),
        (["\ud800"], '["?"]'),
    ],
)
def test_results_are_json_or_words(value, text):
    def give() -> object:
        return value

    ran = run(give)
    assert (ran.ending, ran.text) == ("ok", text)
    assert ran.value is value
    ran.text.encode()


def test_results_without_an_end_are_cut_and_say_so():
    loop: list = []
    loop.append(loop)
    values = {
        "loop": loop,
        "text": "x" * 10**7,
        "list": list(range(10**6)),
        "frame": pandas.DataFrame({"a": range(10**6)}),
        "int": 1 << 10**6,
    }

    def give(name: str) -> object:
        return values[name]

    for name in values:
        ran = run(give, {"name": name}, most_result_chars=1000)
        assert ran.ending == "ok"
        assert len(ran.text) < 3000
        assert ran.notes
    assert (
        "9,999,000 of 10,000,000 characters cut"
        in run(give, {"name": "text"}, most_result_chars=1000).text
    )


def test_an_object_that_fails_to_say_what_it_is():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no")

    def give() -> object:
        return Broken()

    assert "its repr raises RuntimeError" in run(give).text


# Failures


def test_an_exception_is_one_line_for_the_model_and_kept_for_the_user():
    def divide(a: int) -> float:
        return a / 0

    ran = run(divide, {"a": 1})
    assert (ran.ending, ran.text) == ("failed", "ZeroDivisionError: division by zero")
    assert isinstance(ran.error, ZeroDivisionError)
    assert ran.error.__traceback__ is not None


def test_an_exception_tells_the_model_no_key_and_no_novel():
    def fail() -> None:
        raise ValueError("sk-proj-abcdefghijklmnopqrstuvwxyz0123456789\n" + "secret " * 1000)

    text = run(fail).text
    assert "abcdefghijkl" not in text
    assert "secret" not in text
    assert len(text) < 500


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
def test_what_would_end_a_thread_is_a_failure_like_others(error):
    def fail() -> None:
        raise error

    assert run(fail).text.startswith(type(error).__name__)


def test_an_interrupt_in_a_tool_interrupts_the_question():
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fail)


def test_a_tool_that_is_not_there_is_answered_with_those_that_are():
    ran = box_of(find).run(call("fund"), LIMIT_S)
    assert (ran.ending, ran.text) == ("refused", "there is no tool 'fund'; the tools: find")
    hostile = box_of(find).run(call("\x1b[31m" + "x" * 10_000), LIMIT_S)
    assert "\x1b" not in hostile.text
    assert len(hostile.text) < 1000


# Time and threads


def test_a_tool_that_never_returns_is_left_behind_and_ends_at_its_next_line():
    ended = threading.Event()

    def hang() -> None:
        try:
            while True:
                pass
        finally:
            ended.set()

    ran = run(hang, limit_s=SHORT_S)
    assert (ran.ending, ran.text) == ("late", "not ended within 0.15 s")
    assert "hang" in ran.notes[0]
    assert ended.wait(10)


def test_a_tool_that_waits_can_say_how_it_is_ended():
    woken = threading.Event()

    def wait() -> None:
        when_left(woken.set)
        woken.wait(60)

    began = time.monotonic()
    assert run(wait, limit_s=SHORT_S).ending == "late"
    assert woken.is_set()
    assert time.monotonic() - began < 10


def test_a_coroutine_is_waited_for_and_ended_when_it_is_late():
    cancelled = threading.Event()

    async def double(a: int) -> int:
        await asyncio.sleep(0)
        return 2 * a

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    assert run(double, {"a": 4}).text == "8"
    assert run(forever, limit_s=SHORT_S).ending == "late"
    assert cancelled.wait(10)


def test_calls_run_at_once_and_results_come_in_the_order_of_the_calls():
    meet = threading.Barrier(8, timeout=20)

    def together(n: int) -> int:
        meet.wait()
        return n

    calls = [call("together", {"n": n}, f"call_{n}") for n in range(8)]
    runs = box_of(together).run_all(calls, LIMIT_S)
    assert [ran.text for ran in runs] == [str(n) for n in range(8)]
    assert [ran.call.id for ran in runs] == [each.id for each in calls]


def test_ten_thousand_calls_are_not_all_made():
    made = []

    def note(n: int) -> None:
        made.append((n, threading.active_count()))

    runs = box_of(note).run_all([call("note", {"n": n}) for n in range(10_000)], LIMIT_S)
    assert len(runs) == 10_000
    assert len(made) == 64
    assert max(count for _, count in made) <= threading.active_count() + 8
    assert runs[-1].text == "not called: at most 64 calls at once"


def test_another_thread_can_stop_it_all():
    began, stop, ended = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        when_left(ended.set)
        began.set()
        ended.wait(60)

    def stopper():
        began.wait(20)
        stop.set()

    threading.Thread(target=stopper).start()
    with pytest.raises(KeyboardInterrupt):
        box_of(hang).run_all([call("hang")] * 3, LIMIT_S, stopped=stop.is_set)
    assert ended.is_set()


def test_what_a_tool_prints_is_kept_apart():
    def loud(n: int) -> int:
        sys.stdout.write(f"printed by {n}\n")
        return n

    def spin() -> None:
        while True:
            sys.stdout.write("y" * 1000)

    before = sys.stdout
    runs = box_of(loud).run_all([call("loud", {"n": n}) for n in range(4)], LIMIT_S)
    assert [ran.printed for ran in runs] == [f"printed by {n}\n" for n in range(4)]
    assert all("printed" not in ran.text for ran in runs)
    endless = run(spin, limit_s=SHORT_S)
    assert endless.ending == "late"
    assert len(endless.printed) < 101_000
    assert sys.stdout is before


def test_two_questions_at_once_keep_their_prints_apart_and_put_all_back(capsys):
    meet = threading.Barrier(2, timeout=20)

    def loud(n: int) -> None:
        meet.wait()
        sys.stdout.write(f"{n}\n")
        meet.wait()

    before, ran = sys.stdout, {}

    def ask(n):
        ran[n] = run(loud, {"n": n})

    threads = [threading.Thread(target=ask, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: each.printed for n, each in ran.items()} == {1: "1\n", 2: "2\n"}
    assert sys.stdout is before
    sys.stdout.write("to the cell\n")
    assert capsys.readouterr().out == "to the cell\n"


def test_questions_that_overlap_put_all_back_in_any_order():
    before, one, two = sys.stdout, kept_apart(), kept_apart()
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert sys.stdout is not before
    two.__exit__(None, None, None)
    assert sys.stdout is before


def test_jobs_of_nothing_end_at_once():
    run_jobs([], LIMIT_S, 8)
    job = ToolJob(lambda: 1)
    run_jobs([job], LIMIT_S, 8)
    assert (job.value, job.late) == (1, False)


# Asking the user


def test_a_dangerous_tool_is_called_only_after_a_yes():
    called, asked = [], []

    @tool(dangerous=True)
    def wipe(path: str) -> str:
        called.append(path)
        return "gone"

    def no(each):
        asked.append((each, threading.current_thread() is threading.main_thread()))
        return False

    assert run(wipe, {"path": "/"}).ending == "declined"
    ran = run(wipe, {"path": "/"}, confirm=no)
    assert (ran.ending, ran.text) == ("declined", "the user declined this call")
    assert called == []
    assert asked == [(ran.call, True)]
    assert run(wipe, {"path": 3}, confirm=no).ending == "refused"
    assert len(asked) == 1
    assert run(wipe, {"path": "/"}, confirm=lambda each: True).text == "gone"


# Turns


def test_the_next_turn_says_what_was_called_and_what_came_of_it():
    answer = Answer(text="Let me see.", tool_calls=(call("find", {"query": "a", "count": 1}),))
    runs = box_of(find).run_all(answer.tool_calls, LIMIT_S)
    asked = (Message.of("user", "?"),)
    before, said, results = following(asked, answer, runs)
    assert (before,) == asked
    assert said.parts == (Text("Let me see."), *answer.tool_calls)
    assert [part.text for part in results.parts] == ['["a km"]']


def test_items_go_back_before_everything_else():
    items = ({"type": "reasoning", "id": "rs_1", "summary": []},)
    answer = Answer(tool_calls=(call("find", '{"query": "a"}'),), items=items)
    runs = box_of(find).run_all(answer.tool_calls, LIMIT_S)
    assert following((), answer, runs)[0].parts[0] == Raw(items)


def test_reasoning_that_nobody_stored_goes_back_only_with_its_content():
    bare = {"type": "reasoning", "id": "rs_1", "summary": []}
    sealed = {**bare, "encrypted_content": "gAAAA"}
    calls = (call("find", '{"query": "a"}'),)
    runs = box_of(find).run_all(calls, LIMIT_S)
    for item, kept in ((bare, ()), (sealed, (Raw((sealed,)),))):
        answer = Answer(tool_calls=calls, items=(item,))
        said, _ = following((), answer, runs, stored=False)
        assert said.parts == (*kept, *calls)


def test_calls_without_ids_of_their_own_get_some():
    calls = (call("find", '{"query": "a"}', ""), call("find", '{"query": "b"}', ""))
    answer = Answer(tool_calls=calls, items=({"type": "function_call"},))
    said, results = following((), answer, box_of(find).run_all(calls, LIMIT_S))
    assert [part.id for part in said.parts] == ["call_1", "call_2"]
    assert [part.call_id for part in results.parts] == ["call_1", "call_2"]


def test_runs_that_are_not_those_of_the_answer_are_a_mistake():
    with pytest.raises(ValueError, match="zip"):
        following((), Answer(tool_calls=(call("find"),)), ())


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_whole_round_with_a_server_that_checks_the_turns(api, sim):
    box = toolbox(["find"], {"find": find}, {})
    sim.script(Reply(calls=(Call("find", '{"query": "fox", "count": 2}'),), summary=("Hm.",)))
    provider = Provider("sim", base_url=sim.base_url, auth="none", endpoints=(api,))
    request = Request("o4-mini", (Message.of("user", "a fox?"),), tools=box.request_tools())

    def ask(request):
        draft = AnswerBuilder()
        for event in client.events(ClientCall(provider, api, request)):
            draft.add(event)
        return draft.answer()

    with closing(Client()) as client:
        answer = ask(request)
        assert answer.finish_reason == "tool_calls"
        runs = box.run_all(answer.tool_calls, LIMIT_S)
        assert [ran.text for ran in runs] == ['["fox km", "fox km"]']
        again = ask(replace(request, messages=following(request.messages, answer, runs)))
    assert again.finish_reason == "stop"
    assert again.text
    if api == "responses":
        assert [item["type"] for item in answer.items] == ["reasoning", "function_call"]


# Built-in tools


def test_python_runs_in_the_notebook_after_a_yes():
    names = {"x": 20}
    box = toolbox(["python"], names, {})
    code = call("python", {"code": "print('hi')\ny = x + 1\ny * 2"})
    assert box.run(code, LIMIT_S).ending == "declined"
    assert "y" not in names
    ran = box.run(code, LIMIT_S, lambda each: True)
    assert (ran.text, ran.printed) == ("printed:\nhi\n\nresult: 42", "hi\n")
    assert names["y"] == 21
    yes = {"timeout_s": LIMIT_S, "confirm": lambda each: True}
    assert box.run(call("python", {"code": "z = 1"}), **yes).text == "done"
    assert box.run(call("python", {"code": "None"}), **yes).text == "done"
    assert box.run(call("python", {"code": ""}), **yes).text == "done"
    assert box.run(call("python", {"code": "1/0"}), **yes).text.startswith("ZeroDivisionError")
    assert box.run(call("python", {"code": "a b"}), **yes).text.startswith("SyntaxError")
    assert len(box.run(call("python", {"code": "'x' * 10**6"}), **yes).text) < 25_000
    late = box.run(call("python", {"code": "while True: pass"}), SHORT_S, lambda each: True)
    assert late.ending == "late"


def test_python_needs_a_notebook():
    from types import MappingProxyType

    with pytest.raises(BadOption, match="needs the names of a notebook"):
        toolbox(["python"], MappingProxyType({}), {})


def test_sql_without_duckdb_says_how_to_get_it(monkeypatch):
    def gone(name):
        raise ImportError(name)

    monkeypatch.setattr(builtin, "import_module", gone)
    with pytest.raises(BadOption, match="needs DuckDB") as caught:
        toolbox(["sql"], {}, {})
    assert caught.value.hint == "%pip install duckdb"


@pytest.fixture
def sql():
    """Runs one query over two tables."""
    pytest.importorskip("duckdb")
    names = {
        "df": pandas.DataFrame({"a": range(1000), "b": ["x", "y"] * 500}),
        "_hidden": pandas.DataFrame({"a": [1]}),
        "secret": "s",
    }
    box = toolbox(["sql"], names, {})
    return lambda query, limit_s=LIMIT_S: box.run(call("sql", {"query": query}), limit_s)


def test_sql_reads_tables_of_the_notebook(sql):
    ran = sql("SELECT b, sum(a) AS s FROM df GROUP BY b ORDER BY b")
    assert json.loads(ran.text) == {"columns": ["b", "s"], "rows": [["x", 249500], ["y", 250000]]}
    many = json.loads(sql("SELECT * FROM df").text)
    assert len(many["rows"]) == 200
    assert "first 200" in many["note"]
    about = toolbox(["sql"], {"df": pandas.DataFrame({"a": [1]})}, {}).functions["sql"].description
    assert about.endswith("Tables: df(a)")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SELECT getenv('HOME')",
        "SELECT * FROM _hidden",
        "SELECT * FROM secret",
        "COPY df TO '/tmp/o3magic-stolen.csv'",
        "ATTACH '/tmp/o3magic-stolen.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW df",
        "DELETE FROM df",
        "",
        "nonsense",
    ],
)
def test_sql_does_nothing_but_read_tables(sql, query):
    ran = sql(query)
    assert ran.ending == "failed", ran.text
    assert "root" not in ran.text


def test_sql_that_takes_too_long_is_interrupted(sql):
    began = time.monotonic()
    ran = sql("SELECT count(*) FROM range(100000000000) a, range(1000) b", SHORT_S)
    assert ran.ending == "late"
    for thread in threading.enumerate():
        if thread.name == "o3magic-tool":
            thread.join(20)
            assert not thread.is_alive()
    assert time.monotonic() - began < 20


def test_the_web_search_of_the_provider():
    box = toolbox(["web_search"], {}, {})
    assert box.request_tools() == (HostedTool("web_search"),)
    assert box


# What people write: Field as a default, generators, methods, clients and connections of their own


def weather(city: str = Field(description="Name of the city", min_length=2)) -> str:
    """Say the weather."""
    return f"sun in {city}"


def greet(name: str = Field(default="you", description="Who")) -> str:
    """Greet."""
    return f"hello {name}"


def tags(words: list[str] = Field(default_factory=list)) -> int:  # noqa: B008
    """Count."""
    return len(words)


def test_a_field_as_a_default_says_what_it_says_and_gives_its_own_default():
    sent = tool_of(weather).request_tool().parameters["properties"]["city"]
    assert sent["description"].startswith("Name of the city")
    assert "null" not in json.dumps(sent)
    assert run(weather, '{"city": "Rome"}').text == "sun in Rome"
    assert run(weather).ending == "refused"
    assert run(weather, '{"city": "R"}').ending == "refused"
    assert run(greet).text == "hello you"
    assert run(tags).text == "0"


def test_a_generator_is_run_to_its_end_async_or_not():
    def count(to: int):
        yield from range(to)

    async def slowly(to: int):
        for n in range(to):
            await asyncio.sleep(0)
            yield n

    assert run(count, '{"to": 3}').text == "[0, 1, 2]"
    assert run(slowly, '{"to": 3}').text == "[0, 1, 2]"


def test_async_tools_share_one_event_loop_and_print_apart():
    loops = []

    async def look(n: int) -> int:
        loops.append(asyncio.get_running_loop())
        print("looked", n)  # noqa: T201
        return n

    box = box_of(look)
    runs = box.run_all([call("look", '{"n": 1}'), call("look", '{"n": 2}')], LIMIT_S)
    runs += (run(look, '{"n": 3}'),)
    assert [each.printed for each in runs] == ["looked 1\n", "looked 2\n", "looked 3\n"]
    assert len(set(map(id, loops))) == 1


def test_without_a_thread_it_runs_where_it_is_asked_and_prints_apart(capsys):
    connection = sqlite3.connect(":memory:")
    with contextlib.closing(connection):

        @tool(thread=False)
        def query(sql: str) -> str:
            """Ask the database."""
            print("asked")  # noqa: T201
            return str(connection.execute(sql).fetchall())

        made = run(query, '{"sql": "select 1"}')
        assert (made.text, made.printed) == ("[(1,)]", "asked\n")
        failed = run(query, '{"sql": "select"}')
        assert failed.ending == "failed"
    assert capsys.readouterr().out == ""


@tool
def doubled(n: int, times: int = 2) -> int:
    """Double it."""
    return n * times


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    @tool
    def price(self, item: str) -> str:
        """Say the price."""
        return f"{item} at {self.name}"


def test_a_tool_keeps_what_a_function_has():
    assert doubled.__doc__ == "Double it."
    assert doubled.__wrapped__(2) == 4
    assert str(inspect.signature(doubled)) == "(n: int, times: int = 2) -> int"
    assert pickle.loads(pickle.dumps(doubled)) is doubled


def test_a_method_is_a_tool_of_its_object():
    shop = Shop("the corner")
    assert shop.price("tea") == "tea at the corner"
    assert run(shop.price, '{"item": "tea"}').text == "tea at the corner"
    assert "self" not in json.dumps(tool_of(shop.price).request_tool().parameters)
    assert run(tool_of(Shop("the market").price), '{"item": "tea"}').text == "tea at the market"


def test_a_partial_is_a_tool_under_the_name_of_its_function():
    assert run(functools.partial(greet, name="Ann")).text == "hello Ann"

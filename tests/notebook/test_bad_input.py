"""Hostile and broken answers in a real kernel: nothing breaks, and the text is complete."""

import json

import pytest
from markdown_it import MarkdownIt

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import Kernel, Ran, chat_stream

PARAGRAPH = "A sentence with `code`, a formula $x_1$ and **weight**. " * 6 + "\n\n"
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
EVIL = "<img src=x onerror=alert(1)>"
EVIL_SCHEMA = f"""
from pydantic import BaseModel, Field
class Row(BaseModel):
    evil: str = Field(alias={EVIL!r})
    note: str = Field(alias="<script>alert(2)</script>|`x`|[a](javascript:b)")
"""


def streamed(*words: str, pieces: int = 1, pause_s: float = 0.0) -> Reply:
    """A stream with one chunk for each word."""
    body = chat_stream([*words])
    kind, size = "text/event-stream", len(body) // pieces
    return Reply(body=body, content_type=kind, piece_bytes=size, pause_s=pause_s)


def cpu_s(kernel: Kernel) -> float:
    """The CPU time of the kernel, which is the same on a busy machine."""
    return kernel.value("__import__('time').process_time()")


def markdown(ran: Ran) -> str:
    """All Markdown that a cell has sent, also what was replaced."""
    sent = [message["content"].get("data", {}) for message in ran.messages]
    return "\n\n".join(data["text/markdown"] for data in sent if "text/markdown" in data)


def shown(ran: Ran) -> str:
    """The final output of the cell."""
    return "".join(ran.texts())


def test_ten_megabytes_arrive_whole_and_are_sent_a_few_times_at_most(kernel, simulator):
    text = (PARAGRAPH * (10_000_000 // len(PARAGRAPH) + 1))[:10_000_000]
    simulator.script(streamed(*(text[at : at + 2_000] for at in range(0, len(text), 2_000))))
    began_s = cpu_s(kernel)
    ran = kernel.run("%%o3 --api chat -o big\ntell me", timeout_s=120)
    assert cpu_s(kernel) - began_s < 12
    assert ran.status == "ok", ran.error
    assert kernel.value("[len(big.text), big.finish_reason]") == [len(text), "stop"]
    assert "".join(shown(ran).split()).startswith("".join(text.split()))
    assert ran.sent_bytes < 8 * len(text)
    assert len(ran.messages) < 400


def test_a_hundred_thousand_chunks_are_a_few_messages(kernel: Kernel, simulator: Simulator):
    words = [f"w{n % 10} " if n % 50 else "\n\n" for n in range(100_000)]
    simulator.script(streamed(*words))
    began_s = cpu_s(kernel)
    ran = kernel.run("%%o3 --api chat -o many\ntell me", timeout_s=120)
    assert cpu_s(kernel) - began_s < 8
    assert ran.status == "ok", ran.error
    text = "".join(words)
    assert kernel.value("many.text") == text
    assert "".join(shown(ran).split()).startswith("".join(text.split()))
    assert len(ran.messages) < 400
    assert ran.sent_bytes < 8 * len(text)


@pytest.mark.parametrize(
    "half",
    [
        "Look:\n\n```python\nx = 1\n",
        "Look:\n\n~~~~\n```\nx",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 ",
        "| a | b |\n|--",
        "$$\n\\begin{align}\nx &= 1",
        "A [link](https://example.org/",
        "**bold and `code",
        "<details><summary>open",
        "> - 1. ```\n> - x",
    ],
)
def test_what_never_ends_ends_above_the_footer(kernel: Kernel, simulator: Simulator, half: str):
    simulator.script(streamed(*half))
    ran = kernel.run("%%o3 --api chat -o half\ntell me")
    assert ran.status == "ok", ran.error
    assert kernel.value("half.text") == half
    assert shown(ran) == half
    [page] = ran.texts("text/markdown")
    *_, rule, begun, words, ended = MarkdownIt().enable("table").parse(page)
    assert [rule.type, begun.type, ended.type] == ["hr", "paragraph_open", "paragraph_close"]
    assert [rule.level, begun.level] == [0, 0], "the footer stands in nothing that was left open"
    assert words.content.startswith("<small>")


def test_signs_that_turn_and_hide_text_do_not_reach_the_page(kernel: Kernel, simulator: Simulator):
    controls = "".join(map(chr, [*range(9), 11, 12, *range(14, 32), *range(127, 160)]))
    text = f"a{DIRECTIONS}b{INVISIBLE}c{controls}d \x1b]0;title\x07\x1b[31mred\x1b[0m end"
    simulator.script(streamed(*text))
    ran = kernel.run("%%o3 --api chat -o odd\ntell me")
    assert ran.status == "ok", ran.error
    assert kernel.value("odd.text") == text
    for page in (markdown(ran), *ran.texts(), *ran.texts("text/markdown")):
        assert not set(page) & (set(DIRECTIONS) | set(controls))
    assert shown(ran).startswith("ab")
    assert shown(ran).endswith(" end")
    assert kernel.run("print(odd.text.count(chr(0)))").stdout == "1\n"


def test_words_from_right_to_left_stay_as_they_are(kernel: Kernel, simulator: Simulator):
    text = "שלום **עולם**, سلام\u200cها"
    simulator.script(streamed(*text))
    ran = kernel.run("%%o3 --api chat\ntell me")
    assert shown(ran) == text
    assert "**עולם**" in ran.texts("text/markdown")[0]


@pytest.mark.parametrize("view", ["tree", "table"])
def test_names_of_fields_are_never_markup(kernel: Kernel, simulator: Simulator, view: str):
    assert kernel.run(EVIL_SCHEMA).status == "ok"
    names = [EVIL, "<script>alert(2)</script>|`x`|[a](javascript:b)"]
    data = {"items": [dict.fromkeys(names, EVIL) for _ in range(30)]}
    text = json.dumps(data)
    simulator.script(streamed(*(text[at : at + 40] for at in range(0, len(text), 40))))
    ran = kernel.run(f"%%o3 --api chat -s list[Row] -o rows --view {view}\nlist them")
    assert ran.status == "ok", ran.error
    assert kernel.value("[len(rows.parsed), rows.parsed[0].evil]") == [30, EVIL]
    schemas = kernel.run("%o3_schemas")
    simulator.script(Reply(json={"items": [{}]}), Reply(json={"items": [{}]}))
    wrong = kernel.run("%%o3 -s list[Row]\nlist them")
    assert wrong.error["ename"] == "InvalidAnswer"
    for page in (markdown(ran), markdown(schemas), markdown(wrong)):
        assert "<img" not in page
        assert "<script" not in page
        assert "](javascript" not in page
    assert not any("text/html" in out.get("data", {}) for out in ran.outputs + wrong.outputs)


def test_two_panels_and_the_settings_say_the_same(kernel: Kernel, simulator: Simulator):
    kernel.run("one = %o3_panel")
    kernel.run("two = %o3_panel")
    panels = "[[p.controls.effort.value, p.controls.model.value] for p in (one, two)]"
    kernel.run("%o3_config effort=high model=o4-mini")
    assert kernel.value(panels) == [["high", "o4-mini"]] * 2
    kernel.run("one.controls.effort.value = 'low'")
    assert kernel.value(panels) == [["low", "o4-mini"]] * 2
    kernel.run("%%o3\nhi")
    assert simulator.requests[-1].body["reasoning"] == {"effort": "low"}
    kernel.run("one.close()")
    kernel.run("%o3_config effort=medium")
    assert kernel.value("two.controls.effort.value") == "medium"


CLEARED = """
import contextvars, threading, time
from IPython.display import clear_output
def clear():
    for _ in range(5):
        time.sleep(0.1)
        clear_output(wait={wait})
thread = threading.Thread(target=contextvars.copy_context().run, args=(clear,))
thread.start()
cleared = get_ipython().run_cell_magic("o3", "--api chat", "tell me")
thread.join()
"""


@pytest.mark.parametrize("wait", [True, False])
def test_an_output_that_is_cleared_in_mid_stream_loses_no_answer(kernel, simulator, wait):
    words = [PARAGRAPH] * 20
    simulator.script(streamed(*words, pieces=40, pause_s=0.02))
    ran = kernel.run(CLEARED.format(wait=wait))
    assert ran.status == "ok", ran.error
    assert kernel.value("[cleared.text, cleared.finish_reason]") == ["".join(words), "stop"]
    assert shown(kernel.run("cleared")) == "".join(words)


def test_a_captured_answer_is_shown_nowhere_else(kernel: Kernel, simulator: Simulator):
    # The first use of all is the captured one: what is set up then must not stay captured.
    simulator.script(*[streamed("It is ", "**four**.")] * 3)
    ran = kernel.run("%%capture out\ngot = %o3 --api chat What is 2+2?")
    assert ran.status == "ok", ran.error
    assert ran.outputs == []
    assert kernel.value("[got.text, out.outputs[-1].data['text/plain'], out.stdout]") == [
        "It is **four**.",
        "It is **four**.",
        "",
    ]
    code = "from IPython.utils.capture import capture_output\nwith capture_output() as held:\n"
    code += "    get_ipython().run_cell_magic('o3', '--api chat', 'What is 2+2?')"
    assert kernel.run(code).outputs == []
    assert kernel.value("held.outputs[-1].data['text/plain']") == "It is **four**."
    after = kernel.run("%%o3 --api chat\nWhat is 2+2?")
    assert after.texts() == ["It is **four**."]
    assert kernel.run("out.show()").texts()[-1] == "It is **four**."


def test_a_captured_answer_of_many_segments_is_captured_whole(kernel: Kernel, simulator: Simulator):
    simulator.script(streamed(*[PARAGRAPH] * 30))
    ran = kernel.run("%%capture out\nlong = %o3 --api chat tell me")
    assert ran.outputs == []
    assert kernel.value("long.text") == PARAGRAPH * 30
    again = kernel.run("out.show()")
    assert "".join(shown(again).split()).startswith("".join((PARAGRAPH * 30).split()))


def test_print_may_go_elsewhere_meanwhile(kernel: Kernel, simulator: Simulator):
    simulator.script(streamed("It is ", "**four**."))
    ran = kernel.run(
        "import contextlib, io\nfile = io.StringIO()\n"
        "with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):\n"
        "    elsewhere = get_ipython().run_cell_magic('o3', '--api chat', 'What is 2+2?')"
    )
    assert ran.status == "ok", ran.error
    assert ran.texts() == ["It is **four**."]
    assert kernel.value("[elsewhere.text, file.getvalue()]") == ["It is **four**.", ""]

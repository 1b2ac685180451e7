"""What tools were asked and said, folded."""

import re

import pytest
from nbconvert import filters

from o3magic.events import ToolUsed
from o3magic.render import answer
from tests.render.test_hostile_markdown import PIECES

TAG = re.compile(r"<(?!/)[^>]*>")
OURS = {"<details>", "<summary>", "<p>", "<br>", "<br />", "<span>"}


def test_a_call_is_one_line_to_unfold():
    used = ToolUsed("area", '{"side": 3}', "9.0", "ok", "measuring 3", ("slow",))
    shown = answer.render_tool_uses([used])
    assert "\n" not in shown
    assert answer.tool_uses_text([used]) == '⚙ area({"side": 3}) → 9.0'
    for word in ("arguments", "printed", "measuring 3", "result", "⚠ slow"):
        assert word in shown


@pytest.mark.parametrize("ending", ["failed", "late", "declined", "refused"])
def test_a_call_that_did_not_work_says_so_in_its_line(ending):
    line = answer.tool_use_line(ToolUsed("area", "{}", "why", ending))
    assert "→" not in line
    assert answer.SIGNS[ending] in line


def test_what_is_long_is_cut_and_says_so():
    shown = answer.render_tool_uses([ToolUsed("f", "{}", "x" * 10_000, "ok")])
    assert "6,000 more characters" in shown
    assert len(shown) < 6_000


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_arguments_and_results_are_text_in_a_page(piece):
    text = f"{piece} <script>alert(1)</script>\n\n{piece}"
    used = ToolUsed(text, text, text, "ok", text, (text,))
    page = filters.markdown2html(answer.render_tool_uses([used, used]))
    assert {tag.lower() for tag in TAG.findall(page)} <= OURS
    assert page.count("<details>") == page.count("</details>") == 2

"""The line below an answer."""

import html
import re

import pytest
from nbconvert import filters

from o3magic.events import Answer, ToolCall
from o3magic.render.answer import remarks
from o3magic.render.markdown.escape import entities


@pytest.mark.parametrize("reason", ["interrupted", "error"])
def test_an_answer_without_an_end_says_whether_there_is_something_of_it(reason):
    [nothing] = remarks(Answer(finish_reason=reason))
    [words] = remarks(Answer(text="word", finish_reason=reason))
    [call] = remarks(Answer(tool_calls=(ToolCall("c1", "area", "{"),), finish_reason=reason))
    assert nothing.endswith(" before anything arrived")
    assert words == call
    assert words.endswith("; this is what had arrived")


@pytest.mark.parametrize(
    "text",
    [
        r"\[\href{javascript:x}{y}\] $x^2$ \begin{a}",
        "see http://a.test/x, HTTPS://b.test or www.c.test and d@e.test",
        "<b>x</b> *y* `z` [a](b) | c",
    ],
)
def test_words_in_a_footer_are_no_formula_no_link_and_no_markup(text):
    page = filters.markdown2html(entities(text))
    assert "<a " not in page
    # Each sign that could begin a formula is alone in its element.
    for piece in re.split(r"<[^>]*>", page):
        assert html.unescape(piece) in ("$", "\\") or not re.search(r"[$\\]", html.unescape(piece))
    assert html.unescape(re.sub(r"<[^>]*>", "", page)).strip() == text

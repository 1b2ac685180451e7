"""The pages an answer cites, below it: links of the web and nothing else."""

import html
import io
import re

import pytest
from nbconvert import filters
from rich.console import Console

from o3magic.citations import Citation
from o3magic.events import Answer, Finished, TextDelta
from o3magic.render import citations
from o3magic.render.answer import bundles
from o3magic.render.comparison import final
from o3magic.render.terminal import PlainAnswer, TerminalAnswer
from tests.render.test_hostile_markdown import PIECES

TWO = (
    Citation("https://example.org/a?b=1&c=2", "The *first* page", 0, 3),
    Citation("https://example.org/b"),
    Citation("https://example.org/a?b=1&c=2", "The same again", 5, 8),
)
TAG = re.compile(r"<(?!/)([a-z0-9]+)", re.IGNORECASE)


def links(markdown):
    page = filters.markdown2html(markdown)
    return [html.unescape(each) for each in re.findall(r'<a href="([^"]*)"', page)]


def test_each_page_is_a_numbered_link_once():
    shown = citations.markdown(TWO)
    assert links(shown) == ["https://example.org/a?b=1&c=2", "https://example.org/b"]
    lines = shown.split("\n")
    assert lines[:2] == ["Sources:", ""]
    assert lines[2].startswith("1. [The &#42;first&#42; page](")
    assert lines[3].startswith("2. [")
    assert citations.plain(TWO).split("\n") == [
        "Sources:",
        "1. The *first* page — https://example.org/a?b=1&c=2",
        "2. https://example.org/b",
    ]


def test_nothing_cited_is_nothing_shown():
    assert citations.markdown(()) == citations.plain(()) == ""


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "mailto:a@example.org",
        "file:///etc/passwd",
        "//example.org",
        "example.org",
        "http://@/lab",
        "http://:/lab",
        "https://example.org/a b",
        "https://exa\nmple.org",
        "https://x.example\x1b]8;;http://evil.example\x07",
        "https://example.org/" + "a" * 3000,
        "",
    ],
)
def test_what_is_no_page_of_the_web_is_no_link(url):
    for page in (Citation(url, "A page"), Citation(url)):
        assert links(citations.markdown([page])) == []
        assert "\x1b" not in citations.plain([page])
        assert "A page" in citations.markdown([page]) or not page.title
        assert url not in citations.plain([page]) or not url


@pytest.mark.parametrize("piece", [*PIECES, "](javascript:alert(1))", "]: x", "$x$ \\( \\["])
def test_hostile_titles_and_addresses_are_text(piece):
    good = "https://example.org/page"
    pages = [Citation(good, piece), Citation(f"{good}?q={piece}", piece), Citation(piece, piece)]
    page = filters.markdown2html(citations.markdown(pages))
    assert {tag.lower() for tag in TAG.findall(page)} <= {"p", "ol", "li", "a", "span"}
    for found in re.findall(r'href="([^"]*)"', page):
        assert html.unescape(found).startswith(("http://", "https://"))
    assert len(citations.plain(pages).split("\n")) <= 4


def test_what_is_too_much_says_so_and_long_titles_are_cut():
    many = [Citation(f"https://example.org/{n}", "t" * 500) for n in range(60)]
    assert len(links(citations.markdown(many))) == 50
    for shown in (citations.markdown(many), citations.plain(many)):
        assert shown.endswith("and 10 more, in answer.citations")
        assert "t" * 121 not in shown


def answer(**more):
    return Answer(text="1. It rains", model="m", citations=TWO, **more)


def test_they_are_below_the_words_and_above_the_footer():
    [shown] = bundles(answer())
    markdown = shown.data["text/markdown"]
    assert markdown.index("It rains") < markdown.index("Sources:") < markdown.index("<small>")
    page = filters.markdown2html(markdown)
    assert page.count("<ol>") == 2  # not one list with that of the answer
    assert shown.data["text/plain"] == "1. It rains"


def test_they_are_below_a_structured_answer_too():
    *_, shown = bundles(answer(data={"a": 1}))
    assert links(shown.data["text/markdown"])
    [table] = bundles(answer(data=[{"a": 1}]))
    assert len(links(table.data["text/markdown"])) == 2
    [raw] = bundles(answer(), raw=True)
    assert "1. The *first* page — https://example.org/a?b=1&c=2" in raw.data["text/plain"]
    [compared, *_] = final(["a"], [answer()], [""])
    assert len(links(compared.data["text/markdown"])) == 2


def test_they_are_in_a_terminal_and_in_a_pipe():
    terminal, pipe = io.StringIO(), io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=40)
    for live in (TerminalAnswer(console, model="m"), PlainAnswer(pipe)):
        with live:
            live.add(TextDelta("1. It rains"))
            live.finish(answer())
    for said in (terminal.getvalue(), pipe.getvalue()):
        assert "1. The *first* page — https://example.org/a?b=1&c=2\n" in said
        assert said.index("rains") < said.index("Sources:") < said.index("tokens unknown")


def test_an_end_without_citations_has_none():
    assert Finished("stop").citations == ()

"""Answers beside each other: while they grow, and as they stay."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from o3magic.events import Answer, Usage
from o3magic.render.comparison import TAIL_CHARS, final, plot, running, spaced, tail
from o3magic.render.markdown.sanitize import safe_markdown

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# A heading\n\nThe *series* of `1/n`", "A heading The series of 1/n"),
        ("it **diverges**, see [here](https://a.test).", "it diverges, see here."),
        ("- one\n- two\n> three\n\n---\n\n1. four", "one two three 1. four"),
        ("```python\nx = 2 * y\n```\nthen", "x = 2 * y then"),
        ("| a | b |\n|---|:-:|\n| 1 | 2 |", "a b 1 2"),
        ("so $x^2$ and snake_case and ~~not~~ __so__", "so x^2 and snake_case and not so"),
        ("a cut **bold and a cut [link](https://a", "a cut bold and a cut link"),
        ("one\n\n##", "one"),
        ("one\n-", "one"),
        ("2 * 3 and a*", "2 * 3 and a"),
    ],
)
def test_what_grows_is_words_without_the_signs_of_markdown(text, words):
    assert tail(text) == words


def test_of_a_long_text_the_last_words_are_shown_whole():
    shown = tail(" ".join(f"word{n}" for n in range(1000)))
    assert shown.startswith("…word")
    assert shown.endswith(" word999")
    assert len(shown) <= TAIL_CHARS + 1


def test_the_columns_are_as_wide_with_a_text_as_without():
    shapes = {
        re.sub(
            r">[^<]*<",
            "><",
            running(["low", "high"], ["answering"] * 2, texts).data["text/markdown"],
        )
        for texts in (["", ""], ["word " * 90, ""], ["<b>x</b>\n\n# y", "z"])
    }
    assert len(shapes) == 1


def test_a_hostile_tail_is_text_on_one_line():
    evil = "</div><script>top.pwn()</script>\n\n<img src=x onerror=top.pwn()> [a](javascript:x)"
    shown = running([evil], [evil], [evil]).data["text/markdown"]
    assert "\n" not in shown
    assert set(re.findall(r"<[^>]*>", shown)) <= {
        *re.findall(r"<[^>]*>", running(["a"], ["b"], ["c"]).data["text/markdown"])
    }


def test_a_paragraph_stands_apart_from_the_code_above_it():
    code = "````python\n```\nx\n````"
    shown = spaced(safe_markdown(f"{code}\n\nwords\n\n{code}\n\n- a\n\n  ```\n  b\n  ```"))
    assert shown.count("<p></p>") == 2
    for part in shown.split("<p></p>")[:2]:
        assert part.rstrip().endswith("\n````")


def test_a_fence_with_the_spaces_sign_in_it_is_left_alone():
    assert spaced("```text\n<p></p>\n```").count("\n<p></p>\n```") == 1


def answers():
    return [
        Answer(text="a", elapsed_s=n, usage=Usage(output_tokens=100 * n)) for n in (1.0, 2.0, 3.0)
    ]


def test_the_plot_has_no_ground_and_fits_on_a_narrow_page():
    drawn = plot(["low", "<medium>", "high"], answers())
    picture = ElementTree.fromstring(drawn.data["image/svg+xml"])
    width, height = float(picture.get("width")), float(picture.get("height"))
    assert picture.get("viewBox") == f"0 0 {width:.0f} {height:.0f}"
    assert width < 296  # what JupyterLab leaves of 400 pixels
    assert not [*picture.iter(f"{SVG}rect")]
    assert "<medium>" in [each.text for each in picture.iter(f"{SVG}text")]
    for dot in picture.iter(f"{SVG}circle"):
        assert 0 < float(dot.get("cx")) < width
        assert 0 < float(dot.get("cy")) < height
    for words in picture.iter(f"{SVG}text"):
        x, room = float(words.get("x")), 6.5 * len(words.text)
        left = x - room if words.get("text-anchor") == "end" else x
        assert left > 0
        assert left + room < width, words.text


def test_the_plot_of_made_up_answers_says_so_itself():
    made_up = [replace(each, source="simulated") for each in answers()]
    drawn = plot(["low", "medium", "high"], made_up).data
    assert "output tokens (SIMULATED)" in drawn["image/svg+xml"]
    assert "SIMULATED" in drawn["text/plain"]
    assert "SIMULATED" not in plot(["low", "medium", "high"], answers()).data["image/svg+xml"]


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(c * w for c, w in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def test_the_plot_can_be_read_on_white_and_on_black():
    svg = plot(["low", "high"], answers()[:2]).data["image/svg+xml"]
    for colour in set(re.findall(r'fill="(#\w{6})"', svg)):
        light = luminance(colour)
        assert 1.05 / (light + 0.05) > 3, colour
        assert (light + 0.05) / 0.055 > 3, colour


def test_the_end_shows_each_answer_with_its_figures():
    shown = final(["low", "high"], answers()[:2], ["", "RateLimited: wait"])[0].data
    assert "| output tokens | 100.0 | 200.0 |" in shown["text/markdown"]
    assert shown["text/markdown"].count("<details open>") == 2
    assert "RateLimited" in shown["text/markdown"]

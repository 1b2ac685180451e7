"""A growing answer is cut where it may be cut, however it arrived."""

import random

import pytest

from o3magic.render.markdown.segments import LEAST, LONGEST, MOST, Segments

PARAGRAPH = "One sentence after another, " * 20 + "and an end.\n\n"
FENCE = "```python\n" + "x = 1  # code\n\n" * 60 + "```\n\n"
LIST = "- item\n\n  more of it\n\n" * 40
TABLE = "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 80 + "\n"
QUOTE = "> said\n>\n> again\n\n" * 40
FORMULA = "\\[\n" + "x +\n\n" * 60 + "y\n\\]\n\n"
DOCUMENT = "".join([PARAGRAPH * 3, FENCE, PARAGRAPH, LIST, PARAGRAPH, TABLE, QUOTE, FORMULA] * 2)
MONSTERS = {
    "code": "```python\n" + "print('hello') # and so on\n" * 3_000 + "```\nend\n",
    "code in a list": "1. do\n   ```sh\n" + "   ls -l /tmp\n" * 5_000 + "   ```\n",
    "one line": "word " * 20_000,
    "one word": "x" * 100_000,
    "one line of code": "~~~\n" + "x" * 100_000 + "\n~~~\n",
    "a list": "- item\n" * 12_000,
    "one quotation": "> said\n" * 12_000,
}


def segments(*pieces: str) -> Segments:
    """Segments fed with `pieces`."""
    made = Segments()
    for piece in pieces:
        made.feed(piece)
    return made


def assert_same(one: Segments, other: Segments) -> None:
    assert one.closed == other.closed
    assert one.open == other.open
    assert one.rendered() == other.rendered()


def test_nothing_is_lost() -> None:
    made = segments(DOCUMENT)
    assert len(made.closed) > 5
    assert "".join(made.closed) + made.open == DOCUMENT


@pytest.mark.parametrize("text", [DOCUMENT, *MONSTERS.values()], ids=["document", *MONSTERS])
def test_segments_depend_on_the_text_and_not_on_its_pieces(text: str) -> None:
    whole, chance = segments(text), random.Random(3)
    assert_same(whole, segments(*text))
    for longest in (3, 40, 900, 40_000):
        pieces, at = [], 0
        while at < len(text):
            size = chance.randint(0, longest)
            pieces.append(text[at : at + size])
            at += size
        assert_same(whole, segments(*pieces))


@pytest.mark.parametrize("cut", range(0, 4_000, 7))
def test_two_pieces_are_as_good_as_one(cut: int) -> None:
    text = (PARAGRAPH + FENCE[:300] + "```\n\n" + LIST[:200] + PARAGRAPH) * 2
    assert_same(segments(text), segments(text[:cut], text[cut:]))


def test_a_segment_ends_where_a_block_ends() -> None:
    for block in segments(DOCUMENT).closed:
        assert len(block) >= LEAST
        assert block.endswith("\n\n")
        assert block.count("```") % 2 == 0
        assert block.count("\\[") == block.count("\\]")
    starts = [text.lstrip()[:2] for text in segments(DOCUMENT).closed]
    assert not {"  ", "| "} & set(starts)


def test_a_list_and_a_quotation_are_not_cut() -> None:
    text = "intro\n\n" + LIST * 3 + "end\n\n" + QUOTE * 3 + "end\n\n"
    for part in segments(text).closed:
        assert not part.startswith((" ", "- more"))
        assert part.count("- item") in (0, 120)
        assert part.count("> said") in (0, 120)


@pytest.mark.parametrize("size", [10_000, 200_000, 2_000_000])
def test_there_are_never_more_than_a_front_end_shows(size: int) -> None:
    made = segments(("A sentence of a few words.\n\n" * (size // 20))[:size])
    assert len(made.rendered()) <= MOST
    assert max(map(len, made.rendered())) < max(2 * LEAST, size / 3)


@pytest.mark.parametrize("text", MONSTERS.values(), ids=MONSTERS)
def test_what_offers_no_end_is_cut_all_the_same(text: str) -> None:
    made = segments(text)
    assert "".join(made.closed) + made.open == text
    assert 1 < len(made.rendered()) <= MOST
    assert all(len(part) <= LONGEST + 200 for part in made.rendered())


def test_code_that_is_cut_is_code_on_both_sides() -> None:
    made = segments(MONSTERS["code"])
    for part in made.rendered()[:-1]:
        assert part.startswith("```python\n")
        assert part.endswith("\n```")
    assert made.rendered()[-1].startswith("```python\n")
    assert all(part.endswith("\n") for part in made.closed)
    nested = segments(MONSTERS["code in a list"]).rendered()
    assert nested[0].startswith("1. do\n   ```sh\n")
    assert nested[1].startswith("   ```sh\n   ls")


def test_words_are_cut_between_words() -> None:
    assert all(part.endswith(" ") for part in segments(MONSTERS["one line"]).closed)


def test_an_empty_answer_is_one_empty_segment() -> None:
    assert segments("", "").rendered() == [""]
    assert segments().closed == []

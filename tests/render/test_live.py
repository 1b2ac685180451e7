"""A live answer: when what is sent, and what stays, whatever the order of arrival."""

import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import pytest

from o3magic.events import Answer, Event, ReasoningDelta, Retrying, TextDelta
from o3magic.render.answer import Bundle, footer_bundle, text_bundle
from o3magic.render.live import INTERVAL_S, LONGEST_S, MOST_MERGED_CHARS, PAUSE, LiveAnswer
from o3magic.render.markdown.segments import MOST

PARAGRAPH = "One sentence after another, and `code` in it: " * 12 + "an end.\n\n"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Page:
    """A front end: what stands on it, and when it was told what."""

    def __init__(self, clock: Callable[[], float], update_takes_s: float = 0.0) -> None:
        self.shown: dict[str, Bundle] = {}
        self.opened: list[str] = []
        self.told_s: list[float] = []
        self.threads: set[str] = set()
        self._clock, self._update_takes_s = clock, update_takes_s
        self._clear_next = False

    def show(self, bundle: Bundle, display_id: str) -> None:
        assert threading.current_thread() is threading.main_thread()
        if self._clear_next:
            self.shown, self._clear_next = {}, False
        assert display_id not in self.shown, "two displays with one id"
        self.shown[display_id] = bundle
        self.opened.append(display_id)
        self._told()

    def update(self, bundle: Bundle, display_id: str) -> None:
        assert display_id in self.shown, "an update of a display that is not there"
        self.shown[display_id] = bundle
        self._told()

    def clear(self) -> None:
        self._clear_next = True

    def _told(self) -> None:
        self.told_s.append(self._clock())
        self.threads.add(threading.current_thread().name)
        if isinstance(self._clock, Clock):
            self._clock.now_s += self._update_takes_s

    @property
    def texts(self) -> list[str]:
        """What is to be read on it, without the displays that say nothing."""
        return [text for b in self.shown.values() if (text := words(b))]


def words(bundle: Bundle) -> str:
    """What a display says: the open end of a stream has no text/plain of its own."""
    return bundle.data.get("text/plain", bundle.data.get("text/markdown", ""))


def live(page: Page, clock: Callable[[], float], **how: object) -> LiveAnswer:
    """A live answer on `page`."""
    ids = (f"d{n}" for n in itertools.count(1))
    return LiveAnswer(page, ids.__next__, model="m", clock=clock, **how)  # type: ignore[arg-type]


def answered(
    events: Iterable[Event | float], answer: Answer, **how: object
) -> tuple[Page, list[str]]:
    """The page after these events, numbers being seconds that pass, and what was on it before."""
    clock = Clock()
    page = Page(clock)
    with live(page, clock, **how) as showing:
        for event in events:
            if isinstance(event, float):
                clock.now_s += event
            else:
                showing.add(event)
        before = page.texts
        showing.finish(answer)
    return page, before


def cuts(text: str) -> list[list[str]]:
    """The text in one piece, in a few, in many, and in pieces of any length."""
    chance, found = random.Random(5), []
    for longest in (len(text), 9_000, 700, 40):
        pieces, at = [], 0
        while at < len(text):
            size = longest if longest == len(text) else chance.randint(1, longest)
            pieces.append(text[at : at + size])
            at += size
        found.append(pieces)
    return found


def streamed(pieces: Sequence[str], pause_s: float) -> list[Event | float]:
    return [each for piece in pieces for each in (TextDelta(piece), pause_s)]


def until(true: Callable[[], object]) -> bool:
    """Wait for it; whether it came true."""
    end_s = time.monotonic() + 5
    while not true() and time.monotonic() < end_s:
        time.sleep(0.005)
    return bool(true())


def test_the_first_words_go_out_at_once() -> None:
    clock = Clock()
    page = Page(clock)
    with live(page, clock) as showing:
        showing.add(TextDelta("First"))
        assert page.texts == ["First"]
        showing.add(TextDelta(" words"))
        assert page.texts == ["First"]
        clock.now_s += INTERVAL_S
        showing.add(TextDelta("."))
        assert page.texts == ["First words."]
        showing.finish(Answer("First words."))
    assert page.opened == ["d1"]


def test_a_stream_sends_ten_updates_a_second_at_most() -> None:
    clock = Clock()
    page = Page(clock)
    with live(page, clock) as showing:
        for _ in range(4_000):
            showing.add(TextDelta("a"))
            clock.now_s += 0.001
        # the line that waits, and the first words
        assert 25 <= len(page.told_s) <= 4 / INTERVAL_S + 2
        showing.finish(Answer("a" * 4_000))
    assert page.texts == ["a" * 4_000]


def test_where_an_update_takes_long_there_are_fewer() -> None:
    clock = Clock()
    page = Page(clock, update_takes_s=0.2)
    with live(page, clock) as showing:
        began_s = clock.now_s
        for _ in range(10_000):
            showing.add(TextDelta("a"))
            clock.now_s += 0.001
        spent_s = 0.2 * len(page.told_s)
        assert spent_s <= (clock.now_s - began_s) / (PAUSE + 1) + 0.4
        assert len(page.told_s) > 8
        showing.finish(Answer("a" * 10_000))
    assert page.texts == ["a" * 10_000]


class Scale(Page):
    """A page that weighs what it has to render."""

    chars = 0

    def show(self, bundle: Bundle, display_id: str) -> None:
        self.chars += len(bundle.data.get("text/markdown", ""))
        super().show(bundle, display_id)

    def update(self, bundle: Bundle, display_id: str) -> None:
        self.chars += len(bundle.data.get("text/markdown", ""))
        super().update(bundle, display_id)


@pytest.mark.parametrize(("chars_per_s", "most"), [(1_000, 8), (20_000, 4), (50_000, 3)])
def test_a_long_stream_is_sent_a_few_times_over_and_never_stands_still(
    chars_per_s: int, most: int
) -> None:
    text = (PARAGRAPH * 900)[: 10 * chars_per_s]
    clock = Clock()
    page = Scale(clock)
    with live(page, clock) as showing:
        for at in range(0, len(text), chars_per_s // 100):
            showing.add(TextDelta(text[at : at + chars_per_s // 100]))
            clock.now_s += 0.01
        told_s = page.told_s
        assert page.chars < most * len(text)
        assert max(b - a for a, b in itertools.pairwise(told_s)) < LONGEST_S + 0.1
        showing.finish(Answer(text))


def test_the_timer_sends_the_tail_when_nothing_more_comes() -> None:
    page = Page(time.monotonic)
    with live(page, time.monotonic) as showing:
        showing.add(TextDelta("a"))
        showing.add(TextDelta("b"))
        assert page.texts == ["a"]
        assert until(lambda: page.texts == ["ab"])
        assert page.told_s[-1] - page.told_s[-2] >= INTERVAL_S * 0.9
        assert "o3magic-live" in page.threads
        showing.finish(Answer("ab"))


def test_the_timer_opens_no_display_and_loses_nothing() -> None:
    page = Page(time.monotonic)
    text = PARAGRAPH * 6
    with live(page, time.monotonic) as showing:
        showing.add(TextDelta(text[:5]))
        showing.add(TextDelta(text[5:]))
        assert until(lambda: "".join("".join(page.texts).split()) == "".join(text.split()))
        assert page.opened == ["d1"]
        showing.finish(Answer(text))


def test_nothing_is_lost_when_the_end_comes_at_once() -> None:
    page, _ = answered([TextDelta("a"), TextDelta("b"), TextDelta("c")], Answer("abc"))
    assert list(page.shown.values()) == [text_bundle(Answer("abc"))]


def test_nothing_is_lost_when_it_ends_without_an_end() -> None:
    clock = Clock()
    page = Page(clock)
    with live(page, clock) as showing:
        showing.add(TextDelta("a"))
        showing.add(TextDelta("b"))
    assert page.texts == ["ab"]


@pytest.mark.parametrize("owns_cell", [True, False])
@pytest.mark.parametrize("first", ["Half an answer", PARAGRAPH * 9])
def test_another_attempt_takes_away_what_the_last_one_said(owns_cell: bool, first: str) -> None:
    text = PARAGRAPH * 4
    clock = Clock()
    page = Page(clock)
    with live(page, clock, owns_cell=owns_cell) as showing:
        for piece in (first[:900], first[900:]):
            showing.add(TextDelta(piece))
            clock.now_s += 1
        showing.add(Retrying("the server hung up", 2.0))
        assert len(page.texts) == 1
        assert "is asked again in 2 s (the server hung up)" in page.texts[0]
        for piece in (text[:1_500], text[1_500:]):
            showing.add(TextDelta(piece))
            clock.now_s += 1
        assert "".join(page.texts).rstrip() == text.rstrip()
        showing.finish(Answer(text))
    assert "".join(page.texts).startswith(text)
    assert len(page.opened) - len(set(page.opened)) == (len(page.opened) > 1 and owns_cell)


def test_an_answer_is_merged_into_one_display() -> None:
    text = PARAGRAPH * 20
    for pieces in cuts(text):
        page, before = answered(streamed(pieces, 0.03), Answer(text))
        assert "".join(before) == text[: len("".join(before))]
        assert list(page.shown.values()) == [text_bundle(Answer(text))]
        assert list(page.shown) == ["d1"]


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("owns_cell", "text"),
    [
        (True, PARAGRAPH * (MOST_MERGED_CHARS // len(PARAGRAPH) + 1)),
        (True, PARAGRAPH * 2_000),
        (False, PARAGRAPH * 20),
    ],
)
def test_what_stays_in_segments_is_the_same_however_it_arrived(
    owns_cell: bool, text: str, raw: bool
) -> None:
    stayed = []
    for pieces in cuts(text)[:3]:
        for pause_s in (0.0, 0.04):
            events = streamed(pieces, pause_s)
            page, _ = answered(events, Answer(text), owns_cell=owns_cell, raw=raw)
            stayed.append(list(page.shown.values()))
            assert len(set(page.opened)) == len(page.opened) <= MOST + 1
    assert all(each == stayed[0] for each in stayed)
    *words, footer = stayed[0]
    assert "".join(each.data["text/plain"] for each in words) == text
    assert footer == footer_bundle(Answer(text))


def test_a_short_answer_in_a_cell_of_many_is_one_display() -> None:
    page, _ = answered(
        [TextDelta("So"), TextDelta(" it is.")], Answer("So it is."), owns_cell=False
    )
    assert list(page.shown.values()) == [text_bundle(Answer("So it is."))]


def test_a_refusal_after_half_an_answer_is_shown() -> None:
    answer = Answer(refusal="I cannot.")
    events = [*streamed([PARAGRAPH * 3, PARAGRAPH], 0.2), Retrying("again", 0.0)]
    page, _ = answered(events, answer, owns_cell=False)
    assert page.texts == ["I cannot."]


def test_reasoning_stands_above_the_words() -> None:
    text = PARAGRAPH * 3
    events: list[Event | float] = [ReasoningDelta("Think."), *streamed([text[:99], text[99:]], 0.2)]
    clock = Clock()
    page = Page(clock)
    with live(page, clock) as showing:
        for event in events:
            if isinstance(event, float):
                clock.now_s += event
            else:
                showing.add(event)
        assert "Think." in page.shown["d1"].data["text/markdown"]
        assert "".join(page.texts).rstrip() == text.rstrip()
        showing.finish(Answer(text, reasoning_summary="Think."))
    assert len(page.shown) == 1


def test_another_attempt_thinks_anew() -> None:
    text = PARAGRAPH * 3
    first = [ReasoningDelta("Once."), *streamed([text], 0.2), Retrying("again", 0.0)]
    events = [*first, ReasoningDelta("Twice."), *streamed([text[:9], text[9:]], 0.2)]
    page, before = answered(events, Answer(text, reasoning_summary="Twice."), owns_cell=False)
    assert "".join(before).rstrip() == text.rstrip()
    shown = [each.data["text/markdown"] for each in page.shown.values()]
    assert "Twice." in shown[0]
    assert "Once." not in "".join(shown)


def test_a_table_that_stays_the_same_is_sent_once_a_second() -> None:
    text = json.dumps([{"item": f"item{n}"} for n in range(2_000)])
    half = len(text) // 2
    clock, reads = Clock(), []

    def read(so_far: str) -> object:
        reads.append(len(so_far))
        return [{"item": "coffee"}] * (1 + so_far.count("item999"))

    page = Page(clock)
    with live(page, clock, schema="Row", partial=read) as showing:
        showing.add(TextDelta(text[:half]))
        told = len(page.told_s)
        assert "coffee" in page.shown["d1"].data["text/markdown"]
        for _ in range(300):  # three seconds in which less than a tenth comes
            clock.now_s += 0.01
            showing.add(TextDelta(text[half : half + 2]))
        assert 2 <= len(page.told_s) - told <= 3
        assert f"{half + 600:,}"[:-3] in page.texts[0]
        clock.now_s += 0.2
        showing.add(TextDelta(text[half:]))
        assert page.shown["d1"].data["text/markdown"].count("coffee") == 2
        showing.finish(Answer(text, data=[{"item": "tea"}], schema_name="Row"))
    assert len(reads) == 2


def test_after_the_end_the_timer_says_nothing() -> None:
    page = Page(time.monotonic)
    with live(page, time.monotonic) as showing:
        showing.add(TextDelta("a"))
        showing.add(TextDelta("b"))
        showing.finish(Answer("a b"))
        told = len(page.told_s)
        time.sleep(2 * INTERVAL_S)
    assert len(page.told_s) == told
    assert list(page.shown.values()) == [text_bundle(Answer("a b"))]


@pytest.mark.parametrize("owns_cell", [True, False])
def test_where_nothing_came_nothing_stays(owns_cell: bool) -> None:
    clock = Clock()
    page = Page(clock)
    with live(page, clock, owns_cell=owns_cell) as showing:
        showing.dismiss()
    assert page.texts == [] or page._clear_next

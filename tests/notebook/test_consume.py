"""The hint of an error: the name that has the partial answer, and its cost."""

from decimal import Decimal

import pytest

from o3magic.errors import BrokenAnswer, Interrupted, RateLimited
from o3magic.events import Answer
from o3magic.notebook.background import build_hint

CUT = {"text": "words", "finish_reason": "interrupted"}


@pytest.mark.parametrize(
    ("answer", "out", "expected"),
    [
        (Answer(**CUT), "", "what had arrived is kept in _; its cost is unknown until the"),
        (Answer(**CUT), "kept", "what had arrived is kept in kept; its cost is unknown until the"),
        (Answer(**CUT, source="simulated"), "kept", "is kept in kept; it cost nothing"),
        (Answer(**CUT, source="replayed"), "", "is kept in _; it cost nothing"),
        (Answer(**CUT, cost_usd=Decimal("0.0123")), "", "kept in _; it cost $0.0123"),
        (Answer(finish_reason="interrupted"), "kept", "nothing had arrived; its cost is unknown"),
    ],
)
def test_a_stopped_answer_says_where_it_is_and_what_it_cost(answer, out, expected):
    assert expected in build_hint(Interrupted("stopped by you"), answer, out)


def test_a_broken_answer_says_where_it_is():
    error = BrokenAnswer("it broke off")
    assert build_hint(error, Answer(text="a"), "kept") == (
        "run the cell again; what had arrived is kept in kept"
    )
    assert build_hint(error, Answer(), "kept") == "run the cell again"


def test_a_hint_of_its_own_is_kept():
    assert build_hint(Interrupted("stopped", hint="mine"), Answer(), "") == "mine"
    assert build_hint(RateLimited("wait"), Answer(), "kept") == RateLimited.hint

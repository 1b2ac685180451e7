"""Errors: what happened, what to try, and near names."""

import inspect
import re

import pytest

from o3magic import errors
from o3magic.errors import ModelRetired, NotStrict, O3Error, RequestFailed, did_you_mean, near

CLASSES = [
    each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, O3Error)
]


def drawn_tree():
    """{class: parent} out of the module's docstring."""
    parents, path = {}, []
    for line in errors.__doc__.splitlines():
        if found := re.match(r"([│├└─ ]*)([A-Z]\w+)( {2,}|$)", line):
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            if depth:
                parents[found[2]] = path[depth - 1]
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    real = {each.__name__: each.__base__.__name__ for each in CLASSES if each is not O3Error}
    assert drawn_tree() == real


def test_an_error_shows_what_happened_and_what_to_try_and_no_traceback():
    error = O3Error("the light went out", hint="a candle")
    assert error._render_traceback_() == ["O3Error: the light went out", "  try: a candle"]


def test_an_error_without_advice_is_one_line():
    assert O3Error("the light went out").lines() == ["O3Error: the light went out"]


def test_an_own_hint_is_closer_than_the_class_s():
    assert errors.WrongKey("no").hint == errors.WrongKey.hint != ""
    assert errors.WrongKey("no", hint="look under the mat").hint == "look under the mat"
    assert errors.WrongKey.hint != "look under the mat"


def test_a_request_s_id_is_shown_for_the_provider_s_support():
    error = ModelRetired(
        "gone", hint="another", request_id="req_1", status=404, code="x", param="y"
    )
    assert error.lines() == ["ModelRetired: gone", "  try: another", "  request id: req_1"]
    assert (error.status, error.code, error.param) == (404, "x", "y")


def test_what_had_arrived_travels_with_the_error():
    assert O3Error("broke").answer is None
    assert O3Error("broke", answer="half").answer == "half"


def test_a_schema_that_cannot_be_strict_says_where():
    assert NotStrict("a map", path="/properties/rates").path == "/properties/rates"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_can_be_made_from_a_message_alone_and_is_an_o3_error(kind):
    error = kind("something")
    assert isinstance(error, O3Error)
    assert error.lines()[0] == f"{kind.__name__}: something"


@pytest.mark.parametrize(
    ("kind", "billed"),
    [
        (errors.WrongKey, False),
        (errors.RateLimited, False),
        (errors.ProviderDown, None),
        (errors.NoConnection, None),
        (errors.BrokenAnswer, None),
    ],
)
def test_a_request_that_may_have_been_answered_may_have_been_billed(kind, billed):
    assert issubclass(kind, RequestFailed)
    assert kind("x").billed is billed


def test_near_names_come_best_first_and_not_too_many():
    known = ["o1", "o3", "o3-mini", "o4-mini", "o1-mini", "gpt-5-mini"]
    assert near("o3-mni", known)[0] == "o3-mini"
    assert len(near("o-mini", known)) == 3


def test_names_are_near_whatever_their_case_and_keep_their_own():
    assert near("INVOICE", ["Invoice", "Order"]) == ["Invoice"]


def test_where_nothing_is_near_something_else_is_said():
    assert did_you_mean("efort", ["effort", "model"]) == "did you mean effort?"
    assert did_you_mean("low", ["lo", "slow"]) == "did you mean slow or lo?"
    assert did_you_mean("qqq", ["effort"], "one of effort") == "one of effort"
    assert did_you_mean("qqq", []) == ""

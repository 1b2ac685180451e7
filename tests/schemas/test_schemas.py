"""Types a user names become schemas to ask with, and answers become objects of those types."""

from __future__ import annotations

import copy
import enum
import json
import math
import re
import sys
import time
import types
import typing
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as with_default
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional

import jsonschema
import pydantic.dataclasses
import pytest
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, NaiveDatetime, RootModel, model_validator
from typing_extensions import TypedDict

from o3magic.errors import NotASchema, NotStrict, UnknownSchema
from o3magic.schemas.lookup import (
    AnswerType,
    SchemaMismatch,
    answer_type,
    list_types,
    resolve_answer_type,
)
from o3magic.wire.strict_schema import AZURE


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    amount: float
    note: str = "-"
    tags: set[str] = set()


class Invoice(BaseModel):
    """A bill."""

    number: str = Field(alias="no", min_length=2)
    lines: list[Line] = []
    best: Line | None = None
    paid: date | None = date(2020, 1, 1)
    color: Color = Color.RED


class Node(BaseModel):
    name: str
    children: list[Node] = []
    parent: Node | None = Field(default=None, description="above it")


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog", "wolf"] = "dog"
    lives: int | None = 1


class Home(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Span(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    begin: date
    end: date

    @model_validator(mode="after")
    def in_order(self) -> Span:
        if self.end < self.begin:
            raise ValueError("ends before\n it begins")
        return self


class Point(NamedTuple):
    x: int
    label: str = "p"


class Row(TypedDict):
    a: int
    b: NotRequired[str]
    c: NotRequired[str | None]


@dataclass
class Part:
    size: int
    colors: frozenset[Color] = frozenset()
    spans: list[str] = with_default(default_factory=lambda: ["all"])


@pydantic.dataclasses.dataclass(slots=True)
class Slotted:
    names: set[str]
    at: Point = Point(1)


class Größe(BaseModel):
    größe: int
    名前: str


class Plain:
    pass


class Everything(BaseModel):
    when: datetime
    takes: timedelta
    price: Decimal
    id: uuid.UUID
    url: AnyUrl
    path: Path
    share: float = Field(gt=0, lt=1)
    choice: Literal["a", 1, None]
    pair: tuple[int, str]
    code: str = Field(pattern="^[a-z]+$", max_length=5)
    many: list[int] = Field(min_length=1, max_length=3)


EVERYTHING = {
    "when": "2026-01-02T03:04:05Z",
    "takes": "PT1H",
    "price": "1.10",
    "id": "12345678-1234-5678-1234-567812345678",
    "url": "https://example.org/",
    "path": "a/b",
    "share": 0.5,
    "choice": 1,
    "pair": [1, "x"],
    "code": "abc",
    "many": [1],
}
LINE = {"amount": 1, "note": None, "tags": None}

ROUND_TRIPS: list[tuple[Any, Any, Any]] = [
    (Line, LINE, Line(amount=1)),
    (
        Invoice,
        {"no": "42", "lines": [LINE], "best": None, "paid": None, "color": None},
        Invoice(no="42", lines=[Line(amount=1)], paid=None),
    ),
    (list[Line], {"items": [LINE]}, [Line(amount=1)]),
    (tuple[int, str], {"items": [1, "a"]}, (1, "a")),
    (set[Color], {"items": ["red"]}, {Color.RED}),
    (Point, {"items": [1]}, Point(1)),
    (int, {"value": 3}, 3),
    (float | None, {"value": None}, None),
    (date, {"value": "2026-11-20"}, date(2026, 11, 20)),
    (Decimal, {"value": "1.10"}, Decimal("1.10")),
    (Color, {"value": "blue"}, Color.BLUE),
    (Literal["low", 2, True, None], {"value": 2}, 2),
    (Line | Point, {"value": LINE}, Line(amount=1)),
    (Optional[Cat], {"value": {"kind": "cat", "lives": None}}, Cat()),  # noqa: UP045
    (Home, {"pet": {"kind": "cat", "lives": None}}, Home(pet=Cat())),
    (Home, {"pet": {"kind": "wolf", "lives": None}}, Home(pet=Dog(kind="wolf", lives=None))),
    (list[Cat | Dog], {"items": [{"kind": "dog", "lives": None}]}, [Dog(lives=None)]),
    (Row, {"a": 1, "b": None, "c": None}, {"a": 1, "c": None}),
    (Part, {"size": 1, "colors": None, "spans": None}, Part(1)),
    (Slotted, {"names": ["x"], "at": None}, Slotted({"x"})),
    (Größe, {"größe": 1, "名前": "x"}, Größe(größe=1, 名前="x")),
    (
        Node,
        {
            "name": "a",
            "children": [{"name": "b", "children": None, "parent": None}],
            "parent": None,
        },
        Node(name="a", children=[Node(name="b")]),
    ),
    (
        Span,
        {"begin": "2026-01-01", "end": "2026-01-02"},
        Span(begin=date(2026, 1, 1), end=date(2026, 1, 2)),
    ),
    (RootModel[list[int]], {"items": [1]}, RootModel[list[int]]([1])),
    (RootModel[Line], LINE, RootModel[Line](Line(amount=1))),
    (Everything, EVERYTHING, Everything(**EVERYTHING)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("kind", "data", "parsed"), ROUND_TRIPS)
def test_what_the_strict_schema_allows_becomes_the_object(
    kind: Any, data: Any, parsed: Any
) -> None:
    asked = answer_type(kind)
    given = copy.deepcopy(data)
    jsonschema.Draft202012Validator.check_schema(asked.request_schema().schema)
    jsonschema.validate(data, asked.request_schema().schema)
    assert asked.validate(json.dumps(data)) == parsed
    assert data == given


@pytest.mark.parametrize(("kind", "data", "parsed"), ROUND_TRIPS)
def test_a_dump_is_json_and_becomes_the_object_again(kind: Any, data: Any, parsed: Any) -> None:
    asked = answer_type(kind)
    dumped = json.dumps(asked.dump(parsed))
    if kind is not Invoice:  # whose answer goes by the alias
        assert asked.validate(dumped) == parsed


def test_a_dump_goes_by_the_names_of_the_fields_in_their_order() -> None:
    dumped = answer_type(list[Invoice]).dump([Invoice(no="42", paid=None)])
    assert dumped == [{"number": "42", "lines": [], "best": None, "paid": None, "color": "red"}]
    assert list(dumped[0]) == list(Invoice.model_fields)


def test_sets_are_dumped_in_the_same_order_every_time() -> None:
    words = {"pear", "apple", "fig", "plum"}
    assert answer_type(Slotted).dump(Slotted(words))["names"] == sorted(words)
    assert answer_type(list[Line]).dump([Line(amount=1, tags=words)])[0]["tags"] == sorted(words)
    assert answer_type(RootModel[set[str]]).dump(RootModel[set[str]](words)) == sorted(words)
    assert answer_type(Row).dump({"a": 1}) == {"a": 1}


def test_a_root_that_is_no_object_is_wrapped_and_the_wire_name_is_plain() -> None:
    lines = resolve_answer_type("list[Line]", globals(), {})
    schema = lines.request_schema()
    assert (lines.name, lines.wire_name, schema.name) == ("list[Line]", "list_Line", "list_Line")
    assert schema.strict
    assert list(schema.schema["properties"]) == ["items"]
    assert list(answer_type(int).request_schema().schema["properties"]) == ["value"]
    assert "amount" in answer_type(Line).request_schema().schema["properties"]


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("Größe", "Gr_e"),
        ("名前", "answer"),
        ("Invoice | None", "Invoice_None"),
        ("A" * 99, "A" * 64),
    ],
)
def test_every_name_has_one_the_provider_takes(name: str, wire: str) -> None:
    assert answer_type(int, name).wire_name == wire


def test_a_type_without_a_given_name_is_shown_as_it_is_written() -> None:
    shown = [answer_type(kind).name for kind in (Line, list[Line], Line | None, int)]
    assert shown == ["Line", "list[Line]", "Line | None", "int"]


def test_the_limits_of_the_provider_are_passed_on() -> None:
    big = pydantic.create_model("Big", **{f"f{i}": (int, ...) for i in range(101)})  # type: ignore[call-overload]
    assert answer_type(big).request_schema()
    with pytest.raises(NotStrict, match=r"Big\.f100 is one of more than 100 fields"):
        answer_type(big).request_schema(AZURE)


NAMES: dict[str, Any] = {
    "Invoice": Invoice,
    "Line": Line,
    "Color": Color,
    "Part": Part,
    "Row": Row,
    "Größe": Größe,
    "BaseModel": BaseModel,
    "RootModel": RootModel,
    "Enum": enum.Enum,
    "_Hidden": Line,
    "Plain": Plain,
    "HTTPStatus": __import__("http").HTTPStatus,
    "AnswerType": AnswerType,
    "a_line": Line(amount=1),
    "total": math.fsum,
    "pi": 3.14,
    "schema": {"type": "object"},
    "shop": types.SimpleNamespace(Line=Line),
    "math": math,
    "list": list,
    "models": sys.modules[__name__],
    "Lines": list[Line],
    "Literal": Literal,
}


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("Invoice", Invoice),
        (" Größe ", Größe),
        ("list[Invoice]", list[Invoice]),
        ("models.Invoice", Invoice),
        ("list[models.Line]", list[Line]),
        ("Invoice | None", Invoice | None),
        ("None | Line", Line | None),
        ("Optional[Line]", Line | None),
        ("Union[Line, Row]", Line | Row),
        ("tuple[int, ...]", tuple[int, ...]),
        ("tuple[int, Line]", tuple[int, Line]),
        ("set[Color]", set[Color]),
        ("list['Line']", list[Line]),
        ("Literal['a', -1, None]", Literal["a", -1, None]),
        ("Lines", list[Line]),
        ("date", date),
        ("Decimal", Decimal),
        ("Remote", Part),
    ],
)
def test_an_expression_names_a_type(expression: str, kind: Any) -> None:
    assert (
        resolve_answer_type(expression, NAMES, {"Remote": Part, "Line": Part}).python_type == kind
    )


def test_the_notebooks_names_come_before_the_registered_ones_and_those_before_builtins() -> None:
    assert resolve_answer_type("date", {}, {"date": Line}).python_type is Line
    assert resolve_answer_type("date", {"date": Part}, {"date": Line}).python_type is Part
    registered = {"Bill": answer_type(Line, "Bill")}
    assert resolve_answer_type("Bill", {}, registered) is registered["Bill"]
    assert resolve_answer_type("list[Bill]", {}, registered).python_type == list[Line]


@pytest.mark.parametrize(
    ("expression", "message", "hint"),
    [
        ("Invoce", "there is no schema named Invoce", "did you mean Invoice"),
        ("invoice", "there is no schema named invoice", "did you mean Invoice?"),
        ("list[Groesse]", "there is no schema named Groesse", "did you mean Größe?"),
        ("models.Slottet", "there is no schema named models.Slottet", "did you mean Slotted?"),
        ("Lines.gone", "there is no schema named Lines.gone", "define it in a cell"),
        ("flot", "there is no schema named flot", "did you mean float?"),
        ("xyzzy", "there is no schema named xyzzy", "define it in a cell"),
        ("Remotes", "there is no schema named Remotes", "did you mean Remote"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_one(
    expression: str, message: str, hint: str
) -> None:
    with pytest.raises(UnknownSchema) as caught:
        resolve_answer_type(expression, NAMES, {"Remote": Part})
    assert str(caught.value) == message
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("expression", "message", "hint"),
    [
        ("a_line", "a_line is an object, Line(...)", "use its class: Line"),
        ("list[a_line]", "a_line is an object, Line(...)", "use its class: Line"),
        ("a_line.tags", "a_line is an object, Line(...)", "use its class: Line"),
        ("total", "total is a function, not a type", "a pydantic model"),
        ("pi", "pi is an object of type float, not a type", "a pydantic model"),
        ("schema", "schema is a dict, not a type", "write it as a class"),
        ("math", "math is a module", "name a class in it"),
        ("math.pi", "math.pi is an object of type float", "a pydantic model"),
        ("BaseModel", "BaseModel is what models are made from", "class Invoice(BaseModel)"),
        ("Plain", "Plain has no schema", "make it a pydantic model"),
        ("list[Plain]", "list[Plain]: Plain has no schema", "make it a pydantic model"),
        ("Line[int]", "`Line[int]` is not a type:", ""),
        ("Any", "Any says nothing about the answer", ""),
        ("__import__('os')", "`__import__('os')` is not the name of a type", ""),
        ("[x for x in ()]", "`[x for x in ()]` is not the name of a type", ""),
        ("Line or Invoice", "`Line or Invoice` is not the name of a type", ""),
        ("Literal[Line]", "`Line` holds more than text and numbers", "Literal["),
        ("list[", "`list[` is not the name of a type", "a name such as Invoice"),
        ("", "`` is not the name of a type", "a name such as Invoice"),
        ("...", "... is an object of type ellipsis", ""),
    ],
)
def test_what_is_no_type_is_told_what_it_is(expression: str, message: str, hint: str) -> None:
    with pytest.raises(NotASchema) as caught:
        resolve_answer_type(expression, NAMES, {})
    assert str(caught.value).startswith(message)
    assert caught.value.hint.startswith(hint)
    assert len(caught.value.lines()) == 2


def test_naming_a_type_calls_nothing_of_the_notebook() -> None:
    class Trap:
        @property
        def tags(self) -> None:
            raise AssertionError

    with pytest.raises(NotASchema):
        resolve_answer_type("trap.tags", {"trap": Trap()}, {})


def test_a_map_is_a_type_but_not_a_strict_schema() -> None:
    for expression in ("dict", "dict[str, int]", "list[dict]"):
        with pytest.raises(NotStrict, match="is a map with free keys"):
            resolve_answer_type(expression, NAMES, {}).request_schema()


def test_known_types_are_those_someone_wrote_to_describe_data() -> None:
    known = list_types(NAMES, {"Remote": Part, "Line": Line})
    assert known == ["Invoice", "Line", "Color", "Part", "Row", "Größe", "Remote"]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The namespace of a notebook: the module `__main__`."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module.__dict__


def run(cell: str, names: dict[str, Any]) -> None:
    exec(
        "from pydantic import BaseModel, NaiveDatetime\nfrom dataclasses import dataclass\n" + cell,
        names,
    )


def test_classes_of_a_notebook_find_one_another(notebook: dict[str, Any]) -> None:
    run("class Bill(BaseModel):\n    line: 'Later'\n    next: 'Bill | None' = None", notebook)
    run("@dataclass\nclass Later:\n    x: int", notebook)
    bill = resolve_answer_type("Bill", notebook, {})
    assert bill.name == "Bill"
    assert bill.validate('{"line": {"x": 1}, "next": null}').line.x == 1
    assert list_types(notebook, {}) == ["Bill", "Later"]


@pytest.mark.parametrize("head", ["class Bill(BaseModel):", "@dataclass\nclass Bill:"])
def test_a_name_that_is_not_defined_yet_is_told(notebook: dict[str, Any], head: str) -> None:
    run(f"{head}\n    line: 'Later'", notebook)
    with pytest.raises(NotASchema) as caught:
        resolve_answer_type("list[Bill]", notebook, {})
    assert str(caught.value) == "list[Bill] names Later, which is not defined"
    assert caught.value.hint.startswith("define Later")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes typing.TypedDict there")
def test_a_typed_dict_of_typing_is_told_where_to_come_from(notebook: dict[str, Any]) -> None:
    notebook["Old"] = typing.TypedDict("Old", {"a": int})
    with pytest.raises(NotASchema, match=r"uses typing\.TypedDict") as caught:
        resolve_answer_type("list[Old]", notebook, {})
    assert caught.value.hint == "from typing_extensions import TypedDict"


def problems(kind: Any, text: str) -> list[str]:
    with pytest.raises(SchemaMismatch) as caught:
        answer_type(kind).validate(text)
    assert str(caught.value) == "; ".join(caught.value.problems)
    assert all("\n" not in line and len(line) < 300 for line in caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    ("kind", "text", "lines"),
    [
        (
            Invoice,
            '{"lines": [{"amount": "abc", "note": null, "tags": 1}], "best": {"amount": []}}',
            [
                "no: is missing",
                'lines.0.amount: should be a number, got "abc"',
                "lines.0.tags: should be a list, got 1",
                "best.amount: should be a number, got a list of 0",
            ],
        ),
        (Invoice, '{"no": "1"}', ['no: should have at least 2 characters, got "1"']),
        (list[int], '{"items": [1, 2.5]}', ["items.1: should be a whole number, got 2.5"]),
        (list[int], '{"rows": [1]}', ["the answer: should be a list, got an object"]),
        (Color, '{"value": "green"}', ["value: should be 'red' or 'blue', got \"green\""]),
        (
            Span,
            '{"begin": "2026-01-02", "end": "2026-01-01"}',
            ["the answer: ends before it begins"],
        ),
        (
            Cat,
            '{"lives": "%s"}' % ("x" * 99),
            [f'lives: should be a whole number, got "{"x" * 38}…'],
        ),
        (int, "", ["the answer is empty"]),
        (int, '{"value": 1', ["not JSON: Expecting ',' delimiter (line 1, column 12)"]),
        (int, "9" * 5000, ["a number has too many digits"]),
        (list[int], "[" * 100_000, ["the answer is nested too deeply"]),
    ],
)
def test_what_is_wrong_is_told_in_a_line_for_each_place(
    kind: Any, text: str, lines: list[str]
) -> None:
    assert problems(kind, text) == lines


def test_of_many_problems_twenty_lines_are_told() -> None:
    lines = problems(list[int], json.dumps(["x"] * 50))
    assert len(lines) == 20
    assert lines[-1] == "... and 31 more"


def test_a_union_says_what_is_wrong_with_each_member() -> None:
    lines = problems(Line | Span, '{"value": {"amount": "x", "note": null, "tags": null}}')
    assert lines[0] == 'value.Line.amount: should be a number, got "x"'
    assert {"value.Span.begin: is missing", "value.Span.end: is missing"} <= {*lines}
    assert "value.Line.note" not in " ".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"items": [1, 2]}\n```',
        ' ```\n{"items": [1, 2]}```\n',
        "[1, 2]",
        '{"items": [3], "items": ["1", 2]}',
    ],
)
def test_an_answer_is_read_through_fences_without_its_wrapper_and_laxly(text: str) -> None:
    assert answer_type(list[int]).validate(text) == [1, 2]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999"])
@pytest.mark.parametrize("text", ['{{"value": {0}}}', '<think>so</think>{{"value": {0}}}'])
def test_numbers_that_json_has_not_are_a_problem(number: str, text: str) -> None:
    [problem] = problems(float, text.format(number))
    assert number in problem


@pytest.mark.parametrize(
    "text",
    [
        '<think>\n{"amount": is small}\n</think>\n\n{0}',
        "<thinking>well [1]</thinking>{0}",
        'no opening tag, {"amount": 5, "note": null, "tags": null} at first\n</think>\n{0}',
        "Here is the object:\n\n```json\n{0}\n```\n\nI hope that it helps.",
        "Sure! {0} Anything else? {0",
        "\ufeff{0}",
    ],
)
def test_an_object_is_found_behind_thoughts_and_between_prose(text: str) -> None:
    said = '{"amount": 1, "note": "a </think> of {braces}", "tags": null}'
    assert answer_type(Line).validate(text.replace("{0}", said)).amount == 1


def test_which_of_several_objects_is_meant_is_not_guessed() -> None:
    said = '{"amount": 1, "note": null, "tags": null}'
    assert problems(Line, f"{said} or {said}") == ["not JSON: text with 2 JSON values in it"]
    assert problems(Line, "none [1] of them {at all}")[0].startswith("not JSON: Expecting value")
    assert answer_type(list[int]).validate("The list: [1, 2]") == [1, 2]


def test_a_text_that_begins_a_thousand_objects_takes_no_time() -> None:
    began = time.monotonic()
    assert problems(Line, "so " + '{"a": [' * 200_000)
    assert problems(Line, "</think>" * 200_000)
    assert time.monotonic() - began < 5


def test_half_a_character_is_a_problem_and_no_crash() -> None:
    assert problems(str, '{"value": "\\ud83d"}')[0].startswith("value: Invalid JSON")


def test_a_python_object_is_no_type_for_python_callers_either() -> None:
    with pytest.raises(NotASchema, match="is an object"):
        answer_type(Line(amount=1))
    mapping: Mapping[str, Any] = {}
    with pytest.raises(NotASchema, match="is a dict"):
        answer_type(mapping)


def test_an_answer_type_under_another_name_is_the_same_type() -> None:
    line = answer_type(Line)
    assert answer_type(line) is line
    assert answer_type(line, "Row") == AnswerType("Row", Line)


class Visit(BaseModel):
    at: NaiveDatetime
    when: datetime


def test_a_naive_datetime_is_told_as_what_the_type_takes_back():
    sent = answer_type(Visit).request_schema().schema["properties"]
    assert "format" not in sent["at"]
    assert "without a time zone" in sent["at"]["description"]
    assert sent["when"]["format"] == "date-time"
    text = '{"at": "2026-01-01T10:00:00", "when": "2026-01-01T10:00:00Z"}'
    assert re.fullmatch(sent["at"]["pattern"], "2026-01-01T10:00:00")
    assert answer_type(Visit).validate(text).at == datetime(2026, 1, 1, 10)

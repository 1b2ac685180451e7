"""Which nulls of an answer say nothing, and what is left without them."""

from __future__ import annotations

from typing import Any

from o3magic.wire.optional_fields import accepts_null, drop_fillers


def obj(required: list[str], /, **properties: Any) -> dict[str, Any]:
    """The schema of a model with these fields."""
    return {"type": "object", "properties": properties, "required": required}


def test_fillers_are_the_nulls_the_schema_does_not_mean() -> None:
    line = obj(["a"], a={"type": "integer"}, note={"type": "string", "default": "-"})
    other = obj(["b"], b={"type": "integer"}, note={"type": ["string", "null"]})
    schema = {
        **obj(
            ["lines"],
            lines={"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/L"}, other]}},
            meant={"anyOf": [{"type": "string"}, {"type": "null"}], "default": "x"},
            filler={"$ref": "#/$defs/L"},
        ),
        "$defs": {"L": line},
    }
    data = {
        "lines": [{"a": 1, "note": None}, {"b": 1, "note": None}, {"a": "wrong", "note": None}],
        "meant": None,
        "filler": None,
        "unknown": None,
    }
    assert drop_fillers(data, schema) == {
        "lines": [{"a": 1}, {"b": 1, "note": None}, {"a": "wrong"}],
        "meant": None,
        "unknown": None,
    }


def test_what_is_nullable_is_seen_through_references_and_unions() -> None:
    defs: dict[str, Any] = {
        "Maybe": {"oneOf": [{"$ref": "#/$defs/Loop"}, {"enum": ["a", None]}]},
        "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"type": "string"}]},
    }
    assert accepts_null({"$ref": "#/$defs/Maybe"}, defs)
    assert accepts_null({"const": None}, defs)
    assert not accepts_null({"$ref": "#/$defs/Loop"}, defs)
    assert not accepts_null({}, defs)

"""A Python type as the type of an answer: its JSON Schema, and validation to an object."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from functools import cached_property, partial
from math import isinf
from typing import Any, Final, get_origin

from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core import core_schema

from o3magic.errors import NotASchema
from o3magic.messages import AnswerSchema
from o3magic.wire.json_access import parse_partial_json
from o3magic.wire.optional_fields import drop_fillers, resolve_refs
from o3magic.wire.strict_schema import OPENAI, StrictLimits, make_strict_schema

_TYPE_MAKERS: Final = ("typing", "typing_extensions", "types")
_MOST_PROBLEMS: Final = 20
# The step pydantic puts in a path for a member of a union that has a validator.
_VALIDATOR: Final = re.compile(r"^function-\w+\[[^,]*, (.+)\]$")
_FENCED: Final = re.compile(r"\s*```\w*[ \t]*\n(.*?)\s*```\s*", re.DOTALL)
# Local reasoning models send their thoughts before the answer, some without the opening tag.
_THOUGHT_ENDS: Final = re.compile(r"</think(?:ing)?>")
_STARTS: Final = re.compile(r"[{\[]")
_MOST_STARTS: Final = 200  # a hostile text may begin a thousand values and end none
_NUMBER: Final = "should be a number"
_WHOLE: Final = "should be a whole number"
_LIST: Final = "should be a list"
_IN_SHORT: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "extra_forbidden": "was not asked for",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "string_type": "should be text",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
}


class SchemaMismatch(Exception):
    """An answer that does not match its schema; `problems` has one short line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = [*problems]


@dataclass(frozen=True)
class AnswerType:
    """The type of an answer. name: as shown to the user."""

    name: str
    python_type: Any

    @property
    def wire_name(self) -> str:
        """The name as sent: ASCII letters, digits, `_` and `-`, at most 64 characters."""
        plain = re.sub(r"[^a-zA-Z0-9_-]+", "_", self.name).strip("_")
        return plain[:64] or "answer"

    def request_schema(self, limits: StrictLimits = OPENAI) -> AnswerSchema:
        """Build the strict schema to send; a root that is not an object is wrapped in one."""
        asked = self.schema
        if self._wrapper:
            inner = {key: value for key, value in asked.items() if key != "$defs"}
            asked = {
                "title": self.name,
                "type": "object",
                "properties": {self._wrapper: inner},
                "required": [self._wrapper],
                "$defs": asked.get("$defs", {}),
            }
        return AnswerSchema(self.wire_name, make_strict_schema(asked, limits))

    def validate(self, text: str) -> Any:
        """Parse and validate the text of an answer. Raises SchemaMismatch."""
        try:
            data, inside = _load(text, self._wrapper), ""
            if self._wrapper and isinstance(data, dict) and data.keys() == {self._wrapper}:
                data, inside = data[self._wrapper], self._wrapper
            plain = json.dumps(drop_fillers(data, self.schema))
            return self._adapter.validate_json(plain)
        except ValidationError as error:
            raise SchemaMismatch(_format_problems(error, inside)) from None
        except RecursionError:
            raise SchemaMismatch(["the answer is nested too deeply"]) from None

    def partial(self, text: str) -> Any:
        """Parse the beginning of an answer, without validation; None if it holds no value yet."""
        data = parse_partial_json(text)
        if self._wrapper and isinstance(data, dict):
            return data.get(self._wrapper)
        return data

    def dump(self, parsed: Any) -> Any:
        """Convert a validated object to JSON data, with field names in order."""
        plain = self._adapter.dump_python(parsed, mode="json", by_alias=False, warnings=False)
        return _sort_sets(plain, parsed)

    @cached_property
    def _wrapper(self) -> str:
        """The property that a root which is not an object is sent in, or ""."""
        root = resolve_refs(self.schema, self.schema.get("$defs", {}))
        if root.get("type") == "object":
            return ""
        return "items" if root.get("type") == "array" else "value"

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        try:
            adapter = TypeAdapter(self.python_type)
            if not adapter.pydantic_complete:
                adapter.rebuild(raise_errors=True)
            return adapter
        except (PydanticUserError, TypeError, NameError, AttributeError, SyntaxError) as error:
            raise _build_schema_error(self.name, error) from None

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of pydantic, not strict."""
        try:
            return self._adapter.json_schema(schema_generator=_QuietSchema)
        except PydanticUserError as error:
            raise _build_schema_error(self.name, error) from None


NAIVE = {
    "datetime": (
        r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?$",
        "a date and time without a time zone, such as 2026-01-31T10:00:00",
    ),
    "time": (r"^\d{2}:\d{2}:\d{2}(\.\d+)?$", "a time without a time zone, such as 10:00:00"),
}


class _QuietSchema(GenerateJsonSchema):
    """Without warnings about defaults that are not JSON: defaults are not sent.

    A naive datetime is told by a pattern: the format `date-time` (RFC 3339) has a time zone, which
    the type would not take back.
    """

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        """Tell a naive one by a pattern."""
        return _naive_schema("datetime", schema) or super().datetime_schema(schema)

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        """Tell a naive one by a pattern."""
        return _naive_schema("time", schema) or super().time_schema(schema)

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Ignore it."""


def _naive_schema(kind: str, schema: Any) -> JsonSchemaValue | None:
    if schema.get("tz_constraint") != "naive":
        return None
    pattern, description = NAIVE[kind]
    return {"type": "string", "pattern": pattern, "description": description}


def answer_type(python_type: Any, name: str | None = None) -> AnswerType:
    """Make the answer type of a Python type. Raises NotASchema if it has no schema."""
    if isinstance(python_type, AnswerType):
        return python_type if name is None else AnswerType(name, python_type.python_type)
    named = name or _display_name(python_type)
    require_type(python_type, named)
    made = AnswerType(named, python_type)
    if not made.schema:
        raise NotASchema(f"{named} says nothing about the answer")
    return made


def is_schema_class(value: Any) -> bool:
    """Whether a value is a class that describes data."""
    if not isinstance(value, type):
        return False
    if issubclass(value, Enum):
        return len(value) > 0
    # typing.is_typeddict does not know the TypedDict of typing_extensions.
    typed_dict = issubclass(value, dict) and hasattr(value, "__required_keys__")
    return issubclass(value, BaseModel) or is_dataclass(value) or typed_dict


def require_type(value: Any, name: str) -> None:
    """Raise NotASchema unless `value` is a type."""
    if value is BaseModel:
        hint = f"class Invoice({name}): ..."
        raise NotASchema(f"{name} is what models are made from, not a model", hint=hint)
    # Unions, list[...], Literal[...], NewType and the like are objects of these modules.
    made_by = type(value).__module__
    if value is None or isinstance(value, type) or made_by in _TYPE_MAKERS:
        return
    kind = type(value).__name__
    if inspect.ismodule(value):
        raise NotASchema(f"{name} is a module", hint=f"name a class in it: {name}.Invoice")
    if inspect.isroutine(value):
        raise NotASchema(f"{name} is a function, not a type")
    if isinstance(value, dict):
        hint = "write it as a class: class Invoice(BaseModel): ..."
        raise NotASchema(f"{name} is a dict, not a type", hint=hint)
    if is_schema_class(type(value)):
        raise NotASchema(f"{name} is an object, {kind}(...)", hint=f"use its class: {kind}")
    raise NotASchema(f"{name} is an object of type {kind}, not a type")


def _display_name(python_type: Any) -> str:
    """Format a type without modules: `list[Invoice]`."""
    if isinstance(python_type, type) and get_origin(python_type) is None:
        return python_type.__name__
    return re.sub(r"(?:(?:[^\W\d]\w*|<locals>)\.)+(?=\w)", "", _shorten(repr(python_type), 200))


def _build_schema_error(name: str, error: Exception) -> NotASchema:
    """Convert an error of pydantic to a line for the user."""
    message = str(error).partition("\n")[0]
    if undefined := re.search(r"name '(\w+)' is not defined", message):
        word = undefined[1]
        hint = f"define {word}, then run the cell of the class that names it again"
        return NotASchema(f"{name} names {word}, which is not defined", hint=hint)
    if getattr(error, "code", None) == "typed-dict-version":
        hint = "from typing_extensions import TypedDict"
        return NotASchema(f"{name} uses typing.TypedDict, which needs Python 3.12", hint=hint)
    if unknown := re.search(r"schema for (?:<(?:class|enum) '([^']+)'>|(.+?))\. Set", message):
        held = (unknown[1] or unknown[2]).rpartition(".")[2]
        within = "" if held == name else f"{name}: "
        hint = "make it a pydantic model or a dataclass"
        return NotASchema(f"{within}{held} has no schema", hint=hint)
    return NotASchema(f"{name} has no schema: {_shorten(message, 120)}")


def _refuse_constant(constant: str) -> Any:
    """Refuse NaN and Infinity, which are not JSON."""
    raise SchemaMismatch([f"not JSON: {constant} is not a JSON number"])


def _parse_finite(digits: str) -> float:
    """Parse a float. Raises SchemaMismatch if it overflows."""
    number = float(digits)
    if isinf(number):
        raise SchemaMismatch([f"{_shorten(digits, 20)} is too large for a number"])
    return number


_JSON: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_parse_finite)


def _load(text: str, wrapper: str) -> Any:
    """Find the JSON in a text, which may also hold thoughts, a Markdown fence or prose.

    wrapper: the property that a root which is not an object is sent in, or "".
    """
    fenced = _FENCED.fullmatch(text)
    try:
        return _JSON.decode(fenced[1] if fenced else text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise SchemaMismatch(["the answer is empty"]) from None
        values = _find_values(text, wrapper)
        if len(values) == 1:
            return values[0]
        if values:
            raise SchemaMismatch([f"not JSON: text with {len(values)} JSON values in it"]) from None
        place = f"(line {error.lineno}, column {error.colno})"
        raise SchemaMismatch([f"not JSON: {error.msg} {place}"]) from None
    except ValueError:  # Python parses at most 4300
        raise SchemaMismatch(["a number has too many digits"]) from None


def _find_values(text: str, wrapper: str) -> list[Any]:
    """Find the JSON objects in a text, and lists if one was requested.

    Only those behind the thoughts, unless the closing tag is inside an object.
    """
    end = _THOUGHT_ENDS.search(text)
    kinds = (dict, list) if wrapper == "items" else (dict,)
    behind = _scan_values(text, end.end(), kinds) if end else []
    return behind or _scan_values(text, 0, kinds)


def _scan_values(text: str, position: int, kinds: tuple[type, ...]) -> list[Any]:
    """Find the values of these types from a position on."""
    values: list[Any] = []
    for _ in range(_MOST_STARTS):
        start = _STARTS.search(text, position)
        if start is None:
            break
        try:
            value, position = _JSON.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            position = start.end()
            continue
        if isinstance(value, kinds):
            values.append(value)
    return values


def _format_problems(error: ValidationError, inside: str) -> list[str]:
    """Format one line for each error: `lines.0.amount: should be a number, got "abc"`."""
    lines = []
    for fault in error.errors(include_url=False, include_context=False):
        steps = [_VALIDATOR.sub(r"\1", str(step)) for step in (inside, *fault["loc"])]
        path = ".".join(step for step in steps if step)
        message = re.sub(r"^(Value error, |Assertion failed, |\w+ (?=should ))", "", fault["msg"])
        message = _IN_SHORT.get(fault["type"]) or _shorten(" ".join(message.split()), 200)
        lines.append(
            f"{path or 'the answer'}: {message}{_format_input(fault['type'], fault['input'])}"
        )
    more = len(lines) - _MOST_PROBLEMS
    if more > 0:
        lines[_MOST_PROBLEMS - 1 :] = [f"... and {more + 1} more"]
    return lines


def _format_input(fault: str, value: Any) -> str:
    if fault in ("missing", "json_invalid"):
        return ""
    if isinstance(value, dict | list):
        # The message of a validator names the problem of a whole object itself.
        if fault in ("value_error", "assertion_error"):
            return ""
        return ", got an object" if isinstance(value, dict) else f", got a list of {len(value)}"
    return f", got {_shorten(json.dumps(value, ensure_ascii=False, default=str), 40)}"


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _sort_sets(plain: Any, parsed: Any) -> Any:
    """Sort the lists that were sets: their order differs from run to run."""
    if isinstance(parsed, RootModel):
        return _sort_sets(plain, parsed.root)
    if isinstance(plain, dict):
        get_field_value = parsed.get if isinstance(parsed, dict) else partial(_get_field, parsed)
        return {name: _sort_sets(value, get_field_value(name)) for name, value in plain.items()}
    if not isinstance(plain, list):
        return plain
    if isinstance(parsed, set | frozenset):
        return sorted(plain, key=partial(json.dumps, sort_keys=True))
    if isinstance(parsed, list | tuple) and len(parsed) == len(plain):
        return [_sort_sets(*pair) for pair in zip(plain, parsed, strict=True)]
    return plain


def _get_field(parsed: Any, name: str) -> Any:
    return getattr(parsed, name, None)

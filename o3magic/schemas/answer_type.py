"""A Python type as the shape of an answer: the schema to ask with, the way back to an object."""

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
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from o3magic.errors import NotASchema
from o3magic.messages import AnswerSchema
from o3magic.wire.json_access import load_partial
from o3magic.wire.optional_fields import resolved, without_fillers
from o3magic.wire.strict_schema import OPENAI, StrictLimits, strict_schema

_TYPE_MAKERS: Final = ("typing", "typing_extensions", "types")
_MOST_PROBLEMS: Final = 20
# The step pydantic puts in a path for a member of a union that has a validator.
_VALIDATOR: Final = re.compile(r"^function-\w+\[[^,]*, (.+)\]$")
_FENCED: Final = re.compile(r"\s*```\w*[ \t]*\n(.*?)\s*```\s*", re.DOTALL)
# Local models of reasoning think aloud before they answer, some without the first of the two tags.
_THOUGHT_ENDS: Final = re.compile(r"</think(?:ing)?>")
_STARTS: Final = re.compile(r"[{\[]")
_MOST_STARTS: Final = 200  # a hostile text may begin a thousand values, and end none
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
    """An answer that does not follow its schema; `problems` has one short line for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = [*problems]


@dataclass(frozen=True)
class AnswerType:
    """A type an answer can have, under the name it is shown by."""

    name: str
    python_type: Any

    @property
    def wire_name(self) -> str:
        """The name as the provider takes it: ASCII letters, digits, `_` and `-`, at most 64."""
        plain = re.sub(r"[^a-zA-Z0-9_-]+", "_", self.name).strip("_")
        return plain[:64] or "answer"

    def request_schema(self, limits: StrictLimits = OPENAI) -> AnswerSchema:
        """The strict schema to ask with; a root that is no object is wrapped in one."""
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
        return AnswerSchema(self.wire_name, strict_schema(asked, limits))

    def validate(self, text: str) -> Any:
        """The object in the JSON of an answer. Raises SchemaMismatch where there is none."""
        try:
            data, inside = _loaded(text, self._wrapper), ""
            if self._wrapper and isinstance(data, dict) and data.keys() == {self._wrapper}:
                data, inside = data[self._wrapper], self._wrapper
            plain = json.dumps(without_fillers(data, self.schema))
            return self._adapter.validate_json(plain)
        except ValidationError as error:
            raise SchemaMismatch(_problems(error, inside)) from None
        except RecursionError:
            raise SchemaMismatch(["the answer is nested too deeply"]) from None

    def partial(self, text: str) -> Any:
        """What the beginning of an answer says so far, not validated; None for nothing yet."""
        data = load_partial(text)
        if self._wrapper and isinstance(data, dict):
            return data.get(self._wrapper)
        return data

    def dump(self, parsed: Any) -> Any:
        """A validated object as JSON data, in the order and by the names of its fields."""
        plain = self._adapter.dump_python(parsed, mode="json", by_alias=False, warnings=False)
        return _settled(plain, parsed)

    @cached_property
    def _wrapper(self) -> str:
        """The one property of the object round a root that is none, or ""."""
        root = resolved(self.schema, self.schema.get("$defs", {}))
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
            raise _not_a_schema(self.name, error) from None

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Its JSON Schema as pydantic makes it, not yet strict."""
        try:
            return self._adapter.json_schema(schema_generator=_QuietSchema)
        except PydanticUserError as error:
            raise _not_a_schema(self.name, error) from None


class _QuietSchema(GenerateJsonSchema):
    """Without the warning that some default is no JSON: defaults do not travel."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Say nothing."""


def answer_type(python_type: Any, name: str | None = None) -> AnswerType:
    """The answer type of a Python type. Raises NotASchema for what is no type or has no schema."""
    if isinstance(python_type, AnswerType):
        return python_type if name is None else AnswerType(name, python_type.python_type)
    named = name or _display_name(python_type)
    require_type(python_type, named)
    made = AnswerType(named, python_type)
    if not made.schema:
        raise NotASchema(f"{named} says nothing about the answer")
    return made


def could_be_schema(value: Any) -> bool:
    """Whether it is a class someone wrote to describe data."""
    if not isinstance(value, type):
        return False
    if issubclass(value, Enum):
        return len(value) > 0
    # typing's own is_typeddict does not know the TypedDict of typing_extensions.
    typed_dict = issubclass(value, dict) and hasattr(value, "__required_keys__")
    return issubclass(value, BaseModel) or is_dataclass(value) or typed_dict


def require_type(value: Any, name: str) -> None:
    """Raise NotASchema, saying what `value` is instead, unless it is a type."""
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
    if could_be_schema(type(value)):
        raise NotASchema(f"{name} is an object, {kind}(...)", hint=f"use its class: {kind}")
    raise NotASchema(f"{name} is an object of type {kind}, not a type")


def _display_name(python_type: Any) -> str:
    """A type as a person writes it: `list[Invoice]`, without the modules."""
    if isinstance(python_type, type) and get_origin(python_type) is None:
        return python_type.__name__
    return re.sub(r"(?:(?:[^\W\d]\w*|<locals>)\.)+(?=\w)", "", _short(repr(python_type), 200))


def _not_a_schema(name: str, error: Exception) -> NotASchema:
    """What pydantic could not do with the type, in one line."""
    said = str(error).partition("\n")[0]
    if undefined := re.search(r"name '(\w+)' is not defined", said):
        word = undefined[1]
        hint = f"define {word}, then run the cell of the class that names it again"
        return NotASchema(f"{name} names {word}, which is not defined", hint=hint)
    if getattr(error, "code", None) == "typed-dict-version":
        hint = "from typing_extensions import TypedDict"
        return NotASchema(f"{name} uses typing.TypedDict, which needs Python 3.12", hint=hint)
    if unknown := re.search(r"schema for (?:<(?:class|enum) '([^']+)'>|(.+?))\. Set", said):
        held = (unknown[1] or unknown[2]).rpartition(".")[2]
        within = "" if held == name else f"{name}: "
        hint = "make it a pydantic model or a dataclass"
        return NotASchema(f"{within}{held} has no schema", hint=hint)
    return NotASchema(f"{name} has no schema: {_short(said, 120)}")


def _no_constant(said: str) -> Any:
    """Refuse the words for numbers that Python reads and JSON has not."""
    raise SchemaMismatch([f"not JSON: {said} is not a JSON number"])


def _finite(said: str) -> float:
    """A number that a float can hold."""
    number = float(said)
    if isinf(number):
        raise SchemaMismatch([f"{_short(said, 20)} is too large for a number"])
    return number


_JSON: Final = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _loaded(text: str, wrapper: str) -> Any:
    """The JSON in the text, whatever a server put round it: thoughts, a Markdown fence, prose.

    wrapper: the property of the object round a root that is none, or "".
    """
    fenced = _FENCED.fullmatch(text)
    try:
        return _JSON.decode(fenced[1] if fenced else text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise SchemaMismatch(["the answer is empty"]) from None
        found = _values_in(text, wrapper)
        if len(found) == 1:
            return found[0]
        if found:
            raise SchemaMismatch([f"not JSON: text with {len(found)} JSON values in it"]) from None
        place = f"(line {error.lineno}, column {error.colno})"
        raise SchemaMismatch([f"not JSON: {error.msg} {place}"]) from None
    except ValueError:  # Python reads no more than 4300
        raise SchemaMismatch(["a number has too many digits"]) from None


def _values_in(text: str, wrapper: str) -> list[Any]:
    """The objects that stand in a text, lists too where one was asked for.

    Those behind its thoughts alone, unless the end of the thoughts is a word in an object itself.
    """
    end = _THOUGHT_ENDS.search(text)
    kinds = (dict, list) if wrapper == "items" else (dict,)
    behind = _values_from(text, end.end(), kinds) if end else []
    return behind or _values_from(text, 0, kinds)


def _values_from(text: str, at: int, kinds: tuple[type, ...]) -> list[Any]:
    """The values of these kinds from a place on."""
    found: list[Any] = []
    for _ in range(_MOST_STARTS):
        start = _STARTS.search(text, at)
        if start is None:
            break
        try:
            value, at = _JSON.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.end()
            continue
        if isinstance(value, kinds):
            found.append(value)
    return found


def _problems(error: ValidationError, inside: str) -> list[str]:
    """One line for each fault: `lines.0.amount: should be a number, got "abc"`."""
    lines = []
    for fault in error.errors(include_url=False, include_context=False):
        steps = [_VALIDATOR.sub(r"\1", str(step)) for step in (inside, *fault["loc"])]
        where = ".".join(step for step in steps if step)
        said = re.sub(r"^(Value error, |Assertion failed, |\w+ (?=should ))", "", fault["msg"])
        said = _IN_SHORT.get(fault["type"]) or _short(" ".join(said.split()), 200)
        lines.append(f"{where or 'the answer'}: {said}{_got(fault['type'], fault['input'])}")
    more = len(lines) - _MOST_PROBLEMS
    if more > 0:
        lines[_MOST_PROBLEMS - 1 :] = [f"... and {more + 1} more"]
    return lines


def _got(fault: str, value: Any) -> str:
    if fault in ("missing", "json_invalid"):
        return ""
    if isinstance(value, dict | list):
        # A validator's complaint about a whole object says itself what is wrong with it.
        if fault in ("value_error", "assertion_error"):
            return ""
        return ", got an object" if isinstance(value, dict) else f", got a list of {len(value)}"
    return f", got {_short(json.dumps(value, ensure_ascii=False, default=str), 40)}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _settled(plain: Any, parsed: Any) -> Any:
    """`plain` with sets in one fixed order: Python's own differs from run to run."""
    if isinstance(parsed, RootModel):
        return _settled(plain, parsed.root)
    if isinstance(plain, dict):
        of = parsed.get if isinstance(parsed, dict) else partial(_field, parsed)
        return {name: _settled(value, of(name)) for name, value in plain.items()}
    if not isinstance(plain, list):
        return plain
    if isinstance(parsed, set | frozenset):
        return sorted(plain, key=partial(json.dumps, sort_keys=True))
    if isinstance(parsed, list | tuple) and len(parsed) == len(plain):
        return [_settled(*pair) for pair in zip(plain, parsed, strict=True)]
    return plain


def _field(parsed: Any, name: str) -> Any:
    return getattr(parsed, name, None)

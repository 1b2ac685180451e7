"""The schema a user names: `Invoice`, `list[Invoice]`, `module.Invoice | None`.

A name is looked up, never evaluated: only names, dots, brackets and `|` are read.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import inspect
import operator
import sys
import typing
import uuid
from collections.abc import Mapping
from typing import Any, Final

from o3magic.errors import NotASchema, UnknownSchema, did_you_mean
from o3magic.schemas.answer_type import (
    AnswerType,
    SchemaMismatch,
    answer_type,
    could_be_schema,
    require_type,
)

__all__ = ["AnswerType", "SchemaMismatch", "answer_type", "known_types", "resolve"]

_PLAIN: Final = (
    *(list, tuple, set, frozenset, dict, str, int, float, bool),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
    *(decimal.Decimal, uuid.UUID),
)
_SPECIAL: Final[Mapping[str, Any]] = {
    "Optional": typing.Optional,
    "Union": typing.Union,
    "Literal": typing.Literal,
    "Any": Any,
}
_ALWAYS_THERE: Final[Mapping[str, Any]] = {
    **{kind.__name__: kind for kind in _PLAIN},
    **_SPECIAL,
}
_LIBRARIES: Final = sys.stdlib_module_names | {
    *("pydantic", "pydantic_core", "pydantic_settings", "typing_extensions", "annotated_types"),
    *("IPython", "ipywidgets", "o3magic"),
}


def resolve(expression: str, names: Mapping[str, Any], registered: Mapping[str, Any]) -> AnswerType:
    """The answer type a user wrote, its names from `names`, then from `registered`.

    Raises UnknownSchema for a name that is not there, NotASchema for one that is no type.
    """
    tree = _parsed(expression)
    if isinstance(tree, ast.Name):
        found = names.get(tree.id, registered.get(tree.id))
        if isinstance(found, AnswerType):
            return found
    return answer_type(_SchemaReader(names, registered).type_of(tree), ast.unparse(tree))


def known_types(names: Mapping[str, Any], registered: Mapping[str, Any]) -> list[str]:
    """The names of what is meant as a schema: those of the notebook, then the registered ones."""
    own = [
        name
        for name, value in [*names.items()]
        if not name.startswith("_") and could_be_schema(value) and not _from_library(value)
    ]
    return own + [name for name in registered if name not in own]


class _SchemaReader:
    """Reads a type out of a syntax tree, with names from two places and a few that always are."""

    def __init__(self, names: Mapping[str, Any], registered: Mapping[str, Any]) -> None:
        self._names = names
        self._registered = registered

    def type_of(self, node: ast.expr) -> Any:
        """The type that `node` says; raises where it says none."""
        match node:
            case ast.Constant(value=str(text)):  # list["Invoice"]
                return self.type_of(_parsed(text))
            case ast.Constant(value=value) if value is None or value is ...:
                return value
            case ast.Name() | ast.Attribute():
                found = self._found(node)
                require_type(found, ast.unparse(node))
                return found
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._made(operator.or_, self.type_of(left), self.type_of(right), node)
            case ast.Subscript(value=outer, slice=inner):
                base = self.type_of(outer)
                inside = self._literals(inner) if base is typing.Literal else self._types(inner)
                return self._made(operator.getitem, base, inside, node)
        raise NotASchema(f"`{ast.unparse(node)}` is not the name of a type")

    def _found(self, node: ast.expr) -> Any:
        """What stands under a name or behind a dot, type or not."""
        if isinstance(node, ast.Attribute):
            owner = self._found(node.value)
            if not inspect.ismodule(owner) and not isinstance(owner, type):
                require_type(owner, ast.unparse(node.value))
            if not hasattr(owner, node.attr):
                inside = getattr(owner, "__dict__", {})
                members = [name for name, value in inside.items() if could_be_schema(value)]
                raise _unknown(ast.unparse(node), node.attr, members)
            return getattr(owner, node.attr)
        if not isinstance(node, ast.Name):
            raise NotASchema(f"`{ast.unparse(node)}` is not the name of a type")
        for place in (self._names, self._registered, _ALWAYS_THERE):
            if node.id in place:
                found = place[node.id]
                return found.python_type if isinstance(found, AnswerType) else found
        raise _unknown(node.id, node.id, known_types(self._names, self._registered))

    def _types(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Tuple):
            return tuple(self.type_of(part) for part in node.elts)
        return self.type_of(node)

    def _literals(self, node: ast.expr) -> tuple[Any, ...]:
        parts = node.elts if isinstance(node, ast.Tuple | ast.List) else [node]
        try:
            return tuple(ast.literal_eval(part) for part in parts)
        except ValueError:
            raise NotASchema(
                f"`{ast.unparse(node)}` holds more than text and numbers",
                hint='Literal["low", "high"]',
            ) from None

    def _made(self, how: Any, one: Any, two: Any, node: ast.expr) -> Any:
        """What `|` or `[...]` makes of types, with Python's complaint as a line of ours."""
        try:
            return how(one, two)
        except (TypeError, KeyError, AttributeError) as error:
            raise NotASchema(f"`{ast.unparse(node)}` is not a type: {error}") from None


def _parsed(expression: str) -> ast.expr:
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        hint = "a name such as Invoice, or list[Invoice]"
        raise NotASchema(f"`{expression.strip()}` is not the name of a type", hint=hint) from None


def _unknown(said: str, word: str, known: list[str]) -> UnknownSchema:
    # The user's own names first: `invoice` is sooner Invoice than int.
    otherwise = did_you_mean(word, [*_ALWAYS_THERE], "define it in a cell, or import it")
    hint = did_you_mean(word, known, otherwise)
    return UnknownSchema(f"there is no schema named {said}", hint=hint)


def _from_library(value: type) -> bool:
    return value.__module__.partition(".")[0] in _LIBRARIES

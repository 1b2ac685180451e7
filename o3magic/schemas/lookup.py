"""Look up a schema by name: `Invoice`, `list[Invoice]`, `module.Invoice | None`.

The expression is parsed, never evaluated: it may hold only names, dots, brackets and `|`.
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
    is_schema_class,
    require_type,
)

__all__ = ["AnswerType", "SchemaMismatch", "answer_type", "list_types", "resolve_answer_type"]

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
_BUILT_IN: Final[Mapping[str, Any]] = {
    **{kind.__name__: kind for kind in _PLAIN},
    **_SPECIAL,
}
_LIBRARIES: Final = sys.stdlib_module_names | {
    *("pydantic", "pydantic_core", "pydantic_settings", "typing_extensions", "annotated_types"),
    *("IPython", "ipywidgets", "o3magic"),
}


def resolve_answer_type(
    expression: str, names: Mapping[str, Any], registered: Mapping[str, Any]
) -> AnswerType:
    """Find the answer type of an expression; names are looked up in `names`, then `registered`.

    Raises UnknownSchema for an unknown name, NotASchema for a value that is not a type.
    """
    tree = _parse(expression)
    if isinstance(tree, ast.Name):
        value = names.get(tree.id, registered.get(tree.id))
        if isinstance(value, AnswerType):
            return value
    return answer_type(_SchemaReader(names, registered).type_of(tree), ast.unparse(tree))


def list_types(names: Mapping[str, Any], registered: Mapping[str, Any]) -> list[str]:
    """Names of the schemas in a notebook, then the registered ones."""
    own = [
        name
        for name, value in [*names.items()]
        if not name.startswith("_") and is_schema_class(value) and not _from_library(value)
    ]
    return own + [name for name in registered if name not in own]


class _SchemaReader:
    """Evaluates a syntax tree to a type, with names from two mappings and a few built-in ones."""

    def __init__(self, names: Mapping[str, Any], registered: Mapping[str, Any]) -> None:
        self._names = names
        self._registered = registered

    def type_of(self, node: ast.expr) -> Any:
        """Return the type of a node. Raises NotASchema, UnknownSchema."""
        match node:
            case ast.Constant(value=str(text)):  # list["Invoice"]
                return self.type_of(_parse(text))
            case ast.Constant(value=value) if value is None or value is ...:
                return value
            case ast.Name() | ast.Attribute():
                found = self._look_up(node)
                require_type(found, ast.unparse(node))
                return found
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._apply(operator.or_, self.type_of(left), self.type_of(right), node)
            case ast.Subscript(value=outer, slice=inner):
                base = self.type_of(outer)
                inside = self._literals(inner) if base is typing.Literal else self._types(inner)
                return self._apply(operator.getitem, base, inside, node)
        raise NotASchema(f"`{ast.unparse(node)}` is not the name of a type")

    def _look_up(self, node: ast.expr) -> Any:
        """Look up a name or attribute, of any type."""
        if isinstance(node, ast.Attribute):
            owner = self._look_up(node.value)
            if not inspect.ismodule(owner) and not isinstance(owner, type):
                require_type(owner, ast.unparse(node.value))
            if not hasattr(owner, node.attr):
                inside = getattr(owner, "__dict__", {})
                members = [name for name, value in inside.items() if is_schema_class(value)]
                raise _build_unknown_error(ast.unparse(node), node.attr, members)
            return getattr(owner, node.attr)
        if not isinstance(node, ast.Name):
            raise NotASchema(f"`{ast.unparse(node)}` is not the name of a type")
        for names in (self._names, self._registered, _BUILT_IN):
            if node.id in names:
                value = names[node.id]
                return value.python_type if isinstance(value, AnswerType) else value
        raise _build_unknown_error(node.id, node.id, list_types(self._names, self._registered))

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

    def _apply(self, how: Any, one: Any, two: Any, node: ast.expr) -> Any:
        """Apply `|` or `[...]` to types; Python's errors become NotASchema."""
        try:
            return how(one, two)
        except (TypeError, KeyError, AttributeError) as error:
            raise NotASchema(f"`{ast.unparse(node)}` is not a type: {error}") from None


def _parse(expression: str) -> ast.expr:
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        hint = "a name such as Invoice, or list[Invoice]"
        raise NotASchema(f"`{expression.strip()}` is not the name of a type", hint=hint) from None


def _build_unknown_error(expression: str, name: str, known: list[str]) -> UnknownSchema:
    # The user's own names first: `invoice` is more likely Invoice than int.
    otherwise = did_you_mean(name, [*_BUILT_IN], "define it in a cell, or import it")
    hint = did_you_mean(name, known, otherwise)
    return UnknownSchema(f"there is no schema named {expression}", hint=hint)


def _from_library(value: type) -> bool:
    return value.__module__.partition(".")[0] in _LIBRARIES

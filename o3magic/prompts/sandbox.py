"""The values of expressions, looked up and filtered but never run. The door of jinja2 in a prompt.

Names, dots, brackets, filters, comparisons and a little arithmetic. No call of a function, no name
with two underscores, nothing that grows without bound: a template may come with a notebook of
somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import islice
from pathlib import Path
from types import GeneratorType
from typing import Any, Final

from jinja2 import StrictUndefined, Undefined, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from o3magic.errors import TemplateError, did_you_mean
from o3magic.prompts.filters import FROM_JINJA, filters
from o3magic.prompts.formatting import FormattedValue
from o3magic.prompts.jsonable import completed

MOST_LENGTH: Final = 1_000_000
MOST_BITS: Final = 4_096
_NUMBERS: Final = (int, float, Decimal)
_METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: frozenset(
        (
            *("upper", "lower", "title", "capitalize", "casefold", "swapcase"),
            *("strip", "lstrip", "rstrip", "removeprefix", "removesuffix"),
            *("split", "rsplit", "splitlines", "startswith", "endswith", "count", "find", "index"),
        )
    ),
    dict: frozenset(("get", "keys", "values", "items")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
}
_ANY_METHOD: Final = frozenset().union(*_METHODS.values())
# Names that jinja2 gives a meaning of its own.
_TAKEN: Final = frozenset(("self", "super", "loop", "caller", "varargs", "kwargs"))


class PromptEnvironment(SandboxedEnvironment):
    """Jinja's sandbox, narrower: filters of a list, no globals, methods of a few plain types."""

    intercepted_binops = frozenset(SandboxedEnvironment.default_binop_table)
    intercepted_unops = frozenset(SandboxedEnvironment.default_unop_table)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic of numbers, and `+` of texts and lists, as long as the result is small."""
        if not (isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS)):
            texts = isinstance(left, str) and isinstance(right, str)
            lists = isinstance(left, list) and isinstance(right, list)
            if operator != "+" or not (texts or lists) or len(left) + len(right) > MOST_LENGTH:
                raise SecurityError(f"`{operator}` is for numbers here: compute it in a cell")
        elif operator in ("*", "**") and _bits(operator, left, right) > MOST_BITS:
            raise SecurityError("the number gets too large")
        return super().call_binop(context, operator, left, right)

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        """The sign of a number."""
        if not isinstance(arg, _NUMBERS):
            raise SecurityError(f"`{operator}` is for numbers here: compute it in a cell")
        return super().call_unop(context, operator, arg)

    def call(self, context: Context, obj: Any, *args: Any, **named: Any) -> Any:
        """Call a method that may be called; of any other the message says no more than this."""
        if not self.is_safe_callable(obj):
            raise SecurityError("nothing is called here but methods of texts, lists and dicts")
        return super().call(context, obj, *args, **named)

    def is_safe_callable(self, obj: Any) -> bool:
        """Whether it is a method, of a list, of a plain text, dict, list or tuple."""
        known = _METHODS.get(type(getattr(obj, "__self__", None)), frozenset())
        return type(obj).__name__ == "builtin_function_or_method" and obj.__name__ in known


class Sandbox:
    """Gives the values of expressions over `names`; `used` are those that were read, in order."""

    def __init__(self, names: Mapping[str, Any], folder: Path) -> None:
        self._names = names
        self.used: dict[str, None] = {}
        self._environment = PromptEnvironment(undefined=StrictUndefined, autoescape=False)
        self._environment.optimized = False  # constants are computed at run time, inside the limits
        self._environment.globals.clear()
        own = {k: v for k, v in self._environment.filters.items() if k in FROM_JINJA}
        self._environment.filters = {**own, **filters(folder)}

    def value(self, source: str, line: int) -> Any:
        """What `source` stands for. Raises TemplateError."""
        try:
            parser = Parser(self._environment, source, state="variable")
            tree = parser.parse_expression()
            if not parser.stream.eos:
                raise TemplateSyntaxError(f"{parser.stream.current} is too much", line)
            found = self._looked_up(tree)
            if isinstance(tree, nodes.Const) and isinstance(tree.value, str):
                return self._literal(source, tree.value)
            compiled = self._environment.compile_expression(source, undefined_to_none=False)
            value = compiled(found)
            if isinstance(value, Undefined):
                value._fail_with_undefined_error()
            if isinstance(tree, nodes.Filter) and isinstance(value, GeneratorType):
                value = [*islice(value, MOST_LENGTH)]
        except TemplateSyntaxError as error:
            hint = 'braces of your own: {{ "{{" }}, or --no-template for the whole prompt'
            raise placed(TemplateError(str(error.message), hint=hint), source, line) from None
        except UndefinedError as error:
            raise placed(TemplateError(str(error)), source, line) from None
        except SecurityError as error:
            raise placed(TemplateError(str(error)), source, line) from None
        except (RecursionError, MemoryError):
            raise placed(TemplateError("it is too deep"), source, line) from None
        except Exception as error:  # the code of the user's own objects, or what Python makes of it
            raise placed(error, source, line) from None
        return value

    def _literal(self, source: str, value: str) -> Any:
        """A text written in the prompt itself is no data of somebody else's."""
        return FormattedValue(value, inline=True)

    def _looked_up(self, tree: nodes.Expr) -> dict[str, Any]:
        """The values of the names in `tree`, which is looked through for what is not done here."""
        found: dict[str, Any] = {}
        excused = _excused(tree)
        for node in (tree, *_below(tree)):
            self._check(node)
            if not isinstance(node, nodes.Name):
                continue
            if node.name in _TAKEN or node.name.startswith("__"):
                raise TemplateError(f"{node.name} cannot be used here", hint="name it otherwise")
            if node.name in self._names:
                found[node.name] = completed(self._names[node.name])
            elif id(node) not in excused:
                known = [name for name in [*self._names] if not name.startswith("_")]
                hint = did_you_mean(node.name, known, "run the cell that defines it")
                raise TemplateError(f"{node.name} is not defined", hint=hint)
        self.used.update(dict.fromkeys(found))
        return found

    def _check(self, node: nodes.Node) -> None:
        """Raise TemplateError for what is not done here."""
        if isinstance(node, nodes.Call):
            called = node.node
            if not (isinstance(called, nodes.Getattr) and called.attr in _ANY_METHOD):
                raise TemplateError("nothing is called here", hint="a filter, such as df | head(3)")
        elif isinstance(node, nodes.Concat):
            raise TemplateError("`~` is not done here", hint="write two {{ }} side by side")
        elif isinstance(node, nodes.Filter) and node.name not in self._environment.filters:
            known = sorted(self._environment.filters)
            hint = did_you_mean(node.name, known, f"the filters: {', '.join(known)}")
            raise TemplateError(f"there is no filter {node.name}", hint=hint)
        elif isinstance(node, nodes.Test) and node.name in ("callable", "filter", "test"):
            raise TemplateError(f"there is no test {node.name}")


def _below(tree: nodes.Node) -> Iterator[nodes.Node]:
    return tree.find_all(nodes.Node)


def _excused(tree: nodes.Node) -> set[int]:
    """The ids of the nodes that may be missing: `x | default("none")`, `x is defined`."""
    asking = [
        node.node
        for node in (tree, *_below(tree))
        if (isinstance(node, nodes.Filter) and node.name in ("d", "default"))
        or (isinstance(node, nodes.Test) and node.name in ("defined", "undefined"))
    ]
    return {id(node) for each in asking if each is not None for node in (each, *_below(each))}


def _bits(operator: str, left: Any, right: Any) -> float:
    """About how many bits the result of whole numbers has; 0 where another number is in it."""
    if not (isinstance(left, int) and isinstance(right, int)):
        return 0
    if operator == "*":
        return left.bit_length() + right.bit_length()
    return left.bit_length() * max(right, 1)


def placed(error: Exception, source: str, line: int) -> TemplateError:
    """Any error as one that says where in the prompt it was."""
    said = str(error).partition("\n")[0][:200]
    if not isinstance(error, TemplateError):
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    where = f"line {line} of the prompt, {{{{ {short(source)} }}}}: "
    return TemplateError(where + said, hint=getattr(error, "hint", ""))


def short(source: str) -> str:
    """An expression as it is named in a message."""
    source = " ".join(source.split())
    return source if len(source) <= 60 else source[:59] + "…"

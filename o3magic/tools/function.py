"""A Python function as a tool: its description, the schema of its arguments, the way to call it."""

from __future__ import annotations

import inspect
import re
import sys
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from itertools import islice
from typing import Annotated, Any, Final, cast, get_args, get_origin, get_type_hints, overload

from pydantic import ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from o3magic.errors import BadOption, NotASchema, NotStrict
from o3magic.messages import Tool
from o3magic.schemas.answer_type import AnswerType
from o3magic.tools.execution import ASYNC_TOOLS
from o3magic.wire.strict_schema import OPENAI, StrictLimits, make_strict_schema

_SPHINX: Final = re.compile(r":(?:param|parameter|arg|argument)\s+(?:[^:]*\s)?(\*{0,2}\w+)\s*:(.*)")
_FIELD: Final = re.compile(r":\w+[^:]*:")
_GOOGLE: Final = re.compile(r"(\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NUMPY: Final = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SECTION: Final = re.compile(
    r"(args|arguments|parameters|params|returns?|yields?|raises|examples?|notes?|warnings?)"
    r":?\s*$",
    re.IGNORECASE,
)
_OF_PARAMETERS: Final = ("args", "arguments", "parameters", "params")


def described(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a function is for, and what is said of its parameters, by their names."""
    lines = (inspect.getdoc(function) or "").splitlines()
    about: list[str] = []
    said: dict[str, list[str]] = {}
    for section, inside in _sections(lines):
        if section == "":
            about += _before_fields(inside, said)
        elif section in _OF_PARAMETERS:
            said.update(_parameters(inside))
    texts = {name.lstrip("*"): " ".join(" ".join(words).split()) for name, words in said.items()}
    return "\n".join(about).strip(), {name: text for name, text in texts.items() if text}


def _sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The docstring cut at its headings; "" is what stands before the first one."""
    name, inside = "", list[str]()
    for place, line in enumerate(lines):
        below = lines[place + 1] if place + 1 < len(lines) else ""
        heading = _SECTION.fullmatch(line)
        if heading and (line.rstrip().endswith(":") or set(below.strip()) == {"-"}):
            yield name, inside
            name, inside = heading[1].lower(), []
        elif not (name and not inside and set(line.strip()) == {"-"}):
            inside.append(line)
    yield name, inside


def _before_fields(lines: list[str], said: dict[str, list[str]]) -> list[str]:
    """The text before Sphinx's fields, whose parameters are put into `said`."""
    about: list[str] = []
    current: list[str] = about
    for line in lines:
        if found := _SPHINX.match(line.strip()):
            current = said.setdefault(found[1], [])
            current.append(found[2])
        elif _FIELD.match(line.strip()):
            current = []
        else:
            current.append(line)
    return about


def _parameters(lines: list[str]) -> dict[str, list[str]]:
    """The parameters of a section: names at its margin, what is said of them behind or below."""
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    said: dict[str, list[str]] = {}
    current: list[list[str]] = []
    for line in lines:
        inner = line.strip()
        if line[margin : margin + 1].isspace() or not inner:
            for words in current:
                words.append(inner)
        elif margin and (found := _GOOGLE.match(inner)):
            current = [said.setdefault(found[1], [])]
            current[0].append(found[2])
        elif found := _NUMPY.match(inner):
            current = [said.setdefault(name.strip(), []) for name in found[1].split(",")]
    return said


LONGEST_DESCRIPTION: Final = 1_024
MOST_YIELDED: Final = 10_000  # values of a generator
_PLAIN: Final = (str, int, float, bool)
_SEVERAL: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, eq=False)
class ToolFunction:
    """A function that a model may ask for. It can be called as before.

    dangerous: the user is asked before each call. tells_prints: what it prints is told to the
    model too. thread: it is called in a thread of its own, with a time limit; without, in the
    thread that asks, as what belongs to one thread needs it (a connection of sqlite3).
    """

    function: Callable[..., Any]
    name: str
    description: str
    dangerous: bool = False
    tells_prints: bool = False
    thread: bool = True

    def __post_init__(self) -> None:
        """Take over the function's docstring, module, qualified name and signature."""
        names = ("__module__", "__qualname__", "__doc__")
        taken = {
            name: getattr(self.function, name) for name in names if hasattr(self.function, name)
        }
        # The dataclass is frozen for those who use it.
        self.__dict__.update(taken, __name__=self.name, __wrapped__=self.function)

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call the function."""
        return self.function(*args, **named)

    def __get__(self, instance: Any, owner: Any = None) -> ToolFunction:
        """The tool of a method, bound to its object."""
        if instance is None or not hasattr(self.function, "__get__"):
            return self
        return replace(self, function=self.function.__get__(instance, owner))

    def __reduce__(self) -> Any:
        """By its name where it stands under that in its module, as a function is pickled."""
        name = getattr(self, "__qualname__", self.name)
        home: Any = sys.modules.get(getattr(self, "__module__", ""))
        for part in name.split("."):
            home = getattr(home, part, None)
        values = tuple(getattr(self, each.name) for each in fields(self))
        return name if home is self else (ToolFunction, values)

    def request_tool(self, limits: StrictLimits = OPENAI) -> Tool:
        """What is sent of it; not strict where the strict subset has no words for its arguments."""
        schema = self.arguments.schema
        try:
            strict: Mapping[str, Any] = make_strict_schema(schema, limits)
        except NotStrict:
            return Tool(self.name, self.description, schema, strict=False)
        return Tool(self.name, self.description, strict)

    def bound(self, arguments: str) -> inspect.BoundArguments:
        """The arguments of a call, validated. Raises SchemaMismatch."""
        given = self.arguments.validate(arguments.strip() or "{}")
        signature = self._signature
        # What was not said keeps the function's own default, unless that is a Field.
        named = {
            name: getattr(given, field)
            for field, (name, parameter) in zip(
                type(given).model_fields, signature.parameters.items(), strict=True
            )
            if field in given.model_fields_set or isinstance(parameter.default, FieldInfo)
        }
        return inspect.BoundArguments(signature, OrderedDict(named))

    def call(self, bound: inspect.BoundArguments) -> Any:
        """What the function gives; a coroutine is waited for, a generator is run to its end."""
        given = self.function(*bound.args, **bound.kwargs)
        if inspect.isawaitable(given):
            return ASYNC_TOOLS.run(_awaited(given))
        if inspect.isasyncgen(given):
            return ASYNC_TOOLS.run(_listed(cast(AsyncGenerator[Any, Any], given)))
        return list(islice(given, MOST_YIELDED)) if inspect.isgenerator(given) else given

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @cached_property
    def arguments(self) -> AnswerType:
        """The type of the arguments. Raises BadOption for what a model cannot be told."""
        _, said = described(self.function)
        hints = _hints(self.function, self.name)
        fields: dict[str, Any] = {}
        for place, (name, parameter) in enumerate(self._signature.parameters.items()):
            kind, notes = _kind(self.name, parameter, hints)
            about = said.get(name) or notes
            field: dict[str, Any] = {"alias": name}
            default = parameter.default
            if isinstance(default, FieldInfo):
                kind = Annotated[kind, *default.metadata] if default.metadata else kind
                about = default.description or about
                if not default.is_required():
                    field["default_factory"] = partial(
                        default.get_default, call_default_factory=True, validated_data={}
                    )
            elif default is not parameter.empty:
                field["default"] = default
            if about:
                field["description"] = about[:LONGEST_DESCRIPTION]
            # pydantic has names of its own, such as `copy` and `json`: these come as aliases.
            fields[f"a{place}"] = (kind, Field(**field))
        try:
            model = create_model(
                re.sub(r"\W", "_", self.name), __config__=ConfigDict(extra="forbid"), **fields
            )
            made: AnswerType = AnswerType(self.name, model)
            _ = made.schema
        except (NotASchema, PydanticUserError) as error:
            said_short = str(error).partition("\n")[0][:200]
            raise BadOption(
                f"the tool {self.name}: {said_short}",
                hint="take text, numbers, lists or a pydantic model",
            ) from None
        return made


@overload
def tool(function: Callable[..., Any], /) -> ToolFunction: ...


@overload
def tool(
    *, name: str = "", description: str = "", dangerous: bool = False, thread: bool = True
) -> Callable[[Callable[..., Any]], ToolFunction]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    description: str = "",
    dangerous: bool = False,
    thread: bool = True,
) -> ToolFunction | Callable[[Callable[..., Any]], ToolFunction]:
    """Make a function a tool: `@tool`, or `@tool(dangerous=True)` to be asked before each call.

    thread=False: it is called in the thread that asks, for what belongs to one thread, such as a
    connection of sqlite3 that the notebook has opened; it has no time limit then.

    Raises BadOption for a function a model cannot be told about.
    """

    def made(function: Callable[..., Any]) -> ToolFunction:
        return tool_of(
            function, name=name, description=description, dangerous=dangerous, thread=thread
        )

    return made if function is None else made(function)


def tool_of(
    function: Any,
    *,
    name: str = "",
    description: str = "",
    dangerous: bool = False,
    tells_prints: bool = False,
    thread: bool = True,
) -> ToolFunction:
    """The tool of a function. Raises BadOption where it is none, or takes what cannot be told."""
    if isinstance(function, ToolFunction):
        return function
    inner = function.func if isinstance(function, partial) else function
    if not inspect.isroutine(inner):
        kind = type(function).__name__
        hint = "write a function that uses it: def look_up(name: str) -> str"
        raise BadOption(f"a {kind} is no function, and no tool", hint=hint)
    said = name or inner.__name__
    if said == "<lambda>":
        raise BadOption("a lambda has no name for a tool", hint="def it")
    wire_name = re.sub(r"[^a-zA-Z0-9_-]+", "_", said)[:64]
    try:
        inspect.signature(function)
    except (ValueError, TypeError):
        hint = "write a function that calls it"
        raise BadOption(f"the arguments of {said} are not known", hint=hint) from None
    about, _ = described(inner)
    made = ToolFunction(
        function,
        wire_name,
        (description or about)[:LONGEST_DESCRIPTION],
        dangerous=dangerous,
        tells_prints=tells_prints,
        thread=thread,
    )
    if not is_method(function):  # its `self` is known when it is bound to an object
        _ = made.arguments
    return made


def is_method(function: Any) -> bool:
    """Whether a function was defined in the body of a class, and is not bound to an object."""
    if not inspect.isfunction(function):
        return False
    place = function.__qualname__.rpartition(".")[0]
    return bool(place) and not place.endswith("<locals>")


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    inner = function.func if isinstance(function, partial) else function
    try:
        return get_type_hints(inner, include_extras=True)
    except NameError as error:
        hint = f"define {error.name} before the tool"
        raise BadOption(
            f"the tool {name} names {error.name}, which is not defined", hint=hint
        ) from None
    except TypeError as error:
        raise BadOption(f"the tool {name} has an annotation that is no type: {error}") from None


def _kind(name: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> tuple[Any, str]:
    """The type of a parameter, and what its annotation says in words."""
    if parameter.kind in _SEVERAL:
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else "*"
        hint = "name each argument, or take a list"
        raise BadOption(f"the tool {name} takes {stars}{parameter.name}", hint=hint)
    kind = hints.get(parameter.name)
    if kind is None and type(parameter.default) in _PLAIN:
        return type(parameter.default), ""
    if parameter.name not in hints:
        hint = f"say its type: {parameter.name}: str"
        raise BadOption(f"the tool {name} does not say what {parameter.name} is", hint=hint)
    words = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return kind, next((word for word in words if isinstance(word, str)), "")


async def _awaited(given: Awaitable[Any]) -> Any:
    return await given


async def _listed(given: AsyncGenerator[Any, Any]) -> list[Any]:
    values = []
    async with aclosing(given):
        async for value in given:
            values.append(value)
            if len(values) >= MOST_YIELDED:
                break
    return values

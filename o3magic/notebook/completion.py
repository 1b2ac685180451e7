"""TAB on a line of `%%o3` or `%o3_config`: options, and what each may be given here and now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from o3magic.errors import O3Error
from o3magic.models import Card
from o3magic.params import OFFERED
from o3magic.schemas.lookup import known_types
from o3magic.session.session import Session
from o3magic.settings import Option, Settings, options
from o3magic.tools.function import ToolFunction


def card_of(session: Session, profile: Settings) -> Card:
    """The card of a profile's model; a provider may call its deployment otherwise."""
    with suppress(O3Error):
        model = session.choose_model(profile, look=False).model
        provider = session.reach.stand_in(profile)
        return session.catalog.card(provider.cards.get(model, model))
    return session.catalog.card(profile.model)


def default_model(session: Session) -> tuple[str, str]:
    """The model that is asked while none is named, and why; blanks where that is not known."""
    with suppress(O3Error):
        choice = session.choose_model(session.layers.profile(), look=False)
        return choice.model, choice.reason
    return "", ""


MAGICS = ("%%o3 ", "%o3 ")
CONFIG = "%o3_config "
BUILT_IN_TOOLS = ("python", "sql", "web_search")
# What an option takes, in a word; where it says nothing, a value.
KINDS = {"efforts": "effort", "models": "model", "tools": "tool", "file": "path"}
KINDS |= {name: name for name in ("effort", "model", "provider", "schema", "conversation")}
KINDS |= {"profile": "profile", "notebook": "path", "map": "instance", "param": "param"}
LISTS = ("efforts", "models", "tools")  # several values, with commas between them
WHO = ("model", "provider", "profile")
MOST_PATHS = 500


class LineContext(NamedTuple):
    """What is on the line before the word that is completed."""

    option: Option | None
    begun: str
    said: dict[str, str]  # of who is asked


def matcher_for(session: Session, names: dict[str, Any]) -> Callable[..., Any]:
    """A matcher of one shell, for `Completer.custom_matchers`."""

    @context_matcher(identifier="o3magic")  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        before = context.line_with_cursor[: context.cursor_position]
        if before.startswith(CONFIG):
            given = read_setting(before)
            if given.option is None:
                return found((f"{each.name}=" for each in options()), given.begun)
        elif before.startswith(MAGICS) and (context.cursor_line == 0 or before.startswith("%o3 ")):
            given = read(before)
        else:
            return found((), "")
        if given.option is not None:
            return offered(session, names, given)
        if given.begun.startswith("-"):
            return found((name for each in options() for name in each.flag.names), given.begun)
        return found((), "")

    return matcher  # type: ignore[no-any-return]


def offered(session: Session, names: Mapping[str, Any], given: LineContext) -> SimpleMatcherResult:
    """What an option may be given."""
    assert given.option is not None
    kind, begun = KINDS.get(given.option.name, "value"), given.begun
    if given.option.name in LISTS:
        begun = begun.rpartition(",")[2]
    words: Iterable[str] = ()
    with suppress(O3Error):
        words = tuple(values(session, names, given))
    return found(words, begun, kind)


def read_setting(before: str) -> LineContext:
    """What `%o3_config effort=h` says: the option whose value comes next, or the name of one."""
    *earlier, begun = before.split(" ")
    said = dict(word.split("=", 1) for word in earlier if "=" in word)
    name, equals, value = begun.partition("=")
    option = next((each for each in options() if each.name == name), None) if equals else None
    said = {name: value for name, value in said.items() if name in WHO}
    return LineContext(option, value, said) if option else LineContext(None, begun, said)


def read(before: str) -> LineContext:
    """What the beginning of a line says: the option whose value comes next, if one does."""
    by_flag = {name: option for option in options() for name in option.flag.names}
    said: dict[str, str] = {}
    *earlier, begun = before.split(" ")
    open_: Option | None = None
    for word in filter(None, earlier[1:]):
        if open_ is None:
            flag, equals, value = word.partition("=")
            option = by_flag.get(flag)
            if option is None or option.flag.switch is not None:
                continue
            if not equals:
                open_ = option
                continue
        else:
            option, value = open_, word
            open_ = None
        if option.name in WHO:
            said[option.name] = value
    flag, equals, value = begun.partition("=")
    if open_ is None and equals and (option := by_flag.get(flag)) and option.flag.switch is None:
        return LineContext(option, value, said)
    return LineContext(open_, begun, said)


def values(session: Session, names: Mapping[str, Any], given: LineContext) -> Iterable[str]:
    """What an option may be given. Raises O3Error where the settings are wrong."""
    option = given.option
    assert option is not None
    match option.name:
        case "effort" | "efforts":
            return efforts(session, given) or option.choices
        case "model" | "models":
            return session.catalog.names
        case "provider":
            return session.providers.names
        case "schema":
            return known_types(names, session.schemas)
        case "conversation":
            return session.conversations.names()
        case "tools":
            return tools(session, names)
        case "profile":
            return session.layers.profiles
        case "map":
            return tables(names)
        case "param":
            return [f"{name}=" for name in OFFERED]
        case "file":
            return [*session.prompts, *paths(session, given.begun)]
        case "notebook":
            return paths(session, given.begun)
    return option.choices


def efforts(session: Session, given: LineContext) -> tuple[str, ...]:
    """The efforts of the model that would be asked."""
    profile = session.layers.profile(given.said)
    return tuple(card_of(session, profile).efforts or ())


def tools(session: Session, names: Mapping[str, Any]) -> Iterator[str]:
    """The names that `--tools` takes: registered functions, the notebook's own, the built-in."""
    yield from session.tools
    for name, value in [*names.items()]:
        own = isinstance(value, FunctionType | ToolFunction) and not name.startswith("_")
        if own and name not in session.tools:
            yield name
    yield from BUILT_IN_TOOLS


def tables(names: Mapping[str, Any]) -> Iterator[str]:
    """The names of what has rows: data frames of any library, and lists of dicts."""
    for name, value in [*names.items()]:
        rows = isinstance(value, list) and value and isinstance(value[0], Mapping)
        if not name.startswith("_") and (rows or hasattr(type(value), "__dataframe__")):
            yield name


def paths(session: Session, begun: str) -> Iterator[str]:
    """The files and folders that go on with a path; it begins where the notebook is."""
    folder = Path(session.notebook).absolute().parent if session.notebook else Path.cwd()
    above, slash, name = begun.rpartition("/")
    with suppress(OSError, RuntimeError):
        there = sorted((folder / Path(above + slash).expanduser()).iterdir())
        for path in there[:MOST_PATHS]:
            if path.name.startswith(".") and not name.startswith("."):
                continue
            if not any(sign.isspace() or sign in "'\"" for sign in path.name):
                yield f"{above}{slash}{path.name}{'/' if path.is_dir() else ''}"


def found(words: Iterable[str], begun: str, kind: str = "option") -> SimpleMatcherResult:
    """The words that go on with what was begun; nobody else is asked where there are some.

    kind: what an editor shows beside each of them.
    """
    fitting = dict.fromkeys(word for word in words if word.startswith(begun))
    return {
        "completions": [SimpleCompletion(text=word, type=kind) for word in fitting],
        "matched_fragment": begun,
        "suppress": bool(fitting),
    }

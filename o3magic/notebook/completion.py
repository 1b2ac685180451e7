"""TAB on a line of `%%o3`, `%o3` or `%o3_config`: options, and the values that each takes here.

Of the options, the common ones are offered. The others follow where no common option begins with
what is typed (`--ti`), or where the name of an option is typed in full (`--budget`). Every option
can be typed, whether it is offered or not.
"""

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
from o3magic.schemas.lookup import list_types
from o3magic.session.session import Session
from o3magic.settings import Option, Settings, options
from o3magic.tools.function import ToolFunction

MAGICS = ("%%o3 ", "%o3 ")
CONFIG = "%o3_config "
BUILT_IN_TOOLS = ("python", "sql", "web_search")
# The kind that an editor shows beside the values of an option; "value" for the options left out.
KINDS = {"efforts": "effort", "models": "model", "tools": "tool", "file": "path"}
KINDS |= {name: name for name in ("effort", "model", "provider", "schema", "conversation")}
KINDS |= {"profile": "profile", "notebook": "path", "map": "instance", "param": "param"}
COMMA_SEPARATED = ("efforts", "models", "tools")
MODEL_OPTIONS = ("model", "provider", "profile")  # they decide which model is asked
MAX_PATHS = 500


class LineContext(NamedTuple):
    """The line before the cursor.

    option: the one whose value is typed, or None while the name of an option is.
    fragment: what is typed of the word.
    chosen: the values of MODEL_OPTIONS that stand before it.
    """

    option: Option | None
    fragment: str
    chosen: dict[str, str]


def build_matcher(session: Session, names: dict[str, Any]) -> Callable[..., Any]:
    """A matcher for `Completer.custom_matchers` of one shell."""

    @context_matcher(identifier="o3magic")  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        text = context.line_with_cursor[: context.cursor_position]
        if text.startswith(CONFIG):
            line = parse_settings(text)
            if line.option is None:
                return complete_option(lambda option: [f"{option.name}="], line.fragment)
        elif text.startswith(MAGICS) and (context.cursor_line == 0 or text.startswith("%o3 ")):
            line = parse_options(text)
        else:
            return complete([], "")
        if line.option is not None:
            return complete_value(session, names, line.option, line)
        if line.fragment.startswith("-"):
            return complete_option(lambda option: option.flag.names, line.fragment)
        return complete([], "")

    return matcher  # type: ignore[no-any-return]


def parse_settings(text: str) -> LineContext:
    """The context of `%o3_config model=o3 effort=h`."""
    *words, last = text.split(" ")
    name, equals, value = last.partition("=")
    option = next((o for o in options() if o.name == name), None) if equals else None
    chosen = dict(word.split("=", 1) for word in words if "=" in word)
    chosen = {name: value for name, value in chosen.items() if name in MODEL_OPTIONS}
    return LineContext(option, value if option else last, chosen)


def parse_options(text: str) -> LineContext:
    """The context of `%%o3 -m o3 --effort h` and `%%o3 -m o3 --effort=h`."""
    by_flag = {
        name: option
        for option in options()
        for name in option.flag.names
        if option.flag.switch is None
    }
    chosen: dict[str, str] = {}
    pending: Option | None = None  # its value is the next word
    _, *words, last = text.split(" ")
    for word in filter(None, words):
        if pending is not None:
            option, value, pending = pending, word, None
        else:
            flag, equals, value = word.partition("=")
            if flag not in by_flag:
                continue
            option = by_flag[flag]
            if not equals:
                pending = option
                continue
        if option.name in MODEL_OPTIONS:
            chosen[option.name] = value
    flag, equals, value = last.partition("=")
    if pending is None and equals and flag in by_flag:
        return LineContext(by_flag[flag], value, chosen)
    return LineContext(pending, last, chosen)


def complete_option(
    words_of: Callable[[Option], Iterable[str]], fragment: str
) -> SimpleMatcherResult:
    """The options that begin with a fragment, by the rule of this module.

    words_of: the words that stand for an option on this line.
    """
    every = [word for option in options() for word in words_of(option)]
    common = [word for option in options() if option.flag.common for word in words_of(option)]
    offers_common = any(word.startswith(fragment) for word in common) and fragment not in every
    return complete(common if offers_common else every, fragment)


def complete_value(
    session: Session, names: Mapping[str, Any], option: Option, line: LineContext
) -> SimpleMatcherResult:
    """The values of an option that begin with what is typed."""
    fragment = line.fragment
    if option.name in COMMA_SEPARATED:
        fragment = fragment.rpartition(",")[2]
    words: list[str] = []
    with suppress(O3Error):
        words = [*list_values(session, names, option, line)]
    return complete(words, fragment, KINDS.get(option.name, "value"))


def complete(words: Iterable[str], fragment: str, kind: str = "option") -> SimpleMatcherResult:
    """The words that begin with a fragment. Other matchers are suppressed if there is one.

    kind: what an editor shows beside each of them.
    """
    matches = dict.fromkeys(word for word in words if word.startswith(fragment))
    return {
        "completions": [SimpleCompletion(text=word, type=kind) for word in matches],
        "matched_fragment": fragment,
        "suppress": bool(matches),
    }


def list_values(
    session: Session, names: Mapping[str, Any], option: Option, line: LineContext
) -> Iterable[str]:
    """The values that an option takes here. Raises O3Error where the settings are wrong."""
    match option.name:
        case "effort" | "efforts":
            card = card_of(session, session.layers.profile(line.chosen))
            return card.efforts or option.choices
        case "model" | "models":
            return session.catalog.names
        case "provider":
            return session.providers.names
        case "schema":
            return list_types(names, session.schemas)
        case "conversation":
            return session.conversations.names()
        case "tools":
            return list_tools(session, names)
        case "profile":
            return session.layers.profiles
        case "map":
            return list_tables(names)
        case "param":
            return [f"{name}=" for name in OFFERED]
        case "file":
            return [*session.prompts, *list_paths(session, line.fragment)]
        case "notebook":
            return list_paths(session, line.fragment)
    return option.choices


def list_tools(session: Session, names: Mapping[str, Any]) -> Iterator[str]:
    """The names that `--tools` takes: registered functions, the notebook's own, the built-in."""
    yield from session.tools
    for name, value in [*names.items()]:
        is_tool = isinstance(value, FunctionType | ToolFunction) and not name.startswith("_")
        if is_tool and name not in session.tools:
            yield name
    yield from BUILT_IN_TOOLS


def list_tables(names: Mapping[str, Any]) -> Iterator[str]:
    """The names of data frames of any library and of lists of dicts."""
    for name, value in [*names.items()]:
        is_rows = isinstance(value, list) and value and isinstance(value[0], Mapping)
        if not name.startswith("_") and (is_rows or hasattr(type(value), "__dataframe__")):
            yield name


def list_paths(session: Session, fragment: str) -> Iterator[str]:
    """The files and folders of the folder that a fragment names, relative to the notebook."""
    start = Path(session.notebook).absolute().parent if session.notebook else Path.cwd()
    folder, slash, name = fragment.rpartition("/")
    with suppress(OSError, RuntimeError):
        paths = sorted((start / Path(folder + slash).expanduser()).iterdir())
        for path in paths[:MAX_PATHS]:
            if path.name.startswith(".") and not name.startswith("."):
                continue
            # A value with a blank or a quote in it would have to be quoted as a whole.
            if not any(char.isspace() or char in "'\"" for char in path.name):
                yield f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}"


def card_of(session: Session, settings: Settings) -> Card:
    """The card of the model that is asked; a provider may call its deployment otherwise."""
    with suppress(O3Error):
        model = session.choose_model(settings, look=False).model
        provider = session.reach.stand_in(settings)
        return session.catalog.card(provider.cards.get(model, model))
    return session.catalog.card(settings.model)


def default_model(session: Session) -> tuple[str, str]:
    """The model that is asked while none is named, and why; blank where that is not known."""
    with suppress(O3Error):
        choice = session.choose_model(session.layers.profile(), look=False)
        return choice.model, choice.reason
    return "", ""

"""TAB on a `%%o3` line: options, their values, models, providers, and the schemas that are here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from o3magic.profile import Option, options
from o3magic.talk.schemas import known_types
from o3magic.talk.session import Session

MAGICS = ("%%o3 ", "%o3 ")


def matcher_for(session: Session, names: dict[str, Any]) -> Callable[..., Any]:
    """A matcher of one shell, for `Completer.custom_matchers`."""

    def values(option: Option) -> Iterable[str]:
        """What an option may be given."""
        match option.name:
            case "model":
                return session.catalog.names
            case "provider":
                return session.providers.names
            case "schema":
                return known_types(names, session.schemas)
        return option.choices

    @context_matcher(identifier="o3magic")  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        before = context.line_with_cursor[: context.cursor_position]
        if context.cursor_line != 0 and not before.startswith("%o3 "):
            return found((), "")
        if not before.startswith(MAGICS):
            return found((), "")
        *earlier, word = before.split(" ")
        flag, equals, begun = word.partition("=")
        if equals and flag.startswith("-"):
            return found(given(flag, values), begun)
        if earlier and (known := given(earlier[-1], values)):
            return found(known, word)
        if word.startswith("-"):
            return found((name for each in options() for name in each.flag.names), word)
        return found((), "")

    return matcher  # type: ignore[no-any-return]


def given(flag: str, values: Callable[[Option], Iterable[str]]) -> tuple[str, ...]:
    """The values of the option of that name, or none."""
    for option in options():
        if flag in option.flag.names and option.flag.switch is None:
            return tuple(values(option))
    return ()


def found(words: Iterable[str], begun: str) -> SimpleMatcherResult:
    """The words that go on with what was begun; nobody else is asked where there are some."""
    fitting = [SimpleCompletion(text=word) for word in words if word.startswith(begun)]
    return {
        "completions": fitting,
        "matched_fragment": begun,
        "suppress": bool(fitting),
    }

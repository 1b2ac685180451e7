"""The `%%o3` line: options declared once, in Profile; the parser and the help follow from them."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from typing import Any, NamedTuple

from o3magic.config import Config
from o3magic.errors import BadOption, did_you_mean
from o3magic.settings import Option, options

QUOTES = ("'", '"')


class LineWord(NamedTuple):
    """A word of the line, quotes taken off, and where the line goes on behind it."""

    text: str
    quoted: bool
    end: int


def parse(line: str) -> tuple[dict[str, Any], str]:
    """The options at the beginning of a line, and the rest of it, untouched.

    A value is one word, or anything in quotes. An apostrophe inside a word is only that, so
    `%o3 what's new` needs no care. `--` ends the options. Raises BadOption.
    """
    by_flag = {name: option for option in options() for name in option.flag.names}
    chosen: dict[str, Any] = {}
    at = 0
    while (word := next_word(line, at)) is not None and is_flag(word):
        at = word.end
        if word.text == "--":
            break
        name, has_value, value = word.text.partition("=")
        option = by_flag.get(name) or unknown(name, list(by_flag))
        if option.flag.switch is not None:
            if has_value:
                raise BadOption(f"{name} takes no value", hint=option.flag.help)
            chosen[option.name] = option.flag.switch
            continue
        if not has_value:
            following = next_word(line, at)
            if following is None:
                raise missing(name, option)
            value, at = following.text, following.end
        if option.flag.repeats and option.name in chosen:
            value = f"{chosen[option.name]}\n{value}"
        chosen[option.name] = value
    return chosen, line[at:].strip()


def is_flag(word: LineWord) -> bool:
    """Whether a word is written like an option. A lone dash and a negative number are not."""
    return (
        not word.quoted
        and len(word.text) > 1
        and word.text[0] == "-"
        and not word.text[1].isdigit()
    )


def next_word(line: str, at: int, *, settings: bool = False) -> LineWord | None:
    """The word at or behind a place, or None at the end. Raises BadOption for an open quote.

    settings: a quote opens behind the `=` of any word, not only of an option.
    """
    while at < len(line) and line[at].isspace():
        at += 1
    if at == len(line):
        return None
    end = at
    while end < len(line) and not line[end].isspace():
        # A quote opens at the beginning of a word or of a value: --developer="..."
        valued = line[end - 1] == "=" and (settings or line[at] == "-")
        if line[end] in QUOTES and (end == at or valued):
            close = line.find(line[end], end + 1)
            if close < 0:
                raise BadOption(f"the quote at {line[end:][:20]!r} is not closed")
            return LineWord(line[at:end] + line[end + 1 : close], end == at, close + 1)
        end += 1
    return LineWord(line[at:end], False, end)


def words(line: str) -> Iterator[str]:
    """All words of a line of settings."""
    at = 0
    while (word := next_word(line, at, settings=True)) is not None:
        yield word.text
        at = word.end


def check_name(name: str) -> None:
    """Raise BadOption for an --out name that Python would not take."""
    if name and (not name.isidentifier() or keyword.iskeyword(name)):
        raise BadOption(f"--out {name}: this is no name in Python", hint="--out answer")


def refuse_words(line: str, magic: str) -> None:
    """Raise BadOption where a magic that takes nothing is given something."""
    if line.strip():
        raise BadOption(f"{magic} takes no {line.split()[0]!r}", hint=f"{magic} alone")


def unknown(name: str, known: list[str]) -> Option:
    """Never returns: an option nobody declared. Raises BadOption with near names."""
    raise BadOption(
        f"there is no option {name}", hint=did_you_mean(name, known, "%o3_help all lists the options")
    )


def missing(name: str, option: Option) -> BadOption:
    """An option without its value."""
    return BadOption(f"{name} needs a value", hint=" or ".join(option.choices) or option.flag.help)


def format_usage(option: Option) -> str:
    """How an option is written: `-e, --effort low|medium|...`."""
    flags = ", ".join(option.flag.names)
    if option.flag.switch is not None:
        return flags
    unit = option.name.rpartition("_")[2].upper()
    return f"{flags} {'|'.join(option.choices) or option.flag.value or unit}"


def format_default(option: Option) -> str:
    """` (default: o3-mini)`, or "" where there is nothing to say."""
    if option.flag.switch is not None or option.default in (None, ""):
        return ""
    return f" (default: {option.default})"


ALWAYS = ("model", "effort", "schema", "out", "developer")
SAID_HERE = ("%o3_config", "widget")


def cell_text(layers: Config, prompt: str) -> str:
    """A cell that asks the same: as `%%o3`, or in Python where one line cannot hold a setting.

    Settings of files and of the environment are left to them, and a model that nobody named to the
    provider.
    """
    profile = layers.profile()
    chosen = {
        option: value
        for option in options()
        if (value := getattr(profile, option.name)) != option.default
        if option.name in ALWAYS or layers.origin(option.name) in SAID_HERE
    }
    words = [on_line(option, value) for option, value in chosen.items()]
    if None in words:
        return in_python({option.name: value for option, value in chosen.items()}, prompt)
    line = " ".join(["%%o3", *(word for word in words if word)])
    return f"{line}\n{prompt}"


def on_line(option: Option, value: Any) -> str | None:
    """`--effort high`, in quotes where it must be; None where no quotes are enough."""
    flag = option.flag.names[-1]
    if option.flag.switch is not None:
        return flag
    text = str(value)
    if len(text.splitlines()) > 1:
        return None
    for quoted in (text, f'"{text}"', f"'{text}'"):
        try:
            if parse(f"{flag} {quoted}") == ({option.name: text}, ""):
                return f"{flag} {quoted}"
        except BadOption:
            continue
    return None


def in_python(chosen: dict[str, Any], prompt: str) -> str:
    """The same question as a call of `o3.ask`."""
    name = chosen.pop("out", "")
    schema = chosen.pop("schema", "")
    lines = [repr(prompt)]
    lines += [f"schema={schema}"] if schema else []  # a type that is here, not its name
    lines += [f"{name}={value!r}" for name, value in chosen.items()]
    call = "o3.ask(\n" + "".join(f"    {line},\n" for line in lines) + ")"
    asked = f"{name} = {call}\n{name}" if name else call
    return f"import o3magic as o3\n\n{asked}"

"""The `%%o3` line: parse its options, describe them, and write the line for given settings."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from typing import Any, NamedTuple

from o3magic.config import Config
from o3magic.errors import BadOption, did_you_mean
from o3magic.settings import Option, options

QUOTES = ("'", '"')
# A cell that is written for the user has these options wherever they were set ...
PORTABLE = ("model", "effort", "schema", "out", "developer")
# ... and the others where they were set in this notebook.
NOTEBOOK_LAYERS = ("%o3_config", "widget")


class LineWord(NamedTuple):
    """A word of the line without its quotes, and the index where the line continues."""

    text: str
    is_quoted: bool
    end: int

    @property
    def is_flag(self) -> bool:
        """Whether it is written like an option. A lone dash and a negative number are not."""
        text = self.text
        return not self.is_quoted and len(text) > 1 and text[0] == "-" and not text[1].isdigit()


def parse(line: str) -> tuple[dict[str, Any], str]:
    """The options at the beginning of a line, and the rest of it, unchanged.

    A value is one word, or anything in quotes. An apostrophe within a word is no quote, as in
    `%o3 what's new`. `--` ends the options. Raises BadOption.
    """
    by_flag = {name: option for option in options() for name in option.flag.names}
    values: dict[str, Any] = {}
    index = 0
    while (word := next_word(line, index)) is not None and word.is_flag:
        index = word.end
        if word.text == "--":
            break
        flag, has_value, value = word.text.partition("=")
        option = by_flag.get(flag)
        if option is None:
            hint = did_you_mean(flag, [*by_flag], "%o3_help all lists the options")
            raise BadOption(f"there is no option {flag}", hint=hint)
        if option.flag.switch is not None:
            if has_value:
                raise BadOption(f"{flag} takes no value", hint=option.flag.help)
            values[option.name] = option.flag.switch
            continue
        if not has_value:
            following = next_word(line, index)
            if following is None:
                hint = " or ".join(option.choices) or option.flag.help
                raise BadOption(f"{flag} needs a value", hint=hint)
            value, index = following.text, following.end
        if option.flag.repeats and option.name in values:
            value = f"{values[option.name]}\n{value}"
        values[option.name] = value
    return values, line[index:].strip()


def next_word(line: str, start: int, *, settings: bool = False) -> LineWord | None:
    """The first word at or after an index, or None at the end. Raises BadOption for an open quote.

    settings: a quote opens after the `=` of any word, not only of an option.
    """
    while start < len(line) and line[start].isspace():
        start += 1
    if start == len(line):
        return None
    end = start
    while end < len(line) and not line[end].isspace():
        # A quote opens at the beginning of a word or of a value: --developer="..."
        opens_value = line[end - 1] == "=" and (settings or line[start] == "-")
        if line[end] in QUOTES and (end == start or opens_value):
            close = line.find(line[end], end + 1)
            if close < 0:
                raise BadOption(f"the quote at {line[end:][:20]!r} is not closed")
            return LineWord(line[start:end] + line[end + 1 : close], end == start, close + 1)
        end += 1
    return LineWord(line[start:end], False, end)


def split_words(line: str) -> Iterator[str]:
    """All words of a line of settings."""
    index = 0
    while (word := next_word(line, index, settings=True)) is not None:
        yield word.text
        index = word.end


def check_name(name: str) -> None:
    """Raise BadOption for an --out name that is no Python identifier."""
    if name and (not name.isidentifier() or keyword.iskeyword(name)):
        raise BadOption(f"--out {name}: this is not a Python name", hint="--out answer")


def refuse_words(line: str, magic: str) -> None:
    """Raise BadOption for words after a magic that takes none."""
    if line.strip():
        raise BadOption(f"{magic} takes no {line.split()[0]!r}", hint=f"{magic} alone")


def format_usage(option: Option) -> str:
    """How an option is written: `-e, --effort low|medium|...`."""
    flags = ", ".join(option.flag.names)
    if option.flag.switch is not None:
        return flags
    unit = option.name.rpartition("_")[2].upper()
    return f"{flags} {'|'.join(option.choices) or option.flag.value or unit}"


def format_default(option: Option) -> str:
    """` (default: 10)`, or "" for a switch and an option that is unset by default."""
    if option.flag.switch is not None or option.default in (None, ""):
        return ""
    return f" (default: {option.default})"


def cell_text(config: Config, prompt: str) -> str:
    """A cell that asks the same: as `%%o3`, or in Python where one line cannot hold a setting.

    Settings of files and of the environment are left out, and so is a model that was not chosen.
    """
    settings = config.profile()
    chosen = {
        option: value
        for option in options()
        if (value := getattr(settings, option.name)) != option.default
        if option.name in PORTABLE or config.origin(option.name) in NOTEBOOK_LAYERS
    }
    words = [format_option(option, value) for option, value in chosen.items()]
    if None in words:
        return format_call({option.name: value for option, value in chosen.items()}, prompt)
    line = " ".join(["%%o3", *(word for word in words if word)])
    return f"{line}\n{prompt}"


def format_option(option: Option, value: Any) -> str | None:
    """`--effort high`, quoted where necessary; None where no quotes are sufficient."""
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


def format_call(values: dict[str, Any], prompt: str) -> str:
    """The same question as a call of `o3.ask`."""
    name = values.pop("out", "")
    schema = values.pop("schema", "")
    lines = [repr(prompt)]
    lines += [f"schema={schema}"] if schema else []  # the type itself, which the notebook has
    lines += [f"{name}={value!r}" for name, value in values.items()]
    call = "o3.ask(\n" + "".join(f"    {line},\n" for line in lines) + ")"
    statement = f"{name} = {call}\n{name}" if name else call
    return f"import o3magic as o3\n\n{statement}"

"""`%o3_help`: options and magics, with examples that run, or the page of one topic.

The names, values and defaults of an option come from `Settings`, where the option is declared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from inspect import cleandoc
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any, NamedTuple

from o3magic.config import NOT_IN_A_PROJECT, PROJECT_FILE, Config
from o3magic.errors import BadOption, did_you_mean
from o3magic.notebook.line_parser import format_default, format_usage
from o3magic.providers import Providers
from o3magic.render.answer import Bundle
from o3magic.render.markdown.sanitize import code_span, plain_text, safe_markdown
from o3magic.render.tables import said
from o3magic.settings import Option, options

MAX_CODE_CHARS = 34  # a longer usage stands on a line of its own
MIN_LINE_CHARS, MAX_LINE_CHARS = 60, 100
UNBROKEN = re.compile(r"\([^()]*\)|`[^`]*`")  # no line breaks within these
KEPT_BLANK = "\x00"  # stands for a blank at which no line breaks

# The option that begins each group. The options after it, in the order of their declaration, belong
# to the same group, so a new option needs no entry here.
GROUPS = {
    "effort": "Reasoning and answer",
    "model": "Model and provider",
    "developer": "Request",
    "tier": "Cost",
    "repairs": "Request",
    "background": "Several answers",
    "view": "Display",
    "mode": "Recording and replay",
    "stream": "Display",
    "base_url": "Connection",
}


class Example(NamedTuple):
    """A cell that can be run without changes, and its description."""

    cell: str
    description: str


EXAMPLES = (
    Example("%%o3\nWhy is the sky blue?", "A question; the answer streams in as Markdown."),
    Example("short = %o3 -e low Why is the sky blue?", "On one line, with little reasoning."),
    Example(
        "%%o3 --effort high -o proof\nIs every even perfect number triangular?",
        "The answer has a name: `proof.text`, `proof.usage`, `proof.cost_usd`.",
    ),
    Example(
        "from pydantic import BaseModel\n\nclass Line(BaseModel):\n    item: str\n    price: float",
        "The type of an answer: a pydantic model, dataclass, TypedDict or Enum.",
    ),
    Example(
        "%%o3 --schema list[Line] -o lines\nFour bags of coffee at 8.50, a grinder for 64.90.",
        "Objects of that class: `lines.parsed`.",
    ),
    Example(
        "%%o3 --compare --efforts low,high\nWhich of these series converge: 1/n, 1/n^2?",
        "Side by side, with time, tokens and cost; without `--efforts` at every effort.",
    ),
    Example(
        "%%o3 --background -o later\nWrite a limerick about lemmas.",
        "The cell returns at once; `later.wait()` waits for the answer.",
    ),
    Example("%%o3 --dry-run\nWhat would this send?", "Shows the request and sends nothing."),
    Example("%o3_config effort=medium", "For the whole session; `effort=` takes it back."),
    Example("%o3_cost", "What this session used and cost."),
    Example("%o3_panel", "The settings and a prompt as widgets."),
    Example(
        'import o3magic as o3\n\no3.ask("Why is the sky blue?", effort="low").text',
        "The same in Python; also `o3.stream`, `o3.compare` and `@o3.schema`.",
    ),
)


class Section(NamedTuple):
    """A part of a page: a title, a text, rows of code and its meaning, and examples."""

    title: str
    text: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    examples: tuple[Example, ...] = ()


INTRODUCTION = Section(
    "",
    "The lines below `%%o3` are a prompt. The answer streams into the notebook, and is a value: "
    "in `_`, and in the name given with `-o`.",
)
READ_ON = Section(
    "More",
    "The README has the rest.",
    (
        ("%o3_help all", "every option, also those that are rarely used"),
        ("%o3_help effort", "one option: its values, and every place where it can be set"),
        ("%o3_models", "models with their prices, efforts and shutdown dates"),
        ("o3magic doctor", "in a terminal: which provider is used, and what is wrong"),
        ("o3magic demo", "in a terminal: a notebook to try, without key or network"),
    ),
)


def help_bundle(
    topic: str, config: Config, providers: Providers, magics: Mapping[str, Callable[..., Any]]
) -> Bundle:
    """The page of one topic, or the overview. Raises BadOption with similar topics."""
    parts = {
        "examples": [Section("Examples", examples=EXAMPLES)],
        "options": common_sections(),
        "magics": [magics_section(magics)],
        "keys": [keys_section(providers)],
    }
    word = topic.strip().lstrip("%-").replace("-", "_").lower()
    if not word:
        overview = [section for part in parts.values() for section in part]
        return bundle([INTRODUCTION, *overview, READ_ON])
    parts["all"] = option_sections(options())
    sections = list(parts.get(word, []))
    sections += [option_page(option, config) for option in options() if word in names_of(option)]
    sections += [
        magic_page(name, magic) for name, magic in magics.items() if word in (name, name[3:])
    ]
    if not sections:
        known = [*parts, *magics, *(option.name for option in options())]
        hint = did_you_mean(word, known, f"%o3_help, or one of {', '.join(parts)}")
        raise BadOption(f"there is no help on {topic.strip()!r}", hint=hint)
    return bundle(sections)


def cell_help() -> str:
    """The page of `%%o3?`: the common options and examples."""
    usage = (
        ("%%o3 [options]", "the lines below are the prompt"),
        ("%o3 [options] prompt", "the same on one line; `answer = %o3 ...` works"),
    )
    sections = [
        Section("", "Ask a reasoning model; the answer appears as it is written.", usage),
        *common_sections(),
        Section("Examples", examples=tuple(filter(asks, EXAMPLES))),
        Section("", "%o3_help has keys, magics and settings."),
    ]
    return format_text(sections)


def asks(example: Example) -> bool:
    """Whether an example asks a model on a line of `%o3` or `%%o3`."""
    return "%o3 " in example.cell or example.cell.startswith("%%o3")


def names_of(option: Option) -> set[str]:
    """The topics that mean an option."""
    return {option.name, *(flag.lstrip("-").replace("-", "_") for flag in option.flag.names)}


def common_sections() -> list[Section]:
    """The common options in groups, and where the others are."""
    common = [option for option in options() if option.flag.common]
    rest = len(options()) - len(common)
    note = f"`%o3_help all` lists {rest} more options; `%o3_help effort` describes one in full."
    return [*option_sections(common), Section("", note)]


def option_sections(chosen: Iterable[Option]) -> list[Section]:
    """Options in groups."""
    titles: dict[str, str] = {}
    title = "Options"
    for option in options():
        titles[option.name] = title = GROUPS.get(option.name, title)
    groups: dict[str, list[tuple[str, str]]] = {title: [] for title in GROUPS.values()}
    for option in chosen:
        row = format_usage(option), option.flag.help + format_default(option)
        groups[titles[option.name]].append(row)
    return [Section(title, rows=tuple(rows)) for title, rows in groups.items() if rows]


def magics_section(magics: Mapping[str, Callable[..., Any]]) -> Section:
    """Every magic with the first line of its docstring."""
    rows = tuple(
        (f"%{name}", cleandoc(magic.__doc__ or "").partition("\n")[0])
        for name, magic in sorted(magics.items())
    )
    return Section("Magics", rows=rows)


def keys_section(providers: Providers) -> Section:
    """The environment variable that holds the key of each provider."""
    rows: list[tuple[str, str]] = []
    for provider in map(providers.get, providers.names):
        variables = {
            provider.key_env: "",
            provider.organization_env: "organization ",
            provider.project_env: "project ",
        }
        rows += [(name, f"{what}for {provider.name}") for name, what in variables.items() if name]
    return Section(
        "Keys",
        "A key is read from the environment at each question. It stays in memory and is sent to "
        "its own provider only. Without `--provider`, OpenAI is asked if its key is set, else "
        "Azure; `-p simulator` and local servers need no key.",
        tuple(rows),
    )


def option_page(option: Option, config: Config) -> Section:
    """One option in full: its values, and the places where it can be set."""
    flag, name, value = option.flag, option.name, sample_value(option)
    is_bare = value in ("true", "false") or value[0].isdigit()
    file = "your own config.toml" if name in NOT_IN_A_PROJECT else PROJECT_FILE
    rows = (
        (f"%%o3 {format_usage(option)}", "on the line"),
        (f"%o3_config {name}={value}", f"for the session; `{name}=` unsets it"),
        (f"O3MAGIC_{name.upper()}={value}", "in the environment"),
        (f"{name} = {value}" if is_bare else f'{name} = "{value}"', f"in {file}"),
    )
    sentences = [f"{flag.help[0].upper()}{flag.help[1:]}."]
    if option.choices:
        sentences.append(f"One of {', '.join(option.choices)}.")
    if option.default not in (None, ""):
        sentences.append(f"The default is {said(option.default)}.")
    if (origin := config.origin(name)) != "default":
        sentences.append(f"Now: {said(getattr(config.profile(), name))} (set by {origin}).")
    examples = tuple(
        example
        for example in EXAMPLES
        if set(flag.names) & set(example.cell.partition("\n")[0].split())
    )
    return Section(", ".join(flag.names), " ".join(sentences), rows, examples)


def sample_value(option: Option) -> str:
    """A value to show in a setting of the option."""
    if option.flag.switch is not None:
        return said(option.flag.switch)
    if option.choices:
        return option.choices[len(option.choices) // 2]
    return said(option.default).replace("–", option.flag.example or option.name.upper())


def magic_page(name: str, magic: Callable[..., Any]) -> Section:
    """The help page of a magic, or its docstring with the examples that use it."""
    if get_page := getattr(magic, "getdoc", None):
        return Section(f"%{name}", get_page())
    examples = tuple(e for e in EXAMPLES if f"%{name}" in e.cell.split())
    return Section(f"%{name}", cleandoc(magic.__doc__ or ""), (), examples)


def bundle(sections: list[Section]) -> Bundle:
    """Sections as Markdown and as text."""
    markdown = safe_markdown("\n\n".join(map(section_markdown, sections)))
    return Bundle({"text/markdown": markdown, "text/plain": format_text(sections)}, {})


def is_preformatted(section: Section) -> bool:
    """Whether the text has lines of its own, as the help page of a magic has."""
    return "\n  " in section.text


def section_markdown(section: Section) -> str:
    """One section as Markdown, not yet safe."""
    title = section.title
    parts = [f"### {code_span(title) if title[0] in '%-' else title}"] if title else []
    if section.text:
        text = section.text
        parts.append(f"```text\n{text}\n```" if is_preformatted(section) else text)
    if section.rows:
        rows = [
            f"| {code_span(code)} | {meaning.replace('|', chr(92) + '|')} |"
            for code, meaning in section.rows
        ]
        parts.append("\n".join(["|  |  |", "|---|---|", *rows]))
    parts += [f"{e.description}\n\n```python\n{e.cell}\n```" for e in section.examples]
    return "\n\n".join(parts)


def format_text(sections: list[Section]) -> str:
    """Sections as text. The meanings of all rows begin at the same column."""
    codes = [len(code) for section in sections for code, _ in section.rows]
    width = max((chars for chars in codes if chars <= MAX_CODE_CHARS), default=MAX_CODE_CHARS)
    return plain_text("\n\n".join(section_text(section, width) for section in sections))


def section_text(section: Section, width: int) -> str:
    """One section as text. width: the characters of the column of code."""
    chars = min(
        max(get_terminal_size((MAX_LINE_CHARS, 24)).columns, MIN_LINE_CHARS), MAX_LINE_CHARS
    )
    parts = [section.title] if section.title else []
    if section.text:
        paragraphs = [wrap_text(paragraph, chars) for paragraph in section.text.split("\n\n")]
        parts.append(section.text if is_preformatted(section) else "\n\n".join(paragraphs))
    rows: list[str] = []
    for code, meaning in section.rows:
        indent = " " * (width + 4)
        lines = f"{indent}{wrap_text(meaning, chars - width - 5)}".replace("\n", f"\n{indent}")
        if len(code) > width:
            rows.append(f"  {code}\n{lines}")
        else:
            rows.append(f"  {code:<{width}}  {lines.lstrip()}".rstrip())
    parts += ["\n".join(rows)] if rows else []
    for example in section.examples:
        cell = "\n".join(f"    {line}".rstrip() for line in example.cell.split("\n"))
        parts.append(f"  {example.description}\n\n{cell}")
    return "\n\n".join(parts) if section.examples else "\n".join(parts)


def wrap_text(text: str, chars: int) -> str:
    """A text in lines of at most so many characters; code and brackets stay on one line."""
    joined = UNBROKEN.sub(lambda part: part[0].replace(" ", KEPT_BLANK), text)
    lines = wrap(joined, chars, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(KEPT_BLANK, " ")

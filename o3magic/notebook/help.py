"""`%o3_help`: every option and magic, with examples that run; or all about one of them.

What an option is, takes and falls back to is read off `Profile`, where it is declared.
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
from o3magic.notebook.line_parser import default_of, usage_of
from o3magic.providers import Providers
from o3magic.render.answer import Bundle
from o3magic.render.markdown.sanitize import code_span, plain_text, safe_markdown
from o3magic.render.tables import said
from o3magic.settings import Option, options

CODE_CHARS = 34  # a longer usage has a line of its own
FEWEST_CHARS, MOST_CHARS = 60, 100
TOGETHER = re.compile(r"\([^()]*\)|`[^`]*`")  # what a line does not break in
BLANK = "\x00"  # a blank that stays on its line

# An option belongs to the last group that began before it: a new field needs no entry here.
GROUPS = {
    "effort": "How hard to think, and what comes of it",
    "model": "Who is asked",
    "developer": "What is asked",
    "tier": "What it may cost",
    "repairs": "What is asked",
    "background": "Several at once",
    "view": "What is shown",
    "base_url": "The way to the provider",
}


class Example(NamedTuple):
    """A cell that runs as it stands, and what it does."""

    cell: str
    told: str


EXAMPLES = (
    Example("%%o3\nWhy is the sky blue?", "A question; the answer streams in as Markdown."),
    Example("short = %o3 -e low Why is the sky blue?", "On one line, with little thought."),
    Example(
        "%%o3 --effort high -o proof\nIs every even perfect number triangular?",
        "The answer under a name: `proof.text`, `proof.usage`, `proof.cost_usd`.",
    ),
    Example(
        "from pydantic import BaseModel\n\nclass Line(BaseModel):\n    item: str\n    price: float",
        "What an answer is to be: a pydantic model, dataclass, TypedDict or Enum.",
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
    Example("%%o3 --dry-run\nWhat would this send?", "The request, and nothing sent."),
    Example("%o3_config effort=medium", "For the whole session; `effort=` takes it back."),
    Example("%o3_cost", "What this session used and cost."),
    Example("%o3_panel", "The settings and a prompt as widgets."),
    Example(
        'import o3magic as o3\n\no3.ask("Why is the sky blue?", effort="low").text',
        "The same in Python; also `o3.stream`, `o3.compare` and `@o3.schema`.",
    ),
)


class Section(NamedTuple):
    """A part of a page: a title, words, rows of code and what it means, and examples."""

    title: str
    text: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    examples: tuple[Example, ...] = ()


def help_bundle(
    topic: str, layers: Config, providers: Providers, magics: Mapping[str, Callable[..., Any]]
) -> Bundle:
    """The page of one topic, or of everything. Raises BadOption with near topics."""
    whole = {
        "examples": [examples_section()],
        "options": option_sections(),
        "magics": [magics_section(magics)],
        "keys": [keys_section(providers)],
    }
    word = topic.strip().lstrip("%-").replace("-", "_").lower()
    if not word:
        middle = [section for part in whole.values() for section in part]
        return bundle([first_section(), *middle, last_section()])
    found = list(whole.get(word, []))
    found += [option_section(each, layers) for each in options() if word in names_of(each)]
    found += [
        magic_section(name, magic) for name, magic in magics.items() if word in (name, name[3:])
    ]
    if not found:
        known = [*whole, *magics, *(each.name for each in options())]
        hint = did_you_mean(word, known, f"%o3_help, or one of {', '.join(whole)}")
        raise BadOption(f"there is no help on {topic.strip()!r}", hint=hint)
    return bundle(found)


def cell_help() -> str:
    """What `%%o3?` shows."""
    usage = (
        ("%%o3 [options]", "the cell below is the prompt, braces and all"),
        ("%o3 [options] prompt", "the same on one line; `answer = %o3 ...` works"),
    )
    asking = tuple(each for each in EXAMPLES if "%o3 " in each.cell or each.cell[:4] == "%%o3")
    sections = [
        Section("", "Ask a reasoning model; the answer appears as it is written.", usage),
        *option_sections(),
        Section("Examples", examples=asking),
        Section("", "%o3_help has the rest; %o3_help effort says more of one option."),
    ]
    return plain(sections)


def names_of(option: Option) -> set[str]:
    """What an option may be called."""
    return {option.name, *(flag.lstrip("-").replace("-", "_") for flag in option.flag.names)}


def first_section() -> Section:
    """How it begins."""
    return Section(
        "",
        "Below `%%o3` you write a prompt. The answer streams into the notebook, and is a value: "
        "in `_`, and in the name you give with `-o`.",
    )


def examples_section() -> Section:
    """Cells to run."""
    return Section("Examples", examples=EXAMPLES)


def option_sections() -> list[Section]:
    """All options, in groups."""
    groups: dict[str, list[Option]] = {}
    title = "Options"
    for option in options():
        title = GROUPS.get(option.name, title)
        groups.setdefault(title, []).append(option)
    return [
        Section(
            title,
            rows=tuple((usage_of(each), each.flag.help + default_of(each)) for each in group),
        )
        for title, group in groups.items()
    ]


def magics_section(magics: Mapping[str, Callable[..., Any]]) -> Section:
    """Every magic with the first line of what it says of itself."""
    rows = tuple(
        (f"%{name}", cleandoc(magic.__doc__ or "").partition("\n")[0])
        for name, magic in sorted(magics.items())
    )
    return Section("Magics", rows=rows)


def keys_section(providers: Providers) -> Section:
    """Where a provider's key comes from."""
    known = (providers.get(name) for name in providers.names)
    rows: list[tuple[str, str]] = []
    for each in known:
        variables = {
            each.key_env: "",
            each.organization_env: "organization ",
            each.project_env: "project ",
        }
        rows += [(name, f"{what}for {each.name}") for name, what in variables.items() if name]
    return Section(
        "Keys",
        "A key is read from the environment at each question. It stays in memory, and goes to its "
        "own provider and nowhere else. Where `--provider` names nobody, OpenAI is asked if its "
        "key is set, else Azure; `-p simulator` and local servers need none.",
        tuple(rows),
    )


def last_section() -> Section:
    """Where to read on."""
    rows = (
        ("%o3_help effort", "one option: its values, and every place it can be set"),
        ("%o3_models", "models with their prices, efforts and shutdown dates"),
        ("o3magic doctor", "in a terminal: who would be asked, and what is wrong"),
        ("o3magic demo", "in a terminal: a notebook to try, without key or network"),
    )
    return Section("More", "The README tells the rest.", rows)


def option_section(option: Option, layers: Config) -> Section:
    """All about one option: what it takes, and the places where it can be said."""
    flag, name, value = option.flag, option.name, sample(option)
    bare = value in ("true", "false") or value[0].isdigit()
    file = "your own config.toml" if name in NOT_IN_A_PROJECT else PROJECT_FILE
    rows = (
        (f"%%o3 {usage_of(option)}", "on the line"),
        (f"%o3_config {name}={value}", f"for the session; `{name}=` takes it back"),
        (f"O3MAGIC_{name.upper()}={value}", "in the environment"),
        (f"{name} = {value}" if bare else f'{name} = "{value}"', f"in {file}"),
    )
    told = [f"{flag.help[0].upper()}{flag.help[1:]}."]
    if option.choices:
        told.append(f"One of {', '.join(option.choices)}.")
    if option.default not in (None, ""):
        told.append(f"The default is {said(option.default)}.")
    if (origin := layers.origin(name)) != "default":
        told.append(f"Now: {said(getattr(layers.profile(), name))} (set by {origin}).")
    used = tuple(each for each in EXAMPLES if uses(each, option))
    return Section(", ".join(flag.names), " ".join(told), rows, used)


def sample(option: Option) -> str:
    """A value to write behind an option's name in a setting."""
    if option.flag.switch is not None:
        return said(option.flag.switch)
    if option.choices:
        return option.choices[len(option.choices) // 2]
    return said(option.default).replace("–", option.flag.example or option.name.upper())


def uses(example: Example, option: Option) -> bool:
    """Whether an example has one of the option's flags."""
    return any(flag in example.cell.partition("\n")[0].split() for flag in option.flag.names)


def magic_section(name: str, magic: Callable[..., Any]) -> Section:
    """What a magic says of itself, and the examples of it."""
    own_page = getattr(magic, "getdoc", None)
    told = own_page() if own_page else cleandoc(magic.__doc__ or "")
    used = tuple(each for each in EXAMPLES if f"%{name}" in each.cell.split())
    return Section(f"%{name}", told, (), () if own_page else used)


def bundle(sections: Iterable[Section]) -> Bundle:
    """Sections as Markdown and as text."""
    every = list(sections)
    shown = safe_markdown("\n\n".join(map(section_markdown, every)))
    return Bundle({"text/markdown": shown, "text/plain": plain(every)}, {})


def section_markdown(section: Section) -> str:
    """One section as Markdown, not yet safe."""
    title = section.title
    parts = [f"### {code_span(title) if title[0] in '%-' else title}"] if title else []
    if section.text:
        fenced = "\n  " in section.text
        parts.append(f"```text\n{section.text}\n```" if fenced else section.text)
    if section.rows:
        rows = [
            f"| {code_span(code)} | {told.replace('|', chr(92) + '|')} |"
            for code, told in section.rows
        ]
        parts.append("\n".join(["|  |  |", "|---|---|", *rows]))
    for example in section.examples:
        parts.append(f"{example.told}\n\n```python\n{example.cell}\n```")
    return "\n\n".join(parts)


def plain(sections: Iterable[Section]) -> str:
    """Sections as text."""
    return plain_text("\n\n".join(map(section_plain, sections)))


def section_plain(section: Section) -> str:
    """One section as text."""
    parts = [section.title] if section.title else []
    parts += [section.text] if section.text else []
    if section.rows:
        codes = [len(code) for code, _ in section.rows if len(code) <= CODE_CHARS]
        width = max(codes, default=CODE_CHARS)
        parts.append("\n".join(row_plain(code, told, width) for code, told in section.rows))
    for example in section.examples:
        cell = "\n".join(f"    {line}".rstrip() for line in example.cell.split("\n"))
        parts.append(f"  {example.told}\n\n{cell}")
    return "\n\n".join(parts) if section.examples else "\n".join(parts)


def row_plain(code: str, told: str, width: int) -> str:
    """An option and what it does beside it, in lines that a pager has room for."""
    chars = min(max(get_terminal_size((MOST_CHARS, 24)).columns, FEWEST_CHARS), MOST_CHARS)
    whole = TOGETHER.sub(lambda part: part[0].replace(" ", BLANK), told)
    lines = wrap(whole, chars - width - 5, break_long_words=False, break_on_hyphens=False)
    shown = [line.replace(BLANK, " ") for line in lines]
    head = [f"  {code:<{width}}  {''.join(shown[:1])}".rstrip()]
    if len(code) > width:
        head = [f"  {code}", *(" " * (width + 4) + line for line in shown[:1])]
    return "\n".join([*head, *(" " * (width + 4) + line for line in shown[1:])])

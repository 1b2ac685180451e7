"""The settings of a call: one frozen `Settings`, whose fields are the options of `%%o3`.

The parser, the help, TAB completion, the settings files, the names in the environment and the table
in the README follow from this one declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from o3magic.errors import BadOption, did_you_mean
from o3magic.messages import Effort, Tier, Verbosity
from o3magic.params import canonical

MOST_SECONDS = 86_400  # a socket takes no endless timeout
# No more, so that sums in nano-dollars fit into 63 bits.
UsdAmount = Annotated[Decimal, Field(ge=0, le=1_000_000)]


class OptionFlag(NamedTuple):
    """How a field is written on the `%%o3` line, and its description.

    switch: the value that the bare flag sets, for a field without a value (`--no-stream`: False).
    value: the placeholder of the value in the help; else it is the last word of the field's name.
    example: a value for the help.
    repeats: the option may be repeated; each value is a line of the field.
    common: listed by `%%o3?`, the README and TAB; the others are listed by `%o3_help all` only.
    """

    names: tuple[str, ...]
    help: str
    switch: bool | None = None
    value: str = ""
    example: str = ""
    repeats: bool = False
    common: bool = False


@checked_dataclass(frozen=True)
class Settings:
    """All settings of a call. A field is an option; this is its only declaration."""

    effort: Annotated[
        Effort | None,
        OptionFlag(
            ("-e", "--effort"), "reasoning effort; unset: the model's own default", common=True
        ),
    ] = None
    schema: Annotated[
        str,
        OptionFlag(
            ("-s", "--schema"), "type of the answer: `Invoice`, `list[Invoice]`, ...", common=True
        ),
    ] = ""
    out: Annotated[
        str,
        OptionFlag(
            ("-o", "--out"), "name that gets the Answer, besides `_`", value="NAME", common=True
        ),
    ] = ""
    model: Annotated[
        str,
        OptionFlag(
            ("-m", "--model"),
            "model, by any name the provider knows; unset: the provider's default of today",
            common=True,
        ),
    ] = ""
    provider: Annotated[
        str,
        OptionFlag(
            ("-p", "--provider"),
            "the provider to ask; unset: the one whose key is set",
            common=True,
        ),
    ] = ""
    api: Annotated[
        Literal["auto", "responses", "chat"],
        OptionFlag(("--api",), "which API is spoken; auto: Responses where both sides have it"),
    ] = "auto"
    developer: Annotated[
        str,
        OptionFlag(
            ("-d", "--developer"),
            "developer message, above the prompt; `@FILE`: from a file",
            value="TEXT",
            common=True,
        ),
    ] = ""
    profile: Annotated[
        str,
        OptionFlag(
            ("-P", "--profile"), "named settings: `[profile.NAME]` of a settings file", common=True
        ),
    ] = ""
    template: Annotated[
        bool, OptionFlag(("--no-template",), "send `{{ names }}` in the prompt as they are", False)
    ] = True
    file: Annotated[
        str,
        OptionFlag(
            ("--file",),
            "a file or registered prompt to ask; the cell's text comes below it",
            common=True,
        ),
    ] = ""
    conversation: Annotated[
        str,
        OptionFlag(
            ("-c", "--conversation"),
            "name of a conversation: its turns are sent before",
            value="NAME",
            common=True,
        ),
    ] = ""
    keep_text: Annotated[
        bool,
        OptionFlag(("--keep-text",), "conversations outlive the kernel, in a file of yours", True),
    ] = False
    compact: Annotated[
        bool, OptionFlag(("--compact",), "sum up the oldest turns before the window is full", True)
    ] = False
    tools: Annotated[
        str,
        OptionFlag(
            ("-t", "--tools"),
            "functions the model may call: `f,g`; also python, sql, ...",
            common=True,
        ),
    ] = ""
    turns: Annotated[
        int, Field(ge=0, le=1000), OptionFlag(("--turns",), "how often the model may call tools")
    ] = 10
    tool_timeout_s: Annotated[
        float,
        Field(gt=0, le=MOST_SECONDS),
        OptionFlag(("--tool-timeout-s",), "seconds one call of a tool may take", value="SECONDS"),
    ] = 60.0
    confirm: Annotated[
        bool,
        OptionFlag(("--confirm",), "ask before each call of a tool; always so for dangerous", True),
    ] = False
    store: Annotated[
        bool,
        OptionFlag(("--no-store",), "ask the provider to keep neither question nor answer", False),
    ] = True
    formatting: Annotated[
        bool,
        OptionFlag(("--no-formatting",), "do not ask plain-text models for Markdown", False),
    ] = True
    summary: Annotated[
        Literal["none", "auto", "concise", "detailed"],
        OptionFlag(("--summary",), "ask for a summary of the reasoning", common=True),
    ] = "none"
    verbosity: Annotated[
        Verbosity | None,
        OptionFlag(("--verbosity",), "how wordy the answer is; unset: the model's default"),
    ] = None
    max_output_tokens: Annotated[
        int | None,
        Field(ge=1),
        OptionFlag(
            ("--max-output-tokens",),
            "limit of output tokens, hidden reasoning included",
            common=True,
        ),
    ] = None
    param: Annotated[
        str,
        BeforeValidator(canonical),
        OptionFlag(
            ("--param",),
            "any other field of the request, such as `top_p=0.5`; repeatable",
            value="NAME=JSON",
            example="top_p=0.5",
            repeats=True,
        ),
    ] = ""
    tier: Annotated[
        Tier | None,
        OptionFlag(
            ("--tier",),
            "service tier: flex is cheaper and slower, priority faster and costlier",
        ),
    ] = None
    budget_call: Annotated[
        UsdAmount | None,
        OptionFlag(
            ("--budget", "--budget-call"),
            "US dollars one question may cost, repairs included",
            value="USD",
            common=True,
        ),
    ] = None
    budget_session: Annotated[
        UsdAmount | None,
        OptionFlag(
            ("--budget-session",), "US dollars this session may cost", value="USD", common=True
        ),
    ] = None
    budget_notebook: Annotated[
        UsdAmount | None,
        OptionFlag(
            ("--budget-notebook",),
            "US dollars this notebook may cost, in all its runs",
            value="USD",
        ),
    ] = None
    budget_day: Annotated[
        UsdAmount | None,
        OptionFlag(
            ("--budget-day",), "US dollars a day (UTC), all notebooks together", value="USD"
        ),
    ] = None
    budget_month: Annotated[
        UsdAmount | None,
        OptionFlag(
            ("--budget-month",), "US dollars a month (UTC), all notebooks together", value="USD"
        ),
    ] = None
    budget_warn: Annotated[
        float,
        Field(ge=0, le=1),
        OptionFlag(
            ("--budget-warn",), "share of a budget from which on each answer says so", value="SHARE"
        ),
    ] = 0.8
    repairs: Annotated[
        int,
        Field(ge=0, le=10),
        OptionFlag(
            ("--repairs",), "how often an answer that does not fit its schema is asked again"
        ),
    ] = 1
    background: Annotated[
        bool,
        OptionFlag(
            ("--background",),
            "go on at once; the answer comes while other cells run",
            True,
            common=True,
        ),
    ] = False
    compare: Annotated[
        bool,
        OptionFlag(
            ("--compare",),
            "ask at every effort of the model at once, side by side",
            True,
            common=True,
        ),
    ] = False
    map: Annotated[
        str,
        OptionFlag(
            ("--map",),
            "ask for each row of this DataFrame or list: `{{ column }}` is its value",
            value="NAME",
            common=True,
        ),
    ] = ""
    concurrency: Annotated[
        int,
        Field(ge=1, le=1024),
        OptionFlag(("--concurrency",), "with --map: how many rows are asked at once"),
    ] = 64
    efforts: Annotated[
        str,
        OptionFlag(
            ("--efforts",), "with --compare: these efforts only, such as low,high", common=True
        ),
    ] = ""
    models: Annotated[
        str,
        OptionFlag(("--models",), "with --compare: these models, such as o3,o4-mini", common=True),
    ] = ""
    view: Annotated[
        Literal["auto", "tree", "table"],
        OptionFlag(("--view",), "a structured answer as a tree or a table; auto: rows as a table"),
    ] = "auto"
    mode: Annotated[
        Literal["live", "replay", "auto", "record", "refresh"] | None,
        OptionFlag(
            ("--mode",),
            "ask, or replay the cassette; unset: replay where no provider can be asked",
            common=True,
        ),
    ] = None
    sample: Annotated[
        int,
        Field(ge=1),
        OptionFlag(("--sample",), "which answer to the same question, on a cassette"),
    ] = 1
    scrub: Annotated[
        bool,
        OptionFlag(("--scrub",), "record a question with a secret in it, without the secret", True),
    ] = False
    replay_speed: Annotated[
        float, Field(ge=0), OptionFlag(("--replay-speed",), "pace of a replay; 0: all at once")
    ] = 1.0
    notebook: Annotated[
        str,
        OptionFlag(("--notebook",), "path of this notebook, where the front end does not say it"),
    ] = ""
    stream: Annotated[
        bool,
        OptionFlag(("--no-stream",), "wait for the whole answer instead of streaming it", False),
    ] = True
    quiet: Annotated[
        bool, OptionFlag(("-q", "--quiet"), "show nothing; the answer is in `_`", True, common=True)
    ] = False
    raw: Annotated[
        bool, OptionFlag(("--raw",), "show the answer as plain text, not as Markdown", True)
    ] = False
    dry_run: Annotated[
        bool,
        OptionFlag(
            ("--dry-run",),
            "show the request that would be sent, and send nothing",
            True,
            common=True,
        ),
    ] = False
    exact: Annotated[
        bool,
        OptionFlag(("--exact",), "with --dry-run: let the provider count the input tokens", True),
    ] = False
    base_url: Annotated[
        str, OptionFlag(("--base-url",), "address of the API, instead of the provider's")
    ] = ""
    connect_timeout_s: Annotated[
        float,
        Field(gt=0, le=MOST_SECONDS),
        OptionFlag(("--connect-timeout-s",), "seconds to wait for a connection", value="SECONDS"),
    ] = 10.0
    first_token_timeout_s: Annotated[
        float,
        Field(gt=0, le=MOST_SECONDS),
        OptionFlag(
            ("--first-token-timeout-s",),
            "seconds to wait for a sign of life before the answer starts; 900 with --tier flex",
            value="SECONDS",
        ),
    ] = 600.0
    chunk_timeout_s: Annotated[
        float,
        Field(gt=0, le=MOST_SECONDS),
        OptionFlag(
            ("--chunk-timeout-s",),
            "seconds without any sign of life within the answer",
            value="SECONDS",
        ),
    ] = 120.0
    max_answer_bytes: Annotated[
        int, Field(ge=1), OptionFlag(("--max-answer-bytes",), "largest answer that is taken")
    ] = 67_108_864
    retries: Annotated[
        int,
        Field(ge=0, le=20),
        OptionFlag(
            ("--retries",), "how often a request that failed before its answer began is sent again"
        ),
    ] = 2
    on_retired: Annotated[
        Literal["stop", "replace"],
        OptionFlag(
            ("--on-retired",), "a model that is gone: stop, or ask the provider's replacement"
        ),
    ] = "stop"
    certificates: Annotated[
        Literal["bundled", "system"],
        OptionFlag(
            ("--certificates",), "which certificates are trusted; read when a session begins"
        ),
    ] = "bundled"


@dataclass(frozen=True)
class Option:
    """One field as the parser, the help, completion and the README see it."""

    name: str
    flag: OptionFlag
    default: Any
    choices: tuple[str, ...]


@cache
def options() -> tuple[Option, ...]:
    """All options, in the order they are declared. Read off the class once: that takes 3 ms."""
    hints = get_type_hints(Settings, include_extras=True)
    found = []
    for item in fields(Settings):
        flag = next(m for m in hints[item.name].__metadata__ if isinstance(m, OptionFlag))
        found.append(Option(item.name, flag, item.default, choices_of(hints[item.name])))
    return tuple(found)


def choices_of(hint: Any) -> tuple[str, ...]:
    """The words a field allows, or () where it takes any."""
    inner = get_args(hint)
    if inner and all(isinstance(value, str) for value in inner):
        return inner
    return next((found for part in inner if (found := choices_of(part))), ())


def profile_of(values: Mapping[str, Any]) -> Settings:
    """A profile of these values, texts converted. Raises BadOption for one that does not fit."""
    try:
        return TypeAdapter(Settings).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise bad_value(name, values.get(name), first["msg"]) from None


def bad_value(name: str, value: Any, why: str) -> BadOption:
    """What to say of a value that an option does not take."""
    option = next(o for o in options() if o.name == name)
    shown = f"{option.flag.names[-1]} {value}"
    if option.choices:
        hint = did_you_mean(str(value), option.choices, f"one of {', '.join(option.choices)}")
        return BadOption(f"{shown}: not one of {', '.join(option.choices)}", hint=hint)
    return BadOption(f"{shown}: {why[0].lower()}{why[1:]}", hint=option.flag.help)


def listed(words: str) -> tuple[str, ...]:
    """The words of `low,high`."""
    return tuple(word.strip() for word in words.split(",") if word.strip())

"""What the user chose: one frozen `Profile` out of layers, each laid over the one before.

defaults < user file < project file < environment < %o3_config < widget < the line

The files are TOML: Profile fields at the top, `[providers.NAME]` and `[models.NAME]` tables below.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from o3magic.errors import BadOption, did_you_mean
from o3magic.messages import Effort

LAYERS = ("user file", "project file", "environment", "%o3_config", "widget")
PROJECT_FILE = "o3magic.toml"
MOST_SECONDS = 86_400  # a socket takes no endless timeout
# A file that came with somebody's notebooks must not choose where the reader's key is sent.
NOT_IN_A_PROJECT = ("base_url", "providers")


class Flag(NamedTuple):
    """How a field is written on the `%%o3` line, and what it does.

    switch: the value a bare flag sets, for a field that takes no word (`--no-stream` sets False).
    """

    names: tuple[str, ...]
    help: str
    switch: bool | None = None


@checked_dataclass(frozen=True)
class Profile:
    """Everything that can be chosen for a call. A field is an option; declared here, once."""

    effort: Annotated[
        Effort | None, Flag(("-e", "--effort"), "reasoning effort; unset: the model's own default")
    ] = None
    schema: Annotated[
        str, Flag(("-s", "--schema"), "type of the answer: `Invoice`, `list[Invoice]`, ...")
    ] = ""
    out: Annotated[str, Flag(("-o", "--out"), "name that gets the Answer, besides `_`")] = ""
    model: Annotated[str, Flag(("-m", "--model"), "model, by any name the provider knows")] = (
        "o3-mini"
    )
    provider: Annotated[
        str, Flag(("-p", "--provider"), "who is asked; unset: the one whose key is set")
    ] = ""
    api: Annotated[
        Literal["auto", "responses", "chat"],
        Flag(("--api",), "which API is spoken; auto: Responses where both sides have it"),
    ] = "auto"
    developer: Annotated[
        str, Flag(("-d", "--developer"), "developer message: how to answer, above the prompt")
    ] = ""
    formatting: Annotated[
        bool,
        Flag(("--no-formatting",), "do not ask plain-text models for Markdown", False),
    ] = True
    summary: Annotated[
        Literal["none", "auto", "concise", "detailed"],
        Flag(("--summary",), "ask for a summary of the reasoning"),
    ] = "none"
    max_output_tokens: Annotated[
        int | None,
        Field(ge=1),
        Flag(("--max-output-tokens",), "limit of output tokens, hidden reasoning included"),
    ] = None
    repairs: Annotated[
        int,
        Field(ge=0, le=10),
        Flag(("--repairs",), "how often an answer that does not fit its schema is asked again"),
    ] = 1
    background: Annotated[
        bool, Flag(("--background",), "go on at once; the answer comes while other cells run", True)
    ] = False
    compare: Annotated[
        bool, Flag(("--compare",), "ask at every effort of the model at once, side by side", True)
    ] = False
    efforts: Annotated[
        str, Flag(("--efforts",), "with --compare: these efforts only, such as low,high")
    ] = ""
    models: Annotated[
        str, Flag(("--models",), "with --compare: these models, such as o3,o4-mini")
    ] = ""
    view: Annotated[
        Literal["auto", "tree", "table"],
        Flag(("--view",), "a structured answer as a tree or a table; auto: rows as a table"),
    ] = "auto"
    stream: Annotated[
        bool, Flag(("--no-stream",), "wait for the whole answer instead of streaming it", False)
    ] = True
    quiet: Annotated[bool, Flag(("-q", "--quiet"), "show nothing; the answer is in `_`", True)] = (
        False
    )
    raw: Annotated[
        bool, Flag(("--raw",), "show the answer as plain text, not as Markdown", True)
    ] = False
    dry_run: Annotated[
        bool, Flag(("--dry-run",), "show the request that would be sent, and send nothing", True)
    ] = False
    base_url: Annotated[
        str, Flag(("--base-url",), "address of the API, instead of the provider's")
    ] = ""
    connect_timeout_s: Annotated[
        float,
        Field(gt=0, le=MOST_SECONDS),
        Flag(("--connect-timeout-s",), "seconds to wait for a connection"),
    ] = 10.0
    first_token_timeout_s: Annotated[
        float,
        Field(gt=0, le=MOST_SECONDS),
        Flag(("--first-token-timeout-s",), "seconds without any sign of life before the answer"),
    ] = 600.0
    chunk_timeout_s: Annotated[
        float,
        Field(gt=0, le=MOST_SECONDS),
        Flag(("--chunk-timeout-s",), "seconds without any sign of life within the answer"),
    ] = 120.0
    max_answer_bytes: Annotated[
        int, Field(ge=1), Flag(("--max-answer-bytes",), "largest answer that is taken")
    ] = 67_108_864
    retries: Annotated[
        int,
        Field(ge=0, le=20),
        Flag(("--retries",), "how often a request is sent again that found nobody or a full house"),
    ] = 2
    on_retired: Annotated[
        Literal["stop", "replace"],
        Flag(("--on-retired",), "a model that is gone: stop, or ask the provider's replacement"),
    ] = "stop"
    certificates: Annotated[
        Literal["bundled", "system"],
        Flag(("--certificates",), "which certificates are trusted; read when a session begins"),
    ] = "bundled"


@dataclass(frozen=True)
class Option:
    """One field as the parser, the help, completion and the README see it."""

    name: str
    flag: Flag
    default: Any
    choices: tuple[str, ...]


def options() -> tuple[Option, ...]:
    """All options, in the order they are declared."""
    hints = get_type_hints(Profile, include_extras=True)
    found = []
    for item in fields(Profile):
        flag = next(m for m in hints[item.name].__metadata__ if isinstance(m, Flag))
        found.append(Option(item.name, flag, item.default, choices_of(hints[item.name])))
    return tuple(found)


def choices_of(hint: Any) -> tuple[str, ...]:
    """The words a field allows, or () where it takes any."""
    inner = get_args(hint)
    if inner and all(isinstance(value, str) for value in inner):
        return inner
    return next((found for part in inner if (found := choices_of(part))), ())


@dataclass(frozen=True)
class Layers:
    """What each layer says, without the defaults; a new value for every change."""

    said: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_layer(self, layer: str, values: Mapping[str, Any]) -> Layers:
        """The same with `values` laid into one layer; None takes a field out of it again."""
        merged = {**self.said.get(layer, {}), **values}
        kept = {name: value for name, value in merged.items() if value is not None}
        changed = Layers({**self.said, layer: kept}, self.providers, self.models)
        changed.profile()  # what would not hold is refused here, and not at the next question
        return changed

    def profile(self, line: Mapping[str, Any] | None = None) -> Profile:
        """The profile all layers make, the line's options on top. Raises BadOption."""
        values: dict[str, Any] = {}
        for layer in LAYERS:
            values |= checked(self.said.get(layer, {}), layer)
        return profile_of(values | checked(line or {}, "the line"))

    def origin(self, name: str) -> str:
        """Which layer a field's value comes from: one of LAYERS, or `default`."""
        return next((la for la in reversed(LAYERS) if name in self.said.get(la, {})), "default")


def checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values` again if every name is a field. Raises BadOption with near names."""
    known = [item.name for item in fields(Profile)]
    for name in values:
        if name not in known:
            raise BadOption(
                f"{where}: there is no option {name!r}",
                hint=did_you_mean(name, known, "%%o3? lists the options"),
            )
    return dict(values)


def profile_of(values: Mapping[str, Any]) -> Profile:
    """A profile of these values, texts converted. Raises BadOption for one that does not fit."""
    try:
        return TypeAdapter(Profile).validate_python(dict(values))
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


def load_layers(environment: Mapping[str, str], folder: Path) -> Layers:
    """The layers that are there before anything is typed: two files and the environment.

    Raises BadOption for a file that is not TOML or that says something nobody knows.
    """
    user, user_tables = read_file(user_file(environment))
    project_path = project_file(folder)
    project, project_tables = read_file(project_path)
    for name in NOT_IN_A_PROJECT:
        if name in project or name in project_tables:
            raise BadOption(
                f"{project_path}: a project's file may not set {name!r}",
                hint=f"set it in your own file, {user_file(environment)}",
            )
    known = {f"O3MAGIC_{o.name.upper()}": o.name for o in options()}
    said = {
        "user file": user,
        "project file": project,
        "environment": {known[k]: v for k, v in environment.items() if k in known and v},
    }
    layers = Layers(
        said,
        providers=user_tables.get("providers", {}),
        models={**project_tables.get("models", {}), **user_tables.get("models", {})},
    )
    layers.profile()
    return layers


def read_file(path: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A file's fields and its tables; both empty where there is no file."""
    if path is None or not path.is_file():
        return {}, {}
    try:
        # Some editors begin a file with a byte order mark, which TOML has not.
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadOption(f"{path}: {error}", hint="the file is TOML; see the README") from None
    tables: dict[str, Any] = {n: data.pop(n) for n in ("providers", "models") if n in data}
    for kind, named in tables.items():
        if not isinstance(named, dict) or not all(isinstance(t, dict) for t in named.values()):
            raise BadOption(f"{path}: {kind!r} holds no tables", hint=f"write [{kind}.NAME]")
    return checked(data, str(path)), tables


def user_file(environment: Mapping[str, str]) -> Path:
    """The user's own settings file, whether it is there or not."""
    if own := environment.get("O3MAGIC_CONFIG"):
        return Path(own).expanduser()
    from platformdirs import user_config_path

    return user_config_path("o3magic") / "config.toml"


def project_file(folder: Path) -> Path | None:
    """The nearest project file in `folder` or above it, or None."""
    return next(
        (p for f in (folder, *folder.parents) if (p := f / PROJECT_FILE).is_file()),
        None,
    )


def ledger_file(environment: Mapping[str, str]) -> Path | str:
    """Where the ledger is kept: O3MAGIC_LEDGER, `:memory:`, or the user's data folder."""
    if own := environment.get("O3MAGIC_LEDGER"):
        return own if own == ":memory:" else Path(own).expanduser()
    from platformdirs import user_data_path

    return user_data_path("o3magic") / "ledger.sqlite3"

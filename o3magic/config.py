"""What the user chose: one frozen `Settings` out of layers, each laid over the one before.

defaults < user file < project file < environment < %o3_config < widget < the line

The files are TOML: fields of `Settings` at the top, `[profile.NAME]`, `[providers.NAME]` and
`[models.NAME]` tables below. A named profile lies just below the layer that names it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.settings import Settings, options, profile_of

LAYERS = ("user file", "project file", "environment", "%o3_config", "widget")
PROJECT_FILE = "o3magic.toml"
# A file that came with somebody's notebooks must not choose where the reader's key is sent, nor
# whether what is said is written down.
NOT_IN_A_PROJECT = ("base_url", "providers", "keep_text")
# Functions of a notebook run only where a cell names them, or the profile they are in.
ONLY_BY_NAME = ("tools", "profile")
# What a reader made stricter stays so.
STRICT: Mapping[str, bool] = {"confirm": True, "store": False}
# What nobody typed in a notebook names no profile that came with it.
UNTYPED = ("user file", "environment")
TABLES = ("profile", "providers", "models")
BUDGETS = tuple(
    o.name for o in options() if o.name.startswith("budget_") and o.name != "budget_warn"
)


@dataclass(frozen=True)
class Config:
    """What each layer says, without the defaults; a new value for every change."""

    said: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Its headers are the user's own, and may be secret.
    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own_profiles: frozenset[str] = frozenset()

    def with_layer(self, layer: str, values: Mapping[str, Any]) -> Config:
        """The same with `values` laid into one layer; None takes a field out of it again."""
        merged = {**self.said.get(layer, {}), **values}
        kept = {name: value for name, value in merged.items() if value is not None}
        changed = replace(self, said={**self.said, layer: kept})
        changed.profile()  # what would not hold is refused here, and not at the next question
        return changed

    def profile(self, line: Mapping[str, Any] | None = None) -> Settings:
        """The profile all layers make, the line's options on top. Raises BadOption."""
        return self._merged(line) if line else self._without_line

    @cached_property
    def _without_line(self) -> Settings:
        return self._merged({})

    def _merged(self, line: Mapping[str, Any]) -> Settings:
        values: dict[str, Any] = {}
        for layer in LAYERS:
            said = checked(self.said.get(layer, {}), layer)
            values |= self._named(said, layer, values) | said
        said = checked(line, "the line")
        return profile_of(values | self._named(said, "the line", values) | said)

    def _named(
        self, said: Mapping[str, Any], layer: str, below: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the profile says that a layer names. Raises BadOption where there is none."""
        name = said.get("profile")
        if not name:
            return {}
        known = sorted(self.own_profiles if layer in UNTYPED else self.profiles)
        if name not in known:
            hint = did_you_mean(str(name), known, f"[profile.{name}] in a settings file makes one")
            raise BadOption(f"{layer}: there is no profile {name!r}", hint=hint)
        found = dict(self.profiles[name])
        return found if name in self.own_profiles else bounded(below, found)

    def origin(self, name: str) -> str:
        """Which layer a field's value comes from: one of LAYERS, or `default`."""
        return next((la for la in reversed(LAYERS) if self._says(la, name)), "default")

    def _says(self, layer: str, name: str) -> bool:
        """Whether a layer says a field, by itself or by the profile that it names."""
        said = self.said.get(layer, {})
        return name in said or name in self.profiles.get(str(said.get("profile", "")), {})


ALL_OPTIONS = "%o3_help all lists the options"
# Words of OpenAI's SDK and of other clients, and the word to use here.
OTHER_WORDS = {
    "timeout": "first_token_timeout_s, chunk_timeout_s and connect_timeout_s are the time limits",
    "system": "developer= is the developer message",
    "instructions": "developer= is the developer message",
    "temperature": 'param={"temperature": 0.2} sets it, for models that have it',
    "top_p": 'param={"top_p": 0.5} sets it, for models that have it',
    "seed": 'param={"seed": 1} sets it, for models that have it',
    "max_tokens": "max_output_tokens= is the limit, hidden reasoning included",
    "max_completion_tokens": "max_output_tokens= is the limit, hidden reasoning included",
    "response_format": "schema= takes the type of the answer",
    "reasoning_effort": "effort= is the reasoning effort",
    "messages": "the prompt is the first argument; conversation= remembers turns",
}


def checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values` again if every name is a field. Raises BadOption with near names."""
    known = [item.name for item in fields(Settings)]
    for name in values:
        if name not in known:
            raise BadOption(
                f"{where}: there is no option {name!r}",
                hint=OTHER_WORDS.get(name) or did_you_mean(name, known, ALL_OPTIONS),
            )
    return dict(values)


def load_layers(environment: Mapping[str, str], folder: Path) -> Config:
    """The layers that are there before anything is typed: two files and the environment.

    Raises BadOption for a file that is not TOML or that says something nobody knows.
    """
    user, user_tables = read_file(user_file(environment))
    project_path = project_file(folder)
    project, project_tables = read_file(project_path)
    named = [*project, *project_tables, *chain(*project_tables.get("profile", {}).values())]
    for name in NOT_IN_A_PROJECT:
        if name in named:
            raise BadOption(
                f"{project_path}: a project's file may not set {name!r}",
                hint=f"set it in your own file, {user_file(environment)}",
            )
    shared = project_tables.get("profile", {})
    for name in ONLY_BY_NAME:
        if name in project:
            raise BadOption(
                f"{project_path}: a project's file may not set {name!r} for every cell",
                hint="[profile.NAME] there may hold tools; %%o3 -P NAME names it",
            )
    own = user_tables.get("profile", {})
    known = {f"O3MAGIC_{o.name.upper()}": o.name for o in options()}
    said = {
        "user file": user,
        "project file": project,
        "environment": {known[k]: v for k, v in environment.items() if k in known and v},
    }
    layers = Config(
        said | {"project file": bounded(user, project)},
        providers=user_tables.get("providers", {}),
        models={**project_tables.get("models", {}), **user_tables.get("models", {})},
        profiles={**shared, **own},
        own_profiles=frozenset(own),
    )
    layers.profile()
    return layers


def bounded(below: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """What a project's file says, but for what is not its to set.

    Budgets above those that hold already, and what the user made stricter.
    """

    def value(said: Mapping[str, Any], name: str) -> Any:
        return getattr(profile_of({name: said[name]}), name)

    def too_much(name: str) -> bool:
        if name not in below:
            return False
        if name in BUDGETS:
            return bool(value(below, name) < value(project, name))
        strict = STRICT.get(name)
        return strict is not None and value(below, name) is strict

    return {name: said for name, said in project.items() if not too_much(name)}


def read_file(path: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A file's fields and its tables; both empty where there is no file."""
    if path is None or not path.is_file():
        return {}, {}
    try:
        # Some editors begin a file with a byte order mark, which TOML has not.
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadOption(f"{path}: {error}", hint="the file is TOML; see the README") from None
    tables: dict[str, Any] = {
        # `profile = "careful"` names one, `[profile.careful]` makes one.
        n: data.pop(n)
        for n in TABLES
        if n in data and (n != "profile" or not isinstance(data[n], str))
    }
    for kind, named in tables.items():
        if not isinstance(named, dict) or not all(isinstance(t, dict) for t in named.values()):
            raise BadOption(f"{path}: {kind!r} holds no tables", hint=f"write [{kind}.NAME]")
    if "profile" in tables:
        tables["profile"] = {
            name: named_profile(name, table, path) for name, table in tables["profile"].items()
        }
    return checked(with_files(data, path), str(path)), tables


def named_profile(name: str, table: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The fields of a `[profile.NAME]`. Raises BadOption for what it cannot hold."""
    where = f"{path} [profile.{name}]"
    said = checked(with_files(table, path), where)
    if "profile" in said:
        raise BadOption(f"{where}: a profile names no other one", hint="say its fields here")
    profile_of(said)
    return said


def with_files(said: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The same with the files that it names found from where it stands itself.

    `developer_file = "careful.md"` is another word for `developer = "@careful.md"`. Raises
    BadOption where a project's file names one outside of its folder.
    """
    found, folder = dict(said), path.parent.resolve()
    if "developer_file" in found:
        found["developer"] = f"@{found.pop('developer_file')}"
    developer = str(found.get("developer", ""))
    marks = {"file": "", "developer": "@"} if developer[:2] != "@@" else {"file": ""}
    for name, mark in marks.items():
        word = str(found.get(name, ""))
        if not word.startswith(mark) or len(word) == len(mark):
            continue
        there = (folder / Path(word[len(mark) :]).expanduser()).resolve()
        if path.name == PROJECT_FILE and not there.is_relative_to(folder):
            raise BadOption(
                f"{path}: a project's file may not name {word!r}",
                hint=f"only files in {folder}",
            )
        if name == "developer" or there.exists():  # else it may be a registered prompt
            found[name] = f"{mark}{there}"
    return found


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


def conversations_file(environment: Mapping[str, str]) -> Path:
    """Where conversations outlive a kernel: O3MAGIC_CONVERSATIONS, or the user's data folder."""
    if own := environment.get("O3MAGIC_CONVERSATIONS"):
        return Path(own).expanduser()
    from platformdirs import user_data_path

    return user_data_path("o3magic") / "conversations.json"


def models_folder(environment: Mapping[str, str]) -> Path:
    """Where model files are kept: O3MAGIC_MODELS, or a folder of the user's cache."""
    if own := environment.get("O3MAGIC_MODELS"):
        return Path(own).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("o3magic") / "models"


def ledger_file(environment: Mapping[str, str]) -> Path | str:
    """Where the ledger is kept: O3MAGIC_LEDGER, `:memory:`, or the user's data folder."""
    if own := environment.get("O3MAGIC_LEDGER"):
        return own if own == ":memory:" else Path(own).expanduser()
    from platformdirs import user_data_path

    return user_data_path("o3magic") / "ledger.sqlite3"


def working_folder() -> Path:
    """The working folder. Raises BadOption where it was deleted under the process."""
    try:
        return Path.cwd()
    except OSError:
        raise BadOption(
            "the working folder is not there any more", hint="%cd to a folder that is there"
        ) from None

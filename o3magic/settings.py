"""What the user chose: one frozen `Profile` out of layers, each laid over the one before.

defaults < user file < project file < environment < %o3_config < widget < the line

The files are TOML: Profile fields at the top, `[providers.NAME]` and `[models.NAME]` tables below.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from o3magic.errors import BadOption, did_you_mean
from o3magic.profile import Profile, options, profile_of

LAYERS = ("user file", "project file", "environment", "%o3_config", "widget")
PROJECT_FILE = "o3magic.toml"
# A file that came with somebody's notebooks must not choose where the reader's key is sent.
NOT_IN_A_PROJECT = ("base_url", "providers")
BUDGETS = tuple(
    o.name for o in options() if o.name.startswith("budget_") and o.name != "budget_warn"
)


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
        said | {"project file": lower_budgets(user, project)},
        providers=user_tables.get("providers", {}),
        models={**project_tables.get("models", {}), **user_tables.get("models", {})},
    )
    layers.profile()
    return layers


def lower_budgets(user: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """What a project's file says, but for budgets above the user's own: it may only lower them."""

    def raises(name: str) -> bool:
        both = [getattr(profile_of({name: file[name]}), name) for file in (user, project)]
        return bool(both[0] < both[1])

    shared = [name for name in BUDGETS if name in user and name in project]
    return {n: value for n, value in project.items() if not (n in shared and raises(n))}


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

"""Who can be asked: providers are data, out of `providers.toml` and the user's own file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import SecretStr, TypeAdapter, ValidationError

from o3magic.errors import BadOption, did_you_mean

ADDRESS_HINT = "an address looks like https://api.openai.com/v1"
ENDPOINT_PATHS = ("/responses", "/chat/completions", "/models")


@dataclass(frozen=True)
class Provider:
    """One place that answers.

    auth: `bearer` (Authorization header), `api-key` (Azure's header), `entra` (a token of that
    `scope`, in the Authorization header) or `none`.
    endpoints: which APIs it has. list_prices: bills by the model cards' prices.
    local: runs on the user's machine. embedded: the built-in simulator, started when asked for.
    managed: llama.cpp's server on this machine, started when it is asked first, with a key of its
    own; file: the model file it is started with, once that is known.
    default_models: what is asked where no model is chosen, in order of preference.
    path, query: behind the base URL; `{model}` in a path is the model's name (Azure's deployments).
    lacks: what it is known not to have: responses, schema, summary, usage (in streams).
    system_role: takes a system message, not a developer's. max_tokens: calls the limit so.
    insecure: its key may go over http to another machine. cards: {its model name: ours}.
    small_schemas: takes only Azure's 100 properties and 5 levels.
    stores: keeps its answers, so that the next question can name the last one by its id.
    """

    name: str
    base_url: str = ""
    base_url_env: str = ""
    path: str = ""
    query: str = ""
    key_env: str = ""
    auth: Literal["bearer", "api-key", "entra", "none"] = "bearer"
    scope: str = ""
    endpoints: tuple[str, ...] = ("responses", "chat", "models")
    list_prices: bool = False
    local: bool = False
    embedded: bool = False
    managed: bool = False
    file: str = ""
    default_models: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    system_role: bool = False
    max_tokens: bool = False
    insecure: bool = False
    small_schemas: bool = False
    stores: bool = False
    cards: Mapping[str, str] = field(default_factory=dict)

    def url(self, path: str, model: str = "") -> str:
        """The address of an endpoint such as `/responses`, prefix and query of the base kept."""
        whole = f"{self.path.format(model=quote(model, safe=''))}/{path.lstrip('/')}"
        joined = join_url(self.base_url, whole if self.path else path)
        if self.query and "?" not in joined:
            joined += f"?{self.query}"
        return joined

    @property
    def in_the_clear(self) -> bool:
        """Whether a key would go over http to another machine."""
        return (
            self.base_url.lower().startswith("http://")
            and not self.insecure
            and not is_loopback(self.host)
        )

    @cached_property
    def host(self) -> str:
        """The host a key may be sent to."""
        try:
            return urlsplit(self.base_url).hostname or ""
        except ValueError:
            return ""

    @property
    def origin(self) -> tuple[str, str, int | None]:
        """Scheme, host and port: who it is that a key was made for."""
        return origin(self.base_url)


class Providers:
    """The providers by name, with the user's own laid over the built-in ones."""

    def __init__(
        self, own: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str]
    ) -> None:
        text = files("o3magic").joinpath("providers.toml").read_text(encoding="utf-8")
        self._tables = tomllib.loads(text)
        for name, table in own.items():
            check_fields(name, table)
            built_in = self._tables.get(name, {})
            if built_in.get("managed") and table.get("base_url"):
                built_in = {}  # a server of the user's own that is called so
            self._tables[name] = {**built_in, **table}
        # Read anew at each question: a key may be set in the notebook, after the session began.
        self._environment = environment

    def _read(self, name: str) -> Provider:
        said = dict(self._tables[name])
        if address := self._environment.get(said.get("base_url_env", "")):
            said["base_url"] = join_url(address, "")
        names = ("endpoints", "lacks", "default_models")
        lists = {key: tuple(said[key]) for key in names if key in said}
        return Provider(name, **{**said, **lists})

    @property
    def names(self) -> list[str]:
        """All names."""
        return list(self._tables)

    @property
    def local(self) -> list[Provider]:
        """Servers that may already run on the user's own machine."""
        each = (self._read(name) for name in self._tables)
        return [provider for provider in each if provider.local and not provider.managed]

    def get(self, name: str) -> Provider:
        """The provider of that name. Raises BadOption with near names."""
        if name not in self._tables:
            hint = did_you_mean(name, self.names, f"one of {', '.join(self.names)}")
            raise BadOption(f"there is no provider {name!r}", hint=hint)
        return self._read(name)

    def key(self, provider: Provider) -> SecretStr | None:
        """The provider's key out of its own environment variable, or None."""
        key = self._environment.get(provider.key_env, "") if provider.key_env else ""
        return SecretStr(key.strip()) if key.strip() else None

    def default(self) -> Provider | None:
        """The one to ask when none is named: OpenAI or Azure, if a key is there; else None."""
        for name in ("openai", "azure"):
            provider = self._read(name)
            if provider.base_url and self.key(provider):
                return provider
        return None


def check_fields(name: str, table: Mapping[str, Any]) -> None:
    """Raise BadOption for a field that no provider has, and for a value it cannot have."""
    known = [item.name for item in fields(Provider) if item.name not in ("name", "file")]
    for key in table:
        if key not in known:
            raise BadOption(
                f"[providers.{name}] has no field {key!r}",
                hint=did_you_mean(key, known, f"the fields are {', '.join(known)}"),
            )
    try:
        TypeAdapter(Provider).validate_python({"name": name, **table})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadOption(f"[providers.{name}] {first['loc'][0]}: {first['msg']}") from None


def join_url(base: str, path: str) -> str:
    """`base` with `path` behind it: prefix and query kept, no slash and no `/v1` doubled.

    A base that already ends in the endpoint (`.../v1/responses`) is taken at its prefix.
    Raises BadOption for one that cannot be read.
    """
    try:
        parts = urlsplit(base.strip())
        if " " in parts.netloc or parts.port == 0:
            raise ValueError("no host is called so")
    except ValueError as error:
        shown = base.strip().rpartition("@")[2]  # without a name and password before it
        raise BadOption(f"{shown} is no address: {error}", hint=ADDRESS_HINT) from None
    prefix = parts.path.rstrip("/")
    for known in ENDPOINT_PATHS:
        prefix = prefix.removesuffix(known)
    tail = without_overlap(prefix.split("/"), path.strip("/").split("/"))
    joined = f"{prefix}/{tail}" if tail else prefix
    return urlunsplit((parts.scheme, parts.netloc, joined, parts.query, ""))


def origin(address: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address, the usual ports filled in; blanks for none."""
    try:
        parts = urlsplit(address.strip())
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname or "", parts.port or usual
    except ValueError:
        return "", "", None


def without_overlap(prefix: list[str], tail: list[str]) -> str:
    """The tail without the segments the prefix ends in: no `/v1/v1`, no `/openai/openai`."""
    for size in range(min(len(prefix), len(tail)), 0, -1):
        if prefix[-size:] == tail[:size]:
            return "/".join(tail[size:])
    return "/".join(tail)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    return host == "localhost" or host == "::1" or host.startswith("127.")

"""Who can be asked: providers are data, out of `providers.toml` and the user's own file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from functools import cached_property
from importlib.resources import files
from string import Template
from typing import Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import SecretStr, TypeAdapter, ValidationError

from o3magic.errors import BadOption, did_you_mean
from o3magic.models import Price, own_prices

ADDRESS_HINT = "an address looks like https://api.openai.com/v1"
LISTS = ("endpoints", "lacks", "default_models", "uplift_not_for")
ENDPOINT_PATHS = ("/responses", "/chat/completions", "/models")
HEADER_NAME = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]+")
# What a header's value may not hold: control characters, and what is not in Latin-1.
NOT_IN_A_HEADER = re.compile(r"[^\t\x20-\x7e\xa0-\xff]")
# Headers that are ours to send: they carry the key, or say how the request is carried.
OUR_HEADERS = frozenset(
    (
        *("authorization", "proxy-authorization", "api-key", "content-type", "content-length"),
        *("content-encoding", "host", "connection", "proxy-connection", "keep-alive", "te"),
        *("trailer", "transfer-encoding", "upgrade", "expect", "accept", "accept-encoding"),
        "user-agent",
    )
)
LOOPBACK = re.compile(r"localhost|::1|127(\.\d{1,3}){1,3}", re.ASCII)
# What a table says of its own host, its bills and its models, and of nobody else's.
OF_ITS_HOST = (
    *("list_prices", "hosted_tools", "uplift_percent", "uplift_not_for"),
    "card_shutdowns",
)
LEAST_PERCENT, MOST_PERCENT = Decimal(-100), Decimal(1000)


@dataclass(frozen=True)
class Provider:
    """One place that answers.

    auth: `bearer` (Authorization header), `api-key` (Azure's header), `entra` (a token of that
    `scope`, in the Authorization header) or `none`.
    endpoints: which APIs it has. list_prices: bills by the model cards' prices.
    local: runs on the user's machine. embedded: the built-in simulator, started when asked for.
    managed: llama.cpp's server on this machine, started when it is asked first, with a key of its
    own; file: the model file it is started with, once that is known.
    path, query: behind the base URL; `{model}` in a path is the model's name (Azure's deployments).
    lacks: what it is known not to have: responses, schema, summary, usage (in streams).
    system_role: takes a system message, not a developer's. max_tokens: calls the limit so.
    insecure: its key may go over http to another machine. cards: {its model name: ours}.
    small_schemas: takes only Azure's 100 properties and 5 levels.
    stores: keeps its answers, so that the next question can name the last one by its id.
    default_models: what is asked where no model is named, in order of preference. None: those of
    OpenAI, or for a local server what it lists; (): a model must be named, as with Azure.
    efforts_in: where an effort is said, if not as at OpenAI. `responses`: in the Responses API
    alone; `template`: in Chat it is also an argument of the chat template.
    card_shutdowns: the cards' shutdown dates hold here. They are OpenAI's; others serve on.
    organization_env, project_env: variables with the account that is billed (OpenAI-Organization,
    OpenAI-Project); sent where the key was made for, to the table's own host, not to every address
    that another variable may name.
    headers: sent with each request to it, and to nobody else. `$NAME` or `${NAME}` in a value
    stands for a variable of the environment, so that a file needs no secret; `$$` is a dollar.
    variables: what these stand for now. It is no field of a table, and is neither shown nor
    pickled.
    prices: {model: its prices here}, which hold instead of those of its card.
    hosted_tools: US dollars for each call of a tool that it runs itself, by the tool's type.
    uplift_percent: what it charges on top of list prices, for its region; uplift_not_for: names of
    models (`o3*`) that it charges no more for.
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
    lacks: tuple[str, ...] = ()
    system_role: bool = False
    max_tokens: bool = False
    insecure: bool = False
    small_schemas: bool = False
    stores: bool = False
    default_models: tuple[str, ...] | None = None
    efforts_in: Literal["", "responses", "template"] = ""
    card_shutdowns: bool = False
    cards: Mapping[str, str] = field(default_factory=dict)
    organization_env: str = ""
    project_env: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    variables: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)
    prices: Mapping[str, tuple[Price, ...]] = field(default_factory=dict)
    hosted_tools: Mapping[str, Decimal] = field(default_factory=dict)
    uplift_percent: Decimal = Decimal(0)
    uplift_not_for: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: everything but what came out of the environment."""
        return vars(self) | {"variables": {}}

    @property
    def unset(self) -> dict[str, str]:
        """The variables its headers need that are not set, each with the header's name."""
        return {
            variable: header
            for header, value in self.headers.items()
            for variable in Template(value).get_identifiers()
            if variable not in self.variables
        }

    def url(self, path: str, model: str = "") -> str:
        """The address of an endpoint such as `/responses`, prefix and query of the base kept."""
        whole = f"{self.path.format(model=quote(model, safe=''))}/{path.lstrip('/')}"
        joined = join_url(self.base_url, whole if self.path else path)
        if self.query and "?" not in joined:
            joined += f"?{self.query}"
        return joined

    @property
    def has_rules_of_openai(self) -> bool:
        """Whether what OpenAI's Chat API refuses is refused here: at OpenAI, Azure, the simulator.

        What stands at OpenAI's variable may be a server that takes more.
        """
        return self.small_schemas or self.embedded or f".{self.host}".endswith(".openai.com")

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
        return host_of(self.base_url)

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
        built_in = tomllib.loads(text)
        self._regions = {name: table.pop("regions", None) for name, table in built_in.items()}
        self._tables: dict[str, dict[str, Any]] = {
            name: typed(name, table) for name, table in built_in.items()
        }
        self._homes = {name: host_of_table(table) for name, table in self._tables.items()}
        self._own = own
        for name, table in own.items():
            check_fields(name, table)
            known, said = self._tables.get(name, {}), typed(name, table)
            if known.get("managed") and said.get("base_url"):
                known = {}  # a server of the user's own that is called so
            if "hosted_tools" in said:
                said["hosted_tools"] = {**known.get("hosted_tools", {}), **said["hosted_tools"]}
            self._tables[name] = {**known, **said}
        # Looked at for each question: a key may be set in the notebook, after the session began.
        self._environment = environment
        self._variables = {name: variables_of(table) for name, table in self._tables.items()}
        self._known: dict[str, tuple[list[str], Provider]] = {}

    def _read(self, name: str) -> Provider:
        """The provider as the environment of now has it: a question asks for it several times."""
        said = [self._environment.get(each, "") for each in self._variables[name]]
        known = self._known.get(name)
        if known is None or known[0] != said:
            known = self._known[name] = (said, self._made(name))
        return known[1]

    def _made(self, name: str) -> Provider:
        said, own = dict(self._tables[name]), self._own.get(name, {})
        if address := self._environment.get(said.get("base_url_env", "")):
            said["base_url"] = join_url(address, "")
        home = self._homes.get(name, "")
        host = host_of(said.get("base_url", ""))
        if home and not is_at_home(host, home):
            # Somebody else serves and bills it: what is known of that is what the user says.
            said = {
                key: value for key, value in said.items() if key not in OF_ITS_HOST or key in own
            }
        elif (region := self._regions.get(name)) and host in region["hosts"]:
            usual = {
                "uplift_percent": Decimal(region["uplift_percent"]),
                "uplift_not_for": tuple(region["not_for"]),
            }
            said = said if "uplift_percent" in said else said | usual
        if "default_models" not in said and not said.get("local"):
            said["default_models"] = self._tables["openai"].get("default_models", ())
        return self.with_variables(Provider(name, **said))

    def with_variables(self, provider: Provider) -> Provider:
        """The provider with what its headers need out of the environment of this process."""
        names = {n for each in provider.headers.values() for n in Template(each).get_identifiers()}
        table = self._tables.get(provider.name, {})
        if is_at_home(provider.host, self._homes.get(provider.name) or host_of_table(table)):
            names |= {provider.organization_env, provider.project_env} - {""}
        said = {name: self._environment.get(name, "").strip() for name in sorted(names)}
        return replace(
            provider, variables={name: SecretStr(value) for name, value in said.items() if value}
        )

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


def variables_of(table: Mapping[str, Any]) -> list[str]:
    """The variables of the environment that a provider's table may take something from."""
    named = [table.get(f"{each}_env") for each in ("base_url", "organization", "project")]
    values = table.get("headers", {}).values()
    return [*filter(None, named), *(n for each in values for n in Template(each).get_identifiers())]


def check_fields(name: str, table: Mapping[str, Any]) -> None:
    """Raise BadOption for a field that no provider has, and for a value it cannot have."""
    hidden = ("name", "variables", "file")
    known = [item.name for item in fields(Provider) if item.name not in hidden]
    for key in table:
        if key not in known:
            raise BadOption(
                f"[providers.{name}] has no field {key!r}",
                hint=did_you_mean(key, known, f"the fields are {', '.join(known)}"),
            )
    plain = {key: value for key, value in table.items() if key != "prices"}
    try:
        found = TypeAdapter(Provider).validate_python({"name": name, **plain})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadOption(f"[providers.{name}] {first['loc'][0]}: {first['msg']}") from None
    if any(usd < 0 for usd in found.hosted_tools.values()):
        raise BadOption(f"[providers.{name}] hosted_tools: a call cannot cost less than nothing")
    if not LEAST_PERCENT <= found.uplift_percent <= MOST_PERCENT:
        raise BadOption(
            f"[providers.{name}] uplift_percent = {found.uplift_percent}: from {LEAST_PERCENT} to "
            f"{MOST_PERCENT:,}"
        )
    if not isinstance(table.get("prices", {}), Mapping):
        raise BadOption(f"[providers.{name}] prices: a table for each model")
    for header, value in table.get("headers", {}).items():
        check_header(f"[providers.{name}.headers]", header, value)


def check_header(where: str, name: str, value: str) -> None:
    """Raise BadOption for a header that cannot be sent, or is not the user's to send.

    The value is never shown.
    """
    if not HEADER_NAME.fullmatch(name):
        raise BadOption(f"{where} {name[:60]!r}: not a valid header name", hint='X-Title = "..."')
    if name.lower() in OUR_HEADERS:
        hint = "key_env and auth say how the key is sent"
        raise BadOption(f"{where} {name}: this header cannot be set here", hint=hint)
    if NOT_IN_A_HEADER.search(value):
        raise BadOption(
            f"{where} {name}: the value has characters not allowed in a header",
            hint="no line ends, and only letters of Latin-1",
        )
    if not Template(value).is_valid():
        raise BadOption(
            f"{where} {name}: a $ in the value names no variable",
            hint="$NAME or ${NAME} is a variable of the environment, $$ a dollar",
        )


def typed(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """A table as the fields of a Provider. Raises BadOption for a price that is none."""
    said = dict(table)
    for key in LISTS:
        if key in said:
            said[key] = tuple(said[key])
    if "uplift_percent" in said:
        said["uplift_percent"] = Decimal(str(said["uplift_percent"]))
    if "hosted_tools" in said:
        said["hosted_tools"] = {
            tool: Decimal(str(usd)) for tool, usd in said["hosted_tools"].items()
        }
    if "prices" in said:
        said["prices"] = {
            model: own_prices({"price": rows_of(rows)}, f"[providers.{name}.prices.{model}]")
            for model, rows in said["prices"].items()
        }
    return said


def rows_of(rows: Any) -> Iterable[Any]:
    """The prices of a model: one table, or one for each tier."""
    return [rows] if isinstance(rows, Mapping) else rows


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


def host_of_table(table: Mapping[str, Any]) -> str:
    """The host that a provider's own table names, or ""."""
    return host_of(table.get("base_url", ""))


def is_at_home(host: str, home: str) -> bool:
    """Whether a host is the one of a provider's own table, a part of it, or this machine.

    What listens on this machine under a provider's variable forwards to that provider.
    """
    return is_loopback(host) or bool(home and f".{host}".endswith(f".{home}"))


def host_of(address: str) -> str:
    """The host in an address, or "" where there is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    return LOOPBACK.fullmatch(host) is not None

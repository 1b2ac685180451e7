"""One call: everything an attempt needs, and what of it goes into headers and body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from string import Template
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticSerializationError, to_json

from o3magic.errors import BadOption, NoKey
from o3magic.messages import Api, Request
from o3magic.providers import NOT_IN_A_HEADER, Provider
from o3magic.redaction import redact


def token(scope: str) -> SecretStr | None:
    """A fresh token for the user who is signed in, or None where the package is not installed.

    Raises NoKey where nobody is signed in.
    """
    try:
        identity = import_module("azure.identity")
    except ImportError:
        return None
    # Its errors come from many classes of two packages; all mean the same here.
    try:
        return SecretStr(identity.DefaultAzureCredential().get_token(scope).token)
    except Exception as error:
        first = redact(str(error).partition("\n")[0])
        raise NoKey(f"no Entra token: {first}", hint="sign in with `az login`") from None


LEAST_SECRET_CHARS = 4  # a shorter one would be found in every other word


@dataclass(frozen=True)
class HttpRequest:
    """Everything one attempt needs. Its repr shows no key, and no copy or pickle of it has one."""

    provider: Provider
    api: Api
    request: Request
    key: SecretStr | None = None
    connect_timeout_s: float = 10.0
    first_token_timeout_s: float = 600.0
    chunk_timeout_s: float = 120.0
    max_answer_bytes: int = 67_108_864

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: everything but the key."""
        return vars(self) | {"key": None}


def located(call: HttpRequest, address: str) -> HttpRequest:
    """The same call to a server whose address is known by now."""
    return replace(call, provider=replace(call.provider, base_url=address))


def body(said: dict[str, Any]) -> bytes:
    """A request's body. Half of a surrogate pair, which UTF-8 has not, goes as U+FFFD."""
    try:
        return to_json(said)
    except PydanticSerializationError:
        text = json.dumps(said, ensure_ascii=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def headers(call: HttpRequest) -> dict[str, str]:
    """The headers of a call."""
    accept = "text/event-stream" if call.request.stream else "application/json"
    said = {"content-type": "application/json", "accept": accept, "accept-encoding": "gzip"}
    if call.provider.local:
        # llama-server closes behind a stream without saying so, and a new line costs nothing here.
        said["connection"] = "close"
    return said | to_provider(call.provider, call.key)


def to_provider(provider: Provider, key: SecretStr | None) -> dict[str, str]:
    """The headers of every request to a provider: its table's own, the account, the key.

    Raises BadOption for one that cannot be sent.
    """
    return own_headers(provider) | auth(provider, key)


def own_headers(provider: Provider) -> dict[str, str]:
    """The headers a provider's table adds, variables filled in, and those of the account."""
    secrets = {name: value.get_secret_value() for name, value in provider.variables.items()}
    for variable, header in provider.unset.items():
        raise BadOption(
            f"{provider.name} is sent a header {header} with {variable}, which is not set",
            hint=f"set {variable} in the environment",
        )
    for name, secret in secrets.items():
        if NOT_IN_A_HEADER.search(secret):
            raise BadOption(
                f"{name} has characters not allowed in a header",
                hint=f"set {name} again, without quotes or line ends",
            )
    if secrets and provider.in_the_clear:
        raise in_the_clear(provider, f"what is in {' and '.join(secrets)}")
    account = (
        ("openai-organization", provider.organization_env),
        ("openai-project", provider.project_env),
    )
    said = {header: secrets[name] for header, name in account if name in secrets}
    # A name is the same however it is spelled, and must not be there twice.
    filled = {n.lower(): Template(v).substitute(secrets) for n, v in provider.headers.items()}
    return said | {name: value.strip() for name, value in filled.items()}


def in_the_clear(provider: Provider, what: str) -> BadOption:
    """A secret that is not sent, since anybody may read it on its way."""
    return BadOption(
        f"{what} would go to {redact(provider.host)} over http, where anybody may read it",
        hint="use https, or set `insecure = true` for this provider in your own file",
    )


def as_bytes(said: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as they stand on the line."""
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in said.items()]


def secrets_of(provider: Provider, key: SecretStr | None) -> dict[str, str]:
    """What must not be said again of what a provider was sent, and what stands in its place."""
    values = [each.get_secret_value() for each in provider.variables.values()]
    with suppress(BadOption):
        values += own_headers(provider).values()
    found = {each: "[header]" for each in values if len(each) >= LEAST_SECRET_CHARS}
    if key is not None and key.get_secret_value():
        found[key.get_secret_value()] = "[key]"
    return dict(sorted(found.items(), key=lambda each: -len(each[0])))


def auth(provider: Provider, key: SecretStr | None) -> dict[str, str]:
    """The header that carries the key, or none."""
    if key is None or provider.auth == "none":
        return {}
    if provider.in_the_clear:
        raise in_the_clear(provider, "the key")
    if not can_be_sent(key):
        raise BadOption(
            f"the key in {provider.key_env} holds characters no key has",
            hint=f"set {provider.key_env} again, without quotes or line ends",
        )
    if provider.auth == "api-key":
        return {"api-key": key.get_secret_value()}
    return {"authorization": f"Bearer {key.get_secret_value()}"}


def can_be_sent(key: SecretStr) -> bool:
    """Whether a header can hold it."""
    return key.get_secret_value().isascii() and key.get_secret_value().isprintable()

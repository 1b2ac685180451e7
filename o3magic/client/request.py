"""One HTTP request: its headers, body and key."""

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


def fetch_entra_token(scope: str) -> SecretStr | None:
    """Fetch an Entra token of the signed-in user; None if azure-identity is not installed.

    Raises NoKey if no user is signed in.
    """
    try:
        identity = import_module("azure.identity")
    except ImportError:
        return None
    # Its errors are of many classes in two packages.
    try:
        return SecretStr(identity.DefaultAzureCredential().get_token(scope).token)
    except Exception as error:
        first = redact(str(error).partition("\n")[0])
        raise NoKey(f"no Entra token: {first}", hint="sign in with `az login`") from None


LEAST_SECRET_CHARS = 4  # a shorter one would match ordinary words


@dataclass(frozen=True)
class HttpRequest:
    """Everything one attempt needs. Neither its repr nor a copy or pickle of it holds the key."""

    provider: Provider
    api: Api
    request: Request
    key: SecretStr | None = None
    connect_timeout_s: float = 10.0
    first_token_timeout_s: float = 600.0
    chunk_timeout_s: float = 120.0
    max_answer_bytes: int = 67_108_864

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle: everything but the key."""
        return vars(self) | {"key": None}


def with_base_url(call: HttpRequest, address: str) -> HttpRequest:
    """Return the call with another base URL."""
    return replace(call, provider=replace(call.provider, base_url=address))


def encode_body(data: dict[str, Any]) -> bytes:
    """Encode a request body. A lone surrogate, which UTF-8 lacks, becomes U+FFFD."""
    try:
        return to_json(data)
    except PydanticSerializationError:
        text = json.dumps(data, ensure_ascii=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def build_headers(call: HttpRequest) -> dict[str, str]:
    accept = "text/event-stream" if call.request.stream else "application/json"
    fields = {"content-type": "application/json", "accept": accept, "accept-encoding": "gzip"}
    if call.provider.local:
        # llama-server closes after a stream without notice; a new local connection costs little.
        fields["connection"] = "close"
    return fields | build_provider_headers(call.provider, call.key)


def build_provider_headers(provider: Provider, key: SecretStr | None) -> dict[str, str]:
    """Headers of every request to a provider: configured ones, the account, the key.

    Raises BadOption for one that cannot be sent.
    """
    return build_custom_headers(provider) | build_auth_header(provider, key)


def build_custom_headers(provider: Provider) -> dict[str, str]:
    """Headers of a provider's configuration, with variables filled in, and of the account."""
    secrets = {name: value.get_secret_value() for name, value in provider.variables.items()}
    for variable, header in provider.unset.items():
        raise BadOption(
            f"{provider.name} needs the header {header} with {variable}, which is not set",
            hint=f"set {variable} in the environment",
        )
    for name, secret in secrets.items():
        if NOT_IN_A_HEADER.search(secret):
            raise BadOption(
                f"{name} has characters not allowed in a header",
                hint=f"set {name} again, without quotes or line ends",
            )
    if secrets and provider.in_the_clear:
        raise build_insecure_error(provider, f"what is in {' and '.join(secrets)}")
    account = (
        ("openai-organization", provider.organization_env),
        ("openai-project", provider.project_env),
    )
    fields = {header: secrets[name] for header, name in account if name in secrets}
    # Header names do not depend on case, and each must occur only once.
    filled = {
        name.lower(): Template(value).substitute(secrets)
        for name, value in provider.headers.items()
    }
    return fields | {name: value.strip() for name, value in filled.items()}


def build_insecure_error(provider: Provider, what: str) -> BadOption:
    """Refuse to send a secret over plain http."""
    return BadOption(
        f"{what} would go to {redact(provider.host)} over http, which is not encrypted",
        hint="use https, or set `insecure = true` for this provider in your own file",
    )


def encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


def collect_secrets(provider: Provider, key: SecretStr | None) -> dict[str, str]:
    """Map the secrets sent to a provider to their replacements in error messages."""
    values = [value.get_secret_value() for value in provider.variables.values()]
    with suppress(BadOption):
        values += build_custom_headers(provider).values()
    secrets = dict.fromkeys(values, "[header]")
    if key is not None:
        secrets[key.get_secret_value()] = "[key]"
    secrets = {value: name for value, name in secrets.items() if len(value) >= LEAST_SECRET_CHARS}
    return dict(sorted(secrets.items(), key=lambda value: -len(value[0])))


def build_auth_header(provider: Provider, key: SecretStr | None) -> dict[str, str]:
    if key is None or provider.auth == "none":
        return {}
    if provider.in_the_clear:
        raise build_insecure_error(provider, "the key")
    if not is_header_value(key):
        raise BadOption(
            f"the key in {provider.key_env} holds characters no key has",
            hint=f"set {provider.key_env} again, without quotes or line ends",
        )
    if provider.auth == "api-key":
        return {"api-key": key.get_secret_value()}
    return {"authorization": f"Bearer {key.get_secret_value()}"}


def is_header_value(key: SecretStr) -> bool:
    return key.get_secret_value().isascii() and key.get_secret_value().isprintable()

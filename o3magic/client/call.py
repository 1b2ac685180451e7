"""One call: everything an attempt needs, and what of it goes into headers and body."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticSerializationError, to_json

from o3magic.errors import BadOption
from o3magic.messages import Api, Request
from o3magic.providers import Provider
from o3magic.wire.failures import redact


@dataclass(frozen=True)
class Call:
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


def located(call: Call, address: str) -> Call:
    """The same call to a server whose address is known by now."""
    return replace(call, provider=replace(call.provider, base_url=address))


def body(said: dict[str, Any]) -> bytes:
    """A request's body. Half of a surrogate pair, which UTF-8 has not, goes as U+FFFD."""
    try:
        return to_json(said)
    except PydanticSerializationError:
        text = json.dumps(said, ensure_ascii=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def headers(call: Call) -> dict[str, str]:
    """The headers of a call."""
    accept = "text/event-stream" if call.request.stream else "application/json"
    said = {"content-type": "application/json", "accept": accept, "accept-encoding": "gzip"}
    if call.provider.local:
        # llama-server closes behind a stream without saying so, and a new line costs nothing here.
        said["connection"] = "close"
    return said | auth(call.provider, call.key)


def auth(provider: Provider, key: SecretStr | None) -> dict[str, str]:
    """The header that carries the key, or none."""
    if key is None or provider.auth == "none":
        return {}
    if provider.in_the_clear:
        raise BadOption(
            f"the key would go to {redact(provider.host)} over http, where anybody may read it",
            hint="use https, or set `insecure = true` for this provider in your own file",
        )
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

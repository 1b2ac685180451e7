"""Remove secrets from requests and answers before they are written to a cassette."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from o3magic.cassettes.request_key import iter_texts
from o3magic.errors import CassetteError
from o3magic.redaction import find_secrets

REMOVED = "[secret removed]"


def scrub_text(text: str) -> str:
    """Replace every secret in a text by `[secret removed]`."""
    parts, end = [], 0
    for secret in find_secrets(text):
        if secret.end > end:
            parts += [text[end : secret.start], REMOVED] if secret.start >= end else []
            end = secret.end
    return "".join([*parts, text[end:]])


def scrub_value(value: Any) -> Any:
    """Replace the secrets in all texts of a value; lines in a list are joined first."""
    if isinstance(value, str):
        return scrub_text(value)
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        whole = "".join(value)
        safe = scrub_text(whole)
        return value if safe == whole else safe.splitlines(keepends=True)
    if isinstance(value, list):
        return [scrub_value(item) for item in value]
    if isinstance(value, Mapping):
        return {name: scrub_value(item) for name, item in value.items()}
    return value


def scrub_request(canonical: Mapping[str, Any], *, scrub: bool) -> Mapping[str, Any]:
    """Return a request that may be recorded.

    scrub: remove secrets; without it they raise CassetteError.
    """
    names = dict.fromkeys(
        secret.name for text in iter_texts(canonical) for secret in find_secrets(text)
    )
    if not names:
        return canonical
    if not scrub:
        raise CassetteError(
            f"the question holds what looks like {' and '.join(names)}: it is not recorded",
            hint="take it out of the prompt, or --scrub records the question without it",
        )
    safe: Mapping[str, Any] = scrub_value(canonical)
    return safe

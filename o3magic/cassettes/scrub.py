"""Secrets in what is to be kept on a cassette: where they are, and the text without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from o3magic.cassettes.request_key import texts_in
from o3magic.errors import CassetteError
from o3magic.redaction import find_secrets

REMOVED = "[secret removed]"


def scrubbed(text: str) -> str:
    """The text with every secret replaced by `[secret removed]`."""
    kept, until = [], 0
    for secret in find_secrets(text):
        if secret.end > until:
            kept += [text[until : secret.start], REMOVED] if secret.start >= until else []
            until = secret.end
    return "".join([*kept, text[until:]])


def scrubbed_value(value: Any) -> Any:
    """A value with the secrets in all its texts replaced; a text in lines is looked at whole."""
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        whole = "".join(value)
        safe = scrubbed(whole)
        return value if safe == whole else safe.splitlines(keepends=True)
    if isinstance(value, list):
        return [scrubbed_value(each) for each in value]
    if isinstance(value, Mapping):
        return {name: scrubbed_value(each) for name, each in value.items()}
    return value


def safe_request(canonical: Mapping[str, Any], *, scrub: bool) -> Mapping[str, Any]:
    """A request that may be kept. Raises CassetteError for a secret in it."""
    names = dict.fromkeys(s.name for text in texts_in(canonical) for s in find_secrets(text))
    if not names:
        return canonical
    if not scrub:
        raise CassetteError(
            f"the question holds what looks like {' and '.join(names)}: it is not recorded",
            hint="take it out of the prompt, or --scrub records the question without it",
        )
    safe: Mapping[str, Any] = scrubbed_value(canonical)
    return safe

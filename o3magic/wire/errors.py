"""What a provider's refusal means: status and code decide, never the words.

Cases and their sources: OpenAI's error codes guide (2026-07-15) and recorded bodies of OpenAI,
Azure, OpenRouter, LiteLLM, Groq and others. Words decide only where cases share status and code: a
model that was shut down or was never there, and a single request over the limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from o3magic import errors
from o3magic.redaction import MOST_CHARS, redact

# How servers without a code for it say at 400 or 404 that they have no such model: LiteLLM,
# OpenRouter, vLLM, Ollama (2026-11).
NO_SUCH_MODEL = re.compile(
    r"\binvalid model\b|\bunknown model\b|\bnot a valid model\b"
    r"|\bmodel\b[^.]{0,200}\b(?:does not exist|not found)\b",
    re.IGNORECASE,
)
TAGS = re.compile(r"<(script|style)\b[^>]*>.*?(?:</\1>|$)|<[^>]*>", re.DOTALL | re.IGNORECASE)
PAGE = re.compile(r"<(?:!doctype|html|head|body|script)\b", re.IGNORECASE)
FIRST_EVENT = re.compile(rb"\s*data:([^\r\n]*)")

BY_CODE: dict[str, type[errors.RequestFailed]] = {
    "invalid_api_key": errors.WrongKey,
    "no_db_connection": errors.WrongKey,  # LiteLLM without a database cannot look a key up
    "model_not_found": errors.ModelNotFound,
    "DeploymentNotFound": errors.ModelNotFound,
    "insufficient_quota": errors.QuotaExhausted,
    "credit_balance_exhausted": errors.QuotaExhausted,
    "billing_hard_limit_reached": errors.QuotaExhausted,
    "rate_limit_exceeded": errors.RateLimited,
    "context_length_exceeded": errors.TooLarge,
    "exceed_context_size_error": errors.TooLarge,
    "content_filter": errors.ContentFiltered,
    "server_error": errors.ProviderDown,
}
BY_STATUS: dict[int, type[errors.RequestFailed]] = {
    401: errors.WrongKey,
    403: errors.NoAccess,
    404: errors.RequestRefused,
    408: errors.ProviderDown,
    413: errors.TooLarge,
    429: errors.RateLimited,
}


def summary_of_page(text: str) -> str:
    """The words of an HTML or plain body, its scripts and tags left out."""
    return redact(TAGS.sub(" ", text[: 20 * MOST_CHARS]))


def error_of(body: Any) -> Mapping[str, Any]:
    """The error object of a body in any of the shapes seen, or an empty one.

    {"error": {...}}, {"error": "..."}, {"detail": ...}, {"msg": ...}, {"object": "error", ...}, a
    flat event, any of them in a list, a bare text.
    """
    if isinstance(body, list):
        return next(filter(None, map(error_of, body)), {})
    if isinstance(body, str):
        return {"message": body} if body.strip() else {}
    if not isinstance(body, Mapping):
        return {}
    inner = body.get("error")
    if isinstance(inner, Mapping):
        return inner
    if isinstance(inner, str) and inner:
        return {"message": inner}
    if "detail" in body:
        return {"message": str(body["detail"])}
    if body.get("type") == "error" or body.get("object") == "error":
        return body
    said = next((name for name in ("message", "msg") if isinstance(body.get(name), str)), None)
    return {**body, "message": body[said]} if said else {}


def failure(
    status: int | None, body: bytes | Mapping[str, Any], request_id: str | None = None
) -> errors.RequestFailed:
    """The error for a refused request or an error event. Never raises, whatever the body is."""
    found, words = read(body)
    code = found.get("code")
    code_text = str(code) if isinstance(code, str | int) and not isinstance(code, bool) else ""
    param = found.get("param")
    if not words:
        said = str(found.get("message") or found.get("type") or "")
        # LiteLLM pastes the page of the server behind it into its message.
        words = summary_of_page(said) if PAGE.search(said) else redact(said)
    kind = classify(status, code_text, str(found.get("type") or ""), words)
    where = f" (HTTP {status})" if status and status != 200 else ""
    return kind(
        f"{words.rstrip('. ') or 'no reason given'}{where}",
        hint=hint_for(kind, code_text, str(param or "")),
        status=status,
        code=code_text or None,
        param=param if isinstance(param, str) else None,
        request_id=redact(request_id) if request_id else None,
    )


def read(body: bytes | Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The error object of a body, and its words where it is no JSON."""
    if not isinstance(body, bytes):
        return error_of(body), ""
    event = FIRST_EVENT.match(body)  # a stream that failed before it began (LiteLLM)
    try:
        found = error_of(from_json(event[1] if event else body))
    except ValueError:
        return {}, summary_of_page(body.decode("utf-8", "replace")) or "an empty answer"
    return found, "" if found else redact(body.decode("utf-8", "replace")) or "an empty answer"


def classify(status: int | None, code: str, kind: str, words: str) -> type[errors.RequestFailed]:
    """The class of an error."""
    found = BY_CODE.get(code) or BY_CODE.get(kind)
    if found is errors.ModelNotFound and "has been deprecated" in words:
        return errors.ModelRetired
    if found is errors.RateLimited and words.startswith("Request too large"):
        return errors.TooLarge
    if found:
        return found
    if status is None or status < 400:
        # In a stream the code may be the status ("429", 503), or there may be nothing at all.
        wrong = kind == "invalid_request_error" or code.startswith("invalid_")
        status = int(code) if code.isdecimal() and len(code) == 3 else 400 if wrong else 500
    if status in (400, 404) and NO_SUCH_MODEL.search(words):
        return errors.ModelNotFound
    if status in BY_STATUS:
        return BY_STATUS[status]
    return errors.ProviderDown if status >= 500 else errors.RequestRefused


def hint_for(kind: type[errors.RequestFailed], code: str, param: str) -> str:
    """A closer next step than the class's own, or ""."""
    if param == "reasoning.summary":
        return "ask without --summary, or verify the organization on the provider's site"
    if code == "unsupported_value" and "effort" in param:
        return "choose another --effort; %o3_models lists what each model has"
    if param in ("verbosity", "text.verbosity"):
        return "leave --verbosity out: models before gpt-5 support only medium"
    if param == "service_tier":
        return "leave --tier out, or choose a model that supports it"
    if code == "DeploymentNotFound":
        return "--model takes the deployment's name; a new one needs some minutes"
    return kind.hint

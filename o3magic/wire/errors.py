"""Map error responses to exception classes, by status and code rather than message.

Cases and their sources: OpenAI's error codes guide (2026-07-15) and recorded bodies of OpenAI,
Azure, OpenRouter, LiteLLM, Groq and others. The message decides only between cases that share
status and code: a model that was shut down or never existed, and a single request over the limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from o3magic import errors
from o3magic.redaction import MOST_CHARS, redact

# Messages for an unknown model, at 400 or 404, of servers without a code for it: LiteLLM,
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


def summarize_page(text: str) -> str:
    """Extract the text of an HTML or plain body, without scripts and tags."""
    return redact(TAGS.sub(" ", text[: 20 * MOST_CHARS]))


def find_error(body: Any) -> Mapping[str, Any]:
    """The error object of a body in any of the shapes seen, or an empty one.

    {"error": {...}}, {"error": "..."}, {"detail": ...}, {"msg": ...}, {"object": "error", ...}, a
    flat event, any of them in a list, a bare text.
    """
    if isinstance(body, list):
        return next(filter(None, map(find_error, body)), {})
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


def build_error(
    status: int | None, body: bytes | Mapping[str, Any], request_id: str | None = None
) -> errors.RequestFailed:
    """Build the exception of an error response or event. Accepts any body."""
    fields, text = read_error(body)
    code = fields.get("code")
    code_text = str(code) if isinstance(code, str | int) and not isinstance(code, bool) else ""
    param = fields.get("param")
    if not text:
        message = str(fields.get("message") or fields.get("type") or "")
        # LiteLLM copies the web page of the upstream server into its message.
        text = summarize_page(message) if PAGE.search(message) else redact(message)
    error_class = classify(status, code_text, str(fields.get("type") or ""), text)
    suffix = f" (HTTP {status})" if status and status != 200 else ""
    return error_class(
        f"{text.rstrip('. ') or 'no reason given'}{suffix}",
        hint=choose_hint(error_class, code_text, str(param or "")),
        status=status,
        code=code_text or None,
        param=param if isinstance(param, str) else None,
        request_id=redact(request_id) if request_id else None,
    )


def read_error(body: bytes | Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """Return the error object of a body, and its text if it is not JSON."""
    if not isinstance(body, bytes):
        return find_error(body), ""
    event = FIRST_EVENT.match(body)  # a stream that failed before it began (LiteLLM)
    try:
        fields = find_error(from_json(event[1] if event else body))
    except ValueError:
        return {}, summarize_page(body.decode("utf-8", "replace")) or "an empty answer"
    return fields, "" if fields else redact(body.decode("utf-8", "replace")) or "an empty answer"


def classify(status: int | None, code: str, kind: str, text: str) -> type[errors.RequestFailed]:
    """Choose the exception class."""
    error_class = BY_CODE.get(code) or BY_CODE.get(kind)
    if error_class is errors.ModelNotFound and "has been deprecated" in text:
        return errors.ModelRetired
    if error_class is errors.RateLimited and text.startswith("Request too large"):
        return errors.TooLarge
    if error_class:
        return error_class
    if status is None or status < 400:
        # In a stream the code may be the status ("429", 503), or absent.
        wrong = kind == "invalid_request_error" or code.startswith("invalid_")
        status = int(code) if code.isdecimal() and len(code) == 3 else 400 if wrong else 500
    if status in (400, 404) and NO_SUCH_MODEL.search(text):
        return errors.ModelNotFound
    if status in BY_STATUS:
        return BY_STATUS[status]
    return errors.ProviderDown if status >= 500 else errors.RequestRefused


def choose_hint(error_class: type[errors.RequestFailed], code: str, param: str) -> str:
    """Choose a more specific hint than that of the class."""
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
    return error_class.hint

"""The files of the Batch API: lines of requests, and lines of answers in any order.

Source: OpenAI's Batch guide (2026-07-15), its API specification (2026-08-21) and Azure's Global
Batch page. A batch is "completed" also where every line failed: then there is only an error file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from o3magic.errors import BatchUnfinished, BrokenAnswer, RequestFailed
from o3magic.events import Usage
from o3magic.redaction import redact
from o3magic.wire.errors import build_error
from o3magic.wire.json_access import get_count, get_object, get_text, iter_objects, load_object
from o3magic.wire.usage import parse_usage

BOM = b"\xef\xbb\xbf"
OVER = frozenset({"failed", "completed", "expired", "cancelled"})
# A line that was never run is not charged for.
NOT_RUN = {
    "batch_expired": "the batch expired before this row was run",
    "batch_cancelled": "the batch was cancelled before this row was run",
}


@dataclass(frozen=True, slots=True)
class BatchLine:
    """The result of one request: the body of its answer, or its error."""

    id: str
    body: Mapping[str, Any] | None
    failed: RequestFailed | None


@dataclass(frozen=True, slots=True)
class BatchState:
    """The state of a batch. File ids are "" if there is no such file (yet)."""

    id: str
    status: str
    output_file: str = ""
    error_file: str = ""
    errors: tuple[str, ...] = ()
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    usage: Usage | None = None
    created_s: int | None = None
    metadata: Mapping[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether the batch has ended."""
        return self.status in OVER


def build_batch_line(line_id: str, body: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Build one line of the input file, for an endpoint such as /v1/responses.

    The ids of a file must differ, and it may not begin with a byte order mark.
    """
    # A batch has no streams.
    plain = {
        name: value for name, value in body.items() if name not in ("stream", "stream_options")
    }
    return {"custom_id": line_id, "method": "POST", "url": url, "body": plain}


def parse_batch_line(raw: bytes) -> BatchLine:
    """Parse a line of an output or error file. Raises BrokenAnswer if it is not a JSON object."""
    line = load_object(raw.removeprefix(BOM).strip())
    line_id, response = get_text(line, "custom_id"), get_object(line, "response")
    code = get_text(get_object(line, "error"), "code")
    if code in NOT_RUN:
        return BatchLine(line_id, None, BatchUnfinished(NOT_RUN[code], code=code))
    status = response.get("status_code")
    status_code = status if type(status) is int else None
    body = get_object(response, "body")
    if body and status_code is not None and 200 <= status_code < 300 and not line.get("error"):
        return BatchLine(line_id, body, None)
    error = line if line.get("error") else body
    if not error:
        error = {"error": {"message": get_text(response, "body") or "no reason given"}}
    return BatchLine(
        line_id, None, build_error(status_code, error, get_text(response, "request_id"))
    )


def parse_batch_state(batch: bytes | Mapping[str, Any]) -> BatchState:
    """Parse a batch object, most of whose fields may be null.

    Raises BrokenAnswer if it has no id or status.
    """
    fields = load_object(batch)
    counts = get_object(fields, "request_counts")
    if not get_text(fields, "id") or not get_text(fields, "status"):
        raise BrokenAnswer("the provider sent a batch without an id or status")
    return BatchState(
        get_text(fields, "id"),
        get_text(fields, "status"),
        get_text(fields, "output_file_id"),
        get_text(fields, "error_file_id"),
        tuple(format_problem(each) for each in iter_objects(get_object(fields, "errors"), "data")),
        get_count(counts, "total"),
        get_count(counts, "completed"),
        get_count(counts, "failed"),
        parse_usage(fields.get("usage"), "responses"),
        get_count(fields, "created_at"),
        get_object(fields, "metadata"),
    )


def format_problem(error: Mapping[str, Any]) -> str:
    number, code = get_count(error, "line"), get_text(error, "code")
    prefix = f"line {number}: " if number is not None else ""
    return redact(f"{prefix}{get_text(error, 'message') or code or 'no reason given'}")

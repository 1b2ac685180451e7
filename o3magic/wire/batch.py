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
from o3magic.wire.errors import failure
from o3magic.wire.json_access import count, load, objects, section, word
from o3magic.wire.usage import usage_of

BOM = b"\xef\xbb\xbf"
OVER = frozenset({"failed", "completed", "expired", "cancelled"})
# A line that was never run is not charged for.
NOT_RUN = {
    "batch_expired": "the batch expired before this row was run",
    "batch_cancelled": "the batch was cancelled before this row was run",
}


@dataclass(frozen=True, slots=True)
class BatchLine:
    """What came of one request: the body of its answer, or why there is none."""

    id: str
    body: Mapping[str, Any] | None
    failed: RequestFailed | None


@dataclass(frozen=True, slots=True)
class BatchState:
    """How a batch stands. File ids are "" where there is no such file (yet)."""

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
        """Whether nothing more will come."""
        return self.status in OVER


def line(line_id: str, body: Mapping[str, Any], url: str) -> dict[str, Any]:
    """One line of the file to upload, for an endpoint such as /v1/responses.

    The ids of a file must differ, and it may not begin with a byte order mark.
    """
    # A batch has no streams.
    plain = {name: v for name, v in body.items() if name not in ("stream", "stream_options")}
    return {"custom_id": line_id, "method": "POST", "url": url, "body": plain}


def read(raw: bytes) -> BatchLine:
    """One line of an output or error file. Raises BrokenAnswer for one that is no JSON object."""
    said = load(raw.removeprefix(BOM).strip())
    line_id, response = word(said, "custom_id"), section(said, "response")
    code = word(section(said, "error"), "code")
    if code in NOT_RUN:
        return BatchLine(line_id, None, BatchUnfinished(NOT_RUN[code], code=code))
    status = response.get("status_code")
    number = status if type(status) is int else None
    body = section(response, "body")
    if body and number is not None and 200 <= number < 300 and not said.get("error"):
        return BatchLine(line_id, body, None)
    told = said if said.get("error") else body
    if not told:
        told = {"error": {"message": word(response, "body") or "no reason given"}}
    return BatchLine(line_id, None, failure(number, told, word(response, "request_id")))


def state(batch: bytes | Mapping[str, Any]) -> BatchState:
    """How a batch stands, out of its object; most of its fields may be null.

    Raises BrokenAnswer for an object that is no batch.
    """
    said = load(batch)
    counts = section(said, "request_counts")
    if not word(said, "id") or not word(said, "status"):
        raise BrokenAnswer("the provider did not say how the batch stands")
    return BatchState(
        word(said, "id"),
        word(said, "status"),
        word(said, "output_file_id"),
        word(said, "error_file_id"),
        tuple(problem(each) for each in objects(section(said, "errors"), "data")),
        count(counts, "total"),
        count(counts, "completed"),
        count(counts, "failed"),
        usage_of(said.get("usage"), "responses"),
        count(said, "created_at"),
        section(said, "metadata"),
    )


def problem(said: Mapping[str, Any]) -> str:
    """One reason why a batch failed, in words."""
    number, code = count(said, "line"), word(said, "code")
    where = f"line {number}: " if number is not None else ""
    return redact(f"{where}{word(said, 'message') or code or 'no reason given'}")

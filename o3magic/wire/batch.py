"""The files of the Batch API: lines of requests, and lines of answers in any order.

Source: OpenAI's Batch guide (2026-07-15), its API specification (2026-08-21) and Azure's Global
Batch page. A batch is "completed" also where every line failed: then there is only an error file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from o3magic.errors import BadOption, BrokenAnswer, RequestFailed
from o3magic.wire.failures import failure
from o3magic.wire.shape import load, section, word

BOM = b"\xef\xbb\xbf"
OVER = frozenset({"failed", "completed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class Line:
    """What came of one request: the body of its answer, or why there is none."""

    id: str
    body: Mapping[str, Any] | None
    failed: RequestFailed | None


@dataclass(frozen=True, slots=True)
class State:
    """How a batch stands. File ids are "" where there is no such file (yet)."""

    id: str
    status: str
    output_file: str
    error_file: str
    errors: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.status in OVER


def lines(requests: Iterable[tuple[str, Mapping[str, Any]]], url: str) -> bytes:
    """The file to upload: a line for each (id, body), all for one endpoint such as /v1/responses.

    Without a byte order mark, which Azure refuses. Raises BadOption for an id said twice: the
    answers could not be told apart.
    """
    seen: set[str] = set()
    written = []
    for line_id, body in requests:
        if line_id in seen:
            raise BadOption(f"two rows of a batch have the id {line_id!r}", hint="ids are unique")
        seen.add(line_id)
        # A batch has no streams.
        plain = {name: v for name, v in body.items() if name not in ("stream", "stream_options")}
        line = {"custom_id": line_id, "method": "POST", "url": url, "body": plain}
        written.append(to_json(line) + b"\n")
    return b"".join(written)


def results(ids: Sequence[str], *files: bytes | None) -> Iterator[Line]:
    """A line for each id, in the order of `ids`, out of the output and the error file.

    The files hold their lines in any order; an id that is in neither has failed too.
    """
    found: dict[str, Line] = {}
    for file in files:
        for raw in (file or b"").removeprefix(BOM).split(b"\n"):
            if raw.strip():
                line = read(raw)
                found[line.id] = line
    for line_id in ids:
        missing = BrokenAnswer("the batch ended without an answer to this row")
        yield found.get(line_id) or Line(line_id, None, missing)


def read(raw: bytes) -> Line:
    """One line of a file. Raises BrokenAnswer for one that is no JSON object."""
    said = load(raw.strip())
    response = section(said, "response")
    status = response.get("status_code")
    body = section(response, "body")
    if body and isinstance(status, int) and 200 <= status < 300 and not said.get("error"):
        return Line(word(said, "custom_id"), body, None)
    told = said if said.get("error") else body or {"error": {"message": "no answer"}}
    return Line(word(said, "custom_id"), None, failure(status if body else None, told))


def state(batch: bytes | Mapping[str, Any]) -> State:
    """How a batch stands, out of its object; most of its fields may be null."""
    said = load(batch)
    problems = section(said, "errors").get("data")
    return State(
        word(said, "id"),
        word(said, "status"),
        word(said, "output_file_id"),
        word(said, "error_file_id"),
        tuple(word(e, "message") for e in problems or () if isinstance(e, Mapping)),
    )

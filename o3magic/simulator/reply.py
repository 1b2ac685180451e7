"""Scripted answers: what a test wants to hear instead of what the simulator would say.

Reply(text="four")                                  this answer, in the right shape
Reply(status=429, headers={"retry-after": "1"})     an error body in OpenAI's shape
Reply(body=recorded_bytes, piece_bytes=7)           these bytes and no others, in pieces
Reply(text="four", cut_after_bytes=300)             and then the line goes dead
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

NOT_GIVEN = object()
EVENT_STREAM = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Call:
    """A function call the simulated model makes; `arguments` is the JSON text, right or wrong."""

    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One scripted answer; a field left out means what the simulator does by itself.

    A request that gets one is not validated. `cut_after_bytes`, `piece_bytes`, `pause_s` and
    `wait_s` go with every kind of reply, the other fields belong to the kind above them.
    """

    # an answer made in the shape the request asks for
    text: str | None = None
    json: Any = NOT_GIVEN  # the text is this value as JSON
    refusal: str | None = None
    calls: tuple[Call, ...] = ()
    summary: tuple[str, ...] | None = None  # parts of a reasoning summary, asked for or not
    finish: str | None = None  # stop, length, content_filter, failed
    message: bool = True  # False: thinking used everything up, no message comes
    reasoning_tokens: int | None = None
    usage: Mapping[str, Any] | None = None  # sent as it is; an empty one: no usage is sent
    comments: tuple[str, ...] = ()  # SSE comments, one before each of the first events
    keepalives: int = 0  # keepalive events (in chat: comments) after the first event

    # an error: as HTTP status, or as an event of a stream that had begun well
    status: int = 200
    error: Mapping[str, Any] | None = None  # OpenAI's error object, or of a `failed` response
    error_after: int | None = None  # events sent before the error event
    flat: bool = False  # the error event has code and message at its top level

    # bytes as they are; a dict or list is sent as JSON
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    content_type: str | None = None  # None: event stream, or JSON for dict and list; "": no header
    headers: Mapping[str, str] = field(default_factory=dict)

    # how it travels
    wait_s: float = 0.0  # before the first byte, the status line included
    piece_bytes: int | None = None
    pause_s: float | None = None  # between pieces; None: the simulator's delay_s
    cut_after_bytes: int | None = None  # bytes of the body, chunk framing not counted
    clean: bool = False  # True: the cut looks like a proper end of the body
    hang_up: bool = False  # close without a word

    @property
    def raw(self) -> bool:
        """Whether the bytes are given, so that nothing may be added."""
        return self.body is not None

    @property
    def raw_bytes(self) -> bytes:
        """The given body as bytes."""
        if isinstance(self.body, dict | list):
            return json.dumps(self.body).encode()
        return self.body.encode() if isinstance(self.body, str) else self.body or b""

    @property
    def raw_headers(self) -> dict[str, str]:
        """The given headers, with the content type."""
        usual = "application/json" if isinstance(self.body, dict | list) else EVENT_STREAM
        content_type = usual if self.content_type is None else self.content_type
        return ({"content-type": content_type} if content_type else {}) | dict(self.headers)

    @property
    def answer_text(self) -> str | None:
        """The text to answer with, if one is given."""
        if self.json is NOT_GIVEN:
            return self.text
        return json.dumps(self.json, ensure_ascii=False)

    @property
    def error_object(self) -> dict[str, Any]:
        """OpenAI's error object, its four members filled."""
        status = self.status if self.status >= 400 else 500
        usual = {
            "message": f"SIMULATED: {HTTPStatus(status).phrase}.",
            "type": "server_error" if status >= 500 else "invalid_request_error",
            "param": None,
            "code": "server_error" if status >= 500 else None,
        }
        if status == 429:
            usual |= {"type": "requests", "code": "rate_limit_exceeded"}
        return usual | dict(self.error or {})

"""One connection: reads requests and sees their answers out."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from o3magic.simulator import routes, stream
from o3magic.simulator.answer import thinking_delays
from o3magic.simulator.delivery import ClientLeftError, Delivery, paced
from o3magic.simulator.listener import Listener
from o3magic.simulator.rejection import Rejection
from o3magic.simulator.reply import EVENT_STREAM, Reply
from o3magic.simulator.routes import Plain, Spoken
from o3magic.simulator.state import Received

SIMULATED = {"x-o3magic-simulated": "1"}


class Handler(BaseHTTPRequestHandler):
    """Serves one connection until it closes."""

    protocol_version = "HTTP/1.1"
    wbufsize = 0
    disable_nagle_algorithm = True
    server: Listener

    def setup(self) -> None:
        """Begin with a connection; the listener can end it."""
        super().setup()
        self._delivery = Delivery(self.connection)
        self.server.opened(self.connection)

    def finish(self) -> None:
        """End with a connection."""
        self.server.closed(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        """Serve requests; a connection that breaks between them is nobody's business."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer one request."""
        request = self._read()
        self.server.state.receive(request)
        try:
            self._answer(request)
        except ClientLeftError:
            self.close_connection = True
            if not self.server.stopping:
                self.server.state.left()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def _answer(self, request: Received) -> None:
        try:
            outcome = routes.outcome(request, self.server.manner, self.server.state)
        except Rejection as rejection:
            self._plain(Plain(rejection.status, {"error": rejection.error}))
            return
        except Exception as error:
            # Whatever a request makes us stumble over, its sender must hear of it.
            fault = f"SIMULATED: the simulator stumbled over this request: {error!r}"
            broken = Rejection(fault, status=500, kind="server_error")
            self._plain(Plain(500, {"error": broken.error}))
            return
        match outcome:
            case Plain():
                self._plain(outcome)
            case Spoken():
                self._spoken(outcome)
            case Reply():
                self._raw(outcome)

    def _plain(self, plain: Plain) -> None:
        """Send a JSON document."""
        self._delivery.pause(plain.reply.wait_s)
        body = json.dumps(plain.document, ensure_ascii=False).encode("utf-8", "surrogatepass")
        headers = {"content-type": "application/json", **SIMULATED, **plain.reply.headers}
        self._bytes(plain.status, headers, body, plain.reply)

    def _spoken(self, spoken: Spoken) -> None:
        """Send an answer, all at once or as it is made."""
        asked, answer, reply = spoken.asked, spoken.answer, spoken.reply
        delay_s = self.server.manner.delay_s if reply.pause_s is None else reply.pause_s
        delays = thinking_delays(asked.effort)
        if not asked.stream:
            self._delivery.pause((delays + len(answer.pieces)) * delay_s)
            named = replace(reply, headers={"x-request-id": spoken.request_id, **reply.headers})
            self._plain(Plain(200, spoken.document, named))
            return
        self._delivery.pause(reply.wait_s)
        headers = {"content-type": EVENT_STREAM, "x-request-id": spoken.request_id, **SIMULATED}
        frames = stream.frames(asked, answer, reply)
        pieces = paced(frames, reply.piece_bytes, delay_s, delays)
        self._chunked(200, headers | dict(reply.headers), pieces, reply)

    def _raw(self, reply: Reply) -> None:
        """Send given bytes."""
        self._delivery.pause(reply.wait_s)
        if reply.hang_up:
            self._hang_up()
            return
        self._bytes(reply.status, reply.raw_headers, reply.raw_bytes, reply)

    def _bytes(self, status: int, headers: Mapping[str, str], body: bytes, reply: Reply) -> None:
        """Send a body, with its length unless it comes in pieces or not at all."""
        streamed = headers.get("content-type", "").startswith("text/event-stream")
        if not streamed and reply.cut_after_bytes is None and reply.piece_bytes is None:
            self._delivery.whole(status, headers, body)
            return
        pieces = paced([body] if body else [], reply.piece_bytes, reply.pause_s or 0.0, 0)
        self._chunked(status, headers, pieces, reply)

    def _chunked(self, status: int, headers: Mapping[str, str], pieces: Any, reply: Reply) -> None:
        cut = reply.cut_after_bytes
        if not self._delivery.chunked(status, headers, pieces, cut, clean=reply.clean):
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self._delivery.hang_up()

    def _read(self) -> Received:
        """The request, its body whole."""
        parts = urlsplit(self.path)
        raw = self._body()
        try:
            body = json.loads(raw) if raw else None
        except (ValueError, RecursionError):
            body = None
        return Received(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            raw=raw,
        )

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", "").lower():
            length = self.headers.get("content-length", "0")
            return self.rfile.read(int(length)) if length.isdigit() else b""
        parts = []
        while size := int(self.rfile.readline().split(b";")[0].strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(parts)

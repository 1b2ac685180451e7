"""The socket that listens: a thread for each connection, and an end to all of them at once."""

import contextlib
import socket
import socketserver
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from o3magic.simulator.state import State

POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Manner:
    """How a simulator answers: at what pace, to whom, and what is retired."""

    delay_s: float
    key: str | None
    retired: frozenset[str]


class Listener(ThreadingHTTPServer):
    """Accepts connections and knows which are open."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        manner: Manner,
        state: State,
    ) -> None:
        self.manner = manner
        self.state = state
        self.stopping = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def opened(self, connection: socket.socket) -> None:
        """Take note of a connection."""
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._open.discard(connection)

    def run(self) -> None:
        """Accept connections until `end`."""
        self.serve_forever(POLL_S)

    def end(self) -> None:
        """Stop listening and break every open connection."""
        self.stopping = True
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent about connections that broke; anything else is a bug worth a traceback."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

"""Small HTTP servers on loopback that say what a test has them say."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler


class JsonHandler(BaseHTTPRequestHandler):
    """Reads JSON and says JSON, each answer in one write."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def asked(self):
        return json.loads(self.rfile.read(int(self.headers["content-length"])))

    def say(self, status, said, headers=()):
        body = json.dumps(said).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said):
        """Says nothing."""


@contextmanager
def running(server):
    """A server at work in a thread, until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

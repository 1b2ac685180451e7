"""Calls to a server, and a line on which any bytes can be said, be they HTTP or not."""

import contextlib
import socket
import threading

import pytest

from o3magic.client.http import Client
from o3magic.client.request import HttpRequest
from o3magic.messages import Message, Request
from o3magic.providers import Provider

OK = b"HTTP/1.1 200 OK\r\n"


class Line:
    """Listens on loopback; says the next given bytes to each request, then closes if told so.

    Below HTTP, where the simulator cannot go: broken framing, no framing, ports of clients.
    """

    def __init__(self):
        self.ports, self.requests, self.gone = [], [], threading.Event()
        self._said, self._open = [], []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def say(self, *said, close=False):
        """Say these bytes to the next request, one piece after another."""
        self._said.append((said, close))

    def stop(self):
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for each in (self._listener, *self._open):
            each.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, (_, port) = self._listener.accept()
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection, port), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection, port):
        with contextlib.suppress(OSError):
            while request := self._request(connection):
                self.ports.append(port)
                self.requests.append(request)
                said, close = self._said.pop(0)
                for piece in said:
                    connection.sendall(piece)
                if close:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
        self.gone.set()

    def _request(self, connection):
        request = b""
        while b"\r\n\r\n" not in request:
            if not (received := connection.recv(65_536)):
                return b""
            request += received
        head, _, body = request.partition(b"\r\n\r\n")
        length = next(
            (int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if b"content-length:" in h),
            0,
        )
        while len(body) < length:
            body += connection.recv(65_536)
        return head + b"\r\n\r\n" + body


def chunked(*pieces, headers=b"content-type: text/event-stream\r\n", end=True):
    """The bytes of an HTTP answer in these pieces, with or without its end."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    head = OK + headers + b"transfer-encoding: chunked\r\n\r\n"
    return head + framed + (b"0\r\n\r\n" if end else b"")


@pytest.fixture
def line():
    """A line on which any bytes can be said."""
    opened = Line()
    yield opened
    opened.stop()


@pytest.fixture
def client():
    """A client with nothing but loopback to talk to."""
    opened = Client()
    yield opened
    opened.close()


@pytest.fixture
def call():
    """Makes a call to an address."""

    def make(server, api="responses", *, key=None, stream=True, auth="bearer", **more):
        base_url = server if isinstance(server, str) else server.base_url
        provider = Provider("here", base_url=base_url, key_env="HERE_KEY", auth=auth)
        request = Request("o3-mini", (Message.of("user", "four?"),), stream=stream)
        return HttpRequest(provider, api, request, key, **more)

    return make


@pytest.fixture
def ask(client, call, fold):
    """Asks a server and folds what arrives."""
    return lambda *args, **more: fold(client.events(call(*args, **more)))

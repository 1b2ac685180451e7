"""Servers on this machine, each in a process of its own, so that no lock is shared with them."""

import json
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import NamedTuple

from o3magic.simulator import Reply, Simulator


class Stream(NamedTuple):
    """Blocks of bytes, each sent as one HTTP chunk; `per_s` 0 means without waiting."""

    blocks: list[bytes]
    per_s: float = 0.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    streams: Sequence[Stream]
    ended_s: dict[int, float]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        number = int(self.path.split("/")[1])
        stream = self.streams[number]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        began_s = time.monotonic()
        for n, block in enumerate(stream.blocks):
            if stream.per_s:
                time.sleep(max(0.0, began_s + n / stream.per_s - time.monotonic()))
            self.wfile.write(block)
        self.ended_s[number] = time.time()

    def do_GET(self) -> None:
        """When the stream of this address was sent to its end, in seconds of the epoch."""
        said = json.dumps(self.ended_s.get(int(self.path.split("/")[1]))).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the table is all that is printed."""


def serve(streams: Mapping[str, Stream], ready: Connection) -> None:
    """Serve until the process is ended."""
    framed = [
        Stream([*map(http_chunk, stream.blocks), b"0\r\n\r\n"], stream.per_s)
        for stream in streams.values()
    ]
    handler = type("Streams", (Handler,), {"streams": framed, "ended_s": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    ready.send(server.server_port)
    server.serve_forever()


def http_chunk(block: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(block), block)


def simulate(text: str, times: int, ready: Connection) -> None:
    """Let the simulator say a text so many times, each event made as it is sent."""
    with Simulator() as simulator:
        simulator.script(*[Reply(text=text)] * times)
        ready.send(simulator.port)
        threading.Event().wait()


@contextmanager
def process(serving: Callable[..., None], *arguments: object) -> Iterator[int]:
    """The port of a server that runs in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serving, args=(*arguments, theirs), daemon=True)
    server.start()
    try:
        yield ours.recv()
    finally:
        server.terminate()
        server.join()


@contextmanager
def served(streams: Mapping[str, Stream]) -> Iterator[dict[str, str]]:
    """The base URL of each stream while the server runs."""
    with process(serve, streams) as port:
        yield {name: f"http://127.0.0.1:{port}/{n}/v1" for n, name in enumerate(streams)}


@contextmanager
def simulated(text: str, times: int) -> Iterator[str]:
    """The base URL of a simulator that says this text."""
    with process(simulate, text, times) as port:
        yield f"http://127.0.0.1:{port}/v1"

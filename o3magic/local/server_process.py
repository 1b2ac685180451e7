"""The process of llama.cpp's server. The door of xllamacpp; it is run as a file, by `server`.

It reads one line of JSON from its standard input, which says what to serve, and writes one with its
address when the model is loaded. It ends when its standard input does: then whoever started it is
gone, or wants it gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

LOOK_S = 1.0
ERRORS = 1  # llama.cpp's verbosity: errors alone
CACHED_PROMPTS_MIB = 256


def main() -> None:
    """Serve until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    told = os.dup(1)
    os.dup2(2, 1)  # what llama.cpp prints is no answer
    asked = json.loads(first_line())
    end_with_the_input()
    try:
        import xllamacpp

        server = xllamacpp.Server(parameters(xllamacpp.CommonParams(), asked))
    except Exception as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os.write(told, json.dumps({"address": server.listening_address}).encode() + b"\n")
    os.close(told)
    # A fork of the parent may hold the other end of the pipe open when the parent is gone.
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(0)


def first_line() -> bytes:
    """The first line of the standard input, read without a buffer that a thread could lock."""
    line = b""
    while not line.endswith(b"\n") and (data := os.read(0, 1)):
        line += data
    return line


def end_with_the_input() -> None:
    """End this process as soon as its standard input ends, whatever it is at."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    if sys.platform == "linux":
        # No thread of Python runs while llama.cpp loads a model, which may take minutes: so the
        # kernel itself is told to end the process when something happens to its input.
        import fcntl

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def parameters(params: Any, asked: dict[str, Any]) -> Any:
    """llama.cpp's parameters; the port is any that is free."""
    params.model.path = asked["file"]
    params.model_alias = {asked["name"]}
    params.api_keys = [asked["key"]]
    params.port = 0
    params.n_ctx, params.n_parallel = asked["context_tokens"], asked["slots"]
    params.kv_unified = True  # a single answer may use the whole context
    params.cache_ram_mib = CACHED_PROMPTS_MIB
    params.offline, params.ui, params.verbosity = True, False, ERRORS
    if threads := asked.get("threads"):
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    for name, value in asked["sampling"].items():
        setattr(params.sampling, name, value)
    return params


if __name__ == "__main__":
    main()

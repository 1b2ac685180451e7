"""The server's process: who may ask it, what it knows, and that it never outlives its kernel."""

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing

import httpx
import pytest

from o3magic.errors import Interrupted
from o3magic.local.server import PROCESS, ModelServer
from tests.local.conftest import is_running, process_of, wait_until
from tests.notebook.conftest import Kernel

ENDS_WITHIN_S = 3.0
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
posix = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")


@pytest.fixture
def server():
    with closing(ModelServer()) as made:
        yield made


@linux
def test_the_key_is_in_no_list_of_processes_and_nobody_gets_in_without_it(ours):
    ours.ask("hi", max_output_tokens=1)
    server, process = ours.reach.model_server, process_of(ours)
    key = server.key.encode()
    for name in ("cmdline", "environ"):
        with open(f"/proc/{process.pid}/{name}", "rb") as file:
            assert key not in file.read()
    assert server.key not in repr(server)
    with pytest.raises(TypeError):
        pickle.dumps(server)
    address = server._running.address
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", address)
    said = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    for headers in ({}, {"authorization": "Bearer wrong"}):
        url = f"{address}/chat/completions"
        answer = httpx.post(url, json=said, headers=headers, trust_env=False)
        assert answer.status_code == 401
    assert ours.ask("hi", max_output_tokens=1).text


def test_servers_at_the_same_time_have_ports_and_keys_of_their_own(tiny):
    """As of two kernels: each has a server, and the port of none is taken."""
    with ExitStack() as opened:
        servers = [opened.enter_context(closing(ModelServer())) for _ in range(3)]
        found = []

        def start(server):
            with server.lease(str(tiny)) as address:
                found.append(address)

        threads = [threading.Thread(target=start, args=(each,)) for each in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 3
        assert len({each.key for each in servers}) == 3


def test_those_who_ask_at_once_share_one_server_that_outlives_their_threads(server, tiny):
    addresses = []

    def use():
        with server.lease(str(tiny)) as address:
            addresses.append(address)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.2)
    assert len(set(addresses)) == 1
    assert server.has(str(tiny))


def test_it_ends_with_its_session_and_is_started_again(make):
    session = make()
    session.ask("hi", max_output_tokens=1)
    process = process_of(session)
    session.close()
    assert process.poll() is not None
    assert session.ask("hi", max_output_tokens=1).usage.output_tokens == 1


@linux
def test_loading_can_be_stopped(server, tmp_path):
    """A pipe that nobody writes into is a file that takes for ever to read."""
    endless = tmp_path / "endless.gguf"
    os.mkfifo(endless)
    began_s = time.monotonic()
    with (
        pytest.raises(Interrupted),
        server.lease(str(endless), lambda: time.monotonic() - began_s > 0.7),
    ):
        pass
    assert not children()
    assert not server.has(str(endless))


def children():
    """The servers that this process has started and that still run."""
    said = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True)
    return [line for line in said.stdout.decode().splitlines() if "endless" in line]


STARTER = """
import os, sys, time
from o3magic.local.server import ModelServer, asked, started
{code}
print(process.pid, flush=True)
time.sleep(600)
"""
LOADED = """
server = ModelServer()
with server.lease(sys.argv[1]):
    process = server._running._process
"""
LOADING = """
import json, pathlib, tempfile
process = started(tempfile.TemporaryFile())
process.stdin.write(json.dumps(asked(pathlib.Path(sys.argv[1]), "x", "key")).encode() + b"\\n")
process.stdin.flush()
time.sleep(1.5)  # it reads the file by now
"""
FORKED = f"""{LOADED}
if not os.fork():
    os.setsid()
    time.sleep(20)  # holds the other end of the server's input
    os._exit(0)
"""


@linux
@pytest.mark.parametrize("code", [LOADED, LOADING, FORKED], ids=["loaded", "loading", "forked"])
def test_a_process_that_is_killed_leaves_no_server_behind(code, tiny, tmp_path):
    model = tiny
    if code is LOADING:
        model = tmp_path / "endless.gguf"
        os.mkfifo(model)
    script = [sys.executable, "-c", STARTER.format(code=code), str(model)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as starter:
        pid = int(starter.stdout.readline())
        assert is_running(pid)
        starter.kill()
        starter.wait()
        assert wait_until(lambda: not is_running(pid), ENDS_WITHIN_S)
        starter.stdout.close()


@posix
def test_an_interrupt_of_the_terminal_does_not_reach_it(ours):
    ours.ask("hi", max_output_tokens=1)
    process = process_of(ours)
    assert os.getpgid(process.pid) != os.getpgid(0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None


def test_the_process_is_a_file_of_its_own():
    """It is run as a file: of the package it loads nothing."""
    assert "o3magic" not in re.sub(r'""".*?"""', "", PROCESS.read_text(), flags=re.S)


PID = "get_ipython().magics_manager.registry['O3Magics'].actions.session.reach.model_server"


@linux
def test_a_kernel_that_is_killed_leaves_no_server_behind(local_models, tmp_path):
    from jupyter_client.manager import start_new_kernel

    environment = {
        "O3MAGIC_MODELS": str(local_models),
        "O3MAGIC_LEDGER": ":memory:",
        "O3MAGIC_CONFIG": os.devnull,
        "IPYTHONDIR": str(tmp_path),
    }
    manager, client = start_new_kernel(
        kernel_name="python3", env=os.environ | environment, cwd=str(tmp_path)
    )
    try:
        kernel = Kernel(manager, client)
        assert kernel.run("%load_ext o3magic").status == "ok"
        ran = kernel.run("%%o3 -p local --max-output-tokens 5\nTell me a story.")
        assert ran.status == "ok", ran.error
        sent = [message["content"]["data"].get("text/plain", "") for message in ran.messages]
        assert any("smollm2-135m is loading" in text for text in sent)
        (shown,) = ran.texts("text/plain")
        assert "is loading" not in shown
        assert "LOCAL · smollm2-135m · " in ran.texts("text/markdown")[0]
        pid = kernel.value(f"{PID}._running._process.pid")
        assert is_running(pid)
        os.kill(kernel.value("__import__('os').getpid()"), signal.SIGKILL)
        assert wait_until(lambda: not is_running(pid), ENDS_WITHIN_S)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)

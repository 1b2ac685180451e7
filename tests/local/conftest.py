"""A real model on this machine, and sessions that ask it."""

import os
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from o3magic.config import Config
from o3magic.session.session import Session
from tests.real_servers.tiny_gguf import write


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A model file of the user's own: random weights, half a megabyte, and it calls tools."""
    path = tmp_path_factory.mktemp("own") / "tiny.gguf"
    write(path)
    return path


@pytest.fixture(scope="session")
def make(local_models):
    """Makes sessions that ask the model: settings, and names of the environment."""
    with ExitStack() as opened:

        def made(settings=None, **environment):
            said = {"provider": "local", **(settings or {})}
            usual = {"O3MAGIC_LEDGER": ":memory:", "O3MAGIC_MODELS": str(local_models)}
            session = Session(Config({"%o3_config": said}), usual | environment)
            opened.callback(session.close)
            return session

        yield made


@pytest.fixture(scope="module")
def ours(make):
    """The session most tests of a module ask."""
    session = make()
    yield session
    session.close()


def process_of(session):
    """The process of a session's server."""
    return session.reach.model_server._running._process


def get(session, path):
    """What the session's server says at a path, with its key."""
    server = session.reach.model_server
    address = server._running.address.removesuffix("/v1")
    headers = {"authorization": f"Bearer {server.key}"}
    return httpx.get(f"{address}{path}", headers=headers, trust_env=False)


def is_running(pid):
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return not Path("/proc/self").exists()
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until(true, within_s):
    """Whether something becomes true in time."""
    until_s = time.monotonic() + within_s
    while not true():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.02)
    return True

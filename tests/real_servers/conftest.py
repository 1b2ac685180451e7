"""Servers for a module's tests, and a session of ours to ask them."""

from contextlib import ExitStack, closing

import pytest

from o3magic.client.http import Client
from o3magic.config import Config
from o3magic.session.session import Session
from tests.real_servers.running import Server


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts servers that end with the module."""
    with ExitStack() as running:

        def run(*command, ready, environment=()):
            log = tmp_path_factory.mktemp("server") / "log"
            server = Server(command, ready, log, environment)
            running.callback(server.end)
            return server

        yield run


@pytest.fixture
def session(tmp_path):
    """Makes a session: the settings of its profile, providers of its own, keys by their name."""
    with ExitStack() as opened:

        def make(settings, providers=(), keys=()):
            layers = Config({"%o3_config": dict(settings)}, providers=dict(providers))
            environment = {"O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3"), **dict(keys)}
            return opened.enter_context(closing(Session(layers, environment)))

        yield make


@pytest.fixture
def client():
    """A client, for what no session can ask."""
    with closing(Client()) as opened:
        yield opened

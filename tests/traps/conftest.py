"""A session that asks the simulator, and a line below HTTP."""

from dataclasses import replace

import pytest

from tests.client.conftest import Line
from tests.sessions import session_at


@pytest.fixture
def session(sim):
    """A session with a key for the simulator, its books in memory."""
    with session_at(sim.base_url) as made:
        yield made


@pytest.fixture
def say(sim, session):
    """Scripts one reply and asks for it."""

    def ask(reply, api="responses", **options):
        sim.script(reply)
        return session.ask("four?", api=api, **{"retries": 0, **options})

    return ask


@pytest.fixture
def client_for(session):
    """Sends a call again by another API and with other fields of its request."""

    def made(call):
        def ask(api, **fields):
            changed = replace(call, api=api, request=replace(call.request, **fields))
            return list(session.client.events(changed))

        return ask

    return made


@pytest.fixture
def line():
    """A line on which any bytes can be said."""
    opened = Line()
    yield opened
    opened.stop()

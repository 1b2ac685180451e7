"""A session that asks the simulator."""

import pytest

from tests.client.conftest import Line
from tests.sessions import session_at


@pytest.fixture
def session(sim):
    """A session with a key for the simulator, its books in memory."""
    with session_at(sim.base_url) as made:
        yield made


@pytest.fixture
def line():
    """A line on which any bytes can be said."""
    opened = Line()
    yield opened
    opened.stop()

"""A server for all tests of jobs, and what maps rows at it."""

import pytest

from o3magic.jobs.mapping import Wish, map_rows
from o3magic.jobs.store import JobStore
from tests.jobs.loopback import served
from tests.sessions import session_at


@pytest.fixture(scope="session")
def one_server():
    """The process, started once."""
    with served() as server:
        yield server


@pytest.fixture
def server(one_server):
    """A server that answers at once, and has seen nothing yet."""
    return one_server.begin()


@pytest.fixture
def session(server):
    """A session that asks it, its books in memory."""
    with session_at(server.base_url) as made:
        yield made


@pytest.fixture
def store():
    """Jobs in memory."""
    made = JobStore(":memory:")
    yield made
    made.close()


@pytest.fixture
def mapped(session, store):
    """Maps rows; options of `Wish` and of a profile may be mixed."""

    def run(rows, prompt="{{ a }}", *, schema=None, show=None, names=None, **options):
        wish = {n: options.pop(n) for n in Wish.__dataclass_fields__ if n in options}
        return map_rows(
            session,
            store,
            rows,
            prompt,
            schema=schema,
            show=show,
            names=names,
            wish=Wish(**wish),
            **options,
        )

    return run


def texts(count, start=0):
    """So many different rows."""
    return [{"a": f"row {n}"} for n in range(start, start + count)]

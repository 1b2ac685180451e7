"""A server for all tests of jobs, and what maps rows at it."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from o3magic.rows.batch.context import BatchContext
from o3magic.rows.batch.submit import submit
from o3magic.rows.map_job import MapOptions, map_rows
from o3magic.rows.store import JobStore
from tests.notebook.conftest import Kernel
from tests.rows.loopback import served
from tests.sessions import KEY, session_at

CITIES = [{"city": name} for name in ("Oslo", "Rome", "Paris", "Oslo", "Bern")]


class Shown:
    """What was shown, in words and whole."""

    def __init__(self):
        self.all = []

    @property
    def said(self):
        return [each.words() for each in self.all]

    def update(self, progress):
        self.all.append(progress)


@dataclass
class Place:
    """A session, a file of jobs, what was shown, how long was waited."""

    session: object
    room: BatchContext
    pauses: list
    shown: Shown

    def batch(self, rows=CITIES, prompt="Where is {{ city }}?", **more):
        """What `o3.batch` gives."""
        return submit(self.room, rows, prompt, **more)


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
    """A session with the server as its provider, its ledger in memory."""
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
        wish = {n: options.pop(n) for n in MapOptions.__dataclass_fields__ if n in options}
        return map_rows(
            session,
            store,
            rows,
            prompt,
            schema=schema,
            show=show,
            names=names,
            wish=MapOptions(**wish),
            **options,
        )

    return run


def texts(count, start=0):
    """So many different rows."""
    return [{"a": f"row {n}"} for n in range(start, start + count)]


@pytest.fixture
def at(tmp_path):
    """Makes a place at a server."""
    opened = []

    def make(base_url, sleep=None, notebook="", jobs="jobs.sqlite3", **more):
        pauses, shown = [], Shown()
        store = JobStore(tmp_path / jobs)
        context = session_at(base_url, **more)
        session = context.__enter__()
        session.notebook = str(notebook)
        opened.append((context, store))
        room = BatchContext(session, store, sleep=sleep or pauses.append, show=lambda: shown)
        return Place(session, room, pauses, shown)

    yield make
    for context, store in opened:
        context.__exit__(None, None, None)
        store.close()


@pytest.fixture
def place(at, sim):
    return at(sim.base_url)


@pytest.fixture
def kernel_at(tmp_path):
    """Makes real kernels that ask a server, with the folder of this test as theirs."""
    started = []

    def make(base_url, **more):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
        root = str(Path(__file__).parents[2])
        said = {
            "O3MAGIC_LEDGER": str(tmp_path / "ledger.sqlite3"),
            "O3MAGIC_CONFIG": str(tmp_path / "none.toml"),
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": base_url,
            "O3MAGIC_MODEL": "o3-mini",
            "PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH", "")])),
            "IPYTHONDIR": str(tmp_path / "ipython"),
        }
        env = kept | said | more
        started.append(start_new_kernel(kernel_name="python3", env=env, cwd=str(tmp_path)))
        return Kernel(*started[-1])

    yield make
    for manager, client in started:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)

"""A cluster of two worker processes for all tests here, and a caller who keeps the books."""

import gc
import os
import signal
import time
from collections import Counter
from contextlib import closing, contextmanager

import pytest
from distributed import Client, LocalCluster

from o3magic.cluster.caller import CallerService
from o3magic.cluster.map_on_cluster import map_on
from o3magic.cost.ledger import Ledger
from o3magic.rows.progress import NoProgress
from o3magic.rows.store import JobStore
from tests.rows.loopback import served
from tests.sessions import KEY, session_at

WORKERS_KEY = "sk-workers-0123456789abcdefOTHER"


@pytest.fixture(scope="package")
def one_server():
    """The process, started once."""
    with served() as server:
        yield server


@pytest.fixture
def server(one_server):
    """A server that answers at once, and has seen nothing yet."""
    return one_server.begin()


@pytest.fixture(scope="package")
def one_client():
    """The cluster, started once. Its workers have a key of their own."""
    before = os.environ.get("OPENAI_API_KEY")
    os.environ["OPENAI_API_KEY"] = WORKERS_KEY
    try:
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
    finally:
        if before is None:
            del os.environ["OPENAI_API_KEY"]
        else:
            os.environ["OPENAI_API_KEY"] = before


@pytest.fixture
def client(one_client):
    """Its client, once both workers are there: another test may have killed one."""
    one_client.wait_for_workers(2, timeout=30)
    return one_client


class Caller:
    """Who maps rows on the cluster, and what its books say."""

    def __init__(self, client, base_url, folder):
        self.client, self.base_url, self.folder = client, base_url, folder
        self.notebook, self.key = "", KEY

    def map(self, rows, prompt="{{ a }}", *, show=None, client=None, **options):
        """What `o3.map` gives."""
        ledger = str(self.folder / "ledger.sqlite3")
        said = {"O3MAGIC_LEDGER": ledger, "OPENAI_API_KEY": self.key}
        session = session_at(self.base_url, **said).thing
        session.notebook = self.notebook

        @contextmanager
        def opened():
            with closing(session):
                yield

        client = client or self.client
        return map_on(client, session, rows, prompt, options, show or NoProgress(), opened)

    @property
    def job(self):
        """The job that was last changed, as it stands."""
        with closing(JobStore(self.folder / "jobs.sqlite3")) as store:
            return store.jobs()[0]

    @property
    def live(self):
        """The sums of all live calls in the ledger."""
        with closing(Ledger(self.folder / "ledger.sqlite3")) as ledger:
            return ledger.totals(by=())[0].live


@pytest.fixture
def caller(client, server, tmp_path):
    """One whose rows are answered by the server on loopback."""
    return Caller(client, server.base_url, tmp_path)


def wait_for(condition, timeout_s=30):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, "it took too long"
        time.sleep(0.01)


def held():
    """The workers of all rows that the books in this process say are under way."""
    books = [each for each in gc.get_objects() if type(each) is CallerService]
    return Counter(row.worker for each in books for row in [*each._held.values()])


def kill_a_worker(client):
    """kill -9 to the worker that has most calls on their way.

    It is stopped before: what it has said by then is heard, and what is on its way stays there.
    """
    processes = client.run(os.getpid)

    def killed():
        busiest = max(processes, key=held().__getitem__)

        def has_some():
            time.sleep(0.2)
            return held()[busiest] > 1

        return killed_if(processes[busiest], has_some)

    wait_for(killed)


def killed_if(pid, has_some):
    """kill -9 to a process that was stopped, if something is under way there by then."""
    os.kill(pid, signal.SIGSTOP)
    found = has_some()
    os.kill(pid, signal.SIGKILL if found else signal.SIGCONT)
    return found

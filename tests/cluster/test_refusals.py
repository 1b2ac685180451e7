"""Clusters that cannot be used, and what is said of them; keys, which never travel."""

import asyncio
import os
import sys

import dask.dataframe as dd
import distributed
import pandas
import pytest
from distributed import Client

import o3magic as o3
from o3magic.cluster import plugin
from o3magic.errors import BadOption, NoKey, O3Error
from tests.cluster.conftest import WORKERS_KEY, Caller
from tests.cluster.test_rows import Label
from tests.rows.conftest import texts
from tests.sessions import KEY


def test_dask_is_an_extra_and_its_name_is_said(caller, server, monkeypatch):
    monkeypatch.delitem(sys.modules, "o3magic.cluster.plugin")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadOption, match="client= needs Dask") as caught:
        caller.map(texts(2))
    assert "pip install 'o3magic[dask]'" in caught.value.hint


def test_what_is_no_client_is_refused(caller, server, client):
    with pytest.raises(BadOption, match="client= is a str, not a dask"):
        caller.map(texts(2), client="tcp://127.0.0.1:8786")
    closed = Client(client.scheduler.address)
    closed.close()
    with pytest.raises(BadOption, match="client= is closed"):
        caller.map(texts(2), client=closed)

    async def asynchronous():
        async with Client(client.scheduler.address, asynchronous=True) as own:
            caller.map(texts(2), client=own)

    with pytest.raises(BadOption, match="asynchronous client"):
        asyncio.run(asynchronous())
    assert server.stats["requests"] == 0


def test_rows_of_dask_need_a_client(server):
    frame = dd.from_pandas(pandas.DataFrame(texts(2)), npartitions=1)
    with pytest.raises(BadOption, match="workers of a cluster") as caught:
        o3.map(frame, "{{ a }}")
    assert "client=" in caught.value.hint


def set_version(version):
    sys.modules["o3magic.version"].__version__ = version


@pytest.mark.parametrize(("there", "said"), [("0.0.1", "o3magic 0.0.1"), (None, "no o3magic")])
def test_workers_without_this_o3magic_are_refused(caller, server, client, there, said):
    worker = sorted(client.run(os.getpid))[0]
    client.run(set_version, there, workers=[worker])
    try:
        with pytest.raises(BadOption, match=f"the worker {worker} has {said}") as caught:
            caller.map(texts(2))
        assert f"o3magic=={o3.__version__}" in caught.value.hint
    finally:
        client.run(set_version, o3.__version__, workers=[worker])
    assert caller.map(texts(2)).error.isna().all()


def test_a_schema_that_cannot_be_sent_is_refused(caller, server):
    from pydantic import BaseModel

    lock = __import__("threading").Lock()

    class Bound(BaseModel):
        label: str

        def model_post_init(self, context):
            assert lock

    with pytest.raises(BadOption, match="cannot be sent to them") as caught:
        caller.map(texts(2), schema=Bound)
    assert "top level" in caught.value.hint


def set_key(key):
    if key is None:
        os.environ.pop("OPENAI_API_KEY", None)
    else:
        os.environ["OPENAI_API_KEY"] = key


def test_a_worker_without_a_key_says_what_is_to_be_done(caller, client, server):
    client.run(set_key, None)
    try:
        with pytest.raises(NoKey, match="OPENAI_API_KEY is not set on the worker") as caught:
            caller.map(texts(20), schema=Label)
        assert "keys are never sent" in caught.value.hint
        assert list(caught.value.answer.error.str[:9]) == ["not asked"] * 20
        lazy = caller.map(dd.from_pandas(pandas.DataFrame(texts(4)), npartitions=2), name="lazy")
        with pytest.raises(NoKey, match="OPENAI_API_KEY is not set on the worker"):
            lazy.compute()
    finally:
        client.run(set_key, WORKERS_KEY)
    assert server.stats["requests"] == 0
    assert caller.map(texts(20), schema=Label).error.isna().all()


def test_no_key_is_in_any_message(caller, client, server, monkeypatch):
    """The scheduler lives in this process: all that it and the client say or hear is seen here."""
    seen = []
    comm = distributed.comm.tcp.TCP
    write, read = comm.write, comm.read

    async def written(self, message, *args, **more):
        seen.append(plugin.pickle.dumps(message))
        return await write(self, message, *args, **more)

    async def heard(self, *args, **more):
        message = await read(self, *args, **more)
        seen.append(plugin.pickle.dumps(message))
        return message

    monkeypatch.setattr(comm, "write", written)
    monkeypatch.setattr(comm, "read", heard)
    rows = [{"a": f"a prompt that no answer repeats {n}"} for n in range(30)]
    caller.map(rows, schema=Label)
    caller.map(dd.from_pandas(pandas.DataFrame(rows), npartitions=3), name="lazy").compute()
    said = b"".join(seen)
    assert b"a prompt that no answer repeats 7" in said  # what travels is seen
    assert b"resp_1" in said
    assert KEY.encode() not in said
    assert WORKERS_KEY.encode() not in said
    assert server.stats["requests"] == 60


def test_each_worker_asks_with_its_own_key_and_the_caller_needs_none(caller, server):
    caller.key = ""
    assert caller.map(texts(8)).error.isna().all()
    rows = dd.from_pandas(pandas.DataFrame(texts(8)), npartitions=2)
    assert len(caller.map(rows, "{{ a }}!").compute()) == 8
    assert server.stats["requests"] == 16
    assert {f"Bearer {WORKERS_KEY}"} == set(server.stats["keys"])


def test_rows_whose_caller_is_gone_are_not_asked(caller, client, server):
    with Client(client.scheduler.address, set_as_default=False) as own:
        lazy = caller.map(dd.from_pandas(pandas.DataFrame(texts(4)), npartitions=1), client=own)
    with pytest.raises(O3Error, match="whoever keeps the books") as caught:
        client.compute(lazy).result()
    assert "call o3.map again" in caught.value.hint
    assert server.stats["requests"] == 0


def test_a_replay_needs_no_cluster(caller, server, tmp_path):
    caller.notebook = str(tmp_path / "rows.ipynb")
    first = caller.map(texts(12), schema=Label, mode="record", concurrency=4)
    assert server.stats["requests"] == 12
    nobody = Caller(None, "http://127.0.0.1:9/v1", tmp_path / "other")
    nobody.notebook = caller.notebook
    again = nobody.map(texts(12), schema=Label, mode="replay", client=object())
    assert again.equals(first)


def test_the_face_takes_a_client(client, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("O3MAGIC_LEDGER", str(tmp_path / "ledger.sqlite3"))
    out = o3.map(texts(8), "{{ a }}", schema=Label, client=client)
    assert list(out.label) == [f"row {n}" for n in range(8)]
    assert "8 of 8 rows" in capsys.readouterr().err
    lazy = o3.map(
        dd.from_pandas(pandas.DataFrame(texts(8)), npartitions=2), "{{ a }}", client=client
    )
    assert len(lazy.compute()) == 8
    job = Caller(client, "", tmp_path).job
    assert (job.done_rows, job.state) == (8, "done")

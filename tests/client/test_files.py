"""Files and batches at the provider: sent and fetched in pieces, tried again where that is safe."""

import json
import subprocess
import sys

import pytest
from pydantic import SecretStr

from o3magic.client.files import Files
from o3magic.errors import BrokenAnswer, NoConnection, RequestFailed, RequestRefused, WrongKey
from o3magic.providers import Provider
from o3magic.simulator import BatchScript, Reply, Simulator
from tests.sessions import KEY

BODY = {"model": "o3-mini", "input": "four?"}
LINE = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": BODY}
NO_CONTENT = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture
def files(client, sim):
    return Files(client, Provider("here", base_url=sim.base_url), None, sleep=lambda _: None)


@pytest.fixture
def odd_files(client, line):
    """The same at a line on which any bytes can be said."""
    return Files(client, Provider("here", base_url=line.base_url), None, sleep=lambda _: None)


@pytest.fixture
def path(tmp_path):
    written = tmp_path / "in.jsonl"
    written.write_bytes(json.dumps(LINE).encode() + b"\n")
    return written


def answer(body):
    said = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)


@pytest.mark.parametrize("content", [b"{}\n", b"\r\n--x\r\n\x00\xff" * 100_000, b"\r\n"])
def test_what_is_uploaded_comes_back_byte_for_byte(files, sim, tmp_path, content):
    (tmp_path / "in").write_bytes(content)
    file_id = files.upload(tmp_path / "in")
    assert sim.content(file_id) == content
    assert sim.files[0]["purpose"] == "batch"
    assert sim.requests[-1].headers["content-length"] == str(len(sim.requests[-1].raw))
    simulated = files.download(file_id, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content
    assert simulated


def test_a_file_can_be_deleted(files, sim, path):
    files.delete(files.upload(path))
    assert sim.files == []
    with pytest.raises(RequestRefused, match="No such File"):
        files.delete("file-gone")


def test_a_batch_goes_from_state_to_state(files, path):
    made = files.create(files.upload(path), "/v1/responses", {"o3magic_job": "7", "part": "0"})
    assert made.metadata == {"o3magic_job": "7", "part": "0"}
    seen = [made.status, *(files.batch(made.id).status for _ in range(4))]
    assert seen == ["validating", "in_progress", "finalizing", "completed", "completed"]
    over = files.batch(made.id)
    assert (over.total, over.completed, over.failed) == (1, 1, 0)
    assert over.usage.output_tokens > 0


def test_a_batch_is_cancelled(files, path):
    made = files.create(files.upload(path), "/v1/responses", {})
    assert files.cancel(made.id).status == "cancelling"
    assert files.batch(made.id).status == "cancelled"


def test_all_batches_are_listed_the_newest_first_over_several_pages(files, path):
    file_id = files.upload(path)
    made = [files.create(file_id, "/v1/responses", {}).id for _ in range(205)]
    assert [each.id for each in files.batches()] == made[::-1]


def test_the_key_is_sent_as_the_provider_wants_it_and_is_in_no_error(client, path):
    with Simulator(key="another") as sim:
        azure = f"{sim.base_url.removesuffix('/v1')}/openai/v1"
        for base_url, auth, header in (
            (sim.base_url, "bearer", "authorization"),
            (azure, "api-key", "api-key"),
        ):
            provider = Provider("here", base_url=base_url, key_env="KEY", auth=auth)
            files = Files(client, provider, SecretStr(KEY))
            with pytest.raises(WrongKey) as caught:
                files.upload(path)
            assert sim.requests[-1].headers[header].endswith(KEY)
            assert KEY not in "".join(caught.value.lines())
            assert KEY not in repr(files)


def test_what_may_be_done_twice_is_tried_again(odd_files, line, path, tmp_path):
    line.say(NO_CONTENT, close=True)
    line.say(answer({"id": "file-1"}), close=True)
    assert odd_files.upload(path) == "file-1"
    assert json.dumps(LINE).encode() in line.requests[1]
    line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbro", close=True)
    line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole", close=True)
    assert odd_files.download("file-1", tmp_path / "out") is False
    assert (tmp_path / "out").read_bytes() == b"whole"


@pytest.mark.parametrize("status", [b"500 Oops", b"408 Late", b"429 Full"])
def test_a_batch_is_never_made_twice(odd_files, line, status):
    line.say(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
    with pytest.raises(RequestFailed):
        odd_files.create("file-1", "/v1/responses", {})
    assert len(line.requests) == 1


def test_a_batch_whose_answer_is_lost_may_be_there(files, sim, path):
    sim.script_batches(BatchScript(hang_up=True))
    with pytest.raises(NoConnection) as caught:
        files.create(files.upload(path), "/v1/responses", {"part": "0"})
    assert caught.value.billed is None
    assert [each.metadata for each in files.batches()] == [{"part": "0"}]


def test_where_nobody_listens_no_batch_was_made(client, path):
    files = Files(client, Provider("here", base_url="http://127.0.0.1:9/v1"), None, retries=0)
    with pytest.raises(NoConnection) as caught:
        files.create("file-1", "/v1/responses", {})
    assert caught.value.billed is False


@pytest.mark.parametrize("said", [{}, {"id": "batch_1"}, {"status": "completed"}, {"id": 7}])
def test_an_answer_that_is_no_batch_is_told(odd_files, line, said):
    line.say(answer(said))
    with pytest.raises(BrokenAnswer, match="without an id or status"):
        odd_files.batch("batch_1")


def test_trouble_while_looking_is_waited_out(files, sim, path):
    trouble = (Reply(status=500, body={}), Reply(status=429, body={}))
    sim.script_batches(BatchScript(trouble=trouble))
    made = files.create(files.upload(path), "/v1/responses", {})
    assert files.batch(made.id).status == "in_progress"


MEMORY = """
import resource, sys, json
from pathlib import Path
from o3magic.client.files import Files
from o3magic.client.http import Client
from o3magic.providers import Provider
files = Files(Client(), Provider("here", base_url=sys.argv[1]), None)
size = int(sys.argv[2])
path = Path(sys.argv[3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with path.open("wb") as file:
    for _ in range(size // 1_048_576):
        file.write(b"x" * 1_048_575 + b"\\n")
files.download(files.upload(path), path.with_name("out"))
assert path.with_name("out").stat().st_size == size
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_a_large_file_is_never_whole_in_memory(sim, tmp_path):
    size = 64 * 1_048_576
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, sim.base_url, str(size), str(tmp_path / "in")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < size / 4

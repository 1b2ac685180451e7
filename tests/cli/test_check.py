"""`o3magic check`: notebooks run again in real kernels that are closed to the network."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat.v4 import new_output

from o3magic.cli import network_guard, output_diff
from o3magic.cli.check import environment
from o3magic.cli.output_diff import MOST_SHOWN, WIDEST, as_left, difference, same, settle
from o3magic.render import answer
from tests.cli.conftest import outputs, printed, result, text_of
from tests.cli.test_run import OLD

LINK = {"o3magic": {"key": "16269065f02e48c4", "n": 1}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
VARIED = (
    "%load_ext o3magic",
    "object(), lambda: 1",
    "import sys, warnings\nwarnings.warn('careful')\nprint('to stdout')",
    "for i in range(3): print(f'\\r{i}/2', end='', file=sys.stderr, flush=True)",
    "import ipywidgets\nipywidgets.IntSlider()",
    f"from IPython.display import Image\nfrom base64 import b64decode\nImage(b64decode({PNG!r}))",
    "sorted({'a', 'b', 'c'}), hash('a'), __import__('time').tzname",
    ("1 / 0", ["raises-exception"]),
    ("import time\ntime.time()", ["o3-ignore-output"]),
    ("raise SystemError('this is not run')", ["o3-skip"]),
    "print('é\\x1b[31mred\\x1b[0m')",
    "import os; sorted(k for k in os.environ if 'KEY' in k), os.environ['O3MAGIC_MODE']",
)


def test_a_notebook_gives_the_same_again_whatever_says_nothing(o3magic, book, monkeypatch):
    path = book("a.ipynb", *VARIED[:9], "print(1)", *VARIED[10:])
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setenv("TZ", "UTC")
    code, _, told = o3magic("run", path, "--mode", "replay")
    assert code == 0, told
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[9].source, notebook.cells[9].metadata.tags = VARIED[9][0], ["o3-skip"]
    for cell in notebook.cells:  # as if it had been run in another order
        cell.execution_count = 77
    nbformat.write(notebook, path)
    before = path.read_bytes()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    code, out, _ = o3magic("check", path, "--junit", "j.xml")
    assert code == 0, out
    assert out.startswith(f"{path}: 1 skipped, 1 ignored (12 cells, ")
    assert path.read_bytes() == before
    cases = ElementTree.parse("j.xml").findall("testsuite/testcase")
    assert [case.get("name") for case in cases][:2] == ["cell 1 (c1)", "cell 2 (c2)"]
    assert [i for i, case in enumerate(cases, 1) if len(case)] == [10]


def test_what_differs_is_told_cell_by_cell_and_can_be_updated(o3magic, book):
    path = book(
        "a.ipynb",
        ("print('one')\nprint('two')", [], printed("one\n2\n")),
        ("6 * 7", [], result("41")),
        ("print('same')", [], printed("same\n")),
    )
    wrong = path.read_bytes()
    code, out, _ = o3magic("check", path, "--json", "r.json", "--junit", "j.xml")
    assert code == 1
    assert out.splitlines()[1:] == [
        "  cell 1 (c1) different: print('one')",
        "      [stdout]",
        "      one",
        "    - 2",
        "    + two",
        "  cell 2 (c2) different: 6 * 7",
        "      [result text/plain]",
        "    - 41",
        "    + 42",
    ]
    assert path.read_bytes() == wrong
    report = json.loads(Path("r.json").read_text("utf-8"))
    assert report["code"] == 1
    cells = report["notebooks"][0]["cells"]
    assert [(cell["id"], cell["result"]) for cell in cells] == [
        *(("c1", "different"), ("c2", "different"), ("c3", "same"))
    ]
    suite = ElementTree.parse("j.xml").find("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    assert "+ two" in suite.find("testcase/failure").text
    code, out, _ = o3magic("check", path, "--update")
    assert (code, "updated" in out) == (0, True)
    assert [text_of(found) for found in outputs(path)] == ["one\ntwo\n", "42", "same\n"]


def test_a_failed_cell_is_told_and_nothing_is_updated(o3magic, book):
    path = book("a.ipynb", "print(1)", "a = 1\nnone.such", "print('goes on')")
    other = book("b.ipynb", ("print(1)", [], printed("1\n")))
    before = path.read_bytes()
    code, out, _ = o3magic("check", path, other, "missing.ipynb", "--update", "--junit", "j.xml")
    assert code == 3
    assert "cell 2 (c2) failed: a = 1\n    line 2: NameError: name 'none' is not" in out
    assert "cell 3 (c3) different" in out
    assert "not updated: for that all its cells have to run" in out
    assert f"{other}: same (1 cell, " in out
    assert "there is no file missing.ipynb" in out
    assert path.read_bytes() == before
    suites = ElementTree.parse("j.xml").findall("testsuite")
    assert [suite.get("errors") for suite in suites] == ["1", "0", "1"]


def test_a_cell_that_hangs_or_kills_the_kernel_fails_the_check(o3magic, book):
    path = book("a.ipynb", "while True: pass", "import os; os._exit(1)", "3")
    code, out, _ = o3magic("check", path, "--timeout", "0.5")
    assert code == 2
    assert "it did not end within 0.5 s and was stopped" in out
    assert "the kernel died in this cell" in out
    assert ": 2 failed, 1 not run (3 cells, " in out


TRIED = """
import time
def tried(work):
    began = time.monotonic()
    try:
        work()
    except Exception as error:
        print(type(error).__name__, error)
    print("quick" if time.monotonic() - began < 1 else "slow")
"""
ASKED = (
    "httpx.get('http://93.184.216.34/')",
    "httpx.get('https://example.com/')",
    "socket.getaddrinfo('example.com', 443)",
    "socket.gethostbyname('example.com')",
    "socket.socket().connect(('example.com', 80))",
    "socket.socket().connect_ex(('93.184.216.34', 80))",
    "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('93.184.216.34', 53))",
    "asyncio.new_event_loop().run_until_complete(asyncio.open_connection('1.1.1.1', 80))",
)


def test_the_network_is_closed_and_this_machine_is_not(o3magic, book):
    path = book(
        "a.ipynb",
        "sorted(name for name in dir() if not name.startswith('_'))",
        TRIED + "import asyncio, httpx, socket, threading\n",
        *(
            f"thread = threading.Thread(target=tried, args=(lambda: {ask},))\n"
            "thread.start(); thread.join()"
            for ask in ASKED
        ),
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(('localhost', server.getsockname()[1]))\n"
        "one, other = socket.socketpair()\none.send(b'x'), client.send(b'x')",
        "In[-2][:6], len(In)",
    )
    code, told, _ = o3magic("check", path, "--update")
    assert code == 0, told
    names, _, *refused, here, history = outputs(path)
    for ask, found in zip(ASKED, refused, strict=True):
        host = "example.com" if "example" in ask else "1.1.1.1" if "1.1.1" in ask else "93.184"
        assert f"o3magic check refuses the network: {host}" in text_of(found), ask
        assert text_of(found).endswith(" is not on this machine\nquick\n"), ask
    assert text_of(here) == "(1, 1)"
    assert text_of(names) == "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit']"
    assert text_of(history) == f"('server', {len(ASKED) + 5})"


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *((name, True) for name in ("localhost", "LOCALHOST.", "a.localhost", "", "127.0.0.1")),
        *((name, True) for name in ("127.9.9.9", "::1", "0.0.0.0", "::", None, b"localhost", 7)),
        *((name, False) for name in ("example.com", "10.0.0.1", "8.8.8.8", "fe80::1%eth0")),
        *((name, False) for name in ("localhost.example.com", "::ffff:8.8.8.8", b"example.com")),
    ],
)
def test_which_hosts_are_this_machine(host, here):
    assert network_guard.is_here(host) is here


def test_neither_keys_nor_the_users_own_settings_reach_the_kernel():
    kept = {"PATH": "/bin", "KEYBOARD": "de", "MY_OPENAI_NOTES": "x"}
    gone = ("OPENAI_API_KEY", "GH_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "my_secret")
    gone += ("O3MAGIC_MODEL", "O3MAGIC_MAX_OUTPUT_TOKENS", "OPENAI_BASE_URL", "TIKTOKEN_CACHE_DIR")
    given = environment(kept | dict.fromkeys(gone, "s"), Path("a.ipynb"))
    assert {name: given[name] for name in kept} == kept
    assert not set(gone) & set(given)
    assert given["O3MAGIC_NOTEBOOK"] == str(Path("a.ipynb").absolute())
    assert (given["O3MAGIC_MODE"], given["O3MAGIC_REPLAY_SPEED"]) == ("replay", "0")
    assert given["O3MAGIC_CONFIG"] == os.devnull


def test_an_old_notebook_is_checked_in_memory_and_never_rewritten(o3magic, tmp_path):
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(OLD))
    code, out, _ = o3magic("check", path)
    assert code == 1
    assert "note: nbformat 3: upgraded in memory" in out
    assert "note: no outputs are stored in it" in out
    code, out, _ = o3magic("check", path, "--update")
    assert (code, "nbformat 3, and would be written as another" in out) == (3, True)
    assert json.loads(path.read_text()) == OLD


def test_a_strict_check_tells_answers_that_are_not_used_or_not_a_models(o3magic, book, tmp_path):
    asks = ("%load_ext o3magic", "%%o3\nShown.", "%%o3 -q\nNot shown.", "%%o3\nGone.")
    path, cassette = book("a.ipynb", *asks), tmp_path / "a.o3.json"
    code, _, told = o3magic("run", path, "--mode", "record")
    assert code == 0, told
    full = json.loads(cassette.read_text("utf-8"))
    shown, quiet, gone = (entry["key"] for entry in full["entries"])
    assert o3magic("check", path, "--strict")[0] == 0
    notebook = nbformat.read(path, as_version=4)
    del notebook.cells[3]
    nbformat.write(notebook, path)
    full["entries"][1]["response"]["text"] = ["Another answer."]
    cassette.write_text(json.dumps(full), "utf-8")
    code, out, _ = o3magic("check", path, "--strict")
    assert code == 1
    assert [line.partition(",")[0] for line in out.splitlines()[1:]] == [
        *(f"  not in use: {gone} n=1", f"  edited by hand: {quiet} n=1")
    ]
    code, out, _ = o3magic("check", path, "--prune")
    assert (code, f"note: deleted from the cassette: {gone}" in out) == (0, True)
    left = json.loads(cassette.read_text("utf-8"))["entries"]
    assert [entry["key"] for entry in left] == [shown, quiet]


def test_a_question_that_is_not_recorded_fails_the_check(o3magic, book, tmp_path):
    path = book("a.ipynb", "%load_ext o3magic", "%%o3\nOne question.", "'goes on'")
    assert o3magic("run", path, "--mode", "record")[0] == 0
    path.write_bytes(path.read_bytes().replace(b"One question", b"No question"))
    code, out, _ = o3magic("check", path, "--strict")
    assert code == 2
    assert "cell 2 (c2) failed: %%o3\n    CassetteMiss: not recorded in a.o3.json" in out
    assert "- One question." in out
    assert "1 failed (3 cells, " in out


def stream(text, name="stdout"):
    return new_output("stream", text=text, name=name)


def shown(text, mime="text/plain", kind="display_data", **metadata):
    return new_output(kind, data={mime: text}, metadata=metadata)


def failed(name, value, *trace):
    return new_output("error", ename=name, evalue=value, traceback=list(trace))


WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([stream("a"), stream("b\n")], [stream("ab\n")]),
        (
            [stream("a\n"), stream("e", "stderr"), stream("b")],
            [stream("a\nb"), stream("e", "stderr")],
        ),
        ([stream("a"), shown("x"), stream("b")], [stream("ab"), shown("x")]),
        ([stream("0%\r50%\r100%\n")], [stream("100%\n")]),
        ([stream("a\r\nb")], [stream("a\nb")]),
        ([stream("\x1b[1;31mred\x1b[0m")], [stream("red")]),
        ([stream("/tmp/ipykernel_12/345.py:1: W")], [stream("/var/x/ipykernel_9/67.py:1: W")]),
        ([shown("<A object at 0x7f00deadbeef>")], [shown("<A object at 0x10aaaaaaa>")]),
        ([shown({"model_id": "a", "v": 2}, WIDGET)], [shown({"v": 2, "model_id": "b"}, WIDGET)]),
        (
            [shown({"b": 1, "a": 2}, "application/json")],
            [shown({"a": 2, "b": 1}, "application/json")],
        ),
        ([shown("QUJD\n", "image/png")], [shown("QUJD", "image/png")]),
        ([failed("E", "v", "line 1")], [failed("E", "v", "\x1b[1mline 9")]),
        ([shown("a", **LINK)], [shown("a")]),
        (
            [new_output("execute_result", data={"text/plain": "1"}, execution_count=3)],
            [new_output("execute_result", data={"text/plain": "1"}, execution_count=4)],
        ),
    ],
)
def test_what_says_nothing_is_the_same(one, other):
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([stream("1.0")], [stream("1.00")]),
        ([stream("2026-11-20")], [stream("2026-11-21")]),
        ([stream("a")], [stream("a", "stderr")]),
        ([stream("a")], []),
        ([shown("x"), shown("y")], [shown("y"), shown("x")]),
        ([shown("x")], [shown("x", kind="execute_result")]),
        ([shown("x")], [shown("x", "text/markdown")]),
        ([shown("0x7f00deadbeef")], [shown("0x10aaaaaaa")]),
        ([shown("at 0x7f00deadbeef", **LINK)], [shown("at 0x10aaaaaaa", **LINK)]),
        ([shown("QUJD", "image/png")], [shown("QUJE", "image/png")]),
        ([shown([1, 2], "application/json")], [shown([2, 1], "application/json")]),
        ([shown("a", width=1)], [shown("a", width=2)]),
        ([failed("E", "v")], [failed("E", "w")]),
        ([failed("E", "v")], [failed("F", "v")]),
    ],
)
def test_what_says_something_is_not(one, other):
    assert not same(one, other)
    assert any(line.startswith(("- ", "+ ")) for line in difference(one, other))


def test_a_difference_is_short_and_shows_the_place_whatever_the_size():
    before = "".join(f"line {i}\n" for i in range(50_000))
    after = before.replace("line 40000\n", f"line 40000 {'x' * 5000}here{'y' * 5000}\n")
    assert difference([stream(before)], [stream(after)])[:4] == [
        *("  [stdout]", "  line 39998", "  line 39999", "- line 40000")
    ]
    wide = difference(
        [stream("x" * 9000 + "1" + "z" * 9000)], [stream("x" * 9000 + "2" + "z" * 9000)]
    )
    assert ["1" in line or "2" in line for line in wide] == [False, True, True]
    assert max(map(len, wide)) <= WIDEST + 10
    many = difference([stream(before)], [stream(before.replace("line", "Line"))])
    assert len(many) == MOST_SHOWN + 1
    assert many[-1].endswith(" more lines")


def test_a_difference_can_be_printed_whatever_is_in_it():
    lines = difference([shown("a\x1b]0;title\x07b\x9b31m\u202e", **LINK)], [shown("a", **LINK)])
    assert all(line.isprintable() for line in lines)


def test_the_word_for_a_recorded_answer_is_the_renderers():
    assert {output_diff.LINK} == {answer.LINK} == set(LINK)


def test_a_screen_shows_what_was_written_last():
    assert as_left("a\rb\nc\r\nd\be\r") == "b\nc\ne"
    assert as_left("\b\bx") == "x"
    assert [out.text for out in settle([stream("1\r"), stream("2")])] == ["2"]
    kept = [stream("a"), stream("b")]
    settle(kept)
    assert [out.text for out in kept] == ["a", "b"]


def test_the_reports_are_written_or_it_is_said_that_they_are_not(o3magic, book, tmp_path):
    (tmp_path / "taken").mkdir()
    code, _, told = o3magic("check", "missing.ipynb", "--json", "taken")
    assert code == 3
    assert "taken cannot be written" in told
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]

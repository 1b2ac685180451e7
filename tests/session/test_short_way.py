"""How much of the package a plain `%%o3` question loads, and enters before httpx sends it.

Counted in a process of its own: the first question of a session loads modules, the second one is
profiled. A function is a distinct code object under o3magic/ that is called; comprehensions,
lambdas and generator expressions belong to the function they stand in. A module is a file.
"""

import json
import os
import subprocess
import sys

import pytest

# Reached so far. The goal is 27 modules and 70 functions entered, 60 modules loaded.
MOST_ENTERED_MODULES = 30
MOST_ENTERED_FUNCTIONS = 105
MOST_LOADED_MODULES = 79

QUESTIONS = """
import json, sys
from pathlib import Path
import httpx
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "o3magic")
import o3magic

package = str(Path(o3magic.__file__).parent)
entered, loaded, loaded_others = [], [], []
send = httpx.Client.send

def stop_counting(client, *args, **options):
    sys.setprofile(None)
    if not loaded:
        loaded.extend(name for name in sys.modules if name.split(".")[0] == "o3magic")
        loaded_others.extend(name for name in sys.modules if "." not in name)
    return send(client, *args, **options)

def count(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(package) and code not in seen:
        seen.add(code)
        if not code.co_name.startswith("<"):
            entered.append([code.co_filename.removeprefix(package), code.co_qualname])

httpx.Client.send = stop_counting
shell.run_cell_magic("o3", "", "Hello")
seen = set()
sys.setprofile(count)
shell.run_cell_magic("o3", "", "Hello")
sys.setprofile(None)
print(json.dumps({"entered": entered, "loaded": loaded, "others": loaded_others}))
"""


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """What two plain questions to a provider at loopback entered and loaded."""
    from o3magic.simulator import Simulator

    folder = tmp_path_factory.mktemp("plain")
    config = folder / "config.toml"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    kept.pop("CI", None)
    with Simulator() as simulator:
        config.write_text(
            'provider = "plain"\nmodel = "gpt-6.1-terra"\n'
            f'[providers.plain]\nbase_url = "{simulator.base_url}"\nauth = "none"\nlocal = true\n'
        )
        environment = {
            "O3MAGIC_CONFIG": str(config),
            "O3MAGIC_LEDGER": str(folder / "ledger.sqlite3"),
            "IPYTHONDIR": str(folder),
        }
        done = subprocess.run(
            [sys.executable, "-c", QUESTIONS],
            cwd=folder,
            env=kept | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_plain_question_enters_few_modules_and_functions(counts):
    entered = counts["entered"]
    assert ["/session/session.py", "Session.plan"] in entered
    assert ["/client/http.py", "Client.events"] in entered
    assert len(entered) <= MOST_ENTERED_FUNCTIONS, entered
    modules = {file for file, _ in entered}
    assert len(modules) <= MOST_ENTERED_MODULES, sorted(modules)


def test_a_plain_question_enters_nothing_that_it_does_not_use(counts):
    files = {file for file, _ in counts["entered"]}
    unused = ("/conversations/", "/tools/", "/prompts/", "/schemas/", "/session/turns.py")
    assert not [file for file in files if file.startswith(unused)]


def test_the_provider_and_the_mode_of_a_question_are_decided_once(counts):
    functions = [name for _, name in counts["entered"]]
    assert "ProviderSelector.can_ask" not in functions
    assert "ProviderSelector.stand_in" not in functions
    assert "ProviderSelector.provider" not in functions


def test_the_first_question_loads_no_module_that_it_does_not_use(counts):
    loaded = counts["loaded"]
    packages = ("conversations", "tools", "prompts", "reports", "simulator", "rows", "cluster")
    unused = tuple(f"o3magic.{name}" for name in packages)
    assert not [name for name in loaded if name.startswith(unused)]
    assert not {"jinja2", "pandas", "ipywidgets", "dask"} & {*counts["others"]}
    assert len(loaded) <= MOST_LOADED_MODULES, sorted(loaded)

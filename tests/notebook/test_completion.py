"""TAB completion by complete requests to a real kernel."""

from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import CompletionContext
from IPython.core.interactiveshell import InteractiveShell

from o3magic.notebook.magics import O3Magics
from o3magic.settings import options
from o3magic.simulator import Simulator
from tests.notebook.conftest import Kernel

LINE = "from pydantic import BaseModel\nclass Invoice(BaseModel):\n    n: int"
LINE += "\nimport pandas\nreviews = pandas.DataFrame({'a': [1]})\nrecords = [{'a': 1}]\nrest = [1]"
FUNCTIONS = """import json, math
from os.path import join
from o3magic.notebook.magics import O3Magics
def area(side: float) -> float: return side * side
def argue(): ...
def _hidden(): ...
class Alpha: ..."""


def request_completion(kernel: Kernel, code: str) -> dict[str, Any]:
    kernel.client.complete(code, len(code))
    reply = kernel.client.get_shell_msg(timeout=10)
    while reply["msg_type"] != "complete_reply":
        reply = kernel.client.get_shell_msg(timeout=10)
    return reply["content"]


def complete(kernel: Kernel, code: str) -> list[str]:
    return request_completion(kernel, code)["matches"]


def kinds(kernel: Kernel, code: str) -> set[str]:
    types = request_completion(kernel, code)["metadata"]["_jupyter_types_experimental"]
    return {entry["type"] for entry in types}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("%%o3 --eff", ["--effort", "--efforts"]),
        ("%%o3 --effort h", ["high"]),
        ("%%o3 --effort=m", ["medium"]),
        ("%%o3 --effort ", ["high", "low", "medium"]),
        ("%%o3 -m gpt-5.2 --effort x", ["xhigh"]),
        ("%%o3 --model=gpt-5 -q -e m", ["medium", "minimal"]),
        ("%%o3 -m nobody-knows -e mi", ["minimal"]),
        ("%%o3 --compare --efforts low,h", ["high"]),
        ("%%o3 --compare --models o3,o4-mini,o1-p", ["o1-pro"]),
        ("%%o3 --mode re", ["record", "refresh", "replay"]),
        ("%%o3 -q --sum", ["--summary"]),
        ("%%o3 -q ", []),
        ("%%o3 -q -m o3-m", ["o3-mini"]),
        ("%o3 -p ol", ["ollama"]),
        ("%%o3 --schema Inv", ["Invoice"]),
        ("%%o3 --map re", ["records", "reviews"]),
        # An option that few need: where no common one begins so, or a name is whole.
        ("%%o3 -q --ti", ["--tier"]),
        ("%%o3 --t", ["--tools"]),
        ("%%o3 --tu", ["--turns"]),
        ("%%o3 --comp", ["--compare"]),
        ("%%o3 --compac", ["--compact"]),
        ("%%o3 --bud", ["--budget", "--budget-call", "--budget-session"]),
        (
            "%%o3 --budget",
            [
                *("--budget", "--budget-call", "--budget-day", "--budget-month"),
                *("--budget-notebook", "--budget-session", "--budget-warn"),
            ],
        ),
        ("%%o3 --budget-d", ["--budget-day"]),
        ("%o3_config retr", ["retries="]),
        ("%%o3 --tier fl", ["flex"]),
        ("%%o3 --verb", ["--verbosity"]),
        ("%%o3 --verbosity ", ["high", "low", "medium"]),
        ("%%o3 --param top_p=0.5 --param top", ["top_logprobs=", "top_p="]),
        ("%%o3 --param=reas", ["reasoning.mode="]),
        ("%o3_config param=temp", ["temperature="]),
        ("%o3_config eff", ["effort=", "efforts="]),
        ("%o3_config effort=h", ["high"]),
        ("%o3_config model=gpt-5.2 effort=x", ["xhigh"]),
        ("%o3_config models=o3,o4-mini,o1-p", ["o1-pro"]),
    ],
)
def test_what_may_follow_is_offered(kernel: Kernel, line: str, wanted: list[str]):
    kernel.run(LINE)
    offered = complete(kernel, line)
    if wanted:
        assert offered == wanted
    else:
        assert not [word for word in offered if word.startswith("-")]


@pytest.mark.parametrize(("line", "form"), [("%%o3 -", "{}"), ("%o3_config ", "{}=")])
def test_what_is_offered_first_are_the_common_options(kernel: Kernel, line: str, form: str):
    names = {True: set(), False: set()}
    for option in options():
        flags = option.flag.names if line == "%%o3 -" else [option.name]
        names[option.flag.common] |= {form.format(flag) for flag in flags}
    offered = set(complete(kernel, line))
    assert offered >= names[True]
    assert offered.isdisjoint(names[False])


def test_the_efforts_are_those_of_the_model_that_is_set(kernel: Kernel):
    kernel.run("%o3_config model=gpt-5-pro")
    assert complete(kernel, "%%o3 --effort ") == ["high"]
    kernel.run("%o3_config model=")


def test_tools_are_the_functions_that_are_here_also_after_a_comma(kernel: Kernel):
    kernel.run(FUNCTIONS)
    assert complete(kernel, "%%o3 -t a") == ["area", "argue"]
    assert complete(kernel, "%%o3 --tools area,s") == ["sql"]
    assert complete(kernel, "%%o3 --tools=area,p") == ["python"]
    every = set(complete(kernel, "%%o3 -t "))
    assert {"area", "argue", "python", "sql", "web_search"} <= every
    assert every.isdisjoint({"_hidden", "Alpha", "json", "math", "O3Magics", "get_ipython"})


def test_conversations_are_those_that_were_begun(kernel: Kernel, simulator: Simulator):
    assert kernel.run("%%o3 -c invoices\nHi").status == "ok"
    assert complete(kernel, "%%o3 -c in") == ["invoices"]


def test_registered_prompts_are_files_too(kernel: Kernel, tmp_path: Path):
    (tmp_path / "one.md").write_text("Hi")
    file = str(tmp_path / "one.md")
    assert kernel.run(f"import o3magic as o3\no3.prompt('zebra', {file!r})").status == "ok"
    assert complete(kernel, "%%o3 --file zeb") == ["zebra"]


def test_paths_go_on_from_the_folder_of_the_notebook(kernel: Kernel, tmp_path: Path):
    for name in ("long prompt.md", "prompt.md", "prompts/one.md", "prompts/.two.md"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("Hi")
    kernel.run(f"_was = %pwd\n%cd -q {tmp_path}")
    assert complete(kernel, "%%o3 --file pr") == ["prompt.md", "prompts/"]
    assert complete(kernel, "%%o3 --file prompts/") == ["prompts/one.md"]
    assert complete(kernel, "%%o3 --file prompts/.") == ["prompts/.two.md"]
    assert complete(kernel, f"%%o3 --file {tmp_path}/prompts/o") == [f"{tmp_path}/prompts/one.md"]
    assert "nowhere" not in str(complete(kernel, "%%o3 --file nowhere/at/all/p"))
    kernel.run("%cd -q {_was}")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("%%o3 --eff", "option"),
        ("%%o3 --effort h", "effort"),
        ("%%o3 --models o3,o4", "model"),
        ("%%o3 --summary c", "value"),
        ("%%o3 -s Inv", "schema"),
        ("%%o3 -t py", "tool"),
    ],
)
def test_each_completion_has_its_kind(kernel: Kernel, line: str, kind: str):
    kernel.run(LINE)
    assert kinds(kernel, line) == {kind}


def test_the_prompt_is_left_to_others(kernel: Kernel):
    kernel.run("something_unusual = 1")
    assert "--effort" not in complete(kernel, "%%o3\n--")
    assert "something_unusual" in complete(kernel, "something_un")


def test_a_bad_settings_file_is_no_reason_for_tab_to_fail(tmp_path: Path):
    (tmp_path / "o3magic.toml").write_text("effort = [", encoding="utf-8")
    shell = InteractiveShell()
    magics = O3Magics(shell, {}, tmp_path)
    line = "%%o3 --eff"
    context = CompletionContext(
        token="--eff", full_text=line, cursor_position=len(line), cursor_line=0, limit=50
    )
    assert magics.complete(context) == {"completions": []}
    (tmp_path / "o3magic.toml").write_text("effort = 'low'", encoding="utf-8")
    offered = [item.text for item in magics.complete(context)["completions"]]
    assert offered == ["--effort", "--efforts"]

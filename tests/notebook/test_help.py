"""`%o3_help` and `%%o3?`: built from the declarations of options and the docstrings of magics."""

import re
from dataclasses import fields

import pytest

from o3magic.config import Config
from o3magic.notebook.help import EXAMPLES, GROUPS, asks, cell_help, help_bundle, option_sections
from o3magic.notebook.line_parser import format_usage, parse
from o3magic.providers import Providers
from o3magic.settings import Option, Settings, options
from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import Kernel

ASKING = [example.cell for example in EXAMPLES if asks(example)]


def line_of(cell: str) -> str:
    """The line of an example after the magic."""
    return cell.partition("\n")[0].partition("%o3")[2]


def help_on(topic: str) -> str:
    """The page of an option, as text."""
    return help_bundle(topic, Config(), Providers({}, {}), {}).data["text/plain"]


@pytest.mark.parametrize("cell", ASKING)
def test_every_example_is_one_the_parser_takes(cell: str):
    chosen, rest = parse(line_of(cell))
    Config().profile(chosen)
    assert bool(rest) != cell.startswith("%%"), "a prompt stands on the line or below it"


@pytest.mark.parametrize("named", ["--schema", "-o", "--compare", "--background", "--dry-run"])
def test_there_is_an_example_of_what_is_used_most(named: str):
    assert any(named in line_of(cell).split() for cell in ASKING)


def test_every_example_runs(kernel: Kernel, simulator: Simulator):
    for cell in (example.cell for example in EXAMPLES):
        if "--schema" in cell:
            simulator.script(Reply(json={"items": [{"item": "coffee", "price": 8.5}]}))
        ran = kernel.run(cell)
        assert ran.status == "ok", (cell, ran.error)
    assert kernel.value("[later.wait(20).finish_reason, lines.parsed[0].price]") == ["stop", 8.5]


COMMON = [option for option in options() if option.flag.common]
RARE = [option for option in options() if not option.flag.common]


def usages(text: str) -> list[str]:
    """The options that a page has a row of."""
    lines = [line.strip().removeprefix("| `") for line in text.replace("\\|", "|").split("\n")]

    def has_row(option: Option) -> bool:
        usage = format_usage(option)
        return any(line.startswith((f"{usage} ", f"{usage}`")) or line == usage for line in lines)

    return [option.name for option in options() if has_row(option)]


def test_about_twenty_options_are_common():
    assert 15 <= len(COMMON) <= 25
    assert {"model", "effort", "schema", "developer", "out"} <= {option.name for option in COMMON}


def test_every_option_is_in_one_group():
    grouped = [row for section in option_sections(options()) for row in section.rows]
    assert sorted(code for code, _ in grouped) == sorted(map(format_usage, options()))
    assert set(GROUPS) <= {field.name for field in fields(Settings)}


def test_the_rest_is_listed_by_help_all(kernel: Kernel):
    [shown] = kernel.run("%o3_help all").outputs
    for text in (shown["data"]["text/plain"], shown["data"]["text/markdown"]):
        assert usages(text) == [option.name for option in options()]


def test_the_page_has_common_options_examples_magics_and_keys(kernel: Kernel):
    [shown] = kernel.run("%o3_help").outputs
    for text in (shown["data"]["text/plain"], shown["data"]["text/markdown"]):
        assert usages(text) == [option.name for option in COMMON]
        assert f"`%o3_help all` lists {len(RARE)} more options" in text
        for example in EXAMPLES:
            assert example.cell.partition("\n")[0] in text
        for magic in ("%o3_config", "%o3_cost", "%o3_models", "%o3_schemas", "%o3_panel"):
            assert magic in text
        assert "OPENAI_API_KEY" in text
        assert "o3magic doctor" in text
    assert "```python\n%%o3" in shown["data"]["text/markdown"]


@pytest.mark.parametrize("word", ["effort", "--effort", "-e", "e"])
def test_an_option_has_a_page_under_each_of_its_names(kernel: Kernel, word: str):
    kernel.run("%o3_config effort=low")
    text = kernel.run(f"%o3_help {word}").texts()[0]
    assert "One of none, minimal, low, medium, high, xhigh, max." in " ".join(text.split())
    assert "%o3_config effort=" in text
    assert "O3MAGIC_EFFORT=" in text
    assert 'effort = "' in text
    assert "Now: low (set by %o3_config)." in text
    assert "%%o3 --effort high" in text
    assert "--schema" not in text


@pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
def test_every_option_has_a_page_whose_settings_hold(option):
    text = help_on(option.name)
    assert all(flag in text for flag in option.flag.names)
    assert f"O3MAGIC_{option.name.upper()}=" in text
    [setting] = [row.split()[1] for row in text.split("\n") if row.startswith("  %o3_config ")]
    name, _, value = setting.partition("=")
    if value != option.name.upper():  # a word for what only the user knows
        Config().with_layer("%o3_config", {name: value})


def test_an_address_belongs_into_ones_own_file():
    assert "your own config.toml" in help_on("base_url")
    assert "o3magic.toml" in help_on("effort")


@pytest.mark.parametrize("topic", ["examples", "options", "magics", "keys"])
def test_a_part_of_the_page_is_a_topic(kernel: Kernel, topic: str):
    part, whole = (kernel.run(f"%o3_help {word}").texts()[0] for word in (topic, ""))
    assert 0 < len(part) < len(whole)
    assert " ".join(part.split()) in " ".join(whole.split())  # only the columns' width differs


@pytest.mark.parametrize("word", ["cost", "%o3_cost", "o3_cost"])
def test_a_magic_has_a_page_under_each_of_its_names(kernel: Kernel, word: str):
    assert "%o3_cost" in kernel.run(f"%o3_help {word}").texts()[0]


def test_an_option_and_a_magic_of_one_name_have_one_page(kernel: Kernel):
    text = kernel.run("%o3_help models").texts()[0]
    assert "--models" in text
    assert "%o3_models" in text


@pytest.mark.parametrize(("word", "meant"), [("efort", "effort"), ("--schem", "schema")])
def test_what_is_near_a_topic_is_suggested(kernel: Kernel, word: str, meant: str):
    ran = kernel.run(f"%o3_help {word}")
    assert ran.error["ename"] == "BadOption"
    assert f"did you mean {meant}" in "\n".join(ran.error["traceback"])


def test_an_unknown_topic_hints_at_the_known_ones(kernel: Kernel):
    ran = kernel.run("%o3_help <img src=x>")
    assert ran.error["ename"] == "BadOption"
    assert "examples, options, magics, keys, all" in "\n".join(ran.error["traceback"])


@pytest.mark.parametrize("asked", ["%%o3?", "%o3?"])
def test_help_on_the_magic_has_options_and_examples(kernel: Kernel, asked: str):
    reply = kernel.run(asked)
    assert reply.status == "ok"
    kernel.run("from IPython.core.oinspect import getdoc")
    shown = kernel.value("getdoc(get_ipython().find_cell_magic('o3'))")
    assert shown == cell_help()
    assert usages(shown) == [option.name for option in COMMON]
    assert f"`%o3_help all` lists {len(RARE)} more options" in shown
    assert "%%o3 --schema list[Line]" in shown


@pytest.mark.parametrize("columns", [40, 72, 100, 240])
def test_the_options_fit_into_the_pager_and_no_value_is_torn(monkeypatch, columns: int):
    monkeypatch.setenv("COLUMNS", str(columns))
    page = cell_help().partition("\nExamples\n")[0]
    assert usages(page) == [option.name for option in COMMON]
    page = help_on("all")
    lines = page.split("\n")
    assert max(map(len, lines)) <= min(max(columns, 60), 100)
    for option in options():
        assert sum(line.strip().startswith(format_usage(option)) for line in lines) == 1
    # The description of an option is complete, and brackets are not broken over two lines.
    text = " ".join(page.split())
    for option in options():
        assert " ".join(option.flag.help.split()) in text
    assert [line for line in lines if line.count("(") != line.count(")")] == []
    assert re.search(r"\(default: auto\)", page)


@pytest.mark.parametrize(("cell", "status"), [("%%o3?", "complete"), ("%%o3 -q", "incomplete")])
def test_a_request_for_help_waits_for_no_further_line(kernel: Kernel, cell: str, status: str):
    kernel.client.is_complete(cell)
    reply = kernel.client.get_shell_msg(timeout=10)
    while reply["msg_type"] != "is_complete_reply":
        reply = kernel.client.get_shell_msg(timeout=10)
    assert reply["content"]["status"] == status

"""The panel: widgets that are the settings, and a question asked in a thread."""

import atexit
import json
import re
import sys
import threading
import time
from html import unescape

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from pydantic import BaseModel

from o3magic.config import Config
from o3magic.notebook.display import SingleDisplay, merge_bundles
from o3magic.notebook.extension import load, magics_of, unload
from o3magic.notebook.line_parser import cell_text, parse
from o3magic.render.answer import Bundle
from o3magic.simulator import Call, Reply
from tests.notebook.conftest import SECRET, chat_stream
from tests.servers import running
from tests.session.test_default_model import Api


class Line(BaseModel):
    item: str
    price: float


class Invoice(BaseModel):
    number: str
    lines: list[Line] | None


@pytest.fixture
def shell(tmp_path, monkeypatch, simulator):
    """A shell like that of a kernel, with the extension loaded and a key for the server."""
    for name in ("O3MAGIC_PROVIDER", "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("O3MAGIC_LEDGER", str(tmp_path / "ledger.sqlite3"))
    monkeypatch.setenv("O3MAGIC_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url)
    monkeypatch.setenv("O3MAGIC_MODEL", "o3-mini")
    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell()
    shell.kernel = object()  # what tells a notebook from a terminal
    shell.display_pub = CapturingDisplayPublisher()
    load(shell)
    yield shell
    unload(shell)
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()


@pytest.fixture
def panel(shell):
    """A panel that is shown in a cell."""
    panel = magics_of(shell).panel()
    panel._ipython_display_()
    return panel


def session_of(shell):
    return magics_of(shell).actions.session


def profile_of(shell):
    return session_of(shell).layers.profile()


def config(shell, line):
    shell.run_line_magic("o3_config", line)


def choices(widget):
    return [value for _, value in widget.options]


def answers(shell):
    """The contents of the display below the widgets, after each change."""
    out = [o for o in shell.display_pub.outputs if o.get("transient")]
    return [o["data"] for o in out if o["transient"]["display_id"].startswith("o3magic-panel")]


def until(condition, timeout_s=5.0):
    """Wait for something that a thread does."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_what_is_chosen_is_what_the_next_question_uses(shell, panel, simulator):
    panel.controls.effort.value = "high"
    panel.controls.model.value = "o4-mini"
    panel.controls.developer.value = "Be terse."
    assert session_of(shell).layers.origin("effort") == "widget"
    shell.run_cell("%%o3\nhi")
    body = simulator.requests[-1].body
    assert body["model"] == "o4-mini"
    assert body["reasoning"] == {"effort": "high"}
    assert body["input"][0]["content"].endswith("Be terse.")


def test_o3_config_moves_the_widgets_and_its_word_counts_as_the_newest(shell, panel):
    panel.controls.effort.value = "high"
    config(shell, "effort=low 'developer=Be terse.'")
    assert panel.controls.effort.value == "low"
    assert panel.controls.developer.value == "Be terse."
    assert session_of(shell).layers.origin("effort") == "%o3_config"
    panel.controls.effort.value = "medium"
    assert profile_of(shell).effort == "medium"
    config(shell, "effort=")
    assert panel.controls.effort.value == ""
    assert profile_of(shell).effort is None


def test_an_emptied_field_goes_back_to_the_settings_below_and_says_so(shell, panel):
    config(shell, "effort=low")
    panel.controls.effort.value = "high"
    panel.controls.effort.value = ""
    assert profile_of(shell).effort == "low"
    assert panel.controls.effort.value == "low"
    assert "effort low is set by %o3_config" in panel.controls.status.value
    panel.controls.model.value = "o4-mini"
    panel.controls.model.value = "  "
    assert profile_of(shell).model == panel.controls.model.value == "o3-mini"


def test_two_panels_stay_in_step(shell, panel):
    other = magics_of(shell).panel()
    other.controls.effort.value = "high"
    assert panel.controls.effort.value == "high"
    panel.controls.out.value = "bill"
    assert other.controls.out.value == "bill"
    other.close()
    panel.controls.effort.value = "low"
    assert other.controls.effort.value == "high"


def test_only_the_efforts_the_model_has_can_be_chosen(panel):
    assert choices(panel.controls.effort) == ["", "low", "medium", "high"]
    panel.controls.model.value = "gpt-5.1"
    assert choices(panel.controls.effort) == ["", "none", "low", "medium", "high"]
    panel.controls.model.value = "o1-mini"
    assert choices(panel.controls.effort) == [""]
    panel.controls.model.value = "somebody/else"
    assert "max" in choices(panel.controls.effort)


def test_an_effort_the_model_lacks_is_one_clear_line(panel, simulator):
    panel.controls.effort.value = "low"
    panel.controls.model.value = "o3-deep-research"
    assert panel.controls.effort.value is None
    text = panel.controls.status.value
    assert "o3-deep-research has no effort &#x27;low&#x27; – it has medium" in text
    panel.controls.prompt.value = "hi"
    panel.run()
    assert not panel.running
    assert simulator.requests == []
    panel.controls.effort.value = "medium"
    assert "has no effort" not in panel.controls.status.value


def test_the_schemas_of_the_notebook_appear_as_they_are_made(shell, panel, simulator):
    assert choices(panel.controls.schema) == [""]
    shell.run_cell("from tests.notebook.test_panel import Invoice, Line")
    assert {"", "Invoice", "Line"} == set(choices(panel.controls.schema))
    panel.controls.schema.value = "Invoice"
    assert profile_of(shell).schema == "Invoice"
    assert "<b>lines</b> list[Line] | None" in panel.controls.schema_line.value
    config(shell, "schema=list[Line]")
    assert panel.controls.schema.value == "list[Line]"
    assert "<b>item</b> str" in panel.controls.schema_line.value
    shell.run_cell("del Line")
    assert "there is no schema named Line" in panel.controls.schema_line.value


def test_a_model_shows_its_price_and_the_day_it_goes(panel):
    assert "$1.10 in (cached $0.55) · $4.40 out" in panel.controls.model_line.value
    panel.controls.model.value = "o1-mini"
    assert "shutdown was announced for 2025-10-27" in panel.controls.model_line.value
    assert 'role="alert"' in panel.controls.model_line.value
    panel.controls.model.value = "o3-minni"
    assert "did you mean o3-mini" in panel.controls.model_line.value


def test_a_question_is_asked_beside_the_cells_and_answered_in_its_place(shell, panel, simulator):
    usage = {"input_tokens": 10, "output_tokens": 90}
    usage |= {"output_tokens_details": {"reasoning_tokens": 64}}
    simulator.script(Reply(text="It is **four**.", usage=usage))
    panel.controls.prompt.value = "What is 2+2?\n"
    panel.controls.out.value = "given"
    panel.controls.run.click()
    panel.wait(5)
    assert panel.answer.text == "It is **four**."
    assert shell.user_ns["given"] is panel.answer
    assert simulator.requests[-1].body["input"][-1]["content"] == "What is 2+2?"
    last = answers(shell)[-1]
    assert last["text/plain"] == "It is **four**."
    assert last["text/markdown"].startswith("It is **four**.")
    assert "64 reasoning" in last["text/markdown"]
    assert "answered in" in panel.controls.status.value
    assert not panel.running
    assert len({o["transient"]["display_id"] for o in shell.display_pub.outputs[1:]}) == 1


def test_the_effort_shows_what_it_cost_and_took(shell, panel, simulator):
    assert panel.controls.effort_line.value.count("no call yet") == 3
    usage = {"prompt_tokens": 1000, "completion_tokens": 500}
    usage |= {"completion_tokens_details": {"reasoning_tokens": 64}}
    simulator.script(Reply(body=chat_stream(["four"], usage)))
    config(shell, "api=chat effort=low")
    panel.controls.prompt.value = "hi"
    panel.run()
    panel.wait(5)
    text = " ".join(re.sub(r"<[^>]*>", " ", panel.controls.effort_line.value).split())
    assert "low: 1 call ⌀ $0.0033 ⌀ " in text
    assert "64 reasoning" in text
    assert text.count("no call yet") == 2
    assert "this session <b>$0.0033</b> (1 call)" in panel.controls.meter.value


def test_stop_ends_an_answer_and_keeps_what_had_arrived(shell, panel, simulator):
    simulator.script(Reply(text="one two three four five six seven", pause_s=0.2))
    panel.controls.prompt.value = "count"
    panel.run()
    assert panel.controls.run.disabled
    assert not panel.controls.stop.disabled
    until(lambda: "one" in str(answers(shell)[-1]))
    began_s = time.monotonic()
    panel.controls.stop.click()
    panel.wait(5)
    assert time.monotonic() - began_s < 0.6
    assert panel.answer.finish_reason == "interrupted"
    assert panel.answer.text.startswith("one")
    assert "interrupted" in answers(shell)[-1]["text/markdown"]
    assert "stopped by you" in panel.controls.status.value
    assert not panel.controls.run.disabled
    [entry] = session_of(shell).ledger.entries()
    assert entry.status == "interrupted"


def test_stop_works_while_nothing_arrives(shell, panel, simulator):
    simulator.script(Reply(text="one", comments=("a",) * 3, pause_s=20.0, piece_bytes=40))
    panel.controls.prompt.value = "count"
    panel.run()
    until(lambda: simulator.requests)
    time.sleep(0.2)
    began_s = time.monotonic()
    panel.stop()
    panel.wait(5)
    assert time.monotonic() - began_s < 0.6
    [entry] = session_of(shell).ledger.entries()
    assert entry.status == "interrupted"


def test_a_question_that_was_left_behind_does_not_write_into_the_next_one(shell, panel, simulator):
    simulator.script(Reply(text="the first", wait_s=1.0, pause_s=0.5), Reply(text="the second"))
    panel.controls.prompt.value = "hi"
    panel.run()
    first = panel._runner._thread
    until(lambda: simulator.requests)
    panel.stop()
    panel.run()
    panel.wait(5)
    assert panel.answer.text == "the second"
    first.join(5)
    assert panel.answer.text == "the second"
    assert "the second" in answers(shell)[-1]["text/markdown"]
    assert "answered" in panel.controls.status.value
    statuses = [entry.status for entry in session_of(shell).ledger.entries()]
    assert sorted(statuses) == ["interrupted", "ok"]


@pytest.mark.parametrize(
    ("settings", "prompt", "message"),
    [
        ({}, "", "there is no prompt"),
        ({"schema": "Nothing"}, "hi", "there is no schema named Nothing"),
        ({"out": "two words"}, "hi", "this is not a Python name"),
        ({"provider": "nobody"}, "hi", "nobody"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line(shell, panel, simulator, settings, prompt, message):
    panel.controls.prompt.value = prompt
    session_of(shell).configure(settings, layer="%o3_config")
    panel.refresh()
    panel.run()
    assert message in panel.controls.status.value
    assert "Traceback" not in panel.controls.status.value
    assert simulator.requests == []


def test_a_name_python_would_not_take_is_not_set(shell, panel):
    panel.controls.out.value = "two words"
    assert profile_of(shell).out == ""
    assert "this is not a Python name" in panel.controls.status.value


def test_a_refused_question_says_why_in_the_panel_and_in_the_saved_output(panel, shell, simulator):
    simulator.script(Reply(status=401, error={"message": "no <b>key</b>", "code": "bad_key"}))
    panel.controls.prompt.value = "hi"
    panel.run()
    panel.wait(5)
    assert 'role="alert"' in panel.controls.status.value
    assert "<b>" not in panel.controls.status.value
    assert answers(shell)[-1]["text/plain"].startswith("WrongKey: ")
    assert "text/markdown" not in answers(shell)[-1]


def test_a_structured_answer_is_a_table_with_its_footer(shell, panel, simulator):
    shell.run_cell("from tests.notebook.test_panel import Invoice, Line")
    panel.controls.schema.value = "Invoice"
    simulator.script(Reply(json={"number": "7", "lines": None}))
    panel.controls.prompt.value = "read it"
    panel.run()
    panel.wait(5)
    assert type(panel.answer.parsed) is Invoice
    shown = answers(shell)[-1]
    assert "| number | 7 |" in shown["text/markdown"]
    assert "o3-mini" in shown["text/markdown"]
    assert json.loads(shown["text/plain"]) == {"number": "7", "lines": None}


def test_no_word_in_the_panel_is_html(shell, panel):
    panel.controls.model.value = "<img src=x onerror=alert(1)>"
    config(shell, "schema='<script>1</script>' provider='<b>x</b>'")
    panel.controls.prompt.value = "hi"
    panel.run()
    show = panel.controls
    for line in (show.model_line, show.schema_line, show.status, show.effort_line, show.meter):
        assert "<img" not in line.value
        assert "<script" not in line.value
        assert "<b>x" not in line.value


HARD = [
    "plain",
    "two words",
    "it's",
    'say "hi"',
    "--effort high",
    "-",
    "{x} $y %z \\",
    " blank before and behind ",
    "'",
    '"',
    "ends in a quote '",
]


@pytest.mark.parametrize("text", HARD)
def test_the_cell_says_what_the_panel_says(text):
    layers = Config().with_layer("widget", {"developer": text, "effort": "low", "out": "x"})
    first, _, prompt = cell_text(layers, "line one\n\n  {line} two").partition("\n")
    assert prompt == "line one\n\n  {line} two"
    chosen, rest = parse(first.removeprefix("%%o3 "))
    assert rest == ""
    assert Config().profile(chosen) == layers.profile()


@pytest.mark.parametrize("text", ["two\nlines", 'it\'s "both" and blanks', "a\u2028b"])
def test_what_no_line_can_hold_is_written_in_python(text):
    layers = Config().with_layer("widget", {"developer": text, "schema": "list[Invoice]"})
    written = cell_text(layers, "the\nprompt")
    asked = {}

    class Fake:
        def ask(self, prompt, **options):
            asked.update(options, prompt=prompt)

    code = written.replace("import o3magic as o3", "")
    exec(code, {"o3": Fake(), "Invoice": Invoice})
    assert asked["prompt"] == "the\nprompt"
    assert asked["developer"] == text
    assert asked["schema"] == list[Invoice]


def test_the_cell_follows_what_is_chosen_and_goes_below_the_running_one(shell, panel):
    panel.controls.write.click()
    panel.controls.prompt.value = "hi"
    panel.controls.effort.value = "high"
    assert panel.controls.cell.value == "%%o3 --effort high --model o3-mini\nhi"
    shell.run_line_magic("o3_panel", "cell")
    assert shell.rl_next_input == panel.cell


def test_settings_of_the_machine_are_not_in_the_cell(shell, panel):
    layers = Config({"environment": {"provider": "simulator"}}).with_layer(
        "%o3_config", {"stream": False}
    )
    assert cell_text(layers, "hi") == "%%o3 --no-stream\nhi"


def test_unloading_closes_the_panel_and_stops_what_runs(shell, panel, simulator):
    simulator.script(Reply(text="one two", piece_bytes=60, pause_s=5.0))
    panel.controls.prompt.value = "hi"
    panel.run()
    until(lambda: simulator.requests)
    session, listening = session_of(shell), shell.events.callbacks["post_run_cell"]
    assert any(callback.__module__.startswith("o3magic") for callback in listening)
    unload(shell)
    panel.wait(5)
    assert panel.closed
    assert not any(callback.__module__.startswith("o3magic") for callback in listening)
    [entry] = session.ledger.entries()
    assert entry.status == "interrupted"
    session.close()
    shell.run_cell("1")
    panel.controls.effort.value = "high"
    panel.run()


def test_what_is_shown_reads_well_without_a_kernel(shell, panel):
    first, second = shell.display_pub.outputs[:2]
    assert first["data"]["text/plain"].startswith("o3magic panel: o3-mini (%o3_panel")
    assert "application/vnd.jupyter.widget-view+json" in first["data"]
    assert second["data"] == {"text/plain": "The answer to Run appears here."}


def test_every_control_has_a_name_for_a_screen_reader(panel):
    show = panel.controls
    for control in (show.model, show.schema, show.developer, show.prompt, show.out, show.cell):
        assert control.description
        assert control.tooltip
    for button in (show.run, show.stop, show.write):
        assert button.description
        assert button.tooltip
    assert show.effort.tooltips[1] == "effort low: no call yet"


def test_a_terminal_shows_one_line(shell, capsys):
    from o3magic.notebook.display import TerminalDisplay

    magics_of(shell).actions.context.display = TerminalDisplay()
    assert shell.run_line_magic("o3_panel", "") is None
    assert capsys.readouterr().out.strip().startswith("a panel needs a notebook")


def test_without_ipywidgets_there_is_a_clear_error(shell, monkeypatch):
    from o3magic.errors import BadOption

    for name in ("panel", "panel_widgets", "background"):
        monkeypatch.delitem(sys.modules, f"o3magic.notebook.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(BadOption, match="ipywidgets, which is not installed") as caught:
        magics_of(shell).panel()
    assert caught.value.hint == "pip install ipywidgets"


def test_one_display_sends_the_last_word_and_not_every_one():
    sent, now = [], [0.0]
    screen = SingleDisplay(sent.append, clock=lambda: now[0])
    screen.show(Bundle({"text/plain": "a"}, {}), "1")
    for n in range(50):
        screen.update(Bundle({"text/plain": f"b{n}"}, {}), "1")
    assert len(sent) == 1
    until(lambda: len(sent) == 2)
    assert sent[-1].data == {"text/plain": "b49"}
    screen.update(Bundle({"text/plain": "end"}, {}), "1")
    screen.flush()
    assert sent[-1].data == {"text/plain": "end"}
    screen.close()
    screen.update(Bundle({"text/plain": "late"}, {}), "1")
    screen.flush()
    assert sent[-1].data == {"text/plain": "end"}
    until(lambda: not any(isinstance(t, threading.Timer) for t in threading.enumerate()))


def test_displays_are_joined_into_one():
    words = {"text/markdown": "**a**", "text/plain": "a"}
    empty = Bundle({"text/plain": ""}, {})
    both = merge_bundles(
        [Bundle(words, {}), empty, Bundle({**words, "application/json": {}}, {"x": 1})]
    )
    assert both.data["text/markdown"] == "**a**\n\n**a**"
    assert both.data["application/json"] == {}
    assert both.metadata == {"x": 1}
    part = merge_bundles([Bundle(words, {}), Bundle({"text/plain": "b"}, {})])
    assert part.data == {"text/plain": "a\n\nb"}


@pytest.mark.parametrize(("press", "ending"), [("allow", "ok"), ("decline", "declined")])
def test_a_dangerous_tool_is_called_only_after_a_click(kernel, simulator, press, ending):
    simulator.script(Reply(calls=(Call("erase", '{"name": "<b>"}'),)), Reply(text="done"))
    kernel.run(
        "import o3magic as o3, time\nerased = []\n"
        "@o3.tool(dangerous=True)\n"
        "def erase(name: str) -> str:\n    'Erase it.'\n    erased.append(name)\n"
        "    return 'gone'\n"
        "%o3_config tools=erase\npanel = %o3_panel\n"
        "panel.controls.prompt.value = 'Erase it.'\npanel.run()\n"
        "until = time.monotonic() + 20\n"
        "permission = panel.controls.permission.layout\n"
        "while permission.display != 'flex' and time.monotonic() < until:\n"
        "    time.sleep(0.01)\n"
        "asked = panel.controls.permission_words.value, panel.controls.permission.layout.display\n"
        f"panel.controls.{press}.click()\npanel.wait(20)"
    )
    asked, shown = kernel.value("asked")
    after = kernel.value("[panel.controls.permission.layout.display, erased]")
    used = kernel.value("[use.ending for use in panel.answer.tool_uses]")
    kernel.run("panel.close()\n%o3_config tools=")
    assert "erase({&quot;name&quot;: &quot;&lt;b&gt;&quot;})" in asked
    assert shown == "flex"
    assert after == ["none", ["<b>"] if press == "allow" else []]
    assert used == [ending]


@pytest.fixture
def api():
    """A server of today's models."""
    with running(Api()) as server:
        yield server


def test_a_model_that_is_not_named_is_the_default_and_the_panel_says_why(shell, api, monkeypatch):
    reason = "openai's default since o3-mini was shut down on 2026-10-23"
    monkeypatch.delenv("O3MAGIC_MODEL")
    monkeypatch.setenv("OPENAI_BASE_URL", api.url)
    unload(shell)
    load(shell)
    try:
        panel = magics_of(shell).panel()
        assert panel.controls.model.value == ""
        assert panel.controls.model.placeholder == "gpt-6.1-terra (default)"
        assert reason in unescape(panel.controls.model_line.value)
        assert "gpt-6.1-terra, " in panel.controls.model_line.value
        assert "$1" in panel.controls.model_line.value
        panel.controls.prompt.value = "2+2?"
        panel.run()
        panel.wait(20)
        assert panel.answer.text == "four"
        assert panel.answer.model_reason == reason
        assert panel.cell == "%%o3\n2+2?"
    finally:
        unload(shell)
    assert api.asked == ["gpt-6.1-terra"]
    assert api.listings == 0

"""`%%o3` in a real kernel, against a real server on loopback."""

import json
import time

import pytest

from o3magic.simulator import Reply, Simulator
from tests.notebook.conftest import SECRET, Kernel, chat_stream

INVOICE = """
from pydantic import BaseModel
class Line(BaseModel):
    item: str
    price: float
class Invoice(BaseModel):
    number: str
    lines: list[Line]
"""
GOOD = {"number": "7", "lines": [{"item": "coffee", "price": 8.5}]}


def test_the_answer_is_shown_as_markdown_with_its_footer(kernel: Kernel, simulator: Simulator):
    usage = {"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 200}}
    usage |= {"output_tokens": 90, "output_tokens_details": {"reasoning_tokens": 64}}
    simulator.script(Reply(text="It is **four**.", usage=usage))
    ran = kernel.run("%%o3\nWhat is 2+2?")
    assert ran.status == "ok"
    [markdown] = ran.texts("text/markdown")
    assert markdown.startswith("It is **four**.")
    assert "1,000 in (200 cached)" in markdown
    assert "90 out (64 reasoning)" in markdown
    assert "medium" in markdown


def test_text_plain_is_the_answer_itself(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text="It is **four**."))
    assert kernel.run("%%o3\nWhat is 2+2?").texts() == ["It is **four**."]


def test_the_answer_is_a_value_in_underscore_and_in_the_name_given(kernel: Kernel, simulator):
    simulator.script(Reply(text="four"))
    kernel.run("%%o3 -o given\nWhat is 2+2?")
    assert kernel.value("[_.text, given.text, _ is given, given.effort]") == [
        "four",
        "four",
        True,
        "medium",
    ]


def test_the_line_magic_gives_the_answer_to_a_name(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text="four"))
    ran = kernel.run("got = %o3 -e low what's 2+2?")
    assert ran.status == "ok"
    assert kernel.value("got.text") == "four"
    assert simulator.requests[-1].body["input"][-1]["content"] == "what's 2+2?"
    assert simulator.requests[-1].body["reasoning"] == {"effort": "low"}


@pytest.mark.parametrize(
    "line",
    ["%o3 Why is the sky blue?", "  %o3 Why is the sky blue? ", "a = %o3 Why is the sky blue?"],
)
def test_a_question_may_end_in_a_question_mark(kernel: Kernel, simulator: Simulator, line: str):
    ran = kernel.run(f"if True:\n    {line}" if line.startswith(" ") else line)
    assert ran.status == "ok", ran.error
    assert simulator.requests[-1].body["input"][-1]["content"] == "Why is the sky blue?"


def test_help_is_still_help(kernel: Kernel, simulator: Simulator):
    assert kernel.run("%o3?").status == "ok"
    assert kernel.run("%%o3?").status == "ok"
    assert simulator.requests == []


def test_an_answer_shown_again_looks_as_before(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text="It is **four**."))
    first = kernel.run("%%o3 -o given\nWhat is 2+2?")
    again = kernel.run("given")
    assert again.texts("text/markdown") == first.texts("text/markdown")
    assert len(simulator.requests) == 1


def test_braces_and_dollars_in_a_prompt_belong_to_the_user(kernel: Kernel, simulator: Simulator):
    kernel.run("x = 'EXPANDED'")
    prompt = r"{x} $x ${x} \frac{a}{b} \frac{{a}}{{b^{2}}} %x !ls {'a': 1} {% if x %} {# x #}"
    kernel.run(f"%%o3 --no-template\n{prompt} {{{{x}}}}")
    assert simulator.requests[-1].body["input"][-1]["content"] == f"{prompt} {{{{x}}}}"
    kernel.run(f"%%o3\n{prompt.replace('{{a}}{{b^{2}}}', 'ab')} {{{{x}}}}")
    sent = simulator.requests[-1].body["input"][-1]["content"]
    assert sent == f"{prompt.replace('{{a}}{{b^{2}}}', 'ab')} EXPANDED"


def test_formatting_is_reenabled_for_models_that_need_it(kernel: Kernel, simulator: Simulator):
    kernel.run("%%o3 -d 'Be terse.'\nhi")
    first = simulator.requests[-1].body["input"][0]
    assert first == {"role": "developer", "content": "Formatting re-enabled\nBe terse."}
    kernel.run("%%o3 -m gpt-5\nhi")
    assert [m["role"] for m in simulator.requests[-1].body["input"]] == ["user"]


def test_only_what_the_model_takes_is_sent(kernel: Kernel, simulator: Simulator):
    kernel.run("%%o3\nhi")
    assert set(simulator.requests[-1].body) == {"model", "input", "stream"}
    kernel.run("%%o3 --api chat\nhi")
    assert set(simulator.requests[-1].body) == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("stream", ["", "--no-stream"])
def test_a_schema_gives_an_object_of_the_notebooks_own_class(kernel, simulator, api, stream):
    kernel.run(INVOICE)
    simulator.script(Reply(json=GOOD))
    ran = kernel.run(f"%%o3 -s Invoice -o bill --api {api} {stream}\nread it")
    assert ran.status == "ok", ran.error
    assert kernel.value("[type(bill.parsed) is Invoice, bill.parsed.lines[0].price]") == [True, 8.5]
    tree = ran.outputs[0]
    assert tree["data"]["application/json"] == GOOD
    assert tree["metadata"]["application/json"] == {"expanded": True, "root": "Invoice"}
    assert json.loads(tree["data"]["text/plain"]) == GOOD
    assert "coffee" in tree["data"]["text/markdown"]


def test_rows_are_shown_as_a_table(kernel: Kernel, simulator: Simulator):
    kernel.run(INVOICE)
    simulator.script(Reply(json={"items": [{"item": "tea", "price": 2}]}))
    ran = kernel.run("%%o3 -s list[Line] -o rows\nlist them")
    assert ran.status == "ok", ran.error
    [table] = ran.outputs
    assert "application/json" not in table["data"]
    assert "tea" in table["data"]["text/markdown"]
    assert kernel.value("[type(rows.parsed[0]) is Line, len(rows.parsed)]") == [True, 1]


def test_an_answer_that_does_not_fit_is_asked_again_with_what_was_wrong(kernel, simulator):
    kernel.run(INVOICE)
    usage = {"input_tokens": 10, "output_tokens": 20}
    usage |= {"input_tokens_details": {"cached_tokens": 0}}
    usage |= {"output_tokens_details": {"reasoning_tokens": 0}}
    bad = {"number": "7", "lines": [{"item": "coffee", "price": "much"}]}
    simulator.script(Reply(json=bad, usage=usage), Reply(json=GOOD, usage=usage))
    ran = kernel.run("%%o3 -s Invoice -o bill\nread it")
    assert ran.status == "ok", ran.error
    assert len(simulator.requests) == 2
    text = json.dumps(simulator.requests[1].body["input"])
    assert "lines.0.price" in text
    assert kernel.value("bill.usage.output_tokens") == 40
    assert "asked again" in " ".join(ran.texts("text/markdown"))


def test_an_answer_that_never_fits_fails_the_cell_and_is_kept(kernel: Kernel, simulator):
    kernel.run(INVOICE)
    simulator.script(Reply(text="no JSON"), Reply(text="still none"))
    ran = kernel.run("%%o3 -s Invoice -o bill\nread it")
    assert ran.status == "error"
    assert ran.error["ename"] == "InvalidAnswer"
    assert len(ran.error["traceback"]) <= 3
    assert kernel.value("[bill.text, bill.parsed]") == ["still none", None]
    assert "still none" in " ".join(ran.texts("text/markdown"))


def test_a_truncated_answer_says_so_and_why(kernel: Kernel, simulator: Simulator):
    usage = {"input_tokens": 10, "output_tokens": 4096}
    usage |= {"output_tokens_details": {"reasoning_tokens": 4096}}
    simulator.script(Reply(finish="length", message=False, usage=usage))
    ran = kernel.run("%%o3 --max-output-tokens 4096\nthink hard")
    [markdown] = ran.texts("text/markdown")
    assert "reasoning used the whole limit of 4,096 tokens" in markdown
    assert "max&#45;output&#45;tokens 25000" in markdown or "--max-output-tokens 25000" in markdown
    assert kernel.value("_.finish_reason") == "length"


def test_a_refusal_is_shown_as_one(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(refusal="I cannot help with that."))
    ran = kernel.run("%%o3 -o no\ndo harm")
    assert "the model refused" in ran.texts("text/markdown")[0]
    assert kernel.value("[no.refusal, no.finish_reason]") == ["I cannot help with that.", "refusal"]


def test_the_reasoning_summary_is_folded_above_the_answer(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text="four", summary=("<b>Adding</b> two",)))
    ran = kernel.run("%%o3 --summary auto\nWhat is 2+2?")
    [markdown] = ran.texts("text/markdown")
    assert markdown.startswith("<details><summary>Reasoning summary</summary>")
    assert "<b>" not in markdown
    assert markdown.index("Adding") < markdown.index("four")


def test_an_interrupt_keeps_what_arrived(kernel: Kernel, simulator: Simulator):
    words = "".join(f"word{n} " for n in range(400))
    body = chat_stream([f"word{n} " for n in range(400)])
    simulator.script(Reply(body=body, piece_bytes=2_000, pause_s=0.05))
    request = kernel.start("%%o3 --api chat -o cut\ntell me a lot")
    time.sleep(1.5)
    kernel.interrupt()
    ran = kernel.collect(request, 20)
    assert ran.status == "error"
    assert ran.error["ename"] == "Interrupted"
    assert len(ran.error["traceback"]) <= 2
    text = kernel.value("cut.text")
    assert text.startswith("word0 word1")
    assert len(text) < len(words)
    assert kernel.value("[cut.finish_reason, cut.cost_usd, _ is cut]")[0] == "interrupted"
    assert "word0 word1" in ran.texts()[0]
    assert "interrupted" in ran.texts("text/markdown")[0]
    assert "unknown" in kernel.run("%o3_cost").texts()[0]
    until = time.monotonic() + 5
    while simulator.disconnects == 0 and time.monotonic() < until:
        time.sleep(0.05)
    assert simulator.disconnects == 1


def test_an_interrupt_while_nothing_arrives_is_taken_at_once(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text="late", wait_s=20))
    request = kernel.start("%%o3\nthink")
    time.sleep(1.0)
    began = time.monotonic()
    kernel.interrupt()
    ran = kernel.collect(request, 15)
    assert time.monotonic() - began < 3
    assert ran.error["ename"] == "Interrupted"


def test_a_line_that_breaks_keeps_the_text_and_fails_the_cell(kernel: Kernel, simulator):
    simulator.script(Reply(text="It is four, because two and two", cut_after_bytes=3000))
    ran = kernel.run("%%o3 -o part\nWhat is 2+2?")
    assert ran.error["ename"] == "BrokenAnswer"
    assert kernel.value("part.text").startswith("It is")
    assert "broken off" in ran.texts("text/markdown")[0]


def test_quiet_shows_nothing(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text="four"))
    ran = kernel.run("%%o3 -q\nWhat is 2+2?")
    assert ran.outputs == []
    assert kernel.value("_.text") == "four"


def test_raw_is_text_only(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text="**four**"))
    [shown] = kernel.run("%%o3 --raw\nWhat is 2+2?").outputs
    assert set(shown["data"]) == {"text/plain"}
    assert shown["data"]["text/plain"].startswith("**four**\n")


def test_a_dry_run_sends_nothing_and_shows_no_key(kernel: Kernel, simulator: Simulator):
    ran = kernel.run("%%o3 --dry-run -e high\nWhat is 2+2?")
    facts, brace, request = ran.texts()[0].partition("{")
    assert "worst case: $0.44" in facts
    shown = json.loads(brace + request)
    assert shown["body"]["reasoning"] == {"effort": "high"}
    assert simulator.requests == []
    assert SECRET not in json.dumps(ran.messages)


def test_a_dry_run_needs_no_key(kernel: Kernel):
    kernel.run("import os; del os.environ['OPENAI_API_KEY']")
    assert kernel.run("%%o3 --dry-run\nWhat is 2+2?").status == "ok"


def test_other_output_of_a_cell_is_left_alone(kernel: Kernel, simulator: Simulator):
    simulator.script(Reply(text="paragraph\n\n" * 800))
    ran = kernel.run("print('mine')\n%o3 tell me")
    assert ran.stdout == "mine\n"


def test_a_long_answer_ends_as_one_display(kernel: Kernel, simulator: Simulator):
    text = "\n\n".join(
        f"Paragraph {n} of a long answer, with some words in it." for n in range(300)
    )
    simulator.script(Reply(text=text, pause_s=0.001))
    ran = kernel.run("%%o3\ntell me")
    assert ran.texts() == [text]
    assert len(ran.outputs) == 1


def test_settings_hold_until_they_are_unset(kernel: Kernel, simulator: Simulator):
    kernel.run("%o3_config effort=high model=o4-mini")
    kernel.run("%%o3\nhi")
    assert simulator.requests[-1].body["reasoning"] == {"effort": "high"}
    assert simulator.requests[-1].body["model"] == "o4-mini"
    kernel.run("%o3_config effort= model=")
    kernel.run("%%o3\nhi")
    assert "reasoning" not in simulator.requests[-1].body


def test_a_setting_of_several_words_goes_in_quotes(kernel: Kernel, simulator: Simulator):
    kernel.run("%o3_config developer='Be terse, please.'")
    kernel.run("%%o3\nhi")
    assert simulator.requests[-1].body["input"][0]["content"].endswith("\nBe terse, please.")


def test_unloading_puts_everything_back(kernel: Kernel):
    kernel.run("%unload_ext o3magic")
    ran = kernel.run("%%o3\nhi")
    assert ran.status == "ok" or ran.error["ename"] == "UsageError"
    assert "not found" in json.dumps(ran.messages)
    assert kernel.run("%load_ext o3magic").status == "ok"
    assert kernel.run("%%o3 -q\nhi").status == "ok"


def test_schemas_can_be_registered(kernel: Kernel, simulator: Simulator):
    kernel.run(
        "import o3magic as o3\nfrom pydantic import BaseModel\n"
        "def make():\n    @o3.schema\n    class Hidden(BaseModel):\n        n: int\nmake()"
    )
    simulator.script(Reply(json={"n": 3}))
    assert kernel.run("%%o3 -s Hidden -o h\ncount").status == "ok"
    assert kernel.value("h.parsed.n") == 3


def test_python_can_ask_too(kernel: Kernel, simulator: Simulator):
    kernel.run(f"import o3magic as o3\n{INVOICE}")
    simulator.script(Reply(json=GOOD))
    ran = kernel.run("a = o3.ask('read it', schema=Invoice, effort='low')\na.parsed.lines[0].item")
    assert ran.texts() == ["'coffee'"]


def test_a_call_that_costs_is_in_the_ledger_to_the_nano_dollar(kernel: Kernel, simulator):
    usage = {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}}
    usage |= {"completion_tokens": 87, "completion_tokens_details": {"reasoning_tokens": 64}}
    simulator.script(Reply(body=chat_stream(["four"], usage)))
    ran = kernel.run("%%o3 --api chat\nWhat is 2+2?")
    assert "&#36;</span>0.000391" in ran.texts("text/markdown")[0]
    assert kernel.value("str(_.cost_usd)") == "0.000390500"
    assert "$0.000391" in kernel.run("%o3_cost").texts()[0]


def test_models_are_listed_beside_those_the_provider_serves(kernel: Kernel, simulator):
    ran = kernel.run("%o3_models")
    markdown = ran.texts("text/markdown")[0]
    assert "served" in markdown
    [row] = [line for line in ran.texts()[0].splitlines() if line.startswith("o3-mini ")]
    assert row.split()[:4] == ["o3-mini", "1.10", "0.55", "4.40"]
    assert "2026-10-23 (past)" in row
    assert row.endswith("yes")
    assert '<span style="color:#b3261e">2026' in markdown
    assert [request.method for request in simulator.requests] == ["GET"]


def test_models_are_listed_without_anybody_to_ask(kernel: Kernel):
    kernel.run("import os; del os.environ['OPENAI_API_KEY']")
    ran = kernel.run("%o3_models")
    assert ran.status == "ok"
    assert "is not known" in ran.texts()[0]


def test_a_token_can_come_from_a_function(kernel: Kernel, simulator: Simulator):
    kernel.run(
        "import os, o3magic\n"
        f"os.environ['AZURE_OPENAI_ENDPOINT'] = {simulator.base_url.removesuffix('/v1')!r}\n"
        "from o3magic.notebook.extension import session_of\n"
        f"session_of(get_ipython()).token_from('azure-entra', lambda: {SECRET!r})"
    )
    kernel.run("%%o3 -p azure-entra -q\nhi")
    kernel.run("del os.environ['AZURE_OPENAI_ENDPOINT']")
    assert simulator.requests[0].path == "/openai/v1/responses"
    assert simulator.requests[-1].headers["authorization"] == f"Bearer {SECRET}"


def test_a_refused_request_is_sent_again_and_the_cell_says_why(kernel: Kernel, simulator):
    busy = {"message": "Rate limit reached", "code": "rate_limit_exceeded"}
    simulator.script(
        Reply(status=429, error=busy, headers={"retry-after": "1"}), Reply(text="four")
    )
    ran = kernel.run("%%o3\nWhat is 2+2?")
    assert ran.status == "ok"
    assert ran.texts() == ["four"]
    assert len(simulator.requests) == 2
    text = json.dumps(ran.messages, ensure_ascii=False)
    assert "asked again in 1 s" in text
    assert "Rate limit reached" in text


def test_costs_are_listed_by_model_and_effort(kernel: Kernel, simulator: Simulator):
    kernel.run("%%o3\nhi")
    shown = kernel.run("%o3_cost").texts()[0]
    assert "o3-mini" in shown
    assert "SIMULATED" in shown


@pytest.mark.parametrize("option", ["", "--background"])
def test_a_captured_cell_keeps_no_hold_on_the_next(option, kernel: Kernel, simulator: Simulator):
    inner = f"%%capture held\nanswer = get_ipython().run_cell_magic('o3', {option!r}, 'Hi')"
    assert kernel.run(inner).outputs == []
    assert "SIMULATED" in kernel.run("%%o3\nAgain").texts("text/markdown")[0]
    assert kernel.run(f"%%o3 {option}\nAgain").outputs


def test_tier_verbosity_and_parameters_are_set_on_the_line_and_in_settings(kernel, simulator):
    line = '--tier flex --verbosity low --param top_logprobs=2 --param \'metadata={"a": "b c"}\''
    ran = kernel.run(f"%%o3 -m gpt-5.2 -e none {line}\nfour?")
    assert ran.status == "ok"
    body = simulator.requests[-1].body
    assert (body["service_tier"], body["text"]) == ("flex", {"verbosity": "low"})
    assert (body["top_logprobs"], body["metadata"]) == (2, {"a": "b c"})
    shown = kernel.run("%o3_config verbosity=high param='user=\"u\"'").texts()[0]
    assert '{"user":"u"}' in shown
    kernel.run("%%o3 -m gpt-5.2\nfour?")
    body = simulator.requests[-1].body
    assert (body["user"], body["text"]) == ("u", {"verbosity": "high"})
    kernel.run("%o3_config verbosity= param=")
    kernel.run("%%o3\nfour?")
    assert not {"user", "text", "service_tier"} & set(simulator.requests[-1].body)


def test_a_dry_run_shows_the_body_and_no_header(kernel: Kernel, simulator: Simulator):
    ran = kernel.run('%%o3 --dry-run --tier flex --param user="u" -m o3\nfour?')
    [shown] = ran.texts()
    assert '"service_tier": "flex"' in shown
    assert '"user": "u"' in shown
    assert "tier flex" in shown
    assert SECRET not in shown
    assert simulator.requests == []


def test_a_parameter_that_cannot_be_is_one_clear_line(kernel: Kernel, simulator: Simulator):
    ran = kernel.run("%%o3 --param reasoning.mode=pro\nfour?")
    assert ran.status == "error"
    text = "\n".join(ran.error["traceback"])
    assert "--param reasoning.mode=pro: the value is not valid JSON" in text
    assert "'reasoning.mode=\"pro\"'" in text
    ran = kernel.run("%%o3 --param max_tokens=7\nfour?")
    assert "--max-output-tokens" in "\n".join(ran.error["traceback"])
    assert simulator.requests == []


def test_rows_are_mapped_with_all_of_it(kernel: Kernel, simulator: Simulator):
    kernel.run("rows = [{'a': 1}, {'a': 2}]")
    ran = kernel.run('%%o3 --map rows --tier flex --no-store --param user="u"\n{{ a }}')
    assert ran.status == "ok", ran.error
    assert len(simulator.requests) == 2
    for received in simulator.requests:
        body = received.body
        assert (body["service_tier"], body["user"], body["store"]) == ("flex", "u", False)

"""What is billed besides tokens, read as it is: tools the provider ran, a cost it says itself."""

import json
from decimal import Decimal

import pytest

from o3magic.answer_builder import AnswerBuilder
from o3magic.citations import Citation, cited_by, cited_in
from o3magic.events import HostedUse
from o3magic.wire import chat, responses
from o3magic.wire.hosted import count_hosted_tools, parse_cost_header, parse_cost_usd


def searched(kind="search", **more):
    return {"type": "web_search_call", "id": "ws_1", "status": "completed"} | (
        {"action": {"type": kind}} | more
    )


def uses(*output, **more):
    return [tuple(each) for each in count_hosted_tools({"output": [*output], **more})]


def test_searches_count_and_the_opening_of_pages_does_not():
    assert uses(searched(), searched("open_page"), searched("find_in_page"), searched()) == [
        ("web_search", 2)
    ]
    assert uses(searched("open_page")) == []
    assert uses(searched(action=None)) == [("web_search", 1)]  # it may be billed
    assert uses(searched(status="failed")) == []


def test_what_the_provider_says_it_bills_is_the_number():
    said = {"tool_usage": {"web_search": {"num_requests": 3}}}
    assert uses(searched(), **said) == [("web_search", 3)]
    for odd in (0, -1, "3", 1.5, True, None):
        said = {"tool_usage": {"web_search": {"num_requests": odd}}}
        assert uses(searched(), **said) == [("web_search", 1)]


def test_the_tool_of_before_has_prices_of_its_own():
    assert uses(searched(), tools=[{"type": "web_search_preview_2025_03_11"}]) == [
        ("web_search_preview", 1)
    ]
    assert uses(searched(), tools=[{"type": "web_search"}]) == [("web_search", 1)]


@pytest.mark.parametrize(
    "kind",
    ["function_call", "custom_tool_call", "mcp_call", "local_shell_call", "message", "reasoning"],
)
def test_what_the_provider_does_not_run_or_charge_for_is_not_counted(kind):
    assert uses({"type": kind}) == []


def test_other_tools_of_the_provider_are_counted_by_their_type():
    output = [{"type": f"{kind}_call"} for kind in ("file_search", "code_interpreter", "brand_new")]
    assert uses(*output, output[0]) == [
        ("brand_new", 1),
        ("code_interpreter", 1),
        ("file_search", 2),
    ]


@pytest.mark.parametrize(
    "output",
    [
        None,
        "x",
        [None, 3, "web_search_call", {}, {"type": 3}, {"type": "_call"}, {"type": "<b>_call"}],
        [{"type": "x" * 200 + "_call"}],
    ],
)
def test_output_of_any_shape_is_no_tool(output):
    assert count_hosted_tools({"output": output}) == ()


def test_uses_in_words():
    said = [HostedUse("web_search", 1), HostedUse("web_search", 2000), HostedUse("shell", 2)]
    assert [*map(str, said)] == ["1 web search", "2,000 web searches", "2 shell calls"]
    assert str(HostedUse("web_search", None)) == "web searches (number unknown)"


@pytest.mark.parametrize(
    ("written", "cost"),
    [
        ("0.95", "0.95"),
        ("1.4e-05", "0.000014"),
        ("0.0000001", "1E-7"),
        ("3", "3"),
        ("0", "0"),
        ("0.1", "0.1"),
        ("0.056274624999999995", "0.056274624999999995"),
    ],
)
def test_a_cost_is_read_as_it_was_written(written, cost):
    answer = {"id": "c", "choices": [{"message": {"content": "four"}, "finish_reason": "stop"}]}
    body = json.dumps(answer)[:-1] + f', "usage": {{"prompt_tokens": 1, "cost": {written}}}}}'
    [*_, end] = chat.decode(body.encode())
    assert end.said_cost_usd == Decimal(cost)


@pytest.mark.parametrize(
    "cost", [-1, -0.01, float("nan"), float("inf"), 1e30, 10**9, "0.95", True, None, [1], {"a": 1}]
)
def test_a_cost_that_is_none_is_unknown(cost):
    assert parse_cost_usd({"cost": cost}) is None


def test_with_a_key_of_one_s_own_the_model_s_maker_charges_besides():
    own = {"cost": 0.001, "is_byok": True}
    assert parse_cost_usd(own) is None
    assert parse_cost_usd(own | {"cost_details": {"upstream_inference_cost": None}}) is None
    details = {"upstream_inference_cost": 0.02}
    assert parse_cost_usd(own | {"cost_details": details}) == Decimal("0.021")
    assert parse_cost_usd({"cost": 0.5, "is_byok": False, "cost_details": details}) == Decimal(
        "0.5"
    )


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        ("3.45e-05", Decimal("0.0000345")),
        ("0.0012", Decimal("0.0012")),
        *[(each, None) for each in ("0", "0.0", "-1", "nan", "inf", "1e99", "None", "", "x", None)],
    ],
)
def test_a_cost_in_a_header_and_no_zero_which_stands_for_no_price(said, cost):
    assert parse_cost_header(said) == cost


PAGE = {"url": "https://example.org/a", "title": "A", "start_index": 0, "end_index": 4}


def folded(reader, *chunks):
    draft = AnswerBuilder()
    for each in chunks:
        for event in reader.read(each if isinstance(each, bytes) else json.dumps(each).encode()):
            draft.add(event)
    return draft.answer()


def piece(delta, finish=None):
    choice = {"delta": delta, "finish_reason": finish}
    return {"id": "c", "model": "m", "choices": [choice]}


def test_citations_of_a_chat_stream_come_in_any_chunk_and_count_once():
    note = {"type": "url_citation", "url_citation": PAGE}
    other = {"type": "url_citation", "url_citation": {"url": "https://example.org/b"}}
    answer = folded(
        chat.ChatReader(),
        piece({"role": "assistant", "content": "It "}),
        piece({"content": "rains"}),
        piece({"content": "", "annotations": [note]}),
        piece({"annotations": [note, other]}, "stop"),
        b"[DONE]",
    )
    assert answer.text == "It rains"
    assert answer.citations == (
        Citation("https://example.org/a", "A", 0, 4),
        Citation("https://example.org/b"),
    )
    assert answer.hosted == (HostedUse("web_search", None),)


def test_citations_of_a_whole_chat_answer():
    message = {"content": "It rains", "annotations": [{"type": "url_citation"} | PAGE]}
    answer = {"id": "c", "choices": [{"message": message, "finish_reason": "stop"}]}
    [*_, end] = chat.decode(answer)
    assert end.citations == (Citation("https://example.org/a", "A", 0, 4),)


def test_a_chat_answer_that_cites_nothing_has_searched_nothing():
    message = {"content": "x", "annotations": [{"type": "file_citation"}, None, 3]}
    [*_, end] = chat.decode({"choices": [{"message": message, "finish_reason": "stop"}]})
    assert (end.citations, end.hosted) == ((), ())


@pytest.mark.parametrize(
    "said",
    [
        {"url": 3, "title": None, "start_index": "x", "end_index": -1},
        {"url": "x", "title": ["x"], "start_index": True, "end_index": 1.5},
        {},
    ],
)
def test_a_citation_of_any_shape_is_one_with_what_can_be_read(said):
    for found in (
        *cited_by({"annotations": [{"type": "url_citation", "url_citation": said}]}),
        *cited_in(
            [
                {
                    "type": "message",
                    "content": [
                        {
                            "type": "output_text",
                            "annotations": [{"type": "url_citation"} | said],
                        }
                    ],
                }
            ]
        ),
    ):
        assert isinstance(found.url, str)
        assert isinstance(found.title, str)
        assert (found.start, found.end) == (None, None)


def test_a_stream_of_responses_whose_last_snapshot_is_empty_has_searched_all_the_same():
    cited = {
        "type": "output_text",
        "text": "It rains",
        "annotations": [{"type": "url_citation"} | PAGE],
    }
    items = [searched(), {"type": "message", "content": [cited]}]
    done = [
        {"type": "response.output_item.done", "output_index": n, "item": item}
        for n, item in enumerate(items)
    ]
    text = {"type": "response.output_text.delta", "delta": "It rains"}
    end = {"type": "response.completed", "response": {"id": "r", "status": "completed"}}
    answer = folded(responses.ResponsesReader(), text, *done, end)
    assert answer.text == "It rains"
    assert answer.hosted == (HostedUse("web_search", 1),)
    assert answer.citations == (Citation("https://example.org/a", "A", 0, 4),)

"""Lines and objects of the Batch API: whatever they hold, they are read, and nothing is guessed."""

import json

import pytest

from o3magic.errors import (
    BatchUnfinished,
    BrokenAnswer,
    ContentFiltered,
    O3Error,
    ProviderDown,
    RateLimited,
    RequestRefused,
)
from o3magic.wire.batch import build_batch_line, parse_batch_line, parse_batch_state

BODY = {"id": "resp_1", "output": []}


def said(response=None, error=None, custom_id="a"):
    return json.dumps({"custom_id": custom_id, "response": response, "error": error}).encode()


def refused(status, **error):
    return said({"status_code": status, "request_id": "req_9", "body": {"error": error}})


def test_a_line_has_no_stream():
    body = {"model": "o3", "input": [], "stream": True, "stream_options": {"include_usage": True}}
    assert build_batch_line("a", body, "/v1/responses") == {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/responses",
        "body": {"model": "o3", "input": []},
    }


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b" "])
@pytest.mark.parametrize("after", [b"", b"\n", b"\r\n"])
def test_an_answer_is_its_body(before, after):
    found = parse_batch_line(before + said({"status_code": 200, "body": BODY}) + after)
    assert (found.id, found.body, found.failed) == ("a", BODY, None)


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (refused(429, code="rate_limit_exceeded", message="Slow."), RateLimited, "Slow"),
        (refused(400, code="content_filter", message="No."), ContentFiltered, "No"),
        (refused(500, message="Oops."), ProviderDown, "Oops"),
        (said({"status_code": 400, "body": "a page"}), RequestRefused, "a page"),
        (said({"status_code": 400, "body": None}), RequestRefused, "no reason given"),
        (said(None, {"code": "batch_expired", "message": "x"}), BatchUnfinished, "expired"),
        (said(None, {"code": "batch_cancelled", "message": "x"}), BatchUnfinished, "cancelled"),
        (said(None, {"code": "other", "message": "Why not."}), O3Error, "Why not"),
        (said({"status_code": "200", "body": BODY}), O3Error, "no reason given"),
        (said({"status_code": True, "body": BODY}), O3Error, "no reason given"),
        (said(None, None), O3Error, "no reason given"),
        (said({"status_code": 200, "body": BODY}, {"message": "Both."}), O3Error, "Both"),
    ],
)
def test_a_failure_is_what_it_would_be_by_itself(raw, kind, words):
    found = parse_batch_line(raw)
    assert found.body is None
    assert isinstance(found.failed, kind)
    assert words in str(found.failed)


def test_what_was_never_run_is_not_charged_for():
    assert parse_batch_line(said(None, {"code": "batch_expired"})).failed.billed is False


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"7", b"\xff\xfe"])
def test_a_line_that_is_none_is_told(raw):
    with pytest.raises(BrokenAnswer):
        parse_batch_line(raw)


def test_a_recorded_line_that_expired(shared_api):
    cases = json.loads((shared_api / "errors.json").read_text("utf-8"))
    cases = cases if isinstance(cases, list) else cases["cases"]
    bodies = {case["id"]: case["body"] for case in cases}
    found = parse_batch_line(json.dumps(bodies["batch_expired_line"]).encode())
    assert (found.id, type(found.failed)) == ("request-3", BatchUnfinished)
    made = {"id": "batch_1", "status": "failed", **bodies["batch_failed_enqueued"]}
    assert "Enqueued token limit reached" in parse_batch_state(made).errors[0]


def test_nulls_are_no_files_and_no_counts():
    nulls = ("output_file_id", "error_file_id", "errors", "request_counts", "usage", "metadata")
    found = parse_batch_state({"id": "batch_1", "status": "validating", **dict.fromkeys(nulls)})
    assert (found.output_file, found.error_file, found.errors) == ("", "", ())
    assert (found.total, found.completed, found.failed) == (None, None, None)
    assert (found.usage, found.over) == (None, False)


def test_a_batch_says_how_it_stands():
    errors = {"data": [{"message": "Bad.", "line": 3}, {"code": "empty_file"}, {}, "odd"]}
    counts = {"total": 9, "completed": 7, "failed": 2}
    usage = {"input_tokens": 5, "output_tokens": 6}
    more = {"errors": errors, "request_counts": counts, "usage": usage, "created_at": 12}
    found = parse_batch_state(json.dumps({"id": "b", "status": "expired", **more}).encode())
    assert found.errors == ("line 3: Bad.", "empty_file", "no reason given")
    assert (found.total, found.completed, found.failed) == (9, 7, 2)
    assert (found.usage.input_tokens, found.usage.output_tokens) == (5, 6)
    assert (found.created_s, found.over) == (12, True)


@pytest.mark.parametrize("document", [b"[]", b"no", {}, {"id": "b"}, {"status": "failed"}])
def test_what_is_no_batch_is_told(document):
    with pytest.raises(BrokenAnswer):
        parse_batch_state(document)

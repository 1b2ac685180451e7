"""What a provider's refusal means: by status and code, without keys, whatever the body is."""

import json
import random
import time

import pytest

from o3magic import errors
from o3magic.redaction import redact
from o3magic.wire.errors import build_error, summarize_page

CASES = {
    "invalid_key": errors.WrongKey,
    "model_not_found_chat": errors.ModelNotFound,
    "model_not_found_responses": errors.ModelNotFound,
    "model_shut_down": errors.ModelRetired,
    "azure_deployment_not_found": errors.ModelNotFound,
    "insufficient_quota": errors.QuotaExhausted,
    "credit_exhausted_in_stream": errors.QuotaExhausted,
    "rate_limit_tpm": errors.RateLimited,
    "request_too_large_tpm": errors.TooLarge,
    "rate_limit_in_stream": errors.RateLimited,
    "flex_unavailable": errors.RateLimited,
    "context_length_chat": errors.TooLarge,
    "unsupported_parameter": errors.RequestRefused,
    "max_tokens": errors.RequestRefused,
    "temperature": errors.RequestRefused,
    "unsupported_value_role": errors.RequestRefused,
    "unverified_org_summary": errors.RequestRefused,
    "bad_range": errors.RequestRefused,
    "reasoning_item_orphan": errors.RequestRefused,
    "invalid_json_schema_responses": errors.RequestRefused,
    "invalid_json_schema_chat": errors.RequestRefused,
    "invalid_function_parameters": errors.RequestRefused,
    "azure_content_filter_prompt": errors.ContentFiltered,
    "openrouter_429": errors.RateLimited,
    "litellm_proxy_400": errors.RequestRefused,
    "groq_error_in_stream": errors.RequestRefused,
    "overloaded": errors.ProviderDown,
    "html_gateway": errors.ProviderDown,
}
# Answers that are none of ours to classify: a filtered choice, and lines of batch files.
OTHERS = {"azure_content_filter_completion", "batch_expired_line", "batch_failed_enqueued"}
PASSING = (errors.RateLimited, errors.ProviderDown)


@pytest.fixture
def cases(shared_api):
    """The known refusals by their names."""
    listed = json.loads((shared_api / "errors.json").read_text("utf-8"))["cases"]
    return {case["id"]: case for case in listed}


def body_of(case):
    body = case["body"]
    if body is None or isinstance(body, str):
        return (body or "").encode()
    return json.dumps(body, ensure_ascii=False).encode()


def error(status=400, **fields):
    return build_error(status, json.dumps({"error": fields}).encode())


def test_every_known_refusal_is_classified(cases):
    assert set(cases) == set(CASES) | OTHERS
    for name, kind in CASES.items():
        case = cases[name]
        found = build_error(None if case.get("sse") else case["status"], body_of(case))
        assert type(found) is kind, name
        assert found.hint, name
        assert str(found), name


def test_what_is_worth_another_attempt_is_what_passes_by_itself(cases):
    for name, kind in CASES.items():
        assert issubclass(kind, PASSING) == (cases[name]["retry"] is True), name


def test_a_refusal_in_a_stream_is_the_same_as_an_object_and_as_bytes(cases):
    for name, kind in CASES.items():
        case = cases[name]
        if case.get("sse"):
            found = build_error(None, case["body"])
            assert type(found) is kind
            assert found.lines() == build_error(None, body_of(case)).lines()
            assert type(build_error(200, case["body"])) is kind


def test_recorded_refusals_are_classified(recorded):
    for name, status, kind in (
        ("err_400_o1mini_developer_role.json", 400, errors.RequestRefused),
        ("err_400_reasoning_item_without_following.json", 400, errors.RequestRefused),
        ("err_400_responses_model_not_found.json", 400, errors.ModelNotFound),
        ("err_404_azure_deployment.json", 404, errors.ModelNotFound),
        ("err_404_chat_model_not_found.json", 404, errors.ModelNotFound),
        ("err_429_openrouter.json", 429, errors.RateLimited),
        ("azure_prompt_filter_error_in_200.json", 200, errors.ContentFiltered),
    ):
        assert type(build_error(status, json.dumps(recorded(name)).encode())) is kind, name


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.RequestRefused),
        (401, errors.WrongKey),
        (403, errors.NoAccess),
        (404, errors.RequestRefused),
        (408, errors.ProviderDown),
        (413, errors.TooLarge),
        (418, errors.RequestRefused),
        (422, errors.RequestRefused),
        (429, errors.RateLimited),
        (500, errors.ProviderDown),
        (502, errors.ProviderDown),
        (503, errors.ProviderDown),
        (529, errors.ProviderDown),
        (599, errors.ProviderDown),
        (None, errors.ProviderDown),
        (200, errors.ProviderDown),
    ],
)
def test_without_a_code_the_status_decides(status, kind):
    for body in (b"", b"{}", b'{"error": {"code": null}}', b"<p>no</p>", b"[1]"):
        assert type(build_error(status, body)) is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("429", errors.RateLimited),
        (503, errors.ProviderDown),
        ("401", errors.WrongKey),
        (400, errors.RequestRefused),
        ("what", errors.ProviderDown),
        ("invalid_prompt", errors.RequestRefused),
        (True, errors.ProviderDown),
        (10**20, errors.ProviderDown),
        ("४२९", errors.RateLimited),
    ],
)
def test_in_a_stream_the_code_may_be_the_status(code, kind):
    assert type(build_error(None, {"error": {"code": code}})) is kind


def test_the_kind_counts_where_there_is_no_code():
    assert type(error(429, type="insufficient_quota")) is errors.QuotaExhausted
    assert (
        type(build_error(None, {"error": {"type": "invalid_request_error"}}))
        is errors.RequestRefused
    )


def test_words_decide_nothing_but_a_shut_down_model_and_a_request_too_large():
    tempting = "invalid_api_key insufficient_quota rate limit deprecated Request too large"
    assert type(error(400, message=tempting)) is errors.RequestRefused
    assert type(error(429, message=tempting)) is errors.RateLimited
    gone = "The model `x` has been deprecated"
    assert type(error(404, message=gone, code="model_not_found")) is errors.ModelRetired
    assert type(error(404, message=gone)) is errors.RequestRefused


def test_what_the_provider_said_is_kept():
    found = build_error(
        404,
        b'{"error": {"message": "No such thing.", "code": "model_not_found", "param": "model"}}',
        "req_a4ba0f8d71d8e0d57bca81130a694553",
    )
    assert str(found) == "No such thing (HTTP 404)"
    assert (found.status, found.code, found.param) == (404, "model_not_found", "model")
    assert found.request_id == "req_a4ba0f8d71d8e0d57bca81130a694553"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "plain"}}', "plain"),
        (b'{"error": "plain"}', "plain"),
        (b'{"detail": "plain"}', "plain"),
        (b'{"detail": [{"loc": ["body"], "msg": "plain"}]}', "plain"),
        (b'{"object": "error", "message": "plain"}', "plain"),
        (b'{"type": "error", "message": "plain"}', "plain"),
        (b'{"message": "plain"}', "plain"),
        (b'{"error": {"type": "plain"}}', "plain"),
        (b'{"error": {"message": {"deep": "plain"}}}', "plain"),
        (b"plain", "plain"),
        (b'"plain"', "plain"),
        (b'{"Message": "plain"}', "plain"),
        (b'[{"error": {"code": 400, "message": "plain"}}]', "plain"),
        (b'[{}, {"detail": "plain"}]', "plain"),
        (b'{"code": 1210, "msg": "plain"}', "plain"),
        (b"<html><body><h1>plain</h1></body></html>", "plain"),
        (b"", "an empty answer"),
        (b"  \n", "an empty answer"),
        (b"{}", "{}"),
        (b'{"error": {}}', '{"error": {}}'),
        (b'{"error": {"message": " . "}}', "no reason given"),
        (b'{"error": {"message": null}}', "no reason given"),
    ],
)
def test_the_words_are_found_in_any_shape_of_body(body, words):
    assert words in str(build_error(400, body))


def test_a_page_is_summarised_without_its_scripts_and_tags():
    page = (
        b"<!DOCTYPE html><html><head><style>h1 {color: red}</style><script>alert(1)</script>"
        b"<title>502 Bad Gateway</title></head><body onload='x()'><center><h1>502 Bad Gateway"
        b"</h1></center><hr>nginx<SCRIPT type=x>more()</SCRIPT></body></html>"
    )
    said = str(build_error(502, page))
    assert said == "502 Bad Gateway 502 Bad Gateway nginx (HTTP 502)"
    assert summarize_page("<script>never closed alert(1)") == ""


def test_a_hint_is_closer_where_the_refusal_says_more():
    assert "--summary" in error(400, code="unsupported_value", param="reasoning.summary").hint
    assert "--effort" in error(400, code="unsupported_value", param="reasoning_effort").hint
    assert "--effort" in error(400, code="unsupported_value", param="reasoning.effort").hint
    assert "deployment" in error(404, code="DeploymentNotFound").hint


# Keys and other secrets

SECRETS = [
    "sk-abcdefghijklmnopqrstuvwx",
    "sk-proj-abc_DEF-123456789012345678901234567890",
    "sk-wrong****-key",
    "sk-...wxyz",
    "sk-ab…yz",
    "sk-svcacct-AAAA1111",
    "sk-ant-api03-AAAAAAAA-BBBB",
    "sk-or-v1-0123456789abcdef",
    "sess-0123456789abcdef",
    "rk-0123456789",
    "gsk_0123456789abcdefABCDEF",
    "xai-0123456789abcdefABCDEF",
    "hf_0123456789abcdefABCDEF",
    "nvapi-0123456789abcdefABCDEF",
    "AIzaSyA0123456789abcdefABCDEF",
    "ghp_0123456789abcdefABCDEF",
    "github_pat_0123456789abcdefABCDEF",
    "glpat-0123456789abcdefABCDEF",
    "xoxb-0123456789-abcdefABCDEF",
    "AKIA0123456789ABCDEF",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "0123456789abcdef0123456789abcdef",
    "8FqPzUoRkYwNsTbVxCaEgHiJlMnOpQrStUvWxYz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh",
    "my-secre*********-123",
    "abcd***********************wxyz",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "said",
    [
        "Incorrect API key provided: {}. You can find your keys on the site.",
        "the token {} is wrong",
        "({})",
        '{{"key": "{}"}}',
        "{}",
        "Bearer {}",
        "https://h.example/?key={}&a=1",
    ],
)
def test_a_key_in_a_server_s_words_is_not_shown(secret, said):
    for found in (
        redact(said.format(secret)),
        str(error(401, message=said.format(secret), code="invalid_api_key")),
        str(build_error(500, f"<p>{said.format(secret)}</p>".encode())),
        str(build_error(400, b'{"error": {}}', said.format(secret)).request_id),
    ):
        assert "[key]" in found
        assert secret not in found
        assert not any(
            part in found for part in secret.replace("…", "*").split("*") if len(part) > 3
        )


@pytest.mark.parametrize(
    "said",
    [
        "Authorization: Bearer hunter2hunter2",
        "authorization: bearer hunter2hunter2",
        "AUTHORIZATION: BEARER hunter2hunter2",
        "Incorrect API key provided: hunter2hunter2",
        "api_key=hunter2hunter2&x=1",
        "api-key: hunter2hunter2",
        '{"apiKey": "hunter2hunter2"}',
        "http://me:hunter2hunter2@h.example/v1",
    ],
)
def test_a_key_of_any_form_is_not_shown_where_it_is_called_one(said):
    assert "hunter2" not in redact(said)
    assert "[key]" in redact(said)


@pytest.mark.parametrize(
    "said",
    [
        "Item 'rs_68c42de022c881948db7ed1cc2529f2e0202c9ad459e0d23' of type 'reasoning'",
        "No tool output found for function call call_F3bV7pLkZ0JkqIbv1Yc0QxGh.",
        "The model `gpt-5.2-proo` does not exist or you do not have access to it.",
        "Rate limit reached for o4-mini on tokens per min (TPM): Limit 200000, Used 162960.",
        "Please try again in 6m0s. Visit https://platform.openai.com/account/rate-limits.",
        "Invalid 'max_output_tokens': integer below minimum value. Expected >= 16, got 1.",
        "the task-force said: risk-free, disk-based, 3*4 and **bold** words",
        "request 123e4567-e89b-12d3-a456-426614174000 failed",
        "You must provide an API key.",
    ],
)
def test_words_that_hold_no_key_stay_as_they_are(said):
    assert redact(said) == said


def test_text_of_a_server_is_one_line_of_printable_words_and_not_endless():
    said = redact("a\x1b[31mb\r\nc\u202ed\u2028e\tf\x00" + " word" * 100_000)
    assert said.startswith("a [31mb c d e f word")
    assert len(said) == 500
    assert said.endswith("…")
    assert said.isprintable()


# Any body


def test_any_json_as_a_body_never_raises():
    names = ["error", "detail", "message", "code", "type", "param", "object", "status", "errors"]
    leaves = [
        None,
        True,
        False,
        0,
        -1,
        1.5,
        10**4000,
        "",
        "x",
        "429",
        "error",
        "\x00\ud800",
        {},
        [],
    ]

    def value(depth):
        choice = draw.randrange(3 if depth else 1)
        size = range(draw.randrange(4))
        if choice == 0:
            return draw.choice(leaves)
        if choice == 1:
            return [value(depth - 1) for _ in size]
        return {draw.choice(names): value(depth - 1) for _ in size}

    draw = random.Random(17)
    for _ in range(5000):
        made = value(4)
        status = draw.choice([None, 0, 200, 204, 302, 400, 401, 404, 429, 500, 999, -1])
        bodies = [json.dumps(made).encode(), json.dumps(made)[: draw.randrange(50)].encode()]
        for body in [*bodies, made] if isinstance(made, dict) else bodies:
            found = build_error(status, body, draw.choice([None, "", "x" * 999]))
            assert isinstance(found, errors.RequestFailed)
            assert 0 < len(str(found)) < 600
            assert all(line.isprintable() for line in found.lines())


def test_any_bytes_as_a_body_never_raise():
    draw = random.Random(19)
    for _ in range(2000):
        body = draw.randbytes(draw.randrange(300))
        assert isinstance(build_error(draw.choice([400, 500]), body), errors.RequestFailed)
    for body in (b"[" * 100_000, b'{"error":' * 50_000, b'{"code": ' + b"9" * 100_000 + b"}"):
        assert isinstance(build_error(400, body), errors.RequestFailed)


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<script",
        "<script>",
        "<style",
        "sk-",
        "eyJaaaaaaaa",
        "a",
        "a.",
        "***",
        "*",
        "://",
        "://a",
        "0",
        "api_key=",
        '"',
        "<a>",
        "é",
        "ghp_",
    ],
)
def test_time_does_not_grow_with_a_hostile_body(piece):
    def seconds(count):
        began = time.process_time()
        build_error(500, (piece * count).encode())
        build_error(500, json.dumps({"error": {"message": piece * count}}).encode())
        return time.process_time() - began

    assert min(seconds(100_000) for _ in range(3)) < 0.25

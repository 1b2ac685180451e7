"""Hostile input: whatever comes, it ends in events or in one of our errors, and soon."""

import copy
import gzip
import itertools
import json
import tempfile
import time
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, configuration, given, settings
from hypothesis import strategies as st

from o3magic.answer_builder import AnswerBuilder
from o3magic.client.response_stream import decompress, limit_bytes
from o3magic.client.retry import parse_retry_after_s
from o3magic.errors import BrokenAnswer, NotStrict, RequestFailed
from o3magic.events import ToolCallDelta
from o3magic.redaction import MOST_CHARS, redact
from o3magic.wire.dialects import DIALECTS
from o3magic.wire.errors import build_error
from o3magic.wire.sse import Decoder
from o3magic.wire.strict_schema import make_strict_schema

# What it remembers of the modules it saw is kept out of the folder the tests are run from.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "o3magic-hypothesis")
# The same examples in every run: what fails here fails everywhere.
steady = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

BOTH = pytest.mark.parametrize("api", ["responses", "chat"])

LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "stop", "message", "function_call", "completed", "error", "[DONE]"])
)


def json_of(names, leaf=LEAF, most=12):
    """Any JSON whose objects have these names."""
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(names) | st.text(max_size=3), inner, max_size=6)
        ),
        max_leaves=most,
    )


KINDS = [
    *("response.created", "response.output_item.added", "response.output_text.delta"),
    *("response.function_call_arguments.delta", "response.refusal.delta", "response.failed"),
    *("response.reasoning_summary_part.added", "response.reasoning_summary_text.delta"),
    *("response.completed", "response.incomplete", "error", "keepalive"),
]
NAMES = {
    "responses": [
        *("type", "response", "item", "delta", "output_index", "output", "content", "text", "id"),
        *("call_id", "name", "arguments", "usage", "input_tokens", "status", "summary", "error"),
        *("incomplete_details", "reason", "refusal", "model", "input_tokens_details", "code"),
    ],
    "chat": [
        *("id", "model", "choices", "delta", "message", "content", "finish_reason", "tool_calls"),
        *("index", "function", "name", "arguments", "usage", "prompt_tokens", "error", "type"),
        *("reasoning", "reasoning_details", "refusal", "service_tier", "detail", "object"),
    ],
}


def frames_of(api):
    """Frames that look like those of an API, and frames that do not."""
    values = json_of(NAMES[api])
    objects = st.dictionaries(st.sampled_from(NAMES[api]), values, max_size=8)
    likely = st.builds(lambda kind, more: more | {"type": kind}, st.sampled_from(KINDS), objects)
    said = st.one_of(likely, objects, values).map(lambda value: json.dumps(value).encode())
    return st.one_of(said, st.binary(max_size=30), st.just(b"[DONE]"))


# The stream of bytes

SSE_BYTES = st.lists(
    st.sampled_from(
        [
            *(b"data:", b"data: ", b"data", b"\n", b"\r", b"\r\n", b"\n\n", b":", b"event: x"),
            *(b"{}", b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xe2\x80\xa8", b"\x00", b" "),
        ]
    )
    | st.binary(max_size=6),
    max_size=40,
).map(b"".join)


def decoded(chunks):
    decoder = Decoder()
    found = [data for chunk in chunks for data in decoder.feed(chunk)]
    return found + decoder.close()


@steady
@given(SSE_BYTES, st.lists(st.integers(0, 240), max_size=12))
def test_any_bytes_cut_anywhere_are_the_same_events(stream, cuts):
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert decoded(chunks) == decoded([stream])
    assert decoded(stream[i : i + 1] for i in range(len(stream))) == decoded([stream])


@pytest.mark.parametrize("piece", [b"\n", b"\r", b"data:", b"data: x\n", b":\r\n\r\n", b"\xef\xbb"])
@pytest.mark.parametrize("size", [1, 1000])
def test_time_grows_no_faster_than_the_bytes(piece, size):
    def seconds(count):
        decoder, stream = Decoder(), piece * count
        began = time.perf_counter()
        for start in range(0, len(stream), size):
            decoder.feed(stream[start : start + size])
        decoder.close()
        return time.perf_counter() - began

    short = min(seconds(5_000) for _ in range(3))
    assert seconds(40_000) < 8 * short * 6 + 0.1  # a square would be 64 times


# Events and answers


@BOTH
def test_any_frames_are_events_or_one_of_our_errors(api):
    @steady
    @given(st.lists(frames_of(api), max_size=8))
    def check(frames):
        reader, draft = DIALECTS[api].reader(), AnswerBuilder()
        with suppress(RequestFailed):
            for frame in frames:
                for event in reader.read(frame):
                    draft.add(event)
            for event in reader.close():
                draft.add(event)
        answer = draft.answer()
        assert isinstance(answer.text + answer.refusal + answer.reasoning_summary, str)

    check()


@BOTH
def test_any_document_is_an_answer_or_one_of_our_errors(api):
    values = json_of(NAMES[api], most=20)
    top = {"responses": "output", "chat": "choices"}[api]
    likely = st.builds(
        lambda inner, more: more | {top: inner},
        values,
        st.dictionaries(st.sampled_from(NAMES[api]), values, max_size=8),
    )

    @steady
    @given(st.one_of(values, likely))
    def check(value):
        for data in (json.dumps(value).encode(), value):
            if not isinstance(data, bytes | dict):
                continue
            draft = AnswerBuilder()
            with suppress(RequestFailed):
                for event in DIALECTS[api].decode(data):
                    draft.add(event)
            draft.answer()

    check()


@BOTH
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"output":[', b'{"choices":[{"delta":'])
def test_json_of_any_depth_is_one_of_our_errors(api, opening):
    for depth in (100, 100_000):
        for read in (DIALECTS[api].reader().read, lambda d: list(DIALECTS[api].decode(d))):
            with pytest.raises(RequestFailed):
                read(opening * depth)
        assert str(build_error(500, opening * depth))


def test_a_call_s_arguments_in_many_pieces_take_no_minute():
    draft, began = AnswerBuilder(), time.perf_counter()
    for _ in range(200_000):
        draft.add(ToolCallDelta(0, "", "", "x" * 100))
    assert len(draft.answer().tool_calls[0].arguments) == 20_000_000
    assert time.perf_counter() - began < 10


# Refusals

ERROR_NAMES = ["error", "code", "message", "type", "param", "detail", "object", "status"]


@steady
@given(
    st.one_of(st.none(), st.integers(-1, 1000)),
    st.one_of(
        json_of(ERROR_NAMES).map(lambda value: json.dumps(value).encode()),
        json_of(ERROR_NAMES).filter(lambda value: isinstance(value, dict)),
        st.binary(max_size=200),
        st.text(max_size=100).map(lambda text: f"<p>{text}</p>".encode("utf-8", "replace")),
    ),
    st.one_of(st.none(), st.text(max_size=20)),
)
def test_any_refusal_is_one_short_error(status, body, request_id):
    error = build_error(status, body, request_id)
    assert isinstance(error, RequestFailed)
    for line in error.lines():
        assert len(line) < 2 * MOST_CHARS
        assert line.isprintable()


@steady
@given(st.text() | st.text("sk-eyJ.*=: /@\"'abcdef0123456789", max_size=200))
def test_any_text_is_shown_on_one_line_and_not_endlessly(text):
    shown = redact(text)
    assert len(shown) <= MOST_CHARS
    assert not set(shown) & set("\x00\x1b\n\r\t\u202e")


@pytest.mark.parametrize("piece", ["sk-", "eyJa.", "*", "a.", "api key: ", "bearer  ", "://a", "<"])
def test_a_long_text_is_redacted_soon(piece):
    began = time.perf_counter()
    redact(piece * 100_000)
    build_error(500, (piece * 100_000).encode())
    assert time.perf_counter() - began < 2


SECRETS = st.sampled_from(["sk-", "sk-proj-", "ghp_", "xai-", "hf_", "Bearer ", "api_key="])


@steady
@given(SECRETS, st.text("abcdefgh0123456789", min_size=20, max_size=40), st.text(" .,:;()'\"\n"))
def test_a_key_between_any_signs_is_not_shown(prefix, secret, around):
    assert secret not in redact(f"Wrong {around}{prefix}{secret}{around} key")


@steady
@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text(max_size=20)))
def test_any_wait_is_a_number_or_none(headers):
    found = parse_retry_after_s(headers)
    assert found is None or found >= 0


# Compression and size


@steady
@given(st.lists(st.binary(max_size=30), max_size=8), st.sampled_from(["gzip", "deflate", "br", ""]))
def test_any_bytes_are_unpacked_or_broken(chunks, encoding):
    try:
        found = b"".join(decompress(chunks, encoding))
    except BrokenAnswer:
        return
    assert encoding in ("gzip", "deflate") or found == b"".join(chunks)


@steady
@given(st.binary(max_size=400), st.integers(1, 50), st.booleans(), st.data())
def test_what_was_packed_is_unpacked_and_what_was_cut_is_broken(data, size, zipped, draw):
    packed = gzip.compress(data) if zipped else zlib.compress(data)
    name = "gzip" if zipped else "deflate"
    cut = draw.draw(st.integers(0, len(packed)))

    def pieces(said):
        return [said[i : i + size] for i in range(0, len(said), size)]

    assert b"".join(decompress(pieces(packed), name)) == data
    if cut == len(packed):
        return
    with pytest.raises(BrokenAnswer):
        list(decompress(pieces(packed[:cut]), name))


@steady
@given(st.lists(st.binary(max_size=20), max_size=10), st.integers(0, 100))
def test_never_more_is_handed_on_than_allowed(chunks, most):
    found, whole = [], True
    try:
        found.extend(limit_bytes(chunks, most))
    except BrokenAnswer:
        whole = False
    assert sum(map(len, found)) <= most
    assert whole == (sum(map(len, chunks)) <= most)


# Schemas

WORDS = ["a", "b", "type", "x/y", "~", ""]
REFS = [*(f"#/$defs/{name}" for name in ("A", "B", "none")), "#", "other.json", ""]
TYPES = ["object", "array", "string", "number", "integer", "boolean", "null", "odd"]
COUNT = st.integers(-1, 5)


def nodes(inner):
    """Schemas as people write them, wrong ones among them, over smaller ones."""
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), max_size=3),
            "properties": st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
            "required": st.lists(st.sampled_from(WORDS), max_size=3),
            "items": inner,
            "prefixItems": st.lists(inner, max_size=2),
            "anyOf": st.lists(inner, max_size=3),
            "oneOf": st.lists(inner, max_size=2),
            "allOf": st.lists(inner, max_size=2),
            "enum": st.lists(LEAF, max_size=4),
            "const": LEAF,
            "default": LEAF,
            "$ref": st.sampled_from(REFS),
            "additionalProperties": st.booleans() | inner,
            "patternProperties": st.dictionaries(st.just("^a"), inner, max_size=1),
            "description": st.text(max_size=5),
            "title": st.text(max_size=5),
            "format": st.sampled_from(["date", "uri", "odd"]),
            "pattern": st.sampled_from(["^a$", "(?=a)", "("]),
            "minLength": COUNT,
            "maxItems": COUNT,
            "minimum": COUNT,
            "discriminator": st.fixed_dictionaries({"propertyName": st.sampled_from(WORDS)}),
            "not": inner,
        },
    )


def few(keywords):
    """No more than five keywords at once: a schema of all of them is refused too soon."""
    return keywords.map(lambda node: dict(list(node.items())[:5]))


SCHEMA = st.recursive(
    few(nodes(st.just({"type": "string"}))), lambda s: few(nodes(s)), max_leaves=6
)
KEYWORDS = [*TYPES[:2], "properties", "required", "items", "anyOf", "allOf", "enum", "$ref", "type"]
KEYWORDS += ["prefixItems", "additionalProperties", "pattern", "minimum", "discriminator", "title"]
KEYWORDS += ["$defs", "const", "format", "description", "oneOf", "default", "minLength"]


def made_strict(schema):
    before, strict, why = copy.deepcopy(schema), None, NotStrict("")
    try:
        strict = make_strict_schema(schema)
    except NotStrict as refused:
        why = refused
    assert (str(why) != "") == (strict is None)
    assert why.path == "" or why.path.startswith("/")
    assert repr(schema) == repr(before)  # repr: nan is not equal to itself
    return strict


def every(node):
    """All objects in a strict schema."""
    if isinstance(node, dict):
        yield node
        for part in (*node.get("properties", {}).values(), *node.get("$defs", {}).values()):
            yield from every(part)
        for part in (node.get("items"), *node.get("anyOf", ())):
            yield from every(part)


@steady
@given(SCHEMA, st.dictionaries(st.sampled_from(["A", "B"]), SCHEMA, max_size=2), st.booleans())
def test_any_schema_becomes_strict_or_is_refused(schema, defs, wrapped):
    whole = {"type": "object", "properties": {"it": schema}} if wrapped else dict(schema)
    strict = made_strict({**whole, "$defs": defs})
    for node in every(strict):
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == [*node["properties"]]
        assert not node.keys() & {"default", "oneOf", "allOf", "not", "patternProperties"}


@steady
@given(json_of(KEYWORDS, LEAF | st.sampled_from([*TYPES, *REFS]), 15))
def test_anything_said_to_be_a_schema_becomes_strict_or_is_refused(said):
    made_strict({"type": "object", "properties": {"it": said}})
    if isinstance(said, dict):
        made_strict(said)
        made_strict({"type": "object", "properties": {"it": {"$ref": "#/$defs/A"}}, "$defs": said})


@pytest.mark.parametrize("keyword", ["properties", "items", "anyOf", "allOf"])
def test_a_schema_of_any_depth_becomes_strict_or_is_refused(keyword):
    schema = {"type": "string"}
    for _ in range(5000):
        inner = {"a": schema} if keyword == "properties" else schema
        schema = {keyword: [inner] if keyword.endswith("Of") else inner}
    with pytest.raises(NotStrict, match="deep"):
        make_strict_schema({"type": "object", "properties": {"it": schema}})

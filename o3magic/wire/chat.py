"""The Chat Completions API: encode requests, decode answers and stream chunks.

Source: OpenAI's API specification of 2026-08-21, Azure's documentation and recorded streams of
OpenAI, Azure, OpenRouter, llama.cpp and vLLM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic_core import SchemaValidator, ValidationError, from_json, to_json
from pydantic_core.core_schema import (
    list_schema,
    none_schema,
    str_schema,
    typed_dict_field,
    typed_dict_schema,
)

from o3magic.citations import Citation, cited_by
from o3magic.errors import BrokenAnswer, RequestFailed
from o3magic.events import (
    Event,
    Finished,
    FinishReason,
    HostedUse,
    KeepAlive,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from o3magic.messages import (
    REASONING_CONTENT,
    AnswerSchema,
    Image,
    Message,
    Part,
    Raw,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from o3magic.params import with_params
from o3magic.redaction import redact
from o3magic.wire.errors import build_error, find_error
from o3magic.wire.hosted import parse_cost_usd
from o3magic.wire.json_access import get_count, get_object, get_text, iter_objects, load_object
from o3magic.wire.usage import parse_usage

PATH = "/chat/completions"

# Validates a chunk that holds only text, without making Python objects of the rest.
MORE_TEXT = SchemaValidator(
    typed_dict_schema(
        {
            "choices": typed_dict_field(
                list_schema(
                    typed_dict_schema(
                        {
                            "delta": typed_dict_field(
                                typed_dict_schema(
                                    {"content": typed_dict_field(str_schema(min_length=1))},
                                    extra_behavior="forbid",
                                )
                            ),
                            "finish_reason": typed_dict_field(none_schema(), required=False),
                        }
                    ),
                    min_length=1,
                )
            ),
            "error": typed_dict_field(none_schema(), required=False),
        }
    )
)

# Finish reasons of the servers and gateways seen, compared without case.
ENDS: Mapping[FinishReason, Sequence[str]] = {
    "stop": ("", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "completed"),
    "length": (
        *("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_length"),
        *("model_length", "model_context_window_exceeded", "context_length_exceeded"),
    ),
    "tool_calls": ("tool_calls", "tool_call", "tool_use", "function_call"),
    "content_filter": (
        *("content_filter", "content_filtered", "safety", "image_safety", "recitation", "spii"),
        *("blocklist", "prohibited_content", "guardrail_intervened", "sensitive", "refusal"),
    ),
    "error": (
        *("error", "abort", "aborted", "cancelled", "canceled", "failed", "network_error"),
        *("insufficient_system_resource", "malformed_function_call", "other"),
    ),
}
FINISH: Mapping[str, FinishReason] = {said: end for end, words in ENDS.items() for said in words}


def encode(request: Request) -> dict[str, Any]:
    """Build the body of a request, without fields that were not set."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [
            turn
            for message in request.messages
            for turn in encode_message(message, echo_reasoning=request.echo_reasoning)
        ],
        "stream": request.stream,
    }
    if request.stream and request.stream_usage:
        body["stream_options"] = {"include_usage": True}
    if request.effort is not None:
        body["reasoning_effort"] = request.effort
    if request.max_output_tokens is not None:
        # OpenAI's reasoning models refuse `max_tokens`; some gateways accept nothing else.
        body[request.max_tokens_word] = request.max_output_tokens
    if request.answer_schema is not None:
        body["response_format"] = response_format(request.answer_schema)
    # Hosted tools were refused before (tools.toolbox).
    if functions := [encode_tool(turn) for turn in request.tools if isinstance(turn, Tool)]:
        body["tools"] = functions
    if request.verbosity is not None:
        body["verbosity"] = request.verbosity
    if request.tier is not None:
        body["service_tier"] = request.tier
    body |= request.options
    return with_params(body, request) if request.params else body


def response_format(wanted: AnswerSchema) -> dict[str, Any]:
    """The response format of a schema: nested here, flat in Responses."""
    if wanted.by_instruction:
        return {"type": "json_object"}
    inner = {"name": wanted.name, "schema": dict(wanted.schema), "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": inner}


def encode_message(message: Message, *, echo_reasoning: bool = False) -> Iterator[dict[str, Any]]:
    """Yield Chat messages: calls are in the assistant's, each result is its own.

    echo_reasoning: DeepSeek's thinking mode wants the reasoning of a tool call back, and says so in
    a 400; other servers refuse the field. Source: DeepSeek's API documentation (2026-11).
    """
    content_parts = [part for part in message.parts if isinstance(part, Text | Image)]
    calls = [encode_call(part) for part in message.parts if isinstance(part, ToolCall)]
    if content_parts or calls:
        content = (
            message.text
            if all(isinstance(p, Text) for p in content_parts)
            else list(map(encode_part, content_parts))
        )
        turn: dict[str, Any] = {"role": message.role, "content": content if content_parts else None}
        if echo_reasoning and (reasoning := find_reasoning(message)):
            turn[REASONING_CONTENT] = reasoning
        yield turn | ({"tool_calls": calls} if calls else {})
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.text}


def find_reasoning(message: Message) -> str:
    """The reasoning that a Chat server sent with a message, or ""."""
    items = [item for part in message.parts if isinstance(part, Raw) for item in part.items]
    texts = [item.get("text") for item in items if item.get("type") == REASONING_CONTENT]
    return "".join(text for text in texts if isinstance(text, str))


def encode_part(part: Part) -> dict[str, Any]:
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": part.url, "detail": part.detail}}
    return {"type": "text", "text": part.text if isinstance(part, Text) else ""}


def encode_call(part: ToolCall) -> dict[str, Any]:
    """Encode a call that the model made in an earlier turn."""
    function = {"name": part.name, "arguments": part.arguments}
    return {"id": part.id, "type": "function", "function": function}


def encode_tool(tool: Tool) -> dict[str, Any]:
    """A function tool: nested here, flat in Responses."""
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "strict": tool.strict,
    }
    return {"type": "function", "function": function}


def decode(data: bytes | Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of an answer that is not streamed. Raises RequestFailed."""
    answer = load_object(data)
    choice = next(iter_objects(answer, "choices"), None)
    if choice is None:
        raise build_missing_choice_error(answer)
    if reason := find_choice_error(choice):
        raise reason
    yield Started(get_text(answer, "id"), get_text(answer, "model"))
    # A filtered choice may have no message.
    message = get_object(choice, "message")
    yield from decode_message(message)
    for index, call in enumerate(iter_objects(message, "tool_calls")):
        yield decode_call(call, index)
    counts = answer.get("usage")
    yield build_finished(
        answer,
        get_text(choice, "finish_reason"),
        parse_usage(counts, "chat"),
        cited_by(message),
        parse_cost_usd(counts),
    )


def build_missing_choice_error(answer: Mapping[str, Any]) -> Exception:
    """Build the error of an answer without choices, which may be an error with status 200."""
    if find_error(answer):
        return build_error(200, answer)
    return BrokenAnswer("the provider sent an answer with nothing in it (no choices)")


def find_choice_error(choice: Mapping[str, Any]) -> RequestFailed | None:
    """The error inside a choice, which ends the answer but may follow text."""
    return build_error(None, choice) if choice.get("error") else None


def decode_message(message: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a message or delta. `content` may be a list of parts."""
    if reasoning := read_reasoning(message):
        yield ReasoningDelta(reasoning)
    content = message.get("content")
    for part in content if isinstance(content, list) else (content,):
        yield from decode_part(part)
    if refusal := get_text(message, "refusal"):
        yield RefusalDelta(refusal)


def decode_part(part: Any) -> Iterator[Event]:
    """Yield the event of a part of `content`: plain text, text, reasoning or a refusal."""
    if isinstance(part, str):
        if part:
            yield TextDelta(part)
    elif isinstance(part, Mapping):
        # Mistral nests the texts of reasoning, Anthropic's gateways do not.
        if thought := join_texts(part, "thinking") or join_texts(part, "reasoning"):
            yield ReasoningDelta(thought)
        elif refusal := get_text(part, "refusal"):
            yield RefusalDelta(refusal)
        elif text := get_text(part, "text"):
            thinks = part.get("type") in ("thinking", "reasoning")
            yield ReasoningDelta(text) if thinks else TextDelta(text)


def join_texts(part: Mapping[str, Any], name: str) -> str:
    """A text field, or the joined texts of a list."""
    return get_text(part, name) or "".join(
        get_text(text, "text") for text in iter_objects(part, name)
    )


def decode_call(call: Mapping[str, Any], place: int) -> ToolCallDelta:
    """Decode a tool call or a delta of one. Some servers send the arguments as an object."""
    function = get_object(call, "function")
    arguments = function.get("arguments")
    if isinstance(arguments, Mapping):
        # An empty object may precede deltas of the arguments as text.
        arguments = to_json(arguments).decode() if arguments else ""
    text = arguments if isinstance(arguments, str) else ""
    return ToolCallDelta(place, get_text(call, "id"), get_text(function, "name"), text)


def read_reasoning(message: Mapping[str, Any]) -> str:
    """The reasoning text, which has several field names; duplicates are equal."""
    plain = get_text(message, "reasoning") or get_text(message, "reasoning_content")
    if plain or "reasoning_details" not in message:
        return plain
    details = iter_objects(message, "reasoning_details")
    return "".join(get_text(detail, "summary") or get_text(detail, "text") for detail in details)


def build_finished(
    answer: Mapping[str, Any],
    reason: str,
    usage: Usage | None,
    citations: Iterable[Citation],
    cost_usd: Decimal | None,
) -> Finished:
    """Build the final event. Citations imply a web search, whose number of calls is unknown."""
    cited = tuple(dict.fromkeys(citations))  # some chunks repeat citations
    known = FINISH.get(reason.lower())
    notes = () if reason and known else ("the provider did not say why the answer ended",)
    if reason and not known:
        why = redact(reason)
        notes = (f"the answer gave {why!r} as its reason for ending: it may be incomplete",)
    return Finished(
        known or "stop",
        usage,
        id=get_text(answer, "id"),
        model=get_text(answer, "model"),
        service_tier=get_text(answer, "service_tier"),
        detail=reason,
        notes=notes,
        citations=cited,
        hosted=(HostedUse("web_search", None),) if cited else (),
        said_cost_usd=cost_usd,
    )


class CallPlaces:
    """Assigns each tool call delta of a stream to its call.

    By the API reference each delta has an `index`, and the first one the id and name. Some servers
    send the same index for every call, or none, or no id.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}  # the call that was last begun at this index
        self._arguments: dict[int, str] = {}  # of each call, by its position

    def place(self, delta: ToolCallDelta, index: int | None) -> int:
        """Position of the call of a delta. index: as the server sent it, or None."""
        place = self._by_id.get(delta.id) if delta.id else None
        if place is None:
            place = self._latest(index)
            if place is None or self._begins(delta, place):
                place = self._free(index)
                self._arguments[place] = ""
            if delta.id:
                self._by_id[delta.id] = place
        if index is not None:
            self._by_index[index] = place
        self._arguments[place] += delta.arguments
        return place

    def _latest(self, index: int | None) -> int | None:
        """The call of the last delta with this index."""
        if index is None:
            return next(reversed(self._arguments), None)
        return self._by_index.get(index)

    def _free(self, index: int | None) -> int:
        """Position of a new call: its index, or behind all others if that is in use."""
        if index is not None and index not in self._arguments:
            return index
        return max(self._arguments, default=-1) + 1

    def _begins(self, delta: ToolCallDelta, place: int) -> bool:
        """Whether a delta begins a new call.

        It needs a name: some servers send a new id in each delta of a call, but no name.
        """
        if not delta.name:
            return False
        if delta.id:
            return place in self._by_id.values()
        return is_whole(self._arguments[place])


def is_whole(arguments: str) -> bool:
    """Whether the arguments are a complete JSON object."""
    try:
        return isinstance(from_json(arguments), dict)
    except ValueError:
        return False


class ChatReader:
    """Decodes a stream, one `data` after another.

    The usage comes in a chunk behind the one with the finish reason, so the answer ends at `[DONE]`
    or, for servers that do not send it, at the end of the connection.
    """

    def __init__(self) -> None:
        self.done = False
        self._reason = ""
        self._usage: Usage | None = None
        self._cost_usd: Decimal | None = None
        self._citations: list[Citation] = []
        self._last: dict[str, str] = {}
        self._has_content = False
        self._in_deltas = False  # whether content came in deltas
        self._places = CallPlaces()
        self._failed: RequestFailed | None = None

    def read(self, data: bytes) -> Sequence[Event]:
        """Decode one chunk. Raises RequestFailed for an error in the stream."""
        if data == b"[DONE]":
            # It also ends an answer without a finish reason.
            return self._end() if self._reason or self._has_content else ()
        if self._last:
            try:
                choice = MORE_TEXT.validate_json(data)["choices"][0]
                self._has_content = self._in_deltas = True
                return (TextDelta(choice["delta"]["content"]),)
            except ValidationError:
                pass
        return self._whole(load_object(data))

    def _whole(self, chunk: Mapping[str, Any]) -> Sequence[Event]:
        """Decode any chunk but the common one of plain text."""
        if not chunk.get("choices") and not chunk.get("usage") and find_error(chunk):
            raise build_error(None, chunk)
        events: list[Event] = []
        if not self._last and get_text(chunk, "id"):
            events.append(Started(get_text(chunk, "id"), get_text(chunk, "model")))
        for name in ("id", "model", "service_tier"):
            if value := get_text(chunk, name):
                self._last[name] = value
        if counts := chunk.get("usage"):
            self._usage = parse_usage(counts, "chat") or self._usage
            self._cost_usd = parse_cost_usd(counts)
        for choice in iter_objects(chunk, "choices"):
            events.extend(self._decode_choice(choice))
            self._failed = self._failed or find_choice_error(choice)
        if chunk.get("error"):
            self._failed = build_error(None, chunk)
        self.done = (
            self._failed is not None
        )  # raised by `close`, so that text in the same chunk is kept
        return events or (KeepAlive(),)

    def _decode_choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of a choice. Some servers stream whole messages, others end with one."""
        delta = get_object(choice, "delta")
        if not delta and not self._in_deltas:
            delta = get_object(choice, "message")
        events = [*decode_message(delta)]
        for call in iter_objects(delta, "tool_calls"):
            delta_event = decode_call(call, 0)
            events.append(
                delta_event._replace(
                    place=self._places.place(delta_event, get_count(call, "index"))
                )
            )
        if events:
            self._has_content = True
            self._in_deltas = self._in_deltas or "delta" in choice
        yield from events
        if "annotations" in delta:
            self._citations.extend(cited_by(delta))
        self._reason = get_text(choice, "finish_reason") or self._reason

    def _end(self) -> Sequence[Event]:
        self.done = True
        totals = (self._usage, self._citations, self._cost_usd)
        return (build_finished(self._last, self._reason, *totals),)

    def close(self) -> Sequence[Event]:
        """End of the connection. Raises BrokenAnswer if the answer is incomplete."""
        if self._failed:
            raise self._failed
        if self.done:
            return ()
        if not self._reason:
            raise BrokenAnswer("the answer broke off: the stream ended without a finish reason")
        return self._end()

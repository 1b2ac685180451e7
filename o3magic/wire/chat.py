"""Chat Completions: what a request looks like there, and what its answers and chunks mean.

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
    AnswerSchema,
    Image,
    Message,
    Part,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from o3magic.params import with_params
from o3magic.redaction import redact
from o3magic.wire.errors import error_of, failure
from o3magic.wire.hosted import said_cost_usd
from o3magic.wire.json_access import count, load, objects, section, word
from o3magic.wire.usage import usage_of

PATH = "/chat/completions"

# A chunk of text alone and what is read of it: nothing else becomes a Python object.
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

# Why an answer ended, in the words of the servers and gateways seen; their case does not count.
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
    """The body of a request; what was not chosen is not in it."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [each for message in request.messages for each in turns(message)],
        "stream": request.stream,
    }
    if request.stream and request.stream_usage:
        body["stream_options"] = {"include_usage": True}
    if request.effort is not None:
        body["reasoning_effort"] = request.effort
    if request.max_output_tokens is not None:
        # OpenAI's reasoning models refuse `max_tokens`; some gateways know nothing else.
        body[request.max_tokens_word] = request.max_output_tokens
    if request.answer_schema is not None:
        body["response_format"] = response_format(request.answer_schema)
    # What the provider would run itself is refused before it comes here (talk/toolbox).
    if functions := [tool(each) for each in request.tools if isinstance(each, Tool)]:
        body["tools"] = functions
    if request.verbosity is not None:
        body["verbosity"] = request.verbosity
    if request.tier is not None:
        body["service_tier"] = request.tier
    body |= request.options
    return with_params(body, request) if request.params else body


def response_format(wanted: AnswerSchema) -> dict[str, Any]:
    """The format of a schema: nested here, flat in Responses."""
    if wanted.by_instruction:
        return {"type": "json_object"}
    inner = {"name": wanted.name, "schema": dict(wanted.schema), "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": inner}


def turns(message: Message) -> Iterator[dict[str, Any]]:
    """A message as Chat's messages: calls inside the assistant's, each result as its own."""
    said = [part for part in message.parts if isinstance(part, Text | Image)]
    calls = [call(part) for part in message.parts if isinstance(part, ToolCall)]
    if said or calls:
        content = (
            message.text
            if all(isinstance(p, Text) for p in said)
            else list(map(content_part, said))
        )
        turn: dict[str, Any] = {"role": message.role, "content": content if said else None}
        yield turn | ({"tool_calls": calls} if calls else {})
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.text}


def content_part(part: Part) -> dict[str, Any]:
    """Words or a picture."""
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": part.url, "detail": part.detail}}
    return {"type": "text", "text": part.text if isinstance(part, Text) else ""}


def call(part: ToolCall) -> dict[str, Any]:
    """A call the model made before, said again."""
    function = {"name": part.name, "arguments": part.arguments}
    return {"id": part.id, "type": "function", "function": function}


def tool(each: Tool) -> dict[str, Any]:
    """A function tool: nested here, flat in Responses."""
    function = {
        "name": each.name,
        "description": each.description,
        "parameters": dict(each.parameters),
        "strict": each.strict,
    }
    return {"type": "function", "function": function}


def decode(data: bytes | Mapping[str, Any]) -> Iterator[Event]:
    """The events of a whole, unstreamed answer. Raises RequestFailed where it is none."""
    answer = load(data)
    choice = next(objects(answer, "choices"), None)
    if choice is None:
        raise no_choice(answer)
    if reason := broken_choice(choice):
        raise reason
    yield Started(word(answer, "id"), word(answer, "model"))
    # A filtered choice may come without any message.
    message = section(choice, "message")
    yield from said_in(message)
    for place, each in enumerate(objects(message, "tool_calls")):
        yield call_in(each, place)
    counts = answer.get("usage")
    yield finished(
        answer,
        word(choice, "finish_reason"),
        usage_of(counts, "chat"),
        cited_by(message),
        said_cost_usd(counts),
    )


def no_choice(answer: Mapping[str, Any]) -> Exception:
    """Why an answer has no choice: an error in a 200, or nothing at all."""
    if error_of(answer):
        return failure(200, answer)
    return BrokenAnswer("the provider sent an answer with nothing in it (no choices)")


def broken_choice(choice: Mapping[str, Any]) -> RequestFailed | None:
    """The error inside a choice: what was said before it is there, and more will not come."""
    return failure(None, choice) if choice.get("error") else None


def said_in(message: Mapping[str, Any]) -> Iterator[Event]:
    """The words of a message or a delta. `content` may be a list of parts, thoughts among them."""
    if reasoning := reasoning_in(message):
        yield ReasoningDelta(reasoning)
    content = message.get("content")
    for part in content if isinstance(content, list) else (content,):
        yield from said_in_part(part)
    if refusal := word(message, "refusal"):
        yield RefusalDelta(refusal)


def said_in_part(part: Any) -> Iterator[Event]:
    """What a part of `content` says: bare words, text, thoughts or a refusal."""
    if isinstance(part, str):
        if part:
            yield TextDelta(part)
    elif isinstance(part, Mapping):
        # Mistral nests the texts of a thought, Anthropic's gateways do not.
        if thought := texts(part, "thinking") or texts(part, "reasoning"):
            yield ReasoningDelta(thought)
        elif refusal := word(part, "refusal"):
            yield RefusalDelta(refusal)
        elif text := word(part, "text"):
            thinks = part.get("type") in ("thinking", "reasoning")
            yield ReasoningDelta(text) if thinks else TextDelta(text)


def texts(part: Mapping[str, Any], name: str) -> str:
    """Words, or the words of a list of texts."""
    return word(part, name) or "".join(word(each, "text") for each in objects(part, name))


def call_in(each: Mapping[str, Any], place: int) -> ToolCallDelta:
    """A tool call or a piece of one. Some servers give its arguments as the object itself."""
    function = section(each, "function")
    arguments = function.get("arguments")
    if isinstance(arguments, Mapping):
        # An empty one may stand where the pieces of a text are still to come.
        arguments = to_json(arguments).decode() if arguments else ""
    said = arguments if isinstance(arguments, str) else ""
    return ToolCallDelta(place, word(each, "id"), word(function, "name"), said)


def reasoning_in(message: Mapping[str, Any]) -> str:
    """The reasoning, which goes by several names; who says it twice says the same."""
    plain = word(message, "reasoning") or word(message, "reasoning_content")
    if plain or "reasoning_details" not in message:
        return plain
    details = objects(message, "reasoning_details")
    return "".join(word(each, "summary") or word(each, "text") for each in details)


def finished(
    answer: Mapping[str, Any],
    reason: str,
    usage: Usage | None,
    citations: Iterable[Citation],
    cost_usd: Decimal | None,
) -> Finished:
    """The end of an answer. What cites pages has searched for them, and does not say how often."""
    cited = tuple(dict.fromkeys(citations))  # some chunks say again what those before them said
    known = FINISH.get(reason.lower())
    notes = () if reason and known else ("the provider did not say why the answer ended",)
    if reason and not known:
        why = redact(reason)
        notes = (f"the answer gave {why!r} as its reason for ending: it may be incomplete",)
    return Finished(
        known or "stop",
        usage,
        id=word(answer, "id"),
        model=word(answer, "model"),
        service_tier=word(answer, "service_tier"),
        detail=reason,
        notes=notes,
        citations=cited,
        hosted=(HostedUse("web_search", None),) if cited else (),
        said_cost_usd=cost_usd,
    )


class CallPlaces:
    """Which call each piece of a stream belongs to.

    By the reference a call has an `index`, and its id and name in its first piece alone. Servers
    exist that give every call the same index, or none, or no id.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}  # the call that was last begun there
        self._arguments: dict[int, str] = {}  # of each call, by its place

    def place(self, said: ToolCallDelta, index: int | None) -> int:
        """The place of the call. index: as the server says it, None where it does not."""
        place = self._by_id.get(said.id) if said.id else None
        if place is None:
            place = self._latest(index)
            if place is None or self._begins(said, place):
                place = self._free(index)
                self._arguments[place] = ""
            if said.id:
                self._by_id[said.id] = place
        if index is not None:
            self._by_index[index] = place
        self._arguments[place] += said.arguments
        return place

    def _latest(self, index: int | None) -> int | None:
        """The call that pieces with this index were last of."""
        if index is None:
            return next(reversed(self._arguments), None)
        return self._by_index.get(index)

    def _free(self, index: int | None) -> int:
        """The place of a new call: its index, behind all others where that is another one's."""
        if index is not None and index not in self._arguments:
            return index
        return max(self._arguments, default=-1) + 1

    def _begins(self, said: ToolCallDelta, place: int) -> bool:
        """Whether a piece is the first of another call than the one at its place.

        A name tells: some servers give each piece of one call an id of its own, but not the name.
        """
        if not said.name:
            return False
        if said.id:
            return place in self._by_id.values()
        return is_whole(self._arguments[place])


def is_whole(arguments: str) -> bool:
    """Whether there is nothing to come behind these arguments."""
    try:
        return isinstance(from_json(arguments), dict)
    except ValueError:
        return False


class ChatReader:
    """The events of a stream, one `data` after another.

    The usage comes in a chunk of its own behind the one with the finish reason, so the answer is
    finished at `[DONE]` or, for servers that send none, at the end of the connection.
    """

    def __init__(self) -> None:
        self.done = False
        self._reason = ""
        self._usage: Usage | None = None
        self._cost_usd: Decimal | None = None
        self._citations: list[Citation] = []
        self._last: dict[str, str] = {}
        self._said = False  # whether anything of the answer came
        self._in_deltas = False  # and whether it came in deltas
        self._places = CallPlaces()
        self._failed: RequestFailed | None = None

    def read(self, data: bytes) -> Sequence[Event]:
        """The events of one chunk. Raises RequestFailed for an error in the stream."""
        if data == b"[DONE]":
            # It ends an answer also where the server never says why.
            return self._end() if self._reason or self._said else ()
        if self._last:
            try:
                choice = MORE_TEXT.validate_json(data)["choices"][0]
                self._said = self._in_deltas = True
                return (TextDelta(choice["delta"]["content"]),)
            except ValidationError:
                pass
        return self._whole(load(data))

    def _whole(self, chunk: Mapping[str, Any]) -> Sequence[Event]:
        """Every chunk but one of plain text."""
        if not chunk.get("choices") and not chunk.get("usage") and error_of(chunk):
            raise failure(None, chunk)
        found: list[Event] = []
        if not self._last and word(chunk, "id"):
            found.append(Started(word(chunk, "id"), word(chunk, "model")))
        for name in ("id", "model", "service_tier"):
            if value := word(chunk, name):
                self._last[name] = value
        if counts := chunk.get("usage"):
            self._usage = usage_of(counts, "chat") or self._usage
            self._cost_usd = said_cost_usd(counts)
        for choice in objects(chunk, "choices"):
            found.extend(self._said_by(choice))
            self._failed = self._failed or broken_choice(choice)
        if chunk.get("error"):
            self._failed = failure(None, chunk)
        self.done = self._failed is not None  # raised by `close`: the words beside it are kept
        return found or (KeepAlive(),)

    def _said_by(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        """What a choice says. Some servers stream whole messages, others end with one."""
        delta = section(choice, "delta")
        if not delta and not self._in_deltas:
            delta = section(choice, "message")
        said = [*said_in(delta)]
        for each in objects(delta, "tool_calls"):
            piece = call_in(each, 0)
            said.append(piece._replace(place=self._places.place(piece, count(each, "index"))))
        if said:
            self._said = True
            self._in_deltas = self._in_deltas or "delta" in choice
        yield from said
        if "annotations" in delta:
            self._citations.extend(cited_by(delta))
        self._reason = word(choice, "finish_reason") or self._reason

    def _end(self) -> Sequence[Event]:
        self.done = True
        said = (self._usage, self._citations, self._cost_usd)
        return (finished(self._last, self._reason, *said),)

    def close(self) -> Sequence[Event]:
        """The connection ended. Raises BrokenAnswer where the answer had not."""
        if self._failed:
            raise self._failed
        if self.done:
            return ()
        if not self._reason:
            raise BrokenAnswer("the answer broke off: the stream ended without a finish reason")
        return self._end()

"""Chat Completions: what a request looks like there, and what its answers and chunks mean.

Source: OpenAI's API specification of 2026-08-21, Azure's documentation and recorded streams of
OpenAI, Azure, OpenRouter, llama.cpp and vLLM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic_core import SchemaValidator, ValidationError
from pydantic_core.core_schema import (
    list_schema,
    none_schema,
    str_schema,
    typed_dict_field,
    typed_dict_schema,
)

from o3magic.citations import Citation, cited_by
from o3magic.errors import BrokenAnswer
from o3magic.events import (
    Alive,
    Event,
    Finished,
    FinishReason,
    HostedUse,
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
from o3magic.wire.failures import failure
from o3magic.wire.hosted import said_cost_usd
from o3magic.wire.shape import count, load, objects, section, word
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

FINISH: dict[str, FinishReason] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
}


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
    return with_params(body | dict(request.options), request)


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
    yield Started(word(answer, "id"), word(answer, "model"))
    # A filtered choice may come without any message.
    yield from said_in(section(choice, "message"))
    counts = answer.get("usage")
    yield finished(
        answer,
        word(choice, "finish_reason"),
        usage_of(counts, "chat"),
        cited_by(section(choice, "message")),
        said_cost_usd(counts),
    )


def no_choice(answer: Mapping[str, Any]) -> Exception:
    """Why an answer has no choice: an error in a 200, or nothing at all."""
    if answer.get("error") or answer.get("object") == "error" or "detail" in answer:
        return failure(200, answer)
    return BrokenAnswer("the provider sent an answer with nothing in it (no choices)")


def said_in(message: Mapping[str, Any]) -> Iterator[Event]:
    """What a message or a delta says."""
    if reasoning := reasoning_in(message):
        yield ReasoningDelta(reasoning)
    if text := word(message, "content"):
        yield TextDelta(text)
    if refusal := word(message, "refusal"):
        yield RefusalDelta(refusal)
    for place, each in enumerate(objects(message, "tool_calls")):
        function = section(each, "function")
        index = count(each, "index")
        yield ToolCallDelta(
            place if index is None else index,
            word(each, "id"),
            word(function, "name"),
            word(function, "arguments"),
        )


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
    notes = () if reason else ("the provider did not say why the answer ended",)
    return Finished(
        FINISH.get(reason, "stop"),
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


class Reader:
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

    def read(self, data: bytes) -> Sequence[Event]:
        """The events of one chunk. Raises RequestFailed for an error in the stream."""
        if data == b"[DONE]":
            return self._end() if self._reason else ()
        if self._last:
            try:
                choice = MORE_TEXT.validate_json(data)["choices"][0]
                return (TextDelta(choice["delta"]["content"]),)
            except ValidationError:
                pass
        return self._whole(load(data))

    def _whole(self, chunk: Mapping[str, Any]) -> Sequence[Event]:
        """Every chunk but one of plain text."""
        if chunk.get("error") or chunk.get("type") == "error":
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
            delta = section(choice, "delta")
            found.extend(said_in(delta))
            if "annotations" in delta:
                self._citations.extend(cited_by(delta))
            self._reason = word(choice, "finish_reason") or self._reason
        return found or (Alive(),)

    def _end(self) -> Sequence[Event]:
        self.done = True
        said = (self._usage, self._citations, self._cost_usd)
        return (finished(self._last, self._reason, *said),)

    def close(self) -> Sequence[Event]:
        """The connection ended. Raises BrokenAnswer where the answer had not."""
        if self.done:
            return ()
        if not self._reason:
            raise BrokenAnswer("the answer broke off: the stream ended without a finish reason")
        return self._end()

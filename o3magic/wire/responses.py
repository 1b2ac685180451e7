"""OpenAI's Responses API: what a request looks like there, and what its answers and events mean.

Source: OpenAI's API specification of 2026-08-21 and recorded streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import SchemaValidator, ValidationError
from pydantic_core.core_schema import (
    literal_schema,
    str_schema,
    typed_dict_field,
    typed_dict_schema,
)

from o3magic.citations import cited_in
from o3magic.errors import BrokenAnswer
from o3magic.events import (
    Alive,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)
from o3magic.messages import (
    AnswerSchema,
    HostedTool,
    Image,
    Message,
    Raw,
    Request,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from o3magic.params import with_params
from o3magic.redaction import redact
from o3magic.wire.failures import error_of, failure
from o3magic.wire.hosted import hosted_in, said_cost_usd
from o3magic.wire.shape import count, load, objects, section, word
from o3magic.wire.usage import usage_of

PATH = "/responses"
MIN_OUTPUT_TOKENS = 16
PARAGRAPH = "\n\n"
# A frame of text and what is read of it: nothing else becomes a Python object, which halves the
# time of what comes ten thousand times.
MORE_TEXT = SchemaValidator(
    typed_dict_schema(
        {
            "type": typed_dict_field(literal_schema(["response.output_text.delta"])),
            "delta": typed_dict_field(str_schema(min_length=1)),
        }
    )
)


def encode(request: Request) -> dict[str, Any]:
    """The body of a request; what was not chosen is not in it."""
    body: dict[str, Any] = {
        "model": request.model,
        "input": [item for message in request.messages for item in items(message)],
        # Said even where false: a server that streams unless told not to exists.
        "stream": request.stream,
    }
    reasoning = {"effort": request.effort, "summary": request.summary}
    if said := {name: value for name, value in reasoning.items() if value is not None}:
        body["reasoning"] = said
    if request.max_output_tokens is not None:
        body["max_output_tokens"] = request.max_output_tokens
    if text := text_of(request):
        body["text"] = text
    if request.tools:
        body["tools"] = [tool(each) for each in request.tools]
    if request.kept is not None:
        body["previous_response_id"] = request.kept.response_id
    if request.tier is not None:
        body["service_tier"] = request.tier
    return with_params(body | dict(request.options), request)


def items(message: Message) -> Iterator[dict[str, Any]]:
    """A message as input items, in order: a call or result is one, the words between them are."""
    if any(isinstance(part, Raw) for part in message.parts):
        # A reasoning item counts only with the item it stood before: all go back, in their order.
        yield from (said(item) for p in message.parts if isinstance(p, Raw) for item in p.items)
        return
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if content and isinstance(part, ToolCall | ToolResult):
            yield in_words(message.role, content)
            content = []
        match part:
            case Text(text):
                kind = "output_text" if message.role == "assistant" else "input_text"
                content.append({"type": kind, "text": text})
            case Image(url, detail):
                content.append({"type": "input_image", "image_url": url, "detail": detail})
            case ToolCall(call_id, name, arguments):
                yield {
                    "type": "function_call",
                    "call_id": call_id,
                    "name": name,
                    "arguments": arguments,
                }
            case ToolResult(call_id, text):
                yield {"type": "function_call_output", "call_id": call_id, "output": text}
    if content:
        yield in_words(message.role, content)


def in_words(role: Role, content: list[dict[str, Any]]) -> dict[str, Any]:
    """An item of words. llama.cpp takes a model's own only with its type."""
    item = {"role": role, "content": simplest(content)}
    return {"type": "message", **item} if role == "assistant" else item


def said(item: Mapping[str, Any]) -> dict[str, Any]:
    """An output item as an input item: a null is not always taken where it was given."""
    return {name: value for name, value in item.items() if value is not None}


def simplest(content: list[dict[str, Any]]) -> Any:
    """Plain words as a string, which every server takes; anything else as parts."""
    if len(content) == 1 and "text" in content[0]:
        return content[0]["text"]
    return content


def text_of(request: Request) -> dict[str, Any]:
    """What is said of the answer's text: its format and how wordy it is."""
    said: dict[str, Any] = {}
    if request.answer_schema is not None:
        said["format"] = text_format(request.answer_schema)
    if request.verbosity is not None:
        said["verbosity"] = request.verbosity
    return said


def text_format(wanted: AnswerSchema) -> dict[str, Any]:
    """The `text.format` of a schema: flat here, nested in Chat."""
    if wanted.by_instruction:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": dict(wanted.schema),
        "strict": wanted.strict,
    }


def tool(each: Tool | HostedTool) -> dict[str, Any]:
    """A function tool: flat here, nested in Chat. `strict` is always said: the default differs."""
    if isinstance(each, HostedTool):
        return {"type": each.type, **each.options}
    return {
        "type": "function",
        "name": each.name,
        "description": each.description,
        "parameters": dict(each.parameters),
        "strict": each.strict,
    }


def decode(data: bytes | Mapping[str, Any]) -> Iterator[Event]:
    """The events of a whole, unstreamed answer. Raises RequestFailed where it is none."""
    answer = load(data)
    empty = not isinstance(answer.get("output"), list)
    if answer.get("status") == "failed" or (empty and error_of(answer)):
        raise failure(200, answer)
    if empty:
        raise BrokenAnswer("the provider sent an answer with nothing in it (no output)")
    yield Started(word(answer, "id"), word(answer, "model"))
    yield from whole(answer)
    yield finished(answer)


def whole(answer: Mapping[str, Any]) -> Iterator[Event]:
    """What a whole answer says, as the events a stream would have had.

    The output items are joined here: `output_text` is made by the SDK, absent from OpenAI itself
    and wrong at some gateways.
    """
    thoughts = 0
    for index, item in enumerate(objects(answer, "output")):
        match item.get("type"):
            case "message":
                for part in objects(item, "content"):
                    if part.get("type") == "refusal":
                        yield RefusalDelta(word(part, "refusal"))
                    elif part.get("type") == "output_text":
                        yield TextDelta(word(part, "text"))
            case "reasoning":
                # Open models show the reasoning itself, as `content`, and no summary of it.
                parts = list(objects(item, "summary")) or list(objects(item, "content"))
                for part in parts:
                    yield ReasoningDelta(PARAGRAPH * bool(thoughts) + word(part, "text"))
                    thoughts += 1
            case "function_call":
                yield call_started(index, item)


def call_started(index: int, item: Mapping[str, Any]) -> ToolCallDelta:
    """A function call's item, with its arguments if they are there already."""
    return ToolCallDelta(index, word(item, "call_id"), word(item, "name"), word(item, "arguments"))


def finished(answer: Mapping[str, Any]) -> Finished:
    """The end of an answer, from its last snapshot."""
    status, why = word(answer, "status"), word(section(answer, "incomplete_details"), "reason")
    kinds = {word(item, "type"): item for item in objects(answer, "output")}
    reason: FinishReason = "tool_calls" if "function_call" in kinds else "stop"
    if status == "incomplete" or why:
        reason = "content_filter" if why == "content_filter" else "length"
    notes = []
    if not status and "status" not in answer:
        notes.append("the provider did not say whether the answer is complete")
    elif status not in ("completed", "incomplete"):
        notes.append(f"the provider calls the answer {redact(status)!r}")
    if word(kinds.get("message", {}), "status") == "in_progress":
        notes.append("the provider calls the message 'in_progress', though it is finished")
    return Finished(
        reason,
        usage_of(answer.get("usage"), "responses"),
        id=word(answer, "id"),
        model=word(answer, "model"),
        service_tier=word(answer, "service_tier"),
        detail=why,
        notes=tuple(notes),
        items=tuple(objects(answer, "output")),
        citations=tuple(cited_in(objects(answer, "output"))),
        hosted=hosted_in(answer),
        said_cost_usd=said_cost_usd(answer.get("usage")),
    )


class Reader:
    """The events of a stream, one `data` after another.

    `done` is set by the terminal event; nothing behind it counts.
    """

    def __init__(self) -> None:
        self.done = False
        self._text_came = False
        self._refusal_came = False
        self._thought = False
        self._places: dict[str, int] = {}  # of calls, by their ids
        self._arguments_came: set[int] = set()
        self._items: dict[str, int] = {}  # places of items, where the server does not number them
        self._whole: dict[int, Mapping[str, Any]] = {}  # items that are finished, by their places

    def read(self, data: bytes) -> Sequence[Event]:
        """The events of one frame. Raises RequestFailed for an error in the stream."""
        try:
            text = MORE_TEXT.validate_json(data)["delta"]
        except ValidationError:
            return self._rare(data)
        self._text_came = True
        return (TextDelta(text),)

    def _rare(self, data: bytes) -> Sequence[Event]:
        """Every frame but one of text."""
        if data == b"[DONE]":
            return ()
        frame = load(data)
        kind = frame.get("type")
        match kind:
            case "response.created":
                answer = section(frame, "response")
                return (Started(word(answer, "id"), word(answer, "model")),)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._thought = True
                return (ReasoningDelta(word(frame, "delta")),)
            case "response.reasoning_summary_part.added" if self._thought:
                return (ReasoningDelta(PARAGRAPH),)
            case "response.refusal.delta":
                self._refusal_came = True
                return (RefusalDelta(word(frame, "delta")),)
            case "response.output_item.added" if is_call(frame):
                item = section(frame, "item")
                begun = call_started(self._place(frame, word(item, "id")), item)
                self._places[begun.id] = begun.place
                if begun.arguments:
                    self._arguments_came.add(begun.place)
                return (begun,)
            case "response.function_call_arguments.delta":
                index = self._place(frame, word(frame, "item_id"))
                self._arguments_came.add(index)
                return (ToolCallDelta(index, "", "", word(frame, "delta")),)
            case "response.output_item.done":
                item = section(frame, "item")
                self._whole[self._place(frame, word(item, "id"))] = item
            case "response.completed" | "response.incomplete":
                return self._end(section(frame, "response"))
            case "response.failed":
                raise failure(None, section(frame, "response"))
        if kind == "error" or (kind is None and frame.get("error")):
            raise failure(None, frame)
        return (Alive(),)

    def _place(self, frame: Mapping[str, Any], item_id: str) -> int:
        """Where an item stands: llama.cpp says no `output_index`, only the item's id."""
        index = count(frame, "output_index")
        return self._items.setdefault(item_id, len(self._items)) if index is None else index

    def _end(self, answer: Mapping[str, Any]) -> Sequence[Event]:
        """The last events, and before them what a server sent no deltas of."""
        self.done = True
        late = (*self._late(answer),)
        if self._whole and not any(objects(answer, "output")):  # some leave the output out
            answer = {**answer, "output": [self._whole[place] for place in sorted(self._whole)]}
        return (*late, finished(answer))

    def _late(self, answer: Mapping[str, Any]) -> Iterator[Event]:
        """What the last snapshot says and nothing before it said."""
        for event in whole(answer):
            match event:
                case TextDelta() if not self._text_came:
                    yield event
                case RefusalDelta() if not self._refusal_came:
                    yield event
                case ToolCallDelta(place, call_id, name, arguments):
                    # Some snapshots leave items out, so that a place differs from the stream's.
                    place = self._places.get(call_id, place)
                    came = place in self._arguments_came
                    if not came or call_id not in self._places:
                        yield ToolCallDelta(place, call_id, name, "" if came else arguments)

    def close(self) -> Sequence[Event]:
        """The connection ended. Raises BrokenAnswer where the answer had not."""
        if not self.done:
            raise BrokenAnswer("the answer broke off: the stream ended without its last event")
        return ()


def is_call(frame: Mapping[str, Any]) -> bool:
    """Whether an item that begins is a function call."""
    return section(frame, "item").get("type") == "function_call"

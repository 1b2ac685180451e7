"""OpenAI's Responses API: encode requests, decode answers and stream events.

Source: OpenAI's API specification of 2026-08-21 and recorded streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import SchemaValidator, ValidationError
from pydantic_core.core_schema import (
    literal_schema,
    str_schema,
    typed_dict_field,
    typed_dict_schema,
)

from o3magic.citations import cited_in
from o3magic.errors import BrokenAnswer, RequestFailed
from o3magic.events import (
    Event,
    Finished,
    FinishReason,
    KeepAlive,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)
from o3magic.messages import (
    REASONING_CONTENT,
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
from o3magic.wire.errors import build_error, find_error
from o3magic.wire.hosted import count_hosted_tools, parse_cost_usd
from o3magic.wire.json_access import get_count, get_object, get_text, iter_objects, load_object
from o3magic.wire.usage import parse_usage

PATH = "/responses"
MIN_OUTPUT_TOKENS = 16
PARAGRAPH = "\n\n"
# Validates a frame of text without making Python objects of the rest. This halves the time of the
# most frequent frame.
MORE_TEXT = SchemaValidator(
    typed_dict_schema(
        {
            "type": typed_dict_field(literal_schema(["response.output_text.delta"])),
            "delta": typed_dict_field(str_schema(min_length=1)),
        }
    )
)


def encode(request: Request) -> dict[str, Any]:
    """Build the body of a request, without fields that were not set."""
    body: dict[str, Any] = {
        "model": request.model,
        "input": [item for message in request.messages for item in encode_message(message)],
        # Sent even if false: some servers stream by default.
        "stream": request.stream,
    }
    reasoning = {"effort": request.effort, "summary": request.summary}
    if set_reasoning := {name: value for name, value in reasoning.items() if value is not None}:
        body["reasoning"] = set_reasoning
    if request.max_output_tokens is not None:
        body["max_output_tokens"] = request.max_output_tokens
    if text := encode_text(request):
        body["text"] = text
    if request.tools:
        body["tools"] = [encode_tool(tool) for tool in request.tools]
    if request.kept is not None:
        body["previous_response_id"] = request.kept.response_id
    if request.tier is not None:
        body["service_tier"] = request.tier
    body |= request.options
    return with_params(body, request) if request.params else body


def encode_message(message: Message) -> Iterator[dict[str, Any]]:
    """Yield the input items of a message in order: calls, results, and the content between."""
    raw_items = [item for part in message.parts if isinstance(part, Raw) for item in part.items]
    if own_items := [item for item in raw_items if item.get("type") != REASONING_CONTENT]:
        # A reasoning item is valid only with the item behind it: all go back, in order.
        yield from map(drop_nulls, own_items)
        return
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if content and isinstance(part, ToolCall | ToolResult):
            yield build_message_item(message.role, content)
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
        yield build_message_item(message.role, content)


def build_message_item(role: Role, content: list[dict[str, Any]]) -> dict[str, Any]:
    """Build a message item. llama.cpp requires the type for messages of the assistant."""
    item = {"role": role, "content": simplify_content(content)}
    return {"type": "message", **item} if role == "assistant" else item


def drop_nulls(item: Mapping[str, Any]) -> dict[str, Any]:
    """Remove nulls from an output item, which are not always valid in input items."""
    return {name: value for name, value in item.items() if value is not None}


def simplify_content(content: list[dict[str, Any]]) -> Any:
    """Plain text as a string, which every server accepts; anything else as parts."""
    if len(content) == 1 and "text" in content[0]:
        return content[0]["text"]
    return content


def encode_text(request: Request) -> dict[str, Any]:
    """Build the field `text`: format and verbosity."""
    fields: dict[str, Any] = {}
    if request.answer_schema is not None:
        fields["format"] = encode_text_format(request.answer_schema)
    if request.verbosity is not None:
        fields["verbosity"] = request.verbosity
    return fields


def encode_text_format(wanted: AnswerSchema) -> dict[str, Any]:
    """The `text.format` of a schema: flat here, nested in Chat."""
    if wanted.by_instruction:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": dict(wanted.schema),
        "strict": wanted.strict,
    }


def encode_tool(tool: Tool | HostedTool) -> dict[str, Any]:
    """Encode a tool: flat here, nested in Chat. `strict` is explicit, because defaults differ."""
    if isinstance(tool, HostedTool):
        return {"type": tool.type, **tool.options}
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "strict": tool.strict,
    }


def decode(data: bytes | Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of an answer that is not streamed. Raises RequestFailed."""
    answer = load_object(data)
    empty = not isinstance(answer.get("output"), list)
    failed = answer.get("status") == "failed"
    if empty and (failed or find_error(answer)):
        raise build_error(200, answer)
    if empty:
        raise BrokenAnswer("the provider sent an answer with nothing in it (no output)")
    yield Started(get_text(answer, "id"), get_text(answer, "model"))
    yield from decode_output(answer)
    if failed:
        raise build_error(200, answer)
    yield build_finished(answer)


def decode_output(answer: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of all output items.

    The field `output_text` is not used: the SDK adds it, OpenAI does not send it, and some gateways
    send a wrong one.
    """
    has_reasoning = False
    for index, item in enumerate(iter_objects(answer, "output")):
        for event in decode_item(item, index):
            if isinstance(event, ReasoningDelta):
                event = ReasoningDelta(PARAGRAPH * has_reasoning + event.text)
                has_reasoning = True
            yield event


def decode_item(item: Mapping[str, Any], place: int) -> Iterator[Event]:
    """Yield the events of an output item; each part of the reasoning is one."""
    match item.get("type"):
        case "message":
            for part in iter_objects(item, "content"):
                if part.get("type") == "refusal":
                    yield RefusalDelta(get_text(part, "refusal"))
                elif part.get("type") == "output_text":
                    yield TextDelta(get_text(part, "text"))
        case "reasoning":
            # Open models send the reasoning itself, as `content`, instead of a summary.
            for part in list(iter_objects(item, "summary")) or list(iter_objects(item, "content")):
                yield ReasoningDelta(get_text(part, "text"))
        case "function_call":
            yield decode_call(place, item)


def decode_call(index: int, item: Mapping[str, Any]) -> ToolCallDelta:
    """Decode a function call item, with its arguments if it has them."""
    return ToolCallDelta(
        index, get_text(item, "call_id"), get_text(item, "name"), get_text(item, "arguments")
    )


def build_finished(answer: Mapping[str, Any]) -> Finished:
    """Build the final event from the last snapshot of the answer."""
    status, incomplete_reason = (
        get_text(answer, "status"),
        get_text(get_object(answer, "incomplete_details"), "reason"),
    )
    kinds = {get_text(item, "type"): item for item in iter_objects(answer, "output")}
    reason: FinishReason = "tool_calls" if "function_call" in kinds else "stop"
    if status == "incomplete" or incomplete_reason:
        reason = "content_filter" if incomplete_reason == "content_filter" else "length"
    notes = []
    if not status and "status" not in answer:
        notes.append("the provider did not say whether the answer is complete")
    elif status not in ("completed", "incomplete"):
        notes.append(f"the provider calls the answer {redact(status)!r}")
    if get_text(kinds.get("message", {}), "status") == "in_progress":
        notes.append("the provider calls the message 'in_progress', though it is finished")
    return Finished(
        reason,
        parse_usage(answer.get("usage"), "responses"),
        id=get_text(answer, "id"),
        model=get_text(answer, "model"),
        service_tier=get_text(answer, "service_tier"),
        detail=incomplete_reason,
        notes=tuple(notes),
        items=tuple(iter_objects(answer, "output")),
        citations=tuple(cited_in(iter_objects(answer, "output"))),
        hosted=count_hosted_tools(answer),
        said_cost_usd=parse_cost_usd(answer.get("usage")),
    )


class ResponsesReader:
    """Decodes a stream, one `data` after another.

    done: set by the terminal event; later frames are ignored. A failure is raised by `close`, so
    that text in the same frame is kept. A stream repeats all content: in deltas, at the end of a
    part, at the end of an item, and in the last snapshot. Some servers omit any of these, so the
    first source of some content is used.
    """

    def __init__(self) -> None:
        self.done = False
        # The kind of frame that text, refusal and reasoning are taken from.
        self._sources: dict[type[Event], str] = {}
        self._text_came = False
        self._calls: dict[str, int] = {}  # positions of calls, by their ids
        self._arguments_came: set[int] = set()
        self._items: dict[str, int] = {}  # positions of items, by their ids
        self._begun: dict[int, int] = {}  # the item that was last begun at an `output_index`
        self._whole: dict[int, Mapping[str, Any]] = {}  # finished items, by their positions
        self._failed: RequestFailed | None = None

    def read(self, data: bytes) -> Sequence[Event]:
        """Decode one frame. Raises RequestFailed for an error in the stream."""
        try:
            text = MORE_TEXT.validate_json(data)["delta"]
        except ValidationError:
            return self._decode_other(data)
        self._text_came = True
        return (TextDelta(text),)

    def _decode_other(self, data: bytes) -> Sequence[Event]:
        """Decode any frame but the common one of text."""
        if data == b"[DONE]":
            return ()
        frame = load_object(data)
        kind = frame.get("type")
        events: Iterable[Event] = ()
        match kind:
            case "response.created":
                answer = get_object(frame, "response")
                return (Started(get_text(answer, "id"), get_text(answer, "model")),)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._sources[ReasoningDelta] = "delta"
                return (ReasoningDelta(get_text(frame, "delta")),)
            case "response.reasoning_summary_part.added" if ReasoningDelta in self._sources:
                return (ReasoningDelta(PARAGRAPH),)
            case "response.refusal.delta":
                self._sources[RefusalDelta] = "delta"
                return (RefusalDelta(get_text(frame, "delta")),)
            case "response.output_text.done":
                events = self._new([TextDelta(get_text(frame, "text"))], kind)
            case "response.refusal.done":
                events = self._new([RefusalDelta(get_text(frame, "refusal"))], kind)
            case "response.content_part.done":
                part = {"type": "message", "content": [get_object(frame, "part")]}
                events = self._new(decode_item(part, 0), kind)
            case "response.output_item.added" if is_call(frame):
                item = get_object(frame, "item")
                place = self._place(
                    frame, get_text(item, "id"), get_text(item, "call_id"), begins=True
                )
                events = self._new([decode_call(place, item)], kind)
            case "response.function_call_arguments.delta":
                place = self._place(frame, get_text(frame, "item_id"))
                self._arguments_came.add(place)
                return (ToolCallDelta(place, "", "", get_text(frame, "delta")),)
            case "response.function_call_arguments.done":
                place = self._place(frame, get_text(frame, "item_id"))
                if place in self._calls.values() and place not in self._arguments_came:
                    events = self._new(
                        [ToolCallDelta(place, "", "", get_text(frame, "arguments"))], kind
                    )
            case "response.output_item.done":
                item = get_object(frame, "item")
                place = self._place(frame, get_text(item, "id"), get_text(item, "call_id"))
                self._whole[place] = item
                events = self._new(decode_item(item, place), kind)
            case "response.completed" | "response.incomplete":
                return self._end(get_object(frame, "response"))
            case "response.failed":
                return self._fail(get_object(frame, "response"))
        if kind == "error" or (kind is None and find_error(frame)):
            raise build_error(None, frame)
        return tuple(events) or (KeepAlive(),)

    def _place(
        self, frame: Mapping[str, Any], item_id: str, call_id: str = "", *, begins: bool = False
    ) -> int:
        """Position of an item, usually its `output_index`.

        llama.cpp sends only the id of the item; some gateways send the same index for all calls,
        others a new id for the same item in each frame.
        """
        index = get_count(frame, "output_index")
        place = self._calls.get(call_id) if call_id else None
        if place is None and item_id:
            place = self._items.get(item_id)
        if place is None and index is not None and not begins:
            place = self._begun.get(index)
            if call_id and place in self._whole:
                place = None  # that call is finished, so this is a new one
        if place is None:
            place = self._free(len(self._items) if index is None else index)
        if item_id:
            self._items[item_id] = place
        if index is not None:
            self._begun[index] = place
        return place

    def _free(self, place: int) -> int:
        """The position, or the next one that no other item has."""
        taken = {*self._items.values(), *self._begun.values(), *self._calls.values()}
        while place in taken:
            place += 1
        return place

    def _new(self, events: Iterable[Event], source: str) -> Iterator[Event]:
        """Yield the events whose content no earlier source had."""
        for event in events:
            match event:
                case ToolCallDelta():
                    yield from self._new_of_call(event)
                case TextDelta(text) if self._text_came or not text:
                    pass
                case ReasoningDelta(text) | RefusalDelta(text) if not text:
                    pass
                case ReasoningDelta(text):
                    gap = PARAGRAPH * (ReasoningDelta in self._sources)
                    if self._sources.setdefault(ReasoningDelta, source) == source:
                        yield ReasoningDelta(gap + text)
                case _ if self._sources.setdefault(type(event), source) == source:
                    yield event

    def _new_of_call(self, delta: ToolCallDelta) -> Iterator[Event]:
        """Yield what is new of a call; its position may differ from the stream's."""
        place, is_known = delta.place, not delta.id or delta.id in self._calls
        if delta.id:
            place = self._calls.setdefault(delta.id, place)
        has_arguments = place in self._arguments_came
        if delta.arguments:
            self._arguments_came.add(place)
        if not is_known or (delta.arguments and not has_arguments):
            yield delta._replace(place=place, arguments="" if has_arguments else delta.arguments)

    def _end(self, answer: Mapping[str, Any]) -> Sequence[Event]:
        """Return content that had no deltas, and the final event."""
        if answer.get("status") == "failed":
            return self._fail(answer)
        self.done = True
        answer = self._with_done(answer)
        return (*self._late(answer), build_finished(answer))

    def _fail(self, answer: Mapping[str, Any]) -> Sequence[Event]:
        """Return new content of a failed answer; `close` raises the failure."""
        self.done = True
        self._failed = build_error(None, answer)
        return (*self._late(answer),)

    def _with_done(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the finished items that the last snapshot omits."""
        output = [*iter_objects(answer, "output")]
        kinds = {item.get("type") for item in output}
        calls = {item.get("call_id") for item in output}
        missing = [
            item
            for _, item in sorted(self._whole.items())
            if (
                item.get("call_id") not in calls
                if is_call_item(item)
                else item.get("type") not in kinds
            )
        ]
        return {**answer, "output": [*output, *missing]} if missing else answer

    def _late(self, answer: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the content that only the last snapshot has."""
        for place, item in enumerate(iter_objects(answer, "output")):
            for event in decode_item(item, place):
                # A snapshot that omits items shifts the positions of the others.
                if isinstance(event, ToolCallDelta) and self._is_other(event):
                    event = event._replace(place=self._free(event.place))
                yield from self._new([event], "snapshot")

    def _is_other(self, delta: ToolCallDelta) -> bool:
        """Whether a new call has the position of another."""
        return delta.id not in self._calls and delta.place in self._calls.values()

    def close(self) -> Sequence[Event]:
        """End of the connection. Raises RequestFailed, or BrokenAnswer if it is incomplete."""
        if self._failed:
            raise self._failed
        if not self.done:
            raise BrokenAnswer("the answer broke off: the stream ended without its last event")
        return ()


def is_call(frame: Mapping[str, Any]) -> bool:
    """Whether an item that begins is a function call."""
    return is_call_item(get_object(frame, "item"))


def is_call_item(item: Mapping[str, Any]) -> bool:
    """Whether an output item is a function call."""
    return item.get("type") == "function_call"

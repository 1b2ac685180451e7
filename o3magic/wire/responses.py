"""OpenAI's Responses API: what a request looks like there, and what its answers and events mean.

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
from o3magic.wire.errors import error_of, failure
from o3magic.wire.hosted import hosted_in, said_cost_usd
from o3magic.wire.json_access import count, load, objects, section, word
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
    body |= request.options
    return with_params(body, request) if request.params else body


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
    failed = answer.get("status") == "failed"
    if empty and (failed or error_of(answer)):
        raise failure(200, answer)
    if empty:
        raise BrokenAnswer("the provider sent an answer with nothing in it (no output)")
    yield Started(word(answer, "id"), word(answer, "model"))
    yield from whole(answer)
    if failed:
        raise failure(200, answer)
    yield finished(answer)


def whole(answer: Mapping[str, Any]) -> Iterator[Event]:
    """What a whole answer says, as the events a stream would have had.

    The output items are joined here: `output_text` is made by the SDK, absent from OpenAI itself
    and wrong at some gateways.
    """
    thought = False
    for index, item in enumerate(objects(answer, "output")):
        for event in said_by(item, index):
            if isinstance(event, ReasoningDelta):
                event = ReasoningDelta(PARAGRAPH * thought + event.text)
                thought = True
            yield event


def said_by(item: Mapping[str, Any], place: int) -> Iterator[Event]:
    """What an output item says; each part of the reasoning is an event."""
    match item.get("type"):
        case "message":
            for part in objects(item, "content"):
                if part.get("type") == "refusal":
                    yield RefusalDelta(word(part, "refusal"))
                elif part.get("type") == "output_text":
                    yield TextDelta(word(part, "text"))
        case "reasoning":
            # Open models show the reasoning itself, as `content`, and no summary of it.
            for part in list(objects(item, "summary")) or list(objects(item, "content")):
                yield ReasoningDelta(word(part, "text"))
        case "function_call":
            yield call_started(place, item)


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


class ResponsesReader:
    """The events of a stream, one `data` after another.

    `done` is set by the terminal event; nothing behind it counts. Where it was a failure, `close`
    raises it, so that the words in the same frame are kept. A stream says everything
    several times: in deltas, when a part is done, when its item is, and in the last snapshot.
    Servers exist that leave any of these out, so the first one to say something counts.
    """

    def __init__(self) -> None:
        self.done = False
        # Which events say the text, the refusal and the reasoning: the finest that came.
        self._sources: dict[type[Event], str] = {}
        self._text_came = False
        self._calls: dict[str, int] = {}  # places of calls, by their ids
        self._arguments_came: set[int] = set()
        self._items: dict[str, int] = {}  # places of items, by their ids
        self._begun: dict[int, int] = {}  # the item that was last begun at an `output_index`
        self._whole: dict[int, Mapping[str, Any]] = {}  # items that are finished, by their places
        self._failed: RequestFailed | None = None

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
        found: Iterable[Event] = ()
        match kind:
            case "response.created":
                answer = section(frame, "response")
                return (Started(word(answer, "id"), word(answer, "model")),)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._sources[ReasoningDelta] = "delta"
                return (ReasoningDelta(word(frame, "delta")),)
            case "response.reasoning_summary_part.added" if ReasoningDelta in self._sources:
                return (ReasoningDelta(PARAGRAPH),)
            case "response.refusal.delta":
                self._sources[RefusalDelta] = "delta"
                return (RefusalDelta(word(frame, "delta")),)
            case "response.output_text.done":
                found = self._new([TextDelta(word(frame, "text"))], kind)
            case "response.refusal.done":
                found = self._new([RefusalDelta(word(frame, "refusal"))], kind)
            case "response.content_part.done":
                part = {"type": "message", "content": [section(frame, "part")]}
                found = self._new(said_by(part, 0), kind)
            case "response.output_item.added" if is_call(frame):
                item = section(frame, "item")
                place = self._place(frame, word(item, "id"), word(item, "call_id"), begins=True)
                found = self._new([call_started(place, item)], kind)
            case "response.function_call_arguments.delta":
                place = self._place(frame, word(frame, "item_id"))
                self._arguments_came.add(place)
                return (ToolCallDelta(place, "", "", word(frame, "delta")),)
            case "response.function_call_arguments.done":
                place = self._place(frame, word(frame, "item_id"))
                if place in self._calls.values() and place not in self._arguments_came:
                    found = self._new(
                        [ToolCallDelta(place, "", "", word(frame, "arguments"))], kind
                    )
            case "response.output_item.done":
                item = section(frame, "item")
                place = self._place(frame, word(item, "id"), word(item, "call_id"))
                self._whole[place] = item
                found = self._new(said_by(item, place), kind)
            case "response.completed" | "response.incomplete":
                return self._end(section(frame, "response"))
            case "response.failed":
                return self._fail(section(frame, "response"))
        if kind == "error" or (kind is None and error_of(frame)):
            raise failure(None, frame)
        return tuple(found) or (KeepAlive(),)

    def _place(
        self, frame: Mapping[str, Any], item_id: str, call_id: str = "", *, begins: bool = False
    ) -> int:
        """Where an item stands, which is its `output_index` as a rule.

        llama.cpp says none, but the item's id; some gateways give all calls the same one, others
        a new id to the same item in each frame.
        """
        index = count(frame, "output_index")
        place = self._calls.get(call_id) if call_id else None
        if place is None and item_id:
            place = self._items.get(item_id)
        if place is None and index is not None and not begins:
            place = self._begun.get(index)
            if call_id and place in self._whole:
                place = None  # that call is finished: this is another one
        if place is None:
            place = self._free(len(self._items) if index is None else index)
        if item_id:
            self._items[item_id] = place
        if index is not None:
            self._begun[index] = place
        return place

    def _free(self, place: int) -> int:
        """The place, or the next one that is no other item's."""
        taken = {*self._items.values(), *self._begun.values(), *self._calls.values()}
        while place in taken:
            place += 1
        return place

    def _new(self, events: Iterable[Event], source: str) -> Iterator[Event]:
        """Those of the events which nothing finer than their source has said before."""
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

    def _new_of_call(self, said: ToolCallDelta) -> Iterator[Event]:
        """What of a call was not said before; its place may be another than in the stream."""
        place, known = said.place, not said.id or said.id in self._calls
        if said.id:
            place = self._calls.setdefault(said.id, place)
        came = place in self._arguments_came
        if said.arguments:
            self._arguments_came.add(place)
        if not known or (said.arguments and not came):
            yield said._replace(place=place, arguments="" if came else said.arguments)

    def _end(self, answer: Mapping[str, Any]) -> Sequence[Event]:
        """The last events, and before them what a server sent no deltas of."""
        if answer.get("status") == "failed":
            return self._fail(answer)
        self.done = True
        answer = self._with_done(answer)
        return (*self._late(answer), finished(answer))

    def _fail(self, answer: Mapping[str, Any]) -> Sequence[Event]:
        """What a failed answer says that was not said; the failure itself comes at the close."""
        self.done = True
        self._failed = failure(None, answer)
        return (*self._late(answer),)

    def _with_done(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """The last snapshot with the finished items that it leaves out."""
        output = [*objects(answer, "output")]
        kinds = {each.get("type") for each in output}
        calls = {each.get("call_id") for each in output}
        left_out = [
            item
            for _, item in sorted(self._whole.items())
            if (
                item.get("call_id") not in calls
                if is_call_item(item)
                else item.get("type") not in kinds
            )
        ]
        return {**answer, "output": [*output, *left_out]} if left_out else answer

    def _late(self, answer: Mapping[str, Any]) -> Iterator[Event]:
        """What the last snapshot says and nothing before it said."""
        for place, item in enumerate(objects(answer, "output")):
            for event in said_by(item, place):
                # A snapshot that leaves items out gives the others other places.
                if isinstance(event, ToolCallDelta) and self._is_other(event):
                    event = event._replace(place=self._free(event.place))
                yield from self._new([event], "snapshot")

    def _is_other(self, said: ToolCallDelta) -> bool:
        """Whether a call is a new one at the place of another."""
        return said.id not in self._calls and said.place in self._calls.values()

    def close(self) -> Sequence[Event]:
        """The connection ended. Raises RequestFailed or BrokenAnswer where the answer had not."""
        if self._failed:
            raise self._failed
        if not self.done:
            raise BrokenAnswer("the answer broke off: the stream ended without its last event")
        return ()


def is_call(frame: Mapping[str, Any]) -> bool:
    """Whether an item that begins is a function call."""
    return is_call_item(section(frame, "item"))


def is_call_item(item: Mapping[str, Any]) -> bool:
    """Whether an output item is a function call."""
    return item.get("type") == "function_call"

"""An answer in the shape of the Responses API: one object, or the events of a stream.

Follows https://platform.openai.com/docs/api-reference/responses-streaming
"""

import base64
import time
from collections.abc import Iterator
from typing import Any

from o3magic.simulator.answer import SimulatedAnswer, call_id, split
from o3magic.simulator.asked import Asked, Json, dict_of
from o3magic.simulator.parameters import tier_of

STATUSES = {"length": "incomplete", "content_filter": "incomplete", "failed": "failed"}
REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
# Nothing else about the answer is hidden, so neither is this.
ENCRYPTED = base64.b64encode(b"SIMULATED: no model has thought").decode()
PAD_CHARS = 16


def response(asked: Asked, answer: SimulatedAnswer) -> Json:
    """The finished Response."""
    status = STATUSES.get(answer.finish, "completed")
    reason = REASONS.get(answer.finish)
    return _head(asked, answer) | {
        "status": status,
        "completed_at": int(time.time()) if status == "completed" else None,
        "error": dict(answer.error) if status == "failed" else None,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _items(asked, answer),
        "usage": usage(answer),
    }


def usage(answer: SimulatedAnswer) -> Json | None:
    """What was counted, in this API's names."""
    counted = answer.usage
    if counted.given is not None:
        return dict(counted.given) or None
    return {
        "input_tokens": counted.input_tokens,
        "input_tokens_details": {"cached_tokens": counted.cached_tokens},
        "output_tokens": counted.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counted.reasoning_tokens},
        "total_tokens": counted.input_tokens + counted.output_tokens,
    }


def events(asked: Asked, answer: SimulatedAnswer) -> Iterator[Json | None]:
    """The events of a stream, not yet numbered; None is a moment of thinking."""
    head = _head(asked, answer)
    yield {"type": "response.created", "response": head}
    yield {"type": "response.in_progress", "response": head}
    items = _items(asked, answer)
    if not items or items[0]["type"] != "reasoning":
        yield None
    for index, item in enumerate(items):
        match item["type"]:
            case "reasoning":
                inner = _reasoning(answer, item)
                begun = item | {"summary": []}
            case "message":
                inner = _message(asked, answer, item)
                begun = item | {"status": "in_progress", "content": []}
            case _:
                inner = _call(item)
                begun = item | {"status": "in_progress", "arguments": ""}
        yield {"type": "response.output_item.added", "output_index": index, "item": begun}
        for event in inner:
            if event is None:
                yield None
                continue
            place = {"item_id": item["id"], "output_index": index}
            yield {"type": event.pop("type"), **place, **event}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    whole = response(asked, answer)
    yield {"type": f"response.{whole['status']}", "response": whole}


def _reasoning(answer: SimulatedAnswer, item: Json) -> Iterator[Json | None]:
    yield None
    kind = "response.reasoning_summary"
    for index, part in enumerate(item["summary"]):
        place = {"summary_index": index}
        empty = part | {"text": ""}
        yield {"type": f"{kind}_part.added", **place, "part": empty}
        for piece in split(part["text"]):
            yield {"type": f"{kind}_text.delta", **place, "delta": piece, **_pad(piece)}
        yield {"type": f"{kind}_text.done", **place, "text": part["text"]}
        yield {"type": f"{kind}_part.done", **place, "part": part}


def _message(asked: Asked, answer: SimulatedAnswer, item: Json) -> Iterator[Json]:
    place = {"content_index": 0}
    part = item["content"][0]
    refused = part["type"] == "refusal"
    name = "refusal" if refused else "text"
    kind = "response.refusal" if refused else "response.output_text"
    extra: Json = {} if refused else {"logprobs": []}
    padded = dict_of(asked.body.get("stream_options")).get("include_obfuscation") is not False
    yield {"type": "response.content_part.added", **place, "part": part | {name: ""}}
    for piece in answer.pieces:
        pad = _pad(piece) if padded else {}
        yield {"type": f"{kind}.delta", **place, "delta": piece, **extra, **pad}
    yield {"type": f"{kind}.done", **place, name: part[name], **extra}
    yield {"type": "response.content_part.done", **place, "part": part}


def _call(item: Json) -> Iterator[Json]:
    kind = "response.function_call_arguments"
    for piece in split(item["arguments"]):
        yield {"type": f"{kind}.delta", "delta": piece, **_pad(piece)}
    yield {"type": f"{kind}.done", "arguments": item["arguments"]}


def _pad(piece: str) -> Json:
    """What hides the length of a piece from who listens to the wire."""
    return {"obfuscation": "x" * (PAD_CHARS - len(piece) % PAD_CHARS)}


def _items(asked: Asked, answer: SimulatedAnswer) -> list[Json]:
    items: list[Json] = []
    if asked.effort != "none" or answer.summary:
        parts = [{"type": "summary_text", "text": part} for part in answer.summary]
        item: Json = {"id": f"rs_{answer.id}", "type": "reasoning", "summary": parts}
        include = asked.body.get("include") or []
        if asked.body.get("store") is False or "reasoning.encrypted_content" in include:
            item["encrypted_content"] = ENCRYPTED
        items.append(item)
    if answer.message and (answer.text or answer.refusal is not None or not answer.calls):
        items.append(_message_item(answer))
    for index, call in enumerate(answer.calls):
        items.append(
            {
                "id": f"fc_{answer.id}{index}",
                "type": "function_call",
                "status": "completed",
                "arguments": call.arguments,
                "call_id": call_id(answer, index),
                "name": call.name,
            }
        )
    return items


def _message_item(answer: SimulatedAnswer) -> Json:
    part: Json = {"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}
    if answer.refusal is not None:
        part = {"type": "refusal", "refusal": answer.refusal}
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "status": "incomplete" if answer.finish in REASONS else "completed",
        "content": [part],
        "role": "assistant",
    }


def _head(asked: Asked, answer: SimulatedAnswer) -> Json:
    """The Response as it is before anything has come."""
    body = asked.body
    reasoning = dict_of(body.get("reasoning"))

    def given(name: str, usual: Any) -> Any:
        return usual if body.get(name) is None else body[name]

    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": given("background", False),
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": f"{asked.model}-simulated",
        "output": [],
        "parallel_tool_calls": given("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"summary": None, **reasoning, "effort": asked.effort},
        "service_tier": tier_of(body),
        "store": given("store", True),
        "temperature": given("temperature", 1.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium", **dict_of(body.get("text"))},
        "tool_choice": given("tool_choice", "auto"),
        "tools": given("tools", []),
        "top_p": given("top_p", 1.0),
        "truncation": given("truncation", "disabled"),
        "usage": None,
        "user": body.get("user"),
        "safety_identifier": body.get("safety_identifier"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "metadata": given("metadata", {}),
    }

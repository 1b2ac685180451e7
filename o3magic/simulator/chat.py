"""An answer in the shape of Chat Completions: one object, or the chunks of a stream.

Follows https://platform.openai.com/docs/api-reference/chat-streaming
"""

import time
from collections.abc import Iterator

from o3magic.simulator.answer import SimulatedAnswer, call_id, split
from o3magic.simulator.asked import Asked, Json, dict_of
from o3magic.simulator.parameters import tier_of


def completion(asked: Asked, answer: SimulatedAnswer) -> Json:
    """The finished chat.completion."""
    message: Json = {
        "role": "assistant",
        "content": _content(answer),
        "refusal": answer.refusal,
        "annotations": [],
    }
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call_id(answer, index),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(answer.calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
    whole = _head(asked, answer, "chat.completion") | {"choices": [choice]}
    counted = usage(answer)
    return whole | ({"usage": counted} if counted else {})


def chunks(asked: Asked, answer: SimulatedAnswer) -> Iterator[Json | None]:
    """The chunks of a stream; None is a moment of thinking."""
    head = _head(asked, answer, "chat.completion.chunk")
    counted = dict_of(asked.body.get("stream_options")).get("include_usage") is True
    pending: Json = {"usage": None} if counted else {}
    for delta in _deltas(answer):
        if delta is None:
            yield None
            continue
        finish = None if delta else _finish(answer)
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        yield {**head, "choices": [choice], **pending}
    total = usage(answer)
    if counted and total:
        yield {**head, "choices": [], "usage": total}


def usage(answer: SimulatedAnswer) -> Json | None:
    """What was counted, in this API's names."""
    counted = answer.usage
    if counted.given is not None:
        return dict(counted.given) or None
    return {
        "prompt_tokens": counted.input_tokens,
        "completion_tokens": counted.output_tokens,
        "total_tokens": counted.input_tokens + counted.output_tokens,
        "prompt_tokens_details": {"cached_tokens": counted.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counted.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _deltas(answer: SimulatedAnswer) -> Iterator[Json | None]:
    """What each chunk adds; the empty one at the end carries the finish reason."""
    content = None if answer.calls and not answer.text else ""
    yield {"role": "assistant", "content": content, "refusal": None}
    yield None
    name = "content" if answer.refusal is None else "refusal"
    for piece in answer.pieces:
        yield {name: piece}
    for index, call in enumerate(answer.calls):
        opening = {"name": call.name, "arguments": ""}
        first = {"id": call_id(answer, index), "type": "function", "function": opening}
        yield {"tool_calls": [{"index": index, **first}]}
        for piece in split(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
    if answer.finish != "failed":  # there is no such finish reason: an error follows instead
        yield {}


def _content(answer: SimulatedAnswer) -> str | None:
    return None if answer.refusal is not None or (answer.calls and not answer.text) else answer.text


def _finish(answer: SimulatedAnswer) -> str:
    return "tool_calls" if answer.calls and answer.finish == "stop" else answer.finish


def _head(asked: Asked, answer: SimulatedAnswer, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{answer.id[:29]}",
        "object": kind,
        "created": int(time.time()),
        "model": f"{asked.model}-simulated",
        "service_tier": tier_of(asked.body),
        "system_fingerprint": "fp_simulated",
    }

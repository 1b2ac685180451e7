"""Sessions that ask a server on loopback, and answers a real provider might give it."""

import json
from contextlib import closing

from o3magic.config import Config
from o3magic.messages import Tool
from o3magic.session.session import Session

KEY = "sk-test-0123456789abcdefSECRET"
USAGE = {"input_tokens": 7, "output_tokens": 87, "input_tokens_details": {"cached_tokens": 0}}
USAGE |= {"output_tokens_details": {"reasoning_tokens": 64}, "total_tokens": 94}
COUNTS = {"prompt_tokens": 7, "completion_tokens": 87, "total_tokens": 94}
COUNTS |= {"completion_tokens_details": {"reasoning_tokens": 64}}
COST_NANO_USD = 7 * 1100 + 87 * 4400

WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
)


def session_at(base_url, *, providers=None, models=None, model="o3-mini", **environment):
    """A session that asks this address with a key and keeps its books in memory.

    model: the one that is set, "" for the provider's default of today.
    """
    usual = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": base_url, "O3MAGIC_LEDGER": ":memory:"}
    said = {"user file": {"model": model} if model else {}}
    layers = Config(said, providers=providers or {}, models=models or {})
    return closing(Session(layers, usual | environment))


def entries(session):
    """The rows of its ledger."""
    return list(session.ledger.entries())


def frames(*values, name="data"):
    """A stream: each value as JSON, a text as it is."""
    said = (each if isinstance(each, str) else json.dumps(each) for each in values)
    return "".join(f"{name}: {each}\n\n" for each in said).encode()


def response(text="four", *, usage=USAGE, **more):
    """A whole answer of the Responses API, not labelled as simulated: it costs."""
    part = {"type": "output_text", "text": text}
    said = {"id": "resp_1", "model": "o3-mini-2025-01-31", "status": "completed"}
    said |= {"output": [{"type": "message", "content": [part]}], "usage": usage}
    return said | more


def response_stream(*words, **more):
    """The same as a stream."""
    deltas = [{"type": "response.output_text.delta", "delta": word} for word in words]
    end = {"type": "response.completed", "response": response("".join(words), **more)}
    begun = {"type": "response.created", "response": {"id": "resp_1", "model": "o3-mini"}}
    return frames(begun, *deltas, end)


def chunk(delta=None, *, finish=None, **more):
    """One chunk of the Chat API."""
    choice = {"index": 0, "finish_reason": finish} | ({} if delta is None else {"delta": delta})
    return {"id": "chatcmpl-1", "model": "o3-mini-2025-01-31", "choices": [choice]} | more


def chat_stream(*words, usage=COUNTS, done=True):
    """A stream of the Chat API, not labelled as simulated: it costs."""
    said = [chunk({"content": word}) for word in words]
    counted = [chunk() | {"choices": [], "usage": usage}] if usage else []
    return frames(*said, chunk({}, finish="stop"), *counted, *(["[DONE]"] if done else []))

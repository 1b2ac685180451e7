"""What was asked, as far as it decides the answer: the same question has the same key.

Not in it: who is asked and with which key, headers, retries, timeouts, whether it streams. A
recording made at one provider replays for another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from o3magic.messages import (
    Effort,
    HostedTool,
    Image,
    Message,
    Raw,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from o3magic.tapes.canonical import digest, key_of, normal_request

# Fields of a request that say how it is carried, billed or stored, not what is asked.
# What stands in an entry for the model of a question that names none.
UNNAMED = "default"
# What such questions asked before the default was a decision of the provider and the day: they are
# recorded as if they had named it.
FIRST_DEFAULT = "o3-mini"
NOT_ASKED = {
    *("stream", "stream_options", "store", "metadata", "user", "service_tier", "include"),
    *("safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
}


@dataclass(frozen=True)
class Question:
    """One call to a model.

    api             as asked for, not as spoken: a provider may turn out to lack one
    model, effort   as asked for; "" and None: not said
    default_model, default_effort, default_reason   what was asked then, and why; they decide
                    nothing but are kept
    schema          the JSON Schema of the answer's type, before it is made strict for a provider
    sent_schema     the schema as it is sent; it decides nothing but is kept as a hash
    sample          1, or more for another answer to the same question
    tier            "batch" where the Batch API answers, at its own price; else ""
    options         what else was said: verbosity, parameters; those in NOT_ASKED do not count
    """

    model: str
    messages: tuple[Message, ...]
    default_model: str = ""
    default_effort: Effort | None = None
    default_reason: str = ""
    api: Literal["auto", "responses", "chat"] = "auto"
    effort: Effort | None = None
    tools: tuple[Tool | HostedTool, ...] = ()
    schema: Mapping[str, Any] | None = None
    sent_schema: Mapping[str, Any] | None = None
    schema_name: str = ""
    summary: str | None = None
    max_output_tokens: int | None = None
    sample: int = 1
    tier: Literal["", "batch"] = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def canonical(self) -> dict[str, Any]:
        """The question as a cassette has it."""
        return normal_request(self._said)

    @cached_property
    def key(self) -> str:
        """16 hex digits; the same for every way to say the same."""
        return key_of(self._said)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys it is found by, the best first."""
        if self.model:
            return (self.key,)
        return (self.key, replace(self, model=FIRST_DEFAULT).key)

    @property
    def schema_sha(self) -> str:
        """16 hex digits of the schema exactly as it is sent, or ""."""
        sent = self.schema if self.sent_schema is None else self.sent_schema
        return "" if sent is None else digest(json.dumps(sent, default=str))

    @property
    def at_other_tier(self) -> Question:
        """The same asked one by one instead of in a batch, or the other way round."""
        return replace(self, tier="" if self.tier else "batch")

    def with_messages(self, *more: Message) -> Question:
        """The question of the next round: a repair, or the results of tool calls."""
        return replace(self, messages=(*self.messages, *more))

    @property
    def _said(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "api": self.api,
            "model": self.model or UNNAMED,
            "effort": self.effort,
            "summary": None if self.summary == "none" else self.summary,
            "max_output_tokens": self.max_output_tokens,
            "sample": None if self.sample == 1 else self.sample,
            "tier": self.tier,
            "options": {name: self.options[name] for name in self.options.keys() - NOT_ASKED},
            "messages": [
                {
                    "role": each.role,
                    # What Raw holds is there as words and calls too, without the ids of one run.
                    "content": [part_of(p) for p in each.parts if not isinstance(p, Raw)],
                }
                for each in self.messages
            ],
            "tools": [*map(tool_of, self.tools)],
        }
        if self.schema is not None:
            said |= {"schema_name": self.schema_name, "schema": self.schema}
        return said


def part_of(part: Text | Image | ToolCall | ToolResult) -> dict[str, Any]:
    """A part of a message as a cassette has it."""
    match part:
        case Text(text):
            return {"text": text}
        case Image(url, detail):
            return {"image": url, "detail": detail}
        case ToolCall(call_id, name, arguments):
            return {"tool_call": call_id, "name": name, "arguments": arguments}
    return {"tool_result": part.call_id, "text": part.text}


def tool_of(tool: Tool | HostedTool) -> dict[str, Any]:
    """A tool as a cassette has it."""
    if isinstance(tool, HostedTool):
        return {**tool.options, "type": tool.type}
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }

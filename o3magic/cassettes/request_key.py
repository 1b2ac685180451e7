"""What was asked, as far as it decides the answer: the same question has the same key.

Not in it: who is asked and with which key, headers, retries, timeouts, whether it streams. A
recording made at one provider replays for another.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from o3magic.errors import CassetteError
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

VERSION = 1
KEY_DIGITS = 16
# These differ between versions of pydantic for one and the same model.
UNSTABLE = {"title", "default", "examples", "pattern", "format", "$schema"}
NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
NOTHING_SAID: tuple[Any, ...] = (None, "", [], {})


def key_of(request: Mapping[str, Any]) -> str:
    """The key of a request, however it is written down. Raises CassetteError for no request."""
    normal = {"api": "auto"} | normal_request(request, as_pairs=True)
    return digest(json.dumps(normal, sort_keys=True, separators=(",", ":")))


def digest(text: str) -> str:
    """The first 16 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_DIGITS]


def normal_request(request: Mapping[str, Any], *, as_pairs: bool = False) -> dict[str, Any]:
    """A request in its one form. `prompt` may stand for a single message of the user.

    as_pairs: a schema's properties as pairs, so that sorting does not lose their order.
    """
    said = dict(request)
    if "prompt" in said:
        prompt = {"role": "user", "content": said.pop("prompt")}
        said["messages"] = [*listed(said.get("messages", [])), prompt]
    normal: dict[str, Any] = {"v": VERSION}
    for name, value in said.items():
        if name == "messages":
            normal[name] = normal_messages(listed(value))
        elif name == "schema":
            normal[name] = normal_schema(value, as_pairs=as_pairs)
        elif name == "tools":
            normal[name] = [normal_tool(each, as_pairs=as_pairs) for each in listed(value)]
        elif name != "v":
            normal[name] = plain(value)
    return {name: value for name, value in normal.items() if value not in NOTHING_SAID}


def normal_messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Messages in their one form; the ids of tool calls are random, so they are counted."""
    numbers: dict[str, str] = {}
    normal = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise CassetteError("a message is no object with a role and a content")
        role = "developer" if message["role"] == "system" else message["role"]
        parts = [normal_part(part, numbers) for part in parts_of(message.get("content", ""))]
        only = parts[0]["text"] if len(parts) == 1 and [*parts[0]] == ["text"] else None
        normal.append({"role": role, "content": parts if only is None else only})
    return normal


def parts_of(content: Any) -> Iterator[Mapping[str, Any]]:
    """The parts of a message, words that stand side by side as one."""
    content = [content] if isinstance(content, str) else listed(content)
    words: list[str] = []
    for part in content:
        part = {"text": part} if isinstance(part, str) else part
        if not isinstance(part, Mapping):
            raise CassetteError("a part of a message is neither text nor an object")
        if [*part] == ["text"]:
            words.append(joined(part["text"]))
            continue
        if words:
            yield {"text": "".join(words)}
            words = []
        yield part
    if words or not content:
        yield {"text": "".join(words)}


def normal_part(part: Mapping[str, Any], numbers: dict[str, str]) -> dict[str, Any]:
    """One part: a picture as its hash or address, a call with its number as id."""
    normal = {name: plain(value) for name, value in part.items()}
    for name in ("tool_call", "tool_result"):
        if name in part:
            call_id = str(part[name])
            normal[name] = numbers.setdefault(call_id, f"call_{len(numbers) + 1}")
    for name in ("text", "arguments"):
        if name in part:
            normal[name] = lines(clean(joined(part[name])))
    url = part.get("image")
    if isinstance(url, str) and url.startswith("data:"):
        normal["image"] = f"sha256:{hashlib.sha256(url.encode()).hexdigest()}"
    if normal.get("detail") == "auto":
        del normal["detail"]
    return normal


def normal_tool(tool: Any, *, as_pairs: bool) -> dict[str, Any]:
    """A tool in its one form."""
    if not isinstance(tool, Mapping):
        raise CassetteError("a tool is no object")
    normal = {name: plain(value) for name, value in tool.items() if value is not None}
    if "description" in normal:
        normal["description"] = lines(clean(joined(tool["description"])))
    if "parameters" in normal:
        normal["parameters"] = normal_schema(tool["parameters"], as_pairs=as_pairs)
    if normal.get("strict") is True:
        del normal["strict"]
    return normal


def normal_schema(schema: Any, *, as_pairs: bool = False) -> Any:
    """A JSON Schema without what differs between versions of pydantic, its keywords sorted."""
    if isinstance(schema, list | tuple):
        return [normal_schema(each, as_pairs=as_pairs) for each in schema]
    if not isinstance(schema, Mapping):
        return plain(schema)
    schema = unwrapped(schema)
    normal: dict[str, Any] = {}
    for word in sorted(schema.keys() - UNSTABLE):
        value = schema[word]
        if word in NAMED and isinstance(value, Mapping):
            # Their keys are names: a property may be called `title`.
            named = {name: normal_schema(each, as_pairs=as_pairs) for name, each in value.items()}
            pairs = as_pairs and word == "properties"
            normal[word] = [*map(list, named.items())] if pairs else named
        elif word in ("enum", "const"):
            normal["enum"] = plain([value] if word == "const" else value)
        elif word == "required" and isinstance(value, list):
            normal[word] = sorted(value, key=str)
        elif word != "additionalProperties" or value is not True:
            normal[word] = normal_schema(value, as_pairs=as_pairs)
    if "enum" in normal:
        normal.pop("type", None)  # its values say it; pydantic did not always
    return normal


def unwrapped(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without an `allOf` around a single one."""
    while isinstance(only := schema.get("allOf"), list) and len(only) == 1:
        if not isinstance(only[0], Mapping):
            break
        rest = {word: value for word, value in schema.items() if word != "allOf"}
        schema = {**only[0], **rest}
    return schema


def plain(value: Any) -> Any:
    """A value as JSON has it: no None in objects, whole numbers without a point."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() else value
    return value if value is None or isinstance(value, str | int) else str(value)


def clean(text: str) -> str:
    """A text with LF line ends and no blank lines at either end."""
    rows = text.replace("\r\n", "\n").split("\n")
    first, last = 0, len(rows)
    while first < last and not rows[first].strip():
        first += 1
    while first < last and not rows[last - 1].strip():
        last -= 1
    return "\n".join(rows[first:last])


def lines(text: str) -> str | list[str]:
    """A text as a notebook's file has it: a list of lines where it has more than one."""
    rows = text.split("\n")
    whole = [f"{row}\n" for row in rows[:-1]] + [rows[-1]] * bool(rows[-1])
    return whole if len(whole) > 1 else text


def joined(value: Any) -> str:
    """A text that may be written as a list of lines. Raises CassetteError for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    raise CassetteError("a text is neither a string nor a list of lines")


def listed(value: Any) -> list[Any]:
    """A list. Raises CassetteError where it is none."""
    if not isinstance(value, list | tuple):
        raise CassetteError("the request has something else where a list belongs")
    return [*value]


def texts_in(value: Any) -> Iterable[str]:
    """All texts in a value, those written as lines put together."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        yield "".join(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)


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
class CanonicalRequest:
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
    def at_other_tier(self) -> CanonicalRequest:
        """The same asked one by one instead of in a batch, or the other way round."""
        return replace(self, tier="" if self.tier else "batch")

    def with_messages(self, *more: Message) -> CanonicalRequest:
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

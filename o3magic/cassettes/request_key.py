"""The canonical form of a request and its key: equal requests have equal keys.

The form leaves out the provider, its key, headers, retries, timeouts and streaming. A recording
made at one provider replays for another.
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


def compute_key(request: Mapping[str, Any]) -> str:
    """Compute the key of a request. Raises CassetteError for a malformed one."""
    normal = {"api": "auto"} | normalize_request(request, as_pairs=True)
    return compute_digest(json.dumps(normal, sort_keys=True, separators=(",", ":")))


def compute_digest(text: str) -> str:
    """The first 16 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_DIGITS]


def normalize_request(request: Mapping[str, Any], *, as_pairs: bool = False) -> dict[str, Any]:
    """Normalize a request. `prompt` stands for a message of the user.

    as_pairs: write the properties of a schema as pairs, so that sorting keeps their order.
    """
    fields = dict(request)
    if "prompt" in fields:
        prompt = {"role": "user", "content": fields.pop("prompt")}
        fields["messages"] = [*require_list(fields.get("messages", [])), prompt]
    normal: dict[str, Any] = {"v": VERSION}
    for name, value in fields.items():
        if name == "messages":
            normal[name] = normalize_messages(require_list(value))
        elif name == "schema":
            normal[name] = normalize_schema(value, as_pairs=as_pairs)
        elif name == "tools":
            normal[name] = [normalize_tool(tool, as_pairs=as_pairs) for tool in require_list(value)]
        elif name != "v":
            normal[name] = to_plain_json(value)
    return {name: value for name, value in normal.items() if value not in NOTHING_SAID}


def normalize_messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Normalize messages. Ids of tool calls are random, so numbers replace them."""
    numbers: dict[str, str] = {}
    normal = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise CassetteError("a message is not an object with a role and a content")
        role = "developer" if message["role"] == "system" else message["role"]
        parts = [
            normalize_part(part, numbers) for part in merge_text_parts(message.get("content", ""))
        ]
        text = parts[0]["text"] if len(parts) == 1 and [*parts[0]] == ["text"] else None
        normal.append({"role": role, "content": parts if text is None else text})
    return normal


def merge_text_parts(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a message; adjacent texts are joined."""
    content = [content] if isinstance(content, str) else require_list(content)
    words: list[str] = []
    for part in content:
        part = {"text": part} if isinstance(part, str) else part
        if not isinstance(part, Mapping):
            raise CassetteError("a part of a message is neither text nor an object")
        if [*part] == ["text"]:
            words.append(join_lines(part["text"]))
            continue
        if words:
            yield {"text": "".join(words)}
            words = []
        yield part
    if words or not content:
        yield {"text": "".join(words)}


def normalize_part(part: Mapping[str, Any], numbers: dict[str, str]) -> dict[str, Any]:
    """Normalize a part: an image becomes its hash or URL, a call gets its number as id."""
    normal = {name: to_plain_json(value) for name, value in part.items()}
    for name in ("tool_call", "tool_result"):
        if name in part:
            call_id = str(part[name])
            normal[name] = numbers.setdefault(call_id, f"call_{len(numbers) + 1}")
    for name in ("text", "arguments"):
        if name in part:
            normal[name] = split_lines(trim_blank_lines(join_lines(part[name])))
    url = part.get("image")
    if isinstance(url, str) and url.startswith("data:"):
        normal["image"] = f"sha256:{hashlib.sha256(url.encode()).hexdigest()}"
    if normal.get("detail") == "auto":
        del normal["detail"]
    return normal


def normalize_tool(tool: Any, *, as_pairs: bool) -> dict[str, Any]:
    if not isinstance(tool, Mapping):
        raise CassetteError("a tool is not an object")
    normal = {name: to_plain_json(value) for name, value in tool.items() if value is not None}
    if "description" in normal:
        normal["description"] = split_lines(trim_blank_lines(join_lines(tool["description"])))
    if "parameters" in normal:
        normal["parameters"] = normalize_schema(tool["parameters"], as_pairs=as_pairs)
    if normal.get("strict") is True:
        del normal["strict"]
    return normal


def normalize_schema(schema: Any, *, as_pairs: bool = False) -> Any:
    """Normalize a JSON Schema: without what differs between pydantic versions, keywords sorted."""
    if isinstance(schema, list | tuple):
        return [normalize_schema(item, as_pairs=as_pairs) for item in schema]
    if not isinstance(schema, Mapping):
        return to_plain_json(schema)
    schema = unwrap_all_of(schema)
    normal: dict[str, Any] = {}
    for keyword in sorted(schema.keys() - UNSTABLE):
        value = schema[keyword]
        if keyword in NAMED and isinstance(value, Mapping):
            # Their keys are names: a property may be called `title`.
            named = {
                name: normalize_schema(item, as_pairs=as_pairs) for name, item in value.items()
            }
            pairs = as_pairs and keyword == "properties"
            normal[keyword] = [*map(list, named.items())] if pairs else named
        elif keyword in ("enum", "const"):
            normal["enum"] = to_plain_json([value] if keyword == "const" else value)
        elif keyword == "required" and isinstance(value, list):
            normal[keyword] = sorted(value, key=str)
        elif keyword != "additionalProperties" or value is not True:
            normal[keyword] = normalize_schema(value, as_pairs=as_pairs)
    if "enum" in normal:
        normal.pop("type", None)  # its values say it; pydantic did not always
    return normal


def unwrap_all_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove an `allOf` that has a single member."""
    while isinstance(members := schema.get("allOf"), list) and len(members) == 1:
        if not isinstance(members[0], Mapping):
            break
        rest = {keyword: value for keyword, value in schema.items() if keyword != "allOf"}
        schema = {**members[0], **rest}
    return schema


def to_plain_json(value: Any) -> Any:
    """Convert a value to plain JSON: no None in objects, whole floats as int."""
    if isinstance(value, Mapping):
        return {str(name): to_plain_json(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [to_plain_json(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() else value
    return value if value is None or isinstance(value, str | int) else str(value)


def trim_blank_lines(text: str) -> str:
    """Normalize line ends to LF and remove blank lines at both ends."""
    rows = text.replace("\r\n", "\n").split("\n")
    first, last = 0, len(rows)
    while first < last and not rows[first].strip():
        first += 1
    while first < last and not rows[last - 1].strip():
        last -= 1
    return "\n".join(rows[first:last])


def split_lines(text: str) -> str | list[str]:
    """Split a text of several lines into a list, as notebook files do."""
    rows = text.split("\n")
    whole = [f"{row}\n" for row in rows[:-1]] + [rows[-1]] * bool(rows[-1])
    return whole if len(whole) > 1 else text


def join_lines(value: Any) -> str:
    """Join a text that may be written as a list of lines. Raises CassetteError."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    raise CassetteError("a text is neither a string nor a list of lines")


def require_list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise CassetteError("the request lacks a list where one is required")
    return [*value]


def iter_texts(value: Any) -> Iterable[str]:
    """Yield all texts in a value; a list of lines is joined."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        yield "".join(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from iter_texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from iter_texts(item)


# Written in an entry as the model of a request that names none.
UNNAMED = "default"
# The default model of former versions, which recorded such requests as if they had named it.
FIRST_DEFAULT = "o3-mini"
# Options about transport, billing or storage, which do not change the answer.
NOT_ASKED = {
    *("stream", "stream_options", "store", "metadata", "user", "service_tier", "include"),
    *("safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
}


@dataclass(frozen=True)
class CanonicalRequest:
    """One call to a model.

    api             as requested, not as used: a provider may lack one
    model, effort   as requested; "" and None: not set
    default_model, default_effort, default_reason   what was used then, and why; recorded,
                    but not part of the key
    schema          the JSON Schema of the answer's type, before it is made strict for a provider
    sent_schema     the schema as it is sent; recorded as a hash, not part of the key
    sample          1, or more for another answer to the same request
    tier            "batch" for the Batch API, which has its own prices; else ""
    options         verbosity and parameters; those in NOT_ASKED are not part of the key
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
        """Return the request as written to a cassette."""
        return normalize_request(self._fields)

    @cached_property
    def key(self) -> str:
        """16 hex digits."""
        return compute_key(self._fields)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys to look it up by, the best first."""
        if self.model:
            return (self.key,)
        return (self.key, replace(self, model=FIRST_DEFAULT).key)

    @property
    def schema_sha(self) -> str:
        """16 hex digits of the schema exactly as it is sent, or ""."""
        sent = self.schema if self.sent_schema is None else self.sent_schema
        return "" if sent is None else compute_digest(json.dumps(sent, default=str))

    @property
    def at_other_tier(self) -> CanonicalRequest:
        """The request without the Batch API, or with it if this one is without."""
        return replace(self, tier="" if self.tier else "batch")

    def with_messages(self, *more: Message) -> CanonicalRequest:
        """Append messages for the next round: a repair, or the results of tool calls."""
        return replace(self, messages=(*self.messages, *more))

    @property
    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
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
                    "role": message.role,
                    # Text and calls repeat what Raw holds, without its ids of one run.
                    "content": [
                        part_to_json(part) for part in message.parts if not isinstance(part, Raw)
                    ],
                }
                for message in self.messages
            ],
            "tools": [*map(tool_to_json, self.tools)],
        }
        if self.schema is not None:
            fields |= {"schema_name": self.schema_name, "schema": self.schema}
        return fields


def part_to_json(part: Text | Image | ToolCall | ToolResult) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"text": text}
        case Image(url, detail):
            return {"image": url, "detail": detail}
        case ToolCall(call_id, name, arguments):
            return {"tool_call": call_id, "name": name, "arguments": arguments}
    return {"tool_result": part.call_id, "text": part.text}


def tool_to_json(tool: Tool | HostedTool) -> dict[str, Any]:
    if isinstance(tool, HostedTool):
        return {**tool.options, "type": tool.type}
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }

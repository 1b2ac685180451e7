"""What a request asks, read from either endpoint's body into one value.

Reading never fails: a body that makes no sense asks for little. Judging it is `rules`' job.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from o3magic.simulator.models import Family, family_of

Json = dict[str, Any]
Api = Literal["responses", "chat"]
CHARS_PER_TOKEN = 4
SEEDLESS = ("stream", "stream_options", "max_output_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class RequestTurn:
    """One thing said so far; a call and the tool's result for it share a `call_id`."""

    role: str
    text: str
    name: str = ""
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class RequestedTool:
    """A function that may be called."""

    name: str
    parameters: Json


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whichever endpoint it came to."""

    api: Api
    body: Json
    model: str
    effort: str
    turns: tuple[RequestTurn, ...]
    format: Json  # flat, as in the Responses API
    tools: tuple[RequestedTool, ...]
    choice: str  # auto, none, required or the name of a function
    limit_tokens: int | None
    stream: bool
    summary: bool

    @property
    def family(self) -> Family | None:
        """The model's family."""
        return family_of(self.model)

    @property
    def prompts(self) -> tuple[str, ...]:
        """What the user said, in order."""
        return tuple(turn.text for turn in self.turns if turn.role == "user")

    @property
    def prompt(self) -> str:
        """What the user said last."""
        return self.prompts[-1] if self.prompts else ""

    @property
    def results(self) -> tuple[RequestTurn, ...]:
        """What tools have answered since the user spoke last, with the tools' names."""
        names = {turn.call_id: turn.name for turn in self.turns if turn.role == "call"}
        last = max((i for i, turn in enumerate(self.turns) if turn.role == "user"), default=-1)
        return tuple(
            replace(turn, name=names.get(turn.call_id, ""))
            for turn in self.turns[last + 1 :]
            if turn.role == "tool"
        )

    @property
    def whole_prompt(self) -> str:
        """All that the model would read, for counting and for the prompt cache."""
        extras = [self.body.get("tools"), self.format.get("schema")]
        said = [f"{turn.role}: {turn.name}{turn.text}" for turn in self.turns]
        return "\n".join([self.model, *(json.dumps(extra) for extra in extras if extra), *said])

    @property
    def input_tokens(self) -> int:
        """An estimate: a token is four characters, a message four tokens more."""
        return tokens(self.whole_prompt) + 4 * len(self.turns) + 2

    @property
    def seed(self) -> str:
        """The same question has the same seed, streamed or not, cut short or not."""
        asked = {name: value for name, value in self.body.items() if name not in SEEDLESS}
        text = json.dumps([self.api, asked], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def tokens(text: str) -> int:
    """An estimate of how many tokens a text has."""
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def of_responses(body: Json) -> Asked:
    """What a POST to /responses asks."""
    reasoning, text = dict_of(body.get("reasoning")), dict_of(body.get("text"))
    instructions, given = body.get("instructions"), body.get("input")
    turns = [RequestTurn("developer", instructions)] if isinstance(instructions, str) else []
    turns += (
        [RequestTurn("user", given)] if isinstance(given, str) else list(_items(dicts_in(given)))
    )
    return Asked(
        api="responses",
        body=body,
        model=str(body.get("model") or ""),
        effort=_effort(body, reasoning.get("effort")),
        turns=tuple(turns),
        format=dict_of(text.get("format")),
        tools=tuple(_tool(tool) for tool in dicts_in(body.get("tools")) if _callable(tool)),
        choice=_choice(body.get("tool_choice")),
        limit_tokens=_whole(body.get("max_output_tokens")),
        stream=body.get("stream") is True,
        summary=bool(reasoning.get("summary") or reasoning.get("generate_summary")),
    )


def of_chat(body: Json) -> Asked:
    """What a POST to /chat/completions asks."""
    form = dict_of(body.get("response_format"))
    tools = [dict_of(tool.get("function")) for tool in dicts_in(body.get("tools"))]
    return Asked(
        api="chat",
        body=body,
        model=str(body.get("model") or ""),
        effort=_effort(body, body.get("reasoning_effort")),
        turns=tuple(_messages(dicts_in(body.get("messages")))),
        format={"type": form.get("type")} | dict_of(form.get("json_schema")),
        tools=tuple(_tool(tool) for tool in tools if tool.get("name")),
        choice=_choice(body.get("tool_choice")),
        limit_tokens=_whole(body.get("max_completion_tokens", body.get("max_tokens"))),
        stream=body.get("stream") is True,
        summary=False,
    )


def dict_of(value: object) -> Json:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def dicts_in(value: object) -> list[Json]:
    """The objects in an array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(content: object) -> str:
    """The text of a message's content, a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = (part.get("text", part.get("refusal")) for part in dicts_in(content))
    return "\n".join(part for part in parts if isinstance(part, str))


def _items(items: list[Json]) -> Iterator[RequestTurn]:
    for item in items:
        call = str(item.get("call_id"))
        match item.get("type", "message"):
            case "message":
                yield RequestTurn(str(item.get("role")), text_of(item.get("content")))
            case "function_call":
                yield RequestTurn("call", str(item.get("arguments")), str(item.get("name")), call)
            case "function_call_output":
                yield RequestTurn("tool", text_of(item.get("output")), call_id=call)


def _messages(messages: list[Json]) -> Iterator[RequestTurn]:
    for message in messages:
        text = text_of(message.get("content"))
        yield RequestTurn(str(message.get("role")), text, call_id=str(message.get("tool_call_id")))
        for call in dicts_in(message.get("tool_calls")):
            function, made = dict_of(call.get("function")), str(call.get("id"))
            yield RequestTurn(
                "call", str(function.get("arguments")), str(function.get("name")), made
            )


def _callable(tool: Json) -> bool:
    return tool.get("type") == "function" and bool(tool.get("name"))


def _tool(tool: Json) -> RequestedTool:
    return RequestedTool(str(tool["name"]), dict_of(tool.get("parameters")))


def _choice(choice: object) -> str:
    if isinstance(choice, str):
        return choice
    asked = dict_of(choice)
    named = asked.get("name") or dict_of(asked.get("function")).get("name")
    return str(
        named or asked.get("mode") or dict_of(asked.get("allowed_tools")).get("mode", "auto")
    )


def _effort(body: Json, effort: object) -> str:
    if isinstance(effort, str):
        return effort
    family = family_of(str(body.get("model") or ""))
    return family.default_effort if family else "medium"


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None

"""What is answered, before it takes the shape of an endpoint."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from o3magic.simulator import prose, sample
from o3magic.simulator.asked import CHARS_PER_TOKEN, Asked, RequestedTool, tokens
from o3magic.simulator.reply import Call, Reply

BLOCK_TOKENS = 64
BLOCKS = {"none": 0, "minimal": 0, "low": 1, "medium": 5, "high": 16, "xhigh": 32, "max": 64}
THINKING_DELAYS = {"none": 0, "minimal": 1, "low": 4, "medium": 8, "high": 16, "xhigh": 24}
MOST_THINKING_DELAYS = 32
FILTERED = "SIMULATED: the content filter cut this answer."
FAILED = {"code": "server_error", "message": "SIMULATED: the model failed."}


@dataclass(frozen=True, slots=True)
class SimulatedUsage:
    """What was counted; `given` is sent in its place."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    given: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SimulatedAnswer:
    """What the simulated model says."""

    id: str  # hexadecimal digits, the same for the same question
    text: str
    refusal: str | None
    calls: tuple[Call, ...]
    summary: tuple[str, ...]
    finish: str
    message: bool
    usage: SimulatedUsage
    error: Mapping[str, Any]

    @property
    def pieces(self) -> list[str]:
        """The text in pieces the size of tokens."""
        return split(self.text if self.refusal is None else self.refusal)


def compose(asked: Asked, reply: Reply, cached_tokens: int) -> SimulatedAnswer:
    """The answer to a request, with what is scripted in place of what would be generated."""
    text, calls = _said(asked, reply)
    refusal = reply.refusal
    thinking = reply.reasoning_tokens
    if thinking is None:
        blocks = BLOCKS.get(asked.effort, 5)
        thinking = BLOCK_TOKENS * (blocks + int(asked.seed[:2], 16) % (blocks + 1) // 2)
    said = tokens(text if refusal is None else refusal)
    said += sum(tokens(call.name + call.arguments) for call in calls)
    answer = SimulatedAnswer(
        id=asked.seed[:48],
        text="" if refusal is not None else text,
        refusal=refusal,
        calls=calls,
        summary=_summary(asked, reply),
        finish=reply.finish or "stop",
        message=reply.message and reply.finish != "failed",
        usage=SimulatedUsage(
            asked.input_tokens, cached_tokens, thinking + said, thinking, reply.usage
        ),
        error=FAILED | dict(reply.error or {}),
    )
    if not answer.message:
        usage = replace(answer.usage, output_tokens=thinking)
        answer = replace(answer, text="", refusal=None, calls=(), usage=usage)
    return _limited(answer, asked.limit_tokens) if reply.finish is None else answer


def split(text: str) -> list[str]:
    """Pieces of a text the size of tokens: a word, or a dozen characters of a long one."""
    return re.findall(r"\s*\S{1,12}|\s+", text)


def thinking_delays(effort: str) -> int:
    """How many delays pass before the first token."""
    return THINKING_DELAYS.get(effort, MOST_THINKING_DELAYS)


def call_id(answer: SimulatedAnswer, index: int) -> str:
    """The id of one of an answer's calls."""
    return "call_" + hashlib.sha256(f"{answer.id}{index}".encode()).hexdigest()[:24]


def _said(asked: Asked, reply: Reply) -> tuple[str, tuple[Call, ...]]:
    given = reply.answer_text
    if reply.calls or given is not None:
        return given or "", reply.calls
    if reply.finish == "content_filter":
        return FILTERED, ()
    if not asked.results:
        calls = tuple(
            Call(tool.name, _json(sample.of_schema(tool.parameters, asked.seed + tool.name)))
            for tool in _called(asked)
        )
        if calls:
            return "", calls
    if asked.format.get("type") == "json_schema":
        return _json(sample.of_schema(asked.format.get("schema", {}), asked.seed)), ()
    if asked.format.get("type") == "json_object":
        return prose.json_object(asked), ()
    if asked.results:
        return prose.about_results(asked, asked.results), ()
    return prose.markdown(asked), ()


def _called(asked: Asked) -> list[RequestedTool]:
    """The tools that must be called, or that the question names."""
    if asked.choice == "none" or not asked.tools:
        return []
    chosen = [tool for tool in asked.tools if tool.name == asked.choice]
    named = [tool for tool in asked.tools if _names(asked.prompt, tool.name)]
    if asked.choice == "required" and not named:
        named = list(asked.tools[:1])
    parallel = asked.body.get("parallel_tool_calls") is not False
    return chosen or (named if parallel else named[:1])


def _names(prompt: str, name: str) -> bool:
    words = re.escape(name).replace("_", "[_ ]")
    return re.search(rf"(?<!\w){words}(?!\w)", prompt, re.IGNORECASE) is not None


def _summary(asked: Asked, reply: Reply) -> tuple[str, ...]:
    if reply.summary is not None:
        return reply.summary
    return prose.summary(asked) if asked.summary and asked.effort != "none" else ()


def _limited(answer: SimulatedAnswer, limit: int | None) -> SimulatedAnswer:
    """The answer as far as the limit lets it come; thinking comes first."""
    if limit is None or answer.usage.output_tokens <= limit:
        return answer
    room = limit - answer.usage.reasoning_tokens
    if room <= 0 or answer.calls:
        blocks = limit // BLOCK_TOKENS * BLOCK_TOKENS
        thought = min(answer.usage.reasoning_tokens, blocks)
        usage = replace(answer.usage, output_tokens=limit, reasoning_tokens=thought)
        bare = replace(answer, text="", refusal=None, calls=(), message=False)
        return replace(bare, finish="length", usage=usage)
    usage = replace(answer.usage, output_tokens=limit)
    text = answer.text[: room * CHARS_PER_TOKEN]
    return replace(answer, text=text, finish="length", usage=usage)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

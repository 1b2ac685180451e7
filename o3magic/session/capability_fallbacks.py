"""Capabilities that a provider lacks, and the fallback for each.

A lack is a word: responses, schema, summary, usage, memory, encrypted, reasoning. From a
provider's table it holds for all its models. From an error response it holds for the model of the
request, and ends in its name: `schema gpt-4-turbo`; only a missing endpoint (`responses`), and
summaries for an organization that is not verified, hold for all. `model o3-mini` is a missing
model. The session remembers a lack until a later answer disproves it; a note below the answer
names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace

from o3magic.client.request import HttpRequest
from o3magic.errors import ModelNotFound, ProviderDown, RequestFailed
from o3magic.messages import REASONING_CONTENT, AnswerSchema, Message, Request, Role
from o3magic.models import Card
from o3magic.params import RESPONSES_ONLY

MODEL_LACK = "model "
ENCRYPTED_REASONING = "reasoning.encrypted_content"
NO_SUCH_PLACE = frozenset({404, 405, 501})
GENERIC_CODES = frozenset(
    {"", "404", "405", "501", "notfound", "methodnotallowed", "notimplemented"}
)
NOT_UNDERSTOOD = frozenset({400, 404, 422, 501})


def format_model_lack(model: str) -> str:
    """The lack that stands for a missing model."""
    return f"{MODEL_LACK}{model}"


def missing_models(lacks: Iterable[str]) -> set[str]:
    """The models among lacks."""
    return {each.removeprefix(MODEL_LACK) for each in lacks if each.startswith(MODEL_LACK)}


def find_lack(error: RequestFailed, call: HttpRequest, *, api_free: bool) -> str:
    """The lack that an error response shows, or "". api_free: the user has not chosen the API.

    Judged by status, code and parameter; an invalid schema of the user is not a lack.
    """
    request = call.request
    word = _word_of_model(error, call)
    if word == "summary" and "parameter" not in (error.code or ""):
        return word  # the organization has to be verified, whatever the model
    if word:
        return f"{word} {request.model}"
    if isinstance(error, ModelNotFound):
        return ""
    if call.api == "responses" and api_free and says_no_such_endpoint(error):
        return "responses"
    return ""


def _word_of_model(error: RequestFailed, call: HttpRequest) -> str:
    """What a refusal shows the model to lack, or ""."""
    param, request = error.param or "", call.request
    wanted = request.answer_schema
    if param == "reasoning.summary" and request.summary:
        return "summary"
    if request.kept and "previous_response" in f"{param} {error.code}":
        return "memory"
    if isinstance(error, ModelNotFound):
        return ""
    if (
        call.api == "chat"
        and REASONING_CONTENT in f"{param} {error}"
        and not request.echo_reasoning
    ):
        return "reasoning"
    if error.status not in NOT_UNDERSTOOD and not isinstance(error, ProviderDown):
        return ""
    if param.startswith("stream_options") and request.stream_usage:
        return "usage"
    if param.startswith("include") and ENCRYPTED_REASONING in request.options.get("include", ()):
        return "encrypted"
    about_format = param.startswith(("response_format", "text.format")) or param == "text"
    if wanted and not wanted.by_instruction and about_format and not wrong_schema(error):
        return "schema"
    return ""


def says_no_such_endpoint(error: RequestFailed) -> bool:
    """Whether a refusal is of the address itself. A parameter or a code names something else.

    Some servers write the status itself as the code: 404, not_found, NotFoundError.
    """
    code = re.sub(r"[^a-z0-9]", "", (error.code or "").lower()).removesuffix("error")
    of_address = code in GENERIC_CODES or any(word in code for word in ("url", "endpoint", "route"))
    return error.status in NO_SUCH_PLACE and not error.param and of_address


def disproved(call: HttpRequest) -> set[str]:
    """The lacks that an answer to this call shows not to be there."""
    request, model = call.request, call.request.model
    used = {
        "memory": request.kept is not None,
        "summary": request.summary is not None,
        "usage": call.api == "chat" and request.stream and request.stream_usage,
        "encrypted": ENCRYPTED_REASONING in request.options.get("include", ()),
        "schema": request.answer_schema is not None and not request.answer_schema.by_instruction,
    }
    lacks = {f"{word} {model}" for word, is_used in used.items() if is_used} | {
        format_model_lack(model)
    }
    lacks |= {"summary"} if request.summary else set()
    return lacks | ({"responses"} if call.api == "responses" else set())


def wrong_schema(error: RequestFailed) -> bool:
    """Whether schemas are known there, and this one is wrong. Chat says so in words alone."""
    return "schema" in (error.code or "") or "Invalid schema" in str(error)


def apply_fallback(call: HttpRequest, lack: str, card: Card) -> tuple[HttpRequest, str]:
    """The call without it, and what the reader is told; unchanged and "" where it was not in it."""
    request, name = call.request, call.provider.name
    word, _, model = lack.partition(" ")
    if model and model != request.model:
        return call, ""
    match word:
        case "responses" if call.api == "responses" and "chat" in card.endpoints:
            # What Responses alone has: its options, and answers named by their ids.
            params = {n: v for n, v in request.params.items() if n not in RESPONSES_ONLY}
            asked = replace(request.sent_whole, summary=None, options={}, params=params)
            changed = replace(call, api="chat", request=asked)
            left = [each for each in request.params if each not in params]
            more = f"; without {', '.join(left)}, which Chat has not" if left else ""
            return changed, f"asked by the Chat API: {name} has no Responses{more}"
        case "memory" if request.kept:
            changed = replace(call, request=request.sent_whole)
            return changed, f"{name} has not kept the turns before: all of them were sent again"
        case "summary" if request.summary:
            changed = replace(call, request=replace(request, summary=None))
            who = f"for {model}" if model else "to this organization"
            return changed, f"no reasoning summary: {name} gives none {who}"
        case "encrypted" if request.options:
            options = {n: v for n, v in request.options.items() if n != "include"}
            if options == request.options:
                return call, ""
            changed = replace(call, request=replace(request, options=options))
            return changed, f"no encrypted reasoning: {request.model} has none at {name}"
        case "reasoning" if call.api == "chat" and request.tools and not request.echo_reasoning:
            changed = replace(call, request=replace(request, echo_reasoning=True))
            return changed, f"{name} is sent the reasoning of its tool calls back, as it asks"
        case "usage" if request.stream_usage and call.api == "chat" and request.stream:
            changed = replace(call, request=replace(request, stream_usage=False))
            return changed, f"{name} does not count the tokens of a stream"
        case "schema" if request.answer_schema and not request.answer_schema.by_instruction:
            role: Role = "system" if call.provider.system_role else "developer"
            changed = replace(call, request=by_instruction(request, request.answer_schema, role))
            who = f" for {model}" if model else ""
            instead = "asked for JSON in words, validated here"
            return changed, f"{name} has no strict schemas{who}: {instead}"
    return call, ""


def by_instruction(request: Request, wanted: AnswerSchema, role: Role) -> Request:
    """The request that tells its schema in words, for a provider that takes none."""
    told = (
        "Answer with one JSON value and nothing else: no prose, no code fence. "
        f"It must follow this JSON Schema:\n{json.dumps(wanted.schema, ensure_ascii=False)}"
    )
    first, *others = request.messages
    if first.role == role:
        messages = (Message.of(role, f"{first.text}\n\n{told}"), *others)
    else:
        messages = (Message.of(role, told), first, *others)
    return replace(request, messages=messages, answer_schema=replace(wanted, by_instruction=True))

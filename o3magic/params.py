"""What `--param NAME=JSON` says: fields of the request's body that are no option of their own.

They are kept as one canonical text, the JSON object that they make, so that a `Settings` stays a
value that can be compared, written into a file and said again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from o3magic.errors import BadOption
from o3magic.messages import Request

MOST_CHARS = 65_536
MOST_DEPTH = 32
MOST_WHOLE = 2**63
NAME = re.compile(r"[A-Za-z_][\w-]{0,63}", re.ASCII)
EXAMPLE = "--param top_p=0.5, or with a string: --param 'reasoning.mode=\"pro\"'"
# Fields with an option of their own, or that would change what is asked, read or paid behind the
# back of the cassette and the budgets: what to write instead.
OWN: Mapping[str, str] = {
    "model": "-m NAME",
    "messages": "the cell is the prompt, -c NAME the turns before it",
    "input": "the cell is the prompt, -c NAME the turns before it",
    "prompt": "--file FILE, or o3.prompt: what stands at the provider is neither counted nor kept",
    "instructions": "-d, --developer",
    "conversation": "-c, --conversation",
    "previous_response_id": "-c, --conversation",
    "tools": "-t, --tools",
    "functions": "-t, --tools",
    "function_call": "-t, --tools",
    "web_search_options": "-t web_search",
    "stream": "--no-stream",
    "stream_options.include_usage": "leave it out, it is always asked for",
    "background": "--background",
    "store": "--no-store",
    "service_tier": "--tier",
    "reasoning.effort": "-e, --effort",
    "reasoning_effort": "-e, --effort",
    "reasoning.summary": "--summary",
    "reasoning.generate_summary": "--summary",
    "text.format": "-s, --schema",
    "response_format": "-s, --schema",
    "text.verbosity": "--verbosity",
    "verbosity": "--verbosity",
    "max_output_tokens": "--max-output-tokens",
    "max_tokens": "--max-output-tokens",
    "max_completion_tokens": "--max-output-tokens",
    "formatting": "--no-formatting",
}
# Fields that hold others, some of which are options: they are added to, never replaced.
HOLDERS = ("reasoning", "text", "stream_options")
# What the Chat API has no word for. Source: OpenAI's API specification (2026-08-21).
RESPONSES_ONLY = ("include", "truncation", "context_management", "max_tool_calls", "text")
# What TAB offers: the fields both APIs have, and some of one of them (same source).
OFFERED = (
    *("temperature", "top_p", "top_logprobs", "metadata", "safety_identifier", "prompt_cache_key"),
    *("parallel_tool_calls", "tool_choice", "truncation", "include", "reasoning.mode", "seed"),
    *("stop", "frequency_penalty", "presence_penalty", "logit_bias"),
)


def canonical(said: Any) -> str:
    """The parameters as one text, "" for none: what is said again is the same text.

    said: `NAME=JSON`, one on each line; a JSON object; a mapping; or a list of these. A dot in a
    name sets a field of a field. Raises BadOption.
    """
    found: dict[str, Any] = {}
    for name, value in pairs(said):
        put(found, name, value)
    if not found:
        return ""
    check(found)
    text = json.dumps(found, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    if len(text) > MOST_CHARS:
        raise BadOption(
            f"--param: {len(text):,} characters are too long", hint=f"at most {MOST_CHARS:,}"
        )
    return text


def fields_of(text: str) -> dict[str, Any]:
    """The fields of a canonical text."""
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def with_params(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """A request's body with the user's own fields; those of a stream only where there is one."""
    more = {n: v for n, v in request.params.items() if request.stream or n != "stream_options"}
    return laid_into(body, more) if more else body


def laid_into(body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """A body with these fields: objects are joined, lists of what is included too."""
    whole = dict(body)
    for name, value in more.items():
        there = whole.get(name)
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            whole[name] = laid_into(there, value)
        elif isinstance(there, list) and isinstance(value, list):
            whole[name] = [*there, *(each for each in value if each not in there)]
        else:
            whole[name] = value
    return whole


def pairs(said: Any) -> Iterator[tuple[str, Any]]:
    """Names with their values, in whatever form they are said. Raises BadOption."""
    match said:
        case None | "":
            return
        case str():
            yield from pairs_in(said)
        case Mapping():
            for name, value in said.items():
                yield str(name), value
        case list() | tuple():
            for each in said:
                yield from pairs(each)
        case _:
            raise BadOption(f"--param {shown(said)}: expected NAME=JSON", hint=EXAMPLE)


def pairs_in(text: str) -> Iterator[tuple[str, Any]]:
    """The same of a text. Raises BadOption."""
    if len(text) > 2 * MOST_CHARS:
        raise BadOption(
            f"--param: {len(text):,} characters are too long", hint=f"at most {MOST_CHARS:,}"
        )
    text = text.strip()
    if text.startswith("{"):
        try:
            yield from pairs(read(text))
            return
        except ValueError:
            if "\n" not in text:
                raise BadOption(f"--param {shown(text)}: not valid JSON", hint=EXAMPLE) from None
    for line in filter(None, map(str.strip, text.split("\n"))):
        if line.startswith("{"):
            yield from pairs_in(line)
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise BadOption(f"--param {shown(line)}: expected NAME=JSON", hint=EXAMPLE)
        try:
            yield name.strip(), read(value)
        except ValueError:
            raise no_json(name.strip(), value.strip()) from None


def read(text: str) -> Any:
    """A value of JSON. Raises ValueError for what is none, and for a name that is there twice."""

    def once(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) < len(items):
            raise ValueError("a name is there twice")
        return dict(items)

    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise ValueError("it is too deep") from None


def no_json(name: str, value: str) -> BadOption:
    """What to say of a value that is none: mostly of a word without its quotes."""
    hint = EXAMPLE
    if re.fullmatch(r"[\w .:/-]+", value):
        hint = f"a string needs its own quotes: '{name}=\"{value}\"'"
    elif value[:1] in ("{", "[", '"'):
        hint = 'put an argument with spaces or quotes in quotes: \'metadata={"a": "b c"}\''
    return BadOption(f"--param {name}={shown(value)}: the value is not valid JSON", hint=hint)


def put(found: dict[str, Any], name: str, value: Any) -> None:
    """Set a field, or a field of a field. Raises BadOption for one that is set already."""
    *above, last = name.split(".")
    if not all(NAME.fullmatch(part) for part in (*above, last)):
        raise BadOption(f"--param {shown(name)}: not a valid field name", hint=EXAMPLE)
    place = found
    for part in above:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise twice(name)
        place = inner
    there = place.get(last)
    if isinstance(there, dict) and isinstance(value, Mapping):
        for inside, each in value.items():
            if inside in there:
                raise twice(f"{name}.{inside}")
            there[inside] = each
    elif last in place:
        raise twice(name)
    else:
        place[last] = dict(value) if isinstance(value, Mapping) else value


def twice(name: str) -> BadOption:
    """A field that is said more than once."""
    return BadOption(f"--param {shown(name)}: given twice", hint="give it once")


def check(found: Mapping[str, Any]) -> None:
    """Raise BadOption for fields that are not to be set here, and for values JSON has not."""
    for name in HOLDERS:
        if name in found and not isinstance(found[name], Mapping):
            raise BadOption(
                f"--param {name}: the value must be an object", hint=f"--param {name}.FIELD=JSON"
            )
    for path in paths(found):
        if path.lower() in OWN:
            raise BadOption(
                f"--param {path} is set by an option of its own",
                hint=f"use {OWN[path.lower()]}",
            )
    if found.get("n", 1) != 1:
        raise BadOption(
            "--param n: only one of several answers would be read, but all would be billed",
            hint="--sample 2 asks for another answer",
        )
    check_value("", found)


def paths(found: Mapping[str, Any]) -> Iterator[str]:
    """The names of fields, and of the fields in those that hold others."""
    for name, value in found.items():
        yield name
        if name.lower() in HOLDERS and isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in value)


def check_value(name: str, value: Any, depth: int = 0) -> None:
    """Raise BadOption for what JSON has not, and for a null, which says nothing."""
    said = name or "the value"
    if depth > MOST_DEPTH:
        raise BadOption(f"--param {shown(said)}: nested too deeply", hint=EXAMPLE)
    match value:
        case Mapping():
            for key, each in value.items():
                if not isinstance(key, str):
                    raise BadOption(
                        f"--param {shown(said)}: {shown(repr(key))} is not a valid name in JSON",
                        hint=EXAMPLE,
                    )
                if each is None:
                    raise BadOption(
                        f"--param {shown(f'{name}.{key}'.lstrip('.'))}: null has no effect",
                        hint="leave it out",
                    )
                check_value(f"{name}.{key}".lstrip("."), each, depth + 1)
        case list() | tuple():
            for each in value:
                check_value(name, each, depth + 1)
        case float() if not math.isfinite(value):
            raise BadOption(f"--param {shown(said)}: {value} is not a JSON number", hint=EXAMPLE)
        case int() if abs(value) > MOST_WHOLE:
            raise BadOption(f"--param {shown(said)}: the number is too large", hint=EXAMPLE)
        case None | bool() | int() | float() | str():
            return
        case _:
            kind = type(value).__name__
            raise BadOption(f"--param {shown(said)}: JSON has no {kind}", hint=EXAMPLE)


def shown(said: Any) -> str:
    """The beginning of what was said, on one line."""
    text = " ".join(str(said).split())
    return text if len(text) <= 60 else f"{text[:59]}…"

"""Answers to measure with: heavy Markdown, and the streams that carry a text.

The streams have the members, in the order and spacing, of recorded ones of OpenAI.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from typing import Any

CHUNK_BYTES = 300
ID = "resp_68c42d0fb418819dbfa579f69406b49508fbf9b1584184ff"
ITEM = "msg_68c42d1d0878819d8266007cd3d1402c08fbf9b1584184ff"
MODEL = "o3-mini-2025-01-31"
USAGE = {"input_tokens": 12, "output_tokens": 9_000, "total_tokens": 9_012}
CHAT_USAGE = {"prompt_tokens": 12, "completion_tokens": 9_000, "total_tokens": 9_012}

SECTION = """## {n}. The *{n}th* step, with `code` and **weight**

Let \\(x_{{{n}}} = \\frac{{a^2}}{{b}}\\) be the share of row {n}; see [the notes](https://example.org/{n}).
It costs $5 to $7, and a < b holds for every `b` above {n}.

- first, *count* the rows of part {n}
  - then those of its `children`
- second, **sum** what they cost
1. sort
2. cut at {n}

| name | share | cost |
|------|------:|-----:|
| alpha {n} | \\(\\alpha_{{{n}}}\\) | $1.{n} |
| beta | 0.{n} | `none` |

```python
def step_{n}(rows: list[int]) -> int:
    \"\"\"Add what is above {n}.\"\"\"
    return sum(row for row in rows if row > {n})
```

\\[
\\sum_{{i=1}}^{{{n}}} i = \\frac{{{n} \\cdot ({n} + 1)}}{{2}}
\\]

> A remark on step {n}: it takes a while.

"""


def heavy_markdown(chars: int) -> str:
    """So many characters of headings, lists, tables, fences and formulas."""
    text = ""
    for n in count(1):
        if len(text) >= chars:
            return text[:chars]
        text += SECTION.format(n=n)
    raise AssertionError("there is always a next number")


def pieces(text: str, number: int) -> list[str]:
    """The text cut into so many pieces, as even as they can be."""
    cuts = [len(text) * i // number for i in range(number + 1)]
    return [text[a:b] for a, b in pairwise(cuts)]


def as_json(frame: Mapping[str, Any]) -> str:
    return json.dumps(frame, separators=(",", ":"))


def padded(frame: Mapping[str, Any], others_bytes: int) -> dict[str, Any]:
    """The frame as OpenAI sends it: random letters hide how long the words are."""
    missing = CHUNK_BYTES - others_bytes - len(as_json(frame)) - len(',"obfuscation":""')
    return {**frame, "obfuscation": "x" * missing}


def responses_stream(words: Sequence[str]) -> list[bytes]:
    """The events of a Responses stream, each a block of bytes; a delta has about 300."""
    delta = "response.output_text.delta"
    place = {"item_id": ITEM, "output_index": 0, "content_index": 0}
    head = {"id": ID, "object": "response", "created_at": 1, "model": MODEL}
    begun = {**head, "status": "in_progress", "output": []}
    frames: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for n, word in enumerate(words, 1):
        frame = {"type": delta, "sequence_number": n, **place, "delta": word, "logprobs": []}
        frames.append(padded(frame, len(f"event: {delta}\ndata: \n\n")))
    part = {"type": "output_text", "text": "".join(words), "annotations": []}
    item = {"type": "message", "id": ITEM, "role": "assistant", "status": "completed"}
    output = [{**item, "content": [part]}]
    ended = {**head, "status": "completed", "output": output, "usage": USAGE}
    frames.append({"type": "response.completed", "response": ended})
    return [f"event: {f['type']}\ndata: {as_json(f)}\n\n".encode() for f in frames]


def chat_stream(words: Sequence[str]) -> list[bytes]:
    """The chunks of a Chat stream, each a block of bytes; a delta has about 300."""
    head = {"id": ID, "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    head |= {"service_tier": "default", "system_fingerprint": None}
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in words]
    frames = []
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        frames.append(padded({**head, "choices": [choice], "usage": None}, len("data: \n\n")))
    frames.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    frames.append({**head, "choices": [], "usage": CHAT_USAGE})
    return [*(f"data: {as_json(f)}\n\n".encode() for f in frames), b"data: [DONE]\n\n"]

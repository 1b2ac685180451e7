"""From bytes to text: a stream's chunks as text deltas, ours and other people's.

    python tests/benchmarks/bench_sse.py [chunks] [rounds]

Everybody gets the same bytes out of the same `httpx` client, whose transport holds them in
memory, and counts the characters of the answer. Ratios are to ours. The rows of `openai` and
`httpx-sse` are there where those packages are installed.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
from answers import chat_stream, heavy_markdown, pieces, responses_stream
from side_by_side import in_turns, seconds, show

from o3magic.client.cancellation import OpenCall
from o3magic.client.response_stream import limit_bytes, stream_events
from o3magic.events import TextDelta
from o3magic.messages import Api
from o3magic.wire.dialects import DIALECTS

try:
    import openai
except ImportError:
    openai = None  # type: ignore[assignment]
try:
    import httpx_sse
except ImportError:
    httpx_sse = None  # type: ignore[assignment]

URL = "http://localhost/v1"
BLOCK_BYTES = 16_384
STREAMS = {"responses": responses_stream, "chat": chat_stream}


class Blocks(httpx.SyncByteStream):
    """A body in the pieces the network is to give it in."""

    def __init__(self, blocks: Sequence[bytes]) -> None:
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._blocks)


class Line:
    """What httpx says of a connection: here there is none."""

    def get_extra_info(self, info: str) -> None:
        return None


def client_of(blocks: Sequence[bytes]) -> httpx.Client:
    """A client that gets these blocks whatever it asks for."""

    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "text/event-stream"}
        line = {"network_stream": Line()}
        return httpx.Response(200, headers=headers, stream=Blocks(blocks), extensions=line)

    return httpx.Client(transport=httpx.MockTransport(answer))


@contextmanager
def opened(http: httpx.Client) -> Iterator[httpx.Response]:
    with http.stream("POST", URL) as response:
        yield response


def ours(http: httpx.Client, api: Api) -> int:
    """What `Client.events` does with an accepted answer."""
    with opened(http) as response, OpenCall(60.0) as watch:
        chunks = limit_bytes(response.iter_raw(), 1 << 26)
        events = stream_events(chunks, DIALECTS[api], watch, 60.0)
        return sum(len(event.text) for event in events if type(event) is TextDelta)


def text_in(frame: Mapping[str, Any]) -> str:
    """The text of a frame of either API, the plainest way."""
    if frame.get("type") == "response.output_text.delta":
        return frame["delta"]
    return "".join(choice["delta"].get("content", "") for choice in frame.get("choices", ()))


def lines_and_json(http: httpx.Client, api: Api) -> int:
    with opened(http) as response:
        data = (line[6:] for line in response.iter_lines() if line.startswith("data: "))
        return sum(len(text_in(json.loads(each))) for each in data if each != "[DONE]")


def sse_and_json(http: httpx.Client, api: Api) -> int:
    with opened(http) as response:
        data = (event.data for event in httpx_sse.EventSource(response).iter_sse())
        return sum(len(text_in(json.loads(each))) for each in data if each != "[DONE]")


def sdk(http: httpx.Client, api: Api) -> int:
    """The SDK's `stream=True`, its objects read as its documentation does."""
    client = openai.OpenAI(api_key="sk-none", base_url=URL, http_client=http, max_retries=0)
    if api == "responses":
        events = client.responses.create(model="o3-mini", input="?", stream=True)
        return sum(len(e.delta) for e in events if e.type == "response.output_text.delta")
    chunks = client.chat.completions.create(model="o3-mini", messages=[], stream=True)
    return sum(len(c.choices[0].delta.content or "") for c in chunks if c.choices)


READERS: dict[str, Callable[[httpx.Client, Api], int]] = {
    "ours": ours,
    "httpx iter_lines + json.loads": lines_and_json,
}
if httpx_sse:
    READERS["httpx-sse + json.loads"] = sse_and_json
if openai:
    READERS[f"openai {openai.__version__}, sync stream"] = sdk


def cuts(events: Sequence[bytes]) -> dict[str, list[bytes]]:
    """The same bytes, as the network may cut them."""
    whole, draw = b"".join(events), random.Random(3)
    ends = sorted(draw.sample(range(1, len(whole)), len(events)))
    return {
        "one event a block": list(events),
        "16 KiB blocks": [whole[a : a + BLOCK_BYTES] for a in range(0, len(whole), BLOCK_BYTES)],
        "random cuts": [whole[a:b] for a, b in zip([0, *ends], [*ends, len(whole)], strict=True)],
    }


def measure(api: Api, chunks: int, rounds: int) -> None:
    text = heavy_markdown(5 * chunks)
    for name, blocks in cuts(STREAMS[api](pieces(text, chunks))).items():
        http = client_of(blocks)
        for read in READERS.values():
            assert read(http, api) == len(text)
        cases = {case: seconds(partial(read, http, api)) for case, read in READERS.items()}
        found = in_turns(cases, rounds)
        rows = [
            (case, f"{s / chunks * 1e6:.2f}", f"{chunks / s:,.0f}", f"{s / found['ours']:.1f}")
            for case, s in found.items()
        ]
        size = sum(map(len, blocks)) // chunks
        title = f"{api}: {chunks:,} chunks of {size} bytes, {name} (median of {rounds})"
        show(title, ("reader", "us/chunk", "chunks/s", "x ours"), rows)


def main(chunks: int = 4_000, rounds: int = 7) -> None:
    for api in STREAMS:
        measure(api, chunks, rounds)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

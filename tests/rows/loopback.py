"""A fast server on loopback in a process of its own: many rows, and every way they can go wrong.

It speaks Responses and, to a request with messages, Chat; neither streams.
It counts what it was asked and what it answered, prompt by prompt: the provider's own bill. Each
whole answer has an id of its own; `sent` says to which prompt it went.
"""

import asyncio
import json
import multiprocessing
import random
import urllib.request
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count

USAGE = {"input_tokens": 20, "output_tokens": 30, "total_tokens": 50}
USAGE |= {"input_tokens_details": {"cached_tokens": 0}}
USAGE |= {"output_tokens_details": {"reasoning_tokens": 8}}
CHAT_USAGE = {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50}
CHAT_USAGE |= {"prompt_tokens_details": {"cached_tokens": 0}}
CHAT_USAGE |= {"completion_tokens_details": {"reasoning_tokens": 8}}
COST_NANO_USD = 20 * 1100 + 30 * 4400  # of one answer, at o3-mini's price


@dataclass
class Ways:
    """How it answers. Shares are of requests: 0.05 of 429, 0.05 of 500, ...

    limit_every: each n-th request gets a 429. down: not before this many requests were seen, all
    connections are cut for `down_s`. text: of every answer; None: by the prompt.
    """

    latency_s: float = 0.0
    limited: float = 0.0
    broken: float = 0.0
    dropped: float = 0.0
    cut: float = 0.0
    slow: float = 0.0
    slow_s: float = 0.5
    limit_every: int = 0
    down_after: int = 0
    down_s: float = 0.0
    text: str | None = None
    texts: list = field(default_factory=list)
    refuse: str = ""
    headers: dict = field(default_factory=dict)
    retry_after_s: float = 0.01
    most_at_once: int = 0
    per_min: int = 0
    status: int = 0
    seed: int = 1


class Tally:
    """What the server has seen."""

    def __init__(self):
        self.requests = self.at_once = self.peak = self.limited = 0
        self.answered, self.begun, self.lost = Counter(), Counter(), Counter()
        self.numbers, self.sent = count(1), {}
        self.keys = set()
        self.down_until_s = None
        self.times_s = []
        self.bodies = []


class House:
    """What all connections share."""

    def __init__(self, ways):
        self.open = set()
        self.begin(ways)

    def begin(self, ways):
        """Other ways from here on, and nothing counted yet."""
        self.ways, self.tally, self.chance = ways, Tally(), random.Random(ways.seed)


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, house):
        self.house, self.received, self.transport = house, b"", None

    @property
    def ways(self):
        return self.house.ways

    @property
    def tally(self):
        return self.house.tally

    def connection_made(self, transport):
        self.transport = transport
        self.house.open.add(self)

    def connection_lost(self, error):
        self.house.open.discard(self)

    def data_received(self, data):
        self.received += data
        while True:
            head, end, rest = self.received.partition(b"\r\n\r\n")
            if not end:
                return
            place = head.lower().find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(rest) < length:
                return
            self.received = rest[length:]
            self.take(head, rest[:length])

    def take(self, head, body):
        if head.startswith(b"GET /stats"):
            self.stats()
        elif head.startswith(b"PUT"):
            self.house.begin(Ways(**json.loads(body)))
            self.say(200, b"{}")
        elif head.startswith(b"GET"):
            self.say(200, b'{"data":[]}')
        else:
            self.tally.keys.add(key_in(head))
            self.ask(body)

    def stats(self):
        tally = self.tally
        said = {"requests": tally.requests, "peak": tally.peak, "limited": tally.limited}
        said |= {"answered": tally.answered, "begun": tally.begun, "lost": tally.lost}
        said |= {"times_s": tally.times_s, "bodies": tally.bodies[-20:]}
        said |= {"keys": sorted(tally.keys), "sent": tally.sent}
        self.say(200, json.dumps(said).encode())

    def ask(self, body):
        ways, tally, loop = self.ways, self.tally, asyncio.get_running_loop()
        tally.requests += 1
        now = loop.time()
        if len(tally.times_s) < 10_000:
            tally.times_s.append(now)
        if ways.down_after and tally.requests == ways.down_after:
            tally.down_until_s = now + ways.down_s
            for each in [*self.house.open]:
                each.transport.abort()
        if tally.down_until_s and now < tally.down_until_s:
            self.transport.abort()
            return
        tally.at_once += 1
        tally.peak = max(tally.peak, tally.at_once)
        over = ways.most_at_once and tally.at_once > ways.most_at_once
        over = over or (ways.limit_every and tally.requests % ways.limit_every == 0)
        lot = self.house.chance.random()
        shares = (ways.limited, ways.broken, ways.dropped, ways.cut, ways.slow)
        kind = "ok"
        for name, share in zip(
            ("limited", "broken", "dropped", "cut", "slow"), shares, strict=True
        ):
            if lot < share:
                kind = name
                break
            lot -= share
        if over:
            kind = "limited"
        wait_s = ways.latency_s + (ways.slow_s if kind == "slow" else 0)
        if kind in ("limited", "broken", "dropped"):
            wait_s = min(wait_s, 0.01)
        loop.call_later(wait_s, self.answer, ways, tally, body, kind)

    def answer(self, ways, tally, body, kind):
        tally.at_once -= 1
        gone = self.transport.is_closing()
        if ways.status:
            said = {"error": {"message": ways.refuse or "no", "code": ways.refuse or None}}
            self.say(ways.status, json.dumps(said).encode())
            return
        if kind == "limited":
            tally.limited += 1
            said = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
            self.say(429, json.dumps(said).encode(), {"retry-after": f"{ways.retry_after_s}"})
            return
        if kind == "broken":
            self.say(500, b'{"error":{"message":"oops"}}')
            return
        if kind == "dropped":
            self.transport.abort()
            return
        asked = json.loads(body)
        prompt = prompt_of(asked)
        tally.begun[prompt] += 1
        if len(tally.bodies) < 1000:
            tally.bodies.append(asked)
        if gone:
            tally.lost[prompt] += 1
            return
        if ways.refuse and ways.refuse in prompt:
            self.say(400, b'{"error":{"message":"not like this","code":"bad_words"}}')
            return
        answer_id = f"resp_{next(tally.numbers)}"
        whole = self.body(asked, prompt, answer_id)
        if kind == "cut":
            self.transport.write(head_of(200, len(whole), ways.headers) + whole[: len(whole) // 2])
            self.transport.close()
            return
        tally.answered[prompt] += 1
        tally.sent[answer_id] = prompt
        self.say(200, whole, ways.headers)

    def body(self, asked, prompt, answer_id):
        text = self.ways.text
        if text is None:
            text = json.dumps({"label": prompt[:20], "score": len(prompt)})
        if self.ways.texts:
            text = self.ways.texts.pop(0)
        if "messages" in asked:
            return json.dumps(completion(asked, text, answer_id)).encode()
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
        said = {"id": answer_id, "model": "o3-mini-2025-01-31", "status": "completed"}
        said |= {"object": "response", "output": [item], "usage": USAGE}
        return json.dumps(said).encode()

    def say(self, status, body, headers=None):
        if not self.transport.is_closing():
            self.transport.write(head_of(status, len(body), headers or {}) + body)


def prompt_of(asked):
    """What the last message says, a text or text in parts."""
    said = asked.get("input") or asked["messages"]
    prompt = said if isinstance(said, str) else said[-1]["content"]
    return prompt if isinstance(prompt, str) else "".join(each.get("text", "") for each in prompt)


def completion(asked, text, answer_id):
    """A whole answer of the Chat API; it calls the tool where the request names one."""
    message, reason = {"role": "assistant", "content": text}, "stop"
    if asked.get("tools") and asked.get("tool_choice", "auto") not in ("auto", "none"):
        called = {"name": asked["tools"][0]["function"]["name"], "arguments": text}
        call = {"id": "call_1", "type": "function", "function": called}
        message |= {"content": None, "tool_calls": [call]}
        reason = "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    said = {"id": answer_id, "object": "chat.completion", "created": 1_700_000_000}
    return said | {"model": "o3-mini-2025-01-31", "choices": [choice], "usage": CHAT_USAGE}


def key_in(head):
    """What the request says in its `authorization`, or ""."""
    place = head.lower().find(b"authorization: ")
    return head[place + 15 :].split(b"\r\n", 1)[0].decode() if place >= 0 else ""


def head_of(status, length, headers):
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}"
    return f"{head}content-length: {length}\r\n\r\n".encode()


async def serve(ways, ready):
    house, loop = House(ways), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(house), "127.0.0.1", 0, backlog=2048)
    ready.send(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def run(said, ready):
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(Ways(**said), ready))


class Server:
    """A server that runs."""

    def __init__(self, port):
        self.port, self.base_url = port, f"http://127.0.0.1:{port}/v1"

    def begin(self, **ways):
        """Other ways from here on, and nothing counted yet."""
        said = json.dumps(asdict(Ways(**ways))).encode()
        url = f"http://127.0.0.1:{self.port}/ways"
        with urllib.request.urlopen(urllib.request.Request(url, said, method="PUT"), timeout=10):
            return self

    @property
    def stats(self):
        """What it has seen so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=10) as answer:
            return json.load(answer)


@contextmanager
def served(**ways):
    """A server with these ways, until the block ends."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=run, args=(asdict(Ways(**ways)), theirs), daemon=True)
    process.start()
    try:
        yield Server(ours.recv())
    finally:
        process.terminate()
        process.join()
        ours.close()
        theirs.close()

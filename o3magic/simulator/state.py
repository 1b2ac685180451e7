"""What the server remembers: what was asked, what is scripted, what it has seen before."""

import hashlib
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from o3magic.simulator.asked import CHARS_PER_TOKEN, RequestTurn
from o3magic.simulator.batches import Batches
from o3magic.simulator.files import UploadedFiles
from o3magic.simulator.reply import Reply

KEPT_REQUESTS = 10_000
KEPT_PREFIXES = 200_000
CACHE_FROM_TOKENS, CACHE_STEP_TOKENS = 1024, 128


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)  # the key is among them
    body: Any
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a later request may build upon with previous_response_id."""

    turns: tuple[RequestTurn, ...]
    call_ids: frozenset[str]


class State:
    """Everything that changes while a simulator runs; safe to use from many threads."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.disconnects = 0
        self.files = UploadedFiles()
        self.batches = Batches()
        self._lock = threading.Lock()
        self._script: deque[Reply] = deque()
        self._prefixes: set[bytes] = set()
        self._stored: dict[str, Stored] = {}

    def receive(self, request: Received) -> None:
        """Keep a request; of a long run only the latest ones."""
        with self._lock:
            self.requests.append(request)
            if len(self.requests) > 2 * KEPT_REQUESTS:
                del self.requests[:-KEPT_REQUESTS]

    def script(self, replies: Iterable[Reply]) -> None:
        """Put replies at the end of the queue."""
        with self._lock:
            self._script.extend(replies)

    def next_reply(self) -> Reply | None:
        """The next scripted reply, taken out of the queue."""
        with self._lock:
            return self._script.popleft() if self._script else None

    def left(self) -> None:
        """Count a client that did not stay for its answer."""
        with self._lock:
            self.disconnects += 1

    def store(self, response_id: str, stored: Stored) -> None:
        """Remember a response; the oldest one gives way."""
        with self._lock:
            self._stored[response_id] = stored
            if len(self._stored) > KEPT_REQUESTS:
                del self._stored[next(iter(self._stored))]

    def stored(self, response_id: str) -> Stored | None:
        """A response that was remembered."""
        return self._stored.get(response_id)

    def cached_tokens(self, prompt: str) -> int:
        """How many tokens at the beginning of a prompt were seen before; remembers this one."""
        step = CACHE_STEP_TOKENS * CHARS_PER_TOKEN
        digest, marks = hashlib.sha256(), []
        for start in range(0, len(prompt) - step + 1, step):
            digest.update(prompt[start : start + step].encode("utf-8", "surrogatepass"))
            marks.append(digest.digest())
        # A prefix shorter than the smallest cached one is never looked up.
        first = CACHE_FROM_TOKENS // CACHE_STEP_TOKENS - 1
        with self._lock:
            seen = sum(mark in self._prefixes for mark in marks[first:])
            if len(self._prefixes) > KEPT_PREFIXES:
                self._prefixes.clear()
            self._prefixes.update(marks[first:])
        return (first + seen) * CACHE_STEP_TOKENS if seen else 0

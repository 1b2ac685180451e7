"""The two APIs by name. A new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from o3magic.events import Event
from o3magic.messages import Api, Request
from o3magic.wire import chat, responses


class StreamReader(Protocol):
    """Turns the data of a stream's frames into events; `done` once the answer ended."""

    done: bool

    def read(self, data: bytes) -> Sequence[Event]:
        """Decode one frame."""

    def close(self) -> Sequence[Event]:
        """Return the events at the end of the connection. Raises RequestFailed if the answer
        failed, BrokenAnswer if it is incomplete.
        """


@dataclass(frozen=True)
class Dialect:
    """An API: its path, and functions to encode requests and decode answers."""

    path: str
    encode: Callable[[Request], dict[str, Any]]
    decode: Callable[[bytes | Mapping[str, Any]], Iterator[Event]]
    reader: Callable[[], StreamReader]


DIALECTS: Mapping[Api, Dialect] = {
    "responses": Dialect(
        responses.PATH, responses.encode, responses.decode, responses.ResponsesReader
    ),
    "chat": Dialect(chat.PATH, chat.encode, chat.decode, chat.ChatReader),
}

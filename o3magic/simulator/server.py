"""The simulator: start it, point a client at it, read what arrived, stop it."""

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from o3magic.simulator.batch_lines import BatchScript
from o3magic.simulator.handler import Handler
from o3magic.simulator.listener import Listener, Manner
from o3magic.simulator.reply import Reply
from o3magic.simulator.state import Received, State


class Simulator:
    """An OpenAI-compatible server on this machine that answers without any model.

    `delay_s` passes before each piece of a stream; with a `key` other keys are refused;
    `retired` models, and their dated snapshots, are answered as shut down.
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        delay_s: float = 0.0,
        key: str | None = None,
        retired: Iterable[str] = (),
    ) -> None:
        self._address = (host, port)
        self._manner = Manner(delay_s, key, frozenset(retired))
        self._state = State()
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen; from now on there is a `base_url`."""
        if self._listener is None:
            self._listener = Listener(self._address, Handler, self._manner, self._state)
            self._thread = threading.Thread(
                target=self._listener.run, name="o3magic-simulator", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and break what is still being sent; may be called twice."""
        if self._listener is None or self._thread is None:
            return
        self._listener.end()
        self._thread.join()
        self._listener = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._listener is None:
            raise RuntimeError("the simulator is not started")
        return self._listener.server_port

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://{self._address[0]}:{self.port}/v1"

    @property
    def requests(self) -> list[Received]:
        """What has arrived, in order."""
        return self._state.requests

    @property
    def disconnects(self) -> int:
        """How many clients left before their answer was complete."""
        return self._state.disconnects

    def script(self, *replies: Reply) -> None:
        """Answer the next POSTs to /responses and /chat/completions with these, in order."""
        self._state.script(replies)

    def script_batches(self, *scripts: BatchScript) -> None:
        """Let the next batches go like these, in order."""
        self._state.batches.script(scripts)

    @property
    def batches(self) -> list[dict[str, Any]]:
        """How each batch stands, in the order they were made."""
        return self._state.batches.documents

    @property
    def files(self) -> list[dict[str, Any]]:
        """The files that are there, the newest first."""
        return list(self._state.files.listing["data"])

    def content(self, file_id: str) -> bytes:
        """What is in a file."""
        return self._state.files.get(file_id).content

"""A real kernel to run cells in, and a loopback server for it to ask."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager, start_new_kernel

from o3magic.simulator import Simulator

SECRET = "sk-test-0123456789abcdefSECRET"


def chat_stream(words: list[str], usage: dict[str, Any] | None = None) -> bytes:
    """A Chat stream in OpenAI's format, without the label of the simulator, so it costs."""
    head = {"id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 1}
    head |= {"model": "o3-mini-2025-01-31", "service_tier": "default"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": word} for word in words]
    chunks = [{"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": usage or {}})
    frames = [f"data: {json.dumps(head | chunk)}\n\n" for chunk in chunks]
    return "".join([*frames, "data: [DONE]\n\n"]).encode()


@dataclass
class Ran:
    """The result of one cell: its reply, what is left in its output, and every message."""

    status: str = ""
    reply: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)

    def texts(self, mime: str = "text/plain") -> list[str]:
        """The data of one kind, output by output."""
        return [out["data"][mime] for out in self.outputs if mime in out.get("data", {})]

    @property
    def stdout(self) -> str:
        """The printed text."""
        return "".join(out["text"] for out in self.outputs if out.get("name") == "stdout")

    @property
    def sent_bytes(self) -> int:
        """The size of all display messages."""
        return sum(len(json.dumps(m, default=str)) for m in self.messages)


class Kernel:
    """Runs cells, and folds their messages the way a front end does."""

    def __init__(self, manager: KernelManager, client: Any) -> None:
        self.manager, self.client = manager, client

    def start(self, code: str, *, store_history: bool = True) -> str:
        """Send a cell and do not wait."""
        return self.client.execute(code, store_history=store_history)

    def run(self, code: str, timeout_s: float = 60.0) -> Ran:
        """Run a cell to its end."""
        return self.collect(self.start(code), timeout_s)

    def collect(self, request: str, timeout_s: float = 60.0) -> Ran:
        """The messages of a cell until the kernel is idle again."""
        ran, pending_clear = Ran(), False
        until = time.monotonic() + timeout_s
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, until - time.monotonic()))
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status":
                if content["execution_state"] == "idle":
                    break
                continue
            if kind == "execute_input":
                continue
            ran.messages.append({"type": kind, "content": content})
            if kind == "clear_output":
                pending_clear = True
                continue
            if pending_clear and kind != "update_display_data":
                ran.outputs.clear()
                pending_clear = False
            self._fold(ran, kind, content)
        reply = self.client.get_shell_msg(timeout=10)
        while reply["parent_header"].get("msg_id") != request:
            reply = self.client.get_shell_msg(timeout=10)
        ran.reply = reply["content"]
        ran.status = ran.reply["status"]
        if ran.status == "error":
            ran.error = ran.reply
        return ran

    def _fold(self, ran: Ran, kind: str, content: dict[str, Any]) -> None:
        name = content.get("transient", {}).get("display_id")
        if kind == "update_display_data":
            for out in ran.outputs:
                if out.get("id") == name:
                    out.update(data=content["data"], metadata=content["metadata"])
        elif kind in ("display_data", "execute_result"):
            data, metadata = content["data"], content["metadata"]
            ran.outputs.append({"kind": kind, "id": name, "data": data, "metadata": metadata})
        elif kind == "stream":
            ran.outputs.append({"kind": kind, "name": content["name"], "text": content["text"]})
        elif kind == "error":
            ran.outputs.append({"kind": kind, **content})

    def value(self, expression: str) -> Any:
        """The value of an expression in the kernel, by way of JSON."""
        ran = self.run(f"import json as _j; print(_j.dumps({expression}, default=str))")
        assert ran.status == "ok", ran.error
        return json.loads(ran.stdout)

    def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self.manager.interrupt_kernel()


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore `__main__`, which a shell in this process replaces."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def one_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel for the whole run: starting one takes a second."""
    folder = tmp_path_factory.mktemp("kernel")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    root = str(Path(__file__).parents[2])
    own = {
        "O3MAGIC_LEDGER": str(folder / "ledger.sqlite3"),
        "O3MAGIC_CONFIG": str(folder / "none.toml"),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, inherited.get("PYTHONPATH", "")])),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    manager, client = start_new_kernel(kernel_name="python3", env=inherited | own, cwd=str(folder))
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A loopback server with scripted replies."""
    with Simulator(key=SECRET) as running:
        yield running


@pytest.fixture
def kernel(one_kernel: Kernel, simulator: Simulator) -> Kernel:
    """The kernel with the extension freshly loaded and a key for the loopback server."""
    ran = one_kernel.run(
        "%reset -f\n"
        "import os\n"
        f"os.environ['OPENAI_API_KEY'] = {SECRET!r}\n"
        f"os.environ['OPENAI_BASE_URL'] = {simulator.base_url!r}\n"
        "os.environ['O3MAGIC_MODEL'] = 'o3-mini'\n"
        "%reload_ext o3magic"
    )
    assert ran.status == "ok", ran.error
    return one_kernel

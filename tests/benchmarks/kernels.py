"""A real kernel to measure in, with every byte counted that it sends of a cell's displays."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_client.manager import start_new_kernel
from jupyter_client.session import DELIM

DISPLAYS = ("display_data", "update_display_data", "clear_output", "execute_result", "stream")


class Ran(NamedTuple):
    """One cell: how long it took, and the display messages it sent."""

    wall_s: float
    messages: int
    bytes: int


class Kernel:
    """Runs cells, and reads what they send off the wire."""

    def __init__(self, client: Any) -> None:
        self._client = client
        # A subscriber of its own sees the frames as they are, before anything decodes them.
        self._iopub = client.connect_iopub()

    def run(self, code: str) -> Ran:
        """Run a cell until the kernel is idle again. Raises RuntimeError if it fails."""
        began_s, messages, size = time.perf_counter(), 0, 0
        request = self._client.execute(code)
        while True:
            frames = self._iopub.recv_multipart()
            # topic, delimiter, signature; then what is counted: header, parent, metadata, content
            said = frames[frames.index(DELIM) + 2 :][:4]
            header, parent, _, content = map(json.loads, said)
            if parent.get("msg_id") != request:
                continue
            kind = header["msg_type"]
            if kind in DISPLAYS:
                messages += 1
                size += sum(map(len, said))
            elif kind == "error":
                raise RuntimeError(f"{content['ename']}: {content['evalue']}")
            elif kind == "status" and content["execution_state"] == "idle":
                return Ran(time.perf_counter() - began_s, messages, size)


@contextmanager
def real_kernel() -> Iterator[Kernel]:
    """A kernel with the extension loaded and a ledger of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("O3MAGIC_", "OPENAI_"))}
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(__file__).parents[2])
        said = {
            "OPENAI_API_KEY": "sk-none",
            "O3MAGIC_LEDGER": str(Path(folder, "ledger.sqlite3")),
            "O3MAGIC_CONFIG": str(Path(folder, "none.toml")),
            "IPYTHONDIR": folder,
            "PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH", "")])),
        }
        manager, client = start_new_kernel(kernel_name="python3", env=kept | said, cwd=folder)
        try:
            kernel = Kernel(client)
            kernel.run("%load_ext o3magic")
            yield kernel
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.context.destroy(linger=0)

"""A notebook's cells run in a kernel, one after the other. The door of nbclient.

What the caller does with a cell that fails, is too slow or kills the kernel is the caller's; here
each becomes a Step, and the outputs that had arrived stay in the notebook.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete, DeadKernelError

from o3magic.cli import network_guard
from o3magic.cli.notebooks import UnreadableNotebook
from o3magic.cli.output_diff import settle, without_colours
from o3magic.errors import did_you_mean

CellState = Literal["ok", "failed", "timed out", "died", "stopped", "skipped"]
DEFAULT_KERNEL = "python3"
GRACE_S = 5.0  # for a cell to end after it is interrupted
MESSAGES_S = 60  # for the outputs of a cell that has ended
STORES = ("O3MAGIC_LEDGER", "O3MAGIC_CASSETTES", "O3MAGIC_CONFIG")
MOST_ERROR_LINES = 20
LINE_OF_CELL = re.compile(r"Cell In\[\d+\],? line:? ?(\d+)")


@dataclass(frozen=True)
class CellFailure:
    """An error of a cell: its class, its message, and the lines a reader needs."""

    name: str
    value: str
    lines: tuple[str, ...]
    line: int | None = None


@dataclass(frozen=True)
class CellRun:
    """One code cell: its index in the notebook, its number among code cells, what became of it."""

    index: int
    number: int
    state: CellState
    elapsed_s: float = 0.0
    failure: CellFailure | None = None


class KernelRunner(NotebookClient):
    """Runs a notebook; its cells get their outputs.

    closed: the kernel cannot reach the network. goes_on: a failed cell does not end the run.
    skipped: a tag of cells to leave alone, besides nbclient's own `skip-execution`.
    asked_last: an expression for the kernel, when all cells have run; its value, a text, gets into
    `answered_last`.
    """

    def __init__(
        self,
        notebook: Any,
        folder: Path,
        variables: Mapping[str, str],
        *,
        kernel: str = "",
        timeout_s: float | None = None,
        closed: bool = False,
        goes_on: bool = False,
        skipped: str = "",
        asked_last: str = "",
    ) -> None:
        named = notebook.metadata.get("kernelspec", {}).get("name", "")
        super().__init__(
            notebook,
            kernel_name=kernel or named or DEFAULT_KERNEL,
            resources={"metadata": {"path": str(folder)}},
            allow_errors=True,
            record_timing=False,
            store_widget_state=False,
            iopub_timeout=MESSAGES_S,
            shutdown_kernel="immediate" if closed else "graceful",
            on_cell_error=self._note_error,
        )
        self._variables, self.limit_s = dict(variables), timeout_s
        self._closed, self._goes_on, self._skipped = closed, goes_on, skipped
        self._asked_last, self.answered_last = asked_last, ""
        self._reply: dict[str, Any] | None = None
        self._senders: dict[str, tuple[Any, int]] = {}
        self._lost = False
        self.code_cells = [i for i, cell in enumerate(notebook.cells) if is_run(cell)]
        self.steps: list[CellRun] = []

    def reached(self, cell: Any) -> None:
        """A cell of any kind comes up; for those who show it."""

    def begun(self, cell: Any, number: int) -> None:
        """A code cell begins."""

    def ended(self, cell: Any, step: CellRun) -> None:
        """A code cell has ended."""

    def play(self) -> list[CellRun]:
        """Run the cells. Ctrl-C interrupts the one that runs and ends the run."""
        asyncio.run(self._play())
        return self.steps

    async def _play(self) -> None:
        try:
            await self._start()
            for index, cell in enumerate(self.nb.cells):
                self.reached(cell)
                if is_run(cell) and not await self._step(cell, index):
                    return
            if self._asked_last:
                self.answered_last = await self._ask(self._asked_last)
        finally:
            if self.km is not None:
                await self._async_cleanup_kernel()
            for cell in self.nb.cells:
                if cell.cell_type == "code":
                    # At the end: an update of a display finds its output by position.
                    cell["outputs"] = settle(cell.outputs)

    async def _start(self) -> None:
        """A kernel that answers, and that is closed if it has to be."""
        kernel = self.create_kernel_manager()
        try:
            if kernel.ipykernel:
                self.extra_arguments = ["--IPKernelApp.log_level=40"]
            await self.async_start_new_kernel(env=self._variables)
            await self.async_start_new_kernel_client()
        except NoSuchKernel:
            known = sorted(KernelSpecManager().find_kernel_specs())
            hint = did_you_mean(self.kernel_name, known, f"--kernel {' or '.join(known)}")
            self.km = None
            raise UnreadableNotebook(f"there is no kernel {self.kernel_name}", hint=hint) from None
        except RuntimeError as error:
            told = f"the kernel {self.kernel_name} did not start: {error}"
            raise UnreadableNotebook(told) from None
        if self._closed:
            await self._close_network()

    async def _close_network(self) -> None:
        """Before the first cell, in no cell's outputs, and without a name in the user's space."""
        text = Path(network_guard.__file__).read_text("utf-8") + "\nclose()\n"
        code = f"exec(compile({text!r}, '<o3magic>', 'exec'), {{'__name__': 'o3magic_offline'}})"
        assert self.kc is not None
        asked = self.kc.execute(code, silent=True, store_history=False)
        reply = await self.async_wait_for_reply(asked)
        if reply is None or reply["content"]["status"] != "ok":
            told = f"the network of the kernel {self.kernel_name} cannot be closed"
            raise UnreadableNotebook(told, hint="only Python kernels can be checked")

    async def _ask(self, expression: str) -> str:
        """A text out of the kernel, or "" where the expression gives none."""
        assert self.kc is not None
        asked = self.kc.execute("", silent=True, user_expressions={"said": expression})
        reply = await self.async_wait_for_reply(asked) or {"content": {}}
        said = reply["content"].get("user_expressions", {}).get("said", {})
        text = said.get("data", {}).get("text/plain", "''")
        return str(ast.literal_eval(text))

    async def _step(self, cell: Any, index: int) -> bool:
        """Run one cell; whether the next one may follow."""
        number = self.code_cells.index(index) + 1
        tags = cell.metadata.get("tags", [])
        if self._skipped in tags or self.skip_cells_with_tag in tags:
            self._end(cell, CellRun(index, number, "skipped"))
            return True
        self.begun(cell, number)
        self._reply, began_s = None, time.monotonic()
        state = await self._run(cell, index)
        failure = failure_of(self._reply) if self._reply else None
        if state == "ok" and failure is not None and "raises-exception" not in tags:
            state = "failed"
        self._end(cell, CellRun(index, number, state, time.monotonic() - began_s, failure))
        if self._lost or state in ("died", "stopped"):
            return False
        return state == "ok" or self._goes_on

    def _end(self, cell: Any, step: CellRun) -> None:
        self.steps.append(step)
        self.ended(cell, step)

    async def _run(self, cell: Any, index: int) -> CellState:
        """Run a cell until it ends, its time is up, or somebody stops it."""
        running = asyncio.ensure_future(self.async_execute_cell(cell, index))
        state: CellState = "ok"
        try:
            done, _ = await asyncio.wait({running}, timeout=self.limit_s)
            if not done:
                state = "timed out" if await self._alive() else "died"
                await self._interrupt(running)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            state = "stopped"
            await self._interrupt(running)
        if not running.done():
            return state
        try:
            running.result()
        except DeadKernelError:
            self._lost = True
            return "died" if state == "ok" else state
        return state

    async def _alive(self) -> bool:
        kernel: Any = self.km
        return bool(await kernel.is_alive())

    async def _interrupt(self, running: asyncio.Future[Any]) -> None:
        """Ask the cell to stop; a kernel that does not listen is given up."""
        kernel: Any = self.km
        if await self._alive():
            await kernel.interrupt_kernel()
        done, _ = await asyncio.wait({running}, timeout=GRACE_S)
        if not done:
            self._lost = True
            self.shutdown_kernel = "immediate"
            running.cancel()
            await asyncio.wait({running})

    def _note_error(self, *, execute_reply: Any, **_: Any) -> None:
        self._reply = execute_reply["content"]

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        """As nbclient's, but what an earlier cell still sends, from a thread, reaches that cell."""
        self._senders[parent_msg_id] = cell, cell_index
        channel: Any = self.kc and self.kc.iopub_channel
        while True:
            message = await channel.get_msg(timeout=None)
            sender = message["parent_header"].get("msg_id")
            if sender not in self._senders:
                continue
            try:
                self.process_message(message, *self._senders[sender])
            except CellExecutionComplete:
                if sender == parent_msg_id:
                    return


def variables_for(path: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for the kernel of a notebook, which runs in the notebook's folder."""
    said = {**variables, "O3MAGIC_NOTEBOOK": str(path.absolute())}
    for name in STORES:
        if said.get(name) and said[name] != ":memory:":
            said[name] = str(Path(said[name]).expanduser().absolute())
    if paths := said.get("PYTHONPATH"):
        said["PYTHONPATH"] = os.pathsep.join(
            str(Path(p).absolute()) for p in paths.split(os.pathsep)
        )
    return said


def is_run(cell: Any) -> bool:
    """Whether there is anything to run in a cell."""
    return cell.cell_type == "code" and bool(cell.source.strip())


def failure_of(reply: Mapping[str, Any]) -> CellFailure:
    """The error in a kernel's reply."""
    name, value = str(reply.get("ename", "")), without_colours(str(reply.get("evalue", "")))
    trace = without_colours("\n".join(reply.get("traceback", ()))).splitlines()
    if trace and trace[0].startswith(f"{name}:"):  # it shows itself, without a traceback
        return CellFailure(name, value, tuple(trace[:MOST_ERROR_LINES]))
    places = LINE_OF_CELL.findall("\n".join(trace))
    told = f"{name}: {value}" if value else name
    lines = tuple(told.splitlines()[:MOST_ERROR_LINES])
    return CellFailure(name, value, lines, int(places[-1]) if places else None)

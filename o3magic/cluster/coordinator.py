"""What the workers of a cluster share, on its scheduler: each job's one gate, and its post.

The gate lets requests out: one rate limit, one width, one pause for all workers. The post carries
letters between workers and the caller, who keeps the books; nobody reads them here. A worker that
is gone gives back its places at the gate, and the caller is told behind its last letter.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from o3magic import errors
from o3magic.errors import RateLimited, RequestFailed
from o3magic.rows.rate_limiter import LimiterClosed, RateLimiter

OP = "o3magic"  # the name of the messages between scheduler and workers
GONE = b""  # the last letter of a worker that is gone
RunId = tuple[str, int]  # the worker, and its own number


class JobState:
    """One job: its gate, its runs, and what its caller was not given yet."""

    def __init__(self, client: str, width: int, limits: dict[str, Any]) -> None:
        self.client, self._width, self._limits = client, width, limits
        self.gate = self._gate()
        self.out: defaultdict[RunId, int] = defaultdict(int)
        self.runs: dict[RunId, str] = {}  # with the task each of them is
        self.post: deque[tuple[int, str, bytes]] = deque()
        self.news = asyncio.Event()
        self._number = 0

    def _gate(self) -> RateLimiter:
        return RateLimiter(self._width, **self._limits)

    def put(self, worker: str, letters: bytes) -> None:
        """A worker's letters for the caller."""
        self._number += 1
        self.post.append((self._number, worker, letters))
        self.news.set()

    def taken(self, number: int) -> None:
        """The caller has all up to this one."""
        while self.post and self.post[0][0] <= number:
            self.post.popleft()
        if not self.post:
            self.news.clear()

    def anew(self) -> None:
        """A new gate, in the place of one that gave up."""
        old, self.gate = self.gate, self._gate()
        self.out.clear()
        old.close()

    @property
    def standing(self) -> dict[str, Any]:
        """How it stands, for people."""
        gate, flying = self.gate, sum(self.out.values())
        return {"width": int(gate.width), "limited": gate.limited_calls, "flying": flying}


class Coordinator:
    """All jobs. send: gives a message to a worker, if that is still there.

    All of it is called in the event loop of the scheduler.
    """

    def __init__(self, send: Callable[[str, dict[str, Any]], None]) -> None:
        self._send = send
        self._offices: dict[str, JobState] = {}
        self._workers: set[str] = set()
        self._turns: set[asyncio.Task[None]] = set()

    def begin(self, job: str, client: str, width: int, limits: dict[str, Any]) -> None:
        """A job that this client keeps the books of. limits: those of a gate."""
        if job not in self._offices:  # it may be said twice
            self._offices[job] = JobState(client, width, limits)

    async def exchange(
        self, job: str, after: int, replies: Iterable[tuple[str, bytes]], wait_s: float
    ) -> dict[str, Any] | None:
        """Pass the caller's replies on, and give it the next letters; None: the job is over.

        after: the number of the last letters it has. They are kept until then, so that none is
        lost where an exchange fails and is made again.
        """
        office = self._offices.get(job)
        if office is None:
            return None
        for worker, said in replies:
            self._say(job, worker, 0, "letters", said)
        office.taken(after)
        with suppress(TimeoutError):
            await asyncio.wait_for(office.news.wait(), wait_s)
        return {"letters": [*office.post], "standing": office.standing}

    def halt(self, job: str, hurry: bool) -> None:
        """Let nothing of a job leave any more. hurry: what is on its way has a moment left."""
        if office := self._offices.get(job):
            office.gate.close()
            for worker, run in office.runs:
                self._say(job, worker, run, "stop", hurry)

    def end(self, job: str) -> None:
        """A job is over, or its caller is gone."""
        self.halt(job, True)
        if office := self._offices.pop(job, None):
            for worker in {worker for worker, _ in office.runs}:
                self._say(job, worker, 0, "end")
            office.news.set()

    def heard(self, worker: str, job: str, said: list[Any], letters: bytes) -> None:
        """What a worker says, in groups: of its gate, and letters for the caller."""
        self._workers.add(worker)
        office = self._offices.get(job)
        if office is None:
            self._say(job, worker, 0, "end")
            return
        for run, word, *more in said:
            self._act(job, office, (worker, run), word, more)
        if letters:
            office.put(worker, letters)

    def _act(self, job: str, office: JobState, run: RunId, word: str, more: list[Any]) -> None:
        """One thing that a run says."""
        gate = office.gate
        if word == "open":
            office.runs[run] = more[0]
            if gate.closed:
                self._say(job, *run, "stop", True)
        elif word == "close":
            office.runs.pop(run, None)
            self._landed(office, office.out.pop(run, 0))
        elif word == "turn":
            turn = asyncio.create_task(self._turn(job, office, run, *more))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)
        elif word == "landed":
            self._landed(office, min(more[0], office.out[run]))
            office.out[run] = max(0, office.out[run] - more[0])
        elif word == "back":
            gate.back(more[0])
        elif word == "answered":
            gate.answered()
        elif word == "heard":
            gate.heard(more[0], (more[1], more[2]))
        elif word in ("limited", "down"):
            self._failed(job, office, word, *more)

    def _landed(self, office: JobState, count: int) -> None:
        for _ in range(count):
            office.gate.landed()

    async def _turn(self, job: str, office: JobState, run: RunId, number: int, tokens: int) -> None:
        """Wait for a place at the gate in the name of a run, and tell it."""
        gate = office.gate
        try:
            await gate.turn(tokens)
        except LimiterClosed:
            self._say(job, *run, "turn", number, None)
            return
        if run not in office.runs or gate is not office.gate:
            gate.back(tokens)
            gate.landed()
            self._say(job, *run, "turn", number, None)
            return
        office.out[run] += 1
        self._say(job, *run, "turn", number, [*gate.mark, gate.streak])

    def _failed(
        self, job: str, office: JobState, word: str, kind: str, fields: dict[str, Any], age_s: float
    ) -> None:
        """A request failed in a way that all of them should know of."""
        error = error_of(kind, fields)
        try:
            if isinstance(error, RateLimited):
                office.gate.limited(error, time.monotonic() - age_s)
            else:
                office.gate.down(error)
        except RequestFailed as hopeless:
            for worker, run in office.runs:
                self._say(job, worker, run, "hopeless", *fields_of(hopeless))
            office.anew()

    def worker_gone(self, worker: str) -> None:
        """A worker is gone: its places are free, and the caller hears of it."""
        self._workers.discard(worker)
        for office in self._offices.values():
            gone = [run for run in office.runs if run[0] == worker]
            for run in gone:
                del office.runs[run]
                self._landed(office, office.out.pop(run, 0))
            if gone:
                office.put(worker, GONE)

    def client_gone(self, client: str) -> None:
        """A caller is gone: nobody keeps the books any more."""
        for job in [job for job, each in self._offices.items() if each.client == client]:
            self.end(job)

    def task_gone(self, task: str) -> None:
        """Nobody wants the result of a task any more: the run that it is stops."""
        for job, office in self._offices.items():
            for (worker, run), its_task in office.runs.items():
                if its_task == task:
                    self._say(job, worker, run, "stop", True)

    def _say(self, job: str, worker: str, run: int, *said: Any) -> None:
        # A worker that never said a word does not know ours.
        if worker in self._workers:
            self._send(worker, {"op": OP, "job": job, "run": run, "said": [*said]})


def fields_of(error: RequestFailed) -> tuple[str, dict[str, Any]]:
    """An error as plain values: its class, and what is in it."""
    said: dict[str, Any] = {"message": str(error), "hint": error.hint, "billed": error.billed}
    said |= {"status": error.status, "code": error.code, "retry_after_s": error.retry_after_s}
    return type(error).__name__, said


def error_of(kind: str, fields: dict[str, Any]) -> RequestFailed:
    """The error of these values."""
    found = getattr(errors, kind, RequestFailed)
    error: RequestFailed = found(
        fields["message"], hint=fields["hint"], status=fields["status"], code=fields["code"]
    )
    error.billed, error.retry_after_s = fields["billed"], fields["retry_after_s"]
    return error

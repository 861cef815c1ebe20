"""Who does which task of a batch, while workers come, fail and vanish: what `videoclr.cluster` decides, without Ray."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from videoclr.errors import ClusterError, DeviceError, VideoclrError
from videoclr.jobs import Task
from videoclr.report import Report

log = logging.getLogger("videoclr.scheduling")

ATTEMPTS = 2
"""How often a task is begun at most, where its worker is lost each time."""
STARTS = 2
"""How often in a row a worker may be lost before it is ready; then it is not replaced any more."""
PLACE_SECONDS = 300.0
"""How long to wait for a place in the cluster while no worker has one."""

Result: TypeAlias = Report | VideoclrError


@dataclass(frozen=True, slots=True)
class Placed:
    """A worker has its place in the cluster and loads the networks."""

    worker: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker waits for a task."""

    worker: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker cannot be used, and is gone."""

    worker: int
    error: VideoclrError


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker's task is over; it waits for the next."""

    worker: int
    result: Result


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone, and what it did with it."""

    worker: int
    reason: str


Event: TypeAlias = Placed | Ready | Refused | Ended | Lost


class Workers(Protocol):
    """Who does the tasks, each known by a number."""

    def start(self) -> int:
        """Begin to start one more."""
        ...

    def assign(self, worker: int, number: int) -> None:
        """Let one that waits do a task."""
        ...

    def end(self, worker: int) -> None:
        """End one."""
        ...

    def next(self) -> Event | None:
        """What happens next; None where nothing did for a moment."""
        ...


class Scheduler:
    """Gives every task to a worker that is free, and again to another where its worker is lost.

    Args:
        tasks: to be done, in this order as far as possible.
        workers: by whom.
        clock: monotonic seconds.
    """

    def __init__(self, tasks: Sequence[Task], workers: Workers, clock: Callable[[], float] = time.monotonic) -> None:
        self._tasks, self._workers, self._clock = tasks, workers, clock
        self._queue = deque(range(len(tasks)))
        self._attempts = [0] * len(tasks)
        self._starting: dict[int, int] = {}
        """Workers that are not ready yet -> how many in a row were lost before they were."""
        self._placed: set[int] = set()
        self._idle: list[int] = []
        self._running: dict[int, int] = {}
        """Worker -> task."""
        self._was_ready = False
        self._refusal: VideoclrError | None = None
        self._untold: dict[str, None] = {}
        """Why workers were refused while none was ready yet: where none ever is, one of it is what the batch ends with."""

    def run(self, count: int) -> Generator[tuple[int, Result], None, None]:
        """Do all tasks with `count` workers; see `videoclr.jobs.Site`.

        Raises:
            VideoclrError: no worker became ready; what stopped the last of them.
        """
        for _ in range(min(count, len(self._tasks))):
            self._start()
        hopeful = self._clock()
        while self._queue or self._running:
            while self._queue and self._idle:
                self._assign(self._idle.pop(), self._queue.popleft())
            now = self._clock()
            if self._running or self._placed:
                hopeful = now
            if not (self._running or self._starting) or now - hopeful > PLACE_SECONDS:
                yield from self._give_up()
                return
            event = self._workers.next()
            if event is not None:
                yield from self._happened(event)

    def _tell(self) -> None:
        for text in self._untold:
            log.warning("a worker cannot be used: %s", text)
        self._untold.clear()

    def _start(self, lost_before: int = 0) -> None:
        self._starting[self._workers.start()] = lost_before

    def _assign(self, worker: int, number: int) -> None:
        self._attempts[number] += 1
        self._running[worker] = number
        self._workers.assign(worker, number)

    def _happened(self, event: Event) -> Iterator[tuple[int, Result]]:
        match event:
            case Placed(worker):
                self._placed.add(worker)
            case Ready(worker):
                self._was_ready = True
                self._tell()
                self._forget(worker)
                self._idle.append(worker)
            case Refused(worker, error):
                self._forget(worker)
                self._refusal = error
                self._untold[str(error)] = None
                if self._was_ready:
                    self._tell()
            case Ended(worker, result):
                yield self._running.pop(worker), result
                self._reuse(worker, result)
            case Lost(worker, reason):
                yield from self._lost(worker, reason)

    def _reuse(self, worker: int, result: Result) -> None:
        # A device that failed stays lost to its process, and a new process may well find it working.
        if isinstance(result, DeviceError):
            self._workers.end(worker)
            if self._queue:
                self._start()
        else:
            self._idle.append(worker)

    def _lost(self, worker: int, reason: str) -> Iterator[tuple[int, Result]]:
        number = self._running.pop(worker, None)
        if number is not None:
            source = self._tasks[number].source
            if self._attempts[number] < ATTEMPTS:
                log.warning("%s: its worker is lost (%s); it is done again by another", source, reason)
                self._queue.appendleft(number)
            else:
                yield number, ClusterError(f"{source}: its worker was lost {ATTEMPTS} times ({reason}); see what ends it there")
        if worker in self._idle:
            self._idle.remove(worker)
        before = self._forget(worker)
        lost = 0 if before is None else before + 1
        if lost >= STARTS:
            self._refusal = ClusterError(f"workers are lost before they are ready ({reason})")
        elif self._queue:
            self._start(lost)

    def _forget(self, worker: int) -> int | None:
        self._placed.discard(worker)
        return self._starting.pop(worker, None)

    def _give_up(self) -> Iterator[tuple[int, Result]]:
        """Nobody is left, and nobody comes."""
        waited = f"no place for a worker within {PLACE_SECONDS / 60:g} minutes; see what `ray status` says is free"
        reason = ClusterError(waited) if self._starting or self._refusal is None else self._refusal
        if not self._was_ready:
            self._untold.pop(str(reason), None)
            self._tell()
            raise reason
        while self._queue:
            number = self._queue.popleft()
            yield number, ClusterError(f"{self._tasks[number].source}: all workers are lost, and none can be started: {reason}")

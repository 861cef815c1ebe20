"""Helpers over iterators: run ahead in a thread, look around, group, and time.

Only this module of the package starts threads. `prefetch` is a bounded channel with two ends, and closing it
wakes both: the producer stops at its next item and closes its generator, a consumer that waits is told. Nothing else
needs a sentinel, a stop flag or a drain loop. `at_once` shares out a list of computations, and waits for all of them.
A thread that a fork took along computes nothing (`is_forked`, `beside_fork`).
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from videoclr.bookmark import NOWHERE, Inside

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("videoclr.flow")


class ChannelClosed(Exception):
    """Raised in a thread that reads from a `Prefetch` after somebody closed it; it unwinds that thread quietly."""


class Unwanted(BaseException):
    """Raised by `still_wanted`. Not an Exception: a stage that passes over the failure of a face must not pass over this."""


class _Channel(Generic[T]):
    """What the two ends share. All fields are guarded by `changed`."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.changed = threading.Condition()
        self.items: deque[tuple[T, int]] = deque()
        self.held = 0
        self.closed = False
        self.done = False
        self.error: BaseException | None = None

    def put(self, item: T, weight: int) -> bool:
        """Add an item, waiting for room; False when the consumer is gone."""
        with self.changed:
            # An empty channel admits anything: an item heavier than the whole depth must pass, not wait for ever.
            self.changed.wait_for(lambda: self.closed or not self.items or self.held + weight <= self.depth)
            if self.closed:
                return False
            self.items.append((item, weight))
            self.held += weight
            self.changed.notify_all()
            return True

    def get(self) -> T:
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.items or self.done)
            if self.closed:
                raise ChannelClosed
            if self.items:
                item, weight = self.items.popleft()
                self.held -= weight
                self.changed.notify_all()
                return item
            error, self.error = self.error, None
        if error is not None:
            raise error
        raise StopIteration

    def finish(self, error: BaseException | None) -> None:
        with self.changed:
            self.done, self.error = True, error
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.items.clear()
            self.held = 0
            self.changed.notify_all()


_here = threading.local()
"""`channel`: of the thread that produces for it."""


_producing: dict[threading.Thread, _Channel[Any]] = {}
"""Of all threads that produce at the moment."""
_PATIENCE = 20.0
"""Seconds that the end of the program waits for them: for a call of a network, not for a pipe that sends nothing."""


@atexit.register
def _end_producers() -> None:
    # Python ends what threads are left where they stand, and torch, in the middle of a network, the whole process by an abort.
    left = list(_producing.items())
    for _, channel in left:
        channel.close()
    until = time.monotonic() + _PATIENCE
    for thread, _ in left:
        if thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))


def _produce(items: Iterable[T], channel: _Channel[T], weigh: Callable[[T], int]) -> None:
    """The body of the thread. It holds the channel but not the `Prefetch`, so that a forgotten one can be collected."""
    error: BaseException | None = None
    iterator: Iterator[T] | None = None
    _here.channel = channel
    _producing[threading.current_thread()] = channel
    try:
        iterator = iter(items)
        for item in iterator:
            if not channel.put(item, weigh(item)):
                break
    except ChannelClosed as closed:
        if not channel.closed:
            error = closed
    except BaseException as raised:  # it is the consumer's to handle, whatever it is
        error = raised
    try:
        close(iterator)
    except BaseException as raised:
        error = error or raised
    if error is not None and channel.closed:
        log.debug("dropped after the consumer left: %r", error)
    _producing.pop(threading.current_thread(), None)
    channel.finish(error)


class Prefetch(Iterator[T]):
    """The consumer's end of a channel; see `prefetch`. Iterate it in one thread; `close` may come from any."""

    def __init__(self, items: Iterable[T], depth: int, name: str, weigh: Callable[[T], int]) -> None:
        self._channel: _Channel[T] = _Channel(depth)
        self._thread = threading.Thread(target=_produce, args=(items, self._channel, weigh), name=f"videoclr-{name}", daemon=True)
        self._started = False

    def __next__(self) -> T:
        if not self._started:
            self._started = True
            self._thread.start()
        return self._channel.get()

    def close(self) -> None:
        """Stop the producer, wait until it has closed its generator, and drop what waits.

        The thread is waited for, never abandoned: it may be inside a decoder that the caller is about to close.
        """
        self._channel.close()
        if self._started and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self._channel.close()


def prefetch(items: Iterable[T], depth: int, name: str, weigh: Callable[[T], int] = lambda _: 1) -> Prefetch[T]:
    """Produce `items` in a thread of their own, at most `depth` ahead.

    Args:
        items: iterated and, when it is a generator, closed in the new thread. The thread starts with the first `next`.
        depth: how much may wait in the channel, in the unit of `weigh`. One item may always wait.
        name: of the thread, for debuggers and logs.
        weigh: weight of an item, in the producer's thread; counts items unless given. Give bytes for frames.

    Returns:
        An iterator and context manager. An exception of the producer is raised from `next` after the items before it.
        `close` (or leaving the block) stops the producer.

    Raises:
        ValueError: `depth` is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    return Prefetch(items, depth, name, weigh)


def still_wanted() -> None:
    """For long computations to call on their way: unwinds the thread of a `prefetch` whose consumer has left.

    Raises:
        Unwanted: it has.
    """
    channel: _Channel[Any] | None = getattr(_here, "channel", None)
    if channel is not None and channel.closed:
        raise Unwanted


def at_once(function: Callable[[T], R], items: Sequence[T], hands: int) -> list[R]:
    """`function` of each item, in order, in up to `hands` threads: for OpenCV and numpy, which let others work meanwhile.

    An exception is raised here, the first item's first, when all that was begun has ended.
    """
    if hands < 2 or len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(hands, len(items)), "videoclr-hand") as pool:
        return list(pool.map(function, items))


class Visit:
    """A computation in a `Company`."""

    def __init__(self) -> None:
        self.met = False
        """Whether another thread's was there at the same time, for a moment at least."""


class Company:
    """Computations of several threads that share something: beside one another, or one alone. Inside one, another is part of it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know of no computation: the threads of those that were here stayed behind in another process."""
        self._changed = threading.Condition()
        self._inside: list[Visit] = []
        self._alone = False
        self._own = threading.local()

    @contextmanager
    def visit(self, alone: bool = False) -> Iterator[Visit]:
        """A block beside those of other threads, or `alone`: then it waits until they have ended, and no other begins meanwhile."""
        if getattr(self._own, "inside", False):
            yield Visit()
            return
        visit = Visit()
        self._enter(visit, alone)
        self._own.inside = True
        try:
            yield visit
        finally:
            self._own.inside = False
            with self._changed:
                if visit in self._inside:
                    self._inside.remove(visit)
                self._alone = self._alone and not alone
                self._changed.notify_all()

    def _enter(self, visit: Visit, alone: bool) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            if alone:
                self._alone = True
                try:
                    self._changed.wait_for(lambda: not self._inside)
                except BaseException:  # Ctrl-C
                    self._alone = False
                    self._changed.notify_all()
                    raise
            for other in self._inside:
                other.met = visit.met = True
            self._inside.append(visit)


on_device = Company()
"""What parts compute, in all runs of the process: they share the memory of a device."""


_forked: set[int] = set()
"""The one thread that a fork took along."""


def _note_fork() -> None:
    _producing.clear()  # they stayed behind
    on_device.forget()
    _forked.clear()
    _forked.add(threading.get_ident())


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_note_fork)


def is_forked() -> bool:
    """Whether this thread was there before its process was forked from another.

    What it knows of OpenMP's threads is of the other process, and a network that it computes waits for them for ever;
    a thread that is begun here gets new ones.
    """
    return threading.get_ident() in _forked


def beside_fork(function: Callable[[], R]) -> R:
    """`function()`, in a thread of its own where this one cannot compute (`is_forked`)."""
    if not is_forked():
        return function()
    with ThreadPoolExecutor(1, "videoclr-fork") as pool:
        return pool.submit(function).result()


def one_at_a_time() -> AbstractContextManager[object]:
    """A block that one thread enters at a time: for what is shared by the two sides of a `prefetch`."""
    return threading.Lock()


changing_process = one_at_a_time()
"""Held by whoever changes what all jobs of a process share."""


def close(items: object) -> None:
    """Close a generator, or what else can be closed; a list is left alone."""
    how = getattr(items, "close", None)
    if how is not None:
        how()


def closing(items: Iterable[T], source: object) -> Iterator[T]:
    """Pass `items` on; close them, and the generator `source` that they are made of, however they end.

    A generator that an exception leaves stays open as long as somebody holds the traceback.
    """
    try:
        yield from items
    finally:
        close(items)
        close(source)


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` consecutive items; the last may be shorter.

    >>> list(grouped("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


class Around(NamedTuple, Generic[T]):
    """An item with its neighbours, nearest last in `past` and nearest first in `future`."""

    past: tuple[T, ...]
    item: T
    future: tuple[T, ...]


def around(
    items: Iterable[T],
    before: int,
    after: int,
    key: Callable[[T], Hashable],
    inside: Inside = NOWHERE,
    name: str = "around",
) -> Iterator[Around[T]]:
    """Every item with up to `before` earlier and `after` later neighbours of the same `key`.

    The delay is `after` items. Where the key changes (a cut) the window is emptied: no neighbour comes from the other
    side, and the last items of the old key are not kept waiting. What waits is `inside` under `name`.

    >>> [tuple(a) for a in around("aab", 1, 1, str)]
    [((), 'a', ('a',)), (('a',), 'a', ()), ((), 'b', ())]
    """
    waiting: tuple[deque[T], deque[T]] | None = inside.begin(name, lambda: (past, ahead))
    past, ahead = waiting or (deque(maxlen=before), deque())

    def step() -> Around[T]:
        item = ahead.popleft()
        found = Around(tuple(past), item, tuple(ahead))
        past.append(item)
        return found

    for item in items:
        if ahead and key(ahead[-1]) != key(item):
            while ahead:
                yield step()
        if past and not ahead and key(past[-1]) != key(item):
            past.clear()
        ahead.append(item)
        if len(ahead) > after:
            yield step()
    while ahead:
        yield step()


_nested = threading.local()


def timed(stage: str, items: Iterable[T], clock: MutableMapping[str, float]) -> Iterator[T]:
    """Pass `items` on and add the seconds spent in making them to `clock[stage]`.

    Time spent in a `timed` iterator further upstream (in the same thread) is that one's own and is not counted twice.
    Waiting for a `Prefetch` looks like work; wrap it as well (`timed("wait", prefetch(...), clock)`) to tell it apart.
    """
    iterator = iter(items)
    clock.setdefault(stage, 0.0)
    try:
        while True:
            outer, _nested.seconds = getattr(_nested, "seconds", 0.0), 0.0
            start = time.perf_counter()
            try:
                item: Any = next(iterator)
            except StopIteration:
                return
            finally:
                elapsed = time.perf_counter() - start
                clock[stage] += elapsed - _nested.seconds
                _nested.seconds = outer + elapsed
            yield item
    finally:
        close(iterator)

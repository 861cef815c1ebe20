from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from videoclr.flow import ChannelClosed, around, at_once, grouped, prefetch, still_wanted, timed


class Source:
    """An endless or bounded generator that tells whether it was closed, and in which thread."""

    def __init__(self, count: int | None = None, error: Exception | None = None) -> None:
        self.made = 0
        self.closed = threading.Event()
        self.closed_in: str | None = None
        self.count = count
        self.error = error

    def __iter__(self) -> Iterator[int]:
        try:
            while self.count is None or self.made < self.count:
                self.made += 1
                yield self.made - 1
            if self.error:
                raise self.error
        finally:
            self.closed_in = threading.current_thread().name
            self.closed.set()


def test_prefetch_keeps_order_and_number() -> None:
    with prefetch(range(1000), 3, "numbers") as items:
        assert list(items) == list(range(1000))


def test_prefetch_iterates_in_another_thread_which_starts_with_the_first_item() -> None:
    source = Source(2)
    with prefetch(iter(source), 1, "elsewhere") as items:
        assert source.made == 0
        assert list(items) == [0, 1]
    assert source.closed_in == "videoclr-elsewhere"


def test_an_exception_of_the_producer_arrives_after_the_items_before_it() -> None:
    items = prefetch(iter(Source(2, ValueError("broken"))), 8, "broken")
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)


def test_the_producer_never_runs_further_ahead_than_the_depth() -> None:
    ahead: list[int] = []
    taken = 0

    def source() -> Iterator[int]:
        for number in range(50):
            ahead.append(number - taken)
            yield number

    with prefetch(source(), 4, "bounded") as items:
        for _ in items:
            taken += 1
    # 4 in the channel, 1 in the producer's hand, 1 just taken and not yet counted
    assert max(ahead) <= 6


def test_depth_counts_weight_and_lets_one_heavy_item_pass() -> None:
    held: list[int] = []

    def source() -> Iterator[int]:
        for number in range(20):
            held.append(number)
            yield 100

    items = prefetch(source(), 250, "bytes", weigh=lambda item: item)
    next(items)
    items.close()
    assert len(held) <= 5  # two of 100 fit into 250
    with prefetch([10**9] * 3, 1, "heavy", weigh=lambda item: item) as heavy:
        assert len(list(heavy)) == 3


def test_closing_stops_a_producer_that_waits_for_room_and_closes_its_generator() -> None:
    source = Source()
    items = prefetch(iter(source), 2, "endless")
    assert next(items) == 0
    items.close()
    assert source.closed_in == "videoclr-endless"  # closed before close() returned, by the thread that ran it


def test_closing_wakes_a_consumer_that_waits_in_another_thread() -> None:
    release = threading.Event()

    def stuck() -> Iterator[int]:
        yield 0
        release.wait(20)

    items = prefetch(stuck(), 1, "stuck")
    assert next(items) == 0
    outcome: list[BaseException] = []

    def consume() -> None:
        try:
            next(items)
        except BaseException as error:
            outcome.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    closer = threading.Thread(target=items.close)
    closer.start()
    consumer.join(10)
    assert [type(error) for error in outcome] == [ChannelClosed]
    release.set()
    closer.join(10)
    assert not closer.is_alive()


def test_a_chain_of_two_unwinds_when_the_first_is_closed() -> None:
    source = Source()
    first = prefetch(iter(source), 2, "first")
    second = prefetch((item for item in first), 2, "second")
    assert next(second) == 0
    first.close()
    second.close()
    assert source.closed.is_set()


def test_a_forgotten_channel_lets_its_producer_end() -> None:
    source = Source()
    items = prefetch(iter(source), 1, "forgotten")
    next(items)
    del items
    gc.collect()
    assert source.closed.wait(10)


def test_a_program_that_ends_in_the_middle_ends_its_threads_first() -> None:
    # Left alone, the thread would be ended where it stands: a generator in the middle of a network, and the process with it.
    left = """
import time
from videoclr.flow import prefetch
def numbers():
    try:
        while True:
            time.sleep(0.001)
            yield 1
    finally:
        print("closed")
items = prefetch(numbers(), 2, "left")
next(items)
"""
    done = subprocess.run([sys.executable, "-c", left], capture_output=True, text=True, check=True)
    assert done.stdout == "closed\n"


def test_an_unstarted_channel_closes_without_a_thread() -> None:
    before = threading.active_count()
    prefetch(range(3), 1, "unused").close()
    assert threading.active_count() == before


def test_depth_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        prefetch([], 0, "none")


def test_what_is_done_at_once_comes_in_order_from_several_threads() -> None:
    together = threading.Barrier(3, timeout=30)  # passes only where three calls are under way at the same time
    assert at_once(lambda item: (together.wait(), item)[1], range(6), 3) == list(range(6))
    assert at_once(lambda item: threading.current_thread(), range(3), 1) == [threading.current_thread()] * 3


def test_the_first_failure_of_what_is_done_at_once_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        at_once(lambda item: 1 / item, [1, 0, 2], 2)


def test_grouped_loses_nothing() -> None:
    assert list(grouped(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(grouped([], 3)) == []


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (0, 3), (2, 3)])
def test_around_gives_the_neighbours_of_the_same_key_only(before: int, after: int) -> None:
    items = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (2, 5), (2, 6), (2, 7), (2, 8), (2, 9)]
    places = list(around(items, before, after, lambda item: item[0]))
    assert [place.item for place in places] == items
    for index, place in enumerate(places):
        shot = items[index][0]
        assert list(place.past) == [i for i in items[max(0, index - before) : index] if i[0] == shot]
        assert list(place.future) == [i for i in items[index + 1 : index + 1 + after] if i[0] == shot]


def test_around_delays_by_its_look_ahead_and_no_more() -> None:
    source = Source()
    places = around(iter(source), 1, 3, lambda _: 0)
    next(places)
    assert source.made == 4


def test_timed_gives_each_stage_its_own_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def work(items: Iterator[int], seconds: float) -> Iterator[int]:
        nonlocal now
        for item in items:
            now += seconds
            yield item

    clock: dict[str, float] = {}
    first = timed("first", work(iter(range(4)), 1.0), clock)
    second = timed("second", work(first, 10.0), clock)
    for _ in timed("third", work(second, 100.0), clock):
        now += 1000.0  # the consumer's own time is nobody's
    assert clock == {"first": 4.0, "second": 40.0, "third": 400.0}


def test_timed_closes_what_it_passes_on() -> None:
    source = Source()
    items = timed("stage", iter(source), {})
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert source.closed.is_set()


def test_a_long_computation_ends_when_its_consumer_leaves():
    began, left, steps = threading.Event(), threading.Event(), []

    def items():
        yield 0
        for step in range(100):
            steps.append(step)
            began.set()
            assert left.wait(10)
            try:
                still_wanted()
            except Exception:  # of a face, which a stage passes over
                continue
        yield 1

    source = prefetch(items(), 1, "long")
    assert next(source) == 0
    assert began.wait(10)
    source._channel.close()
    left.set()
    source.close()
    assert steps == [0]


def test_a_computation_that_nobody_waits_for_is_wanted():
    still_wanted()
    assert list(prefetch((still_wanted() for _ in range(3)), 1, "wanted")) == [None] * 3

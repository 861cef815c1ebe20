from __future__ import annotations

import threading
from collections.abc import Sequence

import cv2
import pytest
import torch

from videoclr.errors import DeviceError
from videoclr.shortage import Batch, is_full, is_lost, with_room


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
        ),
        RuntimeError("CUDA error: out of memory"),
        cv2.error("OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 3600000000 bytes"),
    ],
)
def test_memory_that_did_not_suffice_is_known_by_its_kind_or_its_words(error: BaseException) -> None:
    assert is_full(error) and not is_lost(error)


def test_a_failed_device_is_no_shortage_and_a_bad_value_neither() -> None:
    assert is_lost(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_full(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_lost(RuntimeError("shapes do not match")) and not is_full(ValueError("out of memory"))


def test_what_is_neither_passes_as_it_is() -> None:
    def work(group: object) -> list[int]:
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError):
        list(Batch(4, "runtime.batch").calls(work, [1, 2, 3]))


def test_a_shortage_is_seen_through_the_exception_that_it_caused() -> None:
    def work(group: object) -> list[int]:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except torch.OutOfMemoryError as error:
            raise ValueError("the network failed") from error

    with pytest.raises(DeviceError, match="one item at a time"):
        list(Batch(4, "runtime.batch").calls(work, [1, 2, 3]))


def test_a_line_of_another_thread_stays_where_two_add_at_the_same_moment() -> None:
    class Busy(list[str]):
        def append(self, text: str) -> None:
            super().append("the other's")
            super().append(text)

    def work(group: Sequence[int]) -> Sequence[int]:
        if len(group) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return group

    warnings = Busy()
    assert list(Batch(4, "runtime.batch", warnings).calls(work, [1, 2, 3, 4])) == [1, 2, 3, 4]
    assert warnings[0] == "the other's" and warnings[1].endswith("went on with 1") and len(warnings) == 2


def test_what_has_no_room_beside_another_threads_computation_is_tried_alone_before_it_is_halved() -> None:
    begun, end, ended = threading.Event(), threading.Event(), threading.Event()

    def other() -> None:
        begun.set()
        assert end.wait(30)
        ended.set()

    def work(group: object) -> list[int]:
        calls.append(ended.is_set())
        if not ended.is_set():
            end.set()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [1]

    calls: list[bool] = []
    warnings: list[str] = []
    thread = threading.Thread(target=with_room, args=(other,))
    thread.start()
    assert begun.wait(30)
    assert list(Batch(1, "runtime.batch", warnings).calls(work, [1])) == [1]
    thread.join()
    assert calls == [False, True] and not warnings

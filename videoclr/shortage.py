"""What a device does to a long run: too little memory, or gone altogether.

Out of memory, the batch is halved and the work goes on, down to one; that leaves the pixels alone, since a batch changes
speed only. Two threads of a run compute at a time: what was short of memory beside the other's computation is tried once more
alone before that. A device that is lost stays lost for the process: nothing is tried again, the run ends with what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import cv2
import torch

from videoclr.errors import DeviceError, DeviceLostError
from videoclr.flow import on_device, still_wanted

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("videoclr.shortage")

_FULL = ("out of memory", "can't allocate memory", "not enough memory", "Insufficient memory")
_LOST = ("CUDA error", "device-side assert", "device lost", "GPU is lost", "fallen off the bus", "ECC error")


class Batch:
    """How many items a call may hold.

    Args:
        size: to begin with, at least 1.
        setting: the setting that it comes from, such as `runtime.batch`; stands in what is said.
        warnings: where a smaller batch is told, once, with the size that sufficed.
    """

    def __init__(self, size: int, setting: str, warnings: list[str] | None = None) -> None:
        self.size, self.setting = size, setting
        self.warnings = [] if warnings is None else warnings
        self._asked = size
        self._line: int | None = None

    def halve(self, error: BaseException, held: int) -> None:
        """Answer a failure of a call that held `held` items.

        Returns where a smaller batch is worth a try.

        Raises:
            DeviceError: the device is lost, or one item alone does not fit; raised from `error`.
            BaseException: `error` itself, where it is neither.
        """
        if any(is_lost(one) for one in chain_of(error)):
            raise of_the_device(error) from error
        if not any(is_full(one) for one in chain_of(error)):
            raise error
        if min(self.size, held) <= 1:
            raise DeviceError(
                f"out of memory with one item at a time; free memory on the device, lower {self.setting} and what else runs "
                "there, or choose another (--device cpu)"
            ) from error
        self.size = max(1, min(self.size, held) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._tell()

    def calls(self, work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> Iterator[R]:
        """The results of `work` on all `items`, in as many calls as it takes."""
        rest = items
        while rest:
            group = rest[: self.size]
            still_wanted()
            try:
                done = with_room(partial(work, group))
            except Exception as error:
                self.halve(error, len(group))
                continue
            rest = rest[len(group) :]
            yield from done

    def _tell(self) -> None:
        text = f"the device's memory does not suffice for {self.setting} {self._asked}: went on with {self.size}"
        log.warning(text)
        if self._line is None:
            self._line = added(self.warnings, text)
        else:
            self.warnings[self._line] = text


def added(warnings: list[str], text: str) -> int:
    """Add a line, and give its place for those who change it later: another thread may add one at the same moment."""
    warnings.append(text)
    return next(place for place, one in enumerate(warnings) if one is text)


def with_room(work: Callable[[], R]) -> R:
    """`work()`; where memory did not suffice for it beside what another thread computed, once more when nobody else does."""
    try:
        with on_device.visit() as visit:
            return work()
    except Exception as error:
        if not visit.met or not any(is_full(one) for one in chain_of(error)):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with on_device.visit(alone=True):
        return work()


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what it was raised from, nearest first."""
    while error is not None:
        yield error
        error = error.__cause__


def is_of_the_device(error: BaseException) -> bool:
    """True where too little memory, or a device that failed, is behind `error`: nobody's input is to blame."""
    return any(is_full(one) or is_lost(one) for one in chain_of(error))


def of_the_device(error: BaseException, who: str = "the device") -> DeviceError:
    """What to say where the device is at fault and nothing smaller can be tried.

    Args:
        error: see `is_of_the_device`.
        who: met it: `frame 7: the judge`.
    """
    found = list(chain_of(error))
    if any(is_lost(one) for one in found):
        failed = "the device failed" if who == "the device" else f"{who} met a device that failed"
        return DeviceLostError(f"{failed} ({_line(found[-1])}); start again, with --resume where the run had it")
    if any(_is_of_the_machine(one) for one in found):
        met = "the program" if who == "the device" else who
        return DeviceError(f"{met} ran out of memory; end what else runs on the machine, or lower runtime.buffer_mb")
    return DeviceError(f"{who} ran out of memory; end what else runs on the device, or choose another (--device cpu)")


def is_full(error: BaseException) -> bool:
    """True where memory, of the device or of the machine, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | cv2.error) and any(words in str(error) for words in _FULL)


def _is_of_the_machine(error: BaseException) -> bool:
    """Of what `is_full` knows: whether the memory is that of programs, whatever the device."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _FULL[1:])


def is_lost(error: BaseException) -> bool:
    """True where the device itself failed: every later call would fail as well."""
    return isinstance(error, RuntimeError) and not is_full(error) and any(words in str(error) for words in _LOST)


def _line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).strip()

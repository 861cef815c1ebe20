"""What a program owes the system it runs on: signals, standard streams that may be gone, memory that goes back."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any, cast

STOPPED = 130
"""Exit code of a process that was stopped: by Ctrl-C, SIGTERM or a closed terminal."""
_STOPPING = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_PATIENCE = 3
"""The how-manieth signal ends the process at once."""
_SAID = b"videoclr: stopping after what is being computed; two more signals end at once\n"
_closed: set[int] = set()
"""Numbers of the standard streams that `open_closed_streams` found closed."""
_limited: list[tuple[int, int]] = []
"""For each block of `threads` that is under way, the threads of torch and of OpenCV before the first of them."""
_M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -2, -3, -8
"""glibc's numbers of the settings (malloc.h)."""
_LARGE = 4 << 20
"""Bytes from which a block of memory goes back to the system when it is freed."""
_KEPT = 64 << 20
"""Bytes that stay at the end of a heap, and by which it grows. With 16 MiB half as much was won."""
_HEAPS = 1
"""Each keeps that much: with two, 4K took 1500 MiB for 1420, and nothing became faster; with one for each thread 1630."""


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and a closed terminal (SIGHUP) unwind like Ctrl-C, so that `.part` files go with them.

    A second signal while that happens is not heard: it would tear the cleaning up apart. A third ends the process as it
    stands. What is ignored already (`nohup`) stays so, and a library's handlers are put back at the end.
    """
    heard = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        if heard >= _PATIENCE:
            os._exit(STOPPED)
        if heard == 1:
            # Not through sys.stderr, in the middle of whose work a signal may come.
            with suppress(OSError):
                os.write(2, b"\n" * os.isatty(2) + _SAID)
            raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.Signals[name] for name in _STOPPING):
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, interrupt)
    except ValueError:  # not in the main thread: signals are somebody else's business
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_closed_streams() -> None:
    """Where the caller closed a standard stream, nobody is there; a file that is opened later must not get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            _closed.add(number)
    if cast("IO[str] | None", sys.stdout) is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for as long as the process lives
    if cast("IO[str] | None", sys.stderr) is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def is_closed(number: int) -> bool:
    """Whether the caller closed the standard stream of this number."""
    return number in _closed


def spell_out() -> None:
    """What standard output's encoding has no character for is written by its number, not refused."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def let_go_of_streams() -> None:
    """What a standard stream holds and cannot get rid of would fail at the interpreter's end, and 120 take our code's place."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        except ValueError:  # closed
            pass


class Stderr(io.TextIOBase):
    """Standard error that may vanish under a run: a closed terminal must not end what goes on without it."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._stream = sys.stderr  # the one of now: a progress bar puts itself in its place for a while

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    def fileno(self) -> int:
        return self._stream.fileno()


def settle_heap() -> None:
    """Keep glibc from holding on to freed pictures, and from giving back all the rest at once.

    It takes every size that was freed once for one to keep at hand, up to 32 MB, and then a 4K run holds hundreds of
    megabytes of holes: so large blocks go back to the system. But whoever says which sizes are large also gets a heap that gives
    back whatever is free at its end, and asks for it anew, zeroed, with nearly every layer of a network (on two cores, 48 frames
    took 46 s instead of 40, of which the system had 16 s instead of 4.5). So it keeps some.
    Where the C library is another one, nothing is done.
    """
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TOP_PAD, _KEPT)
        libc.mallopt(_M_ARENA_MAX, _HEAPS)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads for torch and for OpenCV inside, and as many as before behind it; 0 leaves both as they are.

    Where such blocks overlap, as before the first of them behind the last.
    """
    if not number:
        yield
        return
    import cv2
    import torch

    from videoclr.flow import changing_process

    with changing_process:
        before = _limited[0] if _limited else (torch.get_num_threads(), cv2.getNumThreads())
        _limited.append(before)
    use_threads(number)
    try:
        yield
    finally:
        with changing_process:
            _limited.pop()
            torch.set_num_threads(before[0])  # each thread of a program has its own number, besides that of new ones
            if not _limited:
                cv2.setNumThreads(before[1])


def use_threads(number: int) -> None:
    """So many threads for torch, and for OpenCV; 0 leaves both as they are."""
    if number:
        import cv2
        import torch

        torch.set_num_threads(number)
        cv2.setNumThreads(number)

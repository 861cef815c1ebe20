"""FFmpeg's exceptions become this package's: one line that says which file, what happened and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np

from videoclr.errors import MediaError, VideoclrError

_ADVICE = {
    errno.ENOENT: "no such file or directory",
    errno.EACCES: "permission denied; choose a place you may write to, or change the rights",
    errno.EPERM: "operation not permitted; choose another place",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOSPC: "no space left on the device; free some or write elsewhere",
    errno.EDQUOT: "disk quota exceeded; free some space or write elsewhere",
    errno.EFBIG: "the file grew beyond the allowed size; write elsewhere",
    errno.EISDIR: "is a directory; name a file",
    errno.ENOTDIR: "a part of this path is a file, not a directory",
    errno.EPIPE: "the program at the other end of the pipe stopped reading",
    errno.EIO: "input/output error; check the disk or the connection",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EMFILE: "too many open files; allow more (ulimit -n)",
    errno.ENFILE: "too many open files on this machine; end other programs",
}
"""What to say about an operating system's error number."""

AV_ERRORS = (av.FFmpegError, OSError, ValueError, RuntimeError, UnicodeError, AssertionError, IndexError)
"""What PyAV raises when FFmpeg or the system refuses: beside its own family also bare ValueErrors, and an IndexError at a packet of
a stream that the file did not have when it was opened (FLV and MPEG-TS find streams on their way)."""


def reason(error: BaseException) -> str:
    """One line for `error`: advice for a system error, otherwise FFmpeg's own words."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number in _ADVICE:
        return _ADVICE[number]
    return words(error)


def words(error: BaseException) -> str:
    """FFmpeg's or the system's own words in one line: what `reason` advises is about files, not about devices."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())


def refuse_nul(*names: object) -> None:
    """Refuse names that no file can have, where the system's own calls would end in a bare ValueError.

    Raises:
        MediaError: there is a NUL in one, as a program may give it; on a command line there is none.
    """
    for name in names:
        if "\0" in str(name):
            raise MediaError(name, "there is a NUL in this name, and no file has one; name another")


def is_system_error(error: BaseException) -> bool:
    """True where the system (disk full, closed pipe, rights), not the data, is the cause."""
    return getattr(error, "errno", None) in _ADVICE


def is_memory_short(error: BaseException, size: int) -> bool:
    """True where memory did not suffice, and no damage is behind `error`.

    FFmpeg's decoders call many a shortage invalid data, so it is tried whether as much memory is to be had.

    Args:
        error: what FFmpeg raised.
        size: bytes that it needed.
    """
    if isinstance(error, MemoryError):
        return True
    try:
        np.empty(size, np.uint8)
    except MemoryError:
        return True
    return False


@contextmanager
def explained(path: object, doing: str) -> Iterator[None]:
    """Turn what PyAV and the system raise inside the block into one `MediaError(path)`: `<doing>: <reason>`."""
    try:
        yield
    except VideoclrError:
        raise
    except AV_ERRORS as error:
        raise MediaError(path, f"{doing}: {reason(error)}") from error

"""One family of exceptions, each saying where it happened and what to do next.

    VideoclrError
    ├── ConfigError            a bad value or an unknown name; says the path and the choices
    ├── MediaError             a file that cannot be read or written
    │   ├── EmptyPartError     ... in which the part that was asked for holds no picture
    │   ├── BusyError          ... which another run is writing
    │   ├── DecodeError        ... at a time inside it
    │   └── EncodeError        ... at a time inside it
    ├── WeightsError           missing, wrong hash, keys that do not fit
    ├── RestorationError       a part failed on a frame or a face; raised `from` the part's own exception
    │   └── NotFiniteError     ... because NaN or infinite values came out
    ├── DeviceError            the device has too little memory, or failed
    │   └── DeviceLostError    ... and is lost to this process
    ├── ResumeError            a ledger that belongs to another source or setting
    └── ClusterError           a cluster that cannot be reached, or workers that were lost

Every message is one line. The command line prints it as it is and exits with 1 (2 for `ConfigError`).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeVar

E = TypeVar("E", bound="VideoclrError")


class VideoclrError(Exception):
    """Base of everything that this package raises on purpose.

    They can be pickled with all their attributes and notes, so they reach whoever asked for work in another process; what they
    were raised `from` stays there.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """By what it holds: `Exception` would make it anew of its message, which is not what its constructors take."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[E], args: tuple[Any, ...], values: dict[str, Any]) -> E:
    error = kind.__new__(kind, *args)
    error.__dict__.update(values)
    return error


class ConfigError(VideoclrError):
    """A setting has a bad value, or names something unknown. The message starts with its path: `$.restore.steps: ...`."""


class MediaError(VideoclrError):
    """A file, pipe or stream cannot be read or written as asked.

    Attributes:
        path: the file as the user wrote it (`-` for a pipe).
    """

    def __init__(self, path: object, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = str(path)


class EmptyPartError(MediaError):
    """The part of the file that was asked for holds no picture."""


class BusyError(MediaError):
    """Another run is writing the file."""


class DecodeError(MediaError):
    """Decoding failed at `time` (seconds, exact; None where it is unknown)."""

    def __init__(self, path: object, message: str, time: Fraction | None = None) -> None:
        super().__init__(path, message if time is None else f"at {float(time):.3f} s: {message}")
        self.time = time


class EncodeError(MediaError):
    """Encoding failed at `time` (seconds, exact; None where it is unknown)."""

    def __init__(self, path: object, message: str, time: Fraction | None = None) -> None:
        super().__init__(path, message if time is None else f"at {float(time):.3f} s: {message}")
        self.time = time


class WeightsError(VideoclrError):
    """A weights file is missing, damaged, of another network, or refused for its format."""

    def __init__(self, path: object, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = str(path)


class RestorationError(VideoclrError):
    """A part failed. `frame` is the frame's index, `track` the face's track (None where not known, or where it is about none)."""

    def __init__(self, frame: int, track: int | None, message: str) -> None:
        where = f"frame {frame}" if track is None else f"frame {frame}, track {track}"
        super().__init__(f"{where}: {message}")
        self.frame = frame
        self.track = track


class NotFiniteError(RestorationError):
    """NaN or infinite values came out for a face."""


class DeviceError(VideoclrError):
    """The device has too little memory for a single item, or failed."""


class DeviceLostError(DeviceError):
    """The device failed and is lost to this process: whatever it does there next fails as well."""


class ResumeError(VideoclrError):
    """A ledger belongs to another source or to other settings."""

    def __init__(self, path: object, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = str(path)


class ClusterError(VideoclrError):
    """A cluster cannot be reached, a machine of it cannot be used, or the worker that did a task was lost."""

"""The shape of pixels in y4m: its header has a place for it, which FFmpeg's muxer fills with what PyAV cannot tell it."""

from __future__ import annotations

import os
from fractions import Fraction

from videoclr.media.source import PIPE

_UNSAID = b" A0:0"
_STANDARD_OUTPUT = 1


class Shaped:
    """A y4m file or pipe whose header is told what a pixel's width is over its height.

    Args:
        place: a file's name, or `-`.
        aspect: of a pixel.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, place: str, aspect: Fraction) -> None:
        self._said: bytes | None = f" A{aspect.numerator}:{aspect.denominator}".encode()
        """What the header is still to be told."""
        self._file = open(_STANDARD_OUTPUT if place == PIPE else place, "wb", buffering=0, closefd=place != PIPE)  # noqa: SIM115

    def write(self, data: bytes) -> int:
        """Write all of it; what comes first begins with the header.

        Raises:
            OSError: the disk is full, or the pipe closed.
        """
        out = data
        if self._said is not None:
            head, end, rest = data.partition(b"\n")
            out, self._said = head.replace(_UNSAID, self._said, 1) + end + rest, None
        left = memoryview(out)
        while left:
            left = left[os.write(self._file.fileno(), left) :]
        return len(data)

    def close(self) -> None:
        """Nothing more will come."""
        self._file.close()

"""Frames that a file promises and a decoder does not give: each is shown as the one before, at its own time.

Every packet of the picture says when its frame is due. Frames come out in the order of their times, so a due time that is
passed over belongs to a frame that is lost. Only as many are believed lost as packets failed: codecs with frames that are
never shown (VP8's golden frames, say) pass over times without any harm.
"""

from __future__ import annotations

import heapq
from fractions import Fraction

_NAMED = 10
"""Times that are named one by one in a warning."""


class Gaps:
    """Due times of one decoding, and which of them were missed."""

    def __init__(self) -> None:
        self.filled: list[Fraction] = []
        """The first times of frames that were repeated, seconds; see `count` for how many there were."""
        self.count = 0
        self._due: list[Fraction] = []
        self._failed = 0
        self._damaged = False

    def expect(self, time: Fraction) -> None:
        """A packet for a frame at `time` was read."""
        heapq.heappush(self._due, time)

    def failed(self) -> None:
        """A packet could not be decoded."""
        self._failed, self._damaged = self._failed + 1, True

    def passed(self, time: Fraction | None) -> list[Fraction]:
        """Times of the frames that were lost before the one at `time` came; None: before the end of the file.

        At the end of a damaged file all that is still due counts as lost: a decoder with threads ends at the first failure
        among its last frames, and keeps quiet about the others.
        """
        lost: list[Fraction] = []
        while self._due and (time is None or self._due[0] <= time):
            due = heapq.heappop(self._due)
            if time is None and self._damaged:
                lost.append(due)
            elif time is not None and due < time and self._failed:
                self._failed -= 1
                lost.append(due)
        return lost

    def fill(self, time: Fraction) -> None:
        """Note that a frame was repeated at `time`."""
        self.count += 1
        if len(self.filled) < _NAMED:
            self.filled.append(time)

    def __str__(self) -> str:
        """`2 frames could not be decoded and repeat the one before: at 1.000 s, 1.040 s`."""
        frames = (
            "1 frame could not be decoded and repeats"
            if self.count == 1
            else f"{self.count} frames could not be decoded and repeat"
        )
        times = ", ".join(f"{float(time):.3f} s" for time in self.filled)
        more = f" and {self.count - len(self.filled)} more" if self.count > len(self.filled) else ""
        return f"{frames} the one before: at {times}{more}"

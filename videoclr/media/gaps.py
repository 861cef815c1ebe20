"""Frames that a file promises and a decoder does not give: each is shown as the one before, at its own time.

Every packet of the picture says when its frame is due. Frames come out in the order of their times, so a due time that is
passed over belongs to a frame that is lost, or to none: some packets hold pictures that are never shown (VP8's golden frames),
or the second field of a picture that was due before. Which of the two it is:

* In HEVC, AV1, VP9, VP8 and FFV1 every packet shows a picture, or says in its head that it does not (`shows`). Their decoders
  drop what they cannot decode, often without a word, so every time that is passed over counts as lost.
* H.264 differs in second fields. Where it had none, what its decoder does not give at the end, without a word, is lost.
* Elsewhere as many are believed lost as packets failed; and once something is damaged, all that are a whole frame away from
  their neighbours, if a dozen frames in a row had passed over nothing before.
"""

from __future__ import annotations

import heapq
from fractions import Fraction
from typing import Final

_NAMED = 10
"""Times that are named one by one in a warning."""
_CALM = 12
"""Frames in a row without a time that was passed over, after which such a time means something."""
_APART = Fraction(3, 4)
"""Of the shortest time between two frames: a second field lies at a half."""
CERTAIN: Final = frozenset({"hevc", "av1", "vp9", "vp8", "ffv1"})
"""Codecs whose packets say whether they show a picture."""
_NO_SLICES = range(6, 13)
"""Types of units of H.264 that hold no part of a picture: supplemental information, parameter sets, borders, filling."""
LIKELY: Final = frozenset({"h264"})
"""Codecs whose packets do, or are the second fields of pictures."""


def shows(codec: str, packet: bytes | memoryview, length: int = 0) -> bool:
    """Whether a packet holds a picture that is to be shown; True where nobody can tell.

    Args:
        codec: by FFmpeg's name.
        packet: as it is stored.
        length: of H.264: bytes of the sizes in packets; 0 for start codes.
    """
    if codec == "h264" and length:
        return _h264_shows(packet, length)
    if codec == "vp8":  # RFC 6386, section 9.1
        return not packet or bool(packet[0] & 0x10)
    if codec == "vp9":
        return any(_vp9_shows(frame) for frame in _vp9_frames(packet))
    return True


def _h264_shows(packet: bytes | memoryview, length: int) -> bool:
    """Whether there is more in it than units that go with pictures (ITU-T H.264, table 7-1)."""
    at = 0
    while at + length < len(packet):
        size = int.from_bytes(packet[at : at + length])
        at += length
        if packet[at] & 0x1F not in _NO_SLICES:
            return True
        at += size
    return at != len(packet)


def _vp9_frames(packet: bytes | memoryview) -> list[bytes | memoryview]:
    """The frames of a superframe (VP9 bitstream specification, annex B); of any other packet, the packet."""
    mark = packet[-1] if packet else 0
    count, width = (mark & 7) + 1, (mark >> 3 & 3) + 1
    index = 2 + count * width
    if mark >> 5 != 0b110 or len(packet) < index or packet[-index] != mark:
        return [packet]
    frames: list[bytes | memoryview] = []
    at = 0
    for place in range(len(packet) - index + 1, len(packet) - 1, width):
        size = int.from_bytes(packet[place : place + width], "little")
        frames.append(packet[at : at + size])
        at += size
    return frames


def _vp9_shows(frame: bytes | memoryview) -> bool:
    """`show_existing_frame` or `show_frame` of an uncompressed header (section 6.2)."""
    if not frame or frame[0] >> 6 != 0b10:
        return bool(frame)
    after = 5 if frame[0] >> 4 & 3 == 3 else 4  # a reserved bit behind profile 3
    bits = int.from_bytes(bytes(frame[:2]).ljust(2, b"\0"), "big")
    existing, _, shown = (bits >> 15 - after - place & 1 for place in range(3))
    return bool(existing or shown)


class Gaps:
    """Due times of one decoding, and which of them were missed.

    Args:
        certain: every packet that is expected shows a picture (`CERTAIN`).
        likely: every one does, or is a second field (`LIKELY`).
    """

    def __init__(self, certain: bool = False, likely: bool = False) -> None:
        self.filled: list[Fraction] = []
        """The first times of frames that were repeated, seconds; see `count` for how many there were."""
        self.count = 0
        self.front: list[Fraction] = []
        """Due times that were passed over before the first frame came."""
        self._certain, self._likely = certain, likely
        self._due: list[Fraction] = []
        self._failed = 0
        self._damaged = False
        self._calm = 0
        self._always = True
        """No time was passed over so far."""
        self._last: Fraction | None = None
        self._least: Fraction | None = None

    def expect(self, time: Fraction) -> None:
        """A packet for a frame at `time` was read."""
        heapq.heappush(self._due, time)

    def failed(self) -> None:
        """A packet could not be decoded."""
        self._failed, self._damaged = self._failed + 1, True

    def damaged(self) -> None:
        """A frame came that shows errors."""
        self._damaged = True

    def passed(self, time: Fraction | None) -> list[Fraction]:
        """Times of the frames that were lost before the one at `time` came; None: before the end of the file.

        At the end of a damaged file all that is still due counts as lost: a decoder with threads ends at the first failure
        among its last frames, and keeps quiet about the others.
        """
        due: list[Fraction] = []
        while self._due and (time is None or self._due[0] <= time):
            due.append(heapq.heappop(self._due))
        if time is None:
            return due if self._certain or self._damaged or self._is_steady() else []
        missed = [one for one in due if one < time]
        if self._last is None:
            self.front = missed
        lost = [one for one in missed if self._is_lost(one, time)]
        self._came(time, calm=not missed)
        return lost

    def _is_steady(self) -> bool:
        """Whether all that was due came, at least lately: then so should what is due at the end."""
        return self._likely and (self._always or self._calm >= _CALM)

    def _is_lost(self, due: Fraction, now: Fraction) -> bool:
        if self._certain:
            return True
        if self._failed:
            self._failed -= 1
            return True
        if not self._damaged or self._calm < _CALM or self._last is None or self._least is None:
            return False
        return min(due - self._last, now - due) >= _APART * self._least

    def _came(self, time: Fraction, calm: bool) -> None:
        """A frame at `time`."""
        self._always &= calm
        if self._calm < _CALM:
            self._calm = self._calm + 1 if calm else 0
        if self._last is not None and time > self._last:
            step = time - self._last
            self._least = step if self._least is None else min(self._least, step)
        self._last = time

    def fill(self, time: Fraction) -> None:
        """Note that a frame was repeated at `time`."""
        self.count += 1
        if len(self.filled) < _NAMED:
            self.filled.append(time)

    def missing(self, since: Fraction | None, codec: str) -> list[Fraction]:
        """Times of frames that were lost before the first one came: nothing can be shown in their place.

        Where nothing is damaged, a film that begins within a group of pictures begins with what its decoders leave out.

        Args:
            since: where the part begins that is wanted; None for all.
            codec: FFmpeg's name.
        """
        if not self._damaged and (not self._certain or codec == "hevc"):
            return []
        return [one for one in self.front if since is None or one >= since]

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

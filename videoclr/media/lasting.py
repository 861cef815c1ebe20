"""Bitmap subtitles that last until the next one: what of them is on the screen where a part begins.

PGS (Blu-ray) and DVB say with one packet that a picture appears, and with a later one that it goes; neither has a length. Where
a part begins between the two, the first one is due at its beginning. A set of PGS may come as several packets of one time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from av.packet import Packet

LASTING = frozenset({"hdmv_pgs_subtitle", "dvb_subtitle"})
"""FFmpeg's names of the codecs."""
_LATE = 1
"""Seconds by which packets of other streams may lie before these in a file."""
_PGS_SEGMENT, _PGS_SHOWN, _PGS_OBJECTS = 3, 0x16, 10
"""Bytes before a segment's content; the kind that says what is shown; where in it the number of objects stands."""
_DVB_SEGMENT, _DVB_SYNC, _DVB_PAGE, _DVB_EMPTY = 6, 0x0F, 0x10, 2
"""Bytes before a segment's content, the first of them; the kind that lists regions; its length without any (EN 300 743, 7.2)."""


class Lasting:
    """One stream, up to the beginning of the part.

    Args:
        codec: one of `LASTING`.
        start: of the part, seconds.
    """

    def __init__(self, codec: str, start: Fraction) -> None:
        self._codec, self._start = codec, start
        self._held: list[Packet[Any]] = []

    def before(self, packet: Packet[Any], own: bool) -> list[Packet[Any]] | None:
        """What is due before `packet`, at the beginning of the part; None while that is not known yet.

        `own` says that the packet is of this stream.
        """
        assert packet.pts is not None
        base = Fraction(packet.time_base)
        if not own:
            return self.rest() if packet.pts * base >= self._start + _LATE else None
        if packet.pts * base >= self._start:
            return [] if packet.pts <= math.ceil(self._start / base) else self.rest()
        if self._held and self._held[-1].pts != packet.pts:
            self._held = []
        if not packet.duration:
            self._held.append(packet)
        return None

    def rest(self) -> list[Packet[Any]]:
        """What is on the screen at the beginning, with its time; nothing where that was cleared before."""
        if is_clear(self._codec, [bytes(one) for one in self._held]):
            return []
        for one in self._held:
            one.pts = one.dts = math.ceil(self._start / Fraction(one.time_base))
        return self._held


def is_clear(codec: str, packets: Sequence[bytes]) -> bool:
    """Whether these packets of one time show nothing."""
    data = b"".join(packets)
    if codec == "dvb_subtitle":
        return _regions(data) == 0
    place = 0
    while place + _PGS_SEGMENT <= len(data):
        content = place + _PGS_SEGMENT
        if data[place] == _PGS_SHOWN:
            return data[content + _PGS_OBJECTS : content + _PGS_OBJECTS + 1] == b"\0"
        place = content + int.from_bytes(data[place + 1 : content])
    return not data


def _regions(data: bytes) -> int | None:
    """How much a DVB page shows; None where nothing is said of the page."""
    place = max(data.find(_DVB_SYNC, 0, 3), 0)  # behind what a transport stream puts first
    while place + _DVB_SEGMENT <= len(data) and data[place] == _DVB_SYNC:
        length = int.from_bytes(data[place + 4 : place + 6])
        if data[place + 1] == _DVB_PAGE:
            return length - _DVB_EMPTY
        place += _DVB_SEGMENT + length
    return None if data else 0

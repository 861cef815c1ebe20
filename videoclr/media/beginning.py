"""Where sound begins: an edit list (MP4, QuickTime) may hide more of it than an encoder's delay, and few other containers can.

A trimmed recording keeps what was cut off its beginning, and says that playing begins behind it. In a container without edit lists
it would be heard, and all else would move for its sake; so what is hidden is left out there: uncompressed sound to the sample,
other sound by whole packets, of which a lossy decoder needs one more to begin with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from av.packet import Packet

_DELAY = 3
"""Whole packets that no encoder's delay is as long as; AAC has two and a little."""
_LEAD = 1
"""Packets from which a lossy decoder finds its way in."""
_SKIPPED = "skip_samples"
"""Side data: samples to leave out at the beginning (32 bits), and more."""


def skipped_in(packet: Packet[Any]) -> int:
    """Samples at the beginning of a packet that are not to be heard."""
    found = (bytes(one)[:4] for one in packet.iter_sidedata() if one.data_type == _SKIPPED)
    return int.from_bytes(next(found, b""), "little")


@dataclass(frozen=True, slots=True)
class Beginning:
    """Of one stream, seconds on the source's clock."""

    first: Fraction
    """When its first packet is due, whether or not it is hidden."""
    heard: Fraction
    """When it is heard first."""
    length: Fraction
    """Of a packet; 0 where nothing says it."""

    @classmethod
    def of(cls, packet: Packet[Any]) -> Self:
        """That of the stream whose first packet this is; it has a time."""
        base = Fraction(packet.time_base)
        assert packet.pts is not None
        first, length = packet.pts * base, (packet.duration or 0) * base
        rate = getattr(packet.stream, "sample_rate", None)
        return cls(first, first + (Fraction(skipped_in(packet), rate) if rate else 0), length)

    def kept(self, *, samples: bool, lossless: bool) -> Fraction:
        """From when on it is copied where nothing can be hidden; `first` where no edit list hides it.

        Args:
            samples: it is uncompressed, and can be cut at every sample.
            lossless: each packet can be decoded without the one before.
        """
        if samples:
            return self.heard
        hidden = math.floor((self.heard - self.first) / self.length) if self.length else 0
        lead = 0 if lossless else _LEAD if hidden >= _DELAY else hidden
        return self.first + (hidden - lead) * self.length

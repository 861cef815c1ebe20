"""What the headers of DPX and EXR pictures say of time: how many a second, and the timecode."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from videoclr.media import dpx, exr
from videoclr.media.timecode import Timecode

_BYTES = 1 << 20
"""In which a header lies."""
_NEAR = 0.006
"""How far from the rate that is meant what a header says may be: some say 23.98."""
_NTSC = Fraction(1000, 1001)
_SLOWEST, _FASTEST = 1, 1000
"""Pictures a second that a header is believed."""


def clock_in(path: Path) -> tuple[Fraction | None, int]:
    """Pictures a second, and the word of the timecode (see `Timecode.of_word`), that a picture says; None and 0 where it does not.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_BYTES)
    if head := dpx.head_of(data):
        rate, word = dpx.clock_of(head)
    elif head := exr.head_of(data):
        rate, word = exr.clock_of(head)
    else:
        return None, 0
    return _meant(rate) if _SLOWEST <= rate <= _FASTEST else None, word


def with_clock(data: bytes, rate: Fraction, label: Timecode | None) -> bytes:
    """A DPX or EXR picture as FFmpeg made it, saying how many of them a second there are, and its timecode where there is one.

    FFmpeg writes the rate of an EXR picture itself.
    """
    word = None if label is None else label.word(rate)
    if dpx.is_dpx(data):
        return dpx.with_clock(data, rate, word)
    return data if word is None else exr.with_timecode(data, word)


def _meant(rate: float) -> Fraction:
    whole = Fraction(round(rate))
    nearest = min(whole, whole * _NTSC, key=lambda one: abs(rate - one))
    return nearest if abs(rate - nearest) < _NEAR else Fraction(rate).limit_denominator(1001)

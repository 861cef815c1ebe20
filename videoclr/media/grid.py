"""Even rates: that of containers which store one picture a tick (AVI, MXF), and that of times which a container rounded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise

from videoclr.errors import EncodeError, MediaError
from videoclr.media.encoders import usable_rate
from videoclr.media.faults import AV_ERRORS
from videoclr.media.gaps import shows
from videoclr.media.reader import Reader
from videoclr.media.source import clock_may_jump, demuxed, open_input, video_of

_NTSC = (24000, 30000, 48000, 60000, 120000)
MXF_RATES = tuple(sorted([*(Fraction(rate, 1001) for rate in _NTSC), *map(Fraction, (24, 25, 30, 48, 50, 60, 100, 120))]))
"""Frames a second that MXF has edit units for."""
_NEAR = Fraction(1, 50)
"""How far (relatively) a mean may lie from the rate that is meant: the last picture may last longer or shorter."""
_CLOSE = Fraction(11, 10)
"""Of a frame: pictures that follow one another as closely are of its rate."""
_LOOKED_AT = 300
"""Pictures in which a rate shows itself."""
_ROUNDED = ("matroska", "flv")
"""Containers that round times, to milliseconds as a rule."""
_USUAL = Fraction(1, 2000)
"""How far (relatively) a mean of rounded times may lie from the rate that is meant; 23.976 and 24 are twice as far apart."""
_HALF = Fraction(9, 16)
"""Of a frame, with what the source's container may have rounded: two times of Matroska are a millisecond off together."""
_TICKS = 4
"""Ticks that a frame lasts at least, where its time is told from rounded ones."""
_FINEST = 1_000_000
"""Ticks a second, at most, where times are put back onto their grid."""


def grid_rate(like: Reader | None, rate: Fraction | None, muxer: str, path: str, leaning: str = "") -> Fraction:
    """Ticks a second for a container of one picture a tick.

    Args:
        like: the reader of the source, or None.
        rate: frames a second on average; None where nothing tells.
        muxer: FFmpeg's name of the container.
        path: the target as the user wrote it, for messages.
        leaning: a codec whose pictures depend on each other, where all ticks need one and none can be repeated; empty otherwise.

    Raises:
        MediaError: the container has no such rate.
        EncodeError: the first pictures are not as far apart, or ticks have none that need one; all of the file is looked through.
    """
    found, times = usable_rate(rate), []
    if like is not None and not clock_may_jump(like.container):  # where it may, fields may be packets
        times = [one for one in _times(like, None if leaning else _LOOKED_AT) if one >= like.first_time]
    step = min((after - before for before, after in pairwise(times)), default=None)
    if like is not None and step is not None:
        guessed = like.container.streams.video[_place(like)].guessed_rate or found
        # A film with pauses: its mean is no rate at which any of its pictures follow one another.
        if (guessed * step == 1 and found < guessed) or (guessed * step < _CLOSE and found * step < 1 - _NEAR):
            found = usable_rate(Fraction(guessed))
    if muxer == "mxf":
        nearest = min(MXF_RATES, key=lambda one: abs(one - found))
        if abs(nearest - found) > _NEAR * nearest:
            known = ", ".join(f"{float(one):.5g}" for one in MXF_RATES)
            raise MediaError(path, f"mxf takes {known} frames a second, and this film has {float(found):.5g}; use .mov")
        found = nearest
    places = [nearest_place((time - times[0]) * found) for time in times]
    for time, (one, other) in zip(times[1:], pairwise(places), strict=False):
        if like is not None and like.end is not None and time >= like.end:
            break
        if one == other:
            raise too_close(path, muxer, found, time)
        if leaning and other > one + 1:
            raise pauses(path, muxer, leaning, (one + 1) / found + times[0])
    return found


def nearest_place(number: Fraction) -> int:
    """The nearest whole number; of two, the higher one, so that steps of one stay steps of one.

    That is also so where the half was rounded: every second picture of soft telecine lies between two frames.
    """
    return math.floor(number + _HALF)


def too_close(path: str, muxer: str, rate: Fraction, time: Fraction) -> EncodeError:
    """What to say where two pictures, the second at `time` (seconds), fall into one place of a container of `rate`."""
    text = f"its time is too near to the frame before: {muxer} holds {float(rate):.5g} pictures a second, evenly"
    return EncodeError(path, f"{text}; use .mov or .mkv", time)


def pauses(path: str, muxer: str, codec: str, time: Fraction) -> EncodeError:
    """What to say where no picture comes at `time` (seconds), and the one before cannot be repeated."""
    text = f"the picture pauses, for which {muxer} has no room with {codec}"
    return EncodeError(path, f"{text}; choose a codec of whole pictures (prores, dnxhr), or write to .mov", time)


@dataclass(frozen=True, slots=True)
class Even:
    """An even rate whose times a container rounded."""

    rate: Fraction
    """Frames a second."""
    tick: Fraction
    """What they were rounded to, seconds."""
    begin: Fraction
    """A time on the grid, seconds."""

    @property
    def base(self) -> Fraction:
        """The longest tick (seconds) in which both the grid's times and the rounded ones are whole."""
        return _divisor(1 / self.rate, self.tick)

    def exact(self, time: Fraction) -> Fraction:
        """The time (seconds) that was rounded to `time`; what lies a tick or more beside the grid stays as it is."""
        meant = self.begin + round((time - self.begin) * self.rate) / self.rate
        return meant if abs(meant - time) < self.tick else time

    def lasts(self, length: Fraction) -> Fraction:
        """How long (seconds) a picture lasts for which `length` was written down."""
        return 1 / self.rate if abs(length - 1 / self.rate) <= self.tick else length


def rounded_rate(like: Reader | None) -> Even | None:
    """The even rate of a source whose container rounds times; None where it has none, or its times are exact.

    The first pictures tell: all of them lie within a tick of the grid, or the film is of a variable rate. Of a pipe it must be
    believed.
    """
    if like is None or not like.container.format.name.startswith(_ROUNDED):
        return None
    stream = like.container.streams.video[_place(like)]
    if like.is_pipe and stream.guessed_rate != stream.average_rate:
        return None
    average, tick = usable_rate(like.info.frame_rate), like.info.time_base
    # A mean of rounded times is itself a little off: the rates that films have come first.
    usual = [rate for rate in MXF_RATES if abs(rate - average) <= _USUAL * rate]
    if any((1 / rate) % tick == 0 for rate in (*usual, average)) or 1 / average < _TICKS * tick:
        return None
    times = _times(like) or [like.first_time]
    found = (_fitting(rate, tick, times) for rate in (*sorted(usual, key=lambda rate: abs(rate - average)), average))
    return next((even for even in found if even is not None), None)


def _fitting(rate: Fraction, tick: Fraction, times: list[Fraction]) -> Even | None:
    """The grid of that rate on which all of `times` lie; None where they do not."""
    base = _divisor(1 / rate, tick)
    beside = [time - round(time * rate) / rate for time in times]
    if base.denominator > _FINEST:
        return None
    if max(map(abs, beside)) < tick:
        return Even(rate, tick, Fraction(0))
    if max(beside) - min(beside) > tick:
        return None
    return Even(rate, tick, round((max(beside) + min(beside)) / 2 / base) * base)


def _times(like: Reader, count: int | None = _LOOKED_AT) -> list[Fraction]:
    """When the first `count` pictures, or all, are due, in order, seconds; empty of a file that cannot be read a second time."""
    if like.is_pipe or like.is_still or like.sequence:
        return []
    try:
        with open_input(like.path, like.rate, like.opening) as container:
            pictures = video_of(like.path, container, like.video)
            packets = islice(demuxed(container, [pictures], lambda error: None), count)
            codec = pictures.codec_context.codec.canonical_name
            seen = (one for one in packets if one.pts is not None and not one.is_discard and shows(codec, memoryview(one)))
            return sorted({one.pts * Fraction(one.time_base) for one in seen if one.pts is not None})
    except (MediaError, *AV_ERRORS):
        return []


def _place(like: Reader) -> int:
    """Which of the container's video streams is decoded."""
    return [one.index for one in like.container.streams.video].index(like.stream_index)


def _divisor(one: Fraction, other: Fraction) -> Fraction:
    """The longest time of which both are multiples."""
    whole = math.gcd(one.numerator * other.denominator, other.numerator * one.denominator)
    return Fraction(whole, one.denominator * other.denominator)

"""SMPTE timecode (ST 12-1): a label for every frame, which counts frames and not time.

`hh:mm:ss:ff` counts every frame. Drop frame, `hh:mm:ss;ff`, at 29.97 and 59.94 frames a second leaves out the first two (or four)
labels of every minute but each tenth, so that the label stays near the clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from videoclr.errors import ConfigError

_LABEL = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([:;])(\d{2,3})")
_DROPPING = {Fraction(30000, 1001): 2, Fraction(60000, 1001): 4}
"""Rate -> labels left out at the start of a minute."""
_NEAR = Fraction(1, 1000)
"""How far (relatively) a container's rounded rate may lie from the exact one."""
_MINUTES = 60
_TENTH = 10
_DIGITS = ((24, 3), (16, 7), (8, 7), (0, 3))
"""Hours, minutes, seconds and frames in 32 bits: where their last digit begins, and the mask of the one before."""
_DROP = 0x40
_MOST = 30
"""Labels a second; of more pictures, two share one."""


@dataclass(frozen=True, slots=True)
class Timecode:
    """A label as it was written."""

    hours: int
    minutes: int
    seconds: int
    frames: int
    drop: bool

    @classmethod
    def parse(cls, text: str) -> Timecode | None:
        """The label that `text` is; None where it is none."""
        found = _LABEL.fullmatch(text.strip())
        if found is None:
            return None
        hours, minutes, seconds, mark, frames = found.groups()
        return cls(int(hours), int(minutes), int(seconds), int(frames), mark == ";")

    @classmethod
    def of_word(cls, word: int, rate: Fraction) -> Timecode | None:
        """The label in 32 bits of a DPX or EXR header (ST 12-1, digits of four bits each), of pictures at `rate`; None where it is
        none, and where more than 30 pictures a second have to share labels, for which programs have ways of their own."""
        numbers = [(word >> place & 15, word >> place + 4 & mask) for place, mask in _DIGITS]
        if any(ones > 9 for ones, _ in numbers) or round(rate) > _MOST:
            return None
        hours, minutes, seconds, frames = (10 * tens + ones for ones, tens in numbers)
        label = cls(hours, minutes, seconds, frames, bool(word & _DROP) and bool(dropping(rate)))
        try:
            label.count(rate, "start")
        except ConfigError:
            return None
        return label

    def word(self, rate: Fraction) -> int | None:
        """The label as `of_word` reads it; None where it would not read it again."""
        parts = (self.hours, self.minutes, self.seconds, self.frames)
        word = sum((part // 10 << 4 | part % 10) << place for part, (place, _) in zip(parts, _DIGITS, strict=True))
        word |= _DROP if self.drop else 0
        return word if Timecode.of_word(word, rate) == self else None

    def __str__(self) -> str:
        return f"{self.hours:02d}:{self.minutes:02d}:{self.seconds:02d}{';' if self.drop else ':'}{self.frames:02d}"

    def count(self, rate: Fraction, setting: str) -> int:
        """Frames from `00:00:00:00` to this label at `rate` frames a second.

        Raises:
            ConfigError: there is no such label at this rate; `setting` goes into the path.
        """
        where = f"$.media.{setting}: {self}"
        fps = round(rate)
        if self.hours >= 24 or self.minutes >= _MINUTES or self.seconds >= _MINUTES or self.frames >= fps:
            raise ConfigError(f"{where} is no timecode at {float(rate):.6g} frames a second: hours go to 23, frames to {fps - 1}")
        minutes = self.hours * _MINUTES + self.minutes
        count = (minutes * _MINUTES + self.seconds) * fps + self.frames
        if not self.drop:
            return count
        left_out = dropping(rate)
        if not left_out:
            raise ConfigError(
                f"{where}: drop frame (;) is for 29.97 and 59.94, not {float(rate):.6g} frames a second; write it with :"
            )
        if self.seconds == 0 and self.frames < left_out and self.minutes % _TENTH:
            raise ConfigError(f"{where} does not exist: drop frame leaves the first {left_out} labels of this minute out")
        return count - left_out * (minutes - minutes // _TENTH)

    def after(self, frames: int, rate: Fraction) -> Timecode:
        """The label so many frames later; past midnight it begins again.

        Raises:
            ConfigError: this label does not exist at `rate`.
        """
        fps, left_out = round(rate), dropping(rate) if self.drop else 0
        minute, tenth = _MINUTES * fps - left_out, _TENTH * (_MINUTES * fps - left_out) + left_out
        count = (self.count(rate, "start") + frames) % (24 * _MINUTES // _TENTH * tenth)
        tens, rest = divmod(count, tenth)
        # The first minute of ten has all its labels; each after it is shorter, and begins later by what it leaves out.
        minutes = 0 if rest < minute + left_out else 1 + (rest - minute - left_out) // minute
        inside = rest if not minutes else (rest - minute - left_out) % minute + left_out
        hours, of_hour = divmod(tens * _TENTH + minutes, _MINUTES)
        return Timecode(hours, of_hour, inside // fps, inside % fps, self.drop)


def dropping(rate: Fraction) -> int:
    """Labels that drop frame leaves out in a minute at `rate`; 0 where there is no drop frame."""
    return next((labels for exact, labels in _DROPPING.items() if abs(rate - exact) < exact * _NEAR / 2), 0)


def frames_between(first: Timecode | None, wanted: Timecode, rate: Fraction, setting: str) -> int:
    """Frames from the label `first` (of a file's first picture; None where it has none) to `wanted`.

    Raises:
        ConfigError: no such label, drop frame where the file counts every frame or the other way round, or before `first`.
    """
    if first is None:
        return wanted.count(rate, setting)
    if first.drop != wanted.drop:
        how = "drop frame: write ; before the frames" if first.drop else "every frame: write : before the frames"
        raise ConfigError(f"$.media.{setting}: the file counts {how} (it begins at {first}), got {wanted}")
    day = Timecode(23, 59, 59, round(rate) - 1, first.drop).count(rate, setting) + 1
    frames = (wanted.count(rate, setting) - first.count(rate, setting)) % day  # a recording may go past midnight
    if frames > day // 2:
        raise ConfigError(f"$.media.{setting}: {wanted} lies before the file's first picture, {first}")
    return frames

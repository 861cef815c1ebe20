"""A face before and after, cut out of the input and of the finished file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr.config import Config
from videoclr.errors import MediaError
from videoclr.jobs import open_reader
from videoclr.media.reader import Reader
from videoclr.media.source import is_pattern, numbered
from videoclr.media.timecode import Timecode
from videoclr.media.writer import first_number
from videoclr.review.moments import Moment
from videoclr.types import Frame

SIDE = 224
"""Pixels of a picture."""
_AROUND = 1.5
"""Side of what is shown, in sides of the face's box."""
_OFF = Fraction(1, 100)
"""Seconds by which frames may lie otherwise than told: other containers round."""
_COARSE = 32
"""Pixels of a side at which two pictures are compared as wholes: restored faces change little there, and noise nothing."""
_ALIKE = 0.9
"""Correlation of before and after, at least, of half of the moments."""
_CONTRAST = 8.0
"""Standard deviation of grey from which pictures are compared."""
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 88]

Pair = tuple[bytes, bytes]
"""JPEG files: before, after."""


def pairs(
    source: str,
    target: str,
    config: Config,
    moments: Iterable[Moment],
    counts: tuple[int | None, int | None] = (None, None),
    progress: Callable[[int, int], None] | None = None,
) -> dict[Moment, Pair]:
    """The pictures of `moments`. Both films are read from the front up to the last of them.

    Args:
        source: the input.
        target: what was made of it: as many frames, of the same size.
        config: with which the input was read.
        moments: any number, in any order.
        counts: frames of the input and of what was made of it, about, where that is known.
        progress: told how many frames are done, and of how many.

    Raises:
        MediaError: a film cannot be read, is not of as many frames or has them at other times, or the two are not of one film.
    """
    wanted: dict[int, list[Moment]] = {}
    for moment in moments:
        wanted.setdefault(moment.frame, []).append(moment)
    found: dict[Moment, Pair] = {}
    alike: list[float] = []
    last = max(wanted, default=-1)
    later: Fraction | None = None  # than in the report: another container, or a pipe, may begin elsewhere
    for number, (before, after) in enumerate(_together(source, target, config, counts)):
        if number in wanted:
            alike += _alike(before, after)
        for moment in wanted.get(number, ()):
            later = before.time - moment.time if later is None else later
            if abs(before.time - moment.time - later) > _OFF:
                raise MediaError(source, f"shows frame {number} at another time than the report tells; is it the input of it?")
            found[moment] = _picture(before, moment), _picture(after, moment)
        if progress is not None:
            progress(number + 1, last + 1)
        if number >= last:
            break
    else:
        if wanted:
            raise MediaError(target, f"ends before frame {last}, which the report tells of; is it the file of this report?")
    if alike and median(alike) < _ALIKE:
        raise MediaError(target, f"shows other pictures than {source}; are they the films of this report?")
    return found


def _alike(before: Frame, after: Frame) -> list[float]:
    """The correlation of two pictures as wholes; none where there is little to see."""
    width, height = before.size
    one, other = (
        cv2.resize(
            cv2.cvtColor(_eight_bits(frame.source_window((0, 0, width, height))), cv2.COLOR_RGB2GRAY),
            (_COARSE, _COARSE),
            interpolation=cv2.INTER_AREA,
        )
        for frame in (before, after)
    )
    if min(one.std(), other.std()) < _CONTRAST:
        return []
    return [float(np.corrcoef(one.ravel(), other.ravel())[0, 1])]


def _together(source: str, target: str, config: Config, counts: tuple[int | None, int | None]) -> Iterator[tuple[Frame, Frame]]:
    with open_reader(source, config) as reader, open_reader(target, _as_written(config, target, reader)) as other:
        _check_count(reader, counts[0], "input")
        _check_count(other, counts[1], "file")
        size, got = ((one.info.width, one.info.height) for one in (reader, other))
        if size != got:
            raise MediaError(target, f"is {got[0]}x{got[1]} and the input {size[0]}x{size[1]}; is it the file of this report?")
        with closing(reader.frames()) as before, closing(other.frames()) as after:  # type: ignore[type-var]
            yield from zip(before, after, strict=False)


def _check_count(reader: Reader, expected: int | None, what: str) -> None:
    """Refuse a film of clearly more or fewer frames, where its container counts them: what others claim is a guess."""
    count = reader.info.frame_count
    counted = reader.container.format.name.startswith("mov") and reader.container.streams[reader.stream_index].frames
    if counted and count and expected and abs(count - expected) > max(2, expected // 50):
        raise MediaError(reader.path, f"has {count} frames and the report tells of {expected}; is it the {what} of this report?")


def _as_written(config: Config, target: str, source: Reader) -> Config:
    """For the finished file: all of it, as it describes itself. Numbered pictures begin where those of `source` made them begin:
    others may be there besides, of an earlier run."""
    told = config.media.start_number
    first = (first_number(source) if told is None else told) if is_pattern(target) else None
    begins = first is not None and Path(numbered(target, first)).is_file()
    given = Config().media.input.model_copy(update={"start_number": first if begins else None})
    whole = {"start": None, "end": None, "frames": None, "video_stream": 0, "input": given}
    return config.model_copy(update={"media": config.media.model_copy(update=whole)})


def _picture(frame: Frame, moment: Moment) -> bytes:
    """`SIDE` pixels square, around the middle of the box; what lies beyond the picture is black."""
    left, top, right, bottom = moment.box
    side = max(2, math.ceil(_AROUND * max(right - left, bottom - top)))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    width, height = frame.size
    x0, y0, x1, y1 = max(0, x), max(0, y), min(width, x + side), min(height, y + side)
    shown = np.zeros((SIDE, SIDE, 3), np.uint8)
    if x0 < x1 and y0 < y1:
        # What is visible alone is scaled: of a box that a person drew, most may lie beyond the picture.
        (left, right), (top, bottom) = _scaled(x0 - x, x1 - x, side), _scaled(y0 - y, y1 - y, side)
        visible = _eight_bits(frame.source_window((x0, y0, x1, y1)))
        way = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
        shown[top:bottom, left:right] = cv2.resize(visible, (right - left, bottom - top), interpolation=way)
    done, data = cv2.imencode(".jpg", shown[..., ::-1], _JPEG)
    assert done
    return data.tobytes()


def _scaled(begin: int, end: int, side: int) -> tuple[int, int]:
    """A stretch of `side` pixels as one of `SIDE`, of one at least."""
    first = min(SIDE - 1, begin * SIDE // side)
    return first, max(first + 1, round(end * SIDE / side))


def _eight_bits(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)  # type: ignore[operator,return-value]


def places(source: str, config: Config, moments: Iterable[Moment]) -> dict[Moment, str]:
    """What an editor calls the time of each of `moments`: timecode where the input has one, else hours, minutes and seconds."""
    with open_reader(source, config) as reader:
        label, rate, begin = reader.timecode, reader.info.frame_rate, reader.begin
        return {moment: place(moment.time - begin, label, rate) for moment in moments}


def place(time: Fraction, label: Timecode | None, rate: Fraction | None) -> str:
    """A time since the film's beginning as timecode from `label` on, or as a clock tells it."""
    if label is not None and rate:
        return str(label.after(round(time * rate), rate))
    thousandths = round(time * 1000)
    return f"{thousandths // 3_600_000}:{thousandths // 60_000 % 60:02d}:{thousandths // 1000 % 60:02d}.{thousandths % 1000:03d}"

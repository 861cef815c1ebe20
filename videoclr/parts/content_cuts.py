"""Content cuts: a picture differs from the one before far more than pictures do hereabouts.

The measure and the comparison with the neighbourhood follow PySceneDetect's content and adaptive detectors (their
documentation, scenedetect.com); this is an own implementation, because six things differ:

* The difference is taken in luma and chroma, not in hue, saturation and value: hue is noise in dark and in
  black-and-white film, and two thirds of PySceneDetect's score are then missing.
* It is measured in units of the pictures' own contrast. Over 35 clips of faces, jumps inside a shot (dropped frames,
  re-encoded crops that stutter) reached 0.32, and 95 of 100 pairs of unrelated pictures differed by 0.96 or more, by
  0.55 when both were darkened to 15 % and grey. In plain steps of 255 the two overlap: 20 against 8.
* Two limits: a jump far above what is usual hereabouts counts from 0.32 on. Somebody else in the same place, on the same set
  before the same camera, differs by 0.34 to 0.48 (six clips behind each other), at ten times the usual and more; jumps inside a
  shot that reach six times the usual stay below 0.30.
* A flash is looked through: when the picture before comes back within `delay` frames, there was no cut.
* A dissolve ends in a cut: its differences are middling and many in a row, but the pictures between are mixtures of the first and
  the last one (`_Mixture`). Where a face lies in the place of the one that it dissolves out of, the two would else be one track,
  and who comes second would be trusted as little as somebody else's face is, for all of the shot. Of 33 pairs of clips of faces,
  dissolved into one another over 6, 12 and 24 frames, 30, 29 and 30 are found, and none within 37 clips. Where much moves
  meanwhile, none is found. Fades stay within their shot.
* The history dies at a cut, so that the cuts of a shot do not depend on what came before it, and a run that goes on at
  a shot's first frame finds the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr.types import Frame

_BLACK = 6.0  # added to the contrast, in steps of 255: the noise of a black picture is no content
_STILL = 0.02  # least difference that counts as usual: after a frozen picture everything is far more than usual
_SIZE = (64, 36)  # pixels of the thumbnail: small enough that grain and small motion average out
_PIXELS = _SIZE[0] * _SIZE[1]
_DISSOLVES = (4, 6, 8, 12, 16, 24, 32, 48)  # frames between two pictures that one may have dissolved into the other
_UNRELATED = 0.6  # least difference of those two
_RELATED = 0.5  # correlation above which they show the same in another light, or focus
_MIXED = 0.2  # of their difference, what a picture between may differ from the mixture of both that is nearest to it
_FULL = 1.05  # contrast of one of these beside that of its mixture: else something moved
_STEP = 0.1  # by how much the share of the first sinks from quarter to quarter, at least
_FADED = 0.3  # contrast beside that of the other one of the two, below which a picture is faded
_OVER = 0.05  # by how much it may go on sinking in the three pictures after
_CALM = 0.25  # of the difference of the two, what one of these may differ from the last: else it is a pan, or a cut follows


class ContentCuts:
    """A `CutDetector` with a delay of three frames."""

    delay = 3
    forgets = True

    def __init__(
        self, threshold: float = 0.45, ratio: float = 3.0, sudden_threshold: float = 0.32, sudden_ratio: float = 6.0
    ) -> None:
        """`threshold` and `ratio` must both be reached, or `sudden_threshold` and `sudden_ratio`.

        Args:
            threshold: smallest difference of a cut: mean absolute difference of luma plus those of both chromas on a
                thumbnail, divided by the mean absolute deviation of these pictures from their own means. Unrelated
                pictures differ by about 1.
            ratio: how many times larger the difference must be than the median of those next to it.
            sudden_threshold: as `threshold`, for a cut in an otherwise calm place.
            sudden_ratio: as `ratio`, for these.

        Raises:
            ValueError: a value that is not positive.
        """
        if not all(value > 0 for value in (threshold, ratio, sudden_threshold, sudden_ratio)):
            given = f"{threshold}, {ratio}, {sudden_threshold} and {sudden_ratio}"
            raise ValueError(f"thresholds and ratios must be positive, got {given}")
        self.limits = ((threshold, ratio), (sudden_threshold, sudden_ratio))
        self._ahead: deque[_Small] = deque()
        self._before: _Small | None = None
        self._history: deque[float] = deque(maxlen=self.delay)
        self._shown: deque[_Small] = deque(maxlen=max(_DISSOLVES))
        """The pictures of the shot so far, the newest ones."""
        self._newest = -1
        self._repeats = 0
        """How often the last picture was shown again: a film that ends has not come to a standstill."""

    def is_cut(self, frame: Frame) -> bool:
        """Whether a shot begins three frames before `frame`."""
        self._ahead.append(_thumbnail(frame))
        self._repeats += frame.index == self._newest
        self._newest = frame.index
        if len(self._ahead) <= self.delay:
            return False
        return self._decide(self._ahead.popleft())

    def _decide(self, picture: _Small) -> bool:
        if self._before is None:
            self._before = picture
            self._shown.append(picture)
            return False
        jump = _difference(self._before, picture)
        coming = [picture, *self._ahead]
        after = [_difference(one, other) for one, other in pairwise(coming[: len(coming) - self._repeats])]
        around = [*self._history, *after]
        usual = max(_STILL, float(np.median(around))) if around else _STILL
        limits = self.limits if around else self.limits[:1]  # nobody can tell whether the place is calm
        reached = [threshold for threshold, ratio in limits if jump >= max(threshold, ratio * usual)]
        if not reached:
            if self._dissolved(picture):
                self._begin(picture)
                return True
            self._before = picture
            self._history.append(jump)
            self._shown.append(picture)
            return False
        if min(_difference(self._before, later) for later in self._ahead) < min(jump / 2, max(reached)):
            return False  # a flash: compare what follows with the picture before it
        self._begin(picture)
        return True

    def _begin(self, picture: _Small) -> None:
        """A shot, with its first picture."""
        self._before = picture
        self._history.clear()
        self._shown.clear()
        self._shown.append(picture)

    def _dissolved(self, picture: _Small) -> bool:
        """Whether a dissolve has just come to its end, and `picture` is the first one that shows its second scene alone."""
        if self._repeats:
            return False  # a film that ends within a dissolve
        least = _UNRELATED * (picture.spread / 2 + _BLACK)
        for length in _DISSOLVES:
            if length > len(self._shown):
                return False
            first = self._shown[-length]
            if cv2.norm(first.values, picture.values, cv2.NORM_L1) < least * _PIXELS:
                continue  # most films, most of the time
            if _difference(first, picture) < _UNRELATED or _correlation(first, picture) > _RELATED:
                continue
            mixture = _Mixture.of(first.values, picture.values)
            if any(mixture.share(later.values) <= -_OVER or mixture.away(later.values) >= _CALM for later in self._ahead):
                continue
            between = [self._shown[part * length // 4 - length] for part in (1, 2, 3)]
            shares = [1.0, *(mixture.share(one.values) for one in between), 0.0]
            steps = [one - other for one, other in pairwise(shares)]
            if min(steps[1:3]) < _STEP or steps[3] < _STEP or max(mixture.rest(one.values) for one in between) > _MIXED:
                continue
            if max(mixture.contrast(one) for one in between) <= _FULL:
                return True
        return False


@dataclass(frozen=True, slots=True, eq=False)
class _Small:
    """A picture's thumbnail, which is compared with many others."""

    values: NDArray[np.int16]
    """`(36, 64, 3)`: luma and both chromas, in steps of 255."""
    spread: float
    """See `_spread`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Mixture:
    """Two pictures, and what lies between them."""

    last: NDArray[np.float32]
    apart: NDArray[np.float32]
    """The first less the last one."""
    power: np.float32
    """Of that."""
    size: np.float32
    """Mean of its absolute values."""

    @classmethod
    def of(cls, first: NDArray[np.int16], last: NDArray[np.int16]) -> _Mixture:
        apart = (first - last).astype(np.float32)
        return cls(last.astype(np.float32), apart, np.vdot(apart, apart), np.abs(apart).mean())

    def share(self, picture: NDArray[np.int16]) -> float:
        """How much of the first is in `picture`: by the mixture of both that is nearest to it."""
        return float(np.vdot(picture - self.last, self.apart) / self.power)

    def rest(self, picture: NDArray[np.int16]) -> float:
        """How far `picture` is from that mixture, in their difference."""
        return self._beside(picture - self.last - np.float32(self.share(picture)) * self.apart)

    def away(self, picture: NDArray[np.int16]) -> float:
        """How far `picture` is from the last one, in their difference."""
        return self._beside(picture - self.last)

    def contrast(self, picture: _Small) -> float:
        """That of `picture` beside that mixture's, which pales: what moves is as if mixed where it is soft, and does not."""
        return picture.spread / max(_spread(self.last + np.float32(self.share(picture.values)) * self.apart), 1.0)

    def _beside(self, values: NDArray[np.float32]) -> float:
        return float(np.abs(values).mean() / self.size)


def _correlation(one: _Small, other: _Small) -> float:
    """Of two pictures, each less its mean colour; 1 where one of them is hardly more than black, as at the end of a fade."""
    a, b = ((picture.values - picture.values.mean((0, 1))).astype(np.float32).ravel() for picture in (one, other))
    sizes = float(np.abs(a).mean()), float(np.abs(b).mean())
    if min(sizes) < _FADED * max(sizes):
        return 1.0
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b) + 1e-6))


def _thumbnail(frame: Frame) -> _Small:
    small = cv2.resize(frame.glance, _SIZE, interpolation=cv2.INTER_AREA)
    values = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb).astype(np.int16)
    return _Small(values, _spread(values))


def _difference(one: _Small, other: _Small) -> float:
    contrast = (one.spread + other.spread) / 2 + _BLACK
    return cv2.norm(one.values, other.values, cv2.NORM_L1) / _PIXELS / contrast


def _spread(picture: NDArray[np.int16] | NDArray[np.float32]) -> float:
    """Mean absolute deviation of a picture from its own mean."""
    return cv2.norm(picture - np.array(cv2.mean(picture)[:3]), cv2.NORM_L1) / _PIXELS

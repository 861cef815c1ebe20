"""Content cuts: a picture differs from the one before far more than pictures do hereabouts.

The measure and the comparison with the neighbourhood follow PySceneDetect's content and adaptive detectors (their
documentation, scenedetect.com); this is an own implementation, because five things differ:

* The difference is taken in luma and chroma, not in hue, saturation and value: hue is noise in dark and in
  black-and-white film, and two thirds of PySceneDetect's score are then missing.
* It is measured in units of the pictures' own contrast. Over 35 clips of faces, jumps inside a shot (dropped frames,
  re-encoded crops that stutter) reached 0.32, and 95 of 100 pairs of unrelated pictures differed by 0.96 or more, by
  0.55 when both were darkened to 15 % and grey. In plain steps of 255 the two overlap: 20 against 8.
* Two limits: a jump far above what is usual hereabouts counts from 0.32 on. Somebody else in the same place, on the same set
  before the same camera, differs by 0.34 to 0.48 (six clips behind each other), at ten times the usual and more; jumps inside a
  shot that reach six times the usual stay below 0.30.
* A flash is looked through: when the picture before comes back within `delay` frames, there was no cut.
* The history dies at a cut, so that the cuts of a shot do not depend on what came before it, and a run that goes on at
  a shot's first frame finds the same.

Fades and dissolves give many middling differences in a row and therefore no cut; what happens to a face that dissolves
into another is the tracker's affair.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr.types import Frame

_BLACK = 6.0  # added to the contrast, in steps of 255: the noise of a black picture is no content
_STILL = 0.02  # least difference that counts as usual: after a frozen picture everything is far more than usual
_SIZE = (64, 36)  # pixels of the thumbnail: small enough that grain and small motion average out


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
        self._ahead: deque[NDArray[np.int16]] = deque()
        self._before: NDArray[np.int16] | None = None
        self._history: deque[float] = deque(maxlen=self.delay)
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

    def _decide(self, picture: NDArray[np.int16]) -> bool:
        if self._before is None:
            self._before = picture
            return False
        jump = _difference(self._before, picture)
        coming = [picture, *self._ahead]
        after = [_difference(one, other) for one, other in pairwise(coming[: len(coming) - self._repeats])]
        around = [*self._history, *after]
        usual = max(_STILL, float(np.median(around))) if around else _STILL
        limits = self.limits if around else self.limits[:1]  # nobody can tell whether the place is calm
        reached = [threshold for threshold, ratio in limits if jump >= max(threshold, ratio * usual)]
        if not reached:
            self._before = picture
            self._history.append(jump)
            return False
        if min(_difference(self._before, later) for later in self._ahead) < min(jump / 2, max(reached)):
            return False  # a flash: compare what follows with the picture before it
        self._before = picture
        self._history.clear()
        return True


def _thumbnail(frame: Frame) -> NDArray[np.int16]:
    small = cv2.resize(frame.glance, _SIZE, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb).astype(np.int16)


def _difference(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    contrast = (_spread(one) + _spread(other)) / 2 + _BLACK
    return float(np.abs(one - other).mean((0, 1)).sum()) / contrast


def _spread(picture: NDArray[np.int16]) -> float:
    return float(np.abs(picture - picture.mean((0, 1))).mean((0, 1)).sum())

"""Tracks by overlap of boxes: two-stage association over a Kalman filter.

Sure detections are matched with the tracks first, then unsure ones with what is left, so that a blurred or half hidden
face keeps its track but never starts one: Zhang et al., "ByteTrack", ECCV 2022, from the paper. Boxes are grown before
their overlap is taken, so that a small quick face still meets its prediction: Yang et al., "Hard to Track Objects with
Irregular Motions and Similar Appearances? Make It Easier by Buffering the Matching Space", WACV 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from videoclr.packing import keepable
from videoclr.types import Detection, Faces, TrackedFace

Array = NDArray[np.float64]
_SAME_PLACE = 0.6
"""Overlap of the grown boxes from which an unsure detection continues a track that a look has missed since."""


@keepable
class _Kalman:
    """Centre and size of a box with their velocities, all four independent and equally noisy.

    Because every dimension has the same noise (in units of the box), one 2 x 2 covariance serves the four of them.
    """

    OBSERVED = 0.05  # standard deviation of a detection, in box sides
    PUSHED = 0.03  # standard deviation of the change of velocity per frame, in box sides

    def __init__(self, box: Array) -> None:
        self.state = np.stack([_measured(box), np.zeros(4)])
        self.covariance = np.diag([self.OBSERVED**2, 0.1**2])

    def step(self) -> None:
        """One frame of constant velocity."""
        move = np.array([[1.0, 1.0], [0.0, 1.0]])
        push = self.PUSHED**2 * np.array([[0.25, 0.5], [0.5, 1.0]])
        self.state = move @ self.state
        self.state[0, 2:] = np.maximum(self.state[0, 2:], 1.0)
        self.covariance = move @ self.covariance @ move.T + push

    def correct(self, box: Array) -> None:
        """Take a detected box in."""
        gain = self.covariance[:, 0] / (self.covariance[0, 0] + self.OBSERVED**2)
        self.state = self.state + gain[:, None] * (_measured(box) - self.state[0])
        self.covariance = self.covariance - np.outer(gain, self.covariance[0])

    @property
    def box(self) -> Array:
        centre, size = self.state[0, :2], self.state[0, 2:]
        return np.concatenate([centre - size / 2, centre + size / 2])


def _measured(box: Array) -> Array:
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])


@keepable
@dataclass
class _Track:
    number: int
    filter: _Kalman
    last: Detection
    age: int = 0
    """Frames since it was seen."""
    missed: bool = False
    """The last look did not find it."""


class OverlapTracker:
    """A `Tracker` by overlap of boxes."""

    def __init__(self, threshold: float = 0.6, low_threshold: float = 0.25, max_gap: int = 5, min_overlap: float = 0.25) -> None:
        """Empty tracker.

        Args:
            threshold: score from which a detection may start a track.
            low_threshold: score from which a detection may continue one; the rest is ignored.
            max_gap: frames without a sighting after which a track ends.
            min_overlap: smallest intersection over union, of the grown boxes, of a match.

        Raises:
            ValueError: thresholds out of order, they or `min_overlap` out of 0..1, a negative gap.
        """
        if not 0 <= low_threshold <= threshold <= 1 or not max_gap >= 0:
            raise ValueError(
                f"expected 0 <= low_threshold <= threshold <= 1 and max_gap >= 0, got {low_threshold}, {threshold}, {max_gap}"
            )
        if not 0 <= min_overlap <= 1:
            raise ValueError(f"min_overlap must be in [0, 1], got {min_overlap}")
        self.threshold = threshold
        self.low_threshold = low_threshold
        self.max_gap = max_gap
        self.min_overlap = min_overlap
        self._tracks: list[_Track] = []
        self._born = 0

    def reset(self) -> None:
        """Forget every track. Numbers go on."""
        self._tracks = []

    def keep(self) -> tuple[list[_Track], int]:
        """See `videoclr.packing.Keeping`."""
        return self._tracks, self._born

    def recall(self, kept: tuple[list[_Track], int]) -> None:
        """See `videoclr.packing.Keeping`."""
        self._tracks, self._born = kept

    def update(self, found: Faces[Detection]) -> list[TrackedFace]:
        """The frame's faces with their tracks; supposed places (`observed=False`) where nobody looked."""
        for one in self._tracks:
            one.filter.step()
            one.age += 1
        self._tracks = [one for one in self._tracks if one.age <= self.max_gap + 1]
        if not found.looked:
            return [_supposed(one) for one in self._tracks if not one.missed]
        sure = [one for one in found.faces if one.score >= self.threshold]
        unsure = [one for one in found.faces if self.low_threshold <= one.score < self.threshold]
        matched, lost, strangers = self._match(self._tracks, sure, self.min_overlap)
        # An unsure detection may continue what was there a look ago. What was missed since is as likely something else, unless
        # it lies just where the track was going.
        again, _, rest = self._match([one for one in lost if not one.missed], unsure, self.min_overlap)
        back, _, _ = self._match([one for one in lost if one.missed], rest, max(self.min_overlap, _SAME_PLACE))
        matched += again + back
        kept = {id(one) for one, _ in matched}
        for one in self._tracks:
            one.missed = id(one) not in kept
        matched += [(self._start(detection), detection) for detection in strangers]
        return [self._seen(one, detection) for one, detection in matched]

    def _match(
        self, tracks: Sequence[_Track], detections: Sequence[Detection], least: float
    ) -> tuple[list[tuple[_Track, Detection]], list[_Track], list[Detection]]:
        if not tracks or not detections:
            return [], list(tracks), list(detections)
        overlaps = overlap(np.stack([t.filter.box for t in tracks]), np.stack([d.box for d in detections]))
        rows, columns = linear_sum_assignment(np.where(overlaps >= least, -overlaps, 0.0))
        pairs = [(r, c) for r, c in zip(rows, columns, strict=True) if overlaps[r, c] >= least]
        old, new = {r for r, _ in pairs}, {c for _, c in pairs}
        return (
            [(tracks[r], detections[c]) for r, c in pairs],
            [one for r, one in enumerate(tracks) if r not in old],
            [one for c, one in enumerate(detections) if c not in new],
        )

    def _start(self, detection: Detection) -> _Track:
        one = _Track(self._born, _Kalman(detection.box.astype(np.float64)), detection)
        self._born += 1
        self._tracks.append(one)
        return one

    def _seen(self, one: _Track, detection: Detection) -> TrackedFace:
        one.filter.correct(detection.box.astype(np.float64))
        one.last, one.age = detection, 0
        return TrackedFace(one.number, detection)


def _supposed(one: _Track) -> TrackedFace:
    """Where the filter sees the track now: the last landmarks moved with the box, less sure with every frame."""
    box = one.filter.box
    old = one.last.box.astype(np.float64)
    scale = (box[2:] - box[:2]) / np.maximum(old[2:] - old[:2], 1e-6)
    landmarks = (one.last.landmarks - old[:2]) * scale + box[:2]
    score = one.last.score * 0.9**one.age
    return TrackedFace(one.number, Detection(box.astype(np.float32), landmarks.astype(np.float32), score), observed=False)


def overlap(one: Array, other: NDArray[np.floating], grow: float = 0.25) -> Array:
    """`(N, M)` intersection over union of boxes `(N, 4)` and `(M, 4)`, each grown by `grow` of its sides all round."""
    a, b = _grown(one, grow)[:, None], _grown(np.asarray(other, np.float64), grow)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.prod(np.maximum(sides, 0), axis=-1)
    areas = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1)
    return np.asarray(common / np.maximum(areas - common, 1e-9), np.float64)


def _grown(boxes: Array, grow: float) -> Array:
    margin = (boxes[:, 2:] - boxes[:, :2]) * grow
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)

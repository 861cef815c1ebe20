"""Does it flicker, swim or shake: figures over the frames of one shot.

Every figure here is also computed of the clean clip (for a real video: of the input) and read as a ratio to it, because
smoothness alone is gamed by blur. For the same reason motion is taken from the reference, never from the restoration.
Landmarks are `(T, N, 2)` pixels of the picture they were found in, unsmoothed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videoclr.geometry import carry, consistency, flow
from videoclr.metrics.running import Following, Running

Picture = NDArray[Any]
_TRUSTED = float(np.exp(-1))
"""`consistency` at the limit of Sundaram, Brox and Keutzer's check."""
_LIPS = [61, 62, 63], [67, 66, 65]
"""Of the 68 landmarks of iBUG (Sagonas et al. 2013): the inner edges of the upper and of the lower lip."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """How one frame of the reference moves into the next."""

    flow: NDArray[np.float32]
    """`(H, W, 2)` pixels, from frame t to frame t + 1."""
    visible: NDArray[np.bool_]
    """`(H, W)`: True where forward and backward motion agree, so nothing is covered or uncovered."""


def motions(reference: Sequence[NDArray[np.uint8]]) -> list[Motion]:
    """The T - 1 motions of a reference clip of T frames, `(H, W, 3)` RGB uint8; do not cross a cut."""
    found = []
    for first, second in pairwise(reference):
        forward, backward = flow(first, second), flow(second, first)
        found.append(Motion(forward, consistency(forward, backward) >= _TRUSTED))
    return found


def warp_errors(
    images: Sequence[Picture], reference: Sequence[Motion], mask: NDArray[Any] | None = None, peak: float = 255.0
) -> NDArray[np.float64]:
    """E*warp of every transition: `1e3 * masked mean of (f_t - warp(f_{t+1}))^2`, pictures scaled to 0..1.

    Args:
        images: T pictures `(H, W, C)`, 0..`peak`.
        reference: `motions` of the clean clip.
        mask: `(H, W)` 0..1, where to measure, on top of what is visible in both frames.
        peak: white.

    Returns:
        `(T - 1,)`; NaN where nothing is visible in both frames.

    Raises:
        ValueError: the motions belong to another number of frames.
    """
    if len(images) != len(reference) + 1:
        raise ValueError(f"{len(reference)} motions do not fit {len(images)} frames")
    pairs = zip(images[:-1], images[1:], reference, strict=True)
    return np.array([_warp_error(first, second, motion, mask, peak) for first, second, motion in pairs], np.float64)


def _warp_error(first: Picture, second: Picture, motion: Motion, mask: NDArray[Any] | None, peak: float) -> float:
    now = np.asarray(first, np.float32) / np.float32(peak)
    then = carry(np.asarray(second, np.float32) / np.float32(peak), motion.flow)
    weights = motion.visible.astype(np.float64) if mask is None else motion.visible * np.asarray(mask, np.float64)
    if weights.sum() <= 0:
        return float("nan")
    error = ((now - then) ** 2).reshape(*weights.shape, -1).mean(axis=2)
    return float(1e3 * (error * weights).sum() / weights.sum())


def landmark_distance(restored: NDArray[Any], clean: NDArray[Any]) -> float:
    """LMD (also AKD): mean distance of restored landmarks from clean ones, px; name the detector beside it.

    Raises:
        ValueError: different or wrong shapes.
    """
    first, second = _tracks(restored, clean)
    return float(np.linalg.norm(first - second, axis=-1).mean())


def landmark_motion_error(restored: NDArray[Any], clean: NDArray[Any]) -> float:
    """TLME: mean over t and landmarks of `|(l'_{t+1} - l'_t) - (l_{t+1} - l_t)|`, px per frame.

    A constant offset costs nothing, trembling and lagging do.

    Raises:
        ValueError: different or wrong shapes, or fewer than two frames.
    """
    first, second = _tracks(restored, clean)
    if len(first) < 2:
        raise ValueError("landmark motion needs at least two frames")
    return float(np.linalg.norm(np.diff(first - second, axis=0), axis=-1).mean())


def mouth_opening(landmarks: NDArray[Any]) -> float:
    """How far the lips are apart: mean of three distances between their inner edges, in the unit of the landmarks.

    Args:
        landmarks: `(68, 2)`, in the order of iBUG.
    """
    points = np.asarray(landmarks, np.float64)
    return float(np.linalg.norm(points[_LIPS[0]] - points[_LIPS[1]], axis=-1).mean())


def gain(tracks: Iterable[Following], least: float = 0.0) -> float:
    """How much of what the clean faces do the restored ones do: a regression's slope over all tracks, each about its own means.

    1 is perfect, lips that hardly move come out below, noise alone at 0. NaN where the clean ones do nothing: where their standard
    deviation is at most `least`.
    """
    found = list(tracks)
    squares, count = sum(one.squares for one in found), sum(one.count for one in found)
    return sum(one.together for one in found) / squares if squares > least**2 * count else float("nan")


def jitter(landmarks: NDArray[Any]) -> float:
    """Mean length of the second difference over time of unsmoothed landmarks, px per frame squared.

    Uniform motion has none. Compare with the clean clip's, whose detector trembles too.

    Raises:
        ValueError: a wrong shape, or fewer than three frames.
    """
    points, _ = _tracks(landmarks, landmarks)
    if len(points) < 3:
        raise ValueError("jitter needs at least three frames")
    return float(np.linalg.norm(np.diff(points, n=2, axis=0), axis=-1).mean())


def change_error(restored: float, clean: float) -> float:
    """tLPIPS of one step: `|d(r_t, r_{t+1}) - d(g_t, g_{t+1})|` for a perceptual distance `d` of any name.

    Measured against the clean clip's own change: what flickers and what is frozen both cost.
    """
    return abs(restored - clean)


class Seams:
    """The seam score of figures that come one by one; see `seam_score`."""

    def __init__(self) -> None:
        self.at_borders, self.elsewhere = Running(), Running()

    def add(self, value: float, at_border: bool) -> None:
        """Take the figure of one step; NaN is skipped."""
        (self.at_borders if at_border else self.elsewhere).add(value)

    @property
    def score(self) -> float:
        """1.0 means that nobody can see the seams; NaN where one side has no steps yet."""
        if not self.at_borders.count or not self.elsewhere.count:
            return float("nan")
        return ratio(self.at_borders.mean, self.elsewhere.mean)


def seam_score(per_transition: NDArray[Any], borders: Iterable[int]) -> float:
    """A temporal figure at chunk or anchor borders, divided by the same elsewhere: 1.0 means nobody can see the seams.

    Args:
        per_transition: `(T - 1,)`, entry t is of the step from frame t to t + 1, such as `warp_errors`; NaN is skipped.
        borders: indices of the transitions that cross a border.

    Raises:
        ValueError: a border outside the clip, or nothing to compare on one side.
    """
    values = np.asarray(per_transition, np.float64)
    crossing = np.zeros(len(values), bool)
    for border in borders:
        if not 0 <= border < len(values):
            raise ValueError(f"border {border} lies outside {len(values)} transitions")
        crossing[border] = True
    seams = Seams()
    for value, at_border in zip(values.tolist(), crossing.tolist(), strict=True):
        seams.add(value, at_border)
    if np.isnan(seams.score):
        raise ValueError("a seam score needs transitions at borders and elsewhere")
    return seams.score


def ratio(restored: float, reference: float) -> float:
    """`restored / reference`; 1.0 where both are zero, infinite where only the reference is."""
    if reference == 0:
        return 1.0 if restored == 0 else float("inf")
    return restored / reference


def _tracks(restored: NDArray[Any], clean: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(restored, np.float64), np.asarray(clean, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"restored {first.shape} and clean {second.shape} differ in shape")
    if first.ndim != 3 or first.shape[2] != 2 or len(first) == 0:
        raise ValueError(f"expected landmarks (T, N, 2), got {first.shape}")
    return first, second

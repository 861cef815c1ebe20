"""Along a track: where the content of one crop is in its neighbours, their mean, and what is carried between them.

Crops are named by their place in the track, an integer that grows by one per frame. Pictures are `(S, S, C)`; latents
are `(h, h, C)` on a coarser grid of the same square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr import geometry
from videoclr.packing import keepable

Values = NDArray[np.float32]

ALIKE = 0.2
"""Difference of blurred pictures that noise did not make, on the scale of [-1, 1], at which a neighbour's say has fallen to 0.6
(0.1 flickered more and blurred no less, 0.4 gained nothing): half of what a closing eyelid makes."""
_NOISES, _TOLERANCES = 2.0, (0.03, ALIKE)
"""How many standard deviations of the noise that is for pictures that it did make, and its limits. On eight clips 2 to 3.5 did
about as well as each other, and better by 0.1 dB than `ALIKE` for all."""
_MEDIAN = 0.6745
"""Median of the size of what is normally distributed, in standard deviations."""
_BEHIND, _AHEAD = 8.0, 4.0
"""Pictures that what lies before and what follows may weigh as much as. Of eight clips, with 4 before, identity deviated by 5 %
more; with 8 that follow, SqD was 0.3 % higher and nothing gained."""
_OFF = 0.5
"""Expected distance of a motion from the truth, px of a crop of 256, at which a neighbour's say has fallen to 0.6. With 0.8 and 1.5
faces held a little stiller (E*warp 2.06 and 2.05 of the clean clips' for 2.10) and were softer (SqD 1.002, 1.006 for 0.995)."""
_GAIN = (0.05, 0.25)
"""Share of the difference of two pictures that their motion takes away: up to the first it is taken for noise, from the second on
for motion. With it the motion-compensated error of a nearly still clip fell by a quarter, and its restoration became sharper."""


class Motions(Protocol):
    """The motion between the crops of a track, and how far to trust it."""

    def flow(self, here: int, there: int) -> Values:
        """`(S, S, 2)` pixels: what is at p in `here` is at p + flow in `there`."""
        ...

    def trust(self, here: int, there: int) -> Values:
        """`(S, S)` in [0, 1]."""
        ...


class Estimated:
    """`Motions` by optical flow, without learned weights; each pair is estimated once.

    Args:
        pictures: place -> `(S, S, 3)` RGB uint8 crop of the input.
    """

    def __init__(self, pictures: Mapping[int, NDArray[np.uint8]]) -> None:
        self._pictures = pictures
        self._estimates: dict[tuple[int, int], Values] = {}
        self._flows: dict[tuple[int, int], Values] = {}
        self._trust: dict[tuple[int, int], Values] = {}

    def flow(self, here: int, there: int) -> Values:
        """As `Motions.flow`."""
        if (here, there) not in self._flows:
            self._flows[here, there] = believed(self._estimate(here, there), self._pictures[here], self._pictures[there])
        return self._flows[here, there]

    def _estimate(self, here: int, there: int) -> Values:
        if (here, there) not in self._estimates:
            self._estimates[here, there] = geometry.calm_flow(self._pictures[here], self._pictures[there])
        return self._estimates[here, there]

    def trust(self, here: int, there: int) -> Values:
        """As `Motions.trust`: forward-backward consistency of what was estimated; rest would agree with itself anywhere."""
        if (here, there) not in self._trust:
            self._trust[here, there] = geometry.consistency(self._estimate(here, there), self._estimate(there, here))
        return self._trust[here, there]


class Followed:
    """`Motions` from that between neighbours, one after another.

    Args:
        steps: place, and the one before or after it -> `(h, h, 3)`: from the one to the other, and how far that may be off, px of
            the crop.
        side: S, of the crop.
    """

    def __init__(self, steps: Mapping[tuple[int, int], Values], side: int) -> None:
        self._steps, self._side = steps, side
        self._flows: dict[tuple[int, int], Values] = {}
        self._trust: dict[tuple[int, int], Values] = {}

    def flow(self, here: int, there: int) -> Values:
        """As `Motions.flow`."""
        return self._followed(here, there)[..., :2]

    def _followed(self, here: int, there: int) -> Values:
        """`(S, S, 3)`: the motion, and the errors of its steps added up as those of independent ones are."""
        if (here, there) not in self._flows:
            size, before = (self._side, self._side), there - (1 if there > here else -1)
            found: NDArray[Any] = np.zeros((*size, 3), np.float32)
            if here == before:
                found = cv2.resize(self._steps[here, there], size, interpolation=cv2.INTER_LINEAR)
            elif here != there:
                first = self._followed(here, before)
                last = geometry.carry(self._followed(before, there), first[..., :2])
                found = np.dstack([first[..., :2] + last[..., :2], np.hypot(first[..., 2], last[..., 2])])
            self._flows[here, there] = np.asarray(found, np.float32)
        return self._flows[here, there]

    def trust(self, here: int, there: int) -> Values:
        """As `Motions.trust`: by how far off the motion may be, and forward-backward consistency."""
        if (here, there) not in self._trust:
            agrees = geometry.consistency(self.flow(here, there), self.flow(there, here))
            off = self._followed(here, there)[..., 2] * (256 / self._side) / _OFF
            self._trust[here, there] = np.asarray(agrees * np.exp(-0.5 * off**2), np.float32)
        return self._trust[here, there]


def believed(motion: Values, here: NDArray[np.uint8], there: NDArray[np.uint8]) -> Values:
    """`motion` where it explains the pictures better than rest does, and rest elsewhere.

    Between two noisy crops of a face that holds still, the estimate is noise: a third of a pixel here and there, which makes
    what is carried along it tremble, and blurs it by interpolation. Rest is believed until moving takes some share of the
    difference away (a shrinkage, as of wavelet coefficients: Donoho and Johnstone, 1994), place by place.

    Args:
        motion: `(S, S, 2)` pixels from `here` to `there`.
        here, there: `(S, S, 3)` RGB uint8.

    Returns:
        `(S, S, 2)`.
    """
    side = here.shape[0]
    first, second = here.astype(np.float32), there.astype(np.float32)

    def difference(other: Values) -> Values:
        larger = cv2.GaussianBlur(first - other, (0, 0), side / 85)  # than noise is, as in `alike`
        return np.asarray(cv2.GaussianBlur((larger**2).sum(-1), (0, 0), side / 24), np.float32)

    gain = 1 - difference(geometry.carry(second, motion)) / np.maximum(difference(second), 1e-6)
    share = np.clip((gain - _GAIN[0]) / (_GAIN[1] - _GAIN[0]), 0, 1)
    return np.asarray(motion * cv2.GaussianBlur(share, (0, 0), side / 32)[..., None], np.float32)


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What a place of a track shows together with all places on one side of it."""

    mean: Values
    """`(S, S, C)`, where that place has its content."""
    weight: Values
    """`(S, S, 1)`: how many pictures it is the mean of, 1 and more."""


def gathered(
    pile: Gathered, own: Values, here: int, there: int, known: Gathered, motions: Motions, tolerance: float | None = None
) -> Gathered:
    """`pile`, with what a neighbour has gathered carried to where `own` has its content.

    A neighbour counts where its motion is consistent and where what it brings looks like what is there (`alike`): a mean over
    an eye that closes would show half a lid. The light is this picture's own (`relit`).

    Args:
        pile: what is there already.
        own: `(S, S, C)` float32; the first three channels decide what looks alike, on the scale of [-1, 1].
        here: its place.
        there: the neighbour's.
        known: what is gathered there.
        motions: of the crops of both.
        tolerance: as in `alike`.
    """
    motion = motions.flow(here, there)
    brought = relit(geometry.carry(known.mean, motion, cubic=True), own)
    most = _BEHIND if there < here else _AHEAD
    say = motions.trust(here, there) * alike(own[..., :3], brought[..., :3], tolerance)
    say = (say * geometry.carry(known.weight[..., 0], motion).clip(0, most))[..., None]
    weight = pile.weight + say
    return Gathered(np.asarray((pile.weight * pile.mean + say * brought) / weight, np.float32), weight)


def means_along(
    values: Mapping[int, Values], places: Sequence[int], behind: Gathered | None, motions: Motions, tolerance: float | None = None
) -> tuple[list[Values], Gathered]:
    """The mean of each picture with those before and behind it, along their motion.

    What went before is carried from picture to picture and gathers weight, and what follows is as well, from the end on: where
    a face holds still, over `_BEHIND` pictures and `_AHEAD` ones. Recursive filters along the motion, as in the denoising of
    video and of bursts (Ehmann et al. 2018), which need the motion from one picture to the next only.

    Args:
        values: place -> `(S, S, C)` float32, as `own` in `gathered`: `places`, and without a gap those that follow and are known.
        places: in order, without a gap.
        behind: what is gathered at the place before them; None where the track begins.
        motions: of the crops that `values` belong to, and of the place before where there is `behind`.
        tolerance: as in `alike`.

    Returns:
        `(S, S, C)` for each of `places`, and `behind` for those after them.

    Raises:
        ValueError: no places.
    """
    if not places:
        raise ValueError("the mean of no places")

    def joined(pile: Gathered, place: int, there: int, known: Gathered | None) -> Gathered:
        return pile if known is None else gathered(pile, values[place], place, there, known, motions, tolerance)

    def alone(place: int) -> Gathered:
        return Gathered(values[place], np.ones((*values[place].shape[:2], 1), np.float32))

    ahead: dict[int, Gathered] = {}
    for place in range(max(values), places[0], -1):
        ahead[place] = joined(alone(place), place, place + 1, ahead.get(place + 1))
    means = []
    for place in places:
        kept = behind = joined(alone(place), place, place - 1, behind)
        means.append(joined(kept, place, place + 1, ahead.get(place + 1)).mean)
    return means, kept


def relit(brought: Values, own: Values) -> Values:
    """`brought` in the light of `own`, both `(S, S, C)`: what is larger than a quarter of the picture is taken from there.

    A light that changes within the look-ahead would else be late by the mean's width, and what is lit otherwise would not look
    alike: on a face under moving light the mean cost 1.3 dB.
    """
    side = own.shape[0]
    small = cv2.resize(own - brought, (side // 8, side // 8), interpolation=cv2.INTER_AREA)
    return np.asarray(brought + cv2.resize(cv2.GaussianBlur(small, (0, 0), side / 32), (side, side)), np.float32)


def alike(own: Values, brought: Values, tolerance: float | None = None) -> Values:
    """`(S, S)` in [0, 1]: 1 where two `(S, S, 3)` pictures agree in what is larger than noise.

    Args:
        own, brought: on the scale of [-1, 1].
        tolerance: difference at which the say has fallen to 0.6; None: twice what noise makes here, told by the median over the
            face (robust merging of a burst: Wronski et al. 2019). A clean picture is not blurred by a motion that missed.
    """
    side = own.shape[0]
    difference = np.abs(cv2.GaussianBlur(own - brought, (0, 0), side / 85))
    if tolerance is None:
        inner = difference[side // 4 : -(side // 4), side // 4 : -(side // 4)]
        tolerance = float(np.clip(_NOISES * np.median(inner) / _MEDIAN, *_TOLERANCES))
    return np.asarray(np.exp(-0.5 * (difference / tolerance) ** 2).min(axis=-1), np.float32)


def carried(sources: Mapping[int, Values], here: int, motions: Motions) -> tuple[Values, float]:
    """A latent for `here` out of the nearest sources before and after it.

    Each is carried along the motion, and weighted by nearness in time and by trust. Where neither is trusted the
    result fades to zero: so carry what was *added* to something that every frame has of its own.

    Args:
        sources: place -> `(h, h, C)`; at least one.
        here: a place between them (at the ends one side is enough).
        motions: of the crops, `here` and the sources included.

    Returns:
        `(h, h, C)` float32 and the mean trust over the middle of the crop, where the face is.
    """
    parts = []
    for there, near in neighbours(sources, here):
        size = sources[there].shape[0]
        motion = geometry.flow_at(motions.flow(here, there), size)
        trust = cv2.resize(motions.trust(here, there), (size, size), interpolation=cv2.INTER_AREA)[..., None]
        parts.append((geometry.carry(sources[there], motion), np.asarray(trust, np.float32), np.float32(near)))
    best = np.max([trust for _, trust, _ in parts], axis=0)
    weight = np.sum([trust * near for _, trust, near in parts], axis=0)
    mixed = np.sum([value * trust * near for value, trust, near in parts], axis=0)
    edge = best.shape[0] // 4
    return np.asarray(best * mixed / np.maximum(weight, 1e-6), np.float32), float(best[edge:-edge, edge:-edge].mean())


def neighbours(sources: Mapping[int, object], here: int) -> list[tuple[int, float]]:
    """The nearest source before and after `here` with weights that fall linearly with the distance and sum to 1."""
    before = max((place for place in sources if place <= here), default=None)
    after = min((place for place in sources if place > here), default=None)
    if before is None or after is None:
        only = after if before is None else before
        if only is None:
            raise ValueError("no source to carry from")
        return [(only, 1.0)]
    share = (here - before) / (after - before)
    return [(before, 1 - share), (after, share)] if share else [(before, 1.0)]


def carried_noise(field: Values, here: int, sources: Mapping[int, object], motions: Motions) -> Values:
    """A noise field that moves with the face: nearest neighbours of the sources' field, mixed without losing variance.

    Args:
        field: `(h, h, C)` standard normal, the same on every source.
        here: as in `carried`.
        sources: places that hold `field`.
        motions: as in `carried`.
    """
    size = field.shape[0]
    grid = np.arange(size, dtype=np.float32)
    found = []
    for there, near in neighbours(sources, here):
        motion = geometry.flow_at(motions.flow(here, there), size)
        x = np.clip(np.rint(grid[None, :] + motion[..., 0]), 0, size - 1).astype(int)
        y = np.clip(np.rint(grid[:, None] + motion[..., 1]), 0, size - 1).astype(int)
        found.append((y * size + x, near))
    flat = field.reshape(size * size, -1)
    mixed = np.sum([near * flat[where] for where, near in found], axis=0)
    variance = np.sum([near**2 * np.ones((size, size)) for _, near in found], axis=0)
    if len(found) == 2:
        (first, a), (second, b) = found
        variance = variance + 2 * a * b * (first == second)
    return np.asarray(mixed / np.sqrt(variance)[..., None], np.float32)

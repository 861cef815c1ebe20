"""Along a track: where the content of one crop is in its neighbours, their mean, and what is carried between them.

Crops are named by their place in the track, an integer that grows by one per frame. Pictures are `(S, S, C)`; latents
are `(h, h, C)` on a coarser grid of the same square.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial, reduce
from itertools import accumulate, pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr import geometry
from videoclr.flow import at_once
from videoclr.packing import keepable
from videoclr.pixels import mean_of_colours, quantized

Values = NDArray[np.float32]
_Box = tuple[float, float, float]
"""Half the width, middle and half the height of a part of an aligned crop, in its sides."""

ALIKE = 0.2
"""Difference of blurred pictures that noise did not make, on the scale of [-1, 1], at which a neighbour's say has fallen to 0.6
(0.1 flickered more and blurred no less, 0.4 gained nothing): half of what a closing eyelid makes."""
_NOISES, _TOLERANCES = 2.0, (0.03, ALIKE)
"""How many standard deviations of the noise that is for pictures that it did make, and its limits. On eight clips 2 to 3.5 did
about as well as each other, and better by 0.1 dB than `ALIKE` for all."""
_FARTHEST, _GOOD, _STEEP = 1.2, (0.025, 0.032), (0.1, 4.0)
"""How far a neighbour may be from a picture, by how wrong that is; how wrong, on the scale of [-1, 1], pictures are up to which
this is asked and from which on it is not; and the limits of how steep a place is, by what is usual. Good films have 0.017 to 0.035,
`mild` ones 0.09 to 0.13. Of two films in which heads move fast, slightly degraded, the frames had 41.3 and 36.2 dB, their means
36.9 and 33.7 without it, and 39.8 and 36.0 with it; restored 35.2 and 33.7, and 36.5 and 35.7. With 0.8 for 1.2 the means were
0.4 dB better still, and flickered more. From 0.035 to 0.05 it gained another 0.3 dB where codecs had been at work, but low bit
rates of small pictures, of which the recovery changes little as well (0.03 and 0.04), flickered twice as much as before; with these
limits one of them still does, in part (E*warp of 25 clips 1.36 of the clean ones', 1.45 with the wider limits, 1.35 without; all of
it before `_DROWNED`)."""
_STRUCTURE, _SLIGHT = (0.5, 0.85), 0.02
"""Local correlation of two pictures from which one begins to count for the other, and at which it does in full; and the structure,
on the scale of [-1, 1], that is too slight to tell by. By the difference alone a mouth hardly darker than its skin may lie
anywhere: a head that turned fast in a film of 12 frames a second came out with its mouth aslant and a ghost beside it. Five films:
LMD 3.16 to 3.10, SqD 0.997 to 0.996, IDS 0.534 to 0.533, E*warp 1.25 to 1.26 of the clean clips'. From 0.7 to 0.95 that head was
better still, but where a film goes out of focus what was seen before no longer helped (IDS 0.527)."""
_EYES, _MOUTH, _RIM = (0.2, 0.48, 0.06), (0.17, 0.74, 0.09), 0.04
"""Where the eyes and the mouth of an aligned crop are, and the rim of both, in its sides."""
_SOFT = (0.7, 0.05)
"""Around eyes and mouth the tolerance is at most so many standard deviations of the grey values around a place, but at least the
second, or what noise makes. Grey eyes between pale lids differ from shut ones by less than `ALIKE`: blinks of films that were only
soft came out as open eyes. With this, the fourth power of the difference and `_AROUND`, where eyes are shut in three such films,
PSNR around them rose from 29.4 to 32.4 dB. Lips of people who speak moved half as far as they should (0.49, the mean of six films,
two of them good and four degraded), and 0.71 as far with it; 0.76 where good films are averaged less (`parts.clr`). On 25 clips
both together made of E*warp, 1.25 of the clean clips', 1.33, and of VIDD, 0.62, 0.86."""
_MOST_NOISE = 3.5
"""Standard deviations of the noise that the most of it in `_AROUND` may have."""
_DROWNED = (0.04, 0.07)
"""Standard deviation of the noise from which on it hides what eyes and mouths do, and at which one place no longer speaks for what
is around it: the worst of them is always noise. The noisiest of 25 clips has 0.07 (the others 0.004 to 0.03): its mouth came out
with the noise of each single frame (E*warp 5.5 of the clean clip's, PSNR there 26.5 dB; 3.4 and 27.0 dB with this). From 0.03 on,
lips of another film opened less far (0.63 of what they should, instead of 0.68)."""
_CERTAIN = (6.0, 0.012)
"""Standard deviations of the noise, and the least difference, that are tolerated around eyes and mouth at most, as a film becomes
perfect; so many times more by how near its tolerance is to `ALIKE`. Where a film is all but free of noise, an eye that opens within
four frames changed too little from each to the next, and came late."""
_AROUND = 80
"""Sides of the crop, in cells of 4 px, in which one place that differs speaks for all around it, at eyes and mouth. Over the whole
face that flickered more where films are noisy: E*warp 1.35 of the clean clips' instead of 1.24, on 25 clips."""
_MEDIAN = 0.6745
"""Median of the size of what is normally distributed, in standard deviations."""
_BEHIND, _AHEAD = 8.0, 4.0
"""Pictures that what lies before and what follows may weigh as much as. Of eight clips, with 4 before, identity deviated by 5 %
more; with 8 that follow, SqD was 0.3 % higher and nothing gained."""
APART = (1, 5)
"""Places apart of the crops that are compared. On eight clips 4 and 8, 6 alone, or 1, 3 and 7 told the motion as well (within
0.01 px); neighbours alone told it 0.1 px worse."""
BEHIND = 8
"""Places before the newest that is done whose comparisons still count; 4 and 12 were as good."""
_GRID = 16
"""Cells a side of the crop for which motion is told; with 32 it was as good, with 8 it missed by more."""
_STIFF = 1.5
"""How smoothly a face moves in its frame: square of what a codec leaves of wrong places over that of what changes a face's
acceleration from frame to frame. On six clips 0.3 flickered more (E*warp 0.113 for 0.104), and 5 where heads move fast (0.21 for
0.17 on three of them); a film whose codec made the face tremble held stiller with 5 (0.050 for 0.058)."""
_ASTRAY = 4.0
"""Distance of a comparison from what all say together at which its say has fallen to a half, px of a crop of 256."""
_ROUNDS = 3
"""Times the say is weighed anew."""
_SHAKEN = 0.75
"""Root mean square of how a face as a whole trembles in its frame, px of a crop of 256, at which most of it is taken for a shaken
camera."""
_REPEATED, _MOVES, _STEADIER = 0.15, 0.5, 4.0
"""Pictures show the one before them again where nine tenths of the face move by less than the first, from each to the next and from
that one to all of them, and half of it by more than the second to what was shown before or comes after (px of a crop of 256), and
by more than so many times as much. Films of 24 frames a second that are shown at 30 repeat every fourth picture, animation shows
each twice or four times, and films freeze. Taken for even motion, what they show was 1 to 2 px from where it was looked for, in all
pictures: on such a film, otherwise good, E*warp was 4.2 times its own instead of 1.7, and a face changed by 2.8 grey levels while
its picture stood still, instead of 0.1."""
_MIDDLE = np.flatnonzero(np.hypot(*np.meshgrid(*[np.linspace(-1, 1, _GRID)] * 2)) < 0.65)
"""Cells where a face is."""
Pair = tuple[int, int]
"""Two places."""


def compared(pictures: Mapping[int, NDArray[np.uint8]], known: Container[Pair] = ()) -> dict[Pair, Values]:
    """Optical flow between crops that lie `APART`, there and back, but for the pairs that are `known`.

    Args:
        pictures: place -> `(S, S, 3)` RGB uint8.

    Returns:
        The place of one crop, and of another -> `(G, G, 2)` px of the crop: what is at p in the one is at p + flow in the other.
    """

    def told(pair: Pair) -> Values:
        flow = geometry.calm_flow(*(pictures[place] for place in pair))
        return np.asarray(cv2.resize(flow, (_GRID, _GRID), interpolation=cv2.INTER_AREA), np.float32)

    pairs = ((place, place + way * apart) for place in pictures for apart in APART for way in (1, -1))
    new = [pair for pair in pairs if pair[1] in pictures and pair not in known]
    return dict(zip(new, at_once(told, new, cv2.getNumThreads()), strict=True))


class Motions:
    """The motion between the crops of a track, by all comparisons of them together.

    Optical flow between two degraded crops tells where a codec left the content, and noise: between neighbours it was further from
    the motion of the clean crops (0.87 px, on eight degraded clips) than rest was (0.50). But a face moves smoothly in its frame,
    and how the crop moves there is known. So the places of each cell of the crop are found that are nearest to all comparisons, by
    least squares with third differences held small (a smoothing as of Whittaker, 1923, of what is known by differences), and
    comparisons that disagree with the rest lose their say (iteratively reweighted). That was 0.36 px off, restored faces flickered
    a third as much, and all other figures were better as well. A face that trembles as a whole, by more than codecs make it, is
    filmed by a shaken camera, and followed as it is shown (smoothed, it lost 0.8 dB). Pictures that are shown again count as one
    (`_REPEATED`).

    Args:
        pairs: as of `compared`.
        matrices: place -> `(2, 3)` frame pixels -> crop pixels; places without a gap, those of `pairs` among them.
        side: S, of the crop.
    """

    def __init__(self, pairs: Mapping[Pair, Values], matrices: Mapping[int, geometry.Matrix], side: int) -> None:
        self._side, self._matrices = side, matrices
        self._places = {place: row for row, place in enumerate(sorted(matrices))}
        self._where, self._sure = self._settled(pairs)
        self._flows: dict[Pair, Values] = {}

    @classmethod
    def between(cls, pictures: Mapping[int, NDArray[np.uint8]]) -> Motions:
        """Of `(S, S, 3)` crops that all lie at one place of their frames."""
        side = next(iter(pictures.values())).shape[0]
        return cls(compared(pictures), dict.fromkeys(pictures, np.eye(2, 3)), side)

    def flow(self, here: int, there: int) -> Values:
        """`(S, S, 2)` pixels: what is at p in `here` is at p + flow in `there`."""
        if (here, there) not in self._flows:
            before = there - (1 if there > here else -1)
            if here == there:
                found = np.zeros((self._side, self._side, 2), np.float32)
            elif here == before:
                found = self._step(here, there)
            else:
                first = self.flow(here, before)
                found = first + geometry.carry(self.flow(before, there), first)
            self._flows[here, there] = found
        return self._flows[here, there]

    def trust(self, here: int, there: int) -> Values:
        """`(S, S)` in [0, 1]: share of the comparisons of the two with others that agree with the rest."""
        size = (self._side, self._side)
        own, other = (cv2.resize(self._sure[self._places[place]], size, interpolation=cv2.INTER_LINEAR) for place in (here, there))
        return np.asarray(np.minimum(own, geometry.carry(np.asarray(other, np.float32), self.flow(here, there))), np.float32)

    def _step(self, here: int, there: int) -> Values:
        moved = self._where[self._places[there]] - self._where[self._places[here]] + self._known(here, there)
        return np.asarray(cv2.resize(moved, (self._side, self._side), interpolation=cv2.INTER_CUBIC), np.float32)

    def _known(self, here: int, there: int) -> Values:
        """`(G, G, 2)`: what moves because the crop does."""
        return geometry.crop_motion(self._matrices[here], self._matrices[there], _GRID, self._side / _GRID)

    def _settled(self, pairs: Mapping[Pair, Values]) -> tuple[Values, Values]:
        """`(T, G, G, 2)` where each cell is in the frame, px of the crop, and `(T, G, G)` how far what was said of it agrees."""
        count, cells, px = len(self._places), _GRID**2, self._side / 256
        touched = np.zeros((len(pairs), count))
        told = np.zeros((len(pairs), cells, 2))
        for row, (pair, flow) in enumerate(pairs.items()):
            touched[row, [self._places[place] for place in pair]] = 1
            told[row] = (flow - self._known(*pair)).reshape(cells, 2)
        moment = np.cumsum(~_repeated({pair: told[row][_MIDDLE] / px for row, pair in enumerate(pairs)}, list(self._places))) - 1
        moments = moment[-1] + 1
        between = np.zeros((len(pairs), moments))
        for row, (here, there) in enumerate(pairs):
            between[row, moment[self._places[there]]] += 1
            between[row, moment[self._places[here]]] -= 1
        say: NDArray[Any] = np.ones((len(pairs), cells))
        shown: NDArray[Any] = np.zeros((cells, moments, 2))
        for _ in range(_ROUNDS if pairs else 0):
            weighted = between.T[None] * say.T[:, None]  # (cells, moments, pairs)
            shown = np.linalg.solve(weighted @ between + 1e-3 * np.eye(moments), weighted @ told.transpose(1, 0, 2))
            off = np.linalg.norm((between @ shown).transpose(1, 0, 2) - told, axis=-1)
            say = 1 / (1 + (off / (_ASTRAY * px)) ** 2)
        sure = (touched.T @ say) / np.maximum(touched.sum(0), 1)[:, None]
        bends = np.diff(np.eye(moments), 3, axis=0)
        where = np.linalg.solve(np.eye(moments) + _STIFF * bends.T @ bends, shown)
        as_one = _as_one(shown - where)
        trembles = np.sqrt((as_one[_MIDDLE] ** 2).sum(-1).mean()) / (_SHAKEN * px)
        where = where + (1 - np.exp(-(trembles**4))) * as_one
        grid = (count, _GRID, _GRID)
        placed = where.transpose(1, 0, 2)[moment].reshape(*grid, 2)
        return np.asarray(placed, np.float32), np.asarray(sure.reshape(grid), np.float32)


def _repeated(told: Mapping[Pair, NDArray[Any]], places: Sequence[int]) -> NDArray[np.bool_]:
    """`(T,)`: whether each of the `places` shows what the one before shows, while around it things move.

    Args:
        told: of pairs, the motion of cells of a face in its frame, `(C, 2)` px of a crop of 256.
    """

    def step(place: int) -> NDArray[Any]:
        ways = told.get((place - 1, place)), told.get((place, place - 1))
        return np.full((1, 2), math.nan) if ways[0] is None or ways[1] is None else (ways[0] - ways[1]) / 2

    def size(motion: NDArray[Any], quantile: float) -> float:
        return float(np.quantile(np.hypot(*motion.T), quantile))

    steps = [step(place) for place in places]
    most, half = (np.array([size(motion, quantile) for motion in steps]) for quantile in (0.9, 0.5))
    found = np.zeros(len(places), bool)
    moving = [-1, *np.flatnonzero(~(most < _REPEATED)), len(places)]
    for before, after in pairwise(moving):
        row = slice(before + 1, after)
        # What drifts slowly is still from each picture to the next, but not from the first of a row to its last.
        away = accumulate(steps[row], np.add)
        if before + 1 < after and all(size(motion, 0.9) < _REPEATED for motion in away):
            around = np.fmax(half[before] if before >= 0 else 0.0, half[after] if after < len(places) else 0.0)
            found[row] = around > max(_MOVES, _STEADIER * most[row].max())
    return found


def _as_one(motion: NDArray[Any]) -> NDArray[Any]:
    """What in `(cells, T, 2)` moves the face as a whole: an affine map, fitted to its middle."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, _GRID)] * 2)
    basis = np.stack([np.ones(_GRID**2), x.ravel(), y.ravel()], axis=1)
    fitted: NDArray[Any] = np.einsum("ck,km,mtd->ctd", basis, np.linalg.pinv(basis[_MIDDLE]), motion[_MIDDLE])
    return fitted


_SAME = 0.25
"""Difference of two views, blurred by a fortieth of the crop, at which the other's say has fallen to 0.6."""
_SAME_MOUTH = 0.1
"""The same around a mouth, where the place that differs most speaks for all within a twentieth of the crop: beside a view in
which somebody is silent, mouths opened half as far as they should. On the two worst of five films that are `mild`, 0.56 and
0.63 with this, PSNR there 25.30 and 25.40 dB, identity the same; 0.66 where no view tells of a mouth at all, which flickered
more; with less guidance (`parts.clr`), 0.65 with this and 0.62 with 0.15. Beside photographs with another expression, 24
`heavy` pictures, landmarks are nearer to the truth (LMD 1.124 and 1.089 px) and what identity a mouth seemed to tell is lost
(IDS 0.696 and 0.681; 0.688 with 0.15)."""


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What a place of a track shows together with all places on one side of it."""

    mean: Values
    """`(S, S, C)`, where that place has its content."""
    weight: Values
    """`(S, S, 1)`: how many pictures it is the mean of, each counted by its worth."""
    worth: float = 1.0
    """Mean worth of those pictures, in (0, 1]."""


@dataclass(frozen=True, slots=True, eq=False)
class Brought:
    """What a neighbour has gathered, carried to where a place has its content."""

    values: Values
    """`(S, S, C)`."""
    say: Values
    """`(S, S, 1)`: as how many pictures it counts there."""
    worth: float
    """As of `Gathered`."""


def brought(
    own: Values,
    here: int,
    there: int,
    known: Gathered,
    motions: Motions,
    tolerance: float | None = None,
    error: float | None = None,
) -> Brought:
    """What is `known` at a neighbour, at a place that shows `own`.

    A neighbour counts where its motion is consistent and where what it brings looks like what is there (`alike`): a mean over
    an eye that closes would show half a lid. The light is this picture's own (`relit`). What is gathered weighs as much as so many
    pictures of its worth: a picture that is worth little hardly changes what better ones before it have told.

    Args:
        own: `(S, S, C)` float32; the first three channels decide what looks alike, on the scale of [-1, 1].
        here: its place.
        there: the neighbour's.
        known: what is gathered there.
        motions: of the crops of both.
        tolerance: as in `alike`.
        error: as in `near_enough`; None: not asked.
    """
    motion = motions.flow(here, there)
    values = relit(geometry.carry(known.mean, motion, fine=True), own)
    most = known.worth * (_BEHIND if there < here else _AHEAD)
    say = motions.trust(here, there) * alike(own[..., :3], values[..., :3], tolerance)
    if error is not None:
        say = say * near_enough(own[..., :3], values[..., :3], error)
    return Brought(values, (say * geometry.carry(known.weight[..., 0], motion).clip(0, most))[..., None], known.worth)


def gathered(pile: Gathered, more: Brought) -> Gathered:
    """`pile`, with what was brought to its place."""
    weight = pile.weight + more.say
    share = float(more.say.mean()) / float(weight.mean())
    worth = (1 - share) * pile.worth + share * more.worth
    return Gathered(np.asarray((pile.weight * pile.mean + more.say * more.values) / weight, np.float32), weight, worth)


def means_along(
    values: Mapping[int, Values],
    places: Sequence[int],
    behind: Gathered | None,
    motions: Motions,
    tolerances: Mapping[int, float] | None = None,
    worth: Mapping[int, float] | None = None,
    errors: Mapping[int, float] | None = None,
) -> tuple[list[Values], Gathered]:
    """The mean of each picture with those before and behind it, along their motion.

    What went before is carried from picture to picture and gathers weight, and what follows is as well, from the end on: where
    a face holds still, over `_BEHIND` pictures and `_AHEAD` ones. Recursive filters along the motion, as in the denoising of
    video and of bursts (Ehmann et al. 2018), which need the motion from one picture to the next only.

    Args:
        values: place -> `(S, S, C)` float32, as `own` in `brought`: `places`, and without a gap those that follow and are known.
        places: in order, without a gap.
        behind: what is gathered at the place before them; None where the track begins.
        motions: of the crops that `values` belong to, and of the place before where there is `behind`.
        tolerances: as in `alike`, of each of `values`; None: of none.
        worth: in (0, 1], how much each of `values` counts beside the others; None: all the same.
        errors: as in `near_enough`, of each of `values`; None: of none.

    Returns:
        `(S, S, C)` for each of `places`, and `behind` for those after them.

    Raises:
        ValueError: no places.
    """
    if not places:
        raise ValueError("the mean of no places")

    def told(place: int, there: int, known: Gathered) -> Brought:
        tolerance, error = (None if one is None else one[place] for one in (tolerances, errors))
        return brought(values[place], place, there, known, motions, tolerance, error)

    def alone(place: int) -> Gathered:
        own = 1.0 if worth is None else worth[place]
        return Gathered(values[place], np.full((*values[place].shape[:2], 1), own, np.float32), own)

    before: dict[int, Gathered] = {}
    ahead: dict[int, Brought] = {}

    def forwards() -> None:
        known = behind
        for place in places:
            pile = alone(place)
            before[place] = known = pile if known is None else gathered(pile, told(place, place - 1, known))

    def backwards() -> None:
        known = alone(max(values))
        for place in range(max(values) - 1, places[0] - 1, -1):
            more = told(place, place + 1, known)
            if place <= places[-1]:
                ahead[place] = more
            known = gathered(alone(place), more)

    at_once(lambda way: way(), (forwards, backwards), cv2.getNumThreads())
    both = [gathered(before[place], ahead[place]) if place in ahead else before[place] for place in places]
    return [one.mean for one in both], before[places[-1]]


def laid_over(own: Values, view: Values) -> Values:
    """`view` of the same face, its content where `own` has it and in the light of that; both `(S, S, 3)` float32 in [-1, 1].

    Far apart in time there is no motion to follow from neighbour to neighbour, so the two are compared at once: restored ones.
    Where they differ in more than detail (a hand, an open mouth) `own` remains, and around a mouth the sooner.
    """
    motion = geometry.calm_flow(quantized(own, np.uint8), quantized(view, np.uint8))
    brought = relit(geometry.carry(view, motion, fine=True), own)
    apart = np.abs(cv2.GaussianBlur(own - brought, (0, 0), own.shape[0] / 40))
    same, strict = (_least(np.exp(-0.5 * (apart / tolerance) ** 2)) for tolerance in (_SAME, _SAME_MOUTH))
    side = own.shape[0]
    same = _stricter(same, _worst_around(strict, side // 20, side / 64), (_MOUTH,))[..., None]
    return np.asarray((own + same * (brought - own)).clip(-1, 1), np.float32)


def relit(brought: Values, own: Values) -> Values:
    """`brought` in the light of `own`, both `(S, S, C)`: what is larger than a quarter of the picture is taken from there.

    A light that changes within the look-ahead would else be late by the mean's width, and what is lit otherwise would not look
    alike: on a face under moving light the mean cost 1.3 dB.
    """
    side = own.shape[0]
    small = cv2.resize(own - brought, (side // 8, side // 8), interpolation=cv2.INTER_AREA)
    return np.asarray(brought + cv2.resize(cv2.GaussianBlur(small, (0, 0), side / 32), (side, side)), np.float32)


def alike(own: Values, brought: Values, tolerance: float | None = None) -> Values:
    """`(S, S)` in [0, 1]: 1 where two `(S, S, 3)` pictures agree in what is larger than noise, in size and in structure.

    Around eyes and mouth one place that does not speaks for all: of an eye that shuts, most looks alike all the time.

    Args:
        own, brought: on the scale of [-1, 1].
        tolerance: difference at which the say has fallen to 0.6; None: twice what noise makes here, told by the median over the
            face (robust merging of a burst: Wronski et al. 2019). A clean picture is not blurred by a motion that missed.
    """
    side = own.shape[0]
    difference = np.abs(cv2.GaussianBlur(own - brought, (0, 0), side / 85))
    inner = difference[side // 4 : -(side // 4), side // 4 : -(side // 4)]
    noise = float(np.median(inner)) / _MEDIAN
    allowed = float(np.clip(_NOISES * noise, *_TOLERANCES)) if tolerance is None else tolerance
    largest = np.asarray(reduce(np.maximum, np.moveaxis(difference, -1, 0)), np.float32)
    together, contrast = _structure(own, brought)
    low, high = _STRUCTURE
    structure = np.clip((cv2.resize(together, (side, side)) - low) / (high - low), 0, 1)
    say = np.exp(-0.5 * (largest / allowed) ** 2) * structure
    strict = cv2.resize(_strictly(largest, allowed, contrast, noise), (side, side)) * structure
    return _stricter(say, strict, (_EYES, _MOUTH))


def near_enough(own: Values, brought: Values, error: float) -> Values:
    """`(S, S)` in [0, 1]: 1 where `brought` differs from `own`, in fine detail as well, by no more than `own` is wrong.

    What a motion misses by is hidden from `alike`, which compares blurred pictures. On a film that is nearly clean the mean was
    worse than the frame for it (`_FARTHEST`). Both kinds of error grow with how steep a picture is, so they are compared by that.

    Args:
        own, brought: `(S, S, 3)` on the scale of [-1, 1].
        error: how wrong `own` is taken to be, root mean square.
    """
    low, high = _GOOD
    if error >= high:
        return np.ones(own.shape[:2], np.float32)
    side, grey = own.shape[0], mean_of_colours(own)
    around = partial(cv2.GaussianBlur, ksize=(0, 0), sigmaX=side / 40)
    apart = around(np.square(own - brought).mean(2))
    steep = around(sum(np.square(cv2.Sobel(grey, cv2.CV_32F, *way, scale=1 / 8)) for way in ((1, 0), (0, 1))))
    usual = float(steep[side // 4 : -(side // 4), side // 4 : -(side // 4)].mean())
    allowed = (_FARTHEST * max(error, 1e-4) / min(1.0, (high - error) / (high - low))) ** 2
    return np.asarray(np.exp(-0.5 * apart / (allowed * np.clip(steep / max(usual, 1e-8), *_STEEP))), np.float32)


def _strictly(largest: Values, tolerance: float, contrast: Values, noise: float) -> Values:
    """`(S / 4, S / 4)` in [0, 1]: how far a difference `(S, S)` lets what is around it be alike; see `_SOFT` and `_AROUND`."""
    side = largest.shape[0]
    certain = max(_CERTAIN[0] * noise, _CERTAIN[1]) / max(1 - tolerance / ALIKE, 1e-6)
    allowed = np.minimum(min(tolerance, certain), np.maximum(_SOFT[0] * contrast, max(_SOFT[1], _MOST_NOISE * noise)))
    small = cv2.resize(largest, contrast.shape[:2], interpolation=cv2.INTER_AREA)
    say = np.asarray(np.exp(-0.5 * (small / allowed) ** 4), np.float32)
    worst = _worst_around(say, max(1, side // _AROUND), side / 256)
    low, high = _DROWNED
    return worst + np.float32(np.clip((noise - low) / (high - low), 0, 1)) * (1 - worst)


def _worst_around(say: Values, reach: int, soft: float) -> Values:
    """The least within `reach` px of each place of `(H, W)`, blurred by `soft` px: one place speaks for all around it."""
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    return np.asarray(cv2.GaussianBlur(cv2.erode(say, around), (0, 0), soft), np.float32)


def _stricter(say: Values, strict: Values, boxes: tuple[_Box, ...]) -> Values:
    """`(side, side)`: `say`, and where any of the `boxes` is, no more than `strict`."""
    return np.asarray(say + _places(say.shape[0], boxes) * (np.minimum(say, strict) - say), np.float32)


@cache
def _places(side: int, boxes: tuple[_Box, ...]) -> Values:
    """`(side, side)` in [0, 1]: where any of some `boxes` of an aligned crop is, such as `_EYES`, with a soft rim."""
    x, y = np.meshgrid(*[(np.arange(side) + 0.5) / side] * 2)
    off = [np.maximum(np.abs(x - 0.5) - wide, np.abs(y - middle) - high) for wide, middle, high in boxes]
    return np.asarray(np.clip(1 - reduce(np.minimum, off) / _RIM, 0, 1), np.float32)


def _structure(own: Values, brought: Values) -> tuple[Values, Values]:
    """How two `(S, S, 3)` pictures go together around each place.

    Returns:
        `(S / 4, S / 4)` each: the correlation of their grey values, 1 where both are flat, and the larger one of their standard
        deviations.
    """
    side = own.shape[0]
    small = (side // 4, side // 4)
    one, other = (
        cv2.GaussianBlur(cv2.resize(mean_of_colours(values), small, interpolation=cv2.INTER_AREA), (0, 0), side / 370)
        for values in (own, brought)
    )
    a, b, aa, bb, ab = (
        cv2.GaussianBlur(values, (0, 0), side / 96) for values in (one, other, one * one, other * other, one * other)
    )
    spreads = np.maximum(aa - a * a, 0), np.maximum(bb - b * b, 0)
    together = (ab - a * b + _SLIGHT**2) / (np.sqrt(spreads[0] * spreads[1]) + _SLIGHT**2)
    return np.asarray(together, np.float32), np.asarray(np.sqrt(np.maximum(*spreads)), np.float32)


def _least(values: NDArray[Any]) -> NDArray[Any]:
    """The least of the last, short axis; many times as fast as numpy's own `min` over it."""
    return np.asarray(reduce(np.minimum, np.moveaxis(values, -1, 0)))


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

"""Two frames of one face with the motion between them: what temporal training learns from.

The frames come from real clips, whose motion is estimated on the clean side, and from stills that are moved by a seed, whose motion
is known exactly. Each clip is degraded as a clip (slowly changing, through a real codec), and each frame is given as the
restorer sees it along a track: as the mean with its neighbours, gathered along the motion of the degraded frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from videoclr import geometry
from videoclr.motion import Estimated, means_along
from videoclr.training.data import as_tensor
from videoclr.training.degrade_clip import degrade_clip
from videoclr.training.motion import Plan, draw, flow_between, move

Clip = NDArray[np.uint8]
_AGREES = float(np.exp(-1))
"""`geometry.consistency` at the limit of Sundaram, Brox and Keutzer's check."""


class _Clips(Dataset[dict[str, Any]]):
    """Endless samples from clips of `length` frames, filmed ones and stills that are moved, each a function of its number alone."""

    def __init__(self, faces: Clip, clips: Sequence[Clip], seed: int, levels: dict[str, float], length: int, real: float) -> None:
        self.faces, self.seed, self.levels, self.length = faces, seed, levels, length
        self.clips = [clip for clip in clips if len(clip) >= length]
        self.real = real if self.clips else 0.0

    def __len__(self) -> int:
        return 2**40

    def _level(self, rng: np.random.Generator) -> str:
        names = list(self.levels)
        shares = np.array([self.levels[name] for name in names], float)
        return names[int(rng.choice(len(names), p=shares / shares.sum()))]

    def _filmed(self, rng: np.random.Generator) -> Clip:
        clip = self.clips[int(rng.integers(len(self.clips)))]
        start = int(rng.integers(len(clip) - self.length + 1))
        return clip[start : start + self.length]

    def _still(self, rng: np.random.Generator) -> tuple[Plan, Clip]:
        plan = draw(self.length, int(rng.integers(2**31)))
        return plan, np.stack(list(move(self.faces[int(rng.integers(len(self.faces)))], plan)))


class MotionPairs(_Clips):
    """Endless pairs; number `n` is a function of `(seed, n)` alone.

    Args:
        faces: `(N, S, S, 3)` uint8 RGB, FFHQ-aligned stills.
        clips: `(T, S, S, 3)` uint8 RGB each, aligned crops of clean clips; may be empty.
        seed: of every choice.
        levels: recipes of `degrade_clip` with their shares.
        reach: frames that are known before the first and after the last one.
        apart: most frames between the two.
        real: share of pairs from `clips`, where there are any.
    """

    def __init__(
        self,
        faces: Clip,
        clips: Sequence[Clip],
        seed: int,
        levels: dict[str, float],
        reach: int = 3,
        apart: int = 3,
        real: float = 0.5,
    ) -> None:
        super().__init__(faces, clips, seed, levels, 2 * reach + apart + 1, real)
        self.reach, self.apart = reach, apart

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """`clean`, `degraded` (the means): `(2, 3, S, S)` in [-1, 1]; `flow` `(2, S, S)` px from the first to the second frame;
        `visible` `(1, S, S)` in {0, 1}."""
        rng = np.random.default_rng((self.seed, number))
        first = self.reach
        second = first + int(rng.integers(1, self.apart + 1))
        clip, flow, visible = self._clip(rng, first, second)
        if rng.random() < 0.5:
            clip, flow, visible = clip[:, :, ::-1], flow[:, ::-1] * np.array([-1, 1], np.float32), visible[:, ::-1]
        level = self._level(rng)
        worse = degrade_clip(np.ascontiguousarray(clip), int(rng.integers(2**31)), level)
        seen = self._means(worse, (first, second))
        return {
            "clean": torch.stack([as_tensor(clip[place]) for place in (first, second)]),
            "degraded": torch.from_numpy(seen.transpose(0, 3, 1, 2).copy()),
            "flow": torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1))),
            "visible": torch.from_numpy(np.ascontiguousarray(visible[None], np.float32)),
        }

    def _clip(self, rng: np.random.Generator, first: int, second: int) -> tuple[Clip, NDArray[np.float32], NDArray[np.bool_]]:
        """Frames, and the motion from `first` to `second` with where it is seen in both."""
        if rng.random() < self.real:
            frames = self._filmed(rng)
            return frames, *_estimated(frames[first], frames[second], frames.shape[1])
        plan, frames = self._still(rng)
        return frames, *flow_between(plan, first, second, frames.shape[1])

    def _means(self, worse: Clip, places: Sequence[int]) -> NDArray[np.float32]:
        """`(2, S, S, 3)` in [-1, 1]."""
        values = {place: picture.astype(np.float32) / np.float32(127.5) - 1 for place, picture in enumerate(worse)}
        motions = Estimated(dict(enumerate(worse)))
        means, _ = means_along(values, range(max(places) + 1), None, motions)
        return np.stack([means[place].clip(-1, 1) for place in places])


class MotionClips(_Clips):
    """Endless degraded clips of aligned crops with the motion from frame to frame; number `n` is a function of `(seed, n)` alone.

    A still is moved, degraded, and only then cut out frame by frame, by matrices that follow the head and tremble as those of found
    landmarks do: the codec's grid stands in the frame, not in the crop.

    Args:
        faces, clips, seed, levels, real: as of `MotionPairs`; `clips` are aligned already.
        length: frames of a clip.
        clean: share of clips that are not degraded.
    """

    def __init__(
        self,
        faces: Clip,
        clips: Sequence[Clip],
        seed: int,
        levels: dict[str, float],
        length: int = 10,
        real: float = 0.3,
        clean: float = 0.1,
    ) -> None:
        super().__init__(faces, clips, seed, levels, length, real)
        self.clean = clean

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """With h = S / 4, pair k being the frames k and k + 1, and 0 the way there, 1 the way back:

        `degraded`: `(T, 3, S, S)` uint8; `flow`: `(T - 1, 2, 2, h, h)` float16, x and y in px of the crop;
        `visible`: `(T - 1, 2, 1, h, h)` uint8, 1 where the other frame shows it too; `known`: as `flow`, what would move if nothing
        but the crop did.
        """
        rng = np.random.default_rng((self.seed, number))
        level = self._level(rng)
        seed, clean = int(rng.integers(2**31)), rng.random() < self.clean
        side = self.faces.shape[1]
        places = [(k + way, k + 1 - way) for k in range(self.length - 1) for way in (0, 1)]
        if rng.random() < self.real:
            clip = self._filmed(rng)
            crops = clip if clean else degrade_clip(np.ascontiguousarray(clip), seed, level)
            found = [_estimated(clip[first], clip[second], side // 4) for first, second in places]
            moves = [(flow * 4, seen) for flow, seen in found]
            known = np.zeros((len(places), side // 4, side // 4, 2), np.float32)
        else:
            plan, clip = self._still(rng)
            worse = clip if clean else degrade_clip(clip, seed, level)
            matrices = _following(plan, side, rng)
            cuts = [geometry.cut(picture, matrix, side) for picture, matrix in zip(worse, matrices, strict=True)]
            crops = np.clip(np.rint(np.stack(cuts)), 0, 255).astype(np.uint8)
            moves = [_in_crops(plan, matrices, first, second, side) for first, second in places]
            known = np.stack([geometry.crop_motion(matrices[a], matrices[b], side // 4, 4) for a, b in places])

        def stacked(values: NDArray[Any], dtype: Any) -> Tensor:
            pairs = values.reshape(self.length - 1, 2, *values.shape[1:]).transpose(0, 1, 4, 2, 3)
            return torch.from_numpy(np.ascontiguousarray(pairs, dtype))

        return {
            "degraded": torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))),
            "flow": stacked(np.stack([flow for flow, _ in moves]), np.float16),
            "visible": stacked(np.stack([seen for _, seen in moves])[..., None], np.uint8),
            "known": stacked(known, np.float16),
        }


def _following(plan: Plan, side: int, rng: np.random.Generator) -> list[geometry.Matrix]:
    """Frame pixels -> crop pixels for each frame: what a head's drift, turn and nearing are undone by, wholly or not at all, and
    not quite right."""
    follow = float(rng.random() < 0.8)
    worst = rng.uniform(0, 1) * np.array([0.5, 0.5, 0.004, 0.004])
    wrong = worst * rng.normal(size=(len(plan), 4))
    middle = np.array([0.5, 0.55]) * side - 0.5
    matrices = []
    for index in range(len(plan)):
        turn, zoom = follow * plan.turn[index] + wrong[index, 2], follow * plan.zoom[index] + wrong[index, 3]
        linear = np.exp(-zoom) * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        shift = middle + follow * side * plan.shift[index] + wrong[index, :2]
        matrices.append(np.column_stack([linear, middle - linear @ shift]))
    return matrices


def _in_crops(
    plan: Plan, matrices: Sequence[geometry.Matrix], first: int, second: int, side: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The exact motion between two crops, on a grid of cells of 4 px, in px of the crop, with where it is seen in both."""
    flow, seen = flow_between(plan, first, second, side // 2)
    grid = geometry.cells(side // 4, 4)
    place = geometry.moved(grid, geometry.inverted(matrices[first]))
    x, y = ((place[..., k] + 0.5) / 2 - 0.5 for k in (0, 1))
    known = np.dstack([2 * flow, seen.astype(np.float32)])
    read = cv2.remap(known, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    there = geometry.moved(place + read[..., :2], matrices[second])
    within = ((x >= 0) & (x <= side / 2 - 1) & (y >= 0) & (y <= side / 2 - 1)) & (read[..., 2] > 0.99)
    within &= ((there >= 0) & (there <= side - 1)).all(-1)
    return np.asarray(there - grid, np.float32), within


def _estimated(first: Clip, second: Clip, size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The motion between two clean pictures, by estimate, with where the way back agrees."""
    flow, back = geometry.flow(first, second), geometry.flow(second, first)
    agrees = geometry.consistency(flow, back) >= _AGREES
    if size == len(first):
        return flow, agrees
    smaller = cv2.resize(agrees.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return geometry.flow_at(flow, size), np.asarray(smaller > 0.99)


def aligned(crops: Sequence[Clip], length: int) -> list[Clip]:
    """Cut a run of crops into clips of at most `length` frames; what is shorter than half of it is dropped."""
    parts = [np.stack(crops[start : start + length]) for start in range(0, len(crops), length)]
    return [part for part in parts if len(part) >= length / 2]

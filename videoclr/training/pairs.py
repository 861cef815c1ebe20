"""Two frames of one face with the motion between them: what temporal training learns from.

The frames come from real clips, whose motion is estimated on the clean side, and from stills that are moved by a seed, whose motion
is known exactly. Each clip is degraded as a clip (slowly changing, through a real codec), and each frame is given as the
restorer sees it along a track: as the mean with its neighbours, gathered along the motion of the degraded frames.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from videoclr import geometry
from videoclr.motion import Motions, means_along
from videoclr.pixels import quantized, to_array
from videoclr.training.data import as_tensor, drawn_name, somebody
from videoclr.training.degrade_clip import degrade_clip
from videoclr.training.mosaic import Donors
from videoclr.training.motion import draw, flow_between, graded, move
from videoclr.types import FaceCrop, Faces, Frame

Clip = NDArray[np.uint8]
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
log = logging.getLogger("videoclr.training")
_AGREES = float(np.exp(-1))
"""`geometry.consistency` at the limit of Sundaram, Brox and Keutzer's check."""


class MotionPairs(Dataset[dict[str, Any]]):
    """Endless pairs; number `n` is a function of `(seed, n)` alone.

    Args:
        faces: `(N, S, S, 3)` uint8 RGB, FFHQ-aligned stills.
        clips: `(T, S, S, 3)` uint8 RGB each, aligned crops of clean clips; may be empty.
        seed: of every choice.
        levels: recipes of `degrade_clip` with their shares.
        reach: frames that are known before the first and after the last one.
        apart: most frames between the two.
        real: share of pairs from `clips`, where there are any.
        blended: share of the stills into which parts of another one are blended, as of `FacePairs`.
        graded: share of the pairs in another grading and light (`motion.graded`): portraits are brighter than films, and richer in
            contrast.
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
        blended: float = 0.0,
        graded: float = 0.0,
    ) -> None:
        self.faces, self.seed, self.levels, self.reach, self.apart = faces, seed, levels, reach, apart
        self.length = 2 * reach + apart + 1
        self.clips = [clip for clip in clips if len(clip) >= self.length]
        self.real = real if self.clips else 0.0
        self.blended, self.graded = blended, graded
        self.donors = Donors(faces) if blended else None

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """`clean`, `degraded` (the means): `(2, 3, S, S)` in [-1, 1]; `flow` `(2, S, S)` px from the first to the second frame;
        `visible` `(1, S, S)` in {0, 1}."""
        rng = np.random.default_rng((self.seed, number))
        first = self.reach
        second = first + int(rng.integers(1, self.apart + 1))
        clip, flow, visible = self._clip(rng, first, second)
        if rng.random() < 0.5:
            clip, flow, visible = clip[:, :, ::-1], flow[:, ::-1] * np.array([-1, 1], np.float32), visible[:, ::-1]
        if self.graded and rng.random() < self.graded:
            clip = graded(np.ascontiguousarray(clip), rng)
        level = drawn_name(self.levels, rng)
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
            clip = self.clips[int(rng.integers(len(self.clips)))]
            start = int(rng.integers(len(clip) - self.length + 1))
            frames = clip[start : start + self.length]
            flow, back = geometry.flow(frames[first], frames[second]), geometry.flow(frames[second], frames[first])
            return frames, flow, geometry.consistency(flow, back) >= _AGREES
        plan = draw(self.length, int(rng.integers(2**31)))
        row = int(rng.integers(len(self.faces)))
        still = self.faces[row]
        if self.donors is not None and rng.random() < self.blended:
            still = somebody(self.faces, row, False, self.donors, rng)
        frames = np.stack(list(move(np.ascontiguousarray(still), plan)))
        return frames, *flow_between(plan, first, second, frames.shape[1])

    def _means(self, worse: Clip, places: Sequence[int]) -> NDArray[np.float32]:
        """`(2, S, S, 3)` in [-1, 1]."""
        values = {place: picture.astype(np.float32) / np.float32(127.5) - 1 for place, picture in enumerate(worse)}
        motions = Motions.between(dict(enumerate(worse)))
        means, _ = means_along(values, range(max(places) + 1), None, motions)
        return np.stack([means[place].clip(-1, 1) for place in places])


def clips_of(
    folder: Path | None, kept: Path, faces_in: Callable[[Iterator[Frame]], Iterable[Faces[FaceCrop]]], most: int, length: int
) -> list[Clip]:
    """Aligned crops of the clips of a folder; found once and kept.

    Args:
        folder: of videos; None: no clips.
        kept: the `.npz` that keeps them.
        faces_in: the frames of a video -> the faces of each, aligned, with their tracks.
        most: frames of each video.
        length: frames of a clip, at most.
    """
    if folder is None:
        return []
    if not kept.exists():
        from videoclr.media.reader import Reader

        found: list[Clip] = []
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEOS):
            with Reader(path) as reader:
                tracks: dict[int, list[tuple[int, Clip]]] = {}
                for faces in faces_in(itertools.islice(reader.frames(), most)):
                    for crop in faces.faces:
                        picture = quantized(to_array(crop.image), np.uint8)
                        tracks.setdefault(crop.face.track, []).append((faces.frame.index, picture))
            for track in tracks.values():
                found += aligned([picture for _, picture in whole(track)], length)
            log.info("%s: %d clips so far", path.name, len(found))
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part.npz")
        np.savez(part, *found)
        part.replace(kept)
    with np.load(kept) as data:
        return [data[name] for name in data.files]


def whole(track: list[tuple[int, Clip]]) -> list[tuple[int, Clip]]:
    """The frames of a track up to its first gap."""
    return [one for place, one in enumerate(track) if one[0] == track[0][0] + place]


def aligned(crops: Sequence[Clip], length: int) -> list[Clip]:
    """Cut a run of crops into clips of at most `length` frames; what is shorter than half of it is dropped."""
    parts = [np.stack(crops[start : start + length]) for start in range(0, len(crops), length)]
    return [part for part in parts if len(part) >= length / 2]

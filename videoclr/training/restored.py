"""What the networks learn from that look at a restored face: faces, what they looked like, and what the restorer made of that.

A restoration costs a hundred times what a step on a patch of it does. So the pairs are made once, at twice the restorer's side,
and kept in files, and every step draws its patches from all of them. Stills are restored as pictures are, and films as tracks are:
that has fewer flaws, and others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from videoclr.models.closeup import enlarged
from videoclr.pixels import from_tensor
from videoclr.training.data import FacePairs, as_tensor, batches, drawn_name
from videoclr.training.degrade_clip import degrade_clip
from videoclr.training.motion import draw, graded, move
from videoclr.types import Detection, FaceCrop, Frame, TrackedFace

Pictures = NDArray[np.uint8]
log = logging.getLogger("videoclr.training")

_AT_ONCE = 8
"""Stills that are restored in one go."""
_LONG, _TAKEN = 8, slice(1, None, 2)
"""Frames of a film, and those of them that become pairs: two neighbours are nearly one picture."""
_BORDER = 4
"""Px of the restored face around a patch that the enlargement of it looks at."""
_MIDDLE = 0.06
"""Share of the side at each border in which no patch begins or ends: it is never shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """Pictures, uint8 RGB: `(P, L, L, 3)` and `(P, L / 2, L / 2, 3)`, L / 2 being the restorer's side."""

    clean: Pictures
    """`(P, L, L, 3)`."""
    degraded: Pictures
    """`(P, L, L, 3)`."""
    seen: Pictures
    """`(P, L / 2, L / 2, 3)`: the degraded face as the restorer sees it, in films as the mean along its motion."""
    restored: Pictures
    """`(P, L / 2, L / 2, 3)`."""


class Teacher(Protocol):
    """The restorer: `videoclr.parts.clr.ClrRestorer`."""

    def restore_stills(self, y: Tensor) -> Tensor:
        """`(N, 3, S, S)` in [-1, 1] -> the same."""
        ...

    def restore_span(
        self, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], first: bool, memory: dict[int, Any], batch: int
    ) -> Tensor:
        """The frames of a track -> `(N, 3, S, S)` in [-1, 1]; see the protocol in the stage `restore`."""
        ...

    def seen(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Sequence[Tensor | None]:
        """What frames that were restored last show; see the protocol in the stage `restore`."""
        ...


class Filmed(Dataset[dict[str, Tensor]]):
    """Endless short films, of clips and of stills that move, behind a real codec; number `n` is a function of `(seed, n)` alone.

    Args:
        faces: `(N, L, L, 3)` uint8 RGB, FFHQ-aligned.
        clips: `(T, L, L, 3)` uint8 RGB each, aligned crops of clean clips; may be empty.
        seed: of every choice.
        recipes: of `degrade_clip`, with their shares.
        graded: share of the films in another grading and light (`motion.graded`).
        real: share of them from `clips`, where there are any.
    """

    def __init__(
        self, faces: Pictures, clips: Sequence[Pictures], seed: int, recipes: dict[str, float], graded: float, real: float = 0.0
    ) -> None:
        self.faces, self.seed, self.recipes, self.graded = faces, seed, recipes, graded
        self.clips = [clip for clip in clips if len(clip) >= _LONG]
        self.real = real if self.clips else 0.0

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """`clean` and `degraded`: `(T, 3, L, L)` float32 in [-1, 1], in order of time."""
        rng = np.random.default_rng((self.seed, number))
        film = self._clip(rng) if rng.random() < self.real else self._moved(rng)
        film = np.ascontiguousarray(film[:, :, ::-1] if rng.random() < 0.5 else film)
        if rng.random() < self.graded:
            film = graded(film, rng)
        worse = degrade_clip(film, int(rng.integers(2**31)), drawn_name(self.recipes, rng))
        return {"clean": _tensors(film), "degraded": _tensors(worse)}

    def _clip(self, rng: np.random.Generator) -> Pictures:
        clip = self.clips[int(rng.integers(len(self.clips)))]
        start = int(rng.integers(len(clip) - _LONG + 1))
        return clip[start : start + _LONG]

    def _moved(self, rng: np.random.Generator) -> Pictures:
        still = np.ascontiguousarray(self.faces[int(rng.integers(len(self.faces)))])
        return np.stack(list(move(still, draw(_LONG, int(rng.integers(2**31))))))


def made_pairs(
    faces: Pictures, settings: dict[str, Any], teacher: Callable[[], Teacher], folder: Path, clips: Sequence[Pictures] = ()
) -> Restored:
    """`settings["pairs"]` pairs, from the files of `folder` where they are there already.

    Args:
        faces: `(N, L, L, 3)` uint8 RGB, FFHQ-aligned.
        settings: of the stage: `seed`, `levels`, `warp`, `pairs`, `filmed` (the share of them that are frames of `Filmed`),
            `recipes`, `graded`, `real` (where there are clips), `workers`.
        teacher: gives the restorer, whose crops are of L / 2 px; is called only if there are pairs to make.
        folder: is made.
        clips: of `Filmed`.

    Returns:
        them, mapped from files.
    """
    paths = [folder / f"{kind.name}.npy" for kind in fields(Restored)]
    count, side = settings["pairs"], faces.shape[1]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        parts = [path.with_suffix(".part") for path in paths]
        shapes = [(count, size, size, 3) for size in (side, side, side // 2, side // 2)]
        files = [np.lib.format.open_memmap(part, "w+", np.uint8, shape) for part, shape in zip(parts, shapes, strict=True)]
        restorer, filmed = teacher(), round(settings["filmed"] * count)
        kinds = ((_films(faces, clips, settings, restorer), 0, filmed), (_stills(faces, settings, restorer), filmed, count))
        for pairs, place, end in kinds:
            while place < end:
                made = astuple(next(pairs))
                taken = min(len(made[0]), end - place)
                for file, pictures in zip(files, made, strict=True):
                    file[place : place + taken] = pictures[:taken]
                place += taken
            log.info("%d of %d pairs are made", place, count)
        del files
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    return Restored(*(np.load(path, mmap_mode="r") for path in paths))


def _stills(faces: Pictures, settings: dict[str, Any], teacher: Teacher) -> Iterator[Restored]:
    """A few at a time."""
    data = FacePairs(faces, settings["seed"], settings["levels"], settings["warp"])
    for sample in batches(data, _AT_ONCE, 0, settings["workers"]):
        clean, degraded = (_pictures(sample[kind]) for kind in ("clean", "degraded"))
        seen = halved(degraded)
        yield Restored(clean, degraded, seen, _pictures(teacher.restore_stills(_tensors(seen))))


def _films(faces: Pictures, clips: Sequence[Pictures], settings: dict[str, Any], teacher: Teacher) -> Iterator[Restored]:
    """One film at a time."""
    data = Filmed(faces, clips, settings["seed"], settings["recipes"], settings["graded"], settings.get("real", 0.0))
    for sample in batches(data, 1, 0, settings["workers"]):
        clean, degraded = (_pictures(sample[kind][0]) for kind in ("clean", "degraded"))
        track, memory = _track(halved(degraded)), dict[int, Any]()
        restored = _pictures(teacher.restore_span(track, [], True, memory, _LONG))
        seen = _pictures([one for one in teacher.seen(track, memory) if one is not None])
        yield Restored(clean[_TAKEN], degraded[_TAKEN], seen[_TAKEN], restored[_TAKEN])


def _track(pictures: Pictures) -> list[FaceCrop]:
    """Aligned `(T, S, S, 3)` as a restorer is given the frames of one track."""
    side = pictures.shape[1]
    face = TrackedFace(0, Detection(np.array([0, 0, side, side], np.float32), np.zeros((5, 2), np.float32), 1.0))
    place = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    return [FaceCrop(face, Frame.from_image(one, number), as_tensor(one), place) for number, one in enumerate(pictures)]


def halved(pictures: Pictures) -> Pictures:
    """`(N, L, L, 3)` at half the side."""
    side = pictures.shape[1] // 2
    return np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in pictures]).astype(np.uint8)


def patches(pairs: Restored, side: int, count: int, rng: np.random.Generator) -> list[Tensor]:
    """Patches at the restorer's side, mirrored by chance: clean, seen and restored, `(count, 3, side, side)` in [-1, 1] each.

    Args:
        pairs: of `made_pairs`.
        side: of a patch, px.
        count: how many.
        rng: the only source of randomness.
    """
    whole = pairs.seen.shape[1]
    drawn: list[list[Pictures]] = [[], [], []]
    for _ in range(count):
        row = int(rng.integers(len(pairs.seen)))
        top, left = (int(place) for place in rng.integers(0, whole - side + 1, 2))
        cut = np.s_[row, top : top + side, left : left + side]
        large = np.s_[row : row + 1, 2 * top : 2 * (top + side), 2 * left : 2 * (left + side)]
        mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
        for place, one in zip(drawn, (halved(pairs.clean[large])[0], pairs.seen[cut], pairs.restored[cut]), strict=True):
            place.append(one[:, mirror])
    return [_tensors(one) for one in drawn]


def close_up_patches(pairs: Restored, side: int, count: int, rng: np.random.Generator) -> list[Tensor]:
    """Patches at twice that side, mirrored by chance, `(count, 3, side, side)` in [-1, 1]: clean, degraded, restored and enlarged.

    Args:
        pairs: of `made_pairs`.
        side: of a patch, px, even.
        count: how many.
        rng: the only source of randomness.
    """
    whole = pairs.clean.shape[1]
    least = max(2 * _BORDER, 2 * round(_MIDDLE * whole / 2))
    drawn: list[list[Pictures]] = [[], [], []]
    for _ in range(count):
        row = int(rng.integers(len(pairs.clean)))
        top, left = (2 * int(place) for place in rng.integers(least // 2, (whole - side - least) // 2 + 1, 2))
        cut = np.s_[row, top : top + side, left : left + side]
        wide = np.s_[
            row,
            top // 2 - _BORDER : (top + side) // 2 + _BORDER,
            left // 2 - _BORDER : (left + side) // 2 + _BORDER,
        ]
        mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
        for place, one in zip(drawn, (pairs.clean[cut], pairs.degraded[cut], pairs.restored[wide]), strict=True):
            place.append(one[:, mirror])
    clean, degraded, restored = (_tensors(one) for one in drawn)
    inner = slice(2 * _BORDER, 2 * _BORDER + side)
    return [clean, degraded, enlarged(restored, (side + 4 * _BORDER,) * 2)[..., inner, inner]]


def _pictures(tensors: Tensor | list[Tensor]) -> Pictures:
    """`(N, 3, H, W)` in [-1, 1] -> `(N, H, W, 3)`."""
    return np.stack([from_tensor(one) for one in tensors])


def _tensors(pictures: Pictures | list[Pictures]) -> Tensor:
    """The inverse of `_pictures`."""
    return torch.stack([as_tensor(one) for one in pictures])

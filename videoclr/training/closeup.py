"""What the network of close-ups learns from: faces at twice the restorer's side, degraded, beside what the restorer made of them.

A restoration costs a hundred times what a step on a patch of it does. So the pairs are made once and kept in files, and every step
draws its patches from all of them.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videoclr.models.closeup import enlarged
from videoclr.pixels import from_tensor
from videoclr.training.data import FacePairs, as_tensor, batches

Pictures = NDArray[np.uint8]
log = logging.getLogger("videoclr.training")

_KINDS = ("clean", "degraded", "restored")
_AT_ONCE = 8
"""Pairs that are made in one go."""
_BORDER = 4
"""Px of the restored face around a patch that the enlargement of it looks at."""
_MIDDLE = 0.06
"""Share of the side at each border in which no patch begins or ends: it is never shown."""


def made_pairs(
    faces: Pictures, settings: dict[str, Any], restore: Callable[[Tensor], Tensor], folder: Path
) -> tuple[Pictures, Pictures, Pictures]:
    """`settings["pairs"]` pairs, from the files of `folder` where they are there already.

    Args:
        faces: `(N, L, L, 3)` uint8 RGB, FFHQ-aligned.
        settings: of the stage: `seed`, `levels`, `warp`, `pairs`, `workers`.
        restore: `(N, 3, L / 2, L / 2)` in [-1, 1] -> the same, as the restorer would show them.
        folder: is made.

    Returns:
        clean and degraded `(P, L, L, 3)`, and restored `(P, L / 2, L / 2, 3)`, uint8 RGB, mapped from files.
    """
    paths = [folder / f"{kind}.npy" for kind in _KINDS]
    count, side = settings["pairs"], faces.shape[1]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        parts = [path.with_suffix(".part") for path in paths]
        shapes = [(count, size, size, 3) for size in (side, side, side // 2)]
        files = [np.lib.format.open_memmap(part, "w+", np.uint8, shape) for part, shape in zip(parts, shapes, strict=True)]
        data = FacePairs(faces, settings["seed"], settings["levels"], settings["warp"])
        samples = itertools.islice(batches(data, _AT_ONCE, 0, settings["workers"]), -(-count // _AT_ONCE))
        for number, sample in enumerate(samples):
            place = slice(_AT_ONCE * number, min(count, _AT_ONCE * (number + 1)))
            clean, degraded = (_pictures(sample[kind]) for kind in _KINDS[:2])
            small = np.stack([cv2.resize(one, (side // 2,) * 2, interpolation=cv2.INTER_AREA) for one in degraded])
            restored = _pictures(restore(_tensors(small)))
            for file, made in zip(files, (clean, degraded, restored), strict=True):
                file[place] = made[: place.stop - place.start]
        log.info("%d pairs are made", count)
        del files
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    clean, degraded, restored = (np.load(path, mmap_mode="r") for path in paths)
    return clean, degraded, restored


def patches(pairs: tuple[Pictures, Pictures, Pictures], side: int, count: int, rng: np.random.Generator) -> list[Tensor]:
    """A batch of patches, mirrored by chance: clean, degraded, and restored and enlarged, `(count, 3, side, side)` in [-1, 1] each.

    Args:
        pairs: of `made_pairs`.
        side: of a patch, px, even.
        count: how many.
        rng: the only source of randomness.
    """
    whole = pairs[0].shape[1]
    least = max(2 * _BORDER, 2 * round(_MIDDLE * whole / 2))
    drawn: list[list[Pictures]] = [[], [], []]
    for _ in range(count):
        row = int(rng.integers(len(pairs[0])))
        top, left = (2 * int(place) for place in rng.integers(least // 2, (whole - side - least) // 2 + 1, 2))
        cut = np.s_[row, top : top + side, left : left + side]
        wide = np.s_[
            row,
            top // 2 - _BORDER : (top + side) // 2 + _BORDER,
            left // 2 - _BORDER : (left + side) // 2 + _BORDER,
        ]
        mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
        for place, one in zip(drawn, (pairs[0][cut], pairs[1][cut], pairs[2][wide]), strict=True):
            place.append(one[:, mirror])
    clean, degraded, restored = (_tensors(one) for one in drawn)
    inner = slice(2 * _BORDER, 2 * _BORDER + side)
    return [clean, degraded, enlarged(restored, (side + 4 * _BORDER,) * 2)[..., inner, inner]]


def _pictures(tensors: Tensor) -> Pictures:
    """`(N, 3, H, W)` in [-1, 1] -> `(N, H, W, 3)`."""
    return np.stack([from_tensor(one) for one in tensors])


def _tensors(pictures: Pictures | list[Pictures]) -> Tensor:
    """The inverse of `_pictures`."""
    return torch.stack([as_tensor(one) for one in pictures])

"""Face crops for training: sample number `n` is a pure function of `(seed, n)`, so training resumes exactly where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from videoclr.training.degrade import degrade

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def load_faces(folder: str | Path, size: int) -> tuple[list[str], NDArray[np.uint8]]:
    """Every picture of a folder, sorted by name, area-averaged to `size`.

    Returns:
        the file names, and `(N, size, size, 3)` uint8 RGB.

    Raises:
        FileNotFoundError: the folder holds no picture.
    """
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"{folder}: no pictures ({', '.join(SUFFIXES)})")
    faces = np.empty((len(paths), size, size, 3), np.uint8)
    for place, path in zip(faces, paths, strict=True):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise FileNotFoundError(f"{path}: not a readable picture")
        place[:] = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)[:, :, ::-1]
    return [p.name for p in paths], faces


def as_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """`(H, W, 3)` uint8 -> `(3, H, W)` float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 127.5 - 1


class FacePairs(Dataset[dict[str, Any]]):
    """Endless pairs of a clean and a degraded crop.

    Args:
        faces: `(N, S, S, 3)` uint8 RGB, FFHQ-aligned.
        seed: of every random choice.
        levels: degradation families with their shares, or `{}` for `degraded` equal to `clean`.
        warp: strength in [0, 1] of the geometric variation (similarity, shear, aspect); 0 only mirrors.
        start: number of the first sample.
    """

    def __init__(self, faces: NDArray[np.uint8], seed: int, levels: dict[str, float], warp: float = 0.0, start: int = 0) -> None:
        self.faces, self.seed, self.levels, self.warp, self.start = faces, seed, levels, warp, start

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int) -> dict[str, Any]:
        """`clean`, `degraded`: `(3, S, S)` float32; `face`: the row of `faces`; `mirrored`."""
        rng = np.random.default_rng((self.seed, self.start + number))
        face = int(rng.integers(len(self.faces)))
        picture = self.faces[face]
        mirrored = bool(rng.random() < 0.5)
        picture = picture[:, ::-1] if mirrored else picture
        picture = self._vary(picture, rng)
        names = list(self.levels)
        worse = picture
        if names:
            level = names[int(rng.choice(len(names), p=np.array(list(self.levels.values())) / sum(self.levels.values())))]
            worse = degrade(picture, level, rng)
        return {"clean": as_tensor(picture), "degraded": as_tensor(worse), "face": face, "mirrored": mirrored}

    def _vary(self, picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        gain, gamma = rng.uniform(0.85, 1.15, 3) if rng.random() < 0.3 else np.ones(3), rng.uniform(0.75, 1.3)
        if rng.random() < 0.5:
            table = np.clip(np.rint(255 * (np.arange(256)[:, None] / 255) ** gamma * gain), 0, 255).astype(np.uint8)
            picture = np.stack([table[picture[..., c], c] for c in range(3)], axis=2)
        if self.warp == 0:
            return np.ascontiguousarray(picture)
        side, w = picture.shape[0], self.warp
        angle, scale, shear = rng.normal(0, 0.12 * w), np.exp(rng.normal(0, 0.06 * w)), rng.normal(0, 0.08 * w)
        aspect = np.exp(rng.normal(0, 0.06 * w))
        c, s = np.cos(angle), np.sin(angle)
        linear = np.array([[c, -s], [s, c]]) @ np.array([[scale * aspect, shear], [0, scale / aspect]])
        middle = np.array([side / 2, side * 0.55])
        shift = middle - linear @ middle + rng.normal(0, 0.02 * w * side, 2)
        return cv2.warpAffine(  # type: ignore[return-value]
            picture,
            np.column_stack([linear, shift]),
            (side, side),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )


def batches(data: FacePairs, size: int, step: int, workers: int = 1) -> Iterator[dict[str, Any]]:
    """Batches number `step`, `step + 1`, ... of `size` samples each, made by worker processes (0: in this one)."""
    data.start = step * size
    numbers = iter(range(2**40))

    class _InOrder(torch.utils.data.Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            return numbers

    loader = DataLoader(data, batch_size=size, sampler=_InOrder(), num_workers=workers, prefetch_factor=4 if workers else None)
    yield from loader

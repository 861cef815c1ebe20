"""Pairs of clean and degraded crops, made in batches on the GPU that trains: its machine has too few CPU cores to feed it.

The same variation and the same degradation as `FacePairs` with `degrade`, step by step with the same roundings: blur by FFT,
resizing by OpenCV's own weights as matrices, JPEG as libjpeg does it (4:2:0, smooth upsampling of the colour). What differs is
where the random numbers come from, and that `together` pictures of a batch share a small size, which their tensor has to have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from videoclr.training.data import MILD, MOVED, SAME_LIGHT, FacePairs, Others, batches, processes
from videoclr.training.degrade import Level, level_of
from videoclr.training.mosaic import Donors, draw_parts, mosaic, regions
from videoclr.training.motion import Plan, pose, shown_at

_COARSE = 64
"""Cells a side of the grid on which the warps of `posed_anew` are told: they are smooth."""


def face_batches(
    faces: NDArray[np.uint8],
    settings: dict[str, Any],
    step: int,
    device: torch.device,
    size: int = 0,
    identities: Tensor | None = None,
) -> Iterator[dict[str, Any]]:
    """Batches number `step`, `step + 1`, ... of clean and degraded crops, by the settings of a stage.

    Args:
        faces: `(N, S, S, 3)` uint8 RGB, FFHQ-aligned.
        settings: `seed`, `levels`, `warp`, `batch`, and `workers`: processes that make the samples, or `device`; `blended` and
            `posed` (0 without them), see `FacePairs`.
        step: the first batch.
        device: where the batches are put, or made.
        size: pictures per batch, where it is not the setting's.
        identities: as of `FacePairs`.

    Yields:
        `clean`, `degraded`, `reference`: `(B, 3, S, S)` float32 in [-1, 1] on `device`; `face` (rows of `faces`), `mirrored` and
        `blended` on the CPU.
    """
    size, strange = size or settings["batch"], {key: settings.get(key, 0.0) for key in ("blended", "posed")}
    strange["identities"] = identities
    if settings["workers"] == "device":
        made = DevicePairs(faces, settings["seed"], settings["levels"], settings["warp"], device, **strange)
        rank, world = processes()
        while True:
            yield made.batch(step * world + rank, size)
            step += 1
    pairs = FacePairs(faces, settings["seed"], settings["levels"], settings["warp"], **strange)
    for batch in batches(pairs, size, step, settings["workers"]):
        yield {name: value.to(device) if name in ("clean", "degraded", "reference") else value for name, value in batch.items()}


class DevicePairs:
    """Batches of pairs; number `n` of a size is a function of `(seed, n)` alone, on one kind of device.

    Args:
        faces, seed, levels, warp, blended, posed, identities: as of `FacePairs`.
        device: where all of it happens; it holds the faces.
        together: pictures that share one small size and its interpolation.
    """

    def __init__(
        self,
        faces: NDArray[np.uint8],
        seed: int,
        levels: dict[str, float],
        warp: float,
        device: torch.device,
        together: int = 8,
        blended: float = 0.0,
        posed: float = 0.0,
        identities: Tensor | None = None,
    ) -> None:
        self.faces = torch.from_numpy(np.array(faces)).to(device).permute(0, 3, 1, 2)
        self.seed, self.levels, self.warp, self.device = seed, levels, warp, device
        self.together, self.blended, self.posed = together, blended, posed
        self.others = None if identities is None else Others(identities)
        self.donors = Donors(faces) if blended else None

    @torch.no_grad()
    def batch(self, number: int, size: int) -> dict[str, Any]:
        """`clean`, `degraded` and, where asked for, `reference`: `(size, 3, S, S)` float32 in [-1, 1]; `face` int64, `mirrored`,
        `blended` bool: `(size,)`."""
        with torch.autocast(self.device.type, enabled=False):  # half precision would round the resizing
            return self._made(number, size)

    def _made(self, number: int, size: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, number))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        rows = rng.integers(len(self.faces), size=size)
        pairs = {} if self.others is None else {place: pair for place in range(size) if (pair := self.others.pair(rng))}
        for place, (row, _) in pairs.items():
            rows[place] = row
        mirrored = rng.random(size) < 0.5
        clean = self.faces[torch.from_numpy(rows).to(self.device)].float()
        clean = torch.where(self._on(mirrored)[:, None, None, None], clean.flip(3), clean)
        blended = np.zeros(size, bool)
        if self.donors is not None:
            blended = rng.random(size) < self.blended
            blended[list(pairs)] = False
            given = [self.donors.of(int(rows[place]), bool(mirrored[place]), rng) for place in np.flatnonzero(blended)]
            clean = self._blended(clean, blended, given, rng)
        someone = shown = clean
        if self.posed:
            clean = shown = self._posed(someone, rng.random(size) < self.posed, rng)
        light = Light.drawn(size, rng)
        clean = warped(light.on(clean), self.warp, rng)
        made = {
            "clean": clean / 127.5 - 1,
            "degraded": self._degraded(clean, self.levels, rng, generator) / 127.5 - 1,
            "face": torch.from_numpy(rows),
            "mirrored": torch.from_numpy(mirrored),
            "blended": torch.from_numpy(blended),
        }
        if self.others is not None:
            someone, shown = someone.clone(), shown.clone()
            for place, (_, row) in pairs.items():
                mate = self.faces[row].float()
                someone[place] = shown[place] = mate.flip(2) if mirrored[place] else mate
            moving = rng.random(size) < MOVED
            other = torch.where(self._on(moving)[:, None, None, None], self._posed(someone, moving, rng), shown)
            other = warped(light.mixed(Light.drawn(size, rng), rng.random(size) < SAME_LIGHT).on(other), self.warp, rng)
            made["reference"] = self._degraded(other, {"mild": MILD, "heavy": 1 - MILD}, rng, generator) / 127.5 - 1
        return made

    @staticmethod
    def _posed(pictures: Tensor, moving: NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
        return posed_anew(pictures, [pose(int(rng.integers(2**31))) if moves else None for moves in moving])

    def _degraded(self, pictures: Tensor, levels: dict[str, float], rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        if not levels:
            return pictures
        names, shares = list(levels), np.array(list(levels.values()))
        parts = []
        for part in pictures.split(self.together):
            level = names[int(rng.choice(len(names), p=shares / shares.sum()))]
            parts.append(degrade_batch(part, level, rng, generator))
        return torch.cat(parts)

    def _blended(
        self, clean: Tensor, blended: NDArray[np.bool_], given: list[tuple[int, bool]], rng: np.random.Generator
    ) -> Tensor:
        """Those of the faces each with parts of the one that is `given` for it, by row and whether mirrored."""
        if not given:
            return clean
        which = self._on(np.flatnonzero(blended))
        others = self.faces[self._on(np.array([row for row, _ in given]))].float()
        turned = self._on(np.array([turned for _, turned in given]))[:, None, None, None]
        where = regions([draw_parts(rng) for _ in given], clean.shape[-1], self.device)
        return clean.index_copy(0, which, mosaic(clean[which], torch.where(turned, others.flip(3), others), where))

    def _on(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.asarray(values)).to(self.device)


@dataclass(frozen=True, slots=True)
class Light:
    """Gain and gamma of each picture of a batch, drawn as `FacePairs` draws them for one."""

    gain: NDArray[np.float64]
    """`(N, 3)`."""
    gamma: NDArray[np.float64]
    """`(N, 1)`."""

    @classmethod
    def drawn(cls, count: int, rng: np.random.Generator) -> Light:
        """Of `count` pictures; about half of them keep the light they have."""
        gain = np.where(rng.random((count, 1)) < 0.3, rng.uniform(0.85, 1.15, (count, 3)), 1.0)
        gamma, lit = rng.uniform(0.75, 1.3, (count, 1)), rng.random((count, 1)) < 0.5
        return cls(np.where(lit, gain, 1.0), np.where(lit, gamma, 1.0))

    def mixed(self, other: Light, own: NDArray[np.bool_]) -> Light:
        """This one where it is `own` `(N,)`, else `other`."""
        return Light(np.where(own[:, None], self.gain, other.gain), np.where(own[:, None], self.gamma, other.gamma))

    def on(self, pictures: Tensor) -> Tensor:
        """`(N, 3, S, S)` of whole code values -> the same."""
        gain, gamma = (pictures.new_tensor(values)[:, :, None, None] for values in (self.gain, self.gamma))
        return _rounded(255 * (pictures / 255) ** gamma * gain)


def warped(pictures: Tensor, warp: float, rng: np.random.Generator) -> Tensor:
    """`(N, 3, S, S)` of whole code values -> the same at another place, as `FacePairs` warps one."""
    count, side = len(pictures), pictures.shape[-1]
    if warp == 0:
        return pictures
    angle, scale, shear = (
        rng.normal(0, 0.12 * warp, count),
        np.exp(rng.normal(0, 0.06 * warp, count)),
        rng.normal(0, 0.08 * warp, count),
    )
    aspect, zero = np.exp(rng.normal(0, 0.06 * warp, count)), np.zeros(count)
    c, s = np.cos(angle), np.sin(angle)
    stretch = np.array([[scale * aspect, shear], [zero, scale / aspect]])
    linear = np.einsum("ijn,jkn->nik", np.array([[c, -s], [s, c]]), stretch)
    middle = np.array([side / 2, side * 0.55])
    shift = middle - linear @ middle + rng.normal(0, 0.02 * warp * side, (count, 2))
    return moved(pictures, linear, shift)


def moved(pictures: Tensor, linear: NDArray[np.float64], shift: NDArray[np.float64]) -> Tensor:
    """Square pictures `(N, C, S, S)` by `p -> linear p + shift` px: what OpenCV's `warpAffine` does, cubic, reflected."""
    half, back = (pictures.shape[-1] - 1) / 2, np.linalg.inv(linear)
    # grid_sample counts from -1 to 1 between the middles of the outermost pixels.
    offset = (np.einsum("nij,nj->ni", back, half - shift) - half) / half
    theta = torch.from_numpy(np.concatenate([back, offset[:, :, None]], axis=2).astype(np.float32)).to(pictures.device)
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=True)
    return _rounded(F.grid_sample(pictures, grid, "bicubic", "reflection", align_corners=True))


def posed_anew(pictures: Tensor, plans: Sequence[Plan | None]) -> Tensor:
    """`(N, 3, S, S)` of whole code values -> the same, each in the first frame of its plan, as `motion.move` shows it."""
    side, middles = pictures.shape[-1], (np.arange(_COARSE) + 0.5) / _COARSE
    rest = np.stack(np.meshgrid(middles, middles), axis=-1)
    off = [np.zeros_like(rest) if plan is None else (shown_at(plan, 0, _COARSE) + 0.5) / _COARSE - rest for plan in plans]
    shift = torch.from_numpy(np.stack(off).astype(np.float32)).permute(0, 3, 1, 2).to(pictures.device)
    shift = F.interpolate(shift, size=(side, side), mode="bicubic")
    theta = torch.eye(2, 3, device=pictures.device).expand(len(plans), 2, 3)
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False) + 2 * shift.permute(0, 2, 3, 1)
    return _rounded(F.grid_sample(pictures, grid, "bicubic", "reflection", align_corners=False))


def degrade_batch(pictures: Tensor, level: str | Level, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """Degrade square crops: as `degrade`, with one small size and one way to it for all of them.

    Args:
        pictures: `(N, 3, S, S)` RGB float32, whole code values in [0, 255].
        level: `mild`, `heavy` or ranges.
        rng: of every choice.
        generator: of the noise, on the pictures' device.

    Returns:
        the same shape, whole code values.
    """
    ranges = level_of(level) if isinstance(level, str) else level
    count, side, device = len(pictures), pictures.shape[-1], pictures.device
    blurred = _rounded(_blurred(pictures, ranges.sigma, rng))
    small = max(8, round(512 / rng.uniform(*ranges.factor)))
    way = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    shrunk = _rounded(_resized(blurred, small, way))
    sigma = torch.from_numpy(rng.uniform(*ranges.noise, (count, 1, 1, 1)).astype(np.float32)).to(device)
    noise = torch.randn(shrunk.shape, generator=generator, device=device)
    grey = torch.from_numpy(rng.random((count, 1, 1, 1)) < 0.2).to(device)
    noisy = _rounded(shrunk + sigma * torch.where(grey, noise[:, :1], noise))
    decoded = jpeg(noisy, rng.integers(ranges.jpeg[0], ranges.jpeg[1] + 1, count))
    back = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])) if small < side else cv2.INTER_AREA
    return _rounded(_resized(decoded, side, back))


def jpeg(pictures: Tensor, quality: NDArray[np.integer[Any]]) -> Tensor:
    """What JPEG leaves of pictures (ISO/IEC 10918-1, tables of annex K; colour at half the resolution).

    Args:
        pictures: `(N, 3, H, W)` RGB float32, whole code values.
        quality: `(N,)` in 1..100, as libjpeg counts.

    Returns:
        the same shape, whole code values.
    """
    height, width = pictures.shape[2:]
    padded = F.pad(pictures, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = _rounded(
        torch.einsum("ij,njhw->nihw", pictures.new_tensor(_YCC), padded) + pictures.new_tensor([0, 128, 128]).view(3, 1, 1)
    )
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None, None, None]
    tables = np.clip((np.array([_LUMA, _CHROMA])[None] * scale + 50) // 100, 1, 255)
    steps = torch.from_numpy(tables.astype(np.float32)).to(pictures.device)
    luma = _quantised(ycc[:, :1], steps[:, :1])
    colour = _quantised(_rounded(F.avg_pool2d(ycc[:, 1:], 2)), steps[:, 1:])
    colour = F.interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False).round()
    said = torch.cat([luma, colour - 128], dim=1)[:, :, :height, :width]
    return _rounded(torch.einsum("ij,njhw->nihw", pictures.new_tensor(_RGB), said))


def _quantised(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes `(N, C, H, W)` after quantisation of their 8x8 cosine transforms by steps `(N, 1, 8, 8)`."""
    n, c, h, w = planes.shape
    basis = planes.new_tensor(_COSINES)
    blocks = (planes - 128).view(n, c, h // 8, 8, w // 8, 8)
    spectrum = torch.einsum("ui,ncyixj,vj->ncyuxv", basis, blocks, basis)
    table = steps[:, :, None, :, None, :]
    kept = (spectrum / table).round() * table
    return _rounded(torch.einsum("ui,ncyuxv,vj->ncyixj", basis, kept, basis).reshape(n, c, h, w) + 128)


def _blurred(pictures: Tensor, sigma: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """By isotropic or anisotropic Gaussians, each picture by its own."""
    count, scale, device = len(pictures), pictures.shape[-1] / 512, pictures.device
    first = rng.uniform(*sigma, count) * scale
    second = np.where(rng.random(count) < 0.5, first, rng.uniform(*sigma, count) * scale)
    drawn = np.stack([first, second, rng.uniform(0, np.pi, count)]).astype(np.float32)
    a, b, angle = torch.from_numpy(drawn).to(device)[:, :, None, None]
    reach = torch.ceil(2.5 * torch.maximum(a, b)).clamp(min=1)
    radius = int(np.ceil(2.5 * max(sigma) * scale))
    line = torch.arange(-radius, radius + 1, device=device, dtype=torch.float32)
    y, x = line[None, :, None], line[None, None, :]
    u, v = x * angle.cos() + y * angle.sin(), -x * angle.sin() + y * angle.cos()
    kernel = torch.exp(-0.5 * ((u / a.clamp(min=0.05)) ** 2 + (v / b.clamp(min=0.05)) ** 2))
    kernel = kernel * ((x.abs() <= reach) & (y.abs() <= reach))
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    padded = F.pad(pictures, (radius,) * 4, mode="reflect")
    size = list(padded.shape[2:])
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=size)[:, None]
    # The kernel's middle is at `radius`, which shifts the result by as much: what is kept begins at twice of it.
    whole: Tensor = torch.fft.irfft2(spectrum, s=size)
    return whole[..., 2 * radius :, 2 * radius :]


def _resized(pictures: Tensor, side: int, way: int) -> Tensor:
    """Square pictures at another side."""
    matrix = _weights(pictures.shape[-1], side, way, pictures.device)
    return matrix @ pictures @ matrix.T


@lru_cache(maxsize=4096)
def _weights(old: int, new: int, way: int, device: torch.device) -> Tensor:
    """`(new, old)`: OpenCV's resizing of one side. Kept where it is used: a GPU would wait for it to be sent."""
    return torch.from_numpy(np.ascontiguousarray(cv2.resize(np.eye(old, dtype=np.float32), (old, new), interpolation=way))).to(
        device
    )


def _rounded(pictures: Tensor) -> Tensor:
    return pictures.round().clamp(0, 255)


_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_RGB = np.linalg.inv(_YCC).tolist()
_COSINES = [[(0.125**0.5 if u == 0 else 0.5) * float(np.cos((2 * i + 1) * u * np.pi / 16)) for i in range(8)] for u in range(8)]
# ISO/IEC 10918-1, tables K.1 and K.2.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)

"""Faces in the light that the networks know, and their answer in the light of the film.

The networks learned from photographs. Footage in a logarithmic curve, a dark scene or a stage in one colour shows faces that they
never saw: what they make of those has the contrast of a photograph, and is worse than what went in. So they are shown a crop whose
channels have means and spreads within the range of the photographs (an affine map of each channel), and only what they changed of
it is applied to the crop, divided by the same gain. A face in usual light stays as it is, to the bit, and so does whatever the map
would cut off, such as a lamp beside a dark face.

Along a track the light of its frames is averaged, so that the map stands still (`followed`).

Of 12 held-out faces behind `mild`, with the footage's curve laid over them afterwards, scored without it (IDS of the recovery
alone; 0.872 in plain light): a logarithmic curve 0.729 as they were and 0.853 brought to usual light, a quarter of the contrast
0.528 and 0.854, a fifth of the light 0.595 and 0.858, blue light 0.504 and 0.858.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videoclr.grain import calmed
from videoclr.packing import keepable
from videoclr.pixels import to_array

_SEEN = {
    "means": (((0.25, 0.90), (0.16, 0.80), (0.12, 0.78)), ((0.48, 0.82), (0.32, 0.66), (0.26, 0.62))),
    "spreads": (((0.055, 0.30), (0.042, 0.27), (0.039, 0.27)), ((0.12, 0.26), (0.095, 0.23), (0.09, 0.22))),
}
"""Mean and standard deviation over `_FACE` of red, green and blue, in shares of white. What lies outside the first ranges is
brought into the second, from the 5th to the 95th percentile of 334 training faces. The first are wider than those of ordinary
films, which this is not for: soft light and blur left 0.067 to 0.16 of spread in faces of five clips behind `mild`, a logarithmic
curve 0.05 (median), a quarter of the contrast 0.04, a fifth of the light 0.03. With the 1st to the 99th percentile (0.1 to 0.28)
one of the five lost 0.03 of IDS."""
_STEEP = 8.0
"""How much further in what lies a little further out is brought. IDS of 24 faces with 3, 8 and a step: logarithmic 0.789, 0.792 and
0.801, a quarter of the contrast 0.802, 0.825 and 0.832, a fifth of the light 0.825, 0.830 and 0.830. A step would be seen where a
face lies at the border."""
_MEMORY = 12
"""Frames over which the light of a track is averaged."""
_CHANGED = 0.2
"""Difference of two frames' means, as a share of white and as the networks would see it, or of the logarithms of their spreads,
from which on it is another light: a lamp that is switched on is followed at once. A face that turns, or a codec, changes both
by less from frame to frame. Where contrasts are made larger, so is what a mean lags behind a light that fades: in a logarithmic
curve that rose by 4 / 255 from frame to frame, faces were cut off at white, and flickered five times as much."""
_MOST = 8.0
"""The largest gain: of a channel that shows nothing more would be noise."""
_NONE = 1e-3
"""The least spread that is reckoned with."""
_FACE = (slice(64, 208), slice(64, 192))
"""Rows and columns, in 256ths of the crop's side, where every face is skin and features."""


@dataclass(frozen=True, slots=True, eq=False)
class InUsualLight:
    """Crops as the networks are to see them."""

    images: Tensor
    """`(N, 3, S, S)` RGB float32 in [-1, 1]."""
    filmed: Tensor
    """`(N, 3, S, S)` the crops as they came."""
    gain: Tensor
    """`(N, 3, 1, 1)` by which contrasts are larger in `images`."""
    moved: tuple[int, ...]
    """Rows of the crops that did not come in usual light."""

    def beside(self, others: Tensor) -> Tensor:
        """Other pictures of the same faces in the film's light, `(N, 3, S, S)` in [-1, 1] on the CPU, as `images` show them."""
        if not self.moved:
            return others
        rows, out = list(self.moved), others.clone()
        out[rows] = (self.images[rows] + (others[rows] - self.filmed[rows]) * self.gain[rows]).clamp(-1, 1)
        return out

    def returned(self, restored: Tensor) -> Tensor:
        """What the networks made of `images`, in the light of the film.

        Args:
            restored: `(N, 3, S, S)` in [-1, 1], on the CPU.

        Returns:
            `(N, 3, S, S)` in [-1, 1]; of crops that came in usual light, `restored` to the bit.
        """
        if not self.moved:
            return restored
        rows, out = list(self.moved), restored.clone()
        changed = (restored[rows] - self.images[rows]) / self.gain[rows]
        out[rows] = (self.filmed[rows] + changed).clamp(-1, 1)
        return out


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """In which a face is seen."""

    means: NDArray[np.float64]
    """`(3,)` of red, green and blue where every face is skin and features, in shares of white."""
    spreads: NDArray[np.float64]
    """`(3,)` standard deviations there."""
    frames: int = 1
    """That tell it."""


def light_of(crop: Tensor) -> Light:
    """That of an aligned crop `(3, S, S)` in [-1, 1]."""
    side = crop.shape[-1]
    rows, columns = (slice(part.start * side // 256, part.stop * side // 256) for part in _FACE)
    face = to_array(crop)[rows, columns].reshape(-1, 3).astype(np.float64)
    return Light((face.mean(0) + 1) / 2, np.maximum(face.std(0) / 2, _NONE))


def followed(before: Light | None, now: Light) -> Light:
    """The light of a frame of a track: a mean over those before, as far as it is still the same light.

    Where a crop lies at the border of what the networks know, its own light would bring it in now more and now less, and neighbours
    that are compared and averaged (`motion`) would differ by that.

    Args:
        before: what this gave for the frame before; None for the first one.
        now: the frame's own.
    """
    if before is None:
        return now
    gain, _ = _map_of(before)
    apart = max((gain * np.abs(now.means - before.means)).max(), np.abs(np.log(now.spreads / before.spreads)).max())
    if apart > _CHANGED:
        return now
    frames = min(before.frames + 1, _MEMORY)
    means, spreads = (a + (b - a) / frames for a, b in ((before.means, now.means), (before.spreads, now.spreads)))
    return Light(means, spreads, frames)


def usual(crops: Tensor, lights: Sequence[Light] | None = None) -> InUsualLight:
    """Aligned crops in usual light.

    Args:
        crops: `(N, 3, S, S)` RGB float32 in [-1, 1].
        lights: in which each is seen; None: each tells it by itself.

    Returns:
        What the networks are to see, on the CPU.
    """
    crops = crops.cpu()
    images, gains, moved = crops, torch.ones(len(crops), 3, 1, 1, dtype=torch.float32), list[int]()
    for row, crop in enumerate(crops):
        gain, offset = _map_of(light_of(crop) if lights is None else lights[row])
        if (gain == 1).all() and (offset == 0).all():
            continue
        if not moved:
            images = crops.clone()
        moved.append(row)
        gains[row, :, 0, 0] = torch.from_numpy(gain)
        images[row] = (crop * gains[row] + torch.from_numpy(offset)[:, None, None]).clamp(-1, 1)
    return InUsualLight(images, crops, gains, tuple(moved))


def calm(images: Tensor) -> Tensor:
    """`(N, 3, S, S)` on the CPU without noise in every pixel (`grain.calmed`), each for itself."""
    pictures = [calmed(to_array(image)) for image in images]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _map_of(light: Light) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gain and offset, `(3,)` each, of the channels in [-1, 1] of a crop in that light; exactly 1 and 0 in usual light."""
    means, spreads = light.means, light.spreads
    # The strongest channel first, and the others with it: so faces without contrast keep the colour they have, and the lit channel
    # of coloured light, which is as it should be, stays.
    wide, narrow = (ranges[0] for ranges in _SEEN["spreads"])
    together = _brought(spreads.max(), wide, narrow) / spreads.max()
    spread = [_brought(together * one, *ranges) for one, *ranges in zip(spreads, *_SEEN["spreads"], strict=True)]
    mean = [_brought(one, *ranges) for one, *ranges in zip(means, *_SEEN["means"], strict=True)]
    gain = np.minimum(np.array(spread) / spreads, _MOST)
    offset = np.where((gain == 1) & (mean == means), 0.0, 2 * (mean - gain * means) + gain - 1)
    return gain.astype(np.float32), offset.astype(np.float32)


def _brought(value: float, wide: tuple[float, float], narrow: tuple[float, float]) -> float:
    """`value` where it lies inside `wide`; else brought into `narrow`, from near outside less far, so that nothing jumps."""
    if value < wide[0]:
        return min(narrow[0], wide[0] + _STEEP * (wide[0] - value))
    if value > wide[1]:
        return max(narrow[1], wide[1] - _STEEP * (value - wide[1]))
    return value

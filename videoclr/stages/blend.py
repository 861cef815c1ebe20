"""Put the restored faces back, as patches over the frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr import geometry
from videoclr.bookmark import NOWHERE, Inside
from videoclr.flow import Around, around
from videoclr.grain import cored, fine_noise, flat_places, made, measured, noisiness
from videoclr.packing import keepable
from videoclr.pixels import mean_of_colours, normalized, peak, quantized, to_array
from videoclr.types import Faces, Frame, Patch, Rectangle, RestoredFace

_VISIBLE = 1 / 1024  # alpha below a quarter of an 8-bit step changes nothing
_COARSE = 4  # colours are compared at a quarter of the crop's size, or at 64 px: a wide blur is then cheap
_FINEST = 64
_GREY = (
    0.015,
    0.03,
)  # spread of the colour over a face, on the scale of [-1, 1]: below the first there is none, a codec's noise aside
_REACH = 1 / 10  # standard deviation of the colour comparison's blur, in crop sides
_BLACK = 12 / 255  # what a codec may leave in a bar beside the picture, as a share of white
_STRIP = 16  # lines of a bar that are looked at together
_SEAM = 4  # lines beside a bar over which a face comes in: what the networks make beside black is darker, and shows there as a line
_ALIKE = 0.04  # difference of two frames' shifts, on the scale of [-1, 1], at which they count as two lights: a codec pumps less


def blend(
    restored: Iterable[Faces[RestoredFace]],
    strength: float = 1.0,
    match_color: bool = True,
    detail: float = 1.0,
    grain: float = 0.0,
    seed: int = 0,
    steady: int = 3,
    inside: Inside = NOWHERE,
) -> Iterator[Frame]:
    """Frames with their restored faces as patches.

    A frame without a face to show passes as the same object. Outside a face's mask the patch's alpha is exactly 0.
    Overlapping faces lie over one another in the order of `Faces.faces`.

    Args:
        restored: every frame.
        strength: opacity in [0, 1], times each face's confidence, and its own strength where somebody asked for one.
        match_color: take the low frequencies of the colour from the input, and let a face without colour stay without.
        detail: share in [0, 1] of what the frame shows beyond the crop's resolution that is kept. A face larger than the
            crop was reduced for the model; without this, a sharp close-up would come back softer than it went in.
        grain: share in [0, 1] of the noise that restoration took away which is made again, with the input's own strength,
            colour and coarseness, so that a clean face does not look pasted on a grainy film.
        seed: of the grain, with the frame and the track: a run repeats.
        steady: frames of the track, before and after, over which the colour's correction is averaged, and the delay: colour that
            an encoder makes pump in the input would pump on the restored face. A light that changes is followed at once.
        inside: keeps what waits.
    """
    look = steady if match_color and strength > 0 else 0
    matched = _matched(restored, match_color and strength > 0)
    for place in around(matched, look, look, lambda one: one.shot, inside, "blend"):
        faces = place.item.let_go()
        found = [(face, _steady(place, face.crop.face.track, steady)) for face in faces.faces] if strength > 0 else []
        patches = [_patch(face, strength, tint, detail, grain, seed) for face, tint in found]
        frame = faces.frame.with_patches([patch for patch in patches if patch is not None])
        frame.forget_rgb()  # the writer composites in the native planes; RGB is made again for whoever asks
        yield frame


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class _Tint:
    """What makes a restored face's colour that of the input."""

    kept: float
    """How much of the colour that the network gave it stays; see `colour_of`."""
    shift: NDArray[np.float32]
    """`coarse_shift` of what is left."""


@keepable
@dataclass(slots=True, eq=False)
class _Matched:
    """A frame's faces with how each one's colour differs from the input's."""

    shot: int
    faces: Faces[RestoredFace] | None
    """None once they are done: those that come after want the tints alone, and a frame holds a large picture."""
    tints: Mapping[int, _Tint]
    """By track; empty where colours are not matched."""

    def let_go(self) -> Faces[RestoredFace]:
        """The faces, not held any more."""
        faces, self.faces = self.faces, None
        assert faces is not None
        return faces


def _matched(restored: Iterable[Faces[RestoredFace]], match_color: bool) -> Iterator[_Matched]:
    for faces in restored:
        yield _Matched(
            faces.frame.shot, faces, {face.crop.face.track: _tint_of(face) for face in faces.faces} if match_color else {}
        )


def _tint_of(face: RestoredFace) -> _Tint:
    target, mask = to_array(face.crop.image), to_array(face.mask)[..., 0]
    kept = colour_of(target, mask)
    shift = coarse_shift(target, as_colourful(to_array(face.image), kept), mask)
    if face.smaller is None or face.nearness == 1:
        return _Tint(kept, shift)
    before, near = _tint_of(face.smaller), np.float32(face.nearness)
    own = before.shift if before.shift.shape == shift.shape else grown(before.shift, len(shift))
    return _Tint(before.kept + face.nearness * (kept - before.kept), own + near * (shift - own))


def _steady(place: Around[_Matched], track: int, steady: int) -> _Tint | None:
    """The frame's own, whose shift is a mean over the neighbours without a gap, by nearness in time and by likeness.

    A bilateral filter (Tomasi and Manduchi, ICCV 1998). None where colours are not matched.
    """
    own = place.item.tints.get(track)
    if own is None:
        return None
    total, weight = own.shift.copy(), 1.0
    sigma = steady / 2 + 0.5
    for items in (reversed(place.past), iter(place.future)):
        for distance, one in enumerate(items, 1):
            other = one.tints.get(track)
            if other is None or other.shift.shape != own.shift.shape:
                break
            apart = float(np.sqrt(((other.shift - own.shift) ** 2).mean()))
            say = float(np.exp(-0.5 * (distance / sigma) ** 2 - 0.5 * (apart / _ALIKE) ** 2))
            total, weight = total + np.float32(say) * other.shift, weight + say
    return _Tint(own.kept, np.asarray(total / np.float32(weight), np.float32))


def _patch(face: RestoredFace, strength: float, tint: _Tint | None, detail: float, grain: float, seed: int) -> Patch | None:
    frame, matrix = face.crop.frame, face.crop.matrix
    width, height = frame.size
    mask = to_array(face.mask)[..., 0]
    opacity = strength * face.crop.face.strength * float(np.clip(face.confidence, 0, 1))
    rectangle = geometry.footprint(matrix, mask.shape[0], width, height)
    if opacity <= 0 or rectangle[0] >= rectangle[2] or rectangle[1] >= rectangle[3]:
        return None
    alpha = geometry.uncut(mask, matrix, rectangle, zero_outside=True).clip(0, 1) * np.float32(opacity)
    alpha[alpha < _VISIBLE] = 0
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    if not len(rows):
        return None
    top, left, bottom, right = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    x, y = rectangle[0] + left, rectangle[1] + top
    window = (x, y, rectangle[0] + right, rectangle[1] + bottom)
    alpha = np.ascontiguousarray(alpha[top:bottom, left:right], np.float32)
    source = frame.source_window(window)
    clear = np.ones(alpha.shape, np.uint8)
    for bar in _bars(frame, window, source):
        clear[bar] = 0
    if not clear.all():
        alpha *= np.minimum(cv2.distanceTransform(clear, cv2.DIST_C, 3) / np.float32(_SEAM + 1), 1)
    if not alpha.any():
        return None
    rgb = _laid(face, tint, window, source, alpha, detail, grain, seed)
    if face.smaller is not None and face.nearness < 1:
        before = _laid(face.smaller, tint, window, source, alpha, detail, grain, seed)
        rgb = before + np.float32(face.nearness) * (rgb - before)
    return Patch(x, y, quantized(rgb, source.dtype), alpha)


def _laid(
    face: RestoredFace,
    tint: _Tint | None,
    window: Rectangle,
    source: NDArray[Any],
    alpha: NDArray[np.float32],
    detail: float,
    grain: float,
    seed: int,
) -> NDArray[np.float32]:
    """`(h, w, 3)`: the face, tinted, over the frame's window, with the source's detail and as much of its grain.

    Detail is what the frame shows that its crop does not: the frame less the crop laid back over it, and less the noise in every
    pixel, which is grain. A crop that is as fine as its frame has shown all of it. That of a close-up, which may be finer, lost a
    little on the way there and back (a seventh of the finest detail), and a face that comes nearer would soften all at once.
    """
    matrix, image = face.crop.matrix, to_array(face.image)
    if tint is not None:
        image = as_colourful(image, tint.kept) + grown(tint.shift, len(image))
    detail = detail if face.smaller is not None or geometry.scale_of(matrix) < 1 else 0.0
    if detail <= 0 and grain <= 0:
        return geometry.uncut(image, matrix, window)
    before, crop = normalized(source), to_array(face.crop.image)
    noise = fine_noise(before) if detail > 0 else 0.0
    if grain <= 0 and noisiness(noise) == 0:
        # Laying back is linear, and by far the dearest step: both pictures in one go.
        return geometry.uncut(image - np.float32(detail) * crop, matrix, window) + np.float32(detail) * before
    laid = geometry.uncut(image, matrix, window)
    kept = np.float32(detail) * cored(before - geometry.uncut(crop, matrix, window), noise) if detail > 0 else np.float32(0)
    if grain <= 0:
        return np.asarray(laid + kept, np.float32)
    rng = np.random.default_rng((seed, face.crop.frame.index, face.crop.face.track))
    return np.asarray(laid + np.float32(grain) * lost_grain(before - kept, laid, alpha / alpha.max(), rng) + kept, np.float32)


def _bars(frame: Frame, window: Rectangle, source: NDArray[Any]) -> list[tuple[slice, slice]]:
    """Where black bars along the frame's borders (letterbox, pillarbox) reach into a window of it.

    A face that the picture's border cuts goes on under a bar for the networks, and what they made there shone on the black.

    Args:
        frame: as it came.
        window: x0, y0, x1, y1 in frame pixels.
        source: what it shows, `(h, w, 3)`; RGB of it is not made again.

    Returns:
        Rows and columns of the window, for each bar.
    """
    (x0, y0, x1, y1), (width, height) = window, frame.size

    def thick(most: int, strip: Callable[[int, int], Rectangle], across: int, far: bool) -> int:
        """Lines from a border on that are black throughout, of so many; `strip` tells where those between two distances are."""
        for near in range(0, most, _STRIP):
            light = ~_black(frame.source_window(strip(near, min(near + _STRIP, most))), across)
            if light.any():
                return near + int(np.argmax(light[::-1] if far else light))
        return most

    across, along = _black(source[[0, -1]], 1), _black(source[:, [0, -1]], 0)  # no bar where the window's own edge is light
    everything = slice(None)
    found = []
    if across[0]:
        top = thick(y1, lambda a, b: (0, a, width, b), 1, False)
        found.append((slice(0, max(0, top - y0)), everything))
    if across[-1]:
        bottom = height - thick(height - y0, lambda a, b: (0, height - b, width, height - a), 1, True)
        found.append((slice(bottom - y0, None), everything))
    if along[0]:
        left = thick(x1, lambda a, b: (a, 0, b, height), 0, False)
        found.append((everything, slice(0, max(0, left - x0))))
    if along[-1]:
        right = width - thick(width - x0, lambda a, b: (width - b, 0, width - a, height), 0, True)
        found.append((everything, slice(right - x0, None)))
    return found


def _black(part: NDArray[Any], axis: int) -> NDArray[np.bool_]:
    """Whether lines of `(h, w, 3)` are black throughout: rows for the axis 1, columns for 0."""
    return np.asarray(part.max(axis=axis).max(axis=-1) <= _BLACK * peak(part.dtype))


def lost_grain(
    before: NDArray[np.float32], after: NDArray[np.float32], mask: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """New noise of as much power as `before` has more than `after`, as coarse and coloured as that of `before`.

    Args:
        before: `(h, w, 3)` float32 in [-1, 1], the input.
        after: the restored face in the same place.
        mask: `(h, w)` in [0, 1]: where the face is.
        rng: the only source of randomness.

    Returns:
        `(h, w, 3)` float32, 0 where `before` shows no more noise, or too little of the face to tell.
    """
    flat = flat_places(before, mask)
    had, has = measured(before, flat), measured(after, flat)
    if had is None or had.level == 0:
        return np.zeros_like(before)
    left = 0.0 if has is None else (has.level / had.level) ** 2
    new: NDArray[np.float32] = made(had, before.shape[0], before.shape[1], rng) * np.float32(np.sqrt(max(0.0, 1 - left)))
    return new


def colour_of(target: NDArray[np.float32], mask: NDArray[np.float32]) -> float:
    """How much colour there may be in a restored face, in [0, 1]: none where its input is black and white, or evenly tinted.

    A network that saw colour pictures puts some into grey skin. Between the two limits the colour fades, so that nothing jumps.

    Args:
        target: `(S, S, 3)` float32, the input crop.
        mask: `(S, S)` float32 in [0, 1]; judged is what lies inside it.
    """
    colour = target - mean_of_colours(target)[..., None]
    inside = mask > 0.5 * float(mask.max())  # a face that is half trusted is a face
    spread = float(cv2.meanStdDev(colour, mask=inside.astype(np.uint8))[1].max()) if inside.any() else 1.0
    return float(np.clip((spread - _GREY[0]) / (_GREY[1] - _GREY[0]), 0, 1))


def as_colourful(image: NDArray[np.float32], kept: float) -> NDArray[np.float32]:
    """`(S, S, 3)` float32 with this share of its colour, in [0, 1]: a grey picture for 0."""
    if kept == 1:
        return image
    grey = mean_of_colours(image)[..., None]
    return np.asarray(grey + np.float32(kept) * (image - grey), np.float32)


def grown(shift: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """`(side, side, 3)` of a `coarse_shift`."""
    return np.asarray(cv2.resize(shift, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def color_shift(target: NDArray[np.float32], image: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """`coarse_shift` at the crop's own size: `(S, S, 3)`."""
    return grown(coarse_shift(target, image, mask), mask.shape[0])


def coarse_shift(target: NDArray[np.float32], image: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """What to add to `image` so that its low frequencies become those of `target`, judged inside the mask only.

    A blur of the difference, weighted with the mask (normalised convolution, Knutsson and Westin, CVPR 1993): a bright
    background beside the face does not shine into the cheek.

    Args:
        target: `(S, S, 3)` float32, the input crop.
        image: the restored crop, as `target`.
        mask: `(S, S)` float32 in [0, 1].

    Returns:
        `(S / 4, S / 4, 3)` float32, at most 64 x 64: a colour that changes slowly over the face needs no more.
    """
    side = mask.shape[0]
    coarse = max(1, min(side // _COARSE, _FINEST))
    small = (coarse,) * 2
    weight = cv2.resize(mask, small, interpolation=cv2.INTER_AREA)
    difference = cv2.resize((target - image) * mask[..., None], small, interpolation=cv2.INTER_AREA)
    sigma = coarse * _REACH
    blurred = cv2.GaussianBlur(difference, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    total = cv2.GaussianBlur(weight, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred / np.maximum(total, 1e-3)[..., None], np.float32)

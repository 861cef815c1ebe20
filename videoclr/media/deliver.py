"""What a run hands over: the restored video itself, or what compositing and review need of it.

* `overlay`: the restored faces alone, RGBA with *straight* alpha (colours are not multiplied with it) in the source's own
  transfer function and primaries, black and transparent elsewhere. Over the source, `(1 - a) source + a colour`, it gives
  the restored picture. In an EXR of linear light a sum in linear light does: the colours are chosen for that, since a half
  transparent edge is another one there. They are multiplied with alpha, as OpenEXR has its colours: `(1 - a) source + colour`.
* `matte`: the alpha of the overlay as a grey picture, white where all of the restoration shows.
* `side-by-side`: source | restored, in the source's own pixel format, twice as wide.
* `wipe`: the source left of a line that moves, the restoration right of it.

Times, sound and everything else are those of the restored video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoclr.media import dpx, exr, tiff
from videoclr.media.colour import FULL, RGB_SPACE, UNSPECIFIED, Colour
from videoclr.media.exif import EXIF
from videoclr.media.filters import through
from videoclr.media.layout import layout_of
from videoclr.media.linear import as_light, transfer_of
from videoclr.media.orientation import Orientation, carries
from videoclr.media.picture import (
    Picture,
    colour_in,
    float_frame,
    is_deep,
    moved_fields,
    opacity_of,
    reformatted,
    writable,
)
from videoclr.media.proxy import as_uint16
from videoclr.media.scan import fields_mean
from videoclr.types import Patch

Kind = Literal["video", "overlay", "matte", "side-by-side", "wipe"]
_TOP = 65535
_LINE = 480
"""The line of a wipe is the width divided by this, and at least two pixels."""


@dataclass(frozen=True)
class Deliverable:
    """Makes the pictures of one kind.

    Args:
        kind: none of them is `video`, which needs nothing made.
        seconds: a wipe's line goes from right to left and back in this time; 0 leaves it in the middle.
        floats: make overlay and matte of floats, for EXR.
        linear: the floats are to be linear light.
        upright: overlay and matte are laid as shown, for picture files, not as the source is stored.
        shallow: eight bits are enough for a matte of an eight-bit source: its codec is for watching, or holds no more.
    """

    kind: Kind
    seconds: float = 4.0
    floats: bool = False
    linear: bool = True
    upright: bool = False
    shallow: bool = False

    def __call__(self, picture: Picture, patches: Sequence[Patch], since: Fraction) -> Picture:
        """The picture to write instead of `picture` with its `patches`; `since` is the time from the first one, seconds."""
        if self.kind == "side-by-side":
            return _beside(picture, Picture(picture.composite(patches), picture.colour, picture.orientation))
        if self.kind == "wipe":
            return self._wiped(picture, patches, since)
        return self._overlay(picture, patches) if self.kind == "overlay" else self._matte(picture, patches)

    def _wiped(self, picture: Picture, patches: Sequence[Patch], since: Fraction) -> Picture:
        width, height = picture.size
        share = 0.5 + 0.5 * math.cos(2 * math.pi * float(since) / self.seconds) if self.seconds else 0.5
        place, thick = round(share * width), max(2, width // _LINE)
        kept = [right_of(patch, place) for patch in patches]
        left, right = max(0, place - thick // 2), min(width, place + (thick + 1) // 2)
        kind = np.uint16 if picture.proxy is not None or is_deep(picture.frame) else np.uint8
        white = np.full((height, max(0, right - left), 3), np.iinfo(kind).max, kind)
        line = Patch(left, 0, white, np.ones(white.shape[:2], np.float32))
        frame = picture.composite([*kept, line] if 0 < place < width else kept)
        return Picture(frame, colour_in(picture, frame), picture.orientation, picture.proxy, picture.woven, head=picture.head)

    def _overlay(self, picture: Picture, patches: Sequence[Patch]) -> Picture:
        width, height = picture.size
        rgba = np.zeros((height, width, 4), np.float32 if self.floats else np.uint16)
        if (box := _box(patches, width, height)) is not None:
            x0, y0, x1, y1 = box
            source = picture.signals()[y0:y1, x0:x1]
            source = source if picture.is_light else as_uint16(source)
            colour, alpha = _over(picture, patches, source, (x0, y0))
            if (covered := picture.coverage()) is not None:
                most = picture.orientation.shown(covered)[y0:y1, x0:x1, None] * np.float32(1 if picture.is_light else _TOP)
                colour = _hidden(colour, alpha, source, most)
            if self.floats and self.linear and not picture.is_light:
                opaque = opacity_of(picture.frame, picture.colour)
                opaque = None if opaque is None else picture.orientation.shown(opaque)[y0:y1, x0:x1]
                multiplied = picture.coverage() is not None
                colour = _for_light(colour, alpha, source, transfer_of(picture.frame, picture.proxy), opaque, multiplied)
            elif self.floats:
                colour = colour / np.float32(_TOP)
            window = rgba[y0:y1, x0:x1]
            window[..., :3] = colour * alpha[..., None] if self.floats else np.rint(colour.clip(0, _TOP))
            window[..., 3] = alpha if self.floats else np.rint(alpha * _TOP)
        frame = _made(rgba if self.upright else picture.orientation.stored(rgba), self.floats)
        if self.upright and carries(picture.frame, Type.ICC_PROFILE):
            frame = _profiled(frame, picture.frame)
        frame.color_trc, frame.color_primaries = picture.frame.color_trc, picture.frame.color_primaries
        # What a TIFF says of its alpha is not true of this one.
        return _in_place_of(picture, frame, self.upright, b"" if tiff.is_tiff(picture.head) else picture.head)

    def _matte(self, picture: Picture, patches: Sequence[Patch]) -> Picture:
        width, height = picture.size
        hidden = np.ones((height, width), np.float32)
        for patch in patches:
            rows, columns, alpha, _ = _inside(patch, (0, 0, width, height))
            hidden[rows, columns] *= 1 - alpha
        shallow = self.shallow and not is_deep(picture.frame)
        kind, top = (np.uint8, 255) if shallow else (np.uint16, _TOP)
        matte = 1 - hidden if self.floats else np.rint((1 - hidden) * top).astype(kind)
        grey = np.repeat(matte[..., None], 3, -1)
        frame = _made(grey if self.upright else picture.orientation.stored(grey), self.floats)
        return _in_place_of(picture, frame, self.upright, dpx.of_matte(exr.of_matte(picture.head)))


def right_of(patch: Patch, place: int) -> Patch:
    """`patch` without what lies left of the column `place`."""
    alpha = patch.alpha.copy()
    alpha[:, : max(0, place - patch.x)] = 0
    return replace(patch, alpha=alpha)


def _box(patches: Sequence[Patch], width: int, height: int) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 around all patches, inside the picture; None where nothing lies there."""
    if not patches:
        return None
    x0, y0 = max(0, min(patch.x for patch in patches)), max(0, min(patch.y for patch in patches))
    x1 = min(width, max(patch.x + patch.alpha.shape[1] for patch in patches))
    y1 = min(height, max(patch.y + patch.alpha.shape[0] for patch in patches))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _inside(patch: Patch, box: tuple[int, int, int, int]) -> tuple[slice, slice, NDArray[np.float32], NDArray[Any]]:
    """Rows and columns of `box` that `patch` covers, and its alpha and colours there."""
    x0, y0, x1, y1 = box
    height, width = patch.alpha.shape
    left, top = max(x0, patch.x), max(y0, patch.y)
    right, bottom = max(left, min(x1, patch.x + width)), max(top, min(y1, patch.y + height))
    own = slice(top - patch.y, bottom - patch.y), slice(left - patch.x, right - patch.x)
    alpha = np.clip(np.asarray(patch.alpha[own], np.float32), 0, 1)
    return slice(top - y0, bottom - y0), slice(left - x0, right - x0), alpha, patch.rgb[own]


def _over(
    picture: Picture, patches: Sequence[Patch], source: NDArray[Any], corner: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All patches, the later over the earlier, as straight colour 0..65535 (0..1 of floats) and alpha.

    Args:
        picture: what they lie over.
        patches: in shown coordinates.
        source: `(h, w, 3)` uint16 or float32, the signals of a part of the picture.
        corner: left, top of that part.
    """
    height, width = source.shape[:2]
    box = (*corner, corner[0] + width, corner[1] + height)
    colour = np.zeros(source.shape, np.float32)
    alpha = np.zeros(source.shape[:2], np.float32)
    below = None if picture.proxy is None else source * np.float32(_TOP) if picture.is_light else source.astype(np.float32)
    own = _fields(picture)[box[1] : box[3], box[0] : box[2]] if picture.woven else None
    for patch in patches:
        rows, columns, opacity, rgb = _inside(patch, box)
        if own is not None:  # two fields: each moves by what their mean, which was restored, moved
            rgb = moved_fields(own[rows, columns, 0], own[rows, columns, 1], as_uint16(rgb))
        new = as_uint16(rgb).astype(np.float32)
        if below is not None and picture.proxy is not None:
            # Of HDR only the residual is used: the colour that, mixed in by alpha, moves the signal as it would.
            signal = below[rows, columns]
            shown = signal / np.float32(_TOP) if picture.is_light else np.rint(signal.clip(0, _TOP)).astype(np.uint16)
            change = picture.proxy.change(shown, rgb) * np.float32(_TOP)
            new = signal + change
            below[rows, columns] = signal + opacity[..., None] * change
        before = alpha[rows, columns]
        together = opacity + before * (1 - opacity)
        share = np.divide(opacity, together, out=np.ones_like(opacity), where=together > 0)[..., None]
        colour[rows, columns] = colour[rows, columns] * (1 - share) + new * share
        alpha[rows, columns] = together
    return colour, alpha


def _fields(picture: Picture) -> NDArray[np.uint16]:
    """`(H, W, 2, 3)` as shown: a woven picture, and the mean of its fields that a network was shown."""
    signals = as_uint16(picture.signals())
    own = signals if picture.proxy is None else picture.proxy.shown(signals)
    mean = picture.orientation.shown(fields_mean(picture.orientation.stored(own)))
    return np.stack([own, mean], axis=2)


def _hidden(
    colour: NDArray[np.float32], alpha: NDArray[np.float32], source: NDArray[Any], most: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The straight colour that over `source` gives what `Picture.composite` makes of `colour` where colours are multiplied with
    alpha (`most`, in units of the source): a face is kept where there is something of it."""
    mix = alpha[..., None]
    below = source * (1 - mix)
    if source.dtype == np.float32:
        return np.where((most == 0) & (source == 0).all(-1, keepdims=True), np.float32(0), colour)
    bound = (source <= most).all(-1, keepdims=True) & (mix > 0)
    kept = np.divide(np.minimum(below + colour * mix, most) - below, mix, out=colour.copy(), where=bound)
    return np.asarray(kept, np.float32)


def _for_light(
    colour: NDArray[np.float32],
    alpha: NDArray[np.float32],
    source: NDArray[np.uint16],
    transfer: int,
    opaque: NDArray[np.float32] | None,
    multiplied: bool,
) -> NDArray[np.float32]:
    """The straight colour in linear light that over the linear source, multiplied with its own alpha (`opaque`), gives what
    `colour` gives over the source. `multiplied`: code values of the source are multiplied with it already."""
    mix = alpha[..., None]
    restored = (source * (1 - mix) + colour * mix).clip(0, _TOP)
    light, below = (as_light(values, transfer, opaque, multiplied) for values in (restored, source))
    return np.asarray(np.divide(light - below * (1 - mix), mix, out=light.copy(), where=mix > 0), np.float32)


def _made(stored: NDArray[Any], floats: bool) -> VideoFrame:
    """A frame of `(h, w, 3 or 4)` RGB or RGBA, laid as stored."""
    if floats:
        return float_frame(stored[..., :3], stored[..., 3] if stored.shape[2] == 4 else None)
    name = "rgba64le" if stored.shape[2] == 4 else "rgb24" if stored.dtype == np.uint8 else "rgb48le"
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(stored), name)
    frame.colorspace, frame.color_range = RGB_SPACE, FULL
    frame.color_trc = frame.color_primaries = UNSPECIFIED
    return frame


def _profiled(frame: VideoFrame, like: VideoFrame) -> VideoFrame:
    """`frame` with the colour profile of `like`: its numbers mean the same. PyAV puts none into a frame, but filters keep it."""
    others = [("sidedata", f"mode=delete:type={kind}") for kind in (Type.DISPLAYMATRIX.name, EXIF)]
    made = through(like, ("scale", f"{frame.width}:{frame.height}:flags=neighbor"), ("format", frame.format.name), *others)
    made.make_writable()
    for target, source in zip(made.planes, frame.planes, strict=True):
        to, of = (np.frombuffer(memoryview(one), np.uint8).reshape(-1, one.line_size) for one in (target, source))
        columns, rows = min(to.shape[1], of.shape[1]), min(to.shape[0], of.shape[0])
        to[:rows, :columns] = of[:rows, :columns]
    made.colorspace, made.color_range = frame.colorspace, frame.color_range
    return made


def _in_place_of(picture: Picture, frame: VideoFrame, upright: bool, head: bytes) -> Picture:
    """`frame` with the times, the orientation and, should it become YUV, the matrix of `picture`; `head` says what else is kept."""
    frame.pts, frame.duration = picture.frame.pts, picture.frame.duration
    if picture.frame.time_base:
        frame.time_base = picture.frame.time_base
    orientation = Orientation() if upright else picture.orientation
    return Picture(frame, Colour("rgb", picture.colour.matrix, True), orientation, woven=picture.woven, head=head)


def _beside(left: Picture, right: Picture) -> Picture:
    """`left` | `right`, as shown, of one size."""
    frames = [_opaque(one) for one in (left, right)]
    layout = layout_of(frames[0].format.name)
    assert layout is not None
    across, along = left.size[0] + left.size[0] % 2, left.size[1]  # even, or the halves would share a chroma sample
    stored = left.orientation.shown_size(2 * across, along)
    both = _canvas(frames[0], *stored)
    for component in range(len(layout.places)):
        target = left.orientation.shown(layout.view(both, component))
        half = target.shape[1] // 2
        for begin, frame in zip((0, half), frames, strict=True):
            samples = left.orientation.shown(layout.view(frame, component))
            place = target[:, begin : begin + half]
            place[:, : samples.shape[1]] = samples
            place[:, samples.shape[1] :] = samples[:, -1:]
    return Picture(both, colour_in(left, both), left.orientation, left.proxy, left.woven, head=left.head)


def _opaque(picture: Picture) -> VideoFrame:
    """The picture's frame, in the same format without transparency, or in one near it that can be written into."""
    frame = picture.frame
    if layout_of(frame.format.name) is None:
        frame = writable(frame, picture.colour)
    if not any(part.is_alpha for part in frame.format.components):
        return frame
    name = frame.format.name
    plain = {"rgba": "rgb24", "bgra": "rgb24", "argb": "rgb24", "abgr": "rgb24", "rgba64le": "rgb48le", "rgba64be": "rgb48le"}
    plain |= {"ya8": "gray", "ya16le": "gray16le", "ya16be": "gray16le"}
    colour = colour_in(picture, frame)
    return reformatted(frame, colour, plain.get(name) or name.replace("yuva", "yuv").replace("gbrap", "gbrp"), colour)


def _canvas(frame: VideoFrame, width: int, height: int) -> VideoFrame:
    """A larger frame in the format of `frame`, with its properties and side data."""
    layout = layout_of(frame.format.name)
    across, down = layout.subsampling if layout is not None and layout.kind == "yuv" else (0, 0)
    whole = (-(-width >> across) << across, -(-height >> down) << down)  # `pad` knows whole samples of chroma only
    larger = through(frame, ("pad", f"{whole[0]}:{whole[1]}"))
    if larger.format.name != frame.format.name:  # one that `pad` does not draw in; what is drawn does not matter
        larger = through(frame, ("scale", f"{whole[0]}:{whole[1]}:flags=neighbor"))
    if whole != (width, height):
        larger = through(larger, ("crop", f"{width}:{height}:0:0:exact=1"))
    if larger.format.name != frame.format.name or (larger.width, larger.height) != (width, height):
        plain = VideoFrame(width, height, frame.format.name)  # half floats, which `scale` does not know either
        for name in ("pts", "duration", "colorspace", "color_range", "color_trc", "color_primaries"):
            setattr(plain, name, getattr(frame, name))
        plain.time_base = frame.time_base or Fraction(1, 90000)
        return plain
    larger.make_writable()
    return larger

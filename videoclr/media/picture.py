"""A decoded picture in its own pixel format.

A full-frame trip to RGB and back changes pixels that nobody restored (luma by one on average, by tens where colours
clip). So the picture stays as the decoder made it, RGB is made for what a model looks at, and patches are composited
into the planes inside their region only, in the picture's own matrix, range and depth.

An HDR picture and one of linear light (EXR) is shown to everybody as its display-referred proxy (`videoclr.media.proxy`), one
that stays interlaced as the mean of its fields (`videoclr.media.scan`): of a patch only the difference to what was shown is
applied, to the picture itself. Floats stay floats: what lies below 0 or above 1 in them, and is no face, keeps its bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from av.codec.codec import find_best_pix_fmt_of_list
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from videoclr.media import exr, tiff
from videoclr.media.colour import BT709_TAG, FULL, LIMITED, RGB_SPACE, Colour, colour_of
from videoclr.media.filters import through
from videoclr.media.hdr import proxy_of
from videoclr.media.layout import Layout, Place, layout_of
from videoclr.media.linear import divided
from videoclr.media.orientation import Orientation, orientation_of
from videoclr.media.proxy import Proxy, as_uint16
from videoclr.media.scan import fields_mean
from videoclr.media.spool import Spool, Spooled, bytes_of
from videoclr.types import Patch, Rectangle

# Without ACCURATE_RND swscale's luma is more than one code value too dark on average; without FULL_CHR_H_INT it
# doubles chroma columns. With both, RGB turned back gives the luma exactly.
_CAREFUL = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_BYTE = 8
_WHITE = 65535
_ITS_WHITE = 255 << 8
_DEEP_RGB = "gbrp16le"
_DEEP_RGBA = "gbrap16le"
DISPLAYED = "rgba64le"
"""What floats with alpha become for files that hold no light."""
_GRID = 16
_CHROMA = re.compile(r"4[0-4][0-2]p")
_WRITABLE_FORMATS = (
    "rgb24", "rgba", "rgb48le", "rgba64le", "gbrp16le", "gbrap16le", "gray", "ya8", "gray16le", "ya16le", "yuv420p",
    "yuv422p", "yuv444p", "yuva420p", "yuva444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le",
    "yuv422p12le", "yuv444p12le", "yuv420p16le", "yuv422p16le", "yuv444p16le", "yuva444p16le",
)  # fmt: skip
"""Where pictures go whose own format cannot be written into."""


class Picture:
    """A decoded picture (`videoclr.types.Native`).

    Args:
        frame: as PyAV decoded it; never changed here.
        colour: what its numbers mean; read from its tags where None.
        orientation: how it is shown; read from its display matrix where None.
        proxy: how its HDR is shown to a network; read from its tags where None, which for other pictures is none.
        woven: it holds two fields that stay: a network sees their mean, see `videoclr.media.scan`.
        stored: it is what one packet of the source holds, at that packet's time: not deinterlaced, scaled, repeated or damaged.
        head: the header of the DPX or EXR file that it is from (`videoclr.media.dpx`, `videoclr.media.exr`), or what a TIFF file
            says (`videoclr.media.tiff.head_of`).
    """

    __slots__ = ("_away", "_frame", "colour", "head", "held", "orientation", "proxy", "stored", "woven")

    def __init__(
        self,
        frame: VideoFrame,
        colour: Colour | None = None,
        orientation: Orientation | None = None,
        proxy: Proxy | None = None,
        woven: bool = False,
        stored: bool = False,
        head: bytes = b"",
    ) -> None:
        self._frame: VideoFrame | None = frame
        self._away: Spooled | None = None
        self.held: object | None = None
        """The place in memory of one that waits; see `Spool`."""
        self.colour = colour or colour_of(frame)
        self.orientation = orientation or orientation_of(frame)
        self.proxy = proxy or proxy_of(frame)
        self.woven, self.stored, self.head = woven, stored, head

    @property
    def frame(self) -> VideoFrame:
        """As PyAV decoded it; brought back first where it was put away."""
        self.bring_back()
        assert self._frame is not None
        return self._frame

    def put_away(self, spool: Spool) -> bool:
        """Hold the planes in the file of `spool` and not in memory; False where this format stays (see `Spool.keep`).

        Raises:
            MediaError: the file cannot be written.
        """
        if self._frame is not None and (away := spool.keep(self._frame)) is not None:
            self._away, self._frame = away, None
        return self._away is not None

    def bring_back(self) -> None:
        """Hold the planes in memory, wherever they are.

        Raises:
            MediaError: the file that they are in cannot be read.
        """
        if self._away is not None:
            self._frame, self._away = self._away.whole(), None

    @property
    def size(self) -> tuple[int, int]:
        """Width, height as shown, pixels."""
        stored = self._away or self.frame
        return self.orientation.shown_size(stored.width, stored.height)

    def rgb(self) -> NDArray[Any]:
        """`(H, W, 3)` RGB as shown: uint8, or uint16 0..65535 for formats of more than 8 bits. A new array.

        One of HDR or linear light gives its proxy, display-referred BT.709, always uint16; a woven one the mean of its fields.
        """
        return np.ascontiguousarray(self.orientation.shown(self._seen(self.frame)))

    @property
    def nbytes(self) -> int:
        """What it holds, in memory or in the spool."""
        return bytes_of(self.frame) if self._away is None else self._away.nbytes

    def window(self, rectangle: Rectangle) -> NDArray[Any]:
        """`rgb()[y0:y1, x0:x1]` to the bit, as a new array, at the cost of that part and a margin."""
        x0, y0, x1, y1 = rectangle
        if x0 >= x1 or y0 >= y1:
            return self.rgb()[y0:y1, x0:x1].copy()
        left, top = self.orientation.stored_corner(x0, y0, x1 - x0, y1 - y0, self.size)
        columns, rows = self.orientation.shown_size(x1 - x0, y1 - y0)
        part, dx, dy = self._around(left, top, columns, rows)
        seen = self._seen(part)[dy : dy + rows, dx : dx + columns]
        return np.ascontiguousarray(self.orientation.shown(seen)).copy()

    def _around(self, left: int, top: int, columns: int, rows: int) -> tuple[VideoFrame, int, int]:
        """The part of the frame around a window, and where the window begins in it: in the same memory, or out of the spool.

        Its edges lie on the grid, so that chroma, dither and fields keep their places, and a cell or more beyond the window,
        so that what swscale repeats at them is cut off. All of the frame where its format is not known by its layout (palettes,
        bit streams), where chroma does not divide its sides (swscale then stretches it by the ratio of the whole), and
        for packed 4:2:2, of which swscale makes other values once it went through a filter.
        """
        stored = self._away or self.frame
        name = stored.format if isinstance(stored, Spooled) else stored.format.name
        x0, y0, x1, y1 = 0, 0, stored.width, stored.height
        if _has_parts(name, stored.width, stored.height):
            x0, y0 = max(0, left // _GRID - 1) * _GRID, max(0, top // _GRID - 1) * _GRID
            x1 = min(x1, (-(-(left + columns) // _GRID) + 1) * _GRID)
            y1 = min(y1, (-(-(top + rows) // _GRID) + 1) * _GRID)
        if self._away is not None:
            part = self._away.part(x0, y0, x1, y1)
        elif (x0, y0, x1, y1) == (0, 0, stored.width, stored.height):
            part = self.frame
        else:
            part = through(self.frame, ("crop", f"{x1 - x0}:{y1 - y0}:{x0}:{y0}:exact=1"))
        return part, left - x0, top - y0

    def _seen(self, frame: VideoFrame) -> NDArray[Any]:
        """What a network is shown of `frame`, this picture's or a part of it, as stored."""
        stored = _signals(frame, self.colour)
        stored = stored if self.proxy is None else self.proxy.shown(stored)
        return fields_mean(stored) if self.woven else stored

    @property
    def is_light(self) -> bool:
        """True for floats: linear light, or code values of any size."""
        return self.proxy is not None and self.proxy.floats

    @property
    def has_alpha(self) -> bool:
        """Whether its format holds transparency."""
        return _has_alpha(self.frame.format)

    def coverage(self) -> NDArray[np.float32] | None:
        """`(h, w)`, as stored, 0..1: the alpha that the colours are multiplied with, as OpenEXR has it, and TIFF may; None of other
        files."""
        layout = layout_of(self.frame.format.name)
        if layout is None or not is_multiplied(self.head) or (alpha := layout.opacity(self.frame)) is None:
            return None
        return _share(alpha, layout)

    def signals(self) -> NDArray[Any]:
        """As `rgb`, but in the picture's own transfer function and primaries, whatever they are; of floats float32."""
        return np.ascontiguousarray(self.orientation.shown(_signals(self.frame, self.colour)))

    def composite(self, patches: Sequence[Patch]) -> VideoFrame:
        """The picture with `patches` (shown coordinates) in its own planes: a copy, or the frame itself without any.

        Samples that no patch covers (alpha 0) keep their bits. Where chroma is subsampled its colour and alpha are
        averaged over each chroma sample's area. The copy keeps times, tags and side data; its pixel format differs
        only where the picture's own (palette, bit stream) cannot be written into.
        """
        if not patches:
            return self.frame
        frame = writable(self.frame, self.colour)
        layout = layout_of(frame.format.name)
        assert layout is not None, frame.format.name
        stored = [self._as_stored(patch) for patch in patches]
        if self.proxy is not None or self.woven:
            self._add_residuals(frame, layout, stored)
        else:
            for patch in stored:
                _composite_one(frame, layout, self.colour, patch)
        if is_multiplied(self.head) and frame.format.name == self.frame.format.name:
            for patch in stored:
                _hide(frame, self.frame, layout, patch)
        return frame

    def _add_residuals(self, frame: VideoFrame, layout: Layout, patches: Sequence[Patch]) -> None:
        """Change `frame` by what each patch (stored coordinates) changes of what was shown; later ones over earlier ones."""
        done: list[Patch] = []
        for patch in patches:
            if not done or any(_overlap(patch, other) for other in done):
                signals, done = _signals(frame, self.colour), []
                own = signals if self.proxy is None else self.proxy.shown(signals)
                seen = fields_mean(own) if self.woven else own
            rows, columns = patch.alpha.shape
            window = np.s_[patch.y : patch.y + rows, patch.x : patch.x + columns]
            restored = patch.rgb if seen is own else moved_fields(own[window], seen[window], patch.rgb)
            if self.proxy is not None:
                change = self.proxy.change(signals[window], restored)
            else:
                change = (restored.astype(np.float32) - own[window]) / np.float32(np.iinfo(own.dtype).max)
            alpha = np.clip(np.asarray(patch.alpha, np.float32), 0, 1)
            _add_one(frame, layout, self.colour, patch, alpha[..., None] * change)
            done.append(patch)

    def _as_stored(self, patch: Patch) -> Patch:
        """`patch` in stored coordinates, cut to the picture."""
        width, height = self.size
        rows, columns = patch.alpha.shape
        left, top, right, bottom = max(-patch.x, 0), max(-patch.y, 0), width - patch.x, height - patch.y
        alpha = patch.alpha[top : max(bottom, 0), left : max(right, 0)]
        rgb = patch.rgb[top : max(bottom, 0), left : max(right, 0)]
        rows, columns = alpha.shape
        corner = (patch.x + left, patch.y + top)
        x, y = self.orientation.stored_corner(*corner, columns, rows, (width, height))
        return Patch(x, y, self.orientation.stored(rgb), self.orientation.stored(alpha))


def _has_parts(name: str, width: int, height: int) -> bool:
    layout = layout_of(name)
    if layout is None or (layout.kind == "yuv" and layout.places[0].step > 1):
        return False
    return not (width % (1 << layout.subsampling[0]) or height % (1 << layout.subsampling[1]))


def reformatted(frame: VideoFrame, colour: Colour, pixel_format: str, to: Colour) -> VideoFrame:
    """`frame` in another pixel format; `colour` says what its numbers mean, `to` what the new ones shall mean."""
    if pixel_format == frame.format.name and (colour == to or to.kind == "rgb"):
        return frame
    if (name := _opaque_twin(frame)) and not _has_alpha(VideoFormat(pixel_format)):
        return reformatted(_in_format(frame, name), colour, pixel_format, to)
    if _is_shifted(frame.format.name, pixel_format):
        return _in_format(frame, pixel_format)
    deep = max(part.bits for part in VideoFormat(pixel_format).components) > _BYTE
    known = layout_of(frame.format.name)
    if colour.kind == "gray" and colour.full and to.full and is_deep(frame) and not deep and known and not known.floating:
        # swscale 9.5 shifts these as well.
        shallow = _in_format(frame, "ya8" if _has_alpha(frame.format) else "gray")
        return reformatted(shallow, colour, pixel_format, to)
    planar = _DEEP_RGBA if _has_alpha(frame.format) and _has_alpha(VideoFormat(pixel_format)) else _DEEP_RGB
    if colour.kind == "yuv" and to.kind == "rgb" and (deep or is_deep(frame)) and pixel_format != planar:
        # swscale 9.5 makes noise of 4:2:0 on its way to packed RGB where either has more than 8 bits; the planar way is right.
        between = Colour("rgb", colour.matrix, True)
        if deep:
            return reformatted(reformatted(frame, colour, planar, between), between, pixel_format, to)
        return _scaled(_scaled(frame, colour, planar, between), between, pixel_format, to)
    if colour.kind == to.kind == "yuv" and colour.matrix != to.matrix and deep:
        # So it does of a change of the matrix on the way to more than 8 bits.
        between = Colour("rgb", colour.matrix, True)
        return _scaled(_scaled(frame, colour, planar, between), between, pixel_format, to)
    if colour.kind == "yuv" and to.kind == "rgb" and pixel_format == planar:
        return _with_white(_scaled(frame, colour, planar, to))
    if colour.kind == "rgb" and to.kind == "yuv" and is_deep(frame):
        return _scaled(_with_its_white(reformatted(frame, colour, planar, colour)), colour, pixel_format, to)
    return _scaled(frame, colour, pixel_format, to)


def _with_white(frame: VideoFrame) -> VideoFrame:
    """Planar RGB of 16 bits that swscale 9.5 made of YUV, changed: its white is 255 * 256."""
    layout = layout_of(frame.format.name)
    assert layout is not None
    for component in range(3):
        values = layout.view(frame, component)
        np.minimum(values, _ITS_WHITE, out=values)
        values += values >> 8
    return frame


def _with_its_white(frame: VideoFrame) -> VideoFrame:
    """Planar RGB of 16 bits for swscale 9.5 to make YUV of: a copy whose white is 255 * 256, or white would be too bright."""
    layout, frame = layout_of(frame.format.name), _own_copy(frame)
    assert layout is not None
    for component in range(3):
        values = layout.view(frame, component)
        values -= values >> 8
    return frame


def _scaled(frame: VideoFrame, colour: Colour, pixel_format: str, to: Colour) -> VideoFrame:
    """What swscale makes of `frame`; see `reformatted`."""
    # A scaler of this call's own: `VideoFrame.reformat` leaves one in every frame, 130 KB for as long as the frame lives.
    return VideoReformatter().reformat(
        frame,
        format=pixel_format,
        src_colorspace=None if colour.kind == "rgb" else colour.matrix.scaler,
        dst_colorspace=None if to.kind == "rgb" else to.matrix.scaler,
        src_color_range=FULL if colour.full else LIMITED,
        dst_color_range=FULL if to.full else LIMITED,
        interpolation=_CAREFUL,
        threads=1,
    )


def _has_alpha(kind: VideoFormat) -> bool:
    return any(part.is_alpha for part in kind.components)


def _opaque_twin(frame: VideoFrame) -> str | None:
    """For deep planar RGB with alpha, the same format without: swscale 9.5 makes garbage on that way. None for other formats."""
    name = frame.format.name
    twin = name.replace("gbrap", "gbrp")
    return twin if twin != name and is_deep(frame) and layout_of(name) and layout_of(twin) else None


def _is_shifted(name: str, other: str) -> bool:
    """Whether swscale 9.5 shifts the numbers of RGB in the format `name` on its way to `other` instead of scaling them: white
    becomes grey, all numbers of planes move by half a step, and so do those of more bits that become 8."""
    source, target = layout_of(name), layout_of(other)
    if source is None or target is None or {source.kind, target.kind} != {"rgb"} or source.floating or target.floating:
        return False
    planar = name.startswith("gbr") and other.startswith("gbr")
    return source.depth != target.depth and (target.depth == _BYTE or planar or source.depth == _BYTE)


def _in_format(frame: VideoFrame, name: str) -> VideoFrame:
    """`frame`, of RGB or grey, in another format of that kind: every number as it is, or the nearest, and all properties."""
    made = through(frame, ("format", name))
    made.make_writable()
    source, target = layout_of(frame.format.name), layout_of(name)
    assert source is not None and target is not None
    pairs = [(source.view(frame, component), target.view(made, component)) for component in range(len(target.places))]
    if (before := source.opacity(frame)) is not None and (after := target.opacity(made)) is not None:
        pairs.append((before, after))
    top, whole = ((1 << layout.depth) - 1 for layout in (source, target))
    nearest = None if source.floating or top == whole else np.rint(np.arange(top + 1) * (whole / top)).astype(np.uint16)
    for before, after in pairs:
        after[:] = before if nearest is None else nearest[before]
    return made


def colour_in(picture: Picture, frame: VideoFrame) -> Colour:
    """What the numbers of `frame`, made of `picture`, mean: the picture's own meaning in its own format."""
    if frame.format.name == picture.frame.format.name:
        return picture.colour
    kind = Picture(frame).colour.kind
    return Colour(kind, picture.colour.matrix, picture.colour.full or kind == "rgb")


def turned(frame: VideoFrame, colour: Colour, orientation: Orientation) -> VideoFrame:
    """`frame` laid as shown, for files that cannot say how to turn it: every sample as it is, and all side data but the matrix.

    Chroma that would be another one after a transposition (4:2:2) becomes 4:4:4, and what has no layout (palettes) RGB.
    """
    layout = layout_of(frame.format.name)
    if layout is None or (layout.kind == "yuv" and layout.places[0].step > 1):
        frame = _in_writable_format(frame, colour)
    elif orientation.transpose and layout.kind == "yuv" and layout.subsampling[0] != layout.subsampling[1]:
        full = _CHROMA.sub("444p", frame.format.name)
        frame = reformatted(frame, colour, full if full != frame.format.name else "yuv444p16le", colour)
    steps = [
        (orientation.transpose, "transpose", "cclock_flip"),
        (orientation.mirror_x, "hflip", None),
        (orientation.mirror_y, "vflip", None),
        (True, "sidedata", "mode=delete:type=DISPLAYMATRIX"),
    ]
    return through(frame, *((name, options) for wanted, name, options in steps if wanted))


def frame_of_rgb(image: NDArray[Any], orientation: Orientation) -> VideoFrame:
    """A frame `rgb24` or `rgb48le` of an upright `(H, W, 3)` uint8 or uint16 image, laid as stored."""
    stored = np.ascontiguousarray(orientation.stored(image))
    frame = VideoFrame.from_ndarray(stored, "rgb24" if stored.dtype == np.uint8 else "rgb48le")
    frame.colorspace, frame.color_range = RGB_SPACE, FULL
    return frame


def displayed(picture: Picture, straight: bool = False) -> Picture:
    """A picture of floats as its proxy shows it, as code values of 16 bits: for files that hold no light.

    With `straight`, colours that are multiplied with their alpha, as those of EXR are, no longer are.
    """
    frame, layout = picture.frame, layout_of(picture.frame.format.name)
    assert layout is not None and picture.proxy is not None
    signals = _signals(frame, picture.colour)
    rgb = picture.proxy.shown(divided(signals, picture.coverage()) if straight else signals)
    if (alpha := layout.opacity(frame)) is not None:
        whole = np.rint(np.nan_to_num(alpha.astype(np.float32)).clip(0, 1) * np.float32(_WHITE)).astype(np.uint16)
        made = VideoFrame.from_ndarray(np.dstack([rgb, whole]), DISPLAYED)
    else:
        made = VideoFrame.from_ndarray(rgb, "rgb48le")
    made.colorspace, made.color_range = RGB_SPACE, FULL
    made.color_trc = made.color_primaries = BT709_TAG
    made.pts, made.duration = frame.pts, frame.duration
    if frame.time_base:
        made.time_base = frame.time_base
    # What a TIFF says of its author stays true, but not that its colours are multiplied with its alpha.
    head = tiff.straight(picture.head) if tiff.is_tiff(picture.head) else b""
    return Picture(made, Colour("rgb", picture.colour.matrix, True), picture.orientation, head=head)


def straightened(picture: Picture, patch: Patch) -> Patch:
    """`patch` of `picture` as one of what `displayed` makes of it straight; cut to the picture."""
    (width, height), coverage = picture.size, picture.coverage()
    if coverage is None or picture.proxy is None:
        return patch
    own = np.s_[max(0, -patch.y) : max(0, height - patch.y), max(0, -patch.x) : max(0, width - patch.x)]
    alpha, rgb = patch.alpha[own], patch.rgb[own]
    left, top = max(0, patch.x), max(0, patch.y)
    covered = picture.orientation.shown(coverage)[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    shown = picture.proxy.shown(divided(picture.proxy.signal(rgb), covered))
    shown = np.where(covered[..., None] < 1, shown, as_uint16(rgb))  # what nothing shines through is not rounded
    return Patch(left, top, shown, alpha)


def is_multiplied(head: bytes) -> bool:
    """Whether colours are multiplied with their alpha in a picture file with that header (see `Picture`)."""
    return exr.is_exr(head) or tiff.is_multiplied(head)


def unmultiplied(frame: VideoFrame) -> VideoFrame:
    """A picture of whole numbers that are multiplied with its alpha, as one whose colours are not; where nothing is covered, and
    glows, as it is."""
    layout = layout_of(frame.format.name)
    if layout is None or (alpha := layout.opacity(frame)) is None:
        return frame
    frame = _own_copy(frame)
    mix, top = _share(alpha, layout), (1 << layout.depth) - 1
    for component in range(len(layout.places)):
        values = layout.view(frame, component)
        divided = np.divide(values, mix, out=values.astype(np.float32), where=mix > 0)
        values[...] = np.rint(divided.clip(0, top)).astype(values.dtype)
    return frame


def opacity_of(frame: VideoFrame, colour: Colour) -> NDArray[np.float32] | None:
    """`(h, w)`, as stored, 0..1: the alpha of a picture; None where it has none."""
    if not _has_alpha(frame.format):
        return None
    layout = layout_of(frame.format.name)
    if layout is not None and layout.kind == "yuv":  # swscale's 255 of 8 bits is less than what is opaque in 16
        layout = replace(layout, alpha=Place(len(layout.places)))
    if layout is not None and (alpha := layout.opacity(frame)) is not None:
        return _share(alpha, layout)
    deep = reformatted(frame, colour, DISPLAYED, Colour("rgb", colour.matrix, True))
    return np.asarray(deep.to_ndarray()[..., 3].astype(np.float32) / np.float32(_WHITE), np.float32)


def _share(alpha: NDArray[Any], layout: Layout) -> NDArray[np.float32]:
    """Samples of alpha, as they are stored, as 0..1."""
    if layout.floating:
        return np.asarray(np.nan_to_num(alpha.astype(np.float32)).clip(0, 1), np.float32)
    return np.asarray(alpha.astype(np.float32) / np.float32((1 << layout.depth) - 1), np.float32)


def _hide(frame: VideoFrame, source: VideoFrame, layout: Layout, patch: Patch) -> None:
    """Keep a face where there is something of it: what colours multiplied with alpha have beyond alpha is light that is added to
    whatever lies behind. Where `source` has such light itself, it stays free, and floats where they are not wholly transparent."""
    rows, columns = patch.alpha.shape
    window = np.s_[patch.y : patch.y + rows, patch.x : patch.x + columns]
    if (alpha := layout.opacity(source)) is None:
        return
    most, parts = alpha[window], range(len(layout.places))
    before = [layout.view(source, part)[window] for part in parts]
    if layout.floating:
        bound = (most == 0) & np.all([values == 0 for values in before], axis=0)
    else:
        bound = np.all([values <= most for values in before], axis=0)
    for part in parts:
        values = layout.view(frame, part)[window]
        np.copyto(values, 0 if layout.floating else np.minimum(values, most), where=bound)


def float_frame(values: NDArray[np.float32], alpha: NDArray[np.float32] | None = None) -> VideoFrame:
    """A frame `gbrpf32le` of `(h, w, 3)` float32 RGB, or `gbrapf32le` with `(h, w)` alpha."""
    height, width = values.shape[:2]
    frame = VideoFrame(width, height, "gbrpf32le" if alpha is None else "gbrapf32le")
    planes = [values[..., 1], values[..., 2], values[..., 0], *([] if alpha is None else [alpha])]
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.float32).reshape(-1, plane.line_size // 4)
        rows[:height, :width] = samples
    frame.colorspace, frame.color_range = RGB_SPACE, FULL
    return frame


def is_deep(frame: VideoFrame) -> bool:
    """True where a component has more than 8 bits."""
    return any(component.bits > _BYTE for component in frame.format.components if not component.is_alpha)


def _signals(frame: VideoFrame, colour: Colour) -> NDArray[Any]:
    """R'G'B' in the picture's own transfer function, as stored: `(h, w, 3)` uint8, uint16 (more than 8 bits) or float32."""
    if (known := layout_of(frame.format.name)) and known.floating:
        places = range(3) if known.kind == "rgb" else (0, 0, 0)
        return np.stack([known.view(frame, place).astype(np.float32) for place in places], axis=-1)
    if colour.kind == "gray" and (layout := layout_of(frame.format.name)):
        return _gray_to_rgb(layout, frame, colour)
    return _packed_rgb(frame, colour)


def _packed_rgb(frame: VideoFrame, colour: Colour) -> NDArray[Any]:
    known = layout_of(frame.format.name)
    if known is not None and known.kind == "rgb" and known.depth > _BYTE:
        # swscale 9.5 leaves the lowest of 16 bits empty where 10 or 12 become 16 in planes, so that white is grey.
        rgb = np.empty((frame.height, frame.width, 3), np.uint16)
        lower = 2 * _BYTE - known.depth
        for component in range(3):
            values = known.view(frame, component).astype(np.uint16)
            rgb[..., component] = (values << lower) | (values >> (known.depth - lower)) if lower else values
        return rgb
    name = _DEEP_RGB if is_deep(frame) else "rgb24"
    converted = reformatted(frame, colour, name, Colour("rgb", colour.matrix, True))
    if name == "rgb24":
        plane, width = converted.planes[0], 3 * converted.width
        rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.height * plane.line_size].reshape(plane.height, -1)
        return np.ascontiguousarray(rows[:, :width]).reshape(converted.height, converted.width, 3)
    layout = layout_of(name)
    assert layout is not None
    return np.asarray(cv2.merge([np.ascontiguousarray(layout.view(converted, component)) for component in range(3)]))


def _gray_to_rgb(layout: Layout, frame: VideoFrame, colour: Colour) -> NDArray[Any]:
    """Exact, by a table: swscale reads untagged gray as full and tagged gray by version."""
    unit, top = 1 << (layout.depth - 8), (1 << layout.depth) - 1
    black, span = (0, top) if colour.full else (16 * unit, 219 * unit)
    white = 255 if layout.depth == _BYTE else 65535
    table = np.clip(np.rint((np.arange(top + 1) - black) * (white / span)), 0, white)
    values = layout.view(frame, 0).astype(np.uint16) >> layout.shift
    gray = table.astype(np.uint8 if white == 255 else np.uint16)[values]
    return np.repeat(gray[..., None], 3, axis=-1)


def writable(frame: VideoFrame, colour: Colour) -> VideoFrame:
    """A copy of `frame` whose planes can be written into: in its own format where that has a layout, or in one near it."""
    return _own_copy(frame) if layout_of(frame.format.name) else _in_writable_format(frame, colour)


def _own_copy(frame: VideoFrame) -> VideoFrame:
    """A frame with its own buffers and every property of `frame`, side data included.

    PyAV cannot copy a frame. A null filter returns a second reference to the same buffers, and making that writable
    copies them, because the first reference still holds them.
    """
    copy = through(frame)
    copy.make_writable()
    return copy


def _in_writable_format(frame: VideoFrame, colour: Colour) -> VideoFrame:
    alpha = any(component.is_alpha for component in frame.format.components) or frame.format.name == "pal8"
    best, _ = find_best_pix_fmt_of_list(_WRITABLE_FORMATS, frame.format, alpha)
    name = best.name if best is not None else "rgb24"
    layout = layout_of(name)
    assert layout is not None, name
    return reformatted(frame, colour, name, Colour(layout.kind, colour.matrix, colour.full))


def _composite_one(frame: VideoFrame, layout: Layout, colour: Colour, patch: Patch) -> None:
    if not patch.alpha.size:
        return
    alpha = np.clip(np.asarray(patch.alpha, np.float32), 0, 1)
    rgb = np.asarray(patch.rgb, np.float32) / np.float32(np.iinfo(patch.rgb.dtype).max)
    if layout.kind == "rgb":
        top = np.float32((1 << layout.depth) - 1)
        for component in range(3):
            _mix(layout.view(frame, component), layout, patch.x, patch.y, alpha, alpha * rgb[..., component] * top)
        return
    values = colour.code_values(rgb, layout.depth)
    _mix(layout.view(frame, 0), layout, patch.x, patch.y, alpha, alpha * values[0])
    if layout.kind == "gray":
        return
    left, top_row = patch.x >> layout.subsampling[0], patch.y >> layout.subsampling[1]
    small_alpha = _area_mean(alpha, patch, frame, layout.subsampling)
    for component in (1, 2):
        small = _area_mean(alpha * values[component], patch, frame, layout.subsampling)
        _mix(layout.view(frame, component), layout, left, top_row, small_alpha, small)


def moved_fields(own: NDArray[Any], seen: NDArray[Any], restored: NDArray[Any]) -> NDArray[Any]:
    """`own` moved by what restoration changed of what was `seen`; equal types and shapes, clipped to the type."""
    top = np.iinfo(own.dtype).max
    return np.asarray(np.clip(own.astype(np.int32) + restored - seen, 0, top), own.dtype)


def _add_one(frame: VideoFrame, layout: Layout, colour: Colour, patch: Patch, change: NDArray[np.float32]) -> None:
    """Move the code values under `patch` by `change` `(h, w, 3)` of R'G'B' in 0..1; what moves by 0 keeps its bits."""
    if not change.size:
        return
    if layout.floating and layout.kind == "gray":
        matrix = colour.matrix
        luma = change @ np.array([matrix.kr, 1 - matrix.kr - matrix.kb, matrix.kb], np.float32)
        _move(layout.view(frame, 0), layout, patch.x, patch.y, luma)
        return
    if layout.kind == "rgb":
        top = np.float32(1 if layout.floating else (1 << layout.depth) - 1)
        for component in range(3):
            _move(layout.view(frame, component), layout, patch.x, patch.y, change[..., component] * top)
        return
    moves = colour.changes(change, layout.depth)
    _move(layout.view(frame, 0), layout, patch.x, patch.y, moves[0])
    if layout.kind == "gray":
        return
    left, top_row = patch.x >> layout.subsampling[0], patch.y >> layout.subsampling[1]
    for component in (1, 2):
        mean = _area_mean(moves[component], patch, frame, layout.subsampling)
        _move(layout.view(frame, component), layout, left, top_row, mean)


def _move(plane: NDArray[Any], layout: Layout, x: int, y: int, by: NDArray[np.float32]) -> None:
    window = plane[y : y + by.shape[0], x : x + by.shape[1]]
    if layout.floating:
        most = np.finfo(window.dtype).max
        with np.errstate(invalid="ignore"):
            moved = np.clip(window.astype(np.float32) + by, -most, most).astype(window.dtype)
        np.copyto(window, moved, where=(by != 0) & np.isfinite(window))  # infinite light stays infinite
        return
    moved = np.clip(np.rint((window >> layout.shift).astype(np.float32) + by), 0, (1 << layout.depth) - 1)
    np.copyto(window, moved.astype(window.dtype) << layout.shift, where=by != 0)


def _overlap(one: Patch, other: Patch) -> bool:
    (height, width), (rows, columns) = one.alpha.shape, other.alpha.shape
    across = one.x < other.x + columns and other.x < one.x + width
    down = one.y < other.y + rows and other.y < one.y + height
    return bool(across and down)


def _mix(plane: NDArray[Any], layout: Layout, x: int, y: int, alpha: NDArray[np.float32], weighted: NDArray[np.float32]) -> None:
    """`plane = (1 - alpha) plane + weighted` inside the window at `(x, y)`, only where alpha is not 0."""
    window = plane[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    native = (window >> layout.shift).astype(np.float32)
    mixed = np.clip(np.rint(native * (1 - alpha) + weighted), 0, (1 << layout.depth) - 1)
    np.copyto(window, mixed.astype(window.dtype) << layout.shift, where=alpha > 0)


def _area_mean(values: NDArray[np.float32], patch: Patch, frame: VideoFrame, subsampling: tuple[int, int]) -> NDArray[np.float32]:
    """Means over the chroma samples' areas; 0 outside the patch, the last row or column repeated past an odd edge."""
    for axis, (start, length, shift) in enumerate(
        [(patch.y, frame.height, subsampling[1]), (patch.x, frame.width, subsampling[0])]
    ):
        cell = 1 << shift
        stop = start + values.shape[axis]
        before, after = start % cell, -stop % cell
        if before or after:
            shape = list(values.shape)
            shape[axis] += before + after
            wide = np.zeros(shape, np.float32)
            lines, last = (wide if axis == 0 else wide.T), shape[axis] - after
            lines[before:last] = values if axis == 0 else values.T
            if stop == length:
                lines[last:] = lines[last - 1]
            values = wide
        # Slices instead of numpy's `mean` over a short axis, which gives the same bits in many times the time.
        parts = [values[at::cell] if axis == 0 else values[:, at::cell] for at in range(cell)]
        values = parts[0] if cell == 1 else sum(parts[1:], parts[0]) / np.float32(cell)
    return values

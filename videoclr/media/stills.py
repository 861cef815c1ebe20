"""The part of the writer that makes pictures: one file, or a numbered sequence."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from av.codec.codec import find_best_pix_fmt_of_list
from av.codec.context import CodecContext
from av.sidedata.sidedata import Type
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError, EncodeError, MediaError
from videoclr.media import dpx, exr, tiff, unread
from videoclr.media.captions import CAPTIONS_LOST, has_captions
from videoclr.media.clock import with_clock
from videoclr.media.colour import BT601, FULL, LIMITED, PRIMARIES, RGB_SPACE, Colour, colour_of, kind_of
from videoclr.media.density import LARGEST, USUAL, with_density
from videoclr.media.encoders import formats_of, what_is_lost
from videoclr.media.exif import LONGEST, exif_of, in_png, with_exif
from videoclr.media.faults import AV_ERRORS, explained, reason
from videoclr.media.filters import through
from videoclr.media.hdr import wide_primaries
from videoclr.media.layout import layout_of
from videoclr.media.linear import as_light, transfer_of
from videoclr.media.orientation import Orientation, carries
from videoclr.media.picture import Picture, colour_in, float_frame, frame_of_rgb, is_multiplied, opacity_of, reformatted, turned
from videoclr.media.proxy import Proxy, as_uint16
from videoclr.media.source import matching, numbered
from videoclr.media.target import behind_link
from videoclr.media.timecode import Timecode

_log = logging.getLogger("videoclr.media.stills")

_TOP = 65535
_PROFILED = {"png", "mjpeg", "tiff"}
"""Encoders whose pictures keep a colour profile; FFmpeg writes it into PNG and JPEG."""
_NOTED = {"png", "mjpeg", "tiff"}
"""Encoders whose pictures keep EXIF data; FFmpeg's own writes it into PNG alone."""
_COLOURED = {"png", "exr"}
"""Encoders whose pictures say here which primaries theirs are."""
_SHAPED = {"png", "mjpeg", "tiff", "exr", "dpx"}
"""Encoders that write the sample aspect ratio."""
_MEASURED = {"png", "mjpeg", "tiff"}
"""Encoders whose pictures say here how many of their pixels make an inch."""
_SIDES = {"libwebp": ("WebP", 16_383), "mjpeg": ("JPEG", 65_500)}
"""Encoders of files that hold no longer side -> what these are called, and how many pixels it has at most."""
_GREY = "gray"
_GREY_QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 97, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
"""As large as the others, which FFmpeg's encoder makes; it makes none of one channel."""
_ICCP = b"iCCP"
"""PNG's chunk of a colour profile."""
_SPACE = slice(16, 20)
"""Where a colour profile says what the numbers are that it is about (ICC.1, 7.2.6)."""
_PALETTE, _CLEAR = "pal8", "rgba"
_OPAQUE = 1 - 1 / 512
"""What is as good as that: swscale's white is a little less in 16 bits."""
_CORNER = 8
"""Width and height of a picture that is made for what it carries."""
_OPTIONS = {
    "libwebp": {"quality": "95"},
    "mjpeg": {"huffman": "optimal", "qmin": "2", "qmax": "2"},
    "exr": {"format": "half", "compression": "zip16"},
}
_HDR = ("png", "exr")
"""Encoders of pictures that say, or need not say, which transfer function theirs is."""
_CLOCKED = {"dpx": dpx.is_dpx, "exr": exr.is_exr}
"""Encoders whose pictures say their rate and timecode -> whether a source's header does, which then stays."""
_FILM = ("dpx", "exr")
"""Those that take a film scan."""


class Stills:
    """Pictures in the making; they appear under their names together, when all are written.

    Args:
        path: a picture's name, or a printf pattern.
        pattern: which of the two.
        encoder: FFmpeg's encoder of a picture.
        first: number of the first picture of a pattern.
        overwrite: replace pictures that exist.
        pix_fmt: FFmpeg's pixel format; None takes the one nearest to the source's.
        linear: EXR pictures hold linear light (`videoclr.media.linear`); False leaves the code values, as 0..1.
        whole: EXR pictures hold floats of 32 bits, not of 16.
        rate: pictures a second, which EXR and DPX pictures say.
        label: timecode of the first picture, which they say as well, each its own; None for none.
        aspect: width of a pixel over its height.
        density: pixels an inch, in print; None where nobody says.

    Raises:
        ConfigError: the encoder does not take `pix_fmt`.
        MediaError: pictures of the pattern exist already.
    """

    def __init__(
        self,
        path: str,
        encoder: str,
        first: int,
        overwrite: bool,
        pix_fmt: str | None = None,
        linear: bool = True,
        whole: bool = False,
        rate: Fraction | None = None,
        label: Timecode | None = None,
        *,
        pattern: bool = False,
        aspect: Fraction = Fraction(1),
        density: Fraction | None = None,
    ) -> None:
        self.path, self.encoder, self.overwrite = path, encoder, overwrite
        self._place = os.path.abspath(path)  # whoever embeds this may go to another folder meanwhile
        self.pix_fmt, self.linear, self.whole, self.rate = pix_fmt, linear, whole, rate
        if pix_fmt is not None and pix_fmt not in (known := _formats(encoder)):
            raise ConfigError(f"$.media.pix_fmt: {encoder} does not take {pix_fmt!r}; it takes {', '.join(known)}")
        self.warnings: list[str] = []
        self.pattern, self.aspect, self.label, self._captioned = pattern, aspect, label, False
        self.density = density if aspect == 1 and density is not None and 1 <= density <= LARGEST else None
        if density is not None and not 1 <= density <= LARGEST:
            self.warnings.append(f"the resolution of {float(density):.6g} pixels an inch is left out; 1 to {LARGEST} are kept")
        self._first = self._next = first
        self._parts: list[tuple[Path, Path]] = []
        self.check()

    @property
    def numbers(self) -> range:
        """Of the pictures written so far."""
        return range(self._first, self._next)

    def check(self) -> None:
        """Refuse a pattern of which there are pictures already.

        Raises:
            MediaError: there are.
        """
        if self.pattern and not self.overwrite and (there := matching(self._place)):
            name = Path(numbered(self._place, there[0])).name
            raise MediaError(self.path, f"{name} exists already; remove it or allow overwriting (--overwrite)")

    def write(self, picture: Picture, composite: Callable[[], VideoFrame]) -> None:
        """Encode one picture and put it aside as a `.part` file.

        Raises:
            MediaError: a second picture for one name, or the disk refuses.
            EncodeError: the encoder refuses.
        """
        if self._parts and not self.pattern:
            what = "holds one picture, and there are more"
            raise MediaError(self.path, f"{what}; use a pattern such as frame%04d{Path(self.path).suffix}")
        target = Path(behind_link(numbered(self._place, self._next) if self.pattern else self._place))
        written = len(self.numbers)
        self._next += 1
        # Of the source's own frame: what a PNG becomes in YUV still has the PNG's profile, at which PyAV must not look.
        written_here = self.encoder in ("mjpeg", "tiff") or (self.encoder == "png" and tiff.is_tiff(picture.head))
        exif = exif_of(picture.frame, picture.head) if written_here else b""
        data = self._encoded(*self._prepared(picture, composite()), exif, picture.head)
        if self.encoder == "exr" and exr.is_exr(picture.head):
            data = exr.with_head(data, picture.head)
        elif self.encoder == "exr" and (primaries := wide_primaries(picture.frame)):
            data = exr.with_primaries(data, primaries)
        elif self.encoder == "dpx" and dpx.is_dpx(picture.head):
            data = dpx.with_head(data, picture.head)
        if self.rate is not None and self.encoder in _CLOCKED and not _CLOCKED[self.encoder](picture.head):
            data = with_clock(data, self.rate, None if self.label is None else self.label.after(written, self.rate))
        part = target.with_name(target.name + ".part")
        self._parts.append((part, target))
        with explained(self.path, "cannot be written"):
            part.write_bytes(data)

    def finish(self) -> None:
        """Give every picture its name."""
        with explained(self.path, "cannot be finished"):
            for _, target in self._parts:
                if not self.overwrite and target.is_file():
                    raise MediaError(self.path, f"another program made {target.name} meanwhile, which stays; choose another name")
            while self._parts:
                os.replace(*self._parts[0])
                del self._parts[0]
        others = [number for number in matching(self._place) if number not in self.numbers] if self.pattern else []
        if others:
            ends = " to ".join(Path(numbered(self.path, number)).name for number in sorted({others[0], others[-1]}))
            are = "1 picture is" if len(others) == 1 else f"{len(others)} pictures are"
            self._warn(f"{are} there besides ({ends}) that this run did not write; remove what is of an earlier one")

    def abort(self) -> None:
        """Remove what was put aside."""
        for part, _ in self._parts:
            part.unlink(missing_ok=True)
        self._parts = []

    def takes_alpha(self, picture: Picture) -> bool:
        """Whether a picture keeps its transparency."""
        known = formats_of(self.encoder) if self.pix_fmt is None else [self.pix_fmt]
        return any(part.is_alpha for name in known for part in VideoFormat(name).components)

    def _prepared(self, picture: Picture, frame: VideoFrame) -> tuple[VideoFrame, bool]:
        """`frame` upright in a format that the encoder takes, and whether it is full range."""
        film = picture.proxy is not None and picture.proxy.curve == "cineon"
        proxy = picture.proxy
        if proxy is not None and self.encoder not in (_FILM if film else _HDR):
            shown = Picture(frame, picture.colour, picture.orientation, proxy).rgb()
            picture = Picture(frame_of_rgb(shown, Orientation()))
            frame = picture.frame
            what, keeps = ("densities of film", "dpx keeps them") if film else ("HDR", "png keeps it")
            self._warn(f"{self.encoder} holds no {what}: the pictures are tone-mapped to BT.709; {keeps}")
        head = picture.head
        self._tell_of(picture, frame)
        if not picture.orientation.upright:
            # A picture file has no display matrix that every viewer heeds: the pixels themselves are turned.
            frame = turned(frame, colour_in(picture, frame), picture.orientation)
            picture = Picture(frame, colour_in(picture, frame), Orientation())
        colour = Picture(frame).colour if frame.format.name != picture.frame.format.name else picture.colour
        if self.encoder != "png" and frame.format.name == _PALETTE and is_clear(frame, colour):
            # Palettes have transparency in PNG alone.
            frame = reformatted(frame, colour, _CLEAR, Colour("rgb", colour.matrix, True))
        if self.encoder == "exr":
            return self._light(frame, colour, proxy, head), True
        known = _formats(self.encoder)
        if self.encoder == "tiff" and self.pix_fmt is None and not tiff.is_tiff(head):
            known = [name for name in known if kind_of(name) != "yuv"]  # which Nuke and others do not read in TIFF
        wanted = frame.format.name.replace("yuv4", "yuvj4") if self.encoder == "mjpeg" else frame.format.name
        if self.encoder == "mjpeg" and colour.kind == "gray" and self.pix_fmt is None:
            wanted = _GREY
        elif self.encoder == "mjpeg" and colour.kind != "yuv":
            wanted = "yuvj444p"
        wanted = self.pix_fmt or wanted
        if wanted not in known:
            alpha = any(part.is_alpha for part in frame.format.components)
            best, _ = find_best_pix_fmt_of_list(known, frame.format, alpha)
            wanted = best.name if best is not None else known[0]
        if self.encoder == "dpx" and self.pix_fmt is None and wanted.endswith(("le", "be")):
            wanted = wanted[:-2] + ("le" if dpx.is_dpx(head) and not dpx.is_big_endian(head) else "be")
        lost = [word for word in what_is_lost(frame.format, wanted) if word in ("transparency", "bit depth")]
        if "transparency" in lost and not is_clear(frame, colour):
            lost.remove("transparency")
        if lost:
            self._warn(f"{frame.format.name} is written as {wanted}: less {', '.join(lost)}")
        kind = kind_of(wanted)
        # Picture files know one YUV: BT.601; full range in JPEG, limited in WebP, either in TIFF.
        full = kind != "yuv" or self.encoder == "mjpeg" or (self.encoder == "tiff" and colour.kind == "yuv" and colour.full)
        to = Colour(kind, BT601, full)
        made = reformatted(frame, colour, wanted, to)
        return self._fitting(made, colour.kind), to.full

    def _fitting(self, frame: VideoFrame, before: str) -> VideoFrame:
        """`frame`, whose kind was `before`, without a colour profile that is not about its numbers: of CMYK, which became RGB, or
        of grey in colours."""
        if self.encoder not in _PROFILED or len(profile := _profile(frame)) < _SPACE.stop:
            return frame
        kind, space = kind_of(frame.format.name), profile[_SPACE]
        grey = space == b"GRAY"
        if space != b"CMYK" and (grey == (kind == "gray") or (kind == before and not grey)):
            return frame  # many a grey picture has come with a profile of RGB
        what = space.decode("ascii", "replace").strip()
        self._warn(f"the colour profile (ICC) is left out: it is one of {what}; colours may be shown differently")
        return through(frame, ("sidedata", "mode=delete:type=ICC_PROFILE"))

    def _tell_of(self, picture: Picture, frame: VideoFrame) -> None:
        """Warn of what `frame`, which is `picture` with its patches, cannot take along."""
        if self.encoder not in _PROFILED and carries(picture.frame, Type.ICC_PROFILE):
            self._warn("the picture's colour profile (ICC) is left out: its colours may be shown differently")
        elif self.encoder not in _COLOURED and wide_primaries(picture.frame) and not carries(picture.frame, Type.ICC_PROFILE):
            name = PRIMARIES.get(picture.frame.color_primaries, "bt2020")
            self._warn(f"the primaries ({name}) are left out: colours may be shown paler; .png and .exr pictures keep them")
        if not self._captioned and has_captions(picture.frame):
            self._captioned = True
            self._warn(CAPTIONS_LOST)
        if self.encoder not in _NOTED and exif_of(picture.frame, picture.head):
            self._warn("the picture's EXIF data are left out; .jpg, .png and .tif keep them")
        if self.aspect != 1 and self.encoder not in _SHAPED:
            self._warn(f"the sample aspect ratio {self.aspect} is lost; .png, .jpg, .tif, .exr and .dpx pictures keep it")
        if self.density is not None and self.encoder not in _MEASURED and round(self.density) not in USUAL:
            self._warn(f"the resolution of {round(self.density)} pixels an inch is left out; .png, .jpg and .tif keep it")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            _log.warning("%s: %s", self.path, text)

    def _light(self, frame: VideoFrame, colour: Colour, proxy: Proxy | None, head: bytes) -> VideoFrame:
        """`frame`, of a file with the header `head`, as floats; what it holds in floats already stays what it is.

        Colours are multiplied with alpha, as OpenEXR has them, unlike most others.
        """
        layout = layout_of(frame.format.name)
        signals = Picture(frame, colour, Orientation()).signals()
        if layout is not None and layout.floating:
            opacity = layout.opacity(frame) if self.pix_fmt != "gbrpf32le" else None
            if opacity is not None and tiff.is_tiff(head) and not is_multiplied(head):
                signals = signals * opacity.astype(np.float32)[..., None]
            return float_frame(signals, None if opacity is None else opacity.astype(np.float32))
        signals, multiplied = as_uint16(signals), is_multiplied(head)
        alpha = opacity_of(frame, colour) if self.pix_fmt != "gbrpf32le" else None
        if self.linear:
            return float_frame(as_light(signals, transfer_of(frame, proxy), alpha, multiplied), alpha)
        values = signals.astype(np.float32) / np.float32(_TOP)
        return float_frame(values if alpha is None or multiplied else values * alpha[..., None], alpha)

    def _encoded(self, frame: VideoFrame, full: bool, exif: bytes, head: bytes) -> bytes:
        name, most = _SIDES.get(self.encoder, ("", 0))
        if most and max(frame.width, frame.height) > most:
            size = f"{frame.width}x{frame.height}"
            raise EncodeError(
                self.path, f"a picture of {size} is too large for {name}, which holds {most} a side; use .png or .tif"
            )
        if self.encoder == "mjpeg" and frame.format.name == _GREY:
            return self._encoded_grey(frame, exif)
        context = CodecContext.create(self.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
        context.framerate = self.rate or Fraction(25)
        context.sample_aspect_ratio = self.aspect
        context.colorspace = RGB_SPACE if kind_of(frame.format.name) == "rgb" else BT601.tag
        context.color_range = FULL if full else LIMITED
        context.options = {**_OPTIONS.get(self.encoder, {}), **({"format": "float"} if self.whole else {})}
        if self.encoder == "tiff" and self.density is not None:
            context.options = {**context.options, "dpi": str(round(self.density))}
        less = None
        if self.encoder == "tiff" and (compression := tiff.compression(head)) is not None:
            context.options = {**context.options, "compression_algo": compression}
            less = tiff.differences(frame, head)
        frame.pict_type = 0
        try:
            packets = [*context.encode(less or frame), *context.encode(None)]
        except AV_ERRORS as error:
            raise EncodeError(self.path, f"{self.encoder} failed: {reason(error)}") from error
        data = b"".join(bytes(packet) for packet in packets)
        if self.encoder == "tiff" and full:
            data = tiff.with_full_range(data)
        if self.encoder == "tiff" and tiff.is_tiff(head):
            data = tiff.with_head(data, head, differing=less is not None)
        if self.encoder == "tiff" and (profile := _profile(frame)):
            data = tiff.with_profile(data, profile)
        if self.encoder in ("png", "mjpeg") and self.density is not None:
            data = with_density(data, self.encoder, self.density)
        if exif and self.encoder == "tiff":
            data = tiff.with_exif(data, exif)
        elif exif and self.encoder == "png":
            data = in_png(data, exif)
        elif exif:
            if len(exif) > LONGEST:
                self._warn("the picture's EXIF data are left out: they are longer than a JPEG's segment")
            else:
                data = with_exif(data, exif)
        return data

    def _encoded_grey(self, frame: VideoFrame, exif: bytes) -> bytes:
        """A JPEG of one channel, with what FFmpeg says in one of `frame`'s corner: shape, colour profile, resolution."""
        layout = layout_of(_GREY)
        assert layout is not None
        made, array = cv2.imencode(".jpg", layout.view(frame, 0), _GREY_QUALITY)
        corner = reformatted(_corner(frame), Picture(frame).colour, "yuvj444p", Colour("yuv", BT601, True))
        told = self._encoded(corner, True, exif, b"")
        if not made:
            raise EncodeError(self.path, "mjpeg failed: OpenCV refused the picture")
        return unread.with_segments(array.tobytes(), told)


def _formats(encoder: str) -> list[str]:
    """Pixel formats of which pictures can be written."""
    return [*formats_of(encoder), *([_GREY] if encoder == "mjpeg" else [])]


def is_clear(frame: VideoFrame, colour: Colour) -> bool:
    """Whether something shines through."""
    if frame.format.name == _PALETTE:
        frame = reformatted(frame, colour, _CLEAR, Colour("rgb", colour.matrix, True))
    opacity = opacity_of(frame, colour)
    return opacity is not None and bool((opacity < _OPAQUE).any())


def _corner(frame: VideoFrame) -> VideoFrame:
    """A small picture that carries what `frame` does."""
    return through(frame, ("crop", f"{min(_CORNER, frame.width)}:{min(_CORNER, frame.height)}:0:0:exact=1"))


def _profile(frame: VideoFrame) -> bytes:
    """The colour profile of a frame, empty for none: out of a PNG of its corner, since PyAV cannot look at every one."""
    if not carries(frame, Type.ICC_PROFILE):
        return b""
    corner = _corner(frame)
    rgb = reformatted(corner, colour_of(corner), "rgb24", Colour("rgb", BT601, True))
    context = CodecContext.create("png", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = rgb.width, rgb.height, "rgb24", Fraction(1, 25)
    data = b"".join(bytes(packet) for packet in [*context.encode(rgb), *context.encode(None)])
    at = data.find(_ICCP)
    if at < 0:
        return b""
    packed = data.index(b"\0", at + len(_ICCP)) + 2  # behind the name, and how it is compressed
    return zlib.decompress(data[packed : at + len(_ICCP) + int.from_bytes(data[at - 4 : at], "big")])

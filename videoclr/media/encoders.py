"""Codecs by the names people use, their options, and which pixel format fits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from types import MappingProxyType

from av.codec.codec import Codec, PixFmtLoss, UnknownCodecError, find_best_pix_fmt_of_list
from av.codec.context import Flags, ThreadType
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat, names  # type: ignore[attr-defined]
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError
from videoclr.media.colour import BT601, FULL, LIMITED, RGB_SPACE, UNSPECIFIED, Colour, default_matrix, kind_of
from videoclr.media.layout import layout_of

# SVT-AV1 writes its banner to standard error unless told not to before it is first used.
os.environ.setdefault("SVT_LOG", "1")

_CPU_AVX512F = 13
"""OpenCV's number of the AVX-512 foundation; its Python module gives it no name."""
_LAMBDA = 118
"""FF_QP2LAMBDA: FFmpeg's quality unit for a quantiser of 1."""
_RANGED = {"matroska", "webm", "mp4"}
"""Muxers that write down the range themselves."""
_EVEN_ONLY = {"libx264", "libx265", "libsvtav1"}
_EIGHT = 8
DEFAULT_CODEC = "h264"
RAW = "rawvideo"
"""No codec: the planes as they are."""
Y4M_FORMATS = (
    "yuv420p", "yuv422p", "yuv444p", "gray", "yuv411p",
    *(f"yuv{shape}p{depth}le" for depth in (9, 10, 12, 14, 16) for shape in (420, 422, 444)),
    "gray9le", "gray10le", "gray12le", "gray16le",
)  # fmt: skip
"""Pixel formats that YUV4MPEG2 has a name for; those of more than 8 bits are FFmpeg's extension."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """How one codec is encoded here."""

    name: str
    """FFmpeg's encoder."""
    quality: str | None = None
    """The option that `crf` sets; `qscale` for a fixed quantiser; None where there is no such choice."""
    crf: float | None = None
    """Its default: differences do not show side by side."""
    preset: str | None = None
    """The option that `preset` sets; None where there is none."""
    speed: str | None = None
    """Its default."""
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    params: tuple[str, ...] = ()
    """Settings of the encoder's own library."""
    playable: bool = False
    """True for codecs that are watched: RGB sources become 4:2:0 there, since players show nothing else."""

    formats: tuple[str, ...] = ()
    """Pixel formats, where FFmpeg's encoder does not tell them."""

    def settings(self, crf: float | None, preset: str | None) -> dict[str, str]:
        """FFmpeg options for `crf` and `preset` (None for the defaults).

        Raises:
            ConfigError: the codec has no such choice.
        """
        out = dict(self.options) | (x264_options() if self.name == "libx264" else {})
        if crf is not None and self.quality is None:
            raise ConfigError(f"$.media.crf: {self.name} has no such setting; leave it out")
        if preset is not None and self.preset is None:
            raise ConfigError(f"$.media.preset: {self.name} has no such setting; leave it out")
        value = self.crf if crf is None else crf
        if self.quality not in (None, "qscale") and value is not None:
            out[str(self.quality)] = f"{value:g}"
        if self.preset is not None and (preset or self.speed):
            out[self.preset] = str(preset or self.speed)
        return out


ENCODERS: Mapping[str, Encoder] = MappingProxyType(
    {
        "h264": Encoder("libx264", "crf", 17, "preset", "medium", playable=True),
        "hevc": Encoder("libx265", "crf", 19, "preset", "medium", params=("log-level=error",), playable=True),
        "av1": Encoder("libsvtav1", "crf", 22, "preset", "6", playable=True),
        "vp9": Encoder("libvpx-vp9", "crf", 22, "cpu-used", "2", {"deadline": "good", "row-mt": "1"}, playable=True),
        "ffv1": Encoder("ffv1", options={"level": "3", "coder": "1", "context": "1", "slices": "4", "slicecrc": "1"}),
        "prores": Encoder("prores_ks", options={"vendor": "apl0"}),
        "mjpeg": Encoder("mjpeg", "qscale", 2, options={"huffman": "optimal"}),
        RAW: Encoder(RAW, formats=tuple(sorted(name for name in names if layout_of(name) is not None))),
    }
)
"""By the names of `media.codec`."""


@cache
def x264_options() -> dict[str, str]:
    """Options with which libx264 gives the same bytes for the same pictures, whatever lay in memory before.

    With AVX-512, the macroblock tree of the x264 that PyAV 18 carries reads memory that nobody set, and its rate control follows:
    `MALLOC_PERTURB_=1` and `=50` gave different files. Its AVX2 code reads only what was written.
    """
    import cv2

    return {"x264-params": "asm=avx2"} if cv2.checkHardwareSupport(_CPU_AVX512F) else {}


def encoder_of(codec: str) -> Encoder:
    """The encoder of a codec's name.

    Raises:
        ConfigError: unknown; the message lists the choices.
    """
    found = ENCODERS.get(codec)
    if found is None:
        raise ConfigError(f"$.media.codec: unknown codec {codec!r}; known here: {', '.join(ENCODERS)}")
    return found


def formats_of(encoder: str) -> list[str]:
    """Pixel formats that FFmpeg's `encoder` takes; ConfigError where this build lacks it."""
    try:
        return [one.name for one in Codec(encoder, "w").video_formats or []]
    except UnknownCodecError as error:
        raise ConfigError(f"$.media.codec: this FFmpeg was built without {encoder}; choose another codec") from error


def choose_format(encoder: Encoder, source: VideoFormat, size: tuple[int, int], asked: str | None) -> str:
    """The pixel format to encode `source` in: `asked`, the source's own, or the nearest that `encoder` takes.

    Raises:
        ConfigError: `asked` is none of the encoder's, or the size is odd where the encoder has no way to store it.
    """
    known = list(encoder.formats) or formats_of(encoder.name)
    if asked is not None and asked not in known:
        raise ConfigError(f"$.media.pix_fmt: {encoder.name} does not take {asked!r}; it takes {', '.join(known)}")
    name = asked or _nearest(encoder, source, known)
    odd = encoder.name in _EVEN_ONLY and (size[0] % 2 or size[1] % 2)
    if odd and _is_subsampled(name):
        whole = "yuv444p10le" if VideoFormat(name).components[0].bits > _EIGHT else "yuv444p"
        if asked is not None or whole not in known:
            raise ConfigError(
                f"$.media: {encoder.name} cannot store {size[0]}x{size[1]} pictures in {name}, an odd size;"
                " use the codec h264, hevc or ffv1 and leave pix_fmt out"
            )
        name = whole
    return name


def what_is_lost(source: VideoFormat, written: str) -> list[str]:
    """In words what `written` cannot hold of `source`; empty where nothing is lost that counts."""
    _, loss = find_best_pix_fmt_of_list([written], source, True)
    words = {
        PixFmtLoss.ALPHA: "transparency",
        PixFmtLoss.DEPTH: "bit depth",
        PixFmtLoss.RESOLUTION: "colour resolution",
        PixFmtLoss.CHROMA: "colour",
    }
    return [word for kind, word in words.items() if loss & kind]


def written_colour(encoder: str, source: Colour, pixel_format: str, height: int) -> Colour:
    """What the code values in the output shall mean: the source's meaning where the format allows."""
    kind = kind_of(pixel_format)
    if kind == "rgb":
        return Colour(kind, source.matrix, True)
    if encoder == "mjpeg":
        # JFIF knows one meaning: BT.601, full range; decoders take it whatever the container says.
        return Colour(kind, BT601, True)
    if source.kind == "rgb":
        return Colour(kind, default_matrix(height), False)
    if encoder == "prores_ks":
        # Nothing in ProRes or QuickTime says full range: every reader takes it for limited.
        return Colour(kind, source.matrix, False)
    return Colour(kind, source.matrix, source.full or "yuvj" in pixel_format)


def untold(encoder: str, muxer: str, source: Colour, written: Colour) -> str | None:
    """A warning where the range of the output is another, or stands nowhere in the file; None where all is well."""
    if source.kind == "rgb" or not source.full:
        return None
    if encoder == "prores_ks":
        return "full range is written as limited, since prores is never taken for anything else"
    if encoder == "ffv1" and written.full and muxer not in _RANGED:
        return f"{muxer} does not say that ffv1 is full range; mkv does"
    return None


def configure(
    context: VideoCodecContext, encoder: Encoder, crf: float | None, source: Colour, written: Colour, frame: VideoFrame
) -> None:
    """Set what is no option: threads, quantiser, colour tags and interlacing, as `frame` (of the source) has them."""
    # With SLICE, PyAV's default, x264 cuts every frame into slices: slower and worse.
    context.thread_type = ThreadType.AUTO
    context.flags |= Flags.frame_duration
    if encoder.quality == "qscale":
        context.qscale = True
        context.global_quality = round((crf if crf is not None else encoder.crf or 2) * _LAMBDA)
    if encoder.name == "libvpx-vp9":
        context.bit_rate = 0
    context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
    if written.kind == "rgb":
        context.colorspace, context.color_range = RGB_SPACE, FULL
        return
    own = source.kind != "rgb" and source.matrix == written.matrix
    context.colorspace = frame.colorspace if own and frame.colorspace != RGB_SPACE else written.matrix.tag
    untagged = own and frame.color_range not in (LIMITED, FULL) and not written.full
    context.color_range = 0 if untagged else FULL if written.full else LIMITED
    if frame.interlaced_frame and encoder.name in ("libx264", "prores_ks", "ffv1"):
        context.flags |= Flags.interlaced_dct | Flags.interlaced_me


def _nearest(encoder: Encoder, source: VideoFormat, known: list[str]) -> str:
    name = source.name
    if encoder.name == "mjpeg":
        name = name.replace("yuv4", "yuvj4")
    if name in known:
        return name
    plain = name.replace("yuvj", "yuv")
    if plain in known:
        return plain
    if encoder.playable and kind_of(name) == "rgb":
        deep = max(one.bits for one in source.components) > _EIGHT
        if deep and "yuv420p10le" in known:
            return "yuv420p10le"
        return "yuv420p"
    best, _ = find_best_pix_fmt_of_list(known, source, any(one.is_alpha for one in source.components))
    if best is None:
        raise ConfigError(f"$.media.codec: {encoder.name} takes no format near {source.name}; choose another codec")
    return best.name


def _is_subsampled(name: str) -> bool:
    shape = VideoFormat(name, 16, 16)
    return kind_of(name) == "yuv" and (shape.chroma_width(16), shape.chroma_height(16)) != (16, 16)


def usable_rate(rate: Fraction | None) -> Fraction:
    """A frame rate that encoders accept as information: the source's, or 25 where it is unknown or absurd."""
    return rate if rate is not None and 0 < rate <= 1000 else Fraction(25)


__all__ = [
    "DEFAULT_CODEC", "ENCODERS", "RAW", "UNSPECIFIED", "Y4M_FORMATS", "Encoder", "choose_format", "configure", "encoder_of",
    "formats_of", "untold", "usable_rate", "what_is_lost", "written_colour", "x264_options",
]  # fmt: skip

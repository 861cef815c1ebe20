"""Codecs by the names people use, their options, and which pixel format fits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from types import MappingProxyType

from av.codec.codec import Codec, PixFmtLoss, UnknownCodecError, find_best_pix_fmt_of_list
from av.codec.context import Flags, ThreadType
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat, names  # type: ignore[attr-defined]
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError
from videoclr.media.colour import (
    BT601,
    BT709,
    FULL,
    HD_LINES,
    LIMITED,
    MATRICES,
    PRIMARIES,
    RGB_SPACE,
    TRANSFERS,
    UNSPECIFIED,
    Colour,
    default_matrix,
    kind_of,
)
from videoclr.media.layout import layout_of

# SVT-AV1 writes its banner to standard error unless told not to before it is first used.
os.environ.setdefault("SVT_LOG", "1")

_CPU_AVX512F = 13
"""OpenCV's number of the AVX-512 foundation; its Python module gives it no name."""
_PROGRESSIVE, _TOP_CODED, _BOTTOM_CODED = 1, 4, 5
"""AV_FIELD_PROGRESSIVE, _TB and _BT: FFmpeg's own choice for pictures whose top, or bottom, field is shown first."""
_RANGED = {"matroska", "webm", "mp4"}
"""Muxers that write down the range themselves."""
_TAGGING = {"matroska", "webm", "mp4", "mov", "ipod", "3gp", "3g2", "mxf", "mxf_d10", "mxf_opatom"}
"""Muxers that write down all colour tags themselves."""
_TAGLESS = {"ffv1", "rawvideo", "mjpeg", "libvpx", "libvpx-vp9", "mpeg4", "huffyuv", "ffvhuff", "utvideo"}
"""Encoders whose pictures do not say all of it."""
_WITH_MATRIX = {"mjpeg", "libvpx-vp9"}
"""Those of them that say the matrix, or know one alone."""
_USUAL_HD, _USUAL_SD = {"bt709"}, {"bt470bg", "smpte170m"}
"""Primaries that untagged pictures are taken to have."""
_USUAL_CURVES = {"bt709", "smpte170m", "bt2020-10", "bt2020-12"}
"""One curve under four names."""
_EVEN_ONLY = {"libx264", "libx265", "libsvtav1"}
_VP9_ALPHA = "yuva420p"
"""The one format with transparency that libvpx takes of those that it names."""
_NO_ALPHA = {"libx265"}
"""Encoders that name formats with transparency and refuse them all: x265 is built without it."""
_EIGHT = 8
_LOOKAHEAD_SIDE = 64
_FASTEST = 2**31 - 1
"""Bits a second; what encoders hold in an integer of theirs."""
DEFAULT_CODEC = "h264"
RAW = "rawvideo"
"""No codec: the planes as they are."""
Y4M_FORMATS = (
    "yuv420p", "yuv422p", "yuv444p", "gray", "yuv411p",
    *(f"yuv{shape}p{depth}le" for depth in (9, 10, 12, 14, 16) for shape in (420, 422, 444)),
    "gray9le", "gray10le", "gray12le", "gray16le",
)  # fmt: skip
"""Pixel formats that YUV4MPEG2 has a name for; those of more than 8 bits are FFmpeg's extension."""
COPY_LIKE = "copy-like"
"""Asks for the source's own codec; see `videoclr.media.copylike`."""


_DEPTH_8 = ("yuv420p", "yuvj420p", "nv12", "nv21")
_DEPTH_10 = (*_DEPTH_8, "yuv420p10le")
_CHROMA_422 = (*_DEPTH_10, "yuv422p", "yuvj422p", "nv16", "yuv422p10le", "nv20le")
H264_PROFILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "baseline": _DEPTH_8, "main": _DEPTH_8, "high": (*_DEPTH_8, "gray"), "high10": (*_DEPTH_10, "gray", "gray10le"),
        "high422": (*_CHROMA_422, "gray", "gray10le"), "high444": (*_CHROMA_422, "gray", "gray10le", "yuv444p", "yuv444p10le"),
    }
)  # fmt: skip
HEVC_PROFILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "main": ("yuv420p", "yuvj420p"), "main10": ("yuv420p10le",), "main12": ("yuv420p12le",),
        "main422-10": ("yuv422p", "yuvj422p", "yuv422p10le"), "main444-8": ("yuv444p", "yuvj444p", "gbrp"),
        "main444-10": ("yuv444p10le", "gbrp10le"),
    }
)  # fmt: skip
PRORES_PROFILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hq": ("yuv422p10le",), "4444": ("yuv444p10le", "yuva444p10le"), "4444xq": ("yuv444p10le", "yuva444p10le"),
        "standard": ("yuv422p10le",), "lt": ("yuv422p10le",), "proxy": ("yuv422p10le",),
    }
)  # fmt: skip
DNXHR_PROFILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hq": ("yuv422p",), "hqx": ("yuv422p10le",), "444": ("yuv444p10le", "gbrp10le"), "sq": ("yuv422p",), "lb": ("yuv422p",),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of an encoder; None leaves a choice to the codec's default here."""

    crf: float | None = None
    """Constant quality in the codec's own scale."""
    preset: str | None = None
    """Speed preset."""
    pix_fmt: str | None = None
    """FFmpeg's pixel format."""
    profile: str | None = None
    """By the name that `Encoder.profiles` has for it."""
    level: str | None = None
    """`4.1`, of H.264 and HEVC."""
    bit_rate: int | None = None
    """Bits a second on average, instead of a quality."""
    gop: int | None = None
    """Frames from one key frame to the next, at most."""
    b_frames: int | None = None
    """Bidirectional frames in a row, at most."""
    options: Mapping[str, str] = field(default_factory=dict)
    """FFmpeg's options of this encoder; they win."""

    def over(self, other: Wanted) -> Wanted:
        """What is asked for here, and what `other` says of the rest."""
        own = {name: value for name in self.__slots__ if name != "options" and (value := getattr(self, name)) is not None}
        if "crf" in own:
            other = replace(other, bit_rate=None)
        return replace(other, **own, options={**other.options, **self.options})


def bits_per_second(text: str) -> int:
    """`8M`, `800k` or `8000000` as a number.

    Raises:
        ConfigError: it is none.
    """
    scale = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}.get(text[-1:].lower(), 1)
    try:
        rate = round(float(text[:-1] if scale > 1 else text) * scale)
    except (ValueError, OverflowError):
        rate = 0
    if not 0 < rate <= _FASTEST:
        raise ConfigError(f"$.media.bitrate: {text!r} is no bit rate; write 8M, 800k or 8000000")
    return rate


@dataclass(frozen=True, slots=True)
class Encoder:
    """How one codec is encoded here."""

    name: str
    """FFmpeg's encoder."""
    quality: str | None = None
    """The option that `crf` sets; `qscale` for the codec's own scale of a constant quality, `quantiser` for one quantiser
    and no other; None where there is no such choice."""
    crf: float | None = None
    """Its default: differences do not show side by side."""
    preset: str | None = None
    """The option that `preset` sets; None where there is none."""
    speed: str | None = None
    """Its default."""
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    averaging: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Options that a bit rate needs, over `options`."""
    params: tuple[str, ...] = ()
    """Settings of the encoder's own library."""
    presets: tuple[str, ...] = ()
    """What `preset` may be; empty where FFmpeg and its drivers alone know."""
    fields: bool = False
    """True where it can write that pictures hold two fields."""
    playable: bool = False
    """True for codecs that are watched: RGB sources become 4:2:0 there, since players show nothing else."""

    formats: tuple[str, ...] = ()
    """Pixel formats, where FFmpeg's encoder does not tell them."""
    profiles: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Profile -> the pixel formats that it holds; those taken unasked come first."""
    prefix: str | None = None
    """What FFmpeg puts before a profile's name where every picture needs one; None where the encoder chooses by itself."""
    level: str | None = None
    """The option that `level` sets; `params:NAME` for a setting of the encoder's own library."""
    long_gop: bool = False
    """True where pictures depend on each other."""
    smallest: tuple[int, int] = (1, 1)
    """Width, height of the smallest picture; SVT-AV1 never ends with many that are less than 32 wide or high."""
    scale: tuple[float, float] | None = None
    """The least and the greatest `crf`; None where FFmpeg and its drivers alone know. PyAV tells no options of encoders."""
    needs: str = ""
    """The device of a hardware encoder; empty for software."""
    device: str | None = None
    """FFmpeg's kind of the device to which pictures have to be taken first; None where the encoder does that itself."""

    def settings(self, wanted: Wanted) -> dict[str, str]:
        """FFmpeg options for `wanted`; profile and pixel format aside, which go together.

        Raises:
            ConfigError: the codec has no such choice.
        """
        self._check(wanted)
        out = dict(self.options) | (x264_options() if self.name == "libx264" else {})
        value = self.crf if wanted.crf is None else wanted.crf
        if wanted.bit_rate is not None:
            out |= self.averaging
        elif self.quality not in (None, "qscale") and value is not None:
            names = ("qmin", "qmax") if self.quality == "quantiser" else (str(self.quality),)
            out |= dict.fromkeys(names, f"{value:g}")
        if self.preset is not None and (wanted.preset or self.speed):
            out[self.preset] = str(wanted.preset or self.speed)
        params = list(self.params)
        if wanted.level is not None and self.level is not None:
            kind, _, name = self.level.rpartition(":")
            if kind:
                params.append(f"{name}={wanted.level}")
            else:
                out[name] = wanted.level
        for name, text in wanted.options.items():
            own = name == self.params_option and name in out
            out[name] = f"{out[name]}:{text}" if own else text
        if params:
            out[self.params_option] = ":".join([*params, *filter(None, [out.get(self.params_option)])])
        return out

    @property
    def params_option(self) -> str:
        """The option that takes settings of the encoder's own library."""
        return self.name.removeprefix("lib") + "-params"

    def profile_of(self, pixel_format: str, asked: str | None) -> str | None:
        """FFmpeg's value of the option `profile`; None to leave it to the encoder."""
        if asked is None and self.prefix is None:
            return None
        fitting = (name for name, formats in self.profiles.items() if pixel_format in formats)
        return f"{self.prefix or ''}{asked or next(fitting)}"

    def _check(self, wanted: Wanted) -> None:
        missing = {
            "crf": wanted.crf is not None and self.quality is None,
            "preset": wanted.preset is not None and self.preset is None,
            "bitrate": wanted.bit_rate is not None and self.quality is None,
            "gop": wanted.gop is not None and not self.long_gop,
            "level": wanted.level is not None and self.level is None,
            "profile": wanted.profile is not None and not self.profiles,
        }
        if (name := next((name for name, lacks in missing.items() if lacks), None)) is not None:
            raise ConfigError(f"$.media.{name}: {self.name} has no such setting; leave it out")
        if wanted.crf is not None and wanted.bit_rate is not None:
            raise ConfigError("$.media.bitrate: a quality (crf) is given already; leave one of them out")
        if wanted.crf is not None and self.scale is not None and not self.scale[0] <= wanted.crf <= self.scale[1]:
            least, most = self.scale
            raise ConfigError(f"$.media.crf: {self.name} takes {least:g} to {most:g}, got {wanted.crf:g}")
        if wanted.preset is not None and self.presets and wanted.preset not in self.presets:
            known = ", ".join(self.presets)
            raise ConfigError(f"$.media.preset: {self.name} has no preset {wanted.preset!r}; it has {known}")
        if wanted.profile is not None and wanted.profile not in self.profiles:
            known = ", ".join(self.profiles)
            raise ConfigError(f"$.media.profile: {self.name} has no profile {wanted.profile!r}; it has {known}")


def _numbers(least: int, most: int) -> tuple[str, ...]:
    return tuple(map(str, range(least, most + 1)))


_X26X = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo", *_numbers(0, 9))
"""The second ten are the first by number."""

ENCODERS: Mapping[str, Encoder] = MappingProxyType(
    {
        "h264": Encoder(
            "libx264", "crf", 17, "preset", "medium", presets=_X26X, fields=True, playable=True,
            profiles=H264_PROFILES, level="level", long_gop=True, scale=(0, 51),
        ),
        "hevc": Encoder(
            "libx265", "crf", 19, "preset", "medium", {"a53cc": "1"}, params=("log-level=error",), presets=_X26X, playable=True,
            profiles=HEVC_PROFILES, level="params:level-idc", long_gop=True, scale=(0, 51),
        ),
        "av1": Encoder(
            "libsvtav1", "crf", 22, "preset", "6", presets=_numbers(-2, 13), playable=True, long_gop=True, smallest=(32, 32),
            scale=(1, 63),  # 0: its own default
        ),
        "vp9": Encoder(
            "libvpx-vp9", "crf", 22, "cpu-used", "2", {"deadline": "good", "row-mt": "1"}, presets=_numbers(-8, 8), playable=True,
            long_gop=True, scale=(0, 63),
        ),
        "ffv1": Encoder("ffv1", options={"level": "3", "coder": "1", "context": "1", "slices": "4", "slicecrc": "1"}, fields=True),
        "prores": Encoder("prores_ks", options={"vendor": "apl0"}, fields=True, profiles=PRORES_PROFILES, prefix=""),
        "dnxhr": Encoder("dnxhd", profiles=DNXHR_PROFILES, prefix="dnxhr_", smallest=(256, 120)),
        "mjpeg": Encoder("mjpeg", "quantiser", 2, options={"huffman": "optimal"}, scale=(1, 69)),
        RAW: Encoder(RAW, formats=tuple(sorted(name for name in names if (known := layout_of(name)) and not known.floating))),
    }
)  # fmt: skip
"""By the names of `media.codec`."""

_NVENC, _QSV, _AMF = "an NVIDIA GPU with NVENC and its driver", "an Intel GPU with its media driver", "an AMD GPU with its driver"
_VAAPI, _APPLE = "a GPU with a VA-API driver (/dev/dri)", "a Mac"


def _nvenc(name: str, profiles: Mapping[str, tuple[str, ...]]) -> Encoder:
    level = "level" if profiles else None
    return Encoder(
        name, "cq", 19, "preset", "p5", {"rc": "vbr", "tune": "hq"}, playable=True, profiles=profiles, level=level,
        long_gop=True, scale=(0, 63 if name.startswith("av1") else 51), needs=_NVENC,
    )  # fmt: skip


def _qsv(name: str) -> Encoder:
    scale = (1, 51) if name.startswith(("h264", "hevc")) else None
    return Encoder(name, "global_quality", 20, "preset", "medium", playable=True, long_gop=True, scale=scale, needs=_QSV)


def _vaapi(name: str) -> Encoder:
    formats = ("nv12",) if name == "h264_vaapi" else ("nv12", "p010le")
    return Encoder(
        name, "global_quality", 20, formats=formats, playable=True, long_gop=True, needs=_VAAPI, device="vaapi"
    )  # fmt: skip


def _amf(name: str) -> Encoder:
    return Encoder(
        name, "qvbr_quality_level", 23, "quality", "quality", {"rc": "qvbr"}, averaging={"rc": "vbr_peak"}, playable=True,
        long_gop=True, scale=(0, 51), needs=_AMF,
    )  # fmt: skip


HARDWARE: Mapping[str, Encoder] = MappingProxyType(
    {
        one.name: one
        for one in (
            _nvenc("h264_nvenc", {name: H264_PROFILES[name] for name in ("baseline", "main", "high")}),
            _nvenc("hevc_nvenc", {"main": ("yuv420p", "nv12"), "main10": ("p010le",)}),
            _nvenc("av1_nvenc", {}),
            *map(_qsv, ("h264_qsv", "hevc_qsv", "av1_qsv", "vp9_qsv")),
            *map(_vaapi, ("h264_vaapi", "hevc_vaapi", "av1_vaapi", "vp9_vaapi")),
            *map(_amf, ("h264_amf", "hevc_amf", "av1_amf")),
            Encoder("h264_videotoolbox", "qscale", 65, playable=True, long_gop=True, scale=(1, 100), needs=_APPLE),
            Encoder("hevc_videotoolbox", "qscale", 65, playable=True, long_gop=True, scale=(1, 100), needs=_APPLE),
            Encoder("prores_videotoolbox", needs=_APPLE),
        )
    }
)
"""FFmpeg's encoders that need a device, by their own names. Whether one works is known when it has encoded a frame."""
_INT = 2**31 - 1
"""What FFmpeg holds of a fraction's numerator and denominator."""
_SURFACES = frozenset(
    {"cuda", "qsv", "vaapi", "amf", "videotoolbox_vld", "d3d11", "dxva2_vld", "drm_prime", "vulkan", "mediacodec"}
)
"""Pixel formats that are no pictures in memory."""


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
    found = ENCODERS.get(codec) or HARDWARE.get(codec)
    if found is None:
        names = ", ".join("hevc (H.265)" if name == "hevc" else name for name in ENCODERS)
        known = f"{names}, {COPY_LIKE}, or a hardware encoder such as h264_nvenc"
        raise ConfigError(f"$.media.codec: unknown codec {codec!r}; known here: {known}")
    return found


def formats_of(encoder: str) -> list[str]:
    """Pixel formats that FFmpeg's `encoder` takes; ConfigError where this build lacks it."""
    try:
        named = [one for one in Codec(encoder, "w").video_formats or [] if one.name not in _SURFACES]
    except UnknownCodecError as error:
        raise ConfigError(f"$.media.codec: this FFmpeg was built without {encoder}; choose another codec") from error
    return [one.name for one in named if encoder not in _NO_ALPHA or not any(part.is_alpha for part in one.components)]


def takes_depth(encoder: str) -> bool:
    """Whether FFmpeg's `encoder` takes more than eight bits; ConfigError where this build lacks it."""
    return any(part.bits > _EIGHT for name in formats_of(encoder) for part in VideoFormat(name).components)


def without_alpha(encoder: Encoder) -> tuple[str, ...]:
    """The pixel formats of `encoder` that hold no transparency, for containers that would drop it without a word."""
    known = encoder.formats or formats_of(encoder.name)
    return tuple(name for name in known if not any(part.is_alpha for part in VideoFormat(name).components))


def check_fields(encoder: Encoder, fields: str) -> None:
    """Refuse to write woven pictures without saying so: every player would show combs.

    Raises:
        ConfigError: `encoder` cannot say that its pictures hold two `fields`.
    """
    if fields and not encoder.fields:
        able = ", ".join(name for name, one in ENCODERS.items() if one.fields)
        raise ConfigError(
            f"$.media.codec: {encoder.name} cannot keep pictures interlaced; use {able}, or deinterlace (media.deinterlace=auto)"
        )


def choose_format(
    encoder: Encoder, source: VideoFormat, size: tuple[int, int], asked: str | None, profile: str | None = None
) -> str:
    """The pixel format to encode `source` in: `asked`, the source's own, or the nearest that `encoder` takes in `profile`.

    Raises:
        ConfigError: `asked` is none of the encoder's or of the profile's, or the encoder has no way to store this size.
    """
    built = formats_of(encoder.name)
    known = list(encoder.formats) or built
    if profile is not None:
        known = [name for name in known if name in encoder.profiles[profile]]
    if asked is not None and asked not in known:
        within = "" if profile is None else f" in the profile {profile}"
        raise ConfigError(f"$.media.pix_fmt: {encoder.name} does not take {asked!r}{within}; it takes {', '.join(known)}")
    if size[0] < encoder.smallest[0] or size[1] < encoder.smallest[1]:
        least = f"at least {encoder.smallest[0]}x{encoder.smallest[1]}, not {size[0]}x{size[1]}"
        raise ConfigError(f"$.media.codec: {encoder.name} needs pictures of {least}; choose another codec")
    name = asked or _nearest(encoder, source, known)
    odd = (encoder.name in _EVEN_ONLY or encoder.needs) and (size[0] % 2 or size[1] % 2)
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
    if kind_of(source.name) == "gray":  # which has no colour
        del words[PixFmtLoss.RESOLUTION]
    return [word for kind, word in words.items() if loss & kind]


def written_colour(encoder: str, source: Colour, pixel_format: str) -> Colour:
    """What the code values in the output shall mean: the source's meaning where the format allows."""
    kind = kind_of(pixel_format)
    if kind == "rgb":
        return Colour(kind, source.matrix, True)
    if encoder == "mjpeg":
        # JFIF knows one meaning: BT.601, full range; decoders take it whatever the container says.
        return Colour(kind, BT601, True)
    if encoder == "dnxhd":
        # FFmpeg writes BT.709 into the pictures' own header, which decoders take whatever the container says.
        return Colour(kind, BT709, source.full and source.kind != "rgb")
    if source.kind == "rgb":
        return Colour(kind, source.matrix, False)  # of RGB made of a video: the video's
    if encoder == "prores_ks":
        # Nothing in ProRes or QuickTime says full range: every reader takes it for limited.
        return Colour(kind, source.matrix, False)
    return Colour(kind, source.matrix, source.full or "yuvj" in pixel_format)


def untold(encoder: str, muxer: str, source: Colour, written: Colour) -> str | None:
    """A warning where range or matrix of the output is another, or stands nowhere in the file; None where all is well."""
    if encoder == "dnxhd" and source.kind == written.kind == "yuv" and source.matrix != written.matrix:
        return f"the colour matrix {source.matrix.name} is written as {written.matrix.name}, since dnxhr says nothing else here"
    if source.kind == "rgb" or not source.full:
        return None
    if encoder == "prores_ks":
        return "full range is written as limited, since prores is never taken for anything else"
    if encoder == "ffv1" and written.full and muxer not in _RANGED:
        return f"{muxer} does not say that ffv1 is full range; mkv does"
    return None


def forgotten(encoder: str, muxer: str, frame: VideoFrame) -> str | None:
    """A warning where neither the codec nor the container says what the colours of `frame`, of the source, mean.

    None where an untagged picture of that size is taken for the same.
    """
    if muxer in _TAGGING or encoder not in _TAGLESS:
        return None
    usual = _USUAL_HD if frame.height >= HD_LINES else _USUAL_SD
    told = {
        "primaries": (frame.color_primaries, PRIMARIES, usual),
        "transfer": (frame.color_trc, TRANSFERS, _USUAL_CURVES),
        "matrix": (frame.colorspace, MATRICES, {default_matrix(frame.height).name}),
    }
    if encoder in _WITH_MATRIX or kind_of(frame.format.name) == "rgb":
        del told["matrix"]
    lost = [f"{kind} {names[tag]}" for kind, (tag, names, same) in told.items() if tag in names and names[tag] not in same]
    return f"{muxer} keeps no colour tags of {encoder}: {', '.join(lost)} is said nowhere in the file; mkv does" if lost else None


def configure(
    context: VideoCodecContext,
    encoder: Encoder,
    wanted: Wanted,
    source: Colour,
    written: Colour,
    frame: VideoFrame,
    fields: str,
) -> None:
    """Set what is no option: threads, rate, colour tags as `frame` (of the source) has them, and the order of `fields`."""
    # With SLICE, PyAV's default, x264 cuts every frame into slices: slower and worse.
    context.thread_type = ThreadType.AUTO
    context.flags |= Flags.frame_duration
    if wanted.bit_rate is not None:
        context.bit_rate = wanted.bit_rate
    elif encoder.quality == "qscale":
        context.qscale = True
        context.global_quality = round(wanted.crf if wanted.crf is not None else encoder.crf or 0)  # PyAV makes lambda of it
    elif encoder.name == "libvpx-vp9" or encoder.needs:
        context.bit_rate = 0  # otherwise a ceiling
    if wanted.gop is not None:
        context.gop_size = wanted.gop
    if wanted.b_frames is not None:
        context.max_b_frames = wanted.b_frames
    context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
    if encoder.fields:
        # libx264 has its own setting for the order, but must not be told another one.
        coded = {"top": _TOP_CODED, "bottom": _BOTTOM_CODED}.get(fields, _PROGRESSIVE)
        context.field_order = coded if encoder.name != "libx264" else 0
        if fields:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
    if written.kind == "rgb":
        context.colorspace, context.color_range = RGB_SPACE, FULL
        return
    own = source.kind != "rgb" and source.matrix == written.matrix
    context.colorspace = frame.colorspace if own and frame.colorspace != RGB_SPACE else written.matrix.tag
    untagged = own and frame.color_range not in (LIMITED, FULL) and not written.full
    context.color_range = 0 if untagged else FULL if written.full else LIMITED


def _nearest(encoder: Encoder, source: VideoFormat, known: list[str]) -> str:
    name = source.name
    if encoder.name == "libvpx-vp9" and any(one.is_alpha for one in source.components) and _VP9_ALPHA in known:
        return _VP9_ALPHA
    if encoder.name == "mjpeg":
        name = name.replace("yuv4", "yuvj4")
    if name in known:
        return name
    plain = name.replace("yuvj", "yuv")
    if plain in known:
        return plain
    if encoder.playable and kind_of(name) == "rgb":
        deep = max(one.bits for one in source.components) > _EIGHT
        choices: list[str] = [*(["yuv420p10le", "p010le"] if deep else []), "yuv420p", "nv12"]
        if fitting := [choice for choice in choices if choice in known]:
            return fitting[0]
    if encoder.name != "mjpeg" and kind_of(name) == "gray" and not any(one.is_alpha for one in source.components):
        # Grey has no colour to lose: FFmpeg's choice would be RGB or 4:4:4, which are larger and which few players show.
        deep = max(one.bits for one in source.components) > _EIGHT
        plainest = [*(["yuv420p10le", "yuv422p10le"] if deep else []), "yuv420p", "yuv422p", "yuv422p10le"]
        if fitting := [choice for choice in plainest if choice in known]:
            return fitting[0]
    best, _ = find_best_pix_fmt_of_list(known, source, any(one.is_alpha for one in source.components))
    if best is None:
        raise ConfigError(f"$.media.codec: {encoder.name} takes no format near {source.name}; choose another codec")
    return best.name


def _is_subsampled(name: str) -> bool:
    shape = VideoFormat(name, 16, 16)
    return kind_of(name) == "yuv" and (shape.chroma_width(16), shape.chroma_height(16)) != (16, 16)


def small_params(encoder: str, size: tuple[int, int]) -> list[str]:
    """Settings of the encoder's own library that small pictures need.

    The look-ahead of libx265 4 writes behind its memory where a side is shorter than 64 pixels (glibc: "corrupted size vs.
    prev_size"), which ends the process now or later. Without it and without the B-frames that rest on it all is well.
    """
    if encoder != "libx265":
        return []
    lookahead = ["rc-lookahead=0", "bframes=0"] if min(size) < _LOOKAHEAD_SIDE else []
    # A picture one coding tree unit wide is coded out of memory that nobody wrote: other bytes every time.
    return [*lookahead, *(["ctu=16"] if min(size) <= _LOOKAHEAD_SIDE else [])]


def usable_rate(rate: Fraction | None) -> Fraction:
    """A frame rate that encoders accept as information: the source's, or 25 where it is unknown or absurd.

    One that FFmpeg cannot count in, as of times by a clock, is the nearest of those that it can.
    """
    if rate is None or not 0 < rate <= 1000:
        return Fraction(25)
    return rate if max(rate.numerator, rate.denominator) <= _INT else rate.limit_denominator(_INT // 1000) or Fraction(25)


__all__ = [
    "COPY_LIKE", "DEFAULT_CODEC", "ENCODERS", "HARDWARE", "RAW", "UNSPECIFIED", "Y4M_FORMATS", "Encoder", "Wanted",
    "bits_per_second", "check_fields", "choose_format", "configure", "encoder_of", "forgotten", "formats_of", "small_params",
    "untold", "usable_rate", "what_is_lost", "without_alpha", "written_colour", "x264_options",
]  # fmt: skip

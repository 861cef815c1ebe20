"""What an output's name asks for, and which containers hold which stream."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from videoclr.errors import ConfigError, MediaError
from videoclr.media.faults import AV_ERRORS, reason
from videoclr.media.filelist import is_list, names_in
from videoclr.media.source import PIPE

CONTAINERS: Mapping[str, str] = MappingProxyType(
    {
        ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".nut": "nut",
        ".ts": "mpegts", ".mts": "m2ts", ".m2ts": "m2ts", ".avi": "avi", ".flv": "flv", ".mxf": "mxf",
        ".3gp": "3gp", ".y4m": "yuv4mpegpipe", ".yuv": "rawvideo",
    }
)  # fmt: skip
"""Ending -> muxer: FFmpeg's name of it, or `m2ts`."""
_DISC = "m2ts"
"""MPEG-TS as Blu-rays and AVCHD cameras write it: packets of 192 bytes, and types of streams that only they know.

FFmpeg has one muxer for both kinds, and goes by the ending, which a file does not have while it grows."""
TRANSPORT = frozenset({"mpegts", _DISC})
"""Muxers of MPEG-TS."""
MOV = frozenset({"mp4", "mov", "3gp", "ipod"})
"""Muxers of one family: MP4 and QuickTime."""
VIDEO_FIRST = frozenset({"mxf"})
"""Muxers that refuse anything before the video, or without it."""
STILLS: Mapping[str, str] = MappingProxyType(
    {
        ".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".webp": "libwebp", ".tif": "tiff", ".tiff": "tiff",
        ".bmp": "bmp", ".exr": "exr", ".dpx": "dpx",
    }
)  # fmt: skip
"""Ending -> FFmpeg's encoder of a picture."""
READ_ONLY = frozenset(
    {
        ".264", ".265", ".3g2", ".apng", ".asf", ".avif", ".dif", ".divx", ".dv", ".f4v", ".gif", ".gxf", ".h264", ".hdr", ".heic",
        ".heif", ".hevc", ".ivf", ".j2c", ".j2k", ".jfif", ".jif", ".jp2", ".jpc", ".jpe", ".jpf", ".jpx", ".m1v", ".m2p",
        ".m2t", ".m2v", ".mj2", ".mk3d", ".mod", ".mpe", ".mpeg", ".mpg", ".mpo", ".mpv", ".ogv", ".pbm", ".pcx", ".pfm", ".pgm",
        ".pnm", ".ppm", ".psd", ".qoi", ".qt", ".rm", ".rmvb", ".sgi", ".tga", ".tod", ".tp", ".trp", ".vob", ".wmv", ".wtv",
    }
)  # fmt: skip
"""Further endings of films and pictures: FFmpeg reads these files, and none are written here."""
PLAIN = frozenset({"yuv4mpegpipe", "rawvideo"})
"""Muxers that hold uncompressed pictures and nothing else."""
_ADVISED = (".mkv", ".mov", ".mp4", ".nut", ".avi", ".3gp", ".ts", ".m2ts", ".mxf")
"""Endings that an error message may advise, the most accommodating first."""


def muxer_of(path: str, container: str | None) -> str:
    """The muxer for `path`, or `container` (a file ending without its dot, or a muxer) where that is given; NUT for a pipe.

    Raises:
        ConfigError: `container` is no muxer.
        MediaError: the ending says nothing.
    """
    if container is not None:
        container = CONTAINERS.get(f".{container.lower()}", container)
        if container != _DISC and (container not in av.formats_available or not _is_muxer(container)):
            raise ConfigError(f"$.media.container: unknown container {container!r}; try {', '.join(_some())}")
        return container
    if path == PIPE:
        return "nut"
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        known = " ".join([*CONTAINERS, *STILLS])
        if suffix in READ_ONLY:
            raise MediaError(path, f"no {suffix} files are written; use one of {known} (in a batch: --ending)")
        what = f"the ending {suffix!r} is unknown" if suffix else "the name has no ending"
        raise MediaError(path, f"{what}; use one of {known}, or name a container (--container)")
    return CONTAINERS[suffix]


def check_ending(ending: str | None, container: str | None) -> None:
    """Refuse an ending that no result can have, whatever its name; None leaves each its own.

    Raises:
        ConfigError: nothing is written under it.
    """
    if ending is None:
        return
    name = f"a.{ending.removeprefix('.')}"  # `.restored.mp4` may be
    if Path(name).name != name or not Path(name).suffix:
        raise ConfigError(f"--ending: {ending!r} is no ending; try .mp4")
    if container is None and Path(name).suffix.lower() not in {*CONTAINERS, *STILLS}:
        known = " ".join([*CONTAINERS, *STILLS])
        raise ConfigError(f"--ending: nothing is written to {ending}; use one of {known}, or name a container (--container)")


def _some() -> list[str]:
    return [ending.removeprefix(".") for ending in CONTAINERS]


def _is_muxer(name: str) -> bool:
    try:
        return av.format.ContainerFormat(name, "w").is_output
    except ValueError:
        return False


TRANSPORTED = frozenset(
    {
        "h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "dirac", "cavs", "aac", "aac_latm", "mp1", "mp2",
        "mp3", "ac3", "eac3", "dts", "truehd", "opus", "s302m", "dvb_subtitle", "dvb_teletext", "klv", "timed_id3", "scte_35",
    }
)  # fmt: skip
"""What MPEG-TS has a stream type for. FFmpeg writes anything else as well, as private data that nobody can read again."""
_OF_DISCS = frozenset({"pcm_bluray", "hdmv_pgs_subtitle"})
"""What only those of discs have one for."""
_NUMBERS_OF_DISCS = {"video": 1, "audio": 32, "subtitle": 32}
"""How many streams of each kind FFmpeg finds a number for in those of discs."""

OF_MXF = frozenset({"dnxhd", "dvvideo", "ffv1", "h264", "jpeg2000", "mpeg2video", "prores"})
"""Video that MXF has a name for. FFmpeg refuses anything else when it writes the header, and says "operation not permitted"."""


_DATA_OF_MXF = frozenset({"smpte_436m_anc"})
"""Ancillary data, such as captions and timecodes (SMPTE ST 436-1): what FFmpeg writes into MXF as it reads it."""

_TRIAL = b"trial of a data stream"


class Nowhere:
    """A file that forgets, for trying containers out."""

    name = "trial"

    def write(self, data: bytes) -> int:
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return offset

    def tell(self) -> int:
        return 0


def transports(muxer: str, codec: str | None) -> bool:
    """Whether `codec` is read again out of `muxer`, one of `TRANSPORT`, as far as that depends on the type of its stream."""
    return codec in TRANSPORTED or (muxer == _DISC and codec in _OF_DISCS)


def written(place: Any, muxer: str, options: Mapping[str, str] = MappingProxyType({})) -> OutputContainer:
    """What `muxer` writes to `place`, a name or a file; `options` are FFmpeg's for the muxer."""
    told = dict(options) | ({"mpegts_m2ts_mode": "1"} if muxer == _DISC else {})
    name = "mpegts" if muxer == _DISC else muxer
    return av.open(place, "w", format=name, container_options=told, metadata_errors="surrogateescape")


def holds(muxer: str, add: Callable[[OutputContainer], object]) -> bool:
    """True where `muxer` writes a header for the stream that `add` adds to it. Tried out, since tables lie; MPEG-TS lies itself."""
    try:
        container = written(Nowhere(), muxer)
        try:
            if muxer in VIDEO_FIRST:
                container.add_stream("mpeg2video", 25)
            add(container)
            if muxer in TRANSPORT and not transports(muxer, codec_of(container.streams[0])):
                return False
            container.start_encoding()
        finally:
            # MXF cannot end what holds no picture; its header was the answer.
            with suppress(*(AV_ERRORS if muxer in VIDEO_FIRST else ())):
                container.close()
    except AV_ERRORS:
        return False
    return True


def has_place(muxer: str, stream: Stream, others: Iterable[Stream]) -> bool:
    """Whether `muxer` has a place for `stream` beside `others`. A trial of one stream alone does not tell."""
    if muxer in PLAIN:  # FFmpeg writes the bytes of anything else between those of the raw pictures
        return False
    most = _NUMBERS_OF_DISCS.get(stream.type) if muxer == _DISC else None
    return most is None or sum(one.type == stream.type for one in others) < most


def gives_back(muxer: str, template: Stream) -> bool:
    """True where a stream of data that was copied into `muxer` is read again as what it was; many write it as they can.

    Of data that FFmpeg has no name for, the bytes alone: what they are has to be written by others (see `nameless`).
    """
    if muxer == "mpegts":
        return transports(muxer, codec_of(template))
    if muxer in MOV and codec_of(template) == "bin_data" and "mov" not in template.container.format.name:
        return False  # it would become GoPro's
    if muxer in VIDEO_FIRST:  # it takes data for each picture alone, and no trial has pictures
        return codec_of(template) in _DATA_OF_MXF
    memory = io.BytesIO()
    try:
        with written(memory, muxer) as container:
            stream = container.add_stream_from_template(template)
            packet: Packet[Stream] = Packet(_TRIAL)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = 0
            packet.duration = 1000
            container.mux_one(packet)
        with av.open(memory, "r", format="mpegts" if muxer == _DISC else muxer) as container:
            found = [one for one in container.streams if one.type == template.type and codec_of(one) == codec_of(template)]
            return bool(found) and [bytes(one) for one in container.demux(found[:1]) if one.size] == [_TRIAL]
    except (*AV_ERRORS, IndexError):
        return False


def nameless(stream: Stream) -> bool:
    """Whether FFmpeg does not know what data these are: no muxer of its writes down what they were."""
    return stream.type == "data" and codec_of(stream) is None


def advice(fits: Callable[[str], bool], muxer: str) -> str | None:
    """`use .mkv`: endings whose muxer `fits`; None where none does."""
    fitting = [ending for ending in _ADVISED if CONTAINERS[ending] != muxer and fits(CONTAINERS[ending])]
    return f"use {' or '.join(fitting[:2])}" if fitting else None


def codec_of(stream: Stream) -> str | None:
    """FFmpeg's name of the codec; of an attachment, the file's name."""
    return stream.codec_context.codec.canonical_name if stream.codec_context is not None else getattr(stream, "name", None)


def named(stream: Stream) -> str:
    """`stream 2 (subtitle, subrip)`; PyAV names no subtitles that its FFmpeg does not decode."""
    nobody = "teletext, or others that are not read here" if stream.type == "subtitle" else "unknown codec"
    return f"stream {stream.index} ({stream.type}, {codec_of(stream) or nobody})"


def behind_link(path: str | Path) -> str:
    """Where what is written to `path` lies: a link is written through, not replaced."""
    return os.path.realpath(path) if os.path.islink(path) else str(path)


def check_target(path: str, source: str | None, overwrite: bool) -> None:
    """Refuse what must not be written.

    Raises:
        MediaError: it is the input, it is there already, it is a directory, or its folder is missing or closed.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise MediaError(path, "is a directory; name a file in it")
        if source is not None and source != PIPE and target.exists() and Path(source).exists():
            if target.samefile(source):
                raise MediaError(path, "is the input itself; write to another name")
            if is_list(source) and any(target.samefile(one) for one in names_in(source)):
                raise MediaError(path, "is one of the files that the input lists; write to another name")
        place = Path(behind_link(path))
        part = Path(f"{place}.part")
        if source is not None and source != PIPE and part.exists() and Path(source).exists():
            inputs = [source, *(names_in(source) if is_list(source) else ())]
            if any(part.samefile(one) for one in inputs):
                raise MediaError(path, f"grows as {part.name}, which is the input; write to another name")
        if target.exists() and not target.is_file():
            raise MediaError(path, "is a pipe or a device, not a file; use - for standard output")
        if target.exists() and not overwrite:
            raise MediaError(path, "exists already; remove it or allow overwriting (--overwrite)")
        if place.parent.is_file():
            raise MediaError(path, f"{place.parent} is a file, not a folder; choose another name")
        if not place.parent.is_dir():
            raise MediaError(path, f"its folder {place.parent} does not exist; make it first")
        if not os.access(place.parent, os.W_OK | os.X_OK):
            raise MediaError(path, f"its folder {place.parent} may not be written to; choose another")
    except OSError as error:
        raise MediaError(path, f"cannot be written: {reason(error)}") from error

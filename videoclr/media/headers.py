"""What FFmpeg read about a stream and PyAV does not show, asked of FFmpeg's own muxers.

Side data of a stream (cropping, for one) go into the header of a copy of it. So such a header is written to memory and
read: that works for every container which FFmpeg reads, from a pipe too, where the file itself is out of reach.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream

from videoclr.media import boxes, matroska
from videoclr.media.crop import WHOLE, Crop
from videoclr.media.faults import AV_ERRORS

_MUXERS: tuple[tuple[str, dict[str, str], Callable[[bytes], Crop]], ...] = (
    ("matroska", {}, matroska.crop_in),
    ("mov", {"movflags": "empty_moov+frag_keyframe"}, boxes.crop_in),
)
"""Of two containers that hold nearly every codec: FFmpeg's muxer, what makes it write its header first, and how that is read."""
_HEAD = 1 << 20
"""Bytes in which the headers of a Matroska file lie."""
Y4M = "yuv4mpegpipe"
"""FFmpeg's name of it, reading and writing."""
_BARE = {"h264", "hevc", "vvc", "mpegvideo"}
"""FFmpeg's formats of nothing but coded pictures that may say their rate: it calls each 25 a second unless it is told."""
_SITINGS = {b"C420mpeg2": "left", b"C420jpeg": "center", b"C420paldv": "topleft"}
"""How YUV4MPEG2 says where chroma lies; Matroska does not hold its pictures."""


def rate_of(stream: VideoStream) -> Fraction | None:
    """Frames a second; None where nothing tells.

    FFmpeg says one frame a tick of raw DV, whose ticks are far shorter than its frames: then what it guessed is right.
    """
    container = stream.container
    if container.format.name in _BARE and "framerate" not in container.options and (own := stream.codec_context.framerate):
        return Fraction(own)
    average, guessed = stream.average_rate, stream.guessed_rate
    if average and guessed and stream.time_base and average * stream.time_base == 1 and guessed < average:
        return Fraction(guessed)
    rate = average or guessed
    return Fraction(rate) if rate else None


def crop_of(stream: VideoStream, path: str) -> Crop:
    """What the container hides of the picture of `stream`, which was read from `path`."""
    for muxer, options, read in _MUXERS:
        try:
            return read(_header(stream, muxer, options))
        except AV_ERRORS:
            continue  # it does not hold this codec
    # What neither holds (huffyuv, VC-1) can be cropped in Matroska alone.
    if stream.container.format.name.startswith("matroska") and Path(path).is_file():
        with Path(path).open("rb") as file:
            try:
                return matroska.crop_in(file.read(_HEAD), stream.index)
            except ValueError:
                pass
    return WHOLE


def siting_of(stream: VideoStream) -> str:
    """Where the chroma of `stream` lies beside luma (FFmpeg's `chroma_sample_location`); empty where nothing says it."""
    if stream.container.format.name == Y4M:
        with suppress(*AV_ERRORS):
            return next((name for word, name in _SITINGS.items() if word in _header(stream, Y4M, {}).split()), "")
    try:
        return matroska.siting_in(_header(stream, "matroska", {}))
    except (*AV_ERRORS, ValueError):
        return ""  # of a codec that it does not hold


def _header(stream: VideoStream, muxer: str, options: dict[str, str]) -> bytes:
    memory = io.BytesIO()
    with av.open(memory, "w", format=muxer, container_options=options) as container:
        container.add_stream_from_template(stream, opaque=True)
        container.start_encoding()
    return memory.getvalue()

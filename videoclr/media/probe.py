"""What this machine can really encode, and with which libraries."""

from __future__ import annotations

from fractions import Fraction

import av
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError
from videoclr.media.encoders import ENCODERS, choose_format
from videoclr.media.faults import AV_ERRORS

_SIDE = 128


def codecs() -> dict[str, bool]:
    """Codec name -> whether one frame of it could be encoded here. A listed encoder is not yet a working one."""
    return {name: _works(name) for name in ENCODERS}


def media_libraries() -> dict[str, str]:
    """Library name -> version: PyAV, FFmpeg and its parts."""
    parts = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"PyAV": av.__version__, "FFmpeg": str(av.ffmpeg_version_info), **parts}


def _works(name: str) -> bool:
    encoder = ENCODERS[name]
    frame = VideoFrame(_SIDE, _SIDE, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    try:
        context = CodecContext.create(encoder.name, "w")
        assert isinstance(context, VideoCodecContext)
        context.width = context.height = _SIDE
        context.pix_fmt = choose_format(encoder, frame.format, (_SIDE, _SIDE), None)
        context.framerate = Fraction(25)
        context.time_base = Fraction(1, 25)
        context.options = encoder.settings(None, None)
        if encoder.name == "libx265":
            context.options["x265-params"] = "log-level=error"
        frame.pts = 0
        frame.color_range = 2 if encoder.name == "mjpeg" else 0
        context.color_range = frame.color_range
        return bool([*context.encode(frame), *context.encode(None)])
    except (*AV_ERRORS, ConfigError):
        return False

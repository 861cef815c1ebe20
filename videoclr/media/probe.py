"""What this machine can really encode, and with which libraries."""

from __future__ import annotations

from fractions import Fraction

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError
from videoclr.media.encoders import ENCODERS, HARDWARE, Encoder, Wanted, choose_format
from videoclr.media.faults import AV_ERRORS, words

_SIDE = 256


def codecs() -> dict[str, bool]:
    """Codec name -> whether one frame of it could be encoded here. A listed encoder is not yet a working one."""
    return {name: refusal(encoder) is None for name, encoder in ENCODERS.items()}


def media_libraries() -> dict[str, str]:
    """Library name -> version: PyAV, FFmpeg and its parts."""
    parts = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"PyAV": av.__version__, "FFmpeg": str(av.ffmpeg_version_info), **parts}


def hardware() -> dict[str, bool]:
    """Hardware encoder -> whether one frame of it could be encoded here."""
    return {name: refusal(encoder) is None for name, encoder in HARDWARE.items()}


def refusal(encoder: Encoder, pixel_format: str | None = None) -> str | None:
    """Why `encoder` does not encode a frame of `pixel_format` here; None where it does.

    The only test of a hardware encoder that tells: it may be built in, and its device be there, and yet it has no room.
    """
    frame = VideoFrame(_SIDE, _SIDE, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    try:
        name = pixel_format or choose_format(encoder, frame.format, (_SIDE, _SIDE), None)
        frame = frame.reformat(format=name)
        device = None if encoder.device is None else HWAccel(encoder.device)
        context = CodecContext.create(encoder.name, "w", hwaccel=device)
        assert isinstance(context, VideoCodecContext)
        context.width = context.height = _SIDE
        context.pix_fmt = name
        context.framerate = Fraction(25)
        context.time_base = Fraction(1, 25)
        context.options = encoder.settings(Wanted())
        if profile := encoder.profile_of(name, None):
            context.options["profile"] = profile
        frame.pts = 0
        frame.color_range = 2 if encoder.name == "mjpeg" else 0
        context.color_range = frame.color_range
        packets = [*context.encode(frame), *context.encode(None)]
    except (*AV_ERRORS, ConfigError) as error:
        return words(error)
    return None if packets else "it gave nothing back"

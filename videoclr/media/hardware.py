"""Decoding on a device (NVDEC, Quick Sync, VA-API, VideoToolbox), asked for by name and never tried by itself.

Decoded pictures come back into memory as NV12 or P010, the same values that the processor would have decoded. Nothing
falls back: a device that is not there, or that does not know the codec, ends the run before its first frame.
"""

from __future__ import annotations

from fractions import Fraction

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer

from videoclr.errors import ConfigError, MediaError
from videoclr.media.faults import AV_ERRORS, words
from videoclr.media.opening import Opening
from videoclr.media.source import PIPE, open_input, video_of

KNOWN = ("cuda", "qsv", "vaapi", "videotoolbox", "d3d11va", "vdpau", "vulkan")
"""FFmpeg's kinds of devices that decode."""


def opened_on(device: str, path: str, rate: Fraction | None, opening: Opening) -> InputContainer:
    """Open `path` for decoding on `device`: `cuda`, or `cuda:1` for the second one.

    Raises:
        ConfigError: the device is unknown or not there, or does not decode this video.
        MediaError: the file cannot be read, whoever decodes it.
    """
    kind, _, number = device.partition(":")
    if kind not in KNOWN:
        raise ConfigError(f"$.media.hwaccel: unknown device {device!r}; known here: {', '.join(KNOWN)}")
    if kind not in hwdevices_available():
        built = ", ".join(hwdevices_available()) or "none"
        raise ConfigError(f"$.media.hwaccel: this FFmpeg was built without {kind} (it has: {built}); leave hwaccel out")
    if path == PIPE:
        codec = "h264"  # a pipe cannot be looked into first: try the device with what every one of them decodes
    else:
        with open_input(path, rate, opening) as plain:  # what is wrong with the file itself is said as ever
            codec = video_of(path, plain).codec_context.name
    try:
        # The device is made here, not when the file is opened: which of the two failed is then known.
        HWAccel(kind, number or None, allow_software_fallback=False).create(av.Codec(codec, "r"))
    except NotImplementedError as error:
        raise ConfigError(f"$.media.hwaccel: {kind} does not decode {codec}; leave hwaccel out") from error
    except AV_ERRORS as error:
        raise ConfigError(f"$.media.hwaccel: no {kind} device works here ({words(error)}); leave hwaccel out") from error
    try:
        return open_input(path, rate, opening, HWAccel(kind, number or None, allow_software_fallback=False))
    except MediaError as error:
        raise ConfigError(f"$.media.hwaccel: {kind} does not decode {path} ({error}); leave hwaccel out") from error

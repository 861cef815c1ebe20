"""Decoding on a device (NVDEC, Quick Sync, VA-API, VideoToolbox), asked for by name and never tried by itself.

Decoded pictures come back into memory as NV12 or P010, the same values that the processor would have decoded. Nothing
falls back: a device that is not there, or that does not know the codec, ends the run before its first frame.

Most devices speed FFmpeg's own decoder up, and the container's stream is opened with them. Some codecs need a decoder of
another name: Quick Sync has its own for each, and AV1 is decoded by libdav1d, which knows no device. What the container says
beside the stream (rotation, HDR metadata, a projection) never reaches such a decoder, so a reader takes that from the first
picture as the processor decodes it.
"""

from __future__ import annotations

from fractions import Fraction

from av.codec.codec import Codec, UnknownCodecError
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from videoclr.errors import ConfigError, MediaError
from videoclr.media.faults import AV_ERRORS, words
from videoclr.media.opening import Opening
from videoclr.media.source import PIPE, open_input, video_of

KNOWN = ("cuda", "qsv", "vaapi", "videotoolbox", "d3d11va", "vdpau", "vulkan")
"""FFmpeg's kinds of devices that decode."""
_OWN_DECODERS = {"qsv": "{}_qsv"}
"""Kinds whose decoders have names of their own."""


def opened_on(
    device: str, path: str, rate: Fraction | None, opening: Opening, video: int = 0
) -> tuple[InputContainer, VideoCodecContext | None]:
    """Open `path` for decoding on `device`: `cuda`, or `cuda:1` for the second one.

    Args:
        device: a kind, and which of its devices.
        path, rate, opening: see `open_input`.
        video: which of several video streams is decoded, counted from 0.

    Returns:
        The container, and the decoder; None where that is the one of the container's stream.

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
        if kind in _OWN_DECODERS:
            once = f"{kind} has to look into the input first, and a pipe is read once"
            raise ConfigError(f"$.media.hwaccel: {once}; leave hwaccel out")
        codec = own = "h264"  # try the device with what every one of them decodes
    else:
        with open_input(path, rate, opening) as plain:  # what is wrong with the file itself is said as ever
            context = video_of(path, plain, video).codec_context
            codec, own = context.codec.canonical_name, context.name
    name = _OWN_DECODERS.get(kind, "{}").format(codec)
    _check_device(kind, number, codec, name)
    accelerated = HWAccel(kind, number or None, allow_software_fallback=False)
    if name != own:
        container = open_input(path, rate, opening)
        return container, _decoder(name, video_of(path, container, video), accelerated)
    try:
        container = open_input(path, rate, opening, accelerated)
    except MediaError as error:
        raise ConfigError(f"$.media.hwaccel: {kind} does not decode {path} ({error}); leave hwaccel out") from error
    if not video_of(path, container, video).codec_context.is_hwaccel:
        container.close()
        raise ConfigError(f"$.media.hwaccel: {kind} decodes another stream of {path} only; leave hwaccel out")
    return container, None


def _check_device(kind: str, number: str, codec: str, name: str) -> None:
    """Make the device here, not when the file is opened: which of the two failed is then known."""
    try:
        HWAccel(kind, number or None, allow_software_fallback=False).create(Codec(name, "r"))
    except (NotImplementedError, UnknownCodecError) as error:
        raise ConfigError(f"$.media.hwaccel: {kind} does not decode {codec}; leave hwaccel out") from error
    except AV_ERRORS as error:
        raise ConfigError(f"$.media.hwaccel: no {kind} device works here ({words(error)}); leave hwaccel out") from error


def _decoder(name: str, stream: VideoStream, accelerated: HWAccel) -> VideoCodecContext:
    decoder = CodecContext.create(name, "r", hwaccel=accelerated)
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = stream.codec_context.extradata
    decoder.width, decoder.height = stream.codec_context.width, stream.codec_context.height
    return decoder

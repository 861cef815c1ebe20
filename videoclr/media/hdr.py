"""HDR metadata: what a picture carries, which encoder takes it, and what is lost.

FFmpeg does not hand side data from decoder to encoder, so encoders are told by options. The static side data are
libavutil's AVMasteringDisplayMetadata (ten rationals, two flags) and AVContentLightMetadata (two unsigned integers).
x264 and x265 want the display in 1/50000 (places) and 1/10000 cd/m2 (luminance), green, blue, red; SVT-AV1 in plain
numbers. Dolby Vision comes with every picture (AVDOVIMetadata), and libx265 writes it again as an RPU from there. HDR10+
does too, and no encoder writes it: see `videoclr.media.hdr10plus`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from videoclr.media import exr
from videoclr.media.colour import HLG, PQ, UNSPECIFIED, WIDE
from videoclr.media.dpx import is_log
from videoclr.media.hdr10plus import keeps_hdr10_plus
from videoclr.media.layout import layout_of
from videoclr.media.orientation import payload
from videoclr.media.proxy import BT709, BT2020, PRIMARIES, REFERENCE_WHITE, USUAL_PEAK, Primaries, Proxy, are_primaries

_RATIONALS = 10
_DISPLAY = struct.Struct("=20iii")
_LIGHT = struct.Struct("=II")
_BRIGHTEST, _FAINTEST = 10_000.0, 203.0
"""cd/m2 between which a stated peak is believed."""
_RPU_HEADER = struct.Struct("@BxHBBBBBBBBBBBBB")
"""AVDOVIRpuDataHeader up to disable_residual_flag."""
_FULL_HD = 1920 * 1080
_TAGGED = MappingProxyType({WIDE: BT2020, 11: PRIMARIES["dci-p3"], 12: PRIMARIES["p3"]})
"""AVColorPrimaries -> places, of those that differ from BT.709's by more than eyes see."""

Static = tuple[list[Fraction] | None, tuple[int, int] | None]
"""Mastering display (x, y of red, green, blue, white; least, greatest cd/m2) and content light (MaxCLL, MaxFALL)."""


def proxy_of(frame: VideoFrame, linear: bool = True, head: bytes = b"", primaries: str | None = None) -> Proxy | None:
    """How a network is shown a PQ or HLG picture, a film scan, or one of floats; None for any other.

    The peak is that of the content (MaxCLL), or else that of the display it was graded on, or else 1000 cd/m2.

    Args:
        frame: one picture of all.
        linear: float pictures are linear light, whatever they are tagged; False: they, and film scans, are code values.
        head: its headers, of a DPX or an EXR picture (`videoclr.media.dpx`, `videoclr.media.exr`).
        primaries: of float pictures, a name of `PRIMARIES`; None: what they say, or else BT.709's.
    """
    layout = layout_of(frame.format.name)
    if layout is not None and layout.floating:
        own = exr.primaries(head) if exr.is_exr(head) else None
        found = _TAGGED.get(frame.color_primaries, BT709) if own is None or not are_primaries(own) else own
        found = found if primaries is None else PRIMARIES[primaries]
        return Proxy("linear", USUAL_PEAK, found, True) if linear else Proxy("code", REFERENCE_WHITE, found, True)
    if linear and is_log(head):
        return Proxy("cineon", primaries=BT709)
    if frame.color_trc not in (PQ, HLG):
        return None
    tagged = wide_primaries(frame) or BT709
    if frame.color_trc == HLG:
        return Proxy("hlg", primaries=tagged)
    display, light = static_metadata(frame)
    said = [float(light[0])] if light else []
    said += [float(display[-1])] if display else []
    return Proxy("pq", next((min(max(one, _FAINTEST), _BRIGHTEST) for one in said if one > 0), USUAL_PEAK), tagged)


def wide_primaries(frame: VideoFrame) -> Primaries | None:
    """The primaries that a picture is tagged with, where the eye tells them from BT.709's; HDR without that tag has BT.2020's."""
    if frame.color_primaries == UNSPECIFIED and frame.color_trc in (PQ, HLG):
        return BT2020
    return _TAGGED.get(frame.color_primaries)


def static_metadata(frame: VideoFrame) -> Static:
    """HDR10's static metadata of `frame`; None for what it has not."""
    display, light = payload(frame, Type.MASTERING_DISPLAY_METADATA), payload(frame, Type.CONTENT_LIGHT_LEVEL)
    ratios, levels = None, None
    if display is not None and len(display) >= _DISPLAY.size:
        values = _DISPLAY.unpack(display[: _DISPLAY.size])
        if values[20] and values[21]:
            ratios = [Fraction(values[2 * i], values[2 * i + 1] or 1) for i in range(_RATIONALS)]
    if light is not None and len(light) >= _LIGHT.size:
        levels = _LIGHT.unpack(light[: _LIGHT.size])
    return ratios, levels


def _in_steps(display: list[Fraction]) -> str:
    rx, ry, gx, gy, bx, by, wx, wy = (round(ratio * 50000) for ratio in display[:8])
    low, high = (round(ratio * 10000) for ratio in display[8:])
    return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})"


def _x265(static: Static) -> list[str]:
    display, light = static
    params = [f"master-display={_in_steps(display)}"] if display else []
    params += [f"max-cll={light[0]},{light[1]}"] if light else []
    return ["hdr10=1", "repeat-headers=1", *params] if params else []


def _x264(static: Static) -> list[str]:
    display, light = static
    params = [f"mastering-display={_in_steps(display)}"] if display else []
    return params + ([f"cll={light[0]},{light[1]}"] if light else [])


def _svt(static: Static) -> list[str]:
    display, light = static
    params = []
    if display:
        rx, ry, gx, gy, bx, by, wx, wy, low, high = (f"{float(ratio):.6g}" for ratio in display)
        params = [f"mastering-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})"]
    return params + ([f"content-light={light[0]},{light[1]}"] if light else [])


_STATIC: Mapping[str, Callable[[Static], list[str]]] = MappingProxyType({"libx265": _x265, "libx264": _x264, "libsvtav1": _svt})
"""Encoders that write the static metadata into the stream."""


def hdr_params(frame: VideoFrame, encoder: str, pixel_format: str) -> list[str]:
    """`name=value` settings of the encoder's own library that repeat the HDR metadata of `frame`; empty where it has none."""
    params = _STATIC[encoder](static_metadata(frame)) if encoder in _STATIC else []
    if keeps_dolby_vision(frame, encoder, pixel_format):
        # x265 wants a buffer model for Dolby Vision: the high tier's of level 4.1 or 5.1, which quality does not feel.
        rate = 50_000 if frame.width * frame.height <= _FULL_HD else 160_000
        params += [f"vbv-maxrate={rate}", f"vbv-bufsize={rate}"]
    return params


def dolby_vision_profile(frame: VideoFrame) -> int | None:
    """5, 7 or 8, as the RPU of `frame` tells (the configuration record of the container is out of reach); None without one."""
    data = payload(frame, Type.DOVI_METADATA)
    if data is None or len(data) < struct.calcsize("@N"):
        return 8 if payload(frame, Type.DOVI_RPU_BUFFER) is not None else None
    (at,) = struct.unpack_from("@N", data)
    header = _RPU_HEADER.unpack_from(data, at)
    profile, full_range, no_residual = header[2], header[8], header[14]
    if profile == 0 and full_range:
        return 5
    return 8 if no_residual else 7


def keeps_dolby_vision(frame: VideoFrame, encoder: str, pixel_format: str) -> bool:
    """True where `encoder` writes the Dolby Vision metadata of pictures like `frame` again.

    Profile 8 alone: profile 7's describe a second layer that is gone, and that belonged to other pixels.
    """
    if encoder != "libx265" or pixel_format != "yuv420p10le" or frame.format.name != pixel_format:
        return False
    return payload(frame, Type.DOVI_METADATA) is not None and dolby_vision_profile(frame) == 8


def lost_hdr(frame: VideoFrame, encoder: str, pixel_format: str) -> list[str]:
    """What of the HDR metadata of `frame` `encoder` cannot keep, as warnings."""
    warnings = []
    if encoder not in _STATIC and static_metadata(frame) != (None, None):
        warnings.append("the HDR10 mastering metadata is lost; the codecs hevc, h264 and av1 keep it")
    profile = dolby_vision_profile(frame)
    if profile is not None and not keeps_dolby_vision(frame, encoder, pixel_format):
        how = "the codec hevc with 10 bits keeps it" if profile == 8 else "only profile 8 can be kept"
        warnings.append(f"the Dolby Vision metadata (profile {profile}) is left out: {how}; what shows is the base layer")
    if payload(frame, Type.DYNAMIC_HDR_PLUS) is not None and not keeps_hdr10_plus(frame, encoder, pixel_format):
        how = "the codecs hevc and av1 with 10 bits keep it"
        warnings.append(f"the HDR10+ metadata is left out: {how}; what shows is the HDR10 base")
    if payload(frame, Type.DYNAMIC_HDR_VIVID) is not None:
        warnings.append("HDR Vivid metadata is left out; what shows is the HDR10 or HLG base")
    return warnings

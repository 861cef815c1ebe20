"""HDR10's static metadata for x265, which FFmpeg does not hand from decoder to encoder.

The side data are libavutil's AVMasteringDisplayMetadata (ten rationals, two flags) and AVContentLightMetadata (two
unsigned integers); x265 wants the display in 1/50000 (places) and 1/10000 cd/m2 (luminance), green, blue, red.
"""

from __future__ import annotations

import struct
from fractions import Fraction

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from videoclr.media.orientation import payload

_RATIONALS = 10
_DISPLAY = struct.Struct("=20iii")
_LIGHT = struct.Struct("=II")
_DYNAMIC = (Type.DYNAMIC_HDR_PLUS, Type.DOVI_RPU_BUFFER, Type.DOVI_METADATA, Type.DYNAMIC_HDR_VIVID)


def x265_hdr10(frame: VideoFrame) -> list[str]:
    """x265 parameters that repeat the HDR10 metadata of `frame`; empty where it has none."""
    params = []
    display, light = payload(frame, Type.MASTERING_DISPLAY_METADATA), payload(frame, Type.CONTENT_LIGHT_LEVEL)
    if display is not None and len(display) >= _DISPLAY.size:
        values = _DISPLAY.unpack(display[: _DISPLAY.size])
        if values[20] and values[21]:
            ratios = [Fraction(values[2 * i], values[2 * i + 1] or 1) for i in range(_RATIONALS)]
            rx, ry, gx, gy, bx, by, wx, wy = (round(ratio * 50000) for ratio in ratios[:8])
            low, high = (round(ratio * 10000) for ratio in ratios[8:])
            params.append(f"master-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})")
    if light is not None and len(light) >= _LIGHT.size:
        most, average = _LIGHT.unpack(light[: _LIGHT.size])
        params.append(f"max-cll={most},{average}")
    return ["hdr10=1", "repeat-headers=1", *params] if params else []


def lost_hdr(frame: VideoFrame, encoder: str) -> list[str]:
    """What of the HDR metadata of `frame` `encoder` cannot keep, as warnings."""
    warnings = []
    if encoder != "libx265" and payload(frame, Type.MASTERING_DISPLAY_METADATA) is not None:
        warnings.append("the HDR10 mastering metadata is lost; the codec hevc keeps it")
    if any(payload(frame, kind) is not None for kind in _DYNAMIC):
        warnings.append("HDR10+ or Dolby Vision metadata is lost; what shows is the HDR10 or HLG base")
    return warnings

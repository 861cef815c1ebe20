"""Linear light for EXR pictures: code values of any tagged transfer function as floats.

1.0 is the white of a standard picture. Of HDR it is reference white, 203 cd/m2 (ITU-R BT.2408-7, table 1), and highlights
lie above it. Camera and broadcast curves (BT.601, BT.709, BT.2020, untagged video) are undone by the inverse of the
BT.709-6 OETF, as compositing programs do with footage; sRGB and untagged RGB pictures by IEC 61966-2-1; densities of film
as in `videoclr.media.proxy`. Primaries stay what they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoclr.media.colour import HLG, LINEAR, PQ, UNSPECIFIED, kind_of
from videoclr.media.proxy import REFERENCE_WHITE, USUAL_PEAK, Proxy, film_light, hlg_scene, pq_light, scene_light

_TOP = 65535
_GAMMA22, _GAMMA28, _SRGB, _ST428 = 4, 5, 13, 17
"""AVColorTransferCharacteristic."""
FILM = -1
"""Printing density, which FFmpeg has no number for."""
_HLG_GAMMA = 1.2
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)


def linear(signals: NDArray[Any], transfer: int) -> NDArray[np.float32]:
    """`(..., 3)` uint16 R'G'B' 0..65535 -> float32 linear light, 1.0 for white.

    Args:
        signals: in the transfer function of the picture.
        transfer: AVColorTransferCharacteristic, or `FILM`.
    """
    light: NDArray[np.float32] = _table(transfer)[signals]
    if transfer == HLG:  # the OOTF of a display of 1000 cd/m2 (ITU-R BT.2100-2, table 5)
        luminance = np.maximum(light @ _LUMA_2020, 0)[..., None]
        light = np.asarray(light * luminance ** np.float32(_HLG_GAMMA - 1) * np.float32(USUAL_PEAK / REFERENCE_WHITE), np.float32)
    return light


def as_light(values: NDArray[Any], transfer: int, alpha: NDArray[np.float32] | None, multiplied: bool) -> NDArray[np.float32]:
    """`(h, w, 3)` code values 0..65535 in linear light, multiplied with `alpha`, as OpenEXR has its colours.

    `multiplied`: the code values are that already; where nothing is covered, and glows, their light stays.
    """
    if alpha is None:
        return linear(np.rint(values).astype(np.uint16), transfer)
    mix = alpha[..., None]
    if multiplied:
        values = divided(values.astype(np.float32), alpha).clip(0, _TOP)
        mix = np.where(mix > 0, mix, np.float32(1))
    return linear(np.rint(values).astype(np.uint16), transfer) * mix


def divided(values: NDArray[np.float32], alpha: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """`(h, w, 3)` light without the alpha that it is multiplied with; where nothing is covered, and glows, as it is."""
    if alpha is None:
        return values
    mix = alpha[..., None]
    return np.divide(values, mix, out=values.copy(), where=mix > 0)


def transfer_of(frame: VideoFrame, proxy: Proxy | None) -> int:
    """The tagged transfer function; of untagged RGB that of sRGB; of a film scan, as its proxy says, `FILM`."""
    if proxy is not None and proxy.curve == "cineon":
        return FILM
    if frame.color_trc in (0, UNSPECIFIED) and kind_of(frame.format.name) != "yuv":
        return _SRGB
    return frame.color_trc


@cache
def _table(transfer: int) -> NDArray[np.float32]:
    """Linear light of each of the 65536 code values."""
    signal = np.arange(_TOP + 1) / _TOP
    if transfer == PQ:
        return np.asarray(pq_light(signal) / REFERENCE_WHITE, np.float32)
    if transfer == HLG:
        return np.asarray(hlg_scene(signal), np.float32)
    if transfer == FILM:
        return np.asarray(film_light(signal), np.float32)
    if transfer == LINEAR:
        return signal.astype(np.float32)
    if transfer in (_GAMMA22, _GAMMA28, _ST428):
        return np.asarray(signal ** {_GAMMA22: 2.2, _GAMMA28: 2.8, _ST428: 2.6}[transfer], np.float32)
    if transfer == _SRGB:
        return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return scene_light(signal)

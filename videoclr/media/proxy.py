"""HDR pictures, film and linear light as a network sees them, and how what it changed comes back: a proxy and its residual.

A network knows pictures as they look on an ordinary display. A PQ or HLG picture taken for one is flat and grey, and a
restored one taken back would end at the white of that display. So the network gets a proxy, and of its answer only the
difference to the proxy is used, in the light of the original:

1. *Light.* Code values become display light in units of reference white, 203 cd/m2 (ITU-R BT.2408-7, table 1). PQ: the
   EOTF of SMPTE ST 2084 (ITU-R BT.2100-2, table 4). HLG: inverse OETF and OOTF for a display of 1000 cd/m2 with a
   system gamma of 1.2 (BT.2100-2, table 5). Other primaries become BT.709's by a matrix (SMPTE RP 177, with Bradford's
   adaptation where the white is another), unclipped. Pictures of linear light (EXR) are light already, 1 for white; float
   pictures that hold code values are undone by the inverse of the BT.709-6 OETF, as `videoclr.media.linear` does. Film
   densities (Cineon, DPX) become light by Kodak's "Conversion of 10-bit log film data to 8-bit linear or video data" (1995):
   0.002 of density a code, a film gamma of 0.6, black at 95 and white at 685 of 1023.
2. *Proxy.* Up to `KNEE` light stays as it is, so that skin does; above, it is rolled off so that `peak` becomes white:
   Reinhard's curve with a white point (Reinhard et al., "Photographic tone reproduction for digital images", SIGGRAPH
   2002, eq. 4), joined with its slope at the knee as in the EETF of ITU-R BT.2390. Then the inverse of BT.1886, gamma 2.4; of
   linear light and of film the OETF of BT.709-6, so that footage that was made linear is shown as it was.
3. *Residual.* With the light `H` of the original, and the light `p` and `q` that the display shows for the proxy before and
   after restoration, `H' = H + (q - p) (H + o) / (p + o)`. That is a gain map (ISO 21496-1): the ratio between HDR and
   proxy stays what the original had, with an offset `o` against division by darkness. Where the proxy is the light
   itself, `H' = q`. A highlight of 1000 cd/m2 which restoration makes a tenth darker is one of 900 cd/m2 then, and
   `q = p` gives `H' = H` exactly.

Everything is monotone, and each of the steps has its inverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Place = tuple[float, float]
Primaries = tuple[Place, Place, Place, Place]
"""CIE x, y of red, green, blue and white."""
Curve = Literal["pq", "hlg", "cineon", "linear", "code"]

REFERENCE_WHITE = 203.0
"""cd/m2 of diffuse white in HDR (BT.2408)."""
KNEE = 0.5
"""Light, in units of reference white, from which the proxy rolls off."""
USUAL_PEAK = 1000.0
"""cd/m2 of the brightest highlight where nothing says otherwise; also what HLG is shown at."""
GAMMA = 2.4
"""Of the proxy (BT.1886)."""
OFFSET = 1 / 64
"""Light, in units of reference white, below which a residual adds rather than multiplies."""
_TOP = 65535
_PQ_PEAK = 10000.0
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_SYSTEM_GAMMA = 1.2
_BEND_709 = 0.081
_FILM_WHITE, _FILM_DECADES = 685 / 1023, 1023 * 0.002 / 0.6
_FILM_FLARE = 10 ** ((95 / 1023 - _FILM_WHITE) * _FILM_DECADES)
_MOST = 65504.0
"""The largest half float: what is taken for infinite light."""
_TABLE = 1 << 17
"""Steps of the proxy's table over the square root of light: where the curve is steepest, a step is less than 1/50 of an
8-bit code value."""
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_D65 = (0.3127, 0.3290)
_ACES_WHITE = (0.32168, 0.33767)
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT709: Primaries = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
"""ITU-R BT.709-6."""
BT2020: Primaries = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65)
"""ITU-R BT.2020-2."""
PRIMARIES: Mapping[str, Primaries] = MappingProxyType(
    {
        "bt709": BT709,
        "bt2020": BT2020,
        "p3": (*_P3, _D65),
        "dci-p3": (*_P3, (0.314, 0.351)),
        "acescg": ((0.713, 0.293), (0.165, 0.830), (0.128, 0.044), _ACES_WHITE),
        "aces": ((0.7347, 0.2653), (0.0, 1.0), (0.0001, -0.0770), _ACES_WHITE),
    }
)
"""Display P3 and DCI-P3 (SMPTE EG 432-1, RP 431-2); ACEScg and ACES2065-1 (Academy S-2014-004, SMPTE ST 2065-1)."""
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_LEAST_AREA = 1e-3
"""Of the triangle that primaries span, in x and y (BT.709: 0.11)."""


def pq_light(signal: NDArray[Any]) -> NDArray[Any]:
    """PQ signal in [0, 1] -> display light in cd/m2, 0..10000 (the EOTF)."""
    root = np.maximum(signal, 0) ** (1 / _M2)
    return np.asarray(_PQ_PEAK * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1))


def pq_signal(light: NDArray[Any]) -> NDArray[Any]:
    """Display light in cd/m2 -> PQ signal in [0, 1]; clipped to 0..10000."""
    power = (np.clip(light, 0, _PQ_PEAK) / _PQ_PEAK) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def hlg_scene(signal: NDArray[Any]) -> NDArray[Any]:
    """HLG signal in [0, 1] -> scene light in [0, 1] (the inverse OETF)."""
    signal = np.maximum(signal, 0)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)


def hlg_signal(scene: NDArray[Any]) -> NDArray[Any]:
    """Scene light in [0, 1] -> HLG signal in [0, 1] (the OETF)."""
    scene = np.clip(scene, 0, 1)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), _A * np.log(np.maximum(12 * scene - _B, 1e-6)) + _C)


def film_light(signal: NDArray[Any]) -> NDArray[Any]:
    """Printing density as a signal in [0, 1] -> light, 1 for white."""
    return np.asarray((10 ** ((signal - _FILM_WHITE) * _FILM_DECADES) - _FILM_FLARE) / (1 - _FILM_FLARE))


def film_signal(light: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `film_light`, clipped to [0, 1]."""
    return np.asarray(
        (np.log10(np.maximum(light * (1 - _FILM_FLARE) + _FILM_FLARE, 1e-6)) / _FILM_DECADES + _FILM_WHITE).clip(0, 1)
    )


def scene_light(signal: NDArray[Any]) -> Floats:
    """BT.709 signal -> scene light, 1 for white (the inverse OETF), goes on beyond 0..1."""
    power = ((np.maximum(signal, _BEND_709) + 0.099) / 1.099) ** (1 / 0.45)
    return np.where(signal < _BEND_709, signal / 4.5, power).astype(np.float32)


def scene_signal(light: NDArray[Any]) -> Floats:
    """The inverse of `scene_light` (the OETF of BT.709-6)."""
    least = _BEND_709 / 4.5
    power = 1.099 * np.maximum(light, least) ** 0.45 - 0.099
    return np.where(light < least, light * 4.5, power).astype(np.float32)


@dataclass(frozen=True)
class Proxy:
    """How the pictures of one HDR stream are shown to a network."""

    curve: Curve
    """Transfer function of the stream; `cineon` is the density of film, `code` BT.709 of floats."""
    peak: float = USUAL_PEAK
    """cd/m2 that become the proxy's white; what is brighter is white too, in the proxy alone."""
    primaries: Primaries = BT2020
    """What its red, green, blue and white are."""
    floats: bool = False
    """The signal is float32 of any size and sign; else uint16, 0..65535 for its 0..1."""

    def shown(self, signal: NDArray[Any]) -> NDArray[np.uint16]:
        """The proxy of a picture.

        Args:
            signal: `(..., 3)` R'G'B', uint8 or uint16 over the whole range, or float32 where `floats` says so.

        Returns:
            Display-referred BT.709 R'G'B' of the same shape, uint16 0..65535.
        """
        return self._shown(self.light(signal))

    def signal(self, proxy: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `shown` for colours that BT.709 holds, up to the peak: the same shapes, uint16 or float32."""
        values = self._signal(self._unrolled(self._display[as_uint16(proxy)]))
        if self.floats:
            return values
        codes: NDArray[np.uint16] = np.rint(values.clip(0, 1) * np.float32(_TOP)).astype(np.uint16)
        return codes

    def change(self, signal: NDArray[Any], restored: NDArray[Any]) -> Floats:
        """What restoration changes in the signal of the original.

        Args:
            signal: `(..., 3)` of the original, as for `shown`.
            restored: its proxy as restored, uint8 or uint16, the same shape.

        Returns:
            `(..., 3)` float32, the change of R'G'B' in units of the signal's 0..1. Exactly 0 where `restored` is `shown(signal)`.
        """
        light = self.light(signal)
        before, after = self._display[self._shown(light)], self._display[as_uint16(restored)]
        # Light below zero is a colour outside BT.709, which the proxy shows as 0: it moves, and is not magnified.
        gain = (np.maximum(light, 0) + np.float32(OFFSET)) / (before + np.float32(OFFSET))
        return self._signal(light + (after - before) * gain) - self._signal(light)

    def light(self, signal: NDArray[Any]) -> Floats:
        """`(..., 3)` signal -> display light, BT.709 primaries, 1 for reference white; negative outside the gamut."""
        if self.floats:
            values = np.nan_to_num(signal.astype(np.float32), nan=0.0, posinf=_MOST, neginf=-_MOST).clip(-_MOST, _MOST)
            light = values if self.curve == "linear" else scene_light(values)
        else:
            light = _light_of_codes(self.curve)[as_uint16(signal)]
        if self.curve == "hlg":
            luminance = light @ _LUMA_2020
            light = light * (luminance ** np.float32(_SYSTEM_GAMMA - 1) * np.float32(USUAL_PEAK / REFERENCE_WHITE))[..., None]
        return light if self.primaries == BT709 else light @ _matrix(self.primaries, BT709).T

    def _signal(self, light: Floats) -> Floats:
        """The inverse of `light`, unrounded; in 0..1, but for floats."""
        light = light if self.primaries == BT709 else light @ _matrix(BT709, self.primaries).T
        if self.curve == "linear":
            return np.asarray(light, np.float32)
        if self.curve == "code":
            return scene_signal(light)
        if self.curve == "cineon":
            return film_signal(light).astype(np.float32)
        light = np.maximum(light, 0) * np.float32(REFERENCE_WHITE)
        if self.curve == "pq":
            return pq_signal(light).astype(np.float32)
        light = light / np.float32(USUAL_PEAK)
        luminance = np.maximum(light @ _LUMA_2020, np.float32(1e-7))
        return hlg_signal(light * (luminance ** np.float32(1 / _SYSTEM_GAMMA - 1))[..., None]).astype(np.float32)

    def _shown(self, light: Floats) -> NDArray[np.uint16]:
        places = np.sqrt(np.clip(light, 0, self._white)) * np.float32((_TABLE - 1) / np.sqrt(self._white))
        return self._codes[(places + np.float32(0.5)).astype(np.int32)]

    @property
    def _white(self) -> float:
        return max(self.peak / REFERENCE_WHITE, 1.0)

    @property
    def _bend(self) -> tuple[float, float]:
        """`T` and `c` of the roll-off `t / (1 + c t)`, which takes 0..T to 0..1 with slope 1 at 0."""
        most = (self._white - KNEE) / (1 - KNEE)
        return most, 1 - 1 / most

    @cached_property
    def _codes(self) -> NDArray[np.uint16]:
        """Proxy code values over the square root of light."""
        light = (np.arange(_TABLE) / (_TABLE - 1)) ** 2 * self._white
        over = np.maximum(light - KNEE, 0) / (1 - KNEE)
        rolled = np.minimum(light, KNEE) + (1 - KNEE) * over / (1 + self._bend[1] * over)
        shown = scene_signal(rolled) if self._is_scene else np.clip(rolled, 0, 1) ** (1 / GAMMA)
        return np.asarray(np.rint(np.clip(shown, 0, 1) * _TOP), np.uint16)

    @property
    def _is_scene(self) -> bool:
        return self.curve in ("cineon", "linear", "code")

    @property
    def _display(self) -> Floats:
        """`(65536,)`: proxy code value -> light, 1 for white."""
        return _light_of_codes("code") if self._is_scene else _display_light()

    def _unrolled(self, shown: Floats) -> Floats:
        """The light that the roll-off shows as `shown`."""
        over = np.maximum(shown - np.float32(KNEE), 0) / np.float32(1 - KNEE)
        rolled = np.float32(1 - KNEE) * over / (1 - np.float32(self._bend[1]) * over)
        return np.asarray(np.minimum(shown, np.float32(KNEE)) + rolled, np.float32)


def as_uint16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """uint8 or uint16 over its whole range -> uint16 over its whole range."""
    return values if values.dtype == np.uint16 else values.astype(np.uint16) * np.uint16(257)


@cache
def _light_of_codes(curve: Curve) -> Floats:
    """`(65536,)`: PQ: display light, 1 for reference white; the others: scene light."""
    codes = np.arange(_TOP + 1) / _TOP
    if curve in ("code", "cineon"):
        return (scene_light if curve == "code" else film_light)(codes).astype(np.float32)
    return (pq_light(codes) / REFERENCE_WHITE if curve == "pq" else hlg_scene(codes)).astype(np.float32)


@cache
def _display_light() -> Floats:
    """`(65536,)`: proxy code value -> light of the display, 1 for its white."""
    return ((np.arange(_TOP + 1) / _TOP) ** GAMMA).astype(np.float32)


def are_primaries(places: Primaries) -> bool:
    """Whether colours can be told by them: finite, no two alike, and white inside the triangle."""
    values = np.array(places, np.float64)
    if not np.isfinite(values).all() or np.abs(values).max() > 10 or np.abs(values[:, 1]).min() < 1e-6:
        return False
    red, green, blue, white = (complex(*value) for value in values)
    whole, *parts = (
        ((b - a).conjugate() * (c - a)).imag / 2
        for a, b, c in ((red, green, blue), (white, green, blue), (red, white, blue), (red, green, white))
    )
    return abs(whole) >= _LEAST_AREA and min(part / whole for part in parts) > 0


@cache
def _matrix(source: Primaries, target: Primaries) -> Floats:
    """`(3, 3)` from light of one set of primaries to another's; white becomes white."""
    adapted = np.eye(3)
    if source[3] != target[3]:
        gains = (_BRADFORD @ _xyz(target[3])) / (_BRADFORD @ _xyz(source[3]))
        adapted = np.linalg.inv(_BRADFORD) @ (gains[:, None] * _BRADFORD)
    return np.asarray(np.linalg.inv(_to_xyz(target)) @ adapted @ _to_xyz(source), np.float32)


def _to_xyz(primaries: Primaries) -> NDArray[np.float64]:
    columns = np.array([_xyz(place) for place in primaries[:3]]).T
    return np.asarray(columns * np.linalg.solve(columns, _xyz(primaries[3])))


def _xyz(place: Place) -> NDArray[np.float64]:
    """X, Y = 1, Z of a place."""
    x, y = place
    return np.array([x / y, 1.0, (1 - x - y) / y])

"""`--codec copy-like`: encode as the source was encoded.

Codec, profile, pixel format and, for codecs whose pictures depend on each other, level, distance of key frames (fixed where
it is, closed groups where they are), B-frames and bit rate are the source's. The rule of the bit rate: the source's own,
measured over its packets, times `HEADROOM`, on average and in one pass. At an equal rate the second generation would be
visibly worse than the first, because what the first encoder left out is noise to the second. Intra codecs (ProRes, DNxHR)
are told by their profile alone, FFV1 loses nothing, and MJPEG takes the constant quality that is the default here. Whatever
the user names wins over the source.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction

from av.video.stream import VideoStream

from videoclr.errors import ConfigError
from videoclr.media.encoders import COPY_LIKE, ENCODERS, Encoder, Wanted
from videoclr.media.faults import explained
from videoclr.media.reader import Reader
from videoclr.media.source import demuxed, open_input

HEADROOM = Fraction(5, 4)
"""Times the source's bit rate."""
_CODECS = {"dnxhd": "dnxhr", **{name: name for name in ("h264", "hevc", "av1", "vp9", "prores", "ffv1", "mjpeg")}}
"""FFmpeg's name of a codec -> the encoder's name here."""
_H264 = {
    "Baseline": "baseline", "Constrained Baseline": "baseline", "Main": "main", "High": "high", "High 10": "high10",
    "High 10 Intra": "high10", "High 4:2:2": "high422", "High 4:2:2 Intra": "high422", "High 4:4:4 Predictive": "high444",
    "High 4:4:4 Intra": "high444",
}  # fmt: skip
_HEVC = {"Main": "main", "Main 10": "main10"}
_PRORES = {"Proxy": "proxy", "LT": "lt", "Standard": "standard", "HQ": "hq", "4444": "4444", "XQ": "4444xq"}
_DNXHR = {"DNXHR LB": "lb", "DNXHR SQ": "sq", "DNXHR HQ": "hq", "DNXHR HQX": "hqx", "DNXHR 444": "444"}
_PROFILES = {"h264": _H264, "hevc": _HEVC, "prores": _PRORES, "dnxhd": _DNXHR}
"""FFmpeg's name of a profile -> the one here."""
_START_CODE = b"\x00\x00\x01"
_FARTHEST = 32
"""Twice the pictures that a decoder of H.264 or HEVC keeps: no picture waits longer for its turn."""


@dataclass(frozen=True, slots=True)
class Structure:
    """How a source's pictures depend on each other, and what they take."""

    bit_rate: int | None
    """Bits a second; None where the file has no times to divide by."""
    gop: int | None
    """Most frames from one key frame to the next; None with a single key frame."""
    fixed: bool
    """True where all key frames are equally far apart."""
    closed: bool
    """True where no picture before a key frame in time is stored after it."""
    reordered: bool
    """True where pictures are stored in another order than shown (B-frames)."""
    reorder: int
    """By how many places at most a packet comes before its turn to be shown."""


def encoding_of(like: Reader | None, wanted: Wanted) -> tuple[Encoder, Wanted]:
    """The encoder of `like`'s codec and its settings; what `wanted` names wins. Raises as `likeness_of`."""
    encoder, wanted, _ = likeness_of(like, wanted)
    return encoder, wanted


def likeness_of(like: Reader | None, wanted: Wanted) -> tuple[Encoder, Wanted, Structure | None]:
    """As `encoding_of`, and how `like`'s pictures depend on each other; None where they do not.

    Raises:
        ConfigError: there is no source, it is a pipe or a picture, or nothing here encodes its codec.
    """
    if like is None or like.is_pipe or like.is_still or like.sequence:
        what = "has no source" if like is None else "reads a source twice, which a pipe does not allow"
        what = "is for videos" if like is not None and not like.is_pipe else what
        raise ConfigError(f"$.media.codec: {COPY_LIKE} {what}; name a codec")
    stream = like.container.streams[like.stream_index]
    assert isinstance(stream, VideoStream)
    source = stream.codec_context.codec.canonical_name
    if source not in _CODECS:
        known = ", ".join(sorted(_CODECS))
        raise ConfigError(f"$.media.codec: {COPY_LIKE}: nothing here encodes {source}, only {known}; name a codec")
    encoder = ENCODERS[_CODECS[source]]
    own = Wanted(profile=_PROFILES.get(source, {}).get(stream.codec_context.profile or ""))
    found = structure_of(like) if encoder.long_gop else None
    if found is not None:
        own = replace(
            own,
            level=None if encoder.level is None else level_of(source, stream.codec_context.extradata or b""),
            bit_rate=None if found.bit_rate is None else round(found.bit_rate * HEADROOM),
            gop=found.gop,
            b_frames=0 if encoder.level is not None and not found.reordered else None,
            options=_key_frames(encoder, found),
        )
    return encoder, wanted.over(own), found


def structure_of(like: Reader) -> Structure:
    """Read the packets of `like`'s video in a second opening of the file, without decoding them."""
    with explained(like.path, "cannot be read"), open_input(like.path, like.rate, like.opening) as container:
        stream = container.streams[like.stream_index]
        assert isinstance(stream, VideoStream)
        reordered = bool(stream.codec_context.has_b_frames)
        size, count, first, last = 0, 0, Fraction(0), Fraction(0)
        keys = _Keys()
        places = _Places()
        problems: list[BaseException] = []  # damage is the reader's to tell
        for packet in demuxed(container, [stream], problems.append):
            time = None if packet.pts is None else packet.pts * Fraction(packet.time_base)
            keys.add(count, packet.is_keyframe, time)
            places.add(packet.pts)
            if time is not None:
                first, last = (time, time) if not count else (min(first, time), max(last, time))
            size, count = size + packet.size, count + 1
    keys.end()
    seconds = (last - first) * count / (count - 1) if count > 1 else Fraction(0)
    return Structure(
        bit_rate=round(8 * size / seconds) or None if seconds else None,
        gop=keys.most or None,
        fixed=0 < keys.least == keys.most,
        closed=not keys.ever_leading,
        reordered=reordered,
        reorder=places.reorder,
    )


class _Places:
    """How far pictures are stored from their turn to be shown."""

    def __init__(self) -> None:
        self.reorder = 0
        self._late: deque[int] = deque(maxlen=_FARTHEST)

    def add(self, pts: int | None) -> None:
        """Note the next packet."""
        if pts is not None:
            self.reorder = max(self.reorder, sum(other > pts for other in self._late))
            self._late.append(pts)


class _Keys:
    """Distances of key frames as shown: pictures that are stored after one and shown before it count before it."""

    def __init__(self) -> None:
        self.least = self.most = 0
        self.ever_leading = False
        self._place = self._before = -1
        self._time: Fraction | None = None
        self._leading = 0

    def add(self, place: int, is_key: bool, time: Fraction | None) -> None:
        """Note the packet number `place`."""
        if is_key:
            self.end()
            self._place, self._time, self._leading = place, time, 0
        elif time is not None and self._time is not None and time < self._time:
            self._leading += 1
            self.ever_leading = True

    def end(self) -> None:
        """The pictures of the last key frame are complete."""
        if self._place < 0:
            return
        shown = self._place + self._leading
        if self._before >= 0:
            gap = shown - self._before
            self.most, self.least = max(self.most, gap), min(self.least or gap, gap)
        self._before = shown


def _key_frames(encoder: Encoder, found: Structure) -> dict[str, str]:
    """Options that keep key frames at fixed distances, or groups of pictures closed, where the source's are."""
    if encoder.name == "libx264" and found.fixed:
        return {"sc_threshold": "0"}
    if encoder.name == "libx265":
        params = ["scenecut=0"] * found.fixed + ["open-gop=0"] * found.closed
        return {encoder.params_option: ":".join(params)} if params else {}
    return {}


def level_of(codec: str, parameters: bytes) -> str | None:
    """`4.1`, of a stream's parameter sets (avcC, hvcC, or with start codes); None where they do not tell."""
    at = {"h264": _h264_level, "hevc": _hevc_level}.get(codec)
    found = None if at is None else at(parameters)
    return None if not found else f"{found // 10}.{found % 10}" if found % 10 else str(found // 10)


def _h264_level(parameters: bytes) -> int | None:
    if parameters[:1] == b"\x01":  # avcC: version, profile, compatibility, level (ISO 14496-15, 5.3.3.1.2)
        return parameters[3] if len(parameters) > 3 else None
    unit = next((one for one in _units(parameters) if one[0] & 0x1F == 7), None)
    return unit[3] if unit is not None and len(unit) > 3 else None


def _hevc_level(parameters: bytes) -> int | None:
    """Levels are stored times 30 (ITU-T H.265, A.4)."""
    if parameters[:1] == b"\x01":  # hvcC (ISO 14496-15, 8.3.3.1.2)
        return parameters[12] // 3 if len(parameters) > 12 else None
    unit = next((one for one in _units(parameters) if one[0] >> 1 & 0x3F == 33), None)
    # two bytes of header, one with ids, then profile space, tier and profile, flags of four and of six bytes, the level
    plain = b"" if unit is None else unit.replace(b"\x00\x00\x03", b"\x00\x00")
    return plain[14] // 3 if len(plain) > 14 else None


def _units(parameters: bytes) -> list[bytes]:
    return [unit for unit in parameters.split(_START_CODE)[1:] if unit]

"""How packets of the source and packets of our encoder follow each other in one stream, codec by codec.

The stretches that are encoded (`--smart-copy`) have the source's codec, profile, level, distance of key frames and B-frames, as
`copy-like` has them, but a constant quality instead of the source's rate: a stretch may be as short as a picture, and an encoder
that aims at a mean would begin each of them in the dark.

Pictures of ProRes, DNxHR, MJPEG and VP9 bring all that they need. FFV1's header must be the source's, so settings are sought that
give it. AV1's sequence header stands in every key picture. H.264's and HEVC's parameter sets: see `videoclr.media.nal`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any, Final, cast

import av
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoclr.errors import ConfigError, MediaError
from videoclr.media import nal
from videoclr.media.copylike import Structure, likeness_of
from videoclr.media.encoders import COPY_LIKE, Encoder, Wanted
from videoclr.media.faults import AV_ERRORS
from videoclr.media.filelist import is_list
from videoclr.media.reader import Reader
from videoclr.media.source import PIPE
from videoclr.media.target import MOV, PLAIN

_SIZED: Final = MOV | {"matroska", "webm", "flv"}
"""Muxers whose packets of H.264 and HEVC hold sizes, not start codes."""
_NO_REORDER: Final = {"avi", "flv", "mxf"}
"""Muxers that cannot hold pictures in another order than shown."""
_REORDERING: Final = 2
"""Places by which libx264 and libx265 store a picture before its turn, at most, with the B-frames they make here."""
_NUMBERS_H264 = 32
_AUD = {"h264": 9, "hevc": 35}
"""Access unit delimiters come before everything else."""
_CARRIED = ("matroska_block_additional", "new_extradata", "palette", "dovi_conf", "encryption_info")
"""Side data without which a packet is not whole, and which a stretch that we encode does not have."""
_SEQUENCE, _DELIMITER, _FRAMES = 1, 2, (3, 6)
"""AV1's kinds of open bitstream units: sequence header, temporal delimiter, and what begins with a frame's header."""
_PROFILED = {"prores", "dnxhd"}
"""Codecs whose container is told the profile, for all pictures at once."""


class Joint:
    """A codec whose pictures bring all that they need.

    Args:
        header: the source's (extradata).
        reorder: by how many places at most a packet comes before its turn to be shown, in the source and in ours.
    """

    options: Mapping[str, str] = {}
    """What the encoder must be told, besides."""
    frees: bool = False
    """True where a picture that is entered openly needs nothing but that its leading pictures are left out."""

    def __init__(self, header: bytes, reorder: int) -> None:
        self._header, self.reorder = header, reorder

    def header(self, own: bytes) -> bytes | None:
        """The header of the joined stream, where the encoder's is `own`; None where that is the right one.

        Raises:
            ValueError: the two do not go together; the message says what differs.
        """
        return None

    def entry(self, packet: Packet[Any]) -> nal.Entry:
        """What the picture in a packet of the source is to a decoder that begins there."""
        return "closed" if packet.is_keyframe else "none"

    def is_leading(self, packet: Packet[Any]) -> bool:
        """True where the picture can be left out of its group, and nothing behind it misses it."""
        return False

    def fits(self, packet: Packet[Any]) -> bool:
        """False where a packet of the source cannot stand beside ours."""
        return not any(side.data_type in _CARRIED for side in packet.iter_sidedata())

    def copied(self, data: bytes, enters: bool, anew: bool) -> bytes:
        """A packet of the source as it is written.

        Args:
            data: of the source.
            enters: it is the first one of its group.
            anew: so it is, and what was before it is none of the source's.
        """
        return data

    def encoded(self, data: bytes, enters: bool) -> bytes:
        """A packet of ours as it is written; `enters` for a key picture."""
        return data


class SameHeader(Joint):
    """FFV1: one header for all pictures; `options` are the settings that give it."""

    def __init__(self, header: bytes, options: Mapping[str, str]) -> None:
        super().__init__(header, 0)
        self.options = options

    def header(self, own: bytes) -> bytes | None:
        """The same, or they do not go together."""
        if own != self._header:
            raise ValueError("its header comes of settings that this encoder does not have")
        return None


class Units(Joint):
    """AV1: a temporal unit of several open bitstream units."""

    _own = b""

    def header(self, own: bytes) -> bytes | None:
        """The source's; ours goes into our key pictures."""
        self._own = own
        return self._header or None

    def entry(self, packet: Packet[Any]) -> nal.Entry:
        """Key frames that are shown at once; others (forward key frames, say) lead pictures that refer across them."""
        first = next((unit for kind, unit in _obus(bytes(packet)) if kind in _FRAMES), b"") if packet.is_keyframe else b""
        # show_existing_frame 0, frame_type 0 (key), show_frame 1
        return "closed" if first[:1] and first[0] & 0xF0 == 0x10 else "none"

    def copied(self, data: bytes, enters: bool, anew: bool) -> bytes:
        """With the sequence header, where a key picture lacks it."""
        return _with_sequence(data, _sequence(self._header)) if enters else data

    def encoded(self, data: bytes, enters: bool) -> bytes:
        """With ours."""
        return _with_sequence(data, _sequence(self._own)) if enters else data


class Sets(Joint):
    """H.264 and HEVC: parameter sets of two encoders, told apart by their numbers.

    Raises:
        ValueError: the source's use all numbers.
    """

    def __init__(self, codec: nal.Codec, header: bytes, reorder: int, muxer: str) -> None:
        super().__init__(header, reorder)
        self.codec, self.frees = codec, codec == "hevc"
        self._length, self._sets = nal.header_of(codec, header)
        self._sized = self._length if muxer in _SIZED else 0
        # From start codes the muxer itself makes sizes, and movenc drops sets from the packets of hvc1 on the way.
        self._dropping = codec == "hevc" and muxer in MOV and not self._length
        number = nal.free_number(codec, self._sets, range(_NUMBERS_H264) if codec == "h264" else (nal.OURS,))
        if number is None:
            raise ValueError("its parameter sets have taken the numbers that ours could have")
        self._number = number
        self._ours: list[bytes] = []
        if codec == "h264":
            self.options = {"x264-params": f"sps-id={number}"}
        else:
            # A key picture that others are stored after and shown before is one that players enter too late.
            self.options = {"x265-params": "open-gop=0"}

    def header(self, own: bytes) -> bytes | None:
        """Both encoders' parameter sets."""
        self._ours = self._as_ours(nal.sets_in(self.codec, nal.units(own, 0)))
        if self._sized:
            return nal.with_sets(self.codec, self._header, self._ours)
        return nal.packed([*self._sets, *self._ours], 0) if own else None

    def entry(self, packet: Packet[Any]) -> nal.Entry:
        """By the kinds of its units: the mark of a key frame is also put on pictures that only look like one."""
        return nal.entry(self.codec, self._units(packet)) if packet.is_keyframe else "none"

    def is_leading(self, packet: Packet[Any]) -> bool:
        """RADL and RASL pictures of HEVC."""
        return self.codec == "hevc" and nal.is_leading(self._units(packet))

    def fits(self, packet: Packet[Any]) -> bool:
        """False also where it brings parameter sets that would be taken for ours, or would get lost, or pictures on top."""
        parts = self._units(packet)
        if nal.has_layers(self.codec, parts):
            return False
        sets = nal.sets_in(self.codec, parts)
        try:
            taken = any(nal.number_of(self.codec, part)[1] == self._number for part in sets)
        except IndexError:  # a damaged one
            return False
        lost = self._dropping and any(part not in self._sets for part in sets)
        return not taken and not lost and super().fits(packet)

    def copied(self, data: bytes, enters: bool, anew: bool) -> bytes:
        """As it is, unless sizes must become start codes.

        Where parameter sets do not stand in the header, they go before a picture that is entered. A CRA picture of HEVC behind ours
        becomes a BLA picture (one byte of it): else it would count its order from ours.
        """
        parts = kept = nal.units(data, self._length) if enters or self._length != self._sized else []
        if anew and self.codec == "hevc":
            parts = [nal.anew(part) for part in parts]
        if enters and not self._sized and not nal.sets_in(self.codec, parts):
            parts = self._behind_delimiter(parts, self._sets)
        return data if parts == kept and self._length == self._sized else nal.packed(parts, self._sized)

    def encoded(self, data: bytes, enters: bool) -> bytes:
        """With sizes or start codes as the source has them; the parameter sets in the header, or where that is none, in it."""
        parts = self._as_ours(nal.units(data, 0))
        sets = nal.sets_in(self.codec, parts)
        if self._sized:
            return nal.packed([part for part in parts if part not in sets], self._sized)
        return nal.packed(self._behind_delimiter(parts, self._ours) if enters and not sets else parts, 0)

    def _units(self, packet: Packet[Any]) -> list[bytes]:
        return nal.units(bytes(packet), self._length)

    def _as_ours(self, parts: Sequence[bytes]) -> list[bytes]:
        return list(parts) if self.codec == "h264" else [nal.renumbered(part) for part in parts]

    def _behind_delimiter(self, parts: Sequence[bytes], sets: Sequence[bytes]) -> list[bytes]:
        head = 1 if parts and nal.kind_of(self.codec, parts[0]) == _AUD[self.codec] else 0
        return [*parts[:head], *sets, *parts[head:]]


def joint_of(like: Reader | None, codec: str | None, muxer: str, wanted: Wanted) -> tuple[Encoder, Wanted, Joint]:
    """How stretches of `like` that changed are encoded, and how they are joined with the others.

    Args:
        like: the source.
        codec: as the user named it: None, `copy-like`, or the source's own.
        muxer: FFmpeg's name of the container.
        wanted: what the user asked of the encoder.

    Raises:
        ConfigError: what can never be joined: a pipe, pictures, another codec, a container without a stream of packets.
        MediaError: this source cannot be: nothing here encodes its codec, or its stream takes no other beside it.
    """
    where = "$.media.smart_copy:"
    if like is None or like.path == PIPE or like.is_still or like.sequence:
        raise ConfigError(f"{where} copies out of a video file, which a pipe or a picture is not; leave it out")
    if muxer in PLAIN:
        raise ConfigError(f"{where} {muxer} holds uncompressed pictures; choose another container or leave it out")
    stream = like.container.streams[like.stream_index]
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    source, header = context.codec.canonical_name, bytes(context.extradata or b"")
    if codec not in (None, COPY_LIKE, source, _named(source)):
        raise ConfigError(f"{where} the source is {_named(source)}, so the output cannot be {codec}; leave one of them out")
    if is_list(like.path):
        raise MediaError(like.path, "smart copy: each file of a list has a header of its own; copy out of each for itself")
    try:
        encoder, own, found = likeness_of(like, wanted)
    except ConfigError as error:
        raise cannot(like, str(error).partition("copy-like: ")[2].partition(";")[0] or str(error)) from error
    if wanted.bit_rate is None:
        own = replace(own, bit_rate=None)
    reorder = _reorder(found, encoder, own)
    if muxer in _NO_REORDER and reorder:
        raise MediaError(like.path, f"smart copy: {muxer} does not hold its B-frames; use .mkv, .mov or .mp4")
    try:
        joint = _joint(like, source, header, reorder, muxer, encoder)
    except (ValueError, IndexError) as error:
        raise cannot(like, str(error) if isinstance(error, ValueError) else "its header is damaged") from error
    return encoder, replace(own, options=_added(joint.options, own.options)), joint


def cannot(like: Reader, why: str) -> MediaError:
    """The error of a source that cannot be joined with what we encode."""
    return MediaError(like.path, f"smart copy: {why}; leave --smart-copy out and name a --codec, which encodes all of it")


def check_trial(like: Reader, file: bytes) -> None:
    """Look into a file of the first picture, as it will be encoded: it must be of the same kind as the source.

    Raises:
        MediaError: it is not; the message says what differs.
    """
    try:
        with av.open(io.BytesIO(file), "r") as container:
            (stream,) = container.streams.video
            ours = next(container.decode(stream))
            made = _facts(stream, ours)
    except (StopIteration, ValueError, *AV_ERRORS) as error:
        raise cannot(like, "what is encoded like it cannot be decoded") from error
    source = like.container.streams[like.stream_index]
    assert isinstance(source, VideoStream)
    theirs = _facts(source, like.first_picture.frame)
    if like.hwaccel:
        made.pop("pixel format")  # on a device pictures are decoded into a format of the device's own
    for what, value in made.items():
        if value != theirs[what]:
            raise cannot(like, f"its {what} is {theirs[what]}, and what is encoded like it has {value}")


def _facts(stream: VideoStream, frame: VideoFrame) -> dict[str, str]:
    facts = {"pixel format": frame.format.name.replace("yuvj", "yuv"), "size": f"{frame.width}x{frame.height}"}
    if stream.codec_context.codec.canonical_name in _PROFILED:
        facts["profile"] = str(stream.codec_context.profile)
    return facts


def _joint(like: Reader, source: str, header: bytes, reorder: int, muxer: str, encoder: Encoder) -> Joint:
    if source in ("h264", "hevc"):
        return Sets(cast(nal.Codec, source), header, reorder, muxer)
    if source == "av1":
        return Units(header, reorder)
    if source == "ffv1":
        return SameHeader(header, _ffv1_options(like, header, encoder))
    if source == "vp9" and any(part.is_alpha for part in like.first_picture.frame.format.components):
        raise ValueError("its transparency is a stream of its own")
    return Joint(header, reorder)


def _reorder(found: Structure | None, encoder: Encoder, own: Wanted) -> int:
    if found is None:
        return 0
    ours = _REORDERING if encoder.level is not None and own.b_frames != 0 else 0
    return max(found.reorder, ours)


def _named(source: str) -> str:
    return {"dnxhd": "dnxhr"}.get(source, source)


def _added(ours: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str]:
    """`asked` with `ours`; settings of an encoder's own library are joined, ours last, so that they win."""
    out = dict(asked)
    for name, text in ours.items():
        out[name] = f"{out[name]}:{text}" if name.endswith("-params") and name in out else text
    return out


def _ffv1_options(like: Reader, header: bytes, encoder: Encoder) -> dict[str, str]:
    """Settings with which FFmpeg's encoder gives this header (RFC 9043 has no room for two)."""
    frame = like.first_picture.frame
    slices = ("4", "1", "6", "9", "12", "15", "16", "20", "24", "30", "35", "36", "42")
    choices = product(("3", "1"), ("1", "0", "2"), ("1", "0"), slices, ("1", "0"), ("12", "1"))
    for level, coder, models, number, checked, gop in choices:
        options = {"level": level, "coder": coder, "context": models, "slices": number, "slicecrc": checked, "g": gop}
        context = CodecContext.create(encoder.name, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.options = dict(options)
        try:
            context.open()
        except AV_ERRORS:
            continue
        if bytes(context.extradata or b"") == header:
            return options
    raise ValueError("its FFV1 header comes of settings that this encoder does not have")


def _obus(data: bytes) -> list[tuple[int, bytes]]:
    """Kind and content of the open bitstream units (AV1 specification, 5.3)."""
    out, place = [], 0
    while place < len(data):
        head = data[place]
        place += 2 if head & 4 else 1
        size = len(data) - place
        if head & 2:
            size, shift = 0, 0
            while place < len(data):
                byte, place = data[place], place + 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
        out.append((head >> 3 & 15, data[place : place + size]))
        place += size
    return out


def _sequence(header: bytes) -> bytes:
    """The sequence header of a stream's header, which is an av1C or the unit itself."""
    return header[4:] if header[:1] == b"\x81" else header


def _with_sequence(data: bytes, sequence: bytes) -> bytes:
    kinds = [kind for kind, _ in _obus(data)]
    if _SEQUENCE in kinds or not sequence:
        return data
    head = 2 if kinds[:1] == [_DELIMITER] else 0
    return data[:head] + sequence + data[head:]

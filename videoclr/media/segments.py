"""Finished stretches of a film: encoded packets that wait on the disk until all of them are joined.

A segment is encoded by an encoder of its own, so it begins with a key frame, refers to nothing outside and comes out
the same whatever was encoded before it: that makes a run that was killed and one that was not equal, byte for byte. The
price is an encoder that looks ahead only to the segment's end, and one key frame per segment: well under one per cent of the
size at twenty seconds a segment.

The file is no video format but a list of packets with exact times. Containers would each hold some of the codecs only,
and Matroska rounds to 1 ms; and the final container's header, tags and sound are then written by the very code
that writes them in an ordinary run. Nothing is encoded a second time.

    magic | one line of JSON: facts | packets ... | where a packet is: struct _HEAD, then its bytes
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, BinaryIO

from av.packet import Packet
from av.stream import Stream

from videoclr.errors import ConfigError, ResumeError
from videoclr.media.faults import explained
from videoclr.media.splice import Tally, decoded_before

_MAGIC = b"videoclr segment 1\n"
_HEAD = struct.Struct("<qqI?")
"""Presentation time and duration in ticks, bytes, whether a key frame."""
_JOINING = "--resume, --smart-copy"
_CARRIED = ("matroska_block_additional", "new_extradata", "palette")
"""Side data without which a packet is not whole."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What is known of a finished segment."""

    path: Path
    packets: int
    size: int
    """Bytes of the file."""
    checksum: int
    """CRC-32 of the file."""
    reorder: int
    """By how many places at most a packet comes before its turn to be shown."""
    tally: Tally = field(default_factory=Tally)
    """What of it was copied, with `--smart-copy`."""


class SegmentWriter:
    """Packets into `<path>.part`, which gets its name when all of them are on the disk.

    Args:
        path: of the segment.
        target: what the user calls the film, for errors.
        extradata: the encoder's parameter sets; every segment of a film must have the same.
    """

    def __init__(self, path: Path, target: str, extradata: bytes) -> None:
        self.path, self.target = path, target
        self._part = path.with_name(path.name + ".part")
        self._ticks: list[int] = []
        self._checksum = 0
        self._size = 0
        self._facts = json.dumps({"extradata": hashlib.sha256(extradata).hexdigest()}).encode() + b"\n"
        with explained(target, "cannot be written"):
            self._file: BinaryIO = self._part.open("wb")
            self._put(_MAGIC + self._facts)

    def add(self, packet: Packet[Any], base: Fraction) -> None:
        """Take a packet of an encoder; `base` is the tick, in seconds, of the times to come.

        Raises:
            MediaError: the disk is full, the folder gone.
            ConfigError: a packet that carries more than its bytes.
        """
        self.put(Stored.of(packet, base))

    def put(self, stored: Stored) -> None:
        """Take a packet.

        Raises:
            MediaError: the disk is full, the folder gone.
        """
        self._ticks.append(stored.pts)
        with explained(self.target, "cannot be written"):
            head = _HEAD.pack(stored.pts, stored.duration, len(stored.data), stored.is_keyframe)
            self._put(head + stored.data)

    def finish(self, tally: Tally) -> Segment:
        """Make it last: on the disk, under its name. `tally`: what of it was copied.

        Raises:
            MediaError: the disk is full, the folder gone.
        """
        with explained(self.target, "cannot be written"):
            settle(self._file, self._part, self.path)
        ranks = {tick: rank for rank, tick in enumerate(sorted(self._ticks))}
        reorder = max((place - ranks[tick] for place, tick in enumerate(self._ticks)), default=0)
        return Segment(self.path, len(self._ticks), self._size, self._checksum, max(reorder, 0), tally)

    def abort(self) -> None:
        """Forget it."""
        with suppress(OSError):  # what waits to be written may have no room still
            self._file.close()
        self._part.unlink(missing_ok=True)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._checksum = zlib.crc32(data, self._checksum)
        self._size += len(data)


@dataclass(frozen=True, slots=True)
class Stored:
    """A packet by itself, times in ticks."""

    pts: int
    duration: int
    is_keyframe: bool
    data: bytes

    @classmethod
    def of(cls, packet: Packet[Any], base: Fraction) -> Stored:
        """A packet of an encoder; `base` is the tick, in seconds.

        Raises:
            ConfigError: it carries more than its bytes, or has a time between two ticks.
        """
        if any(side.data_type in _CARRIED for side in packet.iter_sidedata()):
            raise ConfigError(f"{_JOINING}: this codec and pixel format need more than packets; choose another pix_fmt or codec")
        scale = Fraction(packet.time_base) / base
        assert packet.pts is not None
        pts = packet.pts * scale
        if pts.denominator != 1:
            raise ConfigError(f"{_JOINING}: the encoder does not keep the source's times; choose another codec")
        return cls(int(pts), round((packet.duration or 0) * scale), packet.is_keyframe, bytes(packet))

    def packet(self, dts: int, base: Fraction, stream: Stream) -> Packet[Any]:
        """For the muxer."""
        packet: Packet[Any] = Packet(self.data)
        packet.stream, packet.time_base = stream, base
        packet.pts, packet.dts, packet.duration = self.pts, dts, self.duration
        packet.is_keyframe = self.is_keyframe
        return packet


def joined(segments: Iterable[Segment], reorder: int, extradata: bytes) -> Iterator[tuple[Stored, int]]:
    """All packets in order, each with its decoding time.

    Every segment's encoder began to count anew, so the decoding times are made here: the presentation times in order,
    `reorder` places later. Memory holds the times of one segment, and one packet.

    Args:
        segments: in order.
        reorder: the largest of theirs.
        extradata: the parameter sets that the final file carries.

    Raises:
        ResumeError: a segment is missing or damaged, or of another encoder.
    """
    late: deque[int] = deque()
    first = True
    for segment in segments:
        ticks = sorted(_ticks(segment, extradata))
        if first and ticks:
            step = max(1, ticks[1] - ticks[0]) if len(ticks) > 1 else 1
            late.extend(decoded_before(ticks[0], reorder, step))
            first = False
        for tick, stored in zip(ticks, _packets(segment, extradata), strict=True):
            late.append(tick)
            yield stored, late.popleft()


def check(segment: Segment) -> None:
    """Read it once through.

    Raises:
        ResumeError: it is not what was written.
    """
    checksum = 0
    try:
        with segment.path.open("rb") as file:
            while block := file.read(1 << 20):
                checksum = zlib.crc32(block, checksum)
    except OSError as error:
        raise _damaged(segment) from error
    if checksum != segment.checksum:
        raise _damaged(segment)


def _ticks(segment: Segment, extradata: bytes) -> Iterator[int]:
    with _opened(segment, extradata) as file:
        while head := file.read(_HEAD.size):
            pts, _, size, _ = _unpacked(segment, head)
            yield pts
            file.seek(size, os.SEEK_CUR)


def _packets(segment: Segment, extradata: bytes) -> Iterator[Stored]:
    with _opened(segment, extradata) as file:
        while head := file.read(_HEAD.size):
            pts, duration, size, key = _unpacked(segment, head)
            if size > segment.size:  # before memory is taken
                raise _damaged(segment)
            data = file.read(size)
            if len(data) != size:
                raise _damaged(segment)
            yield Stored(pts, duration, key, data)


def _opened(segment: Segment, extradata: bytes) -> BinaryIO:
    try:
        file = segment.path.open("rb")
    except OSError as error:
        raise _damaged(segment) from error
    try:
        if file.readline() != _MAGIC:
            raise _damaged(segment)
        try:
            written = json.loads(file.readline())["extradata"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(segment) from error
        if written != hashlib.sha256(extradata).hexdigest():
            raise ResumeError(segment.path.parent, "was written by another encoder; remove this folder and begin anew")
    except BaseException:
        file.close()
        raise
    return file


def _unpacked(segment: Segment, head: bytes) -> tuple[int, int, int, bool]:
    if len(head) != _HEAD.size:
        raise _damaged(segment)
    pts, duration, size, key = _HEAD.unpack(head)
    return pts, duration, size, key


def _damaged(segment: Segment) -> ResumeError:
    return ResumeError(segment.path, f"is missing or damaged; remove the folder {segment.path.parent.name} and begin anew")


def settle(file: IO[Any], part: Path, place: Path) -> None:
    """Close `file`, which wrote `part`, and call it `place`: what was written and its name outlive a power cut."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    os.replace(part, place)
    sync_folder(place.parent)


def sync_file(path: Path) -> None:
    """Make what was written to `path` outlive a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make new names in `folder` outlive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError:  # some network file systems do not either
        pass
    finally:
        os.close(handle)

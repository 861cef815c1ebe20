"""The part of the writer that makes videos: one encoded stream, everything else copied beside it."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Self

import av
import numpy as np
from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel
from av.container import OutputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoclr.errors import ConfigError, EncodeError, MediaError
from videoclr.media.beside import LABELLING, Beside, renamed
from videoclr.media.boxes import spherical, stereo_tag
from videoclr.media.captions import CAPTIONS_LOST, has_captions, keeps_captions
from videoclr.media.copies import chapters_between
from videoclr.media.crop import WHOLE, Crop
from videoclr.media.deliver import Kind
from videoclr.media.encoders import (
    RAW,
    Encoder,
    Wanted,
    check_fields,
    choose_format,
    configure,
    forgotten,
    small_params,
    untold,
    usable_rate,
    what_is_lost,
    without_alpha,
    written_colour,
)
from videoclr.media.faults import AV_ERRORS, is_memory_short, is_system_error, reason
from videoclr.media.filters import through
from videoclr.media.grid import Even, grid_rate, nearest_place, pauses, rounded_rate, too_close
from videoclr.media.groups import Group, Groups
from videoclr.media.hdr import hdr_params, keeps_dolby_vision, lost_hdr
from videoclr.media.hdr10plus import keeps_hdr10_plus, message_of, with_message
from videoclr.media.headers import Y4M
from videoclr.media.joint import Joint, cannot, check_trial
from videoclr.media.kept import REEL, Kept, added
from videoclr.media.layout import layout_of
from videoclr.media.matroska import Look, write_look
from videoclr.media.mxf import number
from videoclr.media.orientation import Orientation, carries, payload
from videoclr.media.picture import DISPLAYED, Picture, colour_in, reformatted, turned
from videoclr.media.probe import refusal
from videoclr.media.reader import Reader
from videoclr.media.segments import Segment, SegmentWriter, Stored, joined
from videoclr.media.source import PIPE
from videoclr.media.sphere import sphere_of
from videoclr.media.splice import DecodingTimes, LostPicture, Splice, Tally
from videoclr.media.target import CONTAINERS, MOV, OF_MXF, PLAIN, TRANSPORT, Nowhere, advice, holds, transports, written
from videoclr.media.y4m import Shaped

_log = logging.getLogger("videoclr.media.film")

_TURNING = {"mp4", "mov", "3gp", "ipod", "matroska", "webm"}
"""Muxers that write a display matrix."""
_NO_REORDER = {"avi", "flv", "mxf", "nut"}
"""Muxers whose times go wrong with B-frames: no presentation times, or no negative decoding times (NUT: beside a second stream)."""
_GRID = {"avi", "mxf"}
"""Muxers that store one picture per tick: the tick must be the frame rate's."""
_CLOCKED = ("mpegts", "mpeg", "hls")
"""Containers whose clock begins anywhere: that of the broadcast, or a second or two of what a decoder waits."""
_FILLED = {"mxf"}
"""Muxers that write pictures, and sound, one behind the other from the beginning on, whatever their times."""
_SKIPPED = 1 << 16
"""Ticks without a picture that FFmpeg's AVI muxer writes down at once, at most."""
_LATEST = 1 << 62
"""Ticks; FFmpeg counts them in 64 bits."""
_MILLISECONDS = {"matroska", "webm", "flv"}
"""Muxers that store times in milliseconds."""
_STEREO = {"matroska", "webm"}
"""Muxers that make an element of the tag `stereo_mode`."""
_RAW_ENDINGS = (".nut", ".mkv")
"""Endings that are advised for raw pictures."""
_TRIED = (64, 32)
"""Width, height of a picture that a container is tried with."""
_BIG = (1 << 31) - 1
_ENCODING = 90
"""Bytes for each pixel that an encoder holds, about: sixty pictures of 4:2:0."""
_UNDELAYED = 2
"""Pictures so few that none of them is reordered."""
_SHAPING = MOV | {"mxf", Y4M}
"""Muxers that write the sample aspect ratio of every codec but those of `_UNSHAPED`."""
_UNSHAPED = {("mxf", "dnxhd")}
"""Muxers and codecs that do not."""
_MATROSKA = {"matroska", "webm"}
CROPPING = MOV | _MATROSKA
"""Muxers of containers that can hide a part of the picture."""
_SHAPED_CODECS = {"h264", "hevc", "mpeg2video", "mpeg4", "mjpeg"}
"""Codecs that write it themselves."""
_LEFT = ("libx264", "libx265")
"""Encoders that say where chroma lies only where it is not to the left of luma: there it is when nothing is said."""
_BITEXACT = 0x0400
"""AVFMT_FLAG_BITEXACT."""
_NAMED = 10
"""Pauses that are named one by one."""
_HAIR = Fraction(1, 10)
"""Of a tick: what rounding may have added to a time."""
_COMBED = (
    " s on the pictures are interlaced, unlike the first: they are written as whole ones; use --deinterlace auto, or the codec ffv1"
)
"""Behind a time."""
_SMALLEST_SCALE = 10_000
"""movenc doubles a time scale until it is no smaller than this."""
_DROPPED_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
_OF_MXF = {
    "operational_pattern_ul", "uid", "generation_uid", "company_name", "product_name", "product_version_num", "product_version",
    "application_platform", "product_uid", "toolkit_version_num", "material_package_umid", "modification_date",
}  # fmt: skip
"""Tags that FFmpeg makes of how an MXF file is built and what wrote it: true of that file alone."""


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """A part of the film with an encoder of its own."""

    container: OutputContainer
    """The stream lives in it; it leads nowhere."""
    stream: VideoStream


@dataclass(frozen=True, slots=True)
class _Extent:
    """Over which times a film extends, seconds."""

    begin: Fraction
    end: Fraction
    """When the picture that is shown last is over."""
    first: Fraction
    last: Fraction
    """Decoding times."""

    @classmethod
    def of(cls, packet: Packet[Any]) -> Self:
        """That of one packet."""
        base = Fraction(packet.time_base)
        assert packet.pts is not None
        decoded = (packet.pts if packet.dts is None else packet.dts) * base
        return cls(packet.pts * base, (packet.pts + (packet.duration or 0)) * base, decoded, decoded)

    def with_packet(self, packet: Packet[Any]) -> Self:
        """With the next packet."""
        other = self.of(packet)
        return replace(self, begin=min(self.begin, other.begin), end=max(self.end, other.end), last=other.last)

    @property
    def rest(self) -> Fraction:
        """What is left of the film's length for the last packet, where all others last until the next one is decoded."""
        return self.end - self.begin - (self.last - self.first)


class Film:
    """A video file in the making.

    Args:
        path: the target as the user wrote it, for messages.
        place: where to write (the `.part` file), or `-`.
        muxer: see `target.CONTAINERS`.
        encoder, wanted: how to encode; None for defaults.
        like: the reader whose streams, tags and times are kept, or None.
        drop: what of the source to leave out; see `beside.dropped`.
        provenance: a sentence on what was done, kept as a tag; None for none.
        shift: seconds taken off every time; None takes the reader's start.
        deliver: what the pictures are made into; an `overlay` is refused a pixel format without alpha.
        joint: copy groups of pictures of `like` that did not change, joined like this; None encodes all.
        limit: bytes of packets in a group that is copied.
        crop: what the file is to hide of the pictures of `like`.
    """

    def __init__(
        self,
        path: str,
        place: str,
        muxer: str,
        encoder: Encoder,
        *,
        wanted: Wanted | None = None,
        like: Reader | None = None,
        drop: Collection[str] = (),
        provenance: str | None = None,
        shift: Fraction | None = None,
        deliver: Kind = "video",
        joint: Joint | None = None,
        limit: int = 0,
        crop: Crop = WHOLE,
    ) -> None:
        if encoder.name == "libvpx-vp9" and muxer not in _MATROSKA:
            encoder = replace(encoder, formats=without_alpha(encoder))
        self.path, self.place, self.muxer, self.encoder = path, place, muxer, encoder
        self.wanted = wanted or Wanted()
        self.like = like
        self.warnings: list[str] = []
        self._drop, self._provenance = drop, provenance
        self._shift, self._deliver, self._crop = shift, deliver, crop
        self._joint, self._limit = joint, limit
        self._splice: Splice | None = None
        self.tally = Tally()
        """What of the film was copied."""
        self._beside: Beside | None = None
        self._container: OutputContainer | None = None
        self._shaped: Shaped | None = None
        """What a y4m is written through that has a shape of its pixels to say."""
        self._kept: Kept | None = None
        self._started = False
        self._joined = False
        self._combed = self._captioned = False
        self._told_of: set[str] = set()
        """Pixel formats of pictures of which it was said what is lost."""
        self._segment: SegmentWriter | None = None
        self._stretch: _Stretch | None = None
        self._last: int | None = None
        self._even: Even | None = None
        self._packets_written = 0
        self._next = 0
        """The tick behind the last picture in the file."""
        self._before: Stored | None = None
        """What stands there; see `_fill`."""
        self._held: Packet[Any] | None = None
        self._extent: _Extent | None = None
        self._paused: list[Fraction] = []
        """Where pictures were repeated, seconds of the source."""
        self._repeated = 0
        self._messages: dict[int, bytes] = {}
        self._encoded = 0

    def open(self, picture: Picture, time: Fraction, base: Fraction, rate: Fraction | None) -> None:
        """Set up container, encoder and copied streams for pictures like `picture`; writes nothing yet.

        Args:
            picture: the first one to come.
            time: its presentation time, seconds.
            base: seconds per tick of the times to come.
            rate: frames a second, as information.

        Raises:
            ConfigError: the encoder refuses a setting.
            MediaError: the container cannot hold a stream.
        """
        self.abort()
        self._packets_written, self._next, self._before, self._paused, self._repeated = 0, 0, None, [], 0
        self._held = self._extent = None
        self._fields = self.like.info.fields if self.like is not None and picture.woven else ""
        check_fields(self.encoder, self._fields)
        self._turn = picture.orientation if self.muxer in _TURNING else Orientation()
        self._bake = picture.orientation if self._turn is not picture.orientation else Orientation()
        self._size = self._bake.shown_size(picture.frame.width, picture.frame.height)
        if self.muxer in _GRID:
            leaning = self.encoder.long_gop and self.muxer in _FILLED
            rate = grid_rate(self.like, rate, self.muxer, self.path, self._codec_name() if leaning else "")
        self.base = 1 / usable_rate(rate) if self.muxer in _GRID | PLAIN else base
        self._even = rounded_rate(self.like) if self.muxer in MOV else None
        if self._even is not None:
            self.base, rate = self._even.base, self._even.rate
        self.format = self._format_for(picture.frame.format, self._size)
        self._told_of.clear()
        if self._deliver == "overlay" and not any(part.is_alpha for part in VideoFormat(self.format).components):
            keeps = "prores (profile 4444) or ffv1, or pictures (out%04d.png, .exr)"
            raise ConfigError(f"$.media.deliver: {self.encoder.name} in {self.format} has no transparency; use {keeps}")
        self.colour = written_colour(self.encoder.name, picture.colour, self.format)
        self._tell_what_is_lost(picture)
        told = untold(self.encoder.name, self.muxer, picture.colour, self.colour)
        for text in [*([told] if told else []), *lost_hdr(picture.frame, self.encoder.name, self.format)]:
            if self._joint is not None and self.like is not None:
                raise cannot(self.like, f"what is encoded would differ from what is copied: {text}")
            self._warn(text)
        if self.encoder.name != "mjpeg" and carries(picture.frame, Type.ICC_PROFILE):
            self._warn("the colour profile (ICC) of the pictures is left out: their colours may be shown differently")
        if lost_tags := forgotten(self.encoder.name, self.muxer, picture.frame):
            self._warn(lost_tags)
        self._dolby = keeps_dolby_vision(picture.frame, self.encoder.name, self.format)
        self._dynamic = keeps_hdr10_plus(picture.frame, self.encoder.name, self.format)
        if self.encoder.needs and (why := refusal(self.encoder, self.format)):
            raise ConfigError(self._refused(why))
        self._beside = self._streams_beside()
        self._plan_times(time)
        if self.muxer == "avi":
            self._warn("avi stores no presentation times: all frames last equally long and may come one frame later")
        self._container = self._open_container()
        self._video = self._add_streams(self._container, picture, rate)
        self._open_encoder(self._video)
        self._like_this = (picture, rate)
        if self._joint is not None and self.like is not None:
            self._splice = self._splicing(self._joint, self.like, picture)
        self._look = self._look_of(picture)
        if self._beside is not None:
            self._copy_facts(self._beside, picture)
        if self.like is not None and self.like.label is not None and self.muxer in LABELLING:
            self._video.metadata["timecode"] = str(self.like.label_of_first(self.like.label))
        if self._provenance is not None:
            self._container.metadata.update(added(self._container.metadata, self._provenance))
        if self.place == PIPE and self.muxer.startswith("mxf"):
            self._warn("the UMIDs of an MXF file that goes through a pipe are those of every such file; write to a file")
        self._kept = Kept.of(self._container, self.muxer, self._video.index, picture.frame, self._look.crop)
        self._kept = replace(self._kept, siting=self._siting(picture))
        if self._beside is not None:
            self._kept = replace(self._kept, described=self._beside.described)

    def _format_for(self, source: VideoFormat, size: tuple[int, int]) -> str:
        return choose_format(self.encoder, source, size, self.wanted.pix_fmt, self.wanted.profile)

    def takes_alpha(self, picture: Picture) -> bool:
        """Whether a picture of that size keeps its transparency."""
        written = VideoFormat(self._format_for(VideoFormat(DISPLAYED), picture.size))
        return any(part.is_alpha for part in written.components)

    def _refused(self, why: str) -> str:
        """What is wrong with a hardware encoder: the pixel format that its device has no room for, or the device."""
        name, shallow = self.encoder.name, "nv12"
        if self.format != shallow and refusal(self.encoder, shallow) is None:
            advice = f"use pix_fmt={shallow} (eight bits), or another codec"
            return f"$.media.pix_fmt: the device of {name} does not encode {self.format} ({why}); {advice}"
        return f"$.media.codec: {name} does not work here ({why}); it needs {self.encoder.needs}"

    def write(self, picture: Picture, frame: VideoFrame, time: Fraction, *, unchanged: bool = False) -> None:
        """Encode `frame` (of `picture`, patches applied) at `time` and mux what is due beside it.

        With a `joint`, `unchanged` pictures, which are what packets of the source hold, may be copied instead.
        """
        if self._splice is not None:
            with self._faults(time):
                if self._splice.take(time, unchanged=unchanged):
                    return
        self._write(picture, frame, time)

    def _write(self, picture: Picture, frame: VideoFrame, time: Fraction) -> None:
        if (frame.width, frame.height) != (picture.frame.width, picture.frame.height):
            raise EncodeError(self.path, "a picture changed its size while it was restored", time)
        if not self._bake.upright:
            frame = turned(frame, colour_in(picture, frame), self._bake)
        if (frame.width, frame.height) != self._size:
            change = f"{frame.width}x{frame.height}, the video {self._size[0]}x{self._size[1]}"
            raise EncodeError(self.path, f"the picture is {change}; all must be equal", time)
        self._tell_what_is_lost(picture)
        self._tell_fields(picture, time)
        self._tell_captions(picture)
        colour = colour_in(picture, frame)
        if self._dolby and payload(frame, Type.DOVI_METADATA) is None:
            without = "has no Dolby Vision metadata, unlike the first"
            raise EncodeError(self.path, f"a picture {without}; choose another codec, which leaves it out everywhere", time)
        out = reformatted(frame, colour, self.format, self.colour)
        self._stamp(out, time)
        if self._dynamic:
            self._remember(picture.frame)
        self._encode(out, time)

    def _tell_fields(self, picture: Picture, time: Fraction) -> None:
        """Say it once where a film that began with whole pictures becomes interlaced, and the encoder was told nothing of it."""
        if not picture.woven or self._fields or self._combed or self.like is None or self.encoder.name == "ffv1":
            return
        self._combed = True
        self._warn(f"from {float(time):.3f}{_COMBED}")

    def _tell_captions(self, picture: Picture) -> None:
        """Say it once where a picture has closed captions that the encoder leaves out."""
        if not self._captioned and not keeps_captions(self.encoder.name) and has_captions(picture.frame):
            self._captioned = True
            self._warn(CAPTIONS_LOST)

    def _remember(self, frame: VideoFrame) -> None:
        """Keep the HDR10+ message of the picture stamped last until its packet comes."""
        assert self._last is not None
        message = message_of(frame)
        if message is not None:
            self._messages[self._last] = message
        else:
            self._warn("some pictures have no HDR10+ metadata, unlike the first")

    def recall(self, warnings: Iterable[str]) -> None:
        """See `Writer.recall`."""
        self.warnings.extend(text for text in warnings if text not in self.warnings)
        self._combed = self._combed or any(text.endswith(_COMBED) for text in self.warnings)  # it names a time of its own

    def begin_segment(self, path: Path) -> None:
        """What is written from now on goes into a segment at `path`, encoded for itself; nothing of it into the file."""
        if self.muxer in PLAIN:
            raise MediaError(self.path, f"{self.muxer} has no times, so a run cannot go on in the middle; choose another container")
        if self._splice is None:
            self._stretch = self._fresh()
        self.tally = Tally()
        self._segment = SegmentWriter(path, self.path, self._parameters)

    def end_segment(self) -> Segment:
        """Finish the segment: encoded, on the disk, under its name."""
        assert self._segment is not None
        self._end()
        segment, self._segment = self._segment, None
        return segment.finish(self.tally)

    def join(self, segments: Iterable[Segment], reorder: int) -> None:
        """Put finished segments into the file, one after the other, with what is copied beside them.

        Args:
            segments: in order.
            reorder: the largest of theirs.

        Raises:
            ResumeError: a segment is damaged.
            MediaError: the disk is full.
        """
        assert self._container is not None and self._segment is None
        self._joined = True
        try:
            self._start()
            for stored, dts in joined(segments, reorder, self._parameters):
                self._mux(stored.packet(dts, self.base, self._video))
        except AV_ERRORS as error:
            raise MediaError(self.path, f"cannot be written: {reason(error)}") from error

    @property
    def _parameters(self) -> bytes:
        return bytes(self._video.codec_context.extradata or b"")

    def finish(self) -> None:
        """Flush the encoder, copy what is left, close the file."""
        if self._container is None:
            return
        if not self._joined:
            self._end()
        try:
            self._end_last()
            self._mux_copies(None)
            self._fill_up()
            container, self._container = self._container, None
            container.close()
            self._close_shaped()
            self._write_look()
        except AV_ERRORS as error:
            raise MediaError(self.path, f"cannot be finished: {reason(error)}") from error
        finally:
            self._close_copies()

    def _fill_up(self) -> None:
        """All streams as long as the picture, where the container ends with the shortest; and say what was repeated."""
        if self.muxer not in _FILLED or self._container is None:
            return
        if self._beside is not None:
            self._beside.fill(self._container, self._next * self.base)
        if self._repeated:
            times = ", ".join(f"{float(time):.3f} s" for time in self._paused)
            count = "1 picture is" if self._repeated == 1 else f"{self._repeated} pictures are"
            self._warn(f"{count} repeated where the film has none, which {self.muxer} has no room for: from {times} on")

    def mend(self) -> None:
        """Put into the finished file what its muxer left out, and warn of what it cannot keep.

        Raises:
            MediaError: it cannot be read again, or the disk is full.
        """
        if self._kept is not None:
            for text in self._kept.mend(self.place, self.path, self._packets_written):
                self._warn(text)
        if self.muxer.startswith("mxf"):
            try:
                number(self.place)
            except AV_ERRORS as error:
                raise MediaError(self.path, f"its UMIDs cannot be written: {reason(error)}") from error

    def abort(self) -> None:
        """Close whatever is open; what was written is worth nothing."""
        container, self._container = self._container, None
        segment, self._segment = self._segment, None
        stretch, self._stretch = self._stretch, None
        self._close_copies()
        if segment is not None:
            segment.abort()
        if stretch is not None:
            stretch.container.close()
        if container is not None:
            try:
                container.close()
            except AV_ERRORS as error:
                _log.debug("%s: closing an abandoned file: %s", self.path, reason(error))
        self._close_shaped()

    def _close_shaped(self) -> None:
        shaped, self._shaped = self._shaped, None
        if shaped is not None:
            shaped.close()

    # -- times ------------------------------------------------------------------------------------------------

    def _plan_times(self, first: Fraction) -> None:
        """How far all times move: the reader's start becomes 0; nothing lies before 0 where that cannot be stored."""
        shift = self._shifted(first)
        if self._even is not None:
            first, shift = self._even.exact(first), self._even.exact(shift)
        self.offset = -(shift // self.base) * self.base
        if self.muxer in _GRID:
            self.offset = -shift
            if self._shift is None and self.like is not None and self.like.start is not None:
                # A cut-out begins with its first picture, unless whole ones are missing before that.
                self.offset = max(0, math.floor((first - shift) / self.base - _HAIR)) * self.base - first
        earliest = first + self.offset
        if self._beside is not None and (self.like is None or self.like.start is None):
            first_beside = self._beside.earliest()
            earliest = earliest if first_beside is None else min(earliest, first_beside + self.offset)
        if earliest < 0:
            # Where times are stored in milliseconds, a shift by whole ones leaves the distances between them as they were.
            step = _common(self.base, Fraction(1, 1000)) if self.muxer in _MILLISECONDS else self.base
            moved = -(earliest // step) * step
            self.offset += moved
            self._warn(f"all times are {float(moved):.6g} s later: {self.muxer} keeps none before zero here")
        self._first = first
        self._late = (first + self.offset) / self.base
        self._check_pause(0, self._late, first)

    def _check_pause(self, last: int, ticks: Fraction | int, time: Fraction) -> None:
        """Refuse what AVI has no room for: to its muxer it is an invalid argument."""
        if self.muxer == "avi" and ticks - last > _SKIPPED:
            pause = f"there is no picture for {float((ticks - last) * self.base):.3f} s, and avi holds {_SKIPPED} frames of that"
            raise EncodeError(self.path, f"{pause}; use .mkv or .mov, or cut the film there (--start, --end)", time)

    def _shifted(self, first: Fraction) -> Fraction:
        """What is taken off every time, as far as the container can count it; `first` is the first picture's."""
        if self._shift is not None:
            return self._shift
        if self.like is None:
            return Fraction(0)
        if self.like.start is not None:
            return self.like.start
        name = self.like.container.format.name
        distant = self.muxer == "avi" and first / self.base > _SKIPPED
        if self.muxer in TRANSPORT | PLAIN or not (distant or name in _CLOCKED):
            return Fraction(0)
        sounds = [one for one in self._beside.timed if one.type == "audio"] if self._beside is not None else []
        starts = (one.start_time * Fraction(one.time_base or 1) for one in sounds if one.start_time is not None)
        begin = min([first, *starts])
        if distant and name not in _CLOCKED:
            begin = begin if begin / self.base > _SKIPPED else Fraction(0)
            if begin:
                self._warn(f"the film begins at {float(begin):.3f} s, later than avi can say: times count from there")
        elif begin:
            _log.info("%s: the clock of the source (%s) begins at %.3f s; times count from there", self.path, name, float(begin))
        return begin

    def _exact(self, time: Fraction) -> Fraction:
        """When the picture at `time` (seconds of the source) is due, in ticks."""
        if self.muxer in _GRID:  # from the first picture on: steps of a frame stay what they are, wherever that lies
            return self._late + (time - self._first) / self.base
        return ((time if self._even is None else self._even.exact(time)) + self.offset) / self.base

    def _tick_of(self, time: Fraction) -> int:
        if self.muxer in _GRID:
            return nearest_place(self._late) + nearest_place((time - self._first) / self.base)
        ticks = round(self._exact(time))
        # Two pictures within a tick of one place on the grid: the second one stays where it was.
        return ticks if self._last is None or ticks > self._last else round((time + self.offset) / self.base)

    def _stamp(self, frame: VideoFrame, time: Fraction) -> None:
        """Give `frame` its time in ticks; x264 must not see the source's picture types, it would repeat them."""
        exact, ticks = self._exact(time), self._tick_of(time)
        if self.muxer in PLAIN:
            ticks = 0 if self._last is None else self._last + 1
            if abs(exact - ticks - self._late) > Fraction(1, 2):
                self._warn(f"{self.muxer} stores no presentation times: all frames last equally long")
        elif exact != ticks:
            self._warn(f"times are rounded to 1/{self.base.denominator / self.base.numerator:g} s")
        if self._last is not None:
            self._check_pause(self._last, ticks, time)
        if self._last is not None and ticks <= self._last:
            if self.muxer in _GRID and ticks == self._last:
                raise too_close(self.path, self.muxer, 1 / self.base, time)
            raise EncodeError(self.path, "its time is not after the frame before", time)
        if abs(ticks) > _LATEST:
            raise EncodeError(self.path, "no file can count so far; times are seconds, not milliseconds or nanoseconds", time)
        length = frame.duration * Fraction(frame.time_base) if frame.duration and frame.time_base else Fraction(0)
        if self._even is not None:
            length = self._even.lasts(length)
        frame.time_base = self.base
        frame.pts, frame.dts, frame.duration = ticks, None, round(length / self.base)
        frame.pict_type = 0
        self._last = ticks

    def _check_grid(self, packet: Packet[Any]) -> None:
        grid = Fraction(self._video.time_base or self.base)
        if packet.pts is not None and (packet.pts * self.base) % grid:
            self._warn(f"{self.muxer} rounds times to {float(grid):.6g} s; mp4, mov and nut keep them exact")

    # -- setting up -------------------------------------------------------------------------------------------

    def _open_container(self) -> OutputContainer:
        options: dict[str, str] = {}
        if self.muxer in MOV:
            options["movie_timescale"] = str(self._movie_scale())
            if self._dolby:
                options["strict"] = "unofficial"  # what movenc asks for before it writes the box that names the profile
        elif self.muxer == Y4M:
            options["strict"] = "-1"  # or it refuses more than 8 bits
        elif self.muxer not in ("flv", *_GRID):
            # Left alone, NUT and MPEG-TS would move everything so that B-frames' decoding times are not negative.
            options["avoid_negative_ts"] = "disabled" if self.muxer != "matroska" else "auto"
        name = "pipe:1" if self.place == PIPE else f"file:{self.place}"
        if self.place == PIPE and self.muxer in MOV:
            raise MediaError(self.path, f"{self.muxer} cannot be written to a pipe; use the container nut or matroska")
        try:
            if self.muxer == Y4M and (aspect := self._aspect()) != 1:
                self._shaped = Shaped(self.place, aspect)
            container = written(self._shaped or name, self.muxer, options)
        except AV_ERRORS as error:
            raise MediaError(self.path, f"cannot be written: {reason(error)}") from error
        # Without this, Matroska draws random ids, and equal runs give unequal files.
        container.flags |= _BITEXACT
        return container

    def _movie_scale(self) -> int:
        """Ticks a second in which edit lists count: with the default 1000 a late first frame is rounded to 1 ms."""
        scale = self.base.denominator
        while scale < _SMALLEST_SCALE:
            scale *= 2
        for stream in self._beside.timed if self._beside is not None else ():
            common = math.lcm(scale, Fraction(stream.time_base or 1).denominator)
            scale = common if common <= _BIG else scale
        return min(scale, _BIG)

    def _add_streams(self, container: OutputContainer, picture: Picture, rate: Fraction | None) -> VideoStream:
        """All streams, in the order of the source's; returns the restored video."""
        if self._beside is None:
            return self._add_video(container, picture, rate)
        return self._beside.add(container, lambda: self._add_video(container, picture, rate))

    def _add_video(self, container: OutputContainer, picture: Picture, rate: Fraction | None) -> VideoStream:
        options = self.encoder.settings(self.wanted)
        if params := [*hdr_params(picture.frame, self.encoder.name, self.format), *small_params(self.encoder.name, self._size)]:
            name = self.encoder.params_option
            options[name] = ":".join([*filter(None, [options.get(name)]), *params])
        if self._dolby:
            options["dolbyvision"] = "1"
        if (siting := self._siting(picture)) and not (siting == "left" and self.encoder.name in _LEFT):
            options.setdefault("chroma_sample_location", siting)
        if self._fields and self.encoder.name == "libx264":
            order = "tff=1" if self._fields == "top" else "bff=1"
            options["x264-params"] = ":".join([*filter(None, [options.get("x264-params")]), order])
        if self.encoder.name == "ffv1" and any(side % 2 for side in self._size) and "slices" not in self.wanted.options:
            options.pop("slices")  # FFmpeg refuses many numbers of slices for odd sizes, and finds one by itself
        if profile := self.encoder.profile_of(self.format, self.wanted.profile):
            options.setdefault("profile", profile)

        def add(target: OutputContainer) -> VideoStream:
            facts: dict[str, Any] = {"width": self._size[0], "height": self._size[1], "time_base": self.base}
            if self.encoder.device is not None:
                facts["hwaccel"] = HWAccel(self.encoder.device)
            stream = target.add_stream(self.encoder.name, usable_rate(rate), dict(options), **facts)
            assert isinstance(stream, VideoStream)
            stream.pix_fmt = self.format
            return stream

        def not_held() -> MediaError:
            codecs = "the codec prores, dnxhr, h264 or ffv1" if self.muxer == "mxf" else "choose another codec"
            ways = [*filter(None, [advice(lambda muxer: holds(muxer, add), self.muxer)]), codecs]
            return MediaError(self.path, f"{self.muxer} does not hold {video} video; {', or '.join(ways)}")

        video = self._codec_name()
        if self.encoder.name == RAW and self.muxer not in PLAIN and not _gives_back_raw(self.muxer, self.format):
            fitting = [ending for ending in _RAW_ENDINGS if _gives_back_raw(CONTAINERS[ending], self.format)]
            way = f"use {' or '.join(fitting)}, or choose another codec" if fitting else "choose another codec"
            raise MediaError(self.path, f"raw pictures in {self.format} are not read again out of {self.muxer}; {way}")
        known = transports(self.muxer, video) if self.muxer in TRANSPORT else self.muxer != "mxf" or video in OF_MXF
        if not known:
            raise not_held()
        try:
            stream = add(container)
        except AV_ERRORS as error:
            raise not_held() from error
        context = stream.codec_context
        context.sample_aspect_ratio = self._aspect()
        configure(context, self.encoder, self.wanted, picture.colour, self.colour, picture.frame, self._fields)
        codec = context.codec.canonical_name
        if self.muxer in _NO_REORDER and codec in ("h264", "hevc"):
            context.max_b_frames = 0
        if codec == "hevc" and self.muxer in MOV:
            context.codec_tag = "hvc1"
        if self._turn.matrix is not None:
            stream.set_display_matrix(self._turn.matrix)
        return stream

    def _siting(self, picture: Picture) -> str:
        """Where chroma lies beside luma, in pictures that keep the source's 4:2:0 and are not turned."""
        if self.like is None or self._deliver in ("overlay", "matte") or not self._bake.upright:
            return ""
        halved = [layout_of(name) for name in (picture.frame.format.name, self.format)]
        return (
            self.like.siting if all(one is not None and one.kind == "yuv" and one.subsampling == (1, 1) for one in halved) else ""
        )

    def _aspect(self) -> Fraction:
        if self.like is None:
            return Fraction(1)
        shown = self.like.info.sample_aspect
        return 1 / shown if self._turn.transpose else shown

    def _look_of(self, picture: Picture) -> Look:
        """How pictures like `picture` are to be looked at."""
        sphere, crop = sphere_of(picture.frame), self._crop
        if self.like is not None and crop:
            crop = crop.scaled(self.like.first_picture.frame, picture.frame)
        return Look(self._aspect(), crop, sphere)

    def _write_look(self) -> None:
        """See that it stands in the finished file, or say what of it stands nowhere."""
        look, codec = self._look, self._video.codec_context.codec.canonical_name
        lost = look
        if self.muxer in MOV:  # `mend` writes it
            lost = Look(sphere=look.sphere if look.sphere is not None and not spherical(look.sphere) else None)
        elif self.muxer in _MATROSKA and self.place != PIPE:
            lost = write_look(Path(self.place), look)
        shaping = self.muxer in _SHAPING and (self.muxer, codec) not in _UNSHAPED
        if lost.aspect != 1 and not shaping and codec not in _SHAPED_CODECS:
            text = f"the sample aspect ratio {lost.aspect} is lost"
            self._warn(f"{text}: {self.muxer} keeps none of {codec} here; mp4, mov and mkv do")
        if lost.crop:
            self._warn(f"the crop of the picture found no room in this {self.muxer} file: what was hidden shows")
        if lost.sphere is not None:
            self._warn(f"the tags of a spherical video are not written to {self.muxer} here; mp4, mov and mkv files keep them")

    def _open_encoder(self, stream: VideoStream) -> None:
        wanted, name = self.wanted, self.encoder.name
        try:
            stream.codec_context.open(strict=False)
        except AV_ERRORS as error:
            self._tell_shortage(error, None)
            said = {field: getattr(wanted, field) for field in ("crf", "bit_rate", "preset", "profile", "level", "gop")}
            said |= {"pix_fmt": self.format} | dict(wanted.options)
            words = " ".join(f"{key}={value}" for key, value in said.items() if value is not None)
            size = f"{self._size[0]}x{self._size[1]}"
            why = f"{name} refuses {words} at {size} ({reason(error)})"
            raise ConfigError(f"$.media: {why}; change one of them, or choose another codec") from error
        # FFmpeg passes over options that it does not know, and leaves them behind.
        if unknown := [option for option in wanted.options if option in stream.codec_context.options]:
            raise ConfigError(f"$.media.options: {name} knows no option {unknown[0]!r}; see `ffmpeg -h encoder={name}`")

    def _copy_facts(self, beside: Beside, picture: Picture) -> None:
        """Titles, chapters, languages and the like."""
        assert self._container is not None and self.like is not None
        source = beside.copies.container
        built = _OF_MXF if source.format.name.startswith("mxf") else set()
        kept = {key: value for key, value in source.metadata.items() if key.lower() not in _DROPPED_TAGS | built}
        self._container.metadata.update(beside.labelled(kept))
        tags = source.streams[self.like.stream_index].metadata.items()
        skipped = (*_DROPPED_TAGS, "number_of_", "_statistics", "bps", "duration", "alpha_mode")
        own = {key: value for key, value in tags if not key.lower().startswith(skipped)}
        self._video.metadata.update(beside.labelled(renamed(own, self.muxer)))
        if self.muxer.startswith("mxf"):
            # Of a reel its muxer is told by the file's tag, of which other containers make one of a stream.
            said = [*self._video.metadata.items(), *self._container.metadata.items()]
            self._container.metadata.update([(REEL, value) for key, value in said if key.lower() == REEL][:1])
        if (mode := stereo_tag(picture.frame)) and self.muxer in _STEREO:
            self._video.metadata["stereo_mode"] = mode
        if chapters := chapters_between(source.chapters(), -self.offset, self.like.end):
            self._container.set_chapters(chapters)

    # -- running ----------------------------------------------------------------------------------------------

    def _encode(self, frame: VideoFrame | None, time: Fraction | None) -> None:
        with self._faults(time):
            if self._splice is not None:
                self._encode_stretch(frame)
            elif self._segment is not None and self._stretch is not None:
                for packet in self._packets(self._stretch.stream, frame):
                    self._segment.add(packet, self.base)
            else:
                self._start()
                for packet in self._packets(self._video, frame):
                    self._mux(packet)

    @contextmanager
    def _faults(self, time: Fraction | None) -> Iterator[None]:
        """Say what went wrong with the picture at `time` in the user's words."""
        try:
            yield
        except LostPicture as error:
            raise EncodeError(self.path, f"{error}; leave --smart-copy out", error.time) from error
        except AV_ERRORS as error:
            if is_system_error(error):
                raise MediaError(self.path, f"cannot be written: {reason(error)}") from error
            self._tell_shortage(error, time)
            raise EncodeError(self.path, f"{self.encoder.name} failed: {reason(error)}", time) from error

    def _tell_shortage(self, error: Exception, time: Fraction | None) -> None:
        """Raise what is to be done where memory did not suffice, which encoders call anything."""
        width, height = self._size
        if is_memory_short(error, width * height * _ENCODING):
            said = f"too little memory to encode {width}x{height} with {self.encoder.name}; end other programs and start again"
            raise EncodeError(self.path, said, time) from error

    def _end(self) -> None:
        """All pictures of the film, or the segment, have come."""
        if self._splice is not None:
            with self._faults(None):
                self._splice.pause()
                self._end_stretch()
            return
        self._encode(None, None)
        stretch, self._stretch = self._stretch, None
        if stretch is not None:
            stretch.container.close()

    def _fresh(self, place: BinaryIO | None = None) -> _Stretch:
        """An encoder that knows nothing yet; its stream's container leads nowhere, or to `place`."""
        container = written(place or Nowhere(), self.muxer)
        stream = self._add_video(container, *self._like_this)
        self._open_encoder(stream)
        self._encoded = 0
        return _Stretch(container, stream)

    def _packets(self, stream: VideoStream, frame: VideoFrame | None) -> list[Packet[Any]]:
        packets: list[Packet[Any]] = list(stream.encode(frame))
        self._encoded += frame is not None
        if frame is None and self._encoded <= _UNDELAYED:
            for packet in packets:
                packet.dts = packet.pts  # x265 leaves it unset when all is over before its reordering begins
        return [self._told(packet) for packet in packets] if self._messages else packets

    def _told(self, packet: Packet[Any]) -> Packet[Any]:
        """The packet with the HDR10+ message of its picture."""
        assert packet.pts is not None
        message = self._messages.pop(round(packet.pts * packet.time_base / self.base), None)
        if message is None:
            return packet
        told: Packet[Any] = Packet(with_message(bytes(packet), message, self.encoder.name))
        told.stream, told.time_base = packet.stream, packet.time_base
        told.pts, told.dts, told.duration, told.is_keyframe = packet.pts, packet.dts, packet.duration, packet.is_keyframe
        return told

    def _start(self) -> None:
        assert self._container is not None
        if not self._started:
            self._container.start_encoding()
            self._started = True

    def _mux(self, packet: Packet[Any]) -> None:
        if self.muxer in _FILLED:
            self._fill(packet)
        self._mux_one(packet)

    def _codec_name(self) -> str:
        return Codec(self.encoder.name, "w").canonical_name

    def _fill(self, packet: Packet[Any]) -> None:
        """Repeat the picture before `packet`, or this one at the beginning, for ticks that none came for."""
        assert packet.pts is not None
        here = Stored(packet.pts, packet.duration or 1, packet.is_keyframe, bytes(packet))
        shown = self._before or here
        if packet.pts > self._next:
            time = self._next * self.base - self.offset
            if not shown.is_keyframe:
                raise pauses(self.path, self.muxer, self._codec_name(), time)
            if len(self._paused) < _NAMED:
                self._paused.append(time)
        for tick in range(self._next, packet.pts):
            self._mux_one(replace(shown, pts=tick, duration=1).packet(tick, self.base, self._video))
            self._repeated += 1
        self._before, self._next = here, packet.pts + 1

    def _mux_one(self, packet: Packet[Any]) -> None:
        assert self._container is not None
        self._let_go()
        self._check_grid(packet)
        order = packet.dts if packet.dts is not None else packet.pts
        self._mux_copies(None if order is None else order * self.base)
        self._packets_written += 1
        if self.muxer in MOV:
            self._extent = _Extent.of(packet) if self._extent is None else self._extent.with_packet(packet)
            self._held = packet
        else:
            self._container.mux_one(packet)

    def _let_go(self) -> None:
        """Mux the packet that waits to be known as the last one, or not."""
        held, self._held = self._held, None
        if held is not None and self._container is not None:
            self._container.mux_one(held)

    def _end_last(self) -> None:
        """Mux the last packet, as long as the film lasts from there on: that ends an MP4, whichever picture is shown last."""
        if self._held is not None and self._extent is not None:
            rest = self._extent.rest / Fraction(self._held.time_base)
            self._held.duration = max(self._held.duration or 0, round(rest))
        self._let_go()

    def _mux_copies(self, until: Fraction | None) -> None:
        assert self._container is not None
        if self._beside is not None:
            self._beside.mux(self._container, until, self.offset)

    # -- copying what did not change ----------------------------------------------------------------------------

    def _splicing(self, joint: Joint, like: Reader, picture: Picture) -> Splice:
        """Set up the copying of groups, once it is proven that they and ours go together.

        Raises:
            MediaError: they do not.
        """
        if not self._bake.upright:
            raise cannot(like, f"{self.muxer} cannot say how the picture is turned; use .mp4, .mov or .mkv")
        if self.muxer == "nut" and joint.reorder and self._beside is not None and self._beside.timed:
            raise MediaError(like.path, "smart copy: nut does not hold its B-frames beside other streams; use .mkv, .mov or .mp4")
        memory = io.BytesIO()
        trial = self._fresh(memory)
        frame = through(reformatted(picture.frame, picture.colour, self.format, self.colour))
        frame.pts, frame.dts, frame.time_base, frame.pict_type = 0, None, self.base, 0
        try:
            header = joint.header(self._parameters)
            for one in (trial.stream, self._video):
                one.codec_context.extradata = header or one.codec_context.extradata
            for packet in self._packets(trial.stream, frame) + self._packets(trial.stream, None):
                stored = Stored.of(packet, self.base)
                data = joint.encoded(stored.data, stored.is_keyframe)
                trial.container.mux_one(replace(stored, data=data).packet(0, self.base, trial.stream))
            trial.container.close()
        except (ValueError, *AV_ERRORS) as error:
            raise cannot(like, str(error) if isinstance(error, ValueError) else reason(error)) from error
        check_trial(like, memory.getvalue())
        step = max(1, round(1 / (usable_rate(like.info.frame_rate) * self.base)))
        self._decoding = DecodingTimes(joint.reorder, self._tick_of(like.first_time), step)
        return Splice(Groups(like, joint, self._limit), joint, self._again, self._copy)

    def _again(self, frame: VideoFrame, time: Fraction) -> None:
        """Encode a picture that was decoded a second time."""
        assert self.like is not None
        self._write(self.like.picture(frame), frame, time)

    def _copy(self, group: Group) -> None:
        """Write a group of the source."""
        assert self._joint is not None
        self._end_stretch()
        for place, packet in enumerate(group.packets):
            base = Fraction(packet.time_base)
            assert packet.pts is not None
            ticks = self._tick_of(packet.pts * base)
            data = self._joint.copied(bytes(packet), enters=not place, anew=not place and group.anew)
            length = (packet.duration or 0) * base
            if self._even is not None:
                length = self._even.lasts(length)
            self._put(Stored(ticks, round(length / self.base), packet.is_keyframe, data))
        self.tally.copied += len(group.packets)
        self.tally.groups += 1

    def _encode_stretch(self, frame: VideoFrame | None) -> None:
        if self._stretch is None:
            self._stretch = self._fresh()
            self.tally.stretches += 1
        assert self._joint is not None
        self.tally.encoded += frame is not None
        for packet in self._packets(self._stretch.stream, frame):
            stored = Stored.of(packet, self.base)
            self._put(replace(stored, data=self._joint.encoded(stored.data, stored.is_keyframe)))

    def _end_stretch(self) -> None:
        """End the encoder's stretch, if there is one."""
        if self._stretch is None:
            return
        self._encode_stretch(None)
        stretch, self._stretch = self._stretch, None
        stretch.container.close()

    def _put(self, stored: Stored) -> None:
        """Into the segment, or into the file at its decoding time."""
        if self._segment is not None:
            self._segment.put(stored)
            return
        self._start()
        try:
            dts = self._decoding.next(stored.pts)
        except ValueError as error:
            raise EncodeError(self.path, f"{error}; leave --smart-copy out", stored.pts * self.base) from error
        self._mux(stored.packet(dts, self.base, self._video))

    def _streams_beside(self) -> Beside | None:
        if self.like is None or self.like.sequence:
            return None
        return Beside(self.path, self.muxer, self.like, self.like.copies(), self._drop)

    def _close_copies(self) -> None:
        splice, self._splice = self._splice, None
        if splice is not None:
            splice.close()
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.close()
            self.warnings += [text for text in beside.warnings if text not in self.warnings]

    def _tell_what_is_lost(self, picture: Picture) -> None:
        """Say it of the first picture of each pixel format: numbered pictures may be of several."""
        source = picture.frame.format
        if source.name in self._told_of:
            return
        self._told_of.add(source.name)
        lost = what_is_lost(source, self.format)
        if self._deliver in ("overlay", "matte") and self.like is not None:  # made here, deeper than what they are made of
            source = self.like.first_picture.frame.format
            kinds = ("bit depth", "colour resolution", "colour") if self._deliver == "overlay" else ("bit depth",)
            lost = [kind for kind in what_is_lost(source, self.format) if kind in kinds]
        if lost:
            self._warn(f"{source.name} is written as {self.format}: less {', '.join(lost)}")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            _log.warning("%s: %s", self.path, text)


def _gives_back_raw(muxer: str, pixel_format: str) -> bool:
    """True where raw pictures in `muxer` are read again as they were: containers have names for few formats. Tried out."""
    layout = layout_of(pixel_format)
    if layout is None:
        return False
    frame = VideoFrame(*_TRIED, pixel_format)
    for component in range(len(layout.places)):
        view = layout.view(frame, component)
        values = (np.arange(view.size).reshape(view.shape) * 29 + 7 * component) & ((1 << layout.depth) - 1)
        view[:] = values.astype(view.dtype) << layout.shift
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    memory = io.BytesIO()
    try:
        with written(memory, muxer) as out:
            stream = out.add_stream(RAW, 25, width=frame.width, height=frame.height)
            assert isinstance(stream, VideoStream)
            stream.pix_fmt = pixel_format
            out.mux([*stream.encode(frame), *stream.encode(None)])
        with av.open(io.BytesIO(memory.getvalue()), "r", format=muxer) as container:
            back = next(container.decode(video=0))
    except (*AV_ERRORS, StopIteration, ValueError, IndexError):
        return False
    other = layout_of(back.format.name)
    if other is None or (other.kind, other.depth, len(other.places)) != (layout.kind, layout.depth, len(layout.places)):
        return False
    alphas = [any(part.is_alpha for part in one.format.components) for one in (frame, back)]
    same = (
        np.array_equal(layout.view(frame, place) >> layout.shift, other.view(back, place) >> other.shift)
        for place in range(len(layout.places))
    )
    return alphas[0] == alphas[1] and all(same)


def _common(one: Fraction, other: Fraction) -> Fraction:
    """The least time that is a whole number of both ticks."""
    whole = math.lcm(one.numerator * other.denominator, other.numerator * one.denominator)
    return Fraction(whole, one.denominator * other.denominator)

"""What stands beside the restored video: every other stream of the source.

Each stream is copied packet for packet. Where the container cannot hold it, SubRip and mov_text become one another, a
timecode track becomes the tag from which the muxer makes a new one, a cover picture becomes an attachment or the other
way round; anything else is refused before the first frame costs time, with the ways out: another container, or
leaving it out.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn, Self

from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Disposition, Stream
from av.video.stream import VideoStream

from videoclr.errors import ConfigError, MediaError
from videoclr.media.beginning import Beginning, skipped_in
from videoclr.media.boxes import Described, described_in
from videoclr.media.copies import Copies
from videoclr.media.delay import can_be_delayed, delayed
from videoclr.media.faults import AV_ERRORS, is_system_error, reason
from videoclr.media.filelist import is_list, names_in
from videoclr.media.lasting import LASTING, Lasting
from videoclr.media.reader import Reader
from videoclr.media.silence import END_TO_END, SAMPLED, Samples, cut_off, is_samples
from videoclr.media.source import open_input, still_covers
from videoclr.media.subtitles import Rewrapping, counterpart
from videoclr.media.target import MOV, VIDEO_FIRST, advice, codec_of, gives_back, has_place, holds, named, nameless
from videoclr.media.timecode import Timecode

_log = logging.getLogger("videoclr.media.beside")

KINDS = ("audio", "subtitles", "attachments", "covers", "data", "video")
"""What `drop` may name, besides the number of a stream."""
_UNTIMED = ("attachments", "covers")
_EARLY = Fraction(1, 20)
"""Seconds by which sound may be heard too early without a word."""
_WITHIN = 8
"""Into how many a tick of the source is divided for packets that it gives the same time."""
_ENDLESS, _READ_IN = Fraction(1 << 31, 1000), Fraction(5)
"""Seconds above which nobody says when a subtitle ends (FFmpeg's encoders of bitmaps then write 2^32 ms), which MP4 does not take,
and those that it gets there, where the next one ends it all the same."""
_REST = Fraction(1, 1000)
"""Seconds of sound behind the last picture that nobody misses."""
_COVERED = {"mp4", "ipod"}
"""Muxers that hold a cover picture as a stream."""
_ATTACHING = {"matroska"}
"""Muxers that hold attachments, a cover picture among them."""
LABELLING = MOV | {"matroska", "nut", "mxf"}
"""Muxers that keep a timecode: as a track made of a tag, or as the tag."""
_STATES = b"mebx"
"""What QuickTime calls statements about a stretch of the film (how a telephone is held, say)."""
_DELAYING = {"matroska", "webm"}
"""Muxers that store an encoder's delay beside the times."""
_PLACING = {"mp4", "ipod"}
"""Muxers that write down where each channel of uncompressed sound is heard, and fail at the end of all where nobody says it."""
_USUAL_PLACES = {1: "mono", 2: "stereo"}
"""Where that many channels are heard, unless something else is said. More of them, as in MXF, are as often separate tracks."""
_DERIVED = ("bps", "number_of_", "_statistics")
"""Tags that count what is in a stream: true of a whole copy alone."""
_OF_MOV = {"handler_name", "vendor_id"}
"""Tags in which MP4 and QuickTime keep what other containers have no place for."""
_OF_MXF = {"file_package_umid", "reel_umid"}
"""Tags that FFmpeg makes of how an MXF file is built."""
_PICTURES = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif", "webp": "image/webp"}
"""FFmpeg's codec of a cover picture -> its MIME type."""
_ANY = "application/octet-stream"
_MENUS = "dvd_nav_packet"
"""FFmpeg's codec of what every DVD has among its pictures: addresses and times within that disc."""
OPAQUE = "the transparency of AVIF pictures is not read: they become opaque; convert them to PNG to keep it"


def kind_of(stream: Stream) -> str:
    """Which of `KINDS` a stream is of; `other` for what FFmpeg cannot name."""
    if stream.type == "video":
        return "covers" if stream.disposition & Disposition.attached_pic else "video"
    names = {"audio": "audio", "subtitle": "subtitles", "attachment": "attachments", "data": "data"}
    return names.get(stream.type, "other")


@dataclass(frozen=True, slots=True)
class _Listed:
    """What FFmpeg does not tell of a list of files, since it joins them by their streams; empty where it is none."""

    dispositions: dict[int, Disposition]
    """What the first file says of its streams, by their number."""
    fonts: dict[int, tuple[str, str, bytes]]
    """Name, MIME type and bytes of its attachments, by the number of their stream; FFmpeg makes nameless streams of them."""
    others: list[Path]
    """The later files."""

    @classmethod
    def of(cls, like: Reader) -> Self:
        """Out of one opening of the first file."""
        if not is_list(like.path) or not Path(like.path).is_file():
            return cls({}, {}, [])
        first, *others = names_in(like.path)
        with open_input(str(first), None, like.opening) as part:
            return cls({one.index: one.disposition for one in part.streams}, _attachments(part), others)

    def later(self, like: Reader) -> list[str]:
        """The names of attachments in later files that the first one does not have, or has with other bytes."""
        known = {(name, data) for name, _, data in self.fonts.values()}
        missed: dict[str, None] = {}
        for path in self.others:
            with open_input(str(path), None, like.opening) as part:
                missed |= {name: None for name, _, data in _attachments(part).values() if (name, data) not in known}
        return list(missed)


def _attachments(part: InputContainer) -> dict[int, tuple[str, str, bytes]]:
    fonts = [one for one in part.streams if isinstance(one, AttachmentStream)]
    return {one.index: (one.name or f"attachment {one.index}", one.mimetype or _ANY, bytes(one.data or b"")) for one in fonts}


def is_opacity(stream: Stream) -> bool:
    """Whether a stream is the transparency of AVIF pictures, which are a stream of their own."""
    brand = stream.container.metadata.get("major_brand", "")
    return brand.startswith("avi") and isinstance(stream, VideoStream) and (stream.codec_context.pix_fmt or "").startswith("gray")


def check_drop(drop: Collection[str]) -> None:
    """See `dropped`, as far as it is known without a source.

    Raises:
        ConfigError: no such kind, or one text in place of several.
    """
    if isinstance(drop, str):
        raise ConfigError(f"$.media.drop: expected a list, got {drop!r}")
    for word in drop:
        if not (isinstance(word, str) and (word.isdecimal() or word in KINDS)):
            raise ConfigError(f"$.media.drop: unknown {word!r}; known here: {', '.join(KINDS)}, or a stream's number")


def dropped(drop: Collection[str], streams: Collection[Stream], main: int) -> set[int]:
    """Indices of the streams that `drop` names.

    Args:
        drop: of `KINDS`, or numbers of streams.
        streams: of the source.
        main: index of the stream that is restored.

    Raises:
        ConfigError: no such kind, no such stream, or the one that is restored.
    """
    check_drop(drop)
    found: set[int] = set()
    for word in drop:
        if word.isdecimal():
            if int(word) not in {stream.index for stream in streams}:
                raise ConfigError(f"$.media.drop: there is no stream {word}; the last is {len(streams) - 1}")
            if int(word) == main:
                raise ConfigError(f"$.media.drop: stream {word} is the video that is restored")
            found.add(int(word))
        else:
            found |= {stream.index for stream in streams if kind_of(stream) == word and stream.index != main}
    return found


def unplaced(stream: Stream) -> int:
    """How many channels sound has, where the file does not say which is heard from where; 0 where it does."""
    if not isinstance(stream, AudioStream):
        return 0
    context = stream.codec_context
    return context.channels if context.layout.name == f"{context.channels} channels" else 0


@dataclass(frozen=True, slots=True)
class Route:
    """Where a stream of the source goes."""

    source: Stream
    target: Stream
    rewrapping: Rewrapping | None = None


class Beside:
    """The copied streams of one output.

    Args:
        path: the target as the user wrote it, for messages.
        muxer: see `target.CONTAINERS`.
        like: the reader of the source.
        copies: where the packets come from.
        drop: what to leave out; see `dropped`.

    Raises:
        ConfigError: `drop` names nothing.
    """

    def __init__(self, path: str, muxer: str, like: Reader, copies: Copies, drop: Collection[str]) -> None:
        self.path, self.muxer, self.like, self.copies = path, muxer, like, copies
        self.warnings: list[str] = []
        self.routes: dict[int, Route] = {}
        self._streams = list(copies.container.streams)
        # QuickTime keeps chapters in a track as well; FFmpeg reads them from there and marks it like this.
        chapters = {one.index for one in self._streams if one.type == "data" and one.discard == Discard.all}
        stills = still_covers(copies.container)
        listed = _Listed.of(like)
        self._dispositions = listed.dispositions
        self._attached = listed.fonts if any(kind_of(one) == "other" for one in self._streams) else {}
        self._out = dropped(drop, self._streams, like.stream_index) | chapters | stills
        if "attachments" in drop:
            self._out |= self._attached.keys()
        elif later := listed.later(like):
            names = ", ".join(later)
            self._warn(f"attachments of the list's later files are left out, which the first one does not have: {names}")
        if stills:
            self._warn("the still picture that stands for the animation is left out: it would show what was not restored")
        opacity = {one.index for one in self._streams if is_opacity(one)} - self._out - {like.stream_index}
        if opacity:
            self._out |= opacity
            self._warn(OPAQUE)
        menus = [one for one in self._streams if one.index not in self._out and codec_of(one) == _MENUS]
        if menus:
            self._out |= {one.index for one in menus}
            self._warn(f"{named(menus[0])} is left out: it leads through the DVD's menus and scenes, and means nothing elsewhere")
        self._covers: list[tuple[Stream, Packet[Any]]] = []
        self._pending: Packet[Any] | None = None
        self._undated: dict[int, list[Packet[Any]]] = {}
        """First packets of a stream, whose decoding times follow from those behind them."""
        self._begun: set[int] = set()
        self._last: dict[int, int] = {}
        """Decoding time of each stream's last packet."""
        self._equal: dict[int, int] = {}
        """How many packets in a row had the time of the one before."""
        self._lasting: dict[int, Lasting] = {}
        """Of bitmap subtitles, until it is known what of them is on the screen where the part begins."""
        self._states: set[int] = set()
        """Of data that hold for as long as their packets last, however long that is."""
        self._delayed: set[int] = set()
        """Of sound whose next packets may be an encoder's delay."""
        self._delays: dict[int, Fraction] = {}
        self._kept: dict[int, Fraction] = {}
        """Of sound of which an edit list hides more than its encoder's delay: from when on it is copied."""
        self._samples: dict[int, Samples] = {}
        """Of uncompressed sound that the container puts end to end."""
        self._ends: dict[int, Fraction] = {}
        """When the last packet of compressed sound ends, seconds of its clock, where the container keeps no times."""
        self._early: dict[int, Fraction] = {}
        """Seconds of its pauses."""
        self._labels: dict[str, str] = {}
        self._said: dict[int, Described | None] = {}
        """Track ID -> what the source says of the data in it."""
        self.described: dict[int, Described] = {}
        """Index of an output's stream of data -> what the source says of it, which no muxer writes."""

    @property
    def timed(self) -> list[Stream]:
        """Streams of the source whose packets will be copied."""
        return [one for one in self._wanted() if self._kind(one) not in _UNTIMED and not self._becomes_label(one)]

    def earliest(self) -> Fraction | None:
        """The first moment (seconds) at which something is due that a muxer without edit lists must be told of; None for nothing.

        Asked once, before `add`: what an edit list hides besides an encoder's delay is left out from then on. MP4 and QuickTime
        are told of nothing, and what is hidden is left out there of sound that is heard later than the film begins: their
        muxer hides what lies before zero, and no more.

        Matroska writes down an encoder's delay where FFmpeg knows it, of what came out of Matroska and of Opus, and where it can be
        told (see `delay`).
        """
        if self.muxer in _DELAYING and "matroska" in self.copies.container.format.name:
            return None
        if self.muxer in MOV and "mov" not in self.copies.container.format.name:
            return None
        streams = self.timed
        begun = self.copies.beginnings(streams)
        for one in streams:
            if one.type == "audio" and one.index in begun and (self.muxer not in MOV or begun[one.index].heard > 0):
                self._leave_hidden(one, begun[one.index])
        if self.muxer in MOV:
            return None
        times = {index: self._kept.get(index, beginning.first) for index, beginning in begun.items()}
        return min((time for index, time in times.items() if not self._tells_delay(index)), default=None)

    def _leave_hidden(self, stream: Stream, beginning: Beginning) -> None:
        """Find out what of sound is left out since an edit list hides it, and what is told to the container as a delay."""
        lossless = stream.codec_context is not None and stream.codec_context.codec.lossless
        first = beginning.kept(samples=is_samples(stream), lossless=lossless)
        edited = first > beginning.first
        if self.muxer in _DELAYING and can_be_delayed(stream):
            delay = beginning.heard - beginning.first if edited else -beginning.first
            if delay > 0:
                self._delays[stream.index] = delay
        elif edited:
            self._kept[stream.index] = first
            if beginning.heard > first:
                rest = (
                    f"{float(beginning.heard - first):.3f} s of {named(stream)} that the film hides before its beginning are heard"
                )
                why = (
                    "has no edit lists; mov and mp4 keep them hidden"
                    if self.muxer not in MOV
                    else "hides what lies before zero alone"
                )
                self._warn(f"{rest}: {self.muxer} {why}")

    def _tells_delay(self, index: int) -> bool:
        """Whether the container says by itself that the beginning of a stream is not to be heard."""
        opus = self.muxer in _DELAYING and codec_of(self._streams[index]) == "opus" and index not in self._kept
        return opus or index in self._delays

    def add(self, container: OutputContainer, make_video: Callable[[], VideoStream]) -> VideoStream:
        """Add a stream to `container` for each of the source's, in their order; `make_video` makes the restored one.

        Raises:
            MediaError: the container does not hold one of them.
        """
        main = self._streams[self.like.stream_index]
        # Covers and attachments last: muxers do not count them among the streams, and what follows would change its number.
        templates = sorted(self._wanted(), key=lambda one: self._kind(one) in _UNTIMED)
        early = [one for one in templates if one.index < main.index and self._kind(one) not in _UNTIMED]
        if self.muxer in VIDEO_FIRST:
            early = []
        for template in early:
            self._add(container, template)
        video = make_video()
        for template in templates:
            if template not in early:
                self._add(container, template)
        video.disposition = self._disposition(main)
        # Muxers make a timecode track of the video's tag, not of another one.
        video.metadata.update(self._labels)
        self.copies.select([route.source for route in self.routes.values()])
        return video

    def mux(self, container: OutputContainer, until: Fraction | None, offset: Fraction) -> None:
        """Mux packets that are due before `until` (output seconds; None for all that are left).

        Interleaved by time: muxing the sound afterwards would make the muxer keep the whole film in memory.
        """
        covers, self._covers = self._covers, []
        for target, packet in covers:
            packet.pts = packet.dts = 0
            packet.stream = target
            container.mux_one(packet)
        while self.routes:
            packet_or_none = self._pending or self.copies.next_packet()
            self._pending = packet_or_none
            if packet_or_none is None:
                if until is None:
                    self._put_lasting(container, None, offset)
                    self._put_rewrapped(container, None)
                self._end_undated(container, offset)
                break
            when = packet_or_none.dts if packet_or_none.dts is not None else packet_or_none.pts
            if until is not None and when is not None and when * Fraction(packet_or_none.time_base) + offset > until:
                break
            self._pending = None
            if when is not None:
                self._put_rewrapped(container, when * Fraction(packet_or_none.time_base) + offset)
            self._mux(container, packet_or_none, offset)
        if until is not None and self.muxer in END_TO_END:
            later = self._pending
            for index, samples in self._samples.items():
                pause = () if later is None else samples.pause(until, later.stream_index == index)
                for packet in (*samples.known_silence(until, offset), *pause):
                    container.mux_one(packet)

    def fill(self, container: OutputContainer, end: Fraction) -> None:
        """Silence up to `end` (output seconds), where the last picture ends, for a container that ends with its shortest stream."""
        longer: list[tuple[Fraction, Stream]] = []
        for samples in self._samples.values():
            rest = samples.reached - end
            if rest > _REST and self.like.end is None:
                longer.append((rest, samples.source))
            for packet in samples.silence(end):
                container.mux_one(packet)
        self._tell_longer(longer)

    def _tell_longer(self, longer: list[tuple[Fraction, Stream]]) -> None:
        """Say in one line what of the sound has no place: recorders write a dozen tracks of one length."""
        if not longer:
            return
        most, first = float(max(rest for rest, _ in longer)), named(longer[0][1])
        told = f"{most:.3f} s of {first}" if len(longer) == 1 else f"up to {most:.3f} s of {len(longer)} tracks of sound"
        where = f"behind the last picture, where {self.muxer} ends"
        self._warn(f"{told} are left out: {where}; mkv and mov keep them")

    def labelled(self, tags: dict[str, str]) -> dict[str, str]:
        """`tags` of the source's video or file, with the timecode of the output's first picture."""
        return {key: self.label(value) if key.lower() == "timecode" else value for key, value in tags.items()}

    def label(self, text: str) -> str:
        """The timecode of the output's first picture, where `text` is that of the source's."""
        begun = Timecode.parse(text)
        return text if begun is None or self.like.start is None else str(self.like.label_of_first(begun))

    def close(self) -> None:
        """Let go of the source."""
        for index, early in self._early.items():
            told = f"{named(self._streams[index])} is heard up to {float(early):.3f} s too early behind its pauses"
            self._warn(f"{told}: {self.muxer} cannot keep them; mkv and mov can")
        self.routes, self._pending = {}, None
        for text in self.copies.warnings:
            self._warn(text)
        self.copies.close()

    # -- one stream -------------------------------------------------------------------------------------------

    def _kind(self, stream: Stream) -> str:
        return "attachments" if stream.index in self._attached else kind_of(stream)

    def _disposition(self, stream: Stream) -> Disposition:
        return self._dispositions.get(stream.index, stream.disposition)

    def _wanted(self) -> Iterator[Stream]:
        return (one for one in self._streams if one.index not in self._out and one.index != self.like.stream_index)

    def _add(self, container: OutputContainer, template: Stream) -> None:
        kind = self._kind(template)
        if kind == "covers":
            self._add_cover(container, template)
        elif kind == "attachments":
            if self.muxer not in _ATTACHING:
                self._refuse(template, "use .mkv")
            if font := self._attached.get(template.index):
                container.add_attachment(*font)
            else:
                container.add_stream_from_template(template)
        elif self._is_label(template):
            self._labels["timecode"] = self.label(template.metadata["timecode"])
            if reel := template.metadata.get("reel_name"):
                self._labels["reel_name"] = reel
        elif self._is_labelled(template):
            self._labels.setdefault("timecode", self.label(template.metadata["timecode"]))
            if not self._becomes_label(template):
                self._add_copy(container, template)
            else:
                told = f"{named(template)} is left out but for its timecode, since {self.muxer} does not hold it"
                way = advice(self._fitting(template), self.muxer)
                self._warn(f"{told}; {way}" if way else told)
        else:
            self._add_copy(container, template)

    def _is_labelled(self, template: Stream) -> bool:
        """Whether the timecode of a stream of data is to be kept."""
        return template.type == "data" and "timecode" in template.metadata and self.muxer in LABELLING

    def _is_label(self, template: Stream) -> bool:
        """Whether a stream is a timecode and nothing else; the data of Sony's cameras (`rtmd`) have one in every packet."""
        return self._is_labelled(template) and ((said := self._said_of(template)) is None or said.kind == b"tmcd")

    def _becomes_label(self, template: Stream) -> bool:
        """Whether the timecode of a stream is all that is kept of it."""
        return self._is_label(template) or (self._is_labelled(template) and not self._fitting(template)(self.muxer))

    def _fitting(self, template: Stream) -> Callable[[str], bool]:
        """What says whether a muxer holds a stream as it is."""
        said = self._said_of(template) if nameless(template) else None
        places = 0 if not is_samples(template) else unplaced(template)
        others = self._placed()

        def fits(muxer: str) -> bool:
            if not has_place(muxer, template, others):
                return False
            if nameless(template) and (said is None or muxer != "mov"):
                return False
            if places and muxer in _PLACING and places not in _USUAL_PLACES:
                return False
            if template.type == "data":
                return gives_back(muxer, template)
            return holds(muxer, lambda target: target.add_stream_from_template(template, opaque=True))

        return fits

    def _add_copy(self, container: OutputContainer, template: Stream) -> None:
        def add(target: OutputContainer) -> Stream:
            return target.add_stream_from_template(template, opaque=True)

        rewrapping = None

        said = self._said_of(template) if nameless(template) else None
        places = 0 if not is_samples(template) else unplaced(template)
        fits = self._fitting(template)

        if fits(self.muxer):
            stream = self._add_delayed(container, template) if template.index in self._delays else add(container)
            if places and self.muxer in _PLACING:
                assert isinstance(stream, AudioStream)
                stream.codec_context.layout = _USUAL_PLACES[places]
        elif (other := counterpart(template)) and self._rewraps(template):
            rewrapping = Rewrapping(container, template)
            stream = rewrapping.stream
            self._warn(f"{named(template)} is converted to {other}, since {self.muxer} does not hold it")
        else:
            self._refuse(template, advice(fits, self.muxer))
        if template.type == "audio" and template.frames > 1 and template.duration == 0:
            self._warn(f"an edit list in the file hides {named(template)}: its duration is 0")
        stream.metadata.update(copied_tags(template, self.muxer, whole=self.like.start is None and self.like.end is None))
        stream.disposition = self._disposition(template)
        if said is not None:
            self.described[stream.index] = said
            if said.kind == _STATES:
                self._states.add(template.index)
        self.routes[template.index] = Route(template, stream, rewrapping)
        if self.like.start is not None and (codec := codec_of(template)) in LASTING:
            self._lasting[template.index] = Lasting(codec, self.like.start)
        if self.muxer in SAMPLED and is_samples(template):
            assert isinstance(template, AudioStream)
            anywhere, cut = self.muxer not in END_TO_END, self.like.start is not None
            self._samples[template.index] = Samples(template, stream, anywhere=anywhere, cut=cut)

    def _placed(self) -> list[Stream]:
        """The source's streams that are in the target: the restored one, and those before the next that is added."""
        return [self._streams[self.like.stream_index], *(route.source for route in self.routes.values())]

    def _rewraps(self, template: Stream) -> bool:
        """Whether the container holds the counterpart of a subtitle."""
        placed = has_place(self.muxer, template, self._placed())
        return placed and holds(self.muxer, lambda target: Rewrapping(target, template))

    def _said_of(self, template: Stream) -> Described | None:
        """What the source says of data that FFmpeg has no name for, where it is a file of QuickTime's family."""
        if "mov" not in template.container.format.name or not Path(self.like.path).is_file():
            return None
        if template.id not in self._said:  # the whole index is read for it
            self._said[template.id] = None
            with suppress(ValueError, OSError, struct.error):
                self._said[template.id] = described_in(self.like.path, template.id)
        return self._said[template.id]

    def _add_delayed(self, container: OutputContainer, template: Stream) -> Stream:
        with delayed(template, self._delays[template.index]) as twin:
            return container.add_stream_from_template(twin.streams[0], opaque=True)

    def _add_cover(self, container: OutputContainer, template: Stream) -> None:
        if self.muxer not in _COVERED | _ATTACHING:
            self._refuse(template, "use .mkv or .mp4")
        packet = self.copies.cover(template)
        if packet is None:
            self._warn(f"{named(template)} is left out: it is empty")
        elif self.muxer in _ATTACHING:
            codec = codec_of(template) or "unknown"
            mime = template.metadata.get("mimetype") or _PICTURES.get(codec) or f"image/{codec}"
            name = template.metadata.get("filename") or f"cover.{mime.removeprefix('image/').replace('jpeg', 'jpg')}"
            container.add_attachment(name, mime, bytes(packet))
        else:
            assert isinstance(template, VideoStream)
            stream = container.add_stream_from_template(template, opaque=True)
            stream.disposition = template.disposition
            self._covers.append((stream, packet))

    def _refuse(self, template: Stream, advised: str | None) -> NoReturn:
        kind = self._kind(template)
        word = kind if kind in KINDS else str(template.index)
        ways = f"{advised} (--container), or leave it out (--drop {word})" if advised else f"leave it out (--drop {word})"
        font = self._attached.get(template.index)
        what = named(template) if font is None else f"stream {template.index} (attachment, {font[0]})"
        raise MediaError(self.path, f"{self.muxer} does not hold {what}; {ways}")

    # -- one packet -------------------------------------------------------------------------------------------

    def _mux(self, container: OutputContainer, packet: Packet[Any], offset: Fraction) -> None:
        route = self.routes[packet.stream_index]
        if packet.pts is None:
            self._warn(f"packets without a time in {named(route.source)} are left out")
            return
        if packet.dts is None and packet.stream.type == "video":
            self._undated.setdefault(packet.stream_index, []).append(packet)
            return
        if packet.dts is None:
            packet.dts = packet.pts
        for early in self._dated(packet.stream_index, packet.dts):
            self._put(container, route, early, offset)
        self._put_lasting(container, packet, offset)
        self._put(container, route, packet, offset)

    def _put_lasting(self, container: OutputContainer, packet: Packet[Any] | None, offset: Fraction) -> None:
        """Put what is on the screen where the part begins before `packet`, or at the end."""
        for index, lasting in list(self._lasting.items()):
            shown = lasting.rest() if packet is None else lasting.before(packet, index == packet.stream_index)
            if shown is not None:
                del self._lasting[index]
                for one in shown:
                    self._put(container, self.routes[index], one, offset)

    def _dated(self, index: int, next_dts: int) -> list[Packet[Any]]:
        """The packets that wait for their decoding times, with times before `next_dts`, which comes after them.

        Matroska stores no decoding times, and FFmpeg knows them only after as many packets as are reordered.
        """
        early = self._undated.pop(index, [])
        for place, packet in enumerate(early):
            packet.dts = next_dts - (packet.duration or 1) * (len(early) - place)
        return early

    def _end_undated(self, container: OutputContainer, offset: Fraction) -> None:
        """Mux what still waits for its decoding times at the end of the source: streams of a few packets."""
        for index in list(self._undated):
            waiting = self._undated[index]
            first = min(packet.pts for packet in waiting if packet.pts is not None)
            for packet in self._dated(index, first + (waiting[-1].duration or 1)):
                self._put(container, self.routes[index], packet, offset)

    def _put(self, container: OutputContainer, route: Route, packet: Packet[Any], offset: Fraction) -> None:
        assert packet.pts is not None and packet.dts is not None
        if not self._clip(packet):
            return
        base = Fraction(packet.time_base)
        if self.muxer in MOV and packet.stream.type == "subtitle" and (packet.duration or 0) * base > _ENDLESS:
            packet.duration = round(_READ_IN / base)
        samples = self._samples.get(packet.stream_index)
        move = round(offset / base)
        last = self._last.get(packet.stream_index)
        if last is not None and packet.dts + move <= last and self._is_delay(packet):
            if samples is not None:
                samples.rejoin()
            return  # of a list's next file, or of an edit list's next entry, over the sound of the one before: nobody hears it
        heard = self._heard_of(packet)
        if heard is None:
            return
        packet = heard
        assert packet.pts is not None and packet.dts is not None
        if packet.is_corrupt:
            self._warn(f"{named(route.source)} is damaged, or cut off: what came of it is copied as it is")
        if samples is not None:
            self._last[packet.stream_index] = packet.dts + move
            self._put_samples(container, samples, packet, offset)
            return
        if self.muxer == "nut" and packet.pts + move < 0:  # it would refuse the packet after this one
            self._warn(f"packets of {named(route.source)} before zero (encoder delay) are left out")
            return
        packet.pts, packet.dts = packet.pts + move, packet.dts + move
        if self.muxer in END_TO_END and packet.stream.type == "audio":
            if last is None:
                self._tell_early(route.source, packet.pts * Fraction(packet.time_base))
            self._count_pause(packet)
        self._delayed.discard(packet.stream_index)
        self._last[route.source.index] = packet.dts
        with self._refusals(route):
            if route.rewrapping is not None:
                for written in route.rewrapping.packets(packet):
                    container.mux_one(written)
                if route.rewrapping.guessed:
                    self._warn(f"texts of {named(route.source)} are not UTF-8, and taken for Windows-1252: look at their letters")
                return
            packet.stream = route.target
            self._set_apart(packet, last, packet.dts)
            container.mux_one(packet)

    def _set_apart(self, packet: Packet[Any], last: int | None, dts: int) -> None:
        """Put sound in packets shorter than a tick (TrueHD out of Matroska) between two of them, where a muxer wants one by one."""
        index = packet.stream_index
        self._equal[index] = self._equal.get(index, 0) + 1 if dts == last else 0
        if self._equal[index] and self.muxer not in _ATTACHING and packet.pts is not None and packet.stream.type == "audio":
            within = min(self._equal[index], _WITHIN - 1)
            packet.pts, packet.dts = _WITHIN * packet.pts + within, _WITHIN * dts + within
            packet.duration, packet.time_base = _WITHIN * (packet.duration or 0), Fraction(packet.time_base) / _WITHIN

    def _put_rewrapped(self, container: OutputContainer, time: Fraction | None) -> None:
        """Mux the converted texts that have left the screen at `time` (output seconds); all that are left for None."""
        for route in self.routes.values():
            if route.rewrapping is not None:
                with self._refusals(route):
                    for packet in route.rewrapping.ended(time):
                        container.mux_one(packet)

    @contextmanager
    def _refusals(self, route: Route) -> Iterator[None]:
        """Tell what the muxer refuses of a stream, and go on."""
        try:
            yield
        except AV_ERRORS as error:
            if is_system_error(error):
                raise
            self._warn(f"packets of {named(route.source)} that the container refuses are left out: {reason(error)}")

    def _heard_of(self, packet: Packet[Any]) -> Packet[Any] | None:
        """What of a packet is copied; None of one that an edit list hides, where the container has none."""
        begin = self._kept.get(packet.stream_index)
        if begin is None or packet.pts is None or packet.pts * Fraction(packet.time_base) >= begin:
            return packet
        return cut_off(packet, begin) if is_samples(packet.stream) else None

    def _is_delay(self, packet: Packet[Any]) -> bool:
        """Whether a packet is an encoder's delay: marked as such, or out of Matroska, which marks the first one alone."""
        if skipped_in(packet):
            self._delayed.add(packet.stream_index)
        return packet.is_discard or packet.stream_index in self._delayed

    def _put_samples(self, container: OutputContainer, samples: Samples, packet: Packet[Any], offset: Fraction) -> None:
        assert packet.pts is not None
        try:
            for one in samples.placed(packet, packet.pts * Fraction(packet.time_base) + offset):
                container.mux_one(one)
        except AV_ERRORS as error:
            if is_system_error(error):
                raise
            self._warn(f"packets of {named(samples.source)} that the container refuses are left out: {reason(error)}")
        if samples.lost:
            self._warn(f"{named(samples.source)} goes on where its container says that it has ended: a part of it is left out")

    def _tell_early(self, source: Stream, begin: Fraction) -> None:
        """Say it where sound that begins at `begin` (output seconds) is heard from the beginning."""
        if begin > _EARLY:
            early = f"{named(source)} is heard {float(begin):.3f} s too early"
            self._warn(f"{early}: {self.muxer} cannot say when it begins; mkv and mov can")

    def _count_pause(self, packet: Packet[Any]) -> None:
        """Count what of a pause before `packet` is lost where packets of sound lie end to end; of FLAC FFmpeg keeps it."""
        index, base = packet.stream_index, Fraction(packet.time_base)
        assert packet.pts is not None
        begin = packet.pts * base
        if (pause := begin - self._ends.get(index, begin)) > _EARLY and codec_of(self._streams[index]) != "flac":
            self._early[index] = self._early.get(index, Fraction(0)) + pause
        self._ends[index] = begin + (packet.duration or 0) * base

    def _clip(self, packet: Packet[Any]) -> bool:
        """False for packets outside start and end; subtitles and states that last over one of them begin or end there."""
        start, end = self.like.start, self.like.end
        base = Fraction(packet.time_base)
        assert packet.pts is not None and packet.dts is not None
        time = packet.pts * base
        if packet.stream.type == "video":
            return self._clip_video(packet, start, end)
        lasts = packet.stream.type == "subtitle" or packet.stream_index in self._states
        if end is not None and time >= end:
            return False
        if start is not None and packet.stream.type == "audio" and packet.is_discard:
            return False  # hidden by an edit list: the part begins in what nobody hears
        if start is not None and time < start:
            left = time + (packet.duration or 0) * base - start
            if packet.stream_index in self._samples and left > 0:
                return True  # what lies before the first picture is cut off its samples
            if not lasts or left <= 0:
                return False
            packet.pts = packet.dts = math.ceil(start / base)
            packet.duration = round(left / base)
        if lasts and end is not None and packet.duration:
            packet.duration = max(1, min(packet.duration, math.floor(end / base) - packet.pts))
        return True

    def _clip_video(self, packet: Packet[Any], start: Fraction | None, end: Fraction | None) -> bool:
        """Another video begins at a key frame, and keeps what its last pictures refer to."""
        assert packet.pts is not None and packet.dts is not None
        base, index = Fraction(packet.time_base), packet.stream_index
        if end is not None and packet.dts * base >= end:
            return False
        if start is None:
            return True
        if index not in self._begun:
            if packet.pts * base < start or not packet.is_keyframe:
                self._warn(f"{named(packet.stream)} is copied from its first key frame after the start on")
                return False
            self._begun.add(index)
        return packet.pts * base >= start

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            _log.warning("%s: %s", self.path, text)


def copied_tags(stream: Stream, muxer: str, *, whole: bool) -> dict[str, str]:
    """The tags of a copied (`whole`, or cut) stream, by the names that `muxer` knows."""
    tags = {key: value for key, value in stream.metadata.items() if key.lower() != "duration"}
    if not whole:
        tags = {key: value for key, value in tags.items() if not key.lower().startswith(_DERIVED)}
    return renamed(tags, muxer)


def renamed(tags: dict[str, str], muxer: str) -> dict[str, str]:
    """`tags` of a stream by the names that `muxer` knows: MP4 calls a title `name`, but takes it as `title`."""
    out = {key: value for key, value in tags.items() if key.lower() not in _OF_MXF}
    if "name" in out:
        out.setdefault("title", out.pop("name"))
    if muxer not in MOV:
        out = {key: value for key, value in out.items() if key.lower() not in _OF_MOV}
    return out

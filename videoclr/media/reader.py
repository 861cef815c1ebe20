"""Decoded frames at exact times, from any container FFmpeg reads, from stills, sequences and pipes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from av.codec.codec import codecs_available
from av.codec.context import CodecContext, ThreadType
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoclr.errors import ConfigError, DecodeError, EmptyPartError, MediaError
from videoclr.flow import one_at_a_time
from videoclr.media import chunks, dpx, exr, nal, tiff, unread
from videoclr.media import colour as colours
from videoclr.media.clock import clock_in
from videoclr.media.continuous import Astray, PictureAstray, TimesJump
from videoclr.media.copies import MICROSECONDS, Copies, FileCopies, PipeCopies
from videoclr.media.crop import WHOLE
from videoclr.media.cutoff import ends_within_page
from videoclr.media.faults import AV_ERRORS, explained, is_memory_short, reason
from videoclr.media.filters import through, top_down
from videoclr.media.gaps import CERTAIN, LIKELY, Gaps, shows
from videoclr.media.hardware import opened_on
from videoclr.media.hdr import dolby_vision_profile, proxy_of
from videoclr.media.headers import Y4M, crop_of, rate_of, siting_of
from videoclr.media.matroska import torn_in
from videoclr.media.moments import moment
from videoclr.media.opening import Opening
from videoclr.media.orientation import Orientation, orientation_of
from videoclr.media.picture import Picture
from videoclr.media.proxy import PRIMARIES, are_primaries
from videoclr.media.scan import MODES, Mode, deinterlaced, first_field
from videoclr.media.selection import Edge, Selection, Undecodable, located, selection, timecode_of, undecoded_times
from videoclr.media.source import (
    ANYTHING,
    PICTURE_RATE,
    PIPE,
    Run,
    Unread,
    bytes_in,
    clock_may_jump,
    demuxed,
    is_pattern,
    is_still_item,
    last_written,
    open_input,
    sequence_of,
    video_of,
)
from videoclr.media.tiles import left_out
from videoclr.media.timecode import Timecode
from videoclr.types import Frame, VideoInfo

_log = logging.getLogger("videoclr.media.reader")

_STILL_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".exr", ".dpx"}
_PICTURE_CODECS = {"png", "apng", "gif", "webp", "tiff", "bmp", "exr", "dpx"}
_CLOCKED = {".dpx", ".exr"}
"""Endings of pictures that may say how many of them a second there are, and their timecode."""
_HEADS = {"dpx": dpx.head_of, "exr": exr.head_of, "tiff": tiff.head_of}
"""What reads the header of a picture file, by the codec in it."""
_OF_INKS = {"gbrap": "gbrp", "yuva444p": "yuv444p"}
"""What FFmpeg makes of CMYK and YCCK, as Photoshop writes it -> the same as it is: a JPEG has no transparency."""
_TELLING = {"mjpeg", "png", "webp", "tiff", "jpeg2000"}
"""Codecs of picture files that may hold more than their picture."""
_TOLD_BEHIND = {"png", "tiff"}
"""Those that may say so behind their picture as well."""
_HEADER = 1 << 20
"""Bytes in which it is looked for, of the others."""
_DECODING = 256
"""Pictures whose headers are held: more than a decoder's threads are busy with."""
_BYTES = 4
"""Of a decoded pixel, roughly."""
_HELD = 1 << 28
"""Bytes of packets from which decoding begins, whether or not a better place to begin is to come."""
_EARLIER = (Fraction(0), Fraction(2), Fraction(10), Fraction(60))
"""How much further back to seek, in turn, until a key frame at or before the wanted time is found (seconds)."""

_LEAP = Fraction(2, 5)
"""Seconds from one packet to the next, more than where pictures are reordered, above which the file may be destroyed between."""
_AGAIN = "restore it again when it is finished"
_GROWN = f"it is still being recorded or copied, and what came meanwhile may be missing; {_AGAIN}"
_REWRITTEN = f"what came may be partly of what it was before; {_AGAIN}"
_LEAPS = 1000
"""Of which so many are held."""


@dataclass(frozen=True, slots=True)
class _Leap:
    """Places in the file of two packets, one behind the other, and their times; of the first one also nothing."""

    place: int
    next_place: int
    time: Fraction | None
    next_time: Fraction


@dataclass(frozen=True, slots=True)
class _Timed:
    """A decoded picture and its exact presentation time in seconds."""

    time: Fraction
    frame: VideoFrame
    stored: bool
    """It is what a packet holds, at the packet's own time."""


class Reader:
    """Frames of a video, one after the other.

    Args:
        path: a file, a URL, `-` for standard input, or a printf pattern such as `face%04d.png`.
        start: first picture to keep. Seconds from the beginning of the file, `12.5` or `[hh:]mm:ss[.fff]`; a picture's number
            `240f`, counted from 0; or a timecode `hh:mm:ss:ff` (drop frame `hh:mm:ss;ff`), which counts from the file's own where
            it has one and from 00:00:00:00 otherwise.
        end: where to stop before, as `start`.
        frames: pictures to keep from `start` on, instead of `end`.
        rate: pictures a second of a printf pattern, raw video, or pictures in a pipe; None for what DPX and EXR say, or 25.
        opening: what the input is taken for, what it may reach and claim.
        scale: scale pictures whose size changes in the middle to that of the first, instead of raising.
        hwaccel: decode on a device, `cuda` and the like (see `videoclr.media.hardware`); None on the processor.
        deinterlace: `auto` makes flagged interlaced pictures whole, `bwdif` all, `off` none; see `videoclr.media.scan`.
        video: which of several video streams to decode, counted from 0.
        linear: pictures of floats (EXR) hold linear light; False: code values.
        primaries: what red, green and blue are in pictures of floats (a name of `PRIMARIES` in `videoclr.media.proxy`); None: what
            the file says, or else those of BT.709.

    The file is opened and its first picture decoded here, so that what is wrong with it shows at once.
    Use it in a `with` block, or call `close`.

    Raises:
        MediaError: the file cannot be read; one line that says what it is and what to do.
        DecodeError: it is a video, but no picture of it can be decoded.
        ConfigError: `start` or `end` is no moment, `deinterlace` no mode, or the input is opened in a way that does not fit it.
    """

    def __init__(
        self,
        path: str | Path,
        start: str | float | Fraction | None = None,
        end: str | float | Fraction | None = None,
        *,
        frames: int | None = None,
        rate: Fraction | int | None = None,
        opening: Opening = ANYTHING,
        scale: bool = False,
        hwaccel: str | None = None,
        deinterlace: Mode = "auto",
        video: int = 0,
        linear: bool = True,
        primaries: str | None = None,
    ) -> None:
        self.path, self.scale, self.hwaccel, self.video = str(path), scale, hwaccel, video
        if primaries is not None and primaries not in PRIMARIES:
            raise ConfigError(f"$.media.primaries: expected {', '.join(PRIMARIES)}, got {primaries!r}")
        if deinterlace not in MODES:
            raise ConfigError(f"$.media.deinterlace: expected {', '.join(MODES)}, got {deinterlace!r}")
        self.deinterlace: Mode = deinterlace
        if not isinstance(video, int) or video < 0:
            raise ConfigError(f"$.media.video_stream: expected 0 or more, got {video!r}")
        self.rate = None if rate is None else _rate(rate)
        self.opening, self.linear, self.primaries = opening, linear, primaries
        self.warnings: list[str] = []
        self._back = self._jumped = self._animated = False
        self._scaled: set[tuple[int, int]] = set()
        self.sequence: Run | None = sequence_of(self.path, opening.start_number) if is_pattern(self.path) else None
        self.label: Timecode | None = None
        """The timecode of the input's first picture where that itself says it (DPX, EXR) and no container."""
        word = self._clock()
        self._shelf: deque[Packet[Any]] = deque()
        self._intact: deque[bool] = deque()
        self._heads: dict[int | None, bytes] = {}
        self._meant: dict[int | None, tuple[colours.Matrix, bool]] = {}
        """Of TIFF pictures that are being decoded: what their YCbCr means."""
        self._copied = False
        self._keep = True
        self._container: InputContainer | None = None
        self._turn: object = None
        """Of the reading that may go on."""
        # A pipe may keep its reader waiting for ever, and whoever stops the run with it.
        self._demuxing: AbstractContextManager[object] = nullcontext() if self.is_pipe else one_at_a_time()
        self._pictures: Iterator[_Timed] | None = None
        self._passed: Fraction | None = None
        """Where the last picture was, at the end of the file."""
        self.start: Fraction | None = None
        """First presentation time to keep, seconds on the clock of `Frame.time`; None for all."""
        self.end: Fraction | None = None
        """Presentation time to stop before, as `start`; of a pipe whose frames are counted, None until it is reached."""
        self._open()
        if word and (rate := rate_of(self._stream)):
            self.label = Timecode.of_word(word, rate)
        try:
            self._wanted = selection(start, end, frames, self.begin, self.timecode, self._stream)
            self._locate()
            self._prime()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Frames that were read stay valid; who reads on is told so."""
        with self._demuxing:
            self._turn = None
            self._shut()

    def _shut(self) -> None:
        self._pictures = None
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def is_pipe(self) -> bool:
        """True for standard input."""
        return self.path == PIPE

    @property
    def is_still(self) -> bool:
        """True for one picture (a still image file)."""
        return self.sequence is None and self._still

    @property
    def container(self) -> InputContainer:
        """The open PyAV container, for metadata and chapters; a closed reader raises `MediaError`."""
        if self._container is None:
            raise MediaError(self.path, "the reader is closed")
        return self._container

    @property
    def stream_index(self) -> int:
        """Which stream of the container is decoded."""
        return self._stream_index

    @property
    def first_picture(self) -> Picture:
        """The first picture that `frames` gives: its tags and side data describe the stream."""
        return self._first

    @property
    def first_time(self) -> Fraction:
        """Presentation time of the first picture, seconds."""
        return self._first_time

    @property
    def timecode(self) -> Timecode | None:
        """The label of the input's first picture, whatever `start` says; None where it has none."""
        return self.label or timecode_of(self.container, self._stream)

    def label_of_first(self, begun: Timecode) -> Timecode:
        """The label of the first picture that `frames` gives, where `begun` is that of the input's first.

        Raises:
            ConfigError: `begun` does not exist at the input's rate.
        """
        rate = self.info.frame_rate
        if self.start is None or rate is None:
            return begun
        own = self._stream.start_time
        first = Fraction(0) if own is None else own * Fraction(self._stream.time_base or 1)
        return begun.after(round((self.first_time - first) * rate), rate)

    def frames(self) -> Iterator[Frame]:
        """Every frame from `start` up to `end`, in order of presentation, at strictly increasing exact times.

        A file can be read again by calling again; a pipe cannot. What is wrong but can be passed over (damaged
        packets, a truncated end) is added to `warnings` by the time the last frame has come.

        Raises:
            DecodeError: the size of the picture changes, and `scale` was not asked for; or memory does not suffice.
            MediaError: a second reading of a pipe.
        """
        if self._pictures is None:
            if self.is_pipe:
                raise MediaError(self.path, "a pipe can be read only once")
            self.close()
            self._open()
            self._prime()
        pictures, self._pictures = self._pictures, None
        assert pictures is not None
        turn = self._turn = object()
        self._keep = self._copied
        if not self._keep:
            self._shelf.clear()
        size = (self._first.frame.width, self._first.frame.height)
        for index, (time, frame, stored) in enumerate(self._in_turn(pictures, turn)):
            self.opening.limits.check_count(self.path, index, time)
            fits = (frame.width, frame.height) == size
            if not fits:
                frame = self._fitted(frame, size, time)
            yield Frame(index, time, self.picture(frame, stored=stored and fits))

    def _in_turn(self, pictures: Iterator[_Timed], turn: object) -> Iterator[tuple[Fraction, VideoFrame, bool]]:
        """`pictures`, as long as nobody closes the file or reads it anew: what FFmpeg has freed must not be asked for more."""
        while True:
            with self._demuxing:
                if self._turn is not turn:
                    raise MediaError(self.path, "was closed, or read anew, while its frames were being read")
                one = next(pictures, None)
            if one is None:
                return
            yield one.time, one.frame, one.stored

    def _fitted(self, frame: VideoFrame, size: tuple[int, int], time: Fraction) -> VideoFrame:
        """`frame` scaled to `size`, where that was asked for."""
        change = f"the picture changes from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
        if not self.scale:
            raise DecodeError(self.path, f"{change}; cut the file there (--end), or scale what follows (--on-error keep)", time)
        if (frame.width, frame.height) not in self._scaled:
            self._scaled.add((frame.width, frame.height))
            self._warn(f"at {float(time):.3f} s {change}: scaled to the first size from there on")
        return frame.reformat(*size)

    def copies(self) -> Copies:
        """The streams that are not decoded, for a writer. On a pipe, ask before `frames`."""
        self._copied = True
        return PipeCopies(self.container, self._shelf) if self.is_pipe else FileCopies(self.path, self.start, self.opening)

    def _open(self) -> None:
        self._intact.clear()
        self._damaged = 0
        self._hidden = 0
        """Packets that an edit list hides."""
        self._read_to: int | None = None
        """Bytes of the input up to the end of the last picture."""
        self._breaks_off = False
        """Its file ends within the last picture, as far as it was read."""
        self._before: tuple[int, Fraction | None] = (0, None)
        """Place and time of the last packet."""
        self._leaps: list[_Leap] = []
        self._inside: deque[Packet[Any]] | None = None
        """Packets that the decoder has not answered yet; None where pictures do not stand alone."""
        decoder = None
        if self.hwaccel is None:
            self._container = open_input(self.path, self.rate, self.opening)
        else:
            self._container, decoder = opened_on(self.hwaccel, self.path, self.rate, self.opening, self.video)
        try:
            self._stream = video_of(self.path, self._container, self.video)
            self._stream_index = self._stream.index
            self._gaps = self._expecting()
            self._check_limits()
            self._stream.thread_type = ThreadType.AUTO
            self._decoder = decoder or self._decoder_here()
            self._apart = decoder is not None
            if decoder is None and self._stands_alone:
                self._inside = deque()
            self._decoder.options = {"max_pixels": str(self.opening.limits.decoder_pixels)}
        except BaseException:
            self._shut()
            raise
        self._size, self._written = bytes_in(self._container), last_written(self.path)
        name, is_item = self._container.format.name, is_still_item(self._container, self._stream)
        self._still = not self.is_pipe and (is_item or self._is_picture(name))
        if is_item and Path(self.path).is_file():
            for what in left_out(self.path):
                self._warn(what)
        self.begin = _begin(self._container, self._stream)
        """Presentation time at which the file begins, seconds: what `start` and `end` count from."""

    def _clock(self) -> int:
        """Take the rate from the first picture where nobody says one; returns the word of its timecode, 0 for none."""
        first = self.sequence.path(0) if self.sequence else Path(self.path)
        if first.suffix.lower() not in _CLOCKED or not first.is_file():
            return 0
        with explained(self.path, "cannot be opened"):
            rate, word = clock_in(first)
        if rate is not None and self.rate is None:
            self.rate = rate
            _log.info("%s: %s pictures a second, as the first one says", self.path, rate)
        return word

    def _expecting(self) -> Gaps:
        return Gaps(certain=self._codec in CERTAIN, likely=self._codec in LIKELY)

    def _length(self) -> int:
        """Of H.264: how many bytes say the size of a unit in a packet; 0 where start codes divide them, and of other codecs."""
        if self._codec != "h264":
            return 0
        try:
            return nal.header_of("h264", bytes(self._stream.codec_context.extradata or b""))[0]
        except IndexError:
            return 0

    @property
    def _codec(self) -> str:
        return self._stream.codec_context.codec.canonical_name

    @property
    def _stands_alone(self) -> bool:
        """Whether each picture can be decoded without the others; FFmpeg does not say so of PNG."""
        return self._codec == "png" or self._stream.codec_context.codec.intra_only

    def _is_picture(self, name: str) -> bool:
        return (
            name.endswith("_pipe")
            or name == "image2"
            or (name == "image2pipe" and Path(self.path).suffix.lower() in _STILL_SUFFIXES)
        )

    def _check_limits(self) -> None:
        stream, context = self._stream, self._stream.codec_context
        seconds = _claimed_duration(self.container, stream)
        size = (context.width, context.height)
        pictures = self.sequence.count if self.sequence else None
        rate = rate_of(stream) if stream.average_rate else None  # a guess alone is no claim
        self.opening.limits.check(self.path, len(self.container.streams), size, rate, seconds, pictures)

    def _locate(self) -> None:
        """Turn what was asked for into presentation times; frames of a pipe are counted while it is read."""
        wanted = self._wanted
        start, end = wanted.start, wanted.end
        self.start = start.time if start is not None and start.exact else None
        self.end = end.time if end is not None and end.exact else None
        if not wanted.counts or self.is_pipe:
            return
        if self.sequence is not None:
            rate = self.rate or PICTURE_RATE
            times = (self.begin + index / rate for index in range(self.sequence.count))
            self.start, self.end = located(self.path, wanted, times)
        else:
            self.start, self.end = self._counted(wanted)
        start, end = (None if time is None else Edge(time=time, exact=True) for time in (self.start, self.end))
        self._wanted = Selection(start, end)

    def _counted(self, wanted: Selection) -> tuple[Fraction | None, Fraction | None]:
        """`located` in a second opening of the file: by its packets where they tell, otherwise by decoding."""
        with open_input(self.path, self.rate, self.opening) as container:
            times = undecoded_times(container, video_of(self.path, container, self.video))
            if times is not None:
                with suppress(Undecodable), explained(self.path, "cannot be read"):
                    return located(self.path, wanted, times)
        with Reader(self.path, rate=self.rate, opening=self.opening, video=self.video, deinterlace="off") as reader:
            return located(self.path, wanted, (frame.time for frame in reader.frames()))

    def _prime(self) -> None:
        """Decode the first picture to keep: it carries the tags, and shows early that decoding works."""
        pictures = self._clipped()
        with explained(self.path, "cannot be decoded"):
            first = next(pictures, None)
        if first is None:
            if self.start is not None or self.end is not None:
                raise EmptyPartError(self.path, f"has no picture between {_span(self.start, self.end)}")
            if self._passed is not None:  # of a pipe, whose frames were counted
                raise EmptyPartError(self.path, f"ends at {float(self._passed):.3f} s, before the part that was asked for")
            if self.is_pipe and self.container.format.name.startswith("mov"):
                raise DecodeError(self.path, "its index comes last, which needs a file: save it as one, or send NUT or Matroska")
            raise DecodeError(self.path, self._why_none())
        self._pictures = chain([first], pictures)
        self._first_time = first.time
        told = self._as_told(first.frame)
        self._orientation: Orientation = orientation_of(told)
        self._proxy = proxy_of(told, self.linear, self._heads.get(told.pts, b""), self.primaries)
        self._first = self.picture(told)
        if exr.is_exr(self._first.head) and (beside := exr.layers(self._first.head)):
            self._warn(f"the layers {', '.join(beside)} are left out: only the colour of EXR pictures is read")
        if self.primaries is not None and not self._first.is_light:
            self._warn("media.primaries is left out: it says what colours are in pictures of floats")
        if exr.is_exr(self._first.head) and self.primaries is None:
            said = exr.primaries(self._first.head)
            if said is not None and not are_primaries(said):
                self._warn("its chromaticities are no primaries; taken as BT.709 (media.primaries says others)")
        if exr.is_exr(self._first.head) and exr.has_parts(self._first.head):
            self._warn("holds several parts: only the first one is read")
        if exr.is_exr(self._first.head) and (count := exr.outside(self._first.head)):
            self._warn(f"pixels outside the display window ({count}) are left out: an EXR's picture is what it shows")
        if dolby_vision_profile(told) == 5:
            what = "Dolby Vision of profile 5 has colours that only a Dolby decoder can read"
            raise MediaError(self.path, f"{what}; convert it to HDR10 or profile 8 first")
        self.info = self._describe(told)
        crop = crop_of(self._stream, self.path)
        if not crop.fits(first.frame.width, first.frame.height):
            self._warn("the container hides more than the picture has: all of it is shown")
            crop = WHOLE
        self.crop = crop
        """What the container hides of the stored picture; frames hold it all, a writer cuts it or says it again."""
        self.siting = siting_of(self._stream)
        """Where chroma of 4:2:0 lies beside luma, by FFmpeg's name; empty where nothing says it."""
        if not colours.is_known_matrix(first.frame):
            self._warn(f"its colour matrix (AVColorSpace {first.frame.colorspace}) is unknown here; taken as BT.709/601")
        elif self._first.colour.kind == "yuv" and first.frame.colorspace == colours.UNSPECIFIED:
            _log.info("%s: no colour matrix is tagged; taken as %s", self.path, self.info.matrix)

    def _why_none(self) -> str:
        """Why no picture could be decoded, as far as FFmpeg tells."""
        if self._hidden and not self._damaged:
            pictures = "its 1 picture" if self._hidden == 1 else f"all its {self._hidden} pictures"
            remedy = "ffmpeg -ignore_editlist 1 -i INPUT -c copy OUTPUT makes one without it"
            return f"an edit list in the file hides {pictures}, which not all players heed; {remedy}"
        why = "the file is empty, or cut off"
        if (head := next(iter(self._heads.values()), b"")) and exr.is_exr(head) and (unread := exr.unreadable(head)):
            return f"no picture in it can be decoded: {unread}"
        if self._damaged:
            why = "damaged, or of a kind that FFmpeg does not read"
            if self._animated:
                return "an animation in WebP cannot be decoded here; convert it to GIF, or to a video"
            if not self._stream.codec_context.width:
                why = f"damaged, of a kind that FFmpeg does not read, or above media.limits.pixels={self.opening.limits.pixels}"
            why += "; convert it to PNG" if self._pictures_alone else "; convert it first"
        elif self.is_pipe and self._is_picture(self.container.format.name):
            why = "nothing in a pipe says where such a picture ends; give it as a file"
        on_device = "" if self.hwaccel is None else f"; decoded on {self.hwaccel}, leave hwaccel out to decode it here"
        return f"no picture in it can be decoded: {why}{on_device}"

    def picture(self, frame: VideoFrame, *, stored: bool = False) -> Picture:
        """A decoded frame of this film as `frames` gives it; `stored`: see `Picture`."""
        woven = self._is_woven(frame)
        head = self._heads.get(frame.pts, b"")
        return Picture(frame, colours.colour_of(frame), self._orientation, self._proxy, woven=woven, stored=stored, head=head)

    def _as_told(self, frame: VideoFrame) -> VideoFrame:
        """The first picture with all that the container says about it, which a decoder beside the stream was not told."""
        if not self._apart:
            return frame
        with open_input(self.path, self.rate, self.opening) as plain, explained(self.path, "cannot be decoded"):
            return next(plain.decode(video_of(self.path, plain, self.video)))

    def _decoder_here(self) -> VideoCodecContext:
        """The decoder on the processor, or the device that the stream was opened with."""
        decoder = _decoder_of(self._stream)
        if self.hwaccel is not None and decoder is not self._stream.codec_context:
            self._warn(f"decoded here and not on {self.hwaccel}, which would drop its transparency")
        return decoder

    def _is_woven(self, frame: VideoFrame) -> bool:
        return frame.interlaced_frame and not self._pictures_alone

    def _is_made_whole(self, frame: VideoFrame) -> bool:
        """Whether a decoded frame is, or may be, deinterlaced. Pictures are, one for one and in order."""
        return self._scan == "bwdif" or (self._scan == "auto" and frame.interlaced_frame)

    @property
    def _scan(self) -> Mode:
        return "off" if self._pictures_alone else self.deinterlace

    @property
    def _pictures_alone(self) -> bool:
        """True for codecs of pictures: an interlaced PNG is one that loads in passes, and no two fields."""
        return self._still or self.sequence is not None or self._stream.codec_context.name in _PICTURE_CODECS

    def _describe(self, frame: VideoFrame) -> VideoInfo:
        stream, picture = self._stream, self._first
        width, height = picture.size
        rate = rate_of(stream)
        duration = _claimed_duration(self.container, stream)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        return VideoInfo(
            width=width,
            height=height,
            time_base=Fraction(stream.time_base or Fraction(1, 90000)),
            frame_rate=rate,
            duration=duration,
            frame_count=self._estimate(rate, duration),
            bit_depth=max(part.bits for part in frame.format.components),
            pixel_format=frame.format.name,
            matrix=picture.colour.matrix.name if picture.colour.kind == "yuv" else "",
            primaries=colours.PRIMARIES.get(frame.color_primaries, ""),
            transfer=colours.TRANSFERS.get(frame.color_trc, ""),
            full_range=picture.colour.full,
            sample_aspect=1 / aspect if self._orientation.transpose else Fraction(aspect),
            rotation=self._orientation.degrees,
            fields=first_field(frame, stream.codec_context) if self._is_woven(frame) else "",
        )

    def _estimate(self, rate: Fraction | None, duration: Fraction | None) -> int | None:
        if self.is_still:
            return 1
        whole = self._estimate_all(rate, duration)
        return whole if self._wanted.frames is None else min(whole or self._wanted.frames, self._wanted.frames)

    def _estimate_all(self, rate: Fraction | None, duration: Fraction | None) -> int | None:
        whole = self.sequence.count if self.sequence else self._stream.frames or None
        if self.container.format.name == "concat":
            whole = None
        if whole is None and rate and duration:
            whole = round(rate * duration)
        if whole is None or not rate or (self.start is None and self.end is None):
            return whole
        ends = [end for end in (self.end, duration and self.begin + duration) if end is not None]
        return min(whole, max(1, round((min(ends) - (self.start or self.begin)) * rate))) if ends else whole

    def _clipped(self) -> Iterator[_Timed]:
        start, end, frames = self._wanted.start, self._wanted.end, self._wanted.frames
        last: _Timed | None = None
        kept = 0
        decoded = self._decoded() if self.start is None else self._decoded_from(self.start)
        for index, picture in enumerate(self._timed(deinterlaced(decoded, self._scan, self._warn))):
            full = frames is not None and kept >= frames
            if full or (end is not None and end.reached(index, picture.time)):
                self.end = picture.time if self.end is None else self.end
                self._tell_damage()
                return
            last = picture
            if start is None or start.reached(index, picture.time):
                if not kept and start is not None and not start.exact:
                    self.start = picture.time  # of a pipe: only now it is known
                kept += 1
                yield picture
        self._passed = None if last is None else last.time
        self._check_end(last)

    def _timed(self, frames: Iterator[VideoFrame]) -> Iterator[_Timed]:
        """Exact times; a missing one, or one that goes back, follows the frame before by one frame's length."""
        last: Fraction | None = None
        before: VideoFrame | None = None
        step = 1 / (rate_of(self._stream) or Fraction(25))
        for frame in frames:
            stored = bool(self._intact) and self._intact.popleft() and frame.pts is not None
            base = Fraction(frame.time_base or self._stream.time_base or Fraction(1, 90000))
            frame.time_base = base  # the last ones have none, out of a decoder that is emptied, and their duration needs it
            ticks = frame.pts if frame.pts is not None else frame.dts
            time = None if ticks is None else ticks * base
            if time is None or (last is not None and time <= last):
                if time is not None:
                    self._went_back(time)
                time, stored = Fraction(0) if last is None else last + step, False
            yield from self._repeated(before, last, time)
            last, before = time, frame
            yield _Timed(time, frame, stored)
        yield from self._repeated(before, last, None)

    def _repeated(self, frame: VideoFrame | None, last: Fraction | None, now: Fraction | None) -> Iterator[_Timed]:
        """The frame before, in place of those that were lost before the one at `now` (None: the end)."""
        lost = self._gaps.passed(now)
        if frame is None and now is not None:
            self._tell_late(now)
        for time in lost:
            if frame is not None and last is not None and time > last:
                self._gaps.fill(time)
                yield _Timed(time, frame, stored=False)

    def _tell_late(self, first: Fraction) -> None:
        """Say it where the pictures before the first one that came, at `first`, are lost: none can be repeated in their place."""
        missing = self._gaps.missing(self.start, self._codec)
        if not missing:
            return
        late, rate = first - missing[0], rate_of(self._stream)
        count = min(len(missing), max(1, round(late * rate))) if rate else len(missing)  # each field may have had a packet
        what = (
            "the first frame could not be decoded and is"
            if count == 1
            else f"the first {count} frames could not be decoded and are"
        )
        beside = ", where they stay beside the sound" if self.container.streams.audio else ""
        self._warn(f"{what} left out: the pictures begin {float(late):.3f} s late{beside}")

    def _decoded_from(self, start: Fraction) -> Iterator[VideoFrame]:
        """Frames from a key frame at or before `start` on; falls back to reading from the front."""
        if self.is_pipe or self._still or start <= self.begin:
            yield from self._decoded()
            return
        if clock_may_jump(self.container):
            yield from self._decoded(self._from_key(start))
            return
        base = Fraction(self._stream.time_base or Fraction(1, 90000))
        for earlier in _EARLIER:
            try:
                self.container.seek(int((start - earlier) / base), stream=self._stream)
            except AV_ERRORS:
                break
            self._decoder.flush_buffers()
            packets = self._packets()
            key = next((packet for packet in packets if packet.is_keyframe), None)
            # Leading pictures of an open group lie before their key frame and cannot be decoded from it.
            if key is not None and key.pts is not None and key.pts * base <= start and self._enters(key):
                yield from self._decoded(chain([key], packets))
                return
            if start - earlier <= self.begin:
                break
        self._shut()
        self._open()
        yield from self._decoded()

    def _from_key(self, start: Fraction) -> Iterator[Packet[Any]]:
        """Packets from the last key frame at or before `start` on, found by reading from the front."""
        packets, size = self._packets(), 0
        held: list[Packet[Any]] = []
        for packet in packets:
            time = None if packet.pts is None else packet.pts * Fraction(packet.time_base)
            if packet.is_keyframe and time is not None and time <= start and self._enters(packet):
                held, size = [], 0
            held.append(packet)
            size += packet.size
            if size > _HELD or (time is not None and time > start):
                break
        yield from held
        yield from packets

    def _enters(self, packet: Packet[Any]) -> bool:
        """False for a packet marked as a key frame that shows nothing whole: the picture is refreshed piece by piece from there."""
        context = self._stream.codec_context
        if context.codec.canonical_name not in ("h264", "hevc"):
            return True
        codec = cast(nal.Codec, context.codec.canonical_name)
        try:
            length, _ = nal.header_of(codec, bytes(context.extradata or b""))
        except IndexError:
            return True
        return not nal.recovers_later(codec, nal.units(bytes(packet), length))

    def _decoded(self, packets: Iterator[Packet[Any]] | None = None) -> Iterator[VideoFrame]:
        length = self._length()
        for packet in packets or self._packets():
            self._hidden += bool(packet.size and packet.is_discard)
            shown = packet.size and not packet.is_discard and shows(self._codec, memoryview(packet), length)
            if packet.pts is not None and packet.time_base is not None and shown:
                self._gaps.expect(packet.pts * Fraction(packet.time_base))
            yield from self._decode(packet)
        yield from self._decode(None)
        yield from self._one_by_one()  # a last one that is damaged fails without a word

    def _decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        """Frames that `packet` completes; a packet that cannot be decoded is counted and passed over."""
        if packet is not None and self._codec == "tiff":
            packet = self._plain_tiff(packet)
        if packet is not None and self._codec in ("png", "webp"):
            packet = self._decodable(packet)
        if packet is not None and (head_of := _HEADS.get(self._stream.codec_context.name)):
            # The directory of a TIFF lies anywhere in it.
            self._heads[packet.pts] = head_of(bytes(packet if self._codec == "tiff" else memoryview(packet)[:_HEADER]))
            while len(self._heads) > _DECODING:
                del self._heads[next(iter(self._heads))]
        if packet is not None and self._codec == "tiff":
            self._check_tiff(packet)
        if packet is not None and self._codec in _TELLING and (self._still or self.sequence is not None):
            self._tell_unread(packet)
        if packet is not None and not packet.is_discard:
            self._waits(packet)
        try:
            frames = [self._plain(frame) for frame in self._decoder.decode(self._placed(packet))]
        except AV_ERRORS as error:
            pixels = self._stream.codec_context.width * self._stream.codec_context.height
            if is_memory_short(error, min(pixels, self.opening.limits.pixels) * _BYTES):
                time = None if packet is None or packet.pts is None else packet.pts * Fraction(packet.time_base)
                said = "too little memory to decode it; end other programs and start again"
                raise DecodeError(self.path, said, time) from error
            _log.debug("%s: damaged packet: %s", self.path, reason(error))
            if packet is None and self._inside:
                return self._one_by_one()
            if self._inside:
                self._inside.popleft()
            self._damaged += 1
            self._gaps.failed()
            return []
        for frame in frames:
            self._came(frame)
        if corrupt := sum(frame.is_corrupt for frame in frames):
            self._damaged += corrupt
            self._gaps.damaged()
        self._intact.extend(not frame.is_corrupt and not self._is_made_whole(frame) for frame in frames)
        return frames

    def _waits(self, packet: Packet[Any]) -> None:
        """`packet` is in the decoder until its picture comes out."""
        if self._inside is not None:
            self._inside.append(packet)
            if len(self._inside) > _DECODING:  # not each one of these shows a picture
                self._inside = None

    def _came(self, frame: VideoFrame) -> None:
        """What is not behind `frame` in the decoder is no more in it."""
        while self._inside and (frame.pts is None or (self._inside[0].pts or 0) <= frame.pts):
            self._inside.popleft()
            if frame.pts is None:
                return

    def _one_by_one(self) -> list[VideoFrame]:
        """The last pictures: of those that a decoder's threads are busy with at the end, all behind a damaged one are lost."""
        waiting, self._inside = self._inside or (), None
        frames = []
        for packet in waiting:
            self._decoder.flush_buffers()
            frames += [*self._decode(packet), *self._decode(None)]
        return frames

    def _plain(self, frame: VideoFrame) -> VideoFrame:
        """A decoded frame laid as everybody expects it."""
        if frame.time_base is None and self._stream.time_base is not None:
            # Out of a decoder that is emptied: filters whose first frame it is would count its ticks by another clock.
            frame.time_base = self._stream.time_base
        if (meant := self._meant.pop(frame.pts, None)) is not None and colours.kind_of(frame.format.name) == "yuv":
            matrix, full = meant
            frame.colorspace, frame.color_range = matrix.tag, colours.FULL if full else colours.LIMITED
        if self._codec == "mjpeg" and frame.format.name in _OF_INKS:
            frame = through(frame, ("format", _OF_INKS[frame.format.name]))
        return top_down(frame)

    def _decodable(self, packet: Packet[Any]) -> Packet[Any]:
        """`packet`, of a PNG or a WebP, without what its decoder stumbles over beside the pixels."""
        if self._codec == "png":
            made, left_out = chunks.decodable_png(memoryview(packet))
            for what in left_out:
                self._warn(f"its {what} cannot be read: damaged, and left out")
        else:
            made = chunks.decodable_webp(memoryview(packet))
        return packet if made is None else _with_data(packet, lambda _: made)

    def _plain_tiff(self, packet: Packet[Any]) -> Packet[Any]:
        """A TIFF file as the decoder takes it."""
        data = memoryview(packet)
        if again := tiff.repeated(data):
            numbers = ", ".join(map(str, again))
            self._warn(f"it has tags more than once ({numbers}): the first of each is read, and the others are left out")
            packet = _with_data(packet, tiff.once)
        return _with_data(packet, tiff.classic) if tiff.is_big(bytes(data[:4])) else packet

    def _check_tiff(self, packet: Packet[Any]) -> None:
        """Refuse or tell what of a TIFF file the decoder leaves out."""
        data = bytes(packet)
        if (refusal := tiff.unreadable(data)) is not None:
            time = None if self.is_still or packet.pts is None else packet.pts * Fraction(packet.time_base)
            raise DecodeError(self.path, refusal, time)
        if (meant := tiff.meaning(data)) is not None:
            self._meant[packet.pts] = meant
        if (count := tiff.pages(data)) > 1:
            self._warn(f"a TIFF holds {count} pictures: only the first one is read")
        if tiff.has_layers(data):
            self._warn("its Photoshop layers are left out: only the picture that they make together is read")

    def _tell_unread(self, packet: Packet[Any]) -> None:
        """Tell what of a picture file nobody here reads."""
        data = bytes(packet if self._codec in _TOLD_BEHIND else memoryview(packet)[:_HEADER])
        self._animated = unread.is_animated_webp(data)
        if unread.has_xmp(data):
            self._warn("its XMP data (captions, rights, edits) are left out")
        if unread.has_iptc(data):
            self._warn("its IPTC data (captions, rights) are left out")
        if unread.has_profile(data):
            self._warn("its colour profile (ICC) is left out: its colours may be shown differently")
        if unread.has_inks(data):
            self._warn("its printing inks (CMYK) become RGB; separate the result again where it is to be printed")
        if unread.has_texts(data):
            self._warn("its texts (author, copyright, comments) are left out")
        if (count := unread.pictures(data)) > 1:
            self._warn(f"a JPEG holds {count} pictures (views, or what makes the first one HDR): only the first one is read")

    def _placed(self, packet: Packet[Any] | None) -> Packet[Any] | None:
        """`packet`, that of an EXR picture with what it shows where the decoder looks for it."""
        if packet is None or not exr.is_exr(head := self._heads.get(packet.pts, b"")):
            return packet
        return _with_data(packet, lambda data: exr.at_origin(data, head))

    def _packets(self) -> Iterator[Packet[Any]]:
        streams: list[Stream] = [self._stream]
        if self.is_pipe:
            streams = [stream for stream in self.container.streams if stream.type in ("video", "audio", "subtitle", "data")]
        for packet in demuxed(self.container, streams, self._note_read_error):
            if packet.stream_index == self._stream.index:
                self._read_to = None if packet.pos is None else packet.pos + packet.size
                # Where times may jump, packets are also marked that lie before a joint.
                self._breaks_off = packet.is_corrupt and not clock_may_jump(self.container)
                self._note_leap(packet)
                yield packet
            elif self._keep:
                self._shelf.append(packet)

    def _note_leap(self, packet: Packet[Any]) -> None:
        if packet.pos is None or packet.pts is None:
            return
        (place, last), time = self._before, packet.pts * Fraction(packet.time_base)
        entered = last is None and self.start is not None
        if time - (last or 0) > _LEAP and not entered and len(self._leaps) < _LEAPS:
            self._leaps.append(_Leap(place, packet.pos, last, time))
        self._before = packet.pos, time

    def _note_read_error(self, error: BaseException) -> None:
        self._jumped |= isinstance(error, TimesJump)
        told = isinstance(error, TimesJump | PictureAstray | Astray | Unread)
        self._warn(str(error) if told else f"reading failed in places: {reason(error)}")

    def _tell_damage(self) -> None:
        """Say what was damaged as far as the file was read."""
        if self._damaged:
            what = "1 damaged picture or packet" if self._damaged == 1 else f"{self._damaged} damaged pictures or packets"
            self._warn(f"{what}; pictures of them show errors, or the one before")
        if self._gaps.count:
            self._warn(str(self._gaps))
        self._tell_torn()

    def _tell_torn(self) -> None:
        """Say it where a part of a Matroska file is destroyed: FFmpeg looks for what comes behind it without a word."""
        if not self._leaps or "matroska" not in self.container.format.name or not Path(self.path).is_file():
            return
        with explained(self.path, "cannot be read"):
            torn = torn_in(Path(self.path), [(leap.place, leap.next_place) for leap in self._leaps])
        for leap in self._leaps:
            if any(leap.place <= place < leap.next_place for place in torn):
                since = "the beginning" if leap.time is None else f"{float(leap.time):.3f} s"
                until = f"{float(leap.next_time):.3f} s"
                self._warn(f"damaged: a part of the file is destroyed, and what it showed from about {since} to {until} is missing")

    def _check_end(self, last: _Timed | None) -> None:
        """At the true end of the file: say what was damaged and what is missing; FFmpeg keeps quiet about both."""
        if last is None:
            return  # that is an error
        self._tell_damage()
        if not self._tell_missing(last):
            self._tell_cut_off(last)
        if not self.is_pipe and self.sequence is None:
            self._tell_changed()
        if self.sequence is not None and (later := self.sequence.path(self.sequence.count)).exists():
            self._warn(f"pictures came while it was read: {later.name} and what follows are left out; {_AGAIN}")

    def _tell_changed(self) -> None:
        """Say it where another program wrote to the file; one that takes its name changes nothing of what is read."""
        before, size, written = self._size or 0, bytes_in(self.container) or 0, last_written(self.path)
        if size > before:
            self._warn(f"it grew from {before} to {size} bytes while it was read: {_GROWN}")
        elif size < before:
            self._warn(f"it shrank from {before} to {size} bytes while it was read: {_REWRITTEN}")
        elif self._written and written and written[1:] == self._written[1:] and written != self._written:
            self._warn(f"it was written to while it was read: {_REWRITTEN}")

    def _tell_missing(self, last: _Timed) -> bool:
        """Say it where the container promises more than there is; True where it does."""
        claimed = _claimed_duration(self.container, self._stream)
        if claimed is not None and self.container.format.name == "avi":  # FFmpeg makes it fit the size of the file
            claimed = max(claimed, self._stream.frames * Fraction(self._stream.time_base or 0))
        if claimed is None or self._still or self.sequence or self._jumped:
            return False
        step = 1 / (rate_of(self._stream) or Fraction(25))
        # Matroska counts its length from zero on, wherever its times begin.
        reached, promised = last.time + step, claimed + (0 if "matroska" in self.container.format.name else self.begin)
        if promised - reached <= max(Fraction(1, 4), 3 * step):
            return False
        self._warn(f"truncated: the pictures end at {float(reached):.3f} s of {float(promised):.3f} s")
        return True

    def _tell_cut_off(self, last: _Timed) -> None:
        """Say it where the file breaks off within a picture, which decoders show as if it were whole."""
        size = bytes_in(self.container)
        # Of bare DV FFmpeg fills the rest of it with what was there in the picture before.
        filled = self.container.format.name == "dv" and size is not None and self._read_to is not None and self._read_to > size
        if (self._breaks_off or filled) and not self._still:
            self._warn(f"truncated: it breaks off within the picture at {float(last.time):.3f} s, which may show errors")
        # Of y4m FFmpeg takes it for the end.
        if self.container.format.name == Y4M and None not in (size, self._read_to) and size != self._read_to:
            reached = last.time + 1 / (rate_of(self._stream) or Fraction(25))
            self._warn(f"truncated: it breaks off within the picture at {float(reached):.3f} s, which is left out")
        if self.container.format.name == "ogg" and not self.is_pipe and Path(self.path).is_file():
            with explained(self.path, "cannot be read"):
                torn = ends_within_page(Path(self.path))
            if torn:
                self._warn(
                    f"truncated: it breaks off behind the picture at {float(last.time):.3f} s, and what came next is left out"
                )

    def _went_back(self, time: Fraction) -> None:
        """Say it once: a broken film may do so in every frame, and what is told must not grow with it."""
        if not self._back:
            self._warn(f"presentation times go back at {float(time):.3f} s; such frames follow evenly instead")
        self._back = True

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            _log.warning("%s: %s", self.path, text)


def _with_data(packet: Packet[Any], change: Callable[[bytes], bytes]) -> Packet[Any]:
    """`packet` with other data at its times; the packet itself where `change` gives back what it was given."""
    data = bytes(packet)
    if (changed := change(data)) is data:
        return packet
    made: Packet[Any] = Packet(changed)
    made.pts, made.dts, made.time_base, made.duration = packet.pts, packet.dts, packet.time_base, packet.duration
    return made


def _decoder_of(stream: VideoStream) -> VideoCodecContext:
    """The stream's own decoder, or libvpx where FFmpeg's would drop the transparency of VP8 and VP9 without a word."""
    own = stream.codec_context
    wanted = f"libvpx-{own.codec.canonical_name}".replace("libvpx-vp8", "libvpx")
    clear = any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())
    if not clear or own.codec.canonical_name not in ("vp8", "vp9"):
        return own
    if wanted not in codecs_available:
        _log.warning("transparency is lost: this FFmpeg was built without %s", wanted)
        return own
    decoder = CodecContext.create(wanted, "r")
    assert isinstance(decoder, VideoCodecContext)
    return decoder


def _begin(container: InputContainer, stream: VideoStream) -> Fraction:
    """Where the file begins: the first of its streams; the encoder delay of sound (a little below zero) aside."""
    starts = [
        one.start_time * Fraction(one.time_base)
        for one in (stream, *container.streams.audio)
        if one.start_time is not None and one.time_base is not None
    ]
    if not starts or min(starts) >= 0:
        return min(starts, default=Fraction(0))
    own = stream.start_time
    return min(Fraction(0), own * Fraction(stream.time_base or 1)) if own is not None else Fraction(0)


def _rate(rate: Fraction | float | str) -> Fraction:
    with suppress(TypeError, ValueError, OverflowError, ZeroDivisionError):
        if (found := Fraction(rate)) > 0:
            return found
    raise ConfigError(f"$.media.input.rate: expected pictures a second, such as 25 or 30000/1001, got {rate!r}")


def _claimed_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds that the container promises for the video: the least of what its places say, since edits shorten it."""
    if container.format.name == "concat":  # what it says of its streams is of the first part
        return Fraction(container.duration, MICROSECONDS) if container.duration else None
    claims = []
    if stream.duration is not None and stream.time_base is not None:
        claims.append(stream.duration * Fraction(stream.time_base))
    if tag := next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), None):
        try:
            claims.append(moment(tag, "duration") or Fraction(0))
        except ConfigError:
            _log.debug("unreadable DURATION tag %r", tag)
    if container.duration is not None:
        claims.append(Fraction(container.duration, MICROSECONDS))
    return min((claim for claim in claims if claim > 0), default=None)


def _span(start: Fraction | None, end: Fraction | None) -> str:
    until = "the end" if end is None else f"{float(end):.3f} s"
    return f"{float(start or 0):.3f} s and {until}"

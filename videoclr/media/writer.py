"""Frames into a file that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

from av.sidedata.sidedata import Type
from av.stream import Discard, Stream

from videoclr.errors import ConfigError, EncodeError, MediaError
from videoclr.media import dpx, exr, tiff
from videoclr.media.beside import LABELLING, OPAQUE, check_drop, dropped, is_opacity, kind_of
from videoclr.media.copylike import encoding_of
from videoclr.media.crop import WHOLE, cropped, exactly
from videoclr.media.deliver import Deliverable, Kind
from videoclr.media.density import HEAD, density_of
from videoclr.media.encoders import COPY_LIKE, DEFAULT_CODEC, RAW, Y4M_FORMATS, Wanted, bits_per_second, encoder_of, takes_depth
from videoclr.media.faults import explained
from videoclr.media.film import CROPPING, Film
from videoclr.media.headers import Y4M
from videoclr.media.joint import Joint, cannot, joint_of
from videoclr.media.lock import Lock
from videoclr.media.orientation import Orientation, carries
from videoclr.media.picture import Picture, colour_in, displayed, float_frame, frame_of_rgb, straightened, unmultiplied
from videoclr.media.reader import Reader
from videoclr.media.segments import Segment, sync_file
from videoclr.media.source import PIPE, has_width, is_pattern, numbered, still_covers
from videoclr.media.splice import Tally
from videoclr.media.stills import Stills, is_clear
from videoclr.media.target import CONTAINERS, PLAIN, STILLS, behind_link, check_target, muxer_of, named
from videoclr.media.timecode import Timecode
from videoclr.plainyaml import as_text
from videoclr.types import Frame, Patch

_log = logging.getLogger("videoclr.media.writer")

_HALF = 16
_LABELLED = (".exr", ".dpx")
"""Endings of pictures that say their timecode."""
_TRANSPARENT = (".png", ".exr")
"""Endings of pictures for compositing."""
_EITHER = (".tif", ".tiff", ".exr")
"""Endings of pictures that say whether their colours are multiplied with alpha, or are made so here."""
_BESIDE = ("audio", "subtitles", "video", "data")
"""Kinds of streams that are missed where pictures are all that is written."""
_TEXTS = ("title", "artist", "author", "copyright", "comment", "description")
"""Tags of a file that people write, and that are missed there too."""
_LOOK = 100
"""Pictures from one look at whether the growing file still has its name to the next."""
_TICKS = 90_000
_FINEST = 10_000_000
_GUESSED_RATE = Fraction(25)


class Writer:
    """Writes frames to a video, a picture or a numbered sequence. Use it in a `with` block.

    Args:
        path: the file to make; its ending names the container. `-` is standard output (NUT, unless `container`
            says otherwise), `out%04d.png` a sequence.
        like: the reader of the source: its tags, times, rotation, metadata and chapters are kept and its sound and
            subtitles copied packet for packet, cut to its start and end. None for frames of one's own.
        codec: `h264`, `hevc`, `av1`, `vp9`, `prores`, `dnxhr`, `ffv1`, `mjpeg`, a hardware encoder by FFmpeg's name
            (`h264_nvenc`), or `copy-like` for the source's (see `videoclr.media.copylike`); None for h264, or for no
            compression where the container holds nothing else (`.y4m`, `.yuv`). Pictures go by the ending.
        crf: constant quality in the codec's own scale; None for the default here.
        preset: the encoder's speed preset; None for the default here.
        pix_fmt: FFmpeg's pixel format; None keeps the source's where the codec can.
        profile, level: by their usual names: `high422`, `4.1`; `hq` of ProRes and DNxHR.
        bitrate: bits a second on average, as `8M`, instead of `crf`.
        gop: frames from one key frame to the next, at most.
        options: FFmpeg's options of the encoder, by name.
        linear: EXR pictures hold linear light; False leaves the code values as they are. Floats that were read stay what they are.
        deliver: what to write of each frame (see `videoclr.media.deliver`).
        wipe_seconds: in which the line of a `wipe` goes to and fro; 0 leaves it in the middle.
        start_number: of the first picture of a numbered sequence; None for that of the input's picture, and 1 where the input is
            no numbered sequence.
        container: a file ending without its dot, or FFmpeg's muxer name; None takes it from the ending.
        drop: what of the source to leave out: `audio`, `subtitles`, `attachments`, `covers`, `data`, `video` (all but the restored
            stream), or the number of a stream.
        provenance: a sentence on what was done, kept as a tag of the file; None for none.
        overwrite: replace an existing file.
        shift: seconds taken off every time; None takes the reader's start, so that a cut-out begins at 0.
        smart_copy: copy the groups of pictures of `like` in which nothing changed; see `videoclr.media.splice`. The codec is the
            source's.
        smart_copy_mb: MiB of packets in a group that is copied, at most.

    Frames of a reader are encoded from their own planes, without a detour over RGB; patches are composited inside
    their region only. The file grows as `<path>.part` and gets its name when the block ends well; an exception
    removes it. A link is written through: the file is made, or replaced, where it leads.
    What could not be kept exactly stands in `warnings`.

    Raises:
        ConfigError: unknown codec, container, pixel format, deliverable or kind to drop, or a setting that the encoder refuses.
        MediaError: the target exists, is the input, is being written by another run, or cannot be written; a stream that
            the container cannot hold.
        EncodeError: a frame that does not fit.
        TypeError: `like` is no reader.
    """

    def __init__(
        self,
        path: str | Path,
        like: Reader | None = None,
        *,
        codec: str | None = None,
        crf: float | None = None,
        preset: str | None = None,
        pix_fmt: str | None = None,
        profile: str | None = None,
        level: str | float | None = None,
        bitrate: str | int | None = None,
        gop: int | None = None,
        options: Mapping[str, str | float] | None = None,
        linear: bool = True,
        deliver: Kind = "video",
        wipe_seconds: float = 4.0,
        start_number: int | None = None,
        container: str | None = None,
        drop: Collection[str] = (),
        provenance: str | None = None,
        overwrite: bool = False,
        shift: Fraction | None = None,
        smart_copy: bool = False,
        smart_copy_mb: int = 128,
    ) -> None:
        if deliver not in get_args(Kind):
            raise ConfigError(f"$.media.deliver: expected {', '.join(get_args(Kind))}, got {deliver!r}")
        if like is not None and not isinstance(like, Reader):
            raise TypeError(f"like: expected the Reader of the source, got a {type(like).__name__}")
        if gop is not None and (not isinstance(gop, int) or gop < 1):
            raise ConfigError(f"$.media.gop: expected 1 or more, got {gop!r}")
        if crf is not None and not _is_number(crf):
            raise ConfigError(f"$.media.crf: expected a number, got {crf!r}")
        if not _is_number(wipe_seconds) or not 0 <= wipe_seconds < math.inf:
            raise ConfigError(f"$.media.wipe_seconds: expected 0 or more, got {wipe_seconds!r}")
        if not isinstance(smart_copy_mb, int) or smart_copy_mb < 1:
            raise ConfigError(f"$.media.smart_copy_mb: expected 1 or more, got {smart_copy_mb!r}")
        if start_number is not None and (not isinstance(start_number, int) or start_number < 0):
            raise ConfigError(f"$.media.start_number: expected 0 or more, got {start_number!r}")
        if options is not None and not (isinstance(options, Mapping) and all(_is_option(*one) for one in options.items())):
            raise ConfigError(f"$.media.options: expected names with values, as in {{'aq-mode': '3'}}, got {options!r}")
        for name, text in (("container", container), ("provenance", provenance)):
            if text is not None and not isinstance(text, str):
                raise ConfigError(f"$.media.{name}: expected a text, got {text!r}")
        if shift is not None and not (_is_number(shift) and math.isfinite(shift)):
            raise ConfigError(f"shift: expected seconds, got {shift!r}")
        check_drop(drop)
        self.path, self.like = str(path), like
        self._state: Literal["before", "inside", "over"] = "before"
        """The `with` block."""
        # Absolute: the program may go to another folder before the file gets its name.
        self._place = PIPE if self.path == PIPE else os.path.abspath(behind_link(self.path))
        self._part = PIPE if self.path == PIPE else f"{self._place}.part"
        self._sink: Film | Stills
        crop = WHOLE if like is None else like.crop
        suffix = Path(self.path).suffix.lower()
        # One picture has one name: `100%done.png` asks for no number, `out%04d.png` does, but not where the source is called so.
        same = like is not None and like.sequence is None and Path(like.path).stem == Path(self.path).stem
        asked = like is None or not like.is_still or (has_width(self.path) and not same)
        self._pattern = suffix in STILLS and is_pattern(self.path) and asked
        if start_number is not None and not (self._pattern and container is None):
            raise ConfigError("$.media.start_number: is for numbered pictures such as shot.%04d.png alone")
        if self.path != PIPE and not self._pattern:
            check_target(self.path, like.path if like else None, overwrite)
        if smart_copy and deliver != "video":
            raise ConfigError(f"$.media.smart_copy: a {deliver} is made of every picture; leave one of them out")
        if self.path != PIPE and container is None and suffix in STILLS:
            if smart_copy:
                raise ConfigError(f"$.media.smart_copy: {suffix} pictures are no video; choose another ending or leave it out")
            first = 1 if like is None else first_number(like)
            first = first if start_number is None else start_number
            self._check_stills(first)
            if deliver == "overlay" and suffix not in _TRANSPARENT:
                raise ConfigError(f"$.media.deliver: {suffix} pictures hold no overlay; use {' or '.join(_TRANSPARENT)}")
            whole = suffix == ".exr" and like is not None and like.first_picture.is_light and like.info.bit_depth > _HALF
            pace, label = (None, None) if like is None else (like.info.frame_rate, _label(like))
            self._labelled = label is not None and suffix in _LABELLED
            self._sink = Stills(
                self.path, STILLS[suffix], first, overwrite, pix_fmt, linear, whole, pace, label, pattern=self._pattern,
                aspect=Fraction(1) if like is None else like.info.sample_aspect, density=None if like is None else _density(like),
            )  # fmt: skip
            shallow = not takes_depth(STILLS[suffix])
            made = Deliverable(deliver, wipe_seconds, suffix == ".exr", linear, upright=True, shallow=shallow)
        else:
            muxer = muxer_of(self.path, container)
            self._labelled = like is not None and like.label is not None and muxer in LABELLING
            said = crop if muxer in CROPPING and self.path != PIPE and deliver != "side-by-side" else WHOLE
            crop = WHOLE if said else crop
            if smart_copy and crop:
                where = "a pipe" if self.path == PIPE else muxer
                raise ConfigError(
                    f"$.media.smart_copy: the source hides borders of its pictures, {where} cannot, and packets cannot be cut;"
                    " write to .mkv, .mov or .mp4, or leave smart_copy out"
                )
            rate = None if bitrate is None else bits_per_second(str(bitrate))
            texts = {name: as_text(value) for name, value in (options or {}).items()}
            level = None if level is None else str(level)
            wanted = Wanted(crf, preset, pix_fmt, profile, level, rate, gop, options=texts)
            joint: Joint | None = None
            if smart_copy:
                encoder, wanted, joint = joint_of(like, codec, muxer, wanted)
                if like is not None and crop:
                    raise cannot(
                        like, f"what its container hides of the picture would be cut off for {muxer}; use .mkv, .mov or .mp4"
                    )
            elif codec == COPY_LIKE:
                encoder, wanted = encoding_of(like, wanted)
            else:
                encoder = encoder_of(codec or (RAW if muxer in PLAIN else DEFAULT_CODEC))
            if muxer in PLAIN and encoder.name != RAW:
                raise ConfigError(f"$.media.codec: {muxer} holds uncompressed pictures, not {codec}; leave the codec out")
            if muxer == Y4M:
                encoder = replace(encoder, formats=Y4M_FORMATS)
            encoder.settings(wanted)
            self._sink = Film(
                self.path, self._part, muxer, encoder, wanted=wanted, like=like, drop=drop, provenance=provenance, shift=shift,
                deliver=deliver, crop=said, joint=joint, limit=smart_copy_mb << 20,
            )  # fmt: skip
            made = Deliverable(deliver, wipe_seconds, shallow=encoder.playable)
        self._deliverable = None if deliver == "video" else made
        self._crop = crop
        self._first_time: Fraction | None = None
        self._overwrite, self._drop = overwrite, drop
        self._lock: Lock | None = None
        self._sealed: Callable[[Path], None] | None = None
        self._held: Frame | None = None
        self._size: tuple[int, int] | None = None
        self.frames_written = 0
        """Frames taken so far."""
        if isinstance(self._sink, Film) and {**CONTAINERS, **STILLS}.get(suffix, muxer) != muxer and self.path != PIPE:
            self._warn(f"is {muxer} inside, as the container says, and not what programs take {suffix} for")

    @property
    def tally(self) -> Tally:
        """How much was copied, with `smart_copy`."""
        return self._sink.tally if isinstance(self._sink, Film) else Tally()

    @property
    def pictures(self) -> range | None:
        """Numbers of the pictures written so far; None where no numbered sequence is written."""
        return self._sink.numbers if isinstance(self._sink, Stills) and self._sink.pattern else None

    @property
    def warnings(self) -> list[str]:
        """What could not be kept as it was, one line each."""
        return self._sink.warnings

    def __enter__(self) -> Self:
        """Set everything up that can fail, before the first frame costs time."""
        if self._state != "before":
            raise MediaError(self.path, "the writer was used already; make another one")
        self._state = "inside"
        try:
            if self._part != PIPE:
                self._lock = Lock(self._part, self.path)
                # Again, now that nobody else can finish it: a run that was waited for may have.
                if isinstance(self._sink, Stills) and self._sink.pattern:
                    self._sink.check()
                else:
                    check_target(self.path, self.like.path if self.like else None, self._overwrite)
            if self.like is not None and isinstance(self._sink, Film):
                begin = self.like.first_time
                first, _ = self._shown(Frame(0, begin, self.like.first_picture))
                self._sink.open(first, begin, self._tick(self.like.info.time_base), self.like.info.frame_rate)
                self._size = (first.frame.width, first.frame.height)
            elif self.like is not None:
                self._tell_of_others(self.like)
        except BaseException:
            self.abort()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.abort()
            return
        if self._state == "over":
            return
        try:
            self.finish()
        except BaseException:
            self.abort()
            raise

    def write(self, frame: Frame) -> None:
        """Write the next frame; its time must be after the last one's.

        Raises:
            EncodeError: wrong size or time, or the encoder fails.
            MediaError: the disk is full, the pipe closed, or this is no place inside the `with` block.
            TypeError: it is no frame.
        """
        self._check_inside()
        if not isinstance(frame, Frame):
            raise TypeError(f"expected a frame, got a {type(frame).__name__}; make it with Frame.from_image")
        self.frames_written += 1
        if self.frames_written % _LOOK == 0:
            self._check_lock()
        if isinstance(self._sink, Stills):
            picture, patches = self._shown(frame)
            self._sink.write(picture, lambda: picture.composite(patches))
            return
        if self.like is None and self._size is None:
            # The first frame waits for the second: their times tell the rate and the tick.
            if self._held is None:
                # Whoever writes the next one may have filled the same array with it.
                self._held = frame if frame.native is not None else replace(frame, _rgb={"base": frame.source.copy()})
                return
            self._open_for_own(self._held, frame)
        self._write_film(frame)

    def recall(self, warnings: Iterable[str]) -> None:
        """Take over what an earlier run warned of frames that it wrote into segments, and that this one does not write."""
        assert isinstance(self._sink, Film)
        self._sink.recall(warnings)

    def begin_segment(self, path: Path) -> None:
        """What is written from now on waits in a segment at `path`; see `videoclr.media.segments`. Needs `like`.

        Raises:
            MediaError: the target holds no video, or `path` cannot be written.
        """
        self._check_inside()
        if not isinstance(self._sink, Film) or self.like is None or self._part == PIPE:
            raise MediaError(self.path, "a run that can be resumed needs a video file as its output")
        self._sink.begin_segment(path)

    def end_segment(self) -> Segment:
        """Finish the segment: on the disk, under its name."""
        assert isinstance(self._sink, Film)
        return self._sink.end_segment()

    def join(self, segments: Iterable[Segment], reorder: int, sealed: Callable[[Path], None] = lambda _: None) -> None:
        """Put finished segments into the file, in order; `reorder` is the largest of theirs. See `Film.join`.

        `sealed` is told the whole file, on the disk, just before it gets its name.
        """
        assert isinstance(self._sink, Film)
        self._sealed = sealed
        self.frames_written = 1  # at least: there is no segment without a frame
        self._sink.join(segments, reorder)

    def finish(self) -> None:
        """Complete the file and give it its name. The `with` block calls this, unless you did.

        Raises:
            EncodeError: no frame was written, or the encoder fails.
            MediaError: the disk is full, the pipe closed, this is no place inside the `with` block, or somebody else made a file of
                that name meanwhile.
        """
        self._check_inside()
        if isinstance(self._sink, Film):
            if self._held is not None:
                self._open_for_own(self._held, None)
            if not self.frames_written:
                raise EncodeError(self.path, "no frame was written")
            self._sink.finish()
            if self._part != PIPE:
                with explained(self.path, "cannot be finished"):
                    self._check_lock()
                    self._sink.mend()
                    if self._sealed is not None:
                        sync_file(Path(self._part))
                        self._sealed(Path(self._part))
                    if not self._overwrite and os.path.isfile(self._place):
                        self._leave_part()
                    os.replace(self._part, self._place)
                self._unlock()
        else:
            if not self.frames_written:
                raise EncodeError(self.path, "no frame was written")
            self._check_lock()
            self._sink.finish()
            self._remove_part()  # of a pattern: no picture has that name
            self._unlock()
        self._state = "over"

    def abort(self) -> None:
        """Leave nothing behind. The `with` block calls this when an exception passes."""
        self._state = "over"
        self._sink.abort()
        self._remove_part()
        self._unlock()

    def _check_inside(self) -> None:
        if self._state != "inside":
            said = "is over; make another one" if self._state == "over" else "begins with its `with` block"
            raise MediaError(self.path, f"nothing can be written: the writer {said}")

    def _check_lock(self) -> None:
        if self._lock is not None and not self._lock.is_there:
            raise MediaError(self.path, f"cannot be finished: {self._part} was removed or replaced while it grew")

    def _leave_part(self) -> None:
        """Of a whole file whose name somebody took: hours of work are nobody's to throw away, and neither is what is there now."""
        self._unlock()
        text = "another program made a file of that name meanwhile, which stays"
        raise MediaError(self.path, f"{text}; the result is whole and called {self._part}: rename it")

    def _remove_part(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                if self._lock.is_there:  # what somebody else put there is somebody else's
                    Path(self._part).unlink(missing_ok=True)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _check_stills(self, first: int) -> None:
        if self.like is None:
            return
        pattern = self._pattern
        info, run = self.like.info, self.like.sequence
        inputs = [run.path(number) for number in range(run.count)] if run else [self.like.path]
        numbers = range(first, first + (run.count if run else 1))
        targets = [numbered(self.path, number) for number in numbers] if pattern else [self.path]
        if {_file(path) for path in targets} & {_file(path) for path in inputs} - {None}:
            raise MediaError(self.path, "is the input itself; write to another name")
        if not pattern and not self.like.is_still and (info.frame_count or 1) > 1:
            text = "holds one picture, and the source has more"
            raise MediaError(self.path, f"{text}; use a pattern such as frame%04d{Path(self.path).suffix}")
        if pattern and not Path(self.path).parent.is_dir():
            raise MediaError(self.path, f"its folder {Path(self.path).parent} does not exist; make it first")

    def _tell_of_others(self, like: Reader) -> None:
        """Warn of what is in the source besides its pictures, which pictures have no place for."""
        streams = list(like.container.streams)
        out = dropped(self._drop, streams, like.stream_index) | {like.stream_index} | still_covers(like.container)
        others = [one for one in streams if one.index not in out and kind_of(one) in _BESIDE and not _is_timecode(one)]
        others = [one for one in others if one.type != "data" or one.discard != Discard.all]  # of QuickTime's chapters
        if opacity := [one for one in others if is_opacity(one)]:
            self._warn(OPAQUE)
        if left := [one for one in others if one not in opacity]:
            are = "is" if len(left) == 1 else "are"
            choice = "; --video-stream chooses another video" if any(one.type == "video" for one in left) else ""
            self._warn(f"{', '.join(map(named, left))} {are} left out: pictures hold nothing besides{choice}")
        if like.label is None and like.timecode is not None and not self._labelled and "data" not in self._drop:
            self._warn(f"the timecode is left out, which begins at {like.timecode}: no picture that is written here says it")
        if texts := [name for name in _TEXTS if any(key.lower() == name for key in like.container.metadata)]:
            self._warn(f"its texts ({', '.join(texts)}) are left out: pictures hold nothing besides")

    def _write_film(self, frame: Frame) -> None:
        assert isinstance(self._sink, Film)
        picture, patches = self._shown(frame)
        size = (picture.frame.width, picture.frame.height)
        if size != self._size and self.frames_written == 1 and self.like is not None:
            # Frames that somebody enlarged on the way: the source's facts, their own size.
            self._sink.open(picture, frame.time, self._tick(self.like.info.time_base), self.like.info.frame_rate)
            self._size = size
        self._sink.write(picture, picture.composite(patches), frame.time, unchanged=picture.stored and not _changes(patches))

    def _open_for_own(self, first: Frame, second: Frame | None) -> None:
        assert isinstance(self._sink, Film)
        picture, _ = self._shown(first)
        step = None if second is None else second.time - first.time
        if step is not None and step <= 0:
            raise EncodeError(self.path, "its time is not after the frame before", second.time if second else None)
        ticks = math.lcm(_TICKS, first.time.denominator, step.denominator if step else 1)
        base = Fraction(1, ticks if ticks <= _FINEST else _TICKS)
        self._sink.open(picture, first.time, base, _GUESSED_RATE if step is None else 1 / step)
        self._size = (picture.frame.width, picture.frame.height)
        self._held = None
        self._write_film(first)

    def _shown(self, frame: Frame) -> tuple[Picture, tuple[Patch, ...]]:
        """The picture to write, and the patches that are still to be put into it."""
        picture, patches = self._picture(frame), frame.patches
        if dpx.says_more(picture.head, clock=not self._labelled) and not self._takes(".dpx"):
            self._warn("what the DPX headers say of film, time and slate is left out; .dpx pictures keep it")
        if exr.is_exr(picture.head) and not self._takes(".exr") and (names := self._unkept(exr.said(picture.head))):
            self._warn(f"what the EXR files say besides ({', '.join(names)}) is left out; .exr pictures keep it")
        if picture.is_light and not self._takes(".exr"):
            picture, patches = self._without_light(picture, patches)
        if isinstance(self._sink, Film) and picture.proxy is not None and picture.proxy.curve == "cineon":
            self._warn("densities of film stay what they are, and the video does not say so; .dpx pictures do, .exr ones get light")
        if self._crop:
            picture, patches = self._shown_part(picture, patches)
        opaque = self._deliverable is not None and self._deliverable.kind == "side-by-side"
        if opaque and (picture.has_alpha or is_clear(picture.frame, picture.colour)):  # which a palette may be
            self._warn("side by side is shown without the transparency of the source")
        if self._deliverable is None:
            return self._straight(picture, patches if isinstance(frame.native, Picture) else ())
        if self._first_time is None:
            self._first_time = frame.time if self.like is None else self.like.first_time
        return self._straight(self._deliverable(picture, patches, frame.time - self._first_time), ())

    def _unkept(self, names: list[str]) -> list[str]:
        """Of what an EXR says, what is lost."""
        return [name for name in names if not (self._labelled and name == exr.TIMECODE)]

    def _without_light(self, picture: Picture, patches: tuple[Patch, ...]) -> tuple[Picture, tuple[Patch, ...]]:
        """Floats for a file that holds none: straight where their alpha stays beside them, else as they are seen, over black."""
        self._warn("floats are written as code values of BT.709, highlights rolled off: .exr pictures keep their light")
        if carries(picture.frame, Type.ICC_PROFILE):  # which is about other numbers
            self._warn("the picture's colour profile (ICC) is left out: its colours may be shown differently")
        stays = self._deliverable is None or self._deliverable.kind == "wipe"
        if picture.coverage() is None or not stays or not self._sink.takes_alpha(picture):
            return displayed(picture), patches
        return displayed(picture, straight=True), tuple(straightened(picture, patch) for patch in patches)

    def _straight(self, picture: Picture, patches: tuple[Patch, ...]) -> tuple[Picture, tuple[Patch, ...]]:
        """A TIFF whose colours are multiplied with its alpha, for files that keep the alpha and have them straight."""
        if picture.is_light or not tiff.is_multiplied(picture.head) or any(map(self._takes, _EITHER)):
            return picture, patches
        if not picture.has_alpha or not self._sink.takes_alpha(picture):
            return picture, patches
        whole = picture.composite(patches)
        frame = unmultiplied(whole)
        return Picture(frame, colour_in(picture, whole), picture.orientation, picture.proxy, picture.woven), ()

    def _takes(self, suffix: str) -> bool:
        """Whether it writes pictures of that ending."""
        return isinstance(self._sink, Stills) and Path(self.path).suffix.lower() == suffix

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            _log.warning("%s: %s", self.path, text)

    def _shown_part(self, picture: Picture, patches: tuple[Patch, ...]) -> tuple[Picture, tuple[Patch, ...]]:
        assert self.like is not None
        wanted = self._crop.scaled(self.like.first_picture.frame, picture.frame)
        crop = exactly(picture, wanted)
        if crop != wanted:
            self._warn("the container's crop is a pixel larger where chroma asks for it")
        return cropped(picture, patches, crop)

    def _picture(self, frame: Frame) -> Picture:
        """The frame's own picture, or one made of its RGB, laid as the source is stored.

        RGB has the patches applied, unless the deliverable wants to know what they changed.
        """
        if isinstance(frame.native, Picture):
            return frame.native
        image = frame.image if self._deliverable is None else frame.source
        if self.like is None:
            return Picture(frame_of_rgb(image, Orientation()))
        first = self.like.first_picture
        # What the reader showed of an HDR picture was its proxy, so that is what a changed image means.
        image = image if first.proxy is None else first.proxy.signal(image)
        made = float_frame(first.orientation.stored(image)) if first.is_light else frame_of_rgb(image, first.orientation)
        made.color_trc, made.color_primaries = first.frame.color_trc, first.frame.color_primaries
        return Picture(made, orientation=first.orientation, proxy=first.proxy)

    @staticmethod
    def _tick(base: Fraction) -> Fraction:
        """A tick that every muxer stores: the source's, unless it is finer than 32 bits can count a few minutes of."""
        return base if base.denominator <= (1 << 31) - 1 else Fraction(1, _TICKS)


def _density(like: Reader) -> Fraction | None:
    """Pixels an inch of the picture that was read, or of the first of a sequence; None of others."""
    path = like.sequence.path(0) if like.sequence else Path(like.path)
    if not (like.sequence or like.is_still) or not path.is_file():
        return None
    with explained(like.path, "cannot be read"), path.open("rb") as file:
        head = file.read(HEAD)
        return density_of(head + file.read() if head[:2] in (b"II", b"MM") else head)


def _is_timecode(stream: Stream) -> bool:
    return stream.type == "data" and "timecode" in stream.metadata


def _is_number(value: object) -> bool:
    return isinstance(value, Real)


def _is_option(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, str | Real)


def _label(like: Reader) -> Timecode | None:
    """The timecode of the first picture to write, where a picture's header can say it."""
    label, rate = like.timecode, like.info.frame_rate
    if label is None or rate is None or label.word(rate) is None:
        return None
    return like.label_of_first(label)


def first_number(like: Reader) -> int:
    """Of the first picture to write: a part of a numbered sequence keeps its numbers."""
    if like.sequence is None:
        return 1
    return like.sequence.first + round((like.first_time - like.begin) * (like.info.frame_rate or _GUESSED_RATE))


def _changes(patches: Sequence[Patch]) -> bool:
    """Whether any of `patches` shows; the gate may have faded all of one away."""
    return any(patch.alpha.any() for patch in patches)


def _file(path: str | Path) -> tuple[int, int] | None:
    """Which file that is, whatever it is called; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

"""Opening what a person names, and saying in one line why it cannot be opened."""

from __future__ import annotations

import io
import os
import re
import select
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from videoclr.errors import ConfigError, MediaError
from videoclr.media.continuous import continuous
from videoclr.media.cutoff import begins_another, is_cut_off
from videoclr.media.faults import AV_ERRORS, explained, is_system_error, reason
from videoclr.media.filelist import check_alike, is_list, names_in, part_of, script
from videoclr.media.opening import Opening, playlist_kind
from videoclr.media.tiles import assembled

PIPE = "-"
_PATTERN = re.compile(r"%0?(?P<width>\d*)d|(?P<marks>#{2,}|@{2,})")
"""Where the number of a picture stands: in C's way, or as compositing programs write it, a mark a digit. One alone is a name's."""
_OTHER_NUMBERING = re.compile(r"[#@*?]|\$F|[\[{<(]\d+-\d+[\]}>)]")
"""What else programs write for it, and for a range of them."""
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_TEXT_DEMUXERS = {"tty", "bin", "xbin", "adf", "idf", "lavfi"}
"""FFmpeg shows any text file as ANSI art; nobody means that here."""
PICTURE_RATE = Fraction(25)
"""Loose pictures a second, where nobody says otherwise."""
TIMELESS = {"rawvideo", "image2", "image2pipe", "v210", "v210x", "bitpacked", "h264", "hevc", "vvc", "obu", "mjpeg"}
"""Inputs that can be told how many pictures a second they are."""
_RAW_ENDINGS = {".yuv", ".rgb"}
ANYTHING = Opening()
"""Find out what it is; reach nothing else; the limits by default."""
_STANDARD_INPUT = 0
_APART = "cut it there, and name both files in a list (.ffconcat)"
_IN_A_ROW = 50
"""Failed reads in a row after which the rest of a file is given up."""
_MOVING = ("avis", "msf1", "hevc", "hevs")
"""Brands of AVIF and HEIC files that hold a row of pictures beside a still one."""
_STILL = ("mif1", "heic", "heix", "heim", "heis", "avif")
"""Brands of those that hold a still one (ISO/IEC 23008-12, 10.2 and B.4; AVIF, 6)."""


class Unread(Exception):
    """A part of the file is not read."""


@dataclass(frozen=True, slots=True)
class Run:
    """A numbered run of pictures."""

    pattern: str
    """As the user wrote it, with one `%d`, `%04d` or `####`."""
    first: int
    count: int

    def path(self, index: int) -> Path:
        """Of the picture number `index`, counted from 0."""
        return Path(numbered(self.pattern, self.first + index))


class Piped:
    """Standard input as it comes, for FFmpeg, which does not tell how much that was."""

    def __init__(self) -> None:
        self.came = 0
        """Bytes read so far."""
        self._stopped: KeyboardInterrupt | None = None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty at the end. Waits for the first of them.

        Raises:
            OSError: there is no standard input.
        """
        while self._stopped is None:  # FFmpeg asks again at an end
            try:
                data = os.read(_STANDARD_INPUT, size)
            except BlockingIOError:  # whoever made the pipe said that nobody is to wait for it
                select.select([_STANDARD_INPUT], [], [])
                continue
            except KeyboardInterrupt as stop:  # FFmpeg, which calls this, passes none on
                self._stopped = stop
                break
            self.came += len(data)
            return data
        return b""

    def check(self) -> None:
        """Tell what an end of the input was in truth.

        Raises:
            KeyboardInterrupt: somebody stopped the waiting.
        """
        if self._stopped is not None:
            raise self._stopped


def bytes_in(container: InputContainer) -> int | None:
    """How many bytes an input that was read to its end had; None where nobody tells."""
    if (piped := _piped(container)) is not None:
        return piped.came
    return container.size if container.size >= 0 else None


def last_written(path: str) -> tuple[int, int, int] | None:
    """When somebody wrote to a file, and by which numbers it stays known where another one takes its name; None for no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return (found.st_mtime_ns, found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _piped(container: InputContainer) -> Piped | None:
    came = getattr(container.file, "file", None)
    return came if isinstance(came, Piped) else None


def is_pattern(path: str) -> bool:
    """True for `face%04d.png` and `face####.png` where no file has that very name."""
    return len(_PATTERN.findall(Path(path).name)) == 1 and not Path(path).exists()


def has_width(pattern: str) -> bool:
    """Whether a pattern says how many digits it has (`%04d`, `####`): no other name has that by chance."""
    found = _PATTERN.search(Path(pattern).name)
    return found is not None and _digits(found) > 0


def _digits(found: re.Match[str]) -> int:
    """How many digits a number has at least; 0 where the pattern does not say."""
    return len(found["marks"] or "") or int(found["width"] or 0)


def numbered(pattern: str, number: int) -> str:
    """The name of picture `number` of a pattern."""
    folder, name = str(Path(pattern).parent), Path(pattern).name
    return str(Path(folder) / _PATTERN.sub(lambda found: f"{number:0{_digits(found) or 1}d}", name))


def _as_printf(folder: str, name: str) -> str:
    """The pattern as C's printf reads it, which takes every percent sign for its own."""
    found = _PATTERN.search(name)
    assert found is not None
    head, tail = (text.replace("%", "%%") for text in (folder + name[: found.start()], name[found.end() :]))
    return f"{head}%0{_digits(found) or 1}d{tail}"


def matching(pattern: str) -> list[int]:
    """Numbers of the existing files of a pattern, sorted."""
    path = Path(pattern)
    found = _PATTERN.search(path.name)
    if found is None or not path.parent.is_dir():
        return []
    head, tail = path.name[: found.start()], path.name[found.end() :]
    numbers = re.compile(re.escape(head) + r"(\d+)" + re.escape(tail))
    hits = (numbers.fullmatch(entry.name) for entry in path.parent.iterdir())
    values = sorted({int(hit[1]) for hit in hits if hit})
    return [value for value in values if Path(numbered(pattern, value)).is_file()]


def is_of(path: str | Path, pattern: str) -> bool:
    """Whether `path` leads to a place of the sequence `pattern`, whether or not a picture is there yet."""
    file = Path(path).resolve()
    found = _PATTERN.search(Path(pattern).name)
    if found is None or not is_pattern(pattern) or file.parent != Path(pattern).parent.resolve():
        return False
    name = Path(pattern).name
    number = re.fullmatch(re.escape(name[: found.start()]) + r"(\d+)" + re.escape(name[found.end() :]), file.name)
    return number is not None and Path(numbered(pattern, int(number[1]))).name == file.name


def sequence_of(pattern: str, start_number: int | None = None) -> Run:
    """The run that `pattern` names, from `start_number` on (None: from its lowest number).

    Raises:
        MediaError: there is none, it has a gap, or one of its files is empty.
    """
    numbers = matching(pattern)
    if start_number is not None:
        if start_number not in numbers:
            there = f"; there are {numbers[0]} to {numbers[-1]}" if numbers else ""
            raise MediaError(pattern, f"picture number {start_number} is missing{there}")
        numbers = numbers[numbers.index(start_number) :]
    if not numbers:
        raise MediaError(pattern, "no file matches this pattern; %04d and #### stand for 0000, 0001, ...")
    first = numbers[0]
    gap = next((first + i for i, number in enumerate(numbers) if number != first + i), None)
    if gap is not None:
        raise MediaError(pattern, f"the sequence has a gap: {Path(numbered(pattern, gap)).name} is missing")
    with explained(pattern, "cannot be opened"):  # FFmpeg takes an empty one for the end
        empty = next((number for number in numbers if not Path(numbered(pattern, number)).stat().st_size), None)
    if empty is not None:
        raise MediaError(pattern, f"{Path(numbered(pattern, empty)).name} is empty (0 bytes); copy or export it again")
    return Run(pattern, first, len(numbers))


def open_input(
    path: str, rate: Fraction | None = None, opening: Opening = ANYTHING, hwaccel: HWAccel | None = None
) -> InputContainer:
    """Open a file, URL, printf pattern or `-` for reading; it reaches and claims no more than `opening` allows.

    A file whose picture is made of tiles is opened as one with the whole of it (`videoclr.media.tiles`).

    Args:
        path: what to open.
        rate: pictures a second of an input that does not say so itself; None for `PICTURE_RATE`.
        opening: see there.
        hwaccel: the device that decodes the video; None for the processor.

    Raises:
        MediaError: it cannot be opened; the message says what it is and what to do.
        ConfigError: an address of a kind that is not taken.
    """
    name: str | Piped = path
    form = opening.format
    options = {"framerate": str(rate)} if rate is not None else {}
    if path == PIPE:
        if sys.stdin is not None and sys.stdin.isatty():
            raise MediaError(path, "nothing comes through the pipe: the input is a terminal")
        name = Piped()
    elif is_pattern(path):
        run = sequence_of(path, opening.start_number)
        folder, dash, file = path.rpartition("/")
        name, form = f"file:{_as_printf(folder + dash, file)}", "image2"
        options = {"start_number": str(run.first), "framerate": str(rate or PICTURE_RATE), "pattern_type": "sequence"}
    elif not _URL.match(path) and is_list(path):
        _check_file(path)
        return _open_list(path, rate, opening, hwaccel)
    elif not _URL.match(path):
        _check_file(path)
        name = f"file:{path}"
        options["pattern_type"] = "none"  # or image2 would read other files than the one called `a%d.png`
    try:
        # Tags in odd encodings pass through byte for byte instead of raising.
        allowed = options | opening.options(scheme_of(path))
        container = av.open(name, "r", format=form, options=allowed, metadata_errors="surrogateescape", hwaccel=hwaccel)
    except AV_ERRORS as error:
        if isinstance(name, Piped):
            name.check()
        raise MediaError(path, _why_not(path, error, opening)) from error
    try:
        _check_form(path, container.format.name, rate, opening)
        whole = assembled(path, opening.limits) if name == f"file:{path}" and _is_tiled(container) else None
    except BaseException:
        container.close()
        raise
    if whole is None:
        return container
    container.close()
    options = opening.options(scheme_of(path))
    return av.open(io.BytesIO(whole), "r", options=options, metadata_errors="surrogateescape", hwaccel=hwaccel)


def _open_list(path: str, rate: Fraction | None, opening: Opening, hwaccel: HWAccel | None) -> InputContainer:
    parts = []
    for name in names_in(path):
        if is_list(str(name)):
            raise MediaError(path, f"{name.name} is a list itself; name its files here")
        with open_input(str(name), rate, opening) as container:
            form, is_assembled = container.format.name, container.name != f"file:{name}"
            if form.endswith("_pipe") or form.startswith("image2") or is_assembled:
                raise MediaError(path, f"{name.name} is a picture; give pictures by a pattern such as shot.%04d.png")
            parts.append(part_of(name, container, video_of(str(name), container)))
    check_alike(path, parts)
    options = opening.options("file") | {"safe": "0"}
    options["format_whitelist"] += ",concat"  # of the parts none is a list, see above
    try:
        parts_in = io.BytesIO(script(parts))
        return av.open(parts_in, "r", format="concat", options=options, metadata_errors="surrogateescape", hwaccel=hwaccel)
    except AV_ERRORS as error:
        raise MediaError(path, f"its files cannot be joined ({reason(error)})") from error


def scheme_of(path: str) -> str:
    """`pipe`, `file`, or the scheme of an address."""
    if path == PIPE:
        return "pipe"
    return path.partition(":")[0].lower() if _URL.match(path) else "file"


def _check_form(path: str, form: str, rate: Fraction | None, opening: Opening) -> None:
    if form in _TEXT_DEMUXERS:
        raise MediaError(path, "not a video or picture, but text")
    if rate is not None and not (form in TIMELESS or form.endswith("_pipe")):
        raise ConfigError(f"$.media.input.rate: {form} knows its own rate; only raw video and loose pictures are told one")
    if opening.start_number is not None and not is_pattern(path):
        told = "is for numbered pictures such as shot.%04d.png alone"
        raise ConfigError(f"$.media.input.start_number: {told}; --output-start-number (media.start_number) numbers what is written")


def _check_file(path: str) -> None:
    file = Path(path)
    try:
        if file.is_dir():
            raise MediaError(path, "is a directory; name a file, or its pictures by a pattern such as frame%04d.png")
        if not file.exists():
            so = "; numbered pictures are named shot.%04d.png or shot.####.png" if _OTHER_NUMBERING.search(file.name) else ""
            raise MediaError(path, f"no such file; check the name and the folder{so}")
        if file.is_fifo():
            raise MediaError(path, "is a pipe, which can be read once only; give it as standard input: videoclr - OUTPUT < PIPE")
        if file.is_file() and file.stat().st_size == 0:
            raise MediaError(path, "is empty (0 bytes); copy or export it again")
    except OSError as error:
        raise MediaError(path, f"cannot be opened: {reason(error)}") from error


def _why_not(path: str, error: BaseException, opening: Opening) -> str:
    if isinstance(error, MemoryError):
        return f"asks for more memory than there is, or for more than media.limits.streams={opening.limits.streams} streams"
    if is_system_error(error):
        return f"cannot be opened: {reason(error)}"
    if opening.format is not None:
        return f"cannot be read as {opening.format} ({reason(error)})"
    if path == PIPE:
        return "the pipe carries no video that can be read from front to back; send NUT or Matroska (ffmpeg -f nut -)"
    if not _URL.match(path) and not is_pattern(path):
        with Path(path).open("rb") as file:
            head = file.read(4096)
        if (kind := playlist_kind(head)) is not None and not opening.playlists:
            return f"is {kind}, which opens other files; allow that with media.input.playlists=true if you trust it"
        if head[4:8] in (b"ftyp", b"wide", b"mdat", b"moov"):
            return "the index is missing: the file was cut off while it was recorded or copied; copy it again"
    if Path(path).suffix.lower() in _RAW_ENDINGS:
        return "raw pictures say nothing of themselves: give --input-format rawvideo, --video-size, --input-pix-fmt and --rate"
    return f"not a video or picture that FFmpeg can read ({reason(error)})"


def video_of(path: str, container: InputContainer, number: int = 0) -> VideoStream:
    """The stream to restore: of those that are no cover pictures, the one with this number, counted from 0 (in an icon, from the
    largest one on).

    Raises:
        MediaError: there is none, or no decoder for it, or it is one tile of a picture.
        ConfigError: there are some, but not so many.
    """
    covers = still_covers(container)
    videos = [one for one in container.streams.video if one.index not in covers]
    streams = [one for one in videos if not one.disposition & Disposition.attached_pic]
    if container.format.name == "ico":  # the same picture in several sizes
        streams.sort(key=lambda one: -one.width * one.height)
    if number < len(streams):
        if _is_tiled(container):
            why = "its picture is made of tiles, which are put together from a file of its own alone"
            raise MediaError(path, f"{why}; copy it here, or convert it to PNG first")
        if streams[number].codec_context is None:
            raise MediaError(path, "its video codec is unknown to this FFmpeg; convert the file first")
        return streams[number]
    if streams:
        raise ConfigError(f"$.media.video_stream: {path} has {len(streams)} video stream(s), counted from 0; there is no {number}")
    if container.streams.audio:
        raise MediaError(path, "has sound but no pictures; name a file with a video stream")
    raise MediaError(path, "holds no video stream; name a video or a picture")


def still_covers(container: InputContainer) -> set[int]:
    """Indices of the still pictures that stand for the animation of an AVIF or HEIC file; empty for other files."""
    if not _has_brand(container, _MOVING):
        return set()
    stills = {one.index for one in container.streams.video if _is_item(one)}
    return stills if len(stills) < len(container.streams.video) else set()


def is_still_item(container: InputContainer, stream: VideoStream) -> bool:
    """Whether `stream` is the still picture of an AVIF or HEIC file, rather than a film of one picture."""
    return _has_brand(container, _STILL) and _is_item(stream)


def _is_item(stream: VideoStream) -> bool:
    """Whether FFmpeg made a stream of a still picture: films have other clocks."""
    return stream.frames == 1 and stream.time_base == 1


def _has_brand(container: InputContainer, brands: Sequence[str]) -> bool:
    """Whether a file of the MP4 family says that it is one of `brands`."""
    tags = container.metadata
    said = tags.get("major_brand", "") + tags.get("compatible_brands", "")
    return "mov" in container.format.name and any(said[at : at + 4] in brands for at in range(0, len(said), 4))


def _is_tiled(container: InputContainer) -> bool:
    """Whether the picture of the file is in tiles, which are streams of their own, and in none of its other streams."""
    if "mov" not in container.format.name:
        return False
    said = [one.disposition for one in container.streams.video]
    return any(one & Disposition.dependent for one in said) and not any(
        one & Disposition.default and not one & Disposition.dependent for one in said
    )


def clock_may_jump(container: InputContainer) -> bool:
    """Whether times may begin anew in the middle of such a file: then a time does not say where to seek."""
    return bool(container.format.flags & cast("int", Flags.ts_discont.value))


def demuxed(
    container: InputContainer, streams: Sequence[Stream], on_error: Callable[[BaseException], None]
) -> Iterator[Packet[Stream]]:
    """Packets of `streams` in file order; a read that fails is told to `on_error` and reading goes on behind it.

    Where a format's clock may begin anew in the middle, times are made to go on (`videoclr.media.continuous`).
    """
    pictures = next((one for one in container.streams.video if not one.disposition & Disposition.attached_pic), None)
    if pictures is None or not clock_may_jump(container):
        yield from _read(container, streams, on_error)
        return

    wanted = {stream.index for stream in streams}

    for packet in continuous(_read(container, [*streams, pictures], on_error), pictures.index, on_error):
        if packet.stream_index in wanted:
            yield packet


def _read(
    container: InputContainer, streams: Sequence[Stream], on_error: Callable[[BaseException], None]
) -> Iterator[Packet[Stream]]:
    """PyAV's own iterator is finished by the first error, so it is started again."""
    streams = list(dict.fromkeys(streams))
    for stream in container.streams:
        if stream not in streams:
            stream.discard = Discard.all
    pictures, is_ivf = _pictures_in(container), container.format.name == "ivf"
    failures = 0
    while True:
        try:
            for packet in container.demux(*streams):
                failures = 0
                if packet.size:
                    if is_ivf and begins_another(packet):
                        on_error(Unread(f"another IVF file follows in it at byte {packet.pos}, of which nothing is read; {_APART}"))
                        return
                    if pictures is not None and is_cut_off(pictures, packet):
                        on_error(ValueError("a picture is cut off; what is missing of it is made up"))
                    yield packet
            if (piped := _piped(container)) is not None:
                piped.check()
            return
        except AV_ERRORS as error:
            failures += 1
            on_error(ValueError("a stream that begins late is left out") if isinstance(error, IndexError) else error)
            if failures >= _IN_A_ROW or is_system_error(error):
                return


def _pictures_in(container: InputContainer) -> str | None:
    """FFmpeg's name of the codec in a file of one picture, of several loose ones, or in a GIF; None for others."""
    form, videos = container.format.name, container.streams.video
    if not (form.startswith("image2") or form.endswith("_pipe") or form == "gif") or not videos:
        return None
    return None if videos[0].codec_context is None else videos[0].codec_context.name

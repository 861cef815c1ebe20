"""Opening what a person names, and saying in one line why it cannot be opened."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from videoclr.errors import ConfigError, MediaError
from videoclr.media.faults import AV_ERRORS, is_system_error, reason

PIPE = "-"
_PATTERN = re.compile(r"%0?(\d*)d")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_TEXT_DEMUXERS = {"tty", "bin", "xbin", "adf", "idf", "lavfi"}
"""FFmpeg shows any text file as ANSI art; nobody means that here."""
_IN_A_ROW = 50
"""Failed reads in a row after which the rest of a file is given up."""


@dataclass(frozen=True, slots=True)
class Run:
    """A numbered run of pictures."""

    pattern: str
    """As the user wrote it, with one `%d` or `%04d`."""
    first: int
    count: int

    def path(self, index: int) -> Path:
        """Of the picture number `index`, counted from 0."""
        return Path(numbered(self.pattern, self.first + index))


def is_pattern(path: str) -> bool:
    """True for `face%04d.png` where no file has that very name."""
    return len(_PATTERN.findall(Path(path).name)) == 1 and not Path(path).exists()


def numbered(pattern: str, number: int) -> str:
    """The name of picture `number` of a printf pattern."""
    folder, name = str(Path(pattern).parent), Path(pattern).name
    return str(Path(folder) / _PATTERN.sub(lambda found: f"{number:0{found[1] or 1}d}", name))


def matching(pattern: str) -> list[int]:
    """Numbers of the existing files of a printf pattern, sorted."""
    path = Path(pattern)
    found = _PATTERN.search(path.name)
    if found is None or not path.parent.is_dir():
        return []
    head, tail = path.name[: found.start()], path.name[found.end() :]
    numbers = re.compile(re.escape(head) + r"(\d+)" + re.escape(tail))
    hits = (numbers.fullmatch(entry.name) for entry in path.parent.iterdir())
    values = sorted({int(hit[1]) for hit in hits if hit})
    return [value for value in values if Path(numbered(pattern, value)).is_file()]


def sequence_of(pattern: str) -> Run:
    """The run that `pattern` names.

    Raises:
        MediaError: there is none, or it has a gap.
    """
    numbers = matching(pattern)
    if not numbers:
        raise MediaError(pattern, "no file matches this pattern; %04d stands for 0000, 0001, ...")
    first = numbers[0]
    gap = next((first + i for i, number in enumerate(numbers) if number != first + i), None)
    if gap is not None:
        raise MediaError(pattern, f"the sequence has a gap: {Path(numbered(pattern, gap)).name} is missing")
    return Run(pattern, first, len(numbers))


def open_input(path: str, rate: Fraction) -> InputContainer:
    """Open a file, URL, printf pattern (at `rate` pictures a second) or `-` for reading.

    Raises:
        MediaError: it cannot be opened; the message says what it is and what to do.
    """
    name, form, options = path, None, {}
    if path == PIPE:
        if sys.stdin is not None and sys.stdin.isatty():
            raise MediaError(path, "nothing comes through the pipe: the input is a terminal")
        name = "pipe:0"
    elif is_pattern(path):
        run = sequence_of(path)
        name, form = f"file:{path}", "image2"
        options = {"start_number": str(run.first), "framerate": str(rate), "pattern_type": "sequence"}
    elif not _URL.match(path):
        _check_file(path)
        name = f"file:{path}"
    try:
        # Tags in odd encodings pass through byte for byte instead of raising.
        container = av.open(name, "r", format=form, options=options, metadata_errors="surrogateescape")
    except AV_ERRORS as error:
        raise MediaError(path, _why_not(path, error)) from error
    if container.format.name in _TEXT_DEMUXERS:
        container.close()
        raise MediaError(path, "not a video or picture, but text")
    return container


def _check_file(path: str) -> None:
    file = Path(path)
    try:
        if file.is_dir():
            raise MediaError(path, "is a directory; name a file, or its pictures by a pattern such as frame%04d.png")
        if not file.exists():
            raise MediaError(path, "no such file; check the name and the folder")
        if file.is_file() and file.stat().st_size == 0:
            raise MediaError(path, "is empty (0 bytes); copy or export it again")
    except OSError as error:
        raise MediaError(path, f"cannot be opened: {reason(error)}") from error


def _why_not(path: str, error: BaseException) -> str:
    if is_system_error(error):
        return f"cannot be opened: {reason(error)}"
    if path == PIPE:
        return "the pipe carries no video that can be read from front to back; send NUT or Matroska (ffmpeg -f nut -)"
    if not _URL.match(path) and not is_pattern(path):
        with Path(path).open("rb") as file:
            head = file.read(12)
        if head[4:8] in (b"ftyp", b"wide", b"mdat", b"moov"):
            return "the index is missing: the file was cut off while it was recorded or copied; copy it again"
    return f"not a video or picture that FFmpeg can read ({reason(error)})"


def video_of(path: str, container: InputContainer, number: int = 0) -> VideoStream:
    """The stream to restore: of those that are no cover pictures, the one with this number, counted from 0.

    Raises:
        MediaError: there is none, or no decoder for it.
        ConfigError: there are some, but not so many.
    """
    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if number < len(streams):
        if streams[number].codec_context is None:
            raise MediaError(path, "its video codec is unknown to this FFmpeg; convert the file first")
        return streams[number]
    if streams:
        raise ConfigError(f"$.media.video_stream: {path} has {len(streams)} video stream(s), counted from 0; there is no {number}")
    if container.streams.audio:
        raise MediaError(path, "has sound but no pictures; name a file with a video stream")
    raise MediaError(path, "holds no video stream; name a video or a picture")


def demuxed(
    container: InputContainer, streams: Sequence[Stream], on_error: Callable[[BaseException], None]
) -> Iterator[Packet[Stream]]:
    """Packets of `streams` in file order; a read that fails is told to `on_error` and reading goes on behind it.

    PyAV's own iterator is finished by the first error, so it is started again.
    """
    for stream in container.streams:
        if stream not in streams:
            stream.discard = Discard.all
    failures = 0
    while True:
        try:
            for packet in container.demux(*streams):
                failures = 0
                if packet.size:
                    yield packet
            return
        except AV_ERRORS as error:
            failures += 1
            on_error(error)
            if failures >= _IN_A_ROW or is_system_error(error):
                return

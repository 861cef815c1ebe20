"""Several files as one input: a list in the form of FFmpeg's concat demuxer, read by this module and not by FFmpeg.

    ffconcat version 1.0
    file GX010042.MP4
    file 'GX020042 (last).MP4'

Only `.ffconcat` is a list; `file` and comments (`#`) are all it may say. Names are relative and lie in the list's folder or
below, and none of them is a list or a playlist itself: a list from a stranger opens nothing that was not beside it.

FFmpeg joins the parts (one decoder, one clock, copies of the sound), from a list that is made here. It would let each part last as
long as its longest stream, rounded by the container, and so shift the next one by some milliseconds: here a part lasts as long as
its pictures, exactly, and sound beyond them is cut.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from videoclr.errors import MediaError
from videoclr.media.headers import rate_of

SUFFIX = ".ffconcat"
MOST_BYTES = 1 << 20
"""Of a list."""
_HEADER = "ffconcat version 1.0"
_TOLD = {"mov,mp4,m4a,3gp,3g2,mj2", "mxf", "avi"}
"""Containers whose index tells exactly how long the pictures last."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a list, as it was found."""

    path: Path
    start: Fraction
    """First presentation time of any stream, seconds."""
    begin: Fraction
    """Presentation time of the first picture, seconds."""
    end: Fraction
    """Presentation time at which the last picture ends, seconds."""
    kind: tuple[Any, ...]
    """What must be equal in all parts, stream by stream."""


def is_list(path: str) -> bool:
    """Whether `path` is named as a list of files."""
    return Path(path).suffix.lower() == SUFFIX


def names_in(path: str) -> list[Path]:
    """The files that a list names, in order.

    Raises:
        MediaError: not such a list, a name that leads out of its folder, or a file that is not there.
    """
    listed = Path(path)
    try:
        if listed.stat().st_size > MOST_BYTES:
            raise MediaError(path, f"is larger than a list of files may be ({MOST_BYTES} bytes)")
        lines = listed.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise MediaError(path, "is no list of files: it is not UTF-8 text") from error
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror})") from error
    if not lines or lines[0].strip() != _HEADER:
        raise MediaError(path, f"is no list of files: its first line must be `{_HEADER}`")
    found = [_named(path, number, line) for number, line in enumerate(lines[1:], 2) if line.strip() and line.strip()[0] != "#"]
    if not found:
        raise MediaError(path, "names no file; write lines such as: file 'first.mp4'")
    return found


def _named(path: str, number: int, line: str) -> Path:
    where = f"line {number}"
    words = shlex.shlex(line, posix=True, punctuation_chars=False)
    words.whitespace_split, words.quotes, words.commenters = True, "'", ""
    try:
        directive, *names = list(words)
    except ValueError as error:
        raise MediaError(path, f"{where}: a quote is not closed") from error
    if directive != "file":
        raise MediaError(path, f"{where}: {directive!r} is not understood; only `file NAME` is, so cut or retime parts beforehand")
    if len(names) != 1 or not names[0] or "\0" in names[0]:
        raise MediaError(path, f"{where}: expected one name; put quotes around one with spaces: file 'my film.mp4'")
    folder, name = Path(path).parent, Path(names[0])
    if name.is_absolute() or ".." in name.parts:
        raise MediaError(path, f"{where}: {names[0]} leads out of the list's folder; put list and files together")
    part = folder / name
    if not part.is_file():
        raise MediaError(path, f"{where}: {part} is not there")
    if not part.resolve().is_relative_to(folder.resolve()):
        raise MediaError(path, f"{where}: {names[0]} is a link that leads out of the list's folder; copy the file")
    return part


def part_of(path: Path, container: InputContainer, video: VideoStream) -> Part:
    """What joining needs to know of an opened part; reads the file to its end where its index does not tell its length."""
    base = Fraction(video.time_base or 1)
    micro = Fraction(1, 1_000_000)
    start = Fraction(container.start_time or 0) * micro
    kind = tuple(_kind(stream) for stream in container.streams if stream.type in ("video", "audio", "subtitle"))
    if container.format.name in _TOLD and video.duration is not None and video.start_time is not None:
        begin = video.start_time * base
        return Part(path, start, begin, begin + video.duration * base, kind)
    first: int | None = None
    last = 0
    step = round(1 / ((rate_of(video) or Fraction(25)) * base))
    for packet in container.demux(video):
        if packet.size and packet.pts is not None:
            first = packet.pts if first is None else min(first, packet.pts)
            last = max(last, packet.pts + (packet.duration or step))
    if first is None:
        raise MediaError(path, "holds no picture with a time")
    return Part(path, start, first * base, last * base, kind)


def _kind(stream: Stream) -> tuple[Any, ...]:
    context: Any = stream.codec_context
    if context is None:
        return (stream.type, stream.time_base)
    if stream.type == "video":
        facts: tuple[Any, ...] = (context.width, context.height, context.pix_fmt)
    else:
        facts = (context.sample_rate, context.layout.name) if stream.type == "audio" else ()
    return (stream.type, context.codec.canonical_name, *facts, f"ticks of {stream.time_base} s")


def check_alike(path: str, parts: Sequence[Part]) -> None:
    """Refuse parts that one decoder cannot take one after the other.

    Raises:
        MediaError: one differs from the first; the message says in what.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.kind != first.kind:
            pairs = [(one, other) for one, other in zip(first.kind, part.kind, strict=False) if one != other]
            told = (
                [", ".join(map(str, kind)) for kind in pairs[0]] if pairs else [f"{len(one.kind)} streams" for one in (first, part)]
            )
            raise MediaError(path, f"{part.path.name} is not like {first.path.name}: {told[1]}, not {told[0]}; convert it first")


def script(parts: Sequence[Part]) -> bytes:
    """The list that FFmpeg gets: absolute names, and how long each part lasts."""
    lines = [_HEADER]
    for part, following in zip(parts, [*parts[1:], parts[-1]], strict=True):
        quoted = str(part.path.resolve()).replace("'", r"'\''")
        # FFmpeg counts a part from its first stream. Sound before the pictures of the next part would open a gap between the
        # pictures: it begins earlier, under the end of this part, whose sound is there already.
        lead = following.begin - following.start
        length = max(part.end - part.start - lead, Fraction(1, 1_000_000))
        lines += [f"file 'file:{quoted}'", f"duration {_clock(length)}", f"outpoint {_clock(part.end)}"]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _clock(seconds: Fraction) -> str:
    return f"{float(seconds):.6f}"

"""What the finished file says about itself, compared with what it was told.

Which tags, languages and dispositions a muxer keeps stands in no table that can be trusted, so the file is opened again and asked.
MP4 and QuickTime then get what is missing put into their index; what is lost elsewhere becomes a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoclr.errors import MediaError
from videoclr.media.boxes import Amendments, Described, amend, three_dimensional
from videoclr.media.crop import Crop
from videoclr.media.faults import AV_ERRORS, reason
from videoclr.media.headers import siting_of
from videoclr.media.languages import three_letters
from videoclr.media.target import MOV, PLAIN

_Told = TypeVar("_Told")
REEL = "reel_name"
"""Tag of the file or of a stream: the tape, roll or card that the pictures are from."""
PROVENANCE = "provenance"
"""Tag of the file that says what was done to it."""
_UNSAID = (None, "", "und")
_COUNTING = MOV | {"avi", "mxf"}
"""Muxers whose files say how many pictures they hold."""
_COUNTED = ("video", "audio", "subtitle")
"""Types of streams that say what they are."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a stream was told to be."""

    index: int
    kind: str
    language: str | None
    title: str | None
    disposition: Disposition


@dataclass(frozen=True, slots=True)
class Kept:
    """What an output was told."""

    muxer: str
    tags: Mapping[str, str]
    streams: tuple[_Said, ...]
    chapters: int
    video: int
    """Number of the restored stream."""
    reel: str
    """Its name, whatever was told it; empty for none."""
    entries: Mapping[int, bytes]
    """Of the restored video: boxes that say how it is to be looked at; empty for a flat picture."""
    crops: Mapping[int, Crop]
    """Of the restored video: what the file is to hide of it; empty where it shows all."""
    siting: str = ""
    """Of the restored video: where chroma lies beside luma; see `headers.siting_of`."""
    described: Mapping[int, Described] = field(default_factory=dict)
    """Of copied streams: what is in data that FFmpeg has no name for."""
    data: tuple[int, ...] = ()
    """Numbers of the copied streams of data."""

    @classmethod
    def of(cls, container: OutputContainer, muxer: str, video: int, picture: VideoFrame, crop: Crop) -> Self:
        """Everything that `container`, whose header is not written yet, was told.

        `picture` is the first of its stream `video`, `crop` what is to be hidden of it.
        """
        counted = [one for one in container.streams if one.type in _COUNTED and not one.disposition & Disposition.attached_pic]
        streams = tuple(_said(one) for one in counted)
        boxes = three_dimensional(picture) if muxer in MOV else b""
        entries = {video: boxes} if boxes else {}
        reel = next(iter(_reels(container)), "")
        tags = {key: value for key, value in container.metadata.items() if key.lower() != REEL}
        data = tuple(one.index for one in container.streams if one.type == "data")
        crops = {video: crop} if crop else {}
        return cls(muxer, tags, streams, len(container.chapters()), video, reel, entries, crops, data=data)

    def mend(self, place: str, path: str, pictures: int) -> list[str]:
        """Put what is missing into the finished file at `place`, and say in one line each what it cannot keep.

        `path` is what the user calls it; `pictures` is how many of them were given to the muxer.

        Raises:
            MediaError: it cannot be read or written, or holds fewer pictures.
        """
        if self.muxer in PLAIN:
            return []  # nothing but pictures can be in it, nor is anything else expected
        try:
            with av.open(f"file:{place}", metadata_errors="surrogateescape") as found:
                kept, warnings = self._placed(found)
                kept._check_count(found, path, pictures)
                tags = self._missing_tags(found)
                languages = kept._missing_languages(found)
                warnings += kept._lost(found)
                if self.muxer in MOV and self._lacks_reel(found):
                    tags[REEL] = self.reel
        except av.EOFError:  # of a transport stream shorter than what FFmpeg wants to see before it believes in one
            return ["the file is too short to be read again: whether its tags are kept was not checked"]
        except AV_ERRORS as error:
            raise MediaError(path, f"cannot be read again: {reason(error)}") from error
        if self.muxer in MOV:
            nameless = sorted({language for language in languages.values() if three_letters(language) is None})
            if nameless:
                warnings.append(f"{self.muxer} does not keep the languages {', '.join(nameless)} of the streams; mkv does")
            languages = {index: language for index, language in languages.items() if language not in nameless}
            changes = Amendments(languages, dict(kept.entries), dict(kept.crops), dict(kept.described), tags)
            if changes:
                try:
                    amend(place, changes, quicktime=self.muxer == "mov")
                except AV_ERRORS as error:
                    raise MediaError(path, f"its tags cannot be written: {reason(error)}") from error
            return warnings
        tags = {key: value for key, value in tags.items() if key.lower() != PROVENANCE}  # nobody asked for it
        if tags:
            warnings.append(f"{self.muxer} does not keep the tags {', '.join(sorted(tags))}; mkv and mov do")
        if languages:
            warnings.append(f"{self.muxer} does not keep the languages of the streams; mkv and mov do")
        return warnings

    def _placed(self, found: InputContainer) -> tuple[Self, list[str]]:
        """The same by the numbers that streams have in the file, and one line for each that is not in it.

        FFmpeg's muxer of MP4 and QuickTime writes no track that nothing was given to; the others keep their track IDs, and the
        timecode's that it makes itself may get the ID of the one that is missing.
        """
        told = [stream for stream in found.streams if stream.id and not (stream.type == "data" and "timecode" in stream.metadata)]
        places = {stream.id - 1: stream.index for stream in told} if self.muxer in MOV else {}
        ours = sorted([*((one.index, one.kind) for one in self.streams), *((index, "data") for index in self.data)])
        gone = [(index, kind) for index, kind in ours if index not in places] if self.video in places else []
        if not gone:
            return self, []
        why = f"nothing of it is there, and {self.muxer} keeps no empty tracks; mkv does"
        moved = replace(
            self,
            streams=tuple(replace(one, index=places[one.index]) for one in self.streams if one.index in places),
            video=places[self.video],
            entries=_moved(self.entries, places),
            crops=_moved(self.crops, places),
            described=_moved(self.described, places),
        )
        return moved, [f"stream {index} ({kind}) is left out: {why}" for index, kind in gone]

    def _check_count(self, found: InputContainer, path: str, pictures: int) -> None:
        """See that no muxer threw pictures away, where the file says how many it holds; others would have to be read whole."""
        stream = found.streams[self.video]
        if stream.type != "video" or self.muxer not in _COUNTING:
            return
        count = stream.frames
        if self.muxer == "mxf" and stream.duration is not None:  # in edit units of one picture
            count = stream.duration
        if 0 < count < pictures:
            raise MediaError(path, f"{self.muxer} kept {count} of {pictures} pictures; choose another container")

    def _lacks_reel(self, found: InputContainer) -> bool:
        return bool(self.reel) and self.reel not in _reels(found)

    def _missing_tags(self, found: InputContainer) -> dict[str, str]:
        there = {key.lower(): value for key, value in found.metadata.items()}
        return {key: value for key, value in self.tags.items() if not _same(there.get(key.lower()), value)}

    def _missing_languages(self, found: InputContainer) -> dict[int, str]:
        wrong: dict[int, str] = {}
        for said in self.streams:
            language = said.language
            if language is not None and language not in _UNSAID and found.streams[said.index].metadata.get("language") != language:
                wrong[said.index] = language
        return wrong

    def _lost(self, found: InputContainer) -> list[str]:
        lines = []
        if self.muxer not in MOV and self._lacks_reel(found):
            lines.append(f"{self.muxer} does not keep the reel name {self.reel} here; mkv and mov do")
        lost: dict[tuple[str, str], list[int]] = {}
        """What of which kind of streams -> their numbers: recorders write a dozen tracks that say the same."""
        untitled: dict[str, list[int]] = {}
        for said in self.streams:
            stream = found.streams[said.index]
            if names := self._lost_dispositions(said, stream):
                lost.setdefault((said.kind, names), []).append(said.index)
            if said.title and not _same(stream.metadata.get("title") or stream.metadata.get("name"), said.title):
                untitled.setdefault(said.kind, []).append(said.index)
        for (kind, names), numbers in lost.items():
            verb = "is" if len(numbers) == 1 else "are"
            way = "" if self.muxer == "matroska" else "; mkv does"
            lines.append(f"{self.muxer} does not keep that {_numbered(numbers)} ({kind}) {verb} {names}{way}")
        for kind, numbers in untitled.items():
            lines.append(f"{self.muxer} does not keep the title of {_numbered(numbers)} ({kind}); mkv and mov do")
        if len(found.chapters()) < self.chapters:
            lines.append(f"{self.muxer} does not keep all chapters; mkv and mov do")
        return [*lines, *self._lost_siting(found.streams[self.video])]

    def _lost_siting(self, stream: Stream) -> list[str]:
        # To the left is where everybody looks for it when nothing is said.
        if self.siting in ("", "left") or not isinstance(stream, VideoStream) or siting_of(stream) == self.siting:
            return []
        where = {"topleft": "at the top left of luma", "center": "between four of luma", "top": "above luma"}[self.siting]
        return [f"nothing in this {self.muxer} file says that samples of chroma lie {where}; h264, hevc and mkv do"]

    def _lost_dispositions(self, said: _Said, stream: Stream) -> str:
        lost = said.disposition & ~stream.disposition
        if all(one.disposition & Disposition.default for one in self.streams if one.kind == said.kind):
            lost &= ~Disposition.default  # none of them is to be chosen before the others
        if stream.disposition & Disposition.visual_impaired:
            lost &= ~Disposition.descriptions  # FFmpeg makes both of one mark of MP4 and MPEG-TS, and Matroska's is the other one
        return ", ".join(one.name for one in Disposition if one & lost and one.name)


def _moved(told: Mapping[int, _Told], places: Mapping[int, int]) -> dict[int, _Told]:
    """What streams were told, by the numbers that they have now; without those that have none."""
    return {places[index]: value for index, value in told.items() if index in places}


def _numbered(numbers: list[int]) -> str:
    """`stream 3`, `streams 3, 4`."""
    return f"stream{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"


def added(tags: Mapping[str, str], provenance: str) -> dict[str, str]:
    """The tag that says what was done, behind what it says already (Matroska gives it back in capitals)."""
    key = next((key for key in tags if key.lower() == PROVENANCE), PROVENANCE)
    return {key: "; ".join(filter(None, [tags.get(key), provenance]))}


def _reels(container: InputContainer | OutputContainer) -> list[str]:
    """What a file's own tags and its streams' say of the reel."""
    every = [container.metadata, *(stream.metadata for stream in container.streams)]
    return [value for tags in every for key, value in tags.items() if key.lower() == REEL]


def _said(stream: Stream) -> _Said:
    tags = stream.metadata
    return _Said(stream.index, stream.type, tags.get("language"), tags.get("title"), stream.disposition)


def _same(one: str | None, other: str) -> bool:
    """Whether two texts are the same tag: times are written with more or fewer digits."""
    if one is None:
        return False
    return one == other or (one[:19] == other[:19] and len(other) > 19 and other[10] == "T" and one.endswith("Z"))

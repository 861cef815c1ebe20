"""What is done of a film, on the disk: a folder beside the target that outlives a power cut.

    <target>.resume/lock            held while a run works here
                    ledger.jsonl    a fingerprint of the job, then one line for every finished segment
                    000000.packets  the segment, 000000.faces its faces, line by line, 000000.mark how to go on after it,
                    000000.state    and where it ended within a shot, what the stages held there
                    people          whom the film shows, where it was looked through first

Every file is complete, on the disk and under its name before the ledger's line speaks of it, so whatever moment a run dies
at, the ledger tells the truth; a line that was torn is taken back. Every line carries a CRC-32, and the sums of
the other files: what a disk or somebody changed is refused. Nothing is read into memory that grows with the film.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import cv2

from videoclr.config import named_files
from videoclr.errors import ConfigError, MediaError, ResumeError
from videoclr.media.faults import explained
from videoclr.media.lock import Lock
from videoclr.media.segments import Segment, settle
from videoclr.media.source import PIPE, is_pattern, numbered, sequence_of
from videoclr.media.splice import Tally
from videoclr.media.target import behind_link
from videoclr.packing import Unpacked, damaged, unpack
from videoclr.shelf import is_torn, json_pieces

_WHOLE = 64 << 20
"""Bytes up to which a file is hashed in full."""
_SAMPLES, _SAMPLE = 256, 64 << 10
"""Above, so many stretches of so many bytes, evenly spread, the first and the last included."""


def folder_of(target: str | Path) -> Path:
    """Where the work on `target` is kept: where a link leads, since it is put where the film has room."""
    return Path(f"{behind_link(target)}.resume")


@dataclass(frozen=True, slots=True)
class Done:
    """A finished segment as the ledger has it."""

    segment: Segment
    number: int
    next: int
    """Index of the frame after it."""
    shots: int
    """Shots that began so far, in the whole film."""
    warnings: tuple[str, ...]
    """Of the run, up to here."""
    written: tuple[str, ...]
    """Warnings of whoever wrote the frames, up to here."""
    faces: int | None
    """CRC-32 of what is noted of its faces."""


class Ledger:
    """The folder of one job, held by one run.

    Args:
        target: the film to be made.
        fingerprint: of the job; see `fingerprint`.

    Raises:
        ResumeError: the folder is of another job; the message says what differs.
        MediaError: another run works on it, or the disk refuses.
    """

    def __init__(self, target: str | Path, fingerprint: Mapping[str, Any]) -> None:
        self.target = str(target)
        self.folder = folder_of(target)
        self._book = self.folder / "ledger.jsonl"
        with explained(target, "cannot be written"):
            self.folder.mkdir(exist_ok=True)
        self._lock = Lock(self.folder / "lock", target)
        try:
            self.last: Done | None = None
            self.complete: dict[str, Any] | None = None
            """What was known when the last frame had been written; None while there is something to do."""
            self.joined: dict[str, Any] | None = None
            """The finished file, where it was finished."""
            self.reported: dict[str, Any] | None = None
            """The report, where the film is finished and all that is left to do is to clear up."""
            self.reorder = 0
            """The largest of the segments'."""
            self._load(fingerprint)
        except BaseException:
            if not self._book.exists():
                self._remove()  # no room even to begin: nothing is left behind
            self._lock.release()
            raise

    def segments(self) -> Iterator[Done]:
        """All finished ones, in order, read as they are asked for."""
        for line in self._lines():
            if "segment" in line:
                yield self._done(line)

    def faces(self) -> Iterator[dict[str, Any]]:
        """What was noted of the faces of all finished segments.

        Raises:
            ResumeError: it is missing or damaged.
        """
        for done in self.segments():
            place = self._place(done.number, "faces")
            if _sum_of(place) != done.faces:
                raise damaged(place)
            with place.open("rb") as file:
                for line in file:
                    yield self._noted(line, place)

    def _noted(self, line: bytes, place: Path) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise damaged(place) from error
        if not isinstance(found, dict):
            raise damaged(place)
        return found

    def mark(self) -> dict[str, Any] | None:
        """How to go on after the last segment; None at the beginning."""
        if self.last is None:
            return None
        place = self._place(self.last.number, "mark")
        try:
            found = _checked(place.read_bytes())
        except OSError as error:
            raise damaged(place) from error
        if found is None:
            raise damaged(place)
        return found

    def state(self, said: Mapping[str, Any]) -> Unpacked:
        """The bookmark that a mark speaks of.

        Raises:
            ResumeError: it is missing or damaged.
        """
        try:
            place, size, checksum = self._place(int(said["segment"]), "state"), int(said["size"]), str(said["sha256"])
        except (LookupError, TypeError, ValueError) as error:
            raise damaged(self._place(0, "state")) from error
        return unpack(place, size, checksum)

    def bookmark_part(self, frame: int) -> Path:
        """Where a bookmark before `frame` is written, until a segment ends there."""
        return self.folder / f"{frame}.state.part"

    def settle_bookmark(self, file: BinaryIO, frame: int) -> int:
        """Make the one before `frame`, which `file` wrote, last for the segment that ends now; returns the segment's number."""
        settle(file, self.bookmark_part(frame), self.next_place().with_suffix(".state"))
        return 0 if self.last is None else self.last.number + 1

    def damage(self) -> ResumeError:
        """What is said where what is kept does not fit the film."""
        return damaged(self._book)

    def next_place(self) -> Path:
        """Where the next segment's packets go."""
        return self._place(0 if self.last is None else self.last.number + 1, "packets")

    def faces_place(self) -> Path:
        """Where what is noted of the next segment's faces goes."""
        return self.next_place().with_suffix(".faces")

    def add(
        self, segment: Segment, next_frame: int, shots: int, warnings: list[str], written: list[str], mark: Mapping[str, Any]
    ) -> None:
        """Write a finished segment down. Its packets and faces are on the disk already. See `Done` for the others.

        Raises:
            MediaError: the disk is full, the folder gone.
        """
        number = 0 if self.last is None else self.last.number + 1
        with explained(self.target, "cannot be written"):
            self._durable(self._place(number, "mark"), mark)
            faces = _sum_of(self._place(number, "faces"))
            _append(
                self._book,
                {
                    "segment": number,
                    "packets": segment.packets,
                    "size": segment.size,
                    "checksum": segment.checksum,
                    "reorder": segment.reorder,
                    "tally": asdict(segment.tally),
                    "faces": faces,
                    "next": next_frame,
                    "shots": shots,
                    "warnings": warnings,
                    "written": written,
                },
            )
            self.last = Done(segment, number, next_frame, shots, tuple(warnings), tuple(written), faces)
            self.reorder = max(self.reorder, segment.reorder)
            self._place(number - 1, "mark").unlink(missing_ok=True)
            self._forget_states((mark.get("state") or {}).get("segment"))

    def _forget_states(self, but: int | None) -> None:
        for place in self.folder.glob("*.state"):
            if but is None or place != self._place(but, "state"):
                place.unlink(missing_ok=True)

    @property
    def _people(self) -> Path:
        return self.folder / "people"

    def people(self) -> dict[str, Any] | None:
        """Whom the film shows, as `keep_people` was told; None where it was not looked through.

        Raises:
            ResumeError: what was kept is damaged.
        """
        try:
            found = _checked(self._people.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise damaged(self._people) from error
        if found is None:
            raise damaged(self._people)
        return found

    def keep_people(self, values: Mapping[str, Any]) -> None:
        """Write down whom the film shows, in JSON's types.

        Raises:
            MediaError: the disk is full, the folder gone.
        """
        self._durable(self._people, values)

    def end(self, facts: Mapping[str, Any]) -> None:
        """Write down that every frame is done."""
        with explained(self.target, "cannot be written"):
            _append(self._book, {"complete": dict(facts)})
        self.complete = dict(facts)

    def finished(self, file: Path) -> None:
        """Write down that `file` is the whole film, just before it gets its name."""
        with explained(self.target, "cannot be finished"):
            found = file.stat()
            _append(self._book, {"joined": {"size": found.st_size, "inode": found.st_ino}})

    def is_finished(self) -> bool:
        """True where the file of the target's name is the one that this job made, whole."""
        if self.joined is None:
            return False
        try:
            found = os.stat(self.target)
        except OSError:
            return False
        return self.joined == {"size": found.st_size, "inode": found.st_ino}

    def clear(self, report: Mapping[str, Any]) -> None:
        """The film and its report are written: nothing of this is needed any more.

        The book goes last, with the report in it: a run that dies while clearing up leaves a folder that the next one removes.
        """
        with explained(self.target, "cannot be finished"):
            _append(self._book, {"reported": report})
        self._remove()

    def clear_finished(self) -> None:
        """Of a film that is finished and noted elsewhere, as `clear`."""
        if self.is_finished():
            self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            for place in self.folder.iterdir():
                if place not in (self._book, self._lock.place):
                    place.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    def is_new(self) -> bool:
        """True where nothing was done yet."""
        return self.last is None and self.complete is None and not self._people.exists()

    def release(self) -> None:
        """Let another run go on here."""
        if self.is_new():
            self._remove()  # nothing was done: nothing is left behind
        self._lock.release()

    def _load(self, fingerprint: Mapping[str, Any]) -> None:
        lines, kept = self._lines(), _size(self._book)
        head = next(lines, None)
        if head is None:
            if kept:
                raise damaged(self._book)
            self._durable(self._book, {"fingerprint": fingerprint})
            return
        if difference := differences(head.get("fingerprint", {}), fingerprint):
            raise ResumeError(
                self.folder, f"belongs to another run: {difference}; set it back, or remove this folder to begin anew"
            )
        for line in lines:
            if "segment" in line:
                self.last = self._done(line)
                self.reorder = max(self.reorder, self.last.segment.reorder)
            elif "complete" in line:
                self.complete = line["complete"]
            elif "joined" in line:
                self.joined = line["joined"]
            elif "reported" in line:
                self.reported = line["reported"]
        if self.reported is None:
            self._check_sizes()

    def _check_sizes(self) -> None:
        for done in self.segments():
            if _size(done.segment.path) != done.segment.size:
                raise damaged(done.segment.path)
            if _sum_of(self._place(done.number, "faces")) != done.faces:
                raise damaged(self._place(done.number, "faces"))

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The ledger's whole lines; what stands after the last of them was torn and is cut off."""
        whole = 0
        try:
            file = self._book.open("rb")
        except FileNotFoundError:
            return
        except OSError as error:
            raise MediaError(self.target, f"its ledger cannot be read ({error.strerror})") from error
        with file:
            for line in file:
                found = _checked(line)
                if found is None:
                    break
                whole += len(line)
                yield found
            else:
                return
        if whole:
            os.truncate(self._book, whole)

    def _done(self, line: Mapping[str, Any]) -> Done:
        try:
            names = ("segment", "packets", "size", "checksum", "reorder", "next", "shots", "faces")
            number, packets, size, checksum, reorder, following, shots, faces = (_count(line[name]) for name in names)
            tally = Tally(**{name: _count(value) for name, value in line["tally"].items()})
            warnings, written = tuple(map(str, line["warnings"])), tuple(map(str, line.get("written", ())))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise damaged(self._book) from error
        segment = Segment(self._place(number, "packets"), packets, size, checksum, reorder, tally)
        return Done(segment, number, following, shots, warnings, written, faces)

    def _place(self, number: int, ending: str) -> Path:
        return self.folder / f"{number:06d}.{ending}"

    def _durable(self, place: Path, values: Mapping[str, Any]) -> None:
        part = place.with_name(place.name + ".part")
        with explained(self.target, "cannot be written"), part.open("wb") as file:
            file.writelines(_with_check(values))
            settle(file, part, place)


def clear_up(target: str | Path, fingerprint: Mapping[str, Any]) -> None:
    """Remove what a run kept of a film that it finished, where it died before it did so itself; what is of others stays."""
    folder = folder_of(target)
    with suppress(OSError):
        folder.rmdir()  # all but the folder itself was removed
    if not any(os.path.exists(folder / name) for name in ("ledger.jsonl", "lock")):
        return
    with suppress(MediaError, ResumeError):
        ledger = Ledger(target, fingerprint)
        try:
            ledger.clear_finished()
        finally:
            ledger.release()


class Finished:
    """The files of a folder that `videoclr batch --resume` has finished, in a file among them.

    Args:
        folder: where the results go.
    """

    def __init__(self, folder: Path) -> None:
        self._book = folder / ".videoclr-finished.jsonl"

    def report(self, target: Path, fingerprint: Mapping[str, Any], faceless: bool = True) -> dict[str, Any] | None:
        """What was reported when `target` was made; None where it is not there, or of unknown origin.

        Args:
            target: a file of the folder, or a pattern.
            fingerprint: of the job that would make it now.
            faceless: whether a result without a restored face has to be there; otherwise what was reported of it is enough.

        Raises:
            ResumeError: it was made by another job.
            MediaError: the file among the results cannot be read.
        """
        known = self._last(_as_utf8(target.name))
        if known is None:
            return None
        report: dict[str, Any] = known["report"]
        said = known.get("pictures")
        try:
            found = _state(target, None if said is None else range(said["first"], said["first"] + said["count"]))
        except OSError:
            if faceless or report["faces_restored"] or differences(known["fingerprint"], fingerprint):
                return None
            return report
        if any(known[name] != value for name, value in found.items()):
            return None
        if difference := differences(known["fingerprint"], fingerprint):
            raise ResumeError(target, f"was made by another run: {difference}; set it back, or replace it with --overwrite")
        return report

    def add(self, target: Path, fingerprint: Mapping[str, Any], report: Mapping[str, Any], pictures: range | None = None) -> None:
        """Write down that `target` is finished; of a pattern, the pictures of these numbers.

        Raises:
            MediaError: the disk is full.
        """
        with explained(target, "cannot be noted as finished"):
            line = {"name": _as_utf8(target.name), **_state(target, pictures)}
            _append(self._book, {**line, "fingerprint": fingerprint, "report": report})

    def _last(self, name: str) -> dict[str, Any] | None:
        last = None
        try:
            with self._book.open("rb") as file:
                for line in file:
                    found = _checked(line)  # None where a power cut tore it: the file it was about is made again
                    last = found if found is not None and found.get("name") == name else last
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MediaError(self._book, f"cannot be read ({error.strerror}); it says which files are finished") from error
        return last


def _state(target: Path, pictures: range | None) -> dict[str, Any]:
    """What changes with a file, or with the pictures of these numbers.

    Raises:
        OSError: one is not there.
    """
    if pictures is None:
        found = target.stat()
        return {"size": found.st_size, "changed": found.st_mtime_ns}
    digest = hashlib.sha256()
    for number in pictures:
        found = os.stat(numbered(str(target), number))
        digest.update(f"{found.st_size} {found.st_mtime_ns} ".encode())
    return {"pictures": {"first": pictures.start, "count": len(pictures), "sha256": digest.hexdigest()}}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def fingerprint(source: str | Path, settings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What must be the same for two runs to give the same bytes.

    Args:
        source: the film.
        settings: those that may change pixels; files that they name count with their content.
        more: what else counts, in JSON's types.

    Raises:
        ConfigError: the source is no file, and so cannot be read again.
        MediaError: a file cannot be read.
    """
    if str(source) == PIPE or "://" in str(source):
        raise ConfigError(f"--resume: {source} cannot be read a second time; save it as a file first")
    files = {name: content_of(name) for name in named_files(settings)}
    found = {"source": content_of(source), "settings": settings, "files": files, **more}
    kept: dict[str, Any] = json.loads(_as_utf8(json.dumps(found, ensure_ascii=False)))
    return kept


def _as_utf8(text: str) -> str:
    """`text` as a locale of UTF-8 would have it: names of files come as the locale of the day makes texts of their bytes."""
    with suppress(UnicodeEncodeError):  # out of a file of settings, and not in the locale's alphabet
        return os.fsencode(text).decode("utf-8", "surrogateescape")
    return text


def libraries() -> dict[str, str]:
    """Versions of what decodes, computes and encodes: another one may give other bytes."""
    return {**{name: version(name) for name in ("av", "numpy", "torch")}, "opencv": cv2.__version__}


def content_of(path: str | Path) -> str:
    """What tells a file (or all pictures of a pattern) from another: its size and a SHA-256 of all of it, of samples if large."""
    if is_pattern(str(path)):
        run = sequence_of(str(path))
        digest = hashlib.sha256()
        for index in range(run.count):
            digest.update(content_of(run.path(index)).encode())
        return f"{run.count} pictures from {run.first}, {digest.hexdigest()}"
    digest = hashlib.sha256()
    with explained(path, "cannot be read"):
        if Path(path).is_fifo():  # opening it would wait for whoever writes there
            raise MediaError(path, "is a pipe, which can be read once only; save what comes out of it as a file first")
    with explained(path, "cannot be read"), Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size <= _WHOLE:
            file.seek(0)
            while block := file.read(1 << 20):
                digest.update(block)
        else:
            for place in range(_SAMPLES):
                file.seek((size - _SAMPLE) * place // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return f"{size} bytes, {digest.hexdigest()}"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, the first few values that differ; empty where none do.

    >>> differences({"settings": {"restore": {"steps": 3}}}, {"settings": {"restore": {"steps": 4}}})
    'restore.steps was 3 and is 4 now'
    """
    old, new = dict(_flat(before)), dict(_flat(now))
    found = [_difference(name, old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def _difference(name: str, old: Any, new: Any) -> str:
    kind, _, rest = name.partition(".")
    if kind == "source":
        return "the source is another file (its content differs)"
    if kind in ("files", "weights"):
        return f"{'the file' if kind == 'files' else 'the weights'} {rest} had other content"
    return f"{rest if kind == 'settings' else name} was {_said(old)} and is {_said(new)} now"


def _said(value: Any) -> str:
    return "not set" if value is None else json.dumps(value) if isinstance(value, str) else str(value)


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{above}.{name}" if above else str(name)
        if isinstance(value, Mapping) and value:
            yield from _flat(value, path)
        else:
            yield path, value


def _append(book: Path, line: Mapping[str, Any]) -> None:
    """Add a line of JSON to `book`, on the disk when this returns; one that was torn before it stays by itself."""
    torn = is_torn(book)
    with book.open("ab") as file:
        file.write(b"\n" if torn else b"")
        file.writelines(_with_check(line))
        file.flush()
        os.fsync(file.fileno())


def _with_check(values: Mapping[str, Any]) -> Iterator[bytes]:
    """A line of JSON with the CRC-32 of what it says, piece by piece."""
    check = 0
    yield b'{"said": '
    for piece in map(str.encode, json_pieces(values)):
        check = zlib.crc32(piece, check)
        yield piece
    yield f', "check": {check}}}\n'.encode()


def _checked(line: bytes) -> dict[str, Any] | None:
    """What a line of `_with_check` says; None where it is torn or changed."""
    try:
        whole: Any = json.loads(line) if line.endswith(b"\n") else None
        said: dict[str, Any] = whole["said"]
        known = whole["check"] == zlib.crc32(json.dumps(said).encode())
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return said if known and isinstance(said, dict) else None


def _sum_of(place: Path) -> int | None:
    """CRC-32 of a file; None where it cannot be read."""
    found = 0
    try:
        with place.open("rb") as file:
            while block := file.read(1 << 20):
                found = zlib.crc32(block, found)
    except OSError:
        return None
    return found


def _count(value: Any) -> int:
    """`value`, which must be a whole number from 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value

"""The sentence: cuts, detect, track, align, identify, restore, gate, enlarge, blend.

    pipeline = Pipeline(Config().override("restore.steps=12"))        # loads the weights, once
    for frame in pipeline.restore_frames(reader.frames()):
        writer.write(frame)
    another = dataclasses.replace(pipeline, restorer=MyRestorer())    # the other parts are the same objects

Four threads: decoding with the cut detector, finding faces, restoring them, and the caller's, which encodes. Each thread runs
ahead of the next by a bounded number of bytes, and of frames. What waits in the stages that look ahead is bounded as well: beyond
its bytes, pictures wait in a file (`videoclr.media.spool`).
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import numbers
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from videoclr import plugins
from videoclr.blame import blamed, described, directions_of
from videoclr.bookmark import NOWHERE, Inside
from videoclr.config import Config, or_defaults
from videoclr.errors import ConfigError
from videoclr.flow import Prefetch, beside_fork, close, closing, is_forked, one_at_a_time, prefetch, timed
from videoclr.packing import keepable
from videoclr.shelf import Shelf
from videoclr.types import FaceCrop, Faces, Frame, RestoredFace, TrackedFace, is_windowed

if TYPE_CHECKING:
    from torch import Tensor

    from videoclr.cast import Cast
    from videoclr.media.spool import Spool
    from videoclr.references import Asked, Photographed
    from videoclr.stages.cuts import CutDetector
    from videoclr.stages.detect import Detector
    from videoclr.stages.gate import Judge
    from videoclr.stages.identify import People, PeopleMemory, Recognizer
    from videoclr.stages.restore import Masker, Restorer
    from videoclr.stages.track import Tracker
    from videoclr.tracks import TracksFile

log = logging.getLogger("videoclr.pipeline")

_UNIT: Final = 0.01
"""By how much the length of an identity may differ from 1."""
_FROM_CONFIG: Final[Any] = object()
"""Stands in a field until `Pipeline` has built what the config names; None is a value of its own for some fields."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Settings and loaded parts of a restoration.

    Every part that is not given is built from the config. `dataclasses.replace(pipeline, detector=...)` exchanges one
    and keeps the others as they are, loaded; it does so with `config=` as well: to have the parts built anew from
    other settings, make a new `Pipeline`. It can be pickled, for a process of its own, as far as parts of one's own can.

    Raises:
        ConfigError: an unknown part or option, or a device that is not there.
        WeightsError: weights that cannot be loaded.
    """

    config: Config = field(default_factory=Config)
    """All settings. None in the constructor means the defaults."""
    make_cut_detector: Callable[[], CutDetector] = _FROM_CONFIG
    """Called once per run: a cut detector has memory."""
    detector: Detector = _FROM_CONFIG
    """Finds faces."""
    make_tracker: Callable[[], Tracker] = _FROM_CONFIG
    """Called once per run: a tracker has memory."""
    recognizer: Recognizer | None = _FROM_CONFIG
    """Tells who a face is. None leaves identities out and measures no similarity."""
    restorer: Restorer = _FROM_CONFIG
    """Restores aligned faces."""
    judge: Judge | None = _FROM_CONFIG
    """Says how much of a restoration to trust. None trusts everything."""
    masker: Masker = _FROM_CONFIG
    """Says where the restored face is shown."""
    references: Mapping[str, Tensor] = _FROM_CONFIG
    """Name -> `(D,)` unit vector of people known from photographs (`identify.references`, `identify.only`, `identify.leave`)."""
    photographs: Mapping[str, Tensor] = _FROM_CONFIG
    """Name -> `(3, S, S)` aligned face of such a person, in [-1, 1], for the restorer to look at; not everybody needs one.
    Nobody has one where `references` was given without it."""
    cast: Cast = _FROM_CONFIG
    """Who is known from the start (`identify.people`)."""
    _called: Mapping[str, int] = field(init=False, repr=False, default_factory=dict)
    """Whom the file of tracks names, each with such a track."""
    _placed: frozenset[int] | None = field(init=False, repr=False, default=None)
    """Numbers of the tracks that have a face in that file; None where there is none."""

    def __post_init__(self) -> None:
        """Build what was not given."""
        object.__setattr__(self, "config", or_defaults(self.config))
        beside_fork(self._build)

    def _build(self) -> None:
        if (tracks := self._tracks()) is not None:
            tracks.check()
            object.__setattr__(self, "_called", tracks.names)
            object.__setattr__(self, "_placed", tracks.numbers)
        for name, make in _BUILDERS.items():
            if getattr(self, name) is _FROM_CONFIG:
                object.__setattr__(self, name, make(self.config))
        for name, kind in _PARTS.items():
            _check_methods(getattr(self, name), kind, f"the {name}")
        _check_size(self.restorer)
        for name, kind in _PARTS.items():
            _check_made(getattr(self, name), kind, f"the {name}")
        for name in ("make_cut_detector", "make_tracker"):
            if not callable(made := getattr(self, name)):
                raise ConfigError(f"{name}: expected what makes one, such as its class, got a {type(made).__name__}")
        if self.cast is _FROM_CONFIG:
            object.__setattr__(self, "cast", self._cast())
        known = self._photographed() if self.references is _FROM_CONFIG else {}
        if self.references is _FROM_CONFIG:
            object.__setattr__(self, "references", {name: one.identity for name, one in known.items()})
        else:
            _check_references(self.references)
            self._check_lengths()
        if self.photographs is _FROM_CONFIG:
            object.__setattr__(self, "photographs", {name: one.picture for name, one in known.items()})
        object.__setattr__(self, "photographs", _fitted(self.photographs, self.restorer))

    def _tracks(self) -> TracksFile | None:
        from videoclr.tracks import TracksFile

        return None if self.config.track.file is None else TracksFile(self.config.track.file)

    def _asked(self) -> Asked:
        from videoclr.references import people_of

        section = self.config.identify
        given = () if self.references is _FROM_CONFIG else self.references
        return people_of(section.references, section.only, section.leave, {*self._called, *self.cast.names, *given})

    def _cast(self) -> Cast:
        from videoclr.cast import Cast

        path = self.config.identify.people
        if path is None:
            return Cast()
        if self.recognizer is None:
            raise ConfigError("$.identify.people: a recognizer is needed to know people again")
        cast = Cast.read(path, recognizer_of(self.config))
        if cast and cast.dimensions != (own := self._dimensions()):
            raise ConfigError(f"{path}: its identities have {cast.dimensions} numbers and the recognizer's {own}; make it anew")
        return Cast(cast.members)

    def _dimensions(self) -> int:
        """Length of the recognizer's vectors, as one of a grey picture has it."""
        import torch

        assert self.recognizer is not None
        with blamed("recognizer", 0):
            given = self.recognizer.embed(torch.zeros(1, 3, self.restorer.size, self.restorer.size, device="cpu"))
            return directions_of(given, 1, 0, None).shape[1]

    def _check_lengths(self) -> None:
        """See that `references` are of this recognizer, as far as their lengths tell."""
        if self.recognizer is None or not self.references:
            return
        own = self._dimensions()
        for name, identity in self.references.items():
            if len(identity) != own:
                text = f"that of {name} has {len(identity)} numbers and the recognizer's {own}; make them with it"
                raise ConfigError(f"references: {text}")

    def _photographed(self) -> Mapping[str, Photographed]:
        from videoclr.references import photographed

        pictures = self._asked().pictures
        if not pictures:
            return {}
        if self.recognizer is None:
            raise ConfigError("$.identify.references: a recognizer is needed to compare faces with photographs")
        return photographed(pictures, self.detector, self.recognizer, self.restorer.size, self.config.detect.threshold)

    def restore_frames(
        self,
        frames: Iterable[Frame],
        ledger: RunLog | None = None,
        *,
        aligned: bool = False,
        begin: Mark | None = None,
        inside: Inside = NOWHERE,
        cast: Cast | None = None,
    ) -> Iterator[Frame]:
        """Restore the faces of a video: one frame out for each frame in, in order, with the same index and time.

        Frames without a face to restore come out as they went in. Closing the iterator early stops all threads and
        closes `frames`; so does an exception, which is raised here whichever thread it came from.

        Args:
            frames: in order, each with a higher `index` than the one before; iterated, and closed where it is a generator, in a
                thread of its own.
            ledger: filled in as the run goes on; read it when the run is over.
            aligned: each frame is an FFHQ-aligned crop already; nothing is detected or tracked, each is restored as a
                whole and for itself.
            begin: go on where another run stopped: `frames` come from the film's first on all the same, and those of
                `begin`'s shot and after it come out as they would have there.
            inside: sets bookmarks within shots, and knows the one of `begin`'s shot to go on at: the frames before it do not
                come out then. With `aligned` there is nothing to keep.
            cast: who is known from the start, as `look` told it of the same frames; None for those of `Pipeline.cast`, with a
                warning where `identify.look_first` asks for more: frames come once.

        Raises:
            RestorationError: a part failed; one that restores only where `runtime.on_error` is `stop`.
            MediaError: the disk has no room for pictures that wait.
            TypeError: `frames` gives something else than frames.
            ValueError: `frames` does not number them upwards.
        """
        ledger = RunLog() if ledger is None else ledger
        clock = ledger.seconds_per_stage
        inside = NOWHERE if aligned else inside
        if cast is None and self.config.identify.look_first:
            told = "identify.look_first: nobody looked; give `restore_frames` what `Pipeline.look` told of the same frames"
            log.warning(told)
            ledger.warnings.append(told)
        inside.also("warnings", lambda: list(ledger.warnings), lambda said: ledger.warnings.__setitem__(slice(None), said))
        with ExitStack() as threads:
            shots, waiting, weights = self._decoding(frames, ledger, begin, aligned)
            people = self._people(not aligned, self.cast if cast is None else cast)
            recognizer, embedder = self._recognizers()
            if aligned:
                crops = self._pictures(shots, clock, people, recognizer)
            else:
                crops = self._faces(shots, ledger, begin, inside, people, recognizer)
            ahead: Prefetch[Faces[FaceCrop]] | None = None
            # A bookmark is of all stages at one moment, and no part need bear two threads at a time: then they have one.
            if inside is NOWHERE and not self._has_part_of_both():
                ahead = prefetch(crops, weights.room, "faces", weights.found)
                crops = timed(_AHEAD, ahead, clock)
            crops = self._wanted(crops, ledger, 0 if begin is None else begin.tracks, inside)
            restored = self._restored(crops, ledger, aligned, inside, embedder)
            done = prefetch(restored, weights.room, "restore", weights.restored)
            # Left from the last to the first: closing `shots` first wakes the threads of the models, wherever they wait.
            threads.callback(done.close)
            if ahead is not None:
                threads.callback(ahead.close)
            threads.callback(shots.close)
            for frame in timed("waiting for frames", done, clock):
                waiting.over(frame)
                ledger.frames_out += 1
                yield frame

    def find_faces(
        self, frames: Iterable[Frame], ledger: RunLog | None = None, *, met: Callable[[Cast], None] | None = None
    ) -> Iterator[Faces[FaceCrop]]:
        """The faces of a video as `restore_frames` would find, follow and recognise them, frame by frame; none is restored.

        Args:
            frames: as for `restore_frames`.
            ledger: filled in; every face counts as passed.
            met: told at the end whom the film shows, those of `Pipeline.cast` among them.

        Raises:
            RestorationError: a part failed.
            MediaError: the disk has no room for pictures that wait.
        """
        ledger = RunLog() if ledger is None else ledger
        shots, waiting, _ = self._decoding(frames, ledger, None, aligned=False)
        people = self._people(True, self.cast) if met is None else self._gathering()
        with ExitStack() as threads:
            found = self._faces(shots, ledger, None, NOWHERE, people, self.recognizer)
            if is_forked():
                found = ahead = prefetch(found, 1, "find")
                threads.callback(ahead.close)
            threads.callback(shots.close)  # first, as in `restore_frames`
            for faces in found:
                waiting.over(faces.frame)
                ledger.came(faces.frame)
                for crop in faces.faces:
                    ledger.passed(crop)
                yield faces
        if met is not None:
            met(people.gathered())

    def look(self, frames: Iterable[Frame], looked: Callable[[int], None] = lambda _: None) -> Cast:
        """See whom a video shows, and where best, before it is restored: the first of two passes.

        Args:
            frames: as for `restore_frames`, which is to be given the same frames and what this returns.
            looked: told the number of frames, after each.

        Raises:
            ConfigError: there is no recognizer.
            RestorationError: a part failed.
            MediaError: the disk has no room for pictures that wait.
        """
        if self.recognizer is None:
            raise ConfigError("$.identify.look_first: a recognizer is needed to know people again")
        found: list[Cast] = []
        with contextlib.closing(self.find_faces(frames, met=found.append)) as faces:  # type: ignore[type-var]
            for number, _ in enumerate(faces, 1):
                looked(number)
        return found[0]

    def _decoding(
        self, frames: Iterable[Frame], ledger: RunLog, begin: Mark | None, aligned: bool
    ) -> tuple[Prefetch[Frame], _Waiting, _Weights]:
        """Frames, in shots unless they are `aligned`, in a thread of their own; where they wait, and what they weigh."""
        from videoclr.media.spool import Spool

        room = self.config.runtime.buffer_mb * 2**20 // 4  # for each of the two channels, and twice that in the stages
        waiting, weights = _Waiting(Spool(2 * room, self.config.runtime.scratch)), _Weights(room)
        clock = ledger.seconds_per_stage
        decoded = timed("decode", ledger.counted(frames), clock)
        shots = decoded if aligned else closing(self._shots(decoded, clock, begin, waiting), decoded)
        return prefetch(shots, room, "decode", weights.decoded), waiting, weights

    def _shots(self, frames: Iterator[Frame], clock: dict[str, float], begin: Mark | None, waiting: _Waiting) -> Iterator[Frame]:
        from videoclr.stages.cuts import cuts

        with blamed("cut detector", 0):
            detector = self.make_cut_detector()
        if begin is None:
            shots = cuts(waiting.from_here(frames), detector)
        elif getattr(detector, "forgets", False):
            shots = cuts(waiting.from_here(_since(begin, frames)), detector)
        else:
            shots = waiting.from_here(_since(begin, cuts(frames, detector)))
        return timed("cuts", shots, clock)

    def _faces(
        self,
        shots: Iterator[Frame],
        ledger: RunLog,
        begin: Mark | None,
        inside: Inside,
        people: People,
        recognizer: Recognizer | None,
    ) -> Iterator[Faces[FaceCrop]]:
        from videoclr.stages.align import align
        from videoclr.stages.detect import detect
        from videoclr.stages.identify import identify
        from videoclr.stages.track import track

        config, clock = self.config, ledger.seconds_per_stage
        shots = inside.entering(timed("waiting for decode", shots, clock))
        if begin is not None and begin.people is not None:
            people.recall(begin.people)
        marks = _Marks(ledger, people if self.recognizer is not None else None)
        first = 0 if begin is None else begin.tracks
        if (tracks := self._tracks()) is not None:
            faces = self._given(tracks, shots, begin, marks, ledger.warnings, inside)
        else:
            look, batch = config.detect, config.runtime.detect_batch
            found = detect(shots, self.detector, batch, look.every, look.min_size, ledger.warnings, inside)
            faces = track(timed("detect", found, clock), self.make_tracker, _gap(config), first, marks.tracked, inside)
        crops = align(timed("track", faces, clock), self.restorer.size, config.align.smoothing, inside, ledger.warnings)
        crops = timed("align", crops, clock)
        if recognizer is not None:
            who = config.identify
            known = identify(crops, recognizer, who.window, who.views, people, marks.met, inside)
            crops = timed("identify", known, clock)
        return crops

    def _given(
        self, tracks: TracksFile, shots: Iterator[Frame], begin: Mark | None, marks: _Marks, warnings: list[str], inside: Inside
    ) -> Iterator[Faces[TrackedFace]]:
        from videoclr.stages.given import given

        media = self.config.media
        whole = media.end is None and media.frames is None
        find_points = getattr(self.detector, "points_in", None)
        if tracks.head.start_number != media.input.start_number:
            made = tracks.head.start_number
            said = "without a first number; leave it out" if made is None else f"with {made}; use the same"
            raise ConfigError(f"$.media.input.start_number: {tracks.path} was made {said}")
        if self.references:
            for name, track in self._called.items():
                told = f"{tracks.path}: track {track} is called {name}, and no photograph is: it gets nobody's"
                # Who is called so in `identify.people` is known as well; and a run that goes on was told before.
                if name not in self.references and name not in self.cast.names and told not in warnings:
                    log.warning(told)
                    warnings.append(told)
        first, missed = (0, 0) if begin is None else (begin.tracks, begin.missed)
        return given(shots, tracks, media.start, whole, find_points, marks.tracked, first, missed, warnings, inside)

    def _people(self, from_the_film: bool, cast: Cast) -> People:
        from videoclr.cast import fitted
        from videoclr.stages.identify import People

        section = self.config.identify
        remember = section.remember if from_the_film else 0
        look_back = section.look_back and from_the_film
        if cast:  # another restorer may have taken the place of the one that it was gathered for
            cast = replace(cast, members=fitted(cast.members, self.restorer.size))
        return People(self.references, section.match, section.same, remember, self.photographs, look_back, cast)

    def _gathering(self) -> People:
        from videoclr.stages.identify import People

        section = self.config.identify
        return People.gathering(self.references, section.match, section.same, section.remember, self.cast, section.views)

    def _wanted(self, crops: Iterator[Faces[FaceCrop]], ledger: RunLog, first: int, inside: Inside) -> Iterator[Faces[FaceCrop]]:
        """Whom `identify.only` names, or everybody, but for those of `identify.leave`."""
        from videoclr.stages.identify import chosen

        asked = self._asked()
        if not asked.only and not asked.leave:
            return crops

        def wanted(crop: FaceCrop) -> bool:
            return (not asked.only or asked.only.holds(crop)) and not asked.leave.holds(crop)

        numbers = asked.only.tracks | asked.leave.tracks
        return chosen(_counted(crops, numbers, first, ledger.warnings, inside, self._placed), wanted, ledger.passed)

    def _pictures(
        self, frames: Iterator[Frame], clock: dict[str, float], people: People, recognizer: Recognizer | None
    ) -> Iterator[Faces[FaceCrop]]:
        from videoclr.stages.align import whole
        from videoclr.stages.identify import identify

        crops = timed("align", whole(timed("waiting for decode", frames, clock), self.restorer.size), clock)
        if recognizer is not None:
            # Nothing says that two pictures belong together: one must not change the result of the other.
            known = identify(crops, recognizer, window=0, views=1, people=people)
            crops = timed("identify", known, clock)
        return crops

    def _has_part_of_both(self) -> bool:
        """Whether one object finds faces and restores them as well; the recognizer takes turns with itself (`_recognizers`)."""
        finding = {id(part) for part in (self.detector, self.recognizer) if part is not None}
        return any(id(part) in finding for part in (self.restorer, self.masker, self.judge))

    def _recognizers(self) -> tuple[Recognizer | None, Recognizer | None]:
        """Whom to ask who a face is, and who a restored one is: two threads do, one at a time."""
        if self.recognizer is None:
            return None, None
        # A restored face needs no recovery before it is embedded; a part that knows the difference says so.
        turn, clean = one_at_a_time(), getattr(self.recognizer, "of_clean", self.recognizer)
        return _InTurn(self.recognizer, turn), _InTurn(clean, turn)

    def _restored(
        self, crops: Iterator[Faces[FaceCrop]], ledger: RunLog, aligned: bool, inside: Inside, embedder: Recognizer | None
    ) -> Iterator[Frame]:
        from videoclr.stages.blend import blend
        from videoclr.stages.enlarge import EnlargingRestorer, enlarge
        from videoclr.stages.gate import gate
        from videoclr.stages.restore import restore

        config, clock = self.config, ledger.seconds_per_stage
        masker = _Everything() if aligned else self.masker
        batch, on_error = config.runtime.batch, config.runtime.on_error
        told = ledger.warnings
        restored = restore(crops, self.restorer, masker, embedder, batch, on_error, told, along=not aligned, inside=inside)
        restored = timed("restore", restored, clock)
        if self.judge is not None and not aligned:  # an aligned crop is asked for as a whole, and its landmarks are guesses
            restored = timed("gate", gate(restored, self.judge, config.gate.smoothing, inside), clock)
        watched = ledger.watched(restored)
        if isinstance(self.restorer, EnlargingRestorer) and self.restorer.larger is not None:
            watched = timed("enlarge", enlarge(watched, self.restorer, on_error, told), clock)
        look = config.blend
        seed = config.restore.seed
        done = blend(watched, look.strength, look.match_color, look.detail, look.grain, seed, inside=inside)
        return inside.leaving(timed("blend", done, clock))


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """What a run must know to begin with a shot as if it had come there from the film's first frame."""

    shot: int
    start: int
    """Index of the shot's first frame."""
    tracks: int
    """Number of its first track."""
    people: PeopleMemory | None
    """Whom the shots before made known; None where nobody is recognised."""
    missed: int = 0
    """How many lines of a file of tracks none of the frames before took."""


class _Marks:
    """Notes in `RunLog.marks` how each shot begins, if somebody wants to know."""

    def __init__(self, ledger: RunLog, people: People | None) -> None:
        self.ledger, self.people = ledger, people
        self._numbers: dict[int, tuple[int, int]] = {}

    def tracked(self, frame: Frame, number: int, missed: int = 0) -> None:
        self._numbers[frame.shot] = number, missed
        if self.people is None:
            self._note(frame)

    def met(self, frame: Frame) -> None:
        self._note(frame)

    def _note(self, frame: Frame) -> None:
        number, missed = self._numbers.pop(frame.shot)
        if self.ledger.marks is not None:
            people = None if self.people is None else self.people.memory()
            self.ledger.marks[frame.shot] = Mark(frame.shot, frame.shot_start, number, people, missed)


def _counted(
    crops: Iterable[Faces[FaceCrop]],
    asked: frozenset[int],
    first: int,
    warnings: list[str],
    inside: Inside = NOWHERE,
    placed: frozenset[int] | None = None,
) -> Iterator[Faces[FaceCrop]]:
    """Pass faces on, and tell at the end which of the tracks that were asked for there are not.

    Args:
        crops: of every frame.
        asked: numbers of tracks.
        first: number of the first track here.
        warnings: where that is told.
        inside: keeps how far the numbers went: a track may be over where a run goes on.
        placed: the tracks of a file, whose numbers need not be without gaps; None for those that were found.
    """
    last: int
    seen: list[int]
    last, seen = inside.begin("tracks asked for", lambda: (last, seen)) or (first - 1, [])
    for faces in crops:
        numbers = {crop.face.track for crop in faces.faces}
        last = max([last, *numbers])
        seen += sorted((numbers & asked).difference(seen))
        yield faces
    absent = frozenset() if placed is None else asked - placed
    least = last + 1 if placed is None else first
    away = frozenset(number for number in (asked - absent).difference(seen) if number >= least)
    found = f"the last one is {last}" if last >= 0 else "there is none"
    elsewhere = f"{found}; other settings of what finds faces give other numbers"
    if placed is not None:
        elsewhere = "its faces in the file of tracks lie outside of what is restored"
    for missing, why in ((absent, "the file of tracks has no such number"), (away, elsewhere)):
        if missing:
            told = f"there is no track {', '.join(map(str, sorted(missing)))} to restore or to leave: {why}"
            if told not in warnings:  # a run that was stopped may have looked ahead to the end
                log.warning(told)
                warnings.append(told)


def _since(begin: Mark, frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames of `begin`'s shot and after it."""
    for frame in frames:
        if frame.index >= begin.start:
            yield frame.in_shot(begin.shot, begin.start) if frame.index == begin.start else frame
        else:
            frame.forget_rgb()


class _InTurn:
    """A recognizer in its `turn`."""

    def __init__(self, recognizer: Recognizer, turn: AbstractContextManager[object]) -> None:
        self._recognizer, self._turn = recognizer, turn

    def embed(self, crops: Tensor) -> Tensor:
        with self._turn:
            return self._recognizer.embed(crops)


class _Everything:
    """The mask of a picture that is nothing but a face."""

    def mask(self, crops: Sequence[FaceCrop], images: Tensor) -> Tensor:
        return images.new_ones((len(crops), 1, *images.shape[2:]))


@dataclass(slots=True)
class TrackSummary:
    """What a track came to. Similarity is None where it was never measured."""

    track: int
    shot: int
    first_frame: int
    first_time: Fraction
    last_frame: int
    last_time: Fraction
    frames: int = 0
    """Restored faces."""
    passed: int = 0
    """Faces that were left as they are, as `identify.only` and `identify.leave` ask for."""
    person: int | None = None
    """The same for all tracks of one person; None where nobody was to be recognised."""
    name: str | None = None
    """Of the reference that the track was matched with, or as somebody called the track."""
    person_similarity: float | None = None
    """Cosine between the track's own views and the person, at the last look."""
    observed: int = 0
    """Those of them that the detector found; the others are interpolated."""
    anchors: int | None = None
    """Those that were restored in full; the others start from their neighbours. None where the restorer does not tell."""
    mean_size: float = 0.0
    """Of the boxes (`Detection.size`) of all its faces, pixels."""
    mean_confidence: float = 0.0
    mean_similarity: float | None = None
    """Cosine between the restored faces and the track's identity."""
    measured: int = 0
    """Faces that `mean_similarity` is of."""
    reasons: dict[str, int] = field(default_factory=dict)
    """What spoke against restored faces, wholly or in part -> of how many (see the stage `gate`)."""

    @classmethod
    def begun_by(cls, note: FaceNote) -> TrackSummary:
        """Of the track that `note` is the first face of, before that is counted."""
        return cls(note.track, note.shot, note.frame, note.time, note.frame, note.time)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> TrackSummary:
        """The summary whose `asdict`, made JSON, is `values`."""
        times = {name: Fraction(values[name]) for name in ("first_time", "last_time")}
        return cls(**{**values, **times})

    def add(self, note: FaceNote) -> None:
        """Count one more face."""
        # Faces that are passed are told before those that are restored: not all notes come in the order of time.
        if note.frame < self.first_frame:
            self.first_frame, self.first_time = note.frame, note.time
        if latest := note.frame >= self.last_frame:
            self.last_frame, self.last_time = note.frame, note.time
        if note.person is not None and (latest or self.person is None):
            self.person, self.name, self.person_similarity = note.person, note.name, note.person_similarity
        elif self.person is None and note.name is not None:  # somebody called the track so, and nobody recognises people
            self.name = note.name
        self.mean_size += (note.size - self.mean_size) / (self.frames + self.passed + 1)
        if note.passed:
            self.passed += 1
            return
        self.frames += 1
        self.observed += note.observed
        if note.full is not None:
            self.anchors = (self.anchors or 0) + note.full
        self.mean_confidence += (note.confidence - self.mean_confidence) / self.frames
        for reason in note.reasons:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if note.similarity is not None:
            self.measured += 1
            mean = self.mean_similarity or 0.0
            self.mean_similarity = mean + (note.similarity - mean) / self.measured


@dataclass
class RunLog:
    """What happened in a run, in memory that grows neither with the number of frames nor with that of tracks."""

    frames_in: int = 0
    frames_out: int = 0
    faces_restored: int = 0
    tracks: Shelf[TrackSummary] = field(default_factory=lambda: Shelf(asdict, TrackSummary.of_json))
    """In the order in which their first faces were told, most of them on the disk: a face that is passed is told before those
    that are restored, which wait for what follows."""
    shots: int = 0
    seconds_per_stage: dict[str, float] = field(default_factory=dict)
    """Seconds by stage, each without the stages before it. Stages run in several threads: the sum may exceed the time
    of the run. `waiting for ...` is idle."""
    warnings: list[str] = field(default_factory=list)
    each_face: Callable[[dict[str, Any]], None] | None = None
    """Told about every restored face, in order; see `FaceNote.line`."""
    each_note: Callable[[FaceNote], None] | None = None
    """Told about every face, those that are passed as well."""
    marks: dict[int, Mark] | None = None
    """Shot -> how it begins; filled in where it is a dictionary, before the shot's first frame comes out."""
    _shot: int | None = field(default=None, repr=False)

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Count the time inside as that of the stage `encode`, which is the caller's."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds_per_stage["encode"] = self.seconds_per_stage.get("encode", 0.0) + time.perf_counter() - began

    def counted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass frames on and count them in; close them at the end where they are a generator.

        Raises:
            TypeError: something else came than frames.
            ValueError: a frame whose number is not above that of the one before: stages know frames by their numbers.
        """
        iterator = iter(frames)
        last: int | None = None
        try:
            for frame in iterator:
                if not isinstance(frame, Frame):
                    raise TypeError(f"expected frames, got a {type(frame).__name__}; make each with Frame.from_image")
                if last is not None and frame.index <= last:
                    how = "number them upwards, with dataclasses.replace(frame, index=number) if need be"
                    raise ValueError(f"frame {frame.index} came after frame {last}; {how}")
                last = frame.index
                self.frames_in += 1
                yield frame
        finally:
            close(iterator)

    def watched(self, restored: Iterable[Faces[RestoredFace]]) -> Iterator[Faces[RestoredFace]]:
        """Pass restored faces on and sum them up by track."""
        for faces in restored:
            self.came(faces.frame)
            for face in faces.faces:
                self.take(FaceNote.of(face))
            yield faces

    def came(self, frame: Frame) -> None:
        """Count the shots."""
        if frame.shot != self._shot:
            self._shot = frame.shot
            self.shots += 1

    def passed(self, crop: FaceCrop) -> None:
        """Note a face that is not to be restored."""
        self.take(FaceNote.of_passed(crop))

    def take(self, note: FaceNote) -> None:
        """Count a face."""
        self.tracks.of(note.track, lambda: TrackSummary.begun_by(note)).add(note)
        if self.each_note is not None:
            self.each_note(note)
        if not note.passed:
            self.faces_restored += 1
            if self.each_face is not None:
                self.each_face(note.line())


@keepable
@dataclass(frozen=True, slots=True)
class FaceNote:
    """What is said of one face in one frame."""

    frame: int
    time: Fraction
    shot: int
    track: int
    person: int | None
    name: str | None
    person_similarity: float | None
    box: tuple[float, ...]
    score: float
    size: float
    observed: bool
    strength: float = 1.0
    """See `TrackedFace.strength`."""
    passed: bool = False
    """True for a face that `identify.only` or `identify.leave` keeps from restoration; the rest is of restored ones."""
    similarity: float | None = None
    confidence: float = 1.0
    trusted_share: float = 1.0
    reasons: Mapping[str, float] = field(default_factory=dict)
    full: bool | None = None
    """See `RestoredFace.full`."""
    invented: float | None = None
    """Share of the face in which the hallucination map is set; None where nobody looked."""

    @classmethod
    def of(cls, face: RestoredFace) -> FaceNote:
        """Of a restored face."""
        shown, found = face.mask if face.whole is None else face.whole, face.hallucination
        total = float(shown.sum())
        return replace(
            cls.of_passed(face.crop),
            passed=False,
            similarity=face.similarity,
            confidence=face.confidence,
            trusted_share=float(face.mask.sum()) / total if total > 0 else 1.0,
            reasons=dict(face.reasons),
            full=face.full,
            invented=None if found is None else float((found * shown).sum()) / max(total, 1e-6),
        )

    @classmethod
    def of_passed(cls, crop: FaceCrop) -> FaceNote:
        """Of a face that is left as it is."""
        frame, found, person = crop.frame, crop.face.detection, crop.person
        return cls(
            frame=frame.index,
            time=frame.time,
            shot=frame.shot,
            track=crop.face.track,
            person=None if person is None else person.number,
            name=crop.face.name or (None if person is None else person.name),
            person_similarity=None if person is None else person.similarity,
            box=tuple(float(value) for value in found.box),
            score=float(found.score),
            size=float(found.size),
            observed=crop.face.observed,
            strength=crop.face.strength,
            passed=True,
        )

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> FaceNote:
        """The note whose `asdict`, made JSON, is `values`."""
        return cls(**{**values, "time": Fraction(values["time"]), "box": tuple(values["box"])})

    def line(self) -> dict[str, Any]:
        """What people read, in JSON's types but for the exact time."""
        return {
            "frame": self.frame,
            "time": self.time,
            "shot": self.shot,
            "track": self.track,
            "person": self.person,
            "name": self.name,
            "box": [round(value, 2) for value in self.box],
            "score": round(self.score, 4),
            "observed": self.observed,
            "strength": round(self.strength, 4),
            "similarity": None if self.similarity is None else round(self.similarity, 4),
            "confidence": round(self.confidence, 4),
            "trusted_share": round(self.trusted_share, 4),
            "invented": None if self.invented is None else round(self.invented, 4),
            "reasons": dict(self.reasons),
        }


_THREADS = (("decode", "cuts"), ("detect", "track", "align", "identify"), ("restore", "gate", "enlarge", "blend"), ("encode",))
"""The stages of each thread; the two in the middle may be one, as in a run that keeps bookmarks."""
_AHEAD = "waiting for faces"
"""What a run waits for only where they are two."""


def slowest(seconds_per_stage: Mapping[str, float]) -> str | None:
    """The stage that holds up a run: the longest one of the thread that works most. None before anything was done.

    >>> slowest({"decode": 4.0, "detect": 3.0, "restore": 2.5, "encode": 1.0, "waiting for frames": 9.0})
    'detect'
    """
    spent = {stage: seconds_per_stage.get(stage, 0.0) for stages in _THREADS for stage in stages}
    first, *middle, last = _THREADS
    threads = _THREADS if _AHEAD in seconds_per_stage else (first, (*middle[0], *middle[1]), last)
    busiest = max(threads, key=lambda stages: sum(spent[stage] for stage in stages))
    stage = max(busiest, key=lambda stage: spent[stage])
    return stage if spent[stage] > 0 else None


class _Waiting:
    """Frames on their way through the stages; those whose pictures know how may wait on the disk."""

    def __init__(self, spool: Spool) -> None:
        from videoclr.media.picture import Picture

        self._spool, self._kind = spool, Picture

    def from_here(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """`frames`, each with the RGB that the next stages look at."""
        for frame in frames:
            frame.glance  # noqa: B018  made in the decoder's thread, and while the picture is here
            if isinstance(frame.native, self._kind):
                self._spool.wait(frame.native)
            yield frame

    def over(self, frame: Frame) -> None:
        """`frame` is through."""
        if isinstance(frame.native, self._kind):
            self._spool.leave(frame.native)


_CHANNEL_FRAMES: Final = 240
"""Frames that wait in a channel at the most: of tiny ones, bytes would admit those of minutes."""


_FACES_FRAMES: Final = 16
"""The same of the channel whose frames have been looked at: as many as are restored together, twice."""


class _Weights:
    """Bytes that waiting frames hold. A native picture that does not tell its own counts as much as its RGB.

    Args:
        room: of a channel; a frame counts so much at least that no more than `_CHANNEL_FRAMES` wait there.
    """

    def __init__(self, room: int) -> None:
        self.rgb, self.room, self.least = 0, room, room // _CHANNEL_FRAMES

    def decoded(self, frame: Frame) -> int:
        # Makes the RGB at the latest here, in the decoder's thread: the face detector wants it in any case.
        self.rgb = frame.glance.nbytes
        held = frame.nbytes
        return max(self.least, 2 * self.rgb if held is None else held)

    def found(self, faces: Faces[FaceCrop]) -> int:
        # Their native pictures wait in memory or on the disk (see `_Waiting`), whose room is not endless either.
        native = faces.frame.native
        held = faces.frame.nbytes
        held = 2 * self.rgb if held is None else held - (native.nbytes if is_windowed(native) else 0)
        return max(self.room // _FACES_FRAMES, held + sum(crop.image.nbytes for crop in faces.faces))

    def restored(self, frame: Frame) -> int:
        # The stages have dropped the RGB of native frames; asking this one for its size would make it again.
        held = frame.nbytes
        if held is None:
            held = self.rgb + sum(patch.rgb.nbytes + patch.alpha.nbytes for patch in frame.patches)
        return max(self.least, held)


def _gap(config: Config) -> int:
    # A face must be looked for again before its gap is over, or skipping frames would end every track.
    return max(config.track.max_gap, config.detect.every if config.detect.every > 1 else 0)


def device_of(config: Config) -> str:
    """`runtime.device` with `auto` resolved.

    Raises:
        ConfigError: a device that torch does not know or that is not there.
    """
    import torch

    name = config.runtime.device
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"$.runtime.device: unknown device {name!r}; known here: auto, cpu, cuda, cuda:n") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"$.runtime.device: {name} is no device that this package runs on; known here: auto, cpu, cuda, cuda:n")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        found = torch.cuda.device_count()
        raise ConfigError(f"$.runtime.device: {name} is not here, torch sees {found} CUDA device(s); try cpu or auto")
    return name


def recognizer_of(config: Config) -> dict[str, Any]:
    """What tells the recognizer of `config` from others whose identities are other directions, in JSON's types."""
    from videoclr.models import weights

    section = config.identify
    known = weights.manifest().get("recognizer", {}) if section.use == "recognizer" else {}
    return {"use": section.use, "options": section.options, "weights": known.get("sha256")}


def _check_references(references: Mapping[str, Tensor]) -> None:
    """See that faces can be compared with those of `references`.

    Raises:
        ConfigError: they are no unit vectors with names.
    """
    import torch

    expected = "references: expected name -> a tensor (D,) of length 1"
    if not isinstance(references, Mapping):
        raise ConfigError(f"{expected}, got {described(references)}")
    for name, identity in references.items():
        if not isinstance(identity, torch.Tensor) or identity.ndim != 1:
            raise ConfigError(f"{expected}, got for {name} {described(identity)}")
        if not abs(float(identity.float().norm()) - 1) < _UNIT:
            raise ConfigError(f"{expected}, got for {name} one of length {float(identity.float().norm()):.3g}")


def _fitted(photographs: Mapping[str, Tensor], restorer: Restorer | None) -> Mapping[str, Tensor]:
    """`photographs` at the size of the restorer's crops: another restorer may have taken the place of the one that they were for.

    Raises:
        ConfigError: they are no pictures with names.
    """
    import torch

    from videoclr.pixels import resized, to_array, to_tensor

    expected = "photographs: expected name -> a tensor (3, S, S) of floats in [-1, 1]"
    if not isinstance(photographs, Mapping):
        raise ConfigError(f"{expected}, got {described(photographs)}")
    for name, picture in photographs.items():
        fits = isinstance(picture, torch.Tensor) and picture.is_floating_point() and picture.ndim == 3
        if not fits or picture.shape[0] != 3 or picture.shape[1] != picture.shape[2] or not picture.numel():
            raise ConfigError(f"{expected}, got for {name} {described(picture)}")
    if restorer is None:
        return photographs
    size = restorer.size
    return {
        name: picture if picture.shape[-1] == size else to_tensor(resized(to_array(picture), size).clip(-1, 1))
        for name, picture in photographs.items()
    }


def _check_methods(part: object, kind: str, who: str) -> None:
    """See that a stage can call a part, where there is one.

    Raises:
        ConfigError: it has not the methods of its kind.
    """
    missing = [name for name in plugins.METHODS[kind] if not callable(getattr(part, name, None))]
    if part is not None and missing:
        raise ConfigError(f"{who}: expected a part with the method {missing[0]}, got a {type(part).__name__}")


def _check_made(part: object, kind: str, who: str) -> None:
    """See that a part is no class that somebody forgot to make one of.

    Raises:
        ConfigError: it is.
    """
    if isinstance(part, type) and any(inspect.isfunction(inspect.getattr_static(part, name)) for name in plugins.METHODS[kind]):
        raise ConfigError(f"{who}: expected a part, got the class {part.__name__} itself; make one: {part.__name__}(...)")


def _built(kind: str, section: Any, settings: Mapping[str, Any]) -> Any:
    """The part that a section of the settings names."""
    import torch

    # Networks draw their first weights, which those of the file replace: not out of the host program's random numbers.
    own = torch.random.fork_rng(devices=[]) if section.use in plugins.BUILT_IN[kind] else contextlib.nullcontext()
    with own:
        part = plugins.build(kind, section.use, section.options, settings)
    _check_methods(part, kind, f"$.{kind}.use: {section.use}")
    return part


def _check_size(restorer: Restorer | None) -> None:
    """See that the stages can ask a restorer, where there is one, for the crops that it wants, and for as many.

    Raises:
        ConfigError: it does not say how large they are, or how far along a track it looks.
    """
    if restorer is None:
        return
    size = getattr(restorer, "size", None)
    if not isinstance(size, numbers.Integral) or size < 1:
        found = "nothing" if size is None else repr(size)
        who = restorer.__name__ + " (the class itself)" if isinstance(restorer, type) else type(restorer).__name__
        raise ConfigError(f"the restorer {who}: expected as `size` the side of its crops in pixels, a whole number, got {found}")
    larger = getattr(restorer, "larger", None) if callable(getattr(restorer, "enlarge", None)) else None
    if larger is not None and not (isinstance(larger, numbers.Integral) and larger > size):
        who = type(restorer).__name__
        raise ConfigError(f"the restorer {who}: expected as `larger` a side of more pixels than {size}, or None, got {larger!r}")
    if callable(getattr(restorer, "restore_span", None)):  # what it has less than a `SpanRestorer`, it does not use
        for name, least in (("anchors", 1), ("reach", 0)):
            frames = getattr(restorer, name, least)
            if not isinstance(frames, numbers.Integral) or frames < least:
                who = type(restorer).__name__
                raise ConfigError(f"the restorer {who}: expected as `{name}` a number of frames from {least} on, got {frames!r}")


def _cut_detector_maker(config: Config) -> Callable[[], CutDetector]:
    section = config.cuts
    # Not a function of our own in here: what is made of these can be pickled, and the pipeline with it.
    make = partial(_built, "cuts", section, {})
    make()  # a bad option is said now, not when the run has begun
    return make


def _tracker_maker(config: Config) -> Callable[[], Tracker]:
    section, detect = config.track, config.detect
    settings = {"threshold": detect.threshold, "low_threshold": detect.low_threshold, "max_gap": _gap(config)}
    make = partial(_built, "track", section, settings)
    make()
    return make


def _detector(config: Config) -> Any:
    section = config.detect
    settings = {
        "weights": section.weights,
        "low_threshold": section.low_threshold,
        "long_side": section.long_side,
        "device": device_of(config),
    }
    return _built("detect", section, settings)


def _recognizer(config: Config) -> Any:
    section = config.identify
    return _built("identify", section, {"device": device_of(config)})


def _restorer(config: Config) -> Any:
    section = config.restore
    settings = {
        "steps": section.steps,
        "fidelity": section.fidelity,
        "seed": section.seed,
        "anchors": section.anchors,
        "precision": section.precision,
        "device": device_of(config),
    }
    return _built("restore", section, settings)


def _judge(config: Config) -> Any:
    section = config.gate
    if section.use == "none":
        return None
    return _built("gate", section, {"device": device_of(config)})


def _masker(config: Config) -> Any:
    section = config.blend
    return _built("blend", section, {"device": device_of(config)})


_PARTS: Final = {"detector": "detect", "recognizer": "identify", "restorer": "restore", "judge": "gate", "masker": "blend"}
"""Field of `Pipeline` that holds a part -> its kind; those that are made once per run are looked at when they are made."""

_BUILDERS: Final[dict[str, Callable[[Config], Any]]] = {
    "make_cut_detector": _cut_detector_maker,
    "detector": _detector,
    "make_tracker": _tracker_maker,
    "recognizer": _recognizer,
    "restorer": _restorer,
    "judge": _judge,
    "masker": _masker,
}

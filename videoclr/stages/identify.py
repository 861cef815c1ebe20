"""Give every crop the identity of its track, pooled from the track's best views, and say who it is.

Latents and noise belong to a track and die with it. Who a person *is* does not: somebody who comes back after a cut or
a gap is recognised and gets the same identity again, with the best view of the earlier tracks beside it, and photographs may
say from the start who is to be expected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videoclr import appearance, geometry
from videoclr.blame import blamed, directions_of
from videoclr.bookmark import NOWHERE, Inside
from videoclr.cast import Cast, Member, View, jpeg
from videoclr.errors import RestorationError
from videoclr.flow import around
from videoclr.packing import keepable
from videoclr.pixels import quantized, to_array
from videoclr.shortage import with_room
from videoclr.types import FaceCrop, Faces, Frame, Person

log = logging.getLogger("videoclr.stages.identify")

_BETTER = 1.05  # a new view must beat a pooled one by this factor: equals would be embedded for nothing
_GONE = 50  # frames without a face after which a track's pool is dropped
_HOLD = 0.05  # cosine by which another must be nearer to a photograph than the track that has it: no changing to and fro


class Recognizer(Protocol):
    """Turns faces into vectors of who they are; keeps no state. Two threads of a run ask it, one at a time."""

    def embed(self, crops: Tensor) -> Tensor:
        """Identity of aligned faces.

        Args:
            crops: `(N, 3, S, S)` RGB float32 in [-1, 1], aligned as FFHQ.

        Returns:
            `(N, D)` float32 unit vectors, row by row, on any device.
        """
        ...


@keepable
@dataclass(eq=False)
class _Pool:
    """The best views of somebody."""

    room: int
    """How many are kept."""
    views: list[tuple[float, Tensor]] = field(default_factory=list)
    """Quality and embedding, best first."""
    identity: Tensor | None = None

    def add(self, views: Iterable[tuple[float, Tensor]]) -> None:
        """Take in new views; the best stay."""
        self.views = sorted([*self.views, *views], key=lambda pair: -pair[0])[: self.room]
        self.identity = pooled(self.views)


@keepable
@dataclass(eq=False)
class _Known:
    """Somebody whom `People` knows."""

    number: int
    name: str | None
    pool: _Pool
    tracks: int = 0
    """How many tracks were recognised as this person."""
    last: int = -1
    """Index of the frame where the person was last seen."""

    @property
    def fixed(self) -> bool:
        """Whether what this film shows does not change who it is: known from photographs, or from the start."""
        return self.pool.room == 0


@keepable
@dataclass(eq=False)
class _Track:
    """What is known of a track."""

    number: int
    pool: _Pool
    """Its views; shared with the other tracks of a person known from the film."""
    seen: int = -1
    """Index of the newest frame that was considered."""
    last: int = -1
    """Index of the last frame that left with the track in it."""
    fresh: bool = False
    """Whether the pool changed with this frame."""
    known: _Known | None = None
    similarity: float | None = None
    best: tuple[float, NDArray[np.uint8]] | None = None
    """Quality of its best view, and the crop as a JPEG file."""
    called: str | None = None
    """Who it is, where somebody said so."""

    @property
    def identity(self) -> Tensor | None:
        return self.pool.identity if self.known is None else self.known.pool.identity

    @property
    def person(self) -> Person | None:
        return None if self.known is None else Person(self.known.number, self.known.name, self.similarity)


@dataclass(frozen=True, slots=True, eq=False)
class Met:
    """Somebody whom the film made known."""

    number: int
    tracks: int
    last: int
    views: tuple[tuple[float, Tensor], ...]
    """Quality and embedding `(D,)`, best first."""
    identity: Tensor | None
    room: int
    name: str | None = None
    """As somebody called the tracks; None where nobody did."""


@dataclass(frozen=True, slots=True, eq=False)
class PeopleMemory:
    """What `People` carries over a cut."""

    next: int
    """Number of the next new person."""
    met: tuple[Met, ...]
    views: tuple[tuple[int, View], ...]
    """Number of a person and the best view of them, also of those whom photographs made known; the last ones last."""

    def as_json(self) -> dict[str, object]:
        """In JSON's types, exactly."""
        met = [
            {
                "number": one.number,
                "tracks": one.tracks,
                "last": one.last,
                "room": one.room,
                "views": [[quality, vector.tolist()] for quality, vector in one.views],
                "identity": None if one.identity is None else one.identity.tolist(),
                "name": one.name,
            }
            for one in self.met
        ]
        return {"next": self.next, "met": met, "views": [[number, view.as_json()] for number, view in self.views]}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> PeopleMemory:
        """The memory that gave `values`."""
        met = [
            Met(
                one["number"],
                one["tracks"],
                one["last"],
                tuple((quality, torch.tensor(vector, dtype=torch.float32, device="cpu")) for quality, vector in one["views"]),
                None if one["identity"] is None else torch.tensor(one["identity"], dtype=torch.float32, device="cpu"),
                one["room"],
                one["name"],
            )
            for one in values["met"]
        ]
        return cls(values["next"], tuple(met), tuple((number, View.of_json(view)) for number, view in values["views"]))


_Kept: TypeAlias = tuple[list[_Known], list[_Known], list[_Known], dict[str, _Known], int, dict[int, View]]


class People:
    """Whom a run knows; one per run, passed on over the cuts. Holds at most `remember` people and those of `references`.

    Args:
        references: name -> `(D,)` unit vector from photographs.
        match: cosine from which a track is the person of a photograph.
        same: cosine from which a track is somebody who was seen before. Higher than `match`: pooled views of one film are
            alike, and a wrong answer mixes two people.
        remember: people from the film that are kept in mind, the longest unseen are forgotten first; 0 for none.
        photographs: name -> `(3, S, S)` aligned face in [-1, 1], of those of `references` who have one.
        look_back: keep the best view of the tracks that are over, for the later ones of the same person.
        cast: who is known from the start, with the best view of each; nothing that the film shows changes who they are. One who
            has the name of a photograph is the person of that.
        shown: people of whom a view of this film is kept, those who were seen last; of 256 x 256 pixels it takes some 20 kB.
    """

    def __init__(
        self,
        references: Mapping[str, Tensor],
        match: float,
        same: float,
        remember: int,
        photographs: Mapping[str, Tensor] | None = None,
        look_back: bool = False,
        cast: Cast | None = None,
        shown: int = 16,
    ) -> None:
        self.match, self.same, self.remember, self.photographs = match, same, remember, photographs or {}
        self.photographed = [
            _Known(number, name, _Pool(0, [], torch.nn.functional.normalize(vector.detach().float().cpu(), dim=0)))
            for number, (name, vector) in enumerate(references.items())
        ]
        self.shown = shown
        cast = Cast() if cast is None else cast
        numbers = _numbers(cast, self.photographed)
        self.cast = [
            _Known(number, member.name, _Pool(0, [], member.identity))
            for number, member in zip(numbers, cast.members, strict=True)
            if number >= len(self.photographed)
        ]
        """Those who are known from the start, without those of photographs."""
        self._cast_views = {
            number: member.view for number, member in zip(numbers, cast.members, strict=True) if member.view is not None
        }
        self._told = {track: numbers[place] for track, place in cast.tracks.items()}
        """Number of a track -> of its person, for tracks of which that is known from the start."""
        self.met: list[_Known] = []
        self.called: dict[str, _Known] = {}
        """Those of the film whose tracks somebody named."""
        self.look_back = look_back
        self._views: dict[int, View] = {}
        self._next = len(self.photographed) + len(self.cast)
        self._whose: dict[int, int] | None = None
        """Number of a track that is over -> of its person; only where a cast is gathered, for it grows with the film."""

    @classmethod
    def gathering(
        cls,
        references: Mapping[str, Tensor],
        match: float,
        same: float,
        remember: int,
        cast: Cast | None = None,
        views: int = 5,
    ) -> People:
        """Of a run that is to give a cast: those who are in it already are people of the film, and learn from it.

        Args:
            references: see `People`; so are `match`, `same` and `remember`, which is besides those of `cast`.
            cast: whom other films made known.
            views: that are pooled of somebody.
        """
        cast = Cast() if cast is None else cast
        remember += len(cast.members)
        people = cls(references, match, same, remember, look_back=True, shown=remember + len(references))
        people._whose = {}
        numbers = _numbers(cast, people.photographed)
        met, shown = [], []
        for number, member in zip(numbers, cast.members, strict=True):
            if number >= len(references):
                pairs = member.views or ((1.0, member.identity),)
                met.append(Met(number, 1, -1, pairs, member.identity, max(views, len(pairs)), member.name))
            if member.view is not None:
                shown.append((number, member.view))
        people.recall(PeopleMemory(max([len(references) - 1, *numbers]) + 1, tuple(met), tuple(shown)))
        return people

    def gathered(self) -> Cast:
        """Everybody whom a run of `gathering` knows at its end, in the order in which they became known."""
        there = sorted((*self.photographed, *self.met, *self.called.values()), key=lambda known: known.number)
        there = [one for one in there if one.pool.identity is not None and (one.pool.views or one.number in self._views)]
        places = {one.number: place for place, one in enumerate(there)}
        members = tuple(
            Member(one.name, one.pool.identity, tuple(one.pool.views), self._views.get(one.number))
            for one in there
            if one.pool.identity is not None
        )
        whose = self._whose or {}
        return Cast(members, {track: places[number] for track, number in whose.items() if number in places})

    def memory(self) -> PeopleMemory:
        """Whom the film made known so far, to be given to `recall` of another run's `People`. Ask between shots."""
        met = [
            Met(one.number, one.tracks, one.last, tuple(one.pool.views), one.pool.identity, one.pool.room, one.name)
            for one in (*self.met, *self.called.values())
        ]
        return PeopleMemory(self._next, tuple(met), tuple(self._views.items()))

    def recall(self, memory: PeopleMemory) -> None:
        """Know these people, as the run knew them that `memory` is of."""
        self._next = memory.next
        known = [
            _Known(one.number, one.name, _Pool(one.room, list(one.views), one.identity), one.tracks, one.last) for one in memory.met
        ]
        self.met = [one for one in known if one.name is None]
        self.called = {one.name: one for one in known if one.name is not None}
        self._views = dict(memory.views)

    def photograph(self, person: Person | None) -> Tensor | None:
        """The person's face on a photograph, or None."""
        return None if person is None or person.name is None else self.photographs.get(person.name)

    def earlier(self, track: _Track) -> Tensor | None:
        """The best view of the person in the tracks before this one, `(3, S, S)` in [-1, 1]; None where there is none, or where
        nobody said, and it is not sure enough (`same`), that it is the same person."""
        known, own = track.known, track.pool.identity
        view = None if known is None else self._best_of(known.number)
        told = track.called is not None or track.number in self._told
        if view is None or (not told and (own is None or float(own @ view.who) < self.same)):
            return None
        return view.image

    def _best_of(self, number: int) -> View | None:
        """The best view of somebody, of this film up to now or from the start."""
        found, start = self._views.get(number), self._cast_views.get(number)
        return start if found is None or (start is not None and start.quality * _BETTER >= found.quality) else found

    def over(self, tracks: Iterable[_Track]) -> None:
        """These tracks have ended: what they showed best is for those that come."""
        if not self.look_back:
            return
        for track in tracks:
            if track.known is None or track.best is None or track.pool.identity is None:
                continue
            if self._whose is not None:
                self._whose[track.number] = track.known.number
            best = self._best_of(track.known.number)
            held = self._views.pop(track.known.number, None)
            if best is None or track.best[0] > _BETTER * best.quality:
                held = View(track.best[0], track.pool.identity, track.best[1])
            if held is not None:
                self._views[track.known.number] = held
        there = {one.number for one in (*self.photographed, *self.cast, *self.met, *self.called.values())}
        last = [number for number in self._views if number in there][-self.shown :]
        self._views = {number: self._views[number] for number in last}

    def keep(self) -> _Kept:
        """Everybody, with what they share with the tracks of the shot; for `take_up` together with those tracks."""
        return self.photographed, self.cast, self.met, self.called, self._next, self._views

    def take_up(self, kept: _Kept) -> None:
        """Know whom `keep` gave."""
        self.photographed, self.cast, self.met, self.called, self._next, self._views = kept

    def meet(self, tracks: Sequence[_Track], now: int) -> None:
        """Say who the tracks of one frame are: two faces of a frame are two people, unless somebody said that they are one."""
        told = [track for track in tracks if track.called is not None or self._tell(track)]
        for track in told:
            if track.called is not None:
                self._join(track, track.called)
        open_ = [track for track in tracks if track not in told and track.pool.identity is not None]
        busy = {id(track.known) for track in told}
        self._match(open_, busy)
        if self.remember or self.cast:
            self._recognise(open_, busy)
        for track in tracks:
            if track.known is not None:
                track.known.last = now
        self.met = sorted(self.met, key=lambda known: -known.last)[: self.remember]

    def _tell(self, track: _Track) -> bool:
        """A track is the person whom it is known from the start to be, if that is known."""
        number = self._told.get(track.number)
        if number is None:
            return False
        known = next(one for one in (*self.photographed, *self.cast) if one.number == number)
        if known is not track.known:
            self._become(track, known)
        own, identity = track.pool.identity, known.pool.identity
        track.similarity = None if own is None or identity is None else float(own @ identity)
        return True

    def _join(self, track: _Track, name: str) -> None:
        """A track is the person whom somebody called it."""
        own = track.pool.identity
        known = next((one for one in (*self.photographed, *self.cast) if one.name == name), None) or self.called.get(name)
        if known is None:
            known = self.called[name] = _Known(self._next, name, track.pool)
            self._next += 1
        if own is not None and known.pool.identity is not None and known.pool is not track.pool:
            track.similarity = float(own @ known.pool.identity)
        if known is not track.known:
            self._become(track, known)

    def _match(self, tracks: Sequence[_Track], busy: set[int]) -> None:
        """Photographs: the nearest pair first. The answer may change while a track's views get better."""
        holders = {id(track): track.known for track in tracks}
        free = [known for known in self.photographed if id(known) not in busy]
        wanted = _pairs(tracks, free, lambda track, known: self.match - _HOLD * (track.known is known))
        given = _nearest_first(wanted)
        for track in tracks:
            known, similarity = given.get(id(track), (None, None))
            held = holders[id(track)]
            if known is not None and known is not held:
                self._leave(track)
            if known is not None or held in self.photographed:
                track.known, track.similarity = known, similarity

    def _recognise(self, tracks: Sequence[_Track], taken: set[int]) -> None:
        """People from the film, or known from the start. A track that stood alone so far may still turn out to be somebody, when
        its views get better."""
        open_ = [one for one in tracks if one.known is None or (one.fresh and one.known.tracks == 1 and one.known in self.met)]
        busy = taken | {id(track.known) for track in tracks if track.known is not None}
        free = [known for known in (*self.cast, *self.met, *self.called.values()) if id(known) not in busy]
        for track in open_:
            known, similarity = _nearest_first(_pairs([track], free, lambda *_: self.same)).get(id(track), (None, None))
            if known is not None:
                free.remove(known)
                self._become(track, known)
                track.similarity = similarity
            elif track.known is None and self.remember:
                track.known, track.similarity = _Known(self._next, None, track.pool, tracks=1), None
                self.met.append(track.known)
                self._next += 1

    def _become(self, track: _Track, known: _Known) -> None:
        """A track is somebody else than before; its views are theirs, unless nothing changes who they are."""
        self._leave(track)
        known.tracks += 1
        track.known = known
        if not known.fixed:
            if known.pool is not track.pool:
                known.pool.add(track.pool.views)
            track.pool = known.pool

    def _leave(self, track: _Track) -> None:
        """Forget a person of the film who was nobody but this track."""
        if track.known is not None and track.known in self.met and track.known.tracks == 1:
            self.met.remove(track.known)


def _pairs(
    tracks: Sequence[_Track], people: Sequence[_Known], least: Callable[[_Track, _Known], float]
) -> list[tuple[float, float, _Track, _Known]]:
    """Cosine above what is asked, cosine, track and person, of all pairs that reach it."""
    found = []
    for track in tracks:
        for known in people:
            if track.pool.identity is not None and known.pool.identity is not None:
                cosine = float(track.pool.identity @ known.pool.identity)
                if cosine >= least(track, known):
                    found.append((cosine - least(track, known), cosine, track, known))
    return found


def _nearest_first(pairs: Sequence[tuple[float, float, _Track, _Known]]) -> dict[int, tuple[_Known, float]]:
    """`id` of a track -> its person and the cosine; nobody twice."""
    given: dict[int, tuple[_Known, float]] = {}
    for _, cosine, track, known in sorted(pairs, key=lambda pair: -pair[0]):
        if id(track) not in given and all(known is not other for other, _ in given.values()):
            given[id(track)] = (known, cosine)
    return given


def identify(
    crops: Iterable[Faces[FaceCrop]],
    recognizer: Recognizer,
    window: int = 8,
    views: int = 5,
    people: People | None = None,
    begins: Callable[[Frame], None] = lambda _: None,
    inside: Inside = NOWHERE,
) -> Iterator[Faces[FaceCrop]]:
    """Fill in `FaceCrop.identity` and, with `people`, `FaceCrop.person`, `FaceCrop.photograph` and `FaceCrop.earlier`.

    The identity is the mean of the embeddings of the track's `views` best views (see `pooled`) over all frames of the
    shot up to `window` frames ahead: it gets better as the shot goes on and never looks further into the future. Only
    views that enter the pool are embedded. It stays None where the recognizer gives nothing finite. A track that is
    somebody of `people` gets that person's identity: the photographs', or that of all views of the film so far. One that
    somebody named (`TrackedFace.name`) is that person, whatever it shows.

    Args:
        crops: with the shots numbered; every frame.
        recognizer: embeds faces.
        window: frames of look-ahead, which is the delay. It is emptied at a cut.
        views: views that are pooled.
        people: whom to recognise; None leaves every track to itself.
        begins: told the first frame of each shot, when `people` knows those before it and nobody of the shot.
        inside: keeps what waits, the tracks' views, and `people`.

    Raises:
        RestorationError: the recognizer failed.
    """
    tracks: dict[int, _Track]
    shot: int | None
    held = inside.begin("identify", lambda: (tracks, shot, None if people is None else people.keep()))
    tracks, shot, known_people = held or ({}, None, None)
    if people is not None and known_people is not None:
        people.take_up(known_people)
    for place in around(crops, 0, window, lambda one: one.frame.shot, inside, "identify window"):
        frame = place.item.frame
        if frame.shot != shot:
            if people is not None:
                people.over(tracks.values())
            tracks, shot = {}, frame.shot
            begins(frame)
        for crop in place.item.faces:
            track = tracks.setdefault(crop.face.track, _Track(crop.face.track, _Pool(views)))
            track.called = crop.face.name or track.called
            track.last = frame.index
            track.fresh = _refine(track, crop.face.track, (place.item, *place.future), recognizer)
        if people is not None:
            people.meet([tracks[crop.face.track] for crop in place.item.faces], frame.index)
        gone = [number for number, track in tracks.items() if frame.index - track.last > _GONE]
        ended = [tracks.pop(number) for number in gone]
        if people is not None and ended:
            people.over(ended)
        known = tuple(_known(crop, tracks[crop.face.track], people) for crop in place.item.faces)
        yield Faces(frame, known, looked=place.item.looked)
    if people is not None:
        people.over(tracks.values())


def _numbers(cast: Cast, photographed: Sequence[_Known]) -> list[int]:
    """Of the members of a cast, in order: the photograph's of the same name, or one after all of those."""
    of_photographs = {known.name: known.number for known in photographed}
    free = count(len(photographed))
    return [of_photographs[one.name] if one.name in of_photographs else next(free) for one in cast.members]


def _jpeg(image: Tensor) -> NDArray[np.uint8]:
    """`(3, S, S)` RGB in [-1, 1] -> the file."""
    return jpeg(np.ascontiguousarray(quantized(to_array(image), np.uint8)[..., ::-1]))


def _known(crop: FaceCrop, track: _Track, people: People | None) -> FaceCrop:
    if people is None:
        return replace(crop, identity=track.identity)
    photograph, earlier = people.photograph(track.person), people.earlier(track)
    return replace(crop, identity=track.identity, person=track.person, photograph=photograph, earlier=earlier)


def chosen(
    crops: Iterable[Faces[FaceCrop]], wanted: Callable[[FaceCrop], bool], passed: Callable[[FaceCrop], None]
) -> Iterator[Faces[FaceCrop]]:
    """Let the faces that are `wanted` go on; the others stay in the frame as they are, and `passed` is told."""
    for faces in crops:
        going = []
        for crop in faces.faces:
            if wanted(crop):
                going.append(crop)
            else:
                passed(crop)
        yield faces if len(going) == len(faces.faces) else replace(faces, faces=tuple(going))


def _refine(track: _Track, number: int, frames: tuple[Faces[FaceCrop], ...], recognizer: Recognizer) -> bool:
    """Let the frames that are new to the track compete for a place in its pool; True where one got in."""
    fresh = [one for faces in frames if faces.frame.index > track.seen for one in faces.faces if one.face.track == number]
    track.seen = frames[-1].frame.index
    pool, views = track.pool, track.pool.room
    rated = sorted(((quality(one), one) for one in fresh), key=lambda pair: -pair[0])
    entering: list[tuple[float, FaceCrop]] = []
    for value, crop in rated[:views]:
        rank = len(pool.views) + len(entering) - views  # how many pooled views must leave for this one
        if rank >= 0 and (rank >= len(pool.views) or value < pool.views[-1 - rank][0] * _BETTER):
            break
        entering.append((value, crop))
    if not entering:
        return False
    first = entering[0][1].frame.index
    with blamed("recognizer", first, number, len(entering)):
        images = torch.stack([crop.image for _, crop in entering])
        given = with_room(lambda: recognizer.embed(images))
        vectors = list(zip(entering, _like(pool, directions_of(given, len(entering), first, number), first, number), strict=True))
    found = []
    for (value, crop), vector in vectors:
        if torch.isfinite(vector).all():
            found.append((value, vector.clone()))  # the recognizer may use its memory again
            if track.best is None or value > track.best[0]:
                track.best = value, _jpeg(crop.image)
        else:
            log.warning("frame %d, track %d: the recognizer gave no finite embedding", crop.frame.index, number)
    pool.add(found)
    return bool(found)


def _like(pool: _Pool, vectors: Tensor, frame: int, track: int) -> Tensor:
    """`vectors`, as long as those that are pooled already.

    Raises:
        RestorationError: they are not.
    """
    if pool.views and (before := len(pool.views[0][1])) != vectors.shape[1]:
        raise RestorationError(frame, track, f"the recognizer gave vectors of {vectors.shape[1]} numbers, and {before} before")
    return vectors


def pooled(views: Sequence[tuple[float, Tensor]]) -> Tensor | None:
    """`(D,)` unit vector of weighted embeddings; None without any.

    Each view weighs as much as its quality, times how well it agrees with the others: a hand before the face, a blink or
    another face on the track gives an embedding that stands apart.
    """
    if not views:
        return None
    weights = torch.tensor([max(value, 1e-6) for value, _ in views], dtype=torch.float32, device="cpu")
    vectors = torch.stack([vector for _, vector in views])
    others = weights.sum() - weights
    if len(views) > 2:  # of two that differ, nobody knows which one is wrong
        mean = (weights[:, None] * vectors).sum(0) - weights[:, None] * vectors
        agreement = (vectors * torch.nn.functional.normalize(mean, dim=1)).sum(1)
        weights = torch.where(others > 0, weights * agreement.clamp(min=0.05) ** 2, weights)
    return torch.nn.functional.normalize((weights[:, None] * vectors).sum(0), dim=0)


def quality(crop: FaceCrop) -> float:
    """How well a crop shows who it is, in [0, 1]: detector's score x size x sharpness x frontality x open eyes.

    The weights are rules of thumb; only their order matters, and only within a track.
    """
    face = crop.face
    luma = appearance.grey(to_array(crop.image))
    points = geometry.moved(face.detection.landmarks, crop.matrix)
    large = face.detection.size / (face.detection.size + 48.0)
    seen = 1.0 if face.observed else 0.25
    energy = appearance.edges(luma)
    sharp = energy / (energy + 4.0)
    return float(face.detection.score * large * sharp * _frontality(points, luma.shape[0]) * _open_eyes(luma, points) * seen)


def _frontality(points: NDArray[np.float64], side: int) -> float:
    """In (0, 1]: 1 where the nose lies midway between the eyes and the mouth's corners."""
    # In an FFHQ crop the eyes of a frontal face are about a quarter of the side apart; yaw brings them together.
    width = max(float(points[1, 0] - points[0, 0]), 1e-3)
    return float(np.exp(-0.5 * (appearance.yaw(points) / 25.0) ** 2)) * min(1.0, width / (0.22 * side))


def _open_eyes(luma: NDArray[np.float32], points: NDArray[np.float64]) -> float:
    """In [0.6, 1]: the views of a blink come last, and still count where there are no others."""
    tall = np.mean([appearance.darkness(appearance.region(luma, points, eye), eye)[0] for eye in ("left", "right")])
    return 0.6 + 0.4 * float(np.clip((tall - 0.035) / 0.015, 0, 1))

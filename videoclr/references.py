"""Photographs of the people in a film -> whom to expect, as the stage `identify` wants it.

`anna.jpg` is a person called `anna`; `anna=one.jpg` and `anna=two.jpg` are two pictures of one person. Who is to be restored, or
left, may be named by a track's number as well: not everything that is taken for a face has a photograph.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videoclr import geometry
from videoclr.errors import ConfigError, MediaError, RestorationError

if TYPE_CHECKING:
    from torch import Tensor

    from videoclr.stages.detect import Detector
    from videoclr.stages.identify import Recognizer
    from videoclr.types import Detection, FaceCrop, Frame

_OFF = 0.06
"""Sides of the picture by which landmarks of an aligned crop may lie off: a detector finds them anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Photographed:
    """Somebody of whom there are photographs."""

    identity: Tensor
    """`(D,)` unit vector, the pictures pooled by how well they show the face."""
    picture: Tensor
    """`(3, S, S)` RGB float32 in [-1, 1]: the face on the best of them, aligned as FFHQ."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Some of the people and tracks of a film."""

    names: frozenset[str] = frozenset()
    """As the photographs are called, or the tracks."""
    tracks: frozenset[int] = frozenset()
    """Numbers, as the report has them."""

    def __bool__(self) -> bool:
        """Whether anybody is chosen."""
        return bool(self.names or self.tracks)

    def holds(self, crop: FaceCrop) -> bool:
        """Whether a face belongs to one of them."""
        name = crop.face.name or (None if crop.person is None else crop.person.name)
        return crop.face.track in self.tracks or name in self.names


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for about the people of a film."""

    pictures: dict[str, list[str]]
    """Name -> photographs."""
    only: Chosen
    """Those to restore alone; nobody for everybody."""
    leave: Chosen
    """Those to leave as they are."""


def people_of(references: Sequence[str], only: Sequence[str], leave: Sequence[str] = (), called: Collection[str] = ()) -> Asked:
    """Whom to expect, whom to restore, and whom to leave.

    Args:
        references: `name=picture`, or a picture whose name without ending is the person's.
        only: names among those of `references`, more such pictures, or numbers of tracks.
        leave: in the same way.
        called: names that tracks (`videoclr.tracks`) and people (`videoclr.cast`) have already, which `only` and `leave` may use.

    Raises:
        ConfigError: an entry without a picture or a name, the name of nobody, or nobody in `only` who is not in `leave` as well.
    """
    pictures: dict[str, list[str]] = {}
    for entry in references:
        _add(pictures, *_named(entry, "references"))
    asked = Asked(pictures, _chosen(pictures, only, "only", called), _chosen(pictures, leave, "leave", called))
    if asked.only and asked.only.names <= asked.leave.names and asked.only.tracks <= asked.leave.tracks:
        raise ConfigError("$.identify.leave: everybody who is to be restored alone (only) is also to be left as they are")
    return asked


def _chosen(pictures: dict[str, list[str]], entries: Sequence[str], setting: str, called: Collection[str]) -> Chosen:
    names, tracks = set(), set()
    for entry in entries:
        if (entry in pictures or entry in called) and not Path(entry).is_file():
            names.add(entry)
        elif is_number(entry, pictures):
            tracks.add(int(entry))
        else:
            name, picture = _named(entry, setting)
            if picture == entry and not _is_picture(entry):
                known = ", ".join(sorted({*pictures, *called}))
                said = f"known are {known}" if known else "nobody has a name here (--reference, --people and --tracks give some)"
                raise ConfigError(f"$.identify.{setting}: nobody is called {entry!r}: {said}; a photograph would be a file")
            _add(pictures, name, picture)
            names.add(name)
    return Chosen(frozenset(names), frozenset(tracks))


def _is_picture(entry: str) -> bool:
    """Whether an entry is meant as a file: it is there, or is called as one."""
    from videoclr.media.target import STILLS

    return Path(entry).exists() or Path(entry).suffix.lower() in STILLS


def is_number(entry: str, names: Container[str]) -> bool:
    """Whether an entry is the number of a track: neither one of the `names` nor a file."""
    return entry not in names and entry.isascii() and entry.isdecimal() and not Path(entry).is_file()


def _named(entry: str, setting: str) -> tuple[str, str]:
    name, equals, picture = entry.partition("=")
    if not equals or Path(entry).is_file():  # a file may have an = in its name
        name, picture = Path(entry).stem, entry
    if not name or not picture:
        raise ConfigError(f"$.identify.{setting}: {entry!r}: expected a picture, or name=picture")
    return name, picture


def _add(pictures: dict[str, list[str]], name: str, picture: str) -> None:
    known = pictures.setdefault(name, [])
    if picture not in known:
        known.append(picture)


def photographed(
    pictures: Mapping[str, Sequence[str]], detector: Detector, recognizer: Recognizer, size: int, threshold: float
) -> dict[str, Photographed]:
    """Look at the pictures of people, by name.

    Args:
        pictures: see `people_of`.
        detector: finds the face.
        recognizer: embeds it; its `of_clean` where it has one, since a photograph needs no recovery.
        size: side of the crops that the recognizer is shown, pixels.
        threshold: score from which a detection is a face.

    Raises:
        MediaError: a picture that cannot be read, shows no face, or several, or on which a part fails.
    """
    import torch

    from videoclr.blame import blamed
    from videoclr.stages.identify import pooled, quality

    embedder: Recognizer = getattr(recognizer, "of_clean", recognizer)
    found: dict[str, Photographed] = {}
    for name, paths in pictures.items():
        views = []
        for path in paths:
            try:
                crop = _face(path, detector, size, threshold)
                with blamed("recognizer", crop.frame.index):
                    vector = embedder.embed(crop.image[None])[0].detach().float().cpu()
            except RestorationError as error:
                raise MediaError(path, str(error)) from error
            if not torch.isfinite(vector).all():
                raise MediaError(path, "the recognizer gives no finite embedding of this face; use another picture")
            views.append((quality(crop), vector, crop.image))
        identity = pooled([(value, vector) for value, vector, _ in views])
        assert identity is not None
        found[name] = Photographed(identity, max(views, key=lambda view: view[0])[2])
    return found


def _face(path: str, detector: Detector, size: int, threshold: float) -> FaceCrop:
    """The one face of a picture."""
    from videoclr.stages.align import align
    from videoclr.stages.detect import detect
    from videoclr.types import Faces, TrackedFace

    (found,) = detect([_picture(path)], detector)
    faces = [face for face in found.faces if face.score >= threshold]
    if len(faces) > 1:  # somebody stands beside the face that a crop was cut for
        faces = [face for face in faces if _is_middle(face, found.frame)] or faces
    if len(faces) != 1:
        count = "no face" if not faces else f"{len(faces)} faces"
        advice = "use a picture that shows it larger and from the front" if not faces else "cut the one out that is meant"
        raise MediaError(path, f"a reference picture must show one face, found {count}; {advice}")
    (aligned,) = align([Faces(found.frame, (TrackedFace(0, faces[0]),))], size, smoothing=0)
    if not aligned.faces:
        raise MediaError(path, "the landmarks of the face fall together; use another picture")
    return aligned.faces[0]


def _is_middle(face: Detection, frame: Frame) -> bool:
    """Whether a picture is the aligned crop of this face: then its landmarks lie where alignment would put them."""
    width, height = frame.size
    if width != height:
        return False
    try:
        matrix = geometry.ffhq_matrix(face.landmarks, width)
    except ValueError:
        return False
    off = geometry.moved(face.landmarks, matrix) - face.landmarks
    return float(np.linalg.norm(off, axis=1).max()) < _OFF * width


def _picture(path: str) -> Frame:
    from videoclr.media.reader import Reader

    with Reader(path) as reader:
        if not reader.is_still:
            raise MediaError(path, "is no picture; a reference is a still, such as a JPEG or PNG file")
        return next(iter(reader.frames()))

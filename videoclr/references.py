"""Photographs of the people in a film -> whom to expect, as the stage `identify` wants it.

`anna.jpg` is a person called `anna`; `anna=one.jpg` and `anna=two.jpg` are two pictures of one person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videoclr.errors import ConfigError, MediaError

if TYPE_CHECKING:
    from torch import Tensor

    from videoclr.stages.detect import Detector
    from videoclr.stages.identify import Recognizer
    from videoclr.types import FaceCrop, Frame


@dataclass(frozen=True, slots=True, eq=False)
class Photographed:
    """Somebody of whom there are photographs."""

    identity: Tensor
    """`(D,)` unit vector, the pictures pooled by how well they show the face."""
    picture: Tensor
    """`(3, S, S)` RGB float32 in [-1, 1]: the face on the best of them, aligned as FFHQ."""


def people_of(references: Sequence[str], only: Sequence[str]) -> tuple[dict[str, list[str]], frozenset[str]]:
    """Name -> pictures, and the names of those to restore alone (empty for everybody).

    Args:
        references: `name=picture`, or a picture whose name without ending is the person's.
        only: names among those of `references`, or more such pictures.

    Raises:
        ConfigError: an entry without a picture or a name.
    """
    pictures: dict[str, list[str]] = {}
    for entry in references:
        _add(pictures, *_named(entry, "references"))
    wanted = []
    for entry in only:
        if entry in pictures and not Path(entry).is_file():
            wanted.append(entry)
            continue
        name, picture = _named(entry, "only")
        _add(pictures, name, picture)
        wanted.append(name)
    return pictures, frozenset(wanted)


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
        MediaError: a picture that cannot be read, or shows no face, or several.
    """
    import torch

    from videoclr.stages.identify import pooled, quality

    embedder: Recognizer = getattr(recognizer, "of_clean", recognizer)
    found: dict[str, Photographed] = {}
    for name, paths in pictures.items():
        views = []
        for path in paths:
            crop = _face(path, detector, size, threshold)
            vector = embedder.embed(crop.image[None])[0].detach().float().cpu()
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
    if len(faces) != 1:
        count = "no face" if not faces else f"{len(faces)} faces"
        advice = "use a picture that shows it larger and from the front" if not faces else "cut the one out that is meant"
        raise MediaError(path, f"a reference picture must show one face, found {count}; {advice}")
    (aligned,) = align([Faces(found.frame, (TrackedFace(0, faces[0]),))], size, smoothing=0)
    if not aligned.faces:
        raise MediaError(path, "the landmarks of the face fall together; use another picture")
    return aligned.faces[0]


def _picture(path: str) -> Frame:
    from videoclr.media.reader import Reader

    with Reader(path) as reader:
        if not reader.is_still:
            raise MediaError(path, "is no picture; a reference is a still, such as a JPEG or PNG file")
        return next(iter(reader.frames()))

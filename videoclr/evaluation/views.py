"""Several versions of one clip, frame by frame, with the faces cut out of all of them in the same way.

The crops follow the landmarks of the clean clip, smoothed as a restoration smooths them, in every version: a version whose
own landmarks are off would otherwise be compared with a shifted twin. One frame of each version is held, and of the clean
clip as many as its stages look ahead.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videoclr import geometry
from videoclr.config import Config
from videoclr.errors import MediaError
from videoclr.media.reader import Reader
from videoclr.parts.feather import CORE
from videoclr.parts.unchanged import Unchanged
from videoclr.pipeline import Pipeline
from videoclr.pixels import eight_bit, normalized, quantized
from videoclr.stages.align import align
from videoclr.stages.cuts import cuts
from videoclr.stages.detect import detect
from videoclr.stages.track import track
from videoclr.types import FaceCrop, Faces, Frame

Picture = NDArray[np.uint8]
CLEAN = "clean"
"""The name of the version that the others are measured against."""
_STILLS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".exr", ".dpx")


@dataclass(frozen=True, slots=True, eq=False)
class FaceView:
    """One face in one frame, in every version."""

    track: int
    """Number of the face's track; a track never crosses a cut."""
    crops: dict[str, Picture]
    """Version -> `(S, S, 3)` RGB uint8."""
    points: NDArray[np.float64]
    """`(5, 2)` landmarks of the clean face as the detector found them, px of the crop."""
    mask: NDArray[np.float32]
    """`(S, S)` 0..1: the region of the face that is measured."""
    matrix: NDArray[np.float64]
    """`(2, 3)`: frame px -> crop px."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameView:
    """One frame of every version."""

    frame: Frame
    """Of the clean clip, with its shot."""
    pictures: dict[str, Picture] = field(default_factory=dict)
    """Version -> `(H, W, 3)` RGB uint8; empty where no face is in the frame."""
    faces: tuple[FaceView, ...] = ()


class Finder:
    """Finds, follows and cuts out the faces of a clean clip.

    Args:
        config: its sections cuts, detect, track and align are used.
        size: side of the crops, px.

    Raises:
        ConfigError: an unknown part or a bad option.
        WeightsError: the detector's weights cannot be loaded.
    """

    def __init__(self, config: Config, size: int = 256) -> None:
        self.size = size
        # The settings of a restoration may be given: whom it is to know, and its file of tracks, is nothing here.
        measured = {"identify": Config().identify, "track": config.track.model_copy(update={"file": None})}
        self.parts = Pipeline(config.model_copy(update=measured), recognizer=None, restorer=Unchanged(size))

    def faces(self, clean: Iterable[Frame]) -> Iterator[Faces[FaceCrop]]:
        """Every frame of `clean` with its shot and its faces' crops."""
        config = self.parts.config
        shots = cuts(clean, self.parts.make_cut_detector())
        found = detect(shots, self.parts.detector, batch=1, min_size=config.detect.min_size)
        tracked = track(found, self.parts.make_tracker, config.track.max_gap)
        return align(tracked, self.size, config.align.smoothing)

    def views(
        self, clean: Iterable[Frame], others: Mapping[str, Iterable[Frame]], paths: Mapping[str, str] | None = None
    ) -> Generator[FrameView, None, None]:
        """All versions together.

        Args:
            clean: the frames that everything is measured against.
            others: version -> as many frames of the same size.
            paths: version -> the name by which an error calls it; its key where there is none.

        Raises:
            MediaError: a version has another number of frames or another size.
        """
        known = dict(paths or {})
        together: Iterator[Any] = zip_longest(self.faces(clean), *others.values())
        for number, (faces, *rest) in enumerate(together):
            versions: dict[str, Frame] = dict(zip(others, rest, strict=True))
            _check_lengths(number, faces, versions, known)
            versions[CLEAN] = faces.frame
            if not faces.faces and number > 0:
                yield FrameView(faces.frame)
                continue
            pictures = {name: eight_bit(frame.image) for name, frame in versions.items()}
            _check_sizes(pictures, known)
            yield FrameView(faces.frame, pictures, tuple(self._face(crop, pictures) for crop in faces.faces))

    def _face(self, crop: FaceCrop, pictures: Mapping[str, Picture]) -> FaceView:
        crops = {
            name: quantized(normalized(geometry.cut(picture, crop.matrix, self.size), 255), np.uint8)
            for name, picture in pictures.items()
        }
        points = geometry.moved(crop.face.detection.landmarks, crop.matrix)
        mask = CORE.mask([crop], crop.image[None])[0, 0].numpy()
        return FaceView(crop.face.track, crops, points, mask, crop.matrix)


def _check_lengths(
    number: int, faces: Faces[FaceCrop] | None, others: Mapping[str, Frame | None], paths: Mapping[str, str]
) -> None:
    clean = paths.get(CLEAN, "the clean clip")
    for name, frame in others.items():
        path = paths.get(name, name)
        if frame is None:
            raise MediaError(path, f"ends after {number} frames and {clean} goes on; compare clips of the same frames")
        if faces is None:
            raise MediaError(path, f"goes on after the {number} frames of {clean}; compare clips of the same frames")


def _check_sizes(pictures: Mapping[str, NDArray[Any]], paths: Mapping[str, str]) -> None:
    height, width = pictures[CLEAN].shape[:2]
    for name, picture in pictures.items():
        if picture.shape[:2] != (height, width):
            size, clean = f"{picture.shape[1]}x{picture.shape[0]}", paths.get(CLEAN, "the clean clip")
            raise MediaError(paths.get(name, name), f"is {size} and {clean} is {width}x{height}; compare clips of one size")


def frames_of(path: str | Path) -> Generator[Frame, None, None]:
    """Frames of a clip: a file, a pattern such as `f%04d.png`, or a folder of pictures in the order of their names.

    Raises:
        MediaError: it cannot be read, or a folder holds no picture.
    """
    if not Path(path).is_dir():
        with Reader(path) as reader:
            yield from reader.frames()
        return
    for index, picture in enumerate(pictures_in(Path(path))):
        with Reader(picture) as reader:
            yield Frame.from_image(next(reader.frames()).image, index)


def pictures_in(folder: Path) -> Sequence[Path]:
    """The pictures of a folder, `f2` before `f10`.

    Raises:
        MediaError: there is none.
    """
    # `._f1.png` is what a Mac puts beside a file on drives of others, and no picture
    found = [path for path in folder.iterdir() if path.suffix.lower() in _STILLS and not path.name.startswith(".")]
    if not found:
        raise MediaError(folder, f"holds no pictures ({', '.join(_STILLS)})")
    return sorted(found, key=lambda path: [(text, int(n or 0)) for text, n in re.findall(r"(\D*)(\d*)", path.name)])

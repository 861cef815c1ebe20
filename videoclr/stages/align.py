"""Cut every face out of its frame, upright and at one size, by landmarks that do not tremble."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from videoclr import geometry
from videoclr.bookmark import NOWHERE, Inside
from videoclr.crops import cut_out
from videoclr.errors import RestorationError
from videoclr.flow import Around, around
from videoclr.types import Detection, FaceCrop, Faces, Frame, TrackedFace

log = logging.getLogger("videoclr.stages.align")

_STILL = 0.1  # displacement, in face scales, up to which a head counts as still
_GUESSED = 0.3  # weight of an interpolated sighting beside an observed one


def align(
    faces: Iterable[Faces[TrackedFace]],
    size: int,
    smoothing: int = 4,
    inside: Inside = NOWHERE,
    warnings: list[str] | None = None,
) -> Iterator[Faces[FaceCrop]]:
    """Aligned crops.

    The landmarks of a track are smoothed over the frames within `smoothing` before and after: crop jitter alone is a
    large share of flicker. The window never reaches over a cut or a gap of the track. `FaceCrop.face` keeps the
    landmarks as they were found; `FaceCrop.matrix` is of the smoothed ones. A face whose landmarks span no square is
    left out, which is told once for each track.

    Args:
        faces: tracked faces with the shots numbered; every frame.
        size: side of the crops, pixels.
        smoothing: half-width of the window, frames, which is also the delay; 0 for none.
        inside: keeps what waits.
        warnings: where what is left out is told, beside the log.
    """
    warnings = [] if warnings is None else warnings
    for place in around(faces, smoothing, smoothing, lambda one: one.frame.shot, inside, "align"):
        frame = place.item.frame
        crops = []
        for face in place.item.faces:
            try:
                matrix = geometry.ffhq_matrix(steady_landmarks(place, face, smoothing), size)
            except ValueError as error:
                _tell(warnings, face.track, frame.index, error)
                continue
            crops.append(_cut(face, frame, matrix, size))
        if not crops:
            frame.forget_rgb()  # nobody downstream looks at a frame without faces
        yield Faces(frame, tuple(crops), looked=place.item.looked)


def _tell(warnings: list[str], track: int, frame: int, error: ValueError) -> None:
    """That a face is left out, once for its track: a run that goes on has the warnings of the one before."""
    begin = f"track {track}: {error}, "
    if not any(told.startswith(begin) for told in warnings):
        warnings.append(f"{begin}in frame {frame} first: its face is left as it is there")
        log.warning(warnings[-1])


def whole(frames: Iterable[Frame], size: int) -> Iterator[Faces[FaceCrop]]:
    """Frames that are aligned crops already: each is one face, scaled to `size`, and a track of its own.

    Nothing says that two such pictures show the same person, so nothing is shared between them.

    Raises:
        RestorationError: a picture that is not square.
    """
    for number, frame in enumerate(frames):
        width, height = frame.size
        if width != height:
            raise RestorationError(frame.index, None, f"an aligned picture must be square, got {width}x{height}")
        scale = size / width
        shift = (scale - 1) / 2  # the outer edges meet, not the centres of the corner pixels
        matrix = np.array([[scale, 0.0, shift], [0.0, scale, shift]])
        box = np.array([-0.5, -0.5, width - 0.5, height - 0.5], np.float32)
        landmarks = (np.array(geometry.FFHQ_POINTS) * width - 0.5).astype(np.float32)
        face = TrackedFace(number, Detection(box, landmarks, 1.0))
        yield Faces(frame, (_cut(face, frame, matrix, size),))


def _cut(face: TrackedFace, frame: Frame, matrix: geometry.Matrix, size: int) -> FaceCrop:
    return FaceCrop(face, frame, cut_out(frame, matrix, size), matrix)


def steady_landmarks(place: Around[Faces[TrackedFace]], face: TrackedFace, smoothing: int) -> NDArray[np.float64]:
    """`(5, 2)` landmarks of `face`, smoothed over the neighbours without delay in phase.

    A straight line is fitted to each coordinate over time and read at the frame itself, so that a steady pan is not
    held back, even at the ends of a track where the window is one-sided (local regression: Cleveland, JASA 1979). The
    weights fall off with time and with the distance from where the face is now (the bilateral weights of Tomasi and
    Manduchi, ICCV 1998): a head that is still is held still, one that moves is followed at once.
    """
    now = np.asarray(face.detection.landmarks, np.float64)
    if smoothing == 0:
        return now
    near = [*_of_track(reversed(place.past), face.track, -1), *_of_track(place.future, face.track, 1)]
    if not near:
        return now
    scale = max(geometry.face_scale(now), 1e-6)
    times = np.array([0.0, *(step for step, _ in near)])
    points = np.stack([now, *(one.detection.landmarks.astype(np.float64) for _, one in near)])
    trust = np.array([_trust(face), *(_trust(one) for _, one in near)])
    away = np.sqrt(((points - now) ** 2).sum(-1).mean(-1)) / scale
    sigma = smoothing / 2 + 0.5
    weights = trust * np.exp(-0.5 * (times / sigma) ** 2 - 0.5 * (away / _STILL) ** 2)
    return _line_at_zero(times, points, weights)


def _of_track(items: Iterable[Faces[TrackedFace]], track: int, direction: int) -> Iterator[tuple[int, TrackedFace]]:
    """The track's faces from the nearest frame outwards, up to the first frame without it."""
    for step, item in enumerate(items, 1):
        found = [face for face in item.faces if face.track == track]
        if not found:
            return
        yield direction * step, found[0]


def _trust(face: TrackedFace) -> float:
    return 1.0 if face.observed else _GUESSED


def _line_at_zero(times: NDArray[np.float64], points: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted least squares line through `points (N, ...)` over `times (N,)`, read at time 0."""
    weights = weights / weights.sum()
    centre = float(weights @ times)
    spread = float(weights @ (times - centre) ** 2)
    mean = np.tensordot(weights, points, 1)
    # A little ridge: with one near neighbour a line would follow the noise exactly, the mean halves it.
    slope = np.tensordot(weights * (times - centre), points, 1) / (spread + 0.25)
    return np.asarray(mean - slope * centre, np.float64)

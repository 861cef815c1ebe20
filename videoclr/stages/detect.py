"""Find the faces of every frame, or of every n-th."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from videoclr import geometry
from videoclr.blame import blamed, described, detection_of
from videoclr.bookmark import NOWHERE, Inside
from videoclr.errors import RestorationError
from videoclr.shortage import Batch
from videoclr.types import Detection, Faces, Frame


class Detector(Protocol):
    """Finds faces in pictures; keeps no state from one call to the next."""

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Faces of each picture.

        Args:
            images: each `(H, W, 3)` RGB uint8; sizes may differ.

        Returns:
            One list per picture, in order, in pixels of that picture.
        """
        ...


def detect(
    frames: Iterable[Frame],
    detector: Detector,
    batch: int = 1,
    every: int = 1,
    min_size: float = 0.0,
    warnings: list[str] | None = None,
    inside: Inside = NOWHERE,
) -> Iterator[Faces[Detection]]:
    """Detections of each frame.

    Args:
        frames: with their shots numbered.
        detector: finds faces.
        batch: frames per call; changes speed only, and is halved where the device's memory does not suffice. The delay is at
            most `batch * every` frames.
        every: look at the first frame of each shot and every n-th after it. The others come out without faces and with
            `looked=False`, so that a tracker can tell "nothing there" from "nobody looked".
        min_size: faces smaller than this (`Detection.size`, pixels) are left out.
        warnings: where a halved batch is told.
        inside: keeps what waits.

    Raises:
        RestorationError: the detector failed, or did not answer for each picture.
        DeviceError: the device's memory does not suffice for one frame, or the device failed.
    """
    calls = Batch(batch, "runtime.detect_batch", warnings)
    ready: deque[Faces[Detection]]
    held: Any = inside.begin("detect", lambda: (ready, _places(waiting), shot, position, looks))
    ready, places, shot, position, looks = (deque(), [], -1, 0, 0) if held is None else held
    waiting = [_waiting(frame, look) for frame, look in places]
    while ready:
        yield ready.popleft()
    for frame in frames:
        if frame.shot != shot:  # a call never holds two shots: what a shot gives must not depend on those before it
            yield from _detected(waiting, detector, min_size, calls)
            waiting, looks = [], 0
        position = position + 1 if frame.shot == shot else 0
        shot = frame.shot
        look = position % every == 0
        waiting.append(_waiting(frame, look))
        looks += look
        if looks >= batch or (looks == 0 and not look):
            ready.extend(_detected(waiting, detector, min_size, calls))
            waiting, looks = [], 0
            while ready:
                yield ready.popleft()
    ready.extend(_detected(waiting, detector, min_size, calls))
    waiting = []
    while ready:
        yield ready.popleft()


_Waiting = tuple[Frame, NDArray[np.uint8] | None]
"""A frame, and the picture of it that the detector is to see."""


def _waiting(frame: Frame, look: bool) -> _Waiting:
    picture = frame.glance if look else None
    frame.forget_whole()  # a frame waits long in the stages that look ahead, and they ask for the places of faces alone
    return frame, picture


def _places(waiting: Sequence[_Waiting]) -> list[tuple[Frame, bool]]:
    """What waits, without the pictures that can be made again."""
    return [(frame, picture is not None) for frame, picture in waiting]


def _detected(waiting: list[_Waiting], detector: Detector, min_size: float, calls: Batch) -> list[Faces[Detection]]:
    shown = [(frame, image) for frame, image in waiting if image is not None]

    def found_in(group: Sequence[tuple[Frame, NDArray[np.uint8]]]) -> list[list[Detection]]:
        first = group[0][0].index
        with blamed("detector", first, held=len(group), again=True):
            results = detector.detect([image for _, image in group])
            if not isinstance(results, Sized):
                raise RestorationError(first, None, f"the detector gave {described(results)}, expected a list for each picture")
            if len(results) != len(group):
                raise RestorationError(first, None, f"the detector answered {len(results)} lists for {len(group)} pictures")
            return [
                [
                    _completed(face, image)
                    for one in found
                    if (face := detection_of(one, "detector", frame.index)) is not None and _usable(face, min_size)
                ]
                for (frame, image), found in zip(group, results, strict=True)
            ]

    answers = iter(list(calls.calls(found_in, shown)))
    return [Faces(frame, looked=False) if image is None else Faces(frame, tuple(next(answers))) for frame, image in waiting]


def _completed(found: Detection, image: NDArray[np.uint8]) -> Detection:
    """With landmarks that the frame cuts off where the others tell."""
    landmarks = geometry.completed(found.landmarks, float(found.box[3] - found.box[1]), (image.shape[1], image.shape[0]))
    return replace(found, landmarks=landmarks)


def _usable(found: Detection, min_size: float) -> bool:
    return found.size >= min_size and found.size > 0

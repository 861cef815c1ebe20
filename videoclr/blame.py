"""Where in the film a part failed, whichever stage called it, and whether it gave what it promises."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from videoclr.errors import (
    ClusterError,
    ConfigError,
    DeviceError,
    MediaError,
    RestorationError,
    ResumeError,
    WeightsError,
)
from videoclr.flow import Unwanted
from videoclr.shortage import added, is_of_the_device, of_the_device
from videoclr.types import Detection, TrackedFace

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("videoclr.blame")

_OF_THE_RUN = (ClusterError, ConfigError, DeviceError, MediaError, ResumeError, WeightsError)
"""What the next face would meet as well."""
_UNIT = 0.01
"""By how much what is 1 may differ: reduced precision rounds."""
_BEYOND = 2.0
"""Magnitude that no rounding and no overshoot of a network reaches: somebody has another range in mind."""
_FAR = 1e6
"""Pixels from the origin at which no frame reaches."""


@contextmanager
def blamed(part: str, frame: int, track: int | None = None, held: int = 1, again: bool = False) -> Iterator[None]:
    """A call of a part, with the checks of what it gives.

    Args:
        part: what it is, for people: `detector`.
        frame: index of the frame that the call is about, the first of them where it is about several.
        track: of the face that it is about, where it is about one.
        held: frames or faces in the call.
        again: whoever calls tries again with less where the device has too little memory (`videoclr.shortage.Batch`).

    Raises:
        RestorationError: from whatever the part raised, `SystemExit` and `GeneratorExit` too, but for Ctrl-C and the exceptions of
            this package that are about the whole run: those pass as they are.
        DeviceError: what the part raised is the device's fault (see `videoclr.shortage`); with `again` that passes as it is.
    """
    try:
        yield
    except (RestorationError, *_OF_THE_RUN, KeyboardInterrupt, Unwanted):
        raise
    except BaseException as error:  # a part may not end the program either, nor the generators that it is called in
        if is_of_the_device(error):
            if again:
                raise
            raise of_the_device(error, f"frame {frame}: the {part}") from error
        others = f" (in a batch of {held})" if held > 1 else ""
        reason = " ".join(str(error).split())
        message = f"the {part} raised {type(error).__name__}{others}" + (f": {reason}" if reason else "")
        raise RestorationError(frame, track, message) from error


@contextmanager
def unchanged(part: str, frame: int, track: int | None, what: str, images: Sequence[Tensor]) -> Iterator[None]:
    """See that a part leaves alone what the other stages look at as well.

    Args:
        part: what it is, for people: `restorer`.
        frame, track: as for `blamed`.
        what: what `images` are to it.

    Raises:
        RestorationError: it changed one of `images` in place.
    """
    import torch

    before = [image.detach().clone() for image in images]  # torch counts changes, but not those that numpy makes in its memory
    yield
    if not all(map(torch.equal, images, before)):
        message = f"the {part} changed {what} in place, which other stages look at; it has to work on a clone()"
        raise RestorationError(frame, track, message)


def tensor_of(given: Any, shape: tuple[int | None, ...], part: str, frame: int, track: int | None) -> Tensor:
    """What a part gave, as float32 on the CPU and without gradients.

    Args:
        given: by the part.
        shape: that it promises; None for a side of any length.
        part: what it is, for people: `restorer`.
        frame, track: as for `blamed`.

    Raises:
        RestorationError: it is no tensor of that shape.
    """
    import torch

    expected = f"({', '.join('any' if side is None else str(side) for side in shape)})"
    if not isinstance(given, torch.Tensor):
        raise RestorationError(frame, track, f"the {part} gave {described(given)}, expected a tensor {expected}")
    same = len(given.shape) == len(shape)
    if not same or any(side not in (None, found) for found, side in zip(given.shape, shape, strict=True)):
        raise RestorationError(frame, track, f"the {part} gave {tuple(given.shape)}, expected {expected}")
    found: Tensor = given.detach().to("cpu", torch.float32)
    return found


def within(values: Tensor, low: float, part: str, frame: int, track: int | None, warnings: list[str]) -> Tensor:
    """`values` cut off to [`low`, 1]; where they reach far beyond, that is told, once for each part.

    Args:
        values: that the part gave, finite.
        low: the least that it may give.
        part: what it is, for people: `restorer`.
        frame, track: as for `blamed`.
        warnings: where it is told, beside the log.
    """
    told = f"the {part} gives values beyond [{low:g}, 1]"
    most = float(values.abs().max())
    if most > _BEYOND and not any(text.startswith(told) for text in warnings):
        text = f"{told}, up to {most:.4g} in frame {frame}, track {track}: they are cut off, so scale them"
        log.warning(text)
        added(warnings, text)
    return values.clamp(low, 1)


def floats_of(given: Any, shape: tuple[int | None, ...], part: str, frame: int, track: int | None) -> Tensor:
    """As `tensor_of`, of values in [-1, 1]: whole numbers are those of another range.

    Raises:
        RestorationError: it is no tensor of that shape, or holds no floats.
    """
    found = tensor_of(given, shape, part, frame, track)
    if not given.is_floating_point():
        raise RestorationError(frame, track, f"the {part} gave {given.dtype}, expected floats in [-1, 1]")
    return found


def directions_of(given: Any, count: int, frame: int, track: int | None) -> Tensor:
    """What a recognizer gave for `count` faces, as `tensor_of`: `(count, D)` unit vectors. Those that are 0 or not finite pass.

    Raises:
        RestorationError: it is something else.
    """
    found = tensor_of(given, (count, None), "recognizer", frame, track)
    if found.shape[1] == 0:
        raise RestorationError(frame, track, f"the recognizer gave {tuple(found.shape)}, expected vectors with numbers in them")
    for length in found.norm(dim=1).tolist():
        if length > 1e-6 and abs(length - 1) > _UNIT and math.isfinite(length):
            message = f"the recognizer gave a vector of length {length:.3g}, expected 1; divide each by its length"
            raise RestorationError(frame, track, message)
    return found


def detection_of(given: Any, part: str, frame: int) -> Detection | None:
    """What a part gave for a face, in arrays of its own; None where no face can be there: it is not finite, or far from any frame.

    Raises:
        RestorationError: it is no `Detection`, or one of other shapes and numbers than the stages behind rely on.
    """
    if not isinstance(given, Detection):
        raise RestorationError(frame, None, f"the {part} gave {described(given)}, expected a Detection")
    copied = []
    for what, array, shape in (("box", given.box, (4,)), ("landmarks", given.landmarks, (5, 2))):
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise RestorationError(frame, None, f"the {part} gave as {what} {described(array)}, expected an array {shape}")
        if array.dtype.kind not in "fiu":
            raise RestorationError(frame, None, f"the {part} gave as {what} an array of {array.dtype}, expected float32")
        copied.append(np.array(array, np.float32))
    box, landmarks = copied
    score = _number(given.score)
    if score is None or score < -_UNIT or score > 1 + _UNIT:
        raise RestorationError(frame, None, f"the {part} gave as score {given.score!r}, expected a number from 0 to 1")
    if not (np.abs(box).max() < _FAR and np.abs(landmarks).max() < _FAR and math.isfinite(score)):
        return None
    return Detection(box, landmarks, min(max(score, 0.0), 1.0))


def tracked_of(given: Any, frame: int) -> TrackedFace | None:
    """What a tracker gave for a face, as `detection_of`.

    Raises:
        RestorationError: it is no `TrackedFace`, or one that the stages behind cannot rely on.
    """
    if not isinstance(given, TrackedFace):
        raise RestorationError(frame, None, f"the tracker gave {described(given)}, expected a TrackedFace")
    found = detection_of(given.detection, "tracker", frame)
    strength = _number(given.strength)
    if strength is None or not 0 <= strength <= 1:
        raise RestorationError(frame, None, f"the tracker gave as strength {given.strength!r}, expected a number from 0 to 1")
    return None if found is None else replace(given, detection=found, strength=strength)


def _number(given: Any) -> float | None:
    """A number, numpy's and torch's too; None where it is none."""
    try:
        return None if isinstance(given, str | bytes) else float(given)
    except (TypeError, ValueError, RuntimeError):
        return None


def described(given: object) -> str:
    """What a part gave, for people: its shape, or what it is where it has none.

    >>> described(None), described([1.0])
    ('None', 'a list')
    """
    if given is None:
        return "None"
    shape = getattr(given, "shape", None)
    kind = type(given).__name__
    article = "an" if kind[0] in "aeiouAEIOU" else "a"
    return f"{article} {kind}" + ("" if shape is None else f" {tuple(shape)}")

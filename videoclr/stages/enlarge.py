"""Give faces that the frame shows larger than their crops the detail that they have there.

A restorer works at one size. What a close-up shows beyond it the stage `blend` would keep as it came: soft, noisy or in blocks. A
restorer that knows better is asked for the face at a larger side; from here on the crop, the face and its mask are as large.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclr import geometry
from videoclr.blame import blamed, floats_of, unchanged, within
from videoclr.crops import cut_out
from videoclr.errors import NotFiniteError, RestorationError
from videoclr.shortage import added, with_room
from videoclr.types import Faces, RestoredFace

log = logging.getLogger("videoclr.stages.enlarge")

_LARGER = (1.2, 1.6)
"""Frame px per crop px from which on a face is a close-up, and from which on wholly: below there is next to nothing to add, and a
camera that moves up to a face passes without a step."""


@runtime_checkable
class EnlargingRestorer(Protocol):
    """A restorer that knows what a close-up shows beyond the resolution of its crops. Optional."""

    larger: int | None
    """Side of the crops that `enlarge` takes and gives, pixels; None where it is not to be asked."""

    def enlarge(self, crops: Tensor, restored: Tensor) -> Tensor:
        """Faces with their detail.

        A face's pixels must not depend on which others share the call.

        Args:
            crops: `(N, 3, L, L)` RGB float32 in [-1, 1], L = `larger`: the faces as the frame shows them, aligned as ever.
            restored: `(N, 3, S, S)` in [-1, 1]: what the restorer made of them at its own size, as it is to be shown.

        Returns:
            `(N, 3, L, L)` in [-1, 1], of floats, on any device, without NaN. What lies beyond the range is cut off; where it is
            much, a warning says so.
        """
        ...


def enlarge(
    restored: Iterable[Faces[RestoredFace]],
    restorer: EnlargingRestorer,
    on_error: Literal["stop", "keep"] = "stop",
    warnings: list[str] | None = None,
) -> Iterator[Faces[RestoredFace]]:
    """Restored faces of each frame, those of close-ups at the larger side, with `crop`, `image` and `mask` to match.

    Of a face that has just become one `blend` shows a share alone (`nearness`): only there both are laid as they would be shown.
    Nothing waits, and nothing is remembered.

    Args:
        restored: every frame.
        restorer: knows the detail; `larger` is not None.
        on_error: `stop` raises; `keep` leaves the face as it is, without detail, and adds a line to `warnings`. Where the detail
            is not finite, in float32 neither if the restorer has less, the face is left as it is in any case.
        warnings: where that is told, once for each track, and once that a part's values reach far beyond their range.

    Raises:
        RestorationError: the restorer failed, or gave something else.
        DeviceError: the device's memory does not suffice for one face, or the device failed.
    """
    told: list[str] = [] if warnings is None else warnings
    for faces in restored:
        if any(_is_close_up(face) for face in faces.faces):
            faces = replace(faces, faces=tuple(_told(face, restorer, on_error, told) for face in faces.faces))
        yield faces


def _is_close_up(face: RestoredFace) -> bool:
    """Also that something of it is to be seen."""
    return face.confidence > 0 and _share(face) > 0


def _share(face: RestoredFace) -> float:
    """How far a face is a close-up, in [0, 1]."""
    low, high = _LARGER
    return min(max((1 / geometry.scale_of(face.crop.matrix) - low) / (high - low), 0.0), 1.0)


def _told(face: RestoredFace, restorer: EnlargingRestorer, on_error: Literal["stop", "keep"], warnings: list[str]) -> RestoredFace:
    if not _is_close_up(face):
        return face
    before = face.image.clone()  # a part that fails may have changed it
    try:
        return _enlarged(face, restorer, warnings)
    except RestorationError as error:
        if on_error == "stop" and not isinstance(error, NotFiniteError):
            raise
        log.warning("face left without the detail of a close-up: %s", error)
        text = f"track {face.crop.face.track}: face(s) without the detail of a close-up, first in frame {face.crop.frame.index}"
        if not any(one.startswith(text.partition(", first")[0]) for one in warnings):
            added(warnings, f"{text}: {error}")
        return face if torch.equal(face.image, before) else replace(face, image=before)


def _enlarged(face: RestoredFace, restorer: EnlargingRestorer, warnings: list[str]) -> RestoredFace:
    side, small = restorer.larger, face.image.shape[-1]
    assert side is not None
    matrix = geometry.at_scale(face.crop.matrix, side / small)
    frame, track = face.crop.frame.index, face.crop.face.track
    crop = cut_out(face.crop.frame, matrix, side)

    def asked(part: EnlargingRestorer) -> Tensor:
        given: Any = with_room(partial(part.enlarge, crop[None], face.image[None]))
        return floats_of(given, (1, 3, side, side), "restorer", frame, track)[0]

    with blamed("restorer", frame, track), unchanged("restorer", frame, track, "its faces", [crop, face.image]):
        image = asked(restorer)
        if not bool(torch.isfinite(image).all()):
            exact: Any = getattr(restorer, "exact", None)
            if callable(getattr(exact, "enlarge", None)):  # what is promised of it is `restore` alone
                image = asked(exact)
    if not bool(torch.isfinite(image).all()):
        raise NotFiniteError(frame, track, "the restorer gave NaN or infinite values")
    mask = F.interpolate(face.mask[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    larger = replace(face.crop, image=crop, matrix=matrix)
    image = within(image, -1.0, "restorer's `enlarge`", frame, track, warnings)
    return replace(face, crop=larger, image=image, mask=mask, smaller=face, nearness=_share(face))

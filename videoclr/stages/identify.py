"""Give every crop the identity of its track, pooled from the track's best views."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from videoclr import geometry
from videoclr.flow import around
from videoclr.pixels import eight_bit, from_tensor
from videoclr.types import FaceCrop, Faces

log = logging.getLogger("videoclr.stages.identify")

_BETTER = 1.05  # a new view must beat a pooled one by this factor: equals would be embedded for nothing
_GONE = 50  # frames without a face after which a track's pool is dropped


class Recognizer(Protocol):
    """Turns faces into vectors of who they are; keeps no state."""

    def embed(self, crops: Tensor) -> Tensor:
        """Identity of aligned faces.

        Args:
            crops: `(N, 3, S, S)` RGB float32 in [-1, 1], aligned as FFHQ.

        Returns:
            `(N, D)` float32 unit vectors, row by row, on any device.
        """
        ...


@dataclass
class _Pool:
    """The best views of a track so far."""

    views: list[tuple[float, Tensor]] = field(default_factory=list)
    """Quality and embedding, best first."""
    seen: int = -1
    """Index of the newest frame that was considered."""
    last: int = -1
    """Index of the last frame that left with the track in it."""
    identity: Tensor | None = None


def identify(
    crops: Iterable[Faces[FaceCrop]], recognizer: Recognizer, window: int = 8, views: int = 5
) -> Iterator[Faces[FaceCrop]]:
    """Fill in `FaceCrop.identity`.

    The identity is the mean of the embeddings of the track's `views` best views, weighted by `quality`, over all frames
    of the shot up to `window` frames ahead: it gets better as the shot goes on and never looks further into the future.
    Only views that enter the pool are embedded. It stays None where the recognizer gives nothing finite.

    Args:
        crops: with the shots numbered; every frame.
        recognizer: embeds faces.
        window: frames of look-ahead, which is the delay. It is emptied at a cut.
        views: views that are pooled.
    """
    pools: dict[int, _Pool] = {}
    shot: int | None = None
    for place in around(crops, 0, window, lambda one: one.frame.shot):
        frame = place.item.frame
        if frame.shot != shot:
            pools, shot = {}, frame.shot
        for crop in place.item.faces:
            pool = pools.setdefault(crop.face.track, _Pool())
            pool.last = frame.index
            _refine(pool, crop.face.track, (place.item, *place.future), recognizer, views)
        pools = {track: pool for track, pool in pools.items() if frame.index - pool.last <= _GONE}
        known = (replace(crop, identity=pools[crop.face.track].identity) for crop in place.item.faces)
        yield Faces(frame, tuple(known), looked=place.item.looked)


def _refine(pool: _Pool, track: int, frames: tuple[Faces[FaceCrop], ...], recognizer: Recognizer, views: int) -> None:
    """Let the frames that are new to the pool compete for a place in it."""
    fresh = [one for faces in frames if faces.frame.index > pool.seen for one in faces.faces if one.face.track == track]
    pool.seen = frames[-1].frame.index
    rated = sorted(((quality(one), one) for one in fresh), key=lambda pair: -pair[0])
    entering: list[tuple[float, FaceCrop]] = []
    for value, crop in rated[:views]:
        rank = len(pool.views) + len(entering) - views  # how many pooled views must leave for this one
        if rank >= 0 and (rank >= len(pool.views) or value < pool.views[-1 - rank][0] * _BETTER):
            break
        entering.append((value, crop))
    if not entering:
        return
    embedded = recognizer.embed(torch.stack([crop.image for _, crop in entering])).detach().float().cpu()
    for (value, crop), vector in zip(entering, embedded, strict=True):
        if not torch.isfinite(vector).all():
            log.warning("frame %d, track %d: the recognizer gave no finite embedding", crop.frame.index, track)
            continue
        pool.views.append((value, vector))
    pool.views = sorted(pool.views, key=lambda pair: -pair[0])[:views]
    if pool.views:
        weights = torch.tensor([max(value, 1e-6) for value, _ in pool.views])
        vectors = torch.stack([vector for _, vector in pool.views])
        pool.identity = torch.nn.functional.normalize((weights[:, None] * vectors).sum(0), dim=0)


def quality(crop: FaceCrop) -> float:
    """How well a crop shows who it is, in [0, 1]: detector's score x size x sharpness x frontality.

    The weights are rules of thumb; only their order matters, and only within a track.
    """
    face = crop.face
    large = face.detection.size / (face.detection.size + 48.0)
    seen = 1.0 if face.observed else 0.25
    return float(face.detection.score * large * _sharpness(crop.image) * _frontality(crop) * seen)


def _sharpness(image: Tensor) -> float:
    """In [0, 1). Gradients of the slightly blurred luma, so that noise does not pass for detail."""
    grey = cv2.cvtColor(eight_bit(from_tensor(image)), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (128, 128), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(small, (0, 0), 1.0)
    gradient = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125))
    energy = float(gradient[16:112, 16:112].mean())
    return energy / (energy + 4.0)


def _frontality(crop: FaceCrop) -> float:
    """In (0, 1]: 1 where the nose lies midway between the eyes and the mouth's corners."""
    left_eye, right_eye, nose, left_mouth, right_mouth = geometry.moved(crop.face.detection.landmarks, crop.matrix)
    width = max(float(right_eye[0] - left_eye[0]), 1e-3)
    middle = (left_eye[0] + right_eye[0] + left_mouth[0] + right_mouth[0]) / 4
    yaw = float(nose[0] - middle) / width
    # In an FFHQ crop the eyes of a frontal face are about a quarter of the side apart; yaw brings them together.
    narrow = min(1.0, width / (0.22 * crop.image.shape[-1]))
    return float(np.exp(-0.5 * (yaw / 0.25) ** 2)) * narrow

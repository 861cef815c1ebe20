"""The built-in face detector: RetinaFace with our own weights, or with the public ones.

Every picture is looked at twice, at `long_side` and at 0.4 of it with a margin around: the second look finds faces
that fill the frame or are larger than it, which no anchor of the first one holds. Overlapping finds of both looks are
merged, and their boxes and points averaged, which steadies the points over time. Each find is then cut out upright and looked at
again by the landmark refiner, which sets its points and has a word in its score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videoclr import geometry
from videoclr.errors import WeightsError
from videoclr.models import store
from videoclr.models.detector import (
    PREPROCESSING,
    Preprocessing,
    RetinaFace,
    anchors,
    body_of,
    decode_boxes,
    decode_points,
    fold_batch_norm,
)
from videoclr.models.landmarks import SIDE, LandmarkRefiner, crop_matrix
from videoclr.models.weights import fit, load_embedded, read_safetensors, read_state
from videoclr.pixels import eight_bit, normalized, to_tensor
from videoclr.types import Detection

RELEASES = "https://github.com/xinntao/facexlib/releases/download/v0.1.0/"
PUBLIC = {
    "facexlib-resnet50": (
        "detection_Resnet50_Final.pth",
        "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
    ),
    "facexlib-mobilenet0.25": (
        "detection_mobilenet0.25_Final.pth",
        "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
    ),
}
"""Weights that facexlib publishes (trained on WIDER FACE): name -> file in `RELEASES`, SHA-256."""
LICENCE = "MIT (facexlib)"
"""Of the files in `PUBLIC`, as their repository states it."""


@dataclass(frozen=True, slots=True)
class Look:
    """A way of looking at a picture."""

    scale: float
    """The picture's longer side in this look, as a fraction of `long_side`."""
    margin: float
    """Empty border on each side, as a fraction of the reduced picture's longer side."""


LOOKS = (Look(1.0, 0.0), Look(0.4, 0.1))
_USUAL = ((0.27, 0.39), (0.73, 0.39), (0.5, 0.59), (0.3, 0.735), (0.7, 0.735))
"""Where a box has the landmarks of a frontal face, as shares of its sides."""


class RetinaDetector:
    """Finds faces and five landmarks. Keeps no state between calls; a picture's result does not depend on its batch.

    Args:
        weights: `embedded`, `facexlib-resnet50`, `facexlib-mobilenet0.25` (both fetched once, hash checked), a name
            that `videoclr weights add` was given, or a file: `.safetensors` with metadata `preprocessing` (`rgb-unit`
            or `bgr-mean`), or a public `.pth`.
        low_threshold: smallest score that is returned, in (0, 1).
        long_side: pixels of the longer side of the first look; smaller pictures are not enlarged.
        device: where the network runs.
        nms: two finds that overlap more than this (intersection over union) are one face.
        refine: look at each find again: True with the embedded refiner, a file of another one, False for not. None refines what
            the embedded weights find and leaves those of others as they are.
        turned: look at the picture lying on either side and upside down as well, for faces that are turned by more than 45 degrees:
            four times the work.

    Raises:
        WeightsError: the weights are missing, damaged, of another network, or cannot be fetched.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        weights: str = "embedded",
        low_threshold: float = 0.25,
        long_side: int = 640,
        device: str = "cpu",
        nms: float = 0.4,
        refine: bool | str | None = None,
        turned: bool = False,
    ) -> None:
        if not (0 < low_threshold < 1 and 0 < nms < 1 and long_side >= 32):
            given = f"low_threshold {low_threshold}, nms {nms}, long_side {long_side}"
            raise ValueError(f"low_threshold and nms lie in (0, 1), long_side is at least 32, got {given}")
        network, self.preprocessing = load_network(weights)
        self.device = torch.device(device)
        self.network = fold_batch_norm(network.eval()).to(self.device)
        # A CPU convolves depthwise a third faster in this layout.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.low_threshold, self.long_side, self.nms = low_threshold, long_side, nms
        self.turns = range(4 if turned else 1)
        wanted = weights == "embedded" if refine is None else refine
        self.refiner = load_refiner(wanted if isinstance(wanted, str) else "embedded").to(self.device) if wanted else None

    def detect(self, images: Sequence[NDArray[Any]]) -> list[list[Detection]]:
        """Faces of each picture, best first.

        Args:
            images: each `(H, W, 3)` RGB uint8 or uint16; sizes may differ.

        Returns:
            One list per picture, in order; boxes and points in pixels of that picture, boxes may reach beyond it.

        Raises:
            ValueError: a picture has another shape or dtype.
        """
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
                raise ValueError(f"expected (H, W, 3) RGB, got {image.shape}")
        shown = [eight_bit(image) for image in images]
        faces: list[list[Detection]] = [[] for _ in images]
        for group in self._groups(shown):
            for turn in self.turns:
                for k, found in zip(group, self._found([np.rot90(shown[k], turn) for k in group]), strict=True):
                    faces[k] += [turned_back(face, turn, shown[k].shape[1], shown[k].shape[0]) for face in found]
        seen = [self._again(image, found) for image, found in zip(shown, faces, strict=True)]
        return seen if len(self.turns) == 1 else [apart(found, self.nms) for found in seen]

    def _found(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Upright faces of pictures of one size, before the second look."""
        finds: list[list[Finds]] = [[] for _ in images]
        for look in LOOKS:
            for found, find in zip(finds, self._run([self._view(image, look) for image in images]), strict=True):
                found.append(find)
        return [merge(Finds.join(found), self.nms) for found in finds]

    def points_in(self, image: NDArray[Any], box: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(5, 2)` landmarks of the face in a box that somebody drew, pixels of the picture.

        Args:
            image: `(H, W, 3)` RGB uint8 or uint16.
            box: `(4,)` x0, y0, x1, y1, pixels of the picture.
        """
        points = (box[:2] + np.array(_USUAL, np.float32) * (box[2:] - box[:2])).astype(np.float32)
        for _ in range(0 if self.refiner is None else 2):  # once for how the head is turned, and once upright
            points, _ = self._looked(eight_bit(image), box, points)
        return points

    @torch.inference_mode()
    def _looked(self, image: NDArray[np.uint8], box: NDArray[Any], points: NDArray[Any]) -> tuple[NDArray[np.float32], float]:
        """The second look: points, and the probability that this is a face."""
        assert self.refiner is not None
        matrix = crop_matrix(box, points)
        crop = to_tensor(normalized(geometry.cut(image, matrix, SIDE), 255).clip(-1, 1))
        found, logit = self.refiner(crop[None].to(self.device))
        return geometry.moved(found[0].cpu().numpy(), geometry.inverted(matrix)).astype(np.float32), float(logit.sigmoid())

    def _again(self, image: NDArray[np.uint8], faces: list[Detection]) -> list[Detection]:
        """The second look at each face of a picture: its points, and the geometric mean of both scores; best first."""
        if self.refiner is None or not faces:
            return faces
        refined = []
        for face in faces:  # one by one: a result must not depend on how many others there are
            landmarks, sure = self._looked(image, face.box, face.landmarks)
            score = float(np.sqrt(face.score * sure))
            if score >= self.low_threshold:
                refined.append(Detection(face.box, landmarks, score))
        return sorted(refined, key=lambda face: -face.score)

    def _groups(self, images: Sequence[NDArray[Any]]) -> Iterator[list[int]]:
        """Numbers of pictures that go through the network together: of one size, and on a CPU one at a time.

        A CPU gains nothing from batches, and its kernels, which depend on the batch, would differ in the last bits.
        """
        if self.device.type == "cpu":
            yield from ([k] for k in range(len(images)))
            return
        sizes = dict.fromkeys(image.shape for image in images)
        yield from ([k for k, image in enumerate(images) if image.shape == size] for size in sizes)

    def _view(self, image: NDArray[np.uint8], look: Look) -> View:
        height, width = image.shape[:2]
        scale = min(1.0, self.long_side / max(height, width)) * look.scale
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        if small != (width, height):
            image = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.uint8)
        margin = round(look.margin * max(small))
        if margin:
            padding = self.preprocessing.padding
            image = cv2.copyMakeBorder(image, *(margin,) * 4, cv2.BORDER_CONSTANT, value=padding).astype(np.uint8)
        return View(image, (small[0] / width, small[1] / height), margin)

    @torch.inference_mode()
    def _run(self, views: Sequence[View]) -> list[Finds]:
        """One batch of views of the same size through the network."""
        pixels = np.stack([view.image for view in views]).transpose(0, 3, 1, 2)
        batch = self.preprocessing(torch.from_numpy(pixels).to(self.device).float())
        encoded, logits, points = self.network(batch.contiguous(memory_format=torch.channels_last))
        scores = logits.softmax(-1)[..., 1]
        priors = anchors(*batch.shape[2:]).to(self.device)
        rows = zip(encoded, scores, points, views, strict=True)
        return [self._places(*row, priors) for row in rows]

    def _places(self, encoded: Tensor, scores: Tensor, points: Tensor, view: View, priors: Tensor) -> Finds:
        """What passes the threshold, in pixels of the picture."""
        kept = torch.nonzero(scores >= self.low_threshold).flatten()
        if len(kept) > 2000:
            kept = kept[scores[kept].topk(2000).indices]
        boxes = decode_boxes(encoded[kept], priors[kept]).reshape(-1, 2, 2)
        places = torch.cat([boxes, decode_points(points[kept], priors[kept])], 1).float().cpu().numpy()
        places = ((places - view.margin + 0.5) / np.array(view.scale) - 0.5).astype(np.float32)
        return Finds(places[:, :2].reshape(-1, 4), places[:, 2:], scores[kept].float().cpu().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture made ready for the network."""

    image: NDArray[np.uint8]
    """`(h, w, 3)` RGB."""
    scale: tuple[float, float]
    """Pixels of the view per pixel of the picture, across and down."""
    margin: int
    """Pixels of empty border on each side."""


@dataclass(frozen=True, slots=True, eq=False)
class Finds:
    """n candidates in one picture, before merging."""

    boxes: NDArray[np.float32]
    """`(n, 4)` pixels of the picture."""
    points: NDArray[np.float32]
    """`(n, 5, 2)` pixels of the picture."""
    scores: NDArray[np.float32]
    """`(n,)` in [0, 1]."""

    @classmethod
    def join(cls, finds: Sequence[Finds]) -> Finds:
        """All of them in one."""
        return cls(*(np.concatenate([getattr(f, name) for f in finds]) for name in ("boxes", "points", "scores")))


def merge(finds: Finds, threshold: float) -> list[Detection]:
    """Non-maximum suppression that averages what it suppresses (box voting, Gidaris and Komodakis 2015).

    The best find takes every other one that overlaps it by more than `threshold`, or that lies half inside it or half
    around it: part of a face, or a face with too much around. Those that agree closely with it vote on box and points
    with the square of their scores. The score is the best one's.
    """
    order = np.argsort(-finds.scores, kind="stable")
    faces = []
    while len(order):
        best = finds.boxes[order[0]]
        shared, nested = _overlap(best, finds.boxes[order])
        voters = order[shared > max(threshold, VOTE)]
        weight = finds.scores[voters].astype(np.float64) ** 2
        weight /= weight.sum()
        box = np.tensordot(weight, finds.boxes[voters], 1).astype(np.float32)
        points = np.tensordot(weight, finds.points[voters], 1).astype(np.float32)
        faces.append(Detection(box, points, float(finds.scores[order[0]])))
        order = order[(shared <= threshold) & (nested <= NESTED)]
    return faces


def turned_back(face: Detection, turn: int, width: int, height: int) -> Detection:
    """A face of `np.rot90(picture, turn)` in pixels of the picture, which is `width` x `height`."""
    if turn == 0:
        return face

    def back(places: NDArray[np.float32]) -> NDArray[np.float32]:
        x, y = places[..., 0], places[..., 1]
        across, down = ((width - 1 - y, x), (width - 1 - x, height - 1 - y), (y, height - 1 - x))[turn - 1]
        return np.stack([across, down], axis=-1).astype(np.float32)

    corners = back(face.box.reshape(2, 2))
    return Detection(np.concatenate([corners.min(0), corners.max(0)]), back(face.landmarks), face.score)


def apart(faces: Sequence[Detection], threshold: float) -> list[Detection]:
    """Of faces that are one, as in `merge`, the best alone: what was seen of it the wrong way round says nothing. Best first."""
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda one: -one.score):
        shared, nested = _overlap(face.box, np.array([one.box for one in kept], np.float32).reshape(-1, 4))
        if not ((shared > threshold) | (nested > NESTED)).any():
            kept.append(face)
    return kept


VOTE = 0.7
"""Overlap from which a suppressed find votes."""
NESTED = 0.5
"""Share of the smaller of two boxes from which they cannot be two faces."""


def _overlap(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What `box` (4,) shares with each of `boxes` (n, 4): of the union, and of the smaller one. 1 and 1 for itself."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.clip(high - low, 0, None).prod(1)
    own, areas = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return both / np.maximum(own + areas - both, 1e-9), both / np.maximum(np.minimum(own, areas), 1e-9)


def load_refiner(weights: str) -> LandmarkRefiner:
    """The landmark refiner of `embedded` or a safetensors file, in evaluation mode.

    Raises:
        WeightsError: missing, damaged, or of another network.
    """
    state, _ = load_embedded("landmarks") if weights == "embedded" else read_safetensors(weights)
    network = LandmarkRefiner()
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    fit(network, counters | state, weights)
    return network.eval()


def load_network(weights: str) -> tuple[RetinaFace, Preprocessing]:
    """The network of `weights` (see `RetinaDetector`) and what its input must look like.

    Raises:
        WeightsError: missing, damaged, of another network, of unknown preprocessing, or not to be fetched.
    """
    if weights == "embedded":
        state, metadata = load_embedded("detector")
    else:
        path = _public(weights) if weights in PUBLIC else store.find(weights, ("embedded", *PUBLIC))
        state, metadata = read_safetensors(path) if path.suffix == ".safetensors" else (read_state(path), {})
    body = body_of(state)
    if body is None:
        raise WeightsError(weights, "holds no RetinaFace of MobileNet-0.25 or ResNet-50")
    kind = metadata.get("preprocessing", "bgr-mean")
    if kind not in PREPROCESSING:
        raise WeightsError(weights, f"unknown preprocessing {kind!r}; known are {', '.join(PREPROCESSING)}")
    network = RetinaFace(body)
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    fit(network, counters | state, weights)  # Counters matter only to training; some files lack them.
    return network, PREPROCESSING[kind]


def _public(name: str) -> Path:
    """The file of public weights `name`, downloaded once."""
    file, digest = PUBLIC[name]
    by_hand = f"videoclr weights add FILE --name {name} --sha256 {digest}"
    advice = f"get the file in another way and run: {by_hand}; or use detect.weights=embedded"
    return store.fetch(name, RELEASES + file, digest, LICENCE, advice)

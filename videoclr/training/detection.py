"""What a face detector learns from: teacher labels, synthetic scenes, anchor targets and losses.

Few labelled pictures go a long way when every training picture is composed anew: aligned portraits and video frames are
scaled, turned, bent and pasted over other things, then spoilt as cameras and codecs spoil pictures. Boxes and points
follow the same transforms, so they stay as exact as the teacher's.

Boxes are `(x0, y0, x1, y1)`, points `(x, y)`, in pixels with the origin at the centre of the top-left pixel; boxes go
on beyond the border where a face is cut. Pictures are `(H, W, 3)` uint8 RGB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from videoclr.models.detector import encode_boxes, encode_points

Image = NDArray[np.uint8]
Array = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPicture:
    """A picture and the faces in it."""

    image: Image
    """`(H, W, 3)` RGB."""
    boxes: Array
    """`(n, 4)` pixels."""
    points: Array
    """`(n, 5, 2)` pixels: image-left eye, image-right eye, nose, image-left and image-right mouth corner."""
    ignore: NDArray[np.bool_]
    """`(n,)`: True where it is unclear whether this counts as a face; neither learned as one nor as background."""

    @classmethod
    def without_faces(cls, image: Image) -> LabelledPicture:
        """`image` with nothing in it."""
        return cls(image, np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, bool))

    def sizes(self) -> Array:
        """`(n,)` geometric mean of each box's sides, pixels."""
        sides = np.maximum(self.boxes[:, 2:] - self.boxes[:, :2], 0)
        sizes: Array = np.sqrt(sides[:, 0] * sides[:, 1])
        return sizes

    def shrunk(self, long_side: int) -> LabelledPicture:
        """This picture with its longer side at most `long_side`, area-averaged; the same object where it fits."""
        height, width = self.image.shape[:2]
        scale = long_side / max(height, width)
        if scale >= 1:
            return self
        image = cv2.resize(self.image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        factor = np.array([image.shape[1] / width, image.shape[0] / height], np.float32)
        points = (self.points + 0.5) * factor - 0.5
        boxes = (self.boxes.reshape(-1, 2, 2) + 0.5) * factor - 0.5
        return LabelledPicture(image.astype(np.uint8), boxes.reshape(-1, 4), points, self.ignore)


def read_picture(path: Path) -> Image:
    """`(H, W, 3)` RGB uint8.

    Raises:
        FileNotFoundError: missing, or not a picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(f"{path}: not a picture that can be read")
    return reversed_channels(picture)


def reversed_channels(picture: NDArray[Any]) -> Image:
    """BGR to RGB and back, `(H, W, 3)` uint8."""
    return np.ascontiguousarray(picture[:, :, ::-1], np.uint8)


def pictures_in(folder: Path) -> list[Path]:
    """Picture files of a folder, sorted."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))


def clips_in(folders: Sequence[Path]) -> list[Path]:
    """Video files of some folders, each folder sorted."""
    kinds = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")
    return [p for folder in folders for p in sorted(folder.iterdir()) if p.suffix.lower() in kinds]


def read_frames(path: Path, step: int) -> Iterator[Image]:
    """Every `step`-th frame of a clip, `(H, W, 3)` RGB. Times and exact colours do not matter here."""
    clip = cv2.VideoCapture(str(path))
    number = 0
    while clip.grab():
        if number % step == 0:
            found, frame = clip.retrieve()
            if found:
                yield reversed_channels(frame)
        number += 1
    clip.release()


def overlap(a: Array, b: Array) -> Array:
    """Intersection over union of every box of `a` (n, 4) with every box of `b` (m, 4): `(n, m)`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - both
    shared: Array = (both / np.maximum(union, 1e-6)).astype(np.float32)
    return shared


def covered(box: Array, others: Array) -> float:
    """The largest share that `box` (1, 4) and any of `others` (n, 4) have in common, of the smaller one of the two."""
    if not len(others):
        return 0.0
    both = (np.minimum(box[:, 2:], others[:, 2:]) - np.maximum(box[:, :2], others[:, :2])).clip(0).prod(1)
    areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (box, others)]
    return float((both / np.maximum(np.minimum(*areas), 1e-6)).max())


class Teacher:
    """YuNet (Wu et al. 2023, MIT) run by OpenCV as a label maker: several looks at several sizes, averaged.

    Args:
        path: the ONNX file of `face_detection_yunet`.
        looks: longer sides in pixels at which each picture is shown, upright and mirrored, bare and with air around. Its points are
            best where a face is 45 to 90 pixels large; of larger ones it puts the eyes and the corners of the mouth too high.
        sure: scores from here on are labels; weaker finds are marked `ignore`.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: Path, looks: Sequence[int] = (112, 128, 144), sure: float = 0.8) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
        self.network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), 0.3, 0.3, 200)
        self.looks = tuple(looks)
        self.sure = sure

    def label(self, image: Image) -> LabelledPicture:
        """`image` (H, W, 3) RGB uint8 -> the same with its faces."""
        found = [self._look(image, side, pad, flip) for side, pad in self._views() for flip in (False, True)]
        return self._merge(image, np.concatenate(found))

    def _views(self) -> Iterator[tuple[int, float]]:
        for side in self.looks:
            yield side, 0.0
            # A face that fills the picture is found better with air around it; at the same size, its anchors lie elsewhere.
            yield round(1.8 * side), 0.4

    def _look(self, image: Image, side: int, pad: float, flip: bool) -> Array:
        height, width = image.shape[:2]
        margin = round(pad * max(height, width))
        if margin:
            image = cv2.copyMakeBorder(image, *(margin,) * 4, cv2.BORDER_CONSTANT, value=(128,) * 3).astype(np.uint8)
        scale = side / max(image.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=how)
        small = np.ascontiguousarray(small[:, ::-1, ::-1] if flip else small[:, :, ::-1])
        self.network.setInputSize((small.shape[1], small.shape[0]))
        rows = self.network.detect(small)[1]
        if rows is None:
            return np.zeros((0, 16), np.float32)
        # On thin strips YuNet has answered with boxes of infinite or no size.
        rows = rows[np.isfinite(rows).all(1) & (rows[:, 2:4] > 1).all(1)]
        # YuNet: x, y, w, h, then the person's right eye (image-left) first, score last.
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1).reshape(-1, 2, 2)
        points = rows[:, 4:14].reshape(-1, 5, 2)
        if flip:
            boxes[..., 0] = small.shape[1] - boxes[..., 0]
            boxes = np.stack([boxes.min(1), boxes.max(1)], 1)
            points[..., 0] = small.shape[1] - points[..., 0]
            points = points[:, [1, 0, 2, 4, 3]]
        size = np.sqrt((boxes[:, 1] - boxes[:, 0]).clip(0).prod(-1))
        places = np.concatenate([boxes, points], 1) / scale - margin - 0.5
        return np.concatenate([places.reshape(len(rows), 14), rows[:, 14:], size[:, None]], 1).astype(np.float32)

    def _merge(self, image: Image, rows: Array) -> LabelledPicture:
        rows = rows[np.argsort(-rows[:, 14])]
        faces, ignore = [], []
        while len(rows):
            same = overlap(rows[:1, :4], rows[:, :4])[0] > 0.4
            group, rows = rows[same], rows[~same]
            # Fine looks know better where the eyes are; very small ones only vote.
            weight = group[:, 14] ** 4 * np.minimum(1, group[:, 15] / 80)
            faces.append((group[:, :14] * weight[:, None]).sum(0) / weight.sum())
            ignore.append(group[0, 14] < self.sure or len(group) < 2)
        places = np.array(faces, np.float32).reshape(-1, 14)
        return LabelledPicture(image, places[:, :4], places[:, 4:].reshape(-1, 5, 2), np.array(ignore, bool))


def transform_points(points: NDArray[Any], matrix: NDArray[np.float64]) -> Array:
    """`(..., 2)` points through a `(3, 3)` homography."""
    flat = cv2.perspectiveTransform(points.reshape(-1, 1, 2).astype(np.float64), matrix)
    return flat.reshape(points.shape).astype(np.float32)


def transform_boxes(boxes: Array, matrix: NDArray[np.float64]) -> Array:
    """Boxes `(n, 4)` around the transformed ellipses that fill the old ones: turning does not blow them up."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    centre, half = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2, (boxes[:, None, 2:] - boxes[:, None, :2]) / 2
    moved = transform_points(centre + half * ring, matrix)
    return np.concatenate([moved.min(1), moved.max(1)], 1)


def _scaling(k: float) -> NDArray[np.float64]:
    """Scaling by `k` about the picture's corner, which lies half a pixel before the origin."""
    return np.array([[k, 0, k / 2 - 0.5], [0, k, k / 2 - 0.5], [0, 0, 1]])


def warp(image: NDArray[Any], matrix: NDArray[np.float64], size: int) -> NDArray[Any]:
    """`image` through the homography `matrix` onto a `size` x `size` canvas, area-averaged before it shrinks."""
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
    if scale < 0.6:
        k = max(scale * 1.2, 4 / min(image.shape[:2]))
        image = cv2.resize(image, None, fx=k, fy=k, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.linalg.inv(_scaling(k))
    return cv2.warpPerspective(image, matrix, (size, size), flags=cv2.INTER_LINEAR)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def noise_field(rng: Rng, size: int, cells: int, channels: int = 3) -> Array:
    """Smooth noise `(size, size, channels)`, about standard normal, with features of `size / cells` pixels."""
    coarse = rng.standard_normal((cells, cells, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(size, size, channels).astype(np.float32)


def draw_shapes(rng: Rng, image: Image, count: int) -> None:
    """Draw `count` random ellipses, polygons, lines and letters over `image`, in place."""
    size = image.shape[0]
    for _ in range(count):
        # Half of them look like skin, so that colour alone says nothing.
        skin = rng.uniform(80, 245) * np.array([1, rng.uniform(0.6, 0.85), rng.uniform(0.4, 0.75)])
        colour = [float(c) for c in (skin if rng.random() < 0.4 else rng.uniform(0, 255, 3))]
        x, y = (int(v) for v in rng.integers(0, size, 2))
        reach = int(log_uniform(rng, 4, size / 2))
        kind, thick = rng.integers(0, 5), int(rng.choice([-1, 1, 2, 5]))
        if kind <= 1:
            axes = (reach, max(2, int(reach * rng.uniform(0.4, 1))))
            cv2.ellipse(image, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, thick, cv2.LINE_AA)
        elif kind == 2:
            corners = rng.integers(-reach, reach + 1, (int(rng.integers(3, 7)), 2)) + np.array([x, y])
            cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        elif kind == 3:
            end = (x + int(rng.integers(-reach, reach + 1)) * 2, y + int(rng.integers(-reach, reach + 1)) * 2)
            cv2.line(image, (x, y), end, colour, int(rng.integers(1, 12)), cv2.LINE_AA)
        else:
            text = "".join(chr(c) for c in rng.integers(33, 126, int(rng.integers(1, 9))))
            cv2.putText(image, text, (x, y), int(rng.integers(0, 7)), reach / 30, colour, int(rng.integers(1, 4)))


def procedural(rng: Rng, size: int) -> Image:
    """A `size` x `size` background of gradients, noise of several scales, stripes and shapes."""
    canvas = np.full((size, size, 3), rng.uniform(10, 245, 3), np.float32)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    canvas += ramp[:, None, None] * rng.normal(0, 40, 3).astype(np.float32)
    canvas += ramp[None, :, None] * rng.normal(0, 40, 3).astype(np.float32)
    for cells in rng.choice([2, 4, 8, 16, 32, 64, 128], int(rng.integers(1, 4)), replace=False):
        grey = rng.random() < 0.6
        canvas += noise_field(rng, size, int(cells), 1 if grey else 3) * rng.uniform(3, 45)
    if rng.random() < 0.25:
        angle, period = rng.uniform(0, np.pi), log_uniform(rng, 3, 80)
        wave = np.sin((ramp[:, None] * np.sin(angle) + ramp[None] * np.cos(angle)) * np.pi * size / period)
        canvas += (np.sign(wave) if rng.random() < 0.5 else wave)[..., None].astype(np.float32) * rng.normal(0, 35, 3)
    image = canvas.clip(0, 255).astype(np.uint8)
    draw_shapes(rng, image, int(rng.integers(0, 14)))
    return image


def degrade(rng: Rng, image: Image, strength: float = 1.0) -> Image:
    """Light, colour, blur, resampling, noise and compression faults, each with some chance."""
    work: NDArray[Any] = image.astype(np.float32)
    if rng.random() < 0.7:
        gamma = math.exp(rng.normal(0, 0.3))
        work = 255 * (work / 255) ** gamma * rng.uniform(0.6, 1.25) * (1 + rng.normal(0, 0.06, 3))
    if rng.random() < 0.12:
        work = np.repeat(work.mean(2, keepdims=True), 3, 2) * (rng.uniform(0.85, 1, 3) if rng.random() < 0.3 else 1)
    size = image.shape[0]
    work = work.astype(np.float32)
    if rng.random() < 0.45 * strength:
        work = _blur(rng, work, strength)
    if rng.random() < 0.4 * strength:
        small = int(size / rng.uniform(1, 1 + 2 * strength))
        how = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR]))
        work = cv2.resize(work, (small, small), interpolation=how)
        work = cv2.resize(work, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5 * strength:
        grain = rng.standard_normal((size, size, 1 if rng.random() < 0.5 else 3), dtype=np.float32)
        work = work + grain * rng.uniform(1, 16 * strength)
    out = np.clip(work, 0, 255).astype(np.uint8)
    return _compressed(out, int(rng.integers(int(max(8, 60 - 45 * strength)), 95))) if rng.random() < 0.5 else out


def _compressed(image: Image, quality: int) -> Image:
    """`image` through JPEG."""
    packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    picture = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    assert picture is not None, "OpenCV reads what it wrote"
    return reversed_channels(picture)


def _blur(rng: Rng, work: Array, strength: float) -> Array:
    if rng.random() < 0.7:
        return cv2.GaussianBlur(work, (0, 0), rng.uniform(0.3, 0.3 + 1.8 * strength)).astype(np.float32)
    length = int(rng.integers(3, 4 + round(8 * strength)))
    kernel = np.zeros((length, length), np.float32)
    turn, middle = rng.uniform(0, np.pi), (length - 1) / 2
    reach = np.array([np.cos(turn), np.sin(turn)]) * middle
    start, end = (np.rint(middle + s * reach).astype(int).tolist() for s in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return cv2.filter2D(work, -1, kernel / kernel.sum()).astype(np.float32)


def lit(rng: Rng, image: Image) -> Image:
    """`image` (S, S, 3) in light that faces are seldom photographed in: deep shade, one colour, from one side, through haze."""
    size, kind = image.shape[0], rng.random()
    work: NDArray[Any] = image.astype(np.float32) / 255
    if kind < 0.35:
        work = work ** log_uniform(rng, 0.8, 1.6) * log_uniform(rng, 0.15, 0.6)
    elif kind < 0.75:
        colour = np.array([log_uniform(rng, 0.06, 1) for _ in range(3)])
        work = work * (colour / colour.max()) * log_uniform(rng, 0.4, 1)
    elif kind < 0.9:
        turn, ramp = rng.uniform(0, 2 * np.pi), np.linspace(-1, 1, size, dtype=np.float32)
        across = (math.cos(turn) * ramp[None, :] + math.sin(turn) * ramp[:, None]) / rng.uniform(0.15, 1.0) + rng.uniform(-0.5, 0.5)
        dark = log_uniform(rng, 0.05, 0.4)
        work = work * (dark + (1 - dark) * (np.clip(across, -1, 1) + 1) / 2)[..., None]
    else:
        haze = rng.uniform(0.5, 0.85)
        work = work * (1 - haze) + haze * rng.uniform(0.1, 1, 3)
    return (255 * work).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Hardship:
    """Shares, in [0, 1], of what is seldom seen: 0 for none of it."""

    turned: float = 0.0
    """Faces at any angle, lying and upside down."""
    cut: float = 0.0
    """Faces of which the picture's border cuts off 10 to 65 %."""
    light: float = 0.0
    """Scenes in the light of `lit`."""
    worn: float = 0.0
    """Scenes that are degraded by up to 2.5 times as much as usual; faces too small to survive it count neither way."""
    margin: float = 0.0
    """Scenes with an empty border, as a detector's wide look has it."""


USUAL = Hardship()
"""None of it."""
_MARGIN = 0.1
"""Of a scene's inner side, on each side; `Hardship.margin`."""
_EMPTY = 127
"""Grey level of that border."""
_CUT_SHOWN, _CUT_POINTS = 0.3, 2
"""Share of a box, and landmarks, that have to be inside a scene with cut faces for a face to count."""


class SceneMaker:
    """Composes labelled square pictures from labelled sources.

    Args:
        portraits: aligned faces, one each; pasted cut out or whole.
        frames: video frames, whose surroundings come along.
        backgrounds: pictures known to hold no face, `(H, W, 3)` uint8 RGB.
        smallest, largest: face sizes in pixels on a canvas of `canvas` pixels; on larger canvases every other scene
            has larger faces, in proportion.
        canvas: pixels, see above.
        hard: how much is seen of what is seldom seen. Without it, scenes are to the bit what they were before there was any.

    Raises:
        ValueError: there is neither a portrait nor a frame with a face.
    """

    def __init__(
        self,
        portraits: Sequence[LabelledPicture],
        frames: Sequence[LabelledPicture] = (),
        backgrounds: Sequence[Image] = (),
        smallest: float = 10,
        largest: float = 420,
        canvas: int = 320,
        hard: Hardship = USUAL,
    ) -> None:
        self.hard = hard
        self.portraits = [p for p in portraits if (~p.ignore).any()]
        self.frames = [p for p in frames if (~p.ignore).any()]
        self.backgrounds = list(backgrounds)
        self.smallest, self.largest, self.canvas = smallest, largest, canvas
        if not self.portraits and not self.frames:
            raise ValueError("there is no labelled face to learn from")

    def make(self, rng: Rng, size: int = 320) -> LabelledPicture:
        """A new scene of `size` x `size` pixels. The same `rng` state gives the same scene."""
        if chance(rng, self.hard.margin):
            return self._with_margin(self._scene(rng, round(size / (1 + 2 * _MARGIN))), size)
        return self._scene(rng, size)

    @staticmethod
    def _with_margin(scene: LabelledPicture, size: int) -> LabelledPicture:
        inner = scene.image.shape[0]
        low = (size - inner) // 2
        image = np.full((size, size, 3), _EMPTY, np.uint8)
        image[low : low + inner, low : low + inner] = scene.image
        return LabelledPicture(image, scene.boxes + low, scene.points + low, scene.ignore)

    def _scene(self, rng: Rng, size: int) -> LabelledPicture:
        kind = rng.random()
        scene = LabelledPicture.without_faces(self.background(rng, size))
        largest = self.largest * (max(1.0, size / self.canvas) if rng.random() < 0.5 else 1)
        if kind < 0.5:
            scene = self._paste(rng, scene, self._source(rng, 0.65), log_uniform(rng, 2 * self.smallest, largest), whole=True)
            crowd = int(rng.integers(0, 3))
        else:
            crowd = int(rng.choice([0, 1, 2, 4, 7], p=[0.1, 0.35, 0.3, 0.15, 0.1]))
        alone = crowd == 1 and kind >= 0.5
        top = min(largest, size * 1.2) if alone else size * 0.9 / math.sqrt(crowd + 1)
        for _ in range(crowd):
            whole = bool(rng.random() < 0.25)
            scene = self._paste(rng, scene, self._source(rng, 0.15), log_uniform(rng, self.smallest, top), whole)
        scene = self._occlude(rng, scene)
        smallest = self.smallest
        if chance(rng, self.hard.light):
            image = degrade(rng, lit(rng, scene.image), 0.5)  # what little there is to see would drown in more
        elif chance(rng, self.hard.worn):
            strength = rng.uniform(1, 2.5)
            image, smallest = degrade(rng, scene.image, strength), smallest * strength
        else:
            image = degrade(rng, scene.image)
        return self._visible(LabelledPicture(image, scene.boxes, scene.points, scene.ignore), smallest)

    def background(self, rng: Rng, size: int) -> Image:
        """A `size` x `size` picture without faces: drawn, cut from others, or tiled from hair and skin."""
        kind = rng.random()
        if kind < 0.35:
            image = self._cut(rng, size)
        elif kind < 0.5 and self.portraits:
            image = self._tiles(rng, size)
        else:
            return procedural(rng, size)
        if image is None:
            return procedural(rng, size)
        if rng.random() < 0.3:
            draw_shapes(rng, image, int(rng.integers(1, 6)))
        return image

    def _cut(self, rng: Rng, size: int) -> Image | None:
        if self.backgrounds and (rng.random() < 0.5 or not self.frames):
            source = LabelledPicture.without_faces(self.backgrounds[rng.integers(len(self.backgrounds))])
        elif self.frames:
            source = self.frames[rng.integers(len(self.frames))]
        else:
            return None
        height, width = source.image.shape[:2]
        for _ in range(8):
            side = int(log_uniform(rng, min(40, height, width), min(height, width)))
            x, y = (int(rng.integers(0, n - side + 1)) for n in (width, height))
            grown = source.boxes + (source.boxes[:, [2, 3, 0, 1]] - source.boxes) * -0.1
            clear = (grown[:, 0] > x + side) | (grown[:, 2] < x) | (grown[:, 1] > y + side) | (grown[:, 3] < y)
            if clear.all():
                patch = source.image[y : y + side, x : x + side]
                patch = patch[:, ::-1] if rng.random() < 0.5 else patch
                how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
                return cv2.resize(patch, (size, size), interpolation=how).astype(np.uint8)
        return None

    def _tiles(self, rng: Rng, size: int) -> Image:
        """Patches of portraits, too small or too scrambled to be a face: parts alone must not count."""
        portrait = self.portraits[rng.integers(len(self.portraits))]
        box, side = portrait.boxes[0], portrait.image.shape[0]
        if rng.random() < 0.5:
            patch = max(8, int((box[2] - box[0]) * rng.uniform(0.2, 0.4)))
            x, y = (int(v) for v in rng.integers(0, side - patch, 2))
            tile = portrait.image[y : y + patch, x : x + patch]
            return cv2.resize(np.concatenate([tile, tile[:, ::-1]], 1), (size, size)).astype(np.uint8)
        cells = int(rng.integers(4, 8))
        patch = side // cells
        parts = portrait.image[: patch * cells, : patch * cells].reshape(cells, patch, cells, patch, 3).swapaxes(1, 2)
        parts = rng.permutation(parts.reshape(cells * cells, patch, patch, 3))
        mixed = parts.reshape(cells, cells, patch, patch, 3).swapaxes(1, 2).reshape(cells * patch, cells * patch, 3)
        return cv2.resize(mixed, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)

    def _source(self, rng: Rng, framed: float) -> LabelledPicture:
        pool = self.frames if self.frames and (rng.random() < framed or not self.portraits) else self.portraits
        return pool[rng.integers(len(pool))]

    def _paste(self, rng: Rng, scene: LabelledPicture, source: LabelledPicture, face: float, whole: bool) -> LabelledPicture:
        """`source` over `scene` so that one of its faces is `face` pixels large; nothing where there is no room."""
        size = scene.image.shape[0]
        sure = np.flatnonzero(~source.ignore)
        chosen = int(rng.choice(sure))
        for _ in range(6):
            matrix = self._pose(rng, source, chosen, face, size)
            box = transform_boxes(source.boxes[chosen : chosen + 1], matrix)
            if whole or covered(box, scene.boxes) < 0.1:
                break
        else:
            return scene
        cut = np.zeros(source.image.shape[:2], np.float32)
        self._mask(rng, cut, source.boxes[chosen], whole)
        alpha = warp(cut, matrix, size)[..., None]
        image = (scene.image * (1 - alpha) + warp(source.image, matrix, size) * alpha).astype(np.uint8)
        kept = np.arange(len(source.boxes)) if whole else np.array([chosen])
        old, hidden = self._behind(scene, alpha[..., 0])
        return LabelledPicture(
            image,
            np.concatenate([scene.boxes[old], transform_boxes(source.boxes[kept], matrix)]),
            np.concatenate([scene.points[old], self._mirrored(transform_points(source.points[kept], matrix), matrix)]),
            np.concatenate([scene.ignore[old] | hidden[old], source.ignore[kept]]),
        )

    @staticmethod
    def _mirrored(points: Array, matrix: NDArray[np.float64]) -> Array:
        """Left and right exchanged where `matrix` mirrors."""
        return points[:, [1, 0, 2, 4, 3]] if np.linalg.det(matrix[:2, :2]) < 0 else points

    def _pose(self, rng: Rng, source: LabelledPicture, chosen: int, face: float, size: int) -> NDArray[np.float64]:
        box = source.boxes[chosen]
        centre, scale = (box[:2] + box[2:]) / 2, face / source.sizes()[chosen]
        turns = [rng.normal(0, 8), rng.uniform(-35, 35), rng.uniform(-60, 60)]
        turn = math.radians(float(rng.choice(turns, p=[0.7, 0.25, 0.05])))
        if chance(rng, self.hard.turned):
            turn = float(rng.uniform(-np.pi, np.pi))
        stretch = math.exp(rng.normal(0, 0.06))
        mirror = -1 if rng.random() < 0.5 else 1
        linear = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        shape = np.array([[mirror * stretch, rng.normal(0, 0.04)], [0, 1 / stretch]])
        # A face may hang over the border by up to 0.3 of itself; large ones go where they go.
        slack = 0.3 * face if rng.random() < 0.25 else 0.0
        low = min(face / 2 - slack, size / 2)
        target = rng.uniform(low, size - low, 2) if low < size / 2 else size / 2 + rng.uniform(-0.25, 0.25, 2) * size
        if chance(rng, self.hard.cut):
            side = int(rng.integers(4))
            outside = face * (0.5 - rng.uniform(0.1, 0.65))
            target[side // 2] = outside if side % 2 else size - outside
        matrix = np.eye(3)
        matrix[:2, :2] = scale * linear @ shape
        matrix[:2, 2] = target - matrix[:2, :2] @ centre
        bend = np.eye(3)
        bend[2, :2] = rng.normal(0, 0.12, 2) / max(face, 1)
        shift = np.eye(3)
        shift[:2, 2] = -target
        return np.linalg.inv(shift) @ bend @ shift @ matrix

    @staticmethod
    def _mask(rng: Rng, cut: Array, box: Array, whole: bool) -> None:
        if whole:
            cut[:] = 1
            return
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        grow = rng.uniform(1.05, 1.7, 2) * [1.05, 1]
        if rng.random() < 0.75:
            centre = centre + np.array([0, -0.12 * half[1]])
            axes = tuple(int(v) for v in half * grow)
            cv2.ellipse(cut, [int(v) for v in centre], axes, 0, 0, 360, 1.0, -1)
        else:
            x0, y0, x1, y1 = (int(v) for v in np.concatenate([centre - half * grow, centre + half * grow]))
            cut[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 1
        if rng.random() < 0.7:
            sigma = float(rng.uniform(0.01, 0.08) * (box[2] - box[0]))
            cut[:] = cv2.GaussianBlur(cut, (0, 0), max(sigma, 0.5))

    @staticmethod
    def _behind(scene: LabelledPicture, alpha: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Which old faces are still there under a new layer, and which are partly hidden."""
        size, kept = alpha.shape[0], []
        hidden = np.zeros(len(scene.boxes), bool)
        for k, box in enumerate(scene.boxes):
            x0, y0, x1, y1 = np.clip(np.rint(box), 0, size).astype(int)
            covered = float(alpha[y0:y1, x0:x1].mean()) if x1 > x0 and y1 > y0 else 0.0
            hidden[k] = covered > 0.2
            if covered < 0.75:
                kept.append(k)
        return np.array(kept, np.int64), hidden

    @staticmethod
    def _occlude(rng: Rng, scene: LabelledPicture) -> LabelledPicture:
        """Hands, microphones, glasses: shapes over a minor part of some faces, labels unchanged."""
        image = scene.image
        for box, points in zip(scene.boxes, scene.points, strict=True):
            size = float(box[2] - box[0])
            if rng.random() > 0.2 or size < 16:
                continue
            colour = [float(v) for v in (rng.uniform(0, 255, 3) if rng.random() < 0.5 else rng.uniform(0, 60, 3))]
            if rng.random() < 0.4:
                for eye in points[:2]:
                    axes = (int(size * rng.uniform(0.1, 0.17)), int(size * rng.uniform(0.08, 0.14)))
                    fill = -1 if rng.random() < 0.5 else max(1, int(size / 50))
                    cv2.ellipse(image, [int(v) for v in eye], axes, 0, 0, 360, colour, fill, cv2.LINE_AA)
                continue
            edge = box[:2] + (box[2:] - box[:2]) * np.array([rng.choice([0.05, 0.95]), rng.uniform(0.3, 1.05)])
            axes = (int(size * rng.uniform(0.08, 0.3)), int(size * rng.uniform(0.08, 0.4)))
            turn = float(rng.uniform(0, 180))
            cv2.ellipse(image, [int(v) for v in edge], axes, turn, 0, 360, colour, -1, cv2.LINE_AA)
        return scene

    def _visible(self, scene: LabelledPicture, smallest: float) -> LabelledPicture:
        """Drop faces outside the canvas; ignore those mostly outside or, below about `smallest` pixels, too small to tell."""
        size = scene.image.shape[0]
        inside = np.clip(scene.boxes, 0, size - 1)
        whole = np.maximum((scene.boxes[:, 2:] - scene.boxes[:, :2]).prod(1), 1e-3)
        shown = (inside[:, 2:] - inside[:, :2]).prod(1) / whole
        points_in = ((scene.points > 0) & (scene.points < size - 1)).all(2)
        if self.hard.cut:
            cut = (shown < _CUT_SHOWN) | (points_in.sum(1) < _CUT_POINTS)
        else:
            cut = (shown < 0.55) | ~points_in[:, :3].all(1)
        vague = scene.ignore | cut | (scene.sizes() < 0.9 * smallest)
        kept = shown > 0.05
        return LabelledPicture(scene.image, scene.boxes[kept], scene.points[kept], vague[kept])


def chance(rng: Rng, share: float) -> bool:
    """True in `share` of all cases; no number is drawn where it is 0."""
    return share > 0 and rng.random() < share


class SceneBatches(IterableDataset[tuple[Tensor, list[LabelledPicture]]]):
    """Endless batches of scenes; batch k is a function of `seed` and k alone, whatever the number of workers.

    Of `processes` that train together, number `process` takes batch `step * processes + process`.

    Every `wide_every`-th batch shows canvases of twice the side (a quarter as many), so that the network meets faces
    and backgrounds at the scale it will be used at. Yields `(N, 3, S, S)` uint8 RGB and the N scenes.
    """

    def __init__(
        self,
        maker: SceneMaker,
        batch: int,
        size: int,
        seed: int,
        start: int = 0,
        wide_every: int = 6,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.maker, self.batch, self.size, self.seed = maker, batch, size, seed
        self.start, self.wide_every = start, wide_every
        self.process, self.processes = process, processes

    def __iter__(self) -> Iterator[tuple[Tensor, list[LabelledPicture]]]:
        """Batches from step `start` on; workers take turns."""
        worker = get_worker_info()
        first, turn = (0, 1) if worker is None else (worker.id, worker.num_workers)
        step = self.start + first
        while True:
            yield self.make(step * self.processes + self.process)
            step += turn

    def make(self, number: int) -> tuple[Tensor, list[LabelledPicture]]:
        """Batch `number`."""
        step = number // self.processes  # all processes look wide in the same step
        wide = self.wide_every > 0 and step % self.wide_every == self.wide_every - 1
        count, size = (max(1, self.batch // 4), 2 * self.size) if wide else (self.batch, self.size)
        rng = np.random.default_rng([self.seed, number])
        scenes = [self.maker.make(rng, size) for _ in range(count)]
        pixels = np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(pixels)), scenes


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What the network should say at each of A anchors, for N pictures."""

    kind: Tensor
    """`(N, A)` int64: 1 face, 0 background, -1 ignored."""
    boxes: Tensor
    """`(N, A, 4)` encoded boxes, where `kind` is 1."""
    points: Tensor
    """`(N, A, 10)` encoded points, where `kind` is 1."""
    weight: Tensor
    """`(N, A)`: one over the square root of the number of anchors that share the face; large faces have many."""


def match(scene: LabelledPicture, priors: Tensor, threshold: float = 0.35) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Targets of one scene over `priors` (A, 3), see `Targets` without its first axis.

    An anchor learns the face it overlaps most, from an overlap of `threshold` on; every face gets its best anchor.
    """
    count = len(priors)
    kind = torch.zeros(count, dtype=torch.int64)
    boxes, points, weight = torch.zeros(count, 4), torch.zeros(count, 10), torch.zeros(count)
    if not len(scene.boxes):
        return kind, boxes, points, weight
    side = priors[:, 2:] / 2
    corners = torch.cat([priors[:, :2] - side, priors[:, :2] + side], 1).numpy()
    shared = torch.from_numpy(overlap(scene.boxes, corners))
    vague = torch.from_numpy(scene.ignore)
    best, face = shared.masked_fill(vague[:, None], -1).max(0)
    sure = torch.nonzero(~vague).flatten()
    top, where = shared[sure].max(1)
    close = top > 0.2
    best[where[close]], face[where[close]] = 2.0, sure[close]
    kind[best >= threshold] = 1
    if vague.any():
        kind[(shared[vague].max(0).values > 0.25) & (kind == 0)] = -1
    hits = kind == 1
    boxes[hits] = encode_boxes(torch.from_numpy(scene.boxes)[face[hits]], priors[hits])
    points[hits] = encode_points(torch.from_numpy(scene.points)[face[hits]], priors[hits])
    weight[hits] = torch.bincount(face[hits], minlength=len(scene.boxes)).float()[face[hits]].rsqrt()
    return kind, boxes, points, weight


def targets(scenes: Sequence[LabelledPicture], priors: Tensor) -> Targets:
    """`Targets` of a batch over `priors` (A, 3), on the CPU."""
    parts = [match(scene, priors) for scene in scenes]
    return Targets(*(torch.stack(column) for column in zip(*parts, strict=True)))


def detection_loss(
    boxes: Tensor, logits: Tensor, points: Tensor, goal: Targets, negatives: int = 7
) -> tuple[Tensor, dict[str, Tensor]]:
    """RetinaFace's multi-task loss: hard-mined cross entropy, smooth L1 on boxes and on points.

    The cross entropies are sums over the batch, divided by its number of face anchors (at least 1). The smooth L1 terms are means
    over the face anchors, weighted by `Targets.weight`.

    Args:
        boxes, logits, points: what the network returned, `(N, A, 4)`, `(N, A, 2)`, `(N, A, 10)`.
        goal: targets on the same device.
        negatives: background anchors per face anchor that count, those with the largest loss in the batch; at least 32 per
            picture, so that a batch without faces still teaches something.

    Returns:
        The scalar loss, and its detached terms `face`, `background`, `box`, `points`.
    """
    hits = goal.kind == 1
    count = hits.sum().clamp(min=1)
    entropy = F.cross_entropy(logits.transpose(1, 2), goal.kind.clamp(min=0), reduction="none")
    misses = entropy[goal.kind == 0]
    hard = min(max(negatives * int(count), 32 * len(boxes)), misses.numel())
    background = misses.topk(hard).values.sum() / count
    face = entropy[hits].sum() / count
    weight = goal.weight[hits]
    weight = weight / weight.sum().clamp(min=1e-6)
    box = (F.smooth_l1_loss(boxes[hits], goal.boxes[hits], reduction="none", beta=0.3).sum(1) * weight).sum()
    point = (F.smooth_l1_loss(points[hits], goal.points[hits], reduction="none", beta=0.15).sum(1) * weight).sum()
    loss = face + background + 1.5 * box + point
    terms = {"face": face, "background": background, "box": box, "points": point}
    return loss, {name: value.detach() for name, value in terms.items()}

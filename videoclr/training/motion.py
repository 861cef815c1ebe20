"""Moving faces out of still ones: seeded motion for temporal training and for clips whose clean side is known exactly.

A face moves as a head before a camera does: it drifts, turns in the picture, comes nearer, turns away (perspective, and a
parallax by a rough depth of a face), it speaks, smiles, lifts the brows and blinks (local warps at the places where an FFHQ
crop has them), and the light on it changes. Every movement is a smooth curve over time, and all of a frame's warps are one
resampling of the still, so that nothing blurs and the same seed makes the same pixels.

    clip = move(face, draw(count=36, seed=7))
    where = shown_at(plan, 12, size=256)      # the warp of frame 12: exact flow between any two frames follows from it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Clip = NDArray[np.uint8]
Curve = NDArray[np.float64]

_KNOT = 8
"""Frames between two knots of a curve: heads turn within a third of a second."""
_FAR = 1.6
"""Standard deviations at which a knot is cut off."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Standard deviations from which a clip's motion is drawn; lengths in sides of the crop."""

    shift: float = 0.02
    """Of the head, across and down."""
    turn: float = 0.06
    """In the picture, radians."""
    zoom: float = 0.04
    """Natural logarithm of the scale."""
    yaw: float = 0.22
    """Left and right, radians."""
    pitch: float = 0.12
    """Up and down, radians."""
    expression: float = 1.0
    """Strength of mouth, brows and lids; 0 for a mask."""
    light: float = 0.10
    """Natural logarithm of the brightness, and of the change across the face."""


STILL = Recipe(0, 0, 0, 0, 0, 0, 0)
"""No motion at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One clip's motion, decided. `(T,)` each, unless said otherwise; lengths in sides of the crop."""

    shift: Curve
    """`(T, 2)` x and y."""
    turn: Curve
    """Radians."""
    zoom: Curve
    """Natural logarithm."""
    yaw: Curve
    """Radians; positive turns the face to the right of the picture."""
    pitch: Curve
    """Radians; positive looks down."""
    mouth: Curve
    """0 as in the still, positive opens, negative closes."""
    smile: Curve
    """Positive pulls the corners out and up."""
    brows: Curve
    """Positive lifts."""
    lids: Curve
    """0 open as in the still, 1 shut."""
    gaze: Curve
    """0 as in the still, 1 far to the right of the picture, -1 to the left."""
    light: Curve
    """`(T, 3)` natural logarithms: brightness, change from left to right, change from top to bottom."""

    def __len__(self) -> int:
        return len(self.turn)


def draw(count: int, seed: int, recipe: Recipe | None = None) -> Plan:
    """Decide the motion of a clip of `count` frames; the same arguments give the same plan.

    Raises:
        ValueError: fewer than one frame.
    """
    if count < 1:
        raise ValueError(f"a clip has at least one frame, got {count}")
    rng = np.random.default_rng(seed)
    return _plan(recipe or Recipe(), lambda knot: curve(count, rng, knot), lambda: _blinks(count, rng), lambda: np.zeros(count))


def pose(seed: int) -> Plan:
    """One frame for a still that shall look and turn elsewhere: the light stays; in two of five the lids are half or more shut, and
    half look aside.

    Portraits look into the camera with open eyes: a network that saw nothing else opens closed ones, and turns them to the front.
    """
    rng = np.random.default_rng(seed)
    return _plan(
        Recipe(light=0.0),
        lambda _: np.clip(rng.normal(size=1), -_FAR, _FAR),
        lambda: rng.uniform(0.5, 1.0, 1) * (rng.random() < 0.4),
        lambda: rng.uniform(-1.0, 1.0, 1) * (rng.random() < 0.5),
    )


def _plan(r: Recipe, along: Callable[[int], Curve], lids: Callable[[], Curve], gaze: Callable[[], Curve]) -> Plan:
    """Out of curves about normal: `along` draws one with that many frames between its knots, `lids` and `gaze` the eyes."""
    more = r.expression
    return Plan(
        shift=r.shift * np.stack([along(_KNOT), along(_KNOT)], axis=1),
        turn=r.turn * along(_KNOT),
        zoom=r.zoom * along(2 * _KNOT),
        yaw=r.yaw * along(_KNOT),
        pitch=r.pitch * along(_KNOT),
        mouth=more * (0.5 * along(_KNOT // 2) + 0.2),
        smile=more * 0.5 * along(2 * _KNOT),
        brows=more * 0.5 * along(2 * _KNOT),
        lids=min(more, 1.0) * lids(),
        light=r.light * np.stack([along(2 * _KNOT) for _ in range(3)], axis=1),
        gaze=min(more, 1.0) * gaze(),
    )


def curve(count: int, rng: np.random.Generator, knot: int = _KNOT) -> Curve:
    """`(count,)`: a smooth random curve, about normal and within 2 of 0: a cubic spline through random knots."""
    from scipy.interpolate import CubicSpline

    knots = np.clip(rng.normal(size=count // knot + 4), -_FAR, _FAR)
    places = np.arange(count) / knot + 1 + rng.uniform(0, 1)
    smooth: Curve = np.clip(CubicSpline(np.arange(len(knots)), knots)(places), -2, 2)
    return smooth


def _blinks(count: int, rng: np.random.Generator) -> Curve:
    """A blink about every two seconds of 25 frames: shut within three frames, open again within five."""
    frames, lids = np.arange(count), np.zeros(count)
    when = float(rng.uniform(0, 50))
    while when < count:
        lids = np.maximum(lids, np.clip(1 - np.where(frames < when, (when - frames) / 3, (frames - when) / 5), 0, 1))
        when += float(rng.uniform(30, 80))
    return lids


def move(face: Clip, plan: Plan) -> Iterator[Clip]:
    """The frames of the clip.

    Args:
        face: `(S, S, 3)` RGB uint8, FFHQ-aligned.
        plan: of `draw`.

    Yields:
        `(S, S, 3)` RGB uint8; what comes in from outside is a reflection of the inside.

    Raises:
        ValueError: the picture is not square.
    """
    height, width = face.shape[:2]
    if height != width:
        raise ValueError(f"expected a square face, got {width}x{height}")
    fields = _fields(width)
    for index in range(len(plan)):
        x, y = np.moveaxis(_source(plan, index, width, fields), -1, 0)
        picture = cv2.remap(face, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        yield _lit(np.asarray(picture, np.uint8), plan.light[index])


def shown_at(plan: Plan, index: int, size: int) -> NDArray[np.float32]:
    """`(size, size, 2)`: which pixel of the still each pixel of frame `index` shows."""
    return _source(plan, index, size, _fields(size))


def flow_between(plan: Plan, first: int, second: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The exact motion from one frame of the plan to another: no estimate, so noise and blur do not move it.

    Returns:
        `(size, size, 2)` pixels, as `videoclr.geometry.flow`, and `(size, size)`: True where what the first frame shows is seen
        in the second one as well.
    """
    fields = _fields(size)
    goal, there = _source(plan, first, size, fields), _source(plan, second, size, fields)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    grid = np.stack([x, y], axis=-1)
    place = grid + goal - there
    for _ in range(_INVERSIONS):  # a fixed point: `there` is the identity and a little more
        place = place + goal - _read(there, place)
    miss = np.abs(_read(there, place) - goal).max(-1)
    within = ((place >= 0) & (place <= size - 1) & (goal >= 0) & (goal <= size - 1)).all(-1)
    return np.asarray(place - grid, np.float32), np.asarray(within & (miss < 0.25))


_INVERSIONS = 12
"""Steps of the fixed point; each leaves about a fifth of the error."""


def _read(field: NDArray[np.float32], place: NDArray[np.float32]) -> NDArray[np.float32]:
    """`field[place]`, bilinear."""
    found = cv2.remap(field, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Fields:
    """What does not change over time, on the grid of the still; `(S, S)` float32."""

    depth: NDArray[np.float32]
    """How far in front of its rim the face stands, in sides of the crop."""
    pulls: dict[str, NDArray[np.float32]]
    """Expression -> `(S, S, 2)` where a pixel's content comes from at strength 1, sides of the crop."""


@lru_cache(maxsize=4)
def _fields(size: int) -> _Fields:
    """An ellipsoid for a head with a nose on it, and a smooth pull for each expression."""
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size

    def bump(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.float32]:
        return np.asarray(np.exp(-0.5 * (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)), np.float32)

    head = 0.25 * np.sqrt(np.clip(1 - ((x - 0.5) / 0.42) ** 2 - ((y - 0.55) / 0.55) ** 2, 0, None))
    depth = cv2.GaussianBlur(head.astype(np.float32), (0, 0), size / 40) + 0.06 * bump(0.5, 0.6, 0.05, 0.08)
    flat = np.zeros_like(x)
    lips = y - 0.71
    # The lips part and the chin goes down: content comes from nearer to the line between the lips.
    opened = -0.03 * np.tanh(lips / 0.03) * bump(0.5, 0.71, 0.09, 0.07) - 0.02 * bump(0.5, 0.85, 0.14, 0.07)
    left, right = bump(0.4, 0.71, 0.05, 0.06), bump(0.6, 0.71, 0.05, 0.06)
    eyes = bump(0.385, 0.46, 0.05, 0.022) + bump(0.615, 0.46, 0.05, 0.022)
    pulls = {
        "mouth": np.stack([flat, opened], -1),
        "smile": np.stack([0.025 * (left - right), 0.015 * (left + right)], -1),
        "brows": np.stack([flat, 0.025 * (bump(0.37, 0.39, 0.08, 0.04) + bump(0.63, 0.39, 0.08, 0.04))], -1),
        # The upper lid comes down: what lies above the eye is shown where the eye was.
        "lids": np.stack([flat, -0.03 * eyes], -1),
        # The iris moves between the corners of the eye, which stay.
        "gaze": np.stack([-0.018 * (bump(0.385, 0.47, 0.022, 0.016) + bump(0.615, 0.47, 0.022, 0.016)), flat], -1),
    }
    return _Fields(depth.astype(np.float32), {name: pull.astype(np.float32) for name, pull in pulls.items()})


def _source(plan: Plan, index: int, size: int, fields: _Fields) -> NDArray[np.float32]:
    """`(S, S, 2)` pixels of the still that frame `index` shows: first where on the still's head, then the expression there."""
    place = _head(plan, index, size, fields.depth)
    pull = sum(float(getattr(plan, name)[index]) * field for name, field in fields.pulls.items())
    there = cv2.remap(np.asarray(pull, np.float32), place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(place + size * there, np.float32)


def _head(plan: Plan, index: int, size: int, depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo shift, turn and zoom about the middle of the face, then the turn of the head, as a perspective plus a parallax."""
    y, x = (np.mgrid[0:size, 0:size].astype(np.float64) + 0.5) / size
    cos, sin = np.cos(plan.turn[index]), np.sin(plan.turn[index])
    middle = np.array([0.5, 0.55])
    dx, dy = x - middle[0] - plan.shift[index, 0], y - middle[1] - plan.shift[index, 1]
    scale = np.exp(-plan.zoom[index])
    u, v = scale * (cos * dx + sin * dy), scale * (cos * dy - sin * dx)
    yaw, pitch = plan.yaw[index], plan.pitch[index]
    # A plane that turns away, seen from three sides off: the far half shrinks.
    far = 1 + (u * np.sin(yaw) + v * np.sin(pitch)) / 3
    u, v = u / far, v / far
    # What stands out of the plane moves with the turn.
    near = cv2.remap(
        depth,
        ((u + middle[0]) * size - 0.5).astype(np.float32),
        ((v + middle[1]) * size - 0.5).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    u, v = u - near * np.sin(yaw), v - near * np.sin(pitch)
    place = np.stack([u + middle[0], v + middle[1]], axis=-1) * size - 0.5
    return np.asarray(place, np.float32)


def _lit(picture: Clip, light: NDArray[np.float64]) -> Clip:
    """Multiply by the light: brightness, and a slope across and down; white stays within the range."""
    if not light.any():
        return picture
    side = picture.shape[0]
    across = np.linspace(-1, 1, side)
    gain = np.exp(light[0] + light[1] * across[None, :] + light[2] * across[:, None])
    lit: Clip = np.clip(np.rint(picture * gain[..., None]), 0, 255).astype(np.uint8)
    return lit


def graded(clip: Clip, rng: np.random.Generator) -> Clip:
    """Another grading and light, the same in all frames: lifted blacks and dim whites, gamma, a tint, light from one side.

    Args:
        clip: `(..., S, S, 3)` RGB uint8.
        rng: of every choice.
    """
    side = clip.shape[-2]
    across = np.linspace(-1, 1, side, dtype=np.float32)
    contrast, gamma = rng.uniform(0.35, 1.0), np.exp(rng.normal(0, 0.25))
    black = rng.uniform(0, 1 - contrast)
    tint, slope = np.exp(rng.normal(0, 0.06, 3)), np.clip(rng.normal(0, 0.3, 2), -0.6, 0.6)
    light = np.exp(slope[0] * across[None, :] + slope[1] * across[:, None]).astype(np.float32)
    values = (clip.astype(np.float32) / 255) ** np.float32(gamma) * light[..., None]
    toned = (np.float32(black) + np.float32(contrast) * values) * tint.astype(np.float32)
    out: Clip = np.clip(np.rint(255 * toned), 0, 255).astype(np.uint8)
    return out

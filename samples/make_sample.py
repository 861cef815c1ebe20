"""Make the sample clip: a clean one, a degraded one, and the truth about its faces.

    python samples/make_sample.py            writes samples/out/clean.mp4, input.mp4 and truth.json

Everything is made here and now, from a seed: the one photograph is NASA's public-domain portrait of the astronaut
Eileen Collins, which scikit-image ships inside its wheel (`skimage.data.astronaut`). It is cut out, moves, turns, talks
and walks through two drawn rooms; a mirrored, recoloured and reshaped variant of it plays a second person. There are
two faces for part of the time, one hard cut, frames without any face, and a sound track. `clean.mp4` is nearly
lossless. `input.mp4` is the same after blur, down-scaling, noise and two encoders at low bit rates.

Because the scene is drawn, the five landmarks of every face in every frame are known: they were measured once by hand
on the portrait and follow its motion into `truth.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr.errors import VideoclrError
from videoclr.media.recode import Generation, Tone, round_trip, write_clip
from videoclr.training.degrade_clip import Plan, drift, worsen

Points = NDArray[np.float64]
Picture = NDArray[np.float32]

RATE = Fraction(25)
OUT = Path(__file__).parent / "out"
SEED = 20

LANDMARKS = np.array([(203.0, 100.1), (246.2, 103.0), (222.6, 126.6), (202.3, 139.2), (244.6, 140.4)])
"""Centres of the irises, tip of the nose, corners of the mouth: read off the portrait at twelve-fold magnification."""
FACE = np.array([223.5, 112.0])
"""What a performer's position refers to: about the middle of the face, portrait pixels."""


@dataclass(frozen=True)
class Bump:
    """A smooth local displacement of the portrait: full at the centre, none from the rim of its ellipse on."""

    centre: tuple[float, float]
    radii: tuple[float, float]
    shift: tuple[float, float]

    def at(self, points: Points) -> Points:
        """`(..., 2)` displacement at `points`, portrait pixels."""
        distance = (((points - self.centre) / self.radii) ** 2).sum(-1, keepdims=True)
        return np.clip(1 - distance, 0, None) ** 2 * np.array(self.shift)


@dataclass(frozen=True)
class Pose:
    """Where a performer is, and how the head is held."""

    place: tuple[float, float]
    """Middle of the face, parts of the frame's width and height."""
    scale: float
    """Pixels of a 360-line frame per portrait pixel."""
    angle: float
    """Degrees, clockwise in the picture."""
    bumps: tuple[Bump, ...]
    """Turning, nodding, talking."""


@dataclass(frozen=True, eq=False)
class Performer:
    """A cut-out person."""

    name: str
    picture: Picture
    """`(512, 512, 4)` RGB 0..255 premultiplied with alpha 0..1."""
    landmarks: Points
    shape: tuple[Bump, ...] = ()
    """What makes this face another's."""


@dataclass(frozen=True)
class Story:
    """Size and length of the clip; events happen at the same part of any length."""

    width: int = 640
    height: int = 360
    count: int = 150

    @property
    def cut(self) -> int:
        """First frame of the second shot."""
        return round(0.6 * self.count)


def portrait() -> NDArray[np.uint8]:
    """`(512, 512, 3)` RGB: the public-domain portrait, from the installed scikit-image, without any network."""
    try:
        from skimage import data
    except ImportError:
        raise SystemExit("make_sample: needs scikit-image for its portrait; pip install 'videoclr[samples]'") from None
    picture = np.asarray(data.astronaut(), np.uint8)
    if picture.shape != (512, 512, 3):
        raise SystemExit(f"make_sample: scikit-image's portrait has changed, got {picture.shape}; use scikit-image 0.26")
    return picture


def matte(picture: NDArray[np.uint8]) -> Picture:
    """`(512, 512)` 0..1: GrabCut from hand-drawn certainties, then softened like hair."""
    zones = np.full(picture.shape[:2], cv2.GC_BGD, np.uint8)
    for centre, radii in (((227, 82), (86, 80)), ((388, 440), (112, 102))):
        cv2.ellipse(zones, centre, radii, 0, 0, 360, cv2.GC_PR_FGD, -1)
    body = [(105, 170), (160, 120), (290, 120), (320, 220), (370, 300), (400, 512), (0, 512), (10, 400), (40, 290)]
    cv2.fillPoly(zones, [np.array(body)], cv2.GC_PR_FGD)
    for centre, radii, turn in (((228, 85), (60, 58), 0), ((225, 120), (44, 62), 0), ((210, 222), (85, 60), 22)):
        cv2.ellipse(zones, centre, radii, turn, 0, 360, cv2.GC_FGD, -1)
    chest = [(80, 250), (320, 260), (340, 350), (460, 420), (470, 512), (40, 512), (60, 300)]
    cv2.fillPoly(zones, [np.array(chest)], cv2.GC_FGD)
    cv2.setRNGSeed(SEED)  # GrabCut's colour clusters start at random
    cv2.grabCut(picture[..., ::-1].copy(), zones, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    person = ((zones == cv2.GC_FGD) | (zones == cv2.GC_PR_FGD)).astype(np.uint8)
    inner = cv2.erode(person, np.ones((3, 3), np.uint8)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(inner, (0, 0), 0.9), np.float32)


def performers() -> tuple[Performer, Performer]:
    """The portrait, and its mirrored, darker, broader variant in another suit."""
    picture = portrait()
    alpha = matte(picture)[..., None]
    first = Performer("a", np.concatenate([picture * alpha, alpha], axis=2).astype(np.float32), LANDMARKS)
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    mirrored_alpha = alpha[:, ::-1]
    points = LANDMARKS[[1, 0, 2, 4, 3]] * (-1, 1) + (511, 0)
    shape = (
        Bump((511 - 223, 150), (64, 50), (0, 7)),  # a longer chin
        Bump((511 - 250, 128), (34, 44), (-5, 0)),  # broader cheeks
        Bump((511 - 196, 128), (34, 44), (5, 0)),
        Bump((511 - 223, 84), (60, 26), (0, -4)),  # a higher brow
    )
    other = recoloured(mirrored)
    return first, Performer("b", np.concatenate([other * mirrored_alpha, mirrored_alpha], 2), points, shape)


def recoloured(picture: NDArray[np.uint8]) -> Picture:
    """Orange suit to blue-green, fair hair to dark brown, skin a little deeper; RGB 0..255."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL).astype(np.float32)
    hue, saturation, value = cv2.split(hsv)
    rows = np.arange(picture.shape[0], dtype=np.float32)[:, None]
    below = np.clip((rows - 180) / 20, 0, 1)
    suit = cv2.GaussianBlur(below * ((hue < 28) & (saturation > 120)).astype(np.float32), (0, 0), 1.2)
    hair = (1 - np.clip((rows - 130) / 25, 0, 1)) * np.clip((saturation - 62) / 40, 0, 1) * np.clip((215 - value) / 60, 0, 1)
    hair = cv2.GaussianBlur(hair.astype(np.float32), (0, 0), 1.0)
    rgb = picture.astype(np.float32)
    swapped = rgb[..., [2, 1, 0]] * np.array([0.9, 1.1, 0.75], np.float32)
    dark = rgb * np.array([0.5, 0.42, 0.4], np.float32)
    skin = rgb * np.array([0.93, 0.86, 0.8], np.float32)
    out = skin + (swapped - skin) * suit[..., None]
    out += (dark - out) * hair[..., None]
    return np.clip(out, 0, 255).astype(np.float32)


def ease(value: float) -> float:
    """0 to 1 with soft ends, clipped outside."""
    value = min(max(value, 0.0), 1.0)
    return value * value * (3 - 2 * value)


def head(seconds: float, phase: float, mirrored: bool) -> tuple[Bump, ...]:
    """Turn, nod and talk: the face slides over the skull, the chin goes up and down."""
    x = 511 - FACE[0] if mirrored else FACE[0]
    turn = 9 * math.sin(2 * math.pi * 0.38 * seconds + phase)
    nod = 4.5 * math.sin(2 * math.pi * 0.55 * seconds + 1.3 * phase)
    speech = 1.6 * math.sin(2 * math.pi * 2.3 * seconds + phase) * (0.5 + 0.5 * math.sin(2 * math.pi * 0.5 * seconds))
    return (
        Bump((x, 112), (78, 88), (turn, nod)),
        Bump((x, 122), (24, 30), (0.35 * turn, 0.3 * nod)),  # the nose stands out, so it moves more
        Bump((x, 160), (42, 30), (0, speech)),
    )


def scene(index: int, story: Story) -> list[tuple[int, Pose]]:
    """Who is where in frame `index`, back to front: (number of the performer, pose)."""
    seconds = index / float(RATE)
    part = index / story.count
    if index >= story.cut:
        entrance = ease((part - 0.67) / 0.2)
        if part < 0.67:
            return []
        sway = math.sin(2 * math.pi * 0.7 * seconds)
        place = (-0.25 + 0.78 * entrance + 0.015 * sway, 0.45 + 0.02 * math.sin(2 * math.pi * 1.4 * seconds))
        return [(0, Pose(place, 1.45 + 0.25 * ease((part - 0.75) / 0.25), 7 * sway, head(seconds, 2.0, False)))]
    slow = math.sin(2 * math.pi * 0.31 * seconds)
    first = Pose(
        (0.27 + 0.1 * ease(part / 0.5) + 0.012 * slow, 0.44 + 0.03 * math.sin(2 * math.pi * 0.45 * seconds)),
        1.08 + 0.22 * ease(part / 0.55),
        6 * slow,
        head(seconds, 0.0, False),
    )
    if part < 0.2:
        return [(0, first)]
    entrance = ease((part - 0.2) / 0.18)
    second = Pose(
        (1.25 - 0.5 * entrance, 0.47 - 0.02 * math.sin(2 * math.pi * 0.6 * seconds)),
        1.02 + 0.08 * slow,
        -4 * math.cos(2 * math.pi * 0.37 * seconds),
        head(seconds, 4.0, True),
    )
    return [(1, second), (0, first)]


def to_portrait(points: Points, pose: Pose, shape: Sequence[Bump], mirrored: bool, story: Story) -> Points:
    """Frame pixels to portrait pixels: undo the similarity, then the displacements."""
    centre = np.array([511 - FACE[0] if mirrored else FACE[0], FACE[1]])
    local = (points - _origin(pose, story)) @ _rotation(pose) / _scale(pose, story) + centre
    return local - sum(bump.at(local) for bump in (*shape, *pose.bumps))


def to_frame(points: Points, pose: Pose, shape: Sequence[Bump], mirrored: bool, story: Story) -> Points:
    """The inverse of `to_portrait`, by fixed-point iteration: the displacements are gentle, so it contracts."""
    centre = np.array([511 - FACE[0] if mirrored else FACE[0], FACE[1]])
    local = points
    for _ in range(40):
        local = points + sum(bump.at(local) for bump in (*shape, *pose.bumps))
    return (local - centre) @ _rotation(pose).T * _scale(pose, story) + _origin(pose, story)


def _rotation(pose: Pose) -> Points:
    angle = math.radians(pose.angle)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _scale(pose: Pose, story: Story) -> float:
    return pose.scale * story.height / 360


def _origin(pose: Pose, story: Story) -> Points:
    return np.array([pose.place[0] * story.width, pose.place[1] * story.height])


def bookshelf(width: int, height: int) -> Picture:
    """A wall of books behind the focus, lit from the left by a lamp; RGB 0..255."""
    rng = np.random.default_rng(SEED)
    wall = np.full((height, width, 3), (58, 42, 30), np.float32)
    shelf = height // 3
    for top in range(-shelf // 3, height, shelf):
        x = 0.0
        while x < width:
            thick, tall = rng.uniform(0.03, 0.075) * height, rng.uniform(0.6, 0.88) * shelf
            palette = [
                (128, 46, 38),
                (40, 66, 96),
                (196, 178, 140),
                (60, 84, 52),
                (150, 110, 56),
                (86, 70, 92),
                (46, 44, 48),
            ]
            colour = np.array(palette[rng.integers(7)]) * rng.uniform(0.6, 1.15)
            corner = (round(x), round(top + shelf - tall)), (round(x + thick) - 1, top + shelf - shelf // 14)
            cv2.rectangle(wall, *corner, colour.tolist(), -1)
            band = round(top + shelf - tall * rng.uniform(0.55, 0.9))
            cv2.rectangle(wall, (round(x), band), (round(x + thick) - 1, band + 5), (colour * 1.5).tolist(), -1)
            x += thick + (rng.uniform(0.02, 0.12) * height if rng.random() < 0.08 else 0)
        cv2.rectangle(wall, (0, top + shelf - shelf // 14), (width, top + shelf), (104, 74, 48), -1)
    wall = cv2.GaussianBlur(wall, (0, 0), height / 95)
    y, x = np.mgrid[0:height, 0:width]
    glow = np.exp(-(((x - 0.08 * width) / (0.5 * width)) ** 2) - ((y - 0.2 * height) / (0.8 * height)) ** 2)
    light = 0.45 + 0.95 * glow[..., None] * np.array([1.0, 0.88, 0.68])
    lamp = np.exp(-(((x - 0.06 * width) / (0.05 * width)) ** 2) - ((y - 0.16 * height) / (0.12 * height)) ** 2)
    return np.clip(wall * light + lamp[..., None] * (235, 205, 150), 0, 255).astype(np.float32)


def park(width: int, height: int) -> Picture:
    """Trees out of focus, sun between the leaves, a path; RGB 0..255."""
    rng = np.random.default_rng(SEED + 1)
    y = np.linspace(0, 1, height)[:, None, None]
    sky, grass = np.array([196, 212, 226]), np.array([92, 122, 60])
    view = np.where(y < 0.66, sky * (1 - 0.25 * y), grass * (1.25 - 0.5 * y)) * np.ones((1, width, 1))
    view = view.astype(np.float32)
    for _ in range(7):
        x, thick = rng.uniform(0, width), rng.uniform(0.02, 0.06) * height
        stem = np.array([(x - thick, 0), (x + thick, 0), (x + 1.5 * thick, 0.72 * height), (x - 1.5 * thick, 0.72 * height)])
        cv2.fillPoly(view, [np.rint(stem).astype(np.int32)], (64, 52, 40))
    for _ in range(900):
        centre = rng.uniform(0, width), abs(rng.normal(0, 0.3)) * height
        shade = np.array([70, 104, 44]) * rng.uniform(0.4, 1.5) + np.array([40, 20, 0]) * rng.uniform(0, 1)
        cv2.circle(view, (int(centre[0]), int(centre[1])), int(rng.uniform(0.01, 0.035) * height), shade.tolist(), -1)
    path = np.array([(0.3 * width, height), (0.62 * width, height), (0.5 * width, 0.68 * height), (0.46 * width, 0.68 * height)])
    cv2.fillPoly(view, [np.rint(path).astype(np.int32)], (186, 172, 146))
    view = cv2.GaussianBlur(view, (0, 0), height / 70)
    for _ in range(40):
        layer = np.zeros((height, width), np.float32)
        spot = int(rng.uniform(0, width)), int(rng.uniform(0, 0.5) * height)
        cv2.circle(layer, spot, int(rng.uniform(0.012, 0.03) * height), 1.0, -1, cv2.LINE_AA)
        view += layer[..., None] * np.array([90, 92, 60], np.float32) * np.float32(rng.uniform(0.2, 0.8))
    return np.clip(cv2.GaussianBlur(view, (0, 0), height / 200), 0, 255).astype(np.float32)


def clean_frames(story: Story, cast: Sequence[Performer]) -> Iterator[NDArray[np.uint8]]:
    """The clean clip, `(height, width, 3)` RGB uint8, frame by frame."""
    rooms = [room(round(1.3 * story.width), round(1.1 * story.height)) for room in (bookshelf, park)]
    for index in range(story.count):
        room = rooms[index >= story.cut]
        picture = _pan(room, index, story)
        for number, pose in scene(index, story):
            _compose(picture, cast[number], pose, bool(number), index, story)
        yield np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _pan(room: Picture, index: int, story: Story) -> Picture:
    """The part of a room that the slowly panning camera sees."""
    seconds = index / float(RATE)
    x = (room.shape[1] - story.width) * (0.5 + 0.4 * math.sin(0.6 * seconds + (2.5 if index >= story.cut else -1.2)))
    y = (room.shape[0] - story.height) * (0.5 + 0.3 * math.sin(1.1 * seconds))
    move = np.array([[1, 0, -x], [0, 1, -y]])
    view = cv2.warpAffine(room, move, (story.width, story.height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(view, np.float32)


def _compose(picture: Picture, actor: Performer, pose: Pose, mirrored: bool, index: int, story: Story) -> None:
    """Lay a performer over `picture`, in place, with light that changes slowly."""
    places = _places(actor, pose, mirrored, story)
    drawn = cv2.remap(actor.picture, places[..., 0], places[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    alpha = np.clip(drawn[..., 3:], 0, 1)
    across = (np.arange(story.width, dtype=np.float32)[:, None] / story.width - pose.place[0]) * np.float32(0.35)
    light = 0.94 + 0.06 * math.sin(1.7 * index / float(RATE)) - across * math.cos(0.9 * index / float(RATE))
    tint = np.array([1.0, 0.97, 0.9] if index < story.cut else [0.97, 1.0, 1.02], np.float32)
    picture *= 1 - alpha
    picture += np.clip(drawn[..., :3], 0, None) * light * tint


def _places(actor: Performer, pose: Pose, mirrored: bool, story: Story) -> Picture:
    """`(height, width, 2)` portrait pixels of every frame pixel: exact on every fourth, linear between."""
    columns, rows = np.arange(0, story.width + 4, 4.0), np.arange(0, story.height + 4, 4.0)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1)
    coarse = to_portrait(grid, pose, actor.shape, mirrored, story).astype(np.float32)
    quarter = np.array([[0.25, 0, 0], [0, 0.25, 0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(coarse, quarter, (story.width, story.height), flags=flags), np.float32)


def truth(story: Story, cast: Sequence[Performer]) -> dict[str, Any]:
    """Size, rate, shots, and the five landmarks of every face that is wholly in the picture."""
    frames = []
    for index in range(story.count):
        faces = []
        for number, pose in scene(index, story):
            actor = cast[number]
            points = to_frame(actor.landmarks, pose, actor.shape, bool(number), story)
            margin = 20 * _scale(pose, story)
            if (points > margin).all() and (points < np.array([story.width, story.height]) - margin).all():
                faces.append({"person": actor.name, "landmarks": np.round(points, 3).tolist()})
        frames.append({"index": index, "shot": int(index >= story.cut), "faces": faces})
    return {"width": story.width, "height": story.height, "rate": str(RATE), "frames": frames}


def degradation(story: Story) -> Plan:
    """Blur, down-scaling by about 3 and noise, all drifting slowly; then an old encoder."""
    rng = np.random.default_rng(SEED)
    count, unit = story.count, story.height / 360
    shrink = 2.9 * np.exp(0.06 * drift(count, rng))
    small = np.rint(np.array([story.height, story.width]) / shrink[:, None]).astype(np.int64)
    height, width = (int(side) // 2 * 2 for side in small.max(axis=0))
    sigma = 1.8 * unit * np.exp(0.25 * drift(count, rng))
    return Plan(
        sigma=np.stack([sigma, 0.8 * sigma], axis=1),
        angle=drift(count, rng),
        small=small,
        coded=(height, width),
        noise=6.0 * np.exp(0.2 * drift(count, rng)),
        generations=(Generation("mpeg2", quality=6, gop=12),),
        seed=SEED,
    )


def degraded_frames(clean: list[NDArray[np.uint8]], story: Story) -> Iterator[NDArray[np.uint8]]:
    """What the last encoder gets: `clean` after `degradation`, up-scaled to the story's size."""
    plan = degradation(story)
    low = np.stack(worsen(clean, plan))
    for generation in plan.generations:
        low = round_trip(low, generation, RATE)
    for picture in low:
        yield cv2.resize(picture, (story.width, story.height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def make(folder: Path, story: Story) -> None:
    """Write `clean.mp4`, `input.mp4` and `truth.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    cast = performers()
    clean = list(clean_frames(story, cast))
    write_clip(folder / "clean.mp4", clean, RATE, Generation("h264", quality=6, gop=25), Tone())
    pixels = story.width * story.height
    stingy = Generation("h264", bit_rate=int(180_000 * pixels / (640 * 360)), gop=50, preset="medium")
    write_clip(folder / "input.mp4", degraded_frames(clean, story), RATE, stingy, Tone())
    (folder / "truth.json").write_text(json.dumps(truth(story, cast)), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and make the sample."""
    parser = argparse.ArgumentParser(description="Make samples/out/{clean,input}.mp4 and truth.json from a seed.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write into (default: samples/out)")
    parser.add_argument("--frames", type=int, default=Story.count, help="length of the whole story, at 25 frames/s")
    parser.add_argument("--height", type=int, default=Story.height, help="lines, a multiple of 18; the picture is 16:9")
    options = parser.parse_args(arguments)
    if options.frames < 10 or options.height < 72 or options.height % 18:
        parser.error("at least 10 frames, and a height of 72, 90, 108, ... lines")
    story = replace(Story(), width=options.height * 16 // 9, height=options.height, count=options.frames)
    cv2.setNumThreads(1)
    try:
        make(options.out, story)
    except (VideoclrError, OSError) as error:
        print(f"make_sample: {error}", file=sys.stderr)
        return 1
    for name in ("clean.mp4", "input.mp4", "truth.json"):
        print(f"{options.out / name}  {(options.out / name).stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

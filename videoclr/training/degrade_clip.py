"""Seeded degradation of clips: what a camera, a tape and a stingy encoder do, changing slowly instead of flickering.

A still degradation drawn anew for every frame teaches a network that blur flickers; one drawn once per clip teaches it
that blur never changes. Here each parameter is drawn per clip and drifts along a smooth curve. Then the small picture
goes through a real video codec, with groups of pictures whose quality pumps, once or twice, because that is the
artefact that real footage has and JPEG does not. The same code trains and makes the benchmark's inputs.

    low = degrade_clip(clean, seed=7, recipe=RECIPES["heavy"])

`draw` decides and `apply` executes; a plan can be looked at, changed with `dataclasses.replace`, and applied again.
Blur, down-scale and noise ranges are those of `videoclr.training.degrade`, so stills and clips share their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr.media.recode import CodecName, Generation, round_trip
from videoclr.training.degrade import LEVELS

Clip = NDArray[np.uint8]
Range = tuple[float, float]

_KNOT = 30
"""Frames between two knots of a drift curve: a bit more than a second."""
_SMALLEST_CODED = 48
"""Short side below which no codec is run: the picture is made that small before and carried at this size, as in the
wild, where a 20 px face sits in a larger frame."""
_QUALITIES: dict[CodecName, Range] = {"h264": (24, 40), "hevc": (26, 42), "mpeg2": (4, 24), "mpeg4": (4, 24)}
"""Constant quality per codec, from slightly to badly visible."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Ranges and probabilities from which a clip's degradation is drawn; lengths in pixels of a 512 px short side."""

    sigma: Range = (0.1, 10.0)
    """Standard deviation of the blur."""
    factor: Range = (0.8, 8.0)
    """Down-scale: the small picture's short side is 512 / factor, whatever the clip's own size."""
    noise: Range = (0.0, 20.0)
    """Standard deviation of Gaussian noise, 8-bit code values, on the small picture."""
    drift: float = 0.25
    """Standard deviation of the slow change of blur, down-scale and noise, as a natural logarithm."""
    codecs: dict[CodecName, float] = field(default_factory=lambda: {"h264": 0.55, "hevc": 0.15, "mpeg2": 0.2, "mpeg4": 0.1})
    """Weights of the encoders; empty for none."""
    badness: Range = (0.0, 1.0)
    """Part of each codec's range of quality that is used: 0 slight, 1 bad."""
    twice: float = 0.3
    """Probability of a second generation by another encoder."""
    chroma: float = 0.15
    """Probability that the colour is displaced from the luma, and smeared."""
    tape: float = 0.08
    """Probability of line noise, line jitter, drop-outs and head switching."""
    interlace: float = 0.08
    """Probability that fields of neighbouring frames are woven together; half of these are then blended vertically."""
    hold: float = 0.04
    """Probability that only every second or third frame is new."""


RECIPES = {
    "mild": Recipe(LEVELS["mild"].sigma, LEVELS["mild"].factor, LEVELS["mild"].noise, badness=(0.0, 0.6)),
    "heavy": Recipe(LEVELS["heavy"].sigma, LEVELS["heavy"].factor, LEVELS["heavy"].noise, badness=(0.4, 1.0)),
    "codec": Recipe((0.1, 1.0), (0.8, 2.5), (0.0, 4.0), twice=0.5, chroma=0, tape=0, interlace=0, hold=0),
    "slight": Recipe((0.1, 0.6), (0.8, 1.2), (0.0, 3.0), badness=(0.0, 0.35), twice=0.2, chroma=0, tape=0, interlace=0, hold=0),
    "tape": Recipe((1.0, 4.0), (1.5, 4.0), (4.0, 16.0), codecs={"mpeg2": 1.0}, chroma=0.9, tape=1.0, interlace=0.7, hold=0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One clip's degradation, decided. Arrays have one entry per frame; lengths are in pixels."""

    sigma: NDArray[np.float64]
    """`(T, 2)` standard deviations of the blur along its two axes, px of the clip."""
    angle: NDArray[np.float64]
    """`(T,)` direction of the first axis, radians."""
    small: NDArray[np.int64]
    """`(T, 2)` height and width to which the picture shrinks."""
    coded: tuple[int, int]
    """Height and width at which it is encoded."""
    noise: NDArray[np.float64]
    """`(T,)` standard deviation of the noise, code values."""
    grey_noise: bool = False
    """The same noise in the three channels."""
    shrink_with: int = cv2.INTER_AREA
    """OpenCV's interpolation on the way down."""
    grow_with: int = cv2.INTER_CUBIC
    """OpenCV's interpolation on the way up."""
    generations: tuple[Generation, ...] = ()
    """Encodings, one after another."""
    chroma: NDArray[np.float64] | None = None
    """`(T, 3)`: displacement of the colour in x and y, and its horizontal smear, px of the coded picture."""
    tape: NDArray[np.float64] | None = None
    """`(T,)` strength of tape faults, 0..1."""
    interlace: bool = False
    """Weave the next frame's odd lines into each frame."""
    blend_fields: bool = False
    """Average neighbouring lines after weaving."""
    hold: int = 1
    """Each frame is shown this many times and the others are lost."""
    seed: int = 0
    """Of the noise itself."""


def degrade_clip(images: Clip | Sequence[Clip], seed: int, recipe: Recipe | str = "mild", rate: Fraction = Fraction(25)) -> Clip:
    """Degrade a clip: the same seed, recipe, size and length give the same pixels.

    Args:
        images: `(T, H, W, 3)` RGB uint8.
        seed: of every choice.
        recipe: ranges, or a name in `RECIPES`.
        rate: frames per second.

    Returns:
        `(T, H, W, 3)` RGB uint8.

    Raises:
        ValueError: no images, or an unknown recipe.
    """
    if len(images) == 0:
        raise ValueError("degrade_clip: no images")
    height, width = images[0].shape[:2]
    return apply(images, draw(len(images), (height, width), seed, recipe), rate)


def draw(count: int, size: tuple[int, int], seed: int, recipe: Recipe | str = "mild") -> Plan:
    """Decide the degradation of a clip of `count` frames of `size` (height, width), without touching a pixel.

    Raises:
        ValueError: an unknown recipe.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"recipe {recipe!r}: expected one of {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    rng = np.random.default_rng(seed)
    unit = min(size) / 512
    first = rng.uniform(*recipe.sigma)
    second = first if rng.random() < 0.5 else rng.uniform(*recipe.sigma)
    sigma = np.outer(np.exp(recipe.drift * drift(count, rng)), [first, second]) * unit
    angle = rng.uniform(0, np.pi) + 0.3 * drift(count, rng)
    short = 512 / (rng.uniform(*recipe.factor) * np.exp(recipe.drift * drift(count, rng) / 2))
    small = _sizes(np.clip(short, 8, min(size)), size)
    coded_short = min(max(float(short.max()), _SMALLEST_CODED), *size)
    height, width = _sizes(np.array([coded_short]), size)[0]
    woven = rng.random() < recipe.interlace
    return Plan(
        sigma=sigma,
        angle=angle,
        small=small,
        coded=(int(height), int(width)),
        noise=rng.uniform(*recipe.noise) * np.exp(recipe.drift * drift(count, rng)),
        grey_noise=bool(rng.random() < 0.3),
        shrink_with=int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC])),
        grow_with=int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])),
        chroma=_draw_chroma(count, int(width), rng) if rng.random() < recipe.chroma else None,
        tape=np.clip(0.5 + 0.3 * drift(count, rng), 0.05, 1) if rng.random() < recipe.tape else None,
        interlace=bool(woven),
        blend_fields=bool(woven and rng.random() < 0.5),
        hold=int(rng.integers(2, 4)) if rng.random() < recipe.hold else 1,
        generations=_draw_generations(rng, recipe),
        seed=int(rng.integers(2**31)),
    )


def drift(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(count,)`: a smooth random curve in [-2, 2] around 0: a knot about every second, cosine steps between."""
    knots = np.clip(rng.normal(size=count // _KNOT + 2), -2, 2)
    place = np.arange(count) / _KNOT + rng.uniform(0, 1 - 1e-9)
    place = np.minimum(place, len(knots) - 1)
    left = np.minimum(place.astype(int), len(knots) - 2)
    weight = 0.5 - 0.5 * np.cos(np.pi * (place - left))
    curve: NDArray[np.float64] = knots[left] * (1 - weight) + knots[left + 1] * weight
    return curve


def apply(images: Clip | Sequence[Clip], plan: Plan, rate: Fraction = Fraction(25)) -> Clip:
    """Execute a plan; see `degrade_clip`.

    Raises:
        ValueError: the plan was drawn for another number of frames.
        EncodeError: a codec refused.
    """
    height, width = images[0].shape[:2]
    low = np.stack(worsen(images, plan))
    for generation in plan.generations:
        low = round_trip(low, generation, rate)
    way = plan.grow_with if low.shape[1] <= height else cv2.INTER_AREA
    return np.stack([cv2.resize(image, (width, height), interpolation=way) for image in low]).astype(np.uint8)


def worsen(images: Clip | Sequence[Clip], plan: Plan) -> list[Clip]:
    """The part of a plan before the codec: blurred, shrunk, noisy pictures of size `plan.coded`.

    Raises:
        ValueError: the plan was drawn for another number of frames.
    """
    if len(images) != len(plan.noise):
        raise ValueError(f"a plan for {len(plan.noise)} frames cannot be applied to {len(images)}")
    rng = np.random.default_rng(plan.seed)
    low = [_soften(images[index - index % plan.hold], plan, index) for index in range(len(images))]
    if plan.interlace:
        low = _weave(low, plan.blend_fields)
    out = []
    for index, image in enumerate(low):
        grain = rng.normal(0, max(plan.noise[index], 1e-6), (*image.shape[:2], 1 if plan.grey_noise else 3))
        picture = image + grain.astype(np.float32)
        if plan.chroma is not None:
            picture = _displace_chroma(picture, plan.chroma[index])
        if plan.tape is not None:
            picture = _tape(picture, float(plan.tape[index]), rng)
        out.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return out


def _soften(image: Clip, plan: Plan, index: int) -> NDArray[np.float32]:
    """Blur and shrink frame `index`; float32 of size `plan.coded`."""
    kernel = gaussian_kernel(plan.sigma[index, 0], plan.sigma[index, 1], plan.angle[index])
    blurred = cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)
    height, width = plan.small[index]
    shrunk = cv2.resize(blurred, (int(width), int(height)), interpolation=plan.shrink_with)
    grown = cv2.resize(shrunk, (plan.coded[1], plan.coded[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(grown, 0, 255).astype(np.float32)


def gaussian_kernel(first: float, second: float, angle: float) -> NDArray[np.float32]:
    """A normalised Gaussian with standard deviations `first` along `angle` (radians) and `second` across, in pixels."""
    radius = max(1, int(np.ceil(2.5 * max(first, second))))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / max(first, 0.05)) ** 2 + (across / max(second, 0.05)) ** 2))
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def _sizes(short: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.int64]:
    """`(N, 2)` heights and widths with the aspect of `size` and the given short sides."""
    scale = short[:, None] / min(size)
    sizes: NDArray[np.int64] = np.maximum(np.rint(scale * np.array(size)), 4).astype(np.int64)
    return sizes


def _draw_generations(rng: np.random.Generator, recipe: Recipe) -> tuple[Generation, ...]:
    """One or two encodings, of groups of 8 to 120 frames."""
    if not recipe.codecs:
        return ()
    names = list(recipe.codecs)
    weights = np.array([recipe.codecs[name] for name in names], float)
    generations = []
    for _ in range(2 if rng.random() < recipe.twice else 1):
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        best, worst = _QUALITIES[name]
        quality = best + (worst - best) * rng.uniform(*recipe.badness)
        gop = int(np.rint(np.exp(rng.uniform(np.log(8), np.log(120)))))
        generations.append(Generation(name, quality=round(quality, 1), gop=gop, b_frames=int(rng.integers(0, 4))))
    return tuple(generations)


def _draw_chroma(count: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Up to 1 % of the width sideways, a third of that up or down, smeared by up to 1.5 %."""
    base = rng.uniform([-0.01, -0.003, 0.002], [0.01, 0.003, 0.015]) * width
    wander = np.exp(0.15 * np.stack([drift(count, rng) for _ in range(3)], axis=1))
    moving: NDArray[np.float64] = base * wander
    return moving


def _displace_chroma(picture: NDArray[np.float32], shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """Move and smear the colour against the luma (BT.601 difference signals)."""
    ycc = cv2.cvtColor(np.clip(picture, 0, 255) / np.float32(255), cv2.COLOR_RGB2YCrCb)
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    size = (picture.shape[1], picture.shape[0])
    moved = cv2.warpAffine(ycc[..., 1:], move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ycc[..., 1:] = cv2.GaussianBlur(moved, (0, 0), sigmaX=max(float(shift[2]), 0.1), sigmaY=0.1)
    return (cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB) * 255).astype(np.float32)


def _tape(picture: NDArray[np.float32], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Faults of a worn VHS tape: jittering lines, streaky noise, a torn lower edge, and now and then a drop-out."""
    height, width = picture.shape[:2]
    offset = cv2.GaussianBlur(rng.normal(size=(height, 1)), (1, 9), 2).ravel() * strength * width * 0.006
    torn = max(1, height // 40)
    offset[-torn:] += np.linspace(0.2, 1, torn) * strength * width * 0.06 * rng.uniform(0.5, 1.5)
    x = np.broadcast_to(np.arange(width, dtype=np.float32), (height, width)) + offset[:, None].astype(np.float32)
    y = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], (height, width)).copy()
    out = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    streaks = cv2.blur(rng.normal(size=(height, width)), (max(3, width // 24), 1)) * strength * 30
    out = out + streaks[..., None].astype(np.float32)
    for _ in range(rng.poisson(0.4 * strength)):
        row, start = int(rng.integers(height)), int(rng.integers(width))
        out[row, start : start + int(rng.integers(width // 20 + 1, width // 4 + 2))] += 90
    return out.astype(np.float32)


def _weave(images: list[NDArray[np.float32]], blend: bool) -> list[NDArray[np.float32]]:
    """Take the odd lines from the next frame, as in a film of fields shown as frames; `blend` hides the combing."""
    woven = []
    for index, image in enumerate(images):
        mixed = image.copy()
        mixed[1::2] = images[min(index + 1, len(images) - 1)][1::2]
        if blend:
            mixed = cv2.filter2D(mixed, -1, np.array([[0.25], [0.5], [0.25]], np.float32)).astype(np.float32)
        woven.append(mixed)
    return woven

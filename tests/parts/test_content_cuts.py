from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from videoclr.parts.content_cuts import ContentCuts
from videoclr.stages.cuts import cuts
from videoclr.types import Frame


def scene(seed: int, dark: float = 1.0, grey: bool = False, depth: int = 8) -> np.ndarray:
    """(90, 240, 3): wide, so that a window can pan over it."""
    image = cv2.resize(np.random.default_rng(seed).uniform(0, 255, (6, 16, 3)).astype(np.float32), (240, 90))
    if grey:
        image[:] = image.mean(-1, keepdims=True)
    image = np.clip(image * dark, 0, 255)
    return image.astype(np.uint8) if depth == 8 else (image * 257).astype(np.uint16)


def pan(image: np.ndarray, count: int, step: float = 2, start: float = 0) -> list[np.ndarray]:
    grain = np.random.default_rng(9)
    white = np.iinfo(image.dtype).max
    out = []
    for index in range(count):
        x = int(start + index * step)
        noise = grain.normal(0, 0.015 * white, (90, 160, 1))
        out.append(np.clip(image[:, x : x + 160] + noise, 0, white).astype(image.dtype))
    return out


def shots(images: Sequence[np.ndarray], detector: ContentCuts | None = None) -> list[int]:
    frames = [Frame.from_image(image, index) for index, image in enumerate(images)]
    return [frame.shot for frame in cuts(frames, detector or ContentCuts())]


@pytest.mark.parametrize("dark", [1.0, 0.2])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_the_frame_right_after_the_cut_begins_the_new_shot(dark: float, grey: bool, depth: int) -> None:
    images = pan(scene(1, dark, grey, depth), 10) + pan(scene(2, dark, grey, depth), 8) + pan(scene(3, dark, grey), 1)
    if depth == 16:
        images = images[:-1]
    assert shots(images) == ([0] * 10 + [1] * 8 + [2])[: len(images)]


def test_short_shots_are_shots() -> None:
    images = pan(scene(1), 6) + pan(scene(2), 2) + pan(scene(3), 6)
    assert shots(images) == [0] * 6 + [1] * 2 + [2] * 6


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_cut(length: int) -> None:
    images = pan(scene(1), 16, step=1)
    for index in range(7, 7 + length):
        images[index] = np.clip(images[index] * 0.2 + 210, 0, 255).astype(np.uint8)
    assert shots(images) == [0] * 16


def mixed(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return np.rint(one * (1 - share) + other * share).astype(np.uint8)


@pytest.mark.parametrize("length", [4, 12, 30])
def test_a_shot_begins_where_a_dissolve_ends(length: int) -> None:
    one, other = pan(scene(1), 12 + length, step=0.25), pan(scene(2), 12 + length, step=0.25)
    dissolve = [mixed(a, b, i / length) for i, (a, b) in enumerate(zip(one[12:], other[:length], strict=True))]
    found = shots(one[:12] + dissolve + other[length:])
    assert found[-1] == 1, "one shot, and one more"
    assert abs(found.index(1) - (12 + length)) <= 2


def test_fades_are_no_cut_nor_is_a_dissolve_that_the_film_ends_with() -> None:
    one, other = pan(scene(1), 30, step=1), pan(scene(2), 30, step=1)
    mix = [mixed(a, b, i / 29) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    fade = [np.rint(a * abs(1 - i / 14.5)).astype(np.uint8) for i, a in enumerate(one)]
    white = [mixed(np.full_like(a, 255), a, abs(1 - i / 14.5)) for i, a in enumerate(one)]
    assert shots(mix) == [0] * 30
    assert shots(fade) == [0] * 30
    assert shots(white) == [0] * 30


def test_a_wipe_is_no_dissolve() -> None:
    one, other = pan(scene(1), 30, step=0), pan(scene(2), 30, step=0)
    images = [np.concatenate([b[:, : 5 * i], a[:, 5 * i :]], axis=1) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    assert shots(images) == [0] * 30


def test_a_whip_pan_is_no_cut() -> None:
    image = np.concatenate([scene(seed) for seed in range(4)], axis=1)
    image = cv2.GaussianBlur(image, (0, 0), 4)
    images = pan(image, 8, 1) + pan(image, 14, 40, 8) + pan(image, 8, 1, 560)
    assert shots(images) == [0] * len(images)


@pytest.mark.parametrize(("count", "step"), [(6, 2), (12, 1)])
def test_a_pan_over_something_soft_that_comes_to_rest_is_no_dissolve(count: int, step: int) -> None:
    image = scene(0)
    images = pan(image, 14, 0, 10) + pan(image, count, step, 10) + pan(image, 8, 0, 10 + count * step)
    assert shots(images) == [0] * len(images)


@pytest.mark.parametrize("count", [2, 4])
def test_fast_movement_right_behind_a_cut_has_none_where_the_film_ends(count: int) -> None:
    assert shots(pan(scene(1), 8) + pan(scene(2), count, step=4)) == [0] * 8 + [1] * count


def test_a_shot_is_cut_the_same_whatever_came_before_it() -> None:
    images = pan(scene(2), 9) + pan(scene(3), 9)
    alone = shots(images)
    assert shots(pan(scene(1), 7) + images) == [0] * 7 + [number + 1 for number in alone]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_very_short_videos_come_through_whole(count: int) -> None:
    assert shots(pan(scene(1), count)) == [0] * count


def test_black_frames_have_no_cuts_in_their_noise() -> None:
    noise = np.random.default_rng(0)
    assert shots([noise.integers(0, 6, (90, 160, 3), dtype=np.uint8) for _ in range(20)]) == [0] * 20


def on_the_set(seed: int, count: int, stutter: int | None = None) -> list[np.ndarray]:
    """Somebody before the scene of one camera that does not move; at `stutter` some frames are missing."""
    somebody = cv2.resize(scene(seed), (46, 80))
    out = []
    for index, image in enumerate(pan(scene(1), count, step=0)):
        x = 40 + index // 3 + (2 if stutter is not None and index >= stutter else 0)
        image[10:, x : x + 46] = somebody
        out.append(image)
    return out


def test_somebody_else_in_the_same_place_on_the_same_set_is_a_new_shot() -> None:
    assert shots(on_the_set(4, 8) + on_the_set(5, 8)) == [0] * 8 + [1] * 8
    without = ContentCuts(sudden_threshold=0.45)
    assert shots(on_the_set(4, 8) + on_the_set(5, 8), without) == [0] * 16


def test_missing_frames_are_no_new_shot() -> None:
    assert shots(on_the_set(4, 16, stutter=8)) == [0] * 16


def test_thresholds_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        ContentCuts(threshold=0)

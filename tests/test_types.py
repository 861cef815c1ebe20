from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from videoclr import types
from videoclr.types import Detection, Frame, Patch


def gray(value: int = 100, dtype: type = np.uint8) -> Frame:
    return Frame.from_image(np.full((6, 8, 3), value, dtype))


def patch(alpha: float, value: float = 200, dtype: type = np.uint8) -> Patch:
    return Patch(2, 1, np.full((3, 4, 3), value, dtype), np.full((3, 4), alpha, np.float32))


class Counted:
    """A decoded picture that counts how often it was converted."""

    def __init__(self) -> None:
        self.made = 0

    def rgb(self) -> np.ndarray:
        self.made += 1
        return np.full((6, 8, 3), self.made, np.uint8)


def test_every_noun_is_frozen_slotted_and_explains_each_field():
    source = __import__("inspect").getsource(types)
    nouns = [n for n in vars(types).values() if is_dataclass(n) and n.__module__ == types.__name__]
    assert len(nouns) >= 8
    for noun in nouns:
        assert noun.__dataclass_params__.frozen, noun
        assert "__slots__" in vars(noun), noun
        body = source.split(f"class {noun.__name__}")[1].split("@dataclass")[0]
        assert body.count('    """') >= len(fields(noun)), noun


def test_a_frame_cannot_be_changed_in_place():
    frame = gray()
    with pytest.raises(FrozenInstanceError):
        frame.index = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        frame.image[0, 0] = 0


def test_the_caller_keeps_a_writable_picture():
    picture = np.zeros((6, 8, 3), np.uint8)
    Frame.from_image(picture)
    picture[0, 0] = 1


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((6, 8), np.uint8),
        np.zeros((6, 8, 4), np.uint8),
        np.zeros((6, 8, 3)),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((6, 0, 3), np.uint16),
        [[[0, 0, 0]]],
        None,
        torch.zeros(6, 8, 3, dtype=torch.uint8),
    ],
)
def test_a_frame_refuses_what_is_no_rgb_picture(picture):
    with pytest.raises(ValueError, match="expected"):
        Frame.from_image(picture)


def test_a_native_picture_is_converted_once_and_shared_by_copies():
    native = Counted()
    frame = Frame(0, Fraction(0), native)
    assert native.made == 0
    copy = frame.in_shot(2)
    assert frame.image is copy.source
    assert native.made == 1


def test_a_frame_without_a_picture_says_so():
    with pytest.raises(ValueError, match="frame 4"):
        _ = Frame(4, Fraction(0)).image


def test_forgotten_rgb_is_made_again_but_a_users_picture_stays():
    native = Counted()
    frame = Frame(0, Fraction(0), native)
    _ = frame.image
    frame.forget_rgb()
    _ = frame.image
    assert native.made == 2
    own = gray()
    own.forget_rgb()
    assert own.image[0, 0, 0] == 100


def test_a_patch_changes_its_region_and_nothing_else():
    shown = gray().with_patches([patch(1.0)]).image
    assert (shown[1:4, 2:6] == 200).all()
    outside = np.ones((6, 8), bool)
    outside[1:4, 2:6] = False
    assert (shown[outside] == 100).all()


def test_alpha_mixes_and_rounds_to_nearest():
    assert gray(100).with_patches([patch(0.25, 201)]).image[1, 2, 0] == 125
    assert gray(100).with_patches([patch(0.255, 200)]).image[1, 2, 0] == 126


def test_patches_keep_sixteen_bits():
    shown = gray(1000, np.uint16).with_patches([patch(0.5, 60000, np.uint16)]).image
    assert shown.dtype == np.uint16
    assert shown[1, 2, 0] == 30500


def test_later_patches_cover_earlier_ones():
    frame = gray().with_patches([patch(1.0, 10)]).with_patches([patch(1.0, 20)])
    assert frame.image[1, 2, 0] == 20
    assert len(frame.patches) == 2


def test_an_untouched_frame_stays_the_same_object():
    frame = gray()
    assert frame.with_patches([]) is frame
    assert frame.in_shot(0) is frame
    assert frame.image is frame.source


def test_time_defaults_to_an_exact_fraction():
    assert Frame.from_image(np.zeros((2, 2, 3), np.uint8), 3).time == Fraction(3, 25)


def test_the_size_of_a_face_is_the_geometric_mean_of_its_sides():
    landmarks = np.zeros((5, 2), np.float32)
    assert Detection(np.array([10, 10, 14, 19], np.float32), landmarks, 1.0).size == pytest.approx(6.0)
    assert Detection(np.array([10, 10, 4, 19], np.float32), landmarks, 1.0).size == 0.0


class Parted(Counted):
    """A decoded picture that gives parts of itself."""

    size = (8, 6)
    nbytes = 72

    def __init__(self) -> None:
        super().__init__()
        self.windows = 0
        self.pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)

    def rgb(self) -> np.ndarray:
        self.made += 1
        return self.pixels.copy()

    def window(self, rectangle: tuple[int, int, int, int]) -> np.ndarray:
        self.windows += 1
        x0, y0, x1, y1 = rectangle
        return self.pixels[y0:y1, x0:x1].copy()


@pytest.mark.parametrize("rectangle", [(0, 0, 8, 6), (3, 2, 5, 6), (0, 0, 2, 1), (7, 5, 8, 6)])
def test_a_window_of_a_patched_frame_is_that_part_of_its_image(rectangle):
    frame = Frame(0, Fraction(0), Parted()).with_patches([patch(0.3), patch(0.9, 10)])
    x0, y0, x1, y1 = rectangle
    window = frame.window(rectangle)
    assert frame.native.made == 0
    assert np.array_equal(window, frame.image[y0:y1, x0:x1])
    assert np.array_equal(frame.source_window(rectangle), frame.source[y0:y1, x0:x1])


def test_a_picture_that_gives_windows_needs_no_rgb_of_the_whole_and_others_keep_theirs():
    frame, other = Frame(0, Fraction(0), Parted()), Frame(0, Fraction(0), Counted())
    assert frame.size == other.size == (8, 6)
    _ = frame.image, other.image
    frame.forget_whole()
    other.forget_whole()
    for one in (frame, other):
        assert one.window((1, 1, 4, 3)).shape == (2, 3, 3)
    assert (frame.native.made, frame.native.windows) == (1, 1)
    assert other.native.made == 1


def test_a_glance_is_the_image_in_eight_bits_and_takes_the_place_of_deep_rgb():
    deep = Parted()
    deep.pixels = (np.arange(6 * 8 * 3) * 450).reshape(6, 8, 3).astype(np.uint16)
    shallow, user = Frame(0, Fraction(0), Parted()), Frame.from_image(deep.pixels)
    frame = Frame(0, Fraction(0), deep)
    assert shallow.glance is shallow.source
    for one in (frame, user):
        assert np.array_equal(one.glance, np.rint(deep.pixels / 257)) and not one.glance.flags.writeable
    assert (deep.made, frame.nbytes) == (1, 72 + 6 * 8 * 3)
    assert user.image.dtype == np.uint16 and user.nbytes == 6 * 8 * 3 * 3
    frame.forget_whole()
    assert (frame.nbytes, frame.image.dtype, deep.made) == (72, np.uint16, 2)
    patched = frame.with_patches([Patch(0, 0, np.zeros((6, 8, 3), np.uint16), np.ones((6, 8), np.float32))])
    assert patched.glance.max() == 0 and frame.glance.max() > 0


def test_a_frame_tells_the_bytes_that_it_holds_at_the_moment():
    frame = Frame(0, Fraction(0), Parted())
    assert frame.nbytes == 72
    _ = frame.image
    assert frame.nbytes == 72 + 6 * 8 * 3
    frame.forget_rgb()
    assert frame.with_patches([patch(1.0)]).nbytes == 72 + 3 * 4 * (3 + 4)
    assert gray().nbytes == 6 * 8 * 3
    assert Frame(0, Fraction(0), Counted()).nbytes is None


def test_times_of_ones_own_frames_become_exact_or_are_refused():
    image = np.zeros((4, 4, 3), np.uint8)
    assert Frame.from_image(image, 1, 0.5).time == Fraction(1, 2) and isinstance(Frame.from_image(image, 1, 2).time, Fraction)
    for time in (np.float32(0.5), np.float64(0.5), Decimal("0.5"), Fraction(1, 2)):
        assert Frame.from_image(image, 1, time).time == Fraction(1, 2)
    numpys = Frame.from_image(image, np.int64(1), np.int64(2))
    assert numpys.time == 2 and type(numpys.time.numerator) is type(numpys.index) is int
    assert type(Frame.from_image(image, np.int64(1)).time.numerator) is int
    for time in (float("nan"), float("inf"), np.float32("nan")):
        with pytest.raises(ValueError):
            Frame.from_image(image, 0, time)


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(30000, 1001), Fraction(2997, 100)])
def test_a_time_that_is_divided_as_floats_is_the_fraction_that_was_meant(rate: Fraction) -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    assert all(Frame.from_image(image, index, index / float(rate)).time == index / rate for index in range(0, 200_000, 997))
    assert Frame.from_image(image, 0, math.pi).time == Fraction(math.pi)


def test_numbers_that_take_the_place_of_a_frames_own_become_exact_or_are_refused() -> None:
    changed = replace(Frame.from_image(np.zeros((2, 2, 3), np.uint8)), index=np.int64(3), time=0.5)
    assert (changed.index, changed.time) == (3, Fraction(1, 2)) and type(changed.index) is int and type(changed.time) is Fraction
    with pytest.raises(ValueError, match="expected a time in seconds"):
        replace(changed, time=None)


@pytest.mark.parametrize("index", [None, "first", 1.5, float("nan"), float("inf"), [1]])
def test_an_index_that_is_no_whole_number_is_told(index: object) -> None:
    with pytest.raises(ValueError, match="expected a whole number as index, got "):
        Frame.from_image(np.zeros((2, 2, 3), np.uint8), index)  # type: ignore[arg-type]


@pytest.mark.parametrize("time", ["soon", [1], 1j, b"1", "1/0"])
def test_a_time_of_another_kind_is_told_as_one_that_is_no_number(time: object) -> None:
    with pytest.raises(ValueError, match="expected a time in seconds, got "):
        Frame.from_image(np.zeros((2, 2, 3), np.uint8), 0, time)  # type: ignore[arg-type]


def test_the_array_of_a_frame_is_a_plain_one() -> None:
    masked = np.ma.array(np.full((2, 2, 3), 7, np.uint8), mask=True)
    assert type(Frame.from_image(masked).image) is np.ndarray and int(Frame.from_image(masked).image.max()) == 7

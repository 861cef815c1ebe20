from __future__ import annotations

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from videoclr.media.colour import BT601, Colour
from videoclr.media.layout import layout_of
from videoclr.media.orientation import Orientation
from videoclr.media.picture import Picture, reformatted
from videoclr.media.proxy import Proxy
from videoclr.types import Patch

FORMATS = [
    "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv440p", "nv12", "nv21", "nv16", "yuv420p10le", "yuv422p10le",
    "yuv444p12le", "p010le", "p210le", "yuva420p", "gray", "gray10le", "ya8", "rgb24", "bgra", "0bgr", "gbrp",
    "gbrp10le", "rgb48be", "rgba64le", "yuyv422", "uyvy422",
]  # fmt: skip
ODD = [name for name in FORMATS if name not in ("yuyv422", "uyvy422", "p010le", "p210le")]


def frame_in(pixel_format, rgb, *, matrix=1, full=None):
    kind = layout_of(pixel_format).kind
    full = full if full is not None else kind != "yuv" or "yuvj" in pixel_format
    frame = VideoFrame.from_ndarray(rgb, "rgb24").reformat(
        format=pixel_format,
        dst_colorspace=matrix if kind != "rgb" else None,
        dst_color_range=2 if full else 1,
        interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,
    )
    frame.colorspace, frame.color_range = (0 if kind == "rgb" else matrix), (2 if full else 1)
    return frame


def samples(frame):
    layout = layout_of(frame.format.name)
    return [layout.view(frame, index).copy() for index in range(len(layout.places))]


@pytest.mark.parametrize("name", FORMATS)
def test_a_patch_shows_its_colour_inside_and_changes_no_bit_outside(name, pattern):
    frame = frame_in(name, pattern(0, 64, 48))
    picture = Picture(frame)
    gray = layout_of(name).kind == "gray"
    colour = np.array([0.5, 0.5, 0.5] if gray else [0.8, 0.35, 0.2])
    top = np.iinfo(picture.rgb().dtype).max
    alpha = np.zeros((20, 26), np.float32)
    alpha[2:-2, 3:-3] = 1
    rgb = np.broadcast_to(colour * top, (20, 26, 3)).round().astype(picture.rgb().dtype)
    before = [bytes(plane) for plane in frame.planes]
    after = picture.composite([Patch(13, 9, rgb, alpha)])

    assert [bytes(plane) for plane in frame.planes] == before, "the decoded frame itself must stay"
    shown = Picture(after).rgb() / top
    assert np.abs(shown[16:24, 22:32] - colour).max() < 2.6 / 255
    touched = np.zeros((48, 64), bool)
    touched[9:29, 13:39] = alpha > 0
    for index, (old, new) in enumerate(zip(samples(frame), samples(after), strict=True)):
        sy, sx = 48 // old.shape[0], 64 // old.shape[1]
        cells = touched.reshape(old.shape[0], sy, old.shape[1], sx).any((1, 3))
        assert np.array_equal(old[~cells], new[~cells]), index
        assert index or not np.array_equal(old[cells], new[cells])


@pytest.mark.parametrize("name", ODD)
def test_odd_sizes_and_patches_over_every_edge_work(name, pattern):
    picture = Picture(frame_in(name, pattern(0, 33, 21)))
    image = picture.rgb()
    assert image.shape == (21, 33, 3)
    white = np.full((40, 60, 3), np.iinfo(image.dtype).max, image.dtype)
    after = Picture(picture.composite([Patch(-9, -7, white, np.ones((40, 60), np.float32))]))
    assert after.rgb().min() > 0.985 * np.iinfo(image.dtype).max
    outside = picture.composite([Patch(40, 3, white, np.ones((40, 60), np.float32))])
    assert all(np.array_equal(a, b) for a, b in zip(samples(picture.frame), samples(outside), strict=True))


def test_half_alpha_mixes_in_code_values_and_averages_chroma_over_its_area():
    frame = VideoFrame(8, 8, "yuv420p")
    for plane, value in zip(frame.planes, (100, 90, 160), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = 5, 2
    alpha = np.zeros((8, 8), np.float32)
    alpha[2, 2] = 0.5
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    luma, blue, other = samples(Picture(frame).composite([Patch(0, 0, red, alpha)]))
    assert luma[2, 2] == round(0.5 * 100 + 0.5 * 0.299 * 255)
    assert (luma != 100).sum() == 1
    # One pixel of four, half covered: an eighth of the way. BT.601 full range red is Cr = 255.5, Cb = 84.97.
    assert other[1, 1] == round(160 * 7 / 8 + 255.5 / 8)
    assert blue[1, 1] == round(90 * 7 / 8 + 84.97 / 8)
    assert (other != 160).sum() == 1


@pytest.mark.parametrize("name", ["gbrp10le", "gbrap12le", "gbrp16be", "rgb48be"])
def test_white_of_deep_rgb_is_white_and_a_face_that_is_as_it_was_changes_no_bit(name):
    frame = VideoFrame(64, 8, name)
    layout = layout_of(name)
    for component in range(3):
        layout.view(frame, component)[...] = np.linspace(0, (1 << layout.depth) - 1, 64).astype(np.uint16)
    seen = Picture(frame).rgb()
    assert seen[0, 0].tolist() == [0] * 3 and seen[0, -1].tolist() == [65535] * 3
    assert np.array_equal(Picture(frame).window((3, 2, 40, 7)), seen[2:7, 3:40])
    after = Picture(frame).composite([Patch(0, 0, seen, np.ones((8, 64), np.float32))])
    assert all(np.array_equal(layout.view(after, part), layout.view(frame, part)) for part in range(3))


@pytest.mark.parametrize(("name", "other"), [
    ("gbrp16le", "gbrp10le"), ("gbrp10le", "gbrp12be"), ("gbrap12le", "gbrap16le"), ("rgb24", "rgb48be"), ("bgra", "rgba64le"),
    ("rgb24", "rgba64be"), ("rgba", "rgb48le"), ("gbrp", "gbrp10le"), ("gbrp10le", "gbrap12le"), ("bgr0", "gbrp16le"),
    ("rgb48le", "rgb24"), ("gbrp10le", "gbrp"), ("gbrap16le", "bgra"), ("rgba64be", "rgb24"),
])  # fmt: skip
def test_numbers_of_rgb_become_the_nearest_of_another_depth(name, other):
    (old, new), frame = (layout_of(name), layout_of(other)), VideoFrame(1024, 4, name)
    values = np.linspace(0, (1 << old.depth) - 1, 1024).astype(np.uint16)
    for samples in [old.view(frame, 0), old.view(frame, 1), old.view(frame, 2), old.opacity(frame)]:
        if samples is not None:
            samples[...] = values
    frame.pts = 7
    made = reformatted(frame, Colour("rgb", BT601, True), other, Colour("rgb", BT601, True))
    nearest = np.rint(values * (((1 << new.depth) - 1) / ((1 << old.depth) - 1)))
    assert made.pts == 7 and all((new.view(made, part) == nearest).all() for part in range(3))
    if new.alpha is not None:
        assert (new.opacity(made) == ((1 << new.depth) - 1 if old.alpha is None else nearest)).all()


@pytest.mark.parametrize(
    ("name", "other"), [("gray16le", "gray"), ("ya16le", "ya8"), ("gray12le", "rgb24"), ("gray16le", "yuvj444p")]
)
def test_numbers_of_grey_become_the_nearest_of_eight_bits(name, other):
    (old, new), frame = (layout_of(name), layout_of(other)), VideoFrame(1024, 4, name)
    values = np.linspace(0, (1 << old.depth) - 1, 1024).astype(np.uint16)
    for samples in [old.view(frame, 0), old.opacity(frame)]:
        if samples is not None:
            samples[...] = values
    made = reformatted(frame, Colour("gray", BT601, True), other, Colour(new.kind, BT601, True))
    assert (new.view(made, 0) == np.rint(values * (255 / ((1 << old.depth) - 1)))).all()


@pytest.mark.parametrize("name", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv444p16le", "p010le"])
def test_white_of_deep_video_is_white_and_a_face_that_is_as_it_was_keeps_its_level(name):
    layout, frame = layout_of(name), VideoFrame(256, 8, name)
    unit = 1 << (layout.depth - 8)
    luma = np.linspace(16 * unit, 235 * unit, 256).round().astype(np.uint16)
    for component, values in enumerate((luma, 128 * unit, 128 * unit)):
        layout.view(frame, component)[...] = values << layout.shift
    seen = Picture(frame).rgb()
    assert np.abs(seen[0] - np.linspace(0, 65535, 256)[:, None]).max() < 65536 / (219 * unit) / 2 + 16
    assert seen[0, -1].tolist() == [65535] * 3
    after = layout.view(Picture(frame).composite([Patch(0, 0, seen, np.ones((8, 256), np.float32))]), 0) >> layout.shift
    assert np.abs(after.astype(int) - luma).max() <= (4 if layout.depth == 16 else 0)
    for source in ("gbrp16le", "gbrp10le", "rgb48le"):
        deep = reformatted(frame, Colour("yuv", BT601, False), source, Colour("rgb", BT601, True))
        again = layout.view(reformatted(deep, Colour("rgb", BT601, True), name, Colour("yuv", BT601, False)), 0) >> layout.shift
        assert np.abs(again[0, [0, -1]].astype(int) - [16 * unit, 235 * unit]).max() <= (4 if layout.depth == 16 else 0)


@pytest.mark.parametrize(("height", "matrix"), [(718, "bt601"), (720, "bt709")])
def test_untagged_video_is_bt709_from_720_lines_up(height, matrix):
    frame = VideoFrame(16, height, "yuv420p")
    for plane, value in zip(frame.planes, (81, 90, 240), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    picture = Picture(frame)
    assert picture.colour.matrix.name == matrix
    # BT.601's pure red: exactly that in 601, orange-red and clipped in 709.
    red = picture.rgb()[height // 2, 8].astype(int)
    assert (np.abs(red - [254, 0, 0]).max() <= 2) == (matrix == "bt601")


def test_range_and_matrix_tags_are_honoured(pattern):
    image = pattern(3, 64, 48)
    for matrix in (1, 5, 6, 7, 9):
        for full in (False, True):
            picture = Picture(frame_in("yuv444p", image, matrix={6: 5}.get(matrix, matrix), full=full))
            picture.frame.colorspace = matrix
            assert np.abs(Picture(picture.frame).rgb().astype(int) - image).max() <= 3, (matrix, full)


@pytest.mark.parametrize("name", ["yuv420p10le", "yuv422p10le", "yuv444p10le", "p010le", "yuv420p12le", "gbrp10le"])
def test_more_than_8_bits_become_uint16_over_the_whole_range(name, pattern):
    image = pattern(0, 64, 48)
    rgb = Picture(frame_in(name, image)).rgb()
    assert rgb.dtype == np.uint16
    assert np.abs(rgb / 257 - image).mean() < 2.5
    white = np.full((48, 64, 3), 255, np.uint8)
    assert Picture(frame_in(name, white)).rgb().min() > 65200


@pytest.mark.parametrize("name", ["gbrap10le", "gbrap12le", "gbrap14le", "gbrap16le"])
@pytest.mark.parametrize("opacity", [0, 30000, 65535])
def test_deep_rgb_shows_its_own_colours_whatever_its_alpha(name, opacity):
    values = np.random.default_rng(1).integers(0, 65536, (47, 53, 4), dtype=np.uint16)
    values[..., 3] = opacity
    frame = VideoFrame.from_ndarray(values, "rgba64le").reformat(format=name)
    depth = layout_of(name).depth
    expected = np.stack(samples(frame), -1) / ((1 << depth) - 1)
    assert np.abs(Picture(frame).rgb() / 65535 - expected).max() < 0.5 / 255


@pytest.mark.parametrize("turn", [(t, x, y) for t in (False, True) for x in (False, True) for y in (False, True)])
def test_patches_in_shown_coordinates_land_where_they_are_shown(turn, pattern):
    orientation = Orientation(*turn)
    frame = frame_in("yuv444p", pattern(0, 40, 24))
    picture = Picture(frame, orientation=orientation)
    image = picture.rgb()
    assert image.shape == ((40, 24, 3) if turn[0] else (24, 40, 3))
    patch = np.zeros((5, 7, 3), np.uint8)
    patch[...] = [230, 30, 40]
    patch[0, 0] = [20, 20, 250]
    shown = Picture(picture.composite([Patch(11, 3, patch, np.ones((5, 7), np.float32))]), orientation=orientation).rgb()
    assert np.abs(shown[3:8, 11:18].astype(int) - patch).max() <= 3
    shown = shown.copy()
    shown[3:8, 11:18] = image[3:8, 11:18]
    assert np.array_equal(shown, image)


def test_a_palette_picture_is_patched_in_a_writable_format():
    frame = VideoFrame(16, 16, "monow")
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    patch = Patch(4, 4, np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32))
    after = Picture(frame).composite([patch])
    assert after.format.name == "gray"
    assert Picture(after).rgb()[0, 0, 0] == 255
    assert Picture(after).rgb()[5, 5, 0] == 0


def test_without_patches_the_frame_is_handed_on_untouched(pattern):
    frame = frame_in("yuv420p", pattern(0))
    assert Picture(frame).composite([]) is frame


def noisy(width, height, seed=0):
    """Nothing that an interpolation could get right by luck."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


WINDOWS = [(0, 0, 9, 7), (41, 37, 60, 58), (33, 0, 34, 1), (97, 70, 131, 91), (0, 0, 131, 91), (5, 40, 125, 42), (20, 20, 20, 30)]


@pytest.mark.parametrize("size", [(132, 92), (131, 91)])
@pytest.mark.parametrize("name", FORMATS)
def test_a_window_is_what_the_whole_rgb_shows_there_to_the_bit(name, size):
    if size[0] % 2 and name not in ODD:
        pytest.skip("the format knows even sizes only")
    picture = Picture(frame_in(name, noisy(*size)))
    whole = picture.rgb()
    for x0, y0, x1, y1 in WINDOWS:
        window = picture.window((x0, y0, x1, y1))
        assert window.dtype == whole.dtype
        assert np.array_equal(window, whole[y0:y1, x0:x1]), (x0, y0, x1, y1)


@pytest.mark.parametrize("name", ["pal8", "monow", "rgb565le", "bgr8", "gbrpf32le", "yuv410p", "yuv411p", "gray16be"])
def test_windows_of_formats_that_cannot_be_cut_or_written_into_are_the_same_too(name):
    frame = VideoFrame.from_ndarray(noisy(80, 64), "rgb24").reformat(format="bgr8" if name == "pal8" else name)
    if name == "pal8":
        frame = VideoFrame(80, 64, "pal8")
        frame.planes[0].update(noisy(frame.planes[0].line_size, 64)[..., 0].tobytes())
    picture = Picture(frame)
    whole = picture.rgb()
    for window in [(0, 0, 9, 7), (41, 37, 60, 58), (70, 50, 80, 64)]:
        assert np.array_equal(picture.window(window), whole[window[1] : window[3], window[0] : window[2]]), window


@pytest.mark.parametrize("turn", [(t, x, y) for t in (False, True) for x in (False, True) for y in (False, True)])
@pytest.mark.parametrize("kind", ["plain", "woven", "hdr", "woven hdr"])
def test_windows_of_turned_woven_and_hdr_pictures_are_the_same_too(turn, kind):
    frame = frame_in("yuv420p10le", noisy(132, 92))
    proxy = Proxy("pq") if "hdr" in kind else None
    picture = Picture(frame, orientation=Orientation(*turn), proxy=proxy, woven="woven" in kind)
    whole = picture.rgb()
    width, height = picture.size
    assert whole.shape == (height, width, 3)
    for x0, y0, x1, y1 in [(0, 0, 9, 7), (41, 37, 60, 58), (width - 30, height - 21, width, height), (0, 0, width, height)]:
        assert np.array_equal(picture.window((x0, y0, x1, y1)), whole[y0:y1, x0:x1]), (x0, y0, x1, y1)


@pytest.mark.parametrize("source", ["yuv420p", "yuvj420p", "yuva420p", "yuv440p", "nv12", "yuv422p", "yuv420p10le"])
@pytest.mark.parametrize("target", ["rgb48le", "rgb48be", "rgba64le", "gbrp16le"])
def test_colours_stay_on_the_way_to_more_than_8_bits_of_rgb(source, target):
    rgb = np.empty((32, 48, 3), np.uint8)
    rgb[:] = (200, 90, 40)
    full = source == "yuvj420p"
    frame = VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=source, dst_colorspace=5, dst_color_range=2 if full else 1)
    made = reformatted(frame, Colour("yuv", BT601, full), target, Colour("rgb", BT601, True))
    shown = made.to_ndarray(format="rgb24") if target == "gbrp16le" else made.to_ndarray()[..., :3] / 257
    assert np.abs(shown.astype(float) - (200, 90, 40)).max() < 4

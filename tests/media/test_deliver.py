"""Overlay, matte, side by side and wipe through whole jobs: put together again, they are the restored video."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from videoclr.errors import ConfigError
from videoclr.media.deliver import Deliverable
from videoclr.media.linear import linear
from videoclr.media.picture import Picture
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Frame, Patch

FACE = {"face": (48.0, 32.0), "size": 26.0, "light": 0.2}


def floats(frame: av.VideoFrame) -> np.ndarray:
    """`(h, w, 3 or 4)` in 0..1 of an RGB or RGBA frame; half floats as they are."""
    if frame.format.name in ("gbrpf16le", "gbrapf16le"):
        rows = [np.frombuffer(memoryview(p), np.float16).reshape(p.height, -1)[:, : p.width] for p in frame.planes]
        return np.stack([rows[2], rows[0], rows[1], *rows[3:]], -1).astype(np.float64)
    alpha = any(part.is_alpha for part in frame.format.components)
    array = frame.reformat(format="rgba64le" if alpha else "rgb48le").to_ndarray()
    return array.astype(np.float64) / 65535


def shown(path) -> list[np.ndarray]:
    """`(h, w, 3)` in 0..1 of every frame, as videoclr reads it."""
    with Reader(path) as reader:
        return [frame.image.astype(np.float64) / np.iinfo(frame.image.dtype).max for frame in reader.frames()]


def over(overlay: np.ndarray, source: np.ndarray) -> np.ndarray:
    return source * (1 - overlay[..., 3:]) + overlay[..., :3] * overlay[..., 3:]


@pytest.fixture
def three(clip, job, tmp_path):
    """`three(pix_fmt, ...)`: a source, its restored video (lossless), and a place for more."""

    def make(pix_fmt: str, **settings):
        source = clip("s.mkv", codec="ffv1", pix_fmt=pix_fmt, ticks=range(3), **settings)
        job(source, tmp_path / "r.mkv", codec="ffv1", **FACE)
        return source, tmp_path / "r.mkv", tmp_path

    return make


@pytest.mark.parametrize(("pix_fmt", "unit"), [("bgr0", 255), ("gbrp10le", 1023), ("yuv444p", 255), ("yuv444p10le", 1023)])
def test_overlay_over_the_source_is_the_restored_video(three, job, frames_of, pix_fmt, unit):
    source, restored, folder = three(pix_fmt)
    job(source, folder / "o%d.png", deliver="overlay", **FACE)
    for index, (before, after) in enumerate(zip(shown(source), shown(restored), strict=True), 1):
        (frame,) = frames_of(folder / f"o{index}.png")
        assert frame.format.name == "rgba64be"
        overlay = floats(frame)
        error = np.abs(over(overlay, before) - after) * unit
        # One rounding in RGB; YUV rounds three components, and each of them reaches all colours. swscale's ten bits end a
        # little below white.
        assert error.max() <= {"bgr0": 1.01, "gbrp10le": 1.5, "yuv444p": 2.6, "yuv444p10le": 4.5}[pix_fmt]
        assert np.abs(before - after).max() * unit > 10, "the face was changed"
        nothing = overlay[..., 3] == 0
        assert nothing.any()
        assert not overlay[nothing][:, :3].any() or overlay[nothing].max() <= 1
        assert np.array_equal(before[nothing], after[nothing])


def test_overlay_of_subsampled_video_is_the_restored_picture_within_its_chroma(three, job, frames_of, samples_of):
    source, restored, folder = three("yuv420p")
    job(source, folder / "o%d.png", deliver="overlay", **FACE)
    with Reader(source) as reader:
        pictures = [(frame.image / 255.0, frame.native.colour) for frame in reader.frames()]
    for index, ((before, colour), frame) in enumerate(zip(pictures, frames_of(restored), strict=True), 1):
        mixed = over(floats(frames_of(folder / f"o{index}.png")[0]), before)
        luma = colour.code_values(mixed.astype(np.float32), 8)[0]
        assert np.abs(luma - samples_of(frame)[0]).max() < 2


@pytest.mark.parametrize("transfer", [1, 13, 16, 18])
def test_overlay_in_linear_light_reproduces_the_restored_video_there(job, tmp_path, frames_of, transfer):
    source = graded(tmp_path / "s.mkv", transfer)
    job(source, tmp_path / "r.mkv", codec="ffv1", **FACE)
    job(source, tmp_path / "o%d.exr", deliver="overlay", **FACE)
    (before,), (after,) = ([f.to_ndarray(format="rgb48le") for f in frames_of(p)] for p in (source, tmp_path / "r.mkv"))
    overlay = floats(frames_of(tmp_path / "o1.exr")[0])
    light = linear(after, transfer)
    error = np.abs(linear(before, transfer) * (1 - overlay[..., 3:]) + overlay[..., :3] - light) / (light + 0.02)
    assert np.abs(linear(before, transfer) - light).max() > 0.02
    # half floats carry eleven bits, the lossless video sixteen
    assert error.max() < 0.004


def graded(path, transfer: int):
    """One frame of 16-bit RGB in a transfer function, a soft ramp with a texture."""
    y, x = np.mgrid[0:64, 0:96]
    signal = 0.15 + 0.35 * x / 95 + 0.03 * np.sin(x / 3) * np.cos(y / 4)
    rgb = np.rint(np.repeat(signal[..., None], 3, -1) * 65535).astype(np.uint16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "gbrp16le"
        primaries = 9 if transfer in (16, 18) else 1
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, primaries
        frame = av.VideoFrame.from_ndarray(rgb, "rgb48le").reformat(format="gbrp16le")
        frame.color_trc, frame.color_primaries, frame.pts, frame.time_base = transfer, primaries, 0, Fraction(1, 25)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("transfer", [16, 18])
def test_overlay_of_hdr_moves_the_signal_as_the_restoration_does(job, tmp_path, frames_of, transfer):
    source = graded(tmp_path / "s.mkv", transfer)
    job(source, tmp_path / "r.mkv", codec="ffv1", **FACE)
    job(source, tmp_path / "o%d.png", deliver="overlay", **FACE)
    before, after, overlay = (floats(frames_of(path)[0]) for path in (source, tmp_path / "r.mkv", tmp_path / "o1.png"))
    assert np.abs(before - after).max() > 0.01
    assert np.abs(over(overlay, before) - after).max() * 65535 <= 2


@pytest.mark.parametrize("pix_fmt", ["bgr0", "gbrp10le"])
def test_overlay_of_woven_fields_is_the_restored_video(tmp_path, frames_of, pix_fmt):
    deep = pix_fmt != "bgr0"
    rng = np.random.default_rng(2)
    image = rng.integers(60, 180, (48, 64, 3)).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pix_fmt)
    picture = Picture(frame, woven=True)
    face = rng.integers(60, 180, (20, 24, 3)).astype(np.uint16 if deep else np.uint8) * (257 if deep else 1)
    patch = Patch(10, 12, face, rng.uniform(0, 1, (20, 24)).astype(np.float32))
    overlay = floats(Deliverable("overlay")(picture, [patch], Fraction(0)).frame)
    before, after = (Picture(one).signals() / (65535 if deep else 255) for one in (frame, picture.composite([patch])))
    assert np.abs(before - after).max() > 0.05
    assert np.abs(over(overlay, before) - after).max() * (1023 if deep else 255) < 1.5


@pytest.mark.parametrize("deep", [False, True])
def test_overlay_of_colours_that_are_multiplied_with_alpha_is_the_restored_picture(deep):
    rng, top = np.random.default_rng(0), 65535 if deep else 255
    opaque = rng.integers(0, top + 1, (32, 32, 1))
    opaque[:10], opaque[10:20] = 0, top
    colours = np.rint(rng.integers(0, top + 1, (32, 32, 3)) * (opaque / top))
    kind = np.uint16 if deep else np.uint8
    frame = av.VideoFrame.from_ndarray(np.dstack([colours, opaque]).astype(kind), "rgba64le" if deep else "rgba")
    head = struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 0x152, 3, 1, 1, 0, 0)  # ExtraSamples: associated alpha
    picture = Picture(frame, head=head)
    patch = Patch(2, 2, rng.integers(0, 256, (26, 26, 3)).astype(np.uint8), rng.random((26, 26)).astype(np.float32))
    overlay = Deliverable("overlay", upright=True)(picture, [patch], Fraction(0)).frame.to_ndarray() / 65535
    after = picture.composite([patch]).to_ndarray()[..., :3]
    assert np.abs(over(overlay, colours / top) * top - after).max() < 0.6 * (5 if deep else 1)


def test_overlay_in_prores_4444_keeps_alpha_times_and_sound(clip, job, tmp_path, frames_of, packets_of):
    source = clip("s.mkv", codec="ffv1", ticks=(0, 1, 2, 5, 9), base=Fraction(1, 25), audio=1)
    job(source, tmp_path / "r.mkv", codec="ffv1", **FACE)
    report = job(source, tmp_path / "o.mov", codec="prores", deliver="overlay", **FACE)
    assert report.warnings == [], "nothing of the source is lost"
    overlays = frames_of(tmp_path / "o.mov")
    assert overlays[0].format.name.startswith("yuva444p")
    sounds = [[data for data, _ in packets_of(path, "audio")[0]] for path in (source, tmp_path / "o.mov")]
    assert sounds[0] == sounds[1]
    with Reader(source) as a, Reader(tmp_path / "o.mov") as b:
        assert [frame.time for frame in a.frames()] == [frame.time for frame in b.frames()]
    for before, after, frame in zip(shown(source), shown(tmp_path / "r.mkv"), overlays, strict=True):
        colour = frame.reformat(format="rgba64le", src_colorspace=5, src_color_range=1)
        error = np.abs(over(floats(colour), before) - after)
        assert error.mean() < 0.004, "ProRes is lossy"


def test_matte_is_the_alpha_of_the_overlay(three, job, frames_of):
    source, _, folder = three("yuv420p10le")
    job(source, folder / "o%d.png", deliver="overlay", **FACE)
    job(source, folder / "m%d.png", deliver="matte", **FACE)
    job(source, folder / "m%d.exr", deliver="matte", **FACE)
    job(source, folder / "m.mov", deliver="matte", codec="prores", profile="4444", **FACE)
    job(source, folder / "m.mp4", deliver="matte", crf=5, **FACE)
    alpha = floats(frames_of(folder / "o1.png")[0])[..., 3]
    assert alpha.max() == 1
    assert 0.02 < alpha.mean() < 0.9
    matte = floats(frames_of(folder / "m1.png")[0])
    assert np.abs(matte - alpha[..., None]).max() < 2e-5
    assert np.abs(floats(frames_of(folder / "m1.exr")[0]) - alpha[..., None]).max() < 1e-3
    assert np.abs(shown(folder / "m.mov")[0] - alpha[..., None]).max() < 0.02
    assert np.abs(shown(folder / "m.mp4")[0] - alpha[..., None]).max() < 0.05


def test_depth_that_an_overlay_or_a_matte_loses_is_told_of_the_source(clip, job, tmp_path):
    source = clip("s.mkv", codec="ffv1", pix_fmt="yuv444p12le")
    for kind, name in (("overlay", "yuva444p10le"), ("matte", "yuv444p10le")):
        report = job(source, tmp_path / f"{kind}.mov", codec="prores", profile="4444", deliver=kind, **FACE)
        assert report.warnings == [f"yuv444p12le is written as {name}: less bit depth"]


def test_a_matte_to_be_watched_has_the_depth_of_its_source(clip, job, tmp_path):
    report = job(clip("s.mp4"), tmp_path / "m.mp4", deliver="matte", **FACE)
    assert report.warnings == [], "a matte has no colours to lose"
    with Reader(tmp_path / "m.mp4") as reader:
        assert reader.info.pixel_format == "yuv420p"


@pytest.mark.parametrize("ending", ["jpg", "webp", "bmp"])
def test_a_matte_in_pictures_of_eight_bits_is_none_that_lost_depth(clip, job, tmp_path, ending):
    report = job(clip("s.mp4", ticks=range(1)), tmp_path / f"m.{ending}", deliver="matte", **FACE)
    assert report.warnings == []
    report = job(clip("d.mkv", pix_fmt="yuv420p10le", ticks=range(1)), tmp_path / f"d.{ending}", deliver="matte", **FACE)
    assert [text for text in report.warnings if text.endswith("less bit depth")]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gbrp10le", "gray"])
@pytest.mark.parametrize("size", [(96, 64), (95, 64)])
def test_side_by_side_shows_source_and_restored_untouched(three, job, frames_of, samples_of, pix_fmt, size):
    source, restored, folder = three(pix_fmt, size=size)
    job(source, folder / "b.mkv", codec="ffv1", deliver="side-by-side", **FACE)
    both = frames_of(folder / "b.mkv")
    assert (both[0].width, both[0].height, both[0].format.name) == (192, 64, pix_fmt)
    for frame, left, right in zip(both, frames_of(source), frames_of(restored), strict=True):
        for whole, before, after in zip(*map(samples_of, (frame, left, right)), strict=True):
            half, width = whole.shape[1] // 2, before.shape[1]
            assert np.array_equal(whole[:, :width], before)
            assert np.array_equal(whole[:, half : half + width], after)
        assert not np.array_equal(samples_of(left)[0], samples_of(right)[0])


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "nv12"])
@pytest.mark.parametrize("size", [(96, 63), (95, 63)])
def test_side_by_side_of_an_odd_height_has_every_line(pattern, samples_of, pix_fmt, size):
    frame = av.VideoFrame.from_ndarray(pattern(0, *size), "rgb24").reformat(format=pix_fmt)
    frame.pts = 0
    both = Deliverable("side-by-side")(Picture(frame), [], Fraction(0)).frame
    assert (both.width, both.height, both.format.name) == (192, 63, pix_fmt)
    for whole, before in zip(samples_of(both), samples_of(frame), strict=True):
        half = whole.shape[1] // 2
        assert np.array_equal(whole[:, : before.shape[1]], before)
        assert np.array_equal(whole[:, half : half + before.shape[1]], before)


def test_side_by_side_of_deep_rgb_leaves_its_transparency_out(pattern, samples_of):
    frame = av.VideoFrame.from_ndarray(pattern(0, 96, 64), "rgb24").reformat(format="gbrap12le")
    frame.pts = 0
    both = Deliverable("side-by-side")(Picture(frame), [], Fraction(0)).frame
    assert both.format.name == "gbrp12le"
    for whole, before in zip(samples_of(both), samples_of(frame), strict=True):
        assert np.array_equal(whole, np.concatenate([before, before], axis=1))


@pytest.mark.parametrize(("pix_fmt", "count"), [("yuva420p", 1), ("bgra", 1), ("yuv420p", 0), ("bgr0", 0)])
def test_side_by_side_tells_that_it_is_opaque(clip, job, tmp_path, pix_fmt, count):
    report = job(clip("s.mkv", codec="ffv1", pix_fmt=pix_fmt), tmp_path / "b.mkv", codec="ffv1", deliver="side-by-side")
    assert len([text for text in report.warnings if "without the transparency" in text]) == count


@pytest.mark.parametrize(("opacity", "count"), [(100, 1), (255, 0)])
def test_side_by_side_tells_that_it_is_opaque_of_a_palette_too(job, tmp_path, pattern, opacity, count):
    Image.fromarray(pattern(0)).convert("P").save(tmp_path / "s.png", transparency=bytes([opacity]) * 256)
    report = job(tmp_path / "s.png", tmp_path / "b.png", deliver="side-by-side")
    assert len([text for text in report.warnings if "without the transparency" in text]) == count


@pytest.mark.parametrize("deliver", ["side-by-side", "overlay", "wipe"])
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_turned_sources_are_turned_alike(clip, job, tmp_path, deliver, rotation):
    source = clip("s.mp4", rotation=rotation, ticks=range(1))
    job(source, tmp_path / "o.mov", codec="prores", deliver=deliver, wipe_seconds=0, **FACE)
    job(source, tmp_path / "r.mov", codec="prores", **FACE)
    (before,), (after,) = shown(source), shown(tmp_path / "r.mov")
    with Reader(tmp_path / "o.mov") as reader:
        assert reader.info.rotation == (-rotation) % 360
        (frame,) = reader.frames()
        found = frame.image / 65535.0
    height, width = before.shape[:2]
    if deliver == "side-by-side":
        assert found.shape == (height, 2 * width, 3)
        assert np.abs(found[:, :width] - before).mean() < 0.02
        assert np.abs(found[:, width:] - after).mean() < 0.02
    elif deliver == "wipe":
        middle = width // 2
        assert np.abs(found[:, : middle - 4] - before[:, : middle - 4]).mean() < 0.02
        assert np.abs(found[:, middle + 4 :] - after[:, middle + 4 :]).mean() < 0.02
    else:
        assert found.shape == before.shape
        inside = np.abs(after - before).max(-1) > 0.06
        assert np.abs(found - after)[inside].mean() < 0.05


def test_a_wipe_goes_from_before_to_after_and_back(three, job, frames_of, samples_of):
    source, restored, folder = three("yuv444p")
    job(source, folder / "w.mkv", codec="ffv1", deliver="wipe", wipe_seconds=0.16, **FACE)
    places = [96, 48, 0]
    for place, wiped, before, after in zip(places, *map(frames_of, (folder / "w.mkv", source, restored)), strict=True):
        for found, old, new in zip(*map(samples_of, (wiped, before, after)), strict=True):
            left, right = max(0, place - 1), min(96, place + 1)
            assert np.array_equal(found[:, :left], old[:, :left])
            assert np.array_equal(found[:, right:], new[:, right:])
        if 0 < place < 96:
            assert (samples_of(wiped)[0][:, place - 1 : place + 1] == 235).all(), "a white line"


def test_side_by_side_of_pictures_and_of_frames_of_ones_own(clip, job, tmp_path, frames_of, pattern):
    job(clip("s.mp4", ticks=range(2)), tmp_path / "b%d.png", deliver="side-by-side", **FACE)
    assert (frames_of(tmp_path / "b1.png")[0].width, frames_of(tmp_path / "b2.png")[0].height) == (192, 64)
    with Writer(tmp_path / "own.png", deliver="overlay") as writer:
        face = Patch(10, 12, np.full((4, 6, 3), 200, np.uint8), np.full((4, 6), 0.5, np.float32))
        writer.write(Frame.from_image(pattern(0)).with_patches([face]))
    overlay = floats(frames_of(tmp_path / "own.png")[0])
    assert np.allclose(overlay[12:16, 10:16], [200 / 255] * 3 + [0.5], atol=1e-4)
    assert overlay.sum() == pytest.approx(overlay[12:16, 10:16].sum())


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_an_overlay_keeps_the_colour_profile_of_its_source(job, tmp_path, pattern, frames_of, mode):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, more in (("plain", {}), ("profiled", {"icc_profile": profile})):
        Image.fromarray(pattern(0)).convert(mode).save(tmp_path / f"{name}.png", **more)
        job(tmp_path / f"{name}.png", tmp_path / f"{name}.o.png", deliver="overlay", **FACE)
    with Image.open(tmp_path / "profiled.o.png") as made:
        assert made.info["icc_profile"] == profile
    (plain,), (profiled,) = (frames_of(tmp_path / f"{name}.o.png") for name in ("plain", "profiled"))
    assert np.array_equal(floats(plain), floats(profiled)) and floats(plain)[..., 3].any()


def test_overlapping_faces_are_one_overlay(tmp_path, frames_of, pattern):
    rng = np.random.default_rng(1)
    patches = [
        Patch(x, y, rng.integers(0, 256, (20, 24, 3), dtype=np.uint8), rng.uniform(0, 1, (20, 24)).astype(np.float32))
        for x, y in ((30, 20), (40, 28), (85, 50), (-5, -6))
    ]
    frame = Frame.from_image(pattern(0)).with_patches([patch for patch in patches if patch.x >= 0 and patch.x < 80])
    with Writer(tmp_path / "o.png", deliver="overlay") as writer:
        writer.write(frame)
    mixed = over(floats(frames_of(tmp_path / "o.png")[0]), frame.source / 255.0) * 255
    assert np.abs(mixed - frame.image).max() < 1.01
    with Writer(tmp_path / "edge.png", deliver="overlay") as writer:  # patches that reach over the picture's edge
        writer.write(Frame.from_image(pattern(0)).with_patches(patches))
    assert floats(frames_of(tmp_path / "edge.png")[0]).shape == (64, 96, 4)


@pytest.mark.parametrize(
    ("ending", "media", "words"),
    [
        (".mp4", {}, "libx264 in yuv420p10le has no transparency; use prores"),
        (".mov", {"codec": "prores", "profile": "hq"}, "has no transparency"),
        ("%d.jpg", {}, r"\.jpg pictures hold no overlay; use \.png or \.exr"),
    ],
)
def test_an_overlay_without_transparency_is_refused(clip, job, tmp_path, ending, media, words):
    with pytest.raises(ConfigError, match=words):
        job(clip("s.mkv"), tmp_path / f"o{ending}", deliver="overlay", **media)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mkv"]


def test_an_unknown_deliverable_is_a_setting_error():
    from videoclr.config import Config

    with pytest.raises(ConfigError, match=r"\$\.media\.deliver.*'side-by-side'"):
        Config().override("media.deliver=both")

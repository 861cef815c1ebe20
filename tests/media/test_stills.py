from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from videoclr.errors import MediaError
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Frame, Patch


def save(path, image):
    with Writer(path) as writer:
        writer.write(Frame.from_image(image))
    return path


def load(path):
    with Reader(path) as reader:
        (frame,) = reader.frames()
        return frame.image


@pytest.mark.parametrize("ending", ["png", "tif", "tiff", "bmp"])
def test_lossless_pictures_come_back_exactly(tmp_path, pattern, ending):
    assert np.array_equal(load(save(tmp_path / f"p.{ending}", pattern(1, 33, 21))), pattern(1, 33, 21))
    assert [path.name for path in tmp_path.iterdir()] == [f"p.{ending}"]


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "webp"])
@pytest.mark.parametrize("height", [64, 720])
def test_lossy_pictures_come_back_in_the_right_colours(tmp_path, pattern, ending, height):
    back = load(save(tmp_path / f"p.{ending}", pattern(1, 96, height)))
    error = back.astype(int) - pattern(1, 96, height)
    assert np.abs(error).mean() < 4
    assert np.abs(error.mean((0, 1))).max() < 1


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, ending):
    image = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    source = save(tmp_path / f"deep.{ending}", image)
    assert load(source).dtype == np.uint16
    patch = Patch(5, 5, np.full((4, 4, 3), 40000, np.uint16), np.ones((4, 4), np.float32))
    with Reader(source) as reader, Writer(tmp_path / f"out.{ending}", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame.with_patches([patch]))
    wanted = image.copy()
    wanted[5:9, 5:9] = 40000
    assert np.array_equal(load(tmp_path / f"out.{ending}"), wanted)
    assert writer.warnings == []


def test_a_picture_into_eight_bits_says_what_is_lost(tmp_path):
    source = save(tmp_path / "deep.png", np.full((16, 16, 3), 30000, np.uint16))
    with Reader(source) as reader, Writer(tmp_path / "o.jpg", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert any("bit depth" in text for text in writer.warnings)


def test_a_still_is_a_video_of_one_frame_and_becomes_one(tmp_path, pattern):
    source = save(tmp_path / "p.png", pattern(0))
    with Reader(source) as reader, Writer(tmp_path / "o.mp4", like=reader) as writer:
        assert reader.is_still
        assert reader.info.frame_count == 1
        for frame in reader.frames():
            writer.write(frame)
    with Reader(tmp_path / "o.mp4") as reader:
        assert len(list(reader.frames())) == 1


def test_a_sequence_keeps_its_numbers(tmp_path, pattern):
    for number in (98, 99, 100, 101):
        save(tmp_path / f"in{number:03d}.png", pattern(number))
    (tmp_path / "out").mkdir()
    with Reader(tmp_path / "in%03d.png", rate=10) as reader, Writer(tmp_path / "out/f%05d.png", like=reader) as writer:
        frames = list(reader.frames())
        for frame in frames:
            writer.write(frame)
        assert not list((tmp_path / "out").glob("*.png")), "all appear together"
    assert reader.info.frame_count == 4
    assert [frame.time for frame in frames] == [Fraction(index, 10) for index in range(4)]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"f{number:05d}.png" for number in (98, 99, 100, 101)]
    assert np.array_equal(load(tmp_path / "out/f00099.png"), pattern(99))


def test_a_video_becomes_a_sequence_and_a_sequence_a_video(clip, tmp_path):
    source = clip("s.mp4")
    with Reader(source) as reader, Writer(tmp_path / "f%d.png", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(f"f{n}.png" for n in range(1, 11))
    with Reader(tmp_path / "f%d.png") as reader, Writer(tmp_path / "o.mp4", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    with Reader(tmp_path / "o.mp4") as reader:
        assert len(list(reader.frames())) == 10


def test_gaps_and_empty_patterns_are_told(tmp_path, pattern):
    with pytest.raises(MediaError, match="no file matches"):
        Reader(tmp_path / "f%02d.png")
    for number in (1, 2, 4):
        save(tmp_path / f"f{number:02d}.png", pattern(0))
    with pytest.raises(MediaError, match=r"f03\.png is missing"):
        Reader(tmp_path / "f%02d.png")


def test_many_frames_do_not_fit_one_picture(clip, tmp_path, pattern):
    with Reader(clip("s.mp4")) as reader, pytest.raises(MediaError, match=r"use a pattern such as frame%04d\.png"):
        Writer(tmp_path / "o.png", like=reader)
    with pytest.raises(MediaError, match="use a pattern"), Writer(tmp_path / "o.png") as writer:
        writer.write(Frame.from_image(pattern(0)))
        writer.write(Frame.from_image(pattern(1), 1))
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


def test_existing_pictures_are_protected(tmp_path, pattern):
    source = save(tmp_path / "f7.png", pattern(0))
    with Reader(source) as reader:
        with pytest.raises(MediaError, match="is the input itself"):
            Writer(source, like=reader, overwrite=True)
        with pytest.raises(MediaError, match=r"f7\.png exists already"):
            Writer(tmp_path / "f%d.png", like=reader)


def with_orientation(jpeg, value):
    """`jpeg` with an EXIF block that holds nothing but an orientation."""
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHIHH", 0x0112, 3, 1, value, 0) + struct.pack("<I", 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize(
    ("value", "turn"),
    [(1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
     (5, lambda a: a.swapaxes(0, 1)), (6, lambda a: np.rot90(a, -1)), (7, lambda a: np.rot90(a, 2).swapaxes(0, 1)),
     (8, np.rot90)],
)  # fmt: skip
def test_a_camera_jpeg_is_upright_and_leaves_upright(tmp_path, pattern, value, turn):
    plain = save(tmp_path / "p.jpg", pattern(0))
    stored = load(plain)
    turned = tmp_path / "t.jpg"
    turned.write_bytes(with_orientation(plain.read_bytes(), value))
    assert np.array_equal(load(turned), turn(stored))
    with Reader(turned) as reader, Writer(tmp_path / "o.png", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert np.array_equal(load(tmp_path / "o.png"), turn(stored))


def test_pictures_with_alpha_keep_it(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    source = tmp_path / "a.png"
    frame = VideoFrame.from_ndarray(rgba, "rgba")
    with av.open(str(source), "w", format="image2", options={"update": "1"}) as out:
        stream = out.add_stream("png", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgba"
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    patch = Patch(2, 2, np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32))
    with Reader(source) as reader, Writer(tmp_path / "o.png", like=reader) as writer:
        for one in reader.frames():
            writer.write(one.with_patches([patch]))
    with av.open(str(tmp_path / "o.png")) as back:
        pixels = next(back.decode(video=0)).to_ndarray()
    assert np.array_equal(pixels[..., 3], rgba[..., 3])
    assert not pixels[2:6, 2:6, :3].any()

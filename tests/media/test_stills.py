from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin, features

from videoclr.errors import ConfigError, DecodeError, EncodeError, MediaError
from videoclr.media import tiff
from videoclr.media.clock import clock_in, with_clock
from videoclr.media.density import density_of
from videoclr.media.exif import with_exif
from videoclr.media.layout import layout_of
from videoclr.media.opening import Opening
from videoclr.media.picture import Picture, opacity_of
from videoclr.media.reader import Reader
from videoclr.media.stills import Stills
from videoclr.media.tiff import pages, unreadable
from videoclr.media.timecode import Timecode
from videoclr.media.writer import Writer
from videoclr.monitor import PrometheusFile
from videoclr.report import report_file
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


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        ({"start": "2f"}, [9, 10, 11, 12]),
        ({"start": 0.125}, [10, 11, 12]),
        ({"start": "1f", "frames": 2}, [8, 9]),
        ({"start": "00:00:00:04"}, [11, 12]),
        ({"end": "2f"}, [7, 8]),
        ({"start": "1f", "opening": Opening(start_number=9)}, [10, 11, 12]),
    ],
)
def test_a_part_of_a_sequence_keeps_its_numbers(tmp_path, pattern, part, numbers):
    for number in range(7, 13):
        save(tmp_path / f"in{number:04d}.png", pattern(number))
    with Reader(tmp_path / "in%04d.png", rate=24, **part) as reader, Writer(tmp_path / "out%04d.png", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert sorted(path.name for path in tmp_path.glob("out*")) == [f"out{number:04d}.png" for number in numbers]
    for number in numbers:
        assert np.array_equal(load(tmp_path / f"out{number:04d}.png"), pattern(number))


@pytest.mark.parametrize(("given", "numbers"), [(1001, [1001, 1002]), (0, [0, 1]), (8, None)])
def test_a_sequence_begins_at_the_number_that_was_named(tmp_path, pattern, given, numbers):
    for number in range(7, 10):
        save(tmp_path / f"s{number:04d}.png", pattern(number))
    target = tmp_path / ("s%04d.png" if numbers is None else "o####.png")
    with Reader(tmp_path / "s%04d.png", start="1f") as reader:
        if numbers is None:
            with pytest.raises(MediaError, match="is the input itself"):
                Writer(target, like=reader, start_number=given, overwrite=True)
            return
        with Writer(target, like=reader, start_number=given) as writer:
            for frame in reader.frames():
                writer.write(frame)
    assert sorted(path.name for path in tmp_path.glob("o*")) == [f"o{number:04d}.png" for number in numbers]
    assert np.array_equal(load(tmp_path / f"o{given:04d}.png"), pattern(8)) and list(writer.pictures) == numbers


@pytest.mark.parametrize(("form", "becomes"), [("yuv420p", "rgb24"), ("yuva444p10le", "rgba64le"), ("gray10le", "gray16le")])
def test_a_tiff_of_anything_but_a_tiff_holds_what_every_program_reads(tmp_path, form, becomes):
    frame = VideoFrame(32, 16, form)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    sink = Stills(str(tmp_path / "o.tif"), "tiff", 1, False)
    sink.write(Picture(frame), lambda: frame)
    sink.finish()
    with av.open(str(tmp_path / "o.tif")) as container:
        assert container.streams.video[0].codec_context.format.name == becomes


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        ("o.mkv", {"start_number": 1001}, r"\$\.media\.start_number: is for numbered pictures"),
        ("o.png", {"start_number": 1001}, "is for numbered pictures"),
        ("o%04d.png", {"start_number": 1001, "container": "mkv"}, "is for numbered pictures"),
        ("o%04d.png", {"start_number": -1}, "0 or more"),
        ("o%04d.png", {"start_number": 1.5}, "0 or more"),
    ],
)
def test_a_number_that_nothing_can_begin_at_is_refused(tmp_path, target, options, says):
    with pytest.raises(ConfigError, match=says):
        Writer(tmp_path / target, **options)
    assert not list(tmp_path.iterdir())


def test_a_sequence_whose_first_picture_is_damaged_keeps_the_numbers_of_the_others(tmp_path, pattern):
    for number in range(7, 10):
        save(tmp_path / f"in{number:04d}.png", pattern(number))
    (tmp_path / "in0007.png").write_bytes(b"no picture" * 9)
    with Reader(tmp_path / "in%04d.png") as reader, Writer(tmp_path / "out%04d.png", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert np.array_equal(load(tmp_path / "out0009.png"), pattern(9))
    assert not (tmp_path / "out0007.png").exists()


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


def test_a_timecode_and_texts_that_pictures_have_no_place_for_are_told(clip, tmp_path):
    def label(container, stream):
        stream.metadata["timecode"] = "01:02:03:04"
        container.metadata["comment"] = "by me"

    timecode = "the timecode is left out, which begins at 01:02:03:04: no picture that is written here says it"
    texts = "its texts (comment) are left out: pictures hold nothing besides"
    for source, drop, said in (
        (clip("s.mov", setup=label), (), [timecode, texts]),
        (clip("s.mov", setup=label), ("data",), [texts]),
        (clip("s.mp4"), (), []),
    ):
        with Reader(source) as reader, Writer(tmp_path / "f%03d.png", like=reader, drop=drop, overwrite=True) as writer:
            writer.write(next(reader.frames()))
        assert writer.warnings == said


@pytest.mark.parametrize("ending", ["dpx", "exr"])
@pytest.mark.parametrize(
    ("rate", "first", "third"), [(24, "10:00:00:22", "10:00:01:00"), (Fraction(30000, 1001), "01:00:59;28", "01:01:00;02")]
)
def test_a_timecode_and_a_rate_go_into_pictures_and_come_back(clip, tmp_path, ending, rate, first, third):
    def label(container, stream):
        stream.metadata["timecode"] = first

    film = clip("s.mov", setup=label, rate=rate, base=1 / Fraction(rate), ticks=range(4))
    pictures, back = tmp_path / f"f%02d.{ending}", tmp_path / "back.mov"
    with Reader(film) as reader, Writer(pictures, like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert not any("timecode" in text for text in writer.warnings)
    with Reader(pictures, start=third) as reader, Writer(back, like=reader) as writer:
        assert (str(reader.timecode), reader.info.frame_rate) == (first, rate)
        writer.write(frame := next(reader.frames()))
        assert frame.time == 2 / Fraction(rate)
    assert not any("timeCode" in text for text in writer.warnings)
    with Reader(back) as reader:
        assert str(reader.timecode) == third
    with Reader(pictures, rate=12) as reader:
        assert reader.info.frame_rate == 12


@pytest.mark.parametrize(
    ("said", "meant"), [(23.98, Fraction(24000, 1001)), (29.97, Fraction(30000, 1001)), (24.0, 24), (12.5, 12.5)]
)
def test_a_rate_of_few_digits_is_the_one_that_is_meant(tmp_path, pattern, said, meant):
    save(tmp_path / "f1.dpx", pattern(0))
    (tmp_path / "f1.dpx").write_bytes(with_clock((tmp_path / "f1.dpx").read_bytes(), Fraction(said), None))
    assert clock_in(tmp_path / "f1.dpx") == (meant, 0)


@pytest.mark.parametrize(("word", "rate"), [(0x25000000, 24), (0x00000024, 24), (0x0000000A, 24), (0x01020304, 50)])
def test_what_is_no_timecode_in_a_header_is_none(word, rate):
    assert Timecode.of_word(word, Fraction(rate)) is None


def test_a_comment_of_a_gif_that_becomes_a_picture_is_told(tmp_path):
    Image.new("RGB", (64, 48), (90, 60, 30)).save(tmp_path / "a.gif", comment=b"by me")
    with Reader(tmp_path / "a.gif") as reader, Writer(tmp_path / "a.png", like=reader) as writer:
        writer.write(next(reader.frames()))
    assert writer.warnings == ["its texts (comment) are left out: pictures hold nothing besides"]


def test_what_pictures_have_no_place_for_is_told(clip, tmp_path):
    def more(container, stream):
        other = container.add_stream("ffv1", rate=25)
        other.width, other.height, other.pix_fmt = 32, 32, "gray"

    source = clip("s.mkv", audio=2, subtitles=True, setup=more)
    told = (
        "stream 1 (audio, aac), stream 2 (audio, aac), stream 3 (subtitle, subrip), stream 4 (video, ffv1) are left out:"
        " pictures hold nothing besides; --video-stream chooses another video"
    )
    one = "stream 2 (audio, aac) is left out: pictures hold nothing besides"
    for drop, said in (((), [told]), (("1", "subtitles", "video"), [one]), (("audio", "subtitles", "video"), [])):
        with Reader(source) as reader, Writer(tmp_path / "f%d.png", like=reader, drop=drop, overwrite=True) as writer:
            writer.write(next(reader.frames()))
        assert writer.warnings == said


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_an_avif_that_becomes_opaque_is_told(tmp_path, pattern):
    opacity = np.tile(np.arange(96, dtype=np.uint8), (64, 1))
    for name, image in (("opaque", pattern(0)), ("clear", np.dstack([pattern(0), opacity]))):
        Image.fromarray(image).save(tmp_path / f"{name}.avif")
        with Reader(tmp_path / f"{name}.avif") as reader, Writer(tmp_path / f"{name}.png", like=reader) as writer:
            writer.write(next(reader.frames()))
        said = ["the transparency of AVIF pictures is not read: they become opaque; convert them to PNG to keep it"]
        assert writer.warnings == (said if name == "clear" else [])
        with Reader(tmp_path / f"{name}.avif") as reader, Writer(tmp_path / f"{name}.mkv", like=reader) as writer:
            writer.write(next(reader.frames()))
        assert writer.warnings == (said if name == "clear" else [])
        with av.open(str(tmp_path / f"{name}.mkv")) as made:
            assert [stream.type for stream in made.streams] == ["video"], "transparency is no other film"


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def tiled(path, image):
    """An AVIF picture of two tiles beside each other."""
    half = image.shape[1] // 2
    data, config = [], b""
    for tile in (image[:, :half], image[:, half:]):
        memory = io.BytesIO()
        Image.fromarray(tile).save(memory, "AVIF")
        at = memory.getvalue().index(b"av1C") - 4
        config = memory.getvalue()[at : at + struct.unpack_from(">I", memory.getvalue(), at)[0]]
        memory.seek(0)
        with av.open(memory) as container:
            data += [bytes(packet) for packet in container.demux(video=0) if packet.size]
    size = (image.shape[1], image.shape[0])
    data.append(struct.pack(">4B2H", 0, 0, 0, 1, *size))
    kinds = (b"av01", b"av01", b"grid")
    infos = [
        full(b"infe", 2, int(kind == b"av01"), struct.pack(">HH", number, 0), kind, b"\0") for number, kind in enumerate(kinds, 1)
    ]
    sizes = [full(b"ispe", 0, 0, struct.pack(">II", *one)) for one in ((half, size[1]), size)]
    which = struct.pack(">I HB3B HB3B HB2B", 3, 1, 3, 1, 0x82, 3, 2, 3, 1, 0x82, 3, 3, 2, 4, 3)
    pixels = full(b"pixi", 0, 0, b"\3\x08\x08\x08")
    start = 0
    for _ in range(2):
        ends = np.cumsum([start, *map(len, data)])
        places = [struct.pack(">HHHII", at + 1, 0, 1, ends[at], len(one)) for at, one in enumerate(data)]
        head = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + full(
            b"meta", 0, 0,
            full(b"hdlr", 0, 0, b"\0\0\0\0pict" + bytes(13)),
            full(b"pitm", 0, 0, struct.pack(">H", 3)),
            full(b"iloc", 0, 0, b"\x44\0", struct.pack(">H", 3), *places),
            full(b"iinf", 0, 0, struct.pack(">H", 3), *infos),
            full(b"iref", 0, 0, box(b"dimg", struct.pack(">4H", 3, 2, 1, 2))),
            box(b"iprp", box(b"ipco", sizes[0], config, pixels, sizes[1]), full(b"ipma", 0, 0, which)),
        )  # fmt: skip
        start = len(head) + 8
    path.write_bytes(head + box(b"mdat", *data))
    return path


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_the_tiles_of_a_picture_are_the_whole_of_it(tmp_path, pattern):
    source = tiled(tmp_path / "grid.avif", pattern(0, 128, 64))
    with Image.open(source) as image:
        wanted = np.asarray(image.convert("RGB"))
    assert np.abs(load(source).astype(int) - wanted).max() <= 6


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_an_animated_avif_is_restored_and_its_still_picture_left_out(tmp_path, pattern):
    first, *more = (Image.fromarray(pattern(number)) for number in range(4))
    first.save(tmp_path / "a.avif", save_all=True, append_images=more, duration=100)
    with Reader(tmp_path / "a.avif") as reader, Writer(tmp_path / "a.mkv", like=reader, codec="ffv1") as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert writer.frames_written == 4
    assert any("still picture" in text for text in writer.warnings)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert len(container.streams) == 1
    with Reader(tmp_path / "a.avif") as reader, pytest.raises(MediaError, match="holds one picture"):
        Writer(tmp_path / "a.png", like=reader)


def again(source, target, **options):
    with Reader(source) as reader, Writer(target, like=reader, **options) as writer:
        for frame in reader.frames():
            writer.write(frame)
    return writer.warnings


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "bmp"])
@pytest.mark.parametrize("source", ["png", "jpg", "tif"])
def test_the_resolution_in_print_is_kept_or_told(tmp_path, pattern, source, ending):
    Image.fromarray(pattern(0)).save(tmp_path / f"s.{source}", dpi=(300, 300))
    warnings = again(tmp_path / f"s.{source}", tmp_path / f"o.{ending}")
    if ending in ("webp", "bmp"):
        assert warnings == ["the resolution of 300 pixels an inch is left out; .png, .jpg and .tif keep it"]
        return
    assert warnings == []
    with Image.open(tmp_path / f"o.{ending}") as image:
        image.load()
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
@pytest.mark.parametrize("density", [254_000, 0.2])
def test_a_resolution_that_not_every_kind_has_room_for_is_told(tmp_path, pattern, density, ending):
    Image.fromarray(pattern(0)).save(tmp_path / "s.tif", dpi=(density, density))
    warnings = again(tmp_path / "s.tif", tmp_path / f"o.{ending}")
    assert warnings == [f"the resolution of {density} pixels an inch is left out; 1 to 65535 are kept"]
    with Image.open(tmp_path / f"o.{ending}") as image:
        image.load()


@pytest.mark.parametrize("unit", [b"Exif", b"JFIF"])
def test_the_resolution_of_a_jpeg_stands_in_either_place(tmp_path, pattern, unit):
    exif = Image.Exif()
    exif[0x11A], exif[0x11B], exif[0x128] = 118.0, 118.0, 3
    Image.fromarray(pattern(0)).save(tmp_path / "s.jpg", exif=exif.tobytes() if unit == b"Exif" else b"", dpi=(150, 150))
    data = (tmp_path / "s.jpg").read_bytes()
    if unit == b"Exif":
        at = data.index(b"JFIF") + 7
        (tmp_path / "s.jpg").write_bytes(data[:at] + b"\0\0\1\0\1" + data[at + 5 :])
    assert again(tmp_path / "s.jpg", tmp_path / "o.png") == []
    with Image.open(tmp_path / "o.png") as image:
        assert image.info["dpi"] == pytest.approx((299.72,) * 2 if unit == b"Exif" else (150, 150), abs=0.02)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0\0\x10JFIF", b"\x89PNG\r\n\x1a\n\0\0\0\x09pHYs", b"II*\0\xff\xff\xff\xff"])
def test_damaged_pictures_say_no_resolution(data):
    assert density_of(data) is None


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "exr", "dpx", "webp", "bmp"])
def test_the_shape_of_pixels_is_kept_in_pictures_or_told(tmp_path, clip, ending):
    def setup(container, stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)

    source = clip("s.mp4", ticks=range(2), setup=setup)
    warnings = again(source, tmp_path / f"o%02d.{ending}")
    told = any("sample aspect ratio 16/15 is lost" in text for text in warnings)
    with Reader(tmp_path / f"o01.{ending}") as reader:
        assert (reader.info.sample_aspect == Fraction(16, 15)) is not told
    assert told is (ending in ("webp", "bmp"))


def test_gaps_and_empty_patterns_are_told(tmp_path, pattern):
    with pytest.raises(MediaError, match="no file matches"):
        Reader(tmp_path / "f%02d.png")
    for number in (1, 2, 4):
        save(tmp_path / f"f{number:02d}.png", pattern(0))
    with pytest.raises(MediaError, match=r"f03\.png is missing"):
        Reader(tmp_path / "f%02d.png")


@pytest.mark.parametrize(("marks", "digits"), [("####", 4), ("@@", 2), ("%03d", 3)])
def test_a_sequence_is_named_as_compositing_programs_do(tmp_path, pattern, marks, digits):
    for number in (9, 10):
        save(tmp_path / f"50%.{number:0{digits}d}.png", pattern(number))
    with Reader(tmp_path / f"50%.{marks}.png") as reader, Writer(tmp_path / f"o.{marks}.png", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    for number in (9, 10):
        assert np.array_equal(load(tmp_path / f"o.{number:0{digits}d}.png"), pattern(number))


@pytest.mark.parametrize("name", ["s.[0001-0100].exr", "s.$F4.exr", "s.#.exr", "s.*.exr"])
def test_other_ways_to_name_a_sequence_are_told_the_one_taken(tmp_path, name):
    with pytest.raises(MediaError, match=r"numbered pictures are named shot\.%04d\.png or shot\.####\.png"):
        Reader(tmp_path / name)


def test_an_empty_picture_of_a_sequence_is_named_and_does_not_end_it(tmp_path, pattern):
    for number in (1, 2, 3):
        save(tmp_path / f"f{number:02d}.png", pattern(number))
    (tmp_path / "f02.png").write_bytes(b"")
    with pytest.raises(MediaError, match=r"f02\.png is empty \(0 bytes\); copy or export it again"):
        Reader(tmp_path / "f%02d.png")


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
@pytest.mark.parametrize(("count", "damaged"), [(3, [1]), (5, [3]), (5, [1, 3]), (3, [2]), (5, [3, 4]), (5, [])])
def test_a_damaged_picture_at_the_end_of_a_sequence_costs_itself_alone(tmp_path, ending, count, damaged):
    shown = []
    for number in range(count):
        name = save(tmp_path / f"f{number}.{ending}", np.full((48, 64, 3), 20 * number, np.uint8))
        if number in damaged:
            name.write_bytes(b"garbage" * 100)
        shown.append(shown[-1] if number in damaged else 20 * number)
    with Reader(tmp_path / f"f%d.{ending}") as reader:
        assert [int(frame.image[0, 0, 0]) for frame in reader.frames()] == shown
    said = [text for text in reader.warnings if "could not be decoded" in text]
    assert [text.split(": at ")[1] for text in said] == [", ".join(f"{0.04 * one:.3f} s" for one in damaged)][: len(damaged)]


def test_many_frames_do_not_fit_one_picture(clip, tmp_path, pattern):
    with Reader(clip("s.mp4")) as reader, pytest.raises(MediaError, match=r"use a pattern such as frame%04d\.png"):
        Writer(tmp_path / "o.png", like=reader)
    with pytest.raises(MediaError, match="use a pattern"), Writer(tmp_path / "o.png") as writer:
        writer.write(Frame.from_image(pattern(0)))
        writer.write(Frame.from_image(pattern(1), 1))
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


def test_existing_pictures_are_protected(tmp_path, pattern):
    source = save(tmp_path / "f7.png", pattern(0))
    with Reader(source) as reader, pytest.raises(MediaError, match="is the input itself"):
        Writer(source, like=reader, overwrite=True)
    with Reader(tmp_path / "f%d.png") as reader:
        (tmp_path / "out").mkdir()
        save(tmp_path / "out" / "f3.png", pattern(0))
        with pytest.raises(MediaError, match=r"f3\.png exists already"):
            Writer(tmp_path / "out" / "f%d.png", like=reader)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ((1, 2), None),
        ((3,), "1 picture is there besides (f3.png) that this run did not write; remove what is of an earlier one"),
        (
            (1, 9, 4, 7),
            "3 pictures are there besides (f4.png to f9.png) that this run did not write; remove what is of an earlier one",
        ),
    ],
)
def test_pictures_that_an_earlier_run_left_are_told_and_stay(tmp_path, pattern, there, said):
    for number in there:
        save(tmp_path / f"f{number}.png", pattern(0))
    with Writer(tmp_path / "f%d.png", overwrite=True) as writer:
        for number in (1, 2):
            writer.write(Frame.from_image(pattern(number)))
    assert writer.warnings == ([] if said is None else [said])
    assert {path.name for path in tmp_path.iterdir()} == {f"f{number}.png" for number in {1, 2, *there}}


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


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (np.zeros((64, 96, 4), np.uint8), "rgba is written as bgr0: less transparency"),
        (np.full((64, 96), 4711, np.uint16), "gray16be is written as bgr0: less bit depth"),
    ],
)
def test_what_a_video_loses_of_later_pictures_is_told(tmp_path, pattern, second, said):
    Image.fromarray(pattern(0)).save(tmp_path / "f1.png")
    Image.fromarray(second).save(tmp_path / "f2.png")
    with Reader(tmp_path / "f%d.png") as reader, Writer(tmp_path / "o.mkv", like=reader, codec="ffv1") as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert [text for text in writer.warnings if "written as" in text] == [said]


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


def test_a_jpeg_of_printing_inks_loses_no_transparency(tmp_path, pattern):
    inks = np.dstack([255 - pattern(1), pattern(1)[..., 0] // 4])
    Image.fromarray(inks, "CMYK").save(tmp_path / "s.jpg", quality=95)
    with Reader(tmp_path / "s.jpg") as reader, Writer(tmp_path / "o.jpg", like=reader) as writer:
        (frame,) = reader.frames()
        writer.write(frame)
    assert writer.warnings == [] and reader.info.pixel_format == "gbrp"
    shown = np.asarray(Image.open(tmp_path / "s.jpg").convert("RGB")).astype(int)
    assert np.abs(shown - frame.image).mean() < 3


def test_printing_inks_that_become_rgb_are_told_and_those_that_photoshop_writes_get_no_transparency(tmp_path, pattern, carry):
    inks = Image.fromarray(np.dstack([255 - pattern(1), pattern(1)[..., 0] // 4]), "CMYK")
    inks.save(tmp_path / "s.jpg", quality=95, subsampling=0)
    inks.save(tmp_path / "s.tif")
    data = bytearray((tmp_path / "s.jpg").read_bytes())
    data[data.index(b"Adobe") + 11] = 2  # YCCK: the same numbers, understood in another way
    for marker, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        begin = data.index(marker) + first
        data[begin : begin + 4 * step : step] = b"\1\2\3\4"  # its components are no C, M, Y and K
    (tmp_path / "t.jpg").write_bytes(data)
    for source in ("s.jpg", "s.tif", "t.jpg"):
        for target in ("o.jpg", "o.png"):
            report = carry(tmp_path / source, tmp_path / target)
            assert [text.partition(";")[0] for text in report.warnings] == ["its printing inks (CMYK) become RGB"]
            with Image.open(tmp_path / source) as before, Image.open(tmp_path / target) as after:
                assert after.mode == "RGB"
                assert np.abs(np.asarray(before.convert("RGB")).astype(int) - np.asarray(after)).mean() < 4
            (tmp_path / target).unlink()


@pytest.mark.parametrize(("lowest", "told"), [(255, 0), (254, 1)])
def test_a_yuv_picture_that_nothing_shines_through_loses_no_transparency(lowest, told):
    frame = VideoFrame.from_ndarray(np.full((16, 16, 4), 255, np.uint8), "rgba").reformat(format="yuva420p")
    alpha = np.full((frame.planes[3].height, frame.planes[3].line_size), 255, np.uint8)
    alpha[0, 0] = lowest
    frame.planes[3].update(alpha.tobytes())
    stills = Stills("o.jpg", "mjpeg", 1, overwrite=False)
    stills._prepared(Picture(frame), frame)
    assert len([text for text in stills.warnings if "transparency" in text]) == told


def test_what_a_picture_loses_is_said_aloud(tmp_path, caplog):
    source = save(tmp_path / "deep.png", np.full((16, 16, 3), 30000, np.uint16))
    with Reader(source) as reader, Writer(tmp_path / "o.jpg", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == writer.warnings != []


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_png_with_a_colour_profile_is_read_as_often_as_one_likes(tmp_path, pattern):
    plain = save(tmp_path / "plain.png", pattern(1, 33, 21)).read_bytes()
    profile = chunk(b"iCCP", b"mine\0\0" + zlib.compress(bytes(256)))
    (tmp_path / "k.png").write_bytes(plain[:33] + profile + plain[33:])  # behind the header's chunk
    script = """
import sys
from videoclr import Reader, Writer
for number in range(4):
    with Reader(sys.argv[1]) as reader, Writer(f"{sys.argv[2]}/{number}.png", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "k.png"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert np.array_equal(load(tmp_path / "3.png"), pattern(1, 33, 21)) and b"iCCP" in (tmp_path / "3.png").read_bytes()


def test_pictures_of_the_input_are_never_written_over_whatever_they_are_called(tmp_path, pattern):
    folder, link = tmp_path / "in", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    for number in (1, 2):
        save(folder / f"f{number:02d}.png", pattern(number, 33, 21))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for target in (link / "f%02d.png", folder / ".." / "in" / "f%02d.png", folder / "f01.png"):
        with Reader(folder / "f%02d.png") as reader, pytest.raises(MediaError, match="is the input itself"):
            Writer(target, like=reader, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_with_a_name_is_neither_replaced_nor_waited_for(tmp_path, pattern):
    pipe = tmp_path / "p.mkv"
    os.mkfifo(pipe)
    with pytest.raises(MediaError, match="is a pipe or a device"), Writer(pipe, overwrite=True) as writer:
        writer.write(Frame.from_image(pattern(1, 32, 32)))
    with pytest.raises(MediaError, match="can be read once only"), Reader(pipe):
        pass
    with pytest.raises(MediaError, match="is a pipe or a device"), report_file(pipe, (), overwrite=True):
        pass
    with pytest.raises(MediaError, match="is no file"), PrometheusFile(pipe):
        pass
    assert pipe.is_fifo()


def test_a_jpeg_that_is_cut_off_is_told_and_one_with_something_behind_it_is_not(tmp_path, pattern):
    whole = save(tmp_path / "p.jpg", pattern(1, 96, 64)).read_bytes()
    preview = b"\xff\xe1" + struct.pack(">H", 2 + len(whole)) + whole  # a whole picture within the head of another
    made = {
        "cut": whole[: len(whole) // 2],
        "thumb": whole[:2] + preview + whole[2 : len(whole) // 2],
        "tail": whole + b"\xff\xda...",
    }
    for name, data in made.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
        with Reader(tmp_path / f"{name}.jpg") as reader:
            assert len(list(reader.frames())) == 1
        assert any("cut off" in text for text in reader.warnings) == (name != "tail")


@pytest.mark.parametrize(("codec", "pix_fmt", "form"), [("qoi", "rgb24", "image2"), ("gif", "rgb8", "gif")])
def test_other_pictures_that_break_off_are_told(tmp_path, clip, codec, pix_fmt, form):
    whole = clip(f"p.{codec}", codec=codec, pix_fmt=pix_fmt, ticks=range(1), container=form).read_bytes()
    made = {"cut": whole[: len(whole) * 2 // 3], "whole": whole, "tail": whole + b"something behind it"}
    for name, data in made.items():
        path = tmp_path / f"{name}.{codec}"
        path.write_bytes(data)
        with Reader(path) as reader:
            next(reader.frames())
        assert any("cut off" in text for text in reader.warnings) == (name == "cut")


def test_a_gif_of_several_pictures_that_breaks_off_is_told(tmp_path, clip):
    whole = clip("p.gif", codec="gif", pix_fmt="rgb8", base=Fraction(1, 100), ticks=range(0, 16, 4)).read_bytes()
    for name, data in (("whole", whole), ("cut", whole[: len(whole) * 7 // 8])):
        (tmp_path / f"{name}.gif").write_bytes(data)
        with Reader(tmp_path / f"{name}.gif") as reader:
            list(reader.frames())
        assert any("cut off" in text for text in reader.warnings) == (name == "cut")


@pytest.mark.parametrize(("kind", "said"), [("group", ["a TIFF holds 3 pictures: only the first one is read"]), ("thumb", [])])
def test_a_tiff_of_several_pictures_is_told_and_one_with_a_thumbnail_is_not(tmp_path, pattern, kind, said):
    others = [Image.fromarray(pattern(number)) for number in (2, 3)]
    if kind == "thumb":
        others = [Image.fromarray(pattern(1)[::2, ::2])]
        others[0].encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(pattern(1)).save(tmp_path / "m.tif", save_all=True, append_images=others)
    with Reader(tmp_path / "m.tif") as reader:
        (frame,) = reader.frames()
    assert reader.warnings == said
    assert np.array_equal(frame.image, pattern(1))


WEIGHTS_709 = (2126, 10_000, 7152, 10_000, 722, 10_000)
LIMITED_RANGE, FULL_RANGE = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1), (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)


def ycbcr_tiff(path, rgb, *, full, order="<", weights=None, ends=None):
    """An uncompressed 4:4:4 TIFF, of the specification; `ends` are black and white."""
    kr, kb = (0.2126, 0.0722) if weights else (0.299, 0.114)
    luma = rgb / 255.0 @ np.array([kr, 1 - kr - kb, kb])
    blue, red = (rgb[..., 2] / 255 - luma) / (2 - 2 * kb), (rgb[..., 0] / 255 - luma) / (2 - 2 * kr)
    planes = (luma * 255, blue * 255 + 128, red * 255 + 128) if full else (luma * 219 + 16, blue * 224 + 128, red * 224 + 128)
    data = np.rint(np.stack(planes, -1)).clip(0, 255).astype(np.uint8).tobytes()
    height, width, _ = rgb.shape
    tags = {
        256: (4, width),
        257: (4, height),
        258: (3, 8, 8, 8),
        259: (3, 1),
        262: (3, 6),
        273: (4, 8),
        277: (3, 3),
        278: (4, height),
    }
    tags |= {279: (4, len(data)), 530: (3, 1, 1)} | ({529: (5, *weights)} if weights else {}) | ({532: (5, *ends)} if ends else {})
    return tiff_of(path, data, tags, order)


def tiff_of(path, data, tags, order="<"):
    """A TIFF of one picture, whose numbers are `data` from byte 8 on."""
    at = 8 + len(data)
    behind = at + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, (kind, *values) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}{dict([(3, 'H'), (7, 'B')]).get(kind, 'I')}", *values)
        place = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", behind + len(more))
        more += raw if len(raw) > 4 else b""
        entries += struct.pack(order + "HHI", tag, kind, len(values) // (2 if kind == 5 else 1)) + place
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", at)
    path.write_bytes(head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + more)
    return path


@pytest.mark.parametrize("height", [96, 720])
@pytest.mark.parametrize(
    "says",
    [
        {"full": True},
        {"full": True, "ends": FULL_RANGE, "order": ">"},
        {"full": False, "ends": LIMITED_RANGE},
        {"full": True, "weights": WEIGHTS_709, "order": ">"},
    ],
)
def test_ycbcr_of_a_tiff_means_what_the_file_says(tmp_path, says, height):
    y, x = np.mgrid[0:height, 0:64]
    rgb = np.stack([60 + 120 * x / 64, 128 + 60 * np.sin(y / 9), 200 - 120 * y / height], -1)
    rgb[:16, :16], rgb[:16, 16:32], rgb[:16, 32:48] = (255, 0, 0), 255, 0
    source = ycbcr_tiff(tmp_path / "s.tif", rgb, **says)
    with Reader(source) as reader, Writer(tmp_path / "o.tif", like=reader) as writer:
        (frame,) = reader.frames()
        writer.write(frame)
    assert np.abs(frame.image - rgb).max() < 3
    by_libtiff = cv2.imread(str(tmp_path / "o.tif"))[..., ::-1]
    assert np.abs(by_libtiff - rgb).mean() < 1.3
    with Reader(tmp_path / "o.tif") as reader:
        assert np.abs(next(reader.frames()).image - rgb).mean() < 1
        if "weights" not in says:
            codes = [np.asarray(one) for one in (frame.native.frame.to_ndarray(), reader.first_picture.frame.to_ndarray())]
            assert np.array_equal(*codes), "what was not touched keeps its numbers"


def test_of_an_icon_the_largest_picture_is_restored(tmp_path, pattern):
    Image.fromarray(pattern(0, 256, 256)).save(tmp_path / "i.ico", sizes=[(16, 16), (256, 256), (32, 32)])
    assert load(tmp_path / "i.ico").shape == (256, 256, 3)
    with Reader(tmp_path / "i.ico", video=2) as reader:
        assert (reader.info.width, reader.info.height) == (16, 16)


def test_a_tiff_that_ffmpeg_would_show_black_is_refused(tmp_path, pattern):
    for number, compression in enumerate(("tiff_lzw", "jpeg"), 1):
        Image.fromarray(pattern(number)).save(tmp_path / f"m{number}.tif", compression=compression)
    with pytest.raises(DecodeError, match="a TIFF that is compressed as JPEG cannot be decoded here; convert it to PNG"):
        Reader(tmp_path / "m2.tif")
    with pytest.raises(DecodeError, match=r"at 0\.040 s: a TIFF that is compressed as JPEG"):
        list(Reader(tmp_path / "m%d.tif").frames())


RGB = {256: (3, 16), 257: (3, 16), 258: (3, 8, 8, 8), 259: (3, 1), 262: (3, 2), 273: (4, 8), 277: (3, 3), 278: (3, 16)}


@pytest.mark.parametrize(
    ("tags", "what"),
    [
        ({322: (3, 16), 323: (3, 16), 324: (4, 8), 325: (4, 768), 273: None, 278: None}, "in tiles .*; convert it to PNG"),
        ({258: (3, 16, 16, 16), 339: (3, 3, 3, 3)}, "of floats of 16 bits .*; convert it to EXR"),
        ({258: (3, 32, 32, 32)}, "of whole numbers of 32 bits"),
        ({258: (3, 32, 32, 32), 339: (3, 1, 1, 1)}, "of whole numbers of 32 bits"),
        ({258: (3, 16), 262: (3, 1), 277: (3, 1), 339: (3, 2)}, "of signed numbers"),
        ({258: (3, 16, 16, 16, 16), 262: (3, 5), 277: (3, 4)}, "of CMYK in 16 bits"),
        ({258: (3, 8, 8), 262: (3, 3), 277: (3, 2), 320: (3, *range(0, 65536, 86)), 338: (3, 2)}, "of a palette with transparency"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_that_ffmpeg_would_show_wrong_is_refused(tmp_path, tags, what, order):
    said = {tag: values for tag, values in {**RGB, **tags}.items() if values is not None}
    numbers = 16 * 16 * sum(said[258][1:]) // 8
    source = tiff_of(tmp_path / "s.tif", bytes(numbers), said | ({279: (4, numbers)} if 273 in said else {}), order)
    with pytest.raises(DecodeError, match=f"a TIFF {what}"):
        Reader(source)


STEPS = np.tile(np.linspace(0, 1, 32), (16, 1))
RED = np.array([0.8, 0.5, 0.2])


def keyed_tiff(path, kind, extra, order="<", colours=RED):
    """One colour behind an edge of alpha, with which it is multiplied where `extra` says so."""
    rgba = np.dstack([np.tile(colours, (16, 32, 1)) * (STEPS[..., None] if extra == 1 else 1), STEPS])
    numbers = rgba if kind == "f4" else np.rint(rgba * np.iinfo(kind).max)
    bits, floats = (8 * int(kind[1]),) * 4, 3 if kind == "f4" else 1
    data = numbers.astype(order + kind).tobytes()
    tags = {256: (3, 32), 257: (3, 16), 258: (3, *bits), 259: (3, 1), 262: (3, 2), 273: (4, 8), 277: (3, 4), 278: (3, 16)}
    return tiff_of(path, data, tags | {279: (4, len(data)), 338: (3, extra), 339: (3, *(floats,) * 4)}, order)


def rgba_of(path):
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    layout = layout_of(frame.format.name)
    if layout is None or layout.alpha is None:
        frame = frame.reformat(format="gbrap16le")
        layout = layout_of("gbrap16le")
    samples = np.dstack([*(layout.view(frame, part) for part in range(3)), layout.opacity(frame)]).astype(np.float64)
    return samples if layout.floating else samples / ((1 << layout.depth) - 1)


def with_a_face(source, target, face=None, **options):
    with Reader(source) as reader, Writer(target, like=reader, **options) as writer:
        for frame in reader.frames():
            writer.write(frame if face is None else frame.with_patches([face]))
    return target


@pytest.mark.parametrize(("kind", "order"), [("u1", "<"), ("u2", ">"), ("u2", "<")])
def test_colours_that_a_tiff_multiplies_with_alpha_are_what_its_target_says_of_them(tmp_path, kind, order):
    source = keyed_tiff(tmp_path / "s.tif", kind, 1, order)
    # As a network makes it that sees the edge over black; a little light beyond it.
    seen = np.rint((np.array([0.2, 0.6, 0.6]) * STEPS[..., None] + 0.01)[4:12].clip(0, 1) * 65535).astype(np.uint16)
    face = Patch(0, 4, seen, np.ones(seen.shape[:2], np.float32))
    meant = np.tile(RED, (16, 32, 1))
    meant[4:12] = (0.2, 0.6, 0.6)
    rgba = rgba_of(with_a_face(source, tmp_path / "o.tif", face))
    assert np.abs(rgba[..., :3] - meant * STEPS[..., None]).max() < 0.015 and (rgba[..., :3] <= rgba[..., 3:]).all()
    head = tiff.first_tags((tmp_path / "o.tif").read_bytes())
    assert head[338] == 1, "multiplied as before, and so they say"
    plain = with_a_face(source, tmp_path / "p.tif")
    assert np.array_equal(rgba_of(plain), rgba_of(source))
    edge = STEPS > 0.25
    for target, options in (("o.png", {}), ("o.mov", {"codec": "prores"}), ("w.png", {"deliver": "wipe", "wipe_seconds": 0})):
        rgba = rgba_of(with_a_face(source, tmp_path / target, face, **options))
        shown = edge & (np.arange(32) > 18) if target == "w.png" else edge
        assert np.abs(rgba[..., 3] - STEPS).max() < 0.005
        assert np.abs(rgba[..., :3] - meant)[shown].max() < 0.06, f"{target} has them straight"
    light = rgba_of(with_a_face(source, tmp_path / "o.exr"))
    assert np.abs(light[:, 1:, 0] / STEPS[:, 1:] - ((0.8 + 0.055) / 1.055) ** 2.4).max() < (0.2 if kind == "u1" else 0.002)
    seen = rgba_of(with_a_face(source, tmp_path / "f.exr", face, deliver="overlay"))
    both, made = light[..., :3] * (1 - seen[..., 3:]) + seen[..., :3], rgba_of(with_a_face(source, tmp_path / "g.exr", face))
    assert np.abs(both - made[..., :3])[edge].max() < 0.02


@pytest.mark.parametrize("extra", [0, 2])
def test_straight_colours_of_a_tiff_stay_straight(tmp_path, extra):
    source = keyed_tiff(tmp_path / "s.tif", "u2", extra)
    for target in ("o.tif", "o.png"):
        assert np.array_equal(rgba_of(with_a_face(source, tmp_path / target)), rgba_of(source))
    assert tiff.first_tags((tmp_path / "o.tif").read_bytes())[338] == extra


@pytest.mark.parametrize("extra", [1, 2])
def test_light_of_a_tiff_is_multiplied_with_its_alpha_once_on_its_way_into_exr(tmp_path, extra):
    source = keyed_tiff(tmp_path / "s.tif", "f4", extra)
    made = rgba_of(with_a_face(source, tmp_path / "o.exr"))
    assert np.abs(made[..., :3] - RED * STEPS[..., None]).max() < 1e-6
    straight = rgba_of(with_a_face(source, tmp_path / "o.png"))[..., :3]
    assert np.abs(straight - straight[0, -1])[STEPS > 0.1].max() < 0.001


@pytest.mark.parametrize("form", ["rgb24", "rgba64le", "ya16le", "gray"])
@pytest.mark.parametrize(("compression", "predictor"), [(1, 1), (5, 1), (5, 2), (8, 2), (32946, 1), (32773, 1)])
def test_a_tiff_stays_compressed_as_it_was(tmp_path, form, compression, predictor):
    head = tiff.head_of(tiff_of(tmp_path / "h.tif", b"", {259: (3, compression), 317: (3, predictor)}).read_bytes())
    layout = layout_of(form)
    frame = VideoFrame(33, 21, form)
    parts = [*(layout.view(frame, part) for part in range(len(layout.places))), layout.opacity(frame)]
    for number, samples in enumerate(part for part in parts if part is not None):
        samples[...] = np.random.default_rng(number).integers(0, 1 << layout.depth, samples.shape)
    frame.color_range = 2
    sink = Stills(str(tmp_path / "o.tif"), "tiff", 1, False)
    sink.write(Picture(frame, head=head), lambda: frame)
    sink.finish()
    said = tiff.first_tags((tmp_path / "o.tif").read_bytes())
    assert (said[259], said.get(317, 1)) == (compression, predictor)
    with av.open(str(tmp_path / "o.tif")) as container:
        again = next(container.decode(video=0))
    by_libtiff = cv2.imread(str(tmp_path / "o.tif"), cv2.IMREAD_UNCHANGED)
    for part in range(len(layout.places)):
        assert np.array_equal(layout.view(again, part), layout.view(frame, part))
    if form == "rgb24":
        assert np.array_equal(by_libtiff[..., ::-1], np.dstack(parts[:3]))


@pytest.mark.parametrize("data", [b"", b"II*\0", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", b"x" * 99])
def test_directories_of_a_tiff_that_break_off_or_go_round_in_circles_end(data):
    assert unreadable(data) is None and pages(data) <= 1 and not tiff.is_multiplied(tiff.head_of(data))


def test_a_whole_picture_that_ffmpeg_does_not_read_is_not_called_empty(tmp_path, pattern, caplog):
    Image.fromarray(pattern(1)[..., 0].astype(np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DecodeError, match=r"damaged, of a kind that FFmpeg does not read, .*; convert it to PNG$"):
        Reader(tmp_path / "f.tif")
    assert caplog.records == [], "one line is enough"


def test_a_picture_keeps_its_name_where_a_web_page_wrote_a_space_into_it(tmp_path, pattern):
    source = save(tmp_path / "p.png", pattern(1, 33, 21)).rename(tmp_path / "the%20director.png")
    target = tmp_path / "out" / source.name
    target.parent.mkdir()
    with Reader(source) as reader, Writer(target, like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert [path.name for path in target.parent.iterdir()] == [target.name] and writer.pictures is None


def test_one_picture_has_one_name_whatever_percent_signs_are_in_it(tmp_path, pattern):
    source = save(tmp_path / "p.png", pattern(1, 33, 21))
    for number in range(2):
        with Reader(source) as reader, Writer(tmp_path / "100%done.png", like=reader, overwrite=number > 0) as writer:
            for frame in reader.frames():
                writer.write(frame)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["100%done.png", "p.png"]
    assert np.array_equal(load(tmp_path / "100%done.png"), pattern(1, 33, 21))
    with Reader(source) as reader, Writer(tmp_path / "o%04d.png", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert (tmp_path / "o0001.png").is_file()  # a width is no chance: a number is asked for


def test_percent_signs_of_a_folder_are_part_of_its_name(tmp_path, pattern):
    folder = tmp_path / "50% grey%02d"
    folder.mkdir()
    for number in range(2):
        save(folder / f"f{number:04d}.png", pattern(number, 33, 21))
    with Reader(folder / "f%04d.png") as reader:
        assert [np.array_equal(frame.image, pattern(n, 33, 21)) for n, frame in enumerate(reader.frames())] == [True, True]


def test_pictures_that_cannot_all_be_named_leave_no_half_files(tmp_path, pattern):
    with pytest.raises(MediaError, match="cannot be finished"), Writer(tmp_path / "f%d.png") as writer:
        for number in range(3):
            writer.write(Frame.from_image(pattern(number, 33, 21), number))
        (tmp_path / "f2.png").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f1.png", "f2.png"]


def with_profile(jpeg):
    """`jpeg` with a colour profile of zeros."""
    body = b"ICC_PROFILE\0\x01\x01" + bytes(256)
    return jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize(
    ("value", "ending", "kept"), [(1, ".jpg", True), (6, ".jpg", True), (8, ".png", True), (6, ".tif", True), (6, ".webp", False)]
)
def test_a_colour_profile_is_kept_or_its_loss_is_told(tmp_path, pattern, value, ending, kept):
    plain = save(tmp_path / "p.jpg", pattern(0)).read_bytes()
    (tmp_path / "icc.jpg").write_bytes(with_orientation(with_profile(plain), value))
    with Reader(tmp_path / "icc.jpg") as reader, Writer(tmp_path / f"o{ending}", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    told = [warning for warning in writer.warnings if "colour profile (ICC) is left out" in warning]
    with Image.open(tmp_path / f"o{ending}") as written:
        assert (written.info.get("icc_profile") == bytes(256)) == kept == (not told)
        assert written.size == ((64, 96) if value > 4 else (96, 64))


def test_the_lost_profile_of_a_png_is_told(tmp_path, pattern):
    (tmp_path / "icc.jpg").write_bytes(with_profile(save(tmp_path / "p.jpg", pattern(0)).read_bytes()))
    becomes = (("icc.jpg", "icc.png", 0), ("icc.png", "again.png", 0), ("icc.png", "o.tif", 0), ("icc.png", "o.webp", 1))
    for source, target, told in becomes:
        with Reader(tmp_path / source) as reader, Writer(tmp_path / target, like=reader) as writer:
            for frame in reader.frames():
                writer.write(frame)
        assert len([warning for warning in writer.warnings if "colour profile (ICC) is left out" in warning]) == told
    assert b"iCCP" in (tmp_path / "again.png").read_bytes()


def camera(order, orientation):
    """EXIF with an orientation, a maker, strips as a TIFF has them, a date behind a pointer, and a thumbnail's directory."""
    maker, date = b"Maker\0", b"2001:02:03 04:05:06\0"
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    at = 8 + 2 + 4 * 12 + 4
    inner, texts = at + len(maker), at + len(maker) + 2 + 12 + 4
    entries = struct.pack(order + "HHII", 0x010F, 2, len(maker), at)
    entries += struct.pack(order + "HHII", 0x0111, 4, 1, 4711)
    entries += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    entries += struct.pack(order + "HHII", 0x8769, 4, 1, inner)
    rest = maker + struct.pack(order + "H", 1) + struct.pack(order + "HHII", 0x9003, 2, len(date), texts) + bytes(4) + date
    return head + struct.pack(order + "H", 4) + entries + struct.pack(order + "I", 4242) + rest


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_when_and_with_what_a_picture_was_taken_stays_in_it_or_is_told(tmp_path, pattern, order, ending):
    plain = save(tmp_path / "p.jpg", pattern(0)).read_bytes()
    (tmp_path / "t.jpg").write_bytes(with_exif(plain, camera(order, 6)))
    with Reader(tmp_path / "t.jpg") as reader, Writer(tmp_path / f"o{ending}", like=reader) as writer:
        size = reader.info.width, reader.info.height
        for frame in reader.frames():
            writer.write(frame)
    assert size == (64, 96)
    assert not [text for text in writer.warnings if "EXIF" in text]
    with Image.open(tmp_path / f"o{ending}") as written:
        exif = written.getexif()
        assert written.size == size
        assert exif[0x010F].rstrip("\0") == "Maker"
        assert exif.get_ifd(0x8769)[0x9003].rstrip("\0") == "2001:02:03 04:05:06"
        assert exif.get(0x0112, 1) == 1, "it is turned already"
        if ending == ".jpg":
            assert 0x0111 not in exif
    for again in (".jpg", ".png", ".tif") if ending == ".tif" else ():
        with Reader(tmp_path / "o.tif") as reader, Writer(tmp_path / f"n{again}", like=reader) as writer:
            for frame in reader.frames():
                writer.write(frame)
        with Image.open(tmp_path / f"n{again}") as written:
            exif = written.getexif()
            assert (exif[0x010F].rstrip("\0"), exif.get(0x0112, 1)) == ("Maker", 1), again
            assert exif.get_ifd(0x8769)[0x9003].rstrip("\0") == "2001:02:03 04:05:06"
    assert [text for text in writer.warnings if "EXIF" in text] == []


@pytest.mark.parametrize("order", "<>")
def test_big_tiff_is_read_sample_for_sample(tmp_path, pattern, order):
    image = pattern(0)
    rows, columns, _ = image.shape
    maker, begin = b"A maker of scans\0", 16 + image.nbytes
    count = 11
    texts = begin + 8 + 20 * count + 8
    inline = [(0x100, 4, columns), (0x101, 4, rows), (0x103, 3, 1), (0x106, 3, 2), (0x111, 16, 16), (0x115, 3, 3), (0x116, 4, rows),
              (0x117, 16, image.nbytes), (0x11C, 3, 1)]  # fmt: skip
    code = {3: "H6x", 4: "I4x", 16: "Q"}
    entries = {tag: struct.pack(order + "HHQ" + code[kind], tag, kind, 1, value) for tag, kind, value in inline}
    entries[0x102] = struct.pack(order + "HHQ3H2x", 0x102, 3, 3, 8, 8, 8)
    entries[0x10F] = struct.pack(order + "HHQQ", 0x10F, 2, len(maker), texts)
    table = struct.pack(order + "Q", count) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(8)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, begin)
    (tmp_path / "b.tif").write_bytes(head + image.tobytes() + table + maker)
    with Reader(tmp_path / "b.tif") as reader, Writer(tmp_path / "o.tif", like=reader) as writer:
        (frame,) = reader.frames()
        assert np.array_equal(frame.image, image)
        writer.write(frame)
    with Image.open(tmp_path / "o.tif") as written:
        assert written.getexif()[0x10F].rstrip("\0") == "A maker of scans"


@pytest.mark.parametrize("big", [False, True], ids=["tiff", "bigtiff"])
@pytest.mark.parametrize("order", "<>")
def test_a_tiff_that_says_something_twice_is_read_and_told(tmp_path, pattern, order, big):
    """As tifffile writes a description: the user's, and behind it its own."""
    image, first, second = pattern(0), b"of a user's\0", b'{"shape": [64, 96, 3]}\0'
    rows, columns, _ = image.shape
    wide, place, inline, head = (8, "Q", "Q", 16) if big else (2, "I", "H", 8)
    begin = head + image.nbytes
    texts = begin + wide + 11 * (20 if big else 12) + 8
    values = [(0x100, 4, 1, columns), (0x101, 4, 1, rows), (0x102, 3, 3, texts), (0x103, 3, 1, 1), (0x106, 3, 1, 2),
              (0x10E, 2, len(first), texts + 6), (0x10E, 2, len(second), texts + 6 + len(first)), (0x111, 4, 1, head),
              (0x115, 3, 1, 3), (0x116, 4, 1, rows), (0x117, 4, 1, image.nbytes)]  # fmt: skip
    if big:  # three short numbers stand in the entry itself there
        values[2] = (0x102, 3, 3, int.from_bytes(struct.pack(order + "4H", 8, 8, 8, 0), "little" if order == "<" else "big"))
    table = struct.pack(order + inline, len(values))
    for tag, kind, count, value in values:
        code = {3: "H", 4: "I"}[kind] if kind in (3, 4) and count == 1 else place
        table += struct.pack(order + "HH" + place, tag, kind, count) + struct.pack(order + code, value).ljust(
            8 if big else 4, b"\0"
        )
    mark = struct.pack(order + "HHHQ", 43, 8, 0, begin) if big else struct.pack(order + "HI", 42, begin)
    rest = struct.pack(order + "3H", 8, 8, 8) + first + second
    (tmp_path / "t.tif").write_bytes(
        (b"II" if order == "<" else b"MM") + mark + image.tobytes() + (table + bytes(8)).ljust(texts - begin, b"\0") + rest
    )
    with Reader(tmp_path / "t.tif") as reader, Writer(tmp_path / "o.tif", like=reader) as writer:
        (frame,) = reader.frames()
        assert np.array_equal(frame.image, image)
        writer.write(frame)
    assert reader.warnings == ["it has tags more than once (270): the first of each is read, and the others are left out"]
    with Image.open(tmp_path / "o.tif") as written:
        assert written.getexif()[0x10E].rstrip("\0") == "of a user's"


def test_a_grey_jpeg_has_one_channel_and_says_what_it_said(tmp_path, pattern):
    profile, image = b"\0" * 36 + b"acsp" + b"grey" * 50, pattern(0)[..., 1]
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    Image.fromarray(image).save(tmp_path / "g.jpg", quality=95, icc_profile=profile, dpi=(300, 300), exif=exif)
    Image.fromarray(image.astype(np.uint16) * 257).save(tmp_path / "g.png")
    for name in ("g.jpg", "g.png"):
        with Reader(tmp_path / name) as reader, Writer(tmp_path / f"o{name}.jpg", like=reader) as writer:
            for frame in reader.frames():
                writer.write(frame)
        with Image.open(tmp_path / f"o{name}.jpg") as written, Image.open(tmp_path / name) as source:
            assert written.mode == "L"
            off = np.abs(np.asarray(written).astype(int) - np.asarray(source) / (257 if name == "g.png" else 1))
            assert off.mean() < 1
            said = written.info.get("icc_profile"), written.info.get("dpi"), written.getexif().get(0x010F)
            assert said == ((None, None, None) if name == "g.png" else (profile, (300, 300), "Maker"))


def test_whoever_changes_the_folder_meanwhile_gets_all_pictures_where_they_were_asked_for(tmp_path, pattern, monkeypatch):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    with Writer("o%d.png") as writer:
        writer.write(Frame.from_image(pattern(0)))
        monkeypatch.chdir(tmp_path / "other")
        writer.write(Frame.from_image(pattern(1)))
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["o1.png", "o2.png"]


def test_an_animation_in_webp_is_refused_by_its_name(tmp_path, pattern):
    first, *others = (Image.fromarray(pattern(number)) for number in range(3))
    first.save(tmp_path / "a.webp", save_all=True, append_images=others, duration=40)
    with pytest.raises(DecodeError, match="an animation in WebP cannot be decoded here; convert it to GIF, or to a video"):
        Reader(tmp_path / "a.webp")


def test_a_video_of_pictures_with_a_profile_tells_that_it_has_none(tmp_path, pattern, carry):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for ending in ("png", "jpg"):
        for number in (1, 2):
            Image.fromarray(pattern(number)).save(tmp_path / f"s{number}.{ending}", icc_profile=profile)
        for codec, count in (("ffv1", 1), ("prores", 1), ("mjpeg", 0)):
            report = carry(
                tmp_path / f"s%d.{ending}", tmp_path / f"{ending}_{codec}.mov", f"media.codec={codec}", "media.container=mkv"
            )
            assert len([text for text in report.warnings if "(ICC)" in text]) == count, (ending, codec)
        with Image.open(tmp_path / f"s1.{ending}") as one, av.open(str(tmp_path / f"{ending}_mjpeg.mov")) as film:
            packet = next(packet for packet in film.demux(video=0) if packet.size)
            assert one.info["icc_profile"] == Image.open(io.BytesIO(bytes(packet))).info["icc_profile"]


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_xmp_that_is_left_out_is_told(tmp_path, pattern, carry, ending):
    said = PngImagePlugin.PngInfo()
    said.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options = {"png": {"pnginfo": said}, "tif": {"tiffinfo": {700: XMP}}}.get(ending, {"xmp": XMP})
    for name, more, count in (("with", options, 1), ("without", {}, 0)):
        Image.fromarray(pattern(0)).save(tmp_path / f"{name}1.{ending}", **more)
        for source, target in ((f"{name}1.{ending}", f"{name}.png"), (f"{name}%d.{ending}", f"{name}.mkv")):
            report = carry(tmp_path / source, tmp_path / f"of_{target}")
            assert len([text for text in report.warnings if "XMP" in text]) == count


def told(path) -> list[str]:
    with Reader(path) as reader:
        list(reader.frames())
        return [text for text in reader.warnings if "left out" in text]


def test_iptc_that_is_left_out_is_told(tmp_path, pattern):
    for name, record in (("with", b"\x1c\x02\x78\0\7caption"), ("without", b"")):
        iptc = b"Photoshop 3.0\0" + b"8BIM\4\4\0\0" + struct.pack(">I", len(record)) + record
        made = io.BytesIO()
        Image.fromarray(pattern(0)).save(made, "jpeg")
        jpeg = made.getvalue()
        (tmp_path / f"{name}.jpg").write_bytes(jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc + jpeg[2:])
    Image.fromarray(pattern(0)).save(tmp_path / "with.tif", tiffinfo={33723: b"\x1c\x02\x78\0\7caption"})
    assert told(tmp_path / "with.jpg") == told(tmp_path / "with.tif") == ["its IPTC data (captions, rights) are left out"]
    assert told(tmp_path / "without.jpg") == []


@pytest.mark.parametrize(("comment", "count"), [("by Anna", 1), ("CREATOR: gd-jpeg v1.0", 0), ("", 0)])
def test_comments_of_a_jpeg_that_are_left_out_are_told(tmp_path, pattern, comment, count):
    Image.fromarray(pattern(0)).save(tmp_path / "p.jpg", comment=comment)
    assert told(tmp_path / "p.jpg") == ["its texts (author, copyright, comments) are left out"] * count


@pytest.mark.parametrize(("keyword", "count"), [("Copyright", 1), ("parameters", 1), ("Software", 0), ("date:create", 0)])
@pytest.mark.parametrize("options", [{"zip": True}, {}])
def test_texts_of_a_png_that_are_left_out_are_told(tmp_path, pattern, keyword, count, options):
    said = PngImagePlugin.PngInfo()
    said.add_text(keyword, "by Anna", **options)
    Image.fromarray(pattern(0)).save(tmp_path / "p.png", pnginfo=said)
    assert told(tmp_path / "p.png") == ["its texts (author, copyright, comments) are left out"] * count


def test_what_stands_behind_a_large_png_is_told(tmp_path):
    said = PngImagePlugin.PngInfo()
    said.add_itxt("XML:com.adobe.xmp", XMP.decode())
    said.add(b"tEXt", b"Author\0Anna", after_idat=True)
    noise = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "p.png", pnginfo=said, compress_level=0)
    assert len(told(tmp_path / "p.png")) == 2


@pytest.mark.parametrize("ending", ["mpo", "jps", "tga"])
def test_a_file_that_holds_a_picture_is_one_whatever_it_is_called(tmp_path, pattern, ending):
    made = Image.fromarray(pattern(0))
    if ending == "tga":
        made.save(tmp_path / "p.tga")
    else:
        made.save(tmp_path / f"p.{ending}", "mpo", save_all=True, append_images=[made])
    with Reader(tmp_path / f"p.{ending}") as reader:
        assert reader.is_still and len(list(reader.frames())) == 1
    assert len([text for text in reader.warnings if "a JPEG holds 2 pictures" in text]) == (ending != "tga")


def of_several(jpeg: bytes, kinds, order: str) -> bytes:
    """A JPEG that says it holds pictures of these kinds (CIPA DC-007, 5.2.3)."""
    entries = b"".join(struct.pack(order + "IIIHH", kind, 1000, 0, 0, 0) for kind in kinds)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 3)
    tags = ((0xB000, 7, 4, 0x30313030), (0xB001, 4, 1, len(kinds)), (0xB002, 7, len(entries), 50))
    head += b"".join(struct.pack(order + "HHII", *one) for one in tags) + bytes(4)
    body = b"MPF\0" + head + entries
    return jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kinds", "count"), [((0x030000, 0), 2), ((0x030000, 0x020002, 0x020002), 3), ((0x030000, 0x010001), 1)])
def test_further_pictures_of_a_jpeg_are_told_and_thumbnails_are_none(tmp_path, pattern, carry, order, kinds, count):
    plain = save(tmp_path / "p.jpg", pattern(0)).read_bytes()
    (tmp_path / "s.jpg").write_bytes(of_several(plain, kinds, order))
    told = [text for text in carry(tmp_path / "s.jpg", tmp_path / "o.png").warnings if "a JPEG holds" in text]
    what = f"a JPEG holds {count} pictures (views, or what makes the first one HDR): only the first one is read"
    assert told == ([] if count == 1 else [what])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16"])
def test_a_png_with_a_profile_becomes_a_jpeg_with_it_and_its_exif(tmp_path, pattern, mode):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(pattern(0))
    image = Image.new("I;16", image.size, 20_000) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "s.png", icc_profile=profile, exif=camera("<", 1))
    for deliver in ("video", "side-by-side"):
        with (
            Reader(tmp_path / "s.png") as reader,
            Writer(tmp_path / "o.jpg", like=reader, deliver=deliver, overwrite=True) as writer,
        ):
            for frame in reader.frames():
                writer.write(frame)
        assert not [text for text in writer.warnings if "EXIF" in text or "ICC" in text]
        with Image.open(tmp_path / "o.jpg") as written:
            assert written.getexif()[0x010F].rstrip("\0") == "Maker"
            assert written.info["icc_profile"] == profile


@pytest.mark.parametrize(("ending", "side", "mode"), [("webp", 16_384, "RGB"), ("jpg", 65_501, "L"), ("jpg", 65_501, "RGB")])
def test_a_picture_that_is_too_large_for_its_file_is_told_so(tmp_path, carry, ending, side, mode):
    Image.new(mode, (2, side)).save(tmp_path / "s.png")
    with pytest.raises(EncodeError, match=f"a picture of 2x{side} is too large for .*use .png or .tif"):
        carry(tmp_path / "s.png", tmp_path / f"o.{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"]


@pytest.mark.parametrize(
    "torn", [b"II+\0", b"II+\0\x08\0\0\0" + b"\xff" * 8, b"MM\0+\0\x08\0\0" + bytes(7) + b"\x10" + b"\xff" * 40]
)
def test_a_big_tiff_that_points_to_nowhere_is_one_clear_line(tmp_path, torn):
    (tmp_path / "s.tif").write_bytes(torn)
    with pytest.raises(MediaError), Reader(tmp_path / "s.tif") as reader:
        list(reader.frames())


@pytest.mark.parametrize(
    ("mode", "space", "ending", "pix_fmt", "kept"),
    [
        ("CMYK", b"CMYK", "jpg", None, False), ("CMYK", b"CMYK", "png", None, False), ("L", b"GRAY", "tif", None, True),
        ("L", b"GRAY", "jpg", "yuvj444p", False), ("RGB", b"RGB ", "png", "gray", False), ("L", b"RGB ", "jpg", None, True),
        ("RGB", b"RGB ", "jpg", "gray", False),
    ],
)  # fmt: skip
def test_a_profile_that_is_not_about_the_numbers_is_left_out_and_told(tmp_path, pattern, mode, space, ending, pix_fmt, kept):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:16] + space + profile[20:]
    Image.fromarray(pattern(0)).convert(mode).save(tmp_path / "s.jpg", icc_profile=profile)
    with Reader(tmp_path / "s.jpg") as reader, Writer(tmp_path / f"o.{ending}", like=reader, pix_fmt=pix_fmt) as writer:
        for frame in reader.frames():
            writer.write(frame)
    with Image.open(tmp_path / f"o.{ending}") as written:
        assert (written.info.get("icc_profile") == profile) == kept
        assert (written.mode == "L") == (pix_fmt == "gray" or (mode == "L" and pix_fmt is None))
    assert len([text for text in writer.warnings if "profile (ICC) is left out" in text]) == (not kept)


def test_a_profile_of_a_jpeg_2000_is_told_as_left_out(tmp_path, pattern, carry):
    Image.fromarray(pattern(0)).save(tmp_path / "plain.jp2")
    data = (tmp_path / "plain.jp2").read_bytes()
    at, header = data.index(b"colr") - 4, data.index(b"jp2h") - 4
    (size,), (whole,) = (struct.unpack_from(">I", data, place) for place in (at, header))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    box = struct.pack(">I4s3B", len(profile) + 11, b"colr", 2, 0, 0) + profile
    data = data[:header] + struct.pack(">I", whole - size + len(box)) + data[header + 4 : at] + box + data[at + size :]
    (tmp_path / "profiled.jp2").write_bytes(data)
    for name, told in (("plain", []), ("profiled", ["its colour profile (ICC) is left out: its colours may be shown differently"])):
        assert carry(tmp_path / f"{name}.jp2", tmp_path / f"{name}.png").warnings == told


def test_floats_that_become_code_values_keep_what_a_tiff_says_and_tell_that_its_profile_goes(tmp_path, pattern, carry):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = (pattern(0).astype("<f4") / 255).tobytes()
    tags = {256: (3, 96), 257: (3, 64), 258: (3, 32, 32, 32), 259: (3, 1), 262: (3, 2), 273: (4, 8), 277: (3, 3), 278: (3, 64)}
    about = {34675: (7, *profile), 34855: (3, 400)}  # and the film's speed
    tiff_of(tmp_path / "s.tif", data, tags | {279: (4, len(data)), 339: (3, 3, 3, 3)} | about)
    for ending in ("png", "tif"):
        report = carry(tmp_path / "s.tif", tmp_path / f"o.{ending}")
        assert len([text for text in report.warnings if "profile (ICC) is left out" in text]) == 1
        with Image.open(tmp_path / f"o.{ending}") as made:
            assert made.getexif()[34855] == 400 and "icc_profile" not in made.info


@pytest.mark.parametrize("associated", [1, 2])
def test_floats_with_alpha_that_become_code_values_keep_what_a_tiff_says(tmp_path, pattern, carry, associated):
    covered = np.full((64, 96, 1), 0.5, "<f4")
    colours = pattern(0).astype("<f4") / 255
    data = np.dstack([colours * covered if associated == 1 else colours, covered]).tobytes()
    tags = {256: (3, 96), 257: (3, 64), 258: (3, 32, 32, 32, 32), 259: (3, 1), 262: (3, 2), 273: (4, 8), 277: (3, 4), 278: (3, 64)}
    tags |= {279: (4, len(data)), 338: (3, associated), 339: (3, 3, 3, 3, 3), 34855: (3, 400)}
    tiff_of(tmp_path / "s.tif", data, tags)
    shown = []
    for ending in ("png", "tif"):
        carry(tmp_path / "s.tif", tmp_path / f"o.{ending}")
        with Reader(tmp_path / f"o.{ending}") as reader, Image.open(tmp_path / f"o.{ending}") as made:
            (frame,) = reader.frames()
            shown.append(frame.image)
            assert made.getexif()[34855] == 400
    assert tiff.first_tags((tmp_path / "o.tif").read_bytes())[338] == 2
    assert np.array_equal(*shown)


@pytest.mark.parametrize("opacity", [100, 255])
@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg", "exr"])
def test_the_transparency_of_a_palette_stays_or_is_told(tmp_path, pattern, opacity, ending):
    Image.fromarray(pattern(0)).convert("P").save(tmp_path / "s.png", transparency=bytes([opacity]) * 256)
    with Reader(tmp_path / "s.png") as reader, Writer(tmp_path / f"o.{ending}", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    told = [text for text in writer.warnings if "transparency" in text]
    assert len(told) == (opacity < 255 and ending == "jpg")
    if opacity < 255 and not told:
        with av.open(str(tmp_path / f"o.{ending}")) as container:
            (frame,) = container.decode(video=0)
        alpha = opacity_of(frame, Picture(frame).colour) if frame.format.name != "pal8" else None
        assert alpha is None or np.allclose(alpha, opacity / 255, atol=0.002)


def test_layers_of_photoshop_do_not_outlive_their_picture(tmp_path, pattern, carry):
    layers = TiffImagePlugin.ImageFileDirectory_v2()
    layers[37724] = b"Adobe Photoshop Document Data Block\0MIB8ryaL" + struct.pack("<I", 4) + bytes(64)
    layers[305] = "Photoshop"
    layers.tagtype[37724] = 7
    Image.fromarray(pattern(0)).save(tmp_path / "s.tif", tiffinfo=layers)
    report = carry(tmp_path / "s.tif", tmp_path / "o.tif")
    assert len([text for text in report.warnings if "Photoshop layers" in text]) == 1
    assert b"Document Data Block" in (tmp_path / "s.tif").read_bytes()
    assert b"Document Data Block" not in (tmp_path / "o.tif").read_bytes()


@pytest.mark.parametrize(
    ("order", "block", "holds"), [("<", b"MIB8ryaL", True), (">", b"8BIMLr16", True), ("<", b"MIB8ttaP", False)]
)
def test_layers_of_photoshop_are_known(order, block, holds):
    document = b"Adobe Photoshop Document Data Block\0"
    for key in (b"8BIMPatt" if order == ">" else b"MIB8ttaP", block):
        document += key + struct.pack(order + "I", 5) + bytes(8)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IHHHIII", 8, 1, 37724, 7, len(document), 26, 0)
    assert tiff.has_layers(head + document) == holds
    assert not any(tiff.has_layers((head + document)[:length]) for length in (4, 20, 26, 60))


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one chunk more behind its header."""
    body = name + content
    return png[:33] + struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body)) + png[33:]


@pytest.mark.parametrize("ending", ["jpg", "tif", "png"])
@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (b"eXIf", b"no EXIF", "EXIF data"),
        (b"eXIf", camera("<", 1)[:30], "EXIF data"),
        (b"iCCP", b"icc\0\0no profile", "colour profile (ICC)"),
    ],
)
def test_a_png_is_read_without_what_is_damaged_beside_its_pixels(tmp_path, pattern, name, content, what, ending):
    plain = save(tmp_path / "p.png", pattern(0)).read_bytes()
    (tmp_path / "s.png").write_bytes(with_chunk(plain, name, content))
    with Reader(tmp_path / "s.png") as reader, Writer(tmp_path / f"o.{ending}", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert reader.warnings == [f"its {what} cannot be read: damaged, and left out"]
    with Image.open(tmp_path / f"o.{ending}") as made:
        assert np.abs(np.asarray(made, np.int16) - pattern(0)).mean() < 3 and 0x10F not in made.getexif()


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_exif_that_begins_as_that_of_a_jpeg_is_read(tmp_path, pattern, ending):
    exif = b"Exif\0\0" + camera("<", 6)
    save(tmp_path / f"s.{ending}", pattern(0))
    if ending == "png":
        (tmp_path / "s.png").write_bytes(with_chunk((tmp_path / "s.png").read_bytes(), b"eXIf", exif))
    else:
        Image.fromarray(pattern(0)).save(tmp_path / "s.webp", exif=b"II*\0" + bytes(len(exif) - 4))
        data = (tmp_path / "s.webp").read_bytes()
        (tmp_path / "s.webp").write_bytes(data.replace(b"II*\0" + bytes(len(exif) - 4), exif))
    with Reader(tmp_path / f"s.{ending}") as reader, Writer(tmp_path / "o.jpg", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    with Image.open(tmp_path / "o.jpg") as made:
        assert made.size == pattern(0).shape[:2] and made.getexif()[0x10F] and not [*reader.warnings, *writer.warnings]


def test_exif_that_fits_no_jpeg_is_told(tmp_path, pattern, monkeypatch):
    plain = save(tmp_path / "p.jpg", pattern(0)).read_bytes()
    (tmp_path / "t.jpg").write_bytes(with_exif(plain, camera("<", 1)))
    monkeypatch.setattr("videoclr.media.stills.LONGEST", 20)
    with Reader(tmp_path / "t.jpg") as reader, Writer(tmp_path / "o.jpg", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert [text for text in writer.warnings if "longer than a JPEG's segment" in text]
    assert b"Exif" not in (tmp_path / "o.jpg").read_bytes()

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from videoclr.errors import ConfigError, EncodeError, MediaError
from videoclr.media import film
from videoclr.media.encoders import ENCODERS
from videoclr.media.layout import layout_of
from videoclr.media.orientation import payload
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Frame, Patch

VFR = (7, 40, 73, 120, 121, 500, 733, 1001)


def copy(source, target, change=lambda frame: frame, start=None, end=None, **settings):
    with Reader(source, start, end) as reader, Writer(target, like=reader, preset=None, **settings) as writer:
        for frame in reader.frames():
            writer.write(change(frame))
    return writer


def times(path):
    with Reader(path) as reader:
        return [frame.time for frame in reader.frames()]


def planes(path):
    with av.open(str(path)) as container:
        return [[bytes(plane) for plane in frame.planes] for frame in container.decode(video=0)]


@pytest.mark.parametrize("settings", [{"options": {"bf": "many"}}, {}])
def test_an_encoder_that_gets_no_memory_says_so(tmp_path, monkeypatch, pattern, settings):
    monkeypatch.setattr(film, "is_memory_short", lambda error, size: size > 96 * 64)
    if not settings:  # at its first picture, not when it is opened
        monkeypatch.setattr(film.Film, "_packets", lambda *_: av.error.err_check(-12))
    words = "too little memory to encode 96x64 with libx264; end other programs"
    with pytest.raises(EncodeError, match=words), Writer(tmp_path / "o.mp4", **settings) as writer:
        writer.write(Frame.from_image(pattern(0)))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("codec", ["prores", "ffv1", "av1", "vp9", "mjpeg"])
def test_mpeg_ts_refuses_pictures_that_nobody_could_read_again(clip, tmp_path, codec):
    with pytest.raises(MediaError, match=r"mpegts does not hold \w+ video; use \.mkv or \.\w+, or choose another codec"):
        copy(clip("s.mp4", ticks=range(2)), tmp_path / "o.ts", codec=codec)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


@pytest.mark.parametrize("codec", ["hevc", "av1", "vp9", "mjpeg"])
def test_mxf_says_before_the_first_frame_which_codecs_it_takes(clip, tmp_path, codec):
    with pytest.raises(MediaError, match=r"mxf does not hold \w+ video; use \.mkv or \.\w+, or the codec prores, dnxhr, h264 or "):
        copy(clip("s.mp4", ticks=range(2)), tmp_path / "o.mxf", codec=codec)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


@pytest.mark.parametrize("codec", ["prores", "dnxhr", "h264", "ffv1"])
def test_mxf_takes_the_codecs_that_it_advises(clip, frames_of, tmp_path, codec):
    copy(clip("s.mp4", ticks=range(2), size=(320, 240)), tmp_path / "o.mxf", codec=codec)
    assert len(frames_of(tmp_path / "o.mxf")) == 2


@pytest.mark.parametrize(("ending", "pix_fmt"), [("mov", "yuv420p"), ("avi", "yuv422p10le"), ("mkv", "gbrp10le"), ("mp4", "rgb24")])
def test_raw_pictures_are_refused_where_the_container_has_no_name_for_them(clip, tmp_path, ending, pix_fmt):
    with pytest.raises(MediaError, match=rf"raw pictures in {pix_fmt} are not read again out of \w+; use \.nut"):
        copy(clip("s.mp4", ticks=range(2)), tmp_path / f"o.{ending}", codec="rawvideo", pix_fmt=pix_fmt)


@pytest.mark.parametrize(
    ("ending", "pix_fmt"),
    [("mov", "uyvy422"), ("mov", "rgb24"), ("avi", "yuv420p"), ("avi", "bgra"), ("mkv", "yuv420p"), ("nut", "gbrp10le")],
)
def test_raw_pictures_are_read_again_as_they_were(clip, tmp_path, ending, pix_fmt):
    source = clip("s.mp4", ticks=range(2))
    for name in ("a.nut", f"o.{ending}"):
        copy(source, tmp_path / name, codec="rawvideo", pix_fmt=pix_fmt)
    with Reader(tmp_path / "a.nut") as one, Reader(tmp_path / f"o.{ending}") as other:
        for before, after in zip(one.frames(), other.frames(), strict=True):
            if pix_fmt == "yuv420p":  # where its chroma lies, only some containers say
                assert np.array_equal(before.native.frame.to_ndarray(), after.native.frame.to_ndarray())
            else:
                assert np.array_equal(before.image, after.image)


@pytest.mark.parametrize("ending", ["mp4", "mov", "nut", "ts"])
@pytest.mark.parametrize(
    ("ticks", "base"),
    [
        (VFR, Fraction(1, 1000)),
        (range(0, 10010, 1001), Fraction(1, 30000)),
        (range(4004, 14014, 1001), Fraction(1, 30000)),
    ],
    ids=["vfr", "ntsc", "late"],
)
def test_presentation_times_come_out_exactly_as_they_went_in(clip, tmp_path, ending, ticks, base):
    source = clip("s.nut", ticks=ticks, base=base, container="nut", muxing={"avoid_negative_ts": "0"})
    assert times(source) == [tick * base for tick in ticks]
    writer = copy(source, tmp_path / f"o.{ending}")
    assert times(tmp_path / f"o.{ending}") == times(source)
    assert writer.warnings == []


def test_matroska_rounds_to_a_millisecond_and_says_so(clip, tmp_path):
    source = clip("s.mp4", ticks=range(0, 10010, 1001), base=Fraction(1, 30000))
    writer = copy(source, tmp_path / "o.mkv")
    assert all(abs(a - b) <= Fraction(1, 2000) for a, b in zip(times(source), times(tmp_path / "o.mkv"), strict=True))
    assert any("rounds times" in text for text in writer.warnings)


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_every_sound_and_subtitle_packet_is_copied_bit_for_bit(clip, tmp_path, packets_of, ending):
    subtitles = ending == "mkv"
    source = clip(f"s.{ending}", ticks=range(25), audio=2, subtitles=subtitles)
    target = tmp_path / f"o.{ending}"
    copy(source, target)
    for kind, streams in (("audio", 2), ("subtitle", 1 if subtitles else 0)):
        before, after = packets_of(source, kind), packets_of(target, kind)
        assert len(before) == len(after) == streams
        assert before == after
        assert all(stream for stream in before)


def test_start_and_end_cut_sound_and_picture_alike_and_begin_at_zero(clip, tmp_path, packets_of):
    source = clip("s.mkv", ticks=range(50), audio=1, subtitles=True)
    target = tmp_path / "o.mkv"
    copy(source, target, start="0.2", end="1.2")
    assert times(target) == [Fraction(tick, 25) for tick in range(25)]
    (before,), (after,) = packets_of(source, "audio"), packets_of(target, "audio")
    cut = [(data, time) for data, time in before if Fraction(1, 5) <= time < Fraction(6, 5)]
    assert [data for data, _ in after] == [data for data, _ in cut]
    assert all(abs(a[1] - (b[1] - Fraction(1, 5))) <= Fraction(1, 1000) for a, b in zip(after, cut, strict=True))
    (words,) = packets_of(target, "subtitle")
    assert words == [(b"two", 0)], "it shows already at the start, so it begins there"


def test_a_shift_of_zero_keeps_the_sources_clock(clip, tmp_path):
    source = clip("s.mp4", ticks=range(30))
    copy(source, tmp_path / "o.mp4", start="0.4", shift=Fraction(0))
    assert times(tmp_path / "o.mp4") == [Fraction(tick, 25) for tick in range(10, 30)]


def test_sound_and_subtitles_can_be_left_out(clip, tmp_path, packets_of):
    source = clip("s.mkv", audio=1, subtitles=True)
    copy(source, tmp_path / "o.mkv", drop=["audio", "subtitles"])
    assert packets_of(tmp_path / "o.mkv", "audio") == packets_of(tmp_path / "o.mkv", "subtitle") == []


def test_a_stream_that_does_not_fit_names_a_container_that_takes_it(clip, tmp_path):
    source = clip("s.mkv", subtitles=True)
    with pytest.raises(MediaError, match=r"subrip.*use \.mkv"):
        copy(source, tmp_path / "o.nut")
    with pytest.raises(MediaError, match=r"webm does not hold h264.*use \.mkv"):
        copy(source, tmp_path / "o.webm", drop=["subtitles"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.mkv"]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_stays_a_tag(clip, tmp_path, ending, rotation):
    source, target = clip("s.mp4", rotation=rotation), tmp_path / f"o.{ending}"
    copy(source, target, crf=1)
    with Reader(source) as a, Reader(target) as b:
        assert (a.info.rotation, a.info.width, a.info.height) == (b.info.rotation, b.info.width, b.info.height)
        assert a.info.rotation == -rotation % 360
        assert np.abs(next(a.frames()).image.astype(int) - next(b.frames()).image).mean() < 2


def test_a_container_without_rotation_gets_upright_pictures(clip, tmp_path):
    source, target = clip("s.mp4", rotation=-90), tmp_path / "o.nut"
    copy(source, target, codec="ffv1")
    with Reader(source) as a, Reader(target) as b:
        assert (b.info.rotation, b.info.width, b.info.height) == (0, 64, 96)
        layout = layout_of("yuv420p")
        for old, new in zip(a.frames(), b.frames(), strict=True):
            for index in range(3):
                stored, shown = layout.view(old.native.frame, index), layout.view(new.native.frame, index)
                assert np.array_equal(shown, np.rot90(stored, -1))


def test_aspect_colour_metadata_and_chapters_are_kept(clip, tmp_path):
    def setup(container, stream):
        context = stream.codec_context
        context.sample_aspect_ratio = Fraction(4, 3)
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        container.metadata["title"] = "Test"
        container.set_chapters([{"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "First"}}])

    source, target = clip("s.mkv", setup=setup), tmp_path / "o.mp4"
    copy(source, target)
    with Reader(target) as reader:
        info = reader.info
        assert (info.sample_aspect, info.matrix, info.primaries, info.transfer) == (Fraction(4, 3), *["bt709"] * 3)
        assert reader.container.metadata["title"] == "Test"
        assert reader.container.chapters()[0]["metadata"]["title"] == "First"


def test_full_range_survives(clip, tmp_path):
    copy(clip("s.mkv", pix_fmt="yuvj420p"), tmp_path / "o.mp4")
    with Reader(tmp_path / "o.mp4") as reader:
        assert reader.info.full_range


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_lossless_output_is_bit_identical_outside_the_patch(clip, tmp_path, pix_fmt):
    source = clip("s.mkv", codec="ffv1", pix_fmt=pix_fmt)
    deep = "10" in pix_fmt
    face = np.zeros((20, 30, 3), np.uint16 if deep else np.uint8)
    patch = Patch(20, 16, face, np.ones((20, 30), np.float32))
    changed = {3, 4}
    writer = copy(source, tmp_path / "o.mkv", lambda f: f.with_patches([patch]) if f.index in changed else f, codec="ffv1")
    assert writer.warnings == []
    with Reader(source) as a, Reader(tmp_path / "o.mkv") as b:
        assert b.info.pixel_format == pix_fmt
        for old, new in zip(a.frames(), b.frames(), strict=True):
            for old_plane, new_plane in zip(old.native.frame.planes, new.native.frame.planes, strict=True):
                shape = (old_plane.height, old_plane.line_size)
                x = np.frombuffer(memoryview(old_plane), np.uint8).reshape(shape).copy()
                y = np.frombuffer(memoryview(new_plane), np.uint8).reshape(new_plane.height, new_plane.line_size).copy()
                wide = old_plane.width * (2 if deep else 1)
                x, y = x[:, :wide], y[:, :wide]
                down, right = 64 // x.shape[0], 96 * (2 if deep else 1) // wide
                unit = 2 if deep else 1
                inside = np.zeros(x.shape, bool)
                inside[16 // down : 36 // down, 20 * unit // right : 50 * unit // right] = old.index in changed
                assert np.array_equal(x[~inside], y[~inside])
                assert old.index not in changed or not np.array_equal(x[inside], y[inside])


@pytest.mark.parametrize(("codec", "ending"), [("h264", "mp4"), ("hevc", "mp4"), ("ffv1", "mkv"), ("prores", "mov")])
def test_ten_bits_stay_ten_bits(clip, tmp_path, codec, ending):
    source = clip("s.mkv", codec="ffv1", pix_fmt="yuv422p10le")
    copy(source, tmp_path / f"o.{ending}", codec=codec)
    with Reader(tmp_path / f"o.{ending}") as reader:
        assert reader.info.pixel_format == "yuv422p10le"


@pytest.mark.parametrize(
    ("codec", "ending", "settings"),
    [("av1", "mp4", {"preset": "12"}), ("vp9", "webm", {}), ("mjpeg", "mov", {}), ("hevc", "mov", {"crf": 30})],
)
def test_every_codec_writes_what_can_be_read(clip, tmp_path, codec, ending, settings):
    source, target = clip("s.mp4", ticks=range(4)), tmp_path / f"o.{ending}"
    with Reader(source) as reader, Writer(target, like=reader, codec=codec, **settings) as writer:
        for frame in reader.frames():
            writer.write(frame)
    with Reader(source) as a, Reader(target) as b:
        pairs = list(zip(a.frames(), b.frames(), strict=True))
        assert all(np.abs(x.image.astype(int) - y.image).mean() < 6 for x, y in pairs)


def test_hevc_in_mp4_is_tagged_for_apple(clip, tmp_path):
    copy(clip("s.mp4", ticks=range(3)), tmp_path / "o.mp4", codec="hevc")
    assert b"hvc1" in (tmp_path / "o.mp4").read_bytes()


def test_hdr10_metadata_goes_through_hevc_and_is_missed_elsewhere(clip, tmp_path):
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    params = f"log-level=none:hdr10=1:repeat-headers=1:master-display={display}:max-cll=1000,400"
    source = clip("s.mkv", codec="libx265", pix_fmt="yuv420p10le", ticks=range(3), options={"x265-params": params})
    copy(source, tmp_path / "o.mp4", codec="hevc")
    with Reader(source) as a, Reader(tmp_path / "o.mp4") as b:
        for kind in (Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL):
            before, after = (payload(reader.first_picture.frame, kind) for reader in (a, b))
            assert before is not None
            assert before == after
    writer = copy(source, tmp_path / "o.mkv", codec="ffv1")
    assert any("HDR10" in text for text in writer.warnings)


def test_equal_runs_give_equal_bytes(clip, tmp_path):
    source = clip("s.mp4", audio=1)
    for ending in ("mkv", "mp4"):
        copy(source, tmp_path / f"a.{ending}")
        copy(source, tmp_path / f"b.{ending}")
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_frames_of_ones_own_need_no_source(tmp_path, pattern):
    step = Fraction(1001, 24000)
    with Writer(tmp_path / "o.mp4", crf=5) as writer:
        for index in range(6):
            writer.write(Frame.from_image(pattern(index, 96, 720), index, index * step))
    with Reader(tmp_path / "o.mp4") as reader:
        frames = list(reader.frames())
        assert reader.info.matrix == "bt709"
        assert reader.first_picture.frame.colorspace == 1
    assert [frame.time for frame in frames] == [index * step for index in range(6)]
    assert np.abs(frames[2].image.astype(int) - pattern(2, 96, 720)).mean() < 3


@pytest.mark.parametrize("name", ["o.mp4", "o.avi"])
def test_times_of_a_clock_need_no_rate_that_can_be_counted(tmp_path, pattern, name):
    with Writer(tmp_path / name) as writer:
        for index, seconds in enumerate((0.0, 0.033412345678912, 0.06661234567891)):
            writer.write(Frame.from_image(pattern(index), index, seconds))
    with Reader(tmp_path / name) as reader:
        assert np.diff([float(frame.time) for frame in reader.frames()]) == pytest.approx(0.0333, abs=1e-3)


def test_a_file_gets_its_name_though_the_program_goes_to_another_folder(tmp_path, pattern, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    with Writer("o.mkv") as writer:
        writer.write(Frame.from_image(pattern(0), 0))
        monkeypatch.chdir(tmp_path / "there")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["o.mkv", "there"]


def test_nanoseconds_for_seconds_are_told(tmp_path, pattern):
    with pytest.raises(EncodeError, match="times are seconds"), Writer(tmp_path / "o.mp4") as writer:
        for index in range(2):
            writer.write(Frame.from_image(pattern(0), index, 1_764_480_000_000_000_000 + index * 40_000_000))
    assert list(tmp_path.iterdir()) == []


def test_one_frame_is_a_video_too(tmp_path, pattern):
    with Writer(tmp_path / "o.mp4") as writer:
        writer.write(Frame.from_image(pattern(0)))
    assert len(times(tmp_path / "o.mp4")) == 1


def test_changed_images_of_a_rotated_source_stay_upright(clip, tmp_path):
    source, target = clip("s.mp4", rotation=-90), tmp_path / "o.mp4"
    copy(source, target, lambda frame: Frame.from_image(frame.image, frame.index, frame.time), crf=1)
    with Reader(source) as a, Reader(target) as b:
        assert b.info.rotation == 90
        # A round trip through RGB blurs the colour a little; a wrong turn would cost more than 20.
        assert np.abs(next(a.frames()).image.astype(int) - next(b.frames()).image).mean() < 4


def test_enlarged_frames_make_an_enlarged_video(clip, tmp_path, packets_of):
    source, target = clip("s.mp4", audio=1), tmp_path / "o.mp4"

    def enlarge(frame):
        return Frame.from_image(np.repeat(np.repeat(frame.image, 2, 0), 2, 1), frame.index, frame.time)

    copy(source, target, enlarge)
    with Reader(target) as reader:
        assert (reader.info.width, reader.info.height) == (192, 128)
    assert packets_of(source, "audio") == packets_of(target, "audio")


def test_odd_sizes_and_rgb_sources_find_a_format(clip, tmp_path):
    copy(clip("a.mkv", codec="ffv1", size=(95, 63)), tmp_path / "a.mp4")
    copy(clip("b.mkv", codec="ffv1", pix_fmt="bgr0"), tmp_path / "b.mp4")
    with Reader(tmp_path / "a.mp4") as a, Reader(tmp_path / "b.mp4") as b:
        assert (a.info.width, a.info.height, a.info.pixel_format) == (95, 63, "yuv444p")
        assert b.info.pixel_format == "yuv420p"


def test_negative_times_are_moved_and_told(tmp_path, pattern):
    with Writer(tmp_path / "o.mp4") as writer:
        for index in range(5):
            writer.write(Frame.from_image(pattern(index), index, Fraction(index - 2, 25)))
    assert times(tmp_path / "o.mp4") == [Fraction(index, 25) for index in range(5)]
    assert any("later" in text for text in writer.warnings)


def test_times_that_do_not_grow_are_refused(tmp_path, pattern):
    with pytest.raises(EncodeError, match="not after"), Writer(tmp_path / "o.mp4") as writer:
        for time in (0, 1, 1):
            writer.write(Frame.from_image(pattern(0), 0, Fraction(time, 25)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["o.mp4", "o.png"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"deliver": "foo"}, r"\$\.media\.deliver: expected video, overlay, matte, side-by-side, wipe, got 'foo'"),
        ({"drop": ("audio", "foo")}, r"\$\.media\.drop: unknown 'foo'; known here: audio, subtitles"),
        ({"drop": (3,)}, r"\$\.media\.drop: unknown 3"),
        ({"drop": "audio"}, r"\$\.media\.drop: expected a list, got 'audio'"),
    ],
)
def test_what_nobody_knows_is_refused_when_the_writer_is_made(tmp_path, name, wrong, message):
    with pytest.raises(ConfigError, match=message):
        Writer(tmp_path / name, **wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["o.mp4", "o.png", "f%d.png"])
def test_a_writer_writes_inside_its_block_alone_and_once(tmp_path, pattern, name):
    frame = Frame.from_image(pattern(0), 0)
    writer = Writer(tmp_path / name)
    for early in (lambda: writer.write(frame), writer.finish):
        with pytest.raises(MediaError, match="nothing can be written: the writer begins with its `with` block"):
            early()
    with writer:
        writer.write(frame)
        writer.finish()
        kept = [path.read_bytes() for path in tmp_path.iterdir()]
    for late in (lambda: writer.write(frame), writer.finish):
        with pytest.raises(MediaError, match="nothing can be written: the writer is over; make another one"):
            late()
    with pytest.raises(MediaError, match="was used already; make another one"):
        writer.__enter__()
    writer.abort()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == kept and len(kept) == 1


def test_a_writer_that_was_aborted_leaves_nothing_and_takes_nothing(tmp_path, pattern):
    with Writer(tmp_path / "o.mp4") as writer:
        writer.write(Frame.from_image(pattern(0), 0))
        writer.abort()
        with pytest.raises(MediaError, match="the writer is over"):
            writer.write(Frame.from_image(pattern(1), 1))
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_carries_picture_and_sound_through(clip, tmp_path, packets_of):
    source = clip("s.nut", audio=1, container="nut", ticks=range(50))
    code = (
        "from videoclr.media.reader import Reader\nfrom videoclr.media.writer import Writer\n"
        "with Reader('-') as r, Writer('-', like=r) as w:\n"
        "    for f in r.frames(): w.write(f)\n"
    )
    with source.open("rb") as data:
        done = subprocess.run([sys.executable, "-c", code], stdin=data, capture_output=True, check=True)
    target = tmp_path / "o.nut"
    target.write_bytes(done.stdout)
    before, after = times(source), times(target)
    assert [time - before[0] for time in before] == [time - after[0] for time in after]
    assert [data for data, _ in packets_of(source, "audio")[0]] == [data for data, _ in packets_of(target, "audio")[0]]


@pytest.mark.parametrize(("name", "container", "told"), [("o.mp4", "mkv", True), ("o.mkv", "mkv", False), ("o.film", "mkv", False)])
def test_a_container_of_another_name_is_told(clip, tmp_path, name, container, told):
    with Reader(clip("s.mp4")) as reader, Writer(tmp_path / name, like=reader, container=container) as writer:
        for frame in reader.frames():
            writer.write(frame)
    with av.open(str(tmp_path / name)) as result:
        assert "matroska" in result.format.name
    assert [text for text in writer.warnings if "inside" in text] == (
        ["is matroska inside, as the container says, and not what programs take .mp4 for"] if told else []
    )


def test_a_pipe_whose_reader_leaves_is_one_line(clip):
    source = clip("s.mp4", ticks=range(60), codec="ffv1", container="nut")
    code = (
        "import sys\nfrom videoclr.errors import MediaError\n"
        "from videoclr.media.reader import Reader\nfrom videoclr.media.writer import Writer\n"
        "try:\n"
        "    with Reader(sys.argv[1]) as r, Writer('-', like=r, codec='ffv1') as w:\n"
        "        for f in r.frames(): w.write(f)\n"
        "except MediaError as e: print(e, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read().decode().strip() == (
            "-: cannot be written: the program at the other end of the pipe stopped reading"
        )


class Boom(Exception):
    pass


def test_an_exception_leaves_nothing_behind_and_the_old_file_alone(clip, tmp_path):
    source, target = clip("s.mp4", audio=1), tmp_path / "o.mp4"
    target.write_bytes(b"old")
    with pytest.raises(Boom), Reader(source) as reader, Writer(target, like=reader, overwrite=True) as writer:
        for frame in reader.frames():
            writer.write(frame)
            assert (tmp_path / "o.mp4.part").exists()
            raise Boom
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "s.mp4"]
    assert target.read_bytes() == b"old"


def test_an_input_by_the_name_of_the_growing_file_is_not_written_over(clip, tmp_path):
    source = clip("s.mp4").rename(tmp_path / "o.mp4.part")
    before = source.read_bytes()
    with Reader(source) as reader, pytest.raises(MediaError, match=r"o\.mp4: grows as o\.mp4\.part, which is the input"):
        Writer(tmp_path / "o.mp4", like=reader)
    assert source.read_bytes() == before


def test_existing_targets_and_the_input_itself_are_protected(clip, tmp_path):
    source = clip("s.mp4")
    link = tmp_path / "link.mp4"
    link.symlink_to(source)
    other = tmp_path / "there.mp4"
    other.write_bytes(b"x")
    with Reader(source) as reader:
        with pytest.raises(MediaError, match="exists already"):
            Writer(other, like=reader)
        for same in (source, link):
            with pytest.raises(MediaError, match="is the input itself"):
                Writer(same, like=reader, overwrite=True)
        with pytest.raises(MediaError, match="is a directory"):
            Writer(tmp_path, like=reader, overwrite=True)
        with pytest.raises(MediaError, match="does not exist"):
            Writer(tmp_path / "none" / "o.mp4", like=reader)
        with pytest.raises(MediaError, match="ending"):
            Writer(tmp_path / "o.xyz", like=reader)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_told(clip, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with Reader(clip("s.mp4")) as reader, pytest.raises(MediaError, match="may not be written to"):
        Writer(closed / "o.mp4", like=reader)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"codec": "h265"}, "unknown codec.*hevc"), ({"preset": "warp"}, "libx264 has no preset 'warp'; it has ultrafast, .*placebo"),
     ({"codec": "ffv1", "crf": 3}, "media.crf"), ({"crf": 1000}, r"^\$\.media\.crf: libx264 takes 0 to 51, got 1000$"),
     ({"codec": "av1", "preset": "fast"}, "libsvtav1 has no preset 'fast'; it has -2, -1, 0, .*13$"),
     ({"crf": -1}, "0 to 51, got -1"), ({"codec": "av1", "crf": 64}, "libsvtav1 takes 1 to 63, got 64"),
     ({"codec": "mjpeg", "crf": 0.5}, "mjpeg takes 1 to 69, got 0.5"), ({"pix_fmt": "rgb24"}, "media.pix_fmt.*yuv420p"),
     ({"container": "zip"}, "media.container")],
)  # fmt: skip
def test_bad_settings_are_refused_before_the_first_frame(clip, tmp_path, settings, words):
    with (
        Reader(clip("s.mkv")) as reader,
        pytest.raises(ConfigError, match=words),
        Writer(tmp_path / "o.mkv", like=reader, **settings),
    ):
        pytest.fail("the block must not be entered")
    assert [path.name for path in tmp_path.iterdir()] == ["s.mkv"]


@pytest.mark.parametrize("limit", [200, 20_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(clip, tmp_path, limit):
    source = clip("s.mkv", codec="ffv1", ticks=range(40))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(MediaError, match="beyond the allowed size") as caught, Reader(source) as reader:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            with Writer(tmp_path / "o.mkv", like=reader, codec="ffv1") as writer:
                for frame in reader.frames():
                    writer.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mkv"]


def test_no_frame_at_all_is_an_error(clip, tmp_path):
    with (
        Reader(clip("s.mp4")) as reader,
        pytest.raises(EncodeError, match="no frame"),
        Writer(tmp_path / "o.mp4", like=reader),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


def test_untouched_frames_are_never_turned_into_rgb(clip, tmp_path, monkeypatch):
    def refuse(self):
        raise AssertionError("RGB was made")

    monkeypatch.setattr("videoclr.media.picture.Picture.rgb", refuse)
    copy(clip("s.mp4", rotation=-90), tmp_path / "o.mp4", lambda frame: replace(frame, shot=1))
    assert len(planes(tmp_path / "o.mp4")) == 10


def test_a_cut_out_does_not_depend_on_what_is_before_it(clip, tmp_path):
    source = clip("s.mp4", ticks=range(40), options={"g": "40"})
    copy(source, tmp_path / "o.mkv", start="0.8", codec="ffv1")
    assert planes(tmp_path / "o.mkv") == planes(source)[20:]


def test_standard_error_stays_quiet(clip, tmp_path, capfd):
    source = clip("s.mp4", ticks=range(3))
    capfd.readouterr()
    for codec in ("hevc", "av1", "h264"):
        copy(source, tmp_path / f"{codec}.mp4", codec=codec)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("size", [(48, 32), (34, 34), (40, 64)])
def test_small_hevc_does_not_break_memory(tmp_path, size):
    """libx265's look-ahead writes behind its memory there; glibc notices where it is asked to look."""
    code = (
        "import sys, numpy as np\nfrom videoclr.media.writer import Writer\nfrom videoclr.types import Frame\n"
        "width, height = map(int, sys.argv[2:])\n"
        "for _ in range(3):\n"
        "    with Writer(sys.argv[1], codec='hevc', overwrite=True) as writer:\n"
        "        for n in range(4):\n"
        "            noise = np.random.default_rng(n).integers(0, 255, (height, width, 3), np.uint8)\n"
        "            writer.write(Frame.from_image(noise, n))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "o.mkv"), *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MALLOC_CHECK_": "3"}, check=False)
    assert done.returncode == 0, done.stderr
    with Reader(tmp_path / "o.mkv") as reader:
        assert len(list(reader.frames())) == 4


@pytest.mark.parametrize("codec", [name for name, one in ENCODERS.items() if one.scale is not None])
def test_both_ends_of_an_encoders_scale_are_taken(clip, tmp_path, codec):
    for number in ENCODERS[codec].scale:
        with Reader(clip("s.mkv")) as reader, Writer(tmp_path / f"{number}.mkv", like=reader, codec=codec, crf=number) as writer:
            writer.write(next(reader.frames()))
    least, most = ((tmp_path / f"{number}.mkv").stat().st_size for number in ENCODERS[codec].scale)
    assert least > most


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_the_last_subtitle_ends_where_the_film_does(tmp_path, clip, ending):
    source, target = clip("s.mkv", subtitles=True), tmp_path / f"o.{ending}"
    copy(source, target, start="0.08", end="0.2")
    with av.open(str(target)) as container:
        shown = [packet for packet in container.demux(subtitles=0) if packet.size > 2]
        spans = [(packet.pts * packet.time_base, packet.duration * packet.time_base) for packet in shown]
    assert spans == [(0, Fraction(1, 25)), (Fraction(2, 25), Fraction(1, 25))]


@pytest.mark.parametrize("name", ["o.mp4", "o.png"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_written_through(tmp_path, pattern, name, there):
    store = tmp_path / "store"
    store.mkdir()
    real, link = store / f"real{name[1:]}", tmp_path / name
    link.symlink_to(Path("store") / real.name)
    if there:
        real.write_bytes(b"older")
        with pytest.raises(MediaError, match="exists already"), Writer(link) as writer:
            writer.write(Frame.from_image(pattern(0)))
        assert real.read_bytes() == b"older"
    with Writer(link, overwrite=there) as writer:
        assert there is False or real.read_bytes() == b"older"
        writer.write(Frame.from_image(pattern(0)))
    assert link.is_symlink() and link.resolve() == real.resolve()
    assert real.stat().st_size > 100
    assert sorted(path.name for path in [*tmp_path.iterdir(), *store.iterdir()]) == sorted([name, real.name, "store"])


def test_a_link_that_leads_to_no_folder_is_told_before_anything(tmp_path):
    (tmp_path / "o.mp4").symlink_to(tmp_path / "gone" / "real.mp4")
    with pytest.raises(MediaError, match=r"its folder .*gone does not exist"):
        Writer(tmp_path / "o.mp4")


def test_what_is_no_frame_is_told_and_leaves_nothing(tmp_path, pattern):
    for given, kind in ((pattern(0), "ndarray"), (None, "NoneType")):
        told = rf"expected a frame, got a {kind}; make it with Frame\.from_image"
        with pytest.raises(TypeError, match=told), Writer(tmp_path / "o.mp4") as writer:
            writer.write(given)
    assert list(tmp_path.iterdir()) == []


def test_an_array_that_is_filled_again_for_every_frame_is_written_as_it_was(tmp_path):
    image = np.zeros((16, 16, 3), np.uint8)
    with Writer(tmp_path / "o.mkv", codec="ffv1") as writer:
        for index in range(4):
            image[:] = 60 * index
            writer.write(Frame.from_image(image, index))
    with Reader(tmp_path / "o.mkv") as reader:
        assert [int(frame.image[0, 0, 0]) for frame in reader.frames()] == [0, 60, 120, 180]


def test_numbers_do_for_a_bit_rate_and_for_options(tmp_path, pattern):
    with Writer(tmp_path / "o.mp4", bitrate=800_000, options={"refs": 1, "fast-pskip": False}) as writer:
        for index in range(2):
            writer.write(Frame.from_image(pattern(index), index))
    assert len(times(tmp_path / "o.mp4")) == 2


def test_what_no_encoder_or_source_can_be_is_refused(tmp_path):
    for gop in (0, -1, 2.5, "a"):
        with pytest.raises(ConfigError, match=r"\$\.media\.gop: expected 1 or more, got "):
            Writer(tmp_path / "o.mp4", gop=gop)
    with pytest.raises(TypeError, match="like: expected the Reader of the source, got a str"):
        Writer(tmp_path / "o.mp4", "in.mp4")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"crf": "high"}, r"\$\.media\.crf: expected a number, got 'high'"),
        ({"wipe_seconds": -1}, r"\$\.media\.wipe_seconds: expected 0 or more, got -1"),
        ({"wipe_seconds": float("nan")}, r"\$\.media\.wipe_seconds: expected 0 or more, got nan"),
        ({"smart_copy_mb": "much"}, r"\$\.media\.smart_copy_mb: expected 1 or more, got 'much'"),
        ({"options": ["aq-mode"]}, r"\$\.media\.options: expected names with values, .*, got \['aq-mode'\]"),
        ({"options": {"aq-mode": None}}, r"\$\.media\.options: expected names with values"),
        ({"container": 3}, r"\$\.media\.container: expected a text, got 3"),
        ({"provenance": 3}, r"\$\.media\.provenance: expected a text, got 3"),
        ({"shift": "late"}, "shift: expected seconds, got 'late'"),
        ({"shift": float("nan")}, "shift: expected seconds, got nan"),
    ],
)
def test_an_argument_of_another_kind_is_told_before_anything_is_written(tmp_path, setting, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        Writer(tmp_path / "o.mkv", **setting)
    assert not list(tmp_path.iterdir())


def test_a_level_may_be_a_number(tmp_path):
    with Writer(tmp_path / "o.mkv", level=4.1) as writer:
        writer.write(Frame.from_image(np.zeros((16, 16, 3), np.uint8)))
    assert writer.frames_written == 1

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from videoclr.errors import ConfigError, DecodeError, MediaError
from videoclr.flow import prefetch
from videoclr.media.faults import is_memory_short
from videoclr.media.reader import Reader
from videoclr.media.scan import deinterlaced
from videoclr.media.writer import Writer
from videoclr.types import Frame

VFR = (0, 40, 73, 120, 121, 500, 733, 1001)
VP8 = {"deadline": "realtime", "cpu-used": "8", "threads": "1"}


def times(path, **settings):
    with Reader(path, **settings) as reader:
        return [frame.time for frame in reader.frames()]


def test_variable_frame_rate_times_are_exact_and_frames_are_counted_from_zero(clip):
    path = clip("v.mp4", ticks=VFR, base=Fraction(1, 1000))
    with Reader(path) as reader:
        frames = list(reader.frames())
    assert [frame.time for frame in frames] == [Fraction(tick, 1000) for tick in VFR]
    assert [frame.index for frame in frames] == list(range(8))
    assert reader.warnings == []


def test_the_info_describes_the_stream_as_shown(clip):
    path = clip("r.mp4", size=(96, 64), rotation=-90, base=Fraction(1, 30000), ticks=range(0, 10010, 1001))
    with Reader(path) as reader:
        info = reader.info
        image = next(reader.frames()).image
    assert (info.width, info.height, info.rotation) == (64, 96, 90)
    assert image.shape == (96, 64, 3)
    assert info.time_base == Fraction(1, 30000)
    assert (info.pixel_format, info.bit_depth, info.matrix, info.full_range) == ("yuv420p", 8, "bt601", False)
    assert info.frame_count == 10


def test_a_rotated_picture_is_turned_upright(clip, pattern):
    upright = next(Reader(clip("a.mp4", options={"crf": "1"})).frames()).image
    turned = next(Reader(clip("b.mp4", options={"crf": "1"}, rotation=-90)).frames()).image
    assert np.array_equal(turned, np.rot90(upright, -1))


@pytest.mark.parametrize("start", [0, "0.3", "00:00.41", Fraction(2, 3), 1.1])
def test_start_and_end_give_exactly_the_frames_between(clip, start):
    settings = {"ticks": range(40), "options": {"g": "12", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}}
    path = clip("s.mp4", **settings)
    every = [(frame.time, frame.image) for frame in Reader(path).frames()]
    with Reader(path, start=start, end="1.28") as reader:
        some = [(frame.time, frame.image) for frame in reader.frames()]
        assert reader.info.frame_count == pytest.approx(len(some), abs=1)
    lowest = reader.start
    wanted = [(time, image) for time, image in every if lowest <= time < Fraction(128, 100)]
    assert [time for time, _ in some] == [time for time, _ in wanted]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(some, wanted, strict=True))


def test_start_counts_from_the_beginning_of_the_file(clip):
    path = clip("late.ts", ticks=range(900_000, 900_000 + 20 * 3600, 3600), base=Fraction(1, 90000), container="mpegts")
    every = times(path)
    assert every[0] > 9
    assert times(path, start="0.4") == [time for time in every if time >= every[0] + Fraction(2, 5)]


@pytest.mark.parametrize(
    ("start", "end", "word"),
    [("soon", None, "start"), ("1:75", None, "59"), (-1, None, "start"), (3, 2, "end"), ("1", "1", "end")],
)
def test_a_bad_moment_is_a_config_error(clip, start, end, word):
    with pytest.raises(ConfigError, match=word):
        Reader(clip("m.mp4"), start=start, end=end)


def test_a_start_behind_the_end_says_so(clip):
    with pytest.raises(MediaError, match="no picture between"):
        Reader(clip("m.mp4"), start=100)


def test_a_file_can_be_read_twice(clip):
    with Reader(clip("t.mp4")) as reader:
        assert len(list(reader.frames())) == len(list(reader.frames())) == 10


@pytest.mark.parametrize(
    ("ending", "settings", "said"), [("mkv", {"options": {"g": "10"}}, "4.000 s"), ("avi", {"codec": "ffv1"}, "4.000 s")]
)
def test_a_truncated_file_gives_what_it_has_and_a_warning(clip, tmp_path, ending, settings, said):
    whole = clip(f"w.{ending}", ticks=range(100), **settings)
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(data[: len(data) * 6 // 10])
    with Reader(cut) as reader:
        count = len(list(reader.frames()))
    assert 20 < count < 90
    assert any("truncated" in text and f"of {said}" in text for text in reader.warnings)
    with Reader(whole) as reader:
        assert len(list(reader.frames())) == 100 and reader.warnings == []


def test_bare_dv_that_breaks_off_within_its_last_picture_says_so(tmp_path):
    encoder = av.CodecContext.create("dvvideo", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 720, 576, "yuv420p", Fraction(1, 25)
    data = b"".join(bytes(packet) for _ in range(3) for packet in encoder.encode(av.VideoFrame(720, 576, "yuv420p")))
    (tmp_path / "cut.dv").write_bytes(data[: len(data) * 5 // 6])
    (tmp_path / "whole.dv").write_bytes(data)
    for name, count in (("cut.dv", 1), ("whole.dv", 0)):
        with Reader(tmp_path / name) as reader:
            assert len(list(reader.frames())) == 3
        assert reader.warnings.count("truncated: it breaks off within the picture at 0.080 s, which may show errors") == count


def test_ogg_that_breaks_off_within_a_page_says_so(clip, tmp_path):
    whole = clip("w.ogg", codec="libvpx", options=VP8)
    (tmp_path / "cut.ogg").write_bytes(whole.read_bytes()[:-20])
    for path, told in ((tmp_path / "cut.ogg", 1), (whole, 0)):
        with Reader(path) as reader:
            list(reader.frames())
        assert len([text for text in reader.warnings if "truncated: it breaks off behind the picture at " in text]) == told


@pytest.mark.parametrize(
    ("ending", "settings"), [("ivf", {"codec": "libvpx", "options": VP8}), ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"})]
)
def test_a_file_that_breaks_off_within_its_last_picture_says_so(clip, tmp_path, ending, settings):
    whole = clip(f"w.{ending}", **settings)
    with av.open(str(whole)) as container:
        last = [one for one in container.demux(video=0) if one.size][-1]
        data = whole.read_bytes()
        end = data.index(bytes(last)) + last.size
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(data[: end - last.size // 3])
    with Reader(cut) as reader:
        assert len(list(reader.frames())) == 10
    assert reader.warnings == ["truncated: it breaks off within the picture at 0.360 s, which may show errors"]
    with Reader(whole) as reader:
        assert len(list(reader.frames())) == 10 and reader.warnings == []


def test_pictures_that_are_counted_first_are_not_deinterlaced_for_that(clip, monkeypatch):
    modes = []

    def watched(frames, mode, warn):
        modes.append(mode)
        return deinterlaced(frames, mode, warn)

    monkeypatch.setattr("videoclr.media.reader.deinterlaced", watched)
    with Reader(clip("c.ts"), start="3f") as reader:
        assert len(list(reader.frames())) == 7
    assert modes == ["off", "auto"]


def test_a_second_ivf_file_behind_the_first_is_told(clip, tmp_path):
    part = clip("p.ivf", codec="libvpx", options=VP8).read_bytes()
    both = tmp_path / "both.ivf"
    both.write_bytes(part * 2)
    with Reader(both) as reader:
        assert len(list(reader.frames())) == 10
    (told,) = reader.warnings
    assert f"another IVF file follows in it at byte {len(part)}, of which nothing is read" in told and ".ffconcat" in told


def test_a_file_that_grows_while_it_is_read_says_so(clip, tmp_path):
    whole = clip("g.ts").read_bytes()
    growing = tmp_path / "g.ts"
    growing.write_bytes(whole)
    with Reader(growing) as reader:
        frames = reader.frames()
        next(frames)
        with growing.open("ab") as file:
            file.write(whole[:188])
        list(frames)
    assert any("while it was read: it is still being recorded or copied" in text for text in reader.warnings), reader.warnings


def test_a_file_that_is_written_over_while_it_is_read_says_so_and_one_that_is_replaced_is_whole(clip, tmp_path):
    whole = clip("g.ts").read_bytes()
    film = tmp_path / "g.ts"
    for change, told in [
        (lambda: film.write_bytes(whole[:1880]), [f"it shrank from {len(whole)} to 1880 bytes while it was read"]),
        (lambda: os.utime(film, (0, 0)), ["it was written to while it was read"]),  # a time that no clock gives a second time
        (lambda: os.replace(shutil.copy(film, tmp_path / "new.ts"), film), []),
    ]:
        film.write_bytes(whole)
        with Reader(film) as reader:
            frames = reader.frames()
            next(frames)
            change()
            list(frames)
        assert [text.partition(":")[0] for text in reader.warnings if "while it was read" in text] == told


@pytest.mark.parametrize(("cluster", "kept"), [(0, 0), (2, 0), (2, 1)], ids=["first", "in the middle", "behind its first block"])
def test_a_part_of_a_matroska_file_that_is_destroyed_is_told(clip, tmp_path, cluster, kept):
    limit = {"cluster_time_limit": "900"}
    whole = clip("w.mkv", ticks=range(30), base=Fraction(1, 5), rate=5, codec="mjpeg", pix_fmt="yuvj420p", muxing=limit)
    data = bytearray(whole.read_bytes())
    heads = [at for at in range(len(data)) if data.startswith(bytes.fromhex("1f43b675"), at)]
    with av.open(str(whole)) as container:
        ends = [data.index(bytes(one)) + one.size for one in container.demux(video=0) if one.size]
    before = sum(end <= heads[cluster] for end in ends) + kept
    behind = sum(end <= heads[cluster + 1] for end in ends)
    start = ends[before - 1] if kept else heads[cluster]
    data[start : heads[cluster + 1]] = bytes(heads[cluster + 1] - start)
    torn = tmp_path / "torn.mkv"
    torn.write_bytes(data)
    with Reader(torn) as reader:
        assert len(list(reader.frames())) == 30 - (behind - before)
    since = f"{(before - 1) / 5:.3f} s" if before else "the beginning"
    lost = f"what it showed from about {since} to {behind / 5:.3f} s is missing"
    assert [text for text in reader.warnings if "destroyed" in text] == [f"damaged: a part of the file is destroyed, and {lost}"]


def test_a_pause_in_matroska_is_no_damage(clip):
    with Reader(clip("w.mkv", ticks=[0, 1, 2, 40, 41, 90]), start="0.04") as reader:
        assert len(list(reader.frames())) == 5 and reader.warnings == []


def payloads(path):
    """Position and size of every video packet in the file."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def overwritten(whole, target, numbers):
    """A copy of `whole` at `target` in which nothing of these packets is what it was."""
    data, places = bytearray(whole.read_bytes()), payloads(whole)
    for number in numbers:
        position, size = places[number]
        data[position : position + size] = b"\xff" * size
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("damage", ["garbage", "bits"])
def test_a_damaged_packet_costs_no_frame_and_no_time_and_is_told(clip, tmp_path, damage):
    whole = clip("i.mp4", ticks=range(12), options={"g": "1", "bf": "0"})
    data = bytearray(whole.read_bytes())
    position, size = payloads(whole)[5]
    if damage == "garbage":
        data[position : position + size] = b"\xff" * size
    else:
        for place in range(position + size // 2, position + size, 3):
            data[place] ^= 0x55
    broken = tmp_path / "b.mp4"
    broken.write_bytes(data)
    with Reader(broken) as reader:
        got = [(frame.time, int(frame.native.frame.to_ndarray(format="gray").mean())) for frame in reader.frames()]
    assert [time for time, _ in got] == [Fraction(tick, 25) for tick in range(12)]
    assert "1 damaged picture or packet; pictures of them show errors, or the one before" in reader.warnings
    if damage == "garbage":
        assert got[5][1] == got[4][1]
        assert "1 frame could not be decoded and repeats the one before: at 0.200 s" in reader.warnings


def test_too_little_memory_is_no_damage(clip, tmp_path, monkeypatch):
    assert is_memory_short(av.MemoryError(errno.ENOMEM, "Cannot allocate memory"), 0)
    assert is_memory_short(ValueError("Invalid data"), 1 << 60) and not is_memory_short(ValueError("Invalid data"), 1 << 10)
    whole = clip("i.mp4", ticks=range(12), options={"g": "1", "bf": "0"})
    broken = overwritten(whole, tmp_path / "b.mp4", [5])
    monkeypatch.setattr("videoclr.media.reader._BYTES", 1 << 50)
    with Reader(broken) as reader, pytest.raises(DecodeError, match="too little memory to decode it; end other"):
        list(reader.frames())


@pytest.mark.parametrize("part", [{"start": "2f", "end": "8f"}, {"start": "2f", "frames": 6}, {"end": "0.32"}])
def test_damage_inside_a_part_is_told(clip, tmp_path, part):
    whole = clip("i.mp4", ticks=range(40), options={"g": "1", "bf": "0"})
    broken = overwritten(whole, tmp_path / "b.mp4", [5])
    assert times(broken, **part) == times(whole, **part)
    with Reader(broken, **part) as reader:
        list(reader.frames())
    assert "1 frame could not be decoded and repeats the one before: at 0.200 s" in reader.warnings


@pytest.mark.parametrize(("name", "codec", "options"), [("i.mp4", "libx264", {"bf": "2"}), ("i.mkv", "ffv1", {})])
def test_a_damaged_end_costs_no_frame_and_is_told(clip, tmp_path, name, codec, options):
    whole = clip(name, codec=codec, ticks=range(8), options=options)
    with av.open(str(whole)) as container:
        last = [bytes(packet) for packet in container.demux(video=0) if packet.size][-1]
    data = whole.read_bytes()
    broken = tmp_path / f"b{name}"
    broken.write_bytes(data.replace(last, b"\x5a" * len(last)))
    with Reader(broken) as reader:
        assert [frame.time for frame in reader.frames()] == times(whole)
    assert any("could not be decoded" in text for text in reader.warnings)


@pytest.mark.parametrize(
    ("name", "options", "lost"),
    [
        ("i.mp4", {"codec": "libx264", "options": {"g": "1", "bf": "0"}}, 3),
        ("i.mp4", {"codec": "libx264", "options": {"g": "1", "bf": "0"}, "audio": 1}, 3),
        ("i.mkv", {"codec": "ffv1", "options": {"g": "1"}}, 2),
        ("i.mov", {"codec": "mpeg4", "options": {"g": "5"}}, 1),
    ],
)
def test_frames_that_are_lost_at_the_beginning_are_told(clip, tmp_path, name, options, lost):
    whole = clip(name, ticks=range(20), **options)
    with av.open(str(whole)) as container:
        first = [bytes(packet) for packet in container.demux(video=0) if packet.size][:lost]
    data = whole.read_bytes()
    for packet in first:
        assert data.count(packet) == 1
        data = data.replace(packet, bytes(len(packet)))
    broken = tmp_path / f"b{name}"
    broken.write_bytes(data)
    with Reader(broken) as reader:
        assert [frame.time for frame in reader.frames()] == times(whole)[lost:]
        told = [text for text in reader.warnings if "the first" in text]
    many = "frame could not be decoded and is" if lost == 1 else f"{lost} frames could not be decoded and are"
    late = f"the first {many} left out: the pictures begin {lost / 25:.3f} s late"
    assert told == [late + (", where they stay beside the sound" if "audio" in options else "")]


def test_frames_that_are_lost_before_a_part_are_not_missed(clip, tmp_path):
    whole = clip("i.mp4", ticks=range(20), options={"g": "1", "bf": "0"})
    data = bytearray(whole.read_bytes())
    for position, size in payloads(whole)[:3]:
        data[position : position + size] = bytes(size)
    broken = tmp_path / "b.mp4"
    broken.write_bytes(data)
    for start, expected in (
        ("0.2", []),
        ("0.08", ["the first frame could not be decoded and is left out: the pictures begin 0.040 s late"]),
    ):
        with Reader(broken, start=start) as reader:
            list(reader.frames())
            assert [text for text in reader.warnings if "the first" in text] == expected


def without_length(path, track):
    """`path`, an mp4 whose index comes last, with edit lists of a duration of 0 in this track."""
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(track + 1):
        at = data.index(b"elst", at + 1)
    struct.pack_into(">I", data, at + 12, 0)
    path.write_bytes(data)


def test_an_edit_list_that_hides_everything_is_named(clip, tmp_path):
    source = clip("s.mp4", audio=1, muxing={"use_editlist": "1"})
    without_length(source, 1)
    with Reader(source) as reader, Writer(tmp_path / "o.mkv", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert "an edit list in the file hides stream 1 (audio, aac): its duration is 0" in writer.warnings
    without_length(source, 0)
    hidden = "an edit list in the file hides all its 10 pictures, which not all players heed; ffmpeg -ignore_editlist 1 "
    for start in (None, "3f"):
        with pytest.raises(DecodeError, match=hidden):
            Reader(source, start)


def test_lost_frames_among_reordered_ones_are_repeated_at_their_times(clip, tmp_path):
    whole = clip("w.mp4", ticks=range(40), options={"g": "20", "bf": "2"})
    broken = overwritten(whole, tmp_path / "b.mp4", (7, 8, 39))
    with Reader(whole) as reader:
        every = [frame.time for frame in reader.frames()]
    with Reader(broken) as reader:
        assert [frame.time for frame in reader.frames()] == every
    assert any(" frames could not be decoded and repeat the one before: at " in text for text in reader.warnings)


def test_ten_bits_stay_ten_bits(clip):
    with Reader(clip("d.mkv", codec="ffv1", pix_fmt="yuv420p10le")) as reader:
        frame = next(reader.frames())
    assert (reader.info.bit_depth, frame.image.dtype) == (10, np.uint16)


def test_standard_input_is_read_once_and_with_its_sound(clip):
    path = clip("p.nut", audio=1, container="nut")
    code = (
        "from videoclr.media.reader import Reader\n"
        "with Reader('-') as r:\n"
        "    copies = r.copies(); copies.select([s for s in copies.container.streams if s.type == 'audio'])\n"
        "    n = len(list(r.frames())); k = 0\n"
        "    while copies.next_packet() is not None: k += 1\n"
        "    try: list(r.frames())\n"
        "    except Exception as e: print(n, k > 1, e)\n"
    )
    with path.open("rb") as data:
        out = subprocess.run([sys.executable, "-c", code], stdin=data, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "10 True -: a pipe can be read only once"


def make_wrong(kind, path):
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("This is no video.\n" * 50)
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(1).bytes(5000))
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [("missing", "no such file"), ("directory", "is a directory"), ("empty", "0 bytes"), ("text", "not a video"),
     ("noise", "not a video")],
)  # fmt: skip
def test_what_is_no_video_is_told_in_one_line(kind, words, tmp_path):
    path = make_wrong(kind, tmp_path / "x.mp4")
    with pytest.raises(MediaError, match=words) as caught:
        Reader(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_sound_alone_and_a_cut_off_index_are_told_apart(clip, tmp_path):
    sound = tmp_path / "a.m4a"
    with av.open(str(sound), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 8000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    with pytest.raises(MediaError, match="sound but no pictures"):
        Reader(sound)
    whole = clip("w.mp4", ticks=range(30)).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="index is missing"):
        Reader(cut)


def test_a_video_of_which_nothing_decodes_is_a_decode_error(clip, tmp_path):
    whole = clip("n.mp4", ticks=range(3))
    broken = overwritten(whole, tmp_path / "n2.mp4", range(3))
    with pytest.raises(DecodeError, match="no picture in it can be decoded"):
        Reader(broken)


def test_a_gif_is_a_video_like_any_other(clip):
    path = clip("g.gif", codec="gif", pix_fmt="rgb8", base=Fraction(1, 100), ticks=(0, 8, 17, 25, 40))
    assert times(path) == [Fraction(tick, 100) for tick in (0, 8, 17, 25, 40)]


def test_a_size_that_changes_in_the_middle_is_an_error_or_scaled(clip, tmp_path):
    first, second = clip("a.ts", ticks=range(10)), clip("b.ts", ticks=range(10, 20), size=(64, 48))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with Reader(both) as reader, pytest.raises(DecodeError, match=r"changes from 96x64 to 64x48; cut .*--on-error keep"):
        list(reader.frames())
    with Reader(both, scale=True) as reader:
        sizes = {(frame.native.frame.width, frame.native.frame.height) for frame in reader.frames()}
    assert sizes == {(96, 64)}
    assert len([text for text in reader.warnings if "scaled to the first size from there on" in text]) == 1


def test_a_start_behind_a_recovery_point_gives_every_frame(clip):
    # Intra refresh: pictures marked as key frames begin to renew the picture column by column.
    options = {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=10:bframes=0:scenecut=0"}
    path = clip("i.mp4", ticks=range(30), size=(160, 64), options=options)
    whole = times(path)
    for number in (11, 15, 22):
        assert times(path, start=whole[number]) == whole[number:]


@pytest.mark.parametrize("ending", ["pfm", "phm", "avi"])
def test_pictures_that_lie_upside_down_in_memory_are_turned(clip, tmp_path, pattern, ending):
    if ending == "avi":
        path, wanted = clip("p.avi", codec="rawvideo", pix_fmt="bgr24", ticks=range(1)), pattern(0)
        path.write_bytes(path.read_bytes().replace(struct.pack("<iii", 40, 96, -64), struct.pack("<iii", 40, 96, 64)))
        wanted = wanted[::-1]
    else:
        wanted = (pattern(0) / np.float32(255)).astype("<f4" if ending == "pfm" else "<f2")
        path = tmp_path / f"p.{ending}"
        path.write_bytes((b"PF" if ending == "pfm" else b"PH") + b"\n96 64\n-1.0\n" + wanted[::-1].tobytes())
    with Reader(path) as reader, Writer(tmp_path / "o.png", like=reader) as writer:
        (frame,) = reader.frames()
        assert all(plane.line_size > 0 for plane in frame.native.frame.planes)
        values = frame.native.signals()
        writer.write(frame)
    assert np.array_equal(values, wanted)
    assert (tmp_path / "o.png").exists()


def test_raw_dv_has_the_rate_of_its_pictures(made, tmp_path):
    path = tmp_path / "s.dv"
    made("-f", "lavfi", "-i", "testsrc2=s=720x480:r=30000/1001:d=0.1", "-target", "ntsc-dv", path)
    with Reader(path, deinterlace="off") as reader:
        assert reader.info.frame_rate == Fraction(30000, 1001)
        assert [frame.time for frame in reader.frames()] == [index * Fraction(1001, 30000) for index in range(3)]


def test_frames_that_outlive_their_reader_say_so(clip):
    path = clip("in.mp4", ticks=range(12))
    with Reader(path) as reader:
        frames = reader.frames()
        first = next(frames)
    with pytest.raises(MediaError, match="was closed, or read anew, while its frames were being read"):
        next(frames)
    assert first.image.shape[2] == 3  # what was read stays valid
    with Reader(path) as reader:
        one, two = reader.frames(), reader.frames()
        next(one)
        assert next(two).index == 0
        with pytest.raises(MediaError, match="read anew"):
            next(one)
        assert [frame.index for frame in two] == list(range(1, 12))


def test_a_reader_may_be_closed_while_another_thread_reads(clip):
    path = clip("in.mp4", ticks=range(12))
    for _ in range(5):
        with Reader(path) as reader:
            ahead = prefetch(reader.frames(), 4, "decode")
            next(ahead)
        with pytest.raises(MediaError, match="was closed"):
            list(ahead)


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        *(
            ({"rate": rate}, r"\$\.media\.input\.rate: expected pictures a second")
            for rate in (0, -5, "x", "1/0", float("inf"), [25])
        ),
        *(({"video": video}, r"\$\.media\.video_stream: expected 0 or more") for video in (-1, "0", 0.5)),
        *(({"frames": frames}, r"\$\.media\.frames: expected 1 or more") for frames in (0, 1.5, "2")),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_with_its_setting(tmp_path, pattern, asked, path):
    for number in range(2):
        with Writer(tmp_path / f"p{number}.png") as writer:
            writer.write(Frame.from_image(pattern(number)))
    with pytest.raises(ConfigError, match=path):
        Reader(tmp_path / "p%d.png", **asked)

"""`--smart-copy`: what did not change is the source's own packets, and nobody sees where it was joined with the rest."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from videoclr import cli
from videoclr.errors import ConfigError, MediaError
from videoclr.media import nal
from videoclr.media.groups import Groups
from videoclr.media.joint import Joint, Sets
from videoclr.media.reader import Reader
from videoclr.media.splice import DecodingTimes, Tally
from videoclr.media.writer import Writer
from videoclr.types import Patch

SIZE = (64, 48)
FAST = "keyint=10:min-keyint=10:scenecut=0:bframes=3"
H264 = {"codec": "libx264", "options": {"preset": "veryfast", "x264-params": FAST}}
OPEN_H264 = {"codec": "libx264", "options": {"preset": "veryfast", "x264-params": f"{FAST}:open-gop=1"}}
# libx265 makes no B-frames of pictures smaller than 64 pixels here: its look-ahead would write behind its memory.
_HEVC = f"log-level=none:rc-lookahead=10:{FAST}"
HEVC = {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": f"{_HEVC}:open-gop=0"}, "size": (96, 64)}
OPEN_HEVC = {
    "codec": "libx265",
    "options": {"preset": "ultrafast", "x265-params": f"{_HEVC.replace('min-keyint=10', 'min-keyint=5')}:open-gop=1"},
    "size": (96, 64),
}
VP9 = {"codec": "libvpx-vp9", "options": {"g": "10", "cpu-used": "8", "deadline": "realtime"}}
AV1 = {"codec": "libsvtav1", "options": {"g": "10", "preset": "12"}}
INTRA = {
    "prores": ("mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "options": {"profile": "lt"}}),
    "prores 4444": ("mov", {"codec": "prores_ks", "pix_fmt": "yuva444p10le", "options": {"profile": "4444"}}),
    "dnxhr": ("mov", {"codec": "dnxhd", "pix_fmt": "yuv422p", "options": {"profile": "dnxhr_sq"}, "size": (256, 128)}),
    "mjpeg": ("mov", {"codec": "mjpeg", "pix_fmt": "yuvj422p"}),
    "ffv1": ("mkv", {"codec": "ffv1", "options": {"slices": "9", "coder": "2", "g": "1"}, "pix_fmt": "yuv422p10le"}),
    "all-intra h264": ("mov", {"codec": "libx264", "pix_fmt": "yuv422p10le", "options": {"preset": "veryfast", "g": "1"}}),
}


@dataclass(frozen=True)
class Stored:
    data: bytes
    time: Fraction
    is_key: bool
    dts: int | None


def packets(path: Path) -> list[Stored]:
    with av.open(str(path)) as file:
        found = [one for one in file.demux(video=0) if one.size]
        return [Stored(bytes(one), one.pts * one.time_base, one.is_keyframe, one.dts) for one in found]


def pictures(path: Path) -> dict[Fraction, np.ndarray]:
    """Time -> all samples, of every picture a decoder gives."""
    with av.open(str(path)) as file:
        return {one.pts * one.time_base: samples(one) for one in file.decode(video=0)}


def samples(frame: av.VideoFrame) -> np.ndarray:
    deep = max(part.bits for part in frame.format.components) > 8
    kind = np.uint16 if deep else np.uint8
    parts = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        parts.append(rows[:, : plane.width].ravel())
    return np.concatenate(parts).astype(int)


def copied(source: Path, target: Path, faces: Collection[int], **settings: Any) -> Tally:
    """Write `source` again with a face in the frames of these numbers."""
    with Reader(source) as reader, Writer(target, like=reader, smart_copy=True, **settings) as writer:
        for frame in reader.frames():
            writer.write(frame.with_patches([face(reader)]) if frame.index in faces else frame)
        tally = writer.tally
    return tally


def face(reader: Reader, alpha: float = 1.0) -> Patch:
    deep = reader.info.bit_depth > 8
    rgb = np.full((16, 16, 3), 65535 if deep else 255, np.uint16 if deep else np.uint8)
    return Patch(8, 8, rgb, np.full((16, 16), alpha, np.float32))


def check_joined(source: Path, target: Path, untouched: Collection[int], near: float = 6.0) -> None:
    """No picture is lost, doubled or late; those `untouched` (by number) are the source's to the bit, the others near."""
    before, after = pictures(source), pictures(target)
    if source.suffix == ".ts" != target.suffix:  # the clock of a broadcast begins anywhere
        before = {time - min(before): picture for time, picture in before.items()}
    assert list(after) == list(before)
    for number, (ours, theirs) in enumerate(zip(after.values(), before.values(), strict=True)):
        if number in untouched:
            assert np.array_equal(ours, theirs), number
        else:
            scale = max(1, int(theirs.max()) >> 8)
            assert np.median(np.abs(ours - theirs)) <= near * scale, number
    there = packets(target)
    assert sorted(one.time for one in there) == list(before)
    assert all(one.dts < other.dts for one, other in pairwise(there) if one.dts is not None and other.dts is not None)
    check_entries(target, after)


def check_entries(path: Path, shown: dict[Fraction, np.ndarray]) -> None:
    """Who begins at a key packet, with a decoder that knows nothing but the header, sees from there on what all see."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        base = stream.time_base
        stored = [one for one in file.demux(stream) if one.size]
        header, name = stream.codec_context.extradata, stream.codec_context.name
        size = (stream.codec_context.width, stream.codec_context.height)
    for place in [place for place, one in enumerate(stored) if one.is_keyframe]:
        decoder = av.CodecContext.create(name, "r")
        decoder.extradata, (decoder.width, decoder.height) = header, size
        decoder.pix_fmt, decoder.codec_tag = stream_format(path), stored_tag(path)
        seen = 0
        for packet in (*stored[place:], None):
            for frame in decoder.decode(packet):
                if frame.pts >= stored[place].pts:
                    assert np.array_equal(samples(frame), shown[frame.pts * base]), (place, frame.pts)
                    seen += 1
        assert seen == sum(time >= stored[place].pts * base for time in shown), place


def stream_format(path: Path) -> str:
    with av.open(str(path)) as file:
        return file.streams.video[0].codec_context.pix_fmt


def stored_tag(path: Path) -> str:
    with av.open(str(path)) as file:
        return file.streams.video[0].codec_context.codec_tag


# -- codecs of groups -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "source_ending", "ending"),
    [
        (H264, "mp4", "mp4"), (H264, "mp4", "mov"), (H264, "mp4", "mkv"), (H264, "ts", "ts"), (HEVC, "mp4", "mp4"),
        (HEVC, "mov", "mkv"), (HEVC, "ts", "ts"), (VP9, "webm", "webm"), (VP9, "webm", "mp4"), (AV1, "mkv", "mkv"),
        (AV1, "mp4", "mp4"),
    ],
)  # fmt: skip
def test_groups_without_a_face_are_the_sources_own_packets(clip, tmp_path, settings, source_ending, ending):
    source = clip(f"s.{source_ending}", ticks=range(40), **{"size": SIZE, **settings})
    target = tmp_path / f"o.{ending}"
    tally = copied(source, target, {14, 15})
    assert (tally.copied, tally.groups, tally.encoded, tally.stretches) == (30, 3, 10, 1)
    check_joined(source, target, {*range(10), *range(20, 40)})
    theirs = {one.time - packets(source)[0].time: one for one in packets(source)}
    ours = {one.time - packets(target)[0].time: one for one in packets(target)}
    shown = sorted(theirs)
    for number in (*range(10), *range(20, 40)):
        assert ours[shown[number]].data == theirs[shown[number]].data, number
    assert ours[shown[10]].is_key and ours[shown[20]].is_key


@pytest.mark.parametrize(
    ("settings", "source_ending", "ending"),
    [(H264, "mp4", "ts"), (H264, "ts", "mp4"), (H264, "mkv", "nut"), (HEVC, "mp4", "ts"), (HEVC, "ts", "mp4"), (HEVC, "ts", "mkv")],
)
def test_where_sizes_become_start_codes_every_unit_stays_as_it_is(clip, tmp_path, settings, source_ending, ending):
    source = clip(f"s.{source_ending}", ticks=range(30), **{"size": SIZE, **settings})
    target = tmp_path / f"o.{ending}"
    assert copied(source, target, {14}).copied == 20
    check_joined(source, target, {*range(10), *range(20, 30)})
    codec = "h264" if settings is H264 else "hevc"
    there = [set(slices(codec, target, one.data)) for one in packets(target)]
    for number, one in enumerate(packets(source)):
        if not 10 <= number < 20:
            assert set(slices(codec, source, one.data)) == there[number], number


def slices(codec: Any, path: Path, data: bytes) -> Iterator[bytes]:
    with av.open(str(path)) as file:
        length, _ = nal.header_of(codec, file.streams.video[0].codec_context.extradata or b"")
    pictures = range(1, 6) if codec == "h264" else range(32)
    return (part for part in nal.units(data, length) if nal.kind_of(codec, part) in pictures)


@pytest.mark.parametrize(("settings", "codec", "tag", "sets"), [(H264, "h264", "avc1", 2), (HEVC, "hevc", "hvc1", 3)])
def test_both_encoders_parameter_sets_stand_in_the_header_under_numbers_of_their_own(clip, tmp_path, settings, codec, tag, sets):
    source, target = clip("s.mp4", ticks=range(20), **{"size": SIZE, **settings}), tmp_path / "o.mp4"
    copied(source, target, {14})
    with av.open(str(source)) as before, av.open(str(target)) as after:
        _, theirs = nal.header_of(codec, before.streams.video[0].codec_context.extradata)
        _, found = nal.header_of(codec, after.streams.video[0].codec_context.extradata)
        assert after.streams.video[0].codec_context.codec_tag == tag
    assert len(theirs) == sets and len(found) == 2 * sets
    assert set(theirs) < set(found)
    assert len({nal.number_of(codec, one) for one in found}) == 2 * sets


@pytest.mark.parametrize(("settings", "ending"), [(H264, "mp4"), (HEVC, "mkv"), (OPEN_HEVC, "mp4"), (OPEN_H264, "mkv")])
def test_the_ffmpeg_program_decodes_the_same_pictures(clip, tmp_path, ffmpeg, settings, ending):
    source, target = clip("s.mp4", ticks=range(40), **{"size": SIZE, **settings}), tmp_path / f"o.{ending}"
    copied(source, target, {3, 25})
    command = [ffmpeg, "-v", "error", "-i", target, "-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    done = subprocess.run([str(one) for one in command], capture_output=True, check=True)
    assert done.stderr == b""
    assert done.stdout == b"".join(one.astype(np.uint8).tobytes() for one in pictures(target).values())


def test_many_stretches_are_joined_at_every_border(clip, tmp_path):
    source, target = clip("s.mp4", ticks=range(70), **{"size": SIZE, **H264}), tmp_path / "o.mp4"
    tally = copied(source, target, {0, 29, 30, 65})
    assert (tally.groups, tally.stretches, tally.encoded) == (3, 3, 40)
    check_joined(source, target, {*range(10, 20), *range(40, 60)})


# -- open groups ------------------------------------------------------------------------------------------------------


def test_an_open_group_of_hevc_behind_a_face_is_copied_without_its_leading_pictures(clip, tmp_path):
    source, target = clip("s.mp4", ticks=range(40), **OPEN_HEVC), tmp_path / "o.mp4"
    with av.open(str(source)) as file:
        length, _ = nal.header_of("hevc", file.streams.video[0].codec_context.extradata)
    stored = packets(source)
    keys = [place for place, one in enumerate(stored) if nal.entry("hevc", nal.units(one.data, length)) == "open"]
    assert len(keys) == 3, "the source is to have open groups"
    shown = sorted(one.time for one in stored)
    second, third = (shown.index(stored[place].time) for place in keys[:2])
    leading = sum(one.time < stored[keys[1]].time for one in stored[keys[1] :])
    assert leading > 0
    tally = copied(source, target, {second + 1})
    assert tally.stretches == 1
    # All of the first group, the third from its key picture on, the fourth whole.
    first = min(shown.index(one.time) for one in stored[keys[0] :])
    untouched = {*range(first), *range(third, 40)}
    assert tally.copied == len(untouched)
    check_pictures(source, target, untouched)
    ours = {one.time: one.data for one in packets(target)}
    same = [one for one in stored if ours[one.time] == one.data]
    assert len(same) == len(untouched) - 1, "the key picture is told that it begins anew: one byte"
    (key,) = [one for one in stored if one.time == shown[third]]
    assert sum(a != b for a, b in zip(ours[key.time], key.data, strict=True)) == 1


def test_open_groups_of_h264_are_copied_up_to_a_face_and_encoded_behind_it(clip, tmp_path):
    source, target = clip("s.mp4", ticks=range(40), **{"size": SIZE, **OPEN_H264}), tmp_path / "o.mp4"
    with av.open(str(source)) as file:
        length, _ = nal.header_of("h264", file.streams.video[0].codec_context.extradata)
    entries = [nal.entry("h264", nal.units(one.data, length)) for one in packets(source)]
    assert entries.count("closed") == 1 and entries.count("open") == 3
    tally = copied(source, target, {37})
    assert (tally.groups, tally.copied + tally.encoded) == (3, 40)
    # The last group begins with leading pictures: decoded again, they need the group before.
    check_pictures(source, target, set(range(tally.copied)))


def check_pictures(source: Path, target: Path, untouched: Collection[int]) -> None:
    """As `check_joined`, but for entries: leading pictures of open groups cannot be seen from there, in the source neither."""
    before, after = pictures(source), pictures(target)
    assert list(after) == list(before)
    for number, (ours, theirs) in enumerate(zip(after.values(), before.values(), strict=True)):
        assert np.array_equal(ours, theirs) if number in untouched else np.median(np.abs(ours - theirs)) <= 6, number


# -- pictures that stand for themselves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INTRA)
def test_intra_pictures_are_copied_one_by_one(clip, tmp_path, name):
    ending, settings = INTRA[name]
    source = clip(f"s.{ending}", ticks=range(8), **{"size": SIZE, **settings})
    target = tmp_path / f"o.{ending}"
    tally = copied(source, target, {2, 3, 6})
    assert (tally.copied, tally.groups, tally.encoded, tally.stretches) == (5, 5, 3, 2)
    check_joined(source, target, {0, 1, 4, 5, 7}, near=3)
    for number, (ours, theirs) in enumerate(zip(packets(target), packets(source), strict=True)):
        assert (ours.data == theirs.data) == (number not in {2, 3, 6}), number
    with av.open(str(source)) as before, av.open(str(target)) as after:
        for name in ("codec_tag", "profile", "pix_fmt"):
            assert getattr(after.streams.video[0].codec_context, name) == getattr(before.streams.video[0].codec_context, name)


def test_dnxhr_goes_from_mov_to_mxf(clip, tmp_path):
    _, settings = INTRA["dnxhr"]
    source, target = clip("s.mov", ticks=range(4), **settings), tmp_path / "o.mxf"
    copied(source, target, {1})
    changed = [ours.data != theirs.data for ours, theirs in zip(packets(target), packets(source), strict=True)]
    assert changed == [False, True, False, False]


# -- what counts as unchanged -------------------------------------------------------------------------------------------


def test_a_face_that_faded_away_changes_nothing(clip, tmp_path):
    source, target = clip("s.mp4", ticks=range(10), **{"size": SIZE, **H264}), tmp_path / "o.mp4"
    with Reader(source) as reader, Writer(target, like=reader, smart_copy=True) as writer:
        for frame in reader.frames():
            writer.write(frame.with_patches([face(reader, alpha=0.0)]))
    assert writer.tally.encoded == 0
    assert [one.data for one in packets(target)] == [one.data for one in packets(source)]


def test_a_part_is_encoded_where_its_borders_lie_inside_groups(clip, tmp_path):
    source, target = clip("s.mp4", ticks=range(50), **{"size": SIZE, **H264}), tmp_path / "o.mp4"
    with Reader(source, "14f", "37f") as reader, Writer(target, like=reader, smart_copy=True) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert (writer.tally.copied, writer.tally.encoded, writer.tally.stretches) == (10, 13, 2)
    before, after = list(pictures(source).items()), pictures(target)
    assert list(after) == [time - before[14][0] for time, _ in before[14:37]]
    for number, ours in enumerate(after.values(), 14):
        assert np.array_equal(ours, before[number][1]) == (20 <= number < 30), number


def test_what_an_edit_list_hides_is_not_copied(clip, made, tmp_path):
    whole, source, target = clip("w.mp4", ticks=range(50), **{"size": SIZE, **H264}), tmp_path / "s.mp4", tmp_path / "o.mp4"
    made("-ss", "0.56", "-i", whole, "-c", "copy", source)
    tally = copied(source, target, ())
    count = len(pictures(source))
    assert 30 <= count < 40, "pictures are hidden"
    assert tally.copied == count // 10 * 10 and tally.encoded == count % 10
    check_joined(source, target, set(range(count % 10, count)))


def test_deinterlaced_pictures_are_encoded_and_woven_ones_copied(clip, tmp_path):
    settings = {**H264, "options": {**H264["options"], "flags": "+ildct+ilme", "x264-params": f"{FAST}:tff=1"}}
    source = clip("s.mp4", ticks=range(20), size=(96, 64), **settings)
    with av.open(str(source)) as file:
        assert next(file.decode(video=0)).interlaced_frame
    for mode, expected in (("off", 20), ("bwdif", 0)):
        with Reader(source, deinterlace=mode) as reader, Writer(tmp_path / f"{mode}.mp4", like=reader, smart_copy=True) as writer:
            for frame in reader.frames():
                writer.write(frame)
        assert writer.tally.copied == expected, mode


def test_damage_is_mended_and_not_copied(clip, tmp_path):
    source, target = clip("s.mov", ticks=range(8), size=SIZE, codec="prores_ks", pix_fmt="yuv422p10le"), tmp_path / "o.mov"
    data, broken = bytearray(source.read_bytes()), packets(source)[5].data
    place = data.find(broken)
    data[place : place + len(broken)] = bytes(len(broken))
    source.write_bytes(data)
    with Reader(source) as reader, Writer(target, like=reader, smart_copy=True) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert any("1 frame could not be decoded and repeats" in text for text in reader.warnings)
    assert (writer.tally.copied, writer.tally.encoded) == (7, 1)
    assert list(pictures(target)) == [one.time for one in packets(source)]


def test_a_group_larger_than_the_limit_is_not_kept_but_encoded(clip, tmp_path):
    source = clip("s.mp4", ticks=range(30), **{"size": SIZE, **H264})
    sizes = [sum(len(one.data) for one in packets(source)[begin : begin + 10]) for begin in (0, 10, 20)]
    assert sizes[0] > max(sizes[1:]), "the first is to be the largest"
    with Reader(source) as reader:
        groups = Groups(reader, Joint(b"", 2), sizes[0] - 1)
        found = [groups.next() for _ in range(3)]
        assert groups.next() is None
        groups.close()
    assert [group.whole for group in found] == [False, True, True]
    assert found[0].packets == [] and found[0].last == Fraction(9, 25)


# -- times, and what lies beside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_uneven_times_and_a_late_beginning_stay_and_so_does_the_sound(clip, packets_of, tmp_path, ending):
    ticks = [1000 + 40 * index + 7 * (index % 3) for index in range(40)]
    source = clip(f"s.{ending}", ticks=ticks, base=Fraction(1, 1000), audio=2, **{"size": SIZE, **H264})
    target = tmp_path / f"o.{ending}"
    assert copied(source, target, {14}).copied == 30
    check_joined(source, target, {*range(10), *range(20, 40)})
    assert list(pictures(target)) == [Fraction(tick, 1000) for tick in ticks]
    assert packets_of(target, "audio") == packets_of(source, "audio")


@pytest.mark.parametrize("late", [1, 20, 70])
def test_a_film_begins_as_late_as_before_where_its_pictures_come_faster_than_they_do_on_average(clip, packets_of, tmp_path, late):
    ticks = [late + 20 * index for index in range(20)] + [late + 400 + 300 * index for index in range(20)]
    source, target = clip("s.mp4", ticks=ticks, base=Fraction(1, 1000), audio=1, **{"size": SIZE, **H264}), tmp_path / "o.mp4"
    assert copied(source, target, {14}).copied == 30
    check_joined(source, target, {*range(10), *range(20, 40)})
    assert packets_of(target, "audio") == packets_of(source, "audio")


def test_decoding_times_rise_and_never_pass_the_presentation():
    times = DecodingTimes(2, first=100, step=10)
    shown = [100, 130, 120, 110, 160, 150, 140]
    found = [times.next(pts) for pts in shown]
    assert found == [80, 90, 100, 110, 120, 130, 140]
    with pytest.raises(ValueError, match="further from their order"):
        [times.next(pts) for pts in (200, 190, 180, 170, 165)]


# -- the whole job --------------------------------------------------------------------------------------------------------


class Now:
    """A detector that sees a face in the frames of these numbers; it knows them by their pictures, wherever a run begins."""

    shape = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.22], [0.15, 0.22]], np.float32)

    def __init__(self, source: Path, numbers: Collection[int]) -> None:
        with Reader(source) as reader:
            self.pictures = {frame.image.tobytes() for frame in reader.frames() if frame.index in numbers}

    def detect(self, images):
        return [self.one(image) for image in images]

    def one(self, image):
        from videoclr.types import Detection

        if image.tobytes() not in self.pictures:
            return []
        middle = np.array([48, 32], np.float32)
        return [Detection(np.concatenate([middle - 12, middle + 12]).astype(np.float32), self.shape * 24 + middle, 0.99)]


def line(source: Path, numbers: Collection[int], *settings: str):
    from videoclr.config import Config
    from videoclr.parts.unchanged import Unchanged
    from videoclr.pipeline import Pipeline

    quick = ("restore.use=unchanged", "gate.use=none", "align.smoothing=0", "media.smart_copy=true", "media.preset=veryfast")
    config = Config().override(*quick, *settings)
    return Pipeline(config, detector=Now(source, numbers), recognizer=None, restorer=Unchanged(64))


def test_a_job_says_how_much_was_copied(clip, tmp_path, capsys):
    from videoclr.jobs import restore_video

    source, target = clip("s.mp4", ticks=range(40), audio=1, **H264), tmp_path / "o.mp4"
    done = restore_video(source, target, pipeline=line(source, {14, 15, 16}), report=tmp_path / "r.json")
    assert done.smart_copy == {"frames_copied": 30, "groups_copied": 3, "frames_encoded": 10, "stretches_encoded": 1}
    assert '"frames_copied": 30' in (tmp_path / "r.json").read_text()
    assert "30 frames copied in 3 groups" in cli._summary(done)
    check_joined(source, target, {*range(10), *range(20, 40)})
    none = restore_video(source, tmp_path / "all.mp4", pipeline=line(source, range(40)))
    assert none.smart_copy["frames_copied"] == 0
    assert any("no group of pictures was left unchanged" in text for text in none.warnings)
    assert restore_video(source, tmp_path / "p.mp4", pipeline=line(source, (), "media.smart_copy=false")).smart_copy is None


def test_resumed_runs_copy_the_same_groups_and_give_the_same_bytes(clip, tmp_path):
    from videoclr.jobs import restore_video

    source = clip("s.mp4", ticks=range(60), audio=1, **H264)
    faces, settings = {14, 15, 44, 45}, ("media.segment=1.0",)

    def stop(progress):
        if progress.frames == 40:
            raise KeyboardInterrupt

    whole = restore_video(source, tmp_path / "a.mp4", pipeline=line(source, faces, *settings), resume=True)
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, tmp_path / "b.mp4", pipeline=line(source, faces, *settings), resume=True, progress=stop)
    again = restore_video(source, tmp_path / "b.mp4", pipeline=line(source, faces, *settings), resume=True)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    # A segment ends with the group that 25 frames end in, so that none is parted.
    assert whole.smart_copy == again.smart_copy
    assert whole.smart_copy["frames_copied"] == 40 and whole.smart_copy["frames_encoded"] == 20
    check_joined(source, tmp_path / "a.mp4", {*range(10), *range(20, 40), *range(50, 60)})


@pytest.mark.parametrize("faces", [{36}, {8, 9, 18, 19, 28}], ids=["far away", "in leading pictures"])
def test_runs_that_are_resumed_at_an_open_group_give_the_same_bytes(clip, tmp_path, faces):
    from videoclr.jobs import restore_video

    source, target = clip("s.mp4", ticks=range(40), **OPEN_HEVC), tmp_path / "b.mp4"
    settings = ("media.segment=0.32", "identify.window=2", "runtime.batch=1", "runtime.detect_batch=1")
    whole = restore_video(source, tmp_path / "a.mp4", pipeline=line(source, faces, *settings), resume=True)
    assert whole.smart_copy["frames_copied"]
    check_joined(source, tmp_path / "a.mp4", ())
    for frames in (14, 24, 34):

        def stop(progress, frames=frames):
            if progress.frames == frames:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            restore_video(source, target, pipeline=line(source, faces, *settings), resume=True, progress=stop)
        again = restore_video(source, target, pipeline=line(source, faces, *settings), resume=True)
        assert again.smart_copy == whole.smart_copy
        assert target.read_bytes() == (tmp_path / "a.mp4").read_bytes()
        target.unlink()


def test_a_segment_ends_within_a_group_that_is_longer_than_two(clip, tmp_path):
    from videoclr.jobs import restore_video

    source = clip("s.mp4", ticks=range(40), **H264)
    done = restore_video(source, tmp_path / "o.mp4", pipeline=line(source, (), "media.segment=0.16"), resume=True)
    # Four frames a segment, eight where no key picture comes: ends after 8, 10, 18, 20, ...
    assert done.smart_copy["frames_copied"] == 0 and done.frames_out == 40
    check_joined(source, tmp_path / "o.mp4", ())


# -- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "media", "words"),
    [
        ("o.mp4", {"deliver": "matte"}, "media.smart_copy: a matte is made of every picture"),
        ("o.mp4", {"codec": "hevc"}, "media.smart_copy: the source is h264, so the output cannot be hevc"),
        ("o.mp4", {"codec": "h264_nvenc"}, "so the output cannot be h264_nvenc"),
        ("o.y4m", {}, "media.smart_copy: yuv4mpegpipe holds uncompressed pictures"),
        ("o%d.png", {}, r"media.smart_copy: \.png pictures are no video"),
    ],
)
def test_what_can_never_be_copied_is_wrong_usage(clip, job, tmp_path, target, media, words):
    source = clip("s.mp4", ticks=range(4), **{"size": SIZE, **H264})
    with pytest.raises(ConfigError, match=words) as caught:
        job(source, tmp_path / target, smart_copy=True, **media)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


@pytest.mark.parametrize("codec", ["copy-like", "h264"])
def test_the_sources_own_codec_may_be_named(clip, job, tmp_path, codec):
    report = job(clip("s.mp4", ticks=range(4), **{"size": SIZE, **H264}), tmp_path / "o.mp4", smart_copy=True, codec=codec)
    assert report.smart_copy["frames_copied"] == 4


@pytest.mark.parametrize(
    ("ending", "settings", "target", "words"),
    [
        ("mp4", {"codec": "mpeg4"}, "o.mp4", "nothing here encodes mpeg4"),
        ("mp4", H264, "o.avi", "avi does not hold its B-frames; use .mkv"),
        ("mp4", {**H264, "audio": 1}, "o.nut", "nut does not hold its B-frames beside other streams; use .mkv"),
        ("mp4", {**H264, "rotation": 90}, "o.ts", "mpegts cannot say how the picture is turned"),
        ("mov", {"codec": "dnxhd", "pix_fmt": "yuv422p", "options": {"b": "90M"}, "size": (1280, 720)}, "o.mov", "its profile is"),
    ],
)
def test_sources_that_cannot_be_joined_are_named_with_the_way_out(clip, job, tmp_path, ending, settings, target, words):
    source = clip(f"s.{ending}", ticks=range(4), **{"size": SIZE, **settings})
    with pytest.raises(MediaError, match=words) as caught:
        job(source, tmp_path / target, smart_copy=True)
    assert "\n" not in str(caught.value) and str(source) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_pipe_and_a_list_are_refused(clip, tmp_path, monkeypatch):
    source = clip("s.mp4", ticks=range(4), **{"size": SIZE, **H264})
    (tmp_path / "l.ffconcat").write_text("ffconcat version 1.0\nfile 's.mp4'\nfile 's.mp4'\n")
    with Reader(tmp_path / "l.ffconcat") as reader, pytest.raises(MediaError, match="of a list has a header of its own"):
        Writer(tmp_path / "o.mp4", like=reader, smart_copy=True)
    with pytest.raises(ConfigError, match="copies out of a video file"):
        Writer(tmp_path / "o.mp4", smart_copy=True)
    with Reader(source) as reader, monkeypatch.context() as patch:
        patch.setattr(reader, "path", "-")
        with pytest.raises(ConfigError, match="which a pipe or a picture is not"):
            Writer(tmp_path / "o.mp4", like=reader, smart_copy=True)


def test_hdr_that_only_the_source_has_is_refused(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("videoclr.media.film.lost_hdr", lambda *_: ["HDR10+ metadata is left out"])
    source = clip("s.mp4", ticks=range(2), **{"size": SIZE, **H264})
    with Reader(source) as reader, pytest.raises(MediaError, match=r"would differ from what is copied: HDR10\+"):
        Writer(tmp_path / "o.mp4", like=reader, smart_copy=True).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


def test_the_command_line_knows_the_option(clip, tmp_path, videoclr):
    source = clip("s.mp4", ticks=range(4), **{"size": SIZE, **H264})
    code, said = videoclr(tmp_path, source, tmp_path / "o.mp4", "--smart-copy", "--codec", "prores")
    assert (code, said.count("\n")) == (2, 1)
    assert "the source is h264, so the output cannot be prores" in said


# -- units ----------------------------------------------------------------------------------------------------------------


def test_units_are_split_and_packed_both_ways():
    parts = [b"\x67\x01", b"\x68\x02\x03", b"\x65" + bytes(range(1, 200))]
    for length in (0, 1, 2, 4):
        assert nal.units(nal.packed(parts, length), length) == parts
    assert nal.units(b"\0\0\1\x67\1\0\0\0\1\x68\2\0\0", 0) == [b"\x67\1", b"\x68\2"]
    assert nal.units(b"", 0) == nal.units(b"", 4) == []


def test_renumbered_hevc_decodes_to_the_same_pictures(clip):
    source = clip("s.mp4", ticks=range(12), **HEVC)
    with av.open(str(source)) as file:
        header = file.streams.video[0].codec_context.extradata
        stored = [bytes(one) for one in file.demux(video=0) if one.size]
    length, sets = nal.header_of("hevc", header)
    shown = []
    for change in (lambda part: part, nal.renumbered):
        decoder = av.CodecContext.create("hevc", "r")
        decoder.extradata = nal.packed([change(one) for one in sets], 0)
        data = [av.Packet(nal.packed([change(part) for part in nal.units(one, length)], 0)) for one in stored]
        shown.append([samples(frame) for one in (*data, None) for frame in decoder.decode(one)])
    assert len(shown[0]) == 12
    assert all(np.array_equal(one, other) for one, other in zip(*shown, strict=True))
    assert {nal.number_of("hevc", nal.renumbered(one))[1] for one in sets} == {nal.OURS}
    with pytest.raises(ValueError, match="not numbered 0"):
        nal.renumbered(nal.renumbered(sets[-1]))


def test_a_source_that_uses_all_numbers_is_refused():
    sets = [b"\x67\x64\x00\x0a\x80", b"\x68\x80"]  # both numbered 0
    assert nal.free_number("h264", sets, range(1)) is None
    assert nal.free_number("h264", sets, range(32)) == 1


@pytest.mark.parametrize(
    ("unit", "fits"),
    [
        (b"\x68\x40", False),
        (b"\x68\x80", True),
        (b"\x68", False),
        (b"\x67\x64\x00\x0a\x40", False),
        (b"\x6f\x64\x00\x0a\x40", False),
    ],
    ids=["ours", "theirs", "cut off", "ours too", "a layer"],
)  # fmt: skip
def test_packets_whose_parameter_sets_would_be_taken_for_ours_are_not_copied(unit, fits):
    joint = Sets("h264", nal.packed([b"\x67\x64\x00\x0a\x80", b"\x68\x80"], 0), 0, "mpegts")
    assert joint.fits(av.Packet(nal.packed([unit, b"\x65\x88"], 0))) == fits

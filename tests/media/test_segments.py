from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from videoclr.errors import MediaError, ResumeError
from videoclr.media.reader import Reader
from videoclr.media.segments import check
from videoclr.media.writer import Writer
from videoclr.pixels import eight_bit


def in_segments(source: Path, target: Path, borders: set[int], folder: Path, **settings) -> list:
    """Write `source` again, with a new segment at every frame of `borders`."""
    folder.mkdir()
    segments = []
    with Reader(source) as reader, Writer(target, like=reader, **settings) as writer:
        for frame in reader.frames():
            if frame.index in borders:
                if segments or frame.index:
                    segments.append(writer.end_segment())
                writer.begin_segment(folder / f"{frame.index}")
            writer.write(frame)
        segments.append(writer.end_segment())
        writer.join(segments, max(one.reorder for one in segments))
    return segments


def whole(source: Path, target: Path, **settings) -> None:
    with Reader(source) as reader, Writer(target, like=reader, **settings) as writer:
        for frame in reader.frames():
            writer.write(frame)


def pictures(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    with Reader(path) as reader:
        return [(frame.time, eight_bit(frame.image)) for frame in reader.frames()]


@pytest.mark.parametrize(
    ("codec", "ending", "preset"),
    [
        ("h264", "mp4", "medium"),
        ("h264", "mkv", "medium"),
        ("h264", "ts", "medium"),
        ("ffv1", "nut", None),
        ("h264", "avi", "medium"),
        ("hevc", "mov", "ultrafast"),
        ("av1", "mp4", "12"),
        ("vp9", "webm", "8"),
        ("ffv1", "mkv", None),
        ("prores", "mov", None),
        ("mjpeg", "mov", None),
    ],
)
def test_segments_of_every_codec_are_joined_without_a_seam(clip, packets_of, tmp_path, codec, ending, preset):
    uneven = [2 * i + (i % 3 == 1) for i in range(30)]
    grid = list(range(30))
    sound = 0 if ending == "webm" else 1
    source = clip("i.mp4", ticks=grid if ending == "avi" else uneven, base=Fraction(1, 25), audio=sound)
    target, plain = tmp_path / f"o.{ending}", tmp_path / f"p.{ending}"
    segments = in_segments(source, target, {0, 8, 9, 21}, tmp_path / "segments", codec=codec, preset=preset)
    whole(source, plain, codec=codec, preset=preset)
    assert [one.packets for one in segments] == [8, 1, 12, 9]
    ours, theirs, original = pictures(target), pictures(plain), pictures(source)
    assert [time for time, _ in ours] == [time for time, _ in theirs]
    for (_, picture), (_, wanted) in zip(ours, original, strict=True):
        assert np.abs(picture.astype(int) - wanted).mean() < 9  # a picture in the wrong place differs by 20 and more
    assert packets_of(target, "audio") == packets_of(plain, "audio")
    with av.open(str(target)) as file:
        times = [packet.dts for packet in file.demux(video=0) if packet.size and packet.dts is not None]
    assert all(one < other for one, other in pairwise(times))


def test_a_segment_does_not_depend_on_those_before_it(clip, tmp_path):
    source = clip("i.mp4", ticks=range(24))
    one = in_segments(source, tmp_path / "a.mp4", {0, 10}, tmp_path / "a")
    two = in_segments(source, tmp_path / "b.mp4", {0, 3, 10}, tmp_path / "b")
    assert one[-1].path.read_bytes() == two[-1].path.read_bytes()
    assert (tmp_path / "a.mp4").read_bytes() != (tmp_path / "b.mp4").read_bytes()


def test_a_damaged_segment_is_found_and_nothing_is_written(clip, tmp_path):
    source, target, folder = clip("i.mp4"), tmp_path / "o.mp4", tmp_path / "s"
    folder.mkdir()
    with pytest.raises(ResumeError, match="missing or damaged"), Reader(source) as reader, Writer(target, like=reader) as writer:
        writer.begin_segment(folder / "0")
        for frame in reader.frames():
            writer.write(frame)
        segment = writer.end_segment()
        check(segment)
        data = bytearray(segment.path.read_bytes())
        data[len(data) // 2] ^= 1
        segment.path.write_bytes(data)
        with pytest.raises(ResumeError, match="missing or damaged"):
            check(segment)
        segment.path.write_bytes(data[:-5])
        writer.join([segment], segment.reorder)
    assert not target.exists()


def test_a_segment_that_breaks_off_leaves_no_file(clip, tmp_path):
    source, folder = clip("i.mp4"), tmp_path / "s"
    folder.mkdir()
    with pytest.raises(RuntimeError), Reader(source) as reader, Writer(tmp_path / "o.mp4", like=reader) as writer:
        writer.begin_segment(folder / "0")
        writer.write(next(reader.frames()))
        raise RuntimeError
    assert list(folder.iterdir()) == []


def test_pictures_have_no_segments(clip, tmp_path):
    with Reader(clip("i.mp4")) as reader, Writer(tmp_path / "o%d.png", like=reader) as writer:
        with pytest.raises(MediaError, match="needs a video file"):
            writer.begin_segment(tmp_path / "0")
        writer.write(next(reader.frames()))

"""A part of a film by seconds, frames and timecode: the right frames to one, and the sound that belongs to them."""

from __future__ import annotations

import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from videoclr.cli import main
from videoclr.errors import ConfigError, MediaError
from videoclr.media.moments import FrameNumber, moment, position
from videoclr.media.reader import Reader
from videoclr.media.timecode import Timecode, frames_between

NTSC = Fraction(30000, 1001)


def kept(path, *options, folder, codec="ffv1"):
    """Numbers of the source's frames (by their pixels) that a run with `options` writes."""
    target = folder / "part.mkv"
    target.unlink(missing_ok=True)
    assert (
        main(
            [
                str(path),
                str(target),
                "-q",
                "--set",
                "restore.use=unchanged",
                "--set",
                "detect.every=25",
                "--codec",
                codec,
                *map(str, options),
            ]
        )
        == 0
    )
    return matched(path, target)


def matched(path, target):
    with av.open(str(path)) as source, av.open(str(target)) as part:
        known = [frame.to_ndarray() for frame in source.decode(video=0)]
        found = [frame.to_ndarray() for frame in part.decode(video=0)]
    return [next(number for number, one in enumerate(known) if np.array_equal(one, frame)) for frame in found]


def long_clip(clip, name, count=40, **settings):
    return clip(name, ticks=range(count), codec="libx264", options={"g": "12", "bf": "2"}, **settings)


SELECTIONS = [
    (["--start", "0.4", "--end", "0.8"], range(10, 20)),
    (["--start", "10f", "--end", "20f"], range(10, 20)),
    (["--start", "10f", "--frames", "10"], range(10, 20)),
    (["--frames", "7"], range(7)),
    (["--start", "0.39", "--frames", "3"], range(10, 13)),
    (["--start", "33f"], range(33, 40)),
    (["--end", "5f"], range(5)),
    (["--start", "00:00:00:10", "--end", "00:00:00:20"], range(10, 20)),
    (["--start", "00:00:01:00"], range(25, 40)),
    (["--start", "00:00:01:01", "--frames", "1"], range(26, 27)),
    (["--start", "38f", "--frames", "99"], range(38, 40)),
    (["--start", "1.2", "--end", "35f"], range(30, 35)),
]


@pytest.mark.parametrize(("options", "wanted"), SELECTIONS)
@pytest.mark.parametrize("ending", ["mp4", pytest.param("mkv", marks=pytest.mark.slow)])
def test_a_part_is_the_frames_that_were_named(clip, tmp_path, options, wanted, ending):
    assert kept(long_clip(clip, f"a.{ending}"), *options, folder=tmp_path) == list(wanted)


@pytest.mark.parametrize("ending", ["ts", "avi", "nut"])
def test_other_containers_count_the_same(clip, tmp_path, ending):
    source = long_clip(clip, f"a.{ending}") if ending != "avi" else clip("a.avi", ticks=range(40), codec="mpeg4")
    for options in (["--start", "10f", "--end", "20f"], ["--start", "00:00:00:10", "--frames", "10"]):
        assert kept(source, *options, folder=tmp_path) == list(range(10, 20))


@pytest.mark.parametrize(
    ("options", "wanted"), [pytest.param(*one, marks=[pytest.mark.slow] if n % 3 else []) for n, one in enumerate(SELECTIONS[:8])]
)
def test_a_pipe_is_counted_as_it_comes(videoclr, clip, tmp_path, options, wanted):
    source = long_clip(clip, "a.nut", container="nut")
    plain = ["--set", "restore.use=unchanged", "--set", "detect.every=25", "--codec", "ffv1"]
    code, error = videoclr(tmp_path, "-", "-", *plain, *options, stdin=source, stdout=tmp_path / "part")
    assert code == 0, error
    assert matched(source, tmp_path / "part") == list(wanted)


@pytest.mark.parametrize("options", [["--start", "50f"], ["--start", "50f", "--frames", "3"]])
def test_a_pipe_that_ends_before_the_part_says_so(videoclr, clip, tmp_path, options):
    source = clip("a.nut", container="nut")
    code, error = videoclr(tmp_path, "-", "-", "--quiet", *options, stdin=source, stdout=tmp_path / "part")
    assert code == 1
    assert error.strip().endswith("before the part that was asked for"), error


def test_frames_are_counted_and_not_computed_where_the_rate_varies(clip, tmp_path):
    source = clip("v.mp4", ticks=[0, 1, 2, 10, 11, 40, 41, 90, 91, 92])
    assert kept(source, "--start", "3f", "--end", "7f", folder=tmp_path) == [3, 4, 5, 6]
    assert kept(source, "--start", "4f", "--frames", "2", folder=tmp_path) == [4, 5]


def test_frames_before_an_edit_do_not_count(clip, tmp_path, ffmpeg):
    """A file cut without encoding holds pictures that are decoded and never shown."""
    source, cut = long_clip(clip, "a.mp4"), tmp_path / "cut.mp4"
    subprocess.run([ffmpeg, "-v", "error", "-ss", "0.6", "-i", source, "-c", "copy", cut], check=True)
    with av.open(str(cut)) as container:
        shown = len(list(container.decode(video=0)))
    with Reader(cut) as reader:
        assert len(list(reader.frames())) == shown
    for number in (0, 1, 7):
        with Reader(cut) as whole, Reader(cut, start=f"{number}f", frames=2) as part:
            times = [frame.time for frame in whole.frames()]
            assert [frame.time for frame in part.frames()] == times[number : number + 2]


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_the_sound_is_cut_with_the_frames(videoclr, clip, tmp_path, packets_of, way):
    source = long_clip(clip, "a.nut", container="nut", audio=1)
    plain = ["--set", "restore.use=unchanged", "--set", "detect.every=25", "--codec", "ffv1", "--start", "10f", "--frames", "20"]
    target = tmp_path / "part.nut"
    ends = ("-", "-") if way == "pipe" else (source, target)
    code, error = videoclr(tmp_path, *ends, *plain, stdin=source, stdout=target if way == "pipe" else None)
    assert code == 0, error
    with Reader(source) as reader:
        times = [frame.time for frame in reader.frames()]
    start, end = times[10], times[30]
    wanted = [(data, time - start) for data, time in packets_of(source, "audio")[0] if start <= time < end]
    assert packets_of(target, "audio")[0] == [(data, pytest.approx(time, abs=1e-3)) for data, time in wanted]
    assert len(wanted) > 3


# -- timecode ------------------------------------------------------------------------------------------------------


def timed_clip(clip, name, label, rate=Fraction(25), count=60):
    def tag(container, stream):
        stream.metadata["timecode"] = label

    return clip(name, ticks=range(count), base=1 / rate, rate=rate, options={"g": "12", "bf": "2"}, setup=tag)


@pytest.mark.parametrize("ending", ["mov", "mp4", "mkv", "mxf"])
def test_a_timecode_counts_from_the_files_own(clip, tmp_path, ending):
    codec = {"codec": "mpeg2video"} if ending == "mxf" else {}
    source = clip(f"t.{ending}", ticks=range(40), setup=lambda _, stream: stream.metadata.update(timecode="10:00:00:00"), **codec)
    assert kept(source, "--start", "10:00:01:00", "--end", "10:00:01:05", folder=tmp_path) == list(range(25, 30))


def test_drop_frame_and_non_drop_frame_count_differently(clip, tmp_path):
    drop = timed_clip(clip, "d.mov", "00:00:59;20", NTSC)
    whole = timed_clip(clip, "n.mov", "00:00:59:20", NTSC)
    assert kept(drop, "--start", "00:00:59;29", "--end", "00:01:00;04", folder=tmp_path) == [9, 10, 11]
    assert kept(whole, "--start", "00:00:59:29", "--end", "00:01:00:02", folder=tmp_path) == [9, 10, 11]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--start", "00:01:00;00"], "does not exist: drop frame leaves the first 2 labels"),
        (["--start", "00:01:00:05"], "the file counts drop frame: write ; before the frames (it begins at 00:00:59;20)"),
        (["--start", "00:00:10;00"], "lies before the file's first picture, 00:00:59;20"),
        (["--start", "00:01:00;30"], "is no timecode at 29.97"),
        (["--start", "00:61:00;00"], "is no timecode"),
    ],
)
def test_a_timecode_that_is_none_here_is_one_line(clip, tmp_path, capsys, options, says):
    source = timed_clip(clip, "d.mov", "00:00:59;20", NTSC)
    assert main([str(source), str(tmp_path / "o.mkv"), *options]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_drop_frame_needs_its_rate(clip):
    with pytest.raises(ConfigError, match="drop frame"):
        Reader(clip("a.mp4"), start="00:00:00;05")


@pytest.mark.parametrize(
    ("label", "rate", "frames"),
    [
        ("00:00:00:00", 25, 0), ("01:00:00:00", 25, 90_000), ("01:00:00:00", Fraction(24000, 1001), 86_400),
        ("00:01:00;02", NTSC, 1800), ("00:10:00;00", NTSC, 17_982), ("01:00:00;00", NTSC, 107_892),
        ("23:59:59;29", NTSC, 2_589_407), ("00:01:00;04", Fraction(60000, 1001), 3600),
        ("01:00:00;00", Fraction(60000, 1001), 215_784), ("01:00:00:00", NTSC, 108_000),
    ],
)  # fmt: skip
def test_labels_count_as_the_standard_says(label, rate, frames):
    """Drop frame: 107,892 frames in an hour of 29.97 (SMPTE ST 12-1)."""
    assert Timecode.parse(label).count(Fraction(rate), "start") == frames
    assert str(Timecode.parse(label)) == label


def test_every_drop_frame_label_of_ten_minutes_is_one_frame_after_the_one_before():
    labels = [Timecode(0, m, s, f, True) for m in range(11) for s in range(60) for f in range(30)]
    counts = [label.count(NTSC, "start") for label in labels if label.seconds or label.frames >= 2 or label.minutes % 10 == 0]
    assert counts == list(range(len(counts)))


def test_a_recording_may_go_past_midnight():
    first, wanted = Timecode.parse("23:59:59:20"), Timecode.parse("00:00:00:05")
    assert frames_between(first, wanted, Fraction(25), "start") == 10


@pytest.mark.parametrize(
    ("text", "is_"),
    [
        ("240f", FrameNumber(240)), ("12.5", Fraction(25, 2)), ("1:30", Fraction(90)), ("01:02:03", Fraction(3723)),
        ("01:02:03:04", Timecode(1, 2, 3, 4, False)), ("01:02:03;04", Timecode(1, 2, 3, 4, True)), (None, None),
    ],
)  # fmt: skip
def test_what_a_person_types_is_told_apart(text, is_):
    assert position(text, "start") == is_


@pytest.mark.parametrize("text", ["f", "-1f", "1.5f", "01:02:03:4", "01:02:03,04", "1:2:3:04", "24F frames"])
def test_anything_else_is_refused_with_the_forms_there_are(text):
    with pytest.raises(ConfigError, match=r"\$\.media\.end: expected seconds"):
        position(text, "end")
    with pytest.raises(ConfigError):
        moment("240f", "start")


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"start": "10f"}, MediaError, r"begins behind its last picture; it has 10 \(0f to 9f\)"),
        ({"start": "5f", "end": "5f"}, ConfigError, "is not after the start"),
        ({"end": "0f"}, ConfigError, "is not after the start"),
        ({"end": "5f", "frames": 3}, ConfigError, "either an end or a number of frames"),
        ({"frames": 0}, ConfigError, "expected 1 or more"),
        ({"start": "00:00:00:07", "end": "00:00:00:05"}, ConfigError, "is not after the start"),
        ({"start": "8f", "end": "0.1"}, MediaError, "has no picture between"),
    ],
)
def test_a_part_that_is_empty_is_told(clip, asked, error, says):
    with pytest.raises(error, match=says):
        Reader(clip("a.mp4"), **asked)


def test_a_part_may_be_read_again(clip):
    with Reader(clip("a.mp4"), start="3f", frames=4) as reader:
        first, again = ([frame.time for frame in reader.frames()] for _ in range(2))
    assert first == again == [Fraction(tick, 25) for tick in (3, 4, 5, 6)]
    assert reader.info.frame_count == 4


def test_a_part_of_a_sequence_is_counted_from_its_first_picture(tmp_path, pattern):
    from videoclr.media.writer import Writer
    from videoclr.types import Frame

    for number in range(1001, 1011):
        with Writer(tmp_path / f"shot.{number}.png") as writer:
            writer.write(Frame.from_image(pattern(number)))
    with Reader(tmp_path / "shot.%04d.png", start="2f", frames=3, rate=24) as reader:
        frames = list(reader.frames())
    assert [frame.time for frame in frames] == [Fraction(index, 24) for index in (2, 3, 4)]
    assert np.array_equal(frames[0].image, pattern(1003))

"""Inputs of many files: numbered pictures, lists, and batches of all kinds."""

from __future__ import annotations

import os
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from videoclr.cli import main
from videoclr.errors import MediaError
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Frame

HEADER = "ffconcat version 1.0\n"


def restored(source, target, *options):
    return main([str(source), str(target), "--set", "restore.use=unchanged", "--set", "detect.every=25", "-q", *map(str, options)])


def pixels(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def shot(folder, pattern, numbers, name="shot.%04d.png"):
    for number in numbers:
        with Writer(folder / (name % number)) as writer:
            writer.write(Frame.from_image(pattern(number)))


# -- numbered pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "exact"), [("24", Fraction(24)), ("24000/1001", Fraction(24000, 1001)), (None, Fraction(25))])
def test_numbered_pictures_become_a_film_at_the_rate_that_was_named(tmp_path, pattern, rate, exact):
    shot(tmp_path, pattern, range(1001, 1007))
    options = [] if rate is None else ["--rate", rate]
    assert restored(tmp_path / "shot.%04d.png", tmp_path / "o.mov", "--codec", "ffv1", *options, "--container", "nut") == 0
    with Reader(tmp_path / "o.mov") as reader:
        frames = list(reader.frames())
        assert reader.info.frame_rate == exact
    assert [frame.time for frame in frames] == [index / exact for index in range(6)]
    assert all(np.array_equal(frame.image, pattern(1001 + index)) for index, frame in enumerate(frames))


def test_a_sequence_that_grows_while_it_is_read_says_so(tmp_path, pattern):
    shot(tmp_path, pattern, range(3))
    with Reader(tmp_path / "shot.%04d.png") as reader, Reader(tmp_path / "shot.%04d.png", end="2f") as part:
        shot(tmp_path, pattern, (3, 4))
        assert (len(list(reader.frames())), len(list(part.frames()))) == (3, 2)
    told = "pictures came while it was read: shot.0003.png and what follows are left out; restore it again when it is finished"
    assert (reader.warnings, part.warnings) == ([told], [])


def test_a_sequence_may_begin_at_a_number_behind_a_gap(tmp_path, pattern, capsys):
    shot(tmp_path, pattern, [3, 1001, 1002, 1003])
    source = tmp_path / "shot.%04d.png"
    assert restored(source, tmp_path / "out.%04d.png") == 1
    assert "shot.0004.png is missing" in capsys.readouterr().err
    assert restored(source, tmp_path / "out.%04d.png", "--start-number", "1002") == 0
    assert sorted(path.name for path in tmp_path.glob("out.*")) == ["out.1002.png", "out.1003.png"]
    assert restored(source, tmp_path / "more.%04d.png", "--start-number", "7") == 1
    assert "picture number 7 is missing; there are 3 to 1003" in capsys.readouterr().err


# -- lists ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def listed(tmp_path):
    """`listed("a.mp4", "b.mp4")` writes a list of these names as they are."""

    def write(*names, header=HEADER):
        path = tmp_path / "all.ffconcat"
        path.write_text(header + "".join(f"file {name}\n" for name in names))
        return path

    return write


def clips(clip, ending, **settings):
    """Three parts, the middle one with pictures of its own; every one has sound that goes on a little longer."""
    container = {"nut": "nut"}.get(ending)
    return [clip(f"part {n}.{ending}", ticks=range(count), container=container, **settings) for n, count in enumerate((7, 5, 6))]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_listed_files_are_one_film_without_a_seam(clip, tmp_path, listed, ending):
    parts = clips(clip, ending, audio=1)
    source = listed(*(f"'{part.name}'" for part in parts))
    assert restored(source, tmp_path / "out.nut", "--codec", "ffv1") == 0
    with Reader(source) as reader:
        assert reader.info.frame_count == 18 and abs(reader.info.duration - Fraction(18, 25)) < Fraction(1, 1000)
    single = [picture for part in parts for picture in pixels(part)]
    together = pixels(tmp_path / "out.nut")
    assert len(together) == 18 and all(map(np.array_equal, single, together))
    with Reader(tmp_path / "out.nut") as reader:
        times = [frame.time for frame in reader.frames()]
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert set(steps) == {Fraction(1, 25)}


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_the_encoder_delay_at_a_seam_is_no_loss(clip, made, tmp_path, listed, ending):
    for name in ("a", "b"):
        made("-i", clip(f"{name}.mp4", ticks=range(20), audio=1), "-c", "copy", tmp_path / f"{name}.mkv")
    source = listed(f"a.{ending}", f"b.{ending}")
    assert restored(source, tmp_path / "out.mkv", "--fail-on", "warnings>0") == 0


def test_the_sound_of_listed_files_stays_with_its_pictures(clip, tmp_path, listed, packets_of):
    parts = [clip(f"{name}.mov", ticks=range(count), audio=1) for name, count in (("a", 20), ("b", 15))]
    assert restored(listed("a.mov", "b.mov"), tmp_path / "out.mov", "--fail-on", "warnings>0") == 0  # nobody hears the priming
    first, second = (packets_of(part, "audio")[0] for part in parts)
    found = packets_of(tmp_path / "out.mov", "audio")[0]
    seam = Fraction(20, 25)
    # a packet belongs to a part if it begins while its pictures last; the priming of the second has no place
    assert [data for data, time in found if time < seam] == [data for data, time in first if time < seam]
    assert [(data, time - seam) for data, time in found if time >= seam] == [
        one for one in second if 0 <= one[1] < Fraction(15, 25)
    ]


def test_a_part_of_a_list_is_counted_over_its_files(clip, tmp_path, listed):
    parts = clips(clip, "mp4")
    source = listed(*(f"'{part.name}'" for part in parts))
    assert restored(source, tmp_path / "o.mkv", "--codec", "ffv1", "--start", "5f", "--frames", "4") == 0
    single = [picture for part in parts for picture in pixels(part)]
    assert all(map(np.array_equal, single[5:9], pixels(tmp_path / "o.mkv")))
    with Reader(source, start="0.44") as reader:
        assert len(list(reader.frames())) == reader.info.frame_count == 18 - 11


@pytest.mark.parametrize("name", ["it's one.mp4", "späße 影.mp4", "a\\b.mp4", "#1.mp4", "two  spaces.mp4", 'a"b.mp4'])
def test_names_in_a_list_may_be_quoted(clip, tmp_path, listed, name):
    clip("plain.mp4").rename(tmp_path / name)
    quoted = name.replace("'", "'\\''")
    with Reader(listed(f"'{quoted}'", f"'{quoted}'")) as reader:
        assert len(list(reader.frames())) == 20


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("file /etc/passwd", "leads out of the list's folder"),
        ("file ../x.mp4", "leads out of the list's folder"),
        ("file in/../../x.mp4", "leads out of the list's folder"),
        ("file http://127.0.0.1/x.mp4", "is not there"),
        ("file subfile,,start,0,end,0,,:a.mp4", "is not there"),
        ("file link.mp4", "is a link that leads out of the list's folder"),
        ("file gone.mp4", "line 2: "),
        ("file a.mp4\nduration 3", "line 3: 'duration' is not understood"),
        ("file a.mp4 b.mp4", "expected one name"),
        ("file 'a.mp4", "a quote is not closed"),
        ("file", "expected one name"),
        ("# nothing", "names no file"),
        ("file other.ffconcat", "is a list itself"),
        ("file list.m3u8", "is an HLS playlist"),
        ("file nested.mp4", "is a list of files"),
        ("file small.mp4", "small.mp4 is not like a.mp4: video, h264, 64, 48"),
        ("file loud.mp4", "loud.mp4 is not like a.mp4: 2 streams, not 1 streams"),
        ("file p.png", "is a picture"),
    ],
)
def test_a_list_that_is_none_or_leads_elsewhere_is_one_line(clip, tmp_path, capsys, pattern, lines, says):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, settings in (("a.mp4", {}), ("small.mp4", {"size": (64, 48)}), ("loud.mp4", {"audio": 1})):
        clip(f"folder/{name}", **settings)
    (folder / "other.ffconcat").write_text(HEADER + "file a.mp4\n")
    (folder / "nested.mp4").write_text(HEADER + "file a.mp4\n")
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\na.mp4\n")
    (tmp_path / "x.mp4").write_bytes((folder / "a.mp4").read_bytes())
    os.symlink(tmp_path / "x.mp4", folder / "link.mp4")
    with Writer(folder / "p.png") as writer:
        writer.write(Frame.from_image(pattern(0)))
    source = folder / "all.ffconcat"
    first = "" if lines.startswith(("file a", "#")) else "file a.mp4\n"
    source.write_text(HEADER + (lines if not first or "line 2" in says else first + lines) + "\n")
    assert restored(source, tmp_path / "o.mkv") == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "o.mkv").exists()


@pytest.mark.parametrize("text", ["", "file a.mp4\n", "\xff\xfe", "ffconcat version 2.0\nfile a.mp4\n"])
def test_only_a_list_is_read_as_one(tmp_path, text):
    path = tmp_path / "a.ffconcat"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(MediaError):
        Reader(path)


def test_the_output_is_none_of_the_listed_files(clip, tmp_path, listed, capsys):
    clip("a.mp4")
    before = (tmp_path / "a.mp4").read_bytes()
    assert restored(listed("a.mp4"), tmp_path / "a.mp4", "-y") == 1
    assert "is one of the files that the input lists" in capsys.readouterr().err
    assert (tmp_path / "a.mp4").read_bytes() == before
    (tmp_path / "b.mp4.part").write_bytes(before)
    assert restored(listed("b.mp4.part"), tmp_path / "b.mp4", "-y") == 1
    assert "grows as b.mp4.part, which is the input" in capsys.readouterr().err
    assert (tmp_path / "b.mp4.part").read_bytes() == before


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_takes_films_lists_and_sequences_together(clip, tmp_path, pattern, listed, capsys):
    clip("a.mp4")
    clip("b.mp4")
    shot(tmp_path, pattern, range(1, 4))
    sources = [tmp_path / "b.mp4", listed("a.mp4", "b.mp4"), tmp_path / "shot.%04d.png", tmp_path / "gone.mp4"]
    command = [
        "batch",
        *map(str, sources),
        "--to",
        str(tmp_path / "out"),
        "--ending",
        ".mkv",
        "-q",
        "--set",
        "restore.use=unchanged",
    ]
    assert main(command) == 1
    assert capsys.readouterr().err.count("gone.mp4: no such file") == 1
    assert {path.name: len(pixels(path)) for path in (tmp_path / "out").iterdir()} == {
        "b.mkv": 10, "all.mkv": 20, "shot.%04d.mkv": 3,
    }  # fmt: skip

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videoclr import cli
from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError, VideoclrError
from videoclr.media.clock import with_clock
from videoclr.media.reader import Reader
from videoclr.media.timecode import Timecode
from videoclr.timeline import cut as cuts
from videoclr.timeline import parts_of_timeline, restore_timeline

otio = pytest.importorskip("opentimelineio", reason="needs the extra timeline")
schema, Time, Range = otio.schema, otio.opentime.RationalTime, otio.opentime.TimeRange

COUNT = 60
NTSC = Fraction(30000, 1001)
LOSSLESS = Config().override("media.codec=ffv1", "restore.use=unchanged", "gate.use=none", "track.max_gap=0", "align.smoothing=0")


def picture(index: int, face: bool = True) -> np.ndarray:
    return np.full((64, 96, 3), (200 if face else 20, 0, 4 * index), np.uint8)


def ranged(start: float, duration: float, rate: float = 25) -> Range:
    return Range(Time(start, rate), Time(duration, rate))


def clip(media: Path | str, start: float, duration: float, *, available=None, rate: float = 25, name: str = "") -> schema.Clip:
    url = media.absolute().as_uri() if isinstance(media, Path) else media
    reference = schema.ExternalReference(target_url=url, available_range=available)
    return schema.Clip(name or Path(url).stem, media_reference=reference, source_range=ranged(start, duration, rate))


def timeline(*items, name: str = "cut") -> schema.Timeline:
    made, track = schema.Timeline(name), schema.Track("V1", kind="Video")
    track.extend(items)
    made.tracks.append(track)
    return made


def write(place: Path, made) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    otio.adapters.write_to_file(made, str(place))
    return place


def shown(place: Path, first_of: dict[str, int] | None = None) -> list[list[int]]:
    """The numbers of the frames that each video clip of a cut shows, by its own word on when its media begins."""
    numbers = []
    for track in otio.adapters.read_from_file(str(place)).video_tracks():
        for one in track.find_clips():
            reference = one.media_reference
            if isinstance(reference, schema.ImageSequenceReference):
                with Reader(str(Path(reference.target_url_base.removeprefix("file://"), "f.%04d.png"))) as reader:
                    values = [int(frame.image[..., 2].mean() + 2) // 4 for frame in reader.frames()]
                    off = reader.sequence.first - reference.start_frame
                    assert off == 0
            else:
                with Reader(reference.target_url.removeprefix("file://")) as reader:
                    values = [int(frame.image[..., 2].mean() + 2) // 4 for frame in reader.frames()]
                    begun = Time(0, one.source_range.start_time.rate) if reader.timecode is None else _label(reader)
            if reference.available_range is not None:
                begun = reference.available_range.start_time
                assert reference.available_range.duration.value == pytest.approx(len(values))
            first = round((one.source_range.start_time - begun).value)
            numbers.append(values[first : first + round(one.source_range.duration.value)])
            assert first >= 0 and len(numbers[-1]) == round(one.source_range.duration.value)
    return numbers


def _label(reader: Reader) -> Time:
    rate = reader.info.frame_rate
    return Time(reader.timecode.count(rate, "start"), float(rate))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


CASES = {
    "no timecode, from 0": (None, Fraction(25), lambda path: [clip(path, 20, 10, available=ranged(0, COUNT))]),
    "no timecode, nothing said": (None, Fraction(25), lambda path: [clip(path, 20, 10)]),
    "timecode": ("10:00:00:00", Fraction(25), lambda path: [clip(path, 900_020, 10, available=ranged(900_000, COUNT))]),
    "timecode, nothing said": ("10:00:00:00", Fraction(25), lambda path: [clip(path, 900_020, 10)]),
    "timecode, counted from 0": ("10:00:00:00", Fraction(25), lambda path: [clip(path, 20, 10, available=ranged(0, COUNT))]),
    "a clock of the program's own": (None, Fraction(25), lambda path: [clip(path, 1020, 10, available=ranged(1000, COUNT))]),
    "29.97": ("01:00:00:00", NTSC, lambda path: [clip(path, 108_020, 10, available=ranged(108_000, COUNT, 29.97), rate=29.97)]),
    "29.97 drop frame": ("01:00:00;00", NTSC, lambda path: [clip(path, 107_912, 10, rate=30000 / 1001)]),
    "29.97 called 30": (None, NTSC, lambda path: [clip(path, 20, 10, rate=30)]),
    "two parts": (None, Fraction(25), lambda path: [clip(path, 2, 5), clip(path, 40, 10)]),
    "touching parts": (None, Fraction(25), lambda path: [clip(path, 30, 5), clip(path, 10, 5), clip(path, 20, 8)]),
    "all": (None, Fraction(25), lambda path: [clip(path, 0, COUNT)]),
    "to the end": ("00:59:59:00", Fraction(25), lambda path: [clip(path, 25 * 3599 + 50, 10)]),
    "a dissolve": (
        None,
        Fraction(25),
        lambda path: [clip(path, 10, 9), schema.Transition(in_offset=Time(3, 25), out_offset=Time(4, 25)), clip(path, 44, 9)],
    ),
    "nested": (None, Fraction(25), lambda path: [schema.Stack("inside", children=[schema.Track(children=[clip(path, 20, 10)])])]),
}


@pytest.mark.parametrize("handles", [0, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_the_new_cut_shows_the_same_frames_of_restored_files(film, case, handles, tmp_path):
    timecode, rate, items = CASES[case]
    source = film(tmp_path / "media" / "A001.mkv", rate, timecode)
    old = write(tmp_path / "cut.otio", timeline(*items(source)))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=handles)
    assert not done.missed and done.relinked == done.clips == len(shown(old))
    assert done.timeline == tmp_path / "out" / "cut.otio" and shown(done.timeline) == shown(old)
    for one in otio.adapters.read_from_file(str(done.timeline)).find_clips():
        assert one.media_reference.target_url.startswith((tmp_path / "out").as_uri())


@pytest.mark.parametrize(("begin", "length", "says"), [(0, 50, True), (1000, 50, True), (0, COUNT + 10, True), (0, COUNT, False)])
def test_a_clip_that_shows_all_that_the_cut_knows_of_its_media_stays_as_long(film, tmp_path, begin, length, says):
    source = film(tmp_path / "A001.mkv")
    made = timeline(clip(source, 0, 10, available=ranged(begin, length)), clip(source, 5, 5))
    made.tracks[0][0].source_range = None
    made.tracks[0][0].markers.append(schema.Marker("here", ranged(begin + 12, 1)))
    old = write(tmp_path / "cut.otio", made)
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=2)
    new = otio.adapters.read_from_file(str(done.timeline))
    one = new.tracks[0][0]
    assert new.duration() == made.duration() and one.trimmed_range() == ranged(begin, length)
    assert (one.source_range is not None) == says and one.markers[0].marked_range == ranged(begin + 12, 1)
    assert one.media_reference.available_range == ranged(begin, min(length + 2, COUNT))


def test_only_what_is_shown_is_restored_with_handles_and_parts_that_touch_are_one(film, tmp_path):
    source = film(tmp_path / "A001.mkv")
    old = write(tmp_path / "cut.otio", timeline(clip(source, 30, 5), clip(source, 10, 5), clip(source, 52, 6)))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=4)
    names = ["A001.000006-000018.mkv", "A001.000026-000038.mkv", "A001.000048-end.mkv", "cut.otio"]
    assert files(tmp_path / "out") == names
    assert [(part.first, part.last, len(part.uses)) for part in done.parts] == [(6, 19, 1), (26, 39, 1), (48, None, 1)]
    wide = restore_timeline(old, tmp_path / "wide", LOSSLESS, handles=9)
    assert [(part.first, part.last, len(part.uses)) for part in wide.parts] == [(1, None, 3)]


def test_what_dissolves_and_changed_speed_show_is_restored_too(film, tmp_path):
    source = film(tmp_path / "A001.mkv")
    fast, back, frozen = clip(source, 20, 5), clip(source, 20, 5), clip(source, 20, 5)
    fast.effects.append(schema.LinearTimeWarp(time_scalar=2.0))
    back.effects.append(schema.LinearTimeWarp(time_scalar=-1.0))
    frozen.effects.append(schema.FreezeFrame())
    curved = clip(source, 20, 5)
    curved.effects.append(schema.TimeEffect())
    dissolve = schema.Transition(in_offset=Time(2, 25), out_offset=Time(3, 25))
    for items, part in [
        ((fast,), (15, 30)),
        ((back,), (15, 30)),
        ((frozen,), (20, 25)),
        ((curved,), (0, None)),
        ((clip(source, 20, 5), dissolve, schema.Gap(source_range=ranged(0, 9))), (20, 28)),
    ]:
        old = write(tmp_path / "cut.otio", timeline(*[item.deepcopy() for item in items]))
        (one,), missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
        assert not missed and (one.first, one.last) == part


def test_clips_without_a_face_go_on_showing_the_original(film, tmp_path):
    faces, none = film(tmp_path / "A.mkv"), film(tmp_path / "B.mkv", face=False)
    made = timeline(clip(faces, 10, 5), clip(none, 10, 5))
    for one in made.find_clips():
        one.markers.append(schema.Marker("look", ranged(12, 1)))
    old = write(tmp_path / "cut.otio", made)
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    assert (done.clips, done.relinked, done.faceless) == (2, 1, 1)
    marked = [one.markers[0].marked_range for one in otio.adapters.read_from_file(str(done.timeline)).find_clips()]
    assert marked == [ranged(2, 1), ranged(12, 1)]
    assert files(tmp_path / "out") == ["A.000010-000014.mkv", "cut.otio"] and shown(done.timeline) == shown(old)
    urls = [one.media_reference.target_url for one in otio.adapters.read_from_file(str(done.timeline)).find_clips()]
    assert urls == [(tmp_path / "out" / "A.000010-000014.mkv").as_uri(), none.as_uri()]
    whole = restore_timeline(old, tmp_path / "all", LOSSLESS, handles=0, consolidate=True)
    assert (whole.relinked, whole.faceless) == (2, 0)
    assert files(tmp_path / "all") == ["A.000010-000014.mkv", "B.000010-000014.mkv", "cut.otio"]
    assert shown(whole.timeline) == shown(old)


def test_a_cut_goes_on_where_it_stopped(film, tmp_path):
    faces, none, last = (film(tmp_path / f"{name}.mkv", face=name != "B") for name in "ABC")
    old = write(tmp_path / "cut.otio", timeline(clip(faces, 10, 5), clip(none, 10, 5), clip(last, 10, 5)))
    seen = []

    def stopped(now):
        if now.source == str(last):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, resume=True, progress=stopped)
    assert not (tmp_path / "out" / "cut.otio").exists()
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, resume=True, progress=lambda now: seen.append(now.source))
    assert set(seen) == {str(last)} and (done.relinked, done.faceless) == (2, 1)
    again = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, resume=True, progress=lambda now: seen.append(now.source))
    assert set(seen) == {str(last)} and (again.relinked, again.faceless) == (2, 1) and shown(again.timeline) == shown(old)


PICTURES = Config().override("restore.use=unchanged", "gate.use=none")


def scan(folder: Path, count: int = 20) -> Path:
    """Pictures f.1001.png and on."""
    folder.mkdir(parents=True)
    for index in range(count):
        av.VideoFrame.from_ndarray(picture(index), "rgb24").to_image().save(folder / f"f.{1001 + index:04d}.png")
    return folder


def pictures(folder: Path, start: float, duration: float, first: int = 1001, rate: float = 25) -> schema.Clip:
    """A clip of pictures whose media begins with number `first`."""
    available = ranged(0, 1021 - first, rate)
    reference = schema.ImageSequenceReference(folder.as_uri() + "/", "f.", ".png", first, 1, rate, 4, available_range=available)
    return schema.Clip("sh", media_reference=reference, source_range=ranged(start, duration, rate))


def test_numbered_pictures_keep_their_numbers(tmp_path):
    folder = scan(tmp_path / "media" / "sh010")
    old = write(tmp_path / "cut.otio", timeline(pictures(folder, 8, 5)))
    done = restore_timeline(old, tmp_path / "out", PICTURES, handles=2)
    assert files(tmp_path / "out") == ["cut.otio", *(f"sh010.000006-000014/f.{number}.png" for number in range(1007, 1016))]
    assert shown(done.timeline) == [list(range(8, 13))]


@pytest.mark.parametrize(("named", "renamed"), [("f.1001.png", "f.1009.png"), ("f.[1001-1020].png", "f.[1009-1011].png")])
def test_numbered_pictures_that_are_called_a_file_are_known_from_a_still(tmp_path, named, renamed):
    folder = scan(tmp_path / "media" / "sh010")
    old = write(tmp_path / "cut.otio", timeline(clip(folder / named, 8, 3, available=ranged(0, 20))))
    done = restore_timeline(old, tmp_path / "out", PICTURES, handles=0)
    (one,) = otio.adapters.read_from_file(str(done.timeline)).find_clips()
    assert [(part.first, part.last) for part in done.parts] == [(8, 11)]
    assert one.media_reference.target_url == (done.parts[0].target.parent / renamed).as_uri()
    assert (one.source_range, one.media_reference.available_range) == (ranged(0, 3), ranged(0, 3))
    edl = restore_timeline(old, tmp_path / "edl", PICTURES, handles=2, save_as=tmp_path / "edl" / "cut.edl").timeline
    assert "/f.[1009-1011].png" in edl.read_text()
    ((part,), _) = parts_of_timeline(edl, tmp_path / "new", PICTURES.override("media.input.rate=25"), handles=0)
    assert (part.config.media.input.start_number, part.first, part.last) == (1009, 0, 3)


@pytest.mark.parametrize(("ending", "label"), [("png", "00:00:41:21"), ("dpx", "10:00:00:04")])
def test_an_edl_counts_numbered_pictures_by_the_timecode_in_them_or_by_their_numbers(tmp_path, ending, label):
    (folder := tmp_path / "media").mkdir()
    for index in range(10):
        coder = av.CodecContext.create(ending, "w")
        coder.width, coder.height, coder.pix_fmt, coder.time_base = 96, 64, "rgb24", Fraction(1, 24)
        data = b"".join(map(bytes, coder.encode(av.VideoFrame.from_ndarray(picture(index), "rgb24"))))
        if ending == "dpx":
            data = with_clock(data, Fraction(24), Timecode(10, 0, 0, index, False))
        (folder / f"f.{1001 + index}.{ending}").write_bytes(data)
    (old := tmp_path / "cut.edl").write_text(
        f"TITLE: Timeline 1\n\n001  AX  V  C  {label} {label[:-2]}{int(label[-2:]) + 2:02d} 01:00:00:00 01:00:00:02\n"
        f"* FROM CLIP NAME: f.[1001-1010].{ending}\n"
    )
    settings = PICTURES
    if ending == "png":
        with pytest.raises(MediaError, match=r"pictures alone, which do not tell its rate; say so \(--rate 24\)"):
            parts_of_timeline(old, tmp_path / "out", PICTURES, media=[folder])
        settings = PICTURES.override("media.input.rate=24")
    done = restore_timeline(old, tmp_path / "out", settings, handles=1, media=[folder])
    assert [(part.first, part.last) for part in done.parts] == [(3, 7)] and not done.missed
    now = done.parts[0].target.parent / f"f.[1005-1006].{ending}"
    assert done.timeline.read_text() == old.read_text() + f"* FROM CLIP: {now}\n"


def test_pictures_beside_films_keep_their_ending_and_their_codec(film, tmp_path):
    folder, source = scan(tmp_path / "media" / "sh010"), film(tmp_path / "A.mkv")
    old = write(tmp_path / "cut.otio", timeline(clip(source, 10, 5), pictures(folder, 8, 3)))
    for number, ending in enumerate([".mov", "mov"]):
        out = tmp_path / f"out{number}"
        done = restore_timeline(old, out, PICTURES.override("media.codec=prores"), handles=0, ending=ending)
        made = [f"sh010.000008-000010/f.{frame}.png" for frame in (1009, 1010, 1011)]
        assert files(out) == ["A.000010-000014.mov", "cut.otio", *made] and done.relinked == 2
        assert shown(done.timeline)[1] == [8, 9, 10]


def test_restored_pictures_are_known_again_and_a_cut_that_shows_them_outlives_a_part_that_fails(film, tmp_path, capsys):
    folder, none = scan(tmp_path / "sh010"), film(tmp_path / "B.mkv", face=False)
    old = write(tmp_path / "cut.otio", timeline(pictures(folder, 8, 5), clip(none, 10, 5)))
    asked = ["timeline", str(old), "--to", str(tmp_path / "out"), "--handles", "0", "--resume"]
    asked += [text for setting in ("restore.use=unchanged", "gate.use=none") for text in ("--set", setting)]
    assert cli.main(asked) == 0
    (made,) = (tmp_path / "out").glob("sh010*")
    written = lambda: {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in made.iterdir()}  # noqa: E731
    first, before = (tmp_path / "out" / "cut.otio").read_text(), written()
    assert cli.main(asked) == 0
    assert written() == before
    assert (tmp_path / "out" / "cut.otio").read_text() == first
    (made / "f.1010.png").write_bytes(b"somebody else's")
    capsys.readouterr()
    assert cli.main(asked) == 1
    said = capsys.readouterr().err.splitlines()
    assert any("f.1009.png exists already" in line for line in said)
    assert said[-1].endswith("cut.otio: is left as it was, for parts failed whose earlier results it may show")
    assert (tmp_path / "out" / "cut.otio").read_text() == first


def test_where_every_part_fails_there_is_no_cut_and_one_that_is_there_stays(film, tmp_path, capsys):
    old = write(tmp_path / "cut.otio", timeline(clip(film(tmp_path / "A.mkv"), 10, 5), clip(film(tmp_path / "B.mkv"), 10, 5)))
    new = tmp_path / "out" / "cut.otio"
    asked = ["timeline", str(old), "--to", str(new.parent), "--codec", "ffv1", "--preset", "slow", "--overwrite"]
    assert cli.main(asked) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and said[-1] == f"videoclr: error: {new}: is not written, for none of its parts could be restored"
    assert not list(new.parent.iterdir())
    new.write_text("an earlier one")
    assert cli.main(asked) == 1
    assert new.read_text() == "an earlier one"


def test_clips_that_begin_to_count_the_same_pictures_at_other_numbers_show_what_they_showed(tmp_path):
    folder = scan(tmp_path / "media" / "sh010")
    old = write(tmp_path / "cut.otio", timeline(pictures(folder, 1, 3), pictures(folder, 1, 3, 1011), pictures(folder, 2, 3)))
    done = restore_timeline(old, tmp_path / "out", PICTURES, handles=0)
    assert [[use.footage.path for use in part.uses] for part in done.parts] == [[str(folder / "f.%04d.png")] * n for n in (2, 1)]
    assert shown(done.timeline) == [[1, 2, 3], [11, 12, 13], [2, 3, 4]]


def test_pictures_whose_range_is_not_said_are_counted_from_0_or_by_their_numbers(tmp_path):
    folder = scan(tmp_path / "sh010", count=12)
    counted, called = pictures(folder, 4, 2), pictures(folder, 1009, 3)
    for one in (counted, called):
        one.media_reference.available_range = None
    parts, missed = parts_of_timeline(
        write(tmp_path / "cut.otio", timeline(counted, called)), tmp_path / "out", PICTURES, handles=0
    )
    assert [(part.first, part.last) for part in parts] == [(4, 6), (8, 11)] and not missed


def test_the_same_pictures_at_another_rate_are_opened_at_that_rate(tmp_path):
    folder = scan(tmp_path / "media" / "sh010")
    old = write(tmp_path / "cut.otio", timeline(pictures(folder, 0, 3), pictures(folder, 5, 3, rate=50)))
    parts, missed = parts_of_timeline(old, tmp_path / "out", PICTURES, handles=0)
    assert missed == [] and [part.source.rate for part in parts] == [25, 50]
    assert [(part.first, part.last) for part in parts] == [(0, 3), (5, 8)]


@pytest.mark.parametrize(
    ("rate", "first", "labels"),
    [
        (NTSC, "01:00:00:00", ["NON-DROP FRAME", "01:00:00:20 01:00:01:00", "01:00:00:02 01:00:00:07"]),
        (NTSC, "01:00:59;10", ["DROP FRAME", "01:01:00;02 01:01:00;12", "01:00:59;12 01:00:59;17"]),
        (Fraction(24000, 1001), "01:00:00:00", ["NON-DROP FRAME", "01:00:00:20 01:00:01:06", "01:00:00:02 01:00:00:07"]),
        (Fraction(25), "10:00:00:00", ["NON-DROP FRAME", "10:00:00:20 10:00:01:05", "10:00:00:02 10:00:00:07"]),
    ],
)
@pytest.mark.parametrize("colons", [False, True])
def test_an_edl_is_read_at_the_rate_of_what_it_cuts_and_names_files_by_reel_or_clip(film, rate, first, labels, colons, tmp_path):
    film(tmp_path / "far" / "below" / "A001C002.mkv", rate, first)
    old, (mode, one, two) = tmp_path / "cut.edl", labels
    text = (
        f"TITLE: cut\nFCM: {mode}\n\n"
        f"001  A001C002 V     C        {one} 00:00:00:00 00:00:00:10\n"
        f"002  AX       V     C        {two} 00:00:00:10 00:00:00:15\n* FROM CLIP NAME: a001c002.MKV\n"
    )
    old.write_text(text.replace(";", ":") if colons else text)  # programs write drop frame both ways
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, media=[tmp_path / "far"])
    assert not done.missed and [(part.first, part.last) for part in done.parts] == [(2, 7), (20, 30)]
    lines = done.timeline.read_text().splitlines()
    events = [" ".join(line.split()[4:6]) for line in lines if line[:3].isdigit()]
    assert events == [label.replace(";", ":") if colons else label for label in (one, two)]
    assert [line for line in lines if line.startswith("FCM:")] == [f"FCM: {mode}"]
    named = [line.partition("FROM CLIP: ")[2] for line in lines if "FROM CLIP: " in line]
    assert [Path(name).name for name in named] == ["A001C002.000020-000029.mkv", "A001C002.000002-000006.mkv"]


def test_the_xml_of_final_cut_7_is_frame_exact_at_29_97(film, tmp_path):
    source = film(tmp_path / "A001.mkv", NTSC, "01:00:00:00")
    items = [clip(source, 108_020, 10, available=ranged(108_000, COUNT, 30000 / 1001), rate=30000 / 1001)]
    old = write(tmp_path / "cut.xml", timeline(*items))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=3, save_as=tmp_path / "out" / "new.xml")
    assert done.timeline.name == "new.xml" and shown(done.timeline) == shown(old) == [list(range(20, 30))]


def remap(speed: str = "100", variable: str = "0", reverse: str = "FALSE") -> dict:
    """What OTIO keeps of the effect by which the XML of Final Cut Pro 7, and of Premiere, changes the speed of a clip."""
    values = {"variablespeed": variable, "speed": speed, "reverse": reverse}
    told = [{"parameterid": name, "name": name, "value": value} for name, value in values.items()]
    return {"effect": {"name": "Time Remap", "effectid": "timeremap", "effecttype": "motion", "parameter": told}}


@pytest.mark.parametrize(
    ("said", "whole"),
    [
        ({"filter": remap("50")}, True),
        pytest.param({"filter": [{"effect": {"effectid": "crop"}}, remap(reverse="TRUE")]}, True, marks=pytest.mark.slow),
        pytest.param({"filter": remap(variable="1")}, True, marks=pytest.mark.slow),
        ({"stillframe": "TRUE"}, True),
        ({"filter": remap()}, False),
        ({"filter": {"effect": {"effectid": "crop"}}}, False),
    ],
)
def test_speed_that_the_xml_of_final_cut_7_changes_shows_the_same_frames(film, tmp_path, said, whole):
    source = film(tmp_path / "A001.mkv", timecode="10:00:00:00")
    changed = clip(source, 900_080 if whole else 900_030, 10, available=ranged(900_000, COUNT))
    changed.metadata["fcp_xml"] = said
    old = write(tmp_path / "cut.xml", timeline(changed, clip(source, 900_004, 6, available=ranged(900_000, COUNT))))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=2)
    assert (done.relinked, done.missed) == (2, [])
    first = next(iter(otio.adapters.read_from_file(str(done.timeline)).find_clips()))
    assert bool(first.metadata["fcp_xml"]) and len(done.parts) == (1 if whole else 2)
    if whole:  # counted after the change: the same times of a file that holds as much as the old one show the same frames
        assert (first.source_range, first.media_reference.available_range) == (changed.source_range, ranged(900_000, COUNT))
        with Reader(str(done.parts[0].target)) as reader:
            assert len(list(reader.frames())) == COUNT
    else:
        assert shown(done.timeline)[0] == list(range(30, 40))


@pytest.mark.parametrize(
    ("speed", "out", "known"),
    [
        ("-025.0", "20", -1),
        ("025.0", "20", None),
        ("050.0", "15", 2),
        pytest.param("-050.0", "15", -2, marks=pytest.mark.slow),
        ("000.0", "20", 0),
    ],
)
def test_speed_that_the_adapter_of_edl_leaves_out_is_known(film, tmp_path, speed, out, known):
    film(tmp_path / "A.mkv")
    event = f"001  AX  V  C  00:00:01:00 00:00:01:10 00:00:00:10 00:00:00:{out}"
    old = tmp_path / "cut.edl"
    freeze = " FF" if not known and known is not None else ""
    old.write_text(f"TITLE: cut\n\n{event}\nM2   AX       {speed}                00:00:01:00\n* FROM CLIP NAME: A.mkv{freeze}\n")
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, media=[tmp_path], save_as=tmp_path / "out" / "cut.otio")
    (effects,) = (one.effects for one in otio.adapters.read_from_file(str(done.timeline)).find_clips())
    assert done.relinked == 1 and [one.time_scalar for one in effects] == ([] if known is None else [known])


REEL = """TITLE: reel 1\r
FCM: NON-DROP FRAME\r
\r
001  BL       V     C        00:00:00:00 00:00:00:00 01:00:00:00 01:00:00:00\r
001  AX       V     D    004 00:00:00:04 00:00:00:10 01:00:00:00 01:00:00:06\r
* TO CLIP NAME: A.mkv\r
{A4}001  AX       AA    C        00:00:00:04 00:00:00:10 01:00:00:00 01:00:00:06\r
002  my reel  AA/V  C        10:00:00:10 10:00:00:15 01:00:00:06 01:00:00:16\r
M2   my reel  012.5                10:00:00:10\r
* FROM CLIP NAME: B.mkv\r
{B10}* FROM CLIP IS A STILL\r
2nd take\r
SPLIT:    AUDIO DELAY=  00:00:00:02\r
003  AX       V     C        00:00:00:20 00:00:01:00 01:00:00:16 01:00:00:21\r
M2   AX       -25.0                00:00:00:20\r
* FROM CLIP NAME: A.mkv\r
{A20}003  AX       A     C        00:00:00:20 00:00:01:00 01:00:00:18 01:00:00:23\r
0004 AX       V     C        00:00:01:00 00:00:01:00 01:00:00:21 01:00:00:21\r
0004 my reel  V     W001 003 10:00:01:05 10:00:01:10 01:00:00:21 01:00:01:01\r
* FROM CLIP NAME: A.mkv\r
{A25}* TO CLIP NAME: B.mkv\r
{B30}"""


def test_an_edl_stays_as_it_is_but_for_the_media_of_its_picture(film, tmp_path):
    film(tmp_path / "A.mkv")  # without a timecode: the list counts from 0, and goes on doing so
    film(tmp_path / "B.mkv", timecode="10:00:00:00")
    old = tmp_path / "cut.edl"
    old.write_bytes(re.sub(r"\{\w+\}", "", REEL).encode())
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=1, media=[tmp_path])
    assert (done.missed, done.relinked, done.clips) == ([], 4, 4)
    parts = [(Path(part.source.path).name, part.first, part.last) for part in done.parts]
    assert parts == [("A.mkv", 3, 37), ("B.mkv", 9, 21), ("B.mkv", 29, 36)]
    first, second, third = (part.target for part in done.parts)
    files = {"A4": f"TO CLIP: {first}", "A20": f"FROM CLIP: {first}", "A25": f"FROM CLIP: {first}"}
    files |= {"B10": f"FROM CLIP: {second}", "B30": f"TO CLIP: {third}"}
    new = REEL.format(**{key: f"* {said}\r\n" for key, said in files.items()})
    # those of A alone, whose first three frames are not restored, and none of its sound
    for was, now in (
        ("D    004 00:00:00:04 00:00:00:10", "D    004 00:00:00:01 00:00:00:07"),
        ("003  AX       V     C        00:00:00:20 00:00:01:00", "003  AX       V     C        00:00:00:17 00:00:00:22"),
        ("-25.0                00:00:00:20", "-25.0                00:00:00:17"),
        ("C        00:00:01:00 00:00:01:00", "C        00:00:00:22 00:00:00:22"),
    ):
        assert was in new
        new = new.replace(was, now)
    assert done.timeline.read_bytes().decode() == new


@pytest.mark.parametrize(
    ("channel", "name", "drop", "sounds", "told"),
    [
        ("V", "cut.edl", "[audio]", 1, ""),
        ("B", "cut.edl", "[]", 1, ""),
        ("B", "cut.otio", "[audio]", 1, ""),
        ("B", "cut.edl", "[audio]", 1, "--drop audio"),
        ("AA/V", "cut.edl", "[audio]", 2, "--drop audio"),
        ("B", "cut.edl", "[audio]", 0, ""),
        ("B", "cut.edl", "['1']", 2, ""),
        ("B", "cut.edl", "[subtitles, '01']", 1, "--drop 01"),
        ("B", "cut.edl", "['1', '2']", 2, "--drop 1 and --drop 2"),
    ],
)
def test_events_that_would_lose_their_sound_are_told(film, tmp_path, caplog, channel, name, drop, sounds, told):
    film(tmp_path / "A.mkv", sounds=sounds)
    old, config = tmp_path / "cut.edl", LOSSLESS.override(f"media.drop={drop}")
    old.write_text(f"TITLE: cut\n001  A  {channel}  C  00:00:00:10 00:00:00:15 00:00:00:00 00:00:00:05\n")
    parts_of_timeline(old, tmp_path / "out", config, media=[tmp_path], save_as=tmp_path / "out" / name)
    said = f"{old}: 1 clip takes its sound out of the restored files, which have none; leave out {told}"
    assert caplog.messages == ([said] if told else [])


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("001  A  V  K B      00:00:00:10 00:00:00:15 00:00:00:00 00:00:00:05", r"event 001 is a key \(K B\), which is not read"),
        ("001  A  V  X  00:00:00:10 00:00:00:15 00:00:00:00 00:00:00:05", "line 2 is no event of an EDL: 001 A V X"),
        ("001  A  V  C  00:00:00.10 00:00:00.15 00:00:00.00 00:00:00.05", "line 2 is no event of an EDL: 001 A V C"),
    ],
)
def test_what_is_not_read_of_an_edl_is_named(tmp_path, event, said):
    old = tmp_path / "cut.edl"
    old.write_text(f"TITLE: cut\n{event}\n")
    with pytest.raises(MediaError, match=said):
        parts_of_timeline(old, tmp_path / "out", LOSSLESS)


DISSOLVE = """001  {0}  V  C      00:00:00:10 00:00:00:15 00:00:00:00 00:00:00:05
001  {1}  V  D  003 00:00:00:20 00:00:00:24 00:00:00:05 00:00:00:09
"""
CUT = "001  {0}  V  C  00:00:00:10 00:00:00:15 00:00:00:00 00:00:00:05\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (CUT.format("A"), "A"),  # not 001.mkv
        (CUT.format("AX") + "* FROM CLIP NAME: A\n*SOURCE FILE: D:\\day\\B.mkv\n", "B"),
        (CUT.format("A") + "* SOURCE FILE: (NULL)\n", "A"),
        (CUT.format("A") + "*ASC_SOP (1.0 1 1.)( 5.9e-08 -0 .5 )(1,1,1)\n*ASC_SAT (0.9)\n* ASC_SOP none\n", "A"),
        (DISSOLVE.format("AX", "AX") + "* FROM CLIP NAME: x\n* TO CLIP NAME: y\n* SOURCE FILE: A\n* SOURCE FILE: B\n", "AB"),
        (DISSOLVE.format("AX", "B") + "* FROM CLIP NAME: A\n", "AB"),
    ],
)
def test_the_media_of_an_edl_is_what_its_comments_and_reels_say(film, tmp_path, text, found):
    for name in ("A", "B", "001"):
        film(tmp_path / "rushes" / f"{name}.mkv", count=30)
    old = tmp_path / "cut.edl"
    old.write_text(f"TITLE: cut\n\n{text}")
    parts, missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0, media=[tmp_path / "rushes"])
    assert (["".join(Path(part.source.path).stem for part in parts)], missed) == ([found], [])
    assert [part.first for part in parts] == [10, 20][: len(parts)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_an_edl_is_read_in_the_encodings_in_which_programs_write_it(film, tmp_path, encoding):
    film(tmp_path / "rushes" / "Käse.mkv")
    event = "001  AX  V  C  00:00:00:10 00:00:00:15 00:00:00:00 00:00:00:05"
    old = tmp_path / "cut.edl"
    old.write_bytes(f"TITLE: cut\r\n\r\n{event}\r\n* FROM CLIP NAME: Käse.mkv\r\n".encode(encoding))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, media=[tmp_path / "rushes"])
    assert (done.relinked, done.missed, shown(done.timeline)) == (1, [], [list(range(10, 15))])


def test_comments_before_the_first_event_of_an_edl_are_no_reason_to_refuse_it(film, tmp_path):
    film(tmp_path / "A.mkv")
    head = "TITLE: cut\n* MADE BY HAND\n>>> of today\nFCM: NON-DROP FRAME\n; more\n\n"
    old = tmp_path / "cut.edl"
    old.write_text(f"{head}001  AX  V  C  00:00:00:10 00:00:00:15 00:00:00:00 00:00:00:05\n* FROM CLIP NAME: A.mkv\n")
    (part,), missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0, media=[tmp_path])
    assert (part.first, part.last, missed) == (10, 15, [])


def test_what_says_not_how_long_it_is_is_measured_for_xml(film, tmp_path):
    source, none = film(tmp_path / "A.mkv"), film(tmp_path / "B.mkv", timecode="10:00:00:00", face=False)
    bars = schema.Clip("bars", schema.GeneratorReference(generator_kind="SMPTEBars"), ranged(0, 5))
    whole = schema.Clip("whole", schema.ExternalReference(none.as_uri()))
    made = timeline(clip(source, 20, 10), clip(none, 900_020, 10), bars, clip("/gone/C.mkv", 30, 5), whole)
    old, new = write(tmp_path / "cut.otio", made), tmp_path / "out" / "cut.xml"
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, save_as=new)
    assert (done.relinked, done.faceless, len(done.missed)) == (1, 2, 1)
    found = [(one.media_reference, one.source_range) for one in otio.adapters.read_from_file(str(new)).find_clips()]
    assert [(media.available_range, shows) for media, shows in found] == [
        (ranged(0, 10), ranged(0, 10)),
        (ranged(900_000, COUNT), ranged(900_020, 10)),
        (ranged(0, 5), ranged(0, 5)),
        (ranged(0, 35), ranged(30, 5)),
        (ranged(900_000, COUNT), ranged(900_000, COUNT)),
    ]
    addresses = [media.target_url for media, _ in found if isinstance(media, schema.ExternalReference)]
    assert addresses == [done.parts[0].target.as_uri(), none.as_uri(), "/gone/C.mkv", none.as_uri()]


def test_an_edl_with_black_becomes_xml(film, tmp_path):
    film(tmp_path / "A.mkv")
    event = "{0:03d}  {1}  V  C  00:00:00:10 00:00:00:15 00:00:00:{2} 00:00:00:{3}\n"
    old, new = tmp_path / "cut.edl", tmp_path / "out" / "cut.xml"
    old.write_text("TITLE: cut\n\n" + event.format(1, "A", "00", "05") + event.format(2, "BL", "05", "10"))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, save_as=new, media=[tmp_path])
    first, black = otio.adapters.read_from_file(str(new)).find_clips()
    assert done.relinked == 1 and first.media_reference.target_url == done.parts[0].target.as_uri()
    assert (black.media_reference.generator_kind, black.duration()) == ("black", Time(5, 25))


def test_a_cut_that_its_new_format_cannot_hold_is_refused_before_any_work(film, tmp_path, pipeline, capsys):
    source = film(tmp_path / "A.mkv")
    made = timeline(clip(source, 10, 5))
    made.tracks.append(schema.Track("V2", kind="Video", children=[clip(source, 10, 5)]))
    made.tracks[0].append(pictures(scan(tmp_path / "sh010"), 8, 3))
    old = write(tmp_path / "cut.otio", made)
    for ending, reason in (("edl", "Only a single video track is supported, got: 2"), ("xml", ".*")):
        new, other = (tmp_path / "out" / f"cut.{one}" for one in (ending, "otio"))
        message = rf"cut.{ending}: cannot be written as a timeline \({reason}\); write it as --save-as {other}$"
        with pytest.raises(MediaError, match=message):
            restore_timeline(old, tmp_path / "out", LOSSLESS, save_as=new)
    assert not pipeline and not (tmp_path / "out").exists()


def test_media_that_lies_elsewhere_is_found_by_name(film, tmp_path):
    right = film(tmp_path / "disk" / "day2" / "A001.mkv")
    film(tmp_path / "disk" / "day1" / "A001.mkv", face=False)
    for url in ("file:///Volumes/Media/day2/A001.mkv", "file://localhost/C%3A/Media/day2/a001.MKV", "D:\\Media\\day2\\A001.mkv"):
        old = write(tmp_path / "cut.otio", timeline(clip(url, 10, 5)))
        (part,), missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, media=[tmp_path / "disk"])
        assert part.source.path == str(right) and not missed
    old = write(tmp_path / "cut.otio", timeline(clip("/Volumes/A001.mkv", 10, 5)))
    with pytest.raises(MediaError, match=r"several files may be meant: .*day1/A001.mkv, .*day2/A001.mkv"):
        restore_timeline(old, tmp_path / "out", LOSSLESS, media=[tmp_path / "disk"])
    old = write(tmp_path / "disk" / "cut.otio", timeline(clip("day2/A001.mkv", 10, 5)))  # beside the cut
    assert [part.source.path for part in parts_of_timeline(old, tmp_path / "out", LOSSLESS)[0]] == [str(right)]
    with pytest.raises(MediaError, match="is no folder to look for media in"):
        restore_timeline(old, tmp_path / "out", LOSSLESS, media=[tmp_path / "nowhere"])


def test_log_and_figures_may_lie_among_the_results_and_replace_no_new_cut(film, tmp_path, capsys):
    old = write(tmp_path / "cut.otio", timeline(clip(film(tmp_path / "A.mkv"), 20, 10)))
    out = tmp_path / "out"
    command = ["timeline", str(old), "--to", str(out), "--set", "media.codec=ffv1", "--set", "restore.use=unchanged"]
    assert cli.main([*command, "--log-json", str(out / "cut.otio")]) == 2
    assert "--log-json: " in capsys.readouterr().err and not out.exists()
    assert cli.main([*command, "--log-json", str(out / "log.jsonl"), "--metrics", str(out / "m.prom")]) == 0
    assert {"cut.otio", "log.jsonl", "m.prom"} < {place.name for place in out.iterdir()}


def test_a_folder_of_a_name_that_no_file_can_have_is_told(film, tmp_path):
    old = write(tmp_path / "cut.otio", timeline(clip(film(tmp_path / "A.mkv"), 20, 10)))
    with pytest.raises(MediaError, match="there is a NUL in this name"):
        restore_timeline(old, "a\0b")


def test_earlier_results_below_a_folder_of_media_are_not_taken_for_it(film, tmp_path):
    source = film(tmp_path / "A.mkv", count=9)
    film(tmp_path / "restored" / "A.mkv", count=9)
    old = write(tmp_path / "cut.otio", timeline(clip("/gone/A.mkv", 0, 9)))
    (part,), missed = parts_of_timeline(old, tmp_path / "restored", LOSSLESS, media=[tmp_path], overwrite=True)
    assert (part.source.path, missed) == (str(source), [])
    (part,), _ = parts_of_timeline(old, tmp_path / "again", LOSSLESS, media=[tmp_path / "restored"])
    assert part.source.path == str(tmp_path / "restored" / "A.mkv")


def test_a_name_that_is_too_long_for_the_disk_does_not_stop_the_others(film, tmp_path):
    source, long = film(tmp_path / "A.mkv"), "a" * 300
    old = write(tmp_path / "cut.otio", timeline(clip(f"{long}.mkv", 10, 5), clip(source, 10, 5)))
    (part,), (missed,) = parts_of_timeline(old, tmp_path / "out", LOSSLESS, media=[tmp_path])
    assert part.source.path == str(source) and missed.startswith(long) and "is not there" in missed


def test_a_file_that_a_cut_names_in_several_ways_is_restored_once(film, tmp_path):
    source = film(tmp_path / "media" / "A.mkv")
    (tmp_path / "link.mkv").symlink_to(source)
    names = ("media/A.mkv", "media/../media/A.mkv", "link.mkv", source.as_uri())
    old = write(tmp_path / "cut.otio", timeline(*(clip(name, 10, 5) for name in names)))
    (part,), missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS)
    assert len(part.uses) == 4 and not missed


def test_a_clip_without_its_media_does_not_stop_the_others_and_is_told(film, tmp_path, capsys):
    source = film(tmp_path / "A.mkv")
    other = film(tmp_path / "short.mkv", count=5)
    generated = schema.Clip(
        "bars", media_reference=schema.GeneratorReference(generator_kind="SMPTEBars"), source_range=ranged(0, 5)
    )
    items = [clip(source, 10, 5), clip("/gone/B.mkv", 10, 5), clip(other, 50, 5), clip("https://x.org/c.mov", 0, 5), generated]
    old = write(tmp_path / "cut.otio", timeline(*items))
    named = [text for setting in LOSSLESS_SET for text in ("--set", setting)]
    assert cli.main(["timeline", str(old), "--to", str(tmp_path / "out"), "--handles", "0", *named]) == 1
    said = capsys.readouterr().err.splitlines()
    assert any("/gone/B.mkv: the media of clip 'B' is not there; name the folder" in line for line in said)
    assert any(
        "short.mkv: is not what the cut means: clip 'short' shows 2.000 s to 2.200 s of it, and it has 5" in line for line in said
    )
    assert any("https://x.org/c.mov: lies on the network" in line for line in said)
    assert said[-1].endswith("cut.otio: 1 of 4 clips restored")
    urls = [
        getattr(one.media_reference, "target_url", None)
        for one in otio.adapters.read_from_file(str(tmp_path / "out" / "cut.otio")).find_clips()
    ]
    assert urls[1:] == ["/gone/B.mkv", other.as_uri(), "https://x.org/c.mov", None]


def test_times_that_are_no_numbers_are_told_of_their_clips_alone(film, tmp_path):
    source, folder, none = film(tmp_path / "A.mkv"), scan(tmp_path / "sh010"), float("nan")
    ranges = ranged(none, 3), ranged(0, none), ranged(0, float("inf")), ranged(0, 3, 0), ranged(0, 3, none)
    bad = [schema.Clip(f"bad{n}", schema.ExternalReference(source.as_uri()), one) for n, one in enumerate(ranges)]
    for speed in (none, float("inf")):
        bad.append(clip(source, 10, 5, name=f"bad{len(bad)}"))
        bad[-1].effects.append(schema.LinearTimeWarp(time_scalar=speed))
    for change in ({"rate": 0}, {"rate": -5}, {"rate": none}, {"rate": 1e12}, {"start_frame": -3}, {"frame_zero_padding": 4000}):
        bad.append(pictures(folder, 8, 3))
        bad[-1].name = f"bad{len(bad) - 1}"
        for name, value in change.items():
            setattr(bad[-1].media_reference, name, value)
    old = write(tmp_path / "cut.otio", timeline(*bad, clip(source, 20, 5), pictures(folder, 8, 3)))
    parts, missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    assert [(part.first, part.last) for part in parts] == [(20, 25), (8, 11)] and len(missed) == len(bad)
    assert all(f"clip 'bad{n}'" in line and len(line) < 300 for n, line in enumerate(missed))


def test_a_clip_of_no_length_is_passed_over_but_for_what_a_dissolve_shows_of_it(film, tmp_path):
    source = film(tmp_path / "A.mkv")
    dissolve = schema.Transition(in_offset=Time(2, 25), out_offset=Time(3, 25))
    items = clip(source, 0, 0), clip(source, 40, 0), clip(source, 20, 5)
    old = write(tmp_path / "cut.otio", timeline(*items))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    assert [(part.first, part.last, len(part.uses)) for part in done.parts] == [(20, 25, 1)] and not done.missed
    assert urls(otio.adapters.read_from_file(str(done.timeline)).find_clips())[:2] == [source.as_uri()] * 2
    old = write(tmp_path / "cut.otio", timeline(clip(source, 30, 5), dissolve, clip(source, 0, 0)))
    parts, missed = parts_of_timeline(old, tmp_path / "new", LOSSLESS, handles=0)
    assert [(part.first, part.last) for part in parts] == [(0, 1), (30, 38)] and not missed


LOSSLESS_SET = ["media.codec=ffv1", "restore.use=unchanged", "gate.use=none", "track.max_gap=0", "align.smoothing=0"]


def test_a_dry_run_lists_and_writes_nothing(film, tmp_path, capsys, pipeline):
    source = film(tmp_path / "A.mkv")
    old = write(tmp_path / "cut.otio", timeline(clip(source, 20, 5), clip("gone.mkv", 0, 5)))
    assert cli.main(["timeline", str(old), "--to", str(tmp_path / "out"), "--handles", "2", "--dry-run"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split() == ["1", "18", "26", str(source), str(tmp_path / "out" / "A.000018-000026.mkv")]
    assert "gone.mkv" in err and not (tmp_path / "out").exists() and not pipeline


def test_a_dry_run_refuses_what_the_run_would_refuse(film, tmp_path, capsys, pipeline):
    source, (out, cut) = film(tmp_path / "A.mkv"), (str(tmp_path / one) for one in ("out", "cut.otio"))
    made, more = timeline(clip(source, 20, 5)), pictures(scan(tmp_path / "sh010"), 8, 3)
    both = write(tmp_path / "both.otio", timeline(clip(source, 20, 5), more))
    write(tmp_path / "cut.otio", made)
    empty = write(tmp_path / "empty.otio", timeline())
    (tmp_path / "file").write_text("mine")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "cut.otio").write_text("mine")
    film(tmp_path / "media" / "A.mkv")
    whole = write(tmp_path / "whole.otio", timeline(clip(source, 0, COUNT), clip(tmp_path / "media" / "A.mkv", 0, COUNT)))
    for asked, code, message in [
        ([cut, "--to", out, "--save-as", "cut.doc"], 2, "--save-as: cut.doc is no timeline that can be written"),
        ([cut, "--to", str(tmp_path)], 2, "is the cut that is read"),
        ([str(empty), "--to", out], 1, "shows no footage"),
        ([str(both), "--to", out, "--save-as", f"{out}/cut.xml"], 1, f"write it as --save-as {out}/cut.otio"),
        ([cut, "--to", str(tmp_path / "done")], 1, "exists already"),
        ([cut, "--to", str(tmp_path / "file")], 1, "file: cannot be made a folder"),
        ([str(whole), "--to", str(tmp_path / "media")], 2, "A.mkv would replace "),
        ([cut, "--to", out, "--report", str(tmp_path / "file")], 1, "choose another name for the report"),
        ([cut, "--to", out, "--report", str(source)], 2, "--report: "),
        ([cut, "--to", out, "--report", cut, "--overwrite"], 2, "--report: "),
        ([cut, "--to", out, "--log-json", cut], 2, "--log-json: "),
    ]:
        for dry in (["--dry-run"], []):
            assert cli.main(["timeline", *asked, *dry]) == code
            said = capsys.readouterr()
            assert message in said.err and len(said.err.splitlines()) == 1 and not said.out
    assert not pipeline and not Path(out).exists()


def test_a_dry_run_warns_as_the_run_does(film, tmp_path, capsys):
    cut = str(write(tmp_path / "cut.otio", timeline(clip(film(tmp_path / "A.mkv"), 50, 60, name="long\nclip"))))
    for more, count in ([], 1), (["--quiet"], 0):
        assert cli.main(["timeline", cut, "--to", str(tmp_path / "out"), "--dry-run", *more]) == 0
        said = capsys.readouterr().err.splitlines()
        assert len(said) == count and all("videoclr: warning: " in line and "ends before clip" in line for line in said)


def test_sound_disabled_clips_and_what_the_cut_says_besides_stay(film, tmp_path):
    source = film(tmp_path / "A.mkv")
    made = timeline(clip(source, 10, 5))
    off = clip(source, 40, 5)
    off.enabled = False
    made.tracks[0].append(off)
    made.tracks[0][0].markers.append(schema.Marker("look", marked_range=ranged(12, 1)))
    made.metadata["mine"] = {"a": 1}
    sound = schema.Track("A1", kind="Audio")
    sound.append(clip(source, 10, 5))
    made.tracks.append(sound)
    old = write(tmp_path / "cut.otio", made)
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    new = otio.adapters.read_from_file(str(done.timeline))
    assert new.metadata["mine"]["a"] == 1 and new.tracks[0][0].markers[0].name == "look"
    assert [one.media_reference.target_url for one in new.tracks[1]] == [source.as_uri()]
    assert new.tracks[0][1].media_reference.target_url == source.as_uri() and len(done.parts) == 1


def urls(clips) -> list[str]:
    """What all media of `clips` is called."""
    known = [one for each in clips for one in each.media_references().values()]
    return [one.target_url if isinstance(one, schema.ExternalReference) else one.target_url_base for one in known]


def test_relative_addresses_go_on_naming_the_same_files_from_another_folder(film, tmp_path, monkeypatch):
    film(tmp_path / "media" / "A.mkv")
    film(tmp_path / "media" / "50% grey" / "B.mkv", face=False)
    made = timeline(clip("../media/A.mkv", 10, 5), clip("../media/50% grey/B.mkv", 10, 5), clip("gone.mkv", 10, 5))
    made.tracks[0].append(clip("file:///gone/C.mkv", 10, 5))
    proxy = {"high": made.tracks[0][0].media_reference, "low": schema.ExternalReference("../media/50%25%20grey/B.mkv")}
    made.tracks[0][0].set_media_references(proxy, "high")
    made.tracks[0][2].media_reference = schema.ImageSequenceReference("", "f.", ".png", 1, 1, 25)
    made.tracks.append(schema.Track("A1", kind="Audio", children=[clip("../media/A.mkv", 0, 5)]))
    old, media, out = write(tmp_path / "cuts" / "cut.otio", made), tmp_path / "media", tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    done = restore_timeline("cuts/cut.otio", "out", LOSSLESS, handles=0)
    assert (done.clips, done.relinked, done.faceless) == (4, 1, 1)
    new = urls(otio.adapters.read_from_file("out/cut.otio").find_clips())
    none, sound = (media / "50% grey" / "B.mkv").as_uri(), (media / "A.mkv").as_uri()
    kept = [none, none, f"{old.parent.as_uri()}/", "file:///gone/C.mkv", sound]
    assert sorted(new) == sorted([(out / "A.000010-000014.mkv").as_uri(), *kept])
    restore_timeline("cuts/cut.otio", "out", LOSSLESS, handles=0, resume=True, save_as="cuts/new.otio")
    beside = urls(otio.adapters.read_from_file("cuts/new.otio").find_clips())
    assert sorted(beside)[:4] == ["", "../media/50% grey/B.mkv", "../media/50%25%20grey/B.mkv", "../media/A.mkv"]


@pytest.mark.parametrize("folder", ["media", "elsewhere"])
def test_names_with_percent_signs_are_taken_as_they_stand_and_then_as_addresses(film, tmp_path, folder):
    film(tmp_path / folder / "my film.mkv")
    film(tmp_path / folder / "50%25.mkv")
    film(tmp_path / folder / "50%.mkv", face=False)
    film(tmp_path / folder / "Take #3.mkv", count=20)
    scan(tmp_path / folder / "my shots")
    numbered = pictures(tmp_path, 8, 5)
    numbered.media_reference.target_url_base = "media/my%20shots/"
    sharp = clip(f"file://{tmp_path}/media/Take #3.mkv", 10, 5)
    made = timeline(clip("media/my%20film.mkv", 10, 5), clip("media/50%25.mkv", 10, 5), numbered, sharp)
    old = write(tmp_path / "cut.otio", made)
    parts, missed = parts_of_timeline(old, tmp_path / "out", PICTURES, handles=0, media=[tmp_path / folder])
    found = [Path(part.source.path).relative_to(tmp_path / folder).as_posix() for part in parts]
    assert (found, missed) == (["my film.mkv", "50%25.mkv", "my shots/f.%04d.png", "Take #3.mkv"], [])


def test_a_cut_is_written_through_a_link(film, tmp_path):
    none = film(tmp_path / "A.mkv", face=False)
    old = write(tmp_path / "cut.otio", timeline(clip("A.mkv", 10, 5)))
    (tmp_path / "shared").mkdir()
    (link := tmp_path / "new.otio").symlink_to(tmp_path / "shared" / "now.otio")
    for again in (False, True):  # it leads to nothing yet, then to a cut
        restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, save_as=link, overwrite=again)
        assert link.is_symlink() and files(tmp_path / "shared") == ["now.otio"]
        assert urls(otio.adapters.read_from_file(str(link)).find_clips()) == [none.as_uri()]


def test_relative_addresses_of_an_edl_become_paths(film, tmp_path):
    film(tmp_path / "media" / "A.mkv")
    film(tmp_path / "media" / "a b" / "B.mkv", face=False)
    event = "{0:03d}  {1}  V  C  00:00:00:10 00:00:00:15 00:00:00:{2} 00:00:00:{3}\n* FROM CLIP: ../media/{4}\n"
    (tmp_path / "cuts").mkdir()
    old = tmp_path / "cuts" / "cut.edl"
    old.write_text("TITLE: cut\n\n" + event.format(1, "A", "00", "05", "A.mkv") + event.format(2, "B", "05", "10", "a b/B.mkv"))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    named = [line.partition("FROM CLIP: ")[2] for line in done.timeline.read_text().splitlines() if "FROM CLIP: " in line]
    assert named == [str(tmp_path / "out" / "A.000010-000014.mkv"), str(tmp_path / "media" / "a b" / "B.mkv")]


def test_two_sources_of_one_name_get_names_of_their_own(film, tmp_path):
    one, two = film(tmp_path / "day1" / "A.mkv"), film(tmp_path / "day2" / "A.mkv")
    old = write(tmp_path / "cut.otio", timeline(clip(one, 10, 5), clip(two, 10, 5)))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    assert files(tmp_path / "out") == ["A.000010-000014.mkv", "A.000010-000014~2.mkv", "cut.otio"] and done.relinked == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cut.otio", "{", "cannot be read as a timeline"),
        ("cut.otio", json.dumps({"OTIO_SCHEMA": "Clip.1"}), "holds no timeline but a Clip"),
        ("cut.xml", "<xmeml", "cannot be read as a timeline"),
        ("cut.doc", "", "is no timeline that can be read here; expected .*.edl, .fcpxml, .fcpxmld, .otio"),
        ("cut.fcpxml", "", "cannot be read as a timeline"),
        ("cut.edl", "TITLE: empty\n", "shows no footage"),
        ("cut.edl", "001  AX V C 01:00:00:75 01:00:01:00 00:00:00:00 00:00:00:10\n", "cannot be read as a timeline"),
        ("gone.otio", None, "no such file"),
        ("", None, "is a folder; name the cut in it"),
    ],
)
def test_a_bad_cut_is_one_line(name, text, message, tmp_path, capsys):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(MediaError, match=message):
        restore_timeline(tmp_path / name, tmp_path / "out", LOSSLESS)
    assert cli.main(["timeline", str(tmp_path / name), "--to", str(tmp_path / "out")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_settings_that_fit_no_cut_are_refused_before_any_work(film, tmp_path, pipeline):
    source = film(tmp_path / "A.mkv")
    old = write(tmp_path / "cut.otio", timeline(clip(source, 10, 5)))
    for setting, message in (
        ("media.start=3", "leave out --start"),
        ("media.frames=3", "leave out --start"),
        ("media.start_number=1001", "keep their numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            restore_timeline(old, tmp_path / "out", LOSSLESS.override(setting))
    with pytest.raises(ConfigError, match="0 or more"):
        restore_timeline(old, tmp_path / "out", LOSSLESS, handles=-1)
    with pytest.raises(ConfigError, match="is the cut that is read"):
        restore_timeline(old, tmp_path, LOSSLESS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cut.otio").write_text("mine")
    with pytest.raises(MediaError, match="exists already"):
        restore_timeline(old, tmp_path / "out", LOSSLESS)
    assert (tmp_path / "out" / "cut.otio").read_text() == "mine" and not pipeline
    with pytest.raises(VideoclrError, match="save-as"):
        restore_timeline(old, tmp_path / "out", LOSSLESS, save_as=tmp_path / "out" / "cut.doc")
    assert files(tmp_path / "out") == ["cut.otio"] and not pipeline


def test_one_of_several_timelines_is_chosen_by_name(film, tmp_path):
    source = film(tmp_path / "A.mkv")
    both = schema.SerializableCollection(
        children=[timeline(clip(source, 10, 5), name="one"), timeline(clip(source, 30, 5), name="two")]
    )
    old = write(tmp_path / "cut.otio", both)
    with pytest.raises(ConfigError, match="choose one with --sequence: 'one', 'two'"):
        parts_of_timeline(old, tmp_path / "out", LOSSLESS)
    (part,), _ = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0, sequence="two")
    assert (part.first, part.last) == (30, 35)
    with pytest.raises(ConfigError, match="no timeline 'three'"):
        parts_of_timeline(old, tmp_path / "out", LOSSLESS, sequence="three")


def test_without_opentimelineio_the_way_to_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(cuts, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(ConfigError, match=r"pip install 'videoclr\[timeline\]'"):
        restore_timeline(tmp_path / "cut.otio", tmp_path / "out", LOSSLESS)


def test_a_still_is_restored_as_a_still(tmp_path):
    place = tmp_path / "face.png"
    av.VideoFrame.from_ndarray(picture(9), "rgb24").to_image().save(place)
    old = write(tmp_path / "cut.otio", timeline(clip(place, 0, 50)))
    done = restore_timeline(old, tmp_path / "out", replace_codec(LOSSLESS))
    (one,) = otio.adapters.read_from_file(str(done.timeline)).find_clips()
    assert files(tmp_path / "out") == ["cut.otio", "face.png"]
    assert one.media_reference.target_url == (tmp_path / "out" / "face.png").as_uri()
    assert one.source_range == ranged(0, 50)


def replace_codec(config: Config) -> Config:
    return config.override("media.codec=null")

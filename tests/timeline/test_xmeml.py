from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest

from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.timeline import parts_of_timeline, restore_timeline

pytest.importorskip("opentimelineio", reason="needs the extra timeline")

SET = ["media.codec=ffv1", "restore.use=unchanged", "gate.use=none", "track.max_gap=0", "align.smoothing=0"]
LOSSLESS = Config().override(*SET)
PICTURES = Config().override(*SET[1:])
TICKS = 254_016_000_000
RATE = "<rate><timebase>25</timebase><ntsc>FALSE</ntsc></rate>"
NTSC = "<rate><timebase>30</timebase><ntsc>TRUE</ntsc></rate>"


def file(number: str, url: Path | str, label: int | None = None, length: int = 60, rate: str = RATE) -> str:
    url = url.absolute().as_uri() if isinstance(url, Path) else url
    code = f"{rate}<string>?</string><frame>{label}</frame><displayformat>NDF</displayformat>"
    times = f"{rate}<duration>{length}</duration>" + ("" if label is None else f"<timecode>{code}</timecode>")
    return f'<file id="{number}"><name>{Path(url).name}</name><pathurl>{url}</pathurl>{times}<media><video/><audio/></media></file>'


def clip(inside: str, start: int, end: int, first: int, last: int, more: str = "", rate: str = RATE) -> str:
    ticks = "".join(f"<pproTicks{name}>{TICKS // 25 * frame}</pproTicks{name}>" for name, frame in (("In", first), ("Out", last)))
    times = f"<start>{start}</start><end>{end}</end><in>{first}</in><out>{last}</out>{ticks}"
    return f'<clipitem id="c{start}"><name>take {start}</name>{more}{rate}{times}{inside}</clipitem>\n'


def sequence(number: str, *tracks: str, sound: str = "") -> str:
    video = "".join(f"<track>{one}</track>" for one in tracks)
    media = f"<media><video>{video}</video><audio><track>{sound}</track></audio></media>"
    return f'<sequence id="{number}"><name>{number}</name>{RATE}{media}</sequence>'


def document(*sequences: str) -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE xmeml>\n<xmeml version="4"><project><children>'
    return f"{head}{''.join(sequences)}</children></project></xmeml>\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def shown(numbers):
    """The numbers of the frames that each clip of picture or sound shows of its file, and its file's name."""

    def read(place: Path) -> list[tuple[str, list[int]]]:
        root, found = ET.fromstring(place.read_bytes()), []
        known = {one.get("id"): one for one in root.iter("file") if len(one)}
        seen = set()
        for one in root.iter("file"):  # what names a file stands behind what tells of it
            assert len(one) or one.get("id") in seen
            assert not (len(one) and one.get("id") in seen)
            seen.add(one.get("id"))
        for one in root.iter("clipitem"):
            if one.find("file") is None or (media := known[one.find("file").get("id")]).find("pathurl") is None:
                continue
            path = unquote(media.findtext("pathurl").removeprefix("file://"))
            values, label = numbers(path)
            first, last = int(one.findtext("in")), int(one.findtext("out"))
            for name, frame in (("pproTicksIn", first), ("pproTicksOut", last)):
                assert int(one.findtext(name)) * 25 == frame * TICKS
            assert int(media.findtext("duration")) == len(values)
            assert label is None or int(media.findtext("timecode/frame")) == label
            found.append((Path(path).name, values[first:last]))
        return found

    return read


def test_the_new_cut_shows_the_same_frames_and_nothing_else_changes(tmp_path, film, shown, caplog):
    a, b = film(tmp_path / "a & b" / "A.mkv", timecode="10:00:00:00"), film(tmp_path / "B.mkv")
    fade = f"<transitionitem><start>17</start><end>23</end>{RATE}<effect><name>Cross Dissolve</name></effect></transitionitem>"
    link = "<link><linkclipref>c0</linkclipref></link>"
    marks = "<marker><name>look</name><in>12</in><out>-1</out></marker><marker><in>13</in><out>15</out></marker>"
    marks += "<filter><effect><parameter><keyframe><when>12</when></keyframe></parameter></effect></filter>"
    more = "<masterclipid>m1</masterclipid>" + link + marks
    first = clip(file("f1", a, 900_000).replace("a & b", "a &amp; b"), 0, 10, 10, 20, more)
    first += clip('<file id="f1"/>', 10, -1, 40, 53, "<masterclipid>m1</masterclipid>") + fade
    first += clip(file("f2", b), -1, 30, 30, 43)
    nested = sequence("inner", clip('<file id="f1"/>', 0, 5, 12, 17))
    second = clip(nested, 0, 5, 0, 5) + clip('<sequence id="inner"/>', 40, 45, 0, 5)
    second += clip('<file id="f2"/>', 50, 55, 3, 8, "<enabled>FALSE</enabled>") + clip('<file id="f1"/>', 60, 62, 5, 6)
    layer = clip('<file id="f9"><name>Adjustment Layer</name></file>', 0, 30, 0, 30)
    layer += clip('<file id="f8"><name>Slug</name><mediaSource>Slug</mediaSource></file>', 30, 40, 0, 10)
    steady = "<parameter><parameterid>speed</parameterid><value>100</value></parameter>"
    remap = f"<filter><effect><effectid>timeremap</effectid>{steady}</effect></filter>"
    layer += clip('<file id="f1"/>', 40, 45, 14, 19, remap)
    sound = clip('<file id="f1"/>', 0, 10, 10, 20, link)
    text = document(sequence("cut", first, second, layer, sound=sound))
    old = write(tmp_path / "cut.xml", text)
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=1)
    assert (done.missed, done.clips, done.relinked) == ([], 6, 6)
    assert [(Path(part.source.path).name, part.first, part.last) for part in done.parts] == [
        ("A.mkv", 4, 8),
        ("A.mkv", 9, 21),
        ("A.mkv", 39, 54),
        ("B.mkv", 29, 44),
    ]
    before, after = shown(old), shown(done.timeline)
    assert [frames for _, frames in after] == [frames for _, frames in before]
    kept = [name for name, _ in after if name in ("A.mkv", "B.mkv")]
    assert kept == ["B.mkv", "A.mkv"]  # what is disabled, and the sound
    new = done.timeline.read_text(encoding="utf-8")
    assert "<in>3</in><out>-1</out></marker><marker><in>4</in><out>6</out></marker>" in new
    (said,) = (one.getMessage() for one in caplog.records if "key frames" in one.getMessage())
    assert said.startswith(f"{old}: clip 'take 0' has key frames, which programs count from")
    assert re.findall("<masterclipid>(.*?)<", new) == ["m1-file-restored-1", "m1-file-restored-2"]

    def bare(text: str) -> str:
        text = re.sub(r"<file id=\"f(ile-restored-)?\d\"(/>|>.*?</file>)", "", text)
        return re.sub(r"(<(in|out|pproTicks\w+)>)-?\d+|(?<=m1)-file-restored-\d", r"\1", text)

    assert bare(new) == bare(text)


@pytest.mark.parametrize(
    ("inside", "more", "rate"),
    [
        ("", "<stillframe>TRUE</stillframe>", RATE),
        ("", "<subclipinfo><startoffset>5</startoffset><endoffset>9</endoffset></subclipinfo>", RATE),
        ("", "", NTSC),
    ],
)
def test_what_counts_otherwise_than_its_file_has_it_restored_whole(tmp_path, film, inside, more, rate):
    source = film(tmp_path / "A.mkv", timecode="10:00:00:00")
    old = write(tmp_path / "cut.xml", document(sequence("cut", clip(file("f1", source, 900_000), 0, 10, 20, 30, more, rate))))
    (part,), missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    assert (part.first, part.last, missed) == (0, None, [])


@pytest.mark.parametrize(
    ("named", "renamed", "length", "label"),
    [
        ("f.[1001-1008].png", "f.[1003-1006].png", 8, 1001),
        ("f.1001.png", "f.1003.png", 8, None),
        ("f.1001.png", "f.1001.png", 500, None),
    ],
)
def test_numbered_pictures_are_known_from_a_still(tmp_path, named, renamed, length, label):
    folder = tmp_path / "sh010"
    folder.mkdir()
    for index in range(8):
        av.VideoFrame.from_ndarray(np.full((64, 96, 3), (200, 0, 4 * index), np.uint8), "rgb24").to_image().save(
            folder / f"f.{1001 + index}.png"
        )
    old = write(
        tmp_path / "cut.xml",
        document(sequence("cut", clip(file("f1", folder / named, label, length).replace("?", "00:00:40:01"), 0, 2, 3, 5))),
    )
    done = restore_timeline(old, tmp_path / "out", PICTURES, handles=1)
    new = ET.fromstring(done.timeline.read_bytes())
    said = {tag: new.findtext(f".//file/{tag}") for tag in ("name", "pathurl", "duration", "timecode/frame", "timecode/string")}
    place = done.parts[0].target.parent / renamed
    if length == 500:  # as many pictures are not there
        assert (done.parts[0].source.still, said["pathurl"], said["duration"]) == (
            True,
            (tmp_path / "out" / renamed).as_uri(),
            "500",
        )
        return
    assert sorted(one.name for one in place.parent.iterdir()) == [f"f.{number}.png" for number in range(1003, 1007)]
    code = (None, None) if label is None else ("1003", "00:00:40:03")
    assert tuple(said.values()) == (renamed, place.as_uri(), "4", *code)
    assert (new.findtext(".//clipitem/in"), new.findtext(".//clipitem/out")) == ("1", "3")


def test_an_address_without_escapes_and_a_comment_are_read(tmp_path, film):
    source = film(tmp_path / "a&b.mkv")
    text = re.sub(r"<(name|pathurl)>(.*?)</", r"<\1><!-- < --><![CDATA[\2]]></", file("f1", source))
    moved = clip(text, 0, 5, 20, 25).replace("<in>20", "<in><!-- of it -->2<!-- 2 -->0")
    old = write(tmp_path / "cut.xml", document(sequence("cut", moved)))
    (part,), missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    assert (part.source.path, part.first, part.last, missed) == (str(source), 20, 25, [])


def test_nested_sequences_that_another_format_loses_are_told(tmp_path, film, caplog):
    inside = clip(sequence("inner", clip(file("f1", film(tmp_path / "A.mkv")), 0, 5, 1, 6)), 0, 5, 0, 5)
    old = write(tmp_path / "cut.xml", document(sequence("cut", inside + clip('<file id="f1"/>', 5, 10, 1, 6))))
    parts_of_timeline(old, tmp_path / "out", LOSSLESS, save_as=tmp_path / "out" / "cut.otio")
    assert [one for one in caplog.messages if "what is in its nested sequences (1) is left out of another format" in one]


def test_a_longer_file_of_that_name_is_told_by_its_timecode(tmp_path, film):
    film(tmp_path / "A.mkv", Fraction(25), "10:00:00:00")
    text = document(sequence("cut", clip(file("f1", "file://localhost/C:/gone/A.mkv", 900_010, 30), 0, 5, 10, 15)))
    old = write(tmp_path / "cut.xml", text)
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=2, media=[tmp_path])
    assert [(part.first, part.last) for part in done.parts] == [(18, 27)]
    new = ET.fromstring(done.timeline.read_bytes())
    assert [new.findtext(f".//{tag}") for tag in ("in", "out", "timecode/frame", "timecode/string")] == [
        "2", "7", "900018", "10:00:00:18"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<xmeml", "cannot be read as a timeline"),
        ("<fcpxml/>", "is no XML of Final Cut Pro 7 but <fcpxml>; call it .fcpxml"),
        ("<xmeml/>", "holds no timeline"),
        (document(sequence("cut")), "shows no footage"),
        (
            document(sequence("cut", clip('<file id="f7"/>', 0, 5, 1, 6))),
            "^[^:]*cut.xml: clip 'take 0': its file 'f7' is told nowhere",
        ),
        (document(sequence("cut", clip("<multiclip/>", 0, 5, 1, 6))), "clip 'take 0' is a multicam clip, which is not read"),
        (document(sequence("cut", clip(file("f1", "A.mkv"), 0, 5, 1, 6).replace("<in>1<", "<in>one<"))), "<in> 'one' is no number"),
    ],
)
def test_a_bad_cut_is_one_line(text, message, tmp_path):
    old = write(tmp_path / "cut.xml", text)
    with pytest.raises(MediaError, match=message):
        restore_timeline(old, tmp_path / "out", LOSSLESS)
    assert not (tmp_path / "out").exists()


def test_one_of_several_sequences_is_chosen_by_name(tmp_path, film):
    source = film(tmp_path / "A.mkv")
    text = document(sequence("one", clip(file("f1", source), 0, 5, 1, 6)), sequence("two", clip('<file id="f1"/>', 0, 5, 20, 25)))
    old = write(tmp_path / "cut.xml", text)
    (part,), _ = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0, sequence="two")
    assert (part.first, part.last) == (20, 25)
    with pytest.raises(ConfigError, match="choose one with --sequence: 'one', 'two'"):
        parts_of_timeline(old, tmp_path / "out", LOSSLESS)
    write(old, text.replace("two", "one"))
    for name in (None, "one"):
        with pytest.raises(ConfigError, match="holds 2 timelines called 'one'; give each a name of its own there"):
            parts_of_timeline(old, tmp_path / "out", LOSSLESS, sequence=name)

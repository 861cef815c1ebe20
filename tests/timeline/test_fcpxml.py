from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest

from videoclr import cli
from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.timeline import parts_of_timeline, restore_timeline

pytest.importorskip("opentimelineio", reason="needs the extra timeline")

SET = ["media.codec=ffv1", "restore.use=unchanged", "gate.use=none", "track.max_gap=0", "align.smoothing=0"]
LOSSLESS = Config().override(*SET)
NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)
COUNT = 60


def told(time: Fraction) -> str:
    return f"{time.numerator}s" if time.denominator == 1 else f"{time.numerator}/{time.denominator}s"


def times(text: str | None) -> Fraction:
    return Fraction((text or "0s").removesuffix("s"))


def asset(number: str, path: Path | str, rate: Fraction, label: int = 0, length: int = COUNT, old: bool = False) -> str:
    """An asset whose first frame has the timecode `label`; `old`: as versions before 1.9 write it."""
    src = path.absolute().as_uri() if isinstance(path, Path) else path
    head = f'id="{number}" name="{Path(src).stem}" uid="0A1B" start="{told(label / rate)}" duration="{told(length / rate)}"'
    rest = 'hasVideo="1" format="f1" hasAudio="1" audioSources="1" audioChannels="2" audioRate="48000"'
    if old:
        return f'<asset {head} src="{src}" {rest}/>'
    rep = f'<media-rep kind="original-media" sig="0A1B" src="{src}"><bookmark>Ym9vaw==</bookmark></media-rep>'
    proxy = '<media-rep kind="proxy-media" src="file:///proxy.mov"/>'
    return f'<asset {head} {rest}>\n      {rep}{proxy}<metadata><md key="com.x" value="a &amp; b"/></metadata>\n    </asset>'


def shows(reference: str, rate: Fraction, offset: int, start: int | None, length: int, inside: str = "", more: str = "") -> str:
    begin = "" if start is None else f' start="{told(start / rate)}"'
    head = f'ref="{reference}" offset="{told(offset / rate)}" name="take {offset}"{begin} duration="{told(length / rate)}"'
    return f"<asset-clip {head} {more}>{inside}</asset-clip>"


def document(assets: str, spine: str, rate: Fraction, version: str = "1.10", more: str = "", name: str = "cut") -> str:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE fcpxml>
<!-- kept -->
<fcpxml version="{version}">
  <resources>
    <format id="f1" name="FFVideoFormatX" frameDuration="{told(1 / rate)}" width="96" height="64"/>
    <effect id="e1" name="Basic Title" uid=".../Titles.localized/Basic.moti"/>
    {assets}
    {more}
  </resources>
  <library><event name="day"><project name="{name}"><sequence format="f1" tcStart="3600s" tcFormat="NDF" duration="90s"><spine>
    {spine}
  </spine></sequence></project></event></library>
</fcpxml>
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def shown(numbers):
    """The numbers of the frames that each asset clip of a cut shows, on its asset's clock."""

    def read(place: Path, strict: bool = True) -> list[list[int]]:
        root, found = ET.fromstring(place.read_bytes()), []
        step = times(root.find(".//format").get("frameDuration"))
        known = {one.get("id"): one for one in root.iter("asset")}
        for clip in [*root.iter("asset-clip"), *root.iter("video")]:
            media = known[clip.get("ref")]
            src = media.get("src") or media.find("media-rep").get("src")
            values, label = numbers(unquote(src.removeprefix("file://")))
            origin = times(media.get("start"))
            assert times(media.get("duration")) / step == len(values)
            if strict and label is not None and origin:
                assert origin == label * step  # programs that go by the file's timecode are right as well
            first = ((times(clip.get("start")) if clip.get("start") else origin) - origin) / step
            length = times(clip.get("duration")) / step
            assert first.denominator == length.denominator == 1 and first >= 0
            found.append(values[int(first) : int(first + length)])
            assert len(found[-1]) == length
        return found

    return read


@pytest.mark.parametrize(
    ("rate", "timecode", "label", "version"),
    [
        (NTSC, "01:00:00;00", 107_892, "1.8"),
        pytest.param(FILM, "10:00:00:00", 864_000, "1.9", marks=pytest.mark.slow),
        (Fraction(25), None, 0, "1.11"),
        pytest.param(NTSC, "01:00:00:00", 0, "1.10", marks=pytest.mark.slow),  # the cut counts from 0 all the same
    ],
)
def test_the_new_cut_shows_the_same_frames_and_nothing_else_changes(rate, timecode, label, version, tmp_path, film, shown):
    source, whole = film(tmp_path / "a & b" / "A001.mkv", rate, timecode), film(tmp_path / "B001.mkv", rate, timecode)
    old = version == "1.8"
    keys = f'<param name="p"><keyframe time="{told((label + 23) / rate)}" value="1"/></param>'
    title = f'<title ref="e1" lane="1" offset="{told((label + 22) / rate)}" name="T" duration="1s"><text>Hé</text></title>'
    spine = shows("a1", rate, 0, label + 20, 10, f"<adjust-transform>{keys}</adjust-transform>{title}", 'audioRole="dialogue"')
    spine += '<gap name="Gap" offset="3601s" duration="1s"/>' + shows("a1", rate, 90, label + 45, 10)
    spine += shows("a2", rate, 110, None, 20)
    assets = asset("a1", source, rate, label, old=old).replace("a & b", "a%20&amp;%20b") + asset("a2", whole, rate, label, old=old)
    text = document(assets, spine, rate, version)
    before = write(tmp_path / "cut.fcpxml", text)
    done = restore_timeline(before, tmp_path / "out", LOSSLESS, handles=3)
    assert not done.missed and (done.clips, done.relinked) == (3, 3) and done.timeline == tmp_path / "out" / "cut.fcpxml"
    assert shown(done.timeline) == shown(before) == [list(range(20, 30)), list(range(45, 55)), list(range(20))]
    # without a timecode the clock of a file begins with it
    parts = {(17, 33), (42, 58), (0, 23)} if label else {(0, 58), (0, 23)}
    assert {(part.first, part.last) for part in done.parts} == parts
    new = done.timeline.read_text(encoding="utf-8")
    without = re.sub(r'\n *<asset id="r\d+".*?(/>|</asset>)(?=\n|<asset)', "", new, flags=re.DOTALL)
    assert without.count("\n") == text.count("\n")
    back = re.sub(r'(<asset-clip ref=)"r\d+"( start="[^"]*")?', lambda found: f'{found[1]}"?"', without)
    assert back == re.sub(r'(<asset-clip ref=)"a\d"', r'\1"?"', text)
    made = [one for one in ET.fromstring(new).iter("asset") if one.get("id").startswith("r")]
    assert all(one.get("uid") is None and one.find(".//bookmark") is None for one in made) and len(made) == len(parts)
    assert all((one.find("metadata/md").get("value") == "a & b") != old for one in made if not old)


def test_what_dissolves_and_changed_speed_show_is_restored_too(tmp_path, film, shown):
    rate = Fraction(25)
    source = film(tmp_path / "A.mkv", rate, "10:00:00:00")
    label = 900_000
    dissolve = '<transition name="Cross Dissolve" offset="10/25s" duration="8/25s"/>'
    faster = '<timeMap><timept time="0s" value="0s" interp="smooth2"/><timept time="1s" value="2s"/></timeMap>'
    within = f'<clip name="c" offset="0s" start="{told(Fraction(label + 20, 25))}" duration="5/25s"><video ref="a1" '
    within += f'offset="{told(Fraction(label, 25))}" start="{told(Fraction(label, 25))}" duration="60/25s"/></clip>'
    for spine, parts in [
        (shows("a1", rate, 0, label + 12, 5) + dissolve + shows("a1", rate, 14, label + 40, 5), [(12, 25), (32, 45)]),
        (shows("a1", rate, 0, label + 20, 5, faster), [(0, None)]),
        (shows("a1", rate, 0, label + 20, 5, '<conform-rate srcFrameRate="24"/>'), [(0, None)]),
        (shows("a1", rate, 0, label + 20, 5, '<conform-rate scaleEnabled="0" srcFrameRate="24"/>'), [(20, 25)]),
        (within, [(20, 25)]),
        (within + dissolve, [(20, 33)]),
        (within.replace("<video", faster + "<video"), [(0, None)]),
    ]:
        old = write(tmp_path / "cut.fcpxml", document(asset("a1", source, rate, label), spine, rate))
        found, missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
        assert not missed and [(part.first, part.last) for part in found] == parts
    old = write(tmp_path / "cut.fcpxml", document(asset("a1", source, rate, label), within, rate))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    new = ET.fromstring(done.timeline.read_bytes())
    made = next(one for one in new.iter("asset") if one.get("id") == new.find(".//video").get("ref"))
    assert times(made.get("start")) == Fraction(label + 20, 25) and times(made.get("duration")) == Fraction(5, 25)


def test_clips_that_would_lose_their_sound_are_told(tmp_path, film, caplog):
    rate, mute = Fraction(25), LOSSLESS.override("media.drop=[audio]")
    source = film(tmp_path / "A.mkv", rate, "10:00:00:00", sounds=1)
    media = asset("a1", source, rate, 900_000)
    for one, more, config, told in [
        (media, "", LOSSLESS, 0),
        (media, 'srcEnable="video"', mute, 0),
        (media.replace('hasAudio="1"', ""), "", mute, 0),
        (media, "", mute, 1),
    ]:
        old = write(tmp_path / "cut.fcpxml", document(one, shows("a1", rate, 0, 900_020, 5, more=more), rate))
        parts_of_timeline(old, tmp_path / "out", config)
        assert len(caplog.messages) == told
    (said,) = caplog.messages
    assert said == f"{old}: 1 clip takes its sound out of the restored files, which have none; leave out --drop audio"


@pytest.mark.parametrize("kept", [True, False])
def test_an_asset_says_that_it_has_sound_where_the_restored_file_has(tmp_path, film, kept):
    rate, config = Fraction(25), LOSSLESS if kept else LOSSLESS.override("media.drop=[audio]")
    media = asset("a1", film(tmp_path / "A.mkv", rate, "10:00:00:00", sounds=1), rate, 900_000)
    old = write(tmp_path / "cut.fcpxml", document(media, shows("a1", rate, 0, 900_020, 5), rate))
    new = ET.fromstring(restore_timeline(old, tmp_path / "out", config).timeline.read_bytes())
    (made,) = (one for one in new.iter("asset") if one.get("id") != "a1")
    told = {name: value for name, value in made.attrib.items() if name.lower().startswith(("hasaudio", "audio"))}
    assert told == ({"hasAudio": "1", "audioSources": "1", "audioChannels": "2", "audioRate": "48000"} if kept else {})
    assert made.get("hasVideo") == "1"


def test_a_clip_that_leaves_its_length_to_its_asset_stays_as_long_where_the_file_is_longer(tmp_path, film):
    rate, label = Fraction(25), 900_000
    source = film(tmp_path / "A.mkv", rate, "10:00:00:00")
    spine = shows("a1", rate, 0, None, 50).replace(' duration="2s"', "") + shows("a1", rate, 50, label + 20, 5)
    old = write(tmp_path / "cut.fcpxml", document(asset("a1", source, rate, label, 50), spine, rate))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=2)
    assert [(part.first, part.last) for part in done.parts] == [(0, 52)]
    one = next(ET.fromstring(done.timeline.read_bytes()).iter("asset-clip"))
    assert (times(one.get("start")), times(one.get("duration"))) == (label / rate, 2)


def test_sound_that_a_split_edit_lets_begin_or_end_elsewhere_is_in_the_restored_file(tmp_path, film):
    rate, label = Fraction(25), 900_000
    source = film(tmp_path / "A.mkv", rate, "10:00:00:00")
    early, lasts = f'audioStart="{told((label + 10) / rate)}"', f'audioDuration="{told(30 / rate)}"'
    for more, parts in [
        (f"{early} {lasts}", [(10, 40)]),
        (early, [(10, 25)]),
        (lasts, [(20, 50)]),
        (f'{early} {lasts} srcEnable="video"', [(20, 25)]),
    ]:
        spine = shows("a1", rate, 0, label + 20, 5, more=more)
        old = write(tmp_path / "cut.fcpxml", document(asset("a1", source, rate, label), spine, rate))
        found, missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
        assert not missed and [(part.first, part.last) for part in found] == parts


def test_numbered_pictures_become_numbered_pictures(tmp_path):
    rate, folder = Fraction(25), tmp_path / "sh010"
    folder.mkdir()
    for index in range(6):
        av.VideoFrame.from_ndarray(np.full((64, 96, 3), (200, 0, 9), np.uint8), "rgb24").to_image().save(
            folder / f"f.{1001 + index}.png"
        )
    media = asset("a1", folder / "f.[1001-1006].png", rate, 1001, 6)
    old = write(tmp_path / "cut.fcpxml", document(media, shows("a1", rate, 0, 1003, 2), rate))
    done = restore_timeline(old, tmp_path / "out", Config().override(*SET[1:]), handles=0)
    made = ET.fromstring(done.timeline.read_bytes()).findall(".//asset")[1]
    assert made.find("media-rep").get("src") == (done.parts[0].target.parent / "f.[1001-1004].png").as_uri()
    assert sorted(one.name for one in done.parts[0].target.parent.iterdir()) == [f"f.{number}.png" for number in range(1001, 1005)]
    assert (times(made.get("start")), times(made.get("duration"))) == (1001 / rate, 4 / rate)


def test_connected_nested_and_compound_clips_are_restored_and_what_shows_nothing_is_not(tmp_path, film, shown):
    rate = Fraction(25)
    for name in ("A", "B", "C", "D", "E", "F", "G"):
        film(tmp_path / f"{name}.mkv", rate, "10:00:00:00")
    assets = "".join(asset(f"a{name}", tmp_path / f"{name}.mkv", rate, 900_000) for name in "ABCDEFG")
    assets += asset("aS", "file:///gone.wav", rate).replace('hasVideo="1" format="f1" ', "")
    connected = shows("aB", rate, 900_022, 900_030, 5, more='lane="1"')
    story = f'<spine lane="-1" offset="36000s">{shows("aC", rate, 0, 900_010, 5)}</spine>'
    spine = shows("aA", rate, 0, 900_020, 5, connected + story) + '<ref-clip ref="m1" offset="2s" name="x" duration="1s"/>' * 2
    spine += f'<sync-clip name="s" offset="4s" duration="1s"><spine>{shows("aE", rate, 0, 900_001, 5)}</spine></sync-clip>'
    spine += f"<audition>{shows('aF', rate, 200, 900_002, 5)}{shows('aG', rate, 200, 900_002, 5)}</audition>"
    spine += shows("aG", rate, 300, 900_002, 5, more='enabled="0"') + shows("aG", rate, 300, 900_002, 5, more='srcEnable="audio"')
    spine += shows("aS", rate, 400, 0, 5) + '<mc-clip ref="m2" name="cams" offset="20s" duration="1s"/>'
    compound = (
        f'<media id="m1" name="comp"><sequence format="f1"><spine>{shows("aD", rate, 0, 900_040, 5)}</spine></sequence></media>'
    )
    old = write(tmp_path / "cut.fcpxml", document(assets, spine, rate, more=compound))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    assert [(Path(part.source.path).stem, part.first, part.last, len(part.uses)) for part in done.parts] == [
        ("A", 20, 25, 1),
        ("B", 30, 35, 1),
        ("C", 10, 15, 1),
        ("D", 40, 45, 1),
        ("E", 1, 6, 1),
        ("F", 2, 7, 1),
    ]
    assert done.missed == [f"{old}: clip 'cams' is a multicam clip, which is not read; flatten it first"]
    new = ET.fromstring(done.timeline.read_bytes())
    kept = [one.get("ref") for one in new.iter("asset-clip") if not one.get("ref").startswith("r")]
    assert kept == ["aG", "aG", "aG", "aS"] and done.relinked == 6


def test_a_cut_without_blanks_between_its_elements_stays_one(tmp_path, film, shown):
    rate = Fraction(25)
    source = film(tmp_path / "A.mkv", rate, "10:00:00:00")
    text = document(asset("a1", source, rate, 900_000, old=True), shows("a1", rate, 0, 900_020, 5), rate, "1.8")
    old = write(tmp_path / "cut.fcpxml", re.sub(r">\s+<", "><", text))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0)
    assert shown(done.timeline) == shown(old) == [list(range(20, 25))]
    assert len(ET.fromstring(done.timeline.read_bytes()).findall("resources/asset")) == 2


def test_a_longer_file_of_that_name_is_told_by_its_timecode(tmp_path, film, shown):
    film(tmp_path / "rushes" / "A.mkv", NTSC, "01:00:00:00")
    spine = shows("a1", NTSC, 0, 108_020, 5)
    media = asset("a1", "file:///Volumes/X/A.mkv", NTSC, 108_010, length=30)  # what the editor had began at frame 10
    old = write(tmp_path / "cut.fcpxml", document(media, spine, NTSC))
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=2, media=[tmp_path / "rushes"])
    assert [(part.first, part.last) for part in done.parts] == [(18, 27)] and shown(done.timeline)[0] == list(range(20, 25))
    spine = shows("a1", NTSC, 0, 110_000, 5)
    old = write(tmp_path / "cut.fcpxml", document(media, spine, NTSC))
    with pytest.raises(MediaError, match="is not what the cut means: clip 'take 0' shows frames 2000 to 2004 of it, and it has 60"):
        restore_timeline(old, tmp_path / "out", LOSSLESS, media=[tmp_path / "rushes"], overwrite=True)
    old = write(
        tmp_path / "cut.fcpxml", document(asset("a1", "A.mkv", Fraction(50)), shows("a1", Fraction(50), 0, 20, 5), Fraction(50))
    )
    with pytest.raises(MediaError, match=r"has 29\.97 frames a second, and the cut counts 50 in clip 'take 0'"):
        restore_timeline(old, tmp_path / "out", LOSSLESS, media=[tmp_path / "rushes"], overwrite=True)


def test_a_clip_without_a_face_and_a_still_in_a_bundle(tmp_path, film, capsys):
    rate = Fraction(25)
    face, none = film(tmp_path / "A.mkv"), film(tmp_path / "B.mkv", face=False)
    still = tmp_path / "face.png"
    av.VideoFrame.from_ndarray(np.full((64, 96, 3), (200, 0, 9), np.uint8), "rgb24").to_image().save(still)
    rep = f'<media-rep kind="original-media" src="{still.as_uri()}"/>'
    picture = f'<asset id="s1" name="face" start="0s" duration="0s" hasVideo="1">{rep}</asset>'
    video = '<video ref="s1" offset="8s" name="face" start="3600s" duration="50/25s"/>'
    spine = shows("a1", rate, 0, 5, 5) + shows("a2", rate, 5, 5, 5) + video
    old = tmp_path / "cut.fcpxmld"
    write(old / "Info.fcpxml", document(asset("a1", face, rate) + asset("a2", none, rate) + picture, spine, rate))
    write(old / "more" / "tracking.bin", "kept")
    settings = [text for setting in SET for text in ("--set", setting)]
    asked = ["timeline", str(old), "--to", str(tmp_path / "out"), "--handles", "0", *settings, "--ending", ".mp4"]
    (tmp_path / "out" / "cut.fcpxmld").mkdir(parents=True)
    assert cli.main(asked) == 1 and "exists already" in capsys.readouterr().err
    assert cli.main([*asked, "--overwrite"]) == 0
    assert (
        capsys.readouterr().err.splitlines()[-1].endswith("cut.fcpxmld: 2 of 3 clips restored, 1 without a face left as they are")
    )
    new = tmp_path / "out" / "cut.fcpxmld"
    assert (new / "more" / "tracking.bin").read_text() == "kept"
    root = ET.fromstring((new / "Info.fcpxml").read_bytes())
    assert [one.get("ref")[0] for one in root.iter("asset-clip")] == ["r", "a"]
    made = {one.get("id"): one for one in root.iter("asset")}[root.find(".//video").get("ref")]
    assert made.find("media-rep").get("src") == (tmp_path / "out" / "face.png").as_uri() and made.get("duration") == "0s"
    assert root.find(".//video").get("start") == "3600s" and not list((tmp_path / "out").glob(".*"))


def test_relative_addresses_go_on_naming_the_same_files_from_another_folder(tmp_path, film):
    rate, media = Fraction(25), tmp_path / "media"
    film(media / "A.mkv")
    film(media / "a & b" / "B.mkv", face=False)
    film(tmp_path / "cuts" / "cut.fcpxmld" / "own.mkv", face=False)
    spine = "".join(shows(f"a{number}", rate, 5 * number, 5, 5) for number in range(3))
    for name, up in (("cut.fcpxml", "../media"), ("cut.fcpxmld", "../../media")):
        old = tmp_path / "cuts" / name
        names = f"{up}/A.mkv", f"{up}/a%20&amp;%20b/B.mkv", "own.mkv"
        assets = "".join(asset(f"a{number}", name, rate, old=number == 2) for number, name in enumerate(names))
        write(old / "Info.fcpxml" if old.is_dir() else old, document(assets, spine, rate))
        done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, resume=True)
        new = (done.timeline / "Info.fcpxml" if old.is_dir() else done.timeline).read_text()
        own = "own.mkv" if old.is_dir() else (tmp_path / "cuts" / "own.mkv").as_uri()
        none = (media / "a & b" / "B.mkv").as_uri().replace("&", "&amp;")
        assert done.relinked == 1 and up not in new and f'src="{own}"' in new and f'src="{none}"' in new


BOMB = '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<fcpxml", "cannot be read as a timeline"),
        ('<xmeml version="5"/>', "is no FCPXML but <xmeml>"),
        ('<fcpxml version="1.5"/>', "is FCPXML of version 1.5; export it as 1.8 or newer"),
        ('<fcpxml version="2.0"/>', "is FCPXML of version 2.0"),
        ('<fcpxml version="1.10"><resources/></fcpxml>', "holds no timeline"),
        (f'<!DOCTYPE fcpxml [{BOMB}]><fcpxml version="1.10"><a>&b;</a></fcpxml>', "declares entities or elements of its own"),
        ('<!DOCTYPE fcpxml [<!ENTITY x SYSTEM "file:///etc/passwd">]><fcpxml version="1.10">&x;</fcpxml>', "declares entities"),
        ('<!DOCTYPE fcpxml SYSTEM "http://x.org/a.dtd"><fcpxml version="1.10">&x;</fcpxml>', "holds no timeline"),
        ('<fcpxml version="1.10">' + "<a>" * 5000 + "</a>" * 5000 + "</fcpxml>", "is nested too deeply"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><fcpxml version="1.10"/>', "is written in ISO-8859-1; save it as UTF-8"),
        (
            document(asset("a1", "A.mkv", NTSC), shows("a1", NTSC, 0, 1, 5, more="x='>'").replace('start="1', 'start="one'), NTSC),
            "is no time",
        ),
        (document(asset("a1", "A.mkv", NTSC), shows("a1", NTSC, 0, 1, 5).replace("/30000s", "/0s"), NTSC), "is no time"),
        (document(asset("a1", "https://x.org/A.mkv", NTSC), shows("a1", NTSC, 0, 1, 5), NTSC), "lies on the network"),
        (
            document("", shows("a1", NTSC, 0, 1, 5), NTSC),
            "^[^:]*cut.fcpxml: clip 'take 0': ref='a1' is no resource of this file; export it again",
        ),
        (document("", '<ref-clip ref="m1" name="x" duration="1s"/>', NTSC), "clip 'x': ref='m1' is no resource of this file"),
        (
            document(asset("a1", "A.mkv", NTSC), shows("a1", NTSC, 0, 1, -5), NTSC),
            "clip 'take 0': duration='-1001/6000s' is no length",
        ),
        (document(asset("a1", "A.mkv", NTSC), shows("a1", NTSC, 0, 1, 0), NTSC), "shows no footage"),
    ],
)
def test_a_bad_cut_is_one_line(text, message, tmp_path, capsys):
    place = write(tmp_path / "cut.fcpxml", text)
    with pytest.raises(MediaError, match=message):
        restore_timeline(place, tmp_path / "out", LOSSLESS)
    assert cli.main(["timeline", str(place), "--to", str(tmp_path / "out")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_fcpxml_becomes_fcpxml_and_one_of_several_projects_is_chosen(tmp_path, film):
    rate = Fraction(25)
    source = film(tmp_path / "A.mkv", timecode="10:00:00:00")
    text = document(asset("a1", source, rate, 900_000), shows("a1", rate, 0, 900_020, 5), rate)
    two = text.replace("</event>", text[text.index("<project") : text.index("</event>")].replace('"cut"', '"two"') + "</event>")
    old = write(tmp_path / "cut.fcpxml", two.replace("900020", "900020"))
    with pytest.raises(ConfigError, match="choose one with --sequence: 'cut', 'two'"):
        parts_of_timeline(old, tmp_path / "out", LOSSLESS)
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, sequence="two")
    refs = [one.get("ref") for one in ET.fromstring(done.timeline.read_bytes()).iter("asset-clip")]
    assert refs == ["a1", "r1"]
    for name, message in (("cut.otio", "is written as .fcpxml, which keeps all"), ("cut.fcpxmld", "is written as .fcpxml")):
        with pytest.raises(ConfigError, match=message):
            restore_timeline(old, tmp_path / "out", LOSSLESS, sequence="two", save_as=tmp_path / "out" / name)
    with pytest.raises(ConfigError, match="FCPXML is written of FCPXML alone"):
        restore_timeline(tmp_path / "cut.otio", tmp_path / "out", LOSSLESS, save_as=tmp_path / "out" / "cut.fcpxml")
    with pytest.raises(MediaError, match=r"holds no Info.fcpxml"):
        (tmp_path / "empty.fcpxmld").mkdir()
        restore_timeline(tmp_path / "empty.fcpxmld", tmp_path / "out", LOSSLESS)

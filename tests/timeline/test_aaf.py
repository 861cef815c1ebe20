from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote
from uuid import UUID

import pytest

from videoclr import cli
from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.timeline import cut as cuts
from videoclr.timeline import parts_of_timeline, restore_timeline

otio = pytest.importorskip("opentimelineio", reason="needs the extra timeline")
aaf2 = pytest.importorskip("aaf2", reason="needs the extra timeline")

SET = ["media.codec=ffv1", "restore.use=unchanged", "gate.use=none", "track.max_gap=0", "align.smoothing=0"]
LOSSLESS = Config().override(*SET)
NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)
COUNT = 60


class Avid:
    """Makes an AAF as Media Composer arranges it: compositions of master mobs of files that were cut out of tapes."""

    def __init__(self, path: Path, rate: Fraction = Fraction(25)) -> None:
        self.path, self.rate = path, f"{rate.numerator}/{rate.denominator}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = aaf2.open(str(path), "w")
        self.create, self.mobs = self.file.create, self.file.content.mobs

    def tape(self, name: str, label: int, drop: bool = False):
        tape = self.create.SourceMob()
        self.mobs.append(tape)
        _, told = tape.create_tape_slots(name, self.rate, round(Fraction(self.rate)), drop_frame=drop)
        told.segment.start = label
        told["PhysicalTrackNumber"].value = 1
        return tape

    def master(self, name: str, url: str | None, tape=None, begin: int = 0, count: int = COUNT, rate: str | None = None, kind=None):
        """The master mob of a file; `begin`: frame of the tape with which it begins."""
        rate = rate or self.rate
        file, descriptor = self.create.SourceMob(f"{name}.PHYS"), self.create.CDCIDescriptor()
        values = {"ComponentWidth": 8, "HorizontalSubsampling": 2, "VideoLineMap": [42, 0], "FrameLayout": "FullFrame"}
        values |= {"StoredWidth": 96, "StoredHeight": 64, "ImageAspectRatio": "16/9", "SampleRate": rate, "Length": count}
        for key, value in values.items():
            descriptor[key].value = value
        if url is not None:
            locator = self.create.NetworkLocator()
            locator["URLString"].value = url
            descriptor["Locator"].append(locator)
        file.descriptor = descriptor
        self.mobs.append(file)
        clip = self.create.SourceClip(start=begin, length=count, media_kind="picture")
        if tape is not None:
            clip.mob, clip.slot_id = tape, 1
        file.create_timeline_slot(rate, 1).segment = clip
        master = self.create.MasterMob(name)
        self.mobs.append(master)
        shows = file.create_source_clip(1, 0, count, "picture")
        if kind == "sequence":
            several = self.create.Sequence(media_kind="picture")
            several.components.append(shows)
            several.length, shows = count, several
        master.create_timeline_slot(rate, 1).segment = shows
        master.create_timeline_slot(48000, 2).segment = self.create.SourceClip(start=0, length=9, media_kind="sound")
        master.comments["Scene"] = "12"
        return master

    def composition(self, name: str, segments: list, usage: str | None = "Usage_TopLevel"):
        made = self.create.CompositionMob(name)
        if usage is not None:
            made.usage = usage
        self.mobs.append(made)
        slot = made.create_picture_slot(self.rate)
        for one in segments:
            slot.segment.components.append(one)
        lengths = [-one.length if isinstance(one, aaf2.components.Transition) else one.length for one in segments]
        slot.segment.length = sum(lengths)
        return made

    def operation(self, name: str, warps: bool, inputs: list, length: int, curve: list | None = None):
        known = self.create.OperationDef(UUID(int=hash((name, warps)) & (2**128 - 1)), name)
        self.file.dictionary.register_def(known)
        known.media_kind = "picture"
        values = {"IsTimeWarp": warps, "Bypass": 0, "NumberInputs": len(inputs), "OperationCategory": "OperationCategory_Effect"}
        for key, value in values.items():
            known[key].value = value
        group = self.create.OperationGroup(known, length)
        group.media_kind = "picture"
        for one in inputs:
            group.segments.append(one)
        if curve is not None:
            rational = self.file.dictionary.lookup_typedef("Rational")
            parameter = self.create.ParameterDef(UUID(int=7), "PARAM_SPEED_OFFSET_MAP_U", "", rational)
            self.file.dictionary.register_def(parameter)
            self.file.dictionary.register_def(self.create.InterpolationDef(aaf2.misc.LinearInterp, "LinearInterp", ""))
            varying = self.create.VaryingValue(parameter, aaf2.misc.LinearInterp)
            for time, value in curve:
                varying.add_keyframe(time, value)
            group["Parameters"].append(varying)
        return group

    def dissolve(self, length: int, before: int):
        made = self.create.Transition("picture", length)
        made["OperationGroup"].value = self.operation("Video Dissolve", False, [], length)
        made.cutpoint = before
        return made

    def close(self) -> Path:
        self.file.close()
        return self.path


def clip(master, start: int, length: int):
    return master.create_source_clip(1, start, length, "picture")


def _clips(segment):
    parts = aaf2.components
    if isinstance(segment, parts.SourceClip):
        yield from _clips(segment.slot.segment) if isinstance(segment.mob, aaf2.mobs.CompositionMob) else [segment]
    elif isinstance(segment, (parts.Sequence, parts.OperationGroup)):
        for one in segment.components if isinstance(segment, parts.Sequence) else segment.segments:
            yield from _clips(one)
    elif isinstance(segment, parts.Selector):
        yield from _clips(segment["Selected"].value)


@pytest.fixture
def shown(numbers):
    """The numbers of the frames that each clip of a cut shows, from the composition down to the file."""

    def read(place: Path, name: str = "cut") -> list[list[int]]:
        found = []
        with aaf2.open(str(place)) as file:
            (top,) = [one for one in file.content.toplevel() if one.name == name]
            for one in _clips(next(iter(top.slots)).segment):
                shows = one.slot.segment
                shows = next(iter(shows.components)) if isinstance(shows, aaf2.components.Sequence) else shows
                media = shows.mob
                (locator,) = media.descriptor["Locator"].value
                values, label = numbers(unquote(locator["URLString"].value.removeprefix("file://")))
                first = one.start + shows.start
                assert media.descriptor["Length"].value == media.slots[0].segment.length == len(values)
                tape = media.slots[0].segment
                if tape.mob is not None:  # programs that go by the timecode are right as well
                    told = next(slot.segment for slot in tape.mob.slots if isinstance(slot.segment, aaf2.components.Timecode))
                    assert told.start + tape.start == label
                found.append(values[first : first + one.length])
                assert first >= 0 and len(found[-1]) == one.length
        return found

    return read


def told(place: Path, skip: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Every mob's properties, one line each, but for those of the mobs that are named in `skip`."""
    with aaf2.open(str(place)) as file:
        return {
            str(mob.mob_id): [
                f"{type(item).__name__} {prop.name} {prop.data!r}"
                for item, _ in mob.walk_references(topdown=True)
                for prop in item.properties()
                if not isinstance(prop, (aaf2.properties.StrongRefProperty, aaf2.properties.StrongRefVectorProperty))
            ]
            for mob in file.content.mobs
            if mob.name not in skip
        }


@pytest.mark.parametrize(
    ("rate", "timecode", "label", "kind"),
    [
        (NTSC, "01:00:00;00", 107_892, "sequence"),
        pytest.param(FILM, "10:00:00:00", 864_000, None, marks=pytest.mark.slow),
        pytest.param(Fraction(25), None, None, None, marks=pytest.mark.slow),
    ],
)
def test_the_new_cut_shows_the_same_frames_and_nothing_else_changes(rate, timecode, label, kind, tmp_path, film, shown, numbers):
    one, two = film(tmp_path / "a b" / "A001.mkv", rate, timecode), film(tmp_path / "B001.mkv", rate, timecode)
    avid = Avid(tmp_path / "cut.aaf", rate)
    tapes = [None, None] if label is None else [avid.tape(f"TAPE{number}", label - 5, ";" in timecode) for number in (1, 2)]
    first, second = (
        avid.master(path.stem, path.as_uri(), tape, 5, kind=kind) for path, tape in zip((one, two), tapes, strict=True)
    )
    untouched = avid.composition("inner", [clip(second, 30, 8)], None)
    nested = avid.create.SourceClip(start=0, length=8, media_kind="picture")
    nested.mob, nested.slot_id = untouched, untouched.slots[0].slot_id
    effect = avid.operation("Blur", False, [clip(first, 40, 10)], 10)
    pieces = [clip(first, 20, 10), avid.dissolve(4, 2), clip(second, 12, 10), effect, avid.create.Filler("picture", 9), nested]
    avid.composition("cut", pieces)
    old = avid.close()
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=3, resume=True)
    assert not done.missed and (done.clips, done.relinked) == (4, 4) and done.timeline == tmp_path / "out" / "cut.aaf"
    frames = [list(range(20, 30)), list(range(12, 22)), list(range(40, 50)), list(range(30, 38))]
    assert shown(done.timeline) == shown(old) == frames
    assert {(part.first, part.last) for part in done.parts} == {(17, 33), (37, 53), (9, 25), (27, 41)}
    before, after = told(old, ("cut", "inner")), told(done.timeline, ("cut", "inner"))
    assert before == {key: value for key, value in after.items() if key in before} and len(after) == len(before) + 8
    with aaf2.open(str(done.timeline)) as file:
        top = next(iter(file.content.toplevel())).slots[0].segment
        kinds = [type(piece).__name__ for piece in top.components]
        assert kinds == ["SourceClip", "Transition", "SourceClip", "OperationGroup", "Filler", "SourceClip"]
        assert top.components[1].cutpoint == 2 and top.components[0].mob.comments["Scene"] == "12"
        assert [slot.slot_id for slot in top.components[0].mob.slots] == [1]
    if kind is None:
        return
    flat = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=3, resume=True, save_as=tmp_path / "out" / "cut.otio")
    assert flat.relinked == 4 and _of_otio(flat.timeline, numbers) == [list(range(20, 28)), list(range(14, 22)), *frames[2:]]


def _of_otio(place: Path, numbers) -> list[list[int]]:
    found = []
    for one in otio.adapters.read_from_file(str(place)).video_tracks()[0].find_clips():
        values, _ = numbers(one.media_reference.target_url.removeprefix("file://"))
        first = round((one.source_range.start_time - one.media_reference.available_range.start_time).value)
        found.append(values[first : first + round(one.source_range.duration.value)])
        assert len(found[-1]) == one.source_range.duration.value
    return found


def test_changed_speed_is_restored_as_far_as_it_is_understood(tmp_path, film, shown):
    source = film(tmp_path / "A.mkv", timecode="10:00:00:00")
    cases = [
        ([(0, 0), (10, 20)], (19, 41)),  # twice as fast
        ([(0, 0), (10, -10)], (9, 21)),  # backwards
        ([(0, 3), (10, 3)], (19, 24)),  # frozen
        ([(0, 0), (5, 1), (10, 20)], (0, None)),  # a curve
        (None, (0, None)),
    ]
    avid = Avid(tmp_path / "cut.aaf")
    master = avid.master("A", source.as_uri(), avid.tape("T", 900_000))
    for index, (curve, _) in enumerate(cases):
        warp = avid.operation("Motion Control", True, [clip(master, 20, 10)], 10, curve)
        avid.composition(f"cut {index}", [avid.operation("Blur", False, [warp], 10)])
    old = avid.close()
    for index, (_, part) in enumerate(cases):
        (one,), missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0, sequence=f"cut {index}")
        assert not missed and (one.first, one.last) == part
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=0, sequence="cut 1")
    with aaf2.open(str(done.timeline)) as file:
        kept, changed = [next(_clips(top.slots[0].segment)) for top in list(file.content.toplevel())[:2]]
        assert (changed.start, changed.slot.segment.length) == (11, 12)  # what lies before it is there
        assert (kept.start, kept.slot.segment.length) == (20, COUNT)


def test_relative_addresses_go_on_naming_the_same_files_from_another_folder(tmp_path, film):
    film(tmp_path / "media" / "A.mkv")
    none = film(tmp_path / "media" / "a b" / "B.mkv", face=False)
    avid = Avid(tmp_path / "cuts" / "cut.aaf")
    names = "../media/A.mkv", "../media/a%20b/B.mkv", "file:///gone/C.mkv"
    avid.composition("cut", [clip(avid.master(Path(name).stem, name), 5, 5) for name in names])
    done = restore_timeline(avid.close(), tmp_path / "out", LOSSLESS, handles=0)
    with aaf2.open(str(done.timeline)) as file:
        pieces = list(next(iter(file.content.toplevel())).slots[0].segment.components)
        found = [piece.slot.segment.mob.descriptor["Locator"].value[0]["URLString"].value for piece in pieces]
    assert found == [(tmp_path / "out" / "A.000005-000009.mkv").as_uri(), none.as_uri(), "file:///gone/C.mkv"]


def test_a_clip_of_no_length_is_passed_over(tmp_path, film):
    avid = Avid(tmp_path / "cut.aaf")
    master = avid.master("A", film(tmp_path / "A.mkv").as_uri())
    pieces = [clip(master, 0, 5), clip(master, 20, 5)]
    pieces[0].length = 0
    avid.composition("cut", pieces)
    parts, missed = parts_of_timeline(avid.close(), tmp_path / "out", LOSSLESS, handles=0)
    assert [(part.first, part.last, len(part.uses)) for part in parts] == [(20, 25, 1)] and not missed


def test_rendered_effects_are_dropped_where_they_show_the_old_media(tmp_path, film):
    face, none = film(tmp_path / "A.mkv"), film(tmp_path / "B.mkv", face=False)
    avid = Avid(tmp_path / "cut.aaf")
    groups, rendered = [], avid.master("Rendered", "file:///rendered.mxf")
    for source in (face, none):
        group = avid.operation("Blur", False, [clip(avid.master(source.stem, source.as_uri()), 5, 5)], 5)
        group["Rendering"].value = clip(rendered, 0, 5)
        groups.append(group)
    avid.composition("cut", groups)
    done = restore_timeline(avid.close(), tmp_path / "out", LOSSLESS, handles=0)
    assert (done.relinked, done.faceless) == (1, 1)
    with aaf2.open(str(done.timeline)) as file:
        pieces = list(next(iter(file.content.toplevel())).slots[0].segment.components)
        assert ["Rendering" in piece for piece in pieces] == [False, True]


def test_media_is_found_by_address_or_name_and_told_by_length_and_timecode(tmp_path, film, shown):
    right = film(tmp_path / "disk" / "A001C002.mkv", timecode="10:00:00:00")
    avid = Avid(tmp_path / "cut.aaf")
    tape = avid.tape("T", 899_000)
    urls = "file:///C%3A/Avid%20MediaFiles/MXF/1/a001c002.MKV", "\\\\nexis\\media\\A001C002.mkv", None
    for url in urls:
        avid.composition(str(url), [clip(avid.master("A001C002", url, tape, 1000), 20, 5)])
    # consolidated: frames 10 to 39 of the file that is here; and more than there is of it here
    avid.composition("part", [clip(avid.master("A001C002", None, tape, 1010, count=30), 10, 5)])
    avid.composition("more", [clip(avid.master("A001C002", None, tape, 990, count=90), 5, 10)])
    old, given = avid.close(), {"media": [tmp_path / "disk"]}
    for url in urls:
        (one,), missed = parts_of_timeline(old, tmp_path / "out", LOSSLESS, handles=0, sequence=str(url), **given)
        assert not missed and (one.source.path, one.first, one.last) == (str(right), 20, 25)
    done = restore_timeline(old, tmp_path / "out", LOSSLESS, handles=2, sequence="part", **given)
    assert [(part.first, part.last) for part in done.parts] == [(18, 27)] and shown(done.timeline, "part") == [list(range(20, 25))]
    with pytest.raises(MediaError, match="begins behind what clip 'A001C002' shows of it"):
        restore_timeline(old, tmp_path / "more", LOSSLESS, sequence="more", **given)


def test_what_is_not_read_is_told_and_does_not_stop_the_others(tmp_path, film, capsys):
    source = film(tmp_path / "A.mkv")
    avid = Avid(tmp_path / "cut.aaf")
    master = avid.master("A", source.as_uri())
    chosen = avid.create.Selector()
    chosen.media_kind, chosen.length = "picture", 5
    chosen["Selected"].value = clip(master, 30, 5)
    off = avid.create.Selector()
    off.media_kind, off.length = "picture", 5
    off["Selected"].value, off["Alternates"].value = avid.create.Filler("picture", 5), [clip(master, 50, 5)]
    lost = avid.create.SourceClip(length=5, mob_id=aaf2.mobid.MobID.new(), slot_id=1, media_kind="picture")
    black = avid.create.SourceClip(length=5, media_kind="picture")
    inside = avid.master("Inside", None)
    essence = avid.create.EssenceData()
    essence.mob_id = inside.slots[0].segment.mob.mob_id
    avid.file.content.essencedata.append(essence)
    essence.open("w").write(b"pictures")
    strange = [avid.master("Gone", "file:///gone.mxf"), avid.master("Fast", source.as_uri(), rate="50/1"), inside]
    avid.composition("cut", [clip(master, 5, 5), chosen, off, lost, black, *(clip(one, 0, 5) for one in strange)])
    named = [text for setting in SET for text in ("--set", setting)]
    assert cli.main(["timeline", str(avid.close()), "--to", str(tmp_path / "out"), "--handles", "0", *named]) == 1
    said = capsys.readouterr().err.splitlines()
    for text in (
        "shows a master clip that is not in the AAF",
        "gone.mxf: the media of clip 'Gone' is not there; name the folder",
        "clip 'Fast' has another edit rate than the sequence, which is not read",
        "clip 'Inside' has its media inside the AAF; export it with linked media",
    ):
        assert any(text in line for line in said)
    assert said[-1].endswith("cut.aaf: 2 of 6 clips restored")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A.000005-000009.mkv", "A.000030-000034.mkv", "cut.aaf"]


def test_bad_files_and_targets_are_one_line(tmp_path, monkeypatch, capsys):
    avid = Avid(tmp_path / "two.aaf")
    for name in ("one", "two"):
        avid.composition(name, [clip(avid.master("A", "file:///A.mkv"), 5, 5)])
    good = avid.close().read_bytes()
    Avid(tmp_path / "none.aaf").close()
    avid = Avid(tmp_path / "cycle.aaf")
    inner = avid.composition("inner", [avid.create.SourceClip(length=5, media_kind="picture")], None)
    inner.slots[0].segment.components[0].mob, inner.slots[0].segment.components[0].slot_id = inner, inner.slots[0].slot_id
    avid.composition("cut", [inner.create_source_clip(inner.slots[0].slot_id, 0, 5)])
    avid.close()
    (tmp_path / "noise.aaf").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "short.aaf").write_bytes(good[:9000])
    (tmp_path / "torn.aaf").write_bytes(good[:60_000] + bytes(60_000) + good[120_000:])
    for name, message in (
        ("noise", "cannot be read as a timeline"),
        ("short", "cannot be read as a timeline"),
        ("torn", "cannot be read as a timeline"),
        ("none", "holds no timeline"),
        ("cycle", "shows no footage"),
        ("gone", "no such file"),
    ):
        place = tmp_path / f"{name}.aaf"
        with pytest.raises(MediaError, match=message):
            restore_timeline(place, tmp_path / "out", LOSSLESS)
        assert cli.main(["timeline", str(place), "--to", str(tmp_path / "out")]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="choose one with --sequence: 'one', 'two'"):
        restore_timeline(tmp_path / "two.aaf", tmp_path / "out", LOSSLESS)
    with pytest.raises(ConfigError, match=r"an AAF is written of an AAF alone; expected \.otio"):
        restore_timeline(tmp_path / "cut.otio", tmp_path / "out", LOSSLESS, save_as=tmp_path / "out" / "cut.aaf")
    monkeypatch.setattr(cuts, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(ConfigError, match=r"AAF needs pyaaf2; pip install 'videoclr\[timeline\]'"):
        restore_timeline(tmp_path / "two.aaf", tmp_path / "out", LOSSLESS)

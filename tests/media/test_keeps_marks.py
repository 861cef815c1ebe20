"""What a file says about itself is said again, and what was done to it is added: the whole carry, file to file."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type

import videoclr
from videoclr import cli
from videoclr.config import Config
from videoclr.media import boxes, matroska
from videoclr.media.boxes import Amendments, amend, amended
from videoclr.media.crop import Crop
from videoclr.media.orientation import payload
from videoclr.media.reader import Reader
from videoclr.media.sphere import CUBEMAP, EQUIRECTANGULAR, Sphere
from videoclr.provenance import provenance

TAGS = {
    "title": "Café",
    "comment": "take 3",
    "artist": "crew",
    "creation_time": "2020-01-02T03:04:05.000000Z",
    "com.apple.quicktime.make": "Camera maker",
    "reel": "A017",
}
CHAPTERS = [(0, 200, "First"), (200, 400, "Second")]
POSE = (90 << 16, -(45 << 16), 10 << 16)
"""Looking left and down: yaw, pitch, roll."""
BOUNDS = struct.pack(">5I", 0, 2 << 28, 4 << 28, 1 << 28, 3 << 28)
"""Cropped: version and flags, then top, bottom, left, right."""


@pytest.fixture
def marked(clip):
    """A Matroska file with tags, chapters, and a title and a language of its video."""

    def setup(container, stream):
        container.metadata.update(TAGS)
        stream.metadata.update({"title": "Main camera", "language": "fra"})
        chapters = [
            {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
            for number, (start, end, title) in enumerate(CHAPTERS, 1)
        ]
        container.set_chapters(chapters)

    return clip("s.mkv", size=(64, 48), setup=setup)


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {key.lower(): value for key, value in container.metadata.items()}


def side(path: Path, kind: Type) -> bytes | None:
    with av.open(str(path)) as container:
        return payload(next(container.decode(video=0)), kind)


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov", "nut"])
def test_every_tag_of_the_file_is_kept(marked, carry, tmp_path, ending):
    report = carry(marked, tmp_path / f"o.{ending}")
    found = tags_of(tmp_path / f"o.{ending}")
    time = found.pop("creation_time")
    assert time[:19] == TAGS["creation_time"][:19]
    assert {key: found.get(key) for key in TAGS if key != "creation_time"} == {
        key: value for key, value in TAGS.items() if key != "creation_time"
    }
    assert not any("tags" in text for text in report.warnings)


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_tags_survive_a_second_run(marked, carry, tmp_path, ending):
    carry(marked, tmp_path / f"a.{ending}")
    carry(tmp_path / f"a.{ending}", tmp_path / f"b.{ending}")
    first, second = tags_of(tmp_path / f"a.{ending}"), tags_of(tmp_path / f"b.{ending}")
    assert second.pop("provenance") == "; ".join([first.pop("provenance")] * 2), "both passes are told"
    assert second == first


def test_tags_that_are_lost_are_named(marked, carry, tmp_path):
    report = carry(marked, tmp_path / "o.ts")
    (said,) = (text for text in report.warnings if "tags" in text)
    assert all(name in said.lower() for name in TAGS)
    assert said.endswith("mkv and mov do")


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_the_videos_own_title_and_language_are_kept(marked, carry, facts, tmp_path, ending):
    carry(marked, tmp_path / f"o.{ending}")
    tags = facts(tmp_path / f"o.{ending}")[0].tags
    assert tags["language"] == "fra"
    assert tags.get("title", tags.get("name")) == "Main camera"


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_chapters_are_kept(marked, carry, tmp_path, ending):
    carry(marked, tmp_path / f"o.{ending}")
    with av.open(str(tmp_path / f"o.{ending}")) as container:
        found = [
            (one["start"] * one["time_base"] * 1000, one["end"] * one["time_base"] * 1000, one["metadata"]["title"])
            for one in container.chapters()
        ]
    assert found == CHAPTERS


def test_chapters_of_a_cut_out_are_moved_with_it(marked, carry, tmp_path):
    carry(marked, tmp_path / "o.mkv", "media.start=0.12", "media.end=0.28")
    with av.open(str(tmp_path / "o.mkv")) as container:
        found = [(one["start"] * one["time_base"], one["end"] * one["time_base"]) for one in container.chapters()]
    assert found == [(0, Fraction(8, 100)), (Fraction(8, 100), Fraction(16, 100))]


def test_chapters_of_mp4_are_not_taken_for_a_data_stream(marked, carry, tmp_path):
    carry(marked, tmp_path / "m.mp4")
    carry(tmp_path / "m.mp4", tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert [one["metadata"]["title"] for one in container.chapters()] == ["First", "Second"]
        assert [one.type for one in container.streams].count("data") <= 1


@pytest.mark.parametrize("mode", ["left_right", "top_bottom"])
@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_stereo_3d_is_kept(clip, carry, tmp_path, mode, ending):
    def setup(container, stream):
        stream.metadata["stereo_mode"] = mode

    source, first, second = clip("s.mkv", size=(64, 48), setup=setup), tmp_path / f"a.{ending}", tmp_path / "b.mkv"
    carry(source, first)
    carry(first, second)
    before = side(source, Type.STEREO3D)
    assert before is not None
    assert struct.unpack_from("=i", before)[0] == {"left_right": 1, "top_bottom": 2}[mode]
    assert side(first, Type.STEREO3D)[:8] == side(second, Type.STEREO3D)[:8] == before[:8]


@pytest.fixture
def sphere(clip) -> Path:
    """An MP4 whose picture is a sphere, in stereo."""
    path = clip("s.mp4", size=(64, 48))
    mapping = boxes.spherical(Sphere(EQUIRECTANGULAR, POSE, BOUNDS))
    amend(str(path), Amendments(entries={0: mapping}), quicktime=False)
    assert side(path, Type.SPHERICAL) is not None
    return path


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_a_spherical_video_stays_one(sphere, carry, tmp_path, ending):
    report = carry(sphere, tmp_path / f"o.{ending}")
    assert side(tmp_path / f"o.{ending}", Type.SPHERICAL) == side(sphere, Type.SPHERICAL)
    assert struct.unpack_from("=i3i", side(sphere, Type.SPHERICAL))[1:] == POSE
    assert report.warnings == []
    with av.open(str(tmp_path / f"o.{ending}")) as container:
        assert len(list(container.decode(video=0))) == 10


PROJECTION = (
    b"\x76\x70\xb0\x76\x71\x81\x01\x76\x72\x94"
    + BOUNDS
    + b"".join(
        name + b"\x84" + struct.pack(">f", degrees) for name, degrees in ((b"\x76\x73", 90), (b"\x76\x74", -45), (b"\x76\x75", 10))
    )
)
"""Matroska's element, as its specification numbers it: type, private data, yaw, pitch, roll."""


def test_a_spherical_video_stays_one_in_matroska_and_back(sphere, carry, tmp_path):
    ways = [tmp_path / "a.mkv", tmp_path / "b.mkv", tmp_path / "c.mp4"]
    for before, after in zip([sphere, *ways], ways, strict=False):
        assert carry(before, after).warnings == []
        assert side(after, Type.SPHERICAL) == side(sphere, Type.SPHERICAL)
        assert after.suffix == ".mp4" or PROJECTION in after.read_bytes()[:2000]
    for path in ways:
        with av.open(str(path)) as container:
            assert len(list(container.decode(video=0))) == 10


def test_a_cube_of_odd_angles_stays_one(clip, carry, tmp_path):
    path = clip("s.mp4", size=(96, 64), ticks=range(3))
    box = boxes.spherical(Sphere(CUBEMAP, (-12345678, 1, 0), struct.pack(">3I", 0, 0, 2)))
    amend(str(path), Amendments(entries={0: box}), quicktime=False)
    before = side(path, Type.SPHERICAL)
    assert before is not None
    for source, target in ((path, "a.mkv"), (tmp_path / "a.mkv", "b.mov")):
        assert carry(source, tmp_path / target).warnings == []
        assert side(tmp_path / target, Type.SPHERICAL) == before


def test_a_sphere_in_stereo_with_a_crop_and_narrow_samples_finds_room_in_matroska(sphere, carry, tmp_path):
    amend(str(sphere), Amendments(crops={0: Crop(2, 2, 4, 4)}), quicktime=False)
    report = carry(sphere, tmp_path / "o.mkv")
    assert report.warnings == []
    assert side(tmp_path / "o.mkv", Type.SPHERICAL) == side(sphere, Type.SPHERICAL)
    with Reader(tmp_path / "o.mkv") as reader:
        assert reader.crop == Crop(2, 2, 4, 4)


def test_a_spherical_video_that_becomes_a_flat_one_is_told(sphere, carry, tmp_path):
    for ending in ("ts", "nut"):
        report = carry(sphere, tmp_path / f"o.{ending}")
        assert any("spherical" in text and "mp4, mov and mkv files keep them" in text for text in report.warnings)


def test_a_projection_that_has_no_word_is_told(tmp_path):
    path = tmp_path / "x.mkv"
    assert matroska.projection(Sphere(5, POSE, BOUNDS)) == boxes.spherical(Sphere(5, POSE, BOUNDS)) == b""
    path.write_bytes(b"")
    fisheye = matroska.Look(sphere=Sphere(5, POSE, BOUNDS))
    assert matroska.write_look(path, fisheye) == fisheye


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov", "nut"])
def test_the_output_says_what_restored_it(clip, carry, tmp_path, ending):
    source = clip("s.mp4", size=(64, 48), ticks=range(3))
    carry(source, tmp_path / f"o.{ending}", "restore.steps=7", "detect.threshold=0.7")
    said = tags_of(tmp_path / f"o.{ending}")["provenance"]
    assert said.startswith(f"face restoration by videoclr {videoclr.__version__} (")
    assert "restore.use=unchanged" in said
    assert "restore.steps=7" in said
    assert "detect.threshold=0.7" in said
    carry(source, tmp_path / f"n.{ending}", "media.provenance=false")
    assert "provenance" not in tags_of(tmp_path / f"n.{ending}")


def test_the_option_no_provenance_reaches_the_file(clip, tmp_path):
    source = clip("s.mp4", size=(64, 48), ticks=range(2))
    arguments = ["--set", "restore.use=unchanged", "--set", "gate.use=none", "--quiet", "--no-provenance"]
    assert cli.main([str(source), str(tmp_path / "o.mp4"), *arguments]) == 0
    assert "provenance" not in tags_of(tmp_path / "o.mp4")


def test_provenance_names_no_person_and_no_file():
    said = provenance(Config().override("identify.references=[anna.jpg]", "identify.only=[anna]", "runtime.device=cpu"))
    assert "anna" not in said
    assert said == provenance(Config()), "nor where it was computed"
    assert provenance(Config().override("blend.grain=0.5")) != said


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_equal_jobs_give_equal_bytes_with_all_their_marks(marked, carry, tmp_path, ending):
    for name in ("a", "b"):
        carry(marked, tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_the_report_tells_what_was_converted(marked, carry, tmp_path):
    report = carry(marked, tmp_path / "o.ts")
    assert json.loads(json.dumps(report.as_dict()))["warnings"] == report.warnings


def test_an_index_that_is_not_the_last_box_is_left_alone(tmp_path):
    path = tmp_path / "x.mp4"
    moov = struct.pack(">I4s", 8, b"moov")
    for data, words in ((moov + struct.pack(">I4s", 8, b"free"), "not the last box"), (b"\0\0\0\x08free", "no index")):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=words):
            amend(str(path), Amendments(tags={"a": "b"}), quicktime=False)
        assert path.read_bytes() == data


def test_a_damaged_index_is_told():
    with pytest.raises(ValueError, match="impossible size"):
        amended(struct.pack(">I4sI4s8x", 24, b"moov", 99, b"trak"), Amendments(tags={"a": "b"}), quicktime=False)

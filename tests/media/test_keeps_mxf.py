"""What MXF files are known by, and what of their own making does not belong into other files."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from videoclr.errors import MediaError
from videoclr.media import mxf

UMID = re.compile(re.escape(bytes.fromhex("060a2b340101010501010d0013")) + b"(.{18})(.)", re.DOTALL)
SIZE = (64, 48)


@pytest.fixture
def tape(clip) -> Callable[..., Path]:
    """`tape("s.mxf")`: a film with a timecode, a reel and sound, of MPEG-2, or of what `settings` say."""

    def make(name: str, **settings) -> Path:
        def setup(container, stream):
            stream.metadata["timecode"] = container.metadata["timecode"] = "10:00:00:00"
            stream.metadata["reel_name"] = container.metadata["reel_name"] = "A017"

        return clip(name, **{"codec": "mpeg2video", "size": SIZE, "setup": setup, **settings})

    return make


def numbers(path: Path) -> set[bytes]:
    return {found[1] for found in UMID.finditer(path.read_bytes())}


def packages(path: Path) -> list[str]:
    """The UMIDs of the material package and of the ones of its streams, as they are read."""
    with av.open(str(path)) as container:
        found = [container.metadata["material_package_umid"]]
        return found + [stream.metadata["file_package_umid"] for stream in container.streams]


def test_equal_films_have_equal_umids_and_others_have_others(tape, carry, frames_of, tmp_path):
    one, other = tape("one.mxf"), tape("other.mxf", options={"b": "200k"})
    names = ("a.mxf", "b.mxf", "c.mxf")
    for source, name in zip((one, one, other), names, strict=True):
        carry(source, tmp_path / name)
    first, again, third = (tmp_path / name for name in names)
    assert first.read_bytes() == again.read_bytes()
    assert len(numbers(first)) == len(numbers(third)) == 1, "all references changed together"
    assert bytes(18) not in numbers(first)
    assert numbers(first) != numbers(third)
    material, *files = packages(first)
    assert {name[:-2] for name in files} == {material[:-2]}
    assert (material[-2:], {name[-2:] for name in files}) == ("00", {"01"})
    assert len(frames_of(first)) == 10


def test_nothing_but_numbers_changes(tape, tmp_path):
    source = tape("s.mxf", setup=lambda container, _: setattr(container, "flags", container.flags | 0x0400))
    before = source.read_bytes()
    count = len(UMID.findall(before))
    mxf.number(str(source))
    after = source.read_bytes()
    assert (len(after), len(UMID.findall(after))) == (len(before), count)
    assert count > 10, "every picture is labelled with it too"
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    spans = [found.span() for found in UMID.finditer(before)]
    making = before.index(bytes.fromhex("adab44242f254dc792ff000c00000001"))
    spans.append((making, making + 16))
    assert all(any(start <= at < end for start, end in spans) for at in changed)


def test_what_is_no_mxf_is_refused(tmp_path):
    (tmp_path / "x.mxf").write_bytes(b"something else altogether")
    with pytest.raises(ValueError, match="no key of MXF"):
        mxf.number(str(tmp_path / "x.mxf"))


@pytest.mark.parametrize("ending", ["mov", "mkv", "mxf"])
def test_the_reel_comes_along_into_mxf_and_out_of_it(tape, carry, tmp_path, ending):
    setting = {"codec": "libx264"} if ending != "mxf" else {}
    source = tape(f"s.{ending}", **setting)
    report = carry(source, tmp_path / "o.mxf")
    assert not [text for text in report.warnings if "reel" in text]
    with av.open(str(tmp_path / "o.mxf")) as container:
        assert container.streams.video[0].metadata["reel_name"] == "A017"
    for name, told in (("o.mp4", False), ("o.mkv", False), ("o.ts", True)):
        report = carry(tmp_path / "o.mxf", tmp_path / name)
        assert any("reel name A017" in text for text in report.warnings) is told
        with av.open(str(tmp_path / name)) as container:
            every = [container.metadata, *(stream.metadata for stream in container.streams)]
        assert any(value == "A017" for tags in every for value in tags.values()) is not told


def test_what_only_an_mxf_file_is_told_of_itself_stays_in_it(tape, carry, tmp_path):
    source = tape("s.mxf")
    assert carry(source, tmp_path / "again.mxf").warnings == []
    assert carry(source, tmp_path / "o.mkv").warnings == []
    with av.open(str(tmp_path / "o.mkv")) as container:
        said = [*container.metadata, *(key for stream in container.streams for key in stream.metadata)]
    assert not [key for key in said if re.search("umid|uid|product|toolkit|operational|company", key, re.IGNORECASE)]


def test_a_shape_that_dnxhr_in_mxf_does_not_say_is_told(clip, carry, tmp_path):
    def setup(container, stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)

    source = clip("s.mp4", size=(256, 144), setup=setup)
    for ending, told in (("mxf", True), ("mov", False)):
        report = carry(source, tmp_path / f"o.{ending}", "media.codec=dnxhr")
        assert any("sample aspect ratio 16/15 is lost" in text for text in report.warnings) is told


def tape_with_sound(path: Path, made, channels: str) -> Path:
    noise = f"anoisesrc=d=0.2:r=48000,aformat=channel_layouts={channels}"
    made(
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=64x48:r=25:d=0.2",
        "-f",
        "lavfi",
        "-i",
        noise,
        "-c:v",
        "mpeg2video",
        "-c:a",
        "pcm_s24le",
        path,
    )
    return path


@pytest.mark.parametrize("channels", ["mono", "stereo"])
def test_sound_that_does_not_say_its_places_goes_into_mp4(tmp_path, made, carry, packets_of, channels):
    source = tape_with_sound(tmp_path / "s.mxf", made, channels)
    carry(source, tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.audio[0].codec_context.layout.name in ("1 channels", "stereo"), "one is heard from one place"
    before, after = (b"".join(data for data, _ in packets_of(path, "audio")[0]) for path in (source, tmp_path / "o.mp4"))
    assert after == before


def test_eight_channels_without_places_are_refused_by_mp4_before_the_first_frame(tmp_path, made, carry):
    source = tape_with_sound(tmp_path / "s.mxf", made, "7.1")
    with pytest.raises(MediaError, match=r"mp4 does not hold stream 1 \(audio, pcm_s24le\); use \.mkv or \.mov"):
        carry(source, tmp_path / "o.mp4")
    carry(source, tmp_path / "o.mov")


def test_ancillary_data_stay_with_their_pictures(clip, carry, facts, tmp_path):
    """SMPTE ST 436-1: captions, AFD and timecodes beside each picture, of any length."""
    source, said = (
        tmp_path / "s.mxf",
        [bytes.fromhex("00010009010400080000000800000001610104") + bytes(5 + 4 * n) for n in range(10)],
    )
    with av.open(str(clip("v.mxf", codec="mpeg2video", size=SIZE))) as film, av.open(str(source), "w") as out:
        video = out.add_stream_from_template(film.streams.video[0], opaque=True)
        data = out.add_mux_stream("smpte_436m_anc", time_base=Fraction(1, 25))
        for number, old in enumerate(packet for packet in film.demux(video=0) if packet.size):
            old.stream = video
            packet = av.Packet(said[number])
            packet.stream, packet.pts, packet.dts, packet.time_base = data, number, number, Fraction(1, 25)
            out.mux([old, packet])
    for settings, kept in (((), said), (("media.start=0.16",), said[4:])):
        carry(source, tmp_path / "o.mxf", "media.codec=prores", "media.drop=[audio]", *settings)
        found = facts(tmp_path / "o.mxf")[1]
        assert (found.codec, found.payloads) == ("smpte_436m_anc", kept)
        assert found.times == [Fraction(number, 25) for number in range(len(kept))]
        (tmp_path / "o.mxf").unlink()
    with pytest.raises(MediaError, match=r"mov does not hold stream 1 \(data, smpte_436m_anc\); use \.mxf .*--drop data"):
        carry(source, tmp_path / "o.mov", "media.codec=prores")

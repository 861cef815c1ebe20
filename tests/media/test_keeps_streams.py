"""Every other stream of the source comes along, bit for bit, or is refused by name: the whole carry, file to file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from videoclr import cli
from videoclr.errors import ConfigError, MediaError
from videoclr.media.boxes import described_in
from videoclr.media.lasting import is_clear
from videoclr.media.reader import Reader
from videoclr.media.target import advice, muxer_of
from videoclr.media.writer import Writer

SRT = """1
00:00:00,100 --> 00:00:00,400
<i>One</i> & two

2
00:00:00,500 --> 00:00:00,800
Three
four
"""
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Alignment
Style: Default,Arial,20,&H00FFFFFF,0,0,2

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.10,0:00:00.60,Default,,0,0,0,,{\\pos(10,10)}Hello
"""
FONT = bytes(range(256)) * 3
PICTURE = "testsrc2=s=64x48:r=25:d=1"
OTHER = "testsrc=s=48x32:r=25:d=1"
TONE = "sine=d=1:r=48000"
LAVFI = ("-f", "lavfi", "-i")
GENERIC = bytes.fromhex("00000020676d686400000018676d696e000000000040800080008000") + bytes(4)
"""`gmhd` of what is neither picture nor sound."""
FAST = ("-c:v", "libx264", "-preset", "ultrafast")

Made = Callable[..., None]


@pytest.fixture
def broadcast(made: Made, tmp_path: Path) -> Path:
    """A Matroska file with five sound tracks, three subtitles, a second picture, a font."""
    (tmp_path / "a.srt").write_text(SRT)
    (tmp_path / "a.ass").write_text(ASS)
    (tmp_path / "font.ttf").write_bytes(FONT)
    target = tmp_path / "s.mkv"
    sound = ("-map", "1") * 5
    codecs = ("-c:a:0", "aac", "-c:a:1", "ac3", "-c:a:2", "libopus", "-c:a:3", "pcm_s24le", "-c:a:4", "flac")
    made(
        *LAVFI, PICTURE, *LAVFI, TONE, *LAVFI, OTHER, "-i", tmp_path / "a.srt", "-i", tmp_path / "a.ass",
        "-map", "0", *sound, "-map", "2", "-map", "3", "-map", "4", "-map", "3", *FAST, *codecs,
        "-c:s:0", "srt", "-c:s:1", "ass", "-c:s:2", "srt",
        "-metadata:s:v:1", "title=Other camera", "-metadata:s:a:0", "language=eng",
        "-metadata:s:a:1", "language=fre", "-metadata:s:a:1", "title=Comments", "-disposition:a:0", "default",
        "-disposition:a:1", "comment", "-disposition:a:2", "hearing_impaired", "-metadata:s:s:0", "language=ger",
        "-disposition:s:0", "default+forced", "-metadata:s:s:1", "title=Signs",
        "-attach", tmp_path / "font.ttf", "-metadata:s:t:0", "mimetype=application/x-truetype-font", target,
    )  # fmt: skip
    return target


@pytest.fixture
def camera(made: Made, tmp_path: Path) -> Path:
    """A QuickTime file with PCM sound in two languages, a timecode track and mov_text subtitles."""
    (tmp_path / "a.srt").write_text(SRT)
    target = tmp_path / "s.mov"
    made(
        *LAVFI, "testsrc2=s=64x48:r=30000/1001:d=1", *LAVFI, TONE, "-i", tmp_path / "a.srt",
        "-map", "0", "-map", "1", "-map", "1", "-map", "2", *FAST, "-c:a", "pcm_s24le", "-c:s", "mov_text",
        "-timecode", "01:02:03;04", "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fra",
        "-metadata:s:a:1", "title=Interview", target,
    )  # fmt: skip
    return target


@pytest.fixture
def covered(made: Made, tmp_path: Path) -> Path:
    """An MP4 with a cover picture before its sound."""
    target = tmp_path / "c.mp4"
    made(
        *LAVFI, PICTURE, *LAVFI, "color=red:s=32x32:r=1:d=1", *LAVFI, TONE, "-map", "0", "-map", "1", "-map", "2",
        "-c:v:0", "libx264", "-preset", "ultrafast", "-c:v:1", "mjpeg", "-frames:v:1", "1", "-c:a", "aac",
        "-disposition:v:1", "attached_pic", "-metadata:s:a:0", "language=ger", target,
    )  # fmt: skip
    return target


def named(found, kind):
    return [one for one in found if one.type == kind]


def same(before, after):
    """Codec, bytes, times, durations, side data, disposition, language and title of a copied stream."""
    assert after.codec == before.codec
    *head, (last, time, _, kinds) = before.packets  # Matroska need not store how long the last one is
    assert after.packets[:-1] == head
    assert (after.packets[-1][:2], after.packets[-1][3]) == ((last, time), kinds)
    assert after.disposition == before.disposition
    for tag in ("language", "title"):
        assert after.tags.get(tag) == before.tags.get(tag)


def test_all_streams_of_a_matroska_file_are_copied_bit_for_bit(broadcast, carry, facts, tmp_path):
    target = tmp_path / "o.mkv"
    report = carry(broadcast, target)
    before, after = facts(broadcast), facts(target)
    assert [one.type for one in after] == [one.type for one in before]
    assert [one.codec for one in named(after, "audio")] == ["aac", "ac3", "opus", "pcm_s24le", "flac"]
    assert [one.codec for one in named(after, "subtitle")] == ["subrip", "ass", "subrip"]
    for old, new in zip(before[1:], after[1:], strict=True):
        if old.type == "attachment":
            assert (new.tags["filename"], new.tags["mimetype"]) == ("font.ttf", "application/x-truetype-font")
        else:
            assert len(old.packets) > 0
            same(old, new)
    assert report.warnings == []
    with av.open(str(target)) as out:
        assert [one.data for one in out.streams if one.type == "attachment"] == [FONT]


SHOWN = bytes.fromhex("160013 00400030 10 0000 80 00 00 01 0000000000000000 170001 00 800000".replace(" ", ""))
CLEARED = bytes.fromhex("16000b 00400030 10 0001 00 00 00 00 170001 00 800000".replace(" ", ""))
"""PGS, as Blu-rays have it: what shows an object, here without one, and what takes it away (segments PCS, WDS and END)."""


@pytest.fixture
def blu_ray(clip: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """`blu_ray({seconds: bytes}, count)`: that many pictures at 25/s beside a stream of PGS, in Matroska."""

    def make(words: dict[float, bytes], count: int = 10, length: int = 0) -> Path:
        source = tmp_path / "s.mkv"
        with av.open(str(clip("v.mkv", ticks=range(count), size=(64, 48)))) as plain, av.open(str(source), "w") as out:
            video = out.add_stream_from_template(plain.streams.video[0])
            stream = out.add_mux_stream("hdmv_pgs_subtitle", time_base=Fraction(1, 1000))
            stream.metadata["language"] = "eng"
            packets = [packet for packet in plain.demux(video=0) if packet.size]
            for packet in packets:
                packet.stream = video
            for time, data in words.items():
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(time * 1000)
                packet.duration = length
                packets.append(packet)
            for packet in packets:
                out.mux(packet)
        return source

    return make


def test_bitmap_subtitles_are_copied_bit_for_bit(blu_ray, carry, facts, tmp_path):
    source, target = blu_ray({0.04: SHOWN, 0.2: SHOWN}, length=100), tmp_path / "o.mkv"
    carry(source, target)
    old, new = facts(source)[1], facts(target)[1]
    assert (old.codec, len(old.packets)) == ("hdmv_pgs_subtitle", 2)
    same(old, new)


@pytest.mark.parametrize("ending", ["m2ts", "mts"])
def test_what_only_discs_have_is_read_again_out_of_their_transport_streams(ending, blu_ray, made, carry, facts, tmp_path):
    source, target = tmp_path / "b.m2ts", tmp_path / f"o.{ending}"
    sound = ("-c:a", "pcm_bluray", "-ar", "48000", "-f", "mpegts", "-mpegts_m2ts_mode", "1")
    made("-i", blu_ray({0.04: SHOWN, 0.2: CLEARED}), *LAVFI, TONE, "-map", "0", "-map", "1", "-c", "copy", *sound, source)
    carry(source, target)
    before, after = facts(source), facts(target)
    assert [one.codec for one in after] == ["h264", "hdmv_pgs_subtitle", "pcm_bluray"]
    assert [one.payloads for one in after[1:]] == [one.payloads for one in before[1:]]
    assert target.read_bytes()[4::192][:50] == b"G" * 50  # packets of 192 bytes, as players of discs expect them


@pytest.mark.parametrize(
    ("copies", "words"),
    [((2, 1), r"stream 1 \(video, h264\); .* \(--drop video\)"), ((1, 33), r"stream 33 \(audio, ac3\); .* \(--drop audio\)")],
)
def test_more_streams_than_those_of_discs_number_are_refused_by_name(copies, words, made, carry, tmp_path):
    source, target = tmp_path / "s.ts", tmp_path / "o.m2ts"
    maps = ("-map", "0") * copies[0] + ("-map", "1") * copies[1]
    made(*LAVFI, "testsrc2=s=64x48:r=25:d=0.2", *LAVFI, "sine=d=0.2:r=48000", *maps, *FAST, "-c:a", "ac3", source)
    with pytest.raises(MediaError, match=f"m2ts does not hold {words}"):
        carry(source, target)
    assert not target.exists()
    carry(source, target, f"media.drop=[{'video' if copies[0] > 1 else 33}]")
    with av.open(str(target)) as found:
        assert [len(found.streams.video), len(found.streams.audio)] == [1, min(copies[1], 32)]


def test_what_only_discs_have_is_refused_in_other_transport_streams(blu_ray, carry, tmp_path):
    way = r"use \.mkv or \.m2ts \(--container\), or leave it out"
    with pytest.raises(MediaError, match=rf"mpegts does not hold stream 1 \(subtitle, hdmv_pgs_subtitle\); {way}"):
        carry(blu_ray({0.04: SHOWN}), tmp_path / "o.ts")


@pytest.mark.parametrize(
    ("words", "due"),
    [
        ({0.04: SHOWN, 0.72: CLEARED}, [(SHOWN, 0), (CLEARED, 0.32)]),
        ({0.04: SHOWN, 0.1: CLEARED, 0.72: SHOWN}, [(SHOWN, 0.32)]),
        ({0.04: SHOWN, 0.4: CLEARED}, [(CLEARED, 0)]),
        ({0.04: SHOWN}, [(SHOWN, 0)]),
        ({0.04: CLEARED, 0.2: SHOWN[:22], 0.2001: SHOWN[22:]}, [(SHOWN, 0)]),
    ],
)
def test_a_bitmap_that_is_on_the_screen_where_a_part_begins_is_shown_from_there(words, due, blu_ray, carry, facts, tmp_path):
    carry(blu_ray(words, count=25), tmp_path / "o.mkv", "media.start=0.4")
    found = facts(tmp_path / "o.mkv")[1]
    assert [(data, float(time)) for data, time, *_ in found.packets] == due


def test_pages_of_dvb_show_something_or_nothing():
    page = bytes.fromhex("0f100001 0008 0a00 0000 0010 0020".replace(" ", ""))
    display = bytes.fromhex("0f140001 0005 00 004f 002f".replace(" ", ""))
    assert not is_clear("dvb_subtitle", [display + page])
    assert is_clear("dvb_subtitle", [display + bytes.fromhex("0f100001 0002 0a00".replace(" ", ""))])
    assert is_clear("dvb_subtitle", []) and is_clear("hdmv_pgs_subtitle", [])
    assert not is_clear("dvb_subtitle", [display]), "of what is shown nothing is said"


def test_a_transport_stream_of_discs_can_be_asked_for_by_name():
    assert muxer_of("-", "m2ts") == muxer_of("a.mts", None) != muxer_of("a.m2ts", "ts") == "mpegts"


@pytest.mark.parametrize("muxer", ["avi", "3gp"])
def test_containers_of_old_sound_are_advised(muxer):
    assert advice(lambda other: other in ("nut", muxer), "mp4") == f"use .nut or .{muxer}"


def test_a_list_of_files_keeps_the_fonts_of_its_first_one(broadcast, carry, facts, tmp_path):
    (tmp_path / "all.ffconcat").write_text("ffconcat version 1.0\nfile s.mkv\nfile s.mkv\n")
    carry(tmp_path / "all.ffconcat", tmp_path / "o.mkv", "media.drop=[video]")
    carry(tmp_path / "all.ffconcat", tmp_path / "p.mkv", "media.drop=[video,attachments]")
    with av.open(str(tmp_path / "o.mkv")) as out:
        fonts = [one for one in out.streams if one.type == "attachment"]
        assert [(one.name, one.mimetype, one.data) for one in fonts] == [("font.ttf", "application/x-truetype-font", FONT)]
    kinds = [one.type for one in facts(tmp_path / "p.mkv")]
    assert "attachment" not in kinds and kinds == [one.type for one in facts(tmp_path / "o.mkv")][:-1]
    font = r"stream \d+ \(attachment, font\.ttf\); use \.mkv \(--container\), or leave it out \(--drop attachments\)"
    with pytest.raises(MediaError, match=f"does not hold {font}"):
        carry(tmp_path / "all.ffconcat", tmp_path / "o.nut", "media.drop=[video,subtitles]")


def test_what_a_list_says_of_streams_is_kept_and_fonts_of_later_files_are_told(clip, carry, facts, tmp_path):
    def setup(number):
        def add(out, video):
            sound = out.streams.audio[0]
            sound.disposition = Disposition.comment | Disposition.hearing_impaired
            out.add_attachment("font.ttf", "application/x-truetype-font", FONT)
            if number:
                out.add_attachment("other.ttf", "application/x-truetype-font", FONT[::-1])

        return add

    for number in range(2):
        clip(f"{number}.mkv", audio=1, setup=setup(number))
    (tmp_path / "all.ffconcat").write_text("ffconcat version 1.0\nfile 0.mkv\nfile 1.mkv\n")
    report = carry(tmp_path / "all.ffconcat", tmp_path / "o.mkv")
    assert [one.disposition for one in facts(tmp_path / "o.mkv")][:2] == [one.disposition for one in facts(tmp_path / "0.mkv")][:2]
    told = "attachments of the list's later files are left out, which the first one does not have: other.ttf"
    assert told in report.warnings
    quiet = carry(tmp_path / "all.ffconcat", tmp_path / "p.mkv", "media.drop=[attachments]")
    assert told not in quiet.warnings


def test_all_streams_of_a_quicktime_file_are_copied_bit_for_bit(camera, carry, facts, tmp_path):
    target = tmp_path / "o.mov"
    report = carry(camera, target)
    before, after = facts(camera), facts(target)
    assert [(one.type, one.codec) for one in after] == [(one.type, one.codec) for one in before]
    for old, new in zip(before[1:], after[1:], strict=True):
        assert new.packets == old.packets
        assert new.disposition == old.disposition
        assert (new.tags.get("language"), new.tags.get("name")) == (old.tags.get("language"), old.tags.get("name"))
    assert [one.tags["language"] for one in named(after, "audio")] == ["eng", "fra"]
    assert named(after, "data")[0].tags["timecode"] == "01:02:03;04"
    assert report.warnings == []


def test_the_timecode_of_a_cut_out_is_that_of_its_first_picture(camera, carry, facts, tmp_path):
    target = tmp_path / "o.mov"
    carry(camera, target, "media.start=0.5")
    # 0.5 s is frame 15 of 29.97: the label is 15 later
    assert named(facts(target), "data")[0].tags["timecode"] == "01:02:03;19"


def test_the_reel_of_a_timecode_track_is_kept(made, carry, facts, tmp_path):
    source, target = tmp_path / "r.mov", tmp_path / "o.mov"
    made(*LAVFI, PICTURE, *FAST, "-timecode", "10:00:00:00", "-metadata:s:v", "reel_name=A017", source)
    carry(source, target)
    assert named(facts(source), "data")[0].tags["reel_name"] == "A017"
    assert named(facts(target), "data")[0].tags["reel_name"] == "A017"


def with_data(plain: Path, source: Path, codec: str, base: Fraction, contents: dict[int, bytes], duration: int) -> Path:
    """The pictures of `plain` beside a stream of data: ticks of `base` seconds -> what is due then."""
    with av.open(str(plain)) as pictures, av.open(str(source), "w") as out:
        video = out.add_stream_from_template(pictures.streams.video[0], opaque=True)
        video.metadata.update(pictures.streams.video[0].metadata)
        data = out.add_data_stream(codec)
        data.time_base = base
        out.start_encoding()
        for time, content in contents.items():
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.pts, packet.dts, packet.duration = data, base, time, time, duration
            out.mux(packet)
        for packet in pictures.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    return source


@pytest.fixture
def telemetry(clip, tmp_path: Path) -> Path:
    """An MPEG-TS file with a KLV stream."""
    key = bytes.fromhex("060e2b34020b01010e01030101000000")
    contents = {9000 * place: key + bytes([2, place, 7]) for place in range(3)}
    return with_data(clip("v.mp4", size=(64, 48)), tmp_path / "s.ts", "klv", Fraction(1, 90000), contents, 9000)


def test_data_are_copied_where_they_can_be_read_again(telemetry, carry, facts, tmp_path):
    carry(telemetry, tmp_path / "o.ts")
    (before,), (after,) = named(facts(telemetry), "data"), named(facts(tmp_path / "o.ts"), "data")
    assert (before.codec, len(before.packets)) == ("klv", 3)
    same(before, after)


@pytest.mark.parametrize("ending", ["mov", "mp4", "mkv"])
def test_data_that_could_not_be_read_again_are_refused(telemetry, carry, facts, tmp_path, ending):
    target = tmp_path / f"o.{ending}"
    with pytest.raises(MediaError, match=r"does not hold stream 1 \(data, klv\); use .*\.(nut|ts).*--drop data"):
        carry(telemetry, target)
    carry(telemetry, target, "media.drop=[data]")
    assert [one.type for one in facts(target)] == ["video"]


@pytest.fixture
def unknown(clip, tmp_path: Path) -> Path:
    """An MP4 file with data of a phone that FFmpeg has no name for."""
    contents = {time: bytes([time, 1, 2, 3]) for time in (0, 100, 200)}
    source = with_data(clip("v.mp4", size=(64, 48)), tmp_path / "s.mp4", "bin_data", Fraction(1, 1000), contents, 100)
    entry = struct.pack(">I", 20)
    assert source.read_bytes().count(entry + b"gpmd") == 1
    source.write_bytes(source.read_bytes().replace(entry + b"gpmd", entry + b"mebx"))
    return source


def called(source: Path, kind: bytes) -> Path:
    """`source` with its data under another name."""
    entry = struct.pack(">I", 20)
    source.write_bytes(source.read_bytes().replace(entry + b"gpmd", entry + kind))
    return source


@pytest.mark.parametrize("ending", ["mov", "mp4"])
def test_data_of_a_camera_that_say_the_timecode_as_well_are_more_than_it(clip, carry, facts, tmp_path, ending):
    contents = {time: bytes(13) + bytes([1, 2, 3, 0, 4, time]) for time in (0, 100, 200)}
    source = with_data(clip("v.mp4", size=(64, 48)), tmp_path / "s.mp4", "bin_data", Fraction(1, 1000), contents, 100)
    (before,) = named(facts(called(source, b"rtmd")), "data")
    assert before.tags["timecode"] == "01:02:03:04"
    report = carry(source, tmp_path / f"o.{ending}")
    after = named(facts(tmp_path / f"o.{ending}"), "data")
    assert {one.tags.get("timecode") for one in after} == {"01:02:03:04"}
    assert [one.packets for one in after if len(one.packets) > 1] == ([before.packets] if ending == "mov" else [])
    told = "stream 1 (data, unknown codec) is left out but for its timecode, since mp4 does not hold it; use .mov"
    assert report.warnings == ([told] if ending == "mp4" else [])


@pytest.mark.parametrize(("kind", "lasts"), [(b"djmd", False), (b"mebx", True)])
def test_data_that_begin_before_the_part_last_into_it_or_are_told(made, carry, facts, tmp_path, kind, lasts):
    made(*LAVFI, PICTURE, *FAST, "-timecode", "10:00:00:00", tmp_path / "v.mov")
    source = with_data(tmp_path / "v.mov", tmp_path / "s.mp4", "bin_data", Fraction(1, 1000), {0: b"upright"}, 60_000)
    report = carry(called(source, kind), tmp_path / "o.mov", "media.start=0.2")
    found = [(one.tags.get("timecode"), [packet[0] for packet in one.packets]) for one in named(facts(tmp_path / "o.mov"), "data")]
    assert [one for one in found if one[0] is None] == ([(None, [b"upright"])] if lasts else [])
    assert [label for label, _ in found if label] == ["10:00:00:05"]
    told = "stream 1 (data) is left out: nothing of it is there, and mov keeps no empty tracks; mkv does"
    assert report.warnings == ([] if lasts else [told])


@pytest.mark.parametrize("header", [b"gmhd", b"nmhd"])
def test_data_without_a_name_keep_what_the_source_says_of_them(unknown, carry, facts, tmp_path, header):
    unknown.write_bytes(unknown.read_bytes().replace(b"gmhd", header))
    said = described_in(str(unknown), 2)
    carry(unknown, tmp_path / "o.mov")
    carry(tmp_path / "o.mov", tmp_path / "again.mov")
    for name in ("o.mov", "again.mov"):
        (before,), (after,) = named(facts(unknown), "data"), named(facts(tmp_path / name), "data")
        assert after.packets == before.packets
        assert described_in(str(tmp_path / name), 2) == replace(said, header=said.header or GENERIC)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "nut"])
def test_data_without_a_name_are_refused_elsewhere(unknown, carry, facts, tmp_path, ending):
    with pytest.raises(
        MediaError, match=r"does not hold stream 1 \(data, unknown codec\); use \.mov \(--container\), .*--drop data"
    ):
        carry(unknown, tmp_path / f"o.{ending}")


def test_data_that_are_described_twice_are_refused(unknown, carry, tmp_path):
    data = unknown.read_bytes()
    at = data.index(b"mebx") + 8
    unknown.write_bytes(data[: at + 2] + b"\0\2" + data[at + 4 :])  # the samples lie in another file
    with pytest.raises(MediaError, match=r"unknown codec\); leave it out \(--drop data\)"):
        carry(unknown, tmp_path / "o.mov")
    carry(unknown, tmp_path / "o.mov", "media.drop=[data]")


def test_teletext_is_refused_by_its_name(clip, carry, tmp_path):
    source = clip("s.ts", setup=lambda out, _: out.add_mux_stream("dvb_teletext", time_base=Fraction(1, 90_000)))
    with pytest.raises(MediaError, match=r"does not hold stream 1 \(subtitle, teletext, or .*; leave it out \(--drop subtitles\)"):
        carry(source, tmp_path / "o.ts")
    carry(source, tmp_path / "o.ts", "media.drop=[subtitles]")


def test_a_pipe_carries_every_stream(broadcast, videoclr, facts, tmp_path):
    target = tmp_path / "o.mkv"
    arguments = ["--set", "restore.use=unchanged", "--set", "gate.use=none", "--preset", "ultrafast", "--quiet"]
    assert videoclr(tmp_path, "-", target, *arguments, stdin=broadcast) == (0, "")
    for old, new in zip(facts(broadcast)[1:], facts(target)[1:], strict=True):
        assert (new.type, new.codec, new.payloads, new.times) == (old.type, old.codec, old.payloads, old.times)


def test_a_timecode_is_a_tag_in_matroska(camera, carry, facts, tmp_path):
    report = carry(camera, tmp_path / "o.mkv")
    assert facts(tmp_path / "o.mkv")[0].tags["TIMECODE"] == "01:02:03;04"
    assert not any("data" in text for text in report.warnings)


@pytest.fixture
def spoken(clip, tmp_path: Path) -> Callable[[str], Path]:
    """`spoken("deu")`: a Matroska file whose sound is in that language."""

    def make(language: str) -> Path:
        with av.open(str(clip("s.mp4", audio=1, size=(64, 48)))) as file, av.open(str(tmp_path / "l.mkv"), "w") as out:
            streams = [out.add_stream_from_template(one) for one in file.streams]
            streams[1].metadata["language"] = language
            for packet in file.demux():
                if packet.size:
                    packet.stream = streams[packet.stream_index]
                    out.mux(packet)
        return tmp_path / "l.mkv"

    return make


@pytest.mark.parametrize("language", ["deu", "ger", "fra", "eng", "gsw"])
def test_every_language_survives_in_quicktime(spoken, carry, facts, tmp_path, language):
    target = tmp_path / "o.mov"
    carry(spoken(language), target)
    assert facts(target)[1].tags["language"] == language
    assert b"elng" not in target.read_bytes()


@pytest.mark.parametrize("ending", ["mp4", "mov"])
@pytest.mark.parametrize(
    ("tag", "code", "whole"), [("pt-BR", "por", b"pt-BR"), ("en", "eng", b"en"), ("zh_Hant_TW", "zho", b"zh-Hant-TW")]
)
def test_a_language_of_other_than_three_letters_gets_them(spoken, carry, facts, tmp_path, ending, tag, code, whole):
    report = carry(spoken(tag), tmp_path / f"o.{ending}")
    assert report.warnings == []
    assert facts(tmp_path / f"o.{ending}")[1].tags["language"] == code
    assert b"elng" + bytes(4) + whole + b"\0" in (tmp_path / f"o.{ending}").read_bytes()


@pytest.mark.parametrize(("ending", "words"), [("mp4", "the languages Klingonese"), ("ts", "the languages"), ("mkv", None)])
def test_what_is_no_language_is_told(spoken, carry, tmp_path, ending, words):
    report = carry(spoken("Klingonese"), tmp_path / f"o.{ending}")
    assert any(f"does not keep {words}" in text for text in report.warnings) is (words is not None)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_cover_picture_comes_along(covered, carry, facts, tmp_path, ending):
    target = tmp_path / f"o.{ending}"
    carry(covered, target)
    pictures = [[one for one in facts(path) if one.disposition & Disposition.attached_pic] for path in (covered, target)]
    assert [one.codec for one in pictures[1]] == ["mjpeg"]
    assert pictures[0][0].payloads == pictures[1][0].payloads
    (sound,) = named(facts(target), "audio")
    assert sound.payloads == named(facts(covered), "audio")[0].payloads
    assert sound.tags["language"] == "ger"


def test_a_cover_picture_that_quicktime_does_not_hold_is_refused(covered, carry, tmp_path):
    with pytest.raises(MediaError, match=r"mov does not hold stream \d \(video, mjpeg\); use \.mkv or \.mp4.*--drop covers"):
        carry(covered, tmp_path / "o.mov")
    carry(covered, tmp_path / "o.mov", "media.drop=[covers]")


def test_a_cover_picture_comes_back_out_of_matroska(covered, carry, facts, tmp_path):
    carry(covered, tmp_path / "m.mkv")
    carry(tmp_path / "m.mkv", tmp_path / "o.mp4")
    (cover,) = (one for one in facts(tmp_path / "o.mp4") if one.disposition & Disposition.attached_pic)
    assert cover.payloads == next(one for one in facts(covered) if one.disposition & Disposition.attached_pic).payloads


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_a_further_video_keeps_its_reordered_pictures(made, facts, tmp_path, ending):
    # Matroska stores no decoding times: FFmpeg has none for the first packets, the key frame among them.
    source, target = tmp_path / "s.mkv", tmp_path / f"o.{ending}"
    made(*LAVFI, PICTURE, *LAVFI, OTHER, "-map", "0", "-map", "1", "-c:v", "libx264", "-preset", "veryfast", "-bf", "3", source)
    with Reader(source, end=2) as reader, Writer(target, like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    before, after = facts(source)[1], facts(target)[1]
    assert after.times == before.times
    assert len(after.payloads) == 25 and after.payloads == before.payloads
    assert not any("left out" in text for text in writer.warnings)


@pytest.mark.parametrize("number", [0, 1])
def test_a_chosen_video_is_restored_and_the_others_are_copied(broadcast, carry, facts, tmp_path, number):
    target = tmp_path / "o.mkv"
    carry(broadcast, target, f"media.video_stream={number}", "media.codec=ffv1")
    before, after = named(facts(broadcast), "video"), named(facts(target), "video")
    assert [one.codec for one in after] == (["ffv1", "h264"], ["h264", "ffv1"])[number], "each stays in its place"
    assert len(after[number].packets) == len(before[number].packets)
    same(before[1 - number], after[1 - number])
    with av.open(str(broadcast)) as a, av.open(str(target)) as b:
        old, new = next(a.decode(a.streams.video[number])), next(b.decode(video=number))
        assert (new.width, new.height) == (old.width, old.height) == ((64, 48), (48, 32))[number]
        assert bytes(new.planes[0]) == bytes(old.planes[0])


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov", "mxf"])
def test_streams_keep_their_order(made, carry, facts, tmp_path, ending):
    source, target = tmp_path / "s.mov", tmp_path / f"o.{ending}"
    order = ("-map", "1", "-map", "0", "-map", "1")
    made(*LAVFI, PICTURE, *LAVFI, TONE, *order, *FAST, "-c:a", "pcm_s16le", "-metadata:s:a:1", "language=fra", source)
    carry(source, target)
    before, after = facts(source), facts(target)
    assert [one.type for one in before] == ["audio", "video", "audio"]
    expected = [before[1], before[0], before[2]] if ending == "mxf" else before  # MXF begins with the video
    assert [one.type for one in after[:3]] == [one.type for one in expected]
    assert b"".join(after[2].payloads) == b"".join(before[2].payloads)
    if ending != "mxf":
        assert after[2].tags["language"] == "fra"


def test_a_video_that_is_not_there_is_told(broadcast, carry, tmp_path):
    with pytest.raises(ConfigError, match=r"video_stream.*has 2 video.*no 2"):
        carry(broadcast, tmp_path / "o.mkv", "media.video_stream=2")


@pytest.mark.parametrize(
    ("ending", "drop", "words"),
    [
        ("mp4", "subtitles,attachments", None),
        ("mp4", "subtitles", r"mp4 does not hold stream \d+ \(attachment, font.ttf\); use \.mkv.*--drop attachments"),
        ("mp4", "attachments", r"mp4 does not hold stream 8 \(subtitle, ass\); use \.mkv.*--drop subtitles"),
        ("mp4", "attachments,8", None),
        ("mov", "attachments,subtitles", r"mov does not hold stream 3 \(audio, opus\); use \.mkv.*--drop audio"),
        ("mov", "attachments,subtitles,3,5", None),
        ("nut", "attachments,subtitles,video", None),
    ],
)
def test_what_the_target_cannot_hold_is_named_with_the_way_out(broadcast, carry, facts, tmp_path, ending, drop, words):
    target = tmp_path / f"o.{ending}"
    if words is None:
        carry(broadcast, target, f"media.drop=[{drop}]")
        left_out = {word for word in drop.split(",") if word.isdigit()}
        sounds = [one for one in named(facts(broadcast), "audio") if str(one.index) not in left_out]
        assert [one.payloads for one in named(facts(target), "audio")] == [one.payloads for one in sounds]
        return
    with pytest.raises(MediaError, match=words) as caught:
        carry(broadcast, target, f"media.drop=[{drop}]")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("o.*"))


def test_the_way_out_that_an_error_names_works_on_the_command_line(camera, facts, tmp_path, capsys):
    target = tmp_path / "o.ts"
    settings = ["--set", "restore.use=unchanged", "--set", "gate.use=none", "--preset", "ultrafast", "--quiet"]
    drops = []
    for _ in range(4):
        code = cli.main([str(camera), str(target), *settings, *drops])
        said = capsys.readouterr().err
        if code == 0:
            break
        assert "--drop " in said
        drops += ["--drop", said.rpartition("--drop ")[2].rstrip(")\n")]
    assert code == 0
    assert drops
    assert next(one.type for one in facts(target)) == "video"


@pytest.mark.parametrize("word", ["sound", "99", "0"])
def test_a_wrong_drop_is_a_setting_error(broadcast, carry, tmp_path, word):
    with pytest.raises(ConfigError, match=r"\$\.media\.drop"):
        carry(broadcast, tmp_path / "o.mkv", f"media.drop=['{word}']")


@pytest.mark.parametrize(("source_name", "ending", "codec"), [("camera", "mkv", "subrip"), ("titled", "mp4", "mov_text")])
def test_text_subtitles_are_rewrapped_where_the_target_needs_it(request, carry, facts, tmp_path, source_name, ending, codec):
    source, target = request.getfixturevalue(source_name), tmp_path / f"o.{ending}"
    report = carry(source, target)
    (words,) = named(facts(target), "subtitle")
    assert words.codec == codec
    assert [text for text in report.warnings if f"is converted to {codec}" in text]
    spoken = [(data, time, length) for data, time, length, _ in words.packets if len(data) > 2]
    assert [time for _, time, _ in spoken] == [Fraction(1, 10), Fraction(1, 2)]
    assert [length for _, _, length in spoken] == [Fraction(3, 10)] * 2
    if codec == "subrip":
        assert [data for data, _, _ in spoken] == [b"<i>One</i> & two", b"Three\nfour"]
    else:
        assert [data[2 : 2 + int.from_bytes(data[:2])] for data, _, _ in spoken] == [b"One & two", b"Three\nfour"]
        assert b"styl" in spoken[0][0], "it stays italic"


@pytest.fixture
def titled(made: Made, tmp_path: Path) -> Path:
    """A Matroska file with SubRip subtitles."""
    (tmp_path / "a.srt").write_text(SRT)
    made(*LAVFI, PICTURE, "-i", tmp_path / "a.srt", *FAST, "-c:s", "srt", tmp_path / "t.mkv")
    return tmp_path / "t.mkv"


def test_subtitles_that_change_their_wrapping_twice_are_the_same(titled, carry, facts, tmp_path):
    carry(titled, tmp_path / "m.mp4")
    carry(tmp_path / "m.mp4", tmp_path / "o.mkv")
    (before,), (after,) = named(facts(titled), "subtitle"), named(facts(tmp_path / "o.mkv"), "subtitle")
    assert (after.payloads, after.times) == (before.payloads, before.times)


def test_subtitles_that_are_shown_together_become_one_text_of_mp4(carry, facts, tmp_path):
    said = [(100, b"Sign"), (300, b"Upper"), (300, b"Lower"), (800, b"Last")]
    worded(tmp_path / "s.mkv", "subrip", said, 400)
    carry(tmp_path / "s.mkv", tmp_path / "o.mp4")
    (words,) = named(facts(tmp_path / "o.mp4"), "subtitle")
    shown = [(data[2:], time, length) for data, time, length, _ in words.packets if len(data) > 2]
    tenth = Fraction(1, 10)
    assert shown == [
        (b"Sign", tenth, 2 * tenth),
        (b"Sign\nUpper\nLower", 3 * tenth, 2 * tenth),
        (b"Upper\nLower", 5 * tenth, 2 * tenth),
        (b"Last", 8 * tenth, 4 * tenth),
    ]


@pytest.mark.parametrize("ending", ["ts", "mkv"])
def test_packets_that_a_tick_of_the_source_is_too_long_for_all_stay(made, carry, facts, tmp_path, ending):
    sound = ("-f", "lavfi", "-i", "sine=d=0.2:r=48000", "-c:a", "truehd", "-strict", "-2")  # 1200 packets a second
    made(*LAVFI, PICTURE, *sound, *FAST, tmp_path / "s.mkv")
    report = carry(tmp_path / "s.mkv", tmp_path / f"o.{ending}")
    (before,), (after,) = named(facts(tmp_path / "s.mkv"), "audio"), named(facts(tmp_path / f"o.{ending}"), "audio")
    assert b"".join(after.payloads) == b"".join(before.payloads)  # the demuxer of MPEG-TS parts some of them
    assert not any("refuses" in text for text in report.warnings)


def test_texts_of_windows_are_read_in_mp4_and_told(carry, facts, tmp_path):
    worded(tmp_path / "s.mkv", "subrip", {100: "d\u2019été".encode("cp1252"), 500: b"plain"}, 300)
    report = carry(tmp_path / "s.mkv", tmp_path / "o.mp4")
    (words,) = named(facts(tmp_path / "o.mp4"), "subtitle")
    assert [data[2:].decode() for data, *_ in words.packets if len(data) > 2] == ["d\u2019été", "plain"]
    assert len([text for text in report.warnings if "Windows-1252" in text]) == 1


def worded(path: Path, codec: str, words: dict[int, bytes] | list[tuple[int, bytes]], lasting: int) -> Path:
    """A film of a second with subtitles: ms -> what a packet holds, each `lasting` so many ms."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        said = out.add_mux_stream(codec, time_base=Fraction(1, 1000))
        for start, data in words.items() if isinstance(words, dict) else words:
            packet = av.Packet(data)
            packet.stream, packet.time_base = said, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = lasting
            out.mux(packet)
        for _ in range(25):
            out.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        out.mux(video.encode(None))
    return path


def test_texts_that_overlap_begin_when_they_did(carry, facts, tmp_path):
    source, target = tmp_path / "s.mkv", tmp_path / "o.mp4"
    carry(worded(source, "subrip", {start: f"from {start}".encode() for start in (0, 200, 400, 600)}, 300), target)
    (shown,) = named(facts(target), "subtitle")
    first = {data.splitlines()[-1][-3:]: float(time) for data, time, _, _ in reversed(shown.packets) if len(data) > 2}
    assert first == {b"m 0": 0, b"200": 0.2, b"400": 0.4, b"600": 0.6}


def test_a_bitmap_whose_end_nobody_says_lasts_until_the_next(carry, facts, tmp_path):
    source, target = tmp_path / "s.mkv", tmp_path / "o.mp4"
    carry(worded(source, "dvd_subtitle", dict.fromkeys((0, 400), b"words"), 2**32 - 1), target)
    (shown,) = named(facts(target), "subtitle")
    assert [(float(time), float(long)) for data, time, long, _ in shown.packets if b"words" in data] == [(0, 0.4), (0.4, 5)]


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_an_empty_track_is_told_and_the_others_keep_what_they_say(made, carry, facts, tmp_path, ending):
    full, source, target = tmp_path / "f.mkv", tmp_path / "s.mkv", tmp_path / f"o.{ending}"
    made(*LAVFI, PICTURE, *LAVFI, TONE, "-map", 1, "-map", 0, "-map", 1, *FAST, "-c:a", "aac", full)
    with av.open(str(full)) as plain, av.open(str(source), "w") as out:
        streams = [out.add_stream_from_template(one) for one in plain.streams]
        for stream, language in zip(streams, ("fra", "deu", "ita"), strict=True):
            stream.metadata["language"] = language
        for packet in plain.demux():
            if packet.size and packet.stream.index:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    report = carry(source, target)
    assert report.warnings == [
        f"stream 0 (audio) is left out: nothing of it is there, and {ending} keeps no empty tracks; mkv does"
    ]
    assert [(one.type, one.tags["language"]) for one in facts(target)] == [("video", "deu"), ("audio", "ita")]


def test_a_described_film_stays_one_in_matroska(clip, carry, facts, tmp_path):
    def described(out, _):
        out.streams.audio[0].disposition = Disposition.visual_impaired

    source = clip("s.mp4", audio=1, setup=described)
    report = carry(source, tmp_path / "o.mkv")
    (before,), (after,) = (named(facts(path), "audio") for path in (source, tmp_path / "o.mkv"))
    assert before.disposition & Disposition.descriptions
    assert after.disposition & Disposition.visual_impaired and report.warnings == []

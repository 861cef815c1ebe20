"""Inputs from somebody who means harm: they reach nothing but themselves, and are refused before they cost memory."""

from __future__ import annotations

import ast
import json
import os
import resource
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videoclr.cli import main
from videoclr.config import Config, Limits
from videoclr.errors import ConfigError, DecodeError, MediaError
from videoclr.media import opening
from videoclr.media.opening import Opening, demuxers
from videoclr.media.reader import Reader
from videoclr.media.source import demuxed


def restored(source, target, *options):
    """Exit code of a run that restores nothing."""
    return main([str(source), str(target), "--set", "restore.use=unchanged", "--set", "detect.every=25", "-q", *map(str, options)])


@pytest.fixture
def segment(clip):
    return clip("secret.ts", container="mpegts")


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\n{}\n#EXT-X-ENDLIST\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("list.m3u8", HLS.format("secret.ts"), "is an HLS playlist, which opens other files"),
        ("film.mp4", HLS.format("secret.ts"), "is an HLS playlist, which opens other files"),
        ("film.mkv", "ffconcat version 1.0\nfile secret.ts\n", "list"),
        ("film.sdp", SDP, "network streams"),
    ],
)
def test_a_playlist_opens_no_other_file(tmp_path, segment, capsys, name, text, says):
    path = tmp_path / name
    path.write_text(text)
    assert restored(path, tmp_path / "out.mkv") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "secret.ts"])


def test_a_playlist_that_is_trusted_opens_its_files(tmp_path, segment):
    path = tmp_path / "list.m3u8"
    path.write_text(HLS.format("secret.ts"))
    assert restored(path, tmp_path / "out.mkv", "--set", "media.input.playlists=true") == 0
    with Reader(tmp_path / "out.mkv") as reader:
        assert len(list(reader.frames())) == 10


def test_a_trusted_playlist_still_reaches_no_network_unless_told_so(tmp_path, segment, site):
    site.files["/secret.ts"] = segment.read_bytes()
    path = tmp_path / "list.m3u8"
    path.write_text(HLS.format(f"{site.address}/secret.ts"))
    with pytest.raises(MediaError):
        Reader(path, opening=Opening(playlists=True))
    assert site.asked == []
    with Reader(path, opening=Opening(playlists=True, protocols=("http", "tcp"))) as reader:
        assert len(list(reader.frames())) == 10
    assert site.asked


@pytest.mark.parametrize(
    "way", ["subfile,,start,0,end,0,,:{}", "concat:{}|{}", "file:{}", "crypto:{}", "data:video/mp4;base64,AAAA"]
)
def test_a_name_is_a_name_and_no_protocol(tmp_path, clip, monkeypatch, capsys, way):
    source = clip("a.mp4")
    monkeypatch.chdir(tmp_path)
    assert restored(way.format(source.name, source.name), "out.mkv") == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(("address", "code"), [("gopher://127.0.0.1/x", 2), ("subfile://a.mp4", 2)])
def test_addresses_of_odd_kinds_are_refused(capsys, address, code, tmp_path):
    assert restored(address, tmp_path / "out.mkv") == code
    assert "$.media.input.protocols" in capsys.readouterr().err


def test_an_address_that_a_person_names_is_read_but_a_playlist_behind_it_is_not(clip, site):
    site.files["/a.mp4"] = clip("a.mp4").read_bytes()
    site.files["/p.m3u8"] = HLS.format("/a.mp4").encode()
    with Reader(f"{site.address}/a.mp4") as reader:
        assert len(list(reader.frames())) == 10
    with pytest.raises(MediaError):
        Reader(f"{site.address}/p.m3u8")


def test_an_address_does_not_lead_to_a_local_file(tmp_path, clip, site, monkeypatch):
    """A server that answers with a redirect to `file:`."""
    local = clip("a.mp4")
    monkeypatch.setattr(site, "answer", lambda path, wanted: (302, {"Location": f"file://{local}", "Content-Length": "0"}, b""))
    with pytest.raises(MediaError):
        Reader(f"{site.address}/x.mp4")


def test_no_demuxer_that_reads_other_files_listens_or_is_a_device_is_allowed():
    allowed = demuxers(False)
    assert {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "nut", "yuv4mpegpipe", "rawvideo", "png_pipe"} <= allowed
    assert not allowed & {"hls", "concat", "dash", "lavfi", "rtsp", "sdp", "rtp", "x11grab", "alsa", "fbdev", "vobsub"}
    assert {"hls", "concat"} & demuxers(True)
    assert not demuxers(True) & {"lavfi", "x11grab", "sdp", "rtsp"}


def test_a_file_called_like_a_pattern_is_that_file(tmp_path, clip, pattern):
    """FFmpeg would show `a1.png` for a file called `a%d.png`."""
    mine, other = clip("mine.gif", codec="gif", pix_fmt="rgb8", ticks=[0]), tmp_path / "a1.gif"
    other.write_bytes(clip("other.gif", codec="gif", pix_fmt="rgb8", ticks=[0], size=(32, 32)).read_bytes())
    named = mine.rename(tmp_path / "a%d.gif")
    with Reader(named) as reader:
        assert (reader.info.width, reader.info.height) == (96, 64)


# -- how much ----------------------------------------------------------------------------------------------------


def png(width, height):
    """A PNG file of a few bytes that claims a size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * 1000)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 13_000), (100_000, 100_000)])
def test_a_picture_of_absurd_size_is_refused_before_memory_is_taken(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(*size))
    code = (
        "import resource, sys\nfrom videoclr.media.reader import Reader\nfrom videoclr.errors import VideoclrError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: Reader(sys.argv[1])\n"
        "except VideoclrError as error: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    grown, _, error = done.stdout.partition(" ")
    assert int(grown) < 100_000, "kB"
    assert str(path) in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [
        ({}, {"pixels": 96 * 64 - 1}, "its pictures claim to be 96x64, more than media.limits.pixels=6143"),
        ({"audio": 3}, {"streams": 3}, "has 4 streams, more than media.limits.streams=3"),
        ({"audio": 3}, {"streams": 2}, "streams=2"),
        ({}, {"rate": 24.9}, "claims 25 frames a second, more than media.limits.rate=24.9"),
        ({}, {"seconds": 0.3}, "claims to last 0.4 s, more than media.limits.seconds=0.3"),
        ({}, {"frames": 9}, "more pictures than media.limits.frames=9"),
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_each_limit_refuses_what_is_above_it_and_lets_pass_what_is_not(tmp_path, clip, capsys, settings, options, says, ending):
    source = clip(f"a.{ending}", **settings)
    given = [part for name, value in options.items() for part in ("--set", f"media.limits.{name}={value}")]
    assert restored(source, tmp_path / "out.mkv", *given) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
    exactly = [part for name, value in options.items() for part in ("--set", f"media.limits.{name}={value + 2}")]
    assert restored(source, tmp_path / "out.mkv", *exactly) == 0


@pytest.mark.parametrize("name", ["a.png", "a.nut"])
def test_the_limit_that_a_decoder_keeps_by_itself_is_named(tmp_path, clip, capsys, name):
    if name == "a.png":
        (tmp_path / name).write_bytes(png(600, 400))
    else:
        clip(name, codec="ffv1", ticks=range(1), size=(600, 400))
    assert restored(tmp_path / name, tmp_path / "out.mkv", "--set", "media.limits.pixels=9") == 1
    error = capsys.readouterr().err
    assert "above media.limits.pixels=9;" in error and error.count("\n") == 1


def test_the_largest_limits_are_none(tmp_path, clip):
    most = {"pixels": 2**31 - 1, "streams": 2**31 - 2, "frames": 2**53, "rate": ".inf", "seconds": ".inf"}
    given = [part for name, value in most.items() for part in ("--set", f"media.limits.{name}={value}")]
    assert restored(clip("a.mp4"), tmp_path / "out.mkv", *given) == 0


def test_a_sequence_counts_against_the_limit_before_it_is_read(tmp_path, clip):
    for number in range(4):
        (tmp_path / f"f{number}.png").write_bytes(png(8, 8))
    with pytest.raises(MediaError, match=r"has 4 pictures, more than media\.limits\.frames=3"):
        Reader(tmp_path / "f%d.png", opening=Opening(limits=opening.Limits(frames=3)))


def test_a_size_that_grows_inside_the_stream_is_refused_by_the_decoder_too(tmp_path, clip):
    small = clip("s.nut", codec="mjpeg", pix_fmt="yuvj420p", container="nut")
    with av.open(str(small)) as first:
        packets = [bytes(packet) for packet in first.demux(video=0) if packet.size]
    big = np.zeros((512, 512, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(big, "rgb24").reformat(format="yuvj420p")
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width = encoder.height = 512
    encoder.pix_fmt, encoder.time_base, encoder.color_range = "yuvj420p", Fraction(1, 25), 2
    packets[5] = bytes(encoder.encode(frame)[0])
    path = tmp_path / "grows.mjpeg"
    path.write_bytes(b"".join(packets))
    with Reader(path, opening=Opening(limits=opening.Limits(pixels=96 * 64))) as reader:
        assert [frame.image.shape for frame in reader.frames()] == [(64, 96, 3)] * 10
    assert any("damaged" in text for text in reader.warnings)
    with Reader(path) as reader, pytest.raises(DecodeError, match="96x64 to 512x512"):
        list(reader.frames())


def test_the_limits_of_the_settings_are_those_of_the_reader():
    assert Limits().model_dump() == {name: getattr(opening.Limits(), name) for name in Limits.model_fields}


# -- settings ----------------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]\n" for before, here in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LAUGHS, "aliases stand for more than"),
        ("restore: {options: &a {x: *a}}", "an alias names what it is itself a part of"),
        ("restore: " + "[" * 1100, "deep in each other"),
        ("restore: {steps: !!python/object/apply:os.system ['true']}", "could not determine a constructor"),
        ("x: " + "y" * (1 << 20), "more than the"),
        ("restore: {steps: !!int x}", "not a YAML file"),
    ],
)
def test_settings_are_plain_values_and_not_many(tmp_path, text, says):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        Config.load(path)
    assert len(str(caught.value)) < 1000


def test_an_alias_in_its_place_is_welcome(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("restore: {options: {one: &n [1, 2], two: *n}}")
    assert Config.load(path).restore.options == {"one": [1, 2], "two": [1, 2]}


@pytest.mark.parametrize("text", ["restore.steps=!!python/name:os.system", "restore.options=" + "[" * 1100])
def test_overrides_are_plain_values_too(text):
    with pytest.raises(ConfigError):
        Config().override(text)


# -- names -------------------------------------------------------------------------------------------------------

NAMES = ["two\nlines.mp4", "it's \"quoted\".mp4", "-y.mp4", "--help.mp4", "späße 影片 🎬.mp4", " .mp4", "a;b|c&d$(e)`f`.mp4",
         "\x1b[31mred.mp4", "a%20b.mp4", "100%d.mp4", "[bold]x[red].mp4", "a:b,c.mp4", "\\n.mp4"]  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.slow] if n % 3 else []) for n, one in enumerate(NAMES)])
def test_a_file_may_be_called_anything(tmp_path, clip, name, monkeypatch, capsys):
    clip("plain.mp4", audio=1).rename(tmp_path / name)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    arguments = ["--report", "r.json", "--set", "restore.use=unchanged", "--", name, f"out/{name}"]
    assert main(["restore", *arguments]) == 0
    assert os.listdir("out") == [name]
    told = json.loads((tmp_path / "r.json").read_text())
    assert (told["source"], told["target"], told["frames_out"]) == (name, f"out/{name}", 10)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "\x1b" not in error


def test_a_name_that_is_no_text_is_kept_byte_by_byte(tmp_path, clip, capsys):
    name = os.fsdecode(b"caf\xe9.mp4")
    clip("plain.mp4").rename(tmp_path / name)
    assert restored(tmp_path / name, tmp_path / os.fsdecode(b"o\xff.mp4"), "--report", tmp_path / "r.json") == 0
    assert b"o\xff.mp4" in os.listdir(os.fsencode(tmp_path))
    assert json.loads((tmp_path / "r.json").read_text())["source"] == str(tmp_path / name)
    assert restored(tmp_path / os.fsdecode(b"gone\xff.mp4"), tmp_path / "x.mp4") == 1
    assert "\\udcff.mp4: no such file" in capsys.readouterr().err


def test_tags_of_a_film_cannot_speak_to_the_terminal_or_break_the_report(tmp_path, clip, capsys):
    def tagged(container, stream):
        container.metadata["title"] = '</script><img src=x onerror=alert(1)>\x1b]0;owned\x07\n"'

    source = clip("a.mkv", setup=tagged)
    assert (
        main([str(source), str(tmp_path / "o.mkv"), "--set", "restore.use=unchanged", "--report", str(tmp_path / "r.json"), "-v"])
        == 0
    )
    error = capsys.readouterr().err
    assert "\x1b" not in error and "\x07" not in error
    json.loads((tmp_path / "r.json").read_text())


def test_a_batch_writes_into_its_folder_whatever_the_inputs_are_called(tmp_path, clip):
    (tmp_path / "deep/er").mkdir(parents=True)
    source = clip("x.mp4")
    arguments = [str(tmp_path / "deep/er/../../x.mp4"), "--to", str(tmp_path / "out"), "--set", "restore.use=unchanged", "-q"]
    assert main(["batch", *arguments]) == 0
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mp4")] == ["x.mp4", "out/x.mp4"]
    assert source.exists()


def test_the_reader_itself_needs_little_memory(tmp_path, clip):
    """A film that says nothing odd passes under a tight limit of address space: no check is bought with memory."""
    source = clip("a.mp4")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Reader(source) as reader:
        assert len(list(reader.frames())) == 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


# -- what the code itself must not do ----------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted([*ROOT.glob("videoclr/**/*.py"), *ROOT.glob("pipelines/*.py")])
FORBIDDEN = {
    "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "eval", "exec",
    "tar.extractall", "tar.extract", "zip.extractall", "shutil.unpack_archive", "marshal.loads", "joblib.load",
}  # fmt: skip


def calls(text):
    """Name and call of every call in a Python text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def dangerous(text):
    for name, call in calls(text):
        given = {one.arg: ast.unparse(one.value) for one in call.keywords}
        if name in FORBIDDEN or given.get("shell") == "True":
            yield name
        if name == "torch.load" and given.get("weights_only") != "True":
            yield name
        if name.endswith((".extractall", ".extract")) and "tar" in name:
            yield name


def test_no_data_is_ever_run_as_code():
    found = {str(path.relative_to(ROOT)): names for path in CODE if (names := list(dangerous(path.read_text(encoding="utf-8"))))}
    assert len(CODE) > 80
    assert found == {}


@pytest.mark.parametrize("text", ["torch.load(p)", "eval(x)", "subprocess.run(c, shell=True)", "tar.extractall()", "yaml.load(t)"])
def test_the_search_finds_what_it_looks_for(text):
    assert list(dangerous(text))
    assert not list(dangerous("torch.load(p, weights_only=True); yaml.safe_load(t); subprocess.run(c)"))


def test_a_stream_that_turns_up_late_is_left_out(clip):
    """PyAV fails at its first packet; reading goes on behind it."""
    with av.open(str(clip("a.mp4"))) as film:
        calls = []

        class Container:
            streams, format, file = film.streams, film.format, film.file

            @staticmethod
            def demux(*streams):
                calls.append(streams)
                for number, packet in enumerate(film.demux(*streams)):
                    yield packet
                    if len(calls) == 1 and number == 2:
                        raise IndexError("list index out of range")

        told = []
        packets = list(demuxed(Container(), [film.streams.video[0]], told.append))
    assert len(packets) == 10 and len(calls) == 2
    assert [str(error) for error in told] == ["a stream that begins late is left out"]

"""Between two programs: formats in and out, raw pictures, and an end that leaves early. As processes, as people run it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videoclr.cli import main
from videoclr.errors import ConfigError, MediaError
from videoclr.media.opening import Opening
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Frame

VIDEOCLR = [sys.executable, "-m", "videoclr"]
PLAIN = ["--set", "restore.use=unchanged", "--set", "detect.every=25"]
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def planes(path, form=None):
    """Every decoded picture's planes as bytes, and its time."""
    with av.open(str(path), format=form) as container:
        return [(frame.to_ndarray().tobytes(), frame.time) for frame in container.decode(video=0)]


@pytest.fixture
def piped(videoclr, tmp_path):
    """`piped(data, *options)` is what `videoclr - - OPTIONS` makes of `data`."""

    def run(data, *options):
        coming, going = tmp_path / "stdin", tmp_path / "stdout"
        coming.write_bytes(data)
        going.unlink(missing_ok=True)
        code, error = videoclr(tmp_path, "-", "-", *PLAIN, *options, stdin=coming, stdout=going)
        assert code == 0, error
        return going.read_bytes()

    return run


def yuv(count=4, size=(96, 64)):
    """Raw 4:2:0 pictures that differ."""
    return np.random.default_rng(0).integers(16, 235, (count, size[0] * size[1] * 3 // 2), np.uint8)


@pytest.mark.parametrize(
    ("coming", "codec", "going", "form"),
    [
        ("nut", "ffv1", "nut", "nut"),
        ("matroska", "ffv1", "mkv", "matroska,webm"),
        ("mpegts", "libx264", "ts", "mpegts"),
    ],
)
def test_containers_pass_through_standard_input_and_output(clip, piped, tmp_path, packets_of, coming, codec, going, form):
    source = clip(f"in.{going}", container=coming, codec=codec, audio=1)
    lossless = [] if going == "ts" else ["--codec", "ffv1"]
    target = tmp_path / "out"
    target.write_bytes(piped(source.read_bytes(), "--container", going, *lossless))
    with av.open(str(target)) as container:
        assert container.format.name == form
        assert [stream.type for stream in container.streams] == ["video", "audio"]
    before, after = planes(source), planes(target)
    assert len(after) == len(before) == 10
    assert [time - after[0][1] for _, time in after] == pytest.approx([time - before[0][1] for _, time in before], abs=1e-9)
    if lossless:
        assert [data for data, _ in after] == [data for data, _ in before]
    assert [data for data, _ in packets_of(target, "audio")[0]] == [data for data, _ in packets_of(source, "audio")[0]]


@pytest.mark.parametrize("depth", [8, 10])
def test_y4m_passes_in_and_out_with_its_rate_and_every_bit(piped, tmp_path, depth):
    form, dtype = ("yuv422p", np.uint8) if depth == 8 else ("yuv422p10le", np.uint16)
    data = np.random.default_rng(1).integers(64, 900 if depth == 10 else 235, (5, 96 * 64 * 2), dtype)
    tag = b" C422p10 XYSCSS=422P10" if depth == 10 else b" C422"
    stream = b"YUV4MPEG2 W96 H64 F30000:1001 Ip A1:1" + tag + b"\n" + b"".join(b"FRAME\n" + one.tobytes() for one in data)
    out = piped(stream, "--container", "y4m")
    header, _, rest = out.partition(b"\n")
    assert b"W96 H64 F30000:1001 Ip" in header and tag.split()[0] in header
    assert rest == b"".join(b"FRAME\n" + one.tobytes() for one in data)
    path = tmp_path / "a.y4m"
    path.write_bytes(out)
    with Reader(path) as reader:
        assert (reader.info.pixel_format, reader.info.frame_rate) == (form, Fraction(30000, 1001))


def test_raw_pictures_pass_in_and_out_bit_for_bit(piped, tmp_path):
    raw = yuv()
    described = ["--input-format", "rawvideo", "--video-size", "96x64", "--input-pix-fmt", "yuv420p", "--rate", "30000/1001"]
    assert piped(raw.tobytes(), *described, "--container", "rawvideo") == raw.tobytes()
    nut = tmp_path / "out.nut"
    nut.write_bytes(piped(raw.tobytes(), *described, "--codec", "rawvideo"))
    found = planes(nut)
    assert [data for data, _ in found] == [one.tobytes() for one in raw]
    with Reader(nut) as reader:
        assert [frame.time for frame in reader.frames()] == [Fraction(index * 1001, 30000) for index in range(4)]


@pytest.mark.parametrize("rate", [None, "10"])
def test_a_stream_of_pictures_is_a_film(piped, tmp_path, pattern, rate):
    pictures = []
    for index in range(3):
        encoder = av.CodecContext.create("png", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 96, 64, "rgb24", Fraction(1, 25)
        pictures.append(bytes(encoder.encode(av.VideoFrame.from_ndarray(pattern(index), "rgb24"))[0]))
    target = tmp_path / "out.nut"
    target.write_bytes(piped(b"".join(pictures), "--codec", "ffv1", *([] if rate is None else ["--rate", rate])))
    with Reader(target) as reader:
        frames = list(reader.frames())
    assert [frame.time for frame in frames] == [Fraction(index, int(rate or 25)) for index in range(3)]
    assert all(np.array_equal(frame.image, pattern(index)) for index, frame in enumerate(frames))


def test_it_works_between_two_ffmpeg_processes(videoclr, ffmpeg, tmp_path):
    making = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4", "-f", "lavfi", "-i", "sine=d=0.4"]
    making += ["-c:v", "ffv1", "-c:a", "pcm_s16le", "-f", "nut", "-"]
    taking = [ffmpeg, "-v", "error", "-f", "nut", "-i", "-", "-c", "copy", str(tmp_path / "out.mkv")]
    for name in ("coming", "going"):
        os.mkfifo(tmp_path / name)
    videoclr.start(tmp_path, "-", "-", *PLAIN, "--codec", "ffv1", stdin=tmp_path / "coming", stdout=tmp_path / "going")
    with (tmp_path / "coming").open("wb") as coming, subprocess.Popen(making, stdout=coming) as first:
        coming.close()
        with (tmp_path / "going").open("rb") as going, subprocess.Popen(taking, stdin=going) as last:
            going.close()
            assert [process.wait(120) for process in (first, last)] == [0, 0]
    assert videoclr.wait(tmp_path)[0] == 0
    direct = tmp_path / "direct.nut"
    subprocess.run([*making[:-1], str(direct)], check=True)
    assert [data for data, _ in planes(tmp_path / "out.mkv")] == [data for data, _ in planes(direct)]
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.codec_context.codec.canonical_name for stream in container.streams] == ["ffv1", "pcm_s16le"]


@pytest.mark.slow
def test_a_process_whose_reader_leaves_is_met_with_silence(clip):
    source = clip("in.nut", container="nut", codec="ffv1", ticks=range(60))
    command = [*VIDEOCLR, str(source), "-", *PLAIN, "--codec", "ffv1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) in (1, 141)


@pytest.mark.parametrize("container", ["mkv", *(pytest.param(one, marks=pytest.mark.slow) for one in ("ts", "y4m")), "rawvideo"])
def test_an_end_that_leaves_early_is_met_with_silence(videoclr, tmp_path, clip, container):
    source = clip("in.nut", container="nut", codec="ffv1", ticks=range(60))
    codec = ["--codec", "ffv1"] if container == "mkv" else []
    os.mkfifo(tmp_path / "pipe")
    videoclr.start(tmp_path, source, "-", *PLAIN, "--container", container, *codec, stdout=tmp_path / "pipe")
    with (tmp_path / "pipe").open("rb", buffering=0) as pipe:
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # so that no small film fits into it before this end leaves
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        pipe.read(10)
    code, error = videoclr.wait(tmp_path)
    assert (code in (1, 141), error) == (True, "")


def test_a_beginning_that_breaks_off_gives_what_came(piped, tmp_path, clip):
    """Standard input ends in the middle of a packet."""
    data = clip("in.nut", container="nut", codec="ffv1", ticks=range(40)).read_bytes()
    target = tmp_path / "out.nut"
    target.write_bytes(piped(data[: len(data) // 2], "--codec", "ffv1"))
    assert 10 < len(planes(target)) < 30


@pytest.mark.parametrize("missing", [100, 9216 + 3])
def test_y4m_that_breaks_off_within_a_picture_is_told(videoclr, tmp_path, missing):
    source = tmp_path / "in.y4m"
    source.write_bytes((b"YUV4MPEG2 W96 H64 F25:1 C420jpeg\n" + b"".join(b"FRAME\n" + bytes(one) for one in yuv(4)))[:-missing])
    whole = 3
    told = f"truncated: it breaks off within the picture at {whole / 25:.3f} s, which is left out"
    with Reader(source) as reader:
        assert (len(list(reader.frames())), reader.warnings) == (whole, [told])
    code, error = videoclr(tmp_path, "-", "out.mkv", *PLAIN, stdin=source)
    assert code == 0 and f"videoclr: warning: -: {told}\n" in error
    assert len(planes(tmp_path / "out.mkv")) == whole
    source.write_bytes(b"YUV4MPEG2 W96 H64 F25:1 C420jpeg\n" + b"".join(b"FRAME\n" + bytes(one) for one in yuv(4)))
    with Reader(source) as reader:
        assert (len(list(reader.frames())), reader.warnings) == (4, [])


def test_y4m_says_the_shape_of_its_pixels_in_a_pipe_too(piped, tmp_path):
    source = b"YUV4MPEG2 W96 H64 F25:1 Ip A16:15 C420jpeg\n" + b"".join(b"FRAME\n" + bytes(one) for one in yuv(4))
    (tmp_path / "o.y4m").write_bytes(out := piped(source, "--container", "y4m"))
    assert b" A16:15 " in out.partition(b"\n")[0]
    assert [data for data, _ in planes(tmp_path / "o.y4m")] == [bytes(one) for one in yuv(4)]


def test_waiting_for_a_pipe_can_be_stopped(monkeypatch):
    def stopped(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("videoclr.media.source.os.read", stopped)
    with pytest.raises(KeyboardInterrupt):
        Reader("-")


@pytest.mark.parametrize("data", [b"", b"nothing that anybody could show\n" * 99])
def test_a_pipe_without_a_film_is_one_line(videoclr, tmp_path, data):
    (tmp_path / "in").write_bytes(data)
    code, error = videoclr(tmp_path, "-", "-", *PLAIN, stdin=tmp_path / "in", stdout=tmp_path / "out")
    assert (code, (tmp_path / "out").read_bytes()) == (1, b"")
    assert error.startswith("videoclr: error: -: ") and error.count("\n") == 1


def test_an_index_behind_the_film_is_named_and_one_before_it_is_read(videoclr, piped, tmp_path, clip):
    large = {"size": (640, 480), "options": {"crf": "0"}}  # more than FFmpeg holds of a pipe
    coming = clip("in.mp4", **large)
    assert coming.stat().st_size > 100_000
    code, error = videoclr(tmp_path, "-", "-", *PLAIN, stdin=coming, stdout=tmp_path / "out")
    assert code == 1 and "its index comes last, which needs a file: save it as one" in error
    first = clip("first.mp4", muxing={"movflags": "faststart"}, **large)
    (tmp_path / "out.nut").write_bytes(piped(first.read_bytes(), "--codec", "ffv1"))
    assert len(planes(tmp_path / "out.nut")) == 10


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"format": "rawvideo"}, "give --video-size and --input-pix-fmt"),
        ({"format": "rawvideo", "video_size": (96, 64)}, "give --video-size and --input-pix-fmt"),
        ({"video_size": (96, 64)}, "for raw pictures alone"),
        ({"format": "nut", "pix_fmt": "yuv420p"}, "for raw pictures alone"),
        ({"format": "rawvideo", "video_size": (96, 64), "pix_fmt": "yuv42"}, "unknown pixel format"),
        ({"format": "nonsense"}, "unknown format"),
        ({"format": "hls"}, "opens other files or devices"),
        ({"format": "lavfi"}, "opens other files or devices"),
    ],
)
def test_an_input_is_described_rightly_or_not_at_all(wrong, says):
    with pytest.raises(ConfigError, match=says):
        Opening(**wrong)


def test_a_file_of_raw_pictures_says_what_it_needs(tmp_path):
    (tmp_path / "a.yuv").write_bytes(bytes(range(256)) * 64)
    with pytest.raises(MediaError, match="give --input-format rawvideo, --video-size"):
        Reader(tmp_path / "a.yuv")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--rate", "25"], 2, "knows its own rate"),
        (["--start-number", "3"], 2, "for numbered pictures such as shot.%04d.png alone; --output-start-number"),
        (["--rate", "1/0"], 2, "--rate: "),
        (["--rate", "0"], 2, "more than 0"),
        (["--video-size", "96"], 2, "--video-size: "),
        (["--input-format", "mpegts"], 1, "cannot be read as mpegts"),
        (["--container", "y4m", "--codec", "h264"], 2, "holds uncompressed pictures, not h264"),
        (["--container", "nonsense"], 2, "unknown container"),
    ],
)
def test_what_does_not_fit_is_one_line(clip, tmp_path, capsys, arguments, code, says):
    source = clip("a.mp4")
    assert main([str(source), str(tmp_path / "o.mkv"), *PLAIN, *arguments]) == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_y4m_keeps_every_frame_of_a_variable_rate_and_says_what_is_lost(clip, tmp_path, capsys):
    source = clip("v.mkv", ticks=[0, 1, 2, 9, 10, 30])
    assert main([str(source), str(tmp_path / "o.y4m"), *PLAIN]) == 0
    assert "stores no presentation times" in capsys.readouterr().err
    assert len(planes(tmp_path / "o.y4m")) == 6


@pytest.mark.parametrize("name", ["o.y4m", "o.yuv"])
def test_sound_beside_raw_pictures_is_refused_and_not_lost(clip, tmp_path, capsys, name):
    source = clip("a.mkv", audio=1)
    assert main([str(source), str(tmp_path / name), *PLAIN]) == 1
    assert "--drop audio" in capsys.readouterr().err and not (tmp_path / name).exists()
    assert main([str(source), str(tmp_path / name), *PLAIN, "--drop", "audio"]) == 0


def test_subtitles_are_not_written_between_raw_pictures(clip, ffmpeg, tmp_path, capsys):
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:00,100\nhello\n")
    inputs = ["-i", clip("a.mkv"), "-i", tmp_path / "a.srt"]
    subprocess.run([ffmpeg, "-v", "error", *inputs, "-c", "copy", tmp_path / "b.mkv"], check=True)
    assert main([str(tmp_path / "b.mkv"), str(tmp_path / "o.yuv"), *PLAIN]) == 1
    assert "rawvideo does not hold stream 1 (subtitle, subrip)" in capsys.readouterr().err


def test_a_picture_that_needs_a_file_says_so(videoclr, tmp_path, pattern):
    with Writer(tmp_path / "s.tif") as writer:
        writer.write(Frame.from_image(pattern(0)))
    code, error = videoclr(tmp_path, "-", "o.png", "--set", "restore.use=unchanged", "-q", stdin=tmp_path / "s.tif")
    assert code == 1 and "nothing in a pipe says where such a picture ends; give it as a file" in error

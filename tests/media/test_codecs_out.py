"""Every codec through a whole job: what the file says of itself, and what a decoder finds in it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from av.video.format import VideoFormat

from videoclr import cli
from videoclr.errors import ConfigError, MediaError
from videoclr.media import probe
from videoclr.media.copylike import HEADROOM, level_of
from videoclr.media.encoders import bits_per_second, choose_format, encoder_of, small_params, what_is_lost


class Facts(NamedTuple):
    """What ffprobe would show of a video stream."""

    codec: str
    profile: str | None
    pix_fmt: str
    tag: str
    level: str | None
    keys: list[int]
    """Numbers of the key frames, in the order of presentation."""
    reordered: bool
    size: int
    """Bytes of all pictures."""


def facts(path) -> Facts:
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        context = stream.codec_context
        packets = [packet for packet in container.demux(stream) if packet.size]
        codec = context.codec.canonical_name
        level = level_of(codec, context.extradata or b"")
        shown = sorted(packet.pts for packet in packets)
        keys = [shown.index(packet.pts) for packet in packets if packet.is_keyframe]
        reordered = any(packet.pts != packet.dts for packet in packets) and bool(context.has_b_frames)
        size = sum(packet.size for packet in packets)
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        frame = next(container.decode(stream))
        context = stream.codec_context
        return Facts(codec, context.profile, frame.format.name, context.codec_tag, level, keys, reordered, size)


def pictures(path) -> list[np.ndarray]:
    """`(h, w, 3)` uint8 of every frame."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


def nearness(one, other) -> float:
    """Mean PSNR in dB."""
    errors = [np.mean((a - b) ** 2) for a, b in zip(pictures(one), pictures(other), strict=True)]
    return float(np.mean([10 * np.log10(255**2 / max(error, 1e-9)) for error in errors]))


BIG = {"size": (256, 128)}


@pytest.mark.parametrize(
    ("source", "media", "ending", "expected"),
    [
        ({}, {"codec": "h264", "preset": "ultrafast"}, "mp4", ("h264", "yuv420p", "avc1")),
        ({}, {"codec": "hevc", "preset": "ultrafast"}, "mp4", ("hevc", "yuv420p", "hvc1")),
        ({"pix_fmt": "yuv420p10le"}, {"codec": "hevc", "preset": "ultrafast"}, "mov", ("hevc", "yuv420p10le", "hvc1")),
        ({}, {"codec": "av1", "preset": "12"}, "mp4", ("av1", "yuv420p", "av01")),
        ({"pix_fmt": "yuv420p10le"}, {"codec": "av1", "preset": "12"}, "mkv", ("av1", "yuv420p10le", None)),
        ({}, {"codec": "vp9", "preset": "8"}, "webm", ("vp9", "yuv420p", None)),
        ({}, {"codec": "mjpeg"}, "mov", ("mjpeg", "yuvj420p", "jpeg")),
        ({"pix_fmt": "yuv422p10le"}, {"codec": "ffv1"}, "mkv", ("ffv1", "yuv422p10le", None)),
        ({"pix_fmt": "bgr0"}, {"codec": "ffv1"}, "nut", ("ffv1", "bgr0", "FFV1")),
    ],
)  # fmt: skip
def test_a_codec_is_written_with_its_format_and_tag(clip, job, tmp_path, source, media, ending, expected):
    ready = clip("s.mkv", codec="ffv1", ticks=range(3), **source)
    report = job(ready, tmp_path / f"o.{ending}", **media)
    found = facts(tmp_path / f"o.{ending}")
    assert (found.codec, found.pix_fmt) == expected[:2]
    assert expected[2] is None or found.tag == expected[2]
    assert report.frames_out == 3
    assert nearness(ready, tmp_path / f"o.{ending}") > 30


@pytest.mark.parametrize(
    ("profile", "source", "tag", "pix_fmt"),
    [
        (None, "yuv420p", "apcn", None), ("proxy", "yuv420p", "apco", "yuv422p10le"), ("lt", "yuv422p10le", "apcs", "yuv422p10le"),
        ("standard", "yuv422p10le", "apcn", "yuv422p10le"), ("hq", "yuv422p10le", "apch", "yuv422p10le"),
        ("4444", "yuv444p10le", "ap4h", "yuv444p"), ("4444xq", "yuva444p10le", "ap4x", "yuva444p"),
    ],
)  # fmt: skip
def test_every_profile_of_prores(clip, job, tmp_path, profile, source, tag, pix_fmt):
    ready = clip("s.mkv", codec="ffv1", ticks=range(2), pix_fmt=source)
    job(ready, tmp_path / "o.mov", codec="prores", **({} if profile is None else {"profile": profile}))
    found = facts(tmp_path / "o.mov")
    if profile is None:  # unasked: the best one without a fourth channel
        tag, pix_fmt = "apch", "yuv422p10le"
    assert (found.codec, found.tag) == ("prores", tag)
    assert found.pix_fmt.startswith(pix_fmt)
    assert found.keys == [0, 1]


@pytest.mark.parametrize(
    ("profile", "source", "expected"),
    [
        (None, "yuv420p", ("DNXHR HQ", "yuv422p")), (None, "yuv420p10le", ("DNXHR HQX", "yuv422p10le")),
        (None, "yuv444p10le", ("DNXHR 444", "yuv444p10le")), ("lb", "yuv420p", ("DNXHR LB", "yuv422p")),
        ("sq", "yuv420p", ("DNXHR SQ", "yuv422p")), ("hq", "yuv420p10le", ("DNXHR HQ", "yuv422p")),
        ("hqx", "yuv420p", ("DNXHR HQX", "yuv422p10le")), ("444", "gbrp10le", ("DNXHR 444", "gbrp10le")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["mov", "mxf"])
def test_every_profile_of_dnxhr(clip, job, tmp_path, profile, source, expected, ending):
    ready = clip("s.mkv", codec="ffv1", ticks=range(2), pix_fmt=source, **BIG)
    report = job(ready, tmp_path / f"o.{ending}", codec="dnxhr", **({} if profile is None else {"profile": profile}))
    found = facts(tmp_path / f"o.{ending}")
    assert (found.codec, found.profile, found.pix_fmt) == ("dnxhd", *expected)
    assert any("less bit depth" in text for text in report.warnings) == (profile == "hq")
    assert nearness(ready, tmp_path / f"o.{ending}") > 30


@pytest.mark.parametrize(
    ("encoder", "size", "expected"),
    [
        ("libx265", (64, 48), ["rc-lookahead=0", "bframes=0", "ctu=16"]), ("libx265", (640, 64), ["ctu=16"]),
        ("libx265", (96, 66), []), ("libx264", (32, 32), []),
    ],
)  # fmt: skip
def test_small_pictures_of_hevc_have_settings_of_their_own(encoder, size, expected):
    assert small_params(encoder, size) == expected


def test_av1_of_a_strip_is_refused_instead_of_taking_for_ever(clip, job, tmp_path):
    with pytest.raises(ConfigError, match=r"needs pictures of at least 32x32, not 128x16"):
        job(clip("s.mp4", size=(128, 16)), tmp_path / "o.mp4", codec="av1")


def test_dnxhr_of_a_tiny_picture_is_one_clear_line(clip, job, tmp_path):
    with pytest.raises(ConfigError, match=r"needs pictures of at least 256x120, not 96x64"):
        job(clip("s.mp4"), tmp_path / "o.mov", codec="dnxhr")
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


@pytest.mark.parametrize(
    ("source", "profile", "expected"),
    [
        ("yuv420p", "baseline", ("Constrained Baseline", "yuv420p")), ("yuv420p", "main", ("Main", "yuv420p")),
        ("yuv422p10le", "high", ("High", "yuv420p")), ("yuv422p10le", "high422", ("High 4:2:2", "yuv422p10le")),
    ],
)  # fmt: skip
def test_profiles_levels_and_key_frames_of_h264(clip, job, tmp_path, source, profile, expected):
    ready = clip("s.mkv", codec="ffv1", pix_fmt=source)
    job(ready, tmp_path / "o.mp4", profile=profile, level="3.1", gop=4, preset="ultrafast" if profile == "baseline" else "fast")
    found = facts(tmp_path / "o.mp4")
    assert (found.profile, found.pix_fmt, found.level) == (*expected, "3.1")
    assert max(after - before for before, after in pairwise(found.keys)) <= 4
    assert found.reordered == (profile != "baseline")


def test_a_bit_rate_and_options_of_the_encoder_reach_it(clip, job, tmp_path):
    ready = clip("s.mkv", codec="ffv1", ticks=range(60))
    rates = {}
    for rate in ("60k", "300k"):
        job(ready, tmp_path / f"{rate}.mp4", bitrate=rate, preset="fast", gop=15, options={"x264-params": "bframes=0"})
        found = facts(tmp_path / f"{rate}.mp4")
        rates[rate] = found.size * 8 / (60 / 25)
        assert not found.reordered
    assert rates["60k"] == pytest.approx(60_000, rel=0.5)
    assert rates["300k"] == pytest.approx(300_000, rel=0.5)


@pytest.mark.parametrize(
    ("media", "words"),
    [
        ({"codec": "prores", "profile": "high"}, "media.profile.*no profile 'high'.*proxy"),
        ({"codec": "prores", "bitrate": "8M"}, "media.bitrate.*no such setting"),
        ({"codec": "ffv1", "gop": 4}, "media.gop.*no such setting"),
        ({"codec": "vp9", "level": "4"}, "media.level.*no such setting"),
        ({"crf": 20, "bitrate": "8M"}, "leave one of them out"),
        ({"bitrate": "fast"}, "is no bit rate; write 8M"),
        ({"bitrate": "1e30"}, r"media\.bitrate: '1e30' is no bit rate; write 8M"),
        ({"profile": "main", "pix_fmt": "yuv422p"}, "does not take 'yuv422p' in the profile main"),
        ({"options": {"nonsense": "1"}}, "libx264 knows no option 'nonsense'"),
        ({"options": {"bf": "many"}}, "libx264 refuses.*bf=many"),
        ({"codec": "h265"}, "unknown codec 'h265'.*copy-like"),
    ],
)
def test_bad_choices_are_one_clear_line_and_leave_nothing(clip, job, tmp_path, media, words):
    with pytest.raises(ConfigError, match=words) as caught:
        job(clip("s.mkv"), tmp_path / "o.mov", **media)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mkv"]


@pytest.mark.parametrize(("text", "number"), [("8M", 8_000_000), ("800k", 800_000), ("1.5m", 1_500_000), ("7000", 7000)])
def test_bit_rates_are_read_as_people_write_them(text, number):
    assert bits_per_second(text) == number


def test_codec_and_rate_from_the_command_line(clip, tmp_path, monkeypatch):
    chosen: dict[str, Any] = {}
    monkeypatch.setattr("videoclr.jobs.restore_video", lambda source, target, config, **_: chosen.update(config.media) or _done())
    arguments = ["a.mp4", "b.mov", "-q", "--codec", "dnxhr", "--profile", "444", "--bitrate", "8000000", "--hwaccel", "cuda"]
    assert cli.main(arguments) == 0
    assert {name: chosen[name] for name in ("codec", "profile", "bitrate", "hwaccel")} == {
        "codec": "dnxhr", "profile": "444", "bitrate": "8000000", "hwaccel": "cuda",
    }  # fmt: skip


def _done() -> Any:
    from videoclr.report import Report

    return Report("a", "b", 0, 0, 0, [], 0, 0.0, {}, None, [], "", {}, {}, {})


# -- copy-like ----------------------------------------------------------------------------------------------------


def grainy(path, codec: str, options: dict[str, str], count: int = 60) -> Any:
    """A moving picture with grain, which no encoder has bits enough for; 300 kbit/s."""
    rng = np.random.default_rng(0)
    coarse = np.repeat(np.repeat(rng.integers(40, 200, (16, 60, 3)), 4, 0), 4, 1)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.bit_rate = 300_000
        for index in range(count):
            image = coarse[:, index : index + 96] + rng.normal(0, 12, (64, 96, 3))
            frame = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("codec", "ending", "options"),
    [
        ("libx264", "mp4", {"profile": "main", "level": "4.1", "g": "12", "preset": "fast", "sc_threshold": "0"}),
        ("libx264", "mp4", {"profile": "baseline", "level": "3", "g": "20", "bf": "0", "preset": "fast", "sc_threshold": "0"}),
        ("libx264", "ts", {"profile": "high", "level": "4", "g": "12", "preset": "fast", "sc_threshold": "0"}),
        ("libx265", "mkv", {"g": "12", "preset": "ultrafast", "x265-params": "log-level=none:level-idc=4.1:bframes=0:scenecut=0"}),
        ("libx265", "ts", {"g": "15", "preset": "ultrafast", "x265-params": "log-level=none:level-idc=3.1:scenecut=0:open-gop=1"}),
        ("libvpx-vp9", "webm", {"g": "12", "cpu-used": "8", "deadline": "realtime"}),
    ],
)
def test_copy_like_takes_codec_profile_level_key_frames_and_rate(job, tmp_path, codec, ending, options):
    source = grainy(tmp_path / f"s.{ending}", codec, options)
    target = tmp_path / f"o.{ending}"
    preset = {} if codec == "libvpx-vp9" else {"preset": "veryfast"}
    job(source, target, codec="copy-like", **preset)
    before, after = facts(source), facts(target)
    for name in ("codec", "profile", "pix_fmt", "level", "reordered"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.keys == before.keys
    assert len(before.keys) > 2
    # libvpx stays below its target in a clip of two seconds
    assert (0.8 if codec == "libvpx-vp9" else 0.95) < after.size / before.size < float(HEADROOM) * 1.2
    assert nearness(source, target) > 33


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options", "size"),
    [
        ("prores_ks", "yuv422p10le", {"profile": "lt"}, (96, 64)), ("prores_ks", "yuva444p10le", {"profile": "4444xq"}, (96, 64)),
        ("dnxhd", "yuv422p", {"profile": "dnxhr_sq"}, (256, 128)), ("dnxhd", "yuv422p10le", {"profile": "dnxhr_hqx"}, (256, 128)),
        ("mjpeg", "yuvj422p", {}, (96, 64)), ("ffv1", "yuv422p10le", {}, (96, 64)),
        ("libsvtav1", "yuv420p10le", {"preset": "12"}, (96, 64)),
    ],
)  # fmt: skip
def test_copy_like_takes_the_profile_of_codecs_without_a_rate(clip, job, tmp_path, codec, pix_fmt, options, size):
    ending = "mkv" if codec in ("ffv1", "libsvtav1") else "mov"
    source = clip(f"s.{ending}", codec=codec, pix_fmt=pix_fmt, ticks=range(3), options=options, size=size)
    job(source, tmp_path / f"o.{ending}", codec="copy-like")
    before, after = facts(source), facts(tmp_path / f"o.{ending}")
    for name in ("codec", "profile", "pix_fmt", "tag"):
        assert getattr(after, name) == getattr(before, name), name


def test_what_is_named_wins_over_the_source(job, tmp_path):
    source = grainy(tmp_path / "s.mp4", "libx264", {"g": "12", "profile": "high", "sc_threshold": "0"})
    job(source, tmp_path / "o.mp4", codec="copy-like", crf=45, gop=30, profile="main")
    found = facts(tmp_path / "o.mp4")
    assert found.profile == "Main"
    assert max(after - before for before, after in pairwise(found.keys)) == 30
    assert found.size < facts(source).size / 2


def test_copy_like_needs_a_video_file_of_a_known_codec(clip, job, tmp_path, pattern):
    with pytest.raises(ConfigError, match=r"nothing here encodes mpeg4, only .*h264"):
        job(clip("s.mp4", codec="mpeg4"), tmp_path / "o.mp4", codec="copy-like")
    av.VideoFrame.from_ndarray(pattern(0), "rgb24").to_image().save(tmp_path / "p.png")
    with pytest.raises(ConfigError, match="is for videos; name a codec"):
        job(tmp_path / "p.png", tmp_path / "p.mp4", codec="copy-like")


def test_parameter_sets_that_tell_no_level_are_no_error():
    assert level_of("h264", b"") is None
    assert level_of("hevc", b"\x00\x00\x01\x42") is None
    assert level_of("vp9", b"\x01\x02\x03\x04") is None


# -- devices --------------------------------------------------------------------------------------------------------


def test_hardware_encoders_are_tried_with_a_frame_and_refused_in_one_line(clip, job, tmp_path):
    source = clip("s.mp4", ticks=range(2))
    absent = [name for name, works in probe.hardware().items() if not works]
    if not absent:
        pytest.skip("every hardware encoder works here")
    for name in absent:
        with pytest.raises(ConfigError) as caught:
            job(source, tmp_path / "o.mp4", codec=name)
        said = str(caught.value)
        assert "\n" not in said
        assert name in said
        assert "it needs" in said or "was built without" in said
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


@pytest.mark.parametrize("name", [name for name, works in probe.hardware().items() if works])
def test_hardware_encoders_that_work_here_encode_a_video(clip, job, tmp_path, name):
    source = clip("s.mp4", size=(256, 256))
    job(source, tmp_path / "o.mp4", codec=name)
    assert facts(tmp_path / "o.mp4").codec == name.split("_")[0]
    assert nearness(source, tmp_path / "o.mp4") > 28


@pytest.mark.parametrize("device", ["cuda", "qsv", "vaapi", "videotoolbox"])
def test_a_device_that_decodes_gives_the_same_pictures_or_is_refused_in_one_line(clip, job, tmp_path, device):
    source = clip("s.mp4", size=(256, 256), ticks=range(5))
    try:
        job(source, tmp_path / "o.mkv", codec="ffv1", hwaccel=device)
    except ConfigError as error:
        assert "\n" not in str(error)
        assert device in str(error)
        assert "leave hwaccel out" in str(error)
        assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]
    else:
        assert nearness(source, tmp_path / "o.mkv") > 45


def test_unknown_devices_and_bad_files_are_told_apart(clip, job, tmp_path):
    with pytest.raises(ConfigError, match="unknown device 'gpu'; known here: cuda"):
        job(clip("s.mp4"), tmp_path / "o.mp4", hwaccel="gpu")
    with pytest.raises(MediaError, match="no such file"):
        job(tmp_path / "none.mp4", tmp_path / "o.mp4", hwaccel="cuda")


# -- pictures -------------------------------------------------------------------------------------------------------


def floats(frame) -> np.ndarray:
    """`(3 or 4, h, w)` of a frame of half floats: green, blue, red, alpha."""
    rows = [np.frombuffer(memoryview(plane), np.float16).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes]
    return np.stack(rows).astype(np.float32)


def exr(path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def test_ten_bits_become_png_of_sixteen_and_eight_only_when_asked(clip, job, tmp_path):
    deep = clip("deep.mkv", codec="ffv1", pix_fmt="yuv422p10le", ticks=range(2))
    job(deep, tmp_path / "d%03d.png")
    assert [exr(tmp_path / f"d00{n}.png").format.name for n in (1, 2)] == ["rgb48be"] * 2
    plain = clip("plain.mkv", codec="ffv1", ticks=range(1))
    job(plain, tmp_path / "a%03d.png")
    job(plain, tmp_path / "b%03d.png", pix_fmt="rgb48be")
    assert exr(tmp_path / "a001.png").format.name == "rgb24"
    assert exr(tmp_path / "b001.png").format.name == "rgb48be"
    with pytest.raises(ConfigError, match="png does not take 'yuv420p'; it takes rgb24"):
        job(plain, tmp_path / "c%03d.png", pix_fmt="yuv420p")


@pytest.mark.parametrize(
    ("transfer", "signal", "light"),
    [(1, 0.5, 0.2597), (13, 0.5, 0.2140), (8, 0.5, 0.5), (16, 0.58068, 1.0), (4, 0.5, 0.5**2.2), (18, 0.75, 1.0)],
)
def test_exr_holds_linear_light_of_the_source_in_half_floats(job, tmp_path, transfer, signal, light):
    source = tmp_path / "s.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gbrp16le"
        stream.codec_context.color_trc = transfer
        stream.codec_context.color_primaries = 9 if transfer in (16, 18) else 1
        grey = np.full((48, 64, 3), round(signal * 65535), np.uint16)
        frame = av.VideoFrame.from_ndarray(grey, "gbrp16le")
        frame.color_trc, frame.pts, frame.time_base = transfer, 0, Fraction(1, 25)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    job(source, tmp_path / "o%02d.exr")
    written = exr(tmp_path / "o01.exr")
    assert written.format.name == "gbrpf16le"  # how FFmpeg decodes half floats
    assert np.allclose(floats(written), light, rtol=0.01, atol=1e-3)
    job(source, tmp_path / "c%02d.exr", linear=False)
    assert np.allclose(floats(exr(tmp_path / "c01.exr")), signal, atol=1e-3)


@pytest.mark.parametrize(
    ("codec", "grey", "written", "lost"),
    [
        ("vp9", "gray", "yuv420p", []), ("vp9", "gray10le", "yuv420p", ["bit depth"]), ("av1", "gray10le", "yuv420p10le", []),
        ("prores", "gray", "yuv422p10le", []), ("hevc", "gray12le", "gray12le", []), ("ffv1", "gray", "gray", []),
    ],
)  # fmt: skip
def test_grey_is_written_as_what_every_player_shows(codec, grey, written, lost):
    assert choose_format(encoder_of(codec), VideoFormat(grey), (96, 64), None) == written
    assert what_is_lost(VideoFormat(grey), written) == lost


def test_exr_keeps_transparency(clip, job, tmp_path):
    source = clip("s.mov", codec="prores_ks", pix_fmt="yuva444p10le", ticks=range(1))
    job(source, tmp_path / "o%02d.exr")
    assert exr(tmp_path / "o01.exr").format.name == "gbrapf16le"


def test_the_quality_of_jpeg_is_the_one_that_was_asked_for(clip, job, tmp_path):
    source = clip("s.mkv", codec="ffv1", ticks=range(3))
    for crf in (None, 1, 2, 10, 31):
        job(source, tmp_path / f"{crf}.mov", codec="mjpeg", crf=crf)
    sizes = [(tmp_path / f"{crf}.mov").stat().st_size for crf in (1, 2, 10, 31)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    assert (tmp_path / "None.mov").stat().st_size == sizes[1]


def test_an_encoder_s_own_library_says_nothing_unasked(clip, tmp_path, capfd, job):
    for codec in ("av1", "hevc", "h264"):
        job(clip("s.mkv"), tmp_path / f"{codec}.mkv", codec=codec)
    assert capfd.readouterr() == ("", "")

"""Encoders and decoders on devices, as far as that can be told without one: no device was there when these were written.

What FFmpeg is told is held against what its own program says that the encoder knows, and a decoder that runs on the
processor stands in for one on a device.
"""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
from av.codec.context import CodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError
from videoclr.media import film, hardware
from videoclr.media.colour import colour_of
from videoclr.media.encoders import HARDWARE, Wanted, choose_format, configure, encoder_of, formats_of, what_is_lost
from videoclr.media.reader import Reader

OPTION = re.compile(r"  -(\S+)\s+<(\w+)>\s+\S+(.*)")
VALUE = re.compile(r"     (\S+)\s+(?:\S+\s+)?E\.\.V")
RANGE = re.compile(r"from (\S+) to (\S+)\)")
GENERIC = {"global_quality": ((-2147483648, 2147483647), set())}
"""Options of every encoder."""


def known(ffmpeg: str, encoder: str) -> dict[str, tuple[tuple[float, float] | None, set[str]]]:
    """Option -> its range and named values, as `ffmpeg -h encoder=` lists them; empty for one that it lacks."""
    said = subprocess.run([ffmpeg, "-hide_banner", "-h", f"encoder={encoder}"], capture_output=True, text=True, check=True).stdout
    found: dict[str, tuple[tuple[float, float] | None, set[str]]] = {}
    for line in said.splitlines():
        if option := OPTION.match(line):
            ends = RANGE.search(option[3])
            values: set[str] = set()
            numbers = [float({"INT_MAX": "2147483647"}.get(end, end)) for end in ends.groups()] if ends else None
            found[option[1]] = ((numbers[0], numbers[1]) if numbers else None, values)
        elif found and (value := VALUE.match(line)):
            values.add(value[1])
    return found | GENERIC if found else {}


def is_taken(options: dict[str, tuple[tuple[float, float] | None, set[str]]], name: str, value: str) -> bool:
    if name not in options:
        return False
    ends, values = options[name]
    if value in values:
        return True
    try:
        return ends is not None and ends[0] <= float(value) <= ends[1]
    except ValueError:
        return False


@pytest.mark.parametrize("name", HARDWARE)
def test_every_option_that_a_hardware_encoder_is_given_is_one_that_it_has(ffmpeg, name):
    options = known(ffmpeg, name)
    if not options:
        pytest.skip(f"this ffmpeg was built without {name}")
    encoder = HARDWARE[name]
    asked = [Wanted(), Wanted(bit_rate=8_000_000)] if encoder.quality else [Wanted()]
    asked += [Wanted(level=level) for level in ("4.1", "5.1") if encoder.level]
    for wanted in asked:
        for option, value in encoder.settings(wanted).items():
            assert is_taken(options, option, value), f"{name} has no {option}={value}"
    for profile, formats in encoder.profiles.items():
        assert is_taken(options, "profile", str(encoder.profile_of(formats[0], profile)))
    if encoder.scale is not None and encoder.quality in options:
        assert all(is_taken(options, encoder.quality, str(end)) for end in encoder.scale)
    assert "crf" not in encoder.settings(Wanted())
    assert is_taken(options, "rc", encoder.settings(asked[-1]).get("rc", "0")) or "rc" not in options


@pytest.mark.parametrize("name", [name for name in HARDWARE if name in av.codecs_available])
@pytest.mark.parametrize("source", ["yuv420p", "nv12", "yuv420p10le", "p010le", "yuv422p10le", "gbrp"])
def test_ten_bits_stay_ten_where_the_encoder_has_them(name, source):
    encoder = HARDWARE[name]
    took = encoder.formats or formats_of(name)
    chosen = choose_format(encoder, VideoFormat(source), (640, 360), None)
    assert chosen in took
    if source == "gbrp":
        assert chosen in ("yuv420p", "nv12", "gbrp")
        return
    deep = "10" in source
    lost = what_is_lost(VideoFormat(source), chosen)
    assert ("bit depth" in lost) == (deep and not any("p010" in one for one in took))
    assert "colour" not in lost


def test_odd_sizes_are_refused_for_devices_before_anything_is_tried():
    with pytest.raises(ConfigError, match="cannot store 641x360 pictures in nv12, an odd size"):
        choose_format(encoder_of("hevc_qsv"), VideoFormat("yuv420p"), (641, 360), None)


@pytest.mark.parametrize("name", ["h264_videotoolbox", "hevc_videotoolbox"])
@pytest.mark.parametrize(("crf", "quality"), [(None, 65), (40.0, 40)])
def test_a_constant_quality_reaches_videotoolbox_in_its_own_scale(name, crf, quality):
    context = CodecContext.create("mpeg4", "w")  # any encoder: what counts is what the context is told
    frame = VideoFrame(64, 48, "yuv420p")
    configure(context, HARDWARE[name], Wanted(crf=crf), colour_of(frame), colour_of(frame), frame, "")
    assert context.qscale
    assert context.global_quality == quality


def test_a_bit_rate_replaces_the_quality(ffmpeg):
    for name, encoder in HARDWARE.items():
        if encoder.quality is None:
            continue
        options = encoder.settings(Wanted(bit_rate=8_000_000))
        assert encoder.quality not in options, name
        assert options.get("rc") in (None, "vbr", "vbr_peak"), name
        context = CodecContext.create("mpeg4", "w")
        frame = VideoFrame(64, 48, "yuv420p")
        configure(context, encoder, Wanted(bit_rate=8_000_000), colour_of(frame), colour_of(frame), frame, "")
        assert context.bit_rate == 8_000_000
        assert not context.qscale


def test_a_device_without_room_for_ten_bits_says_which_format_works(clip, job, tmp_path, monkeypatch):
    def only_shallow(encoder, pixel_format=None):
        return None if pixel_format == "nv12" else "no capable devices found"

    monkeypatch.setattr(film, "refusal", only_shallow)
    source = clip("s.mkv", codec="ffv1", pix_fmt="yuv420p10le", size=(256, 256), ticks=range(2))
    with pytest.raises(ConfigError, match=r"pix_fmt: the device of h264_nvenc does not encode p010le .* use pix_fmt=nv12"):
        job(source, tmp_path / "o.mp4", codec="h264_nvenc")
    monkeypatch.setattr(film, "refusal", lambda encoder, pixel_format=None: "cannot load libcuda")
    with pytest.raises(ConfigError, match=r"h264_nvenc does not work here .cannot load libcuda.; it needs an NVIDIA GPU"):
        job(source, tmp_path / "o.mp4", codec="h264_nvenc")


# -- decoding -------------------------------------------------------------------------------------------------------


class Accelerated:
    """A device that is always there."""

    def __init__(self, kind, number=None, allow_software_fallback=True):
        assert not allow_software_fallback, "nothing falls back"

    def create(self, codec):
        return self


class OnTheProcessor:
    """Makes the processor's decoder for one on a device; keeps the names that were asked for."""

    names: tuple[str, ...] = ()

    @classmethod
    def create(cls, name, mode, hwaccel):
        assert isinstance(hwaccel, Accelerated)
        cls.names = (*cls.names, name)
        return CodecContext.create(name.removesuffix("_qsv").replace("av1", "libdav1d"), mode)


@pytest.fixture
def device(monkeypatch):
    """Quick Sync and CUDA are there; their decoders run on the processor."""
    plain = hardware.open_input
    monkeypatch.setattr(hardware, "HWAccel", Accelerated)
    monkeypatch.setattr(hardware, "CodecContext", OnTheProcessor)
    monkeypatch.setattr(hardware, "hwdevices_available", lambda: ["cuda", "qsv"])
    monkeypatch.setattr(hardware, "open_input", lambda path, rate, opening, hwaccel=None: plain(path, rate, opening))
    OnTheProcessor.names = ()


def test_a_decoder_beside_the_stream_gives_the_same_pictures_and_all_that_the_container_says(clip, device, tmp_path):
    times = [0, 1, 4, 9, 10]
    source = clip("s.mp4", size=(128, 96), ticks=times, base=Fraction(1, 25), rotation=90)
    with Reader(source) as here, Reader(source, hwaccel="qsv") as there:
        assert OnTheProcessor.names == ("h264_qsv",)
        assert there.info == here.info
        assert there.info.rotation != 0
        for one, other in zip(here.frames(), there.frames(), strict=True):
            assert one.time == other.time
            assert np.array_equal(one.image, other.image)
    with Reader(source, start=Fraction(3, 25), hwaccel="qsv") as part:
        assert [frame.time for frame in part.frames()] == [Fraction(tick, 25) for tick in times if tick >= 3]


def test_av1_goes_to_the_decoder_that_knows_devices(clip, device):
    source = clip("s.mkv", codec="libsvtav1", size=(64, 64), options={"preset": "12"}, ticks=range(4))
    with Reader(source, hwaccel="cuda") as reader:
        assert len(list(reader.frames())) == 4
    assert OnTheProcessor.names == ("av1",)


def test_a_stream_that_the_device_would_leave_to_the_processor_is_refused(clip, device):
    with pytest.raises(ConfigError, match=r"cuda decodes another stream of .*leave hwaccel out"):
        Reader(clip("s.mp4", size=(64, 48), ticks=range(2)), hwaccel="cuda")


def test_a_codec_that_a_device_has_no_decoder_for_is_refused(clip):
    if "qsv" not in hardware.hwdevices_available():
        pytest.skip("this FFmpeg was built without qsv")
    with pytest.raises(ConfigError, match="qsv does not decode ffv1; leave hwaccel out"):
        Reader(clip("s.mkv", codec="ffv1", ticks=range(2)), hwaccel="qsv")


def test_what_a_device_cannot_look_into_is_refused(device):
    with pytest.raises(ConfigError, match="a pipe is read once"):
        Reader("-", hwaccel="qsv")


def test_transparency_is_not_given_up_for_a_device_and_that_is_told(clip, monkeypatch):
    source = clip("s.webm", codec="libvpx-vp9", pix_fmt="yuva420p", size=(64, 48), ticks=range(2))
    plain = hardware.open_input

    def opened(device, path, rate, opening, video):
        return plain(path, rate, opening), None

    monkeypatch.setattr("videoclr.media.reader.opened_on", opened)
    with Reader(source, hwaccel="cuda") as reader:
        assert reader.info.pixel_format == "yuva420p"
        assert [text for text in reader.warnings if "decoded here and not on cuda" in text]

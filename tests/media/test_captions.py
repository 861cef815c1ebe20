"""Closed captions in the pictures (ATSC A/53): kept by the codecs that hold them, told elsewhere."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from av.sidedata.sidedata import Type

FACE = {"face": (48.0, 32.0), "size": 26.0, "light": 0.3}
TOLD = "the closed captions (CEA-608/708) in its pictures are left out; the codecs h264 and hevc keep them"


def message(one: int, two: int) -> bytes:
    """A NAL unit of H.264 with two bytes of CEA-608: SEI, user data registered by ITU-T T.35, ATSC's cc_data."""
    data = b"\xb5\x00\x31GA94\x03" + bytes([0x41, 0xFF, 0xFC, one, two, 0xFF])
    return b"\x00\x00\x00\x01\x06" + bytes([4, len(data)]) + data + b"\x80"


def captioned(path, pattern, says=lambda index: (0x80 | 0x41 + index, 0x80 | 0x61 + index), count=8):
    """A clip of `count` pictures, some of them bidirectional, with what `says` of a picture's number in it."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "2", "x264-params": "annexb=1"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        frames = [av.VideoFrame.from_ndarray(pattern(index), "rgb24").reformat(format="yuv420p") for index in range(count)]
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 25)
        for old in [packet for frame in (*frames, None) for packet in video.encode(frame)]:
            number = round(old.pts * old.time_base * 25)
            packet = av.Packet(message(*says(number)) + bytes(old))
            packet.pts, packet.dts, packet.duration, packet.time_base = old.pts, old.dts, old.duration, old.time_base
            packet.is_keyframe, packet.stream = old.is_keyframe, video
            out.mux(packet)
    return path


def captions(path) -> list[bytes | None]:
    """What each picture holds, in order of presentation."""
    with av.open(str(path)) as container:
        return [
            next((bytes(item) for item in iter(frame.side_data) if item.type == Type.A53_CC), None)
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("o.mp4", {}),
        ("o.ts", {}),
        ("h.mp4", {"codec": "hevc", "preset": "ultrafast"}),
        ("d.mkv", {"codec": "hevc", "preset": "ultrafast", "pix_fmt": "yuv422p10le"}),
        ("w.mp4", {"deinterlace": "bwdif"}),
        ("s.mp4", {"deliver": "side-by-side"}),
    ],
)
def test_captions_stay_with_their_pictures(tmp_path, job, pattern, name, settings):
    source = captioned(tmp_path / "c.mp4", pattern)
    before = captions(source)
    assert len(set(before)) == 8 and None not in before
    report = job(source, tmp_path / name, **FACE, **settings)
    assert TOLD not in report.warnings
    assert captions(tmp_path / name) == before


@pytest.mark.parametrize(
    ("name", "settings"),
    [("o.mov", {"codec": "prores"}), ("o.mkv", {"codec": "ffv1"}), ("o.mkv", {"codec": "av1", "preset": "12"}), ("o%d.png", {})],
)
def test_captions_that_are_left_out_are_told_once(tmp_path, job, pattern, name, settings):
    source = captioned(tmp_path / "c.mp4", pattern, lambda index: (0x80, 0x80) if index < 3 else (0xC8, 0xC9))
    assert job(source, tmp_path / name, **settings).warnings.count(TOLD) == 1


def test_padding_is_no_caption(tmp_path, job, pattern):
    source = captioned(tmp_path / "c.mp4", pattern, lambda _: (0x80, 0x80))
    assert None not in captions(source)
    assert job(source, tmp_path / "o.mov", codec="prores").warnings == []

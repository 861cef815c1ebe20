"""H.264 of cameras that code each field as a picture of its own (PAFF). No encoder here makes it: it is written bit by bit."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videoclr.media import nal
from videoclr.media.reader import Reader
from videoclr.media.splice import Tally
from videoclr.media.writer import Writer
from videoclr.types import Patch

SIDE = 64
BLOCKS = (SIDE // 16) * (SIDE // 32)
"""Macroblocks in a field."""
GROUP, COUNT = 3, 9
"""Pictures from one that can be entered to the next, and in the film."""


def golomb(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def aligned(bits: str) -> str:
    return bits + "0" * (-len(bits) % 8)


def unit(kind: int, bits: str) -> bytes:
    whole = aligned(f"{bits}1")
    return bytes([kind]) + nal.guarded(int(whole, 2).to_bytes(len(whole) // 8))


def parameter_sets() -> list[bytes]:
    """Of main profile, 25 frames a second: frames or fields, chosen picture by picture."""
    sizes = "".join(map(golomb, [0, 0, 0, 4, 2])) + "0" + golomb(SIDE // 16 - 1) + golomb(SIDE // 32 - 1)
    usability = "00001" + f"{1:032b}{50:032b}" + "1" + "0000"
    sequence = f"{77:08b}{0:08b}{30:08b}{sizes}00" + "101" + usability
    picture = golomb(0) * 2 + "00" + golomb(0) * 3 + "000" + golomb(0) * 3 + "000"
    return [unit(0x67, sequence), unit(0x68, picture)]


def field(number: int, luma: int, *, bottom: bool) -> bytes:
    """One field of picture `number`, grey, of samples without compression (I_PCM)."""
    place, enters = number % GROUP, not number % GROUP and not bottom
    head = golomb(0) + golomb(7) + golomb(0) + f"{place:04b}" + f"1{bottom:d}"
    head += (golomb(number // GROUP % 2) if enters else "") + f"{2 * place + bottom:08b}" + ("00" if enters else "0") + golomb(0)
    values = f"{luma:08b}" * 256 + f"{128:08b}" * 128
    for _ in range(BLOCKS):
        head = aligned(head + golomb(25)) + values
    return unit(0x65 if enters else 0x61, head)


def film(path: Path) -> Path:
    """Pictures whose top lines are of 20, 28, 36 and so on, and whose bottom lines are brighter by 4."""
    sets = parameter_sets()
    pairs = [[field(n, 20 + 8 * n + 4 * bottom, bottom=bool(bottom)) for bottom in (0, 1)] for n in range(COUNT)]
    pictures = [nal.packed([*(() if n % GROUP else sets), *pair], 0) for n, pair in enumerate(pairs)]
    with av.open(io.BytesIO(b"".join(pictures)), format="h264") as raw, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(raw.streams.video[0])
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), not number % GROUP
            packet.pts = packet.dts = number
            packet.duration = 1
            out.mux_one(packet)
    return path


def lines(path: Path) -> list[tuple[int, int]]:
    """The first sample of a top and of a bottom line, of every picture."""
    with av.open(str(path)) as file:
        return [(int(found[0, 0]), int(found[1, 0])) for found in (one.to_ndarray() for one in file.decode(video=0))]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi", "mxf", "ts", "nut"])
@pytest.mark.parametrize("source", ["mp4", "mkv"])
def test_smart_copy_keeps_both_fields_of_what_did_not_change(tmp_path, source, ending):
    target = tmp_path / f"o.{ending}"
    face = Patch(32, 32, np.full((16, 16, 3), 255, np.uint8), np.ones((16, 16), np.float32))
    with (
        Reader(film(tmp_path / f"s.{source}"), deinterlace="off") as reader,
        Writer(target, like=reader, smart_copy=True) as writer,
    ):
        assert reader.info.fields == "top"
        for frame in reader.frames():
            writer.write(frame.with_patches([face]) if frame.index == 4 else frame)
        assert writer.tally == Tally(copied=6, groups=2, encoded=3, stretches=1)
    expected = [(20 + 8 * number, 24 + 8 * number) for number in range(COUNT)]
    found = lines(target)
    assert found[:3] + found[6:] == expected[:3] + expected[6:] and len(found) == COUNT
    assert np.abs(np.subtract(found, expected)).max() <= 2


def test_field_pictures_of_a_broadcast_are_encoded_whole_and_in_time(tmp_path):
    # There a packet is one field, so that no group of them can be told to be whole.
    source, target = film(tmp_path / "s.ts"), tmp_path / "o.mxf"
    with Reader(source, deinterlace="off") as reader, Writer(target, like=reader, smart_copy=True) as writer:
        for frame in reader.frames():
            writer.write(frame)
        assert (writer.tally.copied, writer.tally.encoded) == (0, COUNT)
    assert np.abs(np.subtract(lines(target), lines(source))).max() <= 2

"""DPX: scans of film keep their numbers and what their headers say, and networks see densities as light."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from videoclr.media.dpx import HEAD, head_of, is_log, says_more
from videoclr.media.layout import layout_of
from videoclr.media.proxy import BT709, Proxy, film_light, film_signal
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Patch

SIZE = (64, 48)
TIMECODE, FILM_RATE, SLATE, PROJECT, WHITE = 1920, 1724, 1764, 160, 792


def scan(path, depth=10, order="be", transfer=1, log=True):
    """A DPX file with film and television headers, made by FFmpeg's encoder and this test's own header."""
    light = 0.02 + 0.9 * np.random.default_rng(2).random((SIZE[1], SIZE[0], 3)) ** 2
    codes = np.rint((film_signal(light) if log else light) * 65535).astype(np.uint16)
    name = {10: f"gbrp10{order}", 12: f"gbrp12{order}", 16: f"rgb48{order}", 8: "rgb24"}[depth]
    frame = VideoFrame.from_ndarray(codes, "rgb48le").reformat(format=name)
    context = av.CodecContext.create("dpx", "w")
    context.width, context.height, context.pix_fmt, context.time_base = *SIZE, name, Fraction(1, 24)
    frame.pts = 0
    data = b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))
    sign = ">" if data[:4] == b"SDPX" else "<"
    head = bytearray(data[:1664].ljust(HEAD, b"\xff"))
    head[801:803] = bytes([transfer, 1])
    head[PROJECT : PROJECT + 8] = b"Reel 7\0\0"
    head[SLATE : SLATE + 5] = b"12/3\0"
    words = {4: HEAD, 808: HEAD, 16: HEAD + len(data) - 1664, TIMECODE: 0x01020304, FILM_RATE: 24.0, WHITE: 685}
    for place, value in words.items():
        kind = "f" if place == FILM_RATE else "I"
        head[place : place + 4] = struct.pack(sign + kind, value)
    path.write_bytes(bytes(head) + data[1664:])
    return path


def planes(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    layout = layout_of(frame.format.name)
    return [layout.view(frame, place).astype(int) for place in range(len(layout.places))]


def run(source, target, patches=(), reading=None, **options):
    with Reader(source, **(reading or {})) as reader, Writer(target, like=reader, **options) as writer:
        for frame in reader.frames():
            writer.write(frame.with_patches([patch(frame) for patch in patches]) if patches else frame)
    return writer.warnings


def darker(frame) -> Patch:
    seen = frame.image[10:30, 20:50]
    return Patch(20, 10, (seen // 2).astype(seen.dtype), np.ones((20, 30), np.float32))


@pytest.mark.parametrize(("depth", "order"), [(10, "be"), (10, "le"), (12, "be"), (16, "be"), (16, "le"), (8, "le")])
def test_a_scan_keeps_every_number_and_its_headers(tmp_path, depth, order):
    source = scan(tmp_path / "s0001.dpx", depth, order)
    assert run(tmp_path / "s%04d.dpx", tmp_path / "o%04d.dpx", [darker]) == []
    written = (tmp_path / "o0001.dpx").read_bytes()
    before, after = source.read_bytes(), written
    assert after[:4] == before[:4], "the order of bytes"
    sign = ">" if after[:4] == b"SDPX" else "<"
    assert struct.unpack(sign + "I", after[TIMECODE : TIMECODE + 4]) == (0x01020304,)
    assert struct.unpack(sign + "f", after[FILM_RATE : FILM_RATE + 4]) == (24.0,)
    assert struct.unpack(sign + "I", after[WHITE : WHITE + 4]) == (685,)
    assert struct.unpack(sign + "I", after[16:20]) == (len(after),)
    assert after[SLATE : SLATE + 4] == b"12/3" and after[PROJECT : PROJECT + 6] == b"Reel 7" and after[801] == 1
    for old, new in zip(planes(source), planes(tmp_path / "o0001.dpx"), strict=True):
        outside = np.ones(old.shape, bool)
        outside[10:30, 20:50] = False
        assert np.array_equal(old[outside], new[outside])
        assert (new[10:30, 20:50] <= old[10:30, 20:50]).all() and (new < old).mean() > 0.1


def test_an_eight_bit_picture_takes_a_head_of_the_other_order(tmp_path):
    source = scan(tmp_path / "s0001.dpx", 10, "be")
    run(tmp_path / "s%04d.dpx", tmp_path / "o%04d.dpx", pix_fmt="rgb24")
    after = (tmp_path / "o0001.dpx").read_bytes()
    assert (source.read_bytes()[:4], after[:4]) == (b"SDPX", b"XPDS")
    assert struct.unpack("<If", after[TIMECODE : TIMECODE + 4] + after[FILM_RATE : FILM_RATE + 4]) == (0x01020304, 24.0)
    assert after[WHITE : WHITE + 4] != struct.pack("<I", 685), "reference levels of ten bits are none of eight"
    assert len(planes(tmp_path / "o0001.dpx")) == 3


def test_densities_are_seen_as_light_and_video_as_it_is(tmp_path):
    with Reader(scan(tmp_path / "log.dpx")) as reader:
        picture = reader.first_picture
        assert picture.proxy == Proxy("cineon", primaries=BT709)
        light = film_light(picture.signals() / 65535)
        seen = picture.rgb() / 65535
        dark = light < 0.4
        assert np.abs(seen - (1.099 * np.maximum(light, 0.018) ** 0.45 - 0.099))[dark & (light > 0.02)].max() < 3e-3
    with Reader(tmp_path / "log.dpx", linear=False) as reader:
        assert reader.first_picture.proxy is None
    with Reader(scan(tmp_path / "video.dpx", transfer=4, log=False)) as reader:
        assert reader.first_picture.proxy is None and not is_log(reader.first_picture.head)


def test_kodak_s_codes():
    assert film_light(np.array([95, 685]) / 1023) == pytest.approx([0, 1], abs=1e-6)
    assert film_light(np.array(470 / 1023)) == pytest.approx(0.18, abs=0.01), "a card of 18 % lies at 470"
    codes = np.linspace(0.05, 1, 99)
    assert film_signal(film_light(codes)) == pytest.approx(codes, abs=1e-6)


@pytest.mark.parametrize("ending", [".exr", ".png", ".mkv"])
def test_other_files_get_light_what_is_shown_or_the_numbers_and_what_is_lost_is_told(tmp_path, ending):
    source = scan(tmp_path / "s.dpx")
    warnings = run(source, tmp_path / f"o{ending}", **({"codec": "ffv1"} if ending == ".mkv" else {}))
    assert [text for text in warnings if "what the DPX headers say of film, time and slate is left out" in text]
    with Reader(source) as one, Reader(tmp_path / f"o{ending}") as other:
        before, after = one.first_picture, other.first_picture
        if ending == ".exr":
            assert np.abs(after.signals() - film_light(before.signals() / 65535)).max() < 2e-3
        elif ending == ".png":
            assert np.array_equal(after.rgb(), before.rgb())
            assert [text for text in warnings if "holds no densities of film" in text]
        else:
            assert all(np.array_equal(*pair) for pair in zip(planes(source), planes(tmp_path / "o.mkv"), strict=True))
            assert [text for text in warnings if "densities of film stay what they are" in text]


def test_film_becomes_dpx_of_ten_bits(tmp_path, clip):
    clip("s.mkv", codec="ffv1", pix_fmt="yuv422p10le", ticks=range(2))
    assert run(tmp_path / "s.mkv", tmp_path / "o%04d.dpx") == []
    head = head_of((tmp_path / "o0002.dpx").read_bytes())
    assert (head[:4], head[803], is_log(head), says_more(head), says_more(head, clock=False)) == (b"SDPX", 10, False, True, False)
    with Reader(tmp_path / "s.mkv") as one, Reader(tmp_path / "o%04d.dpx") as other:
        for before, after in zip(one.frames(), other.frames(), strict=True):
            wrong = after.image - before.image.astype(int)
            assert np.abs(wrong).max() <= 65 and abs(wrong.mean()) < 3


@pytest.mark.parametrize("data", [b"", b"SDPX", b"SDPX" + bytes(3000), b"nothing" * 999])
def test_what_is_no_header_is_none(data):
    assert head_of(data) == b""


@pytest.mark.parametrize("deliver", ["side-by-side", "wipe"])
def test_source_and_result_in_one_picture_are_film_as_well(tmp_path, deliver):
    scan(tmp_path / "s.dpx")
    run(tmp_path / "s.dpx", tmp_path / "o.dpx", [darker], deliver=deliver)
    head = head_of((tmp_path / "o.dpx").read_bytes())
    assert is_log(head) and says_more(head)
    left = planes(tmp_path / "o.dpx")[0][:, :20]
    assert np.array_equal(left, planes(tmp_path / "s.dpx")[0][:, :20])


def test_a_matte_of_a_scan_has_its_headers_and_is_no_film(tmp_path):
    scan(tmp_path / "s.dpx", 16)
    assert run(tmp_path / "s.dpx", tmp_path / "o.dpx", [darker], deliver="matte") == []
    before, after = (head_of((tmp_path / name).read_bytes()) for name in ("s.dpx", "o.dpx"))
    assert says_more(after) and not is_log(after)
    for place, size in ((PROJECT, 8), (SLATE, 5), (TIMECODE, 4), (FILM_RATE, 4)):
        assert after[place : place + size] == before[place : place + size]
    assert after[WHITE : WHITE + 4] == b"\xff" * 4, "no code of it is the density of anything"
    with Reader(tmp_path / "o.dpx") as reader:
        matte = reader.first_picture.rgb()[..., 0]
    assert np.unique(matte).tolist() == [0, 65535] and matte[12, 25] == 65535

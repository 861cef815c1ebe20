"""HDR through a whole job: depth, tags and side data stay, and only the face's residual changes the picture."""

from __future__ import annotations

import re
from fractions import Fraction

import av
import numpy as np
import pytest

from videoclr.errors import MediaError
from videoclr.media.hdr10plus import message_of, with_message
from videoclr.media.proxy import pq_light, pq_signal
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Frame

DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR10 = f"log-level=none:hdr10=1:repeat-headers=1:master-display={DISPLAY}:max-cll=1000,400"
PQ, HLG = 16, 18
FACE = {"face": (48.0, 32.0), "size": 28.0, "light": 0.1}


def nits_picture(index: int = 0) -> np.ndarray:
    """cd/m2, `(64, 96)`: a ramp over the picture, skin of 60 with a texture in the middle, a soft highlight of 900 in it."""
    y, x = np.mgrid[0:64, 0:96]
    light = 1 + 399 * (x / 95) ** 2
    face = (x - 48) ** 2 + (y - 32) ** 2 < 26**2
    light = np.where(face, 60 + 10 * np.sin((x + index) / 3) * np.cos(y / 4), light)
    return light + 840 * np.exp(-((x - 46) ** 2 + (y - 24) ** 2) / 18)


def hdr_frame(index: int, transfer: int, pix_fmt: str) -> av.VideoFrame:
    signal = pq_signal(nits_picture(index)) if transfer == PQ else (nits_picture(index) / 1000) ** 0.4
    rgb = np.repeat((signal[..., None] * 65535).round().astype(np.uint16), 3, -1)
    # 4:2:0 of a grey picture is exact: what differs afterwards was changed.
    frame = av.VideoFrame.from_ndarray(rgb, "rgb48le").reformat(format=pix_fmt, dst_colorspace=9, dst_color_range=1)
    frame.colorspace, frame.color_trc, frame.color_primaries = 9, transfer, 9
    return frame


def make(path, *, codec="ffv1", transfer=PQ, pix_fmt="yuv420p10le", options=None, count=3):
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, transfer, 9, 1
        for index in range(count):
            frame = hdr_frame(index, transfer, pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("codec", "ending"), [("hevc", "mp4"), ("hevc", "mkv"), ("h264", "mp4"), ("av1", "mkv")])
def test_hdr10_keeps_ten_bits_tags_mastering_display_and_content_light(tmp_path, job, side_data, frames_of, codec, ending):
    source = make(tmp_path / "s.mkv", codec="libx265", options={"x265-params": HDR10})
    target = tmp_path / f"o.{ending}"
    report = job(source, target, **FACE, codec=codec, **({"preset": "10"} if codec == "av1" else {"preset": "ultrafast"}))
    assert report.warnings == []
    kinds = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
    # Of the first picture: H.264 says it at key frames.
    before, after = ([side_data(path)[0][kind] for kind in kinds] for path in (source, target))
    if codec == "av1":  # stores 16 and 18 bit fixed point: the same display, other fractions
        assert np.abs(np.array(rationals(before[0])) - np.array(rationals(after[0]))).max() < 1e-4
        assert before[1] == after[1]
    else:
        assert before == after
    frame = frames_of(target)[0]
    assert (frame.format.name, frame.color_trc, frame.color_primaries, frame.colorspace) == ("yuv420p10le", PQ, 9, 9)


def rationals(data: bytes) -> list[float]:
    numbers = np.frombuffer(data[:80], np.int32)
    return list(numbers[::2] / numbers[1::2])


def test_hlg_keeps_ten_bits_and_tags(tmp_path, job, frames_of):
    job(make(tmp_path / "s.mkv", transfer=HLG), tmp_path / "o.mp4", **FACE, codec="hevc", preset="ultrafast")
    frame = frames_of(tmp_path / "o.mp4")[0]
    assert (frame.format.name, frame.color_trc, frame.color_primaries, frame.colorspace) == ("yuv420p10le", HLG, 9, 9)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "gbrp10le", "gray10le"])
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_outside_the_face_no_bit_changes_and_inside_only_the_residual(tmp_path, job, frames_of, samples_of, transfer, pix_fmt):
    source = make(tmp_path / "s.mkv", transfer=transfer, pix_fmt=pix_fmt)
    job(source, tmp_path / "o.mkv", **FACE, codec="ffv1")
    far = np.zeros((64, 96), bool)
    far[:, :8], far[:, -8:] = True, True
    for old, new in zip(frames_of(source), frames_of(tmp_path / "o.mkv"), strict=True):
        assert new.format.name == pix_fmt
        before, after = samples_of(old), samples_of(new)
        for a, b in zip(before, after, strict=True):
            outside = far[:: 64 // a.shape[0], :: 96 // a.shape[1]]
            assert np.array_equal(a[outside], b[outside])
        assert (after[0][34:42, 44:52].astype(int) > before[0][34:42, 44:52]).all(), "the face is brighter"


def test_a_highlight_in_the_face_stays_above_white_and_skin_follows_the_restoration(tmp_path, job, frames_of, samples_of):
    source = make(tmp_path / "s.mkv")
    seen: list[np.ndarray] = []
    job(source, tmp_path / "o.mkv", **FACE, codec="ffv1", seen=seen)
    for path, low, high in ((source, 860, 940), (tmp_path / "o.mkv", 900, 1250)):
        luma = samples_of(frames_of(path)[0])[0]
        nits = pq_light((luma.astype(float) - 64) / 876)
        assert low < nits[24, 46] < high
    assert 64 < nits[40, 48] < 90, "60 cd/m2 with 0.1 more of the network's [-1, 1]"
    # The network saw a display's picture: skin in the middle tones, no pixel grey and flat as PQ is.
    proxy = seen[0].astype(float) / 255
    assert 0.55 < proxy[40, 48].mean() < 0.7
    assert proxy[24, 46].mean() > 0.95


def test_the_restorer_unchanged_changes_nothing_that_counts(tmp_path, job, frames_of, samples_of):
    source = make(tmp_path / "s.mkv")
    job(source, tmp_path / "o.mkv", face=(48.0, 32.0), size=28.0, codec="ffv1")
    for old, new in zip(frames_of(source), frames_of(tmp_path / "o.mkv"), strict=True):
        for a, b in zip(samples_of(old), samples_of(new), strict=True):
            # The crop is resampled twice; the detail that it lost comes back from the frame.
            assert np.abs(a.astype(int) - b).max() <= 12
            assert np.abs(a.astype(int) - b).mean() < 0.5


def test_hdr10_metadata_that_a_codec_cannot_hold_is_told(tmp_path, job):
    source = make(tmp_path / "s.mkv", codec="libx265", options={"x265-params": HDR10})
    for codec, ending in (("ffv1", "mkv"), ("vp9", "webm")):
        report = job(source, tmp_path / f"o.{ending}", codec=codec)
        assert [text for text in report.warnings if "HDR10 mastering metadata is lost" in text]


def test_images_that_somebody_changes_come_back_as_hdr(tmp_path, frames_of, samples_of):
    source = make(tmp_path / "s.mkv", pix_fmt="yuv444p10le")
    with Reader(source) as reader, Writer(tmp_path / "o.mkv", like=reader, codec="ffv1") as writer:
        for frame in reader.frames():
            writer.write(Frame.from_image(frame.image, frame.index, frame.time))
    for old, new in zip(frames_of(source), frames_of(tmp_path / "o.mkv"), strict=True):
        assert (new.color_trc, new.colorspace, new.format.name) == (PQ, 9, old.format.name)
        assert np.abs(samples_of(old)[0].astype(int) - samples_of(new)[0]).max() <= 6


def test_a_png_of_hdr_says_so_and_a_jpeg_is_tone_mapped(tmp_path, job, frames_of):
    source = make(tmp_path / "s.mkv", count=1)
    job(source, tmp_path / "a%d.png")
    assert b"cICP\x09\x10\x00\x01" in (tmp_path / "a1.png").read_bytes()
    report = job(source, tmp_path / "b%d.jpg")
    assert any("tone-mapped" in text for text in report.warnings)
    (jpeg,) = frames_of(tmp_path / "b1.jpg")
    assert 150 < jpeg.to_ndarray(format="rgb24")[40, 48].mean() < 172, "skin of 60 cd/m2 on a display of gamma 2.4"


# -- Dolby Vision ---------------------------------------------------------------------------------------------------


class Bits:
    """A writer of bits, most significant first."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, width: int, *values: int) -> None:
        self.text += "".join(f"{value & ((1 << width) - 1):0{width}b}" for value in values)

    def ue(self, *values: int) -> None:
        """Exp-Golomb codes."""
        for value in values:
            code = f"{value + 1:b}"
            self.text += "0" * (len(code) - 1) + code

    def align(self) -> None:
        self.text += "0" * (-len(self.text) % 8)

    def data(self) -> bytes:
        self.align()
        return int(self.text, 2).to_bytes(len(self.text) // 8, "big")


def checksum(data: bytes) -> bytes:
    """CRC-32/MPEG-2."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value.to_bytes(4, "big")


def rpu(average: int, *, profile: int = 8) -> bytes:
    """A reference processing unit: an identity mapping, and the level 1 block with a scene's average."""
    bits = Bits()
    bits.u(6, 2), bits.u(11, 0), bits.u(4, 0 if profile == 5 else 1), bits.u(4, 0), bits.u(1, 1)
    bits.u(1, 0), bits.u(2, 0), bits.ue(23), bits.u(2, 1), bits.u(1, profile == 5)
    bits.ue(2, 2, 4)
    bits.u(1, 0), bits.u(3, 0), bits.u(1, 0), bits.u(1, profile != 7)
    bits.u(1, 1, 0)
    bits.ue(0, 0, 0)
    for _ in range(3):
        bits.ue(0), bits.u(10, 0, 1023)
    if profile == 7:
        bits.u(3, 0)
        bits.u(10, 0, 1023)
    bits.ue(0, 0)
    for _ in range(3):
        bits.ue(0, 0), bits.u(1, 0)
        bits.ue(0), bits.u(23, 0), bits.ue(1), bits.u(23, 0)
    if profile == 7:
        for _ in range(3):
            bits.u(10, 0)
            for _ in range(3):
                bits.ue(0), bits.u(23, 0)
    bits.ue(0, 0, 1)
    bits.u(16, 9574, 0, 13802, 9574, -1540, -5348, 9574, 17610, 0)
    bits.u(32, 16777216, 134217728, 134217728)
    bits.u(16, 7222, 8771, 390, 2654, 12430, 1300, 0, 422, 15962)
    bits.u(16, 65535, 0, 0), bits.u(32, 0), bits.u(5, 12), bits.u(2, 0, 0, 1), bits.u(12, 7, 3079), bits.u(10, 42)
    bits.ue(1)
    bits.align()
    bits.ue(5), bits.u(8, 1), bits.u(12, 0, 3000, average), bits.u(4, 0)
    body = bits.data()
    return b"\x19" + body + checksum(body) + b"\x80"


def nal_unit(header: bytes, body: bytes) -> bytes:
    """Annex B, with emulation prevention."""
    out, zeros = bytearray(), 0
    for byte in body:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = 0 if byte else zeros + 1
    return b"\0\0\0\1" + header + bytes(out)


def dolby(path, *, profile=8, transfer=PQ, count=3):
    """A raw HEVC stream whose every picture ends with an RPU."""
    context = av.CodecContext.create("libx265", "w")
    context.width, context.height, context.pix_fmt = 96, 64, "yuv420p10le"
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, transfer, 9, 1
    context.options = {"preset": "ultrafast", "bf": "0", "x265-params": HDR10 if transfer == PQ else "log-level=none"}
    packets = []
    for index in range(count):
        frame = hdr_frame(index, transfer, "yuv420p10le")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        packets += context.encode(frame)
    packets += context.encode(None)
    units = (bytes(p) + nal_unit(b"\x7c\x01", rpu(1000 + 50 * index, profile=profile)) for index, p in enumerate(packets))
    path.write_bytes(b"".join(units))
    return path


@pytest.mark.parametrize(("transfer", "ending"), [(PQ, "mp4"), (PQ, "mkv"), (HLG, "mp4")])
def test_dolby_vision_of_profile_8_goes_through_hevc_picture_by_picture(tmp_path, job, side_data, transfer, ending):
    source, target = dolby(tmp_path / "s.hevc", transfer=transfer), tmp_path / f"o.{ending}"
    report = job(source, target, **FACE, codec="hevc", preset="ultrafast")
    assert not [text for text in report.warnings if "Dolby" in text]
    for before, after in zip(side_data(source), side_data(target), strict=True):
        assert after["DOVI_RPU_BUFFER"] == before["DOVI_RPU_BUFFER"]
    assert len({frame["DOVI_RPU_BUFFER"] for frame in side_data(target)}) == 3, "each picture has its own"
    assert b"dvvC" in target.read_bytes(), "and the container names the profile"


@pytest.mark.parametrize(("profile", "codec"), [(8, "h264"), (8, "ffv1"), (7, "hevc")])
def test_dolby_vision_that_cannot_be_kept_leaves_no_trace_and_is_told(tmp_path, job, side_data, profile, codec):
    target = tmp_path / "o.mkv"
    report = job(dolby(tmp_path / "s.hevc", profile=profile), target, **FACE, codec=codec)
    assert [text for text in report.warnings if f"Dolby Vision metadata (profile {profile}) is left out" in text]
    assert not [kind for frame in side_data(target) for kind in frame if kind.startswith("DOVI")]
    data = target.read_bytes()
    assert b"dvvC" not in data
    assert b"dvcC" not in data


def test_dolby_vision_of_profile_5_is_refused_in_one_line(tmp_path, job):
    with pytest.raises(MediaError, match=r"profile 5.*convert it") as caught:
        job(dolby(tmp_path / "s.hevc", profile=5), tmp_path / "o.mp4", codec="hevc")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s.hevc"]


# -- HDR10+ ---------------------------------------------------------------------------------------------------------------


def plain_message(index: int) -> bytes:
    """ITU-T T.35 of one window, as a disc has it: percentiles and a curve."""
    bits = Bits()
    bits.u(8, 0xB5), bits.u(16, 0x3C, 1), bits.u(8, 4, 1)
    bits.u(2, 1), bits.u(27, 400 + index), bits.u(1, 0)
    bits.u(17, 10000 + index, 20000, 30000, 5000 + index), bits.u(4, 9)
    for number, percentage in enumerate((1, 5, 10, 25, 50, 75, 90, 95, 99)):
        bits.u(7, percentage), bits.u(17, 1000 * number + index)
    bits.u(10, 37), bits.u(1, 0)
    bits.u(1, 1), bits.u(12, 100, 200 + index), bits.u(4, 9), bits.u(10, *(100 * place for place in range(1, 10)))
    bits.u(1, 0)
    return bits.data()


def full_message(index: int) -> bytes:
    """Everything that the syntax has: three windows with ellipses, both tables of peaks, colour saturation."""
    bits = Bits()
    bits.u(8, 0xB5), bits.u(16, 0x3C, 1), bits.u(8, 4, 0)
    bits.u(2, 3)
    for window in (1, 2):
        bits.u(16, window, 2, 90, 60, 48, 32), bits.u(8, 45 + window), bits.u(16, 10, 20, 30), bits.u(1, window - 1)
    bits.u(27, 10000), bits.u(1, 1), bits.u(5, 2, 3), bits.u(4, 0, 1, 2, 3, 14, 15)
    for window in range(3):
        bits.u(17, 0, 1, 100000, 7 * index), bits.u(4, window)
        for place in range(window):
            bits.u(7, 50 + place), bits.u(17, 99999 - index)
        bits.u(10, 1000)
    bits.u(1, 1), bits.u(5, 25, 2), bits.u(4, *(place % 16 for place in range(50)))
    for window in range(3):
        bits.u(1, window % 2)
        if window % 2:
            bits.u(12, 4095, 0), bits.u(4, 2), bits.u(10, 1023, 512)
        bits.u(1, 1), bits.u(6, 63 - window)
    return bits.data()


def with_messages(path, message, count=6, dolby_vision=False):
    """A raw HEVC stream whose pictures carry `message(index)` in a message of supplemental information before their slices."""
    source = dolby(path, count=count)
    units = re.split(rb"\x00?\x00\x00\x01", source.read_bytes())[1:]
    out, index = b"", 0
    for unit in units:
        kind = unit[0] >> 1 & 63
        if kind < 32:  # a slice; each picture has one
            data = message(index)
            size = bytes([255] * (len(data) // 255) + [len(data) % 255])
            out += nal_unit(b"\x4e\x01", b"\x04" + size + data + b"\x80")
            index += 1
        if dolby_vision or kind != 62:
            out += b"\0\0\0\1" + unit
    assert index == count
    path.write_bytes(out)
    return path


def dynamic(frames: list[dict[str, bytes]]) -> list[bytes | None]:
    return [frame.get("DYNAMIC_HDR_PLUS") for frame in frames]


@pytest.mark.parametrize(
    ("codec", "ending", "preset"),
    [("hevc", "mp4", "medium"), ("hevc", "mkv", "ultrafast"), ("av1", "mkv", "10"), ("av1", "mp4", "10")],
)
def test_hdr10_plus_goes_through_picture_by_picture(tmp_path, job, side_data, codec, ending, preset):
    source, target = with_messages(tmp_path / "s.hevc", plain_message), tmp_path / f"o.{ending}"
    report = job(source, target, **FACE, codec=codec, preset=preset)
    assert report.warnings == []
    before = dynamic(side_data(source))
    assert len(set(before)) == 6, "each picture has its own"
    assert None not in before
    assert dynamic(side_data(target)) == before
    for index in range(6):
        message = plain_message(index)
        assert target.read_bytes().count(message if codec == "av1" else nal_unit(b"", message)[4:]) == 1, "to the bit"


def test_hdr10_plus_of_every_part_of_its_syntax_is_said_again_to_the_bit(tmp_path, frames_of):
    frames = frames_of(with_messages(tmp_path / "s.hevc", full_message, 3))
    assert [message_of(frame) for frame in frames] == [full_message(index) for index in range(3)]


def test_hdr10_plus_and_dolby_vision_of_one_film_both_stay(tmp_path, job, side_data):
    source, target = with_messages(tmp_path / "s.hevc", full_message, dolby_vision=True), tmp_path / "o.mp4"
    job(source, target, **FACE, codec="hevc", preset="ultrafast")
    for before, after in zip(side_data(source), side_data(target), strict=True):
        for kind in ("DOVI_RPU_BUFFER", "DYNAMIC_HDR_PLUS", "MASTERING_DISPLAY_METADATA"):
            assert after[kind] == before[kind]


@pytest.mark.parametrize("settings", [{"codec": "ffv1"}, {"codec": "h264"}, {"codec": "hevc", "pix_fmt": "yuv420p"}])
def test_hdr10_plus_that_cannot_be_kept_is_told(tmp_path, job, side_data, settings):
    report = job(with_messages(tmp_path / "s.hevc", plain_message, 3), tmp_path / "o.mkv", **settings)
    assert [text for text in report.warnings if "HDR10+ metadata is left out: the codecs hevc and av1" in text]
    assert dynamic(side_data(tmp_path / "o.mkv")) == [None] * 3


def test_pictures_that_lost_their_hdr10_plus_on_the_way_are_told(tmp_path):
    source, target = with_messages(tmp_path / "s.hevc", plain_message, 3), tmp_path / "o.mkv"
    with Reader(source) as reader, Writer(target, like=reader, codec="hevc", preset="ultrafast") as writer:
        for frame in reader.frames():
            writer.write(frame if frame.index != 1 else Frame.from_image(frame.image, frame.index, frame.time))
    assert [text for text in writer.warnings if "some pictures have no HDR10+ metadata" in text]
    data = target.read_bytes()
    assert [nal_unit(b"", plain_message(index))[4:] in data for index in range(3)] == [True, False, True]


def test_a_message_stands_behind_the_headers_of_a_packet():
    made = with_message(b"\x12\x00" + b"\x0a\x01A" + b"\x32\x01B", b"M" * 200, "libsvtav1")
    assert made == b"\x12\x00" + b"\x0a\x01A" + b"\x2a\xca\x01\x04" + b"M" * 200 + b"\x80" + b"\x32\x01B"
    made = with_message(b"\0\0\0\1\x40\x01V\0\0\1\x02\x01S", b"\0\0\1" + b"M" * 252, "libx265")
    assert made == b"\0\0\0\1\x40\x01V" + b"\0\0\0\1\x4e\x01\x04\xff\x00\0\3\0\1" + b"M" * 252 + b"\x80" + b"\0\0\1\x02\x01S"

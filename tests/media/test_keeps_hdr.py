"""HDR through a whole job: depth, tags and side data stay, and only the face's residual changes the picture."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from videoclr.errors import MediaError
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

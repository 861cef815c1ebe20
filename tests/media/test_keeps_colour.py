"""Colour through a whole job: formats, ranges, matrices, depths and transparency stay, and so does every untouched bit."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from videoclr.media import exr
from videoclr.media.headers import siting_of
from videoclr.media.layout import layout_of
from videoclr.media.picture import Picture
from videoclr.media.proxy import PRIMARIES
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Patch

SIZE = (96, 64)
FACE = {"face": (48.0, 32.0), "size": 26.0, "light": 0.3}
TAGS = {
    "bt601-525": (6, 6, 6), "bt601-625": (5, 5, 5), "bt709": (1, 1, 1), "bt2020": (9, 14, 9), "smpte240m": (7, 7, 7),
    "display p3": (12, 13, 1), "untagged": (2, 2, 2),
}  # fmt: skip
"""Name -> primaries, transfer, matrix by FFmpeg's numbers."""
FORMATS = [
    "yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv422p12le", "yuv444p12le",
    "gray", "gray10le", "gray12le", "gbrp", "gbrp10le", "gbrp12le", "bgra", "yuva420p", "yuva444p10le", "yuva444p12le", "nv12",
    "yuv411p", "yuv440p", "yuvj420p",
]  # fmt: skip


def noise_frame(pix_fmt: str, index: int = 0) -> VideoFrame:
    """Smooth planes with noise, with the lowest and the highest code values among them: what a range clips would show."""
    rng = np.random.default_rng(index)
    frame = VideoFrame(*SIZE, pix_fmt)
    layout = layout_of(pix_fmt)
    for plane in frame.planes:
        plane.update(bytes(rng.integers(0, 256, plane.buffer_size, np.uint8)) if "a" in pix_fmt else bytes(plane.buffer_size))
    for component in range(len(layout.places)):
        view = layout.view(frame, component)
        top = (1 << layout.depth) - 1
        values = top * (0.3 + 0.4 * np.linspace(0, 1, view.shape[1])[None, :]) + rng.normal(0, top / 50, view.shape)
        values[0, :8], values[1, :8] = 0, top
        view[:] = np.clip(np.rint(values), 0, top).astype(view.dtype) << layout.shift
    for component in alpha_of(frame):
        component[:] = rng.integers(0, 1 << min(layout.depth, 16), component.shape)
    return frame


def alpha_of(frame: VideoFrame) -> list[np.ndarray]:
    """The planar alpha of a frame, writable; empty where it has none."""
    if not frame.format.name.startswith(("yuva", "gbra")):
        return []
    plane = frame.planes[3]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    wide = frame.format.components[3].bits > 8
    return [(rows.view("<u2") if wide else rows)[:, : plane.width]]


def make(path, pix_fmt, *, codec="ffv1", tags="bt709", full=None, count=2, options=None):
    primaries, transfer, matrix = TAGS[tags] if isinstance(tags, str) else tags
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = primaries, transfer, matrix
        context.color_range = 0 if full is None else 2 if full else 1
        for index in range(count):
            frame = noise_frame(pix_fmt, index)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.color_range = context.color_range
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def tags_of(frame: VideoFrame) -> tuple[int, ...]:
    return frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range


def meaning(frame: VideoFrame) -> tuple[object, ...]:
    """What the numbers of a picture are taken for: kind, luma weights, and whether the range is full."""
    colour = Picture(frame).colour
    weights = (colour.matrix.kr, colour.matrix.kb) if colour.kind == "yuv" else (0, 0)
    return colour.kind, *weights, colour.full


def shown(frame: VideoFrame) -> np.ndarray:
    """RGB 0..255 as a viewer sees it."""
    rgb = Picture(frame).rgb()
    return rgb * (255 / np.iinfo(rgb.dtype).max)


def ffv1_formats() -> list[str]:
    return [one.name for one in av.Codec("ffv1", "w").video_formats]


@pytest.mark.parametrize("pix_fmt", [name for name in FORMATS if name in ffv1_formats()])
def test_every_format_goes_through_bit_by_bit_and_a_face_changes_only_its_place(tmp_path, job, frames_of, samples_of, pix_fmt):
    source = make(tmp_path / "s.mkv", pix_fmt)
    assert job(source, tmp_path / "o.mkv", codec="ffv1").warnings == []
    assert job(source, tmp_path / "f.mkv", codec="ffv1", **FACE).warnings == []
    for old, new, faced in zip(*map(frames_of, (source, tmp_path / "o.mkv", tmp_path / "f.mkv")), strict=True):
        assert old.format.name == new.format.name == faced.format.name == pix_fmt
        assert tags_of(old)[:2] == tags_of(new)[:2] == tags_of(faced)[:2]
        assert meaning(old) == meaning(new) == meaning(faced)
        for a, b, c in zip(*map(samples_of, (old, new, faced)), strict=True):
            assert np.array_equal(a, b)
            far = np.ones(a.shape, bool)
            far[a.shape[0] // 8 : -a.shape[0] // 8, a.shape[1] // 8 : -a.shape[1] // 8] = False
            assert np.array_equal(a[far], c[far])
        assert (samples_of(old)[0] != samples_of(faced)[0]).sum() > 300
        for a, b in zip(alpha_of(old), alpha_of(faced), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("ending", ["mkv", "mov"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("tags", TAGS)
def test_matrix_primaries_transfer_and_range_stay_in_every_codec(tmp_path, job, frames_of, tags, full, ending):
    source = make(tmp_path / "s.mkv", "yuv420p", tags=tags, full=full)
    (before, *_) = frames_of(source)
    for codec in ("h264", "hevc", "ffv1") if ending == "mkv" else ("h264", "prores"):
        job(source, tmp_path / f"{codec}.{ending}", codec=codec, **({} if codec in ("ffv1", "prores") else {"preset": "ultrafast"}))
        (after, *_) = frames_of(tmp_path / f"{codec}.{ending}")
        assert tags_of(after)[:2] == tags_of(before)[:2], codec
        # Matrix and range may be said or be the default; what counts is what they are taken for.
        assert meaning(after) == (*meaning(before)[:3], full and codec != "prores"), codec
        assert np.abs(shown(after) - shown(before)).mean() < 12, codec


CHART = [(r, g, b) for top in (191, 255) for r in (0, top) for g in (0, top) for b in (0, top)]
"""Bars of 75 and 100 %, RGB."""


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("tags", ["bt601-525", "bt601-625", "bt709", "bt2020"])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", pytest.param("yuv422p10le", marks=pytest.mark.slow), "yuv420p12le"])
def test_a_colour_chart_is_understood_and_stays_within_one_code_value(tmp_path, job, frames_of, samples_of, tags, full, pix_fmt):
    """A colour in each picture, and a face in its middle that the restorer `unchanged` gives back."""
    path = tmp_path / "s.mkv"
    primaries, transfer, matrix = TAGS[tags]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = primaries, transfer, matrix
        context.color_range = 2 if full else 1
        for index, colour in enumerate(CHART):
            frame = VideoFrame.from_ndarray(np.full((64, 96, 3), colour, np.uint8), "rgb24").reformat(
                format=pix_fmt, dst_colorspace={6: 5}.get(matrix, matrix), dst_color_range=context.color_range
            )
            frame.pts, frame.time_base, frame.color_range = index, Fraction(1, 25), context.color_range
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    job(path, tmp_path / "o.mkv", codec="ffv1", face=(48.0, 32.0), size=26.0)
    assert max(np.abs(shown(frame) - colour).max() for frame, colour in zip(frames_of(path), CHART, strict=True)) < 4
    for old, new in zip(frames_of(path), frames_of(tmp_path / "o.mkv"), strict=True):
        for a, b in zip(samples_of(old), samples_of(new), strict=True):
            depth = 1 << (old.format.components[0].bits - 8)
            assert np.abs(a.astype(int) - b).max() <= depth


def test_dnxhr_is_written_in_the_matrix_that_its_header_names(tmp_path):
    source, target = tmp_path / "s.mkv", tmp_path / "o.mov"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 128, "yuv422p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1
        frame = VideoFrame.from_ndarray(np.full((128, 256, 3), (200, 40, 60), np.uint8), "rgb24")
        frame = frame.reformat(format="yuv422p", dst_colorspace=5, dst_color_range=1)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        out.mux([*stream.encode(frame), *stream.encode(None)])
    with Reader(source) as reader, Writer(target, like=reader, codec="dnxhr") as writer:
        (before,) = reader.frames()
        writer.write(before)
    assert [text for text in writer.warnings if "bt601 is written as bt709" in text]
    with Reader(target) as reader:
        (after,) = reader.frames()
        assert reader.info.matrix == "bt709"
    assert np.abs(after.image.astype(int) - before.image).max() <= 4


def test_prores_4444_keeps_its_transparency(tmp_path, job, frames_of):
    source = make(tmp_path / "s.mov", "yuva444p10le", codec="prores_ks", options={"profile": "4444", "alpha_bits": "16"})
    report = job(source, tmp_path / "o.mov", codec="prores", **FACE)
    # FFmpeg decodes 4444 to 12 bits and encodes it from 10.
    assert report.warnings == ["yuva444p12le is written as yuva444p10le: less bit depth"]
    before, after = frames_of(source)[0], frames_of(tmp_path / "o.mov")[0]
    assert after.format.name == before.format.name
    assert after.format.name.startswith("yuva444p")
    assert np.abs(alpha_of(before)[0].astype(int) - alpha_of(after)[0]).max() <= 4, "of 4095"


@pytest.mark.parametrize(
    ("tags", "name"), [("display p3", "p3"), ((9, 16, 9), "bt2020"), ((2, 18, 9), "bt2020"), ("bt709", None), ("untagged", None)]
)
@pytest.mark.parametrize("deliver", ["video", "overlay", "matte"])
def test_an_exr_says_which_primaries_the_video_has(tmp_path, job, tags, name, deliver):
    source = make(tmp_path / "s.mkv", "yuv420p10le", tags=tags, count=1)
    report = job(source, tmp_path / "o.exr", deliver=deliver, **FACE)
    assert report.warnings == []
    said = exr.primaries(exr.head_of((tmp_path / "o.exr").read_bytes()))
    if name is None or deliver == "matte":
        assert said is None
    else:
        assert np.allclose(said, PRIMARIES[name], atol=1e-6)
    with Reader(tmp_path / "o.exr") as reader:
        assert np.isfinite(reader.first_picture.signals()).all()


@pytest.mark.parametrize("tags", ["display p3", "bt2020"])
def test_pictures_that_cannot_say_their_primaries_tell_so(tmp_path, job, tags):
    source = make(tmp_path / "s.mkv", "yuv420p", tags=tags, count=1)
    assert job(source, tmp_path / "o.png").warnings == []
    with Reader(tmp_path / "o.png") as reader:
        assert reader.first_picture.frame.color_primaries == TAGS[tags][0]
    for ending in ("jpg", "tif", "webp", "bmp"):
        report = job(source, tmp_path / f"o.{ending}")
        assert len([text for text in report.warnings if "primaries" in text]) == 1, ending
        assert not job(source, tmp_path / f"m.{ending}", deliver="matte").warnings, "a matte has no colour"


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "exr"])
@pytest.mark.parametrize("pix_fmt", ["yuva420p", "yuva422p10le", "yuva444p12le"])
def test_the_transparency_of_videos_goes_into_pictures(tmp_path, job, frames_of, pix_fmt, ending):
    source = make(tmp_path / "s.mkv", pix_fmt)
    job(source, tmp_path / f"o%d.{ending}", **FACE)
    (before,), (after, *_) = alpha_of(frames_of(source)[0]), frames_of(tmp_path / f"o1.{ending}")
    if ending == "exr":
        rows = np.frombuffer(memoryview(after.planes[3]), np.float16).reshape(after.height, -1)[:, : after.width]
        opacity = rows.astype(float)
    elif ending == "webp":
        opacity = alpha_of(after)[0] / 255
    else:
        opacity = after.to_ndarray(format="rgba64le")[..., 3] / 65535
    top = (1 << alpha_bits(pix_fmt)) - 1
    assert np.ptp(before) > top / 2
    assert np.abs(opacity - before / top).max() < 0.012, "three of 255: FFmpeg dithers what becomes 8 bits"


def alpha_bits(pix_fmt: str) -> int:
    """Bits of the alpha of a pixel format."""
    return next(part.bits for part in VideoFormat(pix_fmt).components if part.is_alpha)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("s.mov", "prores_ks", "yuva444p10le"), ("s.mkv", "ffv1", "yuva420p10le"), ("s.mkv", "ffv1", "yuva422p")],
)
def test_every_transparency_goes_into_vp9(tmp_path, job, frames_of, name, codec, pix_fmt):
    source = make(tmp_path / name, pix_fmt, codec=codec)
    report = job(source, tmp_path / "o.webm", codec="vp9", crf=4)
    assert not [text for text in report.warnings if "transparency" in text]
    report = job(tmp_path / "o.webm", tmp_path / "again.webm", codec="vp9", crf=4)
    opacity = []
    for path in (source, tmp_path / "o.webm", tmp_path / "again.webm"):
        with Reader(path) as reader:
            frame = next(reader.frames()).native.frame
        opacity.append(frame.reformat(format="rgba").to_ndarray()[..., 3].astype(float))
    assert np.ptp(opacity[0]) > 50
    assert np.abs(opacity[1] - opacity[0]).mean() < 3 and np.abs(opacity[2] - opacity[0]).mean() < 3
    report = job(source, tmp_path / "o.mp4", codec="vp9")
    assert [text for text in report.warnings if "less transparency" in text]


def test_vp9_keeps_its_transparency(tmp_path, job, frames_of):
    source = make(tmp_path / "s.webm", "yuva420p", codec="libvpx-vp9", options={"crf": "4", "b": "0"})
    report = job(source, tmp_path / "o.webm", codec="vp9", crf=4, **FACE)
    assert report.warnings == []
    assert alpha_in_webm(tmp_path / "o.webm"), "the stream has a second, alpha layer"
    assert np.abs(alpha_in_webm(source)[0].astype(int) - alpha_in_webm(tmp_path / "o.webm")[0]).mean() < 12


def alpha_in_webm(path) -> list[np.ndarray]:
    """Decoded by libvpx, since FFmpeg's own VP9 decoder drops the alpha layer."""
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return [alpha[0].copy() for packet in packets for frame in decoder.decode(packet) if (alpha := alpha_of(frame))]


def test_what_a_codec_cannot_hold_is_told(tmp_path, job, frames_of):
    deep = make(tmp_path / "d.mkv", "yuv422p12le")
    report = job(deep, tmp_path / "d.mp4", preset="ultrafast")
    assert report.warnings == ["yuv422p12le is written as yuv422p10le: less bit depth"]
    clear = make(tmp_path / "c.mkv", "yuva444p10le")
    for codec in ("h264", "hevc"):
        report = job(clear, tmp_path / f"{codec}.mp4", codec=codec, preset="ultrafast")
        assert report.warnings == ["yuva444p10le is written as yuv444p10le: less transparency"]


@pytest.mark.parametrize(
    ("ending", "codec", "lost"),
    [
        ("nut", "ffv1", "primaries bt2020, transfer smpte2084, matrix bt2020"),
        ("avi", "ffv1", "primaries bt2020, transfer smpte2084, matrix bt2020"),
        ("nut", "rawvideo", "primaries bt2020, transfer smpte2084, matrix bt2020"),
        ("avi", "mjpeg", "primaries bt2020, transfer smpte2084"),
        ("nut", "vp9", "primaries bt2020, transfer smpte2084"),
        ("mkv", "ffv1", None),
        ("nut", "hevc", None),
        ("mov", "mjpeg", None),
    ],
)
def test_colour_tags_that_stand_nowhere_are_told(tmp_path, job, frames_of, ending, codec, lost):
    report = job(make(tmp_path / "s.mkv", "yuv420p10le", tags=(9, 16, 9)), tmp_path / f"o.{ending}", codec=codec)
    (after, *_) = frames_of(tmp_path / f"o.{ending}")
    told = [text for text in report.warnings if "keeps no colour tags" in text]
    if lost is None:
        assert told == []
        assert (after.color_primaries, after.color_trc) == (9, 16)
    else:
        assert len(told) == 1 and told[0].endswith(f": {lost} is said nowhere in the file; mkv does")
        assert (after.color_primaries, after.color_trc) == (2, 2)


def test_colour_tags_of_what_untagged_pictures_are_taken_for_are_no_loss(tmp_path, job):
    source = make(tmp_path / "s.mkv", "yuv420p", tags="bt601-525")
    assert not [text for text in job(source, tmp_path / "o.nut", codec="ffv1").warnings if "colour" in text]


def sited(path) -> str:
    with av.open(str(path)) as container:
        return siting_of(container.streams.video[0])


@pytest.mark.parametrize("where", ["topleft", "center", "left"])
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("o.mp4", {"codec": "h264"}), ("o.mkv", {"codec": "hevc"}), ("o.ts", {"codec": "copy-like"}), ("o.mkv", {"codec": "ffv1"}),
        ("o.webm", {"codec": "vp9"}), ("o.y4m", {}), ("o.mp4", {"smart_copy": True}),
    ],
)  # fmt: skip
def test_where_chroma_lies_beside_luma_stays(clip, tmp_path, where, target, options):
    source = clip("s.mp4", ticks=range(3), options={"chroma_sample_location": where})
    assert sited(source) == where
    with Reader(source) as reader, Writer(tmp_path / target, like=reader, **options) as writer:
        for frame in reader.frames():  # every picture is encoded anew, with smart copy too
            writer.write(frame.with_patches([Patch(10, 10, np.zeros((9, 9, 3), np.uint8), np.ones((9, 9), np.float32))]))
    if target.endswith(".y4m"):
        assert {"topleft": b" C420paldv ", "center": b" C420jpeg ", "left": b" C420mpeg2 "}[where] in (
            tmp_path / target
        ).read_bytes()
    else:
        assert sited(tmp_path / target) == where
    assert writer.warnings == []


@pytest.mark.parametrize(("word", "where"), [(b"420mpeg2", "left"), (b"420jpeg", "center"), (b"420paldv", "topleft")])
def test_where_chroma_lies_in_y4m_stays(tmp_path, word, where):
    source = tmp_path / "s.y4m"
    source.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 C" + word + b"\n" + (b"FRAME\n" + bytes(64 * 48 * 3 // 2)) * 2)
    for target in ("o.y4m", "o.mkv"):
        with Reader(source) as reader, Writer(tmp_path / target, like=reader) as writer:
            assert reader.siting == where
            for frame in reader.frames():
                writer.write(frame)
        assert sited(tmp_path / target) == where


def test_where_chroma_lies_is_told_where_nothing_can_say_it(clip, tmp_path):
    source = clip("s.mp4", ticks=range(3), options={"chroma_sample_location": "topleft"})
    for target, options, told in (
        ("o.mp4", {"codec": "av1", "preset": "12"}, 0), ("o.mp4", {"codec": "vp9"}, 1), ("o.mov", {"codec": "prores"}, 0),
        ("m.mp4", {"deliver": "matte"}, 0),
    ):  # fmt: skip
        with Reader(source) as reader, Writer(tmp_path / target, like=reader, overwrite=True, **options) as writer:
            for frame in reader.frames():
                writer.write(frame)
        said = f"nothing in this {target[2:]} file says that samples of chroma lie at the top left of luma"
        assert [said in text for text in writer.warnings if "chroma lie" in text] == [True] * told, target


@pytest.mark.parametrize(("pix_fmt", "codec"), [("gray", "h264"), ("gray", "hevc"), ("gray10le", "h264"), ("gray10le", "hevc")])
def test_grey_stays_grey(tmp_path, job, frames_of, samples_of, pix_fmt, codec):
    source = make(tmp_path / "s.mkv", pix_fmt, full=False)
    report = job(source, tmp_path / "o.mp4", codec=codec, crf=1, preset="ultrafast", **FACE)
    assert report.warnings == []
    old, new = frames_of(source)[0], frames_of(tmp_path / "o.mp4")[0]
    if codec == "hevc":
        assert new.format.name == pix_fmt
    else:  # FFmpeg decodes monochrome H.264 with a neutral chroma
        assert all((chroma == chroma[0, 0]).all() for chroma in samples_of(new)[1:])
    step = 1 if pix_fmt == "gray" else 4
    assert np.abs(samples_of(old)[0][:8].astype(int) - samples_of(new)[0][:8]).mean() < 2 * step

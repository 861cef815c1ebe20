"""Geometry through a whole job: turned, mirrored, squeezed, odd, cropped, tiny and huge pictures."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError
from videoclr.media.boxes import Amendments, amend
from videoclr.media.crop import Crop
from videoclr.media.headers import crop_of
from videoclr.media.layout import layout_of
from videoclr.media.matroska import Look, write_look
from videoclr.media.orientation import Orientation
from videoclr.media.picture import Picture, turned
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Frame

ONE = 1 << 16
MATRICES = {
    "upright": (1, 0, 0, 1), "90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1), "mirrored 90": (0, 1, 1, 0), "mirrored 180": (1, 0, 0, -1), "mirrored 270": (0, -1, -1, 0),
}  # fmt: skip
"""Name -> a, b, c, d of the display matrix: a stored point (p, q) is shown at (a p + c q, b p + d q)."""


def scene(width: int, height: int) -> np.ndarray:
    """Grey, with a bright mark in the top left quarter and a middle one at the left of the bottom: no turn looks alike."""
    image = np.full((height, width), 90, np.uint8)
    image[height // 8 : height // 3, width // 8 : width // 3] = 220
    image[height * 3 // 4 :, : width // 4] = 150
    return image


def stored(shown: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """The picture as a camera stores it, by the definition of the matrix, sample by sample."""
    a, b, c, d = matrix
    height, width = shown.shape
    size = (width, height) if a else (height, width)
    p, q = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    x, y = a * p + c * q, b * p + d * q
    return shown[y - y.min(), x - x.min()]


def make(path, image, *, codec="libx264", pix_fmt="yuv420p", matrix=None, aspect=None, count=2):
    options = {"preset": "ultrafast", "qp": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = image.shape
        stream.pix_fmt = pix_fmt
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix:
            a, b, c, d = (value * ONE for value in matrix)
            stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        for index in range(count):
            frame = VideoFrame(stream.width, stream.height, "gray")
            rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(stream.height, -1)
            rows[:, : stream.width] = image
            frame.color_range = 2
            frame = frame.reformat(format=pix_fmt, src_color_range=2, dst_color_range=2 if pix_fmt == "gray" else 1)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def shown(path) -> np.ndarray:
    with Reader(path) as reader:
        return reader.first_picture.rgb()[..., 1]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("name", MATRICES)
def test_turned_pictures_are_upright_for_the_detector_and_stay_turned(tmp_path, job, frames_of, side_data, name, ending):
    matrix, upright = MATRICES[name], scene(96, 64)
    laid = stored(upright, matrix)
    source, seen = make(tmp_path / "s.mp4", laid, matrix=matrix), []
    target = tmp_path / f"o.{ending}"
    job(source, target, codec="h264", crf=1, face=(60.0, 30.0), size=26.0, light=0.4, seen=seen)
    assert seen[0].shape == (64, 96, 3)
    assert np.abs(seen[0][..., 1].astype(int) - upright).mean() < 2
    old, new = frames_of(source)[0], frames_of(target)[0]
    assert (new.width, new.height) == (old.width, old.height) == laid.shape[::-1], "stored as before"
    if name != "upright" and (ending != "mkv" or name in ("90", "180", "270", "mirrored")):
        # Matroska's projection has an angle and one mirror: other pairs come back as what shows the same.
        before, after = (np.frombuffer(side_data(path)[0]["DISPLAYMATRIX"], np.int32) for path in (source, target))
        assert np.array_equal(before[[0, 1, 3, 4]], after[[0, 1, 3, 4]])
    difference = shown(target).astype(float) - shown(source)
    assert difference.shape == (64, 96)
    assert difference[24:36, 54:66].mean() > 20, "the face is where it was seen"
    assert np.abs(difference[:, :24]).mean() < 2


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(16, 15), Fraction(64, 45)])
@pytest.mark.parametrize(
    ("codec", "ending"),
    [
        ("ffv1", "mp4"),
        ("av1", "mkv"),
        ("h264", "mp4"),
        ("h264", "mkv"),
        ("hevc", "mov"),
        ("ffv1", "mkv"),
        ("prores", "mov"),
        ("vp9", "webm"),
        ("rawvideo", "y4m"),
    ],
)
def test_the_sample_aspect_ratio_stays(tmp_path, job, codec, ending, aspect):
    source = make(tmp_path / "s.mkv", scene(96, 64), aspect=aspect)
    target = tmp_path / f"o.{ending}"
    report = job(source, target, codec=codec)
    assert report.warnings == []
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == aspect
        assert len(list(container.decode(stream))) == 2
        assert (stream.width, stream.height) == (96, 64)


def test_what_lies_around_the_shape_in_a_matroska_file_stays(tmp_path, job, clip, packets_of):
    def setup(container, stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        container.metadata["title"] = "Reel"
        container.set_chapters([{"id": 1, "start": 0, "end": 900, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}])

    source = clip("s.mkv", ticks=range(30), audio=2, subtitles=True, setup=setup, options={"g": "5"})
    job(source, tmp_path / "o.mkv", codec="ffv1")
    with av.open(str(tmp_path / "o.mkv")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)
        assert (container.metadata["title"], container.chapters()[0]["metadata"]["title"]) == ("Reel", "One")
        container.seek(600_000)  # by the index, whose positions must still be right
        assert next(container.decode(video=0)).time <= 0.6
    for kind in ("audio", "subtitle"):
        assert [[data for data, _ in one] for one in packets_of(tmp_path / "o.mkv", kind)] == [
            [data for data, _ in one] for one in packets_of(source, kind)
        ]


def test_a_shape_that_a_container_cannot_hold_is_told(tmp_path, job):
    source = make(tmp_path / "s.mkv", scene(96, 64), aspect=Fraction(4, 3))
    report = job(source, tmp_path / "o.nut", codec="ffv1")
    assert any("sample aspect ratio 4/3 is lost" in text for text in report.warnings)
    assert job(source, tmp_path / "h.nut").warnings == []


def test_the_sample_aspect_ratio_of_a_turned_picture_stays(tmp_path, job):
    matrix = MATRICES["90"]
    source = make(tmp_path / "s.mp4", stored(scene(64, 96), matrix), matrix=matrix, aspect=Fraction(4, 3))
    job(source, tmp_path / "o.mp4")
    with Reader(tmp_path / "o.mp4") as reader:
        assert (reader.info.width, reader.info.height, reader.info.sample_aspect) == (64, 96, Fraction(3, 4))


@pytest.mark.parametrize("size", [(95, 64), (96, 63), (95, 63), (33, 17)])
@pytest.mark.parametrize(("codec", "pix_fmt"), [("ffv1", "yuv420p"), ("ffv1", "yuv422p10le"), ("ffv1", "yuv444p")])
def test_odd_sizes_stay_and_keep_every_bit(tmp_path, job, frames_of, samples_of, size, codec, pix_fmt):
    source = make(tmp_path / "s.mkv", scene(*size), codec="ffv1", pix_fmt=pix_fmt)
    job(source, tmp_path / "o.mkv", codec=codec, face=(size[0] / 2, size[1] / 2), size=26.0, light=0.4)
    old, new = frames_of(source)[0], frames_of(tmp_path / "o.mkv")[0]
    assert (new.width, new.height, new.format.name) == (*size, pix_fmt)
    job(source, tmp_path / "u.mkv", codec=codec)
    for a, b in zip(samples_of(old), samples_of(frames_of(tmp_path / "u.mkv")[0]), strict=True):
        assert np.array_equal(a, b)
    assert (samples_of(new)[0] != samples_of(old)[0]).any()


def test_odd_sizes_go_into_the_codecs_people_watch(tmp_path, job, frames_of):
    source = make(tmp_path / "s.mkv", scene(95, 63), codec="ffv1")
    for codec in ("h264", "hevc"):
        report = job(source, tmp_path / f"{codec}.mp4", codec=codec)
        assert report.warnings == []
        frame = frames_of(tmp_path / f"{codec}.mp4")[0]
        assert (frame.width, frame.height, frame.format.name) == (95, 63, "yuv444p")


@pytest.mark.parametrize("size", [(90, 50), (96, 56), (98, 66)])
def test_the_cropping_of_a_stream_stays(tmp_path, job, frames_of, size):
    """H.264 stores whole blocks of 16 and says in its header what is shown."""
    source, seen = make(tmp_path / "s.mp4", scene(*size)), []
    job(source, tmp_path / "o.mp4", seen=seen)
    assert seen[0].shape[1::-1] == size
    with av.open(str(tmp_path / "o.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.width, context.height) == size
    assert frames_of(tmp_path / "o.mp4")[0].width == size[0]


def test_pictures_of_16_by_16_work(tmp_path, job, frames_of):
    source = make(tmp_path / "s.mkv", scene(16, 16), codec="ffv1")
    for codec, ending in (("h264", "mp4"), ("hevc", "mp4"), ("ffv1", "mkv"), ("vp9", "webm"), ("prores", "mov"), ("mjpeg", "mov")):
        job(source, tmp_path / f"{codec}.{ending}", codec=codec)
        frame = frames_of(tmp_path / f"{codec}.{ending}")[0]
        assert (frame.width, frame.height) == (16, 16), codec


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_still_of_8k_works(tmp_path, job, frames_of, ending):
    context = av.CodecContext.create("png" if ending == "png" else "mjpeg", "w")
    context.width, context.height, context.framerate = 7680, 4320, 25
    context.pix_fmt, context.color_range = ("gray", 2) if ending == "png" else ("yuvj420p", 2)
    frame = VideoFrame.from_ndarray(scene(7680, 4320), "gray")
    frame.color_range = 2
    frame = frame.reformat(format=context.pix_fmt)
    frame.pts = 0
    path = tmp_path / f"s.{ending}"
    path.write_bytes(b"".join(map(bytes, [*context.encode(frame), *context.encode(None)])))
    report = job(path, tmp_path / f"o.{ending}", face=(4000.0, 2000.0), size=900.0, light=0.3)
    assert report.faces_restored == 1
    frame = frames_of(tmp_path / f"o.{ending}")[0]
    assert (frame.width, frame.height) == (7680, 4320)
    assert shown(tmp_path / f"o.{ending}")[2000, 4000] > 110


# -- what a container hides of the picture ------------------------------------------------------------------------------

CROP = Crop(left=6, right=10, top=4, bottom=8)
HIDDEN = (0x54CC, 6), (0x54DD, 10), (0x54BB, 4), (0x54AA, 8)
"""PixelCropLeft, Right, Top, Bottom as their specification numbers them."""
CLAP = struct.pack(">I4sIIIIiIiI", 40, b"clap", 80, 1, 52, 1, -4, 2, -4, 2)
"""Its middle lies two pixels left of and above the picture's."""


def bordered(path, *, codec="ffv1", pix_fmt="gray", crop=CROP, aspect=None, matrix=None, count=2):
    """A file of 96x64 that hides a bright border: it looks like `scene(80, 52)`."""
    image = np.full((64, 96), 250, np.uint8)
    image[crop.top : 64 - crop.bottom, crop.left : 96 - crop.right] = scene(*crop.size(96, 64))
    make(path, image, codec=codec, pix_fmt=pix_fmt, aspect=aspect, matrix=matrix, count=count)
    if path.suffix == ".mkv":
        assert not write_look(path, Look(Fraction(aspect or 1), crop))
    else:
        amend(str(path), Amendments(crops={0: crop}), quicktime=path.suffix == ".mov")
    return path


def hidden(path: Path) -> Crop:
    """What FFmpeg reads."""
    with av.open(str(path)) as container:
        return crop_of(container.streams.video[0], str(path))


def has_the_elements(data: bytes) -> bool:
    return all(kind.to_bytes(2) + b"\x81" + bytes([size]) in data[:2000] for kind, size in HIDDEN)


@pytest.mark.parametrize(("source", "codec"), [("mkv", "ffv1"), ("mov", "prores_ks"), ("mp4", "libx264")])
@pytest.mark.parametrize(("ending", "chosen"), [("mkv", "ffv1"), ("mov", "prores"), ("mp4", "h264"), ("webm", "vp9")])
def test_what_a_container_hides_is_hidden_again(tmp_path, job, frames_of, source, codec, ending, chosen):
    pix_fmt = {"ffv1": "gray", "prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
    path, target = bordered(tmp_path / f"s.{source}", codec=codec, pix_fmt=pix_fmt), tmp_path / f"o.{ending}"
    report = job(path, target, codec=chosen)
    assert not any("crop" in text for text in report.warnings)
    assert hidden(target) == hidden(path) == CROP
    (first, *_) = frames_of(target)
    assert (first.width, first.height) == (96, 64), "the picture itself is whole"
    data = target.read_bytes()
    assert has_the_elements(data) if ending in ("mkv", "webm") else data.count(CLAP) == 1
    if ending in ("mov", "mp4"):
        tkhd = data.index(b"tkhd")
        assert struct.unpack_from(">2I", data, tkhd + 4 + 76) == (80 << 16, 52 << 16)


def test_a_program_that_heeds_the_crop_shows_the_picture_alone(tmp_path, job, made, frames_of):
    path = bordered(tmp_path / "s.mkv")
    for ending, codec in (("mkv", "ffv1"), ("mov", "prores"), ("mp4", "h264")):
        job(path, tmp_path / f"o.{ending}", codec=codec)
        made("-i", tmp_path / f"o.{ending}", "-c:v", "ffv1", "-pix_fmt", "gray", tmp_path / f"{ending}.mkv")
        frame = frames_of(tmp_path / f"{ending}.mkv")[0]
        assert (frame.width, frame.height) == (80, 52)
        assert np.abs(frame.to_ndarray(format="gray").astype(int) - scene(80, 52)).mean() < 3, ending


@pytest.mark.parametrize(
    ("name", "settings"),
    [("o.nut", {"codec": "ffv1"}), ("o.avi", {"codec": "ffv1"}), ("o.ts", {"crf": 1}), ("o.y4m", {}), ("o%d.png", {})],
)
def test_where_nothing_can_be_hidden_it_is_cut_off(tmp_path, job, frames_of, name, settings):
    report = job(bordered(tmp_path / "s.mkv", count=5), tmp_path / name, **settings)
    assert not any("crop" in text for text in report.warnings)
    frame = frames_of(tmp_path / name.replace("%d", "1"))[0]
    assert (frame.width, frame.height) == (80, 52)
    assert np.abs(Picture(frame).rgb()[..., 0].astype(int) - scene(80, 52)).mean() < 3


def test_a_crop_that_splits_chroma_takes_a_pixel_more_and_says_so(tmp_path, job, frames_of):
    path = bordered(tmp_path / "s.mkv", pix_fmt="yuv420p", crop=Crop(5, 9, 3, 8))
    assert job(path, tmp_path / "o.mkv", codec="ffv1").warnings == []
    assert hidden(tmp_path / "o.mkv") == Crop(5, 9, 3, 8)
    report = job(path, tmp_path / "o.nut", codec="ffv1")
    assert [text for text in report.warnings if "a pixel larger" in text]
    frame = frames_of(tmp_path / "o.nut")[0]
    assert (frame.width, frame.height) == (80, 52)
    assert Picture(frame).rgb().max() < 240, "nothing of the border"


@pytest.mark.parametrize("name", list(MATRICES))
def test_a_face_in_a_turned_and_cut_picture_is_restored_in_its_place(tmp_path, job, name):
    path = bordered(tmp_path / "s.mkv", codec="prores_ks", pix_fmt="yuv422p10le", matrix=MATRICES[name])
    with Reader(path) as reader:
        assert reader.crop == CROP
        width, height = reader.info.width, reader.info.height
    centre = (width * 0.55, height * 0.55)
    job(path, tmp_path / "o%d.png", face=centre, size=26.0, light=0.5)
    job(path, tmp_path / "plain%d.png")
    restored, plain = (shown(tmp_path / f"{kind}1.png").astype(int) for kind in ("o", "plain"))
    assert restored.shape == plain.shape == ((52, 80) if width == 96 else (80, 52))
    assert plain.max() < 240 << 8, "nothing of the border"
    rows, columns = np.nonzero(restored - plain > 30 << 8)
    left, top = corner(MATRICES[name])
    assert abs((columns.min() + columns.max()) / 2 - (centre[0] - left)) < 1.5
    assert abs((rows.min() + rows.max()) / 2 - (centre[1] - top)) < 1.5


def corner(matrix: tuple[int, int, int, int]) -> tuple[int, int]:
    """What is hidden left of and above the picture as shown, by the definition of the matrix."""
    a, b, c, d = matrix
    outside = np.ones((64, 96), bool)
    outside[CROP.top : 64 - CROP.bottom, CROP.left : 96 - CROP.right] = False
    rows, columns = np.nonzero(~stored(outside, (a, c, b, d)))
    return int(columns.min()), int(rows.min())


def test_side_by_side_shows_two_cut_pictures(tmp_path, job, frames_of):
    job(bordered(tmp_path / "s.mkv"), tmp_path / "o.mkv", codec="ffv1", deliver="side-by-side")
    frame = frames_of(tmp_path / "o.mkv")[0]
    assert (frame.width, frame.height) == (160, 52)
    assert not hidden(tmp_path / "o.mkv")
    picture = frame.to_ndarray()
    assert np.array_equal(picture[:, :80], scene(80, 52))
    assert np.array_equal(picture[:, 80:], scene(80, 52))


@pytest.mark.parametrize(("ending", "codec"), [("mkv", "ffv1"), ("mov", "prores"), ("nut", "ffv1")])
def test_the_shape_of_samples_and_the_crop_are_kept_together(tmp_path, job, ending, codec):
    path, target = bordered(tmp_path / "s.mkv", aspect=Fraction(16, 15)), tmp_path / f"o.{ending}"
    job(path, target, codec=codec)
    with Reader(path) as before, Reader(target) as after:
        assert after.info.sample_aspect == before.info.sample_aspect == Fraction(16, 15) or ending == "nut"
        assert after.crop == (CROP if ending != "nut" else Crop())


def test_a_codec_that_no_muxer_of_ours_knows_is_looked_up_in_the_file_itself(tmp_path, made):
    plain = make(tmp_path / "p.mkv", scene(96, 64), codec="ffv1", pix_fmt="gray")
    made("-i", plain, "-c:v", "huffyuv", "-pix_fmt", "yuv422p", tmp_path / "s.mkv")
    assert not write_look(tmp_path / "s.mkv", Look(crop=CROP))
    assert hidden(tmp_path / "s.mkv") == CROP


def test_a_damaged_file_that_hides_more_than_there_is_shows_all(tmp_path, job, frames_of):
    path = make(tmp_path / "s.mkv", scene(96, 64))
    write_look(path, Look(crop=Crop(left=90)))
    data = path.read_bytes()
    assert data.count(b"\xb0\x81\x60") == data.count(b"\x54\xcc\x81\x5a") == 1
    path.write_bytes(data.replace(b"\xb0\x81\x60", b"\xb0\x81\xff").replace(b"\x54\xcc\x81\x5a", b"\x54\xcc\x81\xf0"))
    report = job(path, tmp_path / "o.nut", codec="ffv1")
    assert [text for text in report.warnings if "hides more than the picture has" in text]
    assert frames_of(tmp_path / "o.nut")[0].width == 96


def test_a_resized_picture_is_cut_in_proportion(tmp_path, frames_of):
    path = bordered(tmp_path / "s.mkv")
    for ending in ("nut", "mkv"):
        with Reader(path) as reader, Writer(tmp_path / f"o.{ending}", like=reader, codec="ffv1") as writer:
            for frame in reader.frames():
                writer.write(Frame.from_image(np.repeat(np.repeat(frame.image, 2, 0), 2, 1), frame.index, frame.time))
    assert (frames_of(tmp_path / "o.nut")[0].width, frames_of(tmp_path / "o.mkv")[0].width) == (160, 192)
    assert hidden(tmp_path / "o.mkv") == Crop(12, 20, 8, 16)


def test_packets_that_would_have_to_be_cut_are_not_copied(tmp_path):
    path = bordered(tmp_path / "s.mkv", codec="libx264", pix_fmt="yuv420p")
    with Reader(path) as reader:
        with pytest.raises(ConfigError, match="smart_copy: the source hides borders of its pictures, mpegts cannot"):
            Writer(tmp_path / "o.ts", like=reader, smart_copy=True)
        with Writer(tmp_path / "o.mp4", like=reader, smart_copy=True) as writer:
            for frame in reader.frames():
                writer.write(frame)
            assert writer.tally.copied == 2
    assert hidden(tmp_path / "o.mp4") == CROP


@pytest.mark.parametrize(
    ("pix_fmt", "becomes"),
    [
        ("yuv422p", "yuv444p"),
        ("yuv422p10le", "yuv444p10le"),
        ("yuv440p", "yuv444p"),
        ("yuv420p10le", "yuv420p10le"),
        ("gbrp10le",) * 2,
    ],
)
def test_a_turned_picture_is_laid_upright_sample_for_sample(pix_fmt, becomes):
    frame, layout = VideoFrame(64, 48, pix_fmt), layout_of(pix_fmt)
    views = [layout.view(frame, place) for place in range(3)]
    for view in views:
        view[:] = np.random.default_rng(1).integers(0, 1 << layout.depth, view.shape)
    way = Orientation(True, True, False)
    done = turned(frame, Picture(frame).colour, way)
    other = layout_of(done.format.name)
    assert (done.format.name, done.width, done.height) == (becomes, 48, 64)
    for place, view in enumerate(views):
        if view.shape == (48, 64) or pix_fmt == becomes:
            assert np.array_equal(other.view(done, place), way.shown(view))

"""Geometry through a whole job: turned, mirrored, squeezed, odd, cropped, tiny and huge pictures."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from videoclr.media.reader import Reader

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

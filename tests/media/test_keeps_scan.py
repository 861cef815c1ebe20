"""Interlaced and telecined films through a whole job: made whole and said so, or kept woven and said so."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.filter import Graph
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError
from videoclr.media.reader import Reader
from videoclr.media.scan import fields_mean
from videoclr.media.writer import Writer

SIZE = (96, 64)
FACE = {"face": (48.0, 32.0), "size": 26.0, "light": 0.2}
LOSSLESS = {"preset": "ultrafast", "qp": "0"}


def moment(index: float) -> np.ndarray:
    """Luma of a moment: a texture, and a bar that moves 4 pixels a field."""
    y, x = np.mgrid[0:64, 0:96]
    luma = 100 + 40 * np.sin(x / 7) * np.cos(y / 9)
    return np.where(abs(x - (8 + 4 * index) % 96) < 6, 210, luma).round().astype(np.uint8)


def woven(first: np.ndarray, second: np.ndarray, order: str) -> np.ndarray:
    """A picture with `first` on the lines of the field that is shown first."""
    picture = first.copy()
    late = 1 if order == "tff" else 0
    picture[late::2] = second[late::2]
    return picture


def write(path, pictures, *, codec="libx264", order=None, pix_fmt="yuv420p", rate=25, ticks=None):
    """A clip of grey pictures; `order` flags them as woven."""
    options = dict(LOSSLESS) if codec == "libx264" else {}
    if order and codec == "libx264":
        options["x264-params"] = f"{order}=1"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options, time_base=Fraction(1, 1000))
        stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
        if order:
            stream.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
            if codec != "libx264":
                stream.codec_context.field_order = 4 if order == "tff" else 5
        for index, picture in enumerate(pictures):
            frame = VideoFrame(*SIZE, "yuv420p")
            for plane, values in zip(frame.planes, (picture, *[np.full((32, 48), 128, np.uint8)] * 2), strict=True):
                rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
                rows[:, : plane.width] = values
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = (40 * index if ticks is None else ticks[index]), Fraction(1, 1000)
            out.mux(stream.encode(flagged(frame, order)))
        out.mux(stream.encode(None))
    return path


def flagged(frame: VideoFrame, order: str | None) -> VideoFrame:
    """PyAV cannot set the flags of a frame; a filter can."""
    if order is None:
        return frame
    graph = Graph()
    source = graph.add_buffer(width=SIZE[0], height=SIZE[1], format=frame.format, time_base=frame.time_base)
    middle, sink = graph.add("setfield", order), graph.add("buffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    source.push(frame)
    return sink.pull()


def interlaced(path, order, count=16, **settings):
    pictures = [woven(moment(2 * k), moment(2 * k + 1), order) for k in range(count)]
    return write(path, pictures, order=order, **settings)


def comb(luma: np.ndarray) -> float:
    """How much lines differ from their neighbours' mean: high where fields of two moments are woven."""
    values = luma.astype(float)
    return float(np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2).mean())


def lumas(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def facts(path) -> tuple[str, set[bool], list[Fraction]]:
    """Order of the fields by the stream's header, flags of the pictures, times."""
    names = {0: "unknown", 1: "progressive", 2: "top", 3: "bottom", 4: "top", 5: "bottom"}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        order = names[stream.codec_context.field_order]
        frames = list(container.decode(stream))
        return order, {frame.interlaced_frame for frame in frames}, [frame.pts * frame.time_base for frame in frames]


@pytest.mark.parametrize(("codec", "ending"), [("h264", "mp4"), ("hevc", "mkv"), ("prores", "mov"), ("ffv1", "mkv")])
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_auto_makes_flagged_pictures_whole_one_for_one_and_says_progressive(tmp_path, job, order, codec, ending):
    ticks = [40 * k + 7 * (k % 3) for k in range(16)]  # uneven times stay
    source = interlaced(tmp_path / "s.mkv", order, ticks=ticks)
    report = job(source, tmp_path / f"o.{ending}", codec=codec)
    assert any("deinterlaced (bwdif)" in text and "--deinterlace off" in text for text in report.warnings)
    fields, flags, times = facts(tmp_path / f"o.{ending}")
    assert fields in ("progressive", "unknown")
    assert flags == {False}
    assert times == [Fraction(tick, 1000) for tick in ticks]
    before, after = lumas(source)[4:12], lumas(tmp_path / f"o.{ending}")[4:12]
    assert max(map(comb, after)) < 0.35 * min(map(comb, before))
    for k, luma in enumerate(after, 4):  # the moment is that of the field that is shown first
        assert np.abs(luma.astype(float) - moment(2 * k)).mean() < np.abs(luma.astype(float) - moment(2 * k + 1)).mean()


@pytest.mark.parametrize(
    ("codec", "ending"), [("h264", "mp4"), ("h264", "mkv"), ("prores", "mov"), ("ffv1", "mkv"), ("ffv1", "mp4")]
)
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_off_keeps_the_fields_and_their_order(tmp_path, job, order, codec, ending):
    source = interlaced(tmp_path / "s.mp4", order, count=6)
    target = tmp_path / f"o.{ending}"
    report = job(source, target, codec=codec, deinterlace="off", **({"crf": 1} if codec == "h264" else {}))
    assert report.warnings == [] or codec == "prores"
    fields, flags, _ = facts(target)
    assert (fields, flags) == ({"tff": "top", "bff": "bottom"}[order], {True})
    assert report.source_info["fields"] == fields
    for old, new in zip(lumas(source), lumas(target), strict=True):
        assert np.abs(old.astype(int) - new).mean() < 2.5
    with Reader(target) as reader:  # deinterlaced by the flags of the pictures: it must be the first moment that shows
        for k, frame in enumerate(reader.frames()):
            luma = 16 + frame.image[..., 1].astype(float) * 219 / np.iinfo(frame.image.dtype).max
            if 1 < k < 5:
                assert np.abs(luma - moment(2 * k)).mean() < np.abs(luma - moment(2 * k + 1)).mean()


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_off_restores_faces_without_smearing_one_field_into_the_other(tmp_path, job, order):
    source, seen = interlaced(tmp_path / "s.mp4", order, count=12), []
    job(source, tmp_path / "o.mkv", codec="ffv1", deinterlace="off", seen=seen, **FACE)
    changed = 0
    for k, (old, new) in enumerate(zip(lumas(source), lumas(tmp_path / "o.mkv"), strict=True)):
        difference = new.astype(float) - old
        assert not difference[:, :8].any(), "outside the face no bit changes"
        inside = difference[24:40, 40:56]
        changed += inside.mean() > 5
        # Were one moment put on both fields, the difference would be as combed as the picture.
        assert comb(inside) < 4, k
        assert comb(new[24:40, 40:56]) > 0.5 * comb(old[24:40, 40:56])
    assert changed == 12
    assert max(comb(image[..., 0]) for image in seen) < 0.5 * max(map(comb, lumas(source))), "what is looked at has no combs"


def test_off_needs_a_codec_that_can_say_it(tmp_path, job):
    source = interlaced(tmp_path / "s.mp4", "tff", count=3)
    for codec in ("hevc", "av1", "mjpeg"):
        with pytest.raises(ConfigError, match=r"cannot keep pictures interlaced; use h264, ffv1, prores"):
            job(source, tmp_path / "o.mov", codec=codec, deinterlace="off")
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_fields_that_begin_in_the_middle_are_told_once_where_they_are_lost(tmp_path, codec):
    both = tmp_path / "both.ts"
    whole = write(tmp_path / "a.ts", [moment(index) for index in range(0, 8, 2)])
    fields = [woven(moment(index), moment(index + 1), "tff") for index in range(8, 16, 2)]
    later = write(tmp_path / "b.ts", fields, order="tff", ticks=range(160, 320, 40))
    both.write_bytes(whole.read_bytes() + later.read_bytes())
    with Reader(both, deinterlace="off") as reader, Writer(tmp_path / "o.mkv", like=reader, codec=codec) as writer:
        for frame in reader.frames():
            writer.write(frame)
    told = [text for text in writer.warnings if "on the pictures are interlaced" in text]
    assert len(told) == (codec == "h264")
    assert all("--deinterlace auto, or the codec ffv1" in text for text in told)
    with Reader(both, deinterlace="off") as reader, Writer(tmp_path / "again.mkv", like=reader, codec=codec) as writer:
        writer.recall(earlier := [text.replace("from 0", "from 7") for text in told])  # of a run that was stopped
        for frame in reader.frames():
            writer.write(frame)
    assert [text for text in writer.warnings if "on the pictures are interlaced" in text] == earlier


def test_a_progressive_film_that_is_flagged_interlaced_passes_whole(tmp_path, job):
    source = write(tmp_path / "s.mp4", [moment(2 * k) for k in range(20)], order="tff")
    report = job(source, tmp_path / "o.mkv", codec="ffv1")
    assert any("some of its pictures are whole" in text for text in report.warnings)
    assert all(np.array_equal(old, new) for old, new in zip(lumas(source), lumas(tmp_path / "o.mkv"), strict=True))
    assert facts(tmp_path / "o.mkv")[1] <= {False}


def test_a_telecined_film_loses_its_combs_alone(tmp_path, job):
    """3:2 pulldown: of five pictures two are woven of two film frames."""
    film = [moment(3 * k) for k in range(24)]
    fields = [index for index in range(24) for _ in range(3 if index % 2 else 2)]
    pairs = list(zip(fields[::2], fields[1::2], strict=True))[:28]
    pictures = [woven(film[a], film[b], "tff") for a, b in pairs]
    source = write(tmp_path / "s.mp4", pictures, order="tff", rate=30)
    report = job(source, tmp_path / "o.mkv", codec="ffv1")
    assert any("only combed ones" in text for text in report.warnings)
    before, after = lumas(source), lumas(tmp_path / "o.mkv")
    assert len(after) == len(before)
    for index, (a, b) in enumerate(pairs):
        if a == b:
            assert np.array_equal(after[index], before[index])
        else:
            assert comb(after[index]) < 0.5 * comb(before[index])


def test_combs_without_a_flag_are_told_and_bwdif_makes_them_whole(tmp_path, job):
    pictures = [woven(moment(2 * k), moment(2 * k + 1), "tff") for k in range(16)]
    source = write(tmp_path / "s.mp4", pictures)
    report = job(source, tmp_path / "a.mkv", codec="ffv1")
    assert any("look interlaced" in text and "--deinterlace bwdif" in text for text in report.warnings)
    assert all(np.array_equal(old, new) for old, new in zip(lumas(source), lumas(tmp_path / "a.mkv"), strict=True))
    job(source, tmp_path / "b.mkv", codec="ffv1", deinterlace="bwdif")
    assert max(map(comb, lumas(tmp_path / "b.mkv")[4:12])) < 0.35 * min(map(comb, pictures[4:12]))


def test_a_progressive_film_is_neither_touched_nor_doubted(tmp_path, job):
    source = write(tmp_path / "s.mp4", [moment(k) for k in range(20)])
    report = job(source, tmp_path / "o.mkv", codec="ffv1")
    assert report.warnings == []
    assert all(np.array_equal(old, new) for old, new in zip(lumas(source), lumas(tmp_path / "o.mkv"), strict=True))


def test_a_cut_out_of_an_interlaced_film_begins_at_its_time(tmp_path):
    source = interlaced(tmp_path / "s.mp4", "tff", count=20)
    with Reader(source, start="0.4", end="0.6") as reader:
        assert [frame.time for frame in reader.frames()] == [Fraction(k, 25) for k in range(10, 15)]


@pytest.mark.parametrize("mode", ["auto", "bwdif"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_pictures_that_a_decoder_keeps_until_the_end_have_their_own_times(tmp_path, mode, count):
    source = interlaced(tmp_path / "few.mp4", "tff", count)
    with Reader(source, deinterlace=mode) as reader:
        assert [frame.time for frame in reader.frames()] == [Fraction(index, 25) for index in range(count)]
        assert not any("decoded" in warning for warning in reader.warnings)


def test_a_png_that_loads_in_passes_is_no_interlaced_video(tmp_path, job):
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.framerate = *SIZE, "gray", 25
    context.flags |= Flags.interlaced_dct
    picture = woven(moment(0), moment(1), "tff")
    frame = VideoFrame.from_ndarray(picture, "gray")
    (tmp_path / "s.png").write_bytes(b"".join(map(bytes, [*context.encode(frame), *context.encode(None)])))
    assert (tmp_path / "s.png").read_bytes()[28] == 1, "Adam7"
    for mode in ("auto", "off"):
        report = job(tmp_path / "s.png", tmp_path / f"{mode}.png", deinterlace=mode)
        assert (report.warnings, report.source_info["fields"]) == ([], "")
        assert np.array_equal(lumas(tmp_path / f"{mode}.png")[0], picture)


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"media\.deinterlace: expected auto, bwdif, off"):
        Reader(interlaced(tmp_path / "s.mp4", "tff", count=2), deinterlace="yes")


def test_the_mean_of_the_fields_has_no_combs_and_keeps_what_stands_still():
    first, second = np.full((8, 4), 40, np.uint8), np.full((8, 4), 200, np.uint8)
    assert (fields_mean(woven(first, second, "tff")) == 120).all()
    assert np.array_equal(fields_mean(first), first)
    assert fields_mean(first[:1]).shape == (1, 4)

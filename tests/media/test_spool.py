"""Pictures that wait in a file come back to the bit, are looked at there, and leave nothing behind."""

from __future__ import annotations

import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError, MediaError
from videoclr.media.layout import layout_of
from videoclr.media.orientation import Orientation, payload, side_data
from videoclr.media.picture import Picture
from videoclr.media.proxy import Proxy
from videoclr.media.reader import Reader
from videoclr.media.spool import Spool

FORMATS = [
    "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv411p", "nv12", "nv16", "yuv420p10le", "yuv422p10le", "yuv444p12le", "p010le",
    "yuva420p", "yuva444p16le", "gray", "gray10le", "ya8", "rgb24", "bgra", "gbrp", "gbrap", "gbrp10le", "rgb48le",
    "gbrpf16le", "gbrapf32le", "grayf32le",
]  # fmt: skip
STAYING = ["rgb48be", "yuyv422", "pal8", "monow"]
PROPERTIES = (
    "pts", "dts", "duration", "time_base", "key_frame", "pict_type", "interlaced_frame", "colorspace", "color_range", "color_trc",
    "color_primaries", "rotation", "width", "height",
)  # fmt: skip
WINDOWS = [(0, 0, 9, 7), (41, 37, 60, 58), (33, 0, 34, 1), (97, 70, 131, 91), (0, 0, 131, 91), (5, 40, 125, 42)]


def noise(name: str, width: int, height: int) -> VideoFrame:
    """Random samples, valid in the format's depth."""
    frame, layout = VideoFrame(width, height, name), layout_of(name)
    rng = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(rng.integers(0, 256, plane.buffer_size).astype(np.uint8).tobytes())
    if layout is not None:
        for component in range(len(layout.places)):
            samples = layout.view(frame, component)
            if layout.floating:
                samples[:] = rng.normal(size=samples.shape)
            else:
                samples[:] = rng.integers(0, 1 << layout.depth, samples.shape) << layout.shift
    frame.pts, frame.time_base = 7, Fraction(1, 25)
    return frame


def rows(frame: VideoFrame) -> list[bytes]:
    """What every plane shows, without what pads its rows."""
    layout = layout_of(frame.format.name)
    assert layout is not None
    found = [layout.view(frame, component).tobytes() for component in range(len(layout.places))]
    for index in set(range(len(frame.planes))) - {place.plane for place in layout.places}:  # alpha
        plane = frame.planes[index]
        data = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        found.append(data[:, : plane.width * layout.dtype.itemsize].tobytes())
    return found


@pytest.mark.parametrize("size", [(132, 92), (131, 91), (40, 24)])
@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_is_looked_at_where_it_waits_and_comes_back_to_the_bit(name, size):
    frame = noise(name, *size)
    here, away = Picture(frame), Picture(frame)
    before = rows(frame)
    assert away.put_away(Spool(0))
    assert (away.size, away.nbytes) == (here.size, here.nbytes)
    for window in (one for one in WINDOWS if one[2] <= size[0] and one[3] <= size[1]):
        assert np.array_equal(away.window(window), here.window(window)), window
    assert away._away is not None, "looking must not bring it back"
    assert (away.frame.format.name, rows(away.frame)) == (name, before)
    assert np.array_equal(away.rgb(), here.rgb())
    assert [getattr(away.frame, one) for one in PROPERTIES] == [getattr(frame, one) for one in PROPERTIES]


@pytest.mark.parametrize("kind", ["woven", "hdr", "turned"])
def test_turned_woven_and_hdr_pictures_show_the_same_from_the_spool(kind):
    settings = {
        "orientation": Orientation(True, True, False) if kind == "turned" else Orientation(),
        "proxy": Proxy("pq") if kind == "hdr" else None,
        "woven": kind == "woven",
    }
    frame = noise("yuv420p10le", 132, 92)
    here, away = Picture(frame, **settings), Picture(frame, **settings)
    away.put_away(Spool(0))
    for window in [(0, 0, 9, 7), (41, 37, 60, 58)]:
        assert np.array_equal(away.window(window), here.window(window))


@pytest.mark.parametrize("name", STAYING)
def test_formats_that_cannot_wait_in_the_file_stay_in_memory(name):
    frame = VideoFrame(32, 32, name)
    picture = Picture(frame)
    assert not picture.put_away(Spool(0))
    assert picture.frame is frame


def test_side_data_and_times_of_decoded_pictures_come_back(tmp_path, clip):
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    hdr = f"log-level=none:hdr10=1:repeat-headers=1:master-display={display}:max-cll=1000,400"
    path = clip(tmp_path / "s.mp4", codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": hdr}, rotation=90)
    spool = Spool(0)
    with Reader(path) as reader:
        pictures = [frame.native for frame in reader.frames()]
    kinds = {one.type for one in side_data(pictures[0].frame)}
    assert {Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL, Type.DISPLAYMATRIX} <= kinds
    for picture in pictures:
        frame = picture.frame
        assert picture.put_away(spool)
        back = picture.frame
        assert back is not frame and rows(back) == rows(frame)
        assert [getattr(back, one) for one in PROPERTIES] == [getattr(frame, one) for one in PROPERTIES]
        assert [(one.type, bytes(one)) for one in side_data(back)] == [(one.type, bytes(one)) for one in side_data(frame)]


def test_what_has_room_stays_in_memory_and_the_rest_goes_to_places_that_are_used_again(tmp_path):
    one = Picture(noise("yuv420p", 64, 48)).nbytes
    spool = Spool(2 * one, str(tmp_path))
    pictures = [Picture(noise("yuv420p", 64, 48)) for _ in range(5)]
    for picture in (*pictures, pictures[0]):  # the second time changes nothing
        spool.wait(picture)
    assert [picture._away is None for picture in pictures] == [True, True, False, False, False]
    assert list(tmp_path.iterdir()) == [], "the file has no name: nothing is left behind by a process that is killed"
    length = spool._file._end
    for _ in range(10):
        spool.leave(pictures.pop(0))
        pictures.append(Picture(noise("yuv420p", 64, 48)))
        spool.wait(pictures[-1])
    assert sum(picture._away is None for picture in pictures) == 2
    del pictures[2:]  # dropped without having left, as when a run is stopped
    assert spool._file._end == length
    assert sum(map(len, spool._file._free.values())) == 3


def test_a_picture_that_waits_outlives_its_spool():
    frame = noise("yuv420p", 64, 48)
    picture, before = Picture(frame), rows(frame)
    picture.put_away(Spool(0))
    del frame
    assert rows(picture.frame) == before


def test_a_full_disk_is_one_line_and_the_picture_is_still_there(monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "r+b", buffering=0))  # noqa: SIM115
    picture = Picture(noise("yuv420p", 64, 48))
    with pytest.raises(MediaError, match=r"that wait cannot be written .*No space left.*runtime\.scratch") as error:
        Spool(0).wait(picture)
    assert "\n" not in str(error.value)
    assert picture._away is None and picture.frame.pts == 7


def test_a_folder_that_is_not_there_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"runtime.scratch: .*missing is no folder"):
        Spool(0, str(tmp_path / "missing"))


def test_nothing_that_is_asked_of_a_frame_keeps_it_alive():
    frame = noise("yuv420p", 64, 48)
    before = sys.getrefcount(frame)
    assert payload(frame, Type.DISPLAYMATRIX) is None and Picture(frame).nbytes > 64 * 48 * 3 // 2
    assert sys.getrefcount(frame) == before


def test_no_scaler_stays_in_a_frame_that_was_looked_at():
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("needs Linux")

    def resident() -> int:
        return int(status.read_text().split()[1]) * 4096

    pictures = [Picture(noise("yuv420p", 64, 48)) for _ in range(300)]
    for picture in pictures[:50]:
        picture.rgb()
    before = resident()
    for picture in pictures[50:]:
        picture.rgb()
    assert resident() - before < 250 * 40_000, "a scaler takes 130 KB"


def test_a_film_is_the_same_whether_its_pictures_waited_in_memory_or_in_the_file(tmp_path, clip, job, monkeypatch):
    source = clip(tmp_path / "s.mp4", pix_fmt="yuv420p10le", audio=1)
    face = {"face": (48.0, 32.0), "size": 28.0, "light": 0.1}
    job(source, tmp_path / "memory.mp4", **face)
    away: list[Picture] = []

    def wait(self: Spool, picture: Picture) -> None:
        assert picture.put_away(self)
        away.append(picture)

    monkeypatch.setattr(Spool, "wait", wait)
    report = job(source, tmp_path / "file.mp4", **face)
    assert report.faces_restored == len(away) == 10
    assert (tmp_path / "file.mp4").read_bytes() == (tmp_path / "memory.mp4").read_bytes()

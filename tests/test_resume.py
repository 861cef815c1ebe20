from __future__ import annotations

import errno
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
from PIL import Image

from videoclr import jobs
from videoclr.errors import ConfigError, MediaError, ResumeError
from videoclr.jobs import Progress, restore_batch, restore_video
from videoclr.ledger import Finished, Ledger, content_of, differences, fingerprint, folder_of
from videoclr.media.lock import Lock
from videoclr.media.reader import Reader
from videoclr.media.segments import SegmentWriter
from videoclr.pipeline import RunLog
from videoclr.resume import Restoration

DRIVER = Path(__file__).with_name("resume_driver.py")
_spec = importlib.util.spec_from_file_location("resume_driver", DRIVER)
assert _spec is not None and _spec.loader is not None
driver = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(driver)


def drive(*jobs: tuple[Path, dict[str, list], Sequence[str]]) -> list[dict[str, list[int]]]:
    """For each folder, plans and settings the exit statuses of the runs for each target; see the driver."""
    command = [sys.executable, DRIVER, *(json.dumps([str(folder), plans, settings]) for folder, plans, settings in jobs)]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    sys.stderr.write(done.stderr)  # shown where a test fails
    return json.loads(done.stdout)


# In the middle of the long shot, at once again, as a segment is made to last, as one gets its name.
KILLS = [["write", 25], ["write", 3], ["fsync", 9], ["replace", 7]]


LONG = (4, 70, 6)
"""Frames of shots: the second holds seven segments."""


@pytest.fixture(scope="module")
def driven(tmp_path_factory) -> tuple[Path, Path]:
    """`made` and `long`, of one process: it spends most of its life importing."""
    made, long = tmp_path_factory.mktemp("resume"), tmp_path_factory.mktemp("long")
    driver.film(long / "in.mp4", LONG)
    ends = drive(
        (made, {"whole.mp4": [], "killed.mp4": KILLS}, ()),
        (long, {"whole.mp4": [], "killed.mp4": [["write", 23]] * 3}, driver.SHORT_SIGHTED),
    )
    assert ends == [{"whole.mp4": [0], "killed.mp4": [*[-9] * killed, 0]} for killed in (4, 3)]
    return made, long


@pytest.fixture(scope="module")
def made(driven) -> Path:
    """A folder with `in.mp4`, `whole.mp4` that was restored without a stop, and `killed.mp4` with several."""
    return driven[0]


@pytest.fixture(scope="module")
def long(driven) -> Path:
    """A folder with a film of one long shot, restored without a stop, and with several."""
    return driven[1]


def check(folder: Path, name: str) -> None:
    """All that `name` and its reports are is what `whole` is."""
    assert (folder / f"{name}.mp4").read_bytes() == (folder / "whole.mp4").read_bytes()
    assert (folder / f"{name}.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
    ours, theirs = (json.loads((folder / f"{one}.json").read_text()) for one in (name, "whole"))
    for report in (ours, theirs):
        for key in ("target", "seconds", "seconds_per_stage", "slowest"):
            report.pop(key)
    # What was not decoded again, because nothing was left to do, was not counted again either.
    assert ours == theirs
    assert not list(folder.glob(f"{name}*.part"))
    left = folder / f"{name}.mp4.resume"  # killed just before it would have been gone: empty
    assert not left.exists() or not list(left.iterdir())


def test_the_film_of_these_tests_has_what_crosses_a_cut(made):
    report = json.loads((made / "whole.json").read_text())
    assert report["shots"] == 5 and report["frames_out"] == 62
    assert report["seconds_per_stage"]["encode"] > 0
    assert [track["person"] for track in report["tracks"]] == [0, 1, 0, 2]
    with Reader(made / "whole.mp4") as ours, Reader(made / "in.mp4") as theirs:
        assert [frame.time for frame in ours.frames()] == [frame.time for frame in theirs.frames()]
    sounds = []
    for name in ("whole.mp4", "in.mp4"):
        with av.open(str(made / name)) as file:
            sounds.append([(packet.pts, bytes(packet)) for packet in file.demux(audio=0) if packet.size])
    assert sounds[0] == sounds[1]


def test_a_run_that_was_killed_goes_on_and_gives_the_same_bytes(made):
    check(made, "killed")


def test_a_run_that_was_killed_within_a_long_shot_gives_the_same_bytes(long):
    check(long, "killed")
    report = json.loads((long / "killed.json").read_text())
    assert report["shots"] == 3 and [track["frames"] for track in report["tracks"]] == [4, 70]


@pytest.mark.parametrize("frames", [15, *(pytest.param(n, marks=pytest.mark.slow) for n in (25, 35, 45, 55)), 65])
def test_within_a_long_shot_a_run_goes_on_from_the_last_segment_and_not_from_the_beginning(long, tmp_path, frames):
    film, target, part = shutil.copy(long / "in.mp4", tmp_path), tmp_path / "out.mp4", driver.pipeline(*driver.SHORT_SIGHTED)
    with pytest.raises(KeyboardInterrupt):
        restore_video(film, target, pipeline=part, resume=True, progress=stopping(frames))
    # The one that the mark speaks of; those that the run set ahead of what it wrote are parts.
    assert len(list(Path(f"{target}.resume").glob("*.state"))) == 1
    seen = 0
    detect = part.detector.one

    def counting(image):
        nonlocal seen
        seen += 1
        return detect(image)

    part.detector.one = counting
    restore_video(film, target, pipeline=part, resume=True)
    assert seen <= sum(LONG) - frames // 10 * 10
    assert target.read_bytes() == (long / "whole.mp4").read_bytes()
    assert not Path(f"{target}.resume").exists()


@pytest.mark.slow
def test_pixels_do_not_depend_on_how_long_segments_are(long, tmp_path):
    pictures = []
    for seconds in (0.25, 0.7, 20):
        settings = (*driver.SHORT_SIGHTED, "media.codec=ffv1", "media.crf=null", "media.preset=null", f"media.segment={seconds}")
        target = tmp_path / f"{seconds}.mkv"
        restore_video(long / "in.mp4", target, pipeline=driver.pipeline(*settings), resume=True)
        with Reader(target) as reader:
            pictures.append([(frame.time, frame.source.tobytes()) for frame in reader.frames()])
    assert len(pictures[0]) == sum(LONG) and pictures[0] == pictures[1] == pictures[2]


def test_a_bookmark_that_is_gone_or_damaged_is_told_before_anything_is_restored(long, tmp_path):
    film, target, part = shutil.copy(long / "in.mp4", tmp_path), tmp_path / "out.mp4", driver.pipeline(*driver.SHORT_SIGHTED)
    with pytest.raises(KeyboardInterrupt):
        restore_video(film, target, pipeline=part, resume=True, progress=stopping(35))
    (state,) = Path(f"{target}.resume").glob("*.state")
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(data)
    with pytest.raises(ResumeError, match=rf"{state.name}: is missing or damaged; remove the folder out.mp4.resume"):
        restore_video(film, target, pipeline=part, resume=True)
    state.unlink()
    with pytest.raises(ResumeError, match=rf"{state.name}: is missing or damaged"):
        restore_video(film, target, pipeline=part, resume=True)
    assert not target.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shots", "settings"),
    [
        (driver.SHOTS, ()),
        (driver.SHOTS, ("gate.use=agreement", "detect.every=3", "runtime.detect_batch=3")),
        (LONG, driver.SHORT_SIGHTED),
        (LONG, ("gate.use=agreement", "gate.smoothing=1", "blend.grain=1", *driver.SHORT_SIGHTED)),
    ],
)
def test_thirty_kills_at_random_moments_change_no_byte(tmp_path, shots, settings):
    driver.film(tmp_path / "in.mp4", shots)
    rng = random.Random(len(settings))
    kinds = [("write", 40), ("fsync", 25), ("replace", 20), ("seconds", None)]
    plans: dict[str, list] = {"whole.mp4": []}
    for number in range(16):  # a fast machine is done before some of the moments come
        chosen = [rng.choice(kinds) for _ in range(6)]
        plans[f"random{number}.mp4"] = [
            [what, rng.uniform(0.05, 0.8) if most is None else rng.randint(1, most)] for what, most in chosen
        ]
    (ends,) = drive((tmp_path, plans, settings))
    for name, statuses in ends.items():
        assert set(statuses) <= {0, -9}
        check(tmp_path, Path(name).stem)
    assert sum(statuses.count(-9) for statuses in ends.values()) >= 30


@pytest.mark.slow
def test_a_kill_at_each_step_that_reaches_the_disk_changes_no_byte(tmp_path):
    plans = {f"{what}{n}.mp4": [[what, n]] for what, most in (("fsync", 28), ("replace", 22)) for n in range(1, most)}
    (ends,) = drive((tmp_path, {"whole.mp4": [], **plans}, ()))
    assert sum(statuses == [-9, 0] for statuses in ends.values()) > 30
    for name in plans:
        check(tmp_path, Path(name).stem)


# -- in this process --------------------------------------------------------------------------------------------------


@pytest.fixture
def parts():
    """A pipeline of quick parts; `parts("restore.seed=1")` with other settings."""
    return driver.pipeline


@pytest.fixture
def film(made, tmp_path) -> Path:
    return Path(shutil.copy(made / "in.mp4", tmp_path / "in.mp4"))


@pytest.fixture(scope="module")
def stopped_once(made, tmp_path_factory) -> Path:
    """The folder of what a run kept that was stopped at its 30th frame."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(KeyboardInterrupt):
        restore_video(made / "in.mp4", folder / "out.mp4", pipeline=driver.pipeline(), resume=True, progress=stopping(30))
    return folder / "out.mp4.resume"


@pytest.fixture
def stopped(film, stopped_once, tmp_path) -> Path:
    """Target of a run for `film` that was stopped at its 30th frame."""
    shutil.copytree(stopped_once, tmp_path / "out.mp4.resume")
    return tmp_path / "out.mp4"


def stopping(frames: int) -> Callable[[Progress], None]:
    """A progress callback that is Ctrl-C once so many frames are done."""

    def shown(now: Progress) -> None:
        if now.frames >= frames:
            raise KeyboardInterrupt

    return shown


def test_ctrl_c_keeps_what_is_done_says_so_and_leaves_no_half_file(film, made, parts, tmp_path):
    target = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt) as stop:
        restore_video(film, target, pipeline=parts(), resume=True, progress=stopping(30))
    assert stop.value.__notes__ == ["28 frames are kept: the same command goes on from there"]
    assert not target.exists() and not list(tmp_path.glob("*.part"))
    seen: list[Progress] = []
    restore_video(film, target, pipeline=parts(), resume=True, progress=seen.append)
    assert target.read_bytes() == (made / "whole.mp4").read_bytes()
    assert (seen[0].frames, seen[0].before, seen[-1].frames) == (29, 28, 62)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in.mp4", "out.mp4"]


def test_frames_are_not_said_to_be_kept_where_their_folder_was_removed(film, parts, tmp_path):
    target = tmp_path / "out.mp4"

    def removing(now: Progress) -> None:
        if now.frames == 30:
            shutil.rmtree(folder_of(target))

    with pytest.raises(MediaError, match="cannot be written: no such file or directory") as stop:
        restore_video(film, target, pipeline=parts(), resume=True, progress=removing)
    assert not getattr(stop.value, "__notes__", [])


def test_what_the_writer_warned_of_before_a_run_was_stopped_is_in_the_report(film, parts, tmp_path):
    source, target = tmp_path / "in.mkv", tmp_path / "out.avi"
    with av.open(str(film)) as file, av.open(str(source), "w") as out:
        stream = out.add_stream("libx264", rate=25, time_base=Fraction(1, 1000))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number, frame in enumerate(file.decode(video=0)):  # on the grid of an AVI all but the first of them
            frame.pts, frame.time_base, frame.pict_type = (
                40 * number + (7 if number % 2 and number < 10 else 0),
                Fraction(1, 1000),
                0,
            )
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    whole = restore_video(source, target, pipeline=parts(), resume=True).warnings
    assert whole[-1] == "times are rounded to 1/25 s"
    target.unlink()
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, target, pipeline=parts(), resume=True, progress=stopping(30))
    assert restore_video(source, target, pipeline=parts(), resume=True).warnings == whole


@pytest.mark.parametrize("settings", [(), driver.SHORT_SIGHTED])
def test_a_track_that_there_is_not_is_told_once_where_a_run_goes_on(settings, film, parts, tmp_path):
    asked, target = parts("identify.only=[1, 99]", *settings), tmp_path / "out.mp4"
    whole = restore_video(film, target, pipeline=asked, resume=True).warnings
    target.unlink()
    for frames in (30, 52):
        with pytest.raises(KeyboardInterrupt):
            restore_video(film, target, pipeline=asked, resume=True, progress=stopping(frames))
    assert restore_video(film, target, pipeline=asked, resume=True).warnings == whole and len(whole) == 1


@pytest.mark.parametrize("settings", [(), driver.SHORT_SIGHTED])
def test_lines_of_tracks_that_no_frame_took_before_a_run_was_stopped_are_counted(settings, film, parts, tmp_path):
    saved, target = tmp_path / "tracks.jsonl", tmp_path / "out.mp4"
    lines = [{"videoclr": "tracks", "version": 1, "width": 96, "height": 64}]
    lines += [{"frame": number, "time": f"{number}/50", "faces": []} for number in range(100)]
    saved.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = (f"track.file={saved}", "media.start='0'", *settings)  # lines are known by their times
    (whole,) = restore_video(film, target, pipeline=parts(*config), resume=True).warnings
    target.unlink()
    for frames in (30, 52):  # within a shot, and behind a cut
        with pytest.raises(KeyboardInterrupt):
            restore_video(film, target, pipeline=parts(*config), resume=True, progress=stopping(frames))
    assert restore_video(film, target, pipeline=parts(*config), resume=True).warnings == [whole]
    assert "66 lines tell times between those of the frames" in whole


def test_a_film_that_is_there_with_nothing_to_go_on_with_may_be_finished(film, parts, tmp_path):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"finished")
    with pytest.raises(
        MediaError, match=r"exists already, and nothing is left to go on with: if this command made it, it is finished"
    ):
        restore_video(film, target, pipeline=parts(), resume=True)
    assert target.read_bytes() == b"finished"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in.mp4", "out.mp4"]


def test_a_run_that_was_stopped_before_anything_was_done_leaves_nothing(film, parts, tmp_path):
    with pytest.raises(KeyboardInterrupt) as stop:
        restore_video(film, tmp_path / "out.mp4", pipeline=parts(), resume=True, progress=stopping(3))
    assert not hasattr(stop.value, "__notes__")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_what_was_seen_of_a_film_that_is_looked_through_first_is_kept(film, parts, tmp_path):
    settings = (*driver.SHORT_SIGHTED, "identify.look_first=true")
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    seen: list[Progress] = []
    restore_video(film, whole, pipeline=parts(*settings), resume=True, progress=seen.append)
    assert [now.frames for now in seen if now.looking] == list(range(1, 63)) and sum(not now.looking for now in seen) == 62
    assert seen[0].seconds_left is None

    def stopped(frames: int) -> list[Progress]:
        told: list[Progress] = []

        def shown(now: Progress) -> None:
            told.append(now)
            if not now.looking and now.frames >= frames:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as stop:
            restore_video(film, target, pipeline=parts(*settings), resume=True, progress=shown)
        assert "the same command goes on from there" in stop.value.__notes__[0]
        return told

    assert any(now.looking for now in stopped(3)) and not any(now.looking for now in stopped(30))
    kept = tmp_path / "out.mp4.resume" / "people"
    good = kept.read_bytes()
    kept.write_bytes(good[:99] + b"7" + good[100:])
    with pytest.raises(ResumeError, match="people: is missing or damaged"):
        restore_video(film, target, pipeline=parts(*settings), resume=True)
    kept.write_bytes(good)
    told: list[Progress] = []
    restore_video(film, target, pipeline=parts(*settings), resume=True, progress=told.append)
    assert not any(now.looking for now in told)
    assert target.read_bytes() == whole.read_bytes() and not kept.parent.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda film: ["restore.seed=1"], r"restore.seed was 0 and is 1 now"),
        (
            lambda film: ["media.crf=11", "align.smoothing=3"],
            r"media.crf was 10.0 and is 11.0 now, align.smoothing was 4 and",
        ),
        (lambda film: film.write_bytes(film.read_bytes() + b"0") and [], r"the source is another file"),
    ],
)
def test_what_belongs_to_another_job_is_refused_with_the_difference(film, parts, stopped, change, says):
    kept = {path.name: path.read_bytes() for path in Path(f"{stopped}.resume").iterdir()}
    with pytest.raises(ResumeError, match=rf"out.mp4.resume: belongs to another run: {says}.*remove this folder"):
        restore_video(film, stopped, pipeline=parts(*change(film)), resume=True)
    assert {path.name: path.read_bytes() for path in Path(f"{stopped}.resume").iterdir()} == kept


def test_settings_of_the_machine_may_change(film, made, parts, stopped):
    restore_video(film, stopped, pipeline=parts("runtime.batch=1", "runtime.buffer_mb=16"), resume=True)
    assert stopped.read_bytes() == (made / "whole.mp4").read_bytes()


def test_weights_and_files_that_settings_name_count_with_their_content(tmp_path):
    before = {"weights": {"irn": "1"}, "files": {"a.jpg": "1"}, "settings": {"x": {"y": 1}}, "aligned": False}
    now = {"weights": {"irn": "2"}, "files": {"a.jpg": "2"}, "settings": {"x": {}}, "aligned": True}
    assert differences(before, now) == (
        "the weights irn had other content, the file a.jpg had other content, x.y was 1 and is not set now and 2 more"
    )
    assert differences(before, before) == ""
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"1")
    one = fingerprint(photo, {"only": [f"anna={photo}"]})
    photo.write_bytes(b"2")
    assert one["files"].keys() == {str(photo)} and differences(one, fingerprint(photo, {"only": [f"anna={photo}"]}))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_among_films_is_refused_and_not_waited_for(parts, tmp_path, monkeypatch):
    os.mkfifo(pipe := tmp_path / "in.mkv")
    monkeypatch.setattr(jobs, "Pipeline", lambda config: parts())
    both = os.open(pipe, os.O_RDWR)  # nobody waits for another end
    try:
        (result,) = restore_batch([pipe], tmp_path / "out", parts().config, resume=True)
    finally:
        os.close(both)
    assert str(result) == f"{pipe}: is a pipe, which can be read once only; save what comes out of it as a file first"


def test_of_a_large_file_samples_count_the_ends_among_them(tmp_path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(80 << 20)
    seen = {content_of(large)}
    for place in (0, (80 << 20) - 1):
        with large.open("rb+") as file:
            file.seek(place)
            file.write(b"x")
        seen.add(content_of(large))
    assert len(seen) == 3


def test_what_cannot_be_read_again_or_is_no_film_is_refused(film, parts, tmp_path):
    with pytest.raises(ConfigError, match="--resume: - cannot be read a second time"):
        fingerprint("-", {})
    with pytest.raises(MediaError, match="needs a video file"):
        restore_video(film, tmp_path / "out%03d.png", pipeline=parts(), resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_segment_that_is_gone_or_damaged_is_told_before_anything_is_written(film, parts, stopped):
    first = Path(f"{stopped}.resume") / "000000.packets"
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    with pytest.raises(ResumeError, match=r"000000.packets: is missing or damaged; remove the folder out.mp4.resume"):
        restore_video(film, stopped, pipeline=parts(), resume=True)
    first.write_bytes(data[:-1])
    with pytest.raises(ResumeError, match=r"000000.packets: is missing or damaged"):
        restore_video(film, stopped, pipeline=parts(), resume=True)
    assert not stopped.exists()


def test_a_name_that_is_too_long_is_one_line(film, parts, tmp_path):
    with pytest.raises(MediaError, match=r"n\.mp4: cannot be written: the name is too long for this file system$"):
        restore_video(film, tmp_path / ("n" * 246 + ".mp4"), pipeline=parts(), resume=True)  # its folder's is the longer one
    with pytest.raises(MediaError, match=r"n\.json: the report cannot be written \(File name too long\)$"):
        restore_video(film, tmp_path / "out.mp4", pipeline=parts(), report=tmp_path / ("n" * 260 + ".json"))
    assert list(tmp_path.iterdir()) == [film]


@pytest.mark.parametrize("ending", ["faces", "mark", "ledger.jsonl"])
def test_a_changed_byte_in_what_is_kept_is_told_before_anything_is_written(film, parts, stopped, ending):
    kept = Path(f"{stopped}.resume")
    place = sorted(kept.glob(f"*{ending}"))[0]
    whole = place.read_bytes()
    for at in (2, len(whole) // 2):  # of a ledger, its head and a segment
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ResumeError, match=r"is missing or damaged; remove the folder out.mp4.resume and begin anew") as told:
            restore_video(film, stopped, pipeline=parts(), resume=True)
        assert not stopped.exists() and not getattr(told.value, "__notes__", [])  # the same command does not go on


@pytest.mark.parametrize(
    "change",
    [
        {"start": 70},
        {"shot": "x"},
        {"tracks": None},
        {"people": {"next": 1, "met": [3]}},
        {"state": {"segment": -1}},
        {"state": 3},
    ],
)
def test_a_mark_that_does_not_fit_the_film_is_refused(film, parts, stopped, monkeypatch, change):
    mark = Ledger.mark
    monkeypatch.setattr(Ledger, "mark", lambda ledger: {**mark(ledger), **change})
    with pytest.raises(ResumeError, match=r"damaged; remove the folder out.mp4.resume"):
        restore_video(film, stopped, pipeline=parts(), resume=True)
    assert not stopped.exists()


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(film, made, parts, tmp_path, monkeypatch):
    target, left = tmp_path / "out.mp4", iter(range(9))
    sync = os.fsync

    def full(file: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MediaError, match=r"^\S*out.mp4: cannot be written: no space left on the device") as stop:
        restore_video(film, target, pipeline=parts(), resume=True)
    assert "frames are kept" in stop.value.__notes__[0] and not target.exists()
    monkeypatch.undo()
    restore_video(film, target, pipeline=parts(), resume=True)
    assert target.read_bytes() == (made / "whole.mp4").read_bytes()


def test_a_run_that_has_no_room_to_begin_leaves_no_folder(tmp_path, monkeypatch):
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MediaError, match="no space left on the device"):
        Ledger(tmp_path / "out.mp4", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full here")
def test_what_waits_for_a_full_disk_does_not_hide_why_the_run_ended(tmp_path):
    work = Restoration(SimpleNamespace(last=None), None, Fraction(1), RunLog())
    work._faces, state = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w"), os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")
    work._states[3] = state, {}
    work._faces.write("x"), state.write(b"x")
    work.close()
    assert work._faces is None and state.closed
    segment = SegmentWriter(tmp_path / "one", "o.mp4", b"")
    segment._file.close()
    segment._file = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")
    segment._file.write(b"x")
    segment.abort()
    assert not list(tmp_path.iterdir())


def test_a_torn_line_of_the_ledger_is_taken_back(film, made, parts, stopped):
    book = Path(f"{stopped}.resume") / "ledger.jsonl"
    whole = book.read_bytes()
    book.write_bytes(whole + b'{"segment": 9, "pack')
    restore_video(film, stopped, pipeline=parts(), resume=True)
    assert stopped.read_bytes() == (made / "whole.mp4").read_bytes()


def test_a_run_that_died_while_clearing_up_is_finished(film, parts, tmp_path, monkeypatch):
    target, place = tmp_path / "out.mp4", tmp_path / "report.json"
    monkeypatch.setattr(Ledger, "_remove", lambda ledger: ledger._lock.release())
    lines = tmp_path / "faces.jsonl"
    reports = {"report": place, "report_frames": lines}
    first = restore_video(film, target, pipeline=parts(), resume=True, **reports)
    (Path(f"{target}.resume") / "000001.faces").unlink()
    monkeypatch.undo()
    made, told = target.stat(), place.read_text() + lines.read_text()
    again = restore_video(film, target, pipeline=parts(), resume=True, **reports)
    assert again == first and target.stat() == made and place.read_text() + lines.read_text() == told
    assert not Path(f"{target}.resume").exists()


def test_two_runs_on_one_job_the_second_is_refused(film, parts, tmp_path):
    target = tmp_path / "out.mp4"
    folder = Path(f"{target}.resume")
    folder.mkdir()
    lock = Lock(folder / "lock", target)
    with pytest.raises(MediaError, match=r"out.mp4: another run is writing it"):
        restore_video(film, target, pipeline=parts(), resume=True)
    lock.release()
    restore_video(film, target, pipeline=parts(), resume=True)
    assert not folder.exists()


def test_what_is_done_lies_where_a_link_leads_and_both_names_go_on_with_it(film, made, parts, tmp_path):
    target, link = tmp_path / "store" / "out.mp4", tmp_path / "link.mp4"
    target.parent.mkdir()
    link.symlink_to(target)
    with pytest.raises(KeyboardInterrupt):
        restore_video(film, link, pipeline=parts(), resume=True, progress=stopping(25))
    assert Path(f"{target}.resume").is_dir() and not Path(f"{link}.resume").exists()
    before: list[int] = []
    restore_video(film, target, pipeline=parts(), resume=True, progress=lambda now: before.append(now.before))
    assert before and min(before) > 0 and target.read_bytes() == (made / "whole.mp4").read_bytes()
    assert link.is_symlink() and [one.name for one in target.parent.iterdir()] == ["out.mp4"]


def test_two_runs_through_two_links_to_one_film_the_second_is_refused(film, parts, tmp_path):
    for name in ("one.mp4", "other.mp4"):
        (tmp_path / name).symlink_to(tmp_path / "out.mp4")

    def second(now: Progress) -> None:
        with pytest.raises(MediaError, match="another run is writing it"):
            restore_video(film, tmp_path / "other.mp4", pipeline=parts(), resume=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(film, tmp_path / "one.mp4", pipeline=parts(), resume=True, progress=second)


def test_a_batch_goes_on_where_it_stopped_and_leaves_finished_files_alone(film, made, parts, tmp_path, monkeypatch):
    other = Path(shutil.copy(film, tmp_path / "other.mp4"))
    out, place = tmp_path / "out", tmp_path / "report.json"
    monkeypatch.setattr(jobs, "Pipeline", lambda config: parts())
    config = parts().config
    done: list[Progress] = []

    def shown(now: Progress) -> None:
        done.append(now)
        if now.source == str(other) and now.frames >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_batch([film, other], out, config, resume=True, progress=shown)
    first = (out / "in.mp4").stat()
    done.clear()
    results = restore_batch([film, other], out, config, resume=True, report=place, progress=done.append)
    assert (out / "in.mp4").stat() == first and {one.source for one in done} == {str(other)}
    assert done[0].before > 0
    assert (out / "other.mp4").read_bytes() == (made / "whole.mp4").read_bytes()
    assert [result.frames_out for result in results] == [62, 62]
    assert [one["target"] for one in json.loads(place.read_text())["files"]] == [str(out / "in.mp4"), str(out / "other.mp4")]


@pytest.mark.parametrize("step", ["as it is noted", "as the ledger learns of it", "as what was kept is removed"])
def test_a_batch_that_died_as_a_film_was_finished_knows_it_and_clears_up(film, parts, tmp_path, monkeypatch, step):
    out, target = tmp_path / "out", tmp_path / "out" / "in.mp4"
    monkeypatch.setattr(jobs, "Pipeline", lambda config: parts())

    def die(*_, **__):
        raise KeyboardInterrupt

    place, name = {
        "as it is noted": (Finished, "add"),
        "as the ledger learns of it": (Ledger, "clear"),
        "as what was kept is removed": (Ledger, "_remove"),
    }[step]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(place, name, die)
        restore_batch([film], out, parts().config, resume=True)
    before = target.stat()
    assert Path(f"{target}.resume").exists()
    for _ in range(2):
        (report,) = restore_batch([film], out, parts().config, resume=True)
        assert report.frames_out == 62 and report.shots == 5
    Path(f"{target}.resume").mkdir()  # nothing but the folder itself is left
    restore_batch([film], out, parts().config, resume=True)
    assert target.stat() == before and sorted(path.name for path in out.iterdir()) == [".videoclr-finished.jsonl", "in.mp4"]


def test_what_another_run_keeps_of_a_finished_film_stays(film, parts, tmp_path, monkeypatch):
    out, target = tmp_path / "out", tmp_path / "out" / "in.mp4"
    monkeypatch.setattr(jobs, "Pipeline", lambda config: parts())
    restore_batch([film], out, parts().config, resume=True)
    with pytest.raises(KeyboardInterrupt):
        restore_video(film, target, pipeline=parts("restore.seed=3"), overwrite=True, resume=True, progress=stopping(40))
    kept = sorted(Path(f"{target}.resume").iterdir())
    (report,) = restore_batch([film], out, parts().config, resume=True)
    assert report.frames_out == 62 and kept and sorted(Path(f"{target}.resume").iterdir()) == kept


def test_a_note_that_was_torn_costs_none_of_those_that_follow(tmp_path):
    film = tmp_path / "a.mp4"
    film.write_bytes(b"film")
    (tmp_path / ".videoclr-finished.jsonl").write_bytes(b'{"said": {"name": "oth')
    Finished(tmp_path).add(film, {"of": 1}, {"faces_restored": 0})
    assert Finished(tmp_path).report(film, {"of": 1}) == {"faces_restored": 0}


def test_files_are_known_again_under_another_locale(tmp_path):
    film, photo = tmp_path / "Jörg.mp4", tmp_path / "Jörg.jpg"
    film.write_bytes(b"film")
    photo.write_bytes(b"photo")
    program = """
import sys
from pathlib import Path
from videoclr.ledger import Finished, fingerprint
film, photo = map(Path, sys.argv[1:])
Finished(film.parent).add(film, fingerprint(film, {"references": [str(photo)]}), {"faces_restored": 1})
"""
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # knows ASCII alone
    subprocess.run([sys.executable, "-c", program, film, photo], env=os.environ | locale, check=True)
    assert Finished(tmp_path).report(film, fingerprint(film, {"references": [str(photo)]})) == {"faces_restored": 1}


def test_notes_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / ".videoclr-finished.jsonl").mkdir()
    with pytest.raises(MediaError, match=r"finished\.jsonl: cannot be read \(.*\); it says which files are finished"):
        Finished(tmp_path).report(tmp_path / "a.mp4", {})


def test_a_batch_does_not_take_a_file_of_other_settings_for_its_own(film, parts, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(jobs, "Pipeline", lambda config: parts())
    restore_batch([film], out, parts().config, resume=True)
    (error,) = restore_batch([film], out, parts("restore.seed=3").config, resume=True)
    assert isinstance(error, ResumeError) and "restore.seed was 0 and is 3 now" in str(error)
    (out / "in.mp4").write_text("somebody else's")
    (error,) = restore_batch([film], out, parts().config, resume=True)
    assert isinstance(error, MediaError) and "exists already" in str(error)
    assert (out / "in.mp4").read_text() == "somebody else's"


def test_what_a_batch_beside_this_one_finished_meanwhile_is_no_failure(tmp_path, parts, monkeypatch):
    monkeypatch.setattr(jobs, "Pipeline", lambda config: parts())
    Image.new("RGB", (64, 64)).save(source := tmp_path / "a.png")
    (made,) = restore_batch([source], tmp_path / "out", parts().config, resume=True)
    told, first = Finished.report, [None]  # it was not finished yet when this one looked
    monkeypatch.setattr(Finished, "report", lambda self, *asked: first.pop() if first else told(self, *asked))
    assert restore_batch([source], tmp_path / "out", parts().config, resume=True) == [made] and not first


def test_a_batch_knows_the_pictures_that_it_has_finished(tmp_path, parts, monkeypatch):
    monkeypatch.setattr(jobs, "Pipeline", lambda config: parts())
    for number in range(9, 13):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"f.{number:04d}.png")
    source, out, done = tmp_path / "f.%04d.png", tmp_path / "out", []

    def run(**more):
        done.clear()
        return restore_batch([source], out, parts().config, resume=True, progress=done.append, **more)[0]

    (made,) = [run()]
    assert made.frames_out == len(done) == 4
    assert run() == made and not done
    Image.new("RGB", (64, 64)).save(out / "f.0013.png")  # none of its own
    assert run() == made and not done
    (out / "f.0010.png").unlink()
    error = run()
    assert isinstance(error, MediaError) and "f.0009.png exists already" in str(error)
    assert run(overwrite=True).frames_out == len(done) == 4
    assert run().frames_out == 4 and not done
    Image.new("RGB", (64, 64)).save(tmp_path / "f.0013.png")
    error = run()
    assert isinstance(error, ResumeError) and "the source is another file" in str(error)

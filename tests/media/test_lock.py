from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from videoclr.errors import MediaError
from videoclr.media.lock import Lock
from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Frame


def test_a_second_run_on_one_target_is_refused_in_one_line_and_the_first_goes_on(clip, tmp_path):
    source, target = clip("i.mp4"), tmp_path / "o.mp4"
    with Reader(source) as reader, Writer(target, like=reader) as writer:
        frames = list(reader.frames())
        writer.write(frames[0])
        with (
            pytest.raises(MediaError, match=r"^\S*o.mp4: another run is writing it"),
            Reader(source) as other,
            Writer(target, like=other),
        ):
            pass
        for frame in frames[1:]:
            writer.write(frame)
    with Reader(target) as reader:
        assert len(list(reader.frames())) == len(frames)
    assert not Path(f"{target}.part").exists()


def test_what_a_killed_run_left_behind_is_taken_over(tmp_path):
    place = tmp_path / "o.mp4.part"
    code = f"import os; from videoclr.media.lock import Lock; lock = Lock({str(place)!r}, 'o'); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert place.exists()
    Lock(place, "o").release()


def test_a_target_that_is_removed_while_it_grows_is_told_and_a_strangers_file_stays(clip, tmp_path):
    source, target = clip("i.mp4"), tmp_path / "o.mp4"
    part = Path(f"{target}.part")
    with (
        pytest.raises(MediaError, match=r"o.mp4.part was removed or replaced"),
        Reader(source) as reader,
        Writer(target, like=reader) as writer,
    ):
        for frame in reader.frames():
            writer.write(frame)
        part.unlink()
        part.write_text("mine")
    assert not target.exists() and part.read_text() == "mine"


def test_a_target_that_is_removed_is_not_worked_on_to_the_end(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("videoclr.media.writer._LOOK", 2)
    source = clip("i.mp4")
    with Reader(source) as reader:
        writer = Writer(tmp_path / "o.mp4", like=reader)
        with pytest.raises(MediaError, match=r"o.mp4.part was removed or replaced"), writer:
            for frame in reader.frames():
                Path(f"{tmp_path / 'o.mp4'}.part").unlink(missing_ok=True)
                writer.write(frame)
    assert writer.frames_written == 2


def test_a_target_that_another_run_finished_meanwhile_is_not_replaced(clip, tmp_path):
    source, target = clip("i.mp4"), tmp_path / "o.mp4"
    with Reader(source) as reader:
        writer = Writer(target, like=reader)
        target.write_text("theirs")
        with pytest.raises(MediaError, match="exists already"), writer:
            pass
    assert target.read_text() == "theirs" and not Path(f"{target}.part").exists()


def test_a_file_that_somebody_puts_in_the_place_of_a_growing_one_stays_and_so_does_the_result(clip, tmp_path):
    source, target = clip("i.mp4"), tmp_path / "o.mp4"
    with (
        pytest.raises(MediaError, match=r"meanwhile, which stays; the result is whole and called \S*o.mp4.part: rename it"),
        Reader(source) as reader,
        Writer(target, like=reader) as writer,
    ):
        for frame in reader.frames():
            writer.write(frame)
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    with Reader(Path(f"{target}.part").rename(tmp_path / "whole.mp4")) as reader:
        assert len(list(reader.frames())) == writer.frames_written


@pytest.mark.parametrize("name", ["f%d.png", "f2.png"])
def test_a_picture_that_somebody_puts_in_the_place_of_a_new_one_stays(tmp_path, pattern, name):
    with pytest.raises(MediaError, match=r"f2\.png meanwhile, which stays"), Writer(tmp_path / name) as writer:
        for number in range(2 if "%" in name else 1):
            writer.write(Frame.from_image(pattern(number, 33, 21)))
        (tmp_path / "f2.png").write_text("theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["f2.png"] and (tmp_path / "f2.png").read_text() == "theirs"


@pytest.mark.parametrize("name", ["f%02d.png", "f.png"])
def test_two_runs_on_the_same_pictures_the_second_is_refused_and_the_first_goes_on(tmp_path, pattern, name):
    target = tmp_path / name
    with Writer(target) as writer:
        with pytest.raises(MediaError, match=r": another run is writing it"), Writer(target):
            pass
        writer.write(Frame.from_image(pattern(0, 33, 21)))
    assert [path.name for path in tmp_path.iterdir()] == [name.replace("%02d", "01")]
    with pytest.raises(ZeroDivisionError), Writer(target, overwrite=True) as writer:
        writer.write(Frame.from_image(pattern(1, 33, 21)))
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == [name.replace("%02d", "01")]


def test_pictures_that_another_run_finished_meanwhile_are_not_replaced(tmp_path):
    writer = Writer(tmp_path / "f%d.png")
    (tmp_path / "f7.png").write_text("theirs")
    with pytest.raises(MediaError, match=r"f7\.png exists already"), writer:
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["f7.png"]

from __future__ import annotations

import errno
import importlib.util
import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from videoclr import cli, faces
from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError, RestorationError
from videoclr.faces import find_faces, table
from videoclr.media.reader import Reader
from videoclr.pipeline import Pipeline

_spec = importlib.util.spec_from_file_location("discs", Path(__file__).with_name("discs.py"))
assert _spec is not None and _spec.loader is not None
_discs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_discs)
Discs = _discs.Discs
RED, GREEN = (40, 60, 220), (40, 220, 60)
"""BGR."""


class Colors:
    """Embeds a face as its mean colour."""

    def embed(self, crops: Tensor) -> Tensor:
        return torch.nn.functional.normalize(crops[..., 100:150, 100:150].mean((2, 3)) + 1, dim=1)


@pytest.fixture
def film(tmp_path, monkeypatch):
    """Ten numbered pictures of a red and, in the first six, a green disc."""
    monkeypatch.setattr(faces, "Pipeline", lambda config: Pipeline(config, detector=Discs(), recognizer=Colors()))
    for number in range(10):
        picture = np.full((120, 240, 3), 30, np.uint8)
        cv2.circle(picture, (50 + number, 60), 22, RED, -1)
        if number < 6:
            cv2.circle(picture, (180, 60), 16, GREEN, -1)
        cv2.imwrite(str(tmp_path / f"f{number:02d}.png"), picture)
    return tmp_path / "f%02d.png"


def test_every_track_is_listed_and_pictured(film, tmp_path):
    so_far = []
    found = find_faces(
        film, tmp_path / "found", json_file=tmp_path / "found.json", progress=lambda now: so_far.append((now.frames, now.faces))
    )
    assert (found.frames, found.faces, found.shots, found.people) == (10, 16, 1, 2)
    assert (so_far[0], so_far[-1]) == ((1, 2), (10, 16))
    head, *lines = [list(row) for row in table(found)]
    assert head == ["track", "person", "name", "shot", "from", "to", "faces", "size"]
    assert lines == [
        ["0", "0", "-", "0", "0:00:00.000", "0:00:00.360", "10", "45"],
        ["1", "1", "-", "0", "0:00:00.000", "0:00:00.200", "6", "33"],
    ]
    told = json.loads((tmp_path / "found.json").read_text())
    assert [(track["track"], track["faces"], track["last_time"]) for track in told["tracks"]] == [(0, 10, "9/25"), (1, 6, "1/5")]
    for track, color in zip(told["tracks"], (RED, GREEN), strict=True):
        picture = cv2.imread(str(tmp_path / "found" / track["picture"]))
        assert picture.shape == (256, 256, 3)
        assert np.abs(picture[100:150, 100:150].mean((0, 1)) - color).max() < 12
    assert not (tmp_path / "found.part").exists()


def test_what_is_there_is_not_touched(film, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for folder in (tmp_path / "full", tmp_path / "f00.png"):
        with pytest.raises(MediaError, match="is not an empty folder"):
            find_faces(film, folder)
    for below in ("x", "x/y"):
        with pytest.raises(MediaError, match=r"mine\.txt.*: cannot be made a folder"):
            find_faces(film, tmp_path / "full" / "mine.txt" / below)
    with pytest.raises(MediaError, match="exists already"):
        find_faces(film, json_file=tmp_path / "full" / "mine.txt")
    with pytest.raises(ConfigError, match=r"--json: .* is a file of this run"):
        find_faces(film, json_file=tmp_path / "f00.png", overwrite=True)
    with pytest.raises(ConfigError, match=r"--json: .* is a file of this run"):
        find_faces(tmp_path / "f00.png", json_file=tmp_path / "f00.png", overwrite=True)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_run_that_fails_leaves_nothing(film, tmp_path, monkeypatch):
    monkeypatch.setattr(Discs, "one", staticmethod(lambda image: 1 / 0))
    with pytest.raises(RestorationError, match="the detector raised ZeroDivisionError"):
        find_faces(film, tmp_path / "found", json_file=tmp_path / "found.json")
    with pytest.raises(MediaError, match="no such file"):
        find_faces(tmp_path / "absent.mp4", tmp_path / "found", json_file=tmp_path / "found.json")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("found")]


def test_a_full_disk_is_told_as_what_it_is(film, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MediaError, match=r"/found/track00000\.jpg: cannot be written \(No space left on device\)"):
        find_faces(film, tmp_path / "found")


def test_a_folder_of_a_name_that_no_file_can_have_is_told(film):
    with pytest.raises(MediaError, match="there is a NUL in this name"):
        find_faces(film, "a\0b")


def test_an_empty_folder_is_used(film, tmp_path):
    (tmp_path / "found").mkdir()
    find_faces(film, tmp_path / "found", Config().override("media.frames=3", "restore.use=nonsense"))
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["track00000.jpg", "track00001.jpg"]


def test_the_command_prints_the_table(film, tmp_path, capsys):
    assert cli.main(["faces", str(film), "--end", "0.2", "--to", str(tmp_path / "found")]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[6] for line in out.splitlines()] == ["faces", "5", "5"]
    assert "5 frames, 10 faces in 2 tracks, 1 shot, 0:00:0" in err
    assert cli.main(["faces", str(film), "--to", str(tmp_path / "found"), "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1


def test_saved_people_are_known_in_another_film_and_learn_from_it(film, tmp_path):
    saved, more = tmp_path / "people.json", tmp_path / "more.json"
    find_faces(film, people_file=saved)
    told = json.loads(saved.read_text())
    assert len(told["people"]) == 2 and all(one["view"] is not None and one["name"] is None for one in told["people"])
    (tmp_path / "named.json").write_text(json.dumps({**told, "people": [{**told["people"][1], "name": "green"}]}))
    known = Config().override(f"identify.people={tmp_path / 'named.json'}")
    found = find_faces(film, config=known, people_file=more)
    assert sorted((track.person, track.name) for track in found.tracks) == [(0, "green"), (1, None)]
    names = [one["name"] for one in json.loads(more.read_text())["people"]]
    assert names == ["green", None]
    with pytest.raises(ConfigError, match=r"--save-people: .* is a file of this run"):
        find_faces(film, config=known, people_file=tmp_path / "named.json", overwrite=True)
    assert cli.main(["faces", str(film), "--people", str(more), "--save-people", str(tmp_path / "third.json"), "-q"]) == 0
    assert [one["name"] for one in json.loads((tmp_path / "third.json").read_text())["people"]] == names


def restored(film, *settings):
    """All that the frames of the film come to."""
    config = Config().override("restore.use=unchanged", "gate.use=none", "blend.match_color=false", *settings)

    class Brighter:
        size = 64

        def restore(self, crops, memory):
            return torch.stack([crop.image for crop in crops]) * 0.5 + 0.5

    pipeline = Pipeline(config, detector=Discs(), recognizer=Colors(), restorer=Brighter())
    with Reader(str(film)) as reader:
        return [(frame.index, frame.image.tobytes()) for frame in pipeline.restore_frames(reader.frames())]


def test_saved_tracks_restore_the_same_film_and_edited_ones_another(film, tmp_path, monkeypatch):
    saved = tmp_path / "tracks.jsonl"
    find_faces(film, tracks_file=saved)
    alone = restored(film)
    with monkeypatch.context() as nobody:
        nobody.setattr(Discs, "one", staticmethod(lambda image: 1 / 0))  # nothing is detected
        assert restored(film, f"track.file={saved}") == alone
        lines = [json.loads(line) for line in saved.read_text().splitlines()]
        assert [line["frame"] for line in lines[1:]] == list(range(10))
        lines[3]["faces"].pop(1)  # frame 2, the green one
        lines.pop(6)  # frame 5
        edited = tmp_path / "edited.jsonl"
        edited.write_text("".join(json.dumps(line) + "\n" for line in lines))
        changed = restored(film, f"track.file={edited}", "align.smoothing=0", "identify.window=1")
    before = restored(film, "align.smoothing=0", "identify.window=1")
    source = restored(film, "identify.leave=[0, 1]")
    assert [index for index in range(10) if changed[index] != before[index]] == [2, 5]
    assert changed[5] == source[5] and changed[2] != source[2]


def test_tracks_of_numbered_pictures_say_with_which_they_begin(film, tmp_path):
    with Reader(film) as reader:
        for number, frame in enumerate(reader.frames(), 1001):
            cv2.imwrite(str(tmp_path / f"f.{number}.png"), frame.image[..., ::-1])
    saved = tmp_path / "tracks.jsonl"
    named = ["faces", str(tmp_path / "f.%04d.png"), "--start-number", "1005", "--rate", "50", "--quiet"]
    assert cli.main([*named, "--save-tracks", str(saved)]) == 0
    head, first, *_ = map(json.loads, saved.read_text().splitlines())
    assert head["start_number"] == 1005
    assert cli.main([*named, "--tracks", str(saved)]) == 0
    assert cli.main([*named[:2], "--quiet", "--tracks", str(saved)]) == 2
    assert first["frame"] == 0


def test_a_name_in_the_tracks_chooses_also_after_they_were_saved_again(film, tmp_path):
    saved, again = tmp_path / "tracks.jsonl", tmp_path / "again.jsonl"
    find_faces(film, tracks_file=saved)
    head, *lines = saved.read_text().splitlines(keepends=True)
    saved.write_text("".join([head, '{"track": 1, "name": "anna", "strength": 0.5}\n', *lines]))
    assert cli.main(["faces", str(film), "--tracks", str(saved), "--save-tracks", str(again), "--quiet"]) == 0
    chosen = [restored(film, f"track.file={file}", "identify.only=[anna]") for file in (saved, again)]
    assert chosen[0] == chosen[1] == restored(film, f"track.file={saved}", "identify.leave=[0]")


def test_tracks_are_found_again_in_a_file(film, tmp_path, capsys):
    saved, again = tmp_path / "tracks.jsonl", tmp_path / "again.jsonl"
    assert cli.main(["faces", str(film), "--save-tracks", str(saved), "--quiet"]) == 0
    assert cli.main(["faces", str(film), "--tracks", str(saved), "--save-tracks", str(again)]) == 0
    assert saved.read_text() == again.read_text()
    capsys.readouterr()
    assert cli.main(["faces", str(film), "--tracks", str(saved), "--save-tracks", str(saved), "--overwrite"]) == 2
    assert "--save-tracks" in capsys.readouterr().err
    saved.write_text(saved.read_text().replace('"track": 1', '"trak": 1', 1))
    assert cli.main(["faces", str(film), "--tracks", str(saved)]) == 1
    assert capsys.readouterr().err == f"videoclr: error: {saved}: line 2: faces.1.track: field required\n"
    assert not list(tmp_path.glob("*.part"))


def test_verbose_says_more(film, capsys, monkeypatch):
    look = faces.find_faces

    def speaking(*given, **named):
        logging.getLogger("videoclr.flow").info("interesting")
        return look(*given, **named)

    monkeypatch.setattr(faces, "find_faces", speaking)
    for option, count in (("--verbose", 1), ("--quiet", 0)):
        assert cli.main(["faces", str(film), option]) == 0
        assert capsys.readouterr().err.count("videoclr: info: interesting") == count


def test_files_in_the_new_folder_of_pictures_are_refused_for_what_they_are(film, tmp_path):
    for option in ("json_file", "tracks_file", "people_file"):
        with pytest.raises(ConfigError, match="which is made new for the pictures"):
            find_faces(film, tmp_path / "look", **{option: tmp_path / "look" / "x.json"})
    assert not (tmp_path / "look").exists()


def test_photographs_are_files_of_the_run(film, tmp_path):
    photograph = tmp_path / "anna.png"
    photograph.write_bytes(b"picture")
    config = Config().override(f"identify.references=[{photograph}]")
    with pytest.raises(ConfigError, match=r"--json: .*anna.png is a file of this run"):
        find_faces(film, config=config, json_file=photograph, overwrite=True)
    assert photograph.read_bytes() == b"picture"

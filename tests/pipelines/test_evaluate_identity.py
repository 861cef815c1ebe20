"""Pairs are counted once and rightly, and the equal error lies where the two kinds meet."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("evaluate_identity", ROOT / "pipelines/evaluate_identity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pair_counts_once(program):
    every = program.cosines(np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32))
    one = program.alike([4, 4, 7])
    assert every[one] == pytest.approx([0.6])
    assert sorted(every[~one]) == pytest.approx([0.0, 0.8])


def test_in_clips_the_judge_says_who_is_who_and_doubtful_pairs_are_left_out(program):
    """A judge that sees the brightness as an angle: 0 and 20 degrees, 66 and 180 of one clip, 64 and 180 and 10 of another."""

    class Angles:
        def see(self, face, points):
            assert points.shape == (5, 2) and points.max() < face.shape[0]
            angle = np.deg2rad(float(face.mean()))
            return np.array([np.cos(angle), np.sin(angle)]), {}

    faces = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (0, 20, 66, 180, 64, 180, 10)])
    one, two = program.judged(faces, ["a", "a", "a", "a", "b", "b", "b"], Angles())
    first, second = np.triu_indices(7, 1)
    assert [pair for pair, same in zip(zip(first, second, strict=True), one, strict=True) if same] == [(0, 1), (1, 2), (4, 6)]
    different = {pair for pair, differ in zip(zip(first, second, strict=True), two, strict=True) if differ}
    assert different == {(0, 5), (1, 5), (2, 5), (3, 4), (3, 6)}


def test_equal_error_of_kinds_that_do_not_meet_is_zero_and_of_equal_ones_a_half(program):
    low, high = np.linspace(0, 0.4, 50, dtype=np.float32), np.linspace(0.6, 1, 50, dtype=np.float32)
    rate, level = program.equal_error(high, low)
    assert rate == 0 and 0.4 < level <= 0.6 + 1e-6
    assert program.equal_error(low, low)[0] == pytest.approx(0.5, abs=0.02)


def test_the_table_is_of_the_pictures_and_needs_pairs(program, tmp_path, capsys):
    faces = tmp_path / "faces"
    faces.mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        cv2.imwrite(str(faces / f"{name}.png"), rng.integers(0, 255, (64, 64, 3), np.uint8))
    (tmp_path / "people.tsv").write_text("file\tidentity\na.png\tanna\nb.png\tanna\n")
    arguments = ["--faces", str(faces), "--identities", str(tmp_path / "people.tsv"), "--size", "64"]
    program.main([*arguments, "--json", str(tmp_path / "table.json")])
    table = json.loads((tmp_path / "table.json").read_text())
    assert (table["faces"], table["pairs of one person"], table["pairs of two people"], table["pairs left out"]) == (3, 1, 2, 0)
    (tmp_path / "people.tsv").write_text("file\tidentity\n")
    with pytest.raises(SystemExit):
        program.main(arguments)
    assert "people with two pictures" in capsys.readouterr().err


def test_a_judge_needs_the_clips_and_a_face_recogniser(program, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    people, judge = tmp_path / "people.tsv", tmp_path / "judge.py"
    people.write_text("file\tidentity\na.png\tanna\n")
    judge.write_text("class Judges:\n    pass\n")
    arguments = ["--faces", str(tmp_path), "--identities", str(people), "--size", "64", "--judge", str(judge)]
    for manifest, reason in (
        ("file\tidentity\na.png\tanna\n", "file and source"),
        ("file\tsource\na.png\tclip\n", "no face_input and embed"),
    ):
        people.write_text(manifest)
        with pytest.raises(SystemExit):
            program.main(arguments)
        assert reason in capsys.readouterr().err
    with pytest.raises(SystemExit):
        program.main([*arguments[:-1], str(tmp_path / "none.py")])
    assert "not a Python file" in capsys.readouterr().err

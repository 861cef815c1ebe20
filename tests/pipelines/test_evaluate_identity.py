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
    embedded = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    same, different = program.cosines(embedded, np.array([4, 4, 7]))
    assert same == pytest.approx([0.6])
    assert sorted(different) == pytest.approx([0.0, 0.8])


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
    assert (table["faces"], table["pairs of one person"]) == (3, 1)
    (tmp_path / "people.tsv").write_text("file\tidentity\n")
    with pytest.raises(SystemExit):
        program.main(arguments)
    assert "people with two pictures" in capsys.readouterr().err

"""Who scores, and who is missing."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from videoclr.errors import ConfigError, VideoclrError
from videoclr.evaluation import observer
from videoclr.evaluation.observer import Judge, Observer, why_no_lpips

POINTS = np.zeros((5, 2))


def picture(value: int = 100) -> np.ndarray:
    made = np.full((32, 32, 3), value, np.uint8)
    made[8:20, 4:25] = 250
    return made


def test_a_judge_sees_landmarks_in_pixels_identity_and_features(detector, judge_file) -> None:
    seen = Observer(detector, Judge(judge_file), lpips=False)
    look = seen.look(picture(), POINTS)
    assert look.landmarks.tolist() == [[4, 8], [24, 19]]
    assert np.linalg.norm(look.embedding) == pytest.approx(1)
    assert seen.distances == ("facefeat", "sqd")
    assert seen.distance("sqd", look, look) == 0
    darker = seen.look(picture(50), POINTS)
    assert seen.distance("sqd", look, darker) == pytest.approx(50 / 127.5 * (1 - 12 * 21 / 1024), rel=1e-4)


def test_what_a_judge_lacks_is_missing_by_name(detector, tmp_path) -> None:
    path = tmp_path / "points.py"
    path.write_text("class Judges:\n    def landmarks68(self, picture):\n        return [[0.5, 0.5]]\n")
    seen = Observer(detector, Judge(path), lpips=False)
    assert seen.distances == () and seen.sources["landmarks"] == "points.py, landmarks68 on the crop"
    assert seen.missing["vidd"].startswith("points.py has no face_input and embed")
    assert seen.missing["sqd"] == "points.py has no features for it"
    assert seen.look(picture(), POINTS).landmarks.tolist() == [[16, 16]]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("x = 1", ConfigError, "has no class Judges"),
        ("import no_such_package_at_all", VideoclrError, "cannot be imported: ModuleNotFoundError"),
        ("class Judges:\n    def __init__(self):\n        raise OSError('weights gone')", VideoclrError, "weights gone"),
    ],
)
def test_a_file_that_is_no_judge_is_an_error_of_one_line(tmp_path, text, kind, message) -> None:
    path = tmp_path / "judge.py"
    path.write_text(text)
    with pytest.raises(kind, match=message) as raised:
        Judge(path)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value)


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit"])
@pytest.mark.parametrize("method", ["landmarks68", "face_input", "embed", "squeeze", "feature_distance"])
def test_a_judge_whose_method_fails_is_named_with_it(detector, judge_file, method, error) -> None:
    start = judge_file.read_text().index(f"def {method}(")
    body = judge_file.read_text().index(":\n", start) + 1
    indent = " " * (4 if method == "feature_distance" else 8)
    judge_file.write_text(f"{judge_file.read_text()[:body]}\n{indent}raise {error}('no\\nlight'){judge_file.read_text()[body:]}")
    seen = Observer(detector, Judge(judge_file), lpips=False)
    with pytest.raises(VideoclrError) as raised:
        look = seen.look(picture(), POINTS)
        seen.distance("sqd", look, look)
    assert str(raised.value) == f"{judge_file}: {method} failed: {error}: no light"


def test_an_answer_of_the_wrong_kind_is_the_methods_fault(detector, tmp_path) -> None:
    path = tmp_path / "judge.py"
    path.write_text("class Judges:\n    def landmarks68(self, picture):\n        return 'left'\n")
    with pytest.raises(VideoclrError, match="landmarks68 failed: ValueError: could not convert string to float"):
        Observer(detector, Judge(path), lpips=False).look(picture(), POINTS)


EMBED = "def face_input(self, picture, points): return picture.mean()\n    def embed(self, faces): return"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("def landmarks68(self, picture): return [0.5] * 136", r"landmarks68 failed: .* got \(136,\)"),
        ("def landmarks68(self, picture): return [[0.5, 0.5]] * (1 + (picture.min() > 60))", r"landmarks68 .* got \(2, 2\)"),
        (f"{EMBED} [[float('nan')] * 4], []", "embed failed: .* finite"),
        (f"{EMBED} [[0.0] * 4], []", "embed failed: .* not all zero"),
        (f"{EMBED} [[1.0] * int(faces[0] > 120) + [1.0]], []", "embed failed: .* one length"),
    ],
)
def test_an_answer_that_cannot_be_compared_is_the_methods_fault(detector, tmp_path, method, message) -> None:
    path = tmp_path / "judge.py"
    path.write_text(f"class Judges:\n    {method}\n")
    seen = Observer(detector, Judge(path), lpips=False)
    with pytest.raises(VideoclrError, match=message):
        [seen.look(picture(value), POINTS) for value in (50, 100)]


@pytest.mark.parametrize("answer", ["None", "[]", "[[float('nan')] * 2] * 68"])
def test_a_judge_may_see_no_face(detector, tmp_path, answer) -> None:
    path = tmp_path / "judge.py"
    path.write_text(f"class Judges:\n    def landmarks68(self, picture): return {answer}\n")
    assert Observer(detector, Judge(path), lpips=False).look(picture(), POINTS).landmarks is None


def test_a_judge_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"none\.py: not a Python file"):
        Judge(tmp_path / "none.py")


def test_of_two_faces_in_a_crop_the_one_in_place_is_taken(detector) -> None:
    crop = np.zeros((64, 64, 3), np.uint8)
    crop[4:16, 4:16, 0] = 255
    crop[30:60, 30:60, 1] = 255
    middle = np.full((5, 2), 45.0)
    look = Observer(detector, lpips=False).look(crop, middle)
    assert look.landmarks.mean(0) == pytest.approx([44.5, 44.5], abs=2)
    assert Observer(detector, lpips=False).look(np.zeros((64, 64, 3), np.uint8), middle).landmarks is None


def test_lpips_is_asked_for_only_where_package_and_weights_are(detector, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(observer.importlib.util, "find_spec", lambda name: None if name == "torchvision" else object())
    assert why_no_lpips() == "needs the package torchvision"
    monkeypatch.setattr(observer.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert "needs torchvision's weights" in why_no_lpips()
    weights = tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    assert why_no_lpips() == ""

    class Distance(torch.nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            assert net == "alex"

        def forward(self, a, b):
            assert a.shape == (1, 3, 32, 32) and a.min() >= -1 and a.max() <= 1  # in [-1, 1], normalised once
            return (a - b).abs().mean((1, 2, 3), keepdim=True)

    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=Distance))
    seen = Observer(detector)
    assert "lpips" not in seen.missing and seen.distances == ("lpips",)
    one, other = (seen.look(picture(value), POINTS) for value in (100, 50))
    assert seen.distance("lpips", one, other) == pytest.approx(50 / 127.5 * (1 - 12 * 21 / 1024), rel=1e-4)

from __future__ import annotations

import pytest

from videoclr.checks import Condition, objections
from videoclr.errors import ConfigError
from videoclr.report import Report


def track(number: int, frames: int = 10, confidence: float = 0.9, similarity: float | None = 0.8, size: float = 90.0) -> dict:
    figures = {"mean_confidence": confidence, "mean_similarity": similarity, "mean_size": size}
    return {"track": number, "frames": frames, "first_frame": 5, "last_frame": 14, **figures}


def report(*tracks: dict, faces: int = 20, warnings: int = 0) -> Report:
    return Report("in.mp4", "out.mp4", 50, 50, faces, tracks, 2, 1.0, {}, ["odd"] * warnings, "0", {})


def said(done: Report, *conditions: str) -> list[str]:
    return list(objections(done, [Condition.of(text) for text in conditions]))


def test_figures_of_the_whole_film() -> None:
    done = report(track(0), track(1), warnings=2)
    assert said(done, "faces<1", "tracks>2", "shots > 2", "warnings>2") == []
    assert said(done, "faces<21", "tracks>1", "warnings > 0") == [
        "faces 20, and --fail-on says faces < 21",
        "tracks 2, and --fail-on says tracks > 1",
        "warnings 2, and --fail-on says warnings > 0",
    ]


def test_figures_of_every_track_that_was_restored() -> None:
    done = report(track(0), track(1, confidence=0.3), track(2, similarity=None), track(3, frames=0, confidence=0.0))
    assert said(done, "confidence<0.5") == ["track 1, frames 5 to 14: confidence 0.3, and --fail-on says confidence < 0.5"]
    assert said(done, "similarity<0.9") == [
        f"track {number}, frames 5 to 14: similarity 0.8, and --fail-on says similarity < 0.9" for number in (0, 1)
    ]
    assert said(done, "size<90", "size>90") == []


@pytest.mark.parametrize("text", ["", "faces", "faces=1", "noses<1", "faces<", "faces<many", "faces<nan", "confidence<<1"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--fail-on: "):
        Condition.of(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("faces<=1", "expected < or > without =; faces<2 says the same"),
        ("warnings>=1", "expected < or > without =; warnings>0 says the same"),
        ("confidence<=0.5", "expected < or > without ="),
        ("faces<=many", "expected < or > without ="),
    ],
)
def test_an_equals_sign_is_told_with_what_says_the_same(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Condition.of(text)
    assert str(caught.value) == f"--fail-on: {text!r}: {says}"

"""Figures of clips whose answers are known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from videoclr.evaluation.meter import Meter
from videoclr.evaluation.observer import Judge, Observer
from videoclr.evaluation.table import text
from videoclr.evaluation.views import CLEAN


def measured(finder, detector, clean, others, judge=None, borders=None):
    meter = Meter(Observer(detector, Judge(judge) if judge else None), borders)
    rows = list(meter.rows(finder.views(clean, others)))
    return meter.figures(), rows


@pytest.fixture
def walking(drawn):
    """Ten frames of one disc that walks to the right."""
    return drawn([[(50 + 3 * i, 60, 0)] for i in range(10)])


def test_the_clean_clip_itself_is_perfect_in_everything(finder, detector, walking, as_frames, judge_file) -> None:
    figures, rows = measured(finder, detector, as_frames(walking), {"same": as_frames(walking)}, judge_file, borders=4)
    same = figures.clips["same"]
    assert math.isinf(same["psnr"]) and math.isinf(same["frame_psnr_y"])
    assert {name: same[name] for name in ("ssim", "frame_ssim", "ids")} == pytest.approx(
        dict.fromkeys(("ssim", "frame_ssim", "ids"), 1)
    )
    for name in ("deg", "sigma_ids", "lmd", "sqd", "facefeat", "tlme", "tsqd", "tfacefeat"):
        assert same[name] == pytest.approx(0, abs=1e-3), name
    assert figures.ratios("same") == pytest.approx(dict.fromkeys(figures.ratios("same"), 1))
    assert set(figures.ratios("same")) == {"sharpness", "vidd", "jitter", "ewarp", "seam_ewarp", "seam_vidd"}
    assert figures.counts == {"frames": 10, "faces": 10, "tracks": 1, "shots": 1, "landmarks": 10}
    assert len(rows) == 20 and set(figures.missing) == {"lpips", "tlpips", "mouth_gain"}


def test_a_face_that_equals_the_clean_one_is_counted_and_does_not_drown_the_others_psnr(
    finder, detector, walking, as_frames
) -> None:
    dark = [np.clip(p * 0.9, 0, 255).astype(np.uint8) for p in walking]
    some = [walking[3] if place == 3 else picture for place, picture in enumerate(dark)]
    figures, rows = measured(finder, detector, as_frames(walking), {"some": as_frames(some)})
    others = [row.values["psnr"] for row in rows if row.clip == "some" and row.frame != 3]
    assert figures.clips["some"]["psnr"] == pytest.approx(np.mean(others)) and math.isfinite(figures.clips["some"]["frame_psnr"])
    assert figures.as_dict()["equal_to_clean"] == {"some": dict.fromkeys(("psnr", "psnr_y", "frame_psnr", "frame_psnr_y"), 1)}
    assert "some: 1 of 10 faces equal the clean ones and are left out of its PSNR" in text(figures)


def test_flicker_costs_warp_error_and_a_steady_error_does_not(finder, detector, walking, as_frames) -> None:
    dark = [np.clip(p * 0.9, 0, 255).astype(np.uint8) for p in walking]
    flicker = [np.clip(p * (1.0 if i % 2 else 0.8), 0, 255).astype(np.uint8) for i, p in enumerate(walking)]
    figures, _ = measured(finder, detector, as_frames(walking), {"dark": as_frames(dark), "flicker": as_frames(flicker)})
    dark_ratio, flicker_ratio = figures.ratios("dark")["ewarp"], figures.ratios("flicker")["ewarp"]
    assert dark_ratio < 1.1 and flicker_ratio > 10 * dark_ratio
    # 0.8 and 1 alternate on a disc of (230, 60, 60) / 255
    colour = np.array([230, 60, 60]) / 255
    assert figures.clips["flicker"]["ewarp"] == pytest.approx(1e3 * float(((0.2 * colour) ** 2).mean()), rel=0.25)


def test_a_blur_is_told_by_its_sharpness(finder, detector, walking, as_frames) -> None:
    soft = [cv2.GaussianBlur(picture, (0, 0), 2) for picture in walking]
    figures, _ = measured(finder, detector, as_frames(walking), {"soft": as_frames(soft)})
    assert figures.ratios("soft")["sharpness"] < 0.2


SPEAKS = """
class Judges:
    def landmarks68(self, picture):
        points = __import__("numpy").full((68, 2), 0.5)
        points[[65, 66, 67], 1] += picture.mean() / 400
        return points
"""


def test_a_mouth_that_moves_half_as_far_has_half_the_gain(finder, detector, walking, as_frames, tmp_path) -> None:
    (judge := tmp_path / "speaks.py").write_text(SPEAKS)
    opened = np.array([1, 0.9, 0.96, 0.92, 1, 0.9, 0.98, 0.94, 0.91, 0.99])

    def saying(gains):
        return as_frames([np.clip(p * g, 0, 255).astype(np.uint8) for p, g in zip(walking, gains, strict=True)])

    others = {"half": saying(0.95 + (opened - 0.95) / 2), "frozen": saying(np.full(10, 0.95)), "same": saying(opened)}
    figures, _ = measured(finder, detector, saying(opened), others, judge)
    gains = {name: figures.clips[name]["mouth_gain"] for name in others}
    assert gains == pytest.approx({"half": 0.5, "frozen": 0, "same": 1}, abs=0.03) and "mouth_gain" not in figures.clips[CLEAN]
    still, _ = measured(finder, detector, as_frames([walking[0]] * 10), {"other": saying(opened)}, judge)
    assert "mouth_gain" not in still.clips["other"] and "no clean mouth moves" in still.missing["mouth_gain"]


def test_landmarks_that_tremble_are_told_from_those_that_are_off(finder, detector, walking, as_frames) -> None:
    off = [np.roll(picture, 3, axis=1) for picture in walking]
    tremble = [np.roll(picture, 3 * (i % 2), axis=1) for i, picture in enumerate(walking)]
    figures, _ = measured(finder, detector, as_frames(walking), {"off": as_frames(off), "tremble": as_frames(tremble)})
    scale = figures.clips["off"]["lmd"] / 3  # px of the crop per px of the frame
    assert 0.4 < scale < 2
    assert figures.clips["off"]["tlme"] < 0.2 * scale
    assert figures.clips["tremble"]["lmd"] == pytest.approx(1.5 * scale, rel=0.1)
    assert figures.clips["tremble"]["tlme"] == pytest.approx(3 * scale, rel=0.15)
    assert figures.ratios("tremble")["jitter"] > 4 * figures.ratios("off")["jitter"]


def test_nothing_temporal_is_measured_over_a_cut(finder, detector, drawn, as_frames, judge_file) -> None:
    clean = [*drawn([[(60, 60, 0)]] * 6, seed=1), *drawn([[(60, 60, 1)]] * 6, seed=2)]
    figures, rows = measured(finder, detector, as_frames(clean), {"same": as_frames(clean)}, judge_file)
    assert figures.counts["shots"] == figures.counts["tracks"] == 2
    stepless = {row.frame for row in rows if "ewarp" not in row.values}
    assert stepless == {0, 6}
    assert {row.frame for row in rows if "jitter" not in row.values} == {0, 1, 6, 7}
    assert figures.clips[CLEAN]["vidd"] == pytest.approx(0, abs=1e-9)
    # the two people look different, which is no spread of anyone's identity
    assert figures.clips["same"]["sigma_ids"] == pytest.approx(0, abs=1e-6)


def test_seams_are_counted_from_the_first_frame_of_the_track(finder, detector, drawn, as_frames) -> None:
    clean = drawn([[]] * 2 + [[(60, 60, 0)]] * 12)
    jumping = drawn([[]] * 2 + [[(60, 60, 0)]] * 12, gain=[1.0] * 2 + [1 - 0.15 * ((i // 4) % 2) for i in range(12)])
    noise = np.random.default_rng(0)
    grainy = [np.clip(p + noise.normal(0, 2, p.shape), 0, 255).astype(np.uint8) for p in jumping]
    figures, rows = measured(finder, detector, as_frames(clean), {"jumping": as_frames(grainy)}, borders=4)
    assert {row.frame for row in rows if row.border} == {6, 10}
    assert figures.clips["jumping"]["seam_ewarp"] > 10
    figures, _ = measured(finder, detector, as_frames(clean), {"jumping": as_frames(grainy)}, borders=5)
    assert figures.clips["jumping"]["seam_ewarp"] < 1


def test_without_a_judge_identity_is_not_measured_and_says_why(finder, detector, walking, as_frames) -> None:
    figures, _ = measured(finder, detector, as_frames(walking), {"same": as_frames(walking)})
    assert not {"ids", "deg", "sigma_ids", "vidd", "sqd", "facefeat"} & set(figures.clips["same"])
    assert "the embedded recogniser guides the restoration" in figures.missing["ids"]
    assert figures.missing["tsqd"] == "no judge given (--judge FILE.py)"
    assert "Discs, 5 points" in figures.sources["landmarks"]


def test_a_frame_counts_once_and_a_face_in_each_frame(finder, detector, drawn, as_frames) -> None:
    clean = drawn([[(40, 60, 0), (115, 60, 1)]] * 4)
    worse = [p.copy() for p in clean]
    for picture in worse:
        picture[:, 80:] //= 2
    figures, rows = measured(finder, detector, as_frames(clean), {"worse": as_frames(worse)})
    assert figures.counts["faces"] == 8 and figures.counts["tracks"] == 2
    own = [track["clips"]["worse"]["ssim"] for track in figures.tracks]
    assert figures.clips["worse"]["ssim"] == pytest.approx(np.mean(own)) and max(own) > min(own)
    assert sum("frame_psnr" in row.values for row in rows if row.clip == "worse") == 4


def test_a_face_that_is_not_seen_in_a_version_has_no_landmark_figures(finder, detector, walking, as_frames) -> None:
    black = [np.zeros_like(picture) for picture in walking]
    figures, _ = measured(finder, detector, as_frames(walking), {"black": as_frames(black)})
    assert not {"lmd", "tlme", "jitter"} & set(figures.clips["black"])
    assert "jitter" not in figures.clips[CLEAN] and figures.counts["landmarks"] == 0
    assert figures.clips["black"]["psnr"] < 15

"""Identity figures on embeddings whose angles are known."""

from __future__ import annotations

import numpy as np
import pytest

from videoclr.metrics.identity import degrees, identity_scores, ids, vidd


def at(*angles: float) -> np.ndarray:
    """Unit vectors of the plane at the given angles in degrees, one row each."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_ids_is_the_cosine_whatever_the_lengths() -> None:
    assert ids(at(0, 60, 180) * 7, at(0, 0, 0) * 0.1) == pytest.approx([1, 0.5, -1])


def test_deg_is_in_degrees() -> None:
    assert degrees(np.array([1, 0.5, 0, -1])) == pytest.approx([0, 60, 90, 180])


def test_deg_survives_a_cosine_beyond_one() -> None:
    assert degrees(np.array([1 + 1e-12])) == pytest.approx([0])


def test_vidd_is_the_mean_distance_of_neighbours() -> None:
    assert vidd(at(0, 60, 60)) == pytest.approx((0.5 + 0) / 2)
    assert vidd(at(10, 10, 10)) == pytest.approx(0)


def test_scores_tell_a_wandering_face_from_a_wrong_one() -> None:
    clean = at(0, 0, 0, 0)
    wrong = identity_scores(at(60, 60, 60, 60), clean)
    wandering = identity_scores(at(60, -60, 60, -60), clean)
    assert wrong.ids == pytest.approx(0.5) == pytest.approx(wandering.ids)
    assert wrong.degrees == pytest.approx(60)
    assert wrong.sigma_ids == pytest.approx(0) and wrong.vidd == pytest.approx(0)
    assert wandering.vidd == pytest.approx(1.5)


def test_vidd_ratio_compares_with_the_clean_clip() -> None:
    scores = identity_scores(at(0, 60, 0), at(0, 30, 0))
    assert scores.vidd_ratio == pytest.approx(0.5 / (1 - np.sqrt(3) / 2))
    assert identity_scores(at(0, 60), at(0, 0)).vidd_ratio is None


def test_sigma_ids_is_the_deviation_over_frames() -> None:
    assert identity_scores(at(0, 60), at(0, 0)).sigma_ids == pytest.approx(0.25)


def test_a_single_frame_has_no_vidd() -> None:
    scores = identity_scores(at(60), at(0))
    assert scores.vidd is None and scores.vidd_ratio is None and scores.ids == pytest.approx(0.5)


def test_bad_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        ids(at(0), at(0, 0))
    with pytest.raises(ValueError, match="no length"):
        ids(np.zeros((1, 2)), at(0))
    with pytest.raises(ValueError, match="at least one frame"):
        ids(np.zeros((0, 4)), np.zeros((0, 4)))
    with pytest.raises(ValueError, match="two frames"):
        vidd(at(0))

"""Where a result shows what its input does not."""

from __future__ import annotations

import numpy as np
import pytest

from videoclr.disagreement import blurred, invented


@pytest.fixture
def face():
    """`(128, 128)` in [-1, 1] with structure of many sizes."""
    rng = np.random.default_rng(0)
    return sum(blurred(rng.standard_normal((128, 128)).astype(np.float32), s) * s * 0.35 for s in (1.0, 3.0, 8.0)).clip(-1, 1)


def test_a_result_that_is_only_sharper_than_its_input_invents_nothing(face):
    assert invented(face, face, 0.25, 0.5).max() == 0
    assert invented(face, blurred(face, 3.0), 0.25, 0.5).mean() < 0.01


def test_what_the_input_does_not_show_is_found_where_it_is_and_at_the_size_of_the_crop(face):
    other = face.copy()
    other[32:56, 64:88] = -face[32:56, 64:88] + 0.5
    found = invented(other, face, 0.25, 0.5)
    assert found[36:52, 68:84].mean() > 0.8 and found[80:].max() == 0
    large = [np.kron(one, np.ones((2, 2), np.float32)) for one in (other, face)]
    assert invented(*large, 0.25, 0.5).shape == (256, 256)

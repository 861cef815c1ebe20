"""Sums of figures that come one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from videoclr.metrics.running import Following, Running


def test_mean_and_deviation_are_those_of_the_list() -> None:
    values = np.random.default_rng(0).normal(1000, 0.1, 50)
    running = Running()
    for value in values:
        running.add(float(value))
    assert running.count == 50
    assert running.mean == pytest.approx(values.mean(), abs=1e-9)
    assert running.deviation == pytest.approx(values.std(), rel=1e-6)


def test_a_weight_counts_as_so_many_values() -> None:
    running = Running()
    running.add(1.0, 3)
    running.add(5.0)
    assert (running.count, running.mean) == (4, 2.0)
    assert running.deviation == pytest.approx(np.std([1, 1, 1, 5]))


def test_nothing_is_nan_and_nan_is_nothing() -> None:
    running = Running()
    running.add(math.nan)
    assert running.count == 0 and math.isnan(running.mean) and math.isnan(running.deviation)
    running.add(2.0)
    assert (running.mean, running.deviation) == (2.0, 0.0)


@pytest.mark.parametrize("values", [(30.0, math.inf, 40.0, math.inf), (math.inf, math.inf, 30.0, 40.0)])
def test_an_infinite_psnr_is_counted_beside_the_mean(values) -> None:
    running = Running()
    for value in values:
        running.add(value)
    assert (running.mean, running.deviation, running.count, running.infinite) == (35.0, 5.0, 2, 2)


def test_the_mean_of_infinite_values_alone_is_infinite() -> None:
    running = Running()
    running.add(math.inf, 3)
    assert running.mean == math.inf and math.isnan(running.deviation) and (running.count, running.infinite) == (0, 3)


def test_what_follows_another_figure_does_so_about_means_of_its_own() -> None:
    rng = np.random.default_rng(5)
    clean, noise = rng.normal(10, 2, 400), rng.normal(0, 0.5, 400)
    pairs = Following()
    for value, followed in zip(3 + 0.4 * clean + noise, clean, strict=True):
        pairs.add(value, followed)
    pairs.add(math.nan, 5.0)
    pairs.add(5.0, math.nan)
    assert pairs.count == 400 and pairs.squares == pytest.approx(400 * clean.var())
    assert pairs.together / pairs.squares == pytest.approx(np.polyfit(clean, 3 + 0.4 * clean + noise, 1)[0])

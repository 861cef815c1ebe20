"""Means and spreads of figures that come one by one: a film of hours needs no list of its frames' scores."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Running:
    """Mean and standard deviation of what was added so far (Welford, Technometrics 1962)."""

    count: int = 0
    """Values so far; NaN is nobody's value and not counted."""
    mean: float = math.nan
    """NaN before the first value; infinite where all of them are."""
    infinite: int = 0
    """Values beside `count`: equal pictures have an infinite PSNR, and one of them would drown all others' mean."""
    _squares: float = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Take one more value; `times` gives it the weight of so many."""
        if math.isnan(value) or times < 1:
            return
        if math.isinf(value):
            self.infinite += times
            self.mean = self.mean if self.count else value
            return
        before = 0.0 if self.count == 0 else self.mean
        self.count += times
        step = value - before
        self.mean = before + step * times / self.count
        self._squares += step * (value - self.mean) * times

    @property
    def deviation(self) -> float:
        """Standard deviation of the population; 0 for one value, NaN for none."""
        return math.sqrt(max(self._squares, 0.0) / self.count) if self.count else math.nan


@dataclass(slots=True)
class Following:
    """How one figure follows another that comes with it: what a regression of it on the other adds up (Welford's, for two)."""

    count: int = 0
    """Pairs so far; one with a NaN is not counted."""
    together: float = 0.0
    """Sum over the pairs of the product of both deviations from their means."""
    squares: float = 0.0
    """Sum of the squared deviations of what is followed."""
    _mean: float = 0.0
    _followed: float = 0.0

    def add(self, value: float, followed: float) -> None:
        """Take one more pair."""
        if math.isnan(value) or math.isnan(followed):
            return
        self.count += 1
        step = followed - self._followed
        self._followed += step / self.count
        self.together += step * (value - self._mean) * (self.count - 1) / self.count
        self._mean += (value - self._mean) / self.count
        self.squares += step * (followed - self._followed)

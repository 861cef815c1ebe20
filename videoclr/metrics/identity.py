"""Is it still the same person, and does the person stay the same: figures over face embeddings.

Embeddings are `(T, D)`, one row per frame of one face, of any recogniser and any length; name the recogniser beside
every figure, and never judge a restoration by the recogniser that guided it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class IdentityScores:
    """Identity of one face over a clip."""

    ids: float
    """Mean cosine of restored against clean, -1..1; more is better."""
    degrees: float
    """Mean angle between restored and clean (Deg), degrees; less is better."""
    sigma_ids: float
    """Standard deviation of the cosine over the frames; less is steadier."""
    vidd: float | None
    """Mean identity distance from frame to frame, of the restored face; None for a single frame."""
    vidd_clean: float | None
    """The same of the clean face."""

    @property
    def vidd_ratio(self) -> float | None:
        """`vidd / vidd_clean`: 1 is as steady as the clean clip, more wanders; None where the clean one is 0."""
        return self.vidd / self.vidd_clean if self.vidd is not None and self.vidd_clean else None


def identity_scores(restored: NDArray[Any], clean: NDArray[Any]) -> IdentityScores:
    """All identity figures of one face.

    Raises:
        ValueError: different shapes, no frames, or an embedding without length.
    """
    cosines = ids(restored, clean)
    several = len(cosines) > 1
    return IdentityScores(
        ids=float(cosines.mean()),
        degrees=float(degrees(cosines).mean()),
        sigma_ids=float(cosines.std()),
        vidd=vidd(restored) if several else None,
        vidd_clean=vidd(clean) if several else None,
    )


def ids(restored: NDArray[Any], clean: NDArray[Any]) -> NDArray[np.float64]:
    """Identity similarity: `(T,)` cosines of the rows.

    Raises:
        ValueError: different shapes, no frames, or an embedding without length.
    """
    if restored.shape != clean.shape:
        raise ValueError(f"restored {restored.shape} and clean {clean.shape} differ in shape")
    return _cosines(_units(restored), _units(clean))


def degrees(cosines: NDArray[Any]) -> NDArray[np.float64]:
    """Deg: the angle of each cosine, in degrees 0..180."""
    angles: NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return angles


def vidd(embeddings: NDArray[Any]) -> float:
    """Video identity distance: mean over t of `1 - cos(e_t, e_{t+1})`, 0 for a face that never changes.

    Raises:
        ValueError: fewer than two frames, or an embedding without length.
    """
    if len(embeddings) < 2:
        raise ValueError("VIDD needs at least two frames")
    units = _units(embeddings)
    return float(np.mean(1 - _cosines(units[:-1], units[1:])))


def _units(embeddings: NDArray[Any]) -> NDArray[np.float64]:
    rows = np.asarray(embeddings, np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"expected (T, D) embeddings of at least one frame, got {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError("an embedding has no length")
    units: NDArray[np.float64] = rows / lengths
    return units


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    cosines: NDArray[np.float64] = np.clip((first * second).sum(axis=1), -1, 1)
    return cosines

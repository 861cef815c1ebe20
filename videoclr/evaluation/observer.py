"""Looks at crops with the networks that are here, and says which are not.

Three kinds of networks score: a landmark detector (the project's own, or a judge's), a face recogniser that did not guide
the restoration (a judge's; the embedded one guides, so it measures nothing here), and perceptual distances (LPIPS where the
package `lpips` and its backbone's weights are on this machine, a judge's under their own names).

A *judge* is a Python file of the user's with a class `Judges()`, whose methods are used where they are there:

    landmarks68(picture) -> (N, 2)                        shares of the picture's side; None where it sees no face
    face_input(picture, points (5, 2) px) -> array        a face made ready for the recogniser
    embed([face inputs]) -> ((N, D), [feature maps])      unit vectors, and the recogniser's inner maps
    squeeze((N, 3, S, S) in [-1, 1]) -> [feature maps]    features of SqueezeNet

and with a function `feature_distance(maps, maps) -> (N,)`. Pictures are `(S, S, 3)` RGB uint8. From the maps come the
distances `facefeat` and `sqd`. `score(judges, clean, other)`, which scores sets of stills, is used by `pipelines/evaluate.py`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from videoclr.errors import ConfigError, VideoclrError
from videoclr.pixels import to_tensor
from videoclr.stages.detect import Detector

Picture = NDArray[np.uint8]
_BACKBONE = "alexnet-owt-7be5be79.pth"
"""torchvision's file of the backbone that the published LPIPS figures of face restoration use."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What was seen in one crop."""

    image: Picture
    """`(S, S, 3)` RGB."""
    landmarks: NDArray[np.float64] | None = None
    """`(N, 2)` px of the crop; None where no face was seen."""
    embedding: NDArray[np.float64] | None = None
    """`(D,)` unit vector; None without a recogniser."""
    features: dict[str, Any] = field(default_factory=dict)
    """Name of a distance -> what it compares."""


class Observer:
    """Everything that looks at crops.

    Args:
        detector: finds the landmarks of a crop unless the judge does.
        judge: see the module; None leaves identity unmeasured.
        lpips: measure LPIPS where it is installed; False leaves it out.

    Raises:
        VideoclrError: LPIPS is there and does not load.
    """

    def __init__(self, detector: Detector, judge: Judge | None = None, lpips: bool = True) -> None:
        self.detector, self.judge = detector, judge
        self.missing: dict[str, str] = {}
        """Metric -> why it is not measured."""
        reason = why_no_lpips() if lpips else "left out"
        self._lpips: Any = None if reason else _load_lpips()
        if reason:
            self.missing |= {"lpips": reason, "tlpips": reason}
        self._note_missing()

    def _note_missing(self) -> None:
        name, judge = "no judge given (--judge FILE.py)", self.judge
        if judge is None or not judge.recognises:
            why = name if judge is None else f"{judge.name} has no face_input and embed"
            guiding = f"{why}; the embedded recogniser guides the restoration and must not score it"
            self.missing |= dict.fromkeys(("ids", "deg", "sigma_ids", "vidd", "seam_vidd"), guiding)
        if judge is None or not judge.landmarks:
            why = name if judge is None else f"{judge.name} has no landmarks68"
            self.missing["mouth_gain"] = f"{why}; five points do not tell how far a mouth is open"
        for distance in ("facefeat", "sqd"):
            if judge is None or distance not in judge.distances:
                why = name if judge is None else f"{judge.name} has no features for it"
                self.missing |= {distance: why, f"t{distance}": why}

    @property
    def sources(self) -> dict[str, str]:
        """What measured what, for people."""
        judge = self.judge
        own = f"{type(self.detector).__name__}, 5 points on the crop"
        return {
            "landmarks": f"{judge.name}, landmarks68 on the crop" if judge and judge.landmarks else own,
            "identity": f"{judge.name}" if judge and judge.recognises else "not measured",
            "perceptual": ", ".join(self.distances) or "not measured",
        }

    @property
    def distances(self) -> tuple[str, ...]:
        """Names of the perceptual distances that can be measured."""
        own = self.judge.distances if self.judge else ()
        return (*(("lpips",) if self._lpips is not None else ()), *own)

    def look(self, image: Picture, points: NDArray[np.float64]) -> Look:
        """See what there is to see in `(S, S, 3)` RGB; `points` are the clean face's five landmarks in it, px."""
        judge = self.judge
        landmarks = judge.see_landmarks(image) if judge and judge.landmarks else self._nearest(image, points)
        embedding, features = judge.see(image, points) if judge else (None, {})
        if self._lpips is not None:
            features = {**features, "lpips": to_tensor(image)[None]}
        return Look(image, landmarks, embedding, features)

    def _nearest(self, image: Picture, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The detected landmarks that lie nearest to where the clean clip's face is."""
        found = [np.asarray(one.landmarks, np.float64) for one in self.detector.detect([image])[0]]
        if not found:
            return None
        nearest: NDArray[np.float64] = found[int(np.argmin([np.abs(one - points).mean() for one in found]))]
        return nearest

    def distance(self, name: str, first: Look, second: Look) -> float:
        """A perceptual distance of `distances` between two looks."""
        one, other = first.features[name], second.features[name]
        if name == "lpips":
            with torch.inference_mode():
                return float(self._lpips(one, other))
        assert self.judge is not None
        return self.judge.distance(one, other)


class Judge:
    """The networks of a user's file; see the module. Each method raises `VideoclrError` where one of theirs fails.

    Raises:
        ConfigError: no such file, or it offers no `Judges`.
        VideoclrError: the file fails.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.name = path, Path(path).name
        self._module = load_judge(path)
        with judging(path, "Judges() failed"):
            self._judges: Any = self._module.Judges()
        has = {name for name in ("landmarks68", "face_input", "embed", "squeeze") if hasattr(self._judges, name)}
        self.landmarks = "landmarks68" in has
        self.recognises = {"face_input", "embed"} <= has
        compares = hasattr(self._module, "feature_distance")
        self.distances = tuple(
            name for name, there in (("facefeat", self.recognises), ("sqd", "squeeze" in has)) if there and compares
        )
        self._shapes: dict[str, tuple[int, ...]] = {}
        """Of its answers: what differs from one picture to the next cannot be compared."""

    def see_landmarks(self, image: Picture) -> NDArray[np.float64] | None:
        """`(N, 2)` px of the crop; None where the judge sees no face."""
        with judging(self.path, "landmarks68 failed"):
            found = self._judges.landmarks68(image)
            points = np.zeros((0, 2)) if found is None else np.asarray(found, np.float64) * image.shape[0]
            if not points.size or not np.isfinite(points).all():
                return None
            if points.ndim != 2 or points.shape[1] != 2 or not self._alike("landmarks68", points):
                raise ValueError(f"expected landmarks (N, 2), as many of every picture, got {points.shape}")
            return points

    def see(self, image: Picture, points: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, dict[str, Any]]:
        """The embedding, and what the distances compare."""
        embedding, features = None, {}
        with torch.inference_mode():
            if self.recognises:
                with judging(self.path, "face_input failed"):
                    face = self._judges.face_input(image, points.astype(np.float32))
                with judging(self.path, "embed failed"):
                    vectors, features["facefeat"] = self._judges.embed([face])
                    embedding = np.asarray(vectors[0], np.float64)
                    if embedding.ndim != 1 or not self._alike("embed", embedding) or not _has_length(embedding):
                        raise ValueError("expected a vector of one length for every face, finite and not all zero")
            if "sqd" in self.distances:
                with judging(self.path, "squeeze failed"):
                    features["sqd"] = self._judges.squeeze(to_tensor(image)[None])
        return embedding, features

    def _alike(self, method: str, answer: NDArray[np.float64]) -> bool:
        """Whether an answer has the shape of the first one."""
        return self._shapes.setdefault(method, answer.shape) == answer.shape

    def distance(self, first: Any, second: Any) -> float:
        """Between two sets of maps of one kind."""
        with torch.inference_mode(), judging(self.path, "feature_distance failed"):
            return float(self._module.feature_distance(first, second))


def _has_length(vector: NDArray[np.float64]) -> bool:
    length = float(np.linalg.norm(vector))
    return np.isfinite(length) and length > 0


@contextmanager
def judging(path: str | Path, what: str) -> Iterator[None]:
    """A call of a judge, somebody else's code: whatever it raises, the user must learn whose fault it is.

    Raises:
        VideoclrError: the call failed, which is told as `what` failed in the file `path`.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        raise VideoclrError(f"{path}: {what}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def load_judge(path: str | Path) -> ModuleType:
    """Import a judge's file.

    Raises:
        ConfigError: no such file, or it offers no `Judges`.
        VideoclrError: importing it fails.
    """
    spec = importlib.util.spec_from_file_location("judge", path) if Path(path).is_file() else None
    if spec is None or spec.loader is None:
        raise ConfigError(f"--judge {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    with judging(path, "cannot be imported"):
        spec.loader.exec_module(module)
    if not hasattr(module, "Judges"):
        raise ConfigError(f"--judge {path}: has no class Judges")
    return module


def why_no_lpips() -> str:
    """Why LPIPS (Zhang et al. 2018) cannot be measured here; empty where it can. Nothing is downloaded."""
    lacking = [name for name in ("lpips", "torchvision") if importlib.util.find_spec(name) is None]
    if lacking:
        return f"needs the package {' and '.join(lacking)}"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / _BACKBONE
    return "" if weights.is_file() else f"needs torchvision's weights {weights}"


def _load_lpips() -> Any:
    import lpips

    try:
        return lpips.LPIPS(net="alex", verbose=False).eval()
    except Exception as error:  # a broken installation of somebody else's package
        raise VideoclrError(f"lpips does not load: {type(error).__name__}: {error}") from error

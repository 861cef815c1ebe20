"""Figures of several versions of a clip, face by face and step by step, in memory that grows with the number of tracks only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from videoclr import geometry
from videoclr.evaluation.observer import Look, Observer
from videoclr.evaluation.table import Figures
from videoclr.evaluation.views import CLEAN, FaceView, FrameView
from videoclr.metrics.fidelity import fidelity, sharpness
from videoclr.metrics.identity import degrees, ids, vidd
from videoclr.metrics.running import Following, Running
from videoclr.metrics.temporal import (
    Motion,
    Seams,
    change_error,
    gain,
    jitter,
    landmark_distance,
    landmark_motion_error,
    motions,
    mouth_opening,
    warp_errors,
)

Values = dict[str, float]
_WINDOW = 11
"""Pixels: SSIM's window; a smaller region has no SSIM."""
_ALL = 68
"""Landmarks that tell the lips."""
_TREMBLES = 1 / 256
"""Standard deviation of a mouth's opening, in sides of the crop, that landmarks alone may make."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one version of one face in one frame: a line of the CSV."""

    frame: int
    time: float
    """Seconds."""
    shot: int
    track: int
    clip: str
    """The version."""
    border: bool
    """The step into this frame crosses a border."""
    values: Values


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A face as it was in a frame."""

    frame: int
    looks: dict[str, Look]
    before: _Seen | None = None
    """The frame before it, and only that one."""


@dataclass(slots=True)
class _Totals:
    """Of one version, of a clip or of a track."""

    means: defaultdict[str, Running] = field(default_factory=lambda: defaultdict(Running))
    seams: defaultdict[str, Seams] = field(default_factory=lambda: defaultdict(Seams))

    def add(self, row: Row) -> None:
        for name, value in row.values.items():
            self.means[name].add(value)
        for name in ("ewarp", "vidd"):
            if name in row.values:
                self.seams[name].add(row.values[name], row.border)

    def figures(self) -> Values:
        found = {name: running.mean for name, running in self.means.items() if running.count or running.infinite}
        seams = {f"seam_{name}": seams.score for name, seams in self.seams.items()}
        return found | {name: score for name, score in seams.items() if not np.isnan(score)}

    def equal(self) -> dict[str, int]:
        """Pictures that equal the clean ones, by figure."""
        return {name: running.infinite for name, running in self.means.items() if running.infinite}


@dataclass(slots=True)
class _Track:
    first: int
    shot: int
    totals: defaultdict[str, _Totals] = field(default_factory=lambda: defaultdict(_Totals))
    mouths: defaultdict[str, Following] = field(default_factory=lambda: defaultdict(Following))
    frames: int = 0


class Meter:
    """Adds up what `Finder.views` shows.

    Args:
        observer: looks at the crops.
        borders: every so many frames of a track there is a border (an anchor, a chunk), counted from the track's first
            frame; the step into such a frame crosses it. None for no seam score.
    """

    def __init__(self, observer: Observer, borders: int | None = None) -> None:
        self.observer, self.borders = observer, borders
        self._totals: dict[str, _Totals] = {}
        self._tracks: dict[int, _Track] = {}
        self._seen: dict[int, _Seen] = {}
        self._counts = dict.fromkeys(("frames", "faces", "tracks", "shots", "landmarks"), 0)
        self._last_shot: int | None = None

    def rows(self, views: Iterable[FrameView]) -> Iterator[Row]:
        """Measure every frame; the rows may be dropped, their sums are kept."""
        for view in views:
            yield from self.add(view)

    def add(self, view: FrameView) -> list[Row]:
        """Measure one frame; frames come in order."""
        self._counts["frames"] += 1
        self._counts["shots"] += view.frame.shot != self._last_shot
        self._last_shot = view.frame.shot
        whole = _inside_masks(view)
        rows: list[Row] = []
        seen: dict[int, _Seen] = {}
        for place, face in enumerate(view.faces):
            now = self._look(view, face)
            seen[face.track] = now
            for name, values in self._measured(face, now).items():
                # Frames are counted once, however many faces they hold.
                rows.append(self._row(view, face, name, values | (whole.get(name, {}) if place == 0 else {})))
            self._follow(face.track, now)
        self._seen = seen
        return rows

    def _look(self, view: FrameView, face: FaceView) -> _Seen:
        looks = {name: self.observer.look(crop, face.points) for name, crop in face.crops.items()}
        before = self._seen.get(face.track)
        if before is not None and before.frame != view.frame.index - 1:
            before = None
        if before is not None and before.before is not None:
            # Two steps back is as far as any figure looks; the rest may go.
            before = _Seen(before.frame, before.looks, _Seen(before.before.frame, before.before.looks))
        self._counts["faces"] += 1
        self._counts["landmarks"] += all(look.landmarks is not None for look in looks.values())
        return _Seen(view.frame.index, looks, before)

    def _measured(self, face: FaceView, now: _Seen) -> dict[str, Values]:
        clean = now.looks[CLEAN]
        before = now.before
        motion = motions([before.looks[CLEAN].image, clean.image])[0] if before is not None else None
        changes = self._changes(CLEAN, now)
        measured = {}
        for name in now.looks:
            values = {"sharpness": sharpness(now.looks[name].image)}
            if name != CLEAN:
                values |= self._still(now.looks[name], clean)
            if before is not None and motion is not None:
                values |= self._step(name, now, before, motion, face)
                if name != CLEAN:
                    own = self._changes(name, now)
                    values |= {f"t{key}": change_error(own[key], changes[key]) for key in own}
            measured[name] = values
        return measured

    def _still(self, look: Look, clean: Look) -> Values:
        values = fidelity(look.image, clean.image)
        if look.embedding is not None and clean.embedding is not None:
            cosines = ids(look.embedding[None], clean.embedding[None])
            values |= {"ids": float(cosines[0]), "deg": float(degrees(cosines)[0])}
        if look.landmarks is not None and clean.landmarks is not None:
            values["lmd"] = landmark_distance(look.landmarks[None], clean.landmarks[None])
        return values | {name: self.observer.distance(name, look, clean) for name in self.observer.distances}

    def _step(self, name: str, now: _Seen, before: _Seen, motion: Motion, face: FaceView) -> Values:
        look, last = now.looks[name], before.looks[name]
        values = {"ewarp": float(warp_errors([last.image, look.image], [motion], face.mask)[0])}
        if look.embedding is not None and last.embedding is not None:
            values["vidd"] = vidd(np.stack([last.embedding, look.embedding]))
        points, clean = _landmarks(name, now, before), _landmarks(CLEAN, now, before)
        if name != CLEAN and points is not None and clean is not None:
            values["tlme"] = landmark_motion_error(points, clean)
        # Jitter is a ratio: both sides must be of the same frames.
        both = [None if before.before is None else _landmarks(n, now, before, before.before) for n in now.looks]
        three = None if before.before is None else _landmarks(name, now, before, before.before)
        if three is not None and all(one is not None for one in both):
            values["jitter"] = jitter(three)
        return values

    def _follow(self, track: int, now: _Seen) -> None:
        """Add to how each version's mouth follows the clean one's."""
        seen = {name: one.landmarks for name, one in now.looks.items()}
        side = now.looks[CLEAN].image.shape[0]
        opened = {name: mouth_opening(points) for name, points in seen.items() if points is not None and len(points) == _ALL}
        if CLEAN in opened:
            for name in opened.keys() - {CLEAN}:
                self._tracks[track].mouths[name].add(opened[name] / side, opened[CLEAN] / side)

    def _changes(self, name: str, now: _Seen) -> Values:
        """The perceptual distances from the frame before."""
        if now.before is None:
            return {}
        return {key: self.observer.distance(key, now.before.looks[name], now.looks[name]) for key in self.observer.distances}

    def _row(self, view: FrameView, face: FaceView, name: str, values: Values) -> Row:
        track = self._tracks.get(face.track)
        if track is None:
            track = self._tracks[face.track] = _Track(view.frame.index, view.frame.shot)
            self._counts["tracks"] += 1
        since = view.frame.index - track.first
        border = self.borders is not None and since > 0 and since % self.borders == 0
        row = Row(view.frame.index, float(view.frame.time), view.frame.shot, face.track, name, border, values)
        track.frames += name == CLEAN
        track.totals[name].add(row)
        self._totals.setdefault(name, _Totals()).add(row)
        return row

    def figures(self) -> Figures:
        """The figures of all frames so far."""
        clips = {name: totals.figures() for name, totals in self._totals.items()}
        for name, spread in self._spreads().items():
            clips[name]["sigma_ids"] = spread
        gains = {name: gain((one.mouths[name] for one in self._tracks.values()), _TREMBLES) for name in clips.keys() - {CLEAN}}
        for name, value in gains.items():
            clips[name] |= {} if np.isnan(value) else {"mouth_gain": value}
        missing = {"mouth_gain": "no clean mouth moves, or its landmarks are not 68"} | self.observer.missing
        if self.borders is None:
            missing |= dict.fromkeys(("seam_ewarp", "seam_vidd"), "no borders given (--borders N)")
            clips = {n: {k: v for k, v in values.items() if not k.startswith("seam_")} for n, values in clips.items()}
        order = [name for name in clips if name != CLEAN] + [name for name in clips if name == CLEAN]
        equal = {name: self._totals[name].equal() for name in order if name != CLEAN}
        clips = {name: clips[name] for name in order}
        return Figures(clips, missing, self.observer.sources, dict(self._counts), self._tracks_told(), equal)

    def _spreads(self) -> dict[str, float]:
        """sigma-IDS: the deviation within a track, averaged over tracks by their length. Two people are no spread."""
        spreads: defaultdict[str, Running] = defaultdict(Running)
        for track in self._tracks.values():
            for name, totals in track.totals.items():
                cosine = totals.means.get("ids")
                if cosine is not None and cosine.count:
                    spreads[name].add(cosine.deviation, cosine.count)
        return {name: spread.mean for name, spread in spreads.items()}

    def _tracks_told(self) -> list[dict[str, Any]]:
        return [
            {
                "track": number,
                "shot": track.shot,
                "first_frame": track.first,
                "frames": track.frames,
                "clips": {
                    name: {k: v for k, v in totals.figures().items() if self.borders is not None or not k.startswith("seam_")}
                    for name, totals in track.totals.items()
                },
            }
            for number, track in self._tracks.items()
        ]


def _landmarks(name: str, *moments: _Seen) -> Any:
    """`(T, N, 2)` from the first moment to the last (given last first), or None where a face was not seen."""
    found = [one.looks[name].landmarks for one in reversed(moments)]
    return None if any(points is None for points in found) else np.stack([p for p in found if p is not None])


def _inside_masks(view: FrameView) -> Mapping[str, Values]:
    """Fidelity of the whole frame inside the faces' masks, by version; nothing where no mask reaches into the frame."""
    if not view.faces:
        return {}
    height, width = view.pictures[CLEAN].shape[:2]
    mask = np.zeros((height, width), np.float32)
    for face in view.faces:
        x0, y0, x1, y1 = rectangle = geometry.footprint(face.matrix, face.mask.shape[0], width, height)
        if x0 < x1 and y0 < y1:
            part = geometry.uncut(face.mask, face.matrix, rectangle, zero_outside=True)
            mask[y0:y1, x0:x1] = np.maximum(mask[y0:y1, x0:x1], part)
    region = _around(mask)
    weights = mask[region]
    if min(weights.shape) < _WINDOW or not weights[_WINDOW // 2 : -(_WINDOW // 2), _WINDOW // 2 : -(_WINDOW // 2)].any():
        return {}
    clean = view.pictures[CLEAN][region]
    return {
        name: {f"frame_{key}": value for key, value in fidelity(picture[region], clean, weights).items()}
        for name, picture in view.pictures.items()
        if name != CLEAN
    }


def _around(mask: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[slice, slice]:
    """The part of the frame in which the mask lies, with room for SSIM's window."""
    spans: Sequence[Any] = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    if not len(spans[0]):
        return slice(0, 0), slice(0, 0)
    room = _WINDOW // 2
    rows, columns = (slice(max(0, int(s[0]) - room), int(s[-1]) + 1 + room) for s in spans)
    return rows, columns

"""Score the restoration of clips: several settings side by side, on the same seeded degradations of the same clean clips.

    python pipelines/evaluate_clips.py --clips CLIPS --stills FACES --count 20 --judge judge.py --out runs/clips

Clean clips are those of the folder `--clips`, and `--count` ones made from the aligned faces of `--stills` by seeded motion
(`videoclr/training/motion.py`). Each is degraded by `videoclr/training/degrade_clip.py` with a seed from its name, restored once
per row of `--rows` (a YAML of names and settings), and measured by the code of `videoclr eval`. Figures are means over the
frames of a clip, then over clips; ratios are those of the means. Writes into `--out`:

    table.json, table.md    every row, and every clip for itself
    frames.csv              every face of every frame
    slice.png               one row of pixels of an aligned face over time, per version
    faces.png               the faces of one clip at four moments, per version

`--watch DIR` adds a clip with all versions side by side for each clip, `--invariance` checks that the batch size does not change
pixels, that frames come out the same when a film ends some frames behind them (so that it may be restored in chunks that overlap
by as many), and that nothing crosses a hard cut. `--earlier RECIPE` asks what it is worth that somebody was seen in an earlier
shot: the first half of each clip, degraded by that recipe, goes before the second half, a cut between them, and the second
half alone is measured; rows for it are in configs/evaluate/earlier.yaml. `--later RECIPE` asks the same of a later shot, of
which only a restoration that looks through the film first knows (configs/evaluate/later.yaml): there the first half is
measured. The networks of `--judge` are described in `videoclr/evaluation/observer.py`.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from videoclr import Config, Pipeline, Reader, VideoclrError
from videoclr.arguments import integer, real
from videoclr.errors import ConfigError, MediaError
from videoclr.evaluation.files import LARGEST, SMALLEST, write_csv
from videoclr.evaluation.meter import Meter
from videoclr.evaluation.observer import Judge, Observer
from videoclr.evaluation.table import METRICS, Figures, markdown, plain
from videoclr.evaluation.views import CLEAN, Finder, FrameView
from videoclr.flow import around
from videoclr.media.recode import Generation, write_clip
from videoclr.metrics.running import Running
from videoclr.metrics.temporal import ratio
from videoclr.parts.content_cuts import ContentCuts
from videoclr.pipeline import RunLog
from videoclr.pixels import eight_bit
from videoclr.report import report_file
from videoclr.stages.blend import blend
from videoclr.stages.cuts import cuts
from videoclr.stages.restore import SpanRestorer
from videoclr.training.data import load_faces
from videoclr.training.degrade import degraded_name_seed
from videoclr.training.degrade_clip import RECIPES, degrade_clip
from videoclr.training.motion import draw, move
from videoclr.types import Frame

HERE = Path(__file__).resolve().parent.parent
Picture = NDArray[np.uint8]
INPUT = "input"
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
BATCHES = (1, 4, 16)
CHUNKS = (16, 32, 64)
"""Both of `--invariance`."""
EYES = 0.47
"""Height of the row of pixels in `slice.png`, in sides of the aligned crop."""
MOMENTS = 4
"""Rows of `faces.png`."""
GREY = 4
"""Pictures between the two shots of `--earlier`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a row is made."""

    settings: tuple[str, ...] = ()
    """Of the restoration, `path=value`."""
    of: str | None = None
    """The row that this one is the blur of."""
    sigma: float = 0.0
    """Standard deviation of the blur over time, frames."""


@dataclass(frozen=True, slots=True, eq=False)
class Clean:
    """A clean clip."""

    name: str
    pictures: list[Picture]
    rate: Fraction

    def frames(self, pictures: Sequence[Picture] | None = None, first: int = 0) -> list[Frame]:
        """These or other pictures as frames at this clip's times, numbered from `first`, where their shot begins."""
        shown = self.pictures if pictures is None else pictures
        found = (Frame.from_image(picture, first + i, Fraction(first + i) / self.rate) for i, picture in enumerate(shown))
        return [frame.in_shot(0, first) for frame in found]


@dataclass(slots=True)
class Kept:
    """What the pictures are made of: the first track of one clip."""

    track: int | None = None
    crops: dict[str, list[Picture]] = field(default_factory=dict)
    """Version -> crop of every frame."""

    def watched(self, views: Iterator[FrameView]) -> Iterator[FrameView]:
        """Pass the views on and keep the crops."""
        for view in views:
            for face in view.faces:
                self.track = face.track if self.track is None else self.track
                if face.track == self.track:
                    for name, crop in face.crops.items():
                        self.crops.setdefault(name, []).append(crop)
            yield view


def recipes(path: Path) -> dict[str, Recipe]:
    """The rows of a YAML file.

    Raises:
        ConfigError: it cannot be read, or a row is neither a list of settings nor a blur of a row before it.
    """
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(told, dict) or not told:
        raise ConfigError(f"{path}: expected rows such as `ours: []`")
    rows: dict[str, Recipe] = {}
    for name, value in told.items():
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            Config().override(*value)
            rows[str(name)] = Recipe(tuple(value))
        elif isinstance(value, dict) and set(value) == {"of", "sigma"} and value["of"] in rows and value["sigma"] > 0:
            rows[str(name)] = Recipe(of=value["of"], sigma=float(value["sigma"]))
        else:
            raise ConfigError(f"{path}: {name}: expected a list of path=value, or {{of: a row above, sigma: frames}}")
    if reserved := {INPUT, CLEAN} & set(rows):
        raise ConfigError(f"{path}: {', '.join(sorted(reserved))}: these names are taken")
    return rows


# -- clean clips ------------------------------------------------------------------------------------------------------


def clean_clips(options: argparse.Namespace) -> Iterator[Clean]:
    """All of them, one at a time.

    Raises:
        MediaError: a folder without clips, or a clip that cannot be read.
    """
    if options.clips:
        paths = sorted(path for path in options.clips.iterdir() if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise MediaError(options.clips, f"holds no clips ({', '.join(SUFFIXES)})")
        for path in paths[: options.limit or None]:
            yield filmed(path, options.seconds, options.height)
    if options.stills:
        names, faces = load_faces(options.stills, options.still_size)
        for number in np.linspace(0, len(names) - 1, min(options.count, len(names))).astype(int):
            seed = degraded_name_seed(names[number]) + options.seed
            pictures = list(move(faces[number], draw(options.frames, seed)))
            yield Clean(Path(names[number]).stem, pictures, Fraction(25))


def comes_back(clean: Clean, recipe: str, seed: int) -> tuple[Clean, list[Picture]]:
    """The second half of a clip, and what goes before it: the first half, degraded, and grey pictures, which are another shot."""
    half = len(clean.pictures) // 2
    first = degrade_clip(clean.pictures[:half], seed, recipe, clean.rate)
    return Clean(clean.name, clean.pictures[half:], clean.rate), [*first, *grey(clean)]


def will_come_back(clean: Clean, recipe: str, seed: int) -> tuple[Clean, list[Picture]]:
    """The first half of a clip, and what goes behind it: grey pictures, which are another shot, and the second half, degraded."""
    half = len(clean.pictures) // 2
    second = degrade_clip(clean.pictures[half:], seed, recipe, clean.rate)
    return Clean(clean.name, clean.pictures[:half], clean.rate), [*grey(clean), *second]


def grey(clean: Clean) -> list[Picture]:
    """Between two shots."""
    return [np.full_like(clean.pictures[0], 128)] * GREY


def filmed(path: Path, seconds: float, height: int) -> Clean:
    """The first `seconds` of a clip, area-averaged to at most `height` lines; sides even, as codecs want them."""
    with Reader(path) as reader:
        rate = reader.info.frame_rate or Fraction(25)
        pictures = [shrunk(eight_bit(frame.image), height) for frame in islice(reader.frames(), max(2, round(seconds * rate)))]
    return Clean(path.stem, pictures, rate)


def shrunk(picture: Picture, height: int) -> Picture:
    """At most `height` lines, both sides even."""
    scale = min(1.0, height / picture.shape[0])
    size = [max(2, round(side * scale) // 2 * 2) for side in picture.shape[1::-1]]
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


# -- restorations -----------------------------------------------------------------------------------------------------


class Restorations:
    """Restores a clip for every row; equal settings are computed once, and networks are loaded once."""

    def __init__(self, rows: Mapping[str, Recipe], common: Sequence[str], device: str) -> None:
        self.rows = rows
        self.configs = {
            name: Config().override(f"runtime.device={device}", *common, *row.settings) for name, row in rows.items() if not row.of
        }
        self.faces = dict.fromkeys(self.configs, 0)
        """Row -> faces restored so far: where the detector misses degraded faces, a row has less to show."""
        self.tracks: dict[str, dict[str, list[dict[str, int | None]]]] = {name: {} for name in self.configs}
        """Row -> clip -> frames and anchors (faces restored in full) of every track."""
        self._pipelines: dict[str, Pipeline] = {}

    def pipeline(self, config: Config) -> Pipeline:
        """With the parts of `config`, loaded at the first request."""
        key = config.model_dump_json()
        if key not in self._pipelines:
            self._pipelines[key] = Pipeline(config)
        return self._pipelines[key]

    def of(
        self, clean: Clean, worse: Sequence[Picture], before: Sequence[Picture] = (), behind: Sequence[Picture] = ()
    ) -> tuple[dict[str, list[Picture]], dict[str, float]]:
        """Row -> its pictures, and row -> seconds per frame; what goes `before` and `behind` is restored as well, and left out."""
        made: dict[str, list[Picture]] = {}
        seconds: dict[str, float] = {}
        done: dict[str, str] = {}
        count = len(before) + len(worse) + len(behind)
        for name, row in self.rows.items():
            began = time.perf_counter()
            if row.of:
                made[name] = blurred(made[row.of], row.sigma, clean)
                began -= seconds[row.of] * count
            else:
                key = self.configs[name].model_dump_json()
                twin = done.setdefault(key, name)
                log = RunLog()
                if twin == name:
                    film = clean.frames([*before, *worse, *behind])
                    made[name] = self.restored(self.configs[name], film, log)[len(before) : len(before) + len(worse)]
                else:
                    made[name] = made[twin]
                self.faces[name] = self.faces[name] + log.faces_restored if twin == name else self.faces[twin]
                counted = [{"frames": one.frames, "anchors": one.anchors} for one in log.tracks]
                self.tracks[name][clean.name] = counted if twin == name else self.tracks[twin][clean.name]
                began -= seconds[twin] * count if twin != name else 0
            seconds[name] = (time.perf_counter() - began) / count
        return made, seconds

    def restored(self, config: Config, frames: Sequence[Frame], log: RunLog | None = None) -> list[Picture]:
        """The pictures of a restoration."""
        pipeline = self.pipeline(config)
        cast = pipeline.look(iter(frames)) if config.identify.look_first else None
        return [eight_bit(frame.image) for frame in pipeline.restore_frames(iter(frames), log, cast=cast)]


def blurred(pictures: Sequence[Picture], sigma: float, clean: Clean) -> list[Picture]:
    """A Gaussian over time, standard deviation `sigma` frames, within shots."""
    reach = int(np.ceil(2.5 * sigma))
    shots = cuts(clean.frames(pictures), ContentCuts())
    made = []
    for place in around(shots, reach, reach, lambda frame: frame.shot):
        near = [*place.past, place.item, *place.future]
        weights = np.exp(-0.5 * ((np.arange(len(near)) - len(place.past)) / sigma) ** 2)
        total = sum(weight * frame.image.astype(np.float64) for weight, frame in zip(weights, near, strict=True))
        made.append(np.rint(total / weights.sum()).astype(np.uint8))
    return made


# -- invariance -------------------------------------------------------------------------------------------------------


def invariance(work: Restorations, clips: Sequence[tuple[Clean, list[Picture]]]) -> dict[str, Any]:
    """Largest differences in 1/255: between batch sizes, chunks, and between a shot after a cut and the same shot alone."""
    found: dict[str, Any] = {}
    clean, worse = clips[0]
    for name, config in work.configs.items():
        frames = clean.frames(worse)
        batches = {n: work.restored(config.override(f"runtime.batch={n}"), frames) for n in BATCHES}
        apart = {f"batch {n} against {BATCHES[0]}": difference(batches[n], batches[BATCHES[0]]) for n in BATCHES[1:]}
        found[name] = {"clip": clean.name, **apart, **chunk_check(work, config, frames, batches[BATCHES[0]])}
        if len(clips) > 1:
            found[name] |= cut_check(work, config, clips)
    return found


def chunk_check(work: Restorations, config: Config, frames: Sequence[Frame], whole: Sequence[Picture]) -> dict[str, Any]:
    """The first frames of a clip, restored while nothing is known of what comes behind the look-ahead."""
    ahead = look_ahead(work.pipeline(config))
    lengths = [n for n in CHUNKS if n + ahead < len(frames)]
    if not lengths:
        return {"chunks": f"not checked: a chunk of {CHUNKS[0]} and {ahead} frames to look ahead need a clip of more frames"}
    parts = {n: work.restored(config, frames[: n + ahead])[:n] for n in lengths}
    return {f"first {n} frames, {ahead} ahead": difference(part, whole[:n]) for n, part in parts.items()}


def look_ahead(pipeline: Pipeline) -> int:
    """Frames that a pipeline waits for, all stages together."""
    config, restorer = pipeline.config, pipeline.restorer
    span = restorer.anchors + 1 + restorer.reach if isinstance(restorer, SpanRestorer) else 2 * config.runtime.batch
    cut = int(getattr(pipeline.make_cut_detector(), "delay", 0))
    colour = int(inspect.signature(blend).parameters["steady"].default)
    own = cut + config.track.max_gap + config.align.smoothing + config.identify.window + span + colour
    return own + (0 if pipeline.judge is None else 2 * config.gate.smoothing)


def cut_check(work: Restorations, config: Config, clips: Sequence[tuple[Clean, list[Picture]]]) -> dict[str, Any]:
    """Two clips joined by a hard cut; the second one's frames keep their numbers when it is restored alone."""
    (first, before), (second, after) = clips[:2]
    height, width = before[0].shape[:2]
    fitted = [np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8) for picture in after]
    log = RunLog()
    joined = work.restored(config, first.frames([*before, *fitted]), log)[len(before) :]
    alone = work.restored(config, first.frames(fitted, first=len(before)))
    return {
        "cut": f"{first.name} | {second.name}",
        "shots found": log.shots,
        "first frame after the cut": difference(joined[:1], alone[:1]),
        "whole shot after the cut": difference(joined, alone),
    }


def difference(one: Sequence[Picture], other: Sequence[Picture]) -> int:
    """The largest one of any pixel, in 1/255."""
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(one, other, strict=True))


# -- pictures ---------------------------------------------------------------------------------------------------------


def slice_over_time(crops: Mapping[str, Sequence[Picture]]) -> Picture:
    """One row of pixels at the height of the eyes, time running down, a panel per version: flicker is a horizontal line.

    Panels are stretched in time until they are about square.
    """
    panels = []
    for pictures in crops.values():
        side = pictures[0].shape[0]
        row, stretch = round(EYES * side), max(1, side // len(pictures))
        panels.append(np.repeat(np.stack([picture[row] for picture in pictures]), stretch, axis=0))
    return labelled(panels, list(crops))


def faces_at_moments(crops: Mapping[str, Sequence[Picture]]) -> Picture:
    """A row per moment, a column per version."""
    count = len(next(iter(crops.values())))
    picked = np.linspace(0, count - 1, min(MOMENTS, count)).astype(int)
    return labelled([np.concatenate([pictures[i] for i in picked]) for pictures in crops.values()], list(crops))


def labelled(panels: Sequence[Picture], names: Sequence[str]) -> Picture:
    """Panels of one height side by side, each under its name."""
    bar = 24
    columns = []
    for panel, name in zip(panels, names, strict=True):
        head = np.full((bar, panel.shape[1], 3), 24, np.uint8)
        cv2.putText(head, name, (6, bar - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (240, 240, 240), 1, cv2.LINE_AA)
        columns.append(np.concatenate([head, panel]))
    return np.concatenate(columns, axis=1)


def side_by_side(versions: Mapping[str, Sequence[Picture]], height: int = 360) -> Iterator[Picture]:
    """Every frame of all versions, at most `height` lines each, sides even."""
    for pictures in zip(*versions.values(), strict=True):
        yield labelled([shrunk(picture, height) for picture in pictures], list(versions))


def save(path: Path, picture: Picture) -> None:
    """Write RGB.

    Raises:
        MediaError: it cannot be written.
    """
    if not cv2.imwrite(str(path), picture[:, :, ::-1]):
        raise MediaError(path, "cannot be written")


# -- the table --------------------------------------------------------------------------------------------------------


def averaged(clips: Mapping[str, Figures]) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Means over clips by row, and their ratios to the clean clips' means."""
    sums: dict[str, dict[str, Running]] = {}
    for figures in clips.values():
        for name, values in figures.clips.items():
            for metric, value in values.items():
                sums.setdefault(name, {}).setdefault(metric, Running()).add(value)
    means = {name: {metric: running.mean for metric, running in values.items()} for name, values in sums.items()}
    clean = means.get(CLEAN, {})
    compared = [metric.name for metric in METRICS if metric.compared]
    ratios = {
        name: {metric: ratio(values[metric], clean[metric]) for metric in compared if metric in values and metric in clean}
        for name, values in means.items()
        if name != CLEAN
    }
    return means, ratios


def equal_to_clean(clips: Mapping[str, Figures]) -> dict[str, int]:
    """Row -> faces that equal the clean ones. Their PSNR is infinite and stands in no mean, which the table has to say."""
    found: Counter[str] = Counter()
    for figures in clips.values():
        found.update({name: counts["psnr"] for name, counts in figures.equal.items() if counts.get("psnr")})
    return dict(found)


def run(options: argparse.Namespace) -> None:
    """Degrade, restore, measure, write.

    Raises:
        VideoclrError: a bad row, clip or judge, or a restoration that failed.
    """
    rows = recipes(options.rows)
    work = Restorations(rows, options.settings, options.device)
    finder = Finder(Config().override(f"runtime.device={options.device}"), options.size)
    observer = Observer(finder.parts.detector, Judge(options.judge) if options.judge else None)
    for folder in filter(None, (options.out, options.watch)):
        folder.mkdir(parents=True, exist_ok=True)
    clips: dict[str, Figures] = {}
    seconds: dict[str, dict[str, float]] = {}
    kept = Kept()
    firsts: list[tuple[Clean, list[Picture]]] = []
    with report_file(options.out / "frames.csv", (), overwrite=True) as place:
        assert place is not None
        with place.stream() as lines:
            for clean in clean_clips(options):
                if clean.name in seconds:
                    raise MediaError(clean.name, "two clips have this name; rename one")
                seed = degraded_name_seed(clean.name) + options.seed
                before: list[Picture] = []
                behind: list[Picture] = []
                if options.earlier:
                    clean, before = comes_back(clean, options.earlier, seed + 1)
                elif options.later:
                    clean, behind = will_come_back(clean, options.later, seed + 1)
                worse = list(degrade_clip(clean.pictures, seed, options.recipe, clean.rate))
                made, seconds[clean.name] = work.of(clean, worse, before, behind)
                versions = {INPUT: worse, **made}
                views: Iterator[FrameView] = finder.views(clean.frames(), {n: clean.frames(p) for n, p in versions.items()})
                meter = Meter(observer, options.borders)
                write_csv(lines, meter.rows(kept.watched(views) if kept.track is None else views), film=clean.name)
                figures = meter.figures()
                if figures.counts["faces"]:
                    clips[clean.name] = figures
                if options.watch:
                    shown = side_by_side({**versions, CLEAN: clean.pictures})
                    write_clip(options.watch / f"{clean.name}.mp4", shown, clean.rate, Generation(quality=16))
                if len(firsts) < 2:
                    firsts.append((clean, worse))
                print(clean.name, {n: brief(v) for n, v in figures.clips.items()} or "no face found", flush=True)
    if not clips:
        raise MediaError(options.clips or options.stills, "no face was found in any clip")
    restored = {"faces_restored": dict(work.faces), "tracks": work.tracks}
    write(options, rows, clips, seconds, restored, invariance(work, firsts) if options.invariance else None)
    crops = {name: kept.crops[name] for name in (INPUT, *rows, CLEAN)}
    save(options.out / "slice.png", slice_over_time(crops))
    save(options.out / "faces.png", faces_at_moments(crops))


def brief(values: Mapping[str, float]) -> dict[str, float | str]:
    """What the progress line shows of a version."""
    return plain({name: values[name] for name in ("psnr", "ids", "ewarp", "vidd", "tlme") if name in values})


def write(
    options: argparse.Namespace,
    rows: Mapping[str, Recipe],
    clips: Mapping[str, Figures],
    seconds: Mapping[str, Mapping[str, float]],
    restored: Mapping[str, Any],
    checks: dict[str, Any] | None,
) -> None:
    """`table.json` and `table.md`, and the table on standard output."""
    means, ratios = averaged(clips)
    equal = equal_to_clean(clips)
    some = next(iter(clips.values()))
    told = {
        "rows": {name: {"settings": row.settings, "of": row.of, "sigma": row.sigma} for name, row in rows.items()},
        "settings_of_all": options.settings,
        "recipe": options.recipe,
        "earlier": options.earlier,
        "later": options.later,
        "seed": options.seed,
        "mean": {name: plain(values) for name, values in means.items()},
        "ratios_to_clean": {name: plain(values) for name, values in ratios.items()},
        "equal_to_clean": equal,
        "seconds_per_frame": {n: round(float(np.mean([s[n] for s in seconds.values()])), 4) for n in rows},
        **restored,
        "without_a_face": [name for name in seconds if name not in clips],
        "not_measured": some.missing,
        "measured_by": some.sources,
        "clips": {name: figures.as_dict() for name, figures in clips.items()},
        "invariance": checks,
    }
    (options.out / "table.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    text = f"{len(clips)} clips, `{options.recipe}`, seed {options.seed}\n\n{markdown(means, ratios)}"
    if equal:
        faces = sum(figures.counts["faces"] for figures in clips.values())
        left_out = "faces equal the clean ones and are left out of its PSNR"
        text += "\n" + "".join(f"- {name}: {count} of {faces} {left_out}\n" for name, count in equal.items())
    if checks:
        text += "\n" + "\n".join(f"- {name}: {', '.join(f'{k} {v}' for k, v in found.items())}" for name, found in checks.items())
        text += "\n"
    (options.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, help="folder of clean clips")
    parser.add_argument("--limit", type=integer(0), default=0, help="only this many clips of the folder")
    parser.add_argument("--seconds", type=real(above=0), default=2.0, help="of each clip (default: 2)")
    parser.add_argument("--height", type=integer(32), default=512, help="lines to which larger clips are reduced (default: 512)")
    parser.add_argument("--stills", type=Path, help="folder of aligned faces to be moved")
    parser.add_argument("--count", type=integer(1), default=20, help="clips made from them, spread over the folder (default: 20)")
    parser.add_argument("--frames", type=integer(1), default=36, help="of each of these clips (default: 36)")
    parser.add_argument("--still-size", type=integer(32), default=256, help="their side, px (default: 256)")
    parser.add_argument("--judge", type=Path, help="Python file with the networks that score")
    parser.add_argument("--rows", type=Path, default=HERE / "configs/evaluate/clips.yaml", help="YAML of names and settings")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="mild", help="degradation (default: mild)")
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--earlier", choices=sorted(RECIPES), metavar="RECIPE", help="the first half is an earlier shot, so degraded"
    )
    other.add_argument("--later", choices=sorted(RECIPES), metavar="RECIPE", help="the second half is a later shot, so degraded")
    parser.add_argument("--seed", type=integer(0), default=0, help="added to the seed of every name (default: 0)")
    parser.add_argument("--borders", type=integer(2), help="seam score: a border every so many frames of a track")
    parser.add_argument("--size", type=int, default=256, help="side of the crops that are measured, px (default: 256)")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE", help="for every row")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--watch", type=Path, metavar="DIR", help="write clips with all versions side by side")
    parser.add_argument("--invariance", action="store_true", help="check batch sizes, chunks and a hard cut as well")
    options = parser.parse_args(arguments)
    if not options.clips and not options.stills:
        parser.error("give --clips, --stills, or both")
    for folder in filter(None, (options.clips, options.stills)):
        if not folder.is_dir():
            parser.error(f"{folder}: no such folder")
    if not SMALLEST <= options.size <= LARGEST:
        parser.error(f"--size of {SMALLEST} to {LARGEST} is expected")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; 0 done, 1 failed, 2 wrong usage."""
    options = parsed(arguments)
    cv2.setNumThreads(1)
    try:
        run(options)
    except (VideoclrError, OSError) as error:
        print(f"evaluate_clips: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

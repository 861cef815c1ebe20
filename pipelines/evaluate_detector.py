"""Measure the face detector: recall on composed stills, agreement with another detector on real clips, time.

    python pipelines/evaluate_detector.py --faces VAL --clips DIR --judge retinaface.pth --teacher yunet.onnx

(a) Validation portraits, boxes by the teacher, pasted at random sizes, poses and degradations on drawn and photographed
backgrounds: recall of faces of at least 48 pixels at one false positive per 100 pictures, and the score that gives it.
(b) Every n-th frame of the clips: share of the frames with a judged face of at least 64 pixels in which every such face
is found (intersection over union above 0.4), and the distance between the two detectors' points in percent of the
judge's eye distance. (c) Processor milliseconds for a 640x360 picture on one thread. (d) With `--hard N`: N scenes each of what is
seldom seen (`Hardship`: faces turned by any angle, cut by the border, in strange light, badly worn), recall of faces of at least 48
pixels with the score that starts a track, and false positives with it per 100 scenes.

The judge is a public RetinaFace that took no part in training. Prints a table and writes `--json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from videoclr.arguments import integer
from videoclr.config import Config
from videoclr.parts.retina_detector import RetinaDetector
from videoclr.training.detection import (
    Array,
    Hardship,
    Image,
    LabelledPicture,
    SceneMaker,
    Teacher,
    clips_in,
    overlap,
    pictures_in,
    read_frames,
    read_picture,
)
from videoclr.training.program import in_one_line
from videoclr.types import Detection

FLOORS = {"recall": 97.0, "frames_found": 95.0, "points_median": 5.0, "milliseconds": 40.0}
JUDGE_SURE = 0.9
STARTS = Config().detect.threshold
"""Score from which a find starts a track."""
GROUPS = ((256, "over 256"), (128, "128-256"), (64, "64-128"), (0, "48-64"))


@dataclass
class Tally:
    """Scores of the right and the wrong finds of a run over labelled scenes."""

    scenes: int = 0
    wanted: int = 0
    right: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)
    by_size: dict[str, list[float]] = field(default_factory=dict)

    def threshold(self, per_hundred: float = 1.0) -> float:
        """The score above which at most `per_hundred` false positives come in 100 scenes."""
        allowed = int(self.scenes * per_hundred / 100)
        worst = sorted(self.wrong, reverse=True)
        return worst[allowed] if len(worst) > allowed else 0.0

    def recall(self, threshold: float) -> float:
        """Percent of the wanted faces found with a score above `threshold`."""
        return 100 * sum(score > threshold for score in self.right) / max(1, self.wanted)


def boxes_of(found: Sequence[Detection]) -> Array:
    """`(n, 4)`."""
    return np.array([d.box for d in found], np.float32).reshape(-1, 4)


def count(tally: Tally, scene: LabelledPicture, found: Sequence[Detection], smallest: float) -> None:
    """Match best finds first, each to one face; small and vague faces count neither way."""
    sizes, wanted = scene.sizes(), (~scene.ignore) & (scene.sizes() >= smallest)
    shared = overlap(boxes_of(found), scene.boxes)
    taken: dict[int, float] = {}
    for k, detection in enumerate(found):
        free = [j for j in range(len(sizes)) if j not in taken and shared[k, j] > 0.4]
        best = max(free, key=lambda j: float(shared[k, j]), default=None)
        if best is not None:
            taken[best] = detection.score
        elif not any(shared[k, j] > 0.2 and not wanted[j] for j in range(len(sizes))):
            tally.wrong.append(detection.score)
    tally.scenes += 1
    for j in np.flatnonzero(wanted):
        score = taken.get(int(j), 0.0)
        tally.wanted += 1
        tally.right.append(score)
        group = next(name for low, name in GROUPS if sizes[j] >= low)
        tally.by_size.setdefault(group, []).append(score)


def backgrounds(frames: Sequence[Image], judge: RetinaDetector, teacher: Teacher) -> list[Image]:
    """Strips beside, above and below the faces of `frames` in which neither the judge nor the teacher sees anything."""
    strips = []
    for frame in frames:
        boxes = np.concatenate([boxes_of(judge.detect([frame])[0]), teacher.label(frame).boxes])
        if not len(boxes):
            continue
        margin = 0.25 * (boxes[:, 2:] - boxes[:, :2]).max()
        x0, y0 = (int(v) for v in np.maximum(boxes[:, :2].min(0) - margin, 0))
        x1, y1 = (int(v) for v in np.maximum(boxes[:, 2:].max(0) + margin, 0))
        for strip in (frame[:, :x0], frame[:, x1:], frame[:y0], frame[y1:]):
            if min(strip.shape[:2]) >= 64 and not judge.detect([strip])[0] and not len(teacher.label(strip).boxes):
                strips.append(strip)
    return strips


def labelled(args: argparse.Namespace) -> tuple[Teacher, list[LabelledPicture]]:
    """The teacher, and the portraits with its boxes."""
    teacher = Teacher(args.teacher, (192, 320))
    return teacher, [teacher.label(read_picture(path)).shrunk(512) for path in pictures_in(args.faces)]


def on_stills(args: argparse.Namespace, detector: RetinaDetector, judge: RetinaDetector) -> dict[str, Any]:
    """Part (a)."""
    teacher, portraits = labelled(args)
    strips = backgrounds([next(read_frames(path, 1)) for path in clips_in(args.clips)], judge, teacher)
    maker = SceneMaker(portraits, (), strips, smallest=20, largest=420)
    tally, rivals = Tally(), Tally()
    for number in range(args.scenes):
        scene = maker.make(np.random.default_rng([args.seed, number]), 640)
        count(tally, scene, detector.detect([scene.image])[0], 48)
        if args.compare:
            count(rivals, scene, judge.detect([scene.image])[0], 48)
    cut = tally.threshold()
    result = {
        "scenes": tally.scenes,
        "faces": tally.wanted,
        "backgrounds": len(strips),
        "recall": tally.recall(cut),
        "score_at_1_per_100": cut,
        "recall_by_size": {k: 100 * float(np.mean(np.array(v) > cut)) for k, v in sorted(tally.by_size.items())},
        "at_0.6": {
            "recall": tally.recall(0.6),
            "false_per_100": 100 * sum(s > 0.6 for s in tally.wrong) / tally.scenes,
        },
    }
    if args.compare:
        result["judge_recall"] = rivals.recall(rivals.threshold())
    return result


def on_hard(args: argparse.Namespace, detector: RetinaDetector) -> dict[str, Any]:
    """Part (d)."""
    _, portraits = labelled(args)
    rows = {}
    for kind in ("turned", "cut", "light", "worn"):
        maker, tally = SceneMaker(portraits, smallest=20, largest=420, hard=Hardship(**{kind: 1.0})), Tally()
        for number in range(args.hard):
            scene = maker.make(np.random.default_rng([args.seed, number, 2]), 640)
            count(tally, scene, detector.detect([scene.image])[0], 48)
        false = 100 * sum(score > STARTS for score in tally.wrong) / max(1, tally.scenes)
        rows[kind] = {"faces": tally.wanted, "recall": tally.recall(STARTS), "false_per_100": false}
    return rows


Judged = tuple[str, Image, list[Detection], list[Detection]]


def judged_frames(args: argparse.Namespace, judge: RetinaDetector) -> Iterator[Judged]:
    """Clip, frame, faces that count, and everything else that the judge thinks possible."""
    for path in clips_in(args.clips):
        for image in read_frames(path, args.every):
            seen = judge.detect([image])[0]
            yield path.name, image, [d for d in seen if d.score >= JUDGE_SURE and d.size >= 64], seen


def on_clips(args: argparse.Namespace, detector: RetinaDetector, judge: RetinaDetector, cut: float) -> dict[str, Any]:
    """Part (b), counting finds with a score above `cut`."""
    frames, judged, found_all, unconfirmed, errors = 0, 0, 0, 0, []
    clips: dict[str, list[int]] = {}
    for name, image, wanted, seen in judged_frames(args, judge):
        frames += 1
        found = [d for d in detector.detect([image])[0] if d.score > cut]
        # What only one of them sees is not proof of an error, but a high count would be a warning.
        unconfirmed += int((overlap(boxes_of(found), boxes_of(seen)).max(1, initial=0) < 0.2).sum())
        if not wanted:
            continue
        shared = overlap(boxes_of(wanted), boxes_of(found))
        hits = shared.max(1, initial=0) > 0.4
        judged, found_all = judged + 1, found_all + bool(hits.all())
        clips.setdefault(name, []).append(int(hits.all()))
        for face, row, hit in zip(wanted, shared, hits, strict=True):
            if hit:
                eyes = float(np.linalg.norm(face.landmarks[0] - face.landmarks[1]))
                apart = np.linalg.norm(found[int(row.argmax())].landmarks - face.landmarks, axis=1).mean()
                errors.append(100 * float(apart) / max(eyes, 1e-6))
    return {
        "frames": frames,
        "frames_judged": judged,
        "frames_found": 100 * found_all / max(1, judged),
        "points_median": float(np.median(errors)) if errors else float("nan"),
        "points_90": float(np.percentile(errors, 90)) if errors else float("nan"),
        "unconfirmed_per_100": 100 * unconfirmed / max(1, frames),
        "worst_clips": {k: 100 * float(np.mean(v)) for k, v in clips.items() if np.mean(v) < 1},
    }


def milliseconds(detector: RetinaDetector, repeats: int = 20) -> float:
    """Part (c): the median of the thread's processor time, which a busy machine does not stretch much."""
    image = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    times = []
    for _ in range(repeats + 3):
        started = time.thread_time()
        detector.detect([image])
        times.append(1000 * (time.thread_time() - started))
    return float(np.median(times[3:]))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The floors and what was reached."""
    stills = rows["stills"]
    lines = [f"{'figure':<44}{'value':>9}{'floor':>9}"]
    for text, value, floor in (
        (f"recall % at 1 FP/100, {stills['faces']} faces >= 48 px", stills["recall"], FLOORS["recall"]),
        (f"frames found %, of {rows['clips']['frames_judged']}", rows["clips"]["frames_found"], FLOORS["frames_found"]),
        ("points against the judge, median % of eyes", rows["clips"]["points_median"], FLOORS["points_median"]),
        ("milliseconds for 640x360, one thread", rows["time"]["milliseconds"], FLOORS["milliseconds"]),
    ):
        lines.append(f"{text:<44}{value:>9.2f}{floor:>9.1f}")
    for kind, row in rows.get("hard", {}).items():
        told = f"{kind}: recall % at score {STARTS}, {row['faces']} faces >= 48 px"
        lines.append(f"{told:<44}{row['recall']:>9.2f}{'':>9}  false per 100: {row['false_per_100']:.1f}")
    return "\n".join(lines)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--faces", type=Path, required=True, help="folder of validation portraits")
    parser.add_argument("--clips", type=Path, required=True, nargs="+", help="folders of validation clips")
    parser.add_argument("--judge", required=True, help="weights of a public RetinaFace")
    parser.add_argument("--teacher", type=Path, required=True, help="YuNet as ONNX: boxes of the portraits")
    parser.add_argument("--weights", default="embedded", help="what is measured")
    parser.add_argument("--refiner", help="landmark refiner: embedded, none, or a file; without it as the detector does by itself")
    parser.add_argument("--scenes", type=integer(1), default=400)
    parser.add_argument("--every", type=integer(1), default=5, help="look at every n-th frame of the clips")
    parser.add_argument("--hard", type=integer(0), default=0, help="scenes of each kind of hardship; 0: none")
    parser.add_argument("--seed", type=integer(0), default=20)
    parser.add_argument("--compare", action="store_true", help="measure the judge on the stills, too")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(argv)


@in_one_line
def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    args = arguments(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    refine = {None: None, "none": False}.get(args.refiner, args.refiner)
    detector, judge = RetinaDetector(args.weights, low_threshold=0.05, refine=refine), RetinaDetector(args.judge)
    stills = on_stills(args, detector, judge)
    rows: dict[str, dict[str, Any]] = {
        "stills": stills,
        "clips": on_clips(args, detector, judge, max(0.25, stills["score_at_1_per_100"])),
        "time": {"milliseconds": milliseconds(detector)},
    }
    if args.hard:
        rows["hard"] = on_hard(args, detector)
    print(table(rows))
    print(json.dumps(rows, indent=1))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Train the face detector on scenes composed of labelled portraits and video frames, then the landmark refiner on single faces.

    python pipelines/train_detector.py detector --faces DIR --clips DIR --teacher yunet.onnx --out runs/detector --minutes 45
    python pipelines/train_detector.py landmarks --faces DIR --clips DIR --teacher yunet.onnx --out runs/landmarks --minutes 30 \
        --detector runs/detector/detector.safetensors

Labels come once from the teacher (kept in OUT/labels_*.npz), or from `--labels FILE.json`: a mapping from picture file
name to `{"boxes": [[x0, y0, x1, y1], ...], "points": [[[x, y], ... five of them], ...]}`. Goes on from OUT where a
checkpoint is there. Writes `checkpoint.pt`, TensorBoard events, and every few minutes `detector.safetensors` (or
`landmarks.safetensors`): the averaged weights in half precision, which `--set detect.weights=FILE` takes. The refiner also learns
from what the detector takes for faces and is none, collected once in OUT/mistakes.npz. Settings: configs/train/STAGE.yaml.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from videoclr.models.detector import PREPROCESSING, RetinaFace, anchors
from videoclr.models.landmarks import LandmarkRefiner
from videoclr.models.weights import write_safetensors
from videoclr.parts.retina_detector import RetinaDetector
from videoclr.training.data import loader, processes
from videoclr.training.detection import (
    Hardship,
    LabelledPicture,
    SceneBatches,
    SceneMaker,
    Targets,
    Teacher,
    clips_in,
    detection_loss,
    pictures_in,
    read_frames,
    read_picture,
    targets,
)
from videoclr.training.landmarks import LookMaker, mistakes_in, refiner_loss
from videoclr.training.loop import Loop, launched, part_of
from videoclr.training.program import add_budget, begin, document, in_one_line, loop_of

HERE = Path(__file__).resolve().parent.parent
log = logging.getLogger("videoclr.training")
KIND = "rgb-unit"
FIELDS = ("image", "boxes", "points", "ignore")


def portraits(args: argparse.Namespace, settings: dict[str, Any]) -> list[LabelledPicture]:
    """The pictures of `--faces` with labels from `--labels` or the teacher, no larger than the canvas."""
    paths, canvas = pictures_in(args.faces), settings["canvas"]
    if args.labels:
        known = document(args.labels)
        return [as_written(path, known[path.name]).shrunk(canvas) for path in paths if path.name in known]
    teacher = Teacher(args.teacher, settings["looks"])
    return kept(args.out / "labels_portraits.npz", (teacher.label(read_picture(p)).shrunk(canvas) for p in paths))


def as_written(path: Path, entry: dict[str, Any]) -> LabelledPicture:
    """A picture with its entry of a labels file."""
    boxes = np.array(entry["boxes"], np.float32).reshape(-1, 4)
    points = np.array(entry["points"], np.float32).reshape(-1, 5, 2)
    return LabelledPicture(read_picture(path), boxes, points, np.zeros(len(boxes), bool))


def frames(args: argparse.Namespace, settings: dict[str, Any]) -> list[LabelledPicture]:
    """Frames of `--clips`, labelled by the teacher; none without clips."""
    if not args.clips:
        return []
    teacher = Teacher(args.teacher, settings["frame_looks"])
    images = (image for path in clips_in([args.clips]) for image in read_frames(path, settings["frame_step"]))
    found = (teacher.label(LabelledPicture.without_faces(image).shrunk(1280).image) for image in images)
    return kept(args.out / "labels_frames.npz", (p.shrunk(int(1.6 * settings["canvas"])) for p in found))


def kept(path: Path, made: Iterable[LabelledPicture]) -> list[LabelledPicture]:
    """What `made` yields, kept in `path` for the next start."""
    if not path.exists():
        part = path.with_suffix(".part.npz")
        np.savez(part, **{f"{n}_{name}": getattr(p, name) for n, p in enumerate(made) for name in FIELDS})
        part.replace(path)
    with np.load(path) as data:
        numbers = range(len(data.files) // len(FIELDS))
        return [LabelledPicture(*(data[f"{n}_{name}"] for name in FIELDS)) for n in numbers]


def fresh() -> RetinaFace:
    """A network that starts from "faces are rare", so that the first steps are not spent on unlearning the opposite."""
    network = RetinaFace()
    odds = math.log(0.99 / 0.01) / 2
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("ClassHead.") and name.endswith(".bias"):
                parameter.copy_(torch.tensor([odds, -odds] * 2))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def export(loop: Loop, name: str) -> None:
    """Write the averaged weights of the module `name`, by rename."""
    if not loop.main:
        return
    path = loop.out / f"{name}.safetensors"
    state = part_of(loop.ema.module.state_dict(), name)
    metadata = {"name": name, "format": "1", "preprocessing": KIND, "step": str(loop.step)}
    part = path.with_suffix(".part")
    write_safetensors(part, state, metadata)
    part.replace(path)


def train(loop: Loop, maker: SceneMaker, settings: dict[str, Any]) -> None:
    """Learn until the budget is used."""
    canvas, network = settings["canvas"], loop.modules["detector"].train()
    share = processes()
    batches = SceneBatches(maker, settings["batch"], canvas, settings["seed"], loop.step, settings["wide_every"], *share)
    priors = {size: anchors(size, size) for size in (canvas, 2 * canvas)}
    feed = iter(loader(batches, settings["workers"], batch_size=None))
    for step in loop.steps():
        pixels, scenes = next(feed)
        goal = targets(scenes, priors[pixels.shape[-1]])
        goal = Targets(*(getattr(goal, field.name).to(loop.device) for field in fields(Targets)))
        batch = PREPROCESSING[KIND](pixels.to(loop.device).float()).contiguous(memory_format=torch.channels_last)
        with loop.autocast():
            boxes, logits, points = network(batch)
        loss, terms = detection_loss(boxes.float(), logits.float(), points.float(), goal)
        loop.update(loss, dict(terms))
        if step % 250 == 0:
            loop.picture("scenes", batch[:4])
        if step % 250 == 249:
            export(loop, "detector")
    export(loop, "detector")


class _Looks(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """This process's batches of a `LookMaker`, from step `start` on."""

    def __init__(self, maker: LookMaker, seed: int, size: int, start: int) -> None:
        self.maker, self.seed, self.size, self.start = maker, seed, size, start
        self.process, self.count = processes()

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.maker.batch(self.seed, (self.start + number) * self.count + self.process, self.size)


def train_landmarks(loop: Loop, maker: LookMaker, settings: dict[str, Any]) -> None:
    """Learn until the budget is used."""
    network = loop.modules["landmarks"].train()
    looks = _Looks(maker, settings["seed"], settings["batch"], loop.step)
    feed = loader(looks, settings["workers"], batch_size=None, sampler=range(2**40))
    samples = iter(feed)
    for step in loop.steps():
        crops, where, kinds = (part.to(loop.device) for part in next(samples))
        with loop.autocast():
            points, logits = network(crops)
        loss, terms = refiner_loss(points, logits, where, kinds)
        loop.update(loss, dict(terms))
        if step % 500 == 499:
            export(loop, "landmarks")
    export(loop, "landmarks")


def mistakes(args: argparse.Namespace, maker: SceneMaker, settings: dict[str, Any]) -> NDArray[np.uint8]:
    """`(n, 128, 128, 3)` uint8: what the detector takes for a face in composed scenes, and is none."""
    path = args.out / "mistakes.npz"
    if not path.exists():
        detector = RetinaDetector(args.detector, low_threshold=settings["threshold"], refine=False)
        found = []
        for number in range(settings["scenes"]):
            scene = maker.make(np.random.default_rng([settings["seed"], number, 1]), settings["canvas"])
            faces = detector.detect([scene.image])[0]
            boxes = np.array([f.box for f in faces], np.float32).reshape(-1, 4)
            points = np.array([f.landmarks for f in faces], np.float32).reshape(-1, 5, 2)
            found += mistakes_in(scene, boxes, points, 128)
        part = path.with_suffix(".part.npz")
        np.savez(part, crops=np.array(found, np.uint8).reshape(-1, 128, 128, 3))
        part.replace(path)
    with np.load(path) as data:
        crops: NDArray[np.uint8] = data["crops"]
    log.info("%d mistakes of the detector", len(crops))
    return crops


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", nargs="?", choices=("detector", "landmarks"), default="detector")
    parser.add_argument("--faces", type=Path, required=True, help="folder of portraits")
    parser.add_argument("--clips", type=Path, help="folder of video clips, for the teacher")
    parser.add_argument("--backgrounds", type=Path, help="folder of pictures without faces")
    parser.add_argument("--teacher", type=Path, help="YuNet as ONNX; makes the labels")
    parser.add_argument("--labels", type=Path, help="JSON with labels, in place of the teacher")
    parser.add_argument("--detector", default="embedded", help="for landmarks: the detector whose finds it will look at")
    add_budget(parser, None, minutes=45)
    args = parser.parse_args(argv)
    args.config = args.config or HERE / f"configs/train/{args.stage}.yaml"
    if not args.teacher and not args.labels:
        parser.error("give --teacher or --labels")
    if args.clips and not args.teacher:
        parser.error("--clips needs --teacher: --labels are of the pictures alone")
    return args


@in_one_line
def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and train."""
    args = arguments(argv)
    settings = begin(args)
    args.out.mkdir(parents=True, exist_ok=True)
    with launched().main_process_first():  # the first one writes the labels, the others read them
        faces, stills = portraits(args, settings), frames(args, settings)
    empty = [read_picture(path) for path in pictures_in(args.backgrounds)] if args.backgrounds else []
    log.info("%d portraits, %d frames, %d backgrounds", len(faces), len(stills), len(empty))
    hard = Hardship(**settings.get("hard", {}))
    maker = SceneMaker(faces, stills, empty, settings["smallest"], settings["largest"], settings["canvas"], hard)
    if args.stage == "detector":
        train(loop_of(args, nn.ModuleDict({"detector": fresh()}), settings), maker, settings)
        return
    with launched().main_process_first():
        looks = LookMaker([*faces, *stills], maker, mistakes(args, maker, settings), hard=hard)
    train_landmarks(loop_of(args, nn.ModuleDict({"landmarks": LandmarkRefiner()}), settings), looks, settings)


if __name__ == "__main__":
    main()

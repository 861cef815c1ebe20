"""Restore the sample clip and say honestly what it brought.

    python samples/demo.py                             restores samples/out/input.mp4 to output.mp4, and measures
    python samples/demo.py --picture before_after.png  the same picture to another place as well
    python samples/demo.py --set restore.steps=8       with another setting

The figures compare the input and the output with the clean twin, in the same run: fidelity of the whole frames and of
the faces, identity, and flicker. Where the output is worse than the input, the table says so. Faces are cut out at the
true landmarks of `truth.json`, so no detector takes part in the measuring. `samples/out/` then holds `report.json`,
`figures.json` and `before_after.png` as well.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import make_sample
import numpy as np
from numpy.typing import NDArray

from videoclr import Config, Reader, VideoclrError, WeightsError, restore_video
from videoclr.geometry import cut, ffhq_matrix
from videoclr.metrics.fidelity import luma, psnr, ssim
from videoclr.metrics.identity import identity_scores
from videoclr.metrics.temporal import motions, ratio, warp_errors

Picture = NDArray[np.uint8]
CLIPS = ("input", "output", "clean")
SIZE = 256
"""Side of the aligned crops in which faces are measured, pixels."""


@dataclass
class Appearance:
    """One face from its coming to its going, as aligned crops of the three clips."""

    person: str
    shot: int
    frames: list[int] = field(default_factory=list)
    crops: dict[str, list[Picture]] = field(default_factory=lambda: {name: [] for name in CLIPS})


@dataclass(frozen=True)
class Row:
    """A line of the table; `clean` is None where the clean clip is what the others are compared with."""

    name: str
    unit: str
    better: str
    """`more`, `less`, or `near` for what should come near the clean value and not beyond."""
    input: float
    output: float
    clean: float | None = None

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `same`, of the output against the input."""
        if self.better == "near":
            away = [abs(np.log(ratio(value, self.clean or 0.0))) for value in (self.input, self.output)]
            gain = float(away[0] - away[1])
        else:
            gain = (self.output - self.input) * (1 if self.better == "more" else -1)
        if abs(gain) < 0.0005 * max(abs(self.input), abs(self.output)):
            return "same"
        return "better" if gain > 0 else "worse"


def frames_of(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, Picture]]]:
    """The truth and the three pictures of every frame, side by side.

    Raises:
        SystemExit: the clips do not have the same number of frames.
    """
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    with ExitStack() as stack:
        readers = {name: stack.enter_context(Reader(folder / f"{name}.mp4")) for name in CLIPS}
        streams = {name: reader.frames() for name, reader in readers.items()}
        for known in truth["frames"]:
            shown = {name: next(stream, None) for name, stream in streams.items()}
            missing = [name for name, frame in shown.items() if frame is None]
            if missing:
                raise SystemExit(f"demo: {', '.join(missing)}.mp4 ends before frame {known['index']}")
            yield known, {name: np.asarray(frame.image) for name, frame in shown.items() if frame is not None}
        longer = [name for name, stream in streams.items() if next(stream, None) is not None]
        if longer:
            raise SystemExit(f"demo: {', '.join(longer)}.mp4 is longer than truth.json; run samples/make_sample.py again")


@dataclass
class Measured:
    """What one pass over the clips collects."""

    whole: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {"input": [], "output": []})
    """PSNR (RGB) and SSIM (Y) of every frame against the clean one."""
    appearances: list[Appearance] = field(default_factory=list)
    kept: dict[int, tuple[dict[str, Any], dict[str, Picture]]] = field(default_factory=dict)
    """Frames for the picture."""


def measure(folder: Path, moments: Sequence[int]) -> Measured:
    """Walk once through the three clips."""
    found = Measured()
    for known, shown in frames_of(folder):
        clean_luma = luma(shown["clean"])
        for name, scores in found.whole.items():
            scores.append((psnr(shown[name], shown["clean"]), ssim(luma(shown[name]), clean_luma)))
        for face in known["faces"]:
            appearance = _appearance(found.appearances, face["person"], known)
            matrix = ffhq_matrix(np.array(face["landmarks"]), SIZE)
            appearance.frames.append(known["index"])
            for name, crops in appearance.crops.items():
                crops.append(np.clip(np.rint(cut(shown[name], matrix, SIZE)), 0, 255).astype(np.uint8))
        if known["index"] in moments:
            found.kept[known["index"]] = known, shown
    return found


def _appearance(known: list[Appearance], person: str, frame: dict[str, Any]) -> Appearance:
    """The one that goes on with this frame, or a new one: a face that was away appears anew."""
    for one in known:
        if one.person == person and one.shot == frame["shot"] and one.frames[-1] == frame["index"] - 1:
            return one
    known.append(Appearance(person, frame["shot"]))
    return known[-1]


def face_ellipse() -> NDArray[np.float64]:
    """`(SIZE, SIZE)` 1 on the face of an aligned crop, chin and forehead included, 0 on hair and background."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(mask, (SIZE // 2, round(0.56 * SIZE)), (round(0.3 * SIZE), round(0.38 * SIZE)), 0, 0, 360, 1, -1)
    return mask.astype(np.float64)


def table(found: Measured) -> list[Row]:
    """All figures but identity."""
    whole = {name: np.mean(scores, axis=0) for name, scores in found.whole.items()}
    face, flicker = _faces(found.appearances)
    rows = [
        Row("PSNR, faces", "dB", "more", face["input"][0], face["output"][0]),
        Row("SSIM, faces", "", "more", face["input"][1], face["output"][1]),
        Row("PSNR, whole frames", "dB", "more", float(whole["input"][0]), float(whole["output"][0])),
        Row("SSIM, whole frames", "", "more", float(whole["input"][1]), float(whole["output"][1])),
        Row("flicker E*warp, faces", "", "near", flicker["input"], flicker["output"], flicker["clean"]),
    ]
    times = [ratio(flicker[name], flicker["clean"]) for name in CLIPS]
    rows.append(Row("flicker, times the clean clip's", "", "near", *times))
    return rows


def _faces(appearances: list[Appearance]) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Mean PSNR (RGB) and SSIM (Y) inside the ellipse, and mean E*warp there, over all faces of all frames."""
    mask = face_ellipse()
    scores: dict[str, list[tuple[float, float]]] = {"input": [], "output": []}
    warped: dict[str, list[float]] = {name: [] for name in CLIPS}
    for one in appearances:
        clean = [luma(crop) for crop in one.crops["clean"]]
        for name, list_ in scores.items():
            for crop, reference, bright in zip(one.crops[name], one.crops["clean"], clean, strict=True):
                list_.append((psnr(crop, reference, mask), ssim(luma(crop), bright, mask)))
        if len(one.frames) > 1:
            moving = motions(one.crops["clean"])
            for name, errors in warped.items():
                errors.extend(warp_errors(one.crops[name], moving, mask))
    fidelity = {name: (float(np.mean([s[0] for s in v])), float(np.mean([s[1] for s in v]))) for name, v in scores.items()}
    return fidelity, {name: float(np.nanmean(errors)) for name, errors in warped.items()}


def identity_rows(appearances: list[Appearance]) -> list[Row]:
    """Identity by the package's own recogniser, which also guides the restoration: read it with that in mind.

    Raises:
        WeightsError: the recogniser's weights are not there.
    """
    import torch

    from videoclr.parts.face_recognizer import FaceRecognizer
    from videoclr.pixels import to_tensor

    recognizer = FaceRecognizer(recover=False)

    def embedded(crops: list[Picture]) -> NDArray[Any]:
        batches = [crops[start : start + 16] for start in range(0, len(crops), 16)]
        found = [recognizer.embed(torch.stack([to_tensor(crop) for crop in batch])).numpy() for batch in batches]
        return np.concatenate(found)

    weights = np.array([len(one.frames) for one in appearances], float)
    known = [{name: embedded(one.crops[name]) for name in CLIPS} for one in appearances]
    scores = {name: [identity_scores(rows[name], rows["clean"]) for rows in known] for name in ("input", "output")}

    def mean(name: str, figure: str) -> float:
        return float(np.average([getattr(score, figure) for score in scores[name]], weights=weights))

    return [
        Row("identity similarity (IDS)", "cosine", "more", mean("input", "ids"), mean("output", "ids"), 1.0),
        Row("identity angle (Deg)", "degrees", "less", mean("input", "degrees"), mean("output", "degrees"), 0.0),
        Row("spread of identity (sigma)", "", "less", mean("input", "sigma_ids"), mean("output", "sigma_ids"), 0.0),
    ]


def printed(rows: list[Row], remarks: Sequence[str]) -> str:
    """The table as text."""
    lines = [f"{'':34}{'input':>9}{'output':>9}{'clean':>9}   output is"]
    for row in rows:
        name = f"{row.name} [{row.unit}]" if row.unit else row.name
        digits = 2 if row.unit in ("dB", "degrees") else 4
        clean = "-" if row.clean is None else f"{row.clean:.{digits}f}"
        lines.append(f"{name:34}{row.input:9.{digits}f}{row.output:9.{digits}f}{clean:>9}   {row.verdict}")
    return "\n".join([*lines, *remarks])


def moments_of(truth: dict[str, Any]) -> list[int]:
    """Three telling frames: one face early, two faces, and the last shot's face."""
    faces = [len(frame["faces"]) for frame in truth["frames"]]
    shots = [frame["shot"] for frame in truth["frames"]]
    alone = [index for index, count in enumerate(faces) if count == 1 and shots[index] == 0]
    pairs = [index for index, count in enumerate(faces) if count == 2]
    late = [index for index, count in enumerate(faces) if count and shots[index] == 1]
    chosen = [group[len(group) * part // 100] for group, part in ((alone, 50), (pairs, 60), (late, 75)) if group]
    return sorted(set(chosen))


def before_after(kept: dict[int, tuple[dict[str, Any], dict[str, Picture]]], rate: float) -> Picture:
    """Rows of moments, columns input | output | clean, zoomed to the faces and labelled; RGB."""
    width, height, bar = 400, 300, 34
    rows = [_labels([("input" if n == "input" else "restored" if n == "output" else "clean") for n in CLIPS], width, bar)]
    for index, (known, shown) in sorted(kept.items()):
        x0, y0, x1, y1 = _window([np.array(face["landmarks"]) for face in known["faces"]], shown["clean"].shape, width / height)
        cells = [cv2.resize(shown[name][y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_CUBIC) for name in CLIPS]
        row = np.concatenate(cells, axis=1)
        cv2.putText(
            row,
            f"{index / rate:.2f} s",
            (8, height - 10),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.5,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
        row[:, width - 1 :: width] = 255
        rows.append(row)
    return np.concatenate(rows).astype(np.uint8)


def _labels(names: Sequence[str], width: int, height: int) -> Picture:
    bar = np.full((height, width * len(names), 3), 24, np.uint8)
    for place, name in enumerate(names):
        at = (place * width + 10, height - 11)
        cv2.putText(bar, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.62, (240, 240, 240), 1, cv2.LINE_AA)
    return bar


def _window(faces: Sequence[NDArray[Any]], shape: Sequence[int], aspect: float) -> tuple[int, int, int, int]:
    """The smallest rectangle of the given aspect around all faces with their hair, inside the picture."""
    squares = []
    for landmarks in faces:
        eyes = np.linalg.norm(landmarks[1] - landmarks[0])
        squares += [landmarks[2] - (2.0 * eyes, 2.35 * eyes), landmarks[2] + (2.0 * eyes, 1.9 * eyes)]
    low, high = np.min(squares, axis=0), np.max(squares, axis=0)
    centre, size = (low + high) / 2, high - low
    height = min(max(size[1], size[0] / aspect), shape[0], shape[1] / aspect)
    extent = np.array([height * aspect, height])
    corner = np.clip(centre - extent / 2, 0, np.array([shape[1], shape[0]]) - extent)
    x0, y0 = np.rint(corner).astype(int)
    x1, y1 = np.rint(corner + extent).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def write_picture(path: Path, picture: Picture) -> None:
    """Save RGB; the folder is made where it is missing.

    Raises:
        SystemExit: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), picture[..., ::-1]):
        raise SystemExit(f"demo: {path}: cannot be written")


class Ticker:
    """Progress on standard error: one line that changes on a terminal, one line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self.last = -10.0

    def __call__(self, progress: Any) -> None:
        """Say where the job is, not too often."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self.last < (0.2 if terminal else 10) and progress.frames != progress.total:
            return
        self.last = now
        text = f"restoring: frame {progress.frames} of {progress.total or '?'}, {progress.faces} faces"
        print(f"\r{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal and progress.frames == progress.total:
            print(file=sys.stderr)


def run(options: argparse.Namespace) -> int:
    """Make what is missing, restore, measure, and show."""
    folder: Path = options.out
    if any(not (folder / name).exists() for name in ("clean.mp4", "input.mp4", "truth.json")):
        print("making the sample clip first ...", file=sys.stderr)
        if make_sample.main(["--out", str(folder)]):
            return 1
    config = Config().override(*options.settings)
    if not options.measure_only:
        report = restore_video(
            folder / "input.mp4",
            folder / "output.mp4",
            config,
            report=folder / "report.json",
            overwrite=True,
            progress=Ticker(),
        )
        print(f"{report.frames_out} frames, {report.faces_restored} faces in {report.seconds:.1f} s")
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    found = measure(folder, moments_of(truth))
    rows, remarks = table(found), ["faces: inside an ellipse of the aligned crop; flicker: motion of the clean clip."]
    try:
        rows += identity_rows(found.appearances)
        remarks.append("identity: by the project's own recogniser, which also guides the restoration; take it with salt.")
    except WeightsError as error:
        remarks.append(f"identity: not measured ({error})")
    print(printed(rows, remarks))
    figures = [{**asdict(row), "verdict": row.verdict} for row in rows]
    (folder / "figures.json").write_text(json.dumps({"figures": figures, "remarks": remarks}, indent=1), encoding="utf-8")
    picture = before_after(found.kept, float(make_sample.RATE))
    for path in [folder / "before_after.png", *([options.picture] if options.picture else [])]:
        write_picture(path, picture)
    names = ("output.mp4", "before_after.png", "report.json", "figures.json")
    print("see " + ", ".join(str(folder / name) for name in names))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(description="Restore samples/out/input.mp4 and compare with its clean twin.")
    parser.add_argument("--out", type=Path, default=make_sample.OUT, help="folder of the sample (default: samples/out)")
    parser.add_argument("--picture", type=Path, help="write the before | after picture here as well")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE", help="change a setting")
    parser.add_argument("--measure-only", action="store_true", help="measure an output.mp4 that is already there")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    try:
        return run(options)
    except (VideoclrError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())

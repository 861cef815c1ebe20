"""What the figures are called and what they mean, and the table as text, JSON and Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from videoclr.evaluation.views import CLEAN
from videoclr.metrics.temporal import ratio


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    name: str
    """Key in JSON and CSV."""
    title: str
    """For people, with the unit."""
    digits: int = 4
    compared: bool = False
    """The clean clip has it too, and it is read as a ratio to that."""
    per_face: bool = True
    """It stands in the CSV, in the lines of faces."""


METRICS = (
    Metric("psnr", "PSNR, crop [dB]", 2),
    Metric("psnr_y", "PSNR-Y, crop [dB]", 2),
    Metric("ssim", "SSIM, crop"),
    Metric("ssim_y", "SSIM-Y, crop"),
    Metric("frame_psnr", "PSNR, frame in the mask [dB]", 2),
    Metric("frame_psnr_y", "PSNR-Y, frame in the mask [dB]", 2),
    Metric("frame_ssim", "SSIM, frame in the mask"),
    Metric("frame_ssim_y", "SSIM-Y, frame in the mask"),
    Metric("ids", "IDS [cosine]"),
    Metric("deg", "Deg [degrees]", 2),
    Metric("sigma_ids", "sigma-IDS", per_face=False),
    Metric("lmd", "LMD [px of the crop]", 3),
    Metric("lpips", "LPIPS (AlexNet)"),
    Metric("sqd", "SqD"),
    Metric("facefeat", "facefeat"),
    Metric("sharpness", "sharpness [Laplacian variance]", 1, compared=True),
    Metric("vidd", "VIDD [1 - cosine]", compared=True),
    Metric("jitter", "Jitter [px/frame²]", 3, compared=True),
    Metric("ewarp", "E*warp [1e-3]", compared=True),
    Metric("tlme", "TLME [px/frame]", 3),
    Metric("mouth_gain", "mouth, gain [1: follows]", 3, per_face=False),
    Metric("tlpips", "tLPIPS (AlexNet)"),
    Metric("tsqd", "tSqD"),
    Metric("tfacefeat", "tfacefeat"),
    Metric("seam_ewarp", "seams, E*warp [ratio]", 3, compared=True, per_face=False),
    Metric("seam_vidd", "seams, VIDD [ratio]", 3, compared=True, per_face=False),
)
"""In the order of the table. TLME and the t-distances are differences from the clean clip's motion and change: 0 is
perfect and no ratio is needed. `compared` figures are read as ratios, because smoothness alone is gamed by blur; sharpness
stands beside them to show what smoothness was bought with."""
PER_FACE = tuple(metric.name for metric in METRICS if metric.per_face)


@dataclass(frozen=True)
class Figures:
    """The result of a measurement."""

    clips: dict[str, dict[str, float]]
    """Version -> metric -> value; the clean clip among them."""
    missing: dict[str, str]
    """Metric -> why it was not measured."""
    sources: dict[str, str]
    """What measured what."""
    counts: dict[str, int]
    """Frames, faces (counted in every frame), tracks, shots, and faces whose landmarks were seen in every version."""
    tracks: list[dict[str, Any]] = field(default_factory=list)
    """Track, first frame, frames, and its figures by version."""
    equal: dict[str, dict[str, int]] = field(default_factory=dict)
    """Version -> PSNR's name -> pictures that equal the clean ones. They have none, and are left out of its mean."""

    def ratios(self, name: str) -> dict[str, float]:
        """Metric -> version `name` divided by the clean clip, of the metrics that are compared."""
        own, clean = self.clips[name], self.clips[CLEAN]
        return {m.name: ratio(own[m.name], clean[m.name]) for m in METRICS if m.compared and m.name in own and m.name in clean}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "clips": {name: plain(values) for name, values in self.clips.items()},
            "ratios_to_clean": {name: plain(self.ratios(name)) for name in self.clips if name != CLEAN},
            "not_measured": self.missing,
            "measured_by": self.sources,
            "counts": self.counts,
            "equal_to_clean": self.equal,
            "tracks": [{**track, "clips": {n: plain(v) for n, v in track["clips"].items()}} for track in self.tracks],
        }


def plain(values: Mapping[str, float]) -> dict[str, float | str]:
    """Rounded to seven digits; the infinite PSNR of pictures that are all equal becomes the text `inf`, which JSON can hold, and
    what is not known (NaN: nothing was visible in both frames) is left out."""
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    return {name: "inf" if math.isinf(value) else float(f"{value:.7g}") for name, value in known.items()}


def text(figures: Figures) -> str:
    """The table for a terminal: a row per metric, a column per version and per ratio to the clean clip."""
    others = [name for name in figures.clips if name != CLEAN]
    head = [*others, CLEAN, *(f"{name}/clean" for name in others)]
    width = max(10, *(len(name) for name in head)) + 2
    lines = [f"{'':32}" + "".join(f"{name:>{width}}" for name in head)]
    for metric in METRICS:
        cells = _cells(figures, metric, others)
        if any(cells):
            lines.append(f"{metric.title:32}" + "".join(f"{cell or '-':>{width}}" for cell in cells))
        else:
            lines.append(f"{metric.title:32}  not measured: {figures.missing.get(metric.name, 'too few frames')}")
    return "\n".join([*lines, "", *_remarks(figures)]) + "\n"


def markdown(rows: Mapping[str, Mapping[str, float]], ratios: Mapping[str, Mapping[str, float]]) -> str:
    """Many versions: a line per version, a column per metric that any of them has.

    Args:
        rows: version -> metric -> value; the clean clip's line shows values, not ratios.
        ratios: version -> metric -> ratio to the clean clip; shown instead of the value where there is one.
    """
    shown = [m for m in METRICS if any(m.name in values for values in rows.values())]
    titles = [f"{m.title.split(' [')[0]} / clean" if m.compared else m.title for m in shown]
    lines = ["| row | " + " | ".join(titles) + " |", "|---|" + "---|" * len(shown)]
    for name, values in rows.items():
        own = ratios.get(name, {})
        cells = [f"{own[m.name]:.3f}" if m.name in own else number(values.get(m.name), m.digits) for m in shown]
        lines.append(f"| {'clean, itself' if name == CLEAN else name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def number(value: float | None, digits: int) -> str:
    """`value` as text; empty where there is none."""
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _cells(figures: Figures, metric: Metric, others: Sequence[str]) -> list[str]:
    values = [number(figures.clips[name].get(metric.name), metric.digits) for name in (*others, CLEAN)]
    ratios = [figures.ratios(name).get(metric.name) for name in others]
    return [*values, *(number(value, 3) for value in ratios)]


def _remarks(figures: Figures) -> list[str]:
    counts = figures.counts
    equal = {name: found["psnr"] for name, found in figures.equal.items() if found.get("psnr")}
    return [
        *(
            f"{name}: {count} of {counts['faces']} faces equal the clean ones and are left out of its PSNR"
            for name, count in equal.items()
        ),
        f"frames {counts['frames']}, faces in them {counts['faces']}, tracks {counts['tracks']}, shots {counts['shots']}; "
        "mean over the faces of all frames, nothing temporal over a cut",
        f"landmarks: {figures.sources['landmarks']}; seen in every version in {counts['landmarks']} of {counts['faces']} faces",
        f"identity: {figures.sources['identity']}; perceptual distances: {figures.sources['perceptual']}",
        "flow of E*warp: on the clean clip; TLME and the t-distances: differences from the clean clip, 0 is perfect",
    ]

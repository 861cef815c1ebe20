"""Turn folders of pictures and clips into aligned, filtered face crops for training: tar shards with a manifest.

    python pipelines/prepare_faces.py clips/ portraits/ --out data/faces [--size 256] [--every 0.5] [--min-sharpness 60]

Every picture, and a frame every `--every` seconds of every clip, goes through the project's own detector; each face is cut out
as in FFHQ and kept if it is large, sharp, frontal and whole enough, and no near twin of a crop that the same clip gave before. OUT
holds `faces-00000.tar`, ... in the layout of WebDataset (`KEY.png`, `KEY.json`), which the training programs take as `--faces`,
and `manifest.tsv`, which `train_identity.py` takes as `--identities`:

    file  source  time (s)  size (side of the FFHQ square in source pixels)  sharpness (variance of the Laplacian at 256 px)
    score (detector)  yaw (nose off the middle, in eye distances)  narrow (eye distance over eyes to mouth)  roll (degrees)
    identity

An identity is a group within one clip, or within the pictures of one folder, by the project's own recogniser; nothing says that two
groups are two people. The same sources, options and packages give the same bytes. decord reads the clips where it imports and can
(it jumps to the frames that are asked for), else `videoclr.media` decodes them whole; `--reader` decides.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from videoclr import geometry
from videoclr.arguments import integer, real
from videoclr.errors import MediaError
from videoclr.parts.face_recognizer import FaceRecognizer
from videoclr.parts.retina_detector import RetinaDetector
from videoclr.pixels import eight_bit
from videoclr.process import use_threads
from videoclr.training.data import SUFFIXES, as_tensor
from videoclr.training.program import in_one_line
from videoclr.types import Detection

PICTURES = (*SUFFIXES, ".bmp", ".tif", ".tiff")
CLIPS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif", ".mpg", ".ts", ".mxf")
COLUMNS = ("file", "source", "time", "size", "sharpness", "score", "yaw", "narrow", "roll", "identity")
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Face:
    """A crop that passed the filters."""

    crop: Picture
    """`(S, S, 3)` RGB."""
    row: dict[str, Any]
    """Its columns, without `file` and `identity`."""


@dataclass
class Group:
    """What is compared with each other: one clip, or the pictures of one folder."""

    name: str
    twins: bool
    """Near twins are left out: for the frames of a clip, not for pictures."""
    thumbnails: list[NDArray[np.float32]] = field(default_factory=list)
    sums: list[torch.Tensor] = field(default_factory=list)
    """Per identity, the sum of its embeddings."""

    def is_twin(self, crop: Picture, difference: float) -> bool:
        """Whether a crop differs from every one before by less than `difference` (mean, share of white); remembers it if not."""
        if not self.twins:
            return False
        small = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        if any(float(np.abs(small - other).mean()) < difference for other in self.thumbnails):
            return True
        self.thumbnails.append(small)
        return False

    def identity(self, embedding: torch.Tensor, threshold: float, taken: set[int]) -> int:
        """The group of a unit vector: the nearest by cosine from `threshold` up, else a new one. Nobody is twice in a picture."""
        near = [float(torch.nn.functional.cosine_similarity(embedding, mean, dim=0)) for mean in self.sums]
        order = sorted((n for n in range(len(near)) if n not in taken), key=lambda n: -near[n])
        if order and near[order[0]] >= threshold:
            self.sums[order[0]] = self.sums[order[0]] + embedding
            return order[0]
        self.sums.append(embedding)
        return len(self.sums) - 1


def files_in(sources: Sequence[Path]) -> list[Path]:
    """Pictures and clips of files and folders, whatever their depth; each folder sorted."""
    kinds = (*PICTURES, *CLIPS)
    return [
        path
        for source in sources
        for path in (sorted(source.rglob("*")) if source.is_dir() else [source])
        if path.is_file() and path.suffix.lower() in kinds
    ]


def pictures_of(path: Path, every: float, reader: str) -> Iterator[tuple[float, Picture]]:
    """`(seconds, (H, W, 3) RGB)`: a picture at 0, or the first frame of a clip at or after each multiple of `every`.

    Raises:
        MediaError: the file cannot be read.
    """
    if path.suffix.lower() in PICTURES:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise MediaError(path, "not a readable picture")
        yield 0.0, np.ascontiguousarray(picture[:, :, ::-1], np.uint8)
    elif reader == "media" or (clip := _opened(path, reader == "decord")) is None:
        yield from _by_media(path, every)
    else:
        yield from _by_decord(path, clip, every, reader == "decord")


def _by_decord(path: Path, clip: Any, every: float, strict: bool) -> Iterator[tuple[float, Picture]]:
    """What decord stumbles over, the project's own reader mostly passes over: it goes on from there, unless `strict`."""
    import decord

    seconds = -1.0
    try:
        times = clip.get_frame_timestamp(range(len(clip)))[:, 0]
        times = times - times[0]
        for number in np.unique(np.searchsorted(times + 1e-6, np.arange(0, times[-1] + 1e-6, every))):
            picture = clip[int(number)].asnumpy()
            seconds = float(times[number])
            yield seconds, picture
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        if strict:
            raise MediaError(path, f"decord fails behind {max(0.0, seconds):.1f} s; try --reader media") from error
        yield from (one for one in _by_media(path, every) if one[0] > seconds + 1e-6)


def _opened(path: Path, strict: bool) -> Any:
    """decord's reader of a clip, or None where decord is missing or knows not how (unless `strict`)."""
    try:
        import decord
    except ImportError as error:
        if strict:
            raise MediaError(path, "decord is not installed; try --reader media") from error
        return None
    try:
        return decord.VideoReader(str(path), num_threads=1)
    except (decord.DECORDError, RuntimeError) as error:
        if strict:
            reason = str(error).splitlines()[0].rpartition("] ")[2]
            raise MediaError(path, f"decord cannot read it ({reason}); try --reader media") from error
        return None


def _by_media(path: Path, every: float) -> Iterator[tuple[float, Picture]]:
    from videoclr.media.reader import Reader

    with Reader(path) as clip:
        begin, due = None, 0.0
        for frame in clip.frames():
            begin = frame.time if begin is None else begin
            seconds = float(frame.time - begin)
            if seconds + 1e-6 >= due:
                due = (seconds + 1e-6) // every * every + every
                yield seconds, eight_bit(frame.image)


def pose(points: NDArray[np.float64]) -> tuple[float, float, float]:
    """How a head is turned.

    Args:
        points: `(5, 2)` landmarks in the picture.

    Returns:
        yaw, as the nose's way off the middle of eyes and mouth in eye distances (0: frontal); the eye distance over that from the
        eyes to the mouth (about 1: frontal), because a small detector puts every nose into the middle; and roll in degrees.
    """
    eyes = points[1] - points[0]
    roll = float(np.degrees(np.arctan2(eyes[1], eyes[0])))
    distance = max(float(np.hypot(*eyes)), 1e-3)
    middle = (points[0] + points[1] + points[3] + points[4]) / 4
    down = max(float(np.hypot(*(points[3:].mean(0) - points[:2].mean(0)))), 1e-3)
    return float((points[2] - middle) @ (eyes / distance)) / distance, distance / down, roll


def sharpness(crop: Picture) -> float:
    """Variance of the Laplacian of the luma at 256 px."""
    grey = cv2.cvtColor(cv2.resize(crop, (256, 256), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


class Sieve:
    """Faces of pictures, what is wrong with the rest, and who they are."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.detector = RetinaDetector(args.detector, low_threshold=args.min_score, long_side=args.long_side, device=args.device)
        self.recognizer = FaceRecognizer(args.device, recover=False)
        self.counts: Counter[str] = Counter()
        self.groups: dict[str, Group] = {}

    def faces(self, path: Path) -> Iterator[Face]:
        """The kept faces of a file, with their identities."""
        clip = path.suffix.lower() in CLIPS
        name = str(path if clip else path.parent)
        group = self.groups.setdefault(name, Group(name, clip))
        for seconds, picture in pictures_of(path, self.args.every, self.args.reader):
            self.counts["pictures"] += 1
            taken: set[int] = set()
            for found in self.detector.detect([picture])[0]:
                face = self.face(group, picture, found)
                if isinstance(face, str):
                    self.counts[face] += 1
                    continue
                (embedding,) = self.recognizer.embed(as_tensor(face.crop)[None])
                number = group.identity(embedding, self.args.same_person, taken)
                taken.add(number)
                where = {"source": str(path), "time": f"{seconds:.3f}", "identity": f"{name}#{number}"}
                yield Face(face.crop, {**face.row, **where})

    def face(self, group: Group, picture: Picture, found: Detection) -> Face | str:
        """The crop of a detection, or what is wrong with it."""
        args, points = self.args, found.landmarks.astype(np.float64)
        try:
            matrix = geometry.ffhq_matrix(points, args.size)
        except ValueError:
            return "landmarks span no face"
        yaw, narrow, roll = pose(points)
        side = args.size / geometry.scale_of(matrix)
        height, width = picture.shape[:2]
        if side < args.min_size:
            return "too small"
        if abs(yaw) > args.max_yaw or narrow < args.min_narrow:
            return "turned away"
        if geometry.inside(matrix, args.size, width, height).mean() < args.min_inside:
            return "cut off"
        crop = np.clip(np.rint(geometry.cut(picture, matrix, args.size)), 0, 255).astype(np.uint8)
        if (value := sharpness(crop)) < args.min_sharpness:
            return "blurred"
        if group.is_twin(crop, args.min_difference):
            return "twin of one before"
        numbers = {"size": f"{side:.0f}", "sharpness": f"{value:.1f}", "score": f"{found.score:.3f}"}
        return Face(crop, {**numbers, "yaw": f"{yaw:.3f}", "narrow": f"{narrow:.2f}", "roll": f"{roll:.1f}"})


class Shards:
    """Writes the crops, `per` to a tar. Nothing has its name before everything is there."""

    def __init__(self, out: Path, per: int, kind: str) -> None:
        self.out, self.per, self.kind = out, per, kind
        self.rows: list[dict[str, Any]] = []
        self.parts: list[Path] = []
        self.tar: tarfile.TarFile | None = None

    def add(self, face: Face) -> None:
        """Append one face."""
        if len(self.rows) % self.per == 0:
            self.close()
            self.parts.append(self.out / f"faces-{len(self.parts):05d}.tar.part")
            self.tar = tarfile.open(self.parts[-1], "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        key = f"{len(self.rows):07d}"
        row = {"file": f"{key}.{self.kind}", **face.row}
        how = [cv2.IMWRITE_JPEG_QUALITY, 95] if self.kind == "jpg" else []
        coded = cv2.imencode(f".{self.kind}", face.crop[:, :, ::-1], how)[1]
        for name, content in ((row["file"], coded.tobytes()), (f"{key}.json", json.dumps(row, sort_keys=True).encode())):
            entry = tarfile.TarInfo(name)  # no time and no owner: the same faces give the same bytes
            entry.size = len(content)
            assert self.tar is not None
            self.tar.addfile(entry, io.BytesIO(content))
        self.rows.append(row)

    def close(self) -> None:
        """End the shard in hand."""
        if self.tar is not None:
            self.tar.close()

    def finish(self) -> None:
        """Write the manifest and give everything its name, the manifest last."""
        self.close()
        manifest = self.out / "manifest.tsv.part"
        with manifest.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        for part in (*self.parts, manifest):
            part.replace(part.with_suffix(""))

    def discard(self) -> None:
        """Remove what was not finished."""
        self.close()
        for part in (*self.parts, self.out / "manifest.tsv.part"):
            part.unlink(missing_ok=True)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sources", nargs="+", type=Path, help="folders, pictures and clips")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=integer(16), default=256, help="side of the crops, pixels")
    parser.add_argument("--every", type=real(above=0), default=0.5, help="seconds between the frames of a clip that are looked at")
    parser.add_argument(
        "--min-size", type=real(least=0), help="smallest side of the face's square in the source, pixels; --size unless given"
    )
    parser.add_argument("--min-sharpness", type=real(least=0), default=60.0, help="variance of the Laplacian at 256 px")
    parser.add_argument("--min-score", type=real(above=0, below=1), default=0.9, help="of the detector")
    parser.add_argument("--max-yaw", type=real(least=0), default=0.25, help="nose off the middle, in eye distances")
    parser.add_argument(
        "--min-narrow", type=real(least=0), default=0.8, help="eye distance over the distance from the eyes to the mouth"
    )
    parser.add_argument("--min-inside", type=real(least=0, most=1), default=0.9, help="share of the crop that the source shows")
    parser.add_argument(
        "--min-difference", type=real(least=0, most=1), default=0.03, help="from every crop of the clip before, share of white"
    )
    parser.add_argument(
        "--same-person", type=real(least=-1, most=1), default=0.5, help="cosine of embeddings from which two faces are one person"
    )
    parser.add_argument("--detector", default="embedded", help="weights, as detect.weights takes them")
    parser.add_argument("--long-side", type=integer(32), default=640, help="pixels of a picture's longer side for the detector")
    parser.add_argument("--reader", choices=("auto", "decord", "media"), default="auto", help="of clips")
    parser.add_argument("--format", choices=("png", "jpg"), default="png")
    parser.add_argument("--shard", type=integer(1), default=1000, help="faces in a tar")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=integer(0), default=0)
    args = parser.parse_args(argv)
    args.min_size = args.size if args.min_size is None else args.min_size
    if missing := [str(s) for s in args.sources if not s.exists()]:
        parser.error(f"{', '.join(missing)}: no such file or folder")
    if (args.out / "manifest.tsv").exists():
        parser.error(f"{args.out}: holds a finished set already; give another --out")
    return args


@in_one_line
def main(argv: Sequence[str] | None = None) -> None:
    """Look at everything, write what is kept, and say what was not."""
    args = arguments(argv)
    use_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    shards = Shards(args.out, args.shard, args.format)
    try:
        sieve = Sieve(args)
        for path in files_in(args.sources):
            sieve.counts["files"] += 1
            try:
                for face in sieve.faces(path):
                    shards.add(face)
            except MediaError as error:
                sieve.counts["unreadable files"] += 1
                print(error, file=sys.stderr)
        print(", ".join(f"{value} {name}" for name, value in sieve.counts.items()) or "no picture and no clip")
        if not shards.rows:
            sys.exit(f"{', '.join(map(str, args.sources))}: no face was kept; see the counts, and loosen the filter that took most")
        shards.finish()
    finally:
        shards.discard()
    people = len({row["identity"] for row in shards.rows})
    print(f"{len(shards.rows)} faces in {people} identity groups, {len(shards.parts)} shards in {args.out}")


if __name__ == "__main__":
    main()

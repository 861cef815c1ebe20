"""Face crops for training: sample number `n` is a pure function of `(seed, n)`, so training resumes exactly where it stopped.

Crops come from a folder of pictures, from tar shards in the layout of WebDataset (as `pipelines/prepare_faces.py` writes them), or
from one packed array that every process maps instead of decoding thousands of pictures again.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from videoclr.errors import ConfigError, MediaError
from videoclr.training.degrade import degrade
from videoclr.training.mosaic import Donors, draw_parts, mosaic, regions
from videoclr.training.motion import move, pose

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def load_faces(source: str | Path, size: int, least: int = 0) -> tuple[list[str], NDArray[np.uint8]]:
    """Every picture of a source, area-averaged to `size`.

    Args:
        source: a folder of pictures, or of `.tar` shards, in the order of their names; one `.tar`; or the `.npy` of `pack_faces`.
        size: side of the crops, px.
        least: pictures of a smaller side are left out.

    Returns:
        the file names, and `(N, size, size, 3)` uint8 RGB.

    Raises:
        FileNotFoundError: there is no picture, or none that is large enough, or one cannot be read.
    """
    if Path(source).suffix == ".npy":
        names = Path(source).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
        packed: NDArray[np.uint8] = np.load(source, mmap_mode="r")
        if packed.shape[1] < least:
            raise FileNotFoundError(f"{source}: its pictures of {packed.shape[1]} px are too small; {least} are needed")
        if packed.shape[1] == size:
            return names, packed
        return names, np.stack([_at_size(picture, size) for picture in packed])
    found = [entry for path in _files(Path(source)) for entry in (_members(path) if path.suffix == ".tar" else _single(path))]
    if not found:
        raise FileNotFoundError(f"{source}: no pictures ({', '.join(SUFFIXES)}) and no .tar of them")
    faces, names = np.empty((len(found), size, size, 3), np.uint8), list[str]()
    for name, read in found:
        picture = cv2.imdecode(np.frombuffer(read(), np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise FileNotFoundError(f"{source}: {name} is not a readable picture")
        if min(picture.shape[:2]) < least:
            continue
        faces[len(names)] = _at_size(picture, size)[:, :, ::-1]
        names.append(name)
    if not names:
        raise FileNotFoundError(f"{source}: no picture of {least} px or more")
    return names, faces[: len(names)]


def pack_faces(names: list[str], faces: NDArray[np.uint8], path: Path) -> None:
    """Write `path` (`.npy`) and the names beside it, for `load_faces`; the array last, by rename, so that it stands for both."""
    path.with_suffix(".txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    part = path.with_suffix(".npy.part")
    with part.open("wb") as file:
        np.save(file, faces)
    part.replace(path)


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted(p for p in source.iterdir() if p.suffix.lower() in (*SUFFIXES, ".tar"))
    return [source] if source.suffix == ".tar" and source.is_file() else []


def _single(path: Path) -> list[tuple[str, Callable[[], bytes]]]:
    return [(path.name, path.read_bytes)]


def _members(shard: Path) -> list[tuple[str, Callable[[], bytes]]]:
    """The pictures of a shard with ways to read them: members of an uncompressed tar are pieces of the file."""
    try:
        with tarfile.open(shard) as tar:
            found = [m for m in tar if m.isfile() and Path(m.name).suffix.lower() in SUFFIXES]
    except tarfile.TarError as error:
        raise FileNotFoundError(f"{shard}: not a readable tar file ({error})") from error
    return [(m.name, partial(_bytes, shard, m.offset_data, m.size)) for m in sorted(found, key=lambda m: m.name)]


def _bytes(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _at_size(picture: NDArray[Any], size: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def read_identities(manifest: str | None, names: list[str]) -> Tensor:
    """`(N,)` int64: each picture's identity by a TSV manifest (columns `file`, `identity`); alone where not listed.

    Raises:
        MediaError: the manifest has no such columns, or a line that lacks them.
        OSError: it cannot be read.
    """
    known: dict[str, str] = {}
    if manifest:
        try:
            header, *rows = Path(manifest).read_text(encoding="utf-8").splitlines()
            file, identity = header.split("\t").index("file"), header.split("\t").index("identity")
            known = {Path(row.split("\t")[file]).name: row.split("\t")[identity] for row in rows}
        except (ValueError, IndexError) as error:
            raise MediaError(manifest, "expected lines with tabs between, and columns file and identity in the first") from error
    order: dict[str, int] = {}
    return torch.tensor([order.setdefault(known.get(name, name), len(order)) for name in names])


def as_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """`(H, W, 3)` uint8 -> `(3, H, W)` float32 in [-1, 1]."""
    return _planes(picture)[0] / 127.5 - 1


def _planes(picture: NDArray[np.uint8]) -> Tensor:
    """`(H, W, 3)` -> `(1, 3, H, W)` of code values."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float()[None]


def _picture(planes: Tensor) -> NDArray[np.uint8]:
    """`(1, 3, H, W)` of whole code values -> `(H, W, 3)`."""
    picture: NDArray[np.uint8] = planes[0].byte().permute(1, 2, 0).contiguous().numpy()
    return picture


def somebody(faces: NDArray[np.uint8], face: int, mirrored: bool, donors: Donors, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`(S, S, 3)`: row `face`, mirrored or not, with parts of another one of the faces."""
    row, turned = donors.of(face, mirrored, rng)
    picture, other = (faces[of][:, ::-1] if turn else faces[of] for of, turn in ((face, mirrored), (row, turned)))
    return _picture(mosaic(_planes(picture), _planes(other), regions([draw_parts(rng)], len(picture))))


def drawn_name(shares: dict[str, float], rng: np.random.Generator) -> str:
    """One of the names, each as often as its share (of their sum) says."""
    parts = np.array(list(shares.values()), float)
    return list(shares)[int(rng.choice(len(parts), p=parts / parts.sum()))]


Light = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
PAIRED, MOVED, SAME_LIGHT, MILD = 0.35, 0.8, 0.7, 0.7
"""Shares of the references: another picture of the person, of those of whom there is any; in another pose and expression; in the
picture's light; and degraded by `mild`, not `heavy`."""


class Others:
    """Draws pairs of two pictures of one person.

    Args:
        identities: `(N,)`, whose each face is.
    """

    def __init__(self, identities: Tensor) -> None:
        _, of, counts = torch.unique(identities, return_inverse=True, return_counts=True)
        self._of: NDArray[np.int64] = of.numpy()
        self.rows: NDArray[np.int64] = torch.nonzero(counts[of] > 1).flatten().numpy()

    def pair(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """Rows of two pictures of one person, for the share `PAIRED` of the samples; else, and where nobody has two, None."""
        if not len(self.rows) or rng.random() >= PAIRED:
            return None
        row = int(rng.choice(self.rows))
        mates = np.flatnonzero((self._of == self._of[row]) & (np.arange(len(self._of)) != row))
        return row, int(rng.choice(mates))


class FacePairs(Dataset[dict[str, Any]]):
    """Endless pairs of a clean and a degraded crop.

    Args:
        faces: `(N, S, S, 3)` uint8 RGB, FFHQ-aligned.
        seed: of every random choice.
        levels: degradation families with their shares, or `{}` for `degraded` equal to `clean`.
        warp: strength in [0, 1] of the geometric variation (similarity, shear, aspect); 0 only mirrors.
        blended: share of the faces into which parts of another one are blended: somebody whom no picture shows (`mosaic.py`).
        posed: share of the faces that get another pose and expression (`motion.pose`).
        identities: `(N,)`, whose each face is: give another view of each as well, mostly in another pose and less degraded (for
            those of whom there are several pictures, often of another of these); None: none.
    """

    def __init__(
        self,
        faces: NDArray[np.uint8],
        seed: int,
        levels: dict[str, float],
        warp: float = 0.0,
        blended: float = 0.0,
        posed: float = 0.0,
        identities: Tensor | None = None,
    ) -> None:
        self.faces, self.seed, self.levels, self.warp = faces, seed, levels, warp
        self.blended, self.posed = blended, posed
        self.others = None if identities is None else Others(identities)
        self.donors = Donors(faces) if blended else None

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int) -> dict[str, Any]:
        """`clean`, `degraded`, and `reference` where asked for: `(3, S, S)` float32; `face`: row of `faces`; `mirrored`; `blended`:
        with parts of another one."""
        rng = np.random.default_rng((self.seed, number))
        face = int(rng.integers(len(self.faces)))
        pair = None if self.others is None else self.others.pair(rng)
        face = face if pair is None else pair[0]
        picture = self.faces[face]
        mirrored = bool(rng.random() < 0.5)
        picture = picture[:, ::-1] if mirrored else picture
        blended = False
        if self.donors is not None and pair is None and rng.random() < self.blended:
            blended = True
            picture = somebody(self.faces, face, mirrored, self.donors, rng)
        someone = shown = picture
        if self.posed > 0 and rng.random() < self.posed:
            shown = self._posed(someone, rng)
        light = self._light(rng)
        picture = self._warped(light(shown), rng)
        worse = degrade(picture, drawn_name(self.levels, rng), rng) if self.levels else picture
        sample = {"clean": as_tensor(picture), "degraded": as_tensor(worse), "face": face, "mirrored": mirrored, "blended": blended}
        if self.others is not None:
            if pair is not None:
                someone = shown = self.faces[pair[1]][:, ::-1] if mirrored else self.faces[pair[1]]
            sample["reference"] = as_tensor(self._view(someone, shown, light, rng))
        return sample

    def _view(
        self, someone: NDArray[np.uint8], shown: NDArray[np.uint8], light: Light, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """A face as it looks elsewhere in its film, degraded: out of the face as it is, and as it was shown."""
        view = self._posed(someone, rng) if rng.random() < MOVED else shown
        light = light if rng.random() < SAME_LIGHT else self._light(rng)
        return degrade(self._warped(light(view), rng), "mild" if rng.random() < MILD else "heavy", rng)

    @staticmethod
    def _posed(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        return next(move(np.ascontiguousarray(picture), pose(int(rng.integers(2**31)))))

    @staticmethod
    def _light(rng: np.random.Generator) -> Light:
        gain, gamma = rng.uniform(0.85, 1.15, 3) if rng.random() < 0.3 else np.ones(3), rng.uniform(0.75, 1.3)
        if rng.random() >= 0.5:
            return lambda picture: picture
        table = np.clip(np.rint(255 * (np.arange(256)[:, None] / 255) ** gamma * gain), 0, 255).astype(np.uint8)
        return lambda picture: np.stack([table[picture[..., c], c] for c in range(3)], axis=2)

    def _warped(self, picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        if self.warp == 0:
            return np.ascontiguousarray(picture)
        side, w = picture.shape[0], self.warp
        angle, scale, shear = rng.normal(0, 0.12 * w), np.exp(rng.normal(0, 0.06 * w)), rng.normal(0, 0.08 * w)
        aspect = np.exp(rng.normal(0, 0.06 * w))
        c, s = np.cos(angle), np.sin(angle)
        linear = np.array([[c, -s], [s, c]]) @ np.array([[scale * aspect, shear], [0, scale / aspect]])
        middle = np.array([side / 2, side * 0.55])
        shift = middle - linear @ middle + rng.normal(0, 0.02 * w * side, 2)
        return cv2.warpAffine(  # type: ignore[return-value]
            picture,
            np.column_stack([linear, shift]),
            (side, side),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )


def batches(data: Dataset[dict[str, Any]], size: int, step: int, workers: int = 1) -> Iterator[dict[str, Any]]:
    """Batches number `step`, `step + 1`, ... of `size` samples each, made by worker processes (0: in this one).

    Where several processes train together, step `k` of process `r` of `n` takes batch number `k n + r`: no two see the same sample.
    """
    if workers:
        # The workers are the parallelism. They inherit OpenCV's threads dead, and may not even put them away: it crashes.
        cv2.setNumThreads(1)
    yield from loader(
        data,
        workers,
        batch_size=size,
        sampler=_InOrder(step, size, *processes()),
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def loader(data: Dataset[Any], workers: int, **settings: Any) -> DataLoader[Any]:
    """torch's `DataLoader`, whose worker processes ignore SIGTERM and SIGINT.

    A scheduler's SIGTERM and Ctrl-C reach every process of a group, but are meant for the one that trains: it ends its step and
    saves (`Loop.steps`), and needs its samples until then. The workers end with it, however it ends.

    Raises:
        ConfigError: `workers` is no number of processes.
    """
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 0:
        raise ConfigError(f"workers: expected a number of processes, 0 or more, got {workers!r}; `device` is for samples of stills")
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)  # before multiprocessing's own farewell, which waits for who was only asked by SIGTERM
    # A generator of its own: else a DataLoader draws from torch's at every start, and an interrupted training goes on otherwise.
    return DataLoader(data, num_workers=workers, worker_init_fn=_deaf, generator=torch.Generator(), **settings)


def _deaf(_: int) -> None:
    """In a worker."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_workers() -> None:
    """At the end of the process: of loaders that are still held, for the others ended with their readers."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or torch would call it an accident
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def processes() -> tuple[int, int]:
    """Number of this process among those that train together, and how many they are: 0 of 1 outside `torchrun`."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class _InOrder(Sampler[int]):
    def __init__(self, step: int, size: int, rank: int, world: int) -> None:
        self.step, self.size, self.rank, self.world = step, size, rank, world

    def __iter__(self) -> Iterator[int]:
        for step in count(self.step):
            first = (step * self.world + self.rank) * self.size
            yield from range(first, first + self.size)

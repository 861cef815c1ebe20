"""Show the flicker of the sample clip as a picture: one row of pixels of a face, over time.

    python samples/slices.py                        writes samples/out/slices.png
    python samples/slices.py --picture slices.png   to another place as well

Time runs down. A face that holds still makes upright stripes, every flicker is a horizontal line. The panels are the input, a
restoration frame by frame (`restore.anchors=1`), what `videoclr` does, and the clean twin; the row lies at the eyes of the face
that is seen first, cut out at the true landmarks of `truth.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import make_sample
import numpy as np
from demo import SIZE, Picture, write_picture

from videoclr import Config, Frame, Pipeline, Reader, VideoclrError
from videoclr.geometry import cut, ffhq_matrix

EYES = 0.47
"""Height of the row in the aligned crop, shares of its side."""
STRETCH = 4
"""Lines per frame."""
PER_FRAME = "restore.anchors=1"


def frames_of(path: Path, count: int) -> list[Frame]:
    """The first `count` frames of a clip.

    Raises:
        MediaError: it cannot be read.
    """
    with Reader(path) as reader:
        return [Frame.from_image(np.asarray(frame.image), frame.index, frame.time) for frame in islice(reader.frames(), count)]


def rows_of(frames: Iterable[Frame], matrices: Mapping[int, Any]) -> Iterator[Picture]:
    """`(SIZE, 3)` of each frame that shows the face."""
    for frame in frames:
        if frame.index in matrices:
            crop = cut(np.asarray(frame.image), matrices[frame.index], SIZE)
            yield np.clip(np.rint(crop[round(EYES * SIZE)]), 0, 255).astype(np.uint8)


def first_face(truth: dict[str, Any], count: int) -> dict[int, Any]:
    """Frame -> frame px to crop px, of the person whom the first frame with a face shows.

    Raises:
        SystemExit: nobody is seen.
    """
    known = [frame for frame in truth["frames"][:count] if frame["faces"]]
    if not known:
        raise SystemExit(f"slices: no face in the first {count} frames; give more --frames")
    person = known[0]["faces"][0]["person"]
    found = {f["index"]: face for f in known for face in f["faces"] if face["person"] == person}
    return {index: ffhq_matrix(np.array(face["landmarks"]), SIZE) for index, face in found.items()}


def picture_of(slices: Mapping[str, Picture]) -> Picture:
    """The slices `(T, SIZE, 3)` side by side under their names."""
    panels = []
    for name, rows in slices.items():
        bar = np.full((26, SIZE, 3), 24, np.uint8)
        cv2.putText(bar, name, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (240, 240, 240), 1, cv2.LINE_AA)
        panels.append(np.concatenate([bar, np.repeat(rows, STRETCH, axis=0)]))
    return np.concatenate(panels, axis=1)


def run(options: argparse.Namespace) -> None:
    """Make what is missing, restore twice, draw."""
    folder: Path = options.out
    if any(not (folder / name).exists() for name in ("clean.mp4", "input.mp4", "truth.json")):
        print("making the sample clip first ...", file=sys.stderr)
        if make_sample.main(["--out", str(folder)]):
            raise SystemExit(1)
    matrices = first_face(json.loads((folder / "truth.json").read_text(encoding="utf-8")), options.frames)
    given, clean = (frames_of(folder / f"{name}.mp4", options.frames) for name in ("input", "clean"))
    config = Config().override(*options.settings)
    versions: dict[str, Iterable[Frame]] = {
        "input": given,
        "frame by frame": Pipeline(config.override(PER_FRAME)).restore_frames(iter(given)),
        "videoclr": Pipeline(config).restore_frames(iter(given)),
        "clean": clean,
    }
    picture = picture_of({name: np.stack(list(rows_of(frames, matrices))) for name, frames in versions.items()})
    for path in filter(None, (folder / "slices.png", options.picture)):
        write_picture(path, picture)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=make_sample.OUT, help="folder of the sample")
    parser.add_argument("--picture", type=Path, help="write the picture here as well")
    parser.add_argument("--frames", type=int, default=60, help="from the beginning (default: 60)")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE", help="for both restorations")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except VideoclrError as error:
        print(f"slices: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

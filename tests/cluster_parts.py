"""Parts that workers of a cluster load by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videoclr.types import Detection


class Waiting:
    """Finds no face. At its first picture it tells its process through the pipe `said`, and waits for somebody at the pipe `go`,

    unless there is a file `free` in the folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._asked = Path(folder), False

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        if not self._asked and not (self._folder / "free").exists():
            with (self._folder / "said").open("a") as said:
                said.write(f"{os.getpid()}\n")
            (self._folder / "go").open().close()
        self._asked = True
        return [[] for _ in images]

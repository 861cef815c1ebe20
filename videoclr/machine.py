"""What a run sets for its whole process: threads of torch and OpenCV, and how the heap grows."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_M_TOP_PAD = -2
_PAD = 64 * 2**20
"""Bytes by which the heap grows, and which it keeps at its end. As it comes, glibc gives pages back to the system and asks for them
anew, zeroed, with nearly every layer of a network: a quarter of all time was spent on that (a clip of 150 frames took 137 s instead
of 107), with as much memory at the peak. 16 MiB did half of it."""


def settle(threads: int) -> None:
    """Make this process ready for the networks.

    Args:
        threads: of torch and of OpenCV each; 0 leaves them as they are.
    """
    if threads:
        import cv2
        import torch

        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library than glibc has no such thing
            ctypes.CDLL(None).mallopt(_M_TOP_PAD, _PAD)

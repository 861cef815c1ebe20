"""What a program owes the system it runs on."""

import resource
import subprocess
import sys

import cv2
import pytest
import torch

from videoclr.process import threads

_MADE = """
import ctypes, resource
from videoclr import process
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a page of 2 MB counts as one fault
if not {keeps}:
    process._KEPT = 0
process.settle_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks = [0] * 100  # here, for a list that grows lies in the heap as well, and may hold its end
for _ in range(50):
    for place in range(100):  # 10 MB in pieces, all of it written, and given back
        blocks[place] = libc.malloc(100_000)
    for block in blocks:
        ctypes.memset(block, 1, 100_000)
    for block in blocks:
        libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(keeps: bool) -> int:
    done = subprocess.run([sys.executable, "-c", _MADE.format(keeps=keeps)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_the_heap_keeps_its_pages_between_layers():
    page = resource.getpagesize()
    assert _faults(keeps=True) < 2 * 10_000_000 / page
    assert _faults(keeps=False) > 10 * 10_000_000 / page  # what it is for; where this no longer holds, it can go


def test_blocks_that_overlap_leave_as_many_threads_as_there_were():
    before = torch.get_num_threads(), cv2.getNumThreads()
    first, second = threads(3), threads(4)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before

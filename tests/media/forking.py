"""A process that has loaded everything and runs the command line in a fork for each line of JSON on its standard input.

A fresh interpreter spends three seconds on imports. This one was started clean and computes nothing but what makes the networks, on
its only thread, so that a fork of it is as good. A line: `{"arguments": [...], "folder": "...", "files": {"0": [PATH, FLAGS],
...}}`; the answer: the exit status.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import av  # noqa: F401
import cv2  # noqa: F401
import torch

import videoclr.jobs
import videoclr.parts.agreement
import videoclr.parts.content_cuts
import videoclr.parts.face_recognizer
import videoclr.parts.feather
import videoclr.parts.overlap_tracker
import videoclr.parts.retina_detector
import videoclr.parts.unchanged  # noqa: F401
from videoclr import plugins
from videoclr.cli import main
from videoclr.config import Config
from videoclr.pipeline import Pipeline


def child(job):
    """Never returns."""
    code = 70
    try:
        os.chdir(job["folder"])
        for number, (path, flags) in job["files"].items():
            os.dup2(os.open(path, flags, 0o600), int(number))
        code = main(job["arguments"])
        sys.stdout.flush()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("kept_parts", Path(__file__).parents[1] / "kept_parts.py")
    assert spec is not None and spec.loader is not None
    kept_parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kept_parts)
    plugins.build = kept_parts.keeping()
    Pipeline(Config().override("restore.use=unchanged", "runtime.device=cpu"))
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            child(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)

"""`videoclr doctor`: is everything here that a run needs, and does it work?

Every finding is tried, not looked up in a list: codecs encode a frame, weights are hashed.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

from videoclr import __version__
from videoclr.config import Config

LOW_DISK_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    topic: str
    """What was looked at, such as `torch`."""
    found: str
    """What was found."""
    ok: bool = True
    """False where a run would fail."""
    advice: str = ""
    """What to do, where something can be done."""


def examine() -> list[Finding]:
    """Look at everything; never raises, a probe that fails is a finding too."""
    findings: list[Finding] = []
    for topic, probe in _PROBES.items():
        try:
            findings.extend(probe())
        except Exception as error:  # the patient may be in any state: report it and look at the rest
            findings.append(Finding(topic, f"{type(error).__name__}: {' '.join(str(error).split())}", False))
    return findings


def table(findings: list[Finding]) -> str:
    """The findings as aligned lines of text, problems marked in the first column, ending in a newline."""
    width = max(len(finding.topic) for finding in findings)
    lines = []
    for finding in findings:
        mark = "ok  " if finding.ok else "FAIL"
        advice = f"  -> {finding.advice}" if finding.advice else ""
        lines.append(f"{mark}  {finding.topic:<{width}}  {finding.found}{advice}\n")
    broken = sum(not finding.ok for finding in findings)
    lines.append("everything works\n" if not broken else f"{broken} problem{'' if broken == 1 else 's'}\n")
    return "".join(lines)


def _program() -> Iterator[Finding]:
    yield Finding("videoclr", __version__)
    yield Finding("python", f"{platform.python_version()} ({sys.platform}, {platform.machine()})")


def _libraries() -> Iterator[Finding]:
    for name in ("numpy", "diffusers", "safetensors", "scipy", "pydantic"):
        try:
            yield Finding(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "missing", False, f"pip install {name}")


def _torch() -> Iterator[Finding]:
    import torch

    yield Finding("torch", str(torch.__version__))
    policy = os.environ.get("OMP_WAIT_POLICY", "unset")
    yield Finding("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, waiting: {policy.lower()}")
    if not torch.cuda.is_available():
        # Torch's own name of it is not public; where it is gone, nothing is said.
        if getattr(torch.cpu, "_is_amx_tile_supported", bool)():
            yield Finding("bfloat16", "made for it (AMX): --set restore.precision=bfloat16 is up to twice as fast")
        yield Finding("cuda", "none (everything works on the CPU, slower)")
        return
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        # A listed device may still refuse work: a build of torch without its kernels, a process that holds it.
        torch.ones(8, device=f"cuda:{number}").sum().item()
        yield Finding(f"cuda:{number}", f"{properties.name}, {properties.total_memory / 1024**3:.0f} GiB")


def _opencv() -> Iterator[Finding]:
    import cv2

    both = [name for name in ("opencv-python", "opencv-contrib-python") if _installed(name)]
    headless = _installed("opencv-python-headless")
    if both and headless:
        # pip lets both write the same folder `cv2`: whichever came last wins, and removing one breaks the other
        advice = f"pip uninstall -y {' '.join(both)} && pip install --force-reinstall --no-deps opencv-python-headless"
        yield Finding("opencv", f"{cv2.__version__}, but {both[0]} lies over opencv-python-headless", advice=advice)
    else:
        yield Finding("opencv", str(cv2.__version__))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _media() -> Iterator[Finding]:
    from videoclr.media import probe
    from videoclr.media.encoders import DEFAULT_CODEC

    for name, version in probe.media_libraries().items():
        yield Finding(name, version)
    working = probe.codecs()
    default = Config().media.codec or DEFAULT_CODEC
    for codec, works in working.items():
        # the others are a choice; without the default one nothing can be written unasked
        yield Finding(f"codec {codec}", "encodes" if works else "does not encode here", works or codec != default)
    devices = [name for name, works in probe.hardware().items() if works]
    yield Finding("hardware encoders", ", ".join(devices) or "none works here (the processor encodes)")


def _weights() -> Iterator[Finding]:
    from videoclr.models.store import listing

    for one in listing():
        ok, embedded = one.state == "ok", one.origin == "embedded"
        found = f"{one.bytes / 1e6:.1f} MB, sha256 {one.sha256[:12]}" if ok else one.state
        # added weights are a choice; without the embedded ones nothing runs
        yield Finding(f"weights {one.name}", found if embedded else f"added, {found}", ok or not embedded, one.advice)


def _disk() -> Iterator[Finding]:
    for topic, folder in (("temporary files", tempfile.gettempdir()), ("this folder", ".")):
        free = shutil.disk_usage(folder).free
        short = free < LOW_DISK_BYTES
        yield Finding(topic, f"{free / 1024**3:.1f} GiB free", advice="long videos may not fit" if short else "")


_PROBES: dict[str, Callable[[], Iterator[Finding]]] = {
    "videoclr": _program,
    "libraries": _libraries,
    "torch": _torch,
    "opencv": _opencv,
    "media": _media,
    "weights": _weights,
    "disk": _disk,
}

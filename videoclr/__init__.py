"""Restores the faces in a video.

    report = videoclr.restore_video("in.mp4", "out.mp4")

The names below are the public ones; `import videoclr` itself is instant, because each name loads its module (and with
it torch, OpenCV or PyAV) only when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Config": "config",
    "ConfigError": "errors",
    "DecodeError": "errors",
    "DeviceError": "errors",
    "EncodeError": "errors",
    "MediaError": "errors",
    "NotFiniteError": "errors",
    "RestorationError": "errors",
    "ResumeError": "errors",
    "VideoclrError": "errors",
    "WeightsError": "errors",
    "Reader": "media.reader",
    "Writer": "media.writer",
    "Pipeline": "pipeline",
    "Progress": "jobs",
    "Report": "report",
    "restore_video": "jobs",
    "Detection": "types",
    "FaceCrop": "types",
    "Faces": "types",
    "Frame": "types",
    "Patch": "types",
    "RestoredFace": "types",
    "TrackedFace": "types",
    "VideoInfo": "types",
}

if TYPE_CHECKING:
    from videoclr.config import Config
    from videoclr.errors import (
        ConfigError,
        DecodeError,
        DeviceError,
        EncodeError,
        MediaError,
        NotFiniteError,
        RestorationError,
        ResumeError,
        VideoclrError,
        WeightsError,
    )
    from videoclr.jobs import Progress, restore_video
    from videoclr.media.reader import Reader
    from videoclr.media.writer import Writer
    from videoclr.pipeline import Pipeline
    from videoclr.report import Report
    from videoclr.types import Detection, FaceCrop, Faces, Frame, Patch, RestoredFace, TrackedFace, VideoInfo

__all__ = [
    "Config",
    "ConfigError",
    "DecodeError",
    "Detection",
    "DeviceError",
    "EncodeError",
    "FaceCrop",
    "Faces",
    "Frame",
    "MediaError",
    "NotFiniteError",
    "Patch",
    "Pipeline",
    "Progress",
    "Reader",
    "Report",
    "RestorationError",
    "RestoredFace",
    "ResumeError",
    "TrackedFace",
    "VideoInfo",
    "VideoclrError",
    "WeightsError",
    "Writer",
    "__version__",
    "restore_video",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'videoclr' has no attribute {name!r}")
    value = getattr(import_module(f"videoclr.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

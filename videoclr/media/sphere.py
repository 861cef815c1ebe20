"""A picture that is a sphere, or a part of one: FFmpeg's word for it, in the terms that MP4 and Matroska share."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from videoclr.media.orientation import payload

EQUIRECTANGULAR, CUBEMAP, _TILE = 0, 1, 2
"""AVSphericalProjection; a tile is an equirectangular picture with bounds. What comes behind them (fisheye, half of a sphere)
is new with Apple's boxes, and neither of the two containers has a word for it that FFmpeg reads in both."""
_MAPPING = struct.Struct("=i3i5I")
"""AVSphericalMapping: projection, yaw, pitch, roll (16.16 degrees), bounds left, top, right, bottom (0.32), padding."""


@dataclass(frozen=True, slots=True)
class Sphere:
    """How a picture is laid around its viewer."""

    projection: int
    """`EQUIRECTANGULAR` or `CUBEMAP`, or a number of FFmpeg's that has no name here."""
    pose: tuple[int, int, int]
    """Yaw, pitch, roll: degrees in 16.16 fixed point."""
    shape: bytes
    """Content of the box `equi` or `cbmp` of spherical video v2, which is Matroska's ProjectionPrivate too."""


def sphere_of(frame: VideoFrame) -> Sphere | None:
    """From the side data that the decoder attached; None for a flat picture."""
    data = payload(frame, Type.SPHERICAL)
    if data is None or len(data) < _MAPPING.size:
        return None
    projection, yaw, pitch, roll, left, top, right, bottom, padding = _MAPPING.unpack_from(data)
    pose = (yaw, pitch, roll)
    if projection == CUBEMAP:
        return Sphere(projection, pose, struct.pack(">3I", 0, 0, padding))
    shape = struct.pack(">5I", 0, top, bottom, left, right)
    return Sphere(EQUIRECTANGULAR if projection == _TILE else projection, pose, shape)

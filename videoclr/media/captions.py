"""Closed captions in the pictures of a video: CEA-608 and CEA-708 as ATSC A/53, part 4, 6.2.3 has them.

FFmpeg's decoders of H.264, HEVC and MPEG-2 hand them over as side data of each picture, and some of its encoders write them again.
"""

from __future__ import annotations

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from videoclr.media.colour import kind_of
from videoclr.media.orientation import payload

CAPTIONS_LOST = "the closed captions (CEA-608/708) in its pictures are left out; the codecs h264 and hevc keep them"
_KEEPERS = frozenset(("libx264", "libx265", "h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "h264_vaapi", "hevc_vaapi"))
"""Encoders that write them; libx265 because it is told to (`videoclr.media.encoders`)."""
_TRIPLE = 3
_VALID, _DIGITAL, _NO_PARITY = 0x04, 0x02, 0x7F
"""Bits of cc_data(): cc_valid, those types that are CEA-708, and what a byte of CEA-608 says."""


def keeps_captions(encoder: str) -> bool:
    """Whether FFmpeg's `encoder` writes the captions of the pictures that it is given."""
    return encoder in _KEEPERS


def has_captions(frame: VideoFrame) -> bool:
    """Whether a decoded picture has captions that say something; padding does not."""
    data = (payload(frame, Type.A53_CC) if kind_of(frame.format.name) == "yuv" else None) or b""
    triples = zip(*(data[first::_TRIPLE] for first in range(_TRIPLE)), strict=False)
    return any(head & _VALID and (head & _DIGITAL or (one | two) & _NO_PARITY) for head, one, two in triples)

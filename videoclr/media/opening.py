"""What an input is taken for, what it may reach, and how much it may ask for.

A media file is not only data: a playlist names other files and addresses, a header may promise a picture of a terabyte. Unless
asked otherwise, a file opens nothing but itself (`protocols_of`, `demuxers`), and what it claims is compared with `Limits` before
memory is taken for it. FFmpeg's own switches for this are `protocol_whitelist`, `format_whitelist`, `max_streams` and `max_pixels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from types import MappingProxyType

import av
from av.format import ContainerFormat, Flags

from videoclr.errors import ConfigError, DecodeError, MediaError

_TRANSPORTS: Mapping[str, str] = MappingProxyType(
    {
        "file": "file", "http": "http,tcp", "https": "https,http,tls,tcp", "ftp": "ftp,tcp", "sftp": "sftp",
        "rtmp": "rtmp,tcp", "rtmps": "rtmps,tls,tcp", "srt": "srt", "udp": "udp", "tcp": "tcp", "rtp": "rtp,udp",
        "rtsp": "rtp,udp,tcp",
    }
)  # fmt: skip
"""Scheme of an address that a person gave -> the FFmpeg protocols it is made of."""
_LIVE = {"rtsp": "rtsp", "rtp": "rtp"}
"""Schemes whose demuxer is a network protocol itself."""
_NAMING_OTHERS = frozenset({"hls", "dash", "concat", "imf", "webm_dash_manifest", "vobsub"})
"""Demuxers that open files which their input names."""
_NETWORK = frozenset({"rtsp", "rtp", "sdp", "sap"})
"""Demuxers that listen to the network."""
_SIZED = frozenset({"rawvideo", "v210", "v210x", "bitpacked"})
"""Formats that say nothing of themselves."""
RAW = "rawvideo"
_MOST = 2**31 - 1
"""Pixels that FFmpeg can be told; it takes no option beyond."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that an input may claim before it is refused."""

    pixels: int = 1 << 27
    """Width x height of a picture; 16384 x 8192."""
    rate: float = 10_000.0
    """Frames per second, on average."""
    seconds: float = 7 * 86_400.0
    """Duration."""
    streams: int = 256
    """Of all kinds."""
    frames: int = 20_000_000
    """Pictures of one input, as counted."""

    @property
    def decoder_pixels(self) -> int:
        """What decoders are told: they pad pictures, so that the exact limit would refuse what just fits."""
        return min(self.pixels + self.pixels // 4 + (1 << 16), _MOST)

    def check(
        self, path: str, streams: int, size: tuple[int, int], rate: Fraction | None, seconds: Fraction | None, frames: int | None
    ) -> None:
        """Compare what an opened input claims.

        Raises:
            MediaError: too much of something; the message names the setting.
        """
        claims: list[tuple[str, float | Fraction | None, float, str]] = [
            ("streams", streams, self.streams, f"has {streams} streams"),
            ("pixels", size[0] * size[1], self.pixels, f"its pictures claim to be {size[0]}x{size[1]}"),
            ("rate", rate, self.rate, f"claims {float(rate or 0):g} frames a second"),
            ("seconds", seconds, self.seconds, f"claims to last {float(seconds or 0):g} s"),
            ("frames", frames, self.frames, f"has {frames} pictures"),
        ]
        for name, claimed, most, words in claims:
            if claimed is not None and claimed > most:
                raise MediaError(path, f"{words}, more than media.limits.{name}={most:g}; raise that if it is to be trusted")

    def check_count(self, path: str, index: int, time: Fraction) -> None:
        """Refuse picture number `index` where it is one too many.

        Raises:
            DecodeError: it is.
        """
        if index >= self.frames:
            raise DecodeError(
                path, f"more pictures than media.limits.frames={self.frames}; raise that if it is to be trusted", time
            )


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open an input.

    Raises:
        ConfigError: an unknown format, or a size and pixel format that are missing or of no use.
    """

    format: str | None = None
    """FFmpeg's demuxer; None finds it out. `rawvideo` needs `video_size` and `pix_fmt`."""
    video_size: tuple[int, int] | None = None
    """Width and height of raw pictures."""
    pix_fmt: str | None = None
    """FFmpeg's pixel format of raw pictures."""
    start_number: int | None = None
    """First picture of a numbered sequence; None for the lowest number that is there."""
    playlists: bool = False
    """A playlist may open the files that it names."""
    protocols: tuple[str, ...] = ()
    """FFmpeg protocols that an input may use besides its own, such as `http`, `tcp`, `tls`, `crypto`."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in av.formats_available:
            raise ConfigError(
                f"$.media.input.format: unknown format {self.format!r}; try nut, matroska, mpegts, yuv4mpegpipe, rawvideo"
            )
        if self.format is not None and not self.may_demux(self.format):
            raise ConfigError(f"$.media.input.format: {self.format} opens other files or devices; allow media.input.playlists=true")
        if self.format in _SIZED:
            if self.video_size is None or (self.pix_fmt is None and self.format == RAW):
                raise ConfigError(f"$.media.input: {self.format} says nothing of itself; give --video-size and --input-pix-fmt")
        elif self.video_size is not None or self.pix_fmt is not None:
            raise ConfigError("$.media.input: a size and a pixel format are for raw pictures alone (--input-format rawvideo)")
        if self.pix_fmt is not None:
            _known_pixels(self.pix_fmt)

    def may_demux(self, name: str) -> bool:
        """Whether the demuxer `name` is allowed."""
        return name in demuxers(self.playlists)

    def options(self, scheme: str) -> dict[str, str]:
        """FFmpeg's options for an input of `scheme` (`file`, `pipe`, `http`, ...).

        Raises:
            ConfigError: an unknown scheme.
        """
        out = {
            "protocol_whitelist": ",".join(protocols_of(scheme, self)),
            "format_whitelist": ",".join([*sorted(demuxers(self.playlists)), *filter(None, [_LIVE.get(scheme)])]),
            "max_streams": str(self.limits.streams + 1),  # one more, so that too many are noticed
            "max_pixels": str(self.limits.decoder_pixels),
        }
        if self.video_size is not None:
            out["video_size"] = f"{self.video_size[0]}x{self.video_size[1]}"
        if self.pix_fmt is not None:
            out["pixel_format"] = self.pix_fmt
        return out


def protocols_of(scheme: str, opening: Opening) -> list[str]:
    """Protocols that an input of `scheme` may use.

    Raises:
        ConfigError: `scheme` is unknown here, and `opening` does not allow it.
    """
    own = "pipe" if scheme == "pipe" else _TRANSPORTS.get(scheme) or (scheme if scheme in opening.protocols else None)
    if own is None:
        raise ConfigError(f"$.media.input.protocols: {scheme}:// is not among the addresses taken here; allow it by its name")
    inside = ["crypto", "data"] if opening.playlists else []
    return [*own.split(","), *inside, *opening.protocols]


@cache
def demuxers(playlists: bool) -> frozenset[str]:
    """Names of the demuxers that read nothing but their input (and, if so wished, what it names).

    Devices, filter graphs and network listeners are never among them.
    """
    names = set()
    for name in av.formats_available:
        try:
            form = ContainerFormat(name, "r")
        except ValueError:  # a muxer alone
            continue
        device = bool(Flags.no_file & Flags(form.flags)) and name != "image2"
        if not (device or name in _NETWORK or (name in _NAMING_OTHERS and not playlists)):
            names.add(form.name)
            names.add(name)
    return frozenset(names)


def _known_pixels(name: str) -> None:
    try:
        av.VideoFormat(name, 16, 16)
    except ValueError as error:
        raise ConfigError(f"$.media.input.pix_fmt: unknown pixel format {name!r}; such as yuv420p, yuv422p10le, rgb24") from error


def playlist_kind(head: bytes) -> str | None:
    """What kind of playlist a file that begins with `head` is; None where it is none."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"#EXTM3U"):
        return "an HLS playlist"
    if text.startswith(b"ffconcat"):
        return "a list of files"
    if text.startswith(b"v=0"):
        return "a description of network streams (SDP)"
    if b"<MPD" in head or b"<CompositionPlaylist" in head:
        return "a DASH or IMF playlist"
    return None

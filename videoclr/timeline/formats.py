"""Which format a cut is in, what reads it, and as what it can be written."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from videoclr.errors import ConfigError
from videoclr.timeline import cut as cuts
from videoclr.timeline.aaf import AafCut
from videoclr.timeline.cut import Cut
from videoclr.timeline.fcpxml import ENDINGS, FcpxmlCut
from videoclr.timeline.xmeml import ENDING as XML
from videoclr.timeline.xmeml import XmemlCut

AnyCut: TypeAlias = Cut | AafCut | FcpxmlCut | XmemlCut

AAF = ".aaf"


def open_cut(path: str | Path, sequence: str | None, target: Path, rate: float | None = None) -> AnyCut:
    """The cut that `path` holds, opened so that it can become `target`.

    Args:
        path: a file or bundle.
        sequence: which timeline, where it holds several; its name.
        target: the new cut.
        rate: see `Cut`.

    Raises:
        ConfigError, MediaError: see `Cut`.
    """
    ending = Path(path).suffix.lower()
    if ending in ENDINGS:
        return FcpxmlCut(path, sequence)
    if ending == AAF == target.suffix.lower():
        return AafCut(path, sequence)
    if ending == XML == target.suffix.lower():
        return XmemlCut(path, sequence)
    return Cut(path, sequence, rate)


def check_target(target: Path, source: Path) -> None:
    """Refuse a cut's new name where the cut `source` cannot be written under it.

    Raises:
        ConfigError: its ending is of no format, or of one that `source` does not become.
    """
    old, new = source.suffix.lower(), target.suffix.lower()
    if old in ENDINGS:
        if new != old:
            raise ConfigError(f"--save-as: {target}: a cut in {old} is written as {old}, which keeps all that is in it")
    elif new in ENDINGS:
        raise ConfigError(f"--save-as: {target}: FCPXML is written of FCPXML alone; expected .otio or .xml")
    elif new == AAF != old:
        raise ConfigError(f"--save-as: {target}: an AAF is written of an AAF alone; expected .otio, .edl or .xml")
    elif new != old or new != AAF:
        cuts.check_target(target)

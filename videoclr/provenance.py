"""The sentence that a restored file carries about itself.

Somebody who finds the file years later shall know that its faces are partly made up, by what, and how to make them
again. The sentence holds neither a time nor a name of a machine, a file or a person: the same input and settings give the
same bytes, and nothing that was private becomes public.
"""

from __future__ import annotations

from typing import Any

from videoclr import __version__
from videoclr.config import Config

_ALWAYS = ("restore.use", "restore.steps", "restore.fidelity", "restore.seed", "blend.strength")
"""Settings that are told even where nobody changed them."""
_NEVER = ("runtime", "media", "identify.references", "identify.only", "identify.leave", "identify.people", "track.file")
"""Settings that change no face, or that name people and files."""


def provenance(config: Config) -> str:
    """`face restoration by videoclr 0.1.0 (restore.use=clr, ...)`: version, main settings, and what differs from the defaults."""
    now, usual = _flat(config.model_dump(mode="json")), _flat(Config().model_dump(mode="json"))
    told = [
        f"{path}={value}"
        for path, value in now.items()
        if path in _ALWAYS or (usual.get(path) != value and not path.startswith(_NEVER))
    ]
    return f"face restoration by videoclr {__version__} ({', '.join(told)})"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted paths, in the order of the configuration."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = value
    return out

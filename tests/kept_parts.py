"""Detector and recogniser are made once for many runs: a fifth of a second, of which a short film takes hardly more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from videoclr import plugins


def keeping(build: Callable[..., Any] = plugins.build) -> Callable[..., Any]:
    """`plugins.build` that answers with the built-in part that it made before of the same settings, as one `Pipeline` has them for
    all films of a batch. Parts with options are made anew, and so are those that have a memory or that a test may look into."""
    made: dict[tuple[Any, str], Any] = {}

    def kept(kind: str, name: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
        if kind not in ("detect", "identify") or name not in plugins.BUILT_IN[kind] or options:
            return build(kind, name, options, settings)
        key = plugins.resolve(kind, name), str(sorted(settings.items()))  # a test may have put another class in its place
        if key not in made:
            made[key] = build(kind, name, options, settings)
        return made[key]

    return kept

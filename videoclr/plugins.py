"""From a name in a config to a class.

Three kinds of names, tried in this order:

* `package.module:Class`: anything that can be imported.
* a built-in of the table below. The table is in the code, so that a checkout that is not installed works as well.
* an entry point of the group `videoclr.<kind>` of an installed package. A third party adds to its `pyproject.toml`:

      [project.entry-points."videoclr.restore"]
      my-restorer = "my_package.module:MyRestorer"

Nothing registers by being imported, and nothing is imported before it is asked for. A built-in is a class like any
other: it gets the same arguments and meets the same protocol (see the stage that uses it).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from videoclr.config import is_meant, like
from videoclr.errors import ConfigError, VideoclrError

BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "cuts": {
        "content": "videoclr.parts.content_cuts:ContentCuts",
        "scenedetect": "videoclr.parts.pyscenedetect:PySceneDetectCuts",
    },
    "detect": {"retina": "videoclr.parts.retina_detector:RetinaDetector"},
    "track": {"overlap": "videoclr.parts.overlap_tracker:OverlapTracker"},
    "identify": {"recognizer": "videoclr.parts.face_recognizer:FaceRecognizer"},
    "restore": {
        "clr": "videoclr.parts.clr:ClrRestorer",
        "checkpoint": "videoclr.parts.checkpoint:CheckpointRestorer",
        "unchanged": "videoclr.parts.unchanged:Unchanged",
    },
    "gate": {"agreement": "videoclr.parts.agreement:Agreement"},
    "blend": {"feather": "videoclr.parts.feather:Feather", "parsing": "videoclr.parts.parsing_mask:ParsingMask"},
}
"""Kind of part (the section of the config that names it) -> name -> `module:Class`."""
METHODS: Mapping[str, Sequence[str]] = {
    "cuts": ("is_cut",),
    "detect": ("detect",),
    "track": ("update", "reset"),
    "identify": ("embed",),
    "restore": ("restore",),
    "gate": ("judge",),
    "blend": ("mask",),
}
"""Kind of part -> what its stage's protocol asks of all of them."""
_PLAIN: Mapping[type, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    NoneType: (NoneType, "null"),
}
"""What an option may be annotated with -> the types of such values, and what they are called."""
_LISTS = (Sequence, list)
OPTIONAL = frozenset({"gate"})
"""Kinds that can be left out, with `none`; whoever builds the part looks for that word before it asks here."""


def names(kind: str) -> list[str]:
    """What can stand in `$.<kind>.use` here, besides `module:Class`: built-ins first."""
    others = {entry.name for entry in entry_points(group=f"videoclr.{kind}")}
    return [*BUILT_IN[kind], *sorted(others - BUILT_IN[kind].keys()), *(["none"] if kind in OPTIONAL else [])]


def resolve(kind: str, name: str) -> type:
    """The class (or factory) called `name`.

    Args:
        kind: `cuts`, `detect`, `track`, `identify`, `restore`, `gate` or `blend`.
        name: built-in, entry point, or `package.module:Class`.

    Raises:
        ConfigError: unknown name, or a module or class that cannot be imported.
        VideoclrError: importing it fails in another way, or would end the program (`SystemExit`).
    """
    if kind not in BUILT_IN:
        raise ConfigError(f"$.{kind}: no such kind of part; known here: {', '.join(BUILT_IN)}")
    if ":" in name:
        return _imported(kind, name)
    if name in BUILT_IN[kind]:
        return _imported(kind, BUILT_IN[kind][name])
    for entry in entry_points(group=f"videoclr.{kind}"):
        if entry.name == name:
            return _imported(kind, entry.value)
    raise ConfigError(f"$.{kind}.use: unknown part {name!r}; known here: {', '.join(names(kind))}, or package.module:Class")


def _imported(kind: str, target: str) -> type:
    module, _, attribute = target.partition(":")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        advice = "; install it, or name the folder that holds it in PYTHONPATH" if missing else ""
        raise ConfigError(f"$.{kind}.use: cannot import {target} ({' '.join(str(error).split())}){advice}") from error
    except (VideoclrError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise VideoclrError(f"$.{kind}.use: {target} raised {_said_by(error)} when it was imported") from error
    if not callable(found):
        raise ConfigError(f"$.{kind}.use: {target} is not a class")
    return found  # type: ignore[no-any-return]


def build(kind: str, name: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """An instance of the part `name`.

    Args:
        kind: see `resolve`.
        name: see `resolve`.
        options: `$.<kind>.options`, given to the class as they are.
        settings: values that the config offers to every part of this kind (`steps`, `device` and so on); a part gets
            those that its constructor names, and all of them where it takes `**kwargs`. `options` win.

    Raises:
        ConfigError: unknown name, an option that the part does not know, one that is no text, number or the like where its
            constructor is annotated with that, or a value that it refuses (`ValueError` or `TypeError`).
        VideoclrError: it would end the program (`SystemExit`, `GeneratorExit`). What else its constructor raises has a note that
            names it.
    """
    part = resolve(kind, name)
    offered = {**_wanted(part, settings), **options}
    try:
        inspect.signature(part).bind(**offered)
    except TypeError as error:
        taken = inspect.signature(part).parameters
        known = f"it takes {', '.join(taken) or 'none'}"
        if unknown := [option for option in options if option not in taken]:
            meant = is_meant(like(unknown[0], taken))
            raise ConfigError(f"$.{kind}.options.{unknown[0]}: {name} has no such option; {meant}{known}") from error
        raise ConfigError(f"$.{kind}.options: {name}: {error}; {known}") from error
    except ValueError:
        pass  # a class written in C shows no signature: its constructor will complain
    for option, annotation in _annotations(part).items():
        if option in options and not _fits(options[option], annotation):
            raise ConfigError(f"$.{kind}.options.{option}: expected {_said(annotation)}, got {options[option]!r}")
    try:
        return part(**offered)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"$.{kind}.options: {name}: {' '.join(str(error).split())}") from error
    except (VideoclrError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if not isinstance(error, Exception):
            raise VideoclrError(f"$.{kind}.use: {name} raised {_said_by(error)} when it was made") from error
        if isinstance(error, RuntimeError) and "device" in options:
            device = options["device"]
            raise ConfigError(f"$.{kind}.options.device: {device!r} cannot be used here; expected cpu, cuda or cuda:n") from error
        error.add_note(f"$.{kind}.use: raised when {name} was made")
        raise


def _said_by(error: BaseException) -> str:
    reason = " ".join(str(error).split())
    return type(error).__name__ + (f" ({reason})" if reason else "")


def _wanted(part: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(part).parameters
    except ValueError:
        return {}
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return dict(settings)
    return {name: value for name, value in settings.items() if name in parameters}


def _annotations(part: type) -> dict[str, Any]:
    """What the constructor is annotated with; nothing where that cannot be told."""
    try:
        return {name: one.annotation for name, one in inspect.signature(part, eval_str=True).parameters.items()}
    except (ValueError, TypeError, NameError, AttributeError, SyntaxError):
        return {}


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value is what an annotation says; True where that is nothing plain."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is Literal:
        return value in inside
    if origin in _LISTS:
        listed = isinstance(value, Iterable) and not isinstance(value, str | Mapping)
        return listed and all(_fits(one, inside[0]) for one in value)
    kind = _PLAIN.get(annotation, (object, ""))[0] if isinstance(annotation, type) else object
    return isinstance(value, kind) and not (isinstance(value, bool) and kind in (Integral, Real))


def _said(annotation: Any) -> str:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(_said(one) for one in inside)
    if origin is Literal:
        return " or ".join(map(repr, inside))
    if origin in _LISTS:
        return f"a list, each {_said(inside[0])}"
    return _PLAIN[annotation][1] if annotation in _PLAIN else str(getattr(annotation, "__name__", annotation))

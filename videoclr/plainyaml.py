"""YAML of plain values from files that nobody vouches for.

`yaml.safe_load` makes no objects, but ten lines of aliases to aliases stand for a billion values: small until somebody prints,
copies or validates them. So the values that a text stands for are counted before they are built.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_BYTES = 1 << 20
"""Of a text; a settings file has a few hundred."""
MOST_VALUES = 20_000
"""That a text may stand for, aliases written out."""
_DEEPEST = 50


class NotPlain(ValueError):
    """A text that is no YAML of plain values, or stands for too many; one line."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.2's true, false and whole numbers: `off` is a text, and a timecode is no number of base 60."""


_OTHERWISE = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [one for one in known if one[0] not in _OTHERWISE] for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_NUMBER = (
    r"([-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_NUMBER), list("-+0123456789."))


def as_text(value: Any) -> Any:
    """A number, true or false as FFmpeg reads it: YAML takes `crf: 3` for a number, and FFmpeg's options are texts."""
    return str(int(value) if isinstance(value, bool) else value) if isinstance(value, int | float) else value


def load(text: str) -> Any:
    """The values of a YAML text: mappings, lists, texts, numbers, true, false and null.

    Raises:
        NotPlain: see there.
    """
    if len(text) > MOST_BYTES:
        raise NotPlain(f"{len(text)} characters, more than the {MOST_BYTES} that are read")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {}, 0)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise NotPlain(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise NotPlain(f"lists or mappings lie more than {_DEEPEST} deep in each other") from error
    except (ValueError, OverflowError) as error:  # `!!int abc`, the 13th month, and the like
        raise NotPlain(" ".join(str(error).split())) from error


def _count(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Values below and with `node`; `known` holds those of nodes that were counted, 0 while one is being counted."""
    if depth > _DEEPEST:
        raise NotPlain(f"lists or mappings lie more than {_DEEPEST} deep in each other")
    if id(node) in known:
        if not known[id(node)]:
            raise NotPlain("an alias names what it is itself a part of")
        return known[id(node)]
    known[id(node)] = 0
    inside: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise NotPlain(f"{twice!r} stands there twice in one place")
        inside = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        inside = list(node.value)
    total = 1 + sum(_count(part, known, depth + 1) for part in inside)
    if total > MOST_VALUES:
        raise NotPlain(f"its aliases stand for more than {MOST_VALUES} values")
    known[id(node)] = total
    return total

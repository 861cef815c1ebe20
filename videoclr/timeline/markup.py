"""XML that is changed where it has to be: a tree that knows where everything stands in its text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any, TypeAlias
from xml.parsers import expat
from xml.sax.saxutils import escape

from videoclr.errors import MediaError

_TAG = re.compile(rb"<[^\s/>]+(?:\s+[^\s=]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*/?>")
_ATTRIBUTE = re.compile(rb"\s([^\s=]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_UNSPOKEN = re.compile(r"<!\[CDATA\[(.*?)\]\]>|<!--.*?-->|<\?.*?\?>", re.DOTALL)
"""What an element's text may hold besides: text without escapes, comments, words to programs."""
_DEEPEST = 200
Change: TypeAlias = tuple[int, int, bytes]
"""From which byte of the text to which, and what stands there then."""


@dataclass(slots=True)
class Element:
    """An element, and where it stands in the text: bytes."""

    tag: str
    attributes: dict[str, str]
    begin: int
    inside: int = 0
    """Behind its start tag."""
    end: int = 0
    children: list[Element] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        return self.attributes.get(name)

    def all(self, tag: str) -> Iterator[Element]:
        """Every such element below, in the order of the text."""
        for child in self.children:
            if child.tag == tag:
                yield child
            yield from child.all(tag)

    def kids(self, *tags: str) -> list[Element]:
        return [child for child in self.children if child.tag in tags]

    def child(self, *tags: str) -> Element | None:
        """The first element at the path `tags`."""
        found: Element | None = self
        for tag in tags:
            found = None if found is None else next(iter(found.kids(tag)), None)
        return found


def every(element: Element) -> Iterator[Element]:
    """`element` and all below it, in the order of the text."""
    yield element
    for child in element.children:
        yield from every(child)


def value_of(text: bytes, element: Element, name: str) -> tuple[int, int]:
    """Where the value of an attribute that `element` has stands, without its marks."""
    found = next(one for one in _ATTRIBUTE.finditer(text, element.begin, element.inside) if one[1] == name.encode())
    begin, end = found.span(2)
    return begin + 1, end - 1


def inner(text: bytes, element: Element) -> tuple[int, int]:
    """Where what `element` holds stands."""
    return element.inside, max(element.inside, text.rindex(b"<", element.begin, element.end) if element.end else element.inside)


def content(text: bytes, element: Element | None) -> str | None:
    """The text that `element` holds, which has no elements below it; None where there is none."""
    if element is None or element.children:
        return None
    begin, end = inner(text, element)
    pieces = _UNSPOKEN.split(text[begin:end].decode())  # text, and what is taken as it stands, by turns
    return "".join(unescape(one) if not index % 2 else one or "" for index, one in enumerate(pieces)).strip()


def patched(text: bytes, changes: Iterable[Change], begin: int = 0, end: int | None = None) -> bytes:
    """`text` from byte `begin` to `end` with those of `changes` that lie there."""
    end = len(text) if end is None else end
    parts, done = list[bytes](), begin
    for first, last, put in sorted(changes, key=lambda change: change[0]):
        if begin <= first and last <= end:
            parts += [text[done:first], put]
            done = last
    return b"".join([*parts, text[done:end]])


def quoted(text: str) -> str:
    """`text` as it stands in an attribute or an element."""
    return escape(text, {'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})


def parsed(text: bytes, path: Path) -> Element:
    """The tree of `text`.

    Raises:
        MediaError: it is no XML, is not UTF-8, declares things of its own, or is nested too deeply.
    """
    reader, root = expat.ParserCreate(), Element("", {}, 0)
    above = [root]

    def declared(name: str, *, internal: Any) -> None:
        if internal:
            raise MediaError(path, "declares entities or elements of its own, which are not read")

    def begun(tag: str, attributes: dict[str, str]) -> None:
        if len(above) > _DEEPEST:
            raise MediaError(path, "is nested too deeply")
        place = reader.CurrentByteIndex
        found = _TAG.match(text, place)
        one = Element(tag, attributes, place, place if found is None else found.end())
        above[-1].children.append(one)
        above.append(one)

    def ended(tag: str) -> None:
        one = above.pop()
        empty = text.endswith(b"/>", one.begin, one.inside)  # expat stands behind it then, at whatever follows
        one.end = one.inside if empty else text.index(b">", reader.CurrentByteIndex) + 1

    reader.StartDoctypeDeclHandler = lambda name, system, public, internal: declared(name, internal=internal)
    reader.StartElementHandler, reader.EndElementHandler = begun, ended
    reader.XmlDeclHandler = lambda version, encoding, standalone: _check_encoding(encoding, path)
    try:
        text.decode("utf-8")
        reader.Parse(text, True)
    except (expat.ExpatError, UnicodeDecodeError, ValueError) as error:
        raise MediaError(path, f"cannot be read as a timeline ({error})") from error
    return root.children[0]


def _check_encoding(encoding: str | None, path: Path) -> None:
    if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
        raise MediaError(path, f"is written in {encoding[:40]}; save it as UTF-8")

"""Lists that grow with a film, on the disk: what has been said of its tracks, and reports that are written as they are read."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from videoclr.errors import MediaError

T = TypeVar("T")

_KEPT = 64
"""Entries that stay in memory: those of people who are in the picture, and some more."""
_PAGES = 256
"""KiB of the database that SQLite keeps in memory; up to that, it makes no file."""


class Shelf(Sequence[T], Generic[T]):
    """Entries by number, in the order of their coming; those that were asked for last are in memory.

    The others are in a temporary database of SQLite's, whose file has no name and goes with the process. Entries that are
    read from the sequence are copies; `of` gives the one that may be changed.

    Args:
        say: an entry -> what JSON can hold of it.
        of_json: the inverse.
    """

    def __init__(self, say: Callable[[T], Mapping[str, Any]], of_json: Callable[[Mapping[str, Any]], T]) -> None:
        self._say, self._of_json = say, of_json
        self._near: OrderedDict[int, tuple[int, T]] = OrderedDict()
        self._count = 0
        self._base: sqlite3.Connection | None = None

    def __del__(self) -> None:
        """Let go of the file."""
        if self._base is not None:
            self._base.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """With all of its entries, in another process or as a copy."""
        rows: list[tuple[int, int, str]] = []
        if self._count:
            self._put(self._near.items())
            with _explained():
                rows = self._opened().execute("SELECT place, number, said FROM entries").fetchall()
        return _filled, (type(self), self._say, self._of_json, rows)

    def of(self, number: int, make: Callable[[], T]) -> T:
        """The entry `number`, to be changed until the next call; made where there is none.

        Raises:
            MediaError: the disk has no room for those that are far.
        """
        found = self._near.get(number) or self._fetched(number)
        if found is None:
            found = self._count, make()
            self._count += 1
        self._near[number] = found
        self._near.move_to_end(number)
        if len(self._near) > _KEPT:
            self._put([self._near.popitem(last=False)])
        return found[1]

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def __iter__(self) -> Iterator[T]:
        """All of them, in order, read as they are asked for."""
        self._put(self._near.items())
        with _explained():
            rows = self._opened().execute("SELECT said FROM entries ORDER BY place")
            for (said,) in rows:
                yield self._of_json(json.loads(said))

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        """By place in the order."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(self._count))]
        if not -self._count <= place < self._count:
            raise IndexError(place)
        self._put(self._near.items())
        with _explained():
            (said,) = self._opened().execute("SELECT said FROM entries WHERE place = ?", (place % self._count,)).fetchone()
        return self._of_json(json.loads(said))

    def _fetched(self, number: int) -> tuple[int, T] | None:
        if self._base is None:
            return None
        with _explained():
            row = self._base.execute("SELECT place, said FROM entries WHERE number = ?", (number,)).fetchone()
        return None if row is None else (row[0], self._of_json(json.loads(row[1])))

    def _put(self, entries: Any) -> None:
        rows = [(place, number, json.dumps(self._say(entry), default=str)) for number, (place, entry) in entries]
        with _explained():
            self._opened().executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)

    def _opened(self) -> sqlite3.Connection:
        if self._base is None:
            # No name: a temporary database, of which SQLite writes to a file what does not fit its pages. It lives in the
            # thread of the models, and is read in the caller's when that one is done.
            self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._base.executescript(
                f"PRAGMA cache_size = -{_PAGES}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                "CREATE TABLE entries (place INTEGER PRIMARY KEY, number INTEGER UNIQUE, said TEXT)"
            )
        return self._base


def _filled(kind: type[Shelf[T]], say: Any, of_json: Any, rows: Sequence[tuple[int, int, str]]) -> Shelf[T]:
    shelf = kind(say, of_json)
    shelf._put((number, (place, of_json(json.loads(said)))) for place, number, said in rows)
    shelf._count = len(rows)
    return shelf


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        advice = "free some space there, or name another folder in the variable TMPDIR"
        raise MediaError("the folder of temporary files", f"the list of tracks cannot be kept ({error}); {advice}") from error


class Listed(Sequence[dict[str, Any]]):
    """A list of a report whose entries are made as they are read.

    Args:
        entries: read again each time.
        say: an entry -> values that JSON can hold.
    """

    def __init__(self, entries: Sequence[T], say: Callable[[T], dict[str, Any]]) -> None:
        self._entries: Sequence[Any] = entries
        self._say: Callable[[Any], dict[str, Any]] = say

    def __len__(self) -> int:
        """How many there are."""
        return len(self._entries)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All of them, one by one."""
        return map(self._say, self._entries)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """By place."""
        if isinstance(place, slice):
            return [self._say(one) for one in self._entries[place]]
        return self._say(self._entries[place])

    def __eq__(self, other: object) -> bool:
        """As a list of the same values."""
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[dict[str, Any]]]]:
        """In another process, a plain list."""
        return list, (list(self),)


def is_torn(path: str | Path) -> bool:
    """Whether the last line of a file has no end: of a run that was killed, or of a disk that was full. Who appends to it ends that
    one first, so that the torn line stays by itself and costs none of the next."""
    with suppress(OSError):  # it may be appended to, and not read
        if os.path.isfile(path) and os.path.getsize(path):
            with open(path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
    return False


def json_pieces(values: Mapping[str, Any], indent: int | None = None) -> Iterator[str]:
    """The JSON of `values`, as `json.dumps` writes it, piece by piece: `Listed` values entry by entry.

    >>> "".join(json_pieces({"a": 1, "b": Listed([1, 2], lambda n: {"n": n})}))
    '{"a": 1, "b": [{"n": 1}, {"n": 2}]}'
    """
    yield from _pieces(values, indent, 0)


def _pieces(value: Any, indent: int | None, depth: int) -> Iterator[str]:
    own, inner = ("", "") if indent is None else ("\n" + " " * indent * depth, "\n" + " " * indent * (depth + 1))
    between = ", " if indent is None else ","
    if isinstance(value, Listed):
        yield "["
        for place, entry in enumerate(value):
            yield f"{between if place else ''}{inner}"
            yield from _pieces(entry, indent, depth + 1)
        yield f"{own if len(value) else ''}]"
    elif isinstance(value, Mapping) and any(isinstance(one, Listed | Mapping) for one in value.values()):
        yield "{"
        for place, (name, one) in enumerate(value.items()):
            yield f"{between if place else ''}{inner}{json.dumps(name)}: "
            yield from _pieces(one, indent, depth + 1)
        yield f"{own}}}"
    else:
        # Line breaks inside of strings are escaped, so those that are there are the layout's.
        text = json.dumps(value, indent=indent, ensure_ascii=indent is None)
        yield text if indent is None else text.replace("\n", own)

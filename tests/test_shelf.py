"""Lists that grow with a film are on the disk, and read as lists."""

from __future__ import annotations

import copy
import json
import pickle
import sqlite3
from dataclasses import asdict, dataclass
from fractions import Fraction

import pytest

from videoclr import shelf
from videoclr.errors import MediaError
from videoclr.shelf import Listed, Shelf, json_pieces


@dataclass
class Entry:
    number: int
    time: Fraction
    count: int = 0

    @classmethod
    def of_json(cls, values) -> Entry:
        return cls(**{**values, "time": Fraction(values["time"])})


def filled(count: int) -> Shelf[Entry]:
    entries: Shelf[Entry] = Shelf(asdict, Entry.of_json)
    for number in range(count):
        entries.of(100 + number, lambda number=number: Entry(number, Fraction(number, 3))).count += 1
    return entries


@pytest.mark.parametrize("count", [0, 1, 64, 65, 500])
def test_entries_are_a_sequence_in_the_order_of_their_coming(count):
    entries = filled(count)
    expected = [Entry(number, Fraction(number, 3), 1) for number in range(count)]
    assert len(entries) == count and list(entries) == expected == entries[:]
    assert list(reversed(entries)) == expected[::-1]
    if count:
        assert (entries[0], entries[-1]) == (expected[0], expected[-1])
    with pytest.raises(IndexError):
        entries[count]


def test_an_entry_that_comes_back_from_the_disk_goes_on_where_it_was():
    entries = filled(300)
    assert len(entries._near) <= 64
    for number in (100, 350, 399, 100):
        entries.of(number, lambda: pytest.fail("it is there already")).count += 1
    assert [entries[place].count for place in (0, 1, 250, 299)] == [3, 1, 2, 2]
    assert len(entries) == 300


def test_a_full_disk_is_one_line(monkeypatch):
    class Full:
        def executemany(self, *_):
            raise sqlite3.OperationalError("database or disk is full")

        def close(self) -> None:
            pass

    entries = filled(64)
    entries._base = Full()  # type: ignore[assignment]
    with pytest.raises(MediaError, match=r"list of tracks cannot be kept \(database or disk is full\); free some space"):
        list(entries)


def test_a_listed_value_equals_its_list_reads_anew_and_travels_as_one():
    source = [1, 2]
    listed = Listed(source, lambda number: {"n": number})
    assert listed == [{"n": 1}, {"n": 2}] and listed != [{"n": 1}] and listed != 3
    source.append(3)
    assert listed[2] == {"n": 3} and listed[1:] == [{"n": 2}, {"n": 3}] and bool(listed)
    assert pickle.loads(pickle.dumps(listed)) == [{"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_in_pieces_is_what_json_writes_at_once(indent, count):
    rest = {"text": 'line\nand "ä" \udcff', "none": None, "empty": {}, "list": [1, [2.5, {"a": 1}]], "deep": {"a": {"b": [True]}}}
    entries = [{"number": n, "more": {"x": [n], "y": {}}} for n in range(count)]
    values = {"first": 1, "tracks": entries, "report": {**rest, "tracks": entries}, **rest}
    given = {**values, "tracks": Listed(entries, dict), "report": {**rest, "tracks": Listed(entries, dict)}}
    written = json.dumps(values, indent=indent, ensure_ascii=indent is None)
    assert "".join(json_pieces(given, indent)) == written


def test_entries_are_never_all_in_memory_while_they_are_written(monkeypatch):
    seen = []
    monkeypatch.setattr(shelf, "_KEPT", 4)
    entries = filled(50)
    for _ in json_pieces({"tracks": Listed(entries, lambda entry: {"number": entry.number})}):
        seen.append(len(entries._near))
    assert max(seen) <= 4


@pytest.mark.parametrize("count", [0, 3, 200])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda entries: pickle.loads(pickle.dumps(entries))])
def test_entries_travel_though_they_were_read(again, count):
    entries = filled(count)
    read = list(entries)
    there = again(entries)
    assert list(there) == read
    there.of(10**6, lambda: Entry(10**6, Fraction(0)))
    assert (len(there), len(entries)) == (count + 1, count)
    if count:
        there.of(100, lambda: pytest.fail("it is there")).count += 7
        assert there[0].count == entries[0].count + 7

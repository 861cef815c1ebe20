from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videoclr.cast import Cast, Member, View, fitted, jpeg
from videoclr.errors import ConfigError, MediaError

WHO = {"use": "recognizer", "options": {}, "weights": "abc"}


def direction(angle: float) -> torch.Tensor:
    return torch.tensor([np.cos(angle), np.sin(angle), 0.0]).float()


def view(angle: float, side: int = 32) -> View:
    picture = (
        np.random.default_rng(int(angle * 100)).integers(0, 255, (4, 4, 3), np.uint8).repeat(side // 4, 0).repeat(side // 4, 1)
    )
    return View(0.5, direction(angle), jpeg(picture))


def two() -> Cast:
    anna = Member("anna", direction(0.1), ((0.5, direction(0.1)), (0.25, direction(0.15))), view(0.1))
    return Cast((anna, Member(None, direction(2.0))), {3: 1})


def written(tmp_path: Path, **changes: Any) -> Path:
    """A file of `two`, with changes at its top."""
    path = tmp_path / "people.json"
    path.write_text(json.dumps({**two().as_json(WHO), **changes}))
    return path


def test_a_file_gives_everybody_back_exactly(tmp_path: Path) -> None:
    before, after = two(), Cast.read(written(tmp_path), WHO)
    assert after.names == {"anna"} and after.tracks == {} and bool(after) and not Cast()
    for ours, theirs in zip(before.members, after.members, strict=True):
        assert ours.name == theirs.name and torch.equal(ours.identity, theirs.identity)
        assert [q for q, _ in ours.views] == [q for q, _ in theirs.views]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(ours.views, theirs.views, strict=True))
    mine, found = before.members[0].view, after.members[0].view
    assert mine is not None and found is not None and torch.equal(mine.image, found.image) and after.members[1].view is None
    again = Cast.of_json(json.loads(json.dumps(before.as_json(WHO))), WHO, {3: 1})
    assert again.tracks == {3: 1}


def test_pictures_are_made_as_large_as_the_crops() -> None:
    small = view(0.1, 32)
    (same,) = fitted([Member(None, direction(0), (), small)], 32)
    assert same.view is small
    (larger,) = fitted([Member(None, direction(0), (), small)], 64)
    assert larger.view is not None and larger.view.image.shape == (3, 64, 64)
    assert float((larger.view.image[:, ::2, ::2] - small.image).abs().mean()) < 0.15
    (nobody,) = fitted([Member("a", direction(0))], 64)
    assert nobody.view is None and nobody.name == "a"


def person(**changes: Any) -> dict[str, Any]:
    return {"name": None, "identity": [1.0, 0.0, 0.0], "views": [], "view": None, **changes}


LARGE = base64.b64encode(jpeg(np.zeros((16, 32, 3), np.uint8)).tobytes()).decode()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"videoclr": "tracks"}, "videoclr: input should be 'people'"),
        ({"version": 2}, "version: input should be 1"),
        ({"more": 1}, "more: extra inputs"),
        ({"recognizer": {**WHO, "weights": "abd"}}, "is of another recognizer"),
        ({"people": [person(identity=[1.0, 1.0, 0.0])]}, "people.0.identity: expected a direction"),
        ({"people": [3]}, "people.0: expected an object in braces"),
        ({"people": {}}, "people: expected a list"),
        ({"people": [person(identity=[1.0])]}, "people.0.identity"),
        ({"people": [person(identity=[float("nan"), 0.0, 1.0])]}, "people.0.identity.0"),
        ({"people": [person(), person(identity=[1.0, 0.0])]}, "vectors of one length"),
        ({"people": [person(views=[[0.5, [1.0, 0.0]]])]}, "vectors of one length"),
        ({"people": [person(name="ben"), person(name="ben")]}, "people.json: two people are called ben"),
        ({"people": [person(name="")]}, "people.0.name"),
        ({"people": [person(view=[0.5, [1.0, 0.0, 0.0], "!"])]}, "a square JPEG file in base64"),
        ({"people": [person(view=[0.5, [1.0, 0.0, 0.0], LARGE])]}, "a square JPEG file in base64"),
        ({"people": [person(view=[1.5, [1.0, 0.0, 0.0], LARGE])]}, "people.0.view.0"),
    ],
)
def test_what_is_no_file_of_people_is_refused_in_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        Cast.read(path, WHO)
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be read"):
        Cast.read(tmp_path / "absent.json", WHO)
    for content, said in (
        (b"{", "is no JSON"),
        (b"\xff\xd8", "is no file of people"),
        (b"[1]", "expected an object in braces"),
        (b"[" * 100_000, "is no file of people"),
    ):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(ConfigError, match=rf"x\.json: {said}") as caught:
            Cast.read(tmp_path / "x.json", WHO)
        assert not any(word in str(caught.value) for word in ("_Content", "value error", "recursion"))


def test_a_file_that_an_editor_marked_as_text_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Cast.read(path, WHO).names == {"anna"}

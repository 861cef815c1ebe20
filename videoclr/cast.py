"""Whom a film shows, known before it is restored: what `videoclr faces --save-people` writes and `--people` reads.

A person is an identity, the views that it was pooled from, and the best of them as a picture. A restoration that knows them
from the start shows everybody as well in the first shot as after the last one; and a file of them goes from one film to the
next: other parts, other reels, other episodes.

The file is JSON. What one edits is `name`, which `--only` and `--leave` know, and the list itself: somebody who is deleted is not
known. Identities are directions of one recognizer, which the file names; those of another are refused.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from videoclr.errors import ConfigError, MediaError
from videoclr.packing import keepable
from videoclr.pixels import resized, to_tensor
from videoclr.validation import first_fault

_LARGEST = 512 << 20
"""Bytes of a file, at most: some 10,000 people."""
_SIDE = 2048
"""Pixels of a picture's side, at most."""
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


@keepable
@dataclass(frozen=True, eq=False)
class View:
    """How somebody looks in the film."""

    quality: float
    who: Tensor
    """`(D,)` unit vector: the identity of the track that it is of."""
    picture: NDArray[np.uint8]
    """The crop, as a JPEG file: a run that goes on must have the same pixels as one that was never stopped."""

    @cached_property
    def image(self) -> Tensor:
        """`(3, S, S)` RGB float32 in [-1, 1]; one tensor for all crops that it goes with."""
        return to_tensor(np.asarray(cv2.imdecode(self.picture, cv2.IMREAD_COLOR))[..., ::-1])

    def as_json(self) -> list[object]:
        """In JSON's types, exactly."""
        return [self.quality, self.who.tolist(), base64.b64encode(self.picture.tobytes()).decode()]

    @classmethod
    def of_json(cls, values: Sequence[Any]) -> View:
        """The view that gave `values`."""
        return cls(values[0], _direction(values[1]), np.frombuffer(base64.b64decode(values[2]), np.uint8))


def _direction(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device="cpu")


def jpeg(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(H, W, 3)` BGR -> the file, as `View.picture` wants it."""
    _, file = cv2.imencode(".jpg", picture, _JPEG)
    return np.asarray(file, np.uint8).reshape(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """Somebody."""

    name: str | None
    identity: Tensor
    """`(D,)` unit vector."""
    views: tuple[tuple[float, Tensor], ...] = ()
    """Quality and embedding `(D,)` of what the identity was pooled from, best first; none where a photograph said it."""
    view: View | None = None
    """The best one, as a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """Everybody who is known before a restoration."""

    members: tuple[Member, ...] = ()
    tracks: Mapping[int, int] = field(default_factory=dict)
    """Number of a track of this very film -> who it is, by the place in `members`; empty where they are of other films."""

    def __bool__(self) -> bool:
        """Whether anybody is known."""
        return bool(self.members)

    @property
    def names(self) -> frozenset[str]:
        """Of those who have one."""
        return frozenset(member.name for member in self.members if member.name is not None)

    @property
    def dimensions(self) -> int | None:
        """`D` of the identities; None where nobody is known."""
        return self.members[0].identity.shape[0] if self.members else None

    def as_json(self, recognizer: Mapping[str, Any]) -> dict[str, Any]:
        """The file's content but for `tracks`.

        Args:
            recognizer: tells the one that the identities are of from others, in JSON's types.
        """
        return {
            "videoclr": "people",
            "version": 1,
            "recognizer": dict(recognizer),
            "people": [
                {
                    "name": member.name,
                    "identity": member.identity.tolist(),
                    "views": [[quality, vector.tolist()] for quality, vector in member.views],
                    "view": None if member.view is None else member.view.as_json(),
                }
                for member in self.members
            ],
        }

    @classmethod
    def of_json(cls, values: Any, recognizer: Mapping[str, Any], tracks: Mapping[int, int] | None = None) -> Cast:
        """The people of a file.

        Raises:
            ValueError: it is no such file (a `pydantic.ValidationError`), or of another recognizer.
        """
        said = _Content.model_validate(values)
        if said.recognizer != json.loads(json.dumps(dict(recognizer))):
            raise ValueError("is of another recognizer, to which other directions are other people; make it anew")
        return cls(tuple(one.member() for one in said.people), tracks or {})

    @classmethod
    def read(cls, path: str | Path, recognizer: Mapping[str, Any]) -> Cast:
        """The people of the file `path`.

        Raises:
            MediaError: it cannot be read.
            ConfigError: it is no file of people, or of another recognizer.
        """
        try:
            if Path(path).stat().st_size > _LARGEST:
                raise ConfigError(f"{path}: is no file of people: it is larger than {_LARGEST >> 20} MiB")
            text = Path(path).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise MediaError(path, f"cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: is no file of people; `videoclr faces --save-people` writes one") from error
        try:
            return cls.of_json(json.loads(text), recognizer)
        except ValidationError as error:
            raise ConfigError(f"{path}: {first_fault(error)}") from error
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}: is no JSON ({error}); `videoclr faces --save-people` writes such files") from error
        except RecursionError as error:
            raise ConfigError(f"{path}: is no file of people; `videoclr faces --save-people` writes one") from error
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error


def _unit(values: list[float]) -> list[float]:
    if abs(float(np.linalg.norm(np.asarray(values, np.float64))) - 1) > 1e-3:
        raise ValueError("expected a direction, a vector of length 1")
    return values


_Vector = Annotated[list[Annotated[float, Field(ge=-1.001, le=1.001)]], Field(min_length=2, max_length=8192), AfterValidator(_unit)]
_Quality = Annotated[float, Field(ge=0, le=1)]


def _square(text: str) -> str:
    try:
        file = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        picture = cv2.imdecode(file, cv2.IMREAD_COLOR) if file[:3].tobytes() == b"\xff\xd8\xff" else None
    except (binascii.Error, cv2.error):
        picture = None
    if picture is None or picture.shape[0] != picture.shape[1] or not 16 <= picture.shape[0] <= _SIDE:
        raise ValueError("expected a square JPEG file in base64")
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Person(_Strict):
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    identity: _Vector
    views: Annotated[list[tuple[_Quality, _Vector]], Field(max_length=1000)] = []
    view: tuple[_Quality, _Vector, Annotated[str, AfterValidator(_square)]] | None = None

    @model_validator(mode="after")
    def _alike(self) -> Self:
        vectors = [self.identity, *(vector for _, vector in self.views), *([] if self.view is None else [self.view[1]])]
        if len({len(vector) for vector in vectors}) > 1:
            raise ValueError("expected vectors of one length")
        return self

    def member(self) -> Member:
        views = tuple((quality, _direction(vector)) for quality, vector in self.views)
        return Member(self.name, _direction(self.identity), views, None if self.view is None else View.of_json(self.view))


class _Content(_Strict):
    videoclr: Literal["people"]
    version: Literal[1]
    recognizer: dict[str, Any]
    people: Annotated[list[_Person], Field(max_length=100_000)]

    @model_validator(mode="after")
    def _apart(self) -> Self:
        names = Counter(one.name for one in self.people if one.name is not None)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"two people are called {twice[0]}")
        if len({len(one.identity) for one in self.people}) > 1:
            raise ValueError("expected vectors of one length")
        return self


def fitted(members: Iterable[Member], size: int) -> tuple[Member, ...]:
    """`members` with their pictures at `size` x `size` pixels, as the crops are."""
    found = []
    for member in members:
        view = member.view
        if view is not None:  # not by its `image`, which stays in memory, for everybody
            picture = np.asarray(cv2.imdecode(view.picture, cv2.IMREAD_COLOR), np.uint8)
            if picture.shape[0] != size:
                view = View(view.quality, view.who, jpeg(resized(picture, size)))
        found.append(Member(member.name, member.identity, member.views, view))
    return tuple(found)

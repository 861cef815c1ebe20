from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, features
from torch import Tensor

from videoclr import geometry
from videoclr.errors import ConfigError, MediaError
from videoclr.references import Asked, Chosen, people_of, photographed
from videoclr.stages import identify
from videoclr.types import Detection

SHAPE = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.22], [0.15, 0.22]], np.float32)


def picture(path: Path, *faces: tuple[int, int], color: tuple[int, int, int] = (40, 60, 220)) -> str:
    """A grey picture with discs (RGB) for faces."""
    image = np.full((120, 160, 3), 60, np.uint8)
    for place in faces:
        cv2.circle(image, place, 20, color, -1)
    assert cv2.imwrite(str(path), image[:, :, ::-1])
    return str(path)


class Discs:
    """Finds discs by their brightness, left to right, and something unsure in every picture."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[*self.one(image), Detection(np.array([0, 0, 30, 30], np.float32), SHAPE * 30 + 15, 0.3)] for image in images]

    @staticmethod
    def one(image: np.ndarray) -> list[Detection]:
        _, _, stats, _ = cv2.connectedComponentsWithStats((image.max(-1) > 150).astype(np.uint8))
        boxes = [np.array([x, y, x + w, y + h], np.float32) for x, y, w, h, area in stats[1:] if area > 300]
        return [Detection(box, SHAPE * 40 + (box[:2] + box[2:]) / 2, 0.95) for box in boxes]


class Colors:
    """Embeds a face as its mean colour."""

    def embed(self, crops: Tensor) -> Tensor:
        return torch.nn.functional.normalize(crops[..., 24:40, 24:40].mean((2, 3)) + 1, dim=1)


def known(pictures: dict[str, list[str]]) -> dict[str, Tensor]:
    found = photographed(pictures, Discs(), Colors(), size=64, threshold=0.8)
    return {name: one.identity for name, one in found.items()}


def chosen(*names: str, tracks: Sequence[int] = ()) -> Chosen:
    return Chosen(frozenset(names), frozenset(tracks))


def test_names_come_from_the_user_or_from_the_file(tmp_path):
    odd = picture(tmp_path / "a=b.png", (60, 60))
    asked = people_of(["anna=one.jpg", "x/ben.jpg", "anna=two.jpg", odd], ["anna", "y/carl.png", "dora=d.png"], ["ben", "eve.png"])
    assert asked.pictures == {
        "anna": ["one.jpg", "two.jpg"],
        "ben": ["x/ben.jpg"],
        "a=b": [odd],
        "carl": ["y/carl.png"],
        "dora": ["d.png"],
        "eve": ["eve.png"],
    }
    assert (asked.only, asked.leave) == (chosen("anna", "carl", "dora"), chosen("ben", "eve"))
    assert people_of([], []) == Asked({}, chosen(), chosen())
    assert people_of(["anna.jpg"], ["anna.jpg"]) == Asked({"anna": ["anna.jpg"]}, chosen("anna"), chosen())


def test_a_number_is_a_track_unless_it_is_a_name_or_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("7").write_bytes(b"a picture")
    asked = people_of(["12=a.jpg"], ["3", "12", "7"], ["0", "40"])
    assert asked.pictures == {"12": ["a.jpg"], "7": ["7"]}
    assert (asked.only, asked.leave) == (chosen("12", "7", tracks=[3]), chosen(tracks=[0, 40]))


def test_a_name_of_tracks_needs_no_picture():
    asked = people_of([], ["ben"], ["anna"], called={"anna", "ben"})
    assert (asked.pictures, asked.only, asked.leave) == ({}, chosen("ben"), chosen("anna"))


def test_who_is_known_is_told_where_nobody_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"\$\.identify\.only: nobody is called 'ann': known are anna, ben; a photograph would be a"
    ):
        people_of(["ben.jpg"], ["ann"], called={"anna"})
    with pytest.raises(
        ConfigError, match=r"\$\.identify\.leave: nobody is called 'x/ann': nobody has a name here \(--reference, --peo"
    ):
        people_of([], [], ["x/ann"])
    assert people_of([], ["ann.JPG"]).pictures == {"ann": ["ann.JPG"]}  # as whoever opens it will say
    Path("ann").write_bytes(b"a picture")
    assert people_of([], ["ann"]).pictures == {"ann": ["ann"]}


@pytest.mark.parametrize(("references", "only"), [(["anna="], []), (["=a.jpg"], []), ([""], []), ([], ["=a.jpg"])])
def test_an_entry_without_name_or_picture_is_refused(references, only):
    with pytest.raises(ConfigError, match=r"\$\.identify\.(references|only): '.*': expected a picture, or name=picture"):
        people_of(references, only)


@pytest.mark.parametrize(("only", "leave"), [(["anna"], ["ben", "anna"]), (["3", "ben"], ["ben", "3"])])
def test_who_is_to_be_restored_alone_is_not_to_be_left(only, leave):
    with pytest.raises(ConfigError, match="everybody who is to be restored alone"):
        people_of(["anna=a.jpg", "ben=b.jpg"], only, leave)
    assert people_of(["anna=a.jpg", "ben=b.jpg"], [*only, "4"], leave).leave


def test_the_picture_that_shows_the_face_best_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(identify, "quality", lambda crop: 2 + float(crop.image[0].mean()))
    blue, red = picture(tmp_path / "b.png", (60, 60)), picture(tmp_path / "r.jpg", (100, 50), color=(220, 60, 40))
    both, one, other = (
        photographed({"anna": paths}, Discs(), Colors(), 64, 0.8)["anna"].picture for paths in ([blue, red], [red], [blue])
    )
    assert one.shape == (3, 64, 64) and torch.equal(both, one) and not torch.equal(one, other)


def test_several_pictures_of_a_person_are_pooled(tmp_path):
    blue, red = picture(tmp_path / "b.png", (60, 60)), picture(tmp_path / "r.jpg", (100, 50), color=(220, 60, 40))
    both = known({"anna": [blue, red], "ben": [red]})
    assert list(both) == ["anna", "ben"]
    assert float(both["anna"].norm()) == pytest.approx(1, abs=1e-5)
    assert both["ben"][0] > 3 * both["ben"][2]
    alone = known({"b": [blue]})["b"]
    assert alone[0] + 0.03 < both["anna"][0] < both["ben"][0] - 0.03  # between its two pictures


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_an_avif_is_a_photograph_too(tmp_path):
    red = picture(tmp_path / "r.png", (100, 50), color=(220, 60, 40))
    with Image.open(red) as image:
        image.save(tmp_path / "r.avif", quality=95)
    same, as_well = known({"ben": [red]})["ben"], known({"ben": [str(tmp_path / "r.avif")]})["ben"]
    assert torch.allclose(same, as_well, atol=0.02)


def test_the_clean_look_of_the_recogniser_is_asked(tmp_path):
    class Careful(Colors):
        of_clean = Colors()

        def embed(self, crops):
            raise AssertionError("a photograph needs no recovery")

    path = picture(tmp_path / "b.png", (60, 60))
    assert photographed({"b": [path]}, Discs(), Careful(), 64, 0.8)["b"].identity.shape == (3,)


@pytest.mark.parametrize(("faces", "message"), [((), "found no face"), (((40, 60), (110, 60)), "found 2 faces")])
def test_a_picture_must_show_one_face(tmp_path, faces, message):
    path = picture(tmp_path / "some.png", *faces)
    with pytest.raises(MediaError, match=f"some.png: a reference picture must show one face, {message}"):
        known({"some": [path]})


def test_the_face_that_an_aligned_crop_was_cut_for_may_have_neighbours(tmp_path):
    frame = np.full((240, 320, 3), 60, np.uint8)
    cv2.circle(frame, (150, 110), 8, (40, 60, 220), -1)
    cv2.circle(frame, (172, 110), 8, (220, 60, 40), -1)
    crop = geometry.cut(frame, geometry.ffhq_matrix(SHAPE * 40 + (150, 110), 120), 120).clip(0, 255).astype(np.uint8)
    wide = np.concatenate([crop, np.full((120, 40, 3), 60, np.uint8)], axis=1)
    for name, image in (("crop.png", crop), ("wide.png", wide)):
        assert cv2.imwrite(str(tmp_path / name), image[:, :, ::-1])

    class Small(Discs):
        """As `Discs`, but for the scale of the crop."""

        def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
            scale = geometry.scale_of(geometry.ffhq_matrix(SHAPE * 40, 120)) * 40
            return [[Detection(one.box, SHAPE * scale + (one.box[:2] + one.box[2:]) / 2, 0.9) for one in self.one(images[0])]]

    assert len(Small().detect([crop])[0]) == 2
    (found,) = photographed({"anna": [str(tmp_path / "crop.png")]}, Small(), Colors(), 64, 0.8).values()
    assert found.identity[2] > 2 * found.identity[0]
    with pytest.raises(MediaError, match="found 2 faces"):
        photographed({"anna": [str(tmp_path / "wide.png")]}, Small(), Colors(), 64, 0.8)


def test_a_missing_picture_and_a_video_are_refused(tmp_path):
    with pytest.raises(MediaError, match=r"gone\.jpg"):
        known({"gone": [str(tmp_path / "gone.jpg")]})
    film = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(film, cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    with pytest.raises(MediaError, match=r"film\.avi: is no picture"):
        known({"film": [film]})


def test_a_part_that_fails_on_a_picture_names_the_picture(tmp_path):
    class Blind(Discs):
        def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
            raise RuntimeError("no light")

    class Stranger(Colors):
        def embed(self, crops: Tensor) -> Tensor:
            raise RuntimeError("who?")

    path = picture(tmp_path / "anna.png", (60, 60))
    with pytest.raises(MediaError, match=r"anna\.png: frame 0: the detector raised RuntimeError: no light"):
        photographed({"anna": [path]}, Blind(), Colors(), size=64, threshold=0.8)
    with pytest.raises(MediaError, match=r"anna\.png: frame 0: the recognizer raised RuntimeError: who\?"):
        photographed({"anna": [path]}, Discs(), Stranger(), size=64, threshold=0.8)

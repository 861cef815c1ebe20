"""The built-in detector: finds a real face at its place, whatever the size, depth and company of the picture."""

from __future__ import annotations

import hashlib
import io
import urllib.error

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from videoclr.errors import WeightsError
from videoclr.models import store
from videoclr.models.detector import RetinaFace
from videoclr.parts import retina_detector
from videoclr.parts.retina_detector import Finds, RetinaDetector, load_network, merge

EYES = np.array([[203, 101], [246, 102]])
"""Where the portrait's eyes are, pixels, by hand."""


@pytest.fixture(scope="module")
def portrait():
    """A public-domain portrait that scikit-image ships, `(512, 512, 3)`."""
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="module")
def detector():
    return RetinaDetector()


def best(detector, image):
    found = detector.detect([image])[0]
    assert found, "no face found"
    return found[0]


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.score == y.score
        np.testing.assert_array_equal(x.box, y.box)
        np.testing.assert_array_equal(x.landmarks, y.landmarks)


@pytest.fixture(scope="module")
def turning():
    return RetinaDetector(turned=True)


@pytest.mark.parametrize("turn", range(4))
def test_finds_faces_that_lie_or_stand_on_their_heads_where_asked_to(turning, detector, portrait, turn):
    upright, wide = best(detector, portrait), portrait[:, :420]
    found = turning.detect([np.ascontiguousarray(np.rot90(wide, turn))])[0]
    face = retina_detector.turned_back(found[0], turn, wide.shape[1], wide.shape[0])
    assert len(found) == 1 and face.score > 0.8
    assert np.abs(face.landmarks - upright.landmarks).max() < 3
    assert np.abs(face.box - upright.box).max() < 12


def test_finds_the_face_and_its_points(detector, portrait):
    face = best(detector, portrait)
    assert face.score > 0.8
    assert face.box.dtype == face.landmarks.dtype == np.float32
    assert np.abs(face.landmarks[:2] - EYES).max() < 6
    left, right, nose, mouth_left, mouth_right = face.landmarks
    assert left[0] < nose[0] < right[0] and mouth_left[0] < mouth_right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    assert (face.landmarks > face.box[:2]).all() and (face.landmarks < face.box[2:]).all()


def test_mirrored_picture_has_the_image_left_eye_first(detector, portrait):
    face = best(detector, np.ascontiguousarray(portrait[:, ::-1]))
    assert face.landmarks[0, 0] < face.landmarks[1, 0]
    assert np.abs(511 - face.landmarks[[1, 0], 0] - EYES[:, 0]).max() < 6


@pytest.mark.parametrize("scale", [0.5, 2.5])
def test_places_follow_the_size_of_the_picture(detector, portrait, scale):
    face = best(detector, portrait)
    other = best(detector, cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    moved = (face.landmarks + 0.5) * scale - 0.5
    assert np.abs(other.landmarks - moved).max() < 6 * scale


def test_company_changes_nothing(detector, portrait):
    small = portrait[::2, ::2].copy()
    alone = [detector.detect([image])[0] for image in (portrait, small)]
    together = detector.detect([portrait, small, portrait])
    same(together[0], alone[0])
    same(together[1], alone[1])
    same(together[2], alone[0])


def test_the_second_look_sets_the_points_to_within_a_few_hundredths_of_the_eyes_distance(detector, portrait):
    face = best(detector, portrait)
    apart = np.linalg.norm(face.landmarks[:2] - EYES, axis=1)
    assert apart.max() < 0.07 * np.linalg.norm(EYES[1] - EYES[0])


def test_points_are_found_in_a_box_that_somebody_drew(detector, portrait):
    found = best(detector, portrait)
    width, height = found.box[2:] - found.box[:2]
    drawn = found.box + np.array([-0.1 * width, 0.05 * height, 0.05 * width, 0.1 * height], np.float32)
    points = detector.points_in(portrait, drawn)
    assert points.dtype == np.float32
    apart = float(np.linalg.norm(EYES[1] - EYES[0]))
    assert np.linalg.norm(points - found.landmarks, axis=1).max() < 0.15 * apart


def test_what_is_no_face_at_the_second_look_is_dropped(portrait, monkeypatch):
    detector = RetinaDetector()
    found = detector.detect([portrait])[0]
    refine = detector.refiner.forward
    monkeypatch.setattr(detector.refiner, "forward", lambda crops: (refine(crops)[0], torch.full((len(crops),), -9.0)))
    assert found and detector.detect([portrait]) == [[]]


def test_a_second_look_that_is_not_wanted_is_not_taken(portrait):
    assert RetinaDetector(refine=False).refiner is None
    assert best(RetinaDetector(refine=False), portrait).score != best(RetinaDetector(), portrait).score


def test_sixteen_bits_are_as_good_as_eight(detector, portrait):
    same(detector.detect([portrait.astype(np.uint16) * 257])[0], detector.detect([portrait])[0])


def test_finds_a_face_that_fills_the_frame(detector, portrait):
    face = best(detector, portrait)
    side = round(float(face.box[3] - face.box[1]))  # as high as the face, so that chin and hair touch the border
    x0, y0 = np.rint((face.box[:2] + face.box[2:] - side) / 2).astype(int)
    tight = cv2.resize(portrait[y0 : y0 + side, x0 : x0 + side], (512, 512), interpolation=cv2.INTER_CUBIC)
    eyes = (face.landmarks[:2] - [x0, y0] + 0.5) * 512 / side - 0.5
    found = best(detector, tight)
    assert found.size > 350
    assert np.abs(found.landmarks[:2] - eyes).max() < 50  # a quarter of the eyes' distance


@pytest.mark.parametrize("shape", [(1, 1, 3), (16, 12, 3), (3, 200, 3)])
def test_plain_and_tiny_pictures_hold_no_face(detector, shape):
    assert detector.detect([np.full(shape, 128, np.uint8)]) == [[]]


def test_nothing_in_nothing_out(detector):
    assert detector.detect([]) == []


def test_wrong_shape_is_refused(detector):
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        detector.detect([np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize("bad", [{"low_threshold": 0}, {"nms": 1}, {"long_side": 8}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        RetinaDetector(**bad)


def finds(boxes, scores):
    boxes = np.array(boxes, np.float32)
    return Finds(boxes, np.repeat(boxes[:, None, :2], 5, 1), np.array(scores, np.float32))


def test_close_finds_become_their_weighted_mean():
    merged = merge(finds([[0, 0, 10, 10], [1, 0, 11, 10]], [0.8, 0.4]), 0.4)
    assert len(merged) == 1
    assert merged[0].score == pytest.approx(0.8)
    assert merged[0].box[0] == pytest.approx(0.2)  # weights 0.64 and 0.16


def test_loose_overlap_is_suppressed_without_a_vote():
    merged = merge(finds([[0, 0, 10, 10], [0, 0, 10, 20]], [0.9, 0.8]), 0.4)
    assert len(merged) == 1
    np.testing.assert_array_equal(merged[0].box, [0, 0, 10, 10])


def test_part_of_a_face_is_no_second_face():
    merged = merge(finds([[0, 0, 100, 100], [10, 10, 40, 40], [-200, -200, 300, 300]], [0.9, 0.8, 0.7]), 0.4)
    np.testing.assert_array_equal([d.box for d in merged], [[0, 0, 100, 100]])


def test_neighbours_stay_apart_best_first():
    merged = merge(finds([[0, 0, 10, 10], [20, 0, 30, 10]], [0.5, 0.9]), 0.4)
    assert [round(d.score, 1) for d in merged] == [0.9, 0.5]


def test_public_checkpoint_loads_with_its_own_preprocessing(tmp_path):
    state = {f"module.{k}": v for k, v in RetinaFace().state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "public.pth")
    assert load_network(str(tmp_path / "public.pth"))[1].order == "bgr"


def test_safetensors_say_their_preprocessing(tmp_path):
    path = tmp_path / "own.safetensors"
    save_file(RetinaFace().state_dict(), path, {"preprocessing": "rgb-unit"})
    assert load_network(str(path))[1].order == "rgb"
    save_file(RetinaFace().state_dict(), path, {"preprocessing": "sepia"})
    with pytest.raises(WeightsError, match="sepia"):
        load_network(str(path))


def test_wrong_weights_are_named_in_one_line(tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(1)}, other)
    short = tmp_path / "short.safetensors"
    save_file({k: v for k, v in RetinaFace().state_dict().items() if "ssh2" not in k}, short)
    junk = tmp_path / "junk.pth"
    junk.write_bytes(b"not a checkpoint")
    for path, text in (
        (other, "no RetinaFace"),
        (short, "ssh2"),
        (junk, "junk.pth"),
        (tmp_path / "none", "no such file"),
    ):
        with pytest.raises(WeightsError, match=text) as caught:
            load_network(str(path))
        assert "\n" not in str(caught.value)


@pytest.fixture
def public(tmp_path, monkeypatch, site):
    """A tiny "published" checkpoint on `site`, and the cache folder."""
    data = io.BytesIO()
    torch.save(RetinaFace().state_dict(), data)
    site.files["/small.pth"] = data.getvalue()
    digest = hashlib.sha256(data.getvalue()).hexdigest()
    monkeypatch.setenv("VIDEOCLR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(retina_detector.PUBLIC, "facexlib-mobilenet0.25", ("small.pth", digest))
    monkeypatch.setattr(retina_detector, "RELEASES", site.address + "/")
    return tmp_path / "cache"


def test_public_weights_are_fetched_once_and_kept_as_safetensors(public, site):
    for _ in range(2):
        _, preprocessing = load_network("facexlib-mobilenet0.25")
    assert preprocessing.order == "bgr"
    assert site.asked == [("/small.pth", None)]
    assert sorted(p.suffix for p in public.iterdir()) == [".json", ".safetensors"]
    assert store.added()["facexlib-mobilenet0.25"].licence == retina_detector.LICENCE


def test_changed_download_is_refused_and_removed(public, monkeypatch):
    monkeypatch.setitem(retina_detector.PUBLIC, "facexlib-mobilenet0.25", ("small.pth", "0" * 64))
    with pytest.raises(WeightsError, match="SHA-256"):
        load_network("facexlib-mobilenet0.25")
    assert [p.name for p in public.iterdir() if p.suffix != ".lock"] == []


def test_no_network_is_one_clear_line(public, monkeypatch):
    def unplugged(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unplugged)
    digest = retina_detector.PUBLIC["facexlib-mobilenet0.25"][1]
    by_hand = f"videoclr weights add FILE --name facexlib-mobilenet0.25 --sha256 {digest}"
    with pytest.raises(
        WeightsError, match=rf"cannot be fetched \(Name or service not known\); get .*: {by_hand}; .*embedded"
    ) as caught:
        load_network("facexlib-mobilenet0.25")
    assert "\n" not in str(caught.value)
    assert [p.name for p in public.iterdir() if p.suffix != ".lock"] == []


def test_added_weights_go_by_their_name(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOCLR_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "own.safetensors"
    save_file(RetinaFace().state_dict(), path, {"preprocessing": "rgb-unit"})
    store.add(str(path), "mine", hashlib.sha256(path.read_bytes()).hexdigest())
    assert load_network("mine")[1].order == "rgb"
    with pytest.raises(WeightsError, match=r"no such file, nor one of embedded, facexlib-resnet50, .*, mine"):
        load_network("yours")

"""Pairs that are made in whole batches where they are used: the same degradation as one picture's, on any device."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from videoclr.training import batched
from videoclr.training.batched import DevicePairs, Light, degrade_batch, face_batches, jpeg, moved, posed_anew
from videoclr.training.data import FacePairs
from videoclr.training.degrade import LEVELS, Level, degrade
from videoclr.training.motion import move, pose

CPU = torch.device("cpu")


def painted(count=4, side=96):
    """`(N, S, S, 3)` uint8: soft shapes, sharp edges and colour."""
    out = np.empty((count, side, side, 3), np.uint8)
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = rng.integers(20, 235, (6, 6, 3)).astype(np.uint8)
        out[number] = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        for _ in range(6):
            x, y, r = (int(v) for v in rng.integers(8, side - 8, 3) // (1, 1, 6))
            cv2.circle(out[number], (x, y), r, tuple(int(c) for c in rng.integers(0, 255, 3)), -1, cv2.LINE_AA)
    return out


def planes(pictures):
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float()


def pictures(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


def error(a, b):
    return float(((np.asarray(a, float) - np.asarray(b, float)) ** 2).mean())


@pytest.mark.parametrize("side", [96, 77])
@pytest.mark.parametrize("quality", [30, 60, 95])
def test_jpeg_is_that_of_libjpeg(quality, side):
    clean = painted(side=side)
    ours = pictures(jpeg(planes(clean), np.full(len(clean), quality)))
    coded = [cv2.imencode(".jpg", face[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for face in clean]
    theirs = np.stack([cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1] for data in coded])
    assert error(ours, theirs) < 0.12 * error(clean, theirs)
    assert error(clean, ours) == pytest.approx(error(clean, theirs), rel=0.05)


@pytest.mark.parametrize("way", [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC])
@pytest.mark.parametrize("side", [17, 50, 96, 150])
def test_resizing_is_that_of_opencv(side, way):
    clean = painted()
    ours = pictures(batched._rounded(batched._resized(planes(clean), side, way)))
    theirs = np.stack([cv2.resize(face, (side, side), interpolation=way) for face in clean])
    assert np.abs(ours - theirs).max() <= 1


def test_each_picture_is_blurred_by_its_own_kernel():
    clean, rng = planes(painted()), np.random.default_rng(5)
    every = batched._blurred(clean, (4.0, 24.0), rng)
    loss = (every - clean).pow(2).mean((1, 2, 3))
    assert len(loss.unique()) == len(clean)
    round_one = pictures(batched._rounded(batched._blurred(clean, (16.0, 16.0), rng)))
    sigma = 16 * 96 / 512
    theirs = np.stack([cv2.GaussianBlur(f, (17, 17), sigma, borderType=cv2.BORDER_REFLECT_101) for f in painted()])
    assert np.abs(round_one - theirs).max() <= 1


def test_pictures_move_as_opencv_moves_them():
    clean, turn = painted(2), np.array([[0.98, -0.17], [0.17, 0.98]])
    linear, shift = np.stack([1.04 * turn, turn.T]), np.array([[7.5, -3.0], [-4.0, 6.25]])
    ours = pictures(moved(planes(clean), linear, shift))
    for number in range(2):
        matrix = np.column_stack([linear[number], shift[number]])
        theirs = cv2.warpAffine(clean[number], matrix, (96, 96), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        # OpenCV rounds places to 1/32 px.
        assert np.abs(ours[number] - theirs).mean() < 0.5
        assert error(ours[number], theirs) < 0.01 * error(clean[number], theirs)


@pytest.mark.parametrize("level", LEVELS)
def test_a_batch_is_as_degraded_as_single_pictures_are(level):
    clean = painted()
    alone = np.mean(
        [error(degrade(face, level, np.random.default_rng((n, k))), face) for n, face in enumerate(clean) for k in range(40)]
    )
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    together = np.mean([error(pictures(degrade_batch(planes(clean), level, rng, generator)), clean) for _ in range(40)])
    assert together == pytest.approx(alone, rel=0.15)


def test_noise_has_the_deviation_that_was_asked_for():
    grey = torch.full((2, 3, 128, 128), 128.0)
    ranges = Level(sigma=(0.1, 0.1), factor=(4.0, 4.0), noise=(12.0, 12.0), jpeg=(100, 100))
    worse = degrade_batch(grey, ranges, np.random.default_rng(3), torch.Generator().manual_seed(1))
    assert worse.shape == grey.shape and (worse == worse.round()).all()
    assert 6 < float(worse[:, 1].std()) < 13


def test_batch_number_n_is_the_same_whatever_came_before():
    def made():
        return DevicePairs(painted(), 3, {"mild": 0.5, "heavy": 0.5}, 0.5, CPU, together=2)

    pairs = made()
    first, again, other = pairs.batch(4, 6), made().batch(4, 6), pairs.batch(5, 6)
    assert first["clean"].shape == first["degraded"].shape == (6, 3, 96, 96)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["degraded"], other["degraded"])
    assert float(first["clean"].min()) >= -1 and float(first["clean"].max()) <= 1


def test_rows_and_mirrors_say_what_was_shown():
    clean = painted()
    sample = DevicePairs(clean, 1, {}, 0.0, CPU).batch(0, 32)
    assert torch.equal(sample["clean"], sample["degraded"])
    assert sample["mirrored"].any() and not sample["mirrored"].all()
    found = 0
    for shown, row, mirrored in zip(sample["clean"], sample["face"], sample["mirrored"], strict=True):
        whole = planes(clean[int(row)][None])[0]
        whole = whole.flip(2) if mirrored else whole
        found += int(torch.equal(((shown + 1) * 127.5).round(), whole))
    assert 8 <= found < 32  # the light of the others is another


def test_autocast_does_not_coarsen_what_is_made_under_it():
    pairs = DevicePairs(painted(), 1, {"mild": 1.0}, 0.5, CPU)
    plain = pairs.batch(0, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = pairs.batch(0, 4)
    assert torch.equal(plain["degraded"], under["degraded"])


@pytest.mark.parametrize("workers", [0, "device"])
def test_a_stage_says_who_makes_its_samples(workers):
    settings = {"seed": 2, "levels": {"mild": 1.0}, "warp": 0.2, "batch": 3, "workers": workers}
    samples = face_batches(painted(), settings, 5, CPU)
    first, second = next(samples), next(samples)
    assert first["degraded"].shape == (3, 3, 96, 96) and first["face"].shape == (3,)
    later = next(face_batches(painted(), settings, 6, CPU))
    assert torch.equal(second["degraded"], later["degraded"])
    assert next(face_batches(painted(), settings, 0, CPU, size=2))["clean"].shape[0] == 2


@pytest.mark.parametrize("kind", ["device", "processes"])
def test_as_many_faces_as_asked_for_get_parts_of_others(kind):
    clean = painted(6, 64)

    def shown(share: float, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Which are unlike the face that they say, but for its light; and which are said to be blends."""
        if kind == "device":
            batch = DevicePairs(clean, 4, {}, 0.0, CPU, blended=share).batch(1, count)
        else:
            batch = default_collate([FacePairs(clean, 4, {}, 0.0, share)[number] for number in range(count)])
        own = planes(clean[batch["face"].numpy()]) / 127.5 - 1
        own = torch.where(batch["mirrored"][:, None, None, None], own.flip(3), own)
        pairs = zip(batch["clean"].flatten(0, 1).flatten(1), own.flatten(0, 1).flatten(1), strict=True)
        alike = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).view(count, 3)
        return alike.amin(1) < 0.95, batch["blended"]

    strange, said = shown(1.0, 60)
    assert said.all() and strange.float().mean() > 0.5
    strange, said = shown(0.0, 60)
    assert not said.any() and not strange.any()
    strange, said = shown(0.5, 120)
    assert 0.35 < float(said.float().mean()) < 0.65
    assert not strange[~said].any() and strange[said].float().mean() > 0.5


def test_a_pose_on_the_device_is_that_of_a_moved_still():
    clean = painted(3)
    plans = [pose(5), None, pose(9)]
    ours = pictures(posed_anew(planes(clean), plans))
    assert np.array_equal(ours[1], clean[1])
    for row in (0, 2):
        expected = next(move(clean[row], plans[row])).astype(float)
        inner = slice(12, -12)  # what comes in over the border is reflected about another line
        assert error(ours[row][inner, inner], expected[inner, inner]) < 0.02 * error(
            clean[row][inner, inner], expected[inner, inner]
        )


def test_a_pose_keeps_the_light_shuts_the_eyes_of_some_and_lets_some_look_aside():
    plans = [pose(seed) for seed in range(50)]
    assert all(len(plan) == 1 and not plan.light.any() for plan in plans)
    shut = [float(plan.lids[0]) for plan in plans]
    assert all(value == 0 or 0.5 <= value <= 1 for value in shut) and 10 <= sum(value > 0 for value in shut) <= 30
    glances = [float(plan.gaze[0]) for plan in plans]
    assert min(glances) < -0.5 and max(glances) > 0.5 and 15 <= sum(value == 0 for value in glances) <= 35
    assert len({float(plan.yaw[0]) for plan in plans}) > 30  # they end at a largest turn


def test_as_many_faces_as_asked_for_are_posed(monkeypatch):
    asked = []

    def counted(seed):
        asked.append(seed)
        return pose(seed)

    monkeypatch.setattr("videoclr.training.data.pose", counted)
    monkeypatch.setattr("videoclr.training.batched.pose", counted)
    for share, least, most in ((0.0, 0, 0), (0.5, 20, 44), (1.0, 64, 64)):
        pairs = FacePairs(painted(), 3, {}, 0.0, posed=share)
        for number in range(64):
            pairs[number]
        of_processes = len(asked)
        DevicePairs(painted(), 3, {}, 0.0, CPU, posed=share).batch(0, 64)
        assert least <= of_processes <= most and least <= len(asked) - of_processes <= most
        asked.clear()


def test_a_reference_is_another_view_of_the_same_face_and_changes_nothing_else():
    faces = painted()
    shape = (faces, 3, {"heavy": 1.0}, 0.2, torch.device("cpu"))
    plain, more = (DevicePairs(*shape, posed=0.5, identities=one).batch(1, 16) for one in (None, torch.arange(4)))
    assert "reference" not in plain and all(torch.equal(plain[k], more[k]) for k in ("clean", "degraded"))
    clean = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 127.5 - 1
    clean = torch.where(more["mirrored"][:, None, None, None, None], clean.flip(-1)[None], clean[None])
    apart = (more["reference"][:, None] - clean).abs().mean((2, 3, 4))
    assert float(apart.min()) > 0.01
    assert (apart.argmin(1) == more["face"]).float().mean() >= 0.8


def test_the_light_is_that_of_one_or_of_the_other():
    rng = np.random.default_rng(0)
    first, second = Light.drawn(4, rng), Light.drawn(4, rng)
    own = np.array([True, False, True, False])
    mixed = first.mixed(second, own)
    assert np.array_equal(mixed.gamma[own], first.gamma[own]) and np.array_equal(mixed.gamma[~own], second.gamma[~own])
    assert np.array_equal(mixed.gain[own], first.gain[own]) and np.array_equal(mixed.gain[~own], second.gain[~own])


def test_of_people_with_several_pictures_another_one_is_often_the_reference():
    faces, identities = painted(), torch.tensor([0, 1, 0, 0])
    made = DevicePairs(faces, 3, {"mild": 1.0}, 0.0, CPU, blended=1.0, identities=identities).batch(0, 48)
    clean = planes(faces) / 127.5 - 1
    clean = torch.where(made["mirrored"][:, None, None, None, None], clean.flip(-1)[None], clean[None])
    near = (made["reference"][:, None] - clean).abs().mean((2, 3, 4)).argmin(1)
    shown = (made["clean"][:, None] - clean).abs().mean((2, 3, 4)).argmin(1)
    other = near != made["face"]
    assert 0.15 < float(other.float().mean()) < 0.6
    assert not made["blended"][other].any() and 1 not in near[other] and 1 not in made["face"][other]
    assert torch.equal(shown[other], made["face"][other])

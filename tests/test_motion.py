from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoclr import motion
from videoclr.motion import Estimated, Followed, alike, carried, carried_noise, means_along, neighbours, relit

SIZE = 128


def texture(shift=0.0, seed=0):
    """`(SIZE, SIZE, 3)` uint8 of smooth blobs, moved to the right by `shift` pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    value = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(60):
        cx, cy, size, height = *rng.uniform(-10, SIZE + 10, 2), rng.uniform(4, 10), rng.uniform(-90, 90)
        value += height * np.exp(-((x - shift - cx) ** 2 + (y - cy) ** 2) / (2 * size**2))
    return np.repeat(np.clip(value + 128, 0, 255)[..., None], 3, axis=2).astype(np.uint8)


def values(picture):
    return picture.astype(np.float32) / 127.5 - 1


def eight_bit(value):
    return np.clip(np.rint((value + 1) * 127.5), 0, 255).astype(np.uint8)


def test_the_mean_follows_a_moving_texture_and_keeps_it() -> None:
    pictures = {place: texture(1.5 * place) for place in range(5)}
    clean = {place: values(picture) for place, picture in pictures.items()}
    means, _ = means_along(clean, range(5), None, Estimated(pictures))
    inner = np.s_[16:-16, 16:-16]
    straight = np.mean(list(clean.values()), axis=0)
    assert np.abs(means[2] - clean[2])[inner].mean() < 0.2 * np.abs(straight - clean[2])[inner].mean()
    assert means[2][inner].std() > 0.97 * clean[2][inner].std()


def test_the_mean_of_noisy_pictures_has_less_noise_the_more_are_known() -> None:
    rng = np.random.default_rng(1)
    clean = values(texture())
    noisy = {place: (clean + rng.normal(0, 0.1, clean.shape)).astype(np.float32) for place in range(12)}
    means, kept = means_along(noisy, range(12), None, Estimated({place: eight_bit(v) for place, v in noisy.items()}))
    left = [np.abs(mean - clean).mean() / np.abs(noisy[0] - clean).mean() for mean in means]
    assert left[0] < 0.65  # what follows, alone
    assert left[11] < left[0] and left[8] < 0.45
    assert 3 < kept.weight.mean() <= 9


def test_pictures_go_on_from_what_is_kept_of_those_before() -> None:
    rng = np.random.default_rng(2)
    noisy = {place: (values(texture()) + rng.normal(0, 0.1, (SIZE, SIZE, 3))).astype(np.float32) for place in range(6)}
    motions = Estimated({place: eight_bit(v) for place, v in noisy.items()})
    at_once, _ = means_along(noisy, range(6), None, motions)
    _, kept = means_along(noisy, range(3), None, motions)
    then, _ = means_along({place: noisy[place] for place in range(3, 6)}, range(3, 6), kept, motions)
    assert all(np.array_equal(a, b) for a, b in zip(at_once[3:], then, strict=True))
    with pytest.raises(ValueError, match="no places"):
        means_along(noisy, [], None, motions)


def test_what_looks_otherwise_has_no_say() -> None:
    open_, closed = values(texture()), values(texture())
    closed[50:80, 50:80] += 0.9  # a lid
    said = alike(open_, closed, motion.ALIKE)
    assert said[60:70, 60:70].max() < 0.01 and said[:30].min() > 0.99
    means, _ = means_along({0: closed, 1: open_, 2: closed}, range(3), None, Estimated(dict.fromkeys(range(3), texture())))
    assert np.abs(means[1] - open_)[60:70, 60:70].max() < 0.05


def test_what_counts_as_otherwise_is_told_by_the_noise() -> None:
    rng = np.random.default_rng(3)
    clean = values(texture())
    other = clean.copy()
    other[50:80, 50:80] += 0.15  # less than noise may make, more than a clean picture allows
    noise = lambda: cv2.GaussianBlur(rng.normal(0, 0.5, clean.shape).astype(np.float32), (0, 0), 1.5)  # noqa: E731
    assert alike(clean, other)[60:70, 60:70].max() < 0.01
    assert alike(clean + noise(), other + noise())[60:70, 60:70].mean() > 0.3


def test_the_light_is_the_pictures_own() -> None:
    dim, bright = values(texture()), values(texture()) * 0.9 + np.linspace(0, 0.3, SIZE, dtype=np.float32)[None, :, None]
    inner = np.s_[16:-16, 16:-16]
    assert np.abs(relit(dim, bright) - bright)[inner].mean() < 0.25 * np.abs(dim - bright)[inner].mean()
    detail = dim + (np.indices(dim.shape[:2]).sum(0) % 2)[..., None].astype(np.float32) * 0.2
    assert np.abs(relit(detail, dim) - detail).mean() < 0.11  # what is small is brought, its mean is not
    means, _ = means_along({0: dim, 1: bright, 2: dim}, range(3), None, Estimated(dict.fromkeys(range(3), texture())))
    assert np.abs(means[1] - bright)[inner].mean() < 0.02


def test_neighbours_are_weighted_by_nearness() -> None:
    assert neighbours({0: None, 8: None, 16: None}, 2) == [(0, 0.75), (8, 0.25)]
    assert neighbours({0: None, 8: None}, 8) == [(8, 1.0)] and neighbours({3: None}, 1) == [(3, 1.0)]
    with pytest.raises(ValueError, match="no source"):
        neighbours({}, 1)


def test_a_latent_is_carried_along_from_both_sides() -> None:
    pictures = {place: texture(2.0 * place) for place in (0, 2, 4)}
    latents = {place: values(pictures[place])[2::4, 2::4] for place in (0, 4)}
    found, trust = carried(latents, 2, Estimated(pictures))
    wanted = values(pictures[2])[2::4, 2::4]
    inner = np.s_[5:-5, 5:-5]
    assert trust > 0.8
    assert np.abs(found - wanted)[inner].mean() < 0.35 * np.abs(latents[0] - wanted)[inner].mean()


def test_what_cannot_be_trusted_fades() -> None:
    pictures = {0: texture(seed=0), 1: texture(seed=7)}
    ones = {0: np.ones((SIZE // 4, SIZE // 4, 2), np.float32)}
    lost, trust = carried(ones, 1, Estimated(pictures))
    known, sure = carried(ones, 1, Estimated(dict.fromkeys(range(2), pictures[0])))
    assert trust < 0.6 and lost.mean() < 0.6
    assert sure == pytest.approx(1) and np.allclose(known, 1)


def test_carried_noise_moves_with_the_face_and_keeps_its_variance() -> None:
    noise = np.random.default_rng(0).normal(size=(SIZE // 4, SIZE // 4, 8)).astype(np.float32)
    still = Estimated(dict.fromkeys(range(3), texture()))
    assert np.allclose(carried_noise(noise, 1, {0: None, 2: None}, still), noise, atol=1e-6)
    moving = Estimated({place: texture(8.0 * place) for place in range(3)})
    moved = carried_noise(noise, 1, {0: None}, moving)
    assert np.corrcoef(moved[4:-4, 4:-4].ravel(), noise[4:-4, 2:-6].ravel())[0, 1] > 0.8
    assert carried_noise(noise, 1, {0: None, 2: None}, moving).std() == pytest.approx(1, abs=0.05)


def test_each_pair_is_estimated_once() -> None:
    motions = Estimated({0: texture(), 1: texture(1)})
    assert motions.flow(0, 1) is motions.flow(0, 1) and motions.trust(1, 0) is motions.trust(1, 0)


def test_rest_is_believed_where_motion_explains_no_more_than_noise():
    rng = np.random.default_rng(0)
    still = cv2.GaussianBlur(rng.normal(size=(96, 96, 3)), (0, 0), 4)
    still = np.clip(128 + 300 * still, 0, 255)
    noisy = [np.clip(still + rng.normal(0, 12, still.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    wobble = cv2.GaussianBlur(rng.normal(0, 6, (96, 96, 2)), (0, 0), 8).astype(np.float32)
    assert np.abs(motion.believed(wobble, *noisy)).mean() < 0.1 * np.abs(wobble).mean()


def test_motion_is_believed_where_there_is_some():
    rng = np.random.default_rng(0)
    wide = np.clip(128 + 300 * cv2.GaussianBlur(rng.normal(size=(96, 104, 3)), (0, 0), 4), 0, 255)
    first, second = (
        np.clip(part + rng.normal(0, 12, part.shape), 0, 255).astype(np.uint8) for part in (wide[:, 4:100], wide[:, :96])
    )
    moved = np.zeros((96, 96, 2), np.float32)
    moved[..., 0] = 4
    assert np.abs(motion.believed(moved, first, second) - moved)[8:-8, 8:-8].mean() < 0.2


def steps(count, x, off):
    """Everything moves by `x` px to the right from place to place."""
    one = {(p, p + 1): np.dstack([np.full((16, 16), v, np.float32) for v in (x, 0, off)]) for p in range(count - 1)}
    back = {(p + 1, p): np.dstack([np.full((16, 16), v, np.float32) for v in (-x, 0, off)]) for p in range(count - 1)}
    return one | back


def test_motion_is_followed_from_neighbour_to_neighbour() -> None:
    motions = Followed(steps(5, 1.5, 0.1), 64)
    assert np.allclose(motions.flow(0, 4), (6, 0)) and np.allclose(motions.flow(4, 2), (-3, 0))
    assert np.allclose(motions.flow(3, 3), 0)


def test_what_may_be_far_off_is_not_trusted_and_less_so_further_away() -> None:
    sure, unsure = Followed(steps(5, 0.5, 0.02), 256), Followed(steps(5, 0.5, 0.5), 256)
    inner = np.s_[32:-32, 32:-32]
    assert sure.trust(1, 2)[inner].min() > 0.99
    assert unsure.trust(0, 1)[inner].mean() == pytest.approx(np.exp(-0.5), abs=0.01)
    assert unsure.trust(0, 4)[inner].mean() == pytest.approx(np.exp(-2), abs=0.01)


def test_ways_that_disagree_are_not_trusted() -> None:
    wrong = steps(2, 3.0, 0.02)
    wrong[1, 0] = -wrong[1, 0] * np.array([1, 1, -1], np.float32)
    assert Followed(wrong, 64).trust(0, 1)[16:-16, 16:-16].max() < 0.01

from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoclr import motion
from videoclr.motion import (
    APART,
    Motions,
    alike,
    carried,
    carried_noise,
    compared,
    laid_over,
    means_along,
    near_enough,
    neighbours,
    relit,
)

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
    means, _ = means_along(clean, range(5), None, Motions.between(pictures))
    inner = np.s_[16:-16, 16:-16]
    straight = np.mean(list(clean.values()), axis=0)
    assert np.abs(means[2] - clean[2])[inner].mean() < 0.2 * np.abs(straight - clean[2])[inner].mean()
    assert means[2][inner].std() > 0.97 * clean[2][inner].std()


def test_the_mean_of_noisy_pictures_has_less_noise_the_more_are_known() -> None:
    rng = np.random.default_rng(1)
    clean = values(texture())
    noisy = {place: (clean + rng.normal(0, 0.1, clean.shape)).astype(np.float32) for place in range(12)}
    means, kept = means_along(noisy, range(12), None, Motions.between({place: eight_bit(v) for place, v in noisy.items()}))
    left = [np.abs(mean - clean).mean() / np.abs(noisy[0] - clean).mean() for mean in means]
    assert left[0] < 0.65  # what follows, alone
    assert left[11] < left[0] and left[8] < 0.45
    assert 3 < kept.weight.mean() <= 9


def test_pictures_go_on_from_what_is_kept_of_those_before() -> None:
    rng = np.random.default_rng(2)
    noisy = {place: (values(texture()) + rng.normal(0, 0.1, (SIZE, SIZE, 3))).astype(np.float32) for place in range(6)}
    motions = Motions.between({place: eight_bit(v) for place, v in noisy.items()})
    at_once, _ = means_along(noisy, range(6), None, motions)
    _, kept = means_along(noisy, range(3), None, motions)
    then, _ = means_along({place: noisy[place] for place in range(3, 6)}, range(3, 6), kept, motions)
    assert all(np.array_equal(a, b) for a, b in zip(at_once[3:], then, strict=True))
    with pytest.raises(ValueError, match="no places"):
        means_along(noisy, [], None, motions)


def test_what_is_worth_little_hardly_changes_what_better_pictures_told() -> None:
    rng = np.random.default_rng(4)
    clean = values(texture())
    shown = {p: (clean + rng.normal(0, 0.02 if p < 6 else 0.2, clean.shape)).astype(np.float32) for p in range(16)}
    motions, tolerances = Motions.between(dict.fromkeys(shown, texture())), dict.fromkeys(shown, motion.ALIKE)
    alone, _ = means_along(shown, range(16), None, motions, tolerances)
    told, kept = means_along(shown, range(16), None, motions, tolerances, {p: 1.0 if p < 6 else 0.02 for p in shown})
    miss = lambda mean: float(np.abs(mean - clean).mean())  # noqa: E731
    assert miss(told[15]) < 0.5 * miss(alone[15]) and miss(told[3]) <= miss(alone[3])
    assert 0.5 < kept.worth < 1
    same, _ = means_along(shown, range(16), None, motions, tolerances, dict.fromkeys(shown, 1.0))
    assert all(np.array_equal(a, b) for a, b in zip(alone, same, strict=True))


def test_what_looks_otherwise_has_no_say() -> None:
    open_, closed = values(texture()), values(texture())
    closed[50:80, 50:80] += 0.9  # a lid
    said = alike(open_, closed, motion.ALIKE)
    assert said[60:70, 60:70].max() < 0.01 and said[:30].min() > 0.99
    means, _ = means_along({0: closed, 1: open_, 2: closed}, range(3), None, Motions.between(dict.fromkeys(range(3), texture())))
    assert np.abs(means[1] - open_)[60:70, 60:70].max() < 0.05


@pytest.mark.parametrize(("top", "strict"), [(60, True), (92, True), (20, False)], ids=["an eye", "the mouth", "the brow"])
def test_one_place_of_eyes_and_mouth_that_looks_otherwise_speaks_for_those_around_it(top: int, strict: bool) -> None:
    own, brought = values(texture()), values(texture())
    brought[top : top + 8, 60:68] += 0.6  # the iris of an open eye, or teeth; lids, lashes and lips around it look alike
    said = alike(own, brought, motion.ALIKE)
    assert said[top + 2 : top + 6, 62:66].max() < 0.1 and said[np.abs(np.arange(SIZE) - top) > 30].min() > 0.99
    assert (said[top - 4 : top + 12, 56:72].mean() < 0.4) == strict


def test_where_there_is_little_contrast_less_is_otherwise() -> None:
    soft, strong = (0.2 * (values(texture()) - 0.1), values(texture()))
    for own, others in ((soft, True), (strong, False)):
        brought = own.copy()
        brought[50:80, 50:80] += 0.15
        assert (alike(own, brought, motion.ALIKE)[60:70, 60:70].max() < 0.3) == others


def test_where_hardly_anything_is_noise_an_eye_may_open_slowly() -> None:
    own = values(texture())
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    brought = own + 0.07 * np.exp(-((x - 44) ** 2 + (y - 60) ** 2) / 18).astype(np.float32)[..., None]
    grain = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 0.04, own.shape), (0, 0), 1).astype(np.float32)
    clean, noisy = (alike(own, other, 0.08)[60, 44] for other in (brought, brought + grain))
    assert clean < 0.2 < 0.5 < noisy


def test_what_counts_as_otherwise_is_told_by_the_noise() -> None:
    rng = np.random.default_rng(3)
    clean = values(texture())
    other = clean.copy()
    other[80:110, 96:126] += 0.15  # beside the mouth: less than noise may make, more than a clean picture allows
    noise = lambda: cv2.GaussianBlur(rng.normal(0, 0.5, clean.shape).astype(np.float32), (0, 0), 1.5)  # noqa: E731
    assert alike(clean, other)[90:100, 106:116].max() < 0.01
    assert alike(clean + noise(), other + noise())[90:100, 106:116].mean() > 0.3


def test_under_heavy_noise_a_mouth_is_averaged_as_the_rest_of_the_face_is_unless_it_moves() -> None:
    clean, rng = cv2.resize(values(texture()), (256, 256)), np.random.default_rng(3)
    moved = clean.copy()
    moved[180:200, 100:156] += 0.5
    noise = lambda: cv2.GaussianBlur(rng.normal(0, 0.8, clean.shape).astype(np.float32), (0, 0), 3)  # noqa: E731
    mouth, cheek = np.s_[176:204, 88:168], np.s_[80:96, 168:220]
    same, other = alike(clean + noise(), clean + noise()), alike(clean + noise(), moved + noise())
    assert same[mouth].mean() > 0.9 * same[cheek].mean() > 0.5
    assert other[180:200, 100:156].mean() < 0.1 * same[mouth].mean()


def test_a_neighbour_that_is_further_from_a_picture_than_that_is_wrong_has_no_say() -> None:
    own, missed = values(texture()), values(texture(1.0))
    inner = np.s_[16:-16, 16:-16]
    apart = float(np.sqrt(np.square(own - missed)[inner].mean()))
    assert near_enough(own, own, 0.01).min() == 1
    assert near_enough(own, missed, apart / 4)[inner].mean() < 0.1
    assert near_enough(own, missed, 0.05).min() == 1, "where films are bad, the mean is nearer to the truth all the same"
    says = [near_enough(own, missed, error)[inner].mean() for error in (0.01, 0.02, 0.03, 0.04, 0.049)]
    assert says == sorted(says) and says[-1] > 0.9, "without a step"
    noisy = (own + np.random.default_rng(3).normal(0, 0.02, own.shape)).astype(np.float32)
    assert near_enough(own, noisy, 0.03)[inner].mean() > 0.6


def test_on_a_good_film_a_motion_that_missed_blurs_nothing() -> None:
    # Each picture is told to lie where the one before it lay: the content moves by a pixel and a half, and nobody says so.
    clean = {place: values(texture(1.5 * place)) for place in range(5)}
    still = Motions.between(dict.fromkeys(range(5), texture()))
    inner = np.s_[16:-16, 16:-16]

    def blurred(errors):
        means, _ = means_along(clean, range(5), None, still, errors=errors)
        return np.abs(means[2] - clean[2])[inner].mean()

    assert blurred(dict.fromkeys(clean, 0.01)) < 0.2 * blurred(None)
    assert blurred(dict.fromkeys(clean, 0.1)) == blurred(None)


def test_the_light_is_the_pictures_own() -> None:
    dim, bright = values(texture()), values(texture()) * 0.9 + np.linspace(0, 0.3, SIZE, dtype=np.float32)[None, :, None]
    inner = np.s_[16:-16, 16:-16]
    assert np.abs(relit(dim, bright) - bright)[inner].mean() < 0.25 * np.abs(dim - bright)[inner].mean()
    detail = dim + (np.indices(dim.shape[:2]).sum(0) % 2)[..., None].astype(np.float32) * 0.2
    assert np.abs(relit(detail, dim) - detail).mean() < 0.11  # what is small is brought, its mean is not
    means, _ = means_along({0: dim, 1: bright, 2: dim}, range(3), None, Motions.between(dict.fromkeys(range(3), texture())))
    assert np.abs(means[1] - bright)[inner].mean() < 0.02


def test_neighbours_are_weighted_by_nearness() -> None:
    assert neighbours({0: None, 8: None, 16: None}, 2) == [(0, 0.75), (8, 0.25)]
    assert neighbours({0: None, 8: None}, 8) == [(8, 1.0)] and neighbours({3: None}, 1) == [(3, 1.0)]
    with pytest.raises(ValueError, match="no source"):
        neighbours({}, 1)


def test_a_latent_is_carried_along_from_both_sides() -> None:
    pictures = {place: texture(2.0 * place) for place in range(5)}
    latents = {place: values(pictures[place])[2::4, 2::4] for place in (0, 4)}
    found, trust = carried(latents, 2, Motions.between(pictures))
    wanted = values(pictures[2])[2::4, 2::4]
    inner = np.s_[5:-5, 5:-5]
    assert trust > 0.8
    assert np.abs(found - wanted)[inner].mean() < 0.35 * np.abs(latents[0] - wanted)[inner].mean()


def test_what_cannot_be_trusted_fades() -> None:
    pictures = {0: texture(seed=0), 1: texture(seed=7)}
    ones = {0: np.ones((SIZE // 4, SIZE // 4, 2), np.float32)}
    lost, trust = carried(ones, 1, Motions.between(pictures))
    known, sure = carried(ones, 1, Motions.between(dict.fromkeys(range(2), pictures[0])))
    assert trust < 0.6 and lost.mean() < 0.6
    assert sure == pytest.approx(1) and np.allclose(known, 1)


def test_carried_noise_moves_with_the_face_and_keeps_its_variance() -> None:
    noise = np.random.default_rng(0).normal(size=(SIZE // 4, SIZE // 4, 8)).astype(np.float32)
    still = Motions.between(dict.fromkeys(range(3), texture()))
    assert np.allclose(carried_noise(noise, 1, {0: None, 2: None}, still), noise, atol=1e-6)
    moving = Motions.between({place: texture(8.0 * place) for place in range(3)})
    moved = carried_noise(noise, 1, {0: None}, moving)
    assert np.corrcoef(moved[4:-4, 4:-4].ravel(), noise[4:-4, 2:-6].ravel())[0, 1] > 0.8
    assert carried_noise(noise, 1, {0: None, 2: None}, moving).std() == pytest.approx(1, abs=0.05)


def noisy(picture, seed, sigma=20):
    """With noise that is larger than a pixel, as what is left of a clip by a small picture and a codec."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 3 * sigma, picture.shape), (0, 0), 1.5)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def off(motions, places, wanted=(0, 0)):
    """Mean distance of the motion from place to place from what is wanted, px, where a face is."""
    inner = np.s_[24:-24, 24:-24]
    return np.mean([np.linalg.norm(motions.flow(p, p + 1)[inner] - wanted, axis=-1).mean() for p in places])


def test_each_pair_is_compared_once_there_and_back() -> None:
    pictures = {place: texture(place) for place in range(8)}
    pairs = compared(pictures)
    assert set(pairs) == {(a, b) for a in pictures for b in pictures if abs(a - b) in APART}
    assert not compared(pictures, pairs)
    assert pairs[0, 5][4:-4, 4:-4, 0].mean() == pytest.approx(5, abs=0.3)
    assert pairs[5, 0][4:-4, 4:-4, 0].mean() == pytest.approx(-5, abs=0.3)


def test_all_comparisons_together_know_more_than_two_pictures() -> None:
    pictures = {place: noisy(texture(0.5 * place), place) for place in range(16)}
    steps = [cv2.resize(compared({k: pictures[k] for k in (p, p + 1)})[p, p + 1], (SIZE, SIZE)) for p in range(4, 12)]
    alone = np.mean([np.linalg.norm(step[24:-24, 24:-24] - (0.5, 0), axis=-1).mean() for step in steps])
    assert off(Motions.between(pictures), range(4, 12), (0.5, 0)) < 0.5 * alone


def test_content_that_trembles_a_little_is_followed_as_the_face_moves() -> None:
    trembles = np.random.default_rng(0).normal(0, 0.15, 20)  # as a codec leaves it
    pictures = {place: texture(0.4 * place + tremble) for place, tremble in enumerate(trembles)}
    shown = np.abs(np.diff(trembles))[4:16].mean()
    assert off(Motions.between(pictures), range(4, 16), (0.4, 0)) < 0.6 * shown


@pytest.mark.parametrize("moves", [(1, 0), (1, 1, 1, 0), (1, 0, 0, 0), (1,) * 5 + (0,) * 10 + (1,) * 4])
def test_a_picture_that_is_shown_again_stands_still(moves: tuple[int, ...]) -> None:
    steps = 1.2 * np.resize(moves, 19)
    pictures = {place: texture(shift) for place, shift in enumerate(np.cumsum([0, *steps]))}
    motions = Motions.between(pictures)
    for place in range(3, 16):
        assert off(motions, [place], (steps[place], 0)) < (0.15 if steps[place] else 1e-6)


def test_a_face_that_drifts_slowly_before_it_moves_is_no_repetition() -> None:
    shown = np.cumsum([0.0] + [0.05] * 10 + [1.2] * 3)
    places = range(len(shown))
    pairs = [(here, there) for here in places for there in places if abs(here - there) in motion.APART]
    told = {(here, there): np.full((16, 16, 2), (shown[there] - shown[here], 0), np.float32) for here, there in pairs}
    motions = Motions(told, dict.fromkeys(places, np.eye(2, 3)), 256)
    assert 0.005 < motions.flow(8, 9)[..., 0].mean() < 0.2


def test_a_face_that_rests_before_it_moves_is_no_repetition() -> None:
    shifts = [0.0] * 6 + [0.4 * step for step in range(1, 9)]
    motions = Motions.between({place: texture(shift) for place, shift in enumerate(shifts)})
    assert off(motions, range(8, 12), (0.4, 0)) < 0.1
    assert off(motions, range(0, 4)) < 0.1


def test_a_shaken_camera_is_followed_as_it_shakes() -> None:
    shakes = np.random.default_rng(0).normal(0, 1.5, 20)
    pictures = {place: texture(0.4 * place + shake) for place, shake in enumerate(shakes)}
    motions = Motions.between(pictures)
    for place in range(4, 16):
        assert off(motions, [place], (0.4 + shakes[place + 1] - shakes[place], 0)) < 0.3


def test_a_crop_that_trembles_is_no_motion_of_the_face() -> None:
    trembles = np.random.default_rng(1).normal(0, 1.5, 20)
    pictures = {place: texture(tremble) for place, tremble in enumerate(trembles)}
    matrices = {place: np.array([[1, 0, tremble], [0, 1, 0.0]]) for place, tremble in enumerate(trembles)}
    motions = Motions(compared(pictures), matrices, SIZE)
    for place in range(4, 16):
        assert off(motions, [place], (trembles[place + 1] - trembles[place], 0)) < 0.25


def test_motion_is_followed_from_neighbour_to_neighbour() -> None:
    motions = Motions.between({place: texture(1.5 * place) for place in range(7)})
    inner = np.s_[24:-24, 24:-24]
    assert np.allclose(motions.flow(1, 5)[inner].mean((0, 1)), (6, 0), atol=0.3)
    assert np.allclose(motions.flow(4, 2)[inner].mean((0, 1)), (-3, 0), atol=0.2)
    assert not motions.flow(3, 3).any() and motions.flow(1, 5) is motions.flow(1, 5)


def test_a_comparison_that_disagrees_with_the_rest_loses_its_say_and_its_places_are_trusted_less() -> None:
    pictures = {place: texture(0.5 * place) for place in range(12)}
    pairs, matrices = compared(pictures), dict.fromkeys(pictures, np.eye(2, 3))
    wrong = {pair: flow + (40 if pair == (3, 8) else 0) for pair, flow in pairs.items()}
    right, misled = Motions(pairs, matrices, SIZE), Motions(wrong, matrices, SIZE)
    inner = np.s_[24:-24, 24:-24]
    assert off(misled, range(2, 9), (0.5, 0)) < 0.15
    assert misled.trust(3, 4)[inner].mean() < right.trust(3, 4)[inner].mean() - 0.15
    assert right.trust(3, 4)[inner].min() > 0.95


def test_a_track_of_one_crop_has_no_motion() -> None:
    motions = Motions.between({7: texture()})
    assert not motions.flow(7, 7).any() and motions.trust(7, 7).max() == 0


def test_what_is_hardly_darker_than_its_skin_must_have_the_same_form():
    y, x = np.mgrid[0:128, 0:128].astype(np.float32)

    def face(slant: float) -> np.ndarray:
        mouth = np.exp(-(((y - 80 - slant * (x - 64)) / 3) ** 2) - ((x - 64) / 22) ** 4)
        return np.repeat((0.3 - 0.12 * mouth)[..., None], 3, -1)

    noise = np.random.default_rng(0).normal(0, 0.02, (2, 128, 128, 3)).astype(np.float32)
    straight = face(0.0)
    assert alike(straight, straight).min() == pytest.approx(1)
    assert alike(straight + noise[0], straight + noise[1], motion.ALIKE)[70:90, 40:90].mean() > 0.9
    aslant = alike(straight, face(0.5), motion.ALIKE)
    assert aslant[76:84, 44:52].mean() < 0.2 and aslant[76:84, 76:84].mean() < 0.2
    assert aslant[10:50].min() > 0.9, "bare skin tells nothing against it"


@pytest.mark.parametrize(("top", "taken"), [(0.74, False), (0.3, True)])
def test_a_mouth_that_looks_otherwise_in_a_view_is_not_taken_from_there(top: float, taken: bool) -> None:
    """What is darker in the picture than in the view: at the mouth that remains, on a forehead the view has its way."""
    view = np.asarray(0.2 * values(texture()), np.float32)
    own = view.copy()
    y, x = (round(top * SIZE), SIZE // 2)
    own[y - 3 : y + 3, x - 8 : x + 8] -= 0.35
    laid = laid_over(own, view)[y - 1 : y + 1, x - 4 : x + 4]
    left = float((view[y - 1 : y + 1, x - 4 : x + 4] - laid).mean())
    assert left < 0.2 if taken else left > 0.3

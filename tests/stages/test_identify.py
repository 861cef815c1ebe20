from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from videoclr import appearance, geometry
from videoclr.cast import Cast
from videoclr.errors import RestorationError
from videoclr.stages.identify import People, PeopleMemory, chosen, identify, pooled, quality
from videoclr.types import Detection, FaceCrop, Faces, Frame, TrackedFace

PICTURE = np.zeros((4, 4, 3), np.uint8)
FACE = np.array([[-20, -20], [20, -20], [0, 5], [-15, 25], [15, 25]], np.float32) + 100
TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).uniform(-1, 1, (64, 64, 3)).astype(np.float32), (0, 0), 1) * 3


def crop(index: int, blur: float = 0.0, track: int = 0, shot: int = 0, mark: float = 0.0, nose: float = 0.0) -> FaceCrop:
    """A crop whose corner pixel carries `mark`, which the fake recognizer reads."""
    image = cv2.GaussianBlur(TEXTURE, (0, 0), blur) if blur else TEXTURE.copy()
    image[0, 0] = mark
    points = FACE.copy()
    points[2, 0] += nose
    face = TrackedFace(track, Detection(np.array([60, 60, 140, 140], np.float32), points, 0.9))
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return FaceCrop(face, Frame.from_image(PICTURE, index).in_shot(shot), tensor, geometry.ffhq_matrix(FACE, 64))


def clip(crops: Sequence[FaceCrop]) -> list[Faces[FaceCrop]]:
    return [Faces(one.frame, (one,)) for one in crops]


class Reads:
    """Embeds a crop as the direction (cos m, sin m) of its mark."""

    def __init__(self) -> None:
        self.embedded: list[float] = []

    def embed(self, crops: Tensor) -> Tensor:
        marks = crops[:, 0, 0, 0]
        self.embedded += marks.tolist()
        return torch.stack([marks.cos(), marks.sin()], dim=1)


def angle(one: Faces[FaceCrop]) -> float:
    identity = one.faces[0].identity
    assert identity is not None
    assert float(identity.norm()) == pytest.approx(1, abs=1e-5)
    return float(torch.atan2(identity[1], identity[0]))


def test_quality_prefers_sharp_and_frontal_views() -> None:
    assert quality(crop(0)) > quality(crop(0, blur=1.5)) > quality(crop(0, blur=4))
    assert quality(crop(0)) > quality(crop(0, nose=8)) > quality(crop(0, nose=16))
    assert 0 < quality(crop(0)) < 1


def test_the_first_frames_get_the_identity_of_the_best_view_ahead() -> None:
    crops = [crop(i, blur=0 if i == 3 else 3, mark=1.0 if i == 3 else 0.0) for i in range(6)]
    known = list(identify(clip(crops), Reads(), window=4, views=1))
    assert [angle(one) for one in known] == pytest.approx([1.0] * 6, abs=1e-5)


def test_the_future_beyond_the_window_stays_unknown() -> None:
    crops = [crop(i, blur=0 if i == 8 else 3, mark=1.0 if i == 8 else 0.0) for i in range(12)]
    known = list(identify(clip(crops), Reads(), window=3, views=1))
    assert [angle(one) > 0.5 for one in known] == [False] * 5 + [True] * 7  # frame 5 sees frame 8


def test_views_are_weighted_by_quality() -> None:
    crops = [crop(0, mark=0.0), crop(1, blur=3, mark=1.0)]
    known = list(identify(clip(crops), Reads(), window=1, views=2))
    assert 0 < angle(known[0]) < 0.4


def test_only_views_that_enter_the_pool_are_embedded() -> None:
    recognizer = Reads()
    crops = [crop(i, mark=i / 100) for i in range(60)]
    known = list(identify(clip(crops), recognizer, window=8, views=5))
    assert len(known) == 60
    assert len(recognizer.embedded) == 5


def test_identities_do_not_cross_tracks_or_cuts() -> None:
    first = [crop(i, mark=0.0) for i in range(4)]
    second = [crop(i, mark=1.0, track=0, shot=1) for i in range(4, 8)]  # even a track number that comes again
    known = list(identify(clip([*first, *second]), Reads(), window=8, views=5))
    assert [angle(one) for one in known] == pytest.approx([0.0] * 4 + [1.0] * 4, abs=1e-5)
    pair = [
        Faces(one.frame, (one, other)) for one, other in zip(first, [crop(i, mark=1.0, track=1) for i in range(4)], strict=True)
    ]
    for faces in identify(pair, Reads(), window=2, views=3):
        assert angle(faces) == pytest.approx(0, abs=1e-5)
        assert float(faces.faces[1].identity[1]) > 0.8  # type: ignore[index]


def test_an_embedding_that_is_not_finite_is_no_identity() -> None:
    class Broken:
        def embed(self, crops: Tensor) -> Tensor:
            return torch.full((len(crops), 2), torch.nan)

    (one,) = identify(clip([crop(0)]), Broken())
    assert one.faces[0].identity is None


def test_every_frame_comes_out_with_or_without_faces() -> None:
    source: list[Faces[FaceCrop]] = [Faces(Frame.from_image(PICTURE, index)) for index in range(5)]
    source[2] = clip([crop(2)])[0]
    known = list(identify(source, Reads(), window=3))
    assert [one.frame for one in known] == [one.frame for one in source]
    assert [len(one.faces) for one in known] == [0, 0, 1, 0, 0]


def directions(references: dict[str, float] | None) -> dict[str, Tensor]:
    """Photographs as directions (see `Reads`)."""
    return {name: torch.tensor([np.cos(mark), np.sin(mark)]).float() for name, mark in (references or {}).items()}


def people(references: dict[str, float] | None = None, remember: int = 8) -> People:
    return People(directions(references), match=0.9, same=0.95, remember=remember)


def who(one: Faces[FaceCrop]) -> list[tuple[int, str | None] | None]:
    return [None if crop.person is None else (crop.person.number, crop.person.name) for crop in one.faces]


def test_a_person_who_comes_back_is_recognised_over_cuts_and_gaps() -> None:
    marks = [(0, 0, 0.0), (1, 1, 1.2), (2, 2, 0.1), (3, 2, 1.3)]  # track, shot, direction
    crops = [crop(2 * k + i, mark=mark, track=track, shot=shot) for k, (track, shot, mark) in enumerate(marks) for i in range(2)]
    known = list(identify(clip(crops), Reads(), 4, 5, people()))
    assert [who(one)[0] for one in known[::2]] == [(0, None), (1, None), (0, None), (1, None)]
    same = known[4].faces[0]
    assert same.person is not None and same.person.similarity == pytest.approx(np.cos(0.1), abs=1e-3)
    assert angle(known[4]) == pytest.approx(0.05, abs=0.02)  # one identity of the views of both tracks
    assert known[0].faces[0].identity is not None and angle(known[0]) == pytest.approx(0, abs=1e-5)


def test_two_faces_of_one_frame_are_two_people() -> None:
    frames = [crop(i, mark=0.0, track=0) for i in range(4)]
    twins = [Faces(one.frame, (one, crop(one.frame.index, mark=0.01, track=1))) for one in frames]
    for faces in identify(twins, Reads(), 2, 3, people()):
        assert who(faces) == [(0, None), (1, None)]


def test_a_track_is_the_nearest_reference_or_nobody_else() -> None:
    frames = [crop(i, mark=0.3, track=0) for i in range(4)]
    party = [
        Faces(one.frame, (one, crop(one.frame.index, mark=0.05, track=1), crop(one.frame.index, mark=1.5, track=2)))
        for one in frames
    ]
    for faces in identify(party, Reads(), 2, 3, people({"anna": 0.0, "ben": 3.0})):
        assert who(faces) == [(2, None), (0, "anna"), (3, None)]
        assert angle(Faces(faces.frame, faces.faces[1:])) == pytest.approx(0, abs=1e-5)  # the photograph's own
        assert angle(faces) == pytest.approx(0.3, abs=1e-3)
        person = faces.faces[1].person
        assert person is not None and person.similarity == pytest.approx(np.cos(0.05), abs=1e-3)


def named(one: FaceCrop, name: str) -> FaceCrop:
    return replace(one, face=replace(one.face, name=name))


def test_a_track_that_somebody_named_is_that_person_whatever_it_shows() -> None:
    frames = [Faces(one.frame, (named(one, "anna"), crop(one.frame.index, mark=0.0, track=1))) for one in (crop(0), crop(1))]
    marked = [Faces(one.frame, (replace(one.faces[0], image=crop(0, mark=1.4).image), one.faces[1])) for one in frames]
    anna = torch.tensor([1.0, 0.0])
    photograph = torch.zeros(3, 8, 8)
    for faces in identify(marked, Reads(), 1, 2, People({"anna": anna}, 0.9, 0.95, 8, {"anna": photograph})):
        assert who(faces) == [(0, "anna"), (1, None)], "who looks like her is not her: she is somebody else in the frame"
        assert faces.faces[0].photograph is photograph and faces.faces[1].photograph is None
        assert angle(faces) == pytest.approx(0, abs=1e-5)
        person = faces.faces[0].person
        assert person is not None and person.similarity == pytest.approx(np.cos(1.4), abs=1e-3)


def test_tracks_of_one_name_are_one_person_and_others_may_turn_out_to_be_that_person() -> None:
    marks = [(0.0, "ben"), (1.5, "ben"), (0.75, None), (0.0, "carl")]
    crops = [crop(2 * k + i, track=k, shot=k, mark=mark) for k, (mark, _) in enumerate(marks) for i in range(2)]
    crops = [one if (name := marks[one.face.track][1]) is None else named(one, name) for one in crops]
    everybody = People({}, match=0.9, same=0.95, remember=0, look_back=True)
    known = list(identify(clip(crops), Reads(), 1, 5, everybody))
    assert [who(one)[0] for one in known[::2]] == [(0, "ben"), (0, "ben"), None, (1, "carl")]
    assert angle(known[3]) == pytest.approx(0.75, abs=0.05)
    assert [one.faces[0].earlier is None for one in known[::2]] == [True, False, True, True]
    known = list(identify(clip(crops), Reads(), 1, 5, people()))
    assert [who(one)[0] for one in known[::2]] == [(0, "ben"), (0, "ben"), (0, "ben"), (1, "carl")]


def test_names_go_over_with_the_memory() -> None:
    first, later = ([named(crop(k + i, mark=0.7 * k, track=k, shot=k), "ben") for i in range(2)] for k in (0, 2))
    told: list[PeopleMemory] = []
    before = people()
    (*_, there) = identify(clip([*first, *later]), Reads(), 0, 2, before, lambda _: told.append(before.memory()))
    after = people()
    after.recall(PeopleMemory.of_json(json.loads(json.dumps(told[-1].as_json()))))
    (*_, here) = identify(clip(later), Reads(), 0, 2, after)
    assert who(there) == who(here) == [(0, "ben")] and angle(there) == angle(here) != pytest.approx(1.4, abs=0.1)


def test_the_better_match_takes_a_reference_over() -> None:
    alone = [crop(i, mark=0.4, track=0) for i in range(3)]
    frames = [
        *clip(alone),
        *(Faces(Frame.from_image(PICTURE, i), (crop(i, mark=0.4), crop(i, mark=0.0, track=1))) for i in range(3, 6)),
    ]
    known = list(identify(frames, Reads(), 0, 3, people({"anna": 0.0})))
    assert [who(one) for one in known] == [[(0, "anna")]] * 3 + [[(1, None), (0, "anna")]] * 3


def test_a_track_that_gets_clearer_may_still_turn_out_to_be_somebody() -> None:
    first = [crop(i, mark=0.0) for i in range(3)]
    second = [crop(i, blur=4 if i < 6 else 0, mark=1.0 if i < 6 else 0.0, track=1, shot=1) for i in range(3, 9)]
    known = list(identify(clip([*first, *second]), Reads(), 0, 1, people()))
    assert [who(one)[0] for one in known] == [(0, None)] * 3 + [(1, None)] * 3 + [(0, None)] * 3


def test_people_who_were_not_seen_for_long_are_forgotten_first() -> None:
    crops = [crop(i, mark=mark, track=i, shot=i) for i, mark in enumerate((0.0, 0.7, 1.4, 0.7, 0.0))]
    known = list(identify(clip(crops), Reads(), 0, 1, people(remember=2)))
    assert [who(one)[0] for one in known] == [(0, None), (1, None), (2, None), (1, None), (3, None)]


def test_without_memory_only_photographs_are_recognised() -> None:
    crops = [crop(i, mark=mark, track=i, shot=i) for i, mark in enumerate((1.0, 0.0, 1.0))]
    known = list(identify(clip(crops), Reads(), 0, 1, people({"anna": 0.0}, remember=0)))
    assert [who(one)[0] for one in known] == [None, (0, "anna"), None]


def test_somebody_who_comes_back_brings_the_best_view_of_the_tracks_before() -> None:
    marks = [(0.0, 4), (0.05, 0), (1.2, 0), (0.1, 4), (1.3, 4)]  # direction and blur of each shot
    crops = [crop(2 * k + i, blur, track=k, shot=k, mark=mark) for k, (mark, blur) in enumerate(marks) for i in range(2)]
    everybody = People({}, match=0.9, same=0.95, remember=8, look_back=True)
    shown = [one.faces[0].earlier for one in identify(clip(crops), Reads(), 1, 2, everybody)]
    assert [view is None for view in shown] == [True] * 2 + [False] * 2 + [True] * 2 + [False] * 4
    for number, best in ((2, 0), (6, 2), (8, 4)):  # the sharp one stays, whoever came after it
        view = shown[number]
        assert view is not None and view is shown[number + 1]
        assert float((view - crops[best].image.clamp(-1, 1))[:, 8:, 8:].abs().mean()) < 0.05
    for without in (People({}, 0.9, 0.95, 8), People({}, 0.9, 0.95, 0, look_back=True)):
        assert all(one.faces[0].earlier is None for one in identify(clip(crops), Reads(), 1, 2, without))


def test_within_a_shot_a_track_that_has_been_away_for_long_is_an_earlier_one() -> None:
    here = [crop(i) if i < 3 else crop(i, blur=3, track=1) if i > 60 else None for i in range(64)]
    film = [Faces(Frame.from_image(PICTURE, i)) if one is None else Faces(one.frame, (one,)) for i, one in enumerate(here)]
    known = list(identify(film, Reads(), 1, 2, People({}, 0.9, 0.95, 8, look_back=True)))
    assert [one.faces[0].earlier is None for one in known if one.faces] == [True] * 3 + [False] * 3


def test_a_view_of_somebody_whom_only_a_photograph_resembles_is_shown_to_nobody() -> None:
    crops = [crop(i, mark=mark, track=i, shot=i) for i, mark in enumerate((0.4, -0.4, 0.35))]  # all of them called anna
    anna = torch.tensor([1.0, 0.0])
    known = list(identify(clip(crops), Reads(), 0, 1, People({"anna": anna}, 0.9, 0.95, 8, look_back=True)))
    assert [who(one)[0] for one in known] == [(0, "anna")] * 3
    assert [one.faces[0].earlier is None for one in known] == [True, True, False]


def test_views_go_over_with_the_memory_exactly() -> None:
    first, later = ([crop(k + i, mark=0.1, track=k, shot=k) for i in range(2)] for k in (0, 2))
    told: list[PeopleMemory] = []
    before = People({}, 0.9, 0.95, 8, look_back=True)
    (*_, there) = identify(clip([*first, *later]), Reads(), 0, 1, before, lambda _: told.append(before.memory()))
    after = People({}, 0.9, 0.95, 8, look_back=True)
    after.recall(PeopleMemory.of_json(json.loads(json.dumps(told[-1].as_json()))))
    (*_, here) = identify(clip(later), Reads(), 0, 1, after)
    assert there.faces[0].earlier is not None and here.faces[0].earlier is not None
    assert torch.equal(there.faces[0].earlier, here.faces[0].earlier)


def test_views_are_kept_of_the_people_who_were_seen_last() -> None:
    marks = [0.4 * k for k in range(20)]
    everybody = People({}, match=0.9, same=0.99, remember=64, look_back=True)
    crops = [crop(k, mark=mark, track=k, shot=k) for k, mark in enumerate([*marks[:15], *marks[:15]])]
    assert len(list(identify(clip(crops), Reads(), 0, 1, everybody))) == 30
    assert [number for number, _ in everybody.memory().views] == list(range(15))
    few = People({}, match=0.9, same=0.99, remember=3, look_back=True)
    list(identify(clip(crops[:10]), Reads(), 0, 1, few))
    assert {number for number, _ in few.memory().views} <= {one.number for one in few.memory().met} | {6}


def gathered(crops: Sequence[FaceCrop], cast: Cast | None = None, references: dict[str, float] | None = None) -> Cast:
    """Whom a film shows."""
    everybody = People.gathering(directions(references), 0.9, 0.95, 8, cast, 2)
    list(identify(clip(crops), Reads(), 1, 2, everybody))
    return everybody.gathered()


def knowing(cast: Cast, remember: int = 8, references: dict[str, float] | None = None) -> People:
    return People(directions(references), 0.9, 0.95, remember, cast=cast)


COMES_BACK = [(0.0, 4), (1.2, 0), (0.05, 0), (0.1, 4)]
"""Direction and blur of each shot."""


def shots(marks: Sequence[tuple[float, float]], first: int = 0) -> list[FaceCrop]:
    return [crop(2 * k + i, blur, first + k, first + k, mark) for k, (mark, blur) in enumerate(marks) for i in range(2)]


def test_who_is_known_from_the_start_is_known_in_the_first_shot() -> None:
    film = shots(COMES_BACK)
    cast = gathered(film)
    assert len(cast.members) == 2 and dict(cast.tracks) == {0: 0, 1: 1, 2: 0, 3: 0}
    known = list(identify(clip(film), Reads(), 1, 2, knowing(cast)))
    assert [who(one)[0] for one in known[::2]] == [(0, None), (1, None), (0, None), (0, None)]
    assert len({angle(one) for one in (known[0], known[4], known[6])}) == 1, "one identity, of the best views of the whole film"
    assert angle(known[0]) == pytest.approx(0.05, abs=0.03)
    shown = [one.faces[0].earlier for one in known]
    assert all(view is not None for view in shown)
    for number, best in ((0, 4), (2, 2), (4, 4), (6, 4)):
        view = shown[number]
        assert view is not None and float((view - film[best].image.clamp(-1, 1))[:, 8:, 8:].abs().mean()) < 0.05


def test_what_a_track_is_known_to_be_counts_though_it_looks_otherwise() -> None:
    cast = Cast(gathered(shots([(0.0, 0)])).members, {0: 0, 2: 0})
    film = shots([(1.5, 0), (1.4, 0), (0.7, 0)])
    known = list(identify(clip(film), Reads(), 1, 2, knowing(cast)))
    assert [who(one)[0] for one in known[::2]] == [(0, None), (1, None), (0, None)]
    person = known[0].faces[0].person
    assert person is not None and person.similarity == pytest.approx(np.cos(1.5), abs=1e-3)
    assert known[0].faces[0].earlier is not None and known[2].faces[0].earlier is None


def test_people_of_another_film_are_recognised_and_do_not_change() -> None:
    cast = replace(gathered(shots(COMES_BACK)), tracks={})
    film = shots([(0.15, 0), (0.7, 0), (1.25, 0), (0.0, 0)])
    everybody = knowing(cast)
    known = list(identify(clip(film), Reads(), 1, 2, everybody))
    assert [who(one)[0] for one in known[::2]] == [(0, None), (2, None), (1, None), (0, None)]
    assert angle(known[0]) == angle(known[6]) == pytest.approx(0.05, abs=0.03)
    assert [one.faces[0].earlier is None for one in known[::2]] == [False, True, False, False]
    assert [one.number for one in everybody.memory().met] == [2], "what goes over a cut is what the film made known"
    known = list(identify(clip(film), Reads(), 1, 2, knowing(cast, remember=0)))
    assert [who(one)[0] for one in known[::2]] == [(0, None), None, (1, None), (0, None)]


def test_people_of_another_film_go_on_learning_where_they_are_gathered_again() -> None:
    before = gathered(shots([(0.0, 4), (1.2, 0)]))
    after = gathered(shots([(0.1, 0), (2.5, 0)]), before)
    assert [round(float(torch.atan2(one.identity[1], one.identity[0])), 1) for one in after.members] == [0.1, 1.2, 2.5]
    assert dict(after.tracks) == {0: 0, 1: 2}
    old, new = before.members[0].view, after.members[0].view
    assert old is not None and new is not None and new.quality > old.quality
    assert before.members[1].view is not None and after.members[1].view is not None
    assert torch.equal(before.members[1].view.image, after.members[1].view.image)


def test_somebody_of_a_photograph_brings_the_best_view_of_the_film_along() -> None:
    film = shots([(0.2, 4), (0.1, 0), (1.5, 0)])
    cast = gathered(film, references={"anna": 0.0})
    assert [one.name for one in cast.members] == ["anna", None] and dict(cast.tracks) == {0: 0, 1: 0, 2: 1}
    known = list(identify(clip(film), Reads(), 1, 2, knowing(cast, references={"anna": 0.0})))
    assert [who(one)[0] for one in known[::2]] == [(0, "anna"), (0, "anna"), (1, None)]
    assert angle(known[0]) == pytest.approx(0, abs=1e-5), "who she is the photograph says"
    assert known[0].faces[0].earlier is not None
    alone = list(identify(clip(shots([(0.0, 0), (1.5, 0)])), Reads(), 1, 2, knowing(replace(cast, tracks={}))))
    assert [who(one)[0] for one in alone[::2]] == [(0, "anna"), (1, None)], "without the photograph the file says it"


def test_a_name_of_a_track_is_that_of_the_people_who_are_known() -> None:
    (one,) = gathered(shots([(0.0, 0)])).members
    cast = Cast((replace(one, name="ben"),))
    film = [named(one, "ben") for one in shots([(1.5, 0)])]
    (first, _) = identify(clip(film), Reads(), 1, 2, knowing(cast))
    assert who(first) == [(0, "ben")] and angle(first) == pytest.approx(0, abs=1e-5)


def test_only_those_who_are_wanted_go_on_and_the_others_are_told() -> None:
    frames = [Faces(Frame.from_image(PICTURE, i), (crop(i, mark=1.5, track=0), crop(i, mark=0.0, track=1))) for i in range(3)]
    passed: list[FaceCrop] = []
    known = identify(frames, Reads(), 0, 1, people({"anna": 0.0}))
    left = list(chosen(known, lambda crop: crop.person is not None and crop.person.name == "anna", passed.append))
    assert [who(one) for one in left] == [[(0, "anna")]] * 3
    assert [one.face.track for one in passed] == [0] * 3
    assert [one.frame.index for one in left] == [0, 1, 2]


def test_a_view_that_stands_apart_weighs_little() -> None:
    def direction(mark: float) -> Tensor:
        return torch.tensor([np.cos(mark), np.sin(mark)]).float()

    calm = pooled([(0.5, direction(mark)) for mark in (0.0, 0.02, -0.02, 0.01)])
    mixed = pooled([(0.5, direction(mark)) for mark in (0.0, 0.02, -0.02, 0.01, 1.5)])
    assert calm is not None and mixed is not None and pooled([]) is None
    assert float(torch.acos(calm @ mixed)) < 0.03  # the plain mean would be 0.24 away


def test_quality_prefers_open_eyes() -> None:
    luma = np.full((64, 64, 3), 0.3, np.float32)
    matrix = geometry.ffhq_matrix(FACE, 64)
    open_, shut = luma.copy(), luma.copy()
    for x, y in geometry.moved(FACE[:2], matrix):
        cv2.circle(open_, (round(x), round(y)), 2, (-0.8,) * 3, -1)
        cv2.line(shut, (round(x) - 3, round(y)), (round(x) + 3, round(y)), (-0.8,) * 3, 1)
    seen = [replace(crop(0), image=torch.from_numpy(image.transpose(2, 0, 1).copy())) for image in (open_, shut)]
    assert appearance.edges(open_[..., 0]) < 1.5 * appearance.edges(shut[..., 0])
    assert quality(seen[0]) > 1.2 * quality(seen[1])


def test_a_recognizer_that_fails_stops_at_its_frame() -> None:
    class Stranger(Reads):
        def embed(self, crops: Tensor) -> Tensor:
            if (crops[:, 0, 0, 0] == 1).any():
                raise RuntimeError("who?")
            return super().embed(crops)

    class Short(Reads):
        def embed(self, crops: Tensor) -> Tensor:
            return super().embed(crops)[1:]

    film = clip([crop(0, track=4), crop(1, track=5, mark=1.0)])
    with pytest.raises(RestorationError, match=r"frame 1, track 5: the recognizer raised RuntimeError: who\?"):
        list(identify(film, Stranger(), window=0))
    with pytest.raises(RestorationError, match=r"frame 0, track 4: the recognizer gave \(0, 2\), expected \(1, any\)"):
        list(identify(film, Short(), window=0))


@pytest.mark.parametrize("given", [None, torch.ones(2), torch.ones(3, 2)])
def test_what_is_no_embedding_is_named_where_the_recognizer_gave_it(given: Tensor | None) -> None:
    class Gives:
        def embed(self, crops: Tensor) -> Tensor:
            return given  # type: ignore[return-value]

    with pytest.raises(RestorationError, match=r"frame 0, track 0: the recognizer gave .*, expected (a tensor )?\(1, any\)"):
        list(identify(clip([crop(0)]), Gives(), window=0, views=1))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.tensor([[3.0, 4.0]]), "gave a vector of length 5, expected 1; divide each by its length"),
        (torch.zeros(1, 0), r"gave \(1, 0\), expected vectors with numbers in them"),
    ],
)
def test_vectors_that_are_no_directions_are_named(given: Tensor, expected: str) -> None:
    class Gives:
        def embed(self, crops: Tensor) -> Tensor:
            return given

    with pytest.raises(RestorationError, match=f"^frame 0, track 0: the recognizer {expected}$"):
        list(identify(clip([crop(0)]), Gives(), window=0))


def test_vectors_of_another_length_than_before_are_named() -> None:
    class Grows:
        length = 1

        def embed(self, crops: Tensor) -> Tensor:
            self.length += 1
            return torch.nn.functional.normalize(torch.ones(len(crops), self.length), dim=1)

    with pytest.raises(RestorationError, match=r"^frame 1, track 0: the recognizer gave vectors of 3 numbers, and 2 before$"):
        list(identify(clip([crop(0, blur=2), crop(1)]), Grows(), window=0))


def test_a_recognizer_may_use_its_memory_again() -> None:
    class Again(Reads):
        memory = torch.zeros(1, 2)

        def embed(self, crops: Tensor) -> Tensor:
            return self.memory.copy_(super().embed(crops))

    film = clip([crop(0, mark=0.1), crop(1, blur=2, mark=0.5)])
    expected = [angle(one) for one in identify(film, Reads(), window=0)]
    assert [angle(one) for one in identify(film, Again(), window=0)] == pytest.approx(expected, abs=1e-6)
    assert expected[1] < 0.49

"""The table of held-out stills: fair inputs, every row scored, nothing silently untested."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from videoclr.models.closeup import CloseUp
from videoclr.parts.clr import ClrNetworks

ROOT = Path(__file__).resolve().parents[2]
JUDGE = """
import numpy as np

class Judges:
    pass

def score(judges, clean, other):
    assert isinstance(judges, Judges) and len(clean) == len(other)
    assert all(a.shape == b.shape and a.dtype == b.dtype == np.uint8 for a, b in zip(clean, other))
    return {"n": len(clean), "psnr": round(float(-np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(clean, other)])), 4)}
"""


@pytest.fixture(scope="module")
def evaluate():
    """The program as a module; `pipelines/` is no package."""
    spec = importlib.util.spec_from_file_location("evaluate", ROOT / "pipelines/evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(tmp_path):
    """Three drawn faces, a judge, and a folder in which nothing was trained yet."""
    for name in ("faces", "runs"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        picture = np.full((64, 64, 3), rng.integers(30, 220, 3), np.uint8)
        cv2.ellipse(picture, (32, 32), (21, 26), 0, 0, 360, tuple(int(c) for c in rng.integers(30, 220, 3)), -1)
        cv2.imwrite(str(tmp_path / f"faces/{number}.png"), picture)
    (tmp_path / "judge.py").write_text(JUDGE)
    places = {"faces": "faces", "judge": "judge.py", "checkpoints": "runs", "out": "out"}
    return [a for k, v in places.items() for a in (f"--{k}", str(tmp_path / v))] + ["--size", "64", "--steps", "1"]


def run(evaluate, monkeypatch, *arguments):
    torch.manual_seed(0)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    evaluate.main()


def test_close_ups_are_scored_at_twice_the_size_with_their_network_and_without(evaluate, arguments, monkeypatch, tmp_path):
    for number in (1, 2):  # the third is too small
        path = str(tmp_path / f"faces/{number}.png")
        cv2.imwrite(path, cv2.resize(cv2.imread(path), (128, 128)))
    network = CloseUp()
    torch.nn.init.normal_(network.out[1].weight, std=0.05)
    (tmp_path / "runs/closeup").mkdir()
    state = {f"closeup.{name}": value for name, value in network.state_dict().items()}
    torch.save({"ema": state, "step": 1, "spent": 1.0}, tmp_path / "runs/closeup/checkpoint.pt")
    run(evaluate, monkeypatch, *arguments, "--rows", "input", "--close-ups")
    table = json.loads((tmp_path / "out/closeups.json").read_text())
    assert list(table) == ["slight", "soft", "mild"]
    for level, rows in table.items():
        assert list(rows) == ["input", "kept", "detailed"] and all(row["n"] == 2 for row in rows.values())
        assert rows["kept"]["psnr"] != rows["detailed"]["psnr"]
        assert cv2.imread(str(tmp_path / f"out/closeups_{level}.png")).shape == (64, 3 * 4 * 64, 3)
    assert table["mild"]["input"]["psnr"] < table["soft"]["input"]["psnr"] < table["slight"]["input"]["psnr"] < 0
    assert "| soft | detailed |" in (tmp_path / "out/closeups.md").read_text()


def test_every_row_is_scored_on_the_same_seeded_inputs(evaluate, arguments, monkeypatch, tmp_path):
    run(evaluate, monkeypatch, *arguments, "--rows", "input,vqgan,irn,full")
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert {level: list(rows) for level, rows in table.items()} == {
        "clean": ["vqgan"],
        "mild": ["input", "irn", "full"],
        "heavy": ["input", "irn", "full"],
    }
    assert all(row["n"] == 3 for rows in table.values() for row in rows.values())
    assert table["heavy"]["input"]["psnr"] < table["mild"]["input"]["psnr"] < 0
    assert "| heavy | full |" in (tmp_path / "out/table.md").read_text()
    for level in ("mild", "heavy"):  # degraded, IRN, full and clean, three faces abreast
        assert cv2.imread(str(tmp_path / f"out/{level}.png")).shape == (160, 3 * 4 * 160, 3)
    run(evaluate, monkeypatch, *arguments, "--rows", "input", "--limit", "2")
    again = json.loads((tmp_path / "out/table.json").read_text())
    assert again["mild"]["input"]["n"] == 2
    run(evaluate, monkeypatch, *arguments, "--rows", "input")
    again = json.loads((tmp_path / "out/table.json").read_text())
    assert again["mild"]["input"]["psnr"] == table["mild"]["input"]["psnr"]


def test_a_row_or_a_folder_that_is_not_there_is_named(evaluate, arguments, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit, match="unknown rows best; there are vqgan, input"):
        run(evaluate, monkeypatch, *arguments, "--rows", "input,best")
    (tmp_path / "runs").rmdir()
    with pytest.raises(SystemExit):
        run(evaluate, monkeypatch, *arguments)
    assert "runs: no such folder" in capsys.readouterr().err


def test_faces_as_they_are_filmed_are_scored_without_the_look(evaluate, arguments, monkeypatch, tmp_path, capsys):
    looks = [look for look in evaluate.FILMED if look]
    run(evaluate, monkeypatch, *arguments, "--rows", "input", "--filmed", ",".join(["", *looks]))
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert list(table) == [*(level + (look and f", {look}") for level in ("mild", "heavy") for look in ("", *looks))]
    plain = table["mild"]["input"]["psnr"]
    for look in looks:  # the stub's figure is the mean difference; what is lost are steps of 8 bits, and noise
        lost = plain - table[f"mild, {look}"]["input"]["psnr"]
        assert lost < (14 if look == "noisy" else 4) and (look != "noisy" or lost > 3)
    dark = evaluate.as_filmed(np.full((4, 4, 3), 200, np.uint8), "dark", "one")
    assert (dark == 40).all()
    with pytest.raises(SystemExit):
        run(evaluate, monkeypatch, *arguments, "--filmed", "green")
    assert "--filmed green: unknown; there are logarithmic, pale" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [("--limit", "-1"), ("--steps", "0"), ("--size", "4")])
def test_numbers_out_of_range_are_wrong_usage(evaluate, arguments, monkeypatch, capsys, bad):
    with pytest.raises(SystemExit) as left:
        run(evaluate, monkeypatch, *arguments, *bad)
    assert left.value.code == 2 and bad[0] in capsys.readouterr().err.splitlines()[-1]


def test_one_face_has_no_figures_of_sets(evaluate, arguments, monkeypatch, tmp_path):
    spread = "np.cov([a.mean() for a in clean])"
    (tmp_path / "judge.py").write_text(JUDGE.replace('"psnr"', f'"ffd": float({spread}), "psnr"'))
    with pytest.warns(RuntimeWarning):
        run(evaluate, monkeypatch, *arguments, "--rows", "input", "--limit", "1")
    written = (tmp_path / "out/table.json").read_text()
    assert json.loads(written)["mild"]["input"].keys() == {"n", "psnr", "sharpness", "seconds"} and "NaN" not in written
    alone = "    if len(clean) < 2:\n        raise ValueError('no spread')\n    return"
    (tmp_path / "judge.py").write_text(JUDGE.replace("    return", alone))
    with pytest.raises(
        SystemExit, match=r"score failed on one face \(what compares sets needs more of them\): ValueError: no spread"
    ):
        run(evaluate, monkeypatch, *arguments, "--rows", "input", "--limit", "1")


def test_a_device_that_is_not_here_is_one_line(evaluate, arguments, monkeypatch):
    with pytest.raises(SystemExit, match="cuda:99 is not here, torch sees"):
        run(evaluate, monkeypatch, *arguments, "--device", "cuda:99")


def test_a_judge_that_fails_is_named_in_one_line(evaluate, arguments, monkeypatch, tmp_path):
    judge = tmp_path / "judge.py"
    for text, says in (
        ("def score(judges, clean, other):\n    raise ArithmeticError('no\\nfigure')\n", "ArithmeticError: no figure"),
        ("def score(judges, clean, other):\n    return None\n", "TypeError: "),
        ("", "AttributeError: "),
    ):
        judge.write_text("class Judges:\n    pass\n\n" + text)
        with pytest.raises(SystemExit) as ended:
            run(evaluate, monkeypatch, *arguments, "--rows", "input")
        assert str(ended.value).startswith(f"{judge}: score failed: {says}") and "\n" not in str(ended.value)


def test_each_row_asks_the_restorer_for_what_its_name_says(evaluate):
    networks = ClrNetworks().requires_grad_(False).eval()
    asked = []

    def spy(**settings):
        asked.append({k: v for k, v in settings.items() if k not in ("networks", "device")})
        return ClrRestorer(**settings)

    ClrRestorer = evaluate.ClrRestorer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "ClrRestorer", spy)
        table = evaluate.restorers(networks, ["input", "full", "1 step", "fidelity 0.25"], "cpu", 4)
    assert list(table) == ["input", "full", "1 step", "fidelity 0.25"]
    for wanted in ({"steps": 4}, {"steps": 1}, {"steps": 4, "guidance": 0.0}, {"steps": 4, "fidelity": 0.25}):
        assert wanted in asked
    y = torch.rand(1, 3, 64, 64)
    assert table["input"](y) is y


def test_sharpness_is_one_for_the_truth_and_less_for_a_blur(evaluate):
    rng = np.random.default_rng(0)
    clean = [rng.integers(0, 255, (32, 32, 3)).astype(np.uint8) for _ in range(2)]
    assert evaluate.sharpness(np.stack(clean), clean) == 1.0
    assert 0 < evaluate.sharpness(np.stack(clean), [cv2.GaussianBlur(c, (0, 0), 1.5) for c in clean]) < 0.2


def test_the_table_leaves_blank_what_a_judge_does_not_give(evaluate):
    lines = evaluate.markdown({"mild": {"input": {"psnr": 20.5, "sharpness": 0.3}}}).splitlines()
    assert lines[0] == "| level | row | psnr | ssim | ids | ffd | facefeat | sqd | lmd | sharpness |"
    assert lines[2] == "| mild | input | 20.5 |  |  |  |  |  |  | 0.3 |"
    assert len({line.count("|") for line in lines}) == 1


def test_the_sheet_shows_faces_in_order_three_abreast_in_rgb(evaluate, tmp_path):
    columns = [[np.full((8, 8, 3), (10 * i, 50 * c, 200), np.uint8) for i in range(4)] for c in range(2)]
    evaluate.sheet(columns, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[:, :, ::-1]
    assert sheet.shape == (2 * 160, 3 * 2 * 160, 3)
    assert sheet[80, 80].tolist() == [0, 0, 200] and sheet[80, 240].tolist() == [0, 50, 200]
    assert sheet[80, 400].tolist() == [10, 0, 200] and sheet[240, 80].tolist() == [30, 0, 200]
    assert sheet[240, 400].tolist() == [255, 255, 255]


def test_the_sheet_spreads_over_a_long_list(evaluate, tmp_path):
    evaluate.sheet([[np.full((4, 4, 3), i, np.uint8) for i in range(101)]], tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (8 * 160, 3 * 160, 3)
    assert (sheet[0, 0, 0], sheet[-1, -1, 0]) == (0, 100)


def test_groups_are_scored_each_for_itself(evaluate, arguments, monkeypatch, tmp_path):
    digest = hashlib.sha256(b"0.png").hexdigest()[:16]
    (tmp_path / "groups.tsv").write_text(f"{digest}\told\n2.png\told\n1.png\tyoung\nelsewhere/9.png\told\n\n")
    run(evaluate, monkeypatch, *arguments, "--rows", "input", "--groups", str(tmp_path / "groups.tsv"))
    groups = json.loads((tmp_path / "out/groups.json").read_text())
    assert {name: rows["input"]["n"] for name, rows in groups.items()} == {"mild, old": 2, "heavy, old": 2}
    assert "| mild, old | input | 2 |" in (tmp_path / "out/groups.md").read_text()


@pytest.mark.parametrize(
    ("text", "message"), [("0.png old", "line 1: expected a file, a tab"), ("0.png\told", "no group holds two")]
)
def test_a_list_of_groups_that_says_nothing_is_refused(evaluate, tmp_path, text, message):
    (tmp_path / "groups.tsv").write_text(text)
    with pytest.raises(SystemExit, match=message):
        evaluate.groups_of(tmp_path / "groups.tsv", ["0.png", "1.png"])
    with pytest.raises(SystemExit, match="no such file"):
        evaluate.groups_of(tmp_path / "none.tsv", ["0.png"])


def test_the_mask_keeps_guidance_where_it_belongs(evaluate, arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "LEVELS", ("mild",))
    monkeypatch.setattr(evaluate, "at_equal_gain", lambda masked, unmasked, _: {"masked": masked(0.3), "unmasked": unmasked(0.3)})
    run(evaluate, monkeypatch, *arguments, "--rows", "input", "--mask-proof", "--limit", "1")
    rows = json.loads((tmp_path / "out/mask.json").read_text())["mild"]
    assert list(rows) == ["unguided", "default", "masked", "unmasked"]
    assert [rows["unguided"][name] for name in ("strength", "gain", "mean_change", "pixels_changed")] == [0, 0, 0, 0]
    assert rows["default"]["strength"] == 0.105 and rows["default"]["mean_change"] > 0
    # of equal strength, guidance that may go everywhere moves more
    assert rows["unmasked"]["mean_change"] > rows["masked"]["mean_change"] > rows["default"]["mean_change"]
    assert "| mild | default | 0.105 |" in (tmp_path / "out/mask.md").read_text()


def test_faces_are_compared_where_the_networks_are(evaluate):
    class Elsewhere(torch.nn.Linear):
        def embed(self, crop):
            assert crop.device == self.weight.device
            return torch.full((1, 4), 3.0)

    networks = SimpleNamespace(recognizer=Elsewhere(2, 2, device="meta"))
    assert evaluate.identity_of(networks, torch.zeros(1, 3, 8, 8)).tolist() == [0.5] * 4


def test_equal_gain_is_the_most_that_both_can_reach_at_the_least_strength(evaluate):
    asked = []

    def guided(peak):
        """A gain that rises to `peak` at the strength 0.1 and falls again."""

        def of(strength):
            asked.append(strength)
            return evaluate.Guided(strength, peak * (strength / 0.1) * (2 - strength / 0.1), 0.0, 0.0, [])

        return of

    rows = evaluate.at_equal_gain(guided(4.0), guided(1.0), around=0.1)
    assert rows["unmasked"].strength == pytest.approx(0.1)
    assert rows["masked"].gain == pytest.approx(1.0, rel=0.05)
    assert rows["masked"].strength == pytest.approx(0.1 * (1 - 0.75**0.5), rel=0.05)
    assert len(asked) < 25
    assert evaluate.at_equal_gain(guided(4.0), guided(-1.0), around=0.1) == {}


def test_the_dial_says_whether_a_figure_goes_one_way(evaluate):
    rows = {
        "full": {"psnr": 22.0, "ids": 0.4},
        "fidelity 1.0": {"psnr": 23.0, "ids": 0.3},
        "fidelity 0.0": {"psnr": 21.0, "ids": 0.35},
    }
    curve = evaluate.dial(rows)
    assert list(curve) == ["fidelity 0.0", "fidelity 0.5", "fidelity 1.0", "along the dial"]
    assert [values["psnr"] for values in curve.values()] == [21.0, 22.0, 23.0, "up"]
    assert curve["along the dial"]["ids"] == "back and forth"
    assert evaluate.dial({"full": rows["full"], "fidelity 1.0": rows["full"]}) == {}


def test_a_reference_is_another_picture_of_the_same_person(evaluate, arguments, monkeypatch, tmp_path):
    (tmp_path / "who.tsv").write_text("file\tidentity\nfaces/0.png\tanna\nfaces/1.png\tanna\nfaces/2.png\tben\n")
    with pytest.raises(SystemExit, match="fewer than two people of whom there are two pictures"):
        run(evaluate, monkeypatch, *arguments, "--rows", "input", "--identities", str(tmp_path / "who.tsv"))
    with pytest.raises(SystemExit, match=r"nobody\.tsv: no such file"):
        run(evaluate, monkeypatch, *arguments, "--rows", "input", "--identities", str(tmp_path / "nobody.tsv"))
    shutil.copy(tmp_path / "faces/0.png", tmp_path / "faces/3.png")
    (tmp_path / "who.tsv").write_text("file\tidentity\n0.png\tanna\n1.png\tanna\n2.png\tben\n3.png\tben\n")
    told = []
    restore = evaluate.ClrRestorer.restore_stills

    def spy(self, y, known=(), photographs=()):
        told.append((self.guidance > 0, [None if one is None else one.shape for one in (*known, *photographs)]))
        return restore(self, y, known, photographs)

    monkeypatch.setattr(evaluate.ClrRestorer, "restore_stills", spy)
    run(evaluate, monkeypatch, *arguments, "--rows", "input", "--identities", str(tmp_path / "who.tsv"))
    table = json.loads((tmp_path / "out/reference.json").read_text())
    assert (
        list(table["heavy"]) == ["input", "no guidance", "full", "guided by the reference", "reference"]
        and table["mild"]["reference"]["n"] == 2
    )
    nobody, someone, shown = [None, None], [torch.Size([128]), None], [torch.Size([128]), torch.Size([3, 64, 64])]
    assert told[:8] == [(False, nobody)] * 2 + [(True, nobody)] * 2 + [(True, someone)] * 2 + [(True, shown)] * 2
    assert "| heavy | reference | 2 |" in (tmp_path / "out/reference.md").read_text()

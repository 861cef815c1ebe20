"""Broken inputs end in success or one error, and the program that says so notices what is neither."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal  # noqa: F401  what the fakes below are made of
import sys
import time  # noqa: F401
from pathlib import Path

import pytest
import torch

from videoclr.process import use_threads

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("torture", ROOT / "pipelines/torture.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["torture"] = module  # its detector is named as `torture:Nobody`
    spec.loader.exec_module(module)
    logging.getLogger("videoclr").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    yield module
    use_threads(threads)
    logging.getLogger("videoclr").setLevel(logging.NOTSET)
    del sys.modules["torture"]


@pytest.fixture(scope="module")
def whole(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    return folder, program.corpus(folder)


@pytest.mark.slow
def test_the_corpus_is_small_and_the_same_every_time(program, whole, tmp_path):
    _, cases = whole
    assert sum(len(case.data) for case in cases) < 200_000
    assert {case.kind for case in cases} == {"file", "pipe", "list", "settings", "ledger", "sealed"}
    assert {Path(case.name).suffix for case in cases} >= {
        ".mp4",
        ".mkv",
        ".mov",
        ".ts",
        ".nut",
        ".avi",
        ".webm",
        ".mxf",
        ".flv",
        ".png",
        ".jsonl",
        ".packets",
        ".faces",
        ".mark",
        ".state",
    }
    again = program.corpus(tmp_path)
    assert [case.name for case in again] == [case.name for case in cases]


def test_mutations_follow_from_seed_and_number(program):
    cases = [program.Case("file", f"{number}.mkv", bytes(range(256)) * 8) for number in range(5)]
    first, again, other = (list(program.cases(cases, 40, seed)) for seed in (1, 1, 2))
    assert first == again
    assert sum(one != two for one, two in zip(first, other, strict=True)) > 30
    valid = {(case.kind, case.name): case.data for case in cases}
    assert sum(case.data != valid[case.kind, case.name] for _, case in first) > 35


@pytest.mark.slow
def test_every_whole_input_is_restored(program, whole, tmp_path):
    folder, cases = whole
    ends = {}
    for number, case in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        ends[case.kind, case.name] = program.attempt(case, folder, tmp_path / str(number), program.Limits())
    assert {name: (end, said) for name, (end, said) in ends.items() if end != "restored"} == {}


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("time.sleep(60)", "no end in time"),
        ("raise RuntimeError('x')", "exit code 70"),
        (
            "sys.stderr.write('videoclr: error: unexpected KeyError: 1 (--verbose shows where)\\n') and 0 or 1",
            "an error that nobody meant",
        ),
        ("sys.stderr.write('videoclr: error: a\\nvideoclr: error: b\\n') and 0 or 1", "not one line"),
        ("open(argv[2], 'w').close() or sys.stderr.write('videoclr: error: a\\n') and 0 or 1", "something left behind"),
        ("0", "success without a result"),
        ("sys.stderr.write('videoclr: error: a\\n') and 0 or 1", "refused"),
    ],
)
def test_what_is_no_good_end_is_noticed(program, monkeypatch, tmp_path, body, end):
    def fake(argv):
        if body.startswith(("raise", "time", "os.kill")):
            exec(body)
        return eval(body)

    monkeypatch.setattr(program.cli, "main", fake)
    case = program.Case("file", "a.mp4", b"")
    assert program.attempt(case, tmp_path, tmp_path, program.Limits(seconds=1))[0] == end


def test_faults_are_kept_and_fail_the_program(program, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(program, "attempt", lambda case, *_: ("killed by SIGSEGV", "x") if case.kind == "list" else ("refused", ""))
    args = program.arguments(["fuzz", "--cases", "101", "--out", str(tmp_path)])
    assert args.run(args) == 1
    assert [path.name.partition("-")[2] for path in (tmp_path / "faults").iterdir()] == ["list-all.ffconcat"] * 2
    figures = json.loads((tmp_path / "fuzz.json").read_text())
    assert figures["ends"]["list"] == {"killed by SIGSEGV": 2}
    assert "| list | 2 | 0 | 0 | 2 |" in (tmp_path / "fuzz.md").read_text()


def test_a_job_that_went_on_and_made_something_else_is_noticed(program, monkeypatch, tmp_path):
    valid, folder = tmp_path / "valid", tmp_path / "case"
    (valid / "kept.mkv.resume").mkdir(parents=True)
    folder.mkdir()
    for name in ("long.mkv", "whole.mkv"):
        (valid / name).write_bytes(name.encode())
    monkeypatch.setattr(program, "_verdict", lambda *_: "restored")
    monkeypatch.setattr(program.cli, "main", lambda argv: Path(argv[2]).write_bytes(b"another") and 0)
    case = program.Case("ledger", "000000.mark", b"")
    assert program.attempt(case, valid, folder, program.Limits())[0] == "another result"


@pytest.mark.parametrize(("made", "code", "row"), [(b"whole", 0, "| 3 | 1 films"), (b"torn", 1, "| 3 | 0 films")])
def test_kills_are_counted_and_another_film_is_a_fault(program, monkeypatch, tmp_path, made, code, row):
    def half_done(folder):
        (folder / "long.mkv").touch()
        (folder / "whole.mkv").write_bytes(b"whole")

    ends = iter([0, None, None, None, 0])

    def tried(case, folder, limits):
        end = next(ends)
        if end == 0:
            (folder / "out/out.mkv").write_bytes(made)
        return end

    monkeypatch.setattr(program, "half_done", half_done)
    monkeypatch.setattr(program, "_tried", tried)
    args = program.arguments(["kills", "--count", "3", "--out", str(tmp_path)])
    assert args.run(args) == code
    assert row in (tmp_path / "kills.md").read_text()


@pytest.mark.slow
def test_kills_at_random_moments(program, tmp_path):
    args = program.arguments(["kills", "--count", "5", "--out", str(tmp_path)])
    assert args.run(args) == 0


@pytest.mark.slow
def test_five_minutes_of_broken_inputs(program, tmp_path, capsys):
    args = program.arguments(["fuzz", "--cases", "2000", "--minutes", "5", "--seed", "7", "--out", str(tmp_path)])
    assert args.run(args) == 0, capsys.readouterr().out


@pytest.mark.parametrize("bad", ["--minutes=nan", "--limit=inf", "--limit=0", "--memory=-1", "--cases=0", "--seed=-1"])
def test_numbers_that_make_no_sense_are_wrong_usage(program, tmp_path, capsys, bad):
    with pytest.raises(SystemExit) as left:
        program.arguments(["fuzz", "--out", str(tmp_path), bad])
    assert left.value.code == 2 and bad.partition("=")[0] in capsys.readouterr().err.splitlines()[-1]

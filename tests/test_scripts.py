"""What the scripts say of the world outside: known vulnerabilities, and who signed the weights."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def script(name: str) -> Any:
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


AUDITOR = """#!{python}
import json, sys
given = dict(zip(sys.argv[1::1], sys.argv[2::1]))
pins = [line.strip().split("==") for line in open(given["--requirement"])]
answer = {answer}
if answer is None:
    sys.exit("ConnectionError: no such host")
told = [dict(name=name, version=version, vulns=answer.get(name, [])) for name, version in pins if answer.get(name) != "skip"]
json.dump(dict(dependencies=told, fixes=[]), open(given["--output"], "w"))
sys.exit(1 if any(one["vulns"] for one in told) else 0)
"""
FLAW = {"id": "PYSEC-1", "aliases": ["CVE-7"], "fix_versions": ["3.0"]}


@pytest.fixture
def audit(tmp_path, monkeypatch):
    """Runs `scripts/audit` on a small lock with a pip-audit that answers so; None cannot reach the service."""
    lock = tmp_path / "lock.txt"
    lock.write_text("# made\none==1.0 \\\n    --hash=sha256:00\ntwo-b==2.0+cpu \\\n    --hash=sha256:11\n")
    program = script("audit")

    def run(answer: Any, explained: dict[str, str] | None = None, locks: bool = False) -> int:
        tool = tmp_path / "pip-audit"
        tool.write_text(AUDITOR.replace("{python}", sys.executable).replace("{answer}", repr(answer)))
        tool.chmod(0o755 if answer != "absent" else 0o644)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(program, "EXPLAINED", explained or {})
        (tmp_path / "locks").mkdir(exist_ok=True)
        shutil.copy(lock, tmp_path / "locks")
        monkeypatch.setattr(program, "ROOT", tmp_path)
        monkeypatch.setattr(sys, "argv", ["audit", *([] if locks else [str(lock)])])
        return program.main()

    return run


def test_an_audit_tells_clean_found_and_explained_apart(audit, capsys):
    assert audit({}) == 0
    assert capsys.readouterr().out == "lock.txt: 2 packages, 0 known vulnerabilities, 0 of them not explained\n"
    assert audit({"two-b": [FLAW]}) == 1
    assert "two-b 2.0: PYSEC-1: mended in 3.0" in capsys.readouterr().out
    assert audit({"two-b": [FLAW]}, {"CVE-7": "is not reached"}) == 0
    assert "PYSEC-1: is not reached" in capsys.readouterr().out


def test_an_explanation_of_nothing_is_told(audit, capsys):
    assert audit({}, {"CVE-7": "is not reached"}, locks=True) == 1
    assert "not found any more: CVE-7" in capsys.readouterr().err
    assert audit({}, {"CVE-7": "of another lock"}) == 0


def test_what_could_not_be_asked_is_not_measured(audit, capsys):
    assert audit(None) == 3
    assert capsys.readouterr().err == "not measured: pip-audit gave no answer: ConnectionError: no such host\n"
    assert audit({"one": "skip"}) == 3
    assert "1 packages were not looked up, one==1.0 first" in capsys.readouterr().err
    assert audit("absent") == 3
    assert capsys.readouterr().err == "not measured: pip-audit is not installed (pip install pip-audit)\n"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
def test_a_signature_holds_for_these_weights_and_this_key_alone(tmp_path, monkeypatch, capfd):
    program = script("sign-off")
    manifest, file = tmp_path / "MANIFEST.json", tmp_path / "net.safetensors"
    file.write_bytes(b"weights")
    manifest.write_text(json.dumps({"net": {"sha256": program.weights.sha256(file)}}))
    monkeypatch.setattr(program.weights, "FOLDER", tmp_path)
    signers = tmp_path / "signers"
    lines = []
    for name in ("release", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
        lines.append(f'{name}@example.org namespaces="videoclr-weights" {(tmp_path / f"{name}.pub").read_text()}')
    signers.write_text(lines[0])

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sign-off", *map(str, arguments)])
        return program.main()

    check = ("check", "--signers", signers, "--as", "release@example.org")
    assert run(*check) == 1
    assert "sign-off: nobody signed these weights" in capfd.readouterr().err
    assert run("sign", "--key", tmp_path / "stranger") == 0
    assert run(*check) == 1
    assert run("sign", "--key", tmp_path / "release") == 0
    assert run(*check) == 0
    file.write_bytes(b"weighty")
    assert run(*check) == 1 and run("sign", "--key", tmp_path / "release") == 1
    assert "sign-off: net: wrong hash" in capfd.readouterr().err
    manifest.write_text(json.dumps({"net": {"sha256": program.weights.sha256(file)}}))
    assert run(*check) == 1  # the files fit, but nobody signed this manifest

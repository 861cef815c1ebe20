"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import videoclr

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "videoclr"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_importing_the_package_loads_no_other_library():
    code = (
        "import sys, json; before = set(sys.modules); import videoclr;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(json.dumps(sorted(new - set(sys.stdlib_module_names))))"
    )
    assert json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)) == ["videoclr"]


def test_every_public_name_is_there():
    assert sorted(videoclr._HOME) == sorted(set(videoclr.__all__) - {"__version__"})
    for name, home in videoclr._HOME.items():
        assert getattr(videoclr, name).__module__.startswith(f"videoclr.{home}"), name
    assert set(videoclr.__all__) <= set(dir(videoclr))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = videoclr.no_such_thing


def test_imports_point_down_only():
    if find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed")
    linter = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(cache_dir=None))"
    done = subprocess.run([sys.executable, "-c", linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contract_knows_every_module_of_the_package():
    layers = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    known = {name.strip("() ") for layer in layers["layers"] for name in layer.replace(":", "|").split("|")}
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert there - known == {"__init__", "videoclr"} & there


def test_every_folder_with_modules_is_a_package():
    assert [path for path in {module.parent for module in MODULES} if not (path / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_every_dependency_that_is_installed_for_tests_is_pinned():
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    extras = PROJECT["project"]["optional-dependencies"]
    installed = ("dev", "ffmpeg", "train", "eval", "samples")
    wanted = [*PROJECT["project"]["dependencies"], *(name for extra in installed for name in extras[extra])]
    names = {requirement.partition(";")[0].strip() for requirement in wanted}
    plain = {name.split(">")[0].split("<")[0].split("[")[0].strip().lower() for name in names} - {"videoclr"}
    assert len(plain) > 15
    assert plain - pins == set()


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["project"]["dynamic"]
    assert videoclr.__version__.count(".") == 2


def test_torch_is_a_range_and_no_index_is_named():
    (torch,) = [r for r in PROJECT["project"]["dependencies"] if r.startswith("torch")]
    assert torch == "torch>=2.6,<3"
    assert "index" not in json.dumps(PROJECT["project"])

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, Literal

import pytest

from videoclr import plugins
from videoclr.errors import ConfigError, VideoclrError
from videoclr.parts.unchanged import Unchanged


class Part:
    """A third party's part, found here by `module:Class`."""

    def __init__(self, steps: int = 1, flavour: str = "plain") -> None:
        if flavour == "leaving":
            sys.exit("no licence")
        if flavour == "closed":
            raise GeneratorExit
        if flavour == "bad":
            raise ValueError("flavour must not be bad")
        if flavour == "locked":
            raise RuntimeError("no licence\nfound")
        self.steps = steps
        self.flavour = flavour


class Annotated(Part):
    def __init__(
        self,
        whole: int = 1,
        share: float = 0.5,
        flag: bool = False,
        text: str = "",
        either: float | Literal["auto"] | None = None,
        several: Sequence[float] = (),
        other: Part | None = None,
        device: str = "cpu",
    ) -> None:
        if device == "elsewhere":
            raise RuntimeError("Expected one of cpu, cuda, ... device type")
        self.given = (whole, share, flag, text, either, several, other, device)


class Greedy:
    def __init__(self, **everything: Any) -> None:
        self.everything = everything


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoints([EntryPoint("theirs", "collections:OrderedDict", "videoclr.restore")])
    monkeypatch.setattr(plugins, "entry_points", lambda group: found.select(group=group))


def test_a_built_in_resolves_without_being_installed() -> None:
    assert plugins.resolve("restore", "unchanged") is Unchanged


def test_module_and_class_resolve() -> None:
    assert plugins.resolve("restore", "videoclr.parts.unchanged:Unchanged") is Unchanged


def test_an_entry_point_resolves_and_is_listed(entry: None) -> None:
    from collections import OrderedDict

    assert plugins.resolve("restore", "theirs") is OrderedDict
    assert plugins.names("restore") == [*plugins.BUILT_IN["restore"], "theirs"]


def test_an_unknown_name_says_path_and_choices(entry: None) -> None:
    with pytest.raises(ConfigError, match=r"^\$\.restore\.use: unknown part 'none'.*clr, .*unchanged, theirs"):
        plugins.resolve("restore", "none")
    with pytest.raises(ConfigError, match="restore"):
        plugins.resolve("paint", "any")


@pytest.mark.parametrize("name", ["no_such_module:Part", "videoclr.types:NoSuch", "videoclr.types:", ":Part"])
def test_what_cannot_be_imported_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"\$\.restore\.use") as raised:
        plugins.resolve("restore", name)
    assert "\n" not in str(raised.value)
    assert ("PYTHONPATH" in str(raised.value)) == (name == "no_such_module:Part")  # what is there, need not be found


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"part": Part, "greedy": Greedy, "annotated": Annotated}
    monkeypatch.setattr(plugins, "resolve", lambda kind, name: parts[name])


def test_settings_are_offered_and_options_are_given(local: None) -> None:
    settings = {"steps": 4, "device": "cpu"}
    part = plugins.build("restore", "part", {"flavour": "sweet"}, settings)
    assert (part.steps, part.flavour) == (4, "sweet")
    assert plugins.build("restore", "part", {"steps": 9}, settings).steps == 9
    assert plugins.build("restore", "greedy", {"x": 1}, settings).everything == {**settings, "x": 1}


def test_an_option_that_the_part_does_not_take_says_what_it_takes(local: None) -> None:
    with pytest.raises(ConfigError, match=r"^\$\.restore\.options\.taste: part has no such option; it takes steps, flavour$"):
        plugins.build("restore", "part", {"taste": "sweet"}, {})
    with pytest.raises(ConfigError, match=r"options\.flavor: part has no such option; is flavour meant\? it takes"):
        plugins.build("restore", "part", {"flavor": "sweet"}, {})


def test_a_value_that_the_part_refuses_is_a_config_error(local: None) -> None:
    with pytest.raises(ConfigError, match="must not be bad"):
        plugins.build("restore", "part", {"flavour": "bad"}, {})


def test_a_part_that_would_end_the_program_is_named(local: None) -> None:
    with pytest.raises(
        VideoclrError, match=r"^\$\.restore\.use: part raised SystemExit \(no licence\) when it was made$"
    ) as raised:
        plugins.build("restore", "part", {"flavour": "leaving"}, {})
    assert not isinstance(raised.value, ConfigError)
    with pytest.raises(VideoclrError, match=r"^\$\.restore\.use: part raised GeneratorExit when it was made$"):
        plugins.build("restore", "part", {"flavour": "closed"}, {})


def test_a_part_whose_constructor_fails_is_named_with_its_setting(local: None) -> None:
    with pytest.raises(RuntimeError, match="no licence") as raised:
        plugins.build("restore", "part", {"flavour": "locked"}, {})
    assert raised.value.__notes__ == ["$.restore.use: raised when part was made"]


def test_a_module_that_would_end_the_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_module.py").write_text("import sys\nsys.exit()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(VideoclrError, match=r"^\$\.gate\.use: leaving_module:Part raised SystemExit when it was imported$"):
        plugins.resolve("gate", "leaving_module:Part")
    (tmp_path / "gone_module.py").write_text("raise GeneratorExit\n")
    with pytest.raises(VideoclrError, match=r"^\$\.gate\.use: gone_module:Part raised GeneratorExit when it was imported$"):
        plugins.resolve("gate", "gone_module:Part")


@pytest.mark.parametrize(("text", "said"), [("def (\n", "SyntaxError"), ("1 / 0\n", r"ZeroDivisionError \(division by zero\)")])
def test_a_module_that_fails_is_named_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "failing_module.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(VideoclrError, match=rf"^\$\.gate\.use: failing_module:Part raised {said}.* when it was imported$"):
        plugins.resolve("gate", "failing_module:Part")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("whole", "foo", "a whole number"),
        ("whole", 1.5, "a whole number"),
        ("whole", True, "a whole number"),
        ("share", "foo", "a number"),
        ("flag", "maybe", "true or false"),
        ("flag", 1, "true or false"),
        ("text", 3, "a text"),
        ("either", "soon", "a number or 'auto' or null"),
        ("several", 3, "a list, each a number"),
        ("several", [1, "foo"], "a list, each a number"),
    ],
)
def test_a_value_of_another_kind_than_the_part_takes_is_told_in_plain_words(
    local: None, option: str, value: Any, expected: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        plugins.build("restore", "annotated", {option: value}, {})
    assert str(raised.value) == f"$.restore.options.{option}: expected {expected}, got {value!r}"


def test_values_of_the_kinds_that_the_part_takes_arrive_as_they_are(local: None) -> None:
    part = Part()
    given = {"whole": 2, "share": 1, "flag": True, "text": "x", "either": "auto", "several": [1, 2.5], "other": part}
    assert plugins.build("restore", "annotated", given, {}).given == (2, 1, True, "x", "auto", [1, 2.5], part, "cpu")
    assert plugins.build("restore", "annotated", {"either": None, "several": (1,)}, {}).given[4:6] == (None, (1,))


def test_a_device_that_is_none_is_a_bad_option_and_other_failures_are_the_parts_own(local: None) -> None:
    with pytest.raises(ConfigError, match=r"^\$\.restore\.options\.device: 'elsewhere' cannot be used here; expected cpu, cuda or"):
        plugins.build("restore", "annotated", {"device": "elsewhere"}, {})
    with pytest.raises(RuntimeError):
        plugins.build("restore", "annotated", {}, {"device": "elsewhere"})


def test_every_built_in_shows_what_it_takes() -> None:
    for kind, parts in plugins.BUILT_IN.items():
        for name in parts:
            if name != "scenedetect":  # needs the extra, and hands on what it is given
                assert not {type(None), str} & {type(one) for one in plugins._annotations(plugins.resolve(kind, name)).values()}

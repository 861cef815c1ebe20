from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from videoclr import plugins
from videoclr.errors import ConfigError
from videoclr.parts.unchanged import Unchanged


class Part:
    """A third party's part, found here by `module:Class`."""

    def __init__(self, steps: int = 1, flavour: str = "plain") -> None:
        if flavour == "bad":
            raise ValueError("flavour must not be bad")
        self.steps = steps
        self.flavour = flavour


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


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"part": Part, "greedy": Greedy}
    monkeypatch.setattr(plugins, "resolve", lambda kind, name: parts[name])


def test_settings_are_offered_and_options_are_given(local: None) -> None:
    settings = {"steps": 4, "device": "cpu"}
    part = plugins.build("restore", "part", {"flavour": "sweet"}, settings)
    assert (part.steps, part.flavour) == (4, "sweet")
    assert plugins.build("restore", "part", {"steps": 9}, settings).steps == 9
    assert plugins.build("restore", "greedy", {"x": 1}, settings).everything == {**settings, "x": 1}


def test_an_option_that_the_part_does_not_take_says_what_it_takes(local: None) -> None:
    with pytest.raises(ConfigError, match=r"\$\.restore\.options: part: .*taste.*flavour"):
        plugins.build("restore", "part", {"taste": "sweet"}, {})


def test_a_value_that_the_part_refuses_is_a_config_error(local: None) -> None:
    with pytest.raises(ConfigError, match="must not be bad"):
        plugins.build("restore", "part", {"flavour": "bad"}, {})

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from videoclr.config import Config
from videoclr.errors import ConfigError

BOUNDED = (
    *("runtime.threads", "runtime.batch", "runtime.detect_batch", "runtime.buffer_mb", "align.smoothing", "gate.smoothing"),
    *("track.max_gap", "detect.every", "detect.long_side", "identify.window", "identify.views", "identify.remember"),
    *("restore.anchors", "media.frames", "media.smart_copy_mb", "media.input.start_number", "media.crf"),
    *("detect.min_size", "media.wipe_seconds", "media.segment"),
    *("media.limits.pixels", "media.limits.streams", "media.limits.frames"),
)
PRESETS = sorted((Path(__file__).parents[1] / "configs" / "restore").glob("*.yaml"))


def test_an_override_changes_one_setting_in_a_copy():
    before = Config()
    after = before.override("restore.steps=12")
    assert (before.restore.steps, after.restore.steps) == (3, 12)
    assert after.detect == before.detect


@pytest.mark.parametrize("setting", ["restore.steps = 12", " restore.steps =12 ", "restore . steps=12"])
def test_blanks_around_a_setting_are_no_part_of_it(setting):
    assert Config().override(setting).restore.steps == 12


def test_later_overrides_win():
    assert Config().override("restore.steps=2", "restore.steps=3").restore.steps == 3


def test_options_of_a_part_can_be_set_by_name():
    assert Config().override("restore.options.schedule=cosine").restore.options == {"schedule": "cosine"}


def test_numbers_among_the_options_of_an_encoder_are_the_texts_that_ffmpeg_takes():
    options = Config().override("media.options={crf: 3, qcomp: 0.5, open-gop: false, aq: true, tune: grain}").media.options
    assert options == {"crf": "3", "qcomp": "0.5", "open-gop": "0", "aq": "1", "tune": "grain"}
    assert Config().override("media.options.crf=3").media.options == {"crf": "3"}
    with pytest.raises(ConfigError, match=r"\$\.media\.options\.crf"):
        Config().override("media.options={crf: [3]}")


def test_a_quoted_time_stays_a_text():
    assert Config().override('media.start="1:30.5"').media.start == "1:30.5"


@pytest.mark.parametrize(("text", "read"), [("12.5", "12.5"), ("7", "7"), ("1:30", "1:30")])
def test_a_time_that_yaml_takes_for_a_number_is_still_a_time(text, read):
    assert Config().override(f"media.end={text}").media.end == read


def test_words_and_timecodes_are_texts_and_keys_stand_there_once(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("media: {deinterlace: off, start: 10:00:00:12}")
    media = Config.load(path).media
    assert media.deinterlace == "off" and media.start == "10:00:00:12"
    path.write_text("media: {crf: 12}\nmedia: {gop: 5}")
    with pytest.raises(ConfigError, match="'media' stands there twice"):
        Config.load(path)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("restore.steps=many", "$.restore.steps:"),
        ("restore.steps=0", "$.restore.steps:"),
        ("restore.fidelity=1.5", "$.restore.fidelity:"),
        ("media.segment=inf", "$.media.segment:"),
        ("media.segment=.inf", "$.media.segment:"),
        ("media.gop=99999999999", "$.media.gop:"),
        *((f"{path}={'9' * 30}", f"$.{path}:") for path in BOUNDED),
        ("media.crf=.nan", "$.media.crf:"),
        ("media.wipe_seconds=.inf", "$.media.wipe_seconds:"),
        ("detect.min_size=.inf", "$.detect.min_size:"),
        ("detect.min_size=.nan", "$.detect.min_size:"),
        ("restore.step=3", "$.restore.step: unknown setting; is restore.steps meant? known here: use, steps, "),
        ("fidelity=0.5", "$.fidelity: unknown setting; is restore.fidelity meant? known here: media, "),
        ("use=clr", "$.use: unknown setting; known here: media, "),
        ("media.input.rate=fast", "$.media.input.rate: expected 25 or 30000/1001 or the like, got 'fast'"),
        ("colour.gain=3", "$.colour: unknown setting"),
        ("restore.steps.more=3", "$.restore.steps.more: unknown setting"),
        ("restore.steps", "expected section.name=value"),
        ("=3", "expected section.name=value"),
        ("restore.steps=[1", "is not a YAML value"),
        ("runtime.on_error=ignore", "$.runtime.on_error:"),
        ('track.file="a\\0b"', "$.track.file: expected no NUL in a text, got 'a\\x00b'"),
        ('identify.people="a\\0b"', "$.identify.people: expected no NUL in a text"),
        ('identify.references=[a.jpg, "a\\0b"]', "$.identify.references: expected no NUL in a text"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(setting, says):
    with pytest.raises(ConfigError) as caught:
        Config().override(setting)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_setting_lists_the_known_ones():
    with pytest.raises(ConfigError, match="fidelity"):
        Config().override("restore.step=3")
    with pytest.raises(ConfigError, match="runtime"):
        Config().override("colour.gain=3")


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(ValidationError):
        Config().restore.steps = 3  # type: ignore[misc]


def test_equal_configurations_are_one_key_of_a_cache():
    settings = ("identify.references=[a.jpg]", "restore.options={a: 1, b: [1, {c: 2}]}", "restore.options={b: [1, {c: 2}], a: 1.0}")
    one, same = Config().override(*settings[:2]), Config().override(settings[0], settings[2])
    assert one == same and {one: 1}[same] == 1 and len({one, same, Config(), Config().restore}) == 3


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_shipped_preset_loads(preset):
    loaded = Config.load(preset)
    assert (loaded == Config()) == (preset.stem == "default")


def test_there_are_presets():
    assert [path.stem for path in PRESETS] == ["archival", "default", "preview"]


def test_an_empty_file_is_the_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert Config.load(path) == Config()


def test_a_section_of_which_all_is_commented_out_is_its_defaults(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("restore:\n  # steps: 8\nmedia:\n  limits:\n    # rate: 60\n  options:\n  crf: 12\n")
    assert Config.load(path) == Config().override("media.crf=12")
    path.write_text("restore:\n  steps:\n")
    with pytest.raises(ConfigError, match=r"\$\.restore\.steps"):
        Config.load(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"restore: [1", "not a YAML file"),
        (b"- restore", "expected sections"),
        (b"\xff\xfe\x00", "not a YAML file"),
        (b"restore: {steps: x}", "$.restore.steps"),
        (b"restore: 4", "$.restore:"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or caught.value.__notes__ == [f"in {path}"]


@pytest.mark.parametrize("setting", ["restore=4", "restore.options=[1]", "gate=null", "media.options=fast"])
def test_what_holds_settings_and_is_something_else_is_told_plainly(setting):
    path, _, value = setting.partition("=")
    said = {"null": "None", "fast": "'fast'"}.get(value, value)
    with pytest.raises(ConfigError) as caught:
        Config().override(setting)
    assert str(caught.value) == f"$.{path}: expected names with values, as in {{name: value}}, got {said}"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        Config.load(tmp_path / "nowhere.yaml")


def test_files_that_settings_name_are_known(tmp_path):
    photograph, tracks = tmp_path / "anna.jpg", tmp_path / "t.jsonl"
    for path in (photograph, tracks):
        path.touch()
    absent = tmp_path / "ben.jpg"
    config = Config.of(
        {"identify": {"references": [f"anna={photograph}", f"ben={absent}"], "only": ["3"]}, "track": {"file": str(tracks)}}
    )
    assert set(config.files()) == {str(photograph), str(tracks), str(absent)}
    assert Config().files() == []


def test_a_bad_value_is_the_packages_own_exception_however_a_config_is_made():
    with pytest.raises(ConfigError, match=r"^\$\.restore\.steps: input should be greater than or equal to 1, got 0$"):
        Config(restore={"steps": 0})
    with pytest.raises(ConfigError, match=r"^\$\.restor: unknown setting; "):
        Config(restor={})
    assert Config(restore={"steps": 4}) == Config().override("restore.steps=4")


@pytest.mark.parametrize("setting", [["restore.steps=3"], 3, None, {"restore.steps": 3}])
def test_an_override_that_is_no_text_is_told(setting):
    with pytest.raises(ConfigError, match=r"expected section\.name=value, a text for each setting"):
        Config().override(setting)


def test_a_name_that_no_file_can_have_is_told():
    with pytest.raises(ConfigError, match=r"cannot be read .*null"):
        Config.load("a\0.yaml")

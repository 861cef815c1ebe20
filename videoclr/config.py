"""Every setting of a run, typed, with its default and its meaning: the only place where a default lives.

    config = Config.load("archival.yaml").override("restore.steps=12", "media.crf=12")

YAML presets under `configs/` hold only values that differ from these. Sections that name an exchangeable part are
`{use, options}`: `use` is a built-in name, an entry point, or `package.module:Class` (see `videoclr.plugins`).
Everything in `runtime` leaves the pixels alone; everything else may change them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from videoclr import plainyaml
from videoclr.errors import ConfigError

OnError = Literal["stop", "keep"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def __hash__(self) -> int:
        """Of the values, lists and options too, which pydantic's own does not take; equal sections have equal ones."""
        return hash((type(self), _hashable(dict(self))))

    @field_validator("*")
    @classmethod
    def _without_nul(cls, value: Any) -> Any:
        texts = _texts(str(value) if isinstance(value, Path) else value)
        if any("\0" in text for text in texts):  # in a name of a file the system refuses it, and does not say where it stands
            raise PydanticCustomError("nul", "Expected no NUL in a text")
        return value


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return frozenset((name, _hashable(one)) for name, one in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


class Input(_Section):
    """What an input is taken for, and what it may reach. By default nothing but itself."""

    format: str | None = None
    """FFmpeg's name of the format; None finds it out. `rawvideo` needs `video_size` and `pix_fmt`."""
    video_size: str | None = Field(None, pattern=r"^\d{1,6}x\d{1,6}$", examples=["1920x1080"])
    """`1920x1080`, of raw pictures."""
    pix_fmt: str | None = None
    """FFmpeg's pixel format of raw pictures."""
    rate: str | None = Field(
        None, coerce_numbers_to_str=True, pattern=r"^\d{1,9}(\.\d{1,9}|/[1-9]\d{0,8})?$", examples=["25", "30000/1001"]
    )
    """Pictures a second of raw video and loose pictures, as `25` or `30000/1001`; None for what DPX and EXR pictures say, or 25."""
    start_number: int | None = Field(None, ge=0, le=2**31 - 1)
    """First picture of a numbered sequence; None for the lowest that is there."""
    playlists: bool = False
    """Playlists (HLS and the like) may open the files that they name."""
    protocols: list[str] = Field(default_factory=list)
    """FFmpeg protocols that inputs may use besides their own: `[http, tcp]`."""


class Limits(_Section):
    """The most that an input may claim before it is refused: a header costs nothing, what it promises costs memory."""

    pixels: int = Field(1 << 27, ge=1, le=2**31 - 1)
    """Width x height of a picture."""
    rate: float = Field(10_000.0, gt=0)
    """Frames per second."""
    seconds: float = Field(604_800.0, gt=0)
    """Duration; a week."""
    streams: int = Field(256, ge=1, le=2**31 - 2)
    """Of all kinds."""
    frames: int = Field(20_000_000, ge=1, le=2**53)
    """Pictures of one input."""


class Media(_Section):
    """What is read, and how the output is written."""

    codec: str | None = None
    """`h264`, `hevc`, `av1`, `vp9`, `prores`, `dnxhr`, `ffv1`, `mjpeg`, `rawvideo`, a hardware encoder by FFmpeg's name
    (`h264_nvenc`), or `copy-like`: the source's codec, profile, level, key frames and bit rate (see
    `videoclr/media/copylike.py`). None for h264, or for `rawvideo` where the container holds nothing else."""
    crf: float | None = Field(None, ge=-10_000, le=10_000)
    """Constant quality in the codec's own scale; None for the codec's default here."""
    preset: str | None = None
    """The encoder's speed preset; None for the codec's default here."""
    pix_fmt: str | None = None
    """FFmpeg's pixel format; None keeps the source's where the codec can."""
    profile: str | None = Field(None, coerce_numbers_to_str=True)
    """`proxy`, `lt`, `standard`, `hq`, `4444`, `4444xq` of ProRes; `lb`, `sq`, `hq`, `hqx`, `444` of DNxHR; `main`, `high422` and
    so on; None for the best that holds the source's pixel format."""
    level: str | None = Field(None, coerce_numbers_to_str=True)
    """Of H.264 and HEVC, such as `4.1`; None lets the encoder choose."""
    bitrate: str | None = Field(None, coerce_numbers_to_str=True)
    """Bits a second on average, such as `8M` or `800k`, instead of a constant quality."""
    gop: int | None = Field(None, ge=1, le=2**31 - 1)
    """Frames from one key frame to the next, at most; None for the encoder's default."""
    options: dict[str, Annotated[str, BeforeValidator(plainyaml.as_text)]] = Field(default_factory=dict)
    """FFmpeg's options of the encoder, by name: `{aq-mode: "3"}`."""
    linear: bool = True
    """EXR pictures, and others of floats, hold linear light (see `videoclr/media/linear.py`), and DPX pictures the densities of
    film where they say so; false: code values, 0 to 1 for black to white."""
    primaries: Literal["bt709", "bt2020", "p3", "dci-p3", "acescg", "aces"] | None = None
    """What red, green and blue are in EXR pictures, and others of floats; None: what the file says (`chromaticities`), or else
    BT.709. The networks are shown BT.709; the file keeps its own."""
    deliver: Literal["video", "overlay", "matte", "side-by-side", "wipe"] = "video"
    """The restored video, or: the faces alone with straight alpha (in EXR multiplied with it), that alpha, source | restored, or
    both with a moving line between them (see `videoclr/media/deliver.py`)."""
    start_number: int | None = Field(None, ge=0, le=2**31 - 1)
    """Number of the first picture where numbered pictures are written; None for that of the input's picture, and 1 where the
    input is no numbered sequence."""
    wipe_seconds: float = Field(4.0, ge=0, le=86_400)
    """Seconds in which the line of a `wipe` goes to and fro; 0 leaves it in the middle."""
    hwaccel: str | None = None
    """Decode on a device: `cuda`, `qsv`, `vaapi` or `videotoolbox`; None decodes on the processor."""
    start: str | None = Field(None, coerce_numbers_to_str=True)
    """First picture to keep: seconds (`12.5`, `[hh:]mm:ss[.fff]`), its number (`240f`), or a timecode (`hh:mm:ss:ff`, drop frame
    `hh:mm:ss;ff`), counted from the file's own where it has one; None for the beginning."""
    end: str | None = Field(None, coerce_numbers_to_str=True)
    """Where to stop before, as `start`; None for the end."""
    frames: int | None = Field(None, ge=1, le=2**53)
    """Pictures to keep, instead of `end`."""
    video_stream: int = Field(0, ge=0)
    """Which of several video streams is restored, counted from 0 without cover pictures; the others are copied."""
    drop: list[Annotated[str, Field(coerce_numbers_to_str=True)]] = Field(default_factory=list)
    """What is not copied: `audio`, `subtitles`, `attachments`, `covers`, `data`, `video` (all but the restored one), or the number
    of a stream."""
    provenance: bool = True
    """Write a tag into the output that says what restored the faces, and with which settings."""
    smart_copy: bool = False
    """Copy the groups of pictures in which nothing changed, bit for bit; the others are encoded with the source's codec (see
    `videoclr/media/splice.py`)."""
    smart_copy_mb: int = Field(128, ge=1, le=2**24)
    """MiB of packets in a group that is copied, at most: they are kept until it is known whether a picture of it changed."""
    segment: float = Field(20.0, gt=0, le=86_400)
    """Seconds of film, at most, that `--resume` may lose: it writes segments of this length, which end at cuts where they can. With
    `smart_copy` they end at key pictures of the source, and may be twice as long."""
    deinterlace: Literal["auto", "bwdif", "off"] = "auto"
    """What becomes of interlaced pictures: `auto` makes flagged ones whole (and writes them progressive), `bwdif` all; `off` keeps
    the fields, in the file as well."""
    container: str | None = None
    """A file ending without its dot, or FFmpeg's muxer name; None takes it from the file's ending."""
    input: Input = Field(default_factory=Input)
    limits: Limits = Field(default_factory=Limits)


class Cuts(_Section):
    """Where shots end."""

    use: str = "content"
    options: dict[str, Any] = Field(default_factory=dict)


class Detect(_Section):
    """Where faces are."""

    use: str = "retina"
    weights: str = "embedded"
    """`embedded`, `facexlib-resnet50`, `facexlib-mobilenet0.25`, a name that `videoclr weights add` was given, or a file."""
    threshold: float = Field(0.8, gt=0, lt=1)
    """Score from which a detection starts a track."""
    low_threshold: float = Field(0.25, gt=0, lt=1)
    """Score from which a detection may continue a track (ByteTrack's second stage)."""
    every: int = Field(1, ge=1, le=1000)
    """Detect in every n-th frame and carry boxes between."""
    long_side: int = Field(640, ge=64, le=65_536)
    """Pixels of the longer side at which the detector looks."""
    min_size: float = Field(24.0, ge=0, le=1_000_000)
    """Faces smaller than this many frame pixels are left alone."""
    options: dict[str, Any] = Field(default_factory=dict)


class Track(_Section):
    """Which faces are one face over time."""

    use: str = "overlap"
    max_gap: int = Field(5, ge=0, le=10_000)
    """Frames for which a lost track is kept and filled when it comes back."""
    file: str | None = None
    """Tracks that `videoclr faces --save-tracks` wrote, edited or not: nothing is detected and tracked then, and what stands there
    is restored."""
    options: dict[str, Any] = Field(default_factory=dict)


class Align(_Section):
    """How crops are cut."""

    smoothing: int = Field(4, ge=0, le=1000)
    """Half-width of the landmark smoothing window, frames; 0 for none."""


class Identify(_Section):
    """Who a track is."""

    use: str = "recognizer"
    window: int = Field(8, ge=1, le=10_000)
    """Look-ahead in frames from which a track's first identity is pooled."""
    views: int = Field(5, ge=1, le=1000)
    """Best views that are pooled."""
    references: list[str] = Field(default_factory=list)
    """Photographs of people to expect: `anna.jpg`, or `anna=one.jpg` several times for several pictures of one person."""
    only: list[Annotated[str, Field(coerce_numbers_to_str=True)]] = Field(default_factory=list)
    """Restore these people alone: names of references, more photographs, or numbers of tracks. Empty for everybody."""
    leave: list[Annotated[str, Field(coerce_numbers_to_str=True)]] = Field(default_factory=list)
    """Leave these as they are, named in the same way. A track keeps its number as long as the settings that find faces (sections
    media, cuts, detect and track) stay the same."""
    match: float = Field(0.4, ge=-1, le=1)
    """Cosine from which a track is the person of a reference."""
    same: float = Field(0.7, ge=-1, le=1)
    """Cosine from which a track is a person who was seen earlier in the film."""
    remember: int = Field(64, ge=0, le=100_000)
    """People from the film that are kept in mind to be recognised; 0 for none."""
    look_back: bool = True
    """Let the restorer look at the best view of a person in earlier shots."""
    people: Path | None = None
    """Whom other films, or other parts of this one, made known: a file that `videoclr faces --save-people` wrote."""
    look_first: bool = False
    """Go through the film twice: first see whom it shows, and where best, then restore. Not of a pipe."""
    options: dict[str, Any] = Field(default_factory=dict)


class Restore(_Section):
    """The restorer."""

    use: str = "clr"
    """`clr`, `checkpoint` (a public network: `options.weights` is its file or the name it was added by), `unchanged`."""
    steps: int = Field(3, ge=1, le=1000)
    """Denoiser evaluations per face."""
    fidelity: float = Field(0.5, ge=0, le=1)
    """0 favours perceptual quality, 1 favours what the input shows."""
    seed: int = Field(0, ge=0)
    """Seed of every noise field."""
    anchors: int = Field(8, ge=1, le=1000)
    """Every how many frames of a track one is denoised in full; those between start from their neighbours. 1: every frame for
    itself."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the networks compute in; less is faster where the device is made for it, and differs in the last bits. A face that
    comes out as NaN is restored again in float32."""
    options: dict[str, Any] = Field(default_factory=dict)


class Gate(_Section):
    """How much of a restoration is trusted; the rest fades towards the input."""

    use: str = "agreement"
    """`none` trusts everything."""
    smoothing: int = Field(2, ge=0, le=1000)
    """Frames over which confidence moves; twice as many are looked ahead."""
    options: dict[str, Any] = Field(default_factory=dict)


class Blend(_Section):
    """How a restored face is put back."""

    use: str = "feather"
    """`feather`: an ellipse. `parsing`: inside it what a network takes for the face, so hands and hair stay as they are."""
    strength: float = Field(1.0, ge=0, le=1)
    """Opacity of the restoration."""
    match_color: bool = True
    """Take the low frequencies of the colour from the input."""
    detail: float = Field(1.0, ge=0, le=1)
    """Share of the input's detail beyond the crop's resolution that is kept where a face is larger than the crop."""
    grain: float = Field(0.0, ge=0, le=1)
    """Share of the input's own noise that is made again on the restored face; its seed is `restore.seed`."""
    options: dict[str, Any] = Field(default_factory=dict)


class Runtime(_Section):
    """What makes a run faster or lets it go on, and never changes pixels (`on_error: keep` aside)."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:n`."""
    batch: int = Field(4, ge=1, le=1024)
    """Faces per call of the restorer."""
    detect_batch: int = Field(4, ge=1, le=1024)
    """Frames per call of the detector."""
    threads: int = Field(0, ge=0, le=1024)
    """Of torch and of OpenCV each; 0 for their defaults."""
    buffer_mb: int = Field(128, ge=16, le=2**24)
    """MiB of frames that may wait in memory. Half is for decoded pictures, wherever they wait; those beyond it wait in a
    temporary file. A quarter bounds what waits before the networks, and a quarter what waits before the encoder."""
    scratch: str | None = None
    """Folder of that file; the system's for temporary files where it is not given."""
    on_error: OnError = "stop"
    """`stop` raises; `keep` passes a face unrestored, scales a picture whose size changes, and says so in the report."""


class Config(_Section):
    """All settings of a run."""

    media: Media = Field(default_factory=Media)
    cuts: Cuts = Field(default_factory=Cuts)
    detect: Detect = Field(default_factory=Detect)
    track: Track = Field(default_factory=Track)
    align: Align = Field(default_factory=Align)
    identify: Identify = Field(default_factory=Identify)
    restore: Restore = Field(default_factory=Restore)
    gate: Gate = Field(default_factory=Gate)
    blend: Blend = Field(default_factory=Blend)
    runtime: Runtime = Field(default_factory=Runtime)

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """Read a YAML file of values that differ from the defaults. A section of which nothing stands there says nothing.

        Raises:
            ConfigError: the file is missing, is no YAML mapping, or holds a bad value (a note names the file then).
        """
        try:
            values = plainyaml.load(Path(path).read_text(encoding="utf-8"))
        except (plainyaml.NotPlain, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
        except (OSError, ValueError) as error:  # a name with a NUL is a bad value
            raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: expected sections such as `restore:`, found {type(values).__name__}")
        try:
            return cls.of(_said(values, cls))
        except ConfigError as error:
            error.add_note(f"in {path}")
            raise

    @classmethod
    def of(cls, values: dict[str, Any]) -> Config:
        """Build from nested plain values; `ConfigError` names the path of the first bad one."""
        return cls.model_validate(values)

    @model_validator(mode="wrap")
    @classmethod
    def _told(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        # However one is made, `Config(restore={...})` too, what is wrong with it is the package's own exception.
        try:
            return check(values)
        except ValidationError as error:
            raise _error_of(error) from error

    def files(self) -> list[str]:
        """Files that the settings name: those that are there, and in any case photographs, tracks and people."""
        who = self.identify
        asked = [entry.partition("=")[2] or entry for entry in who.references]
        asked += [str(path) for path in (self.track.file, who.people) if path is not None]
        return list(dict.fromkeys([*named_files(self.model_dump(mode="json")), *asked]))

    def override(self, *settings: str) -> Config:
        """A copy with dotted settings changed: `override("restore.steps=12")`. Values are YAML scalars or lists, and
        blanks may stand around the `=`.

        Raises:
            ConfigError: not `path=value`, an unknown path, or a bad value.
        """
        values = self.model_dump()
        for setting in settings:
            if not isinstance(setting, str):
                raise ConfigError(f"{setting!r}: expected section.name=value, a text for each setting")
            path, equals, text = setting.partition("=")
            path = ".".join(name.strip() for name in path.split("."))
            if not equals or not path:
                raise ConfigError(f"{setting!r}: expected section.name=value")
            try:
                value = plainyaml.load(text)
            except plainyaml.NotPlain as error:
                raise ConfigError(f"$.{path}: {text[:80]!r} is not a YAML value ({error})") from error
            *parents, name = path.split(".")
            place: Any = values
            for parent in parents:
                place = place.setdefault(parent, {}) if isinstance(place, dict) else None
            if not isinstance(place, dict):
                raise ConfigError(f"$.{path}: unknown setting")
            place[name] = value
        return type(self).of(values)


def _error_of(error: ValidationError) -> ConfigError:
    """What is said of the first bad value."""
    first = error.errors()[0]
    path = ".".join(["$", *map(str, first["loc"])])
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{path}: unknown setting; {_choices(first['loc'])}")
    expected = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] in ("model_type", "dict_type"):
        expected = "expected names with values, as in {name: value}"
    if first["type"] == "string_pattern_mismatch" and (field := _beside(first["loc"]).get(str(first["loc"][-1]))):
        expected = "expected " + " or ".join(map(str, field.examples or [])) + " or the like"
    return ConfigError(f"{path}: {expected}, got {first['input']!r}")


def or_defaults(config: Config | None) -> Config:
    """`config`, or the defaults where it is None.

    Raises:
        ConfigError: it is something else: the name of a file of settings, say.
    """
    if config is None:
        return Config()
    if not isinstance(config, Config):
        raise ConfigError(f"config: expected a Config, got a {type(config).__name__}; Config.load reads a file, Config.of a dict")
    return config


def named_files(settings: Mapping[str, Any]) -> list[str]:
    """The files among the texts of `settings`, `name=file` as well: those that are there, in order of their names."""
    texts = _texts(settings)
    return sorted({name for text in texts for name in (text, text.partition("=")[2]) if name and os.path.isfile(name)})


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value)


def _said(values: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """`values` without the sections and options that are empty, as where all that is below them is commented out."""
    found = {}
    for name, value in values.items():
        field = model.model_fields.get(name)
        inside = None if field is None else _section(field)
        if value is None and field is not None and (inside is not None or get_origin(field.annotation) is dict):
            continue
        found[name] = _said(value, inside) if inside is not None and isinstance(value, dict) else value
    return found


def _choices(location: tuple[int | str, ...]) -> str:
    paths = _paths(Config)
    elsewhere = [path for path in paths if path.endswith(f".{location[-1]}")]
    near = elsewhere or like(".".join(map(str, location)), paths)
    return f"{is_meant(near)}known here: {', '.join(_beside(location))}"


def like(name: str, known: Iterable[str]) -> list[str]:
    """The one of those that are `known` that `name` was mistyped for, if any."""
    return get_close_matches(name, list(known), 1, 0.8)


def is_meant(near: Sequence[str]) -> str:
    """A question to put before what is known; none where there is no single answer."""
    return f"is {near[0]} meant? " if len(near) == 1 else ""


def _beside(location: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    """What is known in the section of a setting."""
    model: type[BaseModel] = Config
    for name in location[:-1]:
        field = model.model_fields.get(str(name))
        if field is None or (inside := _section(field)) is None:
            break
        model = inside
    return model.model_fields


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _paths(model: type[BaseModel], above: str = "") -> list[str]:
    """Every setting, dotted."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        inside = _section(field)
        paths += [above + name] if inside is None else _paths(inside, f"{above}{name}.")
    return paths

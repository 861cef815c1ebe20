"""The command line: arguments -> `Config` -> `videoclr.jobs` -> an exit code.

    videoclr input.mp4 out.mp4

Standard output is data when the target is `-`; everything that is said goes to standard error, one line per error.
Exit codes: 0 done, 1 failed, 2 wrong usage or setting, 3 done but a condition of `--fail-on` holds, 130 stopped by Ctrl-C, SIGTERM
or a closed terminal.

Commands only *describe* a run: each returns a `_Run` which `main` starts once the argument parser has left the stack,
so that the parser's own handling of interrupts and broken pipes never stands between a run and its exit code. torch
and PyAV are imported inside those runs: `--help` and usage errors answer at once.
"""

from __future__ import annotations

import errno
import functools
import inspect
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Protocol, cast, get_args

import typer
from typer.core import TyperCommand

from videoclr import __version__
from videoclr.errors import ConfigError, MediaError, VideoclrError
from videoclr.process import STOPPED, Stderr, is_closed, let_go_of_streams, open_closed_streams, settle_heap, spell_out, stoppable

if TYPE_CHECKING:
    from rich.console import Console

    from videoclr.checks import Condition
    from videoclr.config import Config
    from videoclr.jobs import Progress, ProgressCallback
    from videoclr.report import Report

# Read by OpenMP when torch loads: waiting threads that spin cost 3-7 times beside a busy encoder, sleeping ones 15 %.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

DONE, FAILED, USAGE, OBJECTED = 0, 1, 2, 3
PLAIN_PROGRESS_SECONDS = 5.0
"""Without a terminal, one line of progress per this many seconds."""

# typer names only BadParameter in public; its base class covers missing arguments and unknown options too.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


@dataclass(frozen=True)
class _Run:
    """What a command decided to do."""

    go: Callable[[], int]
    verbose: bool = False


_ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="YAML file of settings.")]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a setting: `--set detect.threshold=0.7`; repeatable."),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", "-y", help="Replace files that exist.")]
_Device = Annotated[str | None, typer.Option("--device", help="auto (default), cpu, cuda or cuda:N.")]
_References = Annotated[
    list[str] | None,
    typer.Option("--reference", metavar="[NAME=]PICTURE", help="A photograph of somebody in the film; repeatable."),
]
_Tracks = Annotated[
    str | None,
    typer.Option(
        "--tracks", metavar="FILE", help="Take the faces from here, as `faces --save-tracks` wrote them and you edited them."
    ),
]
_People = Annotated[
    str | None,
    typer.Option("--people", metavar="FILE", help="Know these people from the start, as `faces --save-people` wrote them."),
]
_Start = Annotated[
    str | None,
    typer.Option("--start", metavar="PLACE", help="Begin at seconds 12.5, time 01:02:03.5, frame 240f, or timecode 01:02:03:12."),
]
_End = Annotated[str | None, typer.Option("--end", metavar="PLACE", help="Stop before this place, written in the same way.")]
_Rate = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="FPS",
        help="Raw or numbered pictures a second, such as 30000/1001 (default: what they say, else 25).",
    ),
]
_StartNumber = Annotated[
    int | None,
    typer.Option("--start-number", metavar="N", help="First picture to read of a numbered sequence (default: the lowest)."),
]
_Ending = Annotated[
    str | None,
    typer.Option(
        "--ending",
        metavar=".EXT",
        help="File ending of the results (default: that of each input); pictures keep theirs where it is a film's.",
    ),
]
_Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Work through Ray: local (this machine's GPUs), auto, HOST:PORT or ray://HOST:PORT.",
    ),
]
_Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="With --cluster: files at a time (default: as many as it has GPUs, at least one)."),
]
_ReportFrames = Annotated[
    Path | None, typer.Option("--report-frames", metavar="FILE", help="Write a line of JSON for every restored face.")
]
_Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show tracebacks.")]


@dataclass(frozen=True)
class _Options:
    """The options that `restore` and `batch` share; the field's annotation is what the parser reads."""

    config: _ConfigFile = None
    set_: _Settings = None
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            help="h264 (default), hevc (H.265), av1, vp9, prores, dnxhr, ffv1, mjpeg, rawvideo,"
            " h264_nvenc ..., or copy-like: as the source.",
        ),
    ] = None
    crf: Annotated[
        float | None,
        typer.Option("--crf", help="Constant quality in the codec's own scale: less is better and larger (h264: 0 to 51)."),
    ] = None
    preset: Annotated[str | None, typer.Option("--preset", help="The encoder's speed preset, such as `slow`.")] = None
    pix_fmt: Annotated[str | None, typer.Option("--pix-fmt", help="FFmpeg's pixel format; the source's where the codec can.")] = (
        None
    )
    profile: Annotated[str | None, typer.Option("--profile", help="Of the codec: ProRes and DNxHR `hq`, H.264 `high422`.")] = None
    bitrate: Annotated[str | None, typer.Option("--bitrate", help="Bits a second, such as 8M, instead of --crf.")] = None
    smart_copy: Annotated[
        bool, typer.Option("--smart-copy", help="Copy what did not change bit for bit; encode the rest like the source.")
    ] = False
    deliver: Annotated[str | None, typer.Option("--deliver", help="video (default), overlay, matte, side-by-side or wipe.")] = None
    hwaccel: Annotated[
        str | None, typer.Option("--hwaccel", metavar="DEVICE", help="Decode on cuda, qsv, vaapi or videotoolbox.")
    ] = None
    video_stream: Annotated[
        int | None,
        typer.Option("--video-stream", metavar="N", help="Which of several video streams to restore, counted from 0 (default 0)."),
    ] = None
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop",
            metavar="KIND",
            help="Leave out audio, subtitles, attachments, covers, data, video (other than the restored), or a stream's number;"
            " repeatable.",
        ),
    ] = None
    no_provenance: Annotated[
        bool, typer.Option("--no-provenance", help="Leave out the tag that says how the faces were restored.")
    ] = False
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write a JSON report of the run.")] = None
    device: _Device = None
    fidelity: Annotated[
        float | None, typer.Option("--fidelity", help="0 favours a clean look, 1 favours what the input shows (default 0.5).")
    ] = None
    strength: Annotated[
        float | None, typer.Option("--strength", help="How much of the restoration is shown, 0 to 1 (default 1).")
    ] = None
    grain: Annotated[
        float | None, typer.Option("--grain", help="Share of the input's own noise to put back, 0 to 1 (default 0).")
    ] = None
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps per face; more is slower (default 3).")] = None
    reference: _References = None
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="WHO",
            help="Restore this one alone: [NAME=]PICTURE, the name of a reference or track, or a track's number; repeatable.",
        ),
    ] = None
    leave: Annotated[
        list[str] | None,
        typer.Option("--leave", metavar="WHO", help="Leave this one as it is, named in the same way; repeatable."),
    ] = None
    tracks: _Tracks = None
    people: _People = None
    look_first: Annotated[
        bool, typer.Option("--look-first", help="Go through the film twice: first see whom it shows, and where best.")
    ] = False
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the noise: same seed, same result (default 0).")] = None
    start: _Start = None
    end: _End = None
    frames: Annotated[int | None, typer.Option("--frames", metavar="N", help="Stop after so many frames.")] = None
    input_format: Annotated[
        str | None, typer.Option("--input-format", help="FFmpeg's name of the input's format; found out otherwise.")
    ] = None
    video_size: Annotated[str | None, typer.Option("--video-size", metavar="WxH", help="Size of raw input pictures.")] = None
    input_pix_fmt: Annotated[str | None, typer.Option("--input-pix-fmt", help="Pixel format of raw input pictures.")] = None
    rate: _Rate = None
    start_number: _StartNumber = None
    output_start_number: Annotated[
        int | None,
        typer.Option(
            "--output-start-number",
            metavar="N",
            help="Number of the first picture that is written (default: the input picture's; 1 of a video).",
        ),
    ] = None
    container: Annotated[
        str | None, typer.Option("--container", help="Output format where the name does not say: nut, mkv, ts, y4m, ...")
    ] = None
    deinterlace: Annotated[
        str | None,
        typer.Option("--deinterlace", help="Interlaced pictures: `auto` (default) makes flagged ones whole, bwdif all, off none."),
    ] = None
    on_error: Annotated[
        str | None, typer.Option("--on-error", help="`stop` (default), or `keep` what fails as it was and go on.")
    ] = None
    overwrite: _Overwrite = False
    log_json: Annotated[
        str | None,
        typer.Option("--log-json", metavar="FILE", help="Append events and progress as JSON lines; - for standard error."),
    ] = None
    metrics: Annotated[
        Path | None, typer.Option("--metrics", metavar="FILE.prom", help="Keep figures for Prometheus' textfile collector here.")
    ] = None
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="CONDITION",
            help="End with exit code 3 where the result wants a look: confidence<0.5, similarity<0.4, size<32 of any track;"
            " faces<1, tracks>9, shots>1, warnings>0; repeatable.",
        ),
    ] = None
    aligned: Annotated[bool, typer.Option("--aligned", help="Each picture is an aligned face crop already: restore all of it.")] = (
        False
    )
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is done as the run goes; the same command goes on after a stop.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False
    verbose: _Verbose = False

    def settings(self) -> Config:
        """The configuration file, then `--set`, then the options that have a name of their own."""
        from videoclr.config import Config

        config = Config() if self.config is None else Config.load(self.config)
        _spare_config(self.config, report=self.report)
        # JSON is YAML, and its quotes keep `--start 1:30` a text
        named = [
            f"{path}={json.dumps(getattr(self, name))}"
            for name, path in _SETTING_OF.items()
            if getattr(self, name) not in (None, [])
        ]
        named += [text for name, text in _SWITCHES.items() if getattr(self, name)]
        return config.override(*(self.set_ or []), *named)


_SETTING_OF = {
    "codec": "media.codec",
    "crf": "media.crf",
    "preset": "media.preset",
    "pix_fmt": "media.pix_fmt",
    "profile": "media.profile",
    "bitrate": "media.bitrate",
    "deliver": "media.deliver",
    "hwaccel": "media.hwaccel",
    "video_stream": "media.video_stream",
    "drop": "media.drop",
    "start": "media.start",
    "end": "media.end",
    "frames": "media.frames",
    "input_format": "media.input.format",
    "video_size": "media.input.video_size",
    "input_pix_fmt": "media.input.pix_fmt",
    "rate": "media.input.rate",
    "start_number": "media.input.start_number",
    "output_start_number": "media.start_number",
    "container": "media.container",
    "deinterlace": "media.deinterlace",
    "fidelity": "restore.fidelity",
    "steps": "restore.steps",
    "reference": "identify.references",
    "only": "identify.only",
    "leave": "identify.leave",
    "tracks": "track.file",
    "people": "identify.people",
    "seed": "restore.seed",
    "strength": "blend.strength",
    "grain": "blend.grain",
    "device": "runtime.device",
    "on_error": "runtime.on_error",
}
_SWITCHES = {
    "smart_copy": "media.smart_copy=true",
    "look_first": "identify.look_first=true",
    "no_provenance": "media.provenance=false",
}


_GROUPS = {
    "Faces": "fidelity strength grain steps seed aligned",
    "People": "reference only leave look_first people tracks",
    "Input": "start end frames video_stream deinterlace hwaccel rate start_number input_format video_size input_pix_fmt",
    "Output": "codec profile crf bitrate preset pix_fmt smart_copy deliver drop no_provenance container output_start_number"
    " overwrite",
    "Run": "device resume on_error fail_on",
    "Reports": "report report_frames log_json metrics quiet verbose",
}
"""Under which heading the help lists the shared options, by their names in `_Options`; what stands nowhere here comes first."""


class _Grouped(TyperCommand):
    """A command whose help lists its many options under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        group_of = {name: group for group, names in _GROUPS.items() for name in names.split()}
        place = {name: number for number, name in enumerate(group_of)}
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Arguments", "Options", *_GROUPS)}
        for param in sorted(self.get_params(ctx), key=lambda param: place.get(str(param.name), -1)):
            record = param.get_help_record(ctx)
            if record is not None:
                rest = "Arguments" if param.param_type_name == "argument" else "Options"
                sections[group_of.get(str(param.name), rest)].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _hiding(*names: str) -> Callable[[Callable[..., _Run]], Callable[..., _Run]]:
    """Leave options that a command takes only to refuse or ignore them out of its help."""

    def with_less(called: Callable[..., _Run]) -> Callable[..., _Run]:
        signature = inspect.signature(called)
        shown = [_hidden(p) if p.name in names else p for p in signature.parameters.values()]
        called.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
        return called

    return with_less


def _hidden(parameter: inspect.Parameter) -> inspect.Parameter:
    kind, option = get_args(parameter.annotation)
    option = copy(option)
    option.hidden = True
    return parameter.replace(annotation=Annotated[kind, option])


def _with_options(command: Callable[..., _Run]) -> Callable[..., _Run]:
    """Give `command(..., options)` every field of `_Options` as an option of its own."""
    names = {field.name for field in fields(_Options)}

    def called(**given: Any) -> _Run:
        options = _Options(**{name: value for name, value in given.items() if name in names})
        return command(**{name: value for name, value in given.items() if name not in names}, options=options)

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"]
    shared = inspect.signature(_Options, eval_str=True).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    called.__signature__ = inspect.Signature([p.replace(kind=keyword) for p in (*own, *shared)])  # type: ignore[attr-defined]
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    return called


app = typer.Typer(
    name="videoclr",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Restore the faces in a video:  videoclr INPUT OUTPUT\n\n"
    "That is short for `videoclr restore INPUT OUTPUT`; its options: `videoclr restore --help`.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        _print(f"videoclr {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command(cls=_Grouped)
@_with_options
def restore(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Video, picture, pattern such as f%04d.png, or -.")],
    target: Annotated[str, typer.Argument(metavar="OUTPUT", help="Video, picture, pattern, or -.")],
    options: _Options,
    report_frames: _ReportFrames = None,
) -> _Run:
    """Restore the faces in a video or picture. `restore` itself need not be typed."""

    def go() -> int:
        settings, conditions = options.settings(), _conditions(options)
        _spare_config(options.config, OUTPUT=target, report_frames=report_frames)
        if target == "-" and is_closed(1):
            raise MediaError(target, "standard output is closed; name a file, or say where it leads")
        with (
            _speaking(options) as console,
            _watched(options, console, target, report_frames, *settings.files(), of=source) as (shown, finished),
        ):
            from videoclr.jobs import restore_video

            done = restore_video(
                source,
                target,
                settings,
                report=options.report,
                report_frames=report_frames,
                overwrite=options.overwrite,
                progress=shown,
                aligned=options.aligned,
                resume=options.resume,
            )
            finished(done, source)
            objected = _objected(done, conditions)
        if not options.quiet and options.log_json != "-":
            _say(_summary(done))
        return OBJECTED if objected else DONE

    return _Run(go, options.verbose)


@app.command(cls=_Grouped)
@_with_options
def batch(
    sources: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Videos or pictures.")],
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Where results go, under the inputs' names; made if it is not there.")
    ],
    options: _Options,
    ending: _Ending = None,
    cluster: _Cluster = None,
    workers: _Workers = None,
) -> _Run:
    """Restore many files into a folder: the networks are loaded once, and a bad file does not stop the others."""

    def go() -> int:
        settings, conditions, site = options.settings(), _conditions(options), _site(cluster, workers)
        _refuse_pipe(to)
        from videoclr.jobs import restore_batch, targets_of

        used: list[str | Path | None] = [*sources, *targets_of(sources, to, ending, settings.media.container), *settings.files()]
        with _speaking(options) as console, _watched(options, console, *used, folder=to) as (shown, finished):
            told = _Told(options, conditions, finished)
            restore_batch(
                sources,
                to,
                settings,
                ending=ending,
                report=options.report,
                overwrite=options.overwrite,
                progress=shown,
                aligned=options.aligned,
                resume=options.resume,
                ended=told,
                **site,
            )
        return told.code

    return _Run(go, options.verbose)


@app.command("watch", cls=_Grouped)
@_hiding("report", "overwrite", "aligned", "resume")
@_with_options
def watch_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where films and pictures arrive.")],
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Where results go, under the inputs' names; made if it is not there.")
    ],
    options: _Options,
    ending: _Ending = None,
    move_to: Annotated[
        Path | None,
        typer.Option("--move-to", metavar="FOLDER", help="Where inputs go once they are restored; they stay otherwise."),
    ] = None,
    settle: Annotated[
        float, typer.Option("--settle", metavar="S", help="Take a file when it has not changed for S seconds.")
    ] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="End when all that is there is done.")] = False,
) -> _Run:
    """Restore what is in a folder and whatever arrives there, until stopped; always as with --resume."""

    def go() -> int:
        settings, conditions = options.settings(), _conditions(options)
        for option, given in (("--report", options.report), ("--overwrite", options.overwrite), ("--aligned", options.aligned)):
            if given:
                raise ConfigError(f"{option}: goes with `restore` and `batch`, not with `watch`")
        _refuse_pipe(to)
        from videoclr.watch import watch

        with _speaking(options) as console, _watched(options, console, to, *settings.files(), folder=to) as (shown, finished):
            told = _Told(options, conditions, finished)
            watch(folder, to, settings, ending=ending, move_to=move_to, settle=settle, once=once, progress=shown, ended=told)
        return told.code

    return _Run(go, options.verbose)


@app.command("timeline", cls=_Grouped)
@_hiding("aligned")
@_with_options
def timeline_(
    timeline: Annotated[
        str, typer.Argument(metavar="TIMELINE", help="A cut: .otio, .edl, .aaf, .fcpxml, or .xml of Final Cut Pro 7.")
    ],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the restored parts and the new cut go.")],
    options: _Options,
    media: Annotated[
        list[Path] | None,
        typer.Option("--media", metavar="FOLDER", help="Look here for files that are not where the cut says; repeatable."),
    ] = None,
    handles: Annotated[
        int, typer.Option("--handles", metavar="N", help="Frames to restore before and behind what a clip shows.")
    ] = 12,
    sequence: Annotated[
        str | None, typer.Option("--sequence", metavar="NAME", help="Which one, where the file holds several timelines.")
    ] = None,
    save_as: Annotated[
        Path | None,
        typer.Option("--save-as", metavar="FILE", help="The new cut, also in another format; its old name in FOLDER otherwise."),
    ] = None,
    consolidate: Annotated[
        bool, typer.Option("--consolidate", help="Keep parts without a face too; otherwise their clips go on showing the original.")
    ] = False,
    ending: _Ending = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be restored, and do nothing.")] = False,
    cluster: _Cluster = None,
    workers: _Workers = None,
) -> _Run:
    """Restore what a cut shows, with handles, and write a cut that shows the restored files."""

    def go() -> int:
        settings, conditions, site = options.settings(), _conditions(options), _site(cluster, workers)
        if options.aligned:
            raise ConfigError("--aligned: a cut shows whole pictures")
        _refuse_pipe(to)
        from videoclr.timeline import parts_of_timeline, restore_timeline, table_of

        given: dict[str, Any] = {"handles": handles, "media": media or [], "sequence": sequence, "ending": ending}
        _spare_config(options.config, save_as=save_as)
        given |= {"save_as": save_as, "report": options.report, "overwrite": options.overwrite, "resume": options.resume}
        if dry_run:
            _refuse_used(options, timeline, *settings.files())
            with _speaking(options):
                parts, missed = parts_of_timeline(timeline, to, settings, **given)
            _print(_columns(list(table_of(parts))))
            for text in missed:
                _say(f"error: {text}")
            return FAILED if missed else DONE
        used: list[str | Path | None] = [timeline, save_as or to / Path(timeline).name, *settings.files()]
        with _speaking(options) as console, _watched(options, console, *used, folder=to) as (shown, finished):
            told = _Told(options, conditions, finished)
            done = restore_timeline(timeline, to, settings, **given, consolidate=consolidate, progress=shown, ended=told, **site)
        for text in done.missed:
            _say(f"error: {text}")
        if done.kept:
            _say(f"error: {done.timeline}: is left as it was, for parts failed whose earlier results it may show")
        elif done.failed:
            _say(f"error: {done.timeline}: is not written, for none of its parts could be restored")
        elif not options.quiet and options.log_json != "-":
            left = f", {done.faceless} without a face left as they are" if done.faceless else ""
            _say(f"{done.timeline}: {done.relinked} of {_many(done.clips, 'clip')} restored{left}")
        return FAILED if done.missed else told.code

    return _Run(go, options.verbose)


@dataclass
class _Told:
    """Says of each of several files how it ended."""

    options: _Options
    conditions: list[Condition]
    finished: Callable[[Report | VideoclrError, str], None]
    objected: bool = False
    """Whether a condition of `--fail-on` held for one."""
    failed: bool = False
    """Whether one failed."""

    @property
    def code(self) -> int:
        """Of all of them."""
        return FAILED if self.failed else OBJECTED if self.objected else DONE

    def __call__(self, source: str, result: Report | VideoclrError) -> None:
        self.finished(result, source)
        if isinstance(result, VideoclrError):
            text = _as_typed(_one_line(result), {name for name in _named() if getattr(self.options, name) not in (None, [], False)})
            _say(f"error: {text if text.startswith(source) else f'{source}: {text}'}{_noted(result)}")
            self.failed = True
            return
        if not self.options.quiet and self.options.log_json != "-":
            _say(_summary(result))
        self.objected |= _objected(result, self.conditions)


@app.command("plan", cls=_Grouped)
@_hiding("report", "report_frames", "log_json", "metrics", "fail_on", "resume")
@_with_options
def plan_(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Video, or pattern such as f%04d.png.")],
    target: Annotated[str, typer.Argument(metavar="OUTPUT", help="Where the result would go; nothing is written there.")],
    options: _Options,
    pieces: Annotated[int, typer.Option("--pieces", metavar="N", help="Pieces of the film that are tried.")] = 6,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", help="Seconds of film in each piece.")] = 1.0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the plan as JSON.")] = None,
    report_frames: _ReportFrames = None,
) -> _Run:
    """Say how long a restoration will take here, and how large the result will be: `plan` before the same command.

    Options of that command which write reports, or say how it goes on or ends, do nothing here.
    """

    def go() -> int:
        settings = options.settings()
        _spare_config(options.config, json=json_file)
        # What is said of the pieces' own files would be of none that the user knows.
        with (
            _speaking(replace(options, quiet=not options.verbose)) as console,
            _steps_shown(console, options.quiet, "trying pieces of the film") as shown,
        ):
            from rich.filesize import decimal

            from videoclr.plan import plan

            made = plan(
                source,
                target,
                settings,
                pieces=pieces,
                seconds=seconds,
                aligned=options.aligned,
                json_file=json_file,
                overwrite=options.overwrite,
                progress=shown,
            )
        about, least, most = made.seconds
        size, twice = decimal(round(made.size[0])), "with --resume twice of it until it is done"
        tried = f"{_many(made.frames_tried, 'frame')} of {_many(len(made.pieces), 'piece')}"
        rows = [
            ("film", f"{_clock(made.duration)}, about {made.frames:,} frames; tried {tried}"),
            ("faces", f"{made.faces_per_frame:.2f} in a frame"),
            ("time", f"about {_clock(about)}" + (f", {_clock(least)} to {_clock(most)}" if most > about else "")),
            ("slowest", f"{made.slowest or '-'}"),
            ("result", f"about {size}" + (f"; {twice}" if _is_film(target, settings) else "")),
        ]
        if not options.quiet:
            for text in made.warnings:
                _say(f"warning: {text}")
        _print("".join(f"{name:<8} {text}\n" for name, text in rows))
        return DONE

    return _Run(go, options.verbose)


def _is_film(target: str, settings: Config) -> bool:
    """Whether the result is one that `--resume` takes: a file, and no pictures."""
    from videoclr.media.target import STILLS

    return target != "-" and (settings.media.container is not None or Path(target).suffix.lower() not in STILLS)


@app.command("faces")
def faces_(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Video, picture, pattern such as f%04d.png, or -.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="A new folder for a picture of every track, its best view.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write what was found as JSON.")] = None,
    save_tracks: Annotated[
        Path | None,
        typer.Option(
            "--save-tracks", metavar="FILE.jsonl", help="Write the place of every face, to be edited and given to --tracks."
        ),
    ] = None,
    save_people: Annotated[
        Path | None,
        typer.Option("--save-people", metavar="FILE.json", help="Write whom the film shows, to be given to --people of any film."),
    ] = None,
    tracks: _Tracks = None,
    people: _People = None,
    config: _ConfigFile = None,
    set_: _Settings = None,
    reference: _References = None,
    start: _Start = None,
    end: _End = None,
    rate: _Rate = None,
    start_number: _StartNumber = None,
    device: _Device = None,
    overwrite: _Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and the table.")] = False,
    verbose: _Verbose = False,
) -> _Run:
    """Show whom a film shows, and where, without restoring: tracks by number, for `--only` and `--leave`."""

    def go() -> int:
        given = {
            "config": config,
            "set_": set_,
            "reference": reference,
            "tracks": tracks,
            "people": people,
            "start": start,
            "end": end,
        }
        pictures = {"rate": rate, "start_number": start_number}
        options = _Options(**given, **pictures, device=device, quiet=quiet, verbose=verbose)  # type: ignore[arg-type]
        settings = options.settings()
        _spare_config(config, json=json_file, save_tracks=save_tracks, save_people=save_people)
        if to is not None:
            _refuse_pipe(to)
        with _speaking(options) as console, _progress_shown(console, quiet) as shown:
            from videoclr.faces import find_faces, table

            found = find_faces(
                source,
                to,
                settings,
                json_file=json_file,
                tracks_file=save_tracks,
                people_file=save_people,
                overwrite=overwrite,
                progress=None if shown is None else shown.progress,
            )
        _print(_columns(list(table(found))))
        if not quiet:
            counted = f"{_many(found.faces, 'face')} in {_many(len(found.tracks), 'track')}, {_many(found.shots, 'shot')}"
            _say(f"{source}: {_many(found.frames, 'frame')}, {counted}, {_clock(found.seconds)}")
        return DONE

    return _Run(go, verbose)


@app.command("review")
def review_(
    report: Annotated[Path, typer.Argument(metavar="REPORT.json", help="What --report wrote.")],
    lines: Annotated[Path, typer.Argument(metavar="FRAMES.jsonl", help="What --report-frames wrote.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE.html", help="The page.")],
    source: Annotated[str | None, typer.Option("--input", metavar="FILE", help="The input, where it was moved.")] = None,
    restored: Annotated[str | None, typer.Option("--output", metavar="FILE", help="The restored film, where it was moved.")] = None,
    most: Annotated[
        int, typer.Option("--most", metavar="N", help="Tracks that are shown, at most; doubtful ones come first.")
    ] = 200,
    overwrite: _Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: _Verbose = False,
) -> _Run:
    """Make a page of a restored film: every track at its doubtful moments, before and after, worst first."""

    def go() -> int:
        with (
            _speaking(_Options(quiet=quiet, verbose=verbose)) as console,
            _steps_shown(console, quiet, "reading both films") as shown,
        ):
            from videoclr.review import review

            done = review(report, lines, to, source=source, restored=restored, most=most, overwrite=overwrite, progress=shown)
        if not quiet:
            _say(f"{done.page}: {done.shown} of {_many(done.tracks, 'track')}, {_many(done.pictures, 'picture')}")
        return DONE

    return _Run(go, verbose)


@app.command("eval")
def evaluate(
    clean: Annotated[str, typer.Argument(metavar="CLEAN", help="The clip to be measured against: a file, pattern or folder.")],
    restored: Annotated[str, typer.Argument(metavar="RESTORED", help="The restored clip, of the same frames.")],
    degraded: Annotated[str | None, typer.Option("--input", metavar="CLIP", help="The degraded clip it was made from.")] = None,
    judge: Annotated[
        Path | None, typer.Option("--judge", metavar="FILE.py", help="A Python file with the networks that score (see README).")
    ] = None,
    borders: Annotated[
        int | None, typer.Option("--borders", metavar="N", help="Measure also whether seams show at every N-th frame.")
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Side of the aligned crops, pixels.")] = 256,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON.")] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the figures of every face in every frame.")
    ] = None,
    config: _ConfigFile = None,
    set_: _Settings = None,
    overwrite: _Overwrite = False,
    verbose: _Verbose = False,
) -> _Run:
    """Measure a restored clip against its clean twin: fidelity, identity, and how both hold over time."""

    def go() -> int:
        settings = _Options(config=config, set_=set_).settings()
        _spare_config(config, json=json_file, csv=csv_file)
        with _speaking(_Options(verbose=verbose)) as console:
            from videoclr.evaluation.files import evaluate as measure
            from videoclr.evaluation.table import text

            figures = measure(
                clean,
                restored,
                degraded,
                settings,
                size=size,
                judge=judge,
                borders=borders,
                json_file=json_file,
                csv_file=csv_file,
                overwrite=overwrite,
                progress=_counting(console, clean),
            )
        _print(text(figures))
        return DONE

    return _Run(go, verbose)


@app.command()
def doctor(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> _Run:
    """Show versions, devices, working codecs and the state of the weights; exits 1 where something is broken."""

    def go() -> int:
        from videoclr.doctor import examine, table

        findings = examine()
        _print(table(findings))
        return DONE if all(finding.ok for finding in findings) else FAILED

    return _Run(go, verbose)


_weights = typer.Typer(
    name="weights",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Show and check the weights, and add those of others: `--set detect.weights=NAME` then uses them.",
)
app.add_typer(_weights)


@_weights.command("list")
def weights_list(verbose: _Verbose = False) -> _Run:
    """All weights: state, name, origin, bytes, parameters, licence."""

    def go() -> int:
        from videoclr.models.store import listing

        rows = [(one.state, one.name, one.origin, f"{one.bytes:,}", f"{one.parameters:,}", one.licence) for one in listing()]
        _print(_columns([("state", "name", "origin", "bytes", "parameters", "licence"), *rows]))
        return DONE

    return _Run(go, verbose)


@_weights.command("verify")
def weights_verify(verbose: _Verbose = False) -> _Run:
    """Read and hash every file; exits 1 where one is missing or not the one it should be."""

    def go() -> int:
        from videoclr.models.store import listing

        found = listing()
        _print(_columns([(one.state, one.name, one.advice) for one in found]))
        return DONE if all(one.state == "ok" for one in found) else FAILED

    return _Run(go, verbose)


@_weights.command("show")
def weights_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `weights list` shows it.")], verbose: _Verbose = False
) -> _Run:
    """The model card: what the weights are, their data, figures, limits and licence."""

    def go() -> int:
        from videoclr.models.store import card

        _print("".join(f"{_harmless(line)}\n" for line in card(name).split("\n")).removesuffix("\n"))
        return DONE

    return _Run(go, verbose)


@_weights.command("add")
def weights_add(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file, a folder that holds it, or an http(s) address.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What to call them.")],
    sha256: Annotated[str, typer.Option("--sha256", metavar="HEX", help="Of the file, 64 digits; any other file is refused.")],
    licence: Annotated[str, typer.Option("--licence", metavar="TEXT", help="As their publisher states it.")] = "unknown",
    offline: Annotated[bool, typer.Option("--offline", help="Refuse addresses.")] = False,
    verbose: _Verbose = False,
) -> _Run:
    """Keep weights of others under a name; a download that broke off goes on where it stopped."""

    def go() -> int:
        from videoclr.models.store import add

        with _speaking(_Options(verbose=verbose)) as console, _download_shown(console, name) as shown:
            kept = add(source, name, sha256, licence=licence, offline=offline, progress=shown)
        converted = ", converted to safetensors" if kept.sha256 != kept.source_sha256 else ""
        _say(f"added {name}: {kept.bytes:,} bytes, {_many(kept.parameters, 'parameter', ',')}{converted}")
        return DONE

    return _Run(go, verbose)


@_weights.command("remove")
def weights_remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `weights list` shows it.")], verbose: _Verbose = False
) -> _Run:
    """Delete weights that were added."""

    def go() -> int:
        from videoclr.models.store import remove

        remove(name)
        _say(f"removed {name}")
        return DONE

    return _Run(go, verbose)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Aligned lines of text; columns of numbers to the right."""
    rows = [[_harmless(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if cell.replace(",", "").isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (default: the process's own) and return the exit code."""
    verbose = False
    open_closed_streams()
    spell_out()
    try:
        settle_heap()
        with stoppable(), _doubting(list(sys.argv[1:] if argv is None else argv)):
            run = _parse(list(sys.argv[1:] if argv is None else argv))
            if isinstance(run, int):
                return run
            verbose = run.verbose
            return run.go()
    except (KeyboardInterrupt, typer.Abort) as stop:
        _say(f"error: stopped{_noted(stop)}")
        return STOPPED
    except (Exception, SystemExit) as error:
        return _failed(error, verbose, list(sys.argv[1:] if argv is None else argv))
    finally:
        let_go_of_streams()


@contextmanager
def _doubting(arguments: list[str]) -> Iterator[None]:
    """Ask what is meant where a command's name was mistyped, and all was taken for the arguments of `restore`."""
    try:
        yield
    except Exception as error:
        first = arguments[0] if arguments else ""
        is_word = first not in _commands() and not first.startswith("--") and not set("./\\%#@") & set(first)
        if is_word and not os.path.exists(first):
            known = {name: name for name in _commands()} | {"help": "--help", "version": "--version"}
            for near in get_close_matches(first.lower(), known, 1, 0.6):
                error.add_note(f"is `videoclr {known[near]}` meant?")
        raise


def _commands() -> set[str]:
    """The names of all commands."""
    named = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    return named | {str(_weights.info.name)}


def _wrong_usage(error: Exception) -> str:
    """What the parser did not understand, and where help is."""
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "videoclr")
    implied = path in ("videoclr", "videoclr restore")
    hint = "see `videoclr --help` and `videoclr restore --help`" if implied else f"see `{path} --help`"
    text = " ".join((error.format_message() if hasattr(error, "format_message") else str(error)).split()).removesuffix(".")
    text = text.replace(": Input should", ": it should")  # INPUT is another argument
    if hasattr(error, "possibilities") and context is not None:
        option = str(getattr(error, "option_name", ""))
        commands: dict[str, Any] = getattr(context.find_root().command, "commands", {})
        owners = [name for name, command in commands.items() if any(option in param.opts for param in _shown(command))]
        if owners:
            text = f"{option} is no option of {path.removeprefix('videoclr ')}, but of {', '.join(owners)}"
            setting = _SETTING_OF.get(option.removeprefix("--").replace("-", "_"))
            if setting is not None and any("--set" in param.opts for param in context.command.params):
                text += f"; here it is --set {setting}=VALUE"
    elif implied and text.startswith("Got unexpected extra argument"):
        text += "; expected one input and one output: put names with blanks in quotes, and give several inputs to `videoclr batch`"
    return f"{text}{_noted(error)} ({hint})"


def _shown(command: Any) -> list[Any]:
    """The parameters that the help of a command shows."""
    return [param for param in command.params if not getattr(param, "hidden", False)]


@functools.cache
def _parser() -> Any:
    """Of all commands; a program that calls `main` again and again needs it made once."""
    return typer.main.get_command(app)


def _parse(arguments: list[str]) -> _Run | int:
    """What to run, or an exit code where the parser answered by itself (`--help`, `--version`)."""
    if "" in arguments:
        before = arguments[: arguments.index("")]
        where = f"after {before[-1]}" if before else "at the beginning"
        raise ConfigError(f"an argument is empty ({where}), as of a variable that is not set")
    if arguments and arguments[0] not in _commands() | {"-h", "--help", "--version"}:
        arguments = ["restore", *arguments]
    result: Any = _parser().main(args=arguments or ["--help"], prog_name="videoclr", standalone_mode=False)
    if isinstance(result, _Run):
        return result
    return int(result or DONE) if arguments else USAGE


def _failed(error: BaseException, verbose: bool, arguments: Sequence[str]) -> int:
    """Say in one line what went wrong; the exit code says whose fault it was."""
    if any(isinstance(cause, OSError) and cause.errno == errno.EPIPE for cause in _causes(error)):
        # whoever read our output has left: nothing to say, and nobody to say it to. Without this the interpreter
        # would complain once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    if verbose:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, _USAGE_ERROR):
        _say(f"error: {_wrong_usage(error)}")
        return USAGE
    if isinstance(error, VideoclrError):
        typed = {text.partition("=")[0].removeprefix("--").replace("-", "_") for text in arguments if text.startswith("--")}
        _say(f"error: {_as_typed(_one_line(error), typed)}{_noted(error)}")
        return USAGE if isinstance(error, ConfigError) else FAILED
    if "torch" in sys.modules:
        from videoclr.shortage import is_of_the_device, of_the_device

        if is_of_the_device(error):
            _say(f"error: {of_the_device(error)}{_noted(error)}")
            return FAILED
    kind = "" if isinstance(error, OSError) else f"unexpected {type(error).__name__}: "
    _say(f"error: {kind}{_one_line(error)}{_noted(error)}" + ("" if verbose else " (--verbose shows where)"))
    return FAILED


def _named() -> dict[str, str]:
    """Options that are settings under another name -> these settings."""
    return _SETTING_OF | {name: text.partition("=")[0] for name, text in _SWITCHES.items()}


def _as_typed(text: str, typed: Collection[str]) -> str:
    """`text` with what settings are called by the options that gave them, of which `typed` are: `--codec`, not `$.media.codec`."""
    for name, path in _named().items():
        if name in typed:
            text = re.sub(rf"\$\.{re.escape(path)}(\[\d+\])?(?![\w.\[])", f"--{name.replace('_', '-')}", text)
    return text


def _noted(error: BaseException) -> str:
    """What was added to an error on its way: ` (12 frames are kept ...)`."""
    return "".join(f" ({note})" for note in getattr(error, "__notes__", []))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _harmless(text: str) -> str:
    """`text` as one line that a terminal shows and does not obey: file names and tags may hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _print(text: str) -> None:
    """On standard output.

    Raises:
        OSError: it cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody is there to read it
        sys.stderr.write(f"videoclr: {_harmless(text)}\n")
        sys.stderr.flush()


class _ToConsole(logging.Handler):
    """The library's log as lines above the progress bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        line = f"videoclr: {record.levelname.lower()}: {_harmless(record.getMessage())}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _speaking(options: _Options) -> Iterator[Console]:
    """A console on standard error that also shows the log, at the level that the options ask for."""
    from rich.console import Console

    # with `--log-json -`: one kind of line or the other
    console = Console(file=cast(IO[str], Stderr()), quiet=options.log_json == "-")
    handler = _ToConsole(console)
    level = logging.ERROR if options.quiet else logging.INFO if options.verbose else logging.WARNING
    library, foreign = logging.getLogger("videoclr"), logging.getLogger("py.warnings")
    before = library.level, library.propagate
    library.addHandler(handler)
    library.setLevel(level)
    library.propagate = False
    # warnings of the libraries below (deprecations, mostly) are for developers
    logging.captureWarnings(True)
    silent = logging.NullHandler() if not options.verbose else handler
    foreign.addHandler(silent)
    try:
        yield console
    finally:
        logging.captureWarnings(False)
        foreign.removeHandler(silent)
        library.removeHandler(handler)
        library.level, library.propagate = before


def _spare_config(config: Path | None, **places: str | Path | None) -> None:
    """Keep what is written, by the option's name with `_` for a hyphen, from replacing the file of settings."""
    if config is None:
        return
    from videoclr.report import refuse_used

    for name, place in places.items():
        if place is not None:
            refuse_used(place, [config], name if name.isupper() else f"--{name.replace('_', '-')}")


def _refuse_used(options: _Options, *used: str | Path | None) -> None:
    """Keep the logs that `options` name from writing over files of the run."""
    from videoclr.report import refuse_used

    others = [*used, options.config, options.report]
    for option, path in (("--metrics", options.metrics), ("--log-json", options.log_json)):
        if path is not None:
            refuse_used(path, others, option)
        others.append(path)


@contextmanager
def _watched(
    options: _Options, console: Console, *used: str | Path | None, of: str | None = None, folder: Path | None = None
) -> Iterator[tuple[ProgressCallback | None, Callable[[Report | VideoclrError, str], None]]]:
    """A callback that tells everybody who wants to know how far a job is, and one for its end.

    Args:
        options: say who wants to know.
        console: for the progress.
        used: files of the run.
        of: the source, where there is one alone.
        folder: of the results, in which the logs may lie.
    """
    from videoclr.report import Report

    _refuse_used(options, of, *used)
    if folder is not None and (options.metrics is not None or options.log_json is not None):
        from videoclr.jobs import make_folder

        make_folder(folder)
    callbacks: list[ProgressCallback] = []
    ends: list[Callable[[Report | VideoclrError, str], None]] = []
    with ExitStack() as stack:
        shown = stack.enter_context(_progress_shown(console, options.quiet or options.log_json == "-"))
        if shown is not None:
            callbacks.append(shown.progress)
            ends.append(lambda _, source: shown.ended(source))
        if options.metrics is not None:
            from videoclr.monitor import PrometheusFile

            figures = stack.enter_context(PrometheusFile(options.metrics))
            callbacks.append(figures.progress)
            ends.append(figures.ended)
        if options.log_json is not None:
            from videoclr.monitor import JsonLog

            log = stack.enter_context(JsonLog(options.log_json, source=of))
            library = logging.getLogger("videoclr")
            library.addHandler(log)
            stack.callback(library.removeHandler, log)
            callbacks.append(log.progress)
            ends.append(lambda end, source: log.finished(end) if isinstance(end, Report) else log.failed(source, _one_line(end)))

        def progress(now: Progress) -> None:
            for callback in callbacks:
                callback(now)

        def finished(end: Report | VideoclrError, source: str) -> None:
            for tell in ends:
                tell(end, source)

        yield (progress if callbacks else None), finished


class _Shown(Protocol):
    """Shows how far jobs are, several at a time."""

    def progress(self, now: Progress) -> None: ...

    def ended(self, source: str) -> None: ...


@contextmanager
def _progress_shown(console: Console, quiet: bool) -> Iterator[_Shown | None]:
    """For `videoclr.jobs`: bars on a terminal, a line every few seconds elsewhere, nothing if quiet."""
    if quiet:
        yield None
    elif console.is_terminal:
        with _bars(console) as shown:
            yield shown
    else:
        yield _Lines(console)


@contextmanager
def _bars(console: Console) -> Iterator[_Shown]:
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.TextColumn("{task.fields[numbers]}", markup=False),
        rich.TextColumn("{task.fields[left]}", markup=False),
    )
    with rich.Progress(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)


class _Bars:
    """A bar for every source that is not over."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def progress(self, now: Progress) -> None:
        if now.source not in self._tasks:
            self._tasks[now.source] = self._bars.add_task(_harmless(Path(now.source).name), numbers="", left="")
        task = self._tasks[now.source]
        self._bars.update(task, completed=now.frames, total=now.total, numbers=_numbers(now), left=_time_left(now))

    def ended(self, source: str) -> None:
        if source in self._tasks:
            self._bars.remove_task(self._tasks.pop(source))


@contextmanager
def _download_shown(console: Console, name: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """A bar of bytes on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield None
        return
    from rich import progress as rich

    columns = (rich.TextColumn("{task.description}", markup=False), rich.BarColumn(), rich.DownloadColumn())
    with rich.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _steps_shown(console: Console, quiet: bool, doing: str) -> Iterator[Callable[[int, int], None] | None]:
    """A line that says how many steps of a short work are done, on a terminal alone."""
    if quiet or not console.is_terminal:
        yield None
        return
    with console.status(f"videoclr: {doing}") as line:
        yield lambda done, total: line.update(f"videoclr: {doing}, {done} of {total} done")


class _Lines:
    """A line every few seconds for every source that is not over."""

    def __init__(self, console: Console) -> None:
        from videoclr.monitor import Pace

        self._console = console
        self._pace = Pace(time.monotonic, PLAIN_PROGRESS_SECONDS, time.monotonic())

    def progress(self, now: Progress) -> None:
        if self._pace.is_due(now.source):
            text = ", ".join(filter(None, [_numbers(now), _time_left(now)]))
            self._console.print(f"videoclr: {_harmless(now.source)}: {text}", markup=False, highlight=False, soft_wrap=True)

    def ended(self, source: str) -> None:
        self._pace.over(source)


def _counting(console: Console, source: str) -> Callable[[int], None]:
    said = time.monotonic()

    def shown(frames: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_PROGRESS_SECONDS:
            said = time.monotonic()
            console.print(
                f"videoclr: {_harmless(source)}: {_many(frames, 'frame')} read", markup=False, highlight=False, soft_wrap=True
            )

    return shown


def _numbers(now: Progress) -> str:
    frames = _many(now.frames, "frame") if now.total is None else f"{now.frames} of {_many(now.total, 'frame')}"
    rate = f"{(now.frames - now.before) / now.seconds:.1f} fps" if now.seconds > 0 else "- fps"
    if now.looking:
        return f"looked at {frames}, {rate}"
    return f"{frames}, {rate}, {_many(now.faces, 'face')}"


def _time_left(now: Progress) -> str:
    left = now.seconds_left
    return "" if left is None else f"{_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _site(cluster: str | None, workers: int | None) -> dict[str, Any]:
    """The argument of `restore_batch` that says where; none where nobody says."""
    if cluster is None:
        if workers is not None:
            raise ConfigError("--workers: says how many of a cluster; name one with --cluster")
        return {}
    from videoclr.cluster import Cluster

    return {"site": Cluster(cluster, workers)}


def _refuse_pipe(folder: Path) -> None:
    """A folder `-` would be a pipe's name gone wrong."""
    if str(folder) == "-":
        raise ConfigError("--to: expected a folder, not a pipe; `videoclr INPUT -` writes one film to standard output")


def _conditions(options: _Options) -> list[Condition]:
    """Of `--fail-on`; a bad one is said before the work starts."""
    if not options.fail_on:
        return []
    from videoclr.checks import Condition

    return [Condition.of(text) for text in options.fail_on]


def _objected(done: Report, conditions: Sequence[Condition]) -> bool:
    """Log what speaks against a result, as errors: that is what was asked for. Whether anything does."""
    if not conditions:
        return False
    from videoclr.checks import objections

    found = list(objections(done, conditions))
    for text in found:
        logging.getLogger("videoclr.cli").error("%s: %s", done.target, text)
    return bool(found)


def _summary(done: Report) -> str:
    copied = done.smart_copy
    told = ""
    if copied is not None:
        told = f", {_many(copied['frames_copied'], 'frame')} copied in {_many(copied['groups_copied'], 'group')}"
    frames, faces = _many(done.frames_out, "frame"), _many(done.faces_restored, "face")
    return (
        f"{done.target}: {frames}, {faces} restored in {_many(len(done.tracks), 'track')}, "
        f"{_many(done.shots, 'shot')}{told}, {_clock(done.seconds)}"
    )


def _many(count: int, noun: str, form: str = "") -> str:
    return f"{count:{form}} {noun}{'' if count == 1 else 's'}"

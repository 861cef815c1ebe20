"""Weights of others: the folder they are kept in, the names they go by, and the one downloader of the package.

In `cache_folder()`, for weights called NAME:

* `NAME-<first 12 digits of its SHA-256>.safetensors`: the tensors. Nothing that could run is ever kept: a pickle is read
  as plain tensors (`read_state`) and written anew.
* `NAME.weights.json`: what they are (`Added`). It is written last, by rename, and only it makes weights known: whatever
  goes wrong before leaves the weights that had the name as they were.
* `NAME.<process>.tensors`, `.entry` and `.adding`: the two in the making, and the lock of who makes them. What a process
  that was killed has left of them is cleared away by the next that adds or removes anything.
* `<SHA-256>.part`: what has come of a download. It is named after what is expected, so that the next try goes on with
  it, from another address as well.

Every file is known by its SHA-256; a transfer that breaks off, a mirror that lies and a damaged disk look the same here,
and none gets past it.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import math
import os
import re
import shlex
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

from videoclr import __version__
from videoclr.errors import ConfigError, WeightsError
from videoclr.models import weights
from videoclr.models.weights import read_state, sha256, state_of

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("videoclr.weights")

UNKNOWN = "unknown"
"""The licence of weights that nobody stated one for."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What weights may be called."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
"""Endings under which weights are looked for in a folder; what a file is, its content says."""

DownloadProgress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes of the whole file (None where the server does not say)."""


@dataclass(frozen=True)
class Added:
    """Weights that `add` or `fetch` keeps."""

    name: str
    """As in `detect.weights=NAME`."""
    sha256: str
    """Of the kept safetensors file."""
    bytes: int
    """Of the kept safetensors file."""
    parameters: int
    """Numbers in all tensors."""
    licence: str
    """As whoever added them stated it."""
    source: str
    """File or address they came from, without what may be secret in it."""
    source_sha256: str
    """Of what came from there: differs from `sha256` where a pickle was converted."""

    @property
    def path(self) -> Path:
        """The kept file."""
        return cache_folder() / f"{self.name}-{self.sha256[:12]}.safetensors"

    @property
    def state(self) -> str:
        """`ok`, `missing`, `unreadable` or `wrong hash`, by reading the file."""
        return state_of(self.path, self.sha256)


@dataclass(frozen=True)
class Known:
    """One line of `videoclr weights list`."""

    name: str
    origin: str
    """`embedded` or `added`."""
    sha256: str
    bytes: int
    parameters: int
    licence: str
    state: str
    """`ok`, `missing`, `unreadable` or `wrong hash`."""
    advice: str
    """What to do; empty where the state is `ok`."""


def cache_folder() -> Path:
    """Where weights of others are kept: `$VIDEOCLR_CACHE`, else `videoclr` in `$XDG_CACHE_HOME` or `~/.cache`."""
    own = os.environ.get("VIDEOCLR_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videoclr"


def added() -> dict[str, Added]:
    """Name -> what is kept under it, by name.

    Raises:
        WeightsError: a damaged entry.
    """
    from pydantic import TypeAdapter, ValidationError

    entries = {}
    for path in sorted(cache_folder().glob("*.weights.json")):
        name = path.name.removesuffix(".weights.json")
        try:
            entries[name] = TypeAdapter(Added).validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise WeightsError(path, f"damaged; `videoclr weights remove {name}`, and add the weights again") from error
    return entries


def listing() -> list[Known]:
    """All weights there are, embedded ones first, every file read and hashed.

    Raises:
        WeightsError: the embedded manifest, or an entry, is missing or damaged.
    """
    states = weights.verify()
    found = [_known(name, "embedded", entry, states[name], "install videoclr again") for name, entry in weights.manifest().items()]
    return found + [_known(one.name, "added", asdict(one), one.state, _again(one)) for one in added().values()]


def _known(name: str, origin: str, entry: dict[str, object], state: str, advice: str) -> Known:
    values = {key: entry[key] for key in ("sha256", "bytes", "parameters", "licence")}
    return Known(name, origin, **values, state=state, advice="" if state == "ok" else advice)  # type: ignore[arg-type]


def _again(one: Added) -> str:
    return f"add it again: videoclr weights add {shlex.quote(one.source)} --name {one.name} --sha256 {one.source_sha256}"


def card(name: str) -> str:
    """The model card of embedded weights, or what is known of added ones; Markdown.

    Raises:
        WeightsError: no such weights, or their card cannot be read.
    """
    entries = added()
    if name in entries:
        return _card_of(entries[name])
    embedded = weights.manifest()
    if name not in embedded:
        raise WeightsError(name, f"no such weights; there are {', '.join([*embedded, *entries])}")
    path = weights.FOLDER / f"{name}.md"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise WeightsError(path, f"cannot be read ({error.strerror}); install videoclr again") from error


def _card_of(one: Added) -> str:
    rows = {
        "Source": one.source,
        "SHA-256 of the source": one.source_sha256,
        "Kept as": one.path,
        "SHA-256": one.sha256,
        "Size": f"{one.bytes:,} bytes, {one.parameters:,} parameters",
        "Licence": "unknown: ask whoever published them" if one.licence == UNKNOWN else one.licence,
        "State": one.state,
    }
    table = "".join(f"| {topic} | {value} |\n" for topic, value in rows.items())
    told = "Added by a user of this machine; their publisher knows how they were trained and what they are bad at."
    return f"# Weights `{one.name}`\n\n{told}\n\n| | |\n|---|---|\n{table}"


def find(given: str, others: Iterable[str] = ()) -> Path:
    """The file that a setting means: added weights of that name, their hash checked, else the path as it stands.

    Args:
        given: name or path.
        others: names that the caller knows besides, for the message.

    Raises:
        WeightsError: neither, or added weights whose file is not the one that was added.
    """
    entries = added()
    if given in entries:
        state = entries[given].state
        if state != "ok":
            raise WeightsError(entries[given].path, f"{state}; {_again(entries[given])}")
        return entries[given].path
    if Path(given).is_file():
        return Path(given)
    names = ", ".join([*others, *entries])
    raise WeightsError(given, f"no such file, nor one of {names}" if names else "no such file, and no weights were added yet")


def add(
    source: str,
    name: str,
    digest: str,
    *,
    licence: str = UNKNOWN,
    offline: bool = False,
    progress: DownloadProgress | None = None,
) -> Added:
    """Keep weights under a name, in place of those that had it.

    Args:
        source: a file; a folder, of which the file with this SHA-256 is taken; or an http(s) address. safetensors are
            kept as they are, a pickle of plain tensors is converted.
        name: letters, digits, `.`, `_`, `-`; not one of the embedded weights'.
        digest: SHA-256 of the file, hexadecimal.
        licence: what the weights may be used for, as their publisher says.
        offline: refuse addresses.
        progress: told how far a download is.

    Raises:
        ConfigError: a name or digest that cannot be one, or an address with `offline`.
        WeightsError: the source is missing, not the file of this SHA-256, or no plain tensors; the address does not
            answer; the folder cannot be written. What had the name before is still there.
    """
    name, digest = _checked_name(name), _checked_digest(digest)
    if "://" in source:
        if offline:
            raise ConfigError(f"weights add: --offline, and {_shown(source)} is an address; give a file or a folder")
        return _added_from_address(name, source, digest, licence, "check the address and the network", progress)
    with _written():
        file = _file(Path(source), digest)
        kept = _keep(file, name, digest, licence, str(file.absolute()))
        _forget_part(digest)
        return kept


def fetch(name: str, url: str, digest: str, licence: str, advice: str) -> Path:
    """The file of weights that a part knows, downloaded under `name` unless they are there already.

    Args:
        name: under which they are kept.
        url: their address.
        digest: SHA-256 of what lies there.
        licence: theirs.
        advice: what to do when the address does not answer.

    Raises:
        WeightsError: as `add`, or somebody added other weights under this name.
    """
    known = added().get(name)
    if known is not None and known.source_sha256 != digest:
        raise WeightsError(name, f"other weights were added by this name; `videoclr weights remove {name}`, or use the file itself")
    if known is not None and known.state == "ok":
        return known.path  # without the lock: the folder may be one that cannot be written
    return _added_from_address(name, url, digest, licence, advice, None).path


def remove(name: str) -> None:
    """Forget added weights and delete their file.

    Raises:
        WeightsError: there are none of this name, or the folder cannot be written.
    """
    entry, files = _entry_path(name), _files_of(name)
    if not NAME.fullmatch(name) or not (entry.exists() or files):
        others = ", ".join(added()) or "none"
        raise WeightsError(name, f"no such added weights; there are {others}")
    with _written():
        entry.unlink(missing_ok=True)  # first: without its entry a file is only litter
        for file in files:
            file.unlink(missing_ok=True)
        _clear_away()


def _entry_path(name: str) -> Path:
    return cache_folder() / f"{name}.weights.json"


def _files_of(name: str) -> list[Path]:
    """The kept files of weights called `name`: one, or more after a crash between writing and cleaning up."""
    pattern = re.compile(re.escape(name) + r"-[0-9a-f]{12}\.safetensors")
    return [path for path in sorted(cache_folder().glob("*.safetensors")) if pattern.fullmatch(path.name)]


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name) or Path(name).suffix in SUFFIXES:
        raise ConfigError(f"weights add: {name!r} is no name; use up to 64 letters, digits, '.', '_', '-', and no file ending")
    if name in {"embedded", *weights.manifest()}:
        raise ConfigError(f"weights add: {name!r} is the name of embedded weights; choose another")
    return name


def _checked_digest(digest: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise ConfigError(f"weights add: {digest!r} is no SHA-256, which has 64 hexadecimal digits (`sha256sum FILE` prints it)")
    return digest.lower()


def _file(source: Path, digest: str) -> Path:
    """`source`, or the file in the folder `source`, that has this SHA-256."""
    try:
        if not source.is_dir():
            if source.exists() and not source.is_file():  # it could be read only once, or without an end
                raise WeightsError(source, "is a pipe or a device; save what comes out of it as a file, and add that")
            found = sha256(source)
            if found != digest:
                raise WeightsError(source, f"is not the file that is expected: its SHA-256 is {found}, not {digest}")
            return source
        files = [path for path in sorted(source.iterdir()) if path.suffix in SUFFIXES and path.is_file()]
        for path in files:
            if sha256(path) == digest:
                return path
    except OSError as error:
        raise WeightsError(error.filename or source, f"cannot be read ({error.strerror})") from error
    raise WeightsError(source, f"none of its {len(files)} weights files ({', '.join(SUFFIXES)}) has SHA-256 {digest}")


@contextmanager
def _written() -> Iterator[None]:
    """What goes wrong inside, on the disk, is a `WeightsError` of the folder."""
    try:
        yield
    except OSError as error:
        raise WeightsError(cache_folder(), f"cannot be written ({error.strerror})") from error


def _keep(file: Path, name: str, digest: str, licence: str, source: str) -> Added:
    """Keep the tensors of `file`, whose hash is checked already, under `name`; `source` is what messages call the file."""
    folder, mark = cache_folder(), f"{name}.{os.getpid()}"
    tensors, entry = folder / f"{mark}.tensors", folder / f"{mark}.entry"
    folder.mkdir(parents=True, exist_ok=True)
    _clear_away()
    with _adding(folder / f"{mark}.adding"):
        try:
            if _is_safetensors(file):
                shutil.copyfile(file, tensors)
            else:
                _write_tensors(tensors, read_state(file), {"source": source, "source_sha256": digest})
            size = tensors.stat().st_size
            kept = Added(name, sha256(tensors), size, _parameters(tensors), licence, source, digest)
            entry.write_text(json.dumps(asdict(kept), indent=1) + "\n", encoding="utf-8")
            tensors.replace(kept.path)
            entry.replace(_entry_path(kept.name))
        except WeightsError as error:
            raise WeightsError(source, str(error).removeprefix(f"{error.path}: ")) from error
        finally:
            for rest in (tensors, entry):
                with suppress(OSError):
                    rest.unlink()
    for old in _files_of(kept.name):
        if old != kept.path:
            old.unlink(missing_ok=True)
    return kept


@contextmanager
def _adding(lock: Path) -> Iterator[None]:
    """What grows beside `lock` is somebody's; without a lock where there are none on this disk."""
    from filelock import FileLock

    held = FileLock(lock)
    with suppress(OSError, NotImplementedError):
        held.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        held.release()


def _clear_away() -> None:
    """What processes that were killed have left: their locks are nobody's any more."""
    from filelock import FileLock, Timeout

    for lock in cache_folder().glob("*.adding"):
        with suppress(OSError, NotImplementedError, Timeout), FileLock(lock, timeout=0):
            for path in (lock.with_suffix(".tensors"), lock.with_suffix(".entry"), lock):
                path.unlink(missing_ok=True)


def _is_safetensors(path: Path) -> bool:
    """By content: a length of eight bytes, then JSON. A download has no ending, and an ending may be wrong."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _write_tensors(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write `state` as safetensors, in the precision it has."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Tensors that share memory, or are views into a larger one, are refused by safetensors: each gets memory of its own.
    own = {key: value.clone().contiguous() for key, value in state.items()}
    try:
        save_file(own, str(path), metadata)
    except SafetensorError as error:  # a full disk, too
        raise WeightsError(cache_folder(), f"cannot be written ({' '.join(str(error).split())})") from error
    path.chmod(0o644)  # safetensors writes files that only their owner may read


def _parameters(path: Path) -> int:
    """Numbers in all tensors of a safetensors file; raises `WeightsError` where it holds none or cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(path, f"not a readable safetensors file ({' '.join(str(error).split())})") from error
    count: int = sum(math.prod(shape) for shape in shapes)
    if not count:
        raise WeightsError(path, "holds no weights")
    return count


# -- the downloader ------------------------------------------------------------------------------------------------


def _added_from_address(name: str, url: str, digest: str, licence: str, advice: str, progress: DownloadProgress | None) -> Added:
    if not url.lower().startswith(("https://", "http://")):
        raise WeightsError(_shown(url), "only http:// and https:// addresses are fetched")
    with _alone(digest):
        known = added().get(name)
        if known is not None and known.source_sha256 == digest and known.state == "ok":
            if licence in (UNKNOWN, known.licence):
                return known
            with _written():
                return _keep(known.path, name, digest, licence, _shown(url))
        part = cache_folder() / f"{digest}.part"
        _download(url, digest, part, advice, progress)
        with _written():  # on a full disk the part stays: it is the whole file, and need not come again
            try:
                kept = _keep(part, name, digest, licence, _shown(url))
            except WeightsError:
                part.unlink()
                raise
            part.unlink()
        return kept


@contextmanager
def _alone(digest: str) -> Iterator[None]:
    """One process at a time fetches a file; the others wait, and find it there."""
    from filelock import FileLock, Timeout

    path = cache_folder() / f"{digest}.lock"
    lock = FileLock(path)
    with _written():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("another process fetches this file: waiting for it (%s)", path)
            lock.acquire()
    try:
        yield
    finally:
        # While it is held: who waits sees that its name is gone, and takes a new one.
        with suppress(OSError):
            path.unlink()
        lock.release()


def _forget_part(digest: str) -> None:
    """What has come of a file that is there now from elsewhere; of one that another process fetches, it stays."""
    from filelock import FileLock, Timeout

    part, lock = cache_folder() / f"{digest}.part", cache_folder() / f"{digest}.lock"
    if part.exists():
        with suppress(Timeout), FileLock(lock, timeout=0):
            part.unlink(missing_ok=True)
            with suppress(OSError):
                lock.unlink()


def _download(url: str, digest: str, part: Path, advice: str, progress: DownloadProgress | None) -> None:
    """Leave the whole file in `part`, going on with what is there.

    Raises:
        WeightsError: the address does not answer or the transfer breaks off (`part` stays and can be gone on with), or
            what came is another file (`part` is deleted).
    """
    resumed = part.exists()
    if resumed and sha256(part) == digest:
        return
    try:
        _transfer(url, part, progress)
        if resumed and sha256(part) != digest:
            log.info("what was kept of %s does not fit what came now: starting over", _shown(url))
            part.unlink()
            _transfer(url, part, progress)
        found = sha256(part)
    except (OSError, http.client.HTTPException, ValueError) as error:
        kept = part.stat().st_size if part.exists() else 0
        if not kept:
            part.unlink(missing_ok=True)
        goes_on = f"{kept:,} bytes are kept and the next try goes on from there; " if kept else ""
        raise WeightsError(_shown(url), f"cannot be fetched ({_reason(error)}); {goes_on}{advice}") from error
    if found != digest:
        part.unlink()
        raise WeightsError(_shown(url), f"the download is not the file that is expected: its SHA-256 is {found}, not {digest}")


def _transfer(url: str, part: Path, progress: DownloadProgress | None) -> None:
    """Append to `part` what it lacks; from the start where the server does not give ranges.

    Raises:
        OSError, HTTPException, ValueError: the server does not answer, or the transfer breaks off.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"videoclr/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    log.info("fetching %s%s", _shown(url), f" from byte {have:,}" if have else "")
    try:
        answer = urllib.request.urlopen(_request(url, headers), timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        part.unlink()  # as long as the file or longer, and yet not the file
        return _transfer(url, part, progress)
    with answer, part.open("ab") as out:
        start, total = _extent(answer)
        if start not in (0, have):
            raise ConnectionError(f"asked for bytes from {have}, the server sends those from {start}")
        out.seek(start)
        out.truncate()
        while block := answer.read(1 << 20):
            out.write(block)
            if progress is not None:
                progress(out.tell(), total)
        if total is not None and out.tell() < total:
            raise ConnectionError(f"broke off after {out.tell():,} of {total:,} bytes")


def _request(url: str, headers: dict[str, str]) -> urllib.request.Request:
    """For `url`; the user and the password in it go to its own host alone, and not where that redirects to."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return urllib.request.Request(url, headers=headers)
    request = urllib.request.Request(parts._replace(netloc=host).geturl(), headers=headers)
    name, _, password = user.partition(":")
    secret = base64.b64encode(unquote_to_bytes(name) + b":" + unquote_to_bytes(password)).decode("ascii")
    request.add_unredirected_header("Authorization", f"Basic {secret}")
    return request


def _extent(answer: http.client.HTTPResponse) -> tuple[int, int | None]:
    """First byte that `answer` brings, and the bytes of the whole file, None where it does not say."""
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        told = re.match(r"bytes (\d+)-\d+/(?:(\d+)|\*)", answer.headers.get("Content-Range", ""))
        if told is None:
            raise ConnectionError("the server sends a range and does not say which")
        return int(told[1]), int(told[2]) if told[2] else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    told = getattr(error, "reason", None) or (error.strerror if isinstance(error, OSError) else None) or error
    return " ".join(str(told).split()) or type(error).__name__


def _shown(url: str) -> str:
    """An address without user, password and query, which may be secrets; it goes into messages and onto the disk."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://..."
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

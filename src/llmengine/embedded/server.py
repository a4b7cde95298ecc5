"""llama.cpp's own HTTP server in a child process, on a loopback port.

The default options suit a small machine that runs other programs too. A server counts as started
when it has answered one token, not when it reports that it is ready.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import importlib.util
import json
import os
import socket
import threading
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from llmengine.embedded.models import check_gguf
from llmengine.embedded.process import ChildProcess
from llmengine.transport.mocks import add_started, remove_started
from llmengine.types.errors import ConfigError
from llmengine.types.request import one_token_chat

__all__ = ["EmbeddedServer", "ServerOptions", "shared", "start"]
_LOOPBACK = "127.0.0.1"
_FEW_CORES = 4
_MAX_THREADS = 4
_DAY = 86400
# Allowed ranges. Outside of them, llama.cpp hangs (without a slot), or its error does not name the
# option.
_RANGES = {
    "n_ctx": (1, 2**24),
    "n_parallel": (1, 256),
    "n_threads": (1, 512),
    "n_gpu_layers": (0, 2**16),
    "port": (0, 65535),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Options of the server; a wrong value raises ConfigError, which names the option.

    The ``n_ctx`` tokens of context are divided among ``n_parallel`` slots, each of which serves one
    request at a time. ``n_threads`` None means `default_threads`. ``port`` 0 means any free port.
    ``embeddings`` adds the route ``/v1/embeddings`` (mean pooling). ``chat_template`` is the path
    of a Jinja file; "" means the template in the model's file. ``startup_timeout`` is in
    seconds.
    """

    n_ctx: int = 8192
    n_parallel: int = 2
    n_threads: int | None = None
    n_gpu_layers: int = 0
    embeddings: bool = False
    chat_template: str | Path = ""
    port: int = 0
    startup_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            is_default = name == "n_threads" and value is None
            if not is_default and (type(value) is not int or not low <= value <= high):
                raise _invalid(name, value, f"a whole number from {low} to {high}")
        if type(self.embeddings) is not bool:
            raise _invalid("embeddings", self.embeddings, "true or false")
        if not isinstance(self.chat_template, str | Path):
            raise _invalid("chat_template", self.chat_template, "the path of a Jinja template")
        timeout = self.startup_timeout
        if type(timeout) not in {int, float} or not 0 < timeout <= _DAY:
            raise _invalid("startup_timeout", timeout, "seconds, more than 0 and at most a day")


def _invalid(name: str, value: object, rule: str) -> ConfigError:
    return ConfigError(f"embedded option {name!r} is {value!r}; it must be {rule}")


DEFAULT_OPTIONS = ServerOptions()


def default_threads(cores: int | None = None) -> int:
    """One thread on up to four cores, then one per four cores, and never more than four.

    llama.cpp's threads spin while they wait for one another. With one thread on every core, any
    other program that runs makes generation many times slower. If ``cores`` is None, the usable
    cores are counted.
    """
    count = cores or _usable_cores()
    return 1 if count <= _FEW_CORES else min(count // 4, _MAX_THREADS)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_MAX_ANSWER_BYTES = 2**20


class _NotServingError(Exception):
    """The child reported an error, or its first answer was not a token."""


def wait_until_ready(child: ChildProcess, model: str, timeout: float) -> str:
    """The address of the child's server, once it has answered one token.

    If that does not happen within `timeout` seconds, the child is ended and ConfigError is raised,
    with the end of the child's log.
    """
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        child.kill()

    timer = threading.Timer(timeout, expire)
    timer.start()
    try:
        url = _url(child)
        _request_one_token(url, model)
    except (OSError, http.client.HTTPException, _NotServingError) as error:
        child.kill()
        reason = f"no token within {timeout:g} s" if expired.is_set() else str(error)
        lines = [f"the embedded engine did not start: {reason}", *child.log_tail()]
        raise ConfigError("\n  ".join(lines)) from error
    finally:
        timer.cancel()
        timer.join()
    return url


def _url(child: ChildProcess) -> str:
    report = child.report()
    if "url" not in report:
        raise _NotServingError(report["error"])
    return report["url"]


def _request_one_token(url: str, model: str) -> None:
    # No time limit here: when the timer ends the child, the connection breaks.
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    try:
        body = json.dumps(one_token_chat(model))
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        answer = response.read(_MAX_ANSWER_BYTES).decode(errors="replace")
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise _NotServingError(f"it answered {response.status} instead of a token: {answer}")


class EmbeddedServer:
    """A running server; it ends with `stop`, with a ``with`` block, or with this process.

    ``root_url`` is its address and ``base_url`` the address for OpenAI's clients. ``model`` is
    the model's name in the API. ``version`` is a text such as "xllamacpp 2026.10.11549". ``pid`` is
    the id of the server's process.
    """

    def __init__(self, child: ChildProcess, *, root_url: str, model: str, version: str) -> None:
        self._child = child
        self.root_url = root_url
        self.base_url = f"{root_url}/v1"
        self.model = model
        self.version = version
        self.pid = child.pid
        add_started(root_url)

    @property
    def alive(self) -> bool:
        """Whether the server's process runs and was started by this process."""
        return self._child.alive

    def stop(self) -> None:
        """End the server at once; harmless if it has ended already, and in a forked process."""
        remove_started(self.root_url)
        self._child.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def start(
    model_path: str | Path, *, alias: str | None = None, options: ServerOptions = DEFAULT_OPTIONS
) -> EmbeddedServer:
    """Start a new server for a GGUF file and wait until it has answered its first token.

    ``alias`` is the model's name in the API; by default it is the file's name. Raises ConfigError
    if the extra or the file is missing, the port is taken, or the server does not start in time.
    """
    version = _installed_version()
    path = Path(model_path).expanduser().absolute()
    check_gguf(path)
    _check_port(options.port)
    model = alias or path.stem
    settings = asdict(options) | {"model": str(path), "alias": model}
    settings["chat_template"] = _read_template(options.chat_template)
    settings["n_threads"] = options.n_threads or default_threads()
    child = ChildProcess(settings)
    try:
        url = wait_until_ready(child, model, options.startup_timeout)
    except BaseException:
        child.stop()
        raise
    return EmbeddedServer(child, root_url=url, model=model, version=version)


def shared(
    model_path: str | Path, *, alias: str | None = None, options: ServerOptions = DEFAULT_OPTIONS
) -> EmbeddedServer:
    """The one server of this process for these arguments, started by the first call.

    Safe to call from several threads. A server that has died is replaced, and a forked process
    starts its own. Raises as `start` does.
    """
    key = (Path(model_path).expanduser().absolute(), alias, options)
    with _lock:
        server = _shared.get(key)
        if server is None or not server.alive:
            server = _shared[key] = start(model_path, alias=alias, options=options)
        return server


_lock = threading.Lock()
_shared: dict[tuple[Path, str | None, ServerOptions], EmbeddedServer] = {}


def _replace_lock() -> None:
    """Replace the lock in a forked process, because a thread of the parent may have held it."""
    global _lock  # noqa: PLW0603 - a lock cannot be reset
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_lock)


def _installed_version() -> str:
    if importlib.util.find_spec("xllamacpp") is None:
        msg = "the embedded engine needs the extra: pip install 'pytest-llmengine[embedded]'"
        raise ConfigError(msg)
    return f"xllamacpp {importlib.metadata.version('xllamacpp')}"


def _read_template(path: str | Path) -> str:
    """The text of the template; "" for no path."""
    if not path:
        return ""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"the chat template {path} cannot be read ({reason}); set `chat_template` to a file"
        raise ConfigError(msg) from error


def _check_port(port: int) -> None:
    if port == 0:
        return
    try:
        socket.create_server((_LOOPBACK, port)).close()
    except OSError as error:
        msg = (
            f"the embedded engine cannot listen: {error.strerror}; "
            "stop the program that uses the port, or leave `port` at 0 for a free one"
        )
        raise ConfigError(msg) from error

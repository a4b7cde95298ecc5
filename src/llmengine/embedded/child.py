"""The program of the child process: llama.cpp's HTTP server, until standard input ends.

The parent runs this file by its path. The file imports nothing from llmengine, so the process
starts fast and needs only xllamacpp. It reads one JSON line of settings and writes one JSON line,
``{"url": ...}`` or ``{"error": ...}``. Then it waits until its standard input, a pipe from the
parent, ends. The operating system closes the pipe when the parent ends, however that happens, so
the child never outlives the parent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

LOG_LIMIT = 1 << 20
_TRIM_SECONDS = 5.0
_GRACE = 10.0  # seconds, so that the parent's own time limit ends first
_STDOUT, _STDERR = 1, 2
_WARNINGS_AND_ERRORS = 2


def main() -> None:
    """Start the server, report its address, and wait for the end of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    report = _take_over_stdout()
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_exit_with_stdin, daemon=True).start()
    _exit_after(settings["startup_timeout"] + _GRACE)
    try:
        server = _serve(settings)
    except Exception as error:  # noqa: BLE001 - the parent reports any error
        _write_report(report, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    _exit_after(0)
    _write_report(report, {"url": server.listening_address})
    while True:
        time.sleep(_TRIM_SECONDS)
        trim(_STDERR)


def trim(log: int, limit: int = LOG_LIMIT) -> None:
    """Empty the log file with that file descriptor if it has more than `limit` bytes."""
    if os.fstat(log).st_size > limit:
        os.ftruncate(log, 0)
        os.lseek(log, 0, os.SEEK_SET)


def _take_over_stdout() -> int:
    """Return the pipe to the parent; from now on, the output of native code goes to the log."""
    report = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    return report


def _write_report(report: int, message: dict[str, str]) -> None:
    os.write(report, json.dumps(message).encode() + b"\n")
    os.close(report)


def _exit_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def _exit_after(seconds: float) -> None:
    """End this process after `seconds` (0: never), even while native code blocks Python.

    Loading a model holds the GIL, so the thread that watches standard input cannot run then.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp  # noqa: PLC0415 - a failed import is reported

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.model_alias = {settings["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = settings["port"]
    params.n_ctx = settings["n_ctx"]
    params.n_parallel = settings["n_parallel"]
    params.n_gpu_layers = settings["n_gpu_layers"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["n_threads"]
    params.use_jinja = True
    params.chat_template = settings["chat_template"]  # "" for that of the model's file
    params.ui = False
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of old prompts
    params.fit_params = False  # else it loads twice and may shrink the context
    params.verbosity = _WARNINGS_AND_ERRORS
    if settings["embeddings"]:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()

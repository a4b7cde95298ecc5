"""The program of the child process: llama.cpp's HTTP server, until standard input ends.

It is run by its path and imports nothing of llmengine, so it starts fast and wherever xllamacpp
is installed. It reads one JSON line of settings, and writes one: ``{"url": ...}`` or
``{"error": ...}``. Its process ends with the pipe, so it never outlives the parent, however
that one ends: the operating system closes the pipe for it.
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
_TRIM_EVERY = 5.0
_GRACE = 10.0  # the parent's own time limit comes first
_STDOUT, _STDERR = 1, 2
_WARNINGS_AND_ERRORS = 2


def main() -> None:
    """Serve, report, and wait for the end of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops us
    report = _take_over_stdout()
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    _give_up_after(settings["startup_timeout"] + _GRACE)
    try:
        server = _serve(settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        _say(report, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    _give_up_after(0)
    _say(report, {"url": server.listening_address})
    while True:
        time.sleep(_TRIM_EVERY)
        trim(_STDERR)


def trim(log: int, limit: int = LOG_LIMIT) -> None:
    """Empty the log file with that descriptor if it has more than `limit` bytes."""
    if os.fstat(log).st_size > limit:
        os.ftruncate(log, 0)
        os.lseek(log, 0, os.SEEK_SET)


def _take_over_stdout() -> int:
    """The pipe to the parent; what native code prints goes to the log from now on."""
    report = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    return report


def _say(report: int, message: dict[str, str]) -> None:
    os.write(report, json.dumps(message).encode() + b"\n")
    os.close(report)


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def _give_up_after(seconds: float) -> None:
    """End this process in `seconds`, 0 for never, even while native code keeps Python waiting.

    Loading holds Python's lock, so the thread that watches standard input stands still then.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp  # noqa: PLC0415 - a failure to load is reported

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
    params.ui = False
    params.cache_ram_mib = 0  # its default keeps up to 8 GiB of old prompts
    params.fit_params = False  # it would load twice, and may shrink the context unasked
    params.verbosity = _WARNINGS_AND_ERRORS
    if settings["embeddings"]:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()

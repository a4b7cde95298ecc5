"""How the embedded server is run, with defaults for a small machine that does other work too."""

from __future__ import annotations

import os
from dataclasses import dataclass

from llmengine.types.errors import ConfigError

_SMALL_MACHINE = 4
_MOST_THREADS = 4
_DAY = 86400
# Outside of these llama.cpp hangs (no slot), or fails in words that do not name the option.
_WHOLE_NUMBERS = {
    "n_ctx": (1, 2**24),
    "n_parallel": (1, 256),
    "n_threads": (1, 512),
    "n_gpu_layers": (0, 2**16),
    "port": (0, 65535),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How to run the server; a wrong value raises ConfigError that names the option.

    ``n_ctx`` tokens of context are divided over ``n_parallel`` slots, one for each request at a
    time. ``n_threads`` None is `default_threads`. ``port`` 0 is a free one. ``embeddings`` opens
    ``/v1/embeddings`` (mean pooling). ``startup_timeout`` is in seconds.
    """

    n_ctx: int = 8192
    n_parallel: int = 2
    n_threads: int | None = None
    n_gpu_layers: int = 0
    embeddings: bool = False
    port: int = 0
    startup_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name, (low, high) in _WHOLE_NUMBERS.items():
            value = getattr(self, name)
            left_open = name == "n_threads" and value is None
            if not left_open and (type(value) is not int or not low <= value <= high):
                raise _wrong(name, value, f"a whole number from {low} to {high}")
        if type(self.embeddings) is not bool:
            raise _wrong("embeddings", self.embeddings, "true or false")
        timeout = self.startup_timeout
        if type(timeout) not in {int, float} or not 0 < timeout <= _DAY:
            raise _wrong("startup_timeout", timeout, "seconds, more than 0 and at most a day")


def _wrong(name: str, value: object, rule: str) -> ConfigError:
    return ConfigError(f"embedded option {name!r} is {value!r}; it must be {rule}")


DEFAULT_OPTIONS = ServerOptions()


def default_threads(cores: int | None = None) -> int:
    """One thread on up to four cores, then a quarter of the cores, and never more than four.

    llama.cpp's threads spin while they wait for one another: with one on every core, anything
    else that runs makes generation many times slower. ``cores`` None counts the usable ones.
    """
    count = cores or _usable_cores()
    return 1 if count <= _SMALL_MACHINE else min(count // 4, _MOST_THREADS)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

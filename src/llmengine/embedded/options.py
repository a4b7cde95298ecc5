"""How the embedded server is run, with defaults for a small machine that does other work too."""

from __future__ import annotations

import os
from dataclasses import dataclass

from llmengine.values.errors import ConfigError

_SMALL_MACHINE = 4
_MOST_THREADS = 4
# Outside of these llama.cpp hangs (no slot), or fails in words that do not name the option.
_RANGES: dict[str, tuple[float, float]] = {
    "n_ctx": (1, 2**24),
    "n_parallel": (1, 256),
    "n_threads": (1, 512),
    "n_gpu_layers": (0, 2**16),
    "port": (0, 65535),
    "startup_timeout": (0, 86400),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How to run the server; a value out of range raises ConfigError.

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
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                msg = f"embedded option {name!r} is {value!r}; it must be from {low} to {high}"
                raise ConfigError(msg)


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

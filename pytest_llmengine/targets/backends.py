"""What the harness knows of a backend beyond what its engine class says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backend:
    """Facts about one backend.

    ``server`` is what people call the server. ``own_server`` says that the engine starts its
    server itself, ``instant`` that this costs nothing, so that it is never replayed unasked.
    ``model`` is what such a server serves. ``model_variable`` is an environment variable that
    users set anyway, and ``get_model`` the command that fetches one. ``one_address`` says that
    there is one server for all, so that a key is all that it takes to ask it.
    """

    name: str
    server: str
    own_server: bool = False
    instant: bool = False
    model: str = ""
    model_variable: str = ""
    get_model: str = ""
    one_address: bool = False


_BACKENDS = (
    Backend("mock", "mock", own_server=True, instant=True, model="mock"),
    Backend("embedded", "llama.cpp", own_server=True, model="smollm2-135m"),
    Backend("ollama_api", "Ollama", model_variable="OLLAMA_MODEL", get_model="ollama pull"),
    Backend("vllm_api", "vLLM", model_variable="VLLM_MODEL"),
    Backend("vllm_local", "vLLM", model_variable="LLMENGINE_VLLM_MODEL"),
    Backend("openai", "OpenAI", model_variable="OPENAI_MODEL", one_address=True),
)

_BY_NAME = {b.name: b for b in _BACKENDS}


def facts(backend: str) -> Backend:
    """What is known of a backend; any other is known by its name alone."""
    return _BY_NAME.get(backend, Backend(backend, backend))

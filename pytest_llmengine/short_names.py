"""The short names of the backends, which markers, fixtures and ``--engine`` use."""

from __future__ import annotations

MARKER_OF_BACKEND = {
    "mock": "mock",
    "embedded": "embedded",
    "ollama_api": "ollama",
    "vllm_api": "vllm",
    "openai": "openai",
    "openai_compatible": "openai_compatible",
    "anthropic_compatible": "anthropic_compatible",
    "vllm_local": "vllm_local",
}
BACKEND_OF_MARKER = {marker: backend for backend, marker in MARKER_OF_BACKEND.items()}

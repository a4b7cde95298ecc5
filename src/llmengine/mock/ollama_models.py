"""Ollama's own API: which models there are, and what they are like."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from llmengine.mock.ollama import timestamp
from llmengine.mock.replies import Plain, Whole

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.replies import Answer
    from llmengine.mock.service import Service

# Newer than every feature that clients ask the version for.
VERSION = "0.99.0-mock"
SIZE = 1_000_000  # bytes
_CAPABILITIES = ["completion", "tools", "thinking", "vision"]
_DETAILS: JSON = {
    "parent_model": "",
    "format": "gguf",
    "family": "mock",
    "families": ["mock"],
    "parameter_size": "1M",
    "quantization_level": "Q4_0",
}


def root(body: JSON, service: Service) -> Answer:
    """What Ollama says at its root; clients ask it whether the server is up."""
    return Plain("Ollama is running")


def version(body: JSON, service: Service) -> Answer:
    """The version."""
    return Whole({"version": VERSION})


def tags(body: JSON, service: Service) -> Answer:
    """List the model, and those that were pulled, as stored."""
    details = {**_DETAILS, "context_length": service.context_length, "embedding_length": 384}
    stored = {"modified_at": timestamp(), "details": details, "capabilities": _CAPABILITIES}
    return Whole({"models": [_entry(tag) | stored for tag in service.tags]})


def running(body: JSON, service: Service) -> Answer:
    """List the model as loaded."""
    loaded = {
        **_entry(service.tag),
        "details": _DETAILS,
        "expires_at": timestamp(),
        "size_vram": 0,
        "context_length": service.context_length,
    }
    return Whole({"models": [loaded]})


def show(body: JSON, service: Service) -> Answer:
    """Describe the model."""
    return Whole(
        {
            "modelfile": f"FROM {service.tag}\n",
            "parameters": f"num_ctx {service.context_length}",
            "template": "{{ .Prompt }}",
            "details": _DETAILS,
            "model_info": {
                "general.architecture": "mock",
                "mock.context_length": service.context_length,
                "mock.embedding_length": 384,
            },
            "capabilities": _CAPABILITIES,
            "modified_at": timestamp(),
        }
    )


def _entry(tag: str) -> JSON:
    return {"name": tag, "model": tag, "size": SIZE, "digest": digest_of(tag)}


def digest_of(tag: str) -> str:
    """The hash that stands for the weights of a model of that name."""
    return hashlib.sha256(tag.encode()).hexdigest()

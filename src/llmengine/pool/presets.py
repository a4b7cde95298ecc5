"""Configurations of servers that need more than an address."""

from __future__ import annotations

from typing import Any

from llmengine.config.engine import EngineConfig

NEMOTRON = "nvidia/nemotron-3-8b-instruct"
COLD_START = 300.0


def nemotron_koyeb(
    endpoint: str, model: str = NEMOTRON, *, cold_start: float = COLD_START, **fields: Any
) -> EngineConfig:
    """Nemotron, or another model, on a vLLM server that Koyeb puts to sleep when nobody asks.

    While the instance wakes, its address answers 502, 503 or 504, or nothing. The engine then
    waits until the server lists its models, for at most ``cold_start`` seconds. ``fields`` are
    further fields of EngineConfig.
    """
    given = {"model": model, "endpoint": endpoint, "cold_start": cold_start}
    return EngineConfig(**({"name": "nemotron", "backend": "vllm_api"} | fields | given))

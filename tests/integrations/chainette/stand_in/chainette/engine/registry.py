"""Engines by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class EngineConfig:
    """One engine, with the fields of Chainette's."""

    name: str
    model: str
    dtype: str | None = None
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    tensor_parallel_size: int | None = None
    enable_reasoning: bool = False
    reasoning_parser: str | None = None
    backend: str = "vllm_api"
    lazy: bool = True
    port: int | None = None
    extra_serve_flags: list[str] = field(default_factory=list)
    extra_env: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    _engine: Any = field(init=False, default=None, repr=False)
    process: Any = field(default=None, repr=False, compare=False)
    endpoint: str | None = None
    api_key: str | None = None
    startup_timeout: int = 120
    gpu_ids: Any = None

    @property
    def engine(self) -> Any:
        """The client; Chainette makes one of its own here, which these tests do not use."""
        if self._engine is None:
            raise NotImplementedError
        return self._engine

    def release_engine(self) -> None:
        """Forget the engine."""
        self._engine = None

    def to_dict(self) -> dict[str, Any]:
        """All of it but the engine."""
        return {name: value for name, value in vars(self).items() if name != "_engine"}


_REGISTRY: dict[str, EngineConfig] = {}


def register_engine(name: str, **fields: Any) -> EngineConfig:
    """Put an engine of Chainette's own into the registry."""
    _REGISTRY[name] = EngineConfig(name=name, **fields)
    return _REGISTRY[name]


def get_engine_config(name: str) -> EngineConfig:
    """The engine of that name."""
    return _REGISTRY[name]


def load_engines_from_yaml(path: str) -> None:
    """Replaced by ours in these tests."""
    raise NotImplementedError

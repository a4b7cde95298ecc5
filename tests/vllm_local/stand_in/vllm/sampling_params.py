"""Looks like ``vllm.sampling_params``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class RequestOutputKind(Enum):
    """The output of a step."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class StructuredOutputsParams:
    """The constraint of an answer."""

    json: Any = None
    regex: str | None = None
    choice: list[str] | None = None
    json_object: bool | None = None


@dataclass
class SamplingParams:
    """Some of the fields, with vLLM's defaults."""

    temperature: float = 1.0
    max_tokens: int | None = 16
    n: int = 1
    seed: int | None = None
    stop: Any = None
    stop_token_ids: Any = None
    logit_bias: Any = None
    allowed_token_ids: Any = None
    structured_outputs: Any = None
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE

    @classmethod
    def from_optional(cls, **fields: Any) -> SamplingParams:
        """Make parameters from fields."""
        if (temperature := fields.get("temperature")) is not None and temperature > 2:
            raise ValueError(f"temperature must not be {temperature}")
        return cls(**fields)

"""What a server can do beyond plain chat."""

from __future__ import annotations

from enum import StrEnum


class Capability(StrEnum):
    """A feature that a server may lack and still be a good server."""

    STREAMING = "streaming"
    TOOLS = "tools"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    LOGPROBS = "logprobs"
    N = "n"
    SEED = "seed"
    LOGIT_BIAS = "logit_bias"
    REASONING = "reasoning"
    VISION = "vision"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    AUTH = "auth"

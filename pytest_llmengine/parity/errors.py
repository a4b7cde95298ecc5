"""What stops a comparison before there is a verdict."""

from __future__ import annotations

from llmengine.types.errors import LLMEngineError


class ParityError(LLMEngineError):
    """The two sides cannot be compared; the message says why and what to do, in one line."""

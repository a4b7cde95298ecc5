"""What keeps a container from serving."""

from __future__ import annotations

from llmengine.types.errors import LLMEngineError


class ContainerError(LLMEngineError):
    """There is no container to talk to; the message says why and what to do.

    Where a container had started, the last lines that it wrote follow on lines of their own.
    """

"""What stops a run before any rule can be looked at."""

from __future__ import annotations

from llmengine.types.errors import LLMEngineError


class TargetError(LLMEngineError):
    """There is nothing to talk to; the message says what is wrong and what to do, in one line."""


class NotInstalled(TargetError):  # noqa: N818 - reads as what happened
    """The server that the engine starts is not installed; the message has the command."""


class AlreadyRecorded(TargetError):  # noqa: N818 - reads as what happened
    """There is a recording, and it was not said that it is to be replaced."""
